#include "check.h"
#include "puff_config.h"
#include "redis/reader.h"
#include "redis/reply.h"

static puff__redis_reader r;

static void start(size_t max_bytes) {
    CHECK_EQ_INT(puff__redis_reader_init(&r, &puff__redis_reply_builder, max_bytes), 0);
    r.ctx = (void *)&puff_alloc_system;
    r.wanted = true;
}

static puff__redis_event feed(const char *bytes, size_t len) {
    if (!puff__redis_reader_feed(&r, bytes, len)) return PUFF__REDIS_DEAD;
    return puff__redis_reader_next(&r);
}

static puff__redis_event say(const char *text) { return feed(text, strlen(text)); }

static puff_redis_reply *take(void) {
    puff_redis_reply *reply = r.reply;
    r.reply = NULL;
    return reply;
}

/* A reply as text: (1 "a" nil (2.5) -ERR+OK). */
static void describe(const puff_redis_reply *v, char *out) {
    out += strlen(out);
    switch (v->kind) {
    case PUFF_REDIS_NIL: sprintf(out, "nil"); break;
    case PUFF_REDIS_INT: sprintf(out, "%lld", (long long)v->integer); break;
    case PUFF_REDIS_BOOL: sprintf(out, v->integer ? "true" : "false"); break;
    case PUFF_REDIS_DOUBLE: sprintf(out, "%g", v->real); break;
    case PUFF_REDIS_STATUS: sprintf(out, "+%s", v->str); break;
    case PUFF_REDIS_ERROR: sprintf(out, "-%s", v->str); break;
    case PUFF_REDIS_STRING: sprintf(out, "\"%s\"", v->str); break;
    case PUFF_REDIS_BIGNUM: sprintf(out, "n%s", v->str); break;
    case PUFF_REDIS_VERBATIM: sprintf(out, "v%s", v->str); break;
    default:
        strcat(out, v->kind == PUFF_REDIS_MAP ? "{" : v->kind == PUFF_REDIS_SET ? "<" : "(");
        for (size_t i = 0; i < v->n_elements; i++) {
            if (i) strcat(out, " ");
            describe(v->elements[i], out);
        }
        strcat(out, ")");
    }
}

static void check_reply(const char *bytes, const char *want) {
    size_t len = strlen(bytes);
    for (int split = 0; split < 2; split++) {
        start(1 << 20);
        puff__redis_event event = PUFF__REDIS_MORE;
        if (split) {
            for (size_t i = 0; i < len; i++) {
                CHECK_EQ_INT(event, PUFF__REDIS_MORE);
                event = feed(bytes + i, 1);
            }
        } else {
            event = feed(bytes, len);
        }
        if (event != PUFF__REDIS_VALUE) CHECK_FAIL("%s: event %d, %s", want, event, r.err.msg);
        puff_redis_reply *reply = take();
        char got[1000] = "";
        describe(reply, got);
        CHECK_EQ_STR(got, want);
        puff_redis_reply_free(reply);
        CHECK_EQ_INT(puff__redis_reader_next(&r), PUFF__REDIS_MORE);
        puff__redis_reader_deinit(&r);
    }
}

TEST(test_replies_of_every_kind_whole_and_byte_by_byte) {
    check_reply("+OK\r\n", "+OK");
    check_reply(":0\r\n", "0");
    check_reply(":-9223372036854775808\r\n", "-9223372036854775808");
    check_reply("$3\r\na\rb\r\n", "\"a\rb\"");
    check_reply("$0\r\n\r\n", "\"\"");
    check_reply("$-1\r\n", "nil");
    check_reply("*-1\r\n", "nil");
    check_reply("*0\r\n", "()");
    check_reply("*5\r\n:1\r\n$-1\r\n*0\r\n-ERR no\r\n*2\r\n+a\r\n*1\r\n$1\r\nb\r\n",
                "(1 nil () -ERR no (+a (\"b\")))");
    check_reply("*9\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n",
                "(1 2 3 4 5 6 7 8 9)");
}

#if PUFF_HAVE_HIREDIS_RESP3
TEST(test_resp3_replies) {
    check_reply("_\r\n", "nil");
    check_reply("#t\r\n", "true");
    check_reply(",2.5\r\n", "2.5");
    check_reply(",inf\r\n", "inf");
    check_reply("(12345678901234567890\r\n", "n12345678901234567890");
    check_reply("=8\r\ntxt:some\r\n", "vsome");
    check_reply("%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n#f\r\n", "{+a 1 +b <false))");
}

