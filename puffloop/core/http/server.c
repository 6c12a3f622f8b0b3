/* server.c - an HTTP server: its listeners, its connections, its clock.
 *
 * No timer per request or connection: while there are connections, one sweep every sweep_ns
 * compares the deadline that each of them carries with the time.
 */
#include "http/http.h"

#include <string.h>
#include <time.h>

enum {
    MAX_SPARE_HEADS = 16,
    KEEP_HEAD = 4096,   /* bytes of a spare head buffer that are worth keeping */
    MAX_SWEEP_MS = 250, /* coarse enough to cost nothing: 10,000 connections are 1 ms of work */
    MIN_SWEEP_MS = 5,
    MAX_SERVER_NAME = 256
};

/* ---- options ------------------------------------------------------------------------------- */

void puff_http_options_init(puff_http_options *o) {
    *o = (puff_http_options){
        .size = sizeof *o,
        .max_request_line = 8192,
        .max_head = 32768,
        .max_fields = 100,
        .max_connections = 10000,
        .max_pipelined = 64,
        .max_body = 0,
        .max_drain = 65536,
        .header_timeout_ms = 10000,
        .keep_alive_timeout_ms = 65000,
        .body_timeout_ms = 10000,
        .write_timeout_ms = 30000,
        .min_rate = 240,
        .server_header = true,
        .date_header = true,
        .server_name = "puff",
    };
}

/* What an older caller's struct does not have keeps its default. */
static int read_options(puff_http_options *o, const puff_http_options *given, puff_err *err) {
    puff_http_options_init(o);
    if (given && (given->size < offsetof(puff_http_options, max_body) || given->size > sizeof *o))
        return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_HTTP, "options of size %zu", given->size);
    if (given) memcpy(o, given, given->size);
    if (o->max_fields == 0 || o->max_fields > 10000 || o->max_pipelined == 0 ||
        o->max_request_line < 16 || o->max_request_line > 1 << 24 || o->max_head > 1 << 24)
        return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_HTTP, "a limit is out of its range");
    return 0;
}

/* "server: puff\r\n", checked as a field of the host's would be. */
static int make_server_line(puff_http_server *s, puff_err *err) {
    const char *name = s->opts.server_name;
    if (!s->opts.server_header || !name) return 0;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f || p - name >= MAX_SERVER_NAME)
            return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_HTTP, "server_name is no field value");
    size_t n = strlen(name);
    memcpy(s->server_line, "server: ", 8);
    memcpy(s->server_line + 8, name, n);
    memcpy(s->server_line + 8 + n, "\r\n", 2);
    s->server_line_len = n + 10;
    return 0;
}

static uint32_t least(uint32_t a, uint32_t b) { return b && b < a ? b : a; }

/* A quarter of the shortest timeout, within bounds: a deadline is seen at most so much late. */
static uint64_t sweep_interval(const puff_http_options *o) {
    uint32_t ms = MAX_SWEEP_MS * 4;
    ms = least(ms, o->header_timeout_ms);
    ms = least(ms, o->keep_alive_timeout_ms);
    ms = least(ms, o->body_timeout_ms);
    ms = least(ms, o->write_timeout_ms) / 4;
    return (uint64_t)(ms < MIN_SWEEP_MS ? MIN_SWEEP_MS : ms) * 1000000;
}

/* ---- pools --------------------------------------------------------------------------------- */

puff_h1_parser *puff__server_take_parser(puff_http_server *s) {
    puff_h1_parser *p = s->parser;
    s->parser = NULL;
    if (p) return p;
    p = puff_malloc(s->alloc, puff_h1_parser_size(s->opts.max_fields));
    if (p) puff_h1_parser_init(p, s->opts.max_request_line, s->opts.max_head, s->opts.max_fields);
    return p;
}

void puff__server_give_parser(puff_http_server *s, puff_h1_parser *p) {
    if (s->parser) {
        puff_free(s->alloc, p);
        return;
    }
    puff_h1_parser_reset(p);
    s->parser = p;
}

