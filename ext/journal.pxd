"""The journal: an append-only store of sequenced frames, in mapped segment files or in memory (docs/wire-format.md)."""

cimport cython
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.ahead cimport rw_ahead
from ext.base cimport Base
from ext.records cimport Bytes, FrameView

cdef enum:
    SEGMENT_MAGIC = 0x314A5752      # "RWJ1"
    SEAL_MAGIC = 0x454A5752         # "RWJE"
    SEGMENT_VERSION = 1
    SEGMENT_HEADER_BYTES = 64
    SEAL_BYTES = 48
    SEGMENT_BYTES_FIRST = 1048576
    SEGMENT_BYTES_MAX = 67108864
    TOUCH_BYTES_MAX = 8388608       # of a segment that are touched before they are written to
    TOUCH_STEP = 131072             # bytes written between two times that more is touched
    INDEX_CHUNK = 1024              # frames in the first chunk of the index; each further chunk is twice as long
    INDEX_CHUNKS = 48
    SEGMENT_CHUNK = 16              # segments in the first chunk of theirs; each further chunk is twice as long
    SEGMENT_CHUNKS = 32

cdef packed struct SegmentHeader:
    uint32_t magic
    uint16_t version
    uint16_t flags                  # 0
    uint64_t number                 # 1, 2, 3 … as in the file's name
    uint64_t epoch                  # when the segment was made
    uint64_t first_seq              # of the first frame in it
    uint64_t previous_bytes         # bytes used in the segment before
    int64_t created_at              # ns since 1970 UTC
    uint64_t durable                # with sync = "group": everything up to this seq is on the disk (a mark; else 0)
    uint32_t reserved
    uint32_t crc32c                 # of the 60 bytes before, with `durable` zero

cdef packed struct Seal:            # after the last frame of a journal that was closed
    uint32_t magic
    uint32_t crc32c                 # of the whole seal with this field zero
    uint64_t offset                 # where the seal lies in its segment
    uint64_t last_seq
    uint64_t frames                 # in the whole journal
    uint64_t epoch
    uint64_t reserved

cdef enum:
    INDEX_MAGIC = 0x31495752        # "RWI1"
    INDEX_VERSION = 1
    INDEX_HEADER_BYTES = 64
    INDEX_BLOCK_BYTES = 65536       # of frames behind one entry, at least

cdef packed struct IndexHeader:     # of a segment that is full: 00000001.rwi beside it
    uint32_t magic
    uint32_t version
    uint32_t crc32c                 # of the whole file with this field zero
    uint32_t segment_crc32c         # of the segment's header, so that an index is of this segment
    uint64_t number
    uint64_t first_seq
    uint64_t last_seq
    uint64_t used                   # bytes of the segment
    uint32_t blocks                 # IndexBlock each, then
    uint32_t definitions            # a u64 each: where a frame lies that defines names
    uint64_t reserved

cdef packed struct IndexBlock:      # frames from here to the next block
    uint64_t first_seq
    uint64_t offset
    int64_t stamp_min               # when they were numbered, ns; a clock may be set back
    int64_t stamp_max

cdef struct Mapping:                # of one segment; lives on while libzmq still sends from it, also without the Journal
    int64_t holders                 # the Journal and each message on its way
    uint8_t* base
    size_t capacity                 # bytes mapped

cdef struct Segment:
    Mapping* mapping                # NULL: removed
    uint8_t* base
    size_t capacity                 # bytes mapped
    size_t used                     # bytes written, header included, a multiple of 8
    size_t synced                   # bytes known to be on the disk
    int fd                          # -1: memory, or closed
    uint64_t number
    uint64_t first_index            # of its first frame

cdef struct FrameEntry:
    uint64_t first_seq
    const uint8_t* data             # 8-byte aligned

# One more hold on the segment of a frame, from any thread that may read it; and given back, the last one unmaps it.
cdef Mapping* hold_mapping(Journal journal, uint64_t index) noexcept nogil
cdef void release_mapping(Mapping* mapping) noexcept nogil
cdef size_t frame_bytes(const uint8_t* data) noexcept nogil       # bytes of a checked frame

