"""Shortcuts of the rules for plain texts: whatever the text, they say what the long way says."""

from __future__ import annotations

import random

import pytest

from stepsynth.filters import normalise, phrases, schema
from stepsynth.filters.layout import Layout

WORDS = (  # noqa: SIM905
    "the sure certainly here is a text sentence this example label Here's of course below category: it shows message request "
    "Dear Hello subject title description regards I'd like to help sorry can't as an ai language model hugging face SmolLM "
    "helpful assistant rewritten version with in this 1. 2) - -- *** ## option A 1: Explanation: [Name] {{order}} <name> "
    "(insert date) XXXX ____ XXX-XX Where? No! yes; 50% a/b c&d e+f it's 'quoted' \"q\" \n \n\n \u00e9 \u017f \u212a"
).split(" ") + ["I can't help", "as an AI model", "Sorry, I cannot help with", "below is a", "Sure,"] * 3
LAYOUTS = (Layout(), Layout(whole=True), Layout(whole=True, lines=True), Layout(titles=False), Layout(fields=True))


def texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    found = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(count)]
    return found + ["".join(draw.choices("ab Z.,!?;'/%&$()+=@-09\n", k=draw.randint(1, 30))) for _ in range(count)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=range(len(LAYOUTS)))
def test_a_text_that_is_not_cleaned_would_be_left_as_it_is(layout: Layout) -> None:
    plain = [text for text in texts(1, 3000) if normalise._NOTHING_TO_DO.fullmatch(text)]
    assert len(plain) > 500
    assert [text for text in plain if normalise._bare(text, cut=False, layout=layout) != text] == []


def test_the_quick_looks_for_phrases_and_gaps_miss_nothing() -> None:
    found = [0, 0, 0]
    for text in texts(2, 5000):
        refusal = bool(schema._REFUSAL.search(text) or phrases.OTHER_REFUSAL.match(text))
        meta = bool(schema._META.search(text) or phrases.OTHER_META.match(text) or phrases.THOUGHT_ALOUD.match(text))
        gap = schema._GAP.search(text) is not None
        assert (schema._is_refusal(text), schema._is_meta(text), schema.has_gap(text)) == (refusal, meta, gap), text
        found = [count + is_so for count, is_so in zip(found, (refusal, meta, gap), strict=True)]
    assert min(found) > 10
