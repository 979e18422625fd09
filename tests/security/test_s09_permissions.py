"""S9: what a run writes is its owner's alone, 0700 and 0600, even under umask 000."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from stepsynth import model_cache
from stepsynth.journal import AnswerStore, Journal
from stepsynth.model_cache.sources import SOURCES
from stepsynth.model_cache.storage import empty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from security.conftest import Performance


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of everything below a folder, and of it."""
    return {str(path.relative_to(folder.parent)): stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("where", ["runs/run", "failing", "compared"])
def test_s09_every_file_of_a_run_and_of_a_comparison_is_private(performance: Performance, where: str) -> None:
    folder = performance.folder / where
    found = modes(folder)
    assert len(found) > 3
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (0o700 if (performance.folder / name).is_dir() or (folder.parent / name).is_dir() else 0o600)
    }
    assert wrong == {}


@pytest.mark.parametrize("name", ["runs/answers.db", "predicted.csv", "predicted.jsonl", "seed.jsonl"])
def test_s09_shared_answers_and_written_rows_are_private(performance: Performance, name: str) -> None:
    assert stat.S_IMODE((performance.folder / name).stat().st_mode) == 0o600


@pytest.mark.usefixtures("no_umask")
def test_s09_the_files_beside_an_open_database_are_private(tmp_path: Path) -> None:
    """SQLite makes the write-ahead log and its index itself, while the journal is open."""
    with (
        closing(Journal(tmp_path / "journal.db", AnswerStore.shared(tmp_path / "answers.db"))) as journal,
    ):
        journal.finish()
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    names = {f"{stem}.db{end}" for stem in ("journal", "answers") for end in ("", "-wal", "-shm")}
    assert found == dict.fromkeys(names, 0o600)


@pytest.mark.usefixtures("no_umask")
def test_s09_a_model_in_the_cache_can_be_changed_by_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public weights may be read by all; one that somebody else can write to would not be the one whose digest was checked."""
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))
    asset = model_cache.list_assets()[1]

    def put(asset: model_cache.Asset, staging: Path, say: object) -> None:
        empty(staging)
        for name in asset.files:
            (staging / name).write_text("weights")

    for source in SOURCES:
        monkeypatch.setitem(SOURCES, source, put)
    monkeypatch.setattr("stepsynth.model_cache.resolving.problems", lambda asset, folder: [] if folder.is_dir() else ["missing"])
    where = model_cache.resolve(asset.name, kind=asset.kind)
    assert where == asset.folder
    assert len(list(asset.folder.iterdir())) == len(asset.files)
    assert {name: oct(mode) for name, mode in modes(tmp_path / "cache").items() if mode & 0o022} == {}
