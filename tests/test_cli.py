"""The command line from `init` to `predict`, and what it prints."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from command import stepsynth
from loopback import LoopbackServer
from stepsynth.evaluation.power import seeds_power
from stepsynth.teachers.fake import gold_text
from world import LABELS, World, build_world


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with one finished run, not to be changed."""
    world = build_world(tmp_path_factory.mktemp("finished"))
    command = [sys.executable, "-m", "stepsynth", "run", str(world.config_path), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    (world.folder / "printed.json").write_text(done.stdout)
    return world


def run_folder(world: World) -> Path:
    return world.folder / "runs" / "invented"


def test_run_prints_the_results_that_it_writes(finished: World) -> None:
    printed = json.loads((finished.folder / "printed.json").read_text())
    assert printed == json.loads((run_folder(finished) / "results.json").read_text())


def test_results_have_the_documented_shape(finished: World) -> None:
    results = json.loads((run_folder(finished) / "results.json").read_text())
    assert set(results) == {"run", "task", "family", "labels", "teacher", "student", "seed", "methods"}
    assert results["family"] == "classification"
    method = results["methods"]["s3"]
    assert set(method) == {
        *("rounds", "best_round", "test", "rows", "requests", "tokens", "cost_usd", "dropped", "missing", "label_check"),
        *("stages", "coverage", "gap"),
    }
    assert [entry["round"] for entry in method["rounds"]] == [0, 1, 2]
    assert all(set(entry) == {"round", "rows", "new_rows", "harvest", "select", "test"} for entry in method["rounds"])
    assert method["rounds"][0]["rows"] == 30
    best = max(method["rounds"], key=lambda entry: (entry["select"]["value"], entry["round"]))
    assert method["best_round"] == best["round"]
    assert method["test"] == best["test"]
    low, high = method["test"]["ci95"]
    assert low < method["test"]["value"] < high or method["test"]["value"] in (low, high)


def test_the_dataset_has_exactly_the_seed_rows_asked_for_and_no_gold_row(finished: World) -> None:
    rows = [json.loads(line) for line in (run_folder(finished) / "dataset.jsonl").read_text().splitlines()]
    assert Counter(row["label"] for row in rows if row["kind"] == "seed") == dict.fromkeys(LABELS, 10)
    assert len({row["text"] for row in rows}) == len(rows)
    with (finished.folder / "validation.csv").open() as file:
        gold = {row["text"] for row in csv.DictReader(file)}
    assert not gold & {row["text"] for row in rows}
    assert all(row["source"] and row["source"].startswith("harvest-") for row in rows if row["kind"] == "extrapolate")


def test_extrapolated_rows_have_the_gold_label_of_their_mistake(finished: World) -> None:
    with (finished.folder / "validation.csv").open() as file:
        gold = [row["label"] for row in csv.DictReader(file)]
    rows = [json.loads(line) for line in (run_folder(finished) / "dataset.jsonl").read_text().splitlines()]
    extrapolated = [row for row in rows if row["kind"] == "extrapolate"]
    assert extrapolated
    assert all(gold[int(row["source"].removeprefix("harvest-"))] == row["label"] for row in extrapolated)


def test_the_same_command_again_asks_nothing_and_changes_nothing(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run_folder(finished) / "results.json").read_bytes(), (run_folder(finished) / "dataset.jsonl").read_bytes()
    outcome = stepsynth(capsys, "run", finished.config_path)
    assert outcome.code == 0
    assert "sealed-test accuracy" in outcome.out
    assert "report.html" in outcome.out
    assert ((run_folder(finished) / "results.json").read_bytes(), (run_folder(finished) / "dataset.jsonl").read_bytes()) == before


def test_a_second_run_takes_its_answers_from_the_first(
    finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    beside = run_folder(finished).parent / "second"
    assert stepsynth(capsys, "run", finished.config_path, "--out", beside, "-q").code == 0
    status = json.loads(stepsynth(capsys, "status", beside, "--json").out)
    assert status["requests"] == status["from_cache"] > 0
    assert (beside / "dataset.jsonl").read_bytes() == (run_folder(finished) / "dataset.jsonl").read_bytes()


def test_status_accounts_for_every_requested_row(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    status = json.loads(stepsynth(capsys, "status", run_folder(finished), "--json").out)
    assert status["state"] == "finished"
    written = [stage for stage in status["stages"] if stage["requested"]]
    assert len(written) == 4
    for stage in written:
        assert stage["requested"] == stage["accepted"] + sum(stage["dropped"].values())
    assert "finished" in stepsynth(capsys, "status", run_folder(finished)).out


def test_report_makes_deleted_files_again(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("report.html", "results.json", "dataset.jsonl")
    before = {name: (run_folder(finished) / name).read_bytes() for name in names}
    for name in names:
        (run_folder(finished) / name).unlink()
    assert stepsynth(capsys, "report", run_folder(finished)).code == 0
    assert {name: (run_folder(finished) / name).read_bytes() for name in names} == before


def test_predict_keeps_order_and_gives_probabilities(finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    texts = [gold_text(label, 5000 + i) for i in range(4) for label in LABELS]
    source = tmp_path / "new.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[text] for text in texts]])
    out = tmp_path / "predicted.csv"
    assert stepsynth(capsys, "predict", run_folder(finished), source, "--out", out).code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    for row in rows:
        probabilities = {label: float(row[f"p({label})"]) for label in LABELS}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert row["label"] == max(probabilities, key=probabilities.__getitem__)


def test_predictions_are_safe_in_a_spreadsheet(finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("=cmd|' /C calc'!A0\n@import\nplain\n")
    outcome = stepsynth(capsys, "predict", run_folder(finished), tmp_path / "new.txt")
    cells = [row[0] for row in csv.reader(outcome.out.splitlines())][1:]
    assert cells == ["'=cmd|' /C calc'!A0", "'@import", "plain"]


@pytest.mark.parametrize("option", ["review", "text=review"])
def test_predict_reads_a_column_of_another_name(
    finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "new.csv").write_text("id,review\n1,one text\n")
    outcome = stepsynth(capsys, "predict", run_folder(finished), tmp_path / "new.csv", "--column", option)
    assert (outcome.code, [row["text"] for row in csv.DictReader(outcome.out.splitlines())]) == (0, ["one text"])


def test_predict_refuses_one_column_named_twice(finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,review\n1,one text\n")
    options = ("--column", "review", "--column", "text=id")
    outcome = stepsynth(capsys, "predict", run_folder(finished), tmp_path / "new.csv", *options)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "'text' twice: 'review' and 'id'" in outcome.err


def test_predict_as_json(finished: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("one text\n")
    found = json.loads(stepsynth(capsys, "predict", run_folder(finished), tmp_path / "new.txt", "--json").out)
    assert found["predictions"][0]["text"] == "one text"
    assert set(found["predictions"][0]["probabilities"]) == set(LABELS)


def test_a_missing_model_is_trained_again_to_the_same_bytes(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    model = run_folder(finished) / "models" / "round-1"
    before = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)
    assert stepsynth(capsys, "run", finished.config_path, "-q").code == 0
    assert (model / "model.safetensors").read_bytes() == before


def test_plan_checks_the_teacher_and_spends_nothing(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(stepsynth(capsys, "plan", finished.config_path, "--json").out)
    read = {name: entry["rows"] for name, entry in found["data"].pop("read").items()}
    assert read == {"validation": 36, "test": 30}
    assert found["data"] == {"harvest": 18, "select": 18, "test": 30, "contexts": 0, "seed": 0, "pool": 0, "notes": []}
    assert found["requests"][0] <= found["requests"][1]
    assert found["sample"]["answer"]
    shown = stepsynth(capsys, "plan", finished.config_path).out
    assert "sample prompt" in shown
    assert found["power"]["detectable"] is None
    assert "test too few rows to tell most students apart; 3 points take about 1,742 rows" in " ".join(shown.split())
    power = found["power"]["comparison"]
    assert power == seeds_power(30, 5)
    said = "of two methods, compared with 5 seeds: 15.4 points or more; 3 points take more test rows (typical variances)"
    assert said in " ".join(shown.split())


def test_plan_says_what_the_test_set_can_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path)
    for rows, said in (
        (400, "test shows differences of 6.4 points or more; 3 points take about 1,742 rows"),
        (400, "3 points take 19 seeds (typical variances)"),
        (2_500, "2.5 points"),
    ):
        world.write_csv("test.csv", [(f"another text {number}", LABELS[number % 3]) for number in range(rows)])
        shown = " ".join(stepsynth(capsys, "plan", world.config_path).out.split())
        assert said in shown
        assert ("points take about" in shown) == (rows == 400)


def test_the_loop_runs_on_an_openai_compatible_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, loopback: LoopbackServer
) -> None:
    world = build_world(tmp_path / "world")
    teacher = {"backend": "openai", "model": "loopback", "base_url": loopback.base_url, "concurrency": 8}
    world.write_config({"teacher": teacher, "method.rounds": 1})
    assert stepsynth(capsys, "run", world.config_path, "-q").code == 0
    asked = len(loopback.completions)
    status = json.loads(stepsynth(capsys, "status", run_folder(world), "--json").out)
    assert status["requests"] == asked > 0
    assert loopback.peak <= 8
    assert status["cost_usd"] is None, "an unknown price is never zero"
    assert stepsynth(capsys, "run", world.config_path, "-q").code == 0
    assert len(loopback.completions) == asked


def test_init_writes_a_config_that_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert stepsynth(capsys, "init", folder).code == 0
    student = build_world(tmp_path / "world").folder / "student"
    outcome = stepsynth(
        capsys, "plan", folder / "config.yaml", "--json", "--set", "teacher.backend=fake", "--set", f"student.model={student}"
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["data"]["test"] == 360


def test_models_list_names_all_embedded_models(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(stepsynth(capsys, "models", "list", "--json").out)["models"]
    assert {e["name"] for e in found} == {"smollm2-135m", "minilm-l6", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"}
    teachers = [entry for entry in found if entry["kind"] == "teacher"]
    assert all(e["memory_gb"] and e["tokens_per_second"] and e["fidelity"] and e["license"] == "Apache-2.0" for e in teachers)
    lines = stepsynth(capsys, "models", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["model", *(entry["name"] for entry in found)]


def test_models_pull_without_a_name_brings_what_the_defaults_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("stepsynth.run.settling.choose_teacher", lambda wanted: (wanted, ""))

    def note(name: str, *, kind: str, report: object) -> str:
        asked.append(name)
        return name

    monkeypatch.setattr("stepsynth.cli.models.resolve", note)
    assert stepsynth(capsys, "models", "pull", "--json").code == 0
    assert asked == ["qwen2.5-coder-1.5b", "minilm-l6"]
    assert stepsynth(capsys, "models", "pull", "smollm2-135m").code == 0
    assert asked[2:] == ["smollm2-135m"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"KMP_BLOCKTIME": "200"}, {"KMP_BLOCKTIME": "200"}),
        ({"GOMP_SPINCOUNT": "9"}, {"GOMP_SPINCOUNT": "9"}),
    ],
)
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    own: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stepsynth.cli.main import _let_threads_sleep

    monkeypatch.setattr("os.environ", dict(own))
    _let_threads_sleep()
    found = dict(os.environ)
    monkeypatch.undo()
    assert found == expected


def test_the_command_sets_it_before_torch_is_there_and_the_library_sets_nothing() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "KMP_", "GOMP_"))}
    show = "print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    for call, expected in {
        "import stepsynth.training, stepsynth.students.classifier": "None False",
        "m = import_module('stepsynth.cli.main'); m.app = lambda: None; m.main()": "PASSIVE False",
    }.items():
        code = ["-c", f"import os, sys; from importlib import import_module; {call}; {show}"]
        done = subprocess.run([sys.executable, *code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.strip() == expected
