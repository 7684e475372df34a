"""What a person or another program reads: positions as rows, JSON or CSV, alerts as JSON lines (DESIGN section 9)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from ext.definitions cimport NameTable
from ext.positions cimport Book

cdef enum:
    NUMBER_BYTES = 128              # of one formatted number of a position

cdef struct RowTexts:               # the numbers of one position as text
    char quantity[128]
    char average[128]
    char realized[128]
    char unrealized[128]
    char fees[128]
    char mark[128]
    size_t lengths[6]               # in this order

# Indices of all positions whose names match the globs (None: all), by account then symbol, bytewise.
cdef object sorted_positions(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob)
cdef void format_position(Book book, uint32_t position, RowTexts* out) noexcept nogil
cdef object positions_as(Book book, NameTable accounts, NameTable symbols, bint csv, write)
cdef object position_rows(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob)
