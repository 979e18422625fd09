"""What `predict` and `import` write, and what they refuse to write over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command import stepsynth
from stepsynth.cli.predicting import Output, _refuse_empty
from stepsynth.cli.prediction_files import Filled, Layout, Survey, Table
from stepsynth.config import TaskConfig
from stepsynth.errors import ConfigError, DataError
from stepsynth.run.outputs import refuse_own_file
from stepsynth.types import Example

TASK = TaskConfig.model_validate({"name": "t", "instruction": "Say which.", "labels": {"wet": "rain", "dry": "sun"}})
PAIR = TaskConfig.model_validate(
    {
        "name": "t",
        "family": "pair",
        "instruction": "Say which.",
        "labels": {"wet": "rain", "dry": "sun"},
        "fields": {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}},
    }
)


@pytest.mark.parametrize("how", ["same", "symlink", "hard link", "other spelling"])
@pytest.mark.parametrize("command", ["predict", "import"])
def test_the_input_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, how: str) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "link.jsonl"
    file.write_text('{"text": "a", "label": "wet"}\n')
    if how == "symlink":
        out.symlink_to(file)
    elif how == "hard link":
        os.link(file, out)
    else:
        (tmp_path / "x").mkdir()
        out = file if how == "same" else tmp_path / "x" / ".." / "rows.jsonl"
    arguments = ["predict", tmp_path / "run", file] if command == "predict" else ["import", file, "--config", "c.yaml"]
    outcome = stepsynth(capsys, *arguments, "--out", out)
    assert (outcome.code, outcome.err) == (
        2,
        "stepsynth: the result would overwrite the input file. Name another file (out= / --out).\n",
    )
    assert file.read_text() == '{"text": "a", "label": "wet"}\n'


@pytest.mark.parametrize(
    "name",
    [
        *("compare-t/s3-0/config.json", "compare-t/s3-0/results.json", "compare-t/s3-0/dataset.jsonl", "compare-t/s3-0/lock"),
        *("compare-t/s3-0/models/round-0/done.json", "compare-t/s3-0/data/../config.json", "link.jsonl", "journal.jsonl"),
        *("compare-t/s3-0/data/validation-0123456789ab.jsonl", "compare-t/s3-0/logs/new.jsonl", "compare-t/results.json"),
        *("compare-t/students/0/done.json", "compare-t/data/test-0123456789ab.jsonl"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "import"])
def test_a_file_of_a_run_or_a_comparison_is_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    made_up_comparison(tmp_path)
    run, out, file = tmp_path / "compare-t" / "s3-0", tmp_path / name, tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": "wet"}\n')
    (tmp_path / "link.jsonl").symlink_to(run / "results.json")
    (tmp_path / "journal.jsonl").symlink_to(run / "journal.db")
    arguments = ["predict", run, file, "--format", "jsonl"] if command == "predict" else ["import", file, "--config", "c.yaml"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outcome = stepsynth(capsys, *arguments, "--out", out)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
    assert outcome.err.startswith(f"stepsynth: the result would overwrite {str(out)!r}, a file of a ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name",
    [
        *("compare-t/s3-0/predictions.csv", "compare-t/s3-0/data/mine.jsonl", "compare-t/mine.csv", "results.json"),
        *("config.json", "data/validation-0123456789ab.jsonl", "students/x.csv", "a\0b", "loop/x"),
    ],
)
def test_the_user_s_own_files_may_lie_beside_those_of_a_run(tmp_path: Path, name: str) -> None:
    made_up_comparison(tmp_path)
    (tmp_path / "config.json").write_text('{"task": {}}')
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refuse_own_file(tmp_path / name)
    refuse_own_file(Path(os.devnull))
    refuse_own_file(None)


def test_the_answers_that_runs_share_are_not_written_over(tmp_path: Path) -> None:
    made_up_comparison(tmp_path)
    with pytest.raises(ConfigError, match="a file of runs that share it"):
        refuse_own_file(tmp_path / "compare-t" / "answers.db")


def made_up_comparison(folder: Path) -> None:
    run = folder / "compare-t" / "s3-0"
    for name in ("models/round-0/done.json", "data/validation-0123456789ab.jsonl", "journal.db", "results.json", "lock"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (run / "config.json").write_text('{"format": 1, "config": {}}')


@pytest.mark.parametrize(("name", "form"), [("p.csv", "csv"), ("P.TSV", "tsv"), ("p.ndjson", "jsonl"), ("p", "csv")])
def test_the_ending_of_the_file_says_the_form(name: str, form: str) -> None:
    assert Output(Path(name)).format == form


@pytest.mark.parametrize(("name", "form"), [("p.xlsx", None), ("p.parquet", "csv"), ("p.out", None), ("p.csv.gz", None)])
def test_other_endings_are_refused_before_anything_is_done(name: str, form: str | None) -> None:
    with pytest.raises(ConfigError, match="--out is"):
        _ = Output(Path(name), form).format
    assert Output(Path("p.out"), "tsv").format == "tsv"


def test_tabs_stand_between_the_cells_of_a_tsv() -> None:
    table = Table([], Layout(Survey(), ["text"], {}, ["label"]), exact=False, delimiter="\t")
    content = table.text([Filled({"text": "a, b"}, {"label": "wet"})])
    assert content == "text\tlabel\r\na, b\twet\r\n"


@pytest.mark.parametrize("name", ["s3.csv", "s3.xlsx"])
def test_import_writes_json_lines_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    outcome = stepsynth(capsys, "import", tmp_path / "a.jsonl", "--config", "c.yaml", "--out", tmp_path / name)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "but the output is JSON Lines. Use a name that ends in .jsonl." in outcome.err


@pytest.mark.parametrize("empty", ["", "  ", "\u3000\t"])
def test_a_row_without_a_text_is_named_not_guessed(empty: str) -> None:
    with pytest.raises(DataError, match=r"row 1 of 'n\.csv' has an empty text"):
        _refuse_empty([Example("0", "a"), Example("1", empty)], Path("n.csv"), TASK)
    with pytest.raises(DataError, match=r"row 0 of 'n\.csv' has an empty text1"):
        _refuse_empty([Example("0", "a", context=empty)], Path("n.csv"), PAIR)
