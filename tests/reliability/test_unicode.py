"""R20: any text comes back as it was, from the journal, the data set, an import and the page, or is refused with a reason."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepsynth.config import RunConfig, parse_config
from stepsynth.data.importing import import_rows
from stepsynth.errors import DataError
from stepsynth.journal import Journal
from stepsynth.report.derived import dataset_lines, write_exports
from stepsynth.run import RunDirectory
from stepsynth.runtime.files import write_atomic
from stepsynth.types import Candidate, Example, Message, Request, Response, Sampling, Span, Verdict

NASTY = (
    "\u2028\u2029\u0085\x00\x01\x1c\x1e\x1f\x0b\x0c\ud800\udbff\udc00\udfff\u202e\u2066\u2069\ufeff\ufffe\uffff"
    "\r\n\t \"'\\,;<>&{}%$"
)
TEXTS = st.text(
    st.one_of(st.sampled_from(NASTY), st.characters(), st.sampled_from("aZ\u05d0\u0645\u4e2d\U0001f680\u0301")), max_size=40
)
TEACHER: dict[str, object] = {"backend": "fake"}
SAMPLES = [
    "a\u2028b\u2029c\u0085d",
    "nul\x00 and \x1b[31m",
    "half \ud800 of \udfff a pair",
    "\u05e9\u05dc\u05d5\u05dd \u202e gnitset \u2066",
    "line\r\nbreaks\rand\nmore\n\n",
    "\ufeffbyte order mark",
    "=1+1\t@cmd",
    "cafe\u0301 caf\u00e9 \U0001f468\u200d\U0001f469\u200d\U0001f467",
]
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


Test = TypeVar("Test", bound=Callable[..., None])


def samples(test: Test) -> Test:
    for text in SAMPLES:
        test = example(text=text)(test)
    return test


def task() -> RunConfig:
    return parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": {"a": "", "b": ""}},
            "data": {"validation": {"path": "v.csv"}},
            "teacher": {"backend": "fake"},
        }
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


numbers = itertools.count()


def request(text: str, *, index: int = 0) -> Request:
    answer = Span(text, 3)
    return Request((Message("user", text),), Sampling(), next(numbers), "round-0/seed", index, "a", None, text, answer)


@samples
@given(text=TEXTS)
@QUICK
def test_r20_an_answer_comes_back_from_the_journal_letter_by_letter(journal: Journal, text: str) -> None:
    asked = request(text)
    key = asked.key(TEACHER)
    response = Response(text, raw=text)
    journal.commit_answers([(key, asked, response)], TEACHER)
    assert journal.find_answers([(key, asked)], TEACHER) == {key: response}


@samples
@given(text=TEXTS)
@QUICK
def test_r20_gold_rows_come_back_from_the_journal_letter_by_letter(tmp_path: Path, text: str) -> None:
    row = Example("harvest-0", text, "a", text, (Span(text, 0),))
    with closing(Journal(tmp_path / f"{next(numbers)}.db")) as journal:
        journal.start({"validation_sha256": "x"}, {"harvest": [row]})
        assert journal.gold("harvest") == [row]


@samples
@given(text=TEXTS)
@QUICK
def test_r20_a_row_is_one_line_of_the_dataset_and_comes_back_from_it(tmp_path: Path, text: str) -> None:
    with closing(Journal(tmp_path / f"{next(numbers)}.db")) as journal:
        verdicts = [Verdict(Candidate.of(request(text, index=i), "k", text)) for i in range(2)]
        journal.finish_stage("round-0/seed", 0, "seed", verdicts, {}, 0.0)
        (row, _) = journal.rows()
        assert (row.text, row.context, row.answer) == (text, text, Span(text, 3))
        write_atomic(tmp_path / "dataset.jsonl", (f"{line}\n" for line in dataset_lines(journal, task())))
    content = (tmp_path / "dataset.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert [json.loads(line)["text"] for line in content.splitlines()] == [text, text]


def imported(path: Path, text: str) -> None:
    """Check that a row was taken as it is, or not at all and with a reason."""
    refused = ""
    try:
        found = import_rows([path], task().task)
    except DataError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        # With one row only, a row that is refused makes an import that is refused.
        assert not text.strip() or "\0" in text or re.search("[\ud800-\udfff]", text), f"{text!a} was refused: {refused}"
        return
    assert [row.text for row in found.rows] == [text]
    # What an import writes is what a run reads.
    assert [json.loads(line)["text"] for line in found.content.split("\n") if line] == [text]
    path.with_name("again.jsonl").write_text(found.content, encoding="utf-8")
    assert [row.text for row in import_rows([path.with_name("again.jsonl")], task().task).rows] == [text]


@samples
@given(text=TEXTS)
@QUICK
def test_r20_a_jsonl_row_is_imported_letter_by_letter_or_refused(tmp_path: Path, text: str) -> None:
    for ascii_only in (True, False):
        line = json.dumps({"text": text, "label": "a"}, ensure_ascii=ascii_only)
        path = tmp_path / "rows.jsonl"
        try:
            path.write_bytes(f"{line}\n".encode())
        except UnicodeEncodeError:
            continue  # no file can hold it
        imported(path, text)


@samples
@given(text=TEXTS)
@QUICK
def test_r20_a_csv_row_is_imported_letter_by_letter_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.csv"
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), (text, "a")])
    except (UnicodeEncodeError, csv.Error):
        return  # no file can hold it
    imported(path, text)


class Texts(HTMLParser):
    """The text between tags, as a browser would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def test_r20_the_page_shows_any_text_or_the_replacement_character_for_what_no_page_can_hold(tmp_path: Path) -> None:
    config = task()
    texts = [text for text in SAMPLES if text.strip()]
    with closing(RunDirectory.open(tmp_path / "run", config)) as directory:
        with closing(Journal(directory.journal_path)) as journal:
            journal.start({"validation_sha256": "x"}, {"harvest": [Example("harvest-0", texts[0], "a")]})
            for number, text in enumerate(texts):
                verdicts = [Verdict(Candidate.of(request(text), f"k{number}", text))]
                journal.finish_stage(f"round-{number}/seed", number, "seed", verdicts, {"targets": {}, "missing": {}}, 0.0)
            write_exports(journal, directory)
        page = (tmp_path / "run" / "report.html").read_bytes().decode("utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", page)
    parser = Texts()
    parser.feed(page)
    shown = "".join("".join(parser.found).split())
    for text in texts:
        due = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
        assert "".join(due.split()) in shown, f"{text!a}"
