/* One query at a time against a real server: parameters, results, errors, statements. */
#include "server.h"

TEST(test_select_gives_a_binary_cell) {
    bed b;
    bed_open(&b, NULL);
    ask a = {.order = NULL};
    ask_run(&b, &a, "select 42::int4 as answer", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.n_rows, 1);
    CHECK_EQ_INT(a.n_columns, 1);
    CHECK_EQ_INT(a.format, 1);
    CHECK_EQ_INT(a.len, 4);
    CHECK_EQ_INT(puff_pg_get_int4(a.text), 42);
    CHECK_EQ_STR(a.tag, "SELECT 1");
    CHECK_EQ_INT(a.affected, 1);
    bed_close(&b, 1000);
}

TEST(test_text_and_binary_parameters_and_null) {
    bed b;
    char bytes[4];
    bed_open(&b, NULL);
    ask a = {.params = {int4_param(bytes, -7), text_param("x"), {.len = -1}}};
    ask_run(&b, &a, "select ($1::int4 + 1)::text || $2::text || coalesce($3::text, 'null')", 3);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_STR(a.text, "-6xnull");
    a.params[0].len = -1;
    ask_run(&b, &a, "select $1::int4", 1);
    CHECK_EQ_INT(a.len, -1);
    bed_close(&b, 1000);
}

TEST(test_wrong_count_is_refused_before_anything_is_sent) {
    bed b;
    bed_open(&b, NULL);
    ask a = {.params = {text_param("1"), text_param("2")}};
    ask_run(&b, &a, "select $1::int4", 2);
    CHECK_EQ_INT(a.code, PUFF_EARG);
    CHECK_EQ_STR(a.msg, "the statement takes 1 parameter, 2 given");
    ask_run(&b, &a, "select $1::int4", 0);
    CHECK_EQ_STR(a.msg, "the statement takes 1 parameter, 0 given");
    bed_close(&b, 1000);
}

TEST(test_binary_parameter_of_another_type_is_refused) {
    bed b;
    char bytes[4];
    bed_open(&b, NULL);
    ask a = {.params = {int4_param(bytes, 1)}};
    ask_run(&b, &a, "select $1::float4", 1);
    CHECK_EQ_INT(a.code, PUFF_EARG);
    CHECK_EQ_STR(a.msg, "parameter $1 is float4, not int4");
    bed_close(&b, 1000);
}

TEST(test_sql_error_has_its_sqlstate_and_the_next_query_is_fine) {
    bed b;
    bed_open(&b, NULL);
    ask a = {.order = NULL};
    ask_run(&b, &a, "select * from there_is_no_such_table", 0);
    CHECK_EQ_INT(a.code, PUFF_EDB);
    CHECK_EQ_STR(a.sqlstate, "42P01");
    CHECK_EQ_STR(a.msg, "relation \"there_is_no_such_table\" does not exist");
    ask_run(&b, &a, "select 1/0", 0);
    CHECK_EQ_STR(a.sqlstate, "22012");
    ask_run(&b, &a, "selekt", 0);
    CHECK_EQ_STR(a.sqlstate, "42601");
    ask_run(&b, &a, "select 1; select 2", 0);
    CHECK_EQ_STR(a.sqlstate, "42601");
    must_run(&b, "select 1");
    CHECK_EQ_INT(bed_stats(&b).n_lanes, 1);
    CHECK_EQ_INT(bed_stats(&b).n_lanes_lost, 0);
    bed_close(&b, 1000);
}

static char detail[256], constraint[64], table[64], severity[16];

static void on_unique_error(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    CHECK(!res);
    snprintf(detail, sizeof detail, "%s", err->detail);
    snprintf(constraint, sizeof constraint, "%s", err->constraint);
    snprintf(table, sizeof table, "%s", err->table);
    snprintf(severity, sizeof severity, "%s", err->severity);
    CHECK(err->hint == NULL);
    *(bool *)q->data = true;
}

TEST(test_error_fields_of_a_constraint) {
    bed b;
    bed_open(&b, NULL);
    must_run(&b, "drop table if exists puff_unique");
    must_run(&b, "create table puff_unique (id int constraint puff_only_one unique)");
    must_run(&b, "insert into puff_unique values (1)");
    bool done = false;
    const char *sql = "insert into puff_unique values (1)";
    puff_pg_query q = {
        .sql = sql, .sql_len = strlen(sql), .on_done = on_unique_error, .data = &done};
    puff_pg_submit(b.pool, &q);
    bed_until(&b, &done);
    CHECK_EQ_STR(detail, "Key (id)=(1) already exists.");
    CHECK_EQ_STR(constraint, "puff_only_one");
    CHECK_EQ_STR(table, "puff_unique");
    CHECK_EQ_STR(severity, "ERROR");
    must_run(&b, "drop table puff_unique");
    bed_close(&b, 1000);
}

