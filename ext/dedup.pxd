"""Which events have been accepted: 8 bytes of fingerprint and seq per event; the journal holds what to compare with."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.base cimport Base
from ext.journal cimport Journal
from ext.records cimport Bytes, FrameView, Record

cdef enum DedupVerdict:
    DEDUP_NEW = 0
    DEDUP_DUPLICATE = 1
    DEDUP_CONFLICT = 2              # the same identity with another price or volume (a correct: or another ref)

cdef enum:
    DEDUP_EXPECTED_MAX = 16777216   # identities that room is made for in advance
    DEDUP_MOVES = 16                # slots of the smaller table that move at each insert while the table grows

# A slot is tag << 36 | code: the top 28 bits of the fingerprint, and the seq modulo SEQ_PERIOD, plus 1.
# Code 0 (with tag 0): free; the highest code: gone (in the table that is being left).
cdef enum:
    TAG_BITS = 28
    CODE_BITS = 36

cdef struct TimedSeq:
    int64_t executed_at             # ns
    uint64_t seq

@cython.final
cdef class Dedup:
    cdef Journal journal
    cdef uint64_t key[5]
    cdef uint64_t* slots
    cdef uint64_t mask
    cdef int shift                  # of a fingerprint to its home in `slots`
    cdef uint64_t used              # slots taken in `slots`
    cdef uint64_t* old              # the smaller table while it is emptied, else NULL
    cdef uint64_t old_mask
    cdef int old_shift
    cdef uint64_t old_at            # slots below are moved
    # Records of the frame that is being built: seqs from pending_first on.
    cdef const Record* pending_records
    cdef Bytes* pending_heap
    cdef uint64_t pending_first
    cdef uint64_t pending_count
    cdef uint64_t newest            # the highest seq remembered: what codes are relative to
    cdef uint64_t hint              # index of the journal frame read last
    # Forgetting. Trades that came in order of executed_at need no entry: a cursor over the journal finds them again.
    cdef readonly uint64_t trades_max
    cdef readonly uint64_t trades   # remembered
    cdef readonly uint64_t forgotten
    cdef int64_t latest             # the latest executed_at so far
    cdef readonly int64_t horizon   # executed_at of the trade forgotten last; nothing before it is remembered
    cdef Bytes late                 # TimedSeq: a heap of the trades that came out of order
    cdef uint64_t cursor_seq        # the next seq to look at
    cdef int64_t cursor_latest
    cdef TimedSeq head              # the oldest remembered trade that came in order; seq 0: not looked for yet
    cdef Base base                  # what is known of seqs that the journal has no more; None: it has all
    cdef Record known               # one of these, as a record

    # `record` has the broker's name ids; id is the trade_id or event_id.
    cdef uint64_t fingerprint(self, const Record* record, const uint8_t* id) noexcept nogil
    cpdef void prepare(self) noexcept nogil
    cdef void prefetch(self, uint64_t fingerprint) noexcept nogil
    cdef int look_up(self, uint64_t fingerprint, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef bint is_too_old(self, const Record* record) noexcept nogil
    cdef int remember(self, uint64_t fingerprint, uint64_t seq, const Record* record) noexcept nogil      # 0, or -1: no memory
    cdef int remember_frame(self, const FrameView* view) noexcept nogil

    cdef int take_base(self, Base base) noexcept nogil                    # 0, or -1: no memory
    cdef const Record* fetch_known(self, uint64_t seq, const uint8_t** heap) noexcept nogil
    cdef const Record* fetch(self, uint64_t seq, const uint8_t** heap) noexcept nogil
    cdef int compare(self, uint64_t seq, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef int probe(self, const uint64_t* slots, uint64_t mask, uint64_t at, uint64_t fingerprint, const Record* record,
                   const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef void insert(self, uint64_t slot) noexcept nogil
    cdef uint64_t seq_of(self, uint64_t slot) noexcept nogil
    cdef int grow(self) noexcept nogil
    cdef void move_some(self, uint64_t count) noexcept nogil
    cdef void erase(self, uint64_t fingerprint, uint64_t seq) noexcept nogil
    cdef void find_head(self) noexcept nogil
    cdef TimedSeq oldest(self) noexcept nogil
    cdef void forget_oldest(self) noexcept nogil
