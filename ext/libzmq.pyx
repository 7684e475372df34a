"""Bind the C functions of the libzmq that pyzmq brought along.

pyzmq's wheel has no ``zmq.h``, and a process with two copies of libzmq has two sets of contexts, so the
functions are looked up in the library that is loaded already.
"""

from libc.errno cimport EINTR

import zmq
import zmq.backend.cython._zmq as _zmq

cdef extern from "dlfcn.h" nogil:
    void* dlopen(const char* path, int mode)
    void* dlsym(void* handle, const char* name)
    const char* dlerror()
    enum:
        RTLD_NOW
        RTLD_NOLOAD


cdef void* _symbol(void* handle, bytes name) except NULL:
    cdef void* found = dlsym(handle, name)
    if found == NULL:
        raise ImportError(
            f"{_zmq.__file__} has no function {name.decode()}; expected libzmq 4 inside pyzmq: "
            "reinstall it with `pip install --force-reinstall 'pyzmq>=26.2'`"
        )
    return found


cdef int _bind() except -1:
    cdef bytes path = _zmq.__file__.encode()
    cdef void* handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD)
    if handle == NULL:
        raise ImportError(
            f"{_zmq.__file__} is imported but cannot be opened again ({dlerror().decode()}); "
            "reinstall pyzmq"
        )
    lib.msg_init = <int (*)(zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_init")
    lib.msg_init_size = <int (*)(zmq_msg_t*, size_t) noexcept nogil>_symbol(handle, b"zmq_msg_init_size")
    lib.msg_init_data = <int (*)(zmq_msg_t*, void*, size_t, zmq_free_fn, void*) noexcept nogil>_symbol(
        handle, b"zmq_msg_init_data")
    lib.msg_close = <int (*)(zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_close")
    lib.msg_data = <void* (*)(zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_data")
    lib.msg_size = <size_t (*)(const zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_size")
    lib.msg_more = <int (*)(const zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_more")
    lib.msg_send = <int (*)(zmq_msg_t*, void*, int) noexcept nogil>_symbol(handle, b"zmq_msg_send")
    lib.msg_recv = <int (*)(zmq_msg_t*, void*, int) noexcept nogil>_symbol(handle, b"zmq_msg_recv")
    lib.msg_move = <int (*)(zmq_msg_t*, zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_move")
    lib.msg_copy = <int (*)(zmq_msg_t*, zmq_msg_t*) noexcept nogil>_symbol(handle, b"zmq_msg_copy")
    lib.send = <int (*)(void*, const void*, size_t, int) noexcept nogil>_symbol(handle, b"zmq_send")
    lib.recv = <int (*)(void*, void*, size_t, int) noexcept nogil>_symbol(handle, b"zmq_recv")
    lib.poll = <int (*)(zmq_pollitem_t*, int, long) noexcept nogil>_symbol(handle, b"zmq_poll")
    lib.getsockopt = <int (*)(void*, int, void*, size_t*) noexcept nogil>_symbol(handle, b"zmq_getsockopt")
    lib.setsockopt = <int (*)(void*, int, const void*, size_t) noexcept nogil>_symbol(handle, b"zmq_setsockopt")
    lib.err_no = <int (*)() noexcept nogil>_symbol(handle, b"zmq_errno")
    lib.strerror = <const char* (*)(int) noexcept nogil>_symbol(handle, b"zmq_strerror")
    return 0


_bind()


cdef int send_bytes(void* socket, const void* data, size_t size, int flags) noexcept nogil:
    cdef int error
    while lib.send(socket, data, size, flags) < 0:
        error = lib.err_no()
        if error != EINTR:
            return -error
    return 0


cdef int send_message(void* socket, zmq_msg_t* msg, int flags) noexcept nogil:
    cdef int error
    while lib.msg_send(msg, socket, flags) < 0:
        error = lib.err_no()
        if error != EINTR:
            return -error
    return 0


cdef int send_borrowed(void* socket, const void* data, size_t size, int flags, zmq_free_fn free, void* hint) noexcept nogil:
    cdef zmq_msg_t msg
    cdef int status
    if lib.msg_init_data(&msg, <void*>data, size, free, hint) != 0:
        status = -lib.err_no()
        free(<void*>data, hint)
        return status
    status = send_message(socket, &msg, flags)
    if status != 0:
        lib.msg_close(&msg)         # calls free
    return status


cdef int recv_message(void* socket, zmq_msg_t* msg, int flags) noexcept nogil:
    cdef int error
    while lib.msg_recv(msg, socket, flags) < 0:
        error = lib.err_no()
        if error != EINTR:
            return -error
    return 0


cdef int recv_bytes(void* socket, void* data, size_t size, int flags) noexcept nogil:
    cdef int received = lib.recv(socket, data, size, flags)
    cdef int error
    while received < 0:
        error = lib.err_no()
        if error != EINTR:
            return -error
        received = lib.recv(socket, data, size, flags)
    return received


cdef void drop_parts(void* socket) noexcept nogil:
    cdef zmq_msg_t msg
    cdef bint more = True
    lib.msg_init(&msg)
    while more:
        if recv_message(socket, &msg, ZMQ_DONTWAIT) != 0:
            break
        more = lib.msg_more(&msg)
    lib.msg_close(&msg)


cdef int poll_items(zmq_pollitem_t* items, int count, long timeout_ms) noexcept nogil:
    cdef int ready = lib.poll(items, count, timeout_ms)
    cdef int error
    while ready < 0:
        error = lib.err_no()
        if error != EINTR:
            return -error
        ready = lib.poll(items, count, timeout_ms)
    return ready


cdef void* handle_of(object socket) except NULL:
    if not isinstance(socket, zmq.Socket):
        raise TypeError(f"expected a zmq.Socket, got {type(socket).__name__}")
    cdef size_t address = socket.underlying
    if address == 0:
        raise ValueError("the socket is closed; make, use and close a socket in one thread")
    return <void*>address


def library_version() -> tuple[int, int, int]:
    """Return the version of the bound libzmq, as its own function says it."""
    major, minor, patch = zmq.zmq_version_info()
    return major, minor, patch


def echo_once(receive, send, bint more=False) -> int:
    """Take one message part from a pyzmq socket and send it on another, through the bound functions.

    What ``riskwire doctor`` and the tests use to see that the binding works. Returns the size in bytes;
    raises ``OSError`` with libzmq's error number.
    """
    cdef void* source = handle_of(receive)
    cdef void* target = handle_of(send)
    cdef zmq_msg_t msg
    cdef int status
    cdef size_t size
    with nogil:
        lib.msg_init(&msg)
        status = recv_message(source, &msg, 0)
        size = lib.msg_size(&msg)
        if status == 0:
            status = send_message(target, &msg, ZMQ_SNDMORE if more else 0)
        lib.msg_close(&msg)
    if status != 0:
        raise OSError(-status, lib.strerror(-status).decode())
    return size
