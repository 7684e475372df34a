"""Events as Python objects into records: the way in for everything that is not a recorded file.

The encoder reads attributes by name, so it knows no class of ``engine``; what it accepts are the structs of
``engine/events.py`` and anything shaped like them.
"""

from cpython.object cimport PyObject
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


cdef extern from *:
    """
    #include <structmember.h>
    /* Where its class keeps the attribute that a descriptor is of: the offset of a slot, or 0. */
    static Py_ssize_t rw_slot_offset(PyObject* descriptor) {
        if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return 0;
        struct PyMemberDef* member = ((PyMemberDescrObject*)descriptor)->d_member;
        return member->type == T_OBJECT_EX ? member->offset : 0;
    }
    """
    Py_ssize_t rw_slot_offset(object descriptor) noexcept

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    const char* PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

cdef enum:
    FEE_EXPONENT = -9
    CLASSES_MAX = 64                # that something is kept of

cdef dict EVENT_CODES = {
    "TradeExecuted": EVENT_TRADE, "MarkPrice": EVENT_MARK, "PositionAdjusted": EVENT_ADJUST,
    "SessionStarted": EVENT_SESSION, "InstrumentDefined": EVENT_INSTRUMENT, "LimitsChanged": EVENT_LIMITS,
    "KillSwitch": EVENT_KILL,
}
cdef dict CLASSES = {}                  # EventClass of the classes seen
cdef tuple TRADE_FIELDS = ("trade_id", "symbol", "price", "volume", "side", "executed_at", "account", "venue", "strategy",
                           "fee", "exec_type", "ref_trade_id")
cdef dict SIDE_CODES = {"buy": SIDE_BUY, "sell": SIDE_SELL}
cdef dict EXEC_CODES = {"new": EXEC_NEW, "correct": EXEC_CORRECT, "bust": EXEC_BUST}


class EncodeError(ValueError):
    """An event that can be no record; ``reason`` is the dead-letter reason it would have."""

    def __init__(self, message, reason="invalid"):
        super().__init__(message)
        self.reason = reason


cdef class EventClass:
    pass


cdef EventClass class_of(object event):
    cdef EventClass known = CLASSES.get(type(event))
    cdef int i
    if known is not None:
        return known
    code = EVENT_CODES.get(type(event).__name__)
    if code is None:
        raise invalid("event", event, "one of " + ", ".join(EVENT_CODES))
    known = EventClass()
    known.code = code
    for i in range(TRADE_FIELD_COUNT):
        known.slots[i] = slot_of(type(event), TRADE_FIELDS[i])
    if len(CLASSES) < CLASSES_MAX:
        CLASSES[type(event)] = known
    return known


cdef Py_ssize_t slot_of(object cls, str name) except -1:
    if cls.__getattribute__ is not object.__getattribute__:
        return 0
    for base in cls.__mro__:
        if name in base.__dict__:
            return rw_slot_offset(base.__dict__[name])
    return 0


cdef inline object field_of(object event, EventClass known, TradeField field):
    cdef PyObject* value
    if known.slots[<int>field]:
        value = (<PyObject**>(<char*><PyObject*>event + known.slots[<int>field]))[0]
        if value != NULL:
            return <object>value
    return getattr(event, TRADE_FIELDS[<int>field])


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

    cpdef object add(self, object event):
        """Append one event's record."""
        cdef EventClass known = class_of(event)
        cdef size_t heap = self.builder.heap.size
        cdef Record* r = self.builder.add()
        if r == NULL:
            raise MemoryError
        try:
            r.type = known.code
            if r.type == EVENT_TRADE:
                self.fill_trade(r, event, known)
            else:
                self.fill(r, event)
        except BaseException:
            self.builder.records.size -= RECORD_BYTES
            self.builder.count -= 1
            self.builder.heap.size = heap
            raise

    cdef int fill(self, Record* r, object event) except -1:
        if r.type == EVENT_MARK:
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

    cdef int fill_trade(self, Record* r, object event, EventClass known) except -1:
        cdef object side = SIDE_CODES.get(field_of(event, known, SIDE))
        cdef object exec_type = EXEC_CODES.get(field_of(event, known, EXEC_TYPE))
        if side is None:
            raise invalid("side", field_of(event, known, SIDE), "buy or sell")
        if exec_type is None:
            raise invalid("exec_type", field_of(event, known, EXEC_TYPE), "new, correct or bust")
        r.side = side
        r.exec_type = exec_type
        r.symbol = self.name(NAME_SYMBOL, field_of(event, known, SYMBOL), "symbol", True)
        r.account = self.name(NAME_ACCOUNT, field_of(event, known, ACCOUNT), "account", True)
        r.venue = self.name(NAME_VENUE, field_of(event, known, VENUE), "venue", False)
        r.strategy = self.name(NAME_STRATEGY, field_of(event, known, STRATEGY), "strategy", False)
        self.put_price(r, field_of(event, known, PRICE))
        self.put_volume(r, field_of(event, known, VOLUME), "volume")
        if r.volume <= 0:
            raise invalid("volume", field_of(event, known, VOLUME), "a quantity above 0")
        self.put_fee(r, field_of(event, known, FEE))
        r.executed_at = time_of(field_of(event, known, EXECUTED_AT), "executed_at")
        self.put_id(r, field_of(event, known, TRADE_ID), "trade_id")
        self.put_ref(r, field_of(event, known, REF_TRADE_ID), "ref_trade_id", r.exec_type != EXEC_NEW)
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
    if type(value) is not Decimal and isinstance(value, (float, bool)):
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
    if PyUnicode_IS_COMPACT_ASCII(text):        # nearly always
        size[0] = PyUnicode_GET_LENGTH(text)
        p = PyUnicode_DATA(text)
    else:
        p = utf8_of(text, what, size)
    if size[0] > TEXT_BYTES_MAX or (required and size[0] == 0):
        raise invalid(what, text, f"{1 if required else 0} to {TEXT_BYTES_MAX} bytes of UTF-8")
    return p


cdef const char* utf8_of(object text, str what, Py_ssize_t* size) except NULL:
    """Apart, for what can catch an exception saves the one that is being handled, each time."""
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError:
        raise invalid(what, text, "text that UTF-8 can hold") from None
