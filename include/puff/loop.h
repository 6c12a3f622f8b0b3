/* puff/loop.h - one loop, one thread: turns, timers, streams, listeners, polls, work.
 *
 * Everything here belongs to the loop's thread, except puff_loop_post(). Callbacks run exactly once
 * where they answer a call, never before the call that registered them has returned, and always
 * from puff_loop_turn().
 *
 * SIGPIPE must be ignored by the process (an interpreter does; a C program calls signal(SIGPIPE,
 * SIG_IGN)): writing to a peer that is gone is an error here, and the signal would end the process.
 */
#ifndef PUFF_LOOP_H
#define PUFF_LOOP_H

#include <sys/types.h>

#include "puff/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sockaddr;
struct addrinfo;
struct uv_loop_s;
struct ssl_st;     /* OpenSSL's SSL */
struct ssl_ctx_st; /* and SSL_CTX */

/* ---- loop ---------------------------------------------------------------------------------- */

typedef struct puff_loop puff_loop;

/* What a host with a lock of its own (an interpreter) hangs in. before_wait runs when the loop is
 * about to sleep, after_wait before the first callback after it; neither runs when a turn does not
 * sleep. So the lock is taken once for a batch of events. */
typedef struct puff_loop_hooks {
    void (*before_wait)(void *ctx);
    void (*after_wait)(void *ctx);
    void *ctx;
} puff_loop_hooks;

typedef struct puff_loop_options {
    size_t size;             /* sizeof(puff_loop_options) */
    const puff_alloc *alloc; /* NULL: the system's; outlives the loop */
} puff_loop_options;

/* Any thread; the loop then belongs to the thread that runs it. PUFF_ENOMEM or UV_E*. */
PUFF_API int puff_loop_new(puff_loop **out, const puff_loop_options *opts, puff_err *err);
/* Closes all that is still open, then frees the loop: on_close run, whoever connects is answered
 * with PUFF_ECANCELED, posted jobs run, work on other threads is waited for (names are not: their
 * callback says UV_ECANCELED); timers do not fire. No thread may be in puff_loop_post() or _wake()
 * any more, and nothing that was open may be touched after. */
PUFF_API void puff_loop_free(puff_loop *loop);
PUFF_API void puff_loop_set_hooks(puff_loop *loop, const puff_loop_hooks *hooks);

/* One turn: run deferred jobs, then wait for events (wait false: only look), run their callbacks,
 * then the jobs these deferred. Returns 0 when nothing is open and nothing deferred or posted:
 * nothing could ever happen. It does not wait then. */
PUFF_API int puff_loop_turn(puff_loop *loop, bool wait);
/* For a host that has work of its own: whether it may go on with that and leave this turn out. Not
 * when something is deferred or posted, or a timer may be due; and only while the last looks found
 * nothing, for at most 16 turns and 50 us after the last. ticks: puff_ticks() of now. */
PUFF_API bool puff_loop_skip_turn(puff_loop *loop, uint64_t ticks);
/* Turns until puff_loop_stop() or until nothing is open. For C programs. */
PUFF_API void puff_loop_run(puff_loop *loop);
PUFF_API void puff_loop_stop(puff_loop *loop);

PUFF_API const puff_alloc *puff_loop_alloc(puff_loop *loop);
PUFF_API struct uv_loop_s *puff_loop_uv(puff_loop *loop);
/* The descriptor that is readable when the loop has events. */
PUFF_API int puff_loop_backend_fd(puff_loop *loop);
/* CLOCK_MONOTONIC in ns as a turn has read it, or a millisecond behind the clock at most. */
PUFF_API uint64_t puff_loop_now_ns(puff_loop *loop);
PUFF_API uint64_t puff_loop_update_now(puff_loop *loop);
PUFF_API uint64_t puff_now_ns(void);
/* A counter of constant rate that costs less than half of what the clock does; see below for ns. */
static inline uint64_t puff_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return puff_now_ns();
#endif
}
/* Ticks in a millisecond; 0 until the loop is old enough to know. */
PUFF_API uint64_t puff_loop_ticks_per_ms(puff_loop *loop);

typedef struct puff_loop_stats {
    uint64_t n_turns, n_waits, idle_ns;
} puff_loop_stats;
PUFF_API puff_loop_stats puff_loop_get_stats(puff_loop *loop);

