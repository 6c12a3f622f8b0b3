"""The two faces of a Tls: the protocol that the transport below sees, and the app's transport.

They are real asyncio classes, which a cdef class cannot be; their methods reach the Tls through a
slot, as Transport's reach its Stream.
"""

import asyncio
import ssl
import warnings
from asyncio import constants, sslproto, transports

from cpython.bytes cimport PyBytes_CheckExact

from puff._bind.core cimport puff_tls_unread
from puff._bind.loop cimport LoopBase
from puff._bind.slot cimport puff_slot, puff_slot_find, puff_slot_of
from puff._bind.tls cimport INIT, MADE, WRAPPED, Tls, engine_of
from puff._bind.transport cimport limits, pieces_of


cdef enum:
    GATHER = 65536  # one read of a transport that is not ours

cdef object _SHUTDOWN_S = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)  # not in 3.10
cdef object _READ_KIB = getattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 256)
cdef object _WRITE_KIB = getattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 512)


# ---- what the transport below sees ---------------------------------------------------------------

cdef puff_slot _protocol_slot, _transport_slot


cdef inline Tls _of_protocol(self):
    return <Tls?><object>puff_slot_of(self, &_protocol_slot)


cdef object _timeout(name, value, default):
    if value is None:
        return default
    if value <= 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


class SSLProtocol(asyncio.BufferedProtocol):
    """The protocol of the transport that carries TLS. Arguments as asyncio.sslproto.SSLProtocol."""

    # A Stream finds its filter under the first of these names.
    __slots__ = ("_puff_filter", "__dict__", "__weakref__")

    def __init__(
        self, LoopBase loop, app_protocol, sslcontext, waiter, server_side=False,
        server_hostname=None, call_connection_made=True, ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        cdef Tls tls = Tls.__new__(Tls)
        tls.handshake_timeout = _timeout(
            "ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
        )
        tls.shutdown_timeout = _timeout("ssl_shutdown_timeout", ssl_shutdown_timeout, _SHUTDOWN_S)
        if not sslcontext:
            sslcontext = sslproto._create_transport_context(server_side, server_hostname)
        tls.loop = loop
        tls.extra = {"sslcontext": sslcontext}
        tls.waiter = waiter
        tls.app_state = INIT if call_connection_made else MADE
        tls.high_in, tls.low_in = limits(None, None, _READ_KIB)
        tls.high_out, tls.low_out = limits(None, None, _WRITE_KIB)
        tls.sslobj = sslcontext.wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=server_side,
            server_hostname=None if server_side else server_hostname or None,
        )
        tls.engine = engine_of(sslcontext, tls.sslobj)
        tls.set_app_protocol(app_protocol)
        tls.app_transport = SSLTransport(tls)
        tls.protocol = self
        self._puff_filter = tls

    def connection_made(self, transport):
        """Starts the handshake."""
        _of_protocol(self).made(transport)

    def connection_lost(self, exc):
        """Tells the app, unless it has never been told of a connection."""
        _of_protocol(self).lost(exc)

    def get_buffer(self, sizehint):
        """Memory for ciphertext, for a transport that is not ours."""
        cdef Tls tls = _of_protocol(self)
        if tls.target is None:
            tls.target = bytearray(GATHER)
        return tls.target

    def buffer_updated(self, nbytes):
        """Ciphertext has come into that memory."""
        cdef Tls tls = _of_protocol(self)
        target, tls.target = tls.target, None
        view = memoryview(target)  # nobody may resize it now
        tls.received(<char *><bytearray>target, nbytes)
        view.release()

    def _feed_early(self, bytes data):
        """Ciphertext that somebody else has read before the handshake began."""
        _of_protocol(self).feed_early(data)

    def eof_received(self):
        """The peer has sent its last byte. True while unread data waits for resume_reading()."""
        return _of_protocol(self).eof()

    def pause_writing(self):
        """The transport below is full."""
        _of_protocol(self).writing_paused = True

    def resume_writing(self):
        """The transport below takes more."""
        _of_protocol(self).resume_writing()

    # ---- what asyncio's own code and its tests read ----------------------------------------------

    @property
    def _app_transport(self):
        return _of_protocol(self).app_transport

    @property
    def _app_protocol(self):
        return _of_protocol(self).app_protocol

    @property
    def _transport(self):
        return _of_protocol(self).transport

    @property
    def _sslobj(self):
        return _of_protocol(self).sslobj


# ---- what the app sees ---------------------------------------------------------------------------

cdef inline Tls _of_transport(self):
    return <Tls?><object>puff_slot_of(self, &_transport_slot)


