"""From Python objects to the core without a broker: the same door, the same sequence, one call."""

from libc.stdint cimport uint8_t

from ext.encoder cimport EventEncoder
from ext.journal cimport Journal
from ext.lasting cimport is_lasting
from ext.records cimport FrameHeader, FrameView
from ext.risk cimport RiskCore
from ext.sequencer cimport Sequencer, Source

cdef enum:
    FEW = 64                        # records that are taken sooner than another thread is let in


cdef class Direct:
    """An encoder, a sequencer with its journal, and a core, end to end. Not for several threads at once."""

    cdef readonly EventEncoder encoder
    cdef readonly Sequencer sequencer
    cdef readonly Source source
    cdef readonly RiskCore core
    cdef Journal journal

    def __cinit__(self, EventEncoder encoder not None, Sequencer sequencer not None, Source source not None,
                  RiskCore core not None):
        self.encoder = encoder
        self.sequencer = sequencer
        self.source = source
        self.core = core
        self.journal = sequencer.journal

    def apply(self, event not None):
        """Apply one event: its seq, or 0 for a duplicate, or -1: refused (``sequencer.refused_list()`` or the core says why).

        Raises EncodeError for what no record can hold, OSError where the journal cannot grow, MemoryError.
        """
        cdef size_t refused = self.core.refusals.size
        self.encoder.add(event)
        self.take()
        if self.sequencer.refused.size or self.core.refusals.size != refused:
            return -1
        return self.core.applied_seq if self.sequencer.accepted else 0

    cpdef object take(self):
        """Apply what was added to the encoder, as one frame; the sequencer has the counts. Raises as apply."""
        cdef FrameHeader header
        cdef FrameView view
        cdef int door, status
        self.encoder.define_new()
        # Seen where it was built: nothing that is copied, sealed and checked again could differ.
        self.encoder.builder.view(&header, self.source.state.taken + 1, self.source.state.incarnation, &view)
        if header.record_count < FEW:
            status = self.pass_on(&view, &door)
        else:
            with nogil:
                status = self.pass_on(&view, &door)
        self.encoder.builder.clear()
        self.sequencer.raise_for(door)
        if status < 0:
            self.core.raise_for(status, self.sequencer.next_seq)

    cdef int pass_on(self, const FrameView* view, int* door) noexcept nogil:
        """0, or a CoreError; door: the status of Sequencer.process()."""
        cdef FrameView sequenced
        door[0] = self.sequencer.process(view, &self.source.state, 0)
        if door[0] < 0:
            return 0
        self.source.state.taken = view.header.first_seq + view.header.record_count - 1
        if self.sequencer.accepted == 0:
            return 0
        self.journal.view_at(self.journal.frames() - 1, &sequenced)
        return self.core.apply_frame(&sequenced, is_lasting(self.core.book, self.journal, &sequenced))
