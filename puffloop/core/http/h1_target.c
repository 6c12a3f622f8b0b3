/* h1_target.c - see h1_target.h. A Host that frameworks would read as more than a host ("a/b?c=")
 * has poisoned their URLs (CVE-2026-48710), so the grammar is checked here, once, for all of them.
 */
#include "http/h1_target.h"

#include <string.h>

#include "http/h1_chars.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* *DIGIT, at most 65535 */
static bool port_valid(const char *p, const char *end) {
    unsigned port = 0;
    for (; p < end; p++) {
        if (!is_digit(*p)) return false;
        port = port * 10 + (unsigned)(*p - '0');
        if (port > 65535) return false;
    }
    return true;
}

/* What stands between the brackets: IPv6 by its characters; its exact shape is the host's to read.
 * IPvFuture and zone ids are not accepted: nothing speaks the first, the second is local. */
static bool ip_literal_valid(const char *p, const char *end) {
    bool colon = false;
    if (end - p < 2 || end - p > 45) return false;
    for (; p < end; p++) {
        if (*p == ':')
            colon = true;
        else if (*p != '.' && !puff__h1_is(*p, PUFF__H1_HEX))
            return false;
    }
    return colon;
}

static const char *skip_reg_name(const char *p, const char *end) {
    for (; p < end && puff__h1_is(*p, PUFF__H1_HOST); p++) {
        if (*p != '%') continue;
        if (end - p < 3 || !puff__h1_is(p[1], PUFF__H1_HEX) || !puff__h1_is(p[2], PUFF__H1_HEX))
            return p;
        p += 2;
    }
    return p;
}

bool puff_h1_host_valid(puff_str host) {
    const char *p = host.ptr, *end = p + host.len;
    if (host.len == 0) return true;
    if (*p == '[') {
        const char *close = memchr(p, ']', host.len);
        if (!close || !ip_literal_valid(p + 1, close)) return false;
        p = close + 1;
    } else {
        p = skip_reg_name(p, end);
        if (p == host.ptr) return false; /* ":80" */
    }
    if (p == end) return true;
    return *p == ':' && port_valid(p + 1, end);
}

static void split_query(puff_str rest, puff_h1_target *out) {
    const char *mark = rest.len ? memchr(rest.ptr, '?', rest.len) : NULL;
    out->path = rest;
    out->query = (puff_str){NULL, 0};
    if (!mark) return;
    out->path.len = (size_t)(mark - rest.ptr);
    out->query = (puff_str){mark + 1, rest.len - out->path.len - 1};
}

/* The length of "http://" or "https://", or 0. */
static size_t scheme_len(puff_str target) {
    static const puff_str schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < 2; i++)
        if (target.len >= schemes[i].len &&
            puff_str_ieq((puff_str){target.ptr, schemes[i].len}, schemes[i]))
            return schemes[i].len;
    return 0;
}

bool puff_h1_target_split(puff_str target, puff_h1_target *out) {
    *out = (puff_h1_target){.absolute = false};
    if (target.len > 0 && target.ptr[0] == '/') {
        split_query(target, out);
        return true;
    }
    size_t n = scheme_len(target);
    if (n == 0) return false;
    puff_str rest = {target.ptr + n, target.len - n};
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] != '/' && rest.ptr[len] != '?') len++;
    out->absolute = true;
    out->authority = (puff_str){rest.ptr, len};
    split_query((puff_str){rest.ptr + len, rest.len - len}, out);
    return len > 0 && puff_h1_host_valid(out->authority);
}
