"""Reading the text out of a JSON answer, whatever a model makes of the form."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsynth.teachers.structured import INSTRUCTION, INSTRUCTION_OF_SEVERAL, asked, schema_of, text_of, texts_of
from stepsynth.types import Message, Request, Sampling

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"text": "A film."}', "A film."),
        ('  {"text":"A film."}\n', "A film."),
        ('```json\n{"text": "A film."}\n```', "A film."),
        ('Sure! Here it is:\n{"text": "A film."}\nI hope this helps. {"text": "no"}', "A film."),
        ('{"text": "A \\"good\\" film.\\n\\u00e9"}', 'A "good" film.\n\u00e9'),
        ('{"text": "two\nlines"}', "two\nlines"),
        ('{"review": "A film."}', "A film."),
        ('{"thought": "hm", "text": "A film."}', "A film."),
        ('{"a": "x", "b": "y"}', ""),
        ('{"text": ["A film."]}', "A film."),
        ('{"texts": ["A film.", "Another."]}', "A film.\nAnother."),
        ('["A film."]', "A film."),
        ('{"texts": ["The film was', "The film was"),
        ('{"texts": ["A film.", "Another.", "The fi', "A film.\nAnother."),
        ('{"text": [1]}', ""),
        # Of another list, or of two texts where one was wanted, nothing is made up.
        ('{"text": ["A film.", "Another."]}', ""),
        ('{"answer": "spam", "reasons": ["it names ham"]}', ""),
        ('["A film.", "Another."]', '["A film.", "Another."]'),
        ('{"text": ""}', ""),
        ("{}", ""),
        ('"A film."', "A film."),
        ("A film.", "A film."),
        ("", ""),
        ("A set {1, 2} of films.", "A set {1, 2} of films."),
        ('{"text": "The film was', "The film was"),
        ('{"text": "The film\\u00', "The film"),
        ('{"text": "The film was \\', "The film was "),
        ('{"text": "A film.", "extra": }', "A film."),
        ('{"text": "a \\ud83d b"}', "a \ufffd b"),
        ('{"text": "\\ud83d\\ude80"}', "\U0001f680"),
        ("[1, 2]", "[1, 2]"),
        ("12", "12"),
    ],
)
def test_the_text_is_found(answer: str, text: str) -> None:
    assert text_of(answer) == text


@given(TEXTS)
def test_any_text_survives_being_wrapped(text: str) -> None:
    assert text_of(json.dumps({"text": text})) == text
    assert text_of(f"```json\n{json.dumps({'text': text}, indent=1, ensure_ascii=False)}\n```") == text


@given(st.text())
def test_any_answer_gives_text_that_can_be_stored(answer: str) -> None:
    for form in (answer, "{" + answer, '{"text": "' + answer):
        found = text_of(form)
        if not any("\ud800" <= c <= "\udfff" for c in answer):
            found.encode()


@pytest.mark.parametrize(
    "answer", ["[" * 100_000, '{"a":' * 100_000, '{"text": "' + "\\" * 200_001, "{" * 100_000, '{"text"' * 40_000]
)
def test_hostile_answers_are_read_quickly(answer: str) -> None:
    started = time.process_time()
    text_of(answer)
    texts_of(answer)
    texts_of(answer.replace("{", "["))
    assert time.process_time() - started < 2


def request(parts: int) -> Request:
    chat = (Message("system", "s"), Message("user", "{{7*7}}"))
    return Request(chat, Sampling(), 0, "round-0/seed", 0, "a", parts=parts)


@pytest.mark.parametrize(("parts", "said"), [(1, INSTRUCTION), (2, INSTRUCTION_OF_SEVERAL)])
def test_the_prompt_comes_first_and_unchanged(parts: int, said: str) -> None:
    turns = asked(request(parts))
    assert turns == [{"role": "system", "content": "s"}, {"role": "user", "content": "{{7*7}}\n\n" + said}]
    assert json.dumps(next(iter(schema_of(request(parts))["properties"]))) in said


@pytest.mark.parametrize("parts", [1, 2])
def test_the_schema_is_one_that_strict_servers_take(parts: int) -> None:
    schema = schema_of(request(parts))
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["additionalProperties"] is False
    # Limits on a list's length are refused by some servers.
    assert not {"minItems", "maxItems"} & {key for value in schema["properties"].values() for key in value}
