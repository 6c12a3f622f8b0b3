/* puff/http.h - an HTTP/1.1 server: bytes in, requests to a host, responses out.
 *
 * The host (an ASGI or WSGI binding, a C program) gives callbacks; the server owns connections,
 * framing, limits and timeouts. Everything here belongs to the loop's thread. A response may be
 * made inside on_request or at any later time; no callback ever runs inside a call that the host
 * makes.
 *
 *   bytes -> head parsed -> on_request(req)          the body may still be on its way
 *                           puff_http_request_read() pulls; on_body(req) says that there is more
 *                           puff_http_response_start(), _body() ... _body(more = false)
 *                           on_done(req)             the last word about req
 *
 * One request of a connection is with the host at a time: the next one is not even parsed before
 * on_done.
 */
#ifndef PUFF_HTTP_H
#define PUFF_HTTP_H

#include "puff/base.h"
#include "puff/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sockaddr_storage;

/* ---- names --------------------------------------------------------------------------------- */

/* clang-format off */
/* X(ID, "token"): methods are case-sensitive, any other token is PUFF_HTTP_METHOD_OTHER. */
#define PUFF_HTTP_METHODS(X)                                                                       \
    X(GET, "GET") X(HEAD, "HEAD") X(POST, "POST") X(PUT, "PUT") X(DELETE, "DELETE")                \
    X(OPTIONS, "OPTIONS") X(PATCH, "PATCH") X(TRACE, "TRACE") X(CONNECT, "CONNECT")

enum puff_http_method {
    PUFF_HTTP_METHOD_OTHER,
#define PUFF_HTTP_X(id, name) PUFF_HTTP_METHOD_##id,
    PUFF_HTTP_METHODS(PUFF_HTTP_X)
#undef PUFF_HTTP_X
    PUFF_HTTP_METHOD_COUNT
};

/* X(ID, "name"): the field names worth an id, so that a host can keep ready-made objects for them.
 * Sorted by length. Any other name is PUFF_HTTP_FIELD_OTHER. */
