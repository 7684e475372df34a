"""Names as dense integers, and instruments: what a symbol's integers mean."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.records cimport Bytes

cdef enum:
    NO_NAME = 0xFFFFFFFF

cdef class NameTable:
    """Texts of one kind as ids 1, 2, 3 …; id 0 is the empty text and always there."""
    cdef Bytes texts
    cdef Bytes offsets              # uint64 per id: offset << 8 | length
    cdef uint32_t* slots
    cdef uint64_t slot_mask
    cdef readonly uint32_t count    # ids given, 0 included

    cdef uint64_t probe(self, const uint8_t* text, size_t length) noexcept nogil
    cdef int grow(self) noexcept nogil
    cdef uint32_t find(self, const void* text, size_t length) noexcept nogil             # NO_NAME: not there
    cdef uint32_t intern(self, const void* text, size_t length) noexcept nogil           # NO_NAME: no memory
    cdef const uint8_t* text(self, uint32_t id, size_t* length) noexcept nogil           # id < count

cdef bint glob_match(const uint8_t* pattern, size_t pattern_length, const uint8_t* text, size_t length) noexcept nogil

cdef struct Instrument:
    int64_t multiplier              # multiplier x 10**multiplier_exponent, > 0, no trailing zeros
    uint32_t currency               # id in Instruments.currencies; 0: the base currency
    int8_t multiplier_exponent
    int8_t price_exponent           # default -9
    int8_t quantity_exponent        # default -8
    uint8_t unused                  # 0: a state's bytes and their hash have it

cdef class Instruments:
    """Rules from InstrumentDefined events: exact symbols before globs, the first glob defined wins."""
    cdef readonly NameTable currencies
    cdef NameTable rule_names       # rule id = name id
    cdef Bytes rules                # Instrument per rule id
    cdef Bytes globs                # uint32 rule ids of globs in order of definition

    cdef int define(self, const uint8_t* symbol, size_t length, const Instrument* instrument) noexcept nogil   # -1: no memory
    cdef void resolve(self, const uint8_t* symbol, size_t length, Instrument* out) noexcept nogil
