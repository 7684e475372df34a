// The core's job in plain C++20: what it costs when nothing stands between the compiler and the machine.
//
// Reads unsequenced frames (docs/wire-format.md) from a file, each behind its size as a little-endian uint64, and for every
// trade checks its fields, rescales price and volume to the default units, refuses duplicates by full identity against the
// stored record, keeps position, average cost, realized P&L and fees in 128-bit integers, and judges three limits:
// max_position and max_notional per account and symbol, trade_rate per account over one second. Two passes over a frame:
// hash and prefetch, then apply. Prints one JSON object; writes the final positions as CSV where a path is given.
//
//   c++ -std=c++20 -O3 -o reference bench/reference.cpp
//   ./reference frames.bin MAX_POSITION MAX_NOTIONAL MAX_RATE [positions.csv]       (thresholds in quantity units, raw, trades)

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

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

static const uint64_t powers[] = {1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull,
                                  1000000000ull, 10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull,
                                  100000000000000ull, 1000000000000000ull, 10000000000000000ull, 100000000000000000ull,
                                  1000000000000000000ull};

static bool to_unit(int64_t &value, int exponent, int unit) {
    const int shift = exponent - unit;
    if (shift < 0 || shift > 18) return value == 0;
    int64_t out;
    if (__builtin_mul_overflow(value, int64_t(powers[shift]), &out)) return false;
    value = out;
    return true;
}

static uint64_t mix(uint64_t h) {
    h *= 0xBF58476D1CE4E5B9ull;
    h ^= h >> 32;
    h *= 0x94D049BB133111EBull;
    return h ^ (h >> 29);
}

static uint64_t identity_hash(const Record &r, const uint8_t *id) {
    uint64_t h = mix((uint64_t(r.symbol) << 32 | r.account) ^ 0x9E3779B97F4A7C15ull);
    h = mix(h ^ (uint64_t(r.venue) << 16 | uint64_t(r.side) << 8 | r.exec_type));
    size_t n = r.id_length;
    uint64_t word;
    for (; n >= 8; n -= 8, id += 8) {
        std::memcpy(&word, id, 8);
        h = mix(h ^ word);
    }
    word = 0;
    std::memcpy(&word, id, n);
    return mix(h ^ word ^ r.id_length) | 1;
}

struct Stored {  // what a duplicate is compared with
    Record record;
    const uint8_t *id;
};
struct Seen {
    uint64_t fingerprint, seq;
};
struct Position {
    i128 cost, realized, fees;
    int64_t quantity;
    uint32_t account, symbol;
    uint32_t trades;
    uint8_t position_level, notional_level;
};
struct Window {
    std::vector<int64_t> ring;
    size_t head = 0, size = 0;
    int64_t latest = INT64_MIN;
    uint8_t level = 0;
};

struct Core {
    std::vector<Seen> seen;
    uint64_t seen_mask;
    std::vector<Stored> journal;
    std::vector<uint32_t> slots;  // of positions, by (account, symbol)
    uint64_t slot_mask;
    std::vector<Position> positions;
    std::vector<int64_t> marks;
    std::vector<Window> windows;
    uint64_t duplicates = 0, conflicts = 0, refused = 0, alerts = 0;
    int64_t max_position;
    u128 max_notional;
    uint64_t max_rate;

    Core(size_t trades, size_t keys) {
        seen_mask = 1;
        while (seen_mask < trades * 2) seen_mask *= 2;
        seen.resize(seen_mask--);
        slot_mask = 1;
        while (slot_mask < keys * 4) slot_mask *= 2;
        slots.resize(slot_mask--);
        journal.reserve(trades);
        positions.reserve(keys + 1);
        positions.push_back({});
    }

    static uint64_t key_hash(uint32_t account, uint32_t symbol) { return mix(uint64_t(account) << 32 | symbol); }

    uint32_t *find_slot(uint32_t account, uint32_t symbol, uint64_t hash) {
        uint64_t at = hash & slot_mask;
        while (slots[at] && (positions[slots[at]].account != account || positions[slots[at]].symbol != symbol))
            at = (at + 1) & slot_mask;
        return &slots[at];
    }

    // 0: new; 1: duplicate; 2: conflicting
    int remember(const Record &r, const uint8_t *id, uint64_t fingerprint) {
        uint64_t at = fingerprint & seen_mask;
        for (; seen[at].fingerprint; at = (at + 1) & seen_mask) {
            if (seen[at].fingerprint != fingerprint) continue;
            const Stored &s = journal[seen[at].seq];
            if (s.record.symbol != r.symbol || s.record.account != r.account || s.record.venue != r.venue ||
                s.record.side != r.side || s.record.exec_type != r.exec_type || s.record.id_length != r.id_length ||
                std::memcmp(s.id, id, r.id_length))
                continue;
            return s.record.price == r.price && s.record.volume == r.volume ? 1 : 2;
        }
        seen[at] = {fingerprint, journal.size()};
        journal.push_back({r, id});
        return 0;
    }

