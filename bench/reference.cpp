// The core's job in plain C++20: what it costs when nothing stands between the compiler and the machine.
//
// Reads unsequenced frames (docs/wire-format.md) from a file, each behind its size as a little-endian uint64. Per frame, first
// the door: CRC-32C, bounds, every field, UTF-8 of ids, names into its own numbers, units, duplicates by full identity against
// the record itself, trades too old to be told from forgotten ones, a sequenced frame with its own CRC-32C into the journal.
// Then the core, from the journal: CRC-32C, bounds, names, position with exact average cost in 128 bits, mark, fees, a chain of
// each position's trades through the journal (what a bust would follow), and three limits: max_position and max_notional per
// account and symbol, trade_rate per account; and every 100 ms a symbol's other holders are judged at its new mark. What is
// looked up is fetched ahead, one step of the way at a time.
//
// What it does not have and the core has: other events and limits, globs, cells by venue and strategy, busts, snapshots.
// The CRC-32C is the core's (ext/crc32c.h), so that it is no part of the difference. Keep it honest: make it faster if you can.
//
//   c++ -std=c++20 -O3 -Iext -o reference bench/reference.cpp           (bench/native.py does, with setup.py's flags)
//   ./reference FRAMES WARM_FRAMES MAX_POSITION MAX_NOTIONAL MAX_RATE WINDOW_NS [POSITIONS.csv]
//
// Thresholds in raw units (1e-8 of quantity, 1e-17 of money, trades in WINDOW_NS). Prints one JSON object: ns of this thread's
// processor time per trade, of the frames after WARM_FRAMES, door and core apart, and what was found. The CSV has exact
// decimals: account,symbol,quantity,realized_pnl,unrealized_pnl,fees,last_price,trades.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <sys/mman.h>

extern "C" {
#include "crc32c.h"
}

using i128 = __int128;
using u128 = unsigned __int128;

#pragma pack(push, 1)
struct Header {
    uint32_t magic;
    uint8_t version, kind;
    uint16_t flags;
    uint32_t record_count, definition_bytes;
    uint64_t first_seq, epoch;
    uint32_t heap_bytes, origin_bytes, crc32c, reserved;
    int64_t stamped_at;
    uint64_t reserved2;
};
struct Record {
    uint8_t type, exec_type, side, flags;
    uint32_t symbol, account, venue, strategy, id_offset, ref_offset;
    uint8_t id_length, ref_length;
    int8_t price_exponent, volume_exponent;
    int64_t price, volume, fee, executed_at;
};
struct Definition {
    uint8_t kind, length;
    uint16_t reserved;
    uint32_t id;
};
#pragma pack(pop)
static_assert(sizeof(Header) == 64 && sizeof(Record) == 64 && sizeof(Definition) == 8);

constexpr uint32_t magic_of_frames = 0x31465752, crc_offset = 40, records_max = 8192, no_name = UINT32_MAX;
constexpr int price_unit = -9, quantity_unit = -8;
constexpr int64_t revalue_every_ns = 100000000;
constexpr uint64_t powers[] = {1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull,
                               1000000000ull, 10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull,
                               100000000000000ull, 1000000000000000ull, 10000000000000000ull, 100000000000000000ull,
                               1000000000000000000ull};

// Without a branch, where data decide at random: no processor guesses those.
static inline int64_t negate_if(bool negative, int64_t v) {
    const uint64_t all = 0 - uint64_t(negative);
    return int64_t((uint64_t(v) ^ all) - all);
}
static inline i128 negate_if(bool negative, i128 v) {
    const u128 all = 0 - u128(negative);
    return i128((u128(v) ^ all) - all);
}
static inline uint64_t size_of(int64_t v) { return uint64_t(negate_if(v < 0, v)); }
static inline u128 size_of(i128 v) { return u128(negate_if(v < 0, v)); }

// --- frames ------------------------------------------------------------------------------------------------------------------

static uint32_t crc_of(const uint8_t *data, size_t size) {
    const uint32_t zero = 0;
    uint32_t crc = rw_crc32c(0, data, crc_offset);
    crc = rw_crc32c(crc, reinterpret_cast<const uint8_t *>(&zero), 4);
    return rw_crc32c(crc, data + crc_offset + 4, size - crc_offset - 4);
}

struct View {
    const Header *header;
    const Record *records;
    const uint8_t *definitions, *heap;

    bool open(const uint8_t *data, size_t size, uint8_t kind) {
        header = reinterpret_cast<const Header *>(data);
        if (size < sizeof(Header) || header->magic != magic_of_frames || header->version != 1 || header->kind != kind ||
            header->record_count > records_max || header->definition_bytes % 4)
            return false;
        const uint64_t records_size = uint64_t(header->record_count) * sizeof(Record);
        if (sizeof(Header) + records_size + header->definition_bytes + header->heap_bytes + header->origin_bytes != size) return false;
        if (crc_of(data, size) != header->crc32c) return false;
        records = reinterpret_cast<const Record *>(data + sizeof(Header));
        definitions = data + sizeof(Header) + records_size;
        heap = definitions + header->definition_bytes;
        return content_is_good();
    }

