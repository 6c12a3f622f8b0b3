/* puff/postgres.h - a pool of shared Postgres connections ("lanes"), each a libpq pipeline.
 *
 * Queries of unrelated callers travel on the same connections: each has a Sync of its own, so each
 * is its own transaction and has its own error. Statements are prepared once per lane and described
 * once per pool; results are binary. What needs a session (BEGIN, COPY, LISTEN, SET) is refused
 * here.
 *
 * Threads: all of it belongs to the loop's thread. Callbacks run from puff_loop_turn() and never
 * before the call that registered them has returned, but for puff_pg_encode_cb, which says
 * otherwise.
 */
#ifndef PUFF_POSTGRES_H
#define PUFF_POSTGRES_H

#include "puff/base.h"
#include "puff/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- types --------------------------------------------------------------------------------- */

/* How the bytes of a value in binary format are laid out. */
typedef enum puff_pg_kind {
    PUFF_PG_UNKNOWN, /* not in the table: a user's type */
    PUFF_PG_VOID,
    PUFF_PG_BOOL,
    PUFF_PG_CHAR, /* "char": one byte */
    PUFF_PG_INT2,
    PUFF_PG_INT4,
    PUFF_PG_INT8,
    PUFF_PG_UINT4, /* oid, xid, cid, and reg* (whose text is a name) */
    PUFF_PG_UINT8, /* xid8, pg_lsn */
    PUFF_PG_FLOAT4,
    PUFF_PG_FLOAT8,
    PUFF_PG_NUMERIC,
    PUFF_PG_MONEY, /* int8, in units of the last digit of lc_monetary */
    PUFF_PG_TEXT,  /* text, varchar, bpchar, name, xml, refcursor, ... */
    PUFF_PG_BYTEA,
    PUFF_PG_UUID,
    PUFF_PG_DATE,
    PUFF_PG_TIME,
    PUFF_PG_TIMETZ,
    PUFF_PG_TIMESTAMP,
    PUFF_PG_TIMESTAMPTZ,
    PUFF_PG_INTERVAL,
    PUFF_PG_JSON,     /* text */
    PUFF_PG_JSONB,    /* a version byte (1), then text */
    PUFF_PG_JSONPATH, /* a version byte (1), then text */
    PUFF_PG_INET,     /* and cidr */
    PUFF_PG_MACADDR,  /* 6 or 8 bytes */
    PUFF_PG_BIT,      /* and varbit */
    PUFF_PG_TID,
    PUFF_PG_SNAPSHOT,
    PUFF_PG_POINT,
    PUFF_PG_LSEG,
    PUFF_PG_PATH,
    PUFF_PG_BOX,
    PUFF_PG_POLYGON,
    PUFF_PG_LINE,
    PUFF_PG_CIRCLE,
    PUFF_PG_TSVECTOR,
    PUFF_PG_TSQUERY,
    PUFF_PG_RECORD,
    PUFF_PG_ARRAY,
    PUFF_PG_RANGE,
    PUFF_PG_MULTIRANGE,
    PUFF_PG_TEXT_ONLY /* the server has no binary form of it (aclitem) */
} puff_pg_kind;

typedef struct puff_pg_type {
    uint32_t oid;
    uint32_t array_oid; /* the type whose elements are this one; 0: none */
    uint32_t elem_oid;  /* an array's element, a range's subtype, a multirange's range */
    puff_pg_kind kind;
    const char *name;
} puff_pg_type;

/* A built-in type, whose OID is the same on every server. NULL when it is none. Any thread. */
PUFF_API const puff_pg_type *puff_pg_type_by_oid(uint32_t oid);
PUFF_API const puff_pg_type *puff_pg_type_by_name(const char *name);
/* Every row of the table, ordered by OID. */
PUFF_API const puff_pg_type *puff_pg_types(size_t *n);

/* ---- statements ---------------------------------------------------------------------------- */

typedef struct puff_pg_column {
    const char *name;
    uint32_t oid;       /* of its type; a domain is shown as what it is over */
    int32_t fmod;       /* type modifier, -1: none */
    uint32_t table_oid; /* 0: not a plain column of a table */
    int16_t table_column;
} puff_pg_column;

