"""Rows that a Python program gave: a run keeps the columns that its task reads, under a name that `verify` checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.api.making import make_config
from stepsynth.config import load_config
from stepsynth.data.given import rows_of
from stepsynth.data.keeping import kept_name
from stepsynth.report.verify import verify_run
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data

TASK = ss.Classification("orders", "Decide what a note is about.", ["late", "broken"])
ROWS = [
    {
        "text": f"Note {i} about a {'late parcel' if i % 2 else 'broken cup'}.",
        "label": ("broken", "late")[i % 2],
        "customer": f"Nobody {i}",
    }
    for i in range(12)
]


def began(folder: Path, validation: Any = ROWS, task: ss.Task = TASK, **more: Any) -> RunDirectory:
    config = make_config(task, folder, validation=validation, teacher=ss.Teacher(backend="fake", model="fake"), **more)
    directory = RunDirectory.open(folder, config)
    directory.close()
    return directory


def kept(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name.partition("-")[0]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "data").glob("*.jsonl")
    }


def gold_findings(folder: Path) -> list[str]:
    return [str(finding) for finding in verify_run(folder) if finding.kind == "gold"]


def test_only_the_columns_that_the_task_reads_are_kept(tmp_path: Path) -> None:
    began(
        tmp_path,
        test=ss.Source([{"Body": r["text"], "LABEL": r["label"], "mail": "a@b"} for r in ROWS], columns={"text": "Body"}),
    )
    found = kept(tmp_path)
    assert {tuple(row) for row in found["validation"]} == {("text", "label")}
    assert {tuple(row) for row in found["test"]} == {("Body", "LABEL")}
    assert "Nobody" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))


def test_questions_keep_passages_answers_and_where_they_begin(tmp_path: Path) -> None:
    row = {
        "context": "The lamp is in the hall.",
        "question": "Where is the lamp?",
        "answer": "the hall",
        "answer_start": 15,
        "by": "me",
    }
    task = ss.ExtractiveQA("lamps", "Answer with words of the passage.")
    began(
        tmp_path,
        [dict(row, question=f"{row['question']} {i}?") for i in range(8)],
        task,
        contexts=[{"context": "A.", "url": "u"}],
    )
    assert {tuple(r) for r in kept(tmp_path)["validation"]} == {("context", "question", "answer", "answer_start")}
    assert kept(tmp_path)["contexts"] == [{"context": "A."}]


def test_a_missing_column_is_told_as_before(tmp_path: Path) -> None:
    config = make_config(TASK, tmp_path, validation=[{"txt": "a", "label": "late"}])
    with pytest.raises(ss.DataError, match="has no column 'text'"):
        load_run_data(config)


def test_a_run_that_kept_all_columns_goes_on_with_its_file(tmp_path: Path) -> None:
    rows = rows_of(ROWS, "validation")
    assert rows is not None
    began(tmp_path)
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    before = tmp_path / "data" / kept_name("validation", rows)
    before.write_text("".join(json.dumps(row) + "\n" for row in rows))
    directory = began(tmp_path)
    assert directory.config.data.validation.path == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == [before.name]
    assert gold_findings(tmp_path) == []


@pytest.mark.parametrize("beside", [False, True], ids=["a run", "a cell of a comparison"])
def test_a_moved_run_finds_its_rows_again(beside: bool, tmp_path: Path) -> None:
    first, then = tmp_path / "first", tmp_path / "then"
    if beside:
        config = make_config(TASK, first, validation=ROWS, teacher=ss.Teacher(backend="fake", model="fake"))
        RunDirectory.open(first / "gold-0", config).close()
    else:
        began(first)
    first.rename(then)
    run = then / "gold-0" if beside else then
    config = load_config(run)
    assert config.data.validation.path is not None
    assert config.data.validation.path.parent == then / "data"
    assert len(load_run_data(config).validation.harvest) == len(ROWS) // 2
    assert RunDirectory.read(run).config.data == config.data
    RunDirectory.open(run, config).close()
    assert not gold_findings(run)
    # A changed config is still told.
    document = json.loads((run / "config.json").read_text())
    document["config"]["seed"] = 5
    (run / "config.json").write_text(json.dumps(document))
    assert "was edited" in "".join(str(finding) for finding in verify_run(run))


def test_verify_looks_at_the_rows_that_a_program_gave(tmp_path: Path) -> None:
    began(tmp_path / "run", test=ROWS[:6])
    folder = (tmp_path / "run").rename(tmp_path / "moved")
    assert gold_findings(folder) == []
    (path,) = (folder / "data").glob("test-*")
    whole = path.read_text()
    for text, said in (
        (whole.replace("Note 3", "Note 4"), "is damaged: its rows do not match the digest in its name"),
        (whole[:-20], "is damaged: it is not complete JSON"),
        (whole + whole.splitlines()[0] + "\n", "is damaged: its rows do not match"),
    ):
        path.write_text(text)
        assert [f"data/{path.name} {said}" in line for line in gold_findings(folder)] == [True]
    path.unlink()
    assert f"data/{path.name} is missing. Remove what is left of it and give the same rows" in gold_findings(folder)[0]
