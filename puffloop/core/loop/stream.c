/* stream.c - a connected TCP or Unix socket: reads as they come, writes gathered per turn.
 *
 * Output is a list of chunks. A copy chunk has room of its own and takes many small writes; a
 * reference chunk borrows the caller's bytes and gives them back by release(). A reference that
 * finds the list empty costs no memory and no copy, however small: most answers are one piece.
 *
 *   first -> [copy: head, small body] -> [ref: 64 KiB of the caller's] -> [copy: ...] <- last
 *
 * flush() hands them to the kernel in one system call, at the end of the turn. What the kernel does
 * not take goes to one uv_write at a time (in_flight), which waits for the socket; later writes
 * queue behind it.
 *
 *   OPEN --close()--> CLOSING (still sending) --all sent, failed or abort()--> CLOSED
 *   CLOSED --> on_close, free
 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/sendfile.h>
#endif

enum {
    CHUNK_CAP = 16384 - 64, /* several pipelined responses; with its head, four pages */
    COPY_BELOW = 4096,      /* copying this costs less than a reference and an iovec of its own */
    MAX_IOV = 64,           /* per writev; the kernel's own limit is 1024 */
    MAX_FREE_CHUNKS = 64,   /* 1 MiB kept per loop */
    WATER_LOW = 16384,
    WATER_HIGH = 65536
};

struct puff__chunk {
    puff__chunk *next;
    const char *data; /* what is left to send */
    size_t len;
    size_t room;                /* of a copy chunk: bytes free behind data + len */
    void (*release)(void *arg); /* of a reference chunk */
    void *arg;
};

typedef struct in_flight {
    uv_write_t uv;
    puff_stream *stream;
} in_flight;

enum state { OPEN, CLOSING, CLOSED };

struct puff_stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    const puff_stream_cbs *cbs; /* borrowed; outlive us */
    void *data;                 /* borrowed */
    puff__chunk *first, *last;  /* owned */
    in_flight *sending;         /* owned by libuv until its callback; sends a prefix of the list */
    puff__chunk *last_sending;  /* borrowed; the last of that prefix, which must not change */
    size_t n_queued;            /* bytes in the list */
    size_t low, high;
    puff_defer flush;
    puff__chunk alone; /* the reference that found the list empty; in use while it has a release */
    int fd;
    uint8_t state;
    bool reading, over_high, broken, want_shutdown, shut;
    bool allocating; /* on_alloc is being asked: libuv must not notice a stop or a close */
};

static puff_loop *loop_of(const puff_stream *s) { return puff__loop_of(&s->uv.handle); }

/* ---- chunks ---- */

static puff__chunk *copy_chunk_new(puff_loop *loop) {
    puff__chunk *c = loop->free_chunks;
    if (c) {
        loop->free_chunks = c->next;
        loop->n_free_chunks--;
    } else {
        c = puff_malloc(loop->alloc, sizeof *c + CHUNK_CAP);
        if (!c) return NULL;
    }
    *c = (puff__chunk){.data = (const char *)(c + 1), .room = CHUNK_CAP};
    return c;
}

static void release_ref(puff_stream *s, puff__chunk *c) {
    void (*release)(void *) = c->release;
    void *arg = c->arg;
    if (c == &s->alone)
        c->release = NULL; /* the host's next write may use it */
    else
        puff_free(loop_of(s)->alloc, c);
    release(arg);
}

static void chunk_free(puff_stream *s, puff__chunk *c) {
    puff_loop *loop = loop_of(s);
    if (c->release) {
        release_ref(s, c);
    } else if (loop->n_free_chunks < MAX_FREE_CHUNKS) {
        c->next = loop->free_chunks;
        loop->free_chunks = c;
        loop->n_free_chunks++;
    } else {
        puff_free(loop->alloc, c);
    }
}

void puff__chunks_deinit(puff_loop *loop) {
    for (puff__chunk *c = loop->free_chunks, *next; c; c = next) {
        next = c->next;
        puff_free(loop->alloc, c);
    }
}

