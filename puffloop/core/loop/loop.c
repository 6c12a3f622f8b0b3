/* loop.c - a turn of the loop, its clock and its end.
 *
 * One turn:   deferred jobs -> [give the lock up] poll [take it] -> callbacks -> deferred jobs
 *
 * The lock is the host's (hooks). prepare runs last before libuv polls, so only there is it known
 * whether the poll can sleep; puff__loop_enter() at the head of every callback takes the lock back.
 */
#include "loop.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

uint64_t puff_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t puff_loop_update_now(puff_loop *loop) {
    loop->now_ticks = puff_ticks();
    return loop->now_ns = puff_now_ns();
}

/* Deadlines are reckoned from it: a host that was busy, or did not turn the loop for a minute, must
 * not find them passed before it begins. */
uint64_t puff_loop_now_ns(puff_loop *loop) {
    bool old = puff_ticks() - loop->now_ticks > loop->ticks_per_ms;
    return old ? puff_loop_update_now(loop) : loop->now_ns;
}

void puff__loop_awake(puff_loop *loop) {
    loop->sleeping = false;
    puff_loop_update_now(loop);
    loop->stats.n_waits++;
    loop->stats.idle_ns += loop->now_ns - loop->slept_at_ns;
    if (loop->hooks.after_wait) loop->hooks.after_wait(loop->hooks.ctx);
}

char *puff__loop_read_buf(puff_loop *loop) {
    if (!loop->read_buf) loop->read_buf = puff_malloc(loop->alloc, PUFF_READ_BUF);
    return loop->read_buf;
}

/* ---- turns that are left out ----------------------------------------------------------------- */

/* A look costs about 200 ns, three callbacks' worth. A host whose callbacks reschedule themselves
 * has one turn per callback, so looks are left out, but only as long as nobody can tell: */
enum {
    QUIET_LOOKS = 4, /* a program that yields a few times to let I/O happen gets its looks */
    SKIPS = 15,      /* the look is 15 ns a turn then */
    SKIP_NS = 50000, /* slow callbacks: what comes in must not wait for more than one of them */
    CALIBRATION_NS = 1000000,
};

bool puff_loop_skip_turn(puff_loop *loop, uint64_t ticks) {
    if (loop->n_quiet < QUIET_LOOKS || loop->n_skipped >= SKIPS) return false;
    if (ticks - loop->looked_ticks >= loop->ticks_per_ms / (1000000 / SKIP_NS)) return false;
    if (!puff_queue_empty(&loop->deferred)) return false;
    if (atomic_load_explicit(&loop->posted, memory_order_relaxed)) return false;
    if (puff__timers_next(loop) <= loop->now_ns + SKIP_NS) return false;
    loop->n_skipped++;
    loop->stats.n_turns++;
    return true;
}

uint64_t puff_loop_ticks_per_ms(puff_loop *loop) { return loop->ticks_per_ms; }

static void calibrate(puff_loop *loop) {
    uint64_t age_ns = loop->now_ns - loop->made_ns;
    if (age_ns < CALIBRATION_NS) return;
    loop->ticks_per_ms =
        (uint64_t)((double)(puff_ticks() - loop->made_ticks) * 1e6 / (double)age_ns);
}

