/* arena.c - bump allocation, freed at once.
 *
 *   head -> [block | used.....|free...] -> [block | full] -> [block | full]
 */
#include <string.h>

#include "puff/base.h"

enum { ALIGN = 16, BLOCK = 4096 - 64 }; /* a block and malloc's own word stay within a page */

struct puff_arena_block {
    puff_arena_block *next;
    size_t used, cap;
    _Alignas(ALIGN) char data[];
};

#define BLOCK_CAP (BLOCK - sizeof(puff_arena_block))
/* Beyond any block: what is rounded up and gets a head must not overflow. */
#define SIZE_LIMIT (SIZE_MAX / 2)

void puff_arena_init(puff_arena *a, const puff_alloc *alloc, size_t max) {
    *a = (puff_arena){.max = max, .alloc = alloc};
}

void puff_arena_deinit(puff_arena *a) {
    for (puff_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        puff_free(a->alloc, b);
    }
    a->head = NULL;
    a->used = 0;
}

static puff_arena_block *add_block(puff_arena *a, size_t size) {
    size_t cap = size > BLOCK_CAP ? size : BLOCK_CAP;
    puff_arena_block *b = puff_malloc(a->alloc, sizeof *b + cap);
    if (!b) return NULL;
    b->used = 0;
    b->cap = cap;
    b->next = a->head;
    a->head = b;
    return b;
}

void *puff_arena_alloc(puff_arena *a, size_t size) {
    if (size > SIZE_LIMIT) return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size > a->max - a->used) return NULL;
    puff_arena_block *b = a->head;
    if (!b || size > b->cap - b->used) b = add_block(a, size);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += size;
    a->used += size;
    return p;
}

char *puff_arena_dup(puff_arena *a, const void *data, size_t len) {
    char *p = len < SIZE_MAX ? puff_arena_alloc(a, len + 1) : NULL;
    if (!p) return NULL;
    if (len) memcpy(p, data, len);
    p[len] = '\0';
    return p;
}

/* Keeps a block of the usual size, if there is one: a great block was for one great request. */
void puff_arena_reset(puff_arena *a) {
    puff_arena_block *kept = NULL, *next;
    for (puff_arena_block *b = a->head; b; b = next) {
        next = b->next;
        if (!kept && b->cap == BLOCK_CAP)
            kept = b;
        else
            puff_free(a->alloc, b);
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    a->head = kept;
    a->used = 0;
}
