#include "fake.h"

static void end_client(fake *f, puff_stream *s) {
    if (f->last == s) f->last = NULL;
    puff_stream_close(s);
}

static void on_read(puff_stream *s, char *buf, ssize_t n) {
    fake *f = puff_stream_data(s);
    (void)buf;
    if (n > 0 && f->answer.len) CHECK_EQ_INT(puff_stream_write(s, f->answer.ptr, f->answer.len), 0);
    if (n < 0 || (n > 0 && f->hang_up)) end_client(f, s);
}

static void on_close(puff_stream *s) { (void)s; }

static const puff_stream_cbs cbs = {.on_read = on_read, .on_close = on_close};

static void on_accept(puff_listener *l, int fd, const struct sockaddr *peer, unsigned peer_len) {
    fake *f = puff_listener_data(l);
    (void)peer;
    (void)peer_len;
    f->n_accepted++;
    CHECK_EQ_INT(puff_stream_open(&f->last, f->loop, fd, &cbs, f), 0);
    CHECK_EQ_INT(puff_stream_read_start(f->last), 0);
    if (f->hang_up && !f->answer.len) end_client(f, f->last);
}

void fake_open(fake *f, puff_loop *loop) {
    puff_listener_options o = {.size = sizeof o, .host = "127.0.0.1", .fd = -1};
    puff_err err;
    f->loop = loop;
    if (puff_listener_open(&f->listener, loop, &o, on_accept, f, &err) != 0)
        CHECK_FAIL("%s", err.msg);
    snprintf(f->dsn, sizeof f->dsn, "host=127.0.0.1 port=%d user=x password=secret sslmode=disable",
             puff_listener_port(f->listener));
}

void fake_close(fake *f) {
    if (f->last) end_client(f, f->last);
    puff_listener_close(f->listener);
}

static size_t put_field(char *out, char code, const char *value) {
    out[0] = code;
    strcpy(out + 1, value);
    return strlen(value) + 2;
}

puff_str fake_error(const char *sqlstate, const char *message) {
    static char out[512];
    size_t len = 5;
    len += put_field(out + len, 'S', "FATAL");
    len += put_field(out + len, 'V', "FATAL");
    len += put_field(out + len, 'C', sqlstate);
    len += put_field(out + len, 'M', message);
    len += put_field(out + len, 'F', "auth.c");
    len += put_field(out + len, 'L', "1");
    len += put_field(out + len, 'R', "auth_failed");
    out[len++] = '\0';
    out[0] = 'E';
    out[1] = out[2] = 0;
    out[3] = (char)((len - 1) >> 8);
    out[4] = (char)(len - 1);
    return (puff_str){out, len};
}
