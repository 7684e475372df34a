"""The whole state of a RiskCore as bytes and back.

State is arrays addressed by index, so a section is an array's memory; what holds pointers (windows, runs, trade ids) is
written out. Hash tables are made again. The bytes depend on the history only, not on the frames it came in.
"""

import hashlib

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ext.alertlog cimport AlertLog
from ext.arrays cimport Array, array_extend
from ext.definitions cimport Instrument, Instruments, NameTable
from ext.judge cimport Judge, Kill
from ext.limits cimport Key, Last, LimitBook, Node, Rule, Slot, Sums, SymbolFactors
from ext.positions cimport Baseline, Book, Cell, Entry, Position, Symbol
from ext.records cimport Bytes, bytes_append, crc32c
from ext.risk cimport RiskCore
from ext.windows cimport Run, RunMark, Window, WindowEntry, run_restore, window_entry, window_restore


class SnapshotError(ValueError):
    """Bytes that are no snapshot, a damaged one, or one of another version."""


cdef bytes memory(const void* data, size_t size):
    return (<const char*>data)[:size] if size else b""


cdef bytes layout():
    sizes = (sizeof(Symbol), sizeof(Position), sizeof(Cell), sizeof(Baseline), sizeof(Entry), sizeof(Key), sizeof(Slot),
             sizeof(Node), sizeof(Rule), sizeof(Sums), sizeof(Last), sizeof(SymbolFactors), sizeof(Kill),
             sizeof(Instrument))
    return repr(sizes).encode()


# --- writing -----------------------------------------------------------------------------------------------------

cdef class Writer:
    """Sections one after another: a 64-bit size and the bytes."""
    cdef list parts

    def __cinit__(self):
        self.parts = []

    cdef object put(self, bytes section):
        self.parts.append(len(section).to_bytes(8, "little"))
        self.parts.append(section)

    cdef object put_array(self, const Array* array, size_t width):
        self.put(memory(array.data, array.count * width))

    cdef object put_texts(self, texts):
        self.put(b"".join(bytes((len(text),)) + text for text in texts))


cdef object write_names(Writer out, NameTable names):
    out.put_texts([names[i] for i in range(1, names.count)])


cdef object write_book(Writer out, Book book):
    cdef uint32_t i
    cdef Entry entry
    entries, ids = [], []
    out.put_array(&book.store.symbols, sizeof(Symbol))
    out.put_array(&book.store.positions, sizeof(Position))
    out.put_array(&book.store.cells, sizeof(Cell))
    out.put_array(&book.store.baselines, sizeof(Baseline))
    for i in range(1, book.entry_count):
        entry = book.entry(i)[0]
        ids.append(memory(entry.id, entry.id_length))
        entry.id = NULL
        entries.append(memory(&entry, sizeof(entry)))
    out.put(b"".join(entries))
    out.put(b"".join(ids))


cdef object write_limits(Writer out, LimitBook limits):
    cdef uint32_t i, k
    cdef const Window* w
    cdef const Run* r
    out.put(limits.source)
    out.put(b"%d %d %d" % (limits.money_scale, limits.quantity_scale, limits.stamp))
    out.put_array(&limits.keys, sizeof(Key))
    out.put_array(&limits.slots, sizeof(Slot))
    out.put_array(&limits.nodes, sizeof(Node))
    out.put_array(&limits.rules, sizeof(Rule))
    out.put_array(&limits.sums, sizeof(Sums))
    out.put_array(&limits.lasts, sizeof(Last))
    out.put_array(&limits.factors, sizeof(SymbolFactors))
    parts = []
    for i in range(1, limits.windows.count):
        w = &(<const Window*>limits.windows.data)[i]
        parts.append(b"%d %d %d %d\n" % (w.seen, w.latest, w.trades, w.size))
        for k in range(w.size):
            parts.append(memory(window_entry(w, k), sizeof(WindowEntry)))
    out.put(b"".join(parts))
    parts = []
    for i in range(1, limits.runs.count):
        r = &(<const Run*>limits.runs.data)[i]
        parts.append(b"%d %d %d %d\n" % (r.price, r.quantity, r.length, r.size))
        parts.append(memory(r.marks, r.size * sizeof(RunMark)))
    out.put(b"".join(parts))


cdef object write_instruments(Writer out, Instruments instruments):
    write_names(out, instruments.currencies)
    write_names(out, instruments.rule_names)
    out.put(memory(instruments.rules.data, instruments.rules.size))


