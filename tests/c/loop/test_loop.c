/* Turns: when the hooks run, deferred jobs, when a turn sleeps, and the loop's end with things
 * open. */
#include <sys/wait.h>

#include "rig.h"

enum { MS = 1000000 };

static char trace[256];
static bool unlocked; /* before_wait has run, after_wait has not */

static void note(const char *word) {
    CHECK(!unlocked); /* no callback without the host's lock */
    if (*trace) strcat(trace, " ");
    strcat(trace, word);
}

static void before_wait(void *ctx) {
    note("sleep");
    CHECK(ctx == trace);
    unlocked = true;
}

static void after_wait(void *ctx) {
    CHECK(unlocked);
    unlocked = false;
    note("wake");
}

static void begin_hooked(void) {
    begin();
    trace[0] = '\0';
    unlocked = false;
    puff_loop_set_hooks(loop, &(puff_loop_hooks){before_wait, after_wait, trace});
}

static puff_timer timer;
static puff_defer job, second_job;
static int n_jobs;

static void on_timer(puff_timer *t) { note("timer"); }

/* ---- hooks ---- */

TEST(hooks_run_in_pairs_around_a_sleep) {
    begin_hooked();
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start_at(&timer, puff_now_ns() + 50 * MS);
    while (puff_timer_active(&timer)) puff_loop_turn(loop, true);
    CHECK(!unlocked);
    CHECK(strncmp(trace, "sleep wake", 10) == 0); /* libuv's wait, then our own */
    CHECK(strcmp(trace + strlen(trace) - 10, "wake timer") == 0);
    end();
}

TEST(hooks_are_silent_when_a_turn_only_looks) {
    begin_hooked();
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start(&timer, 3600 * 1000);
    for (int i = 0; i < 5; i++) puff_loop_turn(loop, false);
    CHECK_EQ_STR(trace, "");
    puff_timer_stop(&timer);
    end();
}

static void on_readable(puff_poll *p, int status, int events) {
    CHECK_EQ_INT(status, 0);
    note("poll");
    puff_poll_free(p);
}

TEST(lock_is_taken_before_the_first_callback_of_a_batch_and_once) {
    begin_hooked();
    int pair[2][2];
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
        puff_poll *p;
        CHECK_EQ_INT(puff_poll_new(&p, loop, pair[i][0], on_readable, NULL), 0);
        CHECK_EQ_INT(puff_poll_set(p, PUFF_READABLE), 0);
        CHECK_EQ_INT(write(pair[i][1], "x", 1), 1);
    }
    puff_loop_turn(loop, true);
    CHECK_EQ_STR(trace, "sleep wake poll poll");
    for (int i = 0; i < 2; i++) {
        close(pair[i][0]);
        close(pair[i][1]);
    }
    end();
}

/* Memory is given back in closing callbacks, and the host's allocator may need its lock. */
static void *resize_locked(void *ctx, void *ptr, size_t size) {
    CHECK(!unlocked);
    return memory.alloc.resize(memory.alloc.ctx, ptr, size);
}

TEST(lock_is_held_when_memory_is_given_back) {
    signal(SIGPIPE, SIG_IGN);
    puff_alloc_failing_init(&memory, 0);
    const puff_alloc alloc = {resize_locked, NULL};
    puff_loop_options opts = {.size = sizeof opts, .alloc = &alloc};
    unlocked = false;
    trace[0] = '\0';
    CHECK_EQ_INT(puff_loop_new(&loop, &opts, NULL), 0);
    puff_loop_set_hooks(loop, &(puff_loop_hooks){before_wait, after_wait, trace});
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    puff_poll *p;
    CHECK_EQ_INT(puff_poll_new(&p, loop, pair[0], on_readable, NULL), 0);
    puff_poll_free(p);
    turn_while_open();
    close(pair[0]);
    close(pair[1]);
    end();
}

