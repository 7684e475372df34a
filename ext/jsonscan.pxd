"""Plain JSON in place: flat objects of strings without escapes, numbers and literals.

What is taken here is JSON beyond doubt; all else (escapes, nesting, repeated keys, mistakes) is left to a whole decoder.
Bytes behind the end must be readable, and no part of a value: a line end, or the zeros behind a window.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from ext.feedvalues cimport rw_load_masked

cdef enum JsonKind:
    JSON_STRING = 1                 # text: between the quotes
    JSON_NUMBER = 2
    JSON_TRUE = 3
    JSON_FALSE = 4
    JSON_NULL = 5
    JSON_STRINGS = 6                # an array of two strings: text is its first byte

cdef enum:
    JSON_KEYS_MAX = 32

cdef struct JsonValue:
    const uint8_t* text
    size_t length
    uint8_t kind

cdef struct JsonKeys:               # the keys that count, each at most 16 bytes
    uint64_t low[32]
    uint64_t high[32]
    uint8_t length[32]
    uint8_t hint[32]                # which key was found last as the n-th of an object
    int count


cdef inline int add_key(JsonKeys* keys, bytes key) except -1:
    """Number the next key that counts."""
    cdef uint8_t padded[16]
    if not 0 < len(key) <= 16 or keys.count == JSON_KEYS_MAX:
        raise ValueError(f"at most {JSON_KEYS_MAX} keys of 1 to 16 bytes: {key!r}")
    memset(padded, 0, sizeof(padded))
    memcpy(padded, <const char*>key, len(key))
    memcpy(&keys.low[keys.count], padded, 8)
    memcpy(&keys.high[keys.count], padded + 8, 8)
    keys.length[keys.count] = <uint8_t>len(key)
    keys.count += 1
    return 0


cdef inline const uint8_t* skip_space(const uint8_t* p) noexcept nogil:
    while p[0] == 32 or p[0] == 9:
        p += 1
    return p


cdef inline const uint8_t* skip_string(const uint8_t* p) noexcept nogil:
    """Behind the closing quote of a string whose first byte (behind the opening quote) is at p; NULL: it is not plain."""
    while p[0] != 34:
        if p[0] < 32 or p[0] == 92:
            return NULL
        p += 1
    return p + 1


cdef inline const uint8_t* skip_digits(const uint8_t* p) noexcept nogil:
    while <uint8_t>(p[0] - 48) <= 9:
        p += 1
    return p


cdef inline const uint8_t* skip_number(const uint8_t* p) noexcept nogil:
    """Behind a number (RFC 8259, section 6); NULL: it is none."""
    cdef const uint8_t* start
    if p[0] == 45:
        p += 1
    start = p
    p = skip_digits(p)
    if p == start or (start[0] == 48 and p > start + 1):
        return NULL
    if p[0] == 46:
        start = p + 1
        p = skip_digits(start)
        if p == start:
            return NULL
    if p[0] | 32 == 101:
        start = p + (2 if p[1] == 43 or p[1] == 45 else 1)
        p = skip_digits(start)
        if p == start:
            return NULL
    return p


cdef inline const uint8_t* skip_strings(const uint8_t* p) noexcept nogil:
    """Behind an array of two plain strings; NULL: it is none."""
    p = skip_space(p + 1)
    p = skip_string(p + 1) if p[0] == 34 else NULL
    if p == NULL:
        return NULL
    p = skip_space(p)
    if p[0] != 44:
        return NULL
    p = skip_space(p + 1)
    p = skip_string(p + 1) if p[0] == 34 else NULL
    if p == NULL:
        return NULL
    p = skip_space(p)
    return p + 1 if p[0] == 93 else NULL


cdef inline const uint8_t* read_value(const uint8_t* p, JsonValue* out) noexcept nogil:
    """Behind the value at p; NULL: it is not plain."""
    cdef const uint8_t* end
    out.text = p
    if p[0] == 34:
        end = skip_string(p + 1)
        if end == NULL:
            return NULL
        out.text = p + 1
        out.kind = JSON_STRING
        out.length = <size_t>(end - p) - 2
        return end
    if p[0] == 91:
        out.kind = JSON_STRINGS
        end = skip_strings(p)
    elif memcmp(p, <const char*>b"true", 4) == 0:
        out.kind = JSON_TRUE
        end = p + 4
    elif memcmp(p, <const char*>b"null", 4) == 0:
        out.kind = JSON_NULL
        end = p + 4
    elif memcmp(p, <const char*>b"false", 5) == 0:
        out.kind = JSON_FALSE
        end = p + 5
    else:
        out.kind = JSON_NUMBER
        end = skip_number(p)
    if end != NULL:
        out.length = <size_t>(end - p)
    return end


cdef inline int find_key(JsonKeys* keys, const uint8_t* text, size_t length, int place) noexcept nogil:
    """The number of a key, the place-th of its object; -1: it does not count."""
    cdef uint64_t low, high = 0
    cdef int k
    if length == 0 or length > 16:
        return -1
    low = rw_load_masked(text, length)
    if length > 8:
        high = rw_load_masked(text + 8, length - 8)
    if place < JSON_KEYS_MAX:
        k = keys.hint[place]
        if k < keys.count and keys.low[k] == low and keys.high[k] == high and keys.length[k] == length:
            return k
    for k in range(keys.count):
        if keys.low[k] == low and keys.high[k] == high and keys.length[k] == length:
            if place < JSON_KEYS_MAX:
                keys.hint[place] = <uint8_t>k
            return k
    return -1


cdef inline const uint8_t* read_object(const uint8_t* p, JsonKeys* keys, JsonValue* values,
                                       uint32_t* given) noexcept nogil:
    """Behind the flat object at p, the values of the keys that count in `values`, in `given` 1 << key; NULL: not plain."""
    cdef JsonValue key, other
    cdef int k, place = 0
    given[0] = 0
    if p[0] != 123:
        return NULL
    p = skip_space(p + 1)
    if p[0] == 125:
        return p + 1
    while True:
        if p[0] != 34:
            return NULL
        p = read_value(p, &key)
        if p == NULL:
            return NULL
        p = skip_space(p)
        if p[0] != 58:
            return NULL
        k = find_key(keys, key.text, key.length, place)
        place += 1
        if k >= 0 and given[0] & (<uint32_t>1 << k):
            return NULL
        p = read_value(skip_space(p + 1), &values[k] if k >= 0 else &other)
        if p == NULL:
            return NULL
        if k >= 0:
            given[0] |= <uint32_t>1 << k
        p = skip_space(p)
        if p[0] == 125:
            return p + 1
        if p[0] != 44:
            return NULL
        p = skip_space(p + 1)
