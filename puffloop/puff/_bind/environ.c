/* environ.c - see environ.h. Keys and values are those of PEP 3333 and of CGI (RFC 3875 4.1).
 *
 * Every text is bytes in disguise: latin-1. Requests of a connection are much alike, so it keeps the last
 * values, and uses the same str again where the bytes are the same. A copy of its base is the next environ, and
 * only what differs is set. The base begins as the template with the connection's own keys; it gets
 *
 *     the names of the fields  with the second request, until one has others; with many changes, never
 *     the target               when two requests in a row have the same
 *
 * Invariant: with has_names, base[kept[i].name] is kept[i].value, or what no environ has where that is NULL. An
 * idle connection holds one dict, the structs below and the values.
 *
 * Two kinds of field never reach the app: a name with '_', which CGI cannot tell from one with '-', so that a
 * client could pass for a proxy that sets X-Real-IP; and Proxy, which would be HTTP_PROXY (httpoxy).
 */
#include "environ.h"

#include <stdbool.h>
#include <sys/socket.h>

#include "target.h"

enum {
    KEPT_FIELDS = 24, /* of a connection; with KEPT_VALUE this bounds what an idle one holds */
    KEPT_VALUE = 128,
    MAX_MISSES = 4, /* a proxy's connection carries everybody's requests: no use in keeping names */
    ADDR_TEXT = 128
};

/* What a request target becomes. */
typedef struct target_texts {
    PyObject *uri, *path, *query; /* owned, or all NULL */
} target_texts;

/* A field by its place in the request. */
typedef struct kept_field {
    PyObject *name;  /* owned or NULL: its key */
    PyObject *value; /* owned or NULL: the last value */
} kept_field;

typedef struct environ_conn {
    PyObject *base;              /* owned: what every request's environ is a copy of */
    kept_field *kept;            /* owned; n_kept of them, for as many as the requests have had */
    size_t n_kept;               /* at most KEPT_FIELDS */
    size_t n_fields;             /* of the last request */
    target_texts target;         /* of the last request; empty if that was long */
    PyObject *method, *protocol; /* borrowed, they live for ever: those of base, or NULL */
    bool has_names;              /* base has the keys of the last request's fields */
    bool has_target;             /* base has target's texts, since two requests in a row had them */
    bool used;                   /* it has had a request */
    int misses;                  /* in a row: requests with other names than the one before */
} environ_conn;

static PyObject *key_method, *key_path, *key_query, *key_protocol, *key_scheme, *key_input,
    *key_addr, *key_port, *key_server, *key_server_port, *key_type, *key_length, *key_uri,
    *key_cookie, *key_raw_uri;
static PyObject *http_10, *http_11, *empty, *comma, *semicolon;
static PyObject *shared[5]; /* owned or NULL: the last connection's addresses, ports, scheme */
static PyObject *recent[KEPT_FIELDS]; /* owned or NULL: a value of any connection, by place */
static PyObject *field_keys[PUFF_HTTP_FIELD_COUNT]; /* owned: "HTTP_ACCEPT"; [OTHER] is NULL */
static PyObject *method_names[PUFF_HTTP_METHOD_COUNT];

/* ---- text ------------------------------------------------------------------------------------ */

static PyObject *latin1(puff_str s) {
    if (s.len == 0) return Py_NewRef(empty);
    return PyUnicode_DecodeLatin1(s.ptr, (Py_ssize_t)s.len, NULL);
}

/* text is a str that latin1() has made. */
static bool is_text(PyObject *text, puff_str s) {
    return text && (size_t)PyUnicode_GET_LENGTH(text) == s.len &&
           (s.len == 0 || memcmp(PyUnicode_1BYTE_DATA(text), s.ptr, s.len) == 0);
}

/* A new reference to *kept, which becomes the text of s, or NULL if that is long. */
static PyObject *kept_text(PyObject **kept, puff_str s) {
    if (is_text(*kept, s)) return Py_NewRef(*kept);
    PyObject *text = latin1(s);
    if (text) Py_XSETREF(*kept, s.len <= KEPT_VALUE ? Py_NewRef(text) : NULL);
    return text;
}