    bool content_is_good() const {
        uint64_t beyond = 0;
        for (uint32_t i = 0; i < header->record_count; i++) {
            beyond |= header->heap_bytes - (uint64_t(records[i].id_offset) + records[i].id_length);
            beyond |= header->heap_bytes - (uint64_t(records[i].ref_offset) + records[i].ref_length);
        }
        if (beyond >> 63) return false;
        for (size_t at = 0; at < header->definition_bytes;) {
            if (header->definition_bytes - at < sizeof(Definition)) return false;
            const auto *d = reinterpret_cast<const Definition *>(definitions + at);
            const size_t step = sizeof(Definition) + ((size_t(d->length) + 3) & ~size_t(3));
            if (d->kind > 3 || d->id == 0 || d->length == 0 || step > header->definition_bytes - at) return false;
            at += step;
        }
        return true;
    }

    template <class F> void each_definition(F take) const {
        for (size_t at = 0; at < header->definition_bytes;) {
            const auto *d = reinterpret_cast<const Definition *>(definitions + at);
            take(*d, std::string_view(reinterpret_cast<const char *>(d + 1), d->length));
            at += sizeof(Definition) + ((size_t(d->length) + 3) & ~size_t(3));
        }
    }
};

// Anonymous memory that is touched as it is used; frames never move.
struct Journal {
    struct Entry {
        uint64_t first_seq;
        uint8_t *data;
    };
    uint8_t *base;
    size_t used = 0, capacity;
    std::vector<Entry> frames;
    size_t hint = 0;

    explicit Journal(size_t bytes) : capacity(bytes) {
        base = static_cast<uint8_t *>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (base == MAP_FAILED) std::abort();
    }

    const Record *find(uint64_t seq, const uint8_t **heap) {
        const auto holds = [&](size_t i) {
            return i < frames.size() && frames[i].first_seq <= seq && (i + 1 == frames.size() || seq < frames[i + 1].first_seq);
        };
        if (!holds(hint)) {
            const auto above = std::upper_bound(frames.begin(), frames.end(), seq, [](uint64_t s, const Entry &e) { return s < e.first_seq; });
            hint = size_t(above - frames.begin()) - 1;
        }
        const auto *header = reinterpret_cast<const Header *>(frames[hint].data);
        const auto *records = reinterpret_cast<const Record *>(frames[hint].data + sizeof(Header));
        *heap = frames[hint].data + sizeof(Header) + size_t(header->record_count) * sizeof(Record) + header->definition_bytes;
        return &records[seq - frames[hint].first_seq];
    }
};

// --- the door ----------------------------------------------------------------------------------------------------------------

static inline uint64_t fold(uint64_t a, uint64_t b) {
    const u128 m = u128(a) * b;
    return uint64_t(m) ^ uint64_t(m >> 64);
}

// Keyed like the core's, so that nobody can make collisions (the key is fixed here: nobody attacks a benchmark).
static uint64_t identity_of(const Record &r, const uint8_t *p) {
    static constexpr uint64_t key[] = {0x9E3779B97F4A7C15ull, 0xD6E8FEB86659FD93ull, 0xA0761D6478BD642Full, 0xE7037ED1A0B428DBull,
                                       0x8EBC6AF09C88C6E3ull};
    uint64_t h = fold((uint64_t(r.symbol) << 32 | r.account) ^ key[0],
                      (uint64_t(r.venue) << 32 | uint64_t(r.side) << 16 | uint64_t(r.exec_type) << 8 | r.type) ^ key[1]);
    size_t n = r.id_length;
    uint64_t a = 0, b = 0;
    for (; n > 16; p += 16, n -= 16) {
        std::memcpy(&a, p, 8);
        std::memcpy(&b, p + 8, 8);
        h = fold(a ^ key[2] ^ h, b ^ key[3]);
    }
    a = b = 0;
    if (n >= 8) {
        std::memcpy(&a, p, 8);
        std::memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t low, high;
        std::memcpy(&low, p, 4);
        std::memcpy(&high, p + n - 4, 4);
        a = low;
        b = high;
    } else if (n) {
        a = p[0];
        b = uint64_t(p[n >> 1]) << 8 | p[n - 1];
    }
    h = fold(a ^ key[2] ^ h, b ^ key[3]);
    return fold(h ^ key[4], r.id_length ^ key[0]);
}

