"""Events as Python objects into records."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from ext.records cimport FrameBuilder, Record

cdef class EventEncoder:
    cdef readonly FrameBuilder builder
    cdef tuple names                # a NameTable per kind: owns what `tables` borrows
    cdef PyObject* tables[4]
    cdef uint32_t defined[4]        # ids below are defined already

    cpdef void define_again(self)
    cdef int fill(self, Record* r, object event) except -1
    cdef int fill_trade(self, Record* r, object event) except -1
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
