/* tls_limit PORT PEM - a TLS echo server: epoll, OpenSSL on the socket.
 *
 * A message fits into the socket's buffer (the client reads all of one before it sends the next),
 * so a write that would block is an error here.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char buf[65536];
static SSL_CTX *ctx;
static int ep;

static void watch(int fd, void *what) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = what};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void on_connection(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_accept_state(ssl);
    watch(fd, ssl);
}

static void drop(SSL *ssl) {
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

/* SSL_read shakes hands too; the loop ends when the kernel has no more. */
static void on_readable(SSL *ssl) {
    for (;;) {
        int n = SSL_read(ssl, buf, sizeof buf);
        if (n > 0 && SSL_write(ssl, buf, n) == n) continue;
        if (n > 0 || SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ) drop(ssl);
        return;
    }
}

static int listen_at(int port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(fd, 128) != 0) exit(1);
    return fd;
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    signal(SIGPIPE, SIG_IGN);
    ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1) exit(1);
    if (SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1) exit(1);
    ep = epoll_create1(0);
    int listener = listen_at(atoi(argv[1]));
    watch(listener, NULL);
    for (;;)
        for (int i = 0, n = epoll_wait(ep, events, 256, -1); i < n; i++)
            if (events[i].data.ptr == NULL)
                on_connection(listener);
            else
                on_readable(events[i].data.ptr);
}
