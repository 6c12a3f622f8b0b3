"""examples/guestbook as a person and a program use it: `puff serve`, Postgres, Redis, a browser."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

GUESTBOOK = Path(__file__).parents[2] / "examples" / "guestbook"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def guestbook(puff_serve: Callable[..., Any], puff_env: dict[str, str]) -> str:
    url: str = puff_serve("app:app", cwd=GUESTBOOK, env=puff_env).url
    return url


def test_entry_written_by_the_api_is_read_back(guestbook: str) -> None:
    nonce = uuid.uuid4().hex
    with httpx.Client(base_url=guestbook) as client:
        answer = client.post("/api/entries", json={"name": "Ada", "message": nonce})
        assert answer.status_code == 201 and answer.json()["message"] == nonce
        newest = client.get("/api/entries", params={"limit": 1}).json()
        assert [entry["message"] for entry in newest] == [nonce]


def test_page_counts_visits_and_escapes_what_people_write(guestbook: str) -> None:
    nonce = uuid.uuid4().hex
    with httpx.Client(base_url=guestbook, follow_redirects=True) as client:
        before = client.get("/api/visits").json()["visits"]
        page = client.post("/", data={"name": "<b>Eve</b>", "message": f"<script>{nonce}"})
        assert page.status_code == 200 and page.url.path == "/"
        assert f"&lt;script&gt;{nonce}" in page.text and "&lt;b&gt;Eve" in page.text
        assert client.get("/api/visits").json()["visits"] > before


@pytest.mark.parametrize("data", [{}, {"name": ""}, {"name": "x", "message": "y" * 2001}])
def test_bad_entries_are_refused(guestbook: str, data: dict[str, str]) -> None:
    with httpx.Client(base_url=guestbook) as client:
        assert client.post("/", data=data).status_code == 422
        assert client.post("/api/entries", json=data).status_code == 422


def test_many_people_at_once_get_their_own_answers(guestbook: str) -> None:
    def person(n: int) -> None:
        with httpx.Client(base_url=guestbook) as client:
            for i in range(10):
                nonce = f"{n}-{i}-{uuid.uuid4().hex}"
                answer = client.post("/api/entries", json={"name": "p", "message": nonce})
                assert answer.json()["message"] == nonce

    with ThreadPoolExecutor(16) as people:
        list(people.map(person, range(16)))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_page_in_a_browser(guestbook: str, tmp_path: Path) -> None:
    httpx.post(f"{guestbook}/api/entries", json={"name": "Grace", "message": "seen by a browser"})
    argv = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
        f"{guestbook}/",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert "seen by a browser" in done.stdout, done.stderr[-2000:]
