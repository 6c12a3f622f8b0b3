/* scope.c - see scope.h. Types and values are those of the ASGI specification, HTTP 2.5.
 *
 * Requests of a connection are much alike. So a connection keeps the last scope's keys (but for
 * those that an app may change in place: headers, state, extensions) and the last header tuples; a
 * scope is a copy of the first, corrected where the request differs. All that is shared is
 * immutable, but for the "asgi" dict, which belongs to the app as a whole.
 */
#include "scope.h"

#include "target.h"

#include <sys/socket.h>

enum {
    KEPT_HEADERS = 16, /* of a connection; with KEPT_VALUE this bounds what an idle one holds */
    KEPT_VALUE = 128,
    ADDR_TEXT = 128
};

/* Borrowed slices of these stay valid: the objects are immutable and ours. */
typedef struct scope_conn {
    PyObject *keys;                  /* owned: the scope of the last request, without the mutable */
    PyObject *raw_path, *query;      /* owned: bytes, as in keys */
    PyObject *method;                /* owned: str, as in keys */
    uint8_t version;                 /* as in keys */
    PyObject *headers[KEPT_HEADERS]; /* owned or NULL: (name, value) by place */
} scope_conn;

static PyObject *key_method, *key_path, *key_raw_path, *key_query, *key_headers, *key_state,
    *key_extensions, *key_version, *key_scheme, *key_client, *key_server;
static PyObject *str_10, *str_11, *empty_bytes;
static PyObject *field_names[PUFF_HTTP_FIELD_COUNT]; /* owned: bytes; [OTHER] is NULL */
static PyObject *method_names[PUFF_HTTP_METHOD_COUNT];

static bool bytes_equal(PyObject *bytes, puff_str s) {
    return (size_t)PyBytes_GET_SIZE(bytes) == s.len &&
           memcmp(PyBytes_AS_STRING(bytes), s.ptr, s.len) == 0;
}

static PyObject *bytes_of(puff_str s) {
    if (s.len == 0) return Py_NewRef(empty_bytes);
    return PyBytes_FromStringAndSize(s.ptr, (Py_ssize_t)s.len);
}

/* ---- path ------------------------------------------------------------------------------------ */

/* The path as text: decoded, then UTF-8; what is not UTF-8 becomes U+FFFD, as in every ASGI server.
 */
static PyObject *path_text(puff_str raw) {
    if (!memchr(raw.ptr, '%', raw.len))
        return PyUnicode_DecodeUTF8(raw.ptr, (Py_ssize_t)raw.len, "replace");
    char *buf = PyMem_Malloc(raw.len);
    if (!buf) return PyErr_NoMemory();
    size_t len = puff_percent_decode(buf, raw.ptr, raw.len);
    PyObject *text = PyUnicode_DecodeUTF8(buf, (Py_ssize_t)len, "replace");
    PyMem_Free(buf);
    return text;
}

/* True when path is root or lies under it. */
static int lies_under(PyObject *path, PyObject *root) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(root);
    if (PyUnicode_Tailmatch(path, root, 0, PY_SSIZE_T_MAX, -1) != 1) return 0;
    return PyUnicode_GET_LENGTH(path) == n || PyUnicode_READ_CHAR(path, n) == '/';
}

