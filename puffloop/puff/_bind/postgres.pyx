# cython: language_level=3
"""Postgres for Python: a query is a Waiter, rows are built in C (row.c), parameters encoded in C
(value.c).

    Client.fetch() -> _Query (Waiter) -> puff_pg_submit -> ... -> on_encode: value.c
                                                            ... -> on_done: row.c -> resolve
The pool of a loop hangs in loop.clients and closes with it.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memset

cimport puff._bind.green as green
from puff._bind.client_pool cimport ClientPool, on_pool_closed
from puff._bind.core cimport *
from puff._bind.loop cimport LoopBase, puff_held, puff_hold, puff_let_go, running
from puff._bind.waiter cimport Waiter, call

from puff import _pgtext, errors

cdef extern from "record.h":
    int puff_record_setup() except -1
    object puff_record_type()
    ctypedef struct puff_row_layout:
        pass
    object puff_row_layout_new(object names)
    object puff_record_from_list(puff_row_layout *layout, list values)

cdef extern from "row.h":
    int puff_row_setup() except -1
    int puff_row_can_decode(uint32_t oid)
    object puff_row_value(uint32_t oid, puff_pg_cell cell)
    object puff_row_list(
        const puff_pg_result *res, const puff_pg_statement *st, puff_row_layout *layout
    )
    object puff_row_record(
        const puff_pg_result *res, const puff_pg_statement *st, puff_row_layout *layout, int i
    )

cdef extern from "value.h":
    int puff_value_setup() except -1
    int puff_value_encode(puff_pg_params *params, int i, uint32_t oid, object v) except -1

puff_record_setup()
puff_row_setup()
puff_value_setup()

Record = puff_record_type()


# ---- pool ----------------------------------------------------------------------------------------


cdef class _Pool(ClientPool):
    cdef puff_pg_pool *pool  # owned

    cdef bint begin_close(self) except -1:
        if self.pool is NULL:
            return False
        puff_pg_pool_close(self.pool, 0, on_pool_closed, <void *>self)
        self.pool = NULL
        return True

    cdef int forked(self) except -1:
        if self.pool is not NULL:
            puff_pg_pool_forked(self.pool)  # not a word on them: they stay the parent's
        return 0


cdef int _fill_options(puff_pg_pool_options *opts, dict given) except -1:
    """Copies what puff.config knows of a pool into the core's struct; absent keys keep the core's
    defaults.
    """
    opts.n_lanes_min = given.get("min_size") or 0
    opts.n_lanes_max = given.get("max_size") or 0
    opts.max_depth = given.get("max_depth") or 0
    opts.max_waiting = given.get("max_waiting") or 0
    opts.statement_cache_size = given.get("statement_cache_size") or 0
    opts.connect_timeout_ms = given.get("connect_timeout_ms") or 0
    opts.queue_timeout_ms = given.get("queue_timeout_ms") or 0
    opts.query_timeout_ms = given.get("query_timeout_ms") or 0
    opts.idle_timeout_ms = given.get("idle_timeout_ms") or 0
    opts.backoff_min_ms = given.get("backoff_min_ms") or 0
    opts.backoff_max_ms = given.get("backoff_max_ms") or 0
    opts.max_param_bytes = given.get("max_param_bytes") or 0
    return 0


cdef puff_pg_pool *pool_of(LoopBase loop, str name) except NULL:
    pool = loop.clients.get(("postgres", name))
    if pool is None:
        pool = _open_pool(loop, name)
        loop.clients[("postgres", name)] = pool
    return (<_Pool>pool).pool


cdef str _without_secrets(str message, str url):
    """libpq may quote the whole URL, and with it the password; or, from 18 on, the password."""
    from puff import config

    masked = config.mask_url(url)
    message = message.replace(url, masked)
    for quoted in message.split('"')[1::2]:
        if quoted in url and quoted not in masked:
            message = message.replace(quoted, "***")
    return message


cdef _Pool _open_pool(LoopBase loop, str name):
    from puff import config  # not at import: settings are read on first use

    cdef puff_pg_pool_options opts
    cdef puff_err err
    cdef _Pool pool = _Pool()
    cdef str url = config.pool_url("postgres", name)
    cdef bytes dsn = url.encode()
    memset(&opts, 0, sizeof(opts))
    opts.size = sizeof(opts)
    opts.dsn = dsn
    _fill_options(&opts, config.pool_options("postgres", name))
    if puff_pg_pool_new(&pool.pool, loop.core, &opts, &err) != 0:
        message = _without_secrets(_text(err.msg), url)
        raise errors.ConfigError(f"[[postgres]] {name}: {message}")
    return pool


# ---- query ---------------------------------------------------------------------------------------


cdef enum Wanted:
    ROWS
    ROW
    VALUE
    TAG


@cython.no_gc_clear  # the core calls it until it is done
cdef class _Query(Waiter):
    cdef puff_pg_query q
    cdef puff_held held
    cdef str name       # of the pool
    cdef str sql        # q.sql points into it
    cdef tuple args     # parameters; encoded ones are borrowed until on_done
    cdef object failure  # what encoding raised
    cdef uint64_t timeout_ms  # 0: the pool's
    cdef Wanted kind
    cdef bint in_core

    cdef int start(self) except -1:
        cdef Py_ssize_t size
        cdef puff_pg_pool *pool = pool_of(self.loop, self.name)
        puff_pg_query_init(&self.q)
        self.q.timeout_ms = self.timeout_ms
        self.q.sql = PyUnicode_AsUTF8AndSize(self.sql, &size)
        self.q.sql_len = <size_t>size
        self.q.n_params = <int>len(self.args)
        self.q.encode = on_encode
        self.q.on_done = on_done
        self.q.data = <void *>self
        puff_hold(self.loop, &self.held, self)
        self.in_core = True
        puff_pg_submit(pool, &self.q)
        return 0

    cdef void abandon(self) noexcept:
        if self.in_core:
            puff_pg_query_cancel(&self.q)


cdef int on_encode(puff_pg_query *q, puff_pg_statement *st, puff_pg_params *params) noexcept:
    cdef _Query query = <_Query>q.data
    cdef int i = 0
    cdef PyObject *worker = green.hide()
    try:
        for i in range(st.n_columns):
            if not puff_row_can_decode(st.columns[i].oid):
                q.text_results = True
                break
        for i in range(q.n_params):
            puff_value_encode(params, i, st.param_oids[i], query.args[i])
    except BaseException as exc:
        query.failure = _parameter_error(i, exc)
        return PUFF_EARG
    finally:
        green.show(worker)
    return 0


cdef object _parameter_error(int i, object exc):
    """The same exception with the place of the parameter in its message."""
    if type(exc) in (TypeError, ValueError, OverflowError):
        return type(exc)(f"parameter ${i + 1}: {exc}")
    return exc


cdef void on_done(puff_pg_query *q, puff_pg_result *res, const puff_pg_error *err) noexcept:
    cdef _Query query = <_Query>q.data
    query.in_core = False
    if query.wanted():
        try:
            if err is not NULL:
                query.reject(query.failure if query.failure is not None else _error_of(err))
            else:
                query.resolve(_answer(query, res))
        except BaseException as exc:
            query.reject(exc)
    query.failure = None
    puff_let_go(&query.held)


cdef object _answer(_Query query, puff_pg_result *res):
    cdef puff_pg_statement *st = query.q.statement
    if query.kind == TAG:
        return puff_pg_result_tag(res).decode()
    if puff_pg_result_format(res) == 0 and st.n_columns > 0:
        return _answer_from_text(query.kind, res, st)
    if query.kind == ROWS:
        return puff_row_list(res, st, _layout(st))
    if puff_pg_result_n_rows(res) == 0 or st.n_columns == 0:
        return None
    if query.kind == ROW:
        return puff_row_record(res, st, _layout(st), 0)
    return puff_row_value(st.columns[0].oid, puff_pg_result_cell(res, 0, 0))


cdef puff_row_layout *_layout(puff_pg_statement *st) except NULL:
    """Made once for a statement, then kept with it."""
    if st.host is NULL:
        names = [st.columns[i].name.decode() for i in range(st.n_columns)]
        layout = puff_row_layout_new(tuple(names))
        Py_INCREF(layout)
        st.host = <void *>layout
        st.host_free = on_layout_free
    return <puff_row_layout *>st.host


cdef void on_layout_free(void *host) noexcept:
    Py_DECREF(<object>host)


cdef object _answer_from_text(Wanted kind, puff_pg_result *res, puff_pg_statement *st):
    """For rows with a type that has no decoder here: the whole row comes as text. Rare, so in
    Python.
    """
    cdef int i, j
    cdef puff_pg_cell cell
    cdef list rows = []
    oids = [st.columns[j].oid for j in range(st.n_columns)]
    for i in range(puff_pg_result_n_rows(res)):
        row = []
        for j in range(st.n_columns):
            cell = puff_pg_result_cell(res, i, j)
            text = None if cell.len < 0 else cell.ptr[: cell.len].decode()
            row.append(None if text is None else _pgtext.value(oids[j], text))
        rows.append(puff_record_from_list(_layout(st), row))
    if kind == ROWS:
        return rows
    if not rows:
        return None
    return rows[0] if kind == ROW else rows[0][0]


# ---- errors --------------------------------------------------------------------------------------


cdef str _text(const char *s):
    return None if s is NULL else s.decode("utf-8", "replace")


cdef object _error_of(const puff_pg_error *e):
    cdef str message = _text(e.err.msg)
    if e.err.code == PUFF_EDB:
        return errors.postgres_error(
            _text(e.err.sqlstate),
            _text(e.message) or message,
            severity=_text(e.severity),
            detail=_text(e.detail),
            hint=_text(e.hint),
            position=_text(e.position),
            context=_text(e.context),
            schema_name=_text(e.schema),
            table_name=_text(e.table),
            column_name=_text(e.column),
            datatype_name=_text(e.datatype),
            constraint_name=_text(e.constraint),
        )
    if e.err.code == PUFF_ENOMEM:
        return MemoryError()
    if e.err.code == PUFF_ETIMEOUT:
        return errors.PostgresTimeoutError(message)
    if e.err.code in (PUFF_ECONNECT, PUFF_EAUTH, PUFF_ECLOSED):
        error = errors.PostgresConnectionError(message)
        error.sqlstate = _text(e.err.sqlstate) or None
        error.maybe_executed = e.maybe_executed
        return error
    return errors.PostgresUsageError(message)


# ---- client --------------------------------------------------------------------------------------


cdef class Client:
    """The native half of puff.postgres.Postgres: one name, a pool on each loop that uses it."""

    cdef readonly str name

    def __init__(self, str name not None):
        self.name = name

    cdef object _run(self, Wanted kind, object sql, tuple args, object timeout_ms):
        cdef _Query query
        if not isinstance(sql, str):
            raise TypeError(f"sql must be a str, not {type(sql).__name__}")
        if "\0" in <str>sql:
            raise ValueError("Postgres has no NUL character in SQL")
        query = _Query.__new__(_Query)
        query.name = self.name
        query.sql = sql
        query.args = args
        query.kind = kind
        if timeout_ms is not None:
            query.timeout_ms = timeout_ms
        return call(query)

    def fetch(self, sql, *args, timeout_ms=None):
        return self._run(ROWS, sql, args, timeout_ms)

    def fetchrow(self, sql, *args, timeout_ms=None):
        return self._run(ROW, sql, args, timeout_ms)

    def fetchval(self, sql, *args, timeout_ms=None):
        return self._run(VALUE, sql, args, timeout_ms)

    def execute(self, sql, *args, timeout_ms=None):
        return self._run(TAG, sql, args, timeout_ms)

    def stats(self):
        """What the pool of the running loop counts; None before its first query."""
        cdef LoopBase loop = running()
        cdef puff_pg_pool_stats s
        pool = None if loop is None else loop.clients.get(("postgres", self.name))
        if pool is None:
            return None
        puff_pg_pool_get_stats((<_Pool>pool).pool, &s)
        return s
