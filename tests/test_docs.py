"""The documents: links lead somewhere, the README stays short, what it promises is tested, nothing was left open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"`tests/(?:[\w/]*/)?(test_\w+\.py)`")
_TEST = re.compile(r"`(test_\w+_\w+_\w+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the names under which a page's headings are linked."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in _LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        if not found.exists() or (anchor and anchor not in anchors(found.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nothing_was_left_open(page: Path) -> None:
    assert not re.search(r"@@|\bTODO\b|\bTBD\b|\bXXX\b", page.read_text(encoding="utf-8"))


def test_the_readme_is_short_and_has_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) < 900
    assert "```\nmake quickstart\n```" in text
    assert "```\nmake test\n```" in text


def test_the_tests_that_documents_name_exist() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    everything = "\n".join(sources.values())
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    files = [(page, file) for page, text in pages.items() for file in _FILE.findall(text)]
    names = [(page, name) for page, text in pages.items() for name in _TEST.findall(text)]
    assert files
    assert names
    assert [(page, file) for page, file in files if file not in sources] == []
    assert [(page, name) for page, name in names if f"def {name}(" not in everything] == []
