/* Connections that cannot be made, or do not last: what callers are told, and when it is tried
 * again. */
#include "fake.h"

static void open_bed(bed *b, const char *dsn, uint64_t connect_timeout_ms) {
    bed_open(b, &(puff_pg_pool_options){.dsn = dsn,
                                        .connect_timeout_ms = connect_timeout_ms,
                                        .backoff_min_ms = 1,
                                        .backoff_max_ms = 20});
}

static void expect(const char *dsn, int code, const char *sqlstate, const char *text) {
    bed b;
    ask a = {.order = NULL};
    open_bed(&b, dsn, 5000);
    ask_run(&b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, code);
    CHECK_EQ_STR(a.sqlstate, sqlstate);
    if (!strstr(a.msg, text)) CHECK_FAIL("\"%s\" does not say \"%s\"", a.msg, text);
    CHECK(!strchr(a.msg, '\n'));
    CHECK(!a.maybe_executed);
    bed_close(&b, 0);
}

/* A pool needs a loop before it has a fake to talk to. */
typedef struct faked {
    bed b;
    fake f;
} faked;

static void open_faked(faked *t, puff_str answer, bool hang_up, uint64_t connect_timeout_ms) {
    puff_err err;
    *t = (faked){.f = {.answer = answer, .hang_up = hang_up}};
    puff_alloc_failing_init(&t->b.alloc, 0);
    puff_loop_options lo = {.size = sizeof lo, .alloc = &t->b.alloc.alloc};
    CHECK_EQ_INT(puff_loop_new(&t->b.loop, &lo, &err), 0);
    fake_open(&t->f, t->b.loop);
    puff_pg_pool_options o = {.size = sizeof o,
                              .dsn = t->f.dsn,
                              .connect_timeout_ms = connect_timeout_ms,
                              .queue_timeout_ms = 200,
                              .backoff_min_ms = 1,
                              .backoff_max_ms = 20};
    CHECK_EQ_INT(puff_pg_pool_new(&t->b.pool, t->b.loop, &o, &err), 0);
}

static void close_faked(faked *t) {
    fake_close(&t->f);
    bed_close(&t->b, 0);
}

static void on_closed(void *arg) { *(bool *)arg = true; }

TEST(test_bad_dsn_is_refused_at_once) {
    puff_loop *loop;
    puff_pg_pool *pool;
    puff_err err;
    CHECK_EQ_INT(puff_loop_new(&loop, NULL, &err), 0);
    puff_pg_pool_options o = {.size = sizeof o, .dsn = "hots=x"};
    CHECK_EQ_INT(puff_pg_pool_new(&pool, loop, &o, &err), PUFF_EARG);
    CHECK_EQ_STR(err.msg, "bad Postgres DSN: invalid connection option \"hots\"");
    o.dsn = "postgresql://localhost:port/x";
    CHECK_EQ_INT(puff_pg_pool_new(&pool, loop, &o, &err),
                 0); /* libpq looks at it when it connects */
    bool closed = false;
    puff_pg_pool_close(pool, 0, on_closed, &closed);
    while (!closed) puff_loop_turn(loop, true);
    puff_loop_free(loop);
}

TEST(test_bad_options_are_refused) {
    puff_loop *loop;
    puff_pg_pool *pool;
    puff_err err;
    CHECK_EQ_INT(puff_loop_new(&loop, NULL, &err), 0);
    puff_pg_pool_options o = {.size = sizeof o, .n_lanes_min = 3, .n_lanes_max = 2};
    CHECK_EQ_INT(puff_pg_pool_new(&pool, loop, &o, &err), PUFF_EARG);
    CHECK_EQ_STR(err.msg, "bad option of a Postgres pool: n_lanes_min: 1 to n_lanes_max");
    o = (puff_pg_pool_options){.size = sizeof o, .n_lanes_max = 65};
    CHECK_EQ_INT(puff_pg_pool_new(&pool, loop, &o, &err), PUFF_EARG);
    puff_loop_free(loop);
}

TEST(test_port_that_nobody_listens_on) {
    faked t;
    open_faked(&t, (puff_str){"", 0}, false, 5000);
    char dsn[128];
    snprintf(dsn, sizeof dsn, "%s", t.f.dsn);
    close_faked(&t); /* the port is free now */
    expect(dsn, PUFF_ECONNECT, "", "Connection refused");
}

TEST(test_socket_that_is_not_there) {
    expect("host=/nonexistent port=1", PUFF_ECONNECT, "", "No such file or directory");
}

TEST(test_port_that_is_no_number) { expect("host=/tmp port=x", PUFF_ECONNECT, "", "port"); }

TEST(test_host_without_an_address) {
    expect("host=no.such.host.invalid", PUFF_ECONNECT, "",
           "cannot resolve host \"no.such.host.invalid\"");
}

TEST(test_host_names_are_resolved_and_one_of_several_is_enough) {
    bed b;
    ask a = {.order = NULL};
    faked t; /* whose port refuses */
    open_faked(&t, fake_error("28P01", "no"), true, 5000);
    char both[256];
    snprintf(both, sizeof both,
             "host=no.such.host.invalid,localhost port=1,%d user=x sslmode=disable",
             puff_listener_port(t.f.listener));
    bed_open(&b, &(puff_pg_pool_options){.dsn = both});
    ask_submit(&b, &a, "select 1", 0);
    while (!a.done) {
        puff_loop_turn(b.loop, false);
        puff_loop_turn(t.b.loop, false);
    }
    CHECK_EQ_STR(a.sqlstate, "28P01");
    bed_close(&b, 0);
    close_faked(&t);
}

