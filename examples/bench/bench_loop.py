"""TCP echo and the small change of a loop: asyncio, uvloop, rloop, Puff, and libuv in C."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from harness import (
    OUT,
    SECONDS,
    Sample,
    client,
    compare,
    free_port,
    save,
    server,
    under_load,
    worker,
)

HERE = Path(__file__).parent
LOOPS = ("asyncio", "uvloop", "rloop", "puff")
MICRO = (
    "call_soon",
    "call_soon_args",
    "chain",
    "call_later_cancel",
    "threadsafe",
    "sleep0",
    "task",
)
CONNECTIONS = 64


def echo(argv: list[str], size: int) -> Sample:
    port = free_port()
    with server([*argv, str(port)], port) as pid:
        args = (str(port), str(size), str(CONNECTIONS))
        client(str(OUT / "echo_client"), *args, "0.5")
        return under_load(
            pid, lambda: int(client(str(OUT / "echo_client"), *args, str(SECONDS)).split()[0])
        )


def echo_case(mode: str, size: int) -> dict[str, partial[Sample]]:
    script = str(HERE / "work_echo.py")
    contenders = {loop: partial(echo, [sys.executable, script, loop, mode], size) for loop in LOOPS}
    contenders["C (libuv)"] = partial(echo, [str(OUT / "echo_limit")], size)
    return contenders


def micro_case(name: str) -> dict[str, partial[Sample]]:
    script = str(HERE / "work_micro.py")
    return {loop: partial(worker, script, loop, name) for loop in LOOPS}


def main() -> None:
    cases = {}
    for mode in ("protocol", "buffered", "streams", "sock"):
        for kib in (1, 10):
            case = f"TCP echo {kib} KiB, {mode}"
            cases[case] = compare(case, echo_case(mode, kib * 1024))
    for name in MICRO:
        cases[name] = compare(name, micro_case(name))
    save("loop", cases, ["uvloop", "rloop"])


if __name__ == "__main__":
    main()
