"""Django on `puff serve --wsgi`: views, middleware, sessions, files, streams, the ORM on sqlite.

A process of its own: Django's settings are one for each process. See also test_http.py (ASGI) and
test_frameworks_load.py (Postgres).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("django")

HERE = str(Path(__file__).parent)


def site_env(**more: str) -> dict[str, str]:
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([HERE, *([before] if before else [])])
    return os.environ | {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "django_site"} | more


def migrate(env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v", "0"]
    subprocess.run(command, env=env, check=True, timeout=40)


@pytest.fixture(params=["0", "3"], ids=["greenlet", "thread"])
def site(request: pytest.FixtureRequest, puff_serve: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    (tmp_path / "file.bin").write_bytes(bytes(range(256)) * 1000)
    env = site_env(SITE_SQLITE=str(tmp_path / "db"), SITE_FILE=str(tmp_path / "file.bin"))
    migrate(env)
    flags = ("--wsgi", "django_site:application", "--wsgi-threads", request.param)
    serve = puff_serve(None, *flags, env=env)
    with httpx.Client(base_url=serve.url, timeout=10) as client:
        client.serve = serve  # type: ignore[attr-defined]
        yield client


def test_a_site(site: httpx.Client, tmp_path: Path) -> None:
    reply = site.get("/hello/J%C3%BCrgen/?q=%C3%A9")
    assert (reply.text, reply.headers["x-stamp"]) == ("hello Jürgen é", "/hello/J?rgen/")
    assert site.get("/hello/x").headers["location"] == "/hello/x/"  # CommonMiddleware's
    assert site.get("/nope/").status_code == 404

    assert [site.get("/visits/").json()["n"] for _ in range(3)] == [1, 2, 3]

    for size in (10, 1_000_000):  # the second lies in a file of Django's
        files = {"file": ("a.bin", b"x" * size)}
        reply = site.post("/upload/", files=files, data={"field": "é"})
        assert reply.json() == {"size": size, "name": "a.bin", "field": "é"}

    content = (tmp_path / "file.bin").read_bytes()
    reply = site.get("/file/")
    assert (reply.content, reply.headers["content-length"]) == (content, "256000")
    assert site.head("/file/").content == b""

    assert site.get("/later/?x=async").text == "async"
    assert site.get("/fail/").status_code == 500

    assert site.get("/orm/?nonce=n1").json() == {"orm": "n1", "sql": "n1"}
    assert site.get("/rolled_back/?nonce=n2").text == "False"


def test_views_run_side_by_side(site: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = pool.map(lambda n: site.get(f"/stream/?x={n}").text, range(24))
        queries = pool.map(lambda n: site.get(f"/orm/?nonce=q{n}").json(), range(24))
        assert list(streams) == ["".join(f"{i}{n} " for i in range(5)) for n in range(24)]
        assert list(queries) == [{"orm": f"q{n}", "sql": f"q{n}"} for n in range(24)]
