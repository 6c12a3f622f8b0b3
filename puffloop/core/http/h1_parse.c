/* h1_parse.c - see h1_parse.h.
 *
 * The head is read line by line. A line is parsed in one pass straight from the buffer, hoping that
 * it is whole; only when that fails is its LF looked for, to tell "not here yet" from "bad". So a
 * head that arrives at once is scanned once, one that drips in is scanned at most three times, and
 * the verdict is the same for every way to cut the input.
 *
 *     line            scanned        len
 *      v                 v            v
 *      Accept-Enc: gzip, d............       no LF in [line, scanned): the next call searches from
 * there
 *
 * Stricter than RFC 9112 asks for:
 *   - bare LF is no line end; at most two empty lines come before a request line;
 *   - obs-fold is refused (RFC: refuse or mend);
 *   - equal repeated Content-Length is refused, also as a list (RFC: refuse or merge);
 *   - Content-Length beside Transfer-Encoding is refused (RFC: may be read as chunked);
 *   - Transfer-Encoding in HTTP/1.0 is refused (RFC: is faulty framing);
 *   - only HTTP/1.0 and HTTP/1.1 are spoken: other versions are 505;
 *   - a target is visible ASCII without '#'; absolute targets are http or https;
 *   - CONNECT is 501: we are no proxy; Expect other than 100-continue is 417.
 */
#include "http/h1_parse.h"

#include <assert.h>
#include <string.h>

#include "http/h1_chars.h"
#include "http/h1_target.h"

enum { MAX_METHOD = 32, MAX_BLANK = 2 };

/* What parsing one line came to, beside PUFF_H1_DONE (the head is complete) and a negated status.
 */
enum {
    LINE_OK = 2,   /* p->line is where the next one begins */
    LINE_SHORT = 3 /* the bytes ended first */
};

void puff_h1_parser_init(puff_h1_parser *p, uint32_t max_request_line, uint32_t max_head,
                         uint32_t max_fields) {
    p->max_request_line = max_request_line;
    p->max_head = max_head;
    p->max_fields = max_fields;
    puff_h1_parser_reset(p);
}

void puff_h1_parser_reset(puff_h1_parser *p) {
    const size_t from = offsetof(puff_h1_parser, line);
    memset((char *)p + from, 0, offsetof(puff_h1_parser, fields) - from);
}

static int bad(puff_h1_parser *p, int status, const char *why) {
    p->error = why;
    return -status;
}

static puff_h1_slice slice(const char *buf, const char *from, const char *to) {
    return (puff_h1_slice){(uint32_t)(from - buf), (uint32_t)(to - from)};
}

static puff_str text(const char *buf, puff_h1_slice s) { return (puff_str){buf + s.at, s.len}; }

static bool is_ows(char c) { return c == ' ' || c == '\t'; }

/* ---- request line -------------------------------------------------------------------------- */

static enum puff_http_method method_id(puff_str m) {
    for (int id = 1; id < PUFF_HTTP_METHOD_COUNT; id++)
        if (puff_str_eq(m, puff_http_method_name((enum puff_http_method)id)))
            return (enum puff_http_method)id;
    return PUFF_HTTP_METHOD_OTHER;
}

static int read_target(puff_h1_parser *p, const char *buf) {
    puff_str target = text(buf, p->target);
    puff_h1_target t;
    if (p->method_id == PUFF_HTTP_METHOD_CONNECT) return bad(p, 501, "CONNECT to a server");
    if (puff_str_eq(target, PUFF_STR("*"))) {
        if (p->method_id != PUFF_HTTP_METHOD_OPTIONS) return bad(p, 400, "* is for OPTIONS");
        p->path = p->target;
        return LINE_OK;
    }
    if (!puff_h1_target_split(target, &t)) return bad(p, 400, "malformed request target");
    p->path = slice(buf, t.path.ptr, t.path.ptr + t.path.len);
    if (t.query.ptr) p->query = slice(buf, t.query.ptr, t.query.ptr + t.query.len);
    p->absolute = t.absolute;
    if (t.absolute) p->authority = slice(buf, t.authority.ptr, t.authority.ptr + t.authority.len);
    return LINE_OK;
}

/* "HTTP/1.1" CRLF */
static int read_version(puff_h1_parser *p, const char *q, const char *end) {
    if (end - q < 10) return LINE_SHORT;
    if (memcmp(q, "HTTP/", 5) != 0 || q[6] != '.' || q[8] != '\r' || q[9] != '\n')
        return bad(p, 400, "malformed request line");
    if (q[5] < '0' || q[5] > '9' || q[7] < '0' || q[7] > '9')
        return bad(p, 400, "malformed version");
    if (q[5] != '1' || q[7] > '1') return bad(p, 505, "unknown version");
    p->version = q[7] == '1' ? 11 : 10;
    return LINE_OK;
}

