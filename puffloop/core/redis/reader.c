/* reader.c - hiredis' reader with our own object functions.
 *
 * hiredis parses; each value becomes one call of a host's builder. A value of hiredis' is whatever
 * the builder made, or &placeholder where nothing is built: for a reply that nobody waits for, for
 * an error reply (its text goes to r->err) and for what is pushed out of band.
 *
 * hiredis never frees a value of ours (free_nothing): it does not say whose it is. We keep the root
 * of an unfinished reply in r->reply and discard that ourselves.
 *
 * Its memory is libc's, not the loop's: libhiredis 0.14 has no allocator to set and 1.x only a
 * global one.
 */
#include "reader.h"

#include <hiredis/read.h>
#include <limits.h>
#include <string.h>

#include "puff_config.h"

enum {
    /* Arrays in arrays. The deepest replies of real commands (COMMAND DOCS, FT.SEARCH) stay below
     * 16; builders and hosts recurse over what they made, so a hostile peer must not choose the
     * depth. hiredis 0.14 stops at 7 by itself. */
    MAX_DEPTH = 128,
    /* A line without its end is searched again from its begin for each read: a peer that never ends
     * it would cost quadratic time. Statuses and errors of scripts are the only long ones. */
    MAX_LINE = 1024 * 1024,
    /* "$18446744073709551615\r\n" and then some. */
    MAX_HEADER = 32
};

static char placeholder;

static puff__redis_reader *reader_of(const redisReadTask *task) { return task->privdata; }

static puff_redis_place place_of(const redisReadTask *task) {
    if (!task->parent) return (puff_redis_place){NULL, 0};
    return (puff_redis_place){task->parent->obj, (size_t)task->idx};
}

/* What every object function begins with: whether this value is to be built. */
static bool begin_value(const redisReadTask *task) {
    puff__redis_reader *r = reader_of(task);
    if (!task->parent) {
        r->in_reply = true;
        r->dropping = !r->wanted;
        r->root_kind = task->type;
    }
    return !r->dropping;
}

static void *end_value(const redisReadTask *task, void *value) {
    if (!task->parent) reader_of(task)->reply = value;
    return value;
}

static puff_redis_kind kind_of(int type) {
    switch (type) {
    case REDIS_REPLY_STATUS: return PUFF_REDIS_STATUS;
    case REDIS_REPLY_ERROR: return PUFF_REDIS_ERROR;
    case REDIS_REPLY_ARRAY: return PUFF_REDIS_ARRAY;
#if PUFF_HAVE_HIREDIS_RESP3
    case REDIS_REPLY_MAP: return PUFF_REDIS_MAP;
    case REDIS_REPLY_SET: return PUFF_REDIS_SET;
    case REDIS_REPLY_PUSH: return PUFF_REDIS_ARRAY;
    case REDIS_REPLY_BIGNUM: return PUFF_REDIS_BIGNUM;
    case REDIS_REPLY_VERB: return PUFF_REDIS_VERBATIM;
#endif
    default: return PUFF_REDIS_STRING;
    }
}

static void *create_string(const redisReadTask *task, char *s, size_t len) {
    puff__redis_reader *r = reader_of(task);
    bool build = begin_value(task);
    puff_redis_kind kind = kind_of(task->type);
    if (!task->parent && kind == PUFF_REDIS_ERROR) {
        puff_err_set(&r->err, PUFF_EREPLY, PUFF_DOMAIN_REDIS, "%.*s",
                     len < INT_MAX ? (int)len : INT_MAX, s);
        return &placeholder;
    }
    if (!build) return &placeholder;
    size_t skip = kind == PUFF_REDIS_VERBATIM ? 4 : 0; /* "txt:", hiredis has checked it */
    return end_value(task, r->builder->text(r->ctx, place_of(task), kind, s + skip, len - skip));
}

static void *create_integer(const redisReadTask *task, long long value) {
    puff__redis_reader *r = reader_of(task);
    if (!begin_value(task)) return &placeholder;
    return end_value(task, r->builder->integer(r->ctx, place_of(task), PUFF_REDIS_INT, value));
}

static void *create_nil(const redisReadTask *task) {
    puff__redis_reader *r = reader_of(task);
    if (!begin_value(task)) return &placeholder;
    return end_value(task, r->builder->nil(r->ctx, place_of(task)));
}

/* hiredis takes NULL for an exhausted memory; r->err knows better. */
static void *refuse(puff__redis_reader *r, const char *why) {
    r->too_much = true;
    puff_err_set(&r->err, PUFF_ELIMIT, PUFF_DOMAIN_REDIS, "%s", why);
    return NULL;
}

static bool out_of_band(int type) {
#if PUFF_HAVE_HIREDIS_RESP3
    return type == REDIS_REPLY_PUSH || type == REDIS_REPLY_ATTR;
#else
    return false;
#endif
}

