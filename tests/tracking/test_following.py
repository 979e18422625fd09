"""What a run owes its trackers, and what it does not: same bytes, no stop, no wait without end, nothing printed."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

import stepsynth as ss
from command import stepsynth
from forked import forked
from stepsynth.config import load_config, parse_stored
from stepsynth.errors import ConfigError, Interrupted
from stepsynth.execution import execute, execute_comparison
from stepsynth.registry import TRACKERS
from stepsynth.report.verify import check_run
from stepsynth.run import RunDirectory
from stepsynth.run.outputs import refuse_own_file
from stepsynth.runtime.progress import SilentProgress
from stepsynth.runtime.shutdown import stoppable
from stepsynth.testing import TrackerContract
from stepsynth.tracking import TrackedRun, TrackedSummary, Tracker, make_trackers, split_tracking
from world import World


class Lines(Tracker):
    """A user's own tracker: a line per call, in a file beside the run."""

    name = "lines"

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def _write(self, *what: Any) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def start(self, run: TrackedRun) -> str:
        self._write("start", run.name, run.group, run.id, run.params.get("method.rounds"))
        return run.id or f"{run.group}/{run.name}"

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        self._write("log", number, dict(metrics))

    def summarise(self, summary: TrackedSummary) -> None:
        self._write("summary", dict(summary.metrics), sorted(summary.files), list(summary.table))

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        self._write("close", state)

    def calls(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]


