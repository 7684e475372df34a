/* libzmq and nothing else: the same bytes through the same hops, and the load generator for both sides.
 *
 *   rawzmq LIBZMQ source PUBLISH FRAMES                    publish a file of frames as fast as acks allow
 *   rawzmq LIBZMQ probe PUBLISH ALERTS RATE TRADES         publish on schedule, planned times inside; time acks and alerts
 *   rawzmq LIBZMQ hop PUBLISH EVENTS CREDIT                what a broker does for libzmq: ROUTER in, PUB out, acks back
 *   rawzmq LIBZMQ relay EVENTS ALERTS                      what a consumer does for libzmq: SUB in, PUB out
 *   rawzmq LIBZMQ sink EVENTS RECORDS                      SUB in, counted
 *
 * source and probe speak the publishers' protocol (docs/wire-format.md), so they also drive riskwire: what differs between
 * the two measurements is what stands in the middle. LIBZMQ is the library file that pyzmq brought along.
 *
 * The probe is open loop: each trade has a planned time, which is what its record says and what latency is taken from,
 * however late it was sent; trades that are due together go in one frame (at most 64). Latencies of each trade are counted in
 * a histogram of HdrHistogram's layout (3 digits), from the planned time to the ack (publisher), to the stamp that the consumer
 * gave the alerts when it had applied the trade (position), and to the arrival of the alert. All processes read one machine's
 * clock. Everything is printed as one JSON object; times are ns.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "crc32c.h"

/* --- libzmq, by hand ------------------------------------------------------------------------------------------------------ */

typedef struct { unsigned char _[64]; } __attribute__((aligned(8))) msg_t;
typedef struct { void *socket; int fd; short events, revents; } item_t;
enum { PUB = 1, SUB = 2, DEALER = 5, ROUTER = 6, DONTWAIT = 1, SNDMORE = 2, POLLIN_ = 1, OPT_FD = 14, OPT_EVENTS = 15,
       OPT_SUBSCRIBE = 6, OPT_LINGER = 17, OPT_SNDHWM = 23, OPT_RCVHWM = 24 };

static struct {
    void *(*ctx_new)(void), *(*socket)(void *, int), *(*msg_data)(msg_t *);
    int (*bind)(void *, const char *), (*connect)(void *, const char *), (*setsockopt)(void *, int, const void *, size_t);
    int (*getsockopt)(void *, int, void *, size_t *), (*send)(void *, const void *, size_t, int);
    int (*msg_init)(msg_t *), (*msg_send)(msg_t *, void *, int), (*msg_recv)(msg_t *, void *, int), (*msg_close)(msg_t *);
    int (*msg_more)(const msg_t *), (*poll)(item_t *, int, long), (*close)(void *), (*ctx_term)(void *);
    size_t (*msg_size)(const msg_t *);
} z;

static void die(const char *what) {
    fprintf(stderr, "rawzmq: %s (%s)\n", what, strerror(errno));
    exit(1);
}

static void bind_library(const char *path) {
    void *lib = dlopen(path, RTLD_NOW);
    if (!lib) die(dlerror());
#define FIND(name) if (!(*(void **)&z.name = dlsym(lib, "zmq_" #name))) die("libzmq has no zmq_" #name)
    FIND(ctx_new); FIND(socket); FIND(msg_data); FIND(bind); FIND(connect); FIND(setsockopt); FIND(getsockopt); FIND(send);
    FIND(msg_init); FIND(msg_send); FIND(msg_recv); FIND(msg_close); FIND(msg_more); FIND(poll); FIND(close); FIND(ctx_term);
    FIND(msg_size);
#undef FIND
}

static void *context;

static void *open_socket(int type, const char *bind_to, const char *connect_to) {
    const int none = 0;
    void *s = z.socket(context, type);
    z.setsockopt(s, OPT_LINGER, &none, sizeof(none));
    z.setsockopt(s, OPT_SNDHWM, &none, sizeof(none));
    z.setsockopt(s, OPT_RCVHWM, &none, sizeof(none));
    if (type == SUB) z.setsockopt(s, OPT_SUBSCRIBE, "", 0);
    if (bind_to && z.bind(s, bind_to)) die(bind_to);
    if (connect_to && z.connect(s, connect_to)) die(connect_to);
    return s;
}