/* method SP request-target SP HTTP-version CRLF */
static int read_request_line(puff_h1_parser *p, const char *buf, const char *line,
                             const char *end) {
    const char *m = puff__h1_skip_token(line, end);
    if (m == end) return LINE_SHORT;
    if (m == line || *m != ' ') return bad(p, 400, "malformed method");
    if (m - line > MAX_METHOD) return bad(p, 501, "method too long");
    const char *t = puff__h1_skip_target(m + 1, end);
    if (t == end) return LINE_SHORT;
    if (t == m + 1 || *t != ' ') return bad(p, 400, "malformed request target");
    int r = read_version(p, t + 1, end);
    if (r != LINE_OK) return r;
    p->method = slice(buf, line, m);
    p->method_id = method_id(text(buf, p->method));
    p->target = slice(buf, m + 1, t);
    p->line = (uint32_t)(t + 11 - buf);
    return read_target(p, buf);
}

/* ---- field lines --------------------------------------------------------------------------- */

/* The next element of a comma-separated list, trimmed; false at the end. Empty ones are skipped. */
static bool next_element(puff_str *list, puff_str *out) {
    const char *p = list->ptr, *end = p + list->len;
    while (p < end && (is_ows(*p) || *p == ',')) p++;
    const char *from = p;
    while (p < end && *p != ',') p++;
    list->ptr = p;
    list->len = (size_t)(end - p);
    while (p > from && is_ows(p[-1])) p--;
    *out = (puff_str){from, (size_t)(p - from)};
    return p > from;
}

static int read_host(puff_h1_parser *p, const char *buf, puff_h1_slice value) {
    if (p->has_host) return bad(p, 400, "two Host fields");
    p->has_host = true;
    if (!puff_h1_host_valid(text(buf, value))) return bad(p, 400, "malformed Host");
    if (!p->absolute) p->authority = value;
    return LINE_OK;
}

static int read_content_length(puff_h1_parser *p, puff_str value) {
    if (p->has_length) return bad(p, 400, "two Content-Length fields");
    p->has_length = true;
    if (value.len == 0 || !puff_str_to_u64(value, &p->content_length) ||
        p->content_length > INT64_MAX)
        return bad(p, 400, "malformed Content-Length");
    return LINE_OK;
}

