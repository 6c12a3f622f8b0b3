/* ready.c - waits for sockets that their owner reads and writes, with the registration kept.
 *
 *   libuv's epoll set --(one uv_poll)--> our epoll set --(edge-triggered)--> socket, socket ...
 *                                        slots[fd]: who waits, what the kernel reports
 *
 * Registering a socket with libuv for each wait costs two epoll_ctl() and a handle; keeping it
 * registered there is not safe, for nobody tells us of its close(): libuv knows it by its number,
 * which the next socket gets. In a set of our own that is the kernel's business: a closed file
 * leaves it, a new one with the old number is added, and an edge with nobody waiting costs one look.
 *
 * What must hold:
 * - An edge is lost only while the caller has not tried: whoever waits without having had EAGAIN, or
 *   for a file that may be a new one (no PUFF_READY_TRIED), is registered anew, and the kernel then
 *   reports what is there already.
 * - `armed` is what we asked for, not what is so: the file behind the number may have gone.
 * - A closed file that lives on elsewhere (a forked child) stays in the set under its old number
 *   and cannot be taken out. When edges come that cannot be turned off, the set is made anew.
 */
#include "loop.h"

#include "puff_config.h"

void puff_ready_init(puff_ready *r, void (*on_ready)(puff_ready *self)) {
    puff_queue_init(&r->node);
    r->loop = NULL;
    r->data = NULL;
    r->events = 0;
    r->shared = false;
    r->on_ready = on_ready;
    r->on_drop = NULL;
}

bool puff_ready_supported(void) { return PUFF_HAVE_EPOLL; }

#if PUFF_HAVE_EPOLL

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    BATCH = 256, /* events of one look: 3 KiB of stack */
    /* Edges in a row that nobody waited for before they are turned off. One is normal: the next
     * request comes while the last one is worked on. */
    MAX_UNCLAIMED = 2,
    FIRST_SLOTS = 64
};

typedef struct slot {
    puff_queue waits;  /* of puff_ready */
    uint8_t armed;     /* PUFF_*: what the kernel reports, if it is still the same file */
    uint8_t unclaimed; /* edges in a row that nobody waited for */
} slot;

struct puff__ready_set {
    puff_loop *loop; /* borrowed; outlives us */
    uv_poll_t uv;    /* of epfd in libuv's set; referenced while somebody waits */
    size_t n_waits;
    int epfd;
    size_t n_slots;
    slot **slots; /* by descriptor; each owned, NULL until the first wait */
};

/* ---- the set ------------------------------------------------------------------------------- */

static void on_set_closed(uv_handle_t *h) {
    puff__ready_set *set = PUFF_CONTAINER_OF((uv_poll_t *)h, puff__ready_set, uv);
    puff_loop *loop = set->loop;
    puff__loop_enter(loop);
    close(set->epfd);
    for (size_t i = 0; i < set->n_slots; i++) {
        /* Whoever still waits waits in vain, and may cancel later. */
        while (set->slots[i] && puff_queue_pop(&set->slots[i]->waits)) continue;
        puff_free(loop->alloc, set->slots[i]);
    }
    puff_free(loop->alloc, set->slots);
    puff_free(loop->alloc, set);
    loop->ready = NULL;
}

static void close_set(uv_handle_t *h) { uv_close(h, on_set_closed); }

static const puff__kind kind = {.close = close_set};

static void on_edges(uv_poll_t *uv, int status, int events);

/* Never one of the standard streams' numbers: a program that has closed those for a while puts them
 * back by dup2(), onto whoever has the number by then. */
static int create_set(void) {
    int low = epoll_create1(EPOLL_CLOEXEC);
    if (low < 0 || low > STDERR_FILENO) return low < 0 ? -errno : low;
    int fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0) fd = -errno;
    close(low);
    return fd;
}

static int make_set(puff_loop *loop) {
    puff__ready_set *set = puff_calloc(loop->alloc, 1, sizeof *set);
    if (!set) return PUFF_ENOMEM;
    set->loop = loop;
    set->epfd = create_set();
    int rc = set->epfd < 0 ? set->epfd : uv_poll_init(&loop->uv, &set->uv, set->epfd);
    if (rc) goto fail;
    set->uv.data = (void *)&kind;
    uv_unref((uv_handle_t *)&set->uv);
    rc = uv_poll_start(&set->uv, UV_READABLE, on_edges);
    if (rc)
        close_set((uv_handle_t *)&set->uv);
    else
        loop->ready = set;
    return rc;

fail:
    if (set->epfd >= 0) close(set->epfd);
    puff_free(loop->alloc, set);
    return rc;
}

