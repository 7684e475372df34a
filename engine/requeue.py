"""Dead letters sent again: through the same door as any new event, or, where a worker gave up, back to its queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import zmq

from engine.deadletters import DeadLetterStore, StoredLetter
from engine.endpoints import check_base, endpoint
from engine.errors import EngineUnreachable, InvalidEvent, RequestRefused, UsageError
from engine.events import Event
from engine.jobwire import Refused, Revive, Revived, decode_from_queue, encode
from engine.publisher import Publisher

SOURCE = "dead-letters"
QUEUE_STAGE = "queue:"

_decode_event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Event)


class Outcome(msgspec.Struct, frozen=True):
    """What became of one letter.

    outcome: `accepted` (in the sequence now), `duplicate` (it was there already), `requeued` (a worker gets it again),
    `skipped`, `refused` (again), `settled` (sent again or resolved before: nothing was done), `unusable` (see detail)
    or `would send` (a dry run).
    """

    id: int
    outcome: str
    detail: str = ""


def edited_event(letter: StoredLetter, edits: Mapping[str, str]) -> Event:
    """Return a letter's event with fields replaced; raises UsageError where that makes no event.

    The event is the decoded one, or the original bytes where those are JSON (a line of a JSON Lines feed).
    edits: text by field, as in JSON Lines: numbers and times as text too.
    """
    text = letter.event or letter.payload.decode("utf-8", "replace")
    try:
        fields = msgspec.json.decode(text)
    except msgspec.DecodeError:
        fields = None
    if not isinstance(fields, dict):
        if not edits:
            raise UsageError(
                f"letter {letter.id}: its bytes cannot be read as an event; mend them in their source and publish that,"
                " or give every field with --edit FIELD=VALUE"
            )
        fields = {}
    fields = {"type": "TradeExecuted", **fields, **edits}
    try:
        event: Event = msgspec.convert(fields, Event, strict=False)
    except msgspec.ValidationError as problem:
        raise UsageError(f"letter {letter.id}: {problem}; change it with --edit FIELD=VALUE") from None
    return event


class Requeuer:
    """Sends letters of one store to a running engine. Sending a letter twice adds nothing twice.

    store: opened for writing. base: the engine's address. edits: fields to replace, by name.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        base: str,
        *,
        edits: Mapping[str, str] | None = None,
        wait_s: float = 5.0,
        insecure: bool = False,
    ) -> None:
        self._store = store
        self._base = check_base(base, insecure)
        self._edits = edits or {}
        self._wait_s = wait_s
        self._context: zmq.Context[Any] = zmq.Context()
        self._publisher: Publisher | None = None

    def __enter__(self) -> Requeuer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._publisher is not None:
            self._publisher.abandon()
        self._context.term()

    def send(self, letters: Iterable[StoredLetter], dry_run: bool = False) -> list[Outcome]:
        """Send letters again, in the order of their numbers; return what became of each.

        Raises EngineUnreachable where no engine answers; what was sent until then stays sent.
        """
        return [self._send(letter, dry_run) for letter in letters]

    def skip(self, letters: Iterable[StoredLetter], dry_run: bool = False) -> list[Outcome]:
        """Leave letters for good: what is parked behind them in an ordered queue goes on."""
        return [self._skip(letter, dry_run) for letter in letters]

    def _skip(self, letter: StoredLetter, dry_run: bool) -> Outcome:
        from_queue = letter.stage.startswith(QUEUE_STAGE)
        if letter.status == "resolved" or (letter.status == "skipped" and not from_queue):
            return Outcome(letter.id, "settled", f"it is {letter.status}")
        if dry_run:
            return Outcome(letter.id, "would skip" if letter.status != "skipped" else "settled")
        if from_queue and letter.seq not in self._revive(letter, "skip"):
            if letter.status == "skipped":
                return Outcome(letter.id, "settled", "it is skipped")
            return Outcome(letter.id, "unusable", f"seq {letter.seq} is not dead in that queue of this engine")
        if not from_queue:
            self._store.mark([letter.id], "skipped")
        return Outcome(letter.id, "skipped")

    def _send(self, letter: StoredLetter, dry_run: bool) -> Outcome:
        if letter.status not in ("dead", "requeued"):
            return Outcome(letter.id, "settled", f"it is {letter.status}")
        from_queue = letter.stage.startswith(QUEUE_STAGE)
        if from_queue and self._edits:
            return Outcome(letter.id, "unusable", "what a worker gave up is in the sequence and cannot be edited")
        try:
            event = None if from_queue else edited_event(letter, self._edits)
        except UsageError as problem:
            return Outcome(letter.id, "unusable", str(problem))
        if dry_run:
            return Outcome(letter.id, "would send")
        # `requeued` is tried again: whoever wrote that may have ended before it was sent, and nothing counts twice.
        return self._back_to_queue(letter) if event is None else self._publish(letter, event)

    def _back_to_queue(self, letter: StoredLetter) -> Outcome:
        self._store.note_requeue(letter.id, letter.event)
        if letter.seq in self._revive(letter, "requeue"):
            return Outcome(letter.id, "requeued")
        if letter.status == "requeued":
            return Outcome(letter.id, "settled", "a worker has it, or will")
        self._store.mark([letter.id], "dead")
        return Outcome(letter.id, "unusable", f"seq {letter.seq} is not dead in that queue of this engine")

    def _publish(self, letter: StoredLetter, event: Event) -> Outcome:
        if self._publisher is None:
            self._publisher = Publisher(self._base, SOURCE, context=self._context, wait_s=self._wait_s)
        before = self._publisher.stats
        self._store.note_requeue(letter.id, msgspec.json.encode(event).decode())
        try:
            self._publisher.publish(event)
            self._publisher.flush()
        except InvalidEvent as problem:
            self._store.mark([letter.id], "dead")
            return Outcome(letter.id, "refused", f"{problem.reason}: {problem}")
        except EngineUnreachable:
            self._store.mark([letter.id], "dead")
            raise
        after = self._publisher.stats
        if after.refused > before.refused:
            self._store.mark([letter.id], "dead")
            return Outcome(letter.id, "refused", "the engine refused it again; its dead letter says why")
        if after.duplicates > before.duplicates and letter.stage == "sequence" and not self._edits:
            self._store.mark([letter.id], "dead")
            return Outcome(letter.id, "duplicate", "it has its place in the sequence; send it with another trade_id")
        self._store.mark([letter.id], "resolved")
        return Outcome(letter.id, "duplicate" if after.duplicates > before.duplicates else "accepted")

    def _revive(self, letter: StoredLetter, action: str) -> list[int]:
        name = letter.stage.removeprefix(QUEUE_STAGE)
        answer = ask_queue(self._context, self._base, Revive(name, [letter.seq], action), self._wait_s)
        if isinstance(answer, Revived) and not answer.error:
            return answer.seqs
        raise RequestRefused(getattr(answer, "error", "") or f"the queue answered {type(answer).__name__}")


