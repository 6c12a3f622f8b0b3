/* exchange.c - see exchange.h. The messages are those of the ASGI HTTP specification 2.5.
 *
 * send() works when it is called, not when it is awaited: what it returns is only the wait for the
 * queue to fall. A message is looked at whole before any of it reaches the core, so one that is
 * wrong changes nothing.
 */
#include "exchange.h"

#include "fields.h"
#include "freelist.h"
#include "message.h"

enum {
    QUEUE_HIGH = 64 * 1024
}; /* a peer that reads nothing holds this much of a response, no more */

static PyObject *client_disconnected; /* owned: puff.errors.ClientDisconnected */
static PyObject *msg_end,
    *msg_disconnect; /* owned: what most calls of receive() return a copy of */
static PyObject *key_body, *key_more_body, *type_start, *type_body, *type_trailers, *type_hint;

/* ---- receive --------------------------------------------------------------------------------- */

static PyObject *body_message(puff_http_request *req, puff_str bytes, bool more) {
    PyObject *msg = PyDict_Copy(msg_end);
    if (!msg || (bytes.len == 0 && !more)) return msg;
    PyObject *body = PyBytes_FromStringAndSize(bytes.ptr, (Py_ssize_t)bytes.len);
    if (!body || PyDict_SetItem(msg, key_body, body) < 0 ||
        (more && PyDict_SetItem(msg, key_more_body, Py_True) < 0))
        Py_CLEAR(msg);
    Py_XDECREF(body);
    if (msg) puff_http_request_consume(req, bytes.len);
    return msg;
}

static PyObject *poll_receive(puff_exchange *ex) {
    if (!ex->req || puff_http_response_complete(ex->req)) return PyDict_Copy(msg_disconnect);
    if (ex->body_ended)
        return puff_http_request_disconnected(ex->req) ? PyDict_Copy(msg_disconnect) : NULL;
    puff_str bytes = {0};
    switch (puff_http_request_read(ex->req, &bytes)) {
    case PUFF_HTTP_BODY_MORE: return bytes.len ? body_message(ex->req, bytes, true) : NULL;
    case PUFF_HTTP_BODY_END: {
        PyObject *msg = body_message(ex->req, bytes, false);
        ex->body_ended = msg != NULL;
        return msg;
    }
    case PUFF_HTTP_BODY_GONE: break;
    }
    return PyDict_Copy(msg_disconnect);
}

/* ---- send ------------------------------------------------------------------------------------ */

static int raise_disconnected(void) {
    PyErr_SetString(client_disconnected, "the client has disconnected");
    return -1;
}

static int raise_late(void) {
    PyErr_SetString(PyExc_RuntimeError, "send() after the response was complete");
    return -1;
}

/* Makes an exception of what the core answered. */
static int raise_http(int rc) {
    switch (rc) {
    case PUFF_ECLOSED: return raise_disconnected();
    case PUFF_ENOMEM: PyErr_NoMemory(); break;
    case PUFF_HTTP_EFIELD:
        PyErr_SetString(PyExc_ValueError,
                        "a header name is no token, or a header value has a control "
                        "character");
        break;
    case PUFF_HTTP_ESTATUS:
        PyErr_SetString(PyExc_ValueError, "a response's status is from 200 to 599");
        break;
    case PUFF_HTTP_ELENGTH:
        PyErr_SetString(PyExc_RuntimeError, "content-length is none, or more body than it says");
        break;
    default: PyErr_SetString(PyExc_RuntimeError, "not the time for this message");
    }
    return -1;
}

/* The core knows one thread. Another one must go through the loop. */
static bool is_our_thread(puff_exchange *ex) {
    if (!ex->asgi || ex->asgi->thread == PyThread_get_thread_ident()) return true;
    PyErr_SetString(PyExc_RuntimeError,
                    "receive() and send() belong to the thread of the event loop; "
                    "use asyncio.run_coroutine_threadsafe() elsewhere");
    return false;
}

