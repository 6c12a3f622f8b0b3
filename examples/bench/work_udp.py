"""work_udp.py LOOP PORT - a UDP echo server."""

from __future__ import annotations

import asyncio
import sys

from loops import factory


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sendto = transport.sendto  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sendto(data, addr)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, ("127.0.0.1", port))
    await asyncio.Event().wait()


factory(sys.argv[1])().run_until_complete(serve(int(sys.argv[2])))
