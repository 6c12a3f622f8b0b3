/* watch.c - tells the kernel what is to be watched, before libuv would.
 *
 * libuv keeps what has changed in a queue until it polls, and ends the process where the kernel
 * refuses. But whose descriptor it is may close it in between: then the kernel rightly knows no
 * such file (EBADF), or a file that cannot be watched has the number by now (EPERM). Here the queue
 * is emptied right before the poll, by the same system calls; what is refused is told to the owner.
 *
 * libuv's part in this: uv_loop_t.watcher_queue, and of each watcher in it fd, pevents (wanted) and
 * events (what the kernel knows). They stand in its public headers, alike from 1.44 to 1.53.
 */
#include "loop.h"

#if defined(__linux__)
#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>

typedef struct queue_node queue_node;
struct queue_node {
    queue_node *next, *prev;
};
static_assert(sizeof(queue_node) == sizeof(((uv_loop_t *)0)->watcher_queue), "libuv's queue");
static_assert(sizeof(queue_node) == sizeof(((uv__io_t *)0)->watcher_queue), "libuv's queue");

static bool is_empty(const queue_node *queue) { return queue->next == queue; }

static void take_out(queue_node *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}

static int tell_kernel(puff_loop *loop, uv__io_t *w) {
    struct epoll_event e = {.events = w->pevents, .data.fd = w->fd};
    int epfd = uv_backend_fd(&loop->uv);
    int rc = epoll_ctl(epfd, w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &e);
    if (rc != 0 && !w->events && errno == EEXIST) rc = epoll_ctl(epfd, EPOLL_CTL_MOD, w->fd, &e);
    if (rc != 0) return -errno;
    w->events = w->pevents;
    return 0;
}

int puff__watch(puff_loop *loop, uv__io_t *w) {
    queue_node *node = (queue_node *)&w->watcher_queue;
    if (is_empty(node)) return 0; /* the kernel knows */
    take_out(node);
    return tell_kernel(loop, w);
}

/* ---- what is refused ------------------------------------------------------------------------- */

typedef struct search {
    const uv__io_t *watcher;
    uv_handle_t *found;
} search;

static const uv__io_t *watcher_of(const uv_handle_t *h) {
    switch (h->type) {
    case UV_POLL: return &((const uv_poll_t *)h)->io_watcher;
    case UV_TCP:
    case UV_NAMED_PIPE: return &((const uv_stream_t *)h)->io_watcher;
    default: return NULL;
    }
}

static void look_at(uv_handle_t *h, void *arg) {
    search *s = arg;
    if (watcher_of(h) == s->watcher) s->found = h;
}

static void tell_owner(puff_loop *loop, const uv__io_t *w, int status) {
    search s = {.watcher = w};
    uv_walk(&loop->uv, look_at, &s);
    const puff__kind *kind = s.found ? s.found->data : NULL;
    if (kind && kind->refused && !uv_is_closing(s.found)) kind->refused(s.found, status);
}

bool puff__watch_new(puff_loop *loop) {
    const queue_node *queue = (const queue_node *)&loop->uv.watcher_queue;
    if (__builtin_expect(is_empty(queue), 1)) return false;
    size_t n_tell = 0; /* an owner that wants it watched all the same is told twice, and no more */
    for (const queue_node *l = queue->next; l != queue; l = l->next) n_tell += 2;
    bool told = false;
    while (!is_empty(queue)) {
        uv__io_t *w = PUFF_CONTAINER_OF((void *)queue->next, uv__io_t, watcher_queue);
        int rc = puff__watch(loop, w);
        if (rc == 0 || n_tell == 0) continue;
        n_tell--;
        told = true;
        tell_owner(loop, w, rc);
    }
    return told;
}

bool puff__watch_may_change(puff_loop *loop) {
    return !is_empty((const queue_node *)&loop->uv.pending_queue);
}
#else
int puff__watch(puff_loop *loop, uv__io_t *w) { return 0; }
bool puff__watch_new(puff_loop *loop) { return false; }
bool puff__watch_may_change(puff_loop *loop) { return false; }
#endif
