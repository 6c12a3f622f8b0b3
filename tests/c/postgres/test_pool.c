/* Many queries, several lanes: order, cancel, timeouts, loss, close. The pool's inside is looked at
 * where the outside cannot tell. */
#include <signal.h>
#include <sys/socket.h>

#include "postgres/pool.h"
#include "server.h"

static void until_all(bed *b, ask *asks, int n) {
    for (int i = 0; i < n; i++) bed_until(b, &asks[i].done);
}

static void kill_all_lanes(const char *application) {
    PGconn *pg = PQconnectdb(server_dsn());
    char sql[160];
    snprintf(sql, sizeof sql,
             "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name "
             "= '%s'",
             application);
    PGresult *res = PQexec(pg, sql);
    CHECK_EQ_INT(PQresultStatus(res), PGRES_TUPLES_OK);
    CHECK(PQntuples(res) > 0);
    PQclear(res);
    PQfinish(pg);
}

/* A statement that runs until a lock of ours is given up: no sleeping. */
static PGconn *hold_lock(int key) {
    PGconn *pg = PQconnectdb(server_dsn());
    char sql[64];
    snprintf(sql, sizeof sql, "select pg_advisory_lock(%d)", key);
    PQclear(PQexec(pg, sql));
    return pg;
}
static const char wait_for_lock[] = "select pg_advisory_xact_lock_shared($1::int4)";

static void until_blocked(int key, bed *b) {
    PGconn *pg = PQconnectdb(server_dsn());
    char sql[128];
    snprintf(sql, sizeof sql,
             "select 1 from pg_locks where locktype = 'advisory' and not granted and objid = %d",
             key);
    for (int n = 0, i = 0; n == 0 && i < 100000; i++) {
        puff_loop_turn(b->loop, false);
        PGresult *res = PQexec(pg, sql);
        n = PQntuples(res);
        PQclear(res);
    }
    PQfinish(pg);
}

enum { CROWD = 200 };

/* One after the other, until the pool knows the query to be quick, then all at once. */
static void submit_crowd(bed *b, ask *asks, char bytes[CROWD][4], int *order) {
    memset(asks, 0, CROWD * sizeof *asks);
    for (int i = 0; i < 40; i++) {
        asks[0].params[0] = int4_param(bytes[0], i);
        ask_run(b, &asks[0], "select $1::int4", 1);
    }
    for (int i = 0; i < CROWD; i++) {
        asks[i].order = order;
        asks[i].params[0] = int4_param(bytes[i], i);
        ask_submit(b, &asks[i], "select $1::int4", 1);
    }
}

TEST(test_queries_of_one_turn_share_lanes_and_answer_in_order) {
    enum { N = CROWD };
    static ask asks[N];
    static char bytes[N][4];
    bed b;
    int order = 0;
    uint64_t n_flushes = 0;
    puff_pg_pool_stats stats;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 2});
    for (int i = 0; i < 100; i++) { /* on a loaded box it is not quick at once */
        if (i) until_all(&b, asks, N);
        submit_crowd(&b, asks, bytes, &order);
        stats = bed_stats(&b);
        if (stats.n_in_flight >= 10) break;
    }
    CHECK(stats.n_in_flight >= 10);
    n_flushes = stats.n_flushes;
    puff_loop_flush(b.loop);
    CHECK(bed_stats(&b).n_flushes - n_flushes <= 2); /* one for each lane */
    until_all(&b, asks, N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ_INT(asks[i].code, 0);
        CHECK_EQ_INT(puff_pg_get_int4(asks[i].text), i);
        CHECK_EQ_INT(asks[i].n_done, 1);
    }
    stats = bed_stats(&b);
    CHECK(stats.n_lanes <= 2);
    CHECK(stats.n_prepares <= 4);
    CHECK_EQ_INT(stats.n_in_flight, 0);
    bed_close(&b, 1000);
}

TEST(test_one_failing_query_does_not_touch_its_neighbours) {
    static ask asks[9];
    bed b;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < 9; i++)
        ask_submit(&b, &asks[i], i % 3 == 1 ? "select 1/(select 0)" : "select 1", 0);
    until_all(&b, asks, 9);
    for (int i = 0; i < 9; i++) CHECK_EQ_STR(asks[i].sqlstate, i % 3 == 1 ? "22012" : "");
    bed_close(&b, 1000);
}

