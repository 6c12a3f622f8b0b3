/* The pool against a peer in the test's hands: what goes wrong, and in which order. */
#include "check.h"
#include "fake.h"
#include "puff_config.h"

static puff_loop *loop;
static fake server;
static puff_redis_pool *pool;
static puff_err err;
static int n_answers;

static puff_redis_options options(void) {
    return (puff_redis_options){.size = sizeof(puff_redis_options), .url = server.url};
}

static void open_pool(const puff_redis_options *opts) {
    if (puff_redis_pool_new(&pool, loop, opts, &err) != 0) CHECK_FAIL("%s", err.msg);
}

static void begin(void (*on_command)(fake_conn *c, int argc, char **argv)) {
    n_answers = 0;
    CHECK_EQ_INT(puff_loop_new(&loop, NULL, &err), 0);
    fake_start(&server, loop);
    server.on_command = on_command;
    puff_redis_options opts = options();
    open_pool(&opts);
}

/* The same with options of the test's own. */
static void begin_with(puff_redis_options opts,
                       void (*on_command)(fake_conn *c, int argc, char **argv)) {
    begin(on_command);
    puff_redis_pool_close(pool, NULL, NULL);
    if (!opts.url) opts.url = server.url;
    opts.size = sizeof opts;
    open_pool(&opts);
}

static void on_closed(void *arg) { ++*(int *)arg; }

static void end(void) {
    int closed = 0;
    if (pool) puff_redis_pool_close(pool, on_closed, &closed);
    if (pool) turn_until(loop, &closed, 1);
    pool = NULL;
    fake_stop(&server);
    turn_while_open(loop);
    puff_loop_free(loop);
}

static void send(answer *a, const char *words) {
    a->counter = &n_answers;
    if (send_words(pool, words, a, NULL) != 0) CHECK_FAIL("%s: %s", words, a->err.msg);
    CHECK_EQ_INT(a->n_calls, 0);
}

static void check_text(answer *a, const char *want) {
    if (a->status != 0) CHECK_FAIL("instead of %s: %d, %s", want, a->status, a->err.msg);
    CHECK_EQ_INT(a->n_calls, 1);
    CHECK_EQ_STR(a->reply->str, want);
    answer_clear(a);
}

static void check_failed(answer *a, int status, const char *word) {
    CHECK_EQ_INT(a->n_calls, 1);
    if (a->status != status)
        CHECK_FAIL("status %d, expected %d: %s", a->status, status, a->err.msg);
    CHECK(!a->reply);
    if (!strstr(a->err.msg, word)) CHECK_FAIL("\"%s\" does not say %s", a->err.msg, word);
    answer_clear(a);
}

/* "ECHO x" -> "x"; the others say how they want to be answered. */
static void behave(fake_conn *c, int argc, char **argv) {
    char text[128];
    if (strcmp(argv[0], "ECHO") == 0) {
        snprintf(text, sizeof text, "$%zu\r\n%s\r\n", strlen(argv[1]), argv[1]);
        fake_say(c, text);
    } else if (strcmp(argv[0], "BLPOP") == 0 && strcmp(argv[1], "now") == 0) {
        fake_say(c, "$6\r\npopped\r\n");
    } else if (strcmp(argv[0], "FAIL") == 0) {
        fake_say(c, "-WRONGTYPE Operation against a key\r\n");
    } else if (strcmp(argv[0], "GARBAGE") == 0) {
        fake_say(c, "HTTP/1.1 200 OK\r\n");
    } else if (strcmp(argv[0], "DEEP") == 0) {
        for (int i = 0; i < 300; i++) fake_say(c, "*1\r\n");
    } else if (strcmp(argv[0], "TWICE") == 0) {
        fake_say(c, "+one\r\n+two\r\n");
    } else if (strcmp(argv[0], "HALF") == 0) {
        fake_say(c, "*2\r\n$5\r\nhal");
        fake_hang_up(c);
    } else if (strcmp(argv[0], "HANGUP") == 0) {
        fake_hang_up(c);
    }
}

/* ---- the ordinary way ---- */

