/* pool.c - lanes: which one a query takes, when one is opened, what happens when one is lost.
 *
 * An idle lane first; else the one with the least expected work, as long as that is short: nobody
 * is put behind a statement that takes milliseconds, and such a statement is put behind nobody.
 * Else queries wait, first come first served, and a lane is opened if there may be one more. One
 * lane connects at a time: when a server is down, one attempt finds out, and its error is what all
 * who wait are told; the next attempt comes after a back-off that doubles. With another lane up,
 * they go on waiting for that one.
 */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "result.h"

enum {
    MS = 1000 * 1000,
    SLOW_NS = 5 * MS,     /* a statement that takes longer shares its lane with nobody */
    GROW_DEPTH = 16,      /* with so many on the best lane another one may help */
    STALE_NS = 1000 * MS, /* a lane idle for so long is looked at before it is used */
    GIB = 1 << 30,
    MESSAGE_OVERHEAD = 1 << 20, /* lengths and formats of 65535 parameters fit in */
};

/* ---- picking ------------------------------------------------------------------------------- */

/* The server's farewell, or its end, may be in the socket although this turn has not got to it. */
static bool is_stale(puff__pg_lane *lane, uint64_t now_ns) {
    char byte;
    if (now_ns - lane->last_ended_ns < STALE_NS) return false;
    ssize_t n = recv(PQsocket(lane->conn.pg), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return !(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

static bool is_usable(const puff_pg_pool *pool, const puff__pg_lane *lane) {
    return lane->state == PUFF__PG_LANE_UP && !lane->broken && !lane->blocked && !lane->cancel &&
           lane->n < (unsigned)pool->opts.max_depth;
}

/* What is ahead of a new query on this lane: what was expected, and by how much the head is late
 * already. */
static uint64_t work_ahead_ns(puff__pg_lane *lane, uint64_t now_ns) {
    uint64_t running_ns = puff__pg_lane_running_ns(lane, now_ns);
    uint64_t expected_ns = puff__pg_lane_head(lane)->est_ns;
    return lane->est_ns + (running_ns > expected_ns ? running_ns - expected_ns : 0);
}

puff__pg_lane *puff__pg_pool_pick(puff_pg_pool *pool, uint64_t est_ns) {
    puff__pg_lane *best = NULL;
    uint64_t now_ns = puff_loop_now_ns(pool->loop), least_ns = SLOW_NS;
    for (int i = 0; i < pool->opts.n_lanes_max; i++) {
        puff__pg_lane *lane = &pool->lanes[i];
        if (!is_usable(pool, lane)) continue;
        if (lane->n == 0) {
            if (!is_stale(lane, now_ns)) return lane;
            continue;
        }
        uint64_t ahead_ns = est_ns < SLOW_NS ? work_ahead_ns(lane, now_ns) : SLOW_NS;
        if (ahead_ns < least_ns) {
            least_ns = ahead_ns;
            best = lane;
        }
    }
    if (!best || best->n >= GROW_DEPTH) pool->more_lanes = true;
    return best;
}

/* ---- flushing ------------------------------------------------------------------------------ */

void puff__pg_pool_touch(puff_pg_pool *pool, puff__pg_lane *lane) {
    if (puff_queue_empty(&lane->dirty)) puff_queue_push(&pool->dirty, &lane->dirty);
    puff_loop_defer(pool->loop, &pool->flush);
}

static void on_flush(puff_defer *d) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(d, puff_pg_pool, flush);
    puff_queue *node;
    while ((node = puff_queue_pop(&pool->dirty)) != NULL) {
        puff__pg_lane *lane = PUFF_CONTAINER_OF(node, puff__pg_lane, dirty);
        if (lane->state < PUFF__PG_LANE_UP) continue;
        puff__pg_lane_flush(lane);
        pool->stats.n_flushes++;
        if (lane->broken) puff__pg_on_broken(lane);
    }
}

static void on_unused(puff__pg_stmts *cache, puff__pg_stmt *st) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(cache, puff_pg_pool, stmts);
    for (int i = 0; i < pool->opts.n_lanes_max; i++) {
        puff__pg_lane *lane = &pool->lanes[i];
        if (!(st->prepared & lane->bit) || lane->state != PUFF__PG_LANE_UP) continue;
        puff__pg_lane_close_statement(lane, st->id);
        puff__pg_pool_touch(pool, lane);
    }
    st->prepared = 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int count_lanes(const puff_pg_pool *pool, puff__pg_lane_state least) {
    int n = 0;
    for (int i = 0; i < pool->opts.n_lanes_max; i++) n += pool->lanes[i].state >= least;
    return n;
}

static puff__pg_lane *find_lane(puff_pg_pool *pool, puff__pg_lane_state state) {
    for (int i = 0; i < pool->opts.n_lanes_max; i++)
        if (pool->lanes[i].state == state) return &pool->lanes[i];
    return NULL;
}

static uint64_t next_random(puff_pg_pool *pool) { /* xorshift64 */
    pool->random ^= pool->random << 13;
    pool->random ^= pool->random >> 7;
    pool->random ^= pool->random << 17;
    return pool->random;
}

/* Half of the wait is random, so that many processes do not come back in step. */
static void back_off(puff_pg_pool *pool) {
    const puff_pg_pool_options *o = &pool->opts;
    uint64_t ms = pool->backoff_ms ? pool->backoff_ms : o->backoff_min_ms;
    pool->backoff_ms = ms < o->backoff_max_ms / 2 ? ms * 2 : o->backoff_max_ms;
    uint64_t wait_ms = ms - ms / 2 + next_random(pool) % (ms / 2 + 1);
    /* Without memory for the timer the next query tries at once. */
    (void)puff_timer_start(&pool->backoff_timer, wait_ms);
}

static void on_backoff(puff_timer *t) {
    puff__pg_pool_want_lanes(PUFF_CONTAINER_OF(t, puff_pg_pool, backoff_timer));
}

/* 57P03: the server is starting. It will be there soon, and who waits has a timeout. */
static void on_connect_failed(puff__pg_lane *lane, const puff_err *err) {
    puff_pg_pool *pool = lane->pool;
    pool->stats.n_connect_failures++;
    pool->connect_err = *err;
    lane->state = PUFF__PG_LANE_CLOSED;
    back_off(pool);
    if (count_lanes(pool, PUFF__PG_LANE_UP) == 0 && strcmp(err->sqlstate, "57P03") != 0)
        puff__pg_queries_fail_waiting(pool, err);
}

static void on_open(puff__pg_conn *c, const puff_err *err) {
    puff__pg_lane *lane = PUFF_CONTAINER_OF(c, puff__pg_lane, conn);
    puff_pg_pool *pool = lane->pool;
    if (err) {
        on_connect_failed(lane, err);
        return;
    }
    pool->stats.n_connects++;
    pool->connect_err.code = 0;
    lane->state = PUFF__PG_LANE_UP;
    puff__pg_lane_reset(lane);
    puff__pg_pool_pump(pool);
}

static const puff__pg_conn_cbs conn_cbs = {on_open, puff__pg_lane_on_ready};

void puff__pg_pool_want_lanes(puff_pg_pool *pool) {
    int n_open = count_lanes(pool, PUFF__PG_LANE_CONNECTING);
    bool wanted =
        pool->n_waiting > 0 || pool->more_lanes || (pool->used && n_open < pool->opts.n_lanes_min);
    pool->more_lanes = false;
    if (!wanted || pool->closing || puff_timer_active(&pool->backoff_timer)) return;
    if (find_lane(pool, PUFF__PG_LANE_CONNECTING)) return;
    puff__pg_lane *lane = find_lane(pool, PUFF__PG_LANE_CLOSED);
    if (!lane) return;
    lane->state = PUFF__PG_LANE_CONNECTING;
    puff__pg_conn_open(&lane->conn, pool->loop, &pool->conninfo, pool->opts.connect_timeout_ms,
                       &conn_cbs);
}

/* ---- closing ------------------------------------------------------------------------------- */

static void close_lane(puff__pg_lane *lane, const puff_err *why) {
    puff__pg_queries_lane_lost(lane, why);
    puff__pg_lane_reset(lane);
    puff__pg_conn_close(&lane->conn);
    lane->state = PUFF__PG_LANE_CLOSED;
}

/* What the server said last, else what libpq says. */
static puff_err why_broken(puff__pg_lane *lane) {
    puff_err why = lane->conn.farewell;
    if (why.code) return why;
    if (lane->result && PQresultStatus(lane->result) == PGRES_FATAL_ERROR) {
        puff_pg_error said;
        puff__pg_error_of_result(&said, lane->result);
        return said.err;
    }
    puff__pg_error_of_conn(&why, PUFF_ECLOSED, PQerrorMessage(lane->conn.pg));
    return why;
}

/* A connection that is lost before it has answered anything counts as one that could not be made:
 * something in front of the server accepts and closes, and must not be asked in a tight circle. */
void puff__pg_on_broken(puff__pg_lane *lane) {
    puff_pg_pool *pool = lane->pool;
    puff_err why = why_broken(lane);
    pool->stats.n_lanes_lost++;
    if (lane->n_ended == 0) back_off(pool);
    close_lane(lane, &why);
    puff__pg_pool_pump(pool);
    puff__pg_pool_check_closed(pool);
}

static void watch_idle(puff_pg_pool *pool) {
    uint64_t timeout_ms = pool->opts.idle_timeout_ms;
    if (timeout_ms == PUFF_PG_NEVER || puff_timer_active(&pool->idle_timer)) return;
    if (count_lanes(pool, PUFF__PG_LANE_UP) <= pool->opts.n_lanes_min) return;
    (void)puff_timer_start(&pool->idle_timer, timeout_ms); /* without memory: at the next batch */
}

/* Lanes are picked from the first on, so the last are idle. */
static void on_idle(puff_timer *t) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(t, puff_pg_pool, idle_timer);
    uint64_t now_ns = puff_loop_now_ns(pool->loop);
    int n_up = count_lanes(pool, PUFF__PG_LANE_UP);
    for (int i = pool->opts.n_lanes_max - 1; i >= 0 && n_up > pool->opts.n_lanes_min; i--) {
        puff__pg_lane *lane = &pool->lanes[i];
        if (lane->state != PUFF__PG_LANE_UP || lane->n) continue;
        if (now_ns - lane->last_ended_ns < pool->opts.idle_timeout_ms * MS) continue;
        close_lane(lane, NULL);
        n_up--;
    }
    watch_idle(pool);
}

void puff__pg_on_batch(puff__pg_lane *lane) {
    puff_pg_pool *pool = lane->pool;
    if (lane->n_ended) pool->backoff_ms = 0;
    if (lane->state == PUFF__PG_LANE_DRAINING && lane->n == 0) close_lane(lane, NULL);
    puff__pg_pool_pump(pool);
    if (lane->n == 0) watch_idle(pool);
    puff__pg_pool_check_closed(pool);
}

static bool somebody_waits(const puff_pg_pool *pool) {
    for (int i = 0; i < pool->opts.n_lanes_max; i++) {
        const puff__pg_lane *lane = &pool->lanes[i];
        for (unsigned at = 0; at < lane->n; at++)
            if (lane->slots[(lane->head + at) & (lane->cap - 1)].q) return true;
    }
    return false;
}

static void stop_timers(puff_pg_pool *pool) {
    puff_timer_stop(&pool->queue_timer);
    puff_timer_stop(&pool->backoff_timer);
    puff_timer_stop(&pool->idle_timer);
}

static void free_pool(puff_pg_pool *pool) {
    puff_defer_cancel(&pool->deliver);
    puff_defer_cancel(&pool->flush);
    puff_timer_stop(&pool->drain_timer);
    stop_timers(pool);
    puff__pg_stmts_deinit(&pool->stmts);
    puff__pg_params_deinit(&pool->params);
    puff__pg_conninfo_deinit(&pool->conninfo);
    for (int i = 0; i < pool->opts.n_lanes_max && pool->lanes[i].pool; i++)
        puff__pg_lane_deinit(&pool->lanes[i]);
    puff_free(pool->alloc, pool);
}

void puff__pg_pool_try_close(puff_pg_pool *pool) {
    if (!pool->closing || (!pool->drop && somebody_waits(pool))) return;
    puff_err why;
    puff_err_set(&why, PUFF_ECLOSED, PUFF_DOMAIN_POSTGRES, "the Postgres pool was closed");
    for (int i = 0; i < pool->opts.n_lanes_max; i++)
        if (pool->lanes[i].state != PUFF__PG_LANE_CLOSED) close_lane(&pool->lanes[i], &why);
    if (!puff_queue_empty(&pool->done)) return; /* deliver comes again */
    pool->on_close(pool->on_close_arg);
    free_pool(pool);
}

static void on_drained(puff_timer *t) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(t, puff_pg_pool, drain_timer);
    pool->drop = true;
    puff__pg_pool_check_closed(pool);
}

