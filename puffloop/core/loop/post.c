/* post.c - the one door for other threads: a lock-free stack and a wake-up per burst.
 *
 * Only the thread that finds the stack empty wakes the loop; the loop takes the whole stack at once
 * and turns it round, so that jobs run in the order in which they were posted.
 */
#include "loop.h"

#include <errno.h>

void puff__post_run(puff_loop *loop) {
    if (!atomic_load_explicit(&loop->posted, memory_order_relaxed)) return;
    puff_post *stack = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    puff_post *jobs = NULL;
    while (stack) {
        puff_post *next = stack->next;
        stack->next = jobs;
        jobs = stack;
        stack = next;
    }
    while (jobs) {
        puff_post *next = jobs->next; /* run() may free the job */
        jobs->run(jobs);
        jobs = next;
    }
}

static void on_async(uv_async_t *async) {
    puff_loop *loop = PUFF_CONTAINER_OF(async, puff_loop, async);
    puff__loop_enter(loop);
    puff__post_run(loop);
}

void puff_loop_post(puff_loop *loop, puff_post *job) {
    puff_post *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        job->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head, job, memory_order_release,
                                                    memory_order_relaxed));
    if (!head) uv_async_send(&loop->async);
}

void puff_loop_wake(puff_loop *loop) {
    int saved = errno; /* what a signal handler has interrupted may be about to read it */
    uv_async_send(&loop->async);
    errno = saved;
}

/* A wake-up that was under way has gone to the parent. libuv 1.44 remembers it in the child, too, and
 * would send none ever again: its own field, cleared by hand until the floor is above that version. */
void puff__post_forked(puff_loop *loop) {
    loop->async.pending = 0;
    uv_async_send(&loop->async);
}

int puff__post_init(puff_loop *loop) {
    int rc = uv_async_init(&loop->uv, &loop->async, on_async);
    if (rc == 0) uv_unref((uv_handle_t *)&loop->async);
    return rc;
}
