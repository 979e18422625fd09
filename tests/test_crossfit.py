"""Cross-fitting: no gold row judges a student that has seen it, a stopped run goes on, the choice, the table and its words."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import stepsynth
from family_worlds import FAMILIES, FamilyWorld, build_family_world, lend_student, rows_of
from kill_harness import fingerprint
from spying_student import STEPS, MarkingTeacher, SpyingStudent, marks_of
from stepsynth.cli.running import print_results, read_status
from stepsynth.comparison import parse_systems, read_cell
from stepsynth.comparison.cells import _budgeted
from stepsynth.config import RunConfig
from stepsynth.data import Folds, SealedTest, deal_folds
from stepsynth.errors import ConfigError, RunError
from stepsynth.journal import Journal
from stepsynth.journal.results import best_round
from stepsynth.loop import run_loop
from stepsynth.report.derived import write_exports
from stepsynth.report.verify import verify_run
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.runtime.progress import SilentProgress
from stepsynth.students.curve import _out_of_fold, learning_curve
from stepsynth.tasks import create_family
from stepsynth.tasks.classification import Classification
from stepsynth.training import StudentRunner, find_worth
from stepsynth.training.crossfit import SPLIT, CrossFit
from stepsynth.training.worth import _not_taken, _taught_nothing
from stepsynth.types import Example
from test_kill import Harness, kill_at, one_of_each
from world import build_world

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS, FOLDS = 1, 4
# As `settle` chooses.
SEED_FROM = {"classification": "gold", "multi_label": "gold", "pair": "reasons", "extractive_qa": "reasons"}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def worlds(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FamilyWorld]:
    """A world per family whose gold rows are marked."""
    root = tmp_path_factory.mktemp("worlds")
    found = {}
    for family in FAMILIES:
        method: dict[str, Any] = {"name": "crossfit", "seed_rows": 24, "seed_from": SEED_FROM[family]}
        settings = {f"method__{key}": value for key, value in method.items()}
        world = build_family_world(root / family, family, student=student, **settings)
        world.write_rows("validation.jsonl", marked(family))
        found[family] = world
    return found


def marked(family: str, count: int = 24) -> list[dict[str, Any]]:
    """Return gold rows with a mark in every text and context; every third context has a second row."""
    rows = rows_of(family, count)
    for number, row in enumerate(rows):
        for name in ("text", "text1", "text2"):
            if name in row:
                row[name] = f"{row[name]} zqmark{number}x"
        if "question" in row:
            row["question"] = f"{row['question'].removesuffix('?')} zqmark{number}x?"
            row["context"] = f"{row['context']} zqmark{number}x"
    for name in ("text1", "context"):
        for number in range(1, count, 3):
            if name in rows[number]:
                rows[number][name] = rows[number - 1][name]
                if name == "context":
                    rows[number]["answers"] = rows[number - 1]["answers"]
    return rows


def run(config: RunConfig, folder: Path, pupil: SpyingStudent, teacher: Any = None) -> dict[str, Any]:
    """Run, or go on, with this student; return the results."""
    directory = RunDirectory.open(folder, config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=teacher or MarkingTeacher(), student=pupil)
        results: dict[str, Any] = write_exports(journal, directory)["methods"]["crossfit"]
        return results


def open_journal(folder: Path) -> closing[Journal]:
    return closing(Journal(folder / "journal.db"))


# no gold row judges a student that has seen it ----------------------------------------------


# No student tells how likely a span is.
FINALS = [
    (family, final)
    for family in FAMILIES
    for final in ("auto", "both", "written", "weighted")
    if (family, final) != ("extractive_qa", "weighted")
]


@pytest.mark.parametrize(("family", "final"), FINALS)
def test_no_student_has_seen_a_gold_row_that_it_is_judged_by(
    family: str, final: str, worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    """Neither the row nor a row that was written with it in the prompt, nor the student that weighed it; a mark would tell."""
    pupil = SpyingStudent()
    run(worlds[family].config(f"method.final={final}"), tmp_path / "run", pupil)
    assert pupil.leaks == []
    # One student in each fold, and one for the student that is kept.
    assert len(pupil.weighers) == (FOLDS + 1 if final == "weighted" else 0)
    written = [row for train, _ in pupil.fits for row in train if row.id.startswith("round-1/")]
    assert any(len(marks_of(f"{row.text} {row.context}")) > 1 for row in written), "no prompt showed two gold rows"
    with open_journal(tmp_path / "run") as journal:
        ids = {row.id for split in ("harvest", "select") for row in journal.gold(split)}
        for number in journal.rounds("crossfit"):
            assert {graded.prediction.example_id for graded in journal.graded(number, "crossfit")} == ids
        sources = {row.source for row in journal.rows(stage="round-1/extrapolate")}
        assert {source.partition("-")[0] for source in sources if source} == {"harvest", "select"}
    assert verify_run(tmp_path / "run") == []


@pytest.mark.parametrize("contexts", ["gold", "own"])
def test_pairs_written_like_gold_rows_are_kept_from_their_fold(
    contexts: str, worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context of a seed row is one of the gold rows' or the user's own; the rows beside it in the prompt are of one fold."""
    world = worlds["pair"]
    changes = ["method.seed_from=examples", "method.demonstrations=fixed", "task.prompt_style=capable"]
    if contexts == "own":
        world.write_rows("contexts.jsonl", [{"context": row["text1"]} for row in rows_of("pair", 9, 3000)])
        changes.append("data.contexts.path=contexts.jsonl")
    pupil = SpyingStudent()
    run(world.config(*changes), tmp_path / "run", pupil)
    assert pupil.leaks == []
    with open_journal(tmp_path / "run") as journal:
        seeds = list(journal.rows(stage="round-0/seed", accepted=True))
        assert not journal.stage_done("round-0/rationales")
        folds = deal_folds([*journal.gold("harvest"), *journal.gold("select")], 4, world.config().seed)
    assert len(seeds) == 24
    assert any(len(marks_of(row.text)) > 1 for row in seeds), "no prompt showed two gold rows"
    for label in {row.label for row in seeds}:
        own = Counter(folds.written(row.source, row.context) for row in seeds if row.label == label)
        assert None not in own
        assert len(own) >= 3, "the rows of a label are of several folds"
    assert verify_run(tmp_path / "run") == []
    monkeypatch.setattr(Folds, "together", lambda *_: True)
    pupil = SpyingStudent()
    run(world.config(*changes), tmp_path / "mixed", pupil)
    assert pupil.leaks != [], "the marks would tell"


