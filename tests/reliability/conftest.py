"""One finished run for all tests of this folder; they copy it before they spoil anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conditions import training_threads
from reliability.runs import go_on
from world import World, build_world


@pytest.fixture(scope="package")
def same_threads() -> Iterator[None]:
    """One thread for every training that is compared with another: sums in another order give other last bits."""
    with training_threads():
        yield


@pytest.fixture(scope="package")
def world(same_threads: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, tiny student and config, which no test changes."""
    return build_world(tmp_path_factory.mktemp("reliable") / "world")


@pytest.fixture(scope="package")
def calm(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; read only."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    go_on(world.config(), folder)
    return folder
