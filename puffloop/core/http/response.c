/* response.c - what the host answers, turned into bytes on the connection's stream.
 *
 *   start --> head held --first body--> head and body queued --...--> complete
 *
 * Framing is decided at the first body, when it is known whether that is all:
 *   HEAD, 204, 205, 304       no bytes leave, whatever the host sends
 *   content-length given      bytes are counted against it
 *   first body is the last    content-length is added
 *   HTTP/1.1                  chunked
 *   HTTP/1.0                  ends with the connection
 */
#include "http/http.h"

#include <string.h>
#include <uv.h>

enum { MAX_FILE = 1 << 20 }; /* of one sendfile(): the others of the loop want their turn */

/* A function that has queued half of something and cannot go on: the stream is useless now. */
static int give_up(puff__request *req, int rc) {
    puff_http_conn *c = req->pub.conn;
    c->give_up = true;
    puff__conn_wake(c);
    return rc;
}

/* ---- head ---------------------------------------------------------------------------------- */

static int take_head(puff__request *req) {
    req->head = puff__server_take_head(req->server);
    return req->head ? 0 : PUFF_ENOMEM;
}

static void drop_head(puff__request *req) {
    puff__server_give_head(req->server, req->head);
    req->head = NULL;
}

static bool bodyless(const puff__request *req, int status) {
    return req->pub.method_id == PUFF_HTTP_METHOD_HEAD || status == 204 || status == 205 ||
           status == 304;
}

int puff_http_response_start_as(puff_http_request *pub, int status, puff_str reason,
                                const puff_http_field *fields, size_t n_fields) {
    puff__request *req = puff__request_of(pub);
    if (req->ended) return PUFF_ECLOSED;
    if (req->started) return PUFF_HTTP_ESTATE;
    if (status < 200 || status > 599) return PUFF_HTTP_ESTATUS;
    int rc = take_head(req);
    if (rc) return rc;
    rc = puff_h1_write_fields(&req->head->buf, status, reason, fields, n_fields, &req->said);
    if (rc) {
        drop_head(req);
        return rc;
    }
    req->started = true;
    req->status = status;
    req->no_body = bodyless(req, status);
    return 0;
}

int puff_http_response_start(puff_http_request *req, int status, const puff_http_field *fields,
                             size_t n_fields) {
    return puff_http_response_start_as(req, status, (puff_str){0}, fields, n_fields);
}

/* Can the connection go on after this response? What is not yet read of the request has to be
 * small, and a client that waits for "100 Continue" could take up its body or not: nobody knows
 * what follows. */
static bool stays_open(const puff__request *req) {
    const puff_http_conn *c = req->pub.conn;
    const puff_http_server *s = req->server;
    if (!req->pub.keep_alive || req->said.close || s->stopping) return false;
    if (c->want_continue && puff_h1_input_unread(&c->in) == 0) return false;
    return c->in.framing != PUFF_H1_LENGTH || c->in.left <= s->opts.max_drain + c->in.n_raw;
}

static enum puff_h1_out choose_framing(const puff__request *req, bool more) {
    if (req->no_body) return PUFF_H1_OUT_NONE;
    if (req->said.has_length || !more) return PUFF_H1_OUT_LENGTH;
    return req->pub.version == 11 ? PUFF_H1_OUT_CHUNKED : PUFF_H1_OUT_CLOSE;
}

/* What content-length should say, if anything. len: of a first body that is the last. */
static void choose_length(const puff__request *req, bool more, size_t len, puff_h1_end *end) {
    const int status = req->status;
    end->length = req->said.has_length ? req->said.length : len;
    if (status == 204) return; /* RFC 9110 8.6: must not */
    if (status == 205) end->length = 0;
    if (req->said.has_length || status == 205)
        end->say_length = true;
    else if (req->no_body)
        end->say_length = status != 304 && !more && len > 0; /* HEAD of a real body */
    else
        end->say_length = !more;
}

static puff_str connection_value(const puff__request *req) {
    if (req->close) return PUFF_STR("close");
    return req->pub.version == 10 ? PUFF_STR("keep-alive") : (puff_str){NULL, 0};
}

/* The head leaves; len and more are those of the first body. */
static int send_head(puff__request *req, size_t len, bool more) {
    puff_http_server *s = req->server;
    puff_h1_end end = {.say_chunked = false};
    req->framing = choose_framing(req, more);
    req->close = req->framing == PUFF_H1_OUT_CLOSE || !stays_open(req);
    choose_length(req, more, len, &end);
    end.say_chunked = req->framing == PUFF_H1_OUT_CHUNKED;
    end.connection = connection_value(req);
    if (s->opts.date_header && !req->said.date) end.date = puff__server_date_line(s);
    if (!req->said.server) end.server = (puff_str){s->server_line, s->server_line_len};
    puff_h1_write_end(&req->head->buf, &end);
    int rc = puff__conn_write(req->pub.conn, req->head->buf.data, req->head->buf.len);
    drop_head(req);
    return rc ? give_up(req, rc) : 0;
}

