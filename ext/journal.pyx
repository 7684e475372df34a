"""The journal: an append-only store of sequenced frames, in mapped segment files or in memory.

One thread writes; any thread reads what is committed. A frame's bytes never move, so that libzmq sends them from
where they lie, and a Mapping stays mapped until the last such message is gone.
"""

cimport cython
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from cpython.pythread cimport (
    WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
)
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

import fcntl
import os
import re
import secrets
import time

from ext.ahead cimport rw_ahead_ask, rw_ahead_stop, rw_touch
from ext.base cimport Base
from ext.libzmq cimport send_borrowed
from ext.records cimport (
    EVENT_TRADE, FRAME_MAGIC, FRAME_SEQUENCED, HEADER_BYTES, RECORD_BYTES, Bytes, FrameHeader, FrameView, Record,
    bytes_append, bytes_free, crc32c, frame_open, frame_view,
)
from ext.base import read_base
from ext.errors import JournalBusy, JournalError
from ext.records import FRAME_ERRORS

cdef extern from "journal_os.h" nogil:
    int rw_preallocate(int fd, int64_t size)
    int rw_datasync(int fd)
    int rw_sync_directory(const char* path)
    uint8_t* rw_map(int fd, size_t size, int writable)
    uint64_t rw_load_acquire(const uint64_t* p)
    void rw_store_release(uint64_t* p, uint64_t v)
    int64_t rw_add(int64_t* p, int64_t n)
    int rw_log2(uint64_t v)
    int open(const char* path, int flags, ...)
    int c_close "close"(int fd)
    int ftruncate(int fd, int64_t size)
    int munmap(void* base, size_t size)
    enum:
        O_RDWR
        O_CREAT
        O_EXCL
        O_CLOEXEC

SEGMENT_NAME = re.compile(r"(\d{8})\.rwj")
LOCK_NAME = "journal.lock"
LOAD_TRIES = 100                    # of a reader, while another process removes segments


cdef size_t frame_bytes(const uint8_t* data) noexcept nogil:
    cdef const FrameHeader* h = <const FrameHeader*>data
    return (HEADER_BYTES + <size_t>h.record_count * RECORD_BYTES + h.definition_bytes + h.heap_bytes
            + h.origin_bytes)


cdef inline size_t aligned(size_t size) noexcept nogil:
    return (size + 7) & ~<size_t>7


cdef Mapping* hold_mapping(Journal journal, uint64_t index) noexcept nogil:
    cdef Mapping* mapping = journal.segment_of(index).mapping
    rw_add(&mapping.holders, 1)
    return mapping


cdef void release_mapping(Mapping* mapping) noexcept nogil:
    if rw_add(&mapping.holders, -1) > 0:
        return
    munmap(mapping.base, mapping.capacity)
    free(mapping)


cdef void release_message(void* data, void* hint) noexcept nogil:
    """Called by libzmq, in one of its own threads, when a frame has left."""
    release_mapping(<Mapping*>hint)


cdef uint32_t header_crc(const SegmentHeader* header) noexcept nogil:
    cdef SegmentHeader copy = header[0]
    copy.durable = 0
    return crc32c(<const uint8_t*>&copy, SEGMENT_HEADER_BYTES - 4, 0)


cdef uint64_t durable_mark(uint64_t seq) noexcept nogil:
    """A seq below 2^48 with 16 bits of its CRC-32C above: one store, so that no kill leaves half of it; never 0."""
    cdef uint64_t low = seq & ((<uint64_t>1 << 48) - 1)
    return low | <uint64_t>(crc32c(<const uint8_t*>&low, 6, 0) & 0xFFFF) << 48


cdef uint32_t seal_crc(const Seal* seal) noexcept nogil:
    cdef Seal copy = seal[0]
    copy.crc32c = 0
    return crc32c(<const uint8_t*>&copy, SEAL_BYTES, 0)


cdef bint is_seal(const uint8_t* base, size_t offset, size_t size) noexcept nogil:
    cdef const Seal* seal = <const Seal*>(base + offset)
    return (offset + SEAL_BYTES <= size and seal.magic == SEAL_MAGIC and seal.offset == offset
            and seal.crc32c == seal_crc(seal))


cdef bint is_zero(const uint8_t* data, size_t size) noexcept nogil:
    # Each byte equals the one before it, and the first is 0.
    return size == 0 or (data[0] == 0 and memcmp(data, data + 1, size - 1) == 0)


cdef int open_at(const uint8_t* base, size_t offset, size_t size, FrameView* view) noexcept nogil:
    """Check the frame at an offset; the number of a FrameError, or -1: it is whole but no sequenced frame."""
    cdef size_t room = size - offset, bytes_
    cdef int error
    if room < HEADER_BYTES:
        return frame_open(base + offset, room, True, view)
    bytes_ = frame_bytes(base + offset)
    error = frame_open(base + offset, bytes_ if bytes_ < room else room, True, view)
    if error == 0 and (view.header.kind != FRAME_SEQUENCED or view.header.record_count == 0):
        return -1
    return error


