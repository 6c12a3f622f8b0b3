"""puff serve --monkey: an app written for threads, each request on a greenlet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from monkeys import slow_http

APP = """
import threading
from time import sleep

import requests

lock, local, asked = threading.Lock(), threading.local(), 0

def app(environ, start_response):
    global asked
    nonce = local.nonce = environ["QUERY_STRING"]
    url = environ["PATH_INFO"][1:]
    with lock:
        sleep(0.001)
        asked += 1
    answer = requests.get(f"http://localhost:{url}/", {"s": "0.2", "nonce": nonce}, timeout=20)
    assert local.nonce == nonce
    start_response("200 OK", [("content-type", "text/plain")])
    return [answer.text.encode()]
"""


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_requests_are_served_together(
    how: str, puff_serve: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    flags = ["--monkey"] if how == "flag" else []
    env = os.environ | ({"PUFF_MONKEY": "1"} if how == "environment" else {})
    if how == "file":
        (tmp_path / "puff.toml").write_text("[server]\nmonkey = true\n")
    serve = puff_serve(None, "--wsgi", "shop:app", *flags, cwd=tmp_path, env=env)
    with slow_http() as slow, httpx.Client() as client, ThreadPoolExecutor(30) as pool:
        port = slow.rstrip("/").rpartition(":")[2]

        def get(i: int) -> str:
            return client.get(f"{serve.url}/{port}?{i}", timeout=30).text

        begun = time.monotonic()
        answers = list(pool.map(get, range(30)))
    assert answers == [str(i) for i in range(30)]
    assert time.monotonic() - begun < 30 * 0.2 * 0.8
