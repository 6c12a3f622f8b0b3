/* Datagrams: whole, in order, bursts, what the kernel does not take, errors. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "rig.h"

enum { LONGEST = 65507 };

/* One end of ours, and what it has seen. */
typedef struct end_point {
    puff_udp *u;
    struct sockaddr_in addr;
    int n, n_calls, most; /* datagrams, on_recv calls, the most datagrams of one call */
    int n_errors, last_error, n_sent, n_closed;
    int next;      /* the number that the next numbered datagram must bear; -1: not numbered */
    int stop_at;   /* stop when so many have come */
    bool close_it; /* close in the first callback */
    char last[65536];
    size_t last_len;
    struct sockaddr_storage from;
    unsigned from_len;
} end_point;

static end_point a, b;

static void look_at(end_point *e, const puff_datagram *d) {
    int number;
    e->last_len = d->len;
    memcpy(e->last, d->data, d->len < sizeof e->last ? d->len : sizeof e->last);
    e->from_len = d->from_len;
    memcpy(&e->from, d->from, d->from_len);
    e->n++;
    if (e->next < 0) return;
    CHECK_EQ_INT(d->len, sizeof number);
    memcpy(&number, d->data, sizeof number);
    CHECK_EQ_INT(number, e->next++);
}

static size_t on_recv(puff_udp *u, const puff_datagram *d, size_t n) {
    end_point *e = puff_udp_data(u);
    e->n_calls++;
    if ((int)n > e->most) e->most = (int)n;
    for (size_t i = 0; i < n; i++) {
        look_at(e, &d[i]);
        if (e->close_it) {
            puff_udp_close(u);
            return n;
        }
        if (e->n == e->stop_at) {
            puff_udp_recv_stop(u);
            return i + 1;
        }
    }
    return n;
}

static void on_error(puff_udp *u, int status) {
    end_point *e = puff_udp_data(u);
    e->n_errors++;
    e->last_error = status;
    if (e->close_it) puff_udp_close(u);
}

static void on_sent(puff_udp *u) { ((end_point *)puff_udp_data(u))->n_sent++; }

static void on_close(puff_udp *u) {
    end_point *e = puff_udp_data(u);
    CHECK_EQ_INT(puff_udp_fd(u), -1);
    e->n_closed++;
    e->u = NULL;
}

static const puff_udp_cbs cbs = {on_recv, on_error, on_sent, on_close};