def test_the_marks_tell_who_weighed_a_row(
    worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StudentRunner.predict_aside

    def leak(self: StudentRunner, parts: Any, rows: Any, stage: str, also: Any = ()) -> Any:
        if rows[0].id.startswith("round-"):
            parts = [[*self._journal.gold("harvest"), *self._journal.gold("select")]]
        return original(self, parts, rows, stage, also)

    monkeypatch.setattr(StudentRunner, "predict_aside", leak)
    pupil = SpyingStudent()
    run(worlds["classification"].config("method.final=weighted"), tmp_path / "run", pupil)
    assert pupil.leaks != []


@pytest.mark.parametrize("broken", ["written rows", "prompts", "contexts", "gold rows at first", "gold rows at last"])
def test_the_marks_tell_when_one_was_seen(
    broken: str, worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nothing above would be shown."""
    written = Folds.written
    if broken == "written rows":
        monkeypatch.setattr(Folds, "written", lambda *_: None)
    elif broken == "contexts":
        monkeypatch.setattr(Folds, "written", lambda self, source, _: written(self, source, ""))
    elif broken == "prompts":
        monkeypatch.setattr(Folds, "together", lambda *_: True)
    else:
        judge, place = StudentRunner.judge_aside, 0 if broken == "gold rows at first" else -1

        def leak(self: StudentRunner, parts: Any, judged: Any, *rest: Any) -> Any:
            parts = [list(part) for part in parts]
            parts[place].append(judged[0])
            return judge(self, parts, judged, *rest)

        monkeypatch.setattr(StudentRunner, "judge_aside", leak)
    pupil = SpyingStudent()
    run(worlds["extractive_qa" if broken == "contexts" else "classification"].config(), tmp_path / "run", pupil)
    assert pupil.leaks != []


def test_the_test_set_is_opened_once_after_the_choice_and_the_last_training(
    worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[bool, int]] = []
    original, pupil = SealedTest.open, SpyingStudent()

    def spy(self: SealedTest, *arguments: Any) -> Any:
        with open_journal(tmp_path / "run") as journal:
            opened.append((journal.stage_done("choice"), len(pupil.fits)))
        return original(self, *arguments)

    monkeypatch.setattr(SealedTest, "open", spy)
    for _ in range(2):
        run(worlds["classification"].config(), tmp_path / "run", pupil)
    assert opened == [(True, len(pupil.fits))]


# how many trainings, and what is kept ---------------------------------------------------------


def test_each_fold_is_one_training_and_three_students_are_kept(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    pupil = SpyingStudent()
    results = run(worlds["classification"].config(), tmp_path / "run", pupil)
    assert pupil.trainings == (ROUNDS + 1) * FOLDS + FOLDS + 3
    # Those of the rounds, and the last one, are made in two stages.
    assert len(pupil.fits) == 2 * (ROUNDS + 1) * FOLDS + FOLDS + 4
    assert sorted(path.name for path in (tmp_path / "run" / "models").iterdir()) == ["final", "round-2", "round-3", "round-5"]
    gold, written = 24, sum(entry["new_rows"] for entry in results["rounds"])
    assert [len(train) for train, _ in pupil.fits[-4:]] == [written, gold, gold, written]
    assert [entry["round"] for entry in results["rounds"]] == [0, 1, 2, 3, 5]
    assert [entry.get("student") for entry in results["rounds"]] == [None, None, "labels", "written", "stages"]
    assert [entry["rows"] for entry in results["rounds"][2:]] == [gold, written, gold + written]


@pytest.mark.parametrize("final", ["auto", "labels", "written", "both", "stages", "weighted"])
def test_plan_says_how_many_students_are_trained(
    final: str, worlds: dict[str, FamilyWorld], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pupil, world = SpyingStudent(), worlds["classification"]
    run(world.config(f"method.final={final}"), tmp_path / "run", pupil)
    said = stepsynth(capsys, "plan", world.config_path, "--set", f"method.final={final}")
    assert f"trained {pupil.trainings} times" in said.out


@pytest.mark.parametrize("final", ["auto", "both", "stages"])
def test_two_stages_go_on_from_written_rows_with_gold_ones(final: str, worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    pupil = SpyingStudent()
    results = run(worlds["classification"].config(f"method.final={final}"), tmp_path / "run", pupil)
    assert results["best_round"] == (4 if final == "both" else 5)
    second = [place for place, (_, start) in enumerate(pupil.fits) if start]
    # Of every fold in every round, and of what is kept.
    assert len(second) == (ROUNDS + 1) * FOLDS + (final != "both")
    for place in second:
        (first, base), (last, start) = pupil.fits[place - 1 : place + 1]
        assert (base, start) == (None, pupil.outs[place - 1])
        assert {row.id.startswith("round-") for row in first} == {True}
        assert {row.id.startswith("round-") for row in last} == {False}
    if final == "both":
        last, start = pupil.fits[-3]
        assert start is None
        assert {row.id.startswith("round-") for row in last} == {True, False}


def test_a_probe_cannot_be_trained_on_and_learns_from_both_kinds_at_once(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    pupil = SpyingStudent()
    results = run(worlds["classification"].config("student.head=probe"), tmp_path / "run", pupil)
    assert len(pupil.fits) == pupil.trainings == (ROUNDS + 1) * FOLDS + FOLDS + 3
    last, labels, written = (len(train) for train, _ in pupil.fits[-3:])
    assert last == labels + written
    assert results["best_round"] == 5
    assert pupil.leaks == []


@pytest.mark.parametrize("family", ["classification", "extractive_qa"])
def test_two_stages_make_as_many_steps_as_one_training(family: str, student: Path, tmp_path: Path) -> None:
    """Otherwise a comparison of recipes would be one of step counts; with real students."""
    world = build_family_world(tmp_path / "world", family, student=student, method__name="crossfit")
    changes = ("method.rounds=0", "method.folds=2", "student.min_steps=16", "student.epochs=1", "student.batch_size=32")
    config = world.config(*changes, "student.keep=last")
    directory = RunDirectory.open(tmp_path / "run", config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=MarkingTeacher())
        results = write_exports(journal, directory)["methods"]["crossfit"]
    assert {entry["student"]: entry["steps"] for entry in results["worth"]["students"]} == dict.fromkeys(
        ("labels", "written", "stages"), 16
    )
    for number, made in ((1, 16), (2, 16), (4, 8)):
        record = json.loads((tmp_path / "run" / "models" / f"round-{number}" / "training.json").read_text())
        assert record["steps"] == 16
        # What this call of two made by itself: one step an epoch.
        assert len(record["epochs"]) == made


@pytest.mark.parametrize(("steps", "half"), [(100, 50), (7, 4), (1, 1), (0, 0)])
def test_the_halves_of_the_steps_are_never_fewer_than_all(
    steps: int, half: int, worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an odd number one step more is made; what else a student is told stays as it is."""
    told: list[Any] = []

    def create(config: RunConfig) -> SpyingStudent:
        told.append(config.student)
        return SpyingStudent()

    monkeypatch.setattr("stepsynth.loop.create_student", create)
    config = worlds["classification"].config(f"student.min_steps={steps}")
    directory = RunDirectory.open(tmp_path / "run", config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=MarkingTeacher())
    whole = config.student
    assert sorted(found.min_steps for found in told) == [half, steps]
    assert all(found.model_copy(update={"min_steps": steps}) == whole for found in told)


def test_students_that_another_run_judged_are_not_trained_again(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """Runs of one comparison share what their folds' students said, and the students that they keep."""
    counts = []
    for final in ("stages", "both", "auto"):
        config, pupil = worlds["classification"].config(f"method.final={final}"), SpyingStudent()
        directory = RunDirectory.open(tmp_path / final, config)
        with closing(directory), closing(Journal(directory.journal_path)) as journal:
            shared = tmp_path / "students"
            run_loop(directory, journal, load_run_data(config), teacher=MarkingTeacher(), student=pupil, students=shared)
        counts.append((pupil.trainings, len(pupil.fits)))
    rounds = (ROUNDS + 1) * FOLDS
    assert counts == [(rounds + FOLDS + 3, 2 * rounds + FOLDS + 4), (FOLDS + 1, FOLDS + 1), (0, 0)]
    with open_journal(tmp_path / "both") as first, open_journal(tmp_path / "stages") as second:
        assert first.graded(1, "crossfit") == second.graded(1, "crossfit")
    for number in (2, 3, 5):
        kept = [(tmp_path / final / "models" / f"round-{number}" / "seen.json").read_bytes() for final in ("stages", "auto")]
        assert kept[0] == kept[1]


# stops ----------------------------------------------------------------------------------------


class Stop(Exception):
    """Whatever ends a process."""


def test_weights_are_those_of_a_student_of_labels_alone(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """In a fold, of the one that judges labels alone there, which is not trained again, even if the run is stopped between."""
    calm, config = SpyingStudent(), worlds["classification"].config("method.final=weighted")
    results = run(config, tmp_path / "calm", calm)
    assert results["worth"]["chosen"] == "weighted"
    weighed = [place for place, (train, _) in enumerate(calm.fits) if any(row.weight != 1.0 for row in train)]
    assert len(weighed) == FOLDS + 1
    for train in (calm.fits[place][0] for place in weighed):
        assert all(row.id.startswith("round-") for row in train)
        assert sum(row.weight for row in train) == pytest.approx(len(train), abs=1e-3)
    assert not (tmp_path / "calm" / "models" / ".aside").exists()
    # The first and the second part of a weighted fold, and those of the student that is kept.
    for place, lost in ((weighed[1], 0), (weighed[1] + 1, 0), (weighed[1], 1), (weighed[-1], 0), (weighed[-1] + 1, 0)):
        folder = tmp_path / f"{place}-{lost}"
        stopped = SpyingStudent(stop=lambda n, place=place: Stop() if n == place else None)  # type: ignore[misc]
        with pytest.raises(Stop):
            run(config, folder, stopped)
        # What a disk has lost is made again.
        for file in list((folder / "models" / ".aside").iterdir()) if lost else []:
            file.unlink()
        again = SpyingStudent()
        # Weights tell who gave them, and the second process has other students; those of lost files are weighers anew.
        again.weighers = list(stopped.weighers)
        run(config, folder, again)
        assert again.leaks == []
        assert verify_run(folder) == []
        if not lost:
            assert fingerprint(folder) == fingerprint(tmp_path / "calm"), place
            # Of two parts the first one is repeated.
            assert len(stopped.fits) + len(again.fits) - len(calm.fits) == (place - 1 in weighed), place


def test_a_run_that_is_stopped_in_any_training_goes_on_to_the_same_bytes(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """And no fold that was judged is trained again."""
    config, calm = worlds["classification"].config("method.final=stages"), SpyingStudent()
    run(config, tmp_path / "calm", calm)
    # In either part of a round's folds, in those of labels alone, and in those that are kept.
    assert len(calm.fits) == 24
    for number in (0, 1, 10, 15, 17, 20, 21, 22, 23):
        folder = tmp_path / str(number)
        pupil = SpyingStudent(stop=lambda n, number=number: Stop() if n == number else None)  # type: ignore[misc]
        with pytest.raises(Stop):
            run(config, folder, pupil)
        # What a killed process leaves: the first of two stages, which nothing may go on from.
        rest = folder / "models" / (".first.part" if number >= 20 else ".fold.part") / "1"
        rest.mkdir(parents=True)
        (rest / "seen.json").write_text("{}")
        (rest / "rest.bin").write_bytes(b"rest")
        again = SpyingStudent()
        run(config, folder, again)
        # The second part of two stages begins with the first one.
        assert len(pupil.fits) + len(again.fits) - len(calm.fits) == (number in (1, 15, 21)), number
        assert fingerprint(folder) == fingerprint(tmp_path / "calm"), number
        assert [path.name for path in (folder / "models").iterdir() if "part" in path.name] == []
        assert verify_run(folder) == []


def test_a_run_that_is_stopped_after_each_commit_goes_on_to_the_same_bytes(
    worlds: dict[str, FamilyWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = worlds["pair"].config()
    run(config, tmp_path / "calm", SpyingStudent())
    stages = [name for name, *_ in stages_of(tmp_path / "calm")]
    assert {"round-0/fold-3", "round-1/crossfit", "round-2/fold-0", "choice", "round-5/train", "test"} <= set(stages)
    original = Journal._insert_stage
    for stage in ("round-0/fold-3", "round-1/crossfit", "round-2/fold-0", "choice", "round-5/train", "test"):
        folder = tmp_path / stage.replace("/", "-")

        def insert(self: Journal, name: str, *arguments: Any, stage: str = stage) -> None:
            original(self, name, *arguments)
            if name == stage:
                raise Stop

        with monkeypatch.context() as patched:
            patched.setattr(Journal, "_insert_stage", insert)
            with pytest.raises(Stop):
                run(config, folder, SpyingStudent())
        run(config, folder, SpyingStudent())
        assert fingerprint(folder) == fingerprint(tmp_path / "calm"), stage


def stages_of(folder: Path) -> list[tuple[str, int, str, dict[str, Any], float]]:
    with open_journal(folder) as journal:
        return journal.stages()


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_a_cross_fitted_run_killed_among_its_folds_ends_byte_identical(tmp_path: Path, kills: int) -> None:
    """With real students, in processes of their own."""
    build_world(tmp_path / "world").write_config({"method.name": "crossfit", "method.rounds": 1, "method.folds": 2})
    with Harness(tmp_path) as harness:
        calm = harness.kill(-1)
        passed = enumerate(calm["passed"], 1)
        folds = [point for point, name in passed if "/fold-" in name or "choice" in name or "crossfit" in name]
        assert len(folds) >= 8
        points = [folds[len(folds) // 2], one_of_each(calm["passed"])[-1], *folds[:: max(1, len(folds) // 6)]]
        kill_at(harness, points[:kills], calm)


# the choice -----------------------------------------------------------------------------------


def outcome(labels: int, both: int) -> Callable[[bool, bool, int], bool]:
    """Return who gets which of 24 rows right: as many as told, by what a student has learned from."""
    return lambda written, gold, number: number < (both if written else labels)


@pytest.mark.parametrize(
    ("labels", "both", "chosen"),
    [(10, 16, "stages"), (16, 10, "labels"), (12, 12, "stages"), (14, 12, "labels"), (0, 0, "stages")],
)
def test_most_gold_rows_right_decides_and_a_tie_is_for_both(
    labels: int, both: int, chosen: str, worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    results = run(worlds["classification"].config(), tmp_path / "run", SpyingStudent(outcome(labels, both)))
    worth = results["worth"]
    assert (worth["chosen"], worth["how"]) == (chosen, "cross-validation")
    assert [entry["student"] for entry in worth["students"] if entry["chosen"]] == [chosen]
    assert results["best_round"] == next(entry["round"] for entry in worth["students"] if entry["chosen"])
    found = {entry["student"]: entry["crossfit"] and round(24 * entry["crossfit"]["value"]) for entry in worth["students"]}
    assert found == {"labels": labels, "written": None, "stages": both}
    with open_journal(tmp_path / "run") as journal:
        assert best_round(journal) == results["best_round"]
    cell = read_cell(tmp_path / "run", "crossfit")
    assert (cell.best_round, cell.rows) == (results["best_round"], results["rows"])


@pytest.mark.parametrize(
    ("labels", "both", "chosen"),
    [
        # Ahead by no more than the root of the rows on which the two differ.
        (1, 0, "stages"),
        (3, 1, "stages"),
        (6, 3, "stages"),
        (7, 4, "stages"),
        # By more.
        (2, 0, "labels"),
        (4, 1, "labels"),
        (9, 5, "labels"),
        # Written rows need no lead, however small theirs is.
        (0, 1, "stages"),
        (11, 12, "stages"),
    ],
)
def test_labels_alone_are_taken_only_beyond_one_standard_error(
    labels: int, both: int, chosen: str, worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    """So many of 24 rows are right by labels alone and not by both, so many the other way round, the others by either."""
    pupil = SpyingStudent(
        lambda written, gold, number: not (labels <= number < labels + both) if not written else number >= labels
    )
    results = run(worlds["classification"].config(), tmp_path / "run", pupil)
    right = {name: 24 - missed for name, missed in (("labels", both), ("stages", labels))}
    found = {
        entry["student"]: entry["crossfit"] and round(24 * entry["crossfit"]["value"]) for entry in results["worth"]["students"]
    }
    assert found == {**right, "written": None}
    assert results["worth"]["chosen"] == chosen
    with open_journal(tmp_path / "run") as journal:
        info = next(info for _, _, kind, info, _ in journal.stages() if kind == "choice")
    assert (info["chosen"], info["right"]) == (chosen, right)


@pytest.mark.parametrize(
    ("right", "chosen"),
    [
        # The run that suggested it: 46, 46, 48 and 47 of 60 rows right, and 8.6 points lost on the test.
        ({"labels": 46, "stages": 46, "pool": 48, "all": 47}, "stages"),
        ({"labels": 40, "stages": 46, "pool": 60, "all": 47}, "pool"),
        ({"labels": 40, "stages": 46, "pool": 55, "all": 57}, "all"),
        ({"labels": 60, "stages": 40, "pool": 40, "all": 40}, "labels"),
        ({"labels": 50, "stages": 38, "pool": 38, "all": 49}, "all"),
        ({"labels": 46, "stages": 46, "pool": 46, "all": 46}, "stages"),
        # Without written rows, the pool is what the user has given.
        ({"labels": 47, "pool": 46}, "pool"),
        ({"labels": 52, "pool": 46}, "labels"),
    ],
)
def test_another_student_than_the_expected_one_is_taken_only_beyond_one_standard_error(
    right: dict[str, int], chosen: str
) -> None:
    class Graded(NamedTuple):
        score: float

    class Kept:
        def graded(self, number: int, split: str) -> list[Graded]:
            assert split == SPLIT
            # The rows that one has wrong are not those of its neighbour.
            return [Graded(float((place + 30 * number) % 60 < list(right.values())[number])) for place in range(60)]

    crossfit = object.__new__(CrossFit)
    crossfit._journal = Kept()  # type: ignore[assignment]
    crossfit._gold = [Example(f"g{place}", f"text {place}", "a") for place in range(60)]
    assert crossfit._best({name: number for number, name in enumerate(right)}, list(right)) == chosen


@pytest.mark.parametrize("final", ["labels", "written", "both", "stages", "weighted"])
def test_a_fixed_recipe_is_taken_whatever_is_right(final: str, worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    right = outcome(4, 20) if final == "labels" else outcome(20, 4)
    results = run(worlds["classification"].config(f"method.final={final}"), tmp_path / "run", SpyingStudent(right))
    worth = results["worth"]
    assert (worth["chosen"], worth["how"]) == (final, "method.final")
    kept = {"labels", "written", final if final in ("both", "weighted") else "stages"}
    assert {entry["student"] for entry in worth["students"]} == kept
    judged = {entry["student"] for entry in worth["students"] if entry["crossfit"]}
    assert judged == {"labels", final, *({"stages"} & kept)}
    assert verify_run(tmp_path / "run") == []


def test_a_teacher_whose_rows_are_all_dropped_leaves_the_labels(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """Written rows alone are then nothing to train on; the run ends with a student all the same."""

    class Mute(MarkingTeacher):
        def answer(self, request: Any) -> Any:
            from dataclasses import replace

            answer = super().answer(request)
            return answer if request.stage.endswith("rationales") else replace(answer, text="")

    results = run(worlds["classification"].config(), tmp_path / "run", SpyingStudent(), Mute())
    assert [entry["student"] for entry in results["worth"]["students"]] == ["labels"]
    assert {entry["rows"] for entry in results["worth"]["students"]} == {24}
    assert results["worth"]["chosen"] == "labels"
    first = results["worth"]["words"][0]
    assert re.fullmatch(
        r"None of the \d+ written rows was kept \(\d+ empty.*\): the final student learns from your labels alone\.", first
    )
    assert verify_run(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("final", "mute", "said"),
    [
        ("labels", False, "The final student learns from labels alone, as set in method.final ("),
        ("auto", False, "The final student learns from both kinds of rows, by gold rows right in cross-validation ("),
        ("auto", True, "The final student learns from labels alone, since no row was kept ("),
    ],
)
def test_the_note_says_why_a_student_was_chosen(
    final: str, mute: bool, said: str, worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    class Noting(SilentProgress):
        def note(self, message: str) -> None:
            notes.append(message)

    class Teacher(MarkingTeacher):
        def answer(self, request: Any) -> Any:
            from dataclasses import replace

            answer = super().answer(request)
            return replace(answer, text="") if mute else answer

    notes: list[str] = []
    config, pupil = worlds["classification"].config(f"method.final={final}"), SpyingStudent(outcome(10, 16))
    directory = RunDirectory.open(tmp_path / "run", config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=Teacher(), student=pupil, progress=Noting())
    (note,) = (note for note in notes if note.startswith("The final student"))
    assert note.startswith(said)


def test_a_quiet_run_whose_rows_are_all_dropped_says_so(
    worlds: dict[str, FamilyWorld], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(MarkingTeacher):
        def answer(self, request: Any) -> Any:
            from dataclasses import replace

            return replace(super().answer(request), text="")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", lambda _: Mute())
    monkeypatch.setattr("stepsynth.loop.create_student", lambda _: SpyingStudent())
    said = stepsynth(capsys, "run", worlds["classification"].config_path, "--out", tmp_path / "run", "--quiet")
    assert (said.code, said.out) == (0, f"{tmp_path / 'run'}\n")
    assert said.err.startswith("stepsynth: warning: None of the ")


def test_no_gain_twice_ends_the_rounds(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config("method.rounds=5", "method.stop=no-gain")
    for _ in range(2):
        results = run(config, tmp_path / "run", SpyingStudent())
        assert [entry["round"] for entry in results["rounds"] if "student" not in entry] == [0, 1, 2]


# the table and its words ------------------------------------------------------------------------


def test_the_table_is_in_the_terminal_the_results_the_status_and_on_the_page(
    worlds: dict[str, FamilyWorld], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    results = run(worlds["classification"].config(), folder, SpyingStudent(outcome(4, 24)))
    students = results["worth"]["students"]
    made = {"labels": STEPS, "written": STEPS, "stages": 2 * STEPS}
    assert {entry["student"]: entry["steps"] for entry in students} == made
    assert students[0]["difference"] is None
    difference = students[2]["difference"]
    assert (difference["value"], difference["on"], difference["n"]) == (0.6, "test", 10)
    assert difference["ci95"][0] > 0
    assert difference["p"] == pytest.approx(2 / 2**6)
    assert json.loads((folder / "results.json").read_text())["methods"]["crossfit"]["worth"] == results["worth"]
    assert read_status(folder)["results"]["methods"]["crossfit"]["worth"] == results["worth"]
    print_results(json.loads((folder / "results.json").read_text()), folder)
    printed = capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    for said in ("labels alone", "both kinds", "100.0", "+60.0", "The written rows help"):
        assert said in printed
    for said in ("your labels alone", "both, written rows first", "100.0", "+60.0", "The written rows help", "Cross-validated"):
        assert said in page
    assert "Select" not in page
    outcome_ = stepsynth(capsys, "status", folder)
    assert "labels alone" in outcome_.out


@pytest.mark.parametrize(
    ("labels", "both", "said"),
    [
        (4, 24, ["The written rows help: labels and written rows together are worth 60.0 points more than your labels alone"]),
        (12, 12, ["No difference is established", "A stronger teacher", "What would help"]),
        (
            24,
            4,
            ["The final student learns from your labels alone: they got 24 of 24 gold rows right in cross-validation, 4 with"],
        ),
        (24, 4, ["Your labels alone are better: labels and written rows together are worth 60.0 points less"]),
        (24, 24, ["Your labels leave little room: a student of them alone gets 100.0 % right in cross-validation."]),
    ],
)
def test_the_words_say_plainly_what_the_rows_are_worth(
    labels: int, both: int, said: list[str], worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    words = run(worlds["classification"].config(), tmp_path / "run", SpyingStudent(outcome(labels, both)))["worth"]["words"]
    assert all(any(sentence.startswith(part) for sentence in words) for part in said), words
    # Where labels get nearly all rows right, nothing is worth its price.
    assert any("What would help" in sentence for sentence in words) is (both <= labels < 24)
    assert any("little room" in sentence for sentence in words) is (labels == 24)


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "on", "chosen", "how", "kept"),
    [
        (0.03, 0.01, 0.05, 0.001, "test", "labels", "cross-validation", "models/round-5"),
        (-0.03, -0.05, -0.01, 0.001, "test", "stages", "cross-validation", "models/round-2"),
        # The one that the test set prefers was taken, or it prefers none, or nobody chose.
        (0.03, 0.01, 0.05, 0.001, "test", "stages", "cross-validation", ""),
        (-0.03, -0.05, -0.01, 0.001, "test", "labels", "cross-validation", ""),
        (0.03, -0.01, 0.07, 0.2, "test", "labels", "cross-validation", ""),
        (0.03, 0.01, 0.05, 0.001, "crossfit", "labels", "cross-validation", ""),
        (0.03, 0.01, 0.05, 0.001, "test", "labels", "method.final", ""),
    ],
)
def test_a_choice_that_the_test_set_contradicts_says_where_the_other_student_is(
    value: float, low: float, high: float, p: float, on: str, chosen: str, how: str, kept: str
) -> None:
    students = [{"student": "labels", "round": 2}, {"student": "stages", "round": 5}]
    difference = {"value": value, "ci95": [low, high], "p": p, "on": on, "n": 1000}
    said = _not_taken({"students": students, "chosen": chosen, "how": how}, {"of": 60}, "stages", difference)
    assert bool(said) is bool(kept)
    assert not said or (f"It is kept in {kept}." in said[0] and "60 rows in cross-validation did not show it" in said[0])


@pytest.mark.parametrize(("low", "warned"), [(0.1, True), (0.5, True), (0.51, False)])
def test_rows_that_teach_no_more_than_guessing_are_warned_of(low: float, warned: bool, worlds: dict[str, FamilyWorld]) -> None:
    config = worlds["classification"].config()
    assert len(config.task.labels) == 2
    entry = {"student": "written", "crossfit": None, "test": {"value": 0.55, "ci95": [low, 0.9]}}
    said = _taught_nothing([{"student": "labels"}, entry], config)
    assert bool(said) is warned
    assert not said or said[0].startswith(
        "The written rows alone teach next to nothing: 55.0 % right, where guessing gives 50.0 %."
    )


def test_without_a_test_set_the_table_is_that_of_cross_validation(
    worlds: dict[str, FamilyWorld], student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = build_family_world(tmp_path / "world", "classification", student=student, method__name="crossfit")
    values = json.loads(world.config_path.read_text())
    del values["data"]["test"]
    world.config_path.write_text(json.dumps(values))
    results = run(world.config(), tmp_path / "run", SpyingStudent(outcome(4, 20)))
    assert results["test"] is None
    assert [entry["test"] for entry in results["worth"]["students"]] == [None] * 3
    difference = results["worth"]["students"][-1]["difference"]
    assert (difference["on"], difference["n"], difference["value"]) == ("crossfit", 20, 0.8)
    print_results({"task": "t", "methods": {"crossfit": results}}, tmp_path / "run")
    assert "sealed" not in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Cross-validated accuracy" in page
    assert "is slightly optimistic" in page
    assert verify_run(tmp_path / "run") == []


def test_a_run_that_has_not_ended_has_a_page_and_no_table(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config()
    # In either part of a round's fold, in labels alone, after the choice.
    for stop in (2, 7, 17, 21, 23):
        folder = tmp_path / str(stop)
        with pytest.raises(Stop):
            run(config, folder, SpyingStudent(stop=lambda n, stop=stop: Stop() if n == stop else None))  # type: ignore[misc]
        directory = RunDirectory.read(folder)
        with closing(Journal(directory.journal_path)) as journal:
            results = write_exports(journal, directory)["methods"]["crossfit"]
            assert (find_worth(journal, config) is not None) == ("worth" in results) == (stop > 19)
        assert read_status(folder)["state"] == "unfinished"
        assert verify_run(folder) == []


@pytest.mark.parametrize(
    ("gain", "low", "said"),
    [
        (0.05, 0.02, "label 24 more rows. Twice as many would bring about 5.0 points (2.0 to 9.0)"),
        (0.05, -0.01, "how many cannot be said"),
        (None, None, "how many cannot be said from these rows"),
    ],
)
def test_a_number_of_labels_is_named_only_where_the_curve_is_steep_enough(
    gain: float | None,
    low: float | None,
    said: str,
    worlds: dict[str, FamilyWorld],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    curve = None if gain is None else {"points": [], "rows": 24, "more": 24, "gain": gain, "gain_ci95": [low, 0.09]}
    monkeypatch.setattr("stepsynth.training.crossfit.learning_curve", lambda *_: curve)
    words = run(worlds["classification"].config(), tmp_path / "run", SpyingStudent())["worth"]["words"]
    assert any(said in sentence for sentence in words), words


@pytest.mark.parametrize("family", FAMILIES)
def test_the_learning_curve_is_that_of_a_probe_out_of_fold(family: str, worlds: dict[str, FamilyWorld]) -> None:
    """The same rows give the same numbers; questions, and rows that are too few, have none."""
    config = worlds[family].config()
    validation, own = load_run_data(config).validation, create_family(config.task)
    rows = [*validation.harvest, *validation.select]
    folds = deal_folds(rows, 4, 0)
    found = learning_curve(config.student, own, rows, folds.gold)
    _out_of_fold.forget()
    assert found == learning_curve(config.student, own, rows, folds.gold)
    if family == "extractive_qa":
        assert found is None
        return
    assert found is not None
    points = [point["rows"] for point in found["points"]]
    assert len(points) == 4
    assert (points[-1], found["rows"], found["more"]) == (18, 24, 24)
    low, high = found["gain_ci95"]
    assert low <= found["gain"] <= high
    few = [row for label in own.labels for row in rows if row.label == label][:3] if isinstance(own, Classification) else []
    few = [*few[:2], next(row for row in rows if row.label != few[0].label)]
    assert learning_curve(config.student, own, few, deal_folds(few, 2, 0).gold) is None


# folds ------------------------------------------------------------------------------------------


def gold_rows(labels: list[str], contexts: list[str] | None = None) -> list[Example]:
    return [Example(f"harvest-{n}", f"text {n}", label, (contexts or [""] * len(labels))[n]) for n, label in enumerate(labels)]


def test_folds_are_even_by_label_and_the_same_for_the_same_seed() -> None:
    rows = gold_rows(["a"] * 30 + ["b"] * 9 + ["c"] * 2)
    folds = deal_folds(rows, 4, 3)
    assert folds.count == 4
    dealt = Counter((row.label, folds.gold(row)) for row in rows)
    assert sorted(dealt["a", fold] for fold in range(4)) == [7, 7, 8, 8]
    assert sorted(dealt["b", fold] for fold in range(4)) == [2, 2, 2, 3]
    assert sorted(dealt["c", fold] for fold in range(4)) == [0, 0, 1, 1]
    assert [deal_folds(rows, 4, 3).gold(row) for row in rows] == [folds.gold(row) for row in rows]
    assert [deal_folds(rows, 4, 4).gold(row) for row in rows] != [folds.gold(row) for row in rows]


@pytest.mark.parametrize(
    ("labels", "most", "count"), [("aabb", 4, 2), ("aaabbb", 4, 3), ("aaaab", 4, 4), ("ab", 4, 2), ("aaaa", 2, 2)]
)
def test_there_are_fewer_folds_where_labels_have_fewer_rows(labels: str, most: int, count: int) -> None:
    rows = gold_rows(list(labels))
    folds = deal_folds(rows, most, 0)
    assert folds.count == count
    assert {folds.gold(row) for row in rows} == set(range(count))


def test_rows_of_one_context_are_of_one_fold_and_so_is_what_keeps_it() -> None:
    contexts = [f"Passage {n // 3}" for n in range(12)]
    rows = gold_rows([""] * 12, contexts)
    folds = deal_folds(rows, 4, 0)
    assert all(len({folds.gold(row) for row in rows if row.context == context}) == 1 for context in contexts)
    assert folds.written(None, "passage  2") == folds.gold(rows[7]) == folds.written("harvest-7", "")
    assert folds.written(None, "Another passage") is None
    assert folds.written(None, "") is None
    assert folds.together(rows[0], rows[1])


def test_without_contexts_a_row_is_a_unit_of_its_own() -> None:
    rows = gold_rows(["x|y", "x", "", "y", "x|y", "x", "", "y"])
    folds = deal_folds(rows, 2, 0)
    assert Counter(folds.gold(row) for row in rows) == {0: 4, 1: 4}


# configs and comparisons ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["method.label_check=harvest", "method.mistakes_of=minilm-l6", "student.continued=true", "method.folds=1"]
)
def test_what_would_judge_dishonestly_is_refused(change: str, worlds: dict[str, FamilyWorld]) -> None:
    with pytest.raises(ConfigError) as caught:
        worlds["classification"].config(change)
    assert change.partition("=")[0].split(".")[1] in str(caught.value)


def test_new_keys_are_stored_only_where_they_were_set(worlds: dict[str, FamilyWorld]) -> None:
    config = worlds["classification"].config("method.name=s3")
    assert {"folds", "final"} & set(config.resolved()["method"]) == set()
    changed = worlds["classification"].config("method.folds=3", "method.final=stages")
    assert (changed.resolved()["method"]["folds"], changed.resolved()["method"]["final"]) == (3, "stages")
    assert changed.result_digest() != worlds["classification"].config().result_digest()


def test_in_a_comparison_it_keeps_its_own_rounds(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config()
    run(config, tmp_path / "run", SpyingStudent())
    cell = read_cell(tmp_path / "run", "s3")
    (system, fixed) = parse_systems("crossfit,crossfit:method.final=stages", config)
    assert _budgeted(config, system, cell, "rows") == config
    assert fixed.folder == "crossfit-method.final=stages"
    assert cell.requests == read_requests(tmp_path / "run")


def read_requests(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def test_an_unknown_round_is_refused_by_predict(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    from stepsynth.run.existing import trained_round

    run(worlds["classification"].config(), tmp_path / "run", SpyingStudent(outcome(20, 2)))
    directory = RunDirectory.read(tmp_path / "run")
    assert trained_round(directory) == 2
    assert trained_round(directory, 5) == 5
    for number in (0, 1, 4):
        with pytest.raises(RunError, match=f"no student of round {number}"):
            trained_round(directory, number)
