"""The door: checks, names, duplicates, numbers. Unsequenced frames in, one journaled frame out for each.

All that can refuse a record is decided before anything is changed for it, so a refused record leaves no trace: no
name, no number, no memory of its identity. Records are taken in chunks of two passes; the first checks and maps, and
fetches the duplicate table's cache lines ahead for the second.
"""

cimport cython
from libc.stdint cimport INT64_MIN, int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import json

from ext.base cimport Base, BaseUnits
from ext.decimals cimport rescale
from ext.dedup cimport DEDUP_CONFLICT, DEDUP_DUPLICATE, DEDUP_NEW, Dedup, fetch_slot, fingerprint_of, takes_plainly
from ext.definitions cimport NO_NAME, Instrument, Instruments, NameTable
from ext.journal cimport Journal
from ext.plaintrades cimport is_plain, take_plain
from ext.records cimport (
    EVENT_ADJUST, EVENT_INSTRUMENT, EVENT_KILL, EVENT_LIMITS, EVENT_MARK, EVENT_REJECTED, EVENT_SESSION, EVENT_TRADE,
    EXEC_BUST, EXEC_NEW, FLAG_FEE_OVERFLOW, FLAG_FEE_PRECISION, FLAG_PRICE_WIDE, FLAG_TIME_OVERFLOW,
    FLAG_TIME_PRECISION, FLAG_VOLUME_WIDE, FRAME_MAGIC, FRAME_RECORDS_MAX, FRAME_SEQUENCED, FRAME_UNSEQUENCED,
    FRAME_VERSION,
    HEADER_BYTES, NAME_ACCOUNT, NAME_KINDS, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, REASON_CONFLICTING_DUPLICATE,
    REASON_INVALID, REASON_NONE, REASON_OVERFLOW, REASON_PRECISION, REASON_TOO_MANY_NAMES,
    REASON_TOO_OLD, RECORD_BYTES, SIDE_BUY, SIDE_SELL, TEXT_BYTES_MAX, Bytes, Definition, FrameHeader, FrameView,
    Record, bytes_append, bytes_free, bytes_reserve, frame_open, frame_seal, frame_stamp,
)
from ext.utf8 cimport is_utf8
from ext.wide cimport copy_text

from ext.errors import JournalError
from ext.records import FrameDecodeError

cdef enum:
    IDENTITY_NAMES = 7              # bits of symbol, account, venue
    EXPONENT_MIN = -18
    LIMITS_FRAME_BYTES_MAX = 8388608
    DEFINITION_BYTES_MAX = 72

assert sizeof(Control) == CONTROL_BYTES

KIND_TEXTS = ("symbol", "account", "venue", "strategy")
DETAILS = {
    DETAIL_NONE: "",
    DETAIL_TYPE: "no such event type",
    DETAIL_SIDE: "side is neither buy (1) nor sell (2)",
    DETAIL_EXEC_TYPE: "exec_type is none of new (0), correct (1), bust (2)",
    DETAIL_VOLUME: "volume is not above 0",
    DETAIL_ID: "the id is not 1 to 64 bytes of UTF-8",
    DETAIL_REF: "the second text (ref_trade_id, note, name, currency, who) is missing, longer than 64 bytes or not UTF-8",
    DETAIL_EXPONENT: "an exponent is outside -18 to 0",
    DETAIL_MULTIPLIER: "the multiplier is not above 0 and below 1e18 with at most 18 digits, none finer than 1e-18",
    DETAIL_RATE: "the limits in force have no settings.fx rate for this currency",
    DETAIL_LIMITS: "the limits cannot be used",
    DETAIL_PRICE: "price or quantity does not fit the instrument's unit",
    DETAIL_FEE: "fee does not fit units of 1e-9",
    DETAIL_TIME: "the time does not fit nanoseconds",
}
REASON_TEXTS = {
    REASON_CONFLICTING_DUPLICATE: "came before with another price or volume (a correct: or another ref_trade_id)",
    REASON_TOO_OLD: "executed no later than a trade that is no longer remembered (dedup_max_trades)",
}
for _kind, _text in enumerate(KIND_TEXTS):
    DETAILS[DETAIL_NAME_MISSING + _kind] = f"{_text} is missing"
    DETAILS[DETAIL_NAME_UNDEFINED + _kind] = f"{_text} has an id that no frame of this publisher has defined"
    DETAILS[DETAIL_NAME_BAD + _kind] = f"{_text} is not 1 to 64 bytes of UTF-8"
    DETAILS[DETAIL_NAME_MANY + _kind] = f"one more {_text} than the engine keeps (max_names)"


cdef int64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef inline bint is_text(const uint8_t* p, size_t n, size_t least) noexcept nogil:
    return least <= n <= TEXT_BYTES_MAX and is_utf8(p, n)


cdef bint has_wildcard(const uint8_t* p, size_t n) noexcept nogil:
    return memchr(p, 42, n) != NULL or memchr(p, 63, n) != NULL or memchr(p, 91, n) != NULL


cdef bint is_multiplier(int64_t mantissa, int64_t exponent) noexcept nogil:
    """At most 18 digits, none finer than 1e-18, above 0 and below 1e18 (docs/decisions/0002-readings.md, 34)."""
    cdef int digits = 0
    if mantissa <= 0 or not -128 <= exponent <= 127:
        return False
    while mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    while mantissa:
        mantissa //= 10
        digits += 1
    return digits <= 18 and exponent >= EXPONENT_MIN and digits + exponent <= 18


