/* test_limits.c - every limit and every timeout of the server, and what happens when memory ends.
 * */
#include "site.h"

static site s;
static heard h;

static void open_with(void (*change)(puff_http_options *o)) {
    puff_http_options o;
    site_options(&o);
    change(&o);
    site_open(&s, &o);
    s.serve = serve_hello;
    h = (heard){.len = 0};
}

/* ---- limits -------------------------------------------------------------------------------- */

static void small_limits(puff_http_options *o) {
    o->max_request_line = 64;
    o->max_head = 128;
    o->max_fields = 4;
    o->max_body = 8;
}

TEST(heads_that_are_too_large) {
    char in[512];
    open_with(small_limits);
    sprintf(in, "GET /%0*d HTTP/1.1\r\n" H "\r\n", 64, 0);
    converse(&s, in, REFUSED("414", "URI Too Long", "12"));
    sprintf(in, "GET / HTTP/1.1\r\n" H "A: %0*d\r\n\r\n", 128, 0);
    converse(&s, in, REFUSED("431", "Request Header Fields Too Large", "31"));
    converse(&s, "GET / HTTP/1.1\r\n" H "A: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n",
             REFUSED("431", "Request Header Fields Too Large", "31"));
    CHECK_EQ_STR(s.events, "");
    site_close(&s);
}

TEST(bodies_that_are_too_large) {
    open_with(small_limits);
    s.serve = s.on_body = serve_echo;
    converse(&s, "POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n123456789" GET,
             REFUSED("413", "Content Too Large", "17"));
    CHECK_EQ_STR(s.events, "");
    converse(
        &s, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n1234\r\n",
        REFUSED("413", "Content Too Large", "17"));
    CHECK_EQ_STR(s.events, "rde");
    int fd = dial(&s);
    say(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 8\r\n\r\n12345678");
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678");
    close(fd);
    site_close(&s);
}

static void two_connections(puff_http_options *o) { o->max_connections = 2; }

TEST(connections_above_the_limit_wait) {
    open_with(two_connections);
    int a = dial(&s), b = dial(&s), c = dial(&s);
    say(c, GET);
    say(a, GET);
    hear(&s, a, &h, HELLO);
    say(b, GET);
    hear(&s, b, &h, HELLO);
    CHECK_EQ_INT(puff_http_server_stats(s.server).n_connections, 2);
    listen_once(c, &h);
    CHECK_EQ_INT(h.len, 0);
    close(a);
    hear(&s, c, &h, HELLO);
    close(b);
    close(c);
    site_close(&s);
}

static void no_options(puff_http_options *o) {}

TEST(options_out_of_range_are_refused) {
    puff_http_options o;
    puff_http_server *server = NULL;
    puff_err err = {0};
    open_with(no_options);
    site_options(&o);
    o.max_fields = 0;
    CHECK_EQ_INT(puff_http_server_open(&server, s.loop, &site_host, &s, &o, &err), PUFF_EARG);
    site_options(&o);
    o.size = 3;
    CHECK_EQ_INT(puff_http_server_open(&server, s.loop, &site_host, &s, &o, &err), PUFF_EARG);
    site_options(&o);
    o.server_header = true;
    o.server_name = "a\r\nb: c";
    CHECK_EQ_INT(puff_http_server_open(&server, s.loop, &site_host, &s, &o, &err), PUFF_EARG);
    CHECK(err.msg[0] && !server);
    site_close(&s);
}

/* ---- timeouts ------------------------------------------------------------------------------ */

static void short_timeouts(puff_http_options *o) {
    o->header_timeout_ms = o->keep_alive_timeout_ms = o->body_timeout_ms = o->write_timeout_ms = 40;
}

TEST(head_that_drips_has_an_absolute_deadline) {
    open_with(short_timeouts);
    int fd = dial(&s);
    static const char drip[] =
        "GET / HTTP/1.1\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    for (size_t i = 0; i < sizeof drip - 1 && h.len == 0; i++) {
        say_n(fd, drip + i, 1);
        site_turn(&s, fd);
        listen_once(fd, &h);
    }
    hear(&s, fd, &h, REFUSED("408", "Request Timeout", "15"));
    hear_eof(&s, fd, &h);
    close(fd);
    site_close(&s);
}

TEST(silent_and_idle_connections_are_closed_without_a_word) {
    open_with(short_timeouts);
    int fd = dial(&s);
    hear_eof(&s, fd, &h);
    close(fd);
    h = (heard){.len = 0};
    fd = dial(&s);
    say(fd, GET);
    hear(&s, fd, &h, HELLO);
    hear_eof(&s, fd, &h);
    CHECK(!h.reset);
    close(fd);
    site_close(&s);
}

TEST(body_that_does_not_come) {
    open_with(short_timeouts);
    s.serve = s.on_body = serve_echo;
    converse(&s, "POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n1234",
             REFUSED("408", "Request Timeout", "15"));
    CHECK_EQ_STR(s.events, "rde");
    CHECK_EQ_INT(s.last.status, 408);
    site_close(&s);
}

TEST(unread_body_that_does_not_come_closes) {
    open_with(short_timeouts);
    converse(&s, "POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n1234", HELLO);
    CHECK_EQ_STR(s.events, "re");
    site_close(&s);
}

static void fast_body(puff_http_options *o) {
    o->body_timeout_ms = 50;
    o->min_rate = 1000000;
}

