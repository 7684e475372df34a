"""Lines to records: the plain ones without a Python object, the others as Python says."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from ext.feedwriter cimport Row, RowRules
from ext.recordreader cimport WindowReader
from ext.records cimport Bytes

cdef enum:
    LINE_BYTES_MAX = 16777216       # a longer one is refused
    LONG_LINE_RAW_BYTES = 65536     # of a longer one kept in its dead letter

cdef enum LineStatus:
    LINE_ROWS = 0                   # its records have been read into `rows`
    LINE_OTHER = 1                  # no record: it is passed over
    LINE_SLOW = 2                   # Python's to judge
    LINE_MORE = 3                   # not all of it is in the window yet
    LINE_END = 4
    LINE_NO_MEMORY = -1

cdef class LineReader(WindowReader):
    """A format says `judge`, and `add` where a row is not a trade as it stands."""
    cdef object slow                # what judges and adds a line in Python; see the .pyi
    cdef RowRules sided             # of records that do not say their side
    cdef uint8_t id_text[96]        # `<16 hex>#` and room for the number
    cdef bint begun                 # the first record has been seen: there are rules
    cdef readonly uint64_t line     # physical line at hand, from 1
    cdef int status                 # of it; LINE_MORE: there is none
    cdef size_t length              # of it, without its end
    cdef size_t next                # offset behind its end
    cdef size_t searched            # bytes from the position on that hold no line end
    cdef readonly bint cut          # the line at hand is too long
    cdef bint skipping              # in the rest of a line that was too long
    cdef Bytes rows                 # Row each, of the line at hand
    cdef size_t row_count
    cdef size_t row_at              # the next one
    cdef bint adding                # whether `advance` is to add the line at hand, or only to look at it
    cdef bint asked                 # Python has been asked for the time of the line at hand
    cdef bint timed
    cdef int64_t time_ns
    cdef object more                # what adds one more record of the line at hand at each step
    cdef size_t raw_at              # of the line at hand in the frame `raw_frame`
    cdef uint64_t raw_frame
    cdef bint told

    # The rows of a line: LINE_ROWS, LINE_OTHER or LINE_SLOW.
    cdef int judge(self, const uint8_t* p, size_t n) noexcept nogil
    # The record of a row, as FeedWriter.add_row.
    cdef int add(self, Row* row) noexcept nogil
    cdef Row* new_row(self) noexcept nogil                  # zeroed; NULL without memory
    cdef int made_id(self, const uint8_t** text) noexcept nogil     # of the record in hand; its length
    cdef int next_line(self) noexcept nogil
    cdef int find_line(self) noexcept nogil
    cdef void take(self) noexcept nogil
    cdef int add_row(self) noexcept nogil
    cdef int add_raw(self) noexcept nogil
    cdef int ask(self) except -1
