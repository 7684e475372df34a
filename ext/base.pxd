"""Base: what the removed beginning of a journal leaves behind for a start (docs/wire-format.md, base.rwb)."""

cimport cython
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.records cimport Bytes, FrameView, Record

cdef enum:
    BASE_MAGIC = 0x31425752         # "RWB1"
    BASE_VERSION = 1
    BASE_HEADER_BYTES = 128

cdef packed struct BaseHeader:
    uint32_t magic
    uint32_t version
    uint32_t crc32c                 # of the whole file with this field zero
    uint32_t reserved
    uint64_t first_segment          # number of the first segment kept
    uint64_t first_seq              # of its first frame
    uint64_t previous_bytes         # used in the segment before it
    uint64_t frames                 # removed
    uint64_t trades                 # removed; all of them forgotten by the door
    uint64_t epoch                  # of the last frame removed
    uint64_t removed_bytes
    int64_t latest                  # the highest executed_at of the trades removed, ns
    int64_t stamped_at              # of the last frame removed, ns
    uint64_t definition_bytes       # the sections that follow, in this order
    uint64_t unit_bytes             # BaseUnits by symbol id
    uint64_t known_bytes            # Known, in order of seq
    uint64_t text_bytes             # ids of what is known
    uint64_t force_bytes            # Record, id, second text: each instrument in order of its first definition, then limits

cdef packed struct BaseUnits:       # of one symbol
    int8_t price
    int8_t quantity
    uint8_t used
    uint8_t reserved

cdef packed struct Known:           # an event other than a trade: its identity, and what a repeat is compared with
    uint64_t seq
    int64_t price
    int64_t volume
    uint64_t text
    uint8_t type                    # ext.records.EventType
    uint8_t id_length
    uint8_t reserved[6]

@cython.final
cdef class Base:
    cdef BaseHeader header
    cdef Bytes definitions          # as in frames, in the order of their ids
    cdef Bytes units
    cdef Bytes known
    cdef Bytes texts
    cdef dict instruments           # symbol id -> (record, id, currency)
    cdef object limits              # (record, id, JSON), or None

    # Take in one more frame that is going to be removed. 0, or -1: no memory.
    cdef int absorb(self, const FrameView* view) noexcept nogil
    cdef int take_record(self, const FrameView* view, const Record* r, uint64_t seq) noexcept nogil
    cdef int note_units(self, const Record* r) noexcept nogil
    cdef int keep_in_force(self, const FrameView* view, const Record* r) noexcept with gil
    # What is known of a seq that was removed: NULL where it was a trade, or nothing was.
    cdef const Known* find(self, uint64_t seq) noexcept nogil
    cdef void end_segment(self, uint64_t number, uint64_t used, uint64_t next_seq) noexcept nogil
