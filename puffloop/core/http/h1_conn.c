/* h1_conn.c - one HTTP/1 connection.
 *
 *   FRESH --> IN_HEAD --> REQUEST --> DRAIN --> IDLE --> IN_HEAD ...
 *     |          |           |          |         |
 *     |      refused      cut off    too much   timeout
 *     +----------+-----------+----------+---------+----> LINGER --> CLOSING --> freed in on_close
 *
 * run() takes steps until the next one needs bytes, the host, or another turn. It is entered from
 * reads and from a deferred job, never from within itself, so a host that answers inside on_request
 * does not recurse: the loop finds the response complete and goes on to the next head. All
 * responses of a turn are sent together by the stream.
 *
 * One request at a time is with the host: a pipelined one is not parsed before the one in front of
 * it has been answered, so responses cannot change places (CVE-2023-46137). After a refused head no
 * byte is ever looked at again.
 */
#include "http/http.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>
#if defined(__linux__)
#include <linux/sockios.h>
#endif

static uint64_t now_of(const puff_http_conn *c) { return puff_loop_now_ns(c->server->loop); }

static uint64_t deadline(const puff_http_conn *c, uint32_t timeout_ms) {
    return timeout_ms ? now_of(c) + (uint64_t)timeout_ms * 1000000 : UINT64_MAX;
}

static void enter(puff_http_conn *c, enum puff__phase phase) {
    const puff_http_options *o = &c->server->opts;
    c->phase = (uint8_t)phase;
    c->deadline_ns = UINT64_MAX;
    if (phase == PUFF__FRESH || phase == PUFF__IN_HEAD)
        c->deadline_ns = deadline(c, o->header_timeout_ms);
    if (phase == PUFF__IDLE) c->deadline_ns = deadline(c, o->keep_alive_timeout_ms);
    if (phase == PUFF__LINGER) c->deadline_ns = deadline(c, PUFF__LINGER_MS);
}

int puff__conn_write(puff_http_conn *c, const void *data, size_t len) {
    if (!c->stream) return PUFF_ECLOSED;
    int rc = puff_stream_write(c->stream, data, len);
    if (rc == 0) c->n_tx += len;
    return rc == 0 || rc == PUFF_ENOMEM ? rc : PUFF_ECLOSED;
}

/* Reading stops while the host is behind, or we are with pipelined heads: then TCP makes the peer
 * wait. */
void puff__conn_update_reading(puff_http_conn *c) {
    if (c->phase == PUFF__CLOSING || c->peer_finished || c->in.borrowed) return;
    if (c->phase != PUFF__IN_HEAD && puff_h1_input_unread(&c->in) >= PUFF__HIGH_WATER)
        puff_stream_read_stop(c->stream);
    else
        puff_stream_read_start(c->stream);
}

/* ---- the end of a request ------------------------------------------------------------------ */

static void log_access(puff_http_conn *c, const puff__request *req, int status, bool complete) {
    puff_http_server *s = c->server;
    if (!s->opts.on_access) return;
    puff_http_access a = {.server = s, .conn = c, .status = status, .complete = complete};
    if (req) {
        a.req = &req->pub;
        a.body_bytes_in = c->in.n_body_in;
        a.body_bytes_out = req->no_body ? 0 : req->n_out;
        a.duration_ns = now_of(c) - req->pub.start_ns;
    }
    s->opts.on_access(&a);
}

/* The exchange is over: the host has its last word about it. */
static void end_request(puff_http_conn *c, bool complete) {
    puff__request *req = c->req;
    c->req = NULL;
    c->want_continue = false;
    c->server->stats.n_in_flight--;
    req->ended = true;
    log_access(c, req, req->status, complete);
    if (c->server->host->on_done) c->server->host->on_done(&req->pub);
    puff__request_release(req);
}

static void tell_gone(puff_http_conn *c) {
    puff__request *req = c->req;
    if (req->told_gone) return;
    req->told_gone = true;
    req->waiting = false;
    if (c->server->host->on_disconnect) c->server->host->on_disconnect(&req->pub);
}

/* ---- the end of a connection --------------------------------------------------------------- */

/* What is queued still leaves. */
static void close_stream(puff_http_conn *c) {
    puff_h1_input_clear(&c->in);
    enter(c, PUFF__CLOSING);
    puff_stream_close(c->stream);
}

