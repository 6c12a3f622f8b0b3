/* listen.h - how the servers on bare libuv begin: they listen, and accept into memory of their own. */
#ifndef BENCH_LISTEN_H
#define BENCH_LISTEN_H

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

enum { BACKLOG = 1024 };

static inline void on_stream_closed(uv_handle_t *h) { free(h); }

/* The end of a connection. */
static inline void hang_up(uv_stream_t *s) { uv_close((uv_handle_t *)s, on_stream_closed); }

/* In the callback of a listener: the connection, for uv_read_start(). */
static inline uv_stream_t *accept_one(uv_stream_t *server) {
    union uv_any_handle *s = malloc(sizeof *s);
    if (server->type == UV_TCP)
        uv_tcp_init(server->loop, &s->tcp);
    else
        uv_pipe_init(server->loop, &s->pipe, 0);
    uv_accept(server, &s->stream);
    if (server->type == UV_TCP) uv_tcp_nodelay(&s->tcp, 1);
    return &s->stream;
}

static inline void bind_to(union uv_any_handle *server, const char *at) {
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

/* Serves at a port, or at a path that begins with a slash, until it is killed. */
static inline int serve_at(const char *at, uv_connection_cb on_connection) {
    union uv_any_handle server;
    signal(SIGPIPE, SIG_IGN);
    bind_to(&server, at);
    if (uv_listen(&server.stream, BACKLOG, on_connection) != 0) return 1;
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

#endif
