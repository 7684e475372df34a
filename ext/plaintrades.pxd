"""The door's way for what nearly every record is: a new trade whose names the broker has, with nothing to refuse.

Both passes of ext/sequencer.pyx for such a record, inlined into its loop. Whatever is not surely like that, in any field,
is left to the sequencer's own two passes, which judge all of it: nothing is refused here.
"""

from libc.stdint cimport INT64_MIN, uint8_t, uint32_t, uint64_t

from ext.decimals cimport rescale
from ext.dedup cimport Dedup, fill_slot, fingerprint_of, free_slot
from ext.records cimport (EVENT_TRADE, EXEC_NEW, NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, REASON_NONE, SIDE_BUY,
                          SIDE_SELL, TEXT_BYTES_MAX, FrameView, Record, bytes_reserve)
from ext.sequencer cimport Sequencer, SourceState, Units, Work
from ext.utf8 cimport is_ascii
from ext.wide cimport copy_text


cdef inline uint32_t global_of(const SourceState* source, int kind, uint32_t local) noexcept nogil:
    """The broker's id of a publisher's name; above 2**31 where it has none."""
    return source.globals[kind][local] if local < source.capacity[kind] else <uint32_t>0xFFFFFFFF


cdef inline bint is_plain(Sequencer self, Dedup dedup, const FrameView* view, uint32_t i, const SourceState* source,
                          Work* work) noexcept nogil:
    """The first pass; False, and nothing but `work` touched, where a record has to be looked at in full."""
    cdef const Record* given = &view.records[i]
    cdef const uint8_t* id = view.heap + given.id_offset
    cdef Record* r = &work.record
    cdef const Units* units
    cdef uint32_t symbol, account, venue, strategy
    if (given.type != EVENT_TRADE or given.exec_type != EXEC_NEW or given.flags != 0
            or (given.side != SIDE_BUY and given.side != SIDE_SELL)
            or given.ref_length != 0 or <uint8_t>(given.id_length - 1) >= TEXT_BYTES_MAX
            or given.volume <= 0 or given.fee == INT64_MIN or given.executed_at == INT64_MIN):
        return False
    symbol = global_of(source, NAME_SYMBOL, given.symbol)
    account = global_of(source, NAME_ACCOUNT, given.account)
    venue = global_of(source, NAME_VENUE, given.venue)
    strategy = global_of(source, NAME_STRATEGY, given.strategy)
    if ((symbol - 1) | (account - 1) | venue | strategy) >> 31 or not is_ascii(id, given.id_length):
        return False
    units = &(<const Units*>self.units.data)[symbol]
    r[0] = given[0]
    if (rescale(given.price, given.price_exponent, False, units.price, &r.price) != REASON_NONE
            or rescale(given.volume, given.volume_exponent, False, units.quantity, &r.volume) != REASON_NONE):
        return False
    r.symbol = symbol
    r.account = account
    r.venue = venue
    r.strategy = strategy
    r.ref_offset = 0
    r.price_exponent = units.price
    r.volume_exponent = units.quantity
    work.unmapped = 0
    work.reason = REASON_NONE
    work.detail = 0
    work.plain = True
    work.fingerprint = fingerprint_of(dedup, r, id)
    return True


cdef inline int take_plain(Sequencer self, Dedup dedup, const FrameView* view, const Work* work) noexcept nogil:
    """The second pass, where the duplicates' table `takes_plainly`: 0, -1 without memory, or 1 where it has to be decided in
    full and nothing is done yet."""
    cdef const Record* r = &work.record
    cdef Record* out
    cdef uint64_t* slot
    # One that comes last in time, and behind what was forgotten, is not too old.
    if not work.plain or r.executed_at < dedup.latest or r.executed_at <= dedup.horizon:
        return 1
    slot = free_slot(dedup, work.fingerprint)
    if slot == NULL:
        return 1
    if bytes_reserve(&self.heap, r.id_length) < 0:
        return -1
    out = self.out + self.built
    out[0] = r[0]
    out.id_offset = <uint32_t>self.heap.size
    copy_text(self.heap.data + self.heap.size, view.heap + r.id_offset, r.id_length)
    self.heap.size += r.id_length
    (<Units*>self.units.data)[r.symbol].used = 1
    fill_slot(dedup, slot, work.fingerprint, self.next_seq + self.built, r.executed_at)
    self.built += 1
    dedup.pending_count = self.built
    return 0