TEST(test_affected_rows_of_each_kind_of_statement) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, NULL);
    must_run(&b, "drop table if exists puff_rows");
    ask_run(&b, &a, "create table puff_rows (id int)", 0);
    CHECK_EQ_INT(a.affected, -1);
    CHECK_EQ_INT(a.n_columns, 0);
    ask_run(&b, &a, "insert into puff_rows select generate_series(1, 5)", 0);
    CHECK_EQ_INT(a.affected, 5);
    CHECK_EQ_STR(a.tag, "INSERT 0 5");
    ask_run(&b, &a, "update puff_rows set id = id + 1 where id > 3", 0);
    CHECK_EQ_INT(a.affected, 2);
    ask_run(&b, &a, "delete from puff_rows", 0);
    CHECK_EQ_INT(a.affected, 5);
    ask_run(&b, &a, "", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_STR(a.tag, "");
    must_run(&b, "drop table puff_rows");
    bed_close(&b, 1000);
}

TEST(test_a_type_without_a_binary_form_makes_the_result_text) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, NULL);
    ask_run(&b, &a, "select 'postgres=r/postgres'::aclitem, 7", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.format, 0);
    CHECK_EQ_STR(a.text, "postgres=r/postgres");
    CHECK_EQ_INT(bed_stats(&b).n_retries, 1);
    ask_run(&b, &a, "select 'postgres=r/postgres'::aclitem, 7", 0);
    CHECK_EQ_INT(bed_stats(&b).n_retries, 1);
    ask_run(&b, &a, "select array['postgres=r/postgres'::aclitem]", 0);
    CHECK_EQ_INT(a.format, 0);
    CHECK_EQ_STR(a.text, "{postgres=r/postgres}");
    bed_close(&b, 1000);
}

TEST(test_ddl_that_changes_the_columns_is_not_seen_by_the_caller) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    must_run(&b, "drop table if exists puff_ddl");
    must_run(&b, "create table puff_ddl (id int)");
    must_run(&b, "insert into puff_ddl values (1)");
    ask_run(&b, &a, "select * from puff_ddl", 0);
    CHECK_EQ_INT(a.n_columns, 1);
    must_run(&b, "alter table puff_ddl add name text default 'x'");
    ask_run(&b, &a, "select * from puff_ddl", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_INT(a.n_columns, 2);
    CHECK_EQ_INT(bed_stats(&b).n_retries, 1);
    must_run(&b, "drop table puff_ddl");
    bed_close(&b, 1000);
}

TEST(test_a_statement_that_somebody_deallocated_is_prepared_again) {
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1});
    ask_run(&b, &a, "select 'here'", 0);
    must_run(&b, "deallocate all");
    ask_run(&b, &a, "select 'here'", 0);
    CHECK_EQ_INT(a.code, 0);
    CHECK_EQ_STR(a.text, "here");
    bed_close(&b, 1000);
}

static int count_prepared(bed *b) {
    ask a = {.order = NULL};
    ask_run(b, &a, "select count(*)::int4 from pg_prepared_statements where name like 'puff_%'", 0);
    CHECK_EQ_INT(a.code, 0);
    return puff_pg_get_int4(a.text);
}

TEST(test_the_statement_used_longest_ago_is_closed_on_the_server) {
    bed b;
    ask a = {.order = NULL};
    char sql[8][32];
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .statement_cache_size = 4});
    CHECK_EQ_INT(count_prepared(&b), 1);
    for (int i = 0; i < 8; i++) {
        snprintf(sql[i], sizeof sql[i], "select %d", i);
        ask_run(&b, &a, sql[i], 0);
        CHECK_EQ_INT(a.code, 0);
    }
    CHECK_EQ_INT(bed_stats(&b).n_statements, 4);
    uint64_t n_prepares = bed_stats(&b).n_prepares;
    must_run(&b, sql[7]);
    CHECK_EQ_INT(bed_stats(&b).n_prepares, n_prepares);
    must_run(&b, sql[0]);
    CHECK_EQ_INT(bed_stats(&b).n_prepares, n_prepares + 1);
    CHECK_EQ_INT(count_prepared(&b), 4);
    bed_close(&b, 1000);
}

