"""Windows in executed_at. A window moves forward only; a run looks back from its last trade, wherever that lies."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ext.records cimport i128
from ext.wide cimport Wide, add_i64, wide_add, wide_mul_pow10, wide_set_u128, wide_sub


cdef WindowEntry* slot(const Window* w, uint32_t i) noexcept nogil:
    return &w.entries[(w.head + i) & (w.capacity - 1)]


cdef int resize(Window* w, uint32_t capacity) noexcept nogil:
    cdef WindowEntry* entries = <WindowEntry*>malloc(capacity * sizeof(WindowEntry))
    cdef uint32_t i
    if entries == NULL:
        return -1
    for i in range(w.size):
        entries[i] = slot(w, i)[0]
    free(w.entries)
    w.entries = entries
    w.head = 0
    w.capacity = capacity
    return 0


cdef void window_shrink(Window* w) noexcept nogil:
    resize(w, w.capacity // 2)          # without memory it stays as large as it is


cdef void add_amount(Wide* total, const WindowEntry* e, int scale, bint subtract) noexcept nogil:
    cdef int shift = <int>e.exponent - scale
    cdef Wide value
    if 0 <= shift < 19:
        add_short(total, <uint64_t>e.amount, shift, subtract)
        return
    wide_set_u128(&value, <uint64_t>e.amount)
    wide_mul_pow10(&value, shift)
    if subtract:
        wide_sub(total, &value)
    else:
        wide_add(total, &value)


cdef void expire(Window* w, int64_t span, Wide* total, int scale) noexcept nogil:
    """Drop what is at or before latest - span."""
    cdef WindowEntry* e
    while w.size:
        e = slot(w, 0)
        if <i128>w.latest - <i128>e.at < <i128>span:
            break
        if total == NULL:
            w.trades -= e.amount
        else:
            add_amount(total, e, scale, True)
        w.head = (w.head + 1) & (w.capacity - 1)
        w.size -= 1
    if w.capacity > CAPACITY_MIN and w.size * 4 < w.capacity:
        window_shrink(w)


cdef int insert(Window* w, int64_t at, int64_t amount, int exponent) noexcept nogil:
    """Put an entry where its time belongs: nearly always at the end."""
    cdef uint32_t i = w.size, k
    cdef int64_t merged
    cdef WindowEntry* e
    while i and slot(w, i - 1).at > at:
        i -= 1
    if i:
        e = slot(w, i - 1)
        # Volumes of two trades may need 65 bits: those stay apart.
        if e.at == at and e.exponent == exponent and not add_i64(e.amount, amount, &merged):
            e.amount = merged
            return 0
    if w.size == w.capacity and resize(w, w.capacity * 2 if w.capacity else CAPACITY_MIN) < 0:
        return -1
    w.size += 1
    k = w.size - 1
    while k > i:
        slot(w, k)[0] = slot(w, k - 1)[0]
        k -= 1
    e = slot(w, i)
    e.at = at
    e.amount = amount
    e.exponent = exponent
    return 0


cdef int window_add(Window* w, int64_t at, int64_t amount, int exponent, int64_t span, Wide* total, int scale) noexcept nogil:
    cdef WindowEntry added
    if w.seen and <i128>w.latest - <i128>at >= <i128>span:
        return 0
    if insert(w, at, amount, exponent) < 0:
        return -1
    if total == NULL:
        w.trades += amount
    else:
        added.amount = amount
        added.exponent = exponent
        add_amount(total, &added, scale, False)
    if not w.seen or at > w.latest:
        w.latest = at
        w.seen = 1
        expire(w, span, total, scale)
    return 0


cdef void window_clear(Window* w) noexcept nogil:
    free(w.entries)
    memset(w, 0, sizeof(Window))


cdef int64_t run_add(Run* r, int64_t at, int64_t price, int64_t quantity, int64_t span) noexcept nogil:
    cdef RunMark* marks
    cdef uint32_t low, high, middle, i
    if r.length == 0 or r.price != price or r.quantity != quantity:
        r.price = price
        r.quantity = quantity
        r.length = 0
        r.size = 0
    r.length += 1
    # A trade that is not later than one before it never makes a tail longer than that one does.
    if r.size == 0 or at > r.marks[r.size - 1].at:
        if r.size == r.capacity:
            marks = <RunMark*>malloc((r.capacity * 2 if r.capacity else CAPACITY_MIN) * sizeof(RunMark))
            if marks == NULL:
                return -1
            for i in range(r.size):
                marks[i] = r.marks[i]
            free(r.marks)
            r.marks = marks
            r.capacity = r.capacity * 2 if r.capacity else CAPACITY_MIN
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

cdef const WindowEntry* window_entry(const Window* w, uint32_t i) noexcept nogil:
    return slot(w, i)


cdef int window_restore(Window* w, uint8_t seen, int64_t latest, uint64_t trades, uint32_t size,
                        const WindowEntry* entries) noexcept nogil:
    cdef uint32_t capacity = CAPACITY_MIN
    while capacity < size:
        capacity *= 2
    if size and resize(w, capacity) < 0:
        return -1
    if size:
        memcpy(w.entries, entries, size * sizeof(WindowEntry))
    w.size = size
    w.seen = seen
    w.latest = latest
    w.trades = trades
    return 0


cdef int run_restore(Run* r, int64_t price, int64_t quantity, uint64_t length, uint32_t size, const RunMark* marks) noexcept nogil:
    if size:
        r.marks = <RunMark*>malloc(size * sizeof(RunMark))
        if r.marks == NULL:
            return -1
        memcpy(r.marks, marks, size * sizeof(RunMark))
    r.price = price
    r.quantity = quantity
    r.length = length
    r.size = r.capacity = size
    return 0
