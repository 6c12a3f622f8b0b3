/* connect.c - a connected socket from a name or a path, within a deadline.
 *
 *   resolve (a thread) -> try address 1 -> 2 -> ... -> cb(fd)
 *
 * Each try waits for writability; any step may end in cb(-1, why).
 */
#include "loop.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct puff_connect {
    puff_loop *loop; /* borrowed */
    puff__closer closer;
    puff_connect_cb cb;
    void *arg;
    puff_dns *dns;         /* while it resolves */
    struct addrinfo *list; /* owned */
    struct addrinfo *next; /* the address to try next */
    int fd;                /* owned; -1: none */
    puff_poll *poll;       /* owned; while a try waits */
    puff_timer timer;      /* the deadline; also brings an answer that is known at once */
    puff_err err;          /* of the last try */
    char where[300];       /* for messages */
};

static void stop_try(puff_connect *c) {
    if (c->poll) puff_poll_free(c->poll);
    c->poll = NULL;
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* getaddrinfo may hang for longer than anybody wants to wait. */
static void drop_dns(puff_connect *c) {
    if (c->dns) puff__dns_abandon(c->dns);
    c->dns = NULL;
}

/* The end: the answer goes out, once. */
static void finish(puff_connect *c, int fd) {
    const puff_alloc *alloc = c->loop->alloc;
    if (fd >= 0) c->fd = -1;
    stop_try(c);
    puff_timer_stop(&c->timer);
    puff_queue_remove(&c->closer.node);
    drop_dns(c);
    if (c->list) puff_dns_free(c->list);
    c->cb(c->arg, fd, fd >= 0 ? NULL : &c->err);
    puff_timer_stop(&c->timer); /* of a cancel by the callback itself */
    puff_free(alloc, c);
}

static void fail(puff_connect *c, int code) {
    const char *why = code == PUFF_ETIMEOUT ? "timed out" : puff_err_text(code);
    puff_err_set(&c->err, code, PUFF_DOMAIN_SYSTEM, "cannot connect to %s: %s", c->where, why);
}

static void connected(puff_connect *c) {
    int on = 1, fd = c->fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a Unix socket refuses: no matter */
    puff_poll_free(c->poll);
    c->poll = NULL;
    finish(c, fd);
}

static void try_next(puff_connect *c);

static void on_writable(puff_poll *p, int status, int events) {
    puff_connect *c = puff_poll_data(p);
    int code = 0; /* not status: libuv calls every POLLERR a bad descriptor */
    socklen_t len = sizeof code;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len) != 0) code = errno;
    if (code == 0) {
        connected(c);
        return;
    }
    fail(c, -code);
    stop_try(c);
    try_next(c);
}

/* Begins one try; 0: it waits for on_writable, which comes also where connect() succeeded at once.
 */
static int try_address(puff_connect *c, const struct sockaddr *addr, socklen_t len) {
    c->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return -errno;
    if (connect(c->fd, addr, len) != 0 && errno != EINPROGRESS) return -errno;
    int rc = puff_poll_new(&c->poll, c->loop, c->fd, on_writable, c);
    return rc ? rc : puff_poll_set(c->poll, PUFF_WRITABLE);
}

static void try_next(puff_connect *c) {
    while (c->next) {
        struct addrinfo *ai = c->next;
        c->next = ai->ai_next;
        int rc = try_address(c, ai->ai_addr, ai->ai_addrlen);
        if (rc == 0) return;
        fail(c, rc);
        stop_try(c);
    }
    finish(c, -1);
}

static void on_resolved(void *arg, int status, struct addrinfo *res) {
    puff_connect *c = arg;
    c->dns = NULL;
    if (status != 0) {
        puff_err_set(&c->err, status, PUFF_DOMAIN_SYSTEM, "cannot resolve %s: %s", c->where,
                     puff_err_text(status));
        finish(c, -1);
        return;
    }
    c->list = c->next = res;
    try_next(c);
}

static void on_deadline(puff_timer *t) {
    puff_connect *c = PUFF_CONTAINER_OF(t, puff_connect, timer);
    if (c->err.code == 0 || c->fd >= 0) fail(c, PUFF_ETIMEOUT);
    finish(c, -1);
}

static void on_cancelled(puff_timer *t) { finish(PUFF_CONTAINER_OF(t, puff_connect, timer), -1); }

void puff_connect_cancel(puff_connect *c) {
    fail(c, PUFF_ECANCELED);
    stop_try(c);
    drop_dns(c);
    c->timer.on_fire = on_cancelled;
    puff_timer_start(&c->timer, 0);
}

static void on_loop_end(puff__closer *closer) {
    puff_connect *c = PUFF_CONTAINER_OF(closer, puff_connect, closer);
    fail(c, PUFF_ECANCELED);
    finish(c, -1);
}

static puff_connect *connect_new(puff_loop *loop, puff_connect_cb cb, void *arg) {
    puff_connect *c = loop->freeing ? NULL : puff_calloc(loop->alloc, 1, sizeof *c);
    if (!c) return NULL;
    puff_queue_init(&c->closer.node);
    c->closer.close = on_loop_end;
    c->loop = loop;
    c->cb = cb;
    c->arg = arg;
    c->fd = -1;
    puff_timer_init(&c->timer, loop, on_deadline);
    return c;
}

int puff_tcp_connect(puff_connect **out, puff_loop *loop, const char *host, uint16_t port,
                     uint64_t timeout_ms, puff_connect_cb cb, void *arg) {
    puff_connect *c = connect_new(loop, cb, arg);
    if (!c) return loop->freeing ? UV_ECANCELED : UV_ENOMEM;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    snprintf(c->where, sizeof c->where, "%s:%u", host, port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = puff_timer_start(&c->timer, timeout_ms);
    if (rc == 0) rc = puff_dns_resolve(&c->dns, loop, host, service, &hints, on_resolved, c);
    if (rc) {
        puff_timer_stop(&c->timer);
        puff_free(loop->alloc, c);
        return rc;
    }
    puff_queue_push(&loop->closers, &c->closer.node);
    *out = c;
    return 0;
}

static void start_pipe(puff_connect *c, const char *path) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    int rc = UV_ENAMETOOLONG;
    if (n > 0 && n < sizeof addr.sun_path) {
        memcpy(addr.sun_path, path, n);
        if (path[0] == '@') addr.sun_path[0] = '\0';
        rc = try_address(c, (struct sockaddr *)&addr,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    }
    if (rc == 0) return;
    fail(c, rc);
    stop_try(c);
    puff_timer_start(&c->timer, 0); /* on_deadline keeps this error: no try is under way */
}

int puff_pipe_connect(puff_connect **out, puff_loop *loop, const char *path, uint64_t timeout_ms,
                      puff_connect_cb cb, void *arg) {
    puff_connect *c = connect_new(loop, cb, arg);
    if (!c) return loop->freeing ? UV_ECANCELED : UV_ENOMEM;
    snprintf(c->where, sizeof c->where, "%s", path);
    int rc = puff_timer_start(&c->timer, timeout_ms);
    if (rc) {
        puff_free(loop->alloc, c);
        return rc;
    }
    puff_queue_push(&loop->closers, &c->closer.node);
    start_pipe(c, path);
    *out = c;
    return 0;
}
