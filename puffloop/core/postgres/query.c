/* query.c - the life of one query: submitted, placed, answered or given up, on_done once.
 *
 *   NEW -submit-> WAITING -place-> WRITTEN -answer-> (on_done)
 *                    |   ^  \        |
 *                    |   |   PARKED  |    while its statement is being described
 *                    |   '-----'     |
 *                    |   ^---retry---'    the server refused before it ran it, or another's cancel
 * hit it
 *                    '----> DONE <---'    cancelled, lost, refused: on_done runs at the end of the
 * turn
 *
 * A query that is cancelled or late leaves its slot behind: the order of answers never changes.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "pool.h"
#include "result.h"
#include "sql.h"

enum { NEW, WAITING, PARKED, WRITTEN, DONE };

enum {
    MAX_RETRIES = 2,    /* a statement renewed, and hit by another's cancel */
    MAX_PARAMS = 65535, /* a 16 bit count in the protocol */
};

static puff_pg_query *query_of(puff_queue *node) {
    return PUFF_CONTAINER_OF(node, puff_pg_query, node);
}
static puff__pg_stmt *stmt_of(puff_pg_query *q) { return (puff__pg_stmt *)q->statement; }

/* ---- the end of a query -------------------------------------------------------------------- */

static void count_end(puff_pg_pool *pool, const puff_pg_error *err) {
    if (!err) return;
    pool->stats.n_errors++;
    if (err->err.code == PUFF_ETIMEOUT) pool->stats.n_timeouts++;
    if (err->err.code == PUFF_ECANCELED) pool->stats.n_canceled++;
}

/* The last touch of q. Its statement lives until on_done has returned. */
static void complete(puff_pg_query *q, PGresult *res, const puff_pg_error *err) {
    puff_pg_pool *pool = q->pool;
    puff__pg_stmt *st = stmt_of(q);
    assert(!q->slot && pool->answer == NULL);
    puff_timer_stop(&q->timer);
    q->state = NEW;
    count_end(pool, err);
    pool->answer = err ? NULL : res;
    q->on_done(q, err ? NULL : res, err);
    PQclear(err ? res : pool->answer);
    pool->answer = NULL;
    if (st) puff__pg_stmt_unuse(st);
}

static void complete_err(puff_pg_query *q, const puff_err *err) {
    puff_pg_error e = {.err = *err, .maybe_executed = q->maybe_executed};
    complete(q, NULL, &e);
}

/* on_done at the end of this turn. Without memory for the text, the code says what there is to say.
 */
static void finish_later(puff_pg_query *q, int code, const puff_err *err) {
    puff_pg_pool *pool = q->pool;
    q->state = DONE;
    q->error_code = code;
    q->error = err ? puff_malloc(pool->alloc, sizeof *q->error) : NULL;
    if (q->error) *q->error = *err;
    puff_queue_push(&pool->done, &q->node);
    puff_loop_defer(pool->loop, &pool->deliver);
}

static void deliver_one(puff_pg_query *q) {
    puff_err err;
    if (q->error)
        err = *q->error;
    else
        puff_err_set(&err, q->error_code, PUFF_DOMAIN_POSTGRES, "%s",
                     q->error_code == PUFF_ECANCELED ? "the query was cancelled"
                                                     : puff_err_text(q->error_code));
    puff_free(q->pool->alloc, q->error);
    q->error = NULL;
    complete_err(q, &err);
}

/* A turn flushes deferred jobs before it sleeps, when its caller has already said that it may: what
 * waits for one of these queries must not sleep on, hence the wake-up. */
static void on_deliver(puff_defer *d) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(d, puff_pg_pool, deliver);
    puff_queue *node;
    puff_loop_wake(pool->loop);
    while ((node = puff_queue_pop(&pool->done)) != NULL) deliver_one(query_of(node));
    puff__pg_pool_try_close(pool);
}

