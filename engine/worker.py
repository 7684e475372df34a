"""The worker kit: runs a handler on the jobs of a queue, competing with other workers.

A handler is `def handle(event, context)` or `async def handle(event, context)`. When it returns, the job is done; when
it raises, the job is handed out again later, to whichever worker is free, and after `max_attempts` it is a dead letter.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import inspect
import os
import queue as queues
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import zmq

from engine.endpoints import check_base, default_base, endpoint
from engine.errors import UsageError
from engine.events import Event
from engine.joblink import Hand, JobLink
from engine.processed import Processed

__all__ = ["JobContext", "LeaseExpired", "Worker", "load_handler"]

Handler = Callable[[Any, "JobContext"], Any]
CUT_AT = 0.9  # of the lease: before the queue takes the job away
CHECKS_PER_LEASE = 20
ANNOUNCE_TIMEOUT_S = 5.0


class LeaseExpired(BaseException):
    """Raised inside a handler that has taken nearly as long as its lease. Not an Exception: handlers let it pass."""


class JobContext:
    """What a handler is told about its job.

    queue: its name. seq: the event's. attempt: from 1; above 1 the handler may have run before.
    deadline_ns: when another worker may get the job, ns since 1970 UTC (the lease runs anew for each job of a batch).
    """

    __slots__ = ("_event", "_processed", "attempt", "deadline_ns", "queue", "seq")

    def __init__(
        self, queue: str, seq: int, attempt: int, deadline_ns: int, event: Event, processed: Processed
    ) -> None:
        self.queue = queue
        self.seq = seq
        self.attempt = attempt
        self.deadline_ns = deadline_ns
        self._event = event
        self._processed = processed

    @property
    def deadline(self) -> int:
        """The same as deadline_ns."""
        return self.deadline_ns

    @property
    def processed(self) -> Processed:
        """The table of jobs that took effect; `context.processed.db` is the connection to its file."""
        return self._processed

    def once(self) -> AbstractContextManager[sqlite3.Connection | None]:
        """Open a transaction in which this job's effect happens once.

        >>> def handle(event, context):
        ...     with context.once() as db:
        ...         if db is not None:  # None: an earlier attempt has done it
        ...             db.execute("INSERT INTO trades VALUES (?, ?)", (context.seq, event.trade_id))
        """
        return self._processed.once(self.queue, self.seq, self._event)


def load_handler(name: str) -> Handler:
    """Return the function that `package.module:function` names; the current directory is looked in first.

    Raises UsageError with the import's own error where there is none.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} names no handler; expected package.module:function")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except Exception as problem:  # whatever the module's own code raises
        text = " ".join(str(problem).split())
        raise UsageError(f"handler {name} cannot be imported: {type(problem).__name__}: {text}") from None
    if not callable(found):
        raise UsageError(f"handler {name} is a {type(found).__name__}; expected a function of (event, context)")
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as problem:
        raise UsageError(f"handler {name} does not take (event, context): {problem}") from None
    except ValueError:  # a builtin without a signature: it is called and we shall see
        pass
    handler: Handler = found
    return handler


