"""Small things of the library and the command line: labels as programs have them, methods named twice, addresses, folders."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas
import pytest

import stepsynth as ss
from command import stepsynth
from stepsynth.api.making import make_config
from stepsynth.api.methods import method_line, with_methods
from stepsynth.comparison import parse_systems
from stepsynth.config import MethodConfig, parse_config, parse_with
from stepsynth.data.rows import check_file
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.execution import execute, execute_comparison
from stepsynth.run import RunDirectory
from world import build_world

SHORT = {"name": "t", "instruction": "Decide.", "labels": {"a": "", "b": ""}}
ROWS = [{"text": f"Row number {i} here.", "label": "ab"[i % 2]} for i in range(8)]


def test_a_method_object_leaves_open_what_it_does_not_set() -> None:
    """As on the command line: such keys are settled by the teacher."""
    config = parse_config({"task": SHORT, "data": {"validation": {"path": "v.csv"}}, "method": {"seed_rows": 7}})
    found, line = with_methods(config, [ss.S3(rounds=1), ss.Gold()])
    assert line == "s3,gold"
    assert found.method.model_fields_set == {"rounds", "seed_rows"}


def test_an_option_of_presets_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "init", str(tmp_path / "new"), "--data-folder", str(tmp_path))
    assert (outcome.code, "--data-folder belongs to --preset" in outcome.err) == (2, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["hf_sentiment_reviews_2023.csv", "sk-learn-20newsgroups-data.csv", "rk_2024-05-01.csv"])
def test_a_file_s_name_is_no_key(name: str) -> None:
    parse_config({"task": SHORT, "data": {"validation": {"path": name}}})


@pytest.mark.parametrize("key", [f"hf_{'aB3' * 12}", f"sk-proj-{'aB3_' * 4}{'x9' * 12}", f"sk-ant-api03-{'k7' * 40}"])
def test_a_key_in_an_override_is_refused_with_the_override_s_name(key: str) -> None:
    values = {"task": SHORT, "data": {"validation": {"path": "v.csv"}}}
    with pytest.raises(ConfigError, match=r"the override of 'teacher.model' holds what looks like a key") as caught:
        parse_with(values, [f"teacher.model={key}"], Path.cwd())
    assert key not in str(caught.value)


# labels -------------------------------------------------------------------------------------


class Team(StrEnum):
    sales = "sales"
    care = "care"


class Numbered(Enum):
    sales = 1
    care = 2


class Feature:
    """As `datasets.ClassLabel` is."""

    def __init__(self) -> None:
        self.names = ["sales", "care"]

    def int2str(self, number: int) -> str:
        return self.names[number]


@pytest.mark.parametrize(
    "labels",
    [
        ("sales", "care"),
        {"sales": 1, "care": 2}.keys(),
        pandas.Series(["sales", "care"]),
        pandas.Series(["sales", "care", "sales"]).unique(),
        pandas.Index(["sales", "care"]),
        pandas.Series(["sales", "care"], dtype=pandas.CategoricalDtype(["sales", "care"])).cat.categories,
        np.array(["sales", "care"]),
        Team,
        [Team.sales, Team.care],
        Feature(),
        (name for name in ("sales", "care")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_are_taken_as_programs_have_them_in_their_order(labels: Any) -> None:
    assert list(parse_labels(labels)) == ["sales", "care"]


def parse_labels(labels: Any) -> dict[str, str]:
    task = ss.Classification("t", "Decide.", labels)
    return parse_config({"task": task.values, "data": {"validation": {"path": "v.csv"}}}).task.labels


def test_a_set_is_sorted_and_a_mapping_keeps_its_meanings() -> None:
    """A set's order is another one in the next process; the order of labels is part of what a run is known by."""
    assert list(parse_labels({"sales", "care", "admin"})) == ["admin", "care", "sales"]
    assert parse_labels(MappingProxyType({Team.sales: "buys", Team.care: "asks"})) == {"sales": "buys", "care": "asks"}
    assert list(ss.MultiLabel("t", "Say.", frozenset({"b", "a"})).values["labels"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("sales, care", r"labels is 'sales, care', not a list"),
        (None, r"labels is None, not a list"),
        (3, r"labels is 3, a int, not a list"),
        (Numbered, r"has the value 1, which is not a text\. Give the names"),
        (
            pandas.Series(["a", "b", "a"]),
            r"labels is a Series with repeated labels \(3 values\).*sorted\(set",
        ),
        (np.array(["a", "b", "b"]), r"labels is a ndarray with repeated labels"),
        (pandas.Series({"a": "x", "b": "y"}), r"Series whose index holds texts.*labels\.to_dict\(\)"),
        (pandas.Series(["a", None]), r"missing value \(None or NaN\)"),
        (np.array([["a", "b"]]), r"more than one dimension"),
        ({"a"}, r"holds only one label"),
    ],
    ids=str,
)
def test_other_labels_are_refused_in_one_line(labels: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        ss.Classification("t", "Decide.", labels)
    assert "\n" not in str(caught.value)


# the same method twice ----------------------------------------------------------------------


def config(**more: Any) -> Any:
    task = ss.Classification("t", "Decide.", ["a", "b"])
    return make_config(task, Path("runs/t"), validation=ROWS, test="t.csv", **more)


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ([ss.S3(rounds=1), ss.S3(rounds=2)], ["s3", "s3:method.rounds=2"]),
        ([ss.S3(rounds=1), ss.S3()], ["s3", "s3:method.rounds=2"]),
        ([ss.S3(rounds=1, seed_rows=50), ss.S3(rounds=3)], ["s3", "s3:method.rounds=3:method.seed_rows=400"]),
        ([ss.CrossFit(), ss.CrossFit(seed_from="reasons")], ["crossfit", 'crossfit:method.seed_from="reasons"']),
        ([ss.S3(seed_rows=50), ss.ZeroGen(), ss.Gold()], ["s3", "zerogen", "gold"]),
        (["s3", "s3:method.rounds=1"], ["s3", "s3:method.rounds=1"]),
    ],
    ids=str,
)
def test_a_method_with_other_settings_is_a_line_of_its_own(methods: list[Any], names: list[str]) -> None:
    base, text = method_line(methods, MethodConfig())
    systems = parse_systems(text, config(method=base))
    assert [system.name for system in systems] == names
    assert len({system.folder for system in systems}) == len(names)