/* Steals value, which may be NULL. */
static int set_take(PyObject *dict, PyObject *key, PyObject *value) {
    int rc = value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* ---- path ------------------------------------------------------------------------------------ */

static PyObject *decoded(puff_str raw) {
    if (!memchr(raw.ptr, '%', raw.len)) return latin1(raw);
    char *buf = PyMem_Malloc(raw.len);
    if (!buf) return PyErr_NoMemory();
    size_t len = puff_percent_decode(buf, raw.ptr, raw.len);
    PyObject *text = latin1((puff_str){buf, len});
    PyMem_Free(buf);
    return text;
}

/* PATH_INFO: what follows SCRIPT_NAME, which a proxy may or may not have taken off. */
static PyObject *path_below(PyObject *path, PyObject *root) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(root);
    if (!path || n == 0 || PyUnicode_Tailmatch(path, root, 0, PY_SSIZE_T_MAX, -1) != 1) return path;
    if (PyUnicode_GET_LENGTH(path) > n && PyUnicode_READ_CHAR(path, n) != '/') return path;
    Py_SETREF(path, PyUnicode_Substring(path, n, PY_SSIZE_T_MAX));
    return path;
}

/* ---- target ---------------------------------------------------------------------------------- */

static void drop_target(target_texts *t) {
    Py_CLEAR(t->uri);
    Py_CLEAR(t->path);
    Py_CLEAR(t->query);
}

/* PATH_INFO; uri itself where that is the same text. CGI knows no "*" of OPTIONS. */
static PyObject *path_of(PyObject *uri, PyObject *root, const puff_http_request *req) {
    if (puff_str_eq(req->path, PUFF_STR("*"))) return Py_NewRef(empty);
    bool same = req->path.len == req->target.len && !memchr(req->path.ptr, '%', req->path.len);
    return path_below(same ? Py_NewRef(uri) : decoded(req->path), root);
}

static int make_target(target_texts *t, PyObject *root, const puff_http_request *req) {
    drop_target(t);
    t->uri = latin1(req->target);
    t->path = t->uri ? path_of(t->uri, root, req) : NULL;
    t->query = latin1(req->query);
    if (t->uri && t->path && t->query) return 0;
    drop_target(t);
    return -1;
}

static int put_target(PyObject *env, const target_texts *t) {
    if (PyDict_SetItem(env, key_path, t->path) < 0 || PyDict_SetItem(env, key_query, t->query) < 0)
        return -1;
    if (PyDict_SetItem(env, key_uri, t->uri) < 0) return -1;
    return PyDict_SetItem(env, key_raw_uri, t->uri);
}

/* ---- connection ------------------------------------------------------------------------------ */

/* The same str again where the connection before this one had the same: most share an address. */
static PyObject *shared_text(PyObject *key, puff_str s) {
    PyObject **kept = key == key_addr     ? &shared[0]
                      : key == key_server ? &shared[1]
                      : key == key_port   ? &shared[2]
                      : key == key_scheme ? &shared[3]
                                          : &shared[4];
    return kept_text(kept, s);
}

/* REMOTE_ADDR and REMOTE_PORT, or the two of the server. A Unix socket has neither. */
static int set_address(PyObject *dict, PyObject *key, PyObject *port_key,
                       const struct sockaddr *addr) {
    char text[ADDR_TEXT];
    uint16_t port = 0;
    int len = 0;
    if (addr && addr->sa_family != AF_UNIX)
        len = puff_http_addr_text(addr, text, sizeof text, &port);
    if (len <= 0) return PyDict_SetItem(dict, key, empty);
    if (set_take(dict, key, shared_text(key, (puff_str){text, (size_t)len})) < 0) return -1;
    len = snprintf(text, sizeof text, "%d", (int)port);
    return set_take(dict, port_key, shared_text(port_key, (puff_str){text, (size_t)len}));
}

/* SERVER_NAME and SERVER_PORT must be there and not be empty. */
static int set_server(PyObject *dict, const puff_http_conn *conn) {
    struct sockaddr_storage local;
    if (puff_http_conn_local(conn, &local) == 0 && local.ss_family != AF_UNIX)
        return set_address(dict, key_server, key_server_port, (const struct sockaddr *)&local);
    if (set_take(dict, key_server, PyUnicode_FromString("localhost")) < 0) return -1;
    return set_take(dict, key_server_port, PyUnicode_FromString("80"));
}