/* What a pool knows of one SQL text, as the server has described it. Read only, but for host. It is
 * shared by all queries with this text and replaced by a new one when DDL has changed its columns.
 */
typedef struct puff_pg_statement {
    const char *sql;
    size_t sql_len;
    int n_params, n_columns;
    const uint32_t *param_oids;
    const puff_pg_column *columns;
    /* The host's own: codecs it has chosen, a row layout. host_free(host) runs once, on the loop's
     * thread, when the last reference goes. NULL at first. */
    void *host;
    void (*host_free)(void *host);
} puff_pg_statement;

/* To keep one after the callback that showed it. Must be given back before the pool's on_close. */
PUFF_API void puff_pg_statement_ref(puff_pg_statement *st);
PUFF_API void puff_pg_statement_unref(puff_pg_statement *st);

/* ---- parameters ---------------------------------------------------------------------------- */

typedef struct puff_pg_param {
    const void *data; /* borrowed until on_done; NULL with len -1 */
    int32_t len;      /* bytes; -1: NULL */
    int16_t format;   /* 0 text (a NUL follows, none is in it), 1 binary */
    uint32_t oid;     /* what binary data is encoded as: another type than the server wants is
                         PUFF_EARG instead of misread bytes. 0: not checked */
} puff_pg_param;

/* Where an encode callback puts the parameters of a query; all are NULL when it begins. Index i is
 * from 0; format is 0 for text (a NUL follows, none is in it) and 1 for binary. Every function
 * returns 0, PUFF_ENOMEM, PUFF_ELIMIT (max_param_bytes), or PUFF_EARG for an i that is out of range
 * and for text with a NUL. */
typedef struct puff_pg_params puff_pg_params;

PUFF_API int puff_pg_params_null(puff_pg_params *p, int i);
/* Borrowed until the query's on_done. */
PUFF_API int puff_pg_params_ref(puff_pg_params *p, int i, const void *data, size_t len, int format);
/* A copy. */
PUFF_API int puff_pg_params_copy(puff_pg_params *p, int i, const void *data, size_t len,
                                 int format);
/* Room for len bytes that the caller fills before its callback returns; NULL: one of the above. */
PUFF_API char *puff_pg_params_reserve(puff_pg_params *p, int i, size_t len, int format);
/* Binary, in network order. */
PUFF_API int puff_pg_params_bool(puff_pg_params *p, int i, bool v);
PUFF_API int puff_pg_params_int2(puff_pg_params *p, int i, int16_t v);
PUFF_API int puff_pg_params_int4(puff_pg_params *p, int i, int32_t v);
PUFF_API int puff_pg_params_int8(puff_pg_params *p, int i, int64_t v);
PUFF_API int puff_pg_params_float4(puff_pg_params *p, int i, float v);
PUFF_API int puff_pg_params_float8(puff_pg_params *p, int i, double v);
/* v as the described type wants it: int2, int4, int8, oid, xid8, float4, float8, numeric or text.
 * PUFF_ELIMIT when it does not fit, PUFF_EARG when that type takes no integer. */
PUFF_API int puff_pg_params_integer(puff_pg_params *p, int i, int64_t v);

/* ---- results ------------------------------------------------------------------------------- */

typedef struct pg_result puff_pg_result; /* it is libpq's PGresult */

typedef struct puff_pg_cell {
    const char *ptr; /* borrowed from the result; a NUL follows */
    int32_t len;     /* -1: NULL */
} puff_pg_cell;

