"""Sync code beside the loop: greenlets of Puff and of gevent, asgiref on Puff and on threads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from harness import compare, save, worker

HERE = Path(__file__).parent
GREENLETS = {"puff": "puff", "gevent": "gevent", "asyncio tasks on uvloop": "tasks"}
ASGIREF = {"puff": "puff", "asgiref's threads, uvloop": "uvloop",
           "asgiref's threads, asyncio": "asyncio"}  # fmt: skip
NATIVE = {"puff.to_greenlet": "puff.to_greenlet"}
CASES = {
    "spawn and join, 100 at a time": ("spawn", GREENLETS),
    "yield to the others, 100 of them": ("yield", GREENLETS),
    "await sync_to_async(f)()": ("sync_to_async", ASGIREF | NATIVE),
    "the same, wrapped anew each time": ("sync_to_async_wrapped_anew", ASGIREF),
    "async_to_sync(g)() in sync_to_async": ("async_to_sync", ASGIREF),
}


def main() -> None:
    work = str(HERE / "work_greenlet.py")
    cases = {
        title: compare(
            title, {name: partial(worker, work, key, case) for name, key in contenders.items()}
        )
        for title, (case, contenders) in CASES.items()
    }
    save("greenlet", cases, ["gevent", "greenlet", "asgiref", "uvloop"])


if __name__ == "__main__":
    main()
