/* fuzz_h1_llhttp.c - what we accept, llhttp (node's parser) accepts too, and reads the same in it:
 * method, target, fields, body and where the next message begins. Smuggling lives where two parsers
 * differ.
 *
 * The reverse does not hold: we refuse more (see h1_parse.c). Intended differences, reviewed:
 *   - llhttp knows a list of methods, we take any token (RFC 9110 9.1): its complaint about one is
 *     no finding (PRI too, which it keeps for HTTP/2);
 *   - llhttp hands out values with the white space after them, we do not: trimmed here;
 *   - llhttp stops at the head of a request that asks for an upgrade; we ignore Upgrade: then only
 *     the heads are compared;
 *   - llhttp 8 refuses a second chunk extension behind one with an unquoted value ("1;a=b;c"), as
 *     RFC 9112 7.1.1 allows: its complaint about such a ';' is no finding;
 *   - llhttp reads a Content-Length or Transfer-Encoding in the trailers as if it framed; we drop
 *     trailers: its complaint about such a one, after the head, is no finding;
 *   - llhttp takes no tab for white space behind Content-Length or Transfer-Encoding, RFC 9110
 *     5.6.3 does: its complaint about that tab is no finding;
 *   - Host is hidden when the target is absolute: we replace it, llhttp does not look.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h1_outcome.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#if HAVE_LLHTTP
#include "llhttp.h"

typedef struct theirs {
    llhttp_t parser; /* first */
    outcome o;
    puff_buf target, name, value, body;
    bool absolute;
} theirs;

static void add(puff_buf *b, const char *at, size_t n) {
    if (puff_buf_append(b, at, n) != 0) abort();
}

static int on_url(llhttp_t *p, const char *at, size_t n) {
    add(&((theirs *)p)->target, at, n);
    return 0;
}
static int on_name(llhttp_t *p, const char *at, size_t n) {
    add(&((theirs *)p)->name, at, n);
    return 0;
}
static int on_value(llhttp_t *p, const char *at, size_t n) {
    add(&((theirs *)p)->value, at, n);
    return 0;
}
static int on_body(llhttp_t *p, const char *at, size_t n) {
    add(&((theirs *)p)->body, at, n);
    return 0;
}

static int on_version(llhttp_t *p) {
    theirs *t = (theirs *)p;
    const char *method = llhttp_method_name((llhttp_method_t)llhttp_get_method(p));
    char version[8];
    outcome_line(&t->o, 'M', method, strlen(method), NULL, 0);
    outcome_line(&t->o, 'T', t->target.data, t->target.len, NULL, 0);
    sprintf(version, "%d.%d", llhttp_get_http_major(p) % 10, llhttp_get_http_minor(p) % 10);
    outcome_line(&t->o, 'V', version, 3, NULL, 0);
    t->absolute = t->target.len && t->target.data[0] != '/' && t->target.data[0] != '*';
    return 0;
}

static int on_field(llhttp_t *p) {
    theirs *t = (theirs *)p;
    if (t->o.text.len == 0 || t->body.len) return 0; /* a trailer */
    for (size_t i = 0; i < t->name.len; i++)
        if (t->name.data[i] >= 'A' && t->name.data[i] <= 'Z') t->name.data[i] |= 0x20;
    while (t->value.len && strchr(" \t", t->value.data[t->value.len - 1])) t->value.len--;
    const bool hide = t->absolute && t->name.len == 4 && memcmp(t->name.data, "host", 4) == 0;
    outcome_line(&t->o, 'F', t->name.data, t->name.len,
                 hide           ? "-"
                 : t->value.len ? t->value.data
                                : "",
                 hide ? 1 : t->value.len);
    t->name.len = t->value.len = 0;
    return 0;
}

/* From here on fields are trailers, which we drop. */
static int on_head(llhttp_t *p) {
    ((theirs *)p)->parser.data = p;
    return 0;
}
static int on_any_field(llhttp_t *p) {
    theirs *t = (theirs *)p;
    if (!p->data) return on_field(p);
    t->name.len = t->value.len = 0;
    return 0;
}

static int on_end(llhttp_t *p) {
    ((theirs *)p)->o.kind = OUTCOME_DONE;
    return HPE_PAUSED;
}