/* After fork() in the child: makes the kernel side of the loop new. UV_E*. */
PUFF_API int puff_loop_fork(puff_loop *loop);

/* ---- jobs at the end of a turn ------------------------------------------------------------- */

/* Runs once, after the callbacks of this turn and before the loop waits: this is how the writes of
 * a turn leave in one system call. Embed it; deferring one that is queued already does nothing. */
typedef struct puff_defer {
    puff_queue node;
    void (*run)(struct puff_defer *self);
} puff_defer;

PUFF_API void puff_defer_init(puff_defer *d, void (*run)(puff_defer *self));
PUFF_API void puff_loop_defer(puff_loop *loop, puff_defer *d);
PUFF_API void puff_defer_cancel(puff_defer *d);
/* Runs what is deferred now; the host calls it before it sleeps elsewhere. */
PUFF_API void puff_loop_flush(puff_loop *loop);

/* ---- jobs from other threads --------------------------------------------------------------- */

typedef struct puff_post {
    struct puff_post *next;
    void (*run)(struct puff_post *self); /* on the loop's thread; owns self again */
} puff_post;

/* Any thread. The storage is the caller's until run; the loop must outlive this call, also where the
 * job has run before it returns. One wake-up per burst. */
PUFF_API void puff_loop_post(puff_loop *loop, puff_post *job);
/* Any thread, and a signal handler: makes a waiting turn return. */
PUFF_API void puff_loop_wake(puff_loop *loop);

/* Runs work on one of the loop's threads (at most 16, made as needed), then done on the loop's thread
 * with 0 or UV_ECANCELED. After a fork the child's done says UV_ECANCELED, whatever the work had come
 * to; the parent's goes on. PUFF_ENOMEM, UV_EAGAIN (no thread). */
typedef struct puff_work puff_work;
PUFF_API int puff_work_submit(puff_loop *loop, void (*work)(void *arg),
                              void (*done)(void *arg, int status), void *arg, puff_work **out);
/* Tries to take back work that has not begun; done then says UV_ECANCELED. 0 or UV_EBUSY. */
PUFF_API int puff_work_cancel(puff_work *work);

/* ---- timer --------------------------------------------------------------------------------- */

/* Your storage; one heap per loop, ns deadlines, one kernel timeout. Never fires early. */
typedef struct puff_timer {
    puff_loop *loop;      /* borrowed; outlives us */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    uint64_t seq;         /* among equal deadlines, who came first */
    size_t index;         /* place in the heap, SIZE_MAX when idle */
    void (*on_fire)(struct puff_timer *self);
} puff_timer;

PUFF_API void puff_timer_init(puff_timer *t, puff_loop *loop, void (*on_fire)(puff_timer *self));
/* Starts or moves it. PUFF_ENOMEM. */
PUFF_API int puff_timer_start_at(puff_timer *t, uint64_t deadline_ns);
PUFF_API int puff_timer_start(puff_timer *t, uint64_t timeout_ms);
PUFF_API void puff_timer_stop(puff_timer *t); /* idle is allowed */
/* The i-th of the timers that are started, the first to fire first and the others in no order; NULL
 * behind the last. Starting and stopping timers changes the order. */
PUFF_API puff_timer *puff_loop_timer(puff_loop *loop, size_t i);
static inline bool puff_timer_active(const puff_timer *t) { return t->index != SIZE_MAX; }

/* ---- poll ---------------------------------------------------------------------------------- */

enum { PUFF_READABLE = 1, PUFF_WRITABLE = 2, PUFF_DISCONNECT = 4 };

/* Readiness of a descriptor that stays its owner's. events: PUFF_* bits; status: 0 or UV_E*. An error of
 * the descriptor (POLLERR) is UV_EBADF whatever it is: read or write to learn it. Nothing is watched
 * then, until puff_poll_set(). */
typedef struct puff_poll puff_poll;
typedef void (*puff_poll_cb)(puff_poll *p, int status, int events);

PUFF_API int puff_poll_new(puff_poll **out, puff_loop *loop, int fd, puff_poll_cb cb, void *data);
/* Changes what is watched; 0 stops. Cheap when nothing changes. UV_E*. */
PUFF_API int puff_poll_set(puff_poll *p, int events);
PUFF_API void *puff_poll_data(puff_poll *p);
/* Stops at once (the descriptor may be closed after), frees itself later. No callback comes. */
PUFF_API void puff_poll_free(puff_poll *p);

