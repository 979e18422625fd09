"""The teacher as second reader: what it drops and changes, what it must not see, what it costs, and the list for a person."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FAMILIES, FamilyWorld, build_family_world, lend_student, read_lines, rows_of
from family_worlds import asked as asked_of
from spying_student import MarkingTeacher, SpyingStudent
from stepsynth.api.run import Run
from stepsynth.config import RunConfig, parse_config
from stepsynth.errors import ConfigError
from stepsynth.filters.second_reading import SecondReading
from stepsynth.journal import Journal
from stepsynth.loop import run_loop
from stepsynth.planning.making import make_plan
from stepsynth.report.derived import write_exports
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.tasks import create_family
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Candidate, DropReason, GeneratedRow, Prediction, Request, Response
from test_crossfit import marked
from test_kill import Harness, kill_at

pytestmark = pytest.mark.usefixtures("one_thread")

READ = ("method.name=seed-only", "method.second_reading=drop")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture
def world(student: Path, tmp_path: Path) -> FamilyWorld:
    return build_family_world(tmp_path / "world", "classification", student=student)


class Contrary(FakeTeacher):
    """Reads every third text otherwise than it was written."""

    def __init__(self, turned: Callable[[str], bool] = lambda text: len(text) % 3 == 0) -> None:
        super().__init__(blemishes={})
        self.turned = turned

    def answer(self, request: Request) -> Response:
        answer = super().answer(request)
        if request.stage != "reading" or not self.turned(request.messages[-1].content):
            return answer
        return replace(answer, text={"kalm": "spitz", "spitz": "kalm"}[answer.text])


def run(config: RunConfig, folder: Path, teacher: FakeTeacher | None = None, pupil: Any = None) -> dict[str, Any]:
    directory = RunDirectory.open(folder, config)
    with closing(directory), closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=teacher or Contrary(), student=pupil)
        results: dict[str, Any] = write_exports(journal, directory)["methods"][config.method.name]
        return results


# rows ---------------------------------------------------------------------------------------


def test_rows_that_are_read_otherwise_are_dropped_and_others_take_their_place(world: FamilyWorld, tmp_path: Path) -> None:
    results = run(world.config(*READ), tmp_path / "run")
    rows = Run.load(tmp_path / "run").rows(accepted=None)
    reasons = Counter(row["dropped"] for row in rows)
    assert reasons["read otherwise"] > 0
    assert Counter(row["label"] for row in rows if not row["dropped"]) == {"kalm": 6, "spitz": 6}
    found = results["second_reading"]
    assert found["read"] == found["agreed"] + reasons["read otherwise"]
    assert (found["relabelled"], found["unread"]) == (0, 0)
    assert results["dropped"]["read otherwise"] == reasons["read otherwise"]


def test_rows_that_are_read_otherwise_get_the_label_that_was_read(world: FamilyWorld, tmp_path: Path) -> None:
    results = run(world.config(*READ, "method.second_reading=relabel"), tmp_path / "run")
    rows = Run.load(tmp_path / "run").rows(accepted=None)
    assert "read otherwise" not in {row["dropped"] for row in rows}
    assert results["second_reading"]["relabelled"] > 0
    # The fake teacher reads what it wrote rightly, so a turned text has the other label's words.
    turned = [row for row in Run.load(tmp_path / "run").rows() if row["label"] != words_of(row["text"])]
    assert 0 < len(turned) <= results["second_reading"]["relabelled"]


def words_of(text: str) -> str:
    from stepsynth.teachers.fake import vocabulary

    return max(("kalm", "spitz"), key=lambda label: sum(word in vocabulary(label) for word in text.split()))


def test_a_text_that_nobody_could_read_stays(world: FamilyWorld, tmp_path: Path) -> None:
    class Silent(FakeTeacher):
        def answer(self, request: Request) -> Response:
            answer = super().answer(request)
            return replace(answer, text="I cannot say.") if request.stage == "reading" else answer

    results = run(world.config(*READ), tmp_path / "run", Silent(blemishes={}))
    assert results["second_reading"]["unread"] == results["second_reading"]["read"] > 0
    assert results["second_reading"]["gold"] == {"right": 0, "of": 20}
    assert len(Run.load(tmp_path / "run").rows()) == 12


def test_most_readings_decide_and_of_equally_many_the_row_keeps_its_answer() -> None:
    config = parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": {"a": "A", "b": "B"}},
            "data": {"validation": {"path": "x.csv"}},
        }
    )
    family = create_family(config.task)
    rows = [Candidate(GeneratedRow("round-0/seed", place, str(place), "a", None, f"text {place}")) for place in range(4)]
    said = ["bba", "ba", "bb", "aab"]

    class Read:
        def read(self, rows: Any) -> list[list[Prediction]]:
            return [[family.decided(row, label) for label in labels] for row, labels in zip(rows, said, strict=True)]

    verdicts = SecondReading(Read(), family).judge(rows, [])
    assert [verdict.reason for verdict in verdicts] == [DropReason.READ_OTHERWISE, "", DropReason.READ_OTHERWISE, ""]
    verdicts = SecondReading(Read(), family, relabels=True).judge(rows, [])
    assert [(verdict.reason, verdict.candidate.label) for verdict in verdicts] == [("", "b"), ("", "a"), ("", "b"), ("", "a")]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("action", ["drop", "relabel"])
def test_every_family_can_be_read_again(student: Path, tmp_path: Path, family: str, action: str) -> None:
    world = build_family_world(tmp_path / "world", family, student=student, method__name="seed-only")
    results = run(world.config(f"method.second_reading={action}"), tmp_path / "run", FakeTeacher())
    found = results["second_reading"]
    assert found["read"] >= 10
    assert found["gold"]["of"] == 20
    assert (tmp_path / "run" / "report.html").read_text().count("Second reading") == 1


# what it sees, and what it costs ------------------------------------------------------------


def test_a_reading_shows_neither_the_answer_nor_a_gold_or_test_row(world: FamilyWorld, tmp_path: Path) -> None:
    world.write_rows("validation.jsonl", marked("classification"))
    run(world.config(*READ, "method.rounds=0"), tmp_path / "run", MarkingTeacher())
    requests = [text for text in asked_of(tmp_path / "run") if "Decide" in text and '"temperature":0.0' in text.replace(" ", "")]
    test = [row["text"] for row in rows_of("classification", 10, 500)]
    assert len(requests) > 20
    assert not [text for text in requests if any(row in text for row in test)]
    # Each shows one text: its own.
    assert {len(json.loads(text)["messages"]) for text in requests} <= {1, 2}


@pytest.mark.parametrize("action", ["drop", "relabel"])
def test_no_gold_row_judges_a_student_that_has_seen_it(student: Path, tmp_path: Path, action: str) -> None:
    world = build_family_world(tmp_path / "world", "classification", student=student)
    world.write_rows("validation.jsonl", marked("classification"))
    pupil = SpyingStudent()
    settings = ("method.name=crossfit", "method.folds=4", f"method.second_reading={action}", "method.readings=2")
    run(world.config(*settings), tmp_path / "run", MarkingTeacher(), pupil)
    assert pupil.judged > 0
    assert pupil.leaks == []


def test_readings_count_towards_what_a_stage_and_a_run_cost(world: FamilyWorld, tmp_path: Path) -> None:
    results = run(world.config(*READ, "method.readings=3"), tmp_path / "run")
    found = results["second_reading"]
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        stage = journal.spent("round-0/seed")
        plain = journal.select("SELECT COUNT(DISTINCT key) FROM rows WHERE stage = 'round-0/seed'", ())[0][0]
        gold = next(info["second_reading"] for name, *_, info, _ in journal.stages() if name == "gold/reading")
        reasons = journal.spent("round-0/rationales").requests
    assert found["requests"] == 3 * (found["read"] + found["gold"]["of"])
    assert gold["requests"] == 3 * 20
    assert stage.requests == plain + 3 * found["read"]
    assert results["requests"] == reasons + plain + found["requests"]


def test_a_plan_counts_the_readings(world: FamilyWorld) -> None:
    # No more texts than rows are wanted: seed-only asks for a number that is known.
    plain = make_plan(world.config("method.name=seed-only"))["requests"]
    once = make_plan(world.config(*READ))["requests"]
    thrice = make_plan(world.config(*READ, "method.readings=3"))["requests"]
    assert once == [plain[0] * 2 + 20, plain[1] * 2 + 20]
    assert thrice == [plain[0] * 4 + 60, plain[1] * 4 + 60]


def test_what_cannot_be_is_refused(world: FamilyWorld) -> None:
    with pytest.raises(ConfigError, match=r"readings=3 with teacher\.sampling\.temperature=0 would give the same answer 3 times"):
        world.config(*READ, "method.readings=3", "teacher.sampling.temperature=0")
    with pytest.raises(ConfigError, match="does not go with a method that is given a budget of requests; compare by rows"):
        world.config(*READ, "method.match={unit: requests, amount: 50}")


def test_a_config_without_it_keeps_its_digest(world: FamilyWorld) -> None:
    plain = world.config()
    assert not {"second_reading", "readings"} & set(plain.resolved()["method"])
    assert plain.result_digest() != world.config("method.second_reading=drop").result_digest()


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes_and_asks_nothing_again(student: Path, tmp_path: Path) -> None:
    build_family_world(
        tmp_path / "world", "classification", student=student, method__second_reading="relabel", method__readings=2
    )
    with Harness(tmp_path) as harness:
        calm = harness.kill(-1)
        assert calm["signal"] == 0
        kill_at(harness, [int(len(calm["passed"]) * share) for share in (0.1, 0.35, 0.6, 0.8, 0.97)], calm)


# labels for a person ------------------------------------------------------------------------


def test_a_wrong_label_is_in_the_list(world: FamilyWorld, tmp_path: Path) -> None:
    rows = rows_of("classification", 20)
    rows[4] = {**rows[4], "label": "spitz" if rows[4]["label"] == "kalm" else "kalm"}
    world.write_rows("validation.jsonl", rows)

    run(world.config(*READ), tmp_path / "run", FakeTeacher(blemishes={}))
    found = Run.load(tmp_path / "run").review()
    # The fake teacher reads every other row rightly.
    (wrong,) = (row for row in found if row["teacher"] is not None)
    assert (wrong["text"], wrong["label"]) == (rows[4]["text"], rows[4]["label"])
    assert wrong["teacher"] != rows[4]["label"]
    assert any(row["student"] for row in found)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Labels to look at first" in page


@pytest.mark.parametrize("seed", range(5))
def test_what_student_and_teacher_doubt_alike_comes_first_then_what_the_student_is_sure_of(
    world: FamilyWorld, tmp_path: Path, seed: int
) -> None:
    config = world.config(*READ, f"seed={seed}")
    run(config, tmp_path / "run", Contrary(lambda text: len(text) % 2 == 0))
    found = Run.load(tmp_path / "run").review()
    alike = [row["student"] is not None and row["student"] == row["teacher"] for row in found]
    assert alike == sorted(alike, reverse=True)
    for group in (True, False):
        sure = [row["confidence"] or 0.0 for row, both in zip(found, alike, strict=True) if both is group]
        assert sure == sorted(sure, reverse=True)
    assert len({row["text"] for row in found}) == len(found)


def test_the_command_lists_and_writes_them(world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world.config(*READ), tmp_path / "run")
    found = Run.load(tmp_path / "run").review()
    told = stepsynth(capsys, "review", str(tmp_path / "run"))
    assert told.code == 0
    assert f"To {len(found)} labelled rows a student that had not seen them or the teacher gives another answer" in told.out
    for name in ("doubts.csv", "doubts.jsonl"):
        assert stepsynth(capsys, "review", str(tmp_path / "run"), "--out", str(tmp_path / name)).code == 0
    with (tmp_path / "doubts.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [row["text"] for row in found]
    assert [json.loads(line) for line in (tmp_path / "doubts.jsonl").read_text().splitlines()] == found
    refused = stepsynth(capsys, "review", str(tmp_path / "run"), "--out", str(tmp_path / "doubts.xls"))
    assert refused.code == 2
    assert "Name a file that ends in .csv or .jsonl" in refused.err
    refused = stepsynth(capsys, "review", str(tmp_path / "run"), "--out", str(tmp_path / "none" / "doubts.csv"))
    assert (refused.code, refused.out) == (2, "")
    refused = stepsynth(capsys, "review", str(tmp_path / "run"), "--out", str(tmp_path / "run" / "journal.db"))
    assert refused.code == 2


def test_doubts_say_where_a_row_is_and_name_several_labels_as_the_file_does(student: Path, tmp_path: Path) -> None:
    world = build_family_world(tmp_path / "world", "multi_label", student=student)
    run(world.config(*READ), tmp_path / "run", FakeTeacher(blemishes={}))
    rows = read_lines(world.folder / "validation.jsonl")
    found = Run.load(tmp_path / "run").review()
    assert found
    assert all(rows[row["row"]]["text"] == row["text"] for row in found)
    assert all(isinstance(row[name], list | None) for row in found for name in ("student", "teacher"))


def test_a_run_without_readings_lists_the_students_doubts(world: FamilyWorld, tmp_path: Path) -> None:
    run(world.config("method.name=seed-only"), tmp_path / "run")
    found = Run.load(tmp_path / "run").review()
    assert found
    assert {row["teacher"] for row in found} == {None}
    assert "Labels to look at first" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("method", ["gold", "zerogen"])
def test_a_list_is_empty_only_if_somebody_has_judged_the_labels(
    world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    run(world.config(f"method.name={method}"), tmp_path / "run")
    told = stepsynth(capsys, "review", tmp_path / "run")
    assert told.code == (2 if method == "gold" else 0)
    assert ("nobody has judged the labelled rows" in told.err) is (method == "gold")


def test_a_cap_that_gold_rows_would_pass_does_not_keep_a_run_from_ending(world: FamilyWorld, tmp_path: Path) -> None:
    needed = run(world.config(*READ), tmp_path / "whole")["requests"]
    results = run(world.config(*READ, f"budget.requests={needed - 15}", "cache=null"), tmp_path / "run")
    assert Run.load(tmp_path / "run").finished
    assert results["second_reading"]["gold"] is None
    assert results["test"] is not None
    again = run(world.config(*READ), tmp_path / "run")
    assert again["second_reading"]["gold"]["of"] == 20
    assert again["requests"] == needed
