/* h1_input.h - the bytes of a connection that nobody has taken yet, and the request body among
 * them.
 *
 *            body n_body         raw           n_raw
 *             v                   v
 *     ........|decoded...|........|as it came.....................|
 *
 * While a read callback runs the bytes stay in the loop's buffer (borrowed); what is left at its
 * end is kept in a buffer of our own, which an idle connection does not have. Only a chunked body
 * is decoded (in place, so body never catches up with raw); one with a length is read straight from
 * raw. No I/O.
 */
#ifndef PUFF_H1_INPUT_H
#define PUFF_H1_INPUT_H

#include "http/h1_chunk.h"
#include "puff/http.h"

enum puff_h1_framing { PUFF_H1_NO_BODY, PUFF_H1_LENGTH, PUFF_H1_CHUNKED, PUFF_H1_CHUNKED_END };

typedef struct puff_h1_input {
    puff_buf
        keep; /* owned; when not borrowed, body and raw point into it and raw ends at its len */
    char *body, *raw;
    size_t n_body, n_raw;
    uint64_t left; /* PUFF_H1_LENGTH: of the body, bytes not yet consumed */
    uint64_t n_body_in, max_body;
    puff_h1_chunked chunked;
    int refused; /* the HTTP status for what is wrong with the body; 0: nothing */
    bool borrowed;
    bool finished; /* no more bytes will come */
    uint8_t framing;
} puff_h1_input;

/* max: the most that is ever kept. */
void puff_h1_input_init(puff_h1_input *in, const puff_alloc *a, size_t max);
void puff_h1_input_deinit(puff_h1_input *in);

static inline size_t puff_h1_input_unread(const puff_h1_input *in) {
    return in->n_body + in->n_raw;
}

/* Where the next read should go, behind what is kept. NULL: anywhere. */
char *puff_h1_input_room(puff_h1_input *in, size_t *cap);
/* n bytes have come, into room or elsewhere (then they are borrowed until puff_h1_input_save).
 * PUFF_ENOMEM, PUFF_ELIMIT. */
int puff_h1_input_add(puff_h1_input *in, char *buf, size_t n);
/* Keeps what is borrowed and unread; frees the buffer when nothing is. PUFF_ENOMEM, PUFF_ELIMIT. */
int puff_h1_input_save(puff_h1_input *in);
void puff_h1_input_clear(puff_h1_input *in);
/* Drops n raw bytes: a head. */
void puff_h1_input_skip_raw(puff_h1_input *in, size_t n);

/* The raw bytes begin with a body. max: of its length when chunked, 0: none. */
void puff_h1_input_begin_body(puff_h1_input *in, bool chunked, uint64_t length, uint64_t max);
/* As puff_http_request_read(); GONE also sets refused unless the reason is that the peer finished.
 */
enum puff_http_body puff_h1_input_peek(puff_h1_input *in, puff_str *out);
void puff_h1_input_consume(puff_h1_input *in, size_t n);
/* The end of the body is among the bytes seen so far. */
bool puff_h1_input_body_arrived(const puff_h1_input *in);

#endif
