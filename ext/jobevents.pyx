"""A frame of jobs for its handler: trades as Python objects, and of every event a hash to know it again."""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ext.records cimport (
    EVENT_ADJUST, EVENT_LIMITS, EVENT_MARK, EVENT_TRADE, EXEC_BUST, FRAME_ALERTS, Frame, NAME_ACCOUNT, NAME_STRATEGY,
    NAME_SYMBOL, NAME_VENUE, Record, SIDE_SELL,
)

from decimal import Decimal

from ext.records import EXEC_TYPES as EXEC_TYPE_NAMES
from ext.records import SIDES as SIDE_NAMES

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef extern from "identity.h":
    uint64_t rw_identity(const uint64_t* key, uint64_t w0, uint64_t w1, const uint8_t* p, size_t n) noexcept nogil

cdef enum:
    FEE_EXPONENT = -9
    EXPONENT_MAX = 127 + 19         # of 10**18 x 10**127
    DECIMALS = 16384                # remembered: a power of two
    DECIMAL_TEXT_MAX = 160          # characters: 20 of the mantissa, up to 127 zeros

# Digits of pi. The hashes lie in files: with another key, or other words under it, they would all be others.
cdef uint64_t[5] KEY = [
    0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89, 0x452821E638D01377,
]
cdef object make_decimal = Decimal
cdef tuple SIDES = SIDE_NAMES
cdef tuple EXEC_TYPES = EXEC_TYPE_NAMES

cdef struct Number:
    int64_t mantissa
    int exponent


cdef inline Number trimmed(int64_t mantissa, int exponent, int exponent_max) noexcept nogil:
    """The same value without trailing zeros, as far as its exponent may grow; 0 has exponent 0."""
    cdef Number n
    if mantissa == 0:
        exponent = exponent_max = 0
    while exponent <= exponent_max - 4 and mantissa % 10000 == 0:
        mantissa //= 10000
        exponent += 4
    while exponent < exponent_max and mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    n.mantissa = mantissa
    n.exponent = exponent
    return n


cdef object decimal_from(Number n):
    """An exact Decimal, as engine.codec.decimal_of makes it."""
    cdef char[DECIMAL_TEXT_MAX] text
    cdef int size = snprintf(text, DECIMAL_TEXT_MAX, "%lld", <long long>n.mantissa)
    if n.exponent > 0:
        memset(text + size, c"0", n.exponent)
        size += n.exponent
    elif n.exponent < 0:
        size += snprintf(text + size, DECIMAL_TEXT_MAX - size, "E%d", n.exponent)
    return make_decimal(PyUnicode_DecodeUTF8(text, size, NULL))


cdef class JobReader:
    """Reads frames of jobs: trades as objects, and the hash of each event.

    trade: called with the fields of a trade in the order of TradeExecuted. names: per kind a dict of name ids and
    texts, to which the caller adds what frames define. A record whose name is not there raises KeyError: its job has
    to fail rather than have a wrong effect.
    """
    cdef object trade
    cdef tuple names
    cdef Number[DECIMALS] keys
    cdef list values                # of `keys`

    def __init__(self, trade, tuple names not None):
        self.trade = trade
        self.names = names
        self.values = [None] * DECIMALS

    def trades(self, Frame frame not None):
        """The frame's trades as a list; None where other events are among them."""
        cdef const Record* records = frame.view.records
        cdef uint32_t count = frame.view.header.record_count, i
        cdef list found = []
        if frame.view.header.kind == FRAME_ALERTS:
            return None
        for i in range(count):
            if records[i].type != EVENT_TRADE:
                return None
        for i in range(count):
            found.append(self.trade_of(&records[i], frame.view.heap))
        return found

    cdef object trade_of(self, const Record* r, const uint8_t* heap):
        if r.side > SIDE_SELL or r.exec_type > EXEC_BUST:
            raise ValueError(f"side {r.side}, exec_type {r.exec_type}: no trade has these")
        return self.trade(
            text_of(heap + r.id_offset, r.id_length),
            self.name(NAME_SYMBOL, r.symbol),
            self.decimal(r.price, r.price_exponent),
            self.decimal(r.volume, r.volume_exponent),
            SIDES[r.side],
            r.executed_at,
            self.name(NAME_ACCOUNT, r.account),
            self.name(NAME_VENUE, r.venue),
            self.name(NAME_STRATEGY, r.strategy),
            self.decimal(r.fee, FEE_EXPONENT),
            EXEC_TYPES[r.exec_type],
            text_of(heap + r.ref_offset, r.ref_length),
        )

    cdef object name(self, int kind, uint32_t id):
        cdef PyObject* text = PyDict_GetItem(<dict>self.names[kind], id)
        if text == NULL:
            raise KeyError(id)
        return <object>text

    cdef object decimal(self, int64_t mantissa, int exponent):
        cdef Number n = trimmed(mantissa, exponent, 0)
        cdef uint64_t mixed = (<uint64_t>n.mantissa + <uint64_t>n.exponent) * <uint64_t>0x9E3779B97F4A7C15
        cdef size_t at = mixed >> 50
        cdef object value = <object>self.values[at]
        if value is None or self.keys[at].mantissa != n.mantissa or self.keys[at].exponent != n.exponent:
            value = decimal_from(n)
            self.values[at] = value
            self.keys[at] = n
        return value

    def hashes(self, Frame frame not None):
        """8 bytes for each of the frame's events: the same for equal events, however their names are numbered."""
        cdef uint32_t count = frame.view.header.record_count, i
        cdef bytearray found = bytearray(8 * count)
        cdef uint64_t* out = <uint64_t*><char*>found
        for i in range(count):
            out[i] = self.hash_of(frame.record(i), frame.view.heap)
        return bytes(found)

    cdef uint64_t hash_of(self, const Record* r, const uint8_t* heap) except? 0:
        cdef Number price = Number(r.price, r.price_exponent), volume = Number(r.volume, r.volume_exponent)
        cdef uint64_t ref_length = r.volume if r.type == EVENT_LIMITS else r.ref_length
        cdef uint64_t h, kinds
        if r.type == EVENT_TRADE or r.type == EVENT_MARK or r.type == EVENT_ADJUST:
            price = trimmed(r.price, r.price_exponent, EXPONENT_MAX)
            volume = trimmed(r.volume, r.volume_exponent, EXPONENT_MAX)
        kinds = (r.type | r.exec_type << 8 | r.side << 16
                 | <uint64_t><uint8_t>price.exponent << 24 | <uint64_t><uint8_t>volume.exponent << 32)
        h = rw_identity(KEY, kinds, r.executed_at, heap + r.id_offset, r.id_length)
        h = rw_identity(KEY, h, r.fee, heap + r.ref_offset, ref_length)
        h = self.add_name(h, price.mantissa, NAME_SYMBOL, r.symbol)
        h = self.add_name(h, volume.mantissa, NAME_ACCOUNT, r.account)
        h = self.add_name(h, 0, NAME_VENUE, r.venue)
        return self.add_name(h, 0, NAME_STRATEGY, r.strategy)

    cdef uint64_t add_name(self, uint64_t h, int64_t word, int kind, uint32_t id) except? 0:
        cdef Py_ssize_t size
        cdef const char* text = PyUnicode_AsUTF8AndSize(self.name(kind, id), &size)
        return rw_identity(KEY, h, <uint64_t>word, <const uint8_t*>text, size)


cdef inline object text_of(const uint8_t* text, size_t length):
    return PyUnicode_DecodeUTF8(<const char*>text, length, "replace") if length else ""