static void looked(puff_loop *loop) {
    loop->n_quiet = loop->called ? 0 : loop->n_quiet + 1;
    loop->n_skipped = 0;
    loop->looked_ticks = puff_ticks();
    if (__builtin_expect(!loop->ticks_per_ms, 0)) calibrate(loop);
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* From 1.45 on timers run after the poll, which does not sleep then. */
static bool kernel_timer_is_due(const puff_loop *loop) {
    const uv_timer_t *t = &loop->kernel_timer;
    return uv_is_active((const uv_handle_t *)t) && uv_timer_get_due_in(t) == 0;
}

static void fall_asleep(puff_loop *loop) {
    loop->slept_at_ns = puff_loop_update_now(loop);
    loop->sleeping = true;
    if (loop->hooks.before_wait) loop->hooks.before_wait(loop->hooks.ctx);
}

static void on_prepare(uv_prepare_t *p) {
    puff_loop *loop = PUFF_CONTAINER_OF(p, puff_loop, prepare);
    uv_update_time(&loop->uv); /* libuv from 1.45 on reckons from the end of the turn before */
    /* libuv before 1.45 runs due timers and sleeps until the next event all the same. */
    if (puff__watch_new(loop) || loop->due || kernel_timer_is_due(loop))
        uv_stop(&loop->uv); /* it will only look */
    else
        /* uv_backend_timeout() is no help: it says 0 while a watcher is new, and uv_run() sleeps. */
        fall_asleep(loop);
}

static void on_prepare_look(uv_prepare_t *p) {
    puff__watch_new(PUFF_CONTAINER_OF(p, puff_loop, prepare));
}

static void look(puff_loop *loop) {
    bool guarded = puff__watch_may_change(loop);
    if (guarded) uv_prepare_start(&loop->prepare, on_prepare_look);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (guarded) uv_prepare_stop(&loop->prepare);
}

/* The prepare handle is there for turns that may sleep: one that looks keeps the lock. */
static void wait_for_event(puff_loop *loop) {
    loop->due = false;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_run(&loop->uv, UV_RUN_ONCE);
    uv_prepare_stop(&loop->prepare);
}

/* libuv sleeps whole milliseconds: the rest of a timer's time is spent on its descriptor. The look
 * before tells the kernel what is watched since the last one. */
static void wait_briefly(puff_loop *loop) {
    look(loop);
    if (loop->called || !puff_queue_empty(&loop->deferred)) return;
    fall_asleep(loop);
    uint64_t first = puff__timers_next(loop);
    uint64_t ns = first > loop->now_ns ? first - loop->now_ns : 0;
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000),
                            .tv_nsec = (long)(ns % 1000000000)};
    struct pollfd epoll = {.fd = uv_backend_fd(&loop->uv), .events = POLLIN};
    int n = ppoll(&epoll, 1, &left, NULL);
    puff__loop_awake(loop);
    if (n > 0) look(loop);
}

static bool alive(const puff_loop *loop) {
    return loop->n_timers > 0 || uv_loop_alive(&loop->uv) || !puff_queue_empty(&loop->jobs) ||
           !puff_queue_empty(&loop->lost);
}

static bool may_wait(puff_loop *loop) {
    if (!puff_queue_empty(&loop->deferred)) return false; /* jobs that jobs deferred */
    return alive(loop) && puff__timers_next(loop) > puff_loop_update_now(loop);
}

int puff_loop_turn(puff_loop *loop, bool wait) {
    loop->stats.n_turns++;
    puff_loop_flush(loop);
    loop->called = false;
    wait = wait && may_wait(loop);
    uv_ref((uv_handle_t *)&loop->wake); /* libuv does not even look when nothing is open */
    if (puff__watch_new(loop) || !wait) /* who has been told may have work for the host */
        look(loop);
    else if (puff__timers_arm(loop))
        wait_for_event(loop);
    else
        wait_briefly(loop);
    uv_unref((uv_handle_t *)&loop->wake);
    if (loop->sleeping) puff__loop_awake(loop);
    puff_loop_update_now(loop);
    looked(loop);
    puff__timers_fire(loop);
    puff_loop_flush(loop);
    return alive(loop) || !puff_queue_empty(&loop->deferred) ||
           atomic_load_explicit(&loop->posted, memory_order_relaxed);
}

void puff_loop_stop(puff_loop *loop) { loop->stopped = true; }

void puff_loop_run(puff_loop *loop) {
    loop->stopped = false;
    while (!loop->stopped && puff_loop_turn(loop, true) != 0) continue;
}