TEST(test_pushes_are_told_apart_from_replies) {
    start(1000);
    CHECK_EQ_INT(say(">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n"), PUFF__REDIS_PUSH);
    CHECK(!r.reply);
    CHECK_EQ_INT(puff__redis_reader_next(&r), PUFF__REDIS_VALUE);
    puff_redis_reply_free(take());
    puff__redis_reader_deinit(&r);
}

TEST(test_a_nesting_that_is_too_deep_is_refused) {
    start(1 << 20);
    puff__redis_event event = PUFF__REDIS_MORE;
    for (int i = 0; i < 200 && event == PUFF__REDIS_MORE; i++) event = say("*1\r\n");
    CHECK_EQ_INT(event, PUFF__REDIS_DEAD);
    CHECK_EQ_INT(r.err.code, PUFF_ELIMIT);
    CHECK(strstr(r.err.msg, "nested"));
    puff__redis_reader_deinit(&r);
}
#else
TEST(test_a_nesting_that_hiredis_cannot_read_is_refused) {
    start(1 << 20);
    puff__redis_event event = PUFF__REDIS_MORE;
    for (int i = 0; i < 20 && event == PUFF__REDIS_MORE; i++) event = say("*1\r\n");
    CHECK_EQ_INT(event, PUFF__REDIS_DEAD);
    CHECK_EQ_INT(r.err.code, PUFF_EPROTO);
    CHECK(strstr(r.err.msg, "nested"));
    puff__redis_reader_deinit(&r);
}
#endif

TEST(test_an_error_reply_is_told_apart_from_a_value) {
    start(1000);
    CHECK_EQ_INT(say("-WRONGTYPE Operation\r\n+OK\r\n"), PUFF__REDIS_FAULT);
    CHECK_EQ_STR(r.err.msg, "WRONGTYPE Operation");
    CHECK_EQ_INT(puff__redis_reader_next(&r), PUFF__REDIS_VALUE);
    puff_redis_reply_free(take());
    puff__redis_reader_deinit(&r);
}

TEST(test_what_nobody_wants_is_read_and_not_built) {
    start(1000);
    r.wanted = false;
    CHECK_EQ_INT(say("*2\r\n*1\r\n:1\r\n$1\r\na\r\n"), PUFF__REDIS_VALUE);
    CHECK(!r.reply);
    r.wanted = true;
    CHECK_EQ_INT(say(":7\r\n"), PUFF__REDIS_VALUE);
    CHECK_EQ_INT(((puff_redis_reply *)r.reply)->integer, 7);
    puff_redis_reply_free(take());
    puff__redis_reader_deinit(&r);
}

TEST(test_a_reply_dropped_half_way_leaves_the_stream_in_step) {
    start(1000);
    CHECK_EQ_INT(say("*3\r\n$1\r\na\r\n*2\r\n:1\r\n"), PUFF__REDIS_MORE);
    puff__redis_reader_drop(&r);
    CHECK_EQ_INT(say(":2\r\n+x\r\n:5\r\n"), PUFF__REDIS_VALUE);
    CHECK(!r.reply);
    r.wanted = true;
    CHECK_EQ_INT(puff__redis_reader_next(&r), PUFF__REDIS_VALUE);
    CHECK_EQ_INT(((puff_redis_reply *)r.reply)->integer, 5);
    puff_redis_reply_free(take());
    puff__redis_reader_deinit(&r);
}

static void *drop_and_make_text(void *ctx, puff_redis_place at, puff_redis_kind kind, const char *s,
                                size_t len) {
    if (len == 4 && memcmp(s, "drop", 4) == 0) puff__redis_reader_drop(&r);
    return puff__redis_reply_builder.text(ctx, at, kind, s, len);
}

