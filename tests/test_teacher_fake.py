"""The fake teacher: the same answers everywhere, flaws at the asked rates, something to learn."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from conditions import Margin
from stepsynth.config import TaskConfig, TeacherConfig
from stepsynth.errors import ConfigError, PermanentError, TransientError
from stepsynth.prompts import Prompts, read_answer
from stepsynth.teachers import AsyncTeacher
from stepsynth.teachers.fake import BLEMISHES, REFUSAL, FakeTeacher, gold_text, vocabulary
from stepsynth.types import Example, Message, Request, Response, Sampling, Span


def make_request(
    replicate: int = 0, stage: str = "round-0/seed", label: str = "positive", prompt: str = "Write.", max_tokens: int = 64
) -> Request:
    messages = (Message("user", f"{prompt} ({label})"),)
    return Request(messages, Sampling(max_tokens=max_tokens), replicate, stage, replicate, label)


def texts(teacher: FakeTeacher, count: int, **fields: Any) -> list[str]:
    return [teacher.answer(make_request(replicate, **fields)).text for replicate in range(count)]


def generate(teacher: FakeTeacher, request: Request) -> Response:
    return asyncio.run(teacher.generate(request))


def test_it_is_an_async_teacher() -> None:
    teacher = FakeTeacher()
    assert isinstance(teacher, AsyncTeacher)
    asyncio.run(teacher.close())


def test_answers_are_pinned_across_processes_and_versions() -> None:
    code = (
        "from stepsynth.teachers.fake import FakeTeacher, gold_text, vocabulary\n"
        "from stepsynth.types import Message, Request, Sampling\n"
        "q = Request((Message('user', 'Write.'),), Sampling(), 3, 'round-0/seed', 0, 'positive')\n"
        "print(FakeTeacher().answer(q).text, gold_text('positive', 1), vocabulary('positive')[0], sep='|')"
    )
    outputs = set()
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        outputs.add(done.stdout.strip())
    assert outputs == {
        "Sure! Here is a text:\n\nOur drugesto piece with under medrupla still scene filoste zibrube niruso again."
        "|Lolulu line line somewhere zuplive during seemed zazebra mulolu brigake open with vevuse.|tirukla"
    }


@pytest.mark.parametrize("stage", ["round-0/rationales", "round-0/seed", "round-1/extrapolate"])
def test_clean_answers_of_a_stage_are_distinct_and_short(stage: str) -> None:
    answers = texts(FakeTeacher(blemishes={}), 200, stage=stage)
    assert len(set(answers)) >= 199
    assert max(len(answer.split()) for answer in answers) <= 16
    assert min(len(answer.split()) for answer in answers) >= 4


def test_labels_share_filler_but_no_vocabulary() -> None:
    assert not set(vocabulary("positive")) & set(vocabulary("negative"))
    teacher = FakeTeacher(blemishes={})
    positive, negative = (
        {w.strip(".").lower() for t in texts(teacher, 200, label=label) for w in t.split()} for label in ("positive", "negative")
    )
    shared = positive & negative
    assert len(shared) > 40
    assert not shared & set(vocabulary("positive"))


def test_seed_texts_know_only_the_common_half() -> None:
    rare = set(vocabulary("positive")[24:])
    seen = {w.strip(".").lower() for t in texts(FakeTeacher(blemishes={}), 300) for w in t.split()}
    assert not seen & rare
    assert set(vocabulary("positive")[:24]) <= seen


def test_extrapolated_texts_take_up_the_mistakes_words() -> None:
    rare = vocabulary("positive")[40:43]
    prompt = f"Like: The {rare[0]}, {rare[1]} and {rare[2]}."
    answers = texts(FakeTeacher(blemishes={}), 60, stage="round-1/extrapolate", prompt=prompt)
    assert all(any(word in answer.lower() for word in rare) for answer in answers)


def accuracy(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    student = make_pipeline(TfidfVectorizer(), LogisticRegression())
    student.fit([text for text, _ in train], [label for _, label in train])
    return float(student.score([text for text, _ in test], [label for _, label in test]))


@pytest.mark.learns
def test_a_student_learns_from_seeds_errs_on_gold_and_gains_from_extrapolation(margin: Margin) -> None:
    labels = ("positive", "negative")
    teacher = FakeTeacher()
    seeds = [(text, label) for label in labels for text in texts(teacher, 100, label=label)]
    gold = [(gold_text(label, f"harvest {i}"), label) for label in labels for i in range(40)]
    test = [(gold_text(label, f"test {i}"), label) for label in labels for i in range(200)]
    requests = [make_request(i, "round-1/extrapolate", label, text) for i, (text, label) in enumerate(gold)]
    more = [(teacher.answer(request).text, request.label) for request in requests]
    before, after = accuracy(seeds, test), accuracy(seeds + more, test)
    margin.above(before, 0.6, "learns from seeds")  # 0.72 wherever it ran
    margin.below(before, 0.9, "errs on gold")  # 0.72
    margin.above(after - before, 0.08, "gains")  # 0.28


@pytest.mark.parametrize("name", sorted(BLEMISHES))
def test_blemishes_come_at_their_rates(name: str) -> None:
    def is_blemished(text: str) -> bool:
        return {
            "quoted": text.startswith(('"', "\u201c")),
            "wrapped": "Here is a text:" in text,
            "refused": text == REFUSAL,
            "empty": text == "",
            "duplicate": text in duplicates,
        }[name]

    answers = texts(FakeTeacher(), 2000)
    duplicates = {text for text, count in Counter(answers).items() if count > 1 and text not in ("", REFUSAL)}
    assert sum(map(is_blemished, answers)) / 2000 == pytest.approx(BLEMISHES[name], abs=0.015)
    clean = texts(FakeTeacher(blemishes={}), 300)
    duplicates = set()
    assert not any(map(is_blemished, clean))


def test_a_short_limit_cuts_the_answer_and_says_so() -> None:
    teacher = FakeTeacher(blemishes={})
    whole, cut = teacher.answer(make_request()), teacher.answer(make_request(max_tokens=3))
    assert (whole.finish_reason, cut.finish_reason) == ("stop", "length")
    assert cut.text == " ".join(whole.text.split()[:3])
    assert cut.usage.completion_tokens == 3


def outcomes(teacher: FakeTeacher, request: Request, attempts: int) -> list[str]:
    found: list[str] = []
    for _ in range(attempts):
        try:
            found.append(generate(teacher, request).finish_reason)
        except TransientError:
            found.append("transient")
    return found


def test_faults_repeat_in_a_new_process_and_differ_by_attempt() -> None:
    faults = {"transient": 0.4, "refusal": 0.2}
    first, second = (outcomes(FakeTeacher(faults=faults), make_request(7), 30) for _ in range(2))
    assert first == second
    assert set(first) == {"transient", "refusal", "stop"}


def test_a_transient_fault_does_not_change_the_answer_that_follows() -> None:
    faulty, clean = FakeTeacher(faults={"transient": 0.5}), FakeTeacher()
    for replicate in range(40):
        request = make_request(replicate)
        while True:
            try:
                assert generate(faulty, request) == generate(clean, request)
                break
            except TransientError:
                continue
    assert len(faulty.calls) > 60


@pytest.mark.parametrize(("fault", "finish"), [("refusal", "refusal"), ("empty", "stop"), ("truncated", "length")])
def test_each_fault_has_its_shape(fault: str, finish: str) -> None:
    whole = generate(FakeTeacher(blemishes={}), make_request())
    response = generate(FakeTeacher(blemishes={}, faults={fault: 1.0}), make_request())
    assert response.finish_reason == finish
    assert response.text == (" ".join(whole.text.split()[: len(whole.text.split()) // 2]) if fault == "truncated" else "")


def test_fault_rates_hold_over_many_keys() -> None:
    teacher = FakeTeacher(faults={"transient": 0.3})
    failed = sum(outcomes(teacher, make_request(i), 1) == ["transient"] for i in range(400))
    assert failed / 400 == pytest.approx(0.3, abs=0.07)


def test_a_script_answers_or_raises() -> None:
    def script(request: Request) -> Response | Exception:
        return Response("scripted") if request.index == 0 else PermanentError("no")

    teacher = FakeTeacher(script)
    assert generate(teacher, make_request(0)).text == "scripted"
    with pytest.raises(PermanentError):
        generate(teacher, make_request(1))


def test_calls_hold_the_configs_keys_in_order() -> None:
    identity = TeacherConfig(backend="fake", model="m").identity()
    teacher = FakeTeacher(identity=identity)
    requests = [make_request(i) for i in (2, 0, 2)]
    for request in requests:
        generate(teacher, request)
    assert teacher.calls == [request.key(identity) for request in requests]


def test_completion_order_follows_latency_while_answers_do_not() -> None:
    waits = random.Random(1)
    slow = FakeTeacher(latency=lambda request: waits.random() * 0.02)
    done: list[int] = []

    async def one(request: Request) -> Response:
        response = await slow.generate(request)
        done.append(request.index)
        return response

    async def work() -> list[Response]:
        return await asyncio.gather(*(one(make_request(i)) for i in range(20)))

    answers = asyncio.run(work())
    assert done != sorted(done)
    assert answers == [FakeTeacher().answer(make_request(i)) for i in range(20)]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"faults": {"transiet": 0.1}}, "Did you mean 'transient'"),
        ({"faults": {"transient": 1.5}}, "rate from 0 to 1"),
        ({"faults": {"transient": 0.6, "empty": 0.6}}, "sum"),
        ({"blemishes": {"quotes": 0.1}}, "Did you mean 'quoted'"),
    ],
)
def test_wrong_knobs_are_refused_with_what_to_do(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FakeTeacher(**knobs)


# questions and decisions -----------------------------------------------------------------------

PASSAGE = "The night train to Vienna leaves at ten, and on Sundays a ticket for a bicycle costs six euros in advance."


def question_request(number: int, answer: str, stage: str = "round-0/seed", context: str = PASSAGE) -> Request:
    span = Span(answer, context.index(answer))
    return Request((Message("user", "Ask."),), Sampling(), number, stage, number, "", context=context, answer=span)


@pytest.mark.parametrize("stage", ["round-0/seed", "round-0/zerogen", "round-1/extrapolate"])
@pytest.mark.parametrize("answer", ["Vienna", "six euros", "The", "advance."])
def test_where_an_answer_is_given_a_question_about_it_is_written(stage: str, answer: str) -> None:
    teacher = FakeTeacher(blemishes={})
    questions = {teacher.answer(question_request(number, answer, stage)).text for number in range(40)}
    assert len(questions) > 30, "questions differ from request to request"
    before, after = PASSAGE.split(answer)[0].split()[-4:], PASSAGE.split(answer, 1)[1].split()[:4]
    for question in questions:
        assert question.endswith("?")
        assert question.split()[0] in ("What", "Which", "Who")
        assert {word.strip(".,") for word in (*before, *after)} - {""} <= set(question[:-1].split())


def test_a_question_depends_on_its_answer() -> None:
    teacher = FakeTeacher(blemishes={})
    assert teacher.answer(question_request(0, "Vienna")).text != teacher.answer(question_request(0, "six euros")).text


def test_reasons_for_questions_are_reasons_and_no_questions() -> None:
    teacher = FakeTeacher(blemishes={})
    assert not any(text.endswith("?") for text in texts(teacher, 40, stage="round-0/rationales", label=""))


def decision(family: str, row: Example, labels: list[str], shots: list[tuple[Example, str]] | None = None) -> str:
    values: dict[str, Any] = {"family": family, "name": "t", "instruction": "Decide.", "labels": labels}
    if family == "pair":
        values["fields"] = {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}}
    task = TaskConfig.model_validate(values)
    messages = Prompts(task).question(row, shots or [])
    sampling = Sampling(temperature=0.0, max_tokens=32)
    answer = FakeTeacher(blemishes={}).answer(Request(messages, sampling, 0, "answer", 0, ""))
    found = read_answer(answer.text, task, row)
    assert found is not None
    assert answer.text == found[0]
    return found[0]


@pytest.mark.parametrize("family", ["classification", "multi_label", "pair"])
def test_asked_to_decide_it_counts_the_words_of_each_label(family: str) -> None:
    labels = ["kalm", "rund", "spitz"]
    rows = [Example("r", gold_text(label, number), label, "a note") for label in labels for number in range(20)]
    right = sum(decision(family, row, labels) == row.label for row in rows)
    assert right == len(rows)


def test_a_decision_looks_at_the_row_and_not_at_the_rows_shown() -> None:
    labels = ["kalm", "rund"]
    row = Example("r", gold_text("kalm", 1))
    shots = [(Example("s", gold_text("rund", number), "rund"), "rund") for number in range(4)]
    assert decision("classification", row, labels, shots) == decision("classification", row, labels) == "kalm"


@pytest.mark.parametrize("question", ["What does it cost?", "Where does the night train leave for?"])
def test_asked_a_question_it_answers_with_a_piece_of_the_passage(question: str) -> None:
    row = Example("q", question, context=PASSAGE)
    shown = [(Example("s", "Who came?", context="Ann came."), "Ann")]
    answer = decision("extractive_qa", row, [], shown)
    assert answer in PASSAGE.split()
    assert answer.lower() not in question.lower().rstrip("?").split()


def test_decisions_are_the_same_for_every_attempt_and_every_teacher() -> None:
    row = Example("r", gold_text("kalm", 3))
    assert len({decision("classification", row, ["rund", "kalm"]) for _ in range(3)}) == 1
