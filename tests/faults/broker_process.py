"""A broker as a process of its own, to be killed: `python broker_process.py BASE JOURNAL SYNC [EVENTS_HWM]`.

Prints `ready`.
"""

from __future__ import annotations

import signal
import sys
import threading

import zmq

from engine.broker import Broker, BrokerSettings
from engine.endpoints import BaseLock, endpoint
from engine.journal import open_journal


def main() -> None:
    base, directory, sync, *more = sys.argv[1:]
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with BaseLock(base), open_journal(directory, sync) as journal:
        roles = {role: endpoint(base, role) for role in ("publish", "events", "replay")}
        settings = BrokerSettings(**roles, **({"events_hwm": int(more[0])} if more else {}))
        with Broker(journal, settings, context):
            print("ready", flush=True)
            stopped.wait()
    context.term()


if __name__ == "__main__":
    main()