/* ---- ready --------------------------------------------------------------------------------- */

/* One wait for a socket that somebody else uses: read or write until UV_EAGAIN, wait, try again.
 * Unlike a poll it needs no closing: the registration is kept between waits and the kernel drops it
 * when the socket is closed, without our being told. Your storage; begin with puff_ready_init(). */
typedef struct puff_ready {
    puff_queue node; /* among the waits for the same descriptor while it waits */
    puff_loop *loop; /* borrowed; of the wait */
    void *data;      /* the caller's */
    int events;      /* what it waits for: PUFF_READABLE, PUFF_WRITABLE */
    bool shared;     /* puff_ready_drop() leaves it alone */
    /* Ready, failed or hung up: only trying tells. Comes once, it does not wait any more. The wait
     * may have been vain: then it is the caller's to wait again. */
    void (*on_ready)(struct puff_ready *self);
    void (*on_drop)(struct puff_ready *self); /* optional; puff_ready_drop() has ended the wait */
} puff_ready;

enum {
    /* The caller has just had UV_EAGAIN from this descriptor, and it is the file that it was at the
     * last wait for this number: no system call when the kernel watches it already. Without, the
     * kernel is asked anew, and a wait for what is there already ends at once. */
    PUFF_READY_TRIED = 1,
    /* This is likely to be the only wait: nothing is reported after it. */
    PUFF_READY_ONCE = 2,
};

/* False: this system has no epoll, and puff_ready_wait() is UV_ENOTSUP. */
PUFF_API bool puff_ready_supported(void);
PUFF_API void puff_ready_init(puff_ready *r, void (*on_ready)(puff_ready *self));
/* r must not wait. flags: PUFF_READY_*. PUFF_ENOMEM, UV_EBADF, UV_EPERM (a file that epoll does not
 * take), UV_ENOTSUP. */
PUFF_API int puff_ready_wait(puff_loop *loop, puff_ready *r, int fd, int events, int flags);
static inline bool puff_ready_waits(const puff_ready *r) { return !puff_queue_empty(&r->node); }
PUFF_API void puff_ready_cancel(puff_ready *r); /* one that does not wait is allowed */
/* Ends the waits for this descriptor and these events that are not shared; whether there were any.
 * Calls their on_drop. */
PUFF_API bool puff_ready_drop(puff_loop *loop, int fd, int events);
/* Somebody else watches this open socket from now on: forgets it, unless somebody waits for it. */
PUFF_API void puff_ready_forget(puff_loop *loop, int fd);

/* ---- stream -------------------------------------------------------------------------------- */

/* A connected TCP or Unix stream socket. Writes are gathered and leave at the end of the turn, in
 * one writev; what the kernel does not take stays queued and n_queued says how much. */
typedef struct puff_stream puff_stream;

typedef struct puff_stream_cbs {
    /* Optional. Where the next read goes; NULL or *cap == 0 uses the loop's own buffer (64 KiB).
     * When it stops or closes the stream nothing is read, and on_read does not come for it. */
    void (*on_alloc)(puff_stream *s, char **buf, size_t *cap);
    /* n > 0: bytes (borrowed until return; buf is what on_alloc gave). n == 0: nothing after all,
     * buf is given back. n == UV_EOF: the peer finished. Other n < 0: the stream failed. */
    void (*on_read)(puff_stream *s, char *buf, ssize_t n);
    /* Optional. The queue was above the high-water mark and has fallen to the low one. */
    void (*on_drain)(puff_stream *s);
    /* Optional. A write failed: nothing more will be sent. Comes once. */
    void (*on_write_error)(puff_stream *s, int status);
    /* The descriptor is closed and s is about to be freed: the last callback. */
    void (*on_close)(puff_stream *s);
} puff_stream_cbs;

/* Takes fd, also on failure: it is closed then. cbs are borrowed and outlive the stream. */
PUFF_API int puff_stream_open(puff_stream **out, puff_loop *loop, int fd,
                              const puff_stream_cbs *cbs, void *data);