static void append(puff_stream *s, puff__chunk *c) {
    if (s->last)
        s->last->next = c;
    else
        s->first = c;
    s->last = c;
}

static puff__chunk *pop(puff_stream *s) {
    puff__chunk *c = s->first;
    s->first = c->next;
    if (!s->first) s->last = NULL;
    s->n_queued -= c->len;
    return c;
}

/* A release runs the host's code, which may write, flush, close or abort: never while the list is
 * half changed, and not while it still has what was sent, or that would be sent again. */
static void free_all(puff_stream *s, puff__chunk *c) {
    for (puff__chunk *next; c; c = next) {
        next = c->next;
        chunk_free(s, c);
    }
}

static void drop_all(puff_stream *s) {
    puff__chunk *all = s->first;
    s->first = s->last = NULL;
    s->n_queued = 0;
    free_all(s, all);
}

/* n bytes of the front have been sent. */
static void consume(puff_stream *s, size_t n) {
    puff__chunk *sent = NULL, **link = &sent;
    while (n > 0 && n >= s->first->len) {
        n -= s->first->len;
        *link = pop(s);
        link = &(*link)->next;
    }
    *link = NULL;
    if (n > 0) {
        s->first->data += n;
        s->first->len -= n;
        s->n_queued -= n;
    }
    free_all(s, sent);
}

/* The part in flight has been sent. */
static void consume_sending(puff_stream *s, const puff__chunk *last) {
    puff__chunk *sent = s->first, *c;
    do c = pop(s);
    while (c != last);
    c->next = NULL;
    free_all(s, sent);
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *h) {
    puff_stream *s = PUFF_CONTAINER_OF(h, puff_stream, uv.handle);
    puff_loop *loop = loop_of(s);
    puff__loop_enter(loop);
    drop_all(s);
    s->cbs->on_close(s);
    puff_free(loop->alloc, s);
}

static void close_now(puff_stream *s) {
    if (s->state == CLOSED) return;
    s->state = CLOSED;
    puff_defer_cancel(&s->flush);
    if (!s->allocating) uv_close(&s->uv.handle, on_closed); /* else end_allocation() does */
}

static void close_handle(uv_handle_t *h) {
    close_now(PUFF_CONTAINER_OF(h, puff_stream, uv.handle));
}

/* ---- sending ---- */

static void write_failed(puff_stream *s, int status) {
    if (s->broken) return;
    s->broken = true;
    if (s->state != OPEN)
        close_now(s);
    else if (s->cbs->on_write_error)
        s->cbs->on_write_error(s, status); /* puff_stream_queued() still says what was not sent */
    if (!s->sending) drop_all(s);
}

/* The queue is empty: do what waited for that. */
static void all_sent(puff_stream *s) {
    if (s->want_shutdown && !s->shut) {
        s->shut = true;
        shutdown(puff_stream_fd(s), SHUT_WR);
    }
    if (s->state == CLOSING) close_now(s);
}

static bool drain_is_due(const puff_stream *s) {
    return s->over_high && s->n_queued <= s->low && s->state == OPEN;
}

static void check_drain(puff_stream *s) {
    if (!drain_is_due(s)) return;
    s->over_high = false;
    if (s->cbs->on_drain) s->cbs->on_drain(s);
}

static size_t gather(const puff_stream *s, uv_buf_t *bufs) {
    size_t n = 0;
    for (puff__chunk *c = s->first; c && n < MAX_IOV; c = c->next)
        bufs[n++] = (uv_buf_t){.base = (char *)c->data, .len = c->len}; /* may exceed 4 GiB */
    return n;
}

/* One system call. What is sent must be a prefix of what bufs hold. */
static ssize_t send_now(const puff_stream *s, uv_buf_t *bufs, size_t n) {
    struct msghdr msg = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = n}; /* the same on Unix */
    ssize_t sent;
    do
        sent = n == 1 ? send(s->fd, bufs->base, bufs->len, MSG_NOSIGNAL)
                      : sendmsg(s->fd, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) return sent;
    return errno == EWOULDBLOCK || errno == ENOBUFS ? UV_EAGAIN : uv_translate_sys_error(errno);
}

