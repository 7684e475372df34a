"""Alerts as bytes: an append-only log by alert_no, sent and fetched as FRAME_ALERTS frames."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.records cimport Bytes, FrameView

cdef enum:
    ALERT_BYTES = 32
    ALERT_TEXTS = 9

cdef enum Severity:
    SEVERITY_CLEAR = 0
    SEVERITY_WARN = 1
    SEVERITY_BREACH = 2

cdef enum AlertText:                # order of the texts of one alert, back to back in the heap
    ALERT_LIMIT_ID = 0
    ALERT_ACCOUNT = 1               # `*` where the key has none
    ALERT_SYMBOL = 2
    ALERT_VENUE = 3
    ALERT_STRATEGY = 4
    ALERT_TRADE_ID = 5              # empty where no trade caused it
    ALERT_VALUE = 6                 # decimal text, trimmed, rounded half to even at nine decimals
    ALERT_THRESHOLD = 7             # decimal text, trimmed
    ALERT_UTILIZATION = 8           # like value

cdef packed struct AlertRecord:     # alert_no = the frame's first_seq + index
    uint64_t seq
    int64_t executed_at             # ns
    uint32_t text_offset            # into the frame's heap
    uint8_t kind                    # LimitKind (ext/limits.pxd)
    uint8_t severity
    uint8_t lengths[9]              # bytes of each AlertText
    uint8_t reserved

@cython.final
cdef class AlertLog:
    cdef Bytes records              # AlertRecord; text_offset is kept aside as uint64 per alert
    cdef Bytes offsets              # uint64 per alert
    cdef Bytes heap
    cdef readonly uint64_t count    # the last alert_no

    cdef int append(self, uint64_t seq, int64_t executed_at, uint8_t kind, uint8_t severity,
                    const uint8_t** texts, const size_t* lengths) noexcept nogil          # -1: no memory
    # Build a frame of alerts first_no … first_no + count - 1 (cut at the log's end) into out; 0, or -1.
    cdef int build_frame(self, uint64_t first_no, uint32_t count, uint64_t epoch, int64_t stamped_at,
                         Bytes* out) noexcept nogil
    cdef uint64_t text_end(self, uint64_t count) noexcept nogil
    # The first alert_no whose seq is at least `seq` (count + 1: none).
    cpdef uint64_t first_at(self, uint64_t seq) noexcept nogil
