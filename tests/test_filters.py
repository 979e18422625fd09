"""Filters: wrappers come off, every rule drops what it should and nothing else, in plan order."""

from __future__ import annotations

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepsynth.config import RunConfig, TaskConfig, parse_config
from stepsynth.errors import TeacherError, TransientError
from stepsynth.filters import REASONS, FilterPipeline
from stepsynth.filters.artefact import AnswerLeakFilter, LabelLeakFilter
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.characters import KEPT_INVISIBLE
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.label_check import LabelCheck
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.normalise import clean, leading_sentences, normalize_for_match
from stepsynth.filters.schema import Schema
from stepsynth.generation.planned import Planned
from stepsynth.generation.preview import Preview
from stepsynth.prompts import Prompts
from stepsynth.types import Candidate, Example, FinishReason, Message, Request, Response, Sampling, Span, Usage, Verdict

TEXT = "A quiet film that stays with you."
WRAPPED = {
    "nothing": TEXT,
    "double quotes": f'"{TEXT}"',
    "single quotes": f"'{TEXT}'",
    "typographic quotes": f"\u201c{TEXT}\u201d",
    "low typographic quotes": f"\u201e{TEXT}\u201c",
    "guillemets": f"\u00ab{TEXT}\u00bb",
    "single typographic quotes": f"\u2018{TEXT}\u2019",
    "backquotes": f"`{TEXT}`",
    "a code fence": f"```\n{TEXT}\n```",
    "a code fence with a language": f"```text\n{TEXT}\n```",
    "an announcement": f"Here is a review: {TEXT}",
    "an announcement in the plural": f"Here are some examples:\n\n{TEXT}",
    "a polite announcement": f"Sure! Here's a short review of a movie: {TEXT}",
    "a polite announcement in a paragraph": f"Certainly, here is one:\n\n{TEXT}",
    "of course": f"Of course! Here's another one: \u201c{TEXT}\u201d",
    "bold": f"**{TEXT}**",
    "underlined": f"__{TEXT}__",
    "italics": f"*{TEXT}*",
    "a bullet": f"- {TEXT}",
    "a star": f"* {TEXT}",
    "a round bullet": f"\u2022 {TEXT}",
    "a number": f"1. {TEXT}",
    "a number in brackets": f"12) {TEXT}",
    "a heading": f"### {TEXT}",
    "a role": f"Assistant: {TEXT}",
    "another role": f"AI: {TEXT}",
    "answer": f"Answer: {TEXT}",
    "output in brackets": f"[Output]: {TEXT}",
    "example with a number": f"Example 1: {TEXT}",
    "the name of a text": f"Hypothesis: {TEXT}",
    "the name of a text in a sentence": f"The claim is: {TEXT}",
    "the name of a text before quotes": f'Question: "{TEXT}"',
    "chat tokens": f"<|im_start|>{TEXT}<|im_end|>",
    "an end token": f"{TEXT}</s>",
    "tags": f"<text>{TEXT}</text>",
    "control characters": f"\x00{TEXT[:5]}\x07{TEXT[5:]}\x1b",
    "zero width and marks of direction": f"\u200b{TEXT[:9]}\u200d{TEXT[9:]}\u202e\ufeff",
    "white space": f"\n\t  {TEXT.replace(' ', '  ', 1)} \r\n",
    "unusual white space": TEXT.replace(" ", "\u2003", 1).replace(" ", "\u2028", 1),
    "chatter behind it": f"{TEXT}\n\nI hope this helps! Let me know.",
    "more items behind it": f"1. {TEXT}\n2. Another one.\n3. A third one.",
    "a list without numbers": f"- {TEXT}\n- Another one.",
    "many layers": f'Sure! Here is a review:\n\n1. **"{TEXT}"**\n\nHope that helps!',
    "quotes in quotes": f"'\"{TEXT}\"'",
    "a fence around an announcement": f"```\nHere is one: {TEXT}\n```",
}
KEPT = [
    'He said "no" and left.',
    "It's the director's best.",
    "Question: is it worth the time?",
    "The question is: was it worth the time?",
    "The claim: that it is worth the time.",
    "The plot (what there is of it) drags.",
    "10 out of 10 for the lead.",
    "Well... no.",
    "Caf\u00e9 \u2014 100% worth it \U0001f389",
    "C'\u00e9tait \u00e0 voir.",
    "\u4e00\u90e8\u597d\u7535\u5f71\u3002",
]
REFUSALS = [
    "I'm sorry, but I can't help with that request.",
    "I cannot write that.",
    "As an AI language model, I have no opinion.",
    "I am unable to provide one.",
]
META = [
    "This sentence is labeled as positive.",
    "The text is about a film.",
    "I'd be happy to help you with that.",
    "Sure, why not do it.",
    "A rewritten version of it is good.",
    "Category: positive and so on",
    "Some reviews follow here:",
]
# Bricks from which Hypothesis builds answers that look like wrappers around wrappers.
BRICKS = [*"\"'`*_()[]#-:.!?<>|,\u201c\u201d\u00ab\u2019 \n\t", "```", "**", "__", "\n\n", "1. ", "2) ", "- "]
BRICKS += [
    "Sure! ",
    "Here is a text: ",
    "Here's one",
    "Answer: ",
    "AI:",
    "[output] :",
    "<|x|>",
    "<|",
    "|>",
    "</s>",
    "<text>",
    "word",
    "Two words.",
]
BRICKS += ["e", "\u0301", "\u200d", "\x00", "\u0085", "\u2028", "\ud800", "\u1100", "\u1161", "I", "\u0307", "\u212b"]
ANSWERS = st.one_of(
    st.text(st.characters(codec=None)),
    st.lists(st.sampled_from(BRICKS), max_size=14).map("".join),
    st.sampled_from([*WRAPPED.values(), *KEPT]),
)


