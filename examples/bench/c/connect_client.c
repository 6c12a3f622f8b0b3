/* connect_client PORT SLOTS SECONDS - connects, has one byte echoed, resets; prints how often.
 *
 * A reset leaves no TIME_WAIT behind, which would use up the ports of a long run.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int ep;
static struct sockaddr_in addr = {.sin_family = AF_INET};
static unsigned long n_done;

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Loopback connects at once, so the byte can leave at once as well. */
static void open_one(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) exit(1);
    if (send(fd, "x", 1, 0) != 1) exit(1);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void on_readable(int fd) {
    char byte;
    if (recv(fd, &byte, 1, 0) != 1) exit(1);
    close(fd);
    n_done++;
    open_one();
}

int main(int argc, char **argv) {
    int n_slots = atoi(argv[2]);
    double seconds = atof(argv[3]);
    struct epoll_event events[256];
    addr.sin_port = htons((uint16_t)atoi(argv[1]));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ep = epoll_create1(0);
    for (int i = 0; i < n_slots; i++) open_one();
    double start = now();
    while (now() - start < seconds)
        for (int i = 0, n = epoll_wait(ep, events, 256, 100); i < n; i++)
            on_readable(events[i].data.fd);
    printf("%lu %f\n", n_done, now() - start);
    return 0;
}
