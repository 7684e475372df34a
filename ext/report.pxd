"""What a person or another program reads: positions as rows, JSON or CSV, alerts as JSON lines (DESIGN section 9)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from ext.definitions cimport NameTable
from ext.positions cimport Book

# Indices of all positions whose names match the globs (None: all), by account then symbol, bytewise.
cdef uint32_t[::1] sorted_positions(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob)
cdef object positions_as(Book book, NameTable accounts, NameTable symbols, bint csv, write)
cdef object position_rows(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob)