static void flush_queue(puff_stream *s);

static void on_written(uv_write_t *req, int status) {
    in_flight *sending = PUFF_CONTAINER_OF(req, in_flight, uv);
    puff_stream *s = sending->stream;
    puff_loop *loop = loop_of(s);
    puff__loop_enter(loop);
    const puff__chunk *last = s->last_sending;
    s->sending = NULL;
    s->last_sending = NULL;
    puff_free(loop->alloc, sending);
    if (s->state == CLOSED) return; /* on_closed drops the rest */
    if (status < 0) {
        write_failed(s, status);
        return;
    }
    consume_sending(s, last);
    check_drain(s);
    flush_queue(s);
    check_drain(s);
}

/* Lets libuv wait for the socket to take the front of the queue. */
static int send_later(puff_stream *s, const uv_buf_t *bufs, size_t n) {
    in_flight *sending = puff_malloc(loop_of(s)->alloc, sizeof *sending);
    if (!sending) return UV_ENOMEM;
    sending->stream = s;
    puff__chunk *last = s->first;
    for (size_t i = 1; i < n; i++) last = last->next;
    int rc = uv_write(&sending->uv, &s->uv.stream, bufs, (unsigned)n, on_written);
    if (rc) {
        puff_free(loop_of(s)->alloc, sending);
        return rc;
    }
    s->sending = sending;
    s->last_sending = last;
    return 0;
}

static bool can_send(const puff_stream *s) {
    return !s->sending && s->state != CLOSED && !s->broken;
}

static void flush_queue(puff_stream *s) {
    uv_buf_t bufs[MAX_IOV];
    puff_defer_cancel(&s->flush);
    while (s->first && can_send(s)) {
        size_t n = gather(s, bufs);
        ssize_t sent = send_now(s, bufs, n);
        if (sent == UV_EAGAIN) {
            int rc = send_later(s, bufs, n);
            if (rc) write_failed(s, rc);
            return;
        }
        if (sent < 0) {
            write_failed(s, (int)sent);
            return;
        }
        consume(s, (size_t)sent); /* a release may have changed everything */
    }
    if (!s->first && can_send(s)) all_sent(s);
}

/* on_drain never comes before a call of the owner's returns: the turn's end brings it. */
static void drain_later(puff_stream *s) {
    if (drain_is_due(s)) puff_loop_defer(loop_of(s), &s->flush);
}

void puff_stream_flush(puff_stream *s) {
    flush_queue(s);
    drain_later(s);
}

static void on_flush(puff_defer *d) {
    puff_stream *s = PUFF_CONTAINER_OF(d, puff_stream, flush);
    flush_queue(s);
    check_drain(s);
}

static void queued(puff_stream *s, size_t len) {
    s->n_queued += len;
    if (s->n_queued > s->high) s->over_high = true;
    puff_loop_defer(loop_of(s), &s->flush);
}

static bool can_write(const puff_stream *s) {
    return s->state == OPEN && !s->broken && !s->want_shutdown;
}

int puff_stream_write(puff_stream *s, const void *data, size_t len) {
    if (!can_write(s)) return UV_EPIPE;
    puff__chunk *tail =
        s->last != s->last_sending ? s->last : NULL; /* what is in flight must not grow */
    size_t fits = tail ? (tail->room < len ? tail->room : len) : 0;
    puff__chunk *more = NULL, **link = &more;
    for (size_t need = len - fits; need > 0; need -= need < CHUNK_CAP ? need : CHUNK_CAP) {
        puff__chunk *c =
            copy_chunk_new(loop_of(s)); /* first all the memory, then the first change */
        if (!c) goto fail;
        *link = c;
        link = &c->next;
    }
    const char *from = data;
    for (size_t left = len; left > 0;) {
        if (!tail || tail->room == 0) {
            tail = more;
            more = more->next;
            tail->next = NULL;
            append(s, tail);
        }
        size_t n = tail->room < left ? tail->room : left;
        memcpy((char *)tail->data + tail->len, from, n);
        tail->len += n;
        tail->room -= n;
        from += n;
        left -= n;
    }
    assert(!more);
    if (len > 0) queued(s, len);
    return 0;
fail:
    while (more) {
        puff__chunk *next = more->next;
        chunk_free(s, more);
        more = next;
    }
    return UV_ENOMEM;
}

