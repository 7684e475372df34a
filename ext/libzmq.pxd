"""libzmq's C functions, taken from the copy that pyzmq has loaded (no zmq.h, no second libzmq)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef RW_ZMQ_TYPES
    #define RW_ZMQ_TYPES
    typedef struct rw_zmq_msg { unsigned char _[64]; } __attribute__((aligned(8))) rw_zmq_msg_t;
    typedef struct rw_zmq_pollitem { void *socket; int fd; short events; short revents; } rw_zmq_pollitem_t;
    #endif
    """
    ctypedef struct zmq_msg_t "rw_zmq_msg_t":
        pass
    ctypedef struct zmq_pollitem_t "rw_zmq_pollitem_t":
        void* socket
        int fd
        short events
        short revents

cdef enum:
    ZMQ_DONTWAIT = 1
    ZMQ_SNDMORE = 2
    ZMQ_POLLIN = 1
    ZMQ_POLLOUT = 2
    # Error numbers that libzmq makes up itself (zmq.h: ZMQ_HAUSNUMERO = 156384712).
    ZMQ_EFSM = 156384763
    ZMQ_ETERM = 156384765

ctypedef void (*zmq_free_fn)(void* data, void* hint) noexcept nogil

cdef struct LibZmq:                 # every function as zmq.h declares it, without the zmq_ prefix
    int (*msg_init)(zmq_msg_t* msg) noexcept nogil
    int (*msg_init_size)(zmq_msg_t* msg, size_t size) noexcept nogil
    int (*msg_init_data)(zmq_msg_t* msg, void* data, size_t size, zmq_free_fn free, void* hint) noexcept nogil
    int (*msg_close)(zmq_msg_t* msg) noexcept nogil
    void* (*msg_data)(zmq_msg_t* msg) noexcept nogil
    size_t (*msg_size)(const zmq_msg_t* msg) noexcept nogil
    int (*msg_more)(const zmq_msg_t* msg) noexcept nogil
    int (*msg_send)(zmq_msg_t* msg, void* socket, int flags) noexcept nogil
    int (*msg_recv)(zmq_msg_t* msg, void* socket, int flags) noexcept nogil
    int (*msg_move)(zmq_msg_t* to, zmq_msg_t* origin) noexcept nogil
    int (*msg_copy)(zmq_msg_t* to, zmq_msg_t* origin) noexcept nogil
    int (*send)(void* socket, const void* data, size_t size, int flags) noexcept nogil
    int (*recv)(void* socket, void* data, size_t size, int flags) noexcept nogil
    int (*poll)(zmq_pollitem_t* items, int count, long timeout_ms) noexcept nogil
    int (*getsockopt)(void* socket, int option, void* value, size_t* size) noexcept nogil
    int (*setsockopt)(void* socket, int option, const void* value, size_t size) noexcept nogil
    int (*err_no)() noexcept nogil  # zmq_errno; a macro called errno forbids the plain name
    const char* (*strerror)(int error) noexcept nogil

cdef LibZmq lib

# The helpers below take up again after EINTR and return 0 (or a size) on success, or minus the error number
# (-EAGAIN with ZMQ_DONTWAIT and nothing to do, -ZMQ_ETERM when the context is gone).

# Send a copy of `size` bytes.
cdef int send_bytes(void* socket, const void* data, size_t size, int flags) noexcept nogil
# Send `size` bytes without copying; `free(data, hint)` is called once, from any thread, when libzmq needs them no longer,
# also when this fails.
cdef int send_borrowed(void* socket, const void* data, size_t size, int flags, zmq_free_fn free, void* hint) noexcept nogil
# Send an initialised message; on success libzmq owns it, on failure it is still the caller's.
cdef int send_message(void* socket, zmq_msg_t* msg, int flags) noexcept nogil
# Receive into an initialised message (what it held is released). 0, or minus the error number.
cdef int recv_message(void* socket, zmq_msg_t* msg, int flags) noexcept nogil
# Receive a part into `data`: bytes of the part (larger than `size` when it was cut), or minus the error number.
cdef int recv_bytes(void* socket, void* data, size_t size, int flags) noexcept nogil
# Drop the remaining parts of a multipart message after one whose `more` flag was set.
cdef void drop_parts(void* socket) noexcept nogil
# Wait for events: the number of items ready (0: time is up), or minus the error number. -1 ms waits for ever.
cdef int poll_items(zmq_pollitem_t* items, int count, long timeout_ms) noexcept nogil

# The C handle of a pyzmq socket. Keep the Python object alive, and use both only in the thread that made it.
cdef void* handle_of(object socket) except NULL