puff_pg_result *puff_pg_query_take(puff_pg_query *q) {
    puff_pg_result *res = q->pool->answer;
    q->pool->answer = NULL;
    return res;
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void arm_queue_timer(puff_pg_pool *pool) {
    if (puff_queue_empty(&pool->waiting)) return;
    uint64_t first = query_of(pool->waiting.next)->queue_deadline_ns;
    if (first == UINT64_MAX) return;
    if (puff_timer_active(&pool->queue_timer) && pool->queue_timer.deadline_ns <= first) return;
    /* Without memory for the timer queries wait longer; each that comes or goes tries again. */
    (void)puff_timer_start_at(&pool->queue_timer, first);
}

static void wait_last(puff_pg_pool *pool, puff_pg_query *q) {
    q->state = WAITING;
    puff_queue_push(&pool->waiting, &q->node);
    pool->n_waiting++;
    arm_queue_timer(pool);
}

static void wait_first(puff_pg_pool *pool, puff_pg_query *q) {
    q->state = WAITING;
    puff_queue_push_front(&pool->waiting, &q->node);
    pool->n_waiting++;
    arm_queue_timer(pool);
}

static puff_pg_query *pop_waiting(puff_pg_pool *pool) {
    puff_queue *node = puff_queue_pop(&pool->waiting);
    if (!node) return NULL;
    if (--pool->n_waiting == 0) puff_timer_stop(&pool->queue_timer);
    return query_of(node);
}

static void remove_waiting(puff_pg_pool *pool, puff_pg_query *q) {
    puff_queue_remove(&q->node);
    if (--pool->n_waiting == 0) puff_timer_stop(&pool->queue_timer);
}

static void waited_too_long(puff_pg_query *q) {
    puff_pg_pool *pool = q->pool;
    puff_pg_pool_stats now;
    puff_err err;
    puff_pg_pool_get_stats(pool, &now);
    puff_err_set(&err, PUFF_ETIMEOUT, PUFF_DOMAIN_POSTGRES,
                 "waited %" PRIu64
                 " ms for a Postgres connection: %d open, %d queries on them, %d more "
                 "waiting%s%s",
                 pool->opts.queue_timeout_ms, now.n_lanes, now.n_in_flight, now.n_waiting,
                 pool->connect_err.code ? "; last attempt to connect: " : "",
                 pool->connect_err.code ? pool->connect_err.msg : "");
    complete_err(q, &err);
}

static void on_queue_timer(puff_timer *t) {
    puff_pg_pool *pool = PUFF_CONTAINER_OF(t, puff_pg_pool, queue_timer);
    uint64_t now = puff_loop_now_ns(pool->loop);
    while (!puff_queue_empty(&pool->waiting)) {
        if (query_of(pool->waiting.next)->queue_deadline_ns > now) break;
        waited_too_long(pop_waiting(pool));
    }
    arm_queue_timer(pool);
}

/* All of list to the front of the queue, in order. */
static void requeue_all(puff_pg_pool *pool, puff_queue *list) {
    while (!puff_queue_empty(list)) {
        puff_pg_query *q = query_of(list->prev);
        puff_queue_remove(&q->node);
        wait_first(pool, q);
    }
}

void puff__pg_queries_fail_waiting(puff_pg_pool *pool, const puff_err *err) {
    puff_pg_query *q;
    while ((q = pop_waiting(pool)) != NULL) finish_later(q, err->code, err);
}

void puff__pg_queries_fail_parked(puff_pg_pool *pool, const puff_err *err) {
    puff_queue *at, *node;
    PUFF_QUEUE_FOREACH(at, &pool->stmts.all) {
        puff__pg_stmt *st = PUFF_CONTAINER_OF(at, puff__pg_stmt, all);
        while ((node = puff_queue_pop(&st->waiters)) != NULL)
            finish_later(query_of(node), err->code, err);
    }
}

/* ---- placing ------------------------------------------------------------------------------- */

static void refuse(puff_pg_query *q, const char *why) {
    puff_err err;
    puff_err_set(&err, PUFF_EARG, PUFF_DOMAIN_POSTGRES, "%s", why);
    finish_later(q, PUFF_EARG, &err);
}

/* Asked once for each text, when it is new. */
static const char *refusal_of(puff_pg_pool *pool, puff_pg_query *q) {
    if (memchr(q->sql, '\0', q->sql_len)) return "the SQL text has a NUL in it";
    return pool->unchecked ? NULL : puff__pg_sql_refusal((puff_str){q->sql, q->sql_len});
}

/* Finds the statement. False: q has failed. */
static bool find_statement(puff_pg_pool *pool, puff_pg_query *q) {
    puff__pg_stmt *st = puff__pg_stmts_get(&pool->stmts, (puff_str){q->sql, q->sql_len});
    if (!st) {
        finish_later(q, PUFF_ENOMEM, NULL);
        return false;
    }
    q->statement = &st->pub;
    if (st->described || st->describing) return true;
    const char *why = refusal_of(pool, q);
    if (!why) return true;
    puff__pg_stmts_forget(st);
    refuse(q, why);
    return false;
}

static void park(puff_pg_query *q, puff__pg_stmt *st) {
    q->state = PARKED;
    puff_queue_push(&st->waiters, &q->node);
}

/* A lane that turned out to be broken is not picked again: the caller tries the next. */
static bool place_describe(puff_pg_pool *pool, puff_pg_query *q, puff__pg_stmt *st) {
    puff__pg_lane *lane;
    while ((lane = puff__pg_pool_pick(pool, puff__pg_stmt_est_ns(st))) != NULL) {
        int rc = puff__pg_lane_describe(lane, st);
        puff__pg_pool_touch(pool, lane);
        if (rc == PUFF_ECLOSED) continue;
        if (rc) {
            finish_later(q, rc, NULL);
        } else {
            pool->stats.n_prepares++;
            st->describing = true;
            park(q, st);
        }
        return true;
    }
    return false;
}

static bool count_is_right(puff_pg_query *q) {
    if (q->n_params == q->statement->n_params) return true;
    puff_err err;
    puff_err_set(&err, PUFF_EARG, PUFF_DOMAIN_POSTGRES,
                 "the statement takes %d parameter%s, %d given", q->statement->n_params,
                 q->statement->n_params == 1 ? "" : "s", q->n_params);
    finish_later(q, PUFF_EARG, &err);
    return false;
}

static int encode(puff_pg_pool *pool, puff_pg_query *q, puff_err *err) {
    puff_pg_params *params = &pool->params;
    int rc = puff__pg_params_begin(params, q->statement);
    if (rc) return puff_err_set(err, rc, PUFF_DOMAIN_POSTGRES, "out of memory for parameters");
    if (!q->encode) return puff__pg_params_from_array(params, q->params, err);
    if (q->encode(q, q->statement, params) == 0) return 0;
    return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_POSTGRES,
                        "the parameters could not be encoded");
}

