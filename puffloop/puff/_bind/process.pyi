"""Child processes by pidfd."""

import asyncio
from typing import Any

class SubprocessTransport(asyncio.SubprocessTransport): ...

class ProcessMethods:
    async def _make_subprocess_transport(
        self,
        protocol: asyncio.BaseProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> asyncio.SubprocessTransport: ...
