"""Many of everything, each in an interpreter of its own: no crash, no hang, nothing left over."""

from __future__ import annotations

import pytest

CONNECTIONS = """
import asyncio, resource, sys
import puff
N = 10_000
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 2 * N + 100
if hard != resource.RLIM_INFINITY and hard < wanted:
    N = (hard - 100) // 2
    wanted = hard
resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)

class Client(asyncio.Protocol):
    answered = lost = 0
    def connection_made(self, transport): transport.write(b"x")
    def data_received(self, data): Client.answered += 1
    def connection_lost(self, exc):
        Client.lost += 1

async def until(what):
    while not what():
        await asyncio.sleep(0.01)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
    address = server.sockets[0].getsockname()
    transports = []
    for _ in range(0, N, 200):
        n = min(200, N - len(transports))
        made = [loop.create_connection(Client, *address) for _ in range(n)]
        transports += [t for t, _ in await asyncio.gather(*made)]
    await until(lambda: Client.answered == N)
    for t in transports:
        t.close()
    await until(lambda: Client.lost == N)
    server.close()
    print(N)

puff.run(asyncio.wait_for(main(), 80))
"""

WSGI = """
import asyncio, os, resource, sys
import puff, puff.wsgi
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
N = 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - 400)
resource.setrlimit(resource.RLIMIT_NOFILE, (N + 400, hard))

CLIENT = '''
import socket, sys
port, n, pid = map(int, sys.argv[1:])
CRLF = bytes([13, 10]).decode()

def held():
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) * 1024

def ask(tag, sockets):
    for i, s in enumerate(sockets):
        lines = [f"GET /{tag}-{i} HTTP/1.1", "Host: crowd", "User-Agent: crowd", "Accept: */*"]
        s.sendall(CRLF.join([*lines, "", ""]).encode())
    for i, s in enumerate(sockets):
        got = b""
        while not got.endswith(b"<%s-%d>" % (tag.encode(), i)):
            piece = s.recv(4096)
            assert piece and got.count(b"<") == 0, (tag, i, got)
            got += piece

def opened(n):
    return [socket.create_connection(("127.0.0.1", port), 30) for _ in range(n)]

few, sockets = opened(100), []
ask("few", few)
before = held()
for start in range(0, n, 100):
    new = opened(100)
    ask(f"first{start}", new)
    sockets += new
first = held() - before
for round in "second", "third":
    ask(round, sockets)  # all at once
print(len(sockets), first // len(sockets))
'''

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"<%s>" % environ["PATH_INFO"][1:].encode()]

async def main():
    options = {"backlog": 1024, "http": {"max_connections": N + 200}}
    async with puff.wsgi.Server(app, bind="127.0.0.1:0", **options) as server:
        port = server.addresses[0].rpartition(":")[2]
        argv = [sys.executable, "-c", CLIENT, port, str((N - 100) // 100 * 100), str(os.getpid())]
        client = await asyncio.create_subprocess_exec(*argv)
        assert await asyncio.wait_for(client.wait(), 80) == 0

puff.run(main())
"""

HAMMER = """
import asyncio, os, sys, threading, time
import puff
how = sys.argv[1]
loop = puff.new_event_loop()
stop = threading.Event()
ran = [0] * 8
sent = [0] * 8

def count(i):
    ran[i] += 1

def hammer(i):
    while not stop.is_set():
        try:
            handle = loop.call_soon_threadsafe(count, i)
        except RuntimeError:
            assert loop.is_closed()
            return
        sent[i] += 1
        if sent[i] % 7 == 0:
            handle.cancel()
        if sent[i] % 500 == 0:
            time.sleep(0.001)

threads = [threading.Thread(target=hammer, args=(i,)) for i in range(8)]

async def main():
    for t in threads:
        t.start()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if how == "sleeps":
            await asyncio.sleep(0.01)
        elif how == "works":
            sum(range(10000))
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0.0001)
            if time.monotonic() > end - 0.7:
                return

loop.run_until_complete(main())
if how == "closes":
    loop.close()
stop.set()
for t in threads:
    t.join(10)
    assert not t.is_alive()
if how != "closes":
    loop.run_until_complete(asyncio.sleep(0.01))
    for n, m in zip(ran, sent):
        assert m - m // 7 <= n <= m, (n, m)
    loop.close()
print(sum(ran))
"""

