"""Sequencer: the door. Unsequenced frames in; checked, deduplicated, numbered and journaled frames out. No sockets."""

cimport cython
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.base cimport Base
from ext.dedup cimport Dedup
from ext.definitions cimport Instruments, NameTable
from ext.journal cimport Journal
from ext.records cimport Bytes, FrameView, Record

cdef enum:
    CONTROL_MAGIC = 0x31435752      # "RWC1"
    CONTROL_VERSION = 1
    CONTROL_BYTES = 48              # without the text
    MERGED_RECORDS_MAX = 1024       # a frame that has as many is not kept open for more
    MERGED_BYTES_MAX = 131072
    CHUNK_RECORDS = 64              # records whose duplicate slots are fetched ahead together
    LIMITS_JSON_SLACK = 65536       # bytes that a limits document may grow by when it is made canonical
    SOURCE_TEXT_BYTES_MAX = 64      # a source's name

cdef enum ControlType:
    CONTROL_HELLO = 1
    CONTROL_WELCOME = 2
    CONTROL_ACK = 3
    CONTROL_NAK = 4
    CONTROL_HEARTBEAT = 5
    CONTROL_FETCH = 6
    CONTROL_FETCHED = 7

cdef packed struct Control:         # followed by text_length bytes
    uint32_t magic
    uint8_t type                    # ControlType
    uint8_t version
    uint16_t text_length
    uint64_t incarnation
    uint64_t epoch
    uint64_t a                      # what a, b, c mean per type: docs/wire-format.md
    uint64_t b
    uint64_t c

cdef enum Detail:                   # what exactly was wrong with a refused record; for people
    DETAIL_NONE = 0
    DETAIL_TYPE = 1
    DETAIL_SIDE = 2
    DETAIL_EXEC_TYPE = 3
    DETAIL_VOLUME = 4
    DETAIL_ID = 5
    DETAIL_REF = 6
    DETAIL_TEXT = 7                 # + NameKind from DETAIL_NAME_*: a text that is not UTF-8
    DETAIL_EXPONENT = 8
    DETAIL_MULTIPLIER = 9
    DETAIL_RATE = 10
    DETAIL_LIMITS = 11              # the message is in Sequencer.messages
    DETAIL_PRICE = 12
    DETAIL_FEE = 13
    DETAIL_TIME = 14
    DETAIL_NAME_MISSING = 16        # + NameKind
    DETAIL_NAME_UNDEFINED = 20      # + NameKind
    DETAIL_NAME_BAD = 24            # + NameKind
    DETAIL_NAME_MANY = 28           # + NameKind

cdef struct Refused:
    uint32_t index                  # of the record in its frame
    uint8_t reason                  # ext.records.Reason
    uint8_t detail
    uint16_t reserved

cdef enum LocalState:
    LOCAL_UNDEFINED = 0
    LOCAL_GOOD = 1
    LOCAL_BAD = 2                   # longer than 64 bytes, or not UTF-8

cdef struct LocalName:
    uint8_t state
    uint8_t length
    uint8_t text[64]

cdef struct SourceState:            # one incarnation of a publisher
    uint64_t incarnation
    uint64_t taken                  # the last source_seq that was dealt with
    uint64_t accepted
    uint64_t duplicates
    uint64_t refused
    uint32_t* globals[4]            # per NameKind: the broker's id of a local id, or NO_NAME
    LocalName* names[4]
    uint32_t capacity[4]
    uint64_t names_known            # definitions taken
    # What a frame may introduce at most: local names that have no id of the broker's yet.
    uint64_t unmapped
    # The rest belongs to BrokerLoop.
    uint8_t identity[256]           # the ROUTER's name of the connection it was last heard on
    size_t identity_length
    bint dirty                      # an ack is due
    bint fresh                      # it did not say where it goes on: whatever comes first is taken
    uint64_t nak_for                # the source_seq asked for last, and when
    int64_t nak_at_ns
    Bytes held                      # HeldAck: frames whose refused records the sink has not confirmed
    size_t held_at
    int64_t heard_ns

cdef struct Units:                  # per symbol id of the broker's
    int8_t price
    int8_t quantity
    uint8_t used                    # a trade, mark or adjustment was accepted: these units stay
    uint8_t reserved

cdef struct Work:                   # one record between the first and the second pass
    Record record                   # the broker's name ids and the instrument's units
    uint64_t fingerprint
    uint32_t local[4]               # the publisher's name ids
    uint8_t unmapped                # bit per NameKind whose text has no id of the broker's yet
    uint8_t reason
    uint8_t detail
    uint8_t plain                   # ext/plaintrades.pxd

