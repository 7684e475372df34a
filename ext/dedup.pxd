"""Which events have been accepted: 8 bytes of fingerprint and seq per event; the journal holds what to compare with."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.base cimport Base
from ext.journal cimport Journal
from ext.records cimport Bytes, EVENT_TRADE, FrameView, Record
from ext.wide cimport prefetch

cdef extern from "identity.h":
    uint64_t rw_identity(const uint64_t* key, uint64_t w0, uint64_t w1, const uint8_t* p, size_t n) noexcept nogil
    uint64_t* rw_free_slot(uint64_t* slots, uint64_t mask, uint64_t at, uint64_t fingerprint, uint64_t code_mask) noexcept nogil

cdef enum DedupVerdict:
    DEDUP_NEW = 0
    DEDUP_DUPLICATE = 1
    DEDUP_CONFLICT = 2              # the same identity with another price or volume (a correct: or another ref)

cdef enum:
    DEDUP_EXPECTED_MAX = 16777216   # identities that room is made for in advance
    DEDUP_MOVES = 16                # slots of the smaller table that move at each insert while the table grows

# A slot is tag | code: the top bits of the fingerprint, and in the low `code_bits` the seq modulo seq_period(), plus 1.
# Code 0 (with tag 0): free; the highest code: gone (in the table that is being left). A tag is more than the slot's place
# by a few bits only, and each that is the same by chance costs a look into the journal. So codes begin short, and grow by
# CODE_STEP, at the tags' expense, when seqs have come to 15/16 of what they can tell apart.
cdef enum:
    CODE_BITS_FIRST = 28
    CODE_BITS_MAX = 36
    CODE_STEP = 4
    PART_BITS = 5                   # of a slot, the highest: which part of the table it is in while a journal is taken in
    PARTS = 1 << PART_BITS
    PART_SHIFT = 64 - PART_BITS
    INSERTS_AHEAD = 16
    PROBES_AHEAD = 6                # slots: where a look-up ends that does not end at once, often in the next line

cdef struct TimedSeq:
    int64_t executed_at             # ns
    uint64_t seq

@cython.final
cdef class Dedup:
    cdef Journal journal
    cdef uint64_t key[5]
    cdef uint64_t* slots
    cdef uint64_t mask
    cdef bint is_touched            # the first table, by the journal's thread (a journal with room)
    cdef int shift                  # of a fingerprint to its home in `slots`
    cdef uint64_t code_mask
    cdef uint64_t widen_at          # the seq at which codes grow
    cdef uint64_t used              # slots taken in `slots`
    cdef uint64_t* gathered         # while a journal is taken in: slots at the beginning of each part; else NULL
    cdef uint64_t* old              # the smaller table while it is emptied, else NULL
    cdef uint64_t old_mask
    cdef int old_shift
    cdef uint64_t old_code_mask
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

    cdef void leave_alone(self) noexcept nogil
    cpdef void prepare(self) noexcept nogil
    cdef int look_up(self, uint64_t fingerprint, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef bint is_too_old(self, const Record* record) noexcept nogil
    cdef int remember(self, uint64_t fingerprint, uint64_t seq, const Record* record) noexcept nogil      # 0, or -1: no memory
    cdef int note_trade(self, uint64_t seq, const Record* record) noexcept nogil                          # the same
    # Take in frames of a journal from its first one on, as after a restart; between `gather` and `settle` nothing else is done.
    # 0, or -1: no memory
    cdef void gather(self) noexcept nogil
    cdef int remember_frame(self, const FrameView* view) noexcept nogil
    cdef int settle(self) noexcept nogil
    cdef size_t gather_frame(self, const FrameView* view) noexcept nogil
    cdef void take_out(self, uint64_t part, uint64_t* to) noexcept nogil
    cdef void insert_all(self, const uint64_t* slots, uint64_t count) noexcept nogil

    cdef int take_base(self, Base base) noexcept nogil                    # 0, or -1: no memory
    cdef const Record* fetch_known(self, uint64_t seq, const uint8_t** heap) noexcept nogil
    cdef const Record* fetch(self, uint64_t seq, const uint8_t** heap) noexcept nogil
    cdef int compare(self, uint64_t seq, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef int probe(self, const uint64_t* slots, uint64_t mask, int shift, uint64_t code_mask, uint64_t fingerprint,
                   const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil
    cdef void insert(self, uint64_t slot) noexcept nogil
    cdef uint64_t seq_of(self, uint64_t slot, uint64_t code_mask) noexcept nogil
    cdef void set_code_bits(self, int bits) noexcept nogil
    cdef int widen(self, uint64_t seq) noexcept nogil
    cdef int move(self, uint64_t size) noexcept nogil
    cdef void move_some(self, uint64_t count) noexcept nogil
    cdef void erase(self, uint64_t fingerprint, uint64_t seq) noexcept nogil
    cdef void find_head(self) noexcept nogil
    cdef TimedSeq oldest(self) noexcept nogil
    cdef void forget_oldest(self) noexcept nogil


cdef inline uint64_t seq_period(uint64_t code_mask) noexcept nogil:
    return code_mask - 1


cdef inline bint wraps(uint64_t code_mask) noexcept nogil:
    """Whether codes are of seqs modulo their period; shorter ones grow before that."""
    return code_mask >> CODE_BITS_MAX - 1 != 0


cdef inline uint64_t slot_of(uint64_t fingerprint, uint64_t seq, uint64_t code_mask) noexcept nogil:
    return (fingerprint & ~code_mask) | ((seq if seq < seq_period(code_mask) else seq % seq_period(code_mask)) + 1)


cdef inline uint64_t home_of(uint64_t slot, int shift, uint64_t code_mask) noexcept nogil:
    """Where a fingerprint (or a slot, which begins with its tag) belongs: by its top bits, so tables grow in order."""
    return (slot & ~code_mask) >> shift


cdef inline uint64_t fingerprint_of(Dedup dedup, const Record* record, const uint8_t* id) noexcept nogil:
    """`record` has the broker's name ids; id is the trade_id or event_id."""
    cdef uint64_t w0 = 0, w1 = <uint64_t>record.type << 32
    if record.type == EVENT_TRADE:
        w0 = record.venue | <uint64_t>record.account << 32
        w1 |= record.symbol | <uint64_t>record.side << 40 | <uint64_t>record.exec_type << 48
    return rw_identity(dedup.key, w0, w1, id, record.id_length)


