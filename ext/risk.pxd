"""RiskCore: the consumer's state machine. Sequenced frames in; positions, levels and alerts out. No sockets."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ext.records cimport Bytes, FrameView
from ext.alertlog cimport AlertLog

cdef struct Refusal:                # an event refused in the sequence: keeps its seq, moves nothing
    uint64_t seq
    uint8_t reason                  # ext.records.Reason

cdef class RiskCore:
    cdef readonly uint64_t applied_seq      # every seq up to here is applied and judged
    cdef readonly AlertLog alerts
    cdef Bytes refusals                     # Refusal, in order of seq

    # Apply the records of a sequenced frame whose seq is above applied_seq (the frame must not start above applied_seq + 1).
    # 0; -1: out of memory; -2: a gap; -3: a Python error while compiling limits (kept in self.error).
    cdef int apply_frame(self, const FrameView* view) noexcept nogil
