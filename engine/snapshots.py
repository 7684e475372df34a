"""Snapshots beside the journal: taken while the engine runs, so that a start reads one and the journal's rest.

The consumer stands still only while what changes is copied (milliseconds); writing, syncing and renaming happen in a
thread of their own. What was taken counts only with the journal's frame it goes on from, so that one of a history that
a power cut has undone is never used.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from engine.consumer import ConsumerStopped, RiskConsumer
from engine.errors import JournalError, RiskwireError
from engine.files import write_file
from engine.journalindex import write_missing
from ext.journal import Journal
from ext.risk import RiskCore
from ext.snapshot import HEADER_BYTES, Frozen, SnapshotError, load, state_bytes, trade_bytes

__all__ = ["Retention", "SnapshotInfo", "SnapshotStore", "Snapshotter", "restore_core"]

log = logging.getLogger("riskwire.snapshots")

KEPT: Final = 3
EVERY_S: Final = 60.0
SINK_WAIT_S: Final = 10.0  # for the sink to store what was refused up to a snapshot
CALL_WAIT_S: Final = 30.0
POLL_S: Final = 0.02
KEPT_FREE_BYTES: Final = 128 << 20  # two segments: a snapshot never takes the journal's last room
FULL_KEPT: Final = 2  # with trades: one may be damaged, and the journal's beginning is gone
_NAME = re.compile(r"snapshot-(\d{8})(-full)?\.rws")
_SEQ: Final = slice(24, 32)  # of a snapshot's header


class Retention(Protocol):
    """What removes the journal's beginning (`engine.retention.Retention`)."""

    def needs_snapshot(self) -> bool:
        """Tell whether a snapshot with its trades would let something be removed."""
        ...

    def remove(self) -> int:
        """Remove what may be removed; return how many segments that was."""
        ...


class SnapshotInfo(msgspec.Struct, frozen=True):
    """The last snapshot, written or started from. seq: applied by it; at: when, ns.

    stalled_ms: how long the consumer stood still for it, elapsed_ms: how long it took; 0: an earlier life took it.
    """

    path: str
    seq: int
    at: int
    bytes: int
    stalled_ms: float
    elapsed_ms: float


class SnapshotStore:
    """The snapshot files of one journal's folder, the last `kept` of them and the last two with trades."""

    def __init__(self, folder: str | Path, kept: int = KEPT) -> None:
        self.folder, self.kept = Path(folder), max(kept, 1)

    def paths(self) -> list[Path]:
        """Return the snapshots that are there, the newest first."""
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def full_paths(self) -> list[Path]:
        """Return those that have their trades in them, the newest first."""
        return [path for path in self.paths() if is_full(path)]

    def write(self, parts: Iterable[Any], seal: Callable[[], bytes], size: int, full: bool = False) -> Path:
        """Write a snapshot under its name at once or not at all, and remove what is beyond `kept`. Raises OSError.

        parts: all but the header, which `seal` gives when they are written. size: about how many bytes that will be.
        """
        free = shutil.disk_usage(self.folder).free
        if free < size + KEPT_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are left, which the journal may need", str(self.folder))
        newest = self.paths()
        number = int(newest[0].name[9:17]) + 1 if newest else 1
        path = self.folder / f"snapshot-{number:08d}{'-full' if full else ''}.rws"
        write_file(path, [bytes(HEADER_BYTES)], parts, seal)
        paths, full_kept = self.paths(), self.full_paths()[:FULL_KEPT]
        for old in paths[self.kept :]:
            if old not in full_kept:
                old.unlink(missing_ok=True)
        return path


def seq_of(header: bytes) -> int:
    """Return the seq that a snapshot, of which this is the header or more, was taken at."""
    return int.from_bytes(header[_SEQ], "little")


def is_full(path: Path) -> bool:
    """Tell whether a snapshot has its trades in it, by its name."""
    return path.name.endswith("-full.rws")


def restore_core(journal: Journal, *, lasts: bool = False) -> RiskCore:
    """Return a core with the state of the newest good snapshot beside a journal, or an empty one.

    lasts: nothing of the journal is removed while the core is in use.

    One that is damaged, of another version or of another history is skipped with a warning. Raises JournalError where
    the journal's beginning was removed and no snapshot stands for it.
    """
    if journal.directory is None:
        return RiskCore()
    for path in SnapshotStore(journal.directory).paths():
        started = time.monotonic()
        try:
            core = _load(path, journal, lasts=lasts)
        except (SnapshotError, OSError) as problem:
            log.warning("snapshot skipped", extra={"path": str(path), "reason": str(problem)})
            continue
        log.info(
            "snapshot loaded",
            extra={"path": str(path), "seq": core.applied_seq, "elapsed_ms": _ms(time.monotonic() - started)},
        )
        return core
    if journal.first_seq > 1:
        raise JournalError(
            f"{journal.directory}: events up to seq {journal.first_seq - 1} were removed, and no snapshot that stands "
            "for them can be used: restore snapshot-*-full.rws from a backup"
        )
    return RiskCore()


