/* Streams: gathering, back-pressure, releases, failures, and closing from everywhere. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include "rig.h"

enum { BIG = 4 << 20 };

/* A stream under test and its peer, a plain descriptor that this file reads and writes. */
typedef struct end_point {
    puff_stream *s;
    int peer;
    int n_reads, n_drains, n_errors, n_closes, n_eofs;
    int write_status;
    ssize_t read_status;
    size_t n_read_bytes;
    void (*then)(struct end_point *e); /* what a callback does besides counting */
} end_point;

static end_point ep;
static char big[BIG];
static int n_releases;

static void release(void *arg) { n_releases++; }

static void then(end_point *e) {
    if (e->then) e->then(e);
}

static void on_read(puff_stream *s, char *buf, ssize_t n) {
    end_point *e = puff_stream_data(s);
    CHECK_EQ_INT(e->n_closes, 0);
    e->n_reads++;
    if (n > 0) e->n_read_bytes += (size_t)n;
    if (n < 0) e->read_status = n;
    if (n < 0) e->n_eofs++;
    then(e);
}

static void on_drain(puff_stream *s) {
    end_point *e = puff_stream_data(s);
    CHECK_EQ_INT(e->n_closes, 0);
    e->n_drains++;
    then(e);
}

static void on_write_error(puff_stream *s, int status) {
    end_point *e = puff_stream_data(s);
    CHECK_EQ_INT(e->n_closes, 0);
    e->n_errors++;
    e->write_status = status;
    then(e);
}

static void on_close(puff_stream *s) {
    end_point *e = puff_stream_data(s);
    CHECK(puff_stream_closing(s));
    CHECK_EQ_INT(puff_stream_fd(s), -1);
    e->n_closes++;
    then(e);
    e->s = NULL;
}

static const puff_stream_cbs cbs = {.on_read = on_read,
                                    .on_drain = on_drain,
                                    .on_write_error = on_write_error,
                                    .on_close = on_close};

static void tcp_pair(int pair[2]) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    CHECK_EQ_INT(bind(listener, (struct sockaddr *)&addr, sizeof addr), 0);
    CHECK_EQ_INT(listen(listener, 1), 0);
    CHECK_EQ_INT(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ_INT(connect(pair[0], (struct sockaddr *)&addr, len), 0);
    pair[1] = accept(listener, NULL, NULL);
    CHECK(pair[1] >= 0);
    close(listener);
}

static void open_on(int pair[2]) {
    memset(&ep, 0, sizeof ep);
    n_releases = 0;
    ep.peer = pair[1];
    fcntl(ep.peer, F_SETFL, O_NONBLOCK);
    CHECK_EQ_INT(puff_stream_open(&ep.s, loop, pair[0], &cbs, &ep), 0);
}

static void begin_unix(void) {
    begin();
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    open_on(pair);
}

static void begin_tcp(void) {
    begin();
    int pair[2];
    tcp_pair(pair);
    open_on(pair);
}

static void finish(void) {
    if (ep.s) puff_stream_abort(ep.s, false);
    turn_while_open();
    CHECK_EQ_INT(ep.n_closes, 1);
    if (ep.peer >= 0) close(ep.peer);
    end();
}

/* What the peer's socket holds now. */
static int n_readable(void) {
    int n = 0;
    CHECK_EQ_INT(ioctl(ep.peer, FIONREAD, &n), 0);
    return n;
}

static char received[BIG + (1 << 16)];
static size_t n_received;

/* The peer reads all that is there; true: it has seen the end. */
static bool peer_reads(void) {
    for (;;) {
        ssize_t n = read(ep.peer, received + n_received, sizeof received - n_received);
        if (n == 0) return true;
        if (n < 0 && errno == ECONNRESET) return true; /* we had not read all that it sent */
        if (n < 0) {
            CHECK_EQ_INT(errno, EAGAIN);
            return false;
        }
        n_received += (size_t)n;
    }
}