static bool is_utf8_slow(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        const uint8_t c = *p++;
        if (c < 0x80) continue;
        uint8_t low = 0x80, high = 0xBF;
        int more;
        if (c >= 0xC2 && c <= 0xDF) more = 1;
        else if (c >= 0xE0 && c <= 0xEF) more = 2, low = c == 0xE0 ? 0xA0 : 0x80, high = c == 0xED ? 0x9F : 0xBF;
        else if (c >= 0xF0 && c <= 0xF4) more = 3, low = c == 0xF0 ? 0x90 : 0x80, high = c == 0xF4 ? 0x8F : 0xBF;
        else return false;
        for (; more; more--, p++, low = 0x80, high = 0xBF)
            if (p == end || *p < low || *p > high) return false;
    }
    return true;
}

static inline bool is_text(const uint8_t *p, size_t n, size_t least) {
    if (n < least || n > 64) return false;
    uint64_t word, high = 0;
    size_t at = 0;
    for (; at + 8 <= n; at += 8) {
        std::memcpy(&word, p + at, 8);
        high |= word;
    }
    for (; at < n; at++) high |= p[at];
    return !(high & 0x8080808080808080ull) || is_utf8_slow(p, p + n);
}

static inline bool to_unit(int64_t &value, int exponent, int unit) {
    if (exponent == unit) return value != INT64_MIN;
    const int shift = exponent - unit;
    if (shift > 18 || shift < -18) return value == 0;
    if (shift < 0) {  // finer than the unit: only where nothing is cut off
        const int64_t power = int64_t(powers[-shift]);
        if (value % power) return false;
        value /= power;
        return true;
    }
    return !__builtin_mul_overflow(value, int64_t(powers[shift]), &value) && value != INT64_MIN;
}

// 8 bytes a trade: 28 bits of the fingerprint over 36 of seq + 1. Placed by the top bits, at most three quarters full.
struct Seen {
    std::vector<uint64_t> slots;
    uint64_t mask;
    int shift;
    static constexpr uint64_t code = (uint64_t(1) << 36) - 1;

    explicit Seen(size_t trades) {
        int bits = 12;
        while ((uint64_t(1) << bits) * 3 / 4 < trades) bits++;
        slots.resize(uint64_t(1) << bits);
        mask = slots.size() - 1;
        shift = 64 - bits;
    }
    uint64_t home(uint64_t fingerprint) const { return (fingerprint & ~code) >> shift; }
};

struct Names {
    std::unordered_map<std::string, uint32_t> ids;
    std::vector<std::string> texts{""};

    uint32_t intern(std::string_view text) {
        const auto [found, fresh] = ids.try_emplace(std::string(text), uint32_t(texts.size()));
        if (fresh) texts.emplace_back(text);
        return found->second;
    }
};

enum Verdict : uint8_t { verdict_new, verdict_duplicate, verdict_conflict };

struct Door {
    Journal journal;
    Seen seen;
    Names names[4];
    std::vector<uint32_t> global[4];       // of a publisher's id; no_name: not introduced yet
    std::vector<std::string> local[4];
    uint64_t duplicates = 0, conflicts = 0, refused = 0, next_seq = 1, taken = 0;
    int64_t horizon = INT64_MIN, latest = INT64_MIN;
    uint64_t late = 0;
    // Of the frame being built.
    Record *out = nullptr;
    uint64_t accepted = 0;
    std::vector<uint8_t> heap, definitions;

    struct Work {
        Record record;
        uint64_t fingerprint;
        bool good, unmapped;
    };
    static constexpr uint32_t chunk = 64;
    Work work[chunk];

    Door(size_t trades, size_t bytes) : journal(bytes), seen(trades) {
        for (auto &g : global) g.push_back(0);
        for (auto &l : local) l.emplace_back();
        journal.frames.reserve(trades / 64 + 64);
    }

    void learn(const View &view) {
        view.each_definition([&](const Definition &d, std::string_view text) {
            if (d.id >= global[d.kind].size()) {
                global[d.kind].resize(d.id + 1, no_name);
                local[d.kind].resize(d.id + 1);
            }
            local[d.kind][d.id] = text;
            const auto known = names[d.kind].ids.find(std::string(text));
            global[d.kind][d.id] = known == names[d.kind].ids.end() ? no_name : known->second;
        });
    }

    bool map(int kind, uint32_t &id, bool required, bool &unmapped) {
        if (id == 0) return !required;
        if (id >= global[kind].size()) return false;
        if (global[kind][id] == no_name) {
            if (local[kind][id].empty()) return false;
            unmapped = true;
        } else {
            id = global[kind][id];
        }
        return true;
    }

