"""The control endpoint: people and programs ask a running engine, or steer it, in msgpack maps.

A request is `{"do": verb, "id": anything, …}`, its answer `{"id": …, "ok": true, …}` or `{"ok": false, "error": text}`.
What cannot be read, an unknown verb or a wrong field gets an error as its answer and never ends the server.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import msgspec
import uvloop
import zmq
import zmq.asyncio

from engine.checks import listed, show, suggest
from engine.client import REQUEST_BYTES_MAX, decode_message, encode_message
from engine.errors import RiskwireError

REQUESTS_MAX: Final = 1_000  # answered at the same time; more are refused
LINGER_MS: Final = 1_000

Request = TypeVar("Request", bound=msgspec.Struct)
Answer = Mapping[str, Any]
Verb = tuple[type[msgspec.Struct], Callable[[Any], Awaitable[Answer]]]


class ControlServer:
    """A ROUTER on uvloop, in a thread of its own, that answers each request with the handler of its verb.

    context: the ZeroMQ context. address: where to bind.
    verbs: for each verb the Struct its fields must fit, and the coroutine that answers.
    """

    def __init__(self, context: zmq.Context[Any], address: str, verbs: Mapping[str, Verb]) -> None:
        self.answered = 0
        self.refused = 0
        self._context, self._address, self._verbs = context, address, verbs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Bind and answer. Raises zmq.ZMQError where the address cannot be bound."""
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()
        self._started.result()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop answering; what is being answered is given up."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_s)
        self._thread = None

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as problem:
            if not self._started.done():
                self._started.set_exception(problem)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        router = zmq.asyncio.Context(self._context).socket(zmq.ROUTER)
        router.linger = LINGER_MS
        router.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        try:
            router.bind(self._address)
            self._started.set_result(None)
            stopped = asyncio.ensure_future(self._stopping.wait())
            await self._receive(router, stopped)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            router.close()

    async def _receive(self, router: zmq.asyncio.Socket, stopped: asyncio.Future[Any]) -> None:
        while not stopped.done():
            received = asyncio.ensure_future(router.recv_multipart())
            await asyncio.wait((received, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not received.done():
                received.cancel()
                return
            identity, *parts = received.result()
            task = asyncio.create_task(self._answer(router, identity, parts))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, router: zmq.asyncio.Socket, identity: bytes, parts: list[bytes]) -> None:
        answer = await self._answer_to(parts[-1] if parts else b"")
        if answer["ok"]:
            self.answered += 1
        else:
            self.refused += 1
        message = encode_message(answer)
        if len(message) > REQUEST_BYTES_MAX:  # libzmq would end the connection of whoever asked
            error = (
                f"the answer has {len(message):,} bytes, above {REQUEST_BYTES_MAX:,}; ask for less, with narrower globs"
            )
            message = encode_message({"id": answer["id"], "ok": False, "error": error})
        # A REQ socket sends an empty part first and expects it back.
        await router.send_multipart([identity, *parts[:-1], message])

    async def _answer_to(self, message: bytes) -> dict[str, Any]:
        try:
            request = decode_message(message)
        except msgspec.MsgspecError as problem:
            return {"id": None, "ok": False, "error": f"not a msgpack map: {problem}"}
        request_id = request.pop("id", None)
        try:
            if len(self._tasks) > REQUESTS_MAX:
                raise RiskwireError(f"more than {REQUESTS_MAX} requests at once; ask again later")
            answer = await self._handle(request)
            return {"id": request_id, "ok": True, **answer}
        except (RiskwireError, msgspec.ValidationError) as problem:
            return {"id": request_id, "ok": False, "error": str(problem)}
        except Exception as problem:
            return {"id": request_id, "ok": False, "error": f"{type(problem).__name__}: {problem}"}

    async def _handle(self, request: dict[str, Any]) -> Answer:
        do = request.pop("do", None)
        if not isinstance(do, str) or do not in self._verbs:
            near = suggest(do, self._verbs) if isinstance(do, str) else ""
            raise RiskwireError(f"do: expected one of {listed(sorted(self._verbs))}, found {show(do)}{near}")
        shape, handler = self._verbs[do]
        try:
            fields = msgspec.convert(request, shape)
        except msgspec.ValidationError as problem:
            raise RiskwireError(f"{do}: {problem}") from None
        return await handler(fields)


class NoFields(msgspec.Struct, forbid_unknown_fields=True):
    """A request without fields."""


class PositionsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """account, symbol: case-sensitive globs."""

    account: str = "*"
    symbol: str = "*"


class AlertsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Alerts from `from_no` on, or from the first whose seq is at least `since_seq`; at most `max` of them.

    Neither: the place after the last alert, where what comes live begins.
    """

    from_no: int | None = None
    since_seq: int | None = None
    max: int = 4_096


class WaitRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Wait until `seq` is applied and judged, at most timeout_ms."""

    seq: int
    timeout_ms: int = 30_000


class LimitsSetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """limits: `settings` and `limit` as in the file; who: for the record."""

    limits: dict[str, Any]
    who: str = ""


class KillRequest(msgspec.Struct, forbid_unknown_fields=True):
    """account: whom to stop or release, `*` for all."""

    account: str
    who: str = ""


class SessionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """name: of the session that starts now."""

    name: str


class SnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A piece of a snapshot with all trades: of the newest (no name), from an offset on."""

    name: str = ""
    offset: int = 0


class SeqAtRequest(msgspec.Struct, forbid_unknown_fields=True):
    """at: when an event was numbered, ns since 1970 UTC."""

    at: int


class NamesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Names of a kind, from the one behind an id on."""

    kind: str
    after: int = 0


class LettersRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A page of dead letters; empty fields take all (engine.deadletters.LetterFilter)."""

    reason: str = ""
    stage: str = ""
    account: str = ""
    symbol: str = ""
    status: str = ""
    source: str = ""
    since: int = 0
    after: int = 0
    limit: int = 200


class LetterRequest(msgspec.Struct, forbid_unknown_fields=True):
    """letter: the number of one dead letter."""

    letter: int


class PurgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters to delete, as in LettersRequest; dry_run: only count them."""

    reason: str = ""
    stage: str = ""
    account: str = ""
    symbol: str = ""
    status: str = ""
    source: str = ""
    since: int = 0
    dry_run: bool = False
