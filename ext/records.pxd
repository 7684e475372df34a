"""Records and frames: the same bytes on the wire, in the journal and in memory (docs/wire-format.md)."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    typedef __int128 rw_i128;
    typedef unsigned __int128 rw_u128;
    """
    # Declared to Cython as 64-bit so that it accepts arithmetic; the C compiler sees 128 bits.
    # Never let Cython convert one to a Python object: split it first.
    ctypedef long long i128 "rw_i128"
    ctypedef unsigned long long u128 "rw_u128"

cdef enum:
    FRAME_MAGIC = 0x31465752        # "RWF1"
    FRAME_VERSION = 1
    HEADER_BYTES = 64
    RECORD_BYTES = 64
    TEXT_BYTES_MAX = 64             # symbols, accounts, trade ids, notes
    FRAME_RECORDS_MAX = 8192
    FRAME_BYTES_MAX = 33554432      # 32 MiB; ZMQ_MAXMSGSIZE on every socket
    ORIGIN_SOURCE_SHIFT = 48        # in a position: above its bits, the number of its source

cdef enum FrameKind:
    FRAME_UNSEQUENCED = 0           # publisher to broker; epoch holds the incarnation, first_seq the source_seq
    FRAME_SEQUENCED = 1             # broker to everybody, and the journal
    FRAME_ALERTS = 2                # alert records (ext/alertlog.pxd); first_seq holds the first alert_no

cdef enum EventType:
    EVENT_TRADE = 1
    EVENT_MARK = 2
    EVENT_ADJUST = 3
    EVENT_SESSION = 4
    EVENT_INSTRUMENT = 5
    EVENT_LIMITS = 6
    EVENT_KILL = 7
    EVENT_REJECTED = 15             # a feed's bad row on its way to the sink; unsequenced frames only

cdef enum ExecType:
    EXEC_NEW = 0
    EXEC_CORRECT = 1
    EXEC_BUST = 2

cdef enum Side:
    SIDE_NONE = 0
    SIDE_BUY = 1
    SIDE_SELL = 2

cdef enum NameKind:
    NAME_SYMBOL = 0
    NAME_ACCOUNT = 1
    NAME_VENUE = 2
    NAME_STRATEGY = 3
    NAME_KINDS = 4

cdef enum Reason:
    REASON_NONE = 0
    REASON_UNDECODABLE = 1          # 1 to 8: at the door, checked in this order
    REASON_UNSUPPORTED_VERSION = 2
    REASON_INVALID = 3
    REASON_PRECISION = 4
    REASON_OVERFLOW = 5             # also in the sequence: a position's accumulator
    REASON_TOO_MANY_NAMES = 6
    REASON_CONFLICTING_DUPLICATE = 7
    REASON_TOO_OLD = 8
    REASON_UNKNOWN_TRADE = 9        # in the sequence
    REASON_AMBIGUOUS_TRADE = 10
    REASON_HANDLER_FAILED = 11      # from the queue
    REASON_LEASE_EXHAUSTED = 12
    REASON_SKIPPED = 13

cdef enum RecordFlag:
    # What an encoder saw that the door must judge (the instrument's unit is only known there).
    FLAG_PRICE_WIDE = 1             # |mantissa| does not fit int64: saturated, sign kept, exponent kept
    FLAG_VOLUME_WIDE = 2
    FLAG_FEE_PRECISION = 4          # finer than 1e-9
    FLAG_FEE_OVERFLOW = 8
    FLAG_TIME_PRECISION = 16        # finer than a nanosecond
    FLAG_TIME_OVERFLOW = 32         # outside int64 nanoseconds

cdef packed struct Record:
    uint8_t type                    # EventType
    uint8_t exec_type               # ExecType; KILL: 1 engaged, 0 released; REJECTED: Reason
    uint8_t side                    # Side
    uint8_t flags                   # RecordFlag
    uint32_t symbol                 # name ids: the publisher's own before the broker, the broker's after; 0 = empty text
    uint32_t account                # KILL: 0 = every account
    uint32_t venue
    uint32_t strategy
    uint32_t id_offset              # trade_id or event_id in the heap
    uint32_t ref_offset             # ref_trade_id; ADJUST: note; SESSION: name; INSTRUMENT: currency; KILL: who; LIMITS: JSON; REJECTED: error
    uint8_t id_length               # bytes
    uint8_t ref_length              # bytes; LIMITS: 0, the length is in volume
    int8_t price_exponent           # price is price x 10**price_exponent; sequenced: the instrument's
    int8_t volume_exponent
    int64_t price                   # INSTRUMENT: the multiplier's mantissa
    int64_t volume                  # ADJUST: signed quantity; INSTRUMENT: multiplier's exponent; KILL: caused_by_seq; LIMITS: bytes of JSON
    int64_t fee                     # units of 1e-9
    int64_t executed_at             # ns since 1970 UTC

