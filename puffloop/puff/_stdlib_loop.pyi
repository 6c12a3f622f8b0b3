"""The interpreter's own asyncio loop; _bind/loop.pyi has its private half."""

import asyncio
from typing import Any

class StdlibLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: Any) -> None: ...
