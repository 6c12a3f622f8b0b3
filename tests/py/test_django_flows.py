"""Django's async ORM, transactions, signals and ASGI handler on our loop: django_flows.py."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("django_flows.py")
HELPERS = {"async_view", "stream_view", "within_bound"}


def cases() -> list[str]:
    tree = ast.parse(SCRIPT.read_text())
    found = [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    return [name for name in found if name not in HELPERS]


@pytest.mark.parametrize("case", cases())
def test_django(case: str, tmp_path: Path, run_python: Any) -> None:
    done = run_python(SCRIPT, str(tmp_path / "site.sqlite3"), case)
    assert "fine" in done.stdout
    assert "was never awaited" not in done.stderr
