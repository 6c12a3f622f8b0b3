#include "check.h"
#include "redis/command.h"

static puff__redis_class classify(const char *words) {
    puff_str argv[16];
    size_t argc = 0;
    for (const char *p = words; *p || argc == 0;) {
        size_t len = strcspn(p, " ");
        argv[argc++] = (puff_str){p, len};
        p += len + (p[len] == ' ');
    }
    const char *advice = NULL;
    puff__redis_class c = puff__redis_classify(argv, argc, &advice);
    CHECK((c == PUFF__REDIS_SESSION) == (advice != NULL));
    return c;
}

static void check_all(puff__redis_class want, const char *const *commands) {
    for (; *commands; commands++)
        if (classify(*commands) != want) CHECK_FAIL("%s is misjudged", *commands);
}

TEST(test_ordinary_commands_are_shared) {
    static const char *const commands[] = {"GET k",
                                           "set k v",
                                           "",
                                           "1",
                                           "CLIENT",
                                           "CLIENT ID",
                                           "client list",
                                           "SUBSTR k 0 1",
                                           "XADD s * a 1",
                                           "XREAD STREAMS s 0",
                                           "XREAD STREAMS BLOCK 0",
                                           "XREADGROUP GROUP g c STREAMS s >",
                                           "SCRIPT LOAD x",
                                           "B",
                                           "BLPOPX k",
                                           "PUBLISH c m",
                                           "EVAL x 0",
                                           "RESTORE k",
                                           "UNLINK k",
                                           "WAITER",
                                           "HGET h f",
                                           NULL};
    check_all(PUFF__REDIS_SHARED, commands);
}

TEST(test_blocking_commands_are_known) {
    static const char *const commands[] = {"BLPOP k 0",
                                           "blpop k 0",
                                           "BrPop k 0",
                                           "BRPOPLPUSH a b 0",
                                           "BLMOVE a b LEFT LEFT 0",
                                           "BLMPOP 0 1 k LEFT",
                                           "BZPOPMIN k 0",
                                           "BZPOPMAX k 0",
                                           "BZMPOP 0 1 k MIN",
                                           "WAIT 1 0",
                                           "WAITAOF 1 0 0",
                                           "XREAD BLOCK 0 STREAMS s $",
                                           "xread count 1 block 5 streams s 0",
                                           "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS s >",
                                           NULL};
    check_all(PUFF__REDIS_BLOCKING, commands);
}

TEST(test_commands_that_need_a_session_are_known) {
    static const char *const commands[] = {"MULTI",
                                           "exec",
                                           "DISCARD",
                                           "WATCH k",
                                           "UNWATCH",
                                           "SUBSCRIBE c",
                                           "PSUBSCRIBE c",
                                           "SSUBSCRIBE c",
                                           "UNSUBSCRIBE",
                                           "PUNSUBSCRIBE",
                                           "SUNSUBSCRIBE",
                                           "MONITOR",
                                           "SELECT 1",
                                           "AUTH x",
                                           "HELLO 3",
                                           "QUIT",
                                           "RESET",
                                           "CLIENT REPLY OFF",
                                           "client tracking on",
                                           "CLIENT SETNAME x",
                                           "SYNC",
                                           "PSYNC ? -1",
                                           "READONLY",
                                           "ASKING",
                                           "SCRIPT DEBUG YES",
                                           NULL};
    check_all(PUFF__REDIS_SESSION, commands);
}

TEST(test_a_command_is_encoded_as_an_array_of_bulk_strings) {
    puff_buf b;
    puff_buf_init(&b, &puff_alloc_system, 1000);
    puff_str argv[] = {PUFF_STR("SET"), {NULL, 0}, PUFF_STR("a\0\r\n")};
    CHECK_EQ_INT(puff__redis_encode(&b, argv, 3), 0);
    static const char want[] = "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\0\r\n\r\n";
    CHECK_EQ_MEM(b.data, b.len, want, sizeof want - 1);
    puff_str one[] = {PUFF_STR("0123456789")};
    CHECK_EQ_INT(puff__redis_encode(&b, one, 1), 0);
    static const char both[] =
        "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\0\r\n\r\n*1\r\n$10\r\n0123456789\r\n";
    CHECK_EQ_MEM(b.data, b.len, both, sizeof both - 1);
    puff_buf_deinit(&b);
}

TEST(test_a_command_above_the_ceiling_changes_nothing) {
    puff_buf b;
    puff_buf_init(&b, &puff_alloc_system, 100);
    puff_str small[] = {PUFF_STR("GET"), PUFF_STR("k")};
    CHECK_EQ_INT(puff__redis_encode(&b, small, 2), 0);
    size_t before = b.len;
    puff_str huge[] = {PUFF_STR("GET"), {"", SIZE_MAX - 10}},
             large[] = {PUFF_STR("GET"), {"", 200}};
    CHECK_EQ_INT(puff__redis_encode(&b, huge, 2), PUFF_ELIMIT);
    CHECK_EQ_INT(puff__redis_encode(&b, large, 2), PUFF_ELIMIT);
    CHECK_EQ_INT(b.len, before);
    puff_buf_deinit(&b);
}

RUN_TESTS;