TEST(stats_count_turns_and_sleeps) {
    begin();
    puff_timer_init(&timer, loop, on_timer);
    trace[0] = '\0';
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(puff_loop_get_stats(loop).n_waits, 0);
    puff_timer_start_at(&timer, puff_now_ns() + 20 * MS);
    while (puff_timer_active(&timer)) puff_loop_turn(loop, true);
    puff_loop_stats stats = puff_loop_get_stats(loop);
    CHECK(stats.n_turns >= 2);
    CHECK(stats.n_waits >= 1);
    CHECK(stats.idle_ns > 5 * MS && stats.idle_ns < RIG_PATIENCE_S * 1000ull * MS);
    end();
}

static void run_post_quietly(puff_post *p) {}

/* ---- deferred jobs ---- */

static void run_once(puff_defer *d) { n_jobs++; }

static void run_again(puff_defer *d) {
    n_jobs++;
    puff_loop_defer(loop, d);
}

static void run_second(puff_defer *d) { puff_loop_defer(loop, &second_job); }

static void run_start_timer(puff_defer *d) { puff_timer_start(&timer, 1); }

static void run_cancel_second(puff_defer *d) {
    n_jobs++;
    puff_defer_cancel(&second_job);
}

TEST(deferred_twice_runs_once) {
    begin();
    n_jobs = 0;
    puff_defer_init(&job, run_once);
    puff_loop_defer(loop, &job);
    puff_loop_defer(loop, &job);
    CHECK_EQ_INT(n_jobs, 0);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(n_jobs, 1);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(n_jobs, 1);
    end();
}

TEST(cancelled_job_does_not_run_not_even_in_its_own_batch) {
    begin();
    n_jobs = 0;
    puff_defer_init(&job, run_cancel_second);
    puff_defer_init(&second_job, run_once);
    puff_loop_defer(loop, &job);
    puff_loop_defer(loop, &second_job);
    puff_loop_flush(loop);
    CHECK_EQ_INT(n_jobs, 1);
    puff_defer_cancel(&second_job);
    end();
}

TEST(job_that_defers_itself_waits_for_the_next_flush_and_keeps_the_loop_awake) {
    begin_hooked();
    n_jobs = 0;
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start(&timer, 3600 * 1000);
    puff_defer_init(&job, run_again);
    puff_loop_defer(loop, &job);
    for (int i = 1; i <= 5; i++) {
        puff_loop_turn(loop, true); /* would never return if it slept */
        CHECK_EQ_INT(n_jobs, 2 * i);
    }
    CHECK_EQ_STR(trace, "");
    puff_defer_cancel(&job);
    puff_timer_stop(&timer);
    end();
}

TEST(loop_goes_on_for_what_its_last_job_began) {
    begin();
    trace[0] = '\0';
    puff_timer_init(&timer, loop, on_timer);
    puff_defer_init(&job, run_second);
    puff_defer_init(&second_job, run_start_timer);
    puff_loop_defer(loop, &job);
    puff_loop_run(loop);
    CHECK_EQ_STR(trace, "timer");
    end();
}

/* ---- when a turn sleeps ---- */

static void on_timer_defer(puff_timer *t) {
    note("timer");
    puff_loop_defer(loop, &job);
}

TEST(turn_does_not_sleep_when_a_timer_has_fired) {
    begin_hooked();
    puff_timer far;
    puff_timer_init(&far, loop, on_timer);
    puff_timer_start(&far, 3600 * 1000);
    n_jobs = 0;
    puff_defer_init(&job, run_once);
    puff_timer_init(&timer, loop, on_timer_defer);
    puff_timer_start_at(&timer, 1);
    puff_loop_turn(loop, true); /* would sleep for an hour */
    CHECK_EQ_INT(n_jobs, 1);
    CHECK_EQ_STR(trace, "timer"); /* and the lock was not given up for that */
    puff_timer_stop(&far);
    end();
}

/* ---- turns that a busy host leaves out ---- */

/* Turns until the loop knows its ticks and has found nothing for long enough. */
static void turn_until_quiet(void) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000ull * MS;
    while (!puff_loop_ticks_per_ms(loop) && puff_now_ns() < give_up) puff_loop_turn(loop, false);
    turn_some();
}

static bool skips(void) { return puff_loop_skip_turn(loop, puff_ticks()); }

/* Whether any of several tries skips: the machine may be slow enough for one to be refused. */
static bool may_skip(void) {
    bool any = false;
    for (int i = 0; i < 100 && !any; i++) {
        turn_some();
        any = skips();
    }
    return any;
}