static int send_start(puff_exchange *ex, const puff_message *m) {
    if (puff_http_response_started(ex->req)) {
        PyErr_SetString(PyExc_RuntimeError, "http.response.start was sent already");
        return -1;
    }
    int status = puff_message_status(m);
    int trailers = status < 0 ? -1 : puff_message_flag(m, PUFF_MESSAGE_TRAILERS);
    puff_fields fields;
    if (trailers < 0 || puff_fields_take(&fields, m->values[PUFF_MESSAGE_HEADERS]) < 0) return -1;
    int rc = puff_http_response_start(ex->req, status, fields.items, fields.n);
    puff_fields_drop(&fields);
    if (rc < 0) return raise_http(rc);
    ex->trailers = trailers;
    return 0;
}

static void on_release(void *arg) { Py_DECREF((PyObject *)arg); }

/* bytes go by reference, anything else with a buffer as a copy. */
static int send_bytes(puff_exchange *ex, PyObject *body, bool more) {
    if (PyBytes_CheckExact(body)) {
        Py_INCREF(body);
        int rc = puff_http_response_body(ex->req, PyBytes_AS_STRING(body),
                                         (size_t)PyBytes_GET_SIZE(body), more, on_release, body);
        if (rc < 0) Py_DECREF(body);
        return rc < 0 ? raise_http(rc) : 0;
    }
    Py_buffer view;
    if (PyUnicode_Check(body) || PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Format(PyExc_TypeError, "http.response.body needs a body of bytes, not %.200s",
                     Py_TYPE(body)->tp_name);
        return -1;
    }
    int rc = puff_http_response_body(ex->req, view.buf, (size_t)view.len, more, NULL, NULL);
    PyBuffer_Release(&view);
    return rc < 0 ? raise_http(rc) : 0;
}

static int send_body(puff_exchange *ex, const puff_message *m) {
    if (!puff_http_response_started(ex->req) || ex->body_sent) {
        PyErr_SetString(PyExc_RuntimeError, ex->body_sent
                                                ? "http.response.body after the last of the body"
                                                : "http.response.body before http.response.start");
        return -1;
    }
    int more = puff_message_flag(m, PUFF_MESSAGE_MORE_BODY);
    if (more < 0) return -1;
    PyObject *body = m->values[PUFF_MESSAGE_BODY];
    if (body) {
        if (send_bytes(ex, body, more || ex->trailers) < 0) return -1;
    } else {
        int rc = puff_http_response_body(ex->req, "", 0, more || ex->trailers, NULL, NULL);
        if (rc < 0) return raise_http(rc);
    }
    ex->body_sent = !more;
    return 0;
}

static int send_trailers(puff_exchange *ex, const puff_message *m) {
    if (!ex->trailers || !ex->body_sent) {
        PyErr_SetString(PyExc_RuntimeError,
                        "http.response.trailers before the end of the body, or "
                        "without trailers=True in http.response.start");
        return -1;
    }
    int more = puff_message_flag(m, PUFF_MESSAGE_MORE_TRAILERS);
    if (more > 0) PyErr_SetString(PyExc_NotImplementedError, "send all trailers in one message");
    puff_fields fields;
    if (more != 0 || puff_fields_take(&fields, m->values[PUFF_MESSAGE_HEADERS]) < 0) return -1;
    int rc = puff_http_response_trailers(ex->req, fields.items, fields.n);
    puff_fields_drop(&fields);
    return rc < 0 ? raise_http(rc) : 0;
}

static int send_hint(puff_exchange *ex, const puff_message *m) {
    puff_fields fields;
    if (puff_fields_take_links(&fields, m->values[PUFF_MESSAGE_LINKS]) < 0) return -1;
    int rc = puff_http_response_informational(ex->req, 103, fields.items, fields.n);
    puff_fields_drop(&fields);
    return rc < 0 ? raise_http(rc) : 0;
}

typedef int (*sender)(puff_exchange *ex, const puff_message *m);

