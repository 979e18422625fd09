"""`Sweep.load`: what a sweep left, read again; what is no sweep is one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from sweep_world import invented_results

ABSENT = object()


def left(folder: Path, results: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_a_sweep_is_read_from_its_folder(tmp_path: Path) -> None:
    found = ss.Sweep.load(left(tmp_path / "x", invented_results()))
    assert not found.finished
    assert found.table().loc[("average", "", "s3"), "difference"] == 0.05
    assert len(found.table()) == 6 * 2 + 2
    assert len(found.cells()) == 7 * 2
    assert "+5.0 [-1.0, +11.0] | +5.0 [-2.0, +12.0] | 5 (2) | 0 (0) | 1.00 | 6 |" in str(found)
    assert "last failed, 2 of 2 cells are there: the teacher fell silent" in str(found)
    page = found.report().read_text(encoding="utf-8")
    assert "On other data sets" in page
    assert "6 of 7 comparisons are finished." in page


def edits(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the place of every value in a document; of a list, only its first."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from edits(each, (*path, key))


@pytest.mark.parametrize("value", [None, "x", 5, [], {}, [[]], pytest.param(ABSENT, id="absent")], ids=str)
def test_an_edited_file_is_refused_or_can_be_used(value: Any, tmp_path: Path) -> None:
    for place in edits(json.loads(json.dumps(invented_results(1)))):
        whole: Any = json.loads(json.dumps(invented_results(1)))
        node = whole
        for key in place[:-1]:
            node = node[key]
        if value is ABSENT:
            del node[place[-1]]
        else:
            node[place[-1]] = value
        # Any other error is a defect.
        with suppress(ss.RunError):
            found = ss.Sweep.load(left(tmp_path / "x", whole))
            _ = str(found), repr(found), found._repr_html_(), found.table(), found.warnings, found.finished


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000, "5"])
def test_what_is_no_sweep_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ss.RunError, match=r"sweep\.json' cannot be read: .* The same sweep again writes it anew") as caught:
        ss.Sweep.load(tmp_path)
    assert "\n" not in str(caught.value)
