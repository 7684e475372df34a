"""Names as dense integers, and instruments: what a symbol's integers mean."""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from ext.records cimport Bytes, bytes_append, bytes_free

DEFAULT_PRICE_EXPONENT = -9
DEFAULT_QUANTITY_EXPONENT = -8


cdef uint64_t hash_text(const uint8_t* p, size_t n) noexcept nogil:
    """A 64-bit mix of short texts. Names are bounded in number, so an attacker's collisions cost him a scan at most."""
    cdef uint64_t h = 0x9E3779B97F4A7C15ULL ^ n, w
    while n >= 8:
        memcpy(&w, p, 8)
        h = (h ^ w) * 0xBF58476D1CE4E5B9ULL
        h ^= h >> 32
        p += 8
        n -= 8
    w = 0
    memcpy(&w, p, n)
    h = (h ^ w) * 0x94D049BB133111EBULL
    h ^= h >> 29
    h *= 0xBF58476D1CE4E5B9ULL
    return h ^ (h >> 32)


cdef class NameTable:
    def __cinit__(self):
        cdef uint64_t empty = 0
        self.slot_mask = 63
        self.slots = <uint32_t*>calloc(64, sizeof(uint32_t))
        if self.slots == NULL or bytes_append(&self.offsets, &empty, 8) < 0:
            raise MemoryError
        self.count = 1

    def __dealloc__(self):
        free(self.slots)
        bytes_free(&self.texts)
        bytes_free(&self.offsets)

    cdef uint64_t probe(self, const uint8_t* text, size_t length) noexcept nogil:
        """The slot that holds this text, or the free one where it belongs."""
        cdef uint64_t slot = hash_text(text, length) & self.slot_mask
        cdef uint64_t entry
        while self.slots[slot]:
            entry = (<uint64_t*>self.offsets.data)[self.slots[slot]]
            if (entry & 0xFF) == length and memcmp(self.texts.data + (entry >> 8), text, length) == 0:
                return slot
            slot = (slot + 1) & self.slot_mask
        return slot

    cdef uint32_t find(self, const void* text, size_t length) noexcept nogil:
        cdef uint32_t id
        if length == 0:
            return 0
        if length > 255:
            return NO_NAME
        id = self.slots[self.probe(<const uint8_t*>text, length)]
        return id if id else <uint32_t>NO_NAME

    cdef uint32_t intern(self, const void* text, size_t length) noexcept nogil:
        cdef uint64_t slot, entry
        if length == 0:
            return 0
        if length > 255:
            return NO_NAME
        slot = self.probe(<const uint8_t*>text, length)
        if self.slots[slot]:
            return self.slots[slot]
        entry = (<uint64_t>self.texts.size << 8) | length
        if bytes_append(&self.texts, text, length) < 0 or bytes_append(&self.offsets, &entry, 8) < 0:
            return NO_NAME
        self.slots[slot] = self.count
        self.count += 1
        if <uint64_t>self.count * 2 > self.slot_mask and self.grow() < 0:
            return NO_NAME
        return self.count - 1

    cdef int grow(self) noexcept nogil:
        cdef uint64_t mask = self.slot_mask * 2 + 1, slot, entry
        cdef uint32_t id
        cdef uint32_t* slots = <uint32_t*>calloc(mask + 1, sizeof(uint32_t))
        if slots == NULL:
            return -1
        for id in range(1, self.count):
            entry = (<uint64_t*>self.offsets.data)[id]
            slot = hash_text(self.texts.data + (entry >> 8), entry & 0xFF) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = id
        free(self.slots)
        self.slots = slots
        self.slot_mask = mask
        return 0

    cdef const uint8_t* text(self, uint32_t id, size_t* length) noexcept nogil:
        cdef uint64_t entry = (<uint64_t*>self.offsets.data)[id]
        length[0] = entry & 0xFF
        return self.texts.data + (entry >> 8)

    # The Python face.

    def add(self, bytes text not None):
        """Return the id of ``text``, giving it the next one if it is new."""
        cdef uint32_t id
        if len(text) > 255:
            raise ValueError(f"a name has at most 255 bytes; this one has {len(text)}")
        id = self.intern(<const char*>text, len(text))
        if id == NO_NAME:
            raise MemoryError
        return id

    def get(self, bytes text not None):
        """Return the id of ``text``, or None."""
        cdef uint32_t id = self.find(<const char*>text, len(text))
        return None if id == NO_NAME else id

    def __getitem__(self, uint32_t id):
        cdef size_t length
        cdef const uint8_t* text
        if id >= self.count:
            raise IndexError(f"name {id} of {self.count}")
        text = self.text(id, &length)
        return (<const char*>text)[:length]

    def __len__(self):
        return self.count


