"""Sweeps: everything is checked first, a failure loses no other comparison, the same command goes on, the numbers are right."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stepsynth as ss
from command import stepsynth
from conditions import THREADS
from stepsynth.cli import running
from stepsynth.errors import RunError
from stepsynth.journal import Journal
from stepsynth.report import render_sweep
from stepsynth.runtime import failpoints
from stepsynth.sweeps import SweepProblems, read_sweep
from stepsynth.sweeps.stored import locked
from stepsynth.tracking import TrackedRun, TrackedSummary, Tracker
from sweep_world import build_sweep, data_set, write_sweep

pytestmark = pytest.mark.usefixtures("one_thread")

CELLS = ("gold-0", "gold-1", "zerogen-0", "zerogen-1")
ONE_THREAD = {"OMP_NUM_THREADS": str(THREADS)}
FILES = ("sweep.csv", "sweep.html", "sweep.json", "sweep.md")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep: the folder with its file; only read."""
    folder = tmp_path_factory.mktemp("sweep")
    file = build_sweep(folder)
    failpoints.arm(-1)
    try:
        code = quietly(file)
        (folder / "places").write_text(str(len(failpoints.passed())))
    finally:
        failpoints.arm(0)
    assert code == 0
    return folder


def quietly(file: Path, *options: str) -> int:
    """Run a sweep in this process; return its exit code."""
    import typer

    from stepsynth.cli.sweeping import sweep

    try:
        sweep(file, quiet=True, overrides=list(options) or None)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished sweep, with its data sets where they were."""
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("something was asked or trained")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    monkeypatch.setattr("stepsynth.students.classifier.Classifier.fit", nobody)


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "small" / "sweep.json").read_text())
    return found


def timeless(value: Any) -> Any:
    """Return results without what a clock measured."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key != "minutes"}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what it leaves -----------------------------------------------------------------------------


def test_every_data_set_is_a_comparison_of_its_own(finished: Path) -> None:
    folder = finished / "runs" / "small"
    for name in ("one", "two"):
        assert {path.parent.name for path in (folder / f"compare-{name}").glob("*/journal.db")} == set(CELLS)
        assert ss.Comparison.load(folder / f"compare-{name}").reference == "gold"
    assert all((folder / name).is_file() for name in FILES)
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert [(row["data_set"], f"{row['method']}-{row['seed']}") for row in rows] == [
        (name, f"{method}-{seed}") for name in ("one", "two") for seed in (0, 1) for method in ("gold", "zerogen")
    ]
    assert {row["state"] for row in rows} == {"finished"}


def graded(run: Path) -> list[float]:
    """Return what a journal says of each test row, read without the code that the table is made with."""
    with closing(Journal(run / "journal.db")) as journal:
        last = max(number for (number,) in journal.select("SELECT round FROM evaluations WHERE split = 'test'"))
        return [entry.score for entry in journal.graded(last, "test")]


def test_the_numbers_follow_from_the_journals(finished: Path) -> None:
    import numpy as np

    folder, results = finished / "runs" / "small", stored(finished)
    scores = {
        (name, method): np.array([graded(folder / f"compare-{name}" / f"{method}-{seed}") for seed in (0, 1)])
        for name in ("one", "two")
        for method in ("gold", "zerogen")
    }
    for entry in results["comparisons"]:
        for cell in entry["cells"]:
            own = scores[entry["data_set"], cell["method"]][cell["seed"]]
            assert cell["score"] == pytest.approx(own.mean(), abs=1e-6)
        for system in entry["systems"]:
            assert system["score"]["value"] == pytest.approx(scores[entry["data_set"], system["name"]].mean(), abs=1e-6)
    (average,) = results["averages"]
    gold, zerogen = average["systems"]
    assert (gold["name"], gold["difference"], zerogen["data_sets"]) == ("gold", None, 2)
    for entry in average["systems"]:
        assert entry["score"]["value"] == pytest.approx(
            np.mean([scores[n, entry["name"]].mean() for n in ("one", "two")]), abs=1e-6
        )
    apart = [scores[name, "zerogen"] - scores[name, "gold"] for name in ("one", "two")]
    found = zerogen["difference"]
    assert found["value"] == pytest.approx(np.mean([each.mean() for each in apart]), abs=1e-6)
    assert found["ci95"] == pytest.approx(interval(apart), abs=1e-5)
    assert found["other_data_sets_ci95"] is None
    means = [each.mean() for each in apart]
    assert (found["ahead_on"], found["behind_on"]) == (sum(m > 0 for m in means), sum(m < 0 for m in means))
    ranks = [1 + (mean < 0) + 0.5 * (mean == 0) for mean in means]
    assert zerogen["rank"] == pytest.approx(np.mean(ranks))
    assert zerogen["best_on"] == sum(mean >= 0 for mean in means)


