/* site.h - a server and its clients in one thread: real sockets on loopback, one loop, no sleeping.
 *
 * A test waits for a condition by pump(): the loop turns, the client's socket is watched, and after
 * LONG_MS the test fails.
 */
#ifndef SITE_H
#define SITE_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../check.h"
#include "puff/http.h"

enum { LONG_MS = 5000, MAX_LOG = 8192 };

typedef struct site site;
struct site {
    puff_loop *loop;
    puff_http_server *server;
    puff_alloc_failing alloc;
    int port;
    bool stopped;
    /* what happened, one letter each: r request, b body, d disconnect, w drain, e done, f conn free
     * */
    char events[MAX_LOG];
    size_t n_events;
    puff_http_request *req;                  /* the last request with the host */
    int n_live;                              /* requests between on_request and on_done */
    puff_http_access last;                   /* of the access log; pointers are stale */
    void (*serve)(puff_http_request *req);   /* NULL: the test answers by hand */
    void (*on_body)(puff_http_request *req); /* NULL: nothing */
    char body[1 << 20];                      /* what read_all() collected */
    size_t n_body;
};

static inline site *site_of(const puff_http_request *req) {
    return puff_http_server_data(puff_http_conn_server(req->conn));
}

static inline void site_note(site *s, char c) {
    if (s->n_events < MAX_LOG - 1) s->events[s->n_events++] = c;
}

static inline void site_on_request(puff_http_request *req) {
    site *s = site_of(req);
    site_note(s, 'r');
    s->req = req;
    s->n_live++;
    req->data = s;
    if (s->serve) s->serve(req);
}
static inline void site_on_body(puff_http_request *req) {
    site *s = site_of(req);
    site_note(s, 'b');
    if (s->on_body) s->on_body(req);
}
static inline void site_on_disconnect(puff_http_request *req) { site_note(site_of(req), 'd'); }
static inline void site_on_drain(puff_http_request *req) { site_note(site_of(req), 'w'); }
static inline void site_on_done(puff_http_request *req) {
    site *s = site_of(req);
    CHECK(req->data == s);
    site_note(s, 'e');
    s->n_live--;
    if (s->req == req) s->req = NULL;
}
static inline void site_on_conn_free(puff_http_conn *c, void *data) { site_note(data, 'f'); }
static inline void site_on_access(const puff_http_access *a) {
    ((site *)puff_http_server_data(a->server))->last = *a;
}

static const puff_http_host site_host = {site_on_request, site_on_body, site_on_disconnect,
                                         site_on_drain,   site_on_done, site_on_conn_free};

/* Answers "hello". */
static inline void serve_hello(puff_http_request *req) {
    puff_http_response_simple(req, 200, "hello");
}

/* Takes what is there of the body; true at its end. */
static inline bool read_all(puff_http_request *req) {
    site *s = site_of(req);
    puff_str bytes;
    for (;;) {
        enum puff_http_body state = puff_http_request_read(req, &bytes);
        if (bytes.len) memcpy(s->body + s->n_body, bytes.ptr, bytes.len);
        s->n_body += bytes.len;
        puff_http_request_consume(req, bytes.len);
        if (state != PUFF_HTTP_BODY_MORE) return state == PUFF_HTTP_BODY_END;
        if (bytes.len == 0) return false;
    }
}

/* Answers with the request's body, when all of it is there. */
static inline void serve_echo(puff_http_request *req) {
    site *s = site_of(req);
    if (!read_all(req)) return;
    CHECK_EQ_INT(puff_http_response_start(req, 200, NULL, 0), 0);
    CHECK_EQ_INT(puff_http_response_body(req, s->body, s->n_body, false, NULL, NULL), 0);
    s->n_body = 0;
}

static inline void site_options(puff_http_options *o) {
    puff_http_options_init(o);
    o->date_header = o->server_header = false;
    o->on_access = site_on_access;
}

/* opts NULL: site_options(). fail_at: which allocation fails, 0: none. False: even opening failed.
 * */
