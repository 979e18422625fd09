"""The journal: what goes in comes out, totals add up, and a damaged file is one clear line."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.config import DataConfig, RunConfig, SourceConfig, TaskConfig
from stepsynth.errors import RunError
from stepsynth.journal import AnswerStore, Journal, Spent
from stepsynth.journal.database import decoded, each
from stepsynth.journal.queries import count_rows, dataset_sample, each_ending, each_row, rows_at, rows_from_mistakes
from stepsynth.run import RunDirectory
from stepsynth.run.data import RunData
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.training import StudentRunner
from stepsynth.types import (
    Candidate,
    Evaluation,
    Example,
    Graded,
    Message,
    Prediction,
    Request,
    Response,
    Sampling,
    Span,
    Usage,
    Verdict,
)

TEACHER: dict[str, object] = {"backend": "fake"}
ODD = ["plain", "", "\ud800", "a\udfffb", "\u2028\u0085", "\U0001f389", "nul \x00 inside", "\u202ertl", "quote ' \" --"]
ANY_TEXT = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec=None)))


def request(number: int = 0, *, text: str = "Write.", max_tokens: int = 64, stage: str = "round-0/seed") -> Request:
    return Request((Message("user", text),), Sampling(max_tokens=max_tokens), number, stage, number, "pos")


def answer(number: int = 0, text: str = "An answer.", cost: float | None = None) -> tuple[str, Request, Response]:
    asked = request(number)
    return asked.key(TEACHER), asked, Response(text, usage=Usage(10, 5, cost))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_answers_prompts_gold_and_rows_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """R20, lone surrogates included: they come out of broken JSON of a server."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    journal = Journal(path)
    requests = [request(i, text=text) for i, text in enumerate(texts)]
    keyed = [(asked.key(TEACHER), asked) for asked in requests]
    responses = [Response(text, "stop", Usage(1, 2, 0.5), raw=text) for text in texts]
    journal.commit_answers([(key, asked, response) for (key, asked), response in zip(keyed, responses, strict=True)], TEACHER)
    journal.start({"fact": "value"}, {"harvest": [Example(f"harvest-{i}", text, "pos") for i, text in enumerate(texts)]})
    verdicts = [
        Verdict(Candidate.of(asked, key, text), "" if i % 2 else "meta")
        for i, ((key, asked), text) in enumerate(zip(keyed, texts, strict=True))
    ]
    journal.finish_stage("round-0/seed", 0, "seed", verdicts, {"missing": {}}, 1.5)
    journal.close()
    again = Journal(path)
    assert again.find_answers(keyed, TEACHER) == {key: response for (key, _), response in zip(keyed, responses, strict=True)}
    assert [e.text for e in again.gold("harvest")] == texts
    assert [row.text for row in again.rows()] == texts
    assert [row.reason for row in again.rows()] == ["" if i % 2 else "meta" for i in range(len(texts))]
    stored = again._connection.execute("SELECT key, request FROM answers").fetchall()
    prompts = {key: json.loads(decoded(found))["messages"] for key, found in stored}
    assert prompts == {key: [["user", text]] for (key, _), text in zip(keyed, texts, strict=True)}
    again.close()


SPANS = st.lists(st.builds(Span, ANY_TEXT, st.integers(0, 2**40)), max_size=3).map(tuple)


