/* fake.h - a Redis server in the hands of a test: it listens on a Unix socket on the test's own
 * loop, reads commands, and answers what the test says, in the pieces that the test says. */
#ifndef FAKE_H
#define FAKE_H

#include "puff/loop.h"
#include "puff/redis.h"

enum { FAKE_MAX_CONNS = 16, FAKE_MAX_ARGS = 8 };

typedef struct fake fake;

typedef struct fake_conn {
    fake *server;
    puff_stream *stream;
    char *in; /* owned */
    size_t len;
    int n_commands, n_reads;
} fake_conn;

struct fake {
    puff_loop *loop;
    puff_listener *listener;
    char path[64], url[80];
    /* Gets each command that is no part of a greeting; NULL: nothing is answered. */
    void (*on_command)(fake_conn *c, int argc, char **argv);
    /* Optional. Gets the greeting's commands instead of the "+OK" that is the default. */
    void (*on_greeting)(fake_conn *c, int argc, char **argv);
    fake_conn conns[FAKE_MAX_CONNS]; /* in the order of their accept */
    int n_conns, n_open, n_commands;
    bool deaf; /* accepted connections are not read */
};

void fake_start(fake *f, puff_loop *loop);
void fake_stop(fake *f);
void fake_say(fake_conn *c, const char *text);
void fake_say_bytes(fake_conn *c, const char *bytes, size_t len);
void fake_hang_up(fake_conn *c);

/* Turns the loop until *done is at least n; a test that waits for more than five seconds fails. */
void turn_until(puff_loop *loop, const int *done, int n);
void turn_while_open(puff_loop *loop);
/* Turns without waiting, so that what was written arrives. */
void turn_some(puff_loop *loop);

/* What a command's callback was told. */
typedef struct answer {
    int n_calls;
    int status;
    puff_redis_reply *reply; /* owned */
    puff_err err;
    int *counter; /* optional, counts the calls of all answers that share it */
} answer;
void on_answer(void *arg, int status, void *reply, const puff_err *err);
void answer_clear(answer *a);

/* Words separated by blanks. Returns the status of the submit. */
int send_words(puff_redis_pool *pool, const char *words, answer *a, puff_redis_command **out);

#endif
