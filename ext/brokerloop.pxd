"""BrokerLoop: sockets around the Sequencer, in one nogil thread."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.journal cimport Journal
from ext.libzmq cimport zmq_msg_t
from ext.records cimport Bytes, FrameView
from ext.sequencer cimport Control, Sequencer, SourceState

cdef enum:
    DRAIN_MAX = 256                 # messages taken from one socket before the others have their turn,
    DRAIN_BYTES_MAX = 8388608       # and bytes: 10 ms of work
    FETCHES_MAX = 64                # answered before the replay loop looks whether it should end
    FETCH_FRAMES_MAX = 512          # frames in one answer to a FETCH
    FETCH_BYTES_MAX = 8388608
    RAW_BYTES_MAX = 1048576         # of a malformed message that are kept for its dead letter
    RETRY_MS = 100                  # between tries while the journal cannot grow
    SINK_MS = 100                   # between looks at a sink that owes confirmations
    NAK_AGAIN_NS = 100000000

cdef struct HeldAck:
    uint64_t batch_no               # of the sink's batch with the refused records of a frame
    uint64_t before                 # the source_seq before that frame

@cython.final
cdef class BrokerLoop:
    cdef readonly Sequencer sequencer
    cdef Journal journal
    cdef object on_refused          # (frame bytes, Source, skip, [(index, reason, text)]) -> batch_no, 0: no sink
    cdef object on_malformed        # (reason number, text, raw bytes)
    cdef object sink_client         # engine.sink.SinkClient or None
    cdef object on_plain            # (raw bytes) -> (reply bytes, batch_no): one event as JSON or msgpack; or None
    cdef object calls               # deque of callables to run between two rounds
    cdef volatile bint called       # something is in `calls`
    cdef object plain_replies       # deque of (identity, with an empty part first, reply, batch_no)
    cdef size_t plain_waiting       # how many
    cdef object on_trouble          # (text): the journal cannot be written, or can again ("")
    cdef dict source_objects        # incarnation -> Source: keeps the states alive
    cdef SourceState** sources
    cdef readonly size_t source_count
    cdef readonly size_t sources_max
    cdef bint check_crc             # of frames that come in
    cdef size_t last_found
    cdef Bytes dirty                # SourceState*: acks are due
    cdef void* publish
    cdef void* events
    cdef void* control
    cdef void* sink                 # NULL: none
    cdef bint stopping
    cdef bint sink_full
    cdef readonly bint stalled      # the journal cannot grow or sync
    cdef readonly object failure    # what ended the loop, or None
    cdef readonly uint32_t credit   # frames a publisher may have unacked
    cdef int64_t heartbeat_ns
    cdef int64_t beat_at_ns
    cdef int64_t retry_at_ns
    cdef int64_t sink_at_ns
    cdef uint64_t confirmed         # batches that the sink has stored
    cdef uint64_t batches           # batches sent to it
    cdef readonly uint64_t published        # frames of the journal that were sent on events
    cdef readonly uint64_t frames_in
    cdef readonly uint64_t accepted
    cdef readonly uint64_t duplicates
    cdef readonly uint64_t refused
    cdef readonly uint64_t malformed
    cdef readonly uint64_t resent           # frames, or parts, that were taken before
    cdef readonly uint64_t naks

    cdef int loop(self) noexcept nogil
    cdef int wait(self, zmq_msg_t* msg) noexcept nogil
    cdef long wait_ms(self) noexcept nogil
    cdef int drain_publish(self, zmq_msg_t* msg) noexcept nogil
    cdef int take_waiting(self, zmq_msg_t* msg) noexcept nogil
    cdef int take(self, const uint8_t* identity, size_t length, zmq_msg_t* msg) noexcept nogil
    cdef int take_frame(self, const uint8_t* identity, size_t length, const uint8_t* data, size_t size) noexcept nogil
    cdef int take_records(self, SourceState* source, const FrameView* view) noexcept nogil
    cdef void take_control(self, const uint8_t* identity, size_t length, const uint8_t* data, size_t size) noexcept nogil
    cdef SourceState* find_source(self, uint64_t incarnation) noexcept nogil
    cdef SourceState* welcome_source(self, const Control* hello, const uint8_t* text) noexcept with gil
    cdef void forget_stalest(self)
    cdef void set_identity(self, SourceState* source, const uint8_t* identity, size_t length) noexcept nogil
    cdef int mark_dirty(self, SourceState* source) noexcept nogil
    cdef void send_acks(self) noexcept nogil
    cdef void send_ack(self, SourceState* source) noexcept nogil
    cdef void nak(self, const uint8_t* identity, size_t length, uint64_t incarnation, uint64_t expected) noexcept nogil
    cdef void reply(self, void* socket, const uint8_t* identity, size_t length, const Control* control) noexcept nogil
    cdef void fill(self, Control* control, uint8_t type, uint64_t incarnation) noexcept nogil
    cdef int make_durable(self) noexcept nogil
    cdef int publish_frames(self) noexcept nogil
    cdef uint64_t last_published(self) noexcept nogil
    cdef void beat(self) noexcept nogil
    cdef void run_calls(self) noexcept with gil
    cdef void report_malformed(self, int reason, int error, const uint8_t* data, size_t size) noexcept with gil
    cdef int take_plain(self, const uint8_t* identity, size_t length, zmq_msg_t* msg, bint delimited) noexcept nogil
    cdef void report_plain(self, const uint8_t* identity, size_t length, zmq_msg_t* msg, bint delimited) noexcept with gil
    cdef void send_plain_replies(self) noexcept with gil
    cdef uint64_t report_refused(self, SourceState* source, const FrameView* view, uint32_t skip) noexcept with gil
    cdef void report_trouble(self) noexcept with gil
    cdef void take_confirmations(self) noexcept with gil
    cdef void release_held(self) noexcept nogil

@cython.final
cdef class ReplayLoop:
    cdef BrokerLoop broker
    cdef Journal journal
    cdef void* replay
    cdef void* control
    cdef readonly uint64_t fetches
    cdef readonly uint64_t malformed

    cdef int loop(self) noexcept nogil
    cdef void drain_replay(self, zmq_msg_t* msg) noexcept nogil
    cdef int send_frames(self, const uint8_t* identity, size_t length, const Control* fetch, Control* fetched) noexcept nogil
    cdef void answer_fetch(self, const uint8_t* identity, size_t length, const Control* fetch) noexcept nogil
