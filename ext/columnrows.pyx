"""Columns of a record batch (Arrow's memory layout) to records: no Python object per row.

Numbers stay numbers: an integer, a 128-bit decimal, and a float whose shortest form has at most 15 digits become a
mantissa and an exponent without passing through text. What is left to text are the few floats that need more digits.
"""

from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, rint
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset, strlen

from ext.decimals cimport DECIMAL_OK, Decimal64, parse_decimal
from ext.feedvalues cimport scale_time, trim_i64, write_number
from ext.feedwriter cimport (
    FIELD_EXECUTED_AT, FIELD_FEE, FIELD_PRICE, FIELD_SYMBOL, FIELD_ACCOUNT, FIELD_VENUE, FIELD_STRATEGY,
    FIELD_VOLUME, ROW_SKIPPED, TEXT_SLACK_BYTES, FeedWriter, RowRules, has_room,
)
from ext.recordreader cimport (
    HEAD_END, HEAD_MORE, HEAD_TIMED, HEAD_UNTIMED, READ_DONE, READ_END, READ_MORE, READ_NO_MEMORY,
)
from ext.records cimport (
    EVENT_REJECTED, NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, REASON_NONE, REASON_OVERFLOW,
    REASON_UNDECODABLE, Record, bytes_free, bytes_reserve, i128, put_origin,
)
from ext.utf8 cimport is_utf8

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char format, int precision, int flags, int* kind)

cdef extern from *:
    """
    static const double rw_powers[16] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
                                         1e14, 1e15};
    """
    const double* rw_powers

cdef enum:
    CELL_OK = 0
    CELL_UNDECODABLE = 1
    CELL_DAMAGED = 2                # an index or an offset that points outside its buffer
    CELL_UNREAD = 3

KINDS = {"text": COLUMN_TEXT, "dictionary": COLUMN_DICTIONARY, "integer": COLUMN_INTEGER, "float": COLUMN_FLOAT,
         "decimal": COLUMN_DECIMAL, "time": COLUMN_TIME}


cdef inline bint is_set(const uint8_t* bitmap, size_t i) noexcept nogil:
    return bitmap == NULL or bitmap[i >> 3] >> (i & 7) & 1


cdef inline bint short_form(double value, int decimals, Decimal64* out) noexcept nogil:
    """Whether value is the float nearest to some m / 10**decimals with at most 15 digits: then that is its shortest
    form, as no two decimals of 15 digits share a float, and m and 10**decimals are exact."""
    cdef double scaled = value * rw_powers[decimals]
    cdef double m
    if not -1e15 < scaled < 1e15:
        return False
    # The nearest integer, or next to it: what is wrong is seen below.
    m = <double><int64_t>(scaled + (0.5 if scaled >= 0 else -0.5))
    if m / rw_powers[decimals] != value:
        return False
    out.mantissa = <int64_t>m
    out.exponent = -decimals
    out.wide = 0
    trim_i64(out)
    return True


cdef void read_block(Column* column, size_t start, size_t count) noexcept nogil:
    """Numbers of so many rows, of those that have the form that most have; the others are marked as wide."""
    column.block_at = start
    column.block_count = count
    if column.kind == COLUMN_DECIMAL:
        read_decimals(column, start, count)
    else:
        read_floats(column, start, count)


cdef inline void put_number(Decimal64* out, int64_t mantissa, int exponent, bint other) noexcept nogil:
    out.mantissa = mantissa
    out.exponent = exponent
    out.wide = other
    trim_i64(out)


cdef void read_decimals(Column* column, size_t start, size_t count) noexcept nogil:
    """128-bit decimals of rows, those that fit 64 bits."""
    cdef const int64_t* words = <const int64_t*>column.values + 2 * start
    cdef int64_t low
    cdef size_t k
    for k in range(count):
        low = words[2 * k]
        # A mantissa is saturated at both ends alike: the lowest int64 is beyond.
        put_number(&column.block[k], low, -<int>column.unit, words[2 * k + 1] != low >> 63 or low == INT64_MIN)


