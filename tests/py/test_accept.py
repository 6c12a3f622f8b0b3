"""What create_server() makes of connections, on asyncio's loop and ours."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import resource
import socket
from asyncio import constants

import pytest

import puff

var: contextvars.ContextVar[str] = contextvars.ContextVar("var")


class Kept(asyncio.Protocol):
    """Is in `all` from connection_made() on."""

    def __init__(self, made: list[Kept]) -> None:
        self.all = made
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.all.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def run(loop: asyncio.AbstractEventLoop, main) -> None:
    loop.run_until_complete(asyncio.wait_for(main(loop), 30))


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def close_all(server: asyncio.AbstractServer, made: list[Kept], peers: list) -> None:
    for kept in made:
        kept.transport.close()
        await kept.lost
    for peer in peers:
        peer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_knows_both_of_its_ends(loop, host) -> None:
    async def main(loop) -> None:
        made: list[Kept] = []
        server = await loop.create_server(lambda: Kept(made), host, 0)
        address = server.sockets[0].getsockname()
        peers = [socket.create_connection(address[:2]) for _ in range(3)]
        await until(lambda: len(made) == 3)
        ends = {kept.transport.get_extra_info("peername") for kept in made}
        assert ends == {peer.getsockname() for peer in peers}
        for kept in made:
            assert kept.transport.get_extra_info("sockname") == address
            sock = kept.transport.get_extra_info("socket")
            assert (sock.family, sock.type) == (peers[0].family, socket.SOCK_STREAM)
            assert sock.gettimeout() == 0 and not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await close_all(server, made, peers)

    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    run(loop, main)


def test_a_connection_to_a_path_knows_both_of_its_ends(loop, tmp_path) -> None:
    async def main(loop) -> None:
        made: list[Kept] = []
        server = await loop.create_unix_server(lambda: Kept(made), str(tmp_path / "s"))
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(tmp_path / "s"))
        await until(lambda: made)
        assert made[0].transport.get_extra_info("sockname") == str(tmp_path / "s")
        assert made[0].transport.get_extra_info("peername") == ""
        await close_all(server, made, [peer])

    run(loop, main)


def test_each_connection_has_a_context_of_its_own(loop) -> None:
    async def main(loop) -> None:
        seen: list[str] = []

        def factory() -> Kept:
            seen.append(var.get())
            var.set("changed by a factory")
            return Kept(made)

        made: list[Kept] = []
        var.set("of the server's maker")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        var.set("changed since")
        peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: len(made) == 3)
        assert seen == ["of the server's maker"] * 3
        assert var.get() == "changed since"
        await close_all(server, made, peers)

    run(loop, main)


def test_a_factory_that_raises_costs_one_connection(loop, errors) -> None:
    async def main(loop) -> None:
        n_calls = 0

        def factory() -> Kept:
            nonlocal n_calls
            n_calls += 1
            if n_calls == 2:
                raise ValueError("not this one")
            return Kept(made)

        made: list[Kept] = []
        server = await loop.create_server(factory, "127.0.0.1", 0)
        peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: len(made) == 2)
        peers[1].setblocking(False)
        assert await loop.sock_recv(peers[1], 1) == b""
        assert not errors  # asyncio tells in debug mode only
        await close_all(server, made, peers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        run(loop, main)


def test_a_factory_may_close_the_server() -> None:
    loop, errors = puff.new_event_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def main(loop) -> None:
        def factory() -> asyncio.Protocol:
            calls.append(True)
            server.close()
            return asyncio.Protocol()

        calls: list[bool] = []
        server = await loop.create_server(factory, "127.0.0.1", 0)
        peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: calls)
        for peer in peers:  # no socket is left open: they end, or are reset
            peer.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(peer, 1) == b""
            peer.close()
        assert len(calls) == 1 and not errors

    run(loop, main)
    loop.close()


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_factory_leaves_the_loop(loop, exception) -> None:
    async def start() -> asyncio.AbstractServer:
        def factory() -> asyncio.Protocol:
            raise exception

        return await loop.create_server(factory, "127.0.0.1", 0)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    server = loop.run_until_complete(start())
    address = server.sockets[0].getsockname()
    with socket.create_connection(address), pytest.raises(exception):
        loop.run_until_complete(asyncio.wait_for(loop.create_future(), 30))
    loop.run_until_complete(stop())
    for task in asyncio.all_tasks(loop):  # wait_for()'s
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))


def test_out_of_descriptors_it_tries_again_later(loop, errors, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", 0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main(loop) -> None:
        made: list[Kept] = []
        server = await loop.create_server(lambda: Kept(made), "127.0.0.1", 0)
        peers = [socket.create_connection(server.sockets[0].getsockname())]
        resource.setrlimit(resource.RLIMIT_NOFILE, (peers[0].fileno() + 1, limits[1]))
        await until(lambda: errors)
        assert "out of system resource" in errors[0]["message"] and not made
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await until(lambda: made)
        await close_all(server, made, peers)

    try:
        run(loop, main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_task_is_made_for_a_connection() -> None:
    loop = puff.new_event_loop()
    made_tasks = 0

    def count(loop: asyncio.AbstractEventLoop, coro, **kwargs) -> asyncio.Task:
        nonlocal made_tasks
        made_tasks += 1
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main(loop) -> None:
        made: list[Kept] = []
        server = await loop.create_server(lambda: Kept(made), "127.0.0.1", 0)
        before = made_tasks
        peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(10)]
        await until(lambda: len(made) == 10)
        assert made_tasks == before
        await close_all(server, made, peers)

    loop.set_task_factory(count)
    run(loop, main)
    loop.close()
