"""What a person or another program reads. Exact: money keeps all its digits, averages round half to even at nine decimals."""

from array import array

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strlen

from ext.alertlog cimport (ALERT_ACCOUNT, ALERT_BYTES, ALERT_LIMIT_ID, ALERT_STRATEGY, ALERT_SYMBOL, ALERT_TEXTS,
                           ALERT_THRESHOLD, ALERT_TRADE_ID, ALERT_UTILIZATION, ALERT_VALUE, ALERT_VENUE, AlertRecord)
from ext.definitions cimport Instrument, NameTable, glob_match
from ext.limits cimport LIMIT_KINDS
from ext.positions cimport Cell, MARK_NONE, Position, Symbol, cell_fees
from ext.records cimport (Bytes, FRAME_ALERTS, FrameView, HEADER_BYTES, bytes_append, bytes_free, bytes_reserve,
                          frame_open, i128, u128)
from ext.wide cimport (Factor, Wide, abs_i128, abs_i64, factor_set, format_quotient, format_ratio, format_u128,
                       format_wide, prefetch, sub_i128, wide_addmul, wide_addmul2, wide_neg, wide_set_u128, wide_zero)

from ext.alertlog import SEVERITIES
from ext.limitfile import KINDS
from ext.records import FrameDecodeError

POSITION_FIELDS = ("account", "symbol", "quantity", "avg_price", "realized_pnl", "unrealized_pnl", "fees", "last_price",
                   "trades")
ALERT_FIELDS = ("alert_no", "seq", "limit_id", "kind", "severity", "account", "symbol", "venue", "strategy", "value",
                "threshold", "utilization", "trade_id", "executed_at")

NUMBER_FIELDS = POSITION_FIELDS[2:8]

cdef enum:
    NUMBERS = 6                     # of NUMBER_FIELDS
    NUMBER_BYTES = 128              # of one of them as text
    PIECE_BYTES = 262144
    ROW_BYTES = 8192                # more than the longest row: two names of 255 bytes, each byte as \\u00XX, and the numbers
    AHEAD = 8                       # rows

cdef struct Valued:                 # a position, and by what its integers are made money
    const Position* position
    const Symbol* symbol
    Factor multiplier
    int money                       # exponent
    bint plain                      # the multiplier is a power of ten: the exponent has it
    bint marked                     # the symbol has a price

cdef const char* HEX = b"0123456789abcdef"


# --- positions ---------------------------------------------------------------------------------------------------

cdef size_t format_signed(i128 value, int exponent, char* out) noexcept nogil:
    return format_u128(abs_i128(value), exponent, value < 0, out)


cdef size_t format_money(i128 raw, const Valued* v, char* out) noexcept nogil:
    cdef Wide w
    if v.plain:
        return format_signed(raw, v.money, out)
    wide_zero(&w)
    wide_addmul(&w, raw, &v.multiplier)
    return format_wide(&w, v.money, out)


cdef size_t format_unrealized(const Valued* v, char* out) noexcept nogil:
    """quantity x mark - open cost, which may need one bit more than either."""
    cdef const Position* p = v.position
    cdef Wide w
    cdef i128 value
    if v.marked and v.plain:
        if not sub_i128(<i128>p.quantity * <i128>v.symbol.mark, p.cost, &value):
            return format_signed(value, v.money, out)
    wide_zero(&w)
    if v.marked:
        wide_addmul2(&w, <i128>p.quantity, v.symbol.mark, &v.multiplier)
        wide_addmul(&w, -p.cost, &v.multiplier)
    return format_wide(&w, v.money, out)


cdef size_t format_average(const Position* p, int exponent, char* out) noexcept nogil:
    cdef Wide cost, quantity
    if p.quantity == 0:
        out[0] = 48
        return 1
    if exponent == -9:
        return format_quotient(abs_i128(p.cost), abs_i64(p.quantity), (p.cost < 0) != (p.quantity < 0), out)
    wide_set_u128(&cost, abs_i128(p.cost))
    if (p.cost < 0) != (p.quantity < 0):
        wide_neg(&cost)
    wide_set_u128(&quantity, abs_i64(p.quantity))
    return format_ratio(&cost, &quantity, exponent, out)


cdef size_t format_fees(Book book, uint32_t cell, char* out) noexcept nogil:
    cdef i128 fees = 0
    while cell:
        fees += cell_fees(&(<const Cell*>book.store.cells.data)[cell])
        cell = (<const Cell*>book.store.cells.data)[cell].next_in_position
    return format_signed(fees, -9, out)


