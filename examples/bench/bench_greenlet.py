"""Sync code beside the loop: greenlets of Puff and of gevent, asgiref on Puff and on threads, and
what each of the two patches."""

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


PATCHED = {"puff.monkey": "puff", "gevent.monkey": "gevent"}
MONKEY = {
    "patched: 1 KiB over TCP and back, 1 connection": "echo_1",
    "patched: the same, 64 connections": "echo_64",
    "patched: requests.Session().get(), 16 at once": "requests_16",
    "patched: time.sleep(0), 64 of them": "sleep_0",
    "patched: threading.Lock, free": "free_lock",
    "patched: threading.Lock, handed over": "lock",
    "patched: threading.Event, there and back": "event",
    "patched: queue.Queue(1)": "queues",
    "patched: queue.SimpleQueue": "simple_queues",
}


def main() -> None:
    work, monkey = str(HERE / "work_greenlet.py"), str(HERE / "work_monkey.py")
    table = [(title, work, case, who) for title, (case, who) in CASES.items()]
    table += [(title, monkey, case, PATCHED) for title, case in MONKEY.items()]
    cases = {
        title: compare(title, {name: partial(worker, file, key, case) for name, key in who.items()})
        for title, file, case, who in table
    }
    save("greenlet", cases, ["gevent", "greenlet", "asgiref", "uvloop", "requests"])


if __name__ == "__main__":
    main()
