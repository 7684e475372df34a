"""Alerts as bytes: an append-only log by alert_no, sent and fetched as FRAME_ALERTS frames."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ext.records cimport (Bytes, FRAME_ALERTS, FRAME_BYTES_MAX, FRAME_MAGIC, FRAME_RECORDS_MAX, FRAME_VERSION,
                          FrameHeader, HEADER_BYTES, bytes_append, bytes_free, bytes_reserve, frame_seal)

assert sizeof(AlertRecord) == ALERT_BYTES

SEVERITIES = ("clear", "warn", "breach")


cdef class AlertLog:
    """Alerts 1, 2, 3 … in order of seq; nothing is ever taken out or changed."""

    def __dealloc__(self):
        bytes_free(&self.records)
        bytes_free(&self.offsets)
        bytes_free(&self.heap)

    cdef int append(self, uint64_t seq, int64_t executed_at, uint8_t kind, uint8_t severity,
                    const uint8_t** texts, const size_t* lengths) noexcept nogil:
        cdef AlertRecord record
        cdef uint64_t offset = self.heap.size
        cdef size_t total = 0
        cdef int i
        memset(&record, 0, sizeof(record))
        record.seq = seq
        record.executed_at = executed_at
        record.kind = kind
        record.severity = severity
        for i in range(ALERT_TEXTS):
            record.lengths[i] = <uint8_t>lengths[i]
            total += lengths[i]
        # Room for all of it first: a log without memory stays whole.
        if (bytes_reserve(&self.records, ALERT_BYTES) < 0 or bytes_reserve(&self.offsets, 8) < 0
                or bytes_reserve(&self.heap, total) < 0):
            return -1
        for i in range(ALERT_TEXTS):
            bytes_append(&self.heap, texts[i], lengths[i])
        bytes_append(&self.offsets, &offset, 8)
        bytes_append(&self.records, &record, ALERT_BYTES)
        self.count += 1
        return 0

    cdef uint64_t text_end(self, uint64_t count) noexcept nogil:
        """Heap bytes used by the first `count` alerts."""
        return (<uint64_t*>self.offsets.data)[count] if count < self.count else self.heap.size

    cdef int build_frame(self, uint64_t first_no, uint32_t count, uint64_t epoch, int64_t stamped_at,
                         Bytes* out) noexcept nogil:
        cdef FrameHeader header
        cdef uint64_t first = first_no - 1, left, i, base
        cdef uint32_t offset
        cdef AlertRecord* records
        if first_no == 0 or first > self.count:
            first = self.count
        left = self.count - first
        if count > left:
            count = <uint32_t>left
        if count > FRAME_RECORDS_MAX:
            count = FRAME_RECORDS_MAX
        base = self.text_end(first)
        while count and (HEADER_BYTES + <uint64_t>count * ALERT_BYTES + self.text_end(first + count) - base
                         > <uint64_t>FRAME_BYTES_MAX):
            count //= 2
        memset(&header, 0, sizeof(header))
        header.magic = FRAME_MAGIC
        header.version = FRAME_VERSION
        header.kind = FRAME_ALERTS
        header.record_count = count
        header.heap_bytes = <uint32_t>(self.text_end(first + count) - base)
        out.size = 0
        if bytes_reserve(out, HEADER_BYTES + <size_t>count * ALERT_BYTES + header.heap_bytes) < 0:
            return -1
        bytes_append(out, &header, HEADER_BYTES)
        if count:
            bytes_append(out, self.records.data + first * ALERT_BYTES, <size_t>count * ALERT_BYTES)
            bytes_append(out, self.heap.data + base, header.heap_bytes)
        records = <AlertRecord*>(out.data + HEADER_BYTES)
        for i in range(count):
            offset = <uint32_t>((<uint64_t*>self.offsets.data)[first + i] - base)
            memcpy(&records[i].text_offset, &offset, 4)
        frame_seal(out.data, out.size, first + 1, epoch, stamped_at)
        return 0

    cpdef uint64_t first_at(self, uint64_t seq) noexcept nogil:
        """The first alert_no whose seq is at least ``seq``; count + 1 where there is none yet."""
        cdef uint64_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) // 2
            if (<AlertRecord*>self.records.data)[middle].seq < seq:
                low = middle + 1
            else:
                high = middle
        return low + 1

    # --- the Python face -----------------------------------------------------------------------------------------

    def frame(self, uint64_t first_no, uint32_t count=0xFFFFFFFF, uint64_t epoch=0):
        """Alerts from ``first_no`` on as the bytes of an alerts frame: at most ``count``, cut where the log or a
        frame (8192 alerts, 32 MiB) ends. The frame's record count says how many they are."""
        cdef Bytes out
        memset(&out, 0, sizeof(out))
        try:
            if self.build_frame(first_no, count, epoch, 0, &out) < 0:
                raise MemoryError
            return (<const char*>out.data)[:out.size]
        finally:
            bytes_free(&out)

    def __len__(self):
        return self.count
