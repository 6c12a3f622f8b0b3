/* slow_dns.h - a getaddrinfo of the test's own: libuv finds it before the C library's. A name that
 * begins with "slow" hangs until slow_dns_answer(), all others are numeric. */
#ifndef SLOW_DNS_H
#define SLOW_DNS_H

#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>

#include "check.h"

#define EXPORTED __attribute__((visibility("default"))) /* for libuv to find */

static sem_t slow_begun, slow_go, slow_over;

static struct addrinfo *one_address(uint16_t port) {
    struct addrinfo *ai = calloc(1, sizeof *ai + sizeof(struct sockaddr_in));
    struct sockaddr_in *in = (struct sockaddr_in *)(ai + 1);
    CHECK(ai);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ai->ai_family = AF_INET;
    ai->ai_socktype = SOCK_STREAM;
    ai->ai_addr = (struct sockaddr *)in;
    ai->ai_addrlen = sizeof *in;
    return ai;
}

/* "two" has two addresses, of which the first refuses: nobody listens on port 1. */
EXPORTED int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                         struct addrinfo **res) {
    uint16_t port = (uint16_t)(service ? atoi(service) : 0);
    if (strcmp(host, "nowhere") == 0) return EAI_NONAME;
    if (strncmp(host, "slow", 4) == 0) {
        sem_post(&slow_begun);
        sem_wait(&slow_go);
        sem_post(&slow_over);
    }
    *res = one_address(strcmp(host, "two") == 0 ? 1 : port);
    if (strcmp(host, "two") == 0) (*res)->ai_next = one_address(port);
    return 0;
}

EXPORTED void freeaddrinfo(struct addrinfo *ai) {
    for (struct addrinfo *next; ai; ai = next) {
        next = ai->ai_next;
        free(ai);
    }
}

static void slow_dns_init(void) {
    sem_init(&slow_begun, 0, 0);
    sem_init(&slow_go, 0, 0);
    sem_init(&slow_over, 0, 0);
}
static void slow_dns_wait_begun(void) { sem_wait(&slow_begun); }
static void slow_dns_answer(void) { sem_post(&slow_go); }

/* Of threads that outlive the loop: they must be past the semaphores before these are made anew. */
__attribute__((unused)) static void slow_dns_answer_all(int n) {
    for (int i = 0; i < n; i++) slow_dns_answer();
    for (int i = 0; i < n; i++) sem_wait(&slow_over);
}

#endif