TEST(test_cancel_before_it_is_written) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, NULL);
    ask_submit(&b, &a, "select 1", 0); /* no lane yet */
    puff_pg_query_cancel(&a.q);
    puff_pg_query_cancel(&a.q);
    CHECK(!a.done);
    bed_until(&b, &a.done);
    CHECK_EQ_INT(a.code, PUFF_ECANCELED);
    CHECK_EQ_STR(a.msg, "the query was cancelled");
    CHECK(!a.maybe_executed);
    must_run(&b, "select 1");
    CHECK_EQ_INT(a.n_done, 1);
    bed_close(&b, 1000);
}

TEST(test_cancel_after_it_is_written_drops_the_answer_and_keeps_the_order) {
    static ask asks[6];
    bed b;
    char bytes[6][4];
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "create table if not exists puff_cancel (id int)");
    must_run(&b, "truncate puff_cancel");
    memset(asks, 0, sizeof asks);
    const char *sql = "insert into puff_cancel values ($1::int4) returning id";
    asks[0].params[0] = int4_param(bytes[0], 0);
    ask_run(&b, &asks[0], sql, 1); /* now it is described: the next ones are written at once */
    for (int i = 1; i < 6; i++) {
        asks[i].params[0] = int4_param(bytes[i], i);
        ask_submit(&b, &asks[i], sql, 1);
    }
    puff_pg_query_cancel(&asks[2].q);
    puff_pg_query_cancel(&asks[4].q);
    until_all(&b, asks, 6);
    int n_run = 1;
    for (int i = 1; i < 6; i++) {
        CHECK_EQ_INT(asks[i].code, i % 2 ? 0 : PUFF_ECANCELED);
        n_run += asks[i].code == 0 || asks[i].maybe_executed;
        if (i % 2) CHECK_EQ_INT(puff_pg_get_int4(asks[i].text), i);
    }
    ask count = {.order = NULL};
    ask_run(&b, &count, "select count(*)::int4 from puff_cancel", 0);
    CHECK_EQ_INT(puff_pg_get_int4(count.text), n_run); /* the wire has not changed */
    CHECK_EQ_INT(bed_stats(&b).n_cancel_requests, 0);
    for (int i = 1; i < 6; i++) CHECK_EQ_INT(asks[i].n_done, 1);
    must_run(&b, "drop table puff_cancel");
    bed_close(&b, 1000);
}

TEST(test_timeout_cancels_on_the_server_what_runs_there) {
    bed b;
    char bytes[4];
    static ask behind[5];
    PGconn *holder = hold_lock(77);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "select 'behind'");
    ask late = {.params = {int4_param(bytes, 77)}, .timeout_ms = 300};
    ask_submit(&b, &late, wait_for_lock, 1);
    until_blocked(77, &b);
    memset(behind, 0, sizeof behind);
    for (int i = 0; i < 5; i++) ask_submit(&b, &behind[i], "select 'behind'", 0);
    bed_until(&b, &late.done);
    CHECK_EQ_INT(late.code, PUFF_ETIMEOUT);
    CHECK_EQ_STR(late.msg, "no answer in 300 ms");
    CHECK(late.maybe_executed);
    until_all(&b, behind, 5);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ_INT(behind[i].code, 0);
        CHECK_EQ_STR(behind[i].text, "behind");
    }
    CHECK_EQ_INT(late.n_done, 1);
    CHECK_EQ_INT(bed_stats(&b).n_cancel_requests, 1);
    CHECK_EQ_INT(bed_stats(&b).n_timeouts, 1);
    CHECK_EQ_INT(bed_stats(&b).n_lanes_lost, 0);
    PQfinish(holder);
    bed_close(&b, 1000);
}

