/* h1_write.h - the head of an HTTP/1.1 response: fields in, bytes out. No I/O.
 *
 *   puff_h1_write_fields():  HTTP/1.1 200 OK CRLF, the host's fields
 *   puff_h1_write_end():     date, server, framing, connection, CRLF
 */
#ifndef PUFF_H1_WRITE_H
#define PUFF_H1_WRITE_H

#include "puff/http.h"

enum {
    PUFF_H1_MAX_RESPONSE_HEAD = 262144, /* a host that loops over its own fields */
    PUFF_H1_MAX_REASON = 256            /* of a status line; the longest of the RFCs is 31 */
};

/* What the host's fields said. */
typedef struct puff_h1_said {
    bool close, date, server, has_length;
    uint64_t length;
} puff_h1_said;

/* Appends the status line and the fields, and leaves room for the end. Names become lower case; a reason
 * with ptr NULL is the status' own phrase. On error out is as it was: PUFF_HTTP_EFIELD, PUFF_HTTP_ELENGTH,
 * PUFF_HTTP_ESTATUS (the reason), PUFF_ELIMIT, PUFF_ENOMEM. */
int puff_h1_write_fields(puff_buf *out, int status, puff_str reason, const puff_http_field *fields,
                         size_t n, puff_h1_said *said);
/* Fields without a status line and with their empty line: trailers. Those that frame are dropped
 * too. */
int puff_h1_write_trailers(puff_buf *out, const puff_http_field *fields, size_t n);

enum puff_h1_out { PUFF_H1_OUT_NONE, PUFF_H1_OUT_LENGTH, PUFF_H1_OUT_CHUNKED, PUFF_H1_OUT_CLOSE };

typedef struct puff_h1_end {
    puff_str date, server; /* whole lines, empty: none */
    bool say_length;       /* content-length: length */
    bool say_chunked;
    uint64_t length;
    puff_str connection; /* the value; empty: no such field */
} puff_h1_end;

/* Room for all of it was made by puff_h1_write_fields(), so it cannot fail. */
void puff_h1_write_end(puff_buf *out, const puff_h1_end *end);

/* "Tue, 24 Nov 2026 08:17:00 GMT" and a NUL (RFC 9110 5.6.7); t in seconds since 1970. */
void puff_http_date(char out[30], int64_t t);

#endif