def is_async(handler: Handler) -> bool:
    """Tell whether a handler is `async def` (or an object whose `__call__` is)."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - it is looked at, not called
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


class Worker:
    """One competing worker on a queue.

    queue: its name; one that does not exist yet is made. handler: called once per job with (event, context).
    base: the engine's address (default: `RISKWIRE_CONNECT`, else the user's runtime directory).
    concurrency: how many handlers run at once: threads, or for `async def` tasks on one uvloop loop.
    processed: the SQLite file of `context.once` (default `riskwire-<queue>.db` in the current directory).
    wait_s: how long to look for the engine at the start before EngineUnreachable; later it is waited for.
    """

    def __init__(
        self,
        queue: str,
        handler: Handler,
        base: str | None = None,
        *,
        concurrency: int = 1,
        processed: str | Path | None = None,
        wait_s: float = 5.0,
        insecure: bool = False,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency {concurrency}: expected at least 1")
        base = check_base(base or os.environ.get("RISKWIRE_CONNECT") or default_base(), insecure)
        self.queue = queue
        self.done = 0
        self.failed = 0
        self.processed = Processed(processed or f"riskwire-{queue.replace('/', '_')}.db")
        self._handler = handler
        self._concurrency = concurrency
        self._async = is_async(handler)
        self._threaded = concurrency > 1 and not self._async
        self._own_context = zmq.Context() if context is None else None
        self._link = JobLink(
            context or self._own_context or zmq.Context.instance(),
            endpoint(base, "queue"),
            queue,
            self._deliver,
            self._link_failed,
            wait_s=wait_s,
        )
        self._inbox: queues.SimpleQueue[Any] = queues.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: asyncio.Queue[tuple[Hand, int] | None] | None = None
        self._stopping = False
        self._error: Exception | None = None
        self._running: dict[Any, float] = {}  # a thread's id or a task: when its handler began

    def run(self) -> None:
        """Work until `stop` is called; then finish what is begun, give the rest back and say goodbye.

        Raises EngineUnreachable where no engine is there, UsageError where the queue refuses this worker.
        """
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
        if self._error is None:
            self._link.drained.wait(1.0)
        while True:
            try:
                hand = self._inbox.get_nowait()
            except queues.Empty:
                break
            if isinstance(hand, tuple):
                self._link.release(hand[0], [hand[1]])
            elif hand is not None:
                self._link.release(hand, list(range(len(hand.seqs))))
        self._link.leave()
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
            for index in range(len(hand.seqs)):
                self._inbox.put((hand, index))
            return
        self._inbox.put(hand)

    def _link_failed(self, problem: Exception) -> None:
        self._error = problem
        self.stop()

    def _context(self, hand: Hand, index: int) -> JobContext:
        return JobContext(
            self.queue, hand.seqs[index], hand.attempts[index], hand.deadline_ns, hand.events[index], self.processed
        )

    def _note_failure(self, hand: Hand, index: int, problem: BaseException) -> None:
        """Report what a handler raised."""
        self.failed += 1
        if isinstance(problem, LeaseExpired | asyncio.CancelledError):
            self._link.fail(hand, index, "lease", "the handler was cut: it took as long as the lease")
            return
        tail = problem.__traceback__.tb_next if problem.__traceback__ else None  # without our own frame
        lines = traceback.format_exception(type(problem), problem, tail)
        text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
        self._link.fail(hand, index, "error", text, "".join(lines))

    def _cut_after_s(self) -> float:
        welcome = self._link.welcome
        return CUT_AT * welcome.lease_ns / 1e9 if welcome is not None else float("inf")

    def _check_every_s(self) -> float:
        cut_after_s = self._cut_after_s()
        return min(max(cut_after_s / CHECKS_PER_LEASE, 0.005), 1.0)

    # --- one handler at a time, in the thread that called run

    def _run_here(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGALRM, self._alarm) if in_main else None
        timed = False
        try:
            while not self._stopping:
                hand = self._inbox.get()
                if hand is None:
                    continue
                if in_main and not timed:
                    timed = True
                    signal.setitimer(signal.ITIMER_REAL, self._check_every_s(), self._check_every_s())
                self._work_through(hand)
        finally:
            if in_main:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

    def _work_through(self, hand: Hand) -> None:
        count = len(hand.seqs)
        for index in range(count):
            if hand.dropped:
                return
            if self._stopping:
                self._link.release(hand, list(range(index, count)))
                return
            if hand.flags[index] and not self._announce_and_wait(hand, index):
                self._link.release(hand, list(range(index, count)))
                return
            self._call(hand, index)
        self._link.wake()

    def _announce_and_wait(self, hand: Hand, index: int) -> bool:
        """Say that a job begins and wait until that is noted; False where it is not ours any more."""
        answer: queues.SimpleQueue[bool] = queues.SimpleQueue()
        self._link.announce(hand, index, answer.put)
        try:
            return answer.get(timeout=ANNOUNCE_TIMEOUT_S)
        except queues.Empty:
            return False

    def _call(self, hand: Hand, index: int) -> None:
        """Run the handler on one job in this thread."""
        me = threading.get_ident()
        try:
            self._running[me] = time.monotonic()
            self._handler(hand.events[index], self._context(hand, index))
            self._running.pop(me, None)
        except (Exception, SystemExit, LeaseExpired) as problem:
            self._running.pop(me, None)
            self.processed.rollback()
            self._note_failure(hand, index, problem)
        else:
            hand.done.append(index)
            self.done += 1

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
        hand, index = item
        if self._stopping or (hand.flags[index] and not self._announce_and_wait(hand, index)):
            self._link.release(hand, [index])
        else:
            self._call(hand, index)
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
        for index in range(len(hand.seqs)):
            self._jobs.put_nowait((hand, index))

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
            hand, index = item
            if hand.dropped:
                continue
            if self._stopping or (hand.flags[index] and not await self._announce(hand, index)):
                self._link.release(hand, [index])
            else:
                await self._call_async(hand, index)
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

    async def _call_async(self, hand: Hand, index: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = time.monotonic()
        try:
            await self._handler(hand.events[index], self._context(hand, index))
        except (Exception, SystemExit, asyncio.CancelledError) as problem:
            self._note_failure(hand, index, problem)
            task.uncancel()
        else:
            hand.done.append(index)
            self.done += 1
        finally:
            self._running.pop(task, None)

    async def _watch_tasks(self) -> None:
        """Cancel handlers that have taken nearly as long as the lease."""
        while True:
            await asyncio.sleep(self._check_every_s())
            now, cut_after_s = time.monotonic(), self._cut_after_s()
            for task, began in list(self._running.items()):
                if now - began > cut_after_s:
                    task.cancel()