TEST(test_timeout_of_a_query_behind_another_sends_no_cancel) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(78);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "select 'behind'");
    ask head = {.params = {int4_param(bytes, 1)}}, late = {.timeout_ms = 30};
    ask_run(&b, &head, wait_for_lock, 1); /* nobody holds 1: now it is known */
    head.params[0] = int4_param(bytes, 78);
    ask_submit(&b, &head, wait_for_lock, 1);
    ask_submit(&b, &late, "select 'behind'", 0);
    bed_until(&b, &late.done);
    CHECK_EQ_INT(late.code, PUFF_ETIMEOUT);
    CHECK(!head.done);
    PQfinish(holder);
    bed_until(&b, &head.done);
    CHECK_EQ_INT(head.code, 0);
    CHECK_EQ_INT(bed_stats(&b).n_cancel_requests, 0);
    bed_close(&b, 1000);
}

/* Stops the server's process of this connection: a child of the one that listens on our Unix
 * socket. A number that another machine or container gave is no process of ours. */
static bool stop_backend(PGconn *pg) {
    struct ucred peer = {.pid = 0};
    socklen_t len = sizeof peer;
    char path[64];
    int parent = -1;
    snprintf(path, sizeof path, "/proc/%d/stat", PQbackendPID(pg));
    FILE *stat = fopen(path, "r");
    if (!stat) return false;
    if (fscanf(stat, "%*d (%*[^)]) %*c %d", &parent) != 1) parent = -1;
    fclose(stat);
    if (getsockopt(PQsocket(pg), SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) return false;
    return peer.pid > 0 && peer.pid == parent && kill(PQbackendPID(pg), SIGSTOP) == 0;
}

/* A backend that is stopped answers nothing, as one behind a dead network. Only where we may stop
 * it. */
TEST(test_a_lane_that_does_not_answer_a_cancel_is_given_up) {
    bed b;
    ask late = {.timeout_ms = 20}, behind = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "select 'x'");
    PGconn *pg = b.pool->lanes[0].conn.pg;
    int pid = PQbackendPID(pg);
    if (stop_backend(pg)) {
        b.pool->lanes[0].grace_ms = 20;
        ask_submit(&b, &late, "select 'x'", 0);
        ask_submit(&b, &behind, "select 'x'", 0);
        bed_until(&b, &late.done);
        CHECK_EQ_INT(late.code, PUFF_ETIMEOUT);
        bed_until(&b, &behind.done);
        CHECK_EQ_INT(behind.code, PUFF_ECLOSED);
        CHECK(strstr(behind.msg, "did not answer a cancel request in 20 ms"));
        must_run(&b, "select 'x'");
        kill(pid, SIGCONT);
    }
    bed_close(&b, 1000);
}

TEST(test_waiting_too_long_for_a_lane_says_who_has_them) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(79);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .max_depth = 1, .queue_timeout_ms = 40});
    must_run(&b, "select 1");
    ask head = {.params = {int4_param(bytes, 79)}}, late = {.order = NULL};
    ask_submit(&b, &head, wait_for_lock, 1);
    ask_submit(&b, &late, "select 1", 0);
    bed_until(&b, &late.done);
    CHECK_EQ_INT(late.code, PUFF_ETIMEOUT);
    CHECK(strstr(late.msg, "waited 40 ms for a Postgres connection: 1 open, 1 queries on them"));
    CHECK(!late.maybe_executed);
    PQfinish(holder);
    bed_until(&b, &head.done);
    bed_close(&b, 1000);
}

TEST(test_too_many_waiting_is_refused) {
    static ask asks[12];
    bed b;
    int n_refused = 0;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .max_waiting = 10});
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < 12; i++) ask_submit(&b, &asks[i], "select 1", 0);
    until_all(&b, asks, 12);
    for (int i = 0; i < 12; i++) n_refused += asks[i].code == PUFF_ELIMIT;
    CHECK_EQ_INT(n_refused, 2);
    CHECK_EQ_STR(asks[11].msg, "10 queries wait for a Postgres connection already");
    bed_close(&b, 1000);
}

TEST(test_nobody_is_put_behind_a_statement_that_runs_long) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(80);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 2});
    must_run(&b, "select 'quick'");
    ask slow = {.params = {int4_param(bytes, 80)}}, quick = {.order = NULL};
    ask_submit(&b, &slow, wait_for_lock, 1);
    until_blocked(80, &b);
    for (uint64_t end = puff_now_ns() + 6000000; puff_now_ns() < end;)
        puff_loop_turn(b.loop, false);
    ask_run(&b, &quick, "select 'quick'", 0); /* opens a second lane */
    CHECK_EQ_INT(quick.code, 0);
    CHECK(!slow.done);
    CHECK_EQ_INT(bed_stats(&b).n_lanes, 2);
    PQfinish(holder);
    bed_until(&b, &slow.done);
    bed_close(&b, 1000);
}