    void prepare(const View &view, const Record &from, Work &w) {
        Record &r = w.record = from;
        const uint8_t *id = view.heap + r.id_offset;
        w.unmapped = false;
        w.good = r.type == 1 && r.exec_type == 0 && (r.side == 1 || r.side == 2) && r.volume > 0 && is_text(id, r.id_length, 1) &&
                 is_text(view.heap + r.ref_offset, r.ref_length, 0) && map(0, r.symbol, true, w.unmapped) &&
                 map(1, r.account, true, w.unmapped) && map(2, r.venue, false, w.unmapped) && map(3, r.strategy, false, w.unmapped) &&
                 !r.flags && r.fee != INT64_MIN && r.executed_at != INT64_MIN && to_unit(r.price, r.price_exponent, price_unit) &&
                 to_unit(r.volume, r.volume_exponent, quantity_unit);
        r.price_exponent = price_unit;
        r.volume_exponent = quantity_unit;
        if (!w.good || w.unmapped) return;
        w.fingerprint = identity_of(r, id);
    }

    // One behind the other: page walks go on side by side.
    void fetch_slots(uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
            if (!work[i].good || work[i].unmapped) continue;
            __builtin_prefetch(&seen.slots[seen.home(work[i].fingerprint)], 1);
            __builtin_prefetch(&seen.slots[(seen.home(work[i].fingerprint) + 6) & seen.mask], 1);  // where longer look-ups end
            __asm__ volatile("");  // the compiler drops a loop that does nothing but fetch
        }
    }

    void introduce(Record &r, const Record &from) {
        uint32_t *fields[] = {&r.symbol, &r.account, &r.venue, &r.strategy};
        const uint32_t ids[] = {from.symbol, from.account, from.venue, from.strategy};
        for (int kind = 0; kind < 4; kind++) {
            uint32_t &known = global[kind][ids[kind]];
            if (known == no_name) {
                const std::string &text = local[kind][ids[kind]];
                known = names[kind].intern(text);
                const Definition d{uint8_t(kind), uint8_t(text.size()), 0, known};
                const auto *bytes = reinterpret_cast<const uint8_t *>(&d);
                definitions.insert(definitions.end(), bytes, bytes + sizeof(d));
                definitions.insert(definitions.end(), text.begin(), text.end());
                definitions.resize((definitions.size() + 3) & ~size_t(3));
            }
            *fields[kind] = known;
        }
    }

    const Record *fetch(uint64_t seq, const uint8_t **texts) {
        if (seq < next_seq) return journal.find(seq, texts);
        *texts = heap.data();
        return &out[seq - next_seq];
    }

    Verdict look_up(const Record &r, const uint8_t *id, uint64_t fingerprint, uint64_t &at) {
        for (at = seen.home(fingerprint); seen.slots[at]; at = (at + 1) & seen.mask) {
            if ((seen.slots[at] ^ fingerprint) & ~Seen::code) continue;
            const uint8_t *texts;
            const Record *s = fetch((seen.slots[at] & Seen::code) - 1, &texts);
            if (s->symbol == r.symbol && s->account == r.account && s->venue == r.venue && s->side == r.side && s->exec_type == r.exec_type &&
                s->id_length == r.id_length && !std::memcmp(texts + s->id_offset, id, r.id_length))
                return s->price == r.price && s->volume == r.volume ? verdict_duplicate : verdict_conflict;
        }
        return verdict_new;
    }

    void decide(const View &view, const Record &from, Work &w) {
        Record &r = w.record;
        if (!w.good) {
            refused++;
            return;
        }
        const uint8_t *id = view.heap + r.id_offset;
        if (w.unmapped) {
            introduce(r, from);
            w.fingerprint = identity_of(r, id);
        }
        uint64_t at;
        const Verdict verdict = look_up(r, id, w.fingerprint, at);
        if (verdict != verdict_new) {
            duplicates += verdict == verdict_duplicate;
            conflicts += verdict == verdict_conflict;
            return;
        }
        if (r.executed_at <= horizon) {
            refused++;
            return;
        }
        if (r.executed_at >= latest) latest = r.executed_at;
        else late++;
        const uint64_t seq = next_seq + accepted;
        seen.slots[at] = (w.fingerprint & ~Seen::code) | (seq + 1);
        Record &o = out[accepted++] = r;
        const size_t offset = heap.size(), size = size_t(r.id_length) + r.ref_length;
        o.id_offset = uint32_t(offset);
        o.ref_offset = r.ref_length ? uint32_t(offset + r.id_length) : 0;
        heap.resize(offset + size);
        std::memcpy(heap.data() + offset, id, r.id_length);
        std::memcpy(heap.data() + offset + r.id_length, view.heap + r.ref_offset, r.ref_length);
    }

    // The frame of what was accepted, in the journal; its size, 0 where nothing was.
    size_t take(const uint8_t *data, size_t size, uint8_t **made) {
        View view;
        if (!view.open(data, size, 0)) {
            refused++;
            return 0;
        }
        learn(view);
        uint8_t *place = journal.base + journal.used;
        out = reinterpret_cast<Record *>(place + sizeof(Header));
        accepted = 0;
        heap.clear();
        definitions.clear();
        const uint32_t count = view.header->record_count;
        for (uint32_t start = 0; start < count; start += chunk) {
            const uint32_t n = std::min(chunk, count - start);
            for (uint32_t i = 0; i < n; i++) prepare(view, view.records[start + i], work[i]);
            fetch_slots(n);
            for (uint32_t i = 0; i < n; i++) decide(view, view.records[start + i], work[i]);
        }
        taken = view.header->first_seq + count - 1;
        return accepted ? seal(*made = place) : 0;
    }

    size_t seal(uint8_t *place) {
        size_t size = sizeof(Header) + accepted * sizeof(Record);
        if (!definitions.empty()) std::memcpy(place + size, definitions.data(), definitions.size());
        size += definitions.size();
        std::memcpy(place + size, heap.data(), heap.size());
        size += heap.size();
        timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        Header header{};
        header.magic = magic_of_frames;
        header.version = header.kind = 1;
        header.record_count = uint32_t(accepted);
        header.definition_bytes = uint32_t(definitions.size());
        header.first_seq = next_seq;
        header.epoch = 1;
        header.heap_bytes = uint32_t(heap.size());
        header.stamped_at = int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
        std::memcpy(place, &header, sizeof(header));
        const uint32_t crc = crc_of(place, size);
        std::memcpy(place + crc_offset, &crc, 4);
        journal.frames.push_back({next_seq, place});
        journal.used += (size + 7) & ~size_t(7);
        next_seq += accepted;
        return size;
    }
};

