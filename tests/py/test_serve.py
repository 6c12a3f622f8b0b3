"""`puff serve`: the process around an app. What a user types, sees and kills."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

APP = """
import asyncio, os, signal, sys, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("app: shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    body = b"hello"
    if path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/slow":
        print("app: in slow", flush=True)
        await asyncio.sleep(0.5)
    elif path == "/forever":
        print("app: in forever", flush=True)
        await asyncio.sleep(3600)
    elif path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif path == "/loop":
        body = type(asyncio.get_running_loop()).__module__.encode()
    elif path == "/raise":
        raise ValueError("a mistake of the app")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})

not_callable = 7
"""

PuffServe = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.py").write_text(APP)
    return tmp_path


def get(url: str, timeout: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read().decode()


def request_in_background(url: str) -> subprocess.Popen[str]:
    code = (
        "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def fails(puff_serve: PuffServe, app: str, *flags: str, folder: Path) -> tuple[int, str]:
    serve = puff_serve(app, *flags, cwd=folder, wait=False)
    status = serve.process.wait(20)
    serve._reader.join(5)
    return status, serve.output


def test_serves_on_a_puff_loop(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", cwd=folder)
    assert get(serve.url) == "hello"
    assert get(serve.url + "/loop").startswith("puff")
    assert serve.stop() == 0
    assert "app: shutdown" in serve.output


def test_import_path_with_dots(puff_serve: PuffServe, folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("from hello import app")
    assert get(puff_serve("package.app", cwd=folder).url) == "hello"


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_agrees(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", cwd=folder)
    done = subprocess.run(
        ["curl", "-sSi", "--max-time", "10", serve.url, serve.url + "/raise"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert re.findall(r"HTTP/1.1 (\d+)", done.stdout) == ["200", "500"]
    serve.wait_for("ValueError: a mistake of the app")


def test_unix_socket(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--bind", f"unix:{folder}/s", cwd=folder)
    assert serve.address == f"{folder}/s"
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/s")) as client:
        assert client.get("http://x/").text == "hello"
    serve.stop()
    assert not (folder / "s").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_several_addresses(puff_serve: PuffServe, folder: Path, workers: int) -> None:
    serve = puff_serve(
        "hello:app", "--bind", f"127.0.0.1:0,unix:{folder}/s", "--workers", str(workers), cwd=folder
    )
    assert get(serve.wait_for("listening on (http://.*)")[1]) == "hello"
    serve.wait_for(f"listening on unix:{folder}/s")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{folder}/s")
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert s.makefile("rb").read().endswith(b"hello")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_lets_requests_finish(
    puff_serve: PuffServe, folder: Path, signum: int, workers: int
) -> None:
    serve = puff_serve("hello:app", "--workers", str(workers), cwd=folder)
    client = request_in_background(serve.url + "/slow")
    serve.wait_for("app: in slow")
    assert serve.stop(signum) == 0
    assert client.communicate(timeout=10)[0].strip() == "hello"
    assert serve.output.count("app: shutdown") == workers
    assert "Traceback" not in serve.output and "destroyed" not in serve.output


def test_a_request_that_does_not_end_is_cut_off(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--stop-timeout-ms", "100", cwd=folder)
    client = request_in_background(serve.url + "/forever")
    serve.wait_for("app: in forever")
    assert serve.stop() == 0
    client.communicate(timeout=10)
    assert client.returncode != 0
    assert "app: shutdown" in serve.output and "Traceback" not in serve.output


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_does_not_wait(puff_serve: PuffServe, folder: Path, workers: int) -> None:
    serve = puff_serve("hello:app", "--workers", str(workers), cwd=folder)
    client = request_in_background(serve.url + "/forever")
    serve.wait_for("app: in forever")
    serve.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        serve.process.wait(0.3)
    assert serve.stop(signal.SIGTERM, timeout=10) == 0
    client.communicate(timeout=10)


def test_workers_share_the_port(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--workers", "2", cwd=folder)
    pids = {get(serve.url + "/pid") for _ in range(50)}
    assert len(pids) == 2 and str(serve.process.pid) not in pids


def test_a_worker_that_dies_is_replaced(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--workers", "2", cwd=folder)
    before = {get(serve.url + "/pid") for _ in range(50)}
    with pytest.raises((OSError, urllib.error.URLError)):
        get(serve.url + "/die")
    died = serve.wait_for(r"worker (\d+) ended \(SIGKILL\)")[1]
    assert died in before
    after: set[str] = set()
    deadline = time.monotonic() + 10
    while len(after) < 2 and time.monotonic() < deadline:
        after = {get(serve.url + "/pid") for _ in range(50)}
    assert len(after) == 2 and died not in after
    assert serve.stop() == 0


def test_workers_end_with_their_supervisor(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--workers", "2", cwd=folder)
    pids = {int(get(serve.url + "/pid")) for _ in range(50)}
    serve.process.kill()
    serve.process.wait(10)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "workers outlive their supervisor"
        time.sleep(0.02)


def test_access_log(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--access-log", cwd=folder)
    get(serve.url + "/a?b=%22c")
    serve.wait_for(
        r'^127\.0\.0\.1:\d+ \[\d{4}-..-..T..:..:..Z\] "GET /a\?b=%22c HTTP/1\.1" 200 5 [\d.]+ms$'
    )
    with pytest.raises(urllib.error.HTTPError):
        get(serve.url + "/raise")
    serve.wait_for(r'"GET /raise HTTP/1\.1" 500 ')
    with socket.create_connection(serve.address) as s:
        s.sendall(b"nonsense\r\n\r\n")
        s.makefile("rb").read()
    serve.wait_for(r'"-" 400 ')


def test_limits_are_flags(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve("hello:app", "--max-fields", "8", "--no-server-header", cwd=folder)
    with urllib.request.urlopen(serve.url) as response:
        assert response.headers["server"] is None
    request = urllib.request.Request(serve.url, headers={f"x-{i}": "1" for i in range(9)})
    with pytest.raises(urllib.error.HTTPError, match="431"):
        urllib.request.urlopen(request, timeout=10)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("nothing_here:app", "nothing_here"),
        ("hello:nothing", "nothing"),
        ("hello:not_callable", "not_callable is int, which cannot be called"),
        ("broken:app", "ZeroDivisionError"),
        ("failing:app", "the app's startup failed: no database today"),
    ],
)
def test_an_app_that_cannot_start_is_a_sentence_and_status_3(
    puff_serve: PuffServe, folder: Path, app: str, sentence: str, workers: str
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    (folder / "failing.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database today'})\n"
        "    raise RuntimeError('and more')\n"
    )
    status, output = fails(puff_serve, app, "--workers", workers, folder=folder)
    assert status == 3
    assert sentence in output
    assert "listening" not in output and "starting another" not in output
    assert ("Traceback" in output) == (app == "broken:app")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_in_use_is_a_sentence_and_status_1(
    puff_serve: PuffServe, folder: Path, free_port: int, workers: str
) -> None:
    puff_serve("hello:app", "--bind", f"127.0.0.1:{free_port}", "--workers", "2", cwd=folder)
    status, output = fails(
        puff_serve,
        "hello:app",
        "--bind",
        f"127.0.0.1:{free_port}",
        "--workers",
        workers,
        folder=folder,
    )
    assert status == 1
    assert output.strip().endswith(
        f"puff: cannot listen on 127.0.0.1:{free_port}: the address is in use"
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reuse_port_shares_on_purpose(
    puff_serve: PuffServe, folder: Path, free_port: int, workers: str
) -> None:
    flags = ["--bind", f"127.0.0.1:{free_port}", "--reuse-port", "--workers", workers]
    first = puff_serve("hello:app", *flags, cwd=folder)
    second = puff_serve("hello:app", *flags, cwd=folder)
    assert get(first.url) == get(second.url) == "hello"


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(
    puff_serve: PuffServe, folder: Path
) -> None:
    first = puff_serve("hello:app", "--bind", f"unix:{folder}/s", cwd=folder)
    for workers in ("1", "2"):
        status, output = fails(
            puff_serve,
            "hello:app",
            "--bind",
            f"unix:{folder}/s",
            "--workers",
            workers,
            folder=folder,
        )
        assert (status, "in use" in output) == (1, True)
    first.process.kill()
    first.process.wait(10)
    assert (folder / "s").exists()
    puff_serve("hello:app", "--bind", f"unix:{folder}/s", cwd=folder)


@pytest.mark.parametrize("bind", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "unix:", ":80"])
def test_a_bind_that_is_none_is_a_sentence_and_status_2(
    puff_serve: PuffServe, folder: Path, bind: str
) -> None:
    status, output = fails(puff_serve, "hello:app", "--bind", bind, folder=folder)
    assert status == 2 and "Traceback" not in output and repr(bind) in output


def test_a_signal_while_the_app_starts(puff_serve: PuffServe, folder: Path) -> None:
    (folder / "slowstart.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    print('starting', flush=True)\n"
        "    await asyncio.sleep(3600)\n"
    )
    for workers in ("1", "2"):
        serve = puff_serve("slowstart:app", "--workers", workers, cwd=folder, wait=False)
        serve.wait_for("starting")
        serve.stop(timeout=10)
        assert "Traceback" not in serve.output


def test_a_signal_that_meets_a_worker_at_its_birth_is_not_lost(run_python: Any) -> None:
    """The child is told to stop before it has done anything, then the supervisor is."""
    done = run_python(
        """
import os, signal, time
from puff.supervisor import Supervisor

fork = os.fork
def fork_and_stop():
    pid = fork()
    if pid:
        os.kill(pid, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    return pid
os.fork = fork_and_stop

def worker(sockets, ready_fd, parent_fd):
    time.sleep(60)
    return 0

print("status", Supervisor(2, worker, stop_timeout_s=60).run(lambda: None))
""",
        timeout=20,
    )
    assert done.stdout == "status 0\n"


def test_the_environment_is_enough(puff_serve: PuffServe, folder: Path) -> None:
    serve = puff_serve(None, cwd=folder, env=os.environ | {"PUFF_ASGI": "hello:app"})
    assert get(serve.url) == "hello"