TEST(ticks_are_as_many_as_the_clock_says) {
    begin();
    turn_until_quiet();
    uint64_t ticks = puff_ticks(), ns = puff_now_ns();
    while (puff_now_ns() < ns + 5 * MS) continue;
    double ms = (double)(puff_ticks() - ticks) / (double)puff_loop_ticks_per_ms(loop);
    double want_ms = (double)(puff_now_ns() - ns) / 1e6;
    CHECK(ms > want_ms * 0.5 && ms < want_ms * 2);
    end();
}

TEST(turns_are_skipped_only_after_quiet_looks) {
    begin();
    CHECK(!skips());
    turn_until_quiet();
    CHECK(may_skip());
    int pair[2];
    puff_poll *p;
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_EQ_INT(puff_poll_new(&p, loop, pair[0], on_readable, NULL), 0);
    CHECK_EQ_INT(puff_poll_set(p, PUFF_READABLE), 0);
    CHECK_EQ_INT(write(pair[1], "x", 1), 1);
    trace[0] = '\0';
    puff_loop_turn(loop, false);
    CHECK_EQ_STR(trace, "poll");
    CHECK(!skips()); /* something has just come in */
    CHECK(may_skip());
    close(pair[0]);
    close(pair[1]);
    end();
}

TEST(skipped_turns_are_few_and_short) {
    begin();
    turn_until_quiet();
    int n = 0;
    uint64_t turns = puff_loop_get_stats(loop).n_turns;
    while (n < 1000 && skips()) n++;
    CHECK(n < 17);
    CHECK(puff_loop_get_stats(loop).n_turns == turns + (uint64_t)n);
    turn_some();
    CHECK(!puff_loop_skip_turn(loop, puff_ticks() + puff_loop_ticks_per_ms(loop) / 10));
    end();
}

TEST(turns_are_not_skipped_while_something_is_due) {
    static puff_post post = {.run = run_post_quietly};
    begin();
    turn_until_quiet();
    puff_defer_init(&job, run_once);
    puff_loop_defer(loop, &job);
    CHECK(!skips());
    puff_loop_flush(loop);
    CHECK(!skips()); /* what was sent may be answered at once */
    turn_some();
    puff_loop_post(loop, &post);
    CHECK(!skips());
    turn_some();
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start_at(&timer, puff_now_ns() + 10000);
    CHECK(!skips());
    puff_timer_start_at(&timer, puff_now_ns() + 3600000ull * MS);
    CHECK(may_skip());
    puff_timer_stop(&timer);
    end();
}

TEST(stop_ends_run_and_run_ends_when_nothing_is_open) {
    begin();
    puff_loop_run(loop);
    puff_defer_init(&job, run_once);
    n_jobs = 0;
    puff_loop_defer(loop, &job);
    puff_loop_run(loop);
    CHECK_EQ_INT(n_jobs, 1);
    end();
}

/* ---- waits of less than two milliseconds, which are not libuv's ---- */

static void before_wait_wake(void *ctx) {
    before_wait(ctx);
    puff_loop_wake(loop);
}

TEST(brief_wait_sleeps_and_takes_the_lock_once) {
    begin_hooked();
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start_at(&timer, puff_now_ns() + MS);
    puff_loop_turn(loop, true);
    CHECK_EQ_STR(trace, "sleep wake timer");
    CHECK_EQ_INT(puff_loop_get_stats(loop).n_waits, 1);
    CHECK(puff_loop_get_stats(loop).idle_ns > 100000);
    end();
}

TEST(brief_wait_ends_for_what_is_watched_since_the_last_look) {
    begin_hooked();
    int pair[2];
    puff_poll *p;
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_EQ_INT(puff_poll_new(&p, loop, pair[0], on_readable, NULL), 0);
    CHECK_EQ_INT(puff_poll_set(p, PUFF_READABLE), 0);
    CHECK_EQ_INT(write(pair[1], "x", 1), 1);
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start_at(&timer, puff_now_ns() + MS);
    puff_loop_turn(loop, true);
    CHECK_EQ_STR(trace, "poll");
    puff_timer_stop(&timer);
    close(pair[0]);
    close(pair[1]);
    end();
}

