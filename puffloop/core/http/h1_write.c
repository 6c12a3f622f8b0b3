/* h1_write.c - see h1_write.h. One reservation for the whole head, then plain copies. */
#include "http/h1_write.h"

#include <assert.h>
#include <string.h>

#include "http/h1_chars.h"

enum {
    STATUS_LINE = PUFF_H1_MAX_REASON + 16,
    END_ROOM = 512 /* date 37, server 8 + 256 + 2, content-length 38, connection 24, ... */
};

static char *put(char *o, const char *s, size_t n) {
    memcpy(o, s, n);
    return o + n;
}
#define PUT(o, lit) put((o), (lit), sizeof(lit) - 1)

static char *put_str(char *o, puff_str s) { return s.len ? put(o, s.ptr, s.len) : o; }

static char *put_u64(char *o, uint64_t v) {
    char digits[20], *d = digits + sizeof digits;
    do *--d = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    return put(o, d, (size_t)(digits + sizeof digits - d));
}

static char *put_status_line(char *o, int status, puff_str reason) {
    o = PUT(o, "HTTP/1.1 ");
    o = put_u64(o, (uint64_t)status);
    *o++ = ' ';
    return PUT(put_str(o, reason), "\r\n");
}

/* ---- fields -------------------------------------------------------------------------------- */

static size_t size_of(const puff_http_field *fields, size_t n) {
    size_t size = STATUS_LINE + END_ROOM;
    for (size_t i = 0; i < n; i++) {
        if (fields[i].name.len > PUFF_H1_MAX_RESPONSE_HEAD ||
            fields[i].value.len > PUFF_H1_MAX_RESPONSE_HEAD)
            return SIZE_MAX;
        size += fields[i].name.len + fields[i].value.len + 4;
    }
    return size;
}

/* In lower case; NULL: no token. */
static char *put_name(char *o, puff_str name) {
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = puff__h1_lower[(uint8_t)name.ptr[i]];
        if (!c) return NULL;
        *o++ = (char)c;
    }
    return name.len ? o : NULL;
}

static bool value_valid(puff_str v) {
    return v.len == 0 || puff__h1_skip_value(v.ptr, v.ptr + v.len) == v.ptr + v.len;
}

static int said_length(puff_h1_said *said, puff_str value) {
    uint64_t length;
    if (!puff_str_to_u64(value, &length)) return PUFF_HTTP_ELENGTH;
    if (said->has_length && said->length != length) return PUFF_HTTP_ELENGTH;
    said->has_length = true;
    said->length = length;
    return 0;
}

/* Elements are compared whole: "close" within another word says nothing. */
static bool has_close(puff_str list) {
    const char *p = list.ptr, *end = p + list.len;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *to = comma ? comma : end;
        puff_str e = {p, (size_t)(to - p)};
        while (e.len && (*e.ptr == ' ' || *e.ptr == '\t')) e.ptr++, e.len--;
        while (e.len && (e.ptr[e.len - 1] == ' ' || e.ptr[e.len - 1] == '\t')) e.len--;
        if (puff_str_ieq(e, PUFF_STR("close"))) return true;
        p = to + 1;
    }
    return false;
}

/* Notes what the field says to us. Returns 1: send it; 0: it is the server's own business; or an
 * error. */
static int note(puff_h1_said *said, enum puff_http_field_id id, puff_str value) {
    switch (id) {
    case PUFF_HTTP_FIELD_CONTENT_LENGTH: return said_length(said, value);
    case PUFF_HTTP_FIELD_CONNECTION: said->close |= has_close(value); return 0;
    case PUFF_HTTP_FIELD_TRANSFER_ENCODING:
    case PUFF_HTTP_FIELD_KEEP_ALIVE:
    case PUFF_HTTP_FIELD_UPGRADE:
    case PUFF_HTTP_FIELD_PROXY_CONNECTION:
    case PUFF_HTTP_FIELD_TE:
    case PUFF_HTTP_FIELD_TRAILER: return 0;
    case PUFF_HTTP_FIELD_DATE: said->date = true; return 1;
    case PUFF_HTTP_FIELD_SERVER: said->server = true; return 1;
    default: return 1;
    }
}

/* Writes the fields at *o and moves it. */
static int put_fields(char **o, const puff_http_field *fields, size_t n, puff_h1_said *said) {
    for (size_t i = 0; i < n; i++) {
        const puff_http_field *f = &fields[i];
        char *colon = put_name(*o, f->name);
        if (!colon || !value_valid(f->value)) return PUFF_HTTP_EFIELD;
        int sent = note(said, puff_http_field_id_of((puff_str){*o, f->name.len}), f->value);
        if (sent < 0) return sent;
        if (sent) *o = PUT(put_str(PUT(colon, ": "), f->value), "\r\n");
    }
    return 0;
}

