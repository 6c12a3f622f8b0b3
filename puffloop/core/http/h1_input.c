/* h1_input.c - see h1_input.h. */
#include "http/h1_input.h"

#include <assert.h>
#include <string.h>

#include "http/h1_parse.h"

enum { ROOM = 16384 }; /* for one read behind bytes that are kept */

void puff_h1_input_init(puff_h1_input *in, const puff_alloc *a, size_t max) {
    memset(in, 0, sizeof *in);
    puff_buf_init(&in->keep, a, max);
}

void puff_h1_input_deinit(puff_h1_input *in) { puff_buf_deinit(&in->keep); }

void puff_h1_input_clear(puff_h1_input *in) {
    in->n_body = in->n_raw = 0;
    in->borrowed = false;
    puff_buf_reset(&in->keep, 0);
}

/* ---- storage ------------------------------------------------------------------------------- */

/* Moves what is unread to the front of the buffer that is kept. */
static void compact(puff_h1_input *in) {
    if (in->n_body) memmove(in->keep.data, in->body, in->n_body);
    if (in->n_raw) memmove(in->keep.data + in->n_body, in->raw, in->n_raw);
    in->body = in->keep.data;
    in->raw = in->body + in->n_body;
    in->keep.len = in->n_body + in->n_raw;
}

/* Room for n bytes behind raw, whose place may change. */
static int reserve(puff_h1_input *in, size_t n) {
    if (in->keep.cap - in->keep.len >= n) return 0;
    compact(in);
    int rc = puff_buf_reserve(&in->keep, n);
    in->body = in->keep.data;
    in->raw = in->body + in->n_body;
    return rc;
}

char *puff_h1_input_room(puff_h1_input *in, size_t *cap) {
    if (puff_h1_input_unread(in) == 0 || reserve(in, ROOM) != 0) return NULL;
    *cap = in->keep.cap - in->keep.len;
    return in->keep.data + in->keep.len;
}

int puff_h1_input_add(puff_h1_input *in, char *buf, size_t n) {
    assert(!in->borrowed);
    if (puff_h1_input_unread(in) == 0) {
        in->raw = buf;
        in->n_raw = n;
        in->borrowed = true;
        return 0;
    }
    if (buf != in->keep.data + in->keep.len) {
        int rc = reserve(in, n);
        if (rc) return rc;
        memcpy(in->keep.data + in->keep.len, buf, n);
    }
    in->keep.len += n;
    in->n_raw += n;
    return 0;
}

int puff_h1_input_save(puff_h1_input *in) {
    if (puff_h1_input_unread(in) == 0) {
        puff_h1_input_clear(in);
        return 0;
    }
    if (!in->borrowed) return 0;
    in->borrowed = false;
    in->keep.len = 0;
    int rc = puff_buf_reserve(&in->keep, puff_h1_input_unread(in));
    if (rc == 0) compact(in);
    return rc;
}

void puff_h1_input_skip_raw(puff_h1_input *in, size_t n) {
    assert(n <= in->n_raw);
    in->raw += n;
    in->n_raw -= n;
}

/* ---- body ---------------------------------------------------------------------------------- */

void puff_h1_input_begin_body(puff_h1_input *in, bool chunked, uint64_t length, uint64_t max) {
    assert(in->n_body == 0);
    in->framing = chunked ? PUFF_H1_CHUNKED : length ? PUFF_H1_LENGTH : PUFF_H1_NO_BODY;
    in->left = length;
    in->n_body_in = 0;
    in->max_body = max;
    in->refused = 0;
    in->chunked = (puff_h1_chunked){0};
}

/* Decodes all raw bytes that belong to the body. */
static void decode(puff_h1_input *in) {
    puff_h1_chunk_io io = {
        .src = in->raw, .len = in->n_raw, .dst = in->n_body ? in->body : NULL, .n_out = in->n_body};
    int r = puff_h1_chunked_decode(&in->chunked, &io);
    in->n_body_in += io.n_out - in->n_body;
    in->body = io.dst;
    in->n_body = io.n_out;
    in->raw = io.src;
    in->n_raw = io.len;
    if (r == PUFF_H1_DONE) in->framing = PUFF_H1_CHUNKED_END;
    if (r < 0) in->refused = -r;
    if (in->max_body && in->n_body_in > in->max_body) in->refused = 413;
}

static enum puff_http_body more_or_gone(const puff_h1_input *in, puff_str *out) {
    if (!in->finished) return PUFF_HTTP_BODY_MORE;
    *out = (puff_str){NULL, 0};
    return PUFF_HTTP_BODY_GONE;
}

enum puff_http_body puff_h1_input_peek(puff_h1_input *in, puff_str *out) {
    *out = (puff_str){NULL, 0};
    if (in->framing == PUFF_H1_NO_BODY) return PUFF_HTTP_BODY_END;
    if (in->framing == PUFF_H1_LENGTH) {
        *out = (puff_str){in->raw, in->left < in->n_raw ? (size_t)in->left : in->n_raw};
        return out->len == in->left ? PUFF_HTTP_BODY_END : more_or_gone(in, out);
    }
    if (in->framing == PUFF_H1_CHUNKED && in->n_raw && !in->refused) decode(in);
    if (in->refused) return PUFF_HTTP_BODY_GONE;
    *out = (puff_str){in->body, in->n_body};
    return in->framing == PUFF_H1_CHUNKED_END ? PUFF_HTTP_BODY_END : more_or_gone(in, out);
}

void puff_h1_input_consume(puff_h1_input *in, size_t n) {
    if (in->framing == PUFF_H1_LENGTH) {
        assert(n <= in->n_raw && n <= in->left);
        puff_h1_input_skip_raw(in, n);
        in->left -= n;
        in->n_body_in += n;
        if (in->left == 0) in->framing = PUFF_H1_NO_BODY;
        return;
    }
    assert(n <= in->n_body);
    if (n) in->body += n; /* body is NULL before the first decoded byte */
    in->n_body -= n;
    if (in->n_body == 0 && in->framing == PUFF_H1_CHUNKED_END) in->framing = PUFF_H1_NO_BODY;
}

bool puff_h1_input_body_arrived(const puff_h1_input *in) {
    if (in->framing == PUFF_H1_LENGTH) return in->left <= in->n_raw;
    return in->framing != PUFF_H1_CHUNKED;
}
