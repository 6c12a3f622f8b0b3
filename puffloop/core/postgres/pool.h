/* pool.h - the inside of a pool, for pool.c (lanes) and query.c (queries). */
#ifndef PUFF_CORE_POSTGRES_POOL_H
#define PUFF_CORE_POSTGRES_POOL_H

#include "pipeline.h"

enum { PUFF__PG_MAX_LANES = 64 }; /* one bit each in puff__pg_stmt.prepared */

struct puff_pg_pool {
    puff_loop *loop;           /* borrowed; outlives us */
    const puff_alloc *alloc;   /* borrowed; outlives us */
    puff_pg_pool_options opts; /* without dsn */
    puff__pg_conninfo conninfo;
    puff__pg_stmts stmts;
    puff_pg_params params;    /* of the query that is being written */
    puff_pg_result *answer;   /* of the query whose on_done runs; NULL once taken */
    puff_pg_pool_stats stats; /* the counters; the rest is counted when asked for */

    puff_queue waiting; /* of queries, first come first served */
    int n_waiting;
    puff_timer queue_timer; /* for the first of them */

    puff_queue done; /* of queries whose on_done runs from deliver */
    puff_defer deliver;

    puff_queue dirty; /* of lanes with something to flush, or broken */
    puff_defer flush;

    bool used;       /* a query has been submitted: lanes are kept open from now on */
    bool more_lanes; /* the lanes there are have too much to do */
    puff_timer backoff_timer, idle_timer;
    uint64_t backoff_ms;  /* the next wait; 0: the last attempt went well */
    puff_err connect_err; /* of the last attempt that failed */
    uint64_t rtt_ns;      /* the shortest answer yet: what the network and the loop cost */
    uint64_t random;

    bool closing, drop; /* drop: what still runs is not waited for any more */
    puff_timer drain_timer;
    void (*on_close)(void *arg);
    void *on_close_arg;

    bool unchecked;        /* for tests: sql.c is not asked */
    puff__pg_lane lanes[]; /* opts.n_lanes_max */
};

/* ---- pool.c: lanes ---- */
/* A lane for a query that is expected to cost est_ns; NULL: wait. */
puff__pg_lane *puff__pg_pool_pick(puff_pg_pool *pool, uint64_t est_ns);
/* Flushes the lane at the end of the turn; also deals with one that is broken. */
void puff__pg_pool_touch(puff_pg_pool *pool, puff__pg_lane *lane);
/* Opens a lane when queries wait, or fewer than the minimum are open. */
void puff__pg_pool_want_lanes(puff_pg_pool *pool);
/* Sends off what waits, as far as there is room. */
void puff__pg_pool_pump(puff_pg_pool *pool);
/* A query has ended, or a lane: perhaps that was what close waits for. */
static inline void puff__pg_pool_check_closed(puff_pg_pool *pool) {
    if (pool->closing) puff_loop_defer(pool->loop, &pool->deliver);
}
/* At the end of deliver: may free the pool. */
void puff__pg_pool_try_close(puff_pg_pool *pool);

/* ---- query.c: queries ---- */
void puff__pg_queries_init(puff_pg_pool *pool);
/* Tries to write q, or parks it with its statement, or fails it. False: there is no lane for it
 * now. */
bool puff__pg_query_place(puff_pg_pool *pool, puff_pg_query *q);
/* Fails everything that waits for a lane. */
void puff__pg_queries_fail_waiting(puff_pg_pool *pool, const puff_err *err);
/* Fails everything that waits for a description. */
void puff__pg_queries_fail_parked(puff_pg_pool *pool, const puff_err *err);
/* The lane is lost with everything on it. */
void puff__pg_queries_lane_lost(puff__pg_lane *lane, const puff_err *why);

#endif