cdef int check_fields(const Record* r, const uint8_t* id, const uint8_t* ref) noexcept nogil:
    """What can be judged of a record without names or units: a Detail, DETAIL_NONE when it is fine."""
    cdef size_t ref_least = 0
    if r.type == EVENT_TRADE:
        if r.exec_type > EXEC_BUST:
            return DETAIL_EXEC_TYPE
        if r.side != SIDE_BUY and r.side != SIDE_SELL:
            return DETAIL_SIDE
        if r.volume <= 0:
            return DETAIL_VOLUME
        ref_least = r.exec_type != EXEC_NEW
    elif r.type == EVENT_SESSION:
        ref_least = 1
    elif r.type == EVENT_INSTRUMENT:
        if not (EXPONENT_MIN <= r.price_exponent <= 0 and EXPONENT_MIN <= r.volume_exponent <= 0):
            return DETAIL_EXPONENT
        if not is_multiplier(r.price, r.volume):
            return DETAIL_MULTIPLIER
    elif r.type == EVENT_KILL:
        if r.exec_type > 1:
            return DETAIL_EXEC_TYPE
    elif r.type != EVENT_MARK and r.type != EVENT_ADJUST and r.type != EVENT_LIMITS:
        return DETAIL_TYPE
    if not is_text(id, r.id_length, 1):
        return DETAIL_ID
    if r.type != EVENT_LIMITS and not is_text(ref, r.ref_length, ref_least):
        return DETAIL_REF
    return DETAIL_NONE


# --- sources -------------------------------------------------------------------------------------------------------

cdef SourceState* source_state(Source source) noexcept:
    return &source.state


cdef void free_source(SourceState* s) noexcept nogil:
    cdef int kind
    for kind in range(NAME_KINDS):
        free(s.globals[kind])
        free(s.names[kind])
        s.globals[kind] = NULL
        s.names[kind] = NULL
    bytes_free(&s.held)


cdef int grow_source(SourceState* s, int kind, uint32_t least) noexcept nogil:
    """Make room for local ids up to `least`. 0, or -1: no memory."""
    cdef uint64_t size = s.capacity[kind] if s.capacity[kind] else 64
    cdef uint32_t* globals_
    cdef LocalName* names
    while size <= least:
        size *= 2
    globals_ = <uint32_t*>realloc(s.globals[kind], size * sizeof(uint32_t))
    if globals_ == NULL:
        return -1
    s.globals[kind] = globals_
    names = <LocalName*>realloc(s.names[kind], size * sizeof(LocalName))
    if names == NULL:
        return -1
    s.names[kind] = names
    memset(&globals_[s.capacity[kind]], 0xFF, (size - s.capacity[kind]) * sizeof(uint32_t))
    memset(&names[s.capacity[kind]], 0, (size - s.capacity[kind]) * sizeof(LocalName))
    if s.capacity[kind] == 0:
        globals_[0] = 0
        names[0].state = LOCAL_GOOD
    s.capacity[kind] = <uint32_t>size
    return 0


cdef class Source:
    def __cinit__(self, name, uint64_t incarnation):
        cdef int kind
        self.name = name
        self.state.incarnation = incarnation
        for kind in range(NAME_KINDS):
            if grow_source(&self.state, kind, 0) < 0:
                raise MemoryError

    def __dealloc__(self):
        free_source(&self.state)

    @property
    def incarnation(self):
        return self.state.incarnation

    @property
    def taken(self):
        """The last source_seq that was dealt with."""
        return self.state.taken

    @property
    def counts(self):
        """(accepted, duplicates, refused) so far."""
        return self.state.accepted, self.state.duplicates, self.state.refused

    def local_name(self, int kind, uint32_t id):
        """The text of one of the publisher's own name ids; ``?<id>`` where it defined none."""
        cdef LocalName* local
        if id == 0:
            return ""
        if id >= self.state.capacity[kind] or self.state.names[kind][id].state == LOCAL_UNDEFINED:
            return f"?{id}"
        local = &self.state.names[kind][id]
        return (<const char*>local.text)[:local.length].decode("utf-8", "replace")


# --- the sequencer -------------------------------------------------------------------------------------------------