/* What each request sets anyway: a copy that has the keys already need not grow for them. */
static int reserve(PyObject *dict) {
    PyObject *keys[] = {key_method,  key_path,     key_query, key_uri,
                        key_raw_uri, key_protocol, key_input};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (PyDict_SetItem(dict, keys[i], Py_None) < 0) return -1;
    return 0;
}

/* Room for the fields too, from the begin: what a dict grows out of later stays in the heap, a hole
 * for each connection. */
static int make_room(PyObject *keys) {
    if (PyDict_SetItem(keys, key_cookie, Py_None) < 0) return -1;
    return PyDict_DelItem(keys, key_cookie);
}

static PyObject *first_keys(PyObject *template_, const puff_http_request *req) {
    PyObject *keys = PyDict_Copy(template_);
    if (keys && (reserve(keys) < 0 ||
                 set_address(keys, key_addr, key_port, puff_http_conn_peer(req->conn)) < 0 ||
                 set_server(keys, req->conn) < 0 ||
                 set_take(keys, key_scheme, shared_text(key_scheme, req->scheme)) < 0 ||
                 make_room(keys) < 0))
        Py_CLEAR(keys);
    return keys;
}

static environ_conn *conn_of(PyObject *template_, puff_http_request *req) {
    environ_conn *c = puff_http_conn_data(req->conn);
    if (c) return c;
    c = PyMem_Calloc(1, sizeof *c);
    if (!c) {
        PyErr_NoMemory();
        return NULL;
    }
    c->base = first_keys(template_, req);
    if (!c->base) {
        PyMem_Free(c);
        return NULL;
    }
    puff_http_conn_set_data(req->conn, c);
    return c;
}

void puff_environ_conn_free(void *conn_data) {
    environ_conn *c = conn_data;
    Py_XDECREF(c->base);
    drop_target(&c->target);
    for (size_t i = 0; i < c->n_kept; i++) {
        Py_XDECREF(c->kept[i].value);
        Py_XDECREF(c->kept[i].name);
    }
    PyMem_Free(c->kept);
    PyMem_Free(c);
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* "x-frame" as "HTTP_X_FRAME"; NULL without an exception: it must not be there. */
static PyObject *key_of_name(puff_str name) {
    char text[256] = "HTTP_";
    if (name.len > sizeof text - 5) return NULL; /* a name that long is nobody's */
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '_') return NULL;
        text[5 + i] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    if (name.len == 5 && memcmp(name.ptr, "proxy", 5) == 0) return NULL;
    return PyUnicode_DecodeLatin1(text, (Py_ssize_t)name.len + 5, NULL);
}

/* A field that is there already: a list, by a comma or, for cookies, a semicolon (RFC 6265 5.4). */
static int join(PyObject *env, PyObject *key, PyObject *first, PyObject *more) {
    PyObject *head = PyUnicode_Concat(first, key == key_cookie ? semicolon : comma);
    PyObject *all = head ? PyUnicode_Concat(head, more) : NULL;
    Py_XDECREF(head);
    return set_take(env, key, all);
}

static int set_field(PyObject *env, PyObject *key, PyObject *value) {
    PyObject *there = PyDict_SetDefault(env, key, value); /* borrowed */
    if (!there) return -1;
    return there == value ? 0 : join(env, key, there, value);
}

/* The connection's last value again, or another connection's: many clients say the same. */
static PyObject *field_text(kept_field *kept, size_t place, puff_str value) {
    if (is_text(kept->value, value)) return Py_NewRef(kept->value);
    PyObject *text = kept_text(&recent[place], value);
    if (text) Py_XSETREF(kept->value, value.len <= KEPT_VALUE ? Py_NewRef(text) : NULL);
    return text;
}

static int add_field(environ_conn *c, PyObject *env, size_t place, const puff_http_field *f) {
    PyObject *key = f->id ? Py_NewRef(field_keys[f->id]) : key_of_name(f->name);
    if (place < c->n_kept) Py_XSETREF(c->kept[place].name, Py_XNewRef(key));
    if (!key) return PyErr_Occurred() ? -1 : 0;
    PyObject *value =
        place < c->n_kept ? field_text(&c->kept[place], place, f->value) : latin1(f->value);
    int rc = value ? set_field(env, key, value) : -1;
    Py_XDECREF(value);
    Py_DECREF(key);
    return rc;
}