/* Closing a socket with unread bytes makes TCP send RST, which can overtake our last response. So
 * when the peer may still be sending, only our side is shut down, and what comes is dropped for a
 * while. */
static void begin_close(puff_http_conn *c) {
    const bool quiet = c->peer_finished || (c->polite && puff_h1_input_unread(&c->in) == 0 &&
                                            c->in.framing == PUFF_H1_NO_BODY);
    if (quiet) {
        close_stream(c);
        return;
    }
    puff_stream_shutdown(c->stream);
    puff_h1_input_clear(&c->in);
    enter(c, PUFF__LINGER);
}

/* At once, with what is queued thrown away. */
static void cut_off(puff_http_conn *c, bool reset) {
    if (c->req) {
        if (!c->give_up && !c->req->complete) tell_gone(c);
        end_request(c, false);
    }
    puff_h1_input_clear(&c->in);
    enter(c, PUFF__CLOSING);
    puff_stream_abort(c->stream, reset);
}

/* A head that cannot become a request. */
static void refuse(puff_http_conn *c, int status) {
    c->server->stats.n_refused++;
    log_access(c, NULL, status, true);
    if (puff__respond_plain(c, status, false) != 0)
        cut_off(c, false);
    else
        begin_close(c);
}

/* A request whose body went wrong while the host had it. */
static void refuse_request(puff_http_conn *c, int status) {
    puff__request *req = c->req;
    if (puff_http_response_forget(&req->pub) != 0) {
        cut_off(c, true);
        return;
    }
    const bool head_only = req->pub.method_id == PUFF_HTTP_METHOD_HEAD;
    c->server->stats.n_refused++;
    req->status = status;
    req->started = req->complete = true; /* the host's own answer comes too late */
    tell_gone(c);
    end_request(c, false);
    if (puff__respond_plain(c, status, head_only) != 0)
        cut_off(c, false);
    else
        begin_close(c);
}

/* ---- steps: true when another one may be possible ------------------------------------------ */

static bool next_phase_after_body(puff_http_conn *c) {
    enter(c, PUFF__IDLE);
    return c->in.n_raw > 0 || c->peer_finished;
}

static bool step_drain(puff_http_conn *c) {
    puff_str bytes;
    enum puff_http_body state = puff_h1_input_peek(&c->in, &bytes);
    puff_h1_input_consume(&c->in, bytes.len);
    c->n_drained += bytes.len;
    if (state == PUFF_HTTP_BODY_GONE || c->n_drained > c->server->opts.max_drain) {
        begin_close(c);
        return false;
    }
    return state == PUFF_HTTP_BODY_END && next_phase_after_body(c);
}

static bool finish_response(puff_http_conn *c) {
    const puff__request *req = c->req;
    const bool cut = req->cut, close = req->close || c->server->stopping;
    c->polite = !req->pub.keep_alive;
    end_request(c, !cut);
    if (cut || close) {
        begin_close(c);
        return false;
    }
    if (c->in.framing == PUFF_H1_NO_BODY) return next_phase_after_body(c);
    c->n_drained = 0;
    enter(c, PUFF__DRAIN);
    return true;
}

/* The host waits for its body, and there is something to say. */
static bool body_news(puff_http_conn *c) {
    puff_str bytes;
    if (!c->req->waiting) return false;
    enum puff_http_body state = puff_h1_input_peek(&c->in, &bytes);
    return state == PUFF_HTTP_BODY_END || bytes.len > 0;
}

static bool step_request(puff_http_conn *c) {
    puff__request *req = c->req;
    if (c->give_up) {
        cut_off(c, true);
        return false;
    }
    if (req->complete) return finish_response(c);
    if (body_news(c)) {
        req->waiting = false;
        if (c->server->host->on_body) c->server->host->on_body(&req->pub);
        return true;
    }
    if (c->in.refused) {
        refuse_request(c, c->in.refused);
        return false;
    }
    if (c->peer_finished && !req->told_gone) {
        tell_gone(c);
        return true;
    }
    return false;
}

static bool start_request(puff_http_conn *c, puff_h1_parser *p) {
    puff_http_server *s = c->server;
    if (s->opts.max_body && p->content_length > s->opts.max_body) {
        refuse(c, 413);
        return false;
    }
    puff__request *req = puff__request_new(c, p, c->in.raw);
    if (!req) {
        cut_off(c, false);
        return false;
    }
    puff_h1_input_skip_raw(&c->in, p->end);
    puff_h1_input_begin_body(&c->in, p->chunked, p->content_length, s->opts.max_body);
    c->want_continue = p->expects_continue && c->in.framing != PUFF_H1_NO_BODY;
    c->req = req;
    s->stats.n_requests++;
    s->stats.n_in_flight++;
    enter(c, PUFF__REQUEST);
    s->host->on_request(&req->pub);
    return true;
}

