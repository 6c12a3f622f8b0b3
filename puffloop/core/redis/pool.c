/* pool.c - which connection a command takes, and what becomes of it when there is none.
 *
 *   submit -+- shared ---- room on a connection? -- yes --> encoded into it
 *           |                       no --> waiting ----------> when one is READY or has answered
 *           +- blocking -------------> waiting_blocking ------> an idle connection of its own or a
 * new
 *           +- session --> refused
 *
 * Connections are made when commands wait for them, never on stock: a server that refuses is asked
 * again only when somebody wants something from it, and then not before the back-off has passed.
 * When a connect fails, those who wait get its error at once; who comes during the back-off waits
 * for the next try.
 */
#include "redis/pool.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_SPARE = 1024, /* freed commands kept: as many as are in flight on one connection */
    /* A command that was never written moves to the next connection. Not for ever: a peer that
     * greets and hangs up at once would keep us busy. */
    MAX_LOSSES = 5
};

static const uint64_t ms_ns = 1000000;

static puff_redis_command *command_of(puff_queue *node) {
    return PUFF_CONTAINER_OF(node, puff_redis_command, node);
}

static puff__redis_conn *conn_of(puff_queue *node) {
    return PUFF_CONTAINER_OF(node, puff__redis_conn, node);
}

/* ---- commands: memory and end -------------------------------------------------------------- */

puff_redis_command *puff__redis_command_new(puff_redis_pool *pool) {
    puff_redis_command *c = pool->spare;
    if (c) {
        pool->spare = (puff_redis_command *)c->arg;
        pool->n_spare--;
    } else {
        c = puff_malloc(pool->alloc, sizeof *c);
        if (!c) return NULL;
    }
    *c = (puff_redis_command){.pool = pool, .deadline_ns = UINT64_MAX};
    puff_queue_init(&c->node);
    puff_queue_init(&c->node_deadline);
    pool->n_commands++;
    return c;
}

void puff__redis_command_free(puff_redis_command *c) {
    puff_redis_pool *pool = c->pool;
    puff_queue_remove(&c->node);
    puff_queue_remove(&c->node_deadline);
    puff_free(pool->alloc, c->bytes);
    pool->n_commands--;
    if (pool->n_spare == MAX_SPARE) {
        puff_free(pool->alloc, c);
        return;
    }
    c->arg = pool->spare;
    pool->spare = c;
    pool->n_spare++;
}

void puff__redis_command_finish(puff_redis_command *c, int status, void *reply,
                                const puff_err *err) {
    if (!c->answered && !c->due) {
        c->answered = true;
        puff_queue_remove(&c->node_deadline);
        c->cb(c->arg, status, reply, err);
    }
    if (!c->due) puff__redis_command_free(c);
}

/* Its callback will run at the end of the turn. */
static void make_due(puff_redis_command *c, int status) {
    c->due = status;
    puff_queue_remove(&c->node_deadline);
    puff_queue_push(&c->pool->due, &c->node_deadline);
    puff_loop_defer(c->pool->loop, &c->pool->run_due);
}

static void describe_due(const puff_redis_command *c, puff_err *err) {
    const char *address = c->pool->address;
    if (c->due == PUFF_ECANCELED)
        puff_err_set(err, c->due, PUFF_DOMAIN_REDIS, "the command was cancelled");
    else if (c->due == PUFF_ECLOSED)
        puff_err_set(err, c->due, PUFF_DOMAIN_REDIS, "redis at %s: %s%s", address,
                     c->n_losses > MAX_LOSSES ? "connections are lost before they can be used"
                                              : "the pool was closed",
                     c->may_have_run ? "; the command may have run" : "");
    else if (c->due == c->pool->last_error.code)
        *err = c->pool->last_error;
    else
        puff_err_set(err, c->due, PUFF_DOMAIN_REDIS, "redis at %s: %s", address,
                     puff_err_text(c->due));
}

static void try_free(puff_redis_pool *pool);

