/* pipeline.c - queries written one after another on one connection, answers matched in the same
 * order.
 *
 *   slots   head                              tail
 *           [Q] [Q] [D] [Q, nobody waits] [Q]        one Sync each
 *   wire <- Bind Execute Sync | Prepare Describe Sync | ...
 *   libpq   result NULL SYNC    result NULL result NULL SYNC
 *
 * A slot has n_commands; libpq gives each a result (or an error, or "aborted" behind an error) and
 * a NULL, and then one PGRES_PIPELINE_SYNC. Any other order means that we no longer know whose
 * answer is whose: then the connection dies. Reading goes on while writing is blocked, or both
 * sides could wait for each other.
 */
#include "pipeline.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "puff_config.h"

/* A server that answers neither a query nor the request to cancel it, for so long, is given up: the
 * network has eaten it, or it is in code that cannot be interrupted. */
enum { CANCEL_GRACE_MS = 5000 };

static void on_grace_over(puff_timer *t);

int puff__pg_lane_init(puff__pg_lane *lane, puff_pg_pool *pool, const puff__pg_stmts *cache,
                       int index, int max_depth) {
    *lane = (puff__pg_lane){.pool = pool, .alloc = cache->alloc, .cache = cache, .cap = 4};
    lane->bit = (uint64_t)1 << index;
    puff_queue_init(&lane->dirty);
    puff_timer_init(&lane->grace_timer, puff_pg_pool_loop(pool), on_grace_over);
    lane->grace_ms = CANCEL_GRACE_MS;
    while (lane->cap < (unsigned)max_depth + 2) lane->cap *= 2; /* 2: closing needs places too */
    lane->slots = puff_calloc(cache->alloc, lane->cap, sizeof *lane->slots);
    return lane->slots ? 0 : PUFF_ENOMEM;
}

void puff__pg_lane_deinit(puff__pg_lane *lane) {
    puff_free(lane->alloc, lane->slots);
    puff_free(lane->alloc, lane->closing);
}

void puff__pg_lane_reset(puff__pg_lane *lane) {
    assert(lane->n == 0);
    PQclear(lane->result);
    if (lane->cancel) puff__pg_cancel_detach(lane->cancel);
    puff_queue_remove(&lane->dirty);
    puff_timer_stop(&lane->grace_timer);
    lane->result = NULL;
    lane->cancel = NULL;
    lane->n_written = lane->n_ended = lane->est_ns = lane->cancel_reaches = 0;
    lane->n_closing = 0;
    lane->blocked = lane->broken = lane->tainted = false;
    lane->last_ended_ns = puff_now_ns();
}

/* ---- writing ------------------------------------------------------------------------------- */

static int send_sync(PGconn *pg) {
#if PUFF_HAVE_PQ_SEND_PIPELINE_SYNC
    return PQsendPipelineSync(pg);
#else
    return PQpipelineSync(pg); /* flushes: with an older libpq every query is a system call */
#endif
}

/* Ends what slot stands for with its Sync. */
static int push_slot(puff__pg_lane *lane, const puff__pg_slot *slot) {
    if (!send_sync(lane->conn.pg)) return PUFF_ECLOSED;
    puff__pg_slot *place = &lane->slots[(lane->head + lane->n) & (lane->cap - 1)];
    *place = *slot;
    place->lane = lane;
    place->failed_at = -1;
    /* An idle lane's clock starts now; behind others it starts when they end. */
    place->sent_ns = lane->n ? 0 : puff_now_ns();
    lane->n++;
    lane->n_written++;
    lane->est_ns += slot->est_ns;
    if (slot->st) puff__pg_stmt_use(slot->st);
    return 0;
}

/* A command was refused by libpq. When commands before it are on their way the connection is given
 * up: that costs the others on it their answers, but libpq refuses only when it has no memory. */
static int give_up(puff__pg_lane *lane, const puff__pg_slot *slot) {
    if (slot->n_commands == 0 && PQstatus(lane->conn.pg) == CONNECTION_OK) return PUFF_ENOMEM;
    lane->broken = true;
    return PUFF_ECLOSED;
}

static int finish_write(puff__pg_lane *lane, puff__pg_slot *slot) {
    if (push_slot(lane, slot) == 0) return 0;
    lane->broken = true;
    return PUFF_ECLOSED;
}

int puff__pg_lane_describe(puff__pg_lane *lane, puff__pg_stmt *st) {
    PGconn *pg = lane->conn.pg;
    puff__pg_slot slot = {.kind = PUFF__PG_DESCRIBE, .st = st};
    if (!PQsendPrepare(pg, st->name, st->sql, 0, NULL)) return give_up(lane, &slot);
    slot.n_commands = 1;
    if (!PQsendDescribePrepared(pg, st->name)) return give_up(lane, &slot);
    slot.n_commands = 2;
    return finish_write(lane, &slot);
}

