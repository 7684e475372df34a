"""CSV bytes to rows to records: RFC 4180, one pass, no Python object per row.

The window holds a chunk of the source. One vectorised pass notes where its commas, line ends and quotes are; rows are
then cut from those marks. Every row, good or bad, leaves one record with its origin: the physical line it starts on
and its bytes without the line end. Files are read, not mapped: one that shrinks while it is read would kill the
process with SIGBUS, and pages of a mapping count as the process's memory.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from ext.bytewindow cimport ByteWindow
from ext.feedwriter cimport (
    FIELD_EXECUTED_AT, FIELD_GUARD, FIELD_IGNORED, FIELDS, FRAME_BYTES_ENOUGH, ROW_SKIPPED, TEXT_SLACK_BYTES, FeedWriter,
    Row, RowRules, has_room,
)
from ext.recordreader cimport (
    HEAD_END, HEAD_MORE, HEAD_NO_MEMORY, HEAD_TIMED, HEAD_UNTIMED, READ_DONE, READ_END, READ_MORE, READ_NO_MEMORY,
    WindowReader,
)
from ext.records cimport REASON_NONE, REASON_UNDECODABLE, Bytes, bytes_append, bytes_free, bytes_reserve, put_origin
from ext.utf8 cimport is_utf8

cdef extern from "csvmarks.h":
    enum: RW_CSV_MARKS_SLACK
    bint rw_csv_take_scan(int way) noexcept nogil
    size_t rw_csv_marks(const uint8_t* data, size_t start, size_t to, uint8_t delimiter, uint32_t* out,
                        bint* non_ascii) noexcept nogil

# How marks are found, the slowest first.
SCANS = ("words", "sse2", "avx2", "avx512")


def use_scan(str name not None):
    """Find marks in this way of SCANS from now on, in all readers; False where the processor has it not."""
    return bool(rw_csv_take_scan(SCANS.index(name)))


# The last that the processor has: the fastest.
for _name in SCANS:
    use_scan(_name)

cdef enum:
    NEWLINE = 10
    RETURN = 13
    QUOTE = 34


cdef class CsvReader(WindowReader):
    # Rows of one CSV source into the frames of `writer`; see the .pyi for the Python face.

    def __init__(self, input not None, FeedWriter writer not None, *, str delimiter=","):
        if len(delimiter.encode()) != 1 or delimiter in '"\n\r':
            raise ValueError(f"a delimiter is one ASCII character, no quote and no line end: {delimiter!r}")
        self.window = ByteWindow(input)
        self.writer = writer
        self.found = ROW_MORE
        self.delimiter = ord(delimiter)
        self.line = 1
        while self.window.bytes.size < 3 and self.refill():
            pass
        if self.window.bytes.size >= 3 and memcmp(self.window.bytes.data, <const char*>b"\xef\xbb\xbf", 3) == 0:
            self.window.position = 3

    def __dealloc__(self):
        bytes_free(&self.constants)
        bytes_free(&self.unescaped)
        bytes_free(&self.targets)
        bytes_free(&self.copies)
        bytes_free(&self.marks)

    # --- reading ---

    cdef size_t refill(self) except? 0:
        """Read on, end a last line that has no end, and find the marks of what is new; the bytes read, 0 at the end."""
        cdef ByteWindow window = self.window
        cdef size_t rest = window.bytes.size - window.position
        cdef size_t got = 0, more
        if window.at_end:
            return 0
        if window.position:
            self.marks.size = 0
            self.mark = 0
            self.marked_to = 0
            self.non_ascii = False
        # A long row grows the window in steps of its own size: it is cut anew after each, and that stays linear.
        while True:
            more = window.refill()
            got += more
            if more == 0 or got >= rest or window.drained:
                break
        if (window.at_end and window.damage is None and window.bytes.size
                and window.bytes.data[window.bytes.size - 1] != NEWLINE):
            # In the slack, of which enough is left.
            window.bytes.data[window.bytes.size] = NEWLINE
            window.bytes.size += 1
        if self.index_window() < 0:
            raise MemoryError
        return got

    cdef int index_window(self) noexcept nogil:
        cdef size_t fresh = self.window.bytes.size - self.marked_to
        if fresh == 0:
            return 0
        if bytes_reserve(&self.marks, (fresh + RW_CSV_MARKS_SLACK) * sizeof(uint32_t)) < 0:
            return -1
        self.marks.size += sizeof(uint32_t) * rw_csv_marks(
            self.window.bytes.data, self.marked_to, self.window.bytes.size, self.delimiter,
            <uint32_t*>(self.marks.data + self.marks.size), &self.non_ascii)
        self.marked_to = self.window.bytes.size
        return 0

    # --- rows ---

    cdef inline bint split_plain(self) noexcept nogil:
        """split_row for a row without quotes, with the fields and the length it should have; False: it is none."""
        cdef const uint32_t* marks = <const uint32_t*>self.marks.data + self.mark
        cdef const uint8_t* data = self.window.bytes.data
        cdef const uint8_t* targets = self.targets.data
        cdef size_t left = self.marks.size // sizeof(uint32_t) - self.mark
        cdef uint32_t column, last = self.columns - 1
        cdef size_t start = self.window.position, at
        cdef uint8_t target, other = 0, delimiter = self.delimiter
        cdef Row* row = &self.row
        if self.columns == 0 or self.columns > left or data[marks[last]] != NEWLINE:
            return False
        for column in range(last):
            at = marks[column]
            other |= data[at] ^ delimiter
            target = targets[column]
            row.text[target] = data + start
            row.length[target] = at - start
            start = at + 1
        if other:
            return False
        self.end_row(marks[last], start, last, self.mark + self.columns)
        return self.split.end - self.window.position - 1 < ROW_BYTES_MAX

    cdef inline void end_row(self, size_t at, size_t start, uint32_t column, size_t next_mark) noexcept nogil:
        """Cut the last field, which starts at `start`, and the row, at the line end `at`."""
        cdef uint8_t target = (<const uint8_t*>self.targets.data)[column] if column < self.columns else FIELD_IGNORED
        self.split.next = at + 1
        self.split.next_mark = next_mark
        self.split.lines = 1
        self.split.columns = column + 1
        if at > start and self.window.bytes.data[at - 1] == RETURN:
            at -= 1
        self.split.end = at
        self.row.text[target] = self.window.bytes.data + start
        self.row.length[target] = at - start

    cdef int split_row(self) noexcept nogil:
        """Cut the row at the cursor into `row` and `split`, without taking it."""
        cdef const uint32_t* marks = <const uint32_t*>self.marks.data
        cdef size_t count = self.marks.size // sizeof(uint32_t)
        cdef size_t k = self.mark, start = self.window.position, at
        cdef uint32_t column = 0
        cdef const uint8_t* data = self.window.bytes.data
        cdef const uint8_t* targets = self.targets.data
        cdef uint8_t target, c
        while k < count:
            at = marks[k]
            k += 1
            c = data[at]
            if c == QUOTE:
                return self.split_quoted()
            if c == NEWLINE:
                break
            target = targets[column] if column < self.columns else FIELD_IGNORED
            self.row.text[target] = data + start
            self.row.length[target] = at - start
            column += 1
            start = at + 1
        else:
            return ROW_MORE
        self.end_row(at, start, column, k)
        if self.split.end == self.window.position:
            return ROW_BLANK
        return ROW_OK if self.split.columns == self.columns else ROW_COUNT

    cdef int split_quoted(self) noexcept nogil:
        """split_row for rows with quotes: fields that start with one end at the next that is not doubled."""
        cdef const uint32_t* marks = <const uint32_t*>self.marks.data
        cdef size_t count = self.marks.size // sizeof(uint32_t)
        cdef size_t k = self.mark, start = self.window.position, at = 0, end
        cdef size_t close = 0                       # offset behind the closing quote; 0: the field is not quoted
        cdef size_t first_line = 0, first_mark = 0  # the first line end, where a broken row is cut
        cdef bint open = False, doubled = False, broken = False, whole = False
        cdef uint32_t column = 0
        cdef const uint8_t* data = self.window.bytes.data
        cdef uint8_t target, c
        self.split.lines = 1
        self.unescaped.size = 0
        # Unescaped fields are shorter than the row, so that one reservation keeps their addresses.
        while k < count:
            at = marks[k]
            k += 1
            c = data[at]
            if c == NEWLINE and first_mark == 0:
                first_line = at
                first_mark = k
            if broken:
                if c == NEWLINE:
                    break
                continue
            if open:
                if c == NEWLINE:
                    self.split.lines += 1
                if c != QUOTE:
                    continue
                if at + 1 == self.window.bytes.size and not self.window.at_end:
                    return ROW_MORE
                if at + 1 < self.window.bytes.size and data[at + 1] == QUOTE:
                    doubled = True
                    k += 1
                else:
                    open = False
                    close = at + 1
                continue
            if c == QUOTE:
                if at == start and close == 0:
                    open = True
                else:
                    broken = True
                    if first_mark:
                        break
                continue
            end = at
            if c == NEWLINE and end > start and data[end - 1] == RETURN and (close == 0 or end == close + 1):
                end -= 1
            if close and end != close:
                broken = True
                if first_mark:
                    break
                continue
            target = (<const uint8_t*>self.targets.data)[column] if column < self.columns else FIELD_IGNORED
            if close == 0:
                self.row.text[target] = data + start
                self.row.length[target] = end - start
            elif not doubled:
                self.row.text[target] = data + start + 1
                self.row.length[target] = close - start - 2
            elif not unescape(&self.unescaped, data + start + 1, close - start - 2,
                              self.window.bytes.size, &self.row.text[target], &self.row.length[target]):
                return ROW_NO_MEMORY
            column += 1
            start = at + 1
            close = 0
            doubled = False
            if c == NEWLINE:
                whole = True
                break
        if not whole:
            return self.cut_broken(broken, first_line, first_mark)
        self.split.end = end
        self.split.next = at + 1
        self.split.next_mark = k
        self.split.columns = column
        return ROW_OK if column == self.columns else ROW_COUNT

    cdef int cut_broken(self, bint broken, size_t first_line, size_t first_mark) noexcept nogil:
        """End a row whose quoting is broken, or whose quote never closes, with its first physical line."""
        if not broken and not self.window.at_end and self.window.bytes.size - self.window.position <= ROW_BYTES_MAX:
            return ROW_MORE
        if first_mark == 0:
            return ROW_MORE
        self.split.lines = 1
        self.split.next = first_line + 1
        self.split.next_mark = first_mark
        self.split.end = first_line
        if first_line > self.window.position and self.window.bytes.data[first_line - 1] == RETURN:
            self.split.end -= 1
        return ROW_QUOTING

    cdef inline void consume(self) noexcept nogil:
        self.window.position = self.split.next
        self.mark = self.split.next_mark
        self.line += self.split.lines

    cdef inline int find_row(self) noexcept nogil:
        """The status of the next record, behind blank lines and the rest of a row that was too long."""
        cdef int status
        if not self.skipping and self.split_plain():
            return ROW_OK
        while True:
            if self.skipping:
                if not self.skip_line():
                    return ROW_END if self.window.at_end else ROW_MORE
            status = self.split_row()
            if status == ROW_BLANK:
                self.consume()
                continue
            if status == ROW_MORE:
                if self.window.at_end:
                    return ROW_END
                return ROW_LONG if self.window.bytes.size - self.window.position > ROW_BYTES_MAX else ROW_MORE
            if status == ROW_NO_MEMORY:
                return status
            return ROW_LONG if self.split.end - self.window.position > ROW_BYTES_MAX else status

    cdef bint skip_line(self) noexcept nogil:
        """Drop the rest of a row that was too long; False: it goes on behind the window."""
        cdef const uint32_t* marks = <const uint32_t*>self.marks.data
        cdef size_t count = self.marks.size // sizeof(uint32_t)
        while self.mark < count:
            self.mark += 1
            if self.window.bytes.data[marks[self.mark - 1]] == NEWLINE:
                self.window.position = marks[self.mark - 1] + 1
                self.raw_from = self.window.position
                self.skipping = False
                self.line += 1
                return True
        self.window.position = self.window.bytes.size
        self.raw_from = self.window.position
        return False

    cdef int next_status(self) except -1:
        cdef int status
        while True:
            with nogil:
                status = self.find_row()
            if status == ROW_NO_MEMORY:
                raise MemoryError
            if status != ROW_MORE:
                return status
            self.refill()

    # --- records ---

    cdef int add_origin(self, size_t start, size_t length) noexcept nogil:
        """The origin of the record added last: its bytes follow with the frame's other rows, in one copy."""
        return put_origin(self.writer.builder, self.line, self.raw_base + start - self.raw_from, length)

    cdef void begin_raw(self) noexcept nogil:
        """Rows from here on are copied behind the frame's raw bytes, when `flush_raw` is called."""
        self.raw_from = self.window.position
        self.raw_base = self.writer.builder.raw.size

    cdef int flush_raw(self) noexcept nogil:
        """Copy the rows taken since the last call behind the frame's origins."""
        cdef int status = 0
        if self.window.position > self.raw_from:
            status = bytes_append(&self.writer.builder.raw, self.window.bytes.data + self.raw_from,
                                  self.window.position - self.raw_from)
        self.raw_from = self.window.position
        self.raw_base = self.writer.builder.raw.size
        return status

    cdef inline int add_row(self, int status) noexcept nogil:
        """The record of the row at the cursor, or its refusal."""
        cdef size_t start = self.window.position, length = self.split.end - self.window.position
        cdef int failed
        if status == ROW_LONG:
            return self.add_long_row()
        self.records_read += 1
        if status == ROW_QUOTING:
            failed = self.writer.reject(
                REASON_UNDECODABLE, NULL, NULL, 0,
                "broken quoting: a quoted field ends with a quote before a comma or the line end, a quote inside it is doubled")
        elif self.non_ascii and not is_utf8(self.window.bytes.data + start, length):
            failed = self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0, "not UTF-8: expected text in UTF-8")
        elif status == ROW_COUNT:
            failed = self.reject_count()
        else:
            self.copy_fields()
            failed = self.writer.add_values(self.rules, &self.row, &self.values if self.values.given else NULL,
                                            self.records_read)
            if failed == ROW_SKIPPED:
                return self.pass_over()
        if failed < 0 or self.add_origin(start, length) < 0:
            return -1
        self.consume()
        return 0

    cdef int pass_over(self) noexcept nogil:
        """Take the row without a record: what is copied behind the frame ends before it and goes on behind it."""
        if self.flush_raw() < 0:
            return -1
        self.consume()
        self.raw_from = self.window.position
        return 0

    cdef int reject_count(self) noexcept nogil:
        cdef uint8_t text[96]
        cdef size_t n = 0
        n = append_words(text, n, "found ")
        n = append_count(text, n, self.split.columns)
        n = append_words(text, n, " fields, expected ")
        n = append_count(text, n, self.columns)
        text[n] = 0
        return self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0, <const char*>text)

    cdef int add_long_row(self) noexcept nogil:
        """Refuse a row beyond ROW_BYTES_MAX with its first bytes, and skip to the next physical line."""
        self.records_read += 1
        if self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0,
                              "found a row above 16777216 bytes, expected a shorter one (its first 65536 are kept)") < 0:
            return -1
        if self.add_origin(self.window.position, LONG_ROW_RAW_BYTES) < 0:
            return -1
        if bytes_append(&self.writer.builder.raw, self.window.bytes.data + self.raw_from,
                        self.window.position - self.raw_from + LONG_ROW_RAW_BYTES) < 0:
            return -1
        self.skipping = True
        self.raw_from = self.window.position
        self.raw_base = self.writer.builder.raw.size
        return 0

    cdef inline void copy_fields(self) noexcept nogil:
        """Fields that share another field's column."""
        cdef size_t i
        for i in range(self.copies.size // 2):
            self.row.text[self.copies.data[2 * i]] = self.row.text[self.copies.data[2 * i + 1]]
            self.row.length[self.copies.data[2 * i]] = self.row.length[self.copies.data[2 * i + 1]]

    cdef bint judge_time(self, int status) noexcept nogil:
        """Whether the row at the cursor has a time: then it is kept as a value."""
        self.values.given = 0
        if status != ROW_OK:
            return False
        self.copy_fields()
        if not self.writer.row_time(self.rules, &self.row, &self.values.executed_at):
            return False
        self.values.time_reason = REASON_NONE
        self.values.given = 1 << FIELD_EXECUTED_AT
        return True

    cdef int fill_rows(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        """Rows into records until the frame is full (ROW_OK), the window is empty or a time is beyond the limit."""
        cdef int status
        self.values.given = 0
        while (has_room(self.writer.builder, records_max)
               and self.raw_base + self.window.position - self.raw_from < FRAME_BYTES_ENOUGH):
            status = self.find_row() if self.found == ROW_MORE else self.found
            if status >= ROW_MORE:
                return status
            if limited and self.judge_time(status) and self.values.executed_at > limit_ns:
                self.found = status
                return ROW_OK
            self.found = ROW_MORE
            if self.add_row(status) < 0:
                return ROW_NO_MEMORY
        return ROW_OK

    # --- the reader ---

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        cdef int status = self.find_row() if self.found == ROW_MORE else self.found
        if status == ROW_MORE:
            return HEAD_MORE
        if status == ROW_NO_MEMORY:
            return HEAD_NO_MEMORY
        if status == ROW_END:
            return HEAD_UNTIMED if self.window.damage is not None and not self.told else HEAD_END
        self.found = status
        if not self.judge_time(status):
            return HEAD_UNTIMED
        time_ns[0] = self.values.executed_at
        return HEAD_TIMED

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        cdef int status
        self.begin_raw()
        status = self.fill_rows(records_max, limited, limit_ns)
        if status == ROW_NO_MEMORY or self.flush_raw() < 0:
            return READ_NO_MEMORY
        if status == ROW_OK:
            return READ_DONE
        return READ_END if status == ROW_END else READ_MORE

    cdef int advance(self) except -1:
        self.refill()
        return 0

    cdef int end(self) except -1:
        """The last dead letter of a file that broke off: where, why, and the row it cut."""
        cdef size_t length = self.window.bytes.size - self.window.position
        if self.window.damage is None or self.told:
            return 0
        self.told = True
        self.begin_raw()
        self.records_read += 1
        self.writer.add_rejected(REASON_UNDECODABLE, self.window.damage)
        if self.skipping:
            length = 0
        if self.add_origin(self.window.position, length) < 0:
            raise MemoryError
        self.window.position += length
        if self.flush_raw() < 0:
            raise MemoryError
        return 0

    # --- the Python face ---

    def read_header(self):
        """The fields of the first row, as bytes, and take it; None where the source is empty. Before `configure`.

        Raises ValueError where the row has broken quoting or is too long.
        """
        cdef int status
        cdef size_t length
        cdef bytes raw
        self.columns = 0
        status = self.next_status()
        if status == ROW_END:
            return None
        if status == ROW_QUOTING:
            raise ValueError("broken quoting")
        if status == ROW_LONG:
            raise ValueError("longer than 16777216 bytes")
        length = self.split.end - self.window.position
        raw = PyBytes_FromStringAndSize(<const char*>self.window.bytes.data + self.window.position, length)
        self.consume()
        self.raw_from = self.window.position
        return raw

    @property
    def damage(self):
        """What reading the source raised; None: nothing."""
        return self.window.damage

    @property
    def columns_found(self):
        """Fields of the row that was looked at last."""
        return self.split.columns

    def first_record(self):
        """The bytes of the next data record without its line end, not taken; None where there is none."""
        cdef int status = self.next_status()
        cdef const char* start = <const char*>self.window.bytes.data + self.window.position
        if status == ROW_END:
            return None
        if status == ROW_LONG:
            return PyBytes_FromStringAndSize(start, LONG_ROW_RAW_BYTES)
        return PyBytes_FromStringAndSize(start, self.split.end - self.window.position)

    def configure(self, list targets not None, dict constants not None, list copies not None):
        """Say what each column is.

        ``targets``: a Field number per column of a row (12: ignored). ``constants``: Field number to text (bytes) of
        columns that the source does not have. ``copies``: pairs of a Field and the Field whose column it shares.
        """
        cdef size_t at = 0
        if not 0 < len(targets) <= COLUMNS_MAX:
            raise ValueError(f"1 to {COLUMNS_MAX} columns, not {len(targets)}")
        memset(&self.row, 0, sizeof(self.row))
        self.columns = len(targets)
        for store, values in ((0, targets), (1, [x for pair in copies for x in pair])):
            data = bytes(values)
            if any(value > FIELD_GUARD for value in values):
                raise ValueError(f"fields are 0 to {FIELD_GUARD}: {values}")
            if bytes_append(&self.copies if store else &self.targets, <const char*>data, len(data)) < 0:
                raise MemoryError
        if bytes_reserve(&self.constants, sum(len(text) + TEXT_SLACK_BYTES for text in constants.values())) < 0:
            raise MemoryError
        for field, text in constants.items():
            if not 0 <= field < FIELDS:
                raise ValueError(f"a constant's field is 0 to {FIELDS - 1}: {field}")
            memcpy(self.constants.data + at, <const char*><bytes>text, len(text))
            self.row.text[<int>field] = self.constants.data + at
            self.row.length[<int>field] = len(text)
            at += len(text) + TEXT_SLACK_BYTES

    def begin(self, RowRules rules not None):
        """Take the rules; rows can be read from now on."""
        self.rules = rules


cdef bint unescape(Bytes* store, const uint8_t* text, size_t length, size_t room, const uint8_t** out,
                   size_t* out_length) noexcept nogil:
    """Undouble the quotes of a field; False: no memory. `room` bounds all fields of a row together."""
    cdef size_t i = 0, n = 0
    cdef uint8_t* target
    # Reserved once per row (size 0), for every field of it: earlier fields must stay where they are.
    if store.size == 0 and bytes_reserve(store, room + 64) < 0:
        return False
    target = store.data + store.size
    while i < length:
        target[n] = text[i]
        n += 1
        i += 2 if text[i] == QUOTE else 1
    store.size += n
    out[0] = target
    out_length[0] = n
    return True


cdef size_t append_words(uint8_t* text, size_t n, const char* words) noexcept nogil:
    while words[0]:
        text[n] = words[0]
        n += 1
        words += 1
    return n


cdef size_t append_count(uint8_t* text, size_t n, uint32_t count) noexcept nogil:
    cdef uint8_t digits[10]
    cdef int k = 0
    while True:
        digits[k] = <uint8_t>(48 + count % 10)
        k += 1
        count //= 10
        if count == 0:
            break
    while k:
        k -= 1
        text[n] = digits[k]
        n += 1
    return n
