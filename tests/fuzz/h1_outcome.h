/* h1_outcome.h - what an HTTP/1 message came to, as text that two readers of it can be compared by.
 *
 *     M method
 *     T target
 *     V 1.1
 *     F name: value      in order, names in lower case; Host is "-" when the target overrides it
 *     B body             decoded
 *     N offset of the byte after the message
 */
#ifndef H1_OUTCOME_H
#define H1_OUTCOME_H

#include "puff/base.h"

enum outcome_kind { OUTCOME_MORE, OUTCOME_DONE, OUTCOME_REFUSED };

typedef struct outcome {
    enum outcome_kind kind;
    int status;      /* of a refusal */
    const char *why; /* for people */
    puff_buf text;   /* when done */
} outcome;

void outcome_init(outcome *o);
void outcome_deinit(outcome *o);
/* One line: a letter, then the parts. */
void outcome_line(outcome *o, char letter, const char *a, size_t alen, const char *b, size_t blen);

/* Our own reading: bytes arrive in pieces of first, then of step bytes, each in a block of its own
 * of exactly that size, so that a sanitizer sees a look beyond it. */
void outcome_ours(outcome *o, const uint8_t *data, size_t len, size_t first, size_t step);

#endif
