/* access_log.c - see access_log.h.
 *
 * What the log's reader does not take stays in the buffer; when that is full, lines are dropped: a
 * slow reader must never hold up requests for longer than one write.
 */
#include "access_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_MAX = 1 << 20, /* a second of lines at 8,000 requests a second */
    BUFFER_KEEP = 64 * 1024,
    STAMP_MAX = 32
};

struct puff_access_log {
    puff_loop *loop; /* borrowed; outlives us */
    puff_defer flush;
    puff_buf buf;
    int fd;
    time_t stamp_s;
    char stamp[STAMP_MAX];
};

static void flush(puff_access_log *log) {
    while (log->buf.len > 0) {
        ssize_t n = write(log->fd, log->buf.data, log->buf.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return; /* the next turn tries again */
        if (n < 0) n = (ssize_t)log->buf.len; /* nobody reads the log: that is no reason to stop */
        puff_buf_consume(&log->buf, (size_t)n);
    }
    puff_buf_reset(&log->buf, BUFFER_KEEP);
}

static void on_flush(puff_defer *d) { flush(PUFF_CONTAINER_OF(d, puff_access_log, flush)); }

puff_access_log *puff_access_log_new(puff_loop *loop, int fd) {
    puff_access_log *log = puff_calloc(puff_loop_alloc(loop), 1, sizeof(*log));
    if (!log) return NULL;
    log->loop = loop;
    log->fd = fd;
    puff_defer_init(&log->flush, on_flush);
    puff_buf_init(&log->buf, puff_loop_alloc(loop), BUFFER_MAX);
    return log;
}

void puff_access_log_free(puff_access_log *log) {
    if (!log) return;
    puff_defer_cancel(&log->flush);
    flush(log);
    puff_buf_deinit(&log->buf);
    puff_free(puff_loop_alloc(log->loop), log);
}

static const char *stamp(puff_access_log *log) {
    time_t now = time(NULL);
    if (now != log->stamp_s) {
        struct tm tm;
        log->stamp_s = now;
        strftime(log->stamp, sizeof(log->stamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    }
    return log->stamp;
}

static int add_peer(puff_buf *b, const puff_http_conn *conn) {
    char text[128];
    uint16_t port;
    const struct sockaddr *peer = puff_http_conn_peer(conn);
    if (!peer || puff_http_addr_text(peer, text, sizeof(text), &port) <= 0)
        return puff_buf_append(b, "unix", 4);
    return puff_buf_printf(b, "%s:%u", text, port);
}

/* What could end the quotes, or speak to a terminal, goes out as \xHH. */
static int add_quoted(puff_buf *b, puff_str s) {
    size_t done = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c > 0x20 && c < 0x7f && c != '"' && c != '\\') continue;
        if (puff_buf_append(b, s.ptr + done, i - done) < 0 || puff_buf_printf(b, "\\x%02x", c) < 0)
            return PUFF_ENOMEM;
        done = i + 1;
    }
    return puff_buf_append(b, s.ptr + done, s.len - done);
}

static int add_request(puff_buf *b, const puff_http_request *req) {
    if (!req) return puff_buf_append(b, "\"-\"", 3);
    int rc = puff_buf_append(b, "\"", 1);
    if (rc == 0) rc = puff_buf_append(b, req->method.ptr, req->method.len);
    if (rc == 0) rc = puff_buf_append(b, " ", 1);
    if (rc == 0) rc = add_quoted(b, req->target);
    if (rc == 0) rc = puff_buf_printf(b, " HTTP/1.%d\"", req->version % 10);
    return rc;
}

static int add_line(puff_access_log *log, const puff_http_access *a) {
    puff_buf *b = &log->buf;
    int rc = add_peer(b, a->conn);
    if (rc == 0) rc = puff_buf_printf(b, " [%s] ", stamp(log));
    if (rc == 0) rc = add_request(b, a->req);
    if (rc == 0)
        rc = puff_buf_printf(b, " %d %" PRIu64 "%s %.2fms\n", a->status, a->body_bytes_out,
                             a->complete ? "" : "-", (double)a->duration_ns / 1e6);
    return rc;
}

void puff_access_log_add(puff_access_log *log, const puff_http_access *a) {
    size_t before = log->buf.len;
    if (add_line(log, a) < 0) log->buf.len = before; /* full: this line is lost */
    puff_loop_defer(log->loop, &log->flush);
}
