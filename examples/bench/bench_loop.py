"""The loop's table: asyncio, uvloop, rloop, Puff, and the same work in C."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import (
    OUT,
    SECONDS,
    Sample,
    client,
    compare,
    free_port,
    numbers,
    save,
    server,
    under_load,
    weigh,
    worker,
)

HERE = Path(__file__).parent
LOOPS = ("asyncio", "uvloop", "rloop", "puff")
NO_RLOOP = tuple(loop for loop in LOOPS if loop != "rloop")  # it has neither TLS nor Unix sockets
MICRO = {
    "call_soon": "call_soon",
    "call_soon, 3 args": "call_soon_args",
    "chain of call_soon": "chain",
    "call_later + cancel": "call_later_cancel",
    "timers firing": "timers",
    "call_soon_threadsafe, own thread": "threadsafe",
    "call_soon_threadsafe, another thread": "threadsafe_thread",
    "sleep(0)": "sleep0",
    "future hop": "future",
    "create_task(noop)": "task",
    "gather of noop tasks": "gather",
    "executor round trip": "executor",
    "getaddrinfo of a literal": "getaddrinfo",
}
CONNECTIONS, WINDOW, PAIRS = "64", 64, "200"
Contenders = dict[str, Callable[[], Sample]]


def script(name: str, *args: str) -> list[str]:
    return [sys.executable, str(HERE / name), *args]


def tool(name: str) -> str:
    return str(OUT / name)


def loaded(argv: list[str], at: int | str, load: list[str]) -> Sample:
    """A server under a client of C, whose last argument is how long it runs; warmed up first."""
    with server(argv, at) as pid:
        client(*load, "0.3")
        return under_load(pid, lambda: int(client(*load, str(SECONDS)).split()[0]))


def tcp_echo(argv: list[str], size: int) -> Sample:
    port = free_port()
    load = [tool("echo_client"), str(port), str(size), CONNECTIONS]
    return loaded([*argv, str(port)], port, load)


def unix_echo(argv: list[str], size: int) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        return loaded([*argv, path], path, [tool("echo_client"), path, str(size), CONNECTIONS])


def tls_echo(argv: list[str], pem: str, size: int) -> Sample:
    port = free_port()
    load = [tool("tls_client"), str(port), str(size), CONNECTIONS]
    return loaded([*argv, str(port), pem], port, load)


def connects(argv: list[str]) -> Sample:
    port = free_port()
    return loaded([*argv, str(port)], port, [tool("connect_client"), str(port), "16"])


def udp_echo(argv: list[str], clients: int) -> Sample:
    """The same number of datagrams under way, from one socket or from many."""
    port = free_port()
    load = [tool("udp_client"), str(port), "512", str(clients), str(WINDOW // clients)]
    return loaded([*argv, str(port)], f"udp:{port}", load)


def with_limit(contenders: Contenders, name: str, limit: Callable[[], Sample]) -> Contenders:
    return {**contenders, f"C ({name})": limit}


def micro_cases() -> dict[str, Contenders]:
    work = str(HERE / "work_micro.py")
    cases: dict[str, Contenders] = {
        title: {loop: partial(worker, work, loop, name) for loop in LOOPS}
        for title, name in MICRO.items()
    }
    spawn = str(HERE / "work_process.py")
    cases["spawn and wait, /bin/true"] = {loop: partial(worker, spawn, loop) for loop in LOOPS}
    return cases


def stream_cases() -> dict[str, Contenders]:
    cases: dict[str, Contenders] = {}
    limit = [tool("echo_limit")]
    for mode in ("protocol", "buffered", "streams", "sock"):
        for kib in (1, 10, 100):
            runs: Contenders = {
                loop: partial(tcp_echo, script("work_echo.py", loop, mode), kib * 1024)
                for loop in LOOPS
            }
            title = f"TCP echo {kib} KiB, {mode}"
            cases[title] = with_limit(runs, "libuv", partial(tcp_echo, limit, kib * 1024))
    for mode in ("protocol", "streams"):
        runs = {
            loop: partial(unix_echo, script("work_echo.py", loop, mode), 1024) for loop in NO_RLOOP
        }
        title = f"Unix echo 1 KiB, {mode}"
        cases[title] = with_limit(runs, "libuv", partial(unix_echo, limit, 1024))
    runs = {loop: partial(connects, script("work_echo.py", loop, "protocol")) for loop in LOOPS}
    cases["connect, accept, close"] = with_limit(runs, "libuv", partial(connects, limit))
    return cases


def udp_cases() -> dict[str, Contenders]:
    cases: dict[str, Contenders] = {}
    for clients in (1, 64):
        runs: Contenders = {
            loop: partial(udp_echo, script("work_udp.py", loop), clients) for loop in LOOPS
        }
        limit = partial(udp_echo, [tool("udp_limit")], clients)
        title = f"UDP echo 512 B, {clients} client" + "s" * (clients > 1)
        cases[title] = with_limit(runs, "libuv", limit)
    return cases


def tls_cases(pem: str) -> dict[str, Contenders]:
    cases: dict[str, Contenders] = {}
    for mode in ("protocol", "streams"):
        for kib in (1, 10):
            size = kib * 1024
            runs: Contenders = {
                loop: partial(tls_echo, script("work_echo.py", loop, mode), pem, size)
                for loop in NO_RLOOP
            }
            limit = partial(tls_echo, [tool("tls_limit")], pem, size)
            cases[f"TLS echo {kib} KiB, {mode}"] = with_limit(runs, "OpenSSL", limit)
    return cases


def tls_pair_kib(loop: str, pem: str) -> float:
    return numbers(str(HERE / "work_tls.py"), loop, pem, PAIRS)[0]


def certificate(folder: str) -> str:
    """A key and a certificate for it, in one file."""
    pem = f"{folder}/server.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    argv = ["openssl", "req", "-x509", *kind, "-subj", "/CN=localhost", "-keyout", pem]
    made = subprocess.run([*argv, "-out", "/dev/stdout"], capture_output=True, check=True)
    with open(pem, "ab") as file:
        file.write(made.stdout)
    return pem


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pem = certificate(folder)
        table = micro_cases() | stream_cases() | udp_cases() | tls_cases(pem)
        cases = {title: compare(title, contenders) for title, contenders in table.items()}
        title = "memory of a TLS pair"
        sizes = {
            title: weigh(
                title, "KiB", {loop: partial(tls_pair_kib, loop, pem) for loop in NO_RLOOP}
            )
        }
    save("loop", cases, ["uvloop", "rloop"], sizes)


if __name__ == "__main__":
    main()
