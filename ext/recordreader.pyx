"""What reads records of one file into the frames of a feed, and the merging of several by time.

Events are taken in file order. The file whose next record is earliest goes on until another file's is due; of equal times
the file given first is first, and a record without a time is taken at once (DESIGN section 9).
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc

from ext.feedwriter cimport FeedWriter, has_room

cdef int64_t TIME_MIN = -0x7FFFFFFFFFFFFFFF       # earlier than any time of a record


cdef class RecordReader:
    def named(self, bytes name not None, uint32_t unit):
        """Say what dead letters call the file, and the unit of positions in it: 0 line, 1 record, 2 byte."""
        self.source = self.writer.add_source(name, unit)

    cdef int look(self, int64_t* time_ns) noexcept nogil:
        return HEAD_END

    cdef int read_on(self, uint32_t records_max, bint limited, int64_t limit_ns) noexcept nogil:
        return READ_END

    cdef int advance(self) except -1:
        return 0

    cdef bint waits(self) noexcept nogil:
        return False

    cdef int end(self) except -1:
        return 0

    cdef size_t unread(self) noexcept nogil:
        return 0

    @property
    def unread_bytes(self):
        """Bytes that were read ahead of the records taken so far."""
        return self.unread()


cdef class WindowReader(RecordReader):
    cdef int advance(self) except -1:
        self.window.refill()
        return 0

    cdef size_t unread(self) noexcept nogil:
        return self.window.bytes.size - self.window.position

    cdef bint waits(self) noexcept nogil:
        return self.window.drained and not self.window.at_end


cdef inline bint is_before(const Head* a, const Head* b) noexcept nogil:
    """Whether a head is due before another: at once without a time, else the earlier one, ties in the order given."""
    if a.timed != b.timed:
        return not a.timed
    if a.timed and a.time_ns != b.time_ns:
        return a.time_ns < b.time_ns
    return a.index < b.index


cdef class Merge:
    def __init__(self, list readers not None, FeedWriter writer not None):
        cdef size_t i
        self.readers = readers
        self.writer = writer
        self.pointers = <void**>malloc((len(readers) + 1) * sizeof(void*))
        self.heap = <Head*>malloc((len(readers) + 1) * sizeof(Head))
        if self.pointers == NULL or self.heap == NULL:
            raise MemoryError
        for i in range(<size_t>len(readers)):
            self.pointers[i] = <void*><RecordReader?>readers[i]

    def __dealloc__(self):
        free(self.pointers)
        free(self.heap)

    cdef void sift_down(self, size_t at) noexcept nogil:
        cdef Head moved = self.heap[at]
        cdef size_t child
        while 2 * at + 1 < self.count:
            child = 2 * at + 1
            if child + 1 < self.count and is_before(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if not is_before(&self.heap[child], &moved):
                break
            self.heap[at] = self.heap[child]
            at = child
        self.heap[at] = moved

    cdef void drop_top(self) noexcept nogil:
        self.count -= 1
        self.heap[0] = self.heap[self.count]
        if self.count:
            self.sift_down(0)

    cdef bint find_limit(self, int64_t* limit_ns) noexcept nogil:
        """The latest time up to which the reader at the top may go on; False: it may for ever."""
        cdef const Head* next
        if self.count == 1:
            return False
        next = &self.heap[1]
        if self.count > 2 and is_before(&self.heap[2], next):
            next = &self.heap[2]
        if not next.timed:
            limit_ns[0] = TIME_MIN
        elif self.heap[0].index < next.index or next.time_ns == TIME_MIN:
            limit_ns[0] = next.time_ns
        else:
            limit_ns[0] = next.time_ns - 1
        return True

    cdef int look_on(self) noexcept nogil:
        """Give the top its next record's time, and the heap its order: READ_DONE, or what `look` is in want of."""
        cdef int64_t time_ns = 0
        cdef int status
        if self.count > 1:
            status = (<RecordReader>self.pointers[self.heap[0].index]).look(&time_ns)
            if status == HEAD_MORE:
                return READ_MORE
            if status == HEAD_NO_MEMORY:
                return READ_NO_MEMORY
            if status == HEAD_END:
                self.drop_top()
            else:
                self.heap[0].timed = status == HEAD_TIMED
                self.heap[0].time_ns = time_ns
                self.sift_down(0)
        self.looking = False
        return READ_DONE

    cdef int run(self, uint32_t records_max) noexcept nogil:
        """Records into the frame until it has enough (READ_DONE), or the reader at the top wants something."""
        cdef int64_t limit_ns = 0
        cdef bint limited
        cdef int status
        cdef void* reader
        while self.count and has_room(self.writer.builder, records_max):
            if self.looking:
                status = self.look_on()
                if status != READ_DONE:
                    return status
                continue
            limited = self.find_limit(&limit_ns)
            reader = self.pointers[self.heap[0].index]
            if self.writer.take_source((<RecordReader>reader).source) < 0:
                return READ_NO_MEMORY
            status = (<RecordReader>reader).read_on(records_max, limited, limit_ns)
            if status != READ_DONE:
                return status
            self.looking = True
        return READ_DONE

    cdef int begin(self) except -1:
        """Look at every reader's first record; of one reader alone nothing is looked at ahead."""
        cdef int64_t time_ns = 0
        cdef int status
        cdef size_t at
        cdef RecordReader reader
        for index, reader in enumerate(self.readers):
            status = HEAD_UNTIMED
            while len(self.readers) > 1:
                status = reader.look(&time_ns)
                if status != HEAD_MORE:
                    break
                reader.advance()
            if status == HEAD_NO_MEMORY:
                raise MemoryError
            if status != HEAD_END:
                self.heap[self.count] = Head(time_ns, status == HEAD_TIMED, index)
                self.count += 1
        for at in range(self.count // 2, 0, -1):
            self.sift_down(at - 1)
        self.begun = True
        return 0

    def fill(self, uint32_t records_max):
        """Add records until the frame has ``records_max``, or all there is for now; False at the end of all."""
        cdef int status
        cdef RecordReader reader
        if not self.begun:
            self.begin()
        while self.count:
            with nogil:
                status = self.run(records_max)
            if status == READ_NO_MEMORY:
                raise MemoryError
            if status == READ_DONE:
                break
            reader = <RecordReader>self.readers[self.heap[0].index]
            if status == READ_END:
                reader.end()
                self.drop_top()
                self.looking = False
            elif self.writer.builder.count and reader.waits():
                break               # a pipe may have nothing more for now: what is there goes out
            else:
                reader.advance()
        return self.count > 0