static void on_run_due(puff_defer *d) {
    puff_redis_pool *pool = PUFF_CONTAINER_OF(d, puff_redis_pool, run_due);
    puff_queue *node;
    while ((node = puff_queue_pop(&pool->due)) != NULL) {
        puff_redis_command *c = PUFF_CONTAINER_OF(node, puff_redis_command, node_deadline);
        bool has_slot = c->where == PUFF__REDIS_IN_FLIGHT; /* then its reply frees it */
        int status = c->due;
        puff_err err;
        describe_due(c, &err);
        c->due = 0;
        c->answered = true;
        c->cb(c->arg, status, NULL, &err);
        if (!has_slot) puff__redis_command_free(c);
    }
    puff_loop_wake(
        pool->loop); /* callbacks may have given the host work, and the loop was about to sleep */
    try_free(pool);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static puff_queue *waiting_queue(puff_redis_pool *pool, bool blocking) {
    return blocking ? &pool->waiting_blocking : &pool->waiting;
}

static void begin_waiting(puff_redis_command *c) {
    puff_redis_pool *pool = c->pool;
    c->where = PUFF__REDIS_WAITING;
    ++*(c->blocking ? &pool->n_waiting_blocking : &pool->n_waiting);
    pool->waiting_bytes += c->len;
}

static void wait_last(puff_redis_command *c) {
    begin_waiting(c);
    puff_queue_push(waiting_queue(c->pool, c->blocking), &c->node);
}

static void wait_first(puff_redis_command *c) {
    begin_waiting(c);
    puff_queue_push_front(waiting_queue(c->pool, c->blocking), &c->node);
}

static void stop_waiting(puff_redis_command *c) {
    puff_redis_pool *pool = c->pool;
    puff_queue_remove(&c->node);
    c->where = PUFF__REDIS_NOWHERE;
    --*(c->blocking ? &pool->n_waiting_blocking : &pool->n_waiting);
    pool->waiting_bytes -= c->len;
}

/* Encodes it for later. */
static int wait_for_room(puff_redis_command *c, const puff_str *argv, size_t argc) {
    puff_redis_pool *pool = c->pool;
    if (pool->n_waiting + pool->n_waiting_blocking >= pool->opts.max_waiting) return PUFF_ELIMIT;
    if (pool->waiting_bytes >= PUFF__REDIS_MAX_OUT) return PUFF_ELIMIT;
    puff_buf b;
    puff_buf_init(&b, pool->alloc, PUFF__REDIS_MAX_OUT - pool->waiting_bytes);
    int rc = puff__redis_encode(&b, argv, argc);
    if (rc) return rc;
    c->bytes = b.data;
    c->len = b.len;
    wait_last(c);
    return 0;
}

static void fail_waiting(puff_redis_pool *pool, bool blocking, const puff_err *err) {
    puff_queue batch; /* callbacks may add new ones: those have a try of their own */
    puff_queue_init(&batch);
    puff_queue_splice(&batch, waiting_queue(pool, blocking));
    while (!puff_queue_empty(&batch)) {
        puff_redis_command *c = command_of(batch.next);
        stop_waiting(c);
        puff__redis_command_finish(c, err->code, NULL, err);
    }
}

/* The same from inside a call of the user's: callbacks run later. */
static void make_waiting_due(puff_redis_pool *pool, bool blocking, int status) {
    puff_queue *queue = waiting_queue(pool, blocking);
    while (!puff_queue_empty(queue)) {
        puff_redis_command *c = command_of(queue->next);
        stop_waiting(c);
        make_due(c, status);
    }
}

/* ---- connections --------------------------------------------------------------------------- */

/* xorshift64: only so that the clients of a restarted server do not come all at once. */
static uint64_t next_random(puff_redis_pool *pool) {
    uint64_t x = pool->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return pool->random = x;
}

static void back_off(puff_redis_pool *pool, const puff_err *err) {
    uint64_t delay_ms = pool->opts.backoff_max_ms;
    /* A refused password will not be right a moment later, and servers count the attempts. */
    if (err->code != PUFF_EAUTH && pool->n_failures < 16 &&
        pool->opts.backoff_min_ms << pool->n_failures < delay_ms)
        delay_ms = pool->opts.backoff_min_ms << pool->n_failures;
    pool->n_failures++;
    uint64_t delay_ns = delay_ms * ms_ns;
    delay_ns -= next_random(pool) % (delay_ns / 2 + 1);
    pool->not_before_ns = puff_loop_now_ns(pool->loop) + delay_ns;
    pool->last_error = *err;
}

/* Whether a connection may be opened now; if not, the retry timer will ask again. */
static bool may_connect(puff_redis_pool *pool) {
    if (puff_loop_now_ns(pool->loop) >= pool->not_before_ns) return true;
    if (puff_timer_active(&pool->retry_timer)) return false;
    return puff_timer_start_at(&pool->retry_timer, pool->not_before_ns) != 0;
}

static int open_conn(puff_redis_pool *pool, bool exclusive) {
    puff__redis_conn *conn;
    int rc = puff__redis_conn_open(&conn, pool, exclusive);
    if (rc) return rc;
    puff_queue_push(exclusive ? &pool->exclusive : &pool->shared, &conn->node);
    ++*(exclusive ? &pool->n_exclusive : &pool->n_shared);
    ++*(exclusive ? &pool->n_opening_exclusive : &pool->n_opening_shared);
    pool->n_conns++;
    return 0;
}

static bool has_room(const puff_redis_pool *pool, const puff__redis_conn *conn) {
    return conn->state == PUFF__REDIS_READY && conn->n_in_flight < pool->opts.max_in_flight;
}

/* The shared connection with room that owes the least; NULL: none. */
static puff__redis_conn *pick(puff_redis_pool *pool) {
    puff__redis_conn *best = NULL;
    puff_queue *node;
    PUFF_QUEUE_FOREACH(node, &pool->shared) {
        puff__redis_conn *conn = conn_of(node);
        if (has_room(pool, conn) && (!best || conn->n_in_flight < best->n_in_flight)) best = conn;
    }
    return best;
}

/* One more shared connection, one at a time, if all that there are have work. */
static void grow_shared(puff_redis_pool *pool) {
    if (pool->n_shared == pool->opts.n_connections || pool->n_opening_shared > 0) return;
    if (!may_connect(pool)) return;
    int rc = open_conn(pool, false);
    if (rc && pool->n_shared == 0) make_waiting_due(pool, false, rc);
}

static void send_waiting(puff__redis_conn *conn, puff_redis_command *c) {
    stop_waiting(c);
    int rc = puff__redis_conn_send_waiting(conn, c);
    if (rc) make_due(c, rc);
}

static void dispatch_shared(puff_redis_pool *pool) {
    puff__redis_conn *conn;
    while (pool->n_waiting > 0 && (conn = pick(pool)) != NULL)
        send_waiting(conn, command_of(pool->waiting.next));
    if (pool->n_waiting > 0) grow_shared(pool);
}

static puff__redis_conn *idle_exclusive(puff_redis_pool *pool) {
    if (puff_queue_empty(&pool->exclusive)) return NULL;
    puff__redis_conn *conn = conn_of(pool->exclusive.next);
    return conn->state == PUFF__REDIS_READY && conn->n_in_flight == 0 ? conn : NULL;
}

static void move_last(puff_queue *queue, puff_queue *node) {
    puff_queue_remove(node);
    puff_queue_push(queue, node);
}

static void grow_exclusive(puff_redis_pool *pool) {
    while (pool->n_opening_exclusive < pool->n_waiting_blocking &&
           pool->n_exclusive < pool->opts.max_exclusive && may_connect(pool)) {
        int rc = open_conn(pool, true);
        if (rc == 0) continue;
        if (pool->n_exclusive == 0) make_waiting_due(pool, true, rc);
        return;
    }
}

static void dispatch_blocking(puff_redis_pool *pool) {
    puff__redis_conn *conn;
    while (pool->n_waiting_blocking > 0 && (conn = idle_exclusive(pool)) != NULL) {
        move_last(&pool->exclusive, &conn->node);
        send_waiting(conn, command_of(pool->waiting_blocking.next));
    }
    grow_exclusive(pool);
}

static void dispatch(puff_redis_pool *pool) {
    if (pool->closing) return;
    dispatch_shared(pool);
    dispatch_blocking(pool);
}

static void on_retry(puff_timer *t) {
    dispatch(PUFF_CONTAINER_OF(t, puff_redis_pool, retry_timer));
}

void puff__redis_pool_room(puff_redis_pool *pool, puff__redis_conn *conn) {
    if (conn->exclusive && conn->n_in_flight == 0) {
        puff_queue_remove(&conn->node);
        puff_queue_push_front(&pool->exclusive, &conn->node);
    }
    if (pool->n_waiting + pool->n_waiting_blocking > 0) dispatch(pool);
}

void puff__redis_pool_ready(puff_redis_pool *pool, puff__redis_conn *conn) {
    --*(conn->exclusive ? &pool->n_opening_exclusive : &pool->n_opening_shared);
    pool->stats.n_ready++;
    pool->stats.n_connects++;
    pool->n_failures = 0;
    pool->not_before_ns = 0;
    puff_timer_stop(&pool->retry_timer);
    if (conn->exclusive) {
        puff_queue_remove(&conn->node);
        puff_queue_push_front(&pool->exclusive, &conn->node);
    }
    dispatch(pool);
}

/* ---- loss ---------------------------------------------------------------------------------- */

static void forget_conn(puff_redis_pool *pool, puff__redis_conn *conn, bool connected) {
    puff_queue_remove(&conn->node);
    --*(conn->exclusive ? &pool->n_exclusive : &pool->n_shared);
    if (connected) {
        pool->stats.n_ready--;
        pool->stats.n_lost++;
    } else {
        --*(conn->exclusive ? &pool->n_opening_exclusive : &pool->n_opening_shared);
        pool->stats.n_connect_failures++;
    }
}

/* What the peer cannot have run goes back to the head of its queue, in order; the rest stays. */
static void requeue_unwritten(puff_queue *orphans) {
    puff_queue *node = orphans->prev;
    while (node != orphans) {
        puff_redis_command *c = command_of(node);
        node = node->prev;
        if (c->where != PUFF__REDIS_WAITING) continue;
        puff_queue_remove(&c->node);
        c->where = PUFF__REDIS_NOWHERE;
        if (++c->n_losses <= MAX_LOSSES)
            wait_first(c);
        else
            make_due(c, PUFF_ECLOSED);
    }
}

static void fail_written(puff_queue *orphans, const puff_err *err) {
    puff_err told = *err;
    snprintf(told.msg, sizeof told.msg, "%.440s; the command may have run", err->msg);
    puff_queue *node;
    while ((node = puff_queue_pop(orphans)) != NULL)
        puff__redis_command_finish(command_of(node), err->code, NULL, &told);
}

/* While the pool closes, users' callbacks wait for the end of the turn. */
static void make_orphans_due(puff_queue *orphans) {
    puff_queue *node;
    while ((node = puff_queue_pop(orphans)) != NULL) {
        puff_redis_command *c = command_of(node);
        c->where = PUFF__REDIS_NOWHERE;
        if (c->internal || c->answered)
            puff__redis_command_free(c);
        else if (!c->due)
            make_due(c, PUFF_ECLOSED);
    }
}

void puff__redis_pool_lost(puff_redis_pool *pool, puff__redis_conn *conn, bool connected,
                           puff_queue *orphans, const puff_err *err) {
    bool exclusive = conn->exclusive;
    forget_conn(pool, conn, connected);
    if (pool->closing) {
        make_orphans_due(orphans);
        return;
    }
    if (!connected) back_off(pool, err);
    requeue_unwritten(orphans);
    fail_written(orphans, err);
    /* With another connection there is still hope for them. */
    if (!connected && (exclusive || pool->n_shared == 0)) fail_waiting(pool, exclusive, err);
    dispatch(pool);
}

/* ---- deadlines ----------------------------------------------------------------------------- */

/* The queue is sorted, and nearly always this is the last: timeouts are mostly the same. */
static void insert_deadline(puff_redis_pool *pool, puff_redis_command *c) {
    puff_queue *after = pool->deadlines.prev;
    while (after != &pool->deadlines &&
           PUFF_CONTAINER_OF(after, puff_redis_command, node_deadline)->deadline_ns >
               c->deadline_ns)
        after = after->prev;
    puff_queue_push_front(after, &c->node_deadline);
}

/* One timer that is mostly too early, because the command it was set for has long been answered: it
 * costs a look per timeout, not one per command. */
static int set_deadline(puff_redis_command *c, uint64_t timeout_ms) {
    puff_redis_pool *pool = c->pool;
    if (timeout_ms > UINT64_MAX / ms_ns / 2) return 0;
    c->deadline_ns = puff_loop_now_ns(pool->loop) + timeout_ms * ms_ns;
    insert_deadline(pool, c);
    puff_timer *t = &pool->deadline_timer;
    if (puff_timer_active(t) && t->deadline_ns <= c->deadline_ns) return 0;
    return puff_timer_start_at(t, c->deadline_ns);
}

static void close_exclusive(puff__redis_conn *conn, int code, const char *why) {
    puff_err err;
    puff_err_set(&err, code, PUFF_DOMAIN_REDIS, "%s", why);
    puff__redis_conn_fail(conn, &err);
}

static void time_out_waiting(puff_redis_command *c) {
    puff_redis_pool *pool = c->pool;
    puff_err err;
    puff_err_set(&err, PUFF_ETIMEOUT, PUFF_DOMAIN_REDIS,
                 "redis at %s: the command waited in vain for a connection%s%.300s", pool->address,
                 pool->last_error.code ? "; last error: " : "", pool->last_error.msg);
    stop_waiting(c);
    puff__redis_command_finish(c, PUFF_ETIMEOUT, NULL, &err);
}

/* The slot stays; c may be freed by what its callback does. */
static void time_out_in_flight(puff_redis_command *c) {
    puff__redis_conn *conn = c->conn; /* freed in a later turn at the soonest */
    puff_err err;
    puff_err_set(&err, PUFF_ETIMEOUT, PUFF_DOMAIN_REDIS,
                 "redis at %s: no reply in time; the command may have run", c->pool->address);
    puff_queue_remove(&c->node_deadline);
    c->answered = c->may_have_run = true;
    puff__redis_conn_abandon(conn, c);
    c->cb(c->arg, PUFF_ETIMEOUT, NULL, &err);
    if (conn->state != PUFF__REDIS_READY) return;
    if (conn->exclusive)
        close_exclusive(conn, PUFF_ETIMEOUT, "no reply in time");
    else
        puff__redis_conn_check_stuck(conn);
}

static void on_deadline(puff_timer *t) {
    puff_redis_pool *pool = PUFF_CONTAINER_OF(t, puff_redis_pool, deadline_timer);
    uint64_t now = puff_loop_now_ns(pool->loop);
    while (!puff_queue_empty(&pool->deadlines)) {
        puff_redis_command *c =
            PUFF_CONTAINER_OF(pool->deadlines.next, puff_redis_command, node_deadline);
        if (c->deadline_ns > now) {
            puff_timer_start_at(t, c->deadline_ns);
            return;
        }
        pool->stats.n_timeouts++;
        if (c->where == PUFF__REDIS_WAITING)
            time_out_waiting(c);
        else
            time_out_in_flight(c);
    }
}

/* ---- commands: begin and cancel ------------------------------------------------------------ */

static int place(puff_redis_command *c, const puff_str *argv, size_t argc) {
    puff_redis_pool *pool = c->pool;
    if (c->blocking) return wait_for_room(c, argv, argc);
    puff__redis_conn *conn = pool->n_waiting == 0 ? pick(pool) : NULL;
    if (!conn) return wait_for_room(c, argv, argc);
    if (conn->n_in_flight > 0) grow_shared(pool);
    return puff__redis_conn_send(conn, c, argv, argc);
}

/* A password that was just refused is not tried again for each command. */
static bool is_locked_out(const puff_redis_pool *pool) {
    return pool->last_error.code == PUFF_EAUTH && pool->n_failures > 0 &&
           puff_loop_now_ns(pool->loop) < pool->not_before_ns;
}

static void start_waiting(puff_redis_command *c) {
    if (is_locked_out(c->pool)) {
        stop_waiting(c);
        make_due(c, PUFF_EAUTH);
    } else {
        dispatch(c->pool);
    }
}

static int refuse(const puff_redis_pool *pool, int code, puff_err *err) {
    const char *why =
        code == PUFF_ELIMIT ? "too many commands or bytes are waiting" : puff_err_text(code);
    return puff_err_set(err, code, PUFF_DOMAIN_REDIS, "redis at %s: %s", pool->address, why);
}

static int check(puff_redis_pool *pool, const puff_str *argv, size_t argc, bool *blocking,
                 puff_err *err) {
    if (pool->closing) return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_REDIS, "the pool is closed");
    if (argc == 0)
        return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_REDIS, "a command without a name");
    const char *advice = NULL;
    puff__redis_class class_ = puff__redis_classify(argv, argc, &advice);
    *blocking = class_ == PUFF__REDIS_BLOCKING;
    if (class_ != PUFF__REDIS_SESSION) return 0;
    return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_REDIS,
                        "%.*s does not work on shared connections: %s", (int)argv[0].len,
                        argv[0].ptr, advice);
}