def interval(groups: list[Any]) -> list[float]:
    """Recompute the interval of an average from seeds x rows of differences, as docs/sweeps.md describes it."""
    from scipy.stats import t

    seeds, rows, floor = [], [], []
    for values in groups:
        s, n = values.shape
        rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
        noise = (rest**2).sum() / ((s - 1) * (n - 1))
        floor.append(values.mean(axis=0).var(ddof=1) / n)
        seeds.append(values.mean(axis=1).var(ddof=1) / s)
        rows.append(max(0.0, floor[-1] - noise / (s * n)))
    count = len(groups)
    by_seed, by_row, least = (sum(each) / count**2 for each in (seeds, rows, floor))
    freedom = sum(seeds) ** 2 / sum(v**2 / (len(groups[0]) - 1) for v in seeds) if sum(seeds) else 1
    half = 1.959964 * least**0.5
    if by_seed + by_row:
        half = max(half, (by_seed * t.ppf(0.975, freedom) + by_row * 1.959964) / (by_seed + by_row) ** 0.5)
    half += sum(3 / values.shape[1] for values in groups if not values.any()) / count
    mean = sum(values.mean() for values in groups) / count
    return [max(-1.0, mean - half), min(1.0, mean + half)]


def test_the_page_and_the_table_say_what_the_numbers_say(finished: Path) -> None:
    folder, results = finished / "runs" / "small", stored(finished)
    page, text = (folder / "sweep.html").read_text(), (folder / "sweep.md").read_text()
    assert render_sweep(results) == page
    (average,) = results["averages"]
    value = average["systems"][1]["score"]["value"]
    assert f"{100 * value:.1f}" in page
    assert f"| zerogen | 2 | {100 * value:.1f} [" in text
    assert "about these 2 data sets" in text
    assert "about these 2 data sets" in page
    assert "<script" not in page


