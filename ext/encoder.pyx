"""Events as Python objects into records: the way in for everything that is not a recorded file.

The encoder reads attributes by name, so it knows no class of ``engine``; what it accepts are the structs of
``engine/events.py`` and anything shaped like them.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from ext.decimals cimport Decimal64, parse_decimal, rescale
from ext.definitions cimport NO_NAME, NameTable
from ext.records cimport (
    EVENT_ADJUST, EVENT_INSTRUMENT, EVENT_KILL, EVENT_LIMITS, EVENT_MARK, EVENT_SESSION, EVENT_TRADE,
    EXEC_BUST, EXEC_CORRECT, EXEC_NEW, FLAG_FEE_OVERFLOW, FLAG_FEE_PRECISION, FLAG_PRICE_WIDE, FLAG_VOLUME_WIDE,
    FrameBuilder, NAME_ACCOUNT, NAME_KINDS, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE,
    REASON_OVERFLOW, REASON_PRECISION, RECORD_BYTES, Record, SIDE_BUY, SIDE_SELL, TEXT_BYTES_MAX,
)

from decimal import Decimal

import msgspec


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    FEE_EXPONENT = -9

cdef dict EVENT_CODES = {
    "TradeExecuted": EVENT_TRADE, "MarkPrice": EVENT_MARK, "PositionAdjusted": EVENT_ADJUST,
    "SessionStarted": EVENT_SESSION, "InstrumentDefined": EVENT_INSTRUMENT, "LimitsChanged": EVENT_LIMITS,
    "KillSwitch": EVENT_KILL,
}
cdef dict CODES_BY_TYPE = {}            # of the classes seen
cdef dict SIDE_CODES = {"buy": SIDE_BUY, "sell": SIDE_SELL}
cdef dict EXEC_CODES = {"new": EXEC_NEW, "correct": EXEC_CORRECT, "bust": EXEC_BUST}


class EncodeError(ValueError):
    """An event that can be no record; ``reason`` is the dead-letter reason it would have."""

    def __init__(self, message, reason="invalid"):
        super().__init__(message)
        self.reason = reason


cdef object code_of(object event):
    code = EVENT_CODES.get(type(event).__name__)
    if code is None:
        raise invalid("event", event, "one of " + ", ".join(EVENT_CODES))
    if len(CODES_BY_TYPE) < 64:
        CODES_BY_TYPE[type(event)] = code
    return code


cdef object invalid(str what, object value, str expected):
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return EncodeError(f"{what} is {shown}: expected {expected}")


cdef class EventEncoder:
    """Encode events into unsequenced frames with this publisher's own name ids.

    ``add`` raises EncodeError for a value that no record can hold (an unknown side, an empty symbol, a float);
    what only the door can judge (precision, overflow) travels as written.
    """

    def __init__(self):
        cdef int kind
        self.builder = FrameBuilder()
        self.names = tuple(NameTable() for _ in range(NAME_KINDS))
        for kind in range(NAME_KINDS):
            self.tables[kind] = <PyObject*>self.names[kind]
        self.define_again()

    cpdef void define_again(self):
        """Define every name again in the next frame (the broker has forgotten them)."""
        cdef int kind
        for kind in range(NAME_KINDS):
            self.defined[kind] = 1

    def __len__(self):
        return self.builder.count

    @property
    def size_bytes(self):
        """Bytes of the frame so far."""
        return self.builder.size_bytes

    def add(self, event not None):
        """Append one event's record."""
        cdef object code = CODES_BY_TYPE.get(type(event))
        cdef Record* r
        cdef size_t heap = self.builder.heap.size
        if code is None:
            code = code_of(event)
        r = self.builder.add()
        if r == NULL:
            raise MemoryError
        try:
            r.type = code
            self.fill(r, event)
        except BaseException:
            self.builder.records.size -= RECORD_BYTES
            self.builder.count -= 1
            self.builder.heap.size = heap
            raise

    cdef int fill(self, Record* r, object event) except -1:
        if r.type == EVENT_TRADE:
            self.fill_trade(r, event)
        elif r.type == EVENT_MARK:
            r.symbol = self.name(NAME_SYMBOL, event.symbol, "symbol", True)
            self.put_price(r, event.price)
            self.put_head(r, event)
        elif r.type == EVENT_ADJUST:
            r.account = self.name(NAME_ACCOUNT, event.account, "account", True)
            r.symbol = self.name(NAME_SYMBOL, event.symbol, "symbol", True)
            self.put_volume(r, event.quantity, "quantity")
            self.put_price(r, event.price)
            self.put_head(r, event)
            self.put_ref(r, event.note, "note", False)
        elif r.type == EVENT_SESSION:
            self.put_head(r, event)
            self.put_ref(r, event.name, "name", True)
        elif r.type == EVENT_INSTRUMENT:
            self.fill_instrument(r, event)
        elif r.type == EVENT_LIMITS:
            self.fill_limits(r, event)
        else:
            if event.account != "*":
                r.account = self.name(NAME_ACCOUNT, event.account, "account", True)
            r.exec_type = 1 if event.engaged else 0
            r.volume = event.caused_by_seq
            self.put_head(r, event)
            self.put_ref(r, event.who, "who", False)
        return 0

    cdef int fill_trade(self, Record* r, object event) except -1:
        cdef object side = SIDE_CODES.get(event.side)
        cdef object exec_type = EXEC_CODES.get(event.exec_type)
        if side is None:
            raise invalid("side", event.side, "buy or sell")
        if exec_type is None:
            raise invalid("exec_type", event.exec_type, "new, correct or bust")
        r.side = side
        r.exec_type = exec_type
        r.symbol = self.name(NAME_SYMBOL, event.symbol, "symbol", True)
        r.account = self.name(NAME_ACCOUNT, event.account, "account", True)
        r.venue = self.name(NAME_VENUE, event.venue, "venue", False)
        r.strategy = self.name(NAME_STRATEGY, event.strategy, "strategy", False)
        self.put_price(r, event.price)
        self.put_volume(r, event.volume, "volume")
        if r.volume <= 0:
            raise invalid("volume", event.volume, "a quantity above 0")
        self.put_fee(r, event.fee)
        r.executed_at = time_of(event.executed_at, "executed_at")
        self.put_id(r, event.trade_id, "trade_id")
        self.put_ref(r, event.ref_trade_id, "ref_trade_id", r.exec_type != EXEC_NEW)
        return 0

    cdef int fill_instrument(self, Record* r, object event) except -1:
        cdef Decimal64 d = number_of(event.multiplier, "multiplier")
        if d.mantissa <= 0:
            raise invalid("multiplier", event.multiplier, "a number above 0")
        if d.wide:
            raise EncodeError(f"multiplier {event.multiplier} has more than 18 digits", "overflow")
        r.symbol = self.name(NAME_SYMBOL, event.symbol, "symbol", True)
        r.price = d.mantissa
        r.volume = d.exponent
        if not (-18 <= event.price_exponent <= 0 and -18 <= event.quantity_exponent <= 0):
            raise invalid("price_exponent, quantity_exponent", (event.price_exponent, event.quantity_exponent),
                          "integers from -18 to 0")
        r.price_exponent = event.price_exponent
        r.volume_exponent = event.quantity_exponent
        self.put_id(r, event.event_id, "event_id")
        self.put_ref(r, event.currency, "currency", False)
        return 0

    cdef int fill_limits(self, Record* r, object event) except -1:
        cdef bytes blob = msgspec.json.encode(
            {"settings": event.settings, "limit": event.limit, "who": event.who})
        cdef int64_t offset
        self.put_head(r, event)
        offset = self.builder.add_text(<const char*>blob, len(blob))
        if offset < 0:
            raise MemoryError
        r.ref_offset = <uint32_t>offset
        r.volume = len(blob)
        return 0

    cdef int put_head(self, Record* r, object event) except -1:
        r.executed_at = time_of(event.at, "at")
        self.put_id(r, event.event_id, "event_id")
        return 0

    cdef int put_price(self, Record* r, object value) except -1:
        cdef Decimal64 d = number_of(value, "price")
        r.price = d.mantissa
        r.price_exponent = d.exponent
        if d.wide:
            r.flags |= FLAG_PRICE_WIDE
        return 0

    cdef int put_volume(self, Record* r, object value, str what) except -1:
        cdef Decimal64 d = number_of(value, what)
        r.volume = d.mantissa
        r.volume_exponent = d.exponent
        if d.wide:
            r.flags |= FLAG_VOLUME_WIDE
        return 0

    cdef int put_fee(self, Record* r, object value) except -1:
        cdef Decimal64 d
        cdef int reason
        if type(value) is Decimal and not value:        # nearly always
            return 0
        d = number_of(value, "fee")
        reason = rescale(d.mantissa, d.exponent, d.wide, FEE_EXPONENT, &r.fee)
        if reason == REASON_PRECISION:
            r.flags |= FLAG_FEE_PRECISION
        elif reason == REASON_OVERFLOW:
            r.flags |= FLAG_FEE_OVERFLOW
        return 0

    cdef int put_id(self, Record* r, object text, str what) except -1:
        cdef Py_ssize_t size
        cdef const char* p = text_of(text, what, True, &size)
        cdef int64_t offset = self.builder.add_text(p, size)
        if offset < 0:
            raise MemoryError
        r.id_offset = <uint32_t>offset
        r.id_length = <uint8_t>size
        return 0

    cdef int put_ref(self, Record* r, object text, str what, bint required) except -1:
        cdef Py_ssize_t size
        cdef const char* p = text_of(text, what, required, &size)
        cdef int64_t offset
        if size == 0:
            return 0
        offset = self.builder.add_text(p, size)
        if offset < 0:
            raise MemoryError
        r.ref_offset = <uint32_t>offset
        r.ref_length = <uint8_t>size
        return 0

    cdef uint32_t name(self, int kind, object text, str what, bint required) except? 0xFFFFFFFF:
        cdef Py_ssize_t size
        cdef const char* p = text_of(text, what, required, &size)
        cdef uint32_t id
        if size == 0:
            return 0
        id = (<NameTable>self.tables[kind]).intern(p, size)
        if id == NO_NAME:
            raise MemoryError
        return id

    cdef int define_new(self) except -1:
        cdef int kind
        cdef uint32_t id
        cdef size_t length
        cdef const uint8_t* text
        cdef NameTable table
        for kind in range(NAME_KINDS):
            table = <NameTable>self.tables[kind]
            for id in range(self.defined[kind], table.count):
                text = table.text(id, &length)
                if self.builder.define(kind, id, text, length) < 0:
                    raise MemoryError
            self.defined[kind] = table.count
        return 0

    def finish(self, first_seq=0, epoch=0):
        """Return what was added as one sealed frame (bytearray), with the names it is the first to use."""
        self.define_new()
        return self.builder.finish(first_seq, epoch)


