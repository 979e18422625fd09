"""S11: what a server or a file sends cannot hold a run up: each row costs less than two seconds, and only itself."""

from __future__ import annotations

import contextlib
import json
import time
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from family_rows import PAIR, QA, TAGS
from loopback import Fault, LoopbackServer, completion
from security.hostile import LENGTH, long_texts, scaled
from stepsynth.cli.running import run_config
from stepsynth.config import SourceConfig, TaskConfig
from stepsynth.data.examples import RowReader
from stepsynth.data.rows import RawRow
from stepsynth.errors import DataError
from stepsynth.evaluation.squad import exact_match, f1
from stepsynth.filters import FilterPipeline
from stepsynth.filters.artefact import AnswerLeakFilter, LabelLeakFilter
from stepsynth.filters.normalise import clean, leading_sentences, normalize_for_match
from stepsynth.filters.schema import Schema
from stepsynth.journal import Journal
from stepsynth.prompts import Prompts, read_answer
from stepsynth.tasks.answer_candidates import candidate_spans
from stepsynth.types import Candidate, Example, Message, Request, Sampling, Span
from world import LABELS, build_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import Seen

SECONDS = 2.0
LABELLED = TaskConfig(name="t", instruction="Decide.", labels={"kalm": "about kalm things of all kinds", "no label": ""})


def as_candidate(text: str, answer: Span | None = None) -> Candidate:
    request = Request((Message("user", "x"), Message("assistant", text[:9999])), Sampling(), 0, "s", 0, "kalm", None, "", answer)
    return Candidate.of(request, "k", text)


def _schema(text: str) -> object:
    return Schema(max_words=40, question=True).judge([as_candidate(text)], [])