static bool place_query(puff_pg_pool *pool, puff_pg_query *q, puff__pg_stmt *st) {
    puff__pg_lane *lane = puff__pg_pool_pick(pool, puff__pg_stmt_est_ns(st));
    if (!lane) return false;
    puff_err err;
    int rc = encode(pool, q, &err);
    if (rc) {
        finish_later(q, rc, &err);
    } else {
        bool prepares = !(st->prepared & lane->bit);
        rc = puff__pg_lane_query(lane, q, st, &pool->params);
        puff__pg_pool_touch(pool, lane);
        if (rc == 0) {
            q->state = WRITTEN;
            pool->stats.n_prepares += prepares;
        } else if (rc == PUFF_ENOMEM) {
            finish_later(q, rc, NULL);
        }
    }
    puff__pg_params_end(&pool->params);
    return rc != PUFF_ECLOSED;
}

bool puff__pg_query_place(puff_pg_pool *pool, puff_pg_query *q) {
    if (!q->statement && !find_statement(pool, q)) return true;
    puff__pg_stmt *st = stmt_of(q);
    if (st->describing) {
        park(q, st);
        return true;
    }
    if (!st->described) return place_describe(pool, q, st);
    return !count_is_right(q) || place_query(pool, q, st);
}

void puff__pg_pool_pump(puff_pg_pool *pool) {
    puff_pg_query *q;
    while ((q = pop_waiting(pool)) != NULL) {
        if (puff__pg_query_place(pool, q)) continue;
        wait_first(pool, q);
        break;
    }
    puff__pg_pool_want_lanes(pool);
}

/* ---- submitting, cancelling ---------------------------------------------------------------- */

static void on_query_timeout(puff_timer *t);

