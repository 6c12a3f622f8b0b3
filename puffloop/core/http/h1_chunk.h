/* h1_chunk.h - the chunked transfer coding, both directions of it: no I/O, no allocation.
 *
 * Decoding (RFC 9112 7.1) is resumable at every byte and works in place. Its cost is linear in the
 * raw bytes, however small the chunks are. Extensions and trailers are checked, bounded and
 * dropped: what arrives in a trailer must never be mistaken for a header.
 */
#ifndef PUFF_H1_CHUNK_H
#define PUFF_H1_CHUNK_H

#include "puff/base.h"

enum {
    PUFF_H1_MAX_EXTENSIONS =
        16384, /* bytes per body: a byte of body could cost any amount of extension */
    PUFF_H1_MAX_TRAILERS = 8192, /* bytes per body */
    PUFF_H1_MAX_TRAILER_FIELDS = 32
};

/* All zero is the state before the first byte. */
typedef struct puff_h1_chunked {
    uint64_t left;     /* of the chunk in work, or the size read so far */
    uint32_t overhead; /* bytes of extensions, then of trailers */
    uint8_t state, n_digits, n_trailers;
} puff_h1_chunked;

typedef struct puff_h1_chunk_io {
    char *src;  /* raw bytes; advanced over what was used */
    size_t len; /* of them; what is left */
    char *dst; /* where decoded bytes go, at or before src; NULL: right where the first one is found
                */
    size_t n_out; /* decoded bytes at dst, added to */
} puff_h1_chunk_io;

/* PUFF_H1_MORE (0): all of src was used. PUFF_H1_DONE (1): the body has ended, src is what follows
 * it. Else a negated HTTP status. */
int puff_h1_chunked_decode(puff_h1_chunked *d, puff_h1_chunk_io *io);

/* Writes "1f4\r\n" without a NUL; returns its length, at most 18. */
size_t puff_h1_chunk_head(char out[18], size_t len);

#endif
