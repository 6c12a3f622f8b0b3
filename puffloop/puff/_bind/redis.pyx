# cython: language_level=3
"""Redis for Python: a command is a Waiter; words.c reads its arguments, reply.c makes its reply.

    Client.run() -> _Command (Waiter) -> words.c -> puff_redis_command_submit
                                                 ... reply.c -> on_reply -> resolve

The pool of a loop hangs in loop.clients and closes with it.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.string cimport memset

from puff._bind.client_pool cimport ClientPool, on_pool_closed
from puff._bind.core cimport *
from puff._bind.loop cimport LoopBase, puff_held, puff_hold, puff_let_go, running
from puff._bind.waiter cimport Waiter, call

from puff import errors


cdef extern from "reply.h":
    ctypedef struct puff_reply_target:
        PyObject *waiter
        PyObject *error
        bint decode
    const puff_redis_builder puff_reply_builder
    int puff_reply_setup(object fault) except -1

cdef extern from "words.h":
    ctypedef struct puff_words:
        puff_str *items
        Py_ssize_t n
    int puff_words_init(puff_words *a, tuple args) except -1
    void puff_words_deinit(puff_words *a)

puff_reply_setup(errors.RedisReplyError)


# ---- pool ----------------------------------------------------------------------------------------


cdef class _Pool(ClientPool):
    cdef puff_redis_pool *pool  # owned

    cdef bint begin_close(self) except -1:
        """In a forked child too: closing a descriptor there leaves the parent's connection."""
        if self.pool is NULL:
            return False
        puff_redis_pool_close(self.pool, on_pool_closed, <void *>self)
        self.pool = NULL
        return True


cdef int _fill_options(puff_redis_options *opts, dict given) except -1:
    """What puff.config knows of a pool; absent keys keep the core's defaults."""
    opts.n_connections = given.get("connections") or 0
    opts.connect_timeout_ms = given.get("connect_timeout_ms") or 0
    opts.timeout_ms = given.get("timeout_ms") or 0
    opts.max_in_flight = given.get("max_in_flight") or 0
    opts.max_waiting = given.get("max_waiting") or 0
    opts.max_exclusive = given.get("max_exclusive") or 0
    opts.backoff_min_ms = given.get("backoff_min_ms") or 0
    opts.backoff_max_ms = given.get("backoff_max_ms") or 0
    opts.max_reply_bytes = given.get("max_reply_bytes") or 0
    opts.resp3 = given.get("resp3") or False
    return 0


cdef puff_redis_pool *pool_of(LoopBase loop, tuple key) except NULL:
    pool = loop.clients.get(key)
    if pool is None:
        pool = loop.clients[key] = _open_pool(loop, key[1])
    return (<_Pool>pool).pool


cdef _Pool _open_pool(LoopBase loop, str name):
    from puff import config  # not at import: settings are read on first use

    cdef puff_redis_options opts
    cdef puff_err err
    cdef _Pool pool = _Pool()
    cdef bytes url = config.pool_url("redis", name).encode()
    cdef dict given = config.pool_options("redis", name)
    cdef bytes client_name = given.get("client_name", "puff").encode()
    memset(&opts, 0, sizeof(opts))
    opts.size = sizeof(opts)
    opts.url = url
    opts.client_name = client_name
    opts.builder = &puff_reply_builder
    _fill_options(&opts, given)
    if puff_redis_pool_new(&pool.pool, loop.core, &opts, &err) != 0:
        raise errors.ConfigError(f"[[redis]] {name}: {_text(err.msg)}")
    return pool


# ---- command -------------------------------------------------------------------------------------


# What a caller gets for a reply. Python code uses the numbers through the module constants below.
cdef enum Shape:
    AS_IS
    FLAG     # an integer, or OK, or nil: whether something was done
    NOTHING  # OK says no more than that no exception was raised
    FLOAT
    MAPPING  # a flat list of fields and values
    TEXT     # words of the server's own, never data
    TIME     # seconds and microseconds, as text

SHAPE_AS_IS, SHAPE_FLAG, SHAPE_NOTHING, SHAPE_FLOAT = AS_IS, FLAG, NOTHING, FLOAT
SHAPE_MAPPING, SHAPE_TEXT, SHAPE_TIME = MAPPING, TEXT, TIME


