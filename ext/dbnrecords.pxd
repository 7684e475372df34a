"""Records of a Databento DBN stream to trades, or to marks: no Python object per record."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.definitions cimport NameTable
from ext.feedwriter cimport Row, RowRules, Values
from ext.recordreader cimport WindowReader
from ext.records cimport Bytes

cdef enum:
    HEADER_BYTES = 16
    TRADE_BYTES = 48
    MBO_BYTES = 56
    QUOTE_BYTES = 64                # with the prices of the first level
    SYMBOL_CACHE_SLOTS = 1024

cdef enum DbnType:                  # rtype
    TYPE_MBP0 = 0x00
    TYPE_MBP1 = 0x01
    TYPE_MBP10 = 0x0A
    TYPE_SYMBOL_MAPPING = 0x16
    TYPE_MBO = 0xA0
    TYPE_CMBP1 = 0xB1
    TYPE_CBBO_1S = 0xC0
    TYPE_CBBO_1M = 0xC1
    TYPE_TCBBO = 0xC2
    TYPE_BBO_1S = 0xC3
    TYPE_BBO_1M = 0xC4
    TYPE_TBBO = 0xC5

cdef enum DbnStatus:
    DBN_RECORD = 0                  # one to be recorded, read into `row` and `values`
    DBN_BROKEN = 1                  # one that cannot be read: `why`
    DBN_LOST = 2                    # one of length 0: nothing behind it can be found
    DBN_MORE = 3
    DBN_END = 4

cdef struct Interval:               # what an instrument id means from start to before end
    int64_t start_ns
    int64_t end_ns
    uint32_t text                   # offset in texts
    uint32_t length
    uint32_t name_id                # 0: not numbered yet

cdef struct Instrument:
    uint32_t first                  # its intervals, by start
    uint32_t count
    uint32_t live                   # interval + 1 that a record of the stream set; 0: none

cdef struct CacheSlot:
    uint32_t id
    uint32_t interval               # + 1; 0: free
    int64_t start_ns
    int64_t end_ns

@cython.final
cdef class DbnReader(WindowReader):
    cdef RowRules sided             # of records that do not say their side
    cdef bint as_marks
    cdef uint8_t version
    cdef NameTable ids              # instrument ids (4 bytes) as dense numbers
    cdef Bytes instruments          # Instrument per dense number
    cdef Bytes intervals
    cdef Bytes texts
    cdef CacheSlot* cache
    cdef Row constants
    cdef Bytes constant_texts
    cdef uint32_t name_ids[4]       # of the constants
    cdef Row row
    cdef Values values
    cdef uint8_t side_text[64]
    cdef uint8_t unknown[64]
    cdef size_t unknown_length
    cdef size_t record_bytes        # of the record at hand
    cdef bint pending
    cdef int status
    cdef const char* why
    cdef bint lost                  # nothing behind the last record can be read
    cdef bint told                  # the damage of the source has its dead letter

    cdef int next_record(self) noexcept nogil
    cdef int read_record(self, const uint8_t* p, size_t length) noexcept nogil
    cdef int read_trade(self, const uint8_t* p, size_t at_ts_recv) noexcept nogil
    cdef int read_quote(self, const uint8_t* p, size_t length) noexcept nogil
    cdef int find_symbol(self, uint32_t id, int64_t time_ns) noexcept nogil
    cdef uint32_t interval_of(self, uint32_t id, int64_t time_ns) noexcept nogil
    cdef Instrument* instrument(self, uint32_t id, bint make) noexcept nogil
    cdef int64_t add_interval(self, const uint8_t* text, size_t length, int64_t start_ns, int64_t end_ns) noexcept nogil
    cdef int learn(self, const uint8_t* p, size_t length) noexcept nogil
    cdef int add_record(self) noexcept nogil
    cdef int next_status(self) except -1