def _pipeline(text: str) -> object:
    gold = [Example("g", text[: LENGTH // 2], "kalm"), Example("h", "one two three four five six", "kalm")]
    return FilterPipeline((*FilterPipeline.for_given(gold).filters, LabelLeakFilter.like(gold, LABELLED.labels))).judge(
        [as_candidate(text)], []
    )


def _answers(text: str) -> object:
    passage = Example("", "q", "", text, (Span(text[:50], 0),))
    return [read_answer(text, TaskConfig(**task), passage) for task in (QA, PAIR, TAGS)], read_answer(text, LABELLED, passage)


def _cloze(text: str) -> object:
    row = Example("", "a?", "", text, (Span(text[LENGTH // 2 :][:20], LENGTH // 2),))
    return Prompts(TaskConfig(**QA)).render("extrapolate", "", row=row, examples=(row,))


def _naming(text: str) -> object:
    return AnswerLeakFilter(0.5).judge([as_candidate(text, Span(text[:5000], 0))], [])


READERS: dict[str, Callable[[str], object]] = {
    "clean": clean,
    "clean, cut off": lambda text: clean(text, truncated=True),
    "normalize_for_match": normalize_for_match,
    "leading_sentences": lambda text: leading_sentences(text, 200),
    "Schema": _schema,
    "all filters": _pipeline,
    "read_answer": _answers,
    "cloze": _cloze,
    "AnswerLeakFilter": _naming,
    "squad": lambda text: (exact_match(text, [text[:-1]]), f1(text, [text[:-1]])),
}


def slow(read: Callable[[str], object], texts: list[str], seconds: float = SECONDS) -> list[tuple[str, float]]:
    """Return the texts that took too long, by CPU time, so that a busy machine fails nothing.

    A reader sees compatibility characters at full length: a single U+FDFA is a sentence of 18 letters, and may take as long.
    """
    found = []
    for text in texts:
        most = seconds * max(1.0, len(unicodedata.normalize("NFKC", text)) / max(1, len(text)))
        started = time.process_time()
        read(text)
        took = time.process_time() - started
        if took > most:
            found.append((f"{text[:20]!r}...{text[-10:]!r}", round(took, 1)))
    return found


@pytest.mark.parametrize("name", READERS)
def test_s11_the_worst_answers_known_are_read_in_time(name: str) -> None:
    """What once took minutes: spaces and letters behind a fence, thousands of sentences, layers of wrappers."""
    worst = [
        "```" + scaled("a"),
        "```\n" + scaled("\n") + "x",
        "x" + scaled("1. "),
        scaled("<|") + scaled("|>"),
        scaled("'(") + scaled(")'"),
    ]
    assert slow(READERS[name], worst) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_s11_no_text_of_hundreds_takes_time_out_of_proportion(name: str) -> None:
    """A fifth of the length in a fifth of the time: the product of two lengths would show all the same."""
    assert slow(READERS[name], list(long_texts(LENGTH // 5)), SECONDS / 5) == []


@pytest.mark.slow
def test_s11_no_passage_takes_time_out_of_proportion_to_find_answers_in() -> None:
    """The tagger takes words one by one and is the slowest reader: one wrapper is enough for every unit."""
    candidate_spans("The first call reads the lexicon.")
    assert slow(candidate_spans, list(long_texts(LENGTH // 5))[::13], SECONDS / 2) == []


def test_s11_an_answer_beyond_every_token_limit_is_cut_before_it_is_read() -> None:
    text = "Word " * 3_000_000
    started = time.process_time()
    assert len(clean(text)) <= 200_000
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("start", [None, 7])
def test_s11_an_answer_that_nearly_stands_everywhere_in_its_passage_is_looked_for_in_time(start: int | None) -> None:
    """A pattern tried at every place would take the product of both lengths."""
    reader = RowReader(TaskConfig(**QA), SourceConfig(path="x.csv"), "validation")  # type: ignore[arg-type]
    passage = scaled("a", 600_000)
    for answer in (scaled("a", 300_000), scaled("a", 300_000) + "b", "a"):
        values = {"context": passage, "question": "q?", "answer": answer, "answer_start": 599_999 if answer == "a" else start}
        started = time.process_time()
        with contextlib.suppress(DataError):
            reader.example("v-0", RawRow(1, values), "row 0")
        assert time.process_time() - started < SECONDS


HOSTILE_BODIES = {
    "deep": '{"choices": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "digits": '{"choices": [{"message": {"content": ' + "9" * 1_000_000 + "}}]}",
    "no object": '"' + "x" * 1_000_000 + '"',
    "long error": json.dumps({"error": {"message": "x" * 5_000_000}}),
    "spaces": " " * 10_000_000,
}


def test_s11_a_body_without_end_or_with_too_much_in_it_fails_its_own_row_only(tmp_path: Path) -> None:
    """A stream that never stops, nesting 200,000 deep, a million digits, an answer of a million words: the run goes on."""
    world = build_world(tmp_path / "world")
    faults: dict[int, Fault] = {2: Fault("flood")}
    faults |= {number: Fault.status(200, body=body) for number, body in enumerate(HOSTILE_BODIES.values(), start=3)}

    def fault(seen: Seen) -> Fault | None:
        return faults.get(seen.number)

    with LoopbackServer(labels=LABELS, faults=fault) as server:
        plain = server.answer

        def answer(body: dict[str, Any]) -> str | dict[str, Any]:
            return completion("```" + scaled("a b\n\n", 1_000_000), body) if len(server.completions) == 9 else plain(body)

        server.answer = answer
        teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "attempts": 1, "concurrency": 1}
        changes = {"teacher": teacher, "method.name": "zerogen", "method.seed_rows": 24, "student.epochs": 1}
        world.write_config(changes)
        started = time.process_time()
        results = run_config(world.config(), tmp_path / "run", quiet=True)
        assert time.process_time() - started < 20
    assert results["methods"]["zerogen"]["dropped"]["failed"] == 1 + len(HOSTILE_BODIES)
    assert results["methods"]["zerogen"]["rows"] == 24
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        assert all(len(row.text) < 250_000 for row in journal.rows())


@pytest.mark.parametrize("kind", ["a line of 200 MB", "deep JSON", "a field of 200 MB", "a gzip bomb"])
def test_s11_a_file_that_is_too_much_is_one_line(kind: str, tmp_path: Path) -> None:
    import gzip

    from stepsynth.data import load_texts

    path = tmp_path / {"a field of 200 MB": "x.csv", "a gzip bomb": "x.jsonl.gz"}.get(kind, "x.jsonl")
    if kind == "deep JSON":
        path.write_text("[" * 1_000_000)
    elif kind == "a gzip bomb":
        with gzip.open(path, "wb", compresslevel=9) as file:
            for _ in range(200):
                file.write(b" " * 1_000_000)
    else:
        with path.open("wb") as file:
            file.write(b'text\n"' if path.suffix == ".csv" else b'{"text": "')
            for _ in range(200):
                file.write(b"x" * 1_000_000)
    started = time.process_time()
    with pytest.raises(DataError) as caught:
        load_texts(path, LABELLED)
    assert time.process_time() - started < SECONDS
    assert len(str(caught.value)) < 1000