PUFF_API int puff_pg_result_n_rows(const puff_pg_result *res);
PUFF_API int puff_pg_result_n_columns(const puff_pg_result *res);
/* 0 text, 1 binary: the same for all columns. */
PUFF_API int puff_pg_result_format(const puff_pg_result *res);
PUFF_API puff_pg_cell puff_pg_result_cell(const puff_pg_result *res, int row, int column);
/* One row at once into cells[n_columns]: the cheapest way through a large result. */
PUFF_API void puff_pg_result_row(const puff_pg_result *res, int row, puff_pg_cell *cells);
/* "INSERT 0 5"; never NULL. */
PUFF_API const char *puff_pg_result_tag(const puff_pg_result *res);
/* Rows inserted, updated, deleted, selected, moved, copied; -1 where the tag has no number. */
PUFF_API int64_t puff_pg_result_affected(const puff_pg_result *res);
/* Values from binary cells; the caller has looked at the type and the length. */
PUFF_API int16_t puff_pg_get_int2(const char *p);
PUFF_API int32_t puff_pg_get_int4(const char *p);
PUFF_API int64_t puff_pg_get_int8(const char *p);
PUFF_API float puff_pg_get_float4(const char *p);
PUFF_API double puff_pg_get_float8(const char *p);
/* A result that was taken (puff_pg_query_take). Any thread. */
PUFF_API void puff_pg_result_free(puff_pg_result *res);

/* Why a query failed. Strings are NULL where the server said nothing; all are borrowed until
 * on_done returns. err.code is
 *   PUFF_EDB       the server refused it: err.sqlstate, err.msg and the fields below
 *   PUFF_EARG      wrong number or kind of parameters, SQL that needs a session; encode failed
 *   PUFF_ETIMEOUT  query_timeout, or queue_timeout while it waited for a connection
 *   PUFF_ECANCELED puff_pg_query_cancel()
 *   PUFF_ECONNECT, PUFF_EAUTH  no connection could be made (sqlstate where the server gave one)
 *   PUFF_ECLOSED   the connection was lost while it was on its way (maybe_executed), or the pool
 *                  closes
 *   PUFF_ELIMIT    max_waiting queries wait already
 *   PUFF_EPROTO    the server's answer made no sense
 *   PUFF_ENOMEM */
typedef struct puff_pg_error {
    puff_err err;
    bool maybe_executed; /* it was written and its fate is not known */
    const char *severity, *message, *detail, *hint, *position, *context;
    const char *schema, *table, *column, *datatype, *constraint;
    const char *internal_query, *internal_position, *source_file, *source_line, *source_function;
} puff_pg_error;

/* ---- pool ---------------------------------------------------------------------------------- */

typedef struct puff_pg_pool puff_pg_pool;

/* 0 (or NULL) takes the default in every field. */
typedef struct puff_pg_pool_options {
    size_t size;     /* sizeof(puff_pg_pool_options) */
    const char *dsn; /* URI or keywords, as libpq takes them; NULL: libpq's environment */
    int n_lanes_min; /* 1: kept open, and reconnected, once the pool has been used */
    int n_lanes_max; /* 4: opened one by one when the others are busy */
    int max_depth;   /* 64 queries on their way on one lane: bounds what its loss can lose */
    int max_waiting; /* 10000 queries without a lane: a stalled database must not eat memory */
    int statement_cache_size;    /* 256 SQL texts; -1: none is kept */
    uint64_t connect_timeout_ms; /* 10000, also for name resolution and authentication */
    uint64_t queue_timeout_ms;   /* 30000 from submit until it is written */
    /* None: from submit until the answer. What runs on the server then is cancelled there, if it is
     * at the head of its lane; a lane that answers neither for 5 s more is given up. */
    uint64_t query_timeout_ms;
    uint64_t idle_timeout_ms; /* 300000: lanes above the minimum are closed after */
    uint64_t backoff_min_ms;  /* 50: between attempts to connect, doubled each time up to */
    uint64_t backoff_max_ms;  /* 5000; half of it is random */
    size_t max_param_bytes;   /* 1 GiB less 1 MiB, about the server's limit: of one query */
} puff_pg_pool_options;

#define PUFF_PG_NEVER UINT64_MAX /* for a timeout: none */

/* Parses and keeps the options; connects on first use. PUFF_EARG (err says what is wrong with the
 * dsn or an option), PUFF_ENOMEM. */
PUFF_API int puff_pg_pool_new(puff_pg_pool **out, puff_loop *loop, const puff_pg_pool_options *opts,
                              puff_err *err);