LOOPS = """
import asyncio, gc, os
import puff
def fds(): return len(os.listdir("/proc/self/fd"))
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
def one(i):
    loop = puff.new_event_loop()
    loop.call_soon(int)
    loop.call_later(100, int)
    loop.run_until_complete(asyncio.sleep(0))
    if i % 2:
        loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0)).close()
    loop.close()
for i in range(200): one(i)
gc.collect()
n, size = fds(), rss()
for i in range(1000): one(i)
gc.collect()
assert fds() == n, (n, fds())
assert rss() - size < 4 << 20, rss() - size
"""

BUFFERS = """
import asyncio, mmap, resource, socket, sys
import puff

class Sized(asyncio.BufferedProtocol):
    def __init__(self, memory): self.memory, self.got = memory, b""
    def connection_made(self, transport): self.lost = asyncio.get_running_loop().create_future()
    def get_buffer(self, hint): return self.memory
    def buffer_updated(self, n): self.got += bytes(memoryview(self.memory).cast("B")[:n])
    def connection_lost(self, exc):
        self.lost.set_result(exc)

async def receive(memory):
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Sized(memory), sock=left)
    right.send(b"hello")
    right.close()
    exc = await asyncio.wait_for(protocol.lost, 10)
    return protocol.got, type(exc).__name__

async def big_write():
    left, right = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)
    data = memoryview(mmap.mmap(-1, (1 << 31) + 1))  # pages that are never touched
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))
    try:
        transport.write(data)
    except MemoryError:
        print("refused")
    transport.abort()
    right.close()
    await asyncio.sleep(0)

async def main():
    assert await receive(bytearray(1)) == (b"hello", "NoneType")
    assert await receive(mmap.mmap(-1, 1 << 32)) == (b"hello", "NoneType")
    for wrong in (b"readonly", None, 5, bytearray()):
        got, exc = await receive(wrong)
        assert got == b"" and exc in ("TypeError", "BufferError", "RuntimeError"), (wrong, got, exc)
    await big_write()

loop = puff.new_event_loop()
loop.set_exception_handler(lambda *_: None)
loop.run_until_complete(main())
loop.close()
"""

FORK = """
import asyncio, os, signal, socket, sys
import puff
how = sys.argv[1]

async def main():
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    seen = []
    class Protocol(asyncio.Protocol):
        def data_received(self, data): seen.append(data)
    transport, _ = await loop.create_connection(Protocol, sock=left)
    timer = loop.call_later(0.05, seen.append, "timer")
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            if how == "ignores":
                os._exit(0)
            if how == "own loop":
                asyncio._set_running_loop(None)
                os._exit(puff.run(asyncio.sleep(0.001, 0)))
            if how == "goes on":  # the parent's loop does not run in the child: asyncio's words
                try:
                    await asyncio.sleep(0.001)
                except RuntimeError as exc:
                    os._exit(str(exc) != "no running event loop")
            if how == "closes":
                transport.abort()
                loop.stop()
                raise SystemExit(0)
        finally:
            if how != "closes":
                os._exit(1)
    status = await loop.run_in_executor(None, os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status[1]) == 0, status
    if how != "closes":
        right.send(b"still here")
    await asyncio.sleep(0.1)
    assert "timer" in seen, seen
    assert how == "closes" or b"still here" in seen, seen
    transport.abort()
    right.close()

loop = puff.new_event_loop()
try:
    loop.run_until_complete(asyncio.wait_for(main(), 15))
finally:
    loop.close()
"""


@pytest.mark.timeout(100)
def test_ten_thousand_connections_on_one_loop(run_python) -> None:
    assert int(run_python(CONNECTIONS, timeout=90).stdout) > 1000


@pytest.mark.timeout(100)
def test_ten_thousand_keep_alive_connections_of_a_wsgi_app(run_python) -> None:
    """From another process; each answer is its own. What one holds after a request is bounded."""
    n, held = map(int, run_python(WSGI, timeout=90).stdout.split())
    assert n > 1000
    assert held < 2700  # 2.2 KiB measured


@pytest.mark.parametrize("how", ["sleeps", "works", "closes"])
def test_threads_hammer_call_soon_threadsafe(run_python, how) -> None:
    assert int(run_python(HAMMER, how).stdout) > 0


def test_a_thousand_loops_leave_nothing(run_python) -> None:
    run_python(LOOPS)


def test_buffers_of_every_size_and_kind(run_python) -> None:
    assert run_python(BUFFERS).stdout == "refused\n"


@pytest.mark.parametrize("how", ["ignores", "own loop", "goes on", "closes"])
def test_fork_in_a_running_loop(run_python, how) -> None:
    run_python(FORK, how)
