"""The alerts of a running engine without a hole: history from a seq on, then live.

It subscribes first, then asks for what came before, and drops the overlap by number: what PUB dropped for a slow
subscriber, and what happened before it came, is asked for again.
"""

from __future__ import annotations

import fnmatch
import os
import re
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import zmq

from engine.alertframes import decode_alerts
from engine.client import WAIT_S, control_socket, decode_message, encode_message
from engine.endpoints import check_base, default_base, endpoint
from engine.errors import EngineUnreachable, RequestRefused
from engine.events import RiskAlert
from engine.eventstream import RETRY_S, EventStream, Subscription, messages
from engine.wire import Control, decode_control

__all__ = ["AlertFilter", "AlertSubscriber", "EventStream"]

ALERTS_PER_REQUEST: Final = 4_096
STALE_AFTER_S: Final = 2.0
FOREVER_S: Final = 3600.0
IDLE_CHECK_S: Final = 0.01
_EPOCH: Final = struct.Struct("<Q")
_EPOCH_OFFSET: Final = 24  # of FrameHeader.epoch


class AlertFilter:
    """Which alerts are wanted: severity exactly, account and symbol by case-sensitive globs, seq from `since` on."""

    def __init__(self, severity: str | None, account: str, symbol: str, since: int | None) -> None:
        self._severity = severity
        self._account = re.compile(fnmatch.translate(account))
        self._symbol = re.compile(fnmatch.translate(symbol))
        self._since = since or 0

    def takes(self, alert: RiskAlert) -> bool:
        """Tell whether an alert is wanted."""
        return (
            alert.seq >= self._since
            and self._severity in (None, alert.severity)
            and self._account.match(alert.account) is not None
            and self._symbol.match(alert.symbol) is not None
        )


