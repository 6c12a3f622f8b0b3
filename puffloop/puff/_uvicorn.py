"""The rows that the start-up hook adds to uvicorn's tables of loops (puffloop/_puff_hook.py).

uvicorn imports this only when it is told `--loop puff`.
"""

from __future__ import annotations

from puff.policy import Loop, install

__all__ = ["factory", "setup"]


def factory(use_subprocess: bool = False) -> type[Loop]:
    """uvicorn 0.36 and later: what makes the loop. `use_subprocess` is uvicorn's, for Windows."""
    return Loop


def setup(use_subprocess: bool = False) -> None:
    """uvicorn up to 0.35: makes the policy ours; asyncio.run() then makes the loop."""
    install()
