"""Frames out of Python: stamped, sealed and handed to libzmq without the GIL, larger ones without a copy."""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EAGAIN
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from ext.libzmq cimport ZMQ_DONTWAIT, handle_of, lib, send_borrowed, send_bytes
from ext.records cimport HEADER_BYTES, frame_seal, frame_stamp

cdef extern from "lent.h" nogil:
    ctypedef struct rw_lent:
        Py_buffer buffer
    void rw_give_back(void* data, void* hint) noexcept
    void rw_let_go() noexcept

cdef enum:
    COPIED_BYTES_MAX = 16384        # of a frame that is copied: to lend a small one costs more


def send_stamped(socket, frame not None, uint64_t first_seq, uint64_t epoch, bint seal=True):
    """Write ``first_seq`` and ``epoch`` into a built frame (a writable buffer), seal it, and send it without waiting.

    seal: compute its CRC; False: leave 0 there, for a broker of this process that looks at none. A frame above 16 KiB
    is not copied: it must not be changed any more, cannot be resized, and is kept until libzmq is done with it and
    `let_go` or the next call comes.

    Returns False where no peer is connected or its queue is full. Raises ValueError for less than a header, OSError
    with libzmq's error number. The socket is a pyzmq one of this thread.
    """
    cdef void* handle = handle_of(socket)
    cdef rw_lent* lent
    cdef uint8_t* data
    cdef size_t size
    cdef int status
    lent = <rw_lent*>PyMem_RawMalloc(sizeof(rw_lent))
    if lent == NULL:
        raise MemoryError
    try:
        PyObject_GetBuffer(frame, &lent.buffer, PyBUF_WRITABLE)
    except:
        PyMem_RawFree(lent)
        raise
    data = <uint8_t*>lent.buffer.buf
    size = lent.buffer.len
    if size < HEADER_BYTES:
        rw_give_back(data, lent)
        rw_let_go()
        raise ValueError(f"a frame has at least {HEADER_BYTES} bytes; this has {size}")
    with nogil:
        if seal:
            frame_seal(data, size, first_seq, epoch, 0)
        else:
            frame_stamp(data, first_seq, epoch, 0)
        if size > COPIED_BYTES_MAX:
            status = send_borrowed(handle, data, size, ZMQ_DONTWAIT, rw_give_back, lent)
        else:
            status = send_bytes(handle, data, size, ZMQ_DONTWAIT)
            rw_give_back(data, lent)
    rw_let_go()         # a small one at once
    if status == -EAGAIN:
        return False
    if status != 0:
        raise OSError(-status, lib.strerror(-status).decode())
    return True


def let_go():
    """Free the frames that libzmq is done with."""
    rw_let_go()