class TestLines(TrackerContract):
    def make(self, folder: Path) -> Tracker:
        return Lines(str(folder / "lines"))


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def digests(folder: Path) -> dict[str, str]:
    # The page also has the seconds that students took.
    names = ("dataset.jsonl", "results.json", "models/round-1/done.json")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without a tracker."""
    folder = tmp_path_factory.mktemp("plain") / "shop"
    execute(world.config(), folder)
    assert not (folder / "tracking.json").exists()
    return folder


def test_a_tracked_run_has_the_same_bytes_and_is_whole(world: World, plain: Path, tmp_path: Path) -> None:
    folder, own = tmp_path / "shop", Lines(str(tmp_path / "lines"))
    execute(world.config(), folder, trackers=[own])
    assert digests(folder) == digests(plain)
    assert not check_run(folder).findings
    names = [(call[0], call[1]) for call in own.calls()]
    rounds = [("log", 0), ("log", 1)]
    assert names == [("start", "shop"), *rounds, *rounds, ("summary", own.calls()[5][1]), ("close", "finished")]
    assert own.calls()[5][2] == ["config.json", "report.html", "results.json"]
    with pytest.raises(ConfigError, match="a file of a run"):
        refuse_own_file(folder / "tracking.json")


def test_figures_of_a_round(world: World, tmp_path: Path) -> None:
    """Rows add up to the results; what a round cost is the same whenever it is asked for."""
    folder, own, late = tmp_path / "shop", Lines(str(tmp_path / "lines")), Lines(str(tmp_path / "late"))
    results = execute(world.config(), folder, trackers=[own])
    (method,) = results["methods"].values()
    found = {call[1]: call[2] for call in own.calls() if call[0] == "log" and "rows/total" in call[2]}
    assert found[1]["rows/total"] == method["rounds"][1]["rows"]
    assert [found[number]["rows/accepted"] for number in (0, 1)] == [entry["new_rows"] for entry in method["rounds"]]
    dropped = [metrics for metrics in found.values() for name in metrics if name.startswith("rows/dropped/")]
    total = sum(value for metrics in found.values() for name, value in metrics.items() if name.startswith("rows/dropped/"))
    assert sum(method["dropped"].values()) == total == sum(metrics["rows/dropped"] for metrics in found.values())
    assert dropped or not total
    assert found[0]["requests/total"] + found[1]["requests/round"] == found[1]["requests/total"] == method["requests"]
    # Added to a finished run, a tracker gets the same.
    (folder / "tracking.json").unlink()
    execute(world.config(), folder, trackers=[late])
    assert [call for call in late.calls() if call[0] == "log"] == [
        call for number in (0, 1) for call in own.calls() if call[:2] == ["log", number]
    ]


def test_cross_fitting_has_a_score_per_fold_and_names_its_students(world: World, tmp_path: Path) -> None:
    own = Lines(str(tmp_path / "lines"))
    config = world.config("method.name=crossfit", "method.folds=2", "method.rounds=0")
    results = execute(config, tmp_path / "shop", trackers=[own])
    (first, *others) = [call for call in own.calls() if call[0] == "log"]
    assert first[1] == 0
    folds = [first[2][f"crossfit/fold_{fold}"] for fold in (1, 2)]
    # The folds have 18 rows each.
    assert sum(folds) / 2 == pytest.approx(first[2]["crossfit/accuracy"])
    assert not [call for call in others if call[1]]
    final = next(call[1] for call in own.calls() if call[0] == "summary")
    (method,) = results["methods"].values()
    assert final["students/labels/test/accuracy"] is not None
    assert final["final/test/accuracy"] == method["test"]["value"]


def test_a_tracker_is_no_part_of_a_run(world: World, plain: Path, tmp_path: Path) -> None:
    """Same digest, and a run goes on with another tracker, its options changed, or none; old configs read as before."""
    none, one = world.config(), world.config("tracking=tensorboard")
    two = world.config("tracking=[{name: tensorboard, folder: board}, wandb]")
    assert none.result_digest() == one.result_digest() == two.result_digest()
    assert "tracking" not in none.resolved()
    assert two.resolved()["tracking"] == [{"name": "tensorboard", "folder": "board"}, "wandb"]
    assert parse_stored(two.resolved()) == two
    for config in (one, two, none):
        RunDirectory.check(plain, config)


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard", "trackio"])
def test_a_missing_library_is_one_line_before_anything_is_spent(
    name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stepsynth.tracking.making.find_spec", lambda module: None)
    found = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "--track", name)
    assert found.code == 2
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert f"needs the package {name}. Install it with: pip install 'stepsynth[{name}]'" in found.err
    assert not (tmp_path / "run").exists()


def test_a_library_that_cannot_be_imported_is_told_before_anything_is_spent(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    lines = "import os\nraise ImportError('half\\na library, ' + os.environ['WANDB_ERROR_REPORTING'])"
    (tmp_path / "broken" / "wandb.py").write_text(lines, encoding="utf-8")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    found = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "--track", "wandb")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert "needs the package wandb, which cannot be imported: ImportError: half a library, false. Install it again" in found.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mlflw", "tracking is 'mlflw'. Did you mean 'mlflow'?"),
        ("{name: wandb, projekt: x}", "'wandb' has no option 'projekt'. Did you mean 'project'?"),
        ("{name: wandb, mode: on}", "the mode of 'wandb' is True"),
        ("{project: x}", "tracking.0: a tracker needs a name"),
        ("3", "tracking"),
        ("{name: mlflow, uri: 'http://me:secret@server'}", "what looks like a key or a password"),
    ],
)
def test_a_wrong_choice_is_one_line(
    value: str, said: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "--set", f"tracking={value}")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert said in found.err
    assert not (tmp_path / "run").exists()


class Failing(Lines):
    """Raises in one of its calls."""

    def __init__(self, file: str, call: str, error: BaseException) -> None:
        super().__init__(file)
        self.call, self.error = call, error

    def _write(self, *what: Any) -> None:
        super()._write(*what)
        if what[0] == self.call:
            raise self.error


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("start", OSError(28, "No space left on device")),
        ("log", ConnectionError("the server\nis gone")),
        ("summary", SystemExit(3)),
        ("close", KeyboardInterrupt()),
    ],
)
def test_a_tracker_that_fails_is_one_line_and_the_run_goes_on(
    call: str, error: BaseException, world: World, plain: Path, tmp_path: Path
) -> None:
    own, other, notes = Failing(str(tmp_path / "bad"), call, error), Lines(str(tmp_path / "good")), Notes()
    execute(world.config(), tmp_path / "shop", progress=notes, trackers=[own, other])
    (line,) = [line for line in notes.notes if "track" in line]
    assert line.startswith("'lines' no longer tracks this run, which goes on: ")
    assert "\n" not in line
    assert own.calls()[-1][0] == call
    assert other.calls()[-1] == ["close", "finished"]
    assert digests(tmp_path / "shop") == digests(plain)


class Hanging(Lines):
    """Does not return from ``log``."""

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        threading.Event().wait(60)


def test_a_tracker_that_hangs_is_left_behind(world: World, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.tracking.guard.LIMIT_S", 0.2)
    notes, out = Notes(), sys.stdout
    execute(world.config(), tmp_path / "shop", progress=notes, trackers=[Hanging(str(tmp_path / "lines"))])
    assert "'lines' no longer tracks this run, which goes on: it did not answer within 0.2 s." in notes.notes
    assert digests(tmp_path / "shop") == digests(plain)
    assert sys.stdout is out


def test_a_stop_does_not_wait_for_a_tracker_that_hangs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.tracking.guard._STOPPING_S", 0.2)
    own = Hanging(str(tmp_path / "lines"))
    with stoppable() as stop:
        threading.Timer(0, lambda: (_wait_for(own.file), stop.set())).start()  # type: ignore[func-returns-value]
        started = time.monotonic()
        with pytest.raises(Interrupted):
            execute(world.config(), tmp_path / "shop", trackers=[own])
    assert time.monotonic() - started < 30


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    time.sleep(0.5)


def test_an_unreadable_note_of_earlier_attempts_is_as_good_as_none(world: World, plain: Path, tmp_path: Path) -> None:
    own, notes = Lines(str(tmp_path / "lines")), Notes()
    file = plain / "tracking.json"
    for damaged in ("{", '{"trackers": [{"tracker": "lines", "rounds": 3}]}', '{"trackers": 1}'):
        file.write_text(damaged, encoding="utf-8")
        execute(world.config(), plain, progress=notes, trackers=[own])
    file.unlink()
    assert [call[1] for call in own.calls()].count("finished") >= 2


@pytest.mark.slow
def test_a_run_killed_at_any_note_of_a_round_tells_each_round_once_or_knows_that_it_did(world: World, tmp_path: Path) -> None:
    """TensorBoard's files can be asked: no figure is in them twice, wherever the process was killed."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run(place: str) -> None:
        execute(world.config("tracking=tensorboard"), tmp_path / place / "shop")

    _, passed = forked(lambda: run("calm"), -1)
    points = [point for point, name in enumerate(passed, 1) if "tracking.json" in name]
    assert len(points) >= 12
    for point in points:
        signal, _ = forked(lambda point=point: run(str(point)), point)  # type: ignore[misc]
        assert signal == 9
        forked(lambda point=point: run(str(point)), -1)  # type: ignore[misc]
        (entry,) = json.loads((tmp_path / str(point) / "shop" / "tracking.json").read_text())["trackers"]
        file = EventAccumulator(str(tmp_path / str(point) / "tensorboard" / entry["id"]))
        file.Reload()
        for tag in ("rows/total", "select/accuracy", "test/accuracy"):
            assert [event.step for event in file.Scalars(tag)] == [0, 1], (passed[point - 1], tag)


