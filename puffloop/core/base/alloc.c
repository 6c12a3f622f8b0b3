/* alloc.c - the allocator that every loop carries, and one that fails on demand for tests. */
#include <stdlib.h>
#include <string.h>

#include "puff/base.h"

static void *system_resize(void *ctx, void *ptr, size_t size) {
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

const puff_alloc puff_alloc_system = {system_resize, NULL};

void *puff_malloc(const puff_alloc *a, size_t size) {
    return a->resize(a->ctx, NULL, size ? size : 1);
}

void *puff_calloc(const puff_alloc *a, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size) return NULL;
    void *p = puff_malloc(a, n * size);
    if (p) memset(p, 0, n * size);
    return p;
}

void *puff_realloc(const puff_alloc *a, void *ptr, size_t size) {
    return a->resize(a->ctx, ptr, size ? size : 1);
}

void puff_free(const puff_alloc *a, void *ptr) {
    if (ptr) a->resize(a->ctx, ptr, 0);
}

char *puff_strndup(const puff_alloc *a, const char *s, size_t len) {
    char *p = puff_malloc(a, len + 1);
    if (!p) return NULL;
    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

static void *failing_resize(void *ctx, void *ptr, size_t size) {
    puff_alloc_failing *f = ctx;
    if (size == 0) {
        if (ptr) f->n_live--;
        return system_resize(NULL, ptr, 0);
    }
    if (++f->n_calls == f->fail_at) return NULL;
    void *p = system_resize(NULL, ptr, size);
    if (p && !ptr) f->n_live++;
    return p;
}

void puff_alloc_failing_init(puff_alloc_failing *f, size_t fail_at) {
    *f = (puff_alloc_failing){.alloc = {failing_resize, f}, .fail_at = fail_at};
}