static void peer_reads_until(size_t n) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (n_received < n) {
        if (puff_now_ns() > give_up) CHECK_FAIL("received %zu of %zu", n_received, n);
        peer_reads();
        puff_loop_turn(loop, false);
    }
}

static void peer_reads_to_end(void) {
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (!peer_reads()) {
        if (puff_now_ns() > give_up) CHECK_FAIL("no end after %zu bytes", n_received);
        puff_loop_turn(loop, false);
    }
}

static void fill_big(void) {
    for (size_t i = 0; i < BIG; i++) big[i] = (char)(i * 2654435761u >> 13);
    n_received = 0;
}

/* Queues so much that the kernel cannot take it all. */
static void block(void) {
    fill_big();
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, BIG, release, NULL), 0);
    puff_loop_turn(loop, false);
    CHECK(puff_stream_queued(ep.s) > 0);
    CHECK_EQ_INT(n_releases, 0);
}

/* ---- sending ---- */

TEST(writes_of_a_turn_leave_together_at_its_end) {
    begin_unix();
    fill_big();
    CHECK_EQ_INT(puff_stream_write(ep.s, "head ", 5), 0);
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, 5000, release, NULL), 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, " tail", 5), 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, "", 0), 0);
    CHECK_EQ_INT(puff_stream_queued(ep.s), 5010);
    CHECK_EQ_INT(n_readable(), 0);
    CHECK_EQ_INT(n_releases, 0);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(puff_stream_queued(ep.s), 0);
    CHECK_EQ_INT(n_releases, 1);
    peer_reads();
    CHECK_EQ_INT(n_received, 5010);
    CHECK_EQ_MEM(received, 5, "head ", 5);
    CHECK_EQ_MEM(received + 5, 5000, big, 5000);
    CHECK_EQ_MEM(received + 5005, 5, " tail", 5);
    finish();
}

TEST(flush_sends_now) {
    begin_unix();
    puff_stream_flush(ep.s);
    puff_stream_write(ep.s, "abc", 3);
    puff_stream_flush(ep.s);
    CHECK_EQ_INT(n_readable(), 3);
    finish();
}

TEST(more_pieces_than_one_writev_takes_arrive_in_order) {
    begin_tcp();
    fill_big();
    for (size_t i = 0; i < 300; i++)
        CHECK_EQ_INT(puff_stream_write_ref(ep.s, big + i * 5000, 5000, release, NULL), 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, big + 1500000, 100000), 0); /* several chunks */
    peer_reads_until(1600000);
    CHECK_EQ_INT(n_releases, 300);
    CHECK(memcmp(received, big, 1600000) == 0);
    finish();
}

TEST(a_peer_that_does_not_read_costs_what_is_queued_and_no_more) {
    begin_unix();
    block();
    size_t blocks = memory.n_live, queued = puff_stream_queued(ep.s);
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ_INT(puff_stream_write(ep.s, "x", 1), 0);
        if (i % 10 == 0) puff_loop_turn(loop, false);
    }
    CHECK_EQ_INT(puff_stream_queued(ep.s), queued + 5000);
    CHECK(memory.n_live <=
          blocks + 2); /* small writes share a chunk while the socket is full, too */
    peer_reads_until(BIG + 5000);
    CHECK(memcmp(received, big, BIG) == 0);
    for (int i = 0; i < 5000; i++) CHECK_EQ_INT(received[BIG + i], 'x');
    finish();
}

TEST(a_small_reference_is_kept_when_alone_and_copied_behind_others) {
    begin_unix();
    n_received = 0;
    size_t blocks = memory.n_live;
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, "abc", 3, release, NULL), 0);
    CHECK_EQ_INT(n_releases, 0);
    CHECK_EQ_INT(memory.n_live, blocks);
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, "def", 3, release, NULL), 0);
    CHECK_EQ_INT(n_releases, 1);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(n_releases, 2);
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, "", 0, release, NULL), 0);
    CHECK_EQ_INT(n_releases, 3);
    peer_reads();
    CHECK_EQ_MEM(received, n_received, "abcdef", 6);
    finish();
}