void puff_pg_pool_close(puff_pg_pool *pool, uint64_t drain_ms, void (*on_close)(void *arg),
                        void *arg) {
    assert(!pool->closing);
    puff_err why;
    puff_err_set(&why, PUFF_ECLOSED, PUFF_DOMAIN_POSTGRES, "the Postgres pool was closed");
    pool->closing = true;
    pool->on_close = on_close;
    pool->on_close_arg = arg;
    stop_timers(pool);
    puff__pg_queries_fail_waiting(pool, &why);
    puff__pg_queries_fail_parked(pool, &why);
    pool->drop = drain_ms == 0;
    if (drain_ms && drain_ms != PUFF_PG_NEVER &&
        puff_timer_start(&pool->drain_timer, drain_ms) != 0)
        pool->drop = true;
    puff__pg_pool_check_closed(pool);
}

/* ---- making -------------------------------------------------------------------------------- */

#define DEFAULT(field, value) \
    if (o->field == 0) o->field = value

static void set_defaults(puff_pg_pool_options *o, const puff__pg_conninfo *ci) {
    DEFAULT(n_lanes_min, 1);
    DEFAULT(n_lanes_max, o->n_lanes_min > 4 ? o->n_lanes_min : 4);
    DEFAULT(max_depth, 64);
    DEFAULT(max_waiting, 10000);
    DEFAULT(statement_cache_size, 256);
    DEFAULT(connect_timeout_ms, ci->connect_timeout_ms);
    DEFAULT(connect_timeout_ms, 10000);
    DEFAULT(queue_timeout_ms, 30000);
    DEFAULT(query_timeout_ms, PUFF_PG_NEVER);
    DEFAULT(idle_timeout_ms, 300000);
    DEFAULT(backoff_min_ms, 50);
    DEFAULT(backoff_max_ms, 5000);
    DEFAULT(max_param_bytes, GIB - MESSAGE_OVERHEAD);
}

