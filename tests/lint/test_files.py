"""Rules about files as such: sizes, names, what must never be committed, what meson must know."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from house import CORE, PACKAGE, ROOT, files, name, under

SOURCES = (".c", ".h", ".pyx", ".pxd", ".py", ".pyi")
TEXT = (*SOURCES, ".md", ".toml", ".build", ".options", ".txt", ".html", ".js", ".sh", "")
# Assembled here so that this file does not find itself.
FORBIDDEN = {
    "a registry's host": r"\b(?:pypi|pythonhosted|npmjs|crates|deb\.debian|golang)\.(?:org|io)\b",
    "a home directory": r"/(?:home/(?!me\b|you\b|app\b)[a-z]|root/(?!\.\.)|Users/[a-z])",
    "a folder of the workplace": r"/wor[k]/",
    "a conflict marker": r"^(?:<{7}|>{7}) ",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.M)
    found = []
    for path in files(*TEXT):
        if path == Path(__file__):
            continue
        for line in path.read_text(errors="replace").splitlines():
            if pattern.search(line):
                found.append(f"{name(path)}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize("path", under(ROOT / "puffloop", *SOURCES), ids=name)
def test_file_is_one_noun(path: Path) -> None:
    """A file past 800 lines has a second noun in it. A warning, since some nouns are large."""
    lines = path.read_text().count("\n")
    if lines > 800:
        warnings.warn(f"{name(path)} has {lines} lines: is it still one noun?", stacklevel=1)
    assert lines <= 1200


@pytest.mark.parametrize("path", under(ROOT / "puffloop", ".c"), ids=name)
def test_c_file_begins_by_saying_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("/*")


def listed(build: Path) -> set[Path]:
    """The source files that a meson.build names."""
    names = re.findall(r"'([\w./-]+\.(?:c|pyx|py|pyi|pxd|typed))'", build.read_text())
    return {(build.parent / n).resolve() for n in names}


@pytest.mark.parametrize("build", under(ROOT / "puffloop", ".build"), ids=name)
def test_files_listed_for_meson_exist(build: Path) -> None:
    assert [name(p) for p in listed(build) if not p.is_file()] == []


def test_every_core_source_is_built() -> None:
    known = set().union(*(listed(p) for p in under(CORE, ".build")))
    assert [name(p) for p in under(CORE, ".c") if p not in known] == []


def test_every_python_file_is_installed() -> None:
    known = set().union(*(listed(p) for p in under(PACKAGE, ".build")))
    known.update(p.with_suffix(".pyi") for p in under(PACKAGE, ".pyx"))  # with their modules
    assert [name(p) for p in under(PACKAGE, ".py", ".pyi") if p not in known] == []


def test_every_cython_module_is_built() -> None:
    """Named in _bind/meson.build as a key, without its suffix."""
    keys = re.findall(r"'(\w+)'\s*:", (PACKAGE / "_bind" / "meson.build").read_text())
    modules = [p.stem for p in under(PACKAGE / "_bind", ".pyx")]
    assert sorted(set(modules) - set(keys)) == []


def test_every_c_unit_test_is_built() -> None:
    for path in under(ROOT / "tests" / "c", ".c"):
        build = path.parent / "meson.build"
        if path.name.startswith("test_"):
            assert f"'{path.stem}'" in build.read_text(), name(path)
