"""Several small sequenced frames as one: what is done once a frame is then done once for many records."""

from libc.string cimport memcpy
from libc.stdint cimport uint8_t, uint32_t

from ext.records cimport (
    EVENT_LIMITS, FRAME_BYTES_MAX, FRAME_RECORDS_MAX, HEADER_BYTES, RECORD_BYTES, Frame, FrameHeader, FrameView, Record,
)


def join_frames(list frames):
    """Return frames that follow each other as one; a run's parts that would not fit one frame make several.

    frames: sequenced, of one epoch, each beginning where the one before it ends (else ValueError).
    The header is that of the first, so that it says when the oldest was numbered; the CRC is left out.
    """
    cdef list joined = []
    cdef Py_ssize_t start = 0, i
    cdef size_t records = 0, size = HEADER_BYTES
    cdef Frame frame
    for i in range(len(frames)):
        frame = <Frame?>frames[i]
        if i > start and (records + frame.view.header.record_count > FRAME_RECORDS_MAX
                          or size + frame.view.size > FRAME_BYTES_MAX):
            joined.append(_join(frames[start:i]))
            start, records, size = i, 0, HEADER_BYTES
        records += frame.view.header.record_count
        size += frame.view.size
    if start < len(frames):
        joined.append(_join(frames[start:]))
    return joined


cdef Frame _join(list frames):
    cdef Frame first = <Frame>frames[0], frame
    if len(frames) == 1:
        return first
    cdef uint32_t records = 0, definition_bytes = 0, heap_bytes = 0
    cdef const FrameHeader* header
    for frame in frames:
        header = frame.view.header
        if header.kind != first.view.header.kind or header.epoch != first.view.header.epoch or \
                header.first_seq != first.view.header.first_seq + records:
            raise ValueError(f"frame {header.first_seq} does not follow {first.view.header.first_seq + records - 1}")
        records += header.record_count
        definition_bytes += header.definition_bytes
        heap_bytes += header.heap_bytes
    cdef bytearray buffer = bytearray(HEADER_BYTES + records * RECORD_BYTES + definition_bytes + heap_bytes)
    cdef uint8_t* data = buffer
    cdef FrameHeader* out = <FrameHeader*>data
    out[0] = first.view.header[0]
    out.record_count, out.definition_bytes, out.heap_bytes = records, definition_bytes, heap_bytes
    out.origin_bytes = out.crc32c = 0
    _fill(frames, <Record*>(data + HEADER_BYTES), data + HEADER_BYTES + records * RECORD_BYTES, definition_bytes)
    return Frame(buffer, False)


cdef void _fill(list frames, Record* record, uint8_t* definitions, uint32_t definition_bytes):
    cdef uint8_t* heap = definitions + definition_bytes
    cdef uint32_t offset = 0, i
    cdef Frame frame
    cdef const FrameHeader* header
    for frame in frames:
        header = frame.view.header
        memcpy(record, frame.view.records, header.record_count * RECORD_BYTES)
        for i in range(header.record_count):
            record[i].id_offset += offset
            if record[i].ref_length or record[i].type == EVENT_LIMITS:
                record[i].ref_offset += offset
        memcpy(definitions, frame.view.definitions, header.definition_bytes)
        memcpy(heap + offset, frame.view.heap, header.heap_bytes)
        record += header.record_count
        definitions += header.definition_bytes
        offset += header.heap_bytes
