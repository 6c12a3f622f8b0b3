"""Wrong types, wrong descriptors, closed loops: for every public method of a loop the answer is
asyncio's, or an honest exception where asyncio's is an accident; and the process lives.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HONEST = {"TypeError", "ValueError", "OSError", "RuntimeError", "OverflowError", "BufferError"}
HONEST |= {"PermissionError", "FileNotFoundError", "ConnectionError", "NotImplementedError"}
# They run, end or replace the loop itself, and have tests of their own.
APART = {"run_forever", "close", "stop", "is_running", "is_closed", "time", "create_future"}
if sys.version_info < (3, 11):  # takes anything, and then cannot be closed
    APART.add("set_default_executor")


class Odd:
    """A descriptor's owner that lies."""

    def __init__(self, number: object) -> None:
        self.number = number

    def fileno(self) -> Any:
        return self.number


def junk() -> dict[str, Any]:
    return {
        "None": None, "-1": -1, "1<<31": 1 << 31, "1<<64": 1 << 64, "True": True, "1.5": 1.5,
        "nan": float("nan"), "str": "::1", "bytes": b"x", "object": object(), "list": [],
        "class": int, "function": len, "closed": 987, "Odd(-1)": Odd(-1), "Odd(str)": Odd("x"),
        "Odd(big)": Odd(1 << 40),
    }  # fmt: skip


def methods() -> Iterator[tuple[str, int]]:
    """(name, how many positional arguments it requires)"""
    for name, function in inspect.getmembers(asyncio.AbstractEventLoop, inspect.isfunction):
        if name.startswith("_") or name in APART:
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        plain = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
        yield name, len([p for p in plain if p.default is p.empty])


def answer(
    make: Any, name: str, args: tuple[Any, ...], closed: bool, patience_s: float = 0.05
) -> str:
    loop = make()
    loop.set_exception_handler(lambda *_: None)
    if closed:
        loop.close()
    try:
        result = getattr(loop, name)(*args)
        if inspect.isawaitable(result):
            if closed:
                next(result.__await__())
                return "waits"
            loop.run_until_complete(asyncio.wait_for(result, patience_s))
        elif not closed:
            loop.call_soon(loop.stop)
            loop.run_forever()
    except StopIteration:
        pass
    except BaseException as exc:
        return type(exc).__name__
    finally:
        loop.close()
    return "ok"


def calls(closed: bool) -> Iterator[tuple[str, str, str, str]]:
    """(method, what with, asyncio's answer, ours) where ours is neither asyncio's nor honest."""
    import puff

    for name, n in methods():
        cases = [("nothing", ()), ("too many", (None,) * 40)]
        cases += [(f"all {k}", (v,) * n) for k, v in junk().items() if n]
        cases += [(f"len, then {k}", (len, *(v,) * (n - 1))) for k, v in junk().items() if n > 1]
        cases += [(f"0, then {k}", (0, *(v,) * (n - 1))) for k, v in junk().items() if n > 1]
        for title, args in cases:
            print(name, title, file=sys.stderr)  # the last line, if it crashes
            expected = answer(asyncio.SelectorEventLoop, name, args, closed)
            ours = answer(puff.new_event_loop, name, args, closed)
            if ours != expected and "TimeoutError" in (ours, expected):  # the machine was busy
                expected = answer(asyncio.SelectorEventLoop, name, args, closed, 5)
                ours = answer(puff.new_event_loop, name, args, closed, 5)
            if (ours == "OverflowError" and "1<<" in title) or "big" in title:
                continue  # no descriptor has such a number
            if ours != expected and not (ours in HONEST and expected not in ("ok", "waits")):
                yield name, title, expected, ours


@pytest.mark.timeout(150)
@pytest.mark.parametrize("state", ["open", "closed"])
def test_every_method_answers_junk_as_asyncio_does(run_python, state) -> None:
    done = run_python(Path(__file__), state, timeout=140, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [tuple(d) for d in json.loads(done.stdout.splitlines()[-1])] == []


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(list(calls(sys.argv[1] == "closed"))))
