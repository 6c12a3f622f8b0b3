/* udp_limit PORT - a UDP echo server on bare libuv. */
#include <stdlib.h>
#include <uv.h>

static char buf[65536];

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    *b = uv_buf_init(buf, sizeof buf);
}

/* What the kernel does not take is lost, as datagrams may be. */
static void on_datagram(uv_udp_t *h, ssize_t n, const uv_buf_t *b, const struct sockaddr *from,
                        unsigned flags) {
    uv_buf_t answer = uv_buf_init(b->base, n > 0 ? (unsigned)n : 0);
    if (from != NULL) uv_udp_try_send(h, &answer, 1, from);
}

int main(int argc, char **argv) {
    struct sockaddr_in addr;
    uv_udp_t h;
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &addr);
    uv_udp_init(uv_default_loop(), &h);
    uv_udp_bind(&h, (struct sockaddr *)&addr, 0);
    uv_udp_recv_start(&h, on_alloc, on_datagram);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