@cython.final
cdef class Journal:
    """An append-only store of sequenced frames.

    directory: where the segments lie (made if it is not there); None keeps them in memory.
    sync: ``"os"`` survives the process, ``"group"`` also a power loss (the writer calls ``flush`` before it acks),
    ``"off"`` like ``"os"`` but without any wait for the disk at close.
    segment_bytes: the largest segment, in bytes; the first ones are smaller.
    room: bytes of the first segment of a journal in memory; ``touch_room`` has its pages touched.
    readonly: open what is there without the lock, for reading and checking. only: (first, last) numbers of the segments
    to open, with readonly.
    Raises JournalError (damage: names segment and offset), JournalBusy, or OSError.
    """

    def __cinit__(self, directory=None, sync="os", size_t segment_bytes=SEGMENT_BYTES_MAX, readonly=False, only=None,
                  size_t room=0):
        self.lock_fd = -1
        self.next_seq_ = self.kept_from = self.first_number = 1
        self.reading = PyThread_allocate_lock()
        if self.reading == NULL:
            raise MemoryError

    def __init__(self, directory=None, sync="os", size_t segment_bytes=SEGMENT_BYTES_MAX, readonly=False, only=None,
                  size_t room=0):
        if sync not in ("os", "group", "off"):
            raise ValueError(f"sync is {sync!r}; expected 'os', 'group' or 'off'")
        if directory is None and readonly:
            raise ValueError("a journal in memory cannot be opened read-only")
        if only is not None and not readonly:
            raise ValueError("some of a journal's segments can only be opened read-only")
        self.only = only
        self.sync_mode = sync
        self.writable = not readonly
        if directory is not None and room:
            raise ValueError("only a journal in memory has room made in advance")
        self.room_bytes = room + 4095 & ~<size_t>4095
        self.segment_bytes_max = max(segment_bytes, 65536, self.room_bytes)
        self.epoch = random_epoch()
        if directory is None:
            if room:
                self.room = rw_map(-1, self.room_bytes, True)
            return
        self.directory = os.fspath(directory)
        self.path = os.fsencode(self.directory)
        self.path_chars = self.path
        self.group = sync == "group"
        try:
            if readonly:
                if not os.path.isdir(self.directory):
                    raise JournalError(f"{self.directory}: no such journal directory; expected a folder with .rwj files")
            else:
                os.makedirs(self.directory, exist_ok=True)
                self._lock()
            self._load()
        except BaseException:
            self._close_files()
            raise

    def __dealloc__(self):
        cdef uint64_t i
        cdef int k
        rw_ahead_stop(&self.ahead)
        if self.room != NULL:
            munmap(self.room, self.room_bytes)
        for i in range(self.segments_removed, self.segment_total):
            self.close_segment(i)
            release_mapping(self.segment(i).mapping)
        if self.lock_fd >= 0:
            c_close(self.lock_fd)
        for k in range(SEGMENT_CHUNKS):
            free(self.segment_chunks[k])
        for k in range(INDEX_CHUNKS):
            free(self.chunks[k])
        if self.reading != NULL:
            PyThread_free_lock(self.reading)

    # --- segments: in chunks that double, as the index's entries ---------------------------------------------------

    cdef Segment* segment(self, uint64_t i) noexcept nogil:
        cdef uint64_t at = i + SEGMENT_CHUNK
        cdef int chunk = rw_log2(at) - rw_log2(SEGMENT_CHUNK)
        return &self.segment_chunks[chunk][at - (<uint64_t>SEGMENT_CHUNK << chunk)]

    cdef Segment* last_segment(self) noexcept nogil:
        return self.segment(self.segment_total - 1) if self.segment_total > self.segments_removed else NULL

    cdef Segment* new_segment(self) noexcept nogil:
        cdef uint64_t at = self.segment_total + SEGMENT_CHUNK
        cdef int chunk = rw_log2(at) - rw_log2(SEGMENT_CHUNK)
        cdef Segment* segment
        if chunk >= SEGMENT_CHUNKS:
            return NULL
        if self.segment_chunks[chunk] == NULL:
            self.segment_chunks[chunk] = <Segment*>calloc(<size_t>SEGMENT_CHUNK << chunk, sizeof(Segment))
            if self.segment_chunks[chunk] == NULL:
                return NULL
        segment = self.segment(self.segment_total)
        memset(segment, 0, sizeof(Segment))
        segment.mapping = <Mapping*>calloc(1, sizeof(Mapping))
        if segment.mapping == NULL:
            return NULL
        segment.mapping.holders = 1
        segment.fd = -1
        segment.first_index = self.committed
        return segment

    cdef Segment* segment_of(self, uint64_t index) noexcept nogil:
        """The segment that holds a frame; nearly always the last."""
        cdef uint64_t low = self.segments_removed, high = rw_load_acquire(&self.segment_total) - 1, middle
        if self.segment(high).first_index <= index:
            return self.segment(high)
        while low < high:               # the last one that begins at or before it
            middle = (low + high + 1) >> 1
            if self.segment(middle).first_index <= index:
                low = middle
            else:
                high = middle - 1
        return self.segment(low)

    cdef uint64_t frame_end(self, uint64_t i) noexcept nogil:
        """The index behind the last frame of segment i."""
        return self.segment(i + 1).first_index if i + 1 < self.segment_total else self.frames()

    cdef void begin_reading(self) noexcept nogil:
        PyThread_acquire_lock(self.reading, WAIT_LOCK)

    cdef void end_reading(self) noexcept nogil:
        PyThread_release_lock(self.reading)

    # --- the index: chunks that double, so that entries never move under a reader ---------------------------------

    cdef int add_entry(self, uint64_t first_seq, const uint8_t* data) noexcept nogil:
        cdef uint64_t at = self.committed + INDEX_CHUNK
        cdef int chunk = rw_log2(at) - rw_log2(INDEX_CHUNK)
        cdef uint64_t length = <uint64_t>INDEX_CHUNK << chunk
        cdef FrameEntry* entry
        if chunk >= INDEX_CHUNKS:
            return -1
        if self.chunks[chunk] == NULL:
            self.chunks[chunk] = <FrameEntry*>malloc(length * sizeof(FrameEntry))
            if self.chunks[chunk] == NULL:
                return -1
        entry = self.chunks[chunk] + (at - length)
        entry.first_seq = first_seq
        entry.data = data
        self.next_seq_ = first_seq + (<const FrameHeader*>data).record_count
        rw_store_release(&self.committed, self.committed + 1)
        return 0

    cdef uint64_t frames(self) noexcept nogil:
        return rw_load_acquire(&self.committed)

    cdef uint64_t first_frame(self) noexcept nogil:
        return rw_load_acquire(&self.frames_removed)

    cdef uint64_t first_kept(self) noexcept nogil:
        return rw_load_acquire(&self.kept_from)

    cdef const uint8_t* frame_at(self, uint64_t index) noexcept nogil:
        return self.entry(index).data

    cdef void view_at(self, uint64_t index, FrameView* view) noexcept nogil:
        cdef const uint8_t* data = self.frame_at(index)
        frame_view(data, frame_bytes(data), view)

    cdef FrameEntry* entry(self, uint64_t index) noexcept nogil:
        cdef uint64_t at = index + INDEX_CHUNK
        cdef int chunk = rw_log2(at) - rw_log2(INDEX_CHUNK)
        return &self.chunks[chunk][at - (<uint64_t>INDEX_CHUNK << chunk)]

    cdef uint64_t index_of(self, uint64_t seq) noexcept nogil:
        cdef uint64_t count = self.frames(), first = self.first_frame(), low = first, high = count, middle
        cdef const FrameEntry* found
        while low < high:               # the first frame that starts above seq
            middle = (low + high) >> 1
            if self.entry(middle).first_seq > seq:
                high = middle
            else:
                low = middle + 1
        if low == first:
            return count
        found = self.entry(low - 1)
        return low - 1 if seq < found.first_seq + (<const FrameHeader*>found.data).record_count else count

    cdef const uint8_t* find(self, uint64_t seq) noexcept nogil:
        cdef uint64_t index = self.index_of(seq)
        return self.frame_at(index) if index < self.frames() else NULL

    cdef uint64_t last(self) noexcept nogil:
        cdef uint64_t count = self.frames()
        cdef const FrameHeader* header
        if count == self.first_frame():
            return self.first_kept() - 1
        header = <const FrameHeader*>self.frame_at(count - 1)
        return header.first_seq + header.record_count - 1

    cdef int send(self, void* socket, uint64_t index, int flags) noexcept nogil:
        cdef const uint8_t* data = self.frame_at(index)
        return send_borrowed(socket, data, frame_bytes(data), flags, release_message, hold_mapping(self, index))

    # --- writing ---------------------------------------------------------------------------------------------------

    cdef uint8_t* reserve(self, size_t size) noexcept nogil:
        cdef size_t need = aligned(size) + SEAL_BYTES + 8
        cdef Segment* segment = self.last_segment()
        if self.sync_failed:
            return NULL
        # A segment that was made larger for one frame's sake is filled no further than others.
        if (segment != NULL and segment.used + need <= segment.capacity
                and (segment.used < self.segment_bytes_max or segment.used + need <= self.segment_bytes_max)):
            self.reserved_at = segment.base + segment.used
            return self.reserved_at
        if self.add_segment(need) < 0:
            return NULL
        segment = self.last_segment()
        self.reserved_at = segment.base + segment.used
        return self.reserved_at

    cdef size_t reserved_room(self) noexcept nogil:
        cdef const Segment* segment = self.last_segment()
        cdef size_t capacity = min(segment.capacity, self.segment_bytes_max), taken = segment.used + SEAL_BYTES + 16
        return capacity - taken if capacity > taken else 0

    cdef int commit(self, size_t size) noexcept nogil:
        cdef Segment* segment = self.last_segment()
        cdef uint8_t* data = self.reserved_at
        if self.add_entry((<const FrameHeader*>data).first_seq, data) < 0:
            self.error_number = ENOMEM
            return -1
        segment.used += aligned(size)
        if segment.used >= self.touch_at:
            self.touch_ahead(segment)
        return 0

    cdef void touch_ahead(self, const Segment* segment) noexcept nogil:
        """Have pages touched behind what is used, until a quarter of the segment, or what TOUCH_BYTES_MAX says, is ahead: two
        steps at each step, for a burst would keep a processor from the writer itself."""
        cdef size_t ahead = segment.used + min(segment.capacity >> 2, <size_t>TOUCH_BYTES_MAX)
        cdef size_t start = max(self.touched, segment.used & ~<size_t>4095)
        cdef size_t end = min(min(ahead & ~<size_t>4095, segment.capacity), start + 2 * TOUCH_STEP)
        self.touch_at = segment.used + TOUCH_STEP
        # Pages that wait for the disk would wait twice: once as zeros.
        if self.group or start >= end:
            return
        self.touched = end
        if not rw_ahead_ask(&self.ahead, segment.base + start, end - start, segment.fd >= 0):
            self.touch_at = <size_t>-1

    def touch_room(self, *, bint wait=False):
        """Have the pages of the room that was made in advance touched: in a thread, behind what else that has to touch, or at
        once (``wait``). Before the first frame."""
        if self.room == NULL:
            return
        if wait:
            with nogil:
                rw_touch(self.room, self.room_bytes)
        elif not rw_ahead_ask(&self.ahead, self.room, self.room_bytes, False):
            return
        self.touched = self.room_bytes

    cdef const uint8_t* append(self, const uint8_t* data, size_t size) noexcept nogil:
        cdef uint8_t* at = self.reserve(size)
        if at == NULL:
            return NULL
        memcpy(at, data, size)
        return at if self.commit(size) == 0 else NULL

    cdef int sync(self) noexcept nogil:
        if self.sync_segments() < 0:
            return -1
        if self.group:
            self.note_durable()
        return 0

    cdef void note_durable(self) noexcept nogil:
        """Write down what is on the disk, so that the next start can tell damage from what a power cut took. It gets
        there with the next sync; until then less is claimed than is true."""
        if self.last_segment() != NULL and self.path_chars != NULL:
            rw_store_release(&(<SegmentHeader*>self.last_segment().base).durable, durable_mark(self.next_seq_ - 1))

    cdef int sync_segments(self) noexcept nogil:
        cdef uint64_t i
        cdef int error
        cdef Segment* segment
        if self.sync_failed:
            return -1
        for i in range(self.segment_total, self.segments_removed, -1):
            segment = self.segment(i - 1)
            if segment.synced >= segment.used or segment.fd < 0:
                return 0
            error = rw_datasync(segment.fd)
            if error:
                # The system may have dropped what it could not write, and say that all is well the next time.
                self.error_number = error
                self.sync_failed = True
                return -1
            segment.synced = segment.used
        return 0

    cdef int add_segment(self, size_t need) noexcept nogil:
        """Start the next segment, larger than the one before up to the limit, and trim that one."""
        cdef size_t size = SEGMENT_BYTES_FIRST
        cdef Segment* before = self.last_segment()
        cdef Segment* segment
        cdef SegmentHeader header
        cdef int error
        # Before there is a next one, all of this one is on the disk: only a last segment has a tail to lose.
        if self.group and before != NULL and self.sync_segments() < 0:
            return -1
        if before != NULL:
            size = before.capacity * 4
        if size > self.segment_bytes_max:
            size = self.segment_bytes_max
        if size < need + SEGMENT_HEADER_BYTES:
            size = (need + SEGMENT_HEADER_BYTES + 4095) & ~<size_t>4095
        segment = self.new_segment()
        if segment == NULL:
            self.error_number = ENOMEM
            return -1
        segment.number = before.number + 1 if before != NULL else self.first_number
        if self.path_chars != NULL:
            segment.fd = self.make_file(segment.number, size)
            if segment.fd < 0:
                free(segment.mapping)
                return -1
        if self.room != NULL and size <= self.room_bytes:
            segment.base, size = self.room, self.room_bytes
            self.room = NULL
        else:
            segment.base = rw_map(segment.fd, size, True)
            self.touched = 0
        if segment.base == NULL:
            self.error_number = errno
            if segment.fd >= 0:
                c_close(segment.fd)
            free(segment.mapping)
            return -1
        memset(&header, 0, sizeof(header))
        header.magic = SEGMENT_MAGIC
        header.version = SEGMENT_VERSION
        header.number = segment.number
        header.epoch = self.epoch
        header.first_seq = self.next_seq_
        header.previous_bytes = before.used if before != NULL else self.bytes_before
        header.crc32c = header_crc(&header)
        if self.group:
            header.durable = durable_mark(self.next_seq_ - 1)
        memcpy(segment.base, &header, sizeof(header))
        if self.group:
            error = rw_datasync(segment.fd)
            if error:
                self.error_number = error
                self.sync_failed = True
                munmap(segment.base, size)
                c_close(segment.fd)
                free(segment.mapping)
                return -1
        segment.mapping.base = segment.base
        segment.mapping.capacity = segment.capacity = size
        segment.used = SEGMENT_HEADER_BYTES
        segment.synced = 0
        self.touch_at = 0 if before != NULL else size >> 2      # few journals grow so long
        rw_store_release(&self.segment_total, self.segment_total + 1)
        if before != NULL and before.fd >= 0:
            # What lies behind the last frame is given back; the pages before it stay mapped.
            ftruncate(before.fd, before.used)
        return 0

    cdef int make_file(self, uint64_t number, size_t size) noexcept nogil:
        """Create and preallocate a segment's file: its descriptor, or -1 with error_number."""
        cdef char name[4096]
        cdef int fd, error
        # An unfinished file of an attempt that ran out of space is taken up again.
        if snprintf(name, sizeof(name), "%s/%08llu.rwj", self.path_chars, <unsigned long long>number) >= 4096:
            self.error_number = errno
            return -1
        fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if fd < 0:
            self.error_number = errno
            return -1
        error = rw_preallocate(fd, size)
        if error == 0 and self.group:
            error = rw_sync_directory(self.path_chars)
            self.sync_failed = error != 0
        if error:
            ftruncate(fd, 0)
            c_close(fd)
            self.error_number = error
            return -1
        return fd

    # --- opening and closing ---------------------------------------------------------------------------------------

    def _lock(self):
        name = os.path.join(self.directory, LOCK_NAME)
        self.lock_fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self.lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise JournalBusy(
                f"{self.directory}: another engine (process {owner}) has this journal open; "
                "stop it, or choose another --journal"
            ) from None
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, f"{os.getpid()}\n".encode(), 0)

    def _load(self):
        """Map and check what is there. Another process that removes segments meanwhile makes a reader begin again."""
        tries = LOAD_TRIES if not self.writable else 1
        while True:
            tries -= 1
            try:
                self._load_base()
                self._load_segments()
                break
            except (FileNotFoundError, JournalError):
                base = read_base(self.directory) if tries else None
                if base is None or self._is_at(base):
                    raise
                self._forget_all()
        if self.group and self.writable:
            self._sync_what_was_left()
        elif self.writable and self.last_segment() != NULL:
            (<SegmentHeader*>self.last_segment().base).durable = 0    # nobody keeps it up

    def _is_at(self, Base base not None):
        return self.base is not None and self.base.header.first_segment == base.header.first_segment

    def _forget_all(self):
        cdef uint64_t i
        for i in range(self.segment_total):
            self.close_segment(i)
            release_mapping(self.segment(i).mapping)
        self.segment_total = self.committed = 0
        self.sealed = False
        self.recovered = None

    def _load_base(self):
        self.base = read_base(self.directory)
        self.first_number = self.next_seq_ = 1
        self.bytes_before = self.frames_before = 0
        if self.base is not None:
            self.frames_before = self.base.header.frames
            self.first_number = self.base.header.first_segment
            self.next_seq_ = self.base.header.first_seq
            self.bytes_before = self.base.header.previous_bytes
        self.kept_from = self.next_seq_

    def _load_segments(self):
        names = sorted(name for name in os.listdir(self.directory) if SEGMENT_NAME.fullmatch(name))
        removed = [name for name in names if int(name[:8]) < self.first_number]
        names = names[len(removed):]
        if removed and self.writable:
            self._finish_removal(removed)
        if self.base is not None and not names:
            names = ["none"]
        for number, name in enumerate(names, self.first_number):
            if name == "none" or int(name[:8]) != number:
                raise JournalError(
                    f"{self.directory}: segment {number:08d}.rwj is missing ({name} comes next); "
                    "restore it from a backup"
                )
        last_number = self.first_number + len(names) - 1
        for number, name in enumerate(names, self.first_number):
            if self.only is not None and not self.only[0] <= number <= self.only[1]:
                continue
            if not self._map_segment(number, name, number == last_number):
                return
            self._scan_segment(self.segment_total - 1, name, number == last_number)

    def _finish_removal(self, names):
        """Remove the segments that a base stands for and that a killed process had not removed yet."""
        error = rw_sync_directory(self.path_chars)
        if error:
            raise OSError(error, os.strerror(error), self.directory)
        for name in names:
            os.unlink(os.path.join(self.directory, name))

    def _sync_what_was_left(self):
        """What a killed process wrote and did not sync may be acked as a duplicate from now on."""
        cdef uint64_t i
        for i in range(self.segment_total):
            self.segment(i).synced = 0
        if self.sync() < 0:
            raise OSError(self.error_number, os.strerror(self.error_number), self.directory)

    def _map_segment(self, uint64_t number, name, bint last):
        """Map a segment and check its header. False: it is the unfinished beginning of a segment, now removed."""
        cdef size_t size
        cdef Segment* segment
        path = os.path.join(self.directory, name)
        fd = os.open(path, (os.O_RDWR if self.writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if last and self.writable and size >= SEGMENT_HEADER_BYTES:
                size = max(size + SEAL_BYTES, min(self.segment_bytes_max, max(size * 2, SEGMENT_BYTES_FIRST)))
                size = (size + 4095) & ~<size_t>4095
                error = rw_preallocate(fd, size)
                if error:
                    raise OSError(error, os.strerror(error), path)
            if size < SEGMENT_HEADER_BYTES:
                return self._drop_unfinished(path, name, size, last, b"")
            segment = self.new_segment()
            if segment == NULL:
                raise MemoryError
            segment.base = rw_map(fd, size, self.writable)
            if segment.base == NULL:
                free(segment.mapping)
                raise OSError(errno, os.strerror(errno), path)
            segment.mapping.base = segment.base
            segment.mapping.capacity = segment.capacity = size
            segment.used = SEGMENT_HEADER_BYTES
            segment.synced = 0
            segment.number = number
            self.segment_total += 1
            if not self._header_is_good(self.segment_total - 1, name, last):
                self.segment_total -= 1
                release_mapping(segment.mapping)
                return self._drop_unfinished(path, name, size, last, None)
            segment.fd = fd
            fd = -1
            return True
        finally:
            if fd >= 0:
                os.close(fd)

    cdef bint _header_is_good(self, uint64_t i, name, bint last) except -1:
        cdef Segment* segment = self.segment(i)
        cdef const SegmentHeader* header = <const SegmentHeader*>segment.base
        cdef uint64_t previous = self.segment(i - 1).used if i else self.bytes_before
        if header.magic != SEGMENT_MAGIC or header.crc32c != header_crc(header):
            if last and is_zero(segment.base + SEGMENT_HEADER_BYTES, segment.capacity - SEGMENT_HEADER_BYTES):
                return False
            raise JournalError(
                f"{self.directory}: segment {name} is damaged at offset 0: no valid header; restore it from a backup"
            )
        if self.only is not None and i == 0:
            self.next_seq_ = self.kept_from = header.first_seq
            previous = header.previous_bytes
        if header.version != SEGMENT_VERSION:
            raise JournalError(
                f"{self.directory}: segment {name} has version {header.version}; this riskwire reads version "
                f"{SEGMENT_VERSION}"
            )
        if header.number != segment.number or header.first_seq != self.next_seq_ or header.previous_bytes != previous:
            where = f"{segment.number - 1:08d}.rwj is damaged at offset {previous}" if i else (
                f"{name} is damaged at offset 0")
            raise JournalError(
                f"{self.directory}: segment {where}: it ends with seq {self.next_seq_ - 1}, but {name} goes on with "
                f"{header.first_seq}; restore it from a backup"
            )
        return True

    def _drop_unfinished(self, path, name, size_t size, bint last, content):
        if not last:
            raise JournalError(f"{self.directory}: segment {name} is damaged at offset 0: {size} bytes; "
                               "restore it from a backup")
        self.recovered = (name, 0, size)
        if self.writable:
            os.unlink(path)
        return False

    cdef int _scan_segment(self, uint64_t i, name, bint last) except -1:
        """Index the frames of a segment; cut a torn tail of the last one, refuse damage anywhere else."""
        cdef Segment* segment = self.segment(i)
        cdef size_t offset = SEGMENT_HEADER_BYTES, size = segment.capacity, spoilt
        cdef FrameView view
        cdef int error = 0
        cdef uint64_t durable = self._durable(segment, name)    # before the frames: a writer goes on meanwhile
        while offset + HEADER_BYTES <= size and (<const uint32_t*>(segment.base + offset))[0] == FRAME_MAGIC:
            error = open_at(segment.base, offset, size, &view)
            if error == 0 and view.header.first_seq != self.next_seq_:
                raise JournalError(
                    f"{self.directory}: segment {name} is damaged at offset {offset}: seq {view.header.first_seq} where "
                    f"{self.next_seq_} was expected; restore it from a backup"
                )
            if error:
                break
            if self.add_entry(view.header.first_seq, segment.base + offset) < 0:
                raise MemoryError
            self.epoch = view.header.epoch
            spoilt = offset + view.size
            offset += aligned(view.size)
            if not is_zero(segment.base + spoilt, min(offset, size) - spoilt):
                self._take_spoilt(segment, name, spoilt, offset, last)
        segment.used = offset
        segment.synced = offset
        if not last:
            if not is_zero(segment.base + offset, size - offset if size > offset else 0):
                self._damaged(name, offset, error)
            return 0
        self._finish_scan(segment, name, offset, error, durable)
        return 0

    cdef uint64_t _durable(self, Segment* segment, name) except? 0:
        """The seq up to which a segment says that all is on the disk, plus 1; 0: it does not say."""
        cdef uint64_t mark = rw_load_acquire(&(<const SegmentHeader*>segment.base).durable)
        cdef uint64_t seq = mark & ((<uint64_t>1 << 48) - 1)
        if mark == 0:
            return 0
        if mark != durable_mark(seq):
            raise JournalError(f"{self.directory}: segment {name} is damaged at offset 48: the mark of what is on the disk; "
                               "restore it from a backup")
        return seq + 1

    cdef int _take_spoilt(self, Segment* segment, name, size_t spoilt, size_t offset, bint last) except -1:
        """Bytes behind a good frame that are not zero: behind the last one of a torn journal they are cut."""
        if not last or is_seal(segment.base, offset, segment.capacity) or self._something_whole_after(segment, offset - 8):
            self._damaged(name, spoilt, -3)
        self.recovered = (name, spoilt, offset - spoilt)
        if self.writable:
            memset(segment.base + spoilt, 0, offset - spoilt)
        return 0

    cdef int _finish_scan(self, Segment* segment, name, size_t offset, int error, uint64_t durable) except -1:
        cdef Seal seal
        cdef size_t end = segment.capacity
        if is_seal(segment.base, offset, segment.capacity):
            seal = (<const Seal*>(segment.base + offset))[0]
            if seal.last_seq != self.next_seq_ - 1 or (self.only is None
                                                       and seal.frames != self.frames_before + self.committed):
                self._damaged(name, offset, -2)
            self.sealed = True
            self.epoch = seal.epoch
            if self.writable:
                memset(segment.base + offset, 0, SEAL_BYTES)
            return 0
        # Not closed: whoever wrote it may have lost unsynced frames, so the tail starts a new life.
        if self.writable:
            self.epoch = random_epoch()
        if self.next_seq_ < durable:
            self._damaged(name, offset, -4)
        if is_zero(segment.base + offset, segment.capacity - offset):
            return 0
        # Beyond what is known to be on the disk, a power cut may have taken one frame and left the next: neither was acked.
        if durable == 0 and self._something_whole_after(segment, offset):
            self._damaged(name, offset, error)
        while end > offset and segment.base[end - 1] == 0:
            end -= 1
        self.recovered = (name, offset, end - offset)
        if self.writable:
            memset(segment.base + offset, 0, end - offset)
        return 0

    cdef bint _something_whole_after(self, Segment* segment, size_t offset) noexcept:
        """Whether a good frame or a seal lies beyond the bad place: then that is damage and not a torn tail."""
        cdef FrameView view
        cdef uint32_t magic
        for offset in range(aligned(offset + 1), segment.capacity - 8, 8):
            magic = (<const uint32_t*>(segment.base + offset))[0]
            if magic == SEAL_MAGIC and is_seal(segment.base, offset, segment.capacity):
                return True
            if (magic == FRAME_MAGIC and open_at(segment.base, offset, segment.capacity, &view) == 0
                    and view.header.first_seq >= self.next_seq_):
                return True
        return False

    def _damaged(self, name, offset, error):
        what = {0: "bytes that are no frame", -1: "a frame of another kind", -2: "the seal counts other frames",
                -3: "bytes that are not zero behind a frame", -4: "what was on the disk is not there"}.get(
            error) or FRAME_ERRORS.get(error, f"frame error {error}")
        why = "" if error == -4 else "; frames follow it, so this is no torn tail"
        raise JournalError(
            f"{self.directory}: segment {name} is damaged at offset {offset}: {what}{why}: restore the file from a backup"
        )

    def close(self):
        """Seal the journal, trim its last file and give back the lock. Frames on their way out stay valid."""
        cdef Segment* segment
        cdef Seal seal
        if self.closed:
            return
        self.closed = True
        if self.writable and self.path is not None and self.last_segment() != NULL and not self.sync_failed:
            segment = self.last_segment()
            memset(&seal, 0, sizeof(seal))
            seal.magic = SEAL_MAGIC
            seal.offset = segment.used
            seal.last_seq = self.next_seq_ - 1
            seal.frames = self.frames_before + self.committed
            seal.epoch = self.epoch
            seal.crc32c = seal_crc(&seal)
            memcpy(segment.base + segment.used, &seal, sizeof(seal))
            ftruncate(segment.fd, segment.used + SEAL_BYTES)
            segment.synced = 0
            if self.sync_mode != "off" and self.sync() < 0:
                raise OSError(self.error_number, os.strerror(self.error_number), self.directory)
        self._close_files()

    def _close_files(self):
        cdef uint64_t i
        for i in range(self.segments_removed, self.segment_total):
            self.close_segment(i)
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def abandon(self):
        """Close without sealing, as a killed process would leave it (for tests)."""
        self.closed = True
        self._close_files()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- the Python face -------------------------------------------------------------------------------------------

    def append_frame(self, const unsigned char[::1] frame not None):
        """Append a copy of a sealed sequenced frame whose first_seq is ``last_seq + 1``. Raises ValueError, OSError."""
        cdef FrameView view
        cdef int error = frame_open(&frame[0], frame.shape[0], True, &view) if frame.shape[0] else 1
        if error or view.header.kind != FRAME_SEQUENCED or view.header.record_count == 0:
            raise ValueError(f"not a sequenced frame: {FRAME_ERRORS.get(error, 'its kind or count')}")
        if view.header.first_seq != self.next_seq_:
            raise ValueError(f"frame starts at seq {view.header.first_seq}; expected {self.next_seq_}")
        if not self.writable or self.closed:
            raise ValueError("the journal is not open for writing")
        if self.append(&frame[0], frame.shape[0]) == NULL:
            raise OSError(self.error_number, os.strerror(self.error_number), self.directory)

    def flush(self):
        """Make all frames survive a power loss. Raises OSError."""
        cdef int status
        with nogil:
            status = self.sync()
        if status < 0:
            raise OSError(self.error_number, os.strerror(self.error_number), self.directory)

    def frame(self, uint64_t seq):
        """Return a copy of the frame that holds ``seq``, or None."""
        cdef const uint8_t* data = self.find(seq)
        return None if data == NULL else (<const char*>data)[:frame_bytes(data)]

    def frame_by_index(self, uint64_t index):
        """Return a copy of frame ``index``, counted from 0 for the first one there was when the journal was opened."""
        if not self.first_frame() <= index < self.frames():
            raise IndexError(f"frame {index} of {self.first_frame()} to {self.frames()}")
        cdef const uint8_t* data = self.frame_at(index)
        return (<const char*>data)[:frame_bytes(data)]

    def __iter__(self):
        """Yield copies of the frames committed so far, in order."""
        cdef uint64_t index
        for index in range(self.first_frame(), self.frames()):
            yield self.frame_by_index(index)

    def __len__(self):
        return self.frames() - self.first_frame()

    @property
    def first_seq(self):
        """The first seq kept; 1 where nothing was removed."""
        return self.first_kept()

    @property
    def last_seq(self):
        """The last seq; 0 where there is none."""
        return self.last()

    @property
    def next_seq(self):
        return self.last() + 1

    @property
    def used_bytes(self):
        """Bytes written, headers of segments included."""
        cdef uint64_t i, total = 0
        for i in range(self.segments_removed, self.segment_total):
            total += self.segment(i).used
        return total

    @property
    def segment_count(self):
        return self.segment_total - self.segments_removed

    def segments(self):
        """Describe the segments that are kept, in order: a list of (number, first seq, bytes used, stamp of the last
        frame in ns). The last one is still being written."""
        cdef uint64_t i, end
        cdef const FrameHeader* header
        found = []
        for i in range(self.segments_removed, self.segment_total):
            header = <const FrameHeader*>self.segment(i).base
            end = self.frame_end(i)
            stamp = (<const FrameHeader*>self.frame_at(end - 1)).stamped_at if end > self.segment(i).first_index else 0
            found.append((self.segment(i).number, (<const SegmentHeader*>header).first_seq, self.segment(i).used, stamp))
        return found

    # --- finding by time -------------------------------------------------------------------------------------------

    def seq_at(self, int64_t at):
        """The first seq that was numbered at a time or later (ns since 1970 UTC); None: there is none yet. Where the
        clock was set back, one of those that come into question."""
        cdef uint64_t low = self.first_frame(), high = self.frames(), count = high, middle
        while low < high:
            middle = (low + high) >> 1
            if (<const FrameHeader*>self.frame_at(middle)).stamped_at < at:
                low = middle + 1
            else:
                high = middle
        return self.entry(low).first_seq if low < count else None

    def segment_index(self, uint64_t number):
        """The content of a segment's index file (docs/wire-format.md); it must hold a frame."""
        cdef uint64_t i = self._place_of(number), end = self.frame_end(i)
        cdef Bytes blocks, definitions
        cdef IndexHeader header
        cdef const FrameHeader* last
        cdef int status
        if end == self.segment(i).first_index:
            raise ValueError(f"segment {number} holds no frame")
        memset(&blocks, 0, sizeof(Bytes))
        memset(&definitions, 0, sizeof(Bytes))
        try:
            with nogil:
                status = self.add_to_index(i, &blocks, &definitions)
            if status < 0:
                raise MemoryError
            last = <const FrameHeader*>self.frame_at(end - 1)
            memset(&header, 0, sizeof(header))
            header.magic = INDEX_MAGIC
            header.version = INDEX_VERSION
            header.segment_crc32c = (<const SegmentHeader*>self.segment(i).base).crc32c
            header.number = number
            header.first_seq = self.entry(self.segment(i).first_index).first_seq
            header.last_seq = last.first_seq + last.record_count - 1
            header.used = self.segment(i).used
            header.blocks = <uint32_t>(blocks.size // sizeof(IndexBlock))
            header.definitions = <uint32_t>(definitions.size // 8)
            header.crc32c = crc32c(<const uint8_t*>&header, sizeof(header), 0)
            header.crc32c = crc32c(blocks.data, blocks.size, header.crc32c)
            header.crc32c = crc32c(definitions.data, definitions.size, header.crc32c)
            return ((<const char*>&header)[:sizeof(header)] + (<const char*>blocks.data)[:blocks.size]
                    + (<const char*>definitions.data)[:definitions.size])
        finally:
            bytes_free(&blocks)
            bytes_free(&definitions)

    cdef int add_to_index(self, uint64_t i, Bytes* blocks, Bytes* definitions) noexcept nogil:
        cdef uint64_t index, offset
        cdef const FrameHeader* header
        cdef IndexBlock fresh
        cdef IndexBlock* block = NULL
        for index in range(self.segment(i).first_index, self.frame_end(i)):
            header = <const FrameHeader*>self.frame_at(index)
            offset = <const uint8_t*>header - self.segment(i).base
            if header.definition_bytes and bytes_append(definitions, &offset, 8) < 0:
                return -1
            if block == NULL or offset - block.offset >= INDEX_BLOCK_BYTES:
                fresh.first_seq = header.first_seq
                fresh.offset = offset
                fresh.stamp_min = fresh.stamp_max = header.stamped_at
                if bytes_append(blocks, &fresh, sizeof(fresh)) < 0:
                    return -1
                block = <IndexBlock*>(blocks.data + blocks.size - sizeof(IndexBlock))
            block.stamp_min = min(block.stamp_min, header.stamped_at)
            block.stamp_max = max(block.stamp_max, header.stamped_at)
        return 0

    # --- removing the beginning ------------------------------------------------------------------------------------

    def latest_trade(self, uint64_t number):
        """The highest executed_at of the trades in a segment, by its number; None: there is no trade in it."""
        cdef uint64_t i = self._place_of(number), index
        cdef const FrameHeader* header
        cdef const Record* records
        cdef uint32_t k
        cdef int64_t latest = INT64_MIN
        cdef bint found = False
        with nogil:
            for index in range(self.segment(i).first_index, self.frame_end(i)):
                header = <const FrameHeader*>self.frame_at(index)
                records = <const Record*>(<const uint8_t*>header + HEADER_BYTES)
                for k in range(header.record_count):
                    if records[k].type == EVENT_TRADE:
                        found = True
                        if records[k].executed_at > latest:
                            latest = records[k].executed_at
        return latest if found else None

    def _place_of(self, uint64_t number):
        cdef uint64_t i
        for i in range(self.segments_removed, self.segment_total):
            if self.segment(i).number == number:
                return i
        raise ValueError(f"there is no segment {number}")

    def base_after(self, uint64_t number):
        """Return what a start needs of everything up to and with a segment, which must not be the last one."""
        cdef Base base = self.base.copy() if self.base is not None else Base()
        cdef uint64_t i, end = self._place_of(number) + 1
        cdef int status = 0
        if end >= self.segment_total:
            raise ValueError(f"segment {number} is the last one, which is never removed")
        with nogil:
            for i in range(self.segments_removed, end):
                status = self.absorb_segment(i, base)
                if status < 0:
                    break
        if status < 0:
            raise MemoryError
        return base

    cdef int absorb_segment(self, uint64_t i, Base base) noexcept nogil:
        cdef uint64_t index
        cdef FrameView view
        for index in range(self.segment(i).first_index, self.segment(i + 1).first_index):
            self.view_at(index, &view)
            if base.absorb(&view) < 0:
                return -1
        base.end_segment(self.segment(i).number, self.segment(i).used,
                         (<const SegmentHeader*>self.segment(i + 1).base).first_seq)
        return 0

    def let_go(self, Base base not None):
        """Stop to know the segments that a base, written down already, stands for. Only in the writer's thread."""
        cdef uint64_t i = self.segments_removed
        while self.segment(i).number < base.header.first_segment:
            i += 1
        self.begin_reading()
        self.base = base
        rw_store_release(&self.kept_from, base.header.first_seq)
        rw_store_release(&self.frames_removed, self.segment(i).first_index)
        self.end_reading()
        if self.path is None:
            rw_ahead_stop(&self.ahead)           # which may be behind in what goes now
        while self.segments_removed < i:
            self.close_segment(self.segments_removed)
            release_mapping(self.segment(self.segments_removed).mapping)
            self.segments_removed += 1

    def free(self):
        """Close a journal in memory and give that back, but for what others hold on to: nothing more can be read of it.

        When its writer and its readers have ended; what else runs goes on meanwhile. Raises ValueError for one with files.
        """
        cdef uint64_t i = self.segments_removed, end = self.segment_total
        if self.path is not None:
            raise ValueError(f"{self.directory}: only a journal in memory can be freed; close this one")
        self.close()
        rw_store_release(&self.kept_from, self.next_seq_)
        rw_store_release(&self.frames_removed, self.committed)
        self.segments_removed = end
        rw_ahead_stop(&self.ahead)
        with nogil:
            while i < end:
                release_mapping(self.segment(i).mapping)
                i += 1

    cdef object close_segment(self, uint64_t i):
        if self.segment(i).fd >= 0:
            c_close(self.segment(i).fd)
            self.segment(i).fd = -1


def random_epoch():
    """A new epoch: 63 random bits, never 0."""
    return secrets.randbits(63) | 1
