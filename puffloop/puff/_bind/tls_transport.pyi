import asyncio
from ssl import SSLContext

from puff._bind.loop import LoopBase

class SSLProtocol(asyncio.BufferedProtocol):
    def __init__(
        self,
        loop: LoopBase,
        app_protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext | None,
        waiter: asyncio.Future[None] | None,
        server_side: bool = False,
        server_hostname: str | None = None,
        call_connection_made: bool = True,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None: ...

class SSLTransport(asyncio.Transport): ...