static void *make_array(const redisReadTask *task, size_t n) {
    puff__redis_reader *r = reader_of(task);
    bool build = begin_value(task);
    if (r->hi->ridx >= MAX_DEPTH) return refuse(r, "the reply is nested too deeply");
    /* The shortest value takes three bytes, so this many can never come. */
    if (n > r->max_bytes / 3) return refuse(r, "the reply claims more elements than it may hold");
    /* hiredis counts an attribute inside an array as an element of it: from here on it would be out
     * of step with the peer. */
    if (task->parent && out_of_band(task->type)) return refuse(r, "an attribute inside of a reply");
    if (!task->parent && out_of_band(task->type)) r->dropping = true;
    if (!build || r->dropping) return &placeholder;
    return end_value(task, r->builder->array(r->ctx, place_of(task), kind_of(task->type), n));
}

#if PUFF_HAVE_HIREDIS_RESP3
static void *create_array(const redisReadTask *task, size_t n) { return make_array(task, n); }

static void *create_double(const redisReadTask *task, double value, char *s, size_t len) {
    puff__redis_reader *r = reader_of(task);
    if (!begin_value(task)) return &placeholder;
    return end_value(task, r->builder->real(r->ctx, place_of(task), value));
}

static void *create_bool(const redisReadTask *task, int value) {
    puff__redis_reader *r = reader_of(task);
    if (!begin_value(task)) return &placeholder;
    return end_value(task, r->builder->integer(r->ctx, place_of(task), PUFF_REDIS_BOOL, value));
}
#else
static void *create_array(const redisReadTask *task, int n) { return make_array(task, (size_t)n); }
#endif

static void free_nothing(void *value) { (void)value; }

/* Not const only because hiredis' signature is not. */
static redisReplyObjectFunctions object_functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_nothing,
#if PUFF_HAVE_HIREDIS_RESP3
    .createDouble = create_double,
    .createBool = create_bool,
#endif
};

int puff__redis_reader_init(puff__redis_reader *r, const puff_redis_builder *builder,
                            size_t max_bytes) {
    *r = (puff__redis_reader){.builder = builder, .max_bytes = max_bytes};
    r->hi = redisReaderCreateWithFunctions(&object_functions);
    if (!r->hi) return PUFF_ENOMEM;
    r->hi->privdata = r;
    return 0;
}

static void discard(puff__redis_reader *r) {
    if (r->reply) r->builder->discard(r->reply);
    r->reply = NULL;
}

void puff__redis_reader_deinit(puff__redis_reader *r) {
    discard(r);
    if (r->hi) redisReaderFree(r->hi);
    r->hi = NULL;
}

void puff__redis_reader_drop(puff__redis_reader *r) {
    if (!r->parsing) discard(r);
    r->dropping = true;
    r->wanted = false;
}

static bool die(puff__redis_reader *r, int code, const char *why) {
    discard(r);
    if (!r->too_much) puff_err_set(&r->err, code, PUFF_DOMAIN_REDIS, "%s", why);
    return false;
}

bool puff__redis_reader_feed(puff__redis_reader *r, const char *bytes, size_t len) {
    r->n_bytes += len;
    if (r->n_bytes > r->max_bytes)
        return die(r, PUFF_ELIMIT, "the reply is longer than is allowed");
    if (redisReaderFeed(r->hi, bytes, len) == REDIS_OK) return true;
    return die(r, PUFF_ENOMEM, "out of memory");
}

/* Whether the unfinished line at the reader's cursor is longer than a line can be. */
static bool line_too_long(const puff__redis_reader *r) {
    const redisReader *hi = r->hi;
    size_t n = hi->len - hi->pos;
    if (n <= MAX_HEADER || hi->ridx < 0) return false;
#if PUFF_HAVE_HIREDIS_RESP3
    int type = hi->task[hi->ridx]->type;
    bool bulk = type == REDIS_REPLY_STRING || type == REDIS_REPLY_VERB;
#else
    bool bulk = hi->rstack[hi->ridx].type == REDIS_REPLY_STRING;
#endif
    return bulk ? !memchr(hi->buf + hi->pos, '\r', MAX_HEADER) : n > MAX_LINE;
}

static puff__redis_event read_failed(puff__redis_reader *r) {
    if (r->hi->err == REDIS_ERR_OOM)
        die(r, PUFF_ENOMEM, "out of memory");
    else
        die(r, PUFF_EPROTO, r->hi->errstr);
    return PUFF__REDIS_DEAD;
}

puff__redis_event puff__redis_reader_next(puff__redis_reader *r) {
    void *value;
    r->parsing = true;
    int rc = redisReaderGetReply(r->hi, &value);
    r->parsing = false;
    if (r->dropping) discard(r);
    if (rc != REDIS_OK) return read_failed(r);
    if (!value) {
        if (!line_too_long(r)) return PUFF__REDIS_MORE;
        die(r, PUFF_EPROTO, "Protocol error, a line does not end");
        return PUFF__REDIS_DEAD;
    }
    r->in_reply = false;
    r->n_bytes = r->hi->len - r->hi->pos;
    if (out_of_band(r->root_kind)) return PUFF__REDIS_PUSH;
    if (r->root_kind == REDIS_REPLY_ERROR) return PUFF__REDIS_FAULT;
    return PUFF__REDIS_VALUE;
}
