/* Connecting: each way to fail, to be cancelled and to run out of time is one answer. */
#include <sys/un.h>

#include "rig.h"
#include "slow_dns.h"

enum { LONG_MS = 60000 };

static int n_answers, answer_fd;
static puff_err answer_err;
static puff_connect *conn;
static int listener, port;

static void on_connect(void *arg, int fd, const puff_err *err) {
    CHECK(arg == &n_answers);
    CHECK((fd >= 0) == (err == NULL));
    n_answers++;
    answer_fd = fd;
    answer_err = err ? *err : (puff_err){0};
}

static int tcp_listener(int backlog, int *out_port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    CHECK_EQ_INT(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    CHECK_EQ_INT(listen(fd, backlog), 0);
    CHECK_EQ_INT(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *out_port = ntohs(addr.sin_port);
    return fd;
}

static int n_fds;

static void begin_connect(void) {
    n_fds = count_fds();
    begin();
    slow_dns_init();
    n_answers = 0;
    answer_fd = -1;
    listener = tcp_listener(16, &port);
}

static void finish(void) {
    if (answer_fd >= 0) close(answer_fd);
    turn_while_open();
    CHECK_EQ_INT(n_answers, 1);
    close(listener);
    end();
    CHECK_EQ_INT(count_fds(), n_fds);
}

static void start(const char *host, int to_port, uint64_t timeout_ms) {
    CHECK_EQ_INT(
        puff_tcp_connect(&conn, loop, host, (uint16_t)to_port, timeout_ms, on_connect, &n_answers),
        0);
    CHECK_EQ_INT(n_answers, 0);
}

static void check_failed(int code, const char *words) {
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(answer_fd, -1);
    if (answer_err.code != code)
        CHECK_FAIL("%d, expected %d: %s", answer_err.code, code, answer_err.msg);
    if (!strstr(answer_err.msg, words)) CHECK_FAIL("\"%s\" does not say %s", answer_err.msg, words);
}

static void check_connected(void) {
    turn_until(&n_answers, 1);
    if (answer_fd < 0) CHECK_FAIL("%s", answer_err.msg);
    CHECK(fcntl(answer_fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(answer_fd, F_GETFD) & FD_CLOEXEC);
}

TEST(a_listener_is_reached) {
    begin_connect();
    start("localhost", port, LONG_MS);
    check_connected();
    finish();
}

TEST(the_second_address_is_tried_when_the_first_refuses) {
    begin_connect();
    start("two", port, LONG_MS);
    check_connected();
    finish();
}

TEST(nobody_listens) {
    begin_connect();
    start("localhost", 1, LONG_MS);
    check_failed(UV_ECONNREFUSED, "cannot connect to localhost:1: connection refused");
    finish();
}

TEST(nobody_has_the_name) {
    begin_connect();
    start("nowhere", port, LONG_MS);
    check_failed(UV_EAI_NONAME, "cannot resolve nowhere");
    finish();
}

/* ---- time ---- */

/* A server whose backlog is full does not answer: the kernel drops what more would connect. */
static int full_port, full_listener, fillers[8];

static void begin_full(void) {
    begin_connect();
    full_listener = tcp_listener(0, &full_port);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)full_port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fillers[i], (struct sockaddr *)&addr, sizeof addr))
            CHECK_EQ_INT(errno, EINPROGRESS);
    }
}

static void finish_full(void) {
    for (int i = 0; i < 8; i++) close(fillers[i]);
    close(full_listener);
    finish();
}

TEST(a_server_that_does_not_answer_is_a_timeout) {
    begin_full();
    start("localhost", full_port, 20);
    check_failed(PUFF_ETIMEOUT, "timed out");
    finish_full();
}

TEST(a_name_server_that_does_not_answer_is_a_timeout) {
    begin_connect();
    start("slow", port, 20);
    slow_dns_wait_begun();
    check_failed(PUFF_ETIMEOUT, "timed out"); /* and not when it answers at last */
    slow_dns_answer_all(1);
    finish();
}