cdef inline void fetch_slot(Dedup dedup, uint64_t fingerprint) noexcept nogil:
    """Into the cache, for a look-up to come."""
    cdef const uint64_t* home = &dedup.slots[home_of(fingerprint, dedup.shift, dedup.code_mask)]
    prefetch(home)
    prefetch(home + PROBES_AHEAD)
    if dedup.old != NULL:
        prefetch(&dedup.old[home_of(fingerprint, dedup.old_shift, dedup.old_code_mask)])


cdef inline bint takes_plainly(Dedup dedup, uint64_t count) noexcept nogil:
    """Whether so many new trades cost a slot each and nothing else: no table is being left or gets full, none is forgotten
    for them, and codes last."""
    return (dedup.old == NULL and (dedup.used + count) * 4 <= (dedup.mask + 1) * 3
            and dedup.trades + count <= dedup.trades_max and dedup.newest + count < dedup.widen_at)


cdef inline uint64_t* free_slot(Dedup dedup, uint64_t fingerprint) noexcept nogil:
    """The slot for an identity that is surely new; NULL where one that is known may be the same."""
    return rw_free_slot(dedup.slots, dedup.mask, home_of(fingerprint, dedup.shift, dedup.code_mask), fingerprint, dedup.code_mask)


cdef inline void fill_slot(Dedup dedup, uint64_t* slot, uint64_t fingerprint, uint64_t seq, int64_t executed_at) noexcept nogil:
    """Remember a trade executed no earlier than the latest in its free slot, where that `takes_plainly`."""
    dedup.newest = seq
    slot[0] = slot_of(fingerprint, seq, dedup.code_mask)
    dedup.used += 1
    dedup.trades += 1
    dedup.latest = executed_at