cdef packed struct FrameHeader:
    uint32_t magic
    uint8_t version
    uint8_t kind                    # FrameKind
    uint16_t flags                  # 0
    uint32_t record_count
    uint32_t definition_bytes       # multiple of 4
    uint64_t first_seq              # of the first record; the others follow without a gap
    uint64_t epoch
    uint32_t heap_bytes
    uint32_t origin_bytes           # 0: no origins section
    uint32_t crc32c                 # of the whole frame with this field zero
    uint32_t reserved
    int64_t stamped_at              # ns since 1970 UTC: when numbered; of alerts: when raised
    uint64_t reserved2

cdef packed struct Definition:      # followed by length bytes of text, zero-padded to a multiple of 4
    uint8_t kind                    # NameKind
    uint8_t length
    uint16_t reserved
    uint32_t id                     # > 0

cdef packed struct Origin:          # where a record came from, one per record, after OriginHeader
    uint64_t position               # physical line (header = 1), record number or byte offset; source << 48
    uint32_t raw_offset             # into the raw bytes that end the section
    uint32_t raw_length             # 0: not kept

cdef packed struct OriginHeader:    # then the first source's name; each further source as a NUL, its unit, its name
    uint32_t name_length            # bytes of all that, then zero-padded to a multiple of 8
    uint32_t unit                   # of the first source: 0 line, 1 record, 2 byte offset

cdef struct FrameView:              # borrowed pointers into one checked frame
    const FrameHeader* header
    const Record* records
    const uint8_t* definitions
    const uint8_t* heap
    const uint8_t* origins          # NULL: none
    size_t size                     # bytes of the frame

cdef enum FrameError:
    FRAME_OK = 0
    FRAME_TOO_SHORT = 1
    FRAME_BAD_MAGIC = 2
    FRAME_BAD_VERSION = 3
    FRAME_BAD_LENGTH = 4
    FRAME_BAD_CRC = 5
    FRAME_BAD_CONTENT = 6           # an offset or a definition points outside its section

