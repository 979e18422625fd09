"""Cues that reveal the label: found where they were planted, not found where there are none."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from stepsynth.evaluation.artefact import _accuracy_by, artefact_probe
from stepsynth.types import Example

WORDS = ("the old harbour was closed after heavy rain while two ships waited outside for a pilot who never came").split()  # noqa: SIM905


def rows(seed: int, count: int, side: str, quoted: tuple[float, float] = (0.2, 0.2)) -> list[Example]:
    """Texts of random words; ``quoted`` is how often each label's start with a quote mark."""
    draw = random.Random(seed)
    made = []
    for i in range(count):
        label = ("entailment", "not_entailment")[i % 2]
        text = " ".join(draw.choices(WORDS, k=draw.randint(5, 12)))
        mark = '"' if draw.random() < quoted[i % 2] else ""
        made.append(Example(f"{side}-{i}", f"{mark}{text}.", label, "a premise"))
    return made


def pair(example: Example) -> tuple[str, ...]:
    return (example.text, example.context)


def alone(example: Example) -> tuple[str, ...]:
    return (example.text,)


def test_a_quote_mark_at_the_start_of_one_label_is_found() -> None:
    results = artefact_probe(rows(0, 300, "made", (0.42, 0.95)), rows(1, 300, "gold"), pair, 0)
    flagged = {result.cue for result in results if result.flagged}
    assert {"quotes", "first token", "punctuation", "written text alone"} <= flagged
    assert "length in words" not in flagged
    quotes = next(result for result in results if result.cue == "quotes")
    # Half of (95 % of one label) and half of (58 % of the other).
    assert quotes.synthetic == pytest.approx((0.95 + 0.58) / 2, abs=0.05)
    assert quotes.synthetic_ci95[0] < quotes.synthetic < quotes.synthetic_ci95[1]
    assert quotes.gold == pytest.approx(0.5, abs=0.1)
    assert 0 < quotes.excess_ci95[0] < quotes.excess < quotes.excess_ci95[1]


def test_a_label_s_length_and_name_are_found() -> None:
    made = [
        Example(row.id, row.text * 2 if row.label == "entailment" else f"{row.text} Not entailment.", row.label)
        for row in rows(0, 200, "made")
    ]
    flagged = {result.cue for result in artefact_probe(made, rows(1, 200, "gold"), alone, 0) if result.flagged}
    assert {"length in words", "label name"} <= flagged


def test_a_cue_that_real_rows_have_too_is_no_artefact() -> None:
    both = (0.42, 0.95)
    assert not any(result.flagged for result in artefact_probe(rows(0, 300, "made", both), rows(1, 300, "gold", both), pair, 0))


def test_two_halves_of_one_set_are_alike() -> None:
    for seed in range(3):
        whole = rows(seed, 400, "gold")
        random.Random(seed).shuffle(whole)
        assert not [result for result in artefact_probe(whole[:200], whole[200:], pair, seed) if result.flagged]


def test_the_words_of_a_single_text_are_the_task_and_no_cue() -> None:
    cues = {result.cue for result in artefact_probe(rows(0, 80, "made"), rows(1, 80, "gold"), alone, 0)}
    assert cues == {"first token", "punctuation", "length in words", "quotes", "label name"}


def test_the_probe_is_seeded_and_its_largest_excess_comes_first() -> None:
    arguments = rows(0, 120, "made"), rows(1, 90, "gold"), pair, 3
    results = artefact_probe(*arguments)
    _accuracy_by.forget()
    assert results == artefact_probe(*arguments)
    assert [result.excess for result in results] == sorted((result.excess for result in results), reverse=True)


def test_too_few_rows_or_labels_are_not_probed() -> None:
    assert artefact_probe(rows(0, 30, "made"), rows(1, 300, "gold"), pair, 0) == []
    assert artefact_probe([], [], pair, 0) == []
    questions = [Example(f"q-{i}", "who?", context="...") for i in range(50)]
    assert artefact_probe(questions, questions, pair, 0) == []


def test_blank_texts_are_no_obstacle() -> None:
    blank = [Example(row.id, "" if i % 5 else row.text, row.label) for i, row in enumerate(rows(0, 100, "made"))]
    assert len(artefact_probe(blank, rows(1, 100, "gold"), alone, 0)) == 5


def test_the_quote_marks_of_the_released_rte_rows_are_found() -> None:
    if not os.environ.get("STEPSYNTH_DATA"):
        pytest.skip("STEPSYNTH_DATA does not name a folder of data sets")

    def load(name: str, split: str) -> list[Example]:
        with gzip.open(Path(os.environ["STEPSYNTH_DATA"]) / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found = map(json.loads, lines)
            return [Example(f"{split}-{i}", row["text2"], row["label"], row["text1"]) for i, row in enumerate(found)]

    gold = load("rte", "train")
    released = artefact_probe(load("s3_synth_rte", "additional_1"), gold, pair, 0)
    assert {"quotes", "first token", "written text alone"} <= {result.cue for result in released if result.flagged}
    random.Random(0).shuffle(gold)
    assert not [result for result in artefact_probe(gold[:800], gold[800:1600], pair, 0) if result.flagged]