def candidate(
    text: str,
    label: str = "pos",
    *,
    index: int = 0,
    stage: str = "round-0/seed",
    finish: FinishReason = "stop",
    shown: Sequence[str] = (),
    context: str = "",
    answer: str = "",
) -> Candidate:
    turns = [Message("user", "Write."), *(Message("assistant", turn) for turn in shown), Message("user", "Again.")]
    span = Span(answer, 0) if answer else None
    asked = Request(tuple(turns), Sampling(), index, stage, index, label, context=context, answer=span)
    return Candidate.of(asked, f"key-{stage}-{index}", text, finish)


def reasons(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.reason for verdict in verdicts]


# clean ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED.keys())
def test_wrappers_come_off(wrapped: str) -> None:
    assert clean(wrapped) == TEXT


@pytest.mark.parametrize("text", KEPT)
def test_a_bare_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("A whole one. And a half o", "A whole one."),
        ("Half of", ""),
        ("Is it? Yes! But th", "Is it? Yes!"),
        ('"A whole one. And a half', "A whole one."),
        ("Costs 3.50 at least", ""),
        ('He said "so." And th', 'He said "so."'),
        ("The first paragraph is whole\n\nThe second is cu", "The first paragraph is whole"),
    ],
)
def test_a_truncated_answer_is_cut_back_to_its_last_whole_sentence(answer: str, text: str) -> None:
    assert clean(answer, truncated=True) == text


@given(answer=ANSWERS)
@settings(max_examples=600, deadline=None)
@example("``````")
@example("(((a)))")
@example("<|<|x|>|>")
@example("e\u200b\u0301")
def test_cleaning_twice_is_cleaning_once(answer: str) -> None:
    once = clean(answer)
    assert clean(once) == once


