/* conn.c - one connection to a server.
 *
 *   CONNECTING --socket--> GREETING --last reply--> READY --fail--> CLOSING --closed--> freed
 *        |                    |                                        ^
 *        +--------------------+---- error, timeout, refusal -----------+
 *
 * in_flight is the truth about what the peer owes: one reply for each command in it, in that order.
 * A command is taken out only by its reply or by the end of the connection, never because nobody
 * waits for it. If a reply comes that nobody is owed, or bytes that are no reply, the connection
 * ends: being out of step by one would hand one caller's data to another (CVE-2023-28858).
 */
#include "conn.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redis/pool.h"
#include "redis/reply.h"

enum {
    /* hiredis moves what is left in its buffer for each KiB that it has read: a small buffer makes
     * that cheap, a piece of this size makes the calls few. */
    FEED_PIECE = 8192,
    KEEP_OUT = 65536, /* of an output buffer when it is empty */
    /* A dead peer behind a silent network is noticed after 60 + 3 * 10 s also where no command has
     * a deadline (BLPOP key 0). */
    KEEPALIVE_IDLE_S = 60,
    KEEPALIVE_INTERVAL_S = 10,
    KEEPALIVE_PROBES = 3
};

static puff_redis_command *command_of(puff_queue *node) {
    return PUFF_CONTAINER_OF(node, puff_redis_command, node);
}

