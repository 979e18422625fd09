"""Models that think: what they think is never a row, and what they say has room."""

from __future__ import annotations

import json
import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loopback import LoopbackServer
from stepsynth.config import SamplingConfig, TeacherConfig, parse_config
from stepsynth.errors import PermanentError, RunError
from stepsynth.generation import LLMPredictor, TeacherClient
from stepsynth.generation.room import with_room
from stepsynth.journal import Journal
from stepsynth.planning.making import _no_text
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.reading import answer_text, hidden_tokens
from stepsynth.teachers.thoughts import without_thoughts
from stepsynth.types import Response, Usage
from wire_site import GOLD, run_values, ship_text, thinking, whole, write

Body = dict[str, Any]
SECRET_THOUGHT = "Hmm, what would a sailor of the kind say here"


def kept(tmp_path: Path, server: LoopbackServer, **teacher: Any) -> list[str]:
    found = write(run_values(server, **{"sampling": {"max_tokens": 400}, **teacher}), tmp_path / "journal.db")
    assert len(found.texts) == 8, found.lines
    return [*found.reasons, *found.texts]


# thoughts in the content -----------------------------------------------------------------

WAYS = {
    "varied": f"<think>\n{SECRET_THOUGHT}.\n\nThat will do.\n</think>\n\nTEXT",
    "without a start": f"{SECRET_THOUGHT}.\n\nThat will do.\n</think>\n\nTEXT",
    "empty": "<think>\n\n</think>\n\nTEXT",
    "on one line": f"<thinking>{SECRET_THOUGHT}</thinking>TEXT",
    "Mistral": f"[THINK]{SECRET_THOUGHT}.[/THINK]TEXT",
    "Kimi": f"◁think▷{SECRET_THOUGHT}.◁/think▷TEXT",
    "Seed": f"<seed:think>{SECRET_THOUGHT}.</seed:think>TEXT",
    "gpt-oss": f"<|channel|>analysis<|message|>{SECRET_THOUGHT}.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>TEXT<|return|>",
    "gpt-oss without its tokens": f"analysisWe need a text. {SECRET_THOUGHT}.assistantfinalTEXT",
    "Gemma": f"<|channel>thought\n{SECRET_THOUGHT}.<channel|>TEXT",
    "Granite": f"Here is my thought process:\n{SECRET_THOUGHT}.\n\nHere is my response:\nTEXT",
    "OpenThinker": f"<|begin_of_thought|>{SECRET_THOUGHT}.<|end_of_thought|>\n<|begin_of_solution|>TEXT<|end_of_solution|>",
    "Command A": f"<|START_THINKING|>{SECRET_THOUGHT}.<|END_THINKING|><|START_RESPONSE|>TEXT<|END_RESPONSE|>",
    "wrapped": f"<reasoning kind='short'>{SECRET_THOUGHT}.</reasoning>\n<answer>TEXT</answer>",
    "a fold of Dify": f'<details style="color:gray" open> <summary> Thinking... </summary>{SECRET_THOUGHT}. </details>TEXT',
    "a fold of Open WebUI": '<details type="reasoning" done="true">\n<summary>Took 2 s</summary>\n> '
    f"{SECRET_THOUGHT}.\n</details>\nTEXT",
    "a quotation": f"*Thinking...*\n\n> **Plan**\n> \n> {SECRET_THOUGHT}.\n\n> Good.\n\nTEXT",
    "headings": f"## Thinking\n\n{SECRET_THOUGHT}.\n\n## Final Response\n\nTEXT",
    "bold headings": f"**Thinking:** {SECRET_THOUGHT}.\n\n**Answer:** TEXT",
    "plain headings": f"Thought: {SECRET_THOUGHT}.\nFinal Answer: TEXT",
    "openPangu": f"[unused16]{SECRET_THOUGHT}.[unused17]TEXT",
    "HyperCLOVA": f"/think\n{SECRET_THOUGHT}.\nassistant\nTEXT",
    "HyperCLOVA with its tokens": f"<|im_start|>assistant/think\n{SECRET_THOUGHT}.<|im_end|>\n"
    "<|im_start|>assistant\nTEXT<|im_end|>",
    "gpt-oss in lines": f"analysis\n{SECRET_THOUGHT}.\nassistantfinal\nTEXT",
    "gpt-oss in small letters": f"analysisthe user wants a text. {SECRET_THOUGHT}.assistantfinalTEXT",
    "gpt-oss with colons": f"analysis: {SECRET_THOUGHT}.\n\nfinal: TEXT",
    "artifacts": f"<antThinking>{SECRET_THOUGHT}.</antThinking>\nTEXT",
    "a longer name": f"<thinking_process>{SECRET_THOUGHT}.</thinking_process>TEXT",
    "a chain": f"<chain-of-thought>{SECRET_THOUGHT}.</chain-of-thought>TEXT",
    "an invented name": f"<my-deep_reasoning.v2 kind='x'>{SECRET_THOUGHT}.</my-deep_reasoning.v2>TEXT",
    "a rationale": f"<rationale>{SECRET_THOUGHT}.</rationale>TEXT",
    "brackets": f"[THINKING]{SECRET_THOUGHT}.[/THINKING]TEXT",
    "a fence": f"```thinking\n{SECRET_THOUGHT}.\n```\n\nTEXT",
    "full width": f"\uff1cthink\uff1e{SECRET_THOUGHT}.\uff1c/think\uff1eTEXT",
    "start and end tokens": f"<|think_start|>{SECRET_THOUGHT}.<|think_end|>TEXT",
    "escaped": f"\\u003cthink\\u003e{SECRET_THOUGHT}.\\u003c/think\\u003eTEXT",
    "and a heading": f"<think>{SECRET_THOUGHT}.</think>\n\n**Answer:** TEXT",
    "afterwards": f"TEXT\n<reflection>{SECRET_THOUGHT}, and I think that it is good.</reflection>",
}


