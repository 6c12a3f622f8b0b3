/* The growable buffer: its ceiling, and that a failure changes nothing. */
#include "check.h"
#include "puff/base.h"

static puff_alloc_failing memory;
static puff_buf buf;

static void begin(size_t max) {
    puff_alloc_failing_init(&memory, 0);
    puff_buf_init(&buf, &memory.alloc, max);
}

static void end(void) {
    puff_buf_deinit(&buf);
    CHECK_EQ_INT(memory.n_live, 0);
}

TEST(bytes_come_back_in_order) {
    begin(100000);
    char byte;
    for (int i = 0; i < 100000; i++) {
        byte = (char)(i % 251);
        CHECK_EQ_INT(puff_buf_append(&buf, &byte, 1), 0);
    }
    CHECK_EQ_INT(buf.len, 100000);
    for (int i = 0; i < 100000; i++) CHECK_EQ_INT(buf.data[i], (char)(i % 251));
    CHECK(memory.n_calls < 20); /* doubling */
    end();
}

TEST(ceiling_is_exact) {
    begin(1000);
    char block[1000] = {0};
    CHECK_EQ_INT(puff_buf_append(&buf, block, 999), 0);
    CHECK_EQ_INT(puff_buf_append(&buf, block, 2), PUFF_ELIMIT);
    CHECK_EQ_INT(puff_buf_append(&buf, block, SIZE_MAX), PUFF_ELIMIT);
    CHECK_EQ_INT(buf.len, 999);
    CHECK_EQ_INT(puff_buf_append(&buf, block, 1), 0);
    CHECK(buf.cap <= buf.max);
    CHECK_EQ_INT(puff_buf_append(&buf, NULL, 0), 0);
    end();
}

TEST(small_ceiling_caps_the_first_block) {
    begin(10);
    CHECK_EQ_INT(puff_buf_append(&buf, "0123456789", 10), 0);
    CHECK_EQ_INT(buf.cap, 10);
    end();
    begin(0);
    CHECK_EQ_INT(puff_buf_append(&buf, "", 0), 0);
    CHECK_EQ_INT(puff_buf_append(&buf, "x", 1), PUFF_ELIMIT);
    end();
}

TEST(no_memory_leaves_the_buffer_as_it_was) {
    begin(100000);
    CHECK_EQ_INT(puff_buf_append(&buf, "abc", 3), 0);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_buf_reserve(&buf, 5000), PUFF_ENOMEM);
    CHECK_EQ_MEM(buf.data, buf.len, "abc", 3);
    CHECK_EQ_INT(puff_buf_reserve(&buf, 5000), 0);
    CHECK_EQ_MEM(buf.data, buf.len, "abc", 3);
    end();
}

TEST(printf_appends_and_needs_room_for_its_nul) {
    begin(10);
    CHECK_EQ_INT(puff_buf_printf(&buf, "%d-%s", 12, "ab"), 0);
    CHECK_EQ_INT(puff_buf_printf(&buf, "%s", "6789A"), PUFF_ELIMIT);
    CHECK_EQ_MEM(buf.data, buf.len, "12-ab", 5);
    CHECK_EQ_INT(puff_buf_printf(&buf, "%s", "6789"), 0);
    CHECK_EQ_STR(buf.data, "12-ab6789");
    end();
}

TEST(consume_drops_the_front) {
    begin(100);
    puff_buf_append(&buf, "abcdef", 6);
    puff_buf_consume(&buf, 0);
    puff_buf_consume(&buf, 2);
    CHECK_EQ_MEM(buf.data, buf.len, "cdef", 4);
    puff_buf_consume(&buf, 99);
    CHECK_EQ_INT(buf.len, 0);
    end();
}

TEST(reset_keeps_only_what_is_small) {
    begin(100000);
    puff_buf_append(&buf, "abc", 3);
    puff_buf_reset(&buf, 1024);
    CHECK_EQ_INT(buf.len, 0);
    CHECK_EQ_INT(memory.n_live, 1);
    CHECK_EQ_INT(puff_buf_reserve(&buf, 5000), 0);
    puff_buf_reset(&buf, 1024);
    CHECK_EQ_INT(memory.n_live, 0);
    CHECK_EQ_INT(puff_buf_append(&buf, "abc", 3), 0);
    end();
}

RUN_TESTS;
