# cython: language_level=3
"""loop.set_watchdog(): who blocks the loop, told while it does. See watchdog.c for the threads.
"""

import _thread
import faulthandler
import signal

from libc.stdint cimport uint64_t

from puff._bind.loop cimport LoopBase, puff_watchdog, running

from puff.watchdog import report_block, tell

cdef extern from "puff/loop.h":
    uint64_t puff_ticks()

cdef extern from "watchdog.h":
    ctypedef struct puff_pulse:
        const uint64_t *ticks
        const bint *waiting
    ctypedef struct puff_block:
        double seconds
        unsigned long thread
        bint over
        bint dumped
        unsigned n_silent
    ctypedef struct puff_watchdog_options:
        uint64_t threshold_ms
        uint64_t gap_ms
        int signum
    puff_watchdog *puff_watchdog_new(puff_pulse pulse, const puff_watchdog_options *options)
    void puff_watchdog_stop(puff_watchdog *w)
    void puff_watchdog_enter(puff_watchdog *w)
    void puff_watchdog_unref(puff_watchdog *w)
    bint puff_watchdog_next(puff_watchdog *w, puff_block *block) nogil
    bint puff_watchdog_take(puff_watchdog *w, puff_block *block)

cdef extern from *:
    """
    static puff_pulse puff_pulse_of(const puff_dispatch *d) {
        return (puff_pulse){.ticks = &d->ticks, .waiting = &d->waiting};
    }
    """
    puff_pulse puff_pulse_of(const void *d)


cdef class _Teller:
    """The thread that tells: it waits for a block without the GIL, and with it reads the stack."""

    cdef puff_watchdog *watchdog  # a share of it
    cdef object report

    def __dealloc__(self):
        if self.watchdog is not NULL:
            puff_watchdog_unref(self.watchdog)

    def work(self):
        cdef puff_block block
        cdef bint lasts
        while True:
            with nogil:
                lasts = puff_watchdog_next(self.watchdog, &block)
            if not lasts:
                return
            lasts = puff_watchdog_take(self.watchdog, &block)
            tell(self.report, block.thread, block.seconds, lasts, block.over, block.dumped,
                 block.n_silent)


cdef object _signum = None


cdef int _stack_signal() except -1:
    """A signal upon which a thread writes its Python stack to stderr: one of the real-time ones,
    which nobody uses. 0: there is none.
    """
    global _signum
    if _signum is None:
        _signum = 0
        for number in range(getattr(signal, "SIGRTMAX", 0), getattr(signal, "SIGRTMIN", 1), -1):
            if signal.getsignal(number) is signal.SIG_DFL:
                faulthandler.register(number, file=2, all_threads=False)
                _signum = number
                break
    return _signum


cdef int _begin(LoopBase loop, puff_watchdog_options *options, object report) except -1:
    cdef _Teller teller = _Teller()
    teller.report = report
    loop.d.ticks = puff_ticks()
    teller.watchdog = puff_watchdog_new(puff_pulse_of(&loop.d), options)
    if teller.watchdog is NULL:
        raise RuntimeError("can't start new thread")
    loop.d.watchdog = teller.watchdog
    if running() is loop:
        puff_watchdog_enter(loop.d.watchdog)
    _thread.start_new_thread(teller.work, ())
    return 0


class WatchdogMethods:
    """Of puff.Loop."""

    def set_watchdog(self, threshold_ms, report=None, *, gap_ms=10_000):
        """Tell who blocks the loop for longer than `threshold_ms` milliseconds; 0: nobody any more.

        A thread of its own notices, while the block lasts, and calls `report(block)` in another one
        with a puff.Block, which has the whole stack of the loop's thread; by default it is logged
        ("puff.watchdog"). It is called again each time that the block has doubled, and once with
        `block.over` when the loop goes on. At most one block in `gap_ms` is told; `block.n_silent`
        counts the others. A stack that code in C hides by keeping the GIL is written to stderr.

        Call it in the loop's thread, or while the loop does not run. It costs the loop nothing per
        callback. ValueError for a negative number.

            loop.set_watchdog(100)
        """
        cdef LoopBase loop = self
        cdef puff_watchdog_options options
        if threshold_ms < 0 or gap_ms < 0:
            raise ValueError("milliseconds must not be negative")
        self._check_closed()
        puff_watchdog_stop(loop.d.watchdog)
        loop.d.watchdog = NULL
        if threshold_ms == 0:
            return
        options.threshold_ms, options.gap_ms = threshold_ms, gap_ms
        options.signum = _stack_signal()
        _begin(loop, &options, report_block if report is None else report)