TEST(test_a_lane_with_a_transaction_left_open_is_rolled_back_and_replaced) {
    bed b;
    ask begin = {.order = NULL}, victim = {.order = NULL}, count = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "create table if not exists puff_taint (id int)");
    must_run(&b, "truncate puff_taint");
    must_run(&b, "insert into puff_taint values (1)");
    b.pool->unchecked = true;
    ask_run(&b, &begin, "begin", 0);
    CHECK_EQ_INT(begin.code, PUFF_EARG);
    CHECK(strstr(begin.msg, "use transaction()"));
    ask_submit(&b, &begin, "begin", 0); /* described by now: the next rides behind it */
    ask_submit(&b, &victim, "insert into puff_taint values (1)", 0);
    bed_until(&b, &victim.done);
    bed_until(&b, &begin.done);
    CHECK_EQ_INT(begin.code, PUFF_EARG);
    ask_run(&b, &count, "select count(*)::int4 from puff_taint", 0);
    CHECK_EQ_INT(puff_pg_get_int4(count.text), victim.code ? 1 : 2);
    CHECK_EQ_INT(bed_stats(&b).n_connects, 3);
    CHECK_EQ_INT(bed_stats(&b).n_lanes_lost, 0);
    must_run(&b, "drop table puff_taint");
    bed_close(&b, 1000);
}

TEST(test_copy_that_gets_through_costs_the_lane_and_nothing_hangs) {
    bed b;
    ask copy = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "select 1");
    b.pool->unchecked = true;
    ask_run(&b, &copy, "copy (select 1) to stdout", 0);
    CHECK(copy.code != 0);
    must_run(&b, "select 1");
    ask_run(&b, &copy, "copy pg_class from stdin", 0);
    CHECK(copy.code != 0);
    must_run(&b, "select 1");
    bed_close(&b, 1000);
}

/* ---- loss ---- */

static const char *named(const char *application) {
    char keywords[64];
    snprintf(keywords, sizeof keywords, "application_name='%s'", application);
    return server_dsn_with(keywords);
}

TEST(test_an_idle_lane_that_was_closed_is_replaced_silently) {
    bed b;
    bed_open(&b, &(puff_pg_pool_options){.dsn = named("puff_idle"), .n_lanes_max = 1});
    must_run(&b, "select 1");
    kill_all_lanes("puff_idle");
    puff_loop_turn(b.loop, false); /* the end of it is seen here */
    must_run(&b, "select 1");
    CHECK_EQ_INT(bed_stats(&b).n_lanes_lost, 1);
    CHECK_EQ_INT(bed_stats(&b).n_connects, 2);
    bed_close(&b, 1000);
}

TEST(test_a_lane_idle_for_long_is_looked_at_before_it_is_used) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.dsn = named("puff_stale"), .n_lanes_max = 1});
    must_run(&b, "select 1");
    kill_all_lanes("puff_stale");
    b.pool->lanes[0].last_ended_ns = 0; /* and no turn has seen its end */
    ask_run(&b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, 0);
    bed_close(&b, 1000);
}

TEST(test_loss_fails_what_was_written_and_sends_what_was_not) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(81);
    bed_open(&b,
             &(puff_pg_pool_options){.dsn = named("puff_loss"), .n_lanes_max = 1, .max_depth = 2});
    ask running = {.params = {int4_param(bytes, 81)}}, behind = {.order = NULL},
        queued = {.order = NULL};
    must_run(&b, "select 'q'");
    ask first = {.params = {int4_param(bytes, 1)}};
    ask_run(&b, &first, wait_for_lock, 1); /* nobody holds 1: now it is known */
    running.params[0] = int4_param(bytes, 81);
    ask_submit(&b, &running, wait_for_lock, 1);
    ask_submit(&b, &behind, "select 'q'", 0);
    ask_submit(&b, &queued, "select 'q'", 0);
    CHECK_EQ_INT(bed_stats(&b).n_waiting, 1);
    until_blocked(81, &b);
    kill_all_lanes("puff_loss");
    bed_until(&b, &running.done);
    CHECK_EQ_INT(running.code, PUFF_ECLOSED);
    CHECK_EQ_STR(running.sqlstate, "57P01");
    CHECK(running.maybe_executed);
    CHECK(strstr(running.msg, "it may have run: terminating connection"));
    bed_until(&b, &behind.done);
    CHECK_EQ_INT(behind.code, PUFF_ECLOSED);
    CHECK(behind.maybe_executed);
    bed_until(&b, &queued.done);
    CHECK_EQ_INT(queued.code, 0);
    CHECK_EQ_STR(queued.text, "q");
    PQfinish(holder);
    bed_close(&b, 1000);
}

