/* Errors: every code has a name, and naming one costs nothing. */
#include <uv.h>

#include "check.h"
#include "puff/base.h"
#include "puff/http.h"

TEST(names_of_ours_and_of_libuv) {
    CHECK_EQ_STR(puff_err_name(0), "OK");
    CHECK_EQ_STR(puff_err_name(PUFF_ELIMIT), "PUFF_ELIMIT");
    CHECK_EQ_STR(puff_err_name(PUFF_EREPLY), "PUFF_EREPLY");
    CHECK_EQ_STR(puff_err_name(UV_ECONNREFUSED), "ECONNREFUSED");
    CHECK_EQ_STR(puff_err_name(PUFF_ENOMEM), "ENOMEM");
    CHECK_EQ_STR(puff_err_name(UV_EOF), "EOF");
    CHECK_EQ_STR(puff_err_text(UV_ECONNREFUSED), uv_strerror(UV_ECONNREFUSED));
    CHECK_EQ_STR(puff_err_text(PUFF_ETIMEOUT), "timed out");
}

TEST(names_of_http_are_known) {
    CHECK_EQ_STR(puff_err_name(PUFF_HTTP_ESTATE), "PUFF_HTTP_ESTATE");
    CHECK_EQ_STR(puff_err_name(PUFF_HTTP_EFIELD), "PUFF_HTTP_EFIELD");
    CHECK_EQ_STR(puff_err_name(PUFF_HTTP_ESTATUS), "PUFF_HTTP_ESTATUS");
    CHECK_EQ_STR(puff_err_name(PUFF_HTTP_ELENGTH), "PUFF_HTTP_ELENGTH");
}

/* libuv makes a string for a code that it does not know, and nobody can free it: the leak checkers
 * see. */
TEST(unknown_codes_have_a_name_without_a_leak) {
    for (int code = -9000; code < -8990; code++) {
        CHECK(puff_err_name(code) && *puff_err_name(code));
        CHECK(puff_err_text(code) && *puff_err_text(code));
    }
    CHECK(*puff_err_name(1) && *puff_err_text(1));
}

TEST(set_returns_its_code_and_cuts_the_message) {
    puff_err err = {.sqlstate = "42P01"};
    CHECK_EQ_INT(puff_err_set(&err, PUFF_EARG, PUFF_DOMAIN_HTTP, "%s is %d", "x", 3), PUFF_EARG);
    CHECK_EQ_INT(err.code, PUFF_EARG);
    CHECK_EQ_INT(err.domain, PUFF_DOMAIN_HTTP);
    CHECK_EQ_STR(err.sqlstate, "");
    CHECK_EQ_STR(err.msg, "x is 3");
    CHECK_EQ_INT(puff_err_set(NULL, PUFF_EARG, PUFF_DOMAIN_NONE, "nobody asks"), PUFF_EARG);
    puff_err_set(&err, PUFF_EARG, PUFF_DOMAIN_NONE, "%600s", "x");
    CHECK_EQ_INT(strlen(err.msg), sizeof err.msg - 1);
}

RUN_TESTS;
