/* echo_limit PORT|PATH - an echo server on bare libuv: what a loop could reach without Python. */
#include "listen.h"

static char buf[256 * 1024];

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    *b = uv_buf_init(buf, sizeof buf);
}

static void on_written(uv_write_t *req, int status) { free(req); }

/* What the kernel does not take at once is copied and queued. */
static void echo(uv_stream_t *s, size_t n) {
    uv_buf_t b = uv_buf_init(buf, (unsigned)n);
    int sent = uv_try_write(s, &b, 1);
    if (sent == (int)n) return;
    size_t from = sent > 0 ? (size_t)sent : 0;
    uv_write_t *req = malloc(sizeof *req + n - from);
    b = uv_buf_init((char *)(req + 1), (unsigned)(n - from));
    for (size_t i = 0; i < b.len; i++) b.base[i] = buf[from + i];
    uv_write(req, s, &b, 1, on_written);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    if (n > 0) echo(s, (size_t)n);
    if (n < 0) hang_up(s);
}

static void on_connection(uv_stream_t *server, int status) {
    uv_read_start(accept_one(server), on_alloc, on_read);
}

int main(int argc, char **argv) { return serve_at(argv[1], on_connection); }
