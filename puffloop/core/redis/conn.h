/* conn.h - one connection: connects, greets, sends commands, hands out replies in order. */
#ifndef PUFF_CORE_REDIS_CONN_H
#define PUFF_CORE_REDIS_CONN_H

#include "redis/command.h"
#include "redis/reader.h"

/* Of one output buffer, and of what waits for a connection: the longest value a server takes by
 * default is 512 MiB. What callers queue for a server that does not read must end somewhere. */
#define PUFF__REDIS_MAX_OUT ((size_t)1 << 30)

typedef enum puff__redis_conn_state {
    PUFF__REDIS_CONNECTING, /* no stream yet */
    PUFF__REDIS_GREETING,   /* AUTH, SELECT and so on are under way */
    PUFF__REDIS_READY,
    PUFF__REDIS_CLOSING /* no stream or a closing one; no command is here */
} puff__redis_conn_state;

/*   out_base                              written            next byte to encode
 *   | ........ sending ........ (kernel took up to here) .. | ...... out ...... |
 *
 * Commands are encoded into out. At the end of the turn out becomes sending, which the stream reads
 * from; until the kernel has all of it, out grows on. So each command's bytes stay where they are
 * for as long as it might have to be sent on another connection. */
typedef struct puff__redis_conn {
    puff_queue node; /* the pool's list of connections */
    struct puff_redis_pool *pool;
    puff_loop *loop;
    puff__redis_conn_state state;
    bool exclusive;           /* one blocking command at a time */
    puff_connect *connecting; /* CONNECTING */
    puff_stream *stream;
    puff_timer
        timer; /* CONNECTING, GREETING: the end of patience. READY: looks whether it is stuck */

    puff_queue in_flight; /* of puff_redis_command, oldest first: one for each reply that is owed */
    size_t n_in_flight;
    unsigned n_greetings; /* replies of the handshake still to come */
    puff__redis_reader reader;
    uint64_t progress_ns; /* when bytes came last, or the first command after none */

    puff_buf out, sending;
    uint64_t out_base; /* where sending begins in all that was ever encoded here */
    puff_defer flush;
    bool flushing; /* the stream is sending because we told it to */
} puff__redis_conn;

/* The pool hears of the end of connecting from a later turn. PUFF_ENOMEM, UV_E*. */
int puff__redis_conn_open(puff__redis_conn **out, struct puff_redis_pool *pool, bool exclusive);
/* READY: encodes argv and takes a slot for c. PUFF_ELIMIT, PUFF_ENOMEM: nothing has changed. */
int puff__redis_conn_send(puff__redis_conn *conn, puff_redis_command *c, const puff_str *argv,
                          size_t argc);
/* READY: sends a WAITING command that is in no queue any more. Errors as above. */
int puff__redis_conn_send_waiting(puff__redis_conn *conn, puff_redis_command *c);
/* Ends it: err tells why. Commands go back to the pool, the connection frees itself later. */
void puff__redis_conn_fail(puff__redis_conn *conn, const puff_err *err);
/* Nobody waits for c's reply any more. */
void puff__redis_conn_abandon(puff__redis_conn *conn, puff_redis_command *c);
/* c, which is owed a reply, has waited in vain: ends the connection if nothing at all has come. */
void puff__redis_conn_check_stuck(puff__redis_conn *conn);

#endif
