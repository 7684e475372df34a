"""Windows in executed_at: counts and volumes, and runs of equal trades (DESIGN section 6)."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.records cimport u128
from ext.wide cimport POWERS_OF_TEN, Wide, high_u128, low_u128, wide_accumulate3

cdef enum:
    WINDOW_ENTRIES_MIN = 8
    TRIM_EVERY = 32                 # entries; a power of two
    RUN_MARKS_MIN = 4

cdef struct Amount:                 # what a trade of a sum added
    int64_t amount                  # quantity units of one exponent
    int64_t exponent

# (latest - span, latest], ordered by time; memory follows what it holds. What leaves it is dropped now and then (window_trim),
# and when that is asked for (window_settle): until then size, and what the amounts add up to, may be too much.
cdef struct Window:
    int64_t* times                  # ns: a ring of capacity (a power of two)
    Amount* amounts                 # beside them; NULL: each counts as one
    int64_t latest                  # ns: the latest executed_at seen
    uint32_t head
    uint32_t size
    uint32_t capacity
    uint8_t seen
    uint8_t has_amounts             # set before anything is added
    uint8_t is_busy                 # its key is not ok, or what it was last judged at is kept: it has to be judged
    uint8_t unused
    uint32_t near                   # of one that counts: from so many on it has to be judged
    int64_t span                    # ns, above 0
    uint32_t key                    # whose it is
    uint32_t sums                   # what its amounts add up to; 0: it has none

cdef struct RunMark:                # a trade of the run that is later than all before it
    int64_t at
    uint64_t index

cdef struct Run:                    # consecutive trades with the same side, price and volume
    RunMark* marks                  # not of a run of one trade
    int64_t first_at
    int64_t price
    int64_t quantity                # signed
    uint64_t length
    uint32_t size
    uint32_t capacity

# Move the window to `at` and take a trade in unless it is too old; total (at 10**scale) follows where the window has
# amounts; it is settled on the way. 0, or -1 without memory.
cdef int window_add(Window* w, int64_t at, int64_t amount, int exponent, Wide* total, int scale) noexcept nogil
cdef void window_settle(Window* w, Wide* total, int scale) noexcept nogil
# Drop some of what has left it, twice as much as may have come since the last time.
cdef void window_trim(Window* w, Wide* total, int scale) noexcept nogil
cdef void window_clear(Window* w) noexcept nogil
cdef void add_amount_long(Wide* total, const Amount* a, int scale, bint subtract) noexcept nogil
# Take a trade in; the length of the longest tail whose last - first time is below span, or -1 without memory.
cdef int64_t run_add(Run* r, int64_t at, int64_t price, int64_t quantity, int64_t span) noexcept nogil
cdef void run_clear(Run* r) noexcept nogil


cdef inline bint run_restart(Run* r, int64_t at, int64_t price, int64_t quantity) noexcept nogil:
    """Take in a trade that is unlike the one before, as nearly all are: a run of 1; False: nothing was done."""
    if r.length and r.price == price and r.quantity == quantity:
        return False
    r.price = price
    r.quantity = quantity
    r.length = r.size = 1
    r.first_at = at
    return True

# Both kinds as they were in a snapshot, into zeroed ones: the bytes that a window took, 0 for a run; -1 without memory.
cdef int64_t window_restore(Window* w, uint8_t seen, int64_t latest, bint has_amounts, uint32_t size,
                            const uint8_t* entries) noexcept nogil
cdef int run_restore(Run* r, int64_t price, int64_t quantity, uint64_t length, uint32_t size, const RunMark* marks) noexcept nogil


cdef inline uint32_t window_place(const Window* w, uint32_t i) noexcept nogil:
    """Where entry i by time is in the ring."""
    return (w.head + i) & (w.capacity - 1)


cdef inline void add_short(Wide* total, uint64_t amount, int shift, bint subtract) noexcept nogil:
    cdef u128 product = <u128>amount * <u128>POWERS_OF_TEN[shift]
    wide_accumulate3(total, low_u128(product), high_u128(product), 0, subtract)


cdef inline void add_amount(Wide* total, const Amount* a, int scale, bint subtract) noexcept nogil:
    cdef int shift = <int>a.exponent - scale
    if 0 <= shift < 19:
        add_short(total, <uint64_t>a.amount, shift, subtract)
    else:
        add_amount_long(total, a, scale, subtract)


cdef inline bint window_push(Window* w, int64_t at, int64_t amount, int exponent, Wide* total, int scale) noexcept nogil:
    """Take in one trade as window_add does, where it comes last and there is room, as nearly always; False: nothing was done.

    Nothing is dropped but once in TRIM_EVERY times: how much leaves with each trade, no processor predicts. total: NULL for a
    window that counts.
    """
    cdef uint32_t place = window_place(w, w.size)
    if at < w.latest or w.size == w.capacity:       # it has no room before it has seen anything
        return False
    if total != NULL:
        if not 0 <= exponent - scale < 19:
            return False
        add_short(total, <uint64_t>amount, exponent - scale, False)
        w.amounts[place].amount = amount
        w.amounts[place].exponent = exponent
    w.times[place] = at
    w.latest = at
    w.size += 1
    if place % TRIM_EVERY == 0:
        window_trim(w, total, scale)
    return True
