/* dns.c - getaddrinfo on the work pool. */
#include "loop.h"

struct puff_dns {
    uv_getaddrinfo_t uv;
    puff_dns_cb cb; /* NULL: abandoned */
    void *arg;
    bool cancelled;
};

static void on_resolved(uv_getaddrinfo_t *uv, int status, struct addrinfo *res) {
    puff_dns *d = PUFF_CONTAINER_OF(uv, puff_dns, uv);
    puff_loop *loop = PUFF_CONTAINER_OF(uv->loop, puff_loop, uv);
    puff__loop_enter(loop);
    if (!d->cb || d->cancelled || status == UV_EAI_CANCELED) {
        if (status == 0) uv_freeaddrinfo(res);
        status = UV_ECANCELED;
        res = NULL;
    }
    if (d->cb) d->cb(d->arg, status, res);
    puff_free(loop->alloc, d);
}

int puff_dns_resolve(puff_dns **out, puff_loop *loop, const char *host, const char *service,
                     const struct addrinfo *hints, puff_dns_cb cb, void *arg) {
    puff_dns *d = puff_calloc(loop->alloc, 1, sizeof *d);
    if (!d) return PUFF_ENOMEM;
    d->cb = cb;
    d->arg = arg;
    int rc = uv_getaddrinfo(&loop->uv, &d->uv, on_resolved, host, service, hints);
    if (rc) {
        puff_free(loop->alloc, d);
        return rc;
    }
    if (out) *out = d;
    return 0;
}

/* A thread that is in getaddrinfo cannot be stopped; its answer is dropped. */
void puff_dns_cancel(puff_dns *d) {
    d->cancelled = true;
    uv_cancel((uv_req_t *)&d->uv);
}

void puff__dns_abandon(puff_dns *d) {
    d->cb = NULL;
    uv_cancel((uv_req_t *)&d->uv);
}

void puff_dns_free(struct addrinfo *res) { uv_freeaddrinfo(res); }
