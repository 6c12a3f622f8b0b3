"""Names and addresses: loop.getaddrinfo() and loop.getnameinfo().

A question takes the first of these ways that can answer it:
1. an IP address, a numeric port and one kind of socket: literal.c;
2. anything else that is numeric: the socket module, here and now, told to ask nobody;
3. a name: getaddrinfo() on the core's threads;
4. what the core would not pass on unchanged, debug mode (which logs), and a socket module that
   somebody has patched: asyncio's own method, with socket.getaddrinfo() in the executor.
"""

import socket
from asyncio import base_events

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING

from puff._bind.core cimport (
    PUFF_ENOMEM,
    addrinfo,
    puff_dns,
    puff_dns_cancel,
    puff_dns_free,
    puff_dns_resolve,
    sockaddr as c_sockaddr,
)
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase, puff_held, puff_hold, puff_let_go, running


cdef extern from *:
    int PySys_Audit(const char *event, const char *format, ...) except -1

cdef extern from "address.h":
    object puff_address_object(const c_sockaddr *sa, unsigned len)

cdef extern from "literal.h":
    int puff_literal_setup(object socket_module) except -1
    object puff_literal_addrinfo(object host, object port, object family, object type,
                                 object proto, object flags)


cdef object _own_getaddrinfo = base_events.BaseEventLoop.getaddrinfo
cdef object _own_getnameinfo = base_events.BaseEventLoop.getnameinfo
cdef object _getaddrinfo = socket.getaddrinfo
cdef object _getnameinfo = socket.getnameinfo
cdef object _gaierror = socket.gaierror
cdef int _NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
cdef int _NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
cdef dict _families = {int(member): member for member in socket.AddressFamily}
cdef dict _kinds = {int(member): member for member in socket.SocketKind}
# What libuv hands to the C library as it is; it has ideas of its own about other characters.
cdef frozenset _PLAIN = frozenset(range(0x21, 0x7F))


# ---- whether the shortcuts mean the same ---------------------------------------------------------

cdef dict _in_socket = vars(socket)
cdef dict _in_asyncio = vars(base_events)
cdef dict _in_raw = vars(socket._socket)
cdef object _raw_getaddrinfo = socket._socket.getaddrinfo
# Somebody may have been here before us.
cdef bint _genuine = (
    getattr(_getaddrinfo, "__module__", None) == "socket"
    and getattr(_raw_getaddrinfo, "__module__", None) == "_socket"
)


cdef bint _takes_shortcuts(LoopBase loop) except -1:
    """Nobody has put something of his own in place of socket.getaddrinfo(), or of socket."""
    return (
        _genuine
        and not loop.d.debug
        and not loop.d.closed
        and _in_asyncio["socket"] is socket
        and _in_socket["getaddrinfo"] is _getaddrinfo
        and _in_raw["getaddrinfo"] is _raw_getaddrinfo
    )


# ---- names ---------------------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it when it has the answer
cdef class Lookup:
    """A question that the core's threads are asked."""

    cdef LoopBase loop
    cdef object future
    cdef puff_dns *dns  # the core's; NULL once answered
    cdef puff_held held


cdef void _on_answer(void *arg, int status, addrinfo *res) noexcept:
    cdef Lookup lookup = <Lookup>arg
    lookup.dns = NULL
    try:
        if lookup.loop.d.closed or lookup.future.done():
            pass
        elif status:
            lookup.future.set_exception(os_error(status))
        else:
            _succeed(lookup.future, res)
    except BaseException as exc:
        lookup.loop.interrupt(exc)
    puff_dns_free(res)
    puff_let_go(&lookup.held)


cdef int _succeed(object future, const addrinfo *res) except -1:
    try:
        infos = _infos(res)
    except Exception as exc:  # a canonical name that is not UTF-8
        future.set_exception(exc)
    else:
        future.set_result(infos)
    return 0