int puff_h1_write_fields(puff_buf *out, int status, puff_str reason, const puff_http_field *fields,
                         size_t n, puff_h1_said *said) {
    *said = (puff_h1_said){0};
    if (!reason.ptr) reason = puff_http_status_text(status);
    if (reason.len > PUFF_H1_MAX_REASON || !value_valid(reason)) return PUFF_HTTP_ESTATUS;
    int rc = puff_buf_reserve(out, size_of(fields, n));
    if (rc) return rc;
    char *o = put_status_line(out->data + out->len, status, reason);
    rc = put_fields(&o, fields, n, said);
    if (rc == 0) out->len = (size_t)(o - out->data);
    return rc;
}

/* A trailer must not frame, route or authenticate (RFC 9110 6.5.1); the ones that would do harm to
 * a recipient that merges them are dropped. */
static bool trailer_allowed(const puff_http_field *f) {
    char name[32];
    if (f->name.len >= sizeof name || !put_name(name, f->name)) return true;
    switch (puff_http_field_id_of((puff_str){name, f->name.len})) {
    case PUFF_HTTP_FIELD_CONTENT_LENGTH:
    case PUFF_HTTP_FIELD_TRANSFER_ENCODING:
    case PUFF_HTTP_FIELD_CONNECTION:
    case PUFF_HTTP_FIELD_KEEP_ALIVE:
    case PUFF_HTTP_FIELD_UPGRADE:
    case PUFF_HTTP_FIELD_TE:
    case PUFF_HTTP_FIELD_TRAILER:
    case PUFF_HTTP_FIELD_HOST:
    case PUFF_HTTP_FIELD_SET_COOKIE:
    case PUFF_HTTP_FIELD_AUTHORIZATION:
    case PUFF_HTTP_FIELD_CONTENT_ENCODING:
    case PUFF_HTTP_FIELD_CONTENT_TYPE:
    case PUFF_HTTP_FIELD_CONTENT_RANGE: return false;
    default: return true;
    }
}

int puff_h1_write_trailers(puff_buf *out, const puff_http_field *fields, size_t n) {
    puff_h1_said said = {0};
    int rc = puff_buf_reserve(out, size_of(fields, n));
    if (rc) return rc;
    char *o = out->data + out->len;
    for (size_t i = 0; i < n && rc == 0; i++)
        if (trailer_allowed(&fields[i])) rc = put_fields(&o, &fields[i], 1, &said);
    if (rc == 0) out->len = (size_t)(PUT(o, "\r\n") - out->data);
    return rc;
}

/* ---- end ----------------------------------------------------------------------------------- */

void puff_h1_write_end(puff_buf *out, const puff_h1_end *end) {
    assert(out->cap - out->len >= END_ROOM);
    char *o = out->data + out->len;
    o = put_str(o, end->date);
    o = put_str(o, end->server);
    if (end->say_length) o = PUT(put_u64(PUT(o, "content-length: "), end->length), "\r\n");
    if (end->say_chunked) o = PUT(o, "transfer-encoding: chunked\r\n");
    if (end->connection.len) o = PUT(put_str(PUT(o, "connection: "), end->connection), "\r\n");
    o = PUT(o, "\r\n");
    out->len = (size_t)(o - out->data);
}

/* ---- date ---------------------------------------------------------------------------------- */

/* Own, because strftime asks the locale. Days to civil date: 400 years are 146,097 days, years
 * begin in March so that the leap day is their last. */
void puff_http_date(char out[30], int64_t t) {
    static const char days[] = "ThuFriSatSunMonTueWed",
                      months[] = "MarAprMayJunJulAugSepOctNovDecJanFeb";
    const int64_t day = t / 86400, sec = t % 86400;
    const int64_t z = day + 719468, era = z / 146097, doe = z % 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    const int64_t mday = doy - (153 * mp + 2) / 5 + 1, year = yoe + era * 400 + (mp >= 10);
    memcpy(out, "Ddd, DD Mmm YYYY HH:MM:SS GMT", 30);
    memcpy(out, days + 3 * (day % 7), 3);
    memcpy(out + 8, months + 3 * mp, 3);
    const int64_t two[][2] = {{5, mday},        {12, year / 100},    {14, year % 100},
                              {17, sec / 3600}, {20, sec / 60 % 60}, {23, sec % 60}};
    for (size_t i = 0; i < sizeof two / sizeof *two; i++) {
        out[two[i][0]] = (char)('0' + two[i][1] / 10);
        out[two[i][0] + 1] = (char)('0' + two[i][1] % 10);
    }
}
