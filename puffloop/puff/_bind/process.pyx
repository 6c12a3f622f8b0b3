"""Child processes: the interpreter's Popen starts them, a pidfd on the loop tells when they end.

No thread, no signal handler and no state that loops share: any thread's loop may have children of
its own. A child watcher that the program has set (asyncio's, up to 3.13) is left in charge.

    transport --Popen--> child
        ^                  | ends
        +-- Child <-- its pidfd is readable; waits for it, and it is no zombie

A pidfd is waited for once and then closed, so it is not given to libuv, which takes seven system
calls for that, but to the set of the loop's own: one, and closing ends it.

The order is asyncio's: the exit status reaches the transport a turn after the pidfd was seen, so
what a child has written before it ended has been read before process_exited().
"""

import logging
import os
import subprocess
from asyncio import events, unix_events

cimport cython

from puff._bind.core cimport (
    PUFF_READABLE,
    PUFF_READY_ONCE,
    puff_ready,
    puff_ready_cancel,
    puff_ready_init,
    puff_ready_supported,
    puff_ready_wait,
)
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase


cdef object _logger = logging.getLogger("asyncio")
# What asyncio itself would use, and what we replace: neither knows more than we do.
cdef tuple _usual_watchers = tuple(
    getattr(unix_events, name)
    for name in ("ThreadedChildWatcher", "PidfdChildWatcher")
    if hasattr(unix_events, name)
)


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """A child process. See asyncio.SubprocessTransport."""

    def _start(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs):
        # Up to 3.11, asyncio's stdin is a socket, which a child cannot open as /dev/stdin.
        self._proc = subprocess.Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr,
            universal_newlines=False, bufsize=bufsize, **kwargs,
        )


@cython.no_gc_clear  # __dealloc__ needs the loop
cdef class Child:
    """One that runs. The loop keeps it among its clients until it has ended."""

    cdef LoopBase loop
    cdef puff_ready end
    cdef int pidfd
    cdef int pid
    cdef object transport

    def __cinit__(self):
        self.pidfd = -1
        puff_ready_init(&self.end, _on_end)
        self.end.data = <void *>self
        self.end.shared = True  # no reader that anybody has added

    cdef int watch(self) except -1:
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # somebody else has waited for it
            self.loop.call_soon(self.reap)
            return 0
        cdef int rc = puff_ready_wait(
            self.loop.core, &self.end, self.pidfd, PUFF_READABLE, PUFF_READY_ONCE
        )
        if rc < 0:
            self.unwatch()
            raise os_error(rc)
        self.loop.clients["child", self.pid] = self
        return 0

    cdef int unwatch(self) except -1:
        if self.loop is not None and self.loop.core is not NULL:
            puff_ready_cancel(&self.end)
        if self.pidfd >= 0:
            pidfd, self.pidfd = self.pidfd, -1
            os.close(pidfd)
        return 0

    def __dealloc__(self):
        self.unwatch()

    def _loop_closing(self, loop):
        """Nobody will hear of its end: the transport warns and kills it when it is collected."""
        self.unwatch()

    def _loop_forked(self, loop):
        """It is the parent's child, and no one's here."""
        self.unwatch()

    def reap(self):
        """It is waited for in the next turn, as by asyncio's watchers, and in the same step as the
        transport is told: in between, a signal would go to whoever has its pid by then."""
        self.unwatch()
        self.loop.clients.pop(("child", self.pid), None)
        self.loop.call_soon(self.publish)

    def publish(self):
        transport, self.transport = self.transport, None
        transport._process_exited(_status(self.pid, transport))


cdef void _on_end(puff_ready *end) noexcept:
    cdef Child child = <Child>end.data
    try:
        child.loop.schedule(_reap, child)
    except BaseException as exc:
        child.loop.interrupt(exc)


def _reap(Child child):
    if child.pidfd >= 0:  # the loop has not been closed meanwhile
        child.reap()


cdef object _status(int pid, transport):
    try:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        pass
    # Popen looks itself before it sends a signal: then it knows.
    proc = transport.get_extra_info("subprocess")
    if proc is not None and proc.returncode is not None:
        return proc.returncode
    _logger.warning(
        "child process pid %d exit status already read: will report returncode 255", pid
    )
    return 255


cdef bint _other_watcher(loop):
    watcher = getattr(loop, "_watcher", None)  # from 3.14 on, and not for programs to set
    if watcher is not None and "Pidfd" not in type(watcher).__name__:
        return True
    policy = getattr(events, "_event_loop_policy", None)
    watcher = getattr(policy, "_watcher", None)
    return watcher is not None and type(watcher) not in _usual_watchers


cdef bint _can_use_pidfd():
    if not hasattr(os, "pidfd_open") or not puff_ready_supported():
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a sandbox
        return False
    return True


cdef bint _pidfds = _can_use_pidfd()


class ProcessMethods:
    """What asyncio's subprocess_exec() and subprocess_shell() ask of a loop."""

    async def _make_subprocess_transport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs
    ):
        cdef Child child
        if not _pidfds or _other_watcher(self):
            return await super()._make_subprocess_transport(
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
        waiter = self.create_future()
        transport = SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs,
        )
        child = Child.__new__(Child)
        child.loop = self
        child.pid = transport.get_pid()
        child.transport = transport
        try:
            child.watch()
        except BaseException:  # out of descriptors: it is killed, and Popen waits for it
            transport.close()
            raise
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport
