/* Listeners: bursts, addresses, socket files, no descriptors left, closing from inside. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "rig.h"

static puff_listener *listener;
static int n_accepted, accepted[512];
static void (*then)(puff_listener *l);
static char path[64];
static puff_err err;

static void on_accept(puff_listener *l, int fd, const struct sockaddr *peer, unsigned len) {
    CHECK(puff_listener_data(l) == &n_accepted);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(peer->sa_family == AF_INET || peer->sa_family == AF_UNIX);
    accepted[n_accepted++] = fd;
    if (then) then(l);
}

static int open_listener(puff_listener_options o) {
    o.size = sizeof o;
    if (o.host || o.unix_path) o.fd = -1;
    return puff_listener_open(&listener, loop, &o, on_accept, &n_accepted, &err);
}

static int fds_before;

static void begin_listener(void) {
    fds_before = count_fds();
    begin();
    n_accepted = 0;
    then = NULL;
    snprintf(path, sizeof path, "/tmp/puff-listener-%d.sock", (int)getpid());
}

static void close_accepted(void) {
    for (int i = 0; i < n_accepted; i++) close(accepted[i]);
    n_accepted = 0;
}

static void finish(void) {
    close_accepted();
    turn_while_open();
    end();
    unlink(path);
    CHECK_EQ_INT(count_fds(), fds_before);
}

static int call(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ_INT(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

TEST(a_burst_is_taken_and_the_kernel_chooses_a_port) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    int port = puff_listener_port(listener), callers[150];
    CHECK(port > 0);
    CHECK(fd_is_open(puff_listener_fd(listener)));
    for (int i = 0; i < 150; i++) callers[i] = call(port);
    puff_loop_turn(loop, true);
    CHECK(n_accepted > 1 && n_accepted <= 64); /* a bounded number per turn */
    turn_until(&n_accepted, 150);
    for (int i = 0; i < 150; i++) close(callers[i]);
    puff_listener_close(listener);
    finish();
}

TEST(an_address_in_use_is_said_with_its_name) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    puff_listener *first = listener;
    uint16_t port = (uint16_t)puff_listener_port(first);
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1", .port = port}),
                 UV_EADDRINUSE);
    CHECK(strstr(err.msg, "127.0.0.1"));
    CHECK(strstr(err.msg, "in use"));
    CHECK(open_listener((puff_listener_options){.host = "256.0.0.1", .port = 1}) < 0);
    puff_listener_close(first);
    finish();
}

TEST(ports_are_shared_only_where_all_ask_for_it) {
    begin_listener();
    puff_listener_options o = {.host = "127.0.0.1", .reuse_port = true};
    CHECK_EQ_INT(open_listener(o), 0);
    puff_listener *first = listener;
    o.port = (uint16_t)puff_listener_port(first);
    CHECK_EQ_INT(open_listener(o), 0);
    puff_listener_close(first);
    puff_listener_close(listener);
    finish();
}

TEST(pause_leaves_callers_waiting) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    puff_listener_pause(listener);
    int caller = call(puff_listener_port(listener));
    turn_some();
    CHECK_EQ_INT(n_accepted, 0);
    puff_listener_resume(listener);
    turn_until(&n_accepted, 1);
    close(caller);
    puff_listener_close(listener);
    finish();
}

TEST(pause_in_the_callback_ends_the_burst) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    then = puff_listener_pause;
    int callers[3];
    for (int i = 0; i < 3; i++) callers[i] = call(puff_listener_port(listener));
    turn_until(&n_accepted, 1);
    turn_some();
    CHECK_EQ_INT(n_accepted, 1);
    then = NULL;
    puff_listener_resume(listener);
    turn_until(&n_accepted, 3);
    for (int i = 0; i < 3; i++) close(callers[i]);
    puff_listener_close(listener);
    finish();
}

TEST(close_in_the_callback_ends_the_burst) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    then = puff_listener_close;
    int callers[3];
    for (int i = 0; i < 3; i++) callers[i] = call(puff_listener_port(listener));
    turn_until(&n_accepted, 1);
    turn_while_open();
    CHECK_EQ_INT(n_accepted, 1);
    for (int i = 0; i < 3; i++) close(callers[i]);
    finish();
}

/* ---- socket files ---- */

static void occupy_path(int type, bool listens, int *fd) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    *fd = socket(AF_UNIX, type, 0);
    CHECK_EQ_INT(bind(*fd, (struct sockaddr *)&addr, sizeof addr), 0);
    if (listens) CHECK_EQ_INT(listen(*fd, 1), 0);
}

static int call_path(const char *to) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(to);
    memcpy(addr.sun_path, to, n);
    if (to[0] == '@') addr.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ_INT(connect(fd, (struct sockaddr *)&addr,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
                 0);
    return fd;
}

TEST(a_stale_socket_file_is_replaced_and_ours_removed) {
    begin_listener();
    int fd;
    occupy_path(SOCK_STREAM, true, &fd);
    close(fd);
    CHECK_EQ_INT(access(path, F_OK), 0);
    CHECK_EQ_INT(open_listener((puff_listener_options){.unix_path = path}), 0);
    CHECK_EQ_INT(puff_listener_port(listener), 0);
    int caller = call_path(path);
    turn_until(&n_accepted, 1);
    close(caller);
    puff_listener_close(listener);
    CHECK_EQ_INT(access(path, F_OK), -1);
    finish();
}

