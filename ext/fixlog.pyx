"""FIX messages in a log to records: framed by their own lengths, no Python object per message.

A message starts at ``8=FIX``, whatever a logger put in front of it, and is framed by its BodyLength where that leads to a
CheckSum field; where it does not, by the first CheckSum field before the line's end or the next message. So a data
field may hold delimiters and line ends, and one broken message costs itself and no other.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from ext.bytewindow cimport ByteWindow
from ext.decimals cimport DECIMAL_OK, Decimal64
from ext.feedvalues cimport fix_time, read_decimal, trim_i64, write_number
from ext.feedwriter cimport (
    FIELD_EXEC_TYPE, FIELD_EXECUTED_AT, FIELD_FEE, FIELD_PRICE, FIELD_REF_TRADE_ID, FIELD_SIDE, FIELD_VOLUME, FIELDS,
    ROW_SKIPPED, TEXT_SLACK_BYTES, FeedWriter, Row, RowRules, Values, has_room,
)
from ext.recordreader cimport (
    HEAD_END, HEAD_MORE, HEAD_TIMED, HEAD_UNTIMED, READ_DONE, READ_END, READ_MORE, READ_NO_MEMORY, WindowReader,
)
from ext.records cimport (
    REASON_INVALID, REASON_NONE, REASON_UNDECODABLE, Bytes, bytes_append, bytes_free, bytes_reserve, i128,
)
from ext.utf8 cimport is_utf8

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_length, const void* needle, size_t needle_length)

cdef enum:
    SOH = 1
    PIPE = 124
    NEWLINE = 10
    EQUALS = 61
    BEGIN_BYTES = 5                 # `8=FIX`
    VERSION_BYTES_MAX = 16
    LENGTH_DIGITS_MAX = 7

INTERNAL_TAGS = {35: SLOT_MSG_TYPE, 150: SLOT_EXEC_TYPE, 20: SLOT_EXEC_TRANS, 39: SLOT_ORD_STATUS,
                 52: SLOT_SENDING_TIME, 13: SLOT_COMM_TYPE}
DATA_TAGS = (89, 91, 96, 213, 349, 351, 353, 355, 357, 359, 361, 363, 365, 446, 619, 622, 1185, 1398, 1402)

cdef const char* NEW_TEXT = "new\0                                  "
cdef const char* CORRECT_TEXT = "correct                               "
cdef const char* BUST_TEXT = "bust                                  "
cdef const char* ONE_TEXT = "1                                     "
cdef const char* ZERO_TEXT = "0                                     "
cdef const char* EXPECTED_FIX_TIME = "a FIX time such as 20240102-14:30:00.123"
cdef const char* EXPECTED_COMMISSION = "1 (per unit) or 3 (absolute) as CommType (13)"


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef inline bint is_zero(const uint8_t* p, size_t n) noexcept nogil:
    """Whether a quantity is nothing or all zeros."""
    cdef size_t i
    for i in range(n):
        if p[i] != 48 and p[i] != 46:
            return False
    return True


cdef class FixReader:
    # Messages of one log into the frames of `writer`; see the .pyi for the Python face.

    def __init__(self, source not None, FeedWriter writer not None, dict tags not None, dict constants not None,
                 bint lenient):
        cdef size_t at = 0
        cdef uint8_t pair[2]
        self.window = ByteWindow(source)
        self.writer = writer
        self.lenient = lenient
        self.line = 1
        self.slots = <uint8_t*>malloc(TAGS)
        if self.slots == NULL:
            raise MemoryError
        memset(self.slots, SLOT_NONE, TAGS)
        for tag, slot in INTERNAL_TAGS.items():
            self.slots[<int>tag] = slot
        for tag in DATA_TAGS:
            self.slots[<int>tag] = SLOT_DATA
        for field, tag in tags.items():
            if not (0 <= field < FIELDS and 0 < tag < TAGS):
                raise ValueError(f"field {field}: a tag from 1 to {TAGS - 1}, not {tag}")
            if self.slots[<int>tag] == SLOT_NONE:
                self.slots[<int>tag] = field
                continue
            pair[0] = field
            pair[1] = self.slots[<int>tag]
            if bytes_append(&self.copies, pair, 2) < 0:
                raise MemoryError
        if bytes_reserve(&self.constant_texts, sum(len(text) + TEXT_SLACK_BYTES for text in constants.values())) < 0:
            raise MemoryError
        for field, text in constants.items():
            memcpy(self.constant_texts.data + at, <const char*><bytes>text, len(text))
            self.constants.text[<int>field] = self.constant_texts.data + at
            self.constants.length[<int>field] = len(text)
            at += len(text) + TEXT_SLACK_BYTES

    def __dealloc__(self):
        free(self.slots)
        bytes_free(&self.copies)
        bytes_free(&self.constant_texts)

    # --- framing ---

    cdef void count_lines(self, size_t to) noexcept nogil:
        """Count the line ends up to an offset of the window."""
        cdef const uint8_t* data = self.window.bytes.data
        cdef const uint8_t* found
        while self.counted_to < to:
            found = <const uint8_t*>memchr(data + self.counted_to, NEWLINE, to - self.counted_to)
            if found == NULL:
                break
            self.line += 1
            self.counted_to = <size_t>(found - data) + 1
        self.counted_to = to

    cdef int find_message(self) noexcept nogil:
        """Frame the next message into `message`: FIX_OTHER, FIX_MORE or FIX_END."""
        cdef const uint8_t* data
        cdef const uint8_t* found
        cdef size_t size = self.window.bytes.size
        cdef size_t at
        data = self.window.bytes.data
        while True:
            found = <const uint8_t*>memmem(data + self.window.position, size - self.window.position, <const char*>b"8=FIX",
                                           BEGIN_BYTES)
            if found == NULL:
                # All but what may be the beginning of a mark is log text.
                at = size
                if not self.window.at_end:
                    at = size - (BEGIN_BYTES - 1) if size >= BEGIN_BYTES else 0
                if at > self.window.position:
                    self.window.position = at
                self.count_lines(self.window.position)
                return FIX_END if self.window.at_end else FIX_MORE
            at = <size_t>(found - data)
            self.window.position = at
            self.count_lines(at)
            self.message.start = at
            if is_digit(data[at - 1] if at else self.before):
                self.window.position = at + BEGIN_BYTES
                continue
            at += BEGIN_BYTES
            while at < size and at - self.message.start < VERSION_BYTES_MAX and (is_digit(data[at]) or data[at] == 46 or data[at] == 84):
                at += 1
            if at + LENGTH_DIGITS_MAX + 4 > size and not self.window.at_end:
                return FIX_MORE
            if at >= size or (data[at] != SOH and data[at] != PIPE):
                self.window.position = self.message.start + BEGIN_BYTES
                continue
            self.message.delimiter = data[at]
            return self.frame_by_length(at + 1)

    cdef int frame_by_length(self, size_t at) noexcept nogil:
        """Frame the message whose second field is at ``at`` by its BodyLength, if that leads to a CheckSum field."""
        cdef const uint8_t* data = self.window.bytes.data
        cdef size_t size = self.window.bytes.size, want
        cdef Message* m = &self.message
        cdef int digits = 0
        m.length_right = False
        m.whole = False
        m.stated = 0
        m.fields = at
        if data[at] == 57 and data[at + 1] == EQUALS:
            at += 2
            while is_digit(data[at]) and digits < LENGTH_DIGITS_MAX:
                m.stated = m.stated * 10 + (data[at] - 48)
                at += 1
                digits += 1
            if digits and data[at] == m.delimiter:
                m.fields = at + 1
                want = m.fields + m.stated
                if m.stated > MESSAGE_BYTES_MAX:
                    return self.frame_by_marks()
                if want + 7 > size and not self.window.at_end:
                    return FIX_MORE
                if (want + 6 <= size and m.stated and data[want - 1] == m.delimiter and memcmp(data + want, <const char*>b"10=", 3) == 0
                        and is_digit(data[want + 3]) and is_digit(data[want + 4]) and is_digit(data[want + 5])):
                    m.length_right = True
                    m.whole = True
                    m.checksum = want
                    m.end = want + 6
                    if m.end < size and data[m.end] == m.delimiter:
                        m.end += 1
                    return FIX_OTHER
        return self.frame_by_marks()

    cdef int frame_by_marks(self) noexcept nogil:
        """Frame the message by its CheckSum field, which must come before the line's end and the next message."""
        cdef const uint8_t* data = self.window.bytes.data
        cdef size_t size = self.window.bytes.size, stop, from_at, most
        cdef const uint8_t* found
        cdef uint8_t mark[4]
        cdef Message* m = &self.message
        most = m.start + MESSAGE_BYTES_MAX
        if most > size:
            most = size
        # The next message first: it is near, and bounds the look for a line's end.
        stop = most
        from_at = m.start + BEGIN_BYTES
        while from_at < most:
            found = <const uint8_t*>memmem(data + from_at, most - from_at, <const char*>b"8=FIX", BEGIN_BYTES)
            if found == NULL:
                break
            from_at = <size_t>(found - data) + BEGIN_BYTES
            if not is_digit((found - 1)[0]):
                stop = <size_t>(found - data)
                break
        found = <const uint8_t*>memchr(data + m.start, NEWLINE, stop - m.start)
        if found != NULL:
            stop = <size_t>(found - data)
        elif stop == size and size - m.start < MESSAGE_BYTES_MAX and not self.window.at_end:
            return FIX_MORE
        mark[0] = m.delimiter
        memcpy(mark + 1, <const char*>b"10=", 3)
        found = <const uint8_t*>memmem(data + m.start, stop - m.start, mark, 4)
        m.whole = found != NULL
        if found == NULL:
            m.end = stop
            m.checksum = stop
            while m.end > m.start and (data[m.end - 1] == 13 or data[m.end - 1] == 32):
                m.end -= 1
            return FIX_OTHER
        m.checksum = <size_t>(found - data) + 1
        m.end = m.checksum + 3
        while m.end < stop and is_digit(data[m.end]):
            m.end += 1
        if m.end < stop and data[m.end] == m.delimiter:
            m.end += 1
        return FIX_OTHER

    cdef bint checksum_right(self) noexcept nogil:
        """Whether CheckSum is the sum of all bytes before it, where a log's `|` stands for SOH."""
        cdef const uint8_t* data = self.window.bytes.data
        cdef const uint8_t* digits = data + self.message.checksum + 3
        cdef uint32_t total = 0, pipes = 0
        cdef size_t i
        if not (is_digit(digits[0]) and is_digit(digits[1]) and is_digit(digits[2])) or is_digit(digits[3]):
            return False
        for i in range(self.message.start, self.message.checksum):
            total += data[i]
        if self.message.delimiter == PIPE:
            for i in range(self.message.start, self.message.checksum):
                pipes += data[i] == PIPE
            total -= pipes * (PIPE - SOH)
        return total & 255 == <uint32_t>(digits[0] - 48) * 100 + (digits[1] - 48) * 10 + (digits[2] - 48)

    cdef bint may_be_report(self) noexcept nogil:
        """Whether a message that cannot be read may be an ExecutionReport: it says so, or says nothing."""
        cdef const uint8_t* data = self.window.bytes.data + self.message.start
        cdef size_t length = self.message.end - self.message.start
        cdef uint8_t mark[6]
        mark[0] = self.message.delimiter
        memcpy(mark + 1, <const char*>b"35=8", 4)
        mark[5] = self.message.delimiter
        return memmem(data, length, mark, 6) != NULL or memmem(data, length, mark, 4) == NULL

    # --- messages ---

    cdef int broken(self, const char* why) noexcept nogil:
        cdef size_t n
        if not self.may_be_report():
            return FIX_OTHER
        n = strlen(why)
        memcpy(self.why, why, n + 1)
        return FIX_BROKEN

    cdef int read_message(self) noexcept nogil:
        """Judge the framed message: FIX_FILL, FIX_BROKEN or FIX_OTHER."""
        cdef size_t n
        if self.message.end - self.message.start >= MESSAGE_BYTES_MAX:
            return self.broken("found no end within 1048576 bytes, expected a FIX message")
        if not self.message.whole:
            return self.broken("the message breaks off: expected a CheckSum field (10=) at its end")
        if not self.lenient:
            if not self.message.length_right:
                if self.broken("BodyLength (9): found ") == FIX_OTHER:
                    return FIX_OTHER
                n = strlen(<const char*>self.why)
                n += write_number(self.message.stated, self.why + n)
                memcpy(self.why + n, <const char*>b", expected ", 11)
                n += 11
                n += write_number(self.message.checksum - self.message.fields, self.why + n)
                memcpy(self.why + n, <const char*>b"; --lenient takes it\0", 21)
                return FIX_BROKEN
            if not self.checksum_right():
                return self.broken("CheckSum (10) is wrong: expected the sum of the message's bytes; --lenient takes it")
        n = self.message.end - self.message.start
        if self.split_fields() < 0:
            return self.broken("found a field that is no TAG=VALUE, expected a FIX message; --lenient takes it")
        if self.lengths[<int>SLOT_MSG_TYPE] != 1 or self.texts[<int>SLOT_MSG_TYPE][0] != 56:
            return FIX_OTHER
        if not is_utf8(self.window.bytes.data + self.message.start, n):
            return self.broken("not UTF-8: expected text in UTF-8")
        return self.judge_report()

    cdef int split_fields(self) noexcept nogil:
        """The values of the tags that count, the first of each; -1: something is no field."""
        cdef const uint8_t* data = self.window.bytes.data
        cdef const uint8_t* p = data + self.message.fields
        cdef const uint8_t* end = data + self.message.checksum
        cdef const uint8_t* value
        cdef const uint8_t* stop
        cdef uint8_t delimiter = self.message.delimiter
        cdef uint32_t tag
        cdef uint64_t number = 0
        cdef uint8_t slot
        memset(self.lengths, 0, sizeof(self.lengths))
        while p < end:
            tag = 0
            value = p
            while is_digit(value[0]) and tag < TAGS:
                tag = tag * 10 + (value[0] - 48)
                value += 1
            if value == p or value[0] != EQUALS or value >= end:
                if not self.lenient:
                    return -1
                stop = <const uint8_t*>memchr(p, delimiter, end - p)
                p = end if stop == NULL else stop + 1
                continue
            value += 1
            slot = self.slots[tag] if tag < TAGS else SLOT_NONE
            stop = NULL
            if slot == SLOT_DATA and number <= <uint64_t>(end - value) and (value + number)[0] == delimiter:
                stop = value + number
            else:
                stop = value
                while stop < end and stop[0] != delimiter:
                    stop += 1
            number = 0
            if slot < SLOTS and slot != SLOT_DATA:
                if self.lengths[slot] == 0:
                    self.texts[slot] = value
                    self.lengths[slot] = <size_t>(stop - value)
            elif slot == SLOT_NONE and stop - value <= LENGTH_DIGITS_MAX:
                # It may be the length of a data field that follows.
                while value < stop and is_digit(value[0]):
                    number = number * 10 + (value[0] - 48)
                    value += 1
            p = stop + 1
        return 0

    cdef int judge_report(self) noexcept nogil:
        """Whether an ExecutionReport is a fill, a correction or a bust, and its texts as a row."""
        cdef uint8_t kind = 0, trans = 48
        cdef bint filled = not is_zero(self.texts[<int>FIELD_VOLUME], self.lengths[<int>FIELD_VOLUME])
        if self.constants.length[<int>FIELD_VOLUME]:
            filled = True
        if self.lengths[<int>SLOT_EXEC_TRANS] == 1:
            trans = self.texts[<int>SLOT_EXEC_TRANS][0]
        if self.lengths[<int>SLOT_EXEC_TYPE] == 1:
            kind = self.texts[<int>SLOT_EXEC_TYPE][0]
        elif self.lengths[<int>SLOT_EXEC_TYPE] == 0 and self.lengths[<int>SLOT_ORD_STATUS] == 1:
            kind = self.texts[<int>SLOT_ORD_STATUS][0]  # FIX 4.0 has no ExecType
        if trans == 51 or kind == 73:                   # 3, I: status
            return FIX_OTHER
        if trans == 49 or kind == 72:                   # 1, H: cancel
            self.make_row(BUST_TEXT)
            if not filled:
                # A bust's price and volume say nothing, and are often left out.
                self.row.text[<int>FIELD_VOLUME] = <const uint8_t*>ONE_TEXT
                self.row.length[<int>FIELD_VOLUME] = 1
                if self.row.length[<int>FIELD_PRICE] == 0:
                    self.row.text[<int>FIELD_PRICE] = <const uint8_t*>ZERO_TEXT
                    self.row.length[<int>FIELD_PRICE] = 1
            return FIX_FILL
        if trans == 50 or kind == 71:                   # 2, G: correct
            self.make_row(CORRECT_TEXT)
            return FIX_FILL
        if kind == 70 or ((kind == 49 or kind == 50) and filled):       # F; 1 and 2 before FIX 4.3
            self.make_row(NEW_TEXT)
            self.row.length[<int>FIELD_REF_TRADE_ID] = 0
            return FIX_FILL
        return FIX_OTHER

    cdef void make_row(self, const char* exec_type) noexcept nogil:
        cdef size_t i
        cdef int field
        self.row = self.constants
        for field in range(<int>FIELDS):
            if self.lengths[field]:
                self.row.text[field] = self.texts[field]
                self.row.length[field] = self.lengths[field]
        for i in range(self.copies.size // 2):
            if self.lengths[self.copies.data[2 * i + 1]]:
                self.row.text[self.copies.data[2 * i]] = self.texts[self.copies.data[2 * i + 1]]
                self.row.length[self.copies.data[2 * i]] = self.lengths[self.copies.data[2 * i + 1]]
        self.row.text[<int>FIELD_EXEC_TYPE] = <const uint8_t*>exec_type
        self.row.length[<int>FIELD_EXEC_TYPE] = 3 if exec_type == NEW_TEXT else 4 if exec_type == BUST_TEXT else 7
        if self.row.length[<int>FIELD_EXECUTED_AT] == 0:
            self.row.text[<int>FIELD_EXECUTED_AT] = self.texts[<int>SLOT_SENDING_TIME]
            self.row.length[<int>FIELD_EXECUTED_AT] = self.lengths[<int>SLOT_SENDING_TIME]
        self.values.given = 0

    cdef int read_times(self) noexcept nogil:
        """The time of the row as a value: a Reason, 0 for none."""
        cdef int reason = fix_time(self.row.text[<int>FIELD_EXECUTED_AT], self.row.length[<int>FIELD_EXECUTED_AT],
                                   &self.values.executed_at)
        self.values.time_reason = <uint8_t>reason
        if reason != REASON_INVALID:
            self.values.given |= 1 << FIELD_EXECUTED_AT
        return reason

    cdef int read_commission(self) noexcept nogil:
        """The fee where Commission is one per unit: 0; REASON_INVALID: it is of a kind that is not read."""
        cdef Decimal64 each, volume
        cdef i128 product
        cdef uint8_t kind
        if self.lengths[<int>SLOT_COMM_TYPE] == 0 or self.lengths[<int>FIELD_FEE] == 0:
            return 0
        kind = self.texts[<int>SLOT_COMM_TYPE][0] if self.lengths[<int>SLOT_COMM_TYPE] == 1 else 0
        if kind == 51:
            return 0
        if is_zero(self.texts[<int>FIELD_FEE], self.lengths[<int>FIELD_FEE]):
            return 0
        if kind != 49:
            return REASON_INVALID
        if (read_decimal(self.row.text[<int>FIELD_FEE], self.row.length[<int>FIELD_FEE], &each) != DECIMAL_OK
                or read_decimal(self.row.text[<int>FIELD_VOLUME], self.row.length[<int>FIELD_VOLUME], &volume) != DECIMAL_OK):
            return 0                                    # said of the field itself
        product = <i128>each.mantissa * <i128>volume.mantissa
        self.values.fee.exponent = each.exponent + volume.exponent
        self.values.fee.wide = each.wide | volume.wide
        if product > <i128>0x7FFFFFFFFFFFFFFF or product < -<i128>0x7FFFFFFFFFFFFFFF:
            self.values.fee.wide = 1
            self.values.fee.mantissa = 0x7FFFFFFFFFFFFFFF if product > 0 else -0x7FFFFFFFFFFFFFFF
        else:
            self.values.fee.mantissa = <int64_t>product
            trim_i64(&self.values.fee)
        self.values.given |= 1 << FIELD_FEE
        return 0

    # --- records ---

    cdef int next_record(self) noexcept nogil:
        """The next message that is a record, read and not taken: FIX_FILL, FIX_BROKEN, FIX_MORE or FIX_END."""
        if self.pending:
            return self.status
        while True:
            self.status = self.find_message()
            if self.status != FIX_OTHER:
                return self.status
            self.status = self.read_message()
            if self.status != FIX_OTHER:
                self.pending = True
                return self.status
            self.take()

    cdef void take(self) noexcept nogil:
        self.window.position = self.message.end
        self.count_lines(self.message.end)
        self.pending = False

    cdef int add_record(self) noexcept nogil:
        """The record of the message at hand, or its refusal, with its origin; -1: no memory."""
        cdef int added
        cdef const uint8_t* raw = self.window.bytes.data + self.message.start
        self.records_read += 1
        if self.status == FIX_BROKEN:
            added = self.writer.reject(REASON_UNDECODABLE, NULL, NULL, 0, <const char*>self.why)
        elif self.read_times() == REASON_INVALID:
            added = self.writer.reject(
                REASON_INVALID, "executed_at",
                self.row.text[<int>FIELD_EXECUTED_AT] if self.row.length[<int>FIELD_EXECUTED_AT] else <const uint8_t*>ZERO_TEXT,
                self.row.length[<int>FIELD_EXECUTED_AT], EXPECTED_FIX_TIME)
        elif self.read_commission() == REASON_INVALID:
            added = self.writer.reject(REASON_INVALID, "fee", self.texts[<int>SLOT_COMM_TYPE],
                                       self.lengths[<int>SLOT_COMM_TYPE], EXPECTED_COMMISSION)
        elif self.row.length[<int>FIELD_SIDE]:
            added = self.writer.add_values(self.rules, &self.row, &self.values, self.records_read)
        else:
            added = self.writer.add_values(self.sided, &self.row, &self.values, self.records_read)
        if added == 0:
            added = self.writer.builder.add_origin(self.line, raw, self.message.end - self.message.start)
        self.take()
        return -1 if added < 0 else 0

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        cdef int status = self.next_record()
        if status == FIX_MORE:
            return HEAD_MORE
        if status == FIX_END:
            return HEAD_UNTIMED if self.window.damage is not None and not self.told else HEAD_END
        if status == FIX_BROKEN or self.read_times() != REASON_NONE:
            return HEAD_UNTIMED
        time_ns[0] = self.values.executed_at
        return HEAD_TIMED

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        cdef int status
        while has_room(self.writer.builder, records_max):
            status = self.next_record()
            if status >= FIX_MORE:
                return READ_MORE if status == FIX_MORE else READ_END
            if limited and status == FIX_FILL and self.read_times() == REASON_NONE and self.values.executed_at > limit_ns:
                return READ_DONE
            if self.add_record() < 0:
                return READ_NO_MEMORY
        return READ_DONE

    cdef int advance(self) except -1:
        """Read on; offsets move with the window."""
        cdef size_t taken = self.window.position
        if taken:
            self.before = self.window.bytes.data[taken - 1]
        self.window.refill()
        self.counted_to -= taken - self.window.position
        return 0

    cdef int end(self) except -1:
        if self.window.damage is None or self.told:
            return 0
        self.told = True
        self.records_read += 1
        self.writer.add_rejected(REASON_UNDECODABLE, self.window.damage)
        if self.writer.builder.add_origin(self.line, NULL, 0) < 0:
            raise MemoryError
        return 0

    cdef int next_status(self) except -1:
        cdef int status
        while True:
            with nogil:
                status = self.next_record()
            if status != FIX_MORE:
                return status
            self.advance()

    def begin(self, RowRules rules not None, RowRules sided not None):
        """Take the rules of messages that say their side, and of those that do not."""
        self.rules = rules
        self.sided = sided

    def has_message(self):
        """Whether there is any FIX message, or damage to be told; log text in front of the first is passed over."""
        cdef int status
        while True:
            with nogil:
                status = self.find_message()
            if status != FIX_MORE:
                return status != FIX_END or self.window.damage is not None
            self.advance()

    def first_record(self):
        """The bytes of the next record, not taken; None where there is none."""
        cdef int status = self.next_status()
        if status == FIX_END:
            return None
        return PyBytes_FromStringAndSize(<const char*>self.window.bytes.data + self.message.start,
                                         self.message.end - self.message.start)
