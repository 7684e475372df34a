"""What a person or another program reads. Exact: money keeps all its digits, averages round half to even at nine decimals."""

from array import array

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from ext.alertlog cimport (ALERT_ACCOUNT, ALERT_BYTES, ALERT_LIMIT_ID, ALERT_STRATEGY, ALERT_SYMBOL, ALERT_TEXTS,
                           ALERT_THRESHOLD, ALERT_TRADE_ID, ALERT_UTILIZATION, ALERT_VALUE, ALERT_VENUE, AlertRecord)
from ext.definitions cimport glob_match
from ext.limits cimport LIMIT_KINDS
from ext.positions cimport Cell, MARK_NONE, Position, Symbol, cell_fees
from ext.records cimport (Bytes, FRAME_ALERTS, FrameView, HEADER_BYTES, bytes_append, bytes_free, bytes_reserve,
                          frame_open, i128, u128)
from ext.wide cimport (Factor, Wide, abs_i128, abs_i64, factor_set, format_quotient, format_ratio, format_u128,
                       format_wide, sub_i128, wide_addmul, wide_addmul2, wide_neg, wide_set_u128, wide_zero)

from ext.alertlog import SEVERITIES
from ext.limits import KINDS
from ext.records import FrameDecodeError

POSITION_FIELDS = ("account", "symbol", "quantity", "avg_price", "realized_pnl", "unrealized_pnl", "fees", "last_price",
                   "trades")
ALERT_FIELDS = ("alert_no", "seq", "limit_id", "kind", "severity", "account", "symbol", "venue", "strategy", "value",
                "threshold", "utilization", "trade_id", "executed_at")

cdef enum:
    PIECE_BYTES = 262144

cdef bytes HEX = b"0123456789abcdef"


# --- positions ---------------------------------------------------------------------------------------------------

cdef size_t format_signed(i128 value, int exponent, char* out) noexcept nogil:
    return format_u128(abs_i128(value), exponent, value < 0, out)


cdef size_t format_money(i128 raw, const Factor* multiplier, int exponent, char* out) noexcept nogil:
    cdef Wide w
    cdef u128 magnitude = abs_i128(raw)
    if multiplier.limbs == 1 and multiplier.v[0] == 1:
        return format_u128(magnitude, exponent, raw < 0, out)
    wide_zero(&w)
    wide_addmul(&w, raw, multiplier)
    return format_wide(&w, exponent, out)


cdef size_t format_unrealized(const Position* p, const Symbol* s, const Factor* multiplier, int exponent,
                              char* out) noexcept nogil:
    """quantity x mark - open cost, which may need one bit more than either."""
    cdef Wide w
    cdef i128 value
    if s.source != MARK_NONE and multiplier.limbs == 1 and multiplier.v[0] == 1:
        if not sub_i128(<i128>p.quantity * <i128>s.mark, p.cost, &value):
            return format_signed(value, exponent, out)
    wide_zero(&w)
    if s.source != MARK_NONE:
        wide_addmul2(&w, <i128>p.quantity, s.mark, multiplier)
        wide_addmul(&w, -p.cost, multiplier)
    return format_wide(&w, exponent, out)


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


cdef void format_position(Book book, uint32_t index, RowTexts* out) noexcept nogil:
    cdef const Position* p = &(<const Position*>book.store.positions.data)[index]
    cdef const Symbol* s = &(<const Symbol*>book.store.symbols.data)[p.symbol]
    cdef int prices = s.instrument.price_exponent, quantities = s.instrument.quantity_exponent
    cdef int money = prices + quantities + s.instrument.multiplier_exponent
    cdef i128 fees = 0
    cdef uint32_t cell = p.first_cell
    cdef Factor multiplier
    cdef Wide w
    wide_set_u128(&w, <uint64_t>s.instrument.multiplier)
    factor_set(&multiplier, &w)
    while cell:
        fees += cell_fees(&(<const Cell*>book.store.cells.data)[cell])
        cell = (<const Cell*>book.store.cells.data)[cell].next_in_position
    out.lengths[0] = format_signed(<i128>p.quantity, quantities, out.quantity)
    out.lengths[1] = format_average(p, prices, out.average)
    out.lengths[2] = format_money(p.realized, &multiplier, money, out.realized)
    out.lengths[3] = format_unrealized(p, s, &multiplier, money, out.unrealized)
    out.lengths[4] = format_signed(fees, -9, out.fees)
    out.lengths[5] = format_signed(<i128>s.mark if s.source != MARK_NONE else 0, prices, out.mark)


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


cdef object sorted_positions(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob):
    cdef const Position* positions = <const Position*>book.store.positions.data
    cdef uint32_t* found
    cdef uint32_t* other
    cdef size_t count = 0, i, room = <size_t>book.store.positions.count + 1
    cdef int64_t[::1] account_ranks = array("q", matching(accounts, account_glob))
    cdef int64_t[::1] symbol_ranks = array("q", matching(symbols, symbol_glob))
    found = <uint32_t*>malloc(2 * room * sizeof(uint32_t))
    if found == NULL:
        raise MemoryError
    try:
        other = found + room
        for i in range(1, book.store.positions.count):
            if account_ranks[positions[i].account] >= 0 and symbol_ranks[positions[i].symbol] >= 0:
                found[count] = <uint32_t>i
                count += 1
        place_by(other, found, count, positions, symbol_ranks, False, symbols.count)
        place_by(found, other, count, positions, account_ranks, True, accounts.count)
        return [found[i] for i in range(count)]
    finally:
        free(found)