@given(rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT, SPANS), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_contexts_and_answers_come_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, tuple[Span, ...]]]
) -> None:
    """Of gold rows, with any number of answers, and of written ones, which have at most one."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    gold = [Example(f"harvest-{i}", text, "pos", context, answers) for i, (text, context, answers) in enumerate(rows)]
    asked = [
        replace(request(i), context=context, answer=answers[0] if answers else None)
        for i, (_, context, answers) in enumerate(rows)
    ]
    candidates = [Candidate.of(one, f"k{i}", text) for i, (one, (text, _, _)) in enumerate(zip(asked, rows, strict=True))]
    journal = Journal(path)
    journal.start({}, {"harvest": gold})
    journal.finish_stage("round-0/seed", 0, "seed", [Verdict(candidate) for candidate in candidates], {}, 0.0)
    journal.close()
    again = Journal(path)
    assert again.gold("harvest") == gold
    assert [row.example for row in again.dataset()] == [candidate.row.example for candidate in candidates]
    assert [(row.context, row.answer) for row in again.rows()] == [(one.context, one.answer) for one in asked]
    again.close()


@given(gold=ANY_TEXT, said=ANY_TEXT, start=st.integers(-1, 2**40), score=st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_an_answer_in_words_and_its_place_come_back(
    tmp_path_factory: pytest.TempPathFactory, gold: str, said: str, start: int, score: float
) -> None:
    graded = [Graded(Prediction("harvest-0", said, {said: 0.1 + 0.2}, start), gold, score)]
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.db")
    journal.finish_training("round-0/train", 0, {"harvest": (Evaluation("exact_match", 0.5, (0, 1), 1), graded)}, {}, 0.0)
    assert journal.graded(0, "harvest") == graded
    journal.close()


def test_rows_come_in_the_order_of_the_run_and_the_data_set_has_no_rationales(journal: Journal) -> None:
    for name, number, kind in (
        ("round-1/extrapolate", 1, "extrapolate"),
        ("round-0/seed", 0, "seed"),
        ("round-0/rationales", 0, "rationales"),
    ):
        verdicts = [
            Verdict(Candidate.of(replace(request(i), source="harvest-3"), f"k{i}", f"{name} {i}"), ("", "meta", "")[i])
            for i in range(3)
        ]
        journal.finish_stage(name, number, kind, verdicts, {}, 0.0)
    stages = ["round-0/rationales", "round-0/seed", "round-1/extrapolate"]
    assert [row.text for row in journal.rows()] == [f"{stage} {i}" for stage in stages for i in range(3)]
    assert [name for name, *_ in journal.stages()] == stages
    assert [row.text for row in journal.dataset()] == [f"{stage} {i}" for stage in stages[1:] for i in (0, 2)]
    assert {row.round for row in journal.dataset(0)} == {0}
    assert [(row.position, row.key, row.label, row.source) for row in journal.rows(stage="round-0/seed", accepted=False)] == [
        (1, "k1", "pos", "harvest-3")
    ]
    assert journal.stage_done("round-0/seed")
    assert not journal.stage_done("round-2/seed")


def test_a_reader_that_stops_early_may_outlive_the_connection() -> None:
    """A disk that is full ends the data set in the middle: nothing is said but that."""
    connection = sqlite3.connect(":memory:")
    rows = each(connection, "SELECT 1 UNION ALL SELECT 2")
    assert next(iter(rows)) == (1,)
    connection.close()
    rows.close()  # type: ignore[attr-defined]


def test_rows_are_read_a_few_at_a_time_as_if_all_at_once(journal: Journal) -> None:
    sources = ["harvest-0", "harvest-1", "harvest-0", "harvest-0", None, "harvest-1"]
    for name, kind, number in (("round-0/rationales", "rationales", 0), ("round-1/extrapolate", "extrapolate", 1)):
        candidates = [
            Candidate.of(replace(request(i), source=source, label="ab"[i % 2]), f"k{i}", f"{name} {i}")
            for i, source in enumerate(sources)
        ]
        reasons = ["", "meta", "", "", "", "copy"]
        journal.finish_stage(name, number, kind, [Verdict(*both) for both in zip(candidates, reasons, strict=True)], {}, 0.0)
    rows = journal.rows()
    for accepted in (None, True, False):
        assert list(each_row(journal, accepted=accepted)) == journal.rows(accepted=accepted)
    written = [row for row in rows if row.round == 1]
    assert list(each_ending(journal, "round-1/extrapolate")) == [(row.position, row.label, row.reason) for row in written]
    assert rows_at(journal, "round-1/extrapolate", [4, 1, 99]) == {place: written[place] for place in (1, 4)}
    assert rows_at(journal, "round-1/extrapolate", range(2000)) == dict(enumerate(written))
    kept, further = rows_from_mistakes(journal, 1, 2)
    assert kept == {"harvest-0": [written[0], written[2]], "harvest-1": [written[1], written[5]]}
    assert further == {"harvest-0": 1}
    assert rows_from_mistakes(journal, 2, 2) == ({}, {})
    assert dataset_sample(journal) == journal.dataset()
    assert dataset_sample(journal, 2) == journal.dataset()[::2]
    counted = Counter((row.stage, row.label, row.reason) for row in rows)
    assert {(count.stage, count.label, count.reason): count.rows for count in count_rows(journal)} == counted
    assert sum(count.rows for count in count_rows(journal) if count.in_dataset) == len(journal.dataset())


def test_evaluations_and_predictions_come_back(journal: Journal) -> None:
    evaluation = Evaluation("accuracy", 0.5, (0.1, 0.9), 2, {"macro_f1": 0.4})
    graded = [
        Graded(Prediction("b", "pos", {"pos": 0.75, "neg": 0.25}), "pos", 1.0),
        Graded(Prediction("a", "neg", {"pos": 0.1, "neg": 0.9}), "pos", 0.0),
    ]
    journal.finish_training("round-0/train", 0, {"select": (evaluation, graded)}, {}, 0.0)
    journal.finish_test("test", 0, {0: (evaluation, graded), 1: (evaluation, graded[1:])}, {}, 0.0)
    assert journal.evaluation(0, "select") == journal.evaluation(0, "test") == evaluation
    assert journal.evaluation(1, "select") is None
    assert journal.graded(0, "select") == journal.graded(0, "test") == graded
    assert journal.graded(1, "test") == graded[1:]
    assert journal.graded(0, "harvest") == []
    assert list(journal.graded(0, "select")[0].prediction.probabilities) == ["pos", "neg"], "in label order"


def test_a_round_has_a_student_when_its_training_is_done(journal: Journal) -> None:
    """Neither the rows of a round nor a score on the test set makes one."""
    evaluation = Evaluation("accuracy", 0.5, (0.1, 0.9), 2, {})
    journal.finish_stage("round-3/extrapolate", 3, "extrapolate", [], {}, 0.0)
    assert journal.rounds() == []
    journal.finish_training("round-1/train", 1, {}, {"rows": 3}, 0.0)
    journal.finish_training("round-0/train", 0, {"select": (evaluation, [])}, {"rows": 3}, 0.0)
    journal.finish_test("test", 5, {5: (evaluation, [])}, {}, 0.0)
    assert journal.rounds() == [0, 1]


def test_no_text_of_the_sealed_test_set_is_written(tmp_path: Path) -> None:
    """What is graded says which row and what its answer is, never its text or its context."""
    task = TaskConfig(name="t", instruction="Decide.", labels={"pos": "", "neg": ""})
    rows = [Example("t", "canary-text", "pos", "canary-context")]
    directory = RunDirectory(tmp_path, RunConfig(task=task, data=DataConfig(validation=SourceConfig(path=Path("v.csv")))))
    journal = Journal(tmp_path / "journal.db")
    student, progress = FixedStudent(), SilentProgress()
    room = StudentRunner(directory, journal, create_family(task), student, progress)  # type: ignore[arg-type]
    journal.finish_training("round-0/train", 0, {}, {}, 0.0)
    sealed = Sealed(rows)
    room.evaluate_test(RunData(None, sealed, sealed), student)  # type: ignore[arg-type]
    assert journal.graded(0, "test") == [Graded(Prediction("t", "neg", {"pos": 0.0, "neg": 1.0}), "pos", 0.0)]
    journal.close()
    assert all(b"canary" not in path.read_bytes() for path in tmp_path.iterdir())


class FixedStudent:
    """Says ``neg`` to everything."""

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        return [Prediction(example.id, "neg", {"pos": 0.0, "neg": 1.0}) for example in examples]


class Sealed:
    """A sealed test set and what is known of it, in one."""

    sha256 = "digest"
    shared = 0

    def __init__(self, rows: list[Example]) -> None:
        self.rows = rows

    def open(self, sha256: str) -> list[Example]:
        assert sha256 == self.sha256
        return self.rows


def test_a_stage_is_written_whole_or_not_at_all(journal: Journal) -> None:
    good = Verdict(Candidate.of(request(), "k", "text"))
    bad = Verdict(Candidate.of(replace(request(), label=object()), "k", "text"))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        journal.finish_stage("round-0/seed", 0, "seed", [good, bad], {}, 0.0)
    assert journal.rows() == []
    assert not journal.stage_done("round-0/seed")
    journal.finish_stage("round-0/seed", 0, "seed", [good], {}, 0.0)
    assert len(journal.rows()) == 1


def test_totals_add_up_and_count_answers_of_other_runs_apart(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a.db", AnswerStore.shared(tmp_path / "shared.db"))
    first.commit_answers([answer(0, cost=0.25), answer(1, cost=0.5)], TEACHER)
    assert (first.totals().requests, first.totals().from_cache, first.totals().cost_usd) == (2, 0, 0.75)
    assert (first.totals().prompt_tokens, first.totals().completion_tokens, first.totals().bought_tokens) == (20, 10, 30)
    first.close()
    second = Journal(tmp_path / "b.db", AnswerStore.shared(tmp_path / "shared.db"))
    assert set(second.find_answers([answer(0)[:2], answer(2)[:2]], TEACHER)) == {answer(0)[0]}
    second.commit_answers([answer(2, cost=1.0)], TEACHER)
    totals = second.totals()
    assert (totals.requests, totals.from_cache) == (2, 1)
    assert (totals.prompt_tokens, totals.completion_tokens, totals.bought_tokens) == (20, 10, 15)
    assert second.find_answers([answer(0)[:2]], TEACHER)
    assert second.totals() == totals, "what was copied once is not copied again"
    second.close()


def spend(journal: Journal, stage: str, answers: list[tuple[str, Request, Response]]) -> None:
    journal.commit_answers(answers, TEACHER)
    verdicts = [Verdict(Candidate.of(asked, key, response.text), "meta") for key, asked, response in answers]
    journal.finish_stage(stage, 0, "seed", verdicts, {}, 0.0)


def test_a_stage_has_spent_what_its_answers_took_each_counted_once(journal: Journal) -> None:
    spend(journal, "round-0/seed", [answer(0, cost=0.25), answer(1, cost=0.5), answer(1, cost=0.5)])
    spend(journal, "round-1/extrapolate", [answer(2, cost=1.0)])
    assert journal.spent("round-0/seed") == Spent(2, 30, 0.75)
    assert journal.spent("round-1/extrapolate") == Spent(1, 15, 1.0)
    assert journal.spent("round-2/extrapolate") == Spent(0, 0, 0.0)


def test_an_answer_that_was_asked_for_again_with_a_longer_limit_is_spent_once(journal: Journal) -> None:
    key, asked, _ = answer(0)
    longer = request(0, max_tokens=128)
    assert longer.key(TEACHER) == key
    spend(journal, "round-0/seed", [(key, asked, Response("cut", "length", Usage(10, 64, 0.5)))])
    journal.commit_answers([(key, longer, Response("whole", "stop", Usage(10, 90, 0.75)))], TEACHER)
    assert journal.spent("round-0/seed") == Spent(1, 100, 0.75)


def test_answers_of_other_runs_count_as_spent_like_bought_ones(tmp_path: Path) -> None:
    """A comparison of methods must not reward the one that ran second."""
    found = []
    for name in ("a.db", "b.db"):
        journal = Journal(tmp_path / name, AnswerStore.shared(tmp_path / "shared.db"))
        if name == "b.db":
            assert journal.find_answers([answer(0)[:2]], TEACHER)
        spend(journal, "round-0/seed", [answer(0, cost=0.25)])
        found.append(journal.spent("round-0/seed"))
        journal.close()
    assert found == [Spent(1, 15, 0.25)] * 2


def test_what_a_stage_spent_is_unknown_when_any_price_is(journal: Journal) -> None:
    spend(journal, "round-0/seed", [answer(0, cost=0.25), answer(1, cost=None)])
    assert journal.spent("round-0/seed") == Spent(2, 30, None)


def test_an_unknown_price_is_never_zero(journal: Journal) -> None:
    assert journal.totals().cost_usd == 0.0
    journal.commit_answers([answer(0, cost=0.25)], TEACHER)
    assert journal.totals().cost_usd == 0.25
    journal.commit_answers([answer(1, cost=None)], TEACHER)
    assert journal.totals().cost_usd is None


def test_an_answer_once_written_stays_as_it_is(journal: Journal) -> None:
    key, asked, _ = answer(0)
    journal.commit_answers([(key, asked, Response("first"))], TEACHER)
    journal.commit_answers([(key, asked, Response("second"))], TEACHER)
    assert journal.find_answers([(key, asked)], TEACHER)[key].text == "first"
    assert journal.totals().requests == 1


@pytest.mark.parametrize(
    ("finish", "written", "limit", "found"),
    [
        ("stop", 5, 128, True),
        ("stop", 5, 32, True),
        ("stop", 40, 32, False),
        ("length", 64, 128, False),
        ("length", 64, 64, True),
        ("refusal", 0, 8, True),
    ],
)
def test_an_answer_serves_every_limit_under_which_it_would_be_the_same(
    journal: Journal, finish: str, written: int, limit: int, found: bool
) -> None:
    asked = request(max_tokens=64)
    journal.commit_answers([(asked.key(TEACHER), asked, Response("text", finish, Usage(1, written)))], TEACHER)  # type: ignore[arg-type]
    other = request(max_tokens=limit)
    assert bool(journal.find_answers([(other.key(TEACHER), other)], TEACHER)) is found


@pytest.mark.parametrize("shared", [False, True])
def test_files_are_private_whatever_the_umask(tmp_path: Path, shared: bool) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "journal.db"
        store = AnswerStore.shared(path) if shared else Journal(path)
        if isinstance(store, Journal):
            store.commit_answers([answer()], TEACHER)
        else:
            store.insert([answer()], TEACHER, "asked")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert len(modes) == 3, "the file, its write-ahead log and that one's index"
    assert set(modes.values()) == {0o600}


def one_line(error: pytest.ExceptionInfo[RunError], *parts: str) -> None:
    assert "\n" not in str(error.value)
    assert error.value.hint
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("shared", [False, True])
def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RunError) as caught:
        AnswerStore.shared(path) if shared else Journal(path)
    one_line(caught, "newer stepsynth", "schema 99", str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but long enough to look like a header" * 20, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_journal_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        Journal(path)
    one_line(caught, str(path))
    assert path.read_bytes() == content


def test_a_journal_damaged_in_the_middle_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.commit_answers([answer(i, text="x" * 500) for i in range(200)], TEACHER)
    journal.close()
    data = bytearray(path.read_bytes())
    data[8192:-8192] = os.urandom(len(data) - 16384)
    path.write_bytes(data)

    def use() -> None:
        damaged = Journal(path)
        try:
            damaged.totals()
            damaged.find_answers([answer(i)[:2] for i in range(200)], TEACHER)
        finally:
            damaged.close()

    with pytest.raises(RunError) as caught:
        use()
    one_line(caught)


def test_a_path_that_cannot_be_a_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "journal.db"):
        with pytest.raises(RunError) as caught:
            Journal(path)
        one_line(caught, str(path))


def test_many_processes_may_make_and_use_one_file_of_shared_answers(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from stepsynth.journal import AnswerStore
from test_journal import TEACHER, answer
sys.stdin.readline()
store = AnswerStore.shared(Path(sys.argv[1]))
for number in range(20):
    store.insert([answer(100 * int(sys.argv[2]) + number)], TEACHER, "asked")
store.close()
"""
    path = tmp_path / "shared.db"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate()[1] for worker in workers] == [""] * 4
    store = AnswerStore.shared(path)
    wanted = [(answer(100 * number + i)[0], 64) for number in range(4) for i in range(20)]
    assert len(store.find_many(wanted)) == 80
    store.close()