int puff__pg_lane_query(puff__pg_lane *lane, puff_pg_query *q, puff__pg_stmt *st,
                        const puff_pg_params *params) {
    PGconn *pg = lane->conn.pg;
    const puff_pg_statement *pub = &st->pub;
    bool binary = !q->text_results && !st->text_only;
    puff__pg_slot slot = {
        .kind = PUFF__PG_QUERY, .q = q, .st = st, .est_ns = puff__pg_stmt_est_ns(st)};
    if (!(st->prepared & lane->bit)) {
        slot.prepares = true;
        if (!PQsendPrepare(pg, st->name, st->sql, pub->n_params, pub->param_oids))
            return give_up(lane, &slot);
        slot.n_commands++;
    }
    if (!PQsendQueryPrepared(pg, st->name, pub->n_params, params->values, params->lengths,
                             params->formats, binary))
        return give_up(lane, &slot);
    slot.n_commands++;
    int rc = finish_write(lane, &slot);
    if (rc) return rc;
    st->prepared |= lane->bit;
    q->slot = &lane->slots[(lane->head + lane->n - 1) & (lane->cap - 1)];
    return 0;
}

/* Without memory the server keeps it until the connection ends. */
void puff__pg_lane_close_statement(puff__pg_lane *lane, uint64_t id) {
    if (lane->n_closing == lane->cap_closing) {
        int cap = lane->cap_closing ? lane->cap_closing * 2 : 16;
        uint64_t *grown = puff_realloc(lane->alloc, lane->closing, (size_t)cap * sizeof *grown);
        if (!grown) return;
        lane->closing = grown;
        lane->cap_closing = cap;
    }
    lane->closing[lane->n_closing++] = id;
}

static int send_close(PGconn *pg, const char *name) {
#ifdef LIBPQ_HAS_CLOSE_PREPARED
    return PQsendClosePrepared(pg, name);
#else
    char sql[64] = "DEALLOCATE ";
    strcat(sql, name); /* ours: 31 bytes at most, of letters and digits */
    return PQsendQueryParams(pg, sql, 0, NULL, NULL, NULL, NULL, 1);
#endif
}

static void send_closes(puff__pg_lane *lane) {
    char name[PUFF__PG_NAME_CAP];
    puff__pg_slot slot = {.kind = PUFF__PG_CLOSE};
    while (lane->n_closing) {
        puff__pg_stmt_name(lane->cache, lane->closing[lane->n_closing - 1], name);
        if (!send_close(lane->conn.pg, name)) break;
        lane->n_closing--;
        slot.n_commands++;
    }
    if (slot.n_commands) finish_write(lane, &slot);
}

void puff__pg_lane_flush(puff__pg_lane *lane) {
    if (lane->n_closing && lane->n < lane->cap && !lane->broken) send_closes(lane);
    int rc = lane->broken ? -1 : PQflush(lane->conn.pg);
    if (rc >= 0) {
        lane->blocked = rc == 1;
        int events = PUFF_READABLE | (lane->blocked ? PUFF_WRITABLE : 0);
        if (puff__pg_conn_watch(&lane->conn, events) == 0) return;
    }
    lane->broken = true;
}

/* ---- cancelling ---------------------------------------------------------------------------- */

static void on_cancel_sent(void *arg) {
    puff__pg_lane *lane = arg;
    lane->cancel = NULL;
    lane->cancel_reaches = lane->n_written;
    puff__pg_on_batch(lane);
}

static void on_grace_over(puff_timer *t) {
    puff__pg_lane *lane = PUFF_CONTAINER_OF(t, puff__pg_lane, grace_timer);
    puff_err_set(&lane->conn.farewell, PUFF_ECLOSED, PUFF_DOMAIN_POSTGRES,
                 "the server did not answer a cancel request in %llu ms",
                 (unsigned long long)lane->grace_ms);
    lane->broken = true;
    puff__pg_on_broken(lane);
}

