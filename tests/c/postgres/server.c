#include "server.h"

#include <libpq-fe.h>

const char *server_dsn(void) {
    const char *dsn = getenv("PUFF_TEST_POSTGRES");
    if (!dsn || !*dsn) {
        printf("PUFF_TEST_POSTGRES is not set\n");
        exit(77);
    }
    return dsn;
}

static void append(char *out, size_t cap, const char *keyword, const char *value) {
    size_t len = strlen(out);
    snprintf(out + len, cap - len, "%s='%s' ", keyword, value);
}

const char *server_dsn_with(const char *keywords) {
    static char out[1024];
    PQconninfoOption *options = PQconninfoParse(server_dsn(), NULL);
    CHECK(options);
    out[0] = '\0';
    for (PQconninfoOption *o = options; o->keyword; o++)
        if (o->val) append(out, sizeof out, o->keyword, o->val);
    PQconninfoFree(options);
    strncat(out, keywords, sizeof out - strlen(out) - 1);
    return out;
}

void bed_open(bed *b, const puff_pg_pool_options *opts) {
    puff_pg_pool_options o = opts ? *opts : (puff_pg_pool_options){.n_lanes_max = 2};
    o.size = sizeof o;
    if (!o.dsn) o.dsn = server_dsn();
    *b = (bed){.pool = NULL};
    puff_alloc_failing_init(&b->alloc, 0);
    puff_loop_options lo = {.size = sizeof lo, .alloc = &b->alloc.alloc};
    puff_err err;
    CHECK_EQ_INT(puff_loop_new(&b->loop, &lo, &err), 0);
    if (puff_pg_pool_new(&b->pool, b->loop, &o, &err) != 0) CHECK_FAIL("%s", err.msg);
}

void bed_on_closed(void *arg) { ((bed *)arg)->closed = true; }

void bed_free(bed *b) {
    puff_loop_free(b->loop);
    CHECK_EQ_INT(b->alloc.n_live, 0);
}

void bed_close(bed *b, uint64_t drain_ms) {
    puff_pg_pool_close(b->pool, drain_ms, bed_on_closed, b);
    CHECK(!b->closed);
    bed_until(b, &b->closed);
    bed_free(b);
}

static void on_wake(puff_timer *t) { (void)t; }

void bed_until(bed *b, const bool *flag) {
    puff_timer wake; /* so that a turn without events ends */
    uint64_t end = puff_now_ns() + 20000000000u;
    puff_timer_init(&wake, b->loop, on_wake);
    CHECK_EQ_INT(puff_timer_start_at(&wake, end + 1000000), 0);
    while (!*flag) {
        CHECK(puff_now_ns() < end);
        puff_loop_turn(b->loop, true);
    }
    puff_timer_stop(&wake);
}

puff_pg_pool_stats bed_stats(bed *b) {
    puff_pg_pool_stats stats;
    puff_pg_pool_get_stats(b->pool, &stats);
    return stats;
}

static void note_result(ask *a, puff_pg_result *res) {
    a->n_rows = puff_pg_result_n_rows(res);
    a->n_columns = puff_pg_result_n_columns(res);
    a->affected = puff_pg_result_affected(res);
    a->format = puff_pg_result_format(res);
    snprintf(a->tag, sizeof a->tag, "%s", puff_pg_result_tag(res));
    if (!a->n_rows || !a->n_columns) return;
    puff_pg_cell cell = puff_pg_result_cell(res, 0, 0);
    a->len = cell.len;
    if (cell.len > 0 && cell.len < (int)sizeof a->text) memcpy(a->text, cell.ptr, (size_t)cell.len);
}

static void on_done(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    ask *a = q->data;
    CHECK((res != NULL) != (err != NULL));
    a->done = true;
    a->n_done++;
    if (a->order) a->place = (*a->order)++;
    if (res) {
        note_result(a, res);
        return;
    }
    a->code = err->err.code;
    a->maybe_executed = err->maybe_executed;
    memcpy(a->sqlstate, err->err.sqlstate, sizeof a->sqlstate);
    memcpy(a->msg, err->err.msg, sizeof a->msg);
}

void ask_submit(bed *b, ask *a, const char *sql, int n_params) {
    puff_pg_query_init(&a->q);
    a->done = false;
    a->n_done = a->code = 0;
    a->q.sql = sql;
    a->q.sql_len = strlen(sql);
    a->q.params = a->params;
    a->q.n_params = n_params;
    a->q.timeout_ms = a->timeout_ms;
    a->q.on_done = on_done;
    a->q.data = a;
    puff_pg_submit(b->pool, &a->q);
    CHECK(!a->done);
}

void ask_run(bed *b, ask *a, const char *sql, int n_params) {
    ask_submit(b, a, sql, n_params);
    bed_until(b, &a->done);
}

void must_run(bed *b, const char *sql) {
    ask a = {.order = NULL};
    ask_run(b, &a, sql, 0);
    if (a.code) CHECK_FAIL("%s: %s", sql, a.msg);
}

puff_pg_param text_param(const char *s) {
    return (puff_pg_param){.data = s, .len = (int32_t)strlen(s), .format = 0};
}

puff_pg_param int4_param(char bytes[4], int32_t v) {
    for (int i = 3; i >= 0; i--, v >>= 8) bytes[i] = (char)(v & 0xff);
    return (puff_pg_param){.data = bytes, .len = 4, .format = 1, .oid = 23};
}
