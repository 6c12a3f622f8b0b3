/* exchange.h - one request and its response, as receive() and send() see them.
 *
 * An exchange outlives its request when the app keeps receive or send: it is then done, whatever
 * the connection does next, so a late call can never reach another request.
 */
#ifndef PUFF_BIND_EXCHANGE_H
#define PUFF_BIND_EXCHANGE_H

#include "asgi.h"
#include "awaitable.h"

typedef struct puff_exchange {
    PyObject_HEAD
    puff_http_request *req;  /* borrowed; NULL once done */
    puff_asgi *asgi;         /* borrowed; NULL once done */
    puff_http_request *held; /* a reference, or NULL: lets the log say which request it was */
    puff_queue waits;        /* of puff_wait: who is parked in receive() or send() */
    bool body_ended;         /* the app has had the end of the body */
    bool trailers;           /* the app has promised trailers; they end the response */
    bool body_sent;          /* ... and has sent all of the body */
    bool completed;          /* done, with a whole response */
} puff_exchange;

int puff_exchange_init(void);
/* NULL with MemoryError. */
puff_exchange *puff_exchange_new(puff_asgi *asgi, puff_http_request *req);
/* The app's two callables: new references that hold the exchange. */
PyObject *puff_exchange_receiver(puff_exchange *ex);
PyObject *puff_exchange_sender(puff_exchange *ex);

/* The core has said its last word about the request. */
void puff_exchange_done(puff_exchange *ex);
/* The app will run for longer than the request may. */
void puff_exchange_hold(puff_exchange *ex);
/* The app has ended; exc: what it raised, or NULL. Reports what went wrong, and makes a response
 * where there is none. asgi: the exchange's, also when that is done. */
void puff_exchange_app_ended(puff_exchange *ex, puff_asgi *asgi, PyObject *exc);
/* The app was cancelled because the server stops: no word, and no more of a response. */
void puff_exchange_cut_off(puff_exchange *ex);

/* The result of a wait of that kind: a new reference, or NULL: with an exception, failed; without
 * one, nothing yet. */
PyObject *puff_exchange_poll(puff_exchange *ex, enum puff_wait_kind kind);

#endif
