/* buf.c - a growable byte buffer with a ceiling. Invariant: len <= cap <= max. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "puff/base.h"

enum { MIN_CAP = 256 };

void puff_buf_init(puff_buf *b, const puff_alloc *a, size_t max) {
    *b = (puff_buf){.max = max, .alloc = a};
}

void puff_buf_deinit(puff_buf *b) {
    puff_free(b->alloc, b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

int puff_buf_reserve(puff_buf *b, size_t n) {
    if (n > b->max - b->len) return PUFF_ELIMIT;
    size_t need = b->len + n;
    if (need <= b->cap) return 0;
    size_t cap = b->cap > b->max / 2 ? b->max : b->cap * 2; /* doubling, never past the ceiling */
    if (cap < need) cap = need;
    if (cap < MIN_CAP) cap = MIN_CAP < b->max ? MIN_CAP : b->max;
    char *p = puff_realloc(b->alloc, b->data, cap);
    if (!p) return PUFF_ENOMEM;
    b->data = p;
    b->cap = cap;
    return 0;
}

int puff_buf_append(puff_buf *b, const void *data, size_t n) {
    if (n == 0) return 0;
    int rc = puff_buf_reserve(b, n);
    if (rc) return rc;
    memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

int puff_buf_printf(puff_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    int rc = n < 0 ? PUFF_EARG : puff_buf_reserve(b, (size_t)n + 1);
    if (rc == 0) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

void puff_buf_consume(puff_buf *b, size_t n) {
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

void puff_buf_reset(puff_buf *b, size_t keep) {
    b->len = 0;
    if (b->cap > keep) puff_buf_deinit(b);
}
