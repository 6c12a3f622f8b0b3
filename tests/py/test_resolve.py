"""getaddrinfo() and getnameinfo() of the loop answer as the socket module's do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import puff

STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW


def run(loop: asyncio.AbstractEventLoop, main) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main, 30))


def outcome(ask) -> Any:
    """A result with the types of its parts, or an exception's type and arguments."""
    try:
        result = ask()
    except Exception as exc:
        return type(exc), exc.args
    return [[(type(part), part) for part in info] for info in result]


def same_as_socket(loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any) -> Any:
    expected = outcome(lambda: socket.getaddrinfo(*args, **kwargs))
    got = outcome(lambda: run(loop, loop.getaddrinfo(*args, **kwargs)))
    assert got == expected
    return got


HOSTS = [
    "127.0.0.1", b"127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", b"::1", "fe80::1",
    "::ffff:1.2.3.4", "2001:DB8::0:1", "0:0:0:0:0:0:0:1", "fe80::1%lo", "fe80::1%1", "::1%lo",
    "fe80::1%nowhere", "ff02::1%1", "127.1", "0x7f.1", "010.0.0.1", "127.0.0.1.", " 127.0.0.1",
    "1.2.3.256", "1.2.3", "[::1]", "::1::", "%lo", None,
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("port", [80, "80", b"80", None, 0, 65535])
def test_addresses(puff_loop, host, port) -> None:
    for family in (0, socket.AF_INET, socket.AF_INET6):
        for type in (0, STREAM, DGRAM, RAW):
            flags = socket.AI_NUMERICHOST  # what is no address after all asks nobody
            same_as_socket(puff_loop, host, port, family=family, type=type, flags=flags)


@pytest.mark.parametrize("port", [
    "", b"", "http", b"http", "domain", "nosuchservice", "+80", " 80", "80 ", "080", "00000080",
    "65536", "99999", "8\0", -1, 65536, 70000, 1 << 40, 1 << 70, True, 1.5, [], "\u0663", "é", "*",
])  # fmt: skip
@pytest.mark.parametrize("type", [0, STREAM, DGRAM])
def test_ports_and_services(puff_loop, port, type) -> None:
    same_as_socket(puff_loop, "127.0.0.1", port, type=type)
    same_as_socket(puff_loop, None, port, type=type, flags=socket.AI_PASSIVE)


@pytest.mark.parametrize("proto", [0, 6, 17, 1, 132, 136, 255, -1])
@pytest.mark.parametrize("type", [0, STREAM, DGRAM, RAW, socket.SOCK_SEQPACKET, 77, -1])
def test_kinds_and_protocols(puff_loop, type, proto) -> None:
    same_as_socket(puff_loop, "127.0.0.1", 80, type=type, proto=proto)
    same_as_socket(puff_loop, "::1", 80, type=type, proto=proto)


FLAGS = [
    socket.AI_PASSIVE, socket.AI_NUMERICSERV, socket.AI_CANONNAME, socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED, socket.AI_ALL | socket.AI_V4MAPPED,
    socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV, 1 << 20, -1,
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("family", [
    0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 12345, -1,
])  # fmt: skip
def test_flags_and_families(puff_loop, family, flags) -> None:
    for host in ("127.0.0.1", "::1", None, "localhost"):
        same_as_socket(puff_loop, host, 80, family=family, type=STREAM, flags=flags)


@pytest.mark.parametrize("host", [
    "localhost", b"localhost", "LOCALHOST", "localhost.", "", b"", "nosuch.invalid",
    "a" * 64 + ".invalid", "x." * 200 + "invalid", "a..b", ".", "é.invalid", "\udcff",
    b"\xff\xfe", "local\0host",
])  # fmt: skip
def test_names(puff_loop, host) -> None:
    same_as_socket(puff_loop, host, 80, type=STREAM)
    same_as_socket(puff_loop, host, "http")
    same_as_socket(puff_loop, host, None, family=socket.AF_INET, type=DGRAM)
    same_as_socket(puff_loop, host, 80, type=STREAM, flags=socket.AI_CANONNAME)


@pytest.mark.parametrize("args", [
    (1, 80), (bytearray(b"127.0.0.1"), 80), (object(), 80), (None, None), ((), 80),
])  # fmt: skip
def test_wrong_hosts(puff_loop, args) -> None:
    same_as_socket(puff_loop, *args)


@pytest.mark.parametrize("name", ["family", "type", "proto", "flags"])
@pytest.mark.parametrize("value", ["x", None, 1.5, 1 << 40, -(1 << 40), 1 << 70])
def test_wrong_numbers(puff_loop, name, value) -> None:
    expected = outcome(lambda: socket.getaddrinfo("localhost", 80, **{name: value}))
    got = outcome(lambda: run(puff_loop, puff_loop.getaddrinfo("localhost", 80, **{name: value})))
    assert isinstance(got, tuple) and got[0] is expected[0]


def test_members_of_enums_come_back(loop) -> None:
    for host in ("127.0.0.1", "localhost"):
        info = run(loop, loop.getaddrinfo(host, 80, family=socket.AF_INET, type=STREAM))[0]
        assert info[0] is socket.AF_INET and info[1] is socket.SOCK_STREAM


def test_an_answer_is_its_receivers_own(puff_loop) -> None:
    first = run(puff_loop, puff_loop.getaddrinfo("127.0.0.1", 80, type=STREAM))
    first.clear()
    assert run(puff_loop, puff_loop.getaddrinfo("127.0.0.1", 80, type=STREAM))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_is_a_coroutine(loop, host) -> None:
    async def main() -> None:
        expected = socket.getaddrinfo(host, 80, type=STREAM)
        coro = loop.getaddrinfo(host, 80, type=STREAM)
        assert asyncio.iscoroutine(coro) and inspect.isawaitable(coro)
        task = loop.create_task(coro)
        assert await task == expected
        asked = [loop.getaddrinfo(host, 80, type=STREAM) for _ in range(20)]
        assert await asyncio.gather(*asked) == [expected] * 20
        assert await asyncio.wait_for(loop.getaddrinfo(host, 80, type=STREAM), 5) == expected
        never = loop.getaddrinfo(host, 80)
        never.close()
        with pytest.raises(TypeError):
            await loop.getaddrinfo(host, 80, 0)

    assert asyncio.iscoroutinefunction(loop.getaddrinfo)
    run(loop, main())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_other_threads_may_ask(loop) -> None:
    async def main() -> Any:
        def ask() -> Any:
            coro = loop.getaddrinfo("localhost", 80, type=STREAM)
            return asyncio.run_coroutine_threadsafe(coro, loop).result(10)

        return await loop.run_in_executor(None, ask)

    assert run(loop, main()) == socket.getaddrinfo("localhost", 80, type=STREAM)


def test_cancelling_a_question(loop) -> None:
    ours = isinstance(loop, puff.Loop)

    async def main() -> None:
        for _ in range(50):
            task = loop.create_task(loop.getaddrinfo("localhost", 80))
            await asyncio.sleep(0)
            task.cancel()
            with (
                pytest.raises(asyncio.CancelledError)
                if ours
                else contextlib.suppress(
                    asyncio.CancelledError  # or its thread was faster than we
                )
            ):
                await task
        await asyncio.sleep(0.01)

    run(loop, main())


def test_closing_the_loop_with_a_question_under_way(loop) -> None:
    async def main() -> list[asyncio.Task[Any]]:
        tasks = [loop.create_task(loop.getaddrinfo("localhost", 80)) for _ in range(20)]
        await asyncio.sleep(0)
        return tasks

    tasks = run(loop, main())
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_closed_loop_answers_nothing(loop) -> None:
    loop.close()
    coro = loop.getaddrinfo("127.0.0.1", 80, type=STREAM)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        coro.send(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", None])
def test_a_patched_socket_module_is_honoured(loop, monkeypatch, host) -> None:
    threads = []

    def fake(*args: Any) -> list[str]:
        threads.append(threading.current_thread())
        return ["fake", *map(str, args)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    got = run(loop, loop.getaddrinfo(host, 80, type=STREAM))
    assert got == ["fake", str(host), "80", "0", str(STREAM), "0", "0"]
    assert threads[0] is not threading.main_thread()
    monkeypatch.undo()
    assert run(loop, loop.getaddrinfo("127.0.0.1", 80, type=STREAM))[0][4] == ("127.0.0.1", 80)


def test_a_patched_core_module_is_honoured(loop, monkeypatch) -> None:
    monkeypatch.setattr(socket._socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", "fake")])
    assert run(loop, loop.getaddrinfo("127.0.0.1", 80, type=STREAM))[0][4] == "fake"


def test_a_socket_module_that_only_asyncio_sees_is_honoured(loop, monkeypatch) -> None:
    class Fake:
        def getaddrinfo(self, *args: Any) -> list[str]:
            return ["fake"]

        getnameinfo = getaddrinfo

    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    monkeypatch.setattr(asyncio.base_events, "socket", Fake())
    assert run(loop, loop.getaddrinfo("127.0.0.1", 80, type=STREAM)) == ["fake"]
    assert run(loop, loop.getnameinfo(("127.0.0.1", 80), numeric)) == ["fake"]


def test_debug_mode_logs(loop, caplog) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    with caplog.at_level("DEBUG", "asyncio"):
        run(loop, loop.getaddrinfo("127.0.0.1", 80, type=STREAM))
    assert any("Get address info 127.0.0.1:80" in r.getMessage() for r in caplog.records)


def test_audit_hooks_hear_of_it() -> None:
    code = """
import asyncio, socket, sys, puff
heard = []
sys.addaudithook(lambda event, args: heard.append(args) if event == "socket.getaddrinfo" else None)
async def main():
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert heard == [("127.0.0.1", 80, 0, 1, 0)], heard
    await loop.getaddrinfo("localhost", 80)
    assert heard[1] == ("localhost", 80, 0, 0, 0), heard
puff.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# ---- who asks it --------------------------------------------------------------------------------


def test_connections_by_address_name_and_list(loop) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), ["127.0.0.1", "localhost"], 0)
        async with server:
            for sock in server.sockets:
                host, port = sock.getsockname()[:2]
                for name in {host, "localhost"}:
                    reader, writer = await asyncio.open_connection(name, port, family=sock.family)
                    assert await reader.read() == b""
                    writer.close()
            with pytest.raises(socket.gaierror):
                await asyncio.open_connection("nosuch.invalid", port)

    run(loop, main())


def test_a_loop_with_a_getaddrinfo_of_its_own(loop) -> None:
    asked = []

    async def mine(host: str, port: int, **kwargs: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", port))]

    async def main() -> None:
        async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
            loop.getaddrinfo = mine  # type: ignore[method-assign]
            _, writer = await asyncio.open_connection(
                "some.where", server.sockets[0].getsockname()[1]
            )
            writer.close()

    run(loop, main())
    assert asked == ["some.where"]


# ---- getnameinfo --------------------------------------------------------------------------------


@pytest.mark.parametrize("addr", [
    ("127.0.0.1", 80), ("::1", 80), ("::1", 80, 0, 0), ("fe80::1", 80, 0, 1), ("localhost", 80),
    ("127.0.0.1", 1 << 20), ("127.0.0.1",), (), "127.0.0.1", None, ("127.0.0.1", "http"),
    ("1.2.3.4", 80, 0, 0, 0), ("", 80),
])  # fmt: skip
@pytest.mark.parametrize("flags", [
    socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
    socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_DGRAM,
    socket.NI_NUMERICHOST, "x",
])  # fmt: skip
def test_getnameinfo(loop, addr, flags) -> None:
    def told(ask) -> Any:
        try:
            return ask()
        except Exception as exc:
            return type(exc), exc.args

    expected = told(lambda: socket.getnameinfo(addr, flags))
    assert told(lambda: run(loop, loop.getnameinfo(addr, flags))) == expected


def test_getnameinfo_without_flags_looks_up(loop) -> None:
    expected = socket.getnameinfo(("127.0.0.1", 80), 0)
    assert run(loop, loop.getnameinfo(("127.0.0.1", 80))) == expected


def test_a_patched_getnameinfo_is_honoured(loop, monkeypatch) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert run(loop, loop.getnameinfo(("127.0.0.1", 80), flags)) == (("127.0.0.1", 80), flags)


# ---- what nobody waits for -----------------------------------------------------------------------

SLOW_C = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **res) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    while (!(hints->ai_flags & AI_NUMERICHOST) && strncmp(host, "slow", 4) == 0) pause();
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(host, service, hints, res);
}
"""
SLOW_PY = """
import asyncio, os, time
import puff

def asked(loop):
    loop.set_debug(False)  # else asyncio's own method asks
    async def ask():
        tasks = [loop.create_task(loop.getaddrinfo(f"slow{i}.test", 80)) for i in range(4)]
        for _ in range(3):
            await asyncio.sleep(0.01)  # for the threads to begin
        return tasks
    return loop.run_until_complete(ask())
"""


def run_with_a_slow_resolver(folder: Path, code: str) -> str:
    """What a program prints for whose C library names that begin with slow take for ever."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler")
    (folder / "slow.c").write_text(SLOW_C)
    command = [cc, "-shared", "-fPIC", "-o", folder / "slow.so", folder / "slow.c", "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return subprocess.run(
        [sys.executable, "-c", SLOW_PY + textwrap.dedent(code)],
        check=True,
        timeout=30,
        text=True,
        stdout=subprocess.PIPE,
        # Behind a sanitizer's runtime, which must be the first.
        env={**os.environ, "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {folder}/slow.so"},
    ).stdout


def test_close_does_not_wait_for_a_name(tmp_path: Path) -> None:
    assert (
        run_with_a_slow_resolver(
            tmp_path,
            """
        loop = puff.new_event_loop()
        asked(loop)
        began = time.monotonic()
        loop.close()
        print("closed", time.monotonic() - began < 2)
    """,
        )
        == "closed True\n"
    )


def test_a_forked_child_does_not_wait_for_its_parents_names(tmp_path: Path) -> None:
    assert (
        run_with_a_slow_resolver(
            tmp_path,
            """
        loop = puff.new_event_loop()
        tasks = asked(loop)
        pid = os.fork()
        if pid == 0:
            for infos in loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True)):
                assert isinstance(infos, OSError), infos
            assert loop.run_until_complete(loop.getaddrinfo("localhost", 80))
            loop.close()
            os._exit(0)
        print("child", os.waitpid(pid, 0)[1])
        loop.close()
    """,
        )
        == "child 0\n"
    )


def test_a_forked_child_may_close_a_loop_that_asks_for_names(tmp_path: Path) -> None:
    assert (
        run_with_a_slow_resolver(
            tmp_path,
            """
        loop = puff.new_event_loop()
        asked(loop)
        pid = os.fork()
        if pid == 0:
            loop.close()
            os._exit(0)
        print("child", os.waitpid(pid, 0)[1])
        loop.close()
    """,
        )
        == "child 0\n"
    )