TEST(test_missing_database) {
    expect(server_dsn_with("dbname=puff_no_such_database"), PUFF_ECONNECT, "3D000",
           "database \"puff_no_such_database\" does not exist");
}

TEST(test_wrong_password) {
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, fake_error("28P01", "password authentication failed for user \"x\""), true,
               5000);
    ask_run(&t.b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, PUFF_EAUTH);
    CHECK_EQ_STR(a.sqlstate, "28P01");
    CHECK(strstr(a.msg, "FATAL: password authentication failed for user \"x\""));
    CHECK(!strstr(a.msg, "secret"));
    CHECK(!strstr(a.msg, "LOCATION"));
    close_faked(&t);
}

TEST(test_password_that_is_not_there) {
    static const char ask_clear_text[] = {'R', 0, 0, 0, 8, 0, 0, 0, 3};
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, (puff_str){ask_clear_text, sizeof ask_clear_text}, false, 5000);
    bed b;
    char dsn[128];
    snprintf(dsn, sizeof dsn, "host=127.0.0.1 port=%d user=x sslmode=disable passfile=/nonexistent",
             puff_listener_port(t.f.listener));
    bed_open(&b, &(puff_pg_pool_options){.dsn = dsn});
    ask_submit(&b, &a, "select 1", 0);
    while (!a.done) {
        puff_loop_turn(b.loop, false);
        puff_loop_turn(t.b.loop, false);
    }
    CHECK_EQ_INT(a.code, PUFF_EAUTH);
    CHECK(strstr(a.msg, "no password supplied"));
    bed_close(&b, 0);
    close_faked(&t);
}

TEST(test_server_that_never_answers) {
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, (puff_str){"", 0}, false, 50);
    ask_run(&t.b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, PUFF_ECONNECT);
    CHECK_EQ_STR(a.msg, "cannot connect to Postgres at 127.0.0.1: no answer in 50 ms");
    close_faked(&t);
}

TEST(test_server_that_answers_nonsense) {
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, PUFF_STR("HTTP/1.1 400 Bad Request\r\n\r\n"), false, 5000);
    ask_run(&t.b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, PUFF_ECONNECT);
    close_faked(&t);
}

TEST(test_while_the_server_starts_queries_wait) {
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, fake_error("57P03", "the database system is starting up"), true, 5000);
    ask_run(&t.b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, PUFF_ETIMEOUT);
    CHECK(strstr(a.msg, "last attempt to connect: "));
    CHECK(strstr(a.msg, "starting up"));
    CHECK(t.f.n_accepted > 2);
    close_faked(&t);
}

/* With a back-off of 1, 2, 4 ... 20 ms, half of it random, 200 ms have room for 10 to 30 attempts.
 */
TEST(test_attempts_back_off_and_all_who_wait_are_told) {
    faked t;
    ask a[3] = {{.order = NULL}};
    open_faked(&t, (puff_str){"", 0}, true, 5000);
    for (int i = 0; i < 3; i++) ask_submit(&t.b, &a[i], "select 1", 0);
    for (int i = 0; i < 3; i++) bed_until(&t.b, &a[i].done);
    for (int i = 0; i < 3; i++) CHECK_EQ_INT(a[i].code, PUFF_ECONNECT);
    CHECK_EQ_INT(bed_stats(&t.b).n_connect_failures, 1);
    uint64_t end = puff_now_ns() + 200000000;
    while (puff_now_ns() < end)
        puff_loop_turn(t.b.loop, true); /* it goes on without anybody waiting */
    CHECK(t.f.n_accepted >= 5);
    CHECK(t.f.n_accepted <= 40);
    close_faked(&t);
}

/* AuthenticationOk and ReadyForQuery, and then it is gone: each time. */
TEST(test_connections_that_do_not_last_are_not_made_in_a_tight_circle) {
    static const char ok[] = {'R', 0, 0, 0, 8, 0, 0, 0, 0, 'Z', 0, 0, 0, 5, 'I'};
    faked t;
    ask a = {.order = NULL};
    open_faked(&t, (puff_str){ok, sizeof ok}, true, 5000);
    ask_submit(&t.b, &a, "select 1", 0);
    uint64_t end = puff_now_ns() + 200000000;
    while (puff_now_ns() < end) puff_loop_turn(t.b.loop, true);
    CHECK(t.f.n_accepted >= 5);
    CHECK(t.f.n_accepted <= 60);
    bed_until(&t.b, &a.done);
    CHECK_EQ_INT(a.code, PUFF_ETIMEOUT);
    close_faked(&t);
}

TEST(test_close_while_a_name_is_resolved) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.dsn = "host=no.such.host.invalid"});
    ask_submit(&b, &a, "select 1", 0);
    puff_loop_turn(b.loop, false);
    puff_pg_pool_close(b.pool, 0, bed_on_closed, &b);
    bed_until(&b, &b.closed);
    CHECK(a.code == PUFF_ECLOSED || a.code == PUFF_ECONNECT);
    while (puff_loop_turn(b.loop, true) > 0) continue; /* the look-up ends on its thread */
    bed_free(&b);
}

RUN_TESTS;
