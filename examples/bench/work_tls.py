"""work_tls.py LOOP PEM PAIRS - prints the KiB of memory that a pair of TLS connections takes.

Both ends live on one loop; each pair has echoed 20 KiB, so that every buffer has been used once.
The first pairs are not counted: they pay for modules, arenas and the session cache.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from pathlib import Path

from loops import factory
from work_echo import on_stream, server_context

WARM, MESSAGE = 20, b"x" * 20480


def resident_kib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


async def pair(port: int, context: ssl.SSLContext) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(MESSAGE)
    await reader.readexactly(len(MESSAGE))
    return writer


async def main(pem: str, n: int) -> None:
    server = await asyncio.start_server(on_stream, "127.0.0.1", 0, ssl=server_context(pem))
    port = server.sockets[0].getsockname()[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    open_ones = [await pair(port, context) for _ in range(WARM)]
    before = resident_kib()
    open_ones += [await pair(port, context) for _ in range(n)]
    print((resident_kib() - before) / n, flush=True)


factory(sys.argv[1])().run_until_complete(main(sys.argv[2], int(sys.argv[3])))
