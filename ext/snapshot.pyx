"""The whole state of a RiskCore as bytes and back.

State is arrays addressed by index, so a section is an array's memory; what holds pointers (windows, runs, trade ids) is
written out. Hash tables are made again. The bytes depend on the history only, not on the frames it came in.

A running core is frozen in two steps, so that it stands still only for the first: what changes is copied at once, the
alerts, which never change, in pieces between frames. Trades lie in the journal: with one, a snapshot leaves them out,
and loading reads them again.
"""

import hashlib
import zlib

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from ext.alertlog cimport ALERT_BYTES, AlertLog
from ext.arrays cimport Array, Table, array_extend, table_home
from ext.definitions cimport NO_NAME, Instrument, Instruments, NameTable
from ext.fills cimport remember
from ext.journal cimport Journal
from ext.judge cimport Kill
from ext.lasting cimport is_lasting
from ext.limits cimport Key, Last, LimitBook, Node, Rule, Slot, Sums, SymbolFactors, settle
from ext.positions cimport (
    ARENA_BYTES, ENTRY_ADJUST, ENTRY_TRADE, Baseline, Before, Book, Cell, Entry, Position, Symbol, cell_hash, quantity_of,
)
from ext.records cimport (
    EVENT_ADJUST, EVENT_TRADE, EXEC_BUST, EXEC_NEW, SIDE_BUY, Bytes, FrameHeader, FrameView, Record, bytes_append,
    bytes_free, bytes_reserve, crc32c,
)
from ext.risk cimport Refusal, RiskCore
from ext.wide cimport prefetch
from ext.windows cimport Amount, Run, RunMark, Window, run_restore, window_place, window_restore

cdef enum:
    COLUMN_BYTES = 34               # of an entry, without its texts
    COLUMN_HAS_FEE = 128            # beside the state of an entry
    POSITIONS_SECTION = 8           # its place among the state's sections
    CHUNK = 64                      # records whose cells are found together


HEADER_BYTES = sizeof(SnapshotHeader)


class SnapshotError(ValueError):
    """Bytes that are no snapshot, a damaged one, one of another version, or of another journal."""


cdef bytes layout():
    sizes = (sizeof(Symbol), sizeof(Position), sizeof(Cell), sizeof(Baseline), sizeof(Entry), sizeof(Key), sizeof(Slot),
             sizeof(Node), sizeof(Rule), sizeof(Sums), sizeof(Last), sizeof(SymbolFactors), sizeof(Kill),
             sizeof(Instrument), sizeof(SnapshotHeader))
    return repr(sizes).encode()


# --- writing -----------------------------------------------------------------------------------------------------

cdef int put(Bytes* out, const void* data, size_t size) except -1:
    cdef uint64_t length = size
    if bytes_append(out, &length, 8) < 0 or bytes_append(out, data, size) < 0:
        raise MemoryError
    return 0


cdef int put_array(Bytes* out, const Array* array, size_t width) except -1:
    return put(out, array.data, array.count * width)


cdef size_t begin(Bytes* out) except? 0:
    """Begin a section whose size is not known yet; give the result to ``end``."""
    cdef uint64_t unknown = 0
    if bytes_append(out, &unknown, 8) < 0:
        raise MemoryError
    return out.size


cdef void end(Bytes* out, size_t began) noexcept:
    cdef uint64_t length = out.size - began
    memcpy(out.data + began - 8, &length, 8)


cdef int write_names(Bytes* out, NameTable names) except -1:
    cdef size_t began = begin(out), length
    cdef const uint8_t* text
    cdef uint32_t i
    cdef uint8_t size
    cdef int status = 0
    with nogil:
        for i in range(1, names.count):
            text = names.text(i, &length)
            size = <uint8_t>length
            if bytes_append(out, &size, 1) < 0 or bytes_append(out, text, length) < 0:
                status = -1
                break
    if status < 0:
        raise MemoryError
    end(out, began)
    return 0


cdef int write_trades(Bytes* out, Book book) except -1:
    cdef size_t began = begin(out)
    cdef uint32_t i
    cdef Entry entry
    cdef int status = 0
    with nogil:
        for i in range(1, book.entry_count):
            memset(&entry, 0, sizeof(entry))        # no undefined bytes between fields
            book.unpack(i, &entry)
            entry.id = NULL
            if bytes_append(out, &entry, sizeof(entry)) < 0:
                status = -1
                break
    if status < 0:
        raise MemoryError
    end(out, began)
    began = begin(out)
    with nogil:
        for i in range(1, book.entry_count):
            book.unpack(i, &entry)
            if bytes_append(out, entry.id, entry.id_length) < 0:
                status = -1
                break
    if status < 0:
        raise MemoryError
    end(out, began)
    return 0


cdef int write_book(Bytes* out, Book book, bint trades) except -1:
    cdef uint64_t count = book.entry_count
    put_array(out, &book.store.symbols, sizeof(Symbol))
    put_array(out, &book.store.positions, sizeof(Position))
    put_array(out, &book.store.cells, sizeof(Cell))
    put_array(out, &book.store.baselines, sizeof(Baseline))
    put(out, &count, 8)
    if trades:
        write_trades(out, book)
    return 0


