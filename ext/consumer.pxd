"""ConsumerLoop: sockets around RiskCore. Frames in, gaps fetched, alerts out, in one nogil thread."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.alertlog cimport AlertLog
from ext.libzmq cimport zmq_msg_t
from ext.records cimport Bytes, FrameView
from ext.journal cimport Journal
from ext.risk cimport RiskCore

cdef enum:
    HELD_MAX = 256                  # frames kept aside while a gap is fetched; what comes beyond is fetched later
    HELD_BYTES_MAX = 67108864
    FETCH_BYTES = 4194304           # asked for at once
    DRAIN_MAX = 64                  # messages taken from one socket before the others have their turn
    ALERTS_PER_MESSAGE = 512
    TOPIC_BYTES_MAX = 63
    TOPIC_KINDS = 32

cdef enum LoopState:
    STATE_CATCHING_UP = 0           # from the start until the first fetch has reached the broker's end
    STATE_LIVE = 1
    STATE_FETCHING = 2              # a gap: frames from the topic are held, the missing ones fetched
    STATE_HALTED = 3                # an error that needs a person; requests are still answered

cdef enum HaltReason:
    HALT_NONE = 0
    HALT_MEMORY = 1
    HALT_CORE_GAP = 2               # the core refused a frame for a gap that this loop should have filled
    HALT_CORE_ERROR = 3             # a Python error inside the core, kept there
    HALT_CORE_CORRUPT = 5           # an id that nothing defined, a wrong kind
    HALT_REMOVED = 6                # what comes next was removed, and no snapshot stands for it
    HALT_EPOCH = 4                  # the broker lost what was applied here, and nobody gives a core to begin again with

cdef struct Topic:
    uint8_t length
    uint8_t text[63]

cdef class ConsumerLoop:
    cdef readonly RiskCore core
    cdef AlertLog log               # the core's
    cdef bint sure                  # what is being fetched began with what was applied last
    cdef Journal journal            # that frames may lie in for good; or None
    cdef object on_refused          # (frame bytes, [(seq, reason number)]) under the GIL
    cdef object on_kill             # (frame bytes) under the GIL: a frame that holds KillSwitch events; or None
    cdef object on_stop             # () under the GIL when limits have stopped somebody; or None
    cdef size_t kills_done          # bytes of core.judge.kills told of
    cdef object on_reset            # () -> RiskCore to begin again with, under the GIL; or None
    cdef object on_removed          # (first seq kept) -> RiskCore to go on with, None: later; under the GIL; or None
    cdef object on_silence          # (bool): nothing is heard of the broker any more, or something again; or None
    cdef object on_tick             # () under the GIL every heartbeat_ns while ticking is set
    cdef public bint ticking
    cdef int64_t tick_at_ns
    cdef object calls               # deque of callables to run between frames
    cdef void* events
    cdef void* replay
    cdef void* alerts               # NULL: nobody is told
    cdef int wake_fd
    cdef volatile bint called       # something is in `calls`
    cdef volatile bint stopping
    cdef bint check_crc
    cdef int64_t heartbeat_ns
    cdef int64_t retry_ns           # a fetch without an answer is asked again
    cdef readonly int state         # LoopState
    cdef readonly int halted_for    # HaltReason
    cdef readonly uint64_t epoch    # of the latest live frame or heartbeat
    cdef readonly uint64_t last_seq # the highest seq the broker is known to have given
    cdef readonly uint64_t sent_no  # alerts up to here were published, or were there before this loop was live
    cdef readonly uint64_t gaps     # how often something missing was fetched, the start not counted
    cdef readonly uint64_t frames   # applied
    cdef readonly uint64_t damaged  # messages that were no frame and no control message
    # Of the frame applied last: a broker of another epoch must have the same one, or it has lost what was applied.
    cdef uint64_t anchor_epoch
    cdef uint64_t anchor_first_seq
    cdef uint32_t anchor_crc32c
    cdef bint doubt                 # another epoch: its frame of applied_seq is asked for, nothing applied before
    cdef readonly uint64_t resets   # how often the broker had lost what was applied
    cdef readonly bint silent       # nothing was heard of the broker for silence_ns
    cdef int64_t silence_ns
    cdef int64_t heard_at_ns
    cdef uint64_t wake_seq          # call on_applied once this seq is applied; 0: nobody waits
    cdef object on_applied
    cdef uint64_t asked_from
    cdef int64_t asked_at_ns
    cdef int64_t beat_at_ns         # when something was last sent on alerts
    cdef size_t refusals_done       # bytes of core.refusals handed on
    cdef readonly uint64_t told_seq # up to here what the core refused was handed on
    cdef zmq_msg_t held[256]
    cdef int held_count
    cdef size_t held_bytes
    cdef Bytes out
    cdef Topic topics[3][32]        # [severity][kind]

    cdef int loop(self) noexcept nogil
    cdef void run_calls(self) noexcept with gil
    cdef void run_tick(self, int64_t now) noexcept with gil
    cdef void halt(self, int reason) noexcept nogil

    cdef int drain_events(self, zmq_msg_t* msg) noexcept nogil
    cdef int open(self, const uint8_t* data, size_t size, FrameView* view) noexcept nogil
    cdef void take_event(self, zmq_msg_t* msg) noexcept nogil
    cdef void take_heartbeat(self, const uint8_t* data) noexcept nogil
    cdef bint is_known(self, uint64_t epoch) noexcept nogil
    cdef bint goes_on(self, const FrameView* view) noexcept nogil
    cdef bint settles_doubt(self, const FrameView* view) noexcept nogil
    cdef void begin_again(self) noexcept nogil
    cdef void reset(self) noexcept with gil
    cdef void take_snapshot(self, uint64_t first_kept) noexcept with gil
    cdef object begin_with(self, RiskCore core)
    cdef void watch_silence(self, int64_t now) noexcept nogil
    cdef void report_silence(self, bint silent) noexcept with gil
    cdef void hold(self, zmq_msg_t* msg) noexcept nogil
    cdef void apply_held(self) noexcept nogil
    cdef void release_held(self) noexcept nogil

    cdef void ask(self) noexcept nogil
    cdef int drain_replay(self, zmq_msg_t* msg) noexcept nogil
    cdef void take_fetched(self, const uint8_t* data) noexcept nogil

    cdef void apply(self, const FrameView* view) noexcept nogil
    cdef void hand_on(self, const FrameView* view) noexcept nogil
    cdef void report_refused(self, const FrameView* view) noexcept with gil
    cdef void report_kills(self, const FrameView* view) noexcept with gil
    cdef void report_stops(self) noexcept with gil
    cdef void report_applied(self) noexcept with gil
    cdef void send_alerts(self) noexcept nogil
    cdef void beat(self, int64_t now_ns) noexcept nogil