def test_each_cell_of_a_comparison_is_a_run_of_the_tracker(world: World, tmp_path: Path) -> None:
    own = Lines(str(tmp_path / "lines"))

    def run(config: Any, path: Path, title: str, students: Path) -> None:
        execute(config, path, students=students, trackers=[own])

    execute_comparison(world.config(), "gold", seeds=2, match="rows", folder=tmp_path / "compare-shop", run=run)
    started = [call[1:3] for call in own.calls() if call[0] == "start"]
    assert started == [["gold-0", "compare-shop"], ["gold-1", "compare-shop"]]


def test_the_argument_of_a_call_takes_names_mappings_and_objects(tmp_path: Path) -> None:
    own = Lines(str(tmp_path / "lines"))
    assert split_tracking(["wandb", {"name": "mlflow", "uri": "x"}, own]) == (["wandb", {"name": "mlflow", "uri": "x"}], [own])
    assert split_tracking(own) == ([], [own])
    assert split_tracking(None) == ([], [])
    for wrong in (Lines, object(), 3, True):
        with pytest.raises(ConfigError, match="tracking has"):
            split_tracking(wrong)


def test_a_call_takes_a_tracker_of_the_program(world: World, tmp_path: Path) -> None:
    own = Lines(str(tmp_path / "lines"))
    load = ss.load_config(world.config_path)
    load.run(tmp_path / "shop", tracking=own, progress=False)
    assert own.calls()[-1] == ["close", "finished"]
    assert "tracking" not in json.loads((tmp_path / "shop" / "config.json").read_text())["config"]


def test_a_trackers_prints_and_warnings_stay_inside(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a registered one; what a program's own object prints is the program's."""

    class Loud(Lines):
        def log(self, number: int, metrics: Mapping[str, float]) -> None:
            import warnings

            sys.stdout.write(f"banner {number}\n")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            super().log(number, metrics)

    module = ModuleType("loud_tracker")
    module.Loud = Loud  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loud_tracker", module)
    monkeypatch.setitem(TRACKERS.built_in, "loud", "loud_tracker:Loud")
    config = load_config(world.config_path, [f"tracking={{name: loud, file: {tmp_path / 'lines'}}}"])
    assert isinstance(make_trackers(config.tracking)[0][1], Loud)
    execute(config, tmp_path / "shop")
    assert capsys.readouterr() == ("", "")
    execute(world.config(), tmp_path / "other", trackers=[Loud(str(tmp_path / "lines"))])
    assert capsys.readouterr().out == "banner 0\nbanner 1\nbanner 0\nbanner 1\n"
