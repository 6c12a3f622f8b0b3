/* server.h - tests against the Postgres in PUFF_TEST_POSTGRES: a loop, a pool, and queries that
 * note how they ended. Without the variable the program exits 77, which meson calls a skip. */
#ifndef TEST_POSTGRES_SERVER_H
#define TEST_POSTGRES_SERVER_H

#include "check.h"
#include "puff/postgres.h"

/* The DSN; ends the program when there is none. */
const char *server_dsn(void);
/* The same server with another keyword, such as "dbname=x"; a static buffer. */
const char *server_dsn_with(const char *keywords);

typedef struct bed {
    puff_alloc_failing alloc; /* counts what lives, and fails when told to */
    puff_loop *loop;
    puff_pg_pool *pool;
    bool closed;
} bed;

/* opts NULL: two lanes at most. Without a dsn in them: the server's. */
void bed_open(bed *b, const puff_pg_pool_options *opts);
/* Closes the pool (drain_ms) and the loop, and checks that nothing lives any more. */
void bed_close(bed *b, uint64_t drain_ms);
void bed_on_closed(void *arg); /* for a test that closes the pool itself, then */
void bed_free(bed *b);
/* Turns until *flag, 20 s at most. */
void bed_until(bed *b, const bool *flag);
puff_pg_pool_stats bed_stats(bed *b);

typedef struct ask {
    puff_pg_query q;
    bool done;
    int n_done; /* how often on_done ran */
    int code;   /* 0 or the error's */
    char sqlstate[6], msg[498];
    bool maybe_executed;
    int n_rows, n_columns;
    int64_t affected;
    char tag[64], text[256]; /* text: the first cell */
    int32_t len;             /* of it; -1: NULL */
    int format;
    uint64_t timeout_ms;
    puff_pg_param params[8];
    int *order; /* where to note as which one it ended; may be NULL */
    int place;
} ask;

/* Submits; a->params and n_params count. */
void ask_submit(bed *b, ask *a, const char *sql, int n_params);
/* Submits and turns until it has ended. */
void ask_run(bed *b, ask *a, const char *sql, int n_params);
/* ask_run() that must succeed. */
void must_run(bed *b, const char *sql);
puff_pg_param text_param(const char *s);
puff_pg_param int4_param(char bytes[4], int32_t v);

#endif
