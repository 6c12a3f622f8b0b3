"""work_echo.py LOOP protocol|buffered|streams|sock PORT - an echo server."""

from __future__ import annotations

import asyncio
import socket
import sys

from loops import factory

READ = 65536


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]
        self.memory = memoryview(bytearray(READ))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.memory

    def buffer_updated(self, n_bytes: int) -> None:
        self.write(self.memory[:n_bytes])


async def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ):
        writer.write(data)
    writer.close()


async def on_socket(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    with sock:
        while data := await loop.sock_recv(sock, READ):
            await loop.sock_sendall(sock, data)


async def serve(mode: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    if mode == "protocol":
        await loop.create_server(Echo, "127.0.0.1", port)
    elif mode == "buffered":
        await loop.create_server(BufferedEcho, "127.0.0.1", port)
    elif mode == "streams":
        await asyncio.start_server(on_stream, "127.0.0.1", port)
    else:
        await accept(loop, port)
    await asyncio.Event().wait()


async def accept(loop: asyncio.AbstractEventLoop, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tasks.add(asyncio.create_task(on_socket(loop, sock)))


loop = factory(sys.argv[1])()
loop.run_until_complete(serve(sys.argv[2], int(sys.argv[3])))
