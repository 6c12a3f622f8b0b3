/* udp_client PORT BYTES SOCKETS WINDOW SECONDS - keeps WINDOW datagrams of each socket under way;
 * prints how many came back.
 *
 * Datagrams may be lost: a socket that hears nothing for 50 ms sends its window again, and what
 * comes late then is counted as well, since the server did answer it.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct end {
    int fd;
    double last_heard;
} end;

static char message[65536], sink[65536];
static size_t size;
static unsigned long n_back;

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fill(end *e, int window) {
    for (int i = 0; i < window; i++)
        if (send(e->fd, message, size, MSG_DONTWAIT) < 0) break;
    e->last_heard = now();
}

static void on_readable(end *e, double at) {
    e->last_heard = at;
    for (int i = 0; i < 16 && recv(e->fd, sink, sizeof sink, MSG_DONTWAIT) >= 0; i++) {
        n_back++;
        send(e->fd, message, size, MSG_DONTWAIT);
    }
}

static end *open_ends(int ep, int port, int n) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    end *ends = calloc((size_t)n, sizeof *ends);
    for (int i = 0; i < n; i++) {
        ends[i].fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (connect(ends[i].fd, (struct sockaddr *)&addr, sizeof addr) != 0) exit(1);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &ends[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, ends[i].fd, &ev);
    }
    return ends;
}

int main(int argc, char **argv) {
    int n_ends = atoi(argv[3]), window = atoi(argv[4]), ep = epoll_create1(0);
    double seconds = atof(argv[5]), start = now(), t = start;
    size = (size_t)atol(argv[2]);
    end *ends = open_ends(ep, atoi(argv[1]), n_ends);
    struct epoll_event events[256];
    for (int i = 0; i < n_ends; i++) fill(&ends[i], window);
    for (double swept = start; t - start < seconds; t = now()) {
        for (int i = 0, n = epoll_wait(ep, events, 256, 20); i < n; i++)
            on_readable(events[i].data.ptr, t);
        if (t - swept < 0.05) continue;
        for (int i = 0; i < n_ends; i++)
            if (t - ends[i].last_heard > 0.05) fill(&ends[i], window);
        swept = t;
    }
    printf("%lu %f\n", n_back, t - start);
    return 0;
}