PUFF_API void *puff_stream_data(puff_stream *s);
PUFF_API void puff_stream_set_data(puff_stream *s, void *data);
PUFF_API puff_loop *puff_stream_loop(puff_stream *s);
PUFF_API int puff_stream_fd(puff_stream *s); /* -1 once closing */

PUFF_API int puff_stream_read_start(puff_stream *s); /* twice is allowed */
PUFF_API void puff_stream_read_stop(puff_stream *s);

/* Queues a copy. PUFF_ENOMEM, or UV_EPIPE after shutdown, close or a write error. */
PUFF_API int puff_stream_write(puff_stream *s, const void *data, size_t len);
/* Queues bytes without a copy; release(arg) runs once, when they are sent or given up; on failure
 * the caller keeps them and release does not run. Small pieces behind others are copied and
 * released at once. */
PUFF_API int puff_stream_write_ref(puff_stream *s, const void *data, size_t len,
                                   void (*release)(void *arg), void *arg);
/* Sends what is queued now, as far as the kernel takes it. */
PUFF_API void puff_stream_flush(puff_stream *s);
PUFF_API size_t puff_stream_queued(puff_stream *s); /* bytes not yet given to the kernel */
/* Sends bytes of a regular file by sendfile(2), from its page cache; nothing may be queued. How many
 * went, 0 at the end of the file; UV_EAGAIN: something is queued, or the kernel takes no more now;
 * UV_EPIPE as puff_stream_write(), UV_ENOSYS where there is no such call, or what it says. Calls no
 * callback. Raises SIGPIPE where that is not ignored, as Python does. */
PUFF_API ssize_t puff_stream_sendfile(puff_stream *s, int fd, uint64_t offset, size_t len);
/* on_drain comes after queued has been > high and is <= low again. Default 64 KiB and 16 KiB. */
PUFF_API void puff_stream_set_water(puff_stream *s, size_t low, size_t high);
/* Sends what is queued, then shuts the write side down. */
PUFF_API int puff_stream_shutdown(puff_stream *s);
/* Stops reading, sends what is queued for as long as the peer takes it, then closes; on_close
 * follows. A peer that takes nothing is the owner's to abort. Twice is allowed. */
PUFF_API void puff_stream_close(puff_stream *s);
/* Throws the queue away and closes; with reset, TCP sends RST. */
PUFF_API void puff_stream_abort(puff_stream *s, bool reset);
PUFF_API bool puff_stream_closing(puff_stream *s);

/* ---- TLS ----------------------------------------------------------------------------------- */

/* The TLS of one connection, without I/O: a host feeds it what came and sends what comes out. It
 * needs no loop; calls on one engine come from one thread at a time. */
typedef struct puff_tls puff_tls;

enum {
    PUFF_TLS_OK,        /* done; of a read: the memory is full, there may be more */
    PUFF_TLS_WANT_READ, /* all that was fed is read: feed more */
    PUFF_TLS_CLOSED     /* the peer's close_notify; of a shutdown: both sides' */
};

/* Why a call gave PUFF_EPROTO. */
typedef struct puff_tls_error {
    int kind;         /* SSL_ERROR_* */
    bool eof;         /* the peer's bytes ended before its close_notify */
    char library[24]; /* "SSL" */
    char reason[72];  /* "WRONG_VERSION_NUMBER"; empty: unknown */
    char text[96];    /* "wrong version number" */
} puff_tls_error;

/* Takes ciphertext that is to be sent; it copies. 0 or PUFF_ENOMEM. Called inside any call below and
 * by OpenSSL inside a call of the host's own on the SSL. */
typedef int (*puff_tls_sink)(void *arg, const void *data, size_t len);

/* Takes a reference to ssl and gives it a BIO of its own in place of what it had. The role, the
 * host name, the session and the like are the owner's to set, and the handshake may be his to do.
 * max_kept: the ceiling of what puff_tls_keep() holds. alloc outlives it. PUFF_ENOMEM. */
PUFF_API int puff_tls_new(puff_tls **out, const puff_alloc *alloc, size_t max_kept,
                          struct ssl_st *ssl);
/* An SSL that lives on finds nothing to read, and what it writes is lost. NULL is allowed. */
PUFF_API void puff_tls_free(puff_tls *t);
/* NULL: what is to be sent gathers until puff_tls_drop_output(). */
PUFF_API void puff_tls_set_sink(puff_tls *t, puff_tls_sink sink, void *arg);
PUFF_API puff_str puff_tls_peek_output(const puff_tls *t);
PUFF_API void puff_tls_drop_output(puff_tls *t);