static llhttp_errno_t read_theirs(theirs *t, const uint8_t *data, size_t len) {
    llhttp_settings_t s;
    llhttp_settings_init(&s);
    s.on_url = on_url;
    s.on_header_field = on_name;
    s.on_header_value = on_value;
    s.on_header_value_complete = on_any_field;
    s.on_version_complete = on_version;
    s.on_headers_complete = on_head;
    s.on_body = on_body;
    s.on_message_complete = on_end;
    puff_buf *bufs[] = {&t->target, &t->name, &t->value, &t->body};
    for (size_t i = 0; i < 4; i++) puff_buf_init(bufs[i], &puff_alloc_system, len + 1);
    outcome_init(&t->o);
    llhttp_init(&t->parser, HTTP_REQUEST, &s);
    t->parser.data = NULL;
    llhttp_errno_t e = llhttp_execute(&t->parser, (const char *)data, len);
    if (t->o.kind != OUTCOME_DONE) return e;
    char next[24];
    outcome_line(&t->o, 'B', t->body.data, t->body.len, NULL, 0);
    sprintf(next, "%zu", (size_t)(llhttp_get_error_pos(&t->parser) - (const char *)data));
    outcome_line(&t->o, 'N', next, strlen(next), NULL, 0);
    return e;
}

static void deinit_theirs(theirs *t) {
    puff_buf *bufs[] = {&t->target, &t->name, &t->value, &t->body};
    for (size_t i = 0; i < 4; i++) puff_buf_deinit(bufs[i]);
    outcome_deinit(&t->o);
}

static bool about_method(const theirs *t) {
    const char *why = llhttp_get_error_reason(&t->parser);
    return llhttp_get_method(&t->parser) == HTTP_PRI || (why && strstr(why, "method")) ||
           llhttp_get_errno(&t->parser) == HPE_INVALID_METHOD;
}

static bool about_second_extension(const theirs *t) {
    return llhttp_get_errno(&t->parser) == HPE_INVALID_CHUNK_SIZE &&
           llhttp_get_error_pos(&t->parser)[-1] == ';'; /* it points behind what it complains of */
}

static bool about_trailer(const theirs *t) {
    const llhttp_errno_t e = llhttp_get_errno(&t->parser);
    return t->parser.data &&
           (e == HPE_INVALID_TRANSFER_ENCODING || e == HPE_INVALID_CONTENT_LENGTH ||
            e == HPE_UNEXPECTED_CONTENT_LENGTH);
}

static bool about_tab(const theirs *t) {
    const llhttp_errno_t e = llhttp_get_errno(&t->parser);
    const char *at = llhttp_get_error_pos(&t->parser);
    return (e == HPE_INVALID_CONTENT_LENGTH || e == HPE_INVALID_TRANSFER_ENCODING) &&
           (at[0] == '\t' || at[-1] == '\t');
}

static bool intended(const theirs *t) {
    return about_method(t) || about_second_extension(t) || about_trailer(t) || about_tab(t);
}

static void differ(const outcome *ours, const theirs *t, llhttp_errno_t e, const uint8_t *data,
                   size_t len) {
    fprintf(stderr, "input:\n%.*s\nours:\n%.*s\nllhttp: %s %s\n%.*s\n", (int)len,
            (const char *)data, (int)ours->text.len, ours->text.data, llhttp_errno_name(e),
            t->parser.reason ? t->parser.reason : "", (int)t->o.text.len,
            t->o.text.data ? t->o.text.data : "");
    abort();
}

/* Without the lines B and N. */
static size_t head_len(const puff_buf *text) {
    const char *b = memmem(text->data, text->len, "\nB ", 3);
    return b ? (size_t)(b - text->data) : text->len;
}

static void compare(const outcome *ours, const uint8_t *data, size_t len) {
    theirs t = {.absolute = false};
    llhttp_errno_t e = read_theirs(&t, data, len);
    const bool upgrade = t.o.kind == OUTCOME_DONE && llhttp_get_upgrade(&t.parser);
    size_t n = upgrade ? head_len(&ours->text) : ours->text.len;
    size_t m = upgrade ? head_len(&t.o.text) : t.o.text.len;
    if (t.o.kind != OUTCOME_DONE ? !intended(&t)
                                 : n != m || memcmp(ours->text.data, t.o.text.data, n) != 0)
        differ(ours, &t, e, data, len);
    deinit_theirs(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    outcome ours;
    outcome_init(&ours);
    outcome_ours(&ours, data, len, len, len);
    if (ours.kind == OUTCOME_DONE) compare(&ours, data, len);
    outcome_deinit(&ours);
    return 0;
}

#else /* the suite's word for "skipped" */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    puts("llhttp is not installed");
    exit(77);
}
#endif
