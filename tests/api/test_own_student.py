"""A user's own student: one file outside of the package, from Python and from YAML, for every method, on pages and in tests."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from own_student import TfIdf
from stepsynth import registry, testing
from stepsynth.registry import STUDENTS
from stepsynth.students import own
from world import LABELS, World, build_world

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 2}
TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})


class TestTfIdf(testing.StudentContract):
    def make(self) -> ss.StudentRecipe:
        return TfIdf(words=50)


class TestOfTheGuide(testing.StudentContract):
    """The class that docs/python.md shows."""

    def make(self) -> ss.StudentRecipe:
        text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
        (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Words" in code]
        scope: dict[str, Any] = {"ss": ss}
        exec(snippet.partition("quick = ")[0], scope)
        made: ss.StudentRecipe = scope["Words"](features=512)
        return made


def test_the_example_in_the_docstring_is_right() -> None:
    assert doctest.testmod(own).failed == 0


class Broken(TfIdf):
    """Breaks one promise."""

    how = ""

    def fit(self, train: Any, select: Any, *, seed: int, out: Path, start: Any = None, progress: Any = None) -> Any:
        if self.how == "needs select":
            assert select
        model = super().fit(train, select, seed=seed, out=out)
        if self.how == "pickle":
            (out / "student.pkl").write_bytes(b"")
        if self.how == "folder":
            (out / "parts").mkdir()
        if self.how == "other bytes":
            (out / "when.txt").write_text(str(out), encoding="utf-8")
        if self.how == "memory":
            model.labels = model.labels[::-1]
        return model


@pytest.mark.parametrize(
    ("how", "test"),
    [
        ("needs select", "test_it_learns_without_rows_to_choose_by"),
        ("pickle", "test_its_files_hold_no_code"),
        ("folder", "test_its_files_hold_no_code"),
        ("other bytes", "test_the_same_rows_and_seed_give_the_same_bytes"),
        ("memory", "test_the_loaded_model_says_the_same"),
    ],
)
def test_a_student_that_breaks_the_contract_is_found_out(how: str, test: str) -> None:
    class Suite(testing.StudentContract):
        def make(self) -> ss.StudentRecipe:
            broken: type[ss.StudentRecipe] = type("Broken", (Broken,), {"how": how})
            return broken()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STUDENTS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def call(world: World, out: Path, student: Any, method: ss.Method | None = None) -> ss.Run:
    return ss.synthesize(
        TASK,
        validation=world.folder / "validation.csv",
        test=world.folder / "test.csv",
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=student,
        method=method or ss.S3(**METHOD, label_check="none"),
        cache=None,
        out=out,
        progress=False,
    )


def test_from_python_it_is_trained_asked_and_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stepsynth.run import data as run_data

    # It has no base model, so that none is fetched.
    monkeypatch.setattr(run_data, "check_base", lambda *_: pytest.fail("a base model was asked for"))
    run = call(world, tmp_path / "run", TfIdf(words=300))
    assert [entry["round"] for entry in run.scores] == [0, 1]
    assert sorted(path.name for path in (run.path / "models" / "round-1").iterdir()) == ["done.json", "student.json"]
    assert set(run.student.predict(["some words"])) <= set(LABELS)
    assert run.results["student"] == {"model": "tfidf"}
    assert "<dt>Student</dt><dd><bdi>tfidf</bdi></dd>" in run.report().read_text(encoding="utf-8")
    assert run.verify() == []
    stored = json.loads((run.path / "config.json").read_text())["config"]["student"]
    assert (stored["kind"], stored["options"]) == ("tfidf", {"words": 300, "strength": 10.0})
    with pytest.raises(ss.RunError, match=r"student\.options"):
        call(world, tmp_path / "run", TfIdf(words=301))
    with pytest.raises(ss.ConfigError, match="no pipeline for 'tfidf'"):
        run.student.pipeline()


def test_it_takes_part_in_cross_fitting(world: World, tmp_path: Path) -> None:
    """It cannot go on from a folder: what others learn in two stages it learns at once."""
    run = call(world, tmp_path / "run", TfIdf(), ss.CrossFit(**METHOD, folds=2, final="both"))
    assert run.finished
    assert {entry["student"] for entry in run.scores if entry["student"]} >= {"labels", "both"}
    assert run.verdict
    assert run.verdict == " ".join(run.results["methods"]["crossfit"]["worth"]["words"])


def test_a_registered_one_runs_from_yaml_and_is_read_about_without_its_class(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = call(world, tmp_path / "python", TfIdf())
    (tmp_path / "config.yaml").write_text(run.config.to_yaml(), encoding="utf-8")
    STUDENTS._given.clear()
    with pytest.raises(ss.ConfigError, match=r"student\.kind is 'tfidf'"):
        ss.load_config(tmp_path / "config.yaml")
    code = f"import stepsynth as ss; run = ss.Run.load({str(run.path)!r}); print(run.finished, run.verify(), run.report().name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "[]", "report.html"]
    # After a restart, a notebook has to define the class again, and no more.
    read = f"import stepsynth as ss; print(ss.Run.load({str(run.path)!r}).student.predict(['a']))"
    alone = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)
    assert "ConfigError: student 'tfidf' is not known" in alone.stderr
    assert "Define its class in this program first" in alone.stderr
    defined = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); import own_student; {read}"
    there = subprocess.run([sys.executable, "-c", defined], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(run.student.predict(["a"]))
    point = EntryPoint("tfidf", "own_student:TfIdf", STUDENTS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point] if group == STUDENTS.group else []))
    again = ss.load_config(tmp_path / "config.yaml").run(progress=False)
    assert (again.path / "models" / "round-1" / "student.json").read_bytes() == (
        run.path / "models" / "round-1" / "student.json"
    ).read_bytes()
    for change, said in (
        ({"student.kind": "tfdif"}, r"student\.kind is 'tfdif'\. Did you mean 'tfidf'"),
        ({"student.kind": None}, "options are for a student of your own"),
        ({"student.options": {"word": 3}}, r"student 'tfidf' cannot be made with \{'word': 3\}"),
        ({"student.continued": True}, r"student\.continued does not go with the student 'tfidf'"),
    ):
        with pytest.raises(ss.ConfigError, match=said):
            ss.load_config(tmp_path / "config.yaml", change).run(tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (TfIdf, "Write TfIdf(...)."),
        (TfIdf(words=object()), "the identity of the student 'tfidf' is not JSON"),  # type: ignore[arg-type]
        (type("Mine", (TfIdf,), {"name": "classifier"})(), "has the name of a built-in one"),
        (7, "Give one of stepsynth's student classes"),
    ],
)
def test_what_is_no_student_is_one_line_before_anything_is_made(student: Any, said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", student)
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_ours_need_is_chosen_by_the_family_and_by_name(world: World) -> None:
    from stepsynth.students import create_student

    config = world.config()
    named = world.config("student.kind=classifier")
    assert type(create_student(named)) is type(create_student(config))
    with pytest.raises(ss.ConfigError, match=r"student\.kind='extractive_qa' does not go with task\.family='classification'"):
        create_student(world.config("student.kind=extractive_qa"))
    assert "kind" not in config.resolved()["student"]
    assert "options" not in config.resolved()["student"]
