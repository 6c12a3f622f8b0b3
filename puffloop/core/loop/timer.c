/* timer.c - one 4-ary heap of nanosecond deadlines behind one timer of libuv's.
 *
 * Equal deadlines fire in the order of their start: seq breaks the tie. libuv's timer counts whole
 * milliseconds, so it is set to the next one up: a timer of ours never fires early, and at most 1
 * ms late.
 */
#include <assert.h>
#include <string.h>

#include "loop.h"

enum { ARITY = 4, FIRST_CAP = 64 };
#define IDLE SIZE_MAX

static bool before(const puff_timer *a, const puff_timer *b) {
    if (a->deadline_ns != b->deadline_ns) return a->deadline_ns < b->deadline_ns;
    return a->seq < b->seq;
}

static void put(puff_loop *loop, size_t i, puff_timer *t) {
    loop->heap[i] = t;
    t->index = i;
}

static void sift_up(puff_loop *loop, size_t i, puff_timer *t) {
    while (i > 0) {
        size_t parent = (i - 1) / ARITY;
        if (!before(t, loop->heap[parent])) break;
        put(loop, i, loop->heap[parent]);
        i = parent;
    }
    put(loop, i, t);
}

static size_t least_child(const puff_loop *loop, size_t i) {
    size_t first = i * ARITY + 1, best = first;
    if (first >= loop->n_timers) return IDLE;
    size_t end = first + ARITY < loop->n_timers ? first + ARITY : loop->n_timers;
    for (size_t c = first + 1; c < end; c++)
        if (before(loop->heap[c], loop->heap[best])) best = c;
    return best;
}

static void sift_down(puff_loop *loop, size_t i, puff_timer *t) {
    for (size_t c; (c = least_child(loop, i)) != IDLE; i = c) {
        if (!before(loop->heap[c], t)) break;
        put(loop, i, loop->heap[c]);
    }
    put(loop, i, t);
}

static void on_kernel_timer(uv_timer_t *kt);

/* Sets the kernel's timer for the first deadline, if that has moved to an earlier time. Leaving a
 * timer that is too early costs one empty wake-up; resetting it at each change would cost more. */
static void arm(puff_loop *loop) {
    if (loop->n_timers == 0 || loop->firing_ns) return;
    uint64_t first = loop->heap[0]->deadline_ns;
    if (first >= loop->kernel_deadline_ns) return;
    uint64_t now = puff_loop_update_now(loop);
    uint64_t wait_ms = first > now ? (first - now + 999999) / 1000000 : 0;
    loop->kernel_deadline_ns = first;
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->kernel_timer, on_kernel_timer, wait_ms, 0);
}

static void heap_remove(puff_loop *loop, puff_timer *t) {
    size_t i = t->index;
    assert(i < loop->n_timers && loop->heap[i] == t);
    puff_timer *last = loop->heap[--loop->n_timers];
    t->index = IDLE;
    if (last == t) return;
    if (i > 0 && before(last, loop->heap[(i - 1) / ARITY]))
        sift_up(loop, i, last);
    else
        sift_down(loop, i, last);
}

/* Fires what was due when it began; what callbacks start anew waits for the next turn. It is behind
 * those in the heap: start_at() lets no deadline be before firing_ns now, and seq breaks the tie.
 */
static void fire_due(puff_loop *loop) {
    uint64_t last_seq = loop->timer_seq;
    loop->firing_ns = puff_loop_update_now(loop);
    while (loop->n_timers > 0) {
        puff_timer *t = loop->heap[0];
        if (t->deadline_ns > loop->firing_ns || t->seq > last_seq) break;
        heap_remove(loop, t);
        loop->fired = true;
        t->on_fire(t);
    }
    loop->firing_ns = 0;
}

/* What is due already was started by a callback. An older libuv would run a timer that is set to 0
 * from here again and again, and nothing else ever: puff__timers_turned() sets it. */
static void on_kernel_timer(uv_timer_t *kt) {
    puff_loop *loop = PUFF_CONTAINER_OF(kt, puff_loop, kernel_timer);
    puff__loop_enter(loop);
    loop->kernel_deadline_ns = UINT64_MAX;
    fire_due(loop);
    if (loop->n_timers > 0 && loop->heap[0]->deadline_ns > puff_loop_update_now(loop)) arm(loop);
}

void puff__timers_turned(puff_loop *loop) { arm(loop); }

void puff_timer_init(puff_timer *t, puff_loop *loop, void (*on_fire)(puff_timer *self)) {
    *t = (puff_timer){.loop = loop, .index = IDLE, .on_fire = on_fire};
}

static int grow(puff_loop *loop) {
    size_t cap = loop->heap_cap ? loop->heap_cap * 2 : FIRST_CAP;
    puff_timer **heap = puff_realloc(loop->alloc, loop->heap, cap * sizeof *heap);
    if (!heap) return PUFF_ENOMEM;
    loop->heap = heap;
    loop->heap_cap = cap;
    return 0;
}

int puff_timer_start_at(puff_timer *t, uint64_t deadline_ns) {
    puff_loop *loop = t->loop;
    if (puff_timer_active(t)) heap_remove(loop, t);
    if (loop->n_timers == loop->heap_cap && grow(loop) != 0) return PUFF_ENOMEM;
    t->deadline_ns = deadline_ns < loop->firing_ns ? loop->firing_ns : deadline_ns;
    t->seq = ++loop->timer_seq;
    sift_up(loop, loop->n_timers++, t);
    arm(loop);
    return 0;
}

int puff_timer_start(puff_timer *t, uint64_t timeout_ms) {
    uint64_t now = puff_loop_update_now(t->loop);
    if (timeout_ms > (UINT64_MAX - now) / 1000000) return puff_timer_start_at(t, UINT64_MAX);
    return puff_timer_start_at(t, now + timeout_ms * 1000000);
}

void puff_timer_stop(puff_timer *t) {
    if (!puff_timer_active(t)) return;
    puff_loop *loop = t->loop;
    heap_remove(loop, t);
    if (loop->n_timers > 0) return;
    uv_timer_stop(&loop->kernel_timer); /* so that a loop with nothing else to do can end */
    loop->kernel_deadline_ns = UINT64_MAX;
}

int puff__timers_init(puff_loop *loop) {
    loop->kernel_deadline_ns = UINT64_MAX;
    return uv_timer_init(&loop->uv, &loop->kernel_timer);
}

void puff__timers_deinit(puff_loop *loop) { puff_free(loop->alloc, loop->heap); }
