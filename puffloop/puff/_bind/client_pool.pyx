"""What the pools of all clients are to a loop: they end before it does."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF

from puff._bind.core cimport puff_loop_turn
from puff._bind.loop cimport LoopBase


cdef class ClientPool:
    cdef bint begin_close(self) except -1:
        raise NotImplementedError

    cdef int forked(self) except -1:
        return 0

    def _loop_closing(self, LoopBase loop):
        """Fails what waits and turns the loop until every connection is closed."""
        if not self.begin_close():
            return
        Py_INCREF(self)  # on_pool_closed() gives it back, also when a signal ends our wait
        while not self.closed:
            puff_loop_turn(loop.core, True)
            PyErr_CheckSignals()

    def _loop_forked(self, LoopBase loop):
        """In a child process: what it needs it opens anew."""
        self.forked()
        self._loop_closing(loop)


cdef void on_pool_closed(void *arg) noexcept:
    cdef ClientPool pool = <ClientPool>arg
    pool.closed = True
    Py_DECREF(pool)
