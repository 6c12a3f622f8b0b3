/* Readiness of descriptors of others. */
#include "rig.h"

typedef struct watch {
    puff_poll *p;
    int fd, n, last_status, last_events;
    void (*then)(struct watch *w);
} watch;

static watch w;
static int pair[2];

static void on_poll(puff_poll *p, int status, int events) {
    watch *mine = puff_poll_data(p);
    mine->n++;
    mine->last_status = status;
    mine->last_events = events;
    if (mine->then) mine->then(mine);
}

static void begin_poll(void) {
    begin();
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    w = (watch){.fd = pair[0]};
    CHECK_EQ_INT(puff_poll_new(&w.p, loop, pair[0], on_poll, &w), 0);
}

static void finish(void) {
    if (w.p) puff_poll_free(w.p);
    turn_while_open();
    end();
    close(pair[0]);
    close(pair[1]);
}

TEST(says_which_events) {
    begin_poll();
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    turn_some();
    CHECK_EQ_INT(w.n, 0);
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE | PUFF_WRITABLE), 0);
    turn_until(&w.n, 1);
    CHECK_EQ_INT(w.last_events, PUFF_WRITABLE);
    CHECK_EQ_INT(write(pair[1], "x", 1), 1);
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    turn_until(&w.n, 2);
    CHECK_EQ_INT(w.last_events, PUFF_READABLE);
    finish();
}

TEST(says_that_the_peer_is_gone) {
    begin_poll();
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_DISCONNECT), 0);
    shutdown(pair[1], SHUT_WR);
    turn_until(&w.n, 1);
    CHECK(w.last_events & PUFF_DISCONNECT);
    finish();
}

TEST(watching_nothing_is_silent_and_can_begin_again) {
    begin_poll();
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_WRITABLE), 0);
    CHECK_EQ_INT(puff_poll_set(w.p, 0), 0);
    CHECK_EQ_INT(puff_poll_set(w.p, 0), 0);
    turn_some();
    CHECK_EQ_INT(w.n, 0);
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_WRITABLE), 0);
    turn_until(&w.n, 1);
    finish();
}

static void then_free(watch *mine) {
    puff_poll_free(mine->p);
    mine->p = NULL;
}

TEST(may_be_freed_in_its_callback) {
    begin_poll();
    w.then = then_free;
    puff_poll_set(w.p, PUFF_WRITABLE);
    turn_until(&w.n, 1);
    turn_some();
    CHECK_EQ_INT(w.n, 1);
    finish();
}

static watch both[2];

static void then_free_both(watch *mine) {
    puff_poll_free(both[0].p);
    puff_poll_free(both[1].p);
}

/* Both are ready in one batch of events; the first one's callback ends the second. */
TEST(no_callback_comes_after_free_not_even_in_the_same_batch) {
    begin();
    int fds[2][2];
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
        both[i] = (watch){.then = then_free_both};
        CHECK_EQ_INT(puff_poll_new(&both[i].p, loop, fds[i][0], on_poll, &both[i]), 0);
        CHECK_EQ_INT(puff_poll_set(both[i].p, PUFF_WRITABLE), 0);
    }
    turn_some();
    CHECK_EQ_INT(both[0].n + both[1].n, 1);
    end();
    for (int i = 0; i < 4; i++) close(fds[i / 2][i % 2]);
}

/* The number of a descriptor comes again at once: the old one's events must not reach the new one.
 */
TEST(descriptor_may_be_closed_right_after_free) {
    begin_poll();
    puff_poll_set(w.p, PUFF_READABLE);
    puff_loop_turn(loop, false);
    puff_poll_free(w.p);
    close(pair[0]);
    close(pair[1]);
    int again[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, again), 0);
    CHECK_EQ_INT(again[0], pair[0]);
    CHECK_EQ_INT(puff_poll_new(&w.p, loop, again[0], on_poll, &w), 0);
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    CHECK_EQ_INT(write(again[1], "x", 1), 1);
    turn_until(&w.n, 1);
    CHECK_EQ_INT(w.last_status, 0);
    finish();
}

/* libuv would end the process at the poll. */
TEST(a_descriptor_may_be_closed_before_the_poll) {
    begin_poll();
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    close(pair[0]);
    turn_some();
    CHECK_EQ_INT(w.n, 0); /* the kernel has forgotten it, as epoll does */
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE | PUFF_WRITABLE), UV_EBADF);
    turn_some();
    CHECK_EQ_INT(puff_poll_set(w.p, 0), 0);
    finish();
}

TEST(a_child_of_a_fork_is_told_what_it_cannot_watch) {
    begin_poll();
    CHECK_EQ_INT(puff_poll_set(w.p, PUFF_READABLE), 0);
    close(pair[0]);
    CHECK_EQ_INT(puff_loop_fork(loop), 0); /* libuv wants everything watched anew */
    turn_until(&w.n, 1);
    CHECK_EQ_INT(w.last_status, UV_EBADF);
    finish();
}

TEST(what_cannot_be_watched_is_an_error) {
    begin();
    puff_poll *p;
    CHECK_EQ_INT(puff_poll_new(&p, loop, 250, on_poll, NULL), UV_EBADF);
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_poll_new(&p, loop, pair[0], on_poll, NULL), PUFF_ENOMEM);
    close(pair[0]);
    close(pair[1]);
    end();
}

RUN_TESTS;
