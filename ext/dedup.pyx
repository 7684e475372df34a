"""Exact duplicates: a fingerprint finds the candidates, the journal's own record decides.

The fingerprint is keyed with random bits of this process, so that nobody can construct collisions; 36 bits of it are
kept (28 at last, when seqs need the rest), and where they collide that costs a comparison, never a trade. A seq is kept
modulo 2^36 - 2, so an identity is known as long as fewer events than that (5 TB of journal) came after it. Beyond
`trades_max` the trade executed longest ago is forgotten, by (executed_at, seq); everything executed no later than what was
forgotten is too old from then on.
"""

cimport cython
from libc.stdint cimport INT64_MIN, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

import secrets

from ext.ahead cimport rw_ahead_ask, rw_ahead_stop, rw_touch
from ext.base cimport Base, Known
from ext.journal cimport Journal
from ext.records cimport (
    EVENT_ADJUST, EVENT_MARK, EVENT_TRADE, EXEC_BUST, EXEC_CORRECT, Bytes, FrameHeader, FrameView, HEADER_BYTES,
    RECORD_BYTES, Record, bytes_free, bytes_reserve,
)

cdef extern from "journal_os.h" nogil:
    uint8_t* rw_map(int fd, size_t size, int writable)
    void rw_advise_huge_pages(uint64_t* base, size_t size)
    int munmap(void* base, size_t size)
    int rw_log2(uint64_t v)


cdef inline bint is_before(TimedSeq a, TimedSeq b) noexcept nogil:
    return a.executed_at < b.executed_at or (a.executed_at == b.executed_at and a.seq < b.seq)


cdef int heap_push(Bytes* heap, TimedSeq entry) noexcept nogil:
    cdef TimedSeq* items
    cdef size_t i = heap.size // sizeof(TimedSeq), parent
    if bytes_reserve(heap, sizeof(TimedSeq)) < 0:
        return -1
    items = <TimedSeq*>heap.data
    heap.size += sizeof(TimedSeq)
    while i > 0:
        parent = (i - 1) >> 1
        if not is_before(entry, items[parent]):
            break
        items[i] = items[parent]
        i = parent
    items[i] = entry
    return 0


cdef void heap_pop(Bytes* heap) noexcept nogil:
    cdef TimedSeq* items = <TimedSeq*>heap.data
    cdef size_t count = heap.size // sizeof(TimedSeq) - 1, i = 0, child
    cdef TimedSeq moved = items[count]
    heap.size -= sizeof(TimedSeq)
    while True:
        child = 2 * i + 1
        if child >= count:
            break
        if child + 1 < count and is_before(items[child + 1], items[child]):
            child += 1
        if not is_before(items[child], moved):
            break
        items[i] = items[child]
        i = child
    items[i] = moved