TEST(test_without_a_cache_nothing_stays_prepared) {
    bed b;
    bed_open(&b, &(puff_pg_pool_options){.n_lanes_max = 1, .statement_cache_size = -1});
    must_run(&b, "select 1");
    must_run(&b, "select 1");
    CHECK_EQ_INT(count_prepared(&b), 1); /* the one that asks */
    CHECK_EQ_INT(bed_stats(&b).n_statements, 0);
    bed_close(&b, 1000);
}

static int encoded;
static int encode_sum(puff_pg_query *q, puff_pg_statement *st, puff_pg_params *p) {
    CHECK_EQ_INT(st->n_params, 2);
    CHECK_EQ_INT(st->n_columns, 1);
    CHECK_EQ_STR(st->columns[0].name, "sum");
    encoded++;
    return puff_pg_params_integer(p, 0, 40) || puff_pg_params_integer(p, 1, 2);
}
static int encode_nothing(puff_pg_query *q, puff_pg_statement *st, puff_pg_params *p) { return -1; }

static bool host_freed;
static void free_host(void *host) { host_freed = true; }

static void on_sum(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    *(int *)q->data =
        err ? err->err.code : (int)puff_pg_get_int8(puff_pg_result_cell(res, 0, 0).ptr);
    if (!q->statement->host) {
        q->statement->host = q;
        q->statement->host_free = free_host;
    }
}

TEST(test_the_host_encodes_by_the_described_types) {
    bed b;
    int sum = 0;
    const char *sql = "select $1::int8 + $2::int2 as sum";
    puff_pg_query q = {.sql = sql, .sql_len = strlen(sql), .n_params = 2, .data = &sum};
    q.encode = encode_sum;
    q.on_done = on_sum;
    bed_open(&b, NULL);
    encoded = 0;
    host_freed = false;
    puff_pg_submit(b.pool, &q);
    CHECK_EQ_INT(encoded, 0); /* not described yet */
    while (!sum) puff_loop_turn(b.loop, true);
    CHECK_EQ_INT(sum, 42);
    sum = 0;
    puff_pg_submit(b.pool, &q);
    CHECK_EQ_INT(encoded, 2); /* at once */
    while (!sum) puff_loop_turn(b.loop, true);
    CHECK_EQ_INT(sum, 42);
    sum = 0;
    q.encode = encode_nothing;
    puff_pg_submit(b.pool, &q);
    while (!sum) puff_loop_turn(b.loop, true);
    CHECK_EQ_INT(sum, PUFF_EARG);
    CHECK(!host_freed);
    bed_close(&b, 1000);
    CHECK(host_freed);
}

static puff_pg_result *taken;
static void on_take(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) {
    CHECK(res);
    taken = puff_pg_query_take(q);
    CHECK(taken == res);
    *(bool *)q->data = true;
}

TEST(test_a_taken_result_outlives_the_pool) {
    bed b;
    bool done = false;
    const char *sql = "select i, null from generate_series(1, 3) i";
    puff_pg_query q = {.sql = sql, .sql_len = strlen(sql), .on_done = on_take, .data = &done};
    bed_open(&b, NULL);
    puff_pg_submit(b.pool, &q);
    bed_until(&b, &done);
    bed_close(&b, 1000);
    puff_pg_cell cells[2];
    CHECK_EQ_INT(puff_pg_result_n_rows(taken), 3);
    puff_pg_result_row(taken, 2, cells);
    CHECK_EQ_INT(puff_pg_get_int4(cells[0].ptr), 3);
    CHECK_EQ_INT(cells[1].len, -1);
    puff_pg_result_free(taken);
}

TEST(test_what_needs_a_session_is_refused) {
    static const char *const sql[] = {"begin",
                                      " /* a /* b */ */ -- c\n ;; BEGIN",
                                      "start transaction",
                                      "copy puff_x from stdin",
                                      "Listen x",
                                      "set search_path = x"};
    bed b;
    ask a = {.order = NULL};
    bed_open(&b, NULL);
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++) {
        ask_run(&b, &a, sql[i], 0);
        CHECK_EQ_INT(a.code, PUFF_EARG);
        CHECK(strstr(a.msg, "on a shared connection"));
    }
    CHECK_EQ_INT(bed_stats(&b).n_statements, 0);
    bed_close(&b, 1000);
}

TEST(test_a_megabyte_goes_both_ways) {
    bed b;
    ask a = {.order = NULL};
    size_t len = 1 << 20;
    char *big = malloc(len + 1);
    memset(big, 'x', len);
    big[len] = '\0';
    bed_open(&b, NULL);
    a.params[0] = text_param(big);
    ask_run(&b, &a, "select $1::text", 1);
    CHECK_EQ_INT(a.len, (int)len);
    bed_close(&b, 1000);
    free(big);
}

RUN_TESTS;