// --- the core ----------------------------------------------------------------------------------------------------------------

struct alignas(64) Position {
    i128 cost, realized;
    i128 fees;
    int64_t quantity;
    uint32_t account, symbol;
    uint32_t trades, last_seq;
    uint32_t holder;  // where it is among its symbol's
    uint8_t position_level;
};
static_assert(sizeof(Position) == 128);

struct Holder {  // what judging a symbol's holders at a new mark reads, back to back
    int64_t quantity;
    uint32_t position;
    uint32_t level;
};

struct Symbol {
    std::vector<Holder> holders;
    int64_t mark = 0, clock = 0;
    bool clocked = false;
};

struct Window {
    std::vector<int64_t> ring;
    size_t head = 0, size = 0;
    int64_t latest = INT64_MIN;
    uint8_t level = 0;
};

struct Alert {
    uint64_t seq;
    u128 value;
    int64_t executed_at;
    uint32_t account, symbol;
    uint8_t limit, severity;
};

struct Core {
    Names names[4];
    std::vector<uint64_t> slots;  // high half: of the hash; low half: the position
    uint64_t slot_mask, used = 0;
    std::vector<Position> positions;
    std::vector<Symbol> symbols;
    std::vector<Window> windows;
    std::vector<uint32_t> previous;  // by seq: the trade before it in the same position
    std::vector<Alert> alerts;
    uint64_t refused = 0, seq = 0;
    u128 most[3], warned[3];
    int64_t window_ns;

    static constexpr uint32_t block = 8, ring = 64, steps = 4;
    uint64_t hashes[ring];
    uint32_t likely[ring];

    Core(size_t trades, const u128 *thresholds, int64_t window) : window_ns(window) {
        slots.resize(1024);
        slot_mask = slots.size() - 1;
        positions.resize(1);
        previous.reserve(trades + 1);
        previous.push_back(0);
        for (int i = 0; i < 3; i++) {
            most[i] = thresholds[i];
            warned[i] = (thresholds[i] * 4 + 4) / 5;  // the least value that is at or above 0.8 of it
        }
    }

    static uint64_t hash_of(const Record &r) {
        return fold((uint64_t(r.account) << 32 | r.symbol) ^ 0x9E3779B97F4A7C15ull, 0xD6E8FEB86659FD93ull);
    }

    uint32_t guess(uint64_t hash) const {
        uint64_t at = hash & slot_mask;
        const uint64_t first = slots[at], second = slots[(at + 1) & slot_mask];
        const uint64_t other = 0 - uint64_t(!((second ^ hash) >> 32));
        uint64_t slot = (second & other) | (first & ~other);
        while (slot && (slot ^ hash) >> 32) slot = slots[at = (at + 1) & slot_mask];
        return uint32_t(slot);
    }

    uint32_t find(const Record &r, uint64_t hash) {
        uint64_t at = hash & slot_mask;
        for (; slots[at]; at = (at + 1) & slot_mask) {
            if ((slots[at] ^ hash) >> 32) continue;
            const Position &p = positions[uint32_t(slots[at])];
            if (p.account == r.account && p.symbol == r.symbol) return uint32_t(slots[at]);
        }
        const auto index = uint32_t(positions.size());
        slots[at] = (hash >> 32 << 32) | index;
        positions.emplace_back();
        positions.back().account = r.account;
        positions.back().symbol = r.symbol;
        positions.back().holder = uint32_t(symbols[r.symbol].holders.size());
        symbols[r.symbol].holders.push_back({0, index, 0});
        if (++used * 2 > slots.size()) grow_slots();
        return index;
    }

