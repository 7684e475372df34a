"""Recorded websocket messages to records: the trades of Binance and Hyperliquid."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from ext.feedwriter cimport Row
from ext.jsonscan cimport JsonKeys, JsonValue
from ext.linereader cimport LineReader

cdef enum BinanceKey:
    BINANCE_EVENT = 0               # e
    BINANCE_SYMBOL = 1              # s
    BINANCE_PRICE = 2               # p
    BINANCE_QUANTITY = 3            # q
    BINANCE_TIME = 4                # T, ms
    BINANCE_MAKER = 5               # m: the buyer is the maker
    BINANCE_TRADE_ID = 6            # t
    BINANCE_AGGREGATE_ID = 7        # a
    BINANCE_NEEDED = 0x3F

cdef enum HyperliquidKey:
    HYPERLIQUID_COIN = 0
    HYPERLIQUID_PRICE = 1
    HYPERLIQUID_SIZE = 2
    HYPERLIQUID_SIDE = 3
    HYPERLIQUID_TIME = 4            # ms
    HYPERLIQUID_ID = 5
    HYPERLIQUID_USERS = 6           # buyer, seller
    HYPERLIQUID_NEEDED = 0x7F

@cython.final
cdef class CaptureReader(LineReader):
    cdef JsonKeys binance
    cdef JsonKeys hyperliquid
    cdef JsonValue values[8]
    cdef bint as_marks
    cdef int read_data(self, const uint8_t* p, const uint8_t** behind) noexcept nogil
    cdef int read_binance(self, uint32_t given) noexcept nogil
    cdef int read_prints(self, const uint8_t* p, const uint8_t** behind) noexcept nogil
    cdef int add_print(self, bint seller) noexcept nogil
    cdef void put(self, Row* row, int field, int key) noexcept nogil