TEST(drain_comes_once_when_the_queue_has_fallen) {
    begin_unix();
    puff_stream_set_water(ep.s, 100, 1000);
    CHECK_EQ_INT(puff_stream_write(ep.s, big, 1000), 0); /* at the mark, not above it */
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(ep.n_drains, 0);
    block();
    CHECK_EQ_INT(ep.n_drains, 0);
    peer_reads_until(BIG + 1000);
    CHECK_EQ_INT(ep.n_drains, 1);
    CHECK_EQ_INT(n_releases, 1);
    finish();
}

TEST(flush_does_not_call_on_drain_before_it_returns) {
    begin_unix();
    puff_stream_set_water(ep.s, 0, 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, "abc", 3), 0);
    puff_stream_flush(ep.s);
    CHECK_EQ_INT(ep.n_drains, 0);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(ep.n_drains, 1);
    finish();
}

TEST(set_water_keeps_a_drain_that_is_on_its_way) {
    begin_unix();
    puff_stream_set_water(ep.s, 10, 100);
    CHECK_EQ_INT(puff_stream_write(ep.s, big, 200), 0);
    puff_stream_set_water(ep.s, 10, 1000);
    puff_loop_turn(loop, false);
    CHECK_EQ_INT(ep.n_drains, 1);
    CHECK_EQ_INT(puff_stream_write(ep.s, big, 2000), 0);
    puff_stream_set_water(ep.s, 5000, 10000); /* is low already */
    CHECK_EQ_INT(ep.n_drains, 1);
    turn_some();
    CHECK_EQ_INT(ep.n_drains, 2);
    finish();
}

TEST(shutdown_sends_the_queue_then_the_end_and_reading_goes_on) {
    begin_tcp();
    fill_big();
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(puff_stream_write(ep.s, big, BIG), 0);
    CHECK_EQ_INT(puff_stream_shutdown(ep.s), 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, "x", 1), UV_EPIPE);
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, BIG, release, NULL), UV_EPIPE);
    peer_reads_to_end();
    CHECK_EQ_INT(n_received, BIG);
    CHECK(memcmp(received, big, BIG) == 0);
    CHECK_EQ_INT(n_releases, 0); /* refused: still the caller's */
    CHECK_EQ_INT(write(ep.peer, "answer", 6), 6);
    turn_until(&ep.n_reads, 1);
    CHECK_EQ_INT(ep.n_read_bytes, 6);
    puff_stream_close(ep.s);
    CHECK_EQ_INT(puff_stream_shutdown(ep.s), UV_ENOTCONN);
    finish();
}

TEST(close_sends_what_is_queued) {
    begin_tcp();
    block();
    CHECK_EQ_INT(puff_stream_write(ep.s, "last", 4), 0);
    puff_stream_close(ep.s);
    puff_stream_close(ep.s);
    CHECK(puff_stream_closing(ep.s));
    CHECK_EQ_INT(puff_stream_write(ep.s, "x", 1), UV_EPIPE);
    turn_some();
    CHECK_EQ_INT(ep.n_closes, 0); /* for as long as the peer takes it */
    peer_reads_to_end();
    CHECK_EQ_INT(n_received, BIG + 4);
    CHECK_EQ_MEM(received + BIG, 4, "last", 4);
    CHECK_EQ_INT(n_releases, 1);
    finish();
}

TEST(abort_throws_the_queue_away) {
    begin_unix();
    block();
    puff_stream_abort(ep.s, false);
    puff_stream_abort(ep.s, true);
    puff_stream_close(ep.s);
    CHECK_EQ_INT(ep.n_closes, 0); /* never before the call returns */
    turn_until(&ep.n_closes, 1);
    CHECK_EQ_INT(n_releases, 1);
    CHECK_EQ_INT(ep.n_errors, 0);
    finish();
}