cdef Decimal64 number_of(object value, str what) except *:
    cdef Decimal64 d
    cdef Py_ssize_t size
    cdef const char* p
    d.mantissa = 0
    d.exponent = 0
    d.wide = 0
    if isinstance(value, float) or isinstance(value, bool):
        raise invalid(what, value, "a Decimal, an int or decimal text, never a float")
    text = value if type(value) is str else str(value)
    p = PyUnicode_AsUTF8AndSize(text, &size)
    if parse_decimal(<const uint8_t*>p, size, &d):
        raise invalid(what, value, "a finite decimal number")
    return d


cdef int64_t time_of(object value, str what) except? -1:
    if type(value) is not int:
        raise invalid(what, value, "integer nanoseconds since 1970 UTC")
    if not -0x7FFFFFFFFFFFFFFF <= value <= 0x7FFFFFFFFFFFFFFF:
        raise EncodeError(f"{what} {value} does not fit 64-bit nanoseconds", "overflow")
    return value


cdef const char* text_of(object text, str what, bint required, Py_ssize_t* size) except NULL:
    cdef const char* p
    if type(text) is not str:
        raise invalid(what, text, "text")
    try:
        p = PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError:
        raise invalid(what, text, "text that UTF-8 can hold") from None
    if size[0] > TEXT_BYTES_MAX or (required and size[0] == 0):
        raise invalid(what, text, f"{1 if required else 0} to {TEXT_BYTES_MAX} bytes of UTF-8")
    return p
