"""Durable publish to consume through Redis Streams and NATS JetStream: the same messages as riskwire's, counted alike.

Publisher, server and consumer are processes; all keep a log on the same disk and none syncs for each message (riskwire
`sync = "os"`, Redis `appendfsync everysec`, JetStream file storage). The peers' consumers count records and do nothing
else; riskwire checks, numbers, applies and judges on the way.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from bench import hops, peer_brokers, servers

NAMES = {"redis": "Redis Streams", "jetstream": "NATS JetStream"}


def rate_of(system: str, path: Path, trades: int) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Return trades/s from the first publish to the last record seen, and what source and sink say."""
    with servers.redis_server() if system == "redis" else servers.jetstream_server() as server:
        words = [sys.executable, "-m", "bench.peer_brokers", system]
        if system == "jetstream":
            asyncio.run(peer_brokers.jetstream_stream(server.address))
        with hops.running([*words, "sink", server.address, "-", str(trades)]) as sink:
            hops.wait_ready(sink)
            sent = hops.outcome([*words, "source", server.address, str(path), "0"])
            seen = hops.answer(sink)
    return trades / (seen["end_ns"] - sent["start_ns"]) * 1e9, sent, seen