TEST(abort_ends_a_close_that_the_peer_does_not_let_finish) {
    begin_unix();
    block();
    puff_stream_close(ep.s);
    turn_some();
    puff_stream_abort(ep.s, false);
    turn_until(&ep.n_closes, 1);
    CHECK_EQ_INT(n_releases, 1);
    finish();
}

TEST(abort_with_reset_resets_tcp) {
    begin_tcp();
    puff_stream_write(ep.s, "abc", 3);
    puff_stream_abort(ep.s, true);
    turn_until(&ep.n_closes, 1);
    char c;
    CHECK_EQ_INT(read(ep.peer, &c, 1), -1);
    CHECK_EQ_INT(errno, ECONNRESET);
    finish();
}

/* ---- failing ---- */

TEST(a_peer_that_is_gone_is_one_write_error) {
    begin_unix();
    close(ep.peer);
    ep.peer = -1;
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, BIG, release, NULL), 0);
    CHECK_EQ_INT(puff_stream_write(ep.s, "x", 1), 0);
    CHECK_EQ_INT(ep.n_errors, 0);
    turn_until(&ep.n_errors, 1);
    CHECK_EQ_INT(ep.write_status, UV_EPIPE);
    CHECK_EQ_INT(n_releases, 1);
    CHECK_EQ_INT(puff_stream_write(ep.s, "x", 1), UV_EPIPE);
    turn_some();
    CHECK_EQ_INT(ep.n_errors, 1);
    CHECK_EQ_INT(puff_stream_queued(ep.s), 0);
    puff_stream_close(ep.s);
    turn_until(&ep.n_closes, 1);
    finish();
}

