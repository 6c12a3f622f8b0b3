"""For the tests of puff.monkey: the patch, crowds of greenlets, a slow HTTP server."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import puff
import puff.monkey

CROWD = 50
DELAY_S = 0.25  # what a server takes for one answer
# One after the other would take CROWD * DELAY_S = 12 s; a loaded machine needs some time for 50.
TOGETHER_S = 5.0


@contextmanager
def patched() -> Iterator[None]:
    with warnings.catch_warnings():  # pytest's modules are there already
        warnings.filterwarnings("ignore", "imported before puff.monkey")
        puff.monkey.patch_all()
    try:
        yield
    finally:
        puff.monkey.unpatch_all()


def on_greenlet(fn: Callable[..., Any], *args: Any) -> Any:
    """Runs it on a greenlet of a loop of its own."""

    async def main() -> Any:
        return await puff.spawn(fn, *args).join(timeout=30)

    return puff.run(main())


def crowd(fn: Callable[[int], Any], n: int = CROWD) -> tuple[list[Any], float]:
    """fn(0) ... fn(n - 1) on a greenlet each, and how long they all took."""

    async def main() -> tuple[list[Any], float]:
        begun = time.perf_counter()
        values = await puff.join_all([puff.spawn(fn, i) for i in range(n)], timeout=30)
        return values, time.perf_counter() - begun

    return puff.run(main())


def killed(fn: Callable[[], Any], *, after_s: float = 0.05) -> Any:
    """What a greenlet ends with that is killed where it waits."""

    async def main() -> Any:
        greenlet = puff.spawn(fn)
        await puff.sleep_ms(int(after_s * 1000))
        assert not greenlet.dead
        greenlet.kill()
        return await greenlet.join(timeout=10)

    return puff.run(main())


SERVER = """
import socket, ssl, sys, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["content-length"])))

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        time.sleep(float(query["s"][0]))
        self.answer(query["nonce"][0].encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 100
    daemon_threads = True

    def handle_error(self, request, address):
        pass  # clients that were killed

    def finish_request(self, request, address):
        if sys.argv[1:]:
            request.do_handshake()
        super().finish_request(request, address)

server = Server(("127.0.0.1", 0), Slow)
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def slow_http(certificate: Path | None = None) -> Iterator[str]:
    """The URL of a server whose GET /?s=SECONDS&nonce=X answers X, and whose POST echoes."""
    args = [] if certificate is None else [str(certificate)]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *args], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            port = int(process.stdout.readline())
            scheme = "http" if certificate is None else "https"
            yield f"{scheme}://localhost:{port}/"
        finally:
            process.kill()
