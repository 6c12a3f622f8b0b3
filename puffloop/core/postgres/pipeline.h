/* pipeline.h - a lane: one connection, and the queries on their way on it. See pipeline.c. */
#ifndef PUFF_CORE_POSTGRES_PIPELINE_H
#define PUFF_CORE_POSTGRES_PIPELINE_H

#include "conn.h"
#include "params.h"
#include "statement.h"

typedef enum puff__pg_slot_kind {
    PUFF__PG_QUERY,
    PUFF__PG_DESCRIBE,
    PUFF__PG_CLOSE, /* of statements that nobody uses */
} puff__pg_slot_kind;

/* What one Sync ends: one place in the order of answers. It is never taken out early: when nobody
 * waits any more, q is NULL and the answer is dropped. */
typedef struct puff__pg_slot {
    struct puff__pg_lane *lane; /* borrowed; we are in it */
    puff_pg_query *q;           /* borrowed; NULL: nobody waits */
    puff__pg_stmt *st;          /* used; NULL for CLOSE */
    uint64_t sent_ns; /* when it was written to an idle lane; 0: it was written behind others */
    uint64_t est_ns;  /* what it was expected to cost the server */
    uint64_t took_ns; /* how long it was at the head; once it is answered */
    puff__pg_slot_kind kind;
    int n_commands, n_answered;
    int failed_at; /* which of its commands failed; -1: none */
    bool prepares; /* its first command is a Prepare of a statement that other lanes know */
} puff__pg_slot;

typedef enum puff__pg_lane_state {
    PUFF__PG_LANE_CLOSED,
    PUFF__PG_LANE_CONNECTING,
    PUFF__PG_LANE_UP,
    PUFF__PG_LANE_DRAINING, /* no new queries: closed when the last answer is there */
} puff__pg_lane_state;

typedef struct puff__pg_lane {
    puff_pg_pool *pool;          /* borrowed; we are in it */
    const puff_alloc *alloc;     /* borrowed; outlives us */
    const puff__pg_stmts *cache; /* borrowed; outlives us */
    puff__pg_conn conn;
    puff__pg_lane_state state;
    uint64_t bit;         /* of this lane in puff__pg_stmt.prepared */
    puff_queue dirty;     /* in the pool's list of lanes with something to flush */
    puff__pg_slot *slots; /* owned: a ring of cap, a power of two */
    unsigned cap, head, n;
    PGresult *result;            /* owned: what the head slot has brought so far */
    uint64_t n_written, n_ended; /* slots, since it was connected */
    uint64_t est_ns;             /* the sum over the slots */
    uint64_t last_ended_ns, read_ns;
    puff__pg_cancel *cancel; /* a CancelRequest is on its way: no new queries */
    puff_timer grace_timer;  /* runs from a CancelRequest to the next answer */
    uint64_t grace_ms;
    uint64_t cancel_reaches; /* slots before this number may have been hit by one */
    uint64_t *closing;       /* owned: ids of statements to close */
    int n_closing, cap_closing;
    bool blocked; /* the kernel takes no more: no new queries */
    bool broken;  /* it can only be dropped */
    bool tainted; /* a query left a transaction open */
} puff__pg_lane;

/* max_depth: how many queries at most are on their way. PUFF_ENOMEM. */
int puff__pg_lane_init(puff__pg_lane *lane, puff_pg_pool *pool, const puff__pg_stmts *cache,
                       int index, int max_depth);
void puff__pg_lane_deinit(puff__pg_lane *lane);
/* The connection is new, or gone. Slots must have been taken out. */
void puff__pg_lane_reset(puff__pg_lane *lane);

static inline puff__pg_slot *puff__pg_lane_head(puff__pg_lane *lane) {
    return &lane->slots[lane->head & (lane->cap - 1)];
}
/* The first slot, taken out. */
puff__pg_slot puff__pg_lane_pop(puff__pg_lane *lane);

/* Writing, into libpq's buffer (libpq before 17 sends it at once). 0; PUFF_ENOMEM: nothing will run
 * and the lane stands; PUFF_ECLOSED: nothing will run and the lane is broken. On 0 st is used by
 * the slot. */
int puff__pg_lane_describe(puff__pg_lane *lane, puff__pg_stmt *st);
int puff__pg_lane_query(puff__pg_lane *lane, puff_pg_query *q, puff__pg_stmt *st,
                        const puff_pg_params *params);
/* Closes a statement of ours some time later. */
void puff__pg_lane_close_statement(puff__pg_lane *lane, uint64_t id);
/* Sends what is queued, as far as the kernel takes it. */
void puff__pg_lane_flush(puff__pg_lane *lane);
/* Cancels the query of the head slot. 0, PUFF_ENOMEM, UV_E*. */
int puff__pg_lane_cancel(puff__pg_lane *lane);
/* How long the head slot has been running at now_ns. */
uint64_t puff__pg_lane_running_ns(puff__pg_lane *lane, uint64_t now_ns);
/* For puff__pg_conn_cbs. */
void puff__pg_lane_on_ready(puff__pg_conn *c, int events);

/* What the pool is told (query.c, pool.c). None of these may close the lane but the last two.
 * A slot has its answer; res is now the callee's. */
void puff__pg_on_answer(puff__pg_lane *lane, puff__pg_slot *slot, PGresult *res);
/* A batch of answers has been read: there may be room. */
void puff__pg_on_batch(puff__pg_lane *lane);
/* lane.broken has been set, or the connection is lost. */
void puff__pg_on_broken(puff__pg_lane *lane);

#endif
