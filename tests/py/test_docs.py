"""The first Python example of each page runs, as it stands, in a folder of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import RunPython

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = {
    page.name: example.group(1)
    for page in sorted(DOCS.glob("*.md"))
    if (example := EXAMPLE.search(page.read_text()))
}


def test_pages_have_examples() -> None:
    assert {"postgres.md", "redis.md", "worlds.md", "loop.md", "http.md", "wsgi.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_example_runs(page: str, run_python: RunPython, puff_env: dict[str, str]) -> None:
    run_python(PAGES[page], env=puff_env, timeout=50)