TEST(test_commands_of_one_turn_leave_in_one_write) {
    begin(behave);
    answer first = {0}, a[64] = {{0}};
    send(&first, "ECHO warm");
    turn_until(loop, &n_answers, 1);
    int before = server.conns[0].n_reads;
    for (int i = 0; i < 64; i++) send(&a[i], i % 2 ? "ECHO odd" : "ECHO even");
    turn_until(loop, &n_answers, 65);
    CHECK_EQ_INT(server.conns[0].n_reads, before + 1);
    CHECK_EQ_INT(server.n_conns, 1);
    check_text(&first, "warm");
    for (int i = 0; i < 64; i++) check_text(&a[i], i % 2 ? "odd" : "even");
    end();
}

TEST(test_commands_sent_before_the_connection_stands_keep_their_order) {
    begin(behave);
    answer a[3] = {{0}};
    send(&a[0], "ECHO a");
    send(&a[1], "ECHO b");
    turn_some(loop);
    send(&a[2], "ECHO c");
    turn_until(loop, &n_answers, 3);
    check_text(&a[0], "a");
    check_text(&a[1], "b");
    check_text(&a[2], "c");
    end();
}

TEST(test_an_error_reply_reaches_its_caller_only) {
    begin(behave);
    answer a[3] = {{0}};
    send(&a[0], "ECHO a");
    send(&a[1], "FAIL");
    send(&a[2], "ECHO c");
    turn_until(loop, &n_answers, 3);
    check_text(&a[0], "a");
    CHECK_EQ_STR(a[1].err.msg, "WRONGTYPE Operation against a key");
    check_failed(&a[1], PUFF_EREPLY, "WRONGTYPE");
    check_text(&a[2], "c");
    CHECK_EQ_INT(server.n_conns, 1);
    end();
}

static char greeting_log[256];

static void log_greeting(fake_conn *c, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        strcat(greeting_log, argv[i]);
        strcat(greeting_log, i + 1 < argc ? " " : ";");
    }
    fake_say(c, "+OK\r\n");
}

static void check_greeting(const char *url_tail, const char *want) {
    char url[160];
    puff_redis_options opts = {0};
    greeting_log[0] = 0;
    snprintf(url, sizeof url, "unix://%s", url_tail);
    begin(behave);
    puff_redis_pool_close(pool, NULL, NULL);
    char *path = strstr(url, "PATH");
    char full[256];
    snprintf(full, sizeof full, "%.*s%s%s", (int)(path - url), url, server.path, path + 4);
    opts.size = sizeof opts;
    opts.url = full;
    open_pool(&opts);
    server.on_greeting = log_greeting;
    answer a = {0};
    send(&a, "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_text(&a, "x");
    CHECK_EQ_STR(greeting_log, want);
    end();
}

TEST(test_a_connection_greets_with_what_the_url_says) {
    check_greeting("PATH", "CLIENT SETNAME puff;");
    check_greeting(":secret@PATH", "AUTH secret;CLIENT SETNAME puff;");
    check_greeting("ann:secret@PATH?db=3", "AUTH ann secret;SELECT 3;CLIENT SETNAME puff;");
}

TEST(test_more_connections_share_the_load) {
    begin_with((puff_redis_options){.n_connections = 3}, behave);
    answer a[50] = {{0}};
    for (int i = 0; i < 50; i++) {
        send(&a[i], "ECHO x");
        if (i % 10 == 0) turn_some(loop);
    }
    turn_until(loop, &n_answers, 50);
    for (int i = 0; i < 50; i++) check_text(&a[i], "x");
    CHECK(server.n_conns <= 3);
    end();
}

TEST(test_the_limit_in_flight_makes_commands_wait_their_turn) {
    begin_with((puff_redis_options){.max_in_flight = 2}, NULL);
    answer a[5] = {{0}};
    for (int i = 0; i < 5; i++) send(&a[i], "ECHO x");
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 2);
    CHECK_EQ_INT(puff_redis_pool_get_stats(pool).n_waiting, 3);
    fake_say(&server.conns[0], "+1\r\n");
    turn_until(loop, &n_answers, 1);
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 3);
    fake_say(&server.conns[0], "+2\r\n+3\r\n");
    turn_until(loop, &n_answers, 3);
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 5);
    fake_say(&server.conns[0], "+4\r\n+5\r\n");
    turn_until(loop, &n_answers, 5);
    for (int i = 0; i < 5; i++) check_text(&a[i], (char[]){(char)('1' + i), 0});
    end();
}