@pytest.mark.parametrize("way", WAYS)
def test_case_01_think_blocks_become_rows(loopback: LoopbackServer, tmp_path: Path, way: str) -> None:
    draw = random.Random(0)
    loopback.answer = thinking(lambda text, _: WAYS[way].replace("TEXT", text).replace("kind", f"kind {draw.random()}"))
    for text in kept(tmp_path, loopback):
        assert text.startswith("The "), text
        assert "think" not in text.lower()
        assert "sailor" not in text


def test_case_01_think_blocks_become_rows_json(loopback: LoopbackServer, tmp_path: Path) -> None:
    """The object behind the thoughts counts, never one among them."""
    thought = '<think>\nI must answer with {"text": "A wrong text of a thought."} so let me.\n</think>\n\n'
    loopback.answer = thinking(lambda text, _: thought + json.dumps({"text": text}))
    assert all("wrong" not in text for text in kept(tmp_path, loopback, structured="json"))


def test_case_01_an_answer_cut_off_inside_its_thoughts_is_truncated(loopback: LoopbackServer, tmp_path: Path) -> None:
    loopback.answer = thinking(
        lambda text, body: whole(f"<think>{SECRET_THOUGHT}. It is", body, "length") if body["seed"] % 2 else text
    )
    found = write(run_values(loopback), tmp_path / "journal.db")
    assert {row.reason for row in found.rows} <= {"", "truncated", "surplus", "duplicate"}
    assert any(row.reason == "truncated" for row in found.rows)
    assert all("sailor" not in row.text for row in found.rows)


def test_thoughts_in_answers_that_are_kept_already_ask_nobody_again(loopback: LoopbackServer, tmp_path: Path) -> None:
    loopback.answer = thinking(lambda text, _: WAYS["varied"].replace("TEXT", text))
    shared = tmp_path / "answers.db"
    first = write(run_values(loopback), tmp_path / "a.db", shared=shared)
    sent = len(loopback.completions)
    again = write(run_values(loopback), tmp_path / "b.db", shared=shared)
    assert again.texts == first.texts
    assert len(loopback.completions) == sent