@cython.final
cdef class Journal:
    cdef Segment* segment_chunks[32]
    cdef uint64_t segment_total     # those removed since it was opened included
    cdef uint64_t segments_removed
    cdef FrameEntry* chunks[48]
    cdef uint64_t committed         # frames that readers may see, those removed since it was opened included
    cdef uint64_t frames_removed    # since it was opened
    cdef uint64_t kept_from         # the first seq kept
    cdef uint64_t first_number      # of the first segment when it was opened
    cdef object only                # (first, last) numbers of the segments that were opened; None: all
    cdef uint64_t bytes_before      # used in the segment before that
    cdef uint64_t frames_before     # removed before it was opened
    cdef readonly Base base         # what was removed; None: nothing was
    # Held while frames are read in another thread than the writer's, which alone removes any; nobody waits for it long.
    cdef PyThread_type_lock reading
    cdef rw_ahead* ahead            # touches the next pages of the last segment; NULL: nothing does
    cdef uint8_t* room              # of the first segment, made in advance, until it begins; NULL: none
    cdef size_t room_bytes
    cdef size_t touched             # of the last segment, so far; before the first: of the room
    cdef size_t touch_at            # once so much of it is used, more is touched
    cdef uint64_t next_seq_         # writer only
    cdef uint8_t* reserved_at
    cdef bytes path                 # of the directory; None: memory
    cdef const char* path_chars     # the same for nogil code; NULL: memory
    cdef int lock_fd
    cdef readonly object directory
    cdef readonly str sync_mode     # "os", "group", "off"
    cdef readonly bint group
    cdef readonly bint writable
    cdef readonly bint sealed       # was sealed when it was opened
    cdef readonly bint closed
    cdef readonly size_t segment_bytes_max
    cdef public uint64_t epoch
    cdef readonly int error_number  # errno of the last reserve or sync that failed
    cdef readonly bint sync_failed  # nothing more is taken: what was written before may be lost, and nobody can know
    cdef readonly object recovered  # (segment name, offset, bytes) of a torn tail that was cut, or None

    # Writer. Reserve room for a frame of at most `size` bytes; NULL: error_number says why.
    cdef uint8_t* reserve(self, size_t size) noexcept nogil
    # Bytes that a frame at the reserved place can have, should it grow.
    cdef size_t reserved_room(self) noexcept nogil
    # Make the sealed frame that was written at the reserved place visible. 0, or -1 without memory.
    cdef int commit(self, size_t size) noexcept nogil
    cdef const uint8_t* append(self, const uint8_t* data, size_t size) noexcept nogil    # a copy; NULL: error_number
    cdef int sync(self) noexcept nogil                                    # 0, or -1: error_number
    # Bracket what reads frames in a thread of its own while an engine runs.
    cdef void begin_reading(self) noexcept nogil
    cdef void end_reading(self) noexcept nogil

    # Readers, from any thread: only committed frames, whose bytes never move.
    cdef uint64_t frames(self) noexcept nogil
    cdef uint64_t first_frame(self) noexcept nogil                        # the index of the first one kept
    cdef uint64_t first_kept(self) noexcept nogil                         # its seq
    cdef const uint8_t* frame_at(self, uint64_t index) noexcept nogil     # first_frame() <= index < frames()
    # The parts of one, which was checked when the journal was opened, or when it was appended.
    cdef void view_at(self, uint64_t index, FrameView* view) noexcept nogil
    cdef uint64_t index_of(self, uint64_t seq) noexcept nogil             # of the frame that holds seq; frames(): none
    cdef const uint8_t* find(self, uint64_t seq) noexcept nogil           # the frame that holds seq, or NULL
    cdef uint64_t last(self) noexcept nogil                               # the last seq, 0: none
    # Send frame `index` without copying. 0, or minus the error number.
    cdef int send(self, void* socket, uint64_t index, int flags) noexcept nogil

    cdef Segment* segment(self, uint64_t i) noexcept nogil
    cdef Segment* last_segment(self) noexcept nogil                       # NULL: there is none
    cdef Segment* segment_of(self, uint64_t index) noexcept nogil
    cdef Segment* new_segment(self) noexcept nogil                        # not counted yet; NULL: no memory
    cdef uint64_t frame_end(self, uint64_t i) noexcept nogil
    cdef int add_to_index(self, uint64_t i, Bytes* blocks, Bytes* definitions) noexcept nogil
    cdef int absorb_segment(self, uint64_t i, Base base) noexcept nogil
    cdef object close_segment(self, uint64_t i)
    cdef FrameEntry* entry(self, uint64_t index) noexcept nogil
    cdef int add_entry(self, uint64_t first_seq, const uint8_t* data) noexcept nogil
    cdef int sync_segments(self) noexcept nogil
    cdef void note_durable(self) noexcept nogil
    cdef void touch_ahead(self, const Segment* segment) noexcept nogil
    cdef int add_segment(self, size_t need) noexcept nogil
    cdef int make_file(self, uint64_t number, size_t size) noexcept nogil
    cdef bint _header_is_good(self, uint64_t i, name, bint last) except -1
    cdef uint64_t _durable(self, Segment* segment, name) except? 0
    cdef int _scan_segment(self, uint64_t i, name, bint last) except -1
    cdef int _take_spoilt(self, Segment* segment, name, size_t spoilt, size_t offset, bint last) except -1
    cdef int _finish_scan(self, Segment* segment, name, size_t offset, int error, uint64_t durable) except -1
    cdef bint _something_whole_after(self, Segment* segment, size_t offset) noexcept
