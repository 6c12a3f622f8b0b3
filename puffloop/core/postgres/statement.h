/* statement.h - what a pool knows of each SQL text. See statement.c. */
#ifndef PUFF_CORE_POSTGRES_STATEMENT_H
#define PUFF_CORE_POSTGRES_STATEMENT_H

#include <libpq-fe.h>

#include "puff/postgres.h"

enum { PUFF__PG_NAME_CAP = 32 };

typedef struct puff__pg_stmts puff__pg_stmts;

typedef struct puff__pg_stmt {
    puff_pg_statement pub; /* first: the two are cast into each other */
    puff__pg_stmts *cache; /* borrowed; outlives us */
    struct puff__pg_stmt *next_in_bucket;
    puff_queue all, lru; /* lru: only while cached */
    puff_queue waiters;  /* queries that wait for the description */
    uint64_t hash;
    uint64_t prepared; /* one bit a lane: Prepare was written there */
    uint64_t verified; /* and its columns are known to be these */
    uint64_t ewma_ns;  /* server time of one execution; 0: never executed */
    int refs;          /* of the memory: the host's and one for uses > 0 */
    int uses;          /* by the cache, queries and slots: at 0 the lanes close it */
    bool cached, described, describing;
    bool text_only; /* a column has no binary form */
    uint64_t id;
    void *description;            /* owned: OIDs, columns and their names in one block */
    char name[PUFF__PG_NAME_CAP]; /* of the prepared statement on every lane */
    char sql[];
} puff__pg_stmt;

struct puff__pg_stmts {
    const puff_alloc *alloc; /* borrowed; outlives us */
    puff__pg_stmt **buckets; /* owned */
    size_t n_buckets;
    puff_queue all, lru; /* lru: the one used last is last */
    int n_cached, max_cached;
    uint32_t token; /* makes our names differ from those of another pool behind a pooler */
    uint64_t n_made;
    /* Nothing of the pool's uses st any more: its name can be closed where it is prepared. */
    void (*on_unused)(puff__pg_stmts *cache, puff__pg_stmt *st);
};

int puff__pg_stmts_init(puff__pg_stmts *c, const puff_alloc *alloc, int max_cached,
                        void (*on_unused)(puff__pg_stmts *cache, puff__pg_stmt *st));
void puff__pg_stmts_deinit(puff__pg_stmts *c);

/* The statement with this text, used once more for the caller; made when there is none. NULL: no
 * memory. */
puff__pg_stmt *puff__pg_stmts_get(puff__pg_stmts *c, puff_str sql);
/* The next query with this text makes a new one. */
void puff__pg_stmts_forget(puff__pg_stmt *st);
void puff__pg_stmt_use(puff__pg_stmt *st);
void puff__pg_stmt_unuse(puff__pg_stmt *st);

/* The name under which statement id is prepared. */
void puff__pg_stmt_name(const puff__pg_stmts *c, uint64_t id, char name[PUFF__PG_NAME_CAP]);
/* What one more execution is expected to cost the server, and what one has cost. */
uint64_t puff__pg_stmt_est_ns(const puff__pg_stmt *st);
void puff__pg_stmt_took(puff__pg_stmt *st, uint64_t ns);

/* Takes parameters and columns from what PQsendDescribePrepared brought. PUFF_ENOMEM. */
int puff__pg_stmt_describe(puff__pg_stmt *st, const PGresult *res);
bool puff__pg_stmt_matches(const puff__pg_stmt *st, const PGresult *res);
/* st with the columns of res, in its place in the cache, used once for the caller. NULL: no memory.
 */
puff__pg_stmt *puff__pg_stmt_renew(puff__pg_stmt *st, const PGresult *res);
/* The connection of this lane is gone, and with it what was prepared there. */
void puff__pg_stmts_lane_gone(puff__pg_stmts *c, uint64_t lane_bit);

#endif
