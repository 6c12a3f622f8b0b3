/* listener.c - a listening socket: accepts what is there, a bounded number per turn.
 *
 * accept4 on a readable socket rather than uv_listen: a burst is taken in one turn, the peer's
 * address comes with the descriptor, and running out of descriptors is ours to handle: one is kept
 * in reserve, given up to accept and close the caller (who then sees a close instead of a hang),
 * and taken again.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 2048,
    ACCEPT_BURST = 64, /* per turn, so that a flood of callers does not starve those who are in */
    REST_MS = 250      /* descriptors come back when connections close, not at once */
};

struct puff_listener {
    puff_loop *loop; /* borrowed */
    puff__closer closer;
    int fd; /* owned */
    int port;
    puff_poll *poll; /* owned */
    puff_timer pause;
    bool paused, closed, accepting;
    puff_accept_cb cb;
    void *data;
    char *unix_path; /* owned; the socket file that we made */
    dev_t path_dev;
    ino_t path_ino; /* so that we remove only what is still ours */
};

static void spare_take(puff_loop *loop) {
    if (loop->spare_fd < 0) loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* The process is out of descriptors: turn one caller away. */
static void out_of_fds(puff_listener *l) {
    if (l->loop->spare_fd < 0) return;
    close(l->loop->spare_fd);
    l->loop->spare_fd = -1;
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    spare_take(l->loop);
}

/* For what does not go away at once, and would be tried again at once and for ever. */
static void rest(puff_listener *l) {
    /* Without memory for the timer it goes on at once: better busy than deaf. */
    if (puff_timer_start(&l->pause, REST_MS) == 0) puff_poll_set(l->poll, 0);
}

static void listener_free(puff_listener *l) {
    puff_free(l->loop->alloc, l->unix_path);
    puff_free(l->loop->alloc, l);
}

/* Something about this one caller (accept(2)), who is gone by now. */
static bool is_of_caller(int e) {
    return e == ECONNABORTED || e == EINTR || e == EPERM || e == EPROTO || e == ENOPROTOOPT ||
           e == EOPNOTSUPP || e == ENETDOWN || e == ENETUNREACH || e == EHOSTDOWN ||
           e == EHOSTUNREACH || e == ENONET || e == ETIMEDOUT;
}

/* True: try the next one. */
static bool accept_one(puff_listener *l) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        l->cb(l, fd, (struct sockaddr *)&peer, len);
        return true;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    if (is_of_caller(errno)) return true;
    if (errno == EMFILE || errno == ENFILE) out_of_fds(l);
    rest(l);
    return false;
}

static void on_readable(puff_poll *p, int status, int events) {
    puff_listener *l = puff_poll_data(p);
    if (status < 0) return;
    l->accepting = true; /* the callback may close us: freeing waits for the end of the burst */
    for (int i = 0; i < ACCEPT_BURST && !l->closed && !l->paused; i++)
        if (!accept_one(l)) break;
    l->accepting = false;
    if (l->closed) listener_free(l);
}

static void on_pause_over(puff_timer *t) {
    puff_listener *l = PUFF_CONTAINER_OF(t, puff_listener, pause);
    if (!l->paused) puff_poll_set(l->poll, PUFF_READABLE);
}

/* ---- sockets ---- */

static int listen_fd(int fd, const struct sockaddr *addr, socklen_t len, int backlog) {
    if (bind(fd, addr, len) != 0 || listen(fd, backlog) != 0) return -errno;
    return 0;
}