static int check_options(const puff_pg_pool_options *o, puff_err *err) {
    const char *wrong = NULL;
    if (o->n_lanes_max < 1 || o->n_lanes_max > PUFF__PG_MAX_LANES)
        wrong = "n_lanes_max: 1 to 64";
    else if (o->n_lanes_min < 1 || o->n_lanes_min > o->n_lanes_max)
        wrong = "n_lanes_min: 1 to n_lanes_max";
    else if (o->max_depth < 1 || o->max_depth > 10000)
        wrong = "max_depth: 1 to 10000";
    else if (o->max_waiting < 1)
        wrong = "max_waiting: 1 or more";
    else if (o->statement_cache_size < -1)
        wrong = "statement_cache_size: -1 or more";
    else if (o->backoff_min_ms > o->backoff_max_ms)
        wrong = "backoff_min_ms: at most backoff_max_ms";
    else if (o->max_param_bytes > GIB - MESSAGE_OVERHEAD)
        wrong = "max_param_bytes: less than 1 GiB, the server's limit of a message";
    if (!wrong) return 0;
    return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_POSTGRES, "bad option of a Postgres pool: %s",
                        wrong);
}

static puff_pg_pool *alloc_pool(puff_loop *loop, const puff_pg_pool_options *opts) {
    const puff_alloc *alloc = puff_loop_alloc(loop);
    puff_pg_pool *pool =
        puff_calloc(alloc, 1, sizeof *pool + (size_t)opts->n_lanes_max * sizeof *pool->lanes);
    if (!pool) return NULL;
    pool->loop = loop;
    pool->alloc = alloc;
    pool->opts = *opts;
    pool->opts.dsn = NULL;
    pool->random = puff_now_ns() ^ (uint64_t)(uintptr_t)pool;
    puff_queue_init(&pool->dirty);
    puff_defer_init(&pool->flush, on_flush);
    puff_timer_init(&pool->backoff_timer, loop, on_backoff);
    puff_timer_init(&pool->idle_timer, loop, on_idle);
    puff_timer_init(&pool->drain_timer, loop, on_drained);
    puff__pg_params_init(&pool->params, alloc, opts->max_param_bytes);
    puff__pg_queries_init(pool);
    return pool;
}

