/* poll.c - readiness of descriptors that belong to somebody else.
 *
 * The handle lives on after puff_poll_free() until libuv's close callback: it is heap memory of its
 * own.
 */
#include "loop.h"

struct puff_poll {
    uv_poll_t uv;
    puff_poll_cb cb; /* NULL once freed */
    void *data;      /* borrowed */
    int events;      /* PUFF_* as watched now */
};

static int to_uv(int events) {
    return (events & PUFF_READABLE ? UV_READABLE : 0) | (events & PUFF_WRITABLE ? UV_WRITABLE : 0) |
           (events & PUFF_DISCONNECT ? UV_DISCONNECT : 0);
}

static int from_uv(int events) {
    return (events & UV_READABLE ? PUFF_READABLE : 0) | (events & UV_WRITABLE ? PUFF_WRITABLE : 0) |
           (events & UV_DISCONNECT ? PUFF_DISCONNECT : 0);
}

static void on_poll(uv_poll_t *uv, int status, int events) {
    puff_poll *p = PUFF_CONTAINER_OF(uv, puff_poll, uv);
    puff__loop_enter(puff__loop_of((uv_handle_t *)uv));
    if (status < 0) p->events = 0; /* libuv has stopped it */
    if (p->cb) p->cb(p, status, from_uv(events));
}

static void on_closed(uv_handle_t *h) {
    puff_loop *loop = puff__loop_of(h);
    puff__loop_enter(loop);
    puff_free(loop->alloc, PUFF_CONTAINER_OF((uv_poll_t *)h, puff_poll, uv));
}

void puff_poll_free(puff_poll *p) {
    p->cb = NULL;
    uv_close((uv_handle_t *)&p->uv, on_closed);
}

static void close_poll(uv_handle_t *h) {
    puff_poll_free(PUFF_CONTAINER_OF((uv_poll_t *)h, puff_poll, uv));
}

static void refused(uv_handle_t *h, int status) {
    uv_poll_stop((uv_poll_t *)h);
    on_poll((uv_poll_t *)h, status, 0);
}

static const puff__kind kind = {close_poll, refused};

int puff_poll_new(puff_poll **out, puff_loop *loop, int fd, puff_poll_cb cb, void *data) {
    puff_poll *p = puff_calloc(loop->alloc, 1, sizeof *p);
    if (!p) return PUFF_ENOMEM;
    int rc = uv_poll_init(&loop->uv, &p->uv, fd);
    if (rc) {
        puff_free(loop->alloc, p);
        return rc;
    }
    p->uv.data = (void *)&kind;
    p->cb = cb;
    p->data = data;
    *out = p;
    return 0;
}

int puff_poll_set(puff_poll *p, int events) {
    if (events == p->events) return 0;
    int rc = events ? uv_poll_start(&p->uv, to_uv(events), on_poll) : uv_poll_stop(&p->uv);
    if (rc == 0 && events)
        rc = puff__watch(puff__loop_of((uv_handle_t *)&p->uv), &p->uv.io_watcher);
    if (rc) uv_poll_stop(&p->uv);
    p->events = rc ? 0 : events;
    return rc;
}

void *puff_poll_data(puff_poll *p) { return p->data; }
