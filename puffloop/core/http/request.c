/* request.c - a request: one block of memory with its head in it, and its body, which is pulled.
 *
 *   [puff__request | fields[n] | the head's bytes]      the slices of fields point into the bytes
 *
 * Blocks of the usual size are pooled by the server.
 */
#include "http/http.h"

#include <assert.h>
#include <string.h>

enum {
    POOLED_SIZE =
        4096 - 64, /* a browser's head with its fields; malloc's own word stays in the page */
    MAX_SPARE = 64 /* 256 KiB per server */
};

/* ---- memory -------------------------------------------------------------------------------- */

static puff__request *take_block(puff_http_server *s, size_t size) {
    puff__request *req = s->requests;
    if (size <= POOLED_SIZE && req) {
        s->requests = req->pub.data;
        s->n_spare_requests--;
    } else {
        req = puff_malloc(s->alloc, size <= POOLED_SIZE ? POOLED_SIZE : size);
        if (!req) return NULL;
    }
    memset(req, 0, sizeof *req);
    req->pooled = size <= POOLED_SIZE;
    return req;
}

/* The server is alive: the block may go back to its pool. */
static void give_block(puff_http_server *s, puff__request *req) {
    if (!req->pooled || s->n_spare_requests >= MAX_SPARE) {
        puff_free(s->alloc, req);
        return;
    }
    req->pub.data = s->requests;
    s->requests = req;
    s->n_spare_requests++;
}

static puff_str slice(const char *bytes, const puff_h1_parser *p, puff_h1_slice s) {
    return (puff_str){bytes + (s.at - p->start), s.len};
}

static void fill_fields(puff_http_field *f, const char *bytes, const puff_h1_parser *p) {
    for (uint32_t i = 0; i < p->n_fields; i++) {
        f[i].name = slice(bytes, p, p->fields[i].name);
        f[i].value = slice(bytes, p, p->fields[i].value);
        f[i].id = p->fields[i].id;
    }
}

static void fill(puff_http_request *pub, const char *bytes, const puff_h1_parser *p) {
    pub->method = slice(bytes, p, p->method);
    pub->target = slice(bytes, p, p->target);
    pub->path = p->path.len ? slice(bytes, p, p->path) : PUFF_STR("/");
    if (p->query.at) pub->query = slice(bytes, p, p->query);
    if (p->authority.len) pub->authority = slice(bytes, p, p->authority);
    pub->scheme = PUFF_STR("http");
    pub->n_fields = p->n_fields;
    pub->content_length = p->content_length;
    pub->method_id = p->method_id;
    pub->version = p->version;
    pub->has_length = p->has_length;
    pub->chunked = p->chunked;
    pub->keep_alive = p->keep_alive;
    pub->expects_continue = p->expects_continue;
}

puff__request *puff__request_new(puff_http_conn *c, const puff_h1_parser *p, const char *buf) {
    const size_t n_bytes = p->end - p->start, fields_size = p->n_fields * sizeof(puff_http_field);
    puff__request *req = take_block(c->server, sizeof *req + fields_size + n_bytes);
    if (!req) return NULL;
    puff_http_field *fields = (puff_http_field *)(req + 1);
    char *bytes = (char *)fields + fields_size;
    memcpy(bytes, buf + p->start, n_bytes);
    fill_fields(fields, bytes, p);
    fill(&req->pub, bytes, p);
    req->pub.fields = fields;
    req->pub.conn = c;
    req->pub.number = ++c->n_requests;
    req->pub.start_ns = puff_loop_now_ns(c->server->loop);
    req->server = c->server;
    req->alloc = c->server->alloc;
    req->refs = 1;
    return req;
}

void puff__request_release(puff__request *req) {
    if (req->head) puff__server_give_head(req->server, req->head);
    req->head = NULL;
    req->pub.conn = NULL;
    if (--req->refs == 0) give_block(req->server, req);
}

puff_http_request *puff_http_request_ref(puff_http_request *pub) {
    puff__request_of(pub)->refs++;
    return pub;
}

/* The connection's own reference is the last to go while the server lives, or the host's is, maybe
 * after the server: then only the allocator is certain to be there. */
void puff_http_request_unref(puff_http_request *pub) {
    puff__request *req = puff__request_of(pub);
    assert(req->refs > 0);
    if (--req->refs == 0) puff_free(req->alloc, req);
}

/* ---- body ---------------------------------------------------------------------------------- */

/* Only when the client still holds its body back, and nothing final has been said. */
static void say_continue(puff_http_conn *c, const puff__request *req) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!c->want_continue) return;
    c->want_continue = false;
    if (puff_h1_input_unread(&c->in) == 0 && !puff__head_sent(req))
        puff__conn_write(c, line, sizeof line - 1);
}

enum puff_http_body puff_http_request_read(puff_http_request *pub, puff_str *out) {
    puff__request *req = puff__request_of(pub);
    *out = (puff_str){NULL, 0};
    if (req->ended || req->complete) return PUFF_HTTP_BODY_GONE;
    puff_http_conn *c = pub->conn;
    say_continue(c, req);
    enum puff_http_body state = puff_h1_input_peek(&c->in, out);
    if (state == PUFF_HTTP_BODY_GONE && c->in.refused) puff__conn_wake(c);
    req->waiting = state == PUFF_HTTP_BODY_MORE && out->len == 0;
    return state;
}

void puff_http_request_consume(puff_http_request *pub, size_t n) {
    puff__request *req = puff__request_of(pub);
    if (req->ended || n == 0) return;
    puff_h1_input_consume(&pub->conn->in, n);
    puff__conn_update_reading(pub->conn);
}

bool puff_http_request_disconnected(const puff_http_request *pub) {
    return puff__request_of(pub)->ended || pub->conn->peer_finished;
}

const puff_http_field *puff_http_request_field(const puff_http_request *pub,
                                               enum puff_http_field_id id) {
    for (size_t i = 0; i < pub->n_fields; i++)
        if (pub->fields[i].id == id) return &pub->fields[i];
    return NULL;
}
