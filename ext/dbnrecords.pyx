"""Records of a Databento DBN stream to trades, or to marks: no Python object per record.

Every record says its own length. Trades are those with action T of the schemas that carry them; a mark is the middle of
the first level of a quote, or a trade's price where the schema has no quotes. https://databento.com/docs (DBN encoding)
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memset

from ext.bytewindow cimport ByteWindow
from ext.definitions cimport NO_NAME, NameTable
from ext.feedvalues cimport trim_i64, write_number
from ext.feedwriter cimport (
    FIELD_EXECUTED_AT, FIELD_PRICE, FIELD_SIDE, FIELD_SYMBOL, FIELD_VOLUME, FIELDS, TEXT_SLACK_BYTES, FeedWriter, Row,
    RowRules, Values, has_room,
)
from ext.recordreader cimport (
    HEAD_END, HEAD_MORE, HEAD_NO_MEMORY, HEAD_TIMED, HEAD_UNTIMED, READ_DONE, READ_END, READ_MORE, READ_NO_MEMORY,
    WindowReader,
)
from ext.records cimport (
    NAME_SYMBOL, REASON_INVALID, REASON_NONE, REASON_OVERFLOW, REASON_UNDECODABLE, Bytes, bytes_append, bytes_free,
    bytes_reserve, i128,
)
from ext.utf8 cimport is_utf8

cdef enum:
    ACTION_TRADE = 84               # T
    SIDE_NONE_TEXT = 78             # N
    TIME_MAX = 0x7FFFFFFFFFFFFFFF

cdef int64_t PRICE_UNDEFINED = 0x7FFFFFFFFFFFFFFF
cdef uint64_t TIME_UNDEFINED = 0xFFFFFFFFFFFFFFFFULL

cdef const char* EXPECTED_SYMBOL = "an instrument that the metadata maps to a symbol at that time"


cdef inline uint64_t u64_at(const uint8_t* p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return value


cdef inline uint32_t u32_at(const uint8_t* p) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return value


cdef class DbnReader:
    # Records of one stream, behind its metadata, into the frames of `writer`; see the .pyi for the Python face.

    def __cinit__(self):
        self.cache = <CacheSlot*>calloc(SYMBOL_CACHE_SLOTS, sizeof(CacheSlot))
        if self.cache == NULL:
            raise MemoryError

    def __init__(self, ByteWindow window not None, FeedWriter writer not None, uint8_t version, dict constants not None):
        cdef size_t at = 0
        self.window = window
        self.writer = writer
        self.version = version
        self.ids = NameTable()
        if bytes_reserve(&self.constant_texts, sum(len(text) + TEXT_SLACK_BYTES for text in constants.values())) < 0:
            raise MemoryError
        for field, text in constants.items():
            memcpy(self.constant_texts.data + at, <const char*><bytes>text, len(text))
            self.constants.text[<int>field] = self.constant_texts.data + at
            self.constants.length[<int>field] = len(text)
            at += len(text) + TEXT_SLACK_BYTES

    def __dealloc__(self):
        free(self.cache)
        bytes_free(&self.instruments)
        bytes_free(&self.intervals)
        bytes_free(&self.texts)
        bytes_free(&self.constant_texts)

    # --- symbols ---

    cdef Instrument* instrument(self, uint32_t id, bint make) noexcept nogil:
        """What is known of an instrument id; NULL: nothing, or no memory."""
        cdef uint32_t k = self.ids.intern(&id, 4) if make else self.ids.find(&id, 4)
        cdef size_t more
        if k == NO_NAME:
            return NULL
        if (<size_t>k + 1) * sizeof(Instrument) > self.instruments.size:
            more = (<size_t>k + 256) * sizeof(Instrument) - self.instruments.size
            if bytes_reserve(&self.instruments, more) < 0:
                return NULL
            memset(self.instruments.data + self.instruments.size, 0, more)
            self.instruments.size += more
        return <Instrument*>self.instruments.data + k

    cdef int64_t add_interval(self, const uint8_t* text, size_t length, int64_t start_ns, int64_t end_ns) noexcept nogil:
        """The number of a new interval; -1: no memory."""
        cdef Interval interval
        cdef uint8_t slack[32]
        memset(&interval, 0, sizeof(interval))
        memset(slack, 0, sizeof(slack))
        interval.start_ns = start_ns
        interval.end_ns = end_ns
        interval.text = <uint32_t>self.texts.size
        interval.length = <uint32_t>length
        if (bytes_append(&self.texts, text, length) < 0 or bytes_append(&self.texts, slack, sizeof(slack)) < 0
                or bytes_append(&self.intervals, &interval, sizeof(interval)) < 0):
            return -1
        return <int64_t>(self.intervals.size // sizeof(Interval)) - 1

    def map_symbol(self, uint32_t id, list intervals not None):
        """Say what an instrument id means: (start ns, end ns, symbol in UTF-8), by start, none overlapping."""
        cdef Instrument* instrument = self.instrument(id, True)
        cdef int64_t number
        if instrument == NULL:
            raise MemoryError
        instrument.first = <uint32_t>(self.intervals.size // sizeof(Interval))
        instrument.count = <uint32_t>len(intervals)
        for start_ns, end_ns, symbol in intervals:
            number = self.add_interval(<const uint8_t*><const char*><bytes>symbol, len(symbol), start_ns, end_ns)
            if number < 0:
                raise MemoryError

    cdef int learn(self, const uint8_t* p, size_t length) noexcept nogil:
        """A symbol mapping in the stream: from here on the instrument has that symbol. -1: no memory."""
        cdef size_t at = 38 if self.version == 1 else 89
        cdef size_t room = 22 if self.version == 1 else 71
        cdef const uint8_t* end
        cdef Instrument* instrument
        cdef int64_t number
        cdef uint32_t id = u32_at(p + 4)
        if length < at + room:
            return 0
        end = <const uint8_t*>memchr(p + at, 0, room)
        if end == NULL or end == p + at or not is_utf8(p + at, <size_t>(end - p) - at):
            return 0
        instrument = self.instrument(id, True)
        number = self.add_interval(p + at, <size_t>(end - p) - at, -<int64_t>TIME_MAX, TIME_MAX)
        if instrument == NULL or number < 0:
            return -1
        instrument.live = <uint32_t>number + 1
        self.cache[id & (SYMBOL_CACHE_SLOTS - 1)].interval = 0
        return 0

    cdef uint32_t interval_of(self, uint32_t id, int64_t time_ns) noexcept nogil:
        """Number + 1 of what an instrument id means at a time; 0: nothing."""
        cdef CacheSlot* slot = &self.cache[id & (SYMBOL_CACHE_SLOTS - 1)]
        cdef Instrument* instrument
        cdef const Interval* interval
        cdef uint32_t low, high, middle, found
        if slot.interval and slot.id == id and slot.start_ns <= time_ns < slot.end_ns:
            return slot.interval
        instrument = self.instrument(id, False)
        if instrument == NULL:
            return 0
        found = instrument.live
        if found == 0:
            low, high = instrument.first, instrument.first + instrument.count
            while low < high:
                middle = (low + high) // 2
                interval = <const Interval*>self.intervals.data + middle
                if interval.end_ns <= time_ns:
                    low = middle + 1
                else:
                    high = middle
            if low < instrument.first + instrument.count and (<const Interval*>self.intervals.data + low).start_ns <= time_ns:
                found = low + 1
        if found:
            interval = <const Interval*>self.intervals.data + (found - 1)
            slot.id = id
            slot.interval = found
            slot.start_ns = interval.start_ns
            slot.end_ns = interval.end_ns
        return found

    cdef int find_symbol(self, uint32_t id, int64_t time_ns) noexcept nogil:
        """The symbol of an instrument into the row; an unknown one leaves it empty, and its words in `unknown`."""
        cdef uint32_t number = self.interval_of(id, time_ns)
        cdef Interval* interval
        self.unknown_length = 0
        if number == 0:
            memcpy(self.unknown, <const char*>b"instrument ", 11)
            self.unknown_length = 11 + write_number(id, self.unknown + 11)
            return 0
        interval = <Interval*>self.intervals.data + (number - 1)
        self.row.text[<int>FIELD_SYMBOL] = self.texts.data + interval.text
        self.row.length[<int>FIELD_SYMBOL] = interval.length
        self.values.name_ids[<int>NAME_SYMBOL] = &interval.name_id
        return 0

    # --- records ---

    cdef int read_trade(self, const uint8_t* p, size_t at_ts_recv) noexcept nogil:
        """What trades of every schema share: times, symbol, price; DBN_RECORD."""
        cdef uint64_t ts_event = u64_at(p + 8), ts_recv = u64_at(p + at_ts_recv)
        self.row = self.constants
        self.values.given = 1 << FIELD_EXECUTED_AT
        self.values.time_reason = REASON_NONE
        if ts_event == TIME_UNDEFINED:
            ts_event = ts_recv
        if ts_event > <uint64_t>TIME_MAX:
            self.values.time_reason = REASON_OVERFLOW
            ts_event = 0
        self.values.executed_at = <int64_t>ts_event
        # The day of a symbol is that of the time by which files are sorted, as Databento's own libraries have it.
        if ts_recv > <uint64_t>TIME_MAX or ts_recv == 0:
            ts_recv = ts_event
        self.find_symbol(u32_at(p + 4), <int64_t>ts_recv)
        return DBN_RECORD

    cdef int read_quote(self, const uint8_t* p, size_t length) noexcept nogil:
        """The middle of a quote's first level as the price; False: a side is missing."""
        cdef int64_t bid, ask
        cdef i128 twice
        if length < QUOTE_BYTES:
            return False
        bid, ask = <int64_t>u64_at(p + 48), <int64_t>u64_at(p + 56)
        if bid == PRICE_UNDEFINED or ask == PRICE_UNDEFINED:
            return False
        twice = (<i128>bid + <i128>ask) * <i128>5
        self.values.price.exponent = -10
        self.values.price.wide = 0
        if twice > <i128>TIME_MAX or twice < -<i128>TIME_MAX:
            # Too wide for tenths of the unit: the middle to the unit, which is finer than any price.
            twice = twice // 10
            self.values.price.exponent = -9
        self.values.price.mantissa = <int64_t>twice
        trim_i64(&self.values.price)
        self.values.given |= 1 << FIELD_PRICE
        return True

    cdef int read_record(self, const uint8_t* p, size_t length) noexcept nogil:
        """Judge a record: DBN_RECORD, DBN_BROKEN, or DBN_MORE for one that is passed over."""
        cdef uint8_t rtype = p[1], action, side
        cdef bint mbo = rtype == TYPE_MBO
        cdef bint quotes = rtype in (TYPE_MBP1, TYPE_MBP10, TYPE_CMBP1, TYPE_TCBBO, TYPE_TBBO)
        cdef size_t shift = 8 if mbo else 0
        if self.as_marks and rtype in (TYPE_BBO_1S, TYPE_BBO_1M, TYPE_CBBO_1S, TYPE_CBBO_1M):
            if length < QUOTE_BYTES:
                self.why = "the record is too short for its type: expected a DBN record"
                return DBN_BROKEN
            self.read_trade(p, 32)
            return DBN_RECORD if self.read_quote(p, length) else DBN_MORE
        if not (mbo or quotes or rtype == TYPE_MBP0):
            return DBN_MORE
        if length < (MBO_BYTES if mbo else TRADE_BYTES):
            self.why = "the record is too short for its type: expected a DBN record"
            return DBN_BROKEN
        action = p[38] if mbo else p[28]
        side = p[39] if mbo else p[29]
        if action != ACTION_TRADE and not (self.as_marks and quotes):
            return DBN_MORE
        self.read_trade(p, 32 + shift)
        if self.as_marks and quotes:
            if self.read_quote(p, length):
                return DBN_RECORD
            if action != ACTION_TRADE:
                return DBN_MORE
        self.values.price.mantissa = <int64_t>u64_at(p + 16 + shift)
        if self.values.price.mantissa != PRICE_UNDEFINED:
            self.values.price.exponent = -9
            self.values.price.wide = 0
            trim_i64(&self.values.price)
            self.values.given |= 1 << FIELD_PRICE
        self.values.volume.mantissa = <int64_t>u32_at(p + 24 + shift)
        self.values.volume.exponent = 0
        self.values.volume.wide = 0
        trim_i64(&self.values.volume)
        self.values.given |= 1 << FIELD_VOLUME
        self.side_text[0] = side
        self.row.text[<int>FIELD_SIDE] = self.side_text
        self.row.length[<int>FIELD_SIDE] = 1
        return DBN_RECORD

    cdef int next_record(self) noexcept nogil:
        """The next record that counts, read and not taken: a DbnStatus."""
        cdef const uint8_t* p
        cdef size_t left
        if self.pending:
            return self.status
        if self.lost:
            return DBN_END
        while True:
            left = self.window.bytes.size - self.window.position
            p = self.window.bytes.data + self.window.position
            if left == 0:
                return DBN_END if self.window.at_end else DBN_MORE
            self.record_bytes = <size_t>p[0] * 4
            if self.record_bytes < HEADER_BYTES:
                if left < HEADER_BYTES and not self.window.at_end:
                    return DBN_MORE
                self.why = "found a record length below 16 bytes: nothing behind it can be read"
                self.record_bytes = HEADER_BYTES if left > HEADER_BYTES else left
                self.status = DBN_LOST
                self.pending = True
                return self.status
            if self.record_bytes > left:
                if not self.window.at_end:
                    return DBN_MORE
                if self.window.damage is not None:
                    return DBN_END
                self.why = "the stream breaks off inside a record"
                self.record_bytes = left
                self.status = DBN_BROKEN
                self.pending = True
                return self.status
            if p[1] == TYPE_SYMBOL_MAPPING:
                if self.learn(p, self.record_bytes) < 0:
                    return -1
                self.window.position += self.record_bytes
                continue
            self.status = self.read_record(p, self.record_bytes)
            if self.status != DBN_MORE:
                self.pending = True
                return self.status
            self.window.position += self.record_bytes

    cdef int add_record(self) noexcept nogil:
        """The record at hand, or its refusal, with its origin; -1: no memory."""
        cdef int added
        cdef const uint8_t* raw = self.window.bytes.data + self.window.position
        self.records_read += 1
        if self.status != DBN_RECORD:
            added = self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0, self.why)
        elif self.unknown_length:
            added = self.writer.reject(REASON_INVALID, "symbol", self.unknown, self.unknown_length, EXPECTED_SYMBOL)
        elif self.side_text[0] == SIDE_NONE_TEXT and self.row.length[<int>FIELD_SIDE]:
            added = self.writer.add_values(self.sided, &self.row, &self.values, self.records_read)
        else:
            added = self.writer.add_values(self.rules, &self.row, &self.values, self.records_read)
        if added == 0:
            added = self.writer.builder.add_origin(self.window.base + self.window.position, raw, self.record_bytes)
        self.window.position += self.record_bytes
        self.pending = False
        self.lost = self.status == DBN_LOST
        return -1 if added < 0 else 0

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        cdef int status = self.next_record()
        if status < 0:
            return HEAD_NO_MEMORY
        if status == DBN_MORE:
            return HEAD_MORE
        if status == DBN_END:
            return HEAD_UNTIMED if self.window.damage is not None and not self.told and not self.lost else HEAD_END
        if status != DBN_RECORD or self.values.time_reason != REASON_NONE:
            return HEAD_UNTIMED
        time_ns[0] = self.values.executed_at
        return HEAD_TIMED

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        cdef int status
        while has_room(self.writer.builder, records_max):
            status = self.next_record()
            if status >= DBN_MORE:
                return READ_MORE if status == DBN_MORE else READ_END
            if limited and status == DBN_RECORD and self.values.time_reason == REASON_NONE and self.values.executed_at > limit_ns:
                return READ_DONE
            if status < 0 or self.add_record() < 0:
                return READ_NO_MEMORY
        return READ_DONE

    cdef int end(self) except -1:
        """The last dead letter of a stream that broke off, with the record that was cut."""
        if self.window.damage is None or self.told or self.lost:
            return 0
        self.told = True
        self.records_read += 1
        self.writer.add_rejected(REASON_UNDECODABLE, self.window.damage)
        if self.writer.builder.add_origin(
                self.window.base + self.window.position, self.window.bytes.data + self.window.position,
                self.window.bytes.size - self.window.position) < 0:
            raise MemoryError
        return 0

    cdef int next_status(self) except -1:
        cdef int status
        while True:
            with nogil:
                status = self.next_record()
            if status < 0:
                raise MemoryError
            if status != DBN_MORE:
                return status
            self.window.refill()

    def begin(self, RowRules rules not None, RowRules sided not None):
        """Take the rules of records that say their side, and of those that do not."""
        self.rules = rules
        self.sided = sided
        self.as_marks = rules.as_marks

    def expect_marks(self, bint as_marks):
        """Say before `first_record` whether quotes count."""
        self.as_marks = as_marks

    def first_record(self):
        """The bytes of the next record that counts, not taken; None where there is none."""
        if self.next_status() == DBN_END:
            return None
        return PyBytes_FromStringAndSize(<const char*>self.window.bytes.data + self.window.position, self.record_bytes)
