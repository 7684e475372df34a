"""The broker's two threads: publishers in, frames out, acks back; and, off that path, what is fetched again.

Everything that is there is drained before anything is waited for, in bounded pieces, so one busy socket does not
starve the others. An ack is sent when its records are in the journal (with sync = "group": on the disk) and what was
refused of them is in the sink. Python is called only for what is rare: hellos, refusals, malformed messages.
"""

cimport cython
from libc.errno cimport EAGAIN
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import os
from collections import deque

from ext.journal cimport Journal, frame_bytes
from ext.libzmq cimport (
    ZMQ_DONTWAIT, ZMQ_ETERM, ZMQ_POLLIN, ZMQ_SNDMORE, drop_parts, handle_of, lib, poll_items, recv_bytes, recv_message,
    send_bytes, zmq_msg_t, zmq_pollitem_t,
)
from ext.records cimport (
    FRAME_BAD_CONTENT, FRAME_BAD_VERSION, FRAME_MAGIC, FRAME_UNSEQUENCED, REASON_UNDECODABLE,
    REASON_UNSUPPORTED_VERSION, Bytes, FrameHeader, FrameView, bytes_append, bytes_free, frame_open,
)
from ext.sequencer cimport (
    CONTROL_ACK, CONTROL_BYTES, CONTROL_FETCH, CONTROL_FETCHED, CONTROL_HEARTBEAT, CONTROL_HELLO, CONTROL_MAGIC,
    CONTROL_NAK, CONTROL_VERSION, CONTROL_WELCOME, SOURCE_TEXT_BYTES_MAX, Control, Refused, Sequencer, Source,
    SourceState, source_state,
)
from ext.records import FRAME_ERRORS

cdef extern from "journal_os.h" nogil:
    uint64_t rw_load_acquire(const uint64_t* p)
    void rw_store_release(uint64_t* p, uint64_t v)

cdef enum:
    IDENTITY_BYTES_MAX = 255
    PLAIN_REPLIES_MAX = 65536       # kept for peers that do not read
    PLAIN_AGAIN_NS = 5000000
    ERROR_KIND = 100                # beside FrameError: what else can be wrong with a message
    ERROR_PARTS = 101
    ERROR_CONTROL = 102
    ERROR_CONTROL_VERSION = 103
    ERROR_SOURCE_NAME = 104
    ERROR_MAGIC = 105

ERRORS = {
    ERROR_KIND: "a frame of this kind does not belong here; a publisher sends unsequenced frames",
    ERROR_PARTS: "a message has one part",
    ERROR_CONTROL: "no control message a publisher may send, or of a wrong size",
    ERROR_CONTROL_VERSION: "control version not supported (this riskwire speaks version 1)",
    ERROR_SOURCE_NAME: "a HELLO names its source in 1 to 64 bytes of UTF-8",
    ERROR_MAGIC: "starts with neither RWF1 nor RWC1, and is no JSON object or msgpack map",
}


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef bint is_map(uint8_t first) noexcept nogil:
    """Whether a message may be a JSON object or a msgpack map."""
    return first == 0x7B or 0x80 <= first <= 0x8F or first == 0xDE or first == 0xDF


cdef void fill_control(Control* control, uint8_t type, uint64_t incarnation, uint64_t epoch) noexcept nogil:
    memset(control, 0, sizeof(Control))
    control.magic = CONTROL_MAGIC
    control.type = type
    control.version = CONTROL_VERSION
    control.incarnation = incarnation
    control.epoch = epoch


cdef void reply_to(void* socket, const uint8_t* identity, size_t length, const Control* control) noexcept nogil:
    """Answer one peer. One that is gone or reads nothing gets none: it asks again when it is back."""
    if length and send_bytes(socket, identity, length, ZMQ_SNDMORE | ZMQ_DONTWAIT) == 0:
        send_bytes(socket, control, CONTROL_BYTES, ZMQ_DONTWAIT)


cdef uint64_t last_seq_of(Journal journal, uint64_t frames) noexcept nogil:
    """The last seq in the first `frames` frames of a journal."""
    cdef const FrameHeader* header
    if frames == journal.first_frame():
        return journal.first_kept() - 1
    header = <const FrameHeader*>journal.frame_at(frames - 1)
    return header.first_seq + header.record_count - 1


