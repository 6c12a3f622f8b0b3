#include "check.h"
#include "redis/url.h"

static puff__redis_url u;
static puff_err err;

static int parse(const char *text) {
    return puff__redis_url_parse(&u, &puff_alloc_system, text, &err);
}

static void check_tcp(const char *text, const char *host, int port, int db) {
    if (parse(text) != 0) CHECK_FAIL("%s: %s", text, err.msg);
    CHECK(!u.unix_path);
    CHECK_EQ_STR(u.host, host);
    CHECK_EQ_INT(u.port, port);
    CHECK_EQ_INT(u.db, db);
    puff__redis_url_deinit(&u);
}

static void check_refused(const char *text, const char *word) {
    if (parse(text) == 0) CHECK_FAIL("%s was taken", text);
    if (!strstr(err.msg, word)) CHECK_FAIL("%s: \"%s\" does not say %s", text, err.msg, word);
}

TEST(test_tcp_addresses) {
    check_tcp(NULL, "127.0.0.1", 6379, 0);
    check_tcp("redis://", "127.0.0.1", 6379, 0);
    check_tcp("redis://cache.example", "cache.example", 6379, 0);
    check_tcp("REDIS://cache.example:7000/3", "cache.example", 7000, 3);
    check_tcp("valkey://h/", "h", 6379, 0);
    check_tcp("redis://h?db=5", "h", 6379, 5);
    check_tcp("redis://[::1]:7000/1", "::1", 7000, 1);
    check_tcp("redis://[::1]", "::1", 6379, 0);
    check_tcp("redis://a%2Db", "a-b", 6379, 0);
}

TEST(test_credentials_are_decoded) {
    CHECK_EQ_INT(parse("redis://ann:p%40ss%3aword@h"), 0);
    CHECK_EQ_STR(u.user, "ann");
    CHECK_EQ_STR(u.password, "p@ss:word");
    CHECK_EQ_STR(u.host, "h");
    puff__redis_url_deinit(&u);
    CHECK_EQ_INT(parse("redis://:secret@h:1"), 0);
    CHECK(!u.user);
    CHECK_EQ_STR(u.password, "secret");
    puff__redis_url_deinit(&u);
    CHECK_EQ_INT(parse("redis://:p@ss@h"), 0); /* an '@' that was not escaped */
    CHECK_EQ_STR(u.password, "p@ss");
    CHECK_EQ_STR(u.host, "h");
    puff__redis_url_deinit(&u);
}

TEST(test_unix_sockets) {
    CHECK_EQ_INT(parse("unix:///run/redis.sock?db=2"), 0);
    CHECK(!u.host);
    CHECK_EQ_STR(u.unix_path, "/run/redis.sock");
    CHECK_EQ_INT(u.db, 2);
    puff__redis_url_deinit(&u);
    CHECK_EQ_INT(parse("redis+unix://u:p@/a%20b"), 0);
    CHECK_EQ_STR(u.unix_path, "/a b");
    CHECK_EQ_STR(u.password, "p");
    puff__redis_url_deinit(&u);
    CHECK_EQ_INT(parse("/run/r@1.sock"), 0);
    CHECK_EQ_STR(u.unix_path, "/run/r@1.sock");
    char address[64];
    puff__redis_url_address(&u, address, sizeof address);
    CHECK_EQ_STR(address, "/run/r@1.sock");
    puff__redis_url_deinit(&u);
}

TEST(test_bad_urls_are_refused_with_a_reason) {
    check_refused("rediss://h", "TLS");
    check_refused("http://h", "redis://");
    check_refused("", "redis://");
    check_refused("h:6379", "redis://");
    check_refused("redis://h:0", "port");
    check_refused("redis://h:65536", "port");
    check_refused("redis://h:", "port");
    check_refused("redis://h/x", "database");
    check_refused("redis://h/99999999999", "database");
    check_refused("redis://h?ssl=1", "db");
    check_refused("redis://[::1", "]");
    check_refused("redis://[::1]x", "]");
    check_refused("redis://user@h", "password");
    check_refused("redis://h%2", "hexadecimal");
    check_refused("redis://h%zz", "hexadecimal");
    check_refused("redis://h%00", "hexadecimal");
    check_refused("unix://relative.sock", "'/'");
    check_refused("unix://", "'/'");
}

TEST(test_errors_do_not_quote_the_password) {
    CHECK(parse("redis://:hunter2@h:x") != 0);
    CHECK(!strstr(err.msg, "hunter2"));
}

TEST(test_each_failed_allocation_is_an_error) {
    for (size_t n = 1;; n++) {
        puff_alloc_failing f;
        puff_alloc_failing_init(&f, n);
        int rc = puff__redis_url_parse(&u, &f.alloc, "redis://u:p@h:1/2", &err);
        if (rc == 0) puff__redis_url_deinit(&u);
        CHECK_EQ_INT(f.n_live, 0);
        if (rc == 0) break;
        CHECK_EQ_INT(rc, PUFF_ENOMEM);
    }
}

RUN_TESTS;