cdef list _infos(const addrinfo *ai):
    """The answer as socket.getaddrinfo() has it."""
    cdef list infos = []
    while ai is not NULL:
        infos.append((
            _families.get(ai.ai_family, ai.ai_family),
            _kinds.get(ai.ai_socktype, ai.ai_socktype),
            ai.ai_protocol,
            "" if ai.ai_canonname is NULL else (<bytes>ai.ai_canonname).decode(),
            puff_address_object(ai.ai_addr, ai.ai_addrlen),
        ))
        ai = ai.ai_next
    return infos


cdef Lookup _ask(LoopBase loop, bytes host, bytes service, int family, int type, int proto,
                 int flags):
    cdef Lookup lookup = Lookup.__new__(Lookup)
    cdef addrinfo hints
    hints = addrinfo(
        ai_flags=flags, ai_family=family, ai_socktype=type, ai_protocol=proto, ai_addrlen=0,
        ai_addr=NULL, ai_canonname=NULL, ai_next=NULL,
    )
    lookup.loop = loop
    lookup.future = loop.create_future()
    cdef int rc = puff_dns_resolve(
        &lookup.dns, loop.core, PyBytes_AS_STRING(host),
        NULL if service is None else PyBytes_AS_STRING(service), &hints, _on_answer,
        <void *>lookup,
    )
    if rc == PUFF_ENOMEM:
        raise MemoryError()
    if rc < 0:
        raise os_error(rc)
    puff_hold(loop, &lookup.held, lookup)
    return lookup


async def _answer(Lookup lookup):
    try:
        return await lookup.future
    finally:
        if lookup.dns is not NULL:
            puff_dns_cancel(lookup.dns)


cdef bytes _plain(object o):
    """The bytes of a host or service as the socket module passes them on; None: let it do so."""
    if isinstance(o, str):
        o = o.encode("idna")
    if not isinstance(o, bytes) or not 0 < len(o) < 254 or not _PLAIN.issuperset(o):
        return None
    return o


cdef Lookup _lookup(LoopBase loop, host, port, family, type, proto, flags):
    """None: not a question for the core."""
    cdef bytes name = _plain(host), service = None
    if name is None or running() is not loop:  # the core's own thread must ask
        return None
    if port is not None:
        service = b"%d" % port if isinstance(port, int) else _plain(port)
        if service is None:
            return None
    return _ask(loop, name, service, family, type, proto, flags)


# ---- the loop's methods --------------------------------------------------------------------------

class ResolveMethods:
    """puff.Loop's methods for names."""

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """What socket.getaddrinfo() returns, without blocking the loop."""
        if _takes_shortcuts(self):
            infos = puff_literal_addrinfo(host, port, family, type, proto, flags)
            if infos is not None:
                PySys_Audit(  # as the socket module does, which answers the others
                    "socket.getaddrinfo", "OOOOO", <void *>host, <void *>port, <void *>family,
                    <void *>type, <void *>proto,
                )
                return infos
            try:
                return _getaddrinfo(host, port, family, type, proto, flags | _NUMERIC)
            except _gaierror:
                pass  # a name, or an error that may have another reason when names are allowed
            lookup = _lookup(self, host, port, family, type, proto, flags)
            if lookup is not None:
                return await _answer(lookup)
        return await _own_getaddrinfo(
            self, host, port, family=family, type=type, proto=proto, flags=flags
        )

    async def getnameinfo(self, sockaddr, flags=0):
        """What socket.getnameinfo() returns, without blocking the loop."""
        if (
            isinstance(flags, int) and flags & _NUMERIC_NAME == _NUMERIC_NAME
            and socket.getnameinfo is _getnameinfo and _in_asyncio["socket"] is socket
            and not self.is_closed()
        ):
            return _getnameinfo(sockaddr, flags)  # asks nobody
        return await _own_getnameinfo(self, sockaddr, flags)


puff_literal_setup(socket)