TEST(brief_wait_ends_when_the_host_wakes_it) {
    begin_hooked();
    puff_loop_set_hooks(loop, &(puff_loop_hooks){before_wait_wake, after_wait, trace});
    puff_timer_init(&timer, loop, on_timer);
    for (int i = 0; i < 50; i++) { /* one of them before the machine lets the timer come first */
        trace[0] = '\0';
        puff_timer_start_at(&timer, puff_now_ns() + MS);
        puff_loop_turn(loop, true);
        if (puff_timer_active(&timer)) break;
    }
    CHECK(puff_timer_active(&timer));
    CHECK_EQ_STR(trace, "sleep wake");
    puff_timer_stop(&timer);
    end();
}

static void on_timer_stop(puff_timer *t) {
    note("stop");
    puff_loop_stop(loop);
}

TEST(stop_leaves_what_is_open_open) {
    begin();
    trace[0] = '\0';
    puff_timer far;
    puff_timer_init(&far, loop, on_timer);
    puff_timer_start(&far, 3600 * 1000);
    puff_timer_init(&timer, loop, on_timer_stop);
    puff_timer_start(&timer, 1);
    puff_loop_run(loop);
    CHECK_EQ_STR(trace, "stop");
    CHECK(puff_timer_active(&far));
    end(); /* with a timer that is active */
}

TEST(clock_keeps_up_with_a_host_that_does_not_turn) {
    begin();
    for (int i = 0; i < 5; i++) {
        uint64_t later = puff_now_ns() + 5 * MS;
        while (puff_now_ns() < later) continue;
        uint64_t now = puff_now_ns();
        CHECK(puff_loop_now_ns(loop) + 2 * MS > now); /* 1, and what a machine lets us wait */
        puff_loop_turn(loop, false);                  /* knows its rate of ticks from now on */
    }
    end();
}

/* ---- the end ---- */

static int n_closed, n_released, n_answers;

static void on_read(puff_stream *s, char *buf, ssize_t n) {}

static void on_close_defer(puff_stream *s) {
    n_closed++;
    puff_loop_defer(loop, &job);
}

static const puff_stream_cbs cbs = {.on_read = on_read, .on_close = on_close_defer};

static void release(void *arg) { n_released++; }

static void ignore_accept(puff_listener *l, int fd, const struct sockaddr *peer, unsigned len) {
    close(fd);
}

static void on_connected(void *arg, int fd, const puff_err *err) {
    n_answers++;
    CHECK_EQ_INT(fd, -1);
    CHECK_EQ_INT(err->code, PUFF_ECANCELED);
}

static void run_post(puff_post *p) { n_answers++; }

