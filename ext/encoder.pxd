"""Events as Python objects into records."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from ext.records cimport FrameBuilder, Record

cdef enum TradeField:               # in the order of TRADE_FIELDS
    TRADE_ID, SYMBOL, PRICE, VOLUME, SIDE, EXECUTED_AT, ACCOUNT, VENUE, STRATEGY, FEE, EXEC_TYPE, REF_TRADE_ID
    TRADE_FIELD_COUNT

cdef class EventClass:
    """A class of events: its EventType and, of a trade's, where each field is kept.

    A slot is read where it is, as CPython's own attribute cache does: to look twelve names up takes longer than all else
    that encodes a trade. 0: no slot, or what reads attributes is the class's own; that one is asked by name. A class is
    looked at once, when it is first seen.
    """
    cdef uint8_t code
    cdef Py_ssize_t slots[12]

cdef class EventEncoder:
    cdef readonly FrameBuilder builder
    cdef tuple names                # a NameTable per kind: owns what `tables` borrows
    cdef PyObject* tables[4]
    cdef uint32_t defined[4]        # ids below are defined already

    cpdef void define_again(self)
    cpdef object add(self, object event)
    cdef int fill(self, Record* r, object event) except -1
    cdef int fill_trade(self, Record* r, object event, EventClass known) except -1
    cdef int fill_instrument(self, Record* r, object event) except -1
    cdef int fill_limits(self, Record* r, object event) except -1
    cdef int put_head(self, Record* r, object event) except -1
    cdef int put_price(self, Record* r, object value) except -1
    cdef int put_volume(self, Record* r, object value, str what) except -1
    cdef int put_fee(self, Record* r, object value) except -1
    cdef int put_id(self, Record* r, object text, str what) except -1
    cdef int put_ref(self, Record* r, object text, str what, bint required) except -1
    cdef uint32_t name(self, int kind, object text, str what, bint required) except? 0xFFFFFFFF
    cdef int define_new(self) except -1
