/* puff/redis.h - a pool of Redis or Valkey connections on a loop, and commands sent through it.
 *
 * Commands of unrelated callers share connections: what one turn of the loop submits leaves in one
 * write, and answers come back in order. What would disturb the others does not share: a command
 * that blocks on the server (BLPOP, XREAD BLOCK ...) is given a connection of its own, a command
 * that changes the state of its session (MULTI, SUBSCRIBE, SELECT ...) is refused.
 *
 * Everything here belongs to the loop's thread. Callbacks run exactly once, always from
 * puff_loop_turn(), never before the call that registered them has returned.
 */
#ifndef PUFF_REDIS_H
#define PUFF_REDIS_H

#include "puff/base.h"
#include "puff/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- replies ------------------------------------------------------------------------------- */

/* What a value of a reply is. Those after ARRAY only come in RESP3. */
typedef enum puff_redis_kind {
    PUFF_REDIS_NIL,
    PUFF_REDIS_STATUS, /* "OK", "QUEUED" */
    PUFF_REDIS_STRING,
    PUFF_REDIS_INT,
    PUFF_REDIS_ERROR, /* only inside an array: as a whole reply it is a PUFF_EREPLY */
    PUFF_REDIS_ARRAY,
    PUFF_REDIS_MAP, /* keys and values in turn */
    PUFF_REDIS_SET,
    PUFF_REDIS_DOUBLE,
    PUFF_REDIS_BOOL,
    PUFF_REDIS_BIGNUM,   /* its decimal digits */
    PUFF_REDIS_VERBATIM, /* without the three letters of its format */
} puff_redis_kind;

/* The reply that a pool without a builder of its host's makes. A tree; elements[0..n_elements-1]
 * are never NULL. str has a NUL after its last byte. */
typedef struct puff_redis_reply {
    puff_redis_kind kind;
    union {
        int64_t integer; /* INT, BOOL */
        double real;     /* DOUBLE */
        struct {
            char *str; /* STATUS, STRING, ERROR, BIGNUM, VERBATIM */
            size_t len;
        };
        struct {
            struct puff_redis_reply **elements; /* ARRAY, MAP, SET */
            size_t n_elements;
        };
    };
    const puff_alloc *alloc; /* borrowed; outlives us */
} puff_redis_reply;

PUFF_API void puff_redis_reply_free(puff_redis_reply *reply); /* NULL is allowed */

/* Where a value goes: parent is what the builder's array() returned, NULL for the whole reply. */
typedef struct puff_redis_place {
    void *parent;
    size_t index;
} puff_redis_place;

/* How a host has its own objects made straight from the bytes of a reply. Each function makes one
 * value and, where place.parent is set, puts it there: the parent owns it then. ctx is the arg of
 * the command. Bytes are borrowed until return. NULL means out of memory: the connection ends.
 * Functions must not call back into the pool. Replies that nobody waits for are not built. */
typedef struct puff_redis_builder {
    size_t size; /* sizeof(puff_redis_builder) */
    void *(*nil)(void *ctx, puff_redis_place at);
    void *(*integer)(void *ctx, puff_redis_place at, puff_redis_kind kind, int64_t value);
    void *(*real)(void *ctx, puff_redis_place at, double value);
    void *(*text)(void *ctx, puff_redis_place at, puff_redis_kind kind, const char *s, size_t len);
    /* n values follow, if the peer keeps its word: do not believe a large n before they are there.
     * A missing array (RESP2's "*-1") is nil. */
    void *(*array)(void *ctx, puff_redis_place at, puff_redis_kind kind, size_t n);
    void (*discard)(void *reply); /* a whole reply, perhaps incomplete, that no callback will get */
} puff_redis_builder;

/* ---- pool ---------------------------------------------------------------------------------- */

typedef struct puff_redis_pool puff_redis_pool;

#define PUFF_REDIS_NO_TIMEOUT UINT64_MAX

