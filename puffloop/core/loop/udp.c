/* udp.c - datagram sockets: IP and Unix, connected or not.
 *
 * Receiving reads one datagram per readiness, into the loop's read buffer. Now and then (PATIENCE)
 * it asks for a burst instead, and goes on with bursts while they find several: a burst costs a
 * third more than one read where there is one datagram, and a third less per datagram where there
 * are eight. One readiness is one read or one burst, so that a flood leaves the others their turn.
 *
 *   ONE --PATIENCE reads--> BURST --it found only one--> ONE
 *
 * The receiver may stop in the midst of a burst: what it has not taken is kept (held) and comes
 * first when it goes on; until then nothing newer is read.
 *
 * Sending hands each datagram to the kernel at once. What the kernel has no room for is queued,
 * and then all that follows, so that the order stays; the queue leaves when the socket is writable,
 * many datagrams in one system call.
 *
 * libuv only watches the descriptor: its own udp handles read until nothing is there (one system
 * call more for each datagram that comes alone), and know no Unix sockets.
 */
#include "loop.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BURST = 32,    /* datagrams per readiness: a fair share, and where recvmmsg's gain levels off */
    PATIENCE = 16, /* single reads between two bursts on trial: these cost 2 % then */
    IP_SLOT = 65536 /* no IP datagram is longer */
};
/* A Unix datagram may be as long as its sender's buffer; asyncio too reads so much. */
enum { OTHER_SLOT = 262144, BURST_MEMORY = BURST * IP_SLOT };

typedef struct packet {
    struct packet *next;
    size_t len;
    unsigned addr_len; /* 0: to whom the socket is connected; from nobody with a name */
    struct sockaddr_storage addr;
    char data[];
} packet;

typedef struct packets { /* a list; owns them */
    packet *first, **last;
    size_t n, n_bytes;
} packets;

/* What recvmmsg fills; pages that no datagram has reached cost nothing. */
struct puff__burst {
    struct mmsghdr head[BURST];
    struct iovec iov[BURST];
    struct sockaddr_storage from[BURST];
    puff_datagram datagram[BURST];
    char memory[BURST_MEMORY];
};

struct puff_udp {
    uv_poll_t uv;
    const puff_udp_cbs *cbs; /* borrowed; outlive us */
    void *data;              /* borrowed */
    int fd;                  /* owned; -1 once closed */
    int watched;             /* what libuv watches now: UV_READABLE, UV_WRITABLE */
    bool receiving, bursting;
    unsigned patience; /* single reads left before a burst is tried */
    size_t slot;       /* the longest datagram */
    packets held;      /* received, but not yet taken */
    packets queue;     /* not yet sent */
    puff_defer resume; /* hands out what is held */
};

static puff_loop *loop_of(const puff_udp *u) { return puff__loop_of((uv_handle_t *)&u->uv); }
static bool is_open(const puff_udp *u) { return u->fd >= 0; }

/* ---- packets ---- */

static void packets_init(packets *list) { *list = (packets){.last = &list->first}; }

static int append(puff_loop *loop, packets *list, const void *data, size_t len,
                  const struct sockaddr *addr, unsigned addr_len) {
    packet *p = NULL;
    if (addr_len > sizeof p->addr) return UV_EINVAL;
    p = puff_malloc(loop->alloc, sizeof *p + len);
    if (!p) return PUFF_ENOMEM;
    p->next = NULL;
    p->len = len;
    p->addr_len = addr_len;
    if (addr_len) memcpy(&p->addr, addr, addr_len);
    if (len) memcpy(p->data, data, len);
    *list->last = p;
    list->last = &p->next;
    list->n++;
    list->n_bytes += len;
    return 0;
}

static void drop_first(puff_loop *loop, packets *list) {
    packet *p = list->first;
    list->first = p->next;
    if (!list->first) list->last = &list->first;
    list->n--;
    list->n_bytes -= p->len;
    puff_free(loop->alloc, p);
}

static void drop_all(puff_loop *loop, packets *list) {
    while (list->first) drop_first(loop, list);
}

/* ---- watching ---- */

static void on_ready(uv_poll_t *uv, int status, int events);

/* Watches for what is wanted now; a change costs a system call, the rest nothing. */
static int watch(puff_udp *u) {
    if (!is_open(u)) return 0;
    int wanted =
        (u->receiving && !u->held.first ? UV_READABLE : 0) | (u->queue.first ? UV_WRITABLE : 0);
    if (wanted == u->watched) return 0;
    int rc = wanted ? uv_poll_start(&u->uv, wanted, on_ready) : uv_poll_stop(&u->uv);
    if (rc == 0) u->watched = wanted;
    return rc;
}

/* ---- receiving ---- */

static void keep(puff_udp *u, const puff_datagram *d, size_t n) {
    for (size_t i = 0; i < n; i++) /* without memory it is lost, as datagrams may be */
        append(loop_of(u), &u->held, d[i].data, d[i].len, d[i].from, d[i].from_len);
}

