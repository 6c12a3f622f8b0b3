"""The installed package's public face."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

puff = pytest.importorskip("puff")


# For frameworks that Puff does not depend on: module -> what it cannot be imported without.
NEEDS = {"puff.workers": "gunicorn"}


def load(name: str) -> ModuleType:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return importlib.import_module(name)


def public_modules() -> list[str]:
    """puff and the modules directly in it. What lies deeper is that package's own business."""
    modules = pkgutil.iter_modules(puff.__path__)
    return ["puff", *(f"puff.{m.name}" for m in modules if not m.name.startswith("_"))]


@pytest.mark.parametrize("name", public_modules())
def test_all_is_there_sorted_and_true(name: str) -> None:
    module = load(name)
    assert hasattr(module, "__all__"), "a public module says what is public"
    assert list(module.__all__) == sorted(module.__all__)
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_package_says_that_it_is_typed() -> None:
    assert (Path(puff.__file__).parent / "py.typed").exists()


def test_stub_of_the_package_names_what_is_public() -> None:
    """The package finds its names lazily, so the type checkers read a stub."""
    stub = (Path(puff.__file__).parent / "__init__.pyi").read_text()
    assert sorted(set(re.findall(r" as (\w+)", stub))) == list(puff.__all__)


def ours(value: object) -> bool:
    """Classes and functions of ours, not what we pass on or a type alias."""
    module = getattr(value, "__module__", "") or ""
    return callable(value) and hasattr(value, "__name__") and module.split(".")[0] == "puff"


@pytest.mark.parametrize("name", public_modules())
def test_public_names_are_documented(name: str) -> None:
    module = load(name)
    assert module.__doc__
    values = {n: getattr(module, n) for n in getattr(module, "__all__", ())}
    assert [n for n, value in values.items() if ours(value) and not value.__doc__] == []
