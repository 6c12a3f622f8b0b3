/* addr.c - socket addresses as text (declared in puff/http.h). */
#include "puff/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

static int copy_path(const struct sockaddr_un *un, char *buf, size_t cap) {
    const bool abstract = un->sun_path[0] == '\0' && un->sun_path[1] != '\0';
    size_t n = abstract + strnlen(un->sun_path + abstract, sizeof un->sun_path - abstract);
    if (n + 1 > cap) return PUFF_ELIMIT;
    memcpy(buf, un->sun_path, n);
    if (abstract) buf[0] = '@';
    buf[n] = '\0';
    return (int)n;
}

static int copy_host(int family, const void *host, char *buf, size_t cap) {
    return inet_ntop(family, host, buf, (socklen_t)cap) ? (int)strlen(buf) : PUFF_ELIMIT;
}

int puff_http_addr_text(const struct sockaddr *addr, char *buf, size_t cap, uint16_t *port) {
    *port = 0;
    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
        *port = ntohs(in->sin_port);
        return copy_host(AF_INET, &in->sin_addr, buf, cap);
    }
    if (addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
        *port = ntohs(in6->sin6_port);
        return copy_host(AF_INET6, &in6->sin6_addr, buf, cap);
    }
    if (addr->sa_family == AF_UNIX) return copy_path((const struct sockaddr_un *)addr, buf, cap);
    return PUFF_EARG;
}
