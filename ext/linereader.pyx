"""Lines to records: the plain ones without a Python object, the others as Python says.

A format's `judge` reads the lines that are beyond doubt. Every other line goes to Python, which decodes it whole and
finds the words for what is wrong with it: so both ways must agree, and tests hold them against each other.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from ext.bytewindow cimport ByteWindow
from ext.feedvalues cimport write_number
from ext.feedwriter cimport (
    FIELD_SIDE, FIELD_TRADE_ID, FeedWriter, Row, RowRules, has_room,
)
from ext.recordreader cimport (
    HEAD_END, HEAD_MORE, HEAD_NO_MEMORY, HEAD_TIMED, HEAD_UNTIMED, READ_DONE, READ_END, READ_MORE, READ_NO_MEMORY,
    WindowReader,
)
from ext.records cimport REASON_UNDECODABLE, bytes_free, bytes_reserve, put_origin

MAX_LINE_BYTES = LINE_BYTES_MAX
LONG_LINE_KEPT_BYTES = LONG_LINE_RAW_BYTES

cdef enum:
    NEWLINE = 10
    RETURN = 13


cdef class LineReader(WindowReader):
    # Lines of one source into the frames of `writer`; see the .pyi for the Python face.

    def __init__(self, source not None, FeedWriter writer not None, slow not None):
        self.window = ByteWindow(source)
        self.writer = writer
        self.slow = slow
        self.line = 1
        self.status = LINE_MORE
        self.raw_frame = <uint64_t>-1
        while self.window.bytes.size < 3 and self.window.refill():
            pass
        if self.window.bytes.size >= 3 and memcmp(self.window.bytes.data, <const char*>b"\xef\xbb\xbf", 3) == 0:
            self.window.position = 3

    def __dealloc__(self):
        bytes_free(&self.rows)

    def begin(self, RowRules rules not None, RowRules sided not None, bytes id_prefix not None):
        """Take the rules of records that say their side, and of those that do not; and what made ids begin with."""
        self.rules = rules
        self.sided = sided
        if len(id_prefix) != 16:
            raise ValueError(f"an id prefix has 16 hex digits, not {id_prefix!r}")
        memcpy(self.id_text, <const char*>id_prefix, 16)
        self.id_text[16] = 35
        self.begun = True

    # --- what a format says ---

    cdef int judge(self, const uint8_t* p, size_t n) noexcept nogil:
        return LINE_SLOW

    cdef int add(self, Row* row) noexcept nogil:
        if row.text[<int>FIELD_TRADE_ID] == NULL:
            row.length[<int>FIELD_TRADE_ID] = self.made_id(&row.text[<int>FIELD_TRADE_ID])
        if row.text[<int>FIELD_SIDE] == NULL:
            return self.writer.add_row(self.sided, row, self.records_read)
        return self.writer.add_row(self.rules, row, self.records_read)

    cdef Row* new_row(self) noexcept nogil:
        cdef Row* row
        if bytes_reserve(&self.rows, sizeof(Row)) < 0:
            return NULL
        row = <Row*>self.rows.data + self.row_count
        memset(row, 0, sizeof(Row))
        self.rows.size += sizeof(Row)
        self.row_count += 1
        return row

    cdef int made_id(self, const uint8_t** text) noexcept nogil:
        text[0] = self.id_text
        return 17 + <int>write_number(self.records_read, self.id_text + 17)

    # --- lines ---

    cdef int find_line(self) noexcept nogil:
        """Find the end of the line at the position: LINE_SLOW (not judged yet), LINE_MORE or LINE_END."""
        cdef size_t start = self.window.position, left = self.window.bytes.size - start
        cdef const uint8_t* data = self.window.bytes.data + start
        cdef const uint8_t* found = NULL
        if left > self.searched:
            found = <const uint8_t*>memchr(data + self.searched, NEWLINE, left - self.searched)
        self.cut = False
        if found != NULL:
            self.length = <size_t>(found - data)
            self.next = start + self.length + 1
        else:
            self.searched = left
            if left > LINE_BYTES_MAX and not self.skipping:
                self.cut = True
                self.length = LONG_LINE_RAW_BYTES
                self.next = start + left
                return LINE_SLOW
            if not self.window.at_end:
                return LINE_MORE
            if left == 0 or self.window.damage is not None:
                return LINE_END
            self.length = left
            self.next = start + left
        if self.length and data[self.length - 1] == RETURN:
            self.length -= 1
        return LINE_SLOW

    cdef int next_line(self) noexcept nogil:
        """The next line that is a record, or Python's to judge; not taken."""
        cdef int status
        if self.status != LINE_MORE:
            return self.status
        while True:
            status = self.find_line()
            if self.skipping and status == LINE_MORE:
                self.window.position = self.window.bytes.size
                self.searched = 0
            if status != LINE_SLOW:
                return status
            if self.skipping:
                self.skipping = False
            elif self.cut:
                break
            elif self.length:
                self.rows.size = 0
                self.row_count = 0
                self.row_at = 0
                status = self.judge(self.window.bytes.data + self.window.position, self.length)
                if status != LINE_OTHER:
                    break
            self.take()
        self.status = status
        self.asked = False
        return status

    cdef void take(self) noexcept nogil:
        """Be done with the line at hand."""
        self.window.position = self.next
        self.searched = 0
        if self.cut:
            self.skipping = True
            self.cut = False
        else:
            self.line += 1
        self.status = LINE_MORE
        self.raw_frame = <uint64_t>-1

    # --- records ---

    cdef int add_row(self) noexcept nogil:
        """The record of the next row of the line at hand, with its origin; -1: no memory."""
        cdef int added
        self.records_read += 1
        added = self.add(<Row*>self.rows.data + self.row_at)
        if added == 0:
            added = self.add_raw()
        self.row_at += 1
        if self.row_at == self.row_count:
            self.take()
        return -1 if added < 0 else 0

    cdef int add_raw(self) noexcept nogil:
        """The origin of the record added last: records of one line share its bytes. -1: no memory."""
        if self.raw_frame == self.writer.frames:
            return put_origin(self.writer.builder, self.line, self.raw_at, self.length)
        self.raw_frame = self.writer.frames
        self.raw_at = self.writer.builder.raw.size
        return self.writer.builder.add_origin(
            self.line, self.window.bytes.data + self.window.position, self.length)

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        cdef int status = self.next_line()
        self.adding = False
        if status == LINE_END:
            return HEAD_UNTIMED if self.window.damage is not None and not self.told else HEAD_END
        if status == LINE_NO_MEMORY:
            return HEAD_NO_MEMORY
        if status == LINE_MORE or not self.begun or (status == LINE_SLOW and not self.asked):
            return HEAD_MORE
        if status == LINE_SLOW:
            time_ns[0] = self.time_ns
            return HEAD_TIMED if self.timed else HEAD_UNTIMED
        if self.writer.row_time(self.rules, <Row*>self.rows.data + self.row_at, time_ns):
            return HEAD_TIMED
        return HEAD_UNTIMED

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        cdef int status
        cdef int64_t time_ns = 0
        while has_room(self.writer.builder, records_max):
            if limited:
                status = self.look(&time_ns)
                if status == HEAD_MORE:
                    return READ_MORE
                if status == HEAD_NO_MEMORY:
                    return READ_NO_MEMORY
                if status == HEAD_TIMED and time_ns > limit_ns and self.row_at == 0 and self.more is None:
                    return READ_DONE
            status = self.next_line()
            if status == LINE_NO_MEMORY:
                return READ_NO_MEMORY
            if status == LINE_END:
                return READ_END
            if status != LINE_ROWS or not self.begun:
                self.adding = True
                return READ_MORE
            if self.add_row() < 0:
                return READ_NO_MEMORY
        return READ_DONE

    cdef bint waits(self) noexcept nogil:
        return self.status == LINE_MORE and self.window.drained and not self.window.at_end

    cdef int advance(self) except -1:
        if self.status == LINE_MORE:
            self.window.refill()
            return 0
        return self.ask()

    cdef int ask(self) except -1:
        """Let Python judge the line at hand: whether it is a record, its time, or its records."""
        cdef bytes raw = PyBytes_FromStringAndSize(
            <const char*>self.window.bytes.data + self.window.position, self.length)
        cdef uint32_t before = self.writer.builder.count
        if self.status == LINE_SLOW and not self.asked and not self.cut and not self.slow.is_record(raw):
            self.take()
            return 0
        if not self.begun:
            self.slow.begin(raw)
            if self.status == LINE_ROWS:
                return 0
        if not self.adding:
            time_ns = None if self.cut else self.slow.time_of(raw)
            self.timed = time_ns is not None
            self.time_ns = time_ns if self.timed else 0
            self.asked = True
            return 0
        if self.more is None:
            self.records_read += 1
            self.more = self.slow.add(raw, self.cut)
            if self.more is None:
                if self.writer.builder.count > before and self.add_raw() < 0:
                    raise MemoryError
                self.take()
                return 0
            self.records_read -= 1
        if next(self.more, self) is self:
            self.more = None
            self.take()
            return 0
        self.records_read += 1
        if self.writer.builder.count > before and self.add_raw() < 0:
            raise MemoryError
        return 0

    cdef int end(self) except -1:
        """The last dead letter of a file that broke off, with the line that was cut."""
        if self.window.damage is None or self.told:
            return 0
        self.told = True
        self.records_read += 1
        self.writer.add_rejected(REASON_UNDECODABLE, self.window.damage)
        self.length = 0 if self.skipping else self.window.bytes.size - self.window.position
        self.raw_frame = <uint64_t>-1
        if self.add_raw() < 0:
            raise MemoryError
        return 0