TEST(test_loss_while_describing_is_not_seen) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.dsn = named("puff_describe"), .n_lanes_max = 1});
    must_run(&b, "select 1");
    ask_submit(&b, &a, "select 'new'", 0);
    kill_all_lanes("puff_describe"); /* before this loop has read the description */
    bed_until(&b, &a.done);
    CHECK(a.code == 0 || a.maybe_executed);
    must_run(&b, "select 'new'");
    bed_close(&b, 1000);
}

TEST(test_server_restart) {
    bed b;
    ask a = {.order = NULL};
    const char *restart =
        getenv("PUFF_TEST_POSTGRES_RESTART"); /* a command that returns when it is up */
    if (!restart) return;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 4, .n_lanes_min = 2});
    static ask asks[100];
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < 100; i++) ask_submit(&b, &asks[i], "select pg_sleep(0.02)", 0);
    bed_until(&b, &asks[5].done);
    CHECK_EQ_INT(system(restart), 0);
    until_all(&b, asks, 100);
    int n_ok = 0, n_lost = 0, n_refused = 0;
    for (int i = 0; i < 100; i++) {
        n_ok += asks[i].code == 0;
        n_lost += asks[i].code == PUFF_ECLOSED && asks[i].maybe_executed;
        n_refused += asks[i].code == PUFF_ECONNECT;
        CHECK_EQ_INT(asks[i].n_done, 1);
    }
    fprintf(stderr, "  %d ok, %d lost, %d refused\n", n_ok, n_lost, n_refused);
    CHECK_EQ_INT(n_ok + n_lost + n_refused, 100);
    CHECK(n_lost <= 20); /* not more than a few were written: they turned out to be slow */
    ask_run(&b, &a, "select 1", 0);
    CHECK_EQ_INT(a.code, 0);
    bed_close(&b, 1000);
}

/* ---- close ---- */

TEST(test_close_without_a_query_ever) {
    bed b;
    bed_open(&b, NULL);
    bed_close(&b, 0);
}

TEST(test_close_waits_for_what_runs_and_fails_what_waits) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(82);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .max_depth = 1});
    ask running = {.params = {int4_param(bytes, 82)}}, waits = {.order = NULL},
        after = {.order = NULL};
    ask_submit(&b, &running, wait_for_lock, 1);
    until_blocked(82, &b);
    ask_submit(&b, &waits, "select 1", 0);
    puff_pg_pool_close(b.pool, 10000, bed_on_closed, &b);
    ask_submit(&b, &after, "select 1", 0);
    bed_until(&b, &waits.done);
    CHECK_EQ_INT(waits.code, PUFF_ECLOSED);
    CHECK_EQ_STR(waits.msg, "the Postgres pool was closed");
    bed_until(&b, &after.done);
    CHECK_EQ_INT(after.code, PUFF_ECLOSED);
    CHECK(!b.closed && !running.done);
    PQfinish(holder);
    bed_until(&b, &b.closed);
    CHECK_EQ_INT(running.code, 0);
    bed_free(&b);
}

TEST(test_close_drops_what_does_not_end) {
    bed b;
    char bytes[4];
    PGconn *holder = hold_lock(83);
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    ask running = {.params = {int4_param(bytes, 83)}}, parked = {.order = NULL};
    ask_submit(&b, &running, wait_for_lock, 1);
    until_blocked(83, &b);
    ask_submit(&b, &parked, "select 'parked'", 0);
    bed_close(&b, 20);
    CHECK_EQ_INT(running.code, PUFF_ECLOSED);
    CHECK(running.maybe_executed);
    CHECK_EQ_INT(parked.code, PUFF_ECLOSED);
    CHECK(!parked.maybe_executed);
    PQfinish(holder);
}

