/* echo_limit PORT|PATH - an echo server on bare libuv: what a loop could reach without Python. */
#include <signal.h>
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
    union uv_any_handle *s = malloc(sizeof *s);
    if (server->type == UV_TCP)
        uv_tcp_init(server->loop, &s->tcp);
    else
        uv_pipe_init(server->loop, &s->pipe, 0);
    uv_accept(server, &s->stream);
    if (server->type == UV_TCP) uv_tcp_nodelay(&s->tcp, 1);
    uv_read_start(&s->stream, on_alloc, on_read);
}

static void bind_to(union uv_any_handle *server, const char *at) {
    if (at[0] == '/') {
        uv_pipe_init(uv_default_loop(), &server->pipe, 0);
        uv_pipe_bind(&server->pipe, at);
        return;
    }
    struct sockaddr_in addr;
    uv_ip4_addr("127.0.0.1", atoi(at), &addr);
    uv_tcp_init(uv_default_loop(), &server->tcp);
    uv_tcp_bind(&server->tcp, (struct sockaddr *)&addr, 0);
}

int main(int argc, char **argv) {
    union uv_any_handle server;
    signal(SIGPIPE, SIG_IGN);
    bind_to(&server, argv[1]);
    uv_listen(&server.stream, 128, on_connection);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
