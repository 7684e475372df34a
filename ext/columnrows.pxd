"""Columns of a record batch (Arrow's memory layout) to records: no Python object per row."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.decimals cimport Decimal64
from ext.feedwriter cimport Row, Values
from ext.recordreader cimport RecordReader
from ext.records cimport Bytes

cdef enum ColumnKind:
    COLUMN_TEXT = 1                 # int32 offsets and bytes
    COLUMN_DICTIONARY = 2           # int32 indices into texts
    COLUMN_INTEGER = 3              # int64
    COLUMN_FLOAT = 4                # float64
    COLUMN_DECIMAL = 5              # 128-bit integers of 10**-unit
    COLUMN_TIME = 6                 # int64 of `unit` ns

cdef enum:
    COLUMNS_MAX = 14                # one per field of a Row
    BLOCK_ROWS = 128                # of a column whose numbers are read together
    CELL_BYTES = 128                # scratch for a text made of a number, or one too near the end of its buffer

cdef struct TextBuffer:
    const uint8_t* validity         # bitmap; NULL: no nulls
    const int32_t* offsets
    const uint8_t* data
    size_t data_bytes
    size_t first                    # of the array in its buffers
    size_t count
    int32_t ascii_start             # offsets between which all bytes are ASCII
    int32_t ascii_end

cdef struct Word:                   # a text of a dictionary
    const uint8_t* text
    uint32_t length
    uint32_t id                     # of the name; 0: not numbered yet
    uint8_t status

cdef struct Column:
    uint8_t field
    uint8_t kind
    uint8_t decimals_hint           # digits behind the point of the last float that had a short form
    const uint8_t* validity
    const void* values
    size_t first
    int64_t unit
    int round_decimals              # of floats; -1: as they are
    size_t block_at                 # the first row of `block`, and how many it has
    size_t block_count
    Decimal64 block[128]            # of FLOAT and DECIMAL; wide: the row is not of the form that the block was read by
    Decimal64* number               # of the row, where the field is one; else NULL
    TextBuffer texts                # TEXT, or the dictionary
    int name_kind                   # -1: the field is no name
    Bytes words                     # Word per text of the dictionary
    Bytes padded                    # copies of those without TEXT_SLACK_BYTES behind them

@cython.final
cdef class ColumnReader(RecordReader):
    cdef object table               # next_batch() -> bool, row_text(i) -> bytes, damage: str | None
    cdef object batch               # keeps the buffers alive
    cdef Column columns[14]
    cdef int column_count
    cdef Row constants              # row with the constants in it
    cdef Bytes constant_texts
    cdef uint8_t cells[14][128]
    cdef Row row
    cdef Values values
    cdef size_t next_row            # in the batch
    cdef size_t row_count
    cdef int found                  # of the next row, where it has been read; else CELL_UNREAD
    cdef bint refused               # the record added last is a refusal, and has no origin yet
    cdef bint ended                 # there is no further batch
    cdef bint told                  # what damage ended them has its dead letter, or there is none

    cdef int next_cells(self) noexcept nogil
    cdef int read_row(self) noexcept nogil
    cdef int read_cell(self, Column* column, size_t i) noexcept nogil
    cdef int judge_words(self, Column* column) noexcept nogil
    cdef int put_text(self, Column* column, size_t i) noexcept nogil
    cdef int put_word(self, Column* column, int32_t index) noexcept nogil
    cdef int put_integer(self, Column* column, int64_t value) noexcept nogil
    cdef int put_float(self, Column* column, double value) noexcept nogil
    cdef int put_block_number(self, Column* column, size_t i) noexcept nogil
    cdef int put_time(self, int64_t value, int64_t unit) noexcept nogil
    cdef Decimal64* number_of(self, int field) noexcept nogil
    cdef int add_row(self, int status) noexcept nogil
    cdef bint row_time(self, int status, int64_t* out) noexcept nogil
