/* Waits for sockets whose registration is kept, and what may happen to them meanwhile. */
#include <sys/wait.h>

#include "rig.h"

typedef struct waiter {
    puff_ready r;
    int n;
    void (*then)(struct waiter *w);
} waiter;

static waiter a, b;
static int pair[2];

static void on_ready(puff_ready *r) {
    waiter *w = PUFF_CONTAINER_OF(r, waiter, r);
    CHECK(!puff_ready_waits(r));
    w->n++;
    if (w->then) w->then(w);
}

static void init_waiters(void) {
    a = b = (waiter){0};
    puff_ready_init(&a.r, on_ready);
    puff_ready_init(&b.r, on_ready);
}

static void begin_pair(void) {
    begin();
    init_waiters();
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void finish(void) {
    end();
    close(pair[0]);
    close(pair[1]);
}

static void wait_for(waiter *w, int fd, int events, int flags) {
    CHECK_EQ_INT(puff_ready_wait(loop, &w->r, fd, events, flags), 0);
}

static void drain(int fd) {
    char sink[64];
    while (read(fd, sink, sizeof sink) > 0) continue;
}

static void send_one(int fd) { CHECK_EQ_INT(write(fd, "x", 1), 1); }

TEST(a_wait_ends_once_when_bytes_come) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    turn_some();
    CHECK_EQ_INT(a.n, 0);
    send_one(pair[1]);
    turn_until(&a.n, 1);
    send_one(pair[1]);
    turn_some();
    CHECK_EQ_INT(a.n, 1);
    finish();
}

TEST(a_wait_for_what_is_there_ends_at_once) {
    begin_pair();
    send_one(pair[1]);
    for (int i = 1; i <= 3; i++) {
        wait_for(&a, pair[0], PUFF_READABLE, 0);
        CHECK_EQ_INT(a.n, i - 1);
        turn_until(&a.n, i);
    }
    finish();
}

TEST(many_waits_after_a_try_each_end) {
    begin_pair();
    for (int i = 1; i <= 1000; i++) {
        wait_for(&a, pair[0], PUFF_READABLE, i > 1 ? PUFF_READY_TRIED : 0);
        send_one(pair[1]);
        turn_until(&a.n, i);
        drain(pair[0]);
    }
    finish();
}

TEST(bytes_between_two_waits_are_not_missed) {
    begin_pair();
    for (int i = 1; i <= 50; i++) {
        wait_for(&a, pair[0], PUFF_READABLE, i > 1 ? PUFF_READY_TRIED : 0);
        send_one(pair[1]);
        turn_until(&a.n, i);
        for (int j = 0; j < i % 5; j++) { /* edges with nobody waiting, some of them turned off */
            drain(pair[0]);
            send_one(pair[1]);
            turn_some();
        }
        drain(pair[0]);
    }
    finish();
}

TEST(both_directions_of_one_socket_have_waits_of_their_own) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    wait_for(&b, pair[0], PUFF_WRITABLE, PUFF_READY_TRIED);
    turn_until(&b.n, 1);
    CHECK_EQ_INT(a.n, 0);
    send_one(pair[1]);
    turn_until(&a.n, 1);
    finish();
}

TEST(all_who_wait_for_the_same_are_called) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    wait_for(&b, pair[0], PUFF_READABLE, 0);
    send_one(pair[1]);
    turn_until(&b.n, 1);
    CHECK_EQ_INT(a.n, 1);
    finish();
}

static void cancel_the_other(waiter *w) { puff_ready_cancel(w == &a ? &b.r : &a.r); }

TEST(a_callback_may_cancel_who_would_be_next) {
    begin_pair();
    a.then = b.then = cancel_the_other;
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    wait_for(&b, pair[0], PUFF_READABLE, 0);
    send_one(pair[1]);
    turn_until(&a.n, 1);
    turn_some();
    CHECK_EQ_INT(b.n, 0);
    finish();
}

TEST(the_peers_end_and_a_reset_end_a_wait) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    shutdown(pair[1], SHUT_WR);
    turn_until(&a.n, 1);
    wait_for(&a, pair[0], PUFF_READABLE, PUFF_READY_TRIED); /* not true, but the rest comes */
    close(pair[1]);
    turn_until(&a.n, 2);
    pair[1] = dup(0);
    finish();
}

TEST(a_cancelled_wait_is_silent) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    puff_ready_cancel(&a.r);
    puff_ready_cancel(&a.r);
    send_one(pair[1]);
    turn_some();
    CHECK_EQ_INT(a.n, 0);
    finish();
}

TEST(dropping_spares_the_shared_and_the_other_direction) {
    begin_pair();
    a.r.shared = true;
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    CHECK(!puff_ready_drop(loop, pair[0], PUFF_READABLE));
    wait_for(&b, pair[0], PUFF_READABLE, 0);
    CHECK(!puff_ready_drop(loop, pair[0], PUFF_WRITABLE));
    CHECK(!puff_ready_drop(loop, 100000, PUFF_READABLE));
    CHECK(puff_ready_drop(loop, pair[0], PUFF_READABLE));
    send_one(pair[1]);
    turn_until(&a.n, 1);
    CHECK_EQ_INT(b.n, 0);
    finish();
}

