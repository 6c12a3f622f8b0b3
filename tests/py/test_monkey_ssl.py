"""puff.monkey: TLS over patched sockets."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from monkeys import CROWD, DELAY_S, TOGETHER_S, crowd, killed, on_greenlet, patched, slow_http

import puff.monkey
from puff.greenlet import GreenletExit

# Here pytest and others have been imported.
pytestmark = pytest.mark.filterwarnings("ignore:imported before puff.monkey")


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of localhost that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.add_extension(x509.BasicConstraints(True, None), True)
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture(scope="module")
def url(certificate: Path) -> Iterator[str]:
    with slow_http(certificate) as url:
        yield url


def test_requests_over_tls_wait_together(url: str, certificate: Path) -> None:
    sent = [secrets.token_hex(8) for _ in range(CROWD)]

    def get(i: int) -> str:
        params = {"s": str(DELAY_S), "nonce": sent[i]}
        return requests.get(url, params=params, verify=certificate, timeout=20).text

    answers, seconds = crowd(get)
    assert answers == sent
    assert seconds < TOGETHER_S


def test_megabytes_both_ways(url: str, certificate: Path) -> None:
    body = secrets.token_bytes(2_000_000)

    def post(i: int) -> bool:
        return requests.post(url, data=body, verify=certificate, timeout=20).content == body

    assert all(crowd(post, 5)[0])


def test_timeout_and_kill(url: str, certificate: Path) -> None:
    slow = {"s": "20", "nonce": "x"}
    with pytest.raises(requests.ReadTimeout):
        on_greenlet(lambda: requests.get(url, params=slow, verify=certificate, timeout=0.3))
    ended = killed(lambda: requests.get(url, params=slow, verify=certificate), after_s=0.3)
    assert isinstance(ended, GreenletExit)


def test_a_certificate_that_nobody_signed(url: str) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        on_greenlet(lambda: requests.get(url, params={"s": "0", "nonce": ""}, timeout=20))


def test_both_sides_on_greenlets(certificate: Path) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate)
    client_context = ssl.create_default_context(cafile=str(certificate))
    listener = socket.create_server(("127.0.0.1", 0))
    address = ("localhost", listener.getsockname()[1])

    def serve() -> Any:
        with server_context.wrap_socket(listener, server_side=True) as server:
            connection, _ = server.accept()
            got = connection.recv(100)
            time.sleep(0.01)
            connection.sendall(got.upper())
            plain = connection.unwrap()
            with plain:
                return plain.recv(100)

    def ask() -> bytes:
        with socket.create_connection(address) as sock:
            tls = client_context.wrap_socket(sock, server_hostname="localhost")
            tls.sendall(b"shout")
            got = tls.recv(100)
            plain = tls.unwrap()
            plain.sendall(b"plain")
            plain.close()
            return got

    assert crowd(lambda i: (serve, ask)[i](), 2)[0] == [b"plain", b"SHOUT"]


def test_handshake_times_out() -> None:
    def work() -> None:
        a, b = socket.socketpair()
        with a, b:
            a.settimeout(0.05)
            with pytest.raises(TimeoutError, match="handshake operation timed out"):
                ssl.create_default_context().wrap_socket(a, server_hostname="x")

    on_greenlet(work)


def test_reads_and_writes_after_close_raise_as_ever(certificate: Path) -> None:
    def errors() -> list[str]:
        context = ssl.create_default_context(cafile=str(certificate))
        raw, other = socket.socketpair()
        sock = context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)
        sock.close()
        other.close()
        found = []
        for call in (sock.read, sock.recv, lambda: sock.write(b"x"), lambda: sock.send(b"x")):
            try:
                call()
            except (OSError, ValueError) as exc:
                found.append(f"{type(exc).__name__}: {exc}")
        return found

    puff.monkey.unpatch_all()
    expected = errors()
    puff.monkey.patch_all()
    assert len(expected) == 4
    assert on_greenlet(errors) == expected
