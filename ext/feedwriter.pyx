"""From the texts of one trade to a record of a frame: the checks that every feed shares.

What a feed judges is whether a row can be read (`undecodable`, in the reader of its format) and whether each value is
one at all (`invalid`, here). Whether a value is too fine or too big depends on the instrument: prices and volumes
travel as they were written, and what does not fit a record is flagged for the door.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset, strlen

from ext.decimals cimport DECIMAL_OK, Decimal64, format_i128, rescale
from ext.feedfilter cimport RowFilter
from ext.feedvalues cimport (
    compare_prices, keep_near, read_decimal, read_digits, read_near, read_time, rw_id_if_zero, rw_load_masked,
    write_number,
)
from ext.definitions cimport NO_NAME, NameTable
from ext.records cimport (
    EVENT_MARK, EVENT_REJECTED, EVENT_TRADE, EXEC_BUST, EXEC_CORRECT, EXEC_NEW, FLAG_FEE_OVERFLOW, FLAG_FEE_PRECISION,
    FLAG_PRICE_WIDE, FLAG_TIME_OVERFLOW, FLAG_TIME_PRECISION, FLAG_VOLUME_WIDE, FRAME_UNSEQUENCED, NAME_ACCOUNT,
    NAME_KINDS, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, REASON_INVALID, REASON_NONE, REASON_OVERFLOW,
    REASON_PRECISION, REASON_UNDECODABLE, SIDE_BUY, SIDE_NONE, SIDE_SELL, TEXT_BYTES_MAX, Bytes, FrameBuilder,
    Record, bytes_append, bytes_free, bytes_reserve, i128, keep_record, next_record,
)
from ext.utf8 cimport utf8_step
from ext.wide cimport prefetch

cdef extern from "stdlib.h":
    void* aligned_alloc(size_t alignment, size_t size) noexcept nogil

cdef enum:
    FOUND_BYTES_MAX = 80            # of a bad value shown in an error

FIELD_NAMES = (
    "trade_id", "symbol", "price", "volume", "side", "executed_at",
    "account", "venue", "strategy", "fee", "exec_type", "ref_trade_id",
)
FIELD_GUARD_NUMBER = FIELD_GUARD
SIDE_RULES = {None: SIDE_FROM_TEXT, "buy": SIDE_BUY, "sell": SIDE_SELL, "tick": SIDE_BY_TICK}
SIDE_TEXTS = {
    "buy": SIDE_BUY, "sell": SIDE_SELL, "BUY": SIDE_BUY, "SELL": SIDE_SELL,
    "B": SIDE_BUY, "S": SIDE_SELL, "1": SIDE_BUY, "2": SIDE_SELL,
}

cdef const char* EXPECTED_TEXT = "1 to 64 bytes"
cdef const char* EXPECTED_OPTIONAL = "at most 64 bytes"
cdef const char* EXPECTED_NUMBER = "a decimal number such as 101.25"
cdef const char* EXPECTED_VOLUME = "a decimal number above 0"
cdef const char* EXPECTED_SIDE = "buy, sell, BUY, SELL, B, S, 1 or 2"
cdef const char* EXPECTED_TIME = "an integer since 1970 or an ISO 8601 time"
cdef const char* EXPECTED_EXEC = "new, correct or bust"
cdef const char* EXPECTED_REF = "the trade id that a correct or bust names"


cdef class RowRules:
    def __init__(self, *, str side=None, str account="default", bytes id_prefix=None, dict side_texts=None,
                 int price_shift=0, int64_t time_base_ns=0, int64_t time_unit_ns=0, bint as_marks=False,
                 uint32_t spread=0, uint64_t seed=0, tuple keep=()):
        """Say what a source lacks.

        ``side``: None (every row says), ``buy``, ``sell`` or ``tick``. ``account``: of rows that name none, 1 to 64
        bytes. ``id_prefix``: the 16 hex digits of made trade ids; None: rows have ids. ``side_texts``: the source's own
        words for ``buy`` and ``sell``. ``price_shift``: prices are in units of 10**price_shift. ``time_unit_ns`` > 0:
        times are integers in that unit after ``time_base_ns``. ``as_marks``: each trade becomes a MarkPrice (ids are
        made). ``spread`` > 0: rows that name no account go to one of so many, ``account-1`` and on, by a hash of
        ``seed``, symbol and trade id. ``keep``: the texts (at most 16 of at most 8 bytes) of the guard column with which a
        row is a trade; others are passed over.
        """
        cdef bytes text
        self.side_rule = SIDE_RULES[side]
        text = account.encode()
        if not 0 < len(text) <= TEXT_BYTES_MAX:
            raise ValueError(f"an account has 1 to 64 bytes, not {len(text)}")
        memcpy(self.account, <const char*>text, len(text))
        self.account_length = len(text)
        if id_prefix is not None:
            if len(id_prefix) != 16:
                raise ValueError(f"an id prefix has 16 hex digits, not {id_prefix!r}")
            self.make_ids = True
            memcpy(self.id_text, <const char*>id_prefix, 16)
            self.id_text[16] = 35
        self.as_marks = as_marks
        if as_marks and id_prefix is None:
            raise ValueError("marks have made ids: give an id_prefix")
        self.spread = spread
        self.spread_seed = seed
        self.spread_width = len(str(spread))
        self.price_shift = price_shift
        self.time_base_ns = time_base_ns
        self.time_unit_ns = time_unit_ns
        for word, side_number in (side_texts or SIDE_TEXTS).items():
            text = word.encode()
            if not 0 < len(text) <= 8 or self.side_text_count == 8:
                raise ValueError(f"at most 8 side words of 1 to 8 bytes each, not {word!r}")
            memcpy(&self.side_texts[self.side_text_count].text, <const char*>text, len(text))
            self.side_texts[self.side_text_count].length = <uint8_t>len(text)
            self.side_texts[self.side_text_count].side = side_number
            self.side_text_count += 1
        for word in keep:
            text = word.encode()
            if len(text) > 8 or self.kept_count == 16:
                raise ValueError(f"at most 16 words of at most 8 bytes to keep, not {word!r}")
            memcpy(&self.kept_texts[self.kept_count].text, <const char*>text, len(text))
            self.kept_texts[self.kept_count].length = <uint8_t>len(text)
            self.kept_count += 1

    def __dealloc__(self):
        bytes_free(&self.ticks)


# --- values ---------------------------------------------------------------------------------------------------------

cdef inline bint same(const uint8_t* p, size_t n, const char* word, size_t word_length) noexcept nogil:
    return n == word_length and memcmp(p, word, n) == 0


# --- errors ------------------------------------------------------------------------------------------------------

cdef struct Message:
    uint8_t text[256]
    size_t length


cdef void put(Message* m, const void* text, size_t length) noexcept nogil:
    if length > ERROR_BYTES_MAX - m.length:
        length = ERROR_BYTES_MAX - m.length
    memcpy(m.text + m.length, text, length)
    m.length += length


cdef void put_words(Message* m, const char* text) noexcept nogil:
    put(m, text, strlen(text))


cdef void put_found(Message* m, const uint8_t* text, size_t length) noexcept nogil:
    """The value as found, on one line: control characters and bytes that are no UTF-8 text as \\xNN, cut when long."""
    cdef const char* digits = "0123456789abcdef"
    cdef uint8_t escaped[4]
    cdef size_t i = 0, step
    cdef size_t stop = m.length + FOUND_BYTES_MAX
    escaped[0] = 92
    escaped[1] = 120
    put_words(m, "'")
    while i < length:
        step = utf8_step(text + i, length - i)
        if m.length + (4 if step == 0 else step) > stop:
            put_words(m, "...")
            break
        if step == 0 or text[i] < 32 or text[i] == 127:
            escaped[2] = digits[text[i] >> 4]
            escaped[3] = digits[text[i] & 15]
            put(m, escaped, 4)
            i += 1
        else:
            put(m, text + i, step)
            i += step
    put_words(m, "'")
    if i < length:
        put_words(m, " (")
        m.length += write_number(length, m.text + m.length)
        put_words(m, " bytes)")


# --- the writer --------------------------------------------------------------------------------------------------

cdef class FeedWriter:
    # One feed's frames: its names, numbered from 1 per kind, and the frame being built.

    def __cinit__(self):
        cdef int kind
        self.builder = FrameBuilder(FRAME_UNSEQUENCED)
        self.symbols = NameTable()
        self.accounts = NameTable()
        self.venues = NameTable()
        self.strategies = NameTable()
        # Aligned, so that the two places of a name share a cache line.
        self.cache = <NameSlot*>aligned_alloc(64, NAME_KINDS * NAME_CACHE_SLOTS * sizeof(NameSlot))
        if self.cache == NULL:
            raise MemoryError
        memset(self.cache, 0, NAME_KINDS * NAME_CACHE_SLOTS * sizeof(NameSlot))
        for kind in range(<int>NAME_KINDS):
            self.defined[kind] = 1
        self.source = -1

    def __dealloc__(self):
        free(self.cache)
        bytes_free(&self.sources)
        bytes_free(&self.source_names)
        bytes_free(&self.scratch)

    def __len__(self):
        return self.builder.count

    cdef NameTable table(self, int kind):
        if kind == NAME_SYMBOL:
            return self.symbols
        if kind == NAME_ACCOUNT:
            return self.accounts
        return self.venues if kind == NAME_VENUE else self.strategies

    cdef inline void find_place(self, int kind, const uint8_t* text, size_t length, NameKey* key) noexcept nogil:
        """Find the place of a name in the cache, and fetch it."""
        key.slot = NULL
        if length - 1 >= 16:
            return
        key.low = rw_load_masked(text, length)
        key.high = rw_load_masked(text + 8, length - 8) if length > 8 else 0
        key.slot = &self.cache[
            kind * NAME_CACHE_SLOTS
            + ((((key.low ^ (key.high * 0xC2B2AE3D27D4EB4FULL)) * 0x9E3779B97F4A7C15ULL) >> 52) & ~1ULL)]
        prefetch(key.slot)

    cdef inline uint32_t id_at(self, int kind, const NameKey* key, const uint8_t* text, size_t length) noexcept nogil:
        """name_id of a text whose place has been found."""
        cdef NameSlot* slot = key.slot
        cdef uint64_t first, second
        cdef uint32_t id
        if slot == NULL:
            return self.intern(kind, text, length) if length else 0
        # Two places for each name, so that two of the same hash do not take turns in one; both are looked at at once,
        # and the id is taken without a branch, as which of them it is cannot be foreseen.
        first = (slot.low ^ key.low) | (slot.high ^ key.high) | (slot.length ^ length)
        second = (slot[1].low ^ key.low) | (slot[1].high ^ key.high) | (slot[1].length ^ length)
        id = rw_id_if_zero(first, slot.id) | rw_id_if_zero(second, slot[1].id)
        return id if id else self.keep_name(kind, key, text, length)

    cdef uint32_t keep_name(self, int kind, const NameKey* key, const uint8_t* text, size_t length) noexcept nogil:
        """Number a name and put it into the first of its places."""
        cdef NameSlot* slot = key.slot
        cdef uint32_t id = self.intern(kind, text, length)
        if id != NO_NAME:
            slot[1] = slot[0]
            slot.low = key.low
            slot.high = key.high
            slot.length = length
            slot.id = id
        return id

    cdef uint32_t name_id(self, int kind, const uint8_t* text, size_t length) noexcept nogil:
        cdef NameKey key
        self.find_place(kind, text, length, &key)
        return self.id_at(kind, &key, text, length)

    cdef uint32_t intern(self, int kind, const uint8_t* text, size_t length) noexcept nogil:
        if kind == NAME_SYMBOL:
            return self.symbols.intern(text, length)
        if kind == NAME_ACCOUNT:
            return self.accounts.intern(text, length)
        if kind == NAME_VENUE:
            return self.venues.intern(text, length)
        return self.strategies.intern(text, length)

    cdef int reject(self, int reason, const char* field, const uint8_t* found, size_t length,
                    const char* expected) noexcept nogil:
        cdef Message m
        cdef Record* r
        cdef int64_t offset
        m.length = 0
        if field != NULL:
            put_words(&m, field)
            put_words(&m, ": ")
        if found != NULL:
            put_words(&m, "found ")
            if length:
                put_found(&m, found, length)
            else:
                put_words(&m, "nothing")
            put_words(&m, ", expected ")
        put_words(&m, expected)
        r = self.builder.add()
        offset = self.builder.add_text(m.text, m.length)
        if r == NULL or offset < 0:
            return -1
        r.type = EVENT_REJECTED
        r.exec_type = <uint8_t>reason
        r.ref_offset = <uint32_t>offset
        r.ref_length = <uint8_t>m.length
        return 0

    cdef int invalid(self, const char* field, const Row* row, int i, const char* expected) noexcept nogil:
        cdef const char* nothing = ""
        return self.reject(REASON_INVALID, field, row.text[i] if row.text[i] != NULL else <const uint8_t*>nothing,
                           row.length[i], expected)

    cdef bint row_time(self, RowRules rules, const Row* row, int64_t* out) noexcept nogil:
        cdef const uint8_t* text = row.text[FIELD_EXECUTED_AT]
        return (text != NULL
                and self.time_of(rules, text, row.length[FIELD_EXECUTED_AT], out) == REASON_NONE)

    cdef inline int time_of(self, RowRules rules, const uint8_t* text, size_t length, int64_t* out) noexcept nogil:
        if rules.time_unit_ns == 0 and read_near(&self.near, text, length, out):
            return REASON_NONE
        return self.far_time(rules, text, length, out)

    cdef int far_time(self, RowRules rules, const uint8_t* text, size_t length, int64_t* out) noexcept nogil:
        """time_of a text that does not begin as the one before it."""
        cdef uint64_t value
        cdef i128 total
        if rules.time_unit_ns == 0:
            keep_near(&self.near, text, length)
            return read_time(text, length, out)
        if not read_digits(text, length, &value):
            return REASON_INVALID
        total = <i128>rules.time_base_ns + <i128>value * <i128>rules.time_unit_ns
        if total > <i128>0x7FFFFFFFFFFFFFFF:
            return REASON_OVERFLOW
        out[0] = <int64_t>total
        return REASON_NONE

    cdef bint is_kept(self, RowRules rules, const Row* row) noexcept nogil:
        """Whether the guard column says that the row is a trade; a source without the column says so of all."""
        cdef size_t length = row.length[FIELD_GUARD]
        cdef uint64_t word
        cdef int i
        if length > 8:
            return False
        word = rw_load_masked(row.text[FIELD_GUARD], length) if length else 0
        for i in range(rules.kept_count):
            if rules.kept_texts[i].text == word and rules.kept_texts[i].length == length:
                return True
        return False

    cdef int side_of(self, RowRules rules, const uint8_t* text, size_t length) noexcept nogil:
        cdef int i
        cdef uint64_t word
        cdef const SideText* words = rules.side_texts
        if length == 0 or length > 8:
            return SIDE_NONE
        word = rw_load_masked(text, length)
        # Of the first two both are looked at: which of them it is cannot be foreseen.
        i = (((words[0].text == word) & (words[0].length == length)) * words[0].side
             | ((words[1].text == word) & (words[1].length == length)) * words[1].side)
        if i:
            return i
        for i in range(2, rules.side_text_count):
            if rules.side_texts[i].text == word and rules.side_texts[i].length == length:
                return rules.side_texts[i].side
        return SIDE_NONE

    cdef int tick_side(self, RowRules rules, uint32_t symbol, const Decimal64* price) noexcept nogil:
        """The tick rule: up buys, down sells, equal as before, the first buys. -1: no memory."""
        cdef size_t needed = (<size_t>symbol + 1) * sizeof(Tick)
        cdef Tick* tick
        cdef int direction
        if needed > rules.ticks.size:
            needed += needed // 2 - rules.ticks.size
            if bytes_reserve(&rules.ticks, needed) < 0:
                return -1
            memset(rules.ticks.data + rules.ticks.size, 0, needed)
            rules.ticks.size += needed
        tick = <Tick*>rules.ticks.data + symbol
        if tick.side == SIDE_NONE:
            tick.side = SIDE_BUY
        else:
            direction = compare_prices(price.mantissa, price.exponent, tick.mantissa, tick.exponent)
            if direction:
                tick.side = SIDE_BUY if direction > 0 else SIDE_SELL
        tick.mantissa = price.mantissa
        tick.exponent = price.exponent
        return tick.side

    cdef int check_texts(self, RowRules rules, const Row* row) noexcept nogil:
        """0 where symbol and the other texts have lengths they may have; 1: refused; -1: no memory."""
        cdef const char* expected = EXPECTED_TEXT
        cdef int bad = -1
        cdef const char* field = NULL
        cdef size_t id_length = 1 if rules.make_ids else row.length[FIELD_TRADE_ID]
        # No length above 64 leaves both of these below 64: what they do not let pass is looked at one by one.
        if ((id_length - 1) | (row.length[FIELD_SYMBOL] - 1)) < TEXT_BYTES_MAX and (
                row.length[FIELD_ACCOUNT] | row.length[FIELD_VENUE] | row.length[FIELD_STRATEGY]
                | row.length[FIELD_REF_TRADE_ID]) < TEXT_BYTES_MAX:
            return 0
        if not rules.make_ids and not 0 < row.length[FIELD_TRADE_ID] <= TEXT_BYTES_MAX:
            bad, field = FIELD_TRADE_ID, "trade_id"
        elif not 0 < row.length[FIELD_SYMBOL] <= TEXT_BYTES_MAX:
            bad, field = FIELD_SYMBOL, "symbol"
        elif row.length[FIELD_ACCOUNT] > TEXT_BYTES_MAX:
            bad, field, expected = FIELD_ACCOUNT, "account", EXPECTED_OPTIONAL
        elif row.length[FIELD_VENUE] > TEXT_BYTES_MAX:
            bad, field, expected = FIELD_VENUE, "venue", EXPECTED_OPTIONAL
        elif row.length[FIELD_STRATEGY] > TEXT_BYTES_MAX:
            bad, field, expected = FIELD_STRATEGY, "strategy", EXPECTED_OPTIONAL
        elif row.length[FIELD_REF_TRADE_ID] > TEXT_BYTES_MAX:
            bad, field, expected = FIELD_REF_TRADE_ID, "ref_trade_id", EXPECTED_OPTIONAL
        else:
            return 0
        return -1 if self.invalid(field, row, bad, expected) < 0 else 1

    cdef int read_numbers(self, RowRules rules, const Row* row, const Values* values, Decimal64* price,
                          Decimal64* volume, Record* r) noexcept nogil:
        """Price, volume, time and fee into ``r``: 0; 1: refused; -1: no memory."""
        cdef Decimal64 fee
        cdef uint32_t given = values.given if values != NULL else 0
        cdef int64_t value = 0
        cdef int refused, reason
        if given & (1 << FIELD_PRICE):
            price[0] = values.price
        elif read_decimal(row.text[FIELD_PRICE], row.length[FIELD_PRICE], price) != DECIMAL_OK:
            return -1 if self.invalid("price", row, FIELD_PRICE, EXPECTED_NUMBER) < 0 else 1
        if rules.as_marks:
            return self.read_time_of(rules, row, values, r)
        if given & (1 << FIELD_VOLUME):
            volume[0] = values.volume
        elif read_decimal(row.text[FIELD_VOLUME], row.length[FIELD_VOLUME], volume) != DECIMAL_OK:
            volume.mantissa = 0
        if volume.mantissa <= 0:
            return self.refuse_volume(row, values)
        refused = self.read_time_of(rules, row, values, r)
        if refused:
            return refused
        if given & (1 << FIELD_FEE):
            fee = values.fee
        elif row.length[FIELD_FEE] == 0:
            return 0
        elif read_decimal(row.text[FIELD_FEE], row.length[FIELD_FEE], &fee) != DECIMAL_OK:
            return -1 if self.invalid("fee", row, FIELD_FEE, EXPECTED_NUMBER) < 0 else 1
        reason = rescale(fee.mantissa, fee.exponent, fee.wide, -9, &value)
        if reason == REASON_NONE:
            r.fee = value
        else:
            r.flags |= FLAG_FEE_PRECISION if reason == REASON_PRECISION else FLAG_FEE_OVERFLOW
        return 0

    cdef int read_time_of(self, RowRules rules, const Row* row, const Values* values, Record* r) noexcept nogil:
        """executed_at into ``r``: 0; 1: refused; -1: no memory."""
        cdef int64_t value = 0
        cdef int reason
        if values != NULL and values.given & (1 << FIELD_EXECUTED_AT):
            value = values.executed_at
            reason = values.time_reason
        else:
            reason = self.time_of(rules, row.text[FIELD_EXECUTED_AT], row.length[FIELD_EXECUTED_AT], &value)
        if reason == REASON_INVALID:
            return -1 if self.invalid("executed_at", row, FIELD_EXECUTED_AT, EXPECTED_TIME) < 0 else 1
        if reason == REASON_NONE:
            r.executed_at = value
        else:
            r.flags |= FLAG_TIME_PRECISION if reason == REASON_PRECISION else FLAG_TIME_OVERFLOW
        return 0

    cdef int refuse_volume(self, const Row* row, const Values* values) noexcept nogil:
        """Refuse a volume that is not above 0, in its own words where it came as a number. 1; -1: no memory."""
        cdef uint8_t text[320]
        cdef size_t length
        if values == NULL or not values.given & (1 << FIELD_VOLUME):
            return -1 if self.invalid("volume", row, FIELD_VOLUME, EXPECTED_VOLUME) < 0 else 1
        length = format_i128(<i128>values.volume.mantissa, values.volume.exponent, text)
        return -1 if self.reject(REASON_INVALID, "volume", text, length, EXPECTED_VOLUME) < 0 else 1

    cdef int read_kind(self, const Row* row, Record* r) noexcept nogil:
        """exec_type and whether it names a trade: 0; 1: refused; -1: no memory."""
        cdef const uint8_t* text = row.text[FIELD_EXEC_TYPE]
        cdef size_t length = row.length[FIELD_EXEC_TYPE]
        if length == 0 or same(text, length, "new", 3):
            r.exec_type = EXEC_NEW
            return 0
        if same(text, length, "correct", 7):
            r.exec_type = EXEC_CORRECT
        elif same(text, length, "bust", 4):
            r.exec_type = EXEC_BUST
        else:
            return -1 if self.invalid("exec_type", row, FIELD_EXEC_TYPE, EXPECTED_EXEC) < 0 else 1
        if row.length[FIELD_REF_TRADE_ID] == 0:
            return -1 if self.invalid("ref_trade_id", row, FIELD_REF_TRADE_ID, EXPECTED_REF) < 0 else 1
        return 0

    cdef int add_row(self, RowRules rules, const Row* row, uint64_t number) noexcept nogil:
        return self.add_values(rules, row, NULL, number)

    cdef int add_values(self, RowRules rules, const Row* row, const Values* values, uint64_t number) noexcept nogil:
        cdef Record* r
        cdef Decimal64 price, volume
        cdef NameKey keys[2]
        cdef const NameKey* symbol_key = NULL
        cdef const NameKey* account_key = NULL
        cdef int refused, side
        if rules.kept_count and not self.is_kept(rules, row):
            return ROW_SKIPPED
        if values == NULL:
            # So early that they are there when they are asked for; what has values may have ids as well.
            self.find_place(NAME_SYMBOL, row.text[FIELD_SYMBOL], row.length[FIELD_SYMBOL], &keys[0])
            self.find_place(NAME_ACCOUNT, row.text[FIELD_ACCOUNT], row.length[FIELD_ACCOUNT], &keys[1])
            symbol_key, account_key = &keys[0], &keys[1]
        # It is made in its place; until it is kept, a refusal may have that place.
        r = next_record(self.builder)
        if r == NULL:
            return -1
        refused = self.check_texts(rules, row)
        if refused == 0:
            refused = self.read_numbers(rules, row, values, &price, &volume, r)
        if refused == 0 and rules.side_rule == SIDE_FROM_TEXT and not rules.as_marks:
            r.side = <uint8_t>self.side_of(rules, row.text[FIELD_SIDE], row.length[FIELD_SIDE])
            if r.side == SIDE_NONE:
                return self.invalid("side", row, FIELD_SIDE, EXPECTED_SIDE)
        if refused == 0:
            refused = self.read_kind(row, r)
        if refused:
            return -1 if refused < 0 else 0
        # Nothing below can refuse the row; names are only numbered now, so that refused rows add none.
        price.exponent += rules.price_shift
        if price.exponent > 127 or price.exponent < -128:
            price.exponent = 127 if price.exponent > 0 else -128
        r.symbol = self.known_name(NAME_SYMBOL, symbol_key, row, FIELD_SYMBOL, values)
        if rules.side_rule == SIDE_BY_TICK:
            side = self.tick_side(rules, r.symbol, &price) if r.symbol != NO_NAME else -1
            if side < 0:
                return -1
            r.side = <uint8_t>side
        elif rules.side_rule != SIDE_FROM_TEXT:
            r.side = <uint8_t>rules.side_rule
        r.type = EVENT_TRADE
        r.price = price.mantissa
        r.price_exponent = <int8_t>(price.exponent if price.mantissa else 0)
        if price.wide:
            r.flags |= FLAG_PRICE_WIDE
        if rules.as_marks:
            return self.finish_mark(rules, row, number, r)
        r.volume = volume.mantissa
        r.volume_exponent = <int8_t>volume.exponent
        if volume.wide:
            r.flags |= FLAG_VOLUME_WIDE
        return self.finish_row(rules, row, values, number, account_key, r)

    cdef inline uint32_t known_name(self, int kind, const NameKey* key, const Row* row, int field,
                                    const Values* values) noexcept nogil:
        """The id of a text, from where the source keeps it, else by its `key` (NULL: not found yet)."""
        cdef uint32_t* kept = values.name_ids[kind] if values != NULL else NULL
        cdef uint32_t id
        if kept == NULL or kept[0] == 0:
            id = (self.id_at(kind, key, row.text[field], row.length[field]) if key != NULL else
                  self.name_id(kind, row.text[field], row.length[field]))
            if kept == NULL:
                return id
            kept[0] = id
        return kept[0]

    cdef size_t spread_account(self, RowRules rules, const Row* row, const uint8_t* id, size_t id_length,
                               uint8_t* out) noexcept nogil:
        """The name of the account that a trade falls to: a correct or bust falls to that of the trade it names."""
        cdef uint64_t h = 0xCBF29CE484222325ULL ^ rules.spread_seed
        cdef uint64_t number
        cdef size_t i
        cdef int digit
        if row.length[FIELD_REF_TRADE_ID]:
            id = row.text[FIELD_REF_TRADE_ID]
            id_length = row.length[FIELD_REF_TRADE_ID]
        for i in range(row.length[FIELD_SYMBOL]):
            h = (h ^ row.text[FIELD_SYMBOL][i]) * 0x100000001B3ULL
        h = h * 0x100000001B3ULL                        # a NUL between the two
        for i in range(id_length):
            h = (h ^ id[i]) * 0x100000001B3ULL
        # FNV's low bits are weak: the finaliser of MurmurHash3 spreads all of them.
        h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDULL
        h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53ULL
        number = (h ^ (h >> 33)) % rules.spread + 1
        memcpy(out, <const char*>b"account-", 8)
        digit = rules.spread_width
        while digit:
            digit -= 1
            out[8 + digit] = <uint8_t>(48 + number % 10)
            number //= 10
        return 8 + rules.spread_width

    cdef inline int64_t put_text(self, const uint8_t* text, size_t length) noexcept nogil:
        """FrameBuilder.add_text for a text of a row, of at most 64 bytes: what is readable behind it saves a call."""
        cdef Bytes* heap = &self.builder.heap
        cdef int64_t offset = heap.size
        if heap.size + 2 * TEXT_BYTES_MAX > heap.capacity and bytes_reserve(heap, 2 * TEXT_BYTES_MAX) < 0:
            return -1
        memcpy(heap.data + heap.size, text, TEXT_SLACK_BYTES)
        if length > TEXT_SLACK_BYTES:
            memcpy(heap.data + heap.size + TEXT_SLACK_BYTES, text + TEXT_SLACK_BYTES, length - TEXT_SLACK_BYTES)
        heap.size += length
        return offset

    cdef int finish_row(self, RowRules rules, const Row* row, const Values* values, uint64_t number,
                        const NameKey* account_key, Record* r) noexcept nogil:
        """Number the other names, put the texts into the heap and the record into the frame."""
        cdef int64_t offset
        cdef int kept
        cdef const uint8_t* id = row.text[FIELD_TRADE_ID]
        cdef size_t id_length = row.length[FIELD_TRADE_ID]
        cdef const uint8_t* account = row.text[FIELD_ACCOUNT]
        cdef size_t account_length = row.length[FIELD_ACCOUNT]
        cdef uint8_t spread[64]
        if rules.make_ids:
            id = rules.id_text
            id_length = 17 + write_number(number, rules.id_text + 17)
        if account_length == 0 and rules.spread:
            account_length = self.spread_account(rules, row, id, id_length, spread)
            account = spread
        elif account_length == 0:
            account = rules.account
            account_length = rules.account_length
        if self.filtered:
            kept = self.row_filter.keeps(row.text[FIELD_SYMBOL], row.length[FIELD_SYMBOL], account, account_length,
                                         r.executed_at,
                                         r.flags & (FLAG_TIME_OVERFLOW | FLAG_TIME_PRECISION) == 0)
            if kept <= 0:
                return kept if kept < 0 else ROW_SKIPPED
        if row.length[FIELD_ACCOUNT]:
            r.account = self.known_name(NAME_ACCOUNT, account_key, row, FIELD_ACCOUNT, values)
        else:
            r.account = self.name_id(NAME_ACCOUNT, account, account_length)
        if row.length[FIELD_VENUE]:
            r.venue = self.known_name(NAME_VENUE, NULL, row, FIELD_VENUE, values)
        if row.length[FIELD_STRATEGY]:
            r.strategy = self.known_name(NAME_STRATEGY, NULL, row, FIELD_STRATEGY, values)
        if r.symbol == NO_NAME or r.account == NO_NAME or r.venue == NO_NAME or r.strategy == NO_NAME:
            return -1
        offset = self.put_text(id, id_length)
        if offset < 0:
            return -1
        r.id_offset = <uint32_t>offset
        r.id_length = <uint8_t>id_length
        if row.length[FIELD_REF_TRADE_ID]:
            offset = self.builder.add_text(row.text[FIELD_REF_TRADE_ID], row.length[FIELD_REF_TRADE_ID])
            if offset < 0:
                return -1
            r.ref_offset = <uint32_t>offset
            r.ref_length = <uint8_t>row.length[FIELD_REF_TRADE_ID]
        keep_record(self.builder)
        return 0

    cdef int finish_mark(self, RowRules rules, const Row* row, uint64_t number, Record* r) noexcept nogil:
        """The record as a MarkPrice; what corrects or busts a trade is none."""
        cdef int64_t offset
        cdef size_t id_length
        cdef int kept
        if r.exec_type != EXEC_NEW:
            return ROW_SKIPPED
        if self.filtered:
            kept = self.row_filter.keeps(row.text[FIELD_SYMBOL], row.length[FIELD_SYMBOL], NULL, 0, r.executed_at,
                                         r.flags & (FLAG_TIME_OVERFLOW | FLAG_TIME_PRECISION) == 0)
            if kept <= 0:
                return kept if kept < 0 else ROW_SKIPPED
        id_length = 17 + write_number(number, rules.id_text + 17)
        offset = self.put_text(rules.id_text, id_length)
        if offset < 0 or r.symbol == NO_NAME:
            return -1
        r.type = EVENT_MARK
        r.side = SIDE_NONE
        r.id_offset = <uint32_t>offset
        r.id_length = <uint8_t>id_length
        keep_record(self.builder)
        return 0

    def filter_rows(self, RowFilter row_filter not None):
        """Leave out what ``row_filter`` does not keep, from now on."""
        self.row_filter = row_filter
        self.filtered = True

    def keeps(self, bytes symbol, bytes account, time_ns):
        """Whether an event may be added: its symbol, account and time (ns), each None where it has none."""
        if not self.filtered:
            return True
        return self.row_filter.keeps_event(symbol, account, time_ns)

    # The Python face, for formats that are decoded in Python.

    def add_trade(self, RowRules rules not None, tuple fields not None, uint64_t number):
        """Add one trade from its 12 texts (bytes, or None where the source has none), or its refusal as `invalid`."""
        cdef Row row
        cdef size_t total = 0, at = 0
        cdef int i
        cdef bytes text
        memset(&row, 0, sizeof(row))
        for value in fields:
            total += TEXT_SLACK_BYTES + (len(value) if value is not None else 0)
        self.scratch.size = 0
        if bytes_reserve(&self.scratch, total) < 0:
            raise MemoryError
        for i in range(FIELDS):
            text = fields[i] if fields[i] is not None else b""
            memcpy(self.scratch.data + at, <const char*>text, len(text))
            row.text[i] = self.scratch.data + at
            row.length[i] = len(text)
            at += len(text) + TEXT_SLACK_BYTES
        if self.add_row(rules, &row, number) < 0:
            raise MemoryError

    def add_source(self, bytes name not None, uint32_t unit):
        """The number of a file of the feed; ``unit`` of its positions: 0 line, 1 record, 2 byte."""
        cdef FeedSource source
        name = name.replace(b"\0", b"?")
        source.name = <uint32_t>self.source_names.size
        source.length = <uint32_t>len(name)
        source.unit = unit
        source.number = 0
        if (bytes_append(&self.source_names, <const char*>name, len(name)) < 0
                or bytes_append(&self.sources, &source, sizeof(source)) < 0):
            raise MemoryError
        return self.sources.size // sizeof(FeedSource) - 1

    cdef int take_source(self, uint32_t number) noexcept nogil:
        cdef FeedSource* source = <FeedSource*>self.sources.data + number
        cdef int named
        if self.source == number:
            return 0
        if source.number == 0:
            named = self.builder.add_source(self.source_names.data + source.name, source.length, source.unit)
            if named < 0:
                return -1
            source.number = <uint32_t>named + 1
        self.builder.take_source(source.number - 1)
        self.source = number
        return 0

    def add_rejected(self, int reason, str error not None):
        """Add the refusal of a bad record; ``error`` is cut to 255 bytes."""
        cdef bytes text = error.encode("utf-8", "replace")[:ERROR_BYTES_MAX].decode("utf-8", "ignore").encode()
        self.builder.add_record(type=EVENT_REJECTED, exec_type=reason, ref=text)

    def name(self, int kind, bytes text not None):
        """The id of a name (1 to 64 bytes; empty: 0) of ``kind`` (NameKind)."""
        cdef bytes padded = text + bytes(TEXT_SLACK_BYTES)
        cdef uint32_t id = self.name_id(kind, <const uint8_t*><const char*>padded, len(text))
        if id == NO_NAME:
            raise MemoryError
        return id

    def take(self, bint sealed=True):
        """Finish the frame: the bytes of an unsequenced frame, or None where nothing was added.

        ``sealed``: with its CRC, which whoever stamps the frame makes anew.
        """
        cdef FrameBuilder builder = self.builder
        cdef NameTable names
        cdef const uint8_t* text
        cdef size_t length
        cdef uint32_t id
        cdef int kind
        cdef bytearray frame
        if builder.count == 0:
            return None
        for kind in range(<int>NAME_KINDS):
            names = self.table(kind)
            for id in range(self.defined[kind], names.count):
                text = names.text(id, &length)
                if builder.define(<uint8_t>kind, id, text, length) < 0:
                    raise MemoryError
            self.defined[kind] = names.count
        frame = builder.take(0, 0, 0) if sealed else builder.take_unsealed()
        builder.clear_sources()
        for id in range(self.sources.size // sizeof(FeedSource)):
            (<FeedSource*>self.sources.data + id).number = 0
        self.source = -1
        self.frames += 1
        return frame