/* ---- body ---------------------------------------------------------------------------------- */

static int send_bytes(puff__request *req, const void *data, size_t len, void (*release)(void *arg),
                      void *arg) {
    puff_http_conn *c = req->pub.conn;
    if (!release) return puff__conn_write(c, data, len);
    int rc = puff_stream_write_ref(c->stream, data, len, release, arg);
    if (rc == 0) c->n_tx += len;
    return rc == 0 || rc == PUFF_ENOMEM ? rc : PUFF_ECLOSED;
}

/* size CRLF data CRLF [ "0" CRLF CRLF ] */
static int send_chunk(puff__request *req, const void *data, size_t len, bool more,
                      void (*release)(void *arg), void *arg) {
    puff_http_conn *c = req->pub.conn;
    static const char end[] = "\r\n0\r\n\r\n";
    char head[18];
    int rc = 0;
    if (len > 0) {
        rc = puff__conn_write(c, head, puff_h1_chunk_head(head, len));
        if (rc == 0) rc = send_bytes(req, data, len, release, arg);
        if (rc) return rc;
        /* The bytes are given away: from here on a failure is ours to end, not the caller's to
         * undo. */
        if (puff__conn_write(c, end, more ? 2 : 7) != 0) give_up(req, 0);
        return 0;
    }
    if (!more) rc = puff__conn_write(c, end + 2, 5);
    if (rc == 0 && release) release(arg);
    return rc;
}

/* Bytes that are not sent. */
static int swallow(void (*release)(void *arg), void *arg) {
    if (release) release(arg);
    return 0;
}

static int send_body(puff__request *req, const void *data, size_t len, bool more,
                     void (*release)(void *arg), void *arg) {
    if (req->framing == PUFF_H1_OUT_CHUNKED) return send_chunk(req, data, len, more, release, arg);
    if (req->framing == PUFF_H1_OUT_NONE || len == 0) return swallow(release, arg);
    return send_bytes(req, data, len, release, arg);
}

static void end_response(puff__request *req) {
    req->complete = true;
    req->cut =
        req->framing == PUFF_H1_OUT_LENGTH && req->said.has_length && req->n_out < req->said.length;
    puff__conn_wake(req->pub.conn);
}

static int check_body(const puff__request *req, size_t len) {
    if (req->ended) return PUFF_ECLOSED;
    if (!req->started || req->complete) return PUFF_HTTP_ESTATE;
    if (req->said.has_length && !req->no_body && len > req->said.length - req->n_out)
        return PUFF_HTTP_ELENGTH;
    return 0;
}

int puff_http_response_body(puff_http_request *pub, const void *data, size_t len, bool more,
                            void (*release)(void *arg), void *arg) {
    puff__request *req = puff__request_of(pub);
    int rc = check_body(req, len);
    if (rc) return rc;
    if (req->head) {
        if (len == 0 && more)
            return swallow(release, arg); /* nothing to send yet: the head waits too */
        rc = send_head(req, len, more);
        if (rc) return rc;
    }
    rc = send_body(req, data, len, more, release, arg);
    if (rc) return give_up(req, rc);
    req->n_out += len;
    if (!more) end_response(req);
    return 0;
}

/* ---- files --------------------------------------------------------------------------------- */

/* The head leaves, with content-length if it has none. */
static int begin_file(puff__request *req, uint64_t len) {
    if (!req->said.has_length) {
        req->said.has_length = true;
        req->said.length = len;
    }
    return send_head(req, 0, true);
}

static ssize_t send_file(puff__request *req, int fd, uint64_t offset, uint64_t len) {
    puff_http_conn *c = req->pub.conn;
    if (req->framing == PUFF_H1_OUT_NONE || len == 0) return (ssize_t)len;
    ssize_t n = puff_stream_sendfile(c->stream, fd, offset, len < MAX_FILE ? len : MAX_FILE);
    if (n > 0) c->n_tx += (uint64_t)n;
    return n == UV_EPIPE || n == UV_ECONNRESET ? PUFF_ECLOSED : n;
}

ssize_t puff_http_response_file(puff_http_request *pub, int fd, uint64_t offset, uint64_t len) {
    puff__request *req = puff__request_of(pub);
    int rc = check_body(req, 0);
    if (rc == 0 && req->head) rc = begin_file(req, len);
    if (rc) return rc;
    if (!req->said.has_length && req->framing != PUFF_H1_OUT_NONE) return PUFF_HTTP_ESTATE;
    uint64_t left = req->said.length - req->n_out;
    if (len > left) len = left;
    ssize_t n = send_file(req, fd, offset, len);
    if (n < 0) return n;
    req->n_out += (uint64_t)n;
    if (n == 0 || (uint64_t)n == len) end_response(req);
    return n;
}