TEST(a_peer_that_goes_while_bytes_are_in_flight_is_one_write_error) {
    begin_tcp();
    block();
    struct linger hard = {.l_onoff = 1};
    setsockopt(ep.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(ep.peer);
    ep.peer = -1;
    turn_until(&ep.n_errors, 1);
    CHECK_EQ_INT(n_releases, 1);
    turn_some();
    CHECK_EQ_INT(ep.n_errors, 1);
    finish();
}

/* ---- reading ---- */

TEST(reads_start_stop_and_end) {
    begin_unix();
    CHECK_EQ_INT(puff_stream_read_start(ep.s), 0);
    CHECK_EQ_INT(puff_stream_read_start(ep.s), 0);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
    turn_until(&ep.n_reads, 1);
    puff_stream_read_stop(ep.s);
    puff_stream_read_stop(ep.s);
    CHECK_EQ_INT(write(ep.peer, "def", 3), 3);
    turn_some();
    CHECK_EQ_INT(ep.n_read_bytes, 3);
    CHECK_EQ_INT(puff_stream_read_start(ep.s), 0);
    close(ep.peer);
    ep.peer = -1;
    turn_until(&ep.n_eofs, 1);
    CHECK_EQ_INT(ep.n_read_bytes, 6);
    CHECK_EQ_INT(ep.read_status, UV_EOF);
    turn_some();
    CHECK_EQ_INT(ep.n_eofs, 1);
    finish();
}

/* libuv takes the hang-up for the end, without a look. */
TEST(bytes_and_a_hang_up_at_once_are_read_to_the_end) {
    begin_unix();
    puff_stream_read_start(ep.s);
    puff_stream_shutdown(ep.s);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
    close(ep.peer);
    ep.peer = -1;
    turn_until(&ep.n_eofs, 1);
    CHECK_EQ_INT(ep.n_read_bytes, 3);
    CHECK_EQ_INT(ep.read_status, UV_EOF);
    finish();
}

TEST(a_reset_behind_bytes_is_no_end) {
    begin_tcp();
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
    struct linger hard = {.l_onoff = 1};
    setsockopt(ep.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(ep.peer);
    ep.peer = -1;
    turn_until(&ep.n_eofs, 1);
    CHECK_EQ_INT(ep.read_status, UV_ECONNRESET);
    finish();
}

TEST(a_descriptor_that_is_closed_below_is_a_read_error) {
    begin_unix();
    puff_stream_read_start(ep.s);
    close(puff_stream_fd(ep.s));
    turn_until(&ep.n_eofs, 1);
    CHECK_EQ_INT(ep.read_status, UV_EBADF);
    finish();
}

TEST(no_memory_to_read_into_is_one_failure) {
    begin_unix();
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
    memory.fail_at = memory.n_calls + 1;
    turn_until(&ep.n_eofs, 1);
    CHECK_EQ_INT(ep.read_status, UV_ENOBUFS);
    turn_some();
    CHECK_EQ_INT(ep.n_reads, 1);
    finish();
}

static void stop_reading(end_point *e) { puff_stream_read_stop(e->s); }

TEST(read_stop_in_the_callback_holds_the_rest_back) {
    begin_unix();
    ep.then = stop_reading;
    fill_big();
    CHECK_EQ_INT(write(ep.peer, big, 100000), 100000);
    puff_stream_read_start(ep.s);
    turn_until(&ep.n_reads, 1);
    turn_some();
    CHECK_EQ_INT(ep.n_reads, 1);
    ep.then = NULL;
    finish();
}

static char own_buf[16];

static void on_alloc_own(puff_stream *s, char **buf, size_t *cap) {
    *buf = own_buf;
    *cap = sizeof own_buf;
}

static void on_read_own(puff_stream *s, char *buf, ssize_t n) {
    CHECK(buf == own_buf);
    on_read(s, buf, n);
}

TEST(reads_go_where_on_alloc_says) {
    static const puff_stream_cbs own = {
        .on_alloc = on_alloc_own, .on_read = on_read_own, .on_close = on_close};
    begin();
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memset(&ep, 0, sizeof ep);
    ep.peer = pair[1];
    CHECK_EQ_INT(puff_stream_open(&ep.s, loop, pair[0], &own, &ep), 0);
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(write(ep.peer, "0123456789abcdefXYZ", 19), 19);
    turn_until(&ep.n_reads, 2);
    CHECK_EQ_INT(ep.n_read_bytes, 19);
    CHECK_EQ_MEM(own_buf, 3, "XYZ", 3);
    finish();
}

/* What on_alloc does besides giving memory, the first time. */
static void (*alloc_then)(end_point *e);

static void on_alloc_and(puff_stream *s, char **buf, size_t *cap) {
    on_alloc_own(s, buf, cap);
    void (*act)(end_point *) = alloc_then;
    alloc_then = NULL;
    if (act) act(&ep);
}

static void begin_allocating(void (*act)(end_point *e)) {
    static const puff_stream_cbs own = {
        .on_alloc = on_alloc_and, .on_read = on_read_own, .on_close = on_close};
    begin();
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memset(&ep, 0, sizeof ep);
    ep.peer = pair[1];
    alloc_then = act;
    CHECK_EQ_INT(puff_stream_open(&ep.s, loop, pair[0], &own, &ep), 0);
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
}

TEST(read_stop_in_on_alloc_leaves_the_bytes_for_later) {
    begin_allocating(stop_reading);
    turn_some();
    CHECK(alloc_then == NULL);
    CHECK_EQ_INT(ep.n_reads, 0);
    CHECK_EQ_INT(puff_stream_read_start(ep.s), 0);
    turn_until(&ep.n_reads, 1);
    CHECK_EQ_INT(ep.n_read_bytes, 3);
    finish();
}

static void stop_and_start(end_point *e) {
    puff_stream_read_stop(e->s);
    CHECK_EQ_INT(puff_stream_read_start(e->s), 0);
}

TEST(read_stop_and_start_in_on_alloc_reads) {
    begin_allocating(stop_and_start);
    turn_until(&ep.n_reads, 1);
    CHECK_EQ_INT(ep.n_read_bytes, 3);
    finish();
}

/* ---- from inside every callback ---- */

static void then_close(end_point *e) { puff_stream_close(e->s); }
static void then_abort(end_point *e) { puff_stream_abort(e->s, false); }
static void then_write_and_close(end_point *e) {
    puff_stream_write(e->s, "bye", 3);
    puff_stream_close(e->s);
}

static void (*const endings[])(end_point *) = {then_close, then_abort, then_write_and_close};
#define EACH_ENDING(i) for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)

TEST(close_from_on_read) {
    EACH_ENDING(i) {
        begin_unix();
        ep.then = endings[i];
        puff_stream_read_start(ep.s);
        CHECK_EQ_INT(write(ep.peer, "x", 1), 1);
        turn_until(&ep.n_closes, 1);
        CHECK_EQ_INT(ep.n_reads, 1);
        finish();
    }
}

TEST(close_from_on_alloc) {
    EACH_ENDING(i) {
        begin_allocating(endings[i]);
        turn_until(&ep.n_closes, 1);
        CHECK_EQ_INT(ep.n_reads, 0);
        finish();
    }
}

TEST(close_from_on_read_at_the_end) {
    EACH_ENDING(i) {
        begin_unix();
        ep.then = endings[i];
        puff_stream_read_start(ep.s);
        shutdown(ep.peer, SHUT_WR);
        turn_until(&ep.n_closes, 1);
        finish();
    }
}

TEST(close_from_on_drain) {
    EACH_ENDING(i) {
        begin_unix();
        block();
        ep.then = endings[i];
        uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
        while (ep.n_closes == 0 && puff_now_ns() < give_up) {
            peer_reads();
            puff_loop_turn(loop, false);
        }
        CHECK_EQ_INT(ep.n_drains, 1);
        CHECK_EQ_INT(n_releases, 1);
        finish();
    }
}

TEST(close_from_on_write_error) {
    EACH_ENDING(i) {
        begin_unix();
        ep.then = endings[i];
        close(ep.peer);
        ep.peer = -1;
        puff_stream_write_ref(ep.s, big, BIG, release, NULL);
        turn_until(&ep.n_closes, 1);
        CHECK_EQ_INT(ep.n_errors, 1);
        CHECK_EQ_INT(n_releases, 1);
        finish();
    }
}

TEST(close_from_on_close_does_nothing) {
    EACH_ENDING(i) {
        begin_unix();
        ep.then = endings[i];
        puff_stream_close(ep.s);
        turn_until(&ep.n_closes, 1);
        finish();
    }
}

/* ---- from inside a release ---- */

static void (*release_then)(end_point *e);

static void release_and(void *arg) {
    n_releases++;
    if (n_releases == 1) release_then(&ep);
}

static void then_write(end_point *e) { puff_stream_write(e->s, "more", 4); }
static void then_flush(end_point *e) {
    puff_stream_write(e->s, "more", 4);
    puff_stream_flush(e->s);
}
static void then_block(end_point *e) {
    CHECK_EQ_INT(puff_stream_write_ref(e->s, big, BIG, release, NULL), 0);
    puff_stream_flush(e->s);
}

static void queue_two(void) {
    fill_big();
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, 5000, release_and, NULL), 0);
    CHECK_EQ_INT(puff_stream_write_ref(ep.s, big + 5000, 5000, release_and, NULL), 0);
}

