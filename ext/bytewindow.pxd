"""A window over the bytes of a source, read forward once."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from ext.records cimport Bytes

cdef enum:
    WINDOW_CHUNK_BYTES = 262144     # read at a time: stays in the second-level cache
    WINDOW_SLACK_BYTES = 64         # zeros behind the window's end, so that short loads may go past it

@cython.final
cdef class ByteWindow:
    cdef object source              # readinto(memoryview) -> bytes read, 0 at the end; EOFError where it breaks off
    cdef readonly object damage     # what readinto raised; None: nothing
    cdef Bytes bytes
    cdef size_t position            # of what is not taken yet
    cdef readonly uint64_t base     # bytes of the source before the window
    cdef readonly bint at_end       # the source has been read to its end
    cdef readonly bint drained      # the last read gave less than it could: more may have to be waited for

    # Move what is not taken to the front and read on; the bytes read, 0 at the end.
    cdef size_t refill(self) except? 0
