/* rig.h - a loop whose memory is counted, and how tests wait: turn by turn, with a bound. */
#ifndef RIG_H
#define RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "puff/loop.h"

#define RIG_UNUSED __attribute__((unused))

enum { RIG_PATIENCE_S = 20 }; /* valgrind on a busy machine; what waits that long has failed */

static puff_alloc_failing memory RIG_UNUSED;
static puff_loop *loop RIG_UNUSED;

static int count_threads(void) {
    int n = -2; /* "." and ".." */
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    while (readdir(tasks)) n++;
    closedir(tasks);
    return n;
}

/* The threads of a loop that has ended free what they share when they end too, a moment later. A
 * fork before that loses it in the child, which valgrind calls a leak. */
static void wait_for_earlier_threads(void) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (count_threads() > 1) {
        if (puff_now_ns() > give_up) CHECK_FAIL("an earlier test has left a thread");
        sched_yield();
    }
}

RIG_UNUSED static void begin(void) {
    wait_for_earlier_threads();
    signal(SIGPIPE, SIG_IGN);
    puff_alloc_failing_init(&memory, 0);
    puff_loop_options opts = {.size = sizeof opts, .alloc = &memory.alloc};
    CHECK_EQ_INT(puff_loop_new(&loop, &opts, NULL), 0);
}

/* Frees the loop; all its memory must be back then. */
RIG_UNUSED static void end(void) {
    puff_loop_free(loop);
    CHECK_EQ_INT(memory.n_live, 0);
}

/* Turns until *n is at least want. */
RIG_UNUSED static void turn_until(const int *n, int want) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (*n < want) {
        if (puff_now_ns() > give_up) CHECK_FAIL("waited in vain: %d of %d", *n, want);
        puff_loop_turn(loop, true);
    }
}

RIG_UNUSED static void turn_while_open(void) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (puff_loop_turn(loop, true) != 0)
        if (puff_now_ns() > give_up) CHECK_FAIL("something is still open");
}

/* For what must not happen: enough turns for it to have happened. */
RIG_UNUSED static void turn_some(void) {
    for (int i = 0; i < 10; i++) puff_loop_turn(loop, false);
}

RIG_UNUSED static bool fd_is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* The number of descriptors of the process: a test compares before and after. The first loop of a
 * process opens two that libuv keeps. */
RIG_UNUSED static int count_fds(void) {
    static bool warm;
    puff_loop *first;
    int n = 0;
    if (!warm) {
        CHECK_EQ_INT(puff_loop_new(&first, NULL, NULL), 0);
        puff_loop_free(first);
        warm = true;
    }
    for (int fd = 0; fd < 256; fd++) n += fd_is_open(fd);
    return n;
}

#endif
