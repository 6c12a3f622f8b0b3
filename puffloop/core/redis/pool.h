/* pool.h - what a connection and the pool that owns it say to each other. */
#ifndef PUFF_CORE_REDIS_POOL_H
#define PUFF_CORE_REDIS_POOL_H

#include "redis/conn.h"
#include "redis/url.h"

struct puff_redis_pool {
    puff_loop *loop;         /* borrowed; outlives us */
    const puff_alloc *alloc; /* borrowed; outlives us */
    puff_redis_options opts; /* defaults filled in; url is not kept */
    char *client_name;       /* owned */
    puff__redis_url url;
    char address[128]; /* for messages */

    puff_queue shared;    /* of puff__redis_conn that any command may use, or that will be */
    puff_queue exclusive; /* of puff__redis_conn for blocking commands; idle ones are first */
    size_t n_shared, n_exclusive;
    size_t n_opening_shared, n_opening_exclusive; /* of these, not READY yet */
    size_t n_conns;                               /* with those that are closing */

    puff_queue waiting;          /* of puff_redis_command, for a shared connection */
    puff_queue waiting_blocking; /* of puff_redis_command, for one of their own */
    size_t n_waiting, n_waiting_blocking;
    size_t waiting_bytes; /* at most PUFF__REDIS_MAX_OUT, and what lost its connection */
    size_t n_in_flight;
    size_t n_commands; /* not yet freed */

    puff_queue deadlines; /* of puff_redis_command, soonest first */
    puff_timer deadline_timer;
    puff_queue due; /* of puff_redis_command whose callback runs at the end of the turn */
    puff_defer run_due;

    puff_redis_command *spare; /* freed commands, linked by node.next */
    size_t n_spare;

    unsigned n_failures;    /* connects in a row */
    uint64_t not_before_ns; /* no new connection before */
    puff_timer retry_timer;
    puff_err last_error; /* of the last failed connect */
    uint64_t random;

    bool closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    puff_redis_stats stats;
};

/* given, with the defaults for what it leaves out. PUFF_EARG. */
int puff__redis_options_take(puff_redis_options *into, const puff_redis_options *given,
                             puff_err *err);

/* The connection is READY. */
void puff__redis_pool_ready(struct puff_redis_pool *pool, puff__redis_conn *conn);
/* It ended: before it was READY (connected is false) or after. Its commands are in orphans, in
 * order; those that were never written hold their bytes again and are WAITING. */
void puff__redis_pool_lost(struct puff_redis_pool *pool, puff__redis_conn *conn, bool connected,
                           puff_queue *orphans, const puff_err *err);
/* It has answered something: there may be room for those who wait. */
void puff__redis_pool_room(struct puff_redis_pool *pool, puff__redis_conn *conn);
/* A connection that was lost has been freed. */
void puff__redis_pool_closed(struct puff_redis_pool *pool);

/* A command of the pool's, all zero but for its links, or NULL. */
puff_redis_command *puff__redis_command_new(struct puff_redis_pool *pool);
void puff__redis_command_free(puff_redis_command *c);
/* Runs the callback unless it has run, then frees c unless it still has a slot. */
void puff__redis_command_finish(puff_redis_command *c, int status, void *reply,
                                const puff_err *err);

#endif
