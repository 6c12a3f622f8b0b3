"""TLS transports do what asyncio's do: each behaviour is tried on asyncio's loop, on ours, and on
ours with asyncio's own TLS protocol, as where the engine does not fit the interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import puff
from puff import _tls_loop

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="certificates need openssl")

MODERN = sys.version_info >= (3, 11)  # asyncio's TLS before that is another one
KINDS = ["asyncio", "puff", "stdlib"]
MIB = 1024 * 1024
PATIENCE_S = 20


class Certs(NamedTuple):
    cert: Path
    key: Path
    other_cert: Path
    other_key: Path


def make_cert(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", cert,
         "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, key


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    folder = tmp_path_factory.mktemp("certs")
    return Certs(*make_cert(folder, "localhost"), *make_cert(folder, "other"))


@pytest.fixture
def server_context(certs: Certs) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.cert, certs.key)
    return context


@pytest.fixture
def client_context(certs: Certs) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certs.cert)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "stdlib":
        monkeypatch.setenv("PUFF_TLS", "stdlib")
    _tls_loop.native_protocol.cache_clear()
    yield request.param
    _tls_loop.native_protocol.cache_clear()


@pytest.fixture
def loop(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop() if kind == "asyncio" else puff.new_event_loop()
    yield loop
    if not loop.is_closed() and (pending := asyncio.all_tasks(loop)):
        loop.run_until_complete(asyncio.wait(pending, timeout=1))  # a server's, that accept
    loop.close()


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Any], Any]:
    return lambda main: loop.run_until_complete(asyncio.wait_for(main, PATIENCE_S))


class Recorder(asyncio.Protocol):
    """Remembers what it is told; `lost` is done with connection_lost's argument."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[str] = []
        self.data = bytearray()
        self.made = loop.create_future()
        self.lost = loop.create_future()
        self.waiting: list[tuple[int, asyncio.Future]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")
        self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.events.append("data")
        for n, future in self.waiting:
            if len(self.data) >= n and not future.done():
                future.set_result(None)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    async def has(self, n: int) -> bytes:
        if len(self.data) < n:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((n, future))
            await future
        return bytes(self.data)


class Buffered(Recorder, asyncio.BufferedProtocol):
    """The same through a small buffer of its own."""

    size = 1000

    def get_buffer(self, sizehint: int) -> memoryview:
        self.buffer = bytearray(self.size)
        return memoryview(self.buffer)

    def buffer_updated(self, n: int) -> None:
        self.data_received(bytes(self.buffer[:n]))


class Pair(NamedTuple):
    client: Any
    server: Any
    close: Callable[[], None]


async def connect(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext,
    client: Any = Recorder, server: Any = Recorder, server_hostname: str = "localhost",
    **kwargs: Any,
) -> Pair:  # fmt: skip
    """A client and a server that have shaken hands."""
    loop = asyncio.get_running_loop()
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(server())
        return accepted[0]

    listener = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_context)
    port = listener.sockets[0].getsockname()[1]
    _, protocol = await loop.create_connection(
        client, "127.0.0.1", port, ssl=client_context, server_hostname=server_hostname, **kwargs
    )
    await accepted[0].made
    return Pair(protocol, accepted[0], listener.close)


def abort_again(transport: Any) -> None:
    """Of one that has ended: early 3.11's asyncio forgets that it may have."""
    try:
        transport.abort()
    except AttributeError:
        if transport.__class__.__module__ != "asyncio.sslproto":
            raise


async def finish(pair: Pair) -> None:
    pair.client.transport.close()
    await pair.client.lost
    await pair.server.lost
    pair.close()


def test_our_loop_uses_the_engine(kind: str) -> None:
    """On the interpreters that the tests run on; elsewhere only the last of three kinds is left."""
    native = _tls_loop.native_protocol()
    assert (native is None) == (kind == "stdlib")


@pytest.mark.parametrize("maker", [Recorder, Buffered])
@pytest.mark.parametrize("size", [1, 1000, 16384, 16385, 300_000])
def test_data_arrives_whole(
    run, server_context, client_context, maker: type[Recorder], size: int
) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context, maker, maker)
        data = random.Random(size).randbytes(size)
        pair.client.transport.write(data)
        assert await pair.server.has(size) == data
        pair.server.transport.writelines([data[:7], bytearray(data[7:]), b"", memoryview(b"end")])
        assert await pair.client.has(size + 3) == data + b"end"
        await finish(pair)
        assert await pair.client.lost is await pair.server.lost is None

    run(main())


