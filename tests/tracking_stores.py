"""The four libraries' local stores, read back with their own readers."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

__all__ = ["STORES", "Store", "entry_of", "read_store", "steps_of"]

STORES = ("mlflow", "wandb", "tensorboard", "trackio")
Store = dict[int, dict[str, list[float]]]


def needed(name: str) -> None:
    """Skip a test whose library is not installed."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'stepsynth[{name}]'")


def entry_of(name: str, store: Path) -> dict[str, Any]:
    """Return the entry of a config that keeps everything in a folder; trackio's folder is set by `trackio_in`."""
    needed(name)
    options: dict[str, dict[str, Any]] = {
        "mlflow": {"uri": f"sqlite:///{store}/mlflow.db"},
        "wandb": {"folder": str(store), "mode": "offline"},
        "tensorboard": {"folder": str(store / "tensorboard")},
        "trackio": {"project": "tests"},
    }
    return {"name": name, **options[name]}


def read_store(name: str, store: Path, own: str) -> Store:
    """Return round -> metric -> all values that a store has of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = {"mlflow": _mlflow, "wandb": _wandb, "tensorboard": _tensorboard, "trackio": _trackio}
        return read[name](store, own)


def steps_of(found: Store, metric: str) -> list[int]:
    """Return the rounds that a metric was recorded for, each as often as it was."""
    return sorted(number for number, metrics in found.items() for _ in metrics.get(metric, []))


def _store() -> Store:
    return defaultdict(lambda: defaultdict(list))


def _mlflow(store: Path, own: str) -> Store:
    from mlflow import MlflowClient

    client, found = MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db"), _store()
    for key in client.get_run(own).data.metrics:
        for metric in client.get_metric_history(own, key):
            found[metric.step][key].append(metric.value)
    return found


def _wandb(store: Path, own: str) -> Store:
    """Read all offline files of a run: a continued one has several, which ``wandb sync`` puts together."""
    import json

    from wandb.proto import wandb_internal_pb2

    found = _store()
    for path in sorted((store / "wandb").glob(f"offline-run-*-{own}*/run-{own}.wandb")):
        for record in _ended(path, wandb_internal_pb2.Record):
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for key, value in items.items() if "round" in items else ():
                if isinstance(value, int | float):
                    found[items["round"]][key].append(float(value))
    return found


def _ended(path: Path, kind: Any) -> list[Any]:
    """Return a file's records when it has the last one: the library's own process writes it a moment after the run."""
    latest = time.monotonic() + 20
    while True:
        records = [kind.FromString(data) for data in _records(path.read_bytes())]
        if any(record.HasField("exit") for record in records) or time.monotonic() > latest:
            return records
        time.sleep(0.1)


def _records(file: bytes) -> Iterator[bytes]:
    """Yield the records of an offline file, a log in the format of LevelDB; the library has no reader in Python."""
    header, block, place, parts = 7, 32768, 7, b""
    assert not file or file.startswith(b":W&B")
    while place + header <= len(file):
        left = block - place % block
        if left < header:
            place += left
            continue
        length, kind = int.from_bytes(file[place + 4 : place + 6], "little"), file[place + 6]
        if not kind:
            return
        parts += file[place + header : place + header + length]
        place += header + length
        # Whole, or the last part.
        if kind in (1, 4):
            yield parts
            parts = b""


def _tensorboard(store: Path, own: str) -> Store:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file, found = EventAccumulator(str(store / "tensorboard" / own), size_guidance={"scalars": 0}), _store()
    file.Reload()
    for tag in file.Tags()["scalars"]:
        for event in file.Scalars(tag):
            found[event.step][tag].append(event.value)
    return found


def _trackio(store: Path, own: str) -> Store:
    from trackio.sqlite_storage import SQLiteStorage

    found = _store()
    try:
        lines = SQLiteStorage.get_logs("tests", own)
    except sqlite3.Error as error:
        pytest.fail(f"trackio's store: {error}")
    for line in lines:
        for key, value in line.items():
            if isinstance(value, int | float) and key != "step":
                found[int(line["step"])][key].append(float(value))
    return found
