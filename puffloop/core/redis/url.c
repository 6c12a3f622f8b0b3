/* url.c - reads redis://, valkey://, unix:// addresses and plain paths of sockets.
 *
 *   redis://user:password@host:port/db        unix://user:password@/path/of/socket?db=n
 *
 * Parts are percent-decoded after they were found, so an escaped '@' or '/' is no separator.
 */
#include "url.h"

#include <stdio.h>
#include <string.h>

#include "puff/redis.h"

static const char default_url[] = "redis://127.0.0.1:6379/0";

static int refuse(puff_err *err, const char *why) {
    return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_REDIS, "bad Redis URL: %s", why);
}

/* Splits s at its first sep: head before it, s after it. False: no sep, nothing changes. */
static bool split_first(puff_str *s, char sep, puff_str *head) {
    const char *at = memchr(s->ptr, sep, s->len);
    if (!at) return false;
    *head = (puff_str){s->ptr, (size_t)(at - s->ptr)};
    *s = (puff_str){at + 1, s->len - head->len - 1};
    return true;
}

static bool strip_prefix(puff_str *s, puff_str prefix) {
    if (s->len < prefix.len || !puff_str_ieq((puff_str){s->ptr, prefix.len}, prefix)) return false;
    *s = (puff_str){s->ptr + prefix.len, s->len - prefix.len};
    return true;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A copy of s with %xx decoded. A NUL would cut it short where it is used, so it is refused. */
static int decode(const puff_alloc *alloc, puff_str s, char **out, puff_err *err) {
    char *d = puff_malloc(alloc, s.len + 1);
    if (!d) return puff_err_set(err, PUFF_ENOMEM, PUFF_DOMAIN_REDIS, "out of memory");
    *out = d; /* freed by the deinit of its owner, also on failure */
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%') {
            int hi = i + 2 < s.len ? hex_value(s.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? hex_value(s.ptr[i + 2]) : -1;
            c = lo >= 0 ? (char)(hi * 16 + lo) : 0;
            i += 2;
        }
        if (c == 0) return refuse(err, "an escape is not % and two hexadecimal digits");
        *d++ = c;
    }
    *d = 0;
    return 0;
}

/* "user:password" or ":password"; "user" alone has no meaning to the server. */
static int parse_credentials(puff__redis_url *u, puff_str s, puff_err *err) {
    puff_str user;
    if (!split_first(&s, ':', &user))
        return refuse(err, "a user without a password (write user:password@ or :password@)");
    int rc = decode(u->alloc, s, &u->password, err);
    if (rc == 0 && user.len) rc = decode(u->alloc, user, &u->user, err);
    return rc;
}

static int parse_db(puff__redis_url *u, puff_str s, puff_err *err) {
    uint64_t db;
    if (s.len == 0) return 0;
    if (!puff_str_to_u64(s, &db) || db > INT32_MAX)
        return refuse(err, "the database is not a number");
    u->db = (uint32_t)db;
    return 0;
}

static int parse_query(puff__redis_url *u, puff_str s, puff_err *err) {
    if (s.len == 0) return 0;
    if (!strip_prefix(&s, PUFF_STR("db=")))
        return refuse(err, "the only parameter known after '?' is db");
    return parse_db(u, s, err);
}

static int parse_port(puff__redis_url *u, puff_str s, puff_err *err) {
    uint64_t port;
    if (!puff_str_to_u64(s, &port) || port == 0 || port > 65535)
        return refuse(err, "the port is not a number from 1 to 65535");
    u->port = (uint16_t)port;
    return 0;
}

/* "host", "host:port", "[address]" or "[address]:port"; nothing is the local host. */
static int parse_host(puff__redis_url *u, puff_str s, puff_err *err) {
    puff_str host = s, port = {0};
    if (s.len && s.ptr[0] == '[') {
        s = (puff_str){s.ptr + 1, s.len - 1};
        if (!split_first(&s, ']', &host)) return refuse(err, "'[' without ']'");
        if (s.len && s.ptr[0] != ':')
            return refuse(err, "']' is followed by something else than ':'");
        port = s.len ? (puff_str){s.ptr + 1, s.len - 1} : port;
    } else if (split_first(&s, ':', &host)) {
        port = s;
    }
    if (port.ptr) {
        int rc = parse_port(u, port, err);
        if (rc) return rc;
    }
    return decode(u->alloc, host.len ? host : PUFF_STR("127.0.0.1"), &u->host, err);
}