static int ip_socket(struct sockaddr_in *addr) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *addr;
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ_INT(bind(fd, (struct sockaddr *)addr, len), 0);
    CHECK_EQ_INT(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

static void open_end(end_point *e, int fd) {
    struct sockaddr_in addr = e->addr;
    *e = (end_point){.addr = addr, .next = -1};
    CHECK_EQ_INT(puff_udp_open(&e->u, loop, fd, &cbs, e), 0);
    CHECK_EQ_INT(puff_udp_fd(e->u), fd);
    CHECK_EQ_INT(puff_udp_recv_start(e->u), 0);
}

static void begin_ip(void) {
    begin();
    open_end(&a, ip_socket(&a.addr));
    open_end(&b, ip_socket(&b.addr));
}

/* Connected to each other. Their queues are short: a sender is soon told to wait. */
static void begin_unix(void) {
    int pair[2];
    begin();
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    open_end(&a, pair[0]);
    open_end(&b, pair[1]);
}

static void finish(void) {
    if (a.u) puff_udp_close(a.u);
    if (b.u) puff_udp_close(b.u);
    turn_while_open();
    CHECK_EQ_INT(a.n_closed, 1);
    CHECK_EQ_INT(b.n_closed, 1);
    end();
}

static int send_to(end_point *from, end_point *to, const void *data, size_t len) {
    return puff_udp_send(from->u, data, len, (struct sockaddr *)&to->addr, sizeof to->addr);
}

static void send_numbered(end_point *from, end_point *to, int first, int n) {
    for (int i = first; i < first + n; i++) CHECK_EQ_INT(send_to(from, to, &i, sizeof i), 0);
}

TEST(comes_with_its_senders_address_and_can_be_answered) {
    begin_ip();
    CHECK_EQ_INT(send_to(&a, &b, "ping", 4), 0);
    CHECK_EQ_INT(b.n, 0); /* not within the call */
    turn_until(&b.n, 1);
    CHECK_EQ_MEM(b.last, b.last_len, "ping", 4);
    CHECK_EQ_MEM((char *)&b.from, b.from_len, (char *)&a.addr, sizeof a.addr);
    CHECK_EQ_INT(puff_udp_send(b.u, "pong", 4, (struct sockaddr *)&b.from, b.from_len), 0);
    turn_until(&a.n, 1);
    CHECK_EQ_MEM(a.last, a.last_len, "pong", 4);
    finish();
}

TEST(empty_and_longest_are_datagrams_too) {
    static char longest[LONGEST];
    begin_ip();
    memset(longest, 'x', sizeof longest);
    CHECK_EQ_INT(send_to(&a, &b, NULL, 0), 0);
    turn_until(&b.n, 1);
    CHECK_EQ_INT(b.last_len, 0);
    CHECK_EQ_INT(send_to(&a, &b, longest, sizeof longest), 0);
    turn_until(&b.n, 2);
    CHECK_EQ_MEM(b.last, b.last_len, longest, sizeof longest);
    CHECK_EQ_INT(b.n_errors, 0);
    finish();
}

TEST(too_long_is_said_at_once) {
    static char too_long[65536];
    begin_ip();
    CHECK_EQ_INT(send_to(&a, &b, too_long, sizeof too_long), UV_EMSGSIZE);
    CHECK_EQ_INT(puff_udp_n_queued(a.u), 0);
    CHECK_EQ_INT(a.n_errors, 0);
    finish();
}

TEST(many_come_in_bursts_and_in_order) {
    enum { MANY = 200 };
    begin_ip();
    b.next = 0;
    send_numbered(&a, &b, 0, MANY);
    turn_until(&b.n, MANY);
    CHECK(b.n_calls < MANY / 2);
    CHECK(b.most > 1 && b.most <= 32);
    CHECK_EQ_INT(b.n, MANY);
    finish();
}

TEST(long_datagrams_of_a_burst_stay_whole) {
    static char data[30000];
    begin_ip();
    for (int i = 0; i < 40; i++) {
        memset(data, 'a' + i % 26, sizeof data);
        CHECK_EQ_INT(send_to(&a, &b, data, sizeof data - (size_t)i), 0);
        turn_until(&b.n, i - 2); /* few wait: socket buffers are small */
    }
    turn_until(&b.n, 40);
    CHECK_EQ_MEM(b.last, b.last_len, data, sizeof data - 39);
    finish();
}

/* A flood to one socket: whoever else is ready has its turn after each burst. */
TEST(a_flood_leaves_the_others_their_turn) {
    begin_ip();
    send_numbered(&a, &b, 0, 200);
    CHECK_EQ_INT(send_to(&b, &a, "me too", 6), 0);
    int before = b.n;
    while (a.n == 0) {
        before = b.n;
        puff_loop_turn(loop, true);
        CHECK(b.n - before <= 32);
    }
    CHECK(b.n < 200);
    finish();
}

TEST(stopping_keeps_what_came_and_starting_goes_on_in_order) {
    begin_ip();
    b.next = 0;
    send_numbered(&a, &b, 0, 60);
    turn_until(&b.n, 30); /* in bursts by now */
    send_numbered(&a, &b, 60, 20);
    int stopped = b.stop_at = b.n + 5;
    turn_until(&b.n, stopped);
    turn_some();
    CHECK_EQ_INT(b.n, stopped);
    b.stop_at = stopped + 2; /* while what was kept is handed out */
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    CHECK_EQ_INT(b.n, stopped); /* not within the call */
    turn_some();                /* what was kept comes by itself: there is nothing to wait for */
    CHECK_EQ_INT(b.n, stopped + 2);
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    turn_some();
    CHECK_EQ_INT(b.n, 80);
    finish();
}

TEST(may_be_closed_while_it_keeps_some) {
    begin_ip();
    send_numbered(&a, &b, 0, 60);
    b.stop_at = 40;
    turn_until(&b.n, 40);
    puff_udp_close(b.u);
    puff_udp_close(b.u);
    finish();
}

TEST(may_be_closed_in_each_callback) {
    begin_ip();
    a.close_it = b.close_it = true;
    send_numbered(&a, &b, 0, 3);
    turn_until(&b.n_closed, 1);
    CHECK_EQ_INT(b.n, 1);
    struct sockaddr_in nobody = b.addr;
    CHECK_EQ_INT(connect(puff_udp_fd(a.u), (struct sockaddr *)&nobody, sizeof nobody), 0);
    CHECK_EQ_INT(puff_udp_send(a.u, "x", 1, NULL, 0), 0);
    turn_until(&a.n_closed, 1);
    CHECK_EQ_INT(a.last_error, UV_ECONNREFUSED);
    finish();
}

TEST(may_be_closed_while_what_was_kept_is_handed_out) {
    begin_ip();
    send_numbered(&a, &b, 0, 60);
    b.stop_at = 40;
    turn_until(&b.n, 40);
    b.stop_at = 0;
    b.close_it = true;
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    turn_some();
    CHECK_EQ_INT(b.n_closed, 1);
    CHECK_EQ_INT(b.n, 41);
    finish();
}

TEST(a_refused_datagram_is_told_and_the_socket_goes_on) {
    begin_ip();
    struct sockaddr_in nobody = {0};
    close(ip_socket(&nobody));
    CHECK_EQ_INT(connect(puff_udp_fd(a.u), (struct sockaddr *)&nobody, sizeof nobody), 0);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ_INT(puff_udp_send(a.u, "x", 1, NULL, 0), 0);
        turn_until(&a.n_errors, i);
        CHECK_EQ_INT(a.last_error, UV_ECONNREFUSED);
    }
    CHECK_EQ_INT(connect(puff_udp_fd(a.u), (struct sockaddr *)&b.addr, sizeof b.addr), 0);
    CHECK_EQ_INT(puff_udp_send(a.u, "there", 5, NULL, 0), 0);
    turn_until(&b.n, 1);
    CHECK_EQ_INT(send_to(&b, &a, "back", 4), 0);
    turn_until(&a.n, 1);
    finish();
}