TEST(body_below_the_rate_floor) {
    open_with(fast_body);
    s.serve = s.on_body = serve_echo;
    int fd = dial(&s);
    say(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n");
    while (h.len == 0) {
        send(fd, "x", 1, MSG_NOSIGNAL);
        site_turn(&s, fd);
        listen_once(fd, &h);
    }
    hear(&s, fd, &h, REFUSED("408", "Request Timeout", "15"));
    close(fd);
    site_close(&s);
}

/* Not ours to count: the host is not reading, or the client waits for "100 Continue". */
TEST(body_timeout_stands_still_while_it_is_our_turn) {
    open_with(short_timeouts);
    s.serve = NULL;
    int fd = dial(&s);
    say(fd, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    pump(&s, fd, s.req);
    uint64_t until = puff_now_ns() + 150 * 1000000ull;
    pump(&s, fd, puff_now_ns() > until);
    CHECK_EQ_STR(s.events, "r");
    close(fd);
    site_close(&s);
}

static void short_write(puff_http_options *o) { o->write_timeout_ms = 60; }

TEST(reader_that_does_not_read_is_cut_off) {
    open_with(short_write);
    s.serve = NULL;
    static char big[16 << 20];
    int fd = dial(&s);
    say(fd, GET);
    pump(&s, fd, s.req);
    CHECK_EQ_INT(puff_http_response_start(s.req, 200, NULL, 0), 0);
    CHECK_EQ_INT(puff_http_response_body(s.req, big, sizeof big, true, NULL, NULL), 0);
    pump(&s, -1, s.n_events == 3);
    CHECK_EQ_STR(s.events, "rde");
    /* and one who reads is not, however long it takes */
    close(fd);
    fd = dial(&s);
    say(fd, GET);
    pump(&s, fd, s.req);
    CHECK_EQ_INT(puff_http_response_start(s.req, 200, NULL, 0), 0);
    CHECK_EQ_INT(puff_http_response_body(s.req, big, sizeof big, false, NULL, NULL), 0);
    size_t got = 0;
    pump(&s, -1, (h.len = 0, listen_once(fd, &h), got += h.len, got > sizeof big));
    close(fd);
    site_close(&s);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void serve_or_abort(puff_http_request *req) {
    if (puff_http_response_simple(req, 200, "hello") != 0) puff_http_response_abort(req);
}

/* One conversation in which allocation number n fails: no crash, no leak, and always an end. */
static bool talk_with_failure(size_t fail_at) {
    static const char in[] =
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" GET;
    if (!site_try_open(&s, NULL, fail_at)) {
        CHECK_EQ_INT(s.alloc.n_live, 0);
        return true;
    }
    s.serve = serve_or_abort;
    h = (heard){.len = 0};
    if (s.port) {
        int fd = dial(&s);
        say_n(fd, in, 20);
        for (int i = 0; i < 3; i++) site_turn(&s, fd);
        send(fd, in + 20, sizeof in - 21, MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
        pump(&s, fd, (listen_once(fd, &h), h.eof));
        close(fd);
    }
    site_close(&s);
    return s.alloc.n_calls >= fail_at;
}

TEST(every_allocation_may_fail) {
    size_t n = 1;
    while (talk_with_failure(n)) n++;
    CHECK(n > 8);
    CHECK_EQ_INT(talk_with_failure(0), true);
}

/* Counts bytes, for the next test. */
typedef struct counting {
    puff_alloc alloc;
    size_t n_bytes;
} counting;

static void *count_resize(void *ctx, void *ptr, size_t size) {
    counting *c = ctx;
    size_t *block = ptr ? (size_t *)ptr - 2 : NULL;
    if (block) c->n_bytes -= *block;
    if (size == 0) {
        free(block);
        return NULL;
    }
    block = realloc(block, size + 16);
    *block = size;
    c->n_bytes += size;
    return block + 2;
}

TEST(idle_connection_costs_less_than_2_kib) {
    enum { N = 64 };
    static int fds[N];
    counting c = {{count_resize, &c}, 0};
    puff_http_options o;
    puff_loop_options lo = {.size = sizeof lo, .alloc = &c.alloc};
    puff_listener_options li = {.size = sizeof li, .host = "127.0.0.1", .fd = -1};
    puff_listener *l;
    signal(SIGPIPE, SIG_IGN);
    site_options(&o);
    memset(&s, 0, offsetof(site, body));
    CHECK_EQ_INT(puff_loop_new(&s.loop, &lo, NULL), 0);
    CHECK_EQ_INT(puff_http_server_open(&s.server, s.loop, &site_host, &s, &o, NULL), 0);
    CHECK_EQ_INT(puff_http_server_listen(s.server, &li, &l, NULL), 0);
    s.port = puff_listener_port(l);
    s.serve = serve_hello;
    size_t before = 0;
    for (int i = 0; i < N; i++) {
        fds[i] = dial(&s);
        say(fds[i], GET);
        h = (heard){.len = 0};
        hear(&s, fds[i], &h, HELLO);
        if (i == 0) before = c.n_bytes; /* pools and the loop's own are there now */
    }
    size_t each = (c.n_bytes - before) / (N - 1);
    fprintf(stderr, "  %zu bytes for each idle connection\n", each);
    CHECK(each <= 2048);
    for (int i = 0; i < N; i++) close(fds[i]);
    puff_http_server_stop(s.server, 0, site_on_stopped);
    pump(&s, -1, s.stopped);
    puff_loop_free(s.loop);
    CHECK_EQ_INT(c.n_bytes, 0);
}

RUN_TESTS;
