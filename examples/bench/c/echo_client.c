/* echo_client PORT|PATH BYTES CONNECTIONS SECONDS - sends, reads all of it back, sends again; prints
 * round trips.
 *
 * One thread, epoll, so that the load costs as little as it can.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef struct conn {
    int fd;
    size_t to_send, to_read;
} conn;

static char *message, sink[262144];
static size_t size;
static unsigned long n_trips;

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void pump(conn *c) {
    while (c->to_send > 0) {
        ssize_t n = send(c->fd, message + size - c->to_send, c->to_send, MSG_DONTWAIT);
        if (n <= 0) break;
        c->to_send -= (size_t)n;
    }
    while (c->to_read > 0) {
        ssize_t n = recv(c->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n == 0) exit(1); /* the server has left: no figure is better than a wrong one */
        if (n < 0) return;
        c->to_read -= (size_t)n;
    }
    n_trips++;
    c->to_send = c->to_read = size;
    ssize_t n = send(c->fd, message, size, MSG_DONTWAIT);
    if (n > 0) c->to_send -= (size_t)n;
}

/* A path is a Unix socket's. */
static int open_socket(const char *at) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(at))};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int local = at[0] == '/', fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    strncpy(un.sun_path, at, sizeof un.sun_path - 1);
    struct sockaddr *addr = local ? (struct sockaddr *)&un : (struct sockaddr *)&in;
    if (connect(fd, addr, local ? sizeof un : sizeof in) != 0) exit(1);
    return fd;
}

static conn *open_conn(int ep, const char *at) {
    conn *c = malloc(sizeof *c);
    c->fd = open_socket(at);
    c->to_send = c->to_read = size;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    return c;
}

int main(int argc, char **argv) {
    int n_conns = atoi(argv[3]), ep = epoll_create1(0);
    double seconds = atof(argv[4]);
    size = (size_t)atol(argv[2]);
    message = malloc(size);
    memset(message, 'x', size);
    for (int i = 0; i < n_conns; i++) pump(open_conn(ep, argv[1]));
    struct epoll_event events[256];
    double start = now();
    while (now() - start < seconds)
        for (int i = 0, n = epoll_wait(ep, events, 256, 100); i < n; i++) pump(events[i].data.ptr);
    printf("%lu %f\n", n_trips, now() - start);
    return 0;
}
