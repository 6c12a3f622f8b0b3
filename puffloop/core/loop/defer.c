/* defer.c - jobs that run once at the end of a turn. */
#include "loop.h"

void puff_defer_init(puff_defer *d, void (*run)(puff_defer *self)) {
    puff_queue_init(&d->node);
    d->run = run;
}

void puff_loop_defer(puff_loop *loop, puff_defer *d) {
    if (!puff_queue_empty(&d->node)) return;
    puff_queue_push(&loop->deferred, &d->node);
    if (loop->sleeping) puff_loop_wake(loop); /* another thread, which has the host's lock */
}

void puff_defer_cancel(puff_defer *d) { puff_queue_remove(&d->node); }

/* A job may defer itself or others again: those wait for the next flush, so that this one ends. */
void puff_loop_flush(puff_loop *loop) {
    if (puff_queue_empty(&loop->deferred)) return;
    loop->n_quiet = 0; /* what is sent may be answered at once */
    puff_queue batch, *node;
    puff_queue_init(&batch);
    puff_queue_splice(&batch, &loop->deferred);
    while ((node = puff_queue_pop(&batch)) != NULL) {
        puff_defer *d = PUFF_CONTAINER_OF(node, puff_defer, node);
        d->run(d);
    }
}