cdef int write_windows(Bytes* out, LimitBook limits) except -1:
    cdef size_t began = begin(out)
    cdef uint32_t i, k
    cdef const Window* w
    cdef int64_t[4] head
    cdef int status = 0
    with nogil:
        for i in range(1, limits.windows.count):
            w = &(<const Window*>limits.windows.data)[i]
            head[0] = w.seen
            head[1] = w.latest
            head[2] = w.has_amounts
            head[3] = w.size
            status |= bytes_append(out, head, sizeof(head))
            status |= bytes_reserve(out, w.size * (sizeof(int64_t) + sizeof(Amount)))
            if status < 0:
                break
            for k in range(w.size):
                bytes_append(out, &w.times[window_place(w, k)], sizeof(int64_t))
            for k in range(w.size if w.has_amounts else 0):
                bytes_append(out, &w.amounts[window_place(w, k)], sizeof(Amount))
    if status < 0:
        raise MemoryError
    end(out, began)
    return 0


cdef int write_runs(Bytes* out, LimitBook limits) except -1:
    cdef size_t began = begin(out)
    cdef uint32_t i
    cdef const Run* r
    cdef RunMark first
    cdef int64_t[4] head
    first.index = 0
    for i in range(1, limits.runs.count):
        r = &(<const Run*>limits.runs.data)[i]
        head[0] = r.price
        head[1] = r.quantity
        head[2] = <int64_t>r.length
        head[3] = r.size
        first.at = r.first_at
        if (bytes_append(out, head, sizeof(head)) < 0
                or bytes_append(out, &first if r.length == 1 else r.marks, r.size * sizeof(RunMark)) < 0):
            raise MemoryError
    end(out, began)
    return 0


cdef int write_limits(Bytes* out, LimitBook limits) except -1:
    cdef int64_t[2] numbers
    cdef uint32_t i
    numbers[0] = limits.money_scale
    numbers[1] = limits.quantity_scale
    put(out, <const char*>limits.source, len(limits.source))
    put(out, numbers, sizeof(numbers))
    put_array(out, &limits.keys, sizeof(Key))
    put_array(out, &limits.slots, sizeof(Slot))
    put_array(out, &limits.nodes, sizeof(Node))
    put_array(out, &limits.rules, sizeof(Rule))
    for i in range(1, limits.windows.count):
        settle(limits, i)
    put_array(out, &limits.sums, sizeof(Sums))
    put_array(out, &limits.lasts, sizeof(Last))
    put_array(out, &limits.factors, sizeof(SymbolFactors))
    write_windows(out, limits)
    return write_runs(out, limits)


cdef int write_state(Bytes* out, RiskCore core, bint trades) except -1:
    cdef uint8_t firm_killed = 1 if core.judge.firm_killed else 0
    out.size = 0
    write_names(out, core.symbols)
    write_names(out, core.accounts)
    write_names(out, core.venues)
    write_names(out, core.strategies)
    write_names(out, core.instruments.currencies)
    write_names(out, core.instruments.rule_names)
    put(out, core.instruments.rules.data, core.instruments.rules.size)
    write_book(out, core.book, trades)
    write_limits(out, core.limits)
    put_array(out, &core.judge.killed, 1)
    put(out, &firm_killed, 1)
    put(out, core.judge.kills.data, core.judge.kills.size)
    return put(out, core.refusals.data, core.refusals.size)