/* Fills the peer's queue; returns how many were sent or queued. */
static int fill(end_point *e) {
    int n = 0;
    while (puff_udp_n_queued(e->u) < 5) {
        CHECK_EQ_INT(puff_udp_send(e->u, &n, sizeof n, NULL, 0), 0);
        CHECK(++n < 100000);
    }
    return n;
}

TEST(what_the_kernel_has_no_room_for_waits_in_order) {
    begin_unix();
    puff_udp_recv_stop(b.u);
    b.next = 0;
    int n = fill(&a);
    CHECK_EQ_INT(puff_udp_queued(a.u), 5 * sizeof n);
    turn_some();
    CHECK_EQ_INT(a.n_sent, 0);
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    turn_until(&b.n, n);
    CHECK_EQ_INT(puff_udp_queued(a.u) + puff_udp_n_queued(a.u), 0);
    CHECK(a.n_sent > 0);
    CHECK_EQ_INT(b.from_len, 0); /* it has no name */
    finish();
}

TEST(the_queue_can_be_thrown_away) {
    begin_unix();
    puff_udp_recv_stop(b.u);
    int n = fill(&a);
    puff_udp_drop(a.u);
    CHECK_EQ_INT(puff_udp_n_queued(a.u), 0);
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    turn_until(&b.n, n - 5);
    turn_some();
    CHECK_EQ_INT(b.n, n - 5);
    finish();
}

