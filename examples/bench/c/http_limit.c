/* http_limit PORT BYTES - answers every request head with BYTES of body, on bare libuv.
 *
 * It looks for the empty line and nothing else: the floor of what any server must spend.
 */
#include <stdio.h>
#include <string.h>

#include "listen.h"

enum { MAX_PIPELINED = 64 };

static char in[65536], answer[262144];
static size_t answer_len;

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) { *b = uv_buf_init(in, sizeof in); }

static unsigned count_heads(const char *p, size_t n) {
    unsigned heads = 0;
    const char *end = p + n;
    for (; (p = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)) != NULL; p += 4) heads++;
    return heads < MAX_PIPELINED ? heads : MAX_PIPELINED;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    if (n < 0) {
        hang_up(s);
        return;
    }
    uv_buf_t bufs[MAX_PIPELINED];
    unsigned heads = count_heads(b->base, (size_t)n);
    for (unsigned i = 0; i < heads; i++) bufs[i] = uv_buf_init(answer, (unsigned)answer_len);
    if (heads > 0) uv_try_write(s, bufs, heads);
}

static void on_connection(uv_stream_t *server, int status) {
    uv_read_start(accept_one(server), on_alloc, on_read);
}

int main(int argc, char **argv) {
    int body = atoi(argv[2]);
    answer_len =
        (size_t)sprintf(answer,
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                        "content-length: %d\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
                        body);
    memset(answer + answer_len, 'x', (size_t)body);
    answer_len += (size_t)body;
    return serve_at(argv[1], on_connection);
}