static void check_in_use(void) {
    CHECK_EQ_INT(open_listener((puff_listener_options){.unix_path = path}), UV_EADDRINUSE);
    CHECK(strstr(err.msg, path));
    CHECK_EQ_INT(access(path, F_OK), 0);
}

TEST(a_path_that_somebody_has_stays_theirs) {
    int fd;
    begin_listener();
    occupy_path(SOCK_STREAM, true, &fd);
    check_in_use();
    close(fd);
    unlink(path);
    occupy_path(SOCK_DGRAM, false, &fd); /* a log daemon's, say */
    check_in_use();
    close(fd);
    unlink(path);
    fd = open(path, O_CREAT | O_WRONLY, 0600); /* no socket at all */
    check_in_use();
    close(fd);
    unlink(path);
    finish();
}

TEST(a_file_that_is_not_ours_any_more_is_left) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.unix_path = path}), 0);
    unlink(path);
    int fd;
    occupy_path(SOCK_STREAM, true, &fd); /* the next server, while we shut down */
    puff_listener_close(listener);
    CHECK_EQ_INT(access(path, F_OK), 0);
    close(fd);
    finish();
}

TEST(an_abstract_name_has_no_file) {
    begin_listener();
    char name[64];
    snprintf(name, sizeof name, "@puff-listener-%d", (int)getpid());
    CHECK_EQ_INT(open_listener((puff_listener_options){.unix_path = name}), 0);
    int caller = call_path(name);
    turn_until(&n_accepted, 1);
    CHECK_EQ_INT(access(name, F_OK), -1);
    close(caller);
    puff_listener_close(listener);
    finish();
}

TEST(a_path_that_is_too_long_is_said) {
    begin_listener();
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK_EQ_INT(open_listener((puff_listener_options){.unix_path = longer}), UV_ENAMETOOLONG);
    finish();
}

TEST(a_socket_that_listens_already_is_taken) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.fd = 0}), UV_EINVAL);
    int fd;
    occupy_path(SOCK_STREAM, true, &fd);
    CHECK_EQ_INT(open_listener((puff_listener_options){.fd = fd}), 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    int caller = call_path(path);
    turn_until(&n_accepted, 1);
    close(caller);
    puff_listener_close(listener);
    CHECK(!fd_is_open(fd));
    finish();
}

/* ---- failing ---- */

/* The child has no descriptor left: a caller sees a close rather than a hang, and the listener goes
 * on when there are some again. */
static void accept_without_descriptors(void) {
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    int port = puff_listener_port(listener);
    int first = call(port), second = call(port), highest = second;
    struct rlimit limit;
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)highest + 1; /* the hard limit stays: valgrind refuses to lower it */
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (open("/dev/null", O_RDONLY) >= 0) continue; /* also what lies between */
    CHECK_EQ_INT(errno, EMFILE);
    struct timeval patience = {.tv_sec = RIG_PATIENCE_S};
    setsockopt(first, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    puff_loop_turn(loop, true);
    CHECK_EQ_INT(n_accepted, 0);
    char c;
    CHECK_EQ_INT(read(first, &c, 1), 0);
    close(first);
    turn_until(&n_accepted, 1);
    puff_listener_close(listener);
    end();
    _exit(0);
}

TEST(no_descriptors_left_turns_callers_away_and_rests) {
    const char *preload = getenv("LD_PRELOAD");
    if (preload && strstr(preload, "valgrind")) return; /* it needs descriptors of its own */
    begin_listener();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ_INT(puff_loop_fork(loop), 0);
        accept_without_descriptors();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    finish();
}

/* A socket that its owner has shut down is readable for ever, and accept() says EINVAL. */
TEST(a_socket_that_cannot_accept_any_more_is_no_busy_loop) {
    begin_listener();
    CHECK_EQ_INT(open_listener((puff_listener_options){.host = "127.0.0.1"}), 0);
    CHECK_EQ_INT(shutdown(puff_listener_fd(listener), SHUT_RDWR), 0);
    turn_some();
    struct pollfd ready = {.fd = puff_loop_backend_fd(loop), .events = POLLIN};
    CHECK_EQ_INT(poll(&ready, 1, 0), 0);
    puff_listener_close(listener);
    finish();
}

TEST(every_allocation_may_fail) {
    for (size_t at = 1;; at++) {
        begin_listener();
        memory.fail_at = memory.n_calls + at;
        int rc = open_listener((puff_listener_options){.unix_path = path});
        if (rc == 0)
            puff_listener_close(listener);
        else
            CHECK_EQ_INT(rc, UV_ENOMEM);
        CHECK_EQ_INT(access(path, F_OK), -1);
        turn_while_open();
        bool failed = memory.n_calls >= memory.fail_at;
        CHECK_EQ_INT(rc == 0, !failed);
        end();
        CHECK_EQ_INT(count_fds(), fds_before);
        if (!failed) break;
    }
}

RUN_TESTS;