cdef class Frozen:
    """The state of a core at one seq, in memory that the next freeze uses again (fresh memory costs more than the copy).

    In the core's thread: ``freeze``, then ``take_alerts`` until it returns True, with frames in between as you like. Then
    anywhere: ``parts`` are the snapshot's bytes. With its trades in pieces: ``body``, then ``take_trades`` in the core's
    thread and ``packed_trades`` anywhere, in turns until the former returns False, at last ``seal``: the header, which
    comes first in the file.
    """

    def __dealloc__(self):
        bytes_free(&self.state)
        bytes_free(&self.alerts)
        bytes_free(&self.rows)
        bytes_free(&self.texts)

    def reserve(self, size_t state_bytes):
        """Have memory ready for ``freeze``, so that it costs the core's thread nothing."""
        cdef int status
        with nogil:
            status = make_room(&self.state, state_bytes)
        if status < 0:
            raise MemoryError

    def reserve_alerts(self):
        """The same for ``take_alerts``, between ``freeze`` and its first call."""
        cdef size_t size = self.alert_bytes
        cdef int status
        with nogil:
            status = make_room(&self.alerts, size)
        if status < 0:
            raise MemoryError

    def freeze(self, RiskCore core not None, *, bint trades=True, Journal journal=None, bint in_pieces=False):
        """Copy all that changes. trades: with the trades; False: they are in the journal. journal: whose end of the
        applied seq is noted, so that the snapshot is not taken for one of another history. in_pieces: the trades are
        taken later, as they are now."""
        cdef bytes sizes = layout()
        cdef SnapshotHeader* header = &self.header
        if core.book.entry_count == 0:
            raise core.error
        trades = trades and not in_pieces
        write_state(&self.state, core, trades)
        memset(header, 0, sizeof(SnapshotHeader))
        header.magic = SNAPSHOT_MAGIC
        header.version = SNAPSHOT_VERSION
        header.layout = crc32c(<const uint8_t*><const char*>sizes, len(sizes), 0)
        header.applied_seq = core.applied_seq
        header.alerts = core.alerts.count
        header.trades = TRADES_IN_PIECES if in_pieces else TRADES_IN_STATE if trades else TRADES_IN_JOURNAL
        if in_pieces:
            self.book = core.book
            self.book.frozen_from = 1
            self.book.frozen_to = self.book.entry_count
            self.book.before.size = 0
            self.book.before_lost = False
        header.taken_at = now_ns()
        if journal is not None:
            self._anchor(journal)
        self.alerts.size = 0
        self.records_done = self.offsets_done = self.heap_done = 0
        self.heap_end = core.alerts.text_end(core.alerts.count)

    def _anchor(self, Journal journal):
        cdef const FrameHeader* frame = <const FrameHeader*>journal.find(self.header.applied_seq)
        if frame != NULL:
            self.header.anchor_epoch = frame.epoch
            self.header.anchor_first_seq = frame.first_seq
            self.header.anchor_crc32c = frame.crc32c

    def take_alerts(self, RiskCore core not None, uint64_t piece_bytes=ALERT_PIECE_BYTES):
        """Copy some of the alerts there were at ``freeze``; True: that was the last of them."""
        cdef AlertLog log = core.alerts
        cdef uint64_t left = piece_bytes
        return (copy_piece(&self.alerts, log.records.data, self.header.alerts * ALERT_BYTES, &self.records_done, &left)
                and copy_piece(&self.alerts, log.offsets.data, self.header.alerts * 8, &self.offsets_done, &left)
                and copy_piece(&self.alerts, log.heap.data, self.heap_end, &self.heap_done, &left))

    def take_trades(self, RiskCore core not None, uint32_t count=PIECE_TRADES):
        """Copy some of the trades there were at ``freeze``, as they were then; False: there is none left.

        Raises SnapshotError where they cannot be known any more.
        """
        cdef Book book = self.book
        cdef uint32_t first, last
        cdef int status
        if book is not core.book or book.before_lost:
            raise SnapshotError("the trades of a snapshot cannot be copied: the core was replaced, or there was no memory")
        first = book.frozen_from
        last = min(book.frozen_to, first + count)
        if first >= last:
            self.thaw(core)
            return False
        self.rows.size = self.texts.size = 0
        with nogil:
            status = copy_entries(book, first, last, &self.rows, &self.texts)
            book.frozen_from = last
        if status < 0:
            raise MemoryError
        return True

    def thaw(self, RiskCore core not None):
        """Give up the rest of the trades: nothing is noted for them any more."""
        core.book.frozen_to = 0
        bytes_free(&core.book.before)
        self.book = None

    def packed_trades(self):
        """Return the piece that ``take_trades`` copied last as it is written."""
        cdef TradePiece piece
        raw = columns_of(&self.rows, &self.texts)
        packed = zlib.compress(raw, 1)
        piece.count = self.rows.size // sizeof(Entry)
        piece.raw_bytes = len(raw)
        piece.packed_bytes = len(packed)
        data = (<const char*>&piece)[:sizeof(piece)] + packed
        self._count(data)
        return data

    def _count(self, const unsigned char[::1] data):
        self.header.body_bytes += data.shape[0]
        if data.shape[0]:
            self.crc = crc32c(&data[0], data.shape[0], self.crc)

    def body(self):
        """Return the state and the alerts, to be written behind a header that ``seal`` gives at last."""
        self.crc = 0
        self.header.body_bytes = self.state.size + self.alerts.size
        with nogil:
            self.crc = crc32c(self.state.data, self.state.size, self.crc)
            self.crc = crc32c(self.alerts.data, self.alerts.size, self.crc)
        return view_of(&self.state), view_of(&self.alerts)

    def seal(self):
        """Return the header of what was given since ``body``."""
        self.header.crc32c = 0
        self.header.crc32c = crc32c(<const uint8_t*>&self.header, sizeof(SnapshotHeader), self.crc)
        return (<const char*>&self.header)[:sizeof(SnapshotHeader)]

    @property
    def applied_seq(self):
        return self.header.applied_seq

    @property
    def state_bytes(self):
        """Bytes of the state, without the alerts."""
        return self.state.size

    @property
    def alert_bytes(self):
        """Bytes that the alerts of ``freeze`` need."""
        return self.header.alerts * (ALERT_BYTES + 8) + self.heap_end + 24

    @property
    def parts(self):
        """The snapshot's bytes as three pieces to be written one after another; valid until the next ``freeze``, and as
        long as this object is."""
        state, alerts = self.body()
        return self.seal(), state, alerts


cdef object view_of(Bytes* data):
    return PyMemoryView_FromMemory(<char*>data.data, data.size, PyBUF_READ) if data.size else b""


cdef int make_room(Bytes* out, size_t size) noexcept nogil:
    cdef size_t at
    if size <= out.capacity:
        return 0
    out.size = 0
    if bytes_reserve(out, size) < 0:
        return -1
    for at in range(0, out.capacity, 4096):
        out.data[at] = 0                # the first touch of a page is what costs
    return 0


