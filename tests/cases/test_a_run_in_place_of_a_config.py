"""A run directory, or the config that it keeps, given where a YAML config is expected."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

import stepsynth as ss
from command import stepsynth
from stepsynth.config import load_config
from world import World, build_world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a finished run whose folder has a name of its own."""
    world = build_world(tmp_path_factory.mktemp("made"))
    world.write_config({"method.rounds": 0, "method.rationales": 0, "student.epochs": 1, "seed": 3})
    load = ss.load_config(world.config_path)
    load.run(world.folder / "mine", progress=False)
    return world


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".jsonl", ".json", ".html")}


@pytest.mark.parametrize("given", ["", "config.json"])
def test_the_run_goes_on_in_its_own_folder(made: World, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = made.folder / "mine"
    before = written(run)
    outcome = stepsynth(capsys, "run", run / given, "--quiet")
    assert (outcome.code, outcome.out.strip()) == (0, str(run)), outcome.err
    assert written(run) == before
    assert not (made.folder / "runs").exists()
    assert not (run / "runs").exists()


def test_an_unfinished_run_goes_on_without_its_yaml(made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "begun"
    shutil.copytree(made.folder / "mine", run)
    for name in ("models", "journal.db", "report.html", "results.json", "dataset.jsonl"):
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    assert stepsynth(capsys, "run", run, "--quiet").code == 0
    assert (run / "results.json").read_bytes() == (made.folder / "mine" / "results.json").read_bytes()


def test_with_another_folder_it_is_another_run(made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "run", made.folder / "mine", "--set", "seed=4", "--out", tmp_path / "new", "--quiet")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "new" / "results.json").read_text())["seed"] == 4


def test_a_change_without_another_folder_is_one_line(made: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(made.folder / "mine")
    outcome = stepsynth(capsys, "run", made.folder / "mine", "--set", "seed=4")
    assert outcome.code == 2
    assert "seed was 3, is 4" in outcome.err
    assert outcome.err.count("\n") == 1
    assert written(made.folder / "mine") == before


def test_plan_tells_of_the_run_itself(made: World, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "plan", made.folder / "mine", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["so_far"]


def test_from_python_it_is_the_same_run(made: World) -> None:
    run = made.folder / "mine"
    before = written(run)
    assert ss.load_config(run).run(progress=False).path == run
    assert ss.Run.load(run).config.run(progress=False).path == run
    assert written(run) == before
    assert load_config(run).result_digest() == json.loads((run / "config.json").read_text())["digest"]


def test_rows_of_a_program_are_found_again(made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (made.folder / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    run = ss.synthesize(
        ss.Classification("given", "Decide what kind of text this is.", labels),
        validation=rows,
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(model=str(made.folder / "student"), epochs=1, min_steps=0, max_length=32),
        method=ss.S3(rounds=0, seed_rows=12, rationales=0, label_check="none"),
        out=tmp_path / "given",
        cache=None,
        progress=False,
    )
    before = written(run.path)
    outcome = stepsynth(capsys, "run", run.path, "--quiet")
    assert outcome.code == 0, outcome.err
    assert written(run.path) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"seed": 3', '"seed": 5'), "was edited: it does not match its digest. Undo the change."),
        (lambda text: text[:50], "cannot be read: "),
        (lambda text: "{}", "cannot be read: 'config'. Restore it, or start a new run."),
        (lambda text: '{"config": {"task": 3}}', "cannot be read: it has no task."),
    ],
)
def test_a_spoilt_config_of_a_run_is_one_line(
    made: World, tmp_path: Path, change: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.folder / "mine", tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(change(file.read_text()))  # type: ignore[operator]
    for given in (tmp_path / "run", file):
        outcome = stepsynth(capsys, "run", given)
        assert outcome.code == 2
        assert said in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_folder_that_is_no_run_names_the_config_in_it(made: World, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "run", made.folder)
    assert outcome.code == 2
    assert outcome.err == f"stepsynth: {str(made.folder)!r} is a folder; give the config file, e.g. {str(made.config_path)!r}.\n"


def test_a_config_of_the_users_may_be_json_and_called_so(made: World, tmp_path: Path) -> None:
    values = json.loads((made.folder / "mine" / "config.json").read_text())["config"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_config(tmp_path / "config.json").seed == 3
