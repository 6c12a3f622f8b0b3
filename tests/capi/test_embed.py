"""A stranger's program, compiled and linked against what the installed package ships."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

puff = pytest.importorskip("puff")
PACKAGE = Path(puff.__file__).parent
SOURCE = Path(__file__).with_name("embedder.c")
LANGUAGES = {
    "c11": ["cc", "-x", "c", "-std=gnu11"],
    "c++17": ["c++", "-x", "c++", "-std=gnu++17"],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_embeds_the_core(language: str, tmp_path: Path) -> None:
    compiler = LANGUAGES[language]
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]} here")
    program = tmp_path / "embedder"
    lib = PACKAGE / "_lib"
    flags = ["-Wall", "-Werror", f"-I{PACKAGE / 'include'}", f"-L{lib}", f"-Wl,-rpath,{lib}"]
    command = [*compiler, *flags, SOURCE, "-o", program, "-lpuff"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