    static void reduce(Position &p, int64_t price, int64_t quantity) {  // quantity: signed, against the position, not beyond it
        const uint64_t q = p.quantity < 0 ? -uint64_t(p.quantity) : uint64_t(p.quantity);
        const uint64_t c = quantity < 0 ? -uint64_t(quantity) : uint64_t(quantity);
        const u128 cost = p.cost < 0 ? -u128(p.cost) : u128(p.cost);
        u128 a, r;
        if (cost >> 64) {
            a = cost / q;
            r = cost % q;
        } else {
            a = uint64_t(cost) / q;
            r = uint64_t(cost) % q;
        }
        const u128 part = r * c;
        u128 removed = a * c, rest;
        if (part >> 64) {
            removed += part / q;
            rest = part % q;
        } else {
            removed += uint64_t(part) / q;
            rest = uint64_t(part) % q;
        }
        if (rest * 2 > q || (rest * 2 == q && (removed & 1))) removed += 1;
        const i128 signed_removed = p.cost < 0 ? -i128(removed) : i128(removed);
        p.realized += -i128(price) * quantity - signed_removed;
        p.cost -= signed_removed;
        p.quantity += quantity;
    }

    static bool fill(Position &p, int64_t price, int64_t quantity) {
        int64_t after;
        if (__builtin_add_overflow(p.quantity, quantity, &after)) return false;
        const bool opens = p.quantity == 0 || (p.quantity > 0) == (quantity > 0);
        if (!opens) {
            const int64_t closed = (quantity > 0) == (after > 0) && after != 0 ? -p.quantity : quantity;
            reduce(p, price, closed);
            quantity -= closed;
        }
        p.cost += i128(price) * quantity;
        p.quantity = after;
        return true;
    }

    static uint8_t level_of(u128 value, u128 threshold) { return value > threshold ? 2 : value * 5 >= threshold * 4 ? 1 : 0; }

    void judge(uint8_t &level, u128 value, u128 threshold) {
        const uint8_t now = level_of(value, threshold);
        alerts += now != level;
        level = now;
    }

    uint64_t rate(Window &w, int64_t at) {
        constexpr int64_t span = 1000000000;
        if (at > w.latest) w.latest = at;
        while (w.size && w.ring[w.head] <= w.latest - span) {
            w.head = (w.head + 1) & (w.ring.size() - 1);
            w.size--;
        }
        if (at <= w.latest - span) return w.size;
        if (w.size == w.ring.size()) grow(w);
        size_t i = w.size++;
        const size_t mask = w.ring.size() - 1;
        for (; i && w.ring[(w.head + i - 1) & mask] > at; i--) w.ring[(w.head + i) & mask] = w.ring[(w.head + i - 1) & mask];
        w.ring[(w.head + i) & mask] = at;
        return w.size;
    }

    static void grow(Window &w) {
        std::vector<int64_t> larger(std::max<size_t>(8, w.ring.size() * 2));
        for (size_t i = 0; i < w.size; i++) larger[i] = w.ring[(w.head + i) & (w.ring.size() - 1)];
        w.ring.swap(larger);
        w.head = 0;
    }

    void apply(const Record &r, const uint8_t *id, uint64_t fingerprint, uint64_t hash) {
        const int seen_before = remember(r, id, fingerprint);
        if (seen_before) {
            duplicates += seen_before == 1;
            conflicts += seen_before == 2;
            return;
        }
        uint32_t *slot = find_slot(r.account, r.symbol, hash);
        if (!*slot) {
            *slot = uint32_t(positions.size());
            positions.push_back({});
            positions.back().account = r.account;
            positions.back().symbol = r.symbol;
        }
        Position &p = positions[*slot];
        if (!fill(p, r.price, r.side == 1 ? r.volume : -r.volume)) {
            refused++;
            return;
        }
        p.fees += r.fee;
        p.trades++;
        if (r.symbol >= marks.size()) marks.resize(r.symbol + 1);
        marks[r.symbol] = r.price;
        const uint64_t size = p.quantity < 0 ? -uint64_t(p.quantity) : uint64_t(p.quantity);
        const uint64_t mark = r.price < 0 ? -uint64_t(r.price) : uint64_t(r.price);
        judge(p.position_level, size, u128(max_position));
        judge(p.notional_level, u128(size) * mark, max_notional);
        if (r.account >= windows.size()) windows.resize(r.account + 1);
        Window &w = windows[r.account];
        judge(w.level, rate(w, r.executed_at), max_rate);
    }

