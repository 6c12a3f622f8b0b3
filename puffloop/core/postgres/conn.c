/* conn.c - from a DSN to a connection in pipeline mode, without blocking the loop.
 *
 *   open -> (names: resolve) -> PQconnectStartParams -> PQconnectPoll ...
 *        -> pipeline mode -> on_open
 *
 * Every step of PQconnectPoll may close the socket and open another (the next host, TLS refused),
 * often under the same number. So the poll handle is thrown away before each step and made anew
 * after it: one that is kept would watch a descriptor that the kernel has forgotten. libpq's
 * connect_timeout is not its asynchronous half's business: the timer is ours.
 */
#include "conn.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "result.h"

static void drop_poll(puff__pg_conn *c) {
    if (c->poll) puff_poll_free(c->poll);
    c->poll = NULL;
}

void puff__pg_conn_close(puff__pg_conn *c) {
    c->open = false;
    puff_timer_stop(&c->timer);
    puff_defer_cancel(&c->report);
    if (c->resolve) puff__pg_resolve_cancel(c->resolve);
    c->resolve = NULL;
    drop_poll(c);
    if (c->pg) PQfinish(c->pg);
    c->pg = NULL;
}

static void fail(puff__pg_conn *c, puff_err err) {
    puff__pg_conn_close(c);
    c->cbs->on_open(c, &err);
}

static void fail_code(puff__pg_conn *c, int code) {
    puff_err err;
    puff_err_set(&err, code, PUFF_DOMAIN_POSTGRES, "cannot connect to Postgres: %s",
                 puff_err_text(code));
    fail(c, err);
}

/* SQLSTATE class 28 is invalid authorization; libpq itself fails when a password is asked for and
 * none was given. */
static void fail_pg(puff__pg_conn *c) {
    puff_err err;
    puff__pg_error_of_conn(&err, PUFF_ECONNECT, PQerrorMessage(c->pg));
    if (strncmp(err.sqlstate, "28", 2) == 0 || PQconnectionNeedsPassword(c->pg))
        err.code = PUFF_EAUTH;
    fail(c, err);
}

static void on_timeout(puff_timer *t) {
    puff__pg_conn *c = PUFF_CONTAINER_OF(t, puff__pg_conn, timer);
    puff_err err;
    const char *host = c->pg ? PQhost(c->pg) : NULL;
    puff_err_set(&err, PUFF_ECONNECT, PUFF_DOMAIN_POSTGRES,
                 "cannot connect to Postgres%s%s: no answer in %llu ms",
                 host && *host ? " at " : "", host ? host : "", (unsigned long long)c->timeout_ms);
    fail(c, err);
}

/* Notices go nowhere yet. An error outside of any query is the server's last word before it closes.
 */
static void on_notice(void *arg, const PGresult *res) {
    puff__pg_conn *c = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!severity || (strcmp(severity, "FATAL") != 0 && strcmp(severity, "PANIC") != 0)) return;
    puff_pg_error said;
    puff__pg_error_of_result(&said, res);
    c->farewell = said.err;
}

static void on_poll(puff_poll *p, int status, int events);

static int watch_socket(puff__pg_conn *c, int events) {
    int rc = puff_poll_new(&c->poll, c->loop, PQsocket(c->pg), on_poll, c);
    return rc ? rc : puff_poll_set(c->poll, events);
}

static void enter_pipeline(puff__pg_conn *c) {
    puff_timer_stop(&c->timer);
    PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
    if (PQsetnonblocking(c->pg, 1) != 0 || !PQenterPipelineMode(c->pg)) {
        fail_pg(c);
        return;
    }
    int rc = watch_socket(c, PUFF_READABLE);
    if (rc) {
        fail_code(c, rc);
        return;
    }
    c->open = true;
    c->cbs->on_open(c, NULL);
}

static void step(puff__pg_conn *c) {
    drop_poll(c);
    PostgresPollingStatusType next = PQconnectPoll(c->pg);
    if (next == PGRES_POLLING_OK) {
        enter_pipeline(c);
    } else if (next == PGRES_POLLING_FAILED) {
        fail_pg(c);
    } else {
        int rc = watch_socket(c, next == PGRES_POLLING_READING ? PUFF_READABLE : PUFF_WRITABLE);
        if (rc) fail_code(c, rc);
    }
}

static void on_poll(puff_poll *p, int status, int events) {
    puff__pg_conn *c = puff_poll_data(p);
    if (!c->open) {
        step(c);
        return;
    }
    c->cbs->on_ready(c, status ? PUFF_READABLE | PUFF_DISCONNECT : events);
}

static void on_report(puff_defer *d) {
    puff__pg_conn *c = PUFF_CONTAINER_OF(d, puff__pg_conn, report);
    fail(c, c->err);
}