/* ---- fields of a connection ------------------------------------------------------------------- */

/* Whether key is what key_of_name(name) would make. */
static bool is_key(PyObject *key, puff_str name) {
    if (!key || (size_t)PyUnicode_GET_LENGTH(key) != name.len + 5) return false;
    const char *text = (const char *)PyUnicode_1BYTE_DATA(key);
    if (memcmp(text, "HTTP_", 5) != 0) return false; /* CONTENT_TYPE is no "nt-type" */
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '_') return false;
        if (text[5 + i] != (c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 32) : c))
            return false;
    }
    return true;
}

static bool has_last_names(const environ_conn *c, const puff_http_request *req) {
    if (!c->has_names || req->n_fields != c->n_fields) return false;
    for (size_t i = 0; i < req->n_fields; i++) {
        const puff_http_field *f = &req->fields[i];
        PyObject *name = c->kept[i].name;
        if (f->id ? name != field_keys[f->id] : !is_key(name, f->name)) return false;
    }
    return true;
}

/* env is a copy of base, which has the names: sets what differs. */
static int change_fields(environ_conn *c, PyObject *env, const puff_http_request *req) {
    c->misses = 0;
    for (size_t i = 0; i < req->n_fields; i++) {
        puff_str value = req->fields[i].value;
        kept_field *kept = &c->kept[i];
        if (is_text(kept->value, value)) continue;
        PyObject *text = latin1(value);
        if (!text) return -1;
        int rc = 0;
        if (value.len <= KEPT_VALUE && (rc = PyDict_SetItem(c->base, kept->name, text)) == 0)
            Py_XSETREF(kept->value, Py_NewRef(text));
        if (rc == 0) rc = PyDict_SetItem(env, kept->name, text);
        Py_DECREF(text);
        if (rc < 0) return -1;
    }
    return 0;
}

/* Every field has a key, and no two have the same. */
static bool has_a_key_each(const environ_conn *c) {
    for (size_t i = 0; i < c->n_fields; i++) {
        if (!c->kept[i].name) return false;
        for (size_t j = 0; j < i; j++)
            if (PyUnicode_Compare(c->kept[i].name, c->kept[j].name) == 0) return false;
    }
    return true;
}

/* Takes the last request's names out of base. */
static void forget_names(environ_conn *c) {
    for (size_t i = 0; c->has_names && i < c->n_fields; i++)
        if (PyDict_DelItem(c->base, c->kept[i].name) < 0) PyErr_Clear(); /* half put */
    c->has_names = false;
}

/* Puts the names and values that add_fields() has left into base. */
static int keep_names(environ_conn *c) {
    if (!has_a_key_each(c)) return 0;
    c->has_names = true;
    for (size_t i = 0; i < c->n_fields; i++) {
        const kept_field *kept = &c->kept[i];
        if (PyDict_SetItem(c->base, kept->name, kept->value ? kept->value : empty) < 0) return -1;
    }
    return 0;
}

/* Room for n fields, if they are to be kept. */
static int reserve_kept(environ_conn *c, size_t n) {
    if (n > KEPT_FIELDS) n = KEPT_FIELDS;
    if (n <= c->n_kept) return 0;
    kept_field *more = PyMem_Realloc(c->kept, n * sizeof *more);
    if (!more) {
        PyErr_NoMemory();
        return -1;
    }
    memset(more + c->n_kept, 0, (n - c->n_kept) * sizeof *more);
    c->kept = more;
    c->n_kept = n;
    return 0;
}

static int add_fields(environ_conn *c, PyObject *env, const puff_http_request *req) {
    c->n_fields = req->n_fields;
    if (reserve_kept(c, req->n_fields) < 0) return -1;
    for (size_t i = 0; i < req->n_fields; i++)
        if (add_field(c, env, i, &req->fields[i]) < 0) return -1;
    bool first = !c->used; /* it may carry one request only: then nothing was kept in vain */
    c->used = true;
    if (first || req->n_fields > KEPT_FIELDS || c->misses >= MAX_MISSES) return 0;
    c->misses++;
    return keep_names(c);
}

/* ---- environ --------------------------------------------------------------------------------- */

