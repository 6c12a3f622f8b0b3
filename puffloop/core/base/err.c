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
} ours[] = {
    {PUFF_ELIMIT, "PUFF_ELIMIT", "a limit was reached"},
    {PUFF_EPROTO, "PUFF_EPROTO", "the peer broke its protocol"},
    {PUFF_ECLOSED, "PUFF_ECLOSED", "it was closed before it could answer"},
    {PUFF_ETIMEOUT, "PUFF_ETIMEOUT", "timed out"},
    {PUFF_EARG, "PUFF_EARG", "invalid argument"},
    {PUFF_EDB, "PUFF_EDB", "the database answered with an error"},
    {PUFF_EAUTH, "PUFF_EAUTH", "credentials refused"},
    {PUFF_ECONNECT, "PUFF_ECONNECT", "no connection could be made"},
    {PUFF_EREPLY, "PUFF_EREPLY", "Redis answered with an error"},
};

const char *puff_err_name(int code) {
    if (code == 0) return "OK";
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i].code == code) return ours[i].name;
    return uv_err_name(code);
}

const char *puff_err_text(int code) {
    if (code == 0) return "success";
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i].code == code) return ours[i].text;
    return uv_strerror(code);
}

int puff_err_set(puff_err *err, int code, enum puff_err_domain domain, const char *fmt, ...) {
    if (!err) return code;
    err->code = code;
    err->domain = domain;
    err->sqlstate[0] = '\0';
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return code;
}
