/* The pool against a real Redis or Valkey, at the URL in PUFF_TEST_REDIS; without it the tests are
 * skipped. All keys begin with "puff-test:". */
#include "check.h"
#include "fake.h"
#include "puff_config.h"

static puff_loop *loop;
static puff_redis_pool *pool;
static puff_err err;
static int n_answers;

TEST(a_server_is_there) {
    if (getenv("PUFF_TEST_REDIS")) return;
    fprintf(stderr, "PUFF_TEST_REDIS is not set: skipped\n");
    exit(77);
}

static void begin(puff_redis_options opts) {
    n_answers = 0;
    opts.size = sizeof opts;
    if (!opts.url) opts.url = getenv("PUFF_TEST_REDIS");
    CHECK_EQ_INT(puff_loop_new(&loop, NULL, &err), 0);
    if (puff_redis_pool_new(&pool, loop, &opts, &err) != 0) CHECK_FAIL("%s", err.msg);
}

static void on_closed(void *arg) { ++*(int *)arg; }

static void end(void) {
    int closed = 0;
    puff_redis_pool_close(pool, on_closed, &closed);
    turn_until(loop, &closed, 1);
    puff_loop_free(loop);
}

static void send(answer *a, const char *words) {
    a->counter = &n_answers;
    if (send_words(pool, words, a, NULL) != 0) CHECK_FAIL("%s: %s", words, a->err.msg);
}

static puff_redis_reply *ask(answer *a, const char *words) {
    int before = n_answers;
    answer_clear(a);
    send(a, words);
    turn_until(loop, &n_answers, before + 1);
    if (a->status) CHECK_FAIL("%s: %s", words, a->err.msg);
    return a->reply;
}

TEST(test_values_come_back_as_they_went) {
    begin((puff_redis_options){0});
    answer a = {0};
    puff_str argv[] = {PUFF_STR("SET"), PUFF_STR("puff-test:k"), {"a\0\r\n$-1\r\n\xff", 9}};
    a.counter = &n_answers;
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 3, NULL, on_answer, &a, NULL, &err), 0);
    turn_until(loop, &n_answers, 1);
    CHECK_EQ_STR(a.reply->str, "OK");
    puff_redis_reply *got = ask(&a, "GET puff-test:k");
    CHECK_EQ_MEM(got->str, got->len, argv[2].ptr, argv[2].len);
    CHECK_EQ_INT(ask(&a, "DEL puff-test:k")->integer, 1);
    CHECK_EQ_INT(ask(&a, "GET puff-test:k")->kind, PUFF_REDIS_NIL);
    answer_clear(&a);
    end();
}

TEST(test_an_error_of_the_server_has_its_code_first) {
    begin((puff_redis_options){0});
    answer a = {0};
    ask(&a, "RPUSH puff-test:list 1");
    answer_clear(&a);
    send(&a, "GET puff-test:list");
    turn_until(loop, &n_answers, 2);
    CHECK_EQ_INT(a.status, PUFF_EREPLY);
    CHECK(strncmp(a.err.msg, "WRONGTYPE ", 10) == 0);
    ask(&a, "DEL puff-test:list");
    answer_clear(&a);
    end();
}

TEST(test_a_great_many_commands_at_once) {
    enum { N = 20000 };
    static answer a[N];
    begin((puff_redis_options){0});
    for (int i = 0; i < N; i++) send(&a[i], "INCR puff-test:n");
    turn_until(loop, &n_answers, N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ_INT(a[i].reply->integer, i + 1);
        answer_clear(&a[i]);
    }
    ask(&a[0], "DEL puff-test:n");
    answer_clear(&a[0]);
    end();
}