static inline bool site_try_open(site *s, const puff_http_options *opts, size_t fail_at) {
    puff_http_options own;
    puff_loop_options lo = {.size = sizeof lo, .alloc = &s->alloc.alloc};
    puff_listener_options li = {.size = sizeof li, .host = "127.0.0.1", .fd = -1};
    puff_listener *l;
    signal(SIGPIPE, SIG_IGN); /* as every host does: libuv writes with writev */
    memset(s, 0, offsetof(site, body));
    s->n_body = 0;
    puff_alloc_failing_init(&s->alloc, fail_at);
    if (!opts) {
        site_options(&own);
        opts = &own;
    }
    if (puff_loop_new(&s->loop, &lo, NULL) != 0) return false;
    if (puff_http_server_open(&s->server, s->loop, &site_host, s, opts, NULL) != 0) {
        puff_loop_free(s->loop);
        return false;
    }
    if (puff_http_server_listen(s->server, &li, &l, NULL) == 0) s->port = puff_listener_port(l);
    return true;
}

static inline void site_open(site *s, const puff_http_options *opts) {
    CHECK(site_try_open(s, opts, 0));
}

static inline void site_on_stopped(puff_http_server *server, void *data) {
    ((site *)data)->stopped = true;
}

/* One turn, and a look at fd (-1: none); returns soon when nothing happens. */
static inline void site_turn(site *s, int fd) {
    struct pollfd p[2] = {{.fd = puff_loop_backend_fd(s->loop), .events = POLLIN},
                          {.fd = fd, .events = POLLIN}};
    puff_loop_turn(s->loop, false);
    poll(p, fd < 0 ? 1 : 2, 2);
    puff_loop_turn(s->loop, false);
}

#define pump(s, fd, cond)                                                                       \
    do {                                                                                        \
        for (uint64_t until_ = puff_now_ns() + LONG_MS * 1000000ull; !(cond);) {                \
            if (puff_now_ns() > until_) CHECK_FAIL("never: %s; events %s", #cond, (s)->events); \
            site_turn((s), (fd));                                                               \
        }                                                                                       \
    } while (0)

static inline void site_close(site *s) {
    puff_http_server_stop(s->server, 0, site_on_stopped);
    pump(s, -1, s->stopped);
    CHECK_EQ_INT(s->n_live, 0);
    puff_loop_free(s->loop);
    CHECK_EQ_INT(s->alloc.n_live, 0);
}

/* ---- client -------------------------------------------------------------------------------- */

static inline int dial(site *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static inline void say_n(int fd, const char *bytes, size_t n) {
    CHECK_EQ_INT(send(fd, bytes, n, MSG_NOSIGNAL), n);
}
static inline void say(int fd, const char *text) { say_n(fd, text, strlen(text)); }

typedef struct heard {
    char text[1 << 18];
    size_t len;
    bool eof, reset;
    int n_reads;
} heard;

static inline void listen_once(int fd, heard *h) {
    ssize_t n = recv(fd, h->text + h->len, sizeof h->text - 1 - h->len, MSG_DONTWAIT);
    if (n > 0) h->n_reads++;
    if (n > 0) h->len += (size_t)n;
    if (n == 0) h->eof = true;
    if (n < 0 && errno != EAGAIN) h->eof = h->reset = true;
    h->text[h->len] = '\0';
}

/* Hears until text has come, and forgets it: what follows is left in h. */
static inline void hear(site *s, int fd, heard *h, const char *text) {
    size_t n = strlen(text);
    pump(s, fd, (listen_once(fd, h), h->len >= n || h->eof));
    CHECK_EQ_MEM(h->text, h->len < n ? h->len : n, text, n);
    memmove(h->text, h->text + n, h->len - n + 1);
    h->len -= n;
}

static inline void hear_eof(site *s, int fd, heard *h) {
    pump(s, fd, (listen_once(fd, h), h->eof));
    CHECK_EQ_STR(h->text, "");
}

/* The whole conversation: says, hears exactly that, then the end. */
static inline void converse(site *s, const char *says, const char *hears) {
    static heard h;
    h.len = 0;
    h.eof = h.reset = false;
    int fd = dial(s);
    say(fd, says);
    hear(s, fd, &h, hears);
    hear_eof(s, fd, &h);
    close(fd);
}

#define H "Host: h\r\n"
#define GET "GET / HTTP/1.1\r\n" H "\r\n"
#define PLAIN "content-type: text/plain; charset=utf-8\r\n"
#define HELLO "HTTP/1.1 200 OK\r\n" PLAIN "content-length: 5\r\n\r\nhello"
#define HELLO_CLOSE \
    "HTTP/1.1 200 OK\r\n" PLAIN "content-length: 5\r\nconnection: close\r\n\r\nhello"
#define REFUSED(status, phrase, len)                                  \
    "HTTP/1.1 " status " " phrase "\r\n" PLAIN "content-length: " len \
    "\r\nconnection: close\r\n\r\n" phrase

#endif
