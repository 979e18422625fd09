"""Bad input of every family on the command line: one line, exit code 2, nothing spent, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FamilyWorld, build_family_world, lend_student, rows_of

Row = dict[str, Any]
Setup = Callable[[FamilyWorld], None]
LONG = " ".join(f"word{number}" for number in range(60))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base model for all cases."""
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


def config(**changes: Any) -> Setup:
    """Return a setup that changes config keys (``__`` stands for a dot)."""

    def setup(world: FamilyWorld) -> None:
        keep = {"student.model": world.config().student.model}
        world.write_config({**keep, **{key.replace("__", "."): value for key, value in changes.items()}})

    return setup


def rows(change: Callable[[list[Row]], list[Row]], name: str = "validation.jsonl") -> Setup:
    """Return a setup that changes the rows of a file."""

    def setup(world: FamilyWorld) -> None:
        world.write_rows(name, change(rows_of(world.family, 20, 500 if name.startswith("test") else 0)))

    return setup


def every(name: str, value: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda given: [{**row, name: value(row) if callable(value) else value} for row in given]


def one(**values: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda given: [*given[:7], {**given[7], **values}, *given[8:]]


def without(*names: str) -> Callable[[list[Row]], list[Row]]:
    return lambda given: [{name: value for name, value in row.items() if name not in names} for row in given]


def pool(content: str | None, **source: Any) -> Setup:
    """Return a setup with a pool of contexts; ``None`` names a file that is not there."""

    def setup(world: FamilyWorld) -> None:
        if content is not None:
            (world.folder / "pool.jsonl").write_text(content)
        config(data__contexts={"path": "pool.jsonl" if content is not None else "validatoin.jsonl", **source})(world)

    return setup


def both(*setups: Setup) -> Setup:
    def setup(world: FamilyWorld) -> None:
        for each in setups:
            each(world)

    return setup


def long_answers(given: list[Row]) -> list[Row]:
    """Every answer has more words than a window has tokens."""
    answers = {"text": [LONG], "answer_start": [3]}
    return [{**row, "context": f"It {LONG} and then {number}.", "answers": answers} for number, row in enumerate(given)]


FIELDS = {"text1": {"name": "note"}, "text2": {"name": "claim"}}
MISPLACED = {"text": ["Brigen"], "answer_start": [4]}
CASES: dict[str, tuple[str, Setup, tuple[str, ...]]] = {
    # question answering
    "qa: a span that is not in the context": (
        "extractive_qa",
        rows(one(answers={"text": ["Atlantis"], "answer_start": [3]})),
        ("'Atlantis'", "line 8 of", "does not occur in its context"),
    ),
    "qa: a span at another place": ("extractive_qa", rows(one(answers=MISPLACED)), ("'Brigen'", "line 8 of", "character 4")),
    "qa: a test row with a wrong span": (
        "extractive_qa",
        rows(one(answers={"text": ["Atlantis"], "answer_start": [3]}), "test.jsonl"),
        ("'Atlantis'", "test.jsonl"),
    ),
    "qa: no context": ("extractive_qa", rows(without("context")), ("no column 'context'",)),
    "qa: an empty context": ("extractive_qa", rows(one(context=" ")), ("line 8 of", "empty context")),
    "qa: no answers": ("extractive_qa", rows(without("answers")), ("'answers'",)),
    "qa: a question that cannot be answered": (
        "extractive_qa",
        rows(one(answers={"text": [], "answer_start": []})),
        ("line 8 of", "no answers", "Remove such rows"),
    ),
    "qa: one context for all": (
        "extractive_qa",
        rows(lambda given: [{**given[0], "question": f"Who is {n}?"} for n in range(9)]),
        ("one context",),
    ),
    "qa: labels in the config": ("extractive_qa", config(task__labels={"a": "x", "b": "y"}), ("no labels", "task.labels")),
    "qa: answers longer than the window": (
        "extractive_qa",
        rows(long_answers),
        ("60 words", "student.max_length=48"),
    ),
    "qa: a stride as long as the window": ("extractive_qa", config(student__stride=48), ("student.stride=48", "max_length=48")),
    "qa: a file of contexts that is missing": (
        "extractive_qa",
        pool(None),
        ("validatoin.jsonl", "Did you mean 'validation.jsonl'?"),
    ),
    "qa: an empty pool": ("extractive_qa", pool("\n"), ("pool of contexts is empty", "pool.jsonl")),
    "qa: a pool without the column": ("extractive_qa", pool('{"passage": "a"}\n'), ("'context'",)),
    "qa: a pool of which nothing can be asked": (
        "extractive_qa",
        pool('{"context": "or if not then so"}\n{"context": "and but or"}\n'),
        ("none of the 2 contexts",),
    ),
    # pairs
    "pair: the label is on a text's field": (
        "pair",
        config(data__validation={"path": "validation.jsonl", "columns": {"label": "text2"}}),
        ("both read from column 'text2'",),
    ),
    "pair: label and text are swapped": (
        "pair",
        rows(lambda given: [{"text1": row["text1"], "text2": row["label"], "label": row["text2"]} for row in given]),
        ("labels that task.labels does not have",),
    ),
    "pair: no second text": ("pair", rows(without("text2")), ("no column 'text2'",)),
    "pair: no context": ("pair", rows(without("text1")), ("no column 'text1'",)),
    "pair: an empty context": ("pair", rows(one(text1="")), ("line 8 of", "empty text1")),
    "pair: no field is the context": ("pair", config(task__fields=FIELDS), ("context: true", "0 of them kept")),
    "pair: no fields": ("pair", config(task__fields=None), ("a pair needs fields",)),
    "pair: both fields are the context": (
        "pair",
        config(task__fields={name: {**field, "context": True} for name, field in FIELDS.items()}),
        ("2 of them kept",),
    ),
    "pair: an order that names one field": ("pair", config(task__order=["text1", "text1"]), ("names a field twice",)),
    "pair: an unknown label": ("pair", rows(one(label="folows")), ("'folows'", "Did you mean 'follows'?")),
    "pair: a file of contexts that is missing": ("pair", pool(None), ("validatoin.jsonl",)),
    "pair: an empty pool": ("pair", pool(""), ("pool.jsonl", "empty")),
    "pair: a pool with an empty context": (
        "pair",
        pool('{"context": "a note"}\n{"context": ""}\n'),
        ("line 2 of", "empty context"),
    ),
    "pair: a pool of fewer contexts than the sample": (
        "pair",
        pool('{"context": "a note"}\n', sample=5),
        ("sample is 5", "1 row"),
    ),
    # several labels
    "multi_label: one label in the place of several": (
        "multi_label",
        rows(lambda given: [{"text": row["text"], "label": "hot"} for row in given]),
        ("'labels'", "Did you mean 'label'?"),
    ),
    "multi_label: an unknown label": ("multi_label", rows(one(labels=["hot", "wett"])), ("'wett'", "Did you mean 'wet'?")),
    "multi_label: no row has a label": ("multi_label", rows(every("labels", [])), ("no row", "label")),
    "multi_label: labels are a number": ("multi_label", rows(one(labels=3)), ("line 8 of", "int")),
    "multi_label: a label with the joining sign": (
        "multi_label",
        config(task__labels={"hot|wet": "x", "loud": "y"}),
        ("'hot|wet'", "joins"),
    ),
    "multi_label: contexts": ("multi_label", pool('{"context": "a note"}\n'), ("data.contexts does not apply",)),
    # what all share
    "a seed that does not fit": (
        "pair",
        both(config(data__seed={"path": "seed.jsonl"}), rows(without("text1"), "seed.jsonl")),
        ("seed.jsonl", "'text1'"),
    ),
    "a seed file that is missing": ("multi_label", config(data__seed={"path": "sed.jsonl"}), ("sed.jsonl", "does not exist")),
    "fields of a task that has none": ("multi_label", config(task__fields=FIELDS), ("has no fields",)),
    "a prompt with a wrong name": ("extractive_qa", config(task__prompts={"seed": "{{ anwser }}"}), ("prompt 'seed'", "anwser")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_nothing_is_spent(
    case: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ``plan``, ``run`` and ``compare`` alike."""
    family, setup, expected = CASES[case]
    world = build_family_world(tmp_path / "world", family, student=student)
    setup(world)

    def nobody(*_: object) -> None:
        raise AssertionError("a teacher was asked")

    for where in ("generation.client", "planning.making"):
        monkeypatch.setattr(f"stepsynth.{where}.create_teacher", nobody)
    monkeypatch.setattr("stepsynth.planning.making.probe_teacher", nobody)
    monkeypatch.setattr("stepsynth.execution.runs.probe_teacher", nobody)
    lines = set()
    for command in (("plan",), ("run",), ("compare", "--seeds", "1", "--methods", "s3")):
        outcome = stepsynth(capsys, command[0], world.config_path, *command[1:])
        assert (outcome.code, outcome.out) == (2, ""), outcome
        (line,) = outcome.err.splitlines()
        assert line.startswith("stepsynth: ")
        assert len(line) < 700
        for piece in expected:
            assert piece in line
        lines.add(line)
    assert len(lines) == 1, "the commands disagree"
    assert not (world.folder / "runs").exists(), "something was written for a run that cannot start"


@pytest.mark.parametrize("family", ["multi_label", "pair", "extractive_qa"])
def test_a_run_whose_rows_went_bad_is_left_as_it_was(
    family: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = build_family_world(tmp_path / "world", family, student=student, method__name="gold")
    assert stepsynth(capsys, "run", world.config_path, "-q", "--out", tmp_path / "run").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    world.write_rows("validation.jsonl", without("text", "text2", "question")(rows_of(family, 20)))
    outcome = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("family", "row", "expected"),
    [
        ("pair", {"text1": "a note"}, "no column 'text2'"),
        ("extractive_qa", {"question": "What?"}, "no column 'context'"),
        ("extractive_qa", {"context": " ", "question": "What?"}, "empty context"),
        ("multi_label", {"label": "hot"}, "no column 'text'"),
    ],
)
def test_bad_rows_to_predict_are_one_line(
    family: str, row: Row, expected: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stepsynth.run import RunDirectory

    world = build_family_world(tmp_path / "world", family, student=student)
    RunDirectory.open(tmp_path / "run", world.config()).close()
    file = world.write_rows("new.jsonl", [row])
    outcome = stepsynth(capsys, "predict", tmp_path / "run", file)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert expected in outcome.err


def test_unknown_families_and_presets_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, hint in (
        (("--task", "extractive"), "extractive_qa"),
        (("--preset", "adqq"), "adqa"),
        (("--preset", "imdb", "--data-folder", str(tmp_path / "ghost")), "ghost"),
    ):
        outcome = stepsynth(capsys, "init", tmp_path / "new", *arguments)
        assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), arguments
        assert hint in outcome.err
        assert not (tmp_path / "new").exists()
