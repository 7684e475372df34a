"""The main job: recorded feeds through the real broker and consumer, to positions and alerts, in one go.

Four threads and no lock between them: the feed is read into frames, a publisher sends them, the broker numbers and
journals them, the consumer applies and judges them. What connects the last three are ZeroMQ sockets.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.config import LimitSet, check_currencies, load_instruments, load_limits, load_opening
from engine.deadletters import DeadLetterStore
from engine.early import RECORD_TEXT_BYTES, EarlyMemory
from engine.errors import RiskwireError, UsageError
from engine.events import InstrumentDefined, PositionAdjusted
from engine.feedsource import FrameSource, open_source
from engine.firstevents import InForce, first_events
from engine.journal import open_journal
from engine.outputs import OutputFile, alerts_file, positions_file, write_alerts, write_positions
from engine.pipeline import Pipeline, default_dead_letters
from engine.publisher import Publisher
from ext.consumer import preset_limits
from ext.journal import Journal
from ext.records import MAX_FRAME_RECORDS, Frame
from ext.risk import RiskCore

FRAME_RECORDS: Final = 4096
FRAMES_AHEAD: Final = 8  # read and not yet published
RECORDS_AHEAD: Final = 65_536  # between two threads: what waits in frames is memory touched, and that is slow
PROGRESS_EVERY_S: Final = 0.1
WAIT_S: Final = 30.0
BATCH_WHEN_LATE: Final = 64  # records in a frame while a paced replay is behind its time
LATE_NS: Final = 10_000_000
SOURCE: Final = "replay"

Progress = Callable[[int, int, int, float | None], None]


class ReplayOptions(msgspec.Struct, frozen=True):
    """What to replay, and what to write.

    feeds: files, or one journal directory. format, map, side, account: as `feeds.open_feed` takes them; reading: what
    else it takes, by name.
    limits, instruments, opening: files. speed: None for as fast as possible, else times the recorded speed.
    journal: a directory that is continued; None: memory. positions, alerts, dead_letters: files to write.
    frame_records: records in one frame, 1 to 8192. verify: compare with the reference afterwards.
    transport: `inproc`, or `ipc` to send the frames through the operating system.
    keep_trades: whether the summary's core can go on; else it can only be asked, as for the command line: the memory of
    the trades is given back while files are written. early: what `early_memory` made, for one replay without `journal`.
    progress: called at most ten times a second with (bytes done, bytes in all or 0, events judged, seconds that the
    feed is behind its recorded times; None without a speed).
    """

    feeds: Sequence[str | Path]
    format: str | None = None
    map: str | None = None
    limits: str | Path | None = None
    instruments: str | Path | None = None
    opening: str | Path | None = None
    speed: float | None = None
    side: str | None = None
    account: str | None = None
    reading: Mapping[str, Any] = msgspec.field(default_factory=dict)
    journal: str | Path | None = None
    positions: str | Path | None = None
    alerts: str | Path | None = None
    dead_letters: str | Path | None = None
    frame_records: int = FRAME_RECORDS
    verify: bool = False
    transport: str = "inproc"
    keep_trades: bool = True
    early: EarlyMemory | None = None
    progress: Progress | None = None


class Summary(msgspec.Struct, frozen=True):
    """What a replay did. The first ten fields are the keys of `replay --json` (DESIGN section 9).

    interrupted: Ctrl-C ended it before the feed's end. reasons: dead letters of this run by reason.
    core: the state at the end, to ask for more.
    """

    trades_read: int
    accepted: int
    duplicates: int
    dead_letters: int
    alerts: int
    first_seq: int | None
    last_seq: int | None
    elapsed_s: float
    trades_per_s: float
    dead_letters_path: str
    interrupted: bool
    reasons: dict[str, int]
    core: RiskCore
    first_alert_no: int

    @property
    def positions(self) -> list[dict[str, Any]]:
        """Position rows as in the positions file."""
        rows: list[dict[str, Any]] = self.core.positions()
        return rows

    @property
    def alert_frames(self) -> list[bytes]:
        """The alerts of this run, as frames for `engine.alertframes.decode_alerts`."""
        frames = []
        first_no = self.first_alert_no
        while first_no <= len(self.core.alerts):
            frames.append(self.core.alerts.frame(first_no))
            first_no += len(Frame(frames[-1], False))
        return frames

    def to_json(self) -> dict[str, Any]:
        """Return exactly what `replay --json` prints."""
        return {key: getattr(self, key) for key in JSON_KEYS}


JSON_KEYS: Final = (
    "trades_read",
    "accepted",
    "duplicates",
    "dead_letters",
    "alerts",
    "first_seq",
    "last_seq",
    "elapsed_s",
    "trades_per_s",
    "dead_letters_path",
)


def run_replay(options: ReplayOptions) -> Summary:
    """Replay recorded feeds and write what was asked for.

    Raises UsageError (exit code 2) before anything runs for what cannot be used: a feed, a limits, instruments or
    opening file, an output's format or path, a journal that another engine holds; RiskwireError for what fails later;
    VerifyError where the reference differs. Ctrl-C (KeyboardInterrupt in the calling thread) stops reading: what was
    published is judged and written, and the summary says `interrupted`.
    """
    _check_options(options)
    with ExitStack() as stack:
        files = _open_outputs(options, stack)
        given = _load_files(options)
        source = open_source(
            options.feeds,
            format=options.format,
            map=options.map,
            side=options.side,
            account=options.account,
            limits=given.limits,
            **options.reading,
        )
        run = _Run(options, given, source, stack)
        summary = run.run()
        if not options.keep_trades and not options.verify:
            summary.core.end()  # whoever is handed it finds it so, however late the thread is
            threading.Thread(target=run.let_go, name="memory").start()
        if files.positions is not None:
            write_positions(files.positions, summary.core)
        if files.alerts is not None:
            write_alerts(files.alerts, summary.alert_frames)
        if options.verify:
            run.verify()
        return summary


class _Given(msgspec.Struct, frozen=True):
    """The files that say how to judge, read and checked."""

    limits: LimitSet | None
    instruments: list[InstrumentDefined]
    opening: list[PositionAdjusted]


class _Outputs(msgspec.Struct, frozen=True):
    positions: OutputFile | None
    alerts: OutputFile | None


def _check_options(options: ReplayOptions) -> None:
    if not 1 <= options.frame_records <= MAX_FRAME_RECORDS:
        raise UsageError(f"frame_records: expected 1 to {MAX_FRAME_RECORDS}, found {options.frame_records}")
    if options.speed is not None and not 0 < options.speed < float("inf"):
        raise UsageError(f"--speed: expected `max` or a number above 0, found {options.speed}")


def _open_outputs(options: ReplayOptions, stack: ExitStack) -> _Outputs:
    positions = alerts = None
    if options.positions is not None:
        positions = positions_file(options.positions)
        stack.callback(positions.discard)
    if options.alerts is not None:
        alerts = alerts_file(options.alerts)
        stack.callback(alerts.discard)
    return _Outputs(positions, alerts)


def _load_files(options: ReplayOptions) -> _Given:
    limits = load_limits(options.limits) if options.limits is not None else None
    instruments = load_instruments(options.instruments) if options.instruments is not None else []
    opening = load_opening(options.opening) if options.opening is not None else []
    if limits is not None:
        check_currencies(limits, instruments)
    return _Given(limits, instruments, opening)


def _open_journal(options: ReplayOptions, source: FrameSource) -> Journal:
    journal = options.early.journal if options.early else open_journal(options.journal)
    if options.verify and journal.first_seq > 1:
        removed = journal.first_seq - 1
        journal.close()
        raise UsageError(f"--verify needs the whole sequence; events up to seq {removed} were removed by retention")
    if source.keeps_seqs and journal.last_seq:
        journal.close()
        raise UsageError(
            f"{options.journal} holds a journal already; a journal as feed keeps its seqs and needs an empty one"
        )
    return journal


def _core_behind(journal: Journal) -> RiskCore:
    """Return what a journal goes on from: a snapshot where its beginning was removed, else an empty core."""
    if journal.first_seq <= 1:
        return RiskCore()
    from engine.snapshots import restore_core

    return restore_core(journal)


def _frames_ahead(options: ReplayOptions) -> int:
    return min(1000, max(8, RECORDS_AHEAD // options.frame_records))


def _leaves_process(options: ReplayOptions) -> bool:
    """Tell whether frames leave this process on their way to the broker, so that they need a CRC."""
    return options.transport != "inproc"


def _make_base(transport: str, stack: ExitStack) -> str:
    """Return a base that nobody else uses; an ipc folder goes when the replay ends."""
    if transport == "inproc":
        return f"inproc://replay-{uuid.uuid4().hex}"
    if transport != "ipc":
        raise UsageError(f"transport: expected inproc or ipc, found {transport!r}")
    return f"ipc://{stack.enter_context(tempfile.TemporaryDirectory(prefix='riskwire-'))}"


class _Run:
    """One replay: its parts, and what it counts."""

    def __init__(self, options: ReplayOptions, given: _Given, source: FrameSource, stack: ExitStack) -> None:
        self.options, self.given, self.source = options, given, source
        self.journal = _open_journal(options, source)
        stack.callback(self.journal.close)
        self.start_seq = self.journal.last_seq
        self.events = self._first_events()
        self.dead_letters = Path(options.dead_letters or default_dead_letters(options.journal))
        self.letters_before = _counts(self.dead_letters)
        core = _core_behind(self.journal)
        if source.preset_limits is not None:
            preset_limits(core, source.preset_limits.to_json())
        self.pipeline = Pipeline(
            _make_base(options.transport, stack),
            self.journal,
            dead_letters=self.dead_letters,
            announce=False,
            nodrop=True,
            frames_ahead=_frames_ahead(options),
            shortcut=False,
            check_crc=_leaves_process(options),
            seals=_leaves_process(options) or options.verify,
            dedup=options.early.dedup if options.early else None,
            expected_events=(source.bytes_total or 0) // RECORD_TEXT_BYTES,
            count_after=self.start_seq,
            core=core,
        )

    def _first_events(self) -> list[Any]:
        if self.source.keeps_seqs:
            if self.given.instruments or self.given.opening:
                raise UsageError("a journal as feed has its own instruments and opening positions; leave them out")
            return []
        return first_events(
            InForce.of(self.journal),
            instruments=self.given.instruments,
            limits=self.given.limits,
            opening=self.given.opening,
        )

    def run(self) -> Summary:
        """Run from the first event to the last judged one; Ctrl-C ends the reading."""
        first_seq = self.pipeline.start(self.events) + 1
        try:
            begun = time.perf_counter()
            feeding = _Feeding(self.options, self.source, self.pipeline)
            interrupted = feeding.wait(self._report)
            last_seq = self.journal.last_seq
            interrupted |= _wait_judged(self.pipeline, last_seq)
            elapsed_s = time.perf_counter() - begun
        finally:
            self.pipeline.stop()
        if self.journal.directory is not None:
            from engine.journalindex import write_missing

            with suppress(OSError):  # a help for readers only: they make one of their own
                write_missing(self.journal)
        return self._summary(feeding, interrupted, first_seq, last_seq, elapsed_s)

    def let_go(self) -> None:
        """Give back the memory of the sequence: that takes the kernel as long as writing the positions takes."""
        self.pipeline.consumer.core.let_go()
        if self.journal.directory is None:
            self.journal.free()

    def verify(self) -> None:
        """Compare the core with the exact, slow reference over the whole sequence. Raises VerifyError."""
        from engine.verify import verify_core

        progress, last_seq = self.options.progress, self.journal.last_seq

        def report(seq: int) -> None:
            if progress is not None:
                progress(seq, last_seq, seq, None)

        verify_core(self.journal, self.pipeline.consumer.core, self.source.preset_limits, report)

    def _report(self, lag_s: float | None) -> None:
        if self.options.progress is not None:
            judged = max(0, self.pipeline.consumer.core.applied_seq - self.start_seq)
            self.options.progress(self.source.bytes_read, self.source.bytes_total or 0, judged, lag_s)

    def _summary(
        self, feeding: _Feeding, interrupted: bool, first_seq: int, last_seq: int, elapsed_s: float
    ) -> Summary:
        core = self.pipeline.consumer.core
        in_sequence = {seq for seq in self.pipeline.consumer.refused_seqs if seq >= first_seq}
        stats = feeding.stats
        accepted = last_seq - first_seq + 1 - len(in_sequence)
        dead = stats.refused + len(in_sequence)
        assert stats.sent == accepted + stats.duplicates + dead, "every event is accepted, a duplicate or dead"
        first_no = core.alerts.first_at(self.start_seq + 1)
        return Summary(
            trades_read=stats.sent,
            accepted=accepted,
            duplicates=stats.duplicates,
            dead_letters=dead,
            alerts=len(core.alerts) - first_no + 1,
            first_seq=next((seq for seq in range(first_seq, last_seq + 1) if seq not in in_sequence), None),
            last_seq=next((seq for seq in range(last_seq, first_seq - 1, -1) if seq not in in_sequence), None),
            elapsed_s=elapsed_s,
            trades_per_s=stats.sent / elapsed_s,
            dead_letters_path=str(self.dead_letters),
            interrupted=interrupted,
            reasons=_difference(_counts(self.dead_letters), self.letters_before),
            core=core,
            first_alert_no=first_no,
        )


class _Feeding:
    """Two threads: one reads frames ahead, one publishes them and waits until all are acked."""

    def __init__(self, options: ReplayOptions, source: FrameSource, pipeline: Pipeline) -> None:
        self._options, self._source, self._pipeline = options, source, pipeline
        self._frames: queue.Queue[bytearray | BaseException | None] = queue.Queue(FRAMES_AHEAD)
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._failure: BaseException | None = None
        self._pace = _Pace(options.speed, self._stopping) if options.speed is not None else None
        self._publisher = Publisher(
            pipeline.base,
            SOURCE,
            context=pipeline.context,
            wait_s=WAIT_S,
            window=_frames_ahead(options),
            seal=_leaves_process(options),
        )
        self.stats = self._publisher.stats
        self._reader = threading.Thread(target=self._read, name="feed", daemon=True)
        self._sender = threading.Thread(target=self._publish, name="publisher", daemon=True)
        self._reader.start()
        self._sender.start()

    def wait(self, report: Callable[[float | None], None]) -> bool:
        """Wait for the end; return whether Ctrl-C ended it early. Raises what stopped a thread or the pipeline."""
        interrupted = False
        while not self._done.is_set():
            try:
                self._done.wait(PROGRESS_EVERY_S)
                report(self._pace.lag_s if self._pace else None)
                if self._pipeline.error:
                    raise RiskwireError(self._pipeline.error)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._stopping.set()
        self._sender.join()
        if self._failure is not None:
            raise self._failure
        return interrupted

    def _read(self) -> None:
        """Read frames until the end or the stop. A reader that waits for a pipe is left behind: it is a daemon."""
        last: BaseException | None = None
        try:
            pace = self._pace
            while not self._stopping.is_set():
                frame = self._source.next_frame(pace.records_max if pace else self._options.frame_records)
                if frame is None:
                    break
                if pace:
                    pace.wait_for(frame)
                self._frames.put(frame)
            self._source.close()
        except BaseException as problem:
            last = problem
        self._frames.put(last)

    def _publish(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    frame = self._frames.get(timeout=PROGRESS_EVERY_S)
                except queue.Empty:
                    self._publisher.poll()
                    continue
                if frame is None:
                    break
                if isinstance(frame, BaseException):
                    raise frame
                self._publisher.publish_frame(frame)
            self._publisher.flush()
        except BaseException as problem:
            self._failure = problem
        finally:
            self.stats = self._publisher.stats
            self._publisher.abandon()
            self._drain()
            self._done.set()

    def _drain(self) -> None:
        """Make room, so that a reader in the middle of handing over a frame sees the stop."""
        self._stopping.set()
        while True:
            try:
                self._frames.get_nowait()
            except queue.Empty:
                return


class _Pace:
    """When a frame is due: recorded times at `speed` times their pace, counted from the first."""

    def __init__(self, speed: float, stopping: threading.Event) -> None:
        self.records_max = 1
        self.lag_s = 0.0  # how late the last frame was
        self._speed = speed
        self._stopping = stopping
        self._begun: tuple[int, int] | None = None  # (monotonic ns, executed_at)

    def wait_for(self, frame: bytearray) -> None:
        """Wait until the last record of a frame is due. A record earlier than the one before it is due at once."""
        times = Frame(frame, False).records["executed_at"]
        latest = int(times.max()) if len(times) else 0
        if not latest:
            return
        now = time.monotonic_ns()
        if self._begun is None:
            self._begun = (now, latest)
        due = self._begun[0] + int((latest - self._begun[1]) / self._speed)
        self.lag_s = max(0, now - due) / 1e9
        # Late: read several at once, and let the first of them wait a little for the last.
        self.records_max = BATCH_WHEN_LATE if now - due > LATE_NS else 1
        if due > now:
            self._stopping.wait((due - now) / 1e9)


def _wait_judged(pipeline: Pipeline, seq: int) -> bool:
    """Wait until a seq is judged; return whether Ctrl-C came meanwhile (a second one is raised).

    Raises RiskwireError where the consumer cannot get there.
    """
    interrupted = False
    waiting = pipeline.consumer.applied(seq)
    while True:
        try:
            waiting.result(1.0)
            return interrupted
        except TimeoutError:
            if pipeline.error:
                raise RiskwireError(pipeline.error) from None
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True


def _counts(path: Path) -> dict[str, int]:
    """Refusals by reason in a dead-letter file; none where there is no file yet, or an empty one."""
    if not path.exists() or path.stat().st_size == 0:
        return {}
    with DeadLetterStore(path) as store:
        return store.counts_by_reason()


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}