/* scope["path"] includes the root path; a proxy may or may not have taken it off. */
static PyObject *full_path(puff_str raw, PyObject *root) {
    PyObject *path = path_text(raw);
    if (!path || PyUnicode_GET_LENGTH(root) == 0 || lies_under(path, root)) return path;
    Py_SETREF(path, PyUnicode_Concat(root, path));
    return path;
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* (host, port); (path, None) for a Unix socket with a path; else None. */
static PyObject *address(const struct sockaddr *addr) {
    char text[ADDR_TEXT];
    uint16_t port;
    int len = addr ? puff_http_addr_text(addr, text, sizeof(text), &port) : 0;
    if (len <= 0) Py_RETURN_NONE;
    PyObject *host = PyUnicode_DecodeFSDefaultAndSize(text, len);
    PyObject *number = addr->sa_family == AF_UNIX ? Py_NewRef(Py_None) : PyLong_FromLong(port);
    PyObject *pair = host && number ? PyTuple_Pack(2, host, number) : NULL;
    Py_XDECREF(host);
    Py_XDECREF(number);
    return pair;
}

static PyObject *local_address(const puff_http_conn *conn) {
    struct sockaddr_storage local;
    if (puff_http_conn_local(conn, &local) < 0) Py_RETURN_NONE;
    return address((const struct sockaddr *)&local);
}

/* ---- connection ------------------------------------------------------------------------------ */

/* Steals value, which may be NULL. */
static int set_take(PyObject *dict, PyObject *key, PyObject *value) {
    int rc = value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static PyObject *first_keys(puff_asgi *asgi, const puff_http_request *req) {
    const struct sockaddr *peer = puff_http_conn_peer(req->conn);
    bool is_unix = !peer || peer->sa_family == AF_UNIX;
    PyObject *keys = PyDict_Copy(asgi->template);
    if (!keys) return NULL;
    if (set_take(keys, key_client, is_unix ? Py_NewRef(Py_None) : address(peer)) < 0 ||
        set_take(keys, key_server, local_address(req->conn)) < 0 ||
        set_take(keys, key_scheme,
                 PyUnicode_FromStringAndSize(req->scheme.ptr, (Py_ssize_t)req->scheme.len)) < 0)
        Py_CLEAR(keys);
    return keys;
}

static scope_conn *conn_of(puff_asgi *asgi, puff_http_request *req) {
    scope_conn *c = puff_http_conn_data(req->conn);
    if (c) return c;
    c = PyMem_Calloc(1, sizeof(*c));
    if (!c) {
        PyErr_NoMemory();
        return NULL;
    }
    c->keys = first_keys(asgi, req);
    if (!c->keys) {
        PyMem_Free(c);
        return NULL;
    }
    puff_http_conn_set_data(req->conn, c);
    return c;
}

void puff_scope_conn_free(void *conn_data) {
    scope_conn *c = conn_data;
    Py_XDECREF(c->keys);
    Py_XDECREF(c->raw_path);
    Py_XDECREF(c->query);
    Py_XDECREF(c->method);
    for (int i = 0; i < KEPT_HEADERS; i++) Py_XDECREF(c->headers[i]);
    PyMem_Free(c);
}

/* ---- what differs from the last request ------------------------------------------------------ */

static int update_method(scope_conn *c, const puff_http_request *req) {
    PyObject *method = method_names[req->method_id];
    if (method && method == c->method) return 0;
    method = method ? Py_NewRef(method)
                    : PyUnicode_DecodeLatin1(req->method.ptr, (Py_ssize_t)req->method.len, NULL);
    Py_XSETREF(c->method, method);
    return method ? PyDict_SetItem(c->keys, key_method, method) : -1;
}

static int update_version(scope_conn *c, const puff_http_request *req) {
    if (c->version == req->version) return 0;
    c->version = req->version;
    return PyDict_SetItem(c->keys, key_version, req->version == 10 ? str_10 : str_11);
}

static int update_path(scope_conn *c, puff_asgi *asgi, const puff_http_request *req) {
    if (c->raw_path && bytes_equal(c->raw_path, req->path)) return 0;
    Py_XSETREF(c->raw_path, bytes_of(req->path));
    if (c->raw_path && set_take(c->keys, key_path, full_path(req->path, asgi->root_path)) == 0 &&
        PyDict_SetItem(c->keys, key_raw_path, c->raw_path) == 0)
        return 0;
    Py_CLEAR(c->raw_path); /* or the next request would trust it */
    return -1;
}

static int update_query(scope_conn *c, const puff_http_request *req) {
    if (c->query && bytes_equal(c->query, req->query)) return 0;
    Py_XSETREF(c->query, bytes_of(req->query));
    if (c->query && PyDict_SetItem(c->keys, key_query, c->query) == 0) return 0;
    Py_CLEAR(c->query);
    return -1;
}

/* ---- headers --------------------------------------------------------------------------------- */

static bool is_same_header(PyObject *pair, const puff_http_field *f) {
    PyObject *name = PyTuple_GET_ITEM(pair, 0);
    bool same = f->id ? name == field_names[f->id] : bytes_equal(name, f->name);
    return same && bytes_equal(PyTuple_GET_ITEM(pair, 1), f->value);
}

static PyObject *header_new(const puff_http_field *f) {
    PyObject *name = f->id ? Py_NewRef(field_names[f->id]) : bytes_of(f->name);
    PyObject *value = bytes_of(f->value);
    PyObject *pair = name && value ? PyTuple_New(2) : NULL;
    if (!pair) {
        Py_XDECREF(name);
        Py_XDECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, value);
    PyObject_GC_UnTrack(pair); /* as the collector would: bytes are part of no cycle */
    return pair;
}

static PyObject *header_of(scope_conn *c, size_t place, const puff_http_field *f) {
    if (place >= KEPT_HEADERS) return header_new(f);
    PyObject *kept = c->headers[place];
    if (kept && is_same_header(kept, f)) return Py_NewRef(kept);
    PyObject *pair = header_new(f);
    if (pair && f->value.len + f->name.len <= KEPT_VALUE)
        Py_XSETREF(c->headers[place], Py_NewRef(pair));
    return pair;
}

static PyObject *headers_of(scope_conn *c, const puff_http_request *req) {
    PyObject *list = PyList_New((Py_ssize_t)req->n_fields);
    for (size_t i = 0; list && i < req->n_fields; i++) {
        PyObject *pair = header_of(c, i, &req->fields[i]);
        if (pair)
            PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
        else
            Py_CLEAR(list);
    }
    return list;
}

/* ---- scope ----------------------------------------------------------------------------------- */

/* A copy, shallow; most apps keep no state, and an empty dict is the cheaper one to make. */
static PyObject *copy_of(PyObject *dict) {
    return PyDict_GET_SIZE(dict) ? PyDict_Copy(dict) : PyDict_New();
}

PyObject *puff_scope_new(puff_asgi *asgi, puff_http_request *req) {
    scope_conn *c = conn_of(asgi, req);
    if (!c || update_method(c, req) < 0 || update_version(c, req) < 0 ||
        update_path(c, asgi, req) < 0 || update_query(c, req) < 0)
        return NULL;
    PyObject *scope = PyDict_Copy(c->keys);
    if (!scope) return NULL;
    if (set_take(scope, key_headers, headers_of(c, req)) < 0 ||
        set_take(scope, key_extensions, PyDict_Copy(asgi->extensions)) < 0 ||
        set_take(scope, key_state, copy_of(asgi->state)) < 0)
        Py_CLEAR(scope);
    return scope;
}

PyObject *puff_scope_template(PyObject *root_path) {
    return Py_BuildValue("{s:s,s:{s:s,s:s},s:O,s:O,s:O,s:O}", "type", "http", "asgi", "version",
                         "3.0", "spec_version", "2.5", "root_path", root_path, "headers", Py_None,
                         "state", Py_None, "extensions", Py_None);
}

PyObject *puff_scope_extensions(void) {
    return Py_BuildValue("{s:{}}", "http.response.early_hint");
}

/* ---- init ------------------------------------------------------------------------------------ */

static int init_keys(void) {
    const struct {
        PyObject **to;
        const char *text;
    } names[] = {
        {&key_method, "method"},
        {&key_path, "path"},
        {&key_raw_path, "raw_path"},
        {&key_query, "query_string"},
        {&key_headers, "headers"},
        {&key_state, "state"},
        {&key_extensions, "extensions"},
        {&key_version, "http_version"},
        {&key_scheme, "scheme"},
        {&key_client, "client"},
        {&key_server, "server"},
        {&str_10, "1.0"},
        {&str_11, "1.1"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!(*names[i].to = PyUnicode_InternFromString(names[i].text))) return -1;
    return 0;
}

int puff_scope_init(void) {
    if (init_keys() < 0 || !(empty_bytes = PyBytes_FromStringAndSize(NULL, 0))) return -1;
    for (int i = 1; i < PUFF_HTTP_FIELD_COUNT; i++) {
        puff_str name = puff_http_field_name(i);
        if (!(field_names[i] = PyBytes_FromStringAndSize(name.ptr, (Py_ssize_t)name.len)))
            return -1;
    }
    for (int i = 1; i < PUFF_HTTP_METHOD_COUNT; i++) {
        puff_str name = puff_http_method_name(i);
        PyObject *text = PyUnicode_FromStringAndSize(name.ptr, (Py_ssize_t)name.len);
        if (text) PyUnicode_InternInPlace(&text);
        if (!(method_names[i] = text)) return -1;
    }
    return 0;
}