TEST(a_queued_datagram_that_fails_is_told_and_the_others_leave) {
    begin_unix();
    puff_udp_recv_stop(b.u);
    int n = fill(&a);
    struct sockaddr_un nobody = {AF_UNIX, "/nowhere/at/all"};
    CHECK_EQ_INT(puff_udp_queue(a.u, "x", 1, (struct sockaddr *)&nobody, sizeof nobody), 0);
    CHECK_EQ_INT(puff_udp_send(a.u, &n, sizeof n, NULL, 0), 0);
    b.next = 0;
    CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
    turn_until(&b.n, n + 1);
    CHECK_EQ_INT(a.n_errors, 1);
    finish();
}

TEST(a_unix_datagram_may_be_longer_than_any_ip_datagram) {
    static char data[150000];
    begin_unix();
    memset(data, 'x', sizeof data);
    int room = 400000;
    setsockopt(puff_udp_fd(a.u), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    CHECK_EQ_INT(puff_udp_send(a.u, data, sizeof data, NULL, 0), 0);
    turn_until(&b.n, 1);
    CHECK_EQ_INT(b.last_len, sizeof data);
    finish();
}

TEST(a_closed_one_refuses_all) {
    begin_ip();
    puff_udp *u = a.u;
    puff_udp_close(u);
    CHECK_EQ_INT(puff_udp_send(u, "x", 1, NULL, 0), UV_EBADF);
    CHECK_EQ_INT(puff_udp_queue(u, "x", 1, NULL, 0), UV_EBADF);
    CHECK_EQ_INT(puff_udp_recv_start(u), UV_EBADF);
    puff_udp_recv_stop(u);
    CHECK_EQ_INT(a.n_closed, 0);
    finish();
}

TEST(the_end_of_the_loop_closes_it) {
    int before = count_fds();
    begin_ip();
    end();
    CHECK_EQ_INT(a.n_closed + b.n_closed, 2);
    CHECK_EQ_INT(count_fds(), before);
}

TEST(a_failed_open_closes_the_descriptor) {
    begin();
    int fd = ip_socket(&a.addr);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_udp_open(&a.u, loop, fd, &cbs, &a), PUFF_ENOMEM);
    CHECK(!fd_is_open(fd));
    CHECK_EQ_INT(puff_udp_open(&a.u, loop, 250, &cbs, &a), UV_EBADF);
    end();
}

/* Each allocation fails once: what comes may be lost, as datagrams may, but nothing else breaks. */
TEST(without_memory_it_goes_on) {
    for (unsigned nth = 1; nth <= 8; nth++) {
        begin_ip();
        send_numbered(&a, &b, 0, 60);
        b.stop_at = 40;
        memory.fail_at = memory.n_calls + nth;
        turn_until(&b.n, 40);
        b.stop_at = 0;
        CHECK_EQ_INT(puff_udp_recv_start(b.u), 0);
        turn_some();
        CHECK_EQ_INT(send_to(&a, &b, "x", 1), 0);
        int more = b.n + 1;
        turn_until(&b.n, more);
        finish();
    }
}

TEST(a_queue_without_memory_says_so) {
    begin_unix();
    puff_udp_recv_stop(b.u);
    fill(&a);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_udp_send(a.u, "x", 1, NULL, 0), PUFF_ENOMEM);
    CHECK_EQ_INT(puff_udp_n_queued(a.u), 5);
    finish();
}

TEST(a_fork_leaves_the_parents_socket_alone) {
    begin_ip();
    puff_loop_turn(loop, false);
    pid_t child = fork();
    if (child == 0) {
        if (puff_loop_fork(loop) != 0) _exit(1);
        puff_loop_free(loop);
        _exit(memory.n_live != 0);
    }
    int status = -1;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(status, 0);
    CHECK_EQ_INT(send_to(&a, &b, "x", 1), 0);
    turn_until(&b.n, 1);
    finish();
}

RUN_TESTS;