void puff_pg_query_init(puff_pg_query *q) { *q = (puff_pg_query){0}; }

static uint64_t deadline_after(uint64_t now, uint64_t timeout_ms) {
    return timeout_ms > (UINT64_MAX - now) / 1000000 ? UINT64_MAX : now + timeout_ms * 1000000;
}

/* 0, or why it cannot even be queued. */
static int check(puff_pg_pool *pool, const puff_pg_query *q, puff_err *err) {
    if (pool->closing)
        return puff_err_set(err, PUFF_ECLOSED, PUFF_DOMAIN_POSTGRES, "the Postgres pool is closed");
    if (q->n_params < 0 || q->n_params > MAX_PARAMS || (q->n_params && !q->params && !q->encode))
        return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_POSTGRES,
                            "%d parameters: 0 to %d are allowed", q->n_params, MAX_PARAMS);
    return 0;
}

static int start(puff_pg_pool *pool, puff_pg_query *q, puff_err *err) {
    uint64_t now = puff_loop_now_ns(pool->loop);
    uint64_t timeout_ms = q->timeout_ms ? q->timeout_ms : pool->opts.query_timeout_ms;
    q->queue_deadline_ns = deadline_after(now, pool->opts.queue_timeout_ms);
    int rc = check(pool, q, err);
    if (rc || timeout_ms == PUFF_PG_NEVER) return rc;
    rc = puff_timer_start_at(&q->timer, deadline_after(now, timeout_ms));
    return rc ? puff_err_set(err, rc, PUFF_DOMAIN_POSTGRES, "out of memory for a timer") : 0;
}

void puff_pg_submit(puff_pg_pool *pool, puff_pg_query *q) {
    puff_err err;
    q->pool = pool;
    q->statement = NULL;
    q->slot = NULL;
    q->error = NULL;
    q->n_retries = 0;
    q->maybe_executed = false;
    puff_queue_init(&q->node);
    puff_timer_init(&q->timer, pool->loop, on_query_timeout);
    pool->stats.n_queries++;
    pool->used = true;
    int rc = start(pool, q, &err);
    if (rc) {
        finish_later(q, rc, &err);
        return;
    }
    if (pool->n_waiting == 0 && puff__pg_query_place(pool, q)) {
        if (pool->more_lanes) puff__pg_pool_want_lanes(pool);
        return;
    }
    if (pool->n_waiting >= pool->opts.max_waiting) {
        puff_err_set(&err, PUFF_ELIMIT, PUFF_DOMAIN_POSTGRES,
                     "%d queries wait for a Postgres connection already", pool->n_waiting);
        finish_later(q, PUFF_ELIMIT, &err);
        return;
    }
    wait_last(pool, q);
    puff__pg_pool_want_lanes(pool);
}

/* Takes q out of wherever it is. What is written stays written, and its slot stays. */
static void detach(puff_pg_query *q) {
    if (q->state == WAITING) {
        remove_waiting(q->pool, q);
    } else if (q->state == PARKED) {
        puff_queue_remove(&q->node);
    } else if (q->state == WRITTEN) {
        q->slot->q = NULL;
        q->slot = NULL;
        q->maybe_executed = true;
    }
}

void puff_pg_query_cancel(puff_pg_query *q) {
    if (q->state == DONE) return;
    detach(q);
    puff_timer_stop(&q->timer);
    finish_later(q, PUFF_ECANCELED, NULL);
}

/* A CancelRequest names the connection, not the query: it is only sent when ours is the one that
 * runs. */
static void cancel_on_server(puff_pg_query *q) {
    puff__pg_lane *lane = q->slot->lane;
    if (q->slot != puff__pg_lane_head(lane) || lane->broken) return;
    if (puff__pg_lane_cancel(lane) == 0) q->pool->stats.n_cancel_requests++;
}

static void on_query_timeout(puff_timer *t) {
    puff_pg_query *q = PUFF_CONTAINER_OF(t, puff_pg_query, timer);
    puff_pg_pool *pool = q->pool;
    uint64_t timeout_ms = q->timeout_ms ? q->timeout_ms : pool->opts.query_timeout_ms;
    puff_err err;
    if (q->state == DONE) return;
    bool written = q->state == WRITTEN;
    puff_err_set(&err, PUFF_ETIMEOUT, PUFF_DOMAIN_POSTGRES, "no answer in %" PRIu64 " ms%s",
                 timeout_ms, written ? "" : ": the query has not been sent");
    if (written) cancel_on_server(q);
    detach(q);
    complete_err(q, &err);
}

