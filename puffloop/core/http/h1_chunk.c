/* h1_chunk.c - see h1_chunk.h.
 *
 *   size --;--> ext_name --=--> ext_value            data -> data_cr -> data_lf -> size
 *     |            |              | "                  ^
 *     |            |            quoted "               |
 *     +---- CR ----+--- CR -------+--------> size_lf --+-- size 0 --> trailer
 *
 *   trailer --CR--> end_lf --LF--> done
 *      +--tchar--> trailer_name --:--> trailer_value --CR--> trailer_lf --LF--> trailer
 *
 * The CRLF after the data is checked, not skipped (CVE-2025-43859). No white space around sizes and
 * extensions, and no backslash in a quoted value: the RFC has them, but readers have disagreed
 * about where the extension then ends (llhttp 8 knows no quoted-pair), and nobody sends them.
 */
#include "http/h1_chunk.h"

#include <string.h>

#include "http/h1_chars.h"
#include "http/h1_parse.h"

enum state {
    SIZE,
    SIZE_LF,
    EXT_NAME_1,
    EXT_NAME,
    EXT_VALUE_1,
    EXT_VALUE,
    EXT_QUOTED,
    EXT_QUOTED_END,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE
};

enum { BAD = -400, TOO_LARGE = -431, MAX_DIGITS = 16 };

/* 0-15, or -1 */
static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int step_size(puff_h1_chunked *d, char c) {
    int digit = hex_value(c);
    if (digit >= 0) {
        if (d->n_digits == MAX_DIGITS || d->left >> 59) return BAD; /* stays below 2^63 */
        d->n_digits++;
        d->left = d->left << 4 | (unsigned)digit;
        return SIZE;
    }
    if (d->n_digits == 0) return BAD;
    return c == '\r' ? SIZE_LF : c == ';' ? EXT_NAME_1 : BAD;
}

/* ";" token [ "=" ( token / quoted-string ) ], again and again */
static int step_extension(puff_h1_chunked *d, char c) {
    if (++d->overhead > PUFF_H1_MAX_EXTENSIONS) return BAD;
    switch ((enum state)d->state) {
    case EXT_NAME_1: return puff__h1_is_token(c) ? EXT_NAME : BAD;
    case EXT_NAME:
        if (puff__h1_is_token(c)) return EXT_NAME;
        return c == '=' ? EXT_VALUE_1 : c == ';' ? EXT_NAME_1 : c == '\r' ? SIZE_LF : BAD;
    case EXT_VALUE_1: return c == '"' ? EXT_QUOTED : puff__h1_is_token(c) ? EXT_VALUE : BAD;
    case EXT_VALUE:
        if (puff__h1_is_token(c)) return EXT_VALUE;
        return c == ';' ? EXT_NAME_1 : c == '\r' ? SIZE_LF : BAD;
    case EXT_QUOTED:
        if (c == '"') return EXT_QUOTED_END;
        return puff__h1_is(c, PUFF__H1_VALUE) && c != '\\' ? EXT_QUOTED : BAD;
    default: return c == ';' ? EXT_NAME_1 : c == '\r' ? SIZE_LF : BAD;
    }
}

static int step_trailer(puff_h1_chunked *d, char c) {
    if (++d->overhead > PUFF_H1_MAX_TRAILERS) return TOO_LARGE;
    switch ((enum state)d->state) {
    case TRAILER:
        if (c == '\r') return END_LF;
        if (!puff__h1_is_token(c)) return BAD;
        return ++d->n_trailers > PUFF_H1_MAX_TRAILER_FIELDS ? TOO_LARGE : TRAILER_NAME;
    case TRAILER_NAME: return puff__h1_is_token(c) ? TRAILER_NAME : c == ':' ? TRAILER_VALUE : BAD;
    case TRAILER_VALUE:
        if (c == '\r') return TRAILER_LF;
        return puff__h1_is(c, PUFF__H1_VALUE) ? TRAILER_VALUE : BAD;
    default: return c == '\n' ? TRAILER : BAD;
    }
}

static int step(puff_h1_chunked *d, char c) {
    switch ((enum state)d->state) {
    case SIZE: return step_size(d, c);
    case SIZE_LF:
        d->n_digits = 0;
        if (c != '\n') return BAD;
        if (d->left) return DATA;
        d->overhead = 0; /* from here on of trailers */
        return TRAILER;
    case DATA_CR: return c == '\r' ? DATA_LF : BAD;
    case DATA_LF: return c == '\n' ? SIZE : BAD;
    case TRAILER:
    case TRAILER_NAME:
    case TRAILER_VALUE:
    case TRAILER_LF: return step_trailer(d, c);
    case END_LF: return c == '\n' ? DONE : BAD;
    default: return step_extension(d, c);
    }
}

static void take_data(puff_h1_chunked *d, puff_h1_chunk_io *io) {
    size_t n = d->left < io->len ? (size_t)d->left : io->len;
    if (!io->dst) io->dst = io->src;
    char *to = io->dst + io->n_out;
    if (to != io->src) memmove(to, io->src, n);
    io->n_out += n;
    io->src += n;
    io->len -= n;
    d->left -= n;
    if (d->left == 0) d->state = DATA_CR;
}

int puff_h1_chunked_decode(puff_h1_chunked *d, puff_h1_chunk_io *io) {
    while (io->len > 0 && d->state != DONE) {
        if (d->state == DATA) {
            take_data(d, io);
            continue;
        }
        int next = step(d, *io->src);
        if (next < 0) return next;
        d->state = (uint8_t)next;
        io->src++;
        io->len--;
    }
    return d->state == DONE ? PUFF_H1_DONE : PUFF_H1_MORE;
}

size_t puff_h1_chunk_head(char out[18], size_t len) {
    static const char digits[] = "0123456789abcdef";
    size_t n = 1;
    while (n < 16 && len >> (4 * n)) n++;
    for (size_t i = n; i-- > 0; len >>= 4) out[i] = digits[len & 15];
    out[n] = '\r';
    out[n + 1] = '\n';
    return n + 2;
}
