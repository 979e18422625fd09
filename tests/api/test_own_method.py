"""A user's own method: one file outside of the package, from Python and from YAML, beside ours in a comparison and on pages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import yaml

import stepsynth as ss
from own_method import Between
from stepsynth import registry
from stepsynth.methods import MethodContext, Plan
from stepsynth.registry import METHODS
from world import LABELS, World, build_world

SETTINGS: dict[str, Any] = {"max_overgeneration": 5.0, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}
TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})


class Alone(ss.Method):
    """Named by its class, keeps an argument elsewhere, and its teacher answers itself."""

    student = "none"

    def __init__(self, words: Any = 3) -> None:
        self.words = words

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        yield from ()


class Forgetful(Alone):
    def __init__(self, sides: int = 3) -> None:
        self._sides = sides


class Failing(ss.Method):
    def __init__(self, how: str = "raise") -> None:
        self.how = how

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        if self.how == "raise":
            raise KeyError("topics")
        kind = "train" if self.how == "kind" else "prompted"
        wanted = {"kalmm": 3} if self.how == "label" else dict.fromkeys(LABELS, -1 if self.how == "count" else 3)
        for _ in range(1 + (self.how == "twice")):
            yield ss.PromptPlan(ctx, lambda *_: str(1 / (self.how != "prompt")), wanted=wanted, kind=kind)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has made known is unknown in the next."""
    monkeypatch.setattr(METHODS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def settings(world: World) -> dict[str, Any]:
    return {
        "validation": world.folder / "validation.csv",
        "test": world.folder / "test.csv",
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "cache": None,
        "progress": False,
    }


def call(world: World, out: Path, method: ss.Method) -> ss.Run:
    return ss.synthesize(TASK, method=method, out=out, **settings(world))


def install(monkeypatch: pytest.MonkeyPatch, name: str = "between") -> None:
    """Let a package have registered the class."""
    point = EntryPoint(name, "own_method:Between", METHODS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point] if group == METHODS.group else []))


