"""The worker kit: runs a handler on the jobs of a queue, competing with other workers.

A handler is `def handle(event, context)` or `async def handle(event, context)`. When it returns, the job is done; when
it raises, the job is handed out again later, to whichever worker is free, and after `max_attempts` it is a dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import queue as queues
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from engine.endpoints import check_base, default_base, endpoint
from engine.errors import UsageError, WorkerUnfit
from engine.handlers import Handler, is_async, load_handler
from engine.jobcontext import BatchContext, JobContext
from engine.joblink import Hand, JobLink
from engine.jobwire import ANNOUNCE
from engine.processed import Processed, SyncThread

__all__ = ["BatchContext", "JobContext", "LeaseExpired", "Worker", "load_handler"]

CUT_AT = 0.9  # of the lease: before the queue takes the job away
CHECKS_PER_LEASE = 20
ANNOUNCE_TIMEOUT_S = 5.0

Work = tuple[Hand, range]  # places in a hand that one call of the handler gets


class LeaseExpired(BaseException):
    """Raised inside a handler that has taken nearly as long as its lease. Not an Exception: handlers let it pass."""


class Worker:
    """One competing worker on a queue.

    queue: its name; one that does not exist yet is made. handler: called once per job with (event, context), or with
    `batch` once per batch with (events, context); one that has a `close` is closed at the end.
    base: the engine's address (default: `RISKWIRE_CONNECT`, else the user's runtime directory).
    concurrency: how many handlers run at once: threads, or for `async def` tasks on one uvloop loop.
    batch: give the handler up to so many events at a time, as many as are there; 0: one event, not in a sequence.
    processed: the SQLite file of `context.once`, opened at once (default: `riskwire-<queue>.db` in the current
    directory, opened when a handler uses it).
    wait_s: how long to look for the engine at the start before EngineUnreachable; later it is waited for.
    """

    def __init__(
        self,
        queue: str,
        handler: Handler,
        base: str | None = None,
        *,
        concurrency: int = 1,
        batch: int = 0,
        processed: str | Path | None = None,
        wait_s: float = 5.0,
        insecure: bool = False,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency {concurrency}: expected at least 1")
        if batch < 0:
            raise UsageError(f"batch {batch}: expected at least 1, or 0 for a handler of one event")
        base = check_base(base or os.environ.get("RISKWIRE_CONNECT") or default_base(), insecure)
        self.queue = queue
        self.done = 0
        self.failed = 0
        self.processed = Processed(processed or f"riskwire-{queue.replace('/', '_')}.db")
        if processed is not None:
            self.processed.check()
        self._syncing = SyncThread(self.processed.sync, self._note_settled)
        self._noting = threading.Lock()
        self._handler = handler
        self._concurrency = concurrency
        self._batch = batch
        self._async = is_async(handler)
        self._threaded = False
        self._own_context = zmq.Context() if context is None else None
        self._link = JobLink(
            context or self._own_context or zmq.Context.instance(),
            endpoint(base, "queue"),
            queue,
            self._deliver,
            self._link_failed,
            batch=batch,
            wait_s=wait_s,
        )
        self._inbox: queues.SimpleQueue[Any] = queues.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: asyncio.Queue[Work | None] | None = None
        self._stopping = False
        self._pid = os.getpid()
        self._error: Exception | None = None
        self._running: dict[Any, float] = {}  # a thread's id or a task: when its handler began

    def run(self) -> None:
        """Work until `stop` is called; then finish what is begun, give the rest back and say goodbye.

        Raises EngineUnreachable where no engine is there, UsageError where the queue refuses this worker.
        """
        self._pid = os.getpid()
        # Only in the main thread can a signal cut a handler that hangs; elsewhere that needs another thread to do it.
        in_main = threading.current_thread() is threading.main_thread()
        self._threaded = not self._async and (self._concurrency > 1 or not in_main)
        try:
            if self._async:
                self._run_async()  # starts the link once there is a loop to deliver to
            elif self._threaded:
                self._link.start()
                self._run_threads()
            else:
                self._link.start()
                self._run_here()
        finally:
            self._leave()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ask the worker to leave; safe from any thread and from a signal handler."""
        self._stopping = True
        self._inbox.put(None)
        if self._loop is not None and self._jobs is not None:
            self._loop.call_soon_threadsafe(self._stop_tasks)

    def _leave(self) -> None:
        self._link.drain()
        self._syncing.close()
        if self._error is None:
            self._link.drained.wait(1.0)
        while True:
            try:
                hand = self._inbox.get_nowait()
            except queues.Empty:
                break
            if isinstance(hand, tuple):
                self._link.release(*hand)
            elif hand is not None:
                self._link.release(hand, list(range(len(hand.seqs))))
        self._link.leave()
        if (close := getattr(self._handler, "close", None)) is not None:
            close()
        self.processed.close()
        if self._own_context is not None:
            self._own_context.term()

    def _deliver(self, hand: Hand) -> None:
        """Take a batch from the link's thread."""
        if self._loop is not None and self._jobs is not None and not self._stopping:
            try:
                self._loop.call_soon_threadsafe(self._enqueue, hand)
                return
            except RuntimeError:  # the loop has just been closed
                pass
        elif self._threaded and not self._stopping:
            for places in self._calls_of(hand):
                self._inbox.put((hand, places))
            return
        self._inbox.put(hand)

    def _link_failed(self, problem: Exception) -> None:
        self._error = problem
        self.stop()

    def _calls_of(self, hand: Hand) -> Iterator[range]:
        """Yield the places in a hand of each call of the handler; a job that must be announced is alone."""
        size, count, start = max(self._batch, 1), len(hand.seqs), 0
        flagged = [i for i, flag in enumerate(hand.flags) if flag & ANNOUNCE]
        for stop in [*flagged, count]:
            for first in range(start, stop, size):
                yield range(first, min(first + size, stop))
            if stop < count:
                yield range(stop, stop + 1)
            start = stop + 1

    def _arguments(self, hand: Hand, places: range, again: bool) -> tuple[Any, BatchContext]:
        """Return what the handler is called with; again: the jobs have failed in a batch a moment ago."""
        start, stop = places.start, places.stop
        seqs, attempts = hand.seqs[start:stop], hand.attempts[start:stop]
        if again:
            attempts = [max(attempt, 2) for attempt in attempts]
        events = hand.events[start:stop]
        about = (self.queue, seqs, attempts, hand.deadline_ns, events, self.processed, hand.flags[start:stop])
        return (events, BatchContext(*about)) if self._batch else (events[0], JobContext(*about))

    def _note_handled(self, hand: Hand, places: range, written: bool) -> None:
        """Take jobs whose handler has returned: they are done once what was written is on the disk."""
        if written:
            self._syncing.add((hand, places))
        else:
            self._note_done(hand, places)

    def _note_settled(self, work: Work, problem: Exception | None) -> None:
        hand, places = work
        if problem is not None:
            self._link.release(hand, places)
            self._link_failed(problem)
            return
        self._note_done(hand, places)
        if hand.settled:
            self._link.wake()

    def _note_done(self, hand: Hand, places: range) -> None:
        hand.done.extend(places)
        with self._noting:
            self.done += len(places)

    def _note_failure(self, hand: Hand, places: range, problem: BaseException) -> bool:
        """Report what a handler raised; False where the jobs of a batch are to be tried one by one instead."""
        if isinstance(problem, LeaseExpired | asyncio.CancelledError):
            if len(places) > 1:
                self._link.release(hand, places, suspect=True)
            else:
                self.failed += 1
                self._link.fail(hand, places.start, "lease", "the handler was cut: it took as long as the lease")
            return True
        if isinstance(problem, WorkerUnfit):
            self._link.release(hand, places)
            self._link_failed(problem)
            return True
        if len(places) > 1:
            return False
        self.failed += 1
        tail = problem.__traceback__.tb_next if problem.__traceback__ else None  # without our own frame
        lines = traceback.format_exception(type(problem), problem, tail)
        text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
        self._link.fail(hand, places.start, "error", text, "".join(lines))
        return True

    def _cut_after_s(self) -> float:
        welcome = self._link.welcome
        return CUT_AT * welcome.lease_ns / 1e9 if welcome is not None else float("inf")

    def _check_every_s(self) -> float:
        cut_after_s = self._cut_after_s()
        return min(max(cut_after_s / CHECKS_PER_LEASE, 0.005), 1.0)

    # --- one handler at a time, in the thread that called run

    def _run_here(self) -> None:
        before = signal.signal(signal.SIGALRM, self._alarm)
        timed = False
        try:
            while not self._stopping:
                hand = self._inbox.get()
                if hand is None:
                    continue
                if not timed:
                    timed = True
                    signal.setitimer(signal.ITIMER_REAL, self._check_every_s(), self._check_every_s())
                with contextlib.suppress(LeaseExpired):  # it came just after the handler had ended
                    self._work_through(hand)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _work_through(self, hand: Hand) -> None:
        for places in self._calls_of(hand):
            if hand.dropped:
                return
            announced = hand.flags[places.start] & ANNOUNCE
            if self._stopping or (announced and not self._announce_and_wait(hand, places.start)):
                self._link.release(hand, range(places.start, len(hand.seqs)))
                return
            self._call(hand, places)
        self._link.wake()

    def _announce_and_wait(self, hand: Hand, index: int) -> bool:
        """Say that a job begins and wait until that is noted; False where it is not ours any more."""
        answer: queues.SimpleQueue[bool] = queues.SimpleQueue()
        self._link.announce(hand, index, answer.put)
        try:
            return answer.get(timeout=ANNOUNCE_TIMEOUT_S)
        except queues.Empty:
            return False

    def _call(self, hand: Hand, places: range, again: bool = False) -> None:
        """Run the handler on some jobs in this thread; where a batch fails, on each of them alone."""
        me = threading.get_ident()
        try:
            self._running[me] = time.monotonic()
            self._handler(*self._arguments(hand, places, again))
            self._end_in_child()
            written = self.processed.settle()
            self._running.pop(me, None)
        except KeyboardInterrupt:  # the second Ctrl-C
            raise
        except BaseException as problem:  # whatever a handler raises is its job's failure and nobody else's
            self._end_in_child()
            self._running.pop(me, None)
            self.processed.rollback()
            if not self._note_failure(hand, places, problem):
                self._call_each(hand, places)
        else:
            self._note_handled(hand, places, written)

    def _end_in_child(self) -> None:
        """End a process that a handler has forked and that came back from it: the jobs are its parent's."""
        if os.getpid() != self._pid:
            os.write(2, b"riskwire worker: a process that a handler forked has returned from it, and ends here\n")
            os._exit(70)

    def _call_each(self, hand: Hand, places: range) -> None:
        for index in places:
            if hand.dropped:
                return
            if self._stopping:
                self._link.release(hand, range(index, places.stop), suspect=True)
                return
            self._call(hand, range(index, index + 1), again=True)

    def _alarm(self, *_: object) -> None:
        """Cut the handler in the main thread once it has taken nearly as long as the lease."""
        me = threading.main_thread().ident
        began = self._running.get(me)
        if began is not None and time.monotonic() - began > self._cut_after_s():
            del self._running[me]
            raise LeaseExpired

    # --- several threads

    def _run_threads(self) -> None:
        threads = [threading.Thread(target=self._thread, daemon=True) for _ in range(self._concurrency)]
        for thread in threads:
            thread.start()
        while not self._stopping and any(thread.is_alive() for thread in threads):
            time.sleep(min(self._check_every_s(), 0.1))
            self._cut_threads()
        for _ in threads:
            self._inbox.put(None)
        deadline = time.monotonic() + min(self._cut_after_s() / CUT_AT, 60.0)
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.05)
                self._cut_threads()

    def _thread(self) -> None:
        while not self._stopping:
            try:
                self._thread_step()
            except LeaseExpired:  # it came just after the handler had ended
                continue

    def _thread_step(self) -> None:
        item = self._inbox.get()
        if item is None or item[0].dropped:
            return
        hand, places = item
        announced = hand.flags[places.start] & ANNOUNCE
        if self._stopping or (announced and not self._announce_and_wait(hand, places.start)):
            self._link.release(hand, places)
        else:
            self._call(hand, places)
            if hand.settled:
                self._link.wake()

    def _cut_threads(self) -> None:
        """Raise LeaseExpired in threads whose handlers run for too long (it arrives at their next bytecode)."""
        now, cut_after_s = time.monotonic(), self._cut_after_s()
        for ident, began in list(self._running.items()):
            if now - began > cut_after_s and self._running.pop(ident, None) is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(LeaseExpired))

    # --- tasks on uvloop

    def _run_async(self) -> None:
        import uvloop

        uvloop.run(self._main())

    async def _main(self) -> None:
        self._jobs = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._link.start()
        if self._stopping:
            self._stop_tasks()
        tasks = [asyncio.create_task(self._task()) for _ in range(self._concurrency)]
        watch = asyncio.create_task(self._watch_tasks())
        try:
            await asyncio.gather(*tasks)
        finally:
            watch.cancel()
            self._loop = None

    def _enqueue(self, hand: Hand) -> None:
        assert self._jobs is not None
        for places in self._calls_of(hand):
            self._jobs.put_nowait((hand, places))

    def _stop_tasks(self) -> None:
        assert self._jobs is not None
        for _ in range(self._concurrency):
            self._jobs.put_nowait(None)

    async def _task(self) -> None:
        assert self._jobs is not None
        while True:
            item = await self._jobs.get()
            if item is None:
                return
            hand, places = item
            if hand.dropped:
                continue
            announced = hand.flags[places.start] & ANNOUNCE
            if self._stopping or (announced and not await self._announce(hand, places.start)):
                self._link.release(hand, places)
            else:
                await self._call_async(hand, places)
                if hand.settled:
                    self._link.wake()

    async def _announce(self, hand: Hand, index: int) -> bool:
        loop = asyncio.get_running_loop()
        noted: asyncio.Future[bool] = loop.create_future()

        def note(yes: bool) -> None:
            if not noted.done():
                noted.set_result(yes)

        def go(yes: bool) -> None:
            loop.call_soon_threadsafe(note, yes)

        self._link.announce(hand, index, go)
        try:
            return await asyncio.wait_for(noted, ANNOUNCE_TIMEOUT_S)
        except TimeoutError:
            return False

    async def _call_async(self, hand: Hand, places: range, again: bool = False) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = time.monotonic()
        try:
            await self._handler(*self._arguments(hand, places, again))
            self._end_in_child()
            written = self.processed.settle()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as problem:
            self._end_in_child()
            self._running.pop(task, None)
            task.uncancel()
            if not self._note_failure(hand, places, problem):
                await self._call_each_async(hand, places)
        else:
            self._note_handled(hand, places, written)
        finally:
            self._running.pop(task, None)

    async def _call_each_async(self, hand: Hand, places: range) -> None:
        for index in places:
            if hand.dropped:
                return
            if self._stopping:
                self._link.release(hand, range(index, places.stop), suspect=True)
                return
            await self._call_async(hand, range(index, index + 1), again=True)

    async def _watch_tasks(self) -> None:
        """Cancel handlers that have taken nearly as long as the lease."""
        while True:
            await asyncio.sleep(self._check_every_s())
            now, cut_after_s = time.monotonic(), self._cut_after_s()
            for task, began in list(self._running.items()):
                if now - began > cut_after_s:
                    task.cancel()
