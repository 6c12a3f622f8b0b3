/* conninfo.c - a DSN for libpq, with our defaults around it.
 *
 * libpq takes the last of several values for a keyword, so the order is: our defaults, what the DSN
 * says, the resolved hosts, and what we depend on.
 */
#include "conninfo.h"

#include <stdlib.h>
#include <string.h>

int puff__pg_conninfo_init(puff__pg_conninfo *ci, const char *dsn, puff_err *err) {
    char *why = NULL;
    *ci = (puff__pg_conninfo){0};
    ci->options = PQconninfoParse(dsn ? dsn : "", &why);
    if (!ci->options) {
        int code = why ? PUFF_EARG : PUFF_ENOMEM;
        size_t len = why ? strcspn(why, "\n") : 0;
        puff_err_set(err, code, PUFF_DOMAIN_POSTGRES, "bad Postgres DSN: %.*s", (int)len,
                     why ? why : "");
        PQfreemem(why);
        return code;
    }
    for (const PQconninfoOption *o = ci->options; o->keyword; o++)
        if (o->val && strcmp(o->keyword, "connect_timeout") == 0)
            ci->connect_timeout_ms = strtoul(o->val, NULL, 10) * 1000;
    return 0;
}

void puff__pg_conninfo_deinit(puff__pg_conninfo *ci) { PQconninfoFree(ci->options); }

void puff__pg_hosts_deinit(puff__pg_hosts *h, const puff_alloc *alloc) {
    puff_free(alloc, h->host);
    puff_free(alloc, h->hostaddr);
    puff_free(alloc, h->port);
    *h = (puff__pg_hosts){0};
}

static const struct {
    const char *keyword, *value;
} defaults[] = {
    {"fallback_application_name", "puff"},
    {"gssencmode",
     "disable"}, /* a round trip, and a ticket lookup that blocks, for what few have */
    {"keepalives_idle", "30"},    /* a peer that is gone without a word is noticed within */
    {"keepalives_interval", "5"}, /* 45 seconds when nothing is on its way, */
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "30000"}, /* and within 30 when something is */
};

enum { N_DEFAULTS = sizeof defaults / sizeof *defaults, MAX_KEYWORDS = 128 };

typedef struct keywords {
    const char *keywords[MAX_KEYWORDS], *values[MAX_KEYWORDS];
    int n;
} keywords;

static void put(keywords *k, const char *keyword, const char *value) {
    if (!value || k->n == MAX_KEYWORDS - 1) return;
    k->keywords[k->n] = keyword;
    k->values[k->n++] = value;
}

PGconn *puff__pg_conninfo_start(const puff__pg_conninfo *ci, const puff__pg_hosts *hosts) {
    keywords k = {.n = 0};
    for (int i = 0; i < N_DEFAULTS; i++) put(&k, defaults[i].keyword, defaults[i].value);
    for (const PQconninfoOption *o = ci->options; o->keyword; o++) put(&k, o->keyword, o->val);
    put(&k, "host", hosts->host);
    put(&k, "hostaddr", hosts->hostaddr);
    put(&k, "port", hosts->port);
    put(&k, "client_encoding", "UTF8"); /* SQL, names and text values are UTF-8 on our side */
    k.keywords[k.n] = k.values[k.n] = NULL;
    return PQconnectStartParams(k.keywords, k.values, 0);
}