/* --- frames and control messages ------------------------------------------------------------------------------------------- */

#pragma pack(push, 1)
typedef struct {
    uint32_t magic;
    uint8_t version, kind;
    uint16_t flags;
    uint32_t record_count, definition_bytes;
    uint64_t first_seq, epoch;
    uint32_t heap_bytes, origin_bytes, crc32c, reserved;
    int64_t stamped_at;
    uint64_t reserved2;
} header_t;
typedef struct {
    uint8_t type, exec_type, side, flags;
    uint32_t symbol, account, venue, strategy, id_offset, ref_offset;
    uint8_t id_length, ref_length;
    int8_t price_exponent, volume_exponent;
    int64_t price, volume, fee, executed_at;
} record_t;
typedef struct {
    uint32_t magic;
    uint8_t type, version;
    uint16_t text_length;
    uint64_t incarnation, epoch, a, b, c;
} control_t;
#pragma pack(pop)
enum { FRAME = 0x31465752, CONTROL = 0x31435752, HELLO = 1, WELCOME = 2, ACK = 3, NAK = 4, HEARTBEAT = 5, KIND_ALERTS = 2, ID_BYTES = 11 };

static void send_control(void *socket, int type, uint64_t incarnation, uint64_t a, uint64_t c, const char *text) {
    unsigned char buffer[sizeof(control_t) + 64];
    control_t m = {CONTROL, (uint8_t)type, 1, (uint16_t)strlen(text), incarnation, 0, a, 0, c};
    memcpy(buffer, &m, sizeof(m));
    memcpy(buffer + sizeof(m), text, m.text_length);
    z.send(socket, buffer, sizeof(m) + m.text_length, 0);
}

static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void seal(unsigned char *frame, size_t size) {
    header_t *h = (header_t *)frame;
    h->crc32c = 0;
    h->crc32c = rw_crc32c(0, frame, size);
}

/* --- the publishers' side of acks ------------------------------------------------------------------------------------------ */

typedef struct {
    void *socket;
    uint64_t sent, acked, credit, incarnation;
    uint64_t lasts[1 << 16]; /* of the frames in flight: their last source_seq, by number of the frame */
    uint64_t frames_sent, frames_acked;
} lane_t;

static void take_acks(lane_t *lane, int flags) {
    msg_t m;
    z.msg_init(&m);
    while (z.msg_recv(&m, lane->socket, flags) >= 0) {
        const control_t *c = z.msg_data(&m);
        flags = DONTWAIT;
        if (z.msg_size(&m) < sizeof(*c) || c->magic != CONTROL || c->incarnation != lane->incarnation) continue;
        if (c->type == NAK) {
            fprintf(stderr, "rawzmq: asked to resend from %llu\n", (unsigned long long)c->a);
            exit(1);
        }
        if (c->type == WELCOME) lane->credit = c->c < 1 << 15 ? c->c : 1 << 15;
        if (c->type != ACK || c->a <= lane->acked) continue;
        lane->acked = c->a;
        while (lane->frames_acked < lane->frames_sent && lane->lasts[lane->frames_acked & 0xFFFF] <= lane->acked) lane->frames_acked++;
    }
    z.msg_close(&m);
}

static lane_t *open_lane(const char *endpoint) {
    lane_t *lane = calloc(1, sizeof(*lane));
    lane->incarnation = (uint64_t)now(CLOCK_REALTIME) | 1;
    lane->socket = open_socket(DEALER, NULL, endpoint);
    send_control(lane->socket, HELLO, lane->incarnation, 1, 0, "bench");
    while (!lane->credit) take_acks(lane, 0);
    return lane;
}

static void send_frame(lane_t *lane, const void *frame, size_t size) {
    while (lane->frames_sent - lane->frames_acked >= lane->credit) take_acks(lane, 0);
    lane->sent += ((const header_t *)frame)->record_count;
    lane->lasts[lane->frames_sent++ & 0xFFFF] = lane->sent;
    if (z.send(lane->socket, frame, size, 0) < 0) die("send");
    if (lane->frames_sent % 8 == 0) take_acks(lane, DONTWAIT);
}

