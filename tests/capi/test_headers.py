"""Every public header compiles alone, as C11 and as C++, with a stranger's warnings on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).resolve().parents[2] / "include"
HEADERS = sorted(p.relative_to(INCLUDE) for p in INCLUDE.rglob("*.h") if p.name != "python.h")
LANGUAGES = {
    "c11": ["cc", "-x", "c", "-std=c11", "-Wpedantic"],
    "c++17": ["c++", "-x", "c++", "-std=c++17"],  # pedantic C++ has no anonymous structs, C11 does
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_header_compiles_alone(header: Path, language: str) -> None:
    compiler = LANGUAGES[language]
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]} here")
    warnings = ["-Wall", "-Wextra", "-Werror"]
    # Twice, because an include guard must hold.
    source = f"#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n"
    command = [*compiler, *warnings, "-fsyntax-only", f"-I{INCLUDE}", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_declarations_have_c_linkage(header: Path) -> None:
    """What a C++ program links must not be mangled."""
    text = (INCLUDE / header).read_text()
    assert "PUFF_API" not in text or 'extern "C"' in text
