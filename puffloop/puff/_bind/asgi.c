/* asgi.c - see asgi.h. */
#define PY_SSIZE_T_CLEAN
#include "asgi_task.h"
#include "scope.h"

/* ---- errors ---------------------------------------------------------------------------------- */

void puff_asgi_report(puff_asgi *asgi, const puff_http_request *req, const char *sentence,
                      PyObject *exc) {
    puff_str method = req ? req->method : PUFF_STR("");
    puff_str target = req ? req->target : PUFF_STR("");
    PyObject *res =
        PyObject_CallFunction(asgi->on_error, "sOy#y#", sentence, exc ? exc : Py_None, method.ptr,
                              (Py_ssize_t)method.len, target.ptr, (Py_ssize_t)target.len);
    if (!res) PyErr_WriteUnraisable(asgi->on_error);
    Py_XDECREF(res);
}

static puff_asgi_interrupt interrupt_loop;

static bool is_for_the_loop(PyObject *exc) {
    return PyErr_GivenExceptionMatches(exc, PyExc_SystemExit) ||
           PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt);
}

/* The exception that is set came out of a request's first step. */
static void request_failed(puff_asgi *asgi, puff_exchange *ex) {
    PyObject *exc = puff_take_exception();
    if (is_for_the_loop(exc))
        interrupt_loop((PyObject *)asgi->loop, exc);
    else if (ex)
        puff_exchange_app_ended(ex, asgi, exc);
    else
        puff_asgi_report(asgi, NULL, "a request could not be served", exc);
    Py_DECREF(exc);
}

/* ---- the core's callbacks -------------------------------------------------------------------- */

static void on_request(puff_http_request *req) {
    puff_asgi *asgi = puff_http_server_data(puff_http_conn_server(req->conn));
    puff_exchange *ex = puff_exchange_new(asgi, req);
    asgi->thread = PyThread_get_thread_ident();
    if (!ex) {
        request_failed(asgi, NULL);
        puff_http_response_abort(req);
        return;
    }
    req->data = Py_NewRef((PyObject *)ex); /* until on_done */
    if (puff_asgi_task_run(asgi, ex) < 0) request_failed(asgi, ex);
    Py_DECREF(ex);
}

static void wake(puff_http_request *req, int kinds) {
    puff_exchange *ex = req->data;
    if (ex && !puff_queue_empty(&ex->waits)) puff_wait_wake(&ex->waits, kinds);
}

static void on_body(puff_http_request *req) { wake(req, PUFF_WAIT_RECEIVE); }
static void on_drain(puff_http_request *req) { wake(req, PUFF_WAIT_DRAIN); }
static void on_disconnect(puff_http_request *req) {
    wake(req, PUFF_WAIT_RECEIVE | PUFF_WAIT_DRAIN);
}

static void on_done(puff_http_request *req) {
    puff_exchange *ex = req->data;
    if (!ex) return;
    req->data = NULL;
    puff_exchange_done(ex);
    Py_DECREF(ex);
}

static void on_conn_free(puff_http_conn *conn, void *data) { puff_scope_conn_free(data); }

const puff_http_host puff_asgi_host = {
    .on_request = on_request,
    .on_body = on_body,
    .on_disconnect = on_disconnect,
    .on_drain = on_drain,
    .on_done = on_done,
    .on_conn_free = on_conn_free,
};

void puff_asgi_on_access(const puff_http_access *a) {
    puff_asgi *asgi = puff_http_server_data(a->server);
    if (asgi->log) puff_access_log_add(asgi->log, a);
}

/* ---- the app --------------------------------------------------------------------------------- */

puff_asgi *puff_asgi_new(PyObject *loop, PyObject *app, PyObject *state, PyObject *root_path,
                         PyObject *on_error, int log_fd) {
    puff_asgi *asgi = PyMem_Calloc(1, sizeof(*asgi));
    if (!asgi) {
        PyErr_NoMemory();
        return NULL;
    }
    puff_queue_init(&asgi->running);
    asgi->loop = (puff_loop_object *)Py_NewRef(loop);
    asgi->app = Py_NewRef(app);
    asgi->state = Py_NewRef(state);
    asgi->root_path = Py_NewRef(root_path);
    asgi->on_error = Py_NewRef(on_error);
    asgi->context = PyContext_CopyCurrent();
    asgi->template = puff_scope_template(root_path);
    asgi->extensions = puff_scope_extensions();
    bool ok = asgi->context && asgi->template && asgi->extensions;
    if (ok && log_fd >= 0 && !(asgi->log = puff_access_log_new(asgi->loop->core, log_fd))) {
        PyErr_NoMemory();
        ok = false;
    }
    if (ok) return asgi;
    puff_asgi_free(asgi);
    return NULL;
}

void puff_asgi_stop(puff_asgi *asgi) {
    asgi->stopping = true;
    puff_asgi_task_end_idle(asgi);
}

void puff_asgi_free(puff_asgi *asgi) {
    puff_asgi_task_end_idle(asgi);
    puff_asgi_task_disown(asgi);
    puff_access_log_free(asgi->log);
    Py_XDECREF(asgi->template);
    Py_XDECREF(asgi->extensions);
    Py_XDECREF(asgi->context);
    Py_DECREF(asgi->on_error);
    Py_DECREF(asgi->root_path);
    Py_DECREF(asgi->state);
    Py_DECREF(asgi->app);
    Py_DECREF(asgi->loop);
    PyMem_Free(asgi);
}

PyObject *puff_asgi_tasks(puff_asgi *asgi) { return puff_asgi_task_list(asgi); }

int puff_asgi_init(puff_asgi_interrupt interrupt) {
    interrupt_loop = interrupt;
    if (puff_awaitable_init() < 0 || puff_exchange_init() < 0 || puff_scope_init() < 0) return -1;
    return puff_asgi_task_init();
}