cdef int copy_entries(Book book, uint32_t first, uint32_t last, Bytes* rows, Bytes* texts) noexcept nogil:
    """Copy entries [first, last) and their texts, as they were when the book was frozen. 0, or -1: no memory."""
    cdef const Before* before = <const Before*>book.before.data
    cdef Entry entry
    cdef Entry* changed
    cdef size_t i
    for i in range(first, last):
        memset(&entry, 0, sizeof(Entry))
        book.unpack(<uint32_t>i, &entry)
        if (bytes_append(rows, &entry, sizeof(Entry)) < 0
                or entry.fee and bytes_append(texts, &entry.fee, 8) < 0
                or bytes_append(texts, entry.id, entry.id_length) < 0):
            return -1
    for i in range(book.before.size // sizeof(Before), 0, -1):      # the first change of an entry is written last
        if first <= before[i - 1].index < last:
            changed = &(<Entry*>rows.data)[before[i - 1].index - first]
            changed.previous = before[i - 1].previous
            changed.state = before[i - 1].state
    return 0


cdef bytes columns_of(const Bytes* rows, const Bytes* texts):
    """Entries column by column, seqs as differences, and their texts: what packs well."""
    cdef const Entry* e = <const Entry*>rows.data
    cdef size_t count = rows.size // sizeof(Entry), i
    cdef bytes out = PyBytes_FromStringAndSize(NULL, count * COLUMN_BYTES + texts.size)
    cdef uint8_t* at = <uint8_t*><char*>out
    cdef uint64_t before = 0, seq
    with nogil:
        for i in range(count):
            seq = e[i].seq - before
            before = e[i].seq
            memcpy(at + 8 * i, &seq, 8)
            memcpy(at + 8 * (count + i), &e[i].price, 8)
            memcpy(at + 8 * (2 * count + i), &e[i].quantity, 8)
            memcpy(at + 24 * count + 4 * i, &e[i].previous, 4)
            memcpy(at + 28 * count + 4 * i, &e[i].cell, 4)
            at[32 * count + i] = e[i].id_length
            at[33 * count + i] = e[i].state | (COLUMN_HAS_FEE if e[i].fee else 0)
        memcpy(at + COLUMN_BYTES * count, texts.data, texts.size)
    return out


cdef bint copy_piece(Bytes* out, const void* data, uint64_t size, uint64_t* done, uint64_t* left) except -1:
    """Copy what ``left`` allows of a section; ``done`` counts its bytes and the 8 of its size. True: it is whole."""
    cdef uint64_t count
    if done[0] == 0:
        if bytes_append(out, &size, 8) < 0:
            raise MemoryError
        done[0] = 8
    count = min(size + 8 - done[0], left[0])
    if count and bytes_append(out, <const uint8_t*>data + done[0] - 8, count) < 0:
        raise MemoryError
    done[0] += count
    left[0] -= count
    return done[0] == size + 8


def trade_bytes(RiskCore core not None):
    """Return how many bytes the trades can take at most in a snapshot."""
    cdef uint64_t count = core.book.entry_count, copied = <uint64_t>core.book.block_count * ARENA_BYTES
    if core.book.holds.count:               # by where they lie: a fee and the longest id each
        copied += count * 72
    return count * COLUMN_BYTES + copied + 65536


def state_bytes(RiskCore core not None):
    """Return about how many bytes the state takes without alerts and trades: what to ``reserve``."""
    cdef LimitBook limits = core.limits
    cdef uint64_t total = 65536 + len(limits.source) + core.refusals.size + core.judge.kills.size
    cdef uint32_t i
    for names in (core.symbols, core.accounts, core.venues, core.strategies):
        total += (<NameTable>names).texts.size + (<NameTable>names).count
    total += core.book.store.symbols.count * sizeof(Symbol) + core.book.store.positions.count * sizeof(Position)
    total += core.book.store.cells.count * sizeof(Cell) + core.book.store.baselines.count * sizeof(Baseline)
    total += limits.keys.count * sizeof(Key) + limits.slots.count * sizeof(Slot) + limits.nodes.count * sizeof(Node)
    total += limits.rules.count * sizeof(Rule) + limits.sums.count * sizeof(Sums) + limits.lasts.count * sizeof(Last)
    total += limits.factors.count * sizeof(SymbolFactors) + core.judge.killed.count
    for i in range(1, limits.windows.count):
        total += 32 + (<const Window*>limits.windows.data)[i].size * (sizeof(int64_t) + sizeof(Amount))
    for i in range(1, limits.runs.count):
        total += 32 + (<const Run*>limits.runs.data)[i].size * sizeof(RunMark)
    return total


cdef int64_t now_ns() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef Frozen frozen(RiskCore core):
    """A Frozen with the whole of a core's state."""
    cdef Frozen copy = Frozen()
    copy.freeze(core)
    copy.take_alerts(core, <uint64_t>-1)
    return copy


def dump(RiskCore core not None):
    """Return the core's state as bytes."""
    cdef Frozen copy = frozen(core)     # whose memory the parts are
    return b"".join(copy.parts)


def state_hash(RiskCore core not None):
    """Return 16 bytes (BLAKE2b) that are equal for equal histories, whichever frames they came in."""
    cdef Frozen copy = frozen(core)
    digest = hashlib.blake2b(core.applied_seq.to_bytes(8, "little"), digest_size=16)
    for part in copy.parts[1:]:
        digest.update(part)
    return digest.digest()


# --- reading -----------------------------------------------------------------------------------------------------

cdef class Reader:
    cdef const uint8_t* data
    cdef size_t size
    cdef size_t at

    cdef const uint8_t* take(self, size_t* size) except NULL:
        """The next section; never NULL."""
        cdef uint64_t length
        if self.size - self.at < 8:
            raise SnapshotError("a snapshot ends before its last section")
        memcpy(&length, self.data + self.at, 8)
        self.at += 8
        if length > self.size - self.at:
            raise SnapshotError("a section of a snapshot is longer than the rest of it")
        self.at += length
        size[0] = length
        return self.data + self.at - length

    cdef int take_array(self, Array* array, size_t width) except -1:
        cdef size_t size
        cdef const uint8_t* section = self.take(&size)
        if array_extend(array, <uint32_t>(size // width), width) < 0:
            raise MemoryError
        if size:
            memcpy(array.data, section, size)
        return 0

    cdef int take_bytes(self, Bytes* out) except -1:
        cdef size_t size
        cdef const uint8_t* section = self.take(&size)
        if bytes_append(out, section, size) < 0:
            raise MemoryError
        return 0

    cdef int take_exactly(self, void* out, size_t wanted) except -1:
        cdef size_t size
        cdef const uint8_t* section = self.take(&size)
        if size != wanted:
            raise SnapshotError(f"a section of a snapshot has {size} bytes; expected {wanted}")
        memcpy(out, section, size)
        return 0


cdef int read_names(Reader source, NameTable names) except -1:
    cdef size_t size, at = 0
    cdef const uint8_t* section = source.take(&size)
    while at < size:
        if at + 1 + section[at] > size or names.intern(section + at + 1, section[at]) == <uint32_t>NO_NAME:
            raise MemoryError
        at += 1 + section[at]
    return 0


cdef int read_instruments(Reader source, Instruments instruments) except -1:
    cdef size_t size, at = 0, rules_bytes
    cdef const uint8_t* texts
    cdef const Instrument* rules
    cdef Instrument rule
    cdef uint32_t i = 1
    read_names(source, instruments.currencies)
    texts = source.take(&size)
    rules = <const Instrument*>source.take(&rules_bytes)
    while at < size:
        if at + 1 + texts[at] > size or (i + 1) * sizeof(Instrument) > rules_bytes:
            raise SnapshotError("a snapshot's instruments do not fit their names")
        memcpy(&rule, &rules[i], sizeof(rule))
        if instruments.define(texts + at + 1, texts[at], &rule) < 0:
            raise MemoryError
        at += 1 + texts[at]
        i += 1
    return 0


cdef int read_trades(Reader source, Book book) except -1:
    cdef size_t size, ids_size, at = 0, i
    cdef const uint8_t* entries = source.take(&size)
    cdef const uint8_t* ids = source.take(&ids_size)
    cdef Entry entry
    cdef int status = 0
    with nogil:
        for i in range(size // sizeof(Entry)):
            memcpy(&entry, entries + i * sizeof(Entry), sizeof(Entry))
            entry.id = ids + at
            at += entry.id_length
            if at > ids_size or book.new_entry(&entry) == 0:
                status = -1
                break
    if status < 0:
        raise MemoryError
    return 0


cdef int read_pieces(Reader source, Book book) except -1:
    """Take up trades in pieces, up to the snapshot's end."""
    cdef TradePiece piece
    cdef bytes raw
    cdef const uint8_t* columns
    cdef int status
    while source.at < source.size:
        if source.size - source.at < sizeof(piece):
            raise SnapshotError("a snapshot's trades end within a piece")
        memcpy(&piece, source.data + source.at, sizeof(piece))
        source.at += sizeof(piece)
        if piece.packed_bytes > source.size - source.at:
            raise SnapshotError("a snapshot's trades end within a piece")
        try:
            raw = zlib.decompress((<const char*>source.data)[source.at:source.at + piece.packed_bytes],
                                  bufsize=max(piece.raw_bytes, 1))
        except zlib.error as problem:
            raise SnapshotError(f"a piece of a snapshot's trades cannot be unpacked: {problem}") from None
        source.at += piece.packed_bytes
        if <uint64_t>len(raw) != piece.raw_bytes or piece.raw_bytes < piece.count * COLUMN_BYTES:
            raise SnapshotError("a piece of a snapshot's trades has another size than it says")
        columns = <const uint8_t*><const char*>raw
        with nogil:
            status = add_columns(book, columns, piece.count, piece.raw_bytes)
        if status < 0:
            raise MemoryError
    return 0


cdef int add_columns(Book book, const uint8_t* at, size_t count, size_t size) noexcept nogil:
    """The inverse of ``columns_of``. 0, or -1: no memory, or texts that do not fit."""
    cdef size_t text = COLUMN_BYTES * count, i
    cdef uint64_t seq = 0, step
    cdef Entry entry
    for i in range(count):
        memset(&entry, 0, sizeof(entry))
        memcpy(&step, at + 8 * i, 8)
        seq += step
        entry.seq = seq
        memcpy(&entry.price, at + 8 * (count + i), 8)
        memcpy(&entry.quantity, at + 8 * (2 * count + i), 8)
        memcpy(&entry.previous, at + 24 * count + 4 * i, 4)
        memcpy(&entry.cell, at + 28 * count + 4 * i, 4)
        entry.id_length = at[32 * count + i]
        entry.state = at[33 * count + i] & ~<uint8_t>COLUMN_HAS_FEE
        if text + entry.id_length + (8 if at[33 * count + i] & COLUMN_HAS_FEE else 0) > size:
            return -1
        if at[33 * count + i] & COLUMN_HAS_FEE:
            memcpy(&entry.fee, at + text, 8)
            text += 8
        entry.id = at + text
        text += entry.id_length
        if book.new_entry(&entry) == 0:
            return -1
    return 0


cdef uint64_t read_book(Reader source, Book book, bint trades) except? 0:
    """Take up the book; the number of its trades, the empty one included."""
    cdef uint64_t count
    source.take_array(&book.store.symbols, sizeof(Symbol))
    source.take_array(&book.store.positions, sizeof(Position))
    source.take_array(&book.store.cells, sizeof(Cell))
    source.take_array(&book.store.baselines, sizeof(Baseline))
    source.take_exactly(&count, 8)
    if trades:
        read_trades(source, book)
    if book.rebuild_tables() < 0:
        raise MemoryError
    return count


cdef int read_limits(Reader source, RiskCore core) except -1:
    cdef size_t size
    cdef int64_t[2] numbers
    cdef const uint8_t* text = source.take(&size)
    cdef LimitBook limits = core.compile_limits((<const char*>text)[:size])
    source.take_exactly(numbers, sizeof(numbers))
    limits.money_scale = <int>numbers[0]
    limits.quantity_scale = <int>numbers[1]
    source.take_array(&limits.keys, sizeof(Key))
    source.take_array(&limits.slots, sizeof(Slot))
    source.take_array(&limits.nodes, sizeof(Node))
    source.take_array(&limits.rules, sizeof(Rule))
    source.take_array(&limits.sums, sizeof(Sums))
    source.take_array(&limits.lasts, sizeof(Last))
    source.take_array(&limits.factors, sizeof(SymbolFactors))
    limits.set_limit_levels()
    if limits.rebuild_key_table() < 0 or limits.rebuild_holders() < 0 or limits.rebuild_standings() < 0:
        raise MemoryError
    read_windows(source, limits)
    limits.rebuild_windows()
    read_runs(source, limits)
    core.limits = limits
    return 0


cdef int read_windows(Reader source, LimitBook limits) except -1:
    cdef size_t size, at = 0
    cdef const uint8_t* section = source.take(&size)
    cdef int64_t[4] head
    cdef int64_t taken
    cdef uint32_t count = 0
    while at < size:
        count = max(count, 1) + 1
        memcpy(head, section + at, sizeof(head))
        at += sizeof(head)
        taken = -1
        if array_extend(&limits.windows, count, sizeof(Window)) == 0:
            taken = window_restore(&(<Window*>limits.windows.data)[count - 1], <uint8_t>head[0], head[1], head[2] != 0,
                                   <uint32_t>head[3], section + at)
        if taken < 0:
            raise MemoryError
        at += taken
    return 0


cdef int read_runs(Reader source, LimitBook limits) except -1:
    cdef size_t size, at = 0
    cdef const uint8_t* section = source.take(&size)
    cdef int64_t[4] head
    cdef uint32_t count = 0
    while at < size:
        count = max(count, 1) + 1
        memcpy(head, section + at, sizeof(head))
        at += sizeof(head)
        if array_extend(&limits.runs, count, sizeof(Run)) < 0 or run_restore(
                &(<Run*>limits.runs.data)[count - 1], head[0], head[1], <uint64_t>head[2], <uint32_t>head[3],
                <const RunMark*>(section + at)) < 0:
            raise MemoryError
        at += <size_t>head[3] * sizeof(RunMark)
    return 0


cdef uint64_t read_state(Reader source, RiskCore core, bint trades) except? 0:
    """Take up everything; the number of trades there were, the empty one included."""
    cdef uint64_t entries
    cdef uint8_t firm_killed
    read_names(source, core.symbols)
    read_names(source, core.accounts)
    read_names(source, core.venues)
    read_names(source, core.strategies)
    read_instruments(source, core.instruments)
    entries = read_book(source, core.book, trades)
    read_limits(source, core)
    source.take_array(&core.judge.killed, 1)
    source.take_exactly(&firm_killed, 1)
    core.judge.firm_killed = firm_killed
    source.take_bytes(&core.judge.kills)
    source.take_bytes(&core.refusals)
    source.take_bytes(&core.alerts.records)
    source.take_bytes(&core.alerts.offsets)
    source.take_bytes(&core.alerts.heap)
    core.alerts.count = core.alerts.offsets.size // 8
    return entries


cdef const SnapshotHeader* check_header(const uint8_t* data, size_t size) except NULL:
    cdef const SnapshotHeader* header = <const SnapshotHeader*>data
    cdef SnapshotHeader copy
    cdef bytes sizes = layout()
    cdef uint32_t crc
    if size < sizeof(SnapshotHeader) or header.magic != SNAPSHOT_MAGIC:
        raise SnapshotError("not a snapshot: it does not start with RWS1")
    if header.version != SNAPSHOT_VERSION or header.layout != crc32c(<const uint8_t*><const char*>sizes, len(sizes), 0):
        raise SnapshotError(f"a snapshot of another riskwire (version {header.version}); replay the journal instead")
    if header.body_bytes != size - sizeof(SnapshotHeader):
        raise SnapshotError(f"a snapshot of {header.body_bytes} bytes was cut to {size - sizeof(SnapshotHeader)}")
    copy = header[0]
    copy.crc32c = 0
    with nogil:
        crc = crc32c(data + sizeof(copy), size - sizeof(copy), 0)
        crc = crc32c(<const uint8_t*>&copy, sizeof(copy), crc)
    if crc != header.crc32c:
        raise SnapshotError("a snapshot is damaged: its CRC-32C does not match; replay the journal instead")
    return header


cdef object check_anchor(const SnapshotHeader* header, Journal journal):
    """Raise where a snapshot goes on from a frame that the journal does not have: it lost its tail, or is another."""
    cdef const FrameHeader* frame = <const FrameHeader*>journal.find(header.applied_seq)
    if header.applied_seq == 0:
        return
    if frame == NULL:
        raise SnapshotError(f"a snapshot at seq {header.applied_seq}, where the journal ends with {journal.last()}")
    if (frame.epoch != header.anchor_epoch or frame.first_seq != header.anchor_first_seq
            or frame.crc32c != header.anchor_crc32c):
        raise SnapshotError(f"a snapshot of another history: seq {header.applied_seq} is another event in this journal")


def check(const unsigned char[::1] snapshot not None, Journal journal not None):
    """Return the seq of a whole snapshot of a journal's history. Raises SnapshotError."""
    cdef const SnapshotHeader* header = check_header(&snapshot[0] if snapshot.shape[0] else NULL, snapshot.shape[0])
    check_anchor(header, journal)
    return header.applied_seq


def load(RiskCore core not None, const unsigned char[::1] snapshot not None, Journal journal=None,
         const unsigned char[::1] earlier=None, *, bint lasts=False):
    """Put the state of a snapshot into a core that has applied nothing yet.

    journal: where the snapshot's trades are, and whose history it must belong to; None: the trades are in it.
    earlier: a snapshot with its trades, where the journal has only those that came after it.
    lasts: nothing is removed of the journal as long as the core is, so trades are remembered by where they lie in it.
    Raises SnapshotError; the core is of no use then.
    """
    cdef Reader source = Reader()
    cdef const SnapshotHeader* header
    cdef uint64_t entries
    source.data = &snapshot[0] if snapshot.shape[0] else NULL
    source.size = snapshot.shape[0]
    header = check_header(source.data, source.size)
    if core.applied_seq or core.symbols.count > 1:
        raise SnapshotError("a snapshot goes into a new RiskCore; this one has applied frames")
    if journal is not None:
        check_anchor(header, journal)
    elif not header.trades:
        raise SnapshotError("a snapshot without its trades; they are in the journal that it was taken beside")
    source.at = sizeof(SnapshotHeader)
    entries = read_state(source, core, header.trades == TRADES_IN_STATE)
    core.applied_seq = header.applied_seq
    if header.trades == TRADES_IN_PIECES:
        read_pieces(source, core.book)
    elif header.trades == TRADES_IN_JOURNAL:
        read_journal(core, journal, take_earlier(core, journal, earlier) if earlier is not None else 0, lasts)
    if core.book.entry_count != entries:
        raise SnapshotError(f"a snapshot of {entries - 1} trades, where the journal has {core.book.entry_count - 1}")


# --- trades, from an earlier snapshot and the journal --------------------------------------------------------------

cdef uint64_t take_earlier(RiskCore core, Journal journal, const unsigned char[::1] earlier) except? 0:
    """Take up the trades of an earlier snapshot, and where they are in their positions; the seq they go up to."""
    cdef Reader source = Reader()
    cdef const SnapshotHeader* header
    cdef const Position* positions = NULL
    cdef size_t size = 0, section_size, i
    cdef const uint8_t* section
    source.data = &earlier[0] if earlier.shape[0] else NULL
    source.size = earlier.shape[0]
    header = check_header(source.data, source.size)
    check_anchor(header, journal)
    if header.trades != TRADES_IN_PIECES or header.applied_seq > core.applied_seq:
        raise SnapshotError(f"a snapshot at seq {core.applied_seq} cannot have its trades from one at {header.applied_seq}")
    source.at = sizeof(SnapshotHeader)
    for i in range(STATE_SECTIONS):
        section = source.take(&section_size)
        if i == POSITIONS_SECTION:
            positions = <const Position*>section
            size = section_size // sizeof(Position)
    clear_entries(core.book)
    if size > core.book.store.positions.count:
        raise SnapshotError("a snapshot that has fewer positions than an earlier one")
    for i in range(size):
        (<Position*>core.book.store.positions.data)[i].last_entry = positions[i].last_entry
    read_pieces(source, core.book)
    return header.applied_seq


cdef void clear_entries(Book book) noexcept:
    cdef size_t i
    for i in range(book.store.positions.count):
        (<Position*>book.store.positions.data)[i].last_entry = 0


cdef int read_journal(RiskCore core, Journal journal, uint64_t after, bint lasts) except -1:
    """Put the trades up to applied_seq at their places again; what was refused, the core knows.

    after: the seq up to which they are there already; 0: none is. lasts: nothing of the journal is removed as long as the core
    is, so that it remembers trades by where they lie.
    """
    cdef uint64_t index = journal.first_frame(), refusals_at = 0
    cdef const Refusal* refusals = <const Refusal*>core.refusals.data
    cdef FrameView view
    cdef int status = 0
    if after:
        index = journal.index_of(after + 1)
        while refusals_at < core.refusals.size // sizeof(Refusal) and refusals[refusals_at].seq <= after:
            refusals_at += 1
    else:
        clear_entries(core.book)
        if journal.first_kept() > 1:
            raise SnapshotError(f"a snapshot without its trades, and the journal has none below seq {journal.first_kept()}; "
                                "there is no earlier snapshot that has them")
    with nogil:
        while status == 0 and index < journal.frames():
            journal.view_at(index, &view)
            index += 1
            if view.header.first_seq > core.applied_seq:
                break
            status = take_trades(core, &view, lasts and is_lasting(core.book, journal, &view), &refusals_at)
    if status == -1:
        raise MemoryError
    if status < 0:
        raise SnapshotError(f"a snapshot that does not fit its journal: seq {view.header.first_seq} to "
                            f"{view.header.first_seq + view.header.record_count - 1}")
    return 0


cdef int take_trades(RiskCore core, const FrameView* view, bint lasting, uint64_t* refusals_at) noexcept nogil:
    """0, -1: no memory, -2: a trade without its place."""
    cdef const Refusal* refusals = <const Refusal*>core.refusals.data
    cdef uint64_t count = core.refusals.size // sizeof(Refusal), seq = view.header.first_seq
    cdef const Record* r
    cdef uint32_t i
    cdef uint32_t[CHUNK] cells
    cdef int status
    for i in range(view.header.record_count):
        if i % CHUNK == 0:
            find_cells(core.book, &view.records[i], min(<uint32_t>CHUNK, view.header.record_count - i), cells)
        r = &view.records[i]
        if refusals_at[0] < count and refusals[refusals_at[0]].seq == seq:
            refusals_at[0] += 1
        elif r.type == EVENT_ADJUST or r.type == EVENT_TRADE:
            if r.type == EVENT_TRADE and r.exec_type != EXEC_NEW:
                status = revise(core.book, r, view.heap)
            else:
                status = add(core.book, view, r, cells[i % CHUNK], lasting)
            if status < 0:
                return status
        seq += 1
    return 0


cdef void find_cells(Book book, const Record* records, uint32_t count, uint32_t* cells) noexcept nogil:
    """The cells of trades and adjustments; each step fetches for all what the next one reads."""
    cdef const Table* table = &book.store.cell_table
    cdef const Cell* all_cells = <const Cell*>book.store.cells.data
    cdef uint64_t[CHUNK] hashes
    cdef const Record* r
    cdef uint32_t i
    for i in range(count if table.slots != NULL else 0):
        r = &records[i]
        if r.type == EVENT_TRADE:
            hashes[i] = cell_hash(r.account, r.symbol, r.venue, r.strategy)
        else:
            hashes[i] = cell_hash(r.account, r.symbol, 0, 0)
        prefetch(&table.slots[table_home(table, hashes[i])])
    for i in range(count if table.slots != NULL else 0):
        prefetch(&all_cells[<uint32_t>table.slots[table_home(table, hashes[i])]])
    for i in range(count):
        r = &records[i]
        cells[i] = 0
        if r.type == EVENT_TRADE:
            cells[i] = book.find_cell(r.account, r.symbol, r.venue, r.strategy)
        elif r.type == EVENT_ADJUST:
            cells[i] = book.find_cell(r.account, r.symbol, 0, 0)
        if cells[i]:
            prefetch(&(<const Position*>book.store.positions.data)[all_cells[cells[i]].position].last_entry)


cdef int add(Book book, const FrameView* view, const Record* r, uint32_t cell, bint lasting) noexcept nogil:
    cdef Position* positions = <Position*>book.store.positions.data
    if cell == 0:
        return -2
    return remember(book, &positions[(<const Cell*>book.store.cells.data)[cell].position], view, r, cell,
                    ENTRY_ADJUST if r.type == EVENT_ADJUST else ENTRY_TRADE, lasting)


cdef int revise(Book book, const Record* r, const uint8_t* heap) noexcept nogil:
    cdef uint32_t position = book.find_position(r.account, r.symbol), found = 0
    cdef Entry revised
    cdef int side = 0
    if r.exec_type == EXEC_BUST:
        side = 1 if r.side == SIDE_BUY else -1
    if position == 0 or book.find_trade(position, r.venue, heap + r.ref_offset, r.ref_length, side, &found) != 0:
        return -2
    if r.exec_type == EXEC_BUST:
        book.kill_entry(found)
        return 0
    book.unpack(found, &revised)
    revised.price = r.price
    revised.quantity = quantity_of(r)
    revised.fee = r.fee
    revised.id = heap + r.id_offset
    revised.id_length = r.id_length
    revised.cell = book.find_cell(r.account, r.symbol, r.venue, r.strategy)
    if revised.cell == 0:
        return -2
    return 0 if book.replace_entry(position, found, &revised) else -1
