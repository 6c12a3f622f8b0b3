"""The methods of puff.Loop that make TLS transports, on the core's engine where it fits.

It does not fit an interpreter whose `ssl` module has a libssl of its own (statically linked, or
another file than ours), nor an SSLContext that makes other objects than `ssl.SSLObject`. asyncio's
own protocol is used then, and with PUFF_TLS=stdlib in the environment: slower, not different.
"""
# Half of it is asyncio's private half, which typeshed does not know.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import ssl
from asyncio import sslproto
from typing import Any, cast

from puff._bind.transport import Transport

_logger = logging.getLogger("puff")


@functools.cache
def native_protocol() -> Any:
    """The native SSLProtocol, or None where the engine does not fit. Tried at first use."""
    if os.environ.get("PUFF_TLS") == "stdlib":
        return None
    try:
        from puff._bind import tls, tls_transport

        tls.check()
    except Exception as exc:
        _logger.debug("TLS is asyncio's own: %s", exc)
        return None
    return tls_transport.SSLProtocol


def make_protocol(loop: Any, protocol: Any, sslcontext: Any, *args: Any, **kwargs: Any) -> Any:
    """asyncio.sslproto.SSLProtocol(...) or ours: the arguments are the same."""
    native = native_protocol()
    if native is not None:
        from puff._bind import tls

        try:
            return native(loop, protocol, sslcontext, *args, **kwargs)
        except tls.NotOurs:
            pass
    return cast(Any, sslproto.SSLProtocol)(loop, protocol, sslcontext, *args, **kwargs)


def _hand_over(protocol: asyncio.BaseProtocol, tls: Any) -> None:
    """What a StreamReader has read already is the beginning of the client's hello."""
    reader: Any = getattr(protocol, "_stream_reader", None)
    is_stream = isinstance(protocol, asyncio.StreamReaderProtocol)
    if not is_stream or not getattr(reader, "_buffer", None):
        return
    feed = getattr(tls, "_feed_early", None)
    if feed is None and hasattr(tls, "_incoming"):  # asyncio's, from 3.11 on
        feed = tls._incoming.write
    if feed is not None:
        feed(bytes(reader._buffer))
        reader._buffer.clear()


def _asyncios(loop: Any) -> Any:
    """The loop's methods as asyncio has them."""
    return super(TlsMethods, loop)


class TlsMethods:
    """Goes before asyncio's loop in the bases of puff.Loop."""

    def _make_ssl_transport(
        self, rawsock: socket.socket, protocol: asyncio.BaseProtocol, sslcontext: Any,
        waiter: asyncio.Future[None] | None = None, *, server_side: bool = False,
        server_hostname: str | None = None, extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None, **timeouts: float | None,
    ) -> asyncio.Transport:  # fmt: skip
        loop: Any = self
        loop._ensure_fd_no_transport(rawsock)
        if not issubclass(type(rawsock), socket.socket):  # it only behaves like one
            plain: asyncio.Transport = _asyncios(self)._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, server_side=server_side,
                server_hostname=server_hostname, extra=extra, server=server, **timeouts,
            )  # fmt: skip
            return plain
        tls = make_protocol(
            loop, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        # The transport below may be lost before this returns to the caller: ours is held.
        app_transport: asyncio.Transport = tls._app_transport
        Transport(loop, rawsock, tls, extra=extra, server=server)
        return app_transport

    async def start_tls(
        self, transport: Any, protocol: asyncio.BaseProtocol, sslcontext: ssl.SSLContext, *,
        server_side: bool = False, server_hostname: str | None = None, **timeouts: float | None,
    ) -> asyncio.Transport | None:  # fmt: skip
        """Upgrades transport to TLS; returns the transport that protocol uses from now on."""
        loop: Any = self
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = loop.create_future()
        tls = make_protocol(
            loop, protocol, sslcontext, waiter, server_side, server_hostname,
            call_connection_made=False, **timeouts,
        )  # fmt: skip
        # Nothing may come before connection_made(), which is called in the next turn.
        transport.pause_reading()
        if server_side:
            _hand_over(protocol, tls)
        transport.set_protocol(tls)
        made = loop.call_soon(tls.connection_made, transport)
        resumed = loop.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            waiter = None  # it holds the exception, which holds this frame
            raise
        return cast("asyncio.Transport | None", tls._app_transport)
