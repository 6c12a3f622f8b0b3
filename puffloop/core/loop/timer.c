/* timer.c - one 4-ary heap of nanosecond deadlines behind one timer of libuv's.
 *
 * The deadlines lie in the heap itself: with 100 000 timers, one that had to be fetched from each
 * timer would be a cache miss, some thirty for each that fires.
 * Equal deadlines fire in the order of their start: seq breaks the tie. Timers fire at the end of a
 * turn. libuv's timer only bounds a wait: it counts whole milliseconds and is set to end one or two
 * before the first deadline, and the rest is waited for to the nanosecond (loop.c). It is set when
 * the loop waits, so that starting and stopping a timer is work on the heap and nothing else.
 */
#include <assert.h>
#include <string.h>

#include "loop.h"

enum { ARITY = 4, FIRST_CAP = 64 };
#define IDLE SIZE_MAX

static bool before(const puff__deadline *a, const puff__deadline *b) {
    if (a->ns != b->ns) return a->ns < b->ns;
    return a->timer->seq < b->timer->seq;
}

static void put(puff_loop *loop, size_t i, puff__deadline d) {
    loop->heap[i] = d;
    d.timer->index = i;
}

static void sift_up(puff_loop *loop, size_t i, puff__deadline d) {
    while (i > 0) {
        size_t parent = (i - 1) / ARITY;
        if (!before(&d, &loop->heap[parent])) break;
        put(loop, i, loop->heap[parent]);
        i = parent;
    }
    put(loop, i, d);
}

static size_t least_child(const puff_loop *loop, size_t i) {
    size_t first = i * ARITY + 1, best = first;
    if (first >= loop->n_timers) return IDLE;
    size_t end = first + ARITY < loop->n_timers ? first + ARITY : loop->n_timers;
    for (size_t c = first + 1; c < end; c++)
        if (before(&loop->heap[c], &loop->heap[best])) best = c;
    return best;
}

static void sift_down(puff_loop *loop, size_t i, puff__deadline d) {
    for (size_t c; (c = least_child(loop, i)) != IDLE; i = c) {
        if (!before(&loop->heap[c], &d)) break;
        put(loop, i, loop->heap[c]);
    }
    put(loop, i, d);
}

static void heap_remove(puff_loop *loop, puff_timer *t) {
    size_t i = t->index;
    assert(i < loop->n_timers && loop->heap[i].timer == t);
    puff__deadline last = loop->heap[--loop->n_timers];
    t->index = IDLE;
    if (last.timer == t) return;
    if (i > 0 && before(&last, &loop->heap[(i - 1) / ARITY]))
        sift_up(loop, i, last);
    else
        sift_down(loop, i, last);
}

puff_timer *puff_loop_timer(puff_loop *loop, size_t i) {
    return i < loop->n_timers ? loop->heap[i].timer : NULL;
}

/* Fires what was due when it began; what callbacks start anew waits for the next turn. It is behind
 * those in the heap: start_at() lets no deadline be before firing_ns now, and seq breaks the tie.
 */
void puff__timers_fire(puff_loop *loop) {
    if (puff__timers_next(loop) > loop->now_ns) return;
    uint64_t last_seq = loop->timer_seq;
    loop->firing_ns = loop->now_ns;
    while (loop->n_timers > 0) {
        puff_timer *t = loop->heap[0].timer;
        if (loop->heap[0].ns > loop->firing_ns || t->seq > last_seq) break;
        heap_remove(loop, t);
        t->on_fire(t);
    }
    loop->firing_ns = 0;
}

/* It only ends the poll: puff__timers_fire() runs at the end of every turn. */
static void on_kernel_timer(uv_timer_t *kt) {
    puff_loop *loop = PUFF_CONTAINER_OF(kt, puff_loop, kernel_timer);
    if (loop->sleeping) puff__loop_awake(loop);
    loop->kernel_deadline_ns = 0;
    loop->due = true;
}

/* libuv counts milliseconds of the same clock. A poll that begins late in one may end as late in
 * another: one less, and the end is never after the deadline. */
bool puff__timers_arm(puff_loop *loop) {
    uint64_t first = puff__timers_next(loop);
    if (first == UINT64_MAX || first == loop->kernel_deadline_ns) return true;
    uv_update_time(&loop->uv);
    uint64_t until_ms = first / 1000000 - 1, now_ms = uv_now(&loop->uv);
    if (first < 1000000 || until_ms <= now_ms) return false;
    loop->kernel_deadline_ns = first;
    uv_timer_start(&loop->kernel_timer, on_kernel_timer, until_ms - now_ms, 0);
    return true;
}

void puff_timer_init(puff_timer *t, puff_loop *loop, void (*on_fire)(puff_timer *self)) {
    *t = (puff_timer){.loop = loop, .index = IDLE, .on_fire = on_fire};
}

static int grow(puff_loop *loop) {
    size_t cap = loop->heap_cap ? loop->heap_cap * 2 : FIRST_CAP;
    puff__deadline *heap = puff_realloc(loop->alloc, loop->heap, cap * sizeof *heap);
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
    sift_up(loop, loop->n_timers++, (puff__deadline){t->deadline_ns, t});
    return 0;
}

int puff_timer_start(puff_timer *t, uint64_t timeout_ms) {
    uint64_t now = puff_loop_update_now(t->loop);
    if (timeout_ms > (UINT64_MAX - now) / 1000000) return puff_timer_start_at(t, UINT64_MAX);
    return puff_timer_start_at(t, now + timeout_ms * 1000000);
}

void puff_timer_stop(puff_timer *t) {
    if (puff_timer_active(t)) heap_remove(t->loop, t);
}

int puff__timers_init(puff_loop *loop) {
    uv_timer_init(&loop->uv, &loop->kernel_timer);
    uv_unref((uv_handle_t *)&loop->kernel_timer);
    return 0;
}

void puff__timers_deinit(puff_loop *loop) { puff_free(loop->alloc, loop->heap); }