cdef object write_judge(Writer out, Judge judge):
    out.put_array(&judge.killed, 1)
    out.put(b"1" if judge.firm_killed else b"0")
    out.put(memory(judge.kills.data, judge.kills.size))


cdef object write_alerts(Writer out, AlertLog alerts):
    out.put(memory(alerts.records.data, alerts.records.size))
    out.put(memory(alerts.offsets.data, alerts.offsets.size))
    out.put(memory(alerts.heap.data, alerts.heap.size))


cdef bytes body_of(RiskCore core):
    cdef Writer out = Writer()
    for names in (core.symbols, core.accounts, core.venues, core.strategies):
        write_names(out, names)
    write_instruments(out, core.instruments)
    write_book(out, core.book)
    write_limits(out, core.limits)
    write_judge(out, core.judge)
    out.put(memory(core.refusals.data, core.refusals.size))
    write_alerts(out, core.alerts)
    return b"".join(out.parts)


def dump(RiskCore core not None):
    """Return the core's state as bytes."""
    cdef SnapshotHeader header
    cdef bytes body = body_of(core), sizes = layout()
    memset(&header, 0, sizeof(header))
    header.magic = SNAPSHOT_MAGIC
    header.version = SNAPSHOT_VERSION
    header.layout = crc32c(<const uint8_t*><const char*>sizes, len(sizes), 0)
    header.crc32c = crc32c(<const uint8_t*><const char*>body, len(body), 0)
    header.body_bytes = len(body)
    header.applied_seq = core.applied_seq
    return memory(&header, sizeof(header)) + body


def state_hash(RiskCore core not None):
    """Return 16 bytes (BLAKE2b) that are equal for equal histories, whichever frames they came in."""
    digest = hashlib.blake2b(core.applied_seq.to_bytes(8, "little"), digest_size=16)
    digest.update(body_of(core))
    return digest.digest()


# --- reading -----------------------------------------------------------------------------------------------------