static uint64_t timeout_of(const puff_redis_command *c, const puff_redis_command_options *opts) {
    if (opts && opts->timeout_ms) return opts->timeout_ms;
    return c->blocking ? PUFF_REDIS_NO_TIMEOUT : c->pool->opts.timeout_ms;
}

int puff_redis_command_submit(puff_redis_pool *pool, const puff_str *argv, size_t argc,
                              const puff_redis_command_options *opts, puff_redis_command_cb cb,
                              void *arg, puff_redis_command **out, puff_err *err) {
    bool blocking;
    int rc = check(pool, argv, argc, &blocking, err);
    if (rc) return rc;
    puff_redis_command *c = puff__redis_command_new(pool);
    if (!c) return refuse(pool, PUFF_ENOMEM, err);
    c->cb = cb;
    c->arg = arg;
    c->blocking = blocking;
    rc = set_deadline(c, timeout_of(c, opts));
    if (rc == 0) rc = place(c, argv, argc);
    if (rc) {
        puff__redis_command_free(c);
        return refuse(pool, rc, err);
    }
    if (out) *out = c;
    if (c->where == PUFF__REDIS_WAITING) start_waiting(c);
    return 0;
}

void puff_redis_command_cancel(puff_redis_command *c) {
    if (c->answered || c->due) return;
    puff__redis_conn *conn = c->conn;
    make_due(c, PUFF_ECANCELED);
    if (c->where == PUFF__REDIS_WAITING) {
        stop_waiting(c);
        return;
    }
    puff__redis_conn_abandon(conn, c);
    if (conn->exclusive) close_exclusive(conn, PUFF_ECANCELED, "cancelled");
}

