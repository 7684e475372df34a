"""Recorded websocket messages, ``<local ns> <JSON>`` a line, to records: the trades of Binance and Hyperliquid.

A line without a trade is passed over where it has the form of a message; whatever is not plain is judged in Python.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from ext.feedwriter cimport (
    FIELD_ACCOUNT, FIELD_EXECUTED_AT, FIELD_PRICE, FIELD_SIDE, FIELD_SYMBOL, FIELD_TRADE_ID, FIELD_VENUE, FIELD_VOLUME,
    FeedWriter, Row,
)
from ext.jsonscan cimport (
    JSON_FALSE, JSON_NUMBER, JSON_STRING, JSON_STRINGS, JSON_TRUE, add_key, read_object, read_value, skip_digits,
    skip_space, skip_string,
)
from ext.linereader cimport LINE_NO_MEMORY, LINE_OTHER, LINE_ROWS, LINE_SLOW, LineReader
from ext.utf8 cimport is_utf8

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_length, const void* needle, size_t needle_length)

cdef enum:
    STAMP_DIGITS_MIN = 16
    STAMP_DIGITS_MAX = 19
    MS_DIGITS = 13                  # of a time in milliseconds since 2001, and before 2286

# With the bytes behind them that a text of a row must have.
cdef const char* BUY_TEXT = "buy                                     "
cdef const char* SELL_TEXT = "sell                                    "
cdef const char* BINANCE_TEXT = "binance                                 "
cdef const char* HYPERLIQUID_TEXT = "hyperliquid                             "


cdef inline bint has(const uint8_t* p, size_t n, const char* mark, size_t mark_length) noexcept nogil:
    return memmem(p, n, mark, mark_length) != NULL


cdef inline bint may_be_trade(const uint8_t* p, size_t n) noexcept nogil:
    """Whether one of the marks of a trade is in a line; all of them end in what is looked for first."""
    return has(p, n, b"rade", 4) and (
        has(p, n, b'"e":"trade"', 11) or has(p, n, b'"e":"aggTrade"', 14) or has(p, n, b'"channel":"trades"', 18))


cdef inline bint is_whole(const JsonValue* value) noexcept nogil:
    """Whether a value is an integer above or equal to 0, as it is written."""
    return value.kind == JSON_NUMBER and skip_digits(value.text) == value.text + value.length


cdef inline void put_text(Row* row, int field, const char* text, size_t length) noexcept nogil:
    row.text[field] = <const uint8_t*>text
    row.length[field] = length


cdef class CaptureReader(LineReader):
    def __init__(self, source not None, FeedWriter writer not None, slow not None, bint as_marks):
        """``as_marks``: quotes count too (Python reads them), and a print is one mark."""
        LineReader.__init__(self, source, writer, slow)
        self.as_marks = as_marks
        for key in b"espqTmta":
            add_key(&self.binance, bytes([key]))
        for name in (b"coin", b"px", b"sz", b"side", b"time", b"tid", b"users"):
            add_key(&self.hyperliquid, name)

    cdef int judge(self, const uint8_t* p, size_t n) noexcept nogil:
        cdef const uint8_t* text = skip_digits(p)
        cdef const uint8_t* end = p + n
        cdef const uint8_t* behind = NULL
        cdef uint32_t given = 0
        cdef int status
        if not STAMP_DIGITS_MIN <= text - p <= STAMP_DIGITS_MAX or text[0] != 32:
            return LINE_SLOW
        text += 1
        if not (text[0] == 123 or text[0] == 91) or not ((end - 1)[0] == 125 or (end - 1)[0] == 93):
            return LINE_SLOW
        if self.as_marks and has(p, n, b"bookTicker", 10):
            return LINE_SLOW
        if not may_be_trade(text, <size_t>(end - text)):
            return LINE_OTHER
        if not is_utf8(p, n):
            return LINE_SLOW
        if memcmp(text, <const char*>b'{"e":', 5) == 0:
            behind = read_object(text, &self.binance, self.values, &given)
            status = LINE_SLOW if behind == NULL else self.read_binance(given)
        else:
            status = self.read_data(text, &behind)
        return LINE_SLOW if status == LINE_ROWS and skip_space(behind) < end else status

    cdef int read_data(self, const uint8_t* p, const uint8_t** behind) noexcept nogil:
        """The `data` of an envelope, whose other values are plain: LINE_ROWS or LINE_SLOW."""
        cdef JsonValue key, other
        cdef uint32_t given = 0
        cdef int status = LINE_SLOW
        if p[0] != 123:
            return LINE_SLOW
        while True:
            p = skip_space(p + 1)
            p = read_value(p, &key) if p[0] == 34 else NULL
            if p == NULL:
                return LINE_SLOW
            p = skip_space(p)
            if p[0] != 58:
                return LINE_SLOW
            p = skip_space(p + 1)
            if key.length == 4 and memcmp(key.text, <const char*>b"data", 4) == 0:
                if status == LINE_ROWS:
                    return LINE_SLOW
                if p[0] == 91:
                    status = self.read_prints(p, &p)
                else:
                    p = read_object(p, &self.binance, self.values, &given)
                    status = LINE_SLOW if p == NULL else self.read_binance(given)
                if status != LINE_ROWS:
                    return status
            else:
                p = read_value(p, &other)
                if p == NULL:
                    return LINE_SLOW
            p = skip_space(p)
            if p[0] == 125:
                behind[0] = p + 1
                return status
            if p[0] != 44:
                return LINE_SLOW

    cdef void put(self, Row* row, int field, int key) noexcept nogil:
        row.text[field] = self.values[key].text
        row.length[field] = self.values[key].length

    cdef int read_binance(self, uint32_t given) noexcept nogil:
        """A trade, or an aggregate trade: then its id is another key."""
        cdef const JsonValue* v = self.values
        cdef int id = BINANCE_TRADE_ID
        cdef Row* row
        if given & BINANCE_NEEDED != BINANCE_NEEDED:
            return LINE_SLOW
        if v[<int>BINANCE_EVENT].length == 8 and memcmp(v[<int>BINANCE_EVENT].text, <const char*>b"aggTrade", 8) == 0:
            id = BINANCE_AGGREGATE_ID
        elif v[<int>BINANCE_EVENT].length != 5 or memcmp(v[<int>BINANCE_EVENT].text, <const char*>b"trade", 5) != 0:
            return LINE_SLOW
        if (v[<int>BINANCE_EVENT].kind != JSON_STRING or v[<int>BINANCE_SYMBOL].kind != JSON_STRING
                or v[<int>BINANCE_PRICE].kind != JSON_STRING or v[<int>BINANCE_QUANTITY].kind != JSON_STRING
                or not is_whole(&v[<int>BINANCE_TIME]) or v[<int>BINANCE_TIME].length != MS_DIGITS
                or (v[<int>BINANCE_MAKER].kind != JSON_TRUE and v[<int>BINANCE_MAKER].kind != JSON_FALSE)):
            return LINE_SLOW
        # The other id, where there is one, must be a number too: Python would not take the message otherwise.
        if not given & (1 << id) or (given & (1 << BINANCE_TRADE_ID) and not is_whole(&v[<int>BINANCE_TRADE_ID])) or (
                given & (1 << BINANCE_AGGREGATE_ID) and not is_whole(&v[<int>BINANCE_AGGREGATE_ID])):
            return LINE_SLOW
        if v[id].length > 18:
            return LINE_SLOW
        row = self.new_row()
        if row == NULL:
            return LINE_NO_MEMORY
        self.put(row, FIELD_TRADE_ID, id)
        self.put(row, FIELD_SYMBOL, BINANCE_SYMBOL)
        self.put(row, FIELD_PRICE, BINANCE_PRICE)
        self.put(row, FIELD_VOLUME, BINANCE_QUANTITY)
        self.put(row, FIELD_EXECUTED_AT, BINANCE_TIME)
        if v[<int>BINANCE_MAKER].kind == JSON_TRUE:
            put_text(row, FIELD_SIDE, SELL_TEXT, 4)
        else:
            put_text(row, FIELD_SIDE, BUY_TEXT, 3)
        put_text(row, FIELD_VENUE, BINANCE_TEXT, 7)
        return LINE_ROWS

    cdef int read_prints(self, const uint8_t* p, const uint8_t** behind) noexcept nogil:
        """Hyperliquid's prints: each is a buy of the buyer and a sell of the seller."""
        cdef uint32_t given = 0
        cdef const JsonValue* v = self.values
        while True:
            p = read_object(skip_space(p + 1), &self.hyperliquid, self.values, &given)
            if p == NULL or given != HYPERLIQUID_NEEDED:
                return LINE_SLOW
            if (v[<int>HYPERLIQUID_COIN].kind != JSON_STRING or v[<int>HYPERLIQUID_PRICE].kind != JSON_STRING
                    or v[<int>HYPERLIQUID_SIZE].kind != JSON_STRING or v[<int>HYPERLIQUID_SIDE].kind != JSON_STRING
                    or v[<int>HYPERLIQUID_USERS].kind != JSON_STRINGS
                    or not is_whole(&v[<int>HYPERLIQUID_TIME]) or v[<int>HYPERLIQUID_TIME].length != MS_DIGITS
                    or not is_whole(&v[<int>HYPERLIQUID_ID]) or v[<int>HYPERLIQUID_ID].length > 18):
                return LINE_SLOW
            if self.add_print(False) < 0 or (not self.as_marks and self.add_print(True) < 0):
                return LINE_NO_MEMORY
            p = skip_space(p)
            if p[0] == 93:
                behind[0] = p + 1
                return LINE_ROWS
            if p[0] != 44:
                return LINE_SLOW

    cdef int add_print(self, bint seller) noexcept nogil:
        """One side of a print as a row; -1: no memory."""
        cdef Row* row = self.new_row()
        cdef const uint8_t* user = self.values[<int>HYPERLIQUID_USERS].text
        if row == NULL:
            return -1
        user = <const uint8_t*>memchr(user, 34, self.values[<int>HYPERLIQUID_USERS].length) + 1
        if seller:
            user = skip_string(user)
            user = <const uint8_t*>memchr(user, 34, <size_t>(self.values[<int>HYPERLIQUID_USERS].text
                                                            + self.values[<int>HYPERLIQUID_USERS].length - user)) + 1
        row.text[<int>FIELD_ACCOUNT] = user
        row.length[<int>FIELD_ACCOUNT] = <size_t>(skip_string(user) - user) - 1
        self.put(row, FIELD_TRADE_ID, HYPERLIQUID_ID)
        self.put(row, FIELD_SYMBOL, HYPERLIQUID_COIN)
        self.put(row, FIELD_PRICE, HYPERLIQUID_PRICE)
        self.put(row, FIELD_VOLUME, HYPERLIQUID_SIZE)
        self.put(row, FIELD_EXECUTED_AT, HYPERLIQUID_TIME)
        if seller:
            put_text(row, FIELD_SIDE, SELL_TEXT, 4)
        else:
            put_text(row, FIELD_SIDE, BUY_TEXT, 3)
        put_text(row, FIELD_VENUE, HYPERLIQUID_TEXT, 11)
        return 0
