"""The real libraries: a run's scores are in their local stores, once each, whatever stopped the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stepsynth.execution import execute
from stepsynth.journal import Journal
from stepsynth.runtime.progress import SilentProgress
from stepsynth.testing import TrackerContract
from stepsynth.tracking import Tracker, make_trackers
from stepsynth.tracking.figures import round_metrics
from tracking_stores import STORES, entry_of, needed, read_store, steps_of
from world import World


class Notes(SilentProgress):
    """Keeps what a user would see."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def run_with(world: World, folder: Path, entries: list[dict[str, Any]], *overrides: str) -> tuple[dict[str, Any], list[str]]:
    notes = Notes()
    config = world.config(f"tracking={json.dumps(entries)}", *overrides)
    return execute(config, folder, progress=notes), notes.notes


def had(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "tracking.json").read_text(encoding="utf-8"))["trackers"]
    return found


def entries_in(store: Path) -> list[dict[str, Any]]:
    return [entry_of(name, store) for name in STORES if find_spec(name) is not None]


@dataclass(frozen=True)
class Finished:
    """A run that all trackers followed."""

    store: Path
    results: dict[str, Any]
    notes: list[str]
    entries: dict[str, dict[str, Any]]

    def had(self, name: str) -> dict[str, Any]:
        if name not in self.entries:
            needed(name)
        return self.entries[name]


@pytest.fixture(scope="module")
def finished(world: World, new_store: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    store, folder = new_store(), tmp_path_factory.mktemp("finished") / "runs" / "shop"
    results, notes = run_with(world, folder, entries_in(store))
    return Finished(store, results, notes, {entry["tracker"]: entry for entry in had(folder)})


@pytest.mark.parametrize("name", STORES)
def test_each_rounds_scores_and_costs_are_in_the_librarys_own_store(name: str, finished: Finished) -> None:
    found = read_store(name, finished.store, finished.had(name)["id"])
    assert not [line for line in finished.notes if "track" in line]
    (method,) = finished.results["methods"].values()
    assert [line["round"] for line in method["rounds"]] == [0, 1]
    for line in method["rounds"]:
        for split in ("select", "harvest", "test"):
            assert found[line["round"]][f"{split}/accuracy"] == pytest.approx([line[split]["value"]], abs=1e-6)
    assert steps_of(found, "rows/total") == [0, 1]
    assert found[1]["requests/total"] == [pytest.approx(method["requests"])]
    assert found[1]["tokens/total"] == [pytest.approx(sum(method["tokens"].values()))]


def test_mlflow_has_the_settings_the_table_and_the_page(finished: Finished, world: World) -> None:
    own = finished.had("mlflow")["id"]
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{finished.store}/mlflow.db")
    run = client.get_run(own)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "shop"
    assert run.data.params["method.rounds"] == "1"
    assert run.data.params["task.labels.kalm"] == "about kalm"
    assert not [name for name, value in run.data.params.items() if str(world.folder) in value]
    assert 0 <= run.data.metrics["final/test/accuracy_low"] <= run.data.metrics["final/test/accuracy"] <= 1
    files = {file.path for file in client.list_artifacts(own)}
    assert files == {"config.json", "report.html", "results.json", "rounds.csv"}


def test_wandb_keeps_an_offline_run_with_its_summary_and_files(finished: Finished) -> None:
    own = finished.had("wandb")["id"]
    (place,) = (finished.store / "wandb").glob(f"offline-run-*-{own}")
    read_store("wandb", finished.store, own)
    whole = (place / f"run-{own}.wandb").read_bytes()
    for kept in (b"final/test/accuracy", b"report.html", b"results.json", b"method.rounds"):
        assert kept in whole


def test_tensorboard_has_the_final_table_as_a_text(finished: Finished) -> None:
    own = finished.had("tensorboard")["id"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = EventAccumulator(str(finished.store / "tensorboard" / own))
    file.Reload()
    assert set(file.Tags()["tensors"]) == {"rounds", "settings"}
    (text,) = file.Tensors("rounds")[0].tensor_proto.string_val
    assert text.decode().startswith("| round | student | chosen | rows |")


def test_trackio_has_the_settings(finished: Finished, trackio_folder: None) -> None:
    own = finished.had("trackio")["id"]
    from trackio.sqlite_storage import SQLiteStorage

    config = SQLiteStorage.get_run_config("tests", own)
    assert config is not None
    assert config["method.rounds"] == 1


def test_a_resumed_run_goes_on_in_the_same_ones_and_logs_no_round_twice(
    world: World, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worst moment: a tracker has a round, and the process is gone before the note of it is written."""
    folder, entries = tmp_path / "runs" / "shop", entries_in(store)

    def stop(journal: Journal, config: Any, number: int) -> dict[str, float]:
        if number == 1:
            raise KeyboardInterrupt
        return round_metrics(journal, config, number)

    with monkeypatch.context() as patch:
        patch.setattr("stepsynth.tracking.following.round_metrics", stop)
        with pytest.raises(KeyboardInterrupt):
            run_with(world, folder, entries)
    before = had(folder)
    assert {(*entry["rounds"], entry["finished"]) for entry in before} == {(0, False)}
    document = json.loads((folder / "tracking.json").read_text(encoding="utf-8"))
    for entry in document["trackers"]:
        # An offline store of W&B cannot be asked what it has.
        entry["rounds"] = entry["rounds"] if entry["tracker"] == "wandb" else []
    (folder / "tracking.json").write_text(json.dumps(document), encoding="utf-8")
    run_with(world, folder, entries)
    assert had(folder) == [{**entry, "rounds": [0, 1], "tested": [0, 1], "finished": True} for entry in before]
    # Everything is known by now.
    run_with(world, folder, entries)
    assert capfd.readouterr() == ("", "")
    for entry in before:
        found = read_store(entry["tracker"], store, entry["id"])
        for metric in ("rows/total", "select/accuracy", "test/accuracy"):
            assert steps_of(found, metric) == [0, 1], (entry["tracker"], metric)


class StoreContract(TrackerContract):
    """The contract, for a library's own store."""

    name: str

    @pytest.fixture(autouse=True)
    def _own(self, store: Path) -> None:
        self.store = store

    def make(self, folder: Path) -> Tracker:
        from stepsynth.config import TrackerConfig

        ((_, tracker),) = make_trackers([TrackerConfig.model_validate(entry_of(self.name, self.store))])
        return tracker

    def read(self, folder: Path, id: str) -> dict[int, dict[str, float]]:
        found = read_store(self.name, self.store, id)
        assert all(
            len(values) == 1 for metrics in found.values() for key, values in metrics.items() if key[0] != "_" and key != "round"
        )
        return {number: {key: values[0] for key, values in metrics.items()} for number, metrics in found.items()}


class TestMlflow(StoreContract):
    name = "mlflow"


class TestWandb(StoreContract):
    name = "wandb"


class TestTensorBoard(StoreContract):
    name = "tensorboard"


class TestTrackio(StoreContract):
    name = "trackio"