SAME = [
    "The <analysis> element of my export is empty since Monday.",
    "Our page prints &lt;think&gt; where the price should be.",
    "I think that the pump thinks for itself.",
    'My log shows "<think>" all day.',
    "The `</think>` tag is shown to customers.",
    "Is 3 < 4 and 5 > 2?",
    "Thinking about a refund [think] again",
    "Analysis of my bill: it is wrong.",
    "analysis of my bill says it is wrong",
    "analysis: the pump is dead",
    "Thinking: should I return the pump?",
    "Thinking about it, my answer: no.",
    "Reasoning: none was given for the late parcel.\nI want my money back.",
    "**Analysis** of the pump: it is dead.",
    "## Analysis\n\nThe pump is dead.",
    "I see <details><summary>Invoice</summary>12</details> on the page",
    "<reasonable_price>12</reasonable_price>",
    "<rationale>",
    "The parcel [unused] came late",
    "/think about it",
    "*Thinking* of a refund.\n\n> you wrote\n\nNo.",
    "```thinking``` is what the screen shows",
    "Final answer: I want my money back",
    "",
]
READ = [
    ("<think> hm </think> the lift is stuck again.", "the lift is stuck again."),
    ("hm, a lift then. </think> the lift is stuck again.", "the lift is stuck again."),
    ("Here are my reasoning steps:\nOne.\n[BEGIN FINAL RESPONSE]\nIt is stuck.\n[END FINAL RESPONSE]", "It is stuck."),
    ("<THINK>a</THINK>X", "X"),
    ("< think >a</ think >X", "X"),
    ('<think class="x">a</think>X', "X"),
    ("<think>a<think>b</think>c</think>X", "X"),
    ("<think>a</think>X<think>b</think>Y", "Y"),
    ("<think>a", ""),
    ("a</think>", ""),
    ('<think>I end with "</think>" and then', ""),
    ('<think>I end with "</think>" and</think>\nX', "X"),
    ('<think>I write "foo"</think>"X"', '"X"'),
    ("<think/>X", "X"),
    ("&lt;think&gt;a&lt;/think&gt;X", "X"),
    ("<|channel|>analysis<|message|>hm", ""),
    ("Here is my thought process: hm", ""),
    ("X\n<think>never ended", "X"),
    ("## Thinking\n\nI should", ""),
    ("**Thinking:** I should", ""),
    ("```thinking\nI should", ""),
    ("/think\nI should", ""),
    ("analysiswe should", ""),
    ('<details type="reasoning" done="false"><summary>Thinking</summary>I should', ""),
    ('<details type="reasoning">a</details><details type="reasoning">b</details>X', "X"),
    ("**Thinking:** a\n\n<think>b</think>X\n**Answer:** Y", "Y"),
    ("I should</antThinking>X", "X"),
]


@pytest.mark.parametrize("text", SAME)
def test_a_text_that_only_names_thoughts_stays_as_it_is(text: str) -> None:
    assert without_thoughts(text) == text


