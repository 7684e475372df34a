"""JSON Lines to records: trades and marks of flat objects."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from ext.feedwriter cimport Row
from ext.jsonscan cimport JsonKeys, JsonValue
from ext.linereader cimport LineReader

cdef enum:
    KEY_TYPE = 12                   # 0 to 11 are the fields of a trade
    KEY_EVENT_ID = 13
    KEY_AT = 14
    KEYS = 15

@cython.final
cdef class JsonReader(LineReader):
    cdef JsonKeys keys
    cdef JsonValue values[15]
    cdef uint32_t given             # of the line at hand: 1 << key
    cdef bint marking               # the line at hand is a MarkPrice

    cdef int judge_trade(self) noexcept nogil
    cdef int judge_mark(self) noexcept nogil
    cdef bint put_value(self, Row* row, int field, int key) noexcept nogil
    cdef int add_mark(self, Row* row) noexcept nogil
