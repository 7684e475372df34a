"""A broker as a process of its own, to be killed: `python broker_process.py BASE JOURNAL SYNC`. Prints `ready`."""

from __future__ import annotations

import signal
import sys
import threading

import zmq

from engine.broker import Broker, BrokerSettings
from engine.endpoints import BaseLock, endpoint
from engine.journal import open_journal


def main() -> None:
    base, directory, sync = sys.argv[1:4]
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with BaseLock(base), open_journal(directory, sync) as journal:
        settings = BrokerSettings(
            publish=endpoint(base, "publish"), events=endpoint(base, "events"), replay=endpoint(base, "replay")
        )
        with Broker(journal, settings, context):
            print("ready", flush=True)
            stopped.wait()
    context.term()


if __name__ == "__main__":
    main()
