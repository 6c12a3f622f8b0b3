"""What the documents say about the checkout is true: commands, paths and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from house import ROOT, files, name

DOCUMENTS = [p for p in files(".md") if ROOT / "docs" in p.parents or p.parent == ROOT]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


def test_every_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.M))
    assert targets() == explained
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony and set(phony[1].split()) == targets()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_make_targets_in_documents_exist(path: Path) -> None:
    text = path.read_text()
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    named = re.findall(r"(?:^|[\s`])make ((?:[a-z][a-z-]*[ \t]*)+)", "\n".join(code), re.M)
    known = targets()
    assert [t for words in named for t in words.split() if t not in known] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_and_paths_in_documents_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [link for link in links if not (path.parent / link).exists()] == []
    folders = "docs|examples|include|puffloop|tests|tools|vendor"
    paths = re.findall(rf"`((?:{folders})/[a-z0-9_./-]+)`", text)  # not those with an X to fill in
    assert [p for p in paths if not (ROOT / p).exists()] == []


def test_tour_names_rooms_that_exist() -> None:
    """Each path of docs/tour.md is below puffloop/, but for the C API's."""
    text = (ROOT / "docs" / "tour.md").read_text()
    rooms = re.findall(r"`((?:core|puff)/[\w/]+\.(?:c|pyx|py))`", text)
    assert rooms
    assert [r for r in rooms if not (ROOT / "puffloop" / r).exists()] == []
