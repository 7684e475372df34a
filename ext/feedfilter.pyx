"""Which rows of a feed are wanted: a span of time, and globs of symbols and accounts."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from ext.definitions cimport NO_NAME, NameTable, glob_match
from ext.records cimport Bytes, bytes_append, bytes_free, bytes_reserve

cdef enum:
    UNJUDGED = 0
    KEEP = 1
    DROP = 2


cdef class RowFilter:
    def __init__(self, *, from_ns=None, to_ns=None, list symbols=None, list accounts=None):
        """Keep rows from ``from_ns`` (inclusive) to ``to_ns`` (exclusive) whose symbol and account match a glob of each.

        None or empty: everything. Globs (at most 64 bytes each) know ``*`` and ``?``; one match is enough.
        """
        self.from_ns = -(2 ** 63) if from_ns is None else from_ns
        self.to_ns = 0 if to_ns is None else to_ns
        self.timed = from_ns is not None or to_ns is not None
        if to_ns is None:
            self.to_ns = 2 ** 63 - 1
        self.symbols = NameTable()
        self.accounts = NameTable()
        put_globs(&self.symbol_globs, symbols or [])
        put_globs(&self.account_globs, accounts or [])

    def __dealloc__(self):
        bytes_free(&self.symbol_verdicts)
        bytes_free(&self.account_verdicts)
        bytes_free(&self.symbol_globs)
        bytes_free(&self.account_globs)

    cdef int keeps(self, const uint8_t* symbol, size_t symbol_length, const uint8_t* account, size_t account_length,
                   int64_t time_ns, bint has_time) noexcept nogil:
        cdef int verdict
        if self.timed and has_time and (time_ns < self.from_ns or time_ns >= self.to_ns):
            return 0
        if self.symbol_globs.size and symbol != NULL:
            verdict = judge(self.symbols, &self.symbol_verdicts, &self.symbol_globs, symbol, symbol_length)
            if verdict != KEEP:
                return -1 if verdict < 0 else 0
        if self.account_globs.size and account != NULL:
            verdict = judge(self.accounts, &self.account_verdicts, &self.account_globs, account, account_length)
            if verdict != KEEP:
                return -1 if verdict < 0 else 0
        return 1

    def keeps_event(self, bytes symbol, bytes account, time_ns):
        """Whether to keep an event with these (None: it has none)."""
        cdef int kept = self.keeps(
            <const uint8_t*><const char*>symbol if symbol is not None else NULL, len(symbol or b""),
            <const uint8_t*><const char*>account if account is not None else NULL, len(account or b""),
            0 if time_ns is None else time_ns, time_ns is not None)
        if kept < 0:
            raise MemoryError
        return kept == 1


cdef int put_globs(Bytes* store, list globs) except -1:
    cdef bytes text
    cdef uint8_t length
    for glob in globs:
        text = glob.encode()
        if not 0 < len(text) <= 64:
            raise ValueError(f"a glob has 1 to 64 bytes: {glob!r}")
        length = <uint8_t>len(text)
        if bytes_append(store, &length, 1) < 0 or bytes_append(store, <const char*>text, length) < 0:
            raise MemoryError
    return 0


cdef int judge(NameTable names, Bytes* verdicts, const Bytes* globs, const uint8_t* text, size_t length) noexcept nogil:
    """KEEP or DROP by the globs, worked out once per name; -1: no memory."""
    cdef uint32_t id = names.intern(text, length)
    cdef size_t at = 0, more
    cdef uint8_t verdict = DROP
    if id == NO_NAME:
        return -1
    if id >= verdicts.size:
        more = <size_t>id + 256 - verdicts.size
        if bytes_reserve(verdicts, more) < 0:
            return -1
        memset(verdicts.data + verdicts.size, UNJUDGED, more)
        verdicts.size += more
    if verdicts.data[id] != UNJUDGED:
        return verdicts.data[id]
    while at < globs.size:
        if glob_match(globs.data + at + 1, globs.data[at], text, length):
            verdict = KEEP
            break
        at += 1 + globs.data[at]
    verdicts.data[id] = verdict
    return verdict
