"""``plan --try``: what it asks, what it costs, what is kept, and what it decides."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from command import Outcome, stepsynth
from family_worlds import FAMILIES, build_family_world, lend_student, rows_of
from loopback import Fault, LoopbackServer, completion
from own_families import Rating
from stepsynth.cli.trying import _examples
from stepsynth.data import load_validation
from stepsynth.errors import ConfigError
from stepsynth.planning.decision import Answer, Evidence, Gain, Share, decide
from stepsynth.planning.questions import draw_gold
from stepsynth.planning.training_time import training_time
from stepsynth.registry import FAMILIES as KNOWN_FAMILIES
from stepsynth.students.judging import RowJudge
from stepsynth.tasks import create_family
from stepsynth.teachers.fake import FakeTeacher, gold_text
from stepsynth.types import Example, Message, Request, Sampling
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

TRIAL_KEYS = {"worst_case", "spent", "labels", "teacher", "rows", "training", "decision"}
BILL = {"requests", "tokens", "usd"}

# the decision ---------------------------------------------------------------------------------


def share(right: int, n: int = 20) -> Share:
    found = Share.of(right, n)
    assert found is not None
    return found


GOOD = Evidence(
    teacher=share(17), accepted=share(20), fits=share(16), limit=0.75, chance=0.25, labels=share(45, 60), guess=0.3, judges=True
)
STEEP, FLAT = Gain(60, 0.08, (0.02, 0.14)), Gain(60, 0.01, (-0.03, 0.05))
QUESTIONS = Evidence(teacher=Share(0.8, (0.6, 0.9), 20), accepted=share(18), judges=False)


@pytest.mark.parametrize(
    ("evidence", "pool", "answer"),
    [
        (GOOD, 0, "generate"),
        (replace(GOOD, gain=STEEP), 0, "generate"),
        (replace(GOOD, teacher=share(6)), 0, "generate"),
        (GOOD, 500, "generate"),
        (replace(GOOD, labels=share(58, 60)), 0, "labels alone"),
        (replace(GOOD, fits=share(5)), 0, "stronger teacher"),
        (replace(GOOD, fits=share(5), gain=STEEP), 0, "stronger teacher"),
        (replace(GOOD, fits=share(5), teacher=share(6), gain=STEEP), 0, "label more"),
        (replace(GOOD, fits=share(5), teacher=share(6), gain=FLAT), 0, "stronger teacher"),
        (replace(GOOD, fits=share(5)), 500, "label the pool"),
        (replace(GOOD, fits=share(5), teacher=share(6)), 500, "self-train"),
        (replace(GOOD, accepted=share(2)), 0, "stronger teacher"),
        (replace(GOOD, accepted=share(9), fits=share(9, 9)), 0, "generate"),
        (replace(GOOD, accepted=share(9), fits=share(9, 9), teacher=share(14)), 0, "too thin"),
        (replace(GOOD, accepted=share(9), fits=share(9, 9), teacher=share(20), labels=share(58, 60)), 0, "labels alone"),
        (replace(GOOD, accepted=share(9), fits=share(9, 9), gain=STEEP), 0, "label more"),
        (replace(GOOD, fits=share(9), limit=None, chance=0.4), 0, "generate"),
        (replace(GOOD, fits=share(9), limit=None, chance=0.4, teacher=share(6)), 0, "too thin"),
        (replace(GOOD, labels=share(20, 60)), 0, "generate"),
        (replace(GOOD, labels=share(20, 60), teacher=share(3)), 0, "too thin"),
        (replace(GOOD, labels=share(20, 60), gain=STEEP), 0, "label more"),
        (replace(GOOD, labels=None, fits=None, limit=None), 0, "too thin"),
        (QUESTIONS, 0, "generate"),
        (replace(QUESTIONS, teacher=Share(0.2, (0.1, 0.3), 20)), 0, "stronger teacher"),
        (replace(QUESTIONS, teacher=Share(0.45, (0.3, 0.6), 20)), 0, "too thin"),
        (replace(QUESTIONS, accepted=share(9)), 0, "too thin"),
        (replace(QUESTIONS, accepted=share(1)), 0, "stronger teacher"),
        (replace(GOOD, accepted=None, fits=None), 0, "no rows"),
        (replace(GOOD, accepted=None, fits=None), 500, "label the pool"),
        (replace(GOOD, accepted=None, fits=None, teacher=share(6)), 500, "self-train"),
        (replace(GOOD, accepted=None, fits=None, teacher=share(14)), 500, "too thin"),
        (replace(GOOD, teacher=None, undecided=20), 0, "generate"),
        # Nothing is worth paying for where labels leave no room, whatever the rows and the curve.
        (replace(GOOD, fits=share(5), teacher=share(6), labels=share(60, 60), gain=STEEP), 0, "labels alone"),
        (replace(GOOD, fits=share(9, 9), labels=share(60, 60), gain=STEEP), 0, "labels alone"),
        (replace(GOOD, accepted=None, fits=None, teacher=None, undecided=20), 500, "too thin"),
        (replace(QUESTIONS, teacher=None, undecided=20), 0, "too thin"),
    ],
)
def test_each_kind_of_evidence_has_its_answer(evidence: Evidence, pool: int, answer: Answer) -> None:
    found = decide(evidence, pool)
    assert found.answer == answer
    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence
    assert (found.more == 60) == (answer == "label more")
    assert ("500 texts" in found.sentence) == (answer in ("label the pool", "self-train"))


def test_a_decision_names_its_reasons() -> None:
    assert decide(GOOD).sentence == (
        "Generate: a probe of your labels finds the label of 16 of 20 sample rows (80 %; of your own rows 75 %), "
        "and the teacher labels 85 % of 20 of your rows right."
    )
    assert decide(replace(GOOD, gain=STEEP), 500, joins=True).sentence.endswith(
        " rows right. 60 more labels would help, too: about 8 points (2 to 14) by the learning curve of a probe. The run also "
        "tries students that learn from your 500 texts."
    )
    slight = decide(replace(GOOD, gain=replace(STEEP, value=0.012))).sentence
    assert slight.endswith("help, too: about 1 point (2 to 14) by the learning curve of a probe.")
    more = decide(replace(GOOD, fits=share(5), teacher=share(6), gain=STEEP)).sentence
    assert more.startswith("Label about 60 more rows: that would bring about 8 points (2 to 14) by the learning curve, ")


def test_an_able_teacher_decides_where_rows_cannot_be_judged() -> None:
    assert decide(replace(GOOD, labels=share(20, 60))).sentence == (
        "Generate: the teacher labels 85 % of 20 of your rows right, a linear probe of your labels gets 33 % right in "
        "cross-validation, and whether the sample rows fit their labels cannot be told."
    )


def test_a_score_of_guesses_is_no_evidence() -> None:
    said = decide(replace(GOOD, teacher=None, undecided=20)).sentence
    assert said.endswith("and 20 of the teacher's answers for your rows gave no decision: how well it labels is not known.")
    assert "(3 of its answers gave no decision and count as guesses)" in decide(replace(GOOD, undecided=3)).sentence


# which rows ------------------------------------------------------------------------------------


def labelled(counts: dict[str, int]) -> list[Example]:
    return [Example(f"{label}-{n}", f"text {n} of {label}", label) for label, count in counts.items() for n in range(count)]


def family_of(*labels: str) -> Any:
    from stepsynth.config import TaskConfig

    return create_family(TaskConfig.model_validate({"name": "t", "instruction": "Decide.", "labels": dict.fromkeys(labels, "x")}))


def test_the_gold_rows_are_drawn_by_label_and_by_the_seed() -> None:
    rows = labelled({"a": 60, "b": 30, "c": 1})
    family = family_of("a", "b", "c")
    drawn = draw_gold(rows, family, 20, 0)
    assert Counter(row.label for row in drawn) == {"a": 13, "b": 6, "c": 1}
    assert drawn == draw_gold(rows, family, 20, 0) != draw_gold(rows, family, 20, 1)
    assert sorted(row.id for row in draw_gold(rows[:7], family, 20, 0)) == sorted(row.id for row in rows[:7])


def test_more_labels_than_rows_are_drawn_at_random() -> None:
    names = [f"label{n}" for n in range(50)]
    drawn = draw_gold(labelled(dict.fromkeys(names, 3)), family_of(*names), 20, 0)
    assert len({row.id for row in drawn}) == 20


# the judge -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.mark.parametrize("family", ["classification", "multi_label", "pair"])
def test_the_judge_knows_its_own_rows_and_no_label_that_it_has_not_seen(family: str, student: Path, tmp_path: Path) -> None:
    config = build_family_world(tmp_path / "world", family, student=student, validation=30).config()
    halves = load_validation(config)
    gold = [*halves.harvest, *halves.select]
    judge = RowJudge(config.student, create_family(config.task), gold, lambda row: int(row.id.rpartition("-")[2]) % 3)
    assert judge.right is not None
    assert judge.limit(gold) == pytest.approx(judge.right / len(gold))
    fits = judge.fits(gold)
    assert fits == judge.fits(gold)
    assert sum(map(bool, fits)) >= judge.right, "rows that it was fitted on"
    (unknown,) = judge.fits([replace(gold[0], label="never seen")])
    assert unknown is None
    assert judge.fits([]) == []
    assert judge.limit([]) is None


# the command -----------------------------------------------------------------------------------


def decided(body: dict[str, Any]) -> str:
    """Answer a question about a row as `FakeTeacher` does."""
    messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
    return FakeTeacher(blemishes={}).answer(Request(messages, Sampling(), 0, "answer", 0, "")).text


def knowing(server: LoopbackServer) -> LoopbackServer:
    """Let a server answer questions about rows, which come at temperature 0."""
    plain = server.answer
    server.labels = LABELS
    server.answer = lambda body: completion(decided(body), body) if body.get("temperature") == 0 else plain(body)
    return server


@pytest.fixture
def server(loopback: LoopbackServer) -> LoopbackServer:
    return knowing(loopback)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("built") / "world", validation=16)


@pytest.fixture
def world(built: World, tmp_path: Path, server: LoopbackServer) -> World:
    """A world of its own, with the student of `built`; the teacher is a server with a price."""
    world = World(tmp_path / "world")
    world.folder.mkdir()
    for name in ("validation.csv", "test.csv"):
        (world.folder / name).write_bytes((built.folder / name).read_bytes())
    world.write_config(
        {
            "teacher": {"backend": "openai", "model": "loopback", "base_url": server.base_url, "attempts": 1},
            "teacher.price": {"input": 3, "output": 15},
            "student.model": str(built.folder / "student"),
            "student.epochs": 1,
            "method": {"name": "crossfit", "seed_rows": 30, "rounds": 0, "seed_from": "gold", "folds": 2, "final": "both"},
            "cache": str(tmp_path / "mine.db"),
        }
    )
    return world


def tried(capsys: pytest.CaptureFixture[str], world: World, *settings: str) -> tuple[dict[str, Any], Outcome]:
    overrides = [word for setting in settings for word in ("--set", setting)]
    outcome = stepsynth(capsys, "plan", world.config_path, "--try", "--json", *overrides)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["trial"], outcome


def kept(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def test_a_trial_has_all_its_keys_and_counts_what_was_sent(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer, tmp_path: Path
) -> None:
    trial, outcome = tried(capsys, world)
    assert set(trial) == TRIAL_KEYS
    assert set(trial["spent"]) == set(trial["worst_case"]) == BILL
    assert set(trial["labels"]) == {"right", "of", "value", "ci95", "curve"}
    assert set(trial["teacher"]) == {"metric", "value", "ci95", "n", "f1", "f1_ci95", "undecided"}
    keys = {"written", "accepted", "dropped", "judged", "fitting", "value", "ci95", "limit", "chance", "examples"}
    assert set(trial["rows"]) == keys
    assert set(trial["training"]) == {"students", "steps", "steps_per_s", "minutes", "pool"}
    assert set(trial["decision"]) == {"answer", "sentence", "more"}
    spent, worst = trial["spent"], trial["worst_case"]
    # Twenty labels and twenty rows, of which the plan's own sample is one.
    assert spent["requests"] == worst["requests"] == len(server.completions) == 40
    assert spent["tokens"] == server.prompt_tokens + server.completion_tokens < worst["tokens"]
    assert spent["usd"] == pytest.approx((3 * server.prompt_tokens + 15 * server.completion_tokens) / 1e6)
    assert spent["usd"] < worst["usd"]
    assert (trial["teacher"]["n"], trial["rows"]["written"], trial["labels"]["of"]) == (20, 20, 48)
    assert kept(tmp_path / "mine.db") == 40
    assert not (world.folder / "runs").exists(), "a trial makes no run"
    assert outcome.err.startswith("Trial: at most 40 requests and ")


def test_the_cost_is_said_before_anything_is_asked(capsys: pytest.CaptureFixture[str], world: World) -> None:
    outcome = stepsynth(capsys, "plan", world.config_path, "--try", "--set", "teacher.base_url=http://127.0.0.1:9/v1")
    assert (outcome.code, outcome.out) == (2, "")
    said, why = outcome.err.splitlines()
    assert said.startswith("Trial: at most 40 requests and ")
    assert why.startswith("stepsynth: ")


def test_without_a_trial_the_last_line_says_what_one_costs(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    outcome = stepsynth(capsys, "plan", world.config_path)
    assert len(server.completions) == 1
    last = outcome.out.splitlines()[-1]
    assert last.startswith(
        f"decision  not yet: stepsynth plan {world.config_path} --try asks the teacher at most 40 times (at most 0."
    )
    assert last.endswith(" USD) and says whether to generate")
    changed = stepsynth(capsys, "plan", world.config_path, "--set", "task.instruction=Say which.").out.splitlines()[-1]
    assert f"stepsynth plan {world.config_path} --set 'task.instruction=Say which.' --try asks" in changed
    planned = json.loads(stepsynth(capsys, "plan", world.config_path, "--json").out)["trial"]
    assert set(planned) == TRIAL_KEYS
    assert set(planned["worst_case"]) == BILL
    assert all(planned[name] is None for name in TRIAL_KEYS - {"worst_case"})


def test_a_printed_trial_ends_with_its_decision(capsys: pytest.CaptureFixture[str], world: World) -> None:
    lines = stepsynth(capsys, "plan", world.config_path, "--try").out.splitlines()
    named = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in named[-5:]] == ["trial", "labels", "teacher", "rows", "decision"]
    assert "40 requests" in named[-5]
    assert "not yet" not in lines[-1]
    told = r"minutes   .* for the teacher, about [\d.]+ for [\d,]+ trainings? of [\d,]+ steps, [\d.]+ a second"
    assert any(re.fullmatch(told, line) for line in lines)
    before = stepsynth(capsys, "plan", world.config_path).out
    assert "for the teacher, training not counted (--try measures it)\n" in before


def test_a_method_that_asks_no_teacher_has_no_trial(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    for option in ([], ["--try"]):
        outcome = stepsynth(capsys, "plan", world.config_path, *option, "--set", "method.name=gold", "--set", "method.folds=4")
        assert outcome.code == 0, outcome.err
        decided = "decision  none: method gold asks no teacher, so there is nothing to try\n" if option else ""
        assert outcome.out.endswith(f"teacher   not used\n{decided}")
    assert server.completions == []


S3 = ("method.name=s3", "method.label_check=none", "method.final=auto", "method.folds=4", "method.seed_from=reasons")


@pytest.mark.parametrize(
    ("settings", "once"),
    [
        ((), 0),
        ((*S3, "method.rationales=0"), 0),
        # The plan's own sample row shows the reasons of one answer; a trial's rows show those of all, as a run's do.
        ((*S3, "method.rationales=10", "task.prompt_style=capable"), 1),
    ],
    ids=["crossfit", "without reasons", "with reasons"],
)
def test_the_run_that_follows_pays_for_no_sample_row_again(
    settings: tuple[str, ...], once: int, capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer, tmp_path: Path
) -> None:
    plain = server.answer

    def listing(body: dict[str, Any]) -> str | dict[str, Any]:
        # Ten different reasons, as a capable teacher gives them.
        if body["max_tokens"] == 320:
            return "\n".join(f"{n}. it has quality {n + body['seed']} of its own" for n in range(10))
        return plain(body)

    server.answer = listing
    trial, _ = tried(capsys, world, *settings)
    assert trial["rows"]["written"] == 20
    before = len(server.completions)
    overrides = [word for setting in settings for word in ("--set", setting)]
    outcome = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "--json", *overrides)
    assert outcome.code == 0, outcome.err
    (method,) = json.loads(outcome.out)["methods"].values()
    reused = method["requests"] - (len(server.completions) - before)
    assert trial["spent"]["requests"] - trial["teacher"]["n"] - reused in {0, once}
    assert reused >= 20


def test_a_second_trial_pays_only_for_the_sample(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    first, _ = tried(capsys, world)
    before = len(server.completions)
    second, _ = tried(capsys, world)
    assert second["worst_case"]["requests"] == second["spent"]["requests"] == len(server.completions) - before == 1
    assert {name: second[name] for name in ("labels", "teacher", "rows", "decision")} == {
        name: first[name] for name in ("labels", "teacher", "rows", "decision")
    }


def test_a_trial_without_shared_answers_keeps_nothing(capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path) -> None:
    trial, _ = tried(capsys, world, "cache=null")
    assert trial["spent"]["requests"] == 40
    assert not (tmp_path / "mine.db").exists()


@pytest.mark.parametrize("cap", ["requests=39", "tokens=1000", "usd=0.001"])
def test_a_cap_that_a_trial_may_pass_stops_it_before_anything_is_sent(
    cap: str, capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    outcome = stepsynth(capsys, "plan", world.config_path, "--try", "--set", f"budget.{cap}")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    name = cap.partition("=")[0]
    assert f"budget.{name}=" in line
    assert "too low for a trial" in line
    assert server.requests == []


def test_a_server_that_fails_in_the_middle_loses_no_answer(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer, tmp_path: Path
) -> None:
    server.faults = lambda seen: Fault("close") if seen.number > 15 else None
    one = ("--set", "teacher.concurrency=1")
    outcome = stepsynth(capsys, "plan", world.config_path, "--try", *one)
    assert (outcome.code, outcome.out) == (2, "")
    said = [line for line in outcome.err.splitlines() if not line.startswith("Trial: ")]
    assert len(said) == 1
    assert said[0].startswith("stepsynth: ")
    assert kept(tmp_path / "mine.db") == 15
    server.faults = None
    before = len(server.completions)
    trial, _ = tried(capsys, world, "teacher.concurrency=1")
    # The sample again, and what had not come.
    assert trial["spent"]["requests"] == len(server.completions) - before == 40 - 15 + 1


def test_ctrl_c_keeps_what_came(world: World, server: LoopbackServer, tmp_path: Path) -> None:
    server.latency = 0.1
    command = [sys.executable, "-m", "stepsynth", "plan", str(world.config_path), "--try", "--set", "teacher.concurrency=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    while len(server.completions) < 8:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert errors.splitlines()[-1] == "stepsynth: stopped; nothing is lost. Run it again to resume."
    assert 8 <= kept(tmp_path / "mine.db") == len(server.completions) < 40


def test_a_teacher_that_says_nothing_is_one_line(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    server.answer = lambda body: completion("", body)
    outcome = stepsynth(capsys, "plan", world.config_path, "--try")
    assert outcome.code == 2
    assert "teacher answers gave no label" in outcome.err.splitlines()[-1]


def test_a_teacher_that_names_no_label_is_not_judged_by_guesses(
    capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer
) -> None:
    plain = server.answer
    server.answer = lambda body: completion("I would rather not.", body) if body.get("temperature") == 0 else plain(body)
    outcome = stepsynth(capsys, "plan", world.config_path, "--try")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "20 of these answers gave no decision and count as guesses" in said
    # What else is decided depends on the sample; the share of lucky guesses is no reason.
    assert "of 20 of your rows right" not in said


def test_shown_rows_are_not_asked_about(capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer) -> None:
    """With ``few_shot`` the questions are about the other half."""
    settings = ("method.name=teacher", "method.few_shot=1", "method.final=auto", "method.folds=4", "method.seed_from=auto")
    trial, _ = tried(capsys, world, *settings)
    assert (trial["rows"], trial["decision"]["answer"]) == (None, "no rows")
    bodies = [seen.json for seen in server.completions]
    shown = {turn["content"] for body in bodies for turn in body["messages"][:-1] if turn["role"] == "user"}
    asked = {body["messages"][-1]["content"] for body in bodies if body["temperature"] == 0}
    assert len(asked) == 20
    assert not shown & asked


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["s3", "crossfit", "zerogen"])
def test_every_family_has_a_trial(
    family: str, method: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = build_family_world(tmp_path / "world", family, student=student, method__name=method)
    trial, _ = tried(capsys, world)
    assert trial["decision"]["sentence"]
    assert trial["rows"]["written"] == 12, "seed_rows is less than twenty"
    assert trial["spent"]["requests"] <= trial["worst_case"]["requests"]
    if family == "extractive_qa":
        assert trial["labels"] is None
        assert (trial["rows"]["judged"], trial["rows"]["limit"]) == (None, None)
        assert trial["teacher"]["f1"] is not None
        assert "F1" in stepsynth(capsys, "plan", world.config_path, "--try").out
    else:
        assert trial["labels"]["right"] is not None
        assert trial["rows"]["judged"] is not None
        assert trial["teacher"]["f1"] is None


@pytest.mark.parametrize(("name", "students"), [("s3", 3), ("s3+gold", 4), ("crossfit", 19), ("zerogen", 1)])
def test_the_time_of_all_trainings_is_that_of_a_few_steps(
    name: str, students: int, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's students, and as many steps as each makes; of a larger data set as many as its epochs have."""
    world = build_family_world(tmp_path / "world", "classification", student=student, method__name=name, method__rounds=2)
    # Two parts make half of the fewest steps each.
    for parts, steps in (([60], 40), ([640], 60), ([640, 60], 60 + 20), ([60, 0], 40)):
        config = world.config("student.min_steps=40", "student.epochs=3", "student.batch_size=32", "student.keep=last")
        gold = [Example(f"g{place}", f"kalm {place}", "kalm" if place % 2 else "spitz") for place in range(300)]
        found = training_time(config, gold, trainings=students, parts=parts)
        assert found is not None
        assert (found["students"], found["steps"]) == (students, steps)
        assert found["minutes"] == pytest.approx(students * steps / found["steps_per_s"] / 60, rel=0.05, abs=0.06)
    trial, _ = tried(capsys, world)
    assert trial["training"]["students"] == students