bool puff_redis_command_may_have_run(const puff_redis_command *c) { return c->may_have_run; }

/* ---- the pool itself ----------------------------------------------------------------------- */

static void pool_free(puff_redis_pool *pool) {
    const puff_alloc *alloc = pool->alloc;
    puff_defer_cancel(&pool->run_due);
    puff_timer_stop(&pool->deadline_timer);
    puff_timer_stop(&pool->retry_timer);
    while (pool->spare) {
        puff_redis_command *next = pool->spare->arg;
        puff_free(alloc, pool->spare);
        pool->spare = next;
    }
    puff__redis_url_deinit(&pool->url);
    puff_free(alloc, pool->client_name);
    puff_free(alloc, pool);
}

static void try_free(puff_redis_pool *pool) {
    if (!pool->closing || pool->n_conns > 0 || pool->n_commands > 0) return;
    void (*on_closed)(void *arg) = pool->on_closed;
    void *arg = pool->on_closed_arg;
    pool_free(pool);
    if (on_closed) on_closed(arg);
}

void puff__redis_pool_closed(puff_redis_pool *pool) {
    pool->n_conns--;
    try_free(pool);
}

static void close_conns(puff_queue *conns) {
    puff_err err;
    puff_err_set(&err, PUFF_ECLOSED, PUFF_DOMAIN_REDIS, "the pool was closed");
    while (!puff_queue_empty(conns)) puff__redis_conn_fail(conn_of(conns->next), &err);
}

