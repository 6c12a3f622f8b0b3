"""What a run inside a callback puts aside."""

import asyncio
from contextvars import Context
from typing import Any

_Aside = tuple[asyncio.Task[Any] | None, list[Context]]

def leave(loop: asyncio.AbstractEventLoop) -> _Aside: ...
def come_back(loop: asyncio.AbstractEventLoop, aside: _Aside) -> None: ...