static puff_redis_command *head_of(puff__redis_conn *conn) {
    return puff_queue_empty(&conn->in_flight) ? NULL : command_of(conn->in_flight.next);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void conn_free(puff__redis_conn *conn) {
    struct puff_redis_pool *pool = conn->pool;
    assert(puff_queue_empty(&conn->in_flight));
    puff_queue_remove(&conn->node);
    puff_timer_stop(&conn->timer);
    puff_defer_cancel(&conn->flush);
    puff__redis_reader_deinit(&conn->reader);
    puff_buf_deinit(&conn->out);
    puff_buf_deinit(&conn->sending);
    puff_free(pool->alloc, conn);
    puff__redis_pool_closed(pool);
}

/* What the kernel has taken, as a position among all bytes encoded. */
static uint64_t written_pos(const puff__redis_conn *conn) {
    uint64_t handed = conn->out_base + conn->sending.len;
    return conn->stream ? handed - puff_stream_queued(conn->stream) : handed;
}

static const char *bytes_at(const puff__redis_conn *conn, uint64_t pos) {
    uint64_t at = pos - conn->out_base;
    return at < conn->sending.len ? conn->sending.data + at
                                  : conn->out.data + (at - conn->sending.len);
}

/* Gives c its bytes back, if the peer cannot have seen all of them: it may go elsewhere then. */
static bool reclaim(puff__redis_conn *conn, puff_redis_command *c, uint64_t written) {
    if (c->internal || c->answered || c->due || c->pos + c->len <= written) return false;
    c->bytes = puff_malloc(conn->pool->alloc, c->len);
    if (!c->bytes) return false;
    memcpy(c->bytes, bytes_at(conn, c->pos), c->len);
    c->where = PUFF__REDIS_WAITING;
    return true;
}

static void take_commands(puff__redis_conn *conn, uint64_t written, puff_queue *orphans) {
    puff_queue *node;
    while ((node = puff_queue_pop(&conn->in_flight)) != NULL) {
        puff_redis_command *c = command_of(node);
        c->conn = NULL;
        if (!reclaim(conn, c, written)) {
            c->where = PUFF__REDIS_NOWHERE;
            c->may_have_run = true;
        }
        puff_queue_push(orphans, node);
    }
    conn->pool->n_in_flight -= conn->n_in_flight;
    conn->n_in_flight = 0;
}

/* Frees itself: at once where nothing is open, else when that has closed. */
static void close_transport(puff__redis_conn *conn) {
    puff_timer_stop(&conn->timer);
    puff_defer_cancel(&conn->flush);
    puff__redis_reader_drop(&conn->reader);
    if (conn->stream)
        puff_stream_abort(conn->stream, false);
    else if (conn->connecting)
        puff_connect_cancel(conn->connecting);
}

static void fail_written(puff__redis_conn *conn, uint64_t written, const puff_err *err) {
    if (conn->state == PUFF__REDIS_CLOSING) return;
    bool connected = conn->state == PUFF__REDIS_READY;
    puff_err why = *err; /* err may live in what is taken down here */
    puff_queue orphans;
    puff_queue_init(&orphans);
    conn->state = PUFF__REDIS_CLOSING;
    take_commands(conn, written, &orphans);
    close_transport(conn);
    puff__redis_pool_lost(conn->pool, conn, connected, &orphans, &why);
}

void puff__redis_conn_fail(puff__redis_conn *conn, const puff_err *err) {
    fail_written(conn, written_pos(conn), err);
}

static void fail(puff__redis_conn *conn, int code, const char *why) {
    puff_err err;
    puff_err_set(&err, code, PUFF_DOMAIN_REDIS, "redis at %s: %s", conn->pool->address, why);
    puff__redis_conn_fail(conn, &err);
}

/* ---- output -------------------------------------------------------------------------------- */

static void release_nothing(void *arg) { (void)arg; }

static void write_failed(puff__redis_conn *conn, uint64_t written, int status) {
    puff_err err;
    puff_err_set(&err, PUFF_ECLOSED, PUFF_DOMAIN_REDIS, "redis at %s: cannot write: %s",
                 conn->pool->address, puff_err_text(status));
    fail_written(conn, written, &err);
}

/* Hands out to the stream, if it has taken all that it got before. */
static void send_out(puff__redis_conn *conn) {
    if (conn->out.len == 0 || puff_stream_queued(conn->stream) > 0) return;
    puff_buf sent = conn->sending;
    conn->out_base += sent.len;
    puff_buf_reset(&sent, KEEP_OUT);
    conn->sending = conn->out;
    conn->out = sent;
    int rc = puff_stream_write_ref(conn->stream, conn->sending.data, conn->sending.len,
                                   release_nothing, NULL);
    if (rc) {
        write_failed(conn, conn->out_base, rc); /* nothing of it was handed over */
        return;
    }
    conn->flushing = true;
    puff_stream_flush(conn->stream);
    conn->flushing = false;
}

static void on_flush(puff_defer *d) {
    puff__redis_conn *conn = PUFF_CONTAINER_OF(d, puff__redis_conn, flush);
    send_out(conn);
    /* Callbacks have been told of a failure, and the loop was about to sleep. */
    if (conn->state == PUFF__REDIS_CLOSING) puff_loop_wake(conn->loop);
}

static void on_drain(puff_stream *s) {
    puff__redis_conn *conn = puff_stream_data(s);
    if (conn->out.len > 0) puff_loop_defer(conn->loop, &conn->flush);
}

/* While we flush, the stream still knows what it has not sent. Where libuv was sending it does not:
 * all of it may have been read then. */
static void on_write_error(puff_stream *s, int status) {
    puff__redis_conn *conn = puff_stream_data(s);
    uint64_t handed = conn->out_base + conn->sending.len;
    write_failed(conn, conn->flushing ? written_pos(conn) : handed, status);
}

static void take_slot(puff__redis_conn *conn, puff_redis_command *c, size_t len_before) {
    if (conn->n_in_flight == 0) conn->progress_ns = puff_loop_now_ns(conn->loop);
    c->conn = conn;
    c->where = PUFF__REDIS_IN_FLIGHT;
    c->len = conn->out.len - len_before;
    c->pos = conn->out_base + conn->sending.len + len_before;
    puff_queue_push(&conn->in_flight, &c->node);
    conn->n_in_flight++;
    conn->pool->n_in_flight++;
    puff_loop_defer(conn->loop, &conn->flush);
}

int puff__redis_conn_send(puff__redis_conn *conn, puff_redis_command *c, const puff_str *argv,
                          size_t argc) {
    size_t before = conn->out.len;
    int rc = puff__redis_encode(&conn->out, argv, argc);
    if (rc == 0) take_slot(conn, c, before);
    return rc;
}

int puff__redis_conn_send_waiting(puff__redis_conn *conn, puff_redis_command *c) {
    size_t before = conn->out.len;
    int rc = puff_buf_append(&conn->out, c->bytes, c->len);
    if (rc) return rc;
    take_slot(conn, c, before);
    puff_free(conn->pool->alloc, c->bytes);
    c->bytes = NULL;
    return 0;
}

/* ---- input --------------------------------------------------------------------------------- */

static void prepare_reader(puff__redis_conn *conn, const puff_redis_command *head) {
    struct puff_redis_pool *pool = conn->pool;
    conn->reader.wanted = head && !head->internal && !head->answered && !head->due;
    conn->reader.ctx = head && pool->opts.builder == &puff__redis_reply_builder
                           ? (void *)pool->alloc
                       : head ? head->arg
                              : NULL;
}

static puff_redis_command *take_head(puff__redis_conn *conn) {
    puff_redis_command *c = command_of(puff_queue_pop(&conn->in_flight));
    conn->n_in_flight--;
    conn->pool->n_in_flight--;
    conn->pool->stats.n_replies++;
    c->where = PUFF__REDIS_NOWHERE;
    c->conn = NULL;
    return c;
}

/* One reply for the oldest command. A server also says an error of its own accord before it hangs
 * up ("max number of clients reached"): that is told as the reason. */
static void on_reply(puff__redis_conn *conn, puff__redis_event event) {
    void *reply = conn->reader.reply;
    conn->reader.reply = NULL;
    if (!head_of(conn)) {
        if (reply) conn->reader.builder->discard(reply);
        fail(conn, PUFF_EPROTO,
             event == PUFF__REDIS_FAULT ? conn->reader.err.msg : "a reply to no command");
        return;
    }
    puff_redis_command *c = take_head(conn);
    if (event == PUFF__REDIS_FAULT) {
        puff_err err = conn->reader.err;
        puff__redis_command_finish(c, PUFF_EREPLY, NULL, &err);
    } else {
        puff__redis_command_finish(c, 0, reply, NULL);
    }
}

/* All replies that are complete. False: the connection is no more. */
static bool read_replies(puff__redis_conn *conn) {
    for (;;) {
        prepare_reader(conn, head_of(conn));
        puff__redis_event event = puff__redis_reader_next(&conn->reader);
        if (event == PUFF__REDIS_MORE) return true;
        if (event == PUFF__REDIS_DEAD)
            fail(conn, conn->reader.err.code, conn->reader.err.msg);
        else if (event != PUFF__REDIS_PUSH)
            on_reply(conn, event);
        if (conn->state == PUFF__REDIS_CLOSING) return false;
    }
}

static bool read_piece(puff__redis_conn *conn, const char *bytes, size_t len) {
    if (puff__redis_reader_feed(&conn->reader, bytes, len)) return read_replies(conn);
    fail(conn, conn->reader.err.code, conn->reader.err.msg);
    return false;
}

static void on_bytes(puff__redis_conn *conn, const char *bytes, size_t n) {
    conn->progress_ns = puff_loop_now_ns(conn->loop);
    for (size_t at = 0; at < n; at += FEED_PIECE) {
        size_t len = n - at < FEED_PIECE ? n - at : FEED_PIECE;
        if (!read_piece(conn, bytes + at, len)) return;
    }
    if (conn->state == PUFF__REDIS_READY) puff__redis_pool_room(conn->pool, conn);
}

static void on_read(puff_stream *s, char *buf, ssize_t n) {
    puff__redis_conn *conn = puff_stream_data(s);
    if (conn->state == PUFF__REDIS_CLOSING) return;
    if (n > 0) {
        on_bytes(conn, buf, (size_t)n);
    } else if (n < 0) {
        char why[128];
        snprintf(why, sizeof why, "connection lost: %s", puff_err_text((int)n));
        fail(conn, PUFF_ECLOSED, why);
    }
}

static void on_close(puff_stream *s) {
    puff__redis_conn *conn = puff_stream_data(s);
    assert(conn->state == PUFF__REDIS_CLOSING);
    conn->stream = NULL;
    conn_free(conn);
}

static const puff_stream_cbs stream_cbs = {.on_read = on_read,
                                           .on_drain = on_drain,
                                           .on_write_error = on_write_error,
                                           .on_close = on_close};

/* ---- greeting ------------------------------------------------------------------------------ */

static bool begins(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void greeted(puff__redis_conn *conn) {
    if (--conn->n_greetings > 0) return;
    conn->state = PUFF__REDIS_READY;
    puff_timer_stop(&conn->timer);
    puff__redis_pool_ready(conn->pool, conn);
}

static void refused(puff__redis_conn *conn, int code, const char *what, const puff_err *err) {
    char why[sizeof err->msg];
    snprintf(why, sizeof why, "%s: %.300s", what, err->msg);
    fail(conn, code, why);
}

static void on_auth(void *arg, int status, void *reply, const puff_err *err) {
    if (status == PUFF_EREPLY)
        refused(arg, PUFF_EAUTH, "the server refuses the password", err);
    else if (status == 0)
        greeted(arg);
}

static void on_hello(void *arg, int status, void *reply, const puff_err *err) {
    bool credentials =
        status == PUFF_EREPLY && (begins(err->msg, "WRONGPASS") || begins(err->msg, "NOAUTH"));
    if (credentials)
        on_auth(arg, status, reply, err);
    else if (status == PUFF_EREPLY)
        refused(arg, PUFF_ECONNECT, "the server does not speak RESP3", err);
    else if (status == 0)
        greeted(arg);
}

static void on_select(void *arg, int status, void *reply, const puff_err *err) {
    if (status == PUFF_EREPLY)
        refused(arg, PUFF_ECONNECT, "cannot select the database", err);
    else if (status == 0)
        greeted(arg);
}

/* CLIENT SETNAME or PING: its own failure does not matter (an old server, an ACL that forbids it),
 * but it is here that a server without a word about passwords in its URL says that it wants one,
 * and that one that is full or protected says so before it hangs up. */
static void on_hail(void *arg, int status, void *reply, const puff_err *err) {
    if (status == PUFF_EREPLY && begins(err->msg, "NOAUTH"))
        refused(arg, PUFF_EAUTH, "the server wants a password", err);
    else if (status == PUFF_EREPLY &&
             (begins(err->msg, "DENIED") || begins(err->msg, "ERR max number")))
        refused(arg, PUFF_ECONNECT, "the server refuses connections", err);
    else if (status == 0 || status == PUFF_EREPLY)
        greeted(arg);
}

static int greet(puff__redis_conn *conn, puff_redis_command_cb cb, const puff_str *argv,
                 size_t argc) {
    puff_redis_command *c = puff__redis_command_new(conn->pool);
    if (!c) return PUFF_ENOMEM;
    c->internal = true;
    c->cb = cb;
    c->arg = conn;
    int rc = puff__redis_conn_send(conn, c, argv, argc);
    if (rc)
        puff__redis_command_free(c);
    else
        conn->n_greetings++;
    return rc;
}

static puff_str str_of(const char *s) { return (puff_str){s, strlen(s)}; }

static int greet_hello(puff__redis_conn *conn) {
    const puff__redis_url *url = &conn->pool->url;
    puff_str argv[] = {PUFF_STR("HELLO"), PUFF_STR("3"), PUFF_STR("AUTH"), {0}, {0}};
    if (!url->password) return greet(conn, on_hello, argv, 2);
    argv[3] = url->user ? str_of(url->user) : PUFF_STR("default");
    argv[4] = str_of(url->password);
    return greet(conn, on_hello, argv, 5);
}

static int greet_auth(puff__redis_conn *conn) {
    const puff__redis_url *url = &conn->pool->url;
    if (!url->password) return 0;
    puff_str argv[] = {PUFF_STR("AUTH"), str_of(url->user ? url->user : url->password),
                       str_of(url->password)};
    return greet(conn, on_auth, argv, url->user ? 3 : 2);
}

static int greet_select(puff__redis_conn *conn) {
    if (conn->pool->url.db == 0) return 0;
    char db[16];
    snprintf(db, sizeof db, "%u", conn->pool->url.db);
    puff_str argv[] = {PUFF_STR("SELECT"), str_of(db)};
    return greet(conn, on_select, argv, 2);
}

static int greet_hail(puff__redis_conn *conn) {
    const char *name = conn->pool->client_name;
    puff_str argv[] = {PUFF_STR("CLIENT"), PUFF_STR("SETNAME"), str_of(name)},
             ping = PUFF_STR("PING");
    return *name ? greet(conn, on_hail, argv, 3) : greet(conn, on_hail, &ping, 1);
}

static void begin_greeting(puff__redis_conn *conn) {
    conn->state = PUFF__REDIS_GREETING;
    int rc = conn->pool->opts.resp3 ? greet_hello(conn) : greet_auth(conn);
    if (rc == 0) rc = greet_select(conn);
    if (rc == 0) rc = greet_hail(conn);
    if (rc) fail(conn, rc, puff_err_text(rc));
}

/* ---- connecting ---------------------------------------------------------------------------- */

static void set_keepalive(int fd) {
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
#ifdef TCP_KEEPIDLE
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
#endif
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static void on_socket(puff__redis_conn *conn, int fd) {
    if (!conn->pool->url.unix_path) set_keepalive(fd);
    int rc = puff_stream_open(&conn->stream, conn->loop, fd, &stream_cbs, conn);
    if (rc == 0) {
        puff_stream_set_water(conn->stream, 0, 0); /* on_drain: the kernel has it all */
        rc = puff_stream_read_start(conn->stream);
    }
    if (rc)
        fail(conn, PUFF_ECONNECT, puff_err_text(rc));
    else
        begin_greeting(conn);
}

static void on_connected(void *arg, int fd, const puff_err *err) {
    puff__redis_conn *conn = arg;
    conn->connecting = NULL;
    if (conn->state == PUFF__REDIS_CLOSING) {
        if (fd >= 0) close(fd);
        conn_free(conn);
        return;
    }
    if (fd >= 0) {
        on_socket(conn, fd);
    } else {
        puff_err why;
        puff_err_set(&why, PUFF_ECONNECT, PUFF_DOMAIN_REDIS, "redis: %.400s", err->msg);
        puff__redis_conn_fail(conn, &why);
    }
    if (conn->state == PUFF__REDIS_CLOSING && !conn->stream) conn_free(conn);
}

void puff__redis_conn_check_stuck(puff__redis_conn *conn) {
    uint64_t timeout_ms = conn->pool->opts.timeout_ms;
    if (timeout_ms == PUFF_REDIS_NO_TIMEOUT || conn->n_in_flight == 0) return;
    uint64_t end_ns = conn->progress_ns + timeout_ms * 1000000;
    if (puff_loop_now_ns(conn->loop) < end_ns && puff_timer_start_at(&conn->timer, end_ns) == 0)
        return;
    char why[96];
    snprintf(why, sizeof why, "no answer of any sort for %llu ms", (unsigned long long)timeout_ms);
    fail(conn, PUFF_ECLOSED, why);
}

static void on_timer(puff_timer *t) {
    puff__redis_conn *conn = PUFF_CONTAINER_OF(t, puff__redis_conn, timer);
    if (conn->state == PUFF__REDIS_READY)
        puff__redis_conn_check_stuck(conn);
    else
        fail(conn, PUFF_ECONNECT, "no connection in time");
}

static int start_connecting(puff__redis_conn *conn) {
    const puff__redis_url *url = &conn->pool->url;
    uint64_t timeout_ms = conn->pool->opts.connect_timeout_ms;
    int rc = puff_timer_start(&conn->timer, timeout_ms);
    if (rc) return rc;
    if (url->unix_path)
        return puff_pipe_connect(&conn->connecting, conn->loop, url->unix_path, timeout_ms,
                                 on_connected, conn);
    return puff_tcp_connect(&conn->connecting, conn->loop, url->host, url->port, timeout_ms,
                            on_connected, conn);
}

int puff__redis_conn_open(puff__redis_conn **out, struct puff_redis_pool *pool, bool exclusive) {
    puff__redis_conn *conn = puff_calloc(pool->alloc, 1, sizeof *conn);
    if (!conn) return PUFF_ENOMEM;
    conn->pool = pool;
    conn->loop = pool->loop;
    conn->exclusive = exclusive;
    puff_queue_init(&conn->node);
    puff_queue_init(&conn->in_flight);
    puff_buf_init(&conn->out, pool->alloc, PUFF__REDIS_MAX_OUT);
    puff_buf_init(&conn->sending, pool->alloc, PUFF__REDIS_MAX_OUT);
    puff_timer_init(&conn->timer, pool->loop, on_timer);
    puff_defer_init(&conn->flush, on_flush);
    int rc = puff__redis_reader_init(&conn->reader, pool->opts.builder, pool->opts.max_reply_bytes);
    if (rc == 0) rc = start_connecting(conn);
    if (rc) {
        puff_timer_stop(&conn->timer);
        puff__redis_reader_deinit(&conn->reader);
        puff_free(pool->alloc, conn);
        return rc;
    }
    *out = conn;
    return 0;
}

void puff__redis_conn_abandon(puff__redis_conn *conn, puff_redis_command *c) {
    if (c == head_of(conn) && conn->reader.in_reply) puff__redis_reader_drop(&conn->reader);
}