/* What most requests of a connection have alike: env is a copy that has *kept. */
static int set_constant(environ_conn *c, PyObject *env, PyObject *key, PyObject **kept,
                        PyObject *value) {
    if (*kept == value) return 0;
    *kept = NULL;
    if (PyDict_SetItem(c->base, key, value) < 0 || PyDict_SetItem(env, key, value) < 0) return -1;
    *kept = value;
    return 0;
}

static int set_method(environ_conn *c, PyObject *env, const puff_http_request *req) {
    PyObject *known = method_names[req->method_id];
    if (known) return set_constant(c, env, key_method, &c->method, known);
    return set_take(env, key_method, latin1(req->method));
}

static int set_target(environ_conn *c, PyObject *env, PyObject *root,
                      const puff_http_request *req) {
    if (is_text(c->target.uri, req->target)) {
        if (c->has_target) return 0;
        if (put_target(c->base, &c->target) < 0) return -1;
        c->has_target = true;
        return put_target(env, &c->target);
    }
    c->has_target = false;
    if (make_target(&c->target, root, req) < 0 || put_target(env, &c->target) < 0) return -1;
    if (req->target.len > KEPT_VALUE) drop_target(&c->target);
    return 0;
}

PyObject *puff_environ_new(PyObject *template_, PyObject *root, PyObject *input,
                           puff_http_request *req) {
    environ_conn *c = conn_of(template_, req);
    if (!c) return NULL;
    bool alike = has_last_names(c, req);
    if (!alike) forget_names(c);
    PyObject *env = PyDict_Copy(c->base);
    if (!env) return NULL;
    if (set_method(c, env, req) < 0 || set_target(c, env, root, req) < 0 ||
        set_constant(c, env, key_protocol, &c->protocol, req->version == 10 ? http_10 : http_11) <
            0 ||
        PyDict_SetItem(env, key_input, input) < 0 ||
        (alike ? change_fields(c, env, req) : add_fields(c, env, req)) < 0)
        Py_CLEAR(env);
    return env;
}

/* ---- init ------------------------------------------------------------------------------------ */

static int init_texts(void) {
    const struct {
        PyObject **to;
        const char *text;
    } texts[] = {
        {&key_method, "REQUEST_METHOD"},
        {&key_path, "PATH_INFO"},
        {&key_query, "QUERY_STRING"},
        {&key_protocol, "SERVER_PROTOCOL"},
        {&key_scheme, "wsgi.url_scheme"},
        {&key_input, "wsgi.input"},
        {&key_addr, "REMOTE_ADDR"},
        {&key_port, "REMOTE_PORT"},
        {&key_server, "SERVER_NAME"},
        {&key_server_port, "SERVER_PORT"},
        {&key_type, "CONTENT_TYPE"},
        {&key_length, "CONTENT_LENGTH"},
        {&key_uri, "REQUEST_URI"},
        {&key_raw_uri, "RAW_URI"},
        {&http_10, "HTTP/1.0"},
        {&http_11, "HTTP/1.1"},
        {&empty, ""},
        {&comma, ","},
        {&semicolon, "; "},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!(*texts[i].to = PyUnicode_InternFromString(texts[i].text))) return -1;
    return 0;
}

static int init_field_keys(void) {
    for (int i = 1; i < PUFF_HTTP_FIELD_COUNT; i++) {
        field_keys[i] = key_of_name(puff_http_field_name(i));
        if (!field_keys[i]) return -1;
        PyUnicode_InternInPlace(&field_keys[i]);
    }
    key_cookie = field_keys[PUFF_HTTP_FIELD_COOKIE];
    Py_SETREF(field_keys[PUFF_HTTP_FIELD_CONTENT_TYPE], Py_NewRef(key_type));
    Py_SETREF(field_keys[PUFF_HTTP_FIELD_CONTENT_LENGTH], Py_NewRef(key_length));
    return 0;
}

int puff_environ_init(void) {
    if (init_texts() < 0 || init_field_keys() < 0) return -1;
    for (int i = 1; i < PUFF_HTTP_METHOD_COUNT; i++) {
        puff_str name = puff_http_method_name(i);
        method_names[i] = PyUnicode_DecodeLatin1(name.ptr, (Py_ssize_t)name.len, NULL);
        if (!method_names[i]) return -1;
        PyUnicode_InternInPlace(&method_names[i]);
    }
    return 0;
}