@given(answer=ANSWERS, truncated=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_clean_text_has_neither_control_characters_nor_loose_white_space(answer: str, truncated: bool) -> None:
    text = clean(answer, truncated=truncated)
    invisible = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    # What a script or an emoji needs; see tests/cases/test_texts.py.
    assert not [c for c in invisible if not KEPT_INVISIBLE.match(c)]
    assert text == " ".join(text.split())
    text.encode("utf-8")


@pytest.mark.parametrize("unit", ["- ", "1. ", "Answer: ", '"', "(", "```\n", "<|", "Here is a: ", "Sure! ", "a. ", "\n\n"])
def test_a_hostile_answer_takes_no_time(unit: str) -> None:
    """S11: what can be long is bounded; a test that takes seconds here is a regression."""
    started = time.process_time()
    clean(unit * (60_000 // len(unit)))
    assert time.process_time() - started < 2.0


@given(text=ANSWERS, words=st.integers(1, 12))
@settings(deadline=None)
def test_leading_sentences_fit_and_stand_at_the_beginning(text: str, words: int) -> None:
    bare = clean(text)
    head = leading_sentences(bare, words)
    assert len(head.split()) <= words
    assert head in bare


def test_matching_ignores_case_punctuation_width_and_white_space() -> None:
    assert (
        normalize_for_match("  The \uff26ilm,\nit's GOOD!") == normalize_for_match("the film: it s good") == "the film it s good"
    )


# single rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_in_words_are_dropped(text: str) -> None:
    assert reasons(Schema().judge([candidate(text)], [])) == ["refusal"]


@pytest.mark.parametrize("text", META)
def test_talk_about_the_task_is_dropped(text: str) -> None:
    assert reasons(Schema().judge([candidate(text)], [])) == ["meta"]


ALOUD = [
    "Okay, the user wants a support ticket about a boat. It should be short.\n\nThe boat leaks.",
    "The user is asking me to invent a complaint.",
    "Hmm, so I need to come up with a realistic review that is negative.",
    "We need to produce a text for the label hull.",
    "Alright, let me think about what such a message would say.",
]
ALOUD_NOT = [
    "We need to create a new account for our driver.",
    "Okay, so the pump is dead again.",
    "The user wants to log in but gets no code.",
    "I need to write to your manager about it.",
    "Let me think it over until Friday.",
    "The user asks for a refund each week.",
]


@pytest.mark.parametrize(("text", "reason"), [*((text, "meta") for text in ALOUD), *((text, "") for text in ALOUD_NOT)])
def test_a_model_that_thinks_aloud_writes_no_row(text: str, reason: str) -> None:
    assert reasons(Schema().judge([candidate(text)], [])) == [reason]


@pytest.mark.parametrize("text", [*KEPT, TEXT, "I'm sorry I ever saw it.", "Sorry, this was a bore.", "Sure-footed and calm."])
def test_honest_texts_pass_the_schema(text: str) -> None:
    assert reasons(Schema().judge([candidate(text)], [])) == [""]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([candidate("", finish="refusal")], "refusal"),
        ([candidate("")], "empty"),
        ([candidate("?!...")], "empty"),
        ([candidate("", finish="length")], "truncated"),
        ([candidate("One two.")], "too short"),
        ([candidate("one two three four five six seven eight nine ten eleven twelve thirteen")], "too long"),
        ([candidate("no no no no no no no yes no no no yes")], "repetitive"),
    ],
)
def test_what_is_no_row_is_dropped_with_its_reason(rows: list[Candidate], reason: str) -> None:
    assert reasons(Schema(min_words=3, max_words=12).judge(rows, [])) == [reason]


def test_the_schema_takes_its_lengths_from_real_texts() -> None:
    schema = Schema.like([*range(2, 102)])
    assert (schema.min_words, schema.max_words) == (3, 96)
    assert Schema.like([1, 1, 2, 9]).min_words == 1


def test_rows_of_three_words_are_never_too_short_however_long_real_texts_are() -> None:
    assert Schema.like([50] * 10).min_words == 3


def test_a_text_that_is_too_long_is_cut_to_the_sentences_that_fit() -> None:
    (verdict,) = Schema(max_words=6).judge([candidate("One two three. Four five. Six seven eight nine.")], [])
    assert (verdict.reason, verdict.candidate.text) == ("", "One two three. Four five.")


def test_a_dropped_row_keeps_its_text() -> None:
    (verdict,) = Schema(min_words=9).judge([candidate("One two three.")], [])
    assert verdict.candidate.text == "One two three."


def test_the_second_of_equal_texts_is_dropped_whatever_its_label() -> None:
    rows = [candidate("A film."), candidate("a FILM!", "neg", index=1), candidate("Another film.", index=2)]
    assert reasons(Duplicate().judge(rows, [candidate("Another, film", stage="round-1/extrapolate").row])) == [
        "",
        "duplicate",
        "duplicate",
    ]


def test_a_gold_text_is_a_copy_however_it_is_spelt() -> None:
    rule = ContaminationFilter.of(["Nice film.", "one two three four five six"])
    rows = [candidate("NICE film"), candidate("One, two; three four five six!"), candidate("Nice films")]
    assert reasons(rule.judge(rows, [])) == ["copy", "copy", ""]


def test_a_row_is_a_copy_when_more_than_sixty_percent_of_its_runs_stand_in_one_gold_text() -> None:
    gold = " ".join(f"g{i}" for i in range(20))
    # Ten runs of five words each: with n gold words in front, n - 4 of them are copied.
    for copied, reason in ((10, ""), (11, "copy")):
        text = " ".join([*(f"g{i}" for i in range(copied)), *(f"new{i}" for i in range(14 - copied))])
        assert reasons(ContaminationFilter.of([gold]).judge([candidate(text)], [])) == [reason]


def test_runs_of_several_gold_texts_do_not_add_up() -> None:
    first, second = " ".join(f"a{i}" for i in range(9)), " ".join(f"b{i}" for i in range(9))
    assert reasons(ContaminationFilter.of([first, second]).judge([candidate(f"{first} {second}")], [])) == [""]
    assert reasons(ContaminationFilter.of([f"{first} {second}"]).judge([candidate(f"{first} {second} end")], [])) == ["copy"]


def test_what_the_prompt_showed_as_an_answer_may_not_come_back() -> None:
    rows = [candidate("The shown text.", shown=("The shown text.",)), candidate("The shown text.", shown=("Another.",), index=1)]
    assert reasons(ContaminationFilter.of([]).judge(rows, [])) == ["copy", ""]


def test_surplus_keeps_exactly_the_target_of_each_label() -> None:
    rows = [candidate(f"text {i}", ("pos", "neg", "new")[i % 3], index=i) for i in range(30)]
    verdicts = LabelQuota({"pos": 3, "neg": 0}).judge(rows, [candidate("x").row, candidate("y", stage="round-1/extrapolate").row])
    kept = Counter(v.candidate.label for v in verdicts if v.accepted)
    assert kept == {"pos": 2}, "one of the three is there already; another stage's rows do not count"
    assert set(reasons(verdicts)) == {"", "surplus"}
    assert reasons(verdicts)[::3] == ["", ""] + ["surplus"] * 8


@pytest.mark.parametrize("named_gold", range(0, 11, 2))
def test_rows_name_their_label_as_often_as_gold_at_every_point_of_the_plan(named_gold: int) -> None:
    harvest = [Example(str(i), f"text {i}" + (" positive" if i < named_gold else ""), "positive") for i in range(10)]
    rule = LabelLeakFilter.like(harvest, {})
    rng = random.Random(named_gold)
    rows = [candidate(f"row {i}" + (" Positively" if rng.random() < 0.7 else ""), "positive", index=i) for i in range(200)]
    kept = named = 0
    for verdict in rule.judge(rows, []):
        assert verdict.reason in ("", "names the label")
        if verdict.accepted:
            kept += 1
            named += "Positively" in verdict.candidate.text
            assert named <= named_gold / 10 * kept + 1e-9
        else:
            assert "Positively" in verdict.candidate.text
    unnamed = sum("Positively" not in row.text for row in rows)
    most = unnamed if named_gold == 0 else min(len(rows), unnamed / max(1 - named_gold / 10, 1e-9))
    assert kept <= most + 1
    assert kept >= unnamed
    if named_gold == 10:
        assert kept == len(rows)


def test_naming_goes_on_where_earlier_stages_left_off() -> None:
    rule = LabelLeakFilter({"positive": 0.5}, {})
    plain = [candidate("plain", "positive", stage="round-0/seed").row]
    assert reasons(rule.judge([candidate("positive!", "positive")], plain)) == [""]
    assert reasons(rule.judge([candidate("positive!", "positive")], [])) == ["names the label"]


def test_three_words_of_the_description_name_the_label_too() -> None:
    rule = LabelLeakFilter({"a": 0.0}, {"a": "the writer liked the movie"})
    rows = [candidate("Clearly the writer LIKED, the rest.", "a"), candidate("The writer disliked it.", "a"), candidate("x", "a")]
    assert reasons(rule.judge(rows, [])) == ["names the label", "", ""]


def test_a_label_with_hostile_characters_is_searched_for_literally() -> None:
    rule = LabelLeakFilter.like([Example("1", "x", "c++ (.*)")], {"c++ (.*)": "[a-z]+ .* ("})
    assert reasons(rule.judge([candidate("anything at all", "c++ (.*)")], [])) == [""]


class StubJudge:
    """Knows the probability of ``pos``; remembers what it was asked."""

    def __init__(self, **positive: float) -> None:
        self.positive = positive
        self.asked: list[str] = []

    def probabilities(self, examples: Sequence[Example]) -> Sequence[Mapping[str, float]]:
        self.asked += [example.text for example in examples]
        return [{"pos": self.positive[example.text], "neg": 1 - self.positive[example.text]} for example in examples]


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.0, ["", "label in doubt", ""]), (0.5, ["", "", ""]), (0.8, ["", "label in doubt", ""])]
)
def test_a_label_is_in_doubt_when_another_is_likelier(ratio: float, expected: list[str]) -> None:
    rows = [candidate("clear"), candidate("unsure"), candidate("even")]
    assert reasons(LabelCheck(StubJudge(clear=0.9, unsure=0.4, even=0.5), ratio).judge(rows, [])) == expected