/* Ciphertext from the peer: borrowed until puff_tls_keep() or until all of it is read. Where some
 * was kept, this is copied behind it: PUFF_ENOMEM or PUFF_ELIMIT. */
PUFF_API int puff_tls_feed(puff_tls *t, const void *data, size_t len);
/* Copies what has not been read yet; the fed range is free after. PUFF_ENOMEM or PUFF_ELIMIT. */
PUFF_API int puff_tls_keep(puff_tls *t);
PUFF_API size_t puff_tls_unread(const puff_tls *t); /* bytes of ciphertext */
/* At most so many bytes of plaintext are there to read; 0: none, and reading would not even show a
 * close_notify. */
PUFF_API size_t puff_tls_readable(const puff_tls *t);

/* Each returns PUFF_TLS_*, PUFF_ENOMEM, or PUFF_EPROTO with *err (NULL is allowed) filled.
 *
 * Reads as many records as fit; *n bytes are there whatever it returns. */
PUFF_API int puff_tls_read(puff_tls *t, void *buf, size_t cap, size_t *n, puff_tls_error *err);
/* Writes one record of at most 16 KiB. *n: how much of data it took; after PUFF_TLS_WANT_READ (a
 * renegotiation) the same bytes have to come again, from wherever, with or without more. */
PUFF_API int puff_tls_write(puff_tls *t, const void *data, size_t len, size_t *n,
                            puff_tls_error *err);
PUFF_API int puff_tls_handshake(puff_tls *t, puff_tls_error *err);
/* Sends close_notify, once, and looks for the peer's. */
PUFF_API int puff_tls_shutdown(puff_tls *t, puff_tls_error *err);

/* Of what only might be an SSL, made by somebody else: is ctx its context? Reads one field. */
PUFF_API bool puff_tls_is_of(const struct ssl_st *ssl, const struct ssl_ctx_st *ctx);
/* And is it of the very libssl that we are linked to? It compares the addresses of methods, as long
 * as the SSL is new and of a context for any version of TLS. */
PUFF_API bool puff_tls_is_ours(const struct ssl_st *ssl);

/* ---- datagrams ----------------------------------------------------------------------------- */

/* A datagram socket, connected or not. Everything is a whole datagram, an empty one too. */
typedef struct puff_udp puff_udp;

typedef struct puff_datagram {
    const char *data; /* borrowed until the callback returns, as all of it */
    size_t len;
    const struct sockaddr *from;
    unsigned from_len; /* 0: the sender has no name */
} puff_datagram;

typedef struct puff_udp_cbs {
    /* n >= 1 of them, in their order. Returns how many it has taken; the rest come again, in the next
     * turn or after the next start. */
    size_t (*on_recv)(puff_udp *u, const puff_datagram *d, size_t n);
    /* A datagram that was queued could not be sent, or the kernel tells of one that was sent before
     * (UV_ECONNREFUSED). The socket goes on. */
    void (*on_error)(puff_udp *u, int status);
    /* Optional. The kernel has taken some of the queue. */
    void (*on_sent)(puff_udp *u);
    /* u is about to be freed: the last callback. */
    void (*on_close)(puff_udp *u);
} puff_udp_cbs;

/* Takes fd, also on failure: it is closed then. cbs are borrowed and outlive u. */
PUFF_API int puff_udp_open(puff_udp **out, puff_loop *loop, int fd, const puff_udp_cbs *cbs,
                           void *data);
PUFF_API void *puff_udp_data(puff_udp *u);
PUFF_API int puff_udp_fd(puff_udp *u); /* -1 once closed */

PUFF_API int puff_udp_recv_start(puff_udp *u); /* twice is allowed; UV_E* */
PUFF_API void puff_udp_recv_stop(puff_udp *u);

/* Sends now; when the kernel has no room, or others wait already, queues a copy. to NULL: to whom it
 * is connected. UV_E*: this one is not sent (UV_EMSGSIZE, UV_ECONNREFUSED for one before it ...).
 * The queue has no ceiling of its own: who sends asks puff_udp_queued(). */