TEST(test_a_value_of_many_reads) {
    enum { SIZE = 20000000 };
    begin((puff_redis_options){0});
    answer a = {.counter = &n_answers};
    char *value = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) value[i] = (char)(i * 2654435761u >> 24);
    puff_str argv[] = {PUFF_STR("SET"), PUFF_STR("puff-test:big"), {value, SIZE}};
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 3, NULL, on_answer, &a, NULL, &err), 0);
    turn_until(loop, &n_answers, 1);
    puff_redis_reply *got = ask(&a, "GET puff-test:big");
    CHECK_EQ_INT(got->len, SIZE);
    CHECK(memcmp(got->str, value, SIZE) == 0);
    ask(&a, "DEL puff-test:big");
    answer_clear(&a);
    free(value);
    end();
}

TEST(test_a_blocked_pop_does_not_hold_up_the_push_that_wakes_it) {
    begin((puff_redis_options){0});
    answer pop = {0}, push = {0};
    send(&pop, "BLPOP puff-test:queue 10");
    for (int i = 0; i < 5; i++) ask(&push, "PING");
    ask(&push, "RPUSH puff-test:queue job");
    turn_until(loop, &n_answers, 7);
    CHECK_EQ_STR(pop.reply->elements[1]->str, "job");
    answer_clear(&pop);
    answer_clear(&push);
    end();
}

TEST(test_an_error_inside_an_array_is_a_value) {
    begin((puff_redis_options){0});
    answer a = {0};
    static const char script[] = "return {1, {err='ERR inner'}, {{{'x'}}}}";
    puff_str argv[] = {PUFF_STR("EVAL"), PUFF_STR(script), PUFF_STR("0")};
    a.counter = &n_answers;
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 3, NULL, on_answer, &a, NULL, &err), 0);
    turn_until(loop, &n_answers, 1);
    CHECK_EQ_INT(a.status, 0);
    CHECK_EQ_INT(a.reply->n_elements, 3);
    CHECK_EQ_INT(a.reply->elements[1]->kind, PUFF_REDIS_ERROR);
    CHECK(strstr(a.reply->elements[1]->str, "inner"));
    answer_clear(&a);
    end();
}

TEST(test_a_connection_that_the_server_kills_is_replaced) {
    begin((puff_redis_options){0});
    answer a = {0}, killed = {0};
    char kill[64];
    snprintf(kill, sizeof kill, "CLIENT KILL SKIPME no ID %lld",
             (long long)ask(&a, "CLIENT ID")->integer);
    send(&killed, kill);
    turn_until(loop, &n_answers, 2);
    answer_clear(&killed);
    /* Whether it is heard of before or after this command is written, nothing hangs. */
    send(&killed, "PING");
    turn_until(loop, &n_answers, 3);
    ask(&a, "PING");
    CHECK_EQ_STR(a.reply->str, "PONG");
    CHECK(puff_redis_pool_get_stats(pool).n_lost >= 1);
    answer_clear(&a);
    answer_clear(&killed);
    end();
}

TEST(test_a_password_that_the_server_does_not_know_is_refused) {
    char url[256];
    const char *given = getenv("PUFF_TEST_REDIS"), *rest = strstr(given, "://");
    if (!rest || strchr(given, '@')) return;
    snprintf(url, sizeof url, "%.*snobody:wrong@%s", (int)(rest + 3 - given), given, rest + 3);
    begin((puff_redis_options){.url = url});
    answer a = {0};
    send(&a, "GET x");
    turn_until(loop, &n_answers, 1);
    CHECK_EQ_INT(a.status, PUFF_EAUTH);
    CHECK(!strstr(a.err.msg, "wrong@") && strstr(a.err.msg, "WRONGPASS"));
    end();
}

#if PUFF_HAVE_HIREDIS_RESP3
TEST(test_resp3_makes_maps) {
    begin((puff_redis_options){.resp3 = true});
    answer a = {0};
    ask(&a, "HSET puff-test:hash f v");
    puff_redis_reply *hash = ask(&a, "HGETALL puff-test:hash");
    CHECK_EQ_INT(hash->kind, PUFF_REDIS_MAP);
    CHECK_EQ_INT(hash->n_elements, 2);
    ask(&a, "DEL puff-test:hash");
    answer_clear(&a);
    end();
}
#endif

RUN_TESTS;
