"""What the removed beginning of a journal leaves behind: names, units, instruments and limits in force, and identities.

A base is a function of the frames that were removed and of nothing else, so that it can be made while the engine runs, and
so that what starts from it comes to the same as what would read those frames. It is written whole under another name
before the first segment goes (docs/decisions/0031-retention.md).
"""

cimport cython
from libc.stdint cimport INT64_MIN, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from ext.errors import JournalError
from ext.records cimport (
    EVENT_ADJUST, EVENT_INSTRUMENT, EVENT_LIMITS, EVENT_MARK, EVENT_TRADE, Bytes, Definition, FrameView, Record,
    bytes_append, bytes_free, bytes_reserve, crc32c,
)
from ext.records import FrameBuilder

BASE_NAME = "base.rwb"
NAMES_PER_FRAME = 4096
RECORDS_PER_FRAME = 1024

assert sizeof(BaseHeader) == BASE_HEADER_BYTES


@cython.final
cdef class Base:
    """The removed beginning of a journal; a new one: nothing is removed."""

    def __cinit__(self):
        memset(&self.header, 0, sizeof(BaseHeader))
        self.header.magic = BASE_MAGIC
        self.header.version = BASE_VERSION
        self.header.first_segment = 1
        self.header.first_seq = 1
        self.header.latest = INT64_MIN
        self.instruments = {}

    def __dealloc__(self):
        bytes_free(&self.definitions)
        bytes_free(&self.units)
        bytes_free(&self.known)
        bytes_free(&self.texts)

    # --- taking in what goes ---------------------------------------------------------------------------------------

    cdef int absorb(self, const FrameView* view) noexcept nogil:
        cdef uint32_t i
        if bytes_append(&self.definitions, view.definitions, view.header.definition_bytes) < 0:
            return -1
        for i in range(view.header.record_count):
            if self.take_record(view, &view.records[i], view.header.first_seq + i) < 0:
                return -1
        self.header.frames += 1
        self.header.epoch = view.header.epoch
        if view.header.stamped_at > self.header.stamped_at:
            self.header.stamped_at = view.header.stamped_at
        return 0

    cdef int take_record(self, const FrameView* view, const Record* r, uint64_t seq) noexcept nogil:
        cdef Known known
        if r.type == EVENT_TRADE or r.type == EVENT_MARK or r.type == EVENT_ADJUST:
            if self.note_units(r) < 0:
                return -1
        if r.type == EVENT_TRADE:
            self.header.trades += 1
            if r.executed_at > self.header.latest:
                self.header.latest = r.executed_at
            return 0
        if r.type == EVENT_INSTRUMENT or r.type == EVENT_LIMITS:
            if self.keep_in_force(view, r) < 0:
                return -1
        memset(&known, 0, sizeof(known))
        known.seq = seq
        if r.type == EVENT_MARK or r.type == EVENT_ADJUST:
            known.price = r.price
            known.volume = r.volume
        known.text = self.texts.size
        known.type = r.type
        known.id_length = r.id_length
        if bytes_append(&self.texts, view.heap + r.id_offset, r.id_length) < 0:
            return -1
        return bytes_append(&self.known, &known, sizeof(known))

    cdef int note_units(self, const Record* r) noexcept nogil:
        cdef size_t size = (<size_t>r.symbol + 1) * sizeof(BaseUnits)
        cdef BaseUnits* units
        if self.units.size < size:
            if bytes_reserve(&self.units, size - self.units.size) < 0:
                return -1
            memset(self.units.data + self.units.size, 0, size - self.units.size)
            self.units.size = size
        units = <BaseUnits*>self.units.data + r.symbol
        units.price = r.price_exponent
        units.quantity = r.volume_exponent
        units.used = 1
        return 0

    cdef int keep_in_force(self, const FrameView* view, const Record* r) noexcept with gil:
        """Keep the latest definition of each instrument at the place of its first, and the latest limits."""
        cdef size_t ref_length = <size_t>r.volume if r.type == EVENT_LIMITS else r.ref_length
        cdef const char* heap = <const char*>view.heap
        try:
            kept = ((<const char*>r)[:sizeof(Record)], heap[r.id_offset:r.id_offset + r.id_length],
                    heap[r.ref_offset:r.ref_offset + ref_length])
            if r.type == EVENT_LIMITS:
                self.limits = kept
            else:
                self.instruments[r.symbol] = kept
        except MemoryError:
            return -1
        return 0

    cdef void end_segment(self, uint64_t number, uint64_t used, uint64_t next_seq) noexcept nogil:
        self.header.first_segment = number + 1
        self.header.previous_bytes = used
        self.header.removed_bytes += used
        self.header.first_seq = next_seq

    cdef const Known* find(self, uint64_t seq) noexcept nogil:
        cdef const Known* known = <const Known*>self.known.data
        cdef size_t low = 0, high = self.known.size // sizeof(Known), middle
        while low < high:
            middle = (low + high) >> 1
            if known[middle].seq < seq:
                low = middle + 1
            else:
                high = middle
        return &known[low] if low < self.known.size // sizeof(Known) and known[low].seq == seq else NULL

    # --- the Python face -------------------------------------------------------------------------------------------

    def copy(self):
        """Return another with the same content, to take in more."""
        cdef Base other = Base()
        other.header = self.header
        if (bytes_append(&other.definitions, self.definitions.data, self.definitions.size) < 0
                or bytes_append(&other.units, self.units.data, self.units.size) < 0
                or bytes_append(&other.known, self.known.data, self.known.size) < 0
                or bytes_append(&other.texts, self.texts.data, self.texts.size) < 0):
            raise MemoryError
        other.instruments = dict(self.instruments)
        other.limits = self.limits
        return other

    def parts(self):
        """Return the file's bytes, as pieces to be written one after another."""
        sections = [piece_of(&self.definitions), piece_of(&self.units), piece_of(&self.known), piece_of(&self.texts),
                    b"".join(part for kept in self._in_force() for part in kept)]
        (self.header.definition_bytes, self.header.unit_bytes, self.header.known_bytes, self.header.text_bytes,
         self.header.force_bytes) = map(len, sections)
        self.header.crc32c = 0
        cdef uint32_t crc = crc32c(<const uint8_t*>&self.header, sizeof(BaseHeader), 0)
        cdef bytes section
        for section in sections:
            crc = crc32c(<const uint8_t*><const char*>section, len(section), crc)
        self.header.crc32c = crc
        return [(<const char*>&self.header)[:sizeof(BaseHeader)], *sections]

    def frames(self):
        """Return frames without seqs that tell a reader all names, and the instruments and limits in force."""
        found = []
        builder = FrameBuilder(1)
        names, in_force = names_of(self), self._in_force()
        for start in range(0, len(names), NAMES_PER_FRAME):
            for kind, name_id, text in names[start:start + NAMES_PER_FRAME]:
                builder.define_name(kind, name_id, text)
            found.append(bytes(builder.finish(0, self.header.epoch, self.header.stamped_at)))
        for start in range(0, len(in_force), RECORDS_PER_FRAME):
            for record, id, ref in in_force[start:start + RECORDS_PER_FRAME]:
                builder.add_record(**fields_of(record), id=id, ref=ref)
            found.append(bytes(builder.finish(0, self.header.epoch, self.header.stamped_at)))
        return found

    def _in_force(self):
        return [*self.instruments.values(), *([self.limits] if self.limits is not None else [])]

    def known_ids(self, types):
        """Return the event ids of what was removed, of these event types, in order."""
        cdef const Known* known = <const Known*>self.known.data
        cdef size_t i
        return [(<const char*>self.texts.data)[known[i].text:known[i].text + known[i].id_length]
                for i in range(self.known.size // sizeof(Known)) if known[i].type in types]

    def __len__(self):
        """How many events are known whose records are gone."""
        return self.known.size // sizeof(Known)

    @property
    def first_segment(self):
        """The number of the first segment kept."""
        return self.header.first_segment

    @property
    def first_seq(self):
        """The first seq kept."""
        return self.header.first_seq

    @property
    def trades(self):
        """How many trades were removed."""
        return self.header.trades

    @property
    def frame_count(self):
        """How many frames were removed."""
        return self.header.frames

    @property
    def removed_bytes(self):
        """How many bytes of segments were removed, so far."""
        return self.header.removed_bytes

    @property
    def stamped_at(self):
        """When the last frame that was removed was numbered, ns since 1970 UTC."""
        return self.header.stamped_at

    @property
    def size_bytes(self):
        """How many bytes the base takes, in memory and in its file."""
        return (sizeof(BaseHeader) + self.definitions.size + self.units.size + self.known.size + self.texts.size
                + sum(len(part) for kept in self._in_force() for part in kept))


cdef bytes piece_of(Bytes* data):
    return (<const char*>data.data)[:data.size] if data.size else b""


cdef dict fields_of(bytes record):
    """The fields of a Record's bytes as FrameBuilder.add_record takes them."""
    cdef Record r
    memcpy(&r, <const char*>record, sizeof(Record))
    return {"type": r.type, "exec_type": r.exec_type, "side": r.side, "symbol": r.symbol, "price": r.price,
            "price_exponent": r.price_exponent, "volume": r.volume, "volume_exponent": r.volume_exponent,
            "executed_at": r.executed_at}


cdef list names_of(Base base):
    """(kind, id, text) of all names, in the order they were defined."""
    cdef size_t at = 0
    cdef const Definition* d
    found = []
    while at < base.definitions.size:
        d = <const Definition*>(base.definitions.data + at)
        text = (<const char*>base.definitions.data)[at + sizeof(Definition):at + sizeof(Definition) + d.length]
        found.append((d.kind, d.id, text))
        at += sizeof(Definition) + ((<size_t>d.length + 3) & ~<size_t>3)
    return found


# --- reading -------------------------------------------------------------------------------------------------------

def read_base(directory):
    """Read the base of a journal's folder; None: nothing was removed from it. Raises JournalError where it is damaged."""
    path = os.path.join(directory, BASE_NAME)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    return base_from(content, path)


cdef Base base_from(bytes content, path):
    cdef Base base = Base()
    cdef const uint8_t* data = <const uint8_t*><const char*>content
    cdef size_t size = len(content), at = BASE_HEADER_BYTES
    cdef BaseHeader copy
    if size < BASE_HEADER_BYTES:
        raise damaged(path, f"{size} bytes")
    memcpy(&copy, data, sizeof(copy))
    if copy.magic != BASE_MAGIC:
        raise damaged(path, "it does not start with RWB1")
    if copy.version != BASE_VERSION:
        raise JournalError(f"{path}: version {copy.version}; this riskwire reads version {BASE_VERSION}")
    base.header = copy
    copy.crc32c = 0
    if crc32c(data + at, size - at, crc32c(<const uint8_t*>&copy, sizeof(copy), 0)) != base.header.crc32c:
        raise damaged(path, "its CRC-32C does not match")
    if size - at != copy.definition_bytes + copy.unit_bytes + copy.known_bytes + copy.text_bytes + copy.force_bytes:
        raise damaged(path, f"{size} bytes")
    for part in (take_section(&base.definitions, data, &at, copy.definition_bytes),
                 take_section(&base.units, data, &at, copy.unit_bytes),
                 take_section(&base.known, data, &at, copy.known_bytes),
                 take_section(&base.texts, data, &at, copy.text_bytes)):
        if part < 0:
            raise MemoryError
    take_in_force(base, content[at:])
    return base


def damaged(path, what):
    """The error for a base that cannot be used."""
    return JournalError(f"{path} is damaged: {what}; it stands for segments that were removed: restore it from a backup")


cdef int take_section(Bytes* out, const uint8_t* data, size_t* at, size_t size) noexcept:
    at[0] += size
    return bytes_append(out, data + at[0] - size, size)


cdef object take_in_force(Base base, bytes content):
    cdef size_t at = 0, ref_length
    cdef Record r
    while at < <size_t>len(content):
        memcpy(&r, <const char*>content + at, sizeof(Record))
        ref_length = <size_t>r.volume if r.type == EVENT_LIMITS else r.ref_length
        record = content[at:at + sizeof(Record)]
        at += sizeof(Record)
        kept = (record, content[at:at + r.id_length], content[at + r.id_length:at + r.id_length + ref_length])
        at += r.id_length + ref_length
        if r.type == EVENT_LIMITS:
            base.limits = kept
        else:
            base.instruments[r.symbol] = kept