cdef void value_position(Book book, uint32_t index, Valued* out) noexcept nogil:
    cdef Wide w
    cdef const Position* p = &(<const Position*>book.store.positions.data)[index]
    cdef const Symbol* s = &(<const Symbol*>book.store.symbols.data)[p.symbol]
    out.position, out.symbol = p, s
    out.marked = s.source != MARK_NONE
    out.money = s.instrument.price_exponent + s.instrument.quantity_exponent + s.instrument.multiplier_exponent
    out.plain = s.instrument.multiplier == 1
    wide_set_u128(&w, <uint64_t>s.instrument.multiplier)
    factor_set(&out.multiplier, &w)


cdef size_t format_number(Book book, const Valued* v, int field, char* out) noexcept nogil:
    """One of NUMBERS of a position as text of at most NUMBER_BYTES; its length."""
    cdef const Instrument* instrument = &v.symbol.instrument
    if field == 0:
        return format_signed(<i128>v.position.quantity, instrument.quantity_exponent, out)
    if field == 1:
        return format_average(v.position, instrument.price_exponent, out)
    if field == 2:
        return format_money(v.position.realized, v, out)
    if field == 3:
        return format_unrealized(v, out)
    if field == 4:
        return format_fees(book, v.position.first_cell, out)
    return format_signed(<i128>v.symbol.mark if v.marked else 0, instrument.price_exponent, out)


cdef object matching(NameTable names, glob):
    """Whether each name matches, and its rank among all names bytewise."""
    cdef bytes pattern = b"" if glob is None else (glob if isinstance(glob, bytes) else glob.encode())
    cdef size_t length
    cdef const uint8_t* text
    cdef uint32_t id
    texts = [names[id] for id in range(names.count)]
    ranks = [0] * len(texts)
    for rank, id in enumerate(sorted(range(names.count), key=texts.__getitem__)):
        ranks[id] = rank
    if glob is not None:
        for id in range(names.count):
            text = names.text(id, &length)
            if not glob_match(<const uint8_t*><const char*>pattern, len(pattern), text, length):
                ranks[id] = -1
    return ranks


cdef int place_by(uint32_t* out, const uint32_t* found, size_t count, const Position* positions, int64_t[::1] ranks,
                  bint by_account, size_t places) except -1:
    """Put positions in order of a rank that each of their names has once; those of equal rank stay in order."""
    cdef size_t* starts = <size_t*>calloc(places + 1, sizeof(size_t))
    cdef size_t i
    cdef int64_t rank
    if starts == NULL:
        raise MemoryError
    for i in range(count):
        starts[ranks[positions[found[i]].account if by_account else positions[found[i]].symbol] + 1] += 1
    for i in range(places):
        starts[i + 1] += starts[i]
    for i in range(count):
        rank = ranks[positions[found[i]].account if by_account else positions[found[i]].symbol]
        out[starts[rank]] = found[i]
        starts[rank] += 1
    free(starts)
    return 0


cdef uint32_t[::1] sorted_positions(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob):
    cdef const Position* positions = <const Position*>book.store.positions.data
    cdef size_t count = 0, i, room = <size_t>book.store.positions.count + 1
    cdef int64_t[::1] account_ranks = array("q", matching(accounts, account_glob))
    cdef int64_t[::1] symbol_ranks = array("q", matching(symbols, symbol_glob))
    cdef uint32_t[::1] found = array("I", bytes(room * sizeof(uint32_t)))
    cdef uint32_t[::1] other = array("I", bytes(room * sizeof(uint32_t)))
    for i in range(1, book.store.positions.count):
        if account_ranks[positions[i].account] >= 0 and symbol_ranks[positions[i].symbol] >= 0:
            found[count] = <uint32_t>i
            count += 1
    place_by(&other[0], &found[0], count, positions, symbol_ranks, False, symbols.count)
    place_by(&found[0], &other[0], count, positions, account_ranks, True, accounts.count)
    return found[:count]


cdef object position_rows(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob):
    cdef Valued v
    cdef char text[NUMBER_BYTES]
    cdef uint32_t i
    cdef int field
    rows = []
    account_texts = [accounts[i].decode("utf-8", "replace") for i in range(accounts.count)]
    symbol_texts = [symbols[i].decode("utf-8", "replace") for i in range(symbols.count)]
    for i in sorted_positions(book, accounts, symbols, account_glob, symbol_glob):
        value_position(book, i, &v)
        row = {"account": account_texts[v.position.account], "symbol": symbol_texts[v.position.symbol]}
        for field in range(NUMBERS):
            row[NUMBER_FIELDS[field]] = text[:format_number(book, &v, field, text)].decode("ascii")
        row["trades"] = v.position.trades
        rows.append(row)
    return rows