def test_a_megabyte_passes_both_ways_at_once(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        there, back = os.urandom(MIB), os.urandom(MIB)
        pair.client.transport.write(there)
        pair.server.transport.write(back)
        assert await pair.server.has(MIB) == there
        assert await pair.client.has(MIB) == back
        await finish(pair)

    run(main())


def test_what_is_written_may_be_changed_after(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        data = bytearray(b"before")
        pair.client.transport.write(data)
        data[:] = b"after!"
        assert await pair.server.has(6) == b"before"
        await finish(pair)

    run(main())


def test_order_of_events(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        pair.client.transport.write(b"x")
        pair.client.transport.close()
        assert pair.client.transport.is_closing()
        assert await pair.server.lost is None
        assert await pair.client.lost is None
        if MODERN:
            assert pair.server.events == ["made", "data", "eof", "lost"]
            assert pair.client.events == ["made", "eof", "lost"]
        pair.close()

    run(main())


def test_extra_info_is_of_the_connection(run, certs, server_context, client_context) -> None:
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    client_context.set_alpn_protocols(["http/1.1"])

    async def main() -> None:
        pair = await connect(server_context, client_context)
        info = pair.client.transport.get_extra_info
        ssl_object = info("ssl_object")
        assert isinstance(ssl_object, ssl.SSLObject)
        assert info("sslcontext") is client_context
        assert ssl_object.context is client_context
        assert info("peercert") == ssl_object.getpeercert()
        assert info("peercert")["subject"] == ((("commonName", "localhost"),),)
        assert info("cipher") == ssl_object.cipher()
        assert info("compression") is None
        assert ssl_object.version() == "TLSv1.3"
        assert ssl_object.selected_alpn_protocol() == "http/1.1"
        assert ssl_object.server_hostname == "localhost"
        assert not ssl_object.server_side
        assert info("peername") == pair.server.transport.get_extra_info("sockname")
        assert info("socket").getpeername() == info("peername")
        assert info("nothing", 5) == 5
        assert pair.server.transport.get_extra_info("ssl_object").server_side
        assert pair.server.transport.get_extra_info("peercert") is None
        await finish(pair)
        assert info("cipher") == ssl_object.cipher()
        assert info("peername") is None

    run(main())


def test_server_sees_the_clients_certificate(run, certs, server_context, client_context) -> None:
    server_context.load_verify_locations(certs.other_cert)
    server_context.verify_mode = ssl.CERT_REQUIRED
    client_context.load_cert_chain(certs.other_cert, certs.other_key)

    async def main() -> None:
        pair = await connect(server_context, client_context)
        subject = pair.server.transport.get_extra_info("peercert")["subject"]
        assert subject == ((("commonName", "other"),),)
        await finish(pair)

    run(main())


def test_sni_callback_switches_the_context(run, certs, server_context) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(certs.other_cert, certs.other_key)
    asked: list[Any] = []

    def choose(sock: Any, name: str, context: ssl.SSLContext) -> None:
        asked.append((name, context))
        sock.context = other

    server_context.sni_callback = choose
    client_context = ssl.create_default_context(cafile=certs.other_cert)

    async def main() -> None:
        pair = await connect(server_context, client_context, server_hostname="other")
        assert asked == [("other", server_context)]
        assert pair.server.transport.get_extra_info("ssl_object").context is other
        pair.client.transport.write(b"hello")
        assert await pair.server.has(5) == b"hello"
        await finish(pair)

    run(main())


def test_session_is_resumed(run, server_context, client_context) -> None:
    """asyncio has no argument for it: a context that hands the session on has."""

    class Resuming(ssl.SSLContext):
        session = None

        def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
            return super().wrap_bio(*args, session=self.session, **kwargs)

    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def main() -> None:
        first = await connect(server_context, context)
        first.server.transport.write(b"hi")  # the ticket comes before it
        await first.client.has(2)
        context.session = first.client.transport.get_extra_info("ssl_object").session
        await finish(first)
        second = await connect(server_context, context)
        assert second.client.transport.get_extra_info("ssl_object").session_reused
        await finish(second)

    run(main())


# ---- the handshake fails -------------------------------------------------------------------------


def test_client_says_why_it_does_not_trust(run, errors, certs, server_context) -> None:
    context = ssl.create_default_context(cafile=certs.other_cert)

    async def main() -> None:
        asyncio.get_running_loop().set_debug(False)  # the server would report a reset
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect(server_context, context)
        assert caught.value.verify_code in (18, 19, 20)
        assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"

    run(main())
    assert errors == []


def test_wrong_host_name_is_an_error(run, server_context, client_context) -> None:
    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect(server_context, client_context, server_hostname="elsewhere")
        assert "elsewhere" in caught.value.verify_message

    run(main())


def test_peer_that_speaks_no_tls_is_an_error(run, client_context) -> None:
    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hello, this is plain\r\n")
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(talk, "127.0.0.1", 0)
        with pytest.raises(ssl.SSLError) as caught:
            port = listener.sockets[0].getsockname()[1]
            await asyncio.open_connection("localhost", port, ssl=client_context)
        assert caught.value.reason == "WRONG_VERSION_NUMBER"
        listener.close()

    run(main())


def test_our_server_tells_the_client_why_it_refuses(kind, run, certs, server_context) -> None:
    """An alert; asyncio's only closes the connection."""
    if kind != "puff":
        pytest.skip("asyncio's TLS does not")
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    context = ssl.create_default_context(cafile=certs.cert)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        with pytest.raises(ssl.SSLError) as caught:
            await connect(server_context, context)
        assert caught.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"

    run(main())


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_handshake_that_takes_too_long_is_aborted(run, client_context) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with silent_server() as port, pytest.raises(ConnectionAbortedError, match=r"0\.05 seconds"):
            await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port, ssl=client_context,
                server_hostname="localhost", ssl_handshake_timeout=0.05,
            )  # fmt: skip

    run(main())


def test_cancel_during_the_handshake_leaves_nothing(run, client_context) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        counts = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            port = listener.getsockname()[1]
            for _ in range(10):
                task = asyncio.ensure_future(
                    loop.create_connection(
                        Recorder, "127.0.0.1", port, ssl=client_context, server_hostname="localhost"
                    )
                )
                sock, _ = await loop.sock_accept(listener)
                assert (await loop.sock_recv(sock, 1))[0] == 22  # a hello: the handshake has begun
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                while await loop.sock_recv(sock, 65536):
                    pass  # until it is closed
                sock.close()
                counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[-1] <= counts[0]

    run(main())


def test_peer_that_goes_away_in_the_handshake_is_an_error(run, client_context) -> None:
    async def main() -> None:
        listener = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0)
        with pytest.raises(ConnectionResetError):
            port = listener.sockets[0].getsockname()[1]
            await asyncio.open_connection("localhost", port, ssl=client_context)
        listener.close()

    run(main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_are_positive(run, client_context, name: str) -> None:
    if not MODERN and name == "ssl_shutdown_timeout":
        pytest.skip("from 3.11 on")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with silent_server() as port, pytest.raises(ValueError, match="positive"):
            await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port, ssl=client_context,
                server_hostname="localhost", **{name: -1},
            )  # fmt: skip

    run(main())


# ---- the end -------------------------------------------------------------------------------------


def test_all_that_was_written_arrives_before_the_close(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        data = os.urandom(3 * MIB)
        pair.client.transport.write(data)
        pair.client.transport.close()
        assert await pair.server.has(len(data)) == data
        assert await pair.client.lost is None
        assert await pair.server.lost is None
        pair.close()

    run(main())


def test_abort_loses_the_connection_at_once(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        pair.client.transport.write(b"x" * MIB)
        pair.client.transport.abort()
        assert await pair.client.lost is None
        await pair.server.lost
        assert "eof" not in pair.client.events
        pair.close()

    run(main())


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 has another")
def test_peer_that_never_says_goodbye_is_given_up(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context, ssl_shutdown_timeout=0.05)
        pair.server.transport.get_extra_info("socket")  # it goes on living, but reads nothing
        pair.server.transport._ssl_protocol._transport.pause_reading()
        pair.client.transport.close()
        assert isinstance(await pair.client.lost, asyncio.TimeoutError)
        pair.server.transport.abort()
        await pair.server.lost
        pair.close()

    run(main())


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 has another")
def test_close_does_not_go_on_downloading(run, server_context, client_context) -> None:
    """uvloop #471: it did, for half a minute."""

    class Flood(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.resume_writing()

        def resume_writing(self) -> None:
            while "pause" not in self.events and not self.transport.is_closing():
                self.transport.write(bytes(65536))
            self.events.clear()

    async def main() -> None:
        pair = await connect(server_context, client_context, server=Flood)
        pair.client.transport.write(b"go")
        await pair.client.has(100_000)
        pair.client.transport.close()
        n_at_close = len(pair.client.data)
        await pair.client.lost
        assert len(pair.client.data) <= n_at_close + MIB
        await pair.server.lost
        pair.close()

    run(main())


def test_writes_after_the_close_are_ignored(run, caplog, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        await finish(pair)
        for _ in range(10):
            pair.client.transport.write(b"too late")
        pair.client.transport.close()
        abort_again(pair.client.transport)

    run(main())
    if MODERN:
        assert "SSL connection is closed" in caplog.text


def test_connection_that_ends_without_goodbye_is_eof(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        sock = pair.server.transport.get_extra_info("socket")
        dup = socket.socket(fileno=os.dup(sock.fileno()))
        dup.shutdown(socket.SHUT_WR)
        dup.close()
        assert await pair.client.lost is None
        assert pair.client.events == ["made", "eof", "lost"]
        pair.server.transport.abort()
        await pair.server.lost
        pair.close()

    run(main())


def test_record_that_was_changed_ends_the_connection(run, loop, server_context, client_context):
    """With the exception that CPython's ssl would raise."""

    async def main() -> None:
        pair = await connect(server_context, client_context)
        sock = pair.server.transport.get_extra_info("socket")
        os.write(sock.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        exc = await pair.client.lost
        assert isinstance(exc, ssl.SSLError)
        assert exc.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
        assert exc.library == "SSL"
        assert exc.errno == ssl.SSL_ERROR_SSL
        assert str(exc).startswith(  # the second one from OpenSSL 3.6 on, if not before
            (
                "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record mac (",
                "[SSL: RECORD_LAYER_FAILURE] record layer failure (",
            )
        )
        pair.server.transport.abort()
        await pair.server.lost
        pair.close()

    run(main())


def test_exception_of_a_protocol_is_fatal(run, errors, server_context, client_context) -> None:
    class Raising(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        pair = await connect(server_context, client_context, server=Raising)
        pair.client.transport.write(b"x")
        assert isinstance(await pair.server.lost, ZeroDivisionError)
        await pair.client.lost
        pair.close()

    run(main())
    assert [type(e["exception"]) for e in errors] == [ZeroDivisionError]
    assert errors[0]["message"] == "Fatal error on SSL protocol" or not MODERN


# ---- flow ----------------------------------------------------------------------------------------


def test_paused_reading_gives_no_data(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        pair.client.transport.pause_reading()
        assert not pair.client.transport.is_reading() or not MODERN
        pair.server.transport.write(b"x" * 1000)
        pair.client.transport.write(b"y")
        await pair.server.has(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert pair.client.data == b""
        pair.client.transport.resume_reading()
        await pair.client.has(1000)
        await finish(pair)

    run(main())


@pytest.mark.parametrize("maker", [Recorder, Buffered])
def test_pause_inside_data_received_holds_what_has_come(
    run, server_context, client_context, maker: type[Recorder]
) -> None:
    class Pausing(maker):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main() -> None:
        pair = await connect(server_context, client_context, client=Pausing)
        data = os.urandom(200_000)
        pair.server.transport.write(data)
        assert await pair.client.has(len(data)) == data
        await finish(pair)

    run(main())


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 has other limits")
def test_paused_reading_pauses_the_peer(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        assert pair.server.transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        pair.client.transport.pause_reading()
        while "pause" not in pair.server.events:
            pair.server.transport.write(bytes(65536))
            await asyncio.sleep(0)
        assert pair.server.transport.get_write_buffer_size() >= 512 * 1024
        below = pair.client.transport._ssl_protocol._transport
        assert not below.is_reading()
        assert 256 * 1024 <= pair.client.transport.get_read_buffer_size() < 600 * 1024
        pair.client.transport.resume_reading()
        while "resume" not in pair.server.events:
            await asyncio.sleep(0)
        await finish(pair)
        assert pair.server.events.count("pause") == pair.server.events.count("resume")

    run(main())


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 has other limits")
def test_write_limits_are_checked(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        transport = pair.client.transport
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_read_buffer_limits(high=1000)
        assert transport.get_read_buffer_limits() == (250, 1000)
        transport.write(b"x" * 500)  # above the mark, but it can leave
        assert pair.client.events == ["made"]
        await pair.server.has(500)
        await finish(pair)

    run(main())


def test_small_writes_of_a_turn_share_a_record(run, kind, server_context, client_context) -> None:
    if kind != "puff":
        pytest.skip("asyncio's TLS does not")

    async def main() -> None:
        pair = await connect(server_context, client_context)
        for _ in range(10):
            pair.client.transport.write(b"0123456789")
        assert pair.client.transport.get_write_buffer_size() == 100
        await pair.server.has(100)
        assert pair.server.events == ["made", "data"]
        assert pair.client.transport.get_write_buffer_size() == 0
        await finish(pair)

    run(main())


@pytest.mark.parametrize("bad", ["text", 5, None, [1]])
def test_only_bytes_are_written(run, server_context, client_context, bad: Any) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        with pytest.raises(TypeError):
            pair.client.transport.write(bad)
        with pytest.raises(NotImplementedError):
            pair.client.transport.write_eof()
        assert not pair.client.transport.can_write_eof()
        await finish(pair)

    run(main())


# ---- start_tls, and TLS above other transports ---------------------------------------------------


async def plain_pair() -> Pair:
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    for sock in (a, b):
        sock.setblocking(False)
    _, client = await loop.create_connection(Recorder, sock=a)
    _, server = await loop.create_connection(Recorder, sock=b)
    return Pair(client, server, lambda: None)


async def upgrade(pair: Pair, server_context: Any, client_context: Any, **kwargs: Any) -> Pair:
    """start_tls() on both ends; the protocols keep what they know."""
    loop = asyncio.get_running_loop()
    client, server = await asyncio.gather(
        loop.start_tls(
            pair.client.transport, pair.client, client_context, server_hostname="localhost"
        ),
        loop.start_tls(pair.server.transport, pair.server, server_context, server_side=True),
    )
    pair.client.transport, pair.server.transport = client, server
    return pair


async def converse(pair: Pair) -> None:
    there, back = os.urandom(200_000), os.urandom(100_000)
    pair.client.data.clear()
    pair.server.data.clear()
    pair.client.transport.write(there)
    assert await pair.server.has(len(there)) == there
    pair.server.transport.write(back)
    assert await pair.client.has(len(back)) == back


def test_start_tls_upgrades_a_connection(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await plain_pair()
        await converse(pair)
        await upgrade(pair, server_context, client_context)
        assert pair.client.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert pair.client.transport.get_extra_info("socket") is not None
        await converse(pair)
        await finish(pair)
        assert pair.client.events.count("made") == 1

    run(main())


@pytest.mark.skipif(not MODERN, reason="streams have start_tls() from 3.11 on")
def test_start_tls_takes_what_the_stream_has_read_already(
    kind, run, server_context, client_context
) -> None:
    if kind == "asyncio":
        pytest.skip("late 3.14 does, before that it hangs")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader._buffer:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await writer.start_tls(server_context)
        writer.write(await reader.readline())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await writer.start_tls(client_context, server_hostname="localhost")
        writer.write(b"ping\n")
        assert await reader.read() == b"ping\n"
        writer.close()
        server.close()

    run(main())


def test_start_tls_that_fails_makes_no_cycle(kind, run, client_context) -> None:
    if kind != "puff":
        pytest.skip("asyncio's protocol does, before late 3.14")
    transports = []

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"no hello\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        loop, address = asyncio.get_running_loop(), server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
        transports.append(weakref.ref(transport))
        with contextlib.suppress(ssl.SSLError):
            await loop.start_tls(transport, protocol, client_context, server_hostname="localhost")
        server.close()

    gc.collect()
    gc.disable()
    try:
        run(main())
        assert transports[0]() is None
    finally:
        gc.enable()


def test_start_tls_wants_a_context_and_a_transport(run, client_context) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pair = await plain_pair()
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(pair.client.transport, pair.client, True)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not supported"):
            await loop.start_tls(asyncio.Transport(), pair.client, client_context)
        await finish(pair)

    run(main())


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 cannot")
def test_tls_in_tls_in_tls(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await plain_pair()
        for _ in range(3):
            await upgrade(pair, server_context, client_context)
            await converse(pair)
        await finish(pair)

    run(main())


class Slow(asyncio.Transport):
    """Somebody's own transport, above another: it cuts what is written at random."""

    _start_tls_compatible = True

    def __init__(self, below: Any, seed: int) -> None:
        super().__init__()
        self.below = below
        self.random = random.Random(seed)

    def write(self, data: Any) -> None:
        data = bytes(data)
        while data:
            n = self.random.choice([1, 2, 5, 100, 5000, 60000])
            self.below.write(data[:n])
            data = data[n:]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.below.get_extra_info(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.below.set_protocol(protocol)

    def close(self) -> None:
        self.below.close()

    def pause_reading(self) -> None:
        self.below.pause_reading()

    def resume_reading(self) -> None:
        self.below.resume_reading()


def test_tls_above_somebody_elses_transport(run, server_context, client_context) -> None:
    async def main() -> None:
        pair = await plain_pair()
        pair.client.transport = Slow(pair.client.transport, 1)
        pair.server.transport = Slow(pair.server.transport, 2)
        await upgrade(pair, server_context, client_context)
        await converse(pair)
        await finish(pair)

    run(main())


def test_context_of_somebody_else_is_served(run, server_context, client_context) -> None:
    """Its SSLObject does more than CPython's: only asyncio's own protocol calls it."""

    class Counting(ssl.SSLObject):
        n_read = 0

        def read(self, *args: Any) -> Any:
            Counting.n_read += 1
            return super().read(*args)

    client_context.sslobject_class = Counting

    async def main() -> None:
        pair = await connect(server_context, client_context)
        pair.server.transport.write(b"hello")
        assert await pair.client.has(5) == b"hello"
        await finish(pair)

    run(main())
    assert Counting.n_read > 0


# ---- ciphertext cut anywhere, and what OpenSSL does between records ------------------------------


class Relay:
    """Between a client and a port: bytes pass in pieces of random sizes."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.random = port, random.Random(seed)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pump(reader, other_writer), self.pump(other_reader, writer))

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(self.random.choice([1, 4, 5, 6, 300, 16406, 40000])):
            writer.write(data)
            await asyncio.sleep(0)
        writer.close()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("seed", range(3))
def test_ciphertext_may_be_cut_anywhere(
    run, server_context, client_context, version: str, seed: int
) -> None:
    client_context.maximum_version = ssl.TLSVersion[version]

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(50_000):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        relay = await asyncio.start_server(
            Relay(server.sockets[0].getsockname()[1], seed), "127.0.0.1", 0
        )
        port = relay.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context)
        rng = random.Random(seed)
        for size in (1, 100, 16384, 70000):
            data = rng.randbytes(size)
            writer.write(data)
            assert await reader.readexactly(size) == data
        writer.close()
        assert await reader.read() == b""
        relay.close()
        server.close()

    run(main())


async def openssl(command: str, *args: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "openssl", command, *map(str, args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "key"), [("-tls1_3", b"K"), ("-tls1_3", b"k"), ("-tls1_2", b"R")]
)
def test_keys_change_in_the_middle(run, kind, server_context, version: str, key: bytes) -> None:
    """A key update that wants an answer, one that does not, a renegotiation: as s_client asks."""
    server_context.options |= 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which ssl does not name

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(b"<" + line)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        client = await openssl("s_client", "-connect", f"127.0.0.1:{port}", version)
        said = b"RENEGOTIATING" if key == b"R" else b"KEYUPDATE"
        for line, answer in [(b"one\n", b"<one"), (key + b"\n", said), (b"two\n", b"<two")]:
            client.stdin.write(line)
            await client.stdout.readuntil(answer)
        client.stdin.write(b"Q\n")
        await client.wait()
        server.close()

    run(main())


def test_openssl_s_server_is_understood(run, kind, certs, client_context, tmp_path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await openssl(
            "s_server", "-accept", port, "-cert", certs.cert, "-key", certs.key, "-rev"
        )
        await server.stdout.readuntil(b"ACCEPT")
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context)
        writer.write(b"hello\n")
        assert await reader.readline() == b"olleh\n"
        writer.close()
        server.kill()
        await server.wait()

    run(main())


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl_gets_a_body(run, kind, certs, server_context, tmp_path) -> None:
    body = os.urandom(700_000)

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        curl = await asyncio.create_subprocess_exec(
            "curl", "-s", "--cacert", certs.cert, "-o", tmp_path / "body",
            f"https://127.0.0.1:{port}/",
        )  # fmt: skip
        assert await curl.wait() == 0
        server.close()

    run(main())
    assert (tmp_path / "body").read_bytes() == body


# ---- streams -------------------------------------------------------------------------------------


def test_streams_read_what_was_written_whatever_their_limit(
    run, server_context, client_context
) -> None:
    lines = [b"x" * n + b"\n" for n in (0, 5, 300, 17_000, 63)]
    body = os.urandom(MIB)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(lines)
        writer.write(body)
        await writer.drain()
        assert await reader.readexactly(3) == b"end"
        writer.write(b"more")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "localhost", port, ssl=client_context, limit=32_768
        )
        assert [await reader.readline() for _ in lines] == lines
        assert await reader.readexactly(len(body)) == body  # pauses and resumes the transport
        writer.write(b"end")
        assert await reader.read() == b"more" and reader.at_eof()
        writer.close()
        await writer.wait_closed()
        server.close()

    run(main())


def test_our_streams_read_in_c(kind, run, server_context, client_context) -> None:
    if kind != "puff":
        pytest.skip("ours")
    types = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        types.append(type(reader.read()).__name__)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context)
        types.append(type(call := reader.read()).__name__)
        assert await call == b""
        writer.close()
        server.close()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        run(main())
    assert types == ["Call", "Call"]


# ---- nothing is left behind ----------------------------------------------------------------------


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_handshakes_leave_nothing(kind, run, server_context, client_context) -> None:
    if kind != "puff":
        pytest.skip("asyncio's own")

    async def some(n: int) -> None:
        for _ in range(n):
            pair = await connect(server_context, client_context)
            pair.client.transport.write(b"x")
            await pair.server.has(1)
            await finish(pair)

    async def main() -> None:
        await some(200)
        gc.collect()
        n_fds, before = len(os.listdir("/proc/self/fd")), rss()
        await some(800)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= n_fds
        assert rss() - before < 2 * MIB  # 2.6 KiB for each

    run(asyncio.wait_for(main(), 60))


def test_a_connection_that_ended_holds_no_context(run, loop, server_context, certs) -> None:
    context = ssl.create_default_context(cafile=certs.cert)

    async def main(context: ssl.SSLContext) -> None:
        await finish(await connect(server_context, context))

    run(main(context))
    ref = weakref.ref(context)
    del context
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(not MODERN, reason="asyncio up to 3.10 has another")
def test_app_that_stores_its_transport_and_closes_it_makes_no_cycle(
    run, loop, server_context, certs
) -> None:
    context = ssl.create_default_context(cafile=certs.cert)
    gone = weakref.ref(context)

    async def main(context: ssl.SSLContext) -> None:
        pair = await connect(server_context, context)
        pair.server.transport.close()
        while "eof" not in pair.client.events:
            await asyncio.sleep(0)
        pair.client.transport.close()  # again: it was closed when the peer said goodbye
        abort_again(pair.client.transport)
        await pair.client.lost
        await pair.server.lost
        pair.close()

    gc.collect()
    gc.disable()
    try:
        run(main(context))
        del context
        assert gone() is None
    finally:
        gc.enable()


def test_ssl_object_outlives_its_connection(run, server_context, client_context) -> None:
    async def main() -> ssl.SSLObject:
        pair = await connect(server_context, client_context)
        ssl_object = pair.client.transport.get_extra_info("ssl_object")
        await finish(pair)
        return ssl_object

    ssl_object = run(main())
    gc.collect()
    assert ssl_object.cipher() is not None
    with pytest.raises(ssl.SSLError):
        ssl_object.read(10)
    with contextlib.suppress(ssl.SSLError):
        ssl_object.write(b"nowhere")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loop_that_is_closed_first_takes_its_connections_along(
    kind, loop, server_context, client_context
) -> None:
    pair = loop.run_until_complete(connect(server_context, client_context))
    pair.client.transport.write(b"never sent")
    loop.close()
    del pair
    gc.collect()


def test_transport_that_nobody_closed_warns(run, loop, server_context, client_context) -> None:
    async def main() -> None:
        pair = await connect(server_context, client_context)
        pair.close()

    run(main())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        gc.collect()


def test_two_loops_in_two_threads(kind, server_context, client_context) -> None:
    """The GIL goes between them in the middle of handshakes."""
    failed: list[BaseException] = []

    def work() -> None:
        async def main() -> None:
            for _ in range(10):
                pair = await connect(server_context, client_context)
                await converse(pair)
                await finish(pair)

        loop = asyncio.SelectorEventLoop() if kind == "asyncio" else puff.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), PATIENCE_S))
        except BaseException as exc:
            failed.append(exc)
        finally:
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
