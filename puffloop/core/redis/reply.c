/* reply.c - puff_redis_reply: a tree of values, each a block of its own. ctx is the allocator.
 *
 * An array's room grows with the elements that arrive, not with the number that the peer claims,
 * and an element's address never changes, because hiredis holds on to open arrays.
 */
#include "reply.h"

#include <string.h>

static puff_redis_reply *attach(puff_redis_reply *reply, puff_redis_place at);

static puff_redis_reply *new_reply(void *ctx, puff_redis_kind kind, puff_redis_place at) {
    const puff_alloc *alloc = ctx;
    puff_redis_reply *reply = puff_calloc(alloc, 1, sizeof *reply);
    if (!reply) return NULL;
    reply->kind = kind;
    reply->alloc = alloc;
    return attach(reply, at);
}

/* The room of an array with n elements: a power of two from 4 on, so none needs to be stored. */
static bool is_full(size_t n) { return n == 0 || (n >= 4 && (n & (n - 1)) == 0); }

static puff_redis_reply *attach(puff_redis_reply *reply, puff_redis_place at) {
    puff_redis_reply *parent = at.parent;
    if (!parent) return reply;
    if (is_full(parent->n_elements)) {
        size_t room = parent->n_elements ? parent->n_elements * 2 : 4;
        void *grown = puff_realloc(reply->alloc, parent->elements, room * sizeof(void *));
        if (!grown) {
            puff_free(reply->alloc, reply);
            return NULL;
        }
        parent->elements = grown;
    }
    parent->elements[parent->n_elements++] = reply;
    return reply;
}

static void *on_nil(void *ctx, puff_redis_place at) { return new_reply(ctx, PUFF_REDIS_NIL, at); }

static void *on_integer(void *ctx, puff_redis_place at, puff_redis_kind kind, int64_t value) {
    puff_redis_reply *reply = new_reply(ctx, kind, at);
    if (reply) reply->integer = value;
    return reply;
}

static void *on_real(void *ctx, puff_redis_place at, double value) {
    puff_redis_reply *reply = new_reply(ctx, PUFF_REDIS_DOUBLE, at);
    if (reply) reply->real = value;
    return reply;
}

static void *on_text(void *ctx, puff_redis_place at, puff_redis_kind kind, const char *s,
                     size_t len) {
    char *copy = puff_strndup(ctx, s, len);
    puff_redis_reply *reply = copy ? new_reply(ctx, kind, at) : NULL;
    if (!reply) {
        puff_free(ctx, copy);
        return NULL;
    }
    reply->str = copy;
    reply->len = len;
    return reply;
}

static void *on_array(void *ctx, puff_redis_place at, puff_redis_kind kind, size_t n) {
    return new_reply(ctx, kind, at);
}

/* Recursion is as deep as the reader lets a reply be. */
void puff_redis_reply_free(puff_redis_reply *reply) {
    if (!reply) return;
    switch (reply->kind) {
    case PUFF_REDIS_STATUS:
    case PUFF_REDIS_STRING:
    case PUFF_REDIS_ERROR:
    case PUFF_REDIS_BIGNUM:
    case PUFF_REDIS_VERBATIM: puff_free(reply->alloc, reply->str); break;
    case PUFF_REDIS_ARRAY:
    case PUFF_REDIS_MAP:
    case PUFF_REDIS_SET:
        for (size_t i = 0; i < reply->n_elements; i++) puff_redis_reply_free(reply->elements[i]);
        puff_free(reply->alloc, reply->elements);
        break;
    default: break;
    }
    puff_free(reply->alloc, reply);
}

static void on_discard(void *reply) { puff_redis_reply_free(reply); }

const puff_redis_builder puff__redis_reply_builder = {
    .size = sizeof(puff_redis_builder),
    .nil = on_nil,
    .integer = on_integer,
    .real = on_real,
    .text = on_text,
    .array = on_array,
    .discard = on_discard,
};