@pytest.mark.parametrize(
    "methods", [[ss.S3(), ss.S3()], [ss.S3(), ss.S3(rounds=2)], ["s3", "s3"], ["s3", ss.S3(rounds=1)]], ids=str
)
def test_the_same_method_with_the_same_settings_is_refused(methods: list[Any]) -> None:
    base, text = method_line(methods, MethodConfig())
    with pytest.raises(
        ConfigError, match=r"'s3' is among the methods twice, with the same settings\. .*s3:method.rounds=1, or S3\("
    ):
        parse_systems(text, config(method=base))


# folders ------------------------------------------------------------------------------------


def used(folder: Path, name: str, labels: list[str]) -> None:
    made = make_config(
        ss.Classification(name, "Decide.", labels), folder, validation=ROWS, teacher=ss.Teacher(backend="fake", model="fake")
    )
    RunDirectory.open(folder, made).close()
    (folder / "models").mkdir(exist_ok=True)


@pytest.mark.parametrize(("name", "labels"), [("my task", ["a", "c"]), ("my-task", ["a", "b"])])
def test_two_tasks_of_one_default_folder_are_told_apart(name: str, labels: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "my-task"
    used(folder, "my task", ["a", "b"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"is the run of another task: task\.\w+.*\(out= / --out\), rename the task") as caught:
        used(folder, name, labels)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"} == {
        path: data for path, data in before.items() if path.name != "lock"
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no run at '{}': there is no such folder. Give the folder of a run"),
        (lambda path: path.mkdir(), "there is no run at '{}': the folder is empty. Give the folder of a run"),
        (lambda path: path.write_text("x"), "there is no run at '{}': it is a file."),
        (lambda path: (path / "sub").mkdir(parents=True), "there is no run at '{}': the folder has no config.json."),
        (lambda path: parent(path, "students"), "'{}' is a comparison; give one of its runs, e.g. '{}/s3-0'."),
        (lambda path: parent(path), "'{}' is a folder with runs; give one of them, e.g. '{}/s3-0'."),
    ],
)
@pytest.mark.parametrize("command", ["verify", "report", "status", "cancel", "predict"])
def test_a_folder_that_is_no_run_is_one_line(
    command: str, make: Callable[[Path], object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    make(folder)
    (tmp_path / "new.txt").write_text("A text.\n")
    outcome = stepsynth(capsys, command, folder, *([tmp_path / "new.txt"] if command == "predict" else []))
    assert outcome.code == 2
    assert outcome.err.startswith("stepsynth: " + said.format(folder, folder))
    assert outcome.err.count("\n") == 1
    with pytest.raises(ss.UserError, match=re.escape(said.format(folder, folder)[:30])):
        ss.Run.load(folder)


def parent(path: Path, *more: str) -> None:
    (path / "s3-0").mkdir(parents=True)
    (path / "s3-0" / "config.json").write_text("{}")
    for name in more:
        (path / name).mkdir()


def test_quiet_prints_the_folder_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path)
    world.write_config({"method": {"name": "gold"}, "student.head": "probe", "student.epochs": 1})
    outcome = stepsynth(capsys, "run", world.config_path, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{tmp_path / 'runs' / 'invented'}\n", "")


# addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://host.example/a/rows.csv", "pandas.read_csv('https://host.example/a/rows.csv')"),
        ("s3://bucket/rows.parquet", "pandas.read_parquet('s3://bucket/rows.parquet')"),
        ("gs://bucket/rows.jsonl?v=2", "pandas.read_json('gs://bucket/rows.jsonl?v=2', lines=True)"),
        ("hf://datasets/owner/name/train.csv", "here hub: owner/name"),
        ("https://huggingface.co/datasets/owner/name", "here hub: owner/name"),
        ("file:///data/mine/rows.csv", "write the path alone: '/data/mine/rows.csv'"),
        ("https://host.example/", "datasets.load_dataset(...)"),
    ],
)
def test_addresses_are_told_what_is_taken(address: str, said: str, tmp_path: Path) -> None:
    task = ss.Classification("t", "Decide.", ["a", "b"])
    for key, source in (("path", {"path": address}), ("hub", {"hub": address})):
        with pytest.raises(ConfigError) as caught:
            parse_config({"task": task.values, "data": {"validation": source}}, base=tmp_path)
        assert f"data.validation.{key}: {address!r} is an address" in str(caught.value)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    for given in (address, Path(address), ss.Source(address)):
        with pytest.raises(ConfigError, match="is an address"):
            make_config(task, tmp_path, validation=given)
    # Files of commands: a `Path` has lost a slash.
    with pytest.raises(DataError, match=re.escape(said.replace("file:///", "file://"))):
        check_file(Path(address))


