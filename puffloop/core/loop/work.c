/* work.c - jobs on libuv's thread pool. */
#include "loop.h"

struct puff_work {
    uv_work_t uv;
    puff_loop *loop; /* borrowed; outlives us */
    void (*work)(void *arg);
    void (*done)(void *arg, int status);
    void *arg;
};

static void run(uv_work_t *uv) {
    puff_work *w = PUFF_CONTAINER_OF(uv, puff_work, uv);
    w->work(w->arg);
}

static void on_done(uv_work_t *uv, int status) {
    puff_work *w = PUFF_CONTAINER_OF(uv, puff_work, uv);
    puff_loop *loop = w->loop;
    puff__loop_enter(loop);
    w->done(w->arg, status);
    puff_free(loop->alloc, w);
}

int puff_work_submit(puff_loop *loop, void (*work)(void *arg), void (*done)(void *arg, int status),
                     void *arg, puff_work **out) {
    puff_work *w = puff_calloc(loop->alloc, 1, sizeof *w);
    if (!w) return PUFF_ENOMEM;
    w->loop = loop;
    w->work = work;
    w->done = done;
    w->arg = arg;
    int rc = uv_queue_work(&loop->uv, &w->uv, run, on_done);
    if (rc) {
        puff_free(loop->alloc, w);
        return rc;
    }
    if (out) *out = w;
    return 0;
}

int puff_work_cancel(puff_work *work) { return uv_cancel((uv_req_t *)&work->uv); }
