/* h1_outcome.c - our reading of a message: parser, chunked decoder and input storage as a
 * connection uses them, without the sockets. */
#include "h1_outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1_input.h"
#include "http/h1_parse.h"

enum { MAX_LINE = 256, MAX_HEAD = 1024, MAX_FIELDS = 16 };

void outcome_init(outcome *o) {
    *o = (outcome){.kind = OUTCOME_MORE, .why = ""};
    puff_buf_init(&o->text, &puff_alloc_system, SIZE_MAX / 2);
}

void outcome_deinit(outcome *o) { puff_buf_deinit(&o->text); }

void outcome_line(outcome *o, char letter, const char *a, size_t alen, const char *b, size_t blen) {
    char lead[2] = {letter, ' '};
    int rc = puff_buf_append(&o->text, lead, 2);
    rc |= puff_buf_append(&o->text, a, alen);
    if (b) rc |= puff_buf_append(&o->text, ": ", 2);
    if (b) rc |= puff_buf_append(&o->text, b, blen);
    rc |= puff_buf_append(&o->text, "\n", 1);
    if (rc) abort();
}

static void refuse(outcome *o, int status, const char *why) {
    o->kind = OUTCOME_REFUSED;
    o->status = status;
    o->why = why;
}

static void write_head(outcome *o, const puff_h1_parser *p, const char *raw) {
    outcome_line(o, 'M', raw + p->method.at, p->method.len, NULL, 0);
    outcome_line(o, 'T', raw + p->target.at, p->target.len, NULL, 0);
    outcome_line(o, 'V', p->version == 11 ? "1.1" : "1.0", 3, NULL, 0);
    for (uint32_t i = 0; i < p->n_fields; i++) {
        const puff_h1_field *f = &p->fields[i];
        const bool hide = p->absolute && f->id == PUFF_HTTP_FIELD_HOST;
        outcome_line(o, 'F', raw + f->name.at, f->name.len, hide ? "-" : raw + f->value.at,
                     hide ? 1 : f->value.len);
    }
}

typedef struct reading {
    puff_h1_input in;
    puff_h1_parser *parser;
    bool in_body;
    size_t n_fed;
    puff_buf body;
} reading;

static bool read_head(reading *r, outcome *o) {
    int verdict = puff_h1_parse(r->parser, r->in.raw, r->in.n_raw);
    if (verdict < 0) refuse(o, -verdict, r->parser->error);
    if (verdict != PUFF_H1_DONE) return false;
    write_head(o, r->parser, r->in.raw);
    puff_h1_input_skip_raw(&r->in, r->parser->end);
    puff_h1_input_begin_body(&r->in, r->parser->chunked, r->parser->content_length, 0);
    return true;
}

/* Takes the body in bites of odd sizes, so that what is left over is moved about too. */
static void read_body(reading *r, outcome *o) {
    for (size_t bite = 1;; bite = bite * 3 + 1) {
        puff_str bytes;
        enum puff_http_body state = puff_h1_input_peek(&r->in, &bytes);
        if (state == PUFF_HTTP_BODY_GONE) {
            refuse(o, r->in.refused, "body");
            return;
        }
        size_t n = bytes.len < bite ? bytes.len : bite;
        if (puff_buf_append(&r->body, bytes.ptr, n) != 0) abort();
        puff_h1_input_consume(&r->in, n);
        if (state == PUFF_HTTP_BODY_END && n == bytes.len) {
            o->kind = OUTCOME_DONE;
            return;
        }
        if (bytes.len == 0 || n == bytes.len) return;
    }
}

static void feed(reading *r, outcome *o, const uint8_t *piece, size_t n) {
    size_t cap = 0;
    char *own = malloc(n), *room = puff_h1_input_room(&r->in, &cap);
    char *to = room && cap >= n ? room : own;
    memcpy(to, piece, n);
    if (puff_h1_input_add(&r->in, to, n) != 0) abort();
    r->n_fed += n;
    if (!r->in_body) r->in_body = read_head(r, o);
    if (r->in_body) read_body(r, o);
    if (puff_h1_input_save(&r->in) != 0) abort();
    free(own);
}

void outcome_ours(outcome *o, const uint8_t *data, size_t len, size_t first, size_t step) {
    reading r = {.parser = calloc(1, puff_h1_parser_size(MAX_FIELDS))};
    char next[24];
    puff_h1_parser_init(r.parser, MAX_LINE, MAX_HEAD, MAX_FIELDS);
    puff_h1_input_init(&r.in, &puff_alloc_system, len + 65536);
    puff_buf_init(&r.body, &puff_alloc_system, len + 1);
    for (size_t at = 0, n = first; at < len && o->kind == OUTCOME_MORE; at += n, n = step) {
        if (n > len - at) n = len - at;
        feed(&r, o, data + at, n);
    }
    outcome_line(o, 'B', r.body.data, r.body.len, NULL, 0);
    sprintf(next, "%zu", r.n_fed - puff_h1_input_unread(&r.in));
    if (o->kind == OUTCOME_DONE) outcome_line(o, 'N', next, strlen(next), NULL, 0);
    puff_buf_deinit(&r.body);
    puff_h1_input_deinit(&r.in);
    free(r.parser);
}