#define PUFF_HTTP_FIELDS(X)                                                                        \
    X(TE, "te")                                                                                    \
    X(AGE, "age") X(DNT, "dnt") X(VIA, "via")                                                      \
    X(DATE, "date") X(ETAG, "etag") X(FROM, "from") X(HOST, "host") X(LINK, "link")                \
    X(VARY, "vary")                                                                                \
    X(ALLOW, "allow") X(RANGE, "range")                                                            \
    X(ACCEPT, "accept") X(COOKIE, "cookie") X(EXPECT, "expect") X(ORIGIN, "origin")                \
    X(PRAGMA, "pragma") X(SERVER, "server")                                                        \
    X(ALT_SVC, "alt-svc") X(EXPIRES, "expires") X(REFERER, "referer") X(TRAILER, "trailer")        \
    X(UPGRADE, "upgrade")                                                                          \
    X(IF_MATCH, "if-match") X(IF_RANGE, "if-range") X(LOCATION, "location")                        \
    X(PRIORITY, "priority")                                                                        \
    X(FORWARDED, "forwarded") X(X_REAL_IP, "x-real-ip") X(SEC_CH_UA, "sec-ch-ua")                  \
    X(CONNECTION, "connection") X(KEEP_ALIVE, "keep-alive") X(SET_COOKIE, "set-cookie")            \
    X(USER_AGENT, "user-agent") X(TRACESTATE, "tracestate")                                        \
    X(RETRY_AFTER, "retry-after") X(TRACEPARENT, "traceparent")                                    \
    X(CONTENT_TYPE, "content-type") X(MAX_FORWARDS, "max-forwards")                                \
    X(X_REQUEST_ID, "x-request-id")                                                                \
    X(ACCEPT_RANGES, "accept-ranges") X(AUTHORIZATION, "authorization")                            \
    X(CACHE_CONTROL, "cache-control") X(CONTENT_RANGE, "content-range")                            \
    X(IF_NONE_MATCH, "if-none-match") X(LAST_MODIFIED, "last-modified")                            \
    X(ACCEPT_CHARSET, "accept-charset") X(CONTENT_LENGTH, "content-length")                        \
    X(SEC_FETCH_DEST, "sec-fetch-dest") X(SEC_FETCH_MODE, "sec-fetch-mode")                        \
    X(SEC_FETCH_SITE, "sec-fetch-site") X(SEC_FETCH_USER, "sec-fetch-user")                        \
    X(ACCEPT_ENCODING, "accept-encoding") X(ACCEPT_LANGUAGE, "accept-language")                    \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                          \
    X(CONTENT_ENCODING, "content-encoding") X(CONTENT_LANGUAGE, "content-language")                \
    X(CONTENT_LOCATION, "content-location") X(PROXY_CONNECTION, "proxy-connection")                \
    X(SEC_CH_UA_MOBILE, "sec-ch-ua-mobile") X(WWW_AUTHENTICATE, "www-authenticate")                \
    X(X_FORWARDED_HOST, "x-forwarded-host") X(X_FORWARDED_PORT, "x-forwarded-port")                \
    X(X_REQUESTED_WITH, "x-requested-with")                                                        \
    X(IF_MODIFIED_SINCE, "if-modified-since") X(SEC_WEBSOCKET_KEY, "sec-websocket-key")            \
    X(TRANSFER_ENCODING, "transfer-encoding") X(X_FORWARDED_PROTO, "x-forwarded-proto")            \
    X(SEC_CH_UA_PLATFORM, "sec-ch-ua-platform")                                                    \
    X(CONTENT_DISPOSITION, "content-disposition") X(IF_UNMODIFIED_SINCE, "if-unmodified-since")    \
    X(PROXY_AUTHORIZATION, "proxy-authorization")                                                  \
    X(SEC_WEBSOCKET_VERSION, "sec-websocket-version")                                              \
    X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol")                                            \
    X(CONTENT_SECURITY_POLICY, "content-security-policy")                                          \
    X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions")                                        \
    X(STRICT_TRANSPORT_SECURITY, "strict-transport-security")                                      \
    X(UPGRADE_INSECURE_REQUESTS, "upgrade-insecure-requests")                                      \
    X(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method")                              \
    X(ACCESS_CONTROL_REQUEST_HEADERS, "access-control-request-headers")

enum puff_http_field_id {
    PUFF_HTTP_FIELD_OTHER,
#define PUFF_HTTP_X(id, name) PUFF_HTTP_FIELD_##id,
    PUFF_HTTP_FIELDS(PUFF_HTTP_X)
#undef PUFF_HTTP_X
    PUFF_HTTP_FIELD_COUNT
};
/* clang-format on */

/* The name for an id, lower case; an empty slice for OTHER. */
PUFF_API puff_str puff_http_field_name(enum puff_http_field_id id);
/* The id for a name in lower case. */
PUFF_API enum puff_http_field_id puff_http_field_id_of(puff_str name);
PUFF_API puff_str puff_http_method_name(enum puff_http_method m);
/* "Not Found"; an empty slice for a status that has no phrase of its own. */
PUFF_API puff_str puff_http_status_text(int status);

/* ---- errors -------------------------------------------------------------------------------- */

/* Beside PUFF_ENOMEM, and PUFF_ECLOSED for a connection that is gone. */
enum {
    PUFF_HTTP_ESTATE = -5101,  /* not now: a second start, a body before start or after the end */
    PUFF_HTTP_EFIELD = -5102,  /* a name is no token, a value has CR, LF, NUL or another control */
    PUFF_HTTP_ESTATUS = -5103, /* a status outside 200-599 (100-199 for an informational) */
    PUFF_HTTP_ELENGTH = -5104  /* more body than content-length, or a content-length that is none */
};

/* ---- request ------------------------------------------------------------------------------- */

typedef struct puff_http_server puff_http_server;
typedef struct puff_http_conn puff_http_conn;

typedef struct puff_http_field {
    puff_str name;              /* lower case in requests; any case in responses */
    puff_str value;             /* without white space around it */
    enum puff_http_field_id id; /* ignored in responses */
} puff_http_field;

/* What the host sees of a request. Read only but for data. All slices are borrowed and live as long
 * as the request. */
typedef struct puff_http_request {
    void *data;           /* the host's own; NULL at first */
    puff_http_conn *conn; /* NULL after on_done, for a host that holds a reference */
    puff_str method;      /* as it was sent */
    puff_str target;      /* the whole request target, as it was sent */
    puff_str path;        /* raw, before '?'; "/" for an absolute target without one */
    puff_str query;       /* raw, after '?'; ptr NULL when there is no '?' */
    puff_str authority;   /* of an absolute target, else the Host field; may be empty */
    puff_str scheme;      /* "http" or "https" */
    const puff_http_field *fields;
    size_t n_fields;
    uint64_t content_length; /* meaningful when has_length */
    uint64_t start_ns;       /* puff_loop_now_ns() when the head was complete */
    uint32_t number;         /* 1 for the first request of its connection */
    enum puff_http_method method_id;
    uint8_t version; /* 10 or 11 */
    bool has_length; /* Content-Length was sent */
    bool chunked;
    bool keep_alive; /* the client wants to go on after this one */
    bool expects_continue;
} puff_http_request;

/* The field with that id, or NULL. */
PUFF_API const puff_http_field *puff_http_request_field(const puff_http_request *req,
                                                        enum puff_http_field_id id);

/* A request lives until on_done has returned; a host that needs it longer (its slices stay valid,
 * every call answers PUFF_ECLOSED) holds a reference. */
PUFF_API puff_http_request *puff_http_request_ref(puff_http_request *req);
PUFF_API void puff_http_request_unref(puff_http_request *req);

/* Ends the exchange of a complete response now, which else happens later in the turn: on_done, then
 * on_request for the next request, if that is here. The one call that calls back before it returns.
 * Without effect inside a callback of the same connection, which goes on by itself. */
PUFF_API void puff_http_request_proceed(puff_http_request *req);

enum puff_http_body {
    PUFF_HTTP_BODY_MORE, /* more will come; an empty slice: wait for on_body */
    PUFF_HTTP_BODY_END,  /* the slice (maybe empty) is the last of it */
    PUFF_HTTP_BODY_GONE /* cut off: the peer left, broke the framing, was too slow or sent too much,
                         * or the response is complete. No bytes. */
};

/* Peeks at what has arrived of the body. The slice is borrowed until the next call for req or, at
 * the latest, until the host's current callback returns; consume what you took. The same bytes come
 * again until they are consumed. The first call answers "Expect: 100-continue". Above 64 KiB of
 * unread body the socket is not read. A request without a body is at its END at once. */
PUFF_API enum puff_http_body puff_http_request_read(puff_http_request *req, puff_str *out);
/* Drops n bytes of what read gave, n <= its length. */
PUFF_API void puff_http_request_consume(puff_http_request *req, size_t n);
/* The peer has sent FIN or is gone: on_disconnect has run or is about to. */
PUFF_API bool puff_http_request_disconnected(const puff_http_request *req);

/* ---- response ------------------------------------------------------------------------------ */

/* Begins the response. Nothing is sent yet: the head leaves together with the first body bytes.
 * Fields are copied. The server adds date, server, framing and connection; fields that are its own
 * business (transfer-encoding, keep-alive, upgrade, proxy-connection, te, trailer) are dropped,
 * "connection: close" is honoured, a date or server of the host's replaces the default.
 * PUFF_HTTP_ESTATE, _EFIELD, _ESTATUS, _ELENGTH, PUFF_ENOMEM, PUFF_ECLOSED; after an error nothing
 * was begun and another start is possible. PUFF_ELIMIT: above 256 KiB of fields. */
PUFF_API int puff_http_response_start(puff_http_request *req, int status,
                                      const puff_http_field *fields, size_t n_fields);

/* The same with a reason phrase of the host's; PUFF_HTTP_ESTATUS also for one with control characters or longer
 * than 256 bytes. */
PUFF_API int puff_http_response_start_as(puff_http_request *req, int status, puff_str reason,
                                         const puff_http_field *fields, size_t n_fields);

/* Sends body bytes; more false ends the response. With release the bytes are not copied:
 * release(arg) runs once, when they are sent or given up (maybe before this returns). On failure
 * release does not run. release NULL: the bytes are copied. A response that ends with its first
 * body gets a content-length; otherwise, without one, it is chunked (1.1) or ends with the
 * connection (1.0). For HEAD, 204 and 304 the bytes count but are not sent. Too few bytes for
 * content-length: the connection is closed, so that the client sees it. Too many: PUFF_HTTP_ELENGTH
 * and none of these bytes are sent. PUFF_HTTP_ESTATE, _ELENGTH, PUFF_ENOMEM (then abort),
 * PUFF_ECLOSED. */
PUFF_API int puff_http_response_body(puff_http_request *req, const void *data, size_t len,
                                     bool more, void (*release)(void *arg), void *arg);
/* Sends the head that is held back, for an event stream whose first event is far away. */
PUFF_API int puff_http_response_flush(puff_http_request *req);
/* Ends the response with trailer fields; they are dropped where the framing has none (not chunked).
 */
PUFF_API int puff_http_response_trailers(puff_http_request *req, const puff_http_field *fields,
                                         size_t n_fields);
/* A 1xx response before the real one, such as 103 with link fields. Dropped for HTTP/1.0. */
PUFF_API int puff_http_response_informational(puff_http_request *req, int status,
                                              const puff_http_field *fields, size_t n_fields);
/* A whole text/plain response; text NULL: the status' phrase. */
PUFF_API int puff_http_response_simple(puff_http_request *req, int status, const char *text);
/* Takes a begun response back, for another to begin. PUFF_HTTP_ESTATE: its head has left already;
 * PUFF_ECLOSED. */
PUFF_API int puff_http_response_forget(puff_http_request *req);
/* Gives the response up: the connection is closed with what was queued thrown away. on_done
 * follows. */
PUFF_API void puff_http_response_abort(puff_http_request *req);

/* Sends the rest of the body from a regular file, without a copy: len bytes from offset on, or as many
 * as content-length leaves; without one it becomes len. The head leaves with the first call. How many
 * bytes count as sent; the response is complete when they were the last, and is broken off where the
 * file ends early. UV_EAGAIN: call again when what is queued has left (the turn's end sends it), or,
 * for a slow client, send some by puff_http_response_body() and wait for on_drain. PUFF_HTTP_ESTATE
 * also for a body that is chunked already; PUFF_ENOMEM, PUFF_ECLOSED; other errors: this file or
 * system cannot, nothing was sent. */
PUFF_API ssize_t puff_http_response_file(puff_http_request *req, int fd, uint64_t offset,
                                         uint64_t len);

/* Bytes not yet taken by the kernel. Above 64 KiB the host should wait for on_drain. */
PUFF_API size_t puff_http_response_queued(const puff_http_request *req);
/* start has succeeded; the last body has been taken. */
PUFF_API bool puff_http_response_started(const puff_http_request *req);
PUFF_API bool puff_http_response_complete(const puff_http_request *req);

/* ---- connection ---------------------------------------------------------------------------- */

/* A slot for what the host caches per connection; on_conn_free gives it back. */
PUFF_API void *puff_http_conn_data(const puff_http_conn *conn);
PUFF_API void puff_http_conn_set_data(puff_http_conn *conn, void *data);
PUFF_API puff_http_server *puff_http_conn_server(const puff_http_conn *conn);
/* Family AF_UNIX carries no path for a peer. */
PUFF_API const struct sockaddr *puff_http_conn_peer(const puff_http_conn *conn);
/* UV_E*. Asks the kernel each time. */
PUFF_API int puff_http_conn_local(const puff_http_conn *conn, struct sockaddr_storage *out);
/* The numeric host, or the path of a Unix socket, with a NUL; port 0 for a Unix socket. Returns the
 * length or PUFF_ELIMIT. 128 bytes are always enough. */
PUFF_API int puff_http_addr_text(const struct sockaddr *addr, char *buf, size_t cap,
                                 uint16_t *port);

/* ---- server -------------------------------------------------------------------------------- */

/* All but on_request may be NULL. data of the server: puff_http_server_data(). */
typedef struct puff_http_host {
    /* A head is complete and good. */
    void (*on_request)(puff_http_request *req);
    /* There are bytes, or the end: once after each read that gave an empty slice and MORE. */
    void (*on_body)(puff_http_request *req);
    /* The peer has finished or is gone; once. After a FIN the response may still be sent (a client
     * that only shut its write side reads it), after anything else on_done follows at once. */
    void (*on_disconnect)(puff_http_request *req);
    /* queued was above 64 KiB and has fallen to 16 KiB. */
    void (*on_drain)(puff_http_request *req);
    /* The response is complete, or the connection is gone. req is freed unless the host holds a
     * reference. Comes exactly once for each on_request. */
    void (*on_done)(puff_http_request *req);
    /* The connection is closed and had data. */
    void (*on_conn_free)(puff_http_conn *conn, void *data);
} puff_http_host;

/* One line of an access log. Everything is borrowed until the hook returns. */
typedef struct puff_http_access {
    puff_http_server *server;
    puff_http_conn *conn;
    const puff_http_request *req; /* NULL: the head was refused before there was a request */
    int status;                   /* 0: nothing was sent */
    uint64_t body_bytes_in, body_bytes_out;
    uint64_t duration_ns;
    bool complete; /* false: cut short */
} puff_http_access;

typedef struct puff_http_options {
    size_t size; /* sizeof(puff_http_options) */

    /* Limits; each names its threat. */
    uint32_t max_request_line; /* 8 KiB: memory per connection that sends no end of line; 414 */
    uint32_t max_head;         /* 32 KiB of field lines; 431 */
    uint32_t max_fields;       /* 100: a host makes objects of each; 431 */
    uint32_t max_connections;  /* 10,000; above it nothing is accepted until one closes. 0: none */
    uint32_t max_pipelined; /* 64 requests of a connection in one turn: the others wait so long */
    uint64_t max_body;      /* 0: no limit, the host bounds what it keeps; 413 */
    uint32_t max_drain;     /* 64 KiB of unread body are read and dropped to keep a connection */

    /* Timeouts in ms; 0: none. Checked every 250 ms or so. */
    uint32_t header_timeout_ms;     /* 10 s from the first byte (or accept) to the whole head,
                                     * however steadily it drips: slowloris; 408 */
    uint32_t keep_alive_timeout_ms; /* 65 s idle: above the 60 s of common load balancers, so that
                                     * they close first, not we. An idle connection costs < 2 KiB */
    uint32_t body_timeout_ms;       /* 10 s windows: each must bring min_rate while we read; 408 */
    uint32_t write_timeout_ms;      /* 30 s windows: each must take min_rate while we send */
    uint32_t min_rate;              /* 240 bytes/s: one byte a second would hold memory for ever */

    bool server_header;      /* true */
    bool date_header;        /* true; formatted once per second */
    const char *server_name; /* "puff"; borrowed until open returns */

    /* Called when a request has ended, before on_done. NULL: no log. */
    void (*on_access)(const puff_http_access *a);
} puff_http_options;

/* Fills in every default. */
PUFF_API void puff_http_options_init(puff_http_options *opts);

/* opts NULL: the defaults. host is borrowed and outlives the server. The process ignores SIGPIPE.
 * Stop the server before its loop is freed. PUFF_ENOMEM, PUFF_EARG. */
PUFF_API int puff_http_server_open(puff_http_server **out, puff_loop *loop,
                                   const puff_http_host *host, void *data,
                                   const puff_http_options *opts, puff_err *err);
/* Listens; call it for as many addresses as you like. The listener is the server's; *out (may be
 * NULL) is for asking it its port. */
PUFF_API int puff_http_server_listen(puff_http_server *server, const puff_listener_options *opts,
                                     puff_listener **out, puff_err *err);
/* Serves a connected stream socket. Takes fd, also on failure. */
PUFF_API int puff_http_server_accept(puff_http_server *server, int fd, const struct sockaddr *peer,
                                     unsigned peer_len);
/* Stops listening, closes idle connections, lets requests in flight finish (they say "connection:
 * close"), and after timeout_ms cuts off what is left. on_stopped runs once, when the last
 * connection is gone, in a later turn; then the server is freed. A second call may shorten the
 * time; its callback is ignored. */
PUFF_API void puff_http_server_stop(puff_http_server *server, uint64_t timeout_ms,
                                    void (*on_stopped)(puff_http_server *server, void *data));
PUFF_API void *puff_http_server_data(const puff_http_server *server);
PUFF_API puff_loop *puff_http_server_loop(const puff_http_server *server);

typedef struct puff_http_stats {
    uint64_t n_accepted, n_requests, n_refused; /* refused: heads answered with 4xx or 5xx by us */
    uint32_t n_connections, n_in_flight;
} puff_http_stats;
PUFF_API puff_http_stats puff_http_server_stats(const puff_http_server *server);

#ifdef __cplusplus
}
#endif
#endif