TEST(test_too_many_waiting_commands_are_refused) {
    begin_with((puff_redis_options){.max_waiting = 2}, behave);
    answer a[3] = {{0}};
    send(&a[0], "ECHO a");
    send(&a[1], "ECHO b");
    CHECK_EQ_INT(send_words(pool, "ECHO c", &a[2], NULL), PUFF_ELIMIT);
    CHECK_EQ_INT(a[2].n_calls, 0);
    turn_until(loop, &n_answers, 2);
    check_text(&a[0], "a");
    check_text(&a[1], "b");
    end();
}

TEST(test_commands_that_need_a_session_are_refused) {
    begin(behave);
    answer a = {0};
    CHECK_EQ_INT(send_words(pool, "MULTI", &a, NULL), PUFF_EARG);
    CHECK(strstr(a.err.msg, "MULTI") && strstr(a.err.msg, "EVAL"));
    CHECK_EQ_INT(send_words(pool, "SUBSCRIBE c", &a, NULL), PUFF_EARG);
    CHECK(strstr(a.err.msg, "pub/sub"));
    CHECK_EQ_INT(puff_redis_command_submit(pool, NULL, 0, NULL, on_answer, &a, NULL, &err),
                 PUFF_EARG);
    CHECK_EQ_INT(a.n_calls, 0);
    end();
}

/* ---- cancelling ---- */

TEST(test_a_cancelled_command_keeps_its_place) {
    begin(NULL);
    answer a[3] = {{0}};
    puff_redis_command *c[3];
    for (int i = 0; i < 3; i++) {
        a[i].counter = &n_answers;
        CHECK_EQ_INT(send_words(pool, "ECHO x", &a[i], &c[i]), 0);
    }
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 3);
    puff_redis_command_cancel(c[1]);
    puff_redis_command_cancel(c[1]);
    CHECK_EQ_INT(a[1].n_calls, 0);
    turn_until(loop, &n_answers, 1);
    check_failed(&a[1], PUFF_ECANCELED, "cancelled");
    fake_say(&server.conns[0], "+first\r\n+second\r\n+third\r\n");
    turn_until(loop, &n_answers, 3);
    check_text(&a[0], "first");
    check_text(&a[2], "third");
    CHECK_EQ_INT(a[1].n_calls, 0);
    end();
}

TEST(test_a_command_cancelled_while_its_reply_arrives) {
    begin(NULL);
    answer a[2] = {{0}};
    puff_redis_command *c;
    a[0].counter = &n_answers;
    CHECK_EQ_INT(send_words(pool, "ECHO x", &a[0], &c), 0);
    send(&a[1], "ECHO y");
    turn_some(loop);
    fake_say(&server.conns[0], "*2\r\n*2\r\n$1\r\na\r\n");
    turn_some(loop);
    puff_redis_command_cancel(c);
    turn_until(loop, &n_answers, 1);
    check_failed(&a[0], PUFF_ECANCELED, "cancelled");
    fake_say(&server.conns[0], "$1\r\nb\r\n:1\r\n+yes\r\n");
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "yes");
    end();
}

TEST(test_a_waiting_command_that_is_cancelled_is_never_sent) {
    begin(behave);
    answer a[2] = {{0}};
    puff_redis_command *c;
    a[0].counter = &n_answers;
    CHECK_EQ_INT(send_words(pool, "ECHO x", &a[0], &c), 0);
    send(&a[1], "ECHO y");
    puff_redis_command_cancel(c);
    turn_until(loop, &n_answers, 2);
    check_failed(&a[0], PUFF_ECANCELED, "cancelled");
    check_text(&a[1], "y");
    CHECK_EQ_INT(server.n_commands, 1);
    end();
}

/* ---- time ---- */

TEST(test_a_command_that_times_out_keeps_its_place) {
    begin(NULL);
    answer a[2] = {{0}};
    puff_redis_command_options soon = {.size = sizeof soon, .timeout_ms = 5};
    puff_str argv[] = {PUFF_STR("ECHO"), PUFF_STR("x")};
    a[0].counter = &n_answers;
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 2, &soon, on_answer, &a[0], NULL, &err), 0);
    send(&a[1], "ECHO y");
    turn_until(loop, &n_answers, 1);
    check_failed(&a[0], PUFF_ETIMEOUT, "may have run");
    fake_say(&server.conns[0], "+late\r\n+right\r\n");
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "right");
    CHECK_EQ_INT(puff_redis_pool_get_stats(pool).n_timeouts, 1);
    CHECK_EQ_INT(server.n_conns, 1);
    end();
}