cdef object position_rows(Book book, NameTable accounts, NameTable symbols, account_glob, symbol_glob):
    cdef RowTexts row
    cdef uint32_t i
    cdef const Position* p
    rows = []
    account_texts = [accounts[i].decode("utf-8", "replace") for i in range(accounts.count)]
    symbol_texts = [symbols[i].decode("utf-8", "replace") for i in range(symbols.count)]
    for i in sorted_positions(book, accounts, symbols, account_glob, symbol_glob):
        p = &(<const Position*>book.store.positions.data)[i]
        format_position(book, i, &row)
        rows.append({
            "account": account_texts[p.account],
            "symbol": symbol_texts[p.symbol],
            "quantity": row.quantity[:row.lengths[0]].decode("ascii"),
            "avg_price": row.average[:row.lengths[1]].decode("ascii"),
            "realized_pnl": row.realized[:row.lengths[2]].decode("ascii"),
            "unrealized_pnl": row.unrealized[:row.lengths[3]].decode("ascii"),
            "fees": row.fees[:row.lengths[4]].decode("ascii"),
            "last_price": row.mark[:row.lengths[5]].decode("ascii"),
            "trades": p.trades,
        })
    return rows


cdef inline int put(Bytes* out, const char* text, size_t length) except -1:
    if bytes_append(out, text, length) < 0:
        raise MemoryError
    return 0


cdef int put_quoted(Bytes* out, const uint8_t* text, size_t length) except -1:
    """A JSON string; names are UTF-8 already."""
    cdef size_t i
    cdef uint8_t c
    cdef char escaped[6]
    put(out, b'"', 1)
    for i in range(length):
        c = text[i]
        if c == 34 or c == 92:
            escaped[0] = 92
            escaped[1] = <char>c
            put(out, escaped, 2)
        elif c < 32:
            memcpy(escaped, b"\\u00", 4)
            escaped[4] = (<const char*>HEX)[c >> 4]
            escaped[5] = (<const char*>HEX)[c & 15]
            put(out, escaped, 6)
        else:
            put(out, <const char*>&text[i], 1)
    return put(out, b'"', 1)


cdef int put_cell(Bytes* out, const uint8_t* text, size_t length) except -1:
    """A CSV cell, quoted where it has to be (RFC 4180)."""
    cdef size_t i
    cdef bint plain = True
    for i in range(length):
        if text[i] in (34, 44, 10, 13):
            plain = False
    if plain:
        return put(out, <const char*>text, length)
    put(out, b'"', 1)
    for i in range(length):
        if text[i] == 34:
            put(out, b'"', 1)
        put(out, <const char*>&text[i], 1)
    return put(out, b'"', 1)


cdef int put_count(Bytes* out, uint64_t value) except -1:
    cdef char text[24]
    return put(out, text, format_u128(<u128>value, 0, False, text))


cdef int put_numbers(Bytes* out, RowTexts* row, bint csv) except -1:
    cdef const char* texts[6]
    cdef const char* names[6]
    cdef int i
    texts[0], texts[1], texts[2] = row.quantity, row.average, row.realized
    texts[3], texts[4], texts[5] = row.unrealized, row.fees, row.mark
    names[0], names[1], names[2] = b',"quantity":"', b'","avg_price":"', b'","realized_pnl":"'
    names[3], names[4], names[5] = b'","unrealized_pnl":"', b'","fees":"', b'","last_price":"'
    for i in range(6):
        if csv:
            put(out, b",", 1)
        else:
            put(out, names[i], len(names[i]))
        put(out, texts[i], row.lengths[i])
    return 0


cdef int put_position(Bytes* out, Book book, uint32_t index, NameTable accounts, NameTable symbols, bint csv) except -1:
    cdef const Position* p = &(<const Position*>book.store.positions.data)[index]
    cdef RowTexts row
    cdef size_t account_length, symbol_length
    cdef const uint8_t* account = accounts.text(p.account, &account_length)
    cdef const uint8_t* symbol = symbols.text(p.symbol, &symbol_length)
    format_position(book, index, &row)
    if csv:
        put_cell(out, account, account_length)
        put(out, b",", 1)
        put_cell(out, symbol, symbol_length)
        put_numbers(out, &row, True)
        put(out, b",", 1)
        put_count(out, p.trades)
        return put(out, b"\r\n", 2)
    put(out, b'{"account":', 11)
    put_quoted(out, account, account_length)
    put(out, b',"symbol":', 10)
    put_quoted(out, symbol, symbol_length)
    put_numbers(out, &row, False)
    put(out, b'","trades":', 11)
    put_count(out, p.trades)
    return put(out, b"}", 1)


cdef object positions_as(Book book, NameTable accounts, NameTable symbols, bint csv, write):
    """Hand all positions to `write`, piece by piece: what is large is not made twice in memory."""
    cdef Bytes out
    cdef bint first = True
    cdef bytes header = ",".join(POSITION_FIELDS).encode() + b"\r\n"
    memset(&out, 0, sizeof(out))
    try:
        if csv:
            put(&out, header, len(header))
        else:
            put(&out, b"[", 1)
        for index in sorted_positions(book, accounts, symbols, None, None):
            if not csv and not first:
                put(&out, b",\n", 2)
            first = False
            put_position(&out, book, index, accounts, symbols, csv)
            if out.size >= PIECE_BYTES:
                write((<const char*>out.data)[:out.size])
                out.size = 0
        if not csv:
            put(&out, b"]\n", 2)
        write((<const char*>out.data)[:out.size])
    finally:
        bytes_free(&out)


# --- alerts ------------------------------------------------------------------------------------------------------

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