/* Zero takes the default. Strings are copied. */
typedef struct puff_redis_options {
    size_t size; /* sizeof(puff_redis_options) */
    /* redis://[[user]:password@]host[:port][/db], unix://[[user]:password@]/path[?db=n] or a path
     * that begins with '/'. valkey:// is redis://. Parts are percent-decoded. NULL:
     * redis://127.0.0.1:6379/0. rediss:// is refused with an error for now. */
    const char *url;
    const char *client_name;     /* CLIENT SETNAME; NULL: "puff", "": none */
    uint64_t connect_timeout_ms; /* 5000: address, connection, AUTH and SELECT together */
    uint64_t timeout_ms;         /* 10000: from submit to reply; PUFF_REDIS_NO_TIMEOUT */
    unsigned n_connections;  /* 1, shared; with more, a caller's commands may overtake each other */
    unsigned max_in_flight;  /* 1000 commands per shared connection, then they wait their turn */
    unsigned max_waiting;    /* 100000: more are refused, a dead server must not eat the memory */
    unsigned max_exclusive;  /* 64 connections for blocking commands, then they wait their turn */
    uint64_t backoff_min_ms; /* 20: first delay after a failed connect, doubled for each further */
    uint64_t backoff_max_ms; /* 1000 */
    size_t max_reply_bytes;  /* 1 GiB: twice the longest string that a server keeps by default */
    bool resp3;              /* HELLO 3, where libhiredis can read it; else PUFF_EARG */
    const puff_redis_builder *builder; /* borrowed; outlives the pool. NULL: puff_redis_reply */
} puff_redis_options;

/* Connects on first use. PUFF_EARG (err says what is wrong with the options), PUFF_ENOMEM. */
PUFF_API int puff_redis_pool_new(puff_redis_pool **out, puff_loop *loop,
                                 const puff_redis_options *opts, puff_err *err);
/* Outstanding commands get PUFF_ECLOSED, connections close, then the pool frees itself and
 * on_closed (may be NULL) runs. The pool must not be used after this call. */
PUFF_API void puff_redis_pool_close(puff_redis_pool *pool, void (*on_closed)(void *arg), void *arg);

typedef struct puff_redis_stats {
    size_t n_ready;     /* connections of any sort that can take commands */
    size_t n_in_flight; /* commands written, or about to be, without their reply */
    size_t n_waiting;   /* commands that wait for a connection or for room on one */
    uint64_t n_connects, n_connect_failures, n_lost; /* connections */
    uint64_t n_replies, n_timeouts;                  /* commands */
} puff_redis_stats;
PUFF_API puff_redis_stats puff_redis_pool_get_stats(puff_redis_pool *pool);

/* ---- commands ------------------------------------------------------------------------------ */

/* One outstanding command; valid until its callback has returned. */
typedef struct puff_redis_command puff_redis_command;

/* status 0: reply is the callee's now (puff_redis_reply_free(), or what the builder made). Else
 * reply is NULL and err (borrowed until return) says why:
 *   PUFF_EREPLY    the server answered with an error; the first word of msg is its code
 *   PUFF_ECANCELED puff_redis_command_cancel() was called
 *   PUFF_ETIMEOUT  no reply in time; the command may have run
 *   PUFF_ECLOSED   the connection or the pool closed; the command may have run if msg says so
 *   PUFF_ECONNECT  no connection could be made; it has not run
 *   PUFF_EAUTH     the server refused the password; it has not run
 *   PUFF_EPROTO    the peer does not speak RESP
 *   PUFF_ELIMIT    the reply is longer or more deeply nested than is allowed
 *   PUFF_ENOMEM    */
typedef void (*puff_redis_command_cb)(void *arg, int status, void *reply, const puff_err *err);

typedef struct puff_redis_command_options {
    size_t size; /* sizeof(puff_redis_command_options) */
    /* 0: the pool's; for a blocking command, whose arguments say how long it may wait: none. */
    uint64_t timeout_ms;
} puff_redis_command_options;

/* Encodes the command (argv is borrowed until return) and queues it. opts and out may be NULL. A
 * command that was not written when its connection was lost is tried again; one that was written
 * never is. PUFF_EARG (no arguments, or a command that needs a session: err says what to use),
 * PUFF_ELIMIT (too many are waiting, or too many bytes), PUFF_ENOMEM; cb does not run then. */
PUFF_API int puff_redis_command_submit(puff_redis_pool *pool, const puff_str *argv, size_t argc,
                                       const puff_redis_command_options *opts,
                                       puff_redis_command_cb cb, void *arg,
                                       puff_redis_command **out, puff_err *err);
/* The callback comes with PUFF_ECANCELED from a later turn, or with the reply if that was first. A
 * command on a shared connection keeps its place there, and its reply is read and dropped; a
 * blocking command ends with its connection. Twice is allowed. */
PUFF_API void puff_redis_command_cancel(puff_redis_command *command);
/* In the callback, after an error: whether the server may have seen the command. */
PUFF_API bool puff_redis_command_may_have_run(const puff_redis_command *command);

#ifdef __cplusplus
}
#endif
#endif
