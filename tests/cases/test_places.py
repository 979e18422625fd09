"""A run is the same run wherever it lies and however it is reached: moved, linked, renamed, read only."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from stepsynth.comparison import parse_systems, plan_cells
from stepsynth.config import load_config
from stepsynth.errors import RunError
from stepsynth.report.verify import verify_run
from stepsynth.run import RunDirectory
from stepsynth.runtime.files import write_out
from world import World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")
DERIVED = ("results.json", "report.html", "dataset.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A finished run of a small world; tests copy it."""
    world = build_world(tmp_path_factory.mktemp("made") / "project")
    world.write_config(
        {"student.model": str(world.folder / "student"), "method.rounds": 0, "method.seed_rows": 9, "student.epochs": 1}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["stepsynth", "run", str(world.config_path), "--quiet"])
        from stepsynth.cli import main

        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code in (0, None)
    return world


@pytest.fixture
def run(made: World, tmp_path: Path) -> Path:
    shutil.copytree(made.folder / "runs" / "invented", tmp_path / "runs" / "invented")
    return tmp_path / "runs" / "invented"


def renamed(run: Path) -> str:
    run.rename(run.with_name("other"))
    return str(run.with_name("other"))


def linked(run: Path) -> str:
    run.with_name("link").symlink_to(run)
    return str(run.with_name("link"))


def moved_elsewhere(run: Path) -> str:
    (run.parent.parent / "far" / "away").mkdir(parents=True)
    run.rename(run.parent.parent / "far" / "away" / "invented")
    return str(run.parent.parent / "far" / "away" / "invented")


def from_inside(run: Path) -> str:
    os.chdir(run)
    return "."


def from_below(run: Path) -> str:
    os.chdir(run / "models")
    return ".."


PLACES: list[Callable[[Path], str]] = [
    renamed,
    linked,
    moved_elsewhere,
    from_inside,
    from_below,
    lambda run: f"{run}/",
    lambda run: os.path.join(run.parent, ".", "..", "runs", run.name),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_case_14_verify_after_a_move(
    run: Path, place: Callable[[Path], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    before = {name: (run / name).read_bytes() for name in DERIVED}
    where = place(run)
    assert stepsynth(capsys, "verify", where).out.endswith(": intact\n")
    assert stepsynth(capsys, "report", where).code == 0
    assert {name: (Path(where) / name).read_bytes() for name in DERIVED} == before
    found = json.loads(stepsynth(capsys, "status", where, "--json").out)
    assert found["run"] == Path(where).resolve().name
    assert found["results"]["run"] == "invented"
    (run.parent / "new.txt").write_text("one text\n")
    assert stepsynth(capsys, "predict", where, run.parent / "new.txt").code == 0


def test_case_14_verify_after_a_move_between_two_attempts(
    made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Derived files of the second attempt are those that the journal and the stored config give."""
    shutil.copytree(made.folder, tmp_path / "there")
    run = tmp_path / "there" / "runs" / "invented"
    assert str(made.folder / "validation.csv") in (run / "config.json").read_text()
    assert stepsynth(capsys, "run", tmp_path / "there" / "config.yaml", "--quiet").code == 0
    assert str(tmp_path / "there" / "validation.csv") in (run / "config.json").read_text()
    assert verify_run(run) == []
    digest = json.loads((made.folder / "runs" / "invented" / "config.json").read_text())["digest"]
    assert json.loads((run / "config.json").read_text())["digest"] == digest


def test_case_14_verify_after_a_move_of_what_an_older_version_wrote(run: Path) -> None:
    """Older versions wrote the folder's name into the results and the page."""
    from stepsynth.journal import Journal
    from stepsynth.report import render_report
    from stepsynth.report.derived import build_results, results_text

    directory = RunDirectory.read(run)
    journal = Journal(directory.journal_path)
    old = {**build_results(journal, directory), "run": "folder-of-then"}
    (run / "results.json").write_text(results_text(old), encoding="utf-8")
    (run / "report.html").write_text(render_report(journal, old, directory.config), encoding="utf-8")
    journal.close()
    assert verify_run(run) == []
    (run / "results.json").write_text(results_text({**old, "seed": 7}), encoding="utf-8")
    assert [finding.where for finding in verify_run(run)] == ["results.json"]


def read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder look as if it lay on a read-only disk, to root as well."""
    opening, access = os.open, os.access

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opening(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode, **named: not (mode & os.W_OK and str(path).startswith(str(folder))) and access(path, mode),
    )


def test_a_run_that_may_only_be_read_can_be_looked_at(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("one text\n")
    read_only(monkeypatch, run)
    assert stepsynth(capsys, "status", run).code == 0
    assert stepsynth(capsys, "verify", run).out.endswith(": intact\n")
    assert stepsynth(capsys, "predict", run, tmp_path / "new.txt").code == 0
    outcome = stepsynth(capsys, "report", run)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "Read-only file system" in outcome.err
    assert sorted(path.name for path in run.iterdir() if path.name.startswith("journal")) == ["journal.db"]


def test_a_journal_whose_log_cannot_be_read_in_is_not_read_without_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "journal.db-wal").write_bytes(b"x" * 32)
    read_only(monkeypatch, run)
    outcome = stepsynth(capsys, "status", run)
    assert outcome.code == 2
    assert "its last changes are in 'journal.db-wal'" in outcome.err


def test_a_hub_folder_stays_beside_the_config_in_a_comparison(made: World, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write_config({"data.validation": {"hub": "./ds"}, "data.test": {"hub": "ds2"}})
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds2").mkdir()
    config = load_config(world.config_path)
    for _, cell, _ in plan_cells(config, parse_systems("s3,zerogen,s3:method.rounds=1", config), 2):
        assert cell.data.validation.folder == tmp_path / "ds"
        assert cell.data.test is not None
        assert cell.data.test.folder == tmp_path / "ds2"


# where a result is written


def test_a_result_goes_through_links_and_into_devices(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_out(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
    write_out(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("name", "piece"),
    [("", "it is a folder"), ("no/such/file.csv", "No such file"), ("file/below", "Not a directory"), ("a\0b", "null")],
)
def test_where_nothing_can_be_written_is_one_line(tmp_path: Path, name: str, piece: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=piece) as caught:
        write_out(tmp_path / name, "x")
    assert caught.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(RunError, match="No space left"):
        write_out(Path("/dev/full"), "x")
    assert Path("/dev/full").is_char_device()