static void fail_later(puff__pg_conn *c, int code) {
    puff_err_set(&c->err, code, PUFF_DOMAIN_POSTGRES, "cannot connect to Postgres: %s",
                 puff_err_text(code));
    puff_loop_defer(c->loop, &c->report);
}

/* VERBOSE puts the SQLSTATE of a refusal into the message; libpq has no other way to tell it. */
static void connect_to(puff__pg_conn *c, const puff__pg_hosts *hosts) {
    c->pg = puff__pg_conninfo_start(c->info, hosts);
    if (!c->pg) {
        fail_later(c, PUFF_ENOMEM);
        return;
    }
    PQsetNoticeReceiver(c->pg, on_notice, c);
    PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        puff__pg_error_of_conn(&c->err, PUFF_ECONNECT, PQerrorMessage(c->pg));
        puff_loop_defer(c->loop, &c->report);
        return;
    }
    int rc = watch_socket(c, PUFF_WRITABLE);
    if (rc) fail_later(c, rc);
}

static void on_resolved(void *arg, const puff__pg_hosts *hosts, const puff_err *err) {
    puff__pg_conn *c = arg;
    puff__pg_hosts owned = *hosts;
    c->resolve = NULL;
    if (err)
        fail(c, *err);
    else
        connect_to(c, &owned);
    puff__pg_hosts_deinit(&owned, puff_loop_alloc(c->loop));
}

void puff__pg_conn_open(puff__pg_conn *c, puff_loop *loop, const puff__pg_conninfo *info,
                        uint64_t timeout_ms, const puff__pg_conn_cbs *cbs) {
    *c = (puff__pg_conn){.loop = loop, .info = info, .cbs = cbs, .timeout_ms = timeout_ms};
    puff_timer_init(&c->timer, loop, on_timeout);
    puff_defer_init(&c->report, on_report);
    int rc = timeout_ms == PUFF_PG_NEVER ? 0 : puff_timer_start(&c->timer, timeout_ms);
    if (rc) {
        fail_later(c, rc);
        return;
    }
    if (!puff__pg_conninfo_has_names(info)) {
        connect_to(c, &(puff__pg_hosts){0});
        return;
    }
    rc = puff__pg_resolve_start(&c->resolve, loop, info, on_resolved, c);
    if (rc) fail_later(c, rc);
}

/* PQfinish() says Terminate, and a TLS connection its farewell: both would end the parent's
 * session. So a socket that leads nowhere takes the descriptor's place. The poll goes first: the
 * kernel would go on watching the parent's. */
void puff__pg_conn_forked(puff__pg_conn *c) {
    int fd = c->pg ? PQsocket(c->pg) : -1;
    if (c->poll) puff_poll_set(c->poll, 0);
    if (fd < 0) return;
    int nowhere = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (nowhere < 0 || dup3(nowhere, fd, O_CLOEXEC) < 0) close(fd);
    if (nowhere >= 0) close(nowhere);
}

int puff__pg_conn_watch(puff__pg_conn *c, int events) { return puff_poll_set(c->poll, events); }

/* ---- cancel requests ----------------------------------------------------------------------- */

struct puff__pg_cancel {
    const puff_alloc *alloc; /* borrowed; outlives us */
    PGcancel *handle;        /* owned: a copy of what is needed, apart from the connection */
    void (*done)(void *arg); /* NULL once detached */
    void *arg;
};

/* On a thread. What goes wrong changes nothing: the query then runs to its end. */
static void send_cancel(void *arg) {
    puff__pg_cancel *k = arg;
    char why[256];
    PQcancel(k->handle, why, sizeof why);
}

static void free_cancel(puff__pg_cancel *k) {
    PQfreeCancel(k->handle);
    puff_free(k->alloc, k);
}

static void on_cancel_sent(void *arg, int status) {
    puff__pg_cancel *k = arg;
    if (k->done) k->done(k->arg);
    free_cancel(k);
}

int puff__pg_conn_cancel(puff__pg_cancel **out, puff__pg_conn *c, void (*done)(void *arg),
                         void *arg) {
    const puff_alloc *alloc = puff_loop_alloc(c->loop);
    puff__pg_cancel *k = puff_calloc(alloc, 1, sizeof *k);
    if (!k) return PUFF_ENOMEM;
    *k = (puff__pg_cancel){.alloc = alloc, .handle = PQgetCancel(c->pg), .done = done, .arg = arg};
    int rc =
        k->handle ? puff_work_submit(c->loop, send_cancel, on_cancel_sent, k, NULL) : PUFF_ENOMEM;
    if (rc)
        free_cancel(k);
    else
        *out = k;
    return rc;
}

void puff__pg_cancel_detach(puff__pg_cancel *k) { k->done = NULL; }
