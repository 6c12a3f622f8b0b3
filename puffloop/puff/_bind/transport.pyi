"""Stream transports on the core's streams."""

import asyncio
import socket
from typing import Any

from puff._bind.loop import LoopBase

class Transport(asyncio.Transport):
    def __init__(
        self,
        loop: LoopBase,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
    ) -> None: ...
