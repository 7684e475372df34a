"""Jobs/s of the queue with acked no-op jobs, beside Redis Streams consumer groups and JetStream pull consumers.

Each round: a backlog of jobs is there; two worker processes take it in batches and ack it; counted from the first
job begun to the last acked. All have their log on the same disk with no fsync per job: riskwire `sync = "os"`, Redis
`appendonly yes, appendfsync everysec`, JetStream file storage. The peers' workers get bytes and decode nothing; so
does the first row of riskwire, whose events are decoded when they are looked at; the other rows look.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import riskwire_command
from bench.queueworkers import GROUP, STREAM, SUBJECT
from bench.report import MORE, Report, ratios
from bench.servers import TIMEOUT_S, jetstream_server, missing, redis_server, running, wait_for
from bench.sizes import trades_of

WORKERS = 2
BATCH = 1024
PEER_JOBS = 200_000
FRAME_TRADES = 250
PAYLOAD = b"x" * 110  # about what a trade takes on riskwire's wire
BROKER_US_MAX = 3.0
RATIOS = (("riskwire", "redis", 3.0), ("riskwire", "jetstream", 5.0), ("processed", "redis", 1.0))
ROUNDS_MAX = 3
ONE_BY_ONE = 4  # one event a call: a fourth of the jobs


class Result(NamedTuple):
    """One round: jobs/s, and the server's processor time in us a job."""

    rate: float
    server_us: float


