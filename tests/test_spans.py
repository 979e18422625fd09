"""Answer spans: exact pieces of any text, of every kind, the same for the same seed, and those a person would ask for."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import string
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepsynth.tasks.answer_candidates import KIND_WEIGHTS, MAX_CHARACTERS, MAX_WORDS, candidate_spans, draw_spans
from stepsynth.types import Span

# Passages written for this test, each with the answers that a reader would ask for.
PASSAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "The Harbour Museum of Lindvik opened on 14 June 1968 in a disused rope factory. Its founder, the marine "
        "biologist Ingrid Solheim, gave the town her collection of 3,200 shells and a stuffed polar bear. About 85% "
        "of the visitors arrive by ferry, and most of them stay for less than two hours.",
        ("Harbour Museum", "14 June 1968", "disused rope factory", "Ingrid Solheim", "3,200", "polar bear", "85%", "ferry"),
    ),
    (
        "In the late 18th century, copper from the Tarn Valley was carried by mule to Port Ellery. The journey took nine "
        "days. When Matthew Crane built a canal in 1794, the price of copper fell by £12 per ton, and the mule drivers "
        "rioted outside Crane's house.",
        (
            "late 18th century",
            "Tarn Valley",
            "Port Ellery",
            "nine days",
            "Matthew Crane",
            "1794",
            "canal",
            "mule drivers",
            "copper",
        ),
    ),
    (
        "Sourdough bread rises without commercial yeast. A mixture of flour and water ferments for five to seven days, "
        "until wild yeast and lactic acid bacteria have settled in it. Dr. Paula Okafor of the University of Leeds found "
        "more than 40 species of bacteria in starters from 500 kitchens.",
        (
            "commercial yeast",
            "flour and water",
            "wild yeast",
            "lactic acid bacteria",
            "University of Leeds",
            "40",
            "500",
            "40 species",
        ),
    ),
    (
        "The Vantage 3 probe left Earth on March 2, 2011 and reached the dwarf planet Orla four years later. Its infrared "
        "camera failed on Tuesday, 9 August 2016, but the magnetometer, built by engineers in Osaka, still sends data.",
        (
            "Vantage 3",
            "March 2, 2011",
            "Orla",
            "four years",
            "infrared camera",
            "Tuesday, 9 August 2016",
            "magnetometer",
            "Osaka",
        ),
    ),
    (
        "Under the Fisheries Act of 1923, no boat longer than twelve metres may enter the bay between October and April. "
        "Fines begin at $750. The Coast Guard issued 61 of them last winter, mostly to trawlers from neighbouring counties.",
        ("Fisheries Act of 1923", "twelve metres", "October", "April", "$750", "Coast Guard", "61", "neighbouring counties"),
    ),
    (
        "As a child, Lena Duarte learned chess from her neighbour, a retired postman, in the 1990s. She won the national "
        "championship at the age of 15 and defeated Viktor Hahn's computer in a match of six games. Her autobiography, "
        "Quiet Squares, sold two million copies.",
        ("Lena Duarte", "retired postman", "1990s", "national championship", "15", "Viktor Hahn", "six games", "Quiet Squares"),
    ),
)
RECALL = 0.9

awkward = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                *(
                    "the",
                    "The",
                    "a ",
                    "of",
                    "and",
                    "&",
                    "red",
                    "very",
                    "dog",
                    "Dog",
                    "'s",
                    "\u2019s",
                    "don't",
                    "U.S.",
                    "Dr.",
                    "St.",
                ),
                *(
                    "May",
                    "Monday",
                    "1987",
                    "1920s",
                    "BC",
                    "18th",
                    "century",
                    "twelve",
                    "$",
                    "\u00a3",
                    "3.5",
                    "3,200",
                    "%",
                    "per cent",
                ),
                *(
                    " ",
                    "  ",
                    "\t",
                    "\n",
                    "\r\n",
                    "\u00a0",
                    "\u2028",
                    ".",
                    ",",
                    "!",
                    "(",
                    ")",
                    '"',
                    "\u201c",
                    "-",
                    "\u2013",
                    "/",
                    "|",
                ),
                *(
                    "<b>",
                    "</b>",
                    "&amp;",
                    "\U0001f600",
                    "\U0001f469\u200d\U0001f680",
                    "e\u0301",
                    "\u00e9",
                    "\ud800",
                    "\x00",
                    "\u4e2d\u6587",
                ),
            ]
        ),
        max_size=60,
    ).map("".join),
    st.lists(st.sampled_from(["the", "Dog", "dog", "of", "saw", "1987", "May", "and", "big", "."]), max_size=80).map(" ".join),
)


def overlap(one: Span, other: Span) -> bool:
    return one.start < other.start + len(other.text) and other.start < one.start + len(one.text)


def kinds(context: str) -> dict[Span, str]:
    return {candidate.span: candidate.kind for candidate in candidate_spans(context)}


def kind_of(text: str, context: str) -> str | None:
    return next((kind for span, kind in kinds(context).items() if span.text == text), None)


@settings(deadline=None, max_examples=300)
@given(awkward)
@example("")
@example("The U.S. Army's very large red truck didn't go.\r\nIt cost \u00a32.5 million \U0001f600 in the 1920s.")
def test_any_text_gives_exact_short_distinct_pieces_in_its_order(context: str) -> None:
    found = [candidate.span for candidate in candidate_spans(context)]
    for span in found:
        assert span.text
        assert context[span.start : span.start + len(span.text)] == span.text
        assert len(span.text.split()) <= MAX_WORDS
        assert len(span.text) <= MAX_CHARACTERS
        assert span.text[0].isalnum() or span.text[0] in "$\u00a3\u20ac\u00a5"
        assert not re.match(r"(?i)(?:a|an|the)\s", span.text)
    assert len(found) == len(set(found))
    assert [(s.start, len(s.text)) for s in found] == sorted((s.start, len(s.text)) for s in found)


@settings(deadline=None, max_examples=150)
@given(awkward, st.integers(0, 12), st.integers(0, 3))
def test_a_draw_takes_different_candidates_and_as_many_as_there_are(context: str, count: int, seed: int) -> None:
    candidates = {candidate.span for candidate in candidate_spans(context)}
    drawn = draw_spans(context, count, random.Random(seed))
    texts = {span.text.casefold() for span in drawn}
    assert set(drawn) <= candidates
    assert len(texts) == len(drawn) == min(count, len({span.text.casefold() for span in candidates}))


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "big ",
        "dog's ",
        "red and ",
        "of the Dog ",
        "<b>x</b>",
        "Dog & ",
        "1 ",
        "May ",
        ". ",
        "$",
        "'",
        "a-",
        "\U0001f600",
        "\r\n",
    ],
)
def test_a_long_context_takes_time_in_proportion_to_its_length(unit: str) -> None:
    def seconds(length: int) -> float:
        context = (unit * length)[:length]
        start = time.process_time()
        candidate_spans(context)
        draw_spans(context, 5, random.Random(0))
        return time.process_time() - start

    candidate_spans("The lexicon is read once.")
    # Ten times the length; a hundredfold would be quadratic, and machines are noisy.
    assert seconds(100_000) < 30 * max(seconds(10_000), 0.08)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("14 June 1968", "date"),
        ("Tuesday, 9 August 2016", "date"),
        ("March 2, 2011", "date"),
        ("late 18th century", "date"),
        ("1990s", "date"),
        ("3,200", "number"),
        ("85%", "number"),
        ("$750", "number"),
        ("two million", "number"),
        ("University of Leeds", "named entity"),
        ("Dr. Paula Okafor", "named entity"),
        ("Lena Duarte", "named entity"),
        ("disused rope factory", "noun phrase"),
        ("wild yeast and lactic acid bacteria", "noun phrase"),
    ],
)
def test_a_piece_is_called_what_it_is(text: str, kind: str) -> None:
    context = next(passage for passage, _ in PASSAGES if text in passage)
    assert kind_of(text, context) == kind


def test_the_day_of_a_date_is_no_number() -> None:
    assert kind_of("14", PASSAGES[0][0]) is None


@pytest.mark.parametrize("text", ["I", "it", "she", "don't", "of", "the", "very"])
def test_function_words_are_no_answers(text: str) -> None:
    context = f"She said that it was very cold, and {text} was the reason; I don't know of it."
    assert text not in {span.text for span in kinds(context)}


def test_the_answers_a_reader_would_ask_for_are_among_the_candidates() -> None:
    wanted = [(passage, answer) for passage, answers in PASSAGES for answer in answers]
    assert all(answer in passage for passage, answer in wanted)
    missed = [answer for passage, answer in wanted if kind_of(answer, passage) is None]
    assert len(missed) <= (1 - RECALL) * len(wanted), missed


@pytest.mark.parametrize("passage", [passage for passage, _ in PASSAGES])
def test_the_same_seed_draws_the_same_spans_and_another_seed_others(passage: str) -> None:
    draws = [draw_spans(passage, 5, random.Random(seed)) for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] or draws[0] != draws[3]


@pytest.mark.parametrize("passage", [passage for passage, _ in PASSAGES])
def test_a_draw_mixes_kinds_and_avoids_overlaps(passage: str) -> None:
    known = kinds(passage)
    for seed in range(20):
        drawn = draw_spans(passage, 4, random.Random(seed))
        assert len({known[span] for span in drawn}) >= 2
        assert known[drawn[0]] != known[drawn[1]]
        assert not any(overlap(one, other) for i, one in enumerate(drawn) for other in drawn[:i])


def test_single_draws_follow_the_shares_of_squad() -> None:
    known = kinds(PASSAGES[0][0])
    drawn = [known[draw_spans(PASSAGES[0][0], 1, random.Random(seed))[0]] for seed in range(1500)]
    for kind, weight in KIND_WEIGHTS.items():
        assert drawn.count(kind) / len(drawn) == pytest.approx(weight / sum(KIND_WEIGHTS.values()), abs=0.05)


def normalised(text: str) -> str:
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


@pytest.mark.parametrize(("name", "floor"), [("adversarial_qa/dev_fit", 0.54), ("squad_sample/train", 0.57)])
def test_most_human_answers_are_among_the_candidates(name: str, floor: float) -> None:
    folder = os.environ.get("STEPSYNTH_DATA")
    if not folder:
        pytest.skip("STEPSYNTH_DATA does not name a folder with the real sets")
    with gzip.open(Path(folder) / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:1000]
    found = 0
    for row in rows:
        candidates = {normalised(span.text) for span in kinds(row["context"])}
        found += any(normalised(answer) in candidates for answer in row["answers"]["text"])
    assert found / len(rows) >= floor
