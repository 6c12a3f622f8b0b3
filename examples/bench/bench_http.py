"""ASGI over HTTP/1.1: Puff, peregrine, granian, uvicorn, and the same answer from C."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import OUT, SECONDS, Sample, client, compare, free_port, save, server, under_load

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CONNECTIONS = 64

POST = """
wrk.method = "POST"
wrk.body = string.rep("x", {size})
wrk.headers["content-type"] = "application/octet-stream"
"""
PIPELINE = """
init = function(args)
  local r = {}
  for i = 1, 16 do r[i] = wrk.format(nil, nil) end
  req = table.concat(r)
end
request = function() return req end
"""


def argv_of(name: str, app: str, port: int) -> list[str]:
    """Each as its documentation says for one worker, without an access log."""
    port_text = str(port)
    if name == "puff":
        return [str(BIN / "puff"), "serve", "--asgi", app, "--bind", f"127.0.0.1:{port}"]
    if name == "uvicorn":
        args = [
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--no-access-log",
            "--log-level",
            "error",
        ]
        return [str(BIN / "uvicorn"), app, "--port", port_text, *args]
    if name == "granian":
        args = ["--loop", "uvloop", "--workers", "1", "--runtime-threads", "1", "--no-ws"]
        return [str(BIN / "granian"), "--interface", "asgi", "--port", port_text, *args, app]
    if name == "peregrine":
        return [str(BIN / "peregrine"), "--port", port_text, "--workers", "1", app]
    return [str(OUT / "http_limit"), port_text, "10240" if "10k" in app else "1024"]


def requests_of(output: str) -> int:
    found = re.search(r"(\d+) requests in", output)
    if found is None or "Non-2xx" in output:
        raise RuntimeError(output)
    return int(found.group(1))


def load(name: str, app: str, path: str, script: str) -> Sample:
    return load_argv(partial(argv_of, name, app), path, script)


def load_argv(argv_at: Callable[[int], list[str]], path: str, script: str) -> Sample:
    """One round of wrk against the server that these arguments start at a port."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", *(["-s", lua.name] if script else [])]
        url = f"http://127.0.0.1:{port}{path}"
        with server(argv_at(port), port, HERE) as pid:
            client(*wrk, "-d1", url)
            return under_load(pid, lambda: requests_of(client(*wrk, f"-d{SECONDS:.0f}", url)))


def case(
    path: str, script: str = "", limit: str = "", app: str = "app_asgi:app"
) -> dict[str, partial[Sample]]:
    names = ["puff", "peregrine", "granian", "uvicorn"]
    contenders = {name: partial(load, name, app, path, script) for name in names}
    if limit:
        contenders["C (libuv)"] = partial(load, "C", limit, path, script)
    return contenders


def main() -> None:
    cases = {}
    for title, contenders in {
        "ASGI GET 1 KiB": case("/1k", limit="1k"),
        "ASGI GET 10 KiB": case("/10k", limit="10k"),
        "ASGI POST echo 1 KiB": case("/echo", POST.format(size=1024)),
        "ASGI POST echo 10 KiB": case("/echo", POST.format(size=10240)),
        "ASGI GET 1 KiB, 16 pipelined": case("/1k", PIPELINE, limit="1k"),
        "FastAPI JSON": case("/json", app="app_fastapi:app"),
    }.items():
        cases[title] = compare(title, contenders)
    save(
        "http", cases, ["peregrine-server", "granian", "uvicorn", "httptools", "uvloop", "fastapi"]
    )


if __name__ == "__main__":
    main()