@cython.final
cdef class Sequencer:
    """Checks, deduplicates and numbers events, and writes them to a journal.

    journal: open for writing; what it holds is taken up again (names, instruments, identities).
    names_max: names of each kind. dedup_max_trades: trades remembered. dedup_expected: how many may come
    soon. dedup_code_bits: bits of a seq that a remembered event begins with (tests begin with few).
    seals: False: frames of a journal in memory get no CRC; where nobody will look at it.
    dedup: made before, of this journal, in place of the three above.
    check_limits: given the JSON of a LimitsChanged (bytes), returns its canonical form (bytes) or raises ValueError
    (or any exception whose text says what is wrong). None: taken as it is.
    """

    def __cinit__(self, Journal journal not None, *, uint32_t names_max=1_000_000,
                  uint64_t dedup_max_trades=50_000_000, uint64_t dedup_expected=0, int dedup_code_bits=28, Dedup dedup=None,
                  bint seals=True, check_limits=None):
        self.journal = journal
        if dedup is not None and dedup.journal is not journal:
            raise ValueError("what knows the duplicates is of another journal")
        self.dedup = dedup or Dedup(journal, dedup_max_trades, dedup_expected, dedup_code_bits)
        self.seals = seals or journal.directory is not None
        self.instruments = Instruments()
        self.names = tuple(NameTable() for _ in range(NAME_KINDS))
        self.symbols, self.accounts, self.venues, self.strategies = self.names
        self.names_max = names_max
        # A publisher also numbers names that are refused; what it may define is bounded all the same.
        self.ids_max = 2 * min(names_max, 1 << 30) + 1024
        self.check_limits = check_limits
        self.canonical = {}
        self.messages = {}
        self.work = <Work*>malloc(CHUNK_RECORDS * sizeof(Work))
        if self.work == NULL or self.add_units(0) < 0:
            raise MemoryError
        self._load()

    def __dealloc__(self):
        free(self.work)
        bytes_free(&self.units)
        bytes_free(&self.definitions)
        bytes_free(&self.heap)
        bytes_free(&self.refused)

    def _load(self):
        cdef uint64_t index
        cdef FrameView view
        cdef int status
        if self.journal.base is not None and self.load_base(self.journal.base) < 0:
            raise MemoryError
        self.dedup.gather()
        for index in range(self.journal.first_frame(), self.journal.frames()):
            with nogil:
                self.journal.view_at(index, &view)
                status = self.load_frame(&view)
            if status == -1:
                raise MemoryError
            if status == -2:
                raise JournalError(f"{self.journal.directory}: frame {index} (seq {view.header.first_seq}) defines a name "
                                   "out of order; restore the journal from a backup")
        if self.dedup.settle() < 0:
            raise MemoryError
        self.next_seq = self.journal.last() + 1

    cdef int load_base(self, Base base):
        """Take up what the journal's removed beginning left behind. 0, or -1: no memory."""
        cdef FrameView view
        cdef const BaseUnits* known = <const BaseUnits*>base.units.data
        cdef Units* units
        cdef bytes frame
        cdef size_t i
        cdef int status
        for frame in base.frames():
            frame_open(<const uint8_t*><const char*>frame, len(frame), False, &view)
            with nogil:
                status = self.load_names(&view)
                if status == 0:
                    status = self.load_in_force(&view)
            if status < 0:
                return -1
        units = <Units*>self.units.data
        for i in range(base.units.size // sizeof(BaseUnits)):
            if known[i].used:
                units[i].used = 1
                units[i].price = known[i].price
                units[i].quantity = known[i].quantity
        return self.dedup.take_base(base)

    cdef int load_names(self, const FrameView* view) noexcept nogil:
        """Take up the names a frame defines. 0, -1: no memory, -2: one out of order."""
        cdef size_t at = 0
        cdef const Definition* d
        while at < view.header.definition_bytes:
            d = <const Definition*>(view.definitions + at)
            if d.id != self.name_count(d.kind):
                return -2
            if self.intern_name(d.kind, view.definitions + at + sizeof(Definition), d.length) != d.id:
                return -2
            if d.kind == NAME_SYMBOL and self.add_units(d.id) < 0:
                return -1
            at += sizeof(Definition) + ((<size_t>d.length + 3) & ~<size_t>3)
        return 0

    cdef int load_frame(self, const FrameView* view) noexcept nogil:
        cdef int status = self.load_names(view)
        if status == 0:
            status = self.load_in_force(view)
        return status if status < 0 else self.dedup.remember_frame(view)

    cdef int load_in_force(self, const FrameView* view) noexcept nogil:
        """Take up what a frame says of units, instruments and currencies. 0, or -1: no memory."""
        cdef const Record* r
        cdef Units* units
        cdef size_t i
        for i in range(view.header.record_count):
            r = &view.records[i]
            if r.type == EVENT_TRADE or r.type == EVENT_MARK or r.type == EVENT_ADJUST:
                units = <Units*>self.units.data + r.symbol
                units.used = 1
                units.price = r.price_exponent
                units.quantity = r.volume_exponent
            elif r.type == EVENT_INSTRUMENT and self.define_instrument(r, view.heap + r.ref_offset) < 0:
                return -1
            elif r.type == EVENT_LIMITS:
                with gil:
                    self._take_rates((<const char*>view.heap)[r.ref_offset:r.ref_offset + r.volume])
        return 0

    # --- names and units -------------------------------------------------------------------------------------------

    cdef NameTable table(self, int kind):
        return <NameTable>self.names[kind]

    cdef uint32_t find_name(self, int kind, const void* text, size_t length) noexcept nogil:
        if kind == NAME_SYMBOL:
            return self.symbols.find(text, length)
        if kind == NAME_ACCOUNT:
            return self.accounts.find(text, length)
        if kind == NAME_VENUE:
            return self.venues.find(text, length)
        return self.strategies.find(text, length)

    cdef uint32_t intern_name(self, int kind, const void* text, size_t length) noexcept nogil:
        if kind == NAME_SYMBOL:
            return self.symbols.intern(text, length)
        if kind == NAME_ACCOUNT:
            return self.accounts.intern(text, length)
        if kind == NAME_VENUE:
            return self.venues.intern(text, length)
        return self.strategies.intern(text, length)

    cdef uint32_t name_count(self, int kind) noexcept nogil:
        if kind == NAME_SYMBOL:
            return self.symbols.count
        if kind == NAME_ACCOUNT:
            return self.accounts.count
        if kind == NAME_VENUE:
            return self.venues.count
        return self.strategies.count

    cdef int add_units(self, uint32_t id) noexcept nogil:
        cdef Instrument instrument
        cdef Units units
        cdef size_t length
        cdef const uint8_t* text = self.symbols.text(id, &length)
        self.instruments.resolve(text, length, &instrument)
        units.price = instrument.price_exponent
        units.quantity = instrument.quantity_exponent
        units.used = 0
        units.reserved = 0
        return bytes_append(&self.units, &units, sizeof(units))

    cdef int learn(self, const FrameView* view, SourceState* source) noexcept nogil:
        cdef size_t at = 0
        cdef const Definition* d
        cdef const uint8_t* text
        cdef LocalName* local
        while at < view.header.definition_bytes:
            d = <const Definition*>(view.definitions + at)
            text = view.definitions + at + sizeof(Definition)
            at += sizeof(Definition) + ((<size_t>d.length + 3) & ~<size_t>3)
            # Ids are dense, so far beyond the names there can be is one name too many (judged per record).
            if d.id > self.ids_max:
                continue
            if d.id >= source.capacity[d.kind] and grow_source(source, d.kind, d.id) < 0:
                return -1
            local = &source.names[d.kind][d.id]
            if local.state == LOCAL_GOOD and local.length == d.length and memcmp(local.text, text, d.length) == 0:
                continue
            if local.state == LOCAL_UNDEFINED:
                source.names_known += 1
            elif local.state == LOCAL_GOOD and source.globals[d.kind][d.id] == NO_NAME:
                source.unmapped -= 1
            local.length = d.length if d.length <= TEXT_BYTES_MAX else <uint8_t>TEXT_BYTES_MAX
            memcpy(local.text, text, local.length)
            source.globals[d.kind][d.id] = NO_NAME
            if not is_text(text, d.length, 1):
                local.state = LOCAL_BAD
                continue
            local.state = LOCAL_GOOD
            source.globals[d.kind][d.id] = self.find_name(d.kind, text, d.length)
            if source.globals[d.kind][d.id] == NO_NAME:
                source.unmapped += 1
        return 0

    cdef int map_name(self, SourceState* source, Work* work, int kind, uint32_t* id, bint required) noexcept nogil:
        """Turn a publisher's name id into the broker's: a Detail, or DETAIL_NONE (also while the broker has none)."""
        cdef uint32_t local = id[0], found
        cdef LocalName* name
        work.local[kind] = local
        if local == 0:
            return DETAIL_NAME_MISSING + kind if required else DETAIL_NONE
        if local > self.ids_max:
            work.detail = DETAIL_NAME_MANY + kind
            return DETAIL_NONE
        if local >= source.capacity[kind]:
            return DETAIL_NAME_UNDEFINED + kind
        found = source.globals[kind][local]
        if found == NO_NAME:
            name = &source.names[kind][local]
            if name.state != LOCAL_GOOD:
                return (DETAIL_NAME_UNDEFINED if name.state == LOCAL_UNDEFINED else DETAIL_NAME_BAD) + kind
            found = self.find_name(kind, name.text, name.length)    # another publisher may have brought it since
            if found == NO_NAME:
                work.unmapped |= 1 << kind
                return DETAIL_NONE
            source.globals[kind][local] = found
            source.unmapped -= 1
        id[0] = found
        return DETAIL_NONE

    cdef int map_trade(self, SourceState* source, Work* work) noexcept nogil:
        """Map the names of a trade: a Detail. Nearly always the broker has them all."""
        cdef uint32_t* ids = &work.record.symbol            # of each NameKind, in order
        cdef uint32_t found
        cdef int kind, detail
        for kind in range(NAME_KINDS):
            found = source.globals[kind][ids[kind]] if 0 < ids[kind] < source.capacity[kind] else <uint32_t>NO_NAME
            if found != <uint32_t>NO_NAME:
                ids[kind] = found
            elif ids[kind] or kind <= NAME_ACCOUNT:
                detail = self.map_name(source, work, kind, &ids[kind], kind <= NAME_ACCOUNT)
                if detail != DETAIL_NONE:
                    return detail
        return DETAIL_NONE

    cdef void map_names(self, SourceState* source, Work* work) noexcept nogil:
        cdef Record* r = &work.record
        cdef uint8_t type = r.type
        cdef bint has_symbol = type == EVENT_TRADE or type == EVENT_MARK or type == EVENT_ADJUST or type == EVENT_INSTRUMENT
        cdef int detail = DETAIL_NONE
        if type == EVENT_TRADE:
            detail = self.map_trade(source, work)
        else:
            r.venue = 0
            r.strategy = 0
            if has_symbol:
                detail = self.map_name(source, work, NAME_SYMBOL, &r.symbol, True)
            else:
                r.symbol = 0
            if type != EVENT_ADJUST and type != EVENT_KILL:
                r.account = 0
            elif detail == DETAIL_NONE:     # 0: a kill of every account
                detail = self.map_name(source, work, NAME_ACCOUNT, &r.account, type == EVENT_ADJUST)
        if detail != DETAIL_NONE:
            work.reason = REASON_INVALID
            work.detail = <uint8_t>detail

    cdef const uint8_t* symbol_text(self, const SourceState* source, const Work* work, size_t* length) noexcept nogil:
        cdef const LocalName* name
        if not work.unmapped & (1 << NAME_SYMBOL):
            return self.symbols.text(work.record.symbol, length)
        name = source.names[<int>NAME_SYMBOL] + work.local[<int>NAME_SYMBOL]
        length[0] = name.length
        return name.text

    cdef Units units_of(self, const SourceState* source, const Work* work) noexcept nogil:
        cdef Instrument instrument
        cdef Units units
        cdef size_t length
        cdef const uint8_t* symbol
        if not work.unmapped & (1 << NAME_SYMBOL):
            if work.record.symbol < self.symbols.count:
                return (<Units*>self.units.data)[work.record.symbol]
            return (<Units*>self.units.data)[0]         # an id beyond what can be: refused for that later
        symbol = self.symbol_text(source, work, &length)
        self.instruments.resolve(symbol, length, &instrument)
        units.price = instrument.price_exponent
        units.quantity = instrument.quantity_exponent
        units.used = 0
        units.reserved = 0
        return units

    cdef void scale(self, const SourceState* source, Work* work) noexcept nogil:
        """Put price and volume into the instrument's units. Precision of any field is judged before any overflow."""
        cdef Record* r = &work.record
        cdef Units units = self.units_of(source, work)
        cdef int price = REASON_NONE, volume = REASON_NONE
        price = rescale(r.price, r.price_exponent, (r.flags & FLAG_PRICE_WIDE) != 0, units.price, &r.price)
        if r.type == EVENT_MARK:
            r.volume = 0
        else:
            volume = rescale(r.volume, r.volume_exponent, (r.flags & FLAG_VOLUME_WIDE) != 0, units.quantity, &r.volume)
        r.price_exponent = units.price
        r.volume_exponent = units.quantity
        if price == REASON_NONE and volume == REASON_NONE:
            return
        if price == REASON_PRECISION or volume == REASON_PRECISION:
            work.reason = REASON_PRECISION
            work.detail = DETAIL_PRICE
        elif price == REASON_OVERFLOW or volume == REASON_OVERFLOW:
            work.reason = REASON_OVERFLOW
            work.detail = DETAIL_PRICE

    # --- the two passes --------------------------------------------------------------------------------------------

    cdef void prepare(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil:
        """First pass: check and translate one record; nothing outside `work` changes but caches."""
        cdef Record* r = &work.record
        cdef const uint8_t* id
        cdef uint8_t flags
        cdef int detail
        r[0] = view.records[i]
        id = view.heap + r.id_offset
        work.reason = REASON_NONE
        work.detail = DETAIL_NONE
        work.unmapped = 0
        work.fingerprint = 0
        work.plain = False
        if r.type == EVENT_REJECTED:
            work.reason = r.exec_type if REASON_NONE < r.exec_type <= REASON_OVERFLOW else <uint8_t>REASON_INVALID
            return
        detail = check_fields(r, id, view.heap + r.ref_offset)
        if detail == DETAIL_NONE and r.type == EVENT_LIMITS:
            detail = self.judge_limits(view, i)
        if detail != DETAIL_NONE:
            work.reason = REASON_INVALID
            work.detail = <uint8_t>detail
            return
        self.map_names(source, work)
        if work.reason != REASON_NONE:
            return
        flags = r.flags
        if r.fee == INT64_MIN:          # fields are int64 without -2**63, so that each has its negative
            flags |= FLAG_FEE_OVERFLOW
        if r.executed_at == INT64_MIN:
            flags |= FLAG_TIME_OVERFLOW
        if r.type == EVENT_TRADE or r.type == EVENT_MARK or r.type == EVENT_ADJUST:
            self.scale(source, work)
        if flags & ~(FLAG_PRICE_WIDE | FLAG_VOLUME_WIDE):
            judge_flags(flags, work)
        if work.reason != REASON_NONE:
            return
        if work.detail != DETAIL_NONE:
            work.reason = REASON_TOO_MANY_NAMES
            return
        if r.type != EVENT_TRADE or not work.unmapped & IDENTITY_NAMES:
            work.fingerprint = fingerprint_of(self.dedup, r, id)

    cdef int decide(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil:
        """Second pass: accept, count or refuse one record. 0, or -1: no memory."""
        cdef Record* r = &work.record
        cdef const uint8_t* id = view.heap + r.id_offset
        cdef const uint8_t* ref = view.heap + r.ref_offset
        cdef int verdict = DEDUP_NEW
        if r.type == EVENT_INSTRUMENT and work.reason == REASON_NONE and not self.has_rate(ref, r.ref_length):
            work.reason = REASON_INVALID
            work.detail = DETAIL_RATE
        if work.reason != REASON_NONE:
            return self.refuse(i, work)
        if work.unmapped and self.introduces_too_many(source, work):
            work.reason = REASON_TOO_MANY_NAMES
            return self.refuse(i, work)
        if r.type != EVENT_TRADE or not work.unmapped & IDENTITY_NAMES:
            if work.fingerprint == 0:
                work.fingerprint = fingerprint_of(self.dedup, r, id)
            verdict = self.dedup.look_up(work.fingerprint, r, id, ref)
        if verdict == DEDUP_DUPLICATE:
            self.duplicates += 1
            return 0
        if verdict == DEDUP_CONFLICT:
            work.reason = REASON_CONFLICTING_DUPLICATE
            return self.refuse(i, work)
        if self.dedup.is_too_old(r):
            work.reason = REASON_TOO_OLD
            return self.refuse(i, work)
        return self.accept(view, i, source, work)

    cdef bint introduces_too_many(self, SourceState* source, Work* work) noexcept nogil:
        """Map what an earlier record has introduced meanwhile; whether one of the rest finds its table full."""
        cdef int kind
        cdef uint32_t found
        cdef const LocalName* name
        for kind in range(NAME_KINDS):
            if not work.unmapped & (1 << kind):
                continue
            name = &source.names[kind][work.local[kind]]
            found = self.find_name(kind, name.text, name.length)
            if found != NO_NAME:
                set_name(&work.record, kind, found)
                work.unmapped &= ~(1 << kind)
                if source.globals[kind][work.local[kind]] == NO_NAME:
                    source.globals[kind][work.local[kind]] = found
                    source.unmapped -= 1
            elif self.name_count(kind) > self.names_max:
                work.detail = DETAIL_NAME_MANY + kind
                return True
        return False

    cdef int introduce(self, SourceState* source, Work* work) noexcept nogil:
        """Give the new names of an accepted record their ids, and define them in the frame."""
        cdef int kind
        cdef uint32_t id
        cdef const LocalName* name
        cdef Definition d
        cdef uint32_t zero = 0
        for kind in range(NAME_KINDS):
            if not work.unmapped & (1 << kind):
                continue
            name = &source.names[kind][work.local[kind]]
            id = self.intern_name(kind, name.text, name.length)
            if id == NO_NAME or (kind == NAME_SYMBOL and self.add_units(id) < 0):
                return -1
            source.globals[kind][work.local[kind]] = id
            source.unmapped -= 1
            set_name(&work.record, kind, id)
            d.kind = kind
            d.length = name.length
            d.reserved = 0
            d.id = id
            if (bytes_append(&self.definitions, &d, sizeof(d)) < 0
                    or bytes_append(&self.definitions, name.text, name.length) < 0
                    or bytes_append(&self.definitions, &zero, (4 - name.length % 4) % 4) < 0):
                return -1
        return 0

    cdef int accept(self, const FrameView* view, uint32_t i, SourceState* source, Work* work) noexcept nogil:
        cdef Record* r
        cdef const uint8_t* id = view.heap + work.record.id_offset
        if work.unmapped:
            if self.introduce(source, work) < 0:
                return -1
            work.fingerprint = fingerprint_of(self.dedup, &work.record, id)
        r = self.out + self.built
        r[0] = work.record
        r.flags = 0
        if self.put_texts(view, i, r) < 0:
            return -1
        if r.type == EVENT_TRADE or r.type == EVENT_MARK or r.type == EVENT_ADJUST:
            (<Units*>self.units.data)[r.symbol].used = 1
        elif r.type == EVENT_INSTRUMENT:
            while r.price % 10 == 0:
                r.price //= 10
                r.volume += 1
            if self.define_instrument(r, self.heap.data + r.ref_offset) < 0:
                return -1
        self.built += 1
        self.dedup.pending_count = self.built
        return self.dedup.remember(work.fingerprint, self.next_seq + self.built - 1, r)

    cdef int put_texts(self, const FrameView* view, uint32_t i, Record* r) noexcept nogil:
        cdef const uint8_t* id = view.heap + r.id_offset
        cdef const uint8_t* ref = view.heap + r.ref_offset
        cdef uint8_t* to
        cdef int status
        if bytes_reserve(&self.heap, <size_t>r.id_length + r.ref_length) < 0:
            return -1
        to = self.heap.data + self.heap.size
        r.id_offset = <uint32_t>self.heap.size
        copy_text(to, id, r.id_length)
        self.heap.size += r.id_length
        r.ref_offset = <uint32_t>self.heap.size if r.ref_length else 0
        if r.type == EVENT_LIMITS:
            with gil:
                status = self._put_limits(i, r)
            return status
        copy_text(to + r.id_length, ref, r.ref_length)
        self.heap.size += r.ref_length
        return 0

    cdef int _put_limits(self, uint32_t i, Record* r) noexcept:
        cdef bytes blob = self.canonical[i]
        self._take_rates(blob)
        r.ref_offset = <uint32_t>self.heap.size
        r.volume = len(blob)
        return bytes_append(&self.heap, <const char*>blob, len(blob))

    cdef int judge_limits(self, const FrameView* view, uint32_t i) noexcept nogil:
        """Ask Python whether a set of limits can be used, and keep its canonical form. A Detail."""
        cdef int detail
        with gil:
            detail = self._judge_limits(view, i)
        return detail

    cdef int _judge_limits(self, const FrameView* view, uint32_t i) noexcept:
        cdef const Record* r = &view.records[i]
        cdef bytes blob = (<const char*>view.heap)[r.ref_offset:r.ref_offset + r.volume]
        cdef size_t total = sum(map(len, self.canonical.values()))
        try:
            made = blob if self.check_limits is None else self.check_limits(blob)
            if total + len(made) > LIMITS_FRAME_BYTES_MAX:
                raise ValueError(f"{len(made)} bytes of limits are too many for one frame")
            self._check_rates(made)
            self.canonical[i] = made
            return DETAIL_NONE
        except Exception as problem:
            self.messages[i] = str(problem)
            return DETAIL_LIMITS

    def _check_rates(self, bytes blob):
        """Every currency an instrument has must have a rate: it is never taken as 1."""
        cdef uint32_t id
        rates = currencies_of(blob)
        for id in range(1, self.instruments.currencies.count):
            currency = self.instruments.currencies[id]
            if rates is not None and currency not in rates:
                raise ValueError(f"settings.fx: no rate for {currency.decode()}, the currency of an instrument; "
                                 "add it to [settings.fx]")

    def _take_rates(self, bytes blob):
        """Remember which currencies the limits in force can convert."""
        rates = currencies_of(blob)
        self.rates = None if rates is None else NameTable()
        for currency in rates or ():
            self.rates.add(currency)

    cdef bint has_rate(self, const uint8_t* currency, size_t length) noexcept nogil:
        return length == 0 or self.rates is None or self.rates.find(currency, length) != NO_NAME

    cdef int refuse(self, uint32_t i, const Work* work) noexcept nogil:
        cdef Refused refused
        refused.index = i
        refused.reason = work.reason
        refused.detail = work.detail
        refused.reserved = 0
        return bytes_append(&self.refused, &refused, sizeof(refused))

    # --- instruments -----------------------------------------------------------------------------------------------

    cdef int define_instrument(self, const Record* record, const uint8_t* currency) noexcept nogil:
        cdef Instrument instrument
        cdef size_t length, text_length
        cdef const uint8_t* symbol = self.symbols.text(record.symbol, &length)
        cdef const uint8_t* text
        cdef uint32_t id, first = record.symbol, end = record.symbol + 1
        cdef Units* units = <Units*>self.units.data
        memset(&instrument, 0, sizeof(instrument))
        instrument.multiplier = record.price
        instrument.multiplier_exponent = <int8_t>record.volume
        instrument.price_exponent = record.price_exponent
        instrument.quantity_exponent = record.volume_exponent
        instrument.currency = self.instruments.currencies.intern(currency, record.ref_length)
        if instrument.currency == NO_NAME or self.instruments.define(symbol, length, &instrument) < 0:
            return -1
        if has_wildcard(symbol, length):
            first = 1
            end = self.symbols.count
        for id in range(first, end):
            if units[id].used:
                continue                # a symbol keeps the units of its first event
            text = self.symbols.text(id, &text_length)
            self.instruments.resolve(text, text_length, &instrument)
            units[id].price = instrument.price_exponent
            units[id].quantity = instrument.quantity_exponent
        return 0

    # --- frames ----------------------------------------------------------------------------------------------------

    cdef size_t room_for(self, const FrameView* view, const SourceState* source, uint32_t skip) noexcept nogil:
        """Bytes that the frame of the accepted can have at most."""
        cdef size_t texts = 0, limits = 0, names, count = view.header.record_count - skip
        cdef uint32_t i
        cdef const Record* r
        for i in range(skip, view.header.record_count):
            r = &view.records[i]
            texts += <size_t>r.id_length + r.ref_length
            if r.type == EVENT_LIMITS:
                limits = LIMITS_FRAME_BYTES_MAX
        names = source.unmapped if source.unmapped < 4 * count else 4 * count
        return HEADER_BYTES + count * RECORD_BYTES + names * DEFINITION_BYTES_MAX + texts + limits

    cdef int process(self, const FrameView* view, SourceState* source, uint32_t skip) noexcept nogil:
        cdef uint32_t count = view.header.record_count, before
        cdef int status
        self.accepted = 0
        self.duplicates = 0
        self.refused.size = 0
        if self.learn(view, source) < 0:
            return -1
        if skip >= count:
            return 0
        status = self.open_frame(count - skip, self.room_for(view, source, skip))
        if status < 0:
            return status
        before = self.built
        status = self.take_records(view, source, skip)
        self.accepted = self.built - before
        if status < 0 or (not (self.merging and self.built < MERGED_RECORDS_MAX) and self.close_frame() < 0):
            return -1
        source.accepted += self.accepted
        source.duplicates += self.duplicates
        source.refused += self.refused.size // sizeof(Refused)
        return 0

    cdef int take_records(self, const FrameView* view, SourceState* source, uint32_t skip) noexcept nogil:
        """Both passes over the records, a chunk at a time; 0, or -1 without memory."""
        cdef uint32_t count = view.header.record_count, at = skip, end, i
        cdef int status
        cdef bint plainly
        while at < count:
            end = at
            while end < count and end - at < CHUNK_RECORDS:
                if not is_plain(self, self.dedup, view, end, source, &self.work[end - at]):
                    self.prepare(view, end, source, &self.work[end - at])
                end += 1
                # What an instrument's definition changes, the records behind it must see.
                if view.records[end - 1].type == EVENT_INSTRUMENT:
                    break
            # One behind the other: page walks go on side by side, while each by itself would hold up what is behind it.
            for i in range(at, end):
                fetch_slot(self.dedup, self.work[i - at].fingerprint)
            plainly = takes_plainly(self.dedup, end - at)
            for i in range(at, end):
                status = take_plain(self, self.dedup, view, &self.work[i - at]) if plainly else 1
                if status > 0:
                    status = self.decide(view, i, source, &self.work[i - at])
                    plainly = takes_plainly(self.dedup, end - i)
                if status < 0:
                    return -1
            at = end
        return 0

    cdef int open_frame(self, uint32_t count, size_t room) noexcept nogil:
        """Make room for so many records and bytes, in the frame that is open or in a new one; as process() returns."""
        cdef uint8_t* place
        if self.built and (self.built + count > FRAME_RECORDS_MAX or self.frame_size() + room > self.room):
            if self.close_frame() < 0:
                return -1
        if self.built == 0:
            place = self.journal.reserve(room)
            if place == NULL:
                return -2
            self.room = max(room, min(self.journal.reserved_room(), <size_t>MERGED_BYTES_MAX) if self.merging else 0)
            self.out = <Record*>(place + HEADER_BYTES)
            self.definitions.size = 0
            self.heap.size = 0
            self.dedup.pending_records = self.out
            self.dedup.pending_heap = &self.heap
            self.dedup.pending_first = self.next_seq
            self.dedup.pending_count = 0
        if room > LIMITS_FRAME_BYTES_MAX:
            with gil:
                self.canonical.clear()
                self.messages.clear()
        return 0

    cdef size_t frame_size(self) noexcept nogil:
        return HEADER_BYTES + <size_t>self.built * RECORD_BYTES + self.definitions.size + self.heap.size

    cdef int close_frame(self) noexcept nogil:
        """Write header, names and texts around the accepted records, seal the frame and make it visible."""
        cdef uint8_t* data = <uint8_t*>self.out - HEADER_BYTES
        cdef size_t size = HEADER_BYTES + <size_t>self.built * RECORD_BYTES
        cdef FrameHeader header
        self.dedup.pending_records = NULL
        if self.built == 0:
            return 0
        if self.frame_size() > self.room:
            return -1
        if self.definitions.size:
            memcpy(data + size, self.definitions.data, self.definitions.size)
            size += self.definitions.size
        memcpy(data + size, self.heap.data, self.heap.size)
        size += self.heap.size
        memset(&header, 0, sizeof(header))
        header.magic = FRAME_MAGIC
        header.version = FRAME_VERSION
        header.kind = FRAME_SEQUENCED
        header.record_count = self.built
        header.definition_bytes = <uint32_t>self.definitions.size
        header.heap_bytes = <uint32_t>self.heap.size
        memcpy(data, &header, sizeof(header))
        if self.seals:
            frame_seal(data, size, self.next_seq, self.journal.epoch, now_ns())
        else:
            frame_stamp(data, self.next_seq, self.journal.epoch, now_ns())
        if self.journal.commit(size) < 0:
            return -1
        self.next_seq += self.built
        self.built = 0
        return 0

    # --- the Python face -------------------------------------------------------------------------------------------

    def process_frame(self, const unsigned char[::1] frame not None, Source source not None, uint32_t skip=0):
        """Take one unsequenced frame: (accepted, duplicates, [(record index, reason, detail), …]).

        Raises FrameDecodeError, MemoryError, or OSError where the journal cannot grow (then nothing has happened).
        """
        cdef FrameView view
        cdef int status = frame_open(&frame[0], frame.shape[0], True, &view) if frame.shape[0] else 1
        if status:
            raise FrameDecodeError(status)
        if view.header.kind != FRAME_UNSEQUENCED:
            raise ValueError(f"a frame of kind {view.header.kind}; expected an unsequenced one (0)")
        with nogil:
            status = self.process(&view, &source.state, skip)
        self.raise_for(status)
        source.state.taken = view.header.first_seq + view.header.record_count - 1
        return self.accepted, self.duplicates, self.refused_list()

    cdef int raise_for(self, int status) except -1:
        """Raise what a status of process() stands for."""
        if status == -2:
            raise OSError(self.journal.error_number, "the journal cannot grow", self.journal.directory)
        if status < 0:
            raise MemoryError
        return 0

    def refused_list(self):
        """The refused records of the last frame: (record index, reason number, text of the detail)."""
        cdef size_t i
        cdef Refused* refused = <Refused*>self.refused.data
        found = []
        for i in range(self.refused.size // sizeof(Refused)):
            text = DETAILS.get(refused[i].detail) or REASON_TEXTS.get(refused[i].reason, "")
            if refused[i].detail == DETAIL_LIMITS:
                text = self.messages.get(refused[i].index, text)
            found.append((refused[i].index, refused[i].reason, text))
        return found

    @property
    def last_seq(self):
        """The last seq given; 0 before the first."""
        return self.next_seq - 1


def currencies_of(bytes blob not None):
    """The currencies that a LimitsChanged's JSON can convert, the base currency included; None: it does not say."""
    try:
        settings = json.loads(blob)["settings"]
        return {settings["base_currency"].encode(), *(currency.encode() for currency in settings.get("fx", {}))}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


cdef inline void set_name(Record* r, int kind, uint32_t id) noexcept nogil:
    if kind == NAME_SYMBOL:
        r.symbol = id
    elif kind == NAME_ACCOUNT:
        r.account = id
    elif kind == NAME_VENUE:
        r.venue = id
    else:
        r.strategy = id


cdef void judge_flags(uint8_t flags, Work* work) noexcept nogil:
    """Fee and time as the encoder saw them; a precision found here comes before an overflow found earlier."""
    if work.reason == REASON_PRECISION:
        return
    if flags & (FLAG_FEE_PRECISION | FLAG_TIME_PRECISION):
        work.reason = REASON_PRECISION
        work.detail = DETAIL_FEE if flags & FLAG_FEE_PRECISION else DETAIL_TIME
    elif work.reason == REASON_NONE and flags & (FLAG_FEE_OVERFLOW | FLAG_TIME_OVERFLOW):
        work.reason = REASON_OVERFLOW
        work.detail = DETAIL_FEE if flags & FLAG_FEE_OVERFLOW else DETAIL_TIME
