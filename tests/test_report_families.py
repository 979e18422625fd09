"""The page of a run, for every task family and every method: what is special about each is shown, and nothing else."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_page import CORPUS, Page, flat, shown
from report_story import Story, build
from stepsynth.report import render_report
from stepsynth.report.rows import passage
from stepsynth.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAMILIES = ("classification", "multi_label", "pair", "extractive_qa")
METHODS = ("s3", "seed-only", "zerogen", "goldgen", "gold", "s3+gold", "teacher")
TAGS = Story(family="multi_label", labels=("warm", "wet", "windy"))
PAIRS = Story(family="pair", labels=("yes", "no"))
QUESTIONS = Story(family="extractive_qa")


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    """Leave out the drawings, which `test_report` looks at."""
    with (
        patch("stepsynth.report.page.accuracy_figure", return_value="<svg></svg>"),
        patch("stepsynth.report.page.ledger_figure", return_value="<svg></svg>"),
    ):
        yield


def render(path: Path, story: Story) -> str:
    journal, results, config = build(path / "journal.db", story)
    with closing(journal):
        return render_report(journal, results, config)


def words(html: str) -> str:
    """The page's text with single spaces and plain hyphens."""
    return flat(" ".join(Page(html).text.split()))


@pytest.mark.parametrize("test", [True, False], ids=["tested", "untested"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_method_has_a_page(tmp_path: Path, family: str, method: str, test: bool) -> None:
    page = Page(render(tmp_path, Story(family=family, method=method, test=test)))
    assert page.problems == []
    assert ("82.5 %" in page.text) == test
    if method == "gold" and not test:
        assert "No student was scored." in page.text
    else:
        assert len(page.table("New rows")) == {"gold": 1, "teacher": 1, "s3+gold": 3}.get(method, 2)


@pytest.mark.parametrize("payload", CORPUS)
@pytest.mark.parametrize("story", [TAGS, PAIRS, QUESTIONS], ids=lambda story: story.family)
def test_hostile_contexts_and_answers_are_only_text(tmp_path: Path, story: Story, payload: str) -> None:
    html = render(tmp_path, replace(story, rewrite=lambda text: f"{text} {payload}", padding=1))
    page = Page(html)
    html.encode("utf-8")
    assert page.problems == []
    assert shown(f"Written from harvest-2, version 1. {payload}") in page.text
    if story.family != "multi_label":
        assert shown(f"Boat 2 {payload} left the harbour") in page.text


# questions -----------------------------------------------------------------------------


def test_a_question_is_headed_by_exact_match_with_f1_beside_it(tmp_path: Path) -> None:
    html = render(tmp_path, QUESTIONS)
    assert "Sealed-test exact match of the best student (round 1), 95 % interval 80.1-84.9 %, n = 1,000; F1 87.5 %." in words(
        html
    )
    assert "<dt>questions answered</dt><dd>999</dd>" in html
    assert "<dt>F1, words shared with the right answer</dt><dd>87.5 % (82.5\u201392.5)</dd>" in html


def test_a_question_has_no_labels(tmp_path: Path) -> None:
    page = Page(render(tmp_path, QUESTIONS))
    assert "labels" not in page.text.split("The config, defaults")[0]
    assert not any("Label" in table[0] or "gold \\ said" in table[0] for table in page.tables)
    assert [line[0] for line in page.table("Accepted, 6 of 40")] == [f"Boat {i}" for i in (4, 14, 24, 34, 44, 54)]


def test_an_answer_is_marked_in_its_passage_and_the_question_stands_below(tmp_path: Path) -> None:
    html = render(tmp_path, QUESTIONS)
    row = next(part for part in html.split("<tr>") if "Seed sentence 14 " in part)
    assert '<mark class="gold">Boat 14</mark> left the harbour at dawn.' in row
    assert row.index("left the harbour") < row.index("Seed sentence 14 ")


def test_a_passage_that_rows_share_is_shown_once(tmp_path: Path) -> None:
    """The rows of round 1 were written about two passages."""
    html = render(tmp_path, replace(QUESTIONS, drops=("",)))
    accepted = next(part for part in html.split("<table") if "Accepted, 6 of 6<" in part)
    assert accepted.count("left the harbour") == 2
    assert accepted.count("Written from harvest-") == 6


def test_a_wrong_answer_is_marked_beside_the_right_one(tmp_path: Path) -> None:
    html = render(tmp_path, QUESTIONS)
    miss = html.split('<li class="miss">')[1]
    assert '<mark class="gold said">Boat 2</mark><mark class="said"> left</mark> the harbour' in miss
    assert 'gold <bdi class="tag">Boat 2</bdi>' in miss
    assert 'predicted <bdi class="tag wrong">Boat 2 left</bdi> at 80.0 %' in miss
    assert miss.count("the harbour at dawn") == 1, "what was written from it keeps the passage"


def test_a_long_passage_is_clipped_around_its_answer(tmp_path: Path) -> None:
    html = render(tmp_path, replace(QUESTIONS, padding=100))
    row = next(part for part in html.split("<tr>") if "Seed sentence 14 " in part)
    short, whole = re.findall(r'<(?:span|div) class="words" dir="auto">((?:[^<]|<mark class="gold">|</mark>)*)<', row)[:2]
    assert '<mark class="gold">Boat 14</mark>' in short
    assert len(short) < 400
    assert '<mark class="gold">Boat 14</mark>' in whole
    assert len(whole) > 3_900
    assert "more characters are in the journal" in row


spans = st.tuples(st.text(max_size=600), st.integers(-5, 700), st.integers(0, 400), st.integers(-5, 700), st.integers(0, 40))


@given(spans)
def test_a_passage_loses_nothing_and_marks_what_it_says(drawn: tuple[str, int, int, int, int]) -> None:
    context, start, length, other, size = drawn
    gold, said = (Span(context[max(0, at) : max(0, at) + n], at) for at, n in ((start, length), (other, size)))
    found = passage(context, [(gold, "gold"), (said, "said")])
    if found is None:
        assert context == ""
        return
    whole = "".join(text for text, _ in found.whole or found.short)
    assert whole == context
    assert "".join(text for text, kind in found.short).strip("\u2026 ") in context
    held = gold.text and start >= 0
    marked = "".join(text for text, kind in found.whole or found.short if "gold" in kind.split())
    assert marked == (gold.text if held else "")
    if held and said.start < 0:
        assert any("gold" in kind.split() for _, kind in found.short)


# pairs and label sets ------------------------------------------------------------------


def test_a_pair_shows_the_kept_text_above_the_written_one(tmp_path: Path) -> None:
    html = render(tmp_path, PAIRS)
    row = next(part for part in html.split("<tr>") if "Seed sentence 10 " in part)
    assert re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", row)).strip() == (
        "yes premise Boat 10 left the harbour at dawn. hypothesis Seed sentence 10 about the acting."
    )
    assert "<mark" not in html.split("<body>")[1]
    assert [line[0] for line in Page(html).table("gold \\ said")] == ["yes", "no"]


def test_sets_of_labels_are_spelt_out(tmp_path: Path) -> None:
    html = render(tmp_path, TAGS)
    page = Page(html)
    assert {line[0] for line in page.table("Accepted, 6 of 40")} == {"warm", "wet", "windy", "warm + wet + windy"}
    assert "warm|wet" not in page.text
    assert 'predicted <bdi class="tag wrong">warm + wet + windy</bdi>' in html


def test_sets_of_labels_have_a_table_per_label_and_no_confusion(tmp_path: Path) -> None:
    html = render(tmp_path, TAGS)
    assert [line[0] for line in Page(html).table("Precision")] == ["warm", "wet", "windy"]
    assert "Confusion matrix" not in html
    assert "Sealed-test subset accuracy of the best student (round 1)" in words(html)
    assert "; micro-F1 85.5 %, macro-F1 83.5 %." in words(html)
    assert "<dt>wrong decisions (Hamming loss)</dt><dd>12.3 %</dd>" in html


# methods -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "whose"),
    [
        ("gold", "of the student trained on the validation rows, 95 %"),
        ("s3+gold", "of the last student (round 2), trained on written and validation rows, 95 %"),
        ("teacher", "of the teacher itself, 95 %"),
    ],
)
def test_the_headline_says_whose_score_it_is(tmp_path: Path, method: str, whose: str) -> None:
    assert f"Sealed-test accuracy {whose}" in words(render(tmp_path, Story(method=method)))


