/* counted.c - see counted.h. The GIL is held in all of it; a loop's count is its thread's. */
#include "counted.h"

typedef struct counter {
    puff_alloc_failing memory;
    struct counter *next; /* among those of loops that have ended */
} counter;

static bool counting;
static counter *ended;

void puff_counted_begin(void) { counting = true; }

const puff_alloc *puff_counted_new(void) {
    counter *c = counting ? puff_malloc(&puff_alloc_system, sizeof *c) : NULL;
    if (!c) return NULL;
    puff_alloc_failing_init(&c->memory, 0);
    return &c->memory.alloc;
}

void puff_counted_close(const puff_alloc *alloc) {
    if (!alloc || alloc->resize == puff_alloc_system.resize) return;
    counter *c = PUFF_CONTAINER_OF(alloc, counter, memory.alloc);
    if (c->memory.n_live == 0) {
        puff_free(&puff_alloc_system, c);
        return;
    }
    c->next = ended;
    ended = c;
}

size_t puff_counted_left(void) {
    size_t n = 0;
    for (counter **at = &ended; *at;) {
        counter *c = *at;
        n += c->memory.n_live;
        if (c->memory.n_live) {
            at = &c->next;
            continue;
        }
        *at = c->next; /* nobody has anything of it: nobody will ask it for more */
        puff_free(&puff_alloc_system, c);
    }
    return n;
}
