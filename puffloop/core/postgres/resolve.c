/* resolve.c - looks up the host names of a DSN on a thread, because libpq's own lookup blocks.
 *
 * libpq walks through three lists in step: host (for TLS and .pgpass), hostaddr (where to connect)
 * and port. A name with two addresses becomes two entries; sockets in the file system and numeric
 * hosts stay as they are:
 *
 *   host=db,/run/pg port=5432   ->   host=db,db,/run/pg  hostaddr=10.0.0.1,10.0.0.2,
 * port=5432,5432,5432
 *
 * Names are resolved one after the other. One that cannot be is left out while another one can. Not
 * covered: hosts out of a service file (service=...), which libpq looks up itself, blocking for
 * that long.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "conninfo.h"

enum { MAX_LIST = 16 * 1024 }; /* of each list: a zone with hundreds of addresses is a mistake */

struct puff__pg_resolve {
    puff_loop *loop;        /* borrowed; outlives us */
    puff__pg_resolve_cb cb; /* NULL once cancelled */
    void *arg;
    puff_dns *dns;
    puff_buf host, hostaddr, port; /* what has been found so far */
    const char *next_host,
        *next_port;              /* in the DSN's lists (borrowed; they outlive us); NULL: done */
    puff_str name, port_of_name; /* what is being looked up */
    int n_found;
    bool no_memory;
    puff_err err; /* of the name that failed last */
};

static const char *value_of(const PQconninfoOption *options, const char *keyword) {
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0) return o->val;
    return NULL;
}

/* As libpq would take it: from the DSN, else from its environment. */
static const char *list_of(const puff__pg_conninfo *ci, const char *keyword, const char *variable) {
    const char *value = value_of(ci->options, keyword);
    if (!value) value = getenv(variable);
    return value && *value ? value : NULL;
}

static puff_str next_item(const char **at) {
    const char *p = *at;
    size_t len = strcspn(p, ",");
    *at = p[len] ? p + len + 1 : NULL;
    return (puff_str){p, len};
}

static bool is_name(puff_str host) {
    char text[INET6_ADDRSTRLEN + 32];
    unsigned char addr[sizeof(struct in6_addr)];
    if (host.len == 0 || *host.ptr == '/' || *host.ptr == '@') return false;
    if (host.len >= sizeof text) return true;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    text[strcspn(text, "%")] = '\0'; /* fe80::1%eth0 */
    return inet_pton(AF_INET, text, addr) != 1 && inet_pton(AF_INET6, text, addr) != 1;
}

static bool list_has_names(const char *hosts) {
    while (hosts)
        if (is_name(next_item(&hosts))) return true;
    return false;
}

bool puff__pg_conninfo_has_names(const puff__pg_conninfo *ci) {
    const char *hostaddr = value_of(ci->options, "hostaddr");
    if (!hostaddr) hostaddr = getenv("PGHOSTADDR");
    if ((hostaddr && *hostaddr) || value_of(ci->options, "service")) return false;
    return list_has_names(list_of(ci, "host", "PGHOST"));
}

static void free_resolve(puff__pg_resolve *r) {
    puff_buf_deinit(&r->host);
    puff_buf_deinit(&r->hostaddr);
    puff_buf_deinit(&r->port);
    puff_free(puff_loop_alloc(r->loop), r);
}

static int append_item(puff_buf *list, bool first, const char *item, size_t len) {
    int rc = first ? 0 : puff_buf_append(list, ",", 1);
    return rc ? rc : puff_buf_append(list, item, len);
}

static void add(puff__pg_resolve *r, const char *addr) {
    bool first = r->n_found++ == 0;
    if (append_item(&r->host, first, r->name.ptr, r->name.len) != 0 ||
        append_item(&r->hostaddr, first, addr, strlen(addr)) != 0 ||
        append_item(&r->port, first, r->port_of_name.ptr, r->port_of_name.len) != 0)
        r->no_memory = true;
}

/* One port stands for every host. */
static void take_next(puff__pg_resolve *r) {
    r->name = next_item(&r->next_host);
    if (r->next_port) r->port_of_name = next_item(&r->next_port);
}