TEST(test_a_connection_that_is_stuck_for_a_whole_timeout_is_replaced) {
    begin_with((puff_redis_options){.timeout_ms = 200}, NULL);
    answer a[3] = {{0}};
    send(&a[0], "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_failed(&a[0], PUFF_ETIMEOUT, "no reply in time");
    while (puff_redis_pool_get_stats(pool).n_lost == 0) puff_loop_turn(loop, true);
    server.on_command = behave;
    send(&a[1], "ECHO y");
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "y");
    CHECK_EQ_INT(server.n_conns, 2);
    end();
}

TEST(test_a_greeting_without_an_answer_is_a_failed_connect) {
    begin_with((puff_redis_options){.connect_timeout_ms = 20}, behave);
    server.deaf = true;
    answer a[2] = {{0}};
    send(&a[0], "ECHO x");
    send(&a[1], "ECHO y");
    turn_until(loop, &n_answers, 2);
    check_failed(&a[0], PUFF_ECONNECT, "in time");
    check_failed(&a[1], PUFF_ECONNECT, server.path);
    end();
}

/* ---- peers that break things ---- */

static void check_broken(const char *command, int status, const char *word) {
    begin(behave);
    answer a[3] = {{0}};
    send(&a[0], "ECHO warm");
    turn_until(loop, &n_answers, 1);
    answer_clear(&a[0]);
    send(&a[0], command);
    send(&a[1], "ECHO behind");
    turn_until(loop, &n_answers, 3);
    check_failed(&a[0], status, word);
    check_failed(&a[1], status, "may have run");
    send(&a[2], "ECHO again");
    turn_until(loop, &n_answers, 4);
    check_text(&a[2], "again");
    CHECK_EQ_INT(server.n_conns, 2);
    end();
}

TEST(test_garbage_ends_the_connection_and_the_next_command_gets_a_new_one) {
    check_broken("GARBAGE", PUFF_EPROTO, "Protocol error");
}

TEST(test_a_nesting_too_deep_ends_the_connection) {
    check_broken("DEEP", PUFF_HAVE_HIREDIS_RESP3 ? PUFF_ELIMIT : PUFF_EPROTO, "nested");
}

TEST(test_half_a_reply_and_then_nothing) { check_broken("HALF", PUFF_ECLOSED, "connection lost"); }

TEST(test_a_hang_up_instead_of_a_reply) { check_broken("HANGUP", PUFF_ECLOSED, "connection lost"); }

TEST(test_a_reply_that_answers_nobody_ends_the_connection) {
    begin(behave);
    answer a[2] = {{0}};
    send(&a[0], "TWICE");
    turn_until(loop, &n_answers, 1);
    turn_some(loop);
    check_text(&a[0], "one");
    send(&a[1], "ECHO mine");
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "mine");
    CHECK_EQ_INT(server.n_conns, 2);
    end();
}

static void say_full(fake_conn *c, int argc, char **argv) {
    fake_say(c, "-ERR max number of clients reached\r\n");
    fake_hang_up(c);
}

