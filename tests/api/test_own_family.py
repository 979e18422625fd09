"""A user's own task family: one class in one file, from a script and from YAML; it is part of what a run is known by."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from command import stepsynth
from family_worlds import asked, lend_student, rows_of, write_lines
from own_families import Rating, Reply
from stepsynth import registry
from stepsynth.config import TaskConfig
from stepsynth.registry import FAMILIES
from stepsynth.tasks import AnswerKind, Classification
from stepsynth.teachers.fake import gold_text
from stepsynth.types import Prediction
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 2, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 48}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of replies to letters, and a student that knows their words."""
    folder = tmp_path_factory.mktemp("letters")
    for name, first, count in (("validation", 0, 20), ("test", 500, 10)):
        rows = [{"letter": row["text1"], "reply": row["text2"], "label": row["label"]} for row in rows_of("pair", count, first)]
        write_lines(folder / f"{name}.jsonl", rows)
    lend_student(folder / "student")
    return folder


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test brings is not there in the next."""
    monkeypatch.setattr(FAMILIES, "_given", {})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Register both families as a package does."""

    def install() -> None:
        points = [EntryPoint(cls.name, f"own_families:{cls.__name__}", FAMILIES.group) for cls in (Rating, Reply)]
        points.append(EntryPoint("no-class", "json:dumps", FAMILIES.group))
        points.append(EntryPoint("gone", "no_such_module_here:Family", FAMILIES.group))
        monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points if group == FAMILIES.group else []))

    return install


def rating(**options: Any) -> ss.Task:
    return ss.Task(
        "invented",
        "Decide what kind of text this is.",
        family=Rating,
        labels={label: f"about {label}" for label in LABELS},
        options=options,
    )


def call(world: World, out: Path, task: ss.Task, **changes: Any) -> ss.Run:
    settings: dict[str, Any] = {
        "validation": world.folder / "validation.csv",
        "test": world.folder / "test.csv",
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "method": ss.S3(**METHOD),
        "cache": None,
        "progress": False,
        "out": out,
    }
    return ss.synthesize(task, **{**settings, **changes})


def reply_config(folder: Path, **changes: Any) -> Path:
    values = {
        "task": {"family": "reply", "name": "tone", "instruction": "Name the tone.", "labels": ["follows", "other"]},
        "data": {"validation": {"path": "validation.jsonl"}, "test": {"path": "test.jsonl"}},
        "teacher": {"backend": "fake", "model": "fake"},
        "student": {"model": "student", **STUDENT},
        "method": {"name": "s3", **METHOD},
        "cache": None,
        **changes,
    }
    values["student"] = {**values["student"], "model": str(folder / "student")}
    (folder / "config.yaml").write_text(json.dumps(values), encoding="utf-8")
    return folder / "config.yaml"


def test_a_class_in_a_script_scores_its_own_way_and_is_named_on_the_page(world: World, tmp_path: Path) -> None:
    plain = call(
        world, tmp_path / "plain", ss.Classification("invented", "Decide what kind of text this is.", rating().values["labels"])
    )
    run = call(world, tmp_path / "run", rating())
    assert run.results["family"] == "rating"
    (scores,) = [entry["select"] for entry in run.scores if entry["round"] == 0]
    (accuracy,) = [entry["select"] for entry in plain.scores if entry["round"] == 0]
    assert scores["metric"] == "closeness"
    assert scores["value"] >= accuracy["value"], "the same answers, of which near ones count for something"
    page = run.report().read_text(encoding="utf-8")
    assert "one grade per text" in page
    assert "closeness" in page
    assert run.verify() == []
    assert asked(run.path)[:9] == asked(plain.path)[:9], "it asks as the family does that it derives from"
    stored = json.loads((run.path / "config.json").read_text())["config"]["task"]
    assert stored["identity"]["metric"] == "closeness"
    assert stored["identity"]["options"] == {"steps": 2}
    assert not {"identity", "options"} & set(json.loads((plain.path / "config.json").read_text())["config"]["task"])
    assert "identity" not in run.config.to_yaml()
    assert run.student.predict(["a text"])[0] in LABELS


