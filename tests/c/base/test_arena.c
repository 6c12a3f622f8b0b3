/* The arena: alignment, the ceiling, what a reset keeps. */
#include "check.h"
#include "puff/base.h"

static puff_alloc_failing memory;
static puff_arena arena;

static void begin(size_t max) {
    puff_alloc_failing_init(&memory, 0);
    puff_arena_init(&arena, &memory.alloc, max);
}

static void end(void) {
    puff_arena_deinit(&arena);
    CHECK_EQ_INT(memory.n_live, 0);
}

TEST(pieces_are_aligned_and_apart) {
    begin(1 << 20);
    unsigned char *piece[300];
    for (int i = 0; i < 300; i++) {
        piece[i] = puff_arena_alloc(&arena, (size_t)i);
        CHECK(piece[i]);
        CHECK_EQ_INT((uintptr_t)piece[i] % 16, 0);
        memset(piece[i], i, (size_t)i);
    }
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < i; k++) CHECK_EQ_INT(piece[i][k], (unsigned char)i);
    end();
}

TEST(ceiling_counts_rounded_bytes) {
    begin(64);
    CHECK(puff_arena_alloc(&arena, 33)); /* 48 */
    CHECK_EQ_INT(arena.used, 48);
    CHECK(!puff_arena_alloc(&arena, 17));
    CHECK(puff_arena_alloc(&arena, 16));
    CHECK(!puff_arena_alloc(&arena, 1));
    CHECK(puff_arena_alloc(&arena, 0));
    end();
}

TEST(sizes_that_overflow_are_refused_without_a_ceiling) {
    begin(SIZE_MAX);
    for (size_t below = 0; below < 64; below++) CHECK(!puff_arena_alloc(&arena, SIZE_MAX - below));
    CHECK(!puff_arena_dup(&arena, "x", SIZE_MAX));
    CHECK_EQ_INT(arena.used, 0);
    end();
}

TEST(dup_adds_a_nul) {
    begin(1 << 16);
    char *s = puff_arena_dup(&arena, "a\0b", 3);
    CHECK_EQ_MEM(s, 4, "a\0b\0", 4);
    CHECK_EQ_STR(puff_arena_dup(&arena, NULL, 0), "");
    end();
}

TEST(reset_keeps_one_block) {
    begin(1 << 20);
    for (int i = 0; i < 100; i++) CHECK(puff_arena_alloc(&arena, 1000));
    CHECK(memory.n_live > 10);
    puff_arena_reset(&arena);
    CHECK_EQ_INT(memory.n_live, 1);
    CHECK_EQ_INT(arena.used, 0);
    size_t before = memory.n_calls;
    CHECK(puff_arena_alloc(&arena, 1000));
    CHECK_EQ_INT(memory.n_calls, before);
    end();
}

/* One great request must not leave its memory with a connection that is idle from then on. */
TEST(reset_keeps_no_great_block) {
    begin(1 << 20);
    CHECK(puff_arena_alloc(&arena, 100000));
    puff_arena_reset(&arena);
    CHECK_EQ_INT(memory.n_live, 0);

    CHECK(puff_arena_alloc(&arena, 16));
    CHECK(puff_arena_alloc(&arena, 100000));
    puff_arena_reset(&arena);
    CHECK_EQ_INT(memory.n_live, 1);
    size_t before = memory.n_calls;
    CHECK(puff_arena_alloc(&arena, 100000));
    CHECK_EQ_INT(memory.n_calls, before + 1); /* so it was the small one that stayed */
    end();
}

TEST(no_memory_leaves_the_arena_as_it_was) {
    begin(1 << 20);
    CHECK(puff_arena_alloc(&arena, 16));
    memory.fail_at = memory.n_calls + 1;
    CHECK(!puff_arena_alloc(&arena, 100000));
    CHECK_EQ_INT(arena.used, 16);
    CHECK(puff_arena_alloc(&arena, 16));
    end();
}

RUN_TESTS;
