/* Replies of a hostile server: fed whole, in two parts and byte by byte they must be the same
 * events, and nothing may be lost, read twice or left behind. libhiredis parses; how it is driven
 * is ours. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "redis/reader.h"
#include "redis/reply.h"

enum { MAX_EVENTS = 4096, MAX_BYTES = 1 << 16 };

typedef struct trace {
    uint64_t hash; /* of all events and values, in order */
    int n;
    puff__redis_event last;
} trace;

static void mix(trace *t, const void *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        t->hash = (t->hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
}

static void mix_value(trace *t, const puff_redis_reply *v) {
    mix(t, &v->kind, sizeof v->kind);
    switch (v->kind) {
    case PUFF_REDIS_NIL: break;
    case PUFF_REDIS_INT:
    case PUFF_REDIS_BOOL: mix(t, &v->integer, sizeof v->integer); break;
    case PUFF_REDIS_DOUBLE: mix(t, &v->real, sizeof v->real); break;
    case PUFF_REDIS_ARRAY:
    case PUFF_REDIS_MAP:
    case PUFF_REDIS_SET:
        for (size_t i = 0; i < v->n_elements; i++) mix_value(t, v->elements[i]);
        break;
    default: mix(t, v->str, v->len);
    }
}

static bool note(trace *t, puff__redis_reader *r, puff__redis_event event) {
    t->last = event;
    if (event == PUFF__REDIS_MORE) return false;
    mix(t, &event, sizeof event);
    if (event == PUFF__REDIS_VALUE && r->reply) mix_value(t, r->reply);
    if (event == PUFF__REDIS_FAULT) mix(t, r->err.msg, strlen(r->err.msg));
    puff_redis_reply_free(r->reply);
    r->reply = NULL;
    return event != PUFF__REDIS_DEAD && ++t->n < MAX_EVENTS;
}

/* drop: every second reply is for nobody. */
static trace read_in_pieces(const uint8_t *data, size_t len, size_t piece, bool drop) {
    puff__redis_reader r;
    trace t = {14695981039346656037u, 0, PUFF__REDIS_MORE};
    if (puff__redis_reader_init(&r, &puff__redis_reply_builder, MAX_BYTES) != 0) abort();
    r.ctx = (void *)&puff_alloc_system;
    for (size_t at = 0; at < len && t.last == PUFF__REDIS_MORE; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        if (!puff__redis_reader_feed(&r, (const char *)data + at, n)) {
            note(&t, &r, PUFF__REDIS_DEAD);
            break;
        }
        do r.wanted = !(drop && t.n % 2);
        while (note(&t, &r, puff__redis_reader_next(&r)));
    }
    puff__redis_reader_deinit(&r);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len > MAX_BYTES / 2) return 0; /* the ceiling counts what is fed with a reply, too */
    for (int drop = 0; drop < 2; drop++) {
        trace whole = read_in_pieces(data, len, len ? len : 1, drop);
        trace halves = read_in_pieces(data, len, len / 2 + 1, drop);
        trace bytes = read_in_pieces(data, len, 1, drop);
        if (whole.hash != halves.hash || whole.hash != bytes.hash || whole.n != bytes.n) abort();
    }
    return 0;
}