cdef void read_floats(Column* column, size_t start, size_t count) noexcept nogil:
    """short_form of rows by the form of those before: one after another they would wait for each other's division."""
    cdef const double* values = <const double*>column.values + start
    cdef double power = rw_powers[column.decimals_hint]
    cdef double scaled[128]
    cdef double m
    cdef size_t k
    for k in range(count):
        m = values[k] * power
        # What is beyond 15 digits, infinite or no number has no short form.
        m = m if -1e15 < m < 1e15 else 0.0
        scaled[k] = <double><int64_t>(m + (0.5 if m >= 0 else -0.5))
    for k in range(count):
        put_number(&column.block[k], <int64_t>scaled[k], -<int>column.decimals_hint, scaled[k] / power != values[k])


cdef int long_form(double value, Decimal64* out) noexcept with gil:
    """A float by its shortest form, whatever its length: DECIMAL_OK or DECIMAL_INVALID."""
    cdef char* text = PyOS_double_to_string(value, 114, 0, 0, NULL)
    cdef int status = DECIMAL_OK + 1
    if text != NULL:
        status = parse_decimal(<const uint8_t*>text, strlen(text), out)
        PyMem_Free(text)
    return status


cdef int find_text(const TextBuffer* texts, size_t i, const uint8_t** text, size_t* length) noexcept nogil:
    """Where text i lies (a null: nowhere): CELL_OK, or what is wrong with it."""
    cdef size_t k = texts.first + i
    cdef int32_t start, end
    text[0] = texts.data
    length[0] = 0
    if not is_set(texts.validity, k):
        return CELL_OK
    start, end = texts.offsets[k], texts.offsets[k + 1]
    if start < 0 or end < start or <size_t>end > texts.data_bytes:
        return CELL_DAMAGED
    text[0] = texts.data + start
    length[0] = <size_t>(end - start)
    if (start >= texts.ascii_start and end <= texts.ascii_end) or is_utf8(text[0], length[0]):
        return CELL_OK
    return CELL_UNDECODABLE


cdef void find_ascii(TextBuffer* texts) noexcept nogil:
    """Look at the bytes of all texts together: where they are ASCII, none need be looked at by itself."""
    cdef int32_t start, end
    cdef uint8_t high = 0
    cdef int32_t i
    texts.ascii_start = 0
    texts.ascii_end = 0
    if texts.count == 0:
        return
    start, end = texts.offsets[texts.first], texts.offsets[texts.first + texts.count]
    if start < 0 or end < start or <size_t>end > texts.data_bytes:
        return
    for i in range(start, end):
        high |= texts.data[i]
    if high < 0x80:
        texts.ascii_start = start
        texts.ascii_end = end


cdef void decimal_of_i128(const uint64_t* words, int64_t scale, Decimal64* out) noexcept nogil:
    cdef i128 value = 0
    memcpy(&value, words, 16)
    out.exponent = <int>-scale
    out.wide = 0
    while not -<i128>0x7FFFFFFFFFFFFFFF <= value <= <i128>0x7FFFFFFFFFFFFFFF:
        if value % 10 != 0:
            out.wide = 1
            out.mantissa = 0x7FFFFFFFFFFFFFFF if value > 0 else -0x7FFFFFFFFFFFFFFF
            return
        value = value // 10
        out.exponent += 1
    out.mantissa = <int64_t>value
    trim_i64(out)