int puff_stream_write_ref(puff_stream *s, const void *data, size_t len, void (*release)(void *arg),
                          void *arg) {
    if (!can_write(s)) return UV_EPIPE;
    bool alone = !s->first && len > 0 && !s->alone.release;
    if (!alone && len < COPY_BELOW) {
        int rc = puff_stream_write(s, data, len);
        if (rc == 0) release(arg);
        return rc;
    }
    puff__chunk *c = alone ? &s->alone : puff_malloc(loop_of(s)->alloc, sizeof *c);
    if (!c) return UV_ENOMEM;
    *c = (puff__chunk){.data = data, .len = len, .release = release, .arg = arg};
    append(s, c);
    queued(s, len);
    return 0;
}

ssize_t puff_stream_sendfile(puff_stream *s, int fd, uint64_t offset, size_t len) {
    if (!can_write(s)) return UV_EPIPE;
    if (s->first) return UV_EAGAIN;
#if defined(__linux__)
    off_t from = (off_t)offset;
    ssize_t sent;
    do sent = sendfile(s->fd, fd, &from, len);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 ? sent : uv_translate_sys_error(errno);
#else
    return UV_ENOSYS;
#endif
}

size_t puff_stream_queued(puff_stream *s) {
    size_t gone = 0; /* what libuv has already given to the kernel of the part in flight */
    if (s->sending) {
        for (puff__chunk *c = s->first; c != s->last_sending; c = c->next) gone += c->len;
        gone += s->last_sending->len;
        gone -= s->uv.stream.write_queue_size < gone ? s->uv.stream.write_queue_size : gone;
    }
    return s->n_queued - gone;
}

void puff_stream_set_water(puff_stream *s, size_t low, size_t high) {
    s->low = low;
    s->high = high;
    s->over_high |= s->n_queued > high; /* a drain that is on its way still comes */
    drain_later(s);
}

int puff_stream_shutdown(puff_stream *s) {
    if (s->state != OPEN) return UV_ENOTCONN;
    s->want_shutdown = true;
    if (!s->first && !s->sending) all_sent(s);
    return 0;
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf) {
    puff_stream *s = PUFF_CONTAINER_OF(h, puff_stream, uv.handle);
    puff_loop *loop = loop_of(s);
    puff__loop_enter(loop);
    *buf = (uv_buf_t){0};
    if (s->cbs->on_alloc) {
        s->allocating = true;
        s->cbs->on_alloc(s, &buf->base, &buf->len);
        if (!s->reading || s->state == CLOSED) *buf = (uv_buf_t){0}; /* see end_allocation() */
        s->allocating = false;
        if (!s->reading || s->state == CLOSED) return;
    }
    if (!buf->base || buf->len == 0) {
        buf->base = puff__loop_read_buf(loop);
        buf->len = buf->base ? PUFF_READ_BUF : 0;
    }
}

/* What on_alloc has stopped or closed. libuv has read nothing, having got no memory. */
static void end_allocation(puff_stream *s) {
    if (s->state == CLOSED)
        uv_close(&s->uv.handle, on_closed);
    else
        uv_read_stop(&s->uv.stream);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf);

/* libuv takes a hang-up after a short read for the end, without a look: it may be a reset, and there
 * may be more to read. The next read tells. */
