/* err.c - one error value for people, one int for control flow. */
#include <stdarg.h>
#include <stdio.h>
#include <uv.h>

#include "puff/base.h"

_Static_assert((int)PUFF_ENOMEM == (int)UV_ENOMEM, "PUFF_ENOMEM passes for libuv's");
_Static_assert((int)PUFF_ECANCELED == (int)UV_ECANCELED, "PUFF_ECANCELED passes for libuv's");

static const struct {
    int code;
    const char *name, *text;
} codes[] = {
    {0, "OK", "success"},
    {PUFF_ELIMIT, "PUFF_ELIMIT", "a limit was reached"},
    {PUFF_EPROTO, "PUFF_EPROTO", "the peer broke its protocol"},
    {PUFF_ECLOSED, "PUFF_ECLOSED", "it was closed before it could answer"},
    {PUFF_ETIMEOUT, "PUFF_ETIMEOUT", "timed out"},
    {PUFF_EARG, "PUFF_EARG", "invalid argument"},
    {PUFF_EDB, "PUFF_EDB", "the database answered with an error"},
    {PUFF_EAUTH, "PUFF_EAUTH", "credentials refused"},
    {PUFF_ECONNECT, "PUFF_ECONNECT", "no connection could be made"},
    {PUFF_EREPLY, "PUFF_EREPLY", "Redis answered with an error"},
    /* puff/http.h's, by number: base includes nothing from above it. test_err.c compares. */
    {-5101, "PUFF_HTTP_ESTATE", "not in this state of the response"},
    {-5102, "PUFF_HTTP_EFIELD", "invalid header field"},
    {-5103, "PUFF_HTTP_ESTATUS", "invalid status code"},
    {-5104, "PUFF_HTTP_ELENGTH", "the body does not match its content-length"},
/* libuv's, from its own list: uv_err_name() and uv_strerror() make a string that nobody can free
 * for a code that they do not know, so they are never asked. */
#define ROW(name, text) {UV_##name, #name, text},
    UV_ERRNO_MAP(ROW)
#undef ROW
};

enum { N_CODES = sizeof codes / sizeof *codes };

static size_t find(int code) {
    size_t i = 0;
    while (i < N_CODES && codes[i].code != code) i++;
    return i;
}

const char *puff_err_name(int code) {
    size_t i = find(code);
    return i < N_CODES ? codes[i].name : "UNKNOWN";
}

const char *puff_err_text(int code) {
    size_t i = find(code);
    return i < N_CODES ? codes[i].text : "unknown error";
}

/* What was cut at len must not end inside a character: it would not decode. */
static void trim_utf8(char *msg, size_t len) {
    size_t lead = len - 1; /* of the last character */
    while (lead > 0 && len - lead < 4 && ((unsigned char)msg[lead] & 0xc0) == 0x80) lead--;
    unsigned char c = (unsigned char)msg[lead];
    size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    if (len - lead < want) msg[lead] = '\0';
}

int puff_err_set(puff_err *err, int code, enum puff_err_domain domain, const char *fmt, ...) {
    if (!err) return code;
    puff_err new = {.code = code, .domain = domain}; /* an argument may be err->msg itself */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(new.msg, sizeof new.msg, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof new.msg) trim_utf8(new.msg, sizeof new.msg - 1);
    *err = new;
    return code;
}