/* ---- answers ------------------------------------------------------------------------------- */

static bool came_from(const PGresult *res, const char *function) {
    const char *said = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);
    return said && strcmp(said, function) == 0;
}

/* A CancelRequest that was meant for the one before may hit the next. */
static bool hit_by_cancel(const puff__pg_lane *lane, const PGresult *res) {
    return strcmp(puff__pg_sqlstate(res), "57014") == 0 && lane->n_ended <= lane->cancel_reaches;
}

/* The server has refused it for what we know of the statement, not for what it is: then it is
 * written anew. It was a transaction of its own, and that was rolled back. */
static bool is_stale(puff__pg_lane *lane, const puff__pg_slot *slot, const PGresult *res) {
    puff__pg_stmt *st = slot->st;
    const char *state = puff__pg_sqlstate(res);
    if (strcmp(state, "26000") == 0) { /* somebody has deallocated it */
        st->prepared &= ~lane->bit;
        return true;
    }
    if (strcmp(state, "42883") == 0 && !st->text_only &&
        (came_from(res, "getTypeBinaryOutputInfo") || came_from(res, "array_send"))) {
        st->text_only = true;
        return true;
    }
    /* "cached plan must not change result type"; the text is in the server's language. */
    if (strcmp(state, "0A000") == 0 && came_from(res, "RevalidateCachedQuery")) {
        puff__pg_stmts_forget(st);
        return true;
    }
    if (slot->prepares && slot->failed_at == 0) { /* the parameters may have other types by now */
        st->prepared &= ~lane->bit;
        puff__pg_stmts_forget(st);
        return true;
    }
    return false;
}

static void retry(puff_pg_query *q) {
    puff__pg_stmt *st = stmt_of(q);
    q->n_retries++;
    q->pool->stats.n_retries++;
    if (!st->cached) { /* forgotten: to be described anew */
        q->statement = NULL;
        puff__pg_stmt_unuse(st);
    }
    wait_first(q->pool, q);
}

static void answer_error(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    puff_pg_query *q = slot->q;
    bool again = hit_by_cancel(lane, res) || is_stale(lane, slot, res);
    if (q && again && q->n_retries < MAX_RETRIES) {
        PQclear(res);
        retry(q);
    } else if (q) {
        puff_pg_error err;
        puff__pg_error_of_result(&err, res);
        complete(q, res, &err);
    } else {
        PQclear(res);
    }
}

/* The first answer after a Prepare shows whether the description, made on another lane, is still
 * true. */
static bool verify(puff__pg_lane *lane, puff__pg_slot *slot, const PGresult *res) {
    puff__pg_stmt *st = slot->st;
    if (st->verified & lane->bit) return true;
    if (puff__pg_stmt_matches(st, res)) {
        st->verified |= lane->bit;
        return true;
    }
    puff__pg_stmt *renewed = puff__pg_stmt_renew(st, res);
    if (!renewed || !slot->q) {
        if (renewed) puff__pg_stmt_unuse(renewed);
        return renewed != NULL;
    }
    puff__pg_stmt_unuse(stmt_of(slot->q));
    slot->q->statement = &renewed->pub;
    return true;
}

static void answer_ok(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    puff_pg_query *q = slot->q;
    bool verified = verify(lane, slot, res);
    if (!q) {
        PQclear(res);
    } else if (verified) {
        complete(q, res, NULL);
    } else {
        puff_pg_error err = {.maybe_executed = true};
        puff_err_set(&err.err, PUFF_ENOMEM, PUFF_DOMAIN_POSTGRES, "out of memory for the result");
        complete(q, res, &err);
    }
}

/* Whoever opened it: everything that ran on this lane since is undone when the connection closes.
 */
