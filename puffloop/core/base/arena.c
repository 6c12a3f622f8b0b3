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

void puff_arena_init(puff_arena *a, const puff_alloc *alloc, size_t max) {
    *a = (puff_arena){.max = max, .alloc = alloc};
}

static void free_blocks(puff_arena *a, puff_arena_block *b) {
    while (b) {
        puff_arena_block *next = b->next;
        puff_free(a->alloc, b);
        b = next;
    }
}

void puff_arena_deinit(puff_arena *a) {
    free_blocks(a, a->head);
    a->head = NULL;
    a->used = 0;
}

static puff_arena_block *add_block(puff_arena *a, size_t size) {
    size_t cap = size > BLOCK - sizeof(puff_arena_block) ? size : BLOCK - sizeof(puff_arena_block);
    puff_arena_block *b = puff_malloc(a->alloc, sizeof *b + cap);
    if (!b) return NULL;
    b->used = 0;
    b->cap = cap;
    b->next = a->head;
    a->head = b;
    return b;
}

void *puff_arena_alloc(puff_arena *a, size_t size) {
    if (size > a->max - a->used) return NULL; /* also what would overflow below */
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
    char *p = puff_arena_alloc(a, len + 1);
    if (!p) return NULL;
    if (len) memcpy(p, data, len);
    p[len] = '\0';
    return p;
}

void puff_arena_reset(puff_arena *a) {
    puff_arena_block *b = a->head;
    a->used = 0;
    if (!b) return;
    free_blocks(a, b->next);
    b->next = NULL;
    b->used = 0;
}
