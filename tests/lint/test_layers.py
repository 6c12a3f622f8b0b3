"""The dependency direction of docs/design.md, read from the includes and from the built library."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from house import CORE, INCLUDE, PACKAGE, includes, name, under

# Each folder of the core, and whose headers it may include.
BELOW = {
    "base": {"base"},
    "loop": {"base", "loop"},
    "http": {"base", "loop", "http"},
    "postgres": {"base", "loop", "postgres"},
    "redis": {"base", "loop", "redis"},
}
# Protocol code: bytes in, events out. It does no I/O, so that it can be fuzzed and tested alone.
PROTOCOL = ["http/h1_parse", "http/h1_chars", "http/h1_target", "http/h1_write", "redis/reader"]
C = (".c", ".h")


def room(path: Path, include: str) -> str | None:
    """The core folder that an include belongs to; None for what is not ours."""
    if include.startswith("puff/"):
        return Path(include).stem
    for base in (path.parent, CORE):
        target = (base / include).resolve()
        if target.is_file() and target.is_relative_to(CORE):
            return target.relative_to(CORE).parts[0]
    return None


def test_every_core_folder_has_its_place() -> None:
    assert {p.relative_to(CORE).parts[0] for p in under(CORE, *C)} <= set(BELOW)


@pytest.mark.parametrize("path", under(CORE, *C), ids=name)
def test_core_includes_only_what_lies_below(path: Path) -> None:
    allowed = BELOW[path.relative_to(CORE).parts[0]]
    rooms = {include: room(path, include) for include in includes(path)}
    assert [i for i, r in rooms.items() if r and r not in allowed] == []


@pytest.mark.parametrize("path", under(INCLUDE / "puff", ".h"), ids=name)
def test_public_headers_include_only_what_lies_below(path: Path) -> None:
    if path.stem not in BELOW:
        pytest.skip("not a folder's header")
    ours = [Path(i).stem for i in includes(path) if i.startswith("puff/")]
    assert set(ours) <= BELOW[path.stem]


@pytest.mark.parametrize("path", under(CORE, *C), ids=name)
def test_core_knows_no_python(path: Path) -> None:
    assert "Python.h" not in includes(path)


@pytest.mark.parametrize("path", under(INCLUDE, ".h"), ids=name)
def test_python_h_is_only_in_python_h(path: Path) -> None:
    assert "Python.h" not in includes(path) or path.name == "python.h"


@pytest.mark.parametrize("path", under(PACKAGE, *C, ".pyx", ".pxd"), ids=name)
def test_native_code_of_the_package_is_in_bind(path: Path) -> None:
    assert path.relative_to(PACKAGE).parts[0] == "_bind"


@pytest.mark.parametrize("stem", PROTOCOL)
def test_protocol_code_does_no_io(stem: str) -> None:
    """Neither itself nor through a header of ours."""
    todo = [p for p in (CORE / f"{stem}.c", CORE / f"{stem}.h") if p.exists()]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        seen.add(path)
        included = includes(path)
        assert "uv.h" not in included, f"{name(path)} is reached from {stem}"
        for include in included:
            for base in (path.parent, CORE, INCLUDE):
                target = (base / include).resolve()
                if target.is_file() and target not in seen:
                    todo.append(target)
                    break


def library() -> Path:
    spec = importlib.util.find_spec("puff")
    if spec is None or spec.origin is None:
        pytest.skip("puff is not installed")
    return Path(spec.origin).parent / "_lib" / "libpuff.so"


def read_binary(*command: str | Path) -> list[str]:
    """The lines that a tool of binutils prints."""
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def exported(binary: Path) -> list[str]:
    return [line.split()[-1] for line in read_binary("nm", "-D", "--defined-only", binary)]


def test_libpuff_has_no_symbol_of_python() -> None:
    symbols = [line.split()[-1] for line in read_binary("nm", "-D", library())]
    assert [s for s in symbols if s.startswith(("Py", "_Py"))] == []


def test_libpuff_exports_only_its_own_names() -> None:
    symbols = exported(library())
    assert symbols, "nothing is exported"
    assert [s for s in symbols if not s.startswith("puff_") or s.startswith("puff__")] == []


def test_there_is_one_core() -> None:
    """Extension modules find libpuff in the package, and none carries a second one."""
    lib = library()
    for module in sorted((lib.parent.parent / "_bind").glob("*.so")):
        dynamic = "\n".join(read_binary("readelf", "-d", module))
        assert "libpuff.so" not in dynamic or "$ORIGIN/../_lib" in dynamic, module
        assert [s for s in exported(module) if s.startswith("puff_")] == [], module
