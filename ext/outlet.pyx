"""Frames out of Python: stamped, sealed and handed to libzmq without the GIL."""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint8_t, uint64_t

from ext.libzmq cimport ZMQ_DONTWAIT, handle_of, lib, send_bytes
from ext.records cimport HEADER_BYTES, frame_seal, frame_stamp


def send_stamped(socket, unsigned char[::1] frame not None, uint64_t first_seq, uint64_t epoch, bint seal=True):
    """Write ``first_seq`` and ``epoch`` into a built frame, seal it, and send a copy without waiting.

    seal: compute its CRC; False: leave 0 there, for a broker of this process that looks at none.

    Returns False where no peer is connected or its queue is full. Raises ValueError for less than a header, OSError with
    libzmq's error number. The socket is a pyzmq one of this thread.
    """
    cdef void* handle = handle_of(socket)
    cdef size_t size = frame.shape[0]
    cdef uint8_t* data
    cdef int status
    if size < HEADER_BYTES:
        raise ValueError(f"a frame has at least {HEADER_BYTES} bytes; this has {size}")
    data = &frame[0]
    with nogil:
        if seal:
            frame_seal(data, size, first_seq, epoch, 0)
        else:
            frame_stamp(data, first_seq, epoch, 0)
        status = send_bytes(handle, data, size, ZMQ_DONTWAIT)
    if status == -EAGAIN:
        return False
    if status != 0:
        raise OSError(-status, lib.strerror(-status).decode())
    return True