TEST(free_closes_all_that_is_open) {
    int n_fds = count_fds();
    begin();
    n_jobs = n_closed = n_released = n_answers = 0;
    puff_defer_init(&job, run_once);
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    puff_stream *s;
    CHECK_EQ_INT(puff_stream_open(&s, loop, pair[0], &cbs, NULL), 0);
    static char big[1 << 20];
    CHECK_EQ_INT(puff_stream_write_ref(s, big, sizeof big, release, NULL), 0); /* nobody reads */
    puff_stream_read_start(s);
    puff_poll *p;
    int other[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
    CHECK_EQ_INT(puff_poll_new(&p, loop, other[0], on_readable, NULL), 0);
    CHECK_EQ_INT(puff_poll_set(p, PUFF_READABLE), 0);
    puff_timer_init(&timer, loop, on_timer);
    puff_timer_start(&timer, 1);
    static puff_post post = {.run = run_post};
    puff_loop_turn(loop, false);
    puff_loop_post(loop, &post);
    puff_loop_free(loop);
    CHECK_EQ_INT(memory.n_live, 0);
    CHECK_EQ_INT(n_closed, 1);
    CHECK_EQ_INT(n_released, 1);
    CHECK_EQ_INT(n_answers, 1); /* what was posted has run: its storage is its owner's again */
    CHECK_EQ_INT(n_jobs, 1);    /* and so has what on_close deferred */
    close(pair[1]);
    close(other[0]);
    close(other[1]);
    CHECK_EQ_INT(count_fds(), n_fds);
}

TEST(free_closes_listeners_and_removes_their_files) {
    int n_fds = count_fds();
    begin();
    char path[64];
    snprintf(path, sizeof path, "/tmp/puff-loop-%d.sock", (int)getpid());
    puff_listener *l;
    puff_err err;
    puff_listener_options o = {.size = sizeof o, .unix_path = path, .fd = -1};
    CHECK_EQ_INT(puff_listener_open(&l, loop, &o, ignore_accept, NULL, &err), 0);
    end();
    CHECK_EQ_INT(access(path, F_OK), -1);
    CHECK_EQ_INT(count_fds(), n_fds);
}

TEST(free_answers_whoever_connects) {
    int n_fds = count_fds();
    begin();
    n_answers = 0;
    int quiet =
        socket(AF_INET, SOCK_STREAM, 0); /* listens with a backlog of 0, and nobody accepts */
    struct sockaddr addr = {.sa_family = AF_INET};
    socklen_t len = sizeof addr;
    CHECK_EQ_INT(bind(quiet, &addr, sizeof addr), 0);
    CHECK_EQ_INT(listen(quiet, 0), 0);
    CHECK_EQ_INT(getsockname(quiet, &addr, &len), 0);
    uint16_t port =
        (uint16_t)((unsigned char)addr.sa_data[0] << 8 | (unsigned char)addr.sa_data[1]);
    puff_connect *c;
    for (int i = 0; i < 3; i++)
        CHECK_EQ_INT(puff_tcp_connect(&c, loop, "127.0.0.1", port, 60000, on_connected, NULL), 0);
    end();
    CHECK_EQ_INT(n_answers, 3);
    close(quiet);
    CHECK_EQ_INT(count_fds(), n_fds);
}

TEST(new_survives_every_allocation_failure) {
    for (size_t at = 1;; at++) {
        puff_alloc_failing_init(&memory, at);
        puff_loop_options opts = {.size = sizeof opts, .alloc = &memory.alloc};
        puff_err err = {0};
        int rc = puff_loop_new(&loop, &opts, &err);
        if (rc == 0) {
            end();
            break;
        }
        CHECK_EQ_INT(rc, PUFF_ENOMEM);
        CHECK_EQ_INT(err.code, PUFF_ENOMEM);
        CHECK_EQ_INT(memory.n_live, 0);
    }
}

/* ---- fork ---- */

static int n_echoed;

static void on_echo(puff_poll *p, int status, int events) {
    char c;
    CHECK_EQ_INT(read(*(int *)puff_poll_data(p), &c, 1), 1);
    n_echoed++;
}

TEST(child_has_a_loop_of_its_own_after_fork) {
    begin();
    n_echoed = n_answers = 0;
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    puff_poll *p;
    CHECK_EQ_INT(puff_poll_new(&p, loop, pair[0], on_echo, &pair[0]), 0);
    CHECK_EQ_INT(puff_poll_set(p, PUFF_READABLE), 0);
    puff_loop_turn(loop, false);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ_INT(puff_loop_fork(loop), 0);
        static puff_post post = {.run = run_post};
        puff_loop_post(loop, &post);
        turn_until(&n_answers, 1);
        CHECK_EQ_INT(write(pair[1], "x", 1), 1);
        turn_until(&n_echoed, 1);
        puff_poll_free(p);
        end(); /* must take nothing from the parent's epoll set */
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ_INT(write(pair[1], "y", 1), 1);
    turn_until(&n_echoed, 1);
    puff_poll_free(p);
    end();
    close(pair[0]);
    close(pair[1]);
}

/* The wake-up is the parent's, but not the job; and later jobs need wake-ups of their own. */
TEST(what_was_posted_before_a_fork_runs_in_the_child) {
    static puff_post before = {.run = run_post}, after = {.run = run_post};
    begin();
    n_answers = 0;
    puff_loop_turn(loop, false);
    puff_loop_post(loop, &before);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ_INT(puff_loop_fork(loop), 0);
        turn_until(&n_answers, 1);
        puff_loop_post(loop, &after);
        turn_until(&n_answers, 2);
        end();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    turn_until(&n_answers, 1);
    end();
}

RUN_TESTS;