def test_a_label_without_gold_rows_is_never_in_doubt() -> None:
    assert reasons(LabelCheck(StubJudge(x=0.9), 1.0).judge([candidate("x", "new label")], [])) == [""]


def test_the_judge_reads_the_whole_row() -> None:
    asked: list[Example] = []

    class Remembering:
        def probabilities(self, examples: Sequence[Example]) -> Sequence[Mapping[str, float]]:
            asked.extend(examples)
            return [{"pos": 1.0} for _ in examples]

    LabelCheck(Remembering(), 1.0).judge([candidate("a claim", context="a note", index=4)], [])
    assert asked == [Example("round-0/seed/4", "a claim", "pos", "a note")]


# rows with a context ------------------------------------------------------------------------------


def test_equal_texts_about_different_contexts_are_different_rows() -> None:
    rows = [
        candidate("A claim.", context="One note."),
        candidate("A claim.", context="Another note.", index=1),
        candidate("a CLAIM", "neg", context="one NOTE!", index=2),
        candidate("A claim.", index=3),
    ]
    assert reasons(Duplicate().judge(rows, [])) == ["", "", "duplicate", ""]
    earlier = [candidate("A claim", context="Another note", stage="round-1/extrapolate").row]
    assert reasons(Duplicate().judge(rows, earlier)) == ["", "duplicate", "duplicate", ""]