static void deliver(puff_udp *u, const puff_datagram *d, size_t n) {
    size_t taken = u->cbs->on_recv(u, d, n);
    assert(taken <= n);
    if (!is_open(u) || taken == n) return;
    keep(u, d + taken, n - taken);
    if (u->receiving) puff_loop_defer(loop_of(u), &u->resume);
}

static void failed(puff_udp *u, int error) {
    if (error == EAGAIN || error == EINTR) return;
    u->cbs->on_error(u, uv_translate_sys_error(error));
}

static void receive_one(puff_udp *u, char *buf) {
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    ssize_t n = recvfrom(u->fd, buf, u->slot, 0, (struct sockaddr *)&from, &from_len);
    if (n < 0) {
        failed(u, errno);
        return;
    }
    puff_datagram d = {buf, (size_t)n, (struct sockaddr *)&from, from_len};
    deliver(u, &d, 1);
}

static size_t prepare_burst(puff__burst *b, size_t slot) {
    size_t n = BURST_MEMORY / slot;
    if (n > BURST) n = BURST;
    for (size_t i = 0; i < n; i++) {
        b->iov[i] = (struct iovec){b->memory + i * slot, slot};
        b->head[i].msg_hdr = (struct msghdr){
            .msg_name = &b->from[i],
            .msg_namelen = sizeof b->from[i],
            .msg_iov = &b->iov[i],
            .msg_iovlen = 1,
        };
    }
    return n;
}

static void receive_burst(puff_udp *u, puff__burst *b) {
    int n = recvmmsg(u->fd, b->head, (unsigned)prepare_burst(b, u->slot), 0, NULL);
    u->bursting = n > 1;
    u->patience = PATIENCE;
    if (n < 0) {
        failed(u, errno);
        return;
    }
    for (int i = 0; i < n; i++) {
        const struct msghdr *h = &b->head[i].msg_hdr;
        b->datagram[i] =
            (puff_datagram){h->msg_iov->iov_base, b->head[i].msg_len, h->msg_name, h->msg_namelen};
    }
    deliver(u, b->datagram, (size_t)n);
}

/* The memory of bursts is the loop's; who uses it takes it out, as callbacks may turn the loop. */
static puff__burst *take_burst(puff_loop *loop) {
    puff__burst *b = loop->burst;
    loop->burst = NULL;
    return b ? b : puff_malloc(loop->alloc, sizeof *b);
}

static void give_back(puff_loop *loop, puff__burst *b) {
    puff_free(loop->alloc, loop->burst);
    loop->burst = b;
}

static void receive(puff_udp *u) {
    puff_loop *loop = loop_of(u);
    bool burst = u->bursting || u->patience == 0;
    if (!burst && u->slot <= PUFF_READ_BUF) {
        char *buf = puff__loop_read_buf(loop);
        u->patience--;
        if (buf) receive_one(u, buf);
        return;
    }
    puff__burst *b = take_burst(loop);
    if (!b) { /* read one at a time: that needs less */
        u->bursting = false;
        u->patience = PATIENCE;
        return;
    }
    receive_burst(u, b);
    give_back(loop, b);
}

/* Hands out what was kept, one by one: the receiver may stop at each. */
static void on_resume(puff_defer *defer) {
    puff_udp *u = PUFF_CONTAINER_OF(defer, puff_udp, resume);
    while (u->receiving && u->held.first) {
        packet *p = u->held.first;
        puff_datagram d = {p->data, p->len, (struct sockaddr *)&p->addr, p->addr_len};
        size_t taken = u->cbs->on_recv(u, &d, 1);
        if (!is_open(u)) return;
        if (taken == 0) break;
        drop_first(loop_of(u), &u->held);
    }
    if (u->receiving && u->held.first) puff_loop_defer(loop_of(u), defer);
    watch(u);
}

int puff_udp_recv_start(puff_udp *u) {
    if (!is_open(u)) return UV_EBADF;
    u->receiving = true;
    if (u->held.first) puff_loop_defer(loop_of(u), &u->resume);
    return watch(u);
}

void puff_udp_recv_stop(puff_udp *u) {
    u->receiving = false;
    puff_defer_cancel(&u->resume);
    watch(u);
}

/* ---- sending ---- */

/* The front of the queue, in one system call: how many of it have left; or -1, for the first. */
static int send_burst(puff_udp *u) {
    struct mmsghdr head[BURST];
    struct iovec iov[BURST];
    unsigned n = 0;
    for (packet *p = u->queue.first; p && n < BURST; p = p->next, n++) {
        iov[n] = (struct iovec){p->data, p->len};
        head[n] = (struct mmsghdr){{.msg_iov = &iov[n], .msg_iovlen = 1}, 0};
        if (!p->addr_len) continue;
        head[n].msg_hdr.msg_name = &p->addr;
        head[n].msg_hdr.msg_namelen = p->addr_len;
    }
    return sendmmsg(u->fd, head, n, 0);
}

