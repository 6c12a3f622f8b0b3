/* Slices: comparing and reading numbers. */
#include "check.h"
#include "puff/base.h"

TEST(equal_is_by_bytes) {
    CHECK(puff_str_eq(PUFF_STR("abc"), PUFF_STR("abc")));
    CHECK(!puff_str_eq(PUFF_STR("abc"), PUFF_STR("abd")));
    CHECK(!puff_str_eq(PUFF_STR("abc"), PUFF_STR("ab")));
    CHECK(puff_str_eq((puff_str){NULL, 0}, PUFF_STR("")));
    CHECK(!puff_str_eq(PUFF_STR("a\0b"), PUFF_STR("a\0c")));
}

TEST(case_is_ignored_for_ascii_letters_only) {
    CHECK(puff_str_ieq(PUFF_STR("Content-LENGTH"), PUFF_STR("content-length")));
    CHECK(!puff_str_ieq(PUFF_STR("a["), PUFF_STR("a{"))); /* 0x5b and 0x7b */
    CHECK(!puff_str_ieq(PUFF_STR("@"), PUFF_STR("`")));
    CHECK(!puff_str_ieq(PUFF_STR("\xc4"), PUFF_STR("\xe4")));
    CHECK(puff_str_ieq((puff_str){NULL, 0}, (puff_str){NULL, 0}));
}

static bool to_u64(const char *s, uint64_t *out) {
    return puff_str_to_u64((puff_str){s, strlen(s)}, out);
}

TEST(numbers_are_digits_and_nothing_else) {
    uint64_t n = 7;
    static const char *const bad[] = {"",    "-1",  "+1",  " 1", "1 ", "1a",
                                      "0x1", "1_0", "1,0", "/",  ":"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (to_u64(bad[i], &n)) CHECK_FAIL("\"%s\" was read as a number", bad[i]);
    CHECK_EQ_INT(n, 7);
    CHECK(to_u64("0", &n) && n == 0);
    CHECK(to_u64("00042", &n) && n == 42);
}

TEST(numbers_end_at_64_bits) {
    uint64_t n = 0;
    CHECK(to_u64("18446744073709551615", &n) && n == UINT64_MAX);
    CHECK(!to_u64("18446744073709551616", &n));
    CHECK(!to_u64("18446744073709551620", &n));
    CHECK(!to_u64("99999999999999999999", &n));
    CHECK(!to_u64("184467440737095516150", &n));
}

RUN_TESTS;