def test_a_trial_makes_six_steps_and_no_more(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Slow:
        def fit(self, train: Any, select: Any, *, progress: Any, **_: Any) -> None:
            for number in range(100):
                made.append(len(train))
                progress(number + 1, 100)

    monkeypatch.setattr("stepsynth.planning.training_time.create_student", lambda _: Slow())
    config = build_family_world(tmp_path / "world", "classification", student=student).config("student.batch_size=8")
    gold = [Example(f"g{place}", "kalm", "kalm") for place in range(1000)]
    assert training_time(config, gold, trainings=2, parts=[100]) is not None
    assert len(made) == 6
    assert max(made) <= 4 * 8


def test_whole_epochs_are_counted_where_the_best_one_is_kept(student: Path, tmp_path: Path) -> None:
    world = build_family_world(tmp_path / "world", "classification", student=student)
    config = world.config("student.min_steps=100", "student.epochs=3", "student.batch_size=32", "student.keep=best")
    gold = [Example(f"g{place}", f"kalm {place}", "kalm" if place % 2 else "spitz") for place in range(40)]
    found = training_time(config, gold, trainings=1, parts=[400])
    # Eight epochs of 13 steps.
    assert found is not None
    assert found["steps"] == 104


def test_a_student_that_cannot_be_trained_leaves_the_decision(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher is paid by then."""

    def fail(*_: Any, **__: Any) -> None:
        raise ConfigError("the student diverged in epoch 1.")

    monkeypatch.setattr("stepsynth.students.classifier.Classifier.fit", fail)
    trial, outcome = tried(capsys, build_family_world(tmp_path / "world", "classification", student=student))
    assert trial["training"] is None
    assert trial["decision"]["sentence"]
    assert "Trial: the student cannot be trained: the student diverged in epoch 1." in outcome.err


@pytest.mark.parametrize(("final", "pool"), [("auto", True), ("all", True), ("stages", False), ("labels", False)])
def test_only_students_that_learn_from_a_pool_are_timed_with_it(
    final: str, pool: bool, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"method__name": "crossfit", "method__seed_rows": 12, "method__final": final}
    world = build_family_world(
        tmp_path / "world", "classification", student=student, data__pool={"path": "pool.jsonl"}, **settings
    )
    world.write_rows("pool.jsonl", [{"text": row["text"]} for row in rows_of("classification", 80, 2000)])
    changes = ("student.batch_size=4", "student.epochs=1", "student.min_steps=0", "student.keep=last")
    trial, _ = tried(capsys, world, *changes)
    gold = trial["labels"]["of"]
    assert trial["training"]["pool"] is pool
    assert trial["training"]["steps"] == -(-(12 + 80 * pool) // 4) + -(-gold // 4)
    said = stepsynth(capsys, "plan", world.config_path, "--try", *(word for change in changes for word in ("--set", change))).out
    assert ("for the teacher, up to about" in said) is pool


def test_a_student_without_steps_tells_no_time(student: Path, tmp_path: Path) -> None:
    config = build_family_world(tmp_path / "world", "classification", student=student).config("student.head=probe")
    gold = [Example(f"g{place}", f"text {place}", "kalm" if place % 2 else "spitz") for place in range(8)]
    assert training_time(config, gold, trainings=2, parts=[100]) is None


def test_a_trial_from_python_and_of_a_family_of_ones_own(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family with partial scores: the teacher's score is a mean of them."""
    monkeypatch.setattr(KNOWN_FAMILIES, "_given", {})
    rows = [{"text": gold_text(label, n), "label": label} for n in range(10) for label in LABELS]
    found = ss.plan(
        ss.Task("grades", "Grade it.", family=Rating, labels={label: f"about {label}" for label in LABELS}),
        validation=rows,
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(str(student)),
        method=ss.ZeroGen(seed_rows=30),
        cache=None,
        out=tmp_path / "run",
        trial=True,
        progress=False,
    )["trial"]
    assert set(found) == TRIAL_KEYS
    assert found["teacher"]["metric"] == "closeness"
    assert found["decision"]["sentence"]
    assert not (tmp_path / "run").exists()


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A trial's own journal is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


def test_sample_rows_are_printed_to_be_read(capsys: pytest.CaptureFixture[str], world: World, server: LoopbackServer) -> None:
    trial, _ = tried(capsys, world)
    rows = trial["rows"]["examples"]
    assert len(rows) == trial["rows"]["accepted"]
    assert all(set(row) == {"text", "label"} for row in rows)
    lines = stepsynth(capsys, "plan", world.config_path, "--try").out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("rows      "))
    shown = [line.strip() for line in lines[first + 1 : first + 7]]
    assert all(f"{row['label']}: {' '.join(row['text'].split())}" in shown for row in rows[:1])
    assert {line.partition(":")[0] for line in shown} == {row["label"] for row in rows}


def test_sample_rows_of_all_families_are_one_line_each() -> None:
    long = "word " * 60
    rows: list[dict[str, Any]] = [
        {"text": "a\nb", "labels": ["x", "y"]},
        {"text1": "kept", "text2": "written", "label": "x"},
        {"context": long, "question": "Who?", "answers": {"text": ["she"], "answer_start": [0]}},
        {"text": "無空白" * 90, "label": "x"},
    ]
    both, pair, question, unspaced = _examples(rows)
    assert both == "          x + y: a b"
    assert pair == "          x: kept | written"
    assert question.startswith("          she: word word")
    assert len(question) < 190
    assert unspaced.endswith("…")
    assert [
        line.split(":")[0].strip() for line in _examples([{"text": str(n), "label": "ab"[n // 20]} for n in range(40)])
    ] == list("aaabbb")
