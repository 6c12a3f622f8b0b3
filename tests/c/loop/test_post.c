/* The door for other threads. */
#include <errno.h>
#include <pthread.h>

#include "rig.h"

enum { N_THREADS = 4, N_JOBS = 5000 };

typedef struct job {
    puff_post post;
    int thread, number;
} job;

static job jobs[N_THREADS][N_JOBS];
static int next_number[N_THREADS], n_done;

static void run_job(puff_post *p) {
    job *j = PUFF_CONTAINER_OF(p, job, post);
    CHECK_EQ_INT(j->number, next_number[j->thread]);
    next_number[j->thread]++;
    n_done++;
    memset(j, 0xee, sizeof *j); /* ours again */
}

static void *post_all(void *arg) {
    job *mine = arg;
    for (int i = 0; i < N_JOBS; i++) puff_loop_post(loop, &mine[i].post);
    return NULL;
}

TEST(every_job_runs_once_and_in_the_order_of_its_thread) {
    begin();
    n_done = 0;
    pthread_t thread[N_THREADS];
    for (int t = 0; t < N_THREADS; t++) {
        next_number[t] = 0;
        for (int i = 0; i < N_JOBS; i++)
            jobs[t][i] = (job){.post = {.run = run_job}, .thread = t, .number = i};
    }
    for (int t = 0; t < N_THREADS; t++)
        CHECK_EQ_INT(pthread_create(&thread[t], NULL, post_all, jobs[t]), 0);
    puff_timer keep; /* a post alone does not keep a loop open, and a turn would not sleep */
    puff_timer_init(&keep, loop, NULL);
    puff_timer_start(&keep, 3600 * 1000);
    turn_until(&n_done, N_THREADS * N_JOBS);
    for (int t = 0; t < N_THREADS; t++) pthread_join(thread[t], NULL);
    turn_some();
    CHECK_EQ_INT(n_done, N_THREADS * N_JOBS);
    puff_timer_stop(&keep);
    end();
}

static void *wake(void *arg) {
    puff_loop_wake(loop);
    return NULL;
}

TEST(wake_makes_a_waiting_turn_return) {
    begin();
    puff_timer keep;
    puff_timer_init(&keep, loop, NULL);
    puff_timer_start(&keep, 3600 * 1000);
    pthread_t thread;
    CHECK_EQ_INT(pthread_create(&thread, NULL, wake, NULL), 0);
    puff_loop_turn(loop, true); /* would sleep for an hour */
    pthread_join(thread, NULL);
    puff_timer_stop(&keep);
    end();
}

static void run_and_post_again(puff_post *p) {
    if (++n_done < 100) puff_loop_post(loop, p);
}

static void run_and_free(puff_post *p) {
    n_done++;
    free(p);
}

TEST(a_job_may_post_itself_again_or_free_itself) {
    begin();
    n_done = 0;
    static puff_post again = {.run = run_and_post_again};
    puff_loop_post(loop, &again);
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (n_done < 100 && puff_now_ns() < give_up) puff_loop_turn(loop, false);
    CHECK_EQ_INT(n_done, 100);
    for (int i = 0; i < 10; i++) {
        puff_post *p = malloc(sizeof *p);
        p->run = run_and_free;
        puff_loop_post(loop, p);
    }
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(n_done, 110);
    end();
}

TEST(wake_leaves_errno_to_what_it_interrupts) {
    begin();
    errno = ENOENT;
    for (int i = 0; i < 3; i++) puff_loop_wake(loop);
    CHECK_EQ_INT(errno, ENOENT);
    end();
}

RUN_TESTS;