/* What sends a message of that type, or NULL. Most apps name it by a literal, which is interned. */
static sender sender_of(PyObject *type) {
    const struct {
        PyObject *type;
        sender send;
    } senders[] = {
        {type_start, send_start},
        {type_body, send_body},
        {type_trailers, send_trailers},
        {type_hint, send_hint},
    };
    enum { N = sizeof(senders) / sizeof(senders[0]) };
    for (int i = 0; i < N; i++)
        if (type == senders[i].type) return senders[i].send;
    for (int i = 0; i < N && PyUnicode_Check(type); i++)
        if (PyUnicode_Compare(type, senders[i].type) == 0) return senders[i].send;
    return NULL;
}

static int send_known(puff_exchange *ex, const puff_message *m) {
    PyObject *type = m->values[PUFF_MESSAGE_TYPE];
    if (!type) {
        PyErr_SetString(PyExc_KeyError, "type");
        return -1;
    }
    sender send = sender_of(type);
    if (send) return send(ex, m);
    PyErr_Format(PyExc_RuntimeError, "%R is no message that can be sent for an HTTP request", type);
    return -1;
}

static int send_message(puff_exchange *ex, PyObject *dict) {
    puff_message m;
    if (puff_message_take(&m, dict) < 0) return -1;
    int rc;
    if (!ex->req)
        rc = ex->completed ? raise_late() : raise_disconnected();
    else
        rc = puff_http_response_complete(ex->req) ? raise_late() : send_known(ex, &m);
    puff_message_drop(&m);
    return rc;
}

static PyObject *poll_drain(puff_exchange *ex) {
    if (!ex->req) {
        if (!ex->completed) raise_disconnected();
    } else if (puff_http_response_queued(ex->req) > QUEUE_HIGH) {
        return NULL;
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *puff_exchange_poll(puff_exchange *ex, enum puff_wait_kind kind) {
    if (!is_our_thread(ex)) return NULL;
    return kind == PUFF_WAIT_RECEIVE ? poll_receive(ex) : poll_drain(ex);
}

/* ---- the callables --------------------------------------------------------------------------- */

typedef struct channel {
    PyObject_HEAD
    vectorcallfunc call;
    puff_exchange *exchange; /* owned */
} channel;

static puff_freelist channel_freelist; /* of both types: they have one shape */

static bool takes(const char *name, Py_ssize_t n, Py_ssize_t wanted, PyObject *kwnames) {
    if (n == wanted && !kwnames) return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd positional argument(s), no more and no others",
                 name, wanted);
    return false;
}

static PyObject *receive_call(PyObject *self, PyObject *const *args, size_t n, PyObject *kwnames) {
    if (!takes("receive", PyVectorcall_NARGS(n), 0, kwnames)) return NULL;
    return puff_wait_new(((channel *)self)->exchange, PUFF_WAIT_RECEIVE);
}

static PyObject *send_call(PyObject *self, PyObject *const *args, size_t n, PyObject *kwnames) {
    puff_exchange *ex = ((channel *)self)->exchange;
    if (!takes("send", PyVectorcall_NARGS(n), 1, kwnames) || !is_our_thread(ex) ||
        send_message(ex, args[0]) < 0)
        return NULL;
    if (ex->req && !puff_http_response_complete(ex->req) &&
        puff_http_response_queued(ex->req) > QUEUE_HIGH)
        return puff_wait_new(ex, PUFF_WAIT_DRAIN);
    return Py_NewRef(puff_sent);
}

static void channel_dealloc(PyObject *self) {
    Py_CLEAR(((channel *)self)->exchange);
    puff_freelist_free(&channel_freelist, self);
}

static PyTypeObject receive_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Receive",
    .tp_basicsize = sizeof(channel),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(channel, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = channel_dealloc,
};
static PyTypeObject send_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Send",
    .tp_basicsize = sizeof(channel),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(channel, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = channel_dealloc,
};

static PyObject *channel_new(PyTypeObject *type, vectorcallfunc call, puff_exchange *ex) {
    channel *c = puff_freelist_new(&channel_freelist, type);
    if (!c) return NULL;
    c->call = call;
    c->exchange = (puff_exchange *)Py_NewRef((PyObject *)ex);
    return (PyObject *)c;
}

PyObject *puff_exchange_receiver(puff_exchange *ex) {
    return channel_new(&receive_type, receive_call, ex);
}
PyObject *puff_exchange_sender(puff_exchange *ex) { return channel_new(&send_type, send_call, ex); }

/* ---- the exchange ---------------------------------------------------------------------------- */

static puff_freelist exchange_freelist;

static void exchange_dealloc(PyObject *self) {
    puff_exchange *ex = (puff_exchange *)self;
    if (ex->held) puff_http_request_unref(ex->held);
    puff_freelist_free(&exchange_freelist, self);
}

static PyTypeObject exchange_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Exchange",
    .tp_basicsize = sizeof(puff_exchange),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = exchange_dealloc,
};

