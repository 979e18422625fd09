"""A small world, and stores that are made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from world import World, build_world

SMALL = {"method.seed_rows": 12, "method.rounds": 1, "method.rationales": 2, "student.epochs": 1, "method.rows_per_mistake": 1}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build_world(tmp_path_factory.mktemp("tracking") / "world")
    world.write_config(SMALL)
    return world


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """MLflow's tables, without a run; it takes seconds to make them."""
    if find_spec("mlflow") is None:
        return None
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from stepsynth.tracking.guard import Guarded

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    def hasty(connection: Any, _: object) -> None:
        # Hundreds of small transactions.
        connection.execute("PRAGMA synchronous=OFF")

    def make() -> None:
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()

    event.listen(Engine, "connect", hasty)
    Guarded().call(make)
    event.remove(Engine, "connect", hasty)
    return path


@pytest.fixture(scope="session")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep trackio's store away from the user's; it reads the variable when it is imported."""
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))


@pytest.fixture(scope="session")
def new_store(
    tmp_path_factory: pytest.TempPathFactory, database: Path | None, trackio_folder: None
) -> Iterator[Callable[[], Path]]:
    """Make a folder for all trackers' stores."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("store")
        if database is not None:
            shutil.copy(database, folder / "mlflow.db")
        return folder

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
            patch.delenv(name, raising=False)
        yield make


@pytest.fixture
def store(new_store: Callable[[], Path]) -> Path:
    """A folder for all trackers' stores."""
    return new_store()
