"""Windows in executed_at: counts and volumes, and runs of equal trades (DESIGN section 6)."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.records cimport u128
from ext.wide cimport POWERS_OF_TEN, Wide, add_i64, high_u128, low_u128, wide_accumulate3

cdef enum:
    CAPACITY_MIN = 4                # entries

cdef struct WindowEntry:            # what happened at one time
    int64_t at                      # ns
    int64_t amount                  # trades, or quantity units of one exponent
    int64_t exponent

cdef struct Window:                 # (latest - span, latest], ordered by time; memory follows what it holds
    WindowEntry* entries            # a ring of capacity (a power of two)
    int64_t latest                  # ns: the latest executed_at seen
    uint64_t trades                 # sum of amounts where they are counts
    uint32_t head
    uint32_t size
    uint32_t capacity
    uint8_t seen
    uint8_t unused[3]

cdef struct RunMark:                # a trade of the run that is later than all before it
    int64_t at
    uint64_t index

cdef struct Run:                    # consecutive trades with the same side, price and volume
    RunMark* marks
    int64_t price
    int64_t quantity                # signed
    uint64_t length
    uint32_t size
    uint32_t capacity

# Move the window to `at` and take the amount in unless it is too old; total (at 10**scale) follows where it is not
# NULL, else `trades`. 0, or -1 without memory.
cdef int window_add(Window* w, int64_t at, int64_t amount, int exponent, int64_t span, Wide* total, int scale) noexcept nogil
cdef void window_clear(Window* w) noexcept nogil
cdef void add_amount(Wide* total, const WindowEntry* e, int scale, bint subtract) noexcept nogil
# Take a trade in; the length of the longest tail whose last - first time is below span, or -1 without memory.
cdef int64_t run_add(Run* r, int64_t at, int64_t price, int64_t quantity, int64_t span) noexcept nogil
cdef void run_clear(Run* r) noexcept nogil


cdef inline bint run_restart(Run* r, int64_t at, int64_t price, int64_t quantity) noexcept nogil:
    """Take in a trade that is unlike the one before, as nearly all are: a run of 1; False: nothing was done."""
    if r.size == 0 or (r.price == price and r.quantity == quantity):
        return False
    r.price = price
    r.quantity = quantity
    r.length = r.size = 1
    r.marks[0].at = at
    r.marks[0].index = 0
    return True

# Entry i of a window by time; and both kinds as they were in a snapshot (into zeroed ones; 0, or -1 without memory).
cdef const WindowEntry* window_entry(const Window* w, uint32_t i) noexcept nogil
cdef int window_restore(Window* w, uint8_t seen, int64_t latest, uint64_t trades, uint32_t size,
                        const WindowEntry* entries) noexcept nogil
cdef int run_restore(Run* r, int64_t price, int64_t quantity, uint64_t length, uint32_t size, const RunMark* marks) noexcept nogil
cdef void window_shrink(Window* w) noexcept nogil       # to half its capacity, if there is memory for it


cdef inline void add_short(Wide* total, uint64_t amount, int shift, bint subtract) noexcept nogil:
    cdef u128 product = <u128>amount * <u128>POWERS_OF_TEN[shift]
    wide_accumulate3(total, low_u128(product), high_u128(product), 0, subtract)


cdef inline bint window_push(Window* w, int64_t at, int64_t amount, int exponent, int64_t span, Wide* total, int scale) noexcept nogil:
    """Take in one amount as window_add does, where it comes last, as nearly always; False: nothing was done."""
    cdef uint32_t mask = w.capacity - 1
    cdef WindowEntry* e
    cdef int64_t merged
    if not w.seen or at < w.latest or w.size == 0 or w.size == w.capacity:
        return False
    if total != NULL and not 0 <= exponent - scale < 19:
        return False
    e = &w.entries[(w.head + w.size - 1) & mask]
    if e.at == at and e.exponent == exponent:
        if add_i64(e.amount, amount, &merged):
            return False
        e.amount = merged
        if total == NULL:
            w.trades += amount
        else:
            add_short(total, amount, exponent - scale, False)
        return True
    if total == NULL:
        w.trades += amount
    else:
        add_short(total, amount, exponent - scale, False)
    e = &w.entries[(w.head + w.size) & mask]
    e.at = at
    e.amount = amount
    e.exponent = exponent
    w.latest = at
    w.size += 1
    e = &w.entries[w.head]
    while <uint64_t>at - <uint64_t>e.at >= <uint64_t>span:      # never the last one: a span is above 0
        if total == NULL:
            w.trades -= e.amount
        else:
            add_amount(total, e, scale, True)
        w.head = (w.head + 1) & mask
        w.size -= 1
        e = &w.entries[w.head]
    if w.size * 4 < w.capacity and w.capacity > CAPACITY_MIN:
        window_shrink(w)
    return True
