"""Texts without labels: what is drawn, what is left out, what a student learns from them, and what it must not have seen."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FAMILIES, FamilyWorld, build_family_world, lab_of, lend_student, read_lines, rows_of
from family_worlds import asked as asked_of
from spying_student import MarkingTeacher, SpyingStudent
from stepsynth import testing
from stepsynth.api.calls import synthesize
from stepsynth.api.nouns import Annotate, Classification, SelfTraining, Student
from stepsynth.api.run import Run
from stepsynth.config import RunConfig
from stepsynth.data import Pool, SealedTest, load_pool, load_validation
from stepsynth.data.rows import Tally
from stepsynth.errors import ConfigError, DataError, RunError, UserError
from stepsynth.journal import Journal
from stepsynth.loop import run_loop
from stepsynth.methods import Method, MethodContext, Plan
from stepsynth.methods.own import plans_of
from stepsynth.methods.prompted import PromptPlan
from stepsynth.report.derived import write_exports
from stepsynth.report.verify import verify_run
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.students.probe import FrozenEncoder
from stepsynth.students.similar import SimilarTexts
from stepsynth.tasks import create_family
from stepsynth.training import StudentRunner, trainings
from stepsynth.types import Example, Prediction
from test_crossfit import marked
from test_kill import Harness, kill_at
from world import build_world

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDS = 4


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture
def world(student: Path, tmp_path: Path) -> FamilyWorld:
    return pooled(tmp_path / "world", "classification", student)


def pooled(folder: Path, family: str, student: Path, count: int = 40, **method: Any) -> FamilyWorld:
    """Build a world with a pool beside its marked gold rows; its texts are in neither file."""
    settings = {f"method__{key}": value for key, value in {"name": "pool", "folds": FOLDS, **method}.items()}
    found = build_family_world(folder, family, student=student, data__pool={"path": "pool.jsonl"}, **settings)
    found.write_rows("validation.jsonl", marked(family))
    found.write_rows("pool.jsonl", [bare(row) for row in rows_of(family, count, 2000)])
    return found


def bare(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("label", "labels", "answers")}


def drawn(config: RunConfig) -> Pool:
    validation = load_validation(config)
    return load_pool(config, (*validation.harvest, *validation.select), SealedTest(config).finder())


def run(config: RunConfig, folder: Path, pupil: Any = None) -> dict[str, Any]:
    directory = RunDirectory.open(folder, config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=MarkingTeacher(), student=pupil)
        results: dict[str, Any] = write_exports(journal, directory)["methods"][config.method.name]
        return results


# reading ----------------------------------------------------------------------------------------


def test_labelled_tested_repeated_and_unusable_texts_are_left_out_and_counted(world: FamilyWorld) -> None:
    gold, test = (json.loads((world.folder / f"{name}.jsonl").read_text().splitlines()[3]) for name in ("validation", "test"))
    own = [bare(row) for row in rows_of("classification", 30, 2000)]
    same = {"text": f"  {own[4]['text'].upper()} "}
    rows = [*own, bare(gold), {"text": test["text"].upper()}, same, {"text": ""}, {"text": None}, {"text": 7}]
    world.write_rows("pool.jsonl", rows)
    found = drawn(world.config())
    assert (found.repeated, found.labelled, found.tested, found.unusable) == (1, 1, 1, 3)
    assert {row.text for row in found.rows} == {row["text"] for row in own}
    assert found.counts["read"] == len(rows) == sum(found.counts.values()) - len(rows)
    assert found.say() == "30 drawn; left out: 1 repeated, 1 also labelled, 1 also in the test set, 3 unusable"
    assert ["line 34 of" in note and "empty text" in note for note in found.notes] == [True]


def near(text: str) -> str:
    """Return a text that differs in punctuation, and in a word at its end."""
    return f"{text.replace('.', '!')} ok"


def checked(config: RunConfig) -> Pool:
    validation, test = load_validation(config), SealedTest(config)
    return load_pool(config, (*validation.harvest, *validation.select), test.finder(), None, test.near_finder)


@pytest.mark.parametrize("family", FAMILIES)
def test_near_duplicates_are_left_out_and_counted(family: str, student: Path, tmp_path: Path) -> None:
    world = pooled(tmp_path / "world", family, student)
    written = create_family(world.config().task).written
    gold, test = (json.loads((world.folder / f"{name}.jsonl").read_text().splitlines()[3]) for name in ("validation", "test"))
    own = [bare(row) for row in rows_of(family, 12, 2000)]
    alike = [{**bare(row), written: near(row[written])} for row in (gold, test, own[4])]
    world.write_rows("pool.jsonl", own)
    assert len(checked(world.config()).rows) == 12
    world.write_rows("pool.jsonl", [*own, *alike])
    found = checked(world.config())
    assert found.near == {"near_labelled": 1, "near_tested": 1, "near_repeated": 1}
    assert len(found.rows) == 12
    assert found.counts["read"] == sum(found.counts.values()) - found.counts["read"] == 15
    off = checked(world.config("method.pool_near_duplicates=none"))
    assert (len(off.rows), off.near) == (15, None)
    # Neither what is told nor what is drawn has the test row's text.
    said = " ".join((found.say(), *found.notes, *(row.text for row in found.rows)))
    assert test[written] not in said
    assert "1 nearly as in the test set" in said


def test_other_texts_take_the_place_of_near_duplicates(world: FamilyWorld) -> None:
    own = [row["text"] for row in rows_of("classification", 30, 2000)]
    world.write_rows("pool.jsonl", [{"text": text} for text in (*own, *map(near, own))])
    found = checked(world.config("method.pool_rows=20"))
    assert len(found.rows) == 20
    assert found.near is not None
    assert found.near["near_repeated"] > 0
    # A larger draw begins with a smaller one.
    assert [row.text for row in checked(world.config("method.pool_rows=10")).rows] == [row.text for row in found.rows][:10]


def test_too_many_near_duplicates_are_told(world: FamilyWorld) -> None:
    rows = [{"text": f"the same long text about boats in the harbour, number {n}"} for n in range(40)]
    world.write_rows("pool.jsonl", rows)
    found = checked(world.config("method.pool_rows=5"))
    assert len(found.rows) < 5
    assert [note for note in found.notes if "of the 20 that were compared" in note]


def test_the_draw_depends_on_texts_and_seed_alone(world: FamilyWorld) -> None:
    first = drawn(world.config("method.pool_rows=12"))
    lines = (world.folder / "pool.jsonl").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (world.folder / "pool.jsonl").write_text("\n".join(lines))
    again, other = drawn(world.config("method.pool_rows=12")), drawn(world.config("method.pool_rows=12", "seed=1"))
    texts = [[row.text for row in found.rows] for found in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == len(texts[0]) == 12
    # A larger draw begins with a smaller one.
    assert [row.text for row in drawn(world.config("method.pool_rows=20")).rows][:12] == texts[0]


def test_labels_in_a_pool_are_not_read_and_the_user_is_told(world: FamilyWorld) -> None:
    world.write_rows("pool.jsonl", rows_of("classification", 20, 2000))
    found = drawn(world.config())
    assert {row.label for row in found.rows} == {""}
    assert [note for note in found.notes if "column 'label') are not read" in note]


def test_texts_of_another_kind_are_told(world: FamilyWorld) -> None:
    assert drawn(world.config()).notes == ()
    strange = [{"text": f"Das Wetter bleibt morgen an der Küste Nummer {n} sehr windig und regnerisch"} for n in range(40)]
    world.write_rows("pool.jsonl", strange)
    # They differ in a number alone.
    (note,) = drawn(world.config("method.pool_near_duplicates=none")).notes
    assert "do not look like the labelled ones" in note


def test_a_text_file_has_a_text_in_each_line_and_a_folder_one_in_each_file(world: FamilyWorld) -> None:
    texts = [row["text"] for row in rows_of("classification", 12, 2000)]
    (world.folder / "pool.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    (world.folder / "texts" / "more").mkdir(parents=True)
    for number, text in enumerate(texts):
        (world.folder / "texts" / ("more" if number % 2 else "") / f"{number}.txt").write_text(f"{text}\n", encoding="utf-8")
    (world.folder / "texts" / "LAST.TXT").write_text(texts[0], encoding="utf-8")
    (world.folder / "texts" / "notes.md").write_text("not a text of the pool")
    tally = Tally()
    config = world.config("data.pool.path=texts")
    load_pool(config, (), lambda _: False, tally)
    assert tally.notes == ["13 .txt files; 1 other file(s) not read"]
    for place in ("pool.txt", "texts"):
        assert {row.text for row in drawn(world.config(f"data.pool.path={place}")).rows} == set(texts), place


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_its_texts_without_answers(family: str, student: Path, tmp_path: Path) -> None:
    found = drawn(pooled(tmp_path / "world", family, student).config())
    assert len(found.rows) == 40
    assert all(row.text and not row.label and not row.answers for row in found.rows)
    assert all(bool(row.context) == create_family_of(family, tmp_path / "world").has_context for row in found.rows)


def create_family_of(family: str, folder: Path) -> Any:
    return create_family(FamilyWorld(folder, family).config().task)


def _only_test_rows(world: FamilyWorld) -> None:
    lines = (world.folder / "test.jsonl").read_text()
    (world.folder / "pool.jsonl").write_text(lines)


BAD: dict[str, tuple[Callable[[FamilyWorld], object], tuple[str, ...], str]] = {
    "missing": (lambda w: (w.folder / "pool.jsonl").unlink(), (), "does not exist"),
    "empty": (lambda w: (w.folder / "pool.jsonl").write_text(""), (), "is empty"),
    "no rows": (lambda w: (w.folder / "pool.csv").write_text("text\n"), ("data.pool.path=pool.csv",), "no"),
    "equal to the test file": (_only_test_rows, (), "of 10 rows, 10 are test rows"),
    "other columns": (lambda w: w.write_rows("pool.jsonl", [{"body": "x"}]), (), "no column 'text'"),
    "labels asked for": (lambda w: None, ("data.pool.columns={label: label}",), "a pool has no labels"),
    "labels mapped": (lambda w: None, ("data.pool.labels={a: kalm}",), "pool.labels has no effect"),
    "sampled": (lambda w: None, ("data.pool.sample=5",), "method.pool_rows says how many"),
    "columns of plain texts": (
        lambda w: (w.folder / "p.txt").write_text("a text\n"),
        ("data.pool={path: p.txt, columns: {text: body}}",),
        "data.pool.columns has no effect on plain texts",
    ),
    "a folder without texts": (lambda w: (w.folder / "e").mkdir(), ("data.pool.path=e",), "no .txt files"),
    "only empty texts": (lambda w: w.write_rows("pool.jsonl", [{"text": " "}] * 3), (), "3 have no usable text"),
    "no pool": (lambda w: None, ("data.pool=null",), "needs texts without labels: name a file in data.pool"),
    "final without a pool": (
        lambda w: None,
        ("data.pool=null", "method.name=crossfit", "method.final=all"),
        "needs texts without labels",
    ),
    "final with written rows": (lambda w: None, ("method.final=stages",), "has no written rows"),
}


# A student of labelled and annotated texts may learn in two stages.
_GOOD = ("final with written rows", "annotate")


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in BAD for method in ("pool", "annotate") if (name, method) != _GOOD]
)
def test_bad_input_is_one_line_and_nothing_begins(
    name: str, method: str, world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, changes, words = BAD[name]
    spoil(world)
    settings = [part for change in (f"method.name={method}", *changes) for part in ("--set", change)]
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", *settings)
    assert said.code == 2
    assert words in said.err.replace("\n", " ")
    assert "Traceback" not in said.err
    assert not (tmp_path / "run").exists()
    # A test row's text is not shown, whatever is wrong with the pool.
    texts = [json.loads(line)["text"] for line in (world.folder / "test.jsonl").read_text().splitlines()]
    assert not [text for text in texts if text in said.err + said.out]


def test_a_method_without_a_pool_says_that_it_does_not_use_it(world: FamilyWorld) -> None:
    (note,) = load_run_data(world.config("method.name=s3")).notes
    assert note.startswith("data.pool is not used by method.name=s3")


@pytest.mark.parametrize("family", ["pair", "extractive_qa"])
def test_plain_texts_are_no_pairs_and_no_questions(family: str, student: Path, tmp_path: Path) -> None:
    world = pooled(tmp_path / "world", family, student)
    (world.folder / "texts").mkdir()
    (world.folder / "texts" / "a.txt").write_text("a text")
    (world.folder / "a.txt").write_text("a text")
    for place in ("texts", "a.txt"):
        with pytest.raises(DataError, match=r"has plain texts, but a row of this task has \w+ and \w+"):
            drawn(world.config(f"data.pool.path={place}"))


@pytest.mark.slow
def test_a_million_texts_take_bounded_memory(world: FamilyWorld) -> None:
    import tracemalloc

    with (world.folder / "pool.jsonl").open("w") as file:
        for number in range(1_000_000):
            words = hashlib.sha256(str(number % 999_000).encode()).hexdigest()
            file.write(json.dumps({"text": f"{words[:12]} of a {words[12:24]} or {words[24:36]}"}) + "\n")
    config, tally = world.config(), Tally()
    validation = load_validation(config)
    tracemalloc.start()
    test = SealedTest(config)
    found = load_pool(config, (*validation.harvest, *validation.select), test.finder(), tally, test.near_finder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(found.rows), found.repeated, tally.rows) == (1000, 1000, 1_000_000)
    assert peak < 40e6


# what a student has seen --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pool", "crossfit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_student_has_seen_a_gold_row_that_it_is_judged_by(family: str, method: str, student: Path, tmp_path: Path) -> None:
    """Nor has the student that labelled the pool for it."""
    pupil = SpyingStudent()
    config = pooled(tmp_path / "world", family, student, name=method, seed_rows=24, rounds=1).config()
    results = run(config, tmp_path / "run", pupil)
    assert pupil.leaks == []
    assert any(row.id.startswith("pool-") for train, _ in pupil.fits for row in train)
    names = ["labels", "written", "stages", "pool", "all"] if method == "crossfit" else ["labels", "pool"]
    assert [entry["student"] for entry in results["worth"]["students"]] == names
    assert verify_run(tmp_path / "run") == []


def test_the_marks_tell_if_a_label_of_the_pool_came_from_a_judged_row(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StudentRunner.predict_aside

    def leak(self: StudentRunner, parts: Any, rows: Any, stage: str, also: Any = ()) -> Any:
        if rows[0].id.startswith("pool-"):
            parts = [*parts[:-1], [*self._journal.gold("harvest"), *self._journal.gold("select")]]
        return original(self, parts, rows, stage, also)

    monkeypatch.setattr(StudentRunner, "predict_aside", leak)
    pupil = SpyingStudent()
    run(pooled(tmp_path / "world", "classification", student).config(), tmp_path / "run", pupil)
    assert pupil.leaks != []


@pytest.mark.parametrize(("method", "final"), [("pool", "auto"), ("pool", "labels"), ("crossfit", "auto"), ("crossfit", "all")])
def test_the_number_of_trainings_is_told_in_advance(method: str, final: str, student: Path, tmp_path: Path) -> None:
    pupil = SpyingStudent()
    world = pooled(tmp_path / "world", "classification", student, name=method, seed_rows=24, rounds=1)
    run(world.config(f"method.final={final}"), tmp_path / "run", pupil)
    writes = method == "crossfit"
    assert trainings(final, 1 if writes else 0, FOLDS, writes=writes, pool=True) == pupil.trainings


def test_a_stop_costs_no_more_than_the_labels_of_a_fold(world: FamilyWorld, tmp_path: Path) -> None:
    """What students of the folds said of the pool lies aside until the end, and is trained again if it is lost."""
    calm, config = SpyingStudent(), world.config("method.final=pool")
    run(config, tmp_path / "calm", calm)
    assert not (tmp_path / "calm" / "models" / ".aside").exists()
    stopped = SpyingStudent(stop=lambda number: KeyboardInterrupt() if number == FOLDS else None)  # type: ignore[arg-type, return-value]
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", stopped)
    aside = tmp_path / "run" / "models" / ".aside"
    assert len(list(aside.iterdir())) == 2 * FOLDS
    for number, file in enumerate(sorted(aside.iterdir())):
        if number % 2:
            file.unlink()
    again = SpyingStudent()
    # Labels tell who gave them, and the second process has other students.
    again.labellers = [set() for _ in range(100)]
    run(config, tmp_path / "run", again)
    assert verify_run(tmp_path / "run") == []
    assert not aside.exists()


def test_pool_needs_no_teacher_and_learns_first_from_the_pool(world: FamilyWorld, tmp_path: Path) -> None:
    pupil = SpyingStudent()
    results = run(world.config("method.final=pool"), tmp_path / "run", pupil)
    # The last one is that of labels alone, which is not chosen.
    (first, _), (last, start) = pupil.fits[-3:-1]
    assert ({row.id.split("-")[0] for row in first}, start) == ({"pool"}, pupil.outs[-3])
    assert {row.id.split("-")[0] for row in last} == {"harvest", "select"}
    assert (len(first), len(last)) == (40, 24)
    assert (results["requests"], results["worth"]["chosen"]) == (0, "pool")
    assert [entry["rows"] for entry in results["worth"]["students"]] == [24, 64]


@pytest.mark.parametrize(("labels", "pool", "chosen"), [(10, 16, "pool"), (16, 10, "labels"), (12, 12, "pool")])
def test_cross_validation_decides(labels: int, pool: int, chosen: str, world: FamilyWorld, tmp_path: Path) -> None:
    class Pupil(SpyingStudent):
        """Right by what it learned from: gold rows alone, or a pool first."""

    pupil = Pupil()
    pupil.right = lambda written, gold, number: number < (pool if pupil.fits[-1][1] else labels)
    assert run(world.config(), tmp_path / "run", pupil)["worth"]["chosen"] == chosen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_becomes_a_row_of_the_family(family: str, student: Path, tmp_path: Path) -> None:
    found = create_family(pooled(tmp_path / "world", family, student).config().task)
    row = Example("pool-1", "Who?", context="Mara Lind came." if found.has_context else "")
    if not found.spans:
        assert found.labelled(row, Prediction("pool-1", "kalm", {"kalm": 1.0})) == Example("pool-1", "Who?", "kalm", row.context)
        return
    (span,) = found.labelled(row, Prediction("pool-1", "Mara", {"Mara": 1.0}, 0)).answers  # type: ignore[union-attr]
    assert (span.text, span.start) == ("Mara", 0)
    assert found.labelled(row, Prediction("pool-1", "", {"": 1.0}, -1)) is None
    assert found.labelled(row, Prediction("pool-1", "Lind", {"Lind": 1.0}, 0)) is None


# runs ---------------------------------------------------------------------------------------------


def test_from_run_to_predict_with_a_real_student(world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "What your labels and the pool are worth" in said.out
    results = json.loads((tmp_path / "run" / "results.json").read_text())["methods"]["pool"]
    assert [entry["student"] for entry in results["worth"]["students"]] == ["labels", "pool"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the pool, then your labels" in page
    assert results["pool"] == {
        "read": 40,
        "drawn": 40,
        "not_drawn": 0,
        "repeated": 0,
        "labelled": 0,
        "tested": 0,
        "near_labelled": 0,
        "near_tested": 0,
        "near_repeated": 0,
        "unusable": 0,
    }
    assert "Texts without labels: 40 read, 40 drawn" in page
    assert stepsynth(capsys, "verify", tmp_path / "run").code == 0
    assert stepsynth(capsys, "status", tmp_path / "run").code == 0
    assert stepsynth(capsys, "report", tmp_path / "run").code == 0
    (tmp_path / "new.txt").write_text("one text\nanother text\n")
    answered = stepsynth(capsys, "predict", tmp_path / "run", tmp_path / "new.txt", "--out", tmp_path / "answers.jsonl")
    assert answered.code == 0, answered.err
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_plan_counts_the_pool_and_asks_nobody(world: FamilyWorld, capsys: pytest.CaptureFixture[str]) -> None:
    said = stepsynth(capsys, "plan", world.config_path)
    assert said.code == 0, said.err
    assert "40 texts without labels" in said.out
    assert "teacher   not used" in said.out


def test_a_changed_pool_is_not_taken_for_the_old_one(world: FamilyWorld, tmp_path: Path) -> None:
    run(world.config(), tmp_path / "run", SpyingStudent())
    world.write_rows("pool.jsonl", [bare(row) for row in rows_of("classification", 40, 3000)])
    with pytest.raises(RunError, match="the pool rows are not those that this run began with"):
        run(world.config(), tmp_path / "run", SpyingStudent())
    with pytest.raises(UserError, match=r"data\.pool"):
        RunDirectory.open(tmp_path / "run", world.config("data.pool=null", "method.name=gold"))


def test_a_pool_in_another_file_or_order_resumes(world: FamilyWorld, tmp_path: Path) -> None:
    run(world.config(), tmp_path / "run", SpyingStudent())
    lines = (world.folder / "pool.jsonl").read_text().splitlines()
    (world.folder / "moved.jsonl").write_text("\n".join(reversed(lines)))
    run(world.config("data.pool.path=moved.jsonl"), tmp_path / "run", SpyingStudent())


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8])
def test_a_killed_run_ends_byte_identical(tmp_path: Path, kills: int) -> None:
    """With real students, in processes of their own."""
    world = build_world(tmp_path / "world")
    (world.folder / "pool.txt").write_text("\n".join(row["text"] for row in rows_of("classification", 30, 2000)))
    world.write_config({"method.name": "pool", "method.folds": 2, "data.pool": {"path": "pool.txt"}})
    with Harness(tmp_path) as harness:
        calm = harness.kill(-1)
        folds = [point for point, name in enumerate(calm["passed"], 1) if "/fold-" in name or "choice" in name]
        assert len(folds) >= 4
        kill_at(harness, folds[:: max(1, len(folds) // kills)][:kills], calm)


def test_rows_from_python_are_kept_without_their_labels(student: Path, world: FamilyWorld, tmp_path: Path) -> None:
    texts = [row["text"] for row in rows_of("classification", 12, 2000)]
    gold = [json.loads(line) for line in (world.folder / "validation.jsonl").read_text().splitlines()]
    task = Classification("t", "Decide.", ["kalm", "spitz"])
    small = Student(model=str(student), epochs=1, min_steps=1, max_length=48)
    made = synthesize(
        task,
        validation=gold,
        pool=texts,
        method=SelfTraining(folds=2),
        student=small,
        out=tmp_path / "run",
        cache=None,
        progress=False,
    )
    (kept,) = (tmp_path / "run" / "data").glob("pool-*.jsonl")
    assert [json.loads(line) for line in kept.read_text().splitlines()] == [{"text": text} for text in texts]
    assert made.scores
    with pytest.raises(ConfigError, match="needs texts without labels"):
        synthesize(task, validation=gold, method=SelfTraining(), out=tmp_path / "other", cache=None, progress=False)
    with pytest.raises(DataError, match="row 1 of pool is of type int, not a text or dict: 7"):
        synthesize(task, validation=gold, pool=["a", 7], method=SelfTraining(), out=tmp_path / "other", progress=False)
    with pytest.raises(DataError, match="pool has no rows"):
        synthesize(task, validation=gold, pool=[], method=SelfTraining(), out=tmp_path / "other", progress=False)


# the teacher labels the pool --------------------------------------------------------------------------


def annotated(folder: Path, family: str, student: Path, **method: Any) -> FamilyWorld:
    return pooled(folder, family, student, **{"name": "annotate", "seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, **method})


def rows_in(folder: Path, stage: str) -> list[Any]:
    with closing(Journal(folder / "journal.db")) as journal:
        return [*journal.rows(stage=stage)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_teacher_labels_texts_then_those_like_the_mistakes(family: str, student: Path, tmp_path: Path) -> None:
    pupil, world = SpyingStudent(), annotated(tmp_path / "world", family, student)
    results = run(world.config(), tmp_path / "run", pupil)
    first, second = (rows_in(tmp_path / "run", f"round-{n}/annotate") for n in (0, 1))
    assert (len(first), len(second)) == (12, 16)
    texts = [(row.context, row.text) for row in (*first, *second)]
    assert len(set(texts)) == len(texts)
    assert set(texts) <= {(row.context, row.text) for row in drawn(world.config()).rows}
    assert {row.source for row in first} == {None}
    mistakes = {row.source for row in second}
    assert len(mistakes) == 16
    assert {source.partition("-")[0] for source in mistakes} == {"harvest", "select"}
    assert pupil.leaks == []
    stages = {stage["stage"]: stage for stage in results["stages"]}
    assert stages["round-0/annotate"]["requested"] == 12
    assert verify_run(tmp_path / "run") == []


def test_every_label_is_the_teachers_and_an_answer_without_one_is_dropped(world: FamilyWorld, tmp_path: Path) -> None:
    class Teacher(MarkingTeacher):
        def answer(self, request: Any) -> Any:
            found = super().answer(request)
            said = ("kalm", "Spitz.", "no idea", "", "label: kalm")[request.index % 5]
            return replace(found, text=said)

    folder, config = tmp_path / "run", world.config("method.name=annotate", "method.seed_rows=10", "method.rounds=0")
    directory = RunDirectory.open(folder, config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=Teacher(), student=SpyingStudent())
        write_exports(journal, directory)
    rows = rows_in(folder, "round-0/annotate")
    assert [(row.label, row.reason) for row in rows] == [
        ("kalm", ""),
        ("spitz", ""),
        ("", "no answer"),
        ("", "empty"),
        ("kalm", ""),
    ] * 2
    lines = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == ["kalm", "spitz", "kalm"] * 2
    assert verify_run(folder) == []


def test_a_teacher_that_labels_nothing_ends_the_run_with_the_reason(world: FamilyWorld, tmp_path: Path) -> None:
    class Teacher(MarkingTeacher):
        def answer(self, request: Any) -> Any:
            return replace(super().answer(request), text="no idea" if request.index % 2 else "")

    folder, config = tmp_path / "run", world.config("method.name=annotate", "method.seed_rows=10", "method.rounds=0")
    directory = RunDirectory.open(folder, config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        with pytest.raises(RunError, match=r"labelled none of the 10 texts that it was asked about \(5 empty, 5 no answer\)"):
            run_loop(directory, journal, load_run_data(config), teacher=Teacher(), student=SpyingStudent())
        assert journal.ledger.answers == 10


def test_texts_like_a_mistake_are_those_nearest_to_it(student: Path, world: FamilyWorld) -> None:
    config = world.config()
    texts, family = list(drawn(config).rows), create_family(config.task)
    similar = SimilarTexts(config.student, family, texts)
    near = similar([replace(texts[7], id="x"), texts[3]], texts)
    assert [own[0] for own in near] == [7, 3]
    assert sorted(near[0]) == list(range(len(texts)))
    assert similar([texts[7]], texts, 5) == [near[0][:5]]
    # Without a text, the others stay in their order.
    assert similar([texts[7]], texts[:7] + texts[8:])[0] == [place - (place > 7) for place in near[0][1:]]


def test_the_texts_of_a_pool_are_read_once(world: FamilyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = world.config()
    texts, family = list(drawn(config).rows), create_family(config.task)
    read: list[int] = []
    features = FrozenEncoder.features

    def counted(self: FrozenEncoder, rows: Any) -> Any:
        read.append(len(rows))
        return features(self, rows)

    monkeypatch.setattr(FrozenEncoder, "features", counted)
    monkeypatch.setattr("stepsynth.students.similar._TOGETHER", 16)
    first = SimilarTexts(config.student, family, texts, tmp_path / "aside")
    found = [first(texts[:2], texts), first(texts[2:4], texts)]
    (file,) = (tmp_path / "aside").iterdir()
    assert read == [16] * (len(texts) // 16) + ([len(texts) % 16] if len(texts) % 16 else []) + [2, 2]
    read.clear()
    again = SimilarTexts(config.student, family, texts, tmp_path / "aside")
    assert [again(texts[:2], texts), again(texts[2:4], texts)] == found
    assert read == [2, 2]
    # Another pool is not taken for this one.
    read.clear()
    SimilarTexts(config.student, family, texts[1:], tmp_path / "aside")(texts[:1], texts[1:])
    assert sum(read) == len(texts)
    again.clear()
    assert not file.exists()


def test_no_gold_row_is_shown_to_the_teacher_that_labels(world: FamilyWorld, tmp_path: Path) -> None:
    config = world.config("method.name=annotate", "method.seed_rows=10", "method.rounds=1")
    run(config, tmp_path / "run", SpyingStudent())
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        gold = [row.text for split in ("harvest", "select") for row in journal.gold(split)]
    asked = asked_of(tmp_path / "run")
    assert asked
    assert not [text for text in gold for said in asked if text in said]


def test_more_mistakes_than_texts_end_the_run_and_not_the_program(world: FamilyWorld, tmp_path: Path) -> None:
    config = world.config("method.name=annotate", "method.seed_rows=30", "method.rounds=5", "method.rows_per_mistake=3")
    results = run(config, tmp_path / "run", SpyingStudent())
    assert {name["stage"]: name["requested"] for name in results["stages"]} == {"round-0/annotate": 30, "round-1/annotate": 10}


def test_the_default_may_write_and_label(student: Path, tmp_path: Path) -> None:
    pupil = SpyingStudent()
    settings: dict[str, Any] = {
        "name": "crossfit", "seed_rows": 24, "rounds": 1, "annotate_rows": 10, "annotate_per_mistake": 1,
    }  # fmt: skip
    results = run(pooled(tmp_path / "world", "classification", student, **settings).config(), tmp_path / "run", pupil)
    stages = {stage["stage"]: stage["requested"] for stage in results["stages"]}
    assert stages["round-0/annotate"] == 10
    assert {"round-0/extrapolate", "round-1/extrapolate"} <= set(stages)
    assert pupil.leaks == []
    first, like = (rows_in(tmp_path / "run", f"round-{number}/annotate") for number in (0, 1))
    assert len({row.text for row in (*first, *like)}) == len(first) + len(like)
    assert (len(first), stages["round-1/annotate"]) == (10, len(like))
    assert {row.source for row in like} == {row.source for row in rows_in(tmp_path / "run", "round-1/extrapolate")} - {None}
    # A text that the teacher has labelled is not labelled once more by a student.
    for train, _ in pupil.fits:
        twice = {row.text for row in train if row.id.startswith("pool-")} & {row.text for row in train if "/annotate" in row.id}
        assert not twice
    assert verify_run(tmp_path / "run") == []


def test_a_run_of_an_earlier_version_labels_no_texts_like_mistakes(student: Path, tmp_path: Path) -> None:
    """A stored config without the key means none."""
    settings: dict[str, Any] = {"name": "crossfit", "seed_rows": 12, "rounds": 1, "annotate_rows": 4}
    config = pooled(tmp_path / "world", "classification", student, **settings).config()
    assert "annotate_per_mistake" not in config.resolved()["method"]
    results = run(config, tmp_path / "run", SpyingStudent())
    assert "round-1/annotate" not in {stage["stage"] for stage in results["stages"]}


@pytest.mark.parametrize("changes", [{"data.pool": None}, {"data.seed": {"path": "pool.jsonl"}}, {"method.final": "pool"}])
def test_what_does_not_go_with_it_is_refused(changes: dict[str, Any], world: FamilyWorld) -> None:
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    with pytest.raises(ConfigError, match=r"data\.pool|data\.seed|method\.final"):
        world.config("method.name=annotate", *settings)


def test_texts_to_label_need_a_pool(world: FamilyWorld) -> None:
    for key in ("annotate_rows", "annotate_per_mistake"):
        with pytest.raises(ConfigError, match=rf"method\.{key}=5 needs texts without labels"):
            world.config("data.pool=null", "method.name=crossfit", f"method.{key}=5")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8])
@pytest.mark.parametrize(
    ("method", "more"), [("annotate", {}), ("crossfit", {"annotate_rows": 4, "annotate_per_mistake": 1})], ids=["", "the default"]
)
def test_an_annotating_run_that_is_killed_ends_byte_identical(
    method: str, more: dict[str, Any], tmp_path: Path, kills: int
) -> None:
    world = build_world(tmp_path / "world")
    (world.folder / "pool.txt").write_text("\n".join(row["text"] for row in rows_of("classification", 40, 2000)))
    settings: dict[str, Any] = {"name": method, "seed_rows": 16, "rounds": 1, "folds": 2, **more}
    world.write_config({f"method.{key}": value for key, value in settings.items()} | {"data.pool": {"path": "pool.txt"}})
    with Harness(tmp_path) as harness:
        calm = harness.kill(-1)
        places = range(1, len(calm["passed"]) + 1)
        kill_at(harness, list(places)[len(places) // 5 :: max(1, len(places) // kills)][:kills], calm)


def test_annotate_plans_and_runs_from_the_shell(world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "method.name=annotate", "--set", "method.seed_rows=20", "--set", "method.rounds=1"]
    planned = stepsynth(capsys, "plan", world.config_path, *settings)
    assert planned.code == 0, planned.err
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", *settings)
    assert said.code == 0, said.err
    assert "labelled by the teacher" in said.out + said.err
    (tmp_path / "new.txt").write_text("one text\nanother text\n")
    answered = stepsynth(capsys, "predict", tmp_path / "run", tmp_path / "new.txt", "--out", tmp_path / "answers.jsonl")
    assert answered.code == 0, answered.err
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_a_cap_holds_for_texts_that_the_teacher_labels(
    world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "method.name=annotate", "--set", "method.seed_rows=20", "--set", "budget.requests=7"]
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", *settings)
    assert said.code == 2
    assert "7" in said.err
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        assert journal.totals().requests == 7
    settings[-1] = "budget.requests=100"
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", *settings)
    assert said.code == 0, said.err
    assert stepsynth(capsys, "verify", tmp_path / "run").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the texts of the pool like them that the teacher then labelled" in page
    assert "Written from it" not in page


def test_they_are_compared_with_labels_alone(world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = "gold,pool,annotate:method.rounds=0"
    settings = ["--set", "method.seed_rows=12", "--set", "method.folds=2", "--out", tmp_path / "both"]
    said = stepsynth(capsys, "compare", world.config_path, "--methods", methods, "--seeds", "2", *settings)
    assert said.code == 0, said.err
    results = json.loads((tmp_path / "both" / "results.json").read_text())
    assert [system["name"] for system in results["systems"]] == methods.split(",")
    assert [system["requests"] for system in results["systems"]] == [[0, 0], [0, 0], [12, 12]]
    assert all(system["difference"] for system in results["systems"][1:])
    page = (tmp_path / "both" / "comparison.html").read_text()
    assert "annotate" in page


class TestOwnAnnotate(testing.MethodContract):
    """A user's class derived from ours may label texts, too."""

    def make(self) -> Method:
        return Mine(seed_rows=12, rounds=1, rows_per_mistake=3)


