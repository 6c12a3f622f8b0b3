/* embedder.c - a stranger's C program on the core: an echo server and its client on one loop.
 *
 * Compiled by test_embed.py as C11 and as C++ against what the installed package ships (headers and
 * libpuff.so), so it uses nothing but the public API. Prints what came back.
 */
#include <puff.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static puff_listener *listener;

static void die(const char *what, int status) {
    fprintf(stderr, "%s: %s\n", what, puff_err_name(status));
    exit(1);
}

/* ---- the server: what comes in goes out ---------------------------------------------------- */

static void on_server_read(puff_stream *s, char *buf, ssize_t n) {
    if (n > 0) {
        puff_stream_write(s, buf, (size_t)n);
    } else if (n < 0) {
        puff_stream_close(s);
    }
}

static void on_server_close(puff_stream *s) { puff_listener_close(listener); }

static const puff_stream_cbs server_cbs = {NULL, on_server_read, NULL, NULL, on_server_close};

static void on_accept(puff_listener *l, int fd, const struct sockaddr *peer, unsigned peer_len) {
    puff_stream *s;
    int status = puff_stream_open(&s, (puff_loop *)puff_listener_data(l), fd, &server_cbs, NULL);
    if (status < 0) die("puff_stream_open", status);
    puff_stream_read_start(s);
}

/* ---- the client: says one thing, prints the answer ----------------------------------------- */

static void on_client_read(puff_stream *s, char *buf, ssize_t n) {
    if (n > 0) printf("%.*s\n", (int)n, buf);
    puff_stream_close(s);
}

static void on_client_close(puff_stream *s) {}

static const puff_stream_cbs client_cbs = {NULL, on_client_read, NULL, NULL, on_client_close};

static void on_connect(void *arg, int fd, const puff_err *err) {
    puff_stream *s;
    if (fd < 0) die(err->msg, err->code);
    int status = puff_stream_open(&s, (puff_loop *)arg, fd, &client_cbs, NULL);
    if (status < 0) die("puff_stream_open", status);
    puff_stream_read_start(s);
    puff_stream_write(s, "hello", 5);
}

int main(void) {
    puff_loop *loop;
    puff_connect *connecting;
    puff_err err;
    puff_listener_options opts;

    int status = puff_loop_new(&loop, NULL, &err);
    if (status < 0) die("puff_loop_new", status);

    memset(&opts, 0, sizeof opts);
    opts.size = sizeof opts;
    opts.host = "127.0.0.1";
    opts.fd = -1;
    status = puff_listener_open(&listener, loop, &opts, on_accept, loop, &err);
    if (status < 0) die(err.msg, status);

    status = puff_tcp_connect(&connecting, loop, "127.0.0.1",
                              (uint16_t)puff_listener_port(listener), 1000, on_connect, loop);
    if (status < 0) die("puff_tcp_connect", status);
    puff_loop_run(loop);
    puff_loop_free(loop);
    return 0;
}
