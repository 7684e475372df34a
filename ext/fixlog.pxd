"""FIX messages in a log to records: framed by their own lengths, no Python object per message."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.feedwriter cimport Row, RowRules, Values
from ext.recordreader cimport WindowReader
from ext.records cimport Bytes

cdef enum:
    MESSAGE_BYTES_MAX = 1048576     # a longer one is refused
    TAGS = 65536

cdef enum FixSlot:                  # what a tag is for: a Field, or one of these
    SLOT_MSG_TYPE = 16
    SLOT_EXEC_TYPE = 17
    SLOT_EXEC_TRANS = 18
    SLOT_ORD_STATUS = 19
    SLOT_SENDING_TIME = 20
    SLOT_COMM_TYPE = 21
    SLOT_DATA = 22                  # its value is as long as the field before says, delimiters and line ends included
    SLOTS = 24
    SLOT_NONE = 31

cdef enum FixStatus:
    FIX_FILL = 0                    # an execution to be recorded, read into `row`
    FIX_BROKEN = 1                  # what may be an ExecutionReport, and cannot be read: `why`
    FIX_OTHER = 2                   # any other message
    FIX_MORE = 3                    # not all of it is in the window yet
    FIX_END = 4

cdef struct Message:
    size_t start
    size_t end                      # behind its last byte
    size_t fields                   # of the first field after BodyLength
    size_t checksum                 # of `10=`
    uint8_t delimiter
    bint length_right
    bint whole                      # it has a CheckSum field
    uint64_t stated                 # BodyLength

@cython.final
cdef class FixReader(WindowReader):
    cdef RowRules sided             # of messages that do not say their side
    cdef bint lenient
    cdef bint pending               # the message at hand is a record that is not taken yet
    cdef int status                 # of it
    cdef Message message
    cdef uint8_t* slots             # FixSlot per tag
    cdef Bytes copies               # pairs of uint8: field, the field with the same tag
    cdef Row constants
    cdef Bytes constant_texts
    cdef const uint8_t* texts[24]   # of the message, per slot
    cdef size_t lengths[24]
    cdef Row row
    cdef Values values
    cdef uint8_t why[256]
    cdef uint8_t before             # the byte in front of the window; 0: none
    cdef size_t counted_to          # line ends before this are counted
    cdef readonly uint64_t line     # physical line of the message at hand, from 1
    cdef bint told                  # the damage of the source has its dead letter

    cdef int find_message(self) noexcept nogil
    cdef int frame_by_length(self, size_t at) noexcept nogil
    cdef int frame_by_marks(self) noexcept nogil
    cdef int read_message(self) noexcept nogil
    cdef bint checksum_right(self) noexcept nogil
    cdef bint may_be_report(self) noexcept nogil
    cdef int broken(self, const char* why) noexcept nogil
    cdef int split_fields(self) noexcept nogil
    cdef int judge_report(self) noexcept nogil
    cdef void make_row(self, const char* exec_type) noexcept nogil
    cdef int add_record(self) noexcept nogil
    cdef int read_times(self) noexcept nogil
    cdef int read_commission(self) noexcept nogil
    cdef int next_record(self) noexcept nogil
    cdef void count_lines(self, size_t to) noexcept nogil
    cdef void take(self) noexcept nogil
    cdef int next_status(self) except -1