class Mine(Annotate):
    name = "mine"


class Reserved(Mine):
    """Calls its own plan what ours is called."""

    name = "reserved"

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        for plan in super().plans(round_number, ctx):
            yield PromptPlan(ctx, lambda *_: "x", kind=str(plan.kind), wanted={"kalm": 1})


def test_only_plans_that_label_texts_may_be_called_so(world: FamilyWorld) -> None:
    config = world.config("method.name=annotate")
    ctx = lab_of(world, "method.name=annotate")[0]
    with pytest.raises(RunError, match="'round-0/annotate' of kind 'annotate', which is reserved"):
        list(plans_of(Reserved(), 0, replace(ctx, pool=drawn(config).rows)))


def test_texts_that_no_student_learns_from_are_not_labelled(student: Path, tmp_path: Path) -> None:
    pupil = SpyingStudent()
    world = pooled(tmp_path / "world", "classification", student, name="crossfit", seed_rows=24, rounds=1, final="stages")
    run(world.config(), tmp_path / "run", pupil)
    # One student is asked after the last decision, for the list of texts to label; it knows the labels alone.
    assert len(pupil.labellers) == 2
    assert {row.id.partition("-")[0] for row in pupil.fits[-1][0]} <= {"harvest", "select", "round"}
    assert not [row for train, _ in pupil.fits for row in train if row.id.startswith("pool-")]