@cython.final
@cython.no_gc_clear     # its end needs its journal
cdef class Dedup:
    """Remembers the identities of the events in a journal, at most `trades_max` trades of them.

    expected: how many room is made for, beside those that the journal has. code_bits: of a slot, for its seq, to begin with
    (12, 16 … 36).
    """

    def __cinit__(self, Journal journal not None, uint64_t trades_max=50_000_000, uint64_t expected=0,
                  int code_bits=CODE_BITS_FIRST):
        cdef int i, bits = 12
        self.journal = journal
        self.base = journal.base
        self.trades_max = max(trades_max, 1)
        self.latest = INT64_MIN
        self.horizon = INT64_MIN
        self.cursor_latest = INT64_MIN
        self.cursor_seq = 1
        for i in range(5):
            self.key[i] = secrets.randbits(64)
        expected += min(journal.last() + 1 - journal.first_kept(), self.trades_max)
        # Room for what is expected from the start: growing touches as much memory again, and moves every slot.
        while (<uint64_t>1 << bits) * 3 // 4 < min(expected, <uint64_t>DEDUP_EXPECTED_MAX):
            bits += 1
        self.mask = (<uint64_t>1 << bits) - 1
        self.shift = 64 - bits
        self.set_code_bits(code_bits)
        self.slots = <uint64_t*>rw_map(-1, (self.mask + 1) * sizeof(uint64_t), True)
        if self.slots == NULL:
            raise MemoryError
        if journal.room != NULL:
            rw_advise_huge_pages(self.slots, (self.mask + 1) * sizeof(uint64_t))
            self.is_touched = rw_ahead_ask(&journal.ahead, self.slots, (self.mask + 1) * sizeof(uint64_t), False)

    def __dealloc__(self):
        self.leave_alone()
        if self.slots != NULL:
            munmap(self.slots, (self.mask + 1) * sizeof(uint64_t))
        if self.old != NULL:
            munmap(self.old, (self.old_mask + 1) * sizeof(uint64_t))
        bytes_free(&self.late)
        free(self.gathered)

    cdef void leave_alone(self) noexcept nogil:
        """Memory that a thread may touch yet is not given back."""
        if self.is_touched:
            rw_ahead_stop(&self.journal.ahead)
            self.is_touched = False

    cpdef void prepare(self) noexcept nogil:
        """Have the table's memory at hand, in the thread that will use it and before the first trade. What it grows into
        later comes page by page: no trade waits for much."""
        rw_advise_huge_pages(self.slots, (self.mask + 1) * sizeof(uint64_t))
        rw_touch(self.slots, (self.mask + 1) * sizeof(uint64_t))

    @property
    def slot_bytes(self):
        """Bytes of the tables, for memory accounts."""
        cdef uint64_t slots = self.mask + 1 + (self.old_mask + 1 if self.old != NULL else 0)
        return slots * sizeof(uint64_t) + self.late.capacity

    cdef int look_up(self, uint64_t fingerprint, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil:
        cdef int verdict = self.probe(self.slots, self.mask, self.shift, self.code_mask, fingerprint, record, id, ref)
        if verdict == DEDUP_NEW and self.old != NULL:
            verdict = self.probe(self.old, self.old_mask, self.old_shift, self.old_code_mask, fingerprint, record, id, ref)
        return verdict

    cdef int probe(self, const uint64_t* slots, uint64_t mask, int shift, uint64_t code_mask, uint64_t fingerprint,
                   const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil:
        cdef uint64_t at = home_of(fingerprint, shift, code_mask)
        cdef int verdict
        while slots[at] != 0:
            if (slots[at] ^ fingerprint) <= code_mask and slots[at] & code_mask != code_mask:
                verdict = self.compare(self.seq_of(slots[at], code_mask), record, id, ref)
                if verdict != DEDUP_NEW:
                    return verdict
            at = (at + 1) & mask
        return DEDUP_NEW

    cdef uint64_t seq_of(self, uint64_t slot, uint64_t code_mask) noexcept nogil:
        """The latest seq that has this slot's code."""
        cdef uint64_t code = (slot & code_mask) - 1, period = seq_period(code_mask), newest
        if not wraps(code_mask):
            return code
        newest = self.newest % period
        return self.newest - (newest - code if newest >= code else newest + period - code)

    cdef int compare(self, uint64_t seq, const Record* record, const uint8_t* id, const uint8_t* ref) noexcept nogil:
        cdef const uint8_t* heap
        cdef const Record* known = self.fetch(seq, &heap)
        if (known == NULL or known.type != record.type or known.id_length != record.id_length
                or memcmp(heap + known.id_offset, id, record.id_length) != 0):
            return DEDUP_NEW
        if record.type == EVENT_TRADE:
            if (known.venue != record.venue or known.account != record.account or known.symbol != record.symbol
                    or known.side != record.side or known.exec_type != record.exec_type):
                return DEDUP_NEW
            if record.exec_type == EXEC_BUST:
                return DEDUP_DUPLICATE          # its own price and volume say nothing
            if record.exec_type == EXEC_CORRECT and (
                    known.ref_length != record.ref_length
                    or memcmp(heap + known.ref_offset, ref, record.ref_length) != 0):
                return DEDUP_CONFLICT
        elif record.type != EVENT_MARK and record.type != EVENT_ADJUST:
            return DEDUP_DUPLICATE
        if known.price != record.price or known.volume != record.volume:
            return DEDUP_CONFLICT
        return DEDUP_DUPLICATE

    cdef const Record* fetch(self, uint64_t seq, const uint8_t** heap) noexcept nogil:
        """The record that has this seq, in the frame being built or in the journal, and its heap."""
        cdef const uint8_t* data
        cdef const FrameHeader* header
        cdef uint64_t frames
        if self.pending_records != NULL and seq >= self.pending_first:
            if seq - self.pending_first >= self.pending_count:
                return NULL
            heap[0] = self.pending_heap.data
            return self.pending_records + (seq - self.pending_first)
        if seq < self.journal.first_kept():
            return self.fetch_known(seq, heap)
        frames = self.journal.frames()
        if self.hint < self.journal.first_frame():
            self.hint = self.journal.first_frame()
        if self.hint < frames:
            header = <const FrameHeader*>self.journal.frame_at(self.hint)
            if seq >= header.first_seq + header.record_count:
                self.hint += 1          # walks forwards are the common case
            if self.hint < frames:
                header = <const FrameHeader*>self.journal.frame_at(self.hint)
        if self.hint >= frames or seq < header.first_seq or seq >= header.first_seq + header.record_count:
            self.hint = self.journal.index_of(seq)
            if self.hint >= frames:
                return NULL
        data = self.journal.frame_at(self.hint)
        header = <const FrameHeader*>data
        heap[0] = data + HEADER_BYTES + <size_t>header.record_count * RECORD_BYTES + header.definition_bytes
        return <const Record*>(data + HEADER_BYTES) + (seq - header.first_seq)

    cdef const Record* fetch_known(self, uint64_t seq, const uint8_t** heap) noexcept nogil:
        """What is known of an event that was removed from the journal; trades that were are forgotten."""
        cdef const Known* known = self.base.find(seq)
        if known == NULL:
            return NULL
        memset(&self.known, 0, sizeof(Record))
        self.known.type = known.type
        self.known.id_length = known.id_length
        self.known.price = known.price
        self.known.volume = known.volume
        heap[0] = self.base.texts.data + known.text
        return &self.known

    cdef int take_base(self, Base base) noexcept nogil:
        """Take up what is known of a journal's removed beginning, before any of its frames."""
        cdef const Known* known = <const Known*>base.known.data
        cdef size_t i
        cdef const uint8_t* heap
        cdef const Record* record
        for i in range(base.known.size // sizeof(Known)):
            record = self.fetch_known(known[i].seq, &heap)
            if self.remember(fingerprint_of(self, record, heap), known[i].seq, record) < 0:
                return -1
        self.newest = base.header.first_seq - 1
        self.forgotten = base.header.trades
        self.latest = base.header.latest
        self.horizon = base.header.latest
        self.cursor_latest = base.header.latest
        self.cursor_seq = base.header.first_seq
        return 0

    def let_go(self, Base base not None):
        """Go on without the journal's frames that a base stands for; none of their trades is remembered."""
        self.base = base
        if self.cursor_seq < base.header.first_seq:
            self.cursor_seq = base.header.first_seq
            if base.header.latest > self.cursor_latest:
                self.cursor_latest = base.header.latest

    # --- the table -------------------------------------------------------------------------------------------------

    cdef int remember(self, uint64_t fingerprint, uint64_t seq, const Record* record) noexcept nogil:
        if self.old != NULL:
            self.move_some(DEDUP_MOVES)
        elif self.used * 4 >= (self.mask + 1) * 3 and self.move((self.mask + 1) * 2) < 0:
            return -1
        if seq >= self.widen_at and self.widen(seq) < 0:
            return -1
        self.newest = seq
        self.insert(slot_of(fingerprint, seq, self.code_mask))
        return self.note_trade(seq, record)

    cdef int note_trade(self, uint64_t seq, const Record* record) noexcept nogil:
        """What forgetting has to know of an event that is remembered."""
        cdef TimedSeq entry
        if record.type != EVENT_TRADE:
            return 0
        self.trades += 1
        if record.executed_at >= self.latest:
            self.latest = record.executed_at
        else:
            entry.executed_at = record.executed_at
            entry.seq = seq
            if heap_push(&self.late, entry) < 0:
                return -1
        if self.trades > self.trades_max:
            self.forget_oldest()
        return 0

    cdef void insert(self, uint64_t slot) noexcept nogil:
        cdef uint64_t at = home_of(slot, self.shift, self.code_mask)
        while self.slots[at] != 0:
            at = (at + 1) & self.mask
        self.slots[at] = slot
        self.used += 1

    # --- a journal at once -----------------------------------------------------------------------------------------
    #
    # Each slot put where it belongs costs a line of memory for each event, there and back. So they are gathered first, in the
    # order in which they come, at the beginning of the part of the table that each belongs to; then each part is put in order
    # by itself, in the cache.

    cdef void gather(self) noexcept nogil:
        """Where something is in the table already, or without memory, each goes to its place at once."""
        if self.used == 0 and self.old == NULL:
            self.gathered = <uint64_t*>calloc(PARTS, sizeof(uint64_t))

    cdef int remember_frame(self, const FrameView* view) noexcept nogil:
        cdef size_t i, at = 0, end
        cdef const Record* record
        cdef uint64_t[64] fingerprints
        if self.gathered != NULL:
            at = self.gather_frame(view)
            if at < view.header.record_count and self.settle() < 0:
                return -1
        while at < view.header.record_count:
            end = at + 64 if at + 64 < view.header.record_count else view.header.record_count
            for i in range(at, end):
                record = &view.records[i]
                fingerprints[i - at] = fingerprint_of(self, record, view.heap + record.id_offset)
                fetch_slot(self, fingerprints[i - at])
            for i in range(at, end):
                if self.remember(fingerprints[i - at], view.header.first_seq + i, &view.records[i]) < 0:
                    return -1
            at = end
        return 0

    cdef size_t gather_frame(self, const FrameView* view) noexcept nogil:
        """How many of its events could be gathered; the next one needs the table in order, for it may grow or forget, or a part
        has no room left."""
        cdef uint64_t count = view.header.record_count, size = (self.mask + 1) // PARTS, i, slot, part
        cdef const Record* record
        if not takes_plainly(self, count):
            return 0
        for i in range(count):
            record = &view.records[i]
            slot = slot_of(fingerprint_of(self, record, view.heap + record.id_offset), view.header.first_seq + i, self.code_mask)
            part = slot >> PART_SHIFT
            if self.gathered[part] == size or self.note_trade(view.header.first_seq + i, record) < 0:
                return i
            self.slots[part * size + self.gathered[part]] = slot
            self.gathered[part] += 1
            self.used += 1
            self.newest = view.header.first_seq + i
        return count

    cdef int settle(self) noexcept nogil:
        """Put what was gathered in order. What does not fit into the end of a part goes on in the next one, which has to be in
        order before: the last part is the first, but for what belongs to the first one, which waits until all others are."""
        cdef uint64_t size = (self.mask + 1) // PARTS, part
        cdef uint64_t* aside = NULL
        if self.gathered != NULL and self.used:
            aside = <uint64_t*>malloc(2 * size * sizeof(uint64_t))
            if aside == NULL:
                return -1
            self.used = 0
            self.take_out(0, aside)
            for part in range(PARTS - 1, 0, -1):
                self.take_out(part, aside + size)
                self.insert_all(aside + size, self.gathered[part])
            self.insert_all(aside, self.gathered[0])
            free(aside)
        free(self.gathered)
        self.gathered = NULL
        return 0

    cdef void take_out(self, uint64_t part, uint64_t* to) noexcept nogil:
        """Copy what a part has, and leave it empty."""
        cdef uint64_t size = (self.mask + 1) // PARTS, count = self.gathered[part]
        memcpy(to, self.slots + part * size, count * sizeof(uint64_t))
        # A page that is read first is found twice: where nearly all of them will be needed, all are written to.
        memset(self.slots + part * size, 0, (size if count > size // 64 else count) * sizeof(uint64_t))

    cdef void insert_all(self, const uint64_t* slots, uint64_t count) noexcept nogil:
        cdef uint64_t i
        for i in range(count):
            if i + INSERTS_AHEAD < count:
                prefetch(&self.slots[home_of(slots[i + INSERTS_AHEAD], self.shift, self.code_mask)])
            self.insert(slots[i])

    cdef void set_code_bits(self, int bits) noexcept nogil:
        self.code_mask = (<uint64_t>1 << bits) - 1
        self.widen_at = ~<uint64_t>0 if wraps(self.code_mask) else seq_period(self.code_mask) // 16 * 15

    cdef int widen(self, uint64_t seq) noexcept nogil:
        """Let codes tell seqs apart up to this one and beyond; 0, or -1 without memory.

        Each slot that moves gets the wider code. While a table is being left, the codes of both stay as they are: it is empty
        before their last sixteenth ends, unless seqs jump (after a restart), and then it is emptied at once.
        """
        if self.old != NULL and seq < seq_period(self.code_mask):
            return 0
        while self.old != NULL:
            self.move_some(DEDUP_MOVES)
        if self.used and self.move(self.mask + 1) < 0:
            return -1
        while seq >= self.widen_at:
            self.set_code_bits(rw_log2(self.code_mask + 1) + CODE_STEP)
        return 0

    cdef int move(self, uint64_t size) noexcept nogil:
        """Begin to move into another table; a few slots go along with each insert, so nothing stalls."""
        cdef uint64_t* slots = <uint64_t*>rw_map(-1, size * sizeof(uint64_t), True)
        if slots == NULL:
            return -1
        self.old = self.slots
        self.old_mask = self.mask
        self.old_shift = self.shift
        self.old_code_mask = self.code_mask
        self.old_at = 0
        self.slots = slots
        self.mask = size - 1
        self.shift = 64 - rw_log2(size)
        self.used = 0
        return 0

    cdef void move_some(self, uint64_t count) noexcept nogil:
        cdef uint64_t end = self.old_at + count
        cdef uint64_t slot
        if end > self.old_mask + 1:
            end = self.old_mask + 1
        while self.old_at < end:
            slot = self.old[self.old_at]
            if slot != 0 and slot & self.old_code_mask != self.old_code_mask:
                # Codes that are wider by now take the place of tags' last bits.
                self.insert(slot & ~self.code_mask | slot & self.old_code_mask)
            self.old_at += 1
        if self.old_at > self.old_mask:
            self.leave_alone()
            munmap(self.old, (self.old_mask + 1) * sizeof(uint64_t))
            self.old = NULL

    cdef void erase(self, uint64_t fingerprint, uint64_t seq) noexcept nogil:
        cdef uint64_t slot, at, hole, home
        if self.old != NULL and (wraps(self.old_code_mask) or seq < seq_period(self.old_code_mask)):
            slot = slot_of(fingerprint, seq, self.old_code_mask)
            at = home_of(slot, self.old_shift, self.old_code_mask)
            while self.old[at] != 0 and self.old[at] != slot:
                at = (at + 1) & self.old_mask
            if self.old[at] == slot:
                self.old[at] |= self.old_code_mask
        slot = slot_of(fingerprint, seq, self.code_mask)
        at = home_of(slot, self.shift, self.code_mask)
        while self.slots[at] != 0 and self.slots[at] != slot:
            at = (at + 1) & self.mask
        if self.slots[at] == 0:
            return
        # Entries behind the hole that may not stay beyond a free slot move up into it.
        hole = at
        while True:
            at = (at + 1) & self.mask
            if self.slots[at] == 0:
                break
            home = home_of(self.slots[at], self.shift, self.code_mask)
            if ((at - home) & self.mask) >= ((at - hole) & self.mask):
                self.slots[hole] = self.slots[at]
                hole = at
        self.slots[hole] = 0
        self.used -= 1

    # --- forgetting ------------------------------------------------------------------------------------------------

    cdef void find_head(self) noexcept nogil:
        """Move the cursor to the next trade that came in order of executed_at."""
        cdef const uint8_t* heap
        cdef const Record* record
        while self.head.seq == 0:
            record = self.fetch(self.cursor_seq, &heap)
            if record == NULL:
                return
            if record.type == EVENT_TRADE and record.executed_at >= self.cursor_latest:
                self.cursor_latest = record.executed_at
                self.head.executed_at = record.executed_at
                self.head.seq = self.cursor_seq
            self.cursor_seq += 1

    cdef TimedSeq oldest(self) noexcept nogil:
        cdef TimedSeq* late = <TimedSeq*>self.late.data
        self.find_head()
        if self.late.size and (self.head.seq == 0 or is_before(late[0], self.head)):
            return late[0]
        return self.head

    cdef void forget_oldest(self) noexcept nogil:
        cdef TimedSeq entry = self.oldest()
        cdef const uint8_t* heap
        cdef const Record* record = self.fetch(entry.seq, &heap)
        if record != NULL:              # never: what is remembered is not removed
            self.erase(fingerprint_of(self, record, heap + record.id_offset), entry.seq)
        if entry.seq == self.head.seq:
            self.head.seq = 0
        else:
            heap_pop(&self.late)
        # A start that has only the journal's end forgets again what was forgotten before it was cut.
        if entry.executed_at > self.horizon:
            self.horizon = entry.executed_at
        self.forgotten += 1
        self.trades -= 1

    cdef bint is_too_old(self, const Record* record) noexcept nogil:
        """Whether a trade may have been forgotten, or was executed before the oldest remembered one."""
        cdef TimedSeq oldest
        if self.forgotten == 0 or record.type != EVENT_TRADE:
            return False
        if record.executed_at <= self.horizon:
            return True
        oldest = self.oldest()
        return oldest.seq != 0 and record.executed_at < oldest.executed_at
