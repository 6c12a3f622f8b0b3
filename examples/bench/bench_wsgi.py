"""WSGI over HTTP/1.1: Puff on greenlets and in threads, its peers, and the same answer from C."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from bench_http import POST, load_argv
from harness import OUT, Sample, compare, save

BIN = Path(sys.executable).parent
PEERS = ["peregrine-server", "fastpysgi", "granian", "gunicorn"]


def argv_of(name: str, app: str, port: int) -> list[str]:
    """Each as its documentation says for one worker, without an access log."""
    here, text = f"127.0.0.1:{port}", str(port)
    if name.startswith("puff"):
        threads = ["--wsgi-threads", "4"] if name == "puff, 4 threads" else []
        return [str(BIN / "puff"), "serve", "--wsgi", app, "--bind", here, *threads]
    if name == "peregrine":
        flags = ["--port", text, "--workers", "1", "--protocol", "wsgi"]
        return [str(BIN / "peregrine"), *flags, app]
    if name == "granian":
        flags = ["--interface", "wsgi", "--workers", "1", "--runtime-threads", "1"]
        return [str(BIN / "granian"), *flags, "--blocking-threads", "1", "--port", text, app]
    if name == "fastpysgi":
        module, _, attribute = app.partition(":")
        code = (
            f"import fastpysgi, {module} as m; fastpysgi.server.loglevel = 0; "
            f"fastpysgi.run(wsgi_app=m.{attribute}, host='127.0.0.1', port={port})"
        )
        return [sys.executable, "-c", code]
    if name.startswith("gunicorn"):
        kind = ["-k", "gthread", "--threads", "4"] if "gthread" in name else ["-k", "sync"]
        return [str(BIN / "gunicorn"), *kind, "-w", "1", "-b", here, app]
    return [str(OUT / "http_limit"), text, "1024"]


def case(
    path: str, script: str = "", app: str = "app_wsgi:app", limit: bool = False
) -> dict[str, partial[Sample]]:
    """gunicorn's sync worker closes each connection: wrk opens one for each of its requests."""
    names = ["puff", "puff, 4 threads", "peregrine", "fastpysgi", "granian"]
    names += ["gunicorn gthread", "gunicorn sync", *(["C (libuv)"] if limit else [])]
    return {name: partial(load, name, app, path, script) for name in names}


def load(name: str, app: str, path: str, script: str) -> Sample:
    return load_argv(partial(argv_of, name, app), path, script)


def main() -> None:
    cases = {
        title: compare(title, contenders)
        for title, contenders in {
            "WSGI GET 1 KiB": case("/1k", limit=True),
            "WSGI POST echo 1 KiB": case("/echo", POST.format(size=1024)),
            "Flask JSON": case("/json", app="app_flask:app"),
        }.items()
    }
    save("wsgi", cases, [*PEERS, "flask"])


if __name__ == "__main__":
    main()