puff__head *puff__server_take_head(puff_http_server *s) {
    puff__head *h = s->heads;
    if (h) {
        s->heads = h->next;
        s->n_heads--;
        return h;
    }
    h = puff_malloc(s->alloc, sizeof *h);
    if (h) puff_buf_init(&h->buf, s->alloc, PUFF_H1_MAX_RESPONSE_HEAD);
    return h;
}

static void free_head(puff_http_server *s, puff__head *h) {
    puff_buf_deinit(&h->buf);
    puff_free(s->alloc, h);
}

void puff__server_give_head(puff_http_server *s, puff__head *h) {
    if (s->n_heads >= MAX_SPARE_HEADS) {
        free_head(s, h);
        return;
    }
    puff_buf_reset(&h->buf, KEEP_HEAD);
    h->next = s->heads;
    s->heads = h;
    s->n_heads++;
}

static void free_pools(puff_http_server *s) {
    for (puff__head *h = s->heads, *next; h; h = next) {
        next = h->next;
        free_head(s, h);
    }
    for (puff__request *r = s->requests, *next; r; r = next) {
        next = r->pub.data;
        puff_free(s->alloc, r);
    }
    puff_free(s->alloc, s->parser);
}

/* ---- clock --------------------------------------------------------------------------------- */

puff_str puff__server_date_line(puff_http_server *s) {
    const uint64_t now = puff_loop_now_ns(s->loop);
    if (now >= s->date_until_ns) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        memcpy(s->date_line, "date: ", 6);
        puff_http_date(s->date_line + 6, ts.tv_sec);
        memcpy(s->date_line + 35, "\r\n", 2);
        s->date_until_ns = now + 1000000000u - (uint64_t)ts.tv_nsec;
    }
    return (puff_str){s->date_line, 37};
}

static void each_conn(puff_http_server *s, void (*fn)(puff_http_conn *c, uint64_t arg),
                      uint64_t arg) {
    puff_queue *q, *next;
    for (q = s->conns.next; q != &s->conns; q = next) {
        next = q->next; /* fn may close c; its memory goes later, from the loop */
        fn(PUFF_CONTAINER_OF(q, puff_http_conn, node), arg);
    }
}

static void start_sweep(puff_http_server *s, uint64_t now) {
    uint64_t at = now + s->sweep_ns;
    if (s->stopping && at > now + PUFF__FRESH_MS * 1000000) at = now + PUFF__FRESH_MS * 1000000;
    if (s->stopping && s->stop_ns < at) at = s->stop_ns;
    puff_timer_start_at(&s->sweep, at); /* no memory: the next opened connection tries again */
}

static void stop_conn(puff_http_conn *c, uint64_t now) { puff__conn_stop(c, now != 0); }

static void on_sweep(puff_timer *t) {
    puff_http_server *s = PUFF_CONTAINER_OF(t, puff_http_server, sweep);
    const uint64_t now = puff_loop_now_ns(s->loop);
    if (puff_queue_empty(&s->conns)) return;
    start_sweep(s, now);
    if (s->stopping && now >= s->stop_ns) {
        s->stop_ns = UINT64_MAX; /* once is enough: what is left is closing */
        each_conn(s, stop_conn, true);
        return;
    }
    each_conn(s, puff__conn_sweep, now);
}

/* ---- connections --------------------------------------------------------------------------- */

static void pause_listening(puff_http_server *s, bool pause) {
    if (s->paused == pause) return;
    s->paused = pause;
    for (puff__listening *l = s->listening; l; l = l->next)
        pause ? puff_listener_pause(l->listener) : puff_listener_resume(l->listener);
}

void puff__server_conn_opened(puff_http_server *s) {
    const uint32_t max = s->opts.max_connections;
    s->stats.n_accepted++;
    s->stats.n_connections++;
    if (!puff_timer_active(&s->sweep)) start_sweep(s, puff_loop_now_ns(s->loop));
    if (max && s->stats.n_connections >= max) pause_listening(s, true);
}

static void finish_stopping(puff_http_server *s) {
    if (s->on_stopped) s->on_stopped(s, s->data);
    puff_timer_stop(&s->sweep);
    puff_defer_cancel(&s->job);
    free_pools(s);
    puff_free(s->alloc, s);
}