SYSTEMS = {
    "redis": "Redis Streams: XREADGROUP, XACK by 1,024",
    "jetstream": "JetStream: pull consumer, fetch 1,024, an ack each",
    "riskwire": "riskwire --batch 1024, looks at nothing",
    "decoded": "riskwire --batch 1024, every event decoded",
    "one": "riskwire, one event a call",
    "processed": "riskwire --batch 1024, effects through `processed`",
}


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all systems in interleaved rounds; the ratios are of one round each."""
    jobs = trades_of(options, 1_000_000, 100_000, 5_000)
    measures = {name: (lambda name=name: measure_riskwire(name, jobs)) for name in SYSTEMS}
    measures |= {
        "one": lambda: measure_riskwire("one", jobs // ONE_BY_ONE),
        "redis": lambda: measure_redis(min(jobs, PEER_JOBS)),
        "jetstream": lambda: measure_jetstream(min(jobs, PEER_JOBS) // 4),
    }
    rounds: list[dict[str, Result]] = []
    try:
        for _ in range(min(options.rounds, ROUNDS_MAX)):
            rounds.append({name: measure() for name, measure in measures.items() if not missing(name)})
    except AssertionError as problem:
        report.fail(str(problem))
    if rounds:
        tell(rounds, report)


def tell(rounds: list[dict[str, Result]], report: Report) -> None:
    """Print a row a system, what the broker needs, and the ratios."""
    for name, title in SYSTEMS.items():
        if how := missing(name):
            report.missing(title, how)
        else:
            report.add(title, "jobs/s", [each[name].rate for each in rounds], better=MORE)
    used_us = [each["riskwire"].server_us for each in rounds]
    report.add("processor time of the broker an acked job", "us", used_us, target=BROKER_US_MAX)
    for name, peer, least in RATIOS:
        if not missing(peer):
            found = ratios([each[name].rate for each in rounds], [each[peer].rate for each in rounds])
            title = "through `processed`" if name == "processed" else "no-op batches"
            report.add(f"{title}, times {peer}", "x", found, better=MORE, target=least)


# --- processes


@contextmanager
def workers(system: str, address: str, cwd: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the workers of a system, all ready."""
    words = (sys.executable, "-m", "bench.queueworkers", system, address, str(BATCH))
    with (
        running(*words, cwd=cwd, wait="ready") as one,
        running(*words, cwd=cwd, wait="ready") as other,
    ):
        yield [one, other]


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used (Linux; 0 elsewhere)."""
    if not Path("/proc/self/stat").exists():
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def marks_of(crew: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """Return what the workers say at their end."""
    said = [process.communicate(timeout=TIMEOUT_S)[0] for process in crew]
    for process, text in zip(crew, said, strict=True):
        assert text, f"worker {process.pid} ended with {process.returncode} and said nothing"
    return [json.loads(text.splitlines()[-1]) for text in said]


def rate_of(marks: list[dict[str, Any]], jobs: int) -> float:
    """Return jobs/s from the first begun to the last acked; every job must have been there."""
    assert sum(mark["count"] for mark in marks) == jobs, f"{marks}: expected {jobs} jobs"
    first_s = min(mark["first_s"] for mark in marks if mark["count"])
    return jobs / (max(mark["last_s"] for mark in marks) - first_s)


# --- the systems


def measure_redis(jobs: int) -> Result:
    """Fill a stream, then read it with a consumer group."""
    import redis

    with redis_server() as server, redis.Redis(unix_socket_path=server.address) as client:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        for start in range(0, jobs, 1000):
            pipe = client.pipeline(transaction=False)
            for _ in range(min(1000, jobs - start)):
                pipe.xadd(STREAM, {"t": PAYLOAD})
            pipe.execute()
        before_s = cpu_s(server.process.pid)
        with workers("redis", server.address, server.folder) as crew:
            marks = marks_of(crew)
        assert client.xpending(STREAM, GROUP)["pending"] == 0
        return Result(rate_of(marks, jobs), (cpu_s(server.process.pid) - before_s) / jobs * 1e6)


def measure_jetstream(jobs: int) -> Result:
    """Fill a stream on file storage, then read it with a durable pull consumer."""
    import asyncio

    with jetstream_server() as server:
        asyncio.run(fill_jetstream(server.address, jobs))
        before_s = cpu_s(server.process.pid)
        with workers("jetstream", server.address, server.folder) as crew:
            marks = marks_of(crew)
        return Result(rate_of(marks, jobs), (cpu_s(server.process.pid) - before_s) / jobs * 1e6)


async def fill_jetstream(address: str, jobs: int) -> None:
    """Make stream and consumer, and publish the jobs."""
    import asyncio

    import nats
    from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

    client = await nats.connect(address, allow_reconnect=True, max_reconnect_attempts=50, reconnect_time_wait=0.1)
    stream = client.jetstream(publish_async_max_pending=4000)
    await stream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT]))
    for start in range(0, jobs, 2000):
        await asyncio.gather(*[stream.publish(SUBJECT, PAYLOAD) for _ in range(min(2000, jobs - start))])
    config = ConsumerConfig(durable_name=GROUP, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=-1, ack_wait=60)
    await stream.add_consumer(STREAM, config)
    await client.close()


def measure_riskwire(system: str, jobs: int) -> Result:
    """Serve with a journal, publish the jobs, wait until they are judged, then let the workers begin."""
    jobs -= jobs % FRAME_TRADES
    import zmq

    from engine.client import EngineClient
    from engine.jobwire import Status, StatusRequest
    from engine.requeue import ask_queue

    with tempfile.TemporaryDirectory() as folder:
        base = f"ipc://{folder}/run"
        words = (*riskwire_command(), "serve", "--base", base, "--journal", f"{folder}/journal")
        context: zmq.Context[Any] = zmq.Context()

        def done() -> bool:
            answer = ask_queue(context, base, StatusRequest())
            assert isinstance(answer, Status)
            return any(queue.name == system and queue.done >= jobs for queue in answer.queues)

        with running(*words, cwd=folder, wait="ready") as server:
            publish(base, jobs)
            with EngineClient(base) as client:
                client.wait_judged(jobs, timeout_s=TIMEOUT_S)
            before_s = cpu_s(server.pid)
            with workers(system, base, folder) as crew:
                wait_for(done)
                acked_s, used_s = time.monotonic(), cpu_s(server.pid) - before_s
                for process in crew:
                    process.send_signal(signal.SIGTERM)
                marks = marks_of(crew)
            assert rate_of(marks, jobs)
            first_s = min(mark["first_s"] for mark in marks if mark["count"])
        context.term()
        return Result(jobs / (acked_s - first_s), used_s / jobs * 1e6)


def publish(base: str, jobs: int) -> None:
    """Publish distinct trades."""
    from bench.broker_rate import make_frames
    from engine.publisher import Publisher

    with Publisher(base, "bench", wait_s=30) as publisher:
        for frame in make_frames(jobs, FRAME_TRADES):
            publisher.publish_frame(frame)
        publisher.flush()