static int run_source(const char *publish, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(size);
    if (fread(data, 1, size, file) != size) die(path);
    fclose(file);
    lane_t *lane = open_lane(publish);
    uint64_t length, first = 1;
    for (size_t at = 0; at < size; at += 8 + length) { /* numbered and sealed for this life, before the clock starts */
        memcpy(&length, data + at, 8);
        header_t *h = (header_t *)(data + at + 8);
        h->first_seq = first;
        h->epoch = lane->incarnation;
        first += h->record_count;
        seal(data + at + 8, length);
    }
    const int64_t start = now(CLOCK_MONOTONIC);
    for (size_t at = 0; at < size; at += 8 + length) {
        memcpy(&length, data + at, 8);
        send_frame(lane, data + at + 8, length);
    }
    while (lane->acked < lane->sent) take_acks(lane, 0);
    printf("{\"start_ns\": %lld, \"acked_ns\": %lld, \"records\": %llu, \"bytes\": %zu}\n", (long long)start,
           (long long)now(CLOCK_MONOTONIC), (unsigned long long)lane->sent, size - 8 * (size_t)lane->frames_sent);
    return 0;
}

/* --- the hops -------------------------------------------------------------------------------------------------------------- */

static _Noreturn int run_hop(const char *publish, const char *events, uint64_t credit) {
    void *in = open_socket(ROUTER, publish, NULL), *out = open_socket(PUB, events, NULL);
    unsigned char who[256];
    size_t who_bytes = 0;
    uint64_t incarnation = 0, last = 0;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        item_t item = {in, 0, POLLIN_, 0};
        if (z.poll(&item, 1, 20) == 0) {
            send_control(out, HEARTBEAT, 0, last, 0, "");
            continue;
        }
        int dirty = 0;
        for (int n = 0; n < 64; n++) {
            msg_t m;
            z.msg_init(&m);
            if (z.msg_recv(&m, in, DONTWAIT) < 0) break;
            who_bytes = z.msg_size(&m) < sizeof(who) ? z.msg_size(&m) : sizeof(who);
            memcpy(who, z.msg_data(&m), who_bytes);
            if (z.msg_recv(&m, in, 0) < 0) break;
            const header_t *h = z.msg_data(&m);
            if (h->magic == FRAME) {
                last = h->first_seq + h->record_count - 1;
                dirty = 1;
                z.msg_send(&m, out, 0);
            } else {
                incarnation = ((const control_t *)h)->incarnation;
                z.msg_close(&m);
                z.send(in, who, who_bytes, SNDMORE);
                send_control(in, WELCOME, incarnation, 0, credit, "");
            }
        }
        if (dirty) {
            z.send(in, who, who_bytes, SNDMORE);
            send_control(in, ACK, incarnation, last, 0, "");
        }
    }
}

static _Noreturn int run_relay(const char *events, const char *alerts) {
    void *in = open_socket(SUB, NULL, events), *out = open_socket(PUB, alerts, NULL);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        msg_t m;
        z.msg_init(&m);
        if (z.msg_recv(&m, in, 0) < 0) die("receive");
        const int beats = *(const uint32_t *)z.msg_data(&m) == CONTROL;
        if (!beats) ((header_t *)z.msg_data(&m))->stamped_at = now(CLOCK_REALTIME);
        z.send(out, beats ? "heartbeat" : "alert.breach.restricted", beats ? 9 : 23, SNDMORE);
        z.msg_send(&m, out, 0);
    }
}

static int run_sink(const char *events, uint64_t records) {
    void *in = open_socket(SUB, NULL, events);
    uint64_t seen = 0, bytes = 0;
    int ready = 0;
    while (seen < records) {
        msg_t m;
        z.msg_init(&m);
        if (z.msg_recv(&m, in, 0) < 0) die("receive");
        const header_t *h = z.msg_data(&m);
        if (!ready) {
            printf("ready\n");
            fflush(stdout);
            ready = 1;
        }
        if (h->magic == FRAME) {
            seen += h->record_count;
            bytes += z.msg_size(&m);
        }
        z.msg_close(&m);
    }
    printf("{\"end_ns\": %lld, \"records\": %llu, \"bytes\": %llu}\n", (long long)now(CLOCK_MONOTONIC), (unsigned long long)seen,
           (unsigned long long)bytes);
    return 0;
}

/* --- latency --------------------------------------------------------------------------------------------------------------- */

