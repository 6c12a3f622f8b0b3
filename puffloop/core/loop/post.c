/* post.c - the one door for other threads: a lock-free stack and a wake-up per burst.
 *
 * Only the thread that finds the stack empty wakes the loop; the loop takes the whole stack at once
 * and turns it round, so that jobs run in the order in which they were posted.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

static void on_wake(uv_poll_t *wake, int status, int events) {
    puff_loop *loop = PUFF_CONTAINER_OF(wake, puff_loop, wake);
    uint64_t n;
    if (loop->sleeping) puff__loop_awake(loop);
    while (read(loop->wake_fd, &n, sizeof n) < 0 && errno == EINTR) continue;
    atomic_store(&loop->woken, false); /* before the jobs are taken: the next one wakes again */
    if (atomic_load_explicit(&loop->posted, memory_order_relaxed)) loop->called = true;
    puff__post_run(loop);
    puff__work_run(loop);
}

void puff_loop_post(puff_loop *loop, puff_post *job) {
    puff_post *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        job->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head, job, memory_order_release,
                                                    memory_order_relaxed));
    if (!head) puff_loop_wake(loop);
}

/* A uv_async_t would do, but before 1.48 libuv's spins for tens of microseconds when the loop's
 * thread takes the processor from the one that wakes it: a tenth of an executor's round trip. */
void puff_loop_wake(puff_loop *loop) {
    if (atomic_exchange(&loop->woken, true)) return;
    int saved = errno; /* what a signal handler has interrupted may be about to read it */
    static const uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
    errno = saved;
}

/* The descriptor is shared with the parent: the child gets one of its own under the same number.
 * A wake-up that was under way has gone to the parent. */
int puff__post_forked(puff_loop *loop) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || dup3(fd, loop->wake_fd, O_CLOEXEC) < 0) {
        int rc = uv_translate_sys_error(errno);
        if (fd >= 0) close(fd);
        return rc;
    }
    close(fd);
    atomic_store(&loop->woken, false);
    puff_loop_wake(loop);
    return 0;
}

int puff__post_init(puff_loop *loop) {
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) return uv_translate_sys_error(errno);
    int rc = uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd);
    if (rc == 0) rc = uv_poll_start(&loop->wake, UV_READABLE, on_wake);
    if (rc == 0) uv_unref((uv_handle_t *)&loop->wake);
    return rc;
}

void puff__post_deinit(puff_loop *loop) {
    if (loop->wake_fd >= 0) close(loop->wake_fd);
}