static void answer_tainted(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    puff_pg_error err = {.maybe_executed = false};
    lane->state = PUFF__PG_LANE_DRAINING;
    puff_err_set(
        &err.err, PUFF_EARG, PUFF_DOMAIN_POSTGRES,
        "a transaction was left open on a shared connection, and is rolled back with what ran "
        "in it: use transaction()");
    if (slot->q)
        complete(slot->q, res, &err);
    else
        PQclear(res);
}

static void learn_cost(puff_pg_pool *pool, const puff__pg_slot *slot) {
    if (slot->sent_ns && slot->took_ns < pool->rtt_ns) pool->rtt_ns = slot->took_ns;
    puff__pg_stmt_took(slot->st, slot->took_ns > pool->rtt_ns ? slot->took_ns - pool->rtt_ns : 0);
}

static void answer_query(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    ExecStatusType status = PQresultStatus(res);
    learn_cost(lane->pool, slot);
    if (lane->tainted)
        answer_tainted(lane, slot, res);
    else if (status == PGRES_FATAL_ERROR)
        answer_error(lane, slot, res);
    else
        answer_ok(lane, slot, res);
}

static void fail_waiters(puff_queue *waiters, const puff_pg_error *err) {
    puff_queue *node;
    while ((node = puff_queue_pop(waiters)) != NULL) complete(query_of(node), NULL, err);
}

static void answer_describe(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    puff__pg_stmt *st = slot->st;
    puff_queue waiters;
    puff_queue_init(&waiters);
    puff_queue_splice(&waiters, &st->waiters);
    st->describing = false;
    puff_pg_error err = {.maybe_executed = false};
    bool failed = PQresultStatus(res) != PGRES_COMMAND_OK;
    if (failed && hit_by_cancel(lane, res)) {
        failed = false;
    } else if (failed) {
        puff__pg_error_of_result(&err, res);
    } else {
        st->prepared |= lane->bit;
        st->verified |= lane->bit;
        failed = puff__pg_stmt_describe(st, res) != 0;
        if (failed) puff_err_set(&err.err, PUFF_ENOMEM, PUFF_DOMAIN_POSTGRES, "out of memory");
    }
    if (failed) {
        puff__pg_stmts_forget(st);
        fail_waiters(&waiters, &err);
    } else {
        requeue_all(lane->pool, &waiters);
    }
    PQclear(res);
}

void puff__pg_on_answer(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res) {
    switch (slot->kind) {
    case PUFF__PG_QUERY: answer_query(lane, slot, res); break;
    case PUFF__PG_DESCRIBE: answer_describe(lane, slot, res); break;
    case PUFF__PG_CLOSE: PQclear(res); break;
    }
    if (slot->st) puff__pg_stmt_unuse(slot->st);
}

/* ---- lost lanes ---------------------------------------------------------------------------- */

static void lose(puff_pg_query *q, const puff_err *why) {
    puff_err err;
    puff_err_set(&err, PUFF_ECLOSED, PUFF_DOMAIN_POSTGRES,
                 "the connection was lost while the query was on its way; it may have run: %.400s",
                 why->msg);
    memcpy(err.sqlstate, why->sqlstate, sizeof err.sqlstate);
    q->maybe_executed = true;
    finish_later(q, PUFF_ECLOSED, &err);
}

void puff__pg_queries_lane_lost(puff__pg_lane *lane, const puff_err *why) {
    puff_pg_pool *pool = lane->pool;
    while (lane->n) {
        puff__pg_slot slot = puff__pg_lane_pop(lane);
        if (slot.kind == PUFF__PG_DESCRIBE) {
            slot.st->describing = false; /* its waiters were never written */
            requeue_all(pool, &slot.st->waiters);
        } else if (slot.q) {
            puff_timer_stop(&slot.q->timer);
            lose(slot.q, why);
        }
        if (slot.st) puff__pg_stmt_unuse(slot.st);
    }
    puff__pg_stmts_lane_gone(&pool->stmts, lane->bit);
}

void puff__pg_queries_init(puff_pg_pool *pool) {
    puff_queue_init(&pool->waiting);
    puff_queue_init(&pool->done);
    puff_defer_init(&pool->deliver, on_deliver);
    puff_timer_init(&pool->queue_timer, pool->loop, on_queue_timer);
    pool->rtt_ns = UINT64_MAX;
}