TOKENS = [
    ("X<end_of_turn>", "X"),
    ("<start_of_turn>model\nX<end_of_turn>\n", "X"),
    ("<|im_start|>assistant\nX<|im_end|>", "X"),
    ("<think>a</think>\n\n<|im_start|>assistant\nX<|im_end|>", "X"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nX<|eot_id|>", "X"),
    ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nX", "X"),
    ("X<|im_end|>\n<|im_start|>user\nAnd one more", "X"),
    ("[/INST] X </s>", "X"),
    ("[INST] X [/INST]", "X"),
    ("<|assistant|>\nX<|endoftext|><|endoftext|>", "X"),
    ("<|im_start|>Models are late", "Models are late"),
    ("What does <|im_end|> mean in my log", "What does <|im_end|> mean in my log"),
    ("Is [INST] a word", "Is [INST] a word"),
    ("X  ", "X  "),
]


@pytest.mark.parametrize(("answer", "text"), TOKENS)
def test_tokens_of_a_template_around_an_answer_go_with_their_role(answer: str, text: str) -> None:
    found = answer_text(TeacherConfig(backend="fake"), Response(answer))
    assert (found if answer == text else found.strip()) == text


@pytest.mark.parametrize(("answer", "text"), READ)
def test_thoughts_end_where_they_end(answer: str, text: str) -> None:
    assert without_thoughts(answer).strip() == text


HOSTILE = (
    "<think>",
    "<think ",
    '"</think>"',
    "<|channel|>",
    "<think>x</think>",
    "here is my response:",
    "◁",
    "< ",
    "<a_",
    "&lt;",
    "<details>",
    "<details type='reasoning'>",
    "</details>",
    "*Thinking*\n>",
    "> \n",
    "\n \n",
    "analysis",
    "assistant final",
    "\nThinking:",
    "**Answer:**\n",
    "## ",
    "```thinking\n",
    "\n/think\nassistant",
    "<planning>",
    "<|im_start|>assistant\n",
    "<|im_end|> ",
    "[INST] ",
    "\\u003c",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_answers_take_little_time(piece: str) -> None:
    started = time.process_time()
    without_thoughts("Here is my thought process:" + piece * (400_000 // len(piece)))
    without_thoughts(piece * (400_000 // len(piece)))
    for begin in ("", "## Thinking\n", "*Thinking...*\n> ", "analysis\n", "/think\n", "<my_thoughts>"):
        answer_text(TeacherConfig(backend="fake"), Response(begin + piece * (100_000 // len(piece))))
    assert time.process_time() - started < 3


def test_marks_mixed_and_damaged_never_leave_a_mark_of_a_whole_block() -> None:
    draw = random.Random(5)
    pieces = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "final<|message|>", "thought ", '"', "\n", "{", "text")
    for _ in range(3000):
        answer = "".join(draw.choice(pieces) for _ in range(draw.randrange(12)))
        without_thoughts(answer)
        said = without_thoughts(f"<think>{SECRET_THOUGHT}{answer.replace(chr(34), '')}</think>A plain text.")
        assert SECRET_THOUGHT not in said


@pytest.mark.parametrize("text", ['{"text": "a </think> b"}', '```json\n{"text": "x"}\n```'])
def test_an_object_that_comes_first_is_read_before_marks_in_it(text: str) -> None:
    config = TeacherConfig(backend="fake", structured="json")
    assert answer_text(config, Response(text)).strip() in {"b", "x"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "", "reasoning_content": SECRET_THOUGHT}, "has no text: what the teacher wrote is in the field"),
        ({"content": None, "reasoning": SECRET_THOUGHT}, "'reasoning'"),
        ({"content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, "called a tool"),
        ({"content": None, "refusal": "I will not."}, "was refused"),
        ({"content": "A text."}, None),
    ],
)
def test_a_plan_says_why_its_sample_holds_no_text(message: Body, said: str | None) -> None:
    body = whole("", {"messages": [], "model": "m"}, "stop")
    body["choices"][0]["message"] = {"role": "assistant", **message}
    answers = read_completion(json.dumps(body))
    values: Body = {"task": {"name": "t", "instruction": "i", "labels": ["a", "b"]}, "data": {"validation": {"path": "x.csv"}}}
    found = _no_text(parse_config({**values, "teacher": {"backend": "fake"}}), answers)
    assert [said in line for line in found] == [True] if said else not found


# thoughts in fields of their own ---------------------------------------------------------

FIELDS: dict[str, Body] = {
    "reasoning_content": {"reasoning_content": SECRET_THOUGHT},
    "reasoning": {"reasoning": SECRET_THOUGHT, "reasoning_details": [{"type": "reasoning.text", "text": SECRET_THOUGHT}]},
    "parts": {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": SECRET_THOUGHT}]}, {"type": "text", "text": "A."}]
    },
    "parts with a flag": {
        "content": [{"type": "text", "text": SECRET_THOUGHT, "reasoning": True}, {"type": "text", "text": "A."}]
    },
    "parts with a summary": {
        "content": [{"type": "reasoning", "summary": [{"text": SECRET_THOUGHT}]}, {"type": "output_text", "text": "A."}]
    },
    "parts of Gemini": {"content": [{"text": SECRET_THOUGHT, "thought": True}, {"text": "A."}]},
}


@pytest.mark.parametrize("way", FIELDS)
@pytest.mark.parametrize("content", ["A.", None])
def test_thoughts_in_fields_of_their_own_are_never_the_text(way: str, content: str | None) -> None:
    body = whole(content, {"messages": [], "model": "m"}, "stop" if content else "length")
    body["choices"][0]["message"] |= FIELDS[way]
    (response,) = read_completion(json.dumps(body))
    assert response.text in {"A.", "" if content is None else "A."}
    assert response.finish_reason == ("stop" if content else "length")


def counted(body: Body, tokens: int, name: str = "completion_tokens_details") -> Body:
    body["usage"] = {"prompt_tokens": 60, "completion_tokens": tokens, name: {"reasoning_tokens": tokens}}
    return body


@pytest.mark.parametrize("name", ["completion_tokens_details", "output_tokens_details"])
def test_hidden_tokens_are_counted_from_what_was_kept(name: str) -> None:
    body = counted(whole("A.", {"messages": [], "model": "m"}), 40, name)
    body["usage"][name]["reasoning_tokens"] = 30
    (response,) = read_completion(json.dumps(body))
    assert hidden_tokens(response) == 30
    assert hidden_tokens(Response("<think>aaaaa</think>bb", usage=Usage(1, 20))) > 10


def test_tokens_that_only_the_total_counts_are_written_tokens() -> None:
    body = whole("A.", {"messages": [], "model": "m"})
    body["usage"] = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 94}
    assert read_completion(json.dumps(body))[0].usage.completion_tokens == 84


# room ------------------------------------------------------------------------------------


def hungry(need: int) -> Any:
    """Return a model whose hidden thoughts take ``need`` tokens of whatever it may write."""

    def answer(body: Body) -> str | Body:
        limit = int(body.get("max_completion_tokens") or body["max_tokens"])
        if limit < need:
            return counted(whole(None, body, "length"), limit)
        found = whole(ship_text(body), body)
        found["usage"] = {
            "prompt_tokens": 60,
            "completion_tokens": need + 12,
            "completion_tokens_details": {"reasoning_tokens": need},
        }
        return found

    return answer


def test_case_03_reasoning_eats_the_32_tokens(loopback: LoopbackServer, tmp_path: Path) -> None:
    """Who allows 2000 tokens for rows means a model that thinks: its short answers have room, too."""
    loopback.answer = hungry(200)
    found = write(run_values(loopback, sampling={"max_tokens": 2000}), tmp_path / "journal.db")
    assert len(found.texts) == 8
    assert {seen.json["max_tokens"] for seen in loopback.completions} == {2000}
    assert "tokens written were thoughts" in found.lines[0]
    assert found.infos[0]["thought_tokens"] >= 200 * len(found.reasons)


def test_case_03_a_wave_of_nothing_but_thoughts_ends_early_and_goes_on(loopback: LoopbackServer, tmp_path: Path) -> None:
    loopback.answer = hungry(200)
    values = run_values(loopback)
    values["method"]["rationales"] = 40
    with pytest.raises(
        RunError, match=r"cut off at 32 tokens before they said anything, all of them in hidden reasoning"
    ) as caught:
        write(values, tmp_path / "journal.db")
    assert "teacher.reasoning_tokens to about 2,000" in str(caught.value)
    sent = len(loopback.completions)
    assert sent < 20
    with pytest.raises(RunError, match="cut off at 32 tokens"):
        write(values, tmp_path / "journal.db")
    assert len(loopback.completions) == sent
    # The same run goes on once there is room: same keys, same digest.
    wider = run_values(loopback, reasoning_tokens=500)
    wider["method"]["rationales"] = 40
    assert parse_config(wider).result_digest() == parse_config(values).result_digest()
    found = write(wider, tmp_path / "journal.db")
    assert len(found.texts) == 8
    assert {seen.json["max_tokens"] for seen in loopback.completions[sent:]} == {532, 564}


def test_room_leaves_the_requests_of_older_configs_as_they_were() -> None:
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", sampling=SamplingConfig(max_tokens=400))
    values = {"task": {"name": "t", "instruction": "i", "labels": ["a", "b"]}, "data": {"validation": {"path": "x.csv"}}}
    lab_request = _any_request(parse_config({**values, "teacher": config.model_dump()}))
    assert with_room(config, lab_request) is lab_request


def _any_request(config: Any) -> Any:
    from stepsynth.methods import MethodContext
    from stepsynth.methods.seed import RationalePlan
    from stepsynth.prompts import Prompts

    ctx = MethodContext(config, Prompts(config.task), create_family(config.task), [], [], dict, lambda _: [])
    return RationalePlan(ctx).request("a", 0, 0)


def test_answers_kept_under_the_old_limit_are_not_asked_for_again(loopback: LoopbackServer, tmp_path: Path) -> None:
    """A reason that was cut off at 32 tokens but said something is a reason; more room buys no second one."""
    loopback.answer = thinking(lambda text, body: whole(text, body, "length"))
    shared = tmp_path / "answers.db"
    write(run_values(loopback), tmp_path / "a.db", shared=shared)
    sent = len(loopback.completions)
    write(run_values(loopback, reasoning_tokens=300), tmp_path / "b.db", shared=shared)
    assert len(loopback.completions) == sent


def test_the_budget_counts_the_room_before_anything_is_sent(loopback: LoopbackServer, tmp_path: Path) -> None:
    values = {**run_values(loopback, reasoning_tokens=5000), "budget": {"tokens": 4000}}
    with pytest.raises(Exception, match="budget is used up"):
        write(values, tmp_path / "journal.db")
    assert loopback.completions == []


def teacher_model(values: Body, path: Path) -> tuple[LLMPredictor, Journal]:
    config = parse_config({**values, "method": {"name": "teacher"}})
    journal = Journal(path)
    client = TeacherClient(config.teacher, journal, config.budget, pause=lambda _: None)
    return LLMPredictor(config, create_family(config.task), client, [], SilentProgress()), journal


def test_case_03_the_method_teacher_is_not_scored_on_guesses(loopback: LoopbackServer, tmp_path: Path) -> None:
    loopback.answer = lambda body: whole("", body, "stop")
    model, journal = teacher_model(run_values(loopback), tmp_path / "journal.db")
    with closing(journal), pytest.raises(RunError, match=r"12 of 12 teacher answers gave no label \(12 empty\)"):
        model.predict(GOLD)


def test_case_03_the_method_teacher_has_room(loopback: LoopbackServer, tmp_path: Path) -> None:
    def answer(body: Body) -> str | Body:
        return "engine" if body["max_tokens"] >= 200 else counted(whole(None, body, "length"), body["max_tokens"])

    loopback.answer = answer
    model, journal = teacher_model(run_values(loopback, reasoning_tokens=200), tmp_path / "journal.db")
    with closing(journal):
        assert {prediction.label for prediction in model.predict(GOLD)} == {"engine"}
        assert model.undecided == 0


def test_answers_in_thoughts_of_the_method_teacher_decide_nothing(loopback: LoopbackServer, tmp_path: Path) -> None:
    """The thought weighs both labels; the answer names one."""
    loopback.answer = lambda body: whole("<think>It is not the engine, so the hull?</think>\nhull", body)
    model, journal = teacher_model(run_values(loopback), tmp_path / "journal.db")
    with closing(journal):
        assert {prediction.label for prediction in model.predict(GOLD)} == {"hull"}


def test_no_reason_left_says_why_and_what_helps(loopback: LoopbackServer, tmp_path: Path) -> None:
    """Few answers, so that the stage ends by itself: the advice follows from what the drops say."""
    from stepsynth.methods.seed import _advice

    assert "reasoning_tokens" in _advice({"truncated": 5, "duplicate": 1})
    assert "Describe the label" in _advice({"meta": 3})
    assert "Describe the label" in _advice({})


# a sampling that models fix --------------------------------------------------------------

ONLY_ONE = "Unsupported value: '{}' does not support {} with this model. Only the default (1) value is supported."


def fixed(server: LoopbackServer) -> None:
    """Make a server refuse every temperature and top-p but 1, and ``max_tokens``, as o1 does."""
    from loopback import Fault

    def fault(seen: Any) -> Fault | None:
        body = seen.json
        bad = next((name for name in ("temperature", "top_p") if body.get(name, 1) != 1), None)
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        elif bad:
            said = ONLY_ONE.format(bad, body[bad])
        else:
            return None
        return Fault.status(400, body={"error": {"message": said, "type": "invalid_request_error", "code": "unsupported_value"}})

    server.faults = fault


def test_case_02_fixed_temperature_models(loopback: LoopbackServer, tmp_path: Path) -> None:
    fixed(loopback)
    loopback.answer = ship_text
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 2000}
    found = write(run_values(loopback, sampling=sampling), tmp_path / "journal.db")
    assert len(found.texts) == 8
    assert [note for note in found.notes if "temperature" in note] == found.notes
    assert len(found.notes) == 1
    loopback.answer = lambda _: "hull"
    model, journal = teacher_model(run_values(loopback, sampling=sampling), tmp_path / "t.db")
    with closing(journal):
        model.predict(GOLD)
    assert model.undecided == 0


def test_case_02_a_sampling_that_was_never_set_is_left_out(loopback: LoopbackServer, tmp_path: Path) -> None:
    fixed(loopback)
    loopback.answer = ship_text
    assert len(write(run_values(loopback), tmp_path / "journal.db").texts) == 8


def test_case_02_what_the_user_set_is_named_all_at_once(loopback: LoopbackServer, tmp_path: Path) -> None:
    fixed(loopback)
    loopback.answer = ship_text
    with pytest.raises(PermanentError) as caught:
        write(run_values(loopback, sampling={"temperature": 0.7, "top_p": 0.8}), tmp_path / "journal.db")
    assert "teacher.sampling.temperature: 1.0 and teacher.sampling.top_p: 1.0" in caught.value.hint


@pytest.mark.parametrize("said", ["`{}` is deprecated for this model.", "`temperature` and `top_p` cannot both be specified."])
@pytest.mark.parametrize("sampling", [{"temperature": 1.0, "top_p": 1.0}, {}])
def test_case_02_the_same_behind_anthropic(loopback: LoopbackServer, tmp_path: Path, said: str, sampling: Body) -> None:
    from loopback import Fault

    def fault(seen: Any) -> Fault | None:
        bad = [name for name in ("temperature", "top_p") if name in seen.json]
        if not bad or ("both" in said and len(bad) < 2):
            return None
        error = {"type": "invalid_request_error", "message": said.format(bad[0])}
        return Fault.status(400, body={"type": "error", "error": error})

    loopback.faults = fault
    loopback.answer = ship_text
    # Anthropic has no seed: without one, prompts tell answers apart.
    count = iter(range(10_000))
    loopback.answer = lambda body: ship_text({**body, "seed": next(count)})
    values = run_values(loopback, backend="anthropic", base_url=loopback.anthropic_url, sampling=sampling)
    assert len(write(values, tmp_path / "journal.db").texts) == 8


@pytest.mark.parametrize("name", ["min_p", "repetition_penalty"])
def test_a_refused_setting_without_a_neutral_value_is_named(loopback: LoopbackServer, tmp_path: Path, name: str) -> None:
    loopback.refuse = (name,)
    with pytest.raises(PermanentError, match=name) as caught:
        write(run_values(loopback, sampling={name: 0.5}), tmp_path / "journal.db")
    assert f"Set teacher.sampling.{name}:" in caught.value.hint
