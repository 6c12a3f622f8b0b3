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

TEST(a_message_may_quote_the_one_before) {
    puff_err e;
    puff_err_set(&e, PUFF_EAUTH, PUFF_DOMAIN_REDIS, "inner");
    puff_err_set(&e, PUFF_ECONNECT, PUFF_DOMAIN_REDIS, "outer: %s", e.msg);
    CHECK_EQ_STR(e.msg, "outer: inner");
}

/* The length of a message that is too long: before, then character again and again. */
static size_t cut(size_t before, const char *character) {
    char text[2000];
    memset(text, 'a', before);
    for (size_t at = before; at + 8 < sizeof text; at += strlen(character))
        strcpy(text + at, character);
    puff_err e;
    puff_err_set(&e, PUFF_EDB, PUFF_DOMAIN_POSTGRES, "%s", text);
    return strlen(e.msg);
}

TEST(a_message_is_cut_between_characters) {
    CHECK_EQ_INT(cut(0, "b"), 497);
    CHECK_EQ_INT(cut(0, "\xc3\xa4"), 496);
    CHECK_EQ_INT(cut(1, "\xc3\xa4"), 497);
    for (size_t before = 0; before < 4; before++) {
        CHECK_EQ_INT((cut(before, "\xe2\x82\xac") - before) % 3, 0);
        CHECK_EQ_INT((cut(before, "\xf0\x9f\x90\xa1") - before) % 4, 0);
        CHECK(cut(before, "\xf0\x9f\x90\xa1") > 493);
    }
}

RUN_TESTS;