static char *take_list(puff_buf *b) {
    if (puff_buf_append(b, "", 1) != 0) return NULL;
    char *list = b->data;
    b->data = NULL; /* now the callee's; the buffer is deinitialized right after */
    b->len = b->cap = 0;
    return list;
}

static void finish(puff__pg_resolve *r) {
    puff__pg_hosts hosts = {0};
    const puff_err *err = &r->err;
    if (r->no_memory) {
        puff_err_set(&r->err, PUFF_ENOMEM, PUFF_DOMAIN_POSTGRES,
                     "out of memory for host addresses");
    } else if (r->n_found) {
        hosts = (puff__pg_hosts){take_list(&r->host), take_list(&r->hostaddr), take_list(&r->port)};
        err = NULL;
    }
    r->cb(r->arg, &hosts, err);
    free_resolve(r);
}

static void resolve_next(puff__pg_resolve *r);

static void add_addresses(puff__pg_resolve *r, const struct addrinfo *list) {
    char text[NI_MAXHOST];
    for (; list; list = list->ai_next)
        if (getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0,
                        NI_NUMERICHOST) == 0)
            add(r, text);
}

static void on_resolved(void *arg, int status, struct addrinfo *list) {
    puff__pg_resolve *r = arg;
    r->dns = NULL;
    if (!r->cb) {
        puff_dns_free(list);
        free_resolve(r);
        return;
    }
    if (status) {
        puff_err_set(&r->err, PUFF_ECONNECT, PUFF_DOMAIN_POSTGRES,
                     "cannot resolve host \"%.*s\": %s", (int)r->name.len, r->name.ptr,
                     uv_strerror(status));
    } else {
        add_addresses(r, list);
        puff_dns_free(list);
    }
    resolve_next(r);
}

static int look_up(puff__pg_resolve *r) {
    const puff_alloc *alloc = puff_loop_alloc(r->loop);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char *name = puff_strndup(alloc, r->name.ptr, r->name.len);
    if (!name) return PUFF_ENOMEM;
    int rc = puff_dns_resolve(&r->dns, r->loop, name, NULL, &hints, on_resolved, r);
    puff_free(alloc, name);
    return rc;
}

static void resolve_next(puff__pg_resolve *r) {
    while (r->next_host) {
        take_next(r);
        if (!is_name(r->name)) {
            add(r, "");
            continue;
        }
        int rc = look_up(r);
        if (rc == 0) return;
        puff_err_set(&r->err, rc, PUFF_DOMAIN_POSTGRES, "cannot resolve host \"%.*s\": %s",
                     (int)r->name.len, r->name.ptr, puff_err_text(rc));
    }
    finish(r);
}

/* The first name is looked up here, so that finish() never runs before this has returned. There is
 * one: puff__pg_conninfo_has_names() has said so. */
static int start_first(puff__pg_resolve *r) {
    for (take_next(r); !is_name(r->name); take_next(r)) add(r, "");
    return look_up(r);
}

int puff__pg_resolve_start(puff__pg_resolve **out, puff_loop *loop, const puff__pg_conninfo *ci,
                           puff__pg_resolve_cb cb, void *arg) {
    const puff_alloc *alloc = puff_loop_alloc(loop);
    puff__pg_resolve *r = puff_calloc(alloc, 1, sizeof *r);
    if (!r) return PUFF_ENOMEM;
    r->loop = loop;
    r->cb = cb;
    r->arg = arg;
    puff_buf_init(&r->host, alloc, MAX_LIST);
    puff_buf_init(&r->hostaddr, alloc, MAX_LIST);
    puff_buf_init(&r->port, alloc, MAX_LIST);
    r->next_host = list_of(ci, "host", "PGHOST");
    r->next_port = list_of(ci, "port", "PGPORT");
    int rc = start_first(r);
    if (rc) {
        free_resolve(r);
        return rc;
    }
    *out = r;
    return 0;
}

void puff__pg_resolve_cancel(puff__pg_resolve *r) {
    r->cb = NULL;
    puff_dns_cancel(r->dns);
}
