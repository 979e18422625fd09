"""Every task family from ``init`` to ``predict`` on the command line, killed and resumed, and used again as a seed."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

import family_worlds
from command import stepsynth
from family_worlds import build_family_world, lend_student, read_lines, rows_of, write_lines
from stepsynth.config import load_config
from stepsynth.data import load_seed
from stepsynth.journal import Journal

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = ("multi_label", "pair", "extractive_qa")
INPUTS = {"multi_label": ("text",), "pair": ("text1", "text2"), "extractive_qa": ("context", "question")}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base model for all worlds."""
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


def small(student: Path) -> list[str]:
    """Return overrides that make a shipped starter run here, in a second or two."""
    return [
        "teacher.backend=fake",
        "teacher.model=fake",
        f"student.model={student}",
        "student={epochs: 2, min_steps: 0, batch_size: 16, learning_rate: 3.0e-3, max_length: 48, stride: 8, "
        f"model: {student}}}",
        "method={seed_rows: 12, rounds: 1, rows_per_mistake: 1, rationales: 3, folds: 2}",
        "data.validation.sample=40",
        "data.test.sample=20",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_goes_from_init_to_predict(
    family: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert stepsynth(capsys, "init", folder, "--task", family).code == 0
    changes = [part for override in small(student) for part in ("--set", override)]
    config = folder / "config.yaml"

    planned = stepsynth(capsys, "plan", config, *changes, "--json")
    assert planned.code == 0, planned.err
    plan = json.loads(planned.out)
    assert plan["requests"][0] > 12
    assert plan["sample"]["answer"]
    assert not (folder / "runs").exists()

    ran = stepsynth(capsys, "run", config, *changes, "--json")
    assert ran.code == 0, ran.err
    results = json.loads(ran.out)
    (run,) = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    (method,) = results["methods"].values()
    assert results["family"] == family
    assert method["test"]["n"] == 20
    assert method["rounds"][0]["rows"] == 12 + 40
    kept = {entry["student"]: entry["round"] for entry in method["rounds"] if entry.get("student")}
    assert [entry["round"] for entry in method["rounds"]] == [0, 1, *kept.values()]
    assert set(kept) == {"labels", "written", "stages"}

    status = stepsynth(capsys, "status", run, "--json")
    found = json.loads(status.out)
    assert (status.code, found["state"], found["results"]) == (0, "finished", results)
    assert plan["requests"][0] <= found["requests"] <= plan["requests"][1], "the plan did not foresee what the run took"
    assert stepsynth(capsys, "status", run).code == 0

    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert stepsynth(capsys, "report", run).code == 0
    assert (run / "report.html").read_bytes() == page

    predict_again(family, folder, run, capsys)


def predict_again(family: str, folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Predict the validation rows: to CSV, to JSON lines, with other column names; all say the same."""
    (file,) = folder.glob("validation.*")
    names = INPUTS[family]
    as_csv = stepsynth(capsys, "predict", run, file)
    assert as_csv.code == 0, as_csv.err
    table = list(csv.DictReader(io.StringIO(as_csv.out)))
    given = read_lines(file) if file.suffix == ".jsonl" else list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert len(table) == len(given) > 20
    safe = [{name: row[name].removeprefix("'") for name in names} for row in table]
    assert safe == [{name: row[name].removeprefix("'") for name in names} for row in given]

    renamed = write_lines(folder / "renamed.jsonl", [{f"my {name}": row[name] for name in names} for row in given])
    columns = [part for name in names for part in ("--column", f"{name}=my {name}")]
    as_lines = stepsynth(capsys, "predict", run, renamed, *columns, "--out", folder / "out.jsonl")
    assert as_lines.code == 0, as_lines.err
    lines = read_lines(folder / "out.jsonl")
    assert [{name: row[name] for name in names} for row in lines] == [{name: row[name] for name in names} for row in given]
    labels = list(load_config(folder / "config.yaml").task.labels)
    # Where the file has labels of its own, they stay.
    own = "predicted_" if {"label", "labels"} & set(given[0]) else ""
    for row, cells in zip(lines, table, strict=True):
        if family == "extractive_qa":
            start = row["answer_start"]
            assert row["answer"] == row["context"][start : start + len(row["answer"])] == cells["answer"].removeprefix("'")
            assert int(cells["answer_start"]) == start
            assert 0 <= row["probability"] <= 1
            continue
        probabilities = row["probabilities"]
        assert list(probabilities) == labels
        assert [float(cells[f"p({label})"]) for label in labels] == pytest.approx(list(probabilities.values()), abs=1e-6)
        if family == "multi_label":
            assert row["labels"] == [label for label in labels if probabilities[label] >= 0.5]
            assert cells[f"{own}labels"] == "|".join(row["labels"])
        else:
            assert row["label"] == cells[f"{own}label"] == max(labels, key=probabilities.__getitem__)
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_wrote_can_be_a_seed_again(
    family: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row for row, and through ``import`` as well; the second run asks for no seed rows."""
    world = build_family_world(tmp_path / "world", family, student=student, method__name="zerogen")
    assert stepsynth(capsys, "run", world.config_path, "-q", "--out", tmp_path / "first").code == 0
    dataset = tmp_path / "first" / "dataset.jsonl"
    config = world.config(f"data.seed.path={dataset}")
    with closing(Journal(tmp_path / "first" / "journal.db")) as journal:
        rows = [(row.text, row.label, row.context, row.example.answers) for row in journal.dataset()]
    assert [(row.text, row.label, row.context, row.answers) for row in load_seed(config)] == rows
    imported = stepsynth(capsys, "import", dataset, "--config", world.config_path, "--out", tmp_path / "seed.jsonl", "--json")
    assert imported.code == 0, imported.err
    assert json.loads(imported.out)["rows"] == len(rows)
    again = load_seed(world.config(f"data.seed.path={tmp_path / 'seed.jsonl'}"))
    assert [(row.text, row.label, row.context, row.answers) for row in again] == rows
    second = stepsynth(
        capsys,
        *("run", world.config_path, "--json", "--out", tmp_path / "second"),
        *("--set", f"data.seed.path={tmp_path / 'seed.jsonl'}", "--set", "method.name=seed-only"),
    )
    assert second.code == 0, second.err
    (method,) = json.loads(second.out)["methods"].values()
    assert (method["rows"], method["requests"]) == (len(rows), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_that_is_exported_keeps_its_context_and_its_span(family: str, student: Path, tmp_path: Path) -> None:
    from stepsynth.cli.running import run_config

    world = build_family_world(tmp_path / "world", family, student=student)
    run_config(world.config(), tmp_path / "run", quiet=True)
    given = rows_of(family, 20)
    rows = read_lines(tmp_path / "run" / "dataset.jsonl")
    assert {row["round"] for row in rows} == {0, 1}
    for row in rows:
        if family == "pair":
            assert row["text1"] in {entry["text1"] for entry in given}
            assert row["label"] in ("follows", "other")
        elif family == "extractive_qa":
            assert row["context"] in {entry["context"] for entry in given}
            ((text, start),) = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            assert row["context"][start : start + len(text)] == text
            assert row["question"].endswith("?")
        else:
            assert row["labels"]


# kills ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kills", [12])
def test_runs_of_pairs_and_questions_end_byte_identical_wherever_they_are_killed(
    student: Path, tmp_path: Path, kills: int
) -> None:
    """A matched run, too: how large its waves are depends on what answers took, never on what was bought when."""
    matched: dict[str, Any] = {"method__name": "zerogen", "method__match": {"unit": "tokens", "amount": 1500}}
    build_family_world(tmp_path / "pair", "pair", student=student)
    build_family_world(tmp_path / "qa", "extractive_qa", student=student)
    build_family_world(tmp_path / "matched", "pair", student=student, **matched)
    folders = [str(tmp_path / name) for name in ("pair", "qa", "matched")]
    command = [sys.executable, str(Path(family_worlds.__file__)), str(kills), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[dict[str, Any]]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(folders)
    for folder, (calm, *killed) in zip(folders, found, strict=True):
        assert len(killed) == kills
        assert sum(outcome["signal"] == 9 for outcome in killed) >= kills - 1
        for outcome in killed:
            where = f"{folder} killed at {outcome['point']} of {len(calm['passed'])}"
            assert outcome["fingerprint"] == calm["fingerprint"], where
            assert (outcome["asked_again"], outcome["leftovers"]) == ([], []), where


def test_a_starter_of_a_family_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for family in FAMILIES:
        assert stepsynth(capsys, "init", tmp_path / family, "--task", family).code == 0
        assert yaml.safe_load((tmp_path / family / "config.yaml").read_text(encoding="utf-8"))["task"]["family"] == family
    outcome = stepsynth(capsys, "init", tmp_path / "x", "--task", "pairs")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "Did you mean 'pair'?" in outcome.err
