"""work_echo.py LOOP protocol|buffered|streams|sock PORT|PATH [PEM] - an echo server.

With a PEM file (a key and its certificate) it speaks TLS. READ is what all modes read at most.
A BufferedProtocol writes copies: its buffer is the next read's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys

from loops import factory

READ = 65536
Context = ssl.SSLContext | None


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.write(data)


class Buffered(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]
        self.buffer = bytearray(READ)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.write(self.buffer[:n])


async def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ):
        writer.write(data)
    writer.close()


async def on_socket(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    with sock:
        while data := await loop.sock_recv(sock, READ):
            await loop.sock_sendall(sock, data)


async def serve(mode: str, at: str, context: Context) -> None:
    loop, port = asyncio.get_running_loop(), at.isdigit()
    if mode == "sock":
        await accept(loop, at)
    elif mode == "streams" and port:
        await asyncio.start_server(on_stream, "127.0.0.1", int(at), ssl=context)
    elif mode == "streams":
        await asyncio.start_unix_server(on_stream, at, ssl=context)
    else:
        protocol = Echo if mode == "protocol" else Buffered
        if port:
            await loop.create_server(protocol, "127.0.0.1", int(at), ssl=context)
        else:
            await loop.create_unix_server(protocol, at, ssl=context)
    await asyncio.Event().wait()


async def accept(loop: asyncio.AbstractEventLoop, at: str) -> None:
    if at.isdigit():
        listener = socket.create_server(("127.0.0.1", int(at)), backlog=128)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(at)
        listener.listen(128)
    listener.setblocking(False)
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        if at.isdigit():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tasks.add(asyncio.create_task(on_socket(loop, sock)))


def server_context(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


if __name__ == "__main__":
    loop = factory(sys.argv[1])()
    context = server_context(sys.argv[4]) if len(sys.argv) > 4 else None
    loop.run_until_complete(serve(sys.argv[2], sys.argv[3], context))
