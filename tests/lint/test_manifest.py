"""vendor/manifest.txt, meson.build, pyproject.toml and tests/requirements.txt say the same."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.requirements import Requirement

from house import ROOT, files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def manifest() -> list[list[str]]:
    lines = (ROOT / "vendor" / "manifest.txt").read_text().splitlines()
    return [line.split(None, 5) for line in lines if not line.startswith("#")]


def test_manifest_rows_are_whole() -> None:
    for row in manifest():
        assert len(row) == 6, row
        assert row[0] in ("build", "test"), row
        assert row[2].split(":")[0] in ("pkg", "cmd", "hdr", "py"), row


def test_floors_are_those_of_meson() -> None:
    text = (ROOT / "meson.build").read_text()
    meson = re.findall(r"dependency\('([\w-]+)', version: '>= ([\d.]+)'\)", text)
    rows = [
        (row[2].removeprefix("pkg:"), row[3]) for row in manifest() if row[2].startswith("pkg:")
    ]
    assert sorted(meson) == sorted(rows)


def test_every_probe_is_asked_and_documented() -> None:
    probes = sorted(p.stem for p in files(".c") if p.parent.name == "probes")
    core = (ROOT / "puffloop" / "core" / "meson.build").read_text()
    readme = (ROOT / "vendor" / "README.md").read_text()
    assert [p for p in probes if f"'{p}'" not in core] == []
    assert [p for p in probes if f"`{p}`" not in readme] == []


def test_every_feature_that_code_asks_for_is_probed() -> None:
    probes = {f"PUFF_HAVE_{p.stem.upper()}" for p in files(".c") if p.parent.name == "probes"}
    core = [p for p in files(".c", ".h") if "core" in p.parts]
    asked = {m for p in core for m in re.findall(r"\bPUFF_HAVE_\w+", p.read_text())}
    here = {m for p in core for m in re.findall(r"define (PUFF_HAVE_\w+)", p.read_text())}
    assert asked - here - probes == set()


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def installed_for_tests() -> list[Requirement]:
    lines = (ROOT / "tests" / "requirements.txt").read_text().splitlines()
    wanted = [line.split(" #")[0] for line in lines if line and not line.startswith("#")]
    return [Requirement(line) for line in wanted]


def same(one: Requirement, other: Requirement) -> bool:
    return (
        one.name == other.name
        and one.specifier == other.specifier
        and str(one.marker) == str(other.marker)
    )


@pytest.mark.parametrize("group", ["build", "run", "embedded"])
def test_requirements_have_the_floors_of_pyproject(group: str) -> None:
    toml = project()
    groups = {
        "build": toml["build-system"]["requires"],
        "run": toml["project"]["dependencies"],
        "embedded": toml["project"]["optional-dependencies"]["embedded"],
    }
    here = installed_for_tests()
    for wanted in map(Requirement, groups[group]):
        assert any(same(wanted, requirement) for requirement in here), wanted


def test_version_is_said_once() -> None:
    meson = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text())
    assert meson and meson[1] == project()["project"]["version"]
    assert f"## {meson[1]}" in (ROOT / "CHANGELOG.md").read_text()
