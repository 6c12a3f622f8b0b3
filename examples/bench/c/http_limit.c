/* http_limit PORT BYTES - answers every request head with BYTES of body, on bare libuv.
 *
 * It looks for the empty line and nothing else: the floor of what any server must spend.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { MAX_PIPELINED = 64 };

static char in[65536], answer[262144];
static size_t answer_len;

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) { *b = uv_buf_init(in, sizeof in); }

static void on_close(uv_handle_t *h) { free(h); }

static unsigned count_heads(const char *p, size_t n) {
    unsigned heads = 0;
    const char *end = p + n;
    for (; (p = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)) != NULL; p += 4) heads++;
    return heads < MAX_PIPELINED ? heads : MAX_PIPELINED;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    if (n < 0) {
        uv_close((uv_handle_t *)s, on_close);
        return;
    }
    uv_buf_t bufs[MAX_PIPELINED];
    unsigned heads = count_heads(b->base, (size_t)n);
    for (unsigned i = 0; i < heads; i++) bufs[i] = uv_buf_init(answer, (unsigned)answer_len);
    if (heads > 0) uv_try_write(s, bufs, heads);
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
    int body = atoi(argv[2]);
    answer_len =
        (size_t)sprintf(answer,
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                        "content-length: %d\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
                        body);
    memset(answer + answer_len, 'x', (size_t)body);
    answer_len += (size_t)body;
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &addr);
    uv_tcp_init(uv_default_loop(), &server);
    uv_tcp_bind(&server, (struct sockaddr *)&addr, 0);
    uv_listen((uv_stream_t *)&server, 1024, on_connection);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