int puff_http_response_flush(puff_http_request *pub) {
    puff__request *req = puff__request_of(pub);
    int rc = check_body(req, 0);
    if (rc || !req->head) return rc;
    return send_head(req, 0, true);
}

int puff_http_response_trailers(puff_http_request *pub, const puff_http_field *fields,
                                size_t n_fields) {
    puff__request *req = puff__request_of(pub);
    int rc = check_body(req, 0);
    if (rc) return rc;
    puff__head *h = puff__server_take_head(req->server);
    if (!h) return PUFF_ENOMEM;
    rc = puff_buf_append(&h->buf, "0\r\n", 3);
    if (rc == 0) rc = puff_h1_write_trailers(&h->buf, fields, n_fields);
    if (rc) goto done;
    if (req->head) rc = send_head(req, 0, true);
    if (rc == 0 && req->framing == PUFF_H1_OUT_CHUNKED) {
        rc = puff__conn_write(pub->conn, h->buf.data, h->buf.len);
        if (rc) give_up(req, rc);
    }
    if (rc == 0) end_response(req);
done:
    puff__server_give_head(req->server, h);
    return rc;
}

/* ---- others -------------------------------------------------------------------------------- */

int puff_http_response_informational(puff_http_request *pub, int status,
                                     const puff_http_field *fields, size_t n_fields) {
    puff__request *req = puff__request_of(pub);
    puff_h1_said said;
    if (req->ended) return PUFF_ECLOSED;
    if (req->started) return PUFF_HTTP_ESTATE;
    if (status < 100 || status > 199 || status == 101) return PUFF_HTTP_ESTATUS;
    if (pub->version == 10) return 0;
    puff__head *h = puff__server_take_head(req->server);
    if (!h) return PUFF_ENOMEM;
    int rc = puff_h1_write_fields(&h->buf, status, (puff_str){0}, fields, n_fields, &said);
    if (rc == 0) {
        puff_h1_write_end(&h->buf, &(puff_h1_end){.say_length = false});
        rc = puff__conn_write(pub->conn, h->buf.data, h->buf.len);
    }
    puff__server_give_head(req->server, h);
    return rc;
}

int puff_http_response_simple(puff_http_request *pub, int status, const char *text) {
    static const puff_http_field type = {.name = {"content-type", 12},
                                         .value = {"text/plain; charset=utf-8", 25}};
    puff_str body = text ? (puff_str){text, strlen(text)} : puff_http_status_text(status);
    int rc = puff_http_response_start(pub, status, &type, 1);
    return rc ? rc : puff_http_response_body(pub, body.ptr, body.len, false, NULL, NULL);
}

int puff_http_response_forget(puff_http_request *pub) {
    puff__request *req = puff__request_of(pub);
    if (req->ended) return PUFF_ECLOSED;
    if (puff__head_sent(req)) return PUFF_HTTP_ESTATE;
    if (req->head) drop_head(req);
    req->started = false;
    req->status = 0;
    return 0;
}

void puff_http_response_abort(puff_http_request *pub) {
    puff__request *req = puff__request_of(pub);
    if (!req->ended) give_up(req, 0);
}

size_t puff_http_response_queued(const puff_http_request *pub) {
    return puff__request_of(pub)->ended ? 0 : puff_stream_queued(pub->conn->stream);
}
bool puff_http_response_started(const puff_http_request *pub) {
    return puff__request_of(pub)->started;
}
bool puff_http_response_complete(const puff_http_request *pub) {
    return puff__request_of(pub)->complete;
}

/* A refusal that needs no request: always says close. */
int puff__respond_plain(puff_http_conn *c, int status, bool head_only) {
    static const puff_http_field type = {.name = {"content-type", 12},
                                         .value = {"text/plain; charset=utf-8", 25}};
    puff_http_server *s = c->server;
    puff_str text = puff_http_status_text(status);
    puff_h1_said said;
    puff__head *h = puff__server_take_head(s);
    if (!h) return PUFF_ENOMEM;
    int rc = puff_h1_write_fields(&h->buf, status, (puff_str){0}, &type, 1, &said);
    if (rc == 0) {
        puff_h1_end end = {.say_length = true, .length = text.len, .connection = PUFF_STR("close")};
        if (s->opts.date_header) end.date = puff__server_date_line(s);
        end.server = (puff_str){s->server_line, s->server_line_len};
        puff_h1_write_end(&h->buf, &end);
        rc = puff__conn_write(c, h->buf.data, h->buf.len);
    }
    if (rc == 0 && !head_only) rc = puff__conn_write(c, text.ptr, text.len);
    puff__server_give_head(s, h);
    return rc;
}