void puff__server_conn_closed(puff_http_server *s) {
    s->stats.n_connections--;
    if (s->stats.n_connections > 0) {
        pause_listening(
            s, s->opts.max_connections && s->stats.n_connections >= s->opts.max_connections);
        return;
    }
    pause_listening(s, false);
    puff_timer_stop(&s->sweep); /* so that a loop with nothing else to do can end */
    if (s->stopping) finish_stopping(s);
}

/* ---- stopping ------------------------------------------------------------------------------ */

static void on_stop(puff_defer *d) {
    puff_http_server *s = PUFF_CONTAINER_OF(d, puff_http_server, job);
    const uint64_t now = puff_loop_now_ns(s->loop);
    if (puff_queue_empty(&s->conns)) {
        finish_stopping(s);
        return;
    }
    each_conn(s, stop_conn, now >= s->stop_ns);
    start_sweep(s, now);
}

static void close_listeners(puff_http_server *s) {
    for (puff__listening *l = s->listening, *next; l; l = next) {
        next = l->next;
        puff_listener_close(l->listener);
        puff_free(s->alloc, l);
    }
    s->listening = NULL;
}

void puff_http_server_stop(puff_http_server *s, uint64_t timeout_ms,
                           void (*on_stopped)(puff_http_server *server, void *data)) {
    const uint64_t now = puff_loop_update_now(s->loop);
    const uint64_t at =
        timeout_ms > (UINT64_MAX - now) / 1000000 ? UINT64_MAX : now + timeout_ms * 1000000;
    if (!s->stopping) {
        s->stopping = true;
        s->stop_ns = at;
        s->on_stopped = on_stopped;
        close_listeners(s);
    } else if (at < s->stop_ns) {
        s->stop_ns = at;
    }
    puff_loop_defer(s->loop, &s->job); /* closing calls the host: not within its own call */
}

/* ---- public -------------------------------------------------------------------------------- */

int puff_http_server_open(puff_http_server **out, puff_loop *loop, const puff_http_host *host,
                          void *data, const puff_http_options *opts, puff_err *err) {
    const puff_alloc *alloc = puff_loop_alloc(loop);
    puff_http_server *s = puff_calloc(alloc, 1, sizeof *s);
    if (!s) return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_HTTP, "out of memory");
    s->loop = loop;
    s->alloc = alloc;
    s->host = host;
    s->data = data;
    puff_queue_init(&s->conns);
    puff_queue_init(&s->held);
    puff_timer_init(&s->sweep, loop, on_sweep);
    puff_defer_init(&s->job, on_stop);
    int rc = read_options(&s->opts, opts, err);
    if (rc == 0) rc = make_server_line(s, err);
    if (rc) {
        puff_free(alloc, s);
        return rc;
    }
    s->sweep_ns = sweep_interval(&s->opts);
    *out = s;
    return 0;
}

static void on_accept(puff_listener *l, int fd, const struct sockaddr *peer, unsigned peer_len) {
    puff_http_server_accept(puff_listener_data(l), fd, peer, peer_len);
}

int puff_http_server_listen(puff_http_server *s, const puff_listener_options *opts,
                            puff_listener **out, puff_err *err) {
    puff__listening *l = puff_malloc(s->alloc, sizeof *l);
    if (!l) return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_HTTP, "out of memory");
    int rc = puff_listener_open(&l->listener, s->loop, opts, on_accept, s, err);
    if (rc) {
        puff_free(s->alloc, l);
        return rc;
    }
    if (s->paused) puff_listener_pause(l->listener);
    l->next = s->listening;
    s->listening = l;
    if (out) *out = l->listener;
    return 0;
}

int puff_http_server_accept(puff_http_server *s, int fd, const struct sockaddr *peer,
                            unsigned peer_len) {
    return puff__conn_open(s, fd, peer, peer_len);
}

void *puff_http_server_data(const puff_http_server *s) { return s->data; }
puff_loop *puff_http_server_loop(const puff_http_server *s) { return s->loop; }
puff_http_stats puff_http_server_stats(const puff_http_server *s) { return s->stats; }