def send_job(
    base: str, queue: str, seq: int, action: str, *, dry_run: bool = False, wait_s: float = 5.0, insecure: bool = False
) -> Outcome:
    """Hand a dead job out again (`requeue`) or leave it for good (`skip`) where its letter is gone.

    Raises EngineUnreachable, RequestRefused where there is no such queue.
    """
    context: zmq.Context[Any] = zmq.Context()
    request = Revive(queue, [seq], "dead" if dry_run else action)
    try:
        answer = ask_queue(context, check_base(base, insecure), request, wait_s)
    finally:
        context.term()
    if answer.error:
        raise RequestRefused(answer.error)
    done = {"requeue": ("would send", "requeued"), "skip": ("would skip", "skipped")}[action][not dry_run]
    if seq in answer.seqs:
        return Outcome(0, done, f"seq {seq} of queue {queue}")
    return Outcome(0, "unusable", f"seq {seq} is not dead in queue {queue} of this engine")


def parse_job(word: str) -> tuple[str, int]:
    """Return queue and seq of `QUEUE:SEQ`; raises UsageError for anything else."""
    queue, _, seq = word.rpartition(":")
    if not queue or not (seq.isascii() and seq.isdigit()):
        raise UsageError(
            f"--job {word!r}: expected QUEUE:SEQ, such as booking:1234; `riskwire queue --json` shows them"
        )
    return queue, int(seq)


def ask_queue(context: zmq.Context[Any], base: str, request: Any, wait_s: float = 5.0) -> Any:
    """Ask the queue of a running engine something and return its answer; raises EngineUnreachable."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 0
    try:
        socket.connect(endpoint(base, "queue"))
        socket.send(encode(request))
        deadline = time.monotonic() + wait_s
        if not socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            raise EngineUnreachable(
                f"no queue answered at {base} within {wait_s:g} s; start an engine with `riskwire serve`,"
                " or name its address with --connect"
            )
        answer = decode_from_queue(socket.recv())
    finally:
        socket.close(0)
    if isinstance(answer, Refused):
        raise RequestRefused(answer.error)
    return answer


def parse_edits(words: Sequence[str]) -> dict[str, str]:
    """Return `FIELD=VALUE` words as a dict; raises UsageError for anything else."""
    edits = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not field or not equals:
            raise UsageError(f"--edit {word!r}: expected FIELD=VALUE, such as volume=1.5")
        edits[field] = value
    return edits