TEST(test_a_server_that_is_full_is_a_failed_connect) {
    begin(behave);
    server.on_greeting = say_full;
    answer a = {0};
    send(&a, "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_failed(&a, PUFF_ECONNECT, "max number of clients");
    end();
}

static void say_wrong_password(fake_conn *c, int argc, char **argv) {
    fake_say(c, strcmp(argv[0], "AUTH") ? "-NOAUTH Authentication required.\r\n"
                                        : "-WRONGPASS invalid username-password pair\r\n");
}

TEST(test_a_wrong_password_fails_who_waits_and_is_not_tried_again_for_each_command) {
    char url[128];
    begin(behave);
    puff_redis_pool_close(pool, NULL, NULL);
    snprintf(url, sizeof url, "unix://:hunter2@%s", server.path);
    puff_redis_options opts = options();
    opts.url = url;
    open_pool(&opts);
    server.on_greeting = say_wrong_password;
    answer a[30] = {{0}};
    for (int i = 0; i < 30; i++) {
        send(&a[i], "ECHO x");
        if (i >= 3) turn_until(loop, &n_answers, i + 1);
    }
    CHECK_EQ_INT(server.n_conns, 1);
    for (int i = 0; i < 30; i++) {
        CHECK(!strstr(a[i].err.msg, "hunter2"));
        check_failed(&a[i], PUFF_EAUTH, "WRONGPASS");
    }
    end();
}

TEST(test_a_server_that_wants_a_password_says_so) {
    begin(behave);
    server.on_greeting = say_wrong_password;
    answer a = {0};
    send(&a, "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_failed(&a, PUFF_EAUTH, "wants a password");
    end();
}

/* ---- servers that come and go ---- */

TEST(test_a_refused_connect_fails_all_who_wait) {
    begin(behave);
    puff_listener_close(server.listener);
    turn_some(loop);
    answer a[3] = {{0}};
    for (int i = 0; i < 3; i++) send(&a[i], "ECHO x");
    turn_until(loop, &n_answers, 3);
    for (int i = 0; i < 3; i++) check_failed(&a[i], PUFF_ECONNECT, server.path);
    CHECK_EQ_INT(puff_redis_pool_get_stats(pool).n_connect_failures, 1);
    /* And once it is back, so are we. */
    fake_start(&server, loop);
    server.on_command = behave;
    send(&a[0], "ECHO back");
    turn_until(loop, &n_answers, 4);
    check_text(&a[0], "back");
    end();
}

TEST(test_commands_during_the_back_off_wait_for_the_next_try) {
    begin_with((puff_redis_options){.backoff_min_ms = 300}, behave);
    puff_listener_close(server.listener);
    turn_some(loop);
    answer a[2] = {{0}};
    send(&a[0], "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_failed(&a[0], PUFF_ECONNECT, "cannot connect");
    send(&a[1], "ECHO y");
    turn_some(loop);
    CHECK_EQ_INT(a[1].n_calls, 0);
    fake_start(&server, loop);
    server.on_command = behave;
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "y");
    end();
}

/* The server reads nothing of the first connection and hangs up: what the kernel has taken may have
 * run, the rest is sent again. */
TEST(test_commands_never_written_move_to_the_next_connection) {
    enum { N = 64, SIZE = 100000 };
    static char value[SIZE];
    static answer a[N];
    memset(value, 'v', SIZE);
    memset(a, 0, sizeof a);
    begin(behave);
    answer warm = {0};
    send(&warm, "ECHO warm");
    turn_until(loop, &n_answers, 1);
    check_text(&warm, "warm");
    puff_stream_read_stop(server.conns[0].stream);
    puff_str argv[] = {PUFF_STR("ECHO"), PUFF_STR("ok"), {value, SIZE}};
    for (int i = 0; i < N; i++) {
        a[i].counter = &n_answers;
        CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 3, NULL, on_answer, &a[i], NULL, &err),
                     0);
        if (i % 8 == 0) turn_some(loop);
    }
    fake_hang_up(&server.conns[0]);
    turn_until(loop, &n_answers, N + 1);
    int n_lost = 0;
    while (n_lost < N && a[n_lost].status != 0)
        check_failed(&a[n_lost++], PUFF_ECLOSED, "may have run");
    CHECK(n_lost > 0 && n_lost < N);
    for (int i = n_lost; i < N; i++) check_text(&a[i], "ok");
    CHECK_EQ_INT(server.conns[1].n_commands, N - n_lost);
    end();
}

/* ---- blocking commands ---- */