# --- globs -------------------------------------------------------------------------------------------------------

cdef size_t char_bytes(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Bytes of the UTF-8 character at p (texts are validated before; a stray byte counts as one)."""
    cdef size_t n = 1
    while p + n < end and (p[n] & 0xC0) == 0x80:
        n += 1
    return n


cdef int compare_chars(const uint8_t* a, size_t a_bytes, const uint8_t* b, size_t b_bytes) noexcept nogil:
    """UTF-8 sorts bytewise as its code points do."""
    cdef int order = memcmp(a, b, a_bytes if a_bytes < b_bytes else b_bytes)
    if order:
        return order
    return (a_bytes > b_bytes) - (a_bytes < b_bytes)


cdef const uint8_t* match_class(const uint8_t* p, const uint8_t* end, const uint8_t* c, size_t c_bytes,
                                bint* matched) noexcept nogil:
    """Match one character against the class that starts after ``[`` at p; the end of the class, or NULL: no class."""
    cdef bint negated = False, found = False
    cdef const uint8_t* first
    cdef const uint8_t* low
    cdef size_t low_bytes, high_bytes
    if p < end and p[0] == 33:
        negated = True
        p += 1
    first = p
    # A `]` right at the start is a member, as in Python's fnmatch.
    if p >= end or memchr(p + 1, 93, end - p - 1) == NULL:
        return NULL
    while p == first or p[0] != 93:
        low = p
        low_bytes = char_bytes(p, end)
        p += low_bytes
        if p >= end:
            return NULL
        if p[0] == 45 and p + 1 < end and p[1] != 93:
            high_bytes = char_bytes(p + 1, end)
            if compare_chars(low, low_bytes, c, c_bytes) <= 0 and compare_chars(c, c_bytes, p + 1, high_bytes) <= 0:
                found = True
            p += 1 + high_bytes
            if p >= end:
                return NULL
        elif compare_chars(low, low_bytes, c, c_bytes) == 0:
            found = True
    matched[0] = found != negated
    return p + 1


cdef bint glob_match(const uint8_t* pattern, size_t pattern_length, const uint8_t* text, size_t length) noexcept nogil:
    """Shell-style match as Python's ``fnmatch.fnmatchcase``: ``*``, ``?``, ``[a-z]``, ``[!x]``; by characters."""
    cdef const uint8_t* p = pattern
    cdef const uint8_t* p_end = pattern + pattern_length
    cdef const uint8_t* t = text
    cdef const uint8_t* t_end = text + length
    cdef const uint8_t* star = NULL
    cdef const uint8_t* star_text = NULL
    cdef const uint8_t* after
    cdef size_t n
    cdef bint ok
    while t < t_end:
        n = char_bytes(t, t_end)
        ok = False
        if p < p_end and p[0] == 42:
            p += 1
            star = p
            star_text = t
            continue
        if p < p_end:
            if p[0] == 63:
                ok = True
                after = p + 1
            elif p[0] == 91:
                after = match_class(p + 1, p_end, t, n, &ok)
                if after == NULL:       # an unclosed bracket is a plain character
                    ok = t[0] == 91
                    after = p + 1
            else:
                ok = <size_t>(p_end - p) >= n and memcmp(p, t, n) == 0
                after = p + n
            if ok:
                p = after
                t += n
                continue
        if star == NULL:
            return False
        star_text += char_bytes(star_text, t_end)
        t = star_text
        p = star
    while p < p_end and p[0] == 42:
        p += 1
    return p == p_end


def glob_matches(bytes pattern not None, bytes text not None):
    """Whether ``text`` matches ``pattern`` as ``fnmatch.fnmatchcase`` would say (both UTF-8)."""
    return bool(glob_match(<const uint8_t*><const char*>pattern, len(pattern),
                           <const uint8_t*><const char*>text, len(text)))


# --- instruments -------------------------------------------------------------------------------------------------

cdef bint is_glob(const uint8_t* p, size_t n) noexcept nogil:
    return memchr(p, 42, n) != NULL or memchr(p, 63, n) != NULL or memchr(p, 91, n) != NULL


cdef class Instruments:
    def __cinit__(self):
        cdef Instrument unused
        self.currencies = NameTable()
        self.rule_names = NameTable()
        set_default(&unused)
        if bytes_append(&self.rules, &unused, sizeof(unused)) < 0:      # id 0 is no rule
            raise MemoryError

    def __dealloc__(self):
        bytes_free(&self.rules)
        bytes_free(&self.globs)

    cdef int define(self, const uint8_t* symbol, size_t length, const Instrument* instrument) noexcept nogil:
        cdef uint32_t known = self.rule_names.count
        cdef uint32_t id = self.rule_names.intern(symbol, length)
        if id == NO_NAME:
            return -1
        if id < known:
            (<Instrument*>self.rules.data)[id] = instrument[0]
            return 0
        if is_glob(symbol, length) and bytes_append(&self.globs, &id, 4) < 0:
            return -1
        return bytes_append(&self.rules, instrument, sizeof(Instrument))

    cdef void resolve(self, const uint8_t* symbol, size_t length, Instrument* out) noexcept nogil:
        cdef uint32_t id = self.rule_names.find(symbol, length)
        cdef size_t i, pattern_length
        cdef const uint8_t* pattern
        if id != NO_NAME and id != 0:
            out[0] = (<Instrument*>self.rules.data)[id]
            return
        for i in range(self.globs.size // 4):
            id = (<uint32_t*>self.globs.data)[i]
            pattern = self.rule_names.text(id, &pattern_length)
            if glob_match(pattern, pattern_length, symbol, length):
                out[0] = (<Instrument*>self.rules.data)[id]
                return
        set_default(out)

    # The Python face.

    def add(self, bytes symbol not None, *, int64_t multiplier=1, int multiplier_exponent=0, bytes currency=b"",
            int price_exponent=-9, int quantity_exponent=-8):
        """Define a rule: ``symbol`` exact, or a glob where it holds ``*``, ``?`` or ``[``."""
        cdef Instrument instrument
        set_default(&instrument)
        instrument.multiplier = multiplier
        instrument.multiplier_exponent = multiplier_exponent
        instrument.price_exponent = price_exponent
        instrument.quantity_exponent = quantity_exponent
        instrument.currency = self.currencies.add(currency)
        if self.define(<const uint8_t*><const char*>symbol, len(symbol), &instrument) < 0:
            raise MemoryError

    def get(self, bytes symbol not None):
        """(multiplier, multiplier_exponent, currency, price_exponent, quantity_exponent) that ``symbol`` has."""
        cdef Instrument found
        self.resolve(<const uint8_t*><const char*>symbol, len(symbol), &found)
        return (found.multiplier, found.multiplier_exponent, self.currencies[found.currency],
                found.price_exponent, found.quantity_exponent)


cdef void set_default(Instrument* out) noexcept nogil:
    out.multiplier = 1
    out.multiplier_exponent = 0
    out.currency = 0
    out.price_exponent = -9
    out.quantity_exponent = -8
    out.unused = 0