def test_context_and_text_do_not_run_into_each_other() -> None:
    rows = [candidate("b c", context="a"), candidate("c", context="a b", index=1)]
    assert reasons(Duplicate().judge(rows, [])) == ["", ""]


def test_a_text_that_repeats_its_whole_context_is_a_copy() -> None:
    rule = ContaminationFilter.of([])
    rows = [
        candidate("It rained all DAY", context="It rained, all day."),
        candidate("It rained all day, they say.", context="It rained, all day.", index=1),
        candidate("It rained.", context="It rained, all day.", index=2),
        candidate("It rained, all day.", index=3),
        candidate("...", index=4),
    ]
    assert reasons(rule.judge(rows, [])) == ["copy", "", "", "", ""]


def test_a_row_that_repeats_the_words_of_a_template_is_a_copy() -> None:
    wording = ["Write", ", one a line, and nothing besides: no title, no comment.", "\u8bf7\u5199\u4e00\u53e5\u8bdd\u597d\u5417"]
    # Of a script without spaces, two characters are about a word.
    said = {
        "No title. No comment!": "copy",
        "one a line": "copy",
        "no title": "",
        "No title at all.": "",
        "Write, one a line": "",
    }
    said |= {"\u8bf7\u5199": "", "\u8bf7\u5199\u4e00\u53e5\u8bdd\u597d": "copy"}
    rows = [candidate(text, index=index) for index, text in enumerate(said)]
    assert reasons(ContaminationFilter.of([], wording).judge(rows, [])) == list(said.values())
    assert set(reasons(ContaminationFilter.of([]).judge(rows, []))) == {""}


@pytest.mark.parametrize("style", ["small", "capable"])
def test_a_row_may_say_what_its_label_its_description_and_the_instruction_say(style: str) -> None:
    """Of what is filled in, only a rule that knows how real texts use it may judge it."""
    labels = {"what_is_your_name": "the card is lost or stolen", "b": "play a song"}
    task = TaskConfig.model_validate(
        {
            "name": "t",
            "instruction": "Decide what to do.",
            "text_kind": "order to a machine",
            "labels": labels,
            "prompt_style": style,
        }
    )
    rule = ContaminationFilter.of([], Prompts(task).wording)
    texts = ["What is your name?", "The card is lost.", "Play a song!", "Decide what to do.", "An order to a machine."]
    assert set(reasons(rule.judge([candidate(text, index=i) for i, text in enumerate(texts)], []))) == {""}
    own = task.model_copy(update={"prompts": {"seed": "Write {{ a_text_kind }}. Not about cats and dogs, {{ label }}."}})
    rule = ContaminationFilter.of([], Prompts(own).wording)
    assert reasons(rule.judge([candidate("Not about cats and dogs")], [])) == ["copy"]


def test_a_text_may_take_up_a_long_part_of_its_context() -> None:
    """Only gold texts are compared run by run: an entailed sentence may well repeat half of its premise."""
    context = " ".join(f"w{i}" for i in range(30))
    rows = [candidate(" ".join(f"w{i}" for i in range(25)), context=context)]
    assert reasons(ContaminationFilter.of([]).judge(rows, [])) == [""]


@pytest.mark.parametrize(
    "text", ["Who left?", 'Who said "no?"', "Who left (and when?)", "\u8c01\u8d70\u4e86\uff1f", "\u0645\u0646\u061f"]
)
def test_a_question_ends_with_a_question_mark_of_any_script(text: str) -> None:
    assert reasons(Schema(question=True).judge([candidate(text)], [])) == [""]


@pytest.mark.parametrize("text", ["They left.", "Who? They", "Is it? Yes.", "Who left"])
def test_what_does_not_end_with_a_question_mark_is_no_question(text: str) -> None:
    assert reasons(Schema(question=True).judge([candidate(text)], [])) == ["no question"]
    assert reasons(Schema().judge([candidate(text)], [])) == [""], "and other families need none"