TEST(test_a_blocking_command_has_a_connection_of_its_own_and_gives_it_back) {
    begin(behave);
    answer a[4] = {{0}};
    send(&a[0], "BLPOP later 0");
    send(&a[1], "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_text(&a[1], "x");
    CHECK_EQ_INT(a[0].n_calls, 0);
    CHECK_EQ_INT(server.conns[0].n_commands, 1);
    CHECK_EQ_INT(server.conns[1].n_commands, 1);
    send(&a[2], "BLPOP now 0");
    turn_until(loop, &n_answers, 2);
    check_text(&a[2], "popped");
    CHECK_EQ_INT(server.n_conns, 3);
    send(&a[3], "BLPOP now 0");
    turn_until(loop, &n_answers, 3);
    check_text(&a[3], "popped");
    CHECK_EQ_INT(server.n_conns, 3);
    puff_redis_pool_close(pool, NULL, NULL);
    pool = NULL;
    turn_until(loop, &n_answers, 4);
    check_failed(&a[0], PUFF_ECLOSED, "closed");
    end();
}

TEST(test_a_blocking_command_that_is_cancelled_ends_with_its_connection) {
    begin(behave);
    answer a[2] = {{0}};
    puff_redis_command *c;
    a[0].counter = &n_answers;
    CHECK_EQ_INT(send_words(pool, "BLPOP later 0", &a[0], &c), 0);
    turn_until(loop, &server.n_commands, 1);
    puff_redis_command_cancel(c);
    turn_until(loop, &n_answers, 1);
    check_failed(&a[0], PUFF_ECANCELED, "cancelled");
    turn_some(loop);
    CHECK_EQ_INT(server.n_open, 0);
    send(&a[1], "BLPOP now 0");
    turn_until(loop, &n_answers, 2);
    check_text(&a[1], "popped");
    end();
}

TEST(test_blocking_commands_above_the_limit_wait_for_a_connection) {
    begin_with((puff_redis_options){.max_exclusive = 1}, NULL);
    answer a[2] = {{0}};
    send(&a[0], "BLPOP k 0");
    send(&a[1], "BLPOP k 0");
    turn_until(loop, &server.n_commands, 1);
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 1);
    fake_say(&server.conns[0], "+a\r\n");
    turn_until(loop, &server.n_commands, 2);
    fake_say(&server.conns[0], "+b\r\n");
    turn_until(loop, &n_answers, 2);
    check_text(&a[0], "a");
    check_text(&a[1], "b");
    CHECK_EQ_INT(server.n_conns, 1);
    end();
}

/* ---- the end ---- */

TEST(test_closing_answers_everybody_once) {
    begin(NULL);
    answer a[3] = {{0}};
    puff_redis_command *c;
    send(&a[0], "ECHO x");
    turn_some(loop);
    CHECK_EQ_INT(server.n_commands, 1);
    send(&a[1], "BLPOP k 0"); /* waits for its connection */
    a[2].counter = &n_answers;
    CHECK_EQ_INT(send_words(pool, "ECHO z", &a[2], &c), 0);
    puff_redis_command_cancel(c);
    int closed = 0;
    puff_redis_pool_close(pool, on_closed, &closed);
    pool = NULL;
    CHECK_EQ_INT(n_answers, 0);
    turn_until(loop, &closed, 1);
    check_failed(&a[0], PUFF_ECLOSED, "may have run");
    check_failed(&a[1], PUFF_ECLOSED, "closed");
    check_failed(&a[2], PUFF_ECANCELED, "cancelled");
    CHECK_EQ_INT(n_answers, 3);
    end();
}

static answer follow_up;

static void submit_again(void *arg, int status, void *reply, const puff_err *why) {
    puff_redis_reply_free(reply);
    follow_up.counter = &n_answers;
    CHECK_EQ_INT(send_words(pool, "ECHO again", &follow_up, NULL), 0);
}

static void close_pool(void *arg, int status, void *reply, const puff_err *why) {
    puff_redis_reply_free(reply);
    puff_redis_pool_close(pool, NULL, NULL);
    pool = NULL;
}

TEST(test_a_callback_may_submit_and_close) {
    begin(behave);
    puff_str argv[] = {PUFF_STR("ECHO"), PUFF_STR("x")};
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 2, NULL, submit_again, NULL, NULL, &err), 0);
    turn_until(loop, &n_answers, 1);
    check_text(&follow_up, "again");
    answer behind = {0};
    CHECK_EQ_INT(puff_redis_command_submit(pool, argv, 2, NULL, close_pool, NULL, NULL, &err), 0);
    send(&behind, "ECHO behind");
    turn_until(loop, &n_answers, 2);
    check_failed(&behind, PUFF_ECLOSED, "closed");
    end();
}

TEST(test_a_loop_that_is_freed_right_after_the_close_leaves_nothing_behind) {
    begin(behave);
    answer a = {0};
    send(&a, "ECHO x");
    turn_until(loop, &n_answers, 1);
    check_text(&a, "x");
    send(&a, "ECHO y");
    puff_redis_pool_close(pool, NULL, NULL);
    pool = NULL;
    fake_stop(&server);
    puff_loop_free(loop);
    check_failed(&a, PUFF_ECLOSED, "closed");
}