/* HdrHistogram's layout: 3 significant digits from 1 ns on: 2048 linear buckets, then halves of each doubling. */
enum { SUB_BITS = 11, SUBS = 1 << SUB_BITS, BUCKETS = 30, COUNTS = (BUCKETS + 1) * (SUBS / 2) };
typedef struct { uint64_t counts[COUNTS], total; int64_t most, sum; } histogram_t;

static void histogram_add(histogram_t *h, int64_t value) {
    if (value < 0) value = 0;
    const int bucket = 64 - __builtin_clzll((uint64_t)value | (SUBS - 1)) - SUB_BITS;
    size_t index = (size_t)bucket * (SUBS / 2) + (size_t)(value >> bucket);
    h->counts[index < COUNTS ? index : COUNTS - 1]++;
    h->total++;
    h->sum += value;
    if (value > h->most) h->most = value;
}

static void histogram_print(const char *name, const histogram_t *h) {
    printf("\"%s\": {\"total\": %llu, \"max\": %lld, \"sum\": %lld, \"counts\": [", name, (unsigned long long)h->total,
           (long long)h->most, (long long)h->sum);
    for (size_t i = 0, some = 0; i < COUNTS; i++)
        if (h->counts[i]) printf("%s[%zu, %llu]", some++ ? ", " : "", i, (unsigned long long)h->counts[i]);
    printf("]}");
}

static struct {
    void *alerts;
    uint64_t trades;
    histogram_t sent, ack, position, alert;
    volatile int ready;
} probe;

static void *watch_alerts(void *unused) {
    (void)unused;
    uint64_t seen = 0;
    while (seen < probe.trades) {
        msg_t m;
        z.msg_init(&m);
        if (z.msg_recv(&m, probe.alerts, 0) < 0) die("receive");
        probe.ready = 1;
        const unsigned char *data = z.msg_data(&m);
        const header_t *h = (const header_t *)data;
        if (z.msg_size(&m) >= sizeof(*h) && h->magic == FRAME) {
            const int64_t at = now(CLOCK_REALTIME);
            for (uint32_t i = 0; i < h->record_count; i++) {
                int64_t planned;
                const size_t offset = h->kind == KIND_ALERTS ? 32 * (size_t)i + 8 : sizeof(record_t) * (size_t)i + 56;
                memcpy(&planned, data + sizeof(*h) + offset, 8);
                histogram_add(&probe.position, h->stamped_at - planned);
                histogram_add(&probe.alert, at - planned);
            }
            seen += h->record_count;
        }
        z.msg_close(&m);
    }
    return NULL;
}

static size_t make_frame(unsigned char *frame, lane_t *lane, uint64_t number, uint32_t count, int64_t first_at, double step_ns) {
    unsigned char names[32];
    size_t name_bytes = 0;
    if (number == 0) { /* one symbol, one account */
        static const unsigned char both[32] = {0, 5, 0, 0, 1, 0, 0, 0, 'P', 'R', 'O', 'B', 'E', 0, 0, 0,
                                               1, 5, 0, 0, 1, 0, 0, 0, 'P', 'R', 'O', 'B', 'E', 0, 0, 0};
        memcpy(names, both, name_bytes = sizeof(both));
    }
    header_t h = {FRAME, 1, 0, 0, count, (uint32_t)name_bytes, number + 1, lane->incarnation, count * ID_BYTES, 0, 0, 0, 0, 0};
    memcpy(frame, &h, sizeof(h));
    record_t *records = (record_t *)(frame + sizeof(h));
    unsigned char *heap = frame + sizeof(h) + count * sizeof(record_t);
    memcpy(heap, names, name_bytes);
    heap += name_bytes;
    for (uint32_t i = 0; i < count; i++) {
        record_t r = {.type = 1, .side = (uint8_t)(1 + (number + i) % 2), .symbol = 1, .account = 1, .id_offset = i * ID_BYTES, .id_length = ID_BYTES,
                      .price_exponent = -2, .volume_exponent = -2, .price = 10000, .volume = 100, .executed_at = first_at + (int64_t)(i * step_ns)};
        char id[ID_BYTES + 1];
        snprintf(id, sizeof(id), "P%010llu", (unsigned long long)(number + i));
        memcpy(heap + i * ID_BYTES, id, ID_BYTES);
        memcpy(&records[i], &r, sizeof(r));
    }
    const size_t size = sizeof(h) + count * (sizeof(record_t) + ID_BYTES) + name_bytes;
    seal(frame, size);
    return size;
}

