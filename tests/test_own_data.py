"""``init --data``: a table of one's own becomes a config that loads, with its labels and columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from stepsynth.config import load_config
from world import LABELS, build_world

ROWS = [
    ("1", "Where is my invoice?", "billing"),
    ("2", "It crashes: again", "tech: app"),
    ("3", "Refund, please", "billing"),
    ("4", "No login", "tech: app"),
    ("5", "Paid twice", "billing"),
]


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("mine.csv", ("id", "message", "team"), ROWS)


def write(name: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def test_labels_columns_and_paths_are_in_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    said = stepsynth(
        capsys, "init", "sub/our tickets", "--data", "mine.csv", "--text", "message", "--label", "team", "--test", "mine.csv"
    )
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("5 rows, 2 labels: 'billing' (3), 'tech: app' (2).\nWrote sub/our tickets/config.yaml: say there ")
    config = load_config(Path("sub/our tickets/config.yaml"))
    assert config.task.name == "our-tickets"
    assert config.task.labels == {"billing": "billing", "tech: app": "tech: app"}
    for source in (config.data.validation, config.data.test):
        assert source is not None
        assert source.path is not None
        assert source.path.resolve() == Path("mine.csv").resolve()
        assert source.columns == {"text": "message", "label": "team"}
    assert "billing    # 3 rows" in Path("sub/our tickets/config.yaml").read_text(encoding="utf-8")


def test_such_a_config_runs_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of a user's own file has to be named twice: not for the run, and not for predictions."""
    world = build_world(tmp_path / "world")
    rows = list(csv.reader((world.folder / "validation.csv").read_text().splitlines()))[1:]
    write("rows.csv", ("message", "team"), [(text, label) for text, label in rows])
    write("new.csv", ("message",), [(text,) for text, _ in rows[:4]])
    options = ["--data", "rows.csv", "--text", "message", "--label", "team"]
    assert stepsynth(capsys, "init", "own", *options).code == 0
    small = {
        "teacher.backend": "fake",
        "teacher.model": "fake",
        "student.model": str(world.folder / "student"),
        "student.min_steps": 4,
        "method.seed_rows": 2 * len(LABELS),
        "method.folds": 2,
    }
    settings = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    said = stepsynth(capsys, "run", "own/config.yaml", *settings, "--out", "done", "--quiet")
    assert said.code == 0, said.err
    said = stepsynth(capsys, "predict", "done", "new.csv")
    assert (said.code, len(said.out.splitlines())) == (0, 5), said.err


def test_numbers_are_labels_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"text {place}", "label": n} for place, n in enumerate((10, 2, 1, 2, 10, 1))]
    Path("stars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert stepsynth(capsys, "init", "stars", "--data", "stars.jsonl").code == 0
    assert list(load_config(Path("stars/config.yaml")).task.labels) == ["1", "2", "10"]


ODD = ["yes", "null", "1.0", "a # b", "{x}", "- y", "'", '"', "ein Wort: ja", "日本", "[a, b]", "&x", "a\nb"]
ODD += ["👨\u200d👩\u200d👧 family", "😀\u00a0x"]


@pytest.mark.parametrize("label", ODD)
def test_any_label_survives_the_way_through_yaml(label: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("rows.csv", ("text", "label"), [("first", label), ("second", "other"), ("third", label), ("fourth", "other")])
    said = stepsynth(capsys, "init", "own", "--data", "rows.csv")
    assert said.code == 0, said.err
    assert list(load_config(Path("own/config.yaml")).task.labels) == sorted([label, "other"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--data", "mine.csv"], "Name the columns with --text COLUMN and --label COLUMN."),
        (["--data", "mine.csv", "--text", "message", "--label", "tem"], "--label COLUMN."),
        (["--data", "mine.csv", "--text", "message", "--label", "id"], "1 usable row"),
        (["--data", "nine.csv"], "'nine.csv' does not exist. Did you mean 'mine.csv'?"),
        (["--text", "message"], "--text, --label, --test, --encoding, --delimiter and --sheet belong to --data."),
        (["--data", "mine.csv", "--task", "pair"], "--data is for texts with one label each: "),
        (["--data", "mine.csv", "--preset", "imdb"], "--data is for texts with one label each: "),
        (["--data", "mine.csv", "--text", "message", "--label", "team", "--test", "none.csv"], "'none.csv' does not exist."),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    arguments: list[Any], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = stepsynth(capsys, "init", "own", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert problem in said.err
    assert not Path("own").exists()


def test_columns_of_json_lines_are_named_where_none_fits(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text('{"body": "a", "stars": 5}\n')
    assert "It has 'body', 'stars'. Name the columns" in stepsynth(capsys, "init", "own", "--data", "rows.jsonl").err


def test_a_file_in_another_encoding_with_another_delimiter(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.csv").write_bytes("text|label\nKäse|süß\nBrot|herb\nMilch|süß\nTee|herb\n".encode("cp1252"))
    how = ["--encoding", "cp1252", "--delimiter", "|"]
    assert stepsynth(capsys, "init", "own", "--data", "old.csv", *how).code == 0
    config = load_config(Path("own/config.yaml"))
    assert list(config.task.labels) == ["herb", "süß"]
    assert (config.data.validation.encoding, config.data.validation.delimiter) == ("cp1252", "|")


def test_a_link_keeps_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Caches link to files without an ending."""
    Path("mine.csv").rename("deadbeef")
    Path("link.csv").symlink_to("deadbeef")
    assert stepsynth(capsys, "init", "own", "--data", "link.csv", "--text", "message", "--label", "team").code == 0
    path = load_config(Path("own/config.yaml")).data.validation.path
    assert path is not None
    assert path.name == "link.csv"


def test_many_labels_get_two_rows_each(capsys: pytest.CaptureFixture[str]) -> None:
    write("many.csv", ("text", "label"), [(f"text {n} of {k}", f"label {n}") for n in range(150) for k in range(3)])
    assert stepsynth(capsys, "init", "own", "--data", "many.csv").code == 0
    assert load_config(Path("own/config.yaml")).method.seed_rows == 300


TEXTS = [(f"This is text number {n}.", "a" if n % 2 else "b") for n in range(30)]


@pytest.mark.parametrize(
    ("name", "head", "rows", "problem"),
    [
        ("empty.csv", ("text", "label"), [], "has no rows."),
        ("one.csv", ("text", "label"), [("x y", "a"), ("y z", "a")], "all rows of 'one.csv' have the label 'a'."),
        ("alone.csv", ("text", "label"), [("x y", "a"), ("y z", "a"), ("z x", "b")], "1 usable row"),
        ("alike.csv", ("text", "label"), [("x y", "Spam"), ("y z", "spam"), ("z", "ham"), ("w", "ham")], "spam"),
        ("hole.csv", ("text", "label"), [("x y", "a"), ("", "a"), ("z x", "b"), ("z y", "b")], "empty text"),
        ("swapped.csv", ("label", "text"), TEXTS, "these look like texts, not labels."),
    ],
)
def test_what_a_run_would_refuse_is_refused_before_anything_is_written(
    name: str,
    head: tuple[str, ...],
    rows: list[tuple[str, ...]],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(name, head, rows)
    said = stepsynth(capsys, "init", "own", "--data", name)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert problem in said.err
    assert not Path("own").exists()


@pytest.mark.parametrize("path", ["https://example.org/x.csv", "s3://bucket/x.csv", "a\nb.csv", "b\udcff.csv"])
def test_a_path_that_is_none_is_one_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = stepsynth(capsys, "init", "own", "--data", path)
    assert (said.code, said.err.count("\n")) == (2, 1)
