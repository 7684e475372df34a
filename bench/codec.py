"""Events into frames and back, beside msgspec's msgpack and JSON and the json module, for the same structs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.core_python import trades
from bench.report import Report
from bench.sizes import sized
from engine.codec import EventDecoder
from engine.events import TradeExecuted
from ext.encoder import EventEncoder
from ext.records import Frame

PER_FRAME = 256


def encode_frames(events: list[TradeExecuted]) -> list[bytearray]:
    """Encode all into frames."""
    encoder, frames, seq = EventEncoder(), [], 1
    for start in range(0, len(events), PER_FRAME):
        part = events[start : start + PER_FRAME]
        for event in part:
            encoder.add(event)
        frames.append(encoder.finish(seq, 1))
        seq += len(part)
    return frames


def decode_frames(frames: list[bytearray]) -> list[Any]:
    """Decode all into structs."""
    decoder = EventDecoder()
    return [event for frame in frames for _, event in decoder.decode_all(Frame(frame))]


def plain(event: TradeExecuted) -> dict[str, Any]:
    """Return an event as the json module takes it."""
    return {name: str(value) if name in ("price", "volume", "fee") else value for name, value in _fields(event)}


def _fields(event: TradeExecuted) -> list[tuple[str, Any]]:
    return [(name, getattr(event, name)) for name in event.__struct_fields__]


def timed(work: Callable[[], Any], count: int) -> tuple[float, Any]:
    """Run once; ns an event of this thread's processor time, and the result."""
    started = time.thread_time_ns()
    result = work()
    return (time.thread_time_ns() - started) / count, result


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all, interleaved; what is decoded must equal what was encoded."""
    events = trades(sized(options, 100_000, 20_000, 2_000))
    count = len(events)
    pack, unpack = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(TradeExecuted)
    to_json, from_json = msgspec.json.Encoder(), msgspec.json.Decoder(TradeExecuted)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "riskwire frames": (lambda: encode_frames(events), decode_frames),
        "msgspec msgpack": (lambda: [pack.encode(e) for e in events], lambda all_: [unpack.decode(e) for e in all_]),
        "msgspec JSON": (lambda: [to_json.encode(e) for e in events], lambda all_: [from_json.decode(e) for e in all_]),
        "json module": (
            lambda: [json.dumps(plain(e)) for e in events],
            lambda all_: [msgspec.convert(json.loads(e), TradeExecuted) for e in all_],
        ),
    }
    found: dict[str, tuple[list[float], list[float], list[float]]] = {name: ([], [], []) for name in pairs}
    for _ in range(options.rounds):
        for name, (encode, decode) in pairs.items():
            encode_ns, encoded = timed(encode, count)
            decode_ns, decoded = timed(lambda decode=decode, encoded=encoded: decode(encoded), count)
            report.check(f"{name}: events decoded are those encoded", decoded == events, True)
            for values, value in zip(found[name], (encode_ns, decode_ns, sum(map(len, encoded)) / count), strict=True):
                values.append(value)
    for name, (encode_all, decode_all, size) in found.items():
        report.add(f"{name}: encode", "ns", encode_all)
        report.add(f"{name}: decode", "ns", decode_all)
        report.add(f"{name}: size", "bytes", size[:1])
