"""Accepting without a Task for each connection."""

import socket
import ssl
from asyncio import AbstractServer, BaseProtocol
from collections.abc import Callable
from typing import Any

class AcceptMethods:
    def _accept_connection(
        self,
        protocol_factory: Callable[[], BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: AbstractServer | None = None,
        backlog: int = 100,
        *timeouts: Any,
    ) -> None: ...
