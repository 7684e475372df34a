"""CSV bytes to rows to records: RFC 4180, one pass, no Python object per row."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.feedwriter cimport Row, Values
from ext.recordreader cimport WindowReader
from ext.records cimport Bytes

cdef enum:
    ROW_BYTES_MAX = 16777216        # a longer row is refused
    LONG_ROW_RAW_BYTES = 65536      # of a longer row kept in its dead letter
    COLUMNS_MAX = 4096

cdef enum RowStatus:
    ROW_OK = 0
    ROW_BLANK = 1                   # nothing between two line ends: no record
    ROW_COUNT = 2                   # another number of fields than the header
    ROW_QUOTING = 3                 # broken quoting; the row is cut at the end of its first physical line
    ROW_LONG = 4                    # beyond ROW_BYTES_MAX
    ROW_MORE = 5                    # not all of the row is in the window yet
    ROW_END = 6                     # the source has no further row
    ROW_NO_MEMORY = 7

cdef struct Split:                  # the row at the cursor, as split_row found it
    size_t end                      # offset behind its last byte, line end excluded
    size_t next                     # offset of the next row
    size_t next_mark
    uint64_t lines                  # physical lines it takes
    uint32_t columns

@cython.final
cdef class CsvReader(WindowReader):
    cdef Row row
    cdef Values values              # of a row whose time had to be known before
    cdef Bytes constants            # texts of columns that the map sets
    cdef Bytes unescaped            # fields with "" in them
    cdef Bytes targets              # uint8 Field per column
    cdef Bytes copies               # pairs of uint8: field, the field with the same column
    cdef uint32_t columns           # fields of a row; 0: not known yet
    cdef Bytes marks                # uint32 offsets of commas, line ends and quotes in the window
    cdef size_t mark                # the next one
    cdef size_t marked_to
    cdef bint told                  # what broke the source off has its dead letter
    cdef bint skipping              # inside a row beyond ROW_BYTES_MAX
    cdef bint non_ascii             # the window has bytes above 127
    cdef uint8_t delimiter
    cdef size_t raw_from            # rows of the frame being built whose bytes are not copied yet
    cdef size_t raw_base
    cdef Split split
    cdef int found                  # RowStatus of the row at the cursor, where `look` has cut it; else ROW_MORE
    cdef readonly uint64_t line     # physical line of the next row, from 1

    cdef bint split_plain(self) noexcept nogil
    cdef void end_row(self, size_t at, size_t start, uint32_t column, size_t next_mark) noexcept nogil
    cdef int split_row(self) noexcept nogil                 # RowStatus
    cdef int split_quoted(self) noexcept nogil
    cdef int find_row(self) noexcept nogil                  # split_row behind blank lines and what is skipped
    cdef int next_status(self) except -1                    # find_row, reading as needed
    cdef void consume(self) noexcept nogil
    cdef int add_row(self, int status) noexcept nogil
    cdef int add_origin(self, size_t start, size_t length) noexcept nogil
    cdef int flush_raw(self) noexcept nogil
    cdef int pass_over(self) noexcept nogil
    cdef int fill_rows(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil
    cdef bint judge_time(self, int status) noexcept nogil
    cdef int cut_broken(self, bint broken, size_t first_line, size_t first_mark) noexcept nogil
    cdef bint skip_line(self) noexcept nogil
    cdef int reject_count(self) noexcept nogil
    cdef int add_long_row(self) noexcept nogil
    cdef void begin_raw(self) noexcept nogil
    cdef void copy_fields(self) noexcept nogil
    cdef int index_window(self) noexcept nogil
    cdef size_t refill(self) except? 0
