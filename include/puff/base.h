/* puff/base.h - what every other part of libpuff stands on: errors, allocation, buffers, lists.
 *
 * Nothing here does I/O, nothing here is global. Threads: a value belongs to whoever made it; there
 * is no locking.
 */
#ifndef PUFF_BASE_H
#define PUFF_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PUFF_API __attribute__((visibility("default")))
#define PUFF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PUFF_API
#define PUFF_PRINTF(fmt, args)
#endif

#define PUFF_CONTAINER_OF(ptr, type, field) ((type *)((char *)(ptr)-offsetof(type, field)))

/* ---- errors -------------------------------------------------------------------------------- */

/* Control flow uses int: 0 or a negative code. libuv's UV_E* (negated errno) pass through; ours lie
 * below every one of them. */
enum {
    PUFF_ENOMEM = -12,     /* the same value as UV_ENOMEM */
    PUFF_ECANCELED = -125, /* the same value as UV_ECANCELED: nobody waits any more */
    PUFF_ELIMIT = -5001,   /* a ceiling that was stated when the thing was made */
    PUFF_EPROTO = -5002,   /* a peer broke its protocol */
    PUFF_ECLOSED = -5003,  /* the thing was closed before it could answer */
    PUFF_ETIMEOUT = -5004, /* a deadline of ours passed */
    PUFF_EARG = -5005,     /* an argument that no state of the world makes right */
    PUFF_EDB = -5006,      /* the database answered with an error: see sqlstate */
    PUFF_EAUTH = -5007,    /* credentials refused */
    PUFF_ECONNECT = -5008, /* no connection could be made */
    PUFF_EREPLY = -5009    /* Redis answered with an error reply */
};

enum puff_err_domain {
    PUFF_DOMAIN_NONE,
    PUFF_DOMAIN_SYSTEM, /* code is UV_E* */
    PUFF_DOMAIN_HTTP,
    PUFF_DOMAIN_POSTGRES, /* sqlstate is set where the server said one */
    PUFF_DOMAIN_REDIS
};

/* An error for people, passed by value. msg is one sentence without a final newline. */
typedef struct puff_err {
    int code;
    enum puff_err_domain domain;
    char sqlstate[6];
    char msg[498];
} puff_err;

/* Fills *err (may be NULL) and returns code, so that a function can end with it. */
PUFF_API int puff_err_set(puff_err *err, int code, enum puff_err_domain domain, const char *fmt,
                          ...) PUFF_PRINTF(4, 5);
/* A static name such as "PUFF_ELIMIT" or "ECONNREFUSED", else "UNKNOWN"; never NULL. */
PUFF_API const char *puff_err_name(int code);
/* A short static sentence for a code; never NULL. */
PUFF_API const char *puff_err_text(int code);

/* ---- allocation ---------------------------------------------------------------------------- */

/* Every loop carries one of these, and all memory of the core comes through it, so that a test can
 * make the n-th allocation fail. resize has realloc's meaning: ptr NULL allocates, size 0 frees and
 * returns NULL. */
typedef struct puff_alloc {
    void *(*resize)(void *ctx, void *ptr, size_t size);
    void *ctx;
} puff_alloc;

PUFF_API extern const puff_alloc puff_alloc_system;

PUFF_API void *puff_malloc(const puff_alloc *a, size_t size);
PUFF_API void *puff_calloc(const puff_alloc *a, size_t n, size_t size); /* overflow: NULL */
PUFF_API void *puff_realloc(const puff_alloc *a, void *ptr, size_t size);
PUFF_API void puff_free(const puff_alloc *a, void *ptr);                     /* NULL is allowed */
PUFF_API char *puff_strndup(const puff_alloc *a, const char *s, size_t len); /* adds a NUL */

/* For tests: forwards to the system and makes allocation number fail_at (from 1) return NULL. */
typedef struct puff_alloc_failing {
    puff_alloc alloc; /* hand &f.alloc to whatever is under test */
    size_t n_calls;
    size_t fail_at; /* 0: never */
    size_t n_live;  /* blocks not yet freed: a test asserts 0 at its end */
} puff_alloc_failing;

PUFF_API void puff_alloc_failing_init(puff_alloc_failing *f, size_t fail_at);

