"""Every order of calls on a transport that closes, is closed, or whose peer or descriptor is gone:
the same answers, and the same callbacks of the protocol, as asyncio's transports give.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from oracle import MAKERS, attempt, name_of

import puff


class Recorder(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.events: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.events.append(f"data {data!r}")

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.events.append(f"datagram {data!r}")

    def error_received(self, exc: Exception) -> None:
        self.events.append(f"error {name_of(exc)}")

    def eof_received(self) -> bool:
        self.events.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {name_of(exc)}")


Step = Callable[[Any, Any], object]  # of a transport and of its peer
STREAM: dict[str, Step] = {
    "write": lambda t, peer: t.write(b"x"),
    "writelines": lambda t, peer: t.writelines([b"x", bytearray(b"y")]),
    "write_eof": lambda t, peer: t.write_eof(),
    "close": lambda t, peer: t.close(),
    "abort": lambda t, peer: t.abort(),
    "pause": lambda t, peer: t.pause_reading(),
    "resume": lambda t, peer: t.resume_reading(),
    "limits": lambda t, peer: t.set_write_buffer_limits(1),
    "protocol": lambda t, peer: t.set_protocol(t.get_protocol()),
    "peer closes": lambda t, peer: peer.close(),
    "turn": lambda t, peer: None,
}
DATAGRAM: dict[str, Step] = {
    "sendto": lambda t, peer: t.sendto(b"x"),
    "close": STREAM["close"],
    "abort": STREAM["abort"],
    "limits": STREAM["limits"],
    "peer closes": STREAM["peer closes"],
    "turn": STREAM["turn"],
}
PIPE: dict[str, Step] = {
    name: STREAM[name] for name in ("write", "write_eof", "close", "abort", "peer closes", "turn")
}


async def stream(loop: Any) -> tuple[Any, Any, Recorder]:
    mine, peer = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=mine)
    return transport, peer, protocol


async def datagram(loop: Any) -> tuple[Any, Any, Recorder]:
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        Recorder, remote_addr=peer.getsockname()
    )
    return transport, peer, protocol


async def write_pipe(loop: Any) -> tuple[Any, Any, Recorder]:
    r, w = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(w, "wb", 0))
    return transport, os.fdopen(r, "rb", 0), protocol


KINDS = {"stream": (stream, STREAM), "datagram": (datagram, DATAGRAM), "pipe": (write_pipe, PIPE)}


async def play(loop: Any, kind: str, order: tuple[str, ...]) -> list[str]:
    opener, steps = KINDS[kind]
    transport, peer, protocol = await opener(loop)
    answers = []
    with peer:
        for i, name in enumerate(order):
            if name == "peer closes":
                await asyncio.sleep(0)  # our writes leave when the callback ends ...
            answer = attempt(steps[name], transport, peer)
            # asyncio's transports have no loop any more once they are lost, and writelines() in
            # early 3.12 and 3.13 calls a method that they have no more; ours stay silent.
            answers.append("ok" if answer in ("AttributeError", "TypeError") else answer)
            if name.startswith("write") and "peer closes" in order[:i]:
                await asyncio.sleep(0)  # ... and learn only then that the peer is gone
            answers.append(str(transport.is_closing()))
            if name in ("turn", "peer closes"):
                await asyncio.sleep(0.001 if name == "peer closes" else 0)
        if kind == "datagram":
            await asyncio.sleep(0.001)  # ICMP's answer
        with contextlib.suppress(AttributeError):  # asyncio's, when it is lost already
            transport.abort()
        for _ in range(4):
            await asyncio.sleep(0)
    return answers + protocol.events


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_order_of_calls_has_asyncios_answers(kind, length) -> None:
    different = []
    loops = [make() for make in MAKERS.values()]
    for loop in loops:
        loop.set_exception_handler(lambda *_: None)
    try:
        for order in itertools.product(KINDS[kind][1], repeat=length):
            expected, ours = (loop.run_until_complete(play(loop, kind, order)) for loop in loops)
            if ours != expected:
                different.append((order, expected, ours))
    finally:
        for loop in loops:
            loop.close()
    assert not different, "\n".join(map(str, different[:20])) + f"\n{len(different)} in all"


@pytest.fixture(params=MAKERS)
def loop(request: pytest.FixtureRequest) -> Any:
    loop = MAKERS[request.param]()
    yield loop
    if not loop.is_closed():
        loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_outlives_its_loop_harmlessly(loop, kind) -> None:
    transport, peer, _ = loop.run_until_complete(KINDS[kind][0](loop))
    loop.close()
    with peer:
        for step in KINDS[kind][1].values():
            attempt(step, transport, peer)
        repr(transport), transport.get_extra_info("socket"), transport.is_closing()
        del transport
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_transport_that_its_loop_has_left_open_knows_that_it_is_over(kind) -> None:
    """What the core had of it is gone."""
    loop = puff.new_event_loop()
    transport, peer, _ = loop.run_until_complete(KINDS[kind][0](loop))
    with peer:
        loop.close()
        assert "closed" in repr(transport)
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_that_is_dropped_open_warns_and_leaks_no_descriptor(kind) -> None:
    """The transport is all that holds its descriptor, and the loop is dropped with it."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = puff.new_event_loop()
        transport, peer, protocol = loop.run_until_complete(KINDS[kind][0](loop))
        peer.close()
        loop.close()
        del transport, peer, protocol, loop
        gc.collect()
    assert any("unclosed transport" in str(w.message) for w in caught)
    assert len(os.listdir("/proc/self/fd")) == before


class Unfinalized(puff.Loop):
    def __del__(self) -> None:
        pass


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("finalized", [True, False], ids=["finalized", "not finalized"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unclosed_loop_is_collected_with_an_open_transport(kind, finalized) -> None:
    """Also when the loop's finalizer does not close it. Others that are open: test_garbage.py."""
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    loop = puff.Loop() if finalized else Unfinalized()
    transport, peer, protocol = loop.run_until_complete(KINDS[kind][0](loop))
    peer.close()
    alive = weakref.ref(loop)
    del loop, transport, peer, protocol
    gc.collect()
    left = alive()
    if left is not None:
        left.close()
    assert left is None
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_stolen_descriptor_is_an_error_and_not_an_abort(loop) -> None:
    """The socket's number is closed below its transport, as a buggy library would."""

    async def main() -> None:
        transport, peer, _ = await stream(loop)
        with peer:
            os.dup2(os.open(os.devnull, os.O_RDWR), transport.get_extra_info("socket").fileno())
            attempt(transport.write, b"x")
            await asyncio.sleep(0.002)
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    loop.set_exception_handler(lambda *_: None)
    before = set(os.listdir("/proc/self/fd"))
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    for number in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            os.close(int(number))