PUFF_API int puff_udp_send(puff_udp *u, const void *data, size_t len, const struct sockaddr *to,
                           unsigned to_len);
/* Queues it without trying. PUFF_ENOMEM, UV_E*. */
PUFF_API int puff_udp_queue(puff_udp *u, const void *data, size_t len, const struct sockaddr *to,
                            unsigned to_len);
PUFF_API size_t puff_udp_queued(puff_udp *u);   /* bytes, */
PUFF_API size_t puff_udp_n_queued(puff_udp *u); /* and datagrams, that the kernel has not taken */
PUFF_API void puff_udp_drop(puff_udp *u);       /* throws the queue away */
/* Throws the queue away and closes the descriptor at once; on_close follows. Twice is allowed. */
PUFF_API void puff_udp_close(puff_udp *u);

/* ---- connecting ---------------------------------------------------------------------------- */

/* cb gets a connected, non-blocking descriptor that is now its own, or fd -1 and why. */
typedef struct puff_connect puff_connect;
typedef void (*puff_connect_cb)(void *arg, int fd, const puff_err *err);

/* Resolves host on a thread, tries each address in turn. TCP_NODELAY is set. */
PUFF_API int puff_tcp_connect(puff_connect **out, puff_loop *loop, const char *host, uint16_t port,
                              uint64_t timeout_ms, puff_connect_cb cb, void *arg);
/* A Unix stream socket; a path that begins with '@' is abstract. */
PUFF_API int puff_pipe_connect(puff_connect **out, puff_loop *loop, const char *path,
                               uint64_t timeout_ms, puff_connect_cb cb, void *arg);
/* cb still runs, with PUFF_ECANCELED, in a later turn. */
PUFF_API void puff_connect_cancel(puff_connect *c);

/* ---- names --------------------------------------------------------------------------------- */

/* getaddrinfo on the loop's threads; cb owns res (puff_dns_free). status: 0, UV_EAI_*, or UV_ECANCELED:
 * of a question that was cancelled, at the end of the turn; of one that the loop's end found open, for
 * puff_loop_free() does not wait for a name server; of the parent's in a forked child. The call:
 * PUFF_ENOMEM, UV_EAGAIN (no thread), UV_ECANCELED (the loop ends). */
typedef struct puff_dns puff_dns;
typedef void (*puff_dns_cb)(void *arg, int status, struct addrinfo *res);
PUFF_API int puff_dns_resolve(puff_dns **out, puff_loop *loop, const char *host,
                              const char *service, const struct addrinfo *hints, puff_dns_cb cb,
                              void *arg);
PUFF_API void puff_dns_cancel(puff_dns *d); /* cb still runs, with UV_ECANCELED */
PUFF_API void puff_dns_free(struct addrinfo *res);

/* ---- listener ------------------------------------------------------------------------------ */

typedef struct puff_listener puff_listener;
/* fd is non-blocking and close-on-exec, and now the callee's. peer is borrowed until return. */
typedef void (*puff_accept_cb)(puff_listener *l, int fd, const struct sockaddr *peer,
                               unsigned peer_len);

typedef struct puff_listener_options {
    size_t size;           /* sizeof(puff_listener_options) */
    const char *host;      /* numeric or a name; NULL with unix_path or fd */
    uint16_t port;         /* 0: the kernel chooses, see puff_listener_port() */
    const char *unix_path; /* a stale socket file is replaced, a live one is UV_EADDRINUSE */
    int fd;                /* a socket that listens already; -1: none */
    int backlog;           /* 0: 2048, what the kernel cuts to somaxconn */
    bool reuse_port;
} puff_listener_options;

PUFF_API int puff_listener_open(puff_listener **out, puff_loop *loop,
                                const puff_listener_options *opts, puff_accept_cb cb, void *data,
                                puff_err *err);
PUFF_API void *puff_listener_data(puff_listener *l);
PUFF_API int puff_listener_fd(puff_listener *l);
PUFF_API int puff_listener_port(puff_listener *l); /* 0 for a Unix socket */
PUFF_API void puff_listener_pause(puff_listener *l);
PUFF_API void puff_listener_resume(puff_listener *l);
/* Stops at once, removes the socket file that it made, frees itself later. No callback comes. */
PUFF_API void puff_listener_close(puff_listener *l);

#ifdef __cplusplus
}
#endif
#endif
