/* tls_client PORT BYTES CONNECTIONS SECONDS - echo_client over TLS: epoll, OpenSSL on the socket. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

typedef struct conn {
    SSL *ssl;
    size_t to_send, to_read;
} conn;

static char *message, sink[65536];
static size_t size;
static unsigned long n_trips;

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void send_some(conn *c) {
    while (c->to_send > 0) {
        int n = SSL_write(c->ssl, message + size - c->to_send, (int)c->to_send);
        if (n <= 0) return;
        c->to_send -= (size_t)n;
    }
}

static void pump(conn *c) {
    send_some(c);
    while (c->to_read > 0) {
        int n = SSL_read(c->ssl, sink, sizeof sink);
        if (n <= 0 && SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ) exit(1);
        if (n <= 0) return;
        c->to_read -= (size_t)n;
    }
    n_trips++;
    c->to_send = c->to_read = size;
    send_some(c);
}

static conn *open_conn(int ep, int port, SSL_CTX *ctx) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    conn *c = malloc(sizeof *c);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) exit(1);
    c->ssl = SSL_new(ctx);
    c->to_send = c->to_read = size;
    SSL_set_fd(c->ssl, fd);
    if (SSL_connect(c->ssl) != 1) exit(1);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    return c;
}

int main(int argc, char **argv) {
    int n_conns = atoi(argv[3]), ep = epoll_create1(0);
    double seconds = atof(argv[4]);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    size = (size_t)atol(argv[2]);
    message = malloc(size);
    memset(message, 'x', size);
    for (int i = 0; i < n_conns; i++) pump(open_conn(ep, atoi(argv[1]), ctx));
    struct epoll_event events[256];
    double start = now();
    while (now() - start < seconds)
        for (int i = 0, n = epoll_wait(ep, events, 256, 100); i < n; i++) pump(events[i].data.ptr);
    printf("%lu %f\n", n_trips, now() - start);
    return 0;
}
