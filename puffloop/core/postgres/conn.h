/* conn.h - one connection to a server: made without blocking, then watched. See conn.c. */
#ifndef PUFF_CORE_POSTGRES_CONN_H
#define PUFF_CORE_POSTGRES_CONN_H

#include "conninfo.h"

typedef struct puff__pg_conn puff__pg_conn;

typedef struct puff__pg_conn_cbs {
    /* Once, in a later turn: err NULL is success, and the connection is in pipeline mode. */
    void (*on_open)(puff__pg_conn *c, const puff_err *err);
    /* While it is open: PUFF_READABLE, PUFF_WRITABLE as asked for. With PUFF_DISCONNECT the socket
     * has failed and nothing more will be reported: what is still in it can be read now. */
    void (*on_ready)(puff__pg_conn *c, int events);
} puff__pg_conn_cbs;

struct puff__pg_conn {
    puff_loop *loop;               /* borrowed; outlives us */
    const puff__pg_conninfo *info; /* borrowed; outlives us */
    const puff__pg_conn_cbs *cbs;  /* borrowed; outlives us */
    PGconn *pg;                    /* owned */
    puff_poll *poll;               /* owned */
    puff__pg_resolve *resolve;     /* owned, while names are looked up */
    puff_timer timer;              /* connect_timeout */
    puff_defer report;             /* an outcome that was there at once */
    uint64_t timeout_ms;
    puff_err err;
    puff_err farewell; /* what the server said last outside of any query: why it closes */
    bool open;
};

/* Begins; on_open says how it ended. The storage must stay until on_open(err) or
 * puff__pg_conn_close(). */
void puff__pg_conn_open(puff__pg_conn *c, puff_loop *loop, const puff__pg_conninfo *info,
                        uint64_t timeout_ms, const puff__pg_conn_cbs *cbs);
/* At once, in any state; no callback comes after. Twice is allowed. */
void puff__pg_conn_close(puff__pg_conn *c);
/* What on_ready is wanted for. UV_E*. */
int puff__pg_conn_watch(puff__pg_conn *c, int events);
/* In a child process: what libpq will say at the end goes nowhere. */
void puff__pg_conn_forked(puff__pg_conn *c);

/* Sends a CancelRequest from a thread; done(arg) once, in a later turn, whether it worked or
 * not. PUFF_ENOMEM, UV_E*: done does not run. */
typedef struct puff__pg_cancel puff__pg_cancel;
int puff__pg_conn_cancel(puff__pg_cancel **out, puff__pg_conn *c, void (*done)(void *arg),
                         void *arg);
/* The connection goes away: done does not run. */
void puff__pg_cancel_detach(puff__pg_cancel *k);

#endif