def _load(path: Path, journal: Journal, *, lasts: bool) -> RiskCore:
    """Return the core of one snapshot; where the journal has not all of its trades, an earlier one gives them."""
    if is_full(path) or journal.first_seq == 1:
        core = RiskCore()
        with mapped(path) as content:
            load(core, content, journal, lasts=lasts)
        return core
    earlier = [full for full in SnapshotStore(path.parent).full_paths() if full.name < path.name]
    problem: Exception = SnapshotError("its trades were removed from the journal, and no earlier snapshot has them")
    for full in earlier:
        core = RiskCore()
        try:
            with mapped(path) as content, mapped(full) as trades:
                load(core, content, journal, trades, lasts=lasts)
            return core
        except (SnapshotError, OSError) as found:
            problem = found
    raise problem


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a snapshot's file. Raises OSError, SnapshotError where it is empty."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise SnapshotError("an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _info_of(journal: Journal, seq: int) -> SnapshotInfo | None:
    """Describe the snapshot of a seq that lies beside a journal, if there is one."""
    if journal.directory is None or not seq:
        return None
    for path in SnapshotStore(journal.directory).paths():
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if seq_of(file.read(HEADER_BYTES)) == seq:
                found = os.fstat(file.fileno())
                return SnapshotInfo(str(path), seq, found.st_mtime_ns, found.st_size, 0.0, 0.0)
    return None


class Snapshotter:
    """Takes snapshots of a consumer's core every so often, in a thread of its own.

    consumer: whose core. journal: that it follows; in memory, nothing is ever taken. every_s: between two.
    kept: how many files stay. retention: removes the journal's beginning, where that is wanted.
    """

    def __init__(
        self,
        consumer: RiskConsumer,
        journal: Journal,
        *,
        every_s: float = EVERY_S,
        kept: int = KEPT,
        last_seq: int = 0,
        retention: Retention | None = None,
    ) -> None:
        self.last = _info_of(journal, last_seq)
        self.error = ""
        self._consumer, self._journal, self._every_s = consumer, journal, every_s
        self._store = SnapshotStore(journal.directory, kept) if journal.directory is not None else None
        self._frozen = Frozen()
        self._taken_seq = last_seq
        self._measured = (0.0, 0)
        self.retention = retention
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take them."""
        if self._store is None:
            return
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last one, so that the next start has nothing to read again, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._try()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._try()

    def _index(self) -> None:
        """Write the indexes of segments that have become full; a reader that finds none makes its own."""
        try:
            if self._store is not None:
                write_missing(self._journal)
        except OSError as problem:
            log.warning("no index of the journal could be written", extra={"reason": str(problem)})

    def _try(self) -> None:
        self._index()
        retention = self.retention if not self._stopping.is_set() else None
        try:
            self.take(full=retention is not None and retention.needs_snapshot())
            self.error = ""
            if retention is not None:
                retention.remove()
        except (OSError, RiskwireError, SnapshotError, ConsumerStopped, FutureTimeout) as problem:
            self.error = str(problem) or type(problem).__name__
            log.warning("no snapshot could be taken", extra={"reason": self.error})

    def take(self, full: bool = False) -> SnapshotInfo | None:
        """Take a snapshot now; None where nothing was applied since the last one, or nothing is kept.

        full: with the trades, which then need not be in the journal any more; also where nothing is new.
        Raises OSError where it cannot be written, ConsumerStopped, RiskwireError where the sink does not store what was
        refused up to it (which a start from it would not send again).
        """
        if self._store is None:
            return None
        with self._lock:
            started = time.monotonic()
            if not self._freeze(full):
                return self.last
            stalled_s, batch_no = self._measured
            try:
                self._wait_for_sink(batch_no)
                size = self._frozen.state_bytes + self._frozen.alert_bytes + (self._ask(trade_bytes) if full else 0)
                path = self._store.write(self._parts(full), self._frozen.seal, size, full)
            finally:
                if full and self._consumer.is_alive:
                    self._ask(self._frozen.thaw)
            self._taken_seq = self._frozen.applied_seq
            self.last = SnapshotInfo(
                path=str(path),
                seq=self._taken_seq,
                at=time.time_ns(),
                bytes=path.stat().st_size,
                stalled_ms=_ms(stalled_s),
                elapsed_ms=_ms(time.monotonic() - started),
            )
            log.info("snapshot taken", extra={"seq": self.last.seq, "bytes": self.last.bytes})
            return self.last

    def _parts(self, full: bool) -> Iterator[Any]:
        """Yield what is written behind the header; trades are copied a piece at a time, in the consumer's thread."""
        yield from self._frozen.body()
        while full and self._ask(self._frozen.take_trades):
            yield self._frozen.packed_trades()

    def _freeze(self, full: bool) -> bool:
        """Copy the state, with little of it at a time in the consumer's thread; False: there is nothing new."""

        def size(core: RiskCore) -> tuple[int, int]:
            return core.applied_seq, state_bytes(core)

        def freeze(core: RiskCore) -> tuple[float, int]:
            started = time.perf_counter()
            self._frozen.freeze(core, trades=False, journal=self._journal, in_pieces=full)
            return time.perf_counter() - started, self._consumer.sink_sent

        if self._consumer.error:
            raise RiskwireError(self._consumer.error)  # its state is not what the journal says
        applied_seq, state = self._ask(size)
        if applied_seq == self._taken_seq and not full:
            return False
        self._frozen.reserve(state + state // 8)
        self._measured = self._ask(freeze)
        self._frozen.reserve_alerts()
        while not self._ask(self._frozen.take_alerts):
            continue
        return True

    def _wait_for_sink(self, batch_no: int) -> None:
        deadline = time.monotonic() + SINK_WAIT_S
        while self._ask(lambda _: self._consumer.sink_confirmed) < batch_no:
            if time.monotonic() > deadline:
                raise RiskwireError("the sink has not stored what was refused up to the snapshot")
            time.sleep(POLL_S)

    def _ask(self, function: Any) -> Any:
        return self._consumer.call(function).result(CALL_WAIT_S)