static void count_acks(lane_t *lane, uint64_t *counted, int64_t start, double step_ns, int flags) {
    take_acks(lane, flags);
    const int64_t at = now(CLOCK_REALTIME);
    for (; *counted < lane->acked; (*counted)++) histogram_add(&probe.ack, at - (start + (int64_t)((double)*counted * step_ns)));
}

static void wait_ns(void *socket, int fd, int64_t ns) { /* until something may have come, or the time is over */
    int events = 0;
    size_t size = sizeof(events);
    z.getsockopt(socket, OPT_EVENTS, &events, &size);
    if (events & POLLIN_ || ns <= 0) return;
    struct pollfd p = {fd, POLLIN, 0};
    const struct timespec t = {ns / 1000000000, ns % 1000000000};
    ppoll(&p, 1, &t, NULL);
}

static int run_probe(const char *publish, const char *alerts, double rate, uint64_t trades) {
    static unsigned char frame[64 + 64 * (64 + ID_BYTES) + 64];
    pthread_t watcher;
    probe.trades = trades;
    probe.alerts = open_socket(SUB, NULL, alerts);
    pthread_create(&watcher, NULL, watch_alerts, NULL);
#ifdef __linux__
    prctl(PR_SET_TIMERSLACK, 1000);
#endif
    lane_t *lane = open_lane(publish);
    while (!probe.ready) poll(NULL, 0, 5); /* a heartbeat has come: subscribed */
    int fd;
    size_t size = sizeof(fd);
    z.getsockopt(lane->socket, OPT_FD, &fd, &size);
    const double step_ns = 1e9 / rate;
    const int64_t start = now(CLOCK_REALTIME) + 1000000;
    uint64_t counted = 0, frames = 0;
    for (uint64_t number = 0; counted < trades;) {
        const int64_t at = now(CLOCK_REALTIME), planned = start + (int64_t)((double)number * step_ns);
        count_acks(lane, &counted, start, step_ns, DONTWAIT);
        if (number == trades || at < planned || lane->frames_sent - lane->frames_acked >= lane->credit) {
            wait_ns(lane->socket, fd, number < trades && at < planned ? planned - at : 1000000);
            continue;
        }
        uint32_t due = 1 + (uint32_t)((double)(at - planned) / step_ns);
        if (due > 64) due = 64;
        if (due > trades - number) due = (uint32_t)(trades - number);
        const size_t bytes = make_frame(frame, lane, number, due, planned, step_ns);
        const int64_t sent = now(CLOCK_REALTIME);
        for (uint32_t i = 0; i < due; i++) histogram_add(&probe.sent, sent - planned - (int64_t)(i * step_ns));
        send_frame(lane, frame, bytes);
        number += due;
        frames++;
    }
    pthread_join(watcher, NULL);
    printf("{\"rate\": %.0f, \"trades\": %llu, \"frames\": %llu, ", rate, (unsigned long long)trades, (unsigned long long)frames);
    histogram_print("sent", &probe.sent);
    printf(", ");
    histogram_print("ack", &probe.ack);
    printf(", ");
    histogram_print("position", &probe.position);
    printf(", ");
    histogram_print("alert", &probe.alert);
    printf("}\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: rawzmq LIBZMQ source|probe|hop|relay|sink ARGUMENTS (the head of bench/rawzmq.c)\n");
        return 2;
    }
    rw_crc32c_setup();
    bind_library(argv[1]);
    context = z.ctx_new();
    const char *role = argv[2];
    if (!strcmp(role, "source")) return run_source(argv[3], argv[4]);
    if (!strcmp(role, "probe") && argc > 6) return run_probe(argv[3], argv[4], atof(argv[5]), strtoull(argv[6], NULL, 10));
    if (!strcmp(role, "hop") && argc > 5) return run_hop(argv[3], argv[4], strtoull(argv[5], NULL, 10));
    if (!strcmp(role, "relay")) return run_relay(argv[3], argv[4]);
    if (!strcmp(role, "sink")) return run_sink(argv[3], strtoull(argv[4], NULL, 10));
    return 2;
}
