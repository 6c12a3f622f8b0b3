# cython: language_level=3
"""Waits of the patched standard library (puff.monkey): a greenlet parks until one of several
descriptors is ready, or until a time is over.

    poll([(fd, events), ...], timeout) --> a Watch each in the loop's ready set, and one timer
         ^                                        |                                  |
         +--- True: worth a try <-----------------+        False: time is over <-----+

It tells only that trying may help: the caller tries again without blocking, which is the truth.
Python closes descriptors whenever it likes and the kernel tells nobody: `_watched` has who waits
for a number, so that closing() can end those waits.
"""

import errno

cimport puff._bind.green as green
from puff._bind.core cimport (
    PUFF_READABLE,
    PUFF_WRITABLE,
    puff_ready,
    puff_ready_cancel,
    puff_ready_init,
    puff_ready_wait,
)
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase, running
from puff._bind.timed cimport TimedWaiter
from puff._bind.waiter cimport call

READABLE = PUFF_READABLE
WRITABLE = PUFF_WRITABLE

cdef dict _watched = {}  # fd -> a list of Watch


cdef class Watch:
    """One descriptor of a Poll; in `_watched` while that waits."""

    cdef puff_ready ready
    cdef int fd
    cdef int events
    cdef Poll poll  # whose it is; None once that has ended

    def __cinit__(self):
        puff_ready_init(&self.ready, on_ready)
        self.ready.data = <void *>self
        self.ready.shared = True

    cdef int begin(self, Poll poll) except -1:
        if poll.loop.core is NULL:
            raise RuntimeError("Event loop is closed")
        rc = puff_ready_wait(poll.loop.core, &self.ready, self.fd, self.events, 0)
        if rc < 0:
            raise os_error(rc)
        self.poll = poll
        _watched.setdefault(self.fd, []).append(self)
        return 0

    cdef void end(self) noexcept:
        puff_ready_cancel(&self.ready)
        if self.poll is None:
            return
        self.poll = None
        watches = <list>_watched[self.fd]
        watches.remove(self)
        if not watches:
            del _watched[self.fd]

    def __dealloc__(self):
        puff_ready_cancel(&self.ready)


cdef void on_ready(puff_ready *r) noexcept:
    cdef Poll poll = (<Watch>r.data).poll
    if poll is not None:
        poll.leave()
        poll.resolve(True)


cdef class Poll(TimedWaiter):
    cdef list watches
    cdef object timeout  # seconds, or None

    cdef int start(self) except -1:
        cdef Watch watch
        try:
            for watch in self.watches:
                watch.begin(self)
            if self.timeout is not None:
                self.arm_seconds(self.timeout)
        except BaseException:
            self.leave()
            raise
        return 0

    cdef void leave(self) noexcept:
        cdef Watch watch
        self.disarm()
        for watch in self.watches:
            watch.end()

    cdef void fired(self) noexcept:
        self.leave()
        self.resolve(False)

    cdef void abandon(self) noexcept:
        self.leave()

    def closed(self):
        self.leave()
        self.reject(OSError(errno.EBADF, "the file was closed while a greenlet waited for it"))


cdef Watch _watch(int fd, int events):
    watch = Watch()
    watch.fd = fd
    watch.events = events
    return watch


def poll(entries, timeout):
    """On a greenlet: True when one of the (descriptor, READABLE | WRITABLE) may be ready, False
    after `timeout` seconds (None: never)."""
    cdef Poll waiter = Poll()
    waiter.watches = [_watch(fd, events) for fd, events in entries]
    waiter.timeout = timeout
    return call(waiter)


def wait(int fd, int events, timeout):
    """poll() for one."""
    cdef Poll waiter = Poll()
    waiter.watches = [_watch(fd, events)]
    waiter.timeout = timeout
    return call(waiter)


def pause(timeout):
    """On a greenlet: sleeps for so many seconds."""
    cdef Poll waiter = Poll()
    waiter.watches = []
    waiter.timeout = timeout
    call(waiter)


def closing(int fd):
    """Before this descriptor is closed: who waits for it gets an OSError (EBADF)."""
    cdef Watch watch
    for watch in list(_watched.get(fd, ())):
        if watch.poll is None:
            continue
        if watch.poll.loop is running():
            watch.poll.closed()
        else:
            watch.poll.loop.call_soon_threadsafe(watch.poll.closed)


def parks():
    """Whether who waits here is a greenlet of a Puff loop, which may park."""
    return running() is not None and green.current() is not None


def own_loop():
    """The loop that runs in this thread, which greenlets do not see."""
    cdef LoopBase loop = running()
    return loop
