/* http.h - what the files of core/http share: the inside of a server, a connection, a request.
 *
 *   server.c    listeners, limits on connections, the sweep of deadlines, stopping
 *   h1_conn.c   one connection: which phase it is in, what the next bytes mean, how it ends
 *   request.c   one request: its memory, its body
 *   response.c  what the host answers
 *
 * No callback of the host runs inside a call of the host, but for puff_http_request_proceed(), which
 * is there for that. What another call brings about is done by the
 * connection's run loop: at once when that is what called the host, else by a deferred job
 * (puff__conn_wake).
 */
#ifndef PUFF_CORE_HTTP_H
#define PUFF_CORE_HTTP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "http/h1_input.h"
#include "http/h1_parse.h"
#include "http/h1_write.h"

enum {
    PUFF__HIGH_WATER =
        65536, /* unread or unsent bytes of a connection at which its source has to wait */
    PUFF__LOW_WATER = 16384,
    PUFF__HOLD_NS = 150000, /* how long an answer may wait for others of its turn */
    PUFF__FRESH_MS = 500,   /* for a first request that was on its way when the server stopped */
    PUFF__LINGER_MS = 2000  /* for the peer to read our last words before the socket goes */
};

/* ---- request ------------------------------------------------------------------------------- */

/* A response head on its way, from the server's pool. */
typedef struct puff__head {
    struct puff__head *next;
    puff_buf buf;
} puff__head;

typedef struct puff__request {
    puff_http_request pub;    /* first */
    puff_http_server *server; /* valid until ended */
    const puff_alloc *alloc;
    uint32_t refs;
    bool pooled;
    bool ended;     /* on_done is running or has run */
    bool waiting;   /* the host waits for on_body */
    bool told_gone; /* on_disconnect has run */
    bool started, complete;
    bool cut;          /* complete, but the peer must see that it is not whole */
    bool close;        /* the connection ends after this response */
    bool no_body;      /* HEAD, 204, 205, 304 */
    uint8_t framing;   /* enum puff_h1_out, once the head is written */
    int status;        /* 0: none yet */
    puff__head *head;  /* held until the first body */
    puff_h1_said said; /* by the host's fields */
    uint64_t n_out;    /* body bytes that the host sent */
} puff__request;

static inline puff__request *puff__request_of(const puff_http_request *req) {
    return (puff__request *)(uintptr_t)req;
}
/* Its response's head is with the stream: nothing can be taken back. */
static inline bool puff__head_sent(const puff__request *req) { return req->started && !req->head; }
/* Makes a request out of a parsed head. NULL: no memory. */
puff__request *puff__request_new(puff_http_conn *c, const puff_h1_parser *p, const char *buf);
/* Gives the connection's reference up. */
void puff__request_release(puff__request *req);
/* Writes out a simple response: for refusals without a request too. */
int puff__respond_plain(puff_http_conn *c, int status, bool head_only);

/* ---- connection ---------------------------------------------------------------------------- */

enum puff__phase {
    PUFF__FRESH,   /* accepted, not a byte so far */
    PUFF__IDLE,    /* between requests */
    PUFF__IN_HEAD, /* part of a head is here */
    PUFF__REQUEST, /* with the host */
    PUFF__DRAIN,   /* answered; the rest of the body is read and dropped */
    PUFF__LINGER,  /* our side is shut down; what comes is dropped */
    PUFF__CLOSING  /* the stream closes itself */
};

/* A window of time in which a peer has to move enough bytes. */
typedef struct puff__window {
    uint64_t since_ns; /* 0: not open */
    uint64_t from;     /* the count at its begin */
} puff__window;

struct puff_http_conn {
    puff_queue node;          /* of the server */
    puff_queue held;          /* of the server: has answered in this turn, not sent yet */
    puff_http_server *server; /* outlives us */
    puff_stream *stream;      /* NULL once closed */
    void *data;               /* the host's */
    puff_defer job;
    puff__request *req;     /* in PUFF__REQUEST */
    puff_h1_parser *parser; /* in PUFF__IN_HEAD */
    puff_h1_input in;
    uint64_t deadline_ns; /* of the phase; UINT64_MAX: none */
    uint64_t n_rx, n_tx;  /* bytes ever */
    puff__window rx_window, tx_window;
    uint64_t n_drained;
    uint32_t n_requests;
    uint8_t phase;
    bool running; /* the run loop is on the stack */
    bool peer_finished;
    bool give_up;       /* the host aborts */
    bool want_continue; /* "100 Continue" is owed */
    bool polite;        /* the peer said close: it sends nothing more */
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } peer;
};

/* Takes fd. */
int puff__conn_open(puff_http_server *server, int fd, const struct sockaddr *peer,
                    unsigned peer_len);
/* Something changed: the run loop must look. */
void puff__conn_wake(puff_http_conn *c);
/* Compares the deadlines with now. */
void puff__conn_sweep(puff_http_conn *c, uint64_t now_ns);
/* The server stops: closes what is idle, and soon what has not said a word yet; with now, everything. */
void puff__conn_stop(puff_http_conn *c, bool now);
/* Starts or stops reading, as the unread bytes say. */
void puff__conn_update_reading(puff_http_conn *c);
/* Queues a copy. PUFF_ECLOSED, PUFF_ENOMEM. */
int puff__conn_write(puff_http_conn *c, const void *data, size_t len);

/* ---- server -------------------------------------------------------------------------------- */

typedef struct puff__listening {
    struct puff__listening *next;
    puff_listener *listener;
} puff__listening;

struct puff_http_server {
    puff_loop *loop;
    const puff_alloc *alloc;
    const puff_http_host *host;
    void *data;
    puff_http_options opts;
    puff__listening *listening; /* owned */
    puff_queue conns;
    puff_queue held; /* connections that have answered in turn number held_turn ... */
    uint64_t held_turn, held_since_ns; /* ... and when that began, or some were sent */
    puff_timer sweep;
    uint64_t sweep_ns;
    puff_defer job; /* stopping */
    bool paused;    /* at max_connections */
    bool stopping;
    uint64_t stop_ns;
    void (*on_stopped)(puff_http_server *server, void *data);

    puff_h1_parser *parser;  /* owned; the spare one, NULL while a connection has it */
    puff__head *heads;       /* owned; spare */
    puff__request *requests; /* owned; spare, linked by pub.data */
    unsigned n_heads, n_spare_requests;

    uint64_t date_until_ns; /* until when the date line holds */
    char date_line[40];
    char server_line[272];
    size_t server_line_len;
    puff_http_stats stats;
};

/* "date: ...\r\n", at most a second old. */
puff_str puff__server_date_line(puff_http_server *s);
puff_h1_parser *puff__server_take_parser(puff_http_server *s);
void puff__server_give_parser(puff_http_server *s, puff_h1_parser *p);
puff__head *puff__server_take_head(puff_http_server *s);
void puff__server_give_head(puff_http_server *s, puff__head *h);
/* A connection is now in conns; one is no more, and its memory is gone. */
void puff__server_conn_opened(puff_http_server *s);
void puff__server_conn_closed(puff_http_server *s);

#endif
