"""A user's own student that breaks a promise: one line before anything is spent, or one after which nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

import stepsynth as ss
from stepsynth.registry import STUDENTS
from stepsynth.students import guarding
from stepsynth.students.guarding import GuardedStudent, try_student
from stepsynth.tasks import create_family
from stepsynth.types import Prediction
from world import LABELS, World, build_world

TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})
SEVERAL = ss.MultiLabel("invented", "Decide what the text is about.", {label: f"about {label}" for label in LABELS})
ROWS = [ss.Example(f"row-{number}", f"text {number}", LABELS[number % 3]) for number in range(12)]
Alter = Callable[[list[Prediction]], Any]


class Rote(ss.StudentRecipe):
    """Says one label of everything; what it says is altered by ``alter``."""

    alter: Any = staticmethod(lambda found: found)

    def fit(self, train: Any, select: Any, *, seed: int, out: Path, start: Any = None, progress: Any = None) -> Any:
        (out / "label.txt").write_text(LABELS[0], encoding="utf-8")
        return Said(LABELS[0], type(self).alter)

    def load(self, folder: Path) -> Any:
        return Said((folder / "label.txt").read_text(encoding="utf-8"), type(self).alter)


class Said:
    def __init__(self, label: str, alter: Alter) -> None:
        self.label, self.alter = label, alter

    def predict(self, examples: Sequence[ss.Example]) -> Any:
        shares = {label: float(label == self.label) for label in LABELS}
        return self.alter([Prediction(row.id, self.label, dict(shares)) for row in examples])


def altered(alter: Alter) -> type[Rote]:
    return type("Rote", (Rote,), {"alter": staticmethod(alter)})


def each(**changes: Any) -> Alter:
    return lambda found: [replace(one, **changes) for one in found]


def shares(*values: Any) -> Alter:
    return each(probabilities=dict(zip(LABELS, values, strict=False)))


BROKEN: dict[str, tuple[Alter, str]] = {
    "texts": (lambda found: [one.label for one in found], "'kalm' is not a stepsynth.types.Prediction"),
    "short": (lambda found: found[1:], "predictions for"),
    "order": (lambda found: found[::-1], "must be in the order of the rows"),
    "unknown": (each(label="blau"), "the label 'blau' is not one of"),
    "no label": (each(label=""), "the label is empty, not one of"),
    "number": (each(label=3), "the label is 3, which is not a string"),
    "no shares": (each(probabilities={}), "have no entry for its label 'kalm'"),
    "list": (each(probabilities=[1.0, 0.0, 0.0]), "not a dict"),
    "None": (lambda found: None, "it returned None for"),
    "nan": (shares(float("nan"), 0.5, 0.5), "the probability of 'kalm' is nan"),
    "above": (shares(1.5, -0.5, 0.0), "the probability of 'kalm' is 1.5"),
    "sum": (shares(0.9, 0.9, 0.9), "the probabilities sum to 2.7"),
    "words": (shares("1", 0.0, 0.0), "the probability of 'kalm' is '1'"),
    "start": (each(start=None), "the start is None"),
    "raises": (lambda found: found[len(found)], "IndexError"),
}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STUDENTS, "_given", {})
    monkeypatch.setattr(guarding, "_tried", set())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def call(world: World, out: Path, student: Any) -> ss.Run:
    return ss.synthesize(
        TASK,
        validation=world.folder / "validation.csv",
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=student,
        method=ss.SeedOnly(seed_rows=12, label_check="none"),
        cache=None,
        out=out,
        progress=False,
    )


def family(task: Any = TASK) -> Any:
    return create_family(ss.config.TaskConfig.model_validate(task.values))


@pytest.mark.parametrize("how", BROKEN)
def test_what_it_predicts_is_refused_in_one_line(how: str) -> None:
    alter, said = BROKEN[how]
    recipe = altered(alter)()
    with pytest.raises(ss.ConfigError, match="the student 'Rote' failed in predict") as caught:
        try_student(recipe, family(), ROWS, ROWS, 0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _raise(*_: Any, **__: Any) -> Any:
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("method", "does", "said"),
    [
        ("fit", _raise, "failed in fit: ValueError: two lines."),
        ("fit", lambda self, rows: None, "failed in fit: TypeError"),
        ("fit", lambda self, train, select, *, out, **_: None, "wrote no file"),
        ("fit", lambda self, train, select, *, out, **_: (out / "parts").mkdir(), "it made 'parts' in out"),
        ("fit", lambda self, train, select, *, out, **_: (out / "done.json").write_text("{}"), "it wrote 'done.json'"),
        ("load", _raise, "failed in load: ValueError"),
        ("load", lambda self, folder: None, "it returned None, which has no predict"),
        ("load", lambda self, folder: (folder / "away.txt").read_text(), "failed in load: FileNotFoundError"),
    ],
)
def test_what_fails_fails_before_anything_is_spent(method: str, does: Any, said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", type("Rote", (Rote,), {method: does})())
    assert said in str(caught.value)
    assert "before spending anything" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_made_plain(world: World, tmp_path: Path) -> None:
    """The commonest slip: shares in 32 bits, which JSON does not know."""

    def alter(found: list[Prediction]) -> list[Prediction]:
        share = numpy.array([1.0, 0.0], dtype=numpy.float32)
        spread = {numpy.str_(label): value for label, value in zip(LABELS, share, strict=False)}
        return [Prediction(numpy.str_(one.example_id), numpy.str_(one.label), spread, numpy.int64(-1)) for one in found]  # type: ignore[arg-type]

    run = call(world, tmp_path / "run", altered(alter)())
    assert run.finished
    # A label that it does not name has no share.
    assert run.student.predict_proba(["text"]) == [{"kalm": 1.0, "rund": 0.0, "spitz": 0.0}]
    assert type(run.student.predict(["text"])[0]) is str


def test_what_fails_later_loses_nothing(world: World, tmp_path: Path) -> None:
    """It works on a few rows and fails on more: the same call goes on once it is fixed, and asks nothing again."""

    def alter(found: list[Prediction]) -> list[Prediction]:
        return found if found[0].example_id.endswith("/0") else found[1:]

    with pytest.raises(
        ss.RunError, match=r"the student 'Rote' failed in predict: it returned \d+ predictions for \d+ rows\. Fix it"
    ):
        call(world, tmp_path / "run", altered(alter)())
    run = call(world, tmp_path / "run", altered(lambda found: found)())
    assert run.finished


def test_several_labels_come_in_the_order_of_the_task(tmp_path: Path) -> None:
    student = GuardedStudent(altered(each(label="spitz|kalm", probabilities=dict.fromkeys(LABELS, 0.9)))(), family(SEVERAL))
    model = student.fit(ROWS, [], seed=0, out=tmp_path)
    assert model.predict(ROWS[:1])[0].label == "kalm|spitz"


def test_a_trial_leaves_random_states_and_is_made_once() -> None:
    fitted = []

    class Drawing(Rote):
        def fit(self, train: Any, select: Any, **more: Any) -> Any:
            fitted.append(len(train))
            random.seed(7)
            numpy.random.seed(7)
            return super().fit(train, select, **more)

    before = random.getstate(), numpy.random.get_state()[1].tolist()  # type: ignore[index]
    for _ in range(2):
        try_student(Drawing(), family(), ROWS, [], 0)
    assert before == (random.getstate(), numpy.random.get_state()[1].tolist())  # type: ignore[index]
    assert fitted == [18]
