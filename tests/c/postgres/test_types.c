/* The table of types, row by row against a server's own. */
#include <libpq-fe.h>

#include "server.h"

TEST(test_the_table_is_ordered_and_its_references_resolve) {
    size_t n;
    const puff_pg_type *types = puff_pg_types(&n);
    CHECK(n > 100);
    for (size_t i = 0; i < n; i++) {
        if (i) CHECK(types[i - 1].oid < types[i].oid);
        CHECK(puff_pg_type_by_oid(types[i].oid) == &types[i]);
        CHECK(puff_pg_type_by_name(types[i].name) == &types[i]);
        if (types[i].elem_oid) CHECK(puff_pg_type_by_oid(types[i].elem_oid));
        if (!types[i].array_oid) continue;
        const puff_pg_type *array = puff_pg_type_by_oid(types[i].array_oid);
        CHECK(array && array->kind == PUFF_PG_ARRAY);
        CHECK_EQ_INT(array->elem_oid, types[i].oid);
    }
    CHECK(puff_pg_type_by_oid(1) == NULL);
    CHECK(puff_pg_type_by_oid(99999) == NULL);
    CHECK(puff_pg_type_by_name("nothing") == NULL);
}

static const char query[] =
    "select oid, typname, typarray, coalesce((select rngsubtype from pg_range where rngtypid = "
    "t.oid),"
    " (select rngtypid from pg_range where rngmultitypid = t.oid),"
    " case when typcategory = 'A' then typelem end, 0),"
    " typsend = 0 from pg_type t where oid < 10000 and typrelid = 0 and typtype in ('b', 'r', 'm')"
    " and not (typcategory = 'A' and typelem in (select oid from pg_type where typrelid <> 0))"
    " and typname not in ('pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', "
    "'pg_brin_bloom_summary',"
    " 'pg_brin_minmax_multi_summary')";

static void check_row(PGresult *res, int i) {
    uint32_t oid = (uint32_t)strtoul(PQgetvalue(res, i, 0), NULL, 10);
    const puff_pg_type *type = puff_pg_type_by_oid(oid);
    if (!type) CHECK_FAIL("%s (%u) is not in the table", PQgetvalue(res, i, 1), oid);
    CHECK_EQ_STR(type->name, PQgetvalue(res, i, 1));
    CHECK_EQ_INT(type->array_oid, atol(PQgetvalue(res, i, 2)));
    uint32_t elem_oid = (uint32_t)strtoul(PQgetvalue(res, i, 3), NULL, 10);
    CHECK_EQ_INT(type->elem_oid, elem_oid);
    CHECK_EQ_INT(type->kind == PUFF_PG_TEXT_ONLY, PQgetvalue(res, i, 4)[0] == 't');
}

TEST(test_every_type_of_this_server_is_in_the_table) {
    PGconn *pg = PQconnectdb(server_dsn());
    PGresult *res = PQexec(pg, query);
    CHECK_EQ_INT(PQresultStatus(res), PGRES_TUPLES_OK);
    CHECK(PQntuples(res) > 100);
    for (int i = 0; i < PQntuples(res); i++) check_row(res, i);
    PQclear(res);
    PQfinish(pg);
}

RUN_TESTS;