TEST(test_options_of_another_version_are_refused) {
    begin(behave);
    puff_redis_pool *other;
    puff_redis_options opts = {.size = 8};
    CHECK_EQ_INT(puff_redis_pool_new(&other, loop, &opts, &err), PUFF_EARG);
    CHECK(strstr(err.msg, "version"));
    opts = (puff_redis_options){.size = sizeof opts, .url = "rediss://h"};
    CHECK_EQ_INT(puff_redis_pool_new(&other, loop, &opts, &err), PUFF_EARG);
    CHECK(strstr(err.msg, "TLS"));
#if !PUFF_HAVE_HIREDIS_RESP3
    opts = (puff_redis_options){.size = sizeof opts, .resp3 = true};
    CHECK_EQ_INT(puff_redis_pool_new(&other, loop, &opts, &err), PUFF_EARG);
    CHECK(strstr(err.msg, "RESP3"));
#endif
    end();
}

#if PUFF_HAVE_HIREDIS_RESP3
TEST(test_resp3_says_hello_and_drops_what_is_pushed) {
    greeting_log[0] = 0;
    begin_with((puff_redis_options){.resp3 = true}, NULL);
    server.on_greeting = log_greeting;
    answer a = {0};
    send(&a, "ECHO x");
    turn_until(loop, &server.n_commands, 1);
    CHECK_EQ_STR(greeting_log, "HELLO 3;CLIENT SETNAME puff;");
    fake_say(&server.conns[0], ">1\r\n+news\r\n#t\r\n>1\r\n+more\r\n");
    turn_until(loop, &n_answers, 1);
    CHECK_EQ_INT(a.status, 0);
    CHECK_EQ_INT(a.reply->kind, PUFF_REDIS_BOOL);
    answer_clear(&a);
    end();
}
#endif

/* ---- memory ---- */

/* A little of everything with the n-th allocation failing; it may be one of the server's, then
 * somebody is hung up on or waits in vain. False: n was past the last one. */
static bool live_with_failure(size_t n) {
    puff_alloc_failing f;
    puff_alloc_failing_init(&f, 0);
    puff_loop_options lo = {.size = sizeof lo, .alloc = &f.alloc};
    CHECK_EQ_INT(puff_loop_new(&loop, &lo, &err), 0);
    fake_start(&server, loop);
    server.on_command = behave;
    n_answers = 0;
    puff_redis_options opts = options();
    opts.max_in_flight = 3; /* so that some wait */
    opts.timeout_ms = opts.connect_timeout_ms = 100;
    answer a[8] = {{0}};
    int n_sent = 0, closed = 0;
    f.n_calls = 0;
    f.fail_at = n;
    if (puff_redis_pool_new(&pool, loop, &opts, &err) == 0) {
        static const char *const words[8] = {"ECHO a", "BLPOP now 0", "FAIL",    "ECHO b",
                                             "ECHO c", "ECHO d",      "GARBAGE", "ECHO e"};
        for (int i = 0; i < 8; i++) {
            a[i].counter = &n_answers;
            if (send_words(pool, words[i], &a[i], NULL) == 0)
                n_sent++;
            else
                CHECK_EQ_INT(a[i].err.code, PUFF_ENOMEM);
        }
        turn_until(loop, &n_answers, n_sent);
        puff_redis_pool_close(pool, on_closed, &closed);
        turn_until(loop, &closed, 1);
    }
    bool reached = f.n_calls >= n;
    f.fail_at = 0;
    CHECK_EQ_INT(n_answers, n_sent);
    for (int i = 0; i < 8; i++) {
        CHECK(a[i].n_calls <= 1);
        answer_clear(&a[i]);
    }
    pool = NULL;
    fake_stop(&server);
    turn_while_open(loop);
    puff_loop_free(loop);
    CHECK_EQ_INT(f.n_live, 0);
    return reached;
}

TEST(test_each_failed_allocation_is_an_answer) {
    size_t n = 1;
    while (live_with_failure(n)) n++;
    CHECK(n > 30);
}

RUN_TESTS;
