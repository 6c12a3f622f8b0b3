/* h1_parse.h - the head of an HTTP/1.x request: bytes in, offsets out. No I/O, no allocation.
 *
 * Strict on purpose: what two parsers could read in two ways (bare LF, obs-fold, white space before
 * a colon, Content-Length beside Transfer-Encoding ...) is refused, not mended. RFC 9112 and 9110;
 * what is stricter than they are is listed in h1_parse.c.
 */
#ifndef PUFF_H1_PARSE_H
#define PUFF_H1_PARSE_H

#include "puff/http.h"

/* Offsets into the buffer that was parsed, so that it may move between two calls. */
typedef struct puff_h1_slice {
    uint32_t at, len;
} puff_h1_slice;

typedef struct puff_h1_field {
    puff_h1_slice name, value; /* name: made lower case in the buffer; value: trimmed */
    enum puff_http_field_id id;
} puff_h1_field;

typedef struct puff_h1_parser {
    /* limits, set once */
    uint32_t max_request_line; /* bytes without CRLF; beyond: 414 */
    uint32_t max_head;         /* bytes of all field lines with the empty one; beyond: 431 */
    uint32_t max_fields;       /* room in fields[]; beyond: 431 */

    /* state */
    uint32_t line;    /* where the line in work begins */
    uint32_t scanned; /* up to here that line is known to have no LF */
    uint32_t section; /* where the field lines begin; 0: still in the request line */
    uint8_t n_blank;  /* empty lines before the request line */

    /* result */
    const char *error; /* why, for people; NULL: none */
    uint32_t start;    /* of the request line, after empty lines */
    uint32_t end;      /* of the head: the body, if any, begins here */
    puff_h1_slice method, target;
    puff_h1_slice path;      /* empty in an absolute target without a path: "/" */
    puff_h1_slice query;     /* at 0: there is no '?' */
    puff_h1_slice authority; /* from an absolute target, else from Host */
    uint64_t content_length; /* when has_length */
    enum puff_http_method method_id;
    uint8_t version; /* 10 or 11 */
    bool absolute, has_host, has_length, chunked, keep_alive, expects_continue;
    bool saw_close, saw_keep_alive, saw_transfer_encoding;
    uint32_t n_fields;
    puff_h1_field fields[]; /* max_fields of them */
} puff_h1_parser;

static inline size_t puff_h1_parser_size(uint32_t max_fields) {
    return sizeof(puff_h1_parser) + max_fields * sizeof(puff_h1_field);
}
/* p has puff_h1_parser_size(max_fields) bytes. max_request_line + max_head < 2^31. */
void puff_h1_parser_init(puff_h1_parser *p, uint32_t max_request_line, uint32_t max_head,
                         uint32_t max_fields);
/* For the next head; the limits stay. */
void puff_h1_parser_reset(puff_h1_parser *p);

enum { PUFF_H1_MORE = 0, PUFF_H1_DONE = 1 };

/* buf holds everything since the last reset, len bytes of it; a call with more of it goes on where
 * the last one stopped. PUFF_H1_MORE, PUFF_H1_DONE, or a negated HTTP status: answer it, close, and
 * never look at another byte. The verdict depends on the bytes only, not on how they were cut: a
 * bad line is refused when its LF (or the limit) is there, not before. */
int puff_h1_parse(puff_h1_parser *p, char *buf, size_t len);

#endif
