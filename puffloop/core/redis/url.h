/* url.h - where a Redis server is and who we are there. */
#ifndef PUFF_CORE_REDIS_URL_H
#define PUFF_CORE_REDIS_URL_H

#include "puff/base.h"

typedef struct puff__redis_url {
    char *host;      /* owned; NULL with unix_path */
    char *unix_path; /* owned; NULL with host */
    char *user;      /* owned; NULL: the default user */
    char *password;  /* owned; NULL: none */
    uint16_t port;
    uint32_t db;
    const puff_alloc *alloc; /* borrowed; outlives us */
} puff__redis_url;

/* Messages never quote the password. PUFF_EARG, PUFF_ENOMEM; u needs no deinit then. */
int puff__redis_url_parse(puff__redis_url *u, const puff_alloc *alloc, const char *text,
                          puff_err *err);
void puff__redis_url_deinit(puff__redis_url *u);
/* "127.0.0.1:6379" or the path, for messages. */
void puff__redis_url_address(const puff__redis_url *u, char *out, size_t cap);

#endif