TEST(a_new_socket_with_an_old_number_is_watched) {
    begin_pair();
    int first = pair[0];
    for (int i = 1; i <= 1000; i++) {
        wait_for(&a, pair[0], PUFF_READABLE, 0);
        send_one(pair[1]);
        turn_until(&a.n, i);
        close(pair[0]);
        close(pair[1]);
        CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        CHECK_EQ_INT(pair[0], first);
    }
    finish();
}

TEST(a_closed_socket_that_lives_on_does_not_keep_the_loop_awake) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    send_one(pair[1]);
    turn_until(&a.n, 1);
    int other = dup(pair[0]), probe[2];
    close(pair[0]);
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, probe), 0);
    CHECK_EQ_INT(probe[0], pair[0]); /* the number is another socket's now */
    wait_for(&b, probe[0], PUFF_READABLE, 0);
    for (int i = 0; i < 50; i++) { /* the old one's edges */
        send_one(pair[1]);
        turn_some();
    }
    puff_loop_stats before = puff_loop_get_stats(loop);
    CHECK(b.n <= 1);
    if (b.n) wait_for(&b, probe[0], PUFF_READABLE, PUFF_READY_TRIED);
    int seen = b.n;
    send_one(probe[1]);
    turn_until(&b.n, seen + 1);
    CHECK(puff_loop_get_stats(loop).n_turns - before.n_turns <= 2);
    close(other);
    close(probe[1]);
    finish();
}

TEST(a_forgotten_socket_wakes_nobody_and_can_be_waited_for_again) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    puff_ready_forget(loop, pair[0]); /* somebody waits: without effect */
    send_one(pair[1]);
    turn_until(&a.n, 1);
    puff_ready_forget(loop, pair[0]);
    puff_ready_forget(loop, pair[0]);
    drain(pair[0]);
    wait_for(&a, pair[0], PUFF_READABLE, PUFF_READY_TRIED);
    send_one(pair[1]);
    turn_until(&a.n, 2);
    finish();
}

TEST(waiting_once_leaves_the_socket_silent) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_WRITABLE, PUFF_READY_ONCE);
    turn_until(&a.n, 1);
    wait_for(&a, pair[0], PUFF_WRITABLE, PUFF_READY_TRIED);
    turn_until(&a.n, 2);
    finish();
}

TEST(a_file_is_refused_and_so_is_a_closed_number) {
    begin_pair();
    int file = open("/proc/self/exe", O_RDONLY);
    CHECK_EQ_INT(puff_ready_wait(loop, &a.r, file, PUFF_READABLE, 0), UV_EPERM);
    close(file);
    CHECK_EQ_INT(puff_ready_wait(loop, &a.r, file, PUFF_READABLE, 0), UV_EBADF);
    CHECK_EQ_INT(puff_ready_wait(loop, &a.r, -1, PUFF_READABLE, 0), UV_EBADF);
    CHECK(!puff_ready_waits(&a.r));
    finish();
}

TEST(a_loop_with_a_wait_is_open_and_one_without_is_not) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    CHECK_EQ_INT(puff_loop_turn(loop, false), 1);
    send_one(pair[1]);
    turn_while_open();
    CHECK_EQ_INT(a.n, 1);
    finish();
}

TEST(a_loop_is_freed_while_somebody_waits) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    finish();
    CHECK(!puff_ready_waits(&a.r));
    puff_ready_cancel(&a.r);
}

static void in_child(void) {
    CHECK_EQ_INT(puff_loop_fork(loop), 0);
    send_one(pair[1]);
    turn_until(&a.n, 1); /* parked before the fork */
    drain(pair[0]);
    wait_for(&b, pair[0], PUFF_READABLE, PUFF_READY_TRIED);
    send_one(pair[1]);
    turn_until(&b.n, 1);
    _exit(0);
}

TEST(a_forked_child_has_a_set_of_its_own) {
    begin_pair();
    wait_for(&a, pair[0], PUFF_READABLE, 0);
    turn_some();
    pid_t child = fork();
    if (child == 0) in_child();
    int status;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(status, 0);
    drain(pair[0]);
    turn_some();
    int seen = a.n;
    if (seen) wait_for(&a, pair[0], PUFF_READABLE, PUFF_READY_TRIED);
    send_one(pair[1]);
    turn_until(&a.n, seen + 1); /* ours has not changed */
    finish();
}

TEST(every_allocation_may_fail) {
    for (size_t nth = 1;; nth++) {
        begin_pair();
        puff_alloc_failing failing = memory;
        memory.fail_at = memory.n_calls + nth;
        int rc = puff_ready_wait(loop, &a.r, pair[0], PUFF_READABLE, 0);
        memory.fail_at = failing.fail_at;
        if (rc == 0) break;
        CHECK_EQ_INT(rc, PUFF_ENOMEM);
        finish();
    }
    finish();
}

RUN_TESTS;