/* ---- slices -------------------------------------------------------------------------------- */

/* Borrowed bytes; not NUL-terminated. */
typedef struct puff_str {
    const char *ptr;
    size_t len;
} puff_str;

#define PUFF_STR(lit) ((puff_str){(lit), sizeof(lit) - 1})

PUFF_API bool puff_str_eq(puff_str a, puff_str b);
PUFF_API bool puff_str_ieq(puff_str a, puff_str b); /* ASCII letters without case */
/* Decimal digits only, no sign, no space: false on anything else and on overflow. */
PUFF_API bool puff_str_to_u64(puff_str s, uint64_t *out);

/* ---- growable buffer ----------------------------------------------------------------------- */

/* A byte buffer with a ceiling that is stated when it is made. */
typedef struct puff_buf {
    char *data; /* owned */
    size_t len, cap, max;
    const puff_alloc *alloc; /* borrowed; outlives us */
} puff_buf;

PUFF_API void puff_buf_init(puff_buf *b, const puff_alloc *a, size_t max);
PUFF_API void puff_buf_deinit(puff_buf *b);
/* Makes room for n more bytes after len. 0, PUFF_ELIMIT or PUFF_ENOMEM; on failure b is unchanged.
 */
PUFF_API int puff_buf_reserve(puff_buf *b, size_t n);
PUFF_API int puff_buf_append(puff_buf *b, const void *data, size_t n);
PUFF_API int puff_buf_printf(puff_buf *b, const char *fmt, ...) PUFF_PRINTF(2, 3);
/* Drops n bytes at the front. */
PUFF_API void puff_buf_consume(puff_buf *b, size_t n);
/* Empties it; keeps the memory if it is at most keep bytes, else frees it. */
PUFF_API void puff_buf_reset(puff_buf *b, size_t keep);

/* ---- arena --------------------------------------------------------------------------------- */

/* Bump allocation that is freed at once: one per request. */
typedef struct puff_arena_block puff_arena_block;
typedef struct puff_arena {
    puff_arena_block *head; /* owned */
    size_t used, max;       /* bytes handed out and their ceiling */
    const puff_alloc *alloc;
} puff_arena;

PUFF_API void puff_arena_init(puff_arena *a, const puff_alloc *alloc, size_t max);
PUFF_API void puff_arena_deinit(puff_arena *a);
/* Aligned to 16. NULL when memory or the ceiling is exhausted. */
PUFF_API void *puff_arena_alloc(puff_arena *a, size_t size);
PUFF_API char *puff_arena_dup(puff_arena *a, const void *data, size_t len); /* adds a NUL */
/* Frees everything but one block of the usual size (4 KiB), for the next request. */
PUFF_API void puff_arena_reset(puff_arena *a);

/* ---- intrusive list ------------------------------------------------------------------------ */

/* A ring; an element that is in no list points to itself. */
typedef struct puff_queue {
    struct puff_queue *next, *prev;
} puff_queue;

static inline void puff_queue_init(puff_queue *q) { q->next = q->prev = q; }
static inline bool puff_queue_empty(const puff_queue *q) { return q->next == q; }
static inline void puff_queue_remove(puff_queue *q) {
    q->prev->next = q->next;
    q->next->prev = q->prev;
    q->next = q->prev = q;
}
static inline void puff_queue_push(puff_queue *head, puff_queue *q) {
    q->next = head;
    q->prev = head->prev;
    head->prev->next = q;
    head->prev = q;
}
static inline void puff_queue_push_front(puff_queue *head, puff_queue *q) {
    puff_queue_push(head->next, q);
}
/* The first element taken out, or NULL. */
static inline puff_queue *puff_queue_pop(puff_queue *head) {
    puff_queue *q = head->next;
    if (q == head) return NULL;
    puff_queue_remove(q);
    return q;
}
/* Moves all of from to the end of to; from is empty after. */
static inline void puff_queue_splice(puff_queue *to, puff_queue *from) {
    if (puff_queue_empty(from)) return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    puff_queue_init(from);
}
#define PUFF_QUEUE_FOREACH(q, head) for ((q) = (head)->next; (q) != (head); (q) = (q)->next)

#ifdef __cplusplus
}
#endif
#endif
