"""Servers on asyncio's listening sockets: a connection becomes a transport in the turn that accepts
it. asyncio's own loop makes a Task and a Future for each.
"""

from puff._bind.sock cimport accept_now, can_accept


cdef extern from *:
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef int _serve(loop, protocol_factory, conn, address, server) except -1:
    """A transport for the connection, in a contextvars context of its own, as a Task's would be."""
    context = PyContext_CopyCurrent()
    PyContext_Enter(context)
    try:
        loop._make_socket_transport(
            conn, protocol_factory(), extra={"peername": address}, server=server
        )
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # nobody is told, as by asyncio outside of its debug mode
        conn.close()
    finally:
        PyContext_Exit(context)
    return 0


cdef bint _accept_burst(loop, protocol_factory, sock, server, int backlog) except -1:
    """False: asyncio is to try, and to see the error that we have seen."""
    for _ in range(backlog):
        if not can_accept(sock):  # a factory has closed the server
            return True
        try:
            accepted = accept_now(sock)
        except OSError:
            return False
        if accepted is None:
            return True
        _serve(loop, protocol_factory, accepted[0], accepted[1], server)
    return True


class AcceptMethods:
    """What create_server() and create_unix_server() of asyncio ask of a loop."""

    def _accept_connection(
        self, protocol_factory, sock, sslcontext=None, server=None, backlog=100, *timeouts
    ):
        if sslcontext is None and not self._debug and can_accept(sock):
            if _accept_burst(self, protocol_factory, sock, server, backlog):
                return
        super()._accept_connection(
            protocol_factory, sock, sslcontext, server, backlog, *timeouts
        )