    void grow_slots() {
        slots.assign(slots.size() * 2, 0);
        slot_mask = slots.size() - 1;
        for (uint32_t i = 1; i < positions.size(); i++) {
            Record r{};
            r.account = positions[i].account;
            r.symbol = positions[i].symbol;
            const uint64_t hash = hash_of(r);
            uint64_t at = hash & slot_mask;
            while (slots[at]) at = (at + 1) & slot_mask;
            slots[at] = (hash >> 32 << 32) | i;
        }
    }

    // Divide by a position's quantity: in 64 bits where that is exact.
    static u128 divide(u128 n, uint64_t d, uint64_t &rest) {
        if (!(n >> 64)) {
            rest = uint64_t(n) % d;
            return uint64_t(n) / d;
        }
#if defined(__x86_64__)
        if (uint64_t(n >> 64) < d) {  // the quotient fits a word: one instruction
            uint64_t quotient;
            asm("divq %4" : "=a"(quotient), "=d"(rest) : "0"(uint64_t(n)), "1"(uint64_t(n >> 64)), "r"(d) : "cc");
            return quotient;
        }
#endif
        rest = uint64_t(n % d);
        return n / d;
    }

    // quantity is signed, against the position's, and not beyond it. False: does not fit.
    static bool reduce(Position &p, int64_t price, int64_t quantity) {
        const uint64_t held = size_of(p.quantity), closed = size_of(quantity);
        i128 removed = p.cost;
        if (closed != held) {
            uint64_t rest, last;
            const u128 each = divide(size_of(p.cost), held, rest);
            u128 sum = each * closed + divide(u128(rest) * closed, held, last);
            const u128 twice = u128(last) * 2;
            sum += u128((twice > held) | ((twice == held) & bool(sum & 1)));
            removed = negate_if(p.cost < 0, i128(sum));
        }
        i128 gain;
        if (__builtin_sub_overflow(-i128(price) * quantity, removed, &gain) || __builtin_add_overflow(p.realized, gain, &p.realized))
            return false;
        p.cost -= removed;
        p.quantity += quantity;
        return true;
    }

    static bool fill(Position &p, int64_t price, int64_t quantity) {
        int64_t after;
        if (__builtin_add_overflow(p.quantity, quantity, &after) || after == INT64_MIN) return false;
        if (p.quantity != 0 && (p.quantity > 0) != (quantity > 0)) {
            const int64_t closed = size_of(quantity) > size_of(p.quantity) ? -p.quantity : quantity;
            if (!reduce(p, price, closed)) return false;
            quantity -= closed;
            if (quantity == 0) return true;
        }
        p.quantity = after;
        return !__builtin_add_overflow(p.cost, i128(price) * quantity, &p.cost);
    }

    template <class Level> void judge(int limit, Level &level, u128 value, uint32_t account, uint32_t symbol, int64_t at) {
        const uint8_t now = value > most[limit] ? 2 : value >= warned[limit] ? 1 : 0;
        if (now == level) [[likely]]
            return;
        level = now;
        alerts.push_back({seq, value, at, account, symbol, uint8_t(limit), now});
    }

    // Judge every holder of a symbol at its new mark: two divisions say which quantities are over, the rest compares.
    void revalue(Symbol &s, uint32_t symbol, int64_t at) {
        const uint64_t mark = size_of(s.mark);
        const auto least = [&](u128 value) { return mark ? value / mark : ~u128(0); };
        const u128 over = mark ? least(most[1]) + 1 : least(0), near = mark ? (warned[1] + mark - 1) / mark : least(0);
        const uint64_t breach = over >> 64 ? UINT64_MAX : uint64_t(over), warn = near >> 64 ? UINT64_MAX : uint64_t(near);
        for (Holder &h : s.holders) {
            const uint64_t held = size_of(h.quantity);
            if (uint32_t(held >= breach) + uint32_t(held >= warn) != h.level)
                judge(1, h.level, u128(held) * mark, positions[h.position].account, symbol, at);
        }
    }

    // What has left the window is dropped when its room is full or it comes near the limit; until then there may be too much.
    uint64_t count(Window &w, int64_t at) {
        if (at >= w.latest && w.size < w.ring.size()) [[likely]] {
            w.latest = at;
            w.ring[(w.head + w.size++) & (w.ring.size() - 1)] = at;
            if (w.size < warned[2] && !w.level) [[likely]] return w.size;
            settle(w);
            return w.size;
        }
        if (at > w.latest) w.latest = at;
        settle(w);
        if (at <= w.latest - window_ns) return w.size;
        if (w.size >= w.ring.size() / 4 * 3) grow(w);
        size_t i = w.size++;
        const size_t wide = w.ring.size() - 1;
        for (; i && w.ring[(w.head + i - 1) & wide] > at; i--) w.ring[(w.head + i) & wide] = w.ring[(w.head + i - 1) & wide];
        w.ring[(w.head + i) & wide] = at;
        return w.size;
    }