cdef class ColumnReader:
    # Rows of one batch after another into the frames of `writer`; see the .pyi for the Python face.

    def __init__(self, table not None, FeedWriter writer not None, RowRules rules not None, dict constants not None):
        cdef size_t at = 0
        self.table = table
        self.writer = writer
        self.rules = rules
        self.found = CELL_UNREAD
        if bytes_reserve(&self.constant_texts, sum(len(text) + TEXT_SLACK_BYTES for text in constants.values())) < 0:
            raise MemoryError
        for field, text in constants.items():
            memcpy(self.constant_texts.data + at, <const char*><bytes>text, len(text))
            self.constants.text[<int>field] = self.constant_texts.data + at
            self.constants.length[<int>field] = len(text)
            at += len(text) + TEXT_SLACK_BYTES

    def __dealloc__(self):
        cdef int k
        bytes_free(&self.constant_texts)
        for k in range(COLUMNS_MAX):
            bytes_free(&self.columns[k].words)
            bytes_free(&self.columns[k].padded)

    def load(self, object batch, size_t row_count, list columns not None):
        """Take the next batch: ``columns`` as (field, kind, first, validity, values, unit, round, texts) each, with
        addresses of buffers as integers (0: none), and texts as (validity, offsets, data, data_bytes, first, count)
        or None. ``batch`` keeps the buffers alive; they must hold what ``first`` and the counts say."""
        cdef Column* column
        cdef int k
        if len(columns) > COLUMNS_MAX:
            raise ValueError(f"at most {COLUMNS_MAX} columns")
        self.batch = batch
        self.row = self.constants
        memset(&self.values, 0, sizeof(self.values))
        self.row_count = row_count
        self.next_row = 0
        self.found = CELL_UNREAD
        self.column_count = len(columns)
        for k in range(self.column_count):
            field, kind, first, validity, values, unit, decimals, texts = columns[k]
            column = &self.columns[k]
            column.field = field
            column.kind = kind
            column.first = first
            column.validity = <const uint8_t*><uintptr_t>validity
            column.values = <const void*><uintptr_t>values
            column.unit = unit
            column.round_decimals = decimals
            column.block_count = 0
            column.name_kind = name_kind_of(column.field)
            column.number = self.number_of(column.field)
            if texts is not None:
                load_texts(&column.texts, texts)
            if kind == COLUMN_DICTIONARY and self.judge_words(column) < 0:
                raise MemoryError

    # --- cells ---

    cdef Decimal64* number_of(self, int field) noexcept nogil:
        """Where a field's number goes; NULL: it is no number."""
        if field == FIELD_PRICE:
            return &self.values.price
        if field == FIELD_VOLUME:
            return &self.values.volume
        return &self.values.fee if field == FIELD_FEE else NULL

    cdef int judge_words(self, Column* column) noexcept nogil:
        """The texts of a dictionary, each looked at once: 0; -1: no memory."""
        cdef size_t i, count = column.texts.count
        cdef const uint8_t* text = NULL
        cdef size_t length = 0
        cdef Word* word
        column.words.size = 0
        column.padded.size = 0
        # Only what ends within the last bytes of the buffer is copied: a handful of texts, or all of a small one.
        if (bytes_reserve(&column.words, count * sizeof(Word)) < 0
                or bytes_reserve(&column.padded, (TEXT_SLACK_BYTES + 2) * CELL_BYTES) < 0):
            return -1
        for i in range(count):
            word = <Word*>column.words.data + i
            word.id = 0
            word.status = <uint8_t>find_text(&column.texts, i, &text, &length)
            word.text = text
            word.length = <uint32_t>length
            if word.status == CELL_OK and length and text + length + TEXT_SLACK_BYTES > column.texts.data + column.texts.data_bytes:
                if length > CELL_BYTES - TEXT_SLACK_BYTES:
                    length = CELL_BYTES - TEXT_SLACK_BYTES
                if column.padded.size + CELL_BYTES > column.padded.capacity:
                    # Overlapping texts of a strange file: refused rather than copied without bound.
                    word.status = CELL_DAMAGED
                    continue
                word.text = column.padded.data + column.padded.size
                word.length = <uint32_t>length
                memcpy(column.padded.data + column.padded.size, text, length)
                column.padded.size += CELL_BYTES
        return 0

    cdef int put_text(self, Column* column, size_t i) noexcept nogil:
        """Text i of a column into the row, readable for TEXT_SLACK_BYTES behind its end."""
        cdef const uint8_t* text = NULL
        cdef size_t length = 0
        cdef int field = column.field
        cdef int status = find_text(&column.texts, i, &text, &length)
        if status == CELL_OK and text + length + TEXT_SLACK_BYTES > column.texts.data + column.texts.data_bytes:
            # A longer one is refused by its length and its first bytes: no text may have more than 64.
            if length > CELL_BYTES - TEXT_SLACK_BYTES:
                length = CELL_BYTES - TEXT_SLACK_BYTES
            memcpy(self.cells[field], text, length)
            text = self.cells[field]
        self.row.text[field] = text
        self.row.length[field] = length
        return status

    cdef int put_word(self, Column* column, int32_t index) noexcept nogil:
        cdef Word* word
        if index < 0 or <size_t>index >= column.texts.count:
            return CELL_DAMAGED
        word = <Word*>column.words.data + index
        self.row.text[column.field] = word.text
        self.row.length[column.field] = word.length
        if column.name_kind >= 0:
            self.values.name_ids[column.name_kind] = &word.id
        return word.status

    cdef int put_time(self, int64_t value, int64_t unit) noexcept nogil:
        cdef i128 total = <i128>value * <i128>unit
        self.values.given |= 1 << FIELD_EXECUTED_AT
        self.values.time_reason = REASON_NONE
        if total > <i128>0x7FFFFFFFFFFFFFFF or total < -<i128>0x7FFFFFFFFFFFFFFF:
            self.values.time_reason = REASON_OVERFLOW
        self.values.executed_at = <int64_t>total
        return CELL_OK

    cdef int put_integer(self, Column* column, int64_t value) noexcept nogil:
        cdef Decimal64* number = column.number
        cdef uint8_t* cell
        cdef size_t n = 0
        if number != NULL:
            number.mantissa = value
            number.exponent = 0
            number.wide = 0
            trim_i64(number)
            self.values.given |= 1 << column.field
            return CELL_OK
        if column.field == FIELD_EXECUTED_AT and value >= 0 and self.rules.time_unit_ns == 0:
            self.values.given |= 1 << FIELD_EXECUTED_AT
            self.values.time_reason = <uint8_t>scale_time(<uint64_t>value, &self.values.executed_at)
            return CELL_OK
        cell = self.cells[column.field]
        if value < 0:
            cell[0] = 45
            n = 1
        n += write_number(0 - <uint64_t>value if value < 0 else <uint64_t>value, cell + n)
        self.row.text[column.field] = cell
        self.row.length[column.field] = n
        return CELL_OK

    cdef int put_float(self, Column* column, double value) noexcept nogil:
        cdef Decimal64* number = column.number
        cdef int decimals
        cdef double scaled
        if not isfinite(value):
            # "nan" and "inf" are no numbers, and the row is refused in those words.
            memcpy(self.cells[column.field], "nan" if value != value else "inf", 3)
            self.row.text[column.field] = self.cells[column.field]
            self.row.length[column.field] = 3
            return CELL_OK
        self.values.given |= 1 << column.field
        if column.round_decimals >= 0:
            scaled = rint(value * rw_powers[column.round_decimals])
            if -9e15 < scaled < 9e15:
                number.mantissa = <int64_t>scaled
                number.exponent = -column.round_decimals
                number.wide = 0
                trim_i64(number)
                return CELL_OK
        if short_form(value, column.decimals_hint, number):
            return CELL_OK
        for decimals in range(16):
            if short_form(value, decimals, number):
                column.decimals_hint = <uint8_t>decimals
                return CELL_OK
        if long_form(value, number) != DECIMAL_OK:
            return CELL_UNDECODABLE
        return CELL_OK

    cdef int put_block_number(self, Column* column, size_t i) noexcept nogil:
        """A number of the batch: most of a column share a form, and are read a block at a time."""
        cdef Decimal64* number
        cdef size_t left
        if i - column.block_at >= column.block_count:
            left = column.first + self.row_count - i
            read_block(column, i, BLOCK_ROWS if left > BLOCK_ROWS else left)
        number = &column.block[i - column.block_at]
        if not number.wide:
            column.number[0] = number[0]
            self.values.given |= 1 << column.field
            return CELL_OK
        if column.kind == COLUMN_FLOAT:
            return self.put_float(column, (<const double*>column.values)[i])
        decimal_of_i128(<const uint64_t*>column.values + 2 * i, column.unit, column.number)
        self.values.given |= 1 << column.field
        return CELL_OK

    cdef int read_cell(self, Column* column, size_t i) noexcept nogil:
        """One cell into the row or the values; a null is left out."""
        cdef int kind = column.kind
        if kind == COLUMN_TEXT:
            return self.put_text(column, i)
        i += column.first
        if not is_set(column.validity, i):
            self.row.text[column.field] = NULL
            self.row.length[column.field] = 0
            if column.name_kind >= 0:
                self.values.name_ids[column.name_kind] = NULL
            return CELL_OK
        if kind == COLUMN_DICTIONARY:
            return self.put_word(column, (<const int32_t*>column.values)[i])
        elif kind == COLUMN_INTEGER:
            return self.put_integer(column, (<const int64_t*>column.values)[i])
        elif kind == COLUMN_TIME:
            return self.put_time((<const int64_t*>column.values)[i], column.unit)
        elif kind == COLUMN_FLOAT and column.round_decimals >= 0:
            return self.put_float(column, (<const double*>column.values)[i])
        return self.put_block_number(column, i)

    cdef int read_row(self) noexcept nogil:
        """The cells of the next row: CELL_OK, or what is wrong with one of them."""
        cdef int k, status = CELL_OK, found
        self.values.given = 0
        for k in range(self.column_count):
            found = self.read_cell(&self.columns[k], self.next_row)
            if found != CELL_OK:
                status = found
        return status

    # --- rows ---

    cdef bint row_time(self, int status, int64_t* out) noexcept nogil:
        if status != CELL_OK:
            return False
        if self.values.given & (1 << FIELD_EXECUTED_AT):
            out[0] = self.values.executed_at
            return self.values.time_reason == REASON_NONE
        return self.writer.row_time(self.rules, &self.row, out)

    cdef int add_row(self, int status) noexcept nogil:
        """The record of the row that was read, or its refusal; as FeedWriter.add_row."""
        if status == CELL_UNDECODABLE:
            return self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0, "not UTF-8: expected text in UTF-8")
        if status == CELL_DAMAGED:
            return self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0,
                                      "a cell points outside its column's texts: the file is damaged")
        return self.writer.add_values(self.rules, &self.row, &self.values, self.records_read)

    cdef int next_cells(self) noexcept nogil:
        """read_row, once for a row."""
        if self.found == CELL_UNREAD:
            self.found = self.read_row()
        return self.found

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        if self.next_row == self.row_count:
            if not self.ended:
                return HEAD_MORE
            return HEAD_END if self.told else HEAD_UNTIMED
        return HEAD_TIMED if self.row_time(self.next_cells(), time_ns) else HEAD_UNTIMED

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        cdef int status, added
        cdef int64_t time_ns = 0
        cdef const Record* last
        while has_room(self.writer.builder, records_max):
            if self.next_row == self.row_count:
                return READ_END if self.ended else READ_MORE
            status = self.next_cells()
            if limited and self.row_time(status, &time_ns) and time_ns > limit_ns:
                return READ_DONE
            self.records_read += 1
            self.next_row += 1
            self.found = CELL_UNREAD
            added = self.add_row(status)
            if added == ROW_SKIPPED:
                continue
            if added < 0:
                return READ_NO_MEMORY
            last = <const Record*>self.writer.builder.records.data + (self.writer.builder.count - 1)
            if last.type == EVENT_REJECTED:
                self.refused = True
                return READ_MORE
            if put_origin(self.writer.builder, self.records_read, 0, 0) < 0:
                return READ_NO_MEMORY
        return READ_DONE

    cdef int advance(self) except -1:
        """Give the refusal added last its origin, or take the next batch."""
        cdef bytes raw
        if self.refused:
            raw = self.table.row_text(self.next_row - 1)
            if self.writer.builder.add_origin(self.records_read, <const char*>raw, len(raw)) < 0:
                raise MemoryError
            self.refused = False
        elif not self.table.next_batch():
            self.ended = True
            self.told = self.table.damage is None
        return 0

    cdef int end(self) except -1:
        if self.told:
            return 0
        self.told = True
        self.records_read += 1
        self.writer.add_rejected(REASON_UNDECODABLE, self.table.damage)
        if self.writer.builder.add_origin(self.records_read, NULL, 0) < 0:
            raise MemoryError
        return 0


cdef int name_kind_of(int field) noexcept nogil:
    """NameKind of a field; -1: it is no name."""
    if field == FIELD_SYMBOL:
        return NAME_SYMBOL
    if field == FIELD_ACCOUNT:
        return NAME_ACCOUNT
    if field == FIELD_VENUE:
        return NAME_VENUE
    return NAME_STRATEGY if field == FIELD_STRATEGY else -1


cdef int load_texts(TextBuffer* texts, tuple given) except -1:
    validity, offsets, data, data_bytes, first, count = given
    texts.validity = <const uint8_t*><uintptr_t>validity
    texts.offsets = <const int32_t*><uintptr_t>offsets
    texts.data = <const uint8_t*><uintptr_t>data
    texts.data_bytes = data_bytes
    texts.first = first
    texts.count = count
    find_ascii(texts)
    return 0