static bool is_compression(puff_str coding) {
    static const puff_str known[] = {
        {"gzip", 4}, {"deflate", 7}, {"compress", 8}, {"x-gzip", 6}, {"x-compress", 10}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (puff_str_ieq(coding, known[i])) return true;
    return false;
}

/* Exactly "chunked". A well-formed list of codings that ends in chunked is a 501, all else could be
 * framing that somebody before us has read otherwise. */
static int read_transfer_encoding(puff_h1_parser *p, puff_str value) {
    puff_str list = value, coding = {NULL, 0};
    if (p->saw_transfer_encoding) return bad(p, 400, "two Transfer-Encoding fields");
    p->saw_transfer_encoding = true;
    p->chunked = puff_str_ieq(value, PUFF_STR("chunked"));
    if (p->chunked) return LINE_OK;
    while (next_element(&list, &coding) && is_compression(coding)) continue;
    if (puff_str_ieq(coding, PUFF_STR("chunked")) && list.len == 0)
        return bad(p, 501, "unsupported transfer coding");
    return bad(p, 400, "malformed Transfer-Encoding");
}

static int read_connection(puff_h1_parser *p, puff_str value) {
    puff_str option;
    while (next_element(&value, &option)) {
        if (puff_str_ieq(option, PUFF_STR("close")))
            p->saw_close = true;
        else if (puff_str_ieq(option, PUFF_STR("keep-alive")))
            p->saw_keep_alive = true;
    }
    return LINE_OK;
}

static int read_expect(puff_h1_parser *p, puff_str value) {
    if (!puff_str_ieq(value, PUFF_STR("100-continue"))) return bad(p, 417, "unknown expectation");
    p->expects_continue = p->version == 11; /* RFC 9110 10.1.1: ignored in a 1.0 request */
    return LINE_OK;
}

/* The few fields that frame the message or the connection. */
static int read_known(puff_h1_parser *p, const char *buf, const puff_h1_field *f) {
    switch (f->id) {
    case PUFF_HTTP_FIELD_HOST: return read_host(p, buf, f->value);
    case PUFF_HTTP_FIELD_CONTENT_LENGTH: return read_content_length(p, text(buf, f->value));
    case PUFF_HTTP_FIELD_TRANSFER_ENCODING: return read_transfer_encoding(p, text(buf, f->value));
    case PUFF_HTTP_FIELD_CONNECTION: return read_connection(p, text(buf, f->value));
    case PUFF_HTTP_FIELD_EXPECT: return read_expect(p, text(buf, f->value));
    default: return LINE_OK;
    }
}

/* Lower case in place; stops at the first byte that is no tchar. */
static char *lower_name(char *q, const char *end) {
    uint8_t c;
    while (q < end && (c = puff__h1_lower[(uint8_t)*q]) != 0) *q++ = (char)c;
    return q;
}

/* field-name ":" OWS field-value OWS CRLF */
static int read_field(puff_h1_parser *p, char *buf, char *line, const char *end) {
    char *colon = lower_name(line, end);
    if (colon == end) return LINE_SHORT;
    if (colon == line || *colon != ':') return bad(p, 400, "malformed field name");
    const char *v = colon + 1;
    while (v < end && is_ows(*v)) v++;
    const char *cr = puff__h1_skip_value(v, end);
    if (end - cr < 2) return LINE_SHORT;
    if (cr[0] != '\r' || cr[1] != '\n') return bad(p, 400, "malformed field value");
    if (p->n_fields == p->max_fields) return bad(p, 431, "too many fields");
    const char *v_end = cr;
    while (v_end > v && is_ows(v_end[-1])) v_end--;
    puff_h1_field *f = &p->fields[p->n_fields++];
    f->name = slice(buf, line, colon);
    f->value = slice(buf, v, v_end);
    f->id = puff_http_field_id_of((puff_str){line, f->name.len});
    p->line = (uint32_t)(cr + 2 - buf);
    return read_known(p, buf, f);
}

/* RFC 9112 3.2.2: the authority of an absolute target replaces what Host says. */
static void override_host(puff_h1_parser *p) {
    for (uint32_t i = 0; i < p->n_fields; i++)
        if (p->fields[i].id == PUFF_HTTP_FIELD_HOST) p->fields[i].value = p->authority;
}

/* What only the whole head can tell. */
static int finish(puff_h1_parser *p) {
    if (!p->has_host && p->version == 11) return bad(p, 400, "no Host");
    if (p->chunked && p->has_length) return bad(p, 400, "Content-Length beside Transfer-Encoding");
    if (p->chunked && p->version == 10) return bad(p, 400, "Transfer-Encoding in HTTP/1.0");
    if (p->absolute) override_host(p);
    p->keep_alive = !p->saw_close && (p->version == 11 || p->saw_keep_alive);
    return PUFF_H1_DONE;
}

/* ---- lines --------------------------------------------------------------------------------- */

/* The line in work has not parsed. verdict is LINE_SHORT or a negated status: is the line whole,
 * and so really bad, or too long, or just not here yet? max: bytes from the line's begin that must
 * hold its LF. */
static int settle(puff_h1_parser *p, const char *buf, size_t len, int verdict, size_t max,
                  int status) {
    size_t have = len - p->line, seen = p->scanned > p->line ? p->scanned - p->line : 0;
    size_t look = have < max ? have : max;
    if (seen < look && memchr(buf + p->line + seen, '\n', look - seen))
        return verdict == LINE_SHORT ? bad(p, 400, "malformed line") : verdict;
    if (have >= max) return bad(p, status, "line too long");
    p->scanned = (uint32_t)len;
    p->error = NULL;
    return PUFF_H1_MORE;
}

/* True when an earlier call saw only the begin of this line and its LF is still missing: then there
 * is no point in parsing it again. */
static bool still_short(const puff_h1_parser *p, const char *buf, size_t len) {
    return p->scanned > p->line && !memchr(buf + p->scanned, '\n', len - p->scanned);
}

/* Skips CRLFs (RFC 9112 2.2) and looks at the first byte, so that a TLS hello is refused at once.
 */
static int parse_start(puff_h1_parser *p, const char *buf, size_t len) {
    while (len - p->line >= 2 && buf[p->line] == '\r' && buf[p->line + 1] == '\n') {
        if (p->n_blank++ == MAX_BLANK) return bad(p, 400, "empty lines");
        p->line += 2;
    }
    p->start = p->line;
    if (p->line == len || (buf[p->line] == '\r' && len - p->line == 1)) return PUFF_H1_MORE;
    return puff__h1_is_token(buf[p->line]) ? LINE_OK : bad(p, 400, "not HTTP");
}

static int parse_request_line(puff_h1_parser *p, const char *buf, size_t len) {
    const size_t max = (size_t)p->max_request_line + 2;
    int r = LINE_SHORT;
    if (!still_short(p, buf, len)) r = read_request_line(p, buf, buf + p->line, buf + len);
    if (r == LINE_OK && p->line - p->start <= max) {
        p->section = p->line;
        return LINE_OK;
    }
    p->line = p->start;
    return settle(p, buf, len, r, max, 414);
}

/* One field line, or the empty one that ends the head. */
static int parse_field_line(puff_h1_parser *p, char *buf, size_t len) {
    const uint32_t line = p->line, max = p->section + p->max_head;
    int r = LINE_SHORT;
    if (len - line >= 2 && buf[line] == '\r' && buf[line + 1] == '\n' && line + 2 <= max) {
        p->end = p->line = line + 2;
        return finish(p);
    }
    if (!still_short(p, buf, len)) r = read_field(p, buf, buf + line, buf + len);
    if (r == LINE_OK && p->line <= max) return LINE_OK;
    p->line = line;
    return settle(p, buf, len, r, max - line, 431);
}

int puff_h1_parse(puff_h1_parser *p, char *buf, size_t len) {
    assert(len >= p->line && p->scanned <= len);
    if (len > UINT32_MAX / 2) len = UINT32_MAX / 2; /* offsets are 32 bits; limits are far below */
    int r = LINE_OK;
    if (p->section == 0) {
        r = parse_start(p, buf, len);
        if (r == LINE_OK) r = parse_request_line(p, buf, len);
    }
    while (r == LINE_OK) r = parse_field_line(p, buf, len);
    return r;
}
