"""What reads records of one file into the frames of a feed, and the merging of several by time."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from ext.bytewindow cimport ByteWindow
from ext.feedwriter cimport FeedWriter, RowRules
from ext.records cimport Bytes

cdef enum ReadStatus:
    READ_DONE = 0                   # the frame has enough, or the next record is later than the limit
    READ_MORE = 1                   # `advance`, then go on
    READ_END = 2                    # nothing is left but what `end` says
    READ_NO_MEMORY = -1

cdef enum HeadStatus:
    HEAD_TIMED = 0
    HEAD_UNTIMED = 1                # it has no time, or is a refusal
    HEAD_MORE = 2                   # `advance`, then look again
    HEAD_END = 3
    HEAD_NO_MEMORY = -1

cdef class RecordReader:
    """One file being read. A format says how: `look`, `read_on`, `advance`, `waits`, `end`."""
    cdef FeedWriter writer
    cdef RowRules rules             # of records that say their side
    cdef readonly uint64_t records_read     # data records so far, bad ones included
    cdef uint32_t source            # its number in the writer

    # The next record's time (ns); a HeadStatus. The record is not taken.
    cdef int look(self, int64_t* time_ns) noexcept nogil
    # Add records until the frame has `records_max`, or one is later than `limit_ns` (where `limited`); a ReadStatus.
    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil
    # Read more of the file, or do what needs Python.
    cdef int advance(self) except -1
    # Whether `advance` may have to wait for a pipe.
    cdef bint waits(self) noexcept nogil
    # Add the last dead letter of a file that broke off.
    cdef int end(self) except -1
    # Bytes that were read and are of records not taken yet.
    cdef size_t unread(self) noexcept nogil

cdef class WindowReader(RecordReader):
    """One that reads forward through a window over the file's bytes."""
    cdef ByteWindow window

cdef struct Head:                   # of a reader that has more
    int64_t time_ns
    bint timed
    uint32_t index                  # of the reader, in the order given

@cython.final
cdef class Merge:
    """Several readers as one, by the times of their heads."""
    cdef list readers
    cdef void** pointers            # to them, for loops without the GIL
    cdef FeedWriter writer
    cdef Head* heap                 # a binary heap, the head that is due at the top
    cdef size_t count               # of heads in it
    cdef bint begun
    cdef bint looking               # the record at the top has been taken, and the next one is not known

    cdef int run(self, uint32_t records_max) noexcept nogil
    cdef int look_on(self) noexcept nogil
    cdef bint find_limit(self, int64_t* limit_ns) noexcept nogil
    cdef void sift_down(self, size_t at) noexcept nogil
    cdef void drop_top(self) noexcept nogil
    cdef int begin(self) except -1