/* Takes "user:password@" off the front of *rest, whose path begins at its first '/'. The last '@'
 * before it counts: passwords are often pasted in with theirs unescaped. */
static int take_credentials(puff__redis_url *u, puff_str *rest, puff_err *err) {
    const char *slash = memchr(rest->ptr, '/', rest->len);
    size_t n = slash ? (size_t)(slash - rest->ptr) : rest->len;
    while (n > 0 && rest->ptr[n - 1] != '@') n--;
    if (n == 0) return 0;
    puff_str credentials = {rest->ptr, n - 1};
    *rest = (puff_str){rest->ptr + n, rest->len - n};
    return parse_credentials(u, credentials, err);
}

static int parse_unix(puff__redis_url *u, puff_str s, puff_err *err) {
    puff_str path = s, query = {0};
    if (split_first(&s, '?', &path)) query = s;
    if (path.len == 0 || path.ptr[0] != '/')
        return refuse(err,
                      "the path of a Unix socket must begin with '/' (unix:///run/redis.sock)");
    int rc = parse_query(u, query, err);
    return rc ? rc : decode(u->alloc, path, &u->unix_path, err);
}

static int parse_tcp(puff__redis_url *u, puff_str s, puff_err *err) {
    puff_str query = {0}, before, host;
    if (split_first(&s, '?', &before)) {
        query = s;
        s = before;
    }
    puff_str db = s;
    if (split_first(&db, '/', &host)) {
        int rc = parse_db(u, db, err);
        if (rc) return rc;
        s = host;
    }
    int rc = parse_query(u, query, err);
    return rc ? rc : parse_host(u, s, err);
}

static int parse(puff__redis_url *u, puff_str s, puff_err *err) {
    if (strip_prefix(&s, PUFF_STR("rediss://")) || strip_prefix(&s, PUFF_STR("valkeys://")))
        return refuse(err, "TLS (rediss://) is not supported yet; use redis:// or unix://");
    if (s.len && s.ptr[0] == '/') return parse_unix(u, s, err);
    bool is_unix =
        strip_prefix(&s, PUFF_STR("unix://")) || strip_prefix(&s, PUFF_STR("redis+unix://"));
    if (!is_unix && !strip_prefix(&s, PUFF_STR("redis://")) &&
        !strip_prefix(&s, PUFF_STR("valkey://")))
        return refuse(err, "it begins with none of redis://, valkey://, unix:// and '/'");
    int rc = take_credentials(u, &s, err);
    if (rc) return rc;
    return is_unix ? parse_unix(u, s, err) : parse_tcp(u, s, err);
}

int puff__redis_url_parse(puff__redis_url *u, const puff_alloc *alloc, const char *text,
                          puff_err *err) {
    *u = (puff__redis_url){.alloc = alloc, .port = 6379};
    if (!text) text = default_url;
    int rc = parse(u, (puff_str){text, strlen(text)}, err);
    if (rc) puff__redis_url_deinit(u);
    return rc;
}

void puff__redis_url_deinit(puff__redis_url *u) {
    puff_free(u->alloc, u->host);
    puff_free(u->alloc, u->unix_path);
    puff_free(u->alloc, u->user);
    puff_free(u->alloc, u->password);
    *u = (puff__redis_url){.alloc = u->alloc};
}

void puff__redis_url_address(const puff__redis_url *u, char *out, size_t cap) {
    if (u->unix_path)
        snprintf(out, cap, "%s", u->unix_path);
    else
        snprintf(out, cap, strchr(u->host, ':') ? "[%s]:%u" : "%s:%u", u->host, u->port);
}
