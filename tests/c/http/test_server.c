/* test_server.c - requests and responses over real sockets: connections, framing, bodies, ends. */
#include "site.h"

static site s;
static heard h;

static int open_and_dial(void (*serve)(puff_http_request *req)) {
    h = (heard){.len = 0};
    site_open(&s, NULL);
    s.serve = serve;
    return dial(&s);
}

static void end(int fd) {
    close(fd);
    site_close(&s);
}

static puff_http_field field(const char *name, const char *value) {
    return (puff_http_field){{name, strlen(name)}, {value, strlen(value)}, PUFF_HTTP_FIELD_OTHER};
}

static void answer(int status, const char *name, const char *value) {
    puff_http_field f = field(name, value);
    CHECK_EQ_INT(puff_http_response_start(s.req, status, &f, 1), 0);
}

static int body(const char *text, bool more) {
    return puff_http_response_body(s.req, text, strlen(text), more, NULL, NULL);
}

/* Sends a request and waits until it is with the host. */
static void ask(int fd, const char *text) {
    s.req = NULL;
    say(fd, text);
    pump(&s, fd, s.req);
}

/* ---- connections --------------------------------------------------------------------------- */

TEST(connection_serves_one_request_after_another) {
    int fd = open_and_dial(serve_hello);
    for (int i = 0; i < 3; i++) {
        say(fd, GET);
        hear(&s, fd, &h, HELLO);
    }
    CHECK_EQ_STR(s.events, "rerere");
    CHECK_EQ_INT(puff_http_server_stats(s.server).n_accepted, 1);
    CHECK_EQ_INT(puff_http_server_stats(s.server).n_requests, 3);
    end(fd);
}

TEST(pipelined_responses_leave_together) {
    int fd = open_and_dial(serve_hello);
    char in[4096] = "", out[8192] = "";
    for (int i = 0; i < 16; i++) {
        strcat(in, GET);
        strcat(out, HELLO);
    }
    say(fd, in);
    hear(&s, fd, &h, out);
    CHECK_EQ_INT(h.n_reads, 1);
    end(fd);
}

TEST(more_pipelined_requests_than_one_turn_takes_are_all_answered) {
    enum { N = 1500 };
    int fd = open_and_dial(serve_hello);
    static char in[N * sizeof GET], out[N * sizeof HELLO];
    for (int i = 0; i < N; i++) {
        memcpy(in + i * (sizeof GET - 1), GET, sizeof GET);
        memcpy(out + i * (sizeof HELLO - 1), HELLO, sizeof HELLO);
    }
    say(fd, in);
    hear(&s, fd, &h, out);
    end(fd);
}