static int init_lanes(puff_pg_pool *pool) {
    int size = pool->opts.statement_cache_size;
    if (puff__pg_stmts_init(&pool->stmts, pool->alloc, size < 0 ? 0 : size, on_unused) != 0)
        return PUFF_ENOMEM;
    for (int i = 0; i < pool->opts.n_lanes_max; i++)
        if (puff__pg_lane_init(&pool->lanes[i], pool, &pool->stmts, i, pool->opts.max_depth) != 0)
            return PUFF_ENOMEM;
    return 0;
}

int puff_pg_pool_new(puff_pg_pool **out, puff_loop *loop, const puff_pg_pool_options *opts,
                     puff_err *err) {
    puff__pg_conninfo conninfo;
    puff_pg_pool_options o = {0};
    memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    int rc = puff__pg_conninfo_init(&conninfo, o.dsn, err);
    if (rc) return rc;
    set_defaults(&o, &conninfo);
    rc = check_options(&o, err);
    if (rc) goto fail_conninfo;
    puff_pg_pool *pool = alloc_pool(loop, &o);
    if (!pool) goto fail_memory;
    pool->conninfo = conninfo;
    if (init_lanes(pool) != 0) {
        free_pool(pool);
        return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_POSTGRES, "out of memory for a pool");
    }
    *out = pool;
    return 0;

fail_memory:
    rc = puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_POSTGRES, "out of memory for a pool");
fail_conninfo:
    puff__pg_conninfo_deinit(&conninfo);
    return rc;
}

void puff_pg_pool_forked(puff_pg_pool *pool) {
    for (int i = 0; i < pool->opts.n_lanes_max; i++) puff__pg_conn_forked(&pool->lanes[i].conn);
}

puff_loop *puff_pg_pool_loop(puff_pg_pool *pool) { return pool->loop; }

void puff_pg_pool_get_stats(puff_pg_pool *pool, puff_pg_pool_stats *out) {
    *out = pool->stats;
    out->n_waiting = pool->n_waiting;
    out->n_statements = pool->stmts.n_cached;
    for (int i = 0; i < pool->opts.n_lanes_max; i++) {
        const puff__pg_lane *lane = &pool->lanes[i];
        out->n_connecting += lane->state == PUFF__PG_LANE_CONNECTING;
        if (lane->state < PUFF__PG_LANE_UP) continue;
        out->n_lanes++;
        out->n_idle += lane->n == 0;
        out->n_in_flight += (int)lane->n;
    }
}