/* Both pieces leave in one writev; the first one's release must not send the second again. */
TEST(release_may_write_flush_and_close) {
    static void (*const acts[])(end_point *) = {then_write, then_flush, then_close,
                                                then_write_and_close};
    static const size_t more[] = {4, 4, 0, 3};
    for (size_t i = 0; i < 4; i++) {
        begin_unix();
        release_then = acts[i];
        queue_two();
        puff_loop_turn(loop, false);
        turn_some();
        peer_reads();
        CHECK_EQ_INT(n_received, 10000 + more[i]);
        CHECK(memcmp(received, big, 10000) == 0);
        CHECK_EQ_INT(n_releases, 2);
        finish();
    }
}

TEST(release_may_abort) {
    begin_unix();
    release_then = then_abort;
    queue_two();
    turn_until(&ep.n_closes, 1);
    CHECK_EQ_INT(n_releases, 2);
    CHECK_EQ_INT(ep.n_errors, 0);
    finish();
}

TEST(release_may_fill_the_socket) {
    begin_unix();
    release_then = then_block;
    queue_two();
    puff_loop_turn(loop, false);
    peer_reads_until(10000 + BIG);
    turn_some();
    CHECK_EQ_INT(n_received, 10000 + BIG);
    CHECK(memcmp(received + 10000, big, BIG) == 0);
    CHECK_EQ_INT(n_releases, 3);
    finish();
}