    void frame(const uint8_t *data) {
        const Header &h = *reinterpret_cast<const Header *>(data);
        const Record *records = reinterpret_cast<const Record *>(data + sizeof(Header));
        const uint8_t *heap = data + sizeof(Header) + size_t(h.record_count) * sizeof(Record) + h.definition_bytes;
        constexpr uint32_t chunk = 64;
        Record work[chunk];
        uint64_t fingerprints[chunk], hashes[chunk];
        for (uint32_t start = 0; start < h.record_count; start += chunk) {
            const uint32_t n = std::min(chunk, h.record_count - start);
            for (uint32_t i = 0; i < n; i++) {
                Record &r = work[i] = records[start + i];
                fingerprints[i] = 0;
                if (r.type != 1 || r.exec_type > 2 || r.side < 1 || r.side > 2 || r.volume <= 0 || r.symbol == 0 || r.account == 0 ||
                    r.id_length == 0 || r.id_length > 64 || r.flags || !to_unit(r.price, r.price_exponent, -9) ||
                    !to_unit(r.volume, r.volume_exponent, -8))
                    continue;
                fingerprints[i] = identity_hash(r, heap + r.id_offset);
                hashes[i] = key_hash(r.account, r.symbol);
                __builtin_prefetch(&seen[fingerprints[i] & seen_mask], 1);
                __builtin_prefetch(&slots[hashes[i] & slot_mask]);
            }
            for (uint32_t i = 0; i < n; i++)
                if (fingerprints[i]) {
                    const uint32_t *slot = find_slot(work[i].account, work[i].symbol, hashes[i]);
                    __builtin_prefetch(&positions[*slot], 1);
                    __builtin_prefetch(reinterpret_cast<const char *>(&positions[*slot]) + 64, 1);
                }
            for (uint32_t i = 0; i < n; i++) {
                if (fingerprints[i])
                    apply(work[i], heap + work[i].id_offset, fingerprints[i], hashes[i]);
                else
                    refused++;
            }
        }
    }
};

static std::string decimal(i128 value) {
    if (value == 0) return "0";
    std::string text;
    u128 v = value < 0 ? -u128(value) : u128(value);
    for (; v; v /= 10) text.push_back(char('0' + int(v % 10)));
    if (value < 0) text.push_back('-');
    std::reverse(text.begin(), text.end());
    return text;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        std::fprintf(stderr, "usage: reference FRAMES MAX_POSITION MAX_NOTIONAL MAX_RATE [POSITIONS.csv]\n");
        return 2;
    }
    std::FILE *file = std::fopen(argv[1], "rb");
    if (!file) {
        std::perror(argv[1]);
        return 2;
    }
    std::vector<std::vector<uint64_t>> frames;
    size_t trades = 0;
    for (uint64_t size; std::fread(&size, 8, 1, file) == 1;) {
        frames.emplace_back((size + 7) / 8);
        if (std::fread(frames.back().data(), 1, size, file) != size) return 2;
        trades += reinterpret_cast<const Header *>(frames.back().data())->record_count;
    }
    std::fclose(file);
    Core core(trades, 1000000);
    core.max_position = std::atoll(argv[2]);
    core.max_notional = 0;
    for (const char *c = argv[3]; *c; c++) core.max_notional = core.max_notional * 10 + unsigned(*c - '0');
    core.max_rate = uint64_t(std::atoll(argv[4]));
    const auto start = std::chrono::steady_clock::now();
    for (const auto &frame : frames) core.frame(reinterpret_cast<const uint8_t *>(frame.data()));
    const double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"trades\": %zu, \"ns_per_trade\": %.2f, \"accepted\": %zu, \"duplicates\": %llu, \"conflicts\": %llu, "
                "\"refused\": %llu, \"positions\": %zu, \"alerts\": %llu}\n",
                trades, ns / double(trades), core.journal.size(), (unsigned long long)core.duplicates,
                (unsigned long long)core.conflicts, (unsigned long long)core.refused, core.positions.size() - 1,
                (unsigned long long)core.alerts);
    if (argc > 5) {
        std::FILE *out = std::fopen(argv[5], "w");
        if (!out) return 2;
        for (size_t i = 1; i < core.positions.size(); i++) {
            const Position &p = core.positions[i];
            std::fprintf(out, "%u,%u,%lld,%s,%s,%s,%u\n", p.account, p.symbol, (long long)p.quantity, decimal(p.cost).c_str(),
                         decimal(p.realized).c_str(), decimal(p.fees).c_str(), p.trades);
        }
        std::fclose(out);
    }
    return 0;
}
