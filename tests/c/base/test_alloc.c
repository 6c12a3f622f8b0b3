/* The allocators: realloc's meaning, overflow, and the one that fails on demand. */
#include "check.h"
#include "puff/base.h"

TEST(zero_bytes_are_a_block_of_their_own) {
    void *a = puff_malloc(&puff_alloc_system, 0);
    void *b = puff_malloc(&puff_alloc_system, 0);
    CHECK(a && b && a != b);
    a = puff_realloc(&puff_alloc_system, a, 0);
    CHECK(a);
    puff_free(&puff_alloc_system, a);
    puff_free(&puff_alloc_system, b);
    puff_free(&puff_alloc_system, NULL);
}

TEST(calloc_clears_and_refuses_what_overflows) {
    puff_alloc_failing f;
    puff_alloc_failing_init(&f, 0);
    CHECK(!puff_calloc(&f.alloc, SIZE_MAX / 2, 3));
    CHECK_EQ_INT(f.n_calls, 0);
    char *p = puff_calloc(&f.alloc, 10, 10);
    for (int i = 0; i < 100; i++) CHECK_EQ_INT(p[i], 0);
    puff_free(&f.alloc, p);
    puff_free(&f.alloc, puff_calloc(&f.alloc, 4, 0));
    CHECK_EQ_INT(f.n_live, 0);
}

TEST(strndup_ends_with_a_nul) {
    char *s = puff_strndup(&puff_alloc_system, "GET /", 3);
    CHECK_EQ_STR(s, "GET");
    puff_free(&puff_alloc_system, s);
    s = puff_strndup(&puff_alloc_system, "", 0);
    CHECK_EQ_STR(s, "");
    puff_free(&puff_alloc_system, s);
}

TEST(failing_allocator_fails_once_and_counts) {
    puff_alloc_failing f;
    puff_alloc_failing_init(&f, 3);
    void *a = puff_malloc(&f.alloc, 8);
    void *b = puff_malloc(&f.alloc, 8);
    CHECK(a && b);
    CHECK(!puff_realloc(&f.alloc, a, 100)); /* a stays what it was */
    CHECK_EQ_INT(f.n_live, 2);
    a = puff_realloc(&f.alloc, a, 100);
    CHECK(a);
    CHECK_EQ_INT(f.n_live, 2);
    CHECK_EQ_INT(f.n_calls, 4);
    puff_free(&f.alloc, a);
    puff_free(&f.alloc, b);
    CHECK_EQ_INT(f.n_live, 0);
}

RUN_TESTS;
