/* Which texts may travel on a shared connection. No server. */
#include "check.h"
#include "postgres/sql.h"

static const char *refusal(const char *sql) {
    return puff__pg_sql_refusal((puff_str){sql, strlen(sql)});
}

TEST(test_ordinary_statements_pass) {
    static const char *const sql[] = {
        "select 1",
        "insert into t values (1)",
        "with x as (select 1) select * from x",
        "(select 1)",
        "beginning",
        "settle",
        "copyright",
        "",
        "  ",
        "-- begin",
        "/* begin",
        "/* /* begin */",
        "'begin'",
        "create table begin_ (i int)",
        "commit",
        "rollback",
        "vacuum",
        "explain select 1",
        "values (1)",
        "do $$ begin end $$",
        "call p()",
        "start_of_day",
        "1",
        "--",
    };
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++)
        if (refusal(sql[i])) CHECK_FAIL("%s: %s", sql[i], refusal(sql[i]));
}

TEST(test_statements_that_need_a_session_are_found_behind_blanks_and_comments) {
    static const char *const sql[] = {
        "begin",
        "BEGIN;",
        "\n\t Begin work",
        "-- x\nbegin",
        "/* a */begin",
        "/* a /* b */ c */ begin isolation level serializable",
        ";;begin",
        "; -- x\n /**/ begin",
        "start transaction",
        "copy t from stdin",
        "Copy(select 1) to stdout",
        "listen a",
        "unlisten *",
        "set x to 1",
        "set\tlocal x to 1",
        "reset all",
        "discard all",
        "begin/**/",
    };
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++)
        if (!refusal(sql[i])) CHECK_FAIL("%s passes", sql[i]);
}

/* Nothing behind the end is looked at: every prefix is tried in memory of exactly that size. */
TEST(test_every_prefix_of_a_text_ends_where_it_ends) {
    static const char text[] = "/* a /* b */ */ -- c\n ;; begin work";
    for (size_t len = 0; len < sizeof text; len++) {
        char *copy = malloc(len ? len : 1);
        memcpy(copy, text, len);
        bool refused = puff__pg_sql_refusal((puff_str){copy, len}) != NULL;
        CHECK_EQ_INT(refused, len >= strlen(text) - 5 && len < sizeof text);
        free(copy);
    }
}

RUN_TESTS;