static int open_tcp(const struct addrinfo *ai, const puff_listener_options *o, int *out) {
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    int rc = 0;
    if (o->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) rc = -errno;
    if (rc == 0) rc = listen_fd(fd, ai->ai_addr, ai->ai_addrlen, o->backlog ? o->backlog : BACKLOG);
    if (rc) {
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

/* The first that can be had: localhost may be ::1 first where there is no IPv6. */
static int open_any(const struct addrinfo *ai, const puff_listener_options *o, int *out) {
    int rc = open_tcp(ai, o, out);
    while ((rc == UV_EAFNOSUPPORT || rc == UV_EADDRNOTAVAIL) && (ai = ai->ai_next) != NULL)
        rc = open_tcp(ai, o, out);
    return rc;
}

static int open_host(const puff_listener_options *o, int *fd, puff_err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    char service[8];
    snprintf(service, sizeof service, "%u", o->port);
    int gai =
        getaddrinfo(o->host, service, &hints, &list); /* at start-up: blocking is right here */
    if (gai)
        return puff_err_set(err, UV_EADDRNOTAVAIL, PUFF_DOMAIN_SYSTEM, "cannot listen on %s: %s",
                            o->host, gai_strerror(gai));
    int rc = open_any(list, o, fd);
    freeaddrinfo(list);
    if (rc)
        puff_err_set(err, rc, PUFF_DOMAIN_SYSTEM, "cannot listen on %s:%u: %s", o->host, o->port,
                     puff_err_text(rc));
    return rc;
}

/* Somebody has the path: its file must stay. Only a refusal says that nobody has; a server of
 * another user (EACCES) and a datagram socket (EPROTOTYPE) are alive. */
static bool is_live(const struct sockaddr_un *addr, socklen_t len) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return true;
    int rc = connect(fd, (const struct sockaddr *)addr, len);
    int why = errno;
    close(fd);
    return rc == 0 || why != ECONNREFUSED;
}

static int open_unix(puff_listener *l, const puff_listener_options *o, int *out, puff_err *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(o->unix_path);
    if (n == 0 || n >= sizeof addr.sun_path)
        return puff_err_set(err, UV_ENAMETOOLONG, PUFF_DOMAIN_SYSTEM,
                            "a Unix socket path has 1 to %zu bytes: %s", sizeof addr.sun_path - 1,
                            o->unix_path);
    memcpy(addr.sun_path, o->unix_path, n);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    bool abstract = o->unix_path[0] == '@';
    struct stat st;
    if (abstract)
        addr.sun_path[0] = '\0';
    else if (stat(o->unix_path, &st) == 0 && S_ISSOCK(st.st_mode) && !is_live(&addr, len))
        unlink(o->unix_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0
                 ? -errno
                 : listen_fd(fd, (struct sockaddr *)&addr, len, o->backlog ? o->backlog : BACKLOG);
    if (rc == 0 && !abstract && stat(o->unix_path, &st) == 0) {
        l->unix_path = puff_strndup(l->loop->alloc, o->unix_path, n);
        l->path_dev = st.st_dev;
        l->path_ino = st.st_ino;
        if (!l->unix_path) {
            unlink(o->unix_path);
            rc = UV_ENOMEM;
        }
    }
    if (rc) {
        if (fd >= 0) close(fd);
        return puff_err_set(err, rc, PUFF_DOMAIN_SYSTEM, "cannot listen on %s: %s", o->unix_path,
                            puff_err_text(rc));
    }
    *out = fd;
    return 0;
}

static int inherited(int fd, puff_err *err) {
    int on = 0;
    socklen_t len = sizeof on;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) != 0 || !on)
        return puff_err_set(err, UV_EINVAL, PUFF_DOMAIN_SYSTEM,
                            "descriptor %d is not a listening socket", fd);
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

static int port_of(int fd) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) return 0;
    if (addr.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&addr)->sin_port);
    if (addr.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

/* ---- life ---- */

static int open_fd(puff_listener *l, const puff_listener_options *o, puff_err *err) {
    l->fd = -1;
    if (o->unix_path) return open_unix(l, o, &l->fd, err);
    if (o->host) return open_host(o, &l->fd, err);
    int rc = inherited(o->fd, err);
    if (rc == 0) l->fd = o->fd;
    return rc;
}

static void remove_path(const puff_listener *l) {
    struct stat st;
    if (l->unix_path && stat(l->unix_path, &st) == 0 && st.st_dev == l->path_dev &&
        st.st_ino == l->path_ino)
        unlink(l->unix_path);
}

static void on_loop_end(puff__closer *closer) {
    puff_listener_close(PUFF_CONTAINER_OF(closer, puff_listener, closer));
}

int puff_listener_open(puff_listener **out, puff_loop *loop, const puff_listener_options *opts,
                       puff_accept_cb cb, void *data, puff_err *err) {
    puff_listener *l = puff_calloc(loop->alloc, 1, sizeof *l);
    if (!l) return puff_err_set(err, UV_ENOMEM, PUFF_DOMAIN_SYSTEM, "out of memory");
    l->loop = loop;
    l->cb = cb;
    l->data = data;
    puff_queue_init(&l->closer.node);
    l->closer.close = on_loop_end;
    puff_timer_init(&l->pause, loop, on_pause_over);
    int rc = open_fd(l, opts, err);
    if (rc) goto fail;
    l->port = port_of(l->fd);
    rc = puff_poll_new(&l->poll, loop, l->fd, on_readable, l);
    if (rc == 0) rc = puff_poll_set(l->poll, PUFF_READABLE);
    if (rc) {
        puff_err_set(err, rc, PUFF_DOMAIN_SYSTEM, "cannot watch the socket: %s", puff_err_text(rc));
        goto fail_fd;
    }
    spare_take(loop);
    puff_queue_push(&loop->closers, &l->closer.node);
    *out = l;
    return 0;

fail_fd:
    if (l->poll) puff_poll_free(l->poll);
    remove_path(l);
    close(l->fd);
fail:
    listener_free(l);
    return rc;
}

void *puff_listener_data(puff_listener *l) { return l->data; }
int puff_listener_fd(puff_listener *l) { return l->fd; }
int puff_listener_port(puff_listener *l) { return l->port; }

void puff_listener_pause(puff_listener *l) {
    l->paused = true;
    puff_poll_set(l->poll, 0);
}

void puff_listener_resume(puff_listener *l) {
    l->paused = false;
    if (!puff_timer_active(&l->pause)) puff_poll_set(l->poll, PUFF_READABLE);
}

void puff_listener_close(puff_listener *l) {
    if (l->closed) return;
    l->closed = true;
    puff_queue_remove(&l->closer.node);
    puff_timer_stop(&l->pause);
    puff_poll_free(l->poll);
    remove_path(l);
    close(l->fd);
    if (!l->accepting) listener_free(l);
}
