/* asgi.h - one ASGI app on one HTTP server: what the files of the binding share.
 *
 *   puff_asgi (asgi.c)               the app, its loop, its settings; the core's callbacks
 *    +- puff_driver (asgi_task.c)    runs the app for one request inside an asyncio.Task
 *    +- puff_exchange (exchange.c)   one request and its response: what receive() and send() do
 *    |   +- puff_wait (awaitable.c)  somebody who waits in one of the two
 *    +- puff_scope (scope.c)         the scope dict, and what is kept per connection to build it
 *
 * Everything runs on the loop's thread with the GIL held. Python code runs in the app's step, in
 * destructors and in on_error, nowhere else.
 */
#ifndef PUFF_BIND_ASGI_H
#define PUFF_BIND_ASGI_H

#include <stdbool.h>

#include "access_log.h"
#include "dispatch.h"
#include "puff/http.h"

typedef struct puff_driver puff_driver;

typedef struct puff_asgi {
    puff_loop_object *loop; /* owned */
    PyObject *app;          /* owned: app(scope, receive, send) */
    PyObject *context;      /* owned; never entered but to copy it: what each request starts from */
    PyObject *state;        /* owned: the lifespan's dict, copied for each request */
    PyObject *template;     /* owned: the scope's keys that no request changes */
    PyObject *extensions;   /* owned: a dict, copied for each request */
    PyObject *root_path;    /* owned: str, no slash at its end */
    PyObject *on_error;     /* owned: on_error(sentence, exception or None, method, target) */

    PyObject *idle_step;  /* owned or NULL: the step of a Task that waits for the next request */
    puff_driver *idle;    /* borrowed from that Task */
    puff_queue running;   /* of puff_driver, whose Tasks it owns: apps that are suspended */
    unsigned long thread; /* that the loop runs in */
    bool stopping;        /* no Task is kept idle any more */
    puff_access_log *log; /* owned; NULL: none */
} puff_asgi;

/* ---- asgi.c ---- */

/* SystemExit or KeyboardInterrupt came out of an app; borrowed. */
typedef void (*puff_asgi_interrupt)(PyObject *loop, PyObject *exc);

/* Readies types and constants; 0 or -1. Once, at import. */
int puff_asgi_init(puff_asgi_interrupt interrupt);
/* All arguments are borrowed. log_fd: where the access log goes, -1: nowhere. NULL with an
 * exception. */
puff_asgi *puff_asgi_new(PyObject *loop, PyObject *app, PyObject *state, PyObject *root_path,
                         PyObject *on_error, int log_fd);
/* After the server has stopped. Requests that still run go on without it. */
void puff_asgi_free(puff_asgi *asgi);
/* The Tasks of the requests whose app is suspended: a new list. */
PyObject *puff_asgi_tasks(puff_asgi *asgi);
/* Ends the idle Task; none is kept from now on. */
void puff_asgi_stop(puff_asgi *asgi);

/* What puff_http_server_open() wants; a server's data is its puff_asgi. */
extern const puff_http_host puff_asgi_host;
void puff_asgi_on_access(const puff_http_access *a);

/* Reports to on_error; never raises. exc NULL: there is only the sentence. */
void puff_asgi_report(puff_asgi *asgi, const puff_http_request *req, const char *sentence,
                      PyObject *exc);

#endif