puff_exchange *puff_exchange_new(puff_asgi *asgi, puff_http_request *req) {
    puff_exchange *ex = puff_freelist_new(&exchange_freelist, &exchange_type);
    if (!ex) return NULL;
    ex->req = req;
    ex->asgi = asgi;
    ex->held = NULL;
    puff_queue_init(&ex->waits);
    ex->body_ended = ex->trailers = ex->body_sent = ex->completed = false;
    return ex;
}

void puff_exchange_hold(puff_exchange *ex) {
    if (ex->req && !ex->held) ex->held = puff_http_request_ref(ex->req);
}

void puff_exchange_done(puff_exchange *ex) {
    ex->completed = puff_http_response_complete(ex->req);
    ex->req = NULL;
    ex->asgi = NULL;
    if (!puff_queue_empty(&ex->waits))
        puff_wait_wake(&ex->waits, PUFF_WAIT_RECEIVE | PUFF_WAIT_DRAIN);
}

/* NULL: nothing, or nothing but that the client has gone, of which send() and receive() have told.
 */
static const char *what_is_wrong(puff_exchange *ex, PyObject *exc) {
    bool gone = !ex->req || puff_http_request_disconnected(ex->req);
    if (exc)
        return gone && PyErr_GivenExceptionMatches(exc, client_disconnected)
                   ? NULL
                   : "the app raised an exception";
    if (gone || puff_http_response_complete(ex->req)) return NULL;
    return puff_http_response_started(ex->req) ? "the app ended before its response was complete"
                                               : "the app ended without a response";
}

void puff_exchange_app_ended(puff_exchange *ex, puff_asgi *asgi, PyObject *exc) {
    const char *sentence = what_is_wrong(ex, exc);
    if (sentence) puff_asgi_report(asgi, ex->req ? ex->req : ex->held, sentence, exc);
    if (!ex->req || puff_http_response_complete(ex->req)) return;
    if (puff_http_response_started(ex->req) || puff_http_response_simple(ex->req, 500, NULL) < 0)
        puff_http_response_abort(ex->req);
}

void puff_exchange_cut_off(puff_exchange *ex) {
    if (ex->req && !puff_http_response_complete(ex->req)) puff_http_response_abort(ex->req);
}

/* ---- init ------------------------------------------------------------------------------------ */

static int init_names(void) {
    const struct {
        PyObject **to;
        const char *text;
    } names[] = {
        {&key_body, "body"},
        {&key_more_body, "more_body"},
        {&type_start, "http.response.start"},
        {&type_body, "http.response.body"},
        {&type_trailers, "http.response.trailers"},
        {&type_hint, "http.response.early_hint"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!(*names[i].to = PyUnicode_InternFromString(names[i].text))) return -1;
    return 0;
}

int puff_exchange_init(void) {
    if (puff_message_init() < 0 || init_names() < 0 || PyType_Ready(&receive_type) < 0 ||
        PyType_Ready(&send_type) < 0 || PyType_Ready(&exchange_type) < 0)
        return -1;
    msg_end =
        Py_BuildValue("{s:s,s:y,O:O}", "type", "http.request", "body", "", key_more_body, Py_False);
    msg_disconnect = Py_BuildValue("{s:s}", "type", "http.disconnect");
    PyObject *errors = PyImport_ImportModule("puff.errors");
    client_disconnected = errors ? PyObject_GetAttrString(errors, "ClientDisconnected") : NULL;
    Py_XDECREF(errors);
    return msg_end && msg_disconnect && client_disconnected ? 0 : -1;
}