PUFF_API puff_loop *puff_pg_pool_loop(puff_pg_pool *pool);

/* Fails what waits with PUFF_ECLOSED, gives what runs drain_ms to end, fails the rest, closes the
 * connections, then on_close(arg) once: the pool is freed when that returns. Twice is not allowed.
 * A loop must not be freed before. */
PUFF_API void puff_pg_pool_close(puff_pg_pool *pool, uint64_t drain_ms, void (*on_close)(void *arg),
                                 void *arg);

/* In a child process after puff_loop_fork(), before anything else: the connections are the
 * parent's, so this process lets go of them without a word to the server. Close the pool then: what
 * waits in it fails. */
PUFF_API void puff_pg_pool_forked(puff_pg_pool *pool);

typedef struct puff_pg_pool_stats {
    int n_lanes; /* connected */
    int n_idle;  /* of these, with nothing on its way */
    int n_connecting;
    int n_waiting;    /* queries without a lane */
    int n_in_flight;  /* queries written and not answered, abandoned ones too */
    int n_statements; /* in the cache */
    uint64_t n_queries, n_errors, n_timeouts, n_canceled, n_retries; /* since the pool was made */
    uint64_t n_connects, n_connect_failures, n_lanes_lost;
    uint64_t n_prepares, n_flushes, n_cancel_requests;
} puff_pg_pool_stats;

PUFF_API void puff_pg_pool_get_stats(puff_pg_pool *pool, puff_pg_pool_stats *out);

/* ---- query --------------------------------------------------------------------------------- */

typedef struct puff_pg_query puff_pg_query;

/* Encodes the parameters of q for st (q->n_params == st->n_params has been checked). Runs on the
 * loop's thread, at once from puff_pg_submit() when the statement is known and a lane is free, else
 * from a later turn; once as a rule, again when q must be written anew, never when it is cancelled
 * before. Must not call into the pool. Not 0: q fails with PUFF_EARG and nothing is written; the
 * host keeps its own error in q->data. */
typedef int (*puff_pg_encode_cb)(puff_pg_query *q, puff_pg_statement *st, puff_pg_params *params);

/* The answer, once: res or err, the other is NULL. Both are borrowed until return, q->statement
 * too. q may be freed or submitted again in it. */
typedef void (*puff_pg_query_cb)(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err);

/* Your storage: zero it (puff_pg_query_init), set the first part, submit it, keep it until on_done.
 */
struct puff_pg_query {
    const char
        *sql; /* borrowed until on_done; a NUL follows; one statement, parameters are $1, $2 */
    size_t sql_len;
    int n_params;
    const puff_pg_param *params; /* borrowed until on_done; or NULL and */
    puff_pg_encode_cb encode;    /* wins over params */
    puff_pg_query_cb on_done;
    uint64_t timeout_ms; /* 0: the pool's */
    bool text_results;   /* text instead of binary; encode may set it when it sees the columns */
    void *data;          /* yours */

    puff_pg_statement *statement; /* set in encode and on_done; NULL when it was never described */

    /* The pool's. */
    puff_pg_pool *pool;
    puff_queue node;
    puff_timer timer;
    struct puff__pg_slot *slot; /* while it is written and not answered */
    puff_err *error;            /* owned; what on_done will say, NULL: what error_code says */
    uint64_t queue_deadline_ns;
    int error_code;
    unsigned char state, n_retries;
    bool maybe_executed;
};

PUFF_API void puff_pg_query_init(puff_pg_query *q);
/* Every outcome comes by on_done, in a later turn. */
PUFF_API void puff_pg_submit(puff_pg_pool *pool, puff_pg_query *q);
/* Nobody waits any more: on_done comes in a later turn, with PUFF_ECANCELED. What is written stays
 * written: it may run, and its answer is read and dropped. After on_done: not allowed. */
PUFF_API void puff_pg_query_cancel(puff_pg_query *q);
/* In on_done: the result becomes the caller's (puff_pg_result_free). */
PUFF_API puff_pg_result *puff_pg_query_take(puff_pg_query *q);

#ifdef __cplusplus
}
#endif
#endif
