"""`puff serve --wsgi`: workers, signals and kills around a WSGI app."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

APP = """
import os, sys, time
import puff

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        print("app: in slow", flush=True)
        puff.sleep_ms(500)
    elif path == "/block":
        print("app: in block", flush=True)
        time.sleep(0.5)
    elif path == "/forever":
        print("app: in forever", flush=True)
        try:
            puff.sleep_ms(3_600_000)
        finally:
            print("app: forever ended", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['SCRIPT_NAME']} {environ['wsgi.multiprocess']}".encode()]
"""

both = pytest.mark.parametrize("threads", ["0", "4"], ids=["greenlet", "thread"])


@pytest.fixture
def serve(puff_serve: Any, tmp_path: Path) -> Any:
    (tmp_path / "hello.py").write_text(APP)
    return lambda *flags: puff_serve(None, "--wsgi", "hello:app", *flags)


def get(url: str) -> str:
    return httpx.get(url, timeout=20).text


@both
def test_flags_reach_the_app(serve: Any, threads: str) -> None:
    s = serve("--wsgi-threads", threads, "--root-path", "/api", "--access-log")
    assert get(s.url + "/api/x").endswith("/api False")
    s.wait_for(r'"GET /api/x HTTP/1.1" 200 \d+ ')


@both
@pytest.mark.parametrize("path", ["/slow", "/block"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_requests_finish(serve: Any, threads: str, path: str, workers: str) -> None:
    s = serve("--wsgi-threads", threads, "--workers", workers)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(get, s.url + path)
        s.wait_for("app: in")
        assert s.stop() == 0
        assert reply.result().endswith(str(workers == "2"))
    assert "Traceback" not in s.output


def test_what_does_not_end_is_cut_off(serve: Any) -> None:
    s = serve("--stop-timeout-ms", "100")
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(get, s.url + "/forever")
        s.wait_for("app: in forever")
        assert s.stop(timeout=10) == 0
        with pytest.raises(httpx.TransportError):
            reply.result()
    assert "app: forever ended" in s.output


def test_a_killed_worker_loses_its_own_requests_only(serve: Any) -> None:
    """kill -9 of one of two workers under load: the other answers on, a new one takes its place."""
    s = serve("--workers", "2")
    lost, answered = [], []

    def client(number: int) -> None:
        with httpx.Client(base_url=s.url, timeout=10) as http:
            while time.monotonic() < deadline:
                try:
                    answered.append(http.get("/").text.split()[0])
                except httpx.TransportError:
                    lost.append(number)

    deadline = time.monotonic() + 20
    with ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(client, n) for n in range(12)]
        while len(set(answered)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        before = set(answered)
        victim = answered[-1]
        os.kill(int(victim), signal.SIGKILL)
        while len(set(answered) - before) < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        n_clients_lost = len(set(lost))
        deadline = time.monotonic() + 0.2
        for each in clients:
            each.result()
    assert len(before) == 2
    assert set(answered) - before, "nobody took the dead worker's place"
    assert n_clients_lost < 12, "clients of the living worker have lost requests too"
    assert len(lost) <= 12 + n_clients_lost
    s.wait_for(re.compile("worker.*(died|killed|ended|signal)", re.IGNORECASE))


def test_sighup_takes_up_new_code_worker_by_worker(serve: Any, tmp_path: Path) -> None:
    """No request is lost meanwhile, and code that cannot start does not end the old."""

    def write(body: str) -> None:
        (tmp_path / "hello.py").write_text(body)

    def wait_for(answers: set[str]) -> None:
        deadline = time.monotonic() + 20
        found: set[str] = set()
        while time.monotonic() < deadline:
            found = {httpx.get(s.url + "/", timeout=10).text for _ in range(8)}
            if found == answers:
                return
        raise AssertionError(f"{found} is not {answers}")

    code = "def app(env, start):\n    start('200 OK', [])\n    return [b'{}']\n"
    s = serve("--workers", "2")
    write(code.format("first, after the reload"))
    s.process.send_signal(signal.SIGHUP)
    wait_for({"first, after the reload"})
    write("raise SystemError('broken')\n")
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("a new worker did not start")
    wait_for({"first, after the reload"})
    write(code.format("second"))
    s.process.send_signal(signal.SIGHUP)
    wait_for({"second"})
    assert s.stop() == 0


def test_sighup_of_one_worker_is_refused(serve: Any) -> None:
    s = serve()
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("SIGHUP reloads the app only with several workers")
    assert get(s.url + "/")
    assert s.stop() == 0
