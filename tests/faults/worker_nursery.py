"""Forks workers from one process that has everything imported, so that a test can kill hundreds of them.

`python worker_nursery.py BASE [PROCESSED.db]`; each line of standard input, `QUEUE HANDLER BATCH`, starts
one; its pid is answered.
"""

from __future__ import annotations

import os
import signal
import sys

from engine.worker import Worker, load_handler

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "integration"))


def work(base: str, queue: str, handler: str, batch: int) -> None:
    """Run one worker until it is told to leave."""
    processed = sys.argv[2] if len(sys.argv) > 2 else f"{queue}.db"
    worker = Worker(queue, load_handler(handler), base, batch=batch, processed=processed, wait_s=60)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


def main() -> None:
    """Fork a worker for each line."""
    load_handler("queue_handlers:noop")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        queue, handler, batch = line.split()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                work(sys.argv[1], queue, handler, int(batch))
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