cdef class Reader:
    cdef bytes body
    cdef size_t at

    def __cinit__(self, bytes body not None):
        self.body = body

    cdef bytes take(self):
        cdef size_t size
        if self.at + 8 > <size_t>len(self.body):
            raise SnapshotError("a snapshot ends before its last section")
        size = int.from_bytes(self.body[self.at:self.at + 8], "little")
        self.at += 8
        if size > <size_t>len(self.body) - self.at:
            raise SnapshotError("a section of a snapshot is longer than the rest of it")
        self.at += size
        return self.body[self.at - size:self.at]

    cdef object take_array(self, Array* array, size_t width):
        cdef bytes section = self.take()
        if array_extend(array, <uint32_t>(len(section) // width), width) < 0:
            raise MemoryError
        if section:
            memcpy(array.data, <const char*>section, len(section))

    cdef object take_bytes(self, Bytes* out):
        cdef bytes section = self.take()
        if section and bytes_append(out, <const char*>section, len(section)) < 0:
            raise MemoryError

    cdef object take_texts(self):
        cdef bytes section = self.take()
        cdef size_t at = 0
        texts = []
        while at < <size_t>len(section):
            size = section[at]
            texts.append(section[at + 1:at + 1 + size])
            at += 1 + size
        return texts


cdef object read_names(Reader source, NameTable names):
    for text in source.take_texts():
        names.add(text)


cdef object read_instruments(Reader source, Instruments instruments):
    cdef bytes rules, text
    cdef const Instrument* all
    cdef uint32_t i
    read_names(source, instruments.currencies)
    texts = source.take_texts()
    rules = source.take()
    all = <const Instrument*><const char*>rules
    for i in range(len(texts)):
        text = texts[i]
        if instruments.define(<const uint8_t*><const char*>text, len(text), &all[i + 1]) < 0:
            raise MemoryError


cdef object read_book(Reader source, Book book):
    cdef bytes entries, ids
    cdef const Entry* all
    cdef Entry entry
    cdef uint32_t i, index
    cdef size_t at = 0
    source.take_array(&book.store.symbols, sizeof(Symbol))
    source.take_array(&book.store.positions, sizeof(Position))
    source.take_array(&book.store.cells, sizeof(Cell))
    source.take_array(&book.store.baselines, sizeof(Baseline))
    entries = source.take()
    ids = source.take()
    all = <const Entry*><const char*>entries
    for i in range(len(entries) // sizeof(Entry)):
        entry = all[i]
        entry.id = <const uint8_t*><const char*>ids + at
        at += entry.id_length
        index = book.new_entry(&entry)
        if index == 0:
            raise MemoryError
    if book.rebuild_tables() < 0:
        raise MemoryError


cdef object read_limits(Reader source, RiskCore core):
    cdef LimitBook limits = core.compile_limits(source.take())
    cdef bytes numbers = source.take()
    money_scale, quantity_scale, stamp = map(int, numbers.split())
    limits.money_scale, limits.quantity_scale, limits.stamp = money_scale, quantity_scale, stamp
    source.take_array(&limits.keys, sizeof(Key))
    source.take_array(&limits.slots, sizeof(Slot))
    source.take_array(&limits.nodes, sizeof(Node))
    source.take_array(&limits.rules, sizeof(Rule))
    source.take_array(&limits.sums, sizeof(Sums))
    source.take_array(&limits.lasts, sizeof(Last))
    source.take_array(&limits.factors, sizeof(SymbolFactors))
    limits.set_limit_levels()
    if limits.rebuild_key_table() < 0 or limits.rebuild_holders() < 0:
        raise MemoryError
    read_windows(source.take(), limits)
    read_runs(source.take(), limits)
    core.limits = limits


cdef object read_windows(bytes section, LimitBook limits):
    cdef size_t at = 0, end
    cdef uint32_t count = 0
    while at < <size_t>len(section):
        end = section.index(b"\n", at)
        seen, latest, trades, size = map(int, section[at:end].split())
        at = end + 1
        count = max(count, 1) + 1
        if array_extend(&limits.windows, count, sizeof(Window)) < 0 or window_restore(
                &(<Window*>limits.windows.data)[count - 1], seen, latest, trades, size,
                <const WindowEntry*>(<const char*>section + at)) < 0:
            raise MemoryError
        at += size * sizeof(WindowEntry)


cdef object read_runs(bytes section, LimitBook limits):
    cdef size_t at = 0, end
    cdef uint32_t count = 0
    while at < <size_t>len(section):
        end = section.index(b"\n", at)
        price, quantity, length, size = map(int, section[at:end].split())
        at = end + 1
        count = max(count, 1) + 1
        if array_extend(&limits.runs, count, sizeof(Run)) < 0 or run_restore(
                &(<Run*>limits.runs.data)[count - 1], price, quantity, length, size,
                <const RunMark*>(<const char*>section + at)) < 0:
            raise MemoryError
        at += size * sizeof(RunMark)


cdef object check_header(bytes snapshot):
    cdef const SnapshotHeader* header = <const SnapshotHeader*><const char*>snapshot
    cdef bytes sizes = layout()
    cdef const uint8_t* body
    if len(snapshot) < <Py_ssize_t>sizeof(SnapshotHeader) or header.magic != SNAPSHOT_MAGIC:
        raise SnapshotError("not a snapshot: it does not start with RWS1")
    if header.version != SNAPSHOT_VERSION or header.layout != crc32c(<const uint8_t*><const char*>sizes, len(sizes), 0):
        raise SnapshotError(f"a snapshot of another riskwire (version {header.version}); replay the journal instead")
    body = <const uint8_t*><const char*>snapshot + sizeof(SnapshotHeader)
    if header.body_bytes != len(snapshot) - sizeof(SnapshotHeader):
        raise SnapshotError(f"a snapshot of {header.body_bytes} bytes was cut to {len(snapshot) - sizeof(SnapshotHeader)}")
    if crc32c(body, header.body_bytes, 0) != header.crc32c:
        raise SnapshotError("a snapshot is damaged: its CRC-32C does not match; replay the journal instead")


def load(RiskCore core not None, bytes snapshot not None):
    """Put the state of ``dump`` into a core that has applied nothing yet. Raises SnapshotError."""
    cdef Reader source
    check_header(snapshot)
    if core.applied_seq or core.symbols.count > 1:
        raise SnapshotError("a snapshot goes into a new RiskCore; this one has applied frames")
    source = Reader(snapshot[sizeof(SnapshotHeader):])
    for names in (core.symbols, core.accounts, core.venues, core.strategies):
        read_names(source, names)
    read_instruments(source, core.instruments)
    read_book(source, core.book)
    read_limits(source, core)
    source.take_array(&core.judge.killed, 1)
    core.judge.firm_killed = source.take() == b"1"
    source.take_bytes(&core.judge.kills)
    source.take_bytes(&core.refusals)
    source.take_bytes(&core.alerts.records)
    source.take_bytes(&core.alerts.offsets)
    source.take_bytes(&core.alerts.heap)
    core.alerts.count = core.alerts.offsets.size // 8
    core.applied_seq = (<const SnapshotHeader*><const char*>snapshot).applied_seq