def test_a_run_goes_on_with_the_same_family_only(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = call(world, tmp_path / "run", rating())
    assert call(world, tmp_path / "run", rating()).scores == run.scores
    with pytest.raises(ss.RunError, match=r"task\.options"):
        call(world, tmp_path / "run", rating(steps=1))
    with monkeypatch.context() as changed:
        changed.setattr(Rating, "metric", "nearness")
        with pytest.raises(ss.RunError, match=r"task\.identity\.metric was 'closeness', is 'nearness'"):
            call(world, tmp_path / "run", rating())
    monkeypatch.setattr(Rating, "version", 2, raising=False)
    with pytest.raises(ss.RunError, match=r"task\.identity\.version was None, is 2"):
        call(world, tmp_path / "run", rating())


def test_a_finished_run_is_read_without_its_class(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = call(world, tmp_path / "run", rating())
    files = {name: (run.path / name).read_bytes() for name in ("results.json", "dataset.jsonl", "report.html")}
    monkeypatch.setattr(FAMILIES, "_given", {})
    again = ss.Run.load(run.path)
    assert (again.scores, again.rows(), again.config.task.family) == (run.scores, run.rows(), "rating")
    assert again.mistakes(0) == run.mistakes(0)
    with pytest.warns(UserWarning, match=r"dataset\.jsonl cannot be compared without the class of the task family 'rating'"):
        assert again.verify() == []
    with pytest.warns(UserWarning, match=r"dataset\.jsonl cannot be written without the class"):
        again.report()
    assert {name: (run.path / name).read_bytes() for name in files} == files
    assert stepsynth(capsys, "status", run.path).code == 0
    with pytest.raises(ss.ConfigError, match="task family 'rating' is not known"):
        again.student.predict(["a text"])


def test_a_registered_family_with_columns_of_its_own_runs_from_yaml(
    letters: Path, tmp_path: Path, installed: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed()
    folder = Path(shutil.copytree(letters, tmp_path / "world"))
    config = reply_config(folder)
    planned = stepsynth(capsys, "plan", config, "--json")
    assert planned.code == 0, planned.err
    ran = stepsynth(capsys, "run", config, "--json", "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    results = json.loads(ran.out)
    assert results["family"] == "reply"
    assert results["methods"]["s3"]["test"]["metric"] == "tone_found"
    run = ss.Run.load(tmp_path / "run")
    known = {json.loads(line)["letter"] for line in (folder / "validation.jsonl").read_text().splitlines()}
    for row in run.rows():
        assert set(row) == {"letter", "reply", "label", "round", "kind", "stage", "source", "dropped"}
        assert row["letter"] in known
    assert "Reply to it in 12 words, in this tone: follows." in "".join(asked(run.path))
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "one tone per reply to a letter" in page
    assert "tone found" in page
    # What it wrote is read again, as rows to start from and as rows to predict.
    write_lines(tmp_path / "new.jsonl", [{"post": row["letter"], "reply": row["reply"]} for row in run.rows()[:3]])
    table = stepsynth(capsys, "predict", run.path, tmp_path / "new.jsonl", "--column", "letter=post")
    assert table.code == 0, table.err
    assert list(csv.DictReader(io.StringIO(table.out)).fieldnames or ()) == ["letter", "reply", "label", "p(follows)", "p(other)"]
    assert run.student.predict([{"letter": "a letter", "reply": "a reply"}])[0] in ("follows", "other")
    seed = ("--set", f"data.seed.path={run.path / 'dataset.jsonl'}", "--set", "method.name=seed-only")
    again = stepsynth(capsys, "run", config, "--json", "--out", tmp_path / "again", *seed)
    assert again.code == 0, again.err
    assert json.loads(again.out)["methods"]["seed-only"]["rows"] == len(run.rows())


def test_an_own_family_is_compared(letters: Path, tmp_path: Path) -> None:
    task = ss.Task("tone", "Name the tone.", family=Reply, labels=["follows", "other"])
    compared = ss.compare(
        task,
        [ss.S3(**METHOD), ss.Gold()],
        validation=letters / "validation.jsonl",
        test=letters / "test.jsonl",
        seeds=1,
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(str(letters / "student"), **STUDENT),
        cache=None,
        progress=False,
        out=tmp_path / "compared",
    )
    assert list(compared.to_pandas().index) == ["s3", "gold"]
    results = json.loads((tmp_path / "compared" / "results.json").read_text())
    assert (results["family"], results["metric"]) == ("reply", "tone_found")
    page = (tmp_path / "compared" / "comparison.html").read_text(encoding="utf-8")
    assert "tone found (reply)" in page


class Unscored(ss.TaskFamily):
    pass


class Named(Classification):
    name = "pair"


class Odd(Classification):
    def identity(self) -> dict[str, Any]:
        return {"what": object()}


class Lopsided(Classification):
    def score(self, example: ss.Example, prediction: Prediction) -> float:
        return 0.5


class Unsure(Classification):
    def score(self, example: ss.Example, prediction: Prediction) -> float:
        raise TypeError("no idea")


class Torn(Classification):
    split_rule = "by_lable"  # type: ignore[assignment]


class Rootless(ss.TaskFamily):
    answer_kind: AnswerKind = "span"

    def score(self, example: ss.Example, prediction: Prediction) -> float:
        return 1.0


class Failing(Classification):
    def __init__(self, task: Any) -> None:
        raise KeyError("nothing")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (Unscored, "the task family 'Unscored' lacks score(). Implement it in the class."),
        (Named, "the task family 'pair' of this program has the name of a built-in one."),
        (int, "Derive its class from stepsynth.TaskFamily, and give the class."),
        ("ratng", "Task: family is 'ratng'. Did you mean 'rating'?"),
        (Failing, "the task family plug-in 'Failing' failed: KeyError: 'nothing'."),
        (Lopsided, "the task family 'Lopsided' scores the right answer of row 'harvest-"),
        (Unsure, "the task family 'Unsure' failed on the validation rows: TypeError: no idea."),
        (Torn, "the split_rule of the task family 'Torn' is 'by_lable'. Did you mean 'by_label'?"),
        (Rootless, "family 'Rootless' answers with spans of a text that its rows do not keep; set kept"),
        (Odd, "the identity of the task family 'Odd' is not JSON"),
    ],
)
def test_what_is_no_family_is_one_line_before_anything_is_made(
    family: Any, said: str, world: World, tmp_path: Path, installed: Callable[[], None]
) -> None:
    installed()
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", ss.Task("t", "Decide.", family=family, labels=list(LABELS)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "reply", "options": {"tone": 1}}, "family 'reply' has no option 'tone'."),
        ({"family": "classification", "options": {"steps": 1}}, "family 'classification' has no option 'steps'."),
        ({"family": "rating", "options": {"step": 1}}, "family 'rating' has no option 'step'. Did you mean 'steps'?"),
        ({"family": "rating", "options": {"steps": 0}}, "task.options.steps is 0; give 1 to 9"),
        ({"family": "rating", "labels": ["one"]}, "task.labels holds only one label ('one'); a classifier needs at least two"),
        ({"family": "rating", "options": {"steps": "x"}}, "the task family 'rating' failed on this: TypeError: "),
        ({"family": "no-class"}, "derive its class from stepsynth.TaskFamily"),
        ({"family": "gone"}, "the task family plug-in 'gone' failed: ModuleNotFoundError"),
        ({"family": "replay"}, "task.family is 'replay'. Did you mean 'reply'?"),
        ({"family": 3}, "task.family is 3."),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_code_2(
    changes: dict[str, Any], said: str, letters: Path, tmp_path: Path, installed: Callable[[], None], capsys: Any
) -> None:
    installed()
    task = {"name": "tone", "instruction": "Name the tone.", "labels": ["follows", "other"], **changes}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"task": task, "data": {"validation": {"path": str(letters / "validation.jsonl")}}}))
    outcome = stepsynth(capsys, "run", config, "--out", tmp_path / "run")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert said in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_wrong_column_of_an_own_family_is_one_line(letters: Path, tmp_path: Path, installed: Callable[[], None]) -> None:
    installed()
    folder = Path(shutil.copytree(letters, tmp_path / "world"))
    source = {"path": "validation.jsonl", "columns": {"leter": "letter"}}
    config = ss.load_config(reply_config(folder, data={"validation": source}))
    with pytest.raises(
        ss.ConfigError, match=r"names 'leter', which is not a column of the task family 'reply'\. Did you mean 'letter'"
    ):
        config.plan(progress=False)
    named = {"path": "validation.jsonl", "columns": {"letter": "letter"}}
    assert ss.load_config(reply_config(folder, data={"validation": named})).data.validation.columns == {"letter": "letter"}