static bool read_on(puff_stream *s) {
    if (s->state != OPEN) return false;
    uv_read_stop(&s->uv.stream);
    return uv_read_start(&s->uv.stream, on_alloc, on_read) == 0;
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf) {
    puff_stream *s = PUFF_CONTAINER_OF(uv, puff_stream, uv.stream);
    puff__loop_enter(loop_of(s));
    if (n == UV_ENOBUFS && (!s->reading || s->state == CLOSED)) {
        end_allocation(s);
        return;
    }
    if (n == UV_EOF && !buf->base && read_on(s)) return;
    if (n < 0) puff_stream_read_stop(s); /* libuv goes on by itself after UV_ENOBUFS */
    s->cbs->on_read(s, buf->base, n);
}

int puff_stream_read_start(puff_stream *s) {
    if (s->reading || s->state != OPEN) return 0;
    int rc = s->allocating ? 0 : uv_read_start(&s->uv.stream, on_alloc, on_read);
    s->reading = rc == 0;
    return rc;
}

void puff_stream_read_stop(puff_stream *s) {
    if (!s->reading) return;
    s->reading = false;
    if (!s->allocating) uv_read_stop(&s->uv.stream);
}

/* Somebody has closed the descriptor. */
static void refused(uv_handle_t *h, int status) {
    puff_stream *s = PUFF_CONTAINER_OF(h, puff_stream, uv.handle);
    puff__loop_enter(loop_of(s));
    bool reading = s->reading;
    puff_stream_read_stop(s);
    if (reading) s->cbs->on_read(s, NULL, status);
    if (s->sending && s->state != CLOSED) write_failed(s, status);
}

/* ---- life ---- */

static const puff__kind kind = {close_handle, refused};

static int open_fd(puff_stream *s, puff_loop *loop, int fd) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) return uv_translate_sys_error(errno);
    if (addr.ss_family == AF_UNIX) {
        int rc = uv_pipe_init(&loop->uv, &s->uv.pipe, 0);
        return rc ? rc : uv_pipe_open(&s->uv.pipe, fd);
    }
    int rc = uv_tcp_init(&loop->uv, &s->uv.tcp);
    return rc ? rc : uv_tcp_open(&s->uv.tcp, fd);
}

static void on_failed_open(uv_handle_t *h) {
    puff__loop_enter(puff__loop_of(h));
    puff_free(puff__loop_of(h)->alloc, PUFF_CONTAINER_OF(h, puff_stream, uv.handle));
}

int puff_stream_open(puff_stream **out, puff_loop *loop, int fd, const puff_stream_cbs *cbs,
                     void *data) {
    puff_stream *s = puff_calloc(loop->alloc, 1, sizeof *s);
    if (!s) {
        close(fd);
        return UV_ENOMEM;
    }
    s->cbs = cbs;
    s->data = data;
    s->low = WATER_LOW;
    s->high = WATER_HIGH;
    s->fd = fd;
    puff_defer_init(&s->flush, on_flush);
    int rc = open_fd(s, loop, fd);
    if (rc) {
        close(fd);
        if (s->uv.handle.loop)
            uv_close(&s->uv.handle, on_failed_open);
        else
            puff_free(loop->alloc, s);
        return rc;
    }
    s->uv.handle.data = (void *)&kind;
    *out = s;
    return 0;
}

void *puff_stream_data(puff_stream *s) { return s->data; }
void puff_stream_set_data(puff_stream *s, void *data) { s->data = data; }
puff_loop *puff_stream_loop(puff_stream *s) { return loop_of(s); }
bool puff_stream_closing(puff_stream *s) { return s->state != OPEN; }

int puff_stream_fd(puff_stream *s) { return s->state == CLOSED ? -1 : s->fd; }

void puff_stream_close(puff_stream *s) {
    if (s->state != OPEN) return;
    puff_stream_read_stop(s);
    s->state = CLOSING;
    if (s->broken)
        close_now(s);
    else
        puff_stream_flush(s); /* closes when all is sent */
}

void puff_stream_abort(puff_stream *s, bool reset) {
    if (s->state == CLOSED) return;
    if (reset) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        setsockopt(puff_stream_fd(s), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    close_now(s);
}
