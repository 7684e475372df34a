"""A window over the bytes of a source, read forward once."""

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stddef cimport size_t
from libc.string cimport memmove, memset

from ext.records cimport bytes_free, bytes_reserve


cdef class ByteWindow:
    def __init__(self, source not None):
        self.source = source

    def __dealloc__(self):
        bytes_free(&self.bytes)

    cdef size_t refill(self) except? 0:
        cdef size_t rest = self.bytes.size - self.position
        cdef size_t got = 0
        if self.at_end:
            return 0
        if self.position:
            memmove(self.bytes.data, self.bytes.data + self.position, rest)
            self.base += self.position
            self.bytes.size = rest
            self.position = 0
        if bytes_reserve(&self.bytes, WINDOW_CHUNK_BYTES + WINDOW_SLACK_BYTES) < 0:
            raise MemoryError
        try:
            got = self.source.readinto(
                PyMemoryView_FromMemory(<char*>self.bytes.data + self.bytes.size, WINDOW_CHUNK_BYTES, PyBUF_WRITE))
        except EOFError as error:
            self.damage = str(error)
        self.bytes.size += got
        self.drained = got < WINDOW_CHUNK_BYTES
        self.at_end = got == 0
        memset(self.bytes.data + self.bytes.size, 0, WINDOW_SLACK_BYTES)
        return got

    def read(self, size_t size):
        """Take the next bytes, fewer at the end."""
        while self.bytes.size - self.position < size and self.refill():
            pass
        if size > self.bytes.size - self.position:
            size = self.bytes.size - self.position
        data = PyBytes_FromStringAndSize(<const char*>self.bytes.data + self.position, size)
        self.position += size
        return data