    void settle(Window &w) const {
        const size_t mask = w.ring.size() - 1;
        while (w.size && w.ring[w.head] <= w.latest - window_ns) {
            w.head = (w.head + 1) & mask;
            w.size--;
        }
    }

    static void grow(Window &w) {
        std::vector<int64_t> larger(std::max<size_t>(8, w.ring.size() * 2));
        for (size_t i = 0; i < w.size; i++) larger[i] = w.ring[(w.head + i) & (w.ring.size() - 1)];
        w.ring.swap(larger);
        w.head = 0;
    }

    void apply(const Record &r, uint64_t hash, uint32_t guessed) {
        uint32_t index = guessed;
        if (!index || positions[index].account != r.account || positions[index].symbol != r.symbol) index = find(r, hash);
        Position &p = positions[index];
        const i128 cost = p.cost, realized = p.realized;
        const int64_t quantity = p.quantity;
        if (!fill(p, r.price, negate_if(r.side != 1, r.volume))) {
            p.cost = cost;
            p.realized = realized;
            p.quantity = quantity;
            previous.push_back(0);
            refused++;
            return;
        }
        previous.push_back(p.last_seq);
        p.last_seq = uint32_t(seq);
        p.fees += r.fee;
        p.trades++;
        Symbol &s = symbols[r.symbol];
        Holder &h = s.holders[p.holder];
        s.mark = r.price;
        h.quantity = p.quantity;
        judge(0, p.position_level, size_of(p.quantity), r.account, r.symbol, r.executed_at);
        judge(1, h.level, u128(size_of(p.quantity)) * size_of(r.price), r.account, r.symbol, r.executed_at);
        Window &w = windows[r.account];
        judge(2, w.level, count(w, r.executed_at), r.account, 0, r.executed_at);
        if (!s.clocked) {
            s.clocked = true;
            s.clock = r.executed_at;
        } else if (r.executed_at - s.clock >= revalue_every_ns) {
            s.clock = r.executed_at;
            revalue(s, r.symbol, r.executed_at);
        }
    }

    bool frame(const uint8_t *data, size_t size) {
        View view;
        if (!view.open(data, size, 1) || view.header->first_seq != seq + 1) return false;
        view.each_definition([&](const Definition &d, std::string_view text) { names[d.kind].intern(text); });
        symbols.resize(names[0].texts.size());
        windows.resize(names[1].texts.size());
        const Record *records = view.records;
        const uint32_t n = view.header->record_count, blocks = (n + block - 1) / block;
        const auto each = [&](uint32_t b, auto act) {
            for (uint32_t i = b * block, end = std::min(i + block, n); i < end; i++) act(i);
        };
        for (uint32_t b = 0; b < blocks + steps; b++) {
            each(b, [&](uint32_t i) {
                hashes[i % ring] = hash_of(records[i]);
                __builtin_prefetch(&slots[hashes[i % ring] & slot_mask]);
                __builtin_prefetch(&slots[(hashes[i % ring] + 1) & slot_mask]);
            });
            if (b >= 1) each(b - 1, [&](uint32_t i) {
                likely[i % ring] = guess(hashes[i % ring]);
                const auto *p = reinterpret_cast<const char *>(&positions[likely[i % ring]]);
                __builtin_prefetch(p, 1);
                __builtin_prefetch(p + 64, 1);
            });
            if (b >= 2) each(b - 2, [&](uint32_t i) {
                if (records[i].account >= windows.size()) return;
                const Window &w = windows[records[i].account];
                if (w.size) __builtin_prefetch(&w.ring[(w.head + w.size) & (w.ring.size() - 1)], 1);
            });
            if (b >= 3) each(b - 3, [&](uint32_t i) {
                const Position &p = positions[likely[i % ring]];
                if (likely[i % ring]) __builtin_prefetch(&symbols[p.symbol].holders[p.holder], 1);
            });
            if (b < steps) continue;
            for (uint32_t i = (b - steps) * block, end = std::min(i + block, n); i < end; i++) {
                const Record &r = records[i];
                if (r.type != 1 || r.symbol >= symbols.size() || r.account >= windows.size() || r.venue >= names[2].texts.size() ||
                    r.strategy >= names[3].texts.size())
                    return false;
                seq++;
                apply(r, hashes[i % ring], likely[i % ring]);
            }
        }
        return true;
    }
};

// --- the program -------------------------------------------------------------------------------------------------------------

