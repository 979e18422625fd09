"""Gold data: what is read, what is refused and with which words, how it is drawn and cut, what stays sealed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepsynth.config import RunConfig, SourceConfig, TaskConfig, parse_config
from stepsynth.data import SealedInfo, SealedTest, Validation, load_source, load_validation
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.types import Example

Row = tuple[str, str]
TASK = TaskConfig(name="weather", instruction="Say whether it is wet or dry.", labels={"wet": "", "dry": ""})
ROWS: list[Row] = [(f"sentence number {i} about the sky", "wet" if i % 3 else "dry") for i in range(12)]
ODD = 'a "quoted", comma\u2028separated\u0085\ntwo-line, text \u00e9 \U0001f327 \u202b rtl'


def json_lines(rows: list[Row]) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


def table(rows: list[Row], delimiter: str = ",", end: str = "\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows([("text", "label"), *rows])
    return out.getvalue()


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def load(path: Path, **source: object) -> list[Example]:
    return load_source(SourceConfig.model_validate({"path": path, **source}), TASK, role="validation", seed=0)


def pairs(rows: list[Example]) -> list[Row]:
    return [(row.text, row.label) for row in rows]


def run_config(validation: Path, test: Path | None = None, *, seed: int = 0, share: float = 0.5, **source: object) -> RunConfig:
    data: dict[str, Any] = {"validation": {"path": str(validation), **source}, "harvest_share": share}
    if test is not None:
        data["test"] = {"path": str(test)}
    return parse_config({"task": TASK.model_dump(), "data": data, "seed": seed})


def assert_one_line(error: DataError | ConfigError | RunError) -> None:
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 900
    assert error.hint


# reading


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz", "a.CSV", "my.data.v2.jsonl"])
def test_every_text_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    rows = [*ROWS, (ODD, "wet")]
    lower = name.lower()
    content = json_lines(rows) if "jsonl" in lower else table(rows, "\t" if "tsv" in lower else ",")
    read = load(write(tmp_path / name, content))
    assert pairs(read) == rows
    assert [row.id for row in read] == [f"validation-{i}" for i in range(len(rows))]


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [*ROWS, (ODD, "wet")] * 200
    path = write_parquet(
        tmp_path / "a.parquet", {"text": [r[0] for r in rows], "label": [r[1] for r in rows], "other": [1.5] * len(rows)}
    )
    assert pairs(load(path)) == rows


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_byte_order_mark_and_carriage_returns_change_nothing(tmp_path: Path, name: str) -> None:
    content = table(ROWS, end="\r\n") if name.endswith("csv") else json_lines(ROWS).replace("\n", "\r\n")
    assert pairs(load(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))) == ROWS


def test_blank_lines_are_not_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS).replace("\n", "\n\n"))
    assert [row.id for row in load(path)] == [f"validation-{i}" for i in range(len(ROWS))]
    assert pairs(load(write(tmp_path / "a.csv", table(ROWS) + "\n\n"))) == ROWS


def test_columns_and_labels_are_mapped_and_own_labels_pass(tmp_path: Path) -> None:
    lines = [{"body": "one", "y": 1}, {"body": "two", "y": 0}, {"body": "three", "y": "wet"}, {"body": "four", "y": 1.0}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    read = load(path, columns={"text": "body", "label": "y"}, labels={1: "wet", 0: "dry"})
    assert [row.label for row in read] == ["wet", "dry", "wet", "wet"]


def test_a_field_beyond_the_csv_module_s_limit_is_read(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)
    long = "x" * 200_000
    assert load(write(tmp_path / "a.csv", table([*ROWS, (long, "wet")])))[-1].text == long


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=[]), min_size=1, max_size=40), form=st.sampled_from(["jsonl", "csv", "parquet"])
)
def test_any_text_comes_back_identical_or_is_refused_with_a_reason(tmp_path: Path, text: str, form: str) -> None:
    path = tmp_path / f"a.{form}"
    try:
        if form == "jsonl":
            write(path, json_lines([(text, "wet")]))
        elif form == "csv":
            write(path, table([(text, "wet")]))
        else:
            write_parquet(path, {"text": [text], "label": ["wet"]})
    except UnicodeEncodeError:
        return
    try:
        assert load(path)[0].text == text
    except DataError as error:
        assert_one_line(error)
        assert not text.strip() or "\0" in text or not text.isprintable()


def test_sampling_a_large_file_does_not_hold_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl.gz", json_lines([(f"{i} " + "word " * 40, "wet" if i % 2 else "dry") for i in range(20_000)])
    )
    load(path, sample=10)
    tracemalloc.start()
    assert len(load(path, sample=10)) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


# hub


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def hub(name: Path | str, **source: object) -> list[Example]:
    return load_source(SourceConfig.model_validate({"hub": str(name), **source}), TASK, role="test", seed=0)


def saved(folder: Path, *, in_splits: bool) -> Path:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["dry", "wet"])})
    rows = {"text": [text for text, _ in ROWS], "label": [int(label == "wet") for _, label in ROWS]}
    data = datasets.Dataset.from_dict(rows, features=features)
    (datasets.DatasetDict({"train": data}) if in_splits else data).save_to_disk(str(folder))
    return folder


def test_a_local_folder_of_data_files_is_loaded_as_a_hub_data_set(hub_cache: Path) -> None:
    (hub_cache / "set").mkdir()
    write(hub_cache / "set" / "train.csv", table(ROWS))
    read = hub(hub_cache / "set")
    assert pairs(read) == ROWS
    assert read[0].id == "test-0"
    assert len(hub(hub_cache / "set", sample=4)) == 4


@pytest.mark.parametrize("in_splits", [True, False])
def test_class_label_integers_become_names(hub_cache: Path, in_splits: bool) -> None:
    assert pairs(hub(saved(hub_cache / "set", in_splits=in_splits))) == ROWS


def test_class_label_integers_can_be_mapped_as_integers(hub_cache: Path) -> None:
    read = hub(saved(hub_cache / "set", in_splits=True), labels={0: "wet", 1: "dry"})
    assert [row.label for row in read] == [{"wet": "dry", "dry": "wet"}[label] for _, label in ROWS]


def test_an_unreachable_hub_is_one_clear_error(hub_cache: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot load hub data set 'nobody/nothing' \(split 'train'\).*'path' instead of 'hub'"
    ) as caught:
        hub("nobody/nothing")
    assert_one_line(caught.value)


def test_a_missing_hub_split_or_column_names_what_there_is(hub_cache: Path) -> None:
    folder = saved(hub_cache / "set", in_splits=True)
    with pytest.raises(DataError, match=r"split 'trian'.*Did you mean 'train'"):
        hub(folder, split="trian")
    with pytest.raises(DataError, match=r"no column 'txt' for the text.*Did you mean 'text'"):
        hub(folder, columns={"text": "txt"})


# refusing

BAD_SOURCES: list[tuple[str, str, str | bytes | None, dict[str, Any], str]] = [
    ("missing file", "ghost.txt", None, {}, r"ghost.txt' does not exist\. Files here: other.jsonl"),
    ("missing file, near name", "othr.jsonl", None, {}, r"does not exist\. Did you mean 'other.jsonl'"),
    ("missing folder", "nowhere/a.jsonl", None, {}, r"does not exist\. The folder .*nowhere' does not exist"),
    ("name too long", "x" * 300 + ".jsonl", None, {}, "does not exist"),
    ("folder", ".", None, {}, "is a folder, not a file. Give one file in it. Files here: other.jsonl"),
    ("empty", "a.jsonl", b"", {}, r"is empty"),
    ("empty gz", "a.jsonl.gz", b"", {}, "has no rows"),
    ("blank lines only", "a.jsonl", "\n \n", {}, "has no rows"),
    ("header only", "a.csv", "text,label\n", {}, "has no rows"),
    ("suffix", "a.jsn", "[]", {}, r"unsupported suffix '\.jsn'\. Did you mean '\.json'"),
    ("no suffix", "a", "x", {}, "unsupported suffix ''"),
    ("csv column", "a.csv", "txt,label\na,wet\n", {}, "no column 'text' for the text.*Did you mean 'txt'"),
    ("csv column twice", "a.csv", "text,label,text\na,wet,b\n", {}, "more than one column 'text'"),
    ("json column", "a.jsonl", '{"text": "a", "lable": "wet"}\n', {}, "line 1 of .* no column 'label' .*Did you mean 'lable'"),
    ("json column, later row", "a.jsonl", json_lines(ROWS) + '{"label": "wet"}\n', {}, "line 13 of .*no column 'text'"),
    ("one column for both", "a.jsonl", json_lines(ROWS), {"columns": {"text": "label"}}, "both read from column 'label'"),
    ("latin-1", "a.csv", "text,label\nfine,wet\ncaf\xe9,wet\n".encode("latin-1"), {}, r"not UTF-8: line 3, byte 23 is b'\\xe9'"),
    ("half of UTF-16", "a.csv", table(ROWS).encode("utf-16")[:-1], {}, "is not valid UTF-16: truncated data after line 12"),
    ("binary", "a.csv", b"text,label\nPK\x03\x04\0\0,wet\n", {}, "binary data .a NUL byte on line 2, byte 15"),
    (
        "gzip without its suffix",
        "a.jsonl",
        gzip.compress(json_lines(ROWS).encode(), mtime=0),
        {},
        r"is gzip data without the suffix '\.gz'",
    ),
    ("broken json", "a.jsonl", json_lines(ROWS) + '{"text": \n', {}, "line 13 of .* not valid JSON"),
    ("json too deep", "a.jsonl", "[" * 100_000 + "\n", {}, "line 1 of .* nested too deeply"),
    ("json list", "a.jsonl", '["a", "wet"]\n', {}, "line 1 of .* holds a list, not an object"),
    ("json scalar", "a.jsonl", json_lines(ROWS) + "17\n", {}, "line 13 of .* holds a number, not an object: 17"),
    ("json null", "a.jsonl", "null\n", {}, "holds null, not an object"),
    ("ragged", "a.csv", "text,label\na,wet\nb, c,dry\n", {}, "line 3 of .* has 3 fields, the header has 2"),
    ("open quote", "a.csv", 'text,label\n"a,wet\nb,dry\n', {}, "cannot be parsed: unexpected end of data"),
    ("stray quote", "a.csv", 'text,label\n"a" b,wet\n', {}, "line 2 of .* cannot be parsed"),
    ("two kinds of line ends", "a.csv", "text,label\ra,wet\nb,dry\n", {}, "line 1 of .* cannot be parsed"),
    ("endless line", "a.jsonl", b"x" * (16 * 2**20 + 1), {}, "line 1 of .* is longer than 16,777,216 bytes"),
    ("damaged parquet", "a.parquet", b"PAR1 and nothing else", {}, "not a readable Parquet file"),
    ("empty text", "a.jsonl", json_lines([*ROWS, ("", "wet")]), {}, r"line 13 of .* empty text: ''"),
    ("white space", "a.csv", table([*ROWS, (" \t\u3000", "wet")]), {}, r"line 14 of .* empty text"),
    ("null text", "a.jsonl", '{"text": null, "label": "wet"}\n', {}, "line [12] of .* has no text"),
    ("number for text", "a.jsonl", '{"text": 3, "label": "wet"}\n', {}, "text of line [12] of .* is int, not a string: 3"),
    ("NUL in text", "a.jsonl", '{"text": "a\\u0000", "label": "wet"}\n', {}, "line [12] of .* holds a NUL character"),
    ("lone surrogate", "a.jsonl", '{"text": "a\\ud800", "label": "wet"}\n', {}, r"half a surrogate pair \('\\ud800'\)"),
    (
        "100,000 words",
        "a.jsonl",
        json_lines([*ROWS, ("a " * 100_000, "wet")]),
        {},
        "line 13 of .* has 100,000 words, more than 20,000",
    ),
    ("long without spaces", "a.jsonl", json_lines([("a" * 1_000_001, "wet")]), {}, "line [12] of .* has 1,000,001 characters"),
    ("null label", "a.jsonl", '{"text": "a", "label": null}\n', {}, "line [12] of .* has no label"),
    ("empty label", "a.csv", "text,label\na,\n", {}, "line [12] of .* has no label"),
    ("label list", "a.jsonl", '{"text": "a", "label": ["wet"]}\n', {}, "label of line [12] of .* is list"),
    (
        "unknown label",
        "a.csv",
        table([*ROWS, ("b", "wte"), ("c", "wte"), ("d", "7")]),
        {},
        "'wte' x 2, '7' x 1. Did you mean 'wet'",
    ),
    ("sample too large", "a.csv", table(ROWS), {"sample": 13}, r"data.validation.sample is 13, but .* has 12 rows"),
]


@pytest.mark.parametrize(
    ("name", "content", "source", "message"), [case[1:] for case in BAD_SOURCES], ids=[case[0] for case in BAD_SOURCES]
)
def test_bad_source_is_one_clear_line(
    tmp_path: Path, name: str, content: str | bytes | None, source: dict[str, Any], message: str
) -> None:
    write(tmp_path / "other.jsonl", json_lines(ROWS))
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(DataError, match=message) as caught:
        load(path, **source)
    assert_one_line(caught.value)


BAD_VALIDATION: list[tuple[str, list[Row], str]] = [
    ("one label", [(f"text {i}", "wet") for i in range(9)], "all 9 rows of .* have the same label 'wet'"),
    ("one row", [("a", "wet")], "1 usable row for 2 labels"),
    ("one row of a label", [("a", "wet"), ("b", "wet"), ("c", "dry")], "label 'dry' has 1 usable row in .* needs two"),
    ("the same row again and again", [("same", "wet")] * 20, "all 20 rows of .* have the same text"),
    ("the same text, two labels", [("same", "wet"), ("Same ", "dry")] * 5, "all 10 rows of .* have the same text"),
    ("nothing left", [("a", "wet"), ("A", "dry"), ("b", "wet"), ("B", "dry")], r"0 usable rows .*dropped 4 rows with 2 texts"),
    (
        "too few without repeats",
        [("a", "wet"), ("b", "dry"), ("B", "dry"), ("c", "wet")],
        "'dry' has 1 usable row .*dropped 1 repeated",
    ),
]


@pytest.mark.parametrize(("rows", "message"), [case[1:] for case in BAD_VALIDATION], ids=[case[0] for case in BAD_VALIDATION])
def test_validation_that_cannot_be_cut_is_one_clear_line(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_validation(run_config(write(tmp_path / "a.jsonl", json_lines(rows))))
    assert_one_line(caught.value)


def test_a_label_of_the_config_without_rows_is_refused(tmp_path: Path) -> None:
    config = run_config(write(tmp_path / "a.jsonl", json_lines(ROWS)))
    task = TASK.model_copy(update={"labels": {"wet": "", "dry": "", "foggy": ""}})
    with pytest.raises(DataError, match="label 'foggy' has 0 usable rows"):
        load_validation(config.model_copy(update={"task": task}))


def test_fewer_rows_than_labels_is_refused(tmp_path: Path) -> None:
    config = run_config(write(tmp_path / "a.jsonl", json_lines(ROWS[:2])))
    task = TASK.model_copy(update={"labels": {"wet": "", "dry": "", "foggy": ""}})
    with pytest.raises(DataError, match="2 usable rows for 3 labels"):
        load_validation(config.model_copy(update={"task": task}))


def test_a_sample_smaller_than_the_number_of_labels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines([*ROWS, ("mist", "foggy")]))
    task = TASK.model_copy(update={"labels": {"wet": "", "dry": "", "foggy": ""}})
    with pytest.raises(DataError, match=r"data\.test\.sample is 2, but .* has 3 labels"):
        load_source(SourceConfig(path=path, sample=2), task, role="test", seed=0)


def test_a_mapping_to_an_unknown_label_names_the_near_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS))
    with pytest.raises(ConfigError, match=r"data\.validation\.labels maps '1' to 'drry'.*Did you mean 'dry'") as caught:
        load(path, labels={1: "drry"})
    assert_one_line(caught.value)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-20], lambda raw: raw[:40] + b"\xff" * 20 + raw[60:], lambda raw: b"plain"])
def test_a_damaged_gzip_file_is_one_clear_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(damage(gzip.compress(json_lines(ROWS * 50).encode(), mtime=0)))
    with pytest.raises(DataError, match=r"cannot read|not UTF-8|NUL byte") as caught:
        load(path)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    "bad", ["text,label\na,wet\n,wet\nb,dry\n", "text,label\na,wet\nb\nc,dry\n", 'text,label\n"a" b,wet\nc,dry\n']
)
def test_a_refused_file_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    handles: list[io.BufferedReader] = []

    def recording_open(path: Path, mode: str) -> io.BufferedReader:
        handles.append(path.open("rb"))
        return handles[-1]

    path = write(tmp_path / "a.csv", bad)
    monkeypatch.setattr("stepsynth.data.readers.decoding.open", recording_open, raising=False)
    with pytest.raises(DataError) as caught:
        load(path)
    # The error is still held, and with it every frame that it went through.
    assert caught.value
    assert [handle.closed for handle in handles] == [True]


# drawing and cutting

COUNTS = st.tuples(st.integers(2, 60), st.integers(2, 60), st.integers(2, 60))
THREE = TASK.model_copy(update={"labels": {"a": "", "b": "", "c": ""}})


def three_way(path: Path, counts: tuple[int, int, int]) -> Path:
    return write(path, json_lines([(f"{label} {i}", label) for label, n in zip("abc", counts, strict=True) for i in range(n)]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=COUNTS, fraction=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_sample_has_its_size_and_the_labels_in_proportion(
    tmp_path: Path, counts: tuple[int, int, int], fraction: float, seed: int
) -> None:
    size = max(3, round(fraction * sum(counts)))
    source = SourceConfig(path=three_way(tmp_path / "a.jsonl", counts), sample=size)
    drawn = load_source(source, THREE, role="test", seed=seed)
    found = Counter(row.label for row in drawn)
    assert len({row.id for row in drawn}) == len(drawn) == size
    # Giving a rare label its one row may take up to one row each from the others.
    for label, count in zip("abc", counts, strict=True):
        assert 1 <= found[label] <= count
        assert abs(found[label] - size * count / sum(counts)) < 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=COUNTS, share=st.floats(0.1, 0.9), seed=st.integers(0, 9))
def test_the_halves_share_no_text_lose_no_row_and_keep_the_proportions(
    tmp_path: Path, counts: tuple[int, int, int], share: float, seed: int
) -> None:
    path = three_way(tmp_path / "a.jsonl", counts)
    config = run_config(path, seed=seed, share=share).model_copy(update={"task": THREE})
    halves = load_validation(config)
    harvest, select = ({row.text for row in half} for half in (halves.harvest, halves.select))
    assert not harvest & select
    assert len(halves.harvest) + len(halves.select) == sum(counts) == len(harvest | select)
    for label, count in zip("abc", counts, strict=True):
        taken = sum(row.label == label for row in halves.harvest)
        assert 1 <= taken <= count - 1
        assert abs(taken - share * count) < 2.5


def test_every_row_is_equally_likely_to_be_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS))
    drawn = Counter(row.id for seed in range(600) for row in load(path, sample=6, seed=seed))
    assert all(240 < count < 360 for count in drawn.values())


def test_the_source_s_seed_goes_before_the_run_s(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS))

    def draw(own: int | None, run: int) -> list[Example]:
        return load_source(SourceConfig(path=path, sample=6, seed=own), TASK, role="validation", seed=run)

    assert draw(0, 1) == draw(0, 2) == draw(None, 0)
    assert draw(None, 1) != draw(None, 2)


def test_ids_name_the_row_in_the_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS))
    halves = load_validation(run_config(path, sample=8))
    for role in ("harvest", "select"):
        for row in getattr(halves, role):
            prefix, _, number = row.id.partition("-")
            assert (prefix, ROWS[int(number)]) == (role, (row.text, row.label))


def test_repeats_keep_the_first_and_contradictions_keep_none(tmp_path: Path) -> None:
    extra = [("Sentence  NUMBER 1 about the sky", "wet"), ("Clear", "dry"), ("clear ", "wet"), ("clear", "dry")]
    halves = load_validation(run_config(write(tmp_path / "a.jsonl", json_lines([*ROWS, *extra]))))
    texts = {row.text for row in (*halves.harvest, *halves.select)}
    assert texts == {text for text, _ in ROWS}
    assert halves.notes == ("Dropped 1 repeated row.", "Dropped 3 rows with 1 text that carry different labels.")


def test_clean_rows_give_no_notes(tmp_path: Path) -> None:
    assert load_validation(run_config(write(tmp_path / "a.jsonl", json_lines(ROWS)))).notes == ()


def test_another_seed_cuts_otherwise_and_the_same_seed_cuts_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(ROWS))
    first: Validation = load_validation(run_config(path, seed=1))
    assert first == load_validation(run_config(path, seed=1))
    assert first != load_validation(run_config(path, seed=2))


def test_sample_and_cut_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    config = run_config(three_way(tmp_path / "a.jsonl", (20, 15, 9)), sample=21).model_copy(update={"task": THREE})
    code = (
        "import sys; from stepsynth.config import RunConfig; from stepsynth.data import load_validation\n"
        "print(load_validation(RunConfig.model_validate_json(sys.argv[1])))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, config.model_dump_json()],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{load_validation(config)}\n"}


# sealing


def test_inspect_counts_and_digests_without_any_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", json_lines([(f"canary {text}", label) for text, label in ROWS]))
    sealed = SealedTest(run_config(path, path))
    info: SealedInfo = sealed.inspect()
    assert (info.n, info.labels, len(info.sha256)) == (12, {"wet": 8, "dry": 4}, 64)
    assert "canary" not in repr(info)
    assert "canary" not in repr(vars(sealed))


def test_open_gives_the_inspected_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", json_lines(ROWS))
    sealed = SealedTest(run_config(path, path))
    rows = sealed.open(sealed.inspect().sha256)
    assert pairs(rows) == ROWS
    assert rows[3].id == "test-3"
    assert sealed.open() == rows


def test_the_digest_is_of_the_rows_not_of_the_file(tmp_path: Path) -> None:
    config = run_config(tmp_path / "unused", write(tmp_path / "t.jsonl", json_lines(ROWS)))
    as_csv = run_config(tmp_path / "unused", write(tmp_path / "t.csv", table(ROWS)))
    assert SealedTest(config).inspect() == SealedTest(as_csv).inspect()


@pytest.mark.parametrize(
    "changed", [[("other", "dry"), *ROWS[1:]], [(ROWS[0][0], "wet"), *ROWS[1:]], ROWS[:-1], [ROWS[1], ROWS[0], *ROWS[2:]]]
)
def test_a_test_set_that_changed_is_refused(tmp_path: Path, changed: list[Row]) -> None:
    path = write(tmp_path / "t.jsonl", json_lines(ROWS))
    sealed = SealedTest(run_config(path, path))
    digest = sealed.inspect().sha256
    write(path, json_lines(changed))
    with pytest.raises(RunError, match="changed since the run began") as caught:
        sealed.open(digest)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (json_lines([("a", "wet"), ("b", "wet")]), "all 2 rows of .* have the same label 'wet'"),
        (json_lines([*ROWS, ("a", "Dry")]), "'Dry' x 1"),
        ('{"txt": "a"}\n', "no column 'text'"),
    ],
)
def test_inspect_refuses_a_bad_test_set(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "t.jsonl", content)
    with pytest.raises(DataError, match=message):
        SealedTest(run_config(path, path)).inspect()


def test_without_a_test_set_there_is_nothing_to_seal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data\.test"):
        SealedTest(run_config(tmp_path / "a.jsonl"))


def test_importing_data_loads_no_heavy_package() -> None:
    heavy = "{'datasets', 'pyarrow', 'numpy', 'scipy', 'sklearn', 'torch'}"
    code = f"import sys, stepsynth.data, stepsynth.evaluation; print({heavy} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_all_columns_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("body,team\nhello there,a\n")
    with pytest.raises(DataError, match="has no column 'text' for the text") as caught:
        load_source(SourceConfig(path=tmp_path / "l.csv"), TASK, role="validation", seed=0)
    assert "A column for the label is missing, too." in str(caught.value)
    assert "Name them with columns: {text: ..., label: ...}" in (caught.value.hint or "")