int puff__pg_lane_cancel(puff__pg_lane *lane) {
    if (lane->cancel) return 0;
    int rc = puff__pg_conn_cancel(&lane->cancel, &lane->conn, on_cancel_sent, lane);
    if (rc) return rc;
    lane->cancel_reaches = UINT64_MAX;
    /* Without memory for the timer the query runs to its end, as it would without the request. */
    (void)puff_timer_start(&lane->grace_timer, lane->grace_ms);
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------- */

uint64_t puff__pg_lane_running_ns(puff__pg_lane *lane, uint64_t now_ns) {
    uint64_t sent_ns = puff__pg_lane_head(lane)->sent_ns;
    uint64_t since = sent_ns > lane->last_ended_ns ? sent_ns : lane->last_ended_ns;
    return now_ns > since ? now_ns - since : 0;
}

puff__pg_slot puff__pg_lane_pop(puff__pg_lane *lane) {
    puff__pg_slot slot = *puff__pg_lane_head(lane);
    lane->head++;
    lane->n--;
    lane->est_ns -= slot.est_ns;
    if (slot.q) slot.q->slot = NULL;
    return slot;
}

/* The first error of a slot counts; else its last result. */
static void keep(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res, bool failed) {
    if (slot->failed_at >= 0) {
        PQclear(res);
        return;
    }
    if (failed) slot->failed_at = slot->n_answered;
    PQclear(lane->result);
    lane->result = res;
}

/* The status byte counts, but while others are on their way behind it libpq only says "active": the
 * tag of what opens a transaction is the sign then. From there on all that was answered is going to
 * be undone. */
static bool leaves_transaction(puff__pg_lane *lane, const PGresult *res) {
    PGTransactionStatusType status = PQtransactionStatus(lane->conn.pg);
    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR) return true;
    if (PQresultStatus(res) != PGRES_COMMAND_OK) return false;
    const char *tag = PQcmdStatus((PGresult *)res);
    return strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0;
}

static void end_slot(puff__pg_lane *lane) {
    PGresult *res = lane->result;
    lane->result = NULL;
    if (leaves_transaction(lane, res)) lane->tainted = true;
    uint64_t took_ns = puff__pg_lane_running_ns(lane, lane->read_ns);
    puff__pg_slot slot = puff__pg_lane_pop(lane);
    slot.took_ns = took_ns;
    puff_timer_stop(&lane->grace_timer); /* idle as a rule */
    lane->last_ended_ns = lane->read_ns;
    lane->n_ended++;
    puff__pg_on_answer(lane, &slot, res);
}

static void on_result(puff__pg_lane *lane, PGresult *res) {
    puff__pg_slot *slot = puff__pg_lane_head(lane);
    if (!res) {
        if (++slot->n_answered > slot->n_commands) lane->broken = true;
        return;
    }
    switch (PQresultStatus(res)) {
    case PGRES_PIPELINE_SYNC:
        PQclear(res);
        if (slot->n_answered == slot->n_commands)
            end_slot(lane);
        else
            lane->broken = true;
        break;
    case PGRES_PIPELINE_ABORTED: PQclear(res); break;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY: keep(lane, slot, res, false); break;
    case PGRES_FATAL_ERROR: keep(lane, slot, res, true); break;
    default: /* COPY, which sql.c should have found: libpq's pipeline does not survive it */
        PQclear(res);
        lane->broken = true;
    }
}

/* PQisBusy() parses what has come, also when nothing is expected: notices, the server's farewell.
 */
static void read_once(puff__pg_lane *lane) {
    PGconn *pg = lane->conn.pg;
    bool lost = !PQconsumeInput(pg);
    while (!PQisBusy(pg) && lane->n && !lane->broken) on_result(lane, PQgetResult(pg));
    for (PGnotify *n; (n = PQnotifies(pg)) != NULL;) PQfreemem(n);
    if (lost || lane->conn.farewell.code) lane->broken = true;
}

static bool has_input(puff__pg_lane *lane) {
    char byte;
    return recv(PQsocket(lane->conn.pg), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* libuv stops a poll at the first sign of an error, with the server's last words still to be read.
 */
static void read_rest(puff__pg_lane *lane) {
    while (!lane->broken && has_input(lane)) read_once(lane);
    lane->broken = true;
}

/* With TLS a record that libpq had no room for stays in OpenSSL, where poll() does not see it. A
 * record is 16 KiB at most and libpq makes room for 8 KiB at least: a second read takes the rest.
 */
void puff__pg_lane_on_ready(puff__pg_conn *c, int events) {
    puff__pg_lane *lane = PUFF_CONTAINER_OF(c, puff__pg_lane, conn);
    lane->read_ns = puff_now_ns();
    read_once(lane);
    if (!lane->broken && PQsslInUse(c->pg)) read_once(lane);
    if (events & PUFF_DISCONNECT) read_rest(lane);
    if (!lane->broken && lane->blocked) puff__pg_lane_flush(lane);
    if (lane->broken)
        puff__pg_on_broken(lane);
    else
        puff__pg_on_batch(lane);
}