static int grow(puff__ready_set *set, size_t fd) {
    size_t n = set->n_slots ? set->n_slots : FIRST_SLOTS;
    while (n <= fd) n *= 2;
    slot **slots = puff_realloc(set->loop->alloc, set->slots, n * sizeof *slots);
    if (!slots) return PUFF_ENOMEM;
    memset(slots + set->n_slots, 0, (n - set->n_slots) * sizeof *slots);
    set->slots = slots;
    set->n_slots = n;
    return 0;
}

static slot *peek_slot(const puff__ready_set *set, int fd) {
    return set && fd >= 0 && (size_t)fd < set->n_slots ? set->slots[fd] : NULL;
}

static slot *slot_of(puff__ready_set *set, int fd) {
    if ((size_t)fd >= set->n_slots && grow(set, (size_t)fd) < 0) return NULL;
    if (set->slots[fd]) return set->slots[fd];
    slot *s = puff_calloc(set->loop->alloc, 1, sizeof *s);
    if (s) puff_queue_init(&s->waits);
    return set->slots[fd] = s;
}

/* What those wait for who are in the list now. */
static int waited_for(const slot *s) {
    int events = 0;
    puff_queue *q;
    PUFF_QUEUE_FOREACH(q, &s->waits) events |= PUFF_CONTAINER_OF(q, puff_ready, node)->events;
    return events;
}

/* Whose list it is in does not matter: it may be among those whose callbacks run now. */
static void end_wait(puff_ready *r) {
    puff_queue_remove(&r->node);
    puff__ready_set *set = r->loop->ready;
    if (--set->n_waits == 0) uv_unref((uv_handle_t *)&set->uv);
}

static void begin_wait(puff__ready_set *set, slot *s, puff_ready *r, int events) {
    r->loop = set->loop;
    r->events = events;
    puff_queue_push(&s->waits, &r->node);
    if (set->n_waits++ == 0) uv_ref((uv_handle_t *)&set->uv);
}

/* ---- registering --------------------------------------------------------------------------- */

static int control(puff__ready_set *set, int op, int fd, int events, int flags) {
    struct epoll_event ev = {.data.fd = fd, .events = EPOLLET | (unsigned)flags};
    if (events & PUFF_READABLE) ev.events |= EPOLLIN | EPOLLRDHUP;
    if (events & PUFF_WRITABLE) ev.events |= EPOLLOUT;
    return epoll_ctl(set->epfd, op, fd, &ev) < 0 ? -errno : 0;
}

/* Adds it or, when the kernel has it already, changes it: either reports what is there now. */
static int arm(puff__ready_set *set, int fd, slot *s, int events, bool known, int flags) {
    int op = known && s->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = control(set, op, fd, events, flags);
    if (rc == -EEXIST) rc = control(set, EPOLL_CTL_MOD, fd, events, flags);
    if (rc == -ENOENT) rc = control(set, EPOLL_CTL_ADD, fd, events, flags);
    s->armed = rc || flags ? 0 : (uint8_t)events;
    s->unclaimed = 0;
    return rc;
}

/* A new set under the old number, which libuv keeps: only what is waited for now is in it. */
static int renew(puff__ready_set *set) {
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0 || dup3(epfd, set->epfd, O_CLOEXEC) < 0) {
        int rc = -errno;
        if (epfd >= 0) close(epfd);
        return rc;
    }
    close(epfd);
    for (size_t fd = 0; fd < set->n_slots; fd++) {
        slot *s = set->slots[fd];
        if (!s) continue;
        s->armed = 0;
        int events = waited_for(s);
        if (events) arm(set, (int)fd, s, events, false, 0); /* closed since: waits in vain */
    }
    return 0;
}

/* ---- edges --------------------------------------------------------------------------------- */

static int from_epoll(uint32_t events) {
    if (events & (EPOLLERR | EPOLLHUP)) return PUFF_READABLE | PUFF_WRITABLE;
    return (events & (EPOLLIN | EPOLLRDHUP) ? PUFF_READABLE : 0) |
           (events & EPOLLOUT ? PUFF_WRITABLE : 0);
}

/* libuv watches the number, but the file behind it is what is in its epoll set. */
static void renew_and_rewatch(puff__ready_set *set) {
    uv_poll_stop(&set->uv);
    renew(set);
    uv_poll_start(&set->uv, UV_READABLE, on_edges);
}