static void send_queue(puff_udp *u) {
    size_t n = u->queue.n;
    while (is_open(u) && u->queue.first) {
        int sent = send_burst(u);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) break;
        int error = sent < 0 ? errno : 0;
        for (int gone = error ? 1 : sent; gone > 0; gone--) drop_first(loop_of(u), &u->queue);
        if (error) {
            failed(u, error);
            break; /* as asyncio: the next one waits for the next turn */
        }
    }
    if (is_open(u) && u->queue.n != n && u->cbs->on_sent) u->cbs->on_sent(u);
}

int puff_udp_send(puff_udp *u, const void *data, size_t len, const struct sockaddr *to,
                  unsigned to_len) {
    if (!is_open(u)) return UV_EBADF;
    if (!u->queue.first) {
        if (sendto(u->fd, data, len, 0, to, to_len) >= 0) return 0;
        if (errno != EAGAIN && errno != EINTR) return uv_translate_sys_error(errno);
    }
    return puff_udp_queue(u, data, len, to, to_len);
}

int puff_udp_queue(puff_udp *u, const void *data, size_t len, const struct sockaddr *to,
                   unsigned to_len) {
    if (!is_open(u)) return UV_EBADF;
    int rc = append(loop_of(u), &u->queue, data, len, to, to ? to_len : 0);
    return rc ? rc : watch(u);
}

size_t puff_udp_queued(puff_udp *u) { return u->queue.n_bytes; }
size_t puff_udp_n_queued(puff_udp *u) { return u->queue.n; }
void puff_udp_drop(puff_udp *u) {
    drop_all(loop_of(u), &u->queue);
    watch(u);
}

/* ---- readiness ---- */

/* An error of the socket (a refused datagram) makes libuv stop watching: reading or sending tells
 * which error it is, and takes it away. */
static void on_ready(uv_poll_t *uv, int status, int events) {
    puff_udp *u = PUFF_CONTAINER_OF(uv, puff_udp, uv);
    puff__loop_enter(loop_of(u));
    if (status < 0) {
        u->watched = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (events & UV_WRITABLE) send_queue(u);
    if (events & UV_READABLE && u->receiving && !u->held.first) receive(u);
    watch(u);
}

/* ---- life ---- */

static void on_closed(uv_handle_t *h) {
    puff_udp *u = PUFF_CONTAINER_OF((uv_poll_t *)h, puff_udp, uv);
    puff__loop_enter(loop_of(u));
    drop_all(loop_of(u), &u->held); /* not before: one of them may have been lent at the close */
    u->cbs->on_close(u);
    puff_free(loop_of(u)->alloc, u);
}

void puff_udp_close(puff_udp *u) {
    if (!is_open(u)) return;
    int fd = u->fd;
    u->fd = -1;
    u->receiving = false;
    puff_defer_cancel(&u->resume);
    drop_all(loop_of(u), &u->queue);
    uv_close((uv_handle_t *)&u->uv, on_closed); /* takes it out of the poll */
    close(fd);
}

static void close_handle(uv_handle_t *h) {
    puff_udp_close(PUFF_CONTAINER_OF((uv_poll_t *)h, puff_udp, uv));
}

static void refused(uv_handle_t *h, int status) {
    uv_poll_stop((uv_poll_t *)h);
    on_ready((uv_poll_t *)h, status, 0);
}

static const puff__kind kind = {close_handle, refused};

static size_t slot_of(int fd) {
    struct sockaddr_storage own = {0};
    socklen_t len = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &len) != 0) return OTHER_SLOT;
    return own.ss_family == AF_INET || own.ss_family == AF_INET6 ? IP_SLOT : OTHER_SLOT;
}

int puff_udp_open(puff_udp **out, puff_loop *loop, int fd, const puff_udp_cbs *cbs, void *data) {
    puff_udp *u = puff_calloc(loop->alloc, 1, sizeof *u);
    int rc = u ? uv_poll_init(&loop->uv, &u->uv, fd) : PUFF_ENOMEM;
    if (rc) {
        puff_free(loop->alloc, u);
        close(fd);
        return rc;
    }
    u->uv.data = (void *)&kind;
    u->cbs = cbs;
    u->data = data;
    u->fd = fd;
    u->slot = slot_of(fd);
    u->patience = PATIENCE;
    packets_init(&u->held);
    packets_init(&u->queue);
    puff_defer_init(&u->resume, on_resume);
    *out = u;
    return 0;
}

void *puff_udp_data(puff_udp *u) { return u->data; }
int puff_udp_fd(puff_udp *u) { return u->fd; }

void puff__bursts_deinit(puff_loop *loop) { puff_free(loop->alloc, loop->burst); }