const puff_alloc *puff_loop_alloc(puff_loop *loop) { return loop->alloc; }
uv_loop_t *puff_loop_uv(puff_loop *loop) { return &loop->uv; }
int puff_loop_backend_fd(puff_loop *loop) { return uv_backend_fd(&loop->uv); }
puff_loop_stats puff_loop_get_stats(puff_loop *loop) { return loop->stats; }

int puff_loop_fork(puff_loop *loop) {
    int rc = uv_loop_fork(&loop->uv);
    if (rc == 0) rc = puff__post_forked(loop);
    if (rc) return rc;
    puff__work_forked(loop);
    return puff__ready_forked(loop);
}

void puff_loop_set_hooks(puff_loop *loop, const puff_loop_hooks *hooks) {
    loop->hooks = hooks ? *hooks : (puff_loop_hooks){0};
}

int puff_loop_new(puff_loop **out, const puff_loop_options *opts, puff_err *err) {
    const puff_alloc *alloc = opts && opts->alloc ? opts->alloc : &puff_alloc_system;
    puff_loop *loop = puff_calloc(alloc, 1, sizeof *loop);
    if (!loop) return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_SYSTEM, "out of memory");
    loop->alloc = alloc;
    loop->spare_fd = loop->wake_fd = -1;
    puff_queue_init(&loop->deferred);
    puff_queue_init(&loop->closers);
    puff_queue_init(&loop->jobs);
    puff_queue_init(&loop->lost);
    int rc = uv_loop_init(&loop->uv);
    if (rc) goto fail_loop;
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_unref((uv_handle_t *)&loop->prepare);
    rc = puff__timers_init(loop);
    if (rc == 0) rc = puff__post_init(loop);
    if (rc) goto fail_handles;
    loop->made_ns = puff_loop_update_now(loop);
    loop->made_ticks = puff_ticks();
    *out = loop;
    return 0;

fail_handles:
    puff_loop_free(loop);
    return puff_err_set(err, rc, PUFF_DOMAIN_SYSTEM, "cannot make a loop: %s", puff_err_text(rc));
fail_loop:
    puff_free(alloc, loop);
    return puff_err_set(err, rc, PUFF_DOMAIN_SYSTEM, "cannot make a loop: %s", puff_err_text(rc));
}

static void close_handle(uv_handle_t *h, void *arg) {
    if (uv_is_closing(h)) return;
    const puff__kind *kind = h->data;
    if (kind)
        kind->close(h);
    else
        uv_close(h, NULL); /* the loop's own, part of its memory */
}

static void close_all(puff_loop *loop) {
    puff_queue *node;
    puff__post_run(loop);
    puff_loop_flush(loop);
    while ((node = puff_queue_pop(&loop->closers)) != NULL) {
        puff__closer *c = PUFF_CONTAINER_OF(node, puff__closer, node);
        c->close(c);
    }
    puff__work_drain(loop);
    uv_walk(&loop->uv, close_handle, NULL);
}

void puff_loop_free(puff_loop *loop) {
    puff_loop_set_hooks(loop, NULL);
    loop->freeing = true;
    /* What runs is close callbacks and work that other threads are finishing. Each may defer, post,
     * submit and open something; the second round is for what the very last one did. */
    for (int round = 0; round < 2; round++) {
        do close_all(loop);
        while (uv_run(&loop->uv, UV_RUN_ONCE) != 0);
    }
    puff__work_drain(loop);
    puff__work_deinit(loop);
    while (puff_queue_pop(&loop->deferred))
        continue; /* jobs that defer themselves: they outlive us */
    uv_loop_close(&loop->uv);
    if (loop->spare_fd >= 0) close(loop->spare_fd);
    puff__post_deinit(loop);
    puff__timers_deinit(loop);
    puff__chunks_deinit(loop);
    puff__bursts_deinit(loop);
    puff_free(loop->alloc, loop->read_buf);
    puff_free(loop->alloc, loop);
}