cdef Tls _ended(LoopBase loop):
    """What a transport holds that is closed a second time, as asyncio's drops its protocol then: an
    app that stores its transport makes no cycle that keeps the SSLContext."""
    cdef Tls tls = Tls.__new__(Tls)
    tls.loop = loop
    tls.extra = {}
    tls.closed = True
    return tls


class SSLTransport(transports._FlowControlMixin, transports.Transport):
    """A TLS transport of a puff loop. See asyncio.Transport."""

    __slots__ = ("_native", "__dict__", "__weakref__")

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __init__(self, Tls tls):
        self._native = tls

    def __del__(self):
        cdef Tls tls = getattr(self, "_native", None)
        if tls is not None and not tls.closed:
            tls.closed = True
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def get_extra_info(self, name, default=None):
        """What is known: ssl_object, sslcontext, peercert, cipher, compression, and below's."""
        return _of_transport(self).extra_info(name, default)

    def set_protocol(self, protocol):
        """From now on protocol is told of data and of the end."""
        _of_transport(self).set_app_protocol(protocol)

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return _of_transport(self).app_protocol

    def is_closing(self):
        """True once close() or abort() has been called, or the connection is lost."""
        return _of_transport(self).closed

    def close(self):
        """Sends what is queued and close_notify, waits for the peer's, then connection_lost()."""
        cdef Tls tls = _of_transport(self)
        if not tls.closed:
            tls.closed = True
            tls.start_shutdown()
        elif tls.said_goodbye:
            self._native = _ended(tls.loop)

    def abort(self):
        """Closes; what the kernel does not take at once is thrown away."""
        _of_transport(self).flush_turn()
        self._force_close(None)

    # ---- reading ---------------------------------------------------------------------------------

    def is_reading(self):
        """True unless it is paused."""
        return not _of_transport(self).reading_paused

    def pause_reading(self):
        """No data comes until resume_reading()."""
        _of_transport(self).reading_paused = True

    def resume_reading(self):
        """Data may come again."""
        _of_transport(self).resume_reading()

    def set_read_buffer_limits(self, high=None, low=None):
        """While reading is paused, below is paused too at high bytes. Default 256 KiB."""
        cdef Tls tls = _of_transport(self)
        tls.high_in, tls.low_in = limits(high, low, _READ_KIB)
        tls.control_reading()

    def get_read_buffer_limits(self):
        """(low, high) in bytes."""
        cdef Tls tls = _of_transport(self)
        return (tls.low_in, tls.high_in)

    def get_read_buffer_size(self):
        """Bytes that have come and are not decrypted."""
        cdef Tls tls = _of_transport(self)
        return 0 if tls.engine is NULL else puff_tls_unread(tls.engine)

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, data):
        """Queues bytes; they are encrypted and leave at the end of this turn of the loop."""
        cdef Tls tls = _of_transport(self)
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if not data:
            return
        if tls.state == WRAPPED:
            tls.append(data)
            tls.written()
        else:
            tls.write((data,))

    def writelines(self, list_of_data):
        """Queues several pieces; they share records."""
        _of_transport(self).write(pieces_of(list_of_data))

    def write_eof(self):
        """TLS cannot be closed one way."""
        raise NotImplementedError

    def can_write_eof(self):
        """False: TLS cannot be closed one way."""
        return False

    def set_write_buffer_limits(self, high=None, low=None):
        """From high on the protocol is paused, at low resumed. Default 512 and 128 KiB."""
        cdef Tls tls = _of_transport(self)
        tls.high_out, tls.low_out = limits(high, low, _WRITE_KIB)
        tls.control_writing()

    def get_write_buffer_limits(self):
        """(low, high) in bytes."""
        cdef Tls tls = _of_transport(self)
        return (tls.low_out, tls.high_out)

    def get_write_buffer_size(self):
        """Bytes that the transport below has not taken."""
        return _of_transport(self).write_buffer_size()

    # ---- what asyncio's own code and its tests read ----------------------------------------------

    def _force_close(self, exc):
        cdef Tls tls = _of_transport(self)
        tls.closed = True
        tls.abort(exc)

    def _test__append_write_backlog(self, data):
        _of_transport(self).append(data)

    @property
    def _protocol_paused(self):
        return _of_transport(self).app_writing_paused

    @property
    def _ssl_protocol(self):
        return _of_transport(self).protocol

    @property
    def _loop(self):
        return _of_transport(self).loop


puff_slot_find(SSLProtocol, "_puff_filter", &_protocol_slot)
puff_slot_find(SSLTransport, "_native", &_transport_slot)
