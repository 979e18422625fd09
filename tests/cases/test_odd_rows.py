"""Rows that readers of other programs change or lose without a word: stray quotes, repeated keys, half characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stepsynth.cli.predicting import _refuse_half_characters
from stepsynth.config import SourceConfig
from stepsynth.data.columns import Columns, Tally
from stepsynth.data.rows import read_rows
from stepsynth.errors import DataError
from stepsynth.types import Example

COLUMNS = Columns((("text",), ("label",)), labels=frozenset({"wet", "dry"}))


def read(path: Path, **how: Any) -> tuple[list[tuple[object, object]], Tally]:
    tally = Tally()
    rows = list(read_rows(SourceConfig(path=path, **how), COLUMNS, tally))
    return [(row.values["text"], row.values["label"]) for row in rows], tally


def table(folder: Path, *lines: str, name: str = "a.tsv", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes(end.join(("id\ttext\tlabel", *lines, "")).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "texts",
    [
        ['"It rained', "all day", "and night"],
        ['"It rained', 'all day"', "and night"],
        ['"It rained" he said', "all day", "and night"],
        ["It rained", '"all', '"and night'],
        ["It rained", "all day", '"'],
        ['"It rained" and "it" poured', '"all day"', "and night"],
    ],
    ids=["open", "closed-later", "closed-inside", "two-open", "alone", "whole-and-stray"],
)
def test_a_table_of_tabs_without_quoting_keeps_each_row_and_its_quotes(tmp_path: Path, texts: list[str], end: str) -> None:
    labels = ["wet", "dry", "wet"]
    path = table(
        tmp_path, *(f"{at}\t{text}\t{label}" for at, (text, label) in enumerate(zip(texts, labels, strict=True))), end=end
    )
    rows, tally = read(path)
    assert rows == list(zip(texts, labels, strict=True))
    assert "quotes are part of the texts" in tally.say()


def test_a_table_of_tabs_with_quoting_is_read_as_before(tmp_path: Path) -> None:
    path = table(tmp_path, '0\t"It ""rained""\tall day"\twet', '1\t"two\nlines"\tdry', "2\tplain\twet")
    rows, tally = read(path)
    assert rows == [('It "rained"\tall day', "wet"), ("two\nlines", "dry"), ("plain", "wet")]
    assert "quotes" not in tally.say()
    whole, _ = read(table(tmp_path, '0\t"It rained"\twet', "1\tplain\tdry", name="b.tsv"))
    assert whole[0] == ("It rained", "wet")


def test_where_quoting_off_gives_no_table_either_the_line_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, '0\t"It rained\twet', "1\tone\ttab too many\tdry")
    with pytest.raises(DataError, match=r"line 2 of .* is never closed"):
        read(path)


def test_a_named_tab_counts_as_the_suffix_does(tmp_path: Path) -> None:
    path = table(tmp_path, '0\t"It rained\twet', "1\tall day\tdry", name="a.csv")
    assert read(path, delimiter="\t")[0] == [('"It rained', "wet"), ("all day", "dry")]


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.jsonl", '{"text": "a", "label": "wet"}\n{"text": "b", "text": "c", "label": "dry"}\n', "line 2 of"),
        ("a.json", '[{"text": "a", "label": "wet", "label": "dry"}]', "row 0 of"),
        ("b.json", '{"text": "a", "label": "wet"}\n{"label": "wet", "label": "wet", "text": "b"}', "the object on line 2 of"),
    ],
)
def test_a_key_that_is_there_twice_is_said(tmp_path: Path, name: str, content: str, where: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{where} .* has the key '(text|label)' more than once"):
        read(tmp_path / name)


def test_a_key_that_nobody_wants_may_be_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "wet", "note": 1, "note": {"x": 1, "x": 2}}\n')
    assert read(tmp_path / "a.jsonl")[0] == [("a", "wet")]


@pytest.mark.parametrize("half", [chr(0xD83D), chr(0xDC00)])
@pytest.mark.parametrize("place", ["text", "context"])
def test_half_a_character_in_a_table_is_one_line_with_its_row(half: str, place: str) -> None:
    texts = {"text": "a", "context": "b", place: f"c {half} d"}
    rows = [Example("0", "a"), Example("1", texts["text"], context=texts["context"])]
    with pytest.raises(DataError) as caught:
        _refuse_half_characters(rows, Path("in.jsonl"))
    assert f"row 1 of 'in.jsonl' holds half a surrogate pair ('{json.dumps(half)[1:-1]}')" in caught.value.message
    _refuse_half_characters([Example("0", "a \U0001f60a")], Path("in.jsonl"))
