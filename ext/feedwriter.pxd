"""From the texts of one trade to a record of a frame: the checks that every feed shares."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.decimals cimport Decimal64
from ext.definitions cimport NameTable
from ext.feedfilter cimport RowFilter
from ext.feedvalues cimport NearTime
from ext.records cimport Bytes, FrameBuilder, Record

cdef enum:                          # the canonical columns (DESIGN section 9), and where others go
    FIELD_TRADE_ID = 0
    FIELD_SYMBOL = 1
    FIELD_PRICE = 2
    FIELD_VOLUME = 3
    FIELD_SIDE = 4
    FIELD_EXECUTED_AT = 5
    FIELD_ACCOUNT = 6
    FIELD_VENUE = 7
    FIELD_STRATEGY = 8
    FIELD_FEE = 9
    FIELD_EXEC_TYPE = 10
    FIELD_REF_TRADE_ID = 11
    FIELDS = 12
    FIELD_IGNORED = 12
    FIELD_GUARD = 13                # a column that says whether a row is a trade at all
    ROW_TEXTS = 14

cdef enum:
    SIDE_FROM_TEXT = 0              # RowRules.side_rule; 1 and 2 are Side
    SIDE_BY_TICK = 3
    TEXT_SLACK_BYTES = 32           # readable bytes needed behind every text of a Row
    ERROR_BYTES_MAX = 255           # ref_length of a rejected record is one byte
    NAME_CACHE_SLOTS = 4096
    ROW_SKIPPED = 1                 # add_row: nothing was added, the filter or the kind of feed leaves it out
    FRAME_BYTES_ENOUGH = 1048576    # of raw bytes, or of texts, with which a frame is given out

cdef struct Row:                    # the texts of one trade; NULL: the source has no such column
    const uint8_t* text[14]
    size_t length[14]

cdef struct Values:                 # what a source has as numbers rather than texts; `given`: 1 << FIELD_… of each
    uint32_t given
    uint8_t time_reason             # of executed_at: 0, or REASON_PRECISION, REASON_OVERFLOW
    Decimal64 price
    Decimal64 volume
    Decimal64 fee
    int64_t executed_at             # ns
    uint32_t* name_ids[4]           # per NameKind: where the id of the row's text is kept, 0 for not yet; or NULL

cdef struct NameSlot:               # a name of at most 16 bytes, zero-padded, and its id (0: free)
    uint64_t low
    uint64_t high
    uint64_t length
    uint32_t id
    uint32_t reserved               # to 32 bytes: two slots are a cache line

cdef struct NameKey:                # such a name as words, and the first of its two places
    uint64_t low
    uint64_t high
    NameSlot* slot                  # NULL: the name is empty, or has more than 16 bytes

cdef struct Tick:                   # a symbol's last good price and the side it was given
    int64_t mantissa
    int exponent
    uint8_t side

cdef struct SideText:
    uint64_t text                   # at most 8 bytes, zero-padded
    uint8_t length
    uint8_t side

cdef struct FeedSource:             # a file of the feed
    uint32_t name                   # offset in source_names
    uint32_t length
    uint32_t unit                   # of its positions: 0 line, 1 record, 2 byte
    uint32_t number                 # + 1 among the sources of the frame being built; 0: it has no record in it

@cython.final
cdef class RowRules:
    """What a source lacks or says differently: made ids, sides, the default account, units."""
    cdef readonly int side_rule
    cdef uint8_t account[96]        # of rows that name none
    cdef size_t account_length
    cdef bint make_ids
    cdef uint8_t id_text[48]        # `<16 hex>#` and room for the number
    cdef SideText side_texts[8]
    cdef int side_text_count
    cdef SideText kept_texts[16]    # of FIELD_GUARD, with which a row is a trade
    cdef int kept_count             # 0: every row is
    cdef int price_shift            # added to the exponent of every price
    cdef int64_t time_base_ns       # time_unit_ns > 0: executed_at = base + integer x unit
    cdef int64_t time_unit_ns
    cdef Bytes ticks                # Tick per symbol id
    cdef readonly bint as_marks     # rows become MarkPrice events
    cdef uint32_t spread            # > 0: rows without an account go to one of so many, by a hash of their trade id
    cdef uint64_t spread_seed
    cdef int spread_width           # digits of the number

@cython.final
cdef class FeedWriter:
    """One feed's frames: its names, numbered from 1 per kind, and the frame being built."""
    cdef readonly FrameBuilder builder
    cdef uint64_t frames            # taken so far
    cdef NameTable symbols
    cdef NameTable accounts
    cdef NameTable venues
    cdef NameTable strategies
    cdef uint32_t defined[4]        # names of each kind that earlier frames defined, id 0 included
    cdef NameSlot* cache            # NAME_CACHE_SLOTS per kind
    cdef NearTime near              # of the time read last
    cdef Bytes scratch
    cdef Bytes sources              # FeedSource each
    cdef Bytes source_names
    cdef int64_t source             # whose records are being added; -1: none
    cdef RowFilter row_filter
    cdef bint filtered              # row_filter may leave rows out

    # Add one trade, or its refusal as `invalid`; `number` is the data record's, for made ids. 0, ROW_SKIPPED, or -1
    # without memory.
    cdef int add_row(self, RowRules rules, const Row* row, uint64_t number) noexcept nogil
    # add_row with numbers (NULL: none); a number that is given stands for its text.
    cdef int add_values(self, RowRules rules, const Row* row, const Values* values, uint64_t number) noexcept nogil
    # executed_at of a row in ns: 1, or 0 where it has none.
    cdef bint row_time(self, RowRules rules, const Row* row, int64_t* out) noexcept nogil
    # Add a refusal: `field: found 'text', expected …` (field and text may be NULL). 0, or -1 without memory.
    cdef int reject(self, int reason, const char* field, const uint8_t* found, size_t length,
                    const char* expected) noexcept nogil
    # Take a source: origins are of it until another one is taken. 0, or -1 without memory.
    cdef int take_source(self, uint32_t number) noexcept nogil
    cdef uint32_t name_id(self, int kind, const uint8_t* text, size_t length) noexcept nogil   # NO_NAME: no memory
    cdef void find_place(self, int kind, const uint8_t* text, size_t length, NameKey* key) noexcept nogil
    cdef uint32_t id_at(self, int kind, const NameKey* key, const uint8_t* text, size_t length) noexcept nogil
    cdef uint32_t keep_name(self, int kind, const NameKey* key, const uint8_t* text, size_t length) noexcept nogil
    cdef NameTable table(self, int kind)
    cdef uint32_t intern(self, int kind, const uint8_t* text, size_t length) noexcept nogil
    cdef int invalid(self, const char* field, const Row* row, int i, const char* expected) noexcept nogil
    cdef int time_of(self, RowRules rules, const uint8_t* text, size_t length, int64_t* out) noexcept nogil
    cdef int far_time(self, RowRules rules, const uint8_t* text, size_t length, int64_t* out) noexcept nogil
    cdef bint is_kept(self, RowRules rules, const Row* row) noexcept nogil
    cdef int side_of(self, RowRules rules, const uint8_t* text, size_t length) noexcept nogil
    cdef int tick_side(self, RowRules rules, uint32_t symbol, const Decimal64* price) noexcept nogil
    cdef int check_texts(self, RowRules rules, const Row* row) noexcept nogil
    cdef int read_numbers(self, RowRules rules, const Row* row, const Values* values, Decimal64* price,
                          Decimal64* volume, Record* r) noexcept nogil
    cdef int read_time_of(self, RowRules rules, const Row* row, const Values* values, Record* r) noexcept nogil
    cdef int refuse_volume(self, const Row* row, const Values* values) noexcept nogil
    cdef int read_kind(self, const Row* row, Record* r) noexcept nogil
    cdef int64_t put_text(self, const uint8_t* text, size_t length) noexcept nogil
    cdef int finish_row(self, RowRules rules, const Row* row, const Values* values, uint64_t number,
                        const NameKey* account_key, Record* r) noexcept nogil
    cdef int finish_mark(self, RowRules rules, const Row* row, uint64_t number, Record* r) noexcept nogil
    cdef uint32_t known_name(self, int kind, const NameKey* key, const Row* row, int field,
                             const Values* values) noexcept nogil
    cdef size_t spread_account(self, RowRules rules, const Row* row, const uint8_t* id, size_t id_length,
                               uint8_t* out) noexcept nogil

cdef inline bint has_room(FrameBuilder builder, uint32_t records_max) noexcept nogil:
    """Whether the frame being built may grow."""
    return (builder.count < records_max and builder.raw.size < FRAME_BYTES_ENOUGH
            and builder.heap.size < FRAME_BYTES_ENOUGH)
