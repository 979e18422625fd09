"""Exported rows are the run's rows in every format, read by `datasets`, pandas and our own readers; bad input writes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from huggingface_hub import DatasetCard, DatasetCardData

import stepsynth as ss
from command import stepsynth
from family_worlds import FAMILIES, read_lines, rows_of
from finished_runs import finished_run, run_directory
from stepsynth.config import parse_config
from stepsynth.data import load_seed
from stepsynth.errors import ConfigError, RunError
from stepsynth.exporting import DATA_FORMATS, Content, Wanted, export_run
from stepsynth.exporting.formats import chosen_format
from stepsynth.exporting.tables import Column, Table, Tables
from stepsynth.runtime import failpoints
from stepsynth.tasks import create_family

Row = dict[str, Any]
ODD = (
    "two\nlines, and a third\r\none\rafter it",
    'says "yes", it\'s \\n not a line; a,b\tc',
    "emoji \U0001f9d1\U0001f3fd\u200d\U0001f680, \u05d0\u05d1\u05d2, \u6f22\u5b57, e\u0301",
    "signs \u2400 \x01 \x1f \u2028 \u2029 \x85 \ufeff here",
    "=1+1",
    "-2+3 @sum",
    "None",
    "NA",
    "0012",
    "1e5",
    "true",
    "2024-01-01",
    "[1, 2]",
    '{"a": 1}',
    "w\u00f6rt" * 16_000,
)
LABELS = ("1", "0", "NA", "a|b, c")
TASKS: dict[str, Row] = {
    "classification": {"labels": {label: f"about {label}" for label in LABELS}},
    "multi_label": {"labels": {"1": "one", "NA": "none", "a, b": "both"}},
    "pair": {
        "labels": {"yes": "it follows", "no": "it does not"},
        "fields": {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}},
    },
    "extractive_qa": {},
}


def odd_rows(family: str) -> list[Row]:
    if family == "classification":
        return [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(ODD)]
    if family == "multi_label":
        sets: tuple[list[str], ...] = ([], ["1"], ["NA", "a, b"], ["1", "NA", "a, b"])
        return [{"text": text, "labels": sets[i % 4]} for i, text in enumerate(ODD)]
    if family == "pair":
        return [{"text1": text, "text2": ODD[i - 1], "label": ("yes", "no")[i % 2]} for i, text in enumerate(ODD)]
    return [
        {
            "context": f"{text} answer {i} {text}",
            "question": text,
            "answers": {"text": [f"answer {i}"], "answer_start": [len(text) + 1]},
        }
        for i, text in enumerate(ODD)
    ]


def config_of(family: str, seed: Row) -> Any:
    task = {"name": "odd", "instruction": "Decide.", "family": family, **TASKS[family]}
    return parse_config({"task": task, "data": {"validation": {"path": "none.csv"}, "seed": seed}})


def kinds(family: str) -> tuple[Column, ...]:
    answers = {"label": "label", "labels": "labels", "answers": "answers"}
    return tuple(Column(name, answers.get(name, "text")) for name in odd_rows(family)[0])  # type: ignore[arg-type]


def named(row: Row, features: datasets.Features) -> Row:
    """Return a row of `datasets` with the names of its classes."""
    if isinstance(label := features.get("label"), datasets.ClassLabel):
        row = {**row, "label": label.int2str(row["label"])}
    if isinstance(labels := features.get("labels"), datasets.List):
        row = {**row, "labels": [labels.feature.int2str(number) for number in row["labels"]]}
    return row


def decoded(row: Row) -> Row:
    """Return a row of a CSV file with its JSON cells decoded."""
    return {name: json.loads(value) if name in ("labels", "answers") else value for name, value in row.items()}


CASES = [(family, form) for family in FAMILIES for form in DATA_FORMATS if form != "squad" or family == "extractive_qa"]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_odd_texts_survive_every_format_and_every_reader(family: str, name: str, tmp_path: Path) -> None:
    rows, columns = odd_rows(family), kinds(family)
    labels = tuple(TASKS[family].get("labels", ()))
    config = config_of(family, {"path": str(tmp_path / ("data" if name == "datasets" else f"data/train.{ending(name)}"))})
    made = create_family(config.task)
    form, table = chosen_format(name, made), Table("train", "default", columns, lambda: iter(rows), len(rows))
    folder = tmp_path / "data"
    folder.mkdir()
    form.write(table, folder, labels)
    card = DatasetCardData(configs=form.configs(Tables((table,), labels)))
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n\n# rows\n", encoding="utf-8")

    data = read_by_datasets(name, folder, tmp_path / "cache")["train"]
    if labels and columns[-1].kind == "label":
        assert data.features["label"].names == list(labels)
    found = [named(row, data.features) for row in data]
    assert [decoded(row) if name == "csv" else row for row in found] == rows

    if name != "datasets":
        assert read_by_pandas(name, folder, labels) == rows
    assert [made.record(example) for example in load_seed(config)] == rows
    if name == "squad":
        assert flattened(json.loads((folder / "train.json").read_text(encoding="utf-8"))) == rows


def flattened(squad: Row) -> list[Row]:
    """Return the rows of a file of SQuAD 1.1."""
    assert squad["version"] == "1.1"
    found = []
    for paragraph in (paragraph for article in squad["data"] for paragraph in article["paragraphs"]):
        for question in paragraph["qas"]:
            assert question["id"]
            keys = ("text", "answer_start")
            answers = {key: [answer[key] for answer in question["answers"]] for key in keys}
            found.append({"context": paragraph["context"], "question": question["question"], "answers": answers})
    return found


def ending(name: str) -> str:
    return "jsonl" if name == "squad" else name


def read_by_datasets(name: str, folder: Path, cache: Path) -> Any:
    if name == "datasets":
        return datasets.load_from_disk(str(folder))
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def read_by_pandas(name: str, folder: Path, labels: tuple[str, ...]) -> list[Row]:
    if name == "csv":
        frame = pandas.read_csv(folder / "train.csv", keep_default_na=False, dtype=str)
        return [decoded(row) for row in frame.to_dict("records")]
    if name != "parquet":
        frame = pandas.read_json(folder / "train.jsonl", lines=True, dtype=False)
        return list(frame.to_dict("records"))
    found = []
    for row in pandas.read_parquet(folder / "train.parquet").to_dict("records"):
        if "label" in row:
            row["label"] = labels[row["label"]]
        if "labels" in row:
            row["labels"] = [labels[number] for number in row["labels"]]
        if "answers" in row:
            row["answers"] = {key: list(value) for key, value in row["answers"].items()}
        found.append(row)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_of_a_run_has_its_rows_and_only_references_to_labelled_ones(family: str, tmp_path: Path) -> None:
    run = finished_run(family)
    written = export_run(run_directory(family), tmp_path / "out", Wanted("jsonl", "safetensors", Content(dropped=True)))
    assert written.data is not None
    assert not written.notes
    rows, known = read_lines(written.data / "train.jsonl"), read_lines(run / "dataset.jsonl")
    assert rows, "the run has written rows"
    for row, own in zip(rows, known, strict=True):
        assert {**own, "source": own["source"] or ""} == {name: row[name] for name in own}
        assert (row["verdict"], row["stage"]) == ("passed", own["id"].rpartition("/")[0])
    counts = {"validation": 20, "test": 10}
    family_made = create_family(run_directory(family).config.task)
    for split, count in counts.items():
        source = read_lines(run.parent.parent / f"{split}.jsonl")
        references = read_lines(written.data / "references" / f"{split}.jsonl")
        assert len(references) == count
        for reference in references:
            told = source[reference["row"]]
            for column in family_made.text_columns:
                assert column not in reference
                assert reference[f"{column}_sha256"] == hashlib.sha256(told[column].encode()).hexdigest()
    dropped = read_lines(written.data / "dropped" / "dropped.jsonl")
    assert dropped
    assert all(row["reason"] and row["verdict"] == "dropped" for row in dropped)
    # No text of the sealed test set is anywhere in the export.
    texts = [row[family_made.written] for row in read_lines(run.parent.parent / "test.jsonl")]
    everything = "".join(path.read_text("utf-8") for path in (tmp_path / "out").rglob("*.*") if path.suffix != ".safetensors")
    assert not [text for text in texts if text in everything]
    assert str(run.parent.parent) not in everything


def test_texts_and_lineage_on_request(tmp_path: Path) -> None:
    run = ss.Run.load(finished_run("classification"))
    written = run.export(tmp_path / "out", data="csv", lineage=False, validation_texts=True, test_texts=True)
    assert written.student is None
    data = datasets.load_dataset(str(written.data), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in data.items()} == {"train": len(run.rows()), "validation": 20, "test": 10}
    assert set(data["test"].column_names) == {"text", "label"}
    with_lineage = run.export(tmp_path / "more", data="parquet", test_texts=True)
    data = datasets.load_dataset(str(with_lineage.data), cache_dir=str(tmp_path / "cache"))
    assert set(data["test"]["round"]) == {-1}
    assert set(data["test"]["kind"]) == {"gold"}
    references = datasets.load_dataset(str(with_lineage.data), "references", cache_dir=str(tmp_path / "cache"))
    assert list(references) == ["validation"]


def test_two_exports_do_not_share_rows_in_the_cache_of_datasets(tmp_path: Path) -> None:
    """Both folders are called data, and their configurations differ in the digest of the rows alone."""
    found = []
    for number in range(2):
        table = Table("train", "default", (Column("text", "text"),), lambda n=number: iter([{"text": f"row {n}"}]), 1)  # type: ignore[misc]
        form = DATA_FORMATS["parquet"]()
        folder = tmp_path / str(number) / "data"
        folder.mkdir(parents=True)
        form.write(table, folder, ())
        card = DatasetCardData(configs=form.configs(Tables((table,), ())))
        (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n", encoding="utf-8")
        found += datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]["text"]
    assert found == ["row 0", "row 1"]


def test_the_exported_student_predicts_as_the_run_does(tmp_path: Path) -> None:
    run = ss.Run.load(finished_run("classification"))
    written = run.export(tmp_path / "out", student="safetensors")
    assert written.data is None
    assert written.student is not None
    texts = [row["text"] for row in read_lines(run.path.parent.parent / "test.jsonl")]
    assert ss.TrainedStudent.load(written.student).predict_proba(texts) == run.student.predict_proba(texts)
    with pytest.raises(RunError, match="no exported student"):
        ss.TrainedStudent.load(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_predict_takes_an_exported_student(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(family)
    export_run(run_directory(family), tmp_path / "out", Wanted(student="safetensors"))
    rows = [
        {name: row[name] for name in create_family(run_directory(family).config.task).text_columns} for row in rows_of(family, 5)
    ]
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    expected = json.loads(stepsynth(capsys, "predict", run, file, "--json").out)
    for place in ("out", "out/student"):
        found = json.loads(stepsynth(capsys, "predict", tmp_path / place, file, "--json").out)
        assert found["predictions"] == expected["predictions"]
        assert found["round"] is None
    refused = stepsynth(capsys, "predict", tmp_path / "out", file, "--round", 1)
    assert (refused.code, "is an exported student and has no round 1" in refused.err) == (2, True)


def test_no_output_goes_over_the_data_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, config = finished_run("classification"), run_directory("classification").config
    new = tmp_path / "new.csv"
    new.write_text("text\nsome words\n", encoding="utf-8")
    assert config.data.test is not None
    for source in ("validation", "test"):
        path = Path(str(getattr(config.data, source).path))
        before = path.read_bytes()
        (tmp_path / source).symlink_to(path)
        for out in (path, tmp_path / source):
            commands: list[list[object]] = [["predict", run, new, "--format", "jsonl"], ["import", new, "--config", run]]
            for command in (*commands, *([["review", run]] if out.suffix == ".jsonl" else [])):
                refused = stepsynth(capsys, *command, "--out", out)
                assert refused.code == 2
                assert f"which is data.{source}." in refused.err
        assert path.read_bytes() == before


def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = finished_run("classification"), tmp_path / "out"
    (tmp_path / "there").mkdir()
    cases: list[tuple[list[object], str]] = [
        ([run, out, "--data", "parqet"], "'parqet' is not known. Did you mean 'parquet'?"),
        ([run, out, "--data", "squad"], "'squad' is for questions about passages, not for a 'classification' task"),
        ([run, out, "--student", "safetensor"], "Did you mean 'safetensors'?"),
        ([run, out], "nothing to export"),
        ([run, out, "--data", "csv", "--dry-run"], "--dry-run belongs to --push"),
        ([run, out, "--data", "csv", "--max-loss", "nan"], "max_loss is nan"),
        ([run, run / "models" / "out", "--data", "csv"], "is inside the run directory"),
        ([run, out, "--data", "csv", "--push", "tickets"], "'tickets' is not OWNER/NAME"),
        ([run, tmp_path / "there", "--data", "csv"], "exists already"),
        ([tmp_path / "none", out, "--data", "csv"], "no such folder"),
        ([run, Path("/proc/self/none/out"), "--data", "csv"], "cannot be"),
    ]
    for arguments, said in cases:
        outcome = stepsynth(capsys, "export", *arguments)
        assert outcome.code == 2, arguments
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_what_a_killed_export_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, works, others = (tmp_path / f".{name}.part" for name in (f"out.{gone.pid}", f"out.{os.getppid()}", f"out2.{gone.pid}"))
    for folder in (left, works, others):
        folder.mkdir()
    export_run(run_directory("pair"), tmp_path / "out", Wanted("csv"))
    assert not left.exists()
    assert works.exists()
    assert others.exists()


def test_a_run_without_a_student_or_rows(tmp_path: Path) -> None:
    directory = run_directory("classification", "teacher")
    with pytest.raises(RunError, match="no student: the teacher answered itself"):
        export_run(directory, tmp_path / "out", Wanted(student="safetensors"))
    with pytest.raises(RunError, match="no written rows"):
        export_run(directory, tmp_path / "out", Wanted(data="csv"))
    with pytest.raises(ConfigError, match="nothing to export"):
        export_run(directory, tmp_path / "out", Wanted())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_a_full_disk_leaves_nothing(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run("classification")
    failpoints.arm("before rename: out", fault)
    try:
        outcome = stepsynth(capsys, "export", run, tmp_path / "out", "--data", "csv", "--student", "safetensors")
    finally:
        failpoints.arm(0)
    assert outcome.code == 2
    assert "cannot be written" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_test_file_costs_the_references_only(tmp_path: Path) -> None:
    run = finished_run("pair")
    file = run.parent.parent / "test.jsonl"
    kept = file.read_bytes()
    file.unlink()
    try:
        written = export_run(run_directory("pair"), tmp_path / "out", Wanted("csv"))
        assert "left out" in written.notes[0]
        assert not (tmp_path / "out" / "data" / "references" / "test.csv").exists()
        assert "left out" in DatasetCard.load(tmp_path / "out" / "data" / "README.md").text
        with pytest.raises(ss.UserError):
            export_run(run_directory("pair"), tmp_path / "more", Wanted("csv", content=Content(test_texts=True)))
        assert not (tmp_path / "more").exists()
    finally:
        file.write_bytes(kept)