@pytest.mark.parametrize("holding", range(0, 11, 2))
def test_questions_hold_their_answer_as_often_as_gold_at_every_point_of_the_plan(holding: int) -> None:
    gold = [
        Example(f"{i}", "Is it six euros?" if i < holding else "What is it?", answers=(Span("Six euros", 0),)) for i in range(10)
    ]
    rule = AnswerLeakFilter.like(gold)
    assert rule.limit == holding / 10
    dice = random.Random(holding)
    rows = [
        candidate("Is it two men?" if dice.random() < 0.7 else "Who is it?", "", answer="two men", index=i) for i in range(200)
    ]
    kept = named = 0
    for row, verdict in zip(rows, rule.judge(rows, []), strict=True):
        assert verdict.candidate == row
        if verdict.accepted:
            kept += 1
            named += "two men" in row.text
            assert named <= holding / 10 * kept + 1e-9
        else:
            assert verdict.reason == "names the answer"
            assert "two men" in row.text
    unnamed = sum("two men" not in row.text for row in rows)
    most = min(len(rows), unnamed / max(1 - holding / 10, 1e-9))
    assert unnamed <= kept <= most + 1
    if holding == 10:
        assert kept == len(rows)


def test_naming_an_answer_goes_on_where_earlier_stages_left_off() -> None:
    rule, row = AnswerLeakFilter(0.5), candidate("Is it Ann?", "", answer="Ann")
    assert reasons(rule.judge([row], [candidate("Who is it?", "", answer="Ann", stage="round-0/seed").row])) == [""]
    assert reasons(rule.judge([row], [])) == ["names the answer"]
    assert reasons(rule.judge([row], [candidate("Is it Ann?", "", answer="Ann", stage="round-0/seed").row] * 2)) == [
        "names the answer"
    ]


def test_any_of_the_gold_answers_counts_as_held() -> None:
    row = Example("g", "Is it the morning?", answers=(Span("at dawn", 0), Span("The morning", 0)))
    assert AnswerLeakFilter.like([row]).limit == 1.0


@pytest.mark.parametrize(
    ("question", "answer", "held"),
    [
        ("Who is ANN?", "ann", True),
        ("Who is Annabel?", "Ann", False),
        ("Is it 'six  euros'?", "six euros", True),
        ("What costs six?", "six euros", False),
        ("What is it?", "...", False),
    ],
)
def test_an_answer_is_held_as_whole_words_however_they_are_spelt(question: str, answer: str, held: bool) -> None:
    verdicts = AnswerLeakFilter(0.0).judge([candidate(question, "", answer=answer)], [])
    assert reasons(verdicts) == ["names the answer" if held else ""]


# the whole ---------------------------------------------------------------------------------------

GOLD = [
    Example("h0", "the plot of this film goes nowhere at all", "neg"),
    Example("h1", "seldom was an evening in the cinema this pleasant", "pos"),
    Example("h2", "one of those films that one forgets on the way home", "neg"),
    Example("h3", "warm funny and over far too soon", "pos"),
]
CASES = {
    "refusal": candidate("I cannot help with that at all."),
    "empty": candidate(""),
    "truncated": candidate("", finish="length"),
    "too short": candidate("Nice."),
    "too long": candidate(" ".join(f"w{i}" for i in range(40))),
    "meta": candidate("This sentence is about a film one likes."),
    "placeholder": candidate("[Your Name] left the cinema with a smile."),
    "duplicate": candidate("An hour well spent, with a smile until the end."),
    "copy": candidate("Warm, funny and over far too soon!"),
    "names the label": candidate("A pos and nothing but a pos of a film."),
    "repetitive": candidate("so so so so so so so so good"),
    "label in doubt": candidate("What a waste of a whole free evening."),
    "surplus": candidate("A third text that would have been good."),
}


ASKED_GOLD = [
    Example("h4", "When did the boat leave the port that day?", context="It left at dawn.", answers=(Span("at dawn", 8),)),
    Example("h5", "Who took the boat out of the port?", context="Ann took it.", answers=(Span("Ann", 0), Span("Ann took", 0))),
]
# What only questions can be dropped for.
ASKED_CASES = {
    "names the answer": candidate("Was it at dawn that the boat left?", "", answer="at dawn"),
    "no question": candidate("The boat left the port that day.", "", answer="at dawn"),
}


class Sceptic:
    """Doubts every text with the word ``waste``."""

    def probabilities(self, examples: Sequence[Example]) -> Sequence[Mapping[str, float]]:
        return [{"pos": 0.1, "neg": 0.9} if "waste" in e.text else {"pos": 0.9, "neg": 0.1} for e in examples]


