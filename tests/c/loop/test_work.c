/* Jobs on the thread pool. */
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>

#include "rig.h"

enum { POOL = 16 }; /* a loop's threads */

static pthread_t main_thread;
static sem_t go, begun;
static int n_done, n_cancelled, value;

static void compute(void *arg) {
    CHECK(!pthread_equal(pthread_self(), main_thread));
    *(int *)arg = 42;
}

static void wait_to_go(void *arg) {
    sem_post(&begun);
    sem_wait(&go);
}

static void on_done(void *arg, int status) {
    CHECK(pthread_equal(pthread_self(), main_thread));
    if (status == UV_ECANCELED)
        n_cancelled++;
    else
        CHECK_EQ_INT(status, 0);
    n_done++;
}

static void begin_work(void) {
    begin();
    main_thread = pthread_self();
    n_done = n_cancelled = value = 0;
    sem_init(&go, 0, 0);
    sem_init(&begun, 0, 0);
}

/* Takes every thread of the pool; the count of those that it has begun. */
static void occupy(puff_work **w) {
    for (int i = 0; i < POOL; i++)
        CHECK_EQ_INT(puff_work_submit(loop, wait_to_go, on_done, NULL, &w[i]), 0);
    for (int i = 0; i < POOL; i++) sem_wait(&begun);
}

static void let_go(void) {
    for (int i = 0; i < POOL; i++) sem_post(&go);
}

TEST(work_runs_elsewhere_and_done_here) {
    begin_work();
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, NULL), 0);
    CHECK_EQ_INT(n_done, 0);
    turn_until(&n_done, 1);
    CHECK_EQ_INT(value, 42);
    end();
}

TEST(cancel_takes_back_what_has_not_begun) {
    begin_work();
    puff_work *busy[POOL], *waiting;
    occupy(busy);
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, &waiting), 0);
    CHECK_EQ_INT(puff_work_cancel(busy[0]), UV_EBUSY);
    CHECK_EQ_INT(puff_work_cancel(waiting), 0);
    CHECK_EQ_INT(n_done, 0); /* never before the call returns */
    turn_until(&n_done, 1);
    CHECK_EQ_INT(n_cancelled, 1);
    CHECK_EQ_INT(value, 0);
    let_go();
    turn_until(&n_done, POOL + 1);
    CHECK_EQ_INT(n_cancelled, 1);
    end();
}

TEST(free_waits_for_work) {
    begin_work();
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, NULL), 0);
    end();
    CHECK_EQ_INT(n_done, 1);
    CHECK_EQ_INT(value, 42);
}

/* What a child does, and how long it may take. */
static void in_child(void (*then)(void)) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(RIG_PATIENCE_S);
        main_thread = pthread_self();
        then();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ_INT(status, 0);
}

static void fork_and_end(void) {
    CHECK_EQ_INT(puff_loop_fork(loop), 0);
    CHECK_EQ_INT(n_done, 0); /* never from a call */
    end();
    CHECK_EQ_INT(n_cancelled, POOL + 1);
}

static void fork_and_go_on(void) {
    CHECK_EQ_INT(puff_loop_fork(loop), 0);
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, NULL), 0);
    turn_until(&n_done, POOL + 2);
    CHECK_EQ_INT(n_cancelled, POOL + 1);
    CHECK_EQ_INT(value, 42);
    end();
}

TEST(a_forked_child_has_lost_what_was_under_way) {
    begin_work();
    puff_work *busy[POOL];
    int later = 0;
    occupy(busy);
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &later, NULL), 0);
    in_child(fork_and_end);
    in_child(fork_and_go_on);
    let_go();
    turn_until(&n_done, POOL + 1);
    CHECK_EQ_INT(n_cancelled, 0);
    CHECK_EQ_INT(later, 42);
    end();
}

/* The threads may be anywhere, with or without the lock. */
TEST(a_fork_at_any_moment) {
    begin_work();
    for (int i = 0; i < 20; i++) {
        n_done = n_cancelled = 0;
        for (int k = 0; k < 8; k++)
            CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, NULL), 0);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(RIG_PATIENCE_S);
            puff_loop_fork(loop);
            end();
            _exit(n_done == 8 ? 0 : 1);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_EQ_INT(status, 0);
        turn_until(&n_done, 8);
    }
    end();
}

TEST(no_memory_is_said_at_once) {
    begin_work();
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_work_submit(loop, compute, on_done, &value, NULL), PUFF_ENOMEM);
    turn_while_open();
    CHECK_EQ_INT(n_done, 0);
    end();
}

RUN_TESTS;