cdef class Source:
    """One incarnation of a publisher: its names and counts."""
    cdef SourceState state
    cdef readonly str name

@cython.final
cdef class Sequencer:
    cdef readonly Journal journal
    cdef bint seals                         # frames get a CRC
    cdef readonly Dedup dedup
    cdef readonly Instruments instruments
    cdef readonly tuple names       # NameTable per NameKind
    cdef NameTable symbols
    cdef NameTable accounts
    cdef NameTable venues
    cdef NameTable strategies
    cdef Bytes units                # Units per symbol id
    cdef readonly uint32_t names_max
    cdef readonly uint32_t ids_max  # the highest name id a publisher may use
    cdef NameTable rates            # currencies that the limits in force can convert; None: no limits yet
    cdef object check_limits        # bytes of JSON -> canonical bytes; raises ValueError
    cdef dict canonical             # record index -> canonical limits of the current frame
    cdef readonly dict messages     # record index -> why limits were refused, of the current frame
    cdef Work* work
    cdef Bytes definitions          # of the frame being built
    cdef Bytes heap
    cdef Bytes refused              # Refused, of the last frame
    # The frame being built. While frames wait in a burst, what they bring goes into one (adaptive batching).
    cdef Record* out
    cdef size_t room                # bytes that it can have
    cdef uint32_t built             # records that it has; 0: none is open
    cdef bint merging               # leave it open for the next frame; close_frame() makes it visible
    cdef readonly uint32_t accepted # of the last frame
    cdef readonly uint32_t duplicates
    cdef readonly uint64_t next_seq

    # Take records [skip, …) of a checked unsequenced frame: journal what is accepted as one frame.
    # 0; -1: out of memory (the broker must end); -2: the journal cannot grow (journal.error_number), nothing happened.
    cdef int process(self, const FrameView* view, SourceState* source, uint32_t skip) noexcept nogil
    cdef int raise_for(self, int status) except -1
    # Learn the names a frame defines. 0, or -1: no memory.
    cdef int learn(self, const FrameView* view, SourceState* source) noexcept nogil

    cdef NameTable table(self, int kind)
    cdef uint32_t find_name(self, int kind, const void* text, size_t length) noexcept nogil
    cdef uint32_t intern_name(self, int kind, const void* text, size_t length) noexcept nogil
    cdef uint32_t name_count(self, int kind) noexcept nogil
    cdef size_t room_for(self, const FrameView* view, const SourceState* source, uint32_t skip) noexcept nogil
    cdef void prepare(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil
    cdef void map_names(self, SourceState* source, Work* work) noexcept nogil
    cdef int map_name(self, SourceState* source, Work* work, int kind, uint32_t* id, bint required) noexcept nogil
    cdef int map_trade(self, SourceState* source, Work* work) noexcept nogil
    cdef const uint8_t* symbol_text(self, const SourceState* source, const Work* work, size_t* length) noexcept nogil
    cdef Units units_of(self, const SourceState* source, const Work* work) noexcept nogil
    cdef void scale(self, const SourceState* source, Work* work) noexcept nogil
    cdef int decide(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil
    cdef bint introduces_too_many(self, SourceState* source, Work* work) noexcept nogil
    cdef int accept(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil
    cdef int introduce(self, SourceState* source, Work* work) noexcept nogil
    cdef int add_units(self, uint32_t id) noexcept nogil
    cdef int put_texts(self, const FrameView* view, uint32_t i, Record* record) noexcept nogil
    cdef int refuse(self, uint32_t i, const Work* work) noexcept nogil
    cdef int _put_limits(self, uint32_t i, Record* r) noexcept
    cdef int _judge_limits(self, const FrameView* view, uint32_t i) noexcept
    cdef int judge_limits(self, const FrameView* view, uint32_t i) noexcept nogil
    cdef bint has_rate(self, const uint8_t* currency, size_t length) noexcept nogil
    cdef int define_instrument(self, const Record* record, const uint8_t* currency) noexcept nogil
    cdef int take_records(self, const FrameView* view, SourceState* source, uint32_t skip) noexcept nogil
    cdef int open_frame(self, uint32_t count, size_t room) noexcept nogil
    cdef size_t frame_size(self) noexcept nogil
    # Make the open frame, if there is one, part of the journal; 0, or -1 without memory.
    cdef int close_frame(self) noexcept nogil
    cdef int load_frame(self, const FrameView* view) noexcept nogil
    cdef int load_names(self, const FrameView* view) noexcept nogil
    cdef int load_in_force(self, const FrameView* view) noexcept nogil
    cdef int load_base(self, Base base)

cdef SourceState* source_state(Source source) noexcept
cdef int64_t now_ns() noexcept nogil