cdef uint32_t crc32c(const uint8_t* data, size_t size, uint32_t seed) noexcept nogil
# The parts of a frame, where they fit its size; what is in them is checked by frame_open. FRAME_OK, or what is wrong.
cdef int frame_view(const uint8_t* data, size_t size, FrameView* view) noexcept nogil
# Check and open `size` bytes as a frame. Every offset inside is checked, so that what is opened can be read blindly.
cdef int frame_open(const uint8_t* data, size_t size, bint check_crc, FrameView* view) noexcept nogil
# Write first_seq, epoch and stamped_at into a built frame, without a CRC, or seal it with its CRC.
cdef void frame_stamp(uint8_t* data, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil
cdef void frame_seal(uint8_t* data, size_t size, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil
# The origin of record i: its position and raw bytes (NULL, 0 where the frame has none).
cdef uint64_t frame_origin(const FrameView* view, size_t i, const uint8_t** raw, size_t* raw_length) noexcept nogil
# The source that record i came from: its name (NULL, 0 where the frame has none); returns the unit of its positions.
cdef uint32_t frame_source(const FrameView* view, size_t i, const uint8_t** name, size_t* name_length) noexcept nogil

cdef struct Bytes:                  # a growing buffer
    uint8_t* data
    size_t size
    size_t capacity

cdef int bytes_grow(Bytes* b, size_t more) noexcept nogil               # 0, or -1 without memory

cdef inline int bytes_reserve(Bytes* b, size_t more) noexcept nogil:
    return 0 if more <= b.capacity - b.size else bytes_grow(b, more)

cdef inline int bytes_append(Bytes* b, const void* data, size_t size) noexcept nogil:
    if bytes_reserve(b, size) < 0:
        return -1
    if size:
        memcpy(b.data + b.size, data, size)
    b.size += size
    return 0

cdef void bytes_free(Bytes* b) noexcept nogil

cdef class FrameBuilder:
    """Builds one frame after another: records, new names, their texts, and optionally where each came from."""
    cdef Bytes records
    cdef Bytes definitions
    cdef Bytes heap
    cdef Bytes origins              # Origin entries
    cdef Bytes raw
    cdef Bytes origin_name          # of the sources, as the frame has them
    cdef uint32_t origin_unit       # of the first
    cdef uint32_t origin_count      # of sources
    cdef uint64_t origin_from       # the one that origins are of, in the bits that it has in a position
    cdef readonly uint32_t count    # records so far
    cdef uint8_t kind

    cdef Record* add(self) noexcept nogil                                # zeroed; NULL without memory
    cdef int64_t add_text(self, const void* text, size_t length) noexcept nogil      # heap offset, or -1
    cdef int define(self, uint8_t kind, uint32_t id, const void* text, size_t length) noexcept nogil
    # Forget the sources of origins; name the next one, and take it: origins are of it until another is taken.
    cdef void clear_sources(self) noexcept nogil
    cdef int add_source(self, const void* name, size_t length, uint32_t unit) noexcept nogil    # its number, or -1
    cdef void take_source(self, uint32_t number) noexcept nogil
    # Origin of the record added last; give one for every record of a frame or for none.
    cdef int add_origin(self, uint64_t position, const void* raw, size_t raw_length) noexcept nogil
    # The same for raw bytes that are, or will be, at `raw_offset` of `raw`.
    cdef int add_origin_at(self, uint64_t position, size_t raw_offset, size_t raw_length) noexcept nogil
    # Assemble header, records, definitions, heap, origins into self.frame, sealed; 0, or -1 without memory.
    cdef size_t origin_bytes(self) noexcept nogil
    cdef size_t frame_bytes(self) noexcept nogil
    cdef void fill_header(self, FrameHeader* header) noexcept nogil     # without what numbers and seals it
    # What a frame would be, where it is, until more is added: without origins, and nothing checks its CRC.
    cdef void view(self, FrameHeader* header, uint64_t first_seq, uint64_t epoch, FrameView* view) noexcept nogil
    cdef void write_parts(self, uint8_t* out) noexcept nogil            # without seal
    cdef void write_frame(self, uint8_t* out, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil
    # The built frame, and the builder as new.
    cdef bytearray take(self, uint64_t first_seq, uint64_t epoch, int64_t stamped_at)
    # The same without a CRC, for whoever stamps it next: that seals it.
    cdef bytearray take_unsealed(self)
    cdef void clear(self) noexcept nogil                                 # ready for the next frame


cdef inline Record* next_record(FrameBuilder builder) noexcept nogil:
    """Where the next record will be, zeroed; `keep_record` adds it to the frame. NULL without memory."""
    cdef Record* record
    if (builder.records.size + RECORD_BYTES > builder.records.capacity
            and bytes_reserve(&builder.records, RECORD_BYTES) < 0):
        return NULL
    record = <Record*>(builder.records.data + builder.records.size)
    memset(record, 0, RECORD_BYTES)
    return record


cdef inline void keep_record(FrameBuilder builder) noexcept nogil:
    builder.records.size += RECORD_BYTES
    builder.count += 1


cdef inline int put_origin(FrameBuilder builder, uint64_t position, size_t raw_offset,
                           size_t raw_length) noexcept nogil:
    """FrameBuilder.add_origin_at, for loops over records."""
    cdef Origin* origin
    if (builder.origins.size + sizeof(Origin) > builder.origins.capacity
            and bytes_reserve(&builder.origins, sizeof(Origin)) < 0):
        return -1
    origin = <Origin*>(builder.origins.data + builder.origins.size)
    origin.position = position & ((<uint64_t>1 << ORIGIN_SOURCE_SHIFT) - 1) | builder.origin_from
    origin.raw_offset = <uint32_t>raw_offset
    origin.raw_length = <uint32_t>raw_length
    builder.origins.size += sizeof(Origin)
    return 0


cdef class Frame:
    """A checked, read-only view of one frame's bytes."""
    cdef readonly object buffer
    cdef const unsigned char[::1] bytes_view        # keeps the bytes where they are
    cdef FrameView view

    cdef const Record* record(self, size_t i) except NULL
