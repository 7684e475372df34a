"""Windows in executed_at. A window moves forward only; a run looks back from its last trade, wherever that lies."""

from libc.stdint cimport UINT32_MAX
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from ext.records cimport i128
from ext.wide cimport Wide, sub_i64, wide_add, wide_mul_pow10, wide_set_u128, wide_sub


cdef int resize(Window* w, uint32_t capacity) noexcept nogil:
    cdef int64_t* times = <int64_t*>malloc(capacity * sizeof(int64_t))
    cdef Amount* amounts = <Amount*>malloc(capacity * sizeof(Amount)) if w.has_amounts else NULL
    cdef uint32_t i
    if times == NULL or (w.has_amounts and amounts == NULL):
        free(times)
        free(amounts)
        return -1
    for i in range(w.size):
        times[i] = w.times[window_place(w, i)]
        if w.has_amounts:
            amounts[i] = w.amounts[window_place(w, i)]
    free(w.times)
    free(w.amounts)
    w.times = times
    w.amounts = amounts
    w.head = 0
    w.capacity = capacity
    return 0


cdef void add_amount_long(Wide* total, const Amount* a, int scale, bint subtract) noexcept nogil:
    cdef Wide value
    wide_set_u128(&value, <uint64_t>a.amount)
    wide_mul_pow10(&value, <int>a.exponent - scale)
    if subtract:
        wide_sub(total, &value)
    else:
        wide_add(total, &value)


cdef void drop(Window* w, uint32_t most, Wide* total, int scale) noexcept nogil:
    """Drop what is at or before latest - span, so many entries at most."""
    cdef int64_t left
    cdef uint32_t gone = 0
    if sub_i64(w.latest, w.span, &left):
        return                          # that lies before all times
    most = min(most, w.size)
    while gone < most and w.times[window_place(w, gone)] <= left:
        if w.has_amounts:
            add_amount(total, &w.amounts[window_place(w, gone)], scale, True)
        gone += 1
    w.head = window_place(w, gone)
    w.size -= gone
    if w.capacity > WINDOW_ENTRIES_MIN and w.size < w.capacity // 4:
        resize(w, w.capacity // 2)      # without memory it stays as large as it is


cdef void window_settle(Window* w, Wide* total, int scale) noexcept nogil:
    drop(w, UINT32_MAX, total, scale)


cdef void window_trim(Window* w, Wide* total, int scale) noexcept nogil:
    drop(w, 2 * TRIM_EVERY, total, scale)


cdef int insert(Window* w, int64_t at, const Amount* amount) noexcept nogil:
    """Put a trade where its time belongs: nearly always at the end. Room that is nearly full would soon be settled again."""
    cdef uint32_t i, place, before
    if w.size >= w.capacity // 4 * 3 and resize(w, w.capacity * 2 if w.capacity else WINDOW_ENTRIES_MIN) < 0:
        return -1
    i = w.size
    w.size += 1
    place = window_place(w, i)
    while i and w.times[window_place(w, i - 1)] > at:
        before = window_place(w, i - 1)
        w.times[place] = w.times[before]
        if w.has_amounts:
            w.amounts[place] = w.amounts[before]
        place = before
        i -= 1
    w.times[place] = at
    if w.has_amounts:
        w.amounts[place] = amount[0]
    return 0


cdef int window_add(Window* w, int64_t at, int64_t amount, int exponent, Wide* total, int scale) noexcept nogil:
    cdef Amount added
    if not w.seen or at > w.latest:
        w.latest = at
        w.seen = 1
    window_settle(w, total, scale)
    if <i128>w.latest - <i128>at >= <i128>w.span:
        return 0
    added.amount = amount
    added.exponent = exponent
    if insert(w, at, &added) < 0:
        return -1
    if w.has_amounts:
        add_amount(total, &added, scale, False)
    return 0


cdef void window_clear(Window* w) noexcept nogil:
    free(w.times)
    free(w.amounts)
    w.times = NULL
    w.amounts = NULL
    w.latest = w.head = w.size = w.capacity = w.seen = 0


cdef int64_t run_add(Run* r, int64_t at, int64_t price, int64_t quantity, int64_t span) noexcept nogil:
    cdef RunMark* marks
    cdef uint32_t low, high, middle
    if run_restart(r, at, price, quantity):
        return 1
    if r.length == 1:
        if r.capacity == 0:
            r.marks = <RunMark*>malloc(RUN_MARKS_MIN * sizeof(RunMark))
            if r.marks == NULL:
                return -1
            r.capacity = RUN_MARKS_MIN
        r.marks[0].at = r.first_at
        r.marks[0].index = 0
    r.length += 1
    # A trade that is not later than one before it never makes a tail longer than that one does.
    if at > r.marks[r.size - 1].at:
        if r.size == r.capacity:
            marks = <RunMark*>realloc(r.marks, r.capacity * 2 * sizeof(RunMark))
            if marks == NULL:
                return -1
            r.marks = marks
            r.capacity *= 2
        r.marks[r.size].at = at
        r.marks[r.size].index = r.length - 1
        r.size += 1
    low = 0
    high = r.size - 1
    while low < high:
        middle = (low + high) // 2
        if <i128>at - <i128>r.marks[middle].at < <i128>span:
            high = middle
        else:
            low = middle + 1
    return <int64_t>(r.length - r.marks[low].index)


cdef void run_clear(Run* r) noexcept nogil:
    free(r.marks)
    memset(r, 0, sizeof(Run))


# --- snapshots ---------------------------------------------------------------------------------------------------

cdef int64_t window_restore(Window* w, uint8_t seen, int64_t latest, bint has_amounts, uint32_t size,
                            const uint8_t* entries) noexcept nogil:
    cdef uint32_t capacity = WINDOW_ENTRIES_MIN
    cdef size_t amounts_at = <size_t>size * sizeof(int64_t)
    w.has_amounts = has_amounts
    while capacity < size:
        capacity *= 2
    if size and resize(w, capacity) < 0:
        return -1
    if size:
        memcpy(w.times, entries, amounts_at)
    if size and has_amounts:
        memcpy(w.amounts, entries + amounts_at, size * sizeof(Amount))
    w.size = size
    w.seen = seen
    w.latest = latest
    return <int64_t>amounts_at + (<int64_t>(size * sizeof(Amount)) if has_amounts else 0)


cdef int run_restore(Run* r, int64_t price, int64_t quantity, uint64_t length, uint32_t size, const RunMark* marks) noexcept nogil:
    if length > 1:
        r.marks = <RunMark*>malloc(size * sizeof(RunMark))
        if r.marks == NULL:
            return -1
        memcpy(r.marks, marks, size * sizeof(RunMark))
        r.capacity = size
    elif length:
        r.first_at = marks[0].at
    r.price = price
    r.quantity = quantity
    r.length = length
    r.size = size
    return 0
