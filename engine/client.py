"""Ask and steer a running engine: one request, one answer, over its control endpoint.

Requests are msgpack maps `{"do": verb, "id": n, …}`; answers are `{"id": n, "ok": true, …}` or
`{"id": n, "ok": false, "error": text}`.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import msgspec
import zmq

from engine.endpoints import check_base, default_base, endpoint
from engine.errors import EngineUnreachable, RequestRefused
from engine.wire import watch_connection
from ext.records import NAME_KIND_NAMES

REQUEST_BYTES_MAX: Final = 32 << 20
WAIT_S: Final = 5.0
BUFFERED_REQUESTS_MAX: Final = 1_000

encode_message = msgspec.msgpack.Encoder(decimal_format="string").encode
decode_message = msgspec.msgpack.Decoder(dict[str, Any]).decode


def control_socket(context: zmq.Context[Any], base: str) -> zmq.Socket[bytes]:
    """Return a DEALER connected to the control endpoint of a base; the engine may start later."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.sndhwm = BUFFERED_REQUESTS_MAX
    socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
    watch_connection(socket, base)
    socket.connect(endpoint(base, "control"))
    return socket


class EngineClient:
    """A connection to a running engine. Use it in the thread that made it.

    base: the engine's address (default: `RISKWIRE_CONNECT`, else the user's runtime directory).
    wait_s: how long a request waits for an answer before EngineUnreachable.
    insecure: allow `tcp://` beyond loopback.

    >>> with EngineClient("ipc:///run/riskwire") as engine:  # doctest: +SKIP
    ...     engine.positions(account="MM*")
    """

    def __init__(
        self,
        base: str | None = None,
        *,
        wait_s: float = WAIT_S,
        insecure: bool = False,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self.base = check_base(base or os.environ.get("RISKWIRE_CONNECT") or default_base(), insecure)
        self.wait_s = wait_s
        self._socket = control_socket(context or zmq.Context.instance(), self.base)
        self._last_id = 0

    def request(self, do: str, *, timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """Send one request and return the answer.

        do: the verb (`status`, `positions`, …; docs/control.md). fields: its arguments.
        timeout_s: instead of wait_s.
        Raises EngineUnreachable without an answer in time, RequestRefused where the engine says no.
        """
        self._last_id += 1
        message = encode_message({"do": do, "id": self._last_id, **fields})
        if len(message) > REQUEST_BYTES_MAX:  # libzmq would end the connection at the other end
            raise RequestRefused(f"{do}: a request of {len(message):,} bytes; at most {REQUEST_BYTES_MAX:,} are taken")
        self._socket.send(message)
        wait_s = self.wait_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + wait_s
        while True:
            left_s = deadline - time.monotonic()
            if not self._socket.poll(max(0, int(left_s * 1000))):
                raise EngineUnreachable(
                    f"no engine answered at {self.base} within {wait_s:g} s; "
                    "start one with `riskwire serve`, or name its address with --connect"
                )
            answer = decode_message(self._socket.recv())
            if answer.get("id") == self._last_id:
                return _checked(answer)

    def positions(self, account: str = "*", symbol: str = "*") -> list[dict[str, Any]]:
        """Return position rows (DESIGN section 9) of accounts and symbols that match the globs.

        They hold everything that was accepted before the call: an engine that is behind is waited for as long as it
        makes progress.
        """
        judged_through = -1
        while True:
            answer = self.request("positions", account=account, symbol=symbol)
            rows: list[dict[str, Any]] = answer["positions"]
            if answer["current"] or answer["judged_through"] <= judged_through:
                return rows
            judged_through = answer["judged_through"]

    def status(self) -> dict[str, Any]:
        """Return what the engine says about itself."""
        return self.request("status")

    def seq_at(self, at: int) -> int | None:
        """Return the first seq that was numbered at a time or later (ns since 1970 UTC), None where none is yet.

        A stream from that time on begins there: `EventStream(base, from_seq)`.
        """
        seq: int | None = self.request("seq_at", at=at)["seq"]
        return seq

    def names(self) -> dict[str, list[str]]:
        """Return all names by their kind (`symbol`, `account`, `venue`, `strategy`), in the order of their ids.

        For who reads frames from the middle of the sequence on: the names in them may have been defined before.
        """
        found: dict[str, list[str]] = {}
        for kind in NAME_KIND_NAMES:
            names = found[kind] = []
            while page := self.request("names", kind=kind, after=len(names))["names"]:
                names += page
        return found

    def wait_judged(self, seq: int, timeout_s: float = 30.0) -> int:
        """Wait until everything up to `seq` is applied and judged; return the seq judged through."""
        answer = self.request("wait", seq=seq, timeout_ms=int(timeout_s * 1000), timeout_s=timeout_s + self.wait_s)
        return int(answer["judged_through"])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close(0)

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.get("ok"):
        raise RequestRefused(str(answer.get("error") or "the engine refused the request without a reason"))
    del answer["ok"], answer["id"]
    return answer