/* The same where libuv has waited for the socket. */
TEST(release_after_waiting_may_flush_and_close) {
    static void (*const acts[])(end_point *) = {then_flush, then_close, then_abort};
    static const size_t more[] = {4, 0, 0};
    for (size_t i = 0; i < 3; i++) {
        begin_unix();
        release_then = acts[i];
        fill_big();
        size_t half = BIG / 2;
        CHECK_EQ_INT(puff_stream_write_ref(ep.s, big, half, release_and, NULL), 0);
        CHECK_EQ_INT(puff_stream_write_ref(ep.s, big + half, half, release_and, NULL), 0);
        puff_loop_turn(loop, false);
        CHECK_EQ_INT(n_releases, 0);
        peer_reads_until(BIG);
        turn_some();
        peer_reads();
        CHECK_EQ_INT(n_received, BIG + more[i]);
        CHECK(memcmp(received, big, BIG) == 0);
        CHECK_EQ_INT(n_releases, 2);
        finish();
    }
}

/* ---- opening ---- */

TEST(open_closes_the_descriptor_when_it_fails) {
    begin();
    int fd = open("/dev/null", O_RDONLY);
    puff_stream *s;
    CHECK(puff_stream_open(&s, loop, fd, &cbs, NULL) < 0);
    CHECK(!fd_is_open(fd));
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_stream_open(&s, loop, pair[0], &cbs, NULL), UV_ENOMEM);
    CHECK(!fd_is_open(pair[0]));
    close(pair[1]);
    turn_while_open();
    end();
}

/* ---- every allocation fails once ---- */

/* A conversation; what fails is told by a return code or by one callback. True: nothing failed. */
static bool talk(size_t fail_at) {
    begin();
    memory.fail_at = memory.n_calls + fail_at;
    int pair[2];
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memset(&ep, 0, sizeof ep);
    n_releases = 0;
    n_received = 0;
    ep.peer = pair[1];
    fcntl(ep.peer, F_SETFL, O_NONBLOCK);
    size_t want = 0;
    int n_refs = 0;
    if (puff_stream_open(&ep.s, loop, pair[0], &cbs, &ep) != 0) {
        close(ep.peer);
        end();
        return false;
    }
    puff_stream_read_start(ep.s);
    CHECK_EQ_INT(write(ep.peer, "abc", 3), 3);
    if (puff_stream_write(ep.s, big, 40000) == 0) want += 40000;
    if (puff_stream_write_ref(ep.s, big + want, BIG - 80000, release, NULL) == 0) {
        want += BIG - 80000;
        n_refs++;
    }
    turn_some();
    if (ep.n_errors == 0 && puff_stream_write(ep.s, big + want, 40000) == 0) want += 40000;
    puff_stream_close(ep.s);
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (!peer_reads() && puff_now_ns() < give_up) puff_loop_turn(loop, false);
    turn_while_open();
    CHECK_EQ_INT(ep.n_closes, 1);
    CHECK_EQ_INT(n_releases, n_refs);
    CHECK(memcmp(received, big, n_received) == 0);
    bool failed = memory.n_calls >= memory.fail_at;
    if (!failed) CHECK_EQ_INT(n_received, want);
    close(ep.peer);
    end();
    return !failed;
}

TEST(every_allocation_may_fail) {
    fill_big();
    size_t at = 1;
    while (!talk(at)) at++;
    CHECK(at > 3);
}

RUN_TESTS;
