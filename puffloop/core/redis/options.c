/* options.c - the defaults of a pool, each with the threat it answers in puff/redis.h. */
#include "puff_config.h"
#include "redis/pool.h"
#include "redis/reply.h"

static const puff_redis_options defaults = {
    .size = sizeof defaults,
    .client_name = "puff",
    .connect_timeout_ms = 5000,
    .timeout_ms = 10000,
    .n_connections = 1,
    .max_in_flight = 1000,
    .max_waiting = 100000,
    .max_exclusive = 64,
    .backoff_min_ms = 20,
    .backoff_max_ms = 1000,
    .max_reply_bytes = (size_t)1 << 30,
    .builder = &puff__redis_reply_builder,
};

#define TAKE(field) \
    if (given->field) into->field = given->field

static void fill(puff_redis_options *into, const puff_redis_options *given) {
    *into = defaults;
    if (!given) return;
    into->size = given->size;
    if (given->size != sizeof *given) return;
    TAKE(url);
    TAKE(client_name);
    TAKE(connect_timeout_ms);
    TAKE(timeout_ms);
    TAKE(n_connections);
    TAKE(max_in_flight);
    TAKE(max_waiting);
    TAKE(max_exclusive);
    TAKE(backoff_min_ms);
    TAKE(backoff_max_ms);
    TAKE(max_reply_bytes);
    TAKE(resp3);
    TAKE(builder);
}

static int check(const puff_redis_options *o, puff_err *err) {
    const char *why = NULL;
    if (o->size != sizeof *o) why = "the options are of another version of puff/redis.h";
    if (o->builder->size != sizeof *o->builder)
        why = "the builder is of another version of puff/redis.h";
    /* hiredis counts bytes of its buffer with int. */
    if (o->max_reply_bytes > INT32_MAX) why = "max_reply_bytes is above 2 GiB";
    if (o->backoff_max_ms > 3600000) why = "backoff_max_ms is above an hour";
    if (o->resp3 && !PUFF_HAVE_HIREDIS_RESP3) why = "this libhiredis cannot read RESP3";
    return why ? puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_REDIS, "redis pool: %s", why) : 0;
}

int puff__redis_options_take(puff_redis_options *into, const puff_redis_options *given,
                             puff_err *err) {
    fill(into, given);
    return check(into, err);
}