def test_a_student_that_saw_all_gold_rows_has_no_score_without_a_test(tmp_path: Path) -> None:
    text = words(render(tmp_path, Story(method="gold", test=False)))
    assert "The sealed test set was not given. This student learned from all validation rows, so they cannot judge it" in text
    assert "This is not a test score." not in text


def test_the_teacher_itself_has_no_student_and_no_rounds(tmp_path: Path) -> None:
    html = render(tmp_path, Story(method="teacher", undecided=17))
    assert "<dt>Student</dt><dd>none: the teacher answers itself</dd>" in html
    assert "Best round" not in html
    assert "gave no decision or never came, and count as guesses: 17." in words(html)


@pytest.mark.parametrize("kind", ["zerogen", "import"])
def test_rows_that_were_given_or_plainly_asked_for_are_a_stage_of_their_own(tmp_path: Path, kind: str) -> None:
    page = Page(render(tmp_path, Story(first=kind)))
    title = {"zerogen": "rows from plain prompts", "import": "your rows"}[kind]
    lines = [line[:4] for line in page.table("Adds up") if line[0].endswith(f"round-0/{kind}")]
    assert lines == [[f"{title} round-0/{kind}", "60", "40", "20"]]


def test_new_reasons_are_explained(tmp_path: Path) -> None:
    html = render(tmp_path, replace(QUESTIONS, drops=("", "names the answer", "no question")))
    assert "<dt>names the answer</dt><dd>contains its own answer more often than real questions do</dd>" in html
    assert "<dt>no question</dt><dd>does not end with a question mark</dd>" in html


# warnings ------------------------------------------------------------------------------


def told(number: int, label: str) -> str:
    """A row whose first word gives its label away."""
    return f"{'Well' if label == 'positive' else 'Sadly'} this was row {number}."


@pytest.mark.parametrize(("spoken", "warned"), [(told, True), (Story().spoken, False)])
def test_a_trace_of_the_label_is_warned_of(tmp_path: Path, spoken: object, warned: bool) -> None:
    """Thirty rows a label on both sides; those of the teacher begin with another word for each label, or do not."""
    story = Story(harvest=60, wrong=((),), drops=("",), spoken=spoken)  # type: ignore[arg-type]
    text = words(render(tmp_path, story))
    assert ("The cue 'first token' alone predicts the label of written rows 100 % of the time" in text) == warned


def test_a_stage_without_labels_is_short_without_naming_them(tmp_path: Path) -> None:
    assert "ended 3 rows short of its target." in words(render(tmp_path, replace(QUESTIONS, missing={"": 3})))
