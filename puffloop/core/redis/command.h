/* command.h - one outstanding command: its bytes, its kind, its end. */
#ifndef PUFF_CORE_REDIS_COMMAND_H
#define PUFF_CORE_REDIS_COMMAND_H

#include "puff/redis.h"

/*   submit -> WAITING -> IN_FLIGHT -> reply, callback
 *                 \          \
 *                  \          cancel or timeout: callback, and the slot stays until its reply
 *                   cancel or timeout: callback
 */
typedef enum puff__redis_where {
    PUFF__REDIS_NOWHERE,
    PUFF__REDIS_WAITING,  /* in a queue of its pool, holds its bytes */
    PUFF__REDIS_IN_FLIGHT /* in the FIFO of a connection: the peer owes, or will owe, one reply */
} puff__redis_where;

struct puff_redis_command {
    puff_queue node;          /* WAITING: the pool's queue; IN_FLIGHT: the connection's FIFO */
    puff_queue node_deadline; /* the pool's deadlines, or the commands whose callback is due */
    struct puff_redis_pool *pool;
    struct puff__redis_conn *conn; /* IN_FLIGHT */
    puff_redis_command_cb cb;
    void *arg;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    char *bytes;          /* owned; WAITING */
    size_t len;           /* of the encoded command */
    uint64_t pos;         /* IN_FLIGHT: where its bytes begin in all that the connection has sent */
    puff__redis_where where;
    int due; /* the status that the callback will be given from a later turn; 0: none is due */
    uint8_t n_losses;  /* connections that ended before it was written */
    bool answered;     /* the callback has run */
    bool may_have_run; /* the kernel has all of it, and there will be no reply to tell */
    bool blocking;
    bool internal; /* the connection's own, part of its handshake */
};

/* What a command does to the connection it runs on. */
typedef enum puff__redis_class {
    PUFF__REDIS_SHARED,   /* nothing */
    PUFF__REDIS_BLOCKING, /* keeps everybody behind it waiting */
    PUFF__REDIS_SESSION   /* changes what later commands mean */
} puff__redis_class;

puff__redis_class puff__redis_classify(const puff_str *argv, size_t argc, const char **advice);

/* Appends the command to b in RESP. PUFF_ELIMIT, PUFF_ENOMEM: b is unchanged then. */
int puff__redis_encode(puff_buf *b, const puff_str *argv, size_t argc);

#endif