def run_config(family: str = "classification", **method: object) -> RunConfig:
    task: dict[str, Any] = {"family": family, "name": "t", "instruction": "Decide."}
    if family != "extractive_qa":
        task["labels"] = ["pos", "neg"]
    if family == "pair":
        task["fields"] = {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}}
    return parse_config({"task": task, "data": {"validation": {"path": "v.csv"}}, "method": method})


def pipeline(targets: Mapping[str, int]) -> FilterPipeline:
    return FilterPipeline.for_rows(run_config().task, GOLD, GOLD, targets, label_check=LabelCheck(Sceptic(), 1.0))


def asked_hygiene(rows: int = 9) -> FilterPipeline:
    return FilterPipeline.for_rows(run_config("extractive_qa").task, ASKED_GOLD, ASKED_GOLD, {"": rows})


@pytest.mark.parametrize("reason", CASES)
def test_every_reason_is_given_by_its_rule(reason: str) -> None:
    before = [
        candidate("An hour well spent with a smile until the end.", index=90).row,
        candidate("The second of two wanted rows here.", index=91).row,
    ]
    targets = {"pos": 2 if reason == "surplus" else 9}
    assert reasons(pipeline(targets).judge([CASES[reason]], before)) == [reason]


@pytest.mark.parametrize("reason", ASKED_CASES)
def test_every_reason_of_a_question_is_given_by_its_rule(reason: str) -> None:
    assert reasons(asked_hygiene().judge([ASKED_CASES[reason]], [])) == [reason]


def test_every_reason_is_explained_and_covered_here() -> None:
    # Judged elsewhere: tests/test_pool.py, tests/test_second_reading.py and tests/test_near_duplicates.py.
    elsewhere = {"failed", "no answer", "read otherwise", "near duplicate"}
    assert set(CASES) | set(ASKED_CASES) | elsewhere == set(REASONS)
    assert all(REASONS.values())


def test_requested_is_accepted_plus_dropped_each_with_a_known_reason() -> None:
    good = [candidate(f"An honest text about film number {i} of many.", index=100 + i) for i in range(5)]
    failed = candidate("", index=200)
    rows = [*CASES.values(), *good, failed]
    rows = [replace(c, row=replace(c.row, key=f"k{i}")) for i, c in enumerate(rows)]
    answers: dict[str, Response | TransientError] = {c.row.key: Response(c.text) for c in rows[:-1]}
    answers[rows[-1].row.key] = TransientError("gone")
    verdicts = judged_as_they_come(pipeline({"pos": 4}), rows, [answers])
    counts = Counter(reasons(verdicts))
    assert len(verdicts) == len(rows) == counts.total()
    assert [v.candidate.row.key for v in verdicts] == [c.row.key for c in rows]
    assert set(counts) <= {"", *REASONS}
    assert counts["failed"] == 1
    assert counts[""] == 4


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_accepted_set_does_not_depend_on_the_order_in_which_answers_came(seed: int) -> None:
    rows = [candidate(CASES[name].text, index=i) for i, name in enumerate([*CASES, *CASES])]
    rows += [candidate(f"An honest text about film number {i % 7} of many.", index=50 + i) for i in range(20)]
    rows = [replace(c, row=replace(c.row, key=f"k{i}")) for i, c in enumerate(rows)]
    arrived = {c.row.key: Response(c.text, usage=Usage(1, 1), finish_reason=c.finish_reason) for c in rows}
    shuffled = list(arrived.items())
    chance = random.Random(seed)
    chance.shuffle(shuffled)
    ends = sorted(chance.choices(range(len(rows) + 1), k=5))
    calm = pipeline({"pos": 6}).judge(rows, [])
    assert {"", "surplus", "duplicate"} < set(reasons(calm))
    assert judged_as_they_come(pipeline({"pos": 6}), rows, [dict(shuffled[:end]) for end in ends] + [dict(shuffled)]) == calm


def judged_as_they_come(
    rules: FilterPipeline, rows: list[Candidate], seen: Sequence[Mapping[str, Response | TeacherError]]
) -> list[Verdict]:
    """Judge a wave whose answers are shown as ``seen`` one after the other, the last time whole."""
    wave = [Request((Message("user", "Write."),), Sampling(), place, "s", place, row.label) for place, row in enumerate(rows)]
    planned = Planned(iter(wave), len(wave))
    assert planned[:] == wave
    live = Preview(
        planned,
        rules.without_models(),
        [],
        0,
        1.0,
        key=lambda request: rows[request.index].row.key,
        candidates=lambda request, answers: [rows[request.index]],
        note=lambda answer: None,
        show=lambda rows, answers: None,
    )
    for answers in seen:
        live._next = 0.0
        live.show(dict(answers))
    return rules.apply_set_filters(live.looked_at(dict(seen[-1]), len(rows)), [])


