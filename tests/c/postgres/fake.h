/* fake.h - a peer in the test's own loop that speaks just enough of the protocol to be wrong in one
 * way. */
#ifndef TEST_POSTGRES_FAKE_H
#define TEST_POSTGRES_FAKE_H

#include "server.h"

typedef struct fake {
    puff_loop *loop;
    puff_listener *listener;
    char dsn[128];
    puff_str answer; /* to the first bytes of a client; empty: none */
    bool hang_up;    /* closes after it, or at once when there is no answer */
    int n_accepted;
    puff_stream *last; /* the client that came last, while it is open */
} fake;

/* Listens on loopback and sets f->dsn. */
void fake_open(fake *f, puff_loop *loop);
void fake_close(fake *f);
/* An ErrorResponse; a static buffer. */
puff_str fake_error(const char *sqlstate, const char *message);

#endif
