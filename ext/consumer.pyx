"""The consumer's loop: subscribe first, then fetch what is missing, and drop the overlap by seq.

Everything that arrives is judged by one number, the core's ``applied_seq``: a frame at or below it is overlap, the next
one is applied, one further on is a gap. Nothing else has to be remembered to apply every event exactly once.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from posix.types cimport clockid_t
from posix.unistd cimport read

from ext.alertlog cimport AlertRecord
from ext.libzmq cimport (
    ZMQ_DONTWAIT, ZMQ_POLLIN, ZMQ_SNDMORE, drop_parts, handle_of, lib, poll_items, recv_message, send_bytes,
    zmq_msg_t, zmq_pollitem_t,
)
from ext.journal cimport Journal
from ext.lasting cimport is_lasting
from ext.records cimport (
    EVENT_KILL, FRAME_OK, FRAME_SEQUENCED, Bytes, FrameHeader, FrameView, Record, bytes_free, frame_open, frame_view,
)
from ext.risk cimport CORE_CORRUPT, CORE_GAP, CORE_PYTHON, Refusal, RiskCore
from ext.sequencer cimport (
    CONTROL_BYTES, CONTROL_FETCH, CONTROL_FETCHED, CONTROL_HEARTBEAT, CONTROL_MAGIC, CONTROL_VERSION, Control,
)

STATES = ("catching up", "live", "fetching", "halted")
HALTS = {
    HALT_MEMORY: "out of memory while applying a frame",
    HALT_CORE_GAP: "the core refused a frame for a gap; this is a defect of riskwire",
    HALT_CORE_ERROR: "the core could not apply an event",
    HALT_CORE_CORRUPT: "the broker gave a frame that no broker makes",
    HALT_EPOCH: "the broker has lost what was applied here",
    HALT_REMOVED: "the events that come next were removed, and no snapshot can be had that stands for them",
}


cdef inline int64_t now_ns(clockid_t clock=CLOCK_MONOTONIC) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef inline bint is_again(int status) noexcept nogil:
    return status == -EAGAIN


cdef inline bint is_control(const uint8_t* data, size_t size, uint8_t kind) noexcept nogil:
    cdef const Control* control = <const Control*>data
    return (size >= CONTROL_BYTES and control.magic == CONTROL_MAGIC and control.version == CONTROL_VERSION
            and control.type == kind)


cdef int halt_reason(int status) noexcept nogil:
    if status == CORE_GAP:
        return HALT_CORE_GAP
    if status == CORE_PYTHON:
        return HALT_CORE_ERROR
    return HALT_CORE_CORRUPT if status == CORE_CORRUPT else HALT_MEMORY


cdef inline void fill_control(Control* control, uint8_t kind, uint64_t epoch, uint64_t a, uint64_t b,
                              uint64_t c) noexcept nogil:
    memset(control, 0, sizeof(Control))
    control.magic = CONTROL_MAGIC
    control.version = CONTROL_VERSION
    control.type = kind
    control.epoch = epoch
    control.a = a
    control.b = b
    control.c = c


cdef class ConsumerLoop:
    """One consumer of the sequence: run it in a thread of its own.

    core: the RiskCore that frames are applied to; it belongs to this loop's thread while the loop runs.
    topics: (severity number, kind number) to the topic, as bytes, that such alerts are published under.
    on_refused: called with (frame bytes, [(seq, reason number)]) for what the core refused in the sequence.
    on_kill: called with the bytes of a frame that holds KillSwitch events once it is applied; None: not called.
    journal: the broker's, where it is of this process and nothing of it is ever removed: the core then remembers trades by
    their records in it.
    check_crc: verify the CRC of every frame (over inproc the bytes never left this process; with journal, too, nothing in
    them is checked again).
    on_stop: called once with nothing when limits have stopped somebody (``core.kills()`` says whom); None: not called.
    on_reset: called when the broker has lost what was applied (it has another frame at applied_seq); returns the RiskCore
    to begin again with. None: the loop halts instead.
    on_removed: called with the first seq kept where what comes next has been removed; returns a RiskCore that has applied at
    least what is below it, None to be asked again later. None: the loop halts instead.
    on_silence: called with True when nothing was heard of the broker for silence_ns, with False when it is back.
    on_tick: called every heartbeat_ns while ``ticking`` is set, for work of the callbacks that waits on others.
    heartbeat_ns: how long the alerts socket may be silent; retry_ns: when to repeat a fetch that nobody answered.
    """

    def __init__(self, RiskCore core not None, topics, on_refused, on_kill=None, on_stop=None, on_tick=None, on_reset=None,
                 on_silence=None, on_removed=None, Journal journal=None, bint check_crc=True, int64_t heartbeat_ns=200_000_000, int64_t retry_ns=500_000_000,
                 int64_t silence_ns=2_000_000_000):
        from collections import deque

        self.core = core
        self.journal = journal
        self.log = core.alerts
        self.on_refused = on_refused
        self.on_kill = on_kill
        self.on_stop = on_stop
        self.on_tick = on_tick
        self.on_reset = on_reset
        self.on_silence = on_silence
        self.on_removed = on_removed
        self.silence_ns = silence_ns
        self.refusals_done = core.refusals.size     # those of a restored core are with the sink
        self.told_seq = core.applied_seq
        self.check_crc = check_crc
        self.heartbeat_ns = heartbeat_ns
        self.retry_ns = retry_ns
        self.calls = deque()
        for (severity, kind), topic in topics.items():
            self.set_topic(severity, kind, topic)

    def __cinit__(self):
        self.events = self.replay = self.alerts = NULL
        self.wake_fd = -1
        self.held_count = 0

    def __dealloc__(self):
        self.release_held()
        bytes_free(&self.out)

    def set_topic(self, size_t severity, size_t kind, bytes topic not None):
        """Publish alerts of a severity and kind under ``topic`` (at most 63 bytes)."""
        if severity >= 3 or kind >= TOPIC_KINDS or len(topic) > TOPIC_BYTES_MAX:
            raise ValueError(f"no room for topic {topic!r} of severity {severity}, kind {kind}")
        self.topics[severity][kind].length = <uint8_t>len(topic)
        memcpy(self.topics[severity][kind].text, <const char*>topic, len(topic))

    def run(self, events, replay, alerts, int wake_fd):
        """Consume until ``stop`` is called. Call it in the thread that made the sockets.

        events: SUB, subscribed to ``RW``; replay: DEALER; alerts: PUB, or None; wake_fd: the readable end of a pipe
        or socket that whoever calls ``call`` or ``stop`` writes a byte into (non-blocking).
        """
        cdef int status
        self.events = handle_of(events)
        self.replay = handle_of(replay)
        self.alerts = handle_of(alerts) if alerts is not None else NULL
        self.wake_fd = wake_fd
        with nogil:
            status = self.loop()
            self.release_held()
        self.events = self.replay = self.alerts = NULL
        self.run_calls()
        if status < 0:
            raise OSError(-status, lib.strerror(-status).decode())

    def call(self, function):
        """Have ``function()`` run in the loop's thread, between two frames. The caller wakes the loop."""
        self.calls.append(function)
        self.called = True

    def stop(self):
        """Have ``run`` return after the frame at hand. The caller wakes the loop."""
        self.stopping = True

    def wake_at(self, uint64_t seq, on_applied):
        """Call ``on_applied()`` once when ``seq`` is applied (0: never). Only to be called inside ``call``."""
        self.wake_seq = seq
        self.on_applied = on_applied
        if seq and self.core.applied_seq >= seq:
            self.report_applied()

    @property
    def state_name(self):
        """What the loop is doing: one of STATES."""
        return STATES[self.state]

    cdef int loop(self) noexcept nogil:
        """0: stopped; otherwise minus libzmq's error number."""
        cdef zmq_pollitem_t items[3]
        cdef zmq_msg_t msg
        cdef uint8_t drained[64]
        cdef int64_t now
        cdef int64_t wait_ns
        cdef int ready, status = 0
        memset(items, 0, sizeof(items))
        items[0].fd = self.wake_fd
        items[1].socket = self.events
        items[2].socket = self.replay
        items[0].events = items[1].events = items[2].events = ZMQ_POLLIN
        lib.msg_init(&msg)
        self.beat_at_ns = self.heard_at_ns = now_ns()
        if self.core.judge.kills.size > self.kills_done:
            self.report_stops()         # of a restored core: told again, since nobody knows whether they were heard
        if self.state != STATE_HALTED:
            self.ask()
        while not self.stopping:
            if self.called:
                self.run_calls()
                continue
            now = now_ns()
            if self.alerts != NULL and now - self.beat_at_ns >= self.heartbeat_ns:
                self.beat(now)
            wait_ns = self.heartbeat_ns - (now - self.beat_at_ns) if self.alerts != NULL else 1000000000
            if self.ticking:
                if now - self.tick_at_ns >= self.heartbeat_ns:
                    self.run_tick(now)
                wait_ns = min(wait_ns, self.heartbeat_ns - (now - self.tick_at_ns))
            if self.state == STATE_CATCHING_UP or self.state == STATE_FETCHING:
                if now - self.asked_at_ns >= self.retry_ns:
                    self.ask()
                wait_ns = min(wait_ns, self.retry_ns - (now - self.asked_at_ns))
            if not self.silent:
                wait_ns = min(wait_ns, self.silence_ns - (now - self.heard_at_ns))
            ready = poll_items(items, 1 if self.state == STATE_HALTED else 3, max(0, wait_ns // 1000000 + 1))
            if ready < 0:
                status = ready
                break
            if items[0].revents:
                read(self.wake_fd, drained, sizeof(drained))
            if self.state == STATE_HALTED:
                continue
            if items[1].revents or items[2].revents:
                self.heard_at_ns = now_ns()
            self.watch_silence(now_ns())    # after looking: what waited while this thread was busy counts
            if items[2].revents:
                status = self.drain_replay(&msg)
            if items[1].revents and status == 0:
                status = self.drain_events(&msg)
            if status < 0:
                break
        lib.msg_close(&msg)
        return status

    cdef void run_calls(self) noexcept with gil:
        self.called = False
        while self.calls:
            self.calls.popleft()()

    cdef void run_tick(self, int64_t now) noexcept with gil:
        self.tick_at_ns = now
        if self.on_tick is not None:
            self.on_tick()

    cdef void halt(self, int reason) noexcept nogil:
        self.state = STATE_HALTED
        self.halted_for = reason
        if self.wake_seq:
            self.report_applied()       # whoever waits for a seq must hear that it will not come

    cdef void watch_silence(self, int64_t now) noexcept nogil:
        """Say aloud when nothing is heard of the broker any more, and when it is back."""
        cdef bint silent = now - self.heard_at_ns >= self.silence_ns
        if silent != self.silent and self.state != STATE_HALTED:
            self.silent = silent
            self.report_silence(silent)

    cdef void report_silence(self, bint silent) noexcept with gil:
        if self.on_silence is not None:
            self.on_silence(bool(silent))

    # --- the topic: frames as the broker gives them ---------------------------------------------------------------

    cdef int drain_events(self, zmq_msg_t* msg) noexcept nogil:
        cdef int i, status
        for i in range(DRAIN_MAX):
            if self.called or self.stopping or self.state == STATE_HALTED:
                return 0
            status = recv_message(self.events, msg, ZMQ_DONTWAIT)
            if status < 0:
                return 0 if is_again(status) else status
            if lib.msg_more(msg):
                drop_parts(self.events)
            self.take_event(msg)
        return 0

    cdef int open(self, const uint8_t* data, size_t size, FrameView* view) noexcept nogil:
        # What the broker of this process wrote, nobody else had in hand.
        if self.journal is not None and not self.check_crc:
            return frame_view(data, size, view)
        return frame_open(data, size, self.check_crc, view)

    cdef void take_event(self, zmq_msg_t* msg) noexcept nogil:
        cdef const uint8_t* data = <const uint8_t*>lib.msg_data(msg)
        cdef size_t size = lib.msg_size(msg)
        cdef FrameView view
        cdef uint64_t last
        if is_control(data, size, CONTROL_HEARTBEAT):
            self.take_heartbeat(data)
            return
        if self.open(data, size, &view) != FRAME_OK or view.header.kind != FRAME_SEQUENCED:
            self.damaged += 1           # what it held is missing now, and fetched as any gap is
            return
        last = view.header.first_seq + view.header.record_count - 1
        if not self.is_known(view.header.epoch):
            self.hold(msg)
            return
        self.last_seq = max(self.last_seq, last)
        if last <= self.core.applied_seq:
            return
        if self.state != STATE_LIVE:
            self.hold(msg)
        elif view.header.first_seq <= self.core.applied_seq + 1:
            self.apply(&view)
        else:
            self.hold(msg)
            self.state = STATE_FETCHING
            self.gaps += 1
            self.ask()

    cdef void take_heartbeat(self, const uint8_t* data) noexcept nogil:
        cdef const Control* control = <const Control*>data
        if not self.is_known(control.epoch):
            return
        self.last_seq = max(self.last_seq, control.a)
        if self.state == STATE_LIVE and control.a > self.core.applied_seq:
            self.state = STATE_FETCHING
            self.gaps += 1
            self.ask()

    # --- epochs: has the broker lost what was applied here? -------------------------------------------------------

    cdef bint is_known(self, uint64_t epoch) noexcept nogil:
        """Whether what this epoch says can be used. Another epoch than before may have lost its tail and given the same
        seqs to other events since: its frame of applied_seq is asked for first."""
        if epoch == self.epoch:
            return not self.doubt
        self.epoch = epoch
        if self.anchor_epoch == 0 or self.doubt:
            return not self.doubt       # nothing of any epoch was applied yet
        self.doubt = True
        self.last_seq = 0
        self.release_held()
        if self.state == STATE_LIVE:
            self.state = STATE_FETCHING
        self.ask()
        return False

    cdef bint goes_on(self, const FrameView* view) noexcept nogil:
        """Whether a frame that was fetched surely follows what was applied. One of another epoch may come from a broker that
        was asked before it lost its tail: then the frame of applied_seq is asked for first, and answers for all behind it."""
        if self.sure or self.anchor_epoch == 0 or view.header.epoch == self.anchor_epoch:
            return True
        self.doubt = True
        self.ask()
        return False

    cdef bint settles_doubt(self, const FrameView* view) noexcept nogil:
        """Compare the broker's frame of applied_seq with the one applied; True: it is the same."""
        cdef uint64_t first = view.header.first_seq
        if not first <= self.core.applied_seq < first + view.header.record_count:
            return False
        if (view.header.epoch != self.anchor_epoch or first != self.anchor_first_seq
                or view.header.crc32c != self.anchor_crc32c):
            self.begin_again()
            return False
        self.doubt = False
        return True

    cdef void begin_again(self) noexcept nogil:
        if self.on_reset is None:
            self.halt(HALT_EPOCH)
        else:
            self.reset()

    cdef void reset(self) noexcept with gil:
        """Start over with another core, as if this loop had just been started."""
        self.resets += 1
        try:
            self.begin_with(self.on_reset())
        except BaseException:
            self.halt(HALT_EPOCH)
            raise                       # printed: nothing can be raised from here

    cdef void take_snapshot(self, uint64_t first_kept) noexcept with gil:
        """Go on from a snapshot: what comes after applied_seq has been removed."""
        try:
            core = self.on_removed(first_kept) if self.on_removed is not None else self.core
            if core is not None:
                if core.applied_seq + 1 < first_kept:
                    self.halt(HALT_REMOVED)
                else:
                    self.begin_with(core)
                    if self.wake_seq and self.core.applied_seq >= self.wake_seq:
                        self.report_applied()
        except Exception:
            self.halt(HALT_REMOVED)     # who gave on_removed knows why

    cdef object begin_with(self, RiskCore core):
        self.core = core
        self.log = self.core.alerts
        self.refusals_done = self.core.refusals.size
        self.told_seq = self.core.applied_seq
        self.kills_done = self.core.judge.kills.size
        self.sent_no = 0
        self.doubt = False
        self.anchor_epoch = 0
        self.last_seq = 0
        self.release_held()
        self.state = STATE_CATCHING_UP
        self.ask()

    cdef void hold(self, zmq_msg_t* msg) noexcept nogil:
        if self.held_count == HELD_MAX or self.held_bytes >= HELD_BYTES_MAX:
            return                      # fetched later: the next frame that is applied shows the gap again
        lib.msg_init(&self.held[self.held_count])
        lib.msg_move(&self.held[self.held_count], msg)
        self.held_bytes += lib.msg_size(&self.held[self.held_count])
        self.held_count += 1

    cdef void apply_held(self) noexcept nogil:
        """Apply what was held up to the next gap, and keep the rest."""
        cdef FrameView view
        cdef int taken = 0, i
        while taken < self.held_count and self.state != STATE_HALTED:
            frame_view(<const uint8_t*>lib.msg_data(&self.held[taken]), lib.msg_size(&self.held[taken]), &view)
            if view.header.first_seq > self.core.applied_seq + 1:
                break
            if view.header.first_seq + view.header.record_count - 1 > self.core.applied_seq:
                self.apply(&view)
            self.held_bytes -= lib.msg_size(&self.held[taken])
            lib.msg_close(&self.held[taken])
            taken += 1
        if taken == 0:
            return                      # and nothing moves: a message moved onto itself is none any more
        for i in range(taken, self.held_count):
            lib.msg_init(&self.held[i - taken])
            lib.msg_move(&self.held[i - taken], &self.held[i])
            lib.msg_close(&self.held[i])
        self.held_count -= taken

    cdef void release_held(self) noexcept nogil:
        cdef int i
        for i in range(self.held_count):
            lib.msg_close(&self.held[i])
        self.held_count = 0
        self.held_bytes = 0

    # --- the replay socket: what is missing -----------------------------------------------------------------------

    cdef void ask(self) noexcept nogil:
        """Ask for what comes after applied_seq: up to the first frame held, or to the broker's end."""
        cdef Control control
        cdef uint64_t upto = 0, first = self.core.applied_seq + 1
        if self.doubt:
            first -= 1                  # the frame to compare with, and what follows it
        elif self.held_count:
            upto = (<const FrameHeader*>lib.msg_data(&self.held[0])).first_seq - 1
        fill_control(&control, CONTROL_FETCH, self.epoch, first, upto, FETCH_BYTES)
        self.asked_from = self.core.applied_seq + 1
        self.sure = False
        self.asked_at_ns = now_ns()
        # A full socket (no broker for long) is no error: it is asked again after retry_ns.
        send_bytes(self.replay, &control, CONTROL_BYTES, ZMQ_DONTWAIT)

    cdef int drain_replay(self, zmq_msg_t* msg) noexcept nogil:
        cdef FrameView view
        cdef const uint8_t* data
        cdef size_t size
        cdef int i, status
        for i in range(DRAIN_MAX):
            if self.called or self.stopping or self.state == STATE_HALTED:
                return 0
            status = recv_message(self.replay, msg, ZMQ_DONTWAIT)
            if status < 0:
                return 0 if is_again(status) else status
            if lib.msg_more(msg):
                drop_parts(self.replay)
            data = <const uint8_t*>lib.msg_data(msg)
            size = lib.msg_size(msg)
            if is_control(data, size, CONTROL_FETCHED):
                self.take_fetched(data)
            elif self.open(data, size, &view) != FRAME_OK or view.header.kind != FRAME_SEQUENCED:
                self.damaged += 1
            elif self.doubt:
                self.sure = self.settles_doubt(&view)
            elif (view.header.first_seq <= self.core.applied_seq + 1
                    and view.header.first_seq + view.header.record_count - 1 > self.core.applied_seq
                    and self.goes_on(&view)):
                self.asked_at_ns = now_ns()     # something comes: do not ask for it again meanwhile
                self.apply(&view)
        return 0

    cdef void take_fetched(self, const uint8_t* data) noexcept nogil:
        cdef const Control* control = <const Control*>data
        cdef uint64_t target
        self.sure = False
        if self.state == STATE_LIVE:
            return
        if not self.is_known(control.epoch):
            if self.doubt and control.epoch == self.epoch and control.a and control.b < self.core.applied_seq:
                self.begin_again()      # it ends before what was applied
            elif self.doubt and control.epoch == self.epoch and control.c > self.core.applied_seq:
                self.take_snapshot(control.c)   # the frame to compare with is removed
            return
        self.last_seq = max(self.last_seq, control.b)
        if control.c > self.core.applied_seq + 1:
            self.take_snapshot(control.c)
            return
        self.apply_held()
        if self.state == STATE_HALTED:
            return
        target = self.last_seq
        if self.held_count:
            target = (<const FrameHeader*>lib.msg_data(&self.held[0])).first_seq - 1
        if self.core.applied_seq < target:
            # Without progress the broker has not got it (yet): the retry asks again, not a busy loop.
            if self.core.applied_seq + 1 > self.asked_from:
                self.ask()
            return
        if self.state == STATE_CATCHING_UP:
            # What was alerted before is history: subscribers ask for it, and the heartbeat tells them how much.
            self.sent_no = self.log.count
            self.state = STATE_LIVE
            if self.alerts != NULL:
                self.beat(now_ns())
        self.state = STATE_LIVE

    # --- applying, and who hears of it ----------------------------------------------------------------------------

    cdef void apply(self, const FrameView* view) noexcept nogil:
        cdef bint lasting = self.journal is not None and is_lasting(self.core.book, self.journal, view)
        cdef int status = self.core.apply_frame(view, lasting)
        if status != 0:
            self.halt(halt_reason(status))
            return
        self.frames += 1
        self.anchor_epoch = view.header.epoch
        self.anchor_first_seq = view.header.first_seq
        self.anchor_crc32c = view.header.crc32c
        self.hand_on(view)
        if self.wake_seq and self.core.applied_seq >= self.wake_seq:
            self.report_applied()

    cdef void hand_on(self, const FrameView* view) noexcept nogil:
        cdef size_t i
        cdef int64_t now
        if self.core.refusals.size > self.refusals_done:
            self.report_refused(view)
        self.told_seq = self.core.applied_seq
        if self.core.judge.kills.size > self.kills_done:
            self.report_stops()
        if self.alerts == NULL:
            return
        for i in range(view.header.record_count):
            if view.records[i].type == EVENT_KILL:
                self.report_kills(view)
                break
        if self.state != STATE_CATCHING_UP and self.log.count > self.sent_no:
            self.send_alerts()
            return
        now = now_ns()
        if now - self.beat_at_ns >= self.heartbeat_ns:
            self.beat(now)

    cdef void report_refused(self, const FrameView* view) noexcept with gil:
        cdef const Refusal* refusal
        cdef size_t at = self.refusals_done
        found = []
        while at + sizeof(Refusal) <= self.core.refusals.size:
            refusal = <const Refusal*>(self.core.refusals.data + at)
            found.append((refusal.seq, refusal.reason))
            at += sizeof(Refusal)
        self.refusals_done = at
        self.on_refused((<const char*>view.header)[:view.size], found)

    cdef void report_kills(self, const FrameView* view) noexcept with gil:
        if self.on_kill is not None and self.state != STATE_CATCHING_UP:
            for topic, body in self.on_kill((<const char*>view.header)[:view.size]):
                send_bytes(self.alerts, <const char*>topic, len(topic), ZMQ_SNDMORE | ZMQ_DONTWAIT)
                send_bytes(self.alerts, <const char*>body, len(body), ZMQ_DONTWAIT)

    cdef void report_stops(self) noexcept with gil:
        self.kills_done = self.core.judge.kills.size
        if self.on_stop is not None:
            self.on_stop()

    cdef void report_applied(self) noexcept with gil:
        done = self.on_applied
        self.wake_seq = 0
        self.on_applied = None
        if done is not None:
            done()

    cdef void send_alerts(self) noexcept nogil:
        """Publish alerts sent_no + 1 … as messages of neighbours with one topic."""
        cdef const AlertRecord* records = <const AlertRecord*>self.log.records.data
        cdef const Topic* topic
        cdef uint64_t first = self.sent_no
        cdef uint64_t end
        cdef int64_t stamped_at = now_ns(CLOCK_REALTIME)    # applied and judged: the rest is the way to who hears it
        while first < self.log.count:
            end = first + 1
            while (end < self.log.count and end - first < ALERTS_PER_MESSAGE and records[end].kind == records[first].kind
                    and records[end].severity == records[first].severity):
                end += 1
            if self.log.build_frame(first + 1, <uint32_t>(end - first), self.epoch, stamped_at, &self.out) < 0:
                self.halt(HALT_MEMORY)
                return
            topic = &self.topics[records[first].severity % 3][records[first].kind % TOPIC_KINDS]
            send_bytes(self.alerts, topic.text, topic.length, ZMQ_SNDMORE | ZMQ_DONTWAIT)
            send_bytes(self.alerts, self.out.data, self.out.size, ZMQ_DONTWAIT)
            first = end
        self.sent_no = self.log.count
        self.beat_at_ns = now_ns()

    cdef void beat(self, int64_t now) noexcept nogil:
        cdef Control control
        if self.state == STATE_HALTED:
            return                      # silence is what tells subscribers that nothing is judged any more
        fill_control(&control, CONTROL_HEARTBEAT, self.epoch, max(self.last_seq, self.core.applied_seq),
                     self.core.applied_seq, self.log.count)
        send_bytes(self.alerts, b"heartbeat", 9, ZMQ_SNDMORE | ZMQ_DONTWAIT)
        send_bytes(self.alerts, &control, CONTROL_BYTES, ZMQ_DONTWAIT)
        self.beat_at_ns = now


def preset_limits(RiskCore core not None, bytes source):
    """Put limits (canonical JSON) in force in a core that has applied nothing yet, without an event of their own."""
    if core.applied_seq:
        raise ValueError(f"limits can be preset before the first event; the core has applied {core.applied_seq}")
    core.change_limits(source, 0)


def frames_with(Journal journal not None, types):
    """Indices of a journal's frames that define names or hold a record of any of these event types, in order."""
    cdef uint32_t wanted = 0
    cdef uint64_t index = journal.first_frame(), count = journal.frames()
    for number in types:
        wanted |= <uint32_t>1 << <uint32_t>number
    found = []
    while index < count:
        with nogil:
            index = next_with(journal, index, count, wanted)
        if index < count:
            found.append(index)
            index += 1
    return found


cdef uint64_t next_with(Journal journal, uint64_t index, uint64_t count, uint32_t wanted) noexcept nogil:
    cdef const FrameHeader* header
    cdef const Record* records
    cdef uint32_t i
    while index < count:
        header = <const FrameHeader*>journal.frame_at(index)
        if header.definition_bytes:
            return index
        records = <const Record*>(<const uint8_t*>header + sizeof(FrameHeader))
        for i in range(header.record_count):
            if wanted >> (records[i].type & 31) & 1:
                return index
        index += 1
    return count