/* ---- cancelling ---- */

TEST(cancel_while_it_resolves) {
    begin_connect();
    start("slow", port, LONG_MS);
    slow_dns_wait_begun();
    puff_connect_cancel(conn);
    CHECK_EQ_INT(n_answers, 0);
    check_failed(PUFF_ECANCELED, "cancel");
    slow_dns_answer_all(1);
    finish();
}

TEST(cancel_at_once_and_twice) {
    begin_connect();
    start("localhost", port, LONG_MS);
    puff_connect_cancel(conn);
    puff_connect_cancel(conn);
    CHECK_EQ_INT(n_answers, 0);
    check_failed(PUFF_ECANCELED, "cancel");
    finish();
}

TEST(cancel_while_it_waits_for_the_server) {
    begin_full();
    start("slow", full_port, LONG_MS);
    slow_dns_wait_begun();
    slow_dns_answer();
    int before = count_fds();
    uint64_t give_up = puff_now_ns() + RIG_PATIENCE_S * 1000000000ull;
    while (count_fds() == before && puff_now_ns() < give_up) puff_loop_turn(loop, true);
    puff_connect_cancel(conn);
    CHECK_EQ_INT(count_fds(), before); /* the descriptor goes at once, the answer comes later */
    CHECK_EQ_INT(n_answers, 0);
    check_failed(PUFF_ECANCELED, "cancel");
    finish_full();
}

static void on_connect_cancel(void *arg, int fd, const puff_err *err) {
    puff_connect_cancel(conn); /* too late, and harmless */
    on_connect(arg, fd, err);
}

TEST(cancel_in_the_answer_is_harmless) {
    begin_connect();
    CHECK_EQ_INT(puff_tcp_connect(&conn, loop, "localhost", (uint16_t)port, LONG_MS,
                                  on_connect_cancel, &n_answers),
                 0);
    check_connected();
    turn_some();
    finish();
}

/* ---- Unix sockets ---- */

static void start_unix(const char *path) {
    CHECK_EQ_INT(puff_pipe_connect(&conn, loop, path, LONG_MS, on_connect, &n_answers), 0);
    CHECK_EQ_INT(n_answers, 0);
}

TEST(unix_paths_that_lead_nowhere) {
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    begin_connect();
    start_unix("/nonexistent/socket");
    check_failed(UV_ENOENT, "/nonexistent/socket");
    finish();
    begin_connect();
    start_unix(longer);
    check_failed(UV_ENAMETOOLONG, "too long");
    finish();
    begin_connect();
    start_unix("");
    check_failed(UV_ENAMETOOLONG, "");
    finish();
    begin_connect();
    start_unix("/nonexistent/socket");
    puff_connect_cancel(conn);
    check_failed(PUFF_ECANCELED, "cancel");
    finish();
}

TEST(abstract_unix_socket_is_reached) {
    begin_connect();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char name[64];
    int n = snprintf(name, sizeof name, "@puff-connect-%d", (int)getpid());
    memcpy(addr.sun_path, name, (size_t)n);
    addr.sun_path[0] = '\0';
    CHECK_EQ_INT(bind(fd, (struct sockaddr *)&addr,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)),
                 0);
    CHECK_EQ_INT(listen(fd, 4), 0);
    start_unix(name);
    check_connected();
    close(fd);
    finish();
}

/* ---- memory ---- */

TEST(every_allocation_may_fail) {
    for (size_t at = 1;; at++) {
        begin_connect();
        memory.fail_at = memory.n_calls + at;
        int rc =
            puff_tcp_connect(&conn, loop, "two", (uint16_t)port, LONG_MS, on_connect, &n_answers);
        if (rc == 0)
            turn_until(&n_answers, 1);
        else {
            CHECK_EQ_INT(rc, UV_ENOMEM);
            n_answers++;
        }
        bool failed = memory.n_calls >= memory.fail_at;
        finish();
        if (!failed) break;
    }
}

RUN_TESTS;
