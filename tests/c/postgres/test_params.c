/* Encoding, without a server: the bytes are what the protocol says. */
#include "check.h"
#include "postgres/params.h"

typedef struct table {
    puff_alloc_failing alloc;
    puff_pg_params p;
    uint32_t oids[4];
    puff_pg_statement st;
} table;

static void open_table(table *t, uint32_t a, uint32_t b, size_t max) {
    puff_alloc_failing_init(&t->alloc, 0);
    t->oids[0] = a;
    t->oids[1] = b;
    t->st = (puff_pg_statement){.n_params = 2, .param_oids = t->oids};
    puff__pg_params_init(&t->p, &t->alloc.alloc, max);
    CHECK_EQ_INT(puff__pg_params_begin(&t->p, &t->st), 0);
}

static void close_table(table *t) {
    puff__pg_params_end(&t->p);
    puff__pg_params_deinit(&t->p);
    CHECK_EQ_INT(t->alloc.n_live, 0);
}

#define CHECK_PARAM(t, i, lit) \
    CHECK_EQ_MEM((t).p.values[i], (size_t)(t).p.lengths[i], "" lit, sizeof(lit) - 1)

TEST(test_numbers_are_in_network_order) {
    table t;
    open_table(&t, 0, 0, 1000);
    CHECK_EQ_INT(puff_pg_params_int2(&t.p, 0, -2), 0);
    CHECK_PARAM(t, 0, "\xff\xfe");
    CHECK_EQ_INT(puff_pg_params_int4(&t.p, 0, 0x01020304), 0);
    CHECK_PARAM(t, 0, "\1\2\3\4");
    CHECK_EQ_INT(puff_pg_params_int8(&t.p, 1, INT64_MIN), 0);
    CHECK_PARAM(t, 1, "\x80\0\0\0\0\0\0\0");
    CHECK_EQ_INT(puff_pg_params_float4(&t.p, 0, 1.0f), 0);
    CHECK_PARAM(t, 0, "\x3f\x80\0\0");
    CHECK_EQ_INT(puff_pg_params_float8(&t.p, 1, -2.0), 0);
    CHECK_PARAM(t, 1, "\xc0\0\0\0\0\0\0\0");
    CHECK_EQ_INT(puff_pg_params_bool(&t.p, 0, true), 0);
    CHECK_PARAM(t, 0, "\1");
    CHECK_EQ_INT(t.p.formats[0], 1);
    close_table(&t);
}

TEST(test_an_integer_becomes_what_the_server_wants) {
    static const struct {
        uint32_t oid;
        int64_t v;
        int rc, len, format;
    } rows[] = {
        {21, 32767, 0, 2, 1},
        {21, 32768, PUFF_ELIMIT, 0, 0},
        {23, -1, 0, 4, 1},
        {23, INT64_MAX, PUFF_ELIMIT, 0, 0},
        {20, INT64_MIN, 0, 8, 1},
        {26, 4294967295, 0, 4, 1},
        {26, -1, PUFF_ELIMIT, 0, 0},
        {5069, 7, 0, 8, 1},
        {5069, -7, PUFF_ELIMIT, 0, 0},
        {700, 7, 0, 4, 1},
        {701, 7, 0, 8, 1},
        {1700, -123, 0, 4, 0},
        {25, 12, 0, 2, 0},
        {16, 1, PUFF_EARG, 0, 0},
        {2950, 1, PUFF_EARG, 0, 0},
        {99999, 1, PUFF_EARG, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        table t;
        open_table(&t, rows[i].oid, 0, 1000);
        CHECK_EQ_INT(puff_pg_params_integer(&t.p, 0, rows[i].v), rows[i].rc);
        if (rows[i].rc == 0) {
            CHECK_EQ_INT(t.p.lengths[0], rows[i].len);
            CHECK_EQ_INT(t.p.formats[0], rows[i].format);
        }
        close_table(&t);
    }
}

TEST(test_what_is_not_set_is_null_and_nothing_else_is) {
    table t;
    open_table(&t, 25, 25, 1000);
    CHECK(t.p.values[0] == NULL && t.p.values[1] == NULL);
    CHECK_EQ_INT(puff_pg_params_ref(&t.p, 0, NULL, 0, 1), 0);
    CHECK(t.p.values[0] != NULL);
    CHECK_EQ_INT(puff_pg_params_null(&t.p, 0), 0);
    CHECK(t.p.values[0] == NULL);
    close_table(&t);
}

TEST(test_an_index_out_of_range_is_refused) {
    table t;
    open_table(&t, 23, 23, 1000);
    CHECK_EQ_INT(puff_pg_params_int4(&t.p, 2, 1), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_int4(&t.p, -1, 1), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_null(&t.p, 2), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_integer(&t.p, 2, 1), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_ref(&t.p, 2, "x", 1, 1), PUFF_EARG);
    close_table(&t);
}

TEST(test_text_with_a_nul_is_refused_and_binary_with_one_is_not) {
    table t;
    open_table(&t, 25, 17, 1000);
    CHECK_EQ_INT(puff_pg_params_ref(&t.p, 0, "a\0b", 3, 0), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_copy(&t.p, 0, "a\0b", 3, 0), PUFF_EARG);
    CHECK_EQ_INT(puff_pg_params_copy(&t.p, 1, "a\0b", 3, 1), 0);
    CHECK_PARAM(t, 1, "a\0b");
    close_table(&t);
}

TEST(test_the_ceiling_counts_all_parameters) {
    table t;
    open_table(&t, 17, 17, 10);
    CHECK_EQ_INT(puff_pg_params_copy(&t.p, 0, "123456", 6, 1), 0);
    CHECK_EQ_INT(puff_pg_params_copy(&t.p, 1, "12345", 5, 1), PUFF_ELIMIT);
    CHECK_EQ_INT(puff_pg_params_ref(&t.p, 1, "12345", 5, 1), PUFF_ELIMIT);
    CHECK(puff_pg_params_reserve(&t.p, 1, 5, 1) == NULL);
    CHECK_EQ_INT(puff_pg_params_ref(&t.p, 1, "1234", 4, 1), 0);
    close_table(&t);
}

TEST(test_a_large_value_is_not_kept_for_the_next_query) {
    table t;
    open_table(&t, 17, 17, 1 << 20);
    CHECK(puff_pg_params_reserve(&t.p, 0, 1 << 20, 1) != NULL);
    size_t n_live = t.alloc.n_live;
    puff__pg_params_end(&t.p);
    CHECK(t.alloc.n_live < n_live);
    CHECK_EQ_INT(puff__pg_params_begin(&t.p, &t.st), 0);
    close_table(&t);
}

RUN_TESTS;
