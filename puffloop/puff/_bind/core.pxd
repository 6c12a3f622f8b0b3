"""Every declaration of include/puff that Cython code uses, and nothing else.

Not `nogil` where callbacks are: the core calls them with the GIL held (docs/design.md, "A turn").
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from posix.types cimport pid_t


# ---- puff/base.h ---------------------------------------------------------------------------------

cdef extern from "puff/base.h" nogil:
    enum:
        PUFF_ENOMEM
        PUFF_ECANCELED
        PUFF_ELIMIT
        PUFF_EPROTO
        PUFF_ECLOSED
        PUFF_ETIMEOUT
        PUFF_EARG
        PUFF_EDB
        PUFF_EAUTH
        PUFF_ECONNECT
        PUFF_EREPLY

    enum puff_err_domain:
        PUFF_DOMAIN_NONE
        PUFF_DOMAIN_SYSTEM
        PUFF_DOMAIN_HTTP
        PUFF_DOMAIN_POSTGRES
        PUFF_DOMAIN_REDIS

    ctypedef struct puff_err:
        int code
        puff_err_domain domain
        char sqlstate[6]
        char msg[498]

    const char *puff_err_name(int code)
    const char *puff_err_text(int code)

    ctypedef struct puff_alloc:
        pass
    const puff_alloc puff_alloc_system
    void *puff_malloc(const puff_alloc *a, size_t size)
    void *puff_calloc(const puff_alloc *a, size_t n, size_t size)
    void *puff_realloc(const puff_alloc *a, void *ptr, size_t size)
    void puff_free(const puff_alloc *a, void *ptr)

    ctypedef struct puff_str:
        const char *ptr
        size_t len

    ctypedef struct puff_queue:
        puff_queue *next
        puff_queue *prev


# ---- puff/loop.h ---------------------------------------------------------------------------------

cdef extern from "<netdb.h>" nogil:
    struct sockaddr:
        pass
    struct addrinfo:
        int ai_flags
        int ai_family
        int ai_socktype
        int ai_protocol
        unsigned ai_addrlen
        sockaddr *ai_addr
        char *ai_canonname
        addrinfo *ai_next

cdef extern from "sys/socket.h" nogil:
    struct sockaddr:
        pass

cdef extern from "puff/loop.h":
    ctypedef struct puff_loop:
        pass
    ctypedef struct puff_loop_options:
        size_t size
        const puff_alloc *alloc
    ctypedef struct puff_loop_stats:
        uint64_t n_turns
        uint64_t n_waits
        uint64_t idle_ns

    int puff_loop_new(puff_loop **out, const puff_loop_options *opts, puff_err *err)
    void puff_loop_free(puff_loop *loop)
    int puff_loop_turn(puff_loop *loop, bint wait)
    const puff_alloc *puff_loop_alloc(puff_loop *loop)
    int puff_loop_backend_fd(puff_loop *loop)
    uint64_t puff_loop_now_ns(puff_loop *loop)
    uint64_t puff_now_ns()
    puff_loop_stats puff_loop_get_stats(puff_loop *loop)
    int puff_loop_fork(puff_loop *loop)
    void puff_loop_flush(puff_loop *loop)
    void puff_loop_wake(puff_loop *loop)

    ctypedef struct puff_defer:
        pass
    void puff_defer_init(puff_defer *d, void (*run)(puff_defer *self) noexcept)
    void puff_loop_defer(puff_loop *loop, puff_defer *d)
    void puff_defer_cancel(puff_defer *d)

    ctypedef struct puff_post:
        void (*run)(puff_post *self) noexcept
    void puff_loop_post(puff_loop *loop, puff_post *job)

    ctypedef struct puff_timer:
        uint64_t deadline_ns
    void puff_timer_init(puff_timer *t, puff_loop *loop, void (*on_fire)(puff_timer *self) noexcept)
    int puff_timer_start_at(puff_timer *t, uint64_t deadline_ns)
    int puff_timer_start(puff_timer *t, uint64_t timeout_ms)
    void puff_timer_stop(puff_timer *t)
    bint puff_timer_active(const puff_timer *t)

    enum:
        PUFF_READABLE
        PUFF_WRITABLE
        PUFF_DISCONNECT
    ctypedef struct puff_poll:
        pass
    ctypedef void (*puff_poll_cb)(puff_poll *p, int status, int events) noexcept
    int puff_poll_new(puff_poll **out, puff_loop *loop, int fd, puff_poll_cb cb, void *data)
    int puff_poll_set(puff_poll *p, int events)
    void *puff_poll_data(puff_poll *p)
    void puff_poll_free(puff_poll *p)

    enum:
        PUFF_READY_TRIED
        PUFF_READY_ONCE
    ctypedef struct puff_ready:
        void *data
        bint shared
    bint puff_ready_supported()
    void puff_ready_init(puff_ready *r, void (*on_ready)(puff_ready *self) noexcept)
    int puff_ready_wait(puff_loop *loop, puff_ready *r, int fd, int events, int flags)
    void puff_ready_cancel(puff_ready *r)
    bint puff_ready_drop(puff_loop *loop, int fd, int events)

    ctypedef struct puff_stream:
        pass
    ctypedef struct puff_stream_cbs:
        void (*on_alloc)(puff_stream *s, char **buf, size_t *cap) noexcept
        void (*on_read)(puff_stream *s, char *buf, ssize_t n) noexcept
        void (*on_drain)(puff_stream *s) noexcept
        void (*on_write_error)(puff_stream *s, int status) noexcept
        void (*on_close)(puff_stream *s) noexcept
    int puff_stream_open(puff_stream **out, puff_loop *loop, int fd, const puff_stream_cbs *cbs,
                         void *data)
    void *puff_stream_data(puff_stream *s)
    int puff_stream_fd(puff_stream *s)
    int puff_stream_read_start(puff_stream *s)
    void puff_stream_read_stop(puff_stream *s)
    int puff_stream_write(puff_stream *s, const void *data, size_t len) nogil
    int puff_stream_write_ref(puff_stream *s, const void *data, size_t len,
                              void (*release)(void *arg) noexcept, void *arg)
    void puff_stream_flush(puff_stream *s)
    size_t puff_stream_queued(puff_stream *s)
    void puff_stream_set_water(puff_stream *s, size_t low, size_t high)
    int puff_stream_shutdown(puff_stream *s)
    void puff_stream_close(puff_stream *s)
    void puff_stream_abort(puff_stream *s, bint reset)
    bint puff_stream_closing(puff_stream *s)

    ctypedef struct puff_dns:
        pass
    ctypedef void (*puff_dns_cb)(void *arg, int status, addrinfo *res) noexcept
    int puff_dns_resolve(puff_dns **out, puff_loop *loop, const char *host, const char *service,
                         const addrinfo *hints, puff_dns_cb cb, void *arg)
    void puff_dns_cancel(puff_dns *d)
    void puff_dns_free(addrinfo *res)

    ctypedef struct puff_udp:
        pass
    ctypedef struct puff_datagram:
        const char *data
        size_t len
        # "from" is a word of Python's
        const sockaddr *sender "from"
        unsigned sender_len "from_len"
    ctypedef struct puff_udp_cbs:
        size_t (*on_recv)(puff_udp *u, const puff_datagram *d, size_t n) noexcept
        void (*on_error)(puff_udp *u, int status) noexcept
        void (*on_sent)(puff_udp *u) noexcept
        void (*on_close)(puff_udp *u) noexcept
    int puff_udp_open(puff_udp **out, puff_loop *loop, int fd, const puff_udp_cbs *cbs, void *data)
    void *puff_udp_data(puff_udp *u)
    int puff_udp_recv_start(puff_udp *u)
    void puff_udp_recv_stop(puff_udp *u)
    int puff_udp_send(puff_udp *u, const void *data, size_t len, const sockaddr *to,
                      unsigned to_len)
    int puff_udp_queue(puff_udp *u, const void *data, size_t len, const sockaddr *to,
                       unsigned to_len)
    size_t puff_udp_queued(puff_udp *u)
    size_t puff_udp_n_queued(puff_udp *u)
    void puff_udp_drop(puff_udp *u)
    void puff_udp_close(puff_udp *u)

    struct ssl_st:
        pass
    struct ssl_ctx_st:
        pass
    ctypedef struct puff_tls:
        pass
    enum:
        PUFF_TLS_OK
        PUFF_TLS_WANT_READ
        PUFF_TLS_CLOSED
    ctypedef struct puff_tls_error:
        int kind
        bint eof
        char library[24]
        char reason[72]
        char text[96]
    ctypedef int (*puff_tls_sink)(void *arg, const void *data, size_t len) noexcept nogil
    int puff_tls_new(puff_tls **out, const puff_alloc *alloc, size_t max_kept, ssl_st *ssl)
    void puff_tls_free(puff_tls *t)
    void puff_tls_set_sink(puff_tls *t, puff_tls_sink sink, void *arg)
    puff_str puff_tls_peek_output(const puff_tls *t)
    void puff_tls_drop_output(puff_tls *t)
    int puff_tls_feed(puff_tls *t, const void *data, size_t len)
    int puff_tls_keep(puff_tls *t)
    size_t puff_tls_unread(const puff_tls *t)
    size_t puff_tls_readable(const puff_tls *t)
    int puff_tls_read(puff_tls *t, void *buf, size_t cap, size_t *n, puff_tls_error *err)
    int puff_tls_write(puff_tls *t, const void *data, size_t len, size_t *n, puff_tls_error *err)
    bint puff_tls_is_of(const ssl_st *ssl, const ssl_ctx_st *ctx)
    bint puff_tls_is_ours(const ssl_st *ssl)


# ---- puff/postgres.h -----------------------------------------------------------------------------

from libc.stdint cimport int16_t, int32_t, uint32_t

cdef extern from "puff/postgres.h":
    ctypedef struct puff_pg_column:
        const char *name
        uint32_t oid

    ctypedef struct puff_pg_statement:
        const char *sql
        size_t sql_len
        int n_params
        int n_columns
        const uint32_t *param_oids
        const puff_pg_column *columns
        void *host
        void (*host_free)(void *host) noexcept

    ctypedef struct puff_pg_params:
        pass
    ctypedef struct puff_pg_result:
        pass
    ctypedef struct puff_pg_cell:
        const char *ptr
        int32_t len

    int puff_pg_result_n_rows(const puff_pg_result *res)
    int puff_pg_result_n_columns(const puff_pg_result *res)
    int puff_pg_result_format(const puff_pg_result *res)
    puff_pg_cell puff_pg_result_cell(const puff_pg_result *res, int row, int column)
    const char *puff_pg_result_tag(const puff_pg_result *res)

    ctypedef struct puff_pg_error:
        puff_err err
        bint maybe_executed
        const char *severity
        const char *message
        const char *detail
        const char *hint
        const char *position
        const char *context
        const char *schema
        const char *table
        const char *column
        const char *datatype
        const char *constraint

    ctypedef struct puff_pg_pool:
        pass
    ctypedef struct puff_pg_pool_options:
        size_t size
        const char *dsn
        int n_lanes_min
        int n_lanes_max
        int max_depth
        int max_waiting
        int statement_cache_size
        uint64_t connect_timeout_ms
        uint64_t queue_timeout_ms
        uint64_t query_timeout_ms
        uint64_t idle_timeout_ms
        uint64_t backoff_min_ms
        uint64_t backoff_max_ms
        size_t max_param_bytes

    ctypedef struct puff_pg_pool_stats:
        int n_lanes
        int n_idle
        int n_connecting
        int n_waiting
        int n_in_flight
        int n_statements
        uint64_t n_queries
        uint64_t n_errors
        uint64_t n_timeouts
        uint64_t n_canceled
        uint64_t n_retries
        uint64_t n_connects
        uint64_t n_connect_failures
        uint64_t n_lanes_lost
        uint64_t n_prepares
        uint64_t n_flushes
        uint64_t n_cancel_requests

    int puff_pg_pool_new(
        puff_pg_pool **out, puff_loop *loop, const puff_pg_pool_options *opts, puff_err *err
    )
    void puff_pg_pool_close(
        puff_pg_pool *pool, uint64_t drain_ms, void (*on_close)(void *arg) noexcept, void *arg
    )
    void puff_pg_pool_forked(puff_pg_pool *pool)
    void puff_pg_pool_get_stats(puff_pg_pool *pool, puff_pg_pool_stats *out)

    ctypedef struct puff_pg_query:
        const char *sql
        size_t sql_len
        int n_params
        int (*encode)(puff_pg_query *q, puff_pg_statement *st, puff_pg_params *params) noexcept
        void (*on_done)(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) noexcept
        uint64_t timeout_ms
        bint text_results
        void *data
        puff_pg_statement *statement

    void puff_pg_query_init(puff_pg_query *q)
    void puff_pg_submit(puff_pg_pool *pool, puff_pg_query *q)
    void puff_pg_query_cancel(puff_pg_query *q)


# ---- puff/redis.h --------------------------------------------------------------------------------

cdef extern from "puff/redis.h":
    const uint64_t PUFF_REDIS_NO_TIMEOUT
    ctypedef struct puff_redis_pool:
        pass
    ctypedef struct puff_redis_command:
        pass
    ctypedef struct puff_redis_builder:
        pass
    ctypedef struct puff_redis_options:
        size_t size
        const char *url
        const char *client_name
        uint64_t connect_timeout_ms
        uint64_t timeout_ms
        unsigned n_connections
        unsigned max_in_flight
        unsigned max_waiting
        unsigned max_exclusive
        uint64_t backoff_min_ms
        uint64_t backoff_max_ms
        size_t max_reply_bytes
        bint resp3
        const puff_redis_builder *builder
    ctypedef struct puff_redis_command_options:
        size_t size
        uint64_t timeout_ms
    ctypedef struct puff_redis_stats:
        size_t n_ready
        size_t n_in_flight
        size_t n_waiting
        uint64_t n_connects
        uint64_t n_connect_failures
        uint64_t n_lost
        uint64_t n_replies
        uint64_t n_timeouts

    int puff_redis_pool_new(puff_redis_pool **out, puff_loop *loop, const puff_redis_options *opts,
                            puff_err *err)
    void puff_redis_pool_close(puff_redis_pool *pool, void (*on_closed)(void *arg) noexcept,
                               void *arg)
    puff_redis_stats puff_redis_pool_get_stats(puff_redis_pool *pool)
    int puff_redis_command_submit(
        puff_redis_pool *pool, const puff_str *argv, size_t argc,
        const puff_redis_command_options *opts,
        void (*cb)(void *arg, int status, void *reply, const puff_err *err) noexcept, void *arg,
        puff_redis_command **out, puff_err *err)
    void puff_redis_command_cancel(puff_redis_command *command)
    bint puff_redis_command_may_have_run(const puff_redis_command *command)


# ---- puff/http.h ---------------------------------------------------------------------------------

cdef extern from "puff/loop.h" nogil:
    ctypedef struct puff_listener:
        pass
    ctypedef struct puff_listener_options:
        size_t size
        const char *host
        uint16_t port
        const char *unix_path
        int fd
        int backlog
        bint reuse_port
    int puff_listener_port(puff_listener *l)

cdef extern from "puff/http.h":
    ctypedef struct puff_http_server:
        pass
    ctypedef struct puff_http_conn:
        pass
    ctypedef struct puff_http_request:
        void *data
        puff_http_conn *conn
        puff_str method
        puff_str target
    ctypedef struct puff_http_field:
        pass
    enum puff_http_body:
        PUFF_HTTP_BODY_MORE
        PUFF_HTTP_BODY_END
        PUFF_HTTP_BODY_GONE
    enum:
        PUFF_HTTP_ESTATE
        PUFF_HTTP_EFIELD
        PUFF_HTTP_ESTATUS
        PUFF_HTTP_ELENGTH
    ctypedef struct puff_http_host:
        void (*on_request)(puff_http_request *req) noexcept
        void (*on_body)(puff_http_request *req) noexcept
        void (*on_disconnect)(puff_http_request *req) noexcept
        void (*on_drain)(puff_http_request *req) noexcept
        void (*on_done)(puff_http_request *req) noexcept
        void (*on_conn_free)(puff_http_conn *conn, void *data) noexcept
    ctypedef struct puff_http_access:
        puff_http_server *server
    ctypedef struct puff_http_options:
        uint32_t max_request_line
        uint32_t max_head
        uint32_t max_fields
        uint32_t max_connections
        uint32_t max_pipelined
        uint64_t max_body
        uint32_t max_drain
        uint32_t header_timeout_ms
        uint32_t keep_alive_timeout_ms
        uint32_t body_timeout_ms
        uint32_t write_timeout_ms
        uint32_t min_rate
        bint server_header
        bint date_header
        const char *server_name
        void (*on_access)(const puff_http_access *a) noexcept
    ctypedef struct puff_http_stats:
        uint64_t n_accepted
        uint64_t n_requests
        uint64_t n_refused
        uint32_t n_connections
        uint32_t n_in_flight

    void puff_http_options_init(puff_http_options *opts)
    int puff_http_server_open(puff_http_server **out, puff_loop *loop, const puff_http_host *host,
                              void *data, const puff_http_options *opts, puff_err *err)
    int puff_http_server_listen(puff_http_server *server, const puff_listener_options *opts,
                                puff_listener **out, puff_err *err)
    void puff_http_server_stop(puff_http_server *server, uint64_t timeout_ms,
                               void (*on_stopped)(puff_http_server *server, void *data) noexcept)
    void *puff_http_server_data(const puff_http_server *server)
    puff_http_stats puff_http_server_stats(const puff_http_server *server)
    puff_http_server *puff_http_conn_server(const puff_http_conn *conn)
    puff_http_request *puff_http_request_ref(puff_http_request *req)
    void puff_http_request_unref(puff_http_request *req)
    void puff_http_request_proceed(puff_http_request *req)
    puff_http_body puff_http_request_read(puff_http_request *req, puff_str *out)
    void puff_http_request_consume(puff_http_request *req, size_t n)
    int puff_http_response_start_as(puff_http_request *req, int status, puff_str reason,
                                    const puff_http_field *fields, size_t n_fields)
    int puff_http_response_body(puff_http_request *req, const void *data, size_t len, bint more,
                                void (*release)(void *arg) noexcept, void *arg)
    int puff_http_response_simple(puff_http_request *req, int status, const char *text)
    void puff_http_response_abort(puff_http_request *req)
    int puff_http_response_forget(puff_http_request *req)
    ssize_t puff_http_response_file(puff_http_request *req, int fd, uint64_t offset, uint64_t len)
    bint puff_http_response_complete(const puff_http_request *req)
    size_t puff_http_response_queued(const puff_http_request *req)