def test_from_python_it_runs_is_counted_and_stands_on_the_page(world: World, tmp_path: Path) -> None:
    method = Between(per_label=5, again=True, **SETTINGS)
    assert method.values == {"name": "between", **SETTINGS, "options": {"per_label": 5, "again": True}}
    assert repr(method) == "Between(max_overgeneration=5.0, label_check='none', per_label=5, again=True)"
    planned = ss.plan(TASK, method=method, out=tmp_path / "run", **settings(world))
    run = call(world, tmp_path / "run", method)
    assert [entry["round"] for entry in run.scores] == [0, 1]
    assert {(row["kind"], row["round"]) for row in run.rows()} == {("between", 0), ("extrapolate", 1)}
    assert all(sum(row["label"] == label for row in run.rows(round=0)) == 5 for label in LABELS)
    assert planned["sample"]["messages"][0][1].startswith(f"Write one text of the kind {LABELS[0]}")
    half = planned["data"]["harvest"]
    # 15 rows, and two for each mistake: a tenth to seven tenths of the harvest half.
    assert planned["requests"] == [-(-(15 + 0.2 * half) // 0.95), -(-(15 + 1.4 * half) // 0.3)]
    assert "between" in run.results["methods"]
    page = run.report().read_text(encoding="utf-8")
    assert "between, seed 0" in page
    # Its own word, in the ledger and beside the bar of the figure, there in two lines if need be.
    assert "<bdi>round 0, between</bdi>" in page
    assert run.verify() == []


def test_going_on_is_refused_where_its_options_changed(world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", Between())
    assert run.config.method.options == {"per_label": 4, "again": False}, "defaults are settled, so that they may change"
    assert call(world, tmp_path / "run", Between(per_label=4)).scores == run.scores
    with pytest.raises(ss.RunError, match=r"method\.options"):
        call(world, tmp_path / "run", Between(per_label=5))


def test_a_registered_one_runs_from_yaml_as_from_python(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = call(world, tmp_path / "python", Between(per_label=5, **SETTINGS))
    written = run.config.to_yaml()
    METHODS._given.clear()
    (tmp_path / "config.yaml").write_text(written, encoding="utf-8")
    with pytest.raises(ss.ConfigError, match=r"method\.name is 'between'"):
        ss.load_config(tmp_path / "config.yaml")
    install(monkeypatch)
    assert yaml.safe_load(written)["method"]["options"] == {"per_label": 5, "again": False}
    again = ss.load_config(tmp_path / "config.yaml").run(progress=False)
    assert (again.path / "dataset.jsonl").read_bytes() == (run.path / "dataset.jsonl").read_bytes()
    assert again.config.result_digest() == run.config.result_digest()
    with pytest.raises(ss.ConfigError, match=r"method\.name is 'betwen'\. Did you mean 'between'\?"):
        ss.load_config(tmp_path / "config.yaml", {"method.name": "betwen"})
    for change, said in (
        ({"method.options": {"per_lable": 3}}, "Between has no argument 'per_lable'"),
        ({"method.options": {"seed_rows": 3}}, r"method\.options has 'seed_rows', which is a key of method itself"),
        ({"method.name": "s3", "method.options": {"per_label": 3}}, "but 's3' has none"),
    ):
        with pytest.raises(ss.ConfigError, match=said):
            ss.load_config(tmp_path / "config.yaml", change).run(tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_it_is_compared_beside_ours(world: World, tmp_path: Path) -> None:
    loop = ss.S3(seed_rows=9, rounds=1, rows_per_mistake=1, rationales=2, label_check="none")
    methods = [loop, ss.Gold(), Between(), Between(per_label=3)]
    found = ss.compare(TASK, methods, seeds=1, out=tmp_path / "both", **settings(world))
    names = ["s3", "gold", "between", "between:method.options.per_label=3"]
    assert [entry["name"] for entry in found.results["systems"]] == names
    assert [entry["accepted_rows"] for entry in found.results["systems"]][2:] == [[12], [9]]
    assert (found.results["reference"], found.results["budget"]) == ("gold", "s3")
    page = (tmp_path / "both" / "comparison.html").read_text(encoding="utf-8")
    assert "between:method.options.per_label=3" in page
    cell = ss.Run.load(tmp_path / "both" / "between-0")
    assert cell.config.method.options == {"per_label": 4, "again": False}
    assert cell.config.method.seed_rows == found.results["systems"][0]["accepted_rows"][0], "it may follow the budget"
    assert ss.Run.load(tmp_path / "both" / "gold-0").config.method.options == {}


def test_a_finished_run_is_read_without_the_class(world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", Alone())
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "the teacher itself" in page
    code = f"""
import stepsynth as ss
run = ss.Run.load({str(run.path)!r})
print(run.config.method.name, run.finished, run.verify(), run.report().read_text(encoding="utf-8") == {page!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Alone", "True", "[]", "True"]
    told = subprocess.run(
        [sys.executable, "-m", "stepsynth", "run", str(world.config_path), "--set", "method.name=alone"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.count("method.name is 'alone'") == 1
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Alone, "Write Alone(...)."),
        (Alone(words=object()), "the identity of the method 'Alone' is not JSON"),
        (Forgetful(), "does not keep its argument 'sides'"),
        (type("Two words", (Alone,), {})(), "cannot be the name of a method"),
        (type("Mine", (ss.S3,), {"name": "s3"})(), "has the name of a built-in one"),
        (type("Odd", (Alone,), {"student": "whatever"})(), "trains its student on 'whatever'"),
        (type("Both", (Alone,), {"identity": lambda self: {"words": 7}})(), None),
        (type("Else", (Alone,), {"identity": lambda self: {"other": 7}})(), "cannot be made with {'other': 7}"),
    ],
)
def test_what_is_no_method_is_one_line_before_anything_is_made(method: Any, said: str, world: World, tmp_path: Path) -> None:
    if said is None:
        assert ss.plan(TASK, method=method, out=tmp_path / "run", **settings(world))["method"] == "Both"
        return
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", method)
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "the method 'Failing' failed in round 0: KeyError: 'topics'"),
        ("prompt", "the method 'Failing' failed in round 0: ZeroDivisionError"),
        ("count", "wants -1 rows of 'kalm'"),
        ("label", "wants rows of 'kalmm', which is not a label"),
        ("kind", "of kind 'train', which is reserved"),
        ("twice", "yielded two stages 'round-0/prompted'"),
    ],
)
def test_one_that_fails_names_itself(how: str, said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.RunError) as caught:
        call(world, tmp_path / "run", Failing(how))
    assert said in str(caught.value)
    assert not ss.Run.load(tmp_path / "run").finished


def test_one_of_ours_can_be_derived_from(world: World, tmp_path: Path) -> None:
    class Shorter(ss.S3):
        """The loop with other rounds; it does not set the budget of a comparison."""

    assert (Shorter.name, Shorter.sets_budget, Shorter.leads, Shorter.student) == ("Shorter", False, False, "written")
    run = call(world, tmp_path / "run", Shorter(seed_rows=9, rounds=0, rationales=2, label_check="none"))
    assert run.config.method.name == "Shorter"
    stored = json.loads((run.path / "config.json").read_text())["config"]["method"]
    assert "options" not in stored
    assert {row["kind"] for row in run.rows()} == {"seed"}