static std::string decimal(i128 value, int exponent) {  // exponent <= 0; without trailing zeros
    std::string digits;
    for (u128 v = size_of(value); v; v /= 10) digits.push_back(char('0' + int(v % 10)));
    while (int(digits.size()) <= -exponent) digits.push_back('0');
    std::reverse(digits.begin(), digits.end());
    std::string text = digits.substr(0, digits.size() + exponent), fraction = digits.substr(digits.size() + exponent);
    while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
    if (!fraction.empty()) text += "." + fraction;
    return value < 0 ? "-" + text : text;
}

static bool write_positions(const Core &core, const char *path) {
    std::FILE *out = std::fopen(path, "w");
    if (!out) return false;
    std::vector<const Position *> order;
    for (size_t i = 1; i < core.positions.size(); i++) order.push_back(&core.positions[i]);
    const auto &accounts = core.names[1].texts, &symbols = core.names[0].texts;
    std::sort(order.begin(), order.end(), [&](const Position *a, const Position *b) {
        const int accounts_differ = accounts[a->account].compare(accounts[b->account]);
        return accounts_differ ? accounts_differ < 0 : symbols[a->symbol] < symbols[b->symbol];
    });
    for (const Position *p : order) {
        const int64_t mark = core.symbols[p->symbol].mark;
        const int money = price_unit + quantity_unit;
        std::fprintf(out, "%s,%s,%s,%s,%s,%s,%s,%u\n", accounts[p->account].c_str(), symbols[p->symbol].c_str(),
                     decimal(p->quantity, quantity_unit).c_str(), decimal(p->realized, money).c_str(),
                     decimal(i128(p->quantity) * mark - p->cost, money).c_str(), decimal(p->fees, price_unit).c_str(),
                     decimal(mark, price_unit).c_str(), p->trades);
    }
    return std::fclose(out) == 0;
}

static double cpu_ns() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) * 1e9 + double(t.tv_nsec);
}

static u128 number(const char *text) {
    u128 value = 0;
    for (; *text; text++) value = value * 10 + unsigned(*text - '0');
    return value;
}

int main(int argc, char **argv) {
    if (argc < 7) {
        std::fprintf(stderr, "usage: reference FRAMES WARM_FRAMES MAX_POSITION MAX_NOTIONAL MAX_RATE WINDOW_NS [POSITIONS.csv | -] [ready]\n");
        return 2;
    }
    std::FILE *file = std::fopen(argv[1], "rb");
    if (!file) {
        std::perror(argv[1]);
        return 2;
    }
    std::vector<std::pair<std::vector<uint64_t>, size_t>> frames;
    size_t trades = 0, bytes = 0;
    for (uint64_t size; std::fread(&size, 8, 1, file) == 1;) {
        frames.emplace_back(std::vector<uint64_t>((size + 7) / 8), size);
        if (std::fread(frames.back().first.data(), 1, size, file) != size) return 2;
        trades += reinterpret_cast<const Header *>(frames.back().first.data())->record_count;
        bytes += size + 128;
    }
    std::fclose(file);
    rw_crc32c_setup();
    const u128 thresholds[] = {number(argv[3]), number(argv[4]), number(argv[5])};
    Door door(trades, bytes);
    Core core(trades, thresholds, std::atoll(argv[6]));
    const size_t warm = size_t(std::atoll(argv[2]));
    if (argc > 8) {  // memory for all trades, made beforehand
        for (size_t at = 0; at < bytes; at += 4096) door.journal.base[at] = 0;
        core.previous.resize(trades + 1);
        core.previous.resize(1);
    }
    double door_ns = 0, core_ns = 0;
    size_t timed = 0;
    for (size_t i = 0; i < frames.size(); i++) {
        const auto *data = reinterpret_cast<const uint8_t *>(frames[i].first.data());
        uint8_t *made = nullptr;
        const double start = cpu_ns();
        const size_t size = door.take(data, frames[i].second, &made);
        const double between = cpu_ns();
        if (size && !core.frame(made, size)) {
            std::fprintf(stderr, "reference: its own frame %zu is not good\n", i);
            return 1;
        }
        const double end = cpu_ns();
        if (i < warm) continue;
        door_ns += between - start;
        core_ns += end - between;
        timed += reinterpret_cast<const Header *>(data)->record_count;
    }
    const auto each = double(timed ? timed : 1);
    std::printf("{\"trades\": %zu, \"timed\": %zu, \"door_ns\": %.2f, \"core_ns\": %.2f, \"accepted\": %llu, \"duplicates\": %llu, "
                "\"refused\": %llu, \"positions\": %zu, \"alerts\": %zu}\n",
                trades, timed, door_ns / each, core_ns / each, (unsigned long long)core.seq, (unsigned long long)door.duplicates,
                (unsigned long long)(door.refused + door.conflicts + core.refused), core.positions.size() - 1, core.alerts.size());
    return argc > 7 && std::string_view(argv[7]) != "-" && !write_positions(core, argv[7]) ? 2 : 0;
}
