#include "fake.h"

#include <signal.h>
#include <unistd.h>

#include "check.h"

void turn_until(puff_loop *loop, const int *done, int n) {
    uint64_t end = puff_now_ns() + 5000000000u;
    while (*done < n) {
        if (puff_now_ns() > end) CHECK_FAIL("waited for 5 s: %d of %d", *done, n);
        puff_loop_turn(loop, true);
    }
}

void turn_while_open(puff_loop *loop) {
    uint64_t end = puff_now_ns() + 5000000000u;
    while (puff_loop_turn(loop, false) != 0)
        if (puff_now_ns() > end) CHECK_FAIL("something is still open after 5 s");
}

void turn_some(puff_loop *loop) {
    for (int i = 0; i < 20; i++) puff_loop_turn(loop, false);
}

/* ---- the server ---- */

static void on_fake_close(puff_stream *s) {
    fake_conn *c = puff_stream_data(s);
    c->stream = NULL;
    c->server->n_open--;
    free(c->in);
    c->in = NULL;
}

static bool is_greeting(const char *name) {
    static const char *const names[] = {"AUTH", "CLIENT", "HELLO", "PING", "SELECT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static void dispatch(fake_conn *c, int argc, char **argv) {
    fake *f = c->server;
    if (is_greeting(argv[0])) {
        if (f->on_greeting)
            f->on_greeting(c, argc, argv);
        else
            fake_say(c, "+OK\r\n");
        return;
    }
    c->n_commands++;
    f->n_commands++;
    if (f->on_command) f->on_command(c, argc, argv);
}

/* One command from the front of the input. Its length, 0: not complete. Long arguments are cut. */
static size_t parse(fake_conn *c, int *argc, char **argv) {
    static char text[FAKE_MAX_ARGS][64];
    char *p = c->in, *end = c->in + c->len, *eol;
    if (p == end || !(eol = memchr(p, '\n', (size_t)(end - p)))) return 0;
    CHECK(*p == '*');
    *argc = atoi(p + 1);
    CHECK(*argc > 0 && *argc <= FAKE_MAX_ARGS);
    p = eol + 1;
    for (int i = 0; i < *argc; i++) {
        if (p == end || !(eol = memchr(p, '\n', (size_t)(end - p)))) return 0;
        CHECK(*p == '$');
        size_t len = strtoul(p + 1, NULL, 10);
        if ((size_t)(end - eol - 1) < len + 2) return 0;
        size_t kept = len < sizeof text[0] - 1 ? len : sizeof text[0] - 1;
        memcpy(text[i], eol + 1, kept);
        text[i][kept] = 0;
        argv[i] = text[i];
        p = eol + 1 + len + 2;
    }
    return (size_t)(p - c->in);
}

static void on_fake_read(puff_stream *s, char *buf, ssize_t n) {
    fake_conn *c = puff_stream_data(s);
    if (n < 0) puff_stream_abort(s, false);
    if (n <= 0) return;
    c->n_reads++;
    c->in = realloc(c->in, c->len + (size_t)n);
    memcpy(c->in + c->len, buf, (size_t)n);
    c->len += (size_t)n;
    int argc;
    char *argv[FAKE_MAX_ARGS];
    size_t used;
    while (c->in && (used = parse(c, &argc, argv)) > 0) {
        memmove(c->in, c->in + used, c->len - used);
        c->len -= used;
        dispatch(c, argc, argv);
    }
}

static const puff_stream_cbs fake_cbs = {.on_read = on_fake_read, .on_close = on_fake_close};

static void on_fake_accept(puff_listener *l, int fd, const struct sockaddr *peer,
                           unsigned peer_len) {
    fake *f = puff_listener_data(l);
    CHECK(f->n_conns < FAKE_MAX_CONNS);
    fake_conn *c = &f->conns[f->n_conns++];
    *c = (fake_conn){.server = f};
    if (puff_stream_open(&c->stream, f->loop, fd, &fake_cbs, c) != 0)
        return; /* out of memory, as asked */
    f->n_open++;
    if (!f->deaf) puff_stream_read_start(c->stream);
}

void fake_start(fake *f, puff_loop *loop) {
    puff_err err;
    signal(SIGPIPE, SIG_IGN); /* as every host of a loop does: libuv writes without MSG_NOSIGNAL */
    *f = (fake){.loop = loop};
    snprintf(f->path, sizeof f->path, "/tmp/puff-fake-%d.sock", (int)getpid());
    snprintf(f->url, sizeof f->url, "unix://%s", f->path);
    puff_listener_options opts = {.size = sizeof opts, .unix_path = f->path, .fd = -1};
    if (puff_listener_open(&f->listener, loop, &opts, on_fake_accept, f, &err) != 0)
        CHECK_FAIL("%s", err.msg);
}

void fake_stop(fake *f) {
    for (int i = 0; i < f->n_conns; i++) fake_hang_up(&f->conns[i]);
    puff_listener_close(f->listener);
}

void fake_say_bytes(fake_conn *c, const char *bytes, size_t len) {
    puff_stream_write(c->stream, bytes, len);
    puff_stream_flush(c->stream);
}

void fake_say(fake_conn *c, const char *text) { fake_say_bytes(c, text, strlen(text)); }

void fake_hang_up(fake_conn *c) {
    if (c->stream) puff_stream_abort(c->stream, false);
}

/* ---- answers ---- */

void on_answer(void *arg, int status, void *reply, const puff_err *err) {
    answer *a = arg;
    a->n_calls++;
    a->status = status;
    a->reply = reply;
    if (err) a->err = *err;
    if (a->counter) ++*a->counter;
}

void answer_clear(answer *a) {
    puff_redis_reply_free(a->reply);
    *a = (answer){0};
}

int send_words(puff_redis_pool *pool, const char *words, answer *a, puff_redis_command **out) {
    puff_str argv[32];
    size_t argc = 0;
    while (*words) {
        size_t len = strcspn(words, " ");
        argv[argc++] = (puff_str){words, len};
        words += len + (words[len] == ' ');
    }
    return puff_redis_command_submit(pool, argv, argc, NULL, on_answer, a, out, &a->err);
}
