"""Answers that hold several rows: how they are cut, planned, judged and asked for."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback import LoopbackServer
from stepsynth.config import TeacherConfig, parse_config
from stepsynth.filters.layout import Layout
from stepsynth.filters.parts import split_parts
from stepsynth.generation import StageRunner, TeacherClient
from stepsynth.generation.candidates import candidates_of
from stepsynth.generation.waves import next_wave
from stepsynth.journal import Journal
from stepsynth.methods import MethodContext, create_method
from stepsynth.prompts import Prompts
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.teachers.structured import texts_of
from stepsynth.types import Candidate, FinishReason, Message, Request, Response, Sampling, Verdict
from wire_site import GOLD, run_values, ship_text, write

TEXT, JSON = TeacherConfig(), TeacherConfig(structured="json")
THREE = ["The lamp came late.", "Nobody answers the phone.", "Which size fits a tall man?"]


def numbered(texts: list[str], mark: str = "{n}. {text}") -> str:
    return "\n".join(mark.format(n=n, text=text) for n, text in enumerate(texts, 1))


@pytest.mark.parametrize(
    "answer",
    [
        numbered(THREE),
        numbered(THREE, "{n}) {text}"),
        numbered(THREE, "**{n}.** {text}"),
        numbered(THREE, "{n}: {text}"),
        numbered(THREE, "({n}) {text}"),
        numbered(THREE, "Text {n}: {text}"),
        numbered(THREE, "- {text}"),
        numbered(THREE, "* {text}"),
        numbered(THREE, "{text}"),
        "\n\n".join(THREE),
        f"Here are three texts:\n\n{numbered(THREE)}",
        f"Sure!\n{numbered(THREE)}\n\nLet me know if you want more.",
        numbered(THREE, "{n}.\n{text}\n"),
        " ".join(f"{n}. {text}" for n, text in enumerate(THREE, 1)),
        numbered(THREE).replace("\n", "\r\n"),
    ],
)
def test_a_list_is_cut_into_its_texts(answer: str) -> None:
    assert split_parts(answer, cut=False) == THREE


def test_the_part_that_was_cut_off_is_left_out_and_not_the_others() -> None:
    assert split_parts(numbered(THREE)[:-9], cut=True) == THREE[:2]
    assert split_parts("\n".join(THREE)[:-9], cut=True) == THREE[:2]


def test_numbers_inside_texts_are_no_marks() -> None:
    texts = ["In 1969. men walked there", "2001 was no good year: 3. at most", "It cost 12.50 dollars"]
    assert split_parts(numbered(texts), cut=False) == texts


@pytest.mark.parametrize("answer", ["One text and no more.", "1. One text and no more."])
def test_an_answer_of_one_text_is_that_text(answer: str) -> None:
    assert split_parts(answer, cut=False) == ["One text and no more."]


def test_texts_of_several_paragraphs_stay_whole() -> None:
    texts = ["A first line.\n\nA second one.", "Another.\n\nAnd its end."]
    assert split_parts(numbered(texts), cut=False, paragraphs=True) == texts


@given(st.lists(st.text(st.characters(categories=["Lu", "Ll"]), min_size=1, max_size=30), min_size=2, max_size=12))
def test_what_was_numbered_comes_back(texts: list[str]) -> None:
    assert split_parts(numbered(texts), cut=False) == texts


@given(st.text(max_size=300), st.booleans(), st.booleans())
def test_no_answer_is_too_strange(answer: str, cut: bool, paragraphs: bool) -> None:
    assert all(isinstance(part, str) for part in split_parts(answer, cut=cut, paragraphs=paragraphs))


def request(parts: int, *, number: int = 0, label: str = "a", stage: str = "round-0/seed") -> Request:
    return Request((Message("user", f"{label} {number}"),), Sampling(), number, stage, number, label, parts=parts)


def test_each_part_is_a_candidate_with_the_answers_key() -> None:
    found = candidates_of(TEXT, request(3), "k", Response(numbered(THREE)), Layout())
    assert [(c.text, c.row.key, c.row.part) for c in found] == [(text, "k", n) for n, text in enumerate(THREE)]
    assert len({c.row.example.id for c in found}) == 3


def test_each_text_of_a_list_that_was_shown_may_be_copied() -> None:
    turns = (Message("user", "Three."), Message("assistant", numbered(THREE)), Message("user", "Again."))
    found = candidates_of(TEXT, replace(request(3), messages=turns), "k", Response(numbered(THREE)), Layout())
    assert {candidate.shown for candidate in found} == {tuple(THREE)}


def test_fewer_parts_than_asked_for_are_fewer_candidates_and_more_are_left_out() -> None:
    assert len(candidates_of(TEXT, request(9), "k", Response(numbered(THREE)), Layout())) == 3
    assert len(candidates_of(TEXT, request(2), "k", Response(numbered(THREE)), Layout())) == 2
    assert [c.text for c in candidates_of(TEXT, request(3), "k", Response(""), Layout())] == [""]


@pytest.mark.parametrize("said", ["1. \n2. \n3. ", "1. \n2. \n3. The lamp"])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_r22_a_list_without_any_text_is_one_empty_row_and_not_none(said: str, finish: FinishReason) -> None:
    """Found by the simulation: its request was in no row, so requested was not accepted + dropped."""
    (found,) = candidates_of(TEXT, request(3), "k", Response(said, finish), Layout())
    assert found.text == ("The lamp" if finish == "stop" and "lamp" in said else "")


def test_whole_parts_of_a_cut_answer_do_not_count_as_cut() -> None:
    found = candidates_of(TEXT, request(3), "k", Response(numbered(THREE)[:-9], "length"), Layout())
    assert [(c.text, c.finish_reason) for c in found] == [(text, "stop") for text in THREE[:2]]


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"texts": THREE}),
        json.dumps({"texts": THREE}, indent=2),
        f"```json\n{json.dumps({'texts': THREE})}\n```",
        f"Here are the 3 texts [as asked]: {json.dumps({'texts': THREE})} Do you want more?",
        json.dumps({"rows": THREE}),
        json.dumps({"thoughts": ["hm"], "texts": THREE}),
        json.dumps({"texts": [{"text": text} for text in THREE]}),
        json.dumps({"texts": [{"number": n, "question": text} for n, text in enumerate(THREE)]}),
        json.dumps(THREE),
        f"```\n{json.dumps(THREE)}\n```",
        json.dumps([{"text": text} for text in THREE]),
        json.dumps({"texts": numbered(THREE).split("\n")}),
        json.dumps({"texts": ["", *THREE, " "]}),
        f"<think>Maybe [1, 2] or {{3}}?</think>{json.dumps({'texts': THREE})}",
        # A model, or a journal of an earlier version, may have the list in one string or no object at all.
        json.dumps({"text": numbered(THREE)}),
        numbered(THREE),
    ],
)
def test_a_json_list_is_its_texts(answer: str) -> None:
    found = candidates_of(JSON, request(3), "k", Response(answer), Layout())
    assert [(c.text, c.row.part) for c in found] == [(text, n) for n, text in enumerate(THREE)]


@pytest.mark.parametrize("end", [2, 10, 25])
@pytest.mark.parametrize("form", [{"texts": THREE}, THREE, {"texts": [{"text": text} for text in THREE]}])
def test_whole_texts_of_a_json_list_that_was_cut_off_are_kept(form: Any, end: int) -> None:
    answer = json.dumps(form).rstrip("]}")[:-end]
    found = candidates_of(JSON, request(3), "k", Response(answer, "length"), Layout())
    assert [(c.text, c.finish_reason) for c in found] == [(text, "stop") for text in THREE[:2]]


def test_a_json_list_cut_off_in_its_first_text_is_one_cut_row() -> None:
    (found,) = candidates_of(JSON, request(3), "k", Response('{"texts": ["It is dark. The lamp came la', "length"), Layout())
    assert (found.text, found.finish_reason) == ("It is dark.", "length")
    (found,) = candidates_of(JSON, request(3), "k", Response('{"texts": ["The lamp came late.", "No', "length"), Layout())
    assert (found.text, found.finish_reason) == ("The lamp came late.", "stop")


def test_texts_of_a_json_list_may_hold_anything_that_a_list_of_lines_may_not() -> None:
    texts = ["Steps:\n\n1. Open it.\n2. Close it.", 'She said "no" [twice] {and left}.']
    found = candidates_of(JSON, request(2), "k", Response(json.dumps({"texts": texts})), Layout(whole=True))
    assert [c.text for c in found] == ["Steps: 1. Open it. 2. Close it.", texts[1]]


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        # Without a text there is one empty row, so that every request is accounted for.
        ('{"texts": []}', [""]),
        ('{"texts": ["", " "]}', [""]),
        ("[]", [""]),
        ('{"texts": [1, 2]}', [""]),
        ('{"texts": ["One here.", null, 3, "Two here."]}', ["One here.", "Two here."]),
        ('{"1": "One here.", "2": "Two here."}', ["One here.", "Two here."]),
        ('{"text": "One here."}\n{"text": "Two here."}', ["One here.", "Two here."]),
        # A quotation mark that is not escaped ends the list: fragments are no rows.
        ('{"texts": ["One here.", "She said "no" and left.", "Three."]}', ["One here."]),
        ('{"texts": ["She said "no" and left.", "Two here."]}', [""]),
        # Lists of other things are not the answer.
        ('{"review": "A great film.", "tags": ["drama", "plot"]}', [""]),
        ('{"thoughts": ["hm", "hmm"], "texts": ["One here.", "Two', ["One here."]),
        # A model that ignores the form writes a numbered list, with brackets in it or not.
        ('1. She likes ["Dune"] a lot.\n2. He reads ["Emma"] now.', ['She likes ["Dune"] a lot.', 'He reads ["Emma"] now.']),
        # Numbers that belong to the texts stay.
        ('{"texts": ["1.5 kg of rice is enough."]}', ["1.5 kg of rice is enough."]),
        ('{"texts": ["1.5 stars at most.", "2.5 stars at least."]}', ["1.5 stars at most.", "2.5 stars at least."]),
        ('{"texts": ["Day 1: we arrived.", "Day 2: we left."]}', ["Day 1: we arrived.", "Day 2: we left."]),
    ],
)
def test_what_models_make_of_a_json_list(answer: str, rows: list[str]) -> None:
    assert [c.text for c in candidates_of(JSON, request(3), "k", Response(answer), Layout())] == rows


def test_lines_of_a_json_list_that_was_cut_off_in_its_first_text_are_one_row() -> None:
    answer = '{"texts": ["Dear team,\nthe lamp came late.\nPlease hel'
    (found,) = candidates_of(JSON, request(3), "k", Response(answer, "length"), Layout())
    assert found.finish_reason == "length"


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=30), max_size=6), st.integers(0, 40))
def test_any_json_list_comes_back_as_far_as_it_goes(texts: list[str], cut: int) -> None:
    whole = json.dumps({"texts": texts})
    assert texts_of(whole) == texts
    found = texts_of(whole[: max(len(whole) - cut, 0)]) or []
    assert found == texts[: len(found)]
    # Every text that is whole in what is left is there.
    left = whole[: max(len(whole) - cut, 0)]
    assert len(found) >= sum(left.startswith(json.dumps({"texts": texts[: k + 1]})[:-2]) for k in range(len(texts)))


def test_a_stage_of_json_lists_through_real_http(loopback: LoopbackServer, tmp_path: Path) -> None:
    """Reasons are asked for ten at a time, and rows three at a time."""
    values = run_values(loopback, structured="json", sampling={"max_tokens": 200})
    values["task"]["prompt_style"] = "capable"
    values["method"] |= {"rows_per_answer": 3, "seed_from": "reasons"}

    def answer(body: dict[str, Any]) -> str:
        (name,) = body["response_format"]["json_schema"]["schema"]["required"]
        count = 10 if "different reasons" in str(body["messages"]) else 3
        several = [ship_text({**body, "seed": f"{body['seed']} {n}"}) for n in range(count)]
        return json.dumps({"texts": several}) if name == "texts" else json.dumps({"text": several[0]})

    loopback.answer = answer
    found = write(values, tmp_path / "journal.db")
    assert len(found.texts) == 8
    assert len(found.reasons) == 8
    assert all(text.startswith("The ") and text.endswith(".") for text in found.texts)
    # One answer with reasons for each label, and two with rows.
    assert len(loopback.completions) == 6


def test_a_run_drops_rows_that_repeat_its_templates(loopback: LoopbackServer, tmp_path: Path) -> None:
    values = run_values(loopback)
    values["task"]["prompt_style"] = "capable"
    values["method"] |= {"rows_per_answer": 3, "seed_from": "instruction"}
    config = parse_config(values)
    loopback.answer = lambda body: f"1. {ship_text(body)}\n2. Each about something else.\n3. and write nothing else"
    with closing(Journal(tmp_path / "journal.db")) as journal:
        client = TeacherClient(config.teacher, journal, config.budget)
        ctx = MethodContext(config, Prompts(config.task), create_family(config.task), GOLD, [], dict, lambda _: [])
        (plan,) = create_method(config).plans(0, ctx)
        StageRunner(config, journal, client, GOLD, SilentProgress(), check_labels=False).write(plan, 0)
        found = Counter((row.text.startswith("The "), row.reason) for row in journal.rows() if row.reason in ("", "copy"))
    assert found[True, ""] == config.method.seed_rows
    assert set(found) == {(True, ""), (False, "copy")}


def test_how_many_parts_does_not_change_the_key_of_equal_messages() -> None:
    assert request(1).key({}) == request(9).key({})


@dataclass
class Plan:
    """Wants rows; every answer holds some."""

    parts: int
    targets: dict[str, int] = field(default_factory=lambda: {"a": 20, "b": 20})
    stage: str = "round-0/seed"
    kind: str = "seed"

    def request(self, label: str, number: int, index: int) -> Request:
        del index
        return request(self.parts, number=number, label=label)


def run_waves(parts: int, given_parts: int, limit: float = 6.0) -> tuple[list[int], int]:
    plan, verdicts, asked, waves = Plan(parts), list[Verdict](), Counter[str](), []
    while wave := next_wave(plan, verdicts, asked, limit):
        waves.append(len(wave))
        accepted = Counter(v.candidate.label for v in verdicts if v.accepted)
        for sent in wave:
            for part in range(given_parts):
                full = accepted[sent.label] >= plan.targets[sent.label]
                verdicts.append(Verdict(Candidate.of(sent, "k", "x", part=part), "surplus" if full else ""))
                accepted[sent.label] += 1
    return waves, sum(v.accepted for v in verdicts)


def test_waves_ask_for_as_many_answers_as_the_rows_need() -> None:
    assert run_waves(1, 1) == ([44], 40)
    assert run_waves(10, 10) == ([4], 40)


def test_answers_with_too_few_rows_are_asked_for_again_up_to_the_limit() -> None:
    waves, rows = run_waves(10, 5)
    assert rows == 40
    assert len(waves) > 1
    waves, rows = run_waves(10, 1)
    assert sum(waves) == 2 * 12
    assert rows == 24


@pytest.mark.parametrize("style", ["small", "capable"])
def test_reasons_come_as_a_list_where_the_template_can_say_it(style: str) -> None:
    from stepsynth.methods.seed import RationalePlan, SeedPlan
    from stepsynth.types import Example

    def ctx(**task: Any) -> MethodContext:
        config = parse_config(
            {
                "task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"], "prompt_style": style, **task},
                "data": {"validation": {"path": "v.csv"}},
                "method": {"rows_per_answer": 4},
            }
        )
        harvest = [Example(f"h{i}", "seven words are in this short text", "a") for i in range(6)]
        return MethodContext(
            config, Prompts(config.task), create_family(config.task), harvest, (), rationales=dict, mistakes=lambda _: ()
        )

    asked = RationalePlan(ctx()).request("a", 0, 0)
    seed = SeedPlan(ctx(), {"a": ["r"], "b": ["r"]}).request("a", 0, 0)
    assert (asked.parts, asked.sampling.max_tokens) == ((10, 320) if style == "capable" else (1, 32))
    assert (seed.parts, seed.sampling.max_tokens) == ((4, 256) if style == "capable" else (1, 64))
    if style == "capable":
        assert "about 7, 7, 7 and 7 words" in seed.messages[-1].content
        own = ctx(prompts={"rationale": "--- user\nWhy {{ label }}?"})
        assert RationalePlan(own).request("a", 0, 0).parts == 1
