"""Records and frames: build, check and read them (docs/wire-format.md)."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memset

cdef extern from "crc32c.h":
    void rw_crc32c_setup() noexcept nogil
    uint32_t rw_crc32c(uint32_t crc, const uint8_t* data, size_t size) noexcept nogil

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static void rw_keep_freed_memory(void) {
        mallopt(M_MMAP_THRESHOLD, 32 << 20);
        mallopt(M_TRIM_THRESHOLD, 512 << 20);
    }
    #else
    static void rw_keep_freed_memory(void) {}
    #endif
    """
    void rw_keep_freed_memory()

rw_crc32c_setup()

cdef enum:
    CRC_OFFSET = 40
    ALERT_RECORD_BYTES = 32

RECORD_FIELDS = [
    ("type", "u1"), ("exec_type", "u1"), ("side", "u1"), ("flags", "u1"),
    ("symbol", "<u4"), ("account", "<u4"), ("venue", "<u4"), ("strategy", "<u4"),
    ("id_offset", "<u4"), ("ref_offset", "<u4"), ("id_length", "u1"), ("ref_length", "u1"),
    ("price_exponent", "i1"), ("volume_exponent", "i1"),
    ("price", "<i8"), ("volume", "<i8"), ("fee", "<i8"), ("executed_at", "<i8"),
]
ALERT_FIELDS = [
    ("seq", "<u8"), ("executed_at", "<i8"), ("text_offset", "<u4"),
    ("kind", "u1"), ("severity", "u1"), ("lengths", "u1", (9,)), ("reserved", "u1"),
]


def __getattr__(name):
    """RECORD_DTYPE and ALERT_DTYPE are made when first asked for: importing NumPy takes longer than a small replay."""
    if name not in ("RECORD_DTYPE", "ALERT_DTYPE"):
        raise AttributeError(f"module 'ext.records' has no attribute {name!r}")
    import numpy as np

    found = globals()
    found["RECORD_DTYPE"] = np.dtype(RECORD_FIELDS)
    found["ALERT_DTYPE"] = np.dtype(ALERT_FIELDS)
    assert found["RECORD_DTYPE"].itemsize == RECORD_BYTES == sizeof(Record)
    assert found["ALERT_DTYPE"].itemsize == ALERT_RECORD_BYTES
    return found[name]


assert sizeof(FrameHeader) == HEADER_BYTES

EVENT_NAMES = {
    EVENT_TRADE: "TradeExecuted", EVENT_MARK: "MarkPrice", EVENT_ADJUST: "PositionAdjusted",
    EVENT_SESSION: "SessionStarted", EVENT_INSTRUMENT: "InstrumentDefined",
    EVENT_LIMITS: "LimitsChanged", EVENT_KILL: "KillSwitch", EVENT_REJECTED: "Rejected",
}
EXEC_TYPES = ("new", "correct", "bust")
SIDES = ("", "buy", "sell")
NAME_KIND_NAMES = ("symbol", "account", "venue", "strategy")
REASONS = (
    "", "undecodable", "unsupported_version", "invalid", "precision", "overflow", "too_many_names",
    "conflicting_duplicate", "too_old", "unknown_trade", "ambiguous_trade", "handler_failed",
    "lease_exhausted", "skipped",
)
FRAME_ERRORS = {
    FRAME_TOO_SHORT: "shorter than a frame's header",
    FRAME_BAD_MAGIC: "does not start with RWF1",
    FRAME_BAD_VERSION: "frame version not supported (this riskwire reads version 1)",
    FRAME_BAD_LENGTH: "section sizes do not add up to the message's size",
    FRAME_BAD_CRC: "CRC-32C does not match",
    FRAME_BAD_CONTENT: "an offset or definition points outside its section",
}
MAX_FRAME_BYTES = FRAME_BYTES_MAX
MAX_FRAME_RECORDS = FRAME_RECORDS_MAX
KIND_UNSEQUENCED = FRAME_UNSEQUENCED
KIND_SEQUENCED = FRAME_SEQUENCED
KIND_ALERTS = FRAME_ALERTS
FLAGS = {
    "price_wide": FLAG_PRICE_WIDE, "volume_wide": FLAG_VOLUME_WIDE, "fee_precision": FLAG_FEE_PRECISION,
    "fee_overflow": FLAG_FEE_OVERFLOW, "time_precision": FLAG_TIME_PRECISION, "time_overflow": FLAG_TIME_OVERFLOW,
}