def test_each_rule_sees_only_what_the_rules_before_it_let_pass() -> None:
    stub = StubJudge(**{"An honest text of some words.": 0.9})
    rules = FilterPipeline((Schema(), LabelCheck(stub, 1.0)))
    assert reasons(rules.judge([candidate("An honest text of some words."), candidate("")], [])) == ["", "empty"]
    assert stub.asked == ["An honest text of some words."]


def test_the_quick_rules_ask_no_judge() -> None:
    full = pipeline({"pos": 9})
    assert [type(rule) for rule in full.without_models().filters] == [
        type(rule) for rule in full.filters if not isinstance(rule, LabelCheck)
    ]


@pytest.mark.parametrize("family", ["classification", "multi_label", "pair", "extractive_qa"])
def test_a_family_gets_the_rules_that_fit_it(family: str) -> None:
    gold = ASKED_GOLD if family == "extractive_qa" else GOLD
    rules = {type(rule): rule for rule in FilterPipeline.for_rows(run_config(family).task, gold, gold, {"": 3}).filters}
    schema = rules[Schema]
    assert isinstance(schema, Schema)
    assert schema.question is (family == "extractive_qa")
    assert (AnswerLeakFilter in rules, LabelLeakFilter in rules) == (
        (True, False) if family == "extractive_qa" else (False, True)
    )
    assert {ContaminationFilter, Duplicate, LabelQuota} <= set(rules)
    assert LabelCheck not in rules, "nobody judges"


def test_the_ratio_of_the_label_check_is_the_configs() -> None:
    rules = FilterPipeline.for_rows(run_config().task, GOLD, GOLD, {"pos": 3}, label_check=LabelCheck(Sceptic(), 0.25)).filters
    assert [rule.ratio for rule in rules if isinstance(rule, LabelCheck)] == [0.25]


def test_without_targets_all_that_is_good_is_taken() -> None:
    rows = [candidate(f"An honest text about film number {i} of many.", index=i) for i in range(9)]
    assert reasons(FilterPipeline.for_rows(run_config().task, GOLD, GOLD, None).judge(rows, [])) == [""] * 9
    assert reasons(pipeline({"pos": 4}).judge(rows, [])) == [""] * 4 + ["surplus"] * 5


def test_no_row_of_either_half_may_be_copied_but_only_the_harvest_half_sets_the_measure() -> None:
    select = [Example("s0", "an evening that went by too fast", "pos"), Example("s1", "this is pos " + "word " * 30, "pos")]
    rules = FilterPipeline.for_rows(run_config().task, [*GOLD, *select], GOLD, {"pos": 9})
    assert reasons(rules.judge([candidate(select[0].text)], [])) == ["copy"]
    assert reasons(rules.judge([candidate("Honestly a pos of a film, no less.")], [])) == ["names the label"]
    (schema,) = (rule for rule in rules.filters if isinstance(rule, Schema))
    assert schema.max_words < 30
    asked = FilterPipeline.for_rows(run_config("extractive_qa").task, [*ASKED_GOLD, *select], ASKED_GOLD, {"": 9})
    question = Example("s2", "When did the other boat leave?", answers=(Span("boat", 0),))
    assert reasons(asked.judge([candidate(question.text, "")], [])) == [""]
    more = FilterPipeline.for_rows(run_config("extractive_qa").task, [*ASKED_GOLD, question], ASKED_GOLD, {"": 9})
    assert reasons(more.judge([candidate(question.text, "")], [])) == ["copy"]


def test_given_rows_are_taken_as_they_are_but_for_copies_and_repetitions() -> None:
    """The user answers for what is in them."""
    rows = [
        candidate("I cannot help with that at all."),
        candidate("Nice.", index=1),
        candidate("pos", index=2),
        candidate("NICE", "neg", index=3),
        candidate("Warm, funny and over far too soon!", index=4),
        candidate(" ".join(f"w{i}" for i in range(4000)), index=5),
        candidate("no question", index=6, answer="no question"),
    ]
    verdicts = FilterPipeline.for_given(GOLD).judge(rows, [])
    assert reasons(verdicts) == ["", "", "", "duplicate", "copy", "", ""]
    assert [verdict.candidate for verdict in verdicts] == rows, "byte for byte"


def test_rationales_may_name_the_label_but_not_repeat_the_prompt() -> None:
    rules = FilterPipeline.for_rationales({"pos": 9})
    rows = [
        candidate("it is pos and says so"),
        candidate("it names a day", shown=("it names a day",), index=1),
        candidate("once", index=2),
        candidate("It is POS, and says so.", index=3),
    ]
    assert reasons(rules.judge(rows, [])) == ["", "copy", "too short", "duplicate"]