/* As a finalizer does that runs while the host makes an object, and cancels. */
TEST(test_a_builder_may_drop_the_reply_that_it_builds) {
    static const char *const replies[] = {"$4\r\ndrop\r\n",
                                          "*3\r\n*2\r\n:1\r\n$4\r\ndrop\r\n*1\r\n:2\r\n$1\r\na\r\n",
                                          "*2\r\n$4\r\ndrop\r\n*1\r\n$4\r\ndrop\r\n"};
    puff_redis_builder dropping = puff__redis_reply_builder;
    dropping.text = drop_and_make_text;
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        start(1000);
        r.builder = &dropping;
        CHECK_EQ_INT(say(replies[i]), PUFF__REDIS_VALUE);
        CHECK(!r.reply);
        r.wanted = true;
        CHECK_EQ_INT(say("+ok\r\n"), PUFF__REDIS_VALUE);
        CHECK_EQ_STR(((puff_redis_reply *)r.reply)->str, "ok");
        puff_redis_reply_free(take());
        puff__redis_reader_deinit(&r);
    }
}

TEST(test_an_unfinished_reply_is_freed_with_the_reader) {
    start(1000);
    CHECK_EQ_INT(say("*3\r\n$1\r\na\r\n*2\r\n:1\r\n"), PUFF__REDIS_MORE);
    puff__redis_reader_deinit(&r);
}

static void check_dead(const char *bytes, int code) {
    start(4096);
    puff__redis_event event = say(bytes);
    if (event != PUFF__REDIS_DEAD) CHECK_FAIL("%s: event %d", bytes, event);
    CHECK_EQ_INT(r.err.code, code);
    CHECK(r.err.msg[0]);
    CHECK_EQ_INT(say("+OK\r\n"), PUFF__REDIS_DEAD);
    puff__redis_reader_deinit(&r);
}

TEST(test_garbage_ends_the_reader_with_a_reason) {
    check_dead("HTTP/1.1 400 Bad Request\r\n", PUFF_EPROTO);
    check_dead("\r\n", PUFF_EPROTO);
    check_dead(":12a\r\n", PUFF_EPROTO);
    check_dead(":\r\n", PUFF_EPROTO);
    check_dead("$-2\r\n", PUFF_EPROTO);
    check_dead("$99999999999999999999\r\n", PUFF_EPROTO);
    check_dead("*-2\r\n", PUFF_EPROTO);
    check_dead("*2\r\n:1\r\nx\r\n", PUFF_EPROTO);
    check_dead("$000000000000000000000000000000000000000000000000", PUFF_EPROTO);
}

TEST(test_more_elements_than_could_come_are_refused_before_they_do) {
    check_dead("*2000\r\n", PUFF_ELIMIT);
    check_dead("*2\r\n*2147483647\r\n", PUFF_ELIMIT);
}

TEST(test_a_reply_above_its_ceiling_ends_the_reader) {
    start(100);
    CHECK_EQ_INT(say("$1000\r\n"), PUFF__REDIS_MORE);
    char bytes[95] = {0};
    CHECK_EQ_INT(feed(bytes, sizeof bytes), PUFF__REDIS_DEAD);
    CHECK_EQ_INT(r.err.code, PUFF_ELIMIT);
    puff__redis_reader_deinit(&r);
}

TEST(test_many_replies_are_not_one_long_one) {
    start(100);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ_INT(say("$10\r\n0123456789\r\n"), PUFF__REDIS_VALUE);
        puff_redis_reply_free(take());
    }
    puff__redis_reader_deinit(&r);
}

TEST(test_a_line_without_an_end_is_refused) {
    static char line[65536];
    memset(line, 'x', sizeof line);
    start(100 << 20);
    puff__redis_event event = say("+");
    int n = 0;
    for (; n < 1000 && event == PUFF__REDIS_MORE; n++) event = feed(line, sizeof line);
    CHECK_EQ_INT(event, PUFF__REDIS_DEAD);
    CHECK_EQ_INT(r.err.code, PUFF_EPROTO);
    CHECK(n < 20);
    puff__redis_reader_deinit(&r);
}

TEST(test_each_failed_allocation_ends_the_reader_not_the_process) {
    static const char bytes[] = "*4\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n:1\r\n$-1\r\n";
    for (size_t n = 1;; n++) {
        puff_alloc_failing f;
        puff_alloc_failing_init(&f, n);
        start(1000);
        r.ctx = &f.alloc;
        puff__redis_event event = say(bytes);
        if (event == PUFF__REDIS_VALUE) puff_redis_reply_free(take());
        if (event == PUFF__REDIS_DEAD) CHECK_EQ_INT(r.err.code, PUFF_ENOMEM);
        puff__redis_reader_deinit(&r);
        CHECK_EQ_INT(f.n_live, 0);
        if (event == PUFF__REDIS_VALUE) break;
    }
}

RUN_TESTS;