static puff_h1_parser *parser_of(puff_http_conn *c) {
    if (!c->parser) c->parser = puff__server_take_parser(c->server);
    return c->parser;
}

static void drop_parser(puff_http_conn *c) {
    if (c->parser) puff__server_give_parser(c->server, c->parser);
    c->parser = NULL;
}

static bool step_head(puff_http_conn *c) {
    if (c->in.n_raw == 0) {
        if (c->peer_finished) close_stream(c);
        return false;
    }
    puff_h1_parser *p = parser_of(c);
    if (!p) {
        cut_off(c, false);
        return false;
    }
    int r = puff_h1_parse(p, c->in.raw, c->in.n_raw);
    if (r == PUFF_H1_MORE) {
        if (c->peer_finished)
            close_stream(c);
        else if (c->phase == PUFF__FRESH)
            c->phase = PUFF__IN_HEAD; /* the deadline of accept holds */
        else if (c->phase == PUFF__IDLE)
            enter(c, PUFF__IN_HEAD);
        return false;
    }
    bool more = false;
    if (r < 0)
        refuse(c, -r);
    else
        more = start_request(c, p);
    drop_parser(c);
    return more;
}

/* Another step? budget: heads that may still be parsed in this turn, so that one who pipelines
 * without end does not keep the others waiting. */
static bool step(puff_http_conn *c, uint32_t *budget) {
    switch ((enum puff__phase)c->phase) {
    case PUFF__REQUEST: return step_request(c);
    case PUFF__DRAIN: return step_drain(c);
    case PUFF__LINGER:
        puff_h1_input_clear(&c->in);
        if (c->peer_finished) close_stream(c);
        return false;
    case PUFF__CLOSING: return false;
    default:
        if (*budget == 0 && c->in.n_raw > 0) {
            puff_loop_defer(c->server->loop, &c->job);
            return false;
        }
        if (c->in.n_raw > 0) --*budget;
        return step_head(c);
    }
}

static void run(puff_http_conn *c) {
    uint32_t budget = c->server->opts.max_pipelined;
    c->running = true;
    while (step(c, &budget)) continue;
    c->running = false;
    if (c->phase == PUFF__CLOSING) return;
    if (puff_h1_input_save(&c->in) != 0) {
        cut_off(c, false);
        return;
    }
    puff__conn_update_reading(c);
}

/* ---- what happens to the connection -------------------------------------------------------- */

void puff__conn_wake(puff_http_conn *c) {
    if (!c->running) puff_loop_defer(c->server->loop, &c->job);
}

static void send_now(puff_http_conn *c) {
    if (c->phase != PUFF__CLOSING && puff_stream_queued(c->stream)) puff_stream_flush(c->stream);
}

static void send_held(puff_http_server *s) {
    for (puff_queue *q; (q = puff_queue_pop(&s->held)) != NULL;)
        send_now(PUFF_CONTAINER_OF(q, puff_http_conn, held));
}

/* Answers leave at the end of the turn, as the streams do it: sent one by one between apps that
 * take their time, nearly each would wake a peer that sleeps, at 8 us of kernel time. But the first
 * of a turn does not wait for all the others: what is ready goes once PUFF__HOLD_NS have passed
 * since the turn began or some were sent. */
static void send_soon(puff_http_conn *c) {
    puff_http_server *s = c->server;
    if (c->phase == PUFF__CLOSING || !puff_stream_queued(c->stream)) return;
    uint64_t turn = puff_loop_get_stats(s->loop).n_turns, now_ns = puff_now_ns();
    if (turn != s->held_turn) {
        while (puff_queue_pop(&s->held)) continue; /* that turn's end has sent them */
        s->held_turn = turn;
        s->held_since_ns = puff_loop_now_ns(s->loop); /* an app that is slow itself holds nobody */
    }
    puff_queue_remove(&c->held);
    puff_queue_push(&s->held, &c->held);
    if (now_ns - s->held_since_ns < PUFF__HOLD_NS) return;
    send_held(s);
    s->held_since_ns = now_ns;
}