def test_status_and_other_commands_know_a_sweep(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished / "runs" / "small"
    outcome = stepsynth(capsys, "status", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert "small: averages" in outcome.out
    assert json.loads(stepsynth(capsys, "status", folder, "--json").out) == stored(finished)
    outcome = stepsynth(capsys, "verify", folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert (
        outcome.err
        == f"stepsynth: {str(folder)!r} is a sweep; give one of its runs, e.g. {str(folder / 'compare-one' / 'gold-0')!r}.\n"
    )
    names = {entry["name"] for entry in ss.runs(folder)}
    assert names == {f"compare-{name}/{cell}" for name in ("one", "two") for cell in CELLS}


@pytest.mark.parametrize("damage", ['"averages": [{}]', '"comparisons": [5]', '"comparisons": {"x": 1}'])
def test_status_of_a_damaged_sweep_is_one_line(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole: dict[str, Any] = {"sweep": "s", "comparisons": [], "averages": [], "warnings": [], "reference": None, "settings": []}
    (tmp_path / "sweep.json").write_text(json.dumps({**whole, **json.loads(f"{{{damage}}}")}))
    outcome = stepsynth(capsys, "status", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"stepsynth: {str(tmp_path / 'sweep.json')!r} cannot be read: ")
    assert outcome.err.count("\n") == 1


def put_a_file_there(cell: Path) -> None:
    shutil.rmtree(cell.parent)
    cell.parent.write_text("")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda cell: (cell / "journal.db").write_text("garbage " * 1000), "is not a readable journal"),
        (lambda cell: (cell / "config.json").unlink(), "is not empty and not a run"),
        (put_a_file_there, "is a file"),
    ],
    ids=["journal", "config", "file"],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry"])
def test_cells_that_cannot_be_read_are_told_before_anything_is_written(
    again: Path,
    damage: Callable[[Path], object],
    said: str,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    nothing_is_made: None,
) -> None:
    damage(next(again.glob("**/compare-one/*-0")))
    before = {path: path.read_bytes() for path in again.glob("**/sweep.*")}
    outcome = stepsynth(capsys, "sweep", again / "sweep.yaml", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert {path: path.read_bytes() for path in again.glob("**/sweep.*")} == before


@pytest.mark.parametrize(("options", "said"), [(["--on", "rya"], "workers cannot run on 'rya'"), (["--on", "ray"], "Ray is not")])
def test_workers_that_cannot_be_had_are_refused_before_anything_is_written(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = build_sweep(tmp_path)
    outcome = stepsynth(capsys, "sweep", file, *options)
    assert outcome.code == 2
    assert outcome.err.startswith(f"stepsynth: {said}")
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_is_there_and_writes_nothing(
    again: Path, capsys: pytest.CaptureFixture[str], nothing_is_made: None
) -> None:
    write_sweep(again, seeds=3)
    before = files_of(again)
    outcome = stepsynth(capsys, "sweep", again / "sweep.yaml", "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    planned = json.loads(outcome.out)
    assert (planned["cells"], planned["finished"], planned["begun"]) == (12, 8, True)
    # Six rows, each asked for at most six times, of one seed of zerogen on each data set.
    assert [entry["at_most"]["requests"] for entry in planned["comparisons"]] == [36, 36]
    assert planned["at_most"] == {"requests": 72, "tokens": planned["at_most"]["tokens"], "usd": 0.0}
    assert {path: data for path, data in files_of(again).items() if not path.name.endswith(("-wal", "-shm"))} == before


# resuming -----------------------------------------------------------------------------------


def test_a_finished_sweep_asks_nothing_and_trains_nothing_again(again: Path, nothing_is_made: None) -> None:
    before = stored(again)
    assert quietly(again / "sweep.yaml") == 0
    assert stored(again) == before


def test_a_data_set_a_method_and_a_seed_can_be_added(again: Path) -> None:
    data_set(again / "three")
    kept = {path: path.stat().st_mtime_ns for path in (again / "runs").rglob("models/*/done.json")}
    sets = {"one": "one/config.yaml", "two": {"config": "two/config.yaml", "set": {"data.validation.sample": 15}}}
    write_sweep(again, data_sets={**sets, "three": "three/config.yaml"}, methods=["gold", "zerogen", "seed-only"])
    assert quietly(again / "sweep.yaml") == 0
    results = stored(again)
    assert [entry["data_set"] for entry in results["comparisons"]] == ["one", "two", "three"]
    assert [entry["name"] for entry in results["averages"][0]["systems"]] == ["gold", "zerogen", "seed-only"]
    assert {entry["data_sets"] for entry in results["averages"][0]["systems"]} == {3}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_changed_setting_is_refused_before_anything_is_spent(
    again: Path, capsys: pytest.CaptureFixture[str], nothing_is_made: None
) -> None:
    before = files_of(again)
    outcome = stepsynth(capsys, "sweep", again / "sweep.yaml", "--set", "method.seed_rows=9")
    assert (outcome.code, outcome.out) == (2, "")
    lines = [line for line in outcome.err.splitlines() if line.startswith("stepsynth: ")]
    assert len(lines) == 2
    assert all("was made with another config: method.seed_rows" in line for line in lines)
    after = files_of(again)
    assert {path for path in after if before.get(path) != after[path] and not path.name.endswith(("-wal", "-shm"))} == set()


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    places = int((finished / "places").read_text())
    for name in ("one", "two", "sweep.yaml"):
        source = finished / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [sys.executable, "-m", "stepsynth", "sweep", str(tmp_path / "sweep.yaml"), "-q"]
    environment = {**os.environ, "STEPSYNTH_FAILPOINT": str(round(0.7 * places)), **ONE_THREAD}
    killed = subprocess.run(command, env=environment, check=False, timeout=600, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    found = stored(tmp_path)
    assert {entry["state"] for entry in found["comparisons"]} == {"finished", "unfinished"}
    assert quietly(tmp_path / "sweep.yaml") == 0
    expected, now = timeless(stored(finished)), timeless(stored(tmp_path))
    # The student lies in another folder.
    for entry in (*expected["comparisons"], *now["comparisons"]):
        del entry["student"]
    assert now == expected


@pytest.mark.slow
def test_students_trained_at_once_give_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "sweep.yaml"):
        source = finished / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [sys.executable, "-m", "stepsynth", "sweep", str(tmp_path / "sweep.yaml"), "-q", "--jobs", "2"]
    done = subprocess.run(command, check=False, timeout=600, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 0, done.stderr
    expected, now = timeless(stored(finished)), timeless(stored(tmp_path))
    for entry in (*expected["comparisons"], *now["comparisons"]):
        del entry["student"]
    assert now == expected


def test_caps_of_a_whole_sweep_do_not_go_with_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = build_sweep(tmp_path, budget={"requests": 50})
    for options in (["--jobs", "2"], ["--on", "processes"]):
        outcome = stepsynth(capsys, "sweep", file, *options)
        assert outcome.code == 2
        assert outcome.err.startswith("stepsynth: the budget of a whole sweep holds only while its cells run one after another.")
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = build_sweep(tmp_path, seeds=1)
    from stepsynth.training.runner import StudentRunner

    trained: list[int] = []
    train = StudentRunner.train

    def interrupted(self: Any, *given: Any, **named: Any) -> Any:
        trained.append(1)
        if len(trained) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return train(self, *given, **named)

    monkeypatch.setattr(StudentRunner, "train", interrupted)
    outcome = stepsynth(capsys, "sweep", file, "-q")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "stepsynth: stopped; nothing is lost. Run it again to resume.\n"
    assert [entry["state"] for entry in stored(tmp_path)["comparisons"]] == ["finished", "unfinished"]
    monkeypatch.undo()
    monkeypatch.setenv("STEPSYNTH_ANSWERS", "answers.db")
    assert stepsynth(capsys, "sweep", file, "-q").code == 0
    assert [entry["state"] for entry in stored(tmp_path)["comparisons"]] == ["finished", "finished"]


# one that fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [RunError("the teacher fell silent.", hint="Wait."), OSError(28, "No space left on device")])
def test_one_that_fails_does_not_lose_the_others(
    tmp_path: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = build_sweep(tmp_path, seeds=1)
    execute: Any = vars(running)["execute"]

    def failing(config: Any, folder: Path, **named: Any) -> Any:
        if folder.parent.name == "compare-one" and folder.name == "zerogen-0":
            raise failure
        return execute(config, folder, **named)

    monkeypatch.setattr(running, "execute", failing)
    outcome = stepsynth(capsys, "sweep", file, "-q")
    said = " ".join(str(failure).split())
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        f"stepsynth: one: {said}",
        "stepsynth: 1 of 2 comparisons failed. The same command goes on with what is missing.",
    ]
    results = stored(tmp_path)
    assert [(entry["state"], entry["problem"]) for entry in results["comparisons"]] == [("failed", said), ("finished", None)]
    assert results["averages"][0]["data_sets"] == ["two"]
    assert "1 of 2 comparisons are not finished" in results["warnings"][0]
    monkeypatch.undo()
    monkeypatch.setenv("STEPSYNTH_ANSWERS", "answers.db")
    assert stepsynth(capsys, "sweep", file, "-q").code == 0
    assert results["comparisons"][1] == stored(tmp_path)["comparisons"][1]


def test_a_defect_shows_after_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = build_sweep(tmp_path, seeds=1, methods=["gold"])
    execute: Any = vars(running)["execute"]

    def failing(config: Any, folder: Path, **named: Any) -> Any:
        if folder.parent.name == "compare-one":
            raise ZeroDivisionError("a defect")
        return execute(config, folder, **named)

    monkeypatch.setattr(running, "execute", failing)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        quietly(file)
    assert [entry["state"] for entry in stored(tmp_path)["comparisons"]] == ["failed", "finished"]


def test_a_cap_holds_for_the_whole_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven requests are not enough, forty are: what the cells sent is never more than the cap."""
    file = build_sweep(tmp_path, seeds=1, methods=["zerogen"], reference="zerogen", budget={"requests": 7})
    outcome = stepsynth(capsys, "sweep", file, "-q", "--set", "cache=null")
    assert outcome.code == 1, outcome.err
    assert "two: the budget of the whole sweep is used up: 7 of 7 requests. Everything so far is kept" in outcome.err
    sent = 0
    for path in (tmp_path / "runs").rglob("journal.db"):
        with closing(Journal(path)) as journal:
            sent += journal.ledger.spent.sends
    assert sent == 7
    write_sweep(tmp_path, seeds=1, methods=["zerogen"], reference="zerogen", budget={"requests": 40})
    assert stepsynth(capsys, "sweep", file, "-q", "--set", "cache=null").code == 0


# bad files ----------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"data_set": {}}, "unknown key 'data_set' in the sweep. Did you mean 'data_sets'?"),
    "a folder of nobody": ({"out": "~nobody-of-this-name/x"}, "out is '~nobody-of-this-name/x': there is no such user."),
    "a budget that is no section": ({"budget": 5}, "budget is 5, not a section of caps. Example: {usd: 5}"),
    "a change without a key": ({"settings": {"s": {"": 1}}}, "settings.s has the key '', which is not a text."),
    "no data sets": ({"data_sets": None}, "data_sets is missing."),
    "data sets in a list": ({"data_sets": ["one/config.yaml"]}, "data_sets is ['one/config.yaml'], not a mapping of names."),
    "a data set without a config": ({"data_sets": {"one": 3}}, "data_sets.one is 3, not a config file."),
    "an unknown key of a data set": (
        {"data_sets": {"one": {"config": "one/config.yaml", "sets": {}}}},
        "unknown key 'sets' in data_sets.one. Did you mean 'set'?",
    ),
    "a missing file": ({"data_sets": {"one": "ghost.yaml"}}, "one: no config at "),
    "a name that is no text": (
        {"data_sets": {1: "one/config.yaml"}},
        "the name 1 of a data set is not a text. Put it in quotes.",
    ),
    "a name that leads away": (
        {"data_sets": {"../x": "one/config.yaml"}},
        "the name '../x' of a data set cannot be part of a folder",
    ),
    "two names of one folder": (
        {"data_sets": {"one": "one/config.yaml", "ONE": "one/config.yaml"}},
        "'one' and 'ONE' would have one folder. Rename one of them.",
    ),
    "settings that meet names": (
        {"data_sets": {"a": "one/config.yaml", "a-b": "one/config.yaml"}, "settings": {"b-c": {}, "c": {}}},
        "would have one folder",
    ),
    "no methods": ({"methods": None}, "methods is missing."),
    "an unknown method": (
        {"methods": ["gold", "zerogne"]},
        "unknown method 'zerogne' among the methods. Did you mean 'zerogen'?",
    ),
    "a method with a space": ({"methods": [{"s3": "method.rounds=1"}]}, "among the methods is not a text."),
    "a method with a typo in a key": ({"methods": ["s3:method.ruonds=1"]}, "Did you mean 'rounds'?"),
    "a method twice": ({"methods": ["gold", "gold"]}, "'gold' is among the methods twice"),
    "a wrong number of seeds": ({"seeds": 0}, "seeds is 0. Give a number of seeds, from 1 to 1000."),
    "seeds in a list": ({"seeds": [1, 2]}, "seeds is [1, 2]. Give a number of seeds"),
    "yes for seeds": ({"seeds": True}, "seeds is True. Give a number of seeds"),
    "a wrong reference": ({"reference": "s3"}, "the reference 's3' is not among the methods."),
    "a wrong match": ({"match": "row"}, "match is 'row'. Did you mean 'rows'?"),
    "too few max_seeds": ({"max_seeds": 1}, "max_seeds is 1, less than the 2 seeds"),
    "settings in a list": ({"settings": ["x"]}, "settings is ['x'], not a mapping of names."),
    "a setting with a typo": (
        {"settings": {"x": {"student.modle": "y"}}},
        "unknown key 'modle' in student. Did you mean 'model'?",
    ),
    "a whole section": ({"settings": {"x": {"student": {"model": "y"}}}}, "Write the keys that change, with dots: student.model"),
    "a missing model": ({"settings": {"x": {"student.model": "ghost"}}}, "'ghost'"),
    "a missing data file": (
        {"data_sets": {"one": {"config": "one/config.yaml", "set": {"data.test.path": "ghost.csv"}}}},
        "ghost.csv' does not exist. Did you mean 'test.csv'?",
    ),
    "no test set": ({"settings": {"x": {"data.test": None}}}, "a comparison needs data.test."),
    "an unknown cap": ({"budget": {"dollars": 5}}, "unknown key 'dollars' in budget."),
    "a wrong cap": ({"budget": {"requests": 0}}, "budget.requests must be 1 or more, not 0."),
    "a name that is empty": ({"name": ""}, "name is ''. Give a short text."),
    "a secret": ({"settings": {"x": {"teacher.options.api_key": "sk-" + "a1" * 12}}}, "looks like a key or a password"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets, only read."""
    folder = tmp_path_factory.mktemp("bad")
    build_sweep(folder)
    return folder


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sweep_is_one_line_and_writes_nothing(case: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, said = BAD[case]
    file = write_sweep(place, **changes)
    outcome = stepsynth(capsys, "sweep", file)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    lines = [line for line in outcome.err.splitlines() if line.startswith("stepsynth: ")]
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty."),
        ("data_sets: [\n", "is not valid YAML: line"),
        ("- a\n", "holds list, not a mapping"),
        ("data_sets:\n  one: a\n  one: b\n", "the key 'one' is repeated"),
        ("task: {name: x}\ndata: {}\n", "is the config of one run, not a sweep."),
        (
            "data_sets: {one: {task: {name: x, instruction: y, labels: {01: a, b: c}}, data: {}}}\nmethods: gold\n",
            "YAML reads 01 as 1",
        ),
        ("data_sets: {one: {config: c.yaml, set: {task.labels: [01, b]}}}\nmethods: gold\n", "YAML reads 01 as 1"),
    ],
)
def test_a_file_that_is_no_sweep_is_one_line(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    outcome = stepsynth(capsys, "sweep", tmp_path / "sweep.yaml")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert said in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("command", ["run", "compare", "plan"])
def test_a_sweep_given_to_another_command_is_named_as_one(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, command, file := write_sweep(place))
    said = f"stepsynth: {str(file)!r} is a sweep, not the config of one run. Start it with: stepsynth sweep {file}\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", said)


def test_all_problems_are_told_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_sweep(place, seeds=0, data_sets={"one": "ghost.yaml", "two": 5}, methods="gold", refrence="gold")
    outcome = stepsynth(capsys, "sweep", file)
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 4
    for line, said in zip(
        lines, ("unknown key 'refrence'", "seeds is 0", "data_sets.two is 5", "one: no config at"), strict=True
    ):
        assert line.startswith(f"stepsynth: {said}")


VALID: dict[str, Any] = {
    "name": "small",
    "data_sets": {"one": "one/config.yaml", "two": {"config": "two/config.yaml", "set": {"data.validation.sample": 15}}},
    "methods": ["gold", "s3:method.rounds=1"],
    "seeds": 2,
    "settings": {"few": {"method.seed_rows": 4}, "plain": None},
    "reference": "gold",
    "match": "rows",
    "max_seeds": 3,
    "budget": {"requests": 5},
    "out": "out",
}
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**12)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["~nobody/x", ".", "/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where every value of a document stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for key, each in inner for found in places(each, (*path, key)))]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(places(VALID)), junk=JUNK)
def test_any_value_anywhere_is_read_or_refused(where: tuple[Any, ...], junk: Any, place: Path) -> None:
    """Any other error than a list of problems is a defect."""
    values = json.loads(json.dumps(VALID))
    node = values
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = junk
    file = place / "any.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    problems: tuple[str, ...] = ("",)
    try:
        read_sweep(file)
    except SweepProblems as error:
        problems = error.problems
    assert problems
    assert not any("\n" in line for line in problems)


def begun(folder: Path) -> bool:
    folder.mkdir(parents=True)
    return True


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.write_text("x"), "is a file, not a sweep."),
        (lambda folder: (begun(folder), (folder / "notes.txt").write_text("x")), "is not empty and not a sweep."),
        (lambda folder: (begun(folder), (folder / "journal.db").write_text("x")), "is a run, not a sweep."),
        (lambda folder: (begun(folder), (folder / "results.json").write_text("{}")), "is a comparison, not a sweep."),
        (
            lambda folder: (
                begun(folder),
                (folder / "sweep.json").write_text('{"sweep": "other", "comparisons": [], "averages": [], "warnings": []}'),
            ),
            "holds the sweep 'other', not 'small'.",
        ),
    ],
)
def test_a_folder_with_something_else_is_left_alone(
    make: Callable[[Path], object], said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "x")
    before = files_of(tmp_path)
    outcome = stepsynth(capsys, "sweep", write_sweep(place), "--out", tmp_path / "x")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert said in outcome.err
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("lost", ["its table", "its table's name"])
def test_a_sweep_that_has_lost_its_table_goes_on(lost: str, again: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = again / "runs" / "small" / "sweep.json"
    before = json.loads(table.read_text())
    if lost == "its table":
        table.unlink()
    else:
        table.write_text(json.dumps({**before, "sweep": 7}))
    outcome = stepsynth(capsys, "sweep", again / "sweep.yaml", "-q")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(table.read_text()) == before


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no score": lambda found: found["systems"][0].update(score=None),
    "a score of words": lambda found: found["systems"][0].update(score={"value": "x", "ci95": [0, 1]}),
    "a difference that is none": lambda found: found["systems"][1].update(difference=3),
    "warnings that are none": lambda found: found.update(warnings=3),
    "a warning that is no text": lambda found: found.update(warnings=[3]),
    "rows that are none": lambda found: found["systems"][0].update(rows="many"),
    "no list of seeds": lambda found: found["systems"][0].update(per_seed=None),
    "test rows that are none": lambda found: found.update(test_rows=None),
    "a metric that is none": lambda found: found.update(metric=["accuracy"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_of_a_comparison_are_written_anew(damage: str, again: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells hold everything."""
    folder = again / "runs" / "small"
    file = folder / "compare-one" / "results.json"
    before, table = json.loads(file.read_text()), json.loads((folder / "sweep.json").read_text())
    damaged = json.loads(file.read_text())
    DAMAGE[damage](damaged)
    file.write_text(json.dumps(damaged))
    outcome = stepsynth(capsys, "sweep", again / "sweep.yaml", "-q")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads((folder / "sweep.json").read_text())["comparisons"] == table["comparisons"]
    assert json.loads(file.read_text())["systems"] == before["systems"]


def test_two_processes_do_not_sweep_in_one_folder(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "x"):
        outcome = stepsynth(capsys, "sweep", write_sweep(place), "-q", "--out", tmp_path / "x")
    said = f"stepsynth: another process works on the sweep at {str(tmp_path / 'x')!r}. Wait for it to end.\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", said)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["sweep.lock"]


# the file -----------------------------------------------------------------------------------


def test_settings_and_changes_reach_the_configs(place: Path) -> None:
    file = write_sweep(place, settings={"few": {"method.seed_rows": 4}, "plain": None}, out="elsewhere")
    spec = read_sweep(file, overrides=["student.epochs=7"])
    assert [(part.title, part.config.method.seed_rows) for part in spec.parts] == [
        ("one, few", 4),
        ("one, plain", 6),
        ("two, few", 4),
        ("two, plain", 6),
    ]
    assert {part.config.student.epochs for part in spec.parts} == {7}
    assert [part.config.data.validation.sample for part in spec.parts] == [None, None, 15, 15]
    assert (spec.folder, next(part.folder for part in spec.parts)) == (place / "elsewhere", "compare-one-few")


def test_a_config_may_stand_in_the_file(place: Path) -> None:
    values = yaml.safe_load((place / "one" / "config.yaml").read_text())
    values["data"] = {"validation": {"path": "one/validation.csv"}, "test": {"path": "one/test.csv"}}
    for entry in (values, {"config": values, "set": {"seed": 5}}):
        (part,) = read_sweep(write_sweep(place, data_sets={"mine": entry})).parts
        assert part.config.data.validation.path == place / "one" / "validation.csv"
    assert part.config.seed == 5


# from Python --------------------------------------------------------------------------------


@pytest.fixture
def in_memory(place: Path) -> dict[str, Any]:
    def rows(file: Path) -> list[dict[str, str]]:
        return list(csv.DictReader(file.read_text().splitlines()))

    task = ss.Classification("mem", "Decide.", {"kalm": "calm", "rund": "round", "spitz": "sharp"})
    return {
        "task": task,
        "validation": rows(place / "one" / "validation.csv"),
        "test": rows(place / "one" / "test.csv"),
        "teacher": ss.Teacher(backend="fake"),
        "student": ss.Student(str(place / "one" / "student"), head="probe", epochs=1),
    }


def test_a_sweep_from_python(place: Path, in_memory: dict[str, Any], tmp_path: Path) -> None:
    sets = {"one": place / "one" / "config.yaml", "mem": in_memory}
    changes = {"four": {"method.seed_rows": 4}}
    arguments: dict[str, Any] = {"seeds": 1, "settings": changes, "out": tmp_path / "out", "progress": False}
    planned = ss.sweep(sets, ["gold", ss.ZeroGen()], dry_run=True, **arguments)
    assert isinstance(planned, dict)
    assert (planned["cells"], planned["finished"]) == (4, 0)
    assert not (tmp_path / "out").exists()
    found = ss.sweep(sets, ["gold", ss.ZeroGen()], **arguments)
    assert isinstance(found, ss.Sweep)
    assert found.finished
    table = found.table()
    assert list(table.index) == [
        (data_set, "four", method) for data_set in ("one", "mem", "average") for method in ("gold", "zerogen")
    ]
    assert table.loc[("average", "four", "zerogen"), "score"] == pytest.approx(
        (table.loc[("one", "four", "zerogen"), "score"] + table.loc[("mem", "four", "zerogen"), "score"]) / 2, abs=1e-5
    )
    assert list(found.comparisons) == ["one, four", "mem, four"]
    assert "zerogen" in found._repr_html_()
    assert len(found.cells()) == 4
    assert ss.Sweep.load(tmp_path / "out").results == found.results == json.loads(json.dumps(found.results))
    assert found.report().is_file()
    # While no comparison has ended, the table is empty.
    (tmp_path / "begun").mkdir()
    none = {"state": "planned", "systems": [], "cells": []}
    begun = [{**entry, **none} for entry in found.results["comparisons"]]
    (tmp_path / "begun" / "sweep.json").write_text(json.dumps({**found.results, "comparisons": begun, "averages": []}))
    empty = ss.Sweep.load(tmp_path / "begun").table()
    assert (len(empty), list(empty.columns), empty.index.names) == (0, list(table.columns), table.index.names)


class _Silent(Tracker):
    """A tracker that keeps nothing."""

    name = "silent"

    def start(self, run: TrackedRun) -> str:
        return run.name

    def log(self, number: int, metrics: Mapping[str, float]) -> None: ...
    def summarise(self, summary: TrackedSummary) -> None: ...
    def close(self, state: Literal["finished", "stopped", "failed"]) -> None: ...


def test_a_wrong_call_is_one_line(place: Path, in_memory: dict[str, Any], tmp_path: Path) -> None:
    for data_sets, said in (
        ({}, "data_sets is {}, not a dict of names"),
        ({"x": 5}, "x: a data set is 5, a int"),
        ({"x": {**in_memory, "tset": 1}}, "a data set has no argument 'tset'"),
        ({"x": {**in_memory, "test": None}}, "a comparison needs data.test"),
        ({"x": place / "ghost.yaml", "y": place / "ghost2.yaml"}, "2 problems: x: no config at"),
    ):
        with pytest.raises(ss.ConfigError) as caught:
            ss.sweep(data_sets, ["gold"], out=tmp_path / "out", progress=False)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ss.ConfigError, match="a sweep takes names only"):
        ss.sweep({"x": {**in_memory, "tracking": _Silent()}}, ["gold"], out=tmp_path / "out", progress=False, dry_run=True)
    with pytest.raises(ss.ConfigError, match="sweep has no argument 'methdos'"):
        ss.sweep({"x": place / "one" / "config.yaml"}, methdos=["gold"])  # type: ignore[call-overload]
    with pytest.raises(ss.RunError, match="there is no sweep at"):
        ss.Sweep.load(tmp_path)
