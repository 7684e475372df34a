"""Recorded websocket messages, as hftbacktest's collector writes them: ``<local ns> <JSON>`` a line.

Read are the trades in them: Binance ``trade`` and ``aggTrade`` (spot and futures; where the buyer is the maker, a sell
took), and Hyperliquid ``trades``, whose prints name both accounts: each becomes a buy of the buyer and a sell of the
seller. Every other message is passed over: it is no record of this feed. Where marks are wanted, Binance ``bookTicker``
quotes are marks too, at the middle of bid and ask; one without a time of the venue has the local one.
https://developers.binance.com (market streams), https://hyperliquid.gitbook.io (websocket subscriptions)
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import msgspec

from ext.capturerows import CaptureReader
from ext.feedwriter import FIELD_NAMES
from feeds.guessing import CAPTURE_LINE
from feeds.inputs import Input
from feeds.linesource import INVALID, UNDECODABLE, LineSource, Refused

TRADE_MARKS = (b'"e":"trade"', b'"e":"aggTrade"', b'"channel":"trades"')
QUOTE_MARK = b"bookTicker"
Fields = tuple[bytes | None, ...]


class BinanceEvent(msgspec.Struct):
    """``t`` is a trade's id, ``a`` an aggregate trade's (in other events it is something else)."""

    e: str
    s: str
    T: int
    p: str
    q: str
    m: bool
    t: int | None = None
    a: int | None = None


class BinanceQuote(msgspec.Struct):
    s: str
    b: str
    a: str
    T: int | None = None


class QuoteMessage(msgspec.Struct):
    data: BinanceQuote


class HyperliquidTrade(msgspec.Struct):
    coin: str
    px: str
    sz: str
    side: str
    time: int
    tid: int
    users: tuple[str, str]


class Message(msgspec.Struct):
    """The envelope of either venue; ``data`` is a trade, or a list of them."""

    data: BinanceEvent | list[HyperliquidTrade]


decode_message = msgspec.json.Decoder(Message).decode
decode_quote_message = msgspec.json.Decoder(QuoteMessage).decode
decode_bare_quote = msgspec.json.Decoder(BinanceQuote).decode
decode_bare = msgspec.json.Decoder(BinanceEvent).decode


def decode(raw: bytes) -> BinanceEvent | list[HyperliquidTrade]:
    """The trades of a line. Raises Refused where it is not of the form."""
    stamp, _, text = raw.partition(b" ")
    try:
        if not stamp.isdigit():
            raise Refused(UNDECODABLE, "found no local time in front, expected `<ns> <JSON>`")
        return decode_bare(text) if text.startswith(b'{"e":') else decode_message(text).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(UNDECODABLE, f"broken message: {error}; expected a trade of Binance or Hyperliquid") from None


def decode_quote(raw: bytes) -> tuple[BinanceQuote, int]:
    """A quote and its time in ns. Raises Refused where the line is not of the form."""
    stamp, _, text = raw.partition(b" ")
    try:
        quote = decode_bare_quote(text) if text.startswith(b'{"e":') else decode_quote_message(text).data
        return quote, int(stamp) if quote.T is None else quote.T * 10**6
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused(UNDECODABLE, f"broken message: {error}; expected a quote of Binance") from None


def quote_fields(quote: BinanceQuote, time_ns: int) -> Fields:
    """Raises Refused where a side is no number."""
    try:
        middle = (Decimal(quote.b) + Decimal(quote.a)) / 2
    except InvalidOperation:
        raise Refused(INVALID, f"found bid {quote.b[:40]!r} and ask {quote.a[:40]!r}, expected two prices") from None
    return fields_of(symbol=quote.s, price=f"{middle:f}", executed_at=time_ns)


def fields_of(**values: str | int) -> Fields:
    return tuple(str(values[name]).encode() if name in values else None for name in FIELD_NAMES)


def binance_fields(event: BinanceEvent) -> Fields:
    number = event.a if event.e == "aggTrade" else event.t
    if number is None:
        raise Refused(UNDECODABLE, "found a trade without an id, expected t or a")
    return fields_of(
        trade_id=number, symbol=event.s, price=event.p, volume=event.q, side="sell" if event.m else "buy",
        executed_at=event.T, venue="binance",
    )  # fmt: skip


def hyperliquid_fields(trade: HyperliquidTrade, side: str) -> Fields:
    return fields_of(
        trade_id=trade.tid, symbol=trade.coin, price=trade.px, volume=trade.sz, side=side, executed_at=trade.time,
        account=trade.users[0 if side == "buy" else 1], venue="hyperliquid",
    )  # fmt: skip


class CaptureSource(LineSource):
    """One recording as a source of records: trades in messages of the usual form apart (ext.capturerows)."""

    def _reader(self, source: Input) -> CaptureReader:
        return CaptureReader(source, self.writer, self, self.reading.as_marks)

    def is_record(self, raw: bytes) -> bool:
        if self.reading.as_marks and QUOTE_MARK in raw:
            return True
        return any(mark in raw for mark in TRADE_MARKS) or not CAPTURE_LINE.match(raw) or raw[-1:] not in b"}]"

    def time_of(self, raw: bytes) -> int | None:
        try:
            if self.reading.as_marks and QUOTE_MARK in raw:
                return decode_quote(raw)[1]
            found = decode(raw)
        except Refused:
            return None
        if isinstance(found, BinanceEvent):
            return found.T * 10**6
        return found[0].time * 10**6 if found else None

    def add_line(self, raw: bytes) -> Iterator[None] | None:
        if self.reading.as_marks and QUOTE_MARK in raw:
            self.writer.add_trade(self.rules, quote_fields(*decode_quote(raw)), self.number)
            return None
        found = decode(raw)
        if not isinstance(found, BinanceEvent):
            return self._add_prints(found)
        self.writer.add_trade(self.rules, binance_fields(found), self.number)
        return None

    def _add_prints(self, trades: list[HyperliquidTrade]) -> Iterator[None]:
        for trade in trades:
            for side in ("buy",) if self.reading.as_marks else ("buy", "sell"):
                self.writer.add_trade(self.rules, hyperliquid_fields(trade, side), self.number + 1)
                yield