TEST(next_request_waits_for_the_one_in_front) {
    int fd = open_and_dial(NULL);
    ask(fd, GET "GET /2 HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 5; i++) site_turn(&s, fd);
    CHECK_EQ_STR(s.events, "r");
    CHECK_EQ_INT(puff_http_response_simple(s.req, 200, "hello"), 0);
    CHECK_EQ_STR(s.events, "r"); /* no callback inside a call */
    pump(&s, fd, s.n_events == 3);
    CHECK_EQ_STR(s.events, "rer");
    CHECK_EQ_MEM(s.req->path.ptr, s.req->path.len, "/2", 2);
    CHECK_EQ_INT(s.req->number, 2);
    puff_http_response_simple(s.req, 404, NULL);
    hear(&s, fd, &h, HELLO "HTTP/1.1 404 Not Found\r\n" PLAIN "content-length: 9\r\n\r\nNot Found");
    end(fd);
}

TEST(proceed_begins_the_next_request_at_once) {
    int fd = open_and_dial(NULL);
    ask(fd, GET "GET /2 HTTP/1.1\r\n" H "\r\n");
    puff_http_request_proceed(s.req);
    CHECK_EQ_STR(s.events, "r"); /* it is not answered yet */
    CHECK_EQ_INT(puff_http_response_simple(s.req, 200, "hello"), 0);
    puff_http_request_proceed(s.req);
    CHECK_EQ_STR(s.events, "rer");
    CHECK_EQ_INT(s.req->number, 2);
    CHECK_EQ_INT(puff_http_response_simple(s.req, 200, "hello"), 0);
    puff_http_request_proceed(s.req);
    CHECK_EQ_STR(s.events, "rere");
    hear(&s, fd, &h, HELLO HELLO);
    end(fd);
}

static void serve_and_proceed(puff_http_request *req) {
    puff_http_response_simple(req, 200, "hello");
    puff_http_request_proceed(req); /* we are called by its connection: without effect */
    CHECK(req->conn);
}

TEST(proceed_inside_a_callback_leaves_it_to_the_connection) {
    int fd = open_and_dial(serve_and_proceed);
    say(fd, GET GET GET);
    hear(&s, fd, &h, HELLO HELLO HELLO);
    CHECK_EQ_STR(s.events, "rerere");
    end(fd);
}

TEST(request_cut_at_every_byte_is_the_same_request) {
    static const char in[] = "POST /a?b HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc" GET;
    for (size_t cut = 1; cut < sizeof in - 1; cut++) {
        int fd = open_and_dial(serve_echo);
        s.on_body = serve_echo;
        say_n(fd, in, cut);
        for (int i = 0; i < 2; i++) site_turn(&s, -1);
        say(fd, in + cut);
        hear(&s, fd, &h,
             "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
             "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        end(fd);
    }
}

TEST(close_and_http_1_0_end_the_connection) {
    site_open(&s, NULL);
    s.serve = serve_hello;
    converse(&s, "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", HELLO_CLOSE);
    converse(&s, "GET / HTTP/1.0\r\n\r\n", HELLO_CLOSE);
    int fd = dial(&s);
    h = (heard){.len = 0};
    for (int i = 0; i < 2; i++) {
        say(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        hear(&s, fd, &h,
             "HTTP/1.1 200 OK\r\n" PLAIN
             "content-length: 5\r\nconnection: keep-alive\r\n\r\nhello");
    }
    end(fd);
}

TEST(refused_head_is_answered_and_nothing_after_it_is_read) {
    site_open(&s, NULL);
    s.serve = serve_hello;
    converse(&s, "GET / HTTP/1.1\nHost: h\n\n" GET, REFUSED("400", "Bad Request", "11"));
    CHECK_EQ_STR(s.events, "");
    CHECK_EQ_INT(s.last.status, 400);
    CHECK(s.last.req == NULL);
    converse(&s, GET "GET / HTTP/3.0\r\n\r\n" GET,
             HELLO REFUSED("505", "HTTP Version Not Supported", "26"));
    CHECK_EQ_STR(s.events, "re");
    CHECK_EQ_INT(puff_http_server_stats(s.server).n_refused, 2);
    site_close(&s);
}

TEST(slices_of_the_request) {
    int fd = open_and_dial(NULL);
    ask(fd, "PUT http://other:81?q=1 HTTP/1.1\r\nHost: h\r\nX-Y: z\r\n\r\n");
    const puff_http_request *r = s.req;
    CHECK_EQ_INT(r->method_id, PUFF_HTTP_METHOD_PUT);
    CHECK(puff_str_eq(r->target, PUFF_STR("http://other:81?q=1")));
    CHECK(puff_str_eq(r->path, PUFF_STR("/")) && puff_str_eq(r->query, PUFF_STR("q=1")));
    CHECK(puff_str_eq(r->authority, PUFF_STR("other:81")));
    CHECK(puff_str_eq(puff_http_request_field(r, PUFF_HTTP_FIELD_HOST)->value, r->authority));
    CHECK(puff_str_eq(r->fields[1].name, PUFF_STR("x-y")) && r->n_fields == 2);
    CHECK(puff_http_request_field(r, PUFF_HTTP_FIELD_COOKIE) == NULL);
    char text[128];
    uint16_t port;
    struct sockaddr_storage local;
    CHECK_EQ_INT(puff_http_addr_text(puff_http_conn_peer(r->conn), text, sizeof text, &port), 9);
    CHECK_EQ_STR(text, "127.0.0.1");
    CHECK_EQ_INT(puff_http_conn_local(r->conn, &local), 0);
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&local, text, sizeof text, &port), 9);
    CHECK_EQ_INT(port, s.port);
    end(fd);
}

TEST(date_and_server_lines) {
    puff_http_options o;
    puff_http_options_init(&o);
    site_open(&s, &o);
    s.serve = serve_hello;
    h = (heard){.len = 0};
    int fd = dial(&s);
    say(fd, GET);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\n" PLAIN "date: ");
    pump(&s, fd, (listen_once(fd, &h), strstr(h.text, "hello")));
    CHECK_EQ_MEM(h.text + 3, 2, ", ", 2);
    CHECK_EQ_MEM(h.text + 25, 19, " GMT\r\nserver: puff\r\n", 19);
    end(fd);
}

/* ---- request bodies ------------------------------------------------------------------------ */

TEST(body_with_a_length_comes_in_pieces) {
    int fd = open_and_dial(serve_echo);
    s.on_body = serve_echo;
    ask(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nab");
    say(fd, "cd");
    pump(&s, fd, s.n_events == 2);
    say(fd, "ef" GET);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef"
         "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    CHECK_EQ_STR(s.events, "rbbere");
    CHECK_EQ_INT(s.last.body_bytes_out, 0);
    end(fd);
}

TEST(chunked_body_is_decoded) {
    int fd = open_and_dial(serve_echo);
    s.on_body = serve_echo;
    ask(fd, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    say(fd, "2\r\nde\r\n1");
    pump(&s, fd, s.n_events == 2);
    say(fd, "\r\nf\r\n0\r\nX: y\r\n\r\n" GET);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef"
         "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    end(fd);
}

TEST(bad_chunk_is_refused_and_the_host_told) {
    site_open(&s, NULL);
    s.serve = s.on_body = serve_echo;
    converse(&s, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n" GET,
             REFUSED("400", "Bad Request", "11"));
    CHECK_EQ_STR(s.events, "rde");
    CHECK_EQ_INT(s.last.status, 400);
    CHECK(!s.last.complete);
    site_close(&s);
}

TEST(body_peek_repeats_until_consumed) {
    int fd = open_and_dial(NULL);
    puff_str a, b;
    ask(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabcd");
    CHECK_EQ_INT(puff_http_request_read(s.req, &a), PUFF_HTTP_BODY_END);
    CHECK_EQ_INT(puff_http_request_read(s.req, &b), PUFF_HTTP_BODY_END);
    CHECK(puff_str_eq(a, b) && a.len == 4);
    puff_http_request_consume(s.req, 3);
    CHECK_EQ_INT(puff_http_request_read(s.req, &a), PUFF_HTTP_BODY_END);
    CHECK(puff_str_eq(a, PUFF_STR("d")));
    puff_http_request_consume(s.req, 1);
    CHECK_EQ_INT(puff_http_request_read(s.req, &a), PUFF_HTTP_BODY_END);
    CHECK_EQ_INT(a.len, 0);
    end(fd);
}

TEST(expectation_is_answered_at_the_first_read) {
    int fd = open_and_dial(NULL);
    puff_str bytes;
    s.on_body = serve_echo;
    ask(fd, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    CHECK(s.req->expects_continue);
    for (int i = 0; i < 3; i++) site_turn(&s, fd);
    listen_once(fd, &h);
    CHECK_EQ_INT(h.len, 0);
    CHECK_EQ_INT(puff_http_request_read(s.req, &bytes), PUFF_HTTP_BODY_MORE);
    CHECK_EQ_INT(puff_http_request_read(s.req, &bytes), PUFF_HTTP_BODY_MORE);
    hear(&s, fd, &h, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "abc");
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
    end(fd);
}

TEST(expectation_that_nobody_reads_closes) {
    site_open(&s, NULL);
    s.serve = serve_hello;
    converse(&s, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
             HELLO_CLOSE);
    site_close(&s);
}

TEST(unread_body_is_dropped_and_the_connection_kept) {
    int fd = open_and_dial(serve_hello);
    say(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc" GET);
    hear(&s, fd, &h, HELLO HELLO);
    say(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\na");
    hear(&s, fd, &h, HELLO);
    CHECK_EQ_STR(s.events, "rerere");
    say(fd, "bc" GET);
    hear(&s, fd, &h, HELLO);
    say(fd, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\n");
    hear(&s, fd, &h, HELLO);
    say(fd, "a\r\n0\r\n\r\n" GET);
    hear(&s, fd, &h, HELLO);
    end(fd);
}

TEST(large_unread_body_closes) {
    int fd = open_and_dial(serve_hello);
    say(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\nabc");
    hear(&s, fd, &h, HELLO_CLOSE);
    hear_eof(&s, fd, &h);
    CHECK(!h.reset);
    close(fd);
    fd = dial(&s);
    h = (heard){.len = 0};
    say(fd, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffff\r\n");
    hear(&s, fd, &h, HELLO); /* how long a chunked body is nobody knows yet */
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    for (int i = 0; i < 20; i++) {
        say_n(fd, junk, sizeof junk);
        site_turn(&s, fd);
    }
    hear_eof(&s, fd, &h);
    end(fd);
}

TEST(reading_stops_while_the_host_does_not) {
    int fd = open_and_dial(NULL);
    enum { SIZE = 8 << 20 };
    char junk[65536];
    memset(junk, 'x', sizeof junk);
    ask(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 8388608\r\n\r\n");
    size_t sent = 0;
    for (int quiet = 0; quiet < 20 && sent < SIZE;) {
        ssize_t n =
            send(fd, junk, SIZE - sent < sizeof junk ? SIZE - sent : sizeof junk, MSG_DONTWAIT);
        quiet = n > 0 ? 0 : quiet + 1;
        if (n > 0) sent += (size_t)n;
        site_turn(&s, fd);
    }
    CHECK(sent < SIZE);
    puff_str bytes;
    CHECK_EQ_INT(puff_http_request_read(s.req, &bytes), PUFF_HTTP_BODY_MORE);
    CHECK(bytes.len >= 65536 && bytes.len < 262144);
    size_t got = 0;
    enum puff_http_body state = PUFF_HTTP_BODY_MORE;
    while (state != PUFF_HTTP_BODY_END || bytes.len) {
        ssize_t n = sent < SIZE
                        ? send(fd, junk, SIZE - sent < sizeof junk ? SIZE - sent : sizeof junk,
                               MSG_DONTWAIT)
                        : 0;
        if (n > 0) sent += (size_t)n;
        site_turn(&s, fd);
        state = puff_http_request_read(s.req, &bytes);
        CHECK(state != PUFF_HTTP_BODY_GONE);
        puff_http_request_consume(s.req, bytes.len);
        got += bytes.len;
    }
    CHECK_EQ_INT(got, SIZE);
    puff_http_response_simple(s.req, 200, "hello");
    hear(&s, fd, &h, HELLO);
    CHECK_EQ_INT(s.last.body_bytes_in, SIZE);
    end(fd);
}

/* ---- responses ----------------------------------------------------------------------------- */

TEST(response_without_a_length_is_chunked) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "X-A", "b");
    CHECK_EQ_INT(body("abc", true), 0);
    CHECK_EQ_INT(body("", true), 0);
    CHECK_EQ_INT(body("0123456789abcdef", true), 0);
    CHECK_EQ_INT(body("end", false), 0);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"
         "3\r\nabc\r\n10\r\n0123456789abcdef\r\n3\r\nend\r\n0\r\n\r\n");
    ask(fd, GET);
    answer(200, "X-A", "b");
    CHECK_EQ_INT(body("abc", true), 0);
    CHECK_EQ_INT(body("", false), 0);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    end(fd);
}

TEST(http_1_0_response_without_a_length_ends_with_the_connection) {
    int fd = open_and_dial(NULL);
    ask(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer(200, "X-A", "b");
    CHECK_EQ_INT(body("abc", true), 0);
    CHECK_EQ_INT(body("def", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\nx-a: b\r\nconnection: close\r\n\r\nabcdef");
    hear_eof(&s, fd, &h);
    end(fd);
}

TEST(head_and_first_body_leave_in_one_write) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "Content-Length", "6");
    for (int i = 0; i < 3; i++) site_turn(&s, fd);
    listen_once(fd, &h);
    CHECK_EQ_INT(h.len, 0); /* the head is held */
    CHECK_EQ_INT(body("abc", true), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc");
    CHECK_EQ_INT(h.n_reads, 1);
    CHECK_EQ_INT(body("def", false), 0);
    hear(&s, fd, &h, "def");
    end(fd);
}

TEST(flush_sends_the_held_head) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "Content-Type", "text/event-stream");
    CHECK_EQ_INT(puff_http_response_flush(s.req), 0);
    hear(
        &s, fd, &h,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    CHECK_EQ_INT(body("x", false), 0);
    hear(&s, fd, &h, "1\r\nx\r\n0\r\n\r\n");
    end(fd);
}

TEST(responses_that_have_no_body_send_none) {
    int fd = open_and_dial(NULL);
    ask(fd, "HEAD / HTTP/1.1\r\n" H "\r\n");
    CHECK_EQ_INT(puff_http_response_simple(s.req, 200, "hello"), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\n" PLAIN "content-length: 5\r\n\r\n");
    CHECK_EQ_INT(s.last.body_bytes_out, 0);
    ask(fd, "HEAD / HTTP/1.1\r\n" H "\r\n");
    answer(200, "Content-Length", "10");
    CHECK_EQ_INT(body("", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
    ask(fd, "HEAD / HTTP/1.1\r\n" H "\r\n");
    answer(200, "X-A", "b");
    CHECK_EQ_INT(body("abc", true), 0);
    CHECK_EQ_INT(body("abc", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\nx-a: b\r\n\r\n");
    ask(fd, GET);
    answer(204, "Content-Length", "5");
    CHECK_EQ_INT(body("hello", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 204 No Content\r\n\r\n");
    ask(fd, GET);
    answer(304, "ETag", "x");
    CHECK_EQ_INT(body("", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n");
    ask(fd, GET);
    answer(205, "X-A", "b");
    CHECK_EQ_INT(body("abc", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 205 Reset Content\r\nx-a: b\r\ncontent-length: 0\r\n\r\n");
    end(fd);
}

TEST(head_can_be_taken_back_until_it_leaves) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    CHECK_EQ_INT(puff_http_response_forget(s.req), 0); /* there is none */
    answer(200, "x", "1");
    CHECK_EQ_INT(puff_http_response_forget(s.req), 0);
    CHECK(!puff_http_response_started(s.req));
    answer(404, "y", "2");
    CHECK_EQ_INT(body("x", true), 0);
    CHECK_EQ_INT(puff_http_response_forget(s.req), PUFF_HTTP_ESTATE);
    CHECK_EQ_INT(body("", false), 0);
    hear(&s, fd, &h,
         "HTTP/1.1 404 Not Found\r\ny: 2\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    end(fd);
}

TEST(broken_body_is_refused_while_the_head_is_held_back) {
    int fd = open_and_dial(NULL);
    ask(fd, "POST / HTTP/1.1\r\n" H "transfer-encoding: chunked\r\n\r\n");
    answer(200, "x", "1");
    CHECK(!read_all(s.req));
    say(fd, "zz\r\n");
    hear(&s, fd, &h,
         "HTTP/1.1 400 Bad Request\r\n" PLAIN
         "content-length: 11\r\nconnection: close\r\n\r\nBad Request");
    CHECK_EQ_STR(s.events, "rde");
    end(fd);
}

TEST(more_body_than_content_length_is_an_error_of_the_host) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "Content-Length", "3");
    CHECK_EQ_INT(body("abcd", false), PUFF_HTTP_ELENGTH);
    CHECK_EQ_INT(body("ab", true), 0);
    CHECK_EQ_INT(body("cd", true), PUFF_HTTP_ELENGTH);
    CHECK_EQ_INT(body("c", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
    end(fd);
}

TEST(less_body_than_content_length_closes) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "Content-Length", "3");
    CHECK_EQ_INT(body("ab", false), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab");
    hear_eof(&s, fd, &h);
    CHECK(!s.last.complete);
    end(fd);
}

TEST(host_fields_are_checked) {
    static const struct {
        const char *name, *value;
        int want;
    } cases[] = {
        {"a b", "x", PUFF_HTTP_EFIELD},
        {"", "x", PUFF_HTTP_EFIELD},
        {"a:", "x", PUFF_HTTP_EFIELD},
        {"a", "x\r\ny", PUFF_HTTP_EFIELD},
        {"a", "x\ny", PUFF_HTTP_EFIELD},
        {"a", "\x01", PUFF_HTTP_EFIELD},
        {"a", "0123456789abcdef\r", PUFF_HTTP_EFIELD},
        {"\xc3", "x", PUFF_HTTP_EFIELD},
        {"content-length", "-1", PUFF_HTTP_ELENGTH},
        {"content-length", "", PUFF_HTTP_ELENGTH},
    };
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        puff_http_field f = field(cases[i].name, cases[i].value);
        CHECK_EQ_INT(puff_http_response_start(s.req, 200, &f, 1), cases[i].want);
    }
    puff_http_field nul = {PUFF_STR("a"), {"x\0y", 3}, PUFF_HTTP_FIELD_OTHER};
    CHECK_EQ_INT(puff_http_response_start(s.req, 200, &nul, 1), PUFF_HTTP_EFIELD);
    CHECK_EQ_INT(puff_http_response_start(s.req, 199, NULL, 0), PUFF_HTTP_ESTATUS);
    CHECK_EQ_INT(puff_http_response_start(s.req, 600, NULL, 0), PUFF_HTTP_ESTATUS);
    CHECK_EQ_INT(body("x", false), PUFF_HTTP_ESTATE);
    answer(299, "A", "\xc3\xa4\t"); /* after an error another start is possible */
    CHECK_EQ_INT(puff_http_response_start(s.req, 200, NULL, 0), PUFF_HTTP_ESTATE);
    CHECK_EQ_INT(body("x", false), 0);
    CHECK_EQ_INT(body("x", false), PUFF_HTTP_ESTATE);
    hear(&s, fd, &h, "HTTP/1.1 299 \r\na: \xc3\xa4\t\r\ncontent-length: 1\r\n\r\nx");
    end(fd);
}

TEST(fields_that_are_the_servers_business_are_dropped) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    puff_http_field f[] = {field("Transfer-Encoding", "gzip"),
                           field("Keep-Alive", "x"),
                           field("Connection", "x, Close "),
                           field("Upgrade", "h2c"),
                           field("Date", "today"),
                           field("Server", "me"),
                           field("Trailer", "x")};
    CHECK_EQ_INT(puff_http_response_start(s.req, 200, f, 7), 0);
    CHECK_EQ_INT(body("x", false), 0);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\ndate: today\r\nserver: me\r\ncontent-length: 1\r\nconnection: "
         "close\r\n\r\nx");
    hear_eof(&s, fd, &h);
    end(fd);
}

TEST(informational_responses_and_trailers) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    puff_http_field link = field("Link", "</a>"), sum = field("X-Sum", "1"),
                    bad = field("Content-Length", "3");
    CHECK_EQ_INT(puff_http_response_informational(s.req, 103, &link, 1), 0);
    hear(&s, fd, &h, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    CHECK_EQ_INT(puff_http_response_informational(s.req, 200, &link, 1), PUFF_HTTP_ESTATUS);
    answer(200, "X-A", "b");
    CHECK_EQ_INT(puff_http_response_informational(s.req, 103, &link, 1), PUFF_HTTP_ESTATE);
    CHECK_EQ_INT(body("a", true), 0);
    CHECK_EQ_INT(puff_http_response_trailers(s.req, (puff_http_field[]){bad, sum}, 2), 0);
    hear(&s, fd, &h,
         "HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"
         "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
    ask(fd, GET);
    answer(200, "Content-Length", "1");
    CHECK_EQ_INT(body("a", true), 0);
    CHECK_EQ_INT(puff_http_response_trailers(s.req, &sum, 1), 0);
    hear(&s, fd, &h, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
    end(fd);
}

static int n_released;
static void on_release(void *arg) {
    n_released++;
    free(arg);
}

TEST(bytes_given_away_are_released_once) {
    int fd = open_and_dial(NULL);
    n_released = 0;
    ask(fd, GET);
    answer(200, "X-A", "b");
    static const size_t sizes[] = {10, 100000, 0};
    for (size_t i = 0; i < 3; i++) {
        char *bytes = calloc(1, sizes[i] + 1);
        CHECK_EQ_INT(puff_http_response_body(s.req, bytes, sizes[i], i < 2, on_release, bytes), 0);
    }
    char *refused = calloc(1, 1);
    CHECK_EQ_INT(puff_http_response_body(s.req, refused, 1, false, on_release, refused),
                 PUFF_HTTP_ESTATE);
    free(refused);
    pump(&s, fd, (listen_once(fd, &h), h.len > 100000 && n_released == 3));
    ask(fd, "HEAD / HTTP/1.1\r\n" H "\r\n");
    answer(200, "X-A", "b");
    char *unsent = calloc(1, 100000);
    CHECK_EQ_INT(puff_http_response_body(s.req, unsent, 100000, false, on_release, unsent), 0);
    CHECK_EQ_INT(n_released, 4);
    end(fd);
}

TEST(host_waits_for_drain) {
    int fd = open_and_dial(NULL);
    static char big[1 << 20];
    ask(fd, GET);
    answer(200, "X-A", "b");
    size_t sent = 0;
    while (puff_http_response_queued(s.req) <= 65536) {
        CHECK_EQ_INT(puff_http_response_body(s.req, big, sizeof big, true, NULL, NULL), 0);
        sent += sizeof big;
        site_turn(&s, -1);
    }
    s.n_events = 0;
    memset(s.events, 0, sizeof s.events);
    size_t got = 0;
    pump(&s, fd, (h.len = 0, listen_once(fd, &h), got += h.len, strchr(s.events, 'w')));
    CHECK(puff_http_response_queued(s.req) <= 65536);
    CHECK_EQ_INT(body("", false), 0);
    pump(&s, fd, (h.len = 0, listen_once(fd, &h), got += h.len, got > sent));
    end(fd);
}

TEST(abort_resets_the_connection) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "X-A", "b");
    CHECK_EQ_INT(body("abc", true), 0);
    puff_http_response_abort(s.req);
    CHECK_EQ_STR(s.events, "r");
    pump(&s, fd, s.n_events == 2);
    CHECK_EQ_STR(s.events, "re");
    pump(&s, fd, (listen_once(fd, &h), h.eof));
    CHECK(h.reset && !s.last.complete);
    end(fd);
}

/* ---- disconnects --------------------------------------------------------------------------- */

TEST(client_that_only_finished_still_gets_its_responses) {
    int fd = open_and_dial(NULL);
    ask(fd, GET GET);
    shutdown(fd, SHUT_WR);
    pump(&s, fd, s.n_events == 2);
    CHECK_EQ_STR(s.events, "rd");
    CHECK(puff_http_request_disconnected(s.req));
    puff_http_response_simple(s.req, 200, "hello");
    pump(&s, fd, s.n_events == 5);
    CHECK_EQ_STR(s.events, "rderd");
    puff_http_response_simple(s.req, 200, "hello");
    hear(&s, fd, &h, HELLO HELLO);
    hear_eof(&s, fd, &h);
    end(fd);
}

TEST(client_that_left_within_its_body) {
    int fd = open_and_dial(serve_echo);
    puff_str bytes;
    s.on_body = serve_echo;
    ask(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nab");
    shutdown(fd, SHUT_WR);
    pump(&s, fd, s.n_events == 2);
    CHECK_EQ_STR(s.events, "rd");
    CHECK_EQ_INT(puff_http_request_read(s.req, &bytes), PUFF_HTTP_BODY_GONE);
    puff_http_response_simple(s.req, 400, NULL);
    pump(&s, fd, (listen_once(fd, &h), h.eof));
    CHECK_EQ_STR(s.events, "rde");
    end(fd);
}

TEST(client_that_reset_the_connection) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    puff_http_request *req = puff_http_request_ref(s.req);
    close(fd);
    pump(&s, -1, s.n_events == 3);
    CHECK_EQ_STR(s.events, "rde");
    /* a host that holds a reference keeps the slices and hears "closed" */
    puff_str bytes;
    CHECK(puff_str_eq(req->path, PUFF_STR("/")));
    CHECK(req->conn == NULL && puff_http_request_disconnected(req));
    CHECK_EQ_INT(puff_http_request_read(req, &bytes), PUFF_HTTP_BODY_GONE);
    CHECK_EQ_INT(puff_http_response_start(req, 200, NULL, 0), PUFF_ECLOSED);
    CHECK_EQ_INT(puff_http_response_body(req, "", 0, false, NULL, NULL), PUFF_ECLOSED);
    CHECK_EQ_INT(puff_http_response_flush(req), PUFF_ECLOSED);
    CHECK_EQ_INT(puff_http_response_queued(req), 0);
    puff_http_response_abort(req);
    puff_http_request_consume(req, 0);
    puff_http_server_stop(s.server, 0, site_on_stopped);
    pump(&s, -1, s.stopped);
    puff_http_request_unref(req); /* after the server is gone */
    puff_loop_free(s.loop);
    CHECK_EQ_INT(s.alloc.n_live, 0);
}

TEST(write_error_ends_a_stream) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    answer(200, "X-A", "b");
    close(fd);
    pump(&s, -1, s.n_events == 2);
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0 && s.req; i++) {
        rc = body("abc", true);
        site_turn(&s, -1);
    }
    CHECK(!s.req);
    CHECK_EQ_STR(s.events, "rde");
    site_close(&s);
}

TEST(connection_data_is_given_back) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    puff_http_conn_set_data(s.req->conn, &s);
    CHECK(puff_http_conn_data(s.req->conn) == &s);
    puff_http_response_simple(s.req, 200, "hello");
    hear(&s, fd, &h, HELLO);
    close(fd);
    pump(&s, -1, s.n_events == 3);
    CHECK_EQ_STR(s.events, "ref");
    site_close(&s);
}

/* ---- stopping ------------------------------------------------------------------------------ */

TEST(stop_closes_the_idle_and_finishes_the_busy) {
    int fd = open_and_dial(NULL), idle = dial(&s);
    ask(idle, GET);
    puff_http_response_simple(s.req, 200, "hello");
    hear(&s, idle, &h, HELLO);
    ask(fd, GET);
    puff_http_server_stop(s.server, 60000, site_on_stopped);
    hear_eof(&s, idle, &h);
    CHECK(!s.stopped);
    puff_http_response_simple(s.req, 200, "hello");
    h = (heard){.len = 0};
    hear(&s, fd, &h, HELLO_CLOSE);
    hear_eof(&s, fd, &h);
    close(fd);
    pump(&s, -1, s.stopped);
    close(idle);
    puff_loop_free(s.loop);
    CHECK_EQ_INT(s.alloc.n_live, 0);
}

TEST(stop_lets_a_first_request_come_that_was_on_its_way) {
    int late = open_and_dial(NULL), silent = dial(&s);
    pump(&s, -1, puff_http_server_stats(s.server).n_accepted == 2);
    puff_http_server_stop(s.server, 60000, site_on_stopped);
    ask(late, GET);
    puff_http_response_simple(s.req, 200, "hello");
    hear(&s, late, &h, HELLO_CLOSE);
    hear_eof(&s, late, &h);
    close(late);
    h = (heard){.len = 0};
    hear_eof(&s, silent, &h);
    pump(&s, -1, s.stopped);
    close(silent);
    puff_loop_free(s.loop);
    CHECK_EQ_INT(s.alloc.n_live, 0);
}

TEST(stop_cuts_off_what_takes_too_long) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    puff_http_server_stop(s.server, 20, site_on_stopped);
    pump(&s, fd, s.stopped);
    CHECK_EQ_STR(s.events, "rde");
    close(fd);
    puff_loop_free(s.loop);
    CHECK_EQ_INT(s.alloc.n_live, 0);
}

TEST(loop_can_be_freed_under_a_request) {
    int fd = open_and_dial(NULL);
    ask(fd, GET);
    puff_http_server_stop(s.server, 60000, site_on_stopped);
    puff_loop_free(s.loop);
    CHECK_EQ_STR(s.events, "rde");
    CHECK(s.stopped);
    CHECK_EQ_INT(s.alloc.n_live, 0);
    close(fd);
}

RUN_TESTS;