class FrameDecodeError(ValueError):
    """Bytes that are not a readable frame. ``code`` is the FrameError number."""

    def __init__(self, code):
        super().__init__(FRAME_ERRORS.get(code, f"frame error {code}"))
        self.code = code


cdef uint32_t crc32c(const uint8_t* data, size_t size, uint32_t seed) noexcept nogil:
    return rw_crc32c(seed, data, size)


cdef uint32_t frame_crc(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint32_t zero = 0
    cdef uint32_t crc = rw_crc32c(0, data, CRC_OFFSET)
    crc = rw_crc32c(crc, <const uint8_t*>&zero, 4)
    return rw_crc32c(crc, data + CRC_OFFSET + 4, size - CRC_OFFSET - 4)


cdef void frame_stamp(uint8_t* data, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil:
    cdef FrameHeader* header = <FrameHeader*>data
    header.first_seq = first_seq
    header.epoch = epoch
    header.stamped_at = stamped_at
    header.crc32c = 0


cdef void frame_seal(uint8_t* data, size_t size, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil:
    frame_stamp(data, first_seq, epoch, stamped_at)
    (<FrameHeader*>data).crc32c = frame_crc(data, size)


cdef size_t record_bytes(uint8_t kind) noexcept nogil:
    return ALERT_RECORD_BYTES if kind == FRAME_ALERTS else RECORD_BYTES


cdef int frame_view(const uint8_t* data, size_t size, FrameView* view) noexcept nogil:
    cdef const FrameHeader* header = <const FrameHeader*>data
    cdef uint64_t records_size, expected
    if size < HEADER_BYTES:
        return FRAME_TOO_SHORT
    if header.magic != FRAME_MAGIC:
        return FRAME_BAD_MAGIC
    if header.version != FRAME_VERSION:
        return FRAME_BAD_VERSION
    if header.kind > FRAME_ALERTS or header.record_count > FRAME_RECORDS_MAX or header.definition_bytes % 4:
        return FRAME_BAD_LENGTH
    records_size = <uint64_t>header.record_count * record_bytes(header.kind)
    expected = HEADER_BYTES + records_size + header.definition_bytes + header.heap_bytes + header.origin_bytes
    if expected != size:
        return FRAME_BAD_LENGTH
    view.header = header
    view.records = <const Record*>(data + HEADER_BYTES)
    view.definitions = data + HEADER_BYTES + records_size
    view.heap = view.definitions + header.definition_bytes
    view.origins = view.heap + header.heap_bytes if header.origin_bytes else NULL
    view.size = size
    return FRAME_OK


cdef int frame_open(const uint8_t* data, size_t size, bint check_crc, FrameView* view) noexcept nogil:
    cdef int error = frame_view(data, size, view)
    if error == FRAME_OK and check_crc and frame_crc(data, size) != view.header.crc32c:
        error = FRAME_BAD_CRC
    return check_content(view) if error == FRAME_OK else error


cdef int check_content(const FrameView* view) noexcept nogil:
    if not check_definitions(view.definitions, view.header.definition_bytes):
        return FRAME_BAD_CONTENT
    if view.header.kind == FRAME_ALERTS:
        return FRAME_OK if check_alert_texts(view) else FRAME_BAD_CONTENT
    if not check_record_texts(view):
        return FRAME_BAD_CONTENT
    if view.origins != NULL and not check_origins(view):
        return FRAME_BAD_CONTENT
    return FRAME_OK


cdef bint check_record_texts(const FrameView* view) noexcept nogil:
    cdef size_t i
    cdef uint64_t heap = view.header.heap_bytes
    cdef const Record* r
    for i in range(view.header.record_count):
        r = &view.records[i]
        if <uint64_t>r.id_offset + r.id_length > heap or <uint64_t>r.ref_offset + r.ref_length > heap:
            return False
        if r.type == EVENT_LIMITS and (r.volume < 0 or r.volume > <int64_t>heap
                                       or r.ref_offset + <uint64_t>r.volume > heap):
            return False
    return True


cdef bint check_alert_texts(const FrameView* view) noexcept nogil:
    cdef size_t i, k
    cdef uint64_t end
    cdef const uint8_t* record
    for i in range(view.header.record_count):
        record = <const uint8_t*>view.records + i * ALERT_RECORD_BYTES
        end = (<const uint32_t*>(record + 16))[0]
        for k in range(9):
            end += record[22 + k]
        if end > view.header.heap_bytes:
            return False
    return True


cdef bint check_definitions(const uint8_t* p, size_t size) noexcept nogil:
    cdef size_t at = 0, step
    cdef const Definition* d
    while at < size:
        if size - at < sizeof(Definition):
            return False
        d = <const Definition*>(p + at)
        step = sizeof(Definition) + ((<size_t>d.length + 3) & ~<size_t>3)
        if d.kind >= NAME_KINDS or d.id == 0 or d.length == 0 or step > size - at:
            return False
        at += step
    return True


cdef size_t origin_table(const FrameView* view) noexcept nogil:
    """Offset of the Origin entries inside the origins section; beyond the section if it is too short."""
    cdef const OriginHeader* head = <const OriginHeader*>view.origins
    if view.header.origin_bytes < sizeof(OriginHeader):
        return <size_t>view.header.origin_bytes + 1
    return sizeof(OriginHeader) + ((<size_t>head.name_length + 7) & ~<size_t>7)


cdef bint check_origins(const FrameView* view) noexcept nogil:
    cdef size_t table = origin_table(view), i
    cdef uint64_t raw_at = table + <uint64_t>view.header.record_count * sizeof(Origin)
    cdef uint64_t raw_size, source, last = 0
    cdef const Origin* entries
    if raw_at > view.header.origin_bytes:
        return False
    raw_size = view.header.origin_bytes - raw_at
    entries = <const Origin*>(view.origins + table)
    for i in range(view.header.record_count):
        if <uint64_t>entries[i].raw_offset + entries[i].raw_length > raw_size:
            return False
        source = entries[i].position >> ORIGIN_SOURCE_SHIFT
        if source > last:
            last = source
    return last == 0 or find_source(view, last) != NULL


cdef const uint8_t* find_source(const FrameView* view, uint64_t number) noexcept nogil:
    """Where a source after the first is named, at its unit; NULL: there is none of that number."""
    cdef const uint8_t* at = view.origins + sizeof(OriginHeader)
    cdef const uint8_t* end = at + (<const OriginHeader*>view.origins).name_length
    while number:
        at = <const uint8_t*>memchr(at, 0, end - at)
        if at == NULL or end - at < 2:
            return NULL
        number -= 1
        at += 1 if number == 0 else 2   # a unit is no name's end, be it 0
    return at


cdef uint32_t frame_source(const FrameView* view, size_t i, const uint8_t** name, size_t* name_length) noexcept nogil:
    cdef const OriginHeader* head = <const OriginHeader*>view.origins
    cdef uint64_t number
    cdef uint32_t unit
    cdef const uint8_t* end
    name[0] = NULL
    name_length[0] = 0
    if head == NULL:
        return 0
    number = (<const Origin*>(view.origins + origin_table(view)) + i).position >> ORIGIN_SOURCE_SHIFT
    unit = head.unit
    name[0] = view.origins + sizeof(OriginHeader)
    end = name[0] + head.name_length
    if number:
        name[0] = find_source(view, number)
        unit = name[0][0]
        name[0] += 1
    if name[0] < end:
        name_length[0] = <size_t>(end - name[0])
        end = <const uint8_t*>memchr(name[0], 0, name_length[0])
        if end != NULL:
            name_length[0] = <size_t>(end - name[0])
    return unit


cdef uint64_t frame_origin(const FrameView* view, size_t i, const uint8_t** raw, size_t* raw_length) noexcept nogil:
    cdef size_t table
    cdef const Origin* entry
    raw[0] = NULL
    raw_length[0] = 0
    if view.origins == NULL:
        return 0
    table = origin_table(view)
    entry = <const Origin*>(view.origins + table) + i
    raw[0] = view.origins + table + view.header.record_count * sizeof(Origin) + entry.raw_offset
    raw_length[0] = entry.raw_length
    return entry.position & ((<uint64_t>1 << ORIGIN_SOURCE_SHIFT) - 1)


# --- growing buffers ---------------------------------------------------------------------------------------------

cdef int bytes_grow(Bytes* b, size_t more) noexcept nogil:
    cdef size_t capacity = b.capacity
    cdef void* grown
    if capacity < 256:
        capacity = 256
    while capacity < b.size + more:
        capacity += capacity >> 1
    grown = realloc(b.data, capacity)
    if grown == NULL:
        return -1
    b.data = <uint8_t*>grown
    b.capacity = capacity
    return 0


cdef void bytes_free(Bytes* b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.size = 0
    b.capacity = 0


cdef int bytes_pad(Bytes* b, size_t multiple) noexcept nogil:
    cdef size_t padding = (multiple - b.size % multiple) % multiple
    if bytes_reserve(b, padding) < 0:
        return -1
    memset(b.data + b.size, 0, padding)
    b.size += padding
    return 0


# --- building ----------------------------------------------------------------------------------------------------

cdef inline uint8_t* put(uint8_t* at, const Bytes* part) noexcept nogil:
    """Copy a part; return where the next one goes."""
    if part.size:
        memcpy(at, part.data, part.size)
    return at + part.size


cdef class FrameBuilder:
    def __cinit__(self, uint8_t kind=FRAME_UNSEQUENCED):
        self.kind = kind

    def __dealloc__(self):
        bytes_free(&self.records)
        bytes_free(&self.definitions)
        bytes_free(&self.heap)
        bytes_free(&self.origins)
        bytes_free(&self.raw)
        bytes_free(&self.origin_name)

    cdef Record* add(self) noexcept nogil:
        cdef Record* record
        if bytes_reserve(&self.records, RECORD_BYTES) < 0:
            return NULL
        record = <Record*>(self.records.data + self.records.size)
        memset(record, 0, RECORD_BYTES)
        self.records.size += RECORD_BYTES
        self.count += 1
        return record

    cdef int64_t add_text(self, const void* text, size_t length) noexcept nogil:
        cdef int64_t offset = self.heap.size
        if bytes_append(&self.heap, text, length) < 0:
            return -1
        return offset

    cdef int define(self, uint8_t kind, uint32_t id, const void* text, size_t length) noexcept nogil:
        cdef Definition d
        d.kind = kind
        d.length = <uint8_t>length
        d.reserved = 0
        d.id = id
        if bytes_append(&self.definitions, &d, sizeof(d)) < 0 or bytes_append(&self.definitions, text, length) < 0:
            return -1
        return bytes_pad(&self.definitions, 4)

    cdef void clear_sources(self) noexcept nogil:
        self.origin_name.size = 0
        self.origin_count = 0
        self.origin_from = 0

    cdef int add_source(self, const void* name, size_t length, uint32_t unit) noexcept nogil:
        cdef uint8_t mark[2]
        if self.origin_count:
            mark[0] = 0
            mark[1] = <uint8_t>unit
            if bytes_append(&self.origin_name, mark, 2) < 0:
                return -1
        else:
            self.origin_unit = unit
        if bytes_append(&self.origin_name, name, length) < 0:
            return -1
        self.origin_count += 1
        self.take_source(self.origin_count - 1)
        return <int>self.origin_count - 1

    cdef void take_source(self, uint32_t number) noexcept nogil:
        self.origin_from = <uint64_t>number << ORIGIN_SOURCE_SHIFT

    cdef int add_origin(self, uint64_t position, const void* raw, size_t raw_length) noexcept nogil:
        if self.add_origin_at(position, self.raw.size, raw_length) < 0:
            return -1
        return bytes_append(&self.raw, raw, raw_length)

    cdef int add_origin_at(self, uint64_t position, size_t raw_offset, size_t raw_length) noexcept nogil:
        return put_origin(self, position, raw_offset, raw_length)

    cdef size_t origin_bytes(self) noexcept nogil:
        if self.origins.size == 0:
            return 0
        return ((sizeof(OriginHeader) + self.origin_name.size + 7) & ~<size_t>7) + self.origins.size + self.raw.size

    cdef size_t frame_bytes(self) noexcept nogil:
        return HEADER_BYTES + self.records.size + self.definitions.size + self.heap.size + self.origin_bytes()

    cdef void write_frame(self, uint8_t* out, uint64_t first_seq, uint64_t epoch, int64_t stamped_at) noexcept nogil:
        self.write_parts(out)
        frame_seal(out, self.frame_bytes(), first_seq, epoch, stamped_at)

    cdef void fill_header(self, FrameHeader* header) noexcept nogil:
        memset(header, 0, sizeof(FrameHeader))
        header.magic = FRAME_MAGIC
        header.version = FRAME_VERSION
        header.kind = self.kind
        header.record_count = self.count
        header.definition_bytes = <uint32_t>self.definitions.size
        header.heap_bytes = <uint32_t>self.heap.size
        header.origin_bytes = <uint32_t>self.origin_bytes()

    cdef void view(self, FrameHeader* header, uint64_t first_seq, uint64_t epoch, FrameView* view) noexcept nogil:
        self.fill_header(header)
        header.first_seq = first_seq
        header.epoch = epoch
        view.header = header
        view.records = <const Record*>self.records.data
        view.definitions = self.definitions.data
        view.heap = self.heap.data
        view.origins = NULL
        view.size = self.frame_bytes()

    cdef void write_parts(self, uint8_t* out) noexcept nogil:
        cdef FrameHeader header
        cdef OriginHeader origin_header
        cdef uint8_t* at = out + sizeof(header)
        cdef uint8_t* origin_at
        self.fill_header(&header)
        memcpy(out, &header, sizeof(header))
        at = put(put(put(at, &self.records), &self.definitions), &self.heap)
        if self.origins.size:
            origin_at = at
            origin_header.name_length = <uint32_t>self.origin_name.size
            origin_header.unit = self.origin_unit
            memcpy(at, &origin_header, sizeof(origin_header))
            at = put(at + sizeof(origin_header), &self.origin_name)
            while (at - origin_at) % 8:
                at[0] = 0
                at += 1
            put(put(at, &self.origins), &self.raw)

    cdef bytearray take(self, uint64_t first_seq, uint64_t epoch, int64_t stamped_at):
        cdef bytearray frame = PyByteArray_FromStringAndSize(NULL, self.frame_bytes())
        cdef uint8_t* data = <uint8_t*>PyByteArray_AS_STRING(frame)
        with nogil:
            self.write_frame(data, first_seq, epoch, stamped_at)
            self.clear()
        return frame

    cdef bytearray take_unsealed(self):
        cdef bytearray frame = PyByteArray_FromStringAndSize(NULL, self.frame_bytes())
        cdef uint8_t* data = <uint8_t*>PyByteArray_AS_STRING(frame)
        with nogil:
            self.write_parts(data)
            self.clear()
        return frame

    cdef void clear(self) noexcept nogil:
        self.records.size = 0
        self.definitions.size = 0
        self.heap.size = 0
        self.origins.size = 0
        self.raw.size = 0
        self.count = 0

    # The Python face, for tests and for encoders that are not hot.

    @property
    def size_bytes(self):
        """Bytes the frame would have now, header included (names of origins apart)."""
        return (HEADER_BYTES + self.records.size + self.definitions.size + self.heap.size
                + self.origins.size + self.raw.size)

    def add_record(self, *, type, exec_type=0, side=0, flags=0, symbol=0, account=0, venue=0, strategy=0,
                   id=b"", ref=b"", price=0, price_exponent=0, volume=0, volume_exponent=0, fee=0, executed_at=0):
        """Add one record from integers and texts (``id``, ``ref``: bytes). LIMITS take their JSON as ``ref``."""
        cdef bytes id_bytes = id, ref_bytes = ref
        cdef Record* r = self.add()
        cdef int64_t id_offset, ref_offset
        if r == NULL:
            raise MemoryError
        try:
            r.type = type
            r.exec_type = exec_type
            r.side = side
            r.flags = flags
            r.symbol = symbol
            r.account = account
            r.venue = venue
            r.strategy = strategy
            r.price = price
            r.price_exponent = price_exponent
            r.volume = volume
            r.volume_exponent = volume_exponent
            r.fee = fee
            r.executed_at = executed_at
            r.id_length = len(id_bytes)
            if r.type == EVENT_LIMITS:
                r.volume = len(ref_bytes)
            else:
                r.ref_length = len(ref_bytes)
        except BaseException:
            self.records.size -= RECORD_BYTES
            self.count -= 1
            raise
        id_offset = self.add_text(<const char*>id_bytes, len(id_bytes))
        ref_offset = self.add_text(<const char*>ref_bytes, len(ref_bytes))
        if id_offset < 0 or ref_offset < 0:
            raise MemoryError
        r.id_offset = <uint32_t>id_offset
        r.ref_offset = <uint32_t>ref_offset

    def define_name(self, uint8_t kind, uint32_t id, bytes text):
        """Define name ``id`` (> 0) of ``kind`` as ``text`` (1 to 255 bytes)."""
        if not 0 < len(text) < 256 or id == 0 or kind >= NAME_KINDS:
            raise ValueError(f"a name needs an id above 0 and 1 to 255 bytes: kind {kind}, id {id}, {text!r}")
        if self.define(kind, id, <const char*>text, len(text)) < 0:
            raise MemoryError

    def origin_source(self, bytes name, uint32_t unit=0):
        """Name the file that all origins lie in; ``unit``: 0 line, 1 record, 2 byte offset."""
        self.clear_sources()
        self.another_source(name, unit)

    def another_source(self, bytes name, uint32_t unit=0):
        """Name a further file (without a NUL) that the next origins lie in."""
        if b"\0" in name or self.add_source(<const char*>name, len(name), unit) < 0:
            raise ValueError(f"a source's name has no NUL, and memory must be there for it: {name!r}")

    def origin(self, uint64_t position, bytes raw=b""):
        """Say where the record added last came from."""
        if self.add_origin(position, <const char*>raw, len(raw)) < 0:
            raise MemoryError

    def finish(self, uint64_t first_seq=0, uint64_t epoch=0, int64_t stamped_at=0):
        """Build, seal and return the frame as a bytearray, and be ready for the next one."""
        return self.take(first_seq, epoch, stamped_at)

    def reset(self):
        """Forget what was added since the last frame."""
        self.clear()

    def __len__(self):
        return self.count


def keep_freed_memory():
    """Let malloc keep what is freed: frames come and go, and giving each back to the system costs a page fault a page.

    No more than 512 MiB, and only with glibc.
    """
    rw_keep_freed_memory()


def stamp_frame(unsigned char[::1] buffer not None, uint64_t first_seq, uint64_t epoch, int64_t stamped_at=0):
    """Write ``first_seq`` and ``epoch`` (a publisher's source_seq and incarnation) into a built frame and seal it."""
    if buffer.shape[0] < HEADER_BYTES:
        raise FrameDecodeError(FRAME_TOO_SHORT)
    frame_seal(&buffer[0], buffer.shape[0], first_seq, epoch, stamped_at)


def crc32c_of(const unsigned char[::1] data not None, uint32_t seed=0):
    """CRC-32C of a buffer, continuing from ``seed``."""
    return rw_crc32c(seed, &data[0], data.shape[0]) if data.shape[0] else seed


# --- reading -----------------------------------------------------------------------------------------------------

cdef class Frame:
    """A checked, read-only view of one frame's bytes.

    ``records`` is a NumPy structured array (RECORD_DTYPE, or ALERT_DTYPE for alert frames) over the same bytes.
    Raises FrameDecodeError where the bytes are no readable frame.
    """
    def __init__(self, buffer, bint check_crc=True):
        cdef int error
        cdef const unsigned char[::1] data = buffer
        if data.shape[0] == 0:
            raise FrameDecodeError(FRAME_TOO_SHORT)
        error = frame_open(&data[0], data.shape[0], check_crc, &self.view)
        if error:
            raise FrameDecodeError(error)
        self.buffer = buffer
        self.bytes_view = data

    @property
    def kind(self):
        return self.view.header.kind

    @property
    def first_seq(self):
        return self.view.header.first_seq

    @property
    def epoch(self):
        return self.view.header.epoch

    @property
    def stamped_at(self):
        return self.view.header.stamped_at

    @property
    def records(self):
        import numpy as np

        from ext import records

        dtype = records.ALERT_DTYPE if self.view.header.kind == FRAME_ALERTS else records.RECORD_DTYPE
        return np.frombuffer(self.buffer, dtype=dtype, count=self.view.header.record_count, offset=HEADER_BYTES)

    def __len__(self):
        return self.view.header.record_count

    def text(self, uint64_t offset, uint64_t length):
        """Bytes of the heap."""
        if offset + length > self.view.header.heap_bytes:
            raise IndexError(f"text {offset}+{length} is outside a heap of {self.view.header.heap_bytes} bytes")
        return (<const char*>self.view.heap)[offset:offset + length]

    def id(self, size_t i):
        """The record's trade_id or event_id, as bytes."""
        cdef const Record* r = self.record(i)
        return self.text(r.id_offset, r.id_length)

    def ref(self, size_t i):
        """The record's second text, as bytes (ref_trade_id, note, name, currency, who, error; LIMITS: the JSON)."""
        cdef const Record* r = self.record(i)
        return self.text(r.ref_offset, r.volume if r.type == EVENT_LIMITS else r.ref_length)

    cdef const Record* record(self, size_t i) except NULL:
        if i >= self.view.header.record_count or self.view.header.kind == FRAME_ALERTS:
            raise IndexError(f"record {i} of {self.view.header.record_count}")
        return &self.view.records[i]

    def definitions(self):
        """The names this frame introduces: a list of (kind, id, text bytes)."""
        cdef size_t at = 0
        cdef const Definition* d
        found = []
        while at < self.view.header.definition_bytes:
            d = <const Definition*>(self.view.definitions + at)
            text = (<const char*>self.view.definitions)[at + sizeof(Definition):at + sizeof(Definition) + d.length]
            found.append((d.kind, d.id, text))
            at += sizeof(Definition) + ((<size_t>d.length + 3) & ~<size_t>3)
        return found

    def origin_source(self, size_t i):
        """(name bytes, unit) of the file that record ``i`` came from; (b"", 0) where the frame does not say."""
        cdef const uint8_t* name
        cdef size_t length
        cdef uint32_t unit
        self.record(i)
        unit = frame_source(&self.view, i, &name, &length)
        return (<const char*>name)[:length] if name != NULL else b"", unit

    def origin(self, size_t i):
        """(position, raw bytes) of record ``i``; (0, b"") where the frame has no origins."""
        cdef const uint8_t* raw
        cdef size_t raw_length
        cdef uint64_t position
        self.record(i)
        position = frame_origin(&self.view, i, &raw, &raw_length)
        return position, (<const char*>raw)[:raw_length] if raw != NULL else b""