static void on_job(puff_defer *d) {
    puff_http_conn *c = PUFF_CONTAINER_OF(d, puff_http_conn, job);
    if (c->phase == PUFF__CLOSING) return;
    run(c);
    send_now(c);
}

static void on_alloc(puff_stream *s, char **buf, size_t *cap) {
    puff_http_conn *c = puff_stream_data(s);
    *buf = puff_h1_input_room(&c->in, cap);
}

static void on_finished(puff_http_conn *c) {
    c->peer_finished = c->in.finished = true;
    run(c);
}

static void on_read(puff_stream *s, char *buf, ssize_t n) {
    puff_http_conn *c = puff_stream_data(s);
    if (n == 0 || c->phase == PUFF__CLOSING) return;
    if (n == UV_EOF) {
        on_finished(c);
    } else if (n < 0 || puff_h1_input_add(&c->in, buf, (size_t)n) != 0) {
        cut_off(c, false);
    } else {
        c->n_rx += (uint64_t)n;
        run(c);
        send_soon(c);
    }
}

static void on_drain(puff_stream *s) {
    puff_http_conn *c = puff_stream_data(s);
    if (c->req && !c->req->complete && c->server->host->on_drain)
        c->server->host->on_drain(&c->req->pub);
}

static void on_write_error(puff_stream *s, int status) {
    puff_http_conn *c = puff_stream_data(s);
    if (c->phase != PUFF__CLOSING) cut_off(c, false);
}

static void on_close(puff_stream *s) {
    puff_http_conn *c = puff_stream_data(s);
    puff_http_server *server = c->server;
    c->stream = NULL;
    if (c->req) { /* the loop itself is being freed */
        tell_gone(c);
        end_request(c, false);
    }
    puff_defer_cancel(&c->job);
    drop_parser(c);
    puff_h1_input_deinit(&c->in);
    if (c->data && server->host->on_conn_free) server->host->on_conn_free(c, c->data);
    puff_queue_remove(&c->held);
    puff_queue_remove(&c->node);
    puff_free(server->alloc, c);
    puff__server_conn_closed(server);
}

static const puff_stream_cbs stream_cbs = {on_alloc, on_read, on_drain, on_write_error, on_close};

static void set_peer(puff_http_conn *c, const struct sockaddr *peer, unsigned len) {
    if (peer && len) memcpy(&c->peer, peer, len < sizeof c->peer ? len : sizeof c->peer);
    if (c->peer.any.sa_family == AF_INET || c->peer.any.sa_family == AF_INET6) return;
    memset(&c->peer, 0, sizeof c->peer);
    c->peer.any.sa_family = AF_UNIX;
}

/* The most that is ever kept unread: heads as long as they may be, or two times the high-water
 * mark. */
static size_t max_kept(const puff_http_options *o) {
    return 2 * PUFF__HIGH_WATER + (size_t)o->max_request_line + o->max_head;
}

