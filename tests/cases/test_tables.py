"""Tables as people have them: read rightly, or refused with a line that names the cause; no row is lost without a word."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command import stepsynth
from stepsynth.config import SourceConfig, TaskConfig, load_config
from stepsynth.data import Tally, import_rows, load_source, load_texts
from stepsynth.errors import ConfigError, DataError
from stepsynth.types import Example

Row = tuple[str, str]
TASK = TaskConfig(name="t", instruction="Decide.", labels={"wet": "", "dry": ""})
TAGS = TaskConfig(name="t", instruction="Decide.", family="multi_label", labels={"wet": "", "dry": "", "very cold": ""})
ROWS: list[Row] = [(f"sky number {i}", "wet" if i % 2 else "dry") for i in range(6)]


def load(path: Path, task: TaskConfig = TASK, tally: Tally | None = None, **source: Any) -> list[Example]:
    parsed = SourceConfig.model_validate({"path": path, **source})
    return load_source(parsed, task, role="validation", seed=0, tally=tally)


def pairs(rows: list[Example]) -> list[Row]:
    return [(row.text, row.label) for row in rows]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(rows: list[Row] = ROWS, delimiter: str = ",", end: str = "\n", header: Row = ("text", "label")) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows([header, *rows])
    return out.getvalue()


def refused(path: Path, task: TaskConfig = TASK, **source: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(path, task, **source)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 900
    assert caught.value.hint
    return str(caught.value)


def project(folder: Path, source: dict[str, Any], labels: Any = None, **task: Any) -> Path:
    """Write a config that `plan` can check without a teacher or a student being asked."""
    values = {
        "task": {"name": "t", "instruction": "Decide.", "labels": labels or {"wet": "", "dry": ""}, **task},
        "data": {"validation": source},
        "teacher": {"backend": "fake", "model": "fake"},
        "method": {"name": "gold"},
        "cache": None,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder / "config.yaml"


# the handed cases


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_case_22_tables_as_people_have_them_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = [*ROWS, ("one, two; three\t| four", "wet")]
    tally = Tally()
    assert pairs(load(write(tmp_path / "a.csv", table(rows, delimiter)), tally=tally)) == rows
    assert "delimiter" in tally.say()


@pytest.mark.parametrize("header", ["text, label", " Text ,LABEL", "\ufefftext\u00a0,\u00a0label"])
def test_case_22_tables_as_people_have_them_blanks_in_the_header(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "a.csv", header + "\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    assert pairs(load(path)) == ROWS


@pytest.mark.parametrize(
    "cell",
    [
        '["wet", "very cold"]',
        "['wet', 'very cold']",
        "['wet' 'very cold']",
        "[wet, very cold]",
        "wet|very cold",
        " very cold | wet ",
    ],
)
def test_case_22_tables_as_people_have_them_lists_in_cells(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "a.csv", table([("a", cell), ("b", "[]"), ("c", ""), ("d", "dry")], header=("text", "labels")))
    assert [row.label for row in load(path, TAGS)] == ["wet|very cold", "", "", "dry"]


def test_case_23_hub_folders_are_looked_for_beside_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    config = project(tmp_path / "project", {"hub": "./ds"})
    (config.parent / "ds").mkdir()
    write(config.parent / "ds" / "train.csv", table())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = stepsynth(capsys, "plan", config)
    assert outcome.code == 0, outcome.err
    # What is stored says what the user wrote, so that a project can move.
    assert load_config(config).resolved()["data"]["validation"]["hub"] == "./ds"
    project(tmp_path / "project", {"hub": "./dss"})
    outcome = stepsynth(capsys, "plan", config)
    assert outcome.code == 2
    assert f"the folder {str(tmp_path / 'project' / 'dss')!r} (hub: ./dss) does not exist" in outcome.err


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan"])
def test_case_23_hub_folders_hold_words_not_missing_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = TaskConfig(name="t", instruction="Decide.", labels={word: "", "spam": ""})
    rows = [("a", word), (word, "spam"), ("c", word)]
    (tmp_path / "ds").mkdir()
    path = write(tmp_path / "ds" / "train.csv", table(rows))
    assert pairs(load(path, task)) == rows
    source = SourceConfig(hub=str(tmp_path / "ds"))
    assert pairs(load_source(source, task, role="validation", seed=0)) == rows


def class_labels(folder: Path) -> Any:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["dry", "wet"])})
    rows = {"text": [text for text, _ in ROWS], "label": [int(label == "wet") for _, label in ROWS]}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize("form", ["parquet", "arrow stream", "feather", "saved", "saved splits"])
def test_case_23_hub_folders_class_names_of_files(tmp_path: Path, form: str) -> None:
    import datasets
    import pyarrow
    import pyarrow.feather

    data = class_labels(tmp_path)
    path = tmp_path / {"parquet": "a.parquet", "arrow stream": "a.arrow", "feather": "a.feather"}.get(form, "folder")
    if form == "parquet":
        data.to_parquet(str(path))
    elif form == "feather":
        pyarrow.feather.write_feather(data.data.table, path)
    elif form == "arrow stream":
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, data.data.table.schema) as stream:
            stream.write_table(data.data.table)
    else:
        (datasets.DatasetDict({"train": data}) if "splits" in form else data).save_to_disk(str(path))
    assert pairs(load(path)) == ROWS
    # Who wrote a mapping over the integers gets them.
    turned = {"wet": "dry", "dry": "wet"}
    assert [row.label for row in load(path, labels={0: "wet", 1: "dry"})] == [turned[label] for _, label in ROWS]


@pytest.mark.parametrize(("labels", "cells"), [(["yes", "no"], ("yes", "no")), (["on", "off"], ("on", "off"))])
def test_case_16_yaml_booleans_in_lists_and_mappings_words_in_cells(
    tmp_path: Path, labels: list[str], cells: tuple[str, str]
) -> None:
    task = TaskConfig(name="t", instruction="Decide.", labels=dict.fromkeys(labels, ""))
    path = write(tmp_path / "a.csv", table([("a", cells[0]), ("b", cells[1])]))
    assert [row.label for row in load(path, task)] == labels


# labels in cells


@pytest.mark.parametrize(
    ("labels", "value", "found"),
    [
        (("true", "false"), True, "true"),
        (("True", "False"), "TRUE", "True"),
        (("TRUE", "FALSE"), False, "FALSE"),
        (("1", "0"), 1.0, "1"),
        (("1.0", "0.0"), 1, "1.0"),
        (("-1", "1"), "-1.0", "-1"),
        (("-1", "1"), "+1", "1"),
        (("1", "01"), "01", "01"),
        (("wet", "dry"), " wet\u00a0", "wet"),
        (("caf\u00e9", "dry"), "cafe\u0301", "caf\u00e9"),
        (("-low", "+high"), "'-low", "-low"),
        (("'-low", "-low"), "'-low", "'-low"),
    ],
)
def test_one_label_in_several_spellings(tmp_path: Path, labels: Row, value: object, found: str) -> None:
    task = TaskConfig(name="t", instruction="Decide.", labels=dict.fromkeys(labels, ""))
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "a", "label": value}) + "\n")
    assert load(path, task)[0].label == found


@pytest.mark.parametrize(
    ("labels", "value", "message"),
    [
        (("1", "1.0"), "+1", "may mean '1' or '1.0'"),
        (("1", "0"), True, "labels that task.labels does not have: 'True'"),
        (("1", "0"), "01", "does not have: '01'"),
        (("Wet", "dry"), "wet", "does not have: 'wet'"),
        (("nan", "dry"), float("nan"), "has no label"),
    ],
)
def test_what_may_mean_several_labels_or_none_is_refused(tmp_path: Path, labels: Row, value: object, message: str) -> None:
    task = TaskConfig(name="t", instruction="Decide.", labels=dict.fromkeys(labels, ""))
    assert message in refused(write(tmp_path / "a.jsonl", json.dumps({"text": "a", "label": value}) + "\n"), task)


def test_a_cell_that_is_a_label_as_a_whole_is_no_list(tmp_path: Path) -> None:
    task = TaskConfig(name="t", instruction="Decide.", family="multi_label", labels={"[x]": "", "y": ""})
    assert load(write(tmp_path / "a.csv", "text,labels\na,[x]\n"), task)[0].label == "[x]"
    assert "begin like a list" in refused(write(tmp_path / "b.csv", "text,labels\na,['x]\n"), task)


@pytest.mark.parametrize(
    "cell",
    [
        '{"text": ["boat"], "answer_start": [2]}',
        "{'text': ['boat'], 'answer_start': [2]}",
        "{'text': array(['boat'], dtype=object), 'answer_start': array([2], dtype=int32)}",
    ],
)
def test_answers_as_json_python_and_numpy_print_them(tmp_path: Path, cell: str) -> None:
    task = TaskConfig(name="t", instruction="Answer.", family="extractive_qa")
    out = io.StringIO()
    csv.writer(out).writerows([("context", "question", "answers"), ("A boat.", "What?", cell)])
    (row,) = load(write(tmp_path / "a.csv", out.getvalue()), task)
    assert [(span.text, span.start) for span in row.answers] == [("boat", 2)]


# dialects


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\n" + table(delimiter=";"),
        '"sep=;"\r\n' + table(delimiter=";", end="\r\n"),
        table(end="\r"),
        table(end="\r\n"),
        table().replace("\n", ",\n"),
        table().replace("\n", ",,\n", 1),
        table() + ",\n,\n",
        "\n\n" + table() + "\n\n",
    ],
    ids=["sep", "quoted sep", "old Mac", "Windows", "trailing delimiters", "trailing in the header", "empty rows", "empty lines"],
)
def test_what_spreadsheets_add_changes_no_row(tmp_path: Path, content: str) -> None:
    tally = Tally()
    assert pairs(load(write(tmp_path / "a.csv", content), tally=tally)) == ROWS
    assert tally.rows == len(ROWS)
    lines = len(content.replace("\r\n", "\n").replace("\r", "\n").splitlines())
    header_lines = 2 if content.lower().lstrip('"').startswith("sep=") else 1
    assert tally.lines == lines == tally.rows + tally.empty + header_lines


@pytest.mark.parametrize(
    ("encoding", "setting"),
    [
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin-1"),
        ("gb18030", "gb18030"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_encodings_by_their_mark_or_by_a_setting(tmp_path: Path, encoding: str, setting: str | None, end: str) -> None:
    rows = [*ROWS, ("\u00fcber \u00e9t\u00e9", "wet")]
    path = write(tmp_path / "a.csv", table(rows, end=end).encode(encoding))
    assert pairs(load(path, encoding=setting)) == rows
    big = codec_with_mark_be(rows)
    assert pairs(load(write(tmp_path / "be.csv", big))) == rows


def codec_with_mark_be(rows: list[Row]) -> bytes:
    return b"\xfe\xff" + table(rows).encode("utf-16-be")


@pytest.mark.parametrize(
    ("content", "source", "pieces"),
    [
        ("text,label\ncaf\xe9,wet\n".encode("cp1252"), {}, ("line 2, byte 14", "encoding: cp1252}", "'caf\u00e9,wet'")),
        ("text,label\ncaf\u00e9,wet\n".encode(), {"encoding": "ascii"}, ("is not ascii: line 2",)),
        (b"\xef\xbb\xbftext,label\na,wet\n", {"encoding": "cp1252"}, ("byte order mark of UTF-8", "'cp1252'")),
        (table().encode("utf-16-le"), {}, ("encoding: utf-16-le",)),
        (b"text,label\na,wet\n", {"encoding": "utf-9"}, ("'utf-9' is not known",)),
        (b"text,label\na,wet\n", {"delimiter": "ab"}, ("'ab'", "single character")),
        (b"text,label\na,wet\n", {"sheet": "x"}, ("sheet is 'x'", "does not apply")),
        (b"PK\x03\x04rest\0", {}, ("is a zip archive or an Excel file",)),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", {}, ("git lfs pull",)),
        (b"<!DOCTYPE html><html>", {}, ("is a web page",)),
        (b"sky number one is very blue today,wet\nb,dry\n", {}, ("has no header", "text,label")),
        (b"wet,a\ndry,b\n", {}, ("has no header",)),
        (b"txt;label\na;wet\n", {}, ("no column 'text'", "cut at ';'", "Did you mean 'txt'")),
        (b"text,label\na,wet,dry\n", {}, ("line 2", "has 3 fields, the header has 2", "'a', 'wet', 'dry'")),
        (b"text,label\na\n", {}, ("line 2", "has 1 fields, the header has 2")),
        (b"text,label,Text\na,wet,b\n", {"columns": {"text": "TEXT"}}, ("more than one column 'TEXT'", "'text', 'Text'")),
        (b'text,label\na,wet\n"b,dry\nc,wet\n', {}, ("the quote that opens on line 3", "never closed")),
        (b"text,label\na,wet\n,\nb,dry\n", {}, ("line 3 of", "empty text")),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_names_the_cause(
    tmp_path: Path, content: bytes, source: dict[str, Any], pieces: tuple[str, ...]
) -> None:
    path = write(tmp_path / "a.csv", content)
    try:
        said = refused(path, **source)
    except ValueError as error:  # a setting is checked with the config
        said = str(error)
    for piece in pieces:
        assert piece in said


@pytest.mark.parametrize(
    ("lines", "begins"),
    [
        (['"a,wet', "b,dry", "c,wet", 'd",dry'], 2),
        (["a,wet", '"b,dry', 'c",wet'], 3),
        (["a,wet", '"b', "c,dry", 'd",wet'], 3),
    ],
    ids=["several rows", "two rows", "an open cell"],
)
def test_a_quote_that_swallows_rows_is_refused_where_it_opens(tmp_path: Path, lines: list[str], begins: int) -> None:
    said = refused(write(tmp_path / "a.csv", "text,label\n" + "".join(f"{line}\n" for line in lines)))
    assert f"a quote that opens on line {begins} of" in said
    assert "is a row by itself" in said


def test_a_quote_that_swallows_rows_is_refused_where_the_label_comes_first(tmp_path: Path) -> None:
    said = refused(write(tmp_path / "a.csv", 'label,text\nwet,a\ndry,"b\nwet,c"\n'))
    assert "a quote that opens on line 3 of" in said


def test_texts_of_several_lines_are_no_swallowed_rows(tmp_path: Path) -> None:
    rows = [("Dear all,\nplease, come\r\nsoon, yours", "wet"), ("x\n\ny", "dry"), ("it is,\nas they say,\nwet", "dry")]
    tally = Tally()
    assert pairs(load(write(tmp_path / "a.csv", table(rows)), tally=tally)) == rows
    assert (tally.longest, tally.longest_at) == (3, 2)
    turned = [(label, text) for text, label in rows]
    assert pairs(load(write(tmp_path / "b.csv", table(turned, header=("label", "text"))))) == rows


CELL = st.text(st.sampled_from("ab ,;\t|\"'\n\r\u00e9="), min_size=1, max_size=12).filter(lambda text: text.strip() != "")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(CELL, min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_comes_back_row_by_row(tmp_path: Path, texts: list[str], delimiter: str, end: str, encoding: str) -> None:
    rows = [(text, "wet" if len(text) % 2 else "dry") for text in texts]
    out = io.StringIO()
    # Python's writer leaves a lone CR unquoted where lines end with LF.
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    assert pairs(load(write(tmp_path / "a.csv", out.getvalue().encode(encoding)))) == rows


# JSON


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", lambda rows: json.dumps(rows)),
        ("a.json", lambda rows: json.dumps(rows, indent=2)),
        ("a.json", lambda rows: json.dumps({"data": rows, "version": 1})),
        ("a.json", lambda rows: json.dumps({"rows": rows})),
        ("a.json", lambda rows: "\n".join(json.dumps(row) for row in rows)),
        ("a.json", lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows)),
        ("a.json", lambda rows: json.dumps({key: [row[key] for row in rows] for key in rows[0]})),
        ("a.json", lambda rows: json.dumps({key: {str(i): row[key] for i, row in enumerate(rows)} for key in rows[0]})),
        ("a.json", lambda rows: json.dumps({"columns": list(rows[0]), "index": [], "data": [list(r.values()) for r in rows]})),
        ("a.jsonl", lambda rows: json.dumps(rows)),
        ("a.jsonl", lambda rows: json.dumps(rows, indent=2)),
        ("a.jsonl", lambda rows: "".join(json.dumps(row, indent=1) for row in rows)),
        ("a.ndjson", lambda rows: "\r".join(json.dumps(row) for row in rows)),
    ],
)
def test_json_in_all_its_forms(tmp_path: Path, name: str, content: Callable[[list[dict[str, str]]], str]) -> None:
    rows = [{"text": text, "label": label} for text, label in ROWS]
    tally = Tally()
    assert pairs(load(write(tmp_path / name, content(rows)), tally=tally)) == ROWS
    assert tally.rows == len(ROWS)


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        ('{"train": [{"text": "a"}], "test": [{"text": "b"}]}', ("several lists of objects: 'train', 'test'",)),
        ('[{"text": "a", "label": "wet"},\n {"text": "b" "label"}]', ("line 2 of", "not valid JSON")),
        ('[{"text": "a", "label": "wet"}]]', ("not valid JSON",)),
        ('[{"text": "a", "label": "wet"}, 5]', ("row 1 of", "is a number, not an object: 5")),
        ('[{"text": NaN, "label": "wet"}]', ("row 0", "has no text")),
        ('"text"', ("holds no list of objects",)),
        ("[]", ("has no rows",)),
        ("[" * 100_000, ("nested too deeply",)),
    ],
)
def test_json_that_holds_no_rows_names_the_cause(tmp_path: Path, content: str, pieces: tuple[str, ...]) -> None:
    said = refused(write(tmp_path / "a.json", content))
    for piece in pieces:
        assert piece in said


# packed files and other kinds


def zipped(content: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("__MACOSX/._a.csv", b"x")
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    import pyarrow

    out: bytes = pyarrow.compress(content, codec="zstd", asbytes=True)
    return out


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.xz", lzma.compress),
        ("a.csv.zst", zstd),
        ("a.zip", lambda raw: zipped(raw, "rows.csv")),
    ],
)
def test_packed_files_are_read_and_damaged_ones_refused(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    assert pairs(load(write(tmp_path / name, pack(table().encode())))) == ROWS
    assert "cannot read" in refused(write(tmp_path / name, pack(table(ROWS * 99).encode())[:-30]))


@pytest.mark.parametrize(
    ("name", "content", "piece"),
    [
        ("a.xls", b"x", "Save it as .xlsx"),
        ("a.ods", b"x", "Save it as .xlsx"),
        ("a.pkl", b"x", "never read"),
        ("a.zip", zipped(b"x", "a.csv", "b.csv"), "holds 2 files: 'a.csv', 'b.csv'"),
        ("a.parquet.gz", b"x", "Unpack it"),
        ("*.csv", None, "patterns are not expanded"),
    ],
)
def test_what_is_no_table_is_refused_with_a_way_out(tmp_path: Path, name: str, content: bytes | None, piece: str) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    assert piece in refused(path)


# columns of values


def test_nulls_are_missing_and_words_are_words_in_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    task = TaskConfig(name="t", instruction="Decide.", labels={"None": "", "spam": ""})
    columns = {
        "text": pyarrow.array(["a", "NA"], pyarrow.large_string()),
        "label": pyarrow.array(["None", "spam"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert pairs(load(tmp_path / "a.parquet", task)) == [("a", "None"), ("NA", "spam")]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": pyarrow.array([None], "string")}), tmp_path / "b.parquet")
    assert "row 0" in refused(tmp_path / "b.parquet", task)


def test_names_of_lists_of_class_labels(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["dry", "wet"]))}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[1, 0], []]}, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    assert [row.label for row in load(tmp_path / "a.parquet", TAGS)] == ["wet|dry", ""]


# Excel


def book(path: Path, rows: list[list[Any]], *, more: Callable[[Any], None] | None = None) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    if more:
        more(made)
    made.save(path)
    return path


def test_a_sheet_is_read_as_a_person_sees_it(tmp_path: Path) -> None:
    import datetime

    task = TaskConfig(name="t", instruction="Decide.", labels={"1": "", "true": "", "0.5": ""})
    rows: list[list[Any]] = [
        [None, None],
        ["Text ", "label"],
        ["a", 1],
        [2024, 1.0],
        [None, None],
        ["c", True],
        [datetime.date(2024, 3, 1), 0.5],
        [None],
    ]
    tally = Tally()
    read = load(book(tmp_path / "a.xlsx", rows), task, tally)
    assert pairs(read) == [("a", "1"), ("2024", "1"), ("c", "true"), ("2024-03-01", "0.5")]
    assert (tally.rows, tally.empty) == (4, 1)


@pytest.mark.parametrize(
    ("more", "source", "piece"),
    [
        (lambda b: b.active.merge_cells("B2:B3"), {}, "cells B2:B3"),
        (lambda b: b.create_sheet("more").append(["x"]), {}, "2 sheets that are not empty: 'Sheet', 'more'"),
        (lambda b: b.create_sheet("more").append(["x"]), {"sheet": "moore"}, "Did you mean 'more'"),
        (lambda b: setattr(b.active["B3"], "value", "=1+1"), {}, "cell B3 of"),
    ],
    ids=["merged", "sheets", "no such sheet", "formula"],
)
def test_what_a_sheet_would_lose_is_refused(
    tmp_path: Path, more: Callable[[Any], None], source: dict[str, Any], piece: str
) -> None:
    path = book(tmp_path / "a.xlsx", [["text", "label"], ["a", "wet"], ["b", "dry"]], more=more)
    assert piece in refused(path, **source)


def test_one_of_several_sheets_is_read_by_its_name(tmp_path: Path) -> None:
    def more(made: Any) -> None:
        for row in (["text", "label"], ["x", "wet"]):
            made["Sheet2"].append(row) if "Sheet2" in made else made.create_sheet("Sheet2").append(row)

    path = book(tmp_path / "a.xlsx", [["nothing"]], more=more)
    assert pairs(load(path, sheet="Sheet2")) == [("x", "wet")]


def test_without_openpyxl_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = book(tmp_path / "a.xlsx", [["text", "label"], ["a", "wet"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert "pip install 'stepsynth[excel]'" in refused(path)
    write(path, b"no zip")
    monkeypatch.undo()
    assert "is not a readable Excel file" in refused(path)


# predict and import read the same forms; plan says what was read


def test_texts_to_predict_stay_aligned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text;label\na;wet\n;\nb;dry\n;\n")
    assert [row.text for row in load_texts(path, TASK)] == ["a", "", "b", ""]
    source = SourceConfig(path=write(tmp_path / "b.csv", "text\ncaf\xe9\n".encode("latin-1")), encoding="latin-1")
    assert [row.text for row in load_texts(source, TASK)] == ["caf\u00e9"]


def test_an_import_reads_the_same_dialects(tmp_path: Path) -> None:
    found = import_rows([write(tmp_path / "a.csv", table(delimiter=";").encode("utf-16"))], TASK)
    assert pairs(list(found.rows)) == ROWS
    with pytest.raises(ConfigError, match="'utf-9' is not known"):
        import_rows([tmp_path / "a.csv"], TASK, reading={"encoding": "utf-9"})


def test_plan_says_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = project(tmp_path, {"path": "a.csv"})
    write(tmp_path / "a.csv", table(delimiter=";") + "\n")
    assert "validation: 6 rows in 8 lines, 1 empty, delimiter ';'" in stepsynth(capsys, "plan", config).out
    found = json.loads(stepsynth(capsys, "plan", config, "--json").out)
    assert found["data"]["read"] == {
        "validation": {"rows": 6, "lines": 8, "empty": 1, "said": "6 rows in 8 lines, 1 empty, delimiter ';'"}
    }


def test_how_a_file_is_read_belongs_to_no_digest(tmp_path: Path) -> None:
    config = load_config(project(tmp_path, {"path": "a.csv"}))
    other = load_config(project(tmp_path, {"path": "b.csv", "delimiter": ";", "encoding": "cp1252", "sheet": "x"}))
    assert config.result_digest() == other.result_digest()
    assert "delimiter" not in config.resolved()["data"]["validation"]
    assert other.resolved()["data"]["validation"]["delimiter"] == ";"
