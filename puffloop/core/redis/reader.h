/* reader.h - bytes of a peer in, values of a host's builder out: hiredis' reader behind one face
 * for its versions with and without RESP3. */
#ifndef PUFF_CORE_REDIS_READER_H
#define PUFF_CORE_REDIS_READER_H

#include "puff/redis.h"

struct redisReader;

/* What puff__redis_reader_next() found. */
typedef enum puff__redis_event {
    PUFF__REDIS_MORE,  /* needs more bytes */
    PUFF__REDIS_VALUE, /* a reply: r->reply, the caller's now; NULL if dropped */
    PUFF__REDIS_FAULT, /* an error reply: r->err */
    PUFF__REDIS_PUSH,  /* something out of band, dropped: it answers no command */
    PUFF__REDIS_DEAD /* the bytes make no sense or are too many: r->err; nothing more can be read */
} puff__redis_event;

typedef struct puff__redis_reader {
    struct redisReader *hi;            /* owned */
    const puff_redis_builder *builder; /* borrowed; outlives us */
    /* Set before each puff__redis_reader_next(): whom the next reply is for. */
    void *ctx;
    bool wanted; /* false: read it, build nothing */

    void *reply;
    puff_err err;

    bool in_reply;  /* the first value of a reply was seen, its last was not */
    bool dropping;  /* of this reply nothing more is built */
    bool parsing;   /* hiredis is on the stack, and holds on to arrays that are not full yet */
    int root_kind;  /* hiredis' type of this reply */
    bool too_much;  /* err says which limit was met */
    size_t n_bytes; /* of this reply, and what was fed with it */
    size_t max_bytes;
} puff__redis_reader;

/* PUFF_ENOMEM. max_bytes: of one reply. */
int puff__redis_reader_init(puff__redis_reader *r, const puff_redis_builder *builder,
                            size_t max_bytes);
void puff__redis_reader_deinit(puff__redis_reader *r);
/* Copies len bytes in. False: r->err says why, nothing more can be read. */
bool puff__redis_reader_feed(puff__redis_reader *r, const char *bytes, size_t len);
puff__redis_event puff__redis_reader_next(puff__redis_reader *r);
/* The reply that is being read is for nobody any more: its ctx is not used again. A builder may get
 * here, too: making an object can run a garbage collector, and that a finalizer that cancels. */
void puff__redis_reader_drop(puff__redis_reader *r);

#endif
