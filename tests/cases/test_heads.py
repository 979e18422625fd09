"""Answers whose first paragraph is a head: the row is the body."""

from __future__ import annotations

import pytest

from stepsynth.filters.layout import Layout
from stepsynth.filters.normalise import clean
from stepsynth.filters.schema import Schema

BODY = "The tram did not come at seven. I waited for an hour."
MORE = "Please tell me where my money is."


@pytest.mark.parametrize(
    "head",
    [
        "Ticket ID: 12\nSubject: Late tram\nPriority: High",
        "Emne: Sporvognen kom ikke",
        "P\u0159edm\u011bt: Tramvaj nep\u0159ijela",
        "Aihe: Raitiovaunu ei tullut",
        "A tram that never came",
        "Support Team,",
        "\u30c1\u30b1\u30c3\u30c8\uff1a12",
        "Subject: Late tram\nPriority: High",
        "Subject: Late tram\n\nSupport Team,",
        "**Late tram**\n\nTicket: 7\nPriority: High",
    ],
)
def test_a_head_is_left_out(head: str) -> None:
    assert clean(f"{head}\n\n{BODY}\n\n{MORE}") == f"{BODY} {MORE}"


def test_what_closes_a_text_with_a_head_is_left_out() -> None:
    assert clean(f"Emne: Sporvogn\n\nHej kundeservice,\n\n{BODY}\n\nMed venlig hilsen\nJens") == BODY


def test_an_announced_list_is_one_text() -> None:
    answer = "I have three problems:\n- The app crashes.\n- The bill is wrong.\n- Nobody answers."
    assert clean(answer) == "I have three problems: The app crashes. The bill is wrong. Nobody answers."


@pytest.mark.parametrize(
    "first",
    [
        "The tram was late again.",
        "Is this how you treat people?",
        "It broke. I want my money back",
        "\u96fb\u8eca\u304c\u6765\u307e\u305b\u3093\u3067\u3057\u305f\u3002",
        "Loved this ride \U0001f60d",
        "Best ride ever #tram",
        "Warning: the doors shut on my arm.",
    ],
)
def test_a_sentence_stays_the_row(first: str) -> None:
    assert clean(f"{first}\n\n{BODY}") == first


@pytest.mark.parametrize("text", ["Ticket: 12", "A tram that never came", "Emne: Sporvogn\nPrioritet: lav", BODY])
def test_one_paragraph_stays_as_it_is(text: str) -> None:
    assert clean(text) == " ".join(text.split())


def test_where_real_texts_are_no_sentences_only_fields_are_heads() -> None:
    layout = Layout.like(["tram late again", "where is my money", "nice driver"])
    assert clean(f"tram never came\n\n{BODY}", layout=layout) == "tram never came"
    assert clean(f"Ticket: 12\nPriority: High\n\n{BODY}", layout=layout) == BODY


def test_turns_of_a_dialogue_are_no_head() -> None:
    assert clean("Ann: Hi there\nBob: Hello\n\nAnn: Where is the tram?\nBob: Gone.") == "Ann: Hi there Bob: Hello"


def test_paragraphs_that_were_asked_for_are_not_too_long() -> None:
    assert Schema.like([9, 10, 12]).max_words == 12
    assert Schema.like([9, 10, 12], paragraphs=True).max_words == 400
    assert Schema.like([9, 500], paragraphs=True).max_words == 500