/* Nobody waited. After a few of them in a row only what is waited for is reported. */
static void on_unclaimed(puff__ready_set *set, int fd, slot *s) {
    if (++s->unclaimed < MAX_UNCLAIMED) return;
    s->unclaimed = 0;
    int keep = waited_for(s);
    bool armed = s->armed != 0;
    s->armed = (uint8_t)keep;
    int rc = control(set, keep ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, keep, 0);
    if (rc < 0 || !armed) renew_and_rewatch(set);
}

/* Callbacks may wait and cancel, also for this descriptor: the list is ours while they run. */
static void on_edge(puff__ready_set *set, int fd, int events) {
    slot *s = peek_slot(set, fd);
    if (!s) return;
    puff_queue *q, *next, due;
    puff_queue_init(&due);
    for (q = s->waits.next; q != &s->waits; q = next) {
        next = q->next;
        if (!(PUFF_CONTAINER_OF(q, puff_ready, node)->events & events)) continue;
        puff_queue_remove(q);
        puff_queue_push(&due, q);
    }
    if (puff_queue_empty(&due)) {
        on_unclaimed(set, fd, s);
        return;
    }
    s->unclaimed = 0;
    while (!puff_queue_empty(&due)) {
        puff_ready *r = PUFF_CONTAINER_OF(due.next, puff_ready, node);
        end_wait(r);
        r->on_ready(r);
    }
}

/* One batch: more of them leave the set readable, and libuv calls again in the next turn. */
static void on_edges(uv_poll_t *uv, int status, int events) {
    puff__ready_set *set = PUFF_CONTAINER_OF(uv, puff__ready_set, uv);
    struct epoll_event batch[BATCH];
    puff__loop_enter(set->loop);
    int n = epoll_wait(set->epfd, batch, BATCH, 0);
    for (int i = 0; i < n; i++) on_edge(set, batch[i].data.fd, from_epoll(batch[i].events));
}

/* ---- waiting ------------------------------------------------------------------------------- */

int puff_ready_wait(puff_loop *loop, puff_ready *r, int fd, int events, int flags) {
    if (fd < 0) return UV_EBADF;
    int rc = loop->ready ? 0 : make_set(loop);
    if (rc) return rc;
    puff__ready_set *set = loop->ready;
    slot *s = slot_of(set, fd);
    if (!s) return PUFF_ENOMEM;
    bool known = flags & PUFF_READY_TRIED;
    if (!known || (events & ~s->armed)) {
        int others = waited_for(s), all = events | others | (known ? s->armed : 0);
        bool once = flags & PUFF_READY_ONCE && !others;
        rc = arm(set, fd, s, all, known, once ? EPOLLONESHOT : 0);
        if (rc) return rc;
    }
    begin_wait(set, s, r, events);
    return 0;
}

void puff_ready_cancel(puff_ready *r) {
    if (puff_ready_waits(r)) end_wait(r);
}

bool puff_ready_drop(puff_loop *loop, int fd, int events) {
    slot *s = peek_slot(loop->ready, fd);
    if (!s) return false;
    puff_queue *q, *next, dropped;
    puff_queue_init(&dropped);
    for (q = s->waits.next; q != &s->waits; q = next) {
        puff_ready *r = PUFF_CONTAINER_OF(q, puff_ready, node);
        next = q->next;
        if (r->shared || !(r->events & events)) continue;
        puff_queue_remove(q);
        puff_queue_push(&dropped, q);
    }
    bool found = !puff_queue_empty(&dropped);
    while (!puff_queue_empty(&dropped)) {
        puff_ready *r = PUFF_CONTAINER_OF(dropped.next, puff_ready, node);
        end_wait(r);
        if (r->on_drop) r->on_drop(r);
    }
    return found;
}

void puff_ready_forget(puff_loop *loop, int fd) {
    slot *s = peek_slot(loop->ready, fd);
    if (!s || !s->armed || !puff_queue_empty(&s->waits)) return;
    s->armed = 0;
    control(loop->ready, EPOLL_CTL_DEL, fd, 0, 0); /* ENOENT: it is another file by now */
}

/* The set is shared with the parent: what we change in it would change there. libuv has a new set
 * too and looks at the number again. */
int puff__ready_forked(puff_loop *loop) { return loop->ready ? renew(loop->ready) : 0; }

#else

int puff_ready_wait(puff_loop *loop, puff_ready *r, int fd, int events, int flags) {
    return UV_ENOTSUP;
}
void puff_ready_cancel(puff_ready *r) {}
bool puff_ready_drop(puff_loop *loop, int fd, int events) { return false; }
void puff_ready_forget(puff_loop *loop, int fd) {}
int puff__ready_forked(puff_loop *loop) { return 0; }

#endif
