/* guard.h - a buffer that ends where memory ends, so that a parser that looks one byte too far
 * dies. */
#ifndef GUARD_H
#define GUARD_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guard {
    char *base, *end; /* [base, end) is usable, end is PROT_NONE */
    size_t len;       /* the bytes are [end - len, end) */
} guard;

static inline void guard_init(guard *g, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size + page - 1) / page * page;
    g->base = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->base == MAP_FAILED || mprotect(g->base + size, page, PROT_NONE) != 0) abort();
    g->end = g->base + size;
    g->len = 0;
}

static inline void guard_deinit(guard *g) {
    munmap(g->base, (size_t)(g->end - g->base) + (size_t)sysconf(_SC_PAGESIZE));
}

static inline char *guard_data(const guard *g) { return g->end - g->len; }

/* Appends, moving what is there: parsers hold offsets, not pointers, across calls. */
static inline void guard_append(guard *g, const char *data, size_t n) {
    memmove(g->end - g->len - n, g->end - g->len, g->len);
    memcpy(g->end - n, data, n);
    g->len += n;
}

#endif