# which to label next ----------------------------------------------------------------------------


def next_texts(folder: Path) -> list[dict[str, Any]]:
    return Run.load(folder).review(pool=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_to_label_next_are_judged_by_a_student_of_the_labels_alone(family: str, student: Path, tmp_path: Path) -> None:
    world = annotated(tmp_path / "world", family, student)
    results = run(world.config(), tmp_path / "run")
    made, texts = Run.load(tmp_path / "run"), next_texts(tmp_path / "run")
    kind = create_family(world.config().task)

    def own(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(row[name] for name in kind.text_columns)

    pool = {own(row): place for place, row in enumerate(read_lines(world.folder / "pool.jsonl"))}
    assert {own(row): row["row"] for row in texts} == pool
    assert {own(row) for row in texts if row["teacher"] is not None} == {own(row) for row in made.rows()}
    assert all(0 <= row["confidence"] <= 1 for row in texts)
    empty = {} if kind.spans else {"labels" if kind.several_labels else "label": ""}
    assert {name: value for name, value in texts[0].items() if name in ("label", "labels", "answers")} == empty
    # The student of the labels alone is kept, and can be asked again.
    number = next(entry["round"] for entry in results["worth"]["students"] if entry["student"] == "labels")
    again = made.student_of(number).predict([dict(zip(kind.text_columns, own(row), strict=True)) for row in texts])
    assert again == [row["student"] for row in texts]


def test_differing_unsure_and_random_texts_alternate_and_those_agreed_on_are_last(student: Path, tmp_path: Path) -> None:
    world = annotated(tmp_path / "world", "classification", student)
    run(world.config(), tmp_path / "run")
    texts = next_texts(tmp_path / "run")
    kinds = ["unasked" if row["teacher"] is None else "agree" if row["teacher"] == row["student"] else "differ" for row in texts]
    rows = {kind: [row for row, own in zip(texts, kinds, strict=True) if own == kind] for kind in set(kinds)}
    assert min(map(len, rows.values())) > 1
    assert len(rows) == 3
    assert kinds[-len(rows["agree"]) :] == ["agree"] * len(rows["agree"])
    assert kinds[:6] == ["differ", "unasked", "unasked"] * 2
    sure = [row["confidence"] for row in rows["differ"]]
    assert sure == sorted(sure, reverse=True)
    order = [int(row.id.partition("-")[2]) for row in drawn(world.config()).rows]
    unsure, drawn_first = texts[1], texts[2]
    assert unsure["confidence"] == min(row["confidence"] for row in rows["unasked"])
    others = [row["row"] for row in rows["unasked"] if row["row"] != unsure["row"]]
    assert drawn_first["row"] == min(others, key=order.index)


def test_texts_to_label_are_on_the_page_and_from_the_shell(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, folder = annotated(tmp_path / "world", "classification", student), tmp_path / "run"
    run(world.config(), folder)
    page, texts = (folder / "report.html").read_text(), next_texts(folder)
    assert "Texts to label next" in page
    assert texts[0]["text"] in page
    found = stepsynth(capsys, "review", folder, "--pool")
    assert found.code == 0
    assert texts[0]["text"] in found.out
    said = "40 texts to label next. A student of your labels has judged them; they alternate: one to which the teacher gives"
    assert said in found.out
    assert stepsynth(capsys, "review", folder, "--pool", "--out", tmp_path / "next.csv").code == 0
    with (tmp_path / "next.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == [row["text"] for row in texts]
    assert {line["label"] for line in lines} == {""}
    assert stepsynth(capsys, "review", folder, "--pool", "--out", tmp_path / "next.csv").code == 0, "nothing is lost"


@pytest.mark.parametrize("name", ["next.csv", "next.jsonl"])
def test_labels_that_somebody_filled_in_are_not_overwritten(
    name: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, folder, out = annotated(tmp_path / "world", "classification", student), tmp_path / "run", tmp_path / name
    run(world.config(), folder)
    assert stepsynth(capsys, "review", folder, "--pool", "--out", out).code == 0
    lines = out.read_text().splitlines()
    if name == "next.csv":
        row = next(csv.DictReader(lines))
        lines[1] = lines[1].replace(f"{row['text']},,", f"{row['text']},kalm,", 1)
    else:
        lines[0] = json.dumps({**json.loads(lines[0]), "label": "kalm"})
    out.write_text("\n".join(lines) + "\n")
    before = out.read_bytes()
    found = stepsynth(capsys, "review", folder, "--pool", "--out", out)
    assert found.code == 2
    assert f"{str(out)!r} is there, with labels or columns that stepsynth did not write: it was left as it is." in found.err
    assert out.read_bytes() == before
    # What another program saved may hold labels, too.
    for content in (b"row;text;label\r\n1;a text;kalm\r\n", "row,text\r\n1,ä\r\n".encode("cp1252"), b"[]\n{}\n"):
        out.write_bytes(content)
        assert stepsynth(capsys, "review", folder, "--pool", "--out", out).code == 2
        assert out.read_bytes() == content


def test_a_text_like_a_formula_can_be_written_unchanged(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, folder, out = annotated(tmp_path / "world", "classification", student), tmp_path / "run", tmp_path / "next.csv"
    world.write_rows("pool.jsonl", [*(bare(row) for row in rows_of("classification", 20, 2000)), {"text": "=never again, kalm"}])
    run(world.config(), folder)
    found = stepsynth(capsys, "review", folder, "--pool", "--out", out)
    assert "'=never again, kalm" in out.read_text()
    assert "1 cell got a leading apostrophe" in found.err
    found = stepsynth(capsys, "review", folder, "--pool", "--out", out, "--exact")
    assert "'=never again, kalm" not in out.read_text()
    assert "=never again, kalm" in out.read_text()
    assert "apostrophe" not in found.err


def test_without_a_pool_nobody_has_judged_texts(student: Path, tmp_path: Path) -> None:
    world = build_family_world(tmp_path / "world", "classification", student=student, method__name="seed-only")
    run(world.config(), tmp_path / "run")
    with pytest.raises(RunError, match="has judged texts without labels"):
        next_texts(tmp_path / "run")
    assert "Texts to label next" not in (tmp_path / "run" / "report.html").read_text()