@cython.final
cdef class BrokerLoop:
    """The broker's loop over sockets that the calling thread has made.

    on_refused(frame, source, skip, refused) -> int: number of the sink's batch that holds the refused records (the ack
    waits for it), or 0. on_malformed(reason, text, raw). on_trouble(text). on_plain(raw) -> (reply, batch): takes one
    event as JSON or msgpack; None: such messages are malformed. sink_client: see engine.sink.SinkClient.
    credit: frames a publisher may have unacked. sources_max: incarnations remembered at once. check_crc: False where all
    publishers are of this process and seal nothing.
    """

    def __cinit__(self, Sequencer sequencer not None, *, on_refused, on_malformed, on_trouble, on_plain=None, sink_client=None,
                  uint32_t credit=64, int64_t heartbeat_ns=200_000_000, size_t sources_max=4096,
                  bint check_crc=True):
        self.sequencer = sequencer
        self.journal = sequencer.journal
        self.on_refused = on_refused
        self.on_malformed = on_malformed
        self.on_trouble = on_trouble
        self.on_plain = on_plain
        self.calls = deque()
        self.plain_replies = deque()
        self.sink_client = sink_client
        self.credit = credit
        self.heartbeat_ns = heartbeat_ns
        self.sources_max = max(sources_max, 1)
        self.check_crc = check_crc
        self.source_objects = {}
        self.sources = <SourceState**>malloc(self.sources_max * sizeof(SourceState*))
        if self.sources == NULL:
            raise MemoryError
        # What the journal holds from before is fetched, never broadcast again.
        self.published = self.journal.frames()

    def __dealloc__(self):
        free(self.sources)
        bytes_free(&self.dirty)

    def run(self, publish, events, control):
        """Serve until something arrives on ``control``. The sockets are pyzmq's, made in this thread.

        Raises what ended the loop: MemoryError, OSError, or the exception of a callback.
        """
        cdef int status
        self.publish = handle_of(publish)
        self.events = handle_of(events)
        self.control = handle_of(control)
        if self.sink_client is not None:
            self.sink = handle_of(self.sink_client.socket)
        with nogil:
            self.sequencer.dedup.prepare()
            status = self.loop()
        if self.failure is not None:
            raise self.failure
        if status == -1:
            raise MemoryError
        if status != 0 and status != -ZMQ_ETERM:
            raise OSError(-status, lib.strerror(-status).decode())

    def call(self, function):
        """Have ``function()`` run in the loop's thread between two rounds, within a heartbeat. It must not raise."""
        self.calls.append(function)
        self.called = True

    cdef void run_calls(self) noexcept with gil:
        self.called = False
        try:
            while self.calls:
                self.calls.popleft()()
        except BaseException as problem:
            self.failure = problem
            self.stopping = True

    @property
    def sources_seen(self):
        """The sources known now: a list of (name, incarnation, taken, accepted, duplicates, refused)."""
        return [(s.name, s.incarnation, s.taken, *s.counts) for s in list(self.source_objects.values())]

    @property
    def unconfirmed_batches(self):
        """Batches of dead letters that the sink has not confirmed."""
        return self.batches - self.confirmed

    # --- the loop --------------------------------------------------------------------------------------------------

    cdef int loop(self) noexcept nogil:
        """0, -1: no memory, or minus an error number."""
        cdef zmq_msg_t msg
        cdef int status = 0
        lib.msg_init(&msg)
        while status == 0 and not self.stopping:
            status = self.wait(&msg)
            if status < 0:
                break
            if self.called:
                self.run_calls()
            if status & 1:
                self.stopping = True
            if self.sink != NULL and (status & 4 or (self.confirmed < self.batches and monotonic_ns() >= self.sink_at_ns)):
                self.take_confirmations()
            if status & 8:
                status = self.drain_publish(&msg)
            else:
                status = 0
            if status == 0 and self.make_durable() == 0:
                status = self.publish_frames()
                self.send_acks()
                if self.plain_waiting:
                    self.send_plain_replies()
            self.beat()
        lib.msg_close(&msg)
        return status

    cdef int wait(self, zmq_msg_t* msg) noexcept nogil:
        """Wait until there is something to do: bits 1 control, 4 sink, 8 publish; or minus an error."""
        cdef zmq_pollitem_t items[3]
        cdef int count = 1, sink_at = -1, publish_at = -1, ready, bits = 0
        memset(items, 0, sizeof(items))
        items[0].socket = self.control
        items[0].events = ZMQ_POLLIN
        if self.sink != NULL:
            sink_at = count
            items[count].socket = self.sink
            items[count].events = ZMQ_POLLIN
            count += 1
        # Nothing is taken in that could not go out again: publishers wait, and nothing is lost.
        if not (self.published < self.journal.frames() or self.sink_full or monotonic_ns() < self.retry_at_ns):
            publish_at = count
            items[count].socket = self.publish
            items[count].events = ZMQ_POLLIN
            count += 1
        ready = poll_items(items, count, self.wait_ms())
        if ready <= 0:
            return ready
        if items[0].revents:
            bits |= 1
        if sink_at >= 0 and items[sink_at].revents:
            bits |= 4
        if publish_at >= 0 and items[publish_at].revents:
            bits |= 8
        return bits

    cdef long wait_ms(self) noexcept nogil:
        cdef int64_t now = monotonic_ns()
        cdef int64_t until = self.beat_at_ns + self.heartbeat_ns
        if self.plain_waiting and until > now + PLAIN_AGAIN_NS:
            until = now + PLAIN_AGAIN_NS
        if self.published < self.journal.frames():
            return 1                    # a subscriber is slow and must not be dropped from
        if self.stalled and self.retry_at_ns < until:
            until = self.retry_at_ns
        if self.confirmed < self.batches and self.sink_at_ns < until:
            until = self.sink_at_ns
        return (until - now) // 1000000 + 1 if until > now else 0

    # --- publishers ------------------------------------------------------------------------------------------------

    cdef int drain_publish(self, zmq_msg_t* msg) noexcept nogil:
        """Take what waits. What small frames bring shares a frame of the sequence for as long as the next one is there."""
        cdef int status
        self.sequencer.merging = True
        status = self.take_waiting(msg)
        self.sequencer.merging = False
        return self.sequencer.close_frame() if status == 0 else status

    cdef int take_waiting(self, zmq_msg_t* msg) noexcept nogil:
        cdef uint8_t identity[256]
        cdef int taken, length, status = 0
        cdef size_t size = 0
        for taken in range(DRAIN_MAX):
            length = recv_bytes(self.publish, identity, sizeof(identity), ZMQ_DONTWAIT)
            if length < 0:
                return 0 if length == -EAGAIN else length
            status = recv_message(self.publish, msg, ZMQ_DONTWAIT)
            if status < 0:
                return 0 if status == -EAGAIN else status
            status = self.take(identity, length, msg)
            if status < 0:
                return status
            if self.published < self.journal.frames() and not self.journal.group:
                status = self.publish_frames()
                if status < 0 or self.published < self.journal.frames():
                    return status
            size += lib.msg_size(msg)
            if self.sink_full or self.stalled or size >= DRAIN_BYTES_MAX:
                return 0
        return 0

    cdef int take(self, const uint8_t* identity, size_t length, zmq_msg_t* msg) noexcept nogil:
        cdef const uint8_t* data = <const uint8_t*>lib.msg_data(msg)
        cdef size_t size = lib.msg_size(msg)
        cdef uint32_t magic = 0
        if lib.msg_more(msg):
            if self.sequencer.close_frame() < 0:
                return -1
            if size == 0 and self.on_plain is not None:
                return self.take_plain(identity, length, msg, True)
            drop_parts(self.publish)
            self.report_malformed(REASON_UNDECODABLE, ERROR_PARTS, data, size)
            return 0
        if size >= 4:
            memcpy(&magic, data, 4)
        if magic == FRAME_MAGIC:
            return self.take_frame(identity, length, data, size)
        if self.sequencer.close_frame() < 0:    # what is said from here on may tell of it
            return -1
        if magic == CONTROL_MAGIC:
            self.take_control(identity, length, data, size)
        elif size and self.on_plain is not None and is_map(data[0]):
            return self.take_plain(identity, length, msg, False)
        else:
            self.report_malformed(REASON_UNDECODABLE, ERROR_MAGIC, data, size)
        return 0

    cdef int take_plain(self, const uint8_t* identity, size_t length, zmq_msg_t* msg, bint delimited) noexcept nogil:
        """One event as JSON or msgpack; a REQ socket puts an empty part before it."""
        cdef int status
        if delimited:
            status = recv_message(self.publish, msg, ZMQ_DONTWAIT)
            if status < 0:
                return 0 if status == -EAGAIN else status
            if lib.msg_more(msg):
                drop_parts(self.publish)
                self.report_malformed(REASON_UNDECODABLE, ERROR_PARTS, <const uint8_t*>lib.msg_data(msg), lib.msg_size(msg))
                return 0
        self.report_plain(identity, length, msg, delimited)
        return 0

    cdef int take_frame(self, const uint8_t* identity, size_t length, const uint8_t* data, size_t size) noexcept nogil:
        cdef FrameView view
        cdef SourceState* source
        cdef int error = frame_open(data, size, self.check_crc, &view)
        if error:
            self.report_malformed(REASON_UNSUPPORTED_VERSION if error == FRAME_BAD_VERSION else REASON_UNDECODABLE,
                                  error, data, size)
            return 0
        if view.header.kind != FRAME_UNSEQUENCED:
            self.report_malformed(REASON_UNDECODABLE, ERROR_KIND, data, size)
            return 0
        self.frames_in += 1
        source = self.find_source(view.header.epoch)
        if source == NULL:
            self.nak(identity, length, view.header.epoch, 0)
            return 0
        self.set_identity(source, identity, length)
        if view.header.record_count == 0:
            return self.sequencer.learn(&view, source)
        return self.take_records(source, &view)

    cdef int take_records(self, SourceState* source, const FrameView* view) noexcept nogil:
        """Process the records that were not taken before; 0, or -1 without memory."""
        cdef uint64_t first = view.header.first_seq, count = view.header.record_count
        cdef uint64_t batch_no
        cdef uint32_t skip = 0
        cdef int status
        cdef HeldAck held
        if source.fresh:
            source.fresh = False
            source.taken = first - 1
        if first > source.taken + 1 or first == 0 or first + count < first:
            if self.sequencer.close_frame() < 0:        # a publisher may forget what comes before what is asked for
                return -1
            if source.nak_for != source.taken + 1 or monotonic_ns() >= source.nak_at_ns + NAK_AGAIN_NS:
                source.nak_for = source.taken + 1
                source.nak_at_ns = monotonic_ns()
                self.nak(source.identity, source.identity_length, source.incarnation, source.taken + 1)
            return 0
        if first <= source.taken:
            self.resent += 1
            if first + count - 1 <= source.taken:
                # Its names may be new all the same: a publisher defines again after a restart of the broker.
                status = self.sequencer.learn(view, source)
                return status if status < 0 else self.mark_dirty(source)
            skip = <uint32_t>(source.taken + 1 - first)
        status = self.sequencer.process(view, source, skip)
        if status == -2:
            self.stalled = True
            self.retry_at_ns = monotonic_ns() + <int64_t>RETRY_MS * 1000000
            self.report_trouble()
            return 0
        if status < 0:
            return -1
        if self.stalled:
            self.stalled = False
            self.report_trouble()
        self.accepted += self.sequencer.accepted
        self.duplicates += self.sequencer.duplicates
        if self.sequencer.refused.size:
            self.refused += self.sequencer.refused.size // sizeof(Refused)
            held.batch_no = self.report_refused(source, view, skip)
            held.before = source.taken
            if held.batch_no > self.confirmed and bytes_append(&source.held, &held, sizeof(held)) < 0:
                return -1
        source.taken = first + count - 1
        return self.mark_dirty(source)

    cdef void take_control(self, const uint8_t* identity, size_t length, const uint8_t* data, size_t size) noexcept nogil:
        cdef Control control
        cdef Control answer
        cdef SourceState* source
        if size >= CONTROL_BYTES:
            memcpy(&control, data, CONTROL_BYTES)
        if size >= 6 and data[5] != CONTROL_VERSION:
            self.report_malformed(REASON_UNSUPPORTED_VERSION, ERROR_CONTROL_VERSION, data, size)
            return
        if size < CONTROL_BYTES or control.type != CONTROL_HELLO or size != CONTROL_BYTES + <size_t>control.text_length:
            self.report_malformed(REASON_UNDECODABLE, ERROR_CONTROL, data, size)
            return
        source = self.find_source(control.incarnation)
        if source == NULL:
            source = self.welcome_source(&control, data + CONTROL_BYTES)
        if source == NULL:
            self.report_malformed(REASON_UNDECODABLE, ERROR_SOURCE_NAME, data, size)
            return
        self.set_identity(source, identity, length)
        source.nak_for = 0
        self.fill(&answer, CONTROL_WELCOME, source.incarnation)
        answer.a = source.taken
        answer.b = source.names_known
        answer.c = self.credit
        self.reply(self.publish, identity, length, &answer)
        self.mark_dirty(source)         # an ack that got lost with the old connection is sent again

    cdef SourceState* find_source(self, uint64_t incarnation) noexcept nogil:
        cdef size_t i
        if self.last_found < self.source_count and self.sources[self.last_found].incarnation == incarnation:
            return self.sources[self.last_found]
        for i in range(self.source_count):
            if self.sources[i].incarnation == incarnation:
                self.last_found = i
                return self.sources[i]
        return NULL

    cdef SourceState* welcome_source(self, const Control* hello, const uint8_t* text) noexcept with gil:
        """Take up a new incarnation; NULL: its name is none."""
        cdef Source source
        cdef SourceState* state
        if not 0 < hello.text_length <= SOURCE_TEXT_BYTES_MAX or hello.incarnation == 0:
            return NULL
        try:
            name = (<const char*>text)[:hello.text_length].decode("utf-8")
            source = Source(name, hello.incarnation)
        except UnicodeDecodeError:
            return NULL
        except BaseException as problem:
            self.failure = problem
            self.stopping = True
            return NULL
        if self.source_count == self.sources_max:
            self.forget_stalest()
        state = source_state(source)
        state.fresh = hello.a == 0
        state.taken = hello.a - 1 if hello.a else 0
        self.source_objects[hello.incarnation] = source
        self.sources[self.source_count] = state
        self.source_count += 1
        return state

    cdef void forget_stalest(self):
        """Make room: forget who was silent longest, best one whose refusals are all confirmed."""
        cdef size_t i, stalest = 0
        cdef SourceState* a
        cdef SourceState* b
        self.send_acks()                # nothing may point at what goes
        for i in range(1, self.source_count):
            a = self.sources[i]
            b = self.sources[stalest]
            if (a.held.size != 0, a.heard_ns) < (b.held.size != 0, b.heard_ns):
                stalest = i
        a = self.sources[stalest]
        self.source_count -= 1
        self.sources[stalest] = self.sources[self.source_count]
        del self.source_objects[a.incarnation]

    cdef void set_identity(self, SourceState* source, const uint8_t* identity, size_t length) noexcept nogil:
        source.heard_ns = monotonic_ns()
        if source.identity_length != length or memcmp(source.identity, identity, length) != 0:
            memcpy(source.identity, identity, length)
            source.identity_length = length

    # --- answers ---------------------------------------------------------------------------------------------------

    cdef int mark_dirty(self, SourceState* source) noexcept nogil:
        if source.dirty:
            return 0
        source.dirty = True
        return bytes_append(&self.dirty, &source, sizeof(source))

    cdef void send_acks(self) noexcept nogil:
        cdef size_t i
        cdef SourceState** sources = <SourceState**>self.dirty.data
        for i in range(self.dirty.size // sizeof(SourceState*)):
            sources[i].dirty = False
            self.send_ack(sources[i])
        self.dirty.size = 0

    cdef void send_ack(self, SourceState* source) noexcept nogil:
        cdef Control ack
        cdef uint64_t duplicates = source.duplicates, refused = source.refused
        self.fill(&ack, CONTROL_ACK, source.incarnation)
        ack.a = source.taken
        if source.held_at < source.held.size:
            ack.a = (<HeldAck*>(source.held.data + source.held_at)).before
        ack.b = self.sequencer.next_seq - 1
        if duplicates > <uint64_t>UINT32_MAX:
            duplicates = <uint64_t>UINT32_MAX
        if refused > <uint64_t>UINT32_MAX:
            refused = <uint64_t>UINT32_MAX
        ack.c = duplicates << 32 | refused
        self.reply(self.publish, source.identity, source.identity_length, &ack)

    cdef void nak(self, const uint8_t* identity, size_t length, uint64_t incarnation, uint64_t expected) noexcept nogil:
        cdef Control control
        self.fill(&control, CONTROL_NAK, incarnation)
        control.a = expected
        self.naks += 1
        self.reply(self.publish, identity, length, &control)

    cdef void fill(self, Control* control, uint8_t type, uint64_t incarnation) noexcept nogil:
        fill_control(control, type, incarnation, self.journal.epoch)

    cdef void reply(self, void* socket, const uint8_t* identity, size_t length, const Control* control) noexcept nogil:
        reply_to(socket, identity, length, control)

    # --- events out ------------------------------------------------------------------------------------------------

    cdef int make_durable(self) noexcept nogil:
        """With sync = "group": one fdatasync for all that was drained, before it is seen or acked. 0, or -1: not now."""
        if not self.journal.group or self.published == self.journal.frames():
            return 0
        if monotonic_ns() < self.retry_at_ns:
            return -1
        if self.journal.sync() == 0:
            if self.stalled:
                self.stalled = False
                self.report_trouble()
            return 0
        self.stalled = True
        self.retry_at_ns = monotonic_ns() + <int64_t>RETRY_MS * 1000000
        self.report_trouble()
        return -1

    cdef int publish_frames(self) noexcept nogil:
        """Send what is journaled and not yet sent, as far as subscribers that must not miss anything take it."""
        cdef int status
        while self.published < self.journal.frames():
            status = self.journal.send(self.events, self.published, ZMQ_DONTWAIT)
            if status == -EAGAIN:
                return 0
            if status < 0:
                return status
            rw_store_release(&self.published, self.published + 1)
            self.beat_at_ns = 0
        if self.beat_at_ns == 0:
            self.beat_at_ns = monotonic_ns()
        return 0

    cdef uint64_t last_published(self) noexcept nogil:
        return last_seq_of(self.journal, self.published)

    cdef void beat(self) noexcept nogil:
        """Say that the broker lives, and which seq it gave last, when it has been quiet."""
        cdef Control control
        cdef int64_t now = monotonic_ns()
        if now < self.beat_at_ns + self.heartbeat_ns:
            return
        self.beat_at_ns = now
        self.fill(&control, CONTROL_HEARTBEAT, 0)
        control.a = self.last_published()
        send_bytes(self.events, &control, CONTROL_BYTES, ZMQ_DONTWAIT)

    # --- what Python does ------------------------------------------------------------------------------------------

    cdef void report_malformed(self, int reason, int error, const uint8_t* data, size_t size) noexcept with gil:
        self.malformed += 1
        if size > RAW_BYTES_MAX:
            size = RAW_BYTES_MAX
        try:
            text = ERRORS.get(error) or FRAME_ERRORS.get(error, f"error {error}")
            self.on_malformed(reason, text, (<const char*>data)[:size])
            if self.sink_client is not None:
                self.batches = self.sink_client.sent
                self.sink_full = self.sink_client.full
        except BaseException as problem:
            self.failure = problem
            self.stopping = True

    cdef void report_plain(self, const uint8_t* identity, size_t length, zmq_msg_t* msg, bint delimited) noexcept with gil:
        cdef const char* data = <const char*>lib.msg_data(msg)
        try:
            self.frames_in += 1
            self.sequencer.accepted = self.sequencer.duplicates = 0
            self.sequencer.merging = False      # the answer has a seq that is in the journal
            reply, batch_no = self.on_plain(data[:lib.msg_size(msg)])
            self.accepted += self.sequencer.accepted
            self.duplicates += self.sequencer.duplicates
            self.refused += not (self.sequencer.accepted or self.sequencer.duplicates)
            if self.sink_client is not None:
                self.batches = self.sink_client.sent
                self.sink_full = self.sink_client.full
            self.plain_replies.append(((<const char*>identity)[:length], delimited, reply, batch_no))
            self.plain_waiting += 1
            self.sequencer.merging = True
        except BaseException as problem:
            self.failure = problem
            self.stopping = True

    cdef void send_plain_replies(self) noexcept with gil:
        """Answer what is in the journal now, or in the sink. A peer that is gone gets none; one that reads none has its
        answers kept, up to a bound: what has no answer is sent again."""
        cdef bytes identity, reply
        cdef size_t i
        cdef int status
        for i in range(self.plain_waiting):
            identity, delimited, reply, batch_no = self.plain_replies.popleft()
            if batch_no > self.confirmed:
                self.plain_replies.append((identity, delimited, reply, batch_no))
                continue
            status = send_bytes(self.publish, <const char*>identity, len(identity), ZMQ_SNDMORE | ZMQ_DONTWAIT)
            if status == -EAGAIN and len(self.plain_replies) < PLAIN_REPLIES_MAX:
                self.plain_replies.append((identity, delimited, reply, batch_no))
            elif status == 0:
                if delimited:
                    send_bytes(self.publish, b"", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT)
                send_bytes(self.publish, <const char*>reply, len(reply), ZMQ_DONTWAIT)
        self.plain_waiting = len(self.plain_replies)

    cdef uint64_t report_refused(self, SourceState* source, const FrameView* view, uint32_t skip) noexcept with gil:
        """Hand refused records on; the number of the sink's batch they are in, 0: none."""
        try:
            frame = (<const char*>view.header)[:view.size]
            owner = self.source_objects[source.incarnation]
            batch_no = self.on_refused(frame, owner, skip, self.sequencer.refused_list())
            if self.sink_client is not None:
                self.batches = self.sink_client.sent
                self.sink_full = self.sink_client.full
            return batch_no
        except BaseException as problem:
            self.failure = problem
            self.stopping = True
            return 0

    cdef void report_trouble(self) noexcept with gil:
        try:
            where = self.journal.directory or "memory"
            what = os.strerror(self.journal.error_number)
            if self.journal.sync_failed:
                text = (f"journal {where}: a sync failed: {what}; nothing is acked any more: check the disk, then start "
                        "the engine again")
            else:
                text = f"journal {where}: {what}; nothing is acked until there is room"
            self.on_trouble(text if self.stalled else "")
        except BaseException as problem:
            self.failure = problem
            self.stopping = True

    cdef void take_confirmations(self) noexcept with gil:
        try:
            self.confirmed = self.sink_client.poll()
            self.sink_full = self.sink_client.full
            self.sink = handle_of(self.sink_client.socket)
        except BaseException as problem:
            self.failure = problem
            self.stopping = True
        self.sink_at_ns = monotonic_ns() + <int64_t>SINK_MS * 1000000
        self.release_held()

    cdef void release_held(self) noexcept nogil:
        """Ack what was only waiting for the sink."""
        cdef size_t i
        cdef SourceState* source
        for i in range(self.source_count):
            source = self.sources[i]
            if source.held.size == 0 or (<HeldAck*>(source.held.data + source.held_at)).batch_no > self.confirmed:
                continue
            while (source.held_at < source.held.size
                   and (<HeldAck*>(source.held.data + source.held_at)).batch_no <= self.confirmed):
                source.held_at += sizeof(HeldAck)
            if source.held_at == source.held.size:
                source.held.size = 0
                source.held_at = 0
            self.mark_dirty(source)


@cython.final
cdef class ReplayLoop:
    """Answers FETCH in a thread of its own, from the frames that a BrokerLoop has published.

    However much is fetched, publishers and live subscribers do not wait for it: both only read committed frames.
    """

    def __cinit__(self, BrokerLoop broker not None):
        self.broker = broker
        self.journal = broker.journal

    def run(self, replay, control):
        """Serve until something arrives on ``control``. The sockets are pyzmq's, made in this thread. Raises OSError."""
        cdef int status
        self.replay = handle_of(replay)
        self.control = handle_of(control)
        with nogil:
            status = self.loop()
        if status != 0 and status != -ZMQ_ETERM:
            raise OSError(-status, lib.strerror(-status).decode())

    cdef int loop(self) noexcept nogil:
        """0, or minus an error number."""
        cdef zmq_pollitem_t items[2]
        cdef zmq_msg_t msg
        cdef int status = 0
        memset(items, 0, sizeof(items))
        items[0].socket = self.control
        items[1].socket = self.replay
        items[0].events = items[1].events = ZMQ_POLLIN
        lib.msg_init(&msg)
        while True:
            status = poll_items(items, 2, -1)
            if status < 0 or items[0].revents:
                break
            self.drain_replay(&msg)
        lib.msg_close(&msg)
        return status if status < 0 else 0

    cdef void drain_replay(self, zmq_msg_t* msg) noexcept nogil:
        cdef uint8_t identity[256]
        cdef Control fetch
        cdef int taken, length
        for taken in range(FETCHES_MAX):
            length = recv_bytes(self.replay, identity, sizeof(identity), ZMQ_DONTWAIT)
            if length < 0 or recv_message(self.replay, msg, ZMQ_DONTWAIT) < 0:
                return
            if lib.msg_more(msg):
                drop_parts(self.replay)
                self.malformed += 1
                continue
            if lib.msg_size(msg) != CONTROL_BYTES:
                self.malformed += 1
                continue
            memcpy(&fetch, lib.msg_data(msg), CONTROL_BYTES)
            if fetch.magic != CONTROL_MAGIC or fetch.version != CONTROL_VERSION or fetch.type != CONTROL_FETCH:
                self.malformed += 1
                continue
            self.answer_fetch(identity, length, &fetch)

    cdef void answer_fetch(self, const uint8_t* identity, size_t length, const Control* fetch) noexcept nogil:
        """Send the frames that hold [a, b] up to about c bytes, then FETCHED with the seq to go on with."""
        cdef Control fetched
        self.fetches += 1
        fill_control(&fetched, CONTROL_FETCHED, fetch.incarnation, self.journal.epoch)
        # What is removed meanwhile stays until the frames are on their way: each of them holds its segment then.
        self.journal.begin_reading()
        if self.send_frames(identity, length, fetch, &fetched) == 0:
            reply_to(self.replay, identity, length, &fetched)
        self.journal.end_reading()

    cdef int send_frames(self, const uint8_t* identity, size_t length, const Control* fetch, Control* fetched) noexcept nogil:
        """0: the answer is sent and FETCHED filled in; -1: who asked is gone or reads nothing, and will ask again."""
        cdef uint64_t next_seq = fetch.a if fetch.a else 1, index, sent = 0, bytes_left
        cdef uint64_t published = rw_load_acquire(&self.broker.published), last = last_seq_of(self.journal, published)
        cdef uint64_t to = fetch.b if fetch.b and fetch.b < last else last
        cdef const uint8_t* data
        cdef const FrameHeader* header
        bytes_left = fetch.c if 0 < fetch.c < FETCH_BYTES_MAX else <uint64_t>FETCH_BYTES_MAX
        index = self.journal.index_of(next_seq) if next_seq <= to else published
        while index < published and next_seq <= to and sent < FETCH_FRAMES_MAX:
            data = self.journal.frame_at(index)
            if sent and frame_bytes(data) > bytes_left:
                break
            if send_bytes(self.replay, identity, length, ZMQ_SNDMORE | ZMQ_DONTWAIT) != 0:
                return -1
            if self.journal.send(self.replay, index, ZMQ_DONTWAIT) != 0:
                return -1
            bytes_left -= frame_bytes(data) if frame_bytes(data) < bytes_left else bytes_left
            header = <const FrameHeader*>data
            next_seq = header.first_seq + header.record_count
            index += 1
            sent += 1
        fetched.a = next_seq
        fetched.b = last
        fetched.c = self.journal.first_kept() if next_seq < self.journal.first_kept() else 0
        return 0
