"""RiskCore: the consumer's state machine. Sequenced frames in; positions, levels and alerts out. No sockets."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.alertlog cimport AlertLog
from ext.definitions cimport Instruments, NameTable
from ext.judge cimport Judge
from ext.limits cimport LimitBook
from ext.positions cimport Book, Entry
from ext.records cimport Bytes, FrameView, Record

cdef struct Refusal:                # an event refused in the sequence: keeps its seq, moves nothing
    uint64_t seq
    uint8_t reason                  # ext.records.Reason

cdef enum:
    STEP = 6                        # records between two steps of looking ahead
    RING = 64                       # a power of two, above all records in hand

cdef struct Look:                   # of a record between its first look and its application
    uint64_t hash
    uint32_t cell                   # a likely one; 0: none
    uint32_t position               # its

cdef struct Ahead:
    Look looks[RING]                # by index % RING
    int what                        # to fetch (ext/limits.pxd)

cdef enum CoreError:
    CORE_NO_MEMORY = -1
    CORE_GAP = -2
    CORE_PYTHON = -3                # kept in `error`
    CORE_CORRUPT = -4               # a frame that no broker makes: an id that nothing defined, a wrong kind

@cython.final
cdef class RiskCore:
    cdef readonly uint64_t applied_seq      # every seq up to here is applied and judged
    cdef readonly AlertLog alerts
    cdef Bytes refusals                     # Refusal, in order of seq
    cdef readonly object error              # the exception behind -3
    cdef readonly Book book
    cdef readonly Instruments instruments
    cdef readonly LimitBook limits
    cdef Judge judge
    cdef NameTable symbols
    cdef NameTable accounts
    cdef NameTable venues
    cdef NameTable strategies
    cdef uint64_t seq                       # of the event at hand
    cdef const FrameView* view              # the frame at hand
    cdef bint lasting                       # the frame at hand stays where it is as long as the book

    # Apply the records of a sequenced frame whose seq is above applied_seq (the frame must not start above applied_seq + 1).
    # lasting: its bytes stay where they are as long as the book (ext/lasting.pxd). 0, or a CoreError.
    cdef int apply_frame(self, const FrameView* view, bint lasting) noexcept nogil
    cdef int take_names(self, const FrameView* view) noexcept nogil
    cdef int apply_records(self, const FrameView* view, size_t first) noexcept nogil
    cdef int apply_other(self, const Record* r) noexcept nogil
    cdef bint is_sound(self, const Record* r) noexcept nogil

    cdef int refuse(self, uint8_t reason) noexcept nogil
    cdef int ensure_used(self, uint32_t symbol) noexcept nogil
    cdef int open_cell(self, const Record* r, uint32_t venue, uint32_t strategy, int64_t quantity, uint32_t* cell) noexcept nogil
    cdef uint32_t add_cell(self, const Record* r, uint32_t venue, uint32_t strategy) noexcept nogil
    cdef int finish_trade(self, const Record* r, uint32_t cell) noexcept nogil
    cdef int finish(self) noexcept nogil
    cdef int apply_revision(self, const Record* r) noexcept nogil
    cdef int revise(self, const Record* r, uint32_t position, uint32_t found, const Entry* revised) noexcept nogil
    cdef int remark(self, uint32_t symbol, int64_t executed_at) noexcept nogil
    cdef int apply_mark(self, const Record* r) noexcept nogil
    cdef int apply_adjust(self, const Record* r) noexcept nogil
    cdef int apply_session(self, const Record* r) noexcept nogil
    cdef void restart_keys(self) noexcept nogil
    cdef int apply_instrument(self, const Record* r) noexcept nogil
    cdef int apply_limits(self, const Record* r) noexcept nogil
    cdef int apply_kill(self, const Record* r) noexcept nogil
    cdef object change_limits(self, bytes source, int64_t at)
    cdef object detach(self)
    cdef object keep_levels(self, LimitBook old, dict stays)
    cdef object raise_for(self, int status, uint64_t first_seq)
