/* dns.c - getaddrinfo on the loop's threads.
 *
 * A thread that is in getaddrinfo() cannot be stopped. What it needs, the query, has memory of its own
 * and is left to it when nobody wants the answer any more; so neither a cancelled question nor the end
 * of the loop waits for a name server.
 */
#include "loop.h"

#include <netdb.h>
#include <string.h>

typedef struct query {
    puff__job job;
    puff_dns *dns; /* borrowed; the loop's thread's */
    struct addrinfo hints, *res;
    int rc;        /* EAI_* */
    char *service; /* behind host, or NULL */
    char host[];
} query;

struct puff_dns {
    puff_loop *loop; /* borrowed; outlives us */
    query *q;        /* owned, unless a thread has it; NULL: cancelled */
    puff_dns_cb cb;
    void *arg;
    puff__closer closer;
    puff_defer cancelled;
};

/* libuv's numbers, which know no system. */
static int error_of(int eai) {
    switch (eai) {
    case 0: return 0;
    case EAI_AGAIN: return UV_EAI_AGAIN;
    case EAI_BADFLAGS: return UV_EAI_BADFLAGS;
    case EAI_FAIL: return UV_EAI_FAIL;
    case EAI_FAMILY: return UV_EAI_FAMILY;
    case EAI_MEMORY: return UV_EAI_MEMORY;
    case EAI_NONAME: return UV_EAI_NONAME;
    case EAI_OVERFLOW: return UV_EAI_OVERFLOW;
    case EAI_SERVICE: return UV_EAI_SERVICE;
    case EAI_SOCKTYPE: return UV_EAI_SOCKTYPE;
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY: return UV_EAI_ADDRFAMILY;
#endif
#ifdef EAI_NODATA
    case EAI_NODATA: return UV_EAI_NODATA;
#endif
    default: return UV_EAI_FAIL;
    }
}

/* ---- the query ------------------------------------------------------------------------------- */

static void run_query(puff__job *job) {
    query *q = PUFF_CONTAINER_OF(job, query, job);
    q->rc = getaddrinfo(q->host, q->service, &q->hints, &q->res);
    if (q->rc != 0) q->res = NULL;
}

static void drop_query(puff__job *job) {
    query *q = PUFF_CONTAINER_OF(job, query, job);
    if (q->res) freeaddrinfo(q->res);
    puff_free(&puff_alloc_system, q);
}

static void on_resolved(puff__job *job, int status);

/* The memory is the system's: it may outlive the loop and the loop's allocator. */
static query *query_new(const char *host, const char *service, const struct addrinfo *hints) {
    size_t host_len = strlen(host) + 1, service_len = service ? strlen(service) + 1 : 0;
    query *q = puff_calloc(&puff_alloc_system, 1, sizeof *q + host_len + service_len);
    if (!q) return NULL;
    puff__job_init(&q->job, run_query, on_resolved, drop_query);
    memcpy(q->host, host, host_len);
    if (service) q->service = memcpy(q->host + host_len, service, service_len);
    if (hints) q->hints = *hints;
    return q;
}

/* ---- the question ---------------------------------------------------------------------------- */

static void let_go(puff_dns *d) {
    if (d->q && puff__job_leave(&d->q->job)) drop_query(&d->q->job);
    d->q = NULL;
}

/* The end: the answer, once. */
static void answer(puff_dns *d, int status, struct addrinfo *res) {
    puff_loop *loop = d->loop;
    puff_queue_remove(&d->closer.node);
    d->cb(d->arg, status, res);
    puff_defer_cancel(&d->cancelled); /* of a cancel by the callback itself */
    puff_free(loop->alloc, d);
}

/* status: UV_ECANCELED of what a forked child has lost. What the thread was writing then is unknown. */
static void on_resolved(puff__job *job, int status) {
    query *q = PUFF_CONTAINER_OF(job, query, job);
    puff_dns *d = q->dns;
    struct addrinfo *res = status ? NULL : q->res;
    if (status == 0) status = error_of(q->rc);
    puff_free(&puff_alloc_system, q);
    d->q = NULL;
    answer(d, status, res);
}

static void on_cancelled(puff_defer *defer) {
    answer(PUFF_CONTAINER_OF(defer, puff_dns, cancelled), UV_ECANCELED, NULL);
}

static void on_loop_end(puff__closer *closer) {
    puff_dns *d = PUFF_CONTAINER_OF(closer, puff_dns, closer);
    puff_defer_cancel(&d->cancelled);
    let_go(d);
    answer(d, UV_ECANCELED, NULL);
}

int puff_dns_resolve(puff_dns **out, puff_loop *loop, const char *host, const char *service,
                     const struct addrinfo *hints, puff_dns_cb cb, void *arg) {
    if (loop->freeing) return UV_ECANCELED;
    puff_dns *d = puff_calloc(loop->alloc, 1, sizeof *d);
    if (!d) return PUFF_ENOMEM;
    d->loop = loop;
    d->cb = cb;
    d->arg = arg;
    d->closer.close = on_loop_end;
    puff_defer_init(&d->cancelled, on_cancelled);
    d->q = query_new(host, service, hints);
    int rc = d->q ? puff__job_submit(loop, &d->q->job) : PUFF_ENOMEM;
    if (rc) goto fail;
    d->q->dns = d;
    puff_queue_push(&loop->closers, &d->closer.node);
    if (out) *out = d;
    return 0;

fail:
    puff_free(&puff_alloc_system, d->q);
    puff_free(loop->alloc, d);
    return rc;
}

void puff_dns_cancel(puff_dns *d) {
    let_go(d);
    puff_loop_defer(d->loop, &d->cancelled);
}

void puff__dns_abandon(puff_dns *d) {
    let_go(d);
    puff_defer_cancel(&d->cancelled);
    puff_queue_remove(&d->closer.node);
    puff_free(d->loop->alloc, d);
}

void puff_dns_free(struct addrinfo *res) {
    if (res) freeaddrinfo(res);
}