def test_results_are_not_written_to_an_address(tmp_path: Path) -> None:
    world = build_world(tmp_path)
    with pytest.raises(ConfigError, match=r"'s3://bucket/run' is an address, but results are written to a local folder"):
        execute(world.config(), Path("s3://bucket/run"))
    with pytest.raises(ConfigError, match="'s3://bucket/run' is an address"):
        execute_comparison(world.config(), "s3", seeds=1, match="rows", folder=tmp_path / "s3://bucket/run", run=lambda *_: None)
    assert not (tmp_path / "s3:").exists()


# messages for both ----------------------------------------------------------------------------


def test_messages_below_the_command_line_do_not_speak_shell_alone() -> None:
    """An option is named beside what it is called from Python, or not at all: those who call the library type no options."""
    source = Path(sys.modules["stepsynth"].__file__ or "").parent
    allowed = {"--merge", "--encoding", "--sheet", "--data-folder", "--preset", "--column", "--label", "--out"}
    found = []
    for path in source.rglob("*.py"):
        if path.is_relative_to(source / "cli") or path.name in ("sources.py", "drawing.py", "waiting.py", "comparison.py"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.lstrip().startswith("#") or not re.search(r"[\"'{]", line):
                continue
            for option in re.findall(r"(?<=[\s\"'`(])--[a-z][a-z-]*", line):
                both = "out= / --out" in line or "columns= / --column" in line or option not in ("--out", "--column")
                if option not in allowed or not both:
                    found.append(f"{path.relative_to(source)}:{number}: {line.strip()}")
    assert found == []


# the end of a run -------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("tested", [True, False])
def test_the_end_of_a_run_speaks_of_the_test_set_only_if_there_is_one(
    tested: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And of the user's own labels, which no run of such a method compares."""
    world = build_world(tmp_path / "world")
    without = [] if tested else ["--set", "data.test=null"]
    out = tmp_path / "run"
    outcome = stepsynth(capsys, "run", world.config_path, "--out", out, "--set", "method.name=zerogen", *without)
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "* the best round, chosen by the select half" in said
    assert ("the test set was opened once" in said) == tested
    # One round and no epoch to pick: the select half, the only judge without a test set, has chosen nothing.
    page = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert ("chose nothing here, so it is a fair score" in page) == (not tested)
    assert "also chose" not in page
    assert (f"To see it: stepsynth compare {out} --methods gold,zerogen" in said) == tested