TEST(test_close_while_connecting) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, NULL);
    ask_submit(&b, &a, "select 1", 0);
    bed_close(&b, 1000);
    CHECK_EQ_INT(a.code, PUFF_ECLOSED);
}

static void close_in_callback(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    puff_pg_pool_close(q->pool, 0, bed_on_closed, q->data);
}

TEST(test_close_in_a_callback_with_others_on_their_way) {
    static ask others[30];
    bed b;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 2});
    must_run(&b, "select 'x'");
    const char *sql = "select 'x'";
    puff_pg_query q = {
        .sql = sql, .sql_len = strlen(sql), .on_done = close_in_callback, .data = &b};
    memset(others, 0, sizeof others);
    for (int i = 0; i < 30; i++) {
        if (i == 2) puff_pg_submit(b.pool, &q);
        ask_submit(&b, &others[i], i % 3 ? sql : "select 'another'", 0);
    }
    bed_until(&b, &b.closed);
    for (int i = 0; i < 30; i++) {
        CHECK_EQ_INT(others[i].n_done, 1);
        CHECK(others[i].code == 0 || others[i].code == PUFF_ECLOSED);
    }
    bed_free(&b);
}

typedef struct chain {
    puff_pg_query q;
    puff_pg_query *victim;
    int left;
    bool done;
} chain;

static void on_link(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    chain *c = q->data;
    CHECK(res);
    if (c->victim) puff_pg_query_cancel(c->victim);
    c->victim = NULL;
    c->done = --c->left == 0;
    if (!c->done) puff_pg_submit(q->pool, q);
}

TEST(test_a_query_is_submitted_again_and_another_cancelled_in_its_callback) {
    bed b;
    ask victim = {.order = NULL};
    const char *sql = "select 1";
    chain c = {.q = {.sql = sql, .sql_len = 8, .on_done = on_link, .data = &c}, .left = 50};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, sql);
    c.victim = &victim.q;
    puff_pg_submit(b.pool, &c.q);
    ask_submit(&b, &victim, sql, 0);
    bed_until(&b, &c.done);
    bed_until(&b, &victim.done);
    CHECK_EQ_INT(victim.code, PUFF_ECANCELED);
    CHECK_EQ_INT(victim.n_done, 1);
    bed_close(&b, 1000);
}

/* Both sides would block, each writing to the other, if we did not read while we write. */
TEST(test_megabytes_both_ways_at_once_do_not_lock_up) {
    enum { N = 24, LEN = 1 << 20 };
    static ask asks[N];
    bed b;
    char *big = malloc(LEN + 1);
    memset(big, 'x', LEN);
    big[LEN] = '\0';
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 2});
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < N; i++) {
        asks[i].params[0] = text_param(big);
        ask_submit(&b, &asks[i], "select $1::text || 'y'", 1);
    }
    until_all(&b, asks, N);
    for (int i = 0; i < N; i++) CHECK_EQ_INT(asks[i].len, LEN + 1);
    bed_close(&b, 1000);
    free(big);
}

/* ---- memory ---- */

/* Every allocation of ours fails once: the query ends one way or the other, and nothing is left
 * behind. */
TEST(test_each_allocation_may_fail) {
    int n_failed = 0, n_ok = 0;
    for (size_t at = 1; at < 200; at++) {
        bed b;
        char bytes[4];
        ask a = {.params = {int4_param(bytes, 7)}};
        bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
        size_t before = b.alloc.n_calls;
        b.alloc.fail_at = before + at;
        ask_run(&b, &a, "select $1::int4", 1);
        bool reached = b.alloc.n_calls >= before + at;
        n_failed += a.code != 0;
        n_ok += a.code == 0;
        b.alloc.fail_at = 0;
        must_run(&b, "select 'again'");
        bed_close(&b, 1000);
        if (!reached) break;
    }
    CHECK(n_failed >= 3);
    CHECK(n_ok >= 1);
}

RUN_TESTS;
