"""Datagram transports on the core's sockets."""

import asyncio
import socket
from typing import Any

from puff._bind.loop import LoopBase

class DatagramTransport(asyncio.DatagramTransport):
    def __init__(
        self,
        loop: LoopBase,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...

class DatagramMethods:
    """puff.Loop's methods for datagrams."""
