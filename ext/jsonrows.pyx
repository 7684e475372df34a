"""JSON Lines to records: trades and marks of flat objects; every other event, and whatever is not plain, in Python."""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from ext.decimals cimport DECIMAL_OK, Decimal64
from ext.definitions cimport NO_NAME
from ext.feedvalues cimport read_decimal, read_time
from ext.feedwriter cimport (
    FIELD_EXECUTED_AT, FIELD_PRICE, FIELD_SYMBOL, FIELD_TRADE_ID, FIELDS,
    ROW_SKIPPED, FeedWriter, Row,
)
from ext.jsonscan cimport JSON_NULL, JSON_NUMBER, JSON_STRING, add_key, read_object, skip_space
from ext.feedwriter import FIELD_NAMES
from ext.linereader cimport LINE_NO_MEMORY, LINE_ROWS, LINE_SLOW, LineReader
from ext.records cimport EVENT_MARK, NAME_SYMBOL, REASON_NONE, TEXT_BYTES_MAX, Record
from ext.utf8 cimport is_utf8

cdef enum:
    # Fields of a trade that may be JSON numbers, as bits.
    NUMBERS = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 9) | (1 << 11)


cdef inline bint is_word(const JsonValue* value, const char* word, size_t length) noexcept nogil:
    return value.kind == JSON_STRING and value.length == length and memcmp(value.text, word, length) == 0


cdef class JsonReader(LineReader):
    def __init__(self, source not None, FeedWriter writer not None, slow not None):
        LineReader.__init__(self, source, writer, slow)
        for name in (*FIELD_NAMES, "type", "event_id", "at"):
            add_key(&self.keys, name.encode())

    cdef int judge(self, const uint8_t* p, size_t n) noexcept nogil:
        cdef const uint8_t* end = p + n
        cdef const uint8_t* behind = read_object(skip_space(p), &self.keys, self.values, &self.given)
        if behind == NULL or skip_space(behind) < end or not is_utf8(p, n):
            return LINE_SLOW
        self.marking = False
        if self.given & (1 << KEY_TYPE) and self.values[<int>KEY_TYPE].kind != JSON_NULL:
            if is_word(&self.values[<int>KEY_TYPE], b"MarkPrice", 9):
                return self.judge_mark()
            if not is_word(&self.values[<int>KEY_TYPE], b"TradeExecuted", 13):
                return LINE_SLOW
        return self.judge_trade()

    cdef bint put_value(self, Row* row, int field, int key) noexcept nogil:
        """A key's text into the row; False: it is not of a kind that a text may be."""
        cdef const JsonValue* value = &self.values[key]
        if not self.given & (<uint32_t>1 << key) or value.kind == JSON_NULL:
            return True
        if value.kind != JSON_STRING and (value.kind != JSON_NUMBER or not NUMBERS & (1 << field)):
            return False
        row.text[field] = value.text
        row.length[field] = value.length
        return True

    cdef int judge_trade(self) noexcept nogil:
        cdef Row* row
        cdef int field
        if self.given & (1 << KEY_AT):
            return LINE_SLOW
        row = self.new_row()
        if row == NULL:
            return LINE_NO_MEMORY
        for field in range(<int>FIELDS):
            if not self.put_value(row, field, field):
                return LINE_SLOW
        return LINE_ROWS

    cdef int judge_mark(self) noexcept nogil:
        """Only what can be a record is read here: a mark that is refused is refused in Python."""
        cdef Row* row = self.new_row()
        cdef Decimal64 price
        cdef int64_t time_ns
        if row == NULL:
            return LINE_NO_MEMORY
        if not (self.put_value(row, FIELD_TRADE_ID, KEY_EVENT_ID) and self.put_value(row, FIELD_SYMBOL, FIELD_SYMBOL)
                and self.put_value(row, FIELD_PRICE, FIELD_PRICE) and self.put_value(row, FIELD_EXECUTED_AT, KEY_AT)):
            return LINE_SLOW
        if row.text[<int>FIELD_PRICE] == NULL or row.text[<int>FIELD_EXECUTED_AT] == NULL:
            return LINE_SLOW
        if not 0 < row.length[<int>FIELD_SYMBOL] <= TEXT_BYTES_MAX or row.length[<int>FIELD_TRADE_ID] > TEXT_BYTES_MAX:
            return LINE_SLOW
        if row.text[<int>FIELD_TRADE_ID] != NULL and row.length[<int>FIELD_TRADE_ID] == 0:
            return LINE_SLOW
        if (read_decimal(row.text[<int>FIELD_PRICE], row.length[<int>FIELD_PRICE], &price) != DECIMAL_OK or price.wide
                or not -128 <= price.exponent <= 127
                or read_time(row.text[<int>FIELD_EXECUTED_AT], row.length[<int>FIELD_EXECUTED_AT], &time_ns)
                != REASON_NONE):
            return LINE_SLOW
        self.marking = True
        return LINE_ROWS

    cdef int add(self, Row* row) noexcept nogil:
        if self.marking:
            return self.add_mark(row)
        return LineReader.add(self, row)

    cdef int add_mark(self, Row* row) noexcept nogil:
        cdef Decimal64 price
        cdef int64_t time_ns = 0, offset
        cdef int kept
        cdef uint32_t symbol
        cdef Record* r
        cdef const uint8_t* id = row.text[<int>FIELD_TRADE_ID]
        cdef size_t id_length = row.length[<int>FIELD_TRADE_ID]
        read_decimal(row.text[<int>FIELD_PRICE], row.length[<int>FIELD_PRICE], &price)
        read_time(row.text[<int>FIELD_EXECUTED_AT], row.length[<int>FIELD_EXECUTED_AT], &time_ns)
        if self.writer.filtered:
            kept = self.writer.row_filter.keeps(row.text[<int>FIELD_SYMBOL], row.length[<int>FIELD_SYMBOL], NULL, 0,
                                                time_ns, True)
            if kept <= 0:
                return kept if kept < 0 else ROW_SKIPPED
        if id == NULL:
            id_length = self.made_id(&id)
        symbol = self.writer.name_id(NAME_SYMBOL, row.text[<int>FIELD_SYMBOL], row.length[<int>FIELD_SYMBOL])
        offset = self.writer.builder.add_text(id, id_length)
        r = self.writer.builder.add()
        if symbol == NO_NAME or offset < 0 or r == NULL:
            return -1
        r.type = EVENT_MARK
        r.symbol = symbol
        r.id_offset = <uint32_t>offset
        r.id_length = <uint8_t>id_length
        r.price = price.mantissa
        r.price_exponent = <int8_t>(price.exponent if price.mantissa else 0)
        r.executed_at = time_ns
        return 0