void puff_redis_pool_close(puff_redis_pool *pool, void (*on_closed)(void *arg), void *arg) {
    assert(!pool->closing);
    pool->closing = true;
    pool->on_closed = on_closed;
    pool->on_closed_arg = arg;
    puff_timer_stop(&pool->deadline_timer);
    puff_timer_stop(&pool->retry_timer);
    make_waiting_due(pool, false, PUFF_ECLOSED);
    make_waiting_due(pool, true, PUFF_ECLOSED);
    close_conns(&pool->shared);
    close_conns(&pool->exclusive);
    puff_loop_defer(pool->loop, &pool->run_due);
}

puff_redis_stats puff_redis_pool_get_stats(puff_redis_pool *pool) {
    puff_redis_stats stats = pool->stats;
    stats.n_in_flight = pool->n_in_flight;
    stats.n_waiting = pool->n_waiting + pool->n_waiting_blocking;
    return stats;
}

static void pool_init(puff_redis_pool *pool, puff_loop *loop, const puff_redis_options *opts) {
    pool->loop = loop;
    pool->alloc = puff_loop_alloc(loop);
    pool->opts = *opts;
    pool->opts.url = pool->opts.client_name = NULL;
    pool->random = puff_now_ns() ^ (uint64_t)(uintptr_t)pool;
    if (pool->random == 0) pool->random = 1; /* xorshift never leaves 0 */
    puff_queue_init(&pool->shared);
    puff_queue_init(&pool->exclusive);
    puff_queue_init(&pool->waiting);
    puff_queue_init(&pool->waiting_blocking);
    puff_queue_init(&pool->deadlines);
    puff_queue_init(&pool->due);
    puff_timer_init(&pool->deadline_timer, loop, on_deadline);
    puff_timer_init(&pool->retry_timer, loop, on_retry);
    puff_defer_init(&pool->run_due, on_run_due);
}

int puff_redis_pool_new(puff_redis_pool **out, puff_loop *loop, const puff_redis_options *given,
                        puff_err *err) {
    puff_redis_options opts;
    int rc = puff__redis_options_take(&opts, given, err);
    if (rc) return rc;
    puff_redis_pool *pool = puff_calloc(puff_loop_alloc(loop), 1, sizeof *pool);
    if (!pool) return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_REDIS, "out of memory");
    pool_init(pool, loop, &opts);
    pool->client_name = puff_strndup(pool->alloc, opts.client_name, strlen(opts.client_name));
    rc = pool->client_name ? puff__redis_url_parse(&pool->url, pool->alloc, opts.url, err)
                           : puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_REDIS, "out of memory");
    if (rc) {
        pool_free(pool);
        return rc;
    }
    puff__redis_url_address(&pool->url, pool->address, sizeof pool->address);
    *out = pool;
    return 0;
}
