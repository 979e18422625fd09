"""`Comparison.load`: what a comparison left, read again; what is no comparison is one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from report_story import comparison

ABSENT = object()


def left(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(comparison()), encoding="utf-8")
    return folder


def test_a_comparison_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path / "runs" / "compare-x")
    monkeypatch.chdir(tmp_path)
    found = ss.Comparison.load("runs/compare-x")
    assert (found.path, found.results) == (tmp_path / "runs" / "compare-x", json.loads(json.dumps(comparison())))
    assert list(found.to_pandas().index) == [entry["name"] for entry in found.results["systems"]]
    assert found.report() == found.path / "comparison.html"
    assert found.reference in str(found)
    assert "<table>" in found._repr_html_()


def begun(folder: Path) -> None:
    (folder / "gold-0").mkdir(parents=True)
    (folder / "gold-0" / "config.json").write_text("{}")


def holding(text: str) -> Callable[[Path], object]:
    return lambda folder: left(folder).joinpath("results.json").write_text(text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "there is no comparison at '{}': there is no such folder. Give the folder of a comparison."),
        (lambda folder: folder.write_text("x"), "there is no comparison at '{}': it is a file."),
        (lambda folder: folder.mkdir(), "there is no finished comparison at '{}': the folder has no results.json."),
        (begun, "there is no finished comparison at '{}': it has no results.json yet. The call or command that began it"),
        (lambda folder: left(folder).joinpath("config.json").write_text("{}"), "'{}' is a run, not a comparison. Read it with"),
        (holding("{"), "'{}/results.json' cannot be read: Expecting property name"),
        (holding('{"methods": {}}'), "'{}/results.json' is not that of a comparison. The same comparison again"),
        (holding("[]"), "'{}/results.json' is not that of a comparison."),
        (holding("[" * 100_000), "'{}/results.json' cannot be read: nested too deeply. The same comparison again"),
        (holding(json.dumps(comparison() | {"systems": [{}]})), "'{}/results.json' is not that of a comparison."),
        (holding(json.dumps(comparison() | {"systems": "x"})), "'{}/results.json' is not that of a comparison."),
    ],
)
def test_what_is_no_comparison_is_one_line(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(ss.RunError, match=re.escape(said.format(tmp_path / "x"))) as caught:
        ss.Comparison.load(tmp_path / "x")
    assert "\n" not in str(caught.value)


def edits(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the place of every value in a document; of a list, only its first."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from edits(each, (*path, key))


@pytest.mark.parametrize("place", [*edits(json.loads(json.dumps(comparison())))], ids=str)
def test_an_edited_file_is_refused_or_can_be_used(place: tuple[Any, ...], tmp_path: Path) -> None:
    file = left(tmp_path / "x") / "results.json"
    for value in (None, "x", 5, [], {}, [[]], ABSENT):
        whole = json.loads(json.dumps(comparison()))
        node = whole
        for key in place[:-1]:
            node = node[key]
        if value is ABSENT:
            del node[place[-1]]
        else:
            node[place[-1]] = value
        file.write_text(json.dumps(whole), encoding="utf-8")
        # Any other error is a defect.
        with suppress(ss.RunError):
            found = ss.Comparison.load(tmp_path / "x")
            _ = str(found), repr(found), found._repr_html_(), found.to_pandas(), found.warnings, found.reference


def test_a_page_that_is_missing_is_written_again(tmp_path: Path) -> None:
    found = ss.Comparison.load(left(tmp_path / "x"))
    page = found.report()
    before = page.read_bytes()
    assert b"<table" in before
    page.write_bytes(b"kept as it is")
    assert found.report().read_bytes() == b"kept as it is"
    page.unlink()
    assert found.report().read_bytes() == before
    page.unlink()
    del found.results["curve"][0]["rows"]
    with pytest.raises(ss.RunError, match=r"results\.json' is not that of a comparison\. The same comparison again"):
        found.report()