class AlertSubscriber(Subscription):
    """Alerts of a running engine: history from a seq on, then live, no hole and nothing twice.

    base: the engine's address (default: `RISKWIRE_CONNECT`, else the user's runtime directory).
    severity: only `breach`, `warn` or `clear`. account, symbol: globs.
    since: history from this seq on, inclusive (None: only what is raised from now on).
    count: end after so many alerts. idle_s: end when no alert came for so long.
    on_stale: called with True when nothing at all was heard for 2 s, with False when the engine is back.
    wait_s: how long to wait for the engine at the start.
    Iterate it with `for` or `async for`. Raises EngineUnreachable where no engine answers at the start.
    """

    def __init__(
        self,
        base: str | None = None,
        *,
        severity: str | None = None,
        account: str = "*",
        symbol: str = "*",
        since: int | None = None,
        count: int | None = None,
        idle_s: float | None = None,
        on_stale: Callable[[bool], None] | None = None,
        wait_s: float = WAIT_S,
        hwm: int = 10_000,
        insecure: bool = False,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        super().__init__(context)
        self.base = check_base(base or os.environ.get("RISKWIRE_CONNECT") or default_base(), insecure)
        self.stale = False
        self.next_no = 0  # 0: not known before the engine's first answer
        self.judged_through = 0
        self.refetched = 0  # how often something missing was asked for again
        self.delivered = 0
        self._filter = AlertFilter(severity, account, symbol, since)
        self._since = since
        self._count, self._idle_s, self._on_stale = count, idle_s, on_stale
        self._wait_s = wait_s
        self._ready: deque[RiskAlert] = deque()
        self._last_no = 0  # the engine's last alert_no as far as it is known
        self._judging = False  # the engine has accepted what it has not judged yet
        self._epoch = 0
        self._doubt = False  # another epoch: is its history the one that was followed so far?
        self._last_alert: RiskAlert | None = None  # alert next_no - 1, where it was seen
        self._request_id = 0
        self._asking = False
        now = time.monotonic()
        self._asked_at = self._heard_at = self._alert_at = self._opened_at = now
        self._sub = self._subscribe(endpoint(self.base, "alerts"), [b"alert.", b"heartbeat"], hwm)
        self._asked = control_socket(self._context, self.base)
        self._ask()

    def __iter__(self) -> Iterator[RiskAlert]:
        while not self._ended():
            if self._ready:
                yield self._pop()
            else:
                self._pump()
                if not self._ready:
                    self._wait(self._wait_seconds())

    async def __aiter__(self) -> AsyncIterator[RiskAlert]:
        while not self._ended():
            if self._ready:
                yield self._pop()
            else:
                self._pump()
                if not self._ready:
                    await self._wait_async(self._wait_seconds())

    def __enter__(self) -> AlertSubscriber:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _pop(self) -> RiskAlert:
        self.delivered += 1
        self._alert_at = time.monotonic()
        return self._ready.popleft()

    def _ended(self) -> bool:
        if self._sub is None or (self._count is not None and self.delivered >= self._count):
            return True
        if self._idle_s is None or self._ready or not self.next_no:
            return False
        now = time.monotonic()
        coming = self._judging or self.next_no <= self._last_no
        if coming and now - self._heard_at < STALE_AFTER_S:
            return False
        return now - self._alert_at >= self._idle_s

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        until = self._heard_at + STALE_AFTER_S if not self.stale else now + FOREVER_S
        if self._asking:
            until = min(until, self._asked_at + RETRY_S)
        if not self.next_no:
            until = min(until, self._opened_at + self._wait_s)
        if self._idle_s is not None:
            until = min(until, max(self._alert_at + self._idle_s, now + IDLE_CHECK_S))
        return max(0.0, until - now)

    def _pump(self) -> None:
        for parts in messages(self._asked):
            self._take_answer(parts[-1])
        for parts in messages(self._sub):
            self._take_live(parts)
        now = time.monotonic()
        if not self.next_no and now - self._opened_at >= self._wait_s:
            raise EngineUnreachable(
                f"no engine answered at {self.base} within {self._wait_s:g} s; "
                "start one with `riskwire serve`, or name its address with --connect"
            )
        if now - self._heard_at >= STALE_AFTER_S and not self.stale and self.next_no:
            self._say_stale(True)
        if self._asking and now - self._asked_at >= RETRY_S:
            self._ask()

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        if self.stale:
            self._say_stale(False)

    def _say_stale(self, stale: bool) -> None:
        self.stale = stale
        if self._on_stale is not None:
            self._on_stale(stale)

    def _ask(self) -> None:
        """Ask for the alerts from next_no on; the first time for the place to begin."""
        self._asking = True
        self._asked_at = time.monotonic()
        self._request_id += 1
        request: dict[str, Any] = {"do": "alerts", "id": self._request_id, "max": ALERTS_PER_REQUEST}
        if self.next_no:
            request["from_no"] = self.next_no - 1 if self._doubt else self.next_no
        elif self._since is not None:
            request["since_seq"] = self._since
        else:
            request["max"] = 0
        assert self._asked is not None
        try:
            self._asked.send(encode_message(request), zmq.DONTWAIT)
        except zmq.Again:
            return  # nobody there for long: asked again after RETRY_S

    def _take_answer(self, message: bytes) -> None:
        answer = decode_message(message)
        self._heard()
        if answer.get("id") != self._request_id or not self._asking:
            return
        self._asking = False
        if not answer.get("ok"):
            raise RequestRefused(str(answer.get("error")))
        self.judged_through = int(answer["judged_through"])
        alerts = decode_alerts(answer["alerts"]) if answer["alerts"] else []
        if self._doubt:
            if not self._settle_doubt(alerts, answer):
                return
        elif not self._note_epoch(int(answer["epoch"])):
            return
        self._last_no = max(self._last_no, int(answer["last_no"]))
        if not self.next_no:
            self.next_no = int(answer["first_no"])
            self._alert_at = time.monotonic()
        self._take_alerts(alerts)
        if self.next_no <= self._last_no:
            self._ask()

    def _note_epoch(self, epoch: int) -> bool:
        """Note the epoch that a message speaks of; return whether it can be used, or must first be asked about."""
        if epoch not in (0, self._epoch):
            self._doubt = self._epoch != 0 and self.next_no > 1
            self._epoch = epoch
            self._last_no = 0
            if self._doubt:
                self._ask()
        return not self._doubt

    def _settle_doubt(self, alerts: list[RiskAlert], answer: dict[str, Any]) -> bool:
        """Decide whether an engine of another epoch goes on with the history followed so far.

        One that does has the last alert seen under the same number; another one (it started without the journal)
        is followed from its first alert on. Returns False where it is too early to tell.
        """
        if self.judged_through < int(answer["last_seq"]):
            self._asking = True  # it still reads its journal: asked again after RETRY_S
            return False
        self._doubt = False
        known = self._last_alert in (None, alerts[0]) if alerts else False
        if not known:
            self.next_no = 1
            self._last_alert = None
            self._ask()
        return known

    def _take_live(self, parts: list[bytes]) -> None:
        self._heard()
        if not self.next_no or len(parts) != 2:
            return  # before the first answer, what comes live is part of that answer or after it
        if parts[0] == b"heartbeat":
            self._take_heartbeat(decode_control(parts[1]))
            return
        try:
            alerts = decode_alerts(parts[1])
        except ValueError:
            return  # damaged on its way: the next alert or heartbeat shows that it is missing
        if not self._note_epoch(_EPOCH.unpack_from(parts[1], _EPOCH_OFFSET)[0]):
            return
        self._last_no = max(self._last_no, alerts[-1].alert_no)
        if alerts[0].alert_no <= self.next_no:
            self._take_alerts(alerts)
        elif not self._asking:
            self.refetched += 1
            self._ask()

    def _take_heartbeat(self, beat: Control | None) -> None:
        if beat is None or not self._note_epoch(beat.epoch):
            return
        self.judged_through = beat.b
        self._judging = beat.b < beat.a
        self._last_no = max(self._last_no, beat.c)
        if beat.c >= self.next_no and not self._asking:
            self.refetched += 1
            self._ask()

    def _take_alerts(self, alerts: list[RiskAlert]) -> None:
        for alert in alerts:
            if alert.alert_no == self.next_no:
                self.next_no += 1
                self._last_alert = alert
                if self._filter.takes(alert):
                    self._ready.append(alert)