def test_a_score_of_its_own_stands_beside_the_tables_of_the_family_that_it_derives_from() -> None:
    values = rating().values
    family = Rating(TaskConfig.model_validate(values))
    rows = [ss.Example(str(n), f"text {n}", label) for n, label in enumerate(LABELS)]
    near = [Prediction(row.id, "rund", {"kalm": 0.0, "rund": 1.0, "spitz": 0.0}) for row in rows]
    found = family.evaluate(rows, near)
    assert (found.metric, found.value) == ("closeness", round(2 / 3, 6))
    assert found.details["accuracy"] == round(1 / 3, 6)
    assert found.ci95[0] <= found.value <= found.ci95[1]


class Faithless(Classification):
    """Scores answers only that are sure of themselves, which no student is."""

    def score(self, example: ss.Example, prediction: Prediction) -> float:
        return {1.0: float(example.label == prediction.label)}[prediction.confidence]


def test_one_that_fails_later_is_one_line_and_nothing_is_lost(world: World, tmp_path: Path) -> None:
    task = ss.Task("t", "Decide.", family=Faithless, labels=list(LABELS))
    with pytest.raises(ss.RunError, match="the task family 'Faithless' failed on what a student answered: KeyError: "):
        call(world, tmp_path / "run", task)
    assert len(asked(tmp_path / "run")) >= 12


def test_the_documentation_does_what_it_says(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every snippet of "Your own family", in order, with a small student and the fake teacher; its contract holds, too."""
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text.partition("## Your own family")[2], re.DOTALL)
    assert len(snippets) == 3
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *((gold_text(str(1 + n % 3), n), str(1 + n % 3)) for n in range(36))])
    student = ss.Student(str(world.folder / "student"), **STUDENT)
    teacher = ss.Teacher(backend="fake", model="fake")
    small = functools.partial(ss.synthesize, student=student, teacher=teacher, cache=None, progress=False)
    monkeypatch.setattr(ss, "synthesize", small)
    scope: dict[str, Any] = {"__name__": "my_package"}
    for code in snippets:
        exec(compile(code, "families.md", "exec"), scope)
    assert scope["run"].finished
    assert scope["run"].scores[0]["select"]["metric"] == "closeness"
    assert scope["run"].config.task.options == {"steps": 1}
    contract = scope["TestStars"]()
    for name in dir(contract):
        if name.startswith("test_"):
            getattr(contract, name)()
    tone = ss.Task("tone", "Name the tone.", family=scope["Reply"], labels=["warm", "cold"])
    assert tone.values["family"] == "Reply"
