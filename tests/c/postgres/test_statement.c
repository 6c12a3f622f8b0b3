/* What lanes share: a statement is described once, and what changes on the server is noticed on
 * each. */
#include "postgres/pool.h"
#include "server.h"

/* Two lanes that are both up. */
static void open_two(bed *b) {
    bed_open(b, &(puff_pg_pool_options){.n_lanes_min = 2, .n_lanes_max = 2});
    must_run(b, "select 1");
    while (bed_stats(b).n_lanes < 2) puff_loop_turn(b->loop, true);
}

/* Runs sql on that lane: the other one looks busy. */
static void run_on(bed *b, int lane, ask *a, const char *sql, int n_params) {
    puff__pg_lane *other = &b->pool->lanes[!lane];
    other->blocked = true;
    ask_run(b, a, sql, n_params);
    other->blocked = false;
}

TEST(test_the_second_lane_needs_no_description) {
    bed b;
    ask a = {.order = NULL};
    open_two(&b);
    run_on(&b, 0, &a, "select 'shared'", 0);
    uint64_t n_prepares = bed_stats(&b).n_prepares;
    uint64_t n_slots = b.pool->lanes[1].n_written;
    run_on(&b, 1, &a, "select 'shared'", 0);
    CHECK_EQ_STR(a.text, "shared");
    CHECK_EQ_INT(bed_stats(&b).n_prepares, n_prepares + 1);
    CHECK_EQ_INT(b.pool->lanes[1].n_written, n_slots + 1);
    bed_close(&b, 1000);
}

TEST(test_columns_that_changed_before_the_second_lane_prepared) {
    bed b;
    ask a = {.order = NULL};
    open_two(&b);
    must_run(&b, "drop table if exists puff_two");
    must_run(&b, "create table puff_two as select 1 as id");
    run_on(&b, 0, &a, "select * from puff_two", 0);
    CHECK_EQ_INT(a.n_columns, 1);
    must_run(&b, "alter table puff_two add name text");
    run_on(&b, 1, &a, "select * from puff_two", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.n_columns, 2);
    CHECK_EQ_INT(a.q.statement->n_columns, 2); /* still there: the cache holds it */
    run_on(&b, 0, &a, "select * from puff_two", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.n_columns, 2);
    must_run(&b, "drop table puff_two");
    bed_close(&b, 1000);
}

/* Parse with the known parameter types makes the server say so, instead of reading an int4 as a
 * float4. */
TEST(test_parameters_that_changed_before_the_second_lane_prepared) {
    bed b;
    ask a = {.params = {text_param("7")}};
    open_two(&b);
    must_run(&b, "drop table if exists puff_params");
    must_run(&b, "create table puff_params (id int)");
    const char *sql = "insert into puff_params values ($1) returning id::text";
    run_on(&b, 0, &a, sql, 1);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.q.statement->param_oids[0], 23);
    must_run(&b, "alter table puff_params alter id type uuid using null");
    a.params[0] = text_param("00000000-0000-0000-0000-000000000007");
    run_on(&b, 1, &a, sql, 1);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_STR(a.text, "00000000-0000-0000-0000-000000000007");
    CHECK_EQ_INT(a.q.statement->param_oids[0], 2950);
    run_on(&b, 0, &a, sql, 1);
    CHECK_EQ_INT(a.code, 0);
    must_run(&b, "drop table puff_params");
    bed_close(&b, 1000);
}

TEST(test_a_table_that_is_gone_is_an_error_on_each_lane) {
    bed b;
    ask a = {.order = NULL};
    open_two(&b);
    must_run(&b, "create table if not exists puff_gone ()");
    run_on(&b, 0, &a, "select count(*) from puff_gone", 0);
    CHECK_EQ_INT(a.code, 0);
    must_run(&b, "drop table puff_gone");
    for (int lane = 0; lane < 2; lane++) {
        run_on(&b, lane, &a, "select count(*) from puff_gone", 0);
        CHECK_EQ_STR(a.sqlstate, "42P01");
    }
    CHECK_EQ_INT(bed_stats(&b).n_lanes_lost, 0);
    bed_close(&b, 1000);
}

TEST(test_a_new_statement_of_many_callers_is_described_once) {
    static ask asks[50];
    bed b;
    open_two(&b);
    uint64_t n_prepares = bed_stats(&b).n_prepares;
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < 50; i++) ask_submit(&b, &asks[i], "select 'new'", 0);
    for (int i = 0; i < 50; i++) bed_until(&b, &asks[i].done);
    for (int i = 0; i < 50; i++) CHECK_EQ_STR(asks[i].text, "new");
    CHECK(bed_stats(&b).n_prepares - n_prepares <= 2); /* one for each lane */
    bed_close(&b, 1000);
}

TEST(test_an_error_in_a_new_statement_is_told_to_all_who_asked) {
    static ask asks[20];
    bed b;
    open_two(&b);
    memset(asks, 0, sizeof asks);
    for (int i = 0; i < 20; i++) ask_submit(&b, &asks[i], "select no_such_column", 0);
    puff_pg_query_cancel(&asks[7].q);
    for (int i = 0; i < 20; i++) bed_until(&b, &asks[i].done);
    for (int i = 0; i < 20; i++) CHECK_EQ_STR(asks[i].sqlstate, i == 7 ? "" : "42703");
    bed_close(&b, 1000);
}

TEST(test_a_statement_held_by_the_host_outlives_the_cache) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .statement_cache_size = 1});
    ask_run(&b, &a, "select 1 as kept", 0);
    puff_pg_statement *st = a.q.statement;
    puff_pg_statement_ref(st);
    must_run(&b, "select 2");
    must_run(&b, "select 3");
    CHECK_EQ_STR(st->columns[0].name, "kept");
    CHECK_EQ_STR(st->sql, "select 1 as kept");
    puff_pg_statement_unref(st);
    bed_close(&b, 1000);
}

TEST(test_many_texts_in_flight_with_a_small_cache) {
    enum { N = 100 };
    static ask asks[N];
    static char sql[N][32];
    bed b;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 2, .statement_cache_size = 3});
    memset(asks, 0, sizeof asks);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            snprintf(sql[i], sizeof sql[i], "select '%d'", i % 10);
            ask_submit(&b, &asks[i], sql[i], 0);
        }
        for (int i = 0; i < N; i++) bed_until(&b, &asks[i].done);
        for (int i = 0; i < N; i++) CHECK_EQ_INT(asks[i].code, 0);
        for (int i = 0; i < N; i++) CHECK_EQ_INT(asks[i].text[0], '0' + i % 10);
    }
    CHECK_EQ_INT(bed_stats(&b).n_statements, 3);
    bed_close(&b, 1000);
}

RUN_TESTS;