@cython.no_gc_clear  # the core calls it until it is done
cdef class _Command(Waiter):
    cdef tuple key                    # of the pool in loop.clients: ("redis", name)
    cdef tuple args
    cdef Shape shape
    cdef uint64_t timeout_ms          # 0: the pool's
    cdef puff_reply_target target     # the arg of the core's command
    cdef puff_redis_command *command  # while the core has it
    cdef puff_held held               # meanwhile

    cdef int start(self) except -1:
        cdef puff_redis_pool *pool = pool_of(self.loop, self.key)
        cdef puff_redis_command_options opts
        cdef puff_err err
        cdef puff_words words
        opts.size = sizeof(opts)
        opts.timeout_ms = self.timeout_ms
        self.target.waiter = <PyObject *>self
        puff_words_init(&words, self.args)
        cdef int rc = puff_redis_command_submit(pool, words.items, words.n, &opts, on_reply,
                                                &self.target, &self.command, &err)
        puff_words_deinit(&words)
        if rc != 0:
            raise _error_of(rc, &err, False)
        puff_hold(self.loop, &self.held, self)
        return 0

    cdef void abandon(self) noexcept:
        if self.command is not NULL:
            puff_redis_command_cancel(self.command)


cdef void on_reply(void *arg, int status, void *reply, const puff_err *err) noexcept:
    cdef puff_reply_target *target = <puff_reply_target *>arg
    cdef _Command command = <_Command>target.waiter
    try:
        if status != 0:
            if command.wanted():
                sent = puff_redis_command_may_have_run(command.command)
                command.reject(_error_of(status, err, sent))
        else:
            value = <object><PyObject *>reply
            Py_DECREF(value)  # the reference that the builder made is ours now
            if target.error is not NULL:
                command.reject(<object>target.error)
            else:
                command.resolve(value if command.shape == AS_IS else _shaped(command.shape, value))
    except BaseException as exc:
        command.reject(exc)
    command.command = NULL
    Py_XDECREF(target.error)
    target.error = NULL
    puff_let_go(&command.held)


cdef object _shaped(Shape shape, object value):
    if shape == FLAG:
        return value is not None and value != 0
    if shape == NOTHING:
        return None
    if shape == FLOAT:
        return float(value)
    if shape == MAPPING:
        return dict(zip(value[::2], value[1::2]))
    if shape == TEXT:
        return value if isinstance(value, str) else value.decode()
    return int(value[0]) + int(value[1]) / 1_000_000


# ---- errors --------------------------------------------------------------------------------------


cdef str _text(const char *s):
    return s.decode("utf-8", "replace")


cdef object _error_of(int code, const puff_err *err, bint may_have_run):
    cdef str message = _text(err.msg)
    if code == PUFF_EREPLY:
        return errors.RedisReplyError(message)
    if code == PUFF_ENOMEM:
        return MemoryError(message)
    if code == PUFF_ETIMEOUT:
        error = errors.RedisTimeoutError(message)
    elif code == PUFF_EARG or code == PUFF_ELIMIT and not may_have_run:
        return errors.RedisUsageError(message)
    elif code == PUFF_EAUTH:
        error = errors.RedisAuthError(message)
    else:
        error = errors.RedisConnectionError(message)
    error.maybe_executed = may_have_run
    return error


# ---- client --------------------------------------------------------------------------------------


cdef class Client:
    """The native half of puff.redis.Redis: one name, a pool on each loop that uses it."""

    cdef readonly str name
    cdef tuple key

    def __init__(self, str name not None):
        self.name = name
        self.key = ("redis", name)

    def run(self, int shape, bint decode, *args):
        """Sends the command; what its reply becomes is one of the SHAPE_ constants."""
        cdef _Command command = _Command.__new__(_Command)
        command.key = self.key
        command.args = args
        command.shape = <Shape>shape
        command.target.decode = decode
        return call(command)

    def run_within(self, timeout_ms, bint decode, *args):
        """As run(); timeout_ms None: the pool's."""
        cdef _Command command = _Command.__new__(_Command)
        command.key = self.key
        command.args = args
        command.target.decode = decode
        if timeout_ms is not None:
            command.timeout_ms = timeout_ms or PUFF_REDIS_NO_TIMEOUT
        return call(command)

    def stats(self):
        """What the pool of the running loop counts; None before its first command."""
        cdef LoopBase loop = running()
        pool = None if loop is None else loop.clients.get(self.key)
        if pool is None:
            return None
        return puff_redis_pool_get_stats((<_Pool>pool).pool)