int puff__conn_open(puff_http_server *server, int fd, const struct sockaddr *peer,
                    unsigned peer_len) {
    puff_http_conn *c = puff_calloc(server->alloc, 1, sizeof *c);
    if (!c) {
        close(fd);
        return PUFF_ENOMEM;
    }
    c->server = server;
    puff_queue_init(&c->held);
    set_peer(c, peer, peer_len);
    if (c->peer.any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    puff_defer_init(&c->job, on_job);
    puff_h1_input_init(&c->in, server->alloc, max_kept(&server->opts));
    enter(c, PUFF__FRESH);
    int rc = puff_stream_open(&c->stream, server->loop, fd, &stream_cbs, c);
    if (rc) {
        puff_free(server->alloc, c);
        return rc;
    }
    puff_queue_push(&server->conns, &c->node);
    puff_stream_set_water(c->stream, PUFF__LOW_WATER, PUFF__HIGH_WATER);
    puff__server_conn_opened(server);
    rc = puff_stream_read_start(c->stream);
    if (rc) cut_off(c, false);
    return rc;
}

void puff__conn_stop(puff_http_conn *c, bool now) {
    if (now)
        cut_off(c, true);
    else if (c->phase == PUFF__IDLE)
        close_stream(c);
    else if (c->phase == PUFF__FRESH)
        c->deadline_ns = deadline(c, PUFF__FRESH_MS);
}

/* ---- deadlines ----------------------------------------------------------------------------- */

/* True when the window has passed and count has not grown enough in it. */
static bool too_slow(puff__window *w, uint64_t count, uint64_t now_ns, uint32_t timeout_ms,
                     uint32_t min_rate) {
    if (w->since_ns == 0) {
        *w = (puff__window){now_ns, count};
        return false;
    }
    if (timeout_ms == 0 || now_ns - w->since_ns < (uint64_t)timeout_ms * 1000000) return false;
    uint64_t need = (uint64_t)min_rate * timeout_ms / 1000;
    bool slow = count - w->from < (need ? need : 1);
    *w = (puff__window){now_ns, count};
    return slow;
}

/* Bytes that the peer's kernel has acknowledged: what ours has taken says little, its buffer is
 * large. */
static uint64_t n_acked(const puff_http_conn *c, size_t queued) {
    int unacked = 0;
#if defined(SIOCOUTQ)
    if (ioctl(puff_stream_fd(c->stream), SIOCOUTQ, &unacked) != 0) unacked = 0;
#endif
    uint64_t sent = c->n_tx - queued;
    return sent > (uint64_t)unacked ? sent - (uint64_t)unacked : 0;
}

static bool reader_too_slow(puff_http_conn *c, uint64_t now_ns) {
    const puff_http_options *o = &c->server->opts;
    size_t queued = puff_stream_queued(c->stream);
    if (queued == 0) {
        c->tx_window.since_ns = 0;
        return false;
    }
    return too_slow(&c->tx_window, n_acked(c, queued), now_ns, o->write_timeout_ms, o->min_rate);
}

/* Only while it is the peer's turn: not while we do not read, and not while it waits for "100
 * Continue". */
static bool body_too_slow(puff_http_conn *c, uint64_t now_ns) {
    const puff_http_options *o = &c->server->opts;
    const bool expected = (c->phase == PUFF__REQUEST || c->phase == PUFF__DRAIN) &&
                          !puff_h1_input_body_arrived(&c->in) && !c->want_continue &&
                          puff_h1_input_unread(&c->in) < PUFF__HIGH_WATER;
    if (!expected) {
        c->rx_window.since_ns = 0;
        return false;
    }
    return too_slow(&c->rx_window, c->n_rx, now_ns, o->body_timeout_ms, o->min_rate);
}

static void on_deadline(puff_http_conn *c) {
    switch ((enum puff__phase)c->phase) {
    case PUFF__IN_HEAD:
        refuse(c, 408);
        drop_parser(c);
        break;
    case PUFF__LINGER: cut_off(c, false); break;
    default: close_stream(c); /* FRESH, IDLE: it has asked for nothing, it hears nothing */
    }
}

void puff__conn_sweep(puff_http_conn *c, uint64_t now_ns) {
    if (puff_stream_fd(c->stream) < 0) return; /* closed already, on_close is on its way */
    if (reader_too_slow(c, now_ns))
        cut_off(c, true);
    else if (c->phase == PUFF__LINGER && puff_stream_queued(c->stream))
        enter(c, PUFF__LINGER);
    else if (now_ns >= c->deadline_ns)
        on_deadline(c);
    else if (!body_too_slow(c, now_ns))
        return;
    else if (c->phase == PUFF__DRAIN)
        begin_close(c);
    else
        refuse_request(c, 408);
}

/* ---- for the host -------------------------------------------------------------------------- */

void puff_http_request_proceed(puff_http_request *pub) {
    const puff__request *req = puff__request_of(pub);
    if (req->ended || !req->complete || pub->conn->running) return;
    puff_defer_cancel(&pub->conn->job);
    run(pub->conn);
}

void *puff_http_conn_data(const puff_http_conn *c) { return c->data; }
void puff_http_conn_set_data(puff_http_conn *c, void *data) { c->data = data; }
puff_http_server *puff_http_conn_server(const puff_http_conn *c) { return c->server; }
const struct sockaddr *puff_http_conn_peer(const puff_http_conn *c) { return &c->peer.any; }

int puff_http_conn_local(const puff_http_conn *c, struct sockaddr_storage *out) {
    socklen_t len = sizeof *out;
    memset(out, 0, sizeof *out);
    if (!c->stream) return UV_ENOTCONN;
    return getsockname(puff_stream_fd(c->stream), (struct sockaddr *)out, &len) == 0
               ? 0
               : uv_translate_sys_error(errno);
}
