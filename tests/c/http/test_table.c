/* test_table.c - names and ids of methods, fields and statuses. */
#include "../check.h"
#include "puff/http.h"

TEST(field_ids_and_names_are_inverse_and_sorted_by_length) {
    size_t last = 0;
    for (int id = 1; id < PUFF_HTTP_FIELD_COUNT; id++) {
        puff_str name = puff_http_field_name((enum puff_http_field_id)id);
        CHECK(name.len >= last);
        last = name.len;
        CHECK_EQ_INT(puff_http_field_id_of(name), id);
    }
}

TEST(other_names_have_no_id) {
    static const char *const names[] = {"",
                                        "x",
                                        "hosts",
                                        "hosu",
                                        "Host",
                                        "content-lengtx",
                                        "x-custom",
                                        "access-control-request-headersx",
                                        "aaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_EQ_INT(puff_http_field_id_of((puff_str){names[i], strlen(names[i])}), 0);
    CHECK_EQ_INT(puff_http_field_name(PUFF_HTTP_FIELD_OTHER).len, 0);
}

TEST(methods_and_statuses_have_names) {
    CHECK(puff_str_eq(puff_http_method_name(PUFF_HTTP_METHOD_PATCH), PUFF_STR("PATCH")));
    CHECK(puff_str_eq(puff_http_status_text(404), PUFF_STR("Not Found")));
    CHECK_EQ_INT(puff_http_status_text(299).len, 0);
}

RUN_TESTS;
