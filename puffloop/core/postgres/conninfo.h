/* conninfo.h - a DSN, and where its hosts are. See conninfo.c. */
#ifndef PUFF_CORE_POSTGRES_CONNINFO_H
#define PUFF_CORE_POSTGRES_CONNINFO_H

#include <libpq-fe.h>

#include "puff/postgres.h"

typedef struct puff__pg_conninfo {
    PQconninfoOption *options;   /* owned, libpq's memory: what the DSN says */
    uint64_t connect_timeout_ms; /* as the DSN says; 0: it does not */
} puff__pg_conninfo;

/* PUFF_EARG with err, PUFF_ENOMEM. */
int puff__pg_conninfo_init(puff__pg_conninfo *ci, const char *dsn, puff_err *err);
void puff__pg_conninfo_deinit(puff__pg_conninfo *ci);

/* The three lists that libpq walks through in step; all NULL: as the DSN has them. */
typedef struct puff__pg_hosts {
    char *host, *hostaddr, *port; /* owned by whoever got them; puff__pg_hosts_deinit */
} puff__pg_hosts;

void puff__pg_hosts_deinit(puff__pg_hosts *h, const puff_alloc *alloc);

/* PQconnectStartParams with our defaults, what the DSN says, and the resolved hosts. NULL: no
 * memory. */
PGconn *puff__pg_conninfo_start(const puff__pg_conninfo *ci, const puff__pg_hosts *hosts);

/* Looks the host names up without blocking. cb once, in a later turn: hosts are the callee's then.
 */
typedef struct puff__pg_resolve puff__pg_resolve;
typedef void (*puff__pg_resolve_cb)(void *arg, const puff__pg_hosts *hosts, const puff_err *err);

/* True when a name has to be resolved; false: connect at once. */
bool puff__pg_conninfo_has_names(const puff__pg_conninfo *ci);
/* Only where it has. The DSN must outlive it. */
int puff__pg_resolve_start(puff__pg_resolve **out, puff_loop *loop, const puff__pg_conninfo *ci,
                           puff__pg_resolve_cb cb, void *arg);
/* cb does not run. */
void puff__pg_resolve_cancel(puff__pg_resolve *r);

#endif
