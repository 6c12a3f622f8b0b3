/* echo_limit PORT - an echo server on bare libuv: what a loop could reach without Python. */
#include <stdlib.h>
#include <uv.h>

static char buf[65536];

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    *b = uv_buf_init(buf, sizeof buf);
}

static void on_close(uv_handle_t *h) { free(h); }

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
    if (n < 0) uv_close((uv_handle_t *)s, on_close);
}

static void on_connection(uv_stream_t *server, int status) {
    uv_tcp_t *s = malloc(sizeof *s);
    uv_tcp_init(server->loop, s);
    uv_accept(server, (uv_stream_t *)s);
    uv_tcp_nodelay(s, 1);
    uv_read_start((uv_stream_t *)s, on_alloc, on_read);
}

int main(int argc, char **argv) {
    struct sockaddr_in addr;
    uv_tcp_t server;
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &addr);
    uv_tcp_init(uv_default_loop(), &server);
    uv_tcp_bind(&server, (struct sockaddr *)&addr, 0);
    uv_listen((uv_stream_t *)&server, 128, on_connection);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