cdef inline char* copied(char* to, const void* text, size_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef char* quoted(char* to, const uint8_t* text, size_t length) noexcept nogil:
    """A JSON string of at most 6 bytes a byte, and 2; names are UTF-8 already."""
    cdef size_t i
    cdef uint8_t c
    to = copied(to, b'"', 1)
    for i in range(length):
        c = text[i]
        if c == 34 or c == 92:
            to[0] = 92
            to[1] = <char>c
            to += 2
        elif c < 32:
            to = copied(to, b"\\u00", 4)
            to[0] = HEX[c >> 4]
            to[1] = HEX[c & 15]
            to += 2
        else:
            to[0] = <char>c
            to += 1
    return copied(to, b'"', 1)


cdef char* csv_cell(char* to, const uint8_t* text, size_t length) noexcept nogil:
    """A CSV cell, quoted where it has to be (RFC 4180)."""
    cdef size_t i
    cdef bint plain = True
    for i in range(length):
        if text[i] in (34, 44, 10, 13):
            plain = False
    if plain:
        return copied(to, text, length)
    to = copied(to, b'"', 1)
    for i in range(length):
        if text[i] == 34:
            to = copied(to, b'"', 1)
        to = copied(to, &text[i], 1)
    return copied(to, b'"', 1)


cdef char* csv_row(char* to, Book book, const Valued* v, NameTable accounts, NameTable symbols) noexcept nogil:
    cdef size_t length
    cdef int field
    cdef const uint8_t* text = accounts.text(v.position.account, &length)
    to = copied(csv_cell(to, text, length), b",", 1)
    text = symbols.text(v.position.symbol, &length)
    to = copied(csv_cell(to, text, length), b",", 1)
    for field in range(NUMBERS):
        to += format_number(book, v, field, to)
        to = copied(to, b",", 1)
    to += format_u128(<u128>v.position.trades, 0, False, to)
    return copied(to, b"\r\n", 2)


cdef char* json_row(char* to, Book book, const Valued* v, NameTable accounts, NameTable symbols,
                    const char** names) noexcept nogil:
    """names: what stands before each number, and before the trades."""
    cdef size_t length
    cdef int field
    cdef const uint8_t* text = accounts.text(v.position.account, &length)
    to = quoted(copied(to, b'{"account":', 11), text, length)
    text = symbols.text(v.position.symbol, &length)
    to = quoted(copied(to, b',"symbol":', 10), text, length)
    for field in range(NUMBERS):
        to = copied(to, names[field], strlen(names[field]))
        to += format_number(book, v, field, to)
    to = copied(to, names[NUMBERS], strlen(names[NUMBERS]))
    to += format_u128(<u128>v.position.trades, 0, False, to)
    return copied(to, b"}", 1)


cdef void fetch_position(Book book, const uint32_t[::1] order, size_t i) noexcept nogil:
    """Positions lie in the order in which they came, and so do their cells: have those ready that are read soon."""
    cdef const Position* p
    if i + 2 * AHEAD < <size_t>order.shape[0]:
        p = &(<const Position*>book.store.positions.data)[order[i + 2 * AHEAD]]
        prefetch(p)
        prefetch(<const char*>p + 64)
    if i + AHEAD < <size_t>order.shape[0]:
        p = &(<const Position*>book.store.positions.data)[order[i + AHEAD]]
        prefetch(&(<const Cell*>book.store.cells.data)[p.first_cell])


cdef char* put_rows(char* to, const char* end, Book book, NameTable accounts, NameTable symbols,
                    const uint32_t[::1] order, size_t* next, const char** names) noexcept nogil:
    """Rows from the next on, until `end` is passed by less than one row; names: of JSON, NULL for CSV."""
    cdef Valued v
    while next[0] < <size_t>order.shape[0] and to < end:
        fetch_position(book, order, next[0])
        value_position(book, order[next[0]], &v)
        if names == NULL:
            to = csv_row(to, book, &v, accounts, symbols)
        else:
            if next[0]:
                to = copied(to, b",\n", 2)
            to = json_row(to, book, &v, accounts, symbols, names)
        next[0] += 1
    return to


cdef object positions_as(Book book, NameTable accounts, NameTable symbols, bint csv, write):
    """Hand all positions to `write`, piece by piece: what is large is not made twice in memory."""
    cdef const uint32_t[::1] order = sorted_positions(book, accounts, symbols, None, None)
    cdef const char* names[NUMBERS + 1]
    cdef size_t next = 0
    cdef char* piece = <char*>malloc(PIECE_BYTES + ROW_BYTES)
    cdef char* to
    cdef bytes header = ",".join(POSITION_FIELDS).encode() + b"\r\n"
    if piece == NULL:
        raise MemoryError
    names[0], names[1], names[2] = b',"quantity":"', b'","avg_price":"', b'","realized_pnl":"'
    names[3], names[4], names[5] = b'","unrealized_pnl":"', b'","fees":"', b'","last_price":"'
    names[NUMBERS] = b'","trades":'
    try:
        write(header if csv else b"[")
        while next < <size_t>order.shape[0]:
            with nogil:
                to = put_rows(piece, piece + PIECE_BYTES, book, accounts, symbols, order, &next, NULL if csv else names)
            write(piece[:to - piece])
        if not csv:
            write(b"]\n")
    finally:
        free(piece)


# --- alerts ------------------------------------------------------------------------------------------------------

cdef inline int put(Bytes* out, const char* text, size_t length) except -1:
    if bytes_append(out, text, length) < 0:
        raise MemoryError
    return 0


cdef int put_quoted(Bytes* out, const uint8_t* text, size_t length) except -1:
    cdef char* start
    if bytes_reserve(out, 6 * length + 2) < 0:
        raise MemoryError
    start = <char*>out.data + out.size
    out.size += quoted(start, text, length) - start
    return 0


cdef int put_count(Bytes* out, uint64_t value) except -1:
    cdef char text[24]
    return put(out, text, format_u128(<u128>value, 0, False, text))


cdef int put_alert(Bytes* out, const AlertRecord* record, uint64_t alert_no, const uint8_t* texts) except -1:
    cdef size_t offsets[10]
    cdef int i
    cdef bytes kind = KINDS[record.kind].encode() if record.kind < LIMIT_KINDS else b"?"
    cdef bytes severity = SEVERITIES[record.severity].encode() if record.severity < 3 else b"?"
    cdef const char* names[9]
    cdef int order[9]
    offsets[0] = record.text_offset
    for i in range(ALERT_TEXTS):
        offsets[i + 1] = offsets[i] + record.lengths[i]
    put(out, b'{"alert_no":', 12)
    put_count(out, alert_no)
    put(out, b',"seq":', 7)
    put_count(out, record.seq)
    put(out, b',"limit_id":', 12)
    put_quoted(out, texts + offsets[<int>ALERT_LIMIT_ID], record.lengths[<int>ALERT_LIMIT_ID])
    put(out, b',"kind":"', 9)
    put(out, kind, len(kind))
    put(out, b'","severity":"', 14)
    put(out, severity, len(severity))
    put(out, b'"', 1)
    names[0], names[1], names[2] = b',"account":', b',"symbol":', b',"venue":'
    names[3], names[4], names[5] = b',"strategy":', b',"value":', b',"threshold":'
    names[6], names[7] = b',"utilization":', b',"trade_id":'
    order[:] = [ALERT_ACCOUNT, ALERT_SYMBOL, ALERT_VENUE, ALERT_STRATEGY, ALERT_VALUE, ALERT_THRESHOLD,
                ALERT_UTILIZATION, ALERT_TRADE_ID, 0]
    for i in range(8):
        put(out, names[i], len(names[i]))
        put_quoted(out, texts + offsets[order[i]], record.lengths[order[i]])
    put(out, b',"executed_at":', 15)
    if record.executed_at < 0:
        put(out, b"-", 1)
    put_count(out, abs_i64(record.executed_at))
    return put(out, b"}\n", 2)


def alerts_to_jsonl(frame not None):
    """Return the alerts of an alerts frame (bytes) as JSON lines, one RiskAlert each (DESIGN section 9).

    Raises FrameDecodeError for bytes that are no alerts frame.
    """
    cdef const unsigned char[::1] data = frame
    cdef FrameView view
    cdef Bytes out
    cdef uint32_t i
    cdef int status
    if data.shape[0] == 0:
        raise FrameDecodeError(1)
    status = frame_open(&data[0], data.shape[0], True, &view)
    if status or view.header.kind != FRAME_ALERTS:
        raise FrameDecodeError(status or 6)
    memset(&out, 0, sizeof(out))
    try:
        for i in range(view.header.record_count):
            put_alert(&out, <const AlertRecord*>(<const uint8_t*>view.records + i * ALERT_BYTES),
                      view.header.first_seq + i, view.heap)
        return (<const char*>out.data)[:out.size] if out.size else b""
    finally:
        bytes_free(&out)
