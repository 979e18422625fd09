"""Servers that speak OpenAI's format in ways of their own: errors, finish reasons, parameters, fields, headers, lists."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, LoopbackServer, Seen
from openai_client import make_config, use
from stepsynth.cli.cache import verify_answers
from stepsynth.config import parse_config
from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.journal import AnswerStore, Journal
from stepsynth.teachers import answer_of, probe_teacher
from stepsynth.teachers.completions import is_failure, read_choices, read_completion
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.headers import read_headers
from stepsynth.teachers.served import serves
from stepsynth.types import Message, Request, Response, Sampling
from wire_site import run_values, ship_text, whole, write

Body = dict[str, Any]


def request(replicate: int = 0, *, system: bool = False, **sampling: Any) -> Request:
    turns = [Message("system", "Be brief.")] if system else []
    return Request((*turns, Message("user", "Hello")), Sampling(**sampling), replicate, "stage", 0, "")


def ask(config: Any, *requests: Request) -> list[Response]:
    async def work(teacher: Any) -> list[Response]:
        return [await answer_of(teacher, one) for one in requests or (request(),)]

    found: list[Response] = use(config, work)
    return found


def failure(config: Any, *requests: Request) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        ask(config, *requests)
    return caught.value


# error bodies ----------------------------------------------------------------------------


def gemini(message: str, *violations: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> str:
    details = [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": v} for v in violations]}
    ]
    return json.dumps([{"error": {"code": code, "message": message, "status": status, "details": details if violations else []}}])


UNKNOWN_SEED = 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'


def test_case_04_gemini_error_array(loopback: LoopbackServer, tmp_path: Path) -> None:
    loopback.faults = lambda seen: Fault.status(400, body=gemini(UNKNOWN_SEED, UNKNOWN_SEED)) if "seed" in seen.json else None
    draw = random.Random(1)
    loopback.answer = lambda body: ship_text({**body, "seed": draw.random()})
    assert len(write(run_values(loopback), tmp_path / "journal.db").texts) == 8
    assert all("seed" not in seen.json for seen in loopback.completions[8:])


def test_case_04_gemini_names_a_wrong_key(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(400, body=gemini("API key not valid. Please pass a valid API key."))}
    assert "API key not valid" in failure(make_config(loopback)).message


FORMS = {
    "an array": gemini("Told you."),
    "a string": '"Told you."',
    "a text": "Told you.",
    "an error that is a string": '{"error": "Told you."}',
    "FastAPI": '{"detail": "Told you."}',
    "FastAPI's list": '{"detail": [{"type": "x", "loc": ["body", "a"], "msg": "Told you.", "input": "secret prompt"}]}',
    "message alone": '{"message": "Told you.", "code": 7}',
    "errors": '{"errors": [{"message": "Told you."}]}',
    "errors as strings": '{"errors": ["Told you."]}',
    "OpenRouter": json.dumps(
        {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps({"error": {"message": "Told you."}})}}}
    ),
    "violations alone": json.dumps({"error": {"message": "", "details": [{"fieldViolations": [{"description": "Told you."}]}]}}),
    "HTML": "<!DOCTYPE html><html><head><title>Told you.</title><style>x{}</style></head><body><h1>Sorry</h1></body></html>",
    "HTML without a title": "<html><body><center><h1>Told you.</h1></center></body></html>",
    "MiniMax": '{"base_resp": {"status_code": 1008, "status_msg": "Told you."}}',
    "a message that is an object": '{"error": {"message": {"detail": "Told you."}}}',
}


@pytest.mark.parametrize("form", FORMS)
def test_the_servers_words_are_found_in_every_form(loopback: LoopbackServer, form: str) -> None:
    loopback.faults = {1: Fault.status(400, body=FORMS[form])}
    message = failure(make_config(loopback)).message
    assert "Told you." in message
    assert "<" not in message
    assert "secret prompt" not in message


def test_a_damaged_or_hostile_error_is_one_short_line() -> None:
    draw = random.Random(3)
    whole_bodies = [*FORMS.values(), "[" * 50_000, '{"error":' * 5000, "<title" * 5000, "\x00\udcff", "<script>" * 9000]
    for body in whole_bodies:
        for _ in range(40):
            cut = body[: draw.randrange(len(body) + 1)] + draw.choice(["", "}", "]", '"', "null", body[:9]])
            line = server_message(cut)
            assert len(line) <= 200
            assert "\n" not in line


# failures inside a 200 -------------------------------------------------------------------


def died(body: Body, text: str = "", code: object = 502, *, place: str = "choice") -> Body:
    found = whole(text, body, "error" if place != "top" else "stop")
    error = {"code": code, "message": "Upstream error from provider"}
    if place == "choice":
        found["choices"][0]["error"] = error
    elif place == "top":
        found = {"error": error, "user_id": "u"}
    found["usage"] = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}
    return found


PLACES = {
    "in the choice": lambda body: died(body),
    "half a text": lambda body: died(body, "The ferry near the"),
    "for the whole": lambda body: died(body, place="top"),
    "the reason alone": lambda body: died(body, place="reason"),
    "DeepSeek": lambda body: whole("", body, "insufficient_system_resource"),
    "SGLang": lambda body: whole("The tug", body, "abort"),
    "empty without a reason": lambda body: whole("", body, None),
    "nothing": lambda body: {**whole("", body, None), "choices": []},
}


@pytest.mark.parametrize("place", PLACES)
def test_case_05_upstream_error_kept_as_answer(loopback: LoopbackServer, tmp_path: Path, place: str) -> None:
    """Every second attempt dies behind the gateway; it is asked again, and no such answer is kept or becomes a row."""
    seen: dict[str, int] = {}

    def answer(body: Body) -> str | Body:
        key = f"{body['messages']}{body['seed']}"
        seen[key] = seen.get(key, 0) + 1
        text: str | Body = ship_text(body)
        return PLACES[place](body) if seen[key] == 1 and body["seed"] % 2 else text

    loopback.answer = answer
    found = write(run_values(loopback), tmp_path / "journal.db", shared=tmp_path / "answers.db")
    assert len(found.texts) == 8
    assert all(text.endswith(".") for text in found.texts)
    assert {row.reason for row in found.rows} <= {"", "surplus", "duplicate"}
    with closing(Journal(tmp_path / "journal.db")) as journal:
        assert all(not is_failure(Response(text, "stop", raw=raw)) for text, raw in answers_in(journal))


def answers_in(journal: Journal) -> list[tuple[str, str]]:
    return [(str(text), str(raw)) for text, raw in journal._connection.execute("SELECT text, raw FROM answers")]


@pytest.mark.parametrize("code", [401, 402, 403, "invalid_api_key"])
def test_a_failure_inside_a_200_that_stays_is_final(loopback: LoopbackServer, code: object) -> None:
    loopback.answer = lambda body: died(body, code=code, place="top")
    assert isinstance(failure(make_config(loopback)), PermanentError)


@pytest.mark.parametrize("code", [429, "rate_limit_exceeded"])
def test_an_overload_inside_a_200_is_an_overload(loopback: LoopbackServer, code: object) -> None:
    loopback.answer = lambda body: died(body, code=code, place="top")
    assert failure(make_config(loopback)).kind == "overload"


def test_moderation_inside_a_200_is_a_refusal(loopback: LoopbackServer) -> None:
    def answer(body: Body) -> Body:
        found = died(body, code=403)
        found["choices"][0]["error"]["metadata"] = {"reasons": ["violence"], "flagged_input": "..."}
        return found

    loopback.answer = answer
    assert ask(make_config(loopback))[0].finish_reason == "refusal"


def test_one_failed_choice_costs_no_other_and_n_stays(loopback: LoopbackServer, tmp_path: Path) -> None:
    def answer(body: Body) -> str | Body:
        return died(body) if body.get("n") and body["seed"] % 3 == 0 else whole(ship_text(body), body)

    loopback.answer = answer
    values = run_values(loopback, rows_per_request=4)
    assert len(write(values, tmp_path / "journal.db").texts) == 8
    assert sum("n" in seen.json for seen in loopback.completions) > 1


def test_case_05_failures_that_an_older_version_kept_are_asked_for_again(loopback: LoopbackServer, tmp_path: Path) -> None:
    """In the journal and in the shared file: they count as unknown, the user is told, and the new answer takes their place."""
    config = parse_config(run_values(loopback)).teacher
    requests = [request(n) for n in range(12)]
    keyed = [(one.key(config.identity()), one) for one in requests]
    bad = json.dumps(died({"messages": [], "model": "m"}))
    half = json.dumps(died({"messages": [], "model": "m"}, "The ferry"))
    good = json.dumps(whole("A good one.", {"messages": [], "model": "m"}))
    kept = [Response("", raw=bad), Response("The ferry", raw=half), Response("A good one.", raw=good)]
    shared_path = tmp_path / "answers.db"
    with closing(AnswerStore.shared(shared_path)) as store:
        store.insert([(key, one, kept[n % 3]) for n, (key, one) in enumerate(keyed)], config.identity(), "asked")
    assert len(verify_answers(shared_path)["damaged"]) == 8
    loopback.answer = ship_text
    notes: list[str] = []
    for name in ("a.db", "b.db"):
        with closing(Journal(tmp_path / name, AnswerStore.shared(shared_path))) as journal:
            answers = TeacherClient(config, journal, parse_config(run_values(loopback)).budget, note=notes.append).run(requests)
        texts = [answer.text for answer in answers.values() if isinstance(answer, Response)]
        assert texts.count("A good one.") == 4
        assert "The ferry" not in texts
        assert "" not in texts
    assert len(loopback.completions) == 8
    assert notes == ["8 stored answers were in fact failures: they are asked for again."]
    assert verify_answers(shared_path)["damaged"] == []


# finish reasons and choices --------------------------------------------------------------

REASONS = {
    "stop": ("eos", "eos_token", "stop_sequence", "end_turn", "STOP", None, "tool_calls", "function_call", "something new"),
    "length": ("length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens"),
    "refusal": (
        "content_filter",
        "SAFETY",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "content_filter: PROHIBITED_CONTENT",
        "content-filter",
    ),
}


@pytest.mark.parametrize(("finish", "said"), [(finish, said) for finish, names in REASONS.items() for said in names])
def test_finish_reasons_of_their_own(finish: str, said: str | None) -> None:
    body = whole("A text.", {"messages": [], "model": "m"}, said)
    body["choices"][0]["finish_reason"] = said
    assert read_completion(json.dumps(body))[0].finish_reason == finish
    if said is None:
        del body["choices"][0]["finish_reason"]
        assert read_completion(json.dumps(body))[0].finish_reason == finish


def test_choices_of_other_shapes() -> None:
    blank: Body = {"messages": [], "model": "m"}
    old = {"choices": [{"index": 0, "text": "Old.", "finish_reason": "stop"}]}
    assert read_completion(json.dumps(old))[0].text == "Old."
    mixed = whole("", blank)
    mixed["choices"] = [{"index": n, "message": {"content": f"{n}"}, "finish_reason": "stop"} for n in (2, 0, 1)]
    mixed["usage"] = None
    assert [answer.text for answer in read_completion(json.dumps(mixed), 3)] == ["0", "1", "2"]
    blocked = {"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]}
    assert read_completion(json.dumps(blocked))[0].finish_reason == "refusal"
    parts = whole(None, blank, content=[{"type": "text", "text": "a"}, "b", {"type": "image_url", "image_url": {}}])
    assert read_completion(json.dumps(parts))[0].text == "ab"
    beside = {**whole("Fine.", blank), "error": {"message": "", "type": "", "code": None}}
    assert read_completion(json.dumps(beside))[0].text == "Fine."


def test_bodies_mixed_and_damaged_are_answers_or_errors_and_never_a_traceback() -> None:
    """Grammar of what gateways send: no error text, no thought and no half answer comes out as a text."""
    draw = random.Random(11)
    finishes = [*(name for names in REASONS.values() for name in names), "error", "abort", 7, {"a": 1}]
    errors: list[Any] = [
        None,
        None,
        None,
        {},
        "boom",
        {"code": 502, "message": "boom"},
        {"code": "429", "message": "boom"},
        ["boom"],
    ]
    contents: list[Any] = ["Fine.", "", None, 5, ["Fine."], [{"type": "thinking", "thinking": "thought"}], {"text": "Fine."}]
    for _ in range(4000):
        choice: Body = {
            "index": draw.choice([0, "x", None]),
            "finish_reason": draw.choice(finishes),
            "error": draw.choice(errors),
        }
        choice["message"] = draw.choice([None, {}, {"content": draw.choice(contents), "reasoning": "thought"}, "boom"])
        body: Any = {"choices": draw.choice([None, [], [choice], [choice, choice], "boom"]), "error": draw.choice(errors)}
        body["usage"] = draw.choice([None, [], {"prompt_tokens": draw.choice([None, -1, "x", 5]), "total_tokens": 9}])
        text = json.dumps(draw.choice([body, [body], body, {"detail": "boom"}, "boom", None]))
        text = text[: draw.randrange(len(text))] if draw.random() < 0.2 else text
        try:
            answers = read_completion(text, 2)
        except (TransientError, PermanentError):
            continue
        assert all(answer.text in {"Fine.", ""} for answer in answers)
        assert all(not is_failure(answer) for answer in answers)
    assert read_choices("") == []


# parameters ------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[int, Body]] = {
    "OpenAI": (400, {"error": {"message": "Unsupported parameter: 'seed' is not supported.", "param": "seed"}}),
    "param alone": (400, {"error": {"message": "Unsupported parameter.", "param": "seed"}}),
    "unrecognized": (400, {"error": {"message": "Unrecognized request argument supplied: seed"}}),
    "pydantic": (
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
    ),
    "Groq": (400, {"error": {"message": "property 'seed' is unsupported"}}),
    "not found": (404, {"error": {"message": "No endpoints found that support the parameter seed: not supported"}}),
    "not implemented": (501, {"error": {"message": "seed is not implemented"}}),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_refused_seed_is_learned_however_it_is_said(loopback: LoopbackServer, how: str) -> None:
    code, body = REFUSALS[how]
    loopback.faults = lambda seen: Fault.status(code, body=body) if "seed" in seen.json else None
    ask(make_config(loopback), request(0), request(1))
    assert ["seed" in seen.json for seen in loopback.completions] == [True, False, False]


def test_a_parameter_named_far_behind_an_echo_of_the_request_is_found(loopback: LoopbackServer) -> None:
    entries = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": "x" * 300}
        for name in ("a", "seed")
    ]
    loopback.faults = lambda seen: Fault.status(422, body={"detail": entries}) if "seed" in seen.json else None
    ask(make_config(loopback))
    assert "seed" not in loopback.completions[-1].json


SYSTEM = {
    "Gemma": (400, "System role not supported"),
    "llama.cpp": (500, "Jinja Exception: System role not supported"),
    "o1": (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    "Gemini's Gemma": (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    "alternate": (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
}


@pytest.mark.parametrize("how", SYSTEM)
def test_a_system_turn_that_is_refused_becomes_the_head_of_the_users(loopback: LoopbackServer, how: str) -> None:
    code, said = SYSTEM[how]

    def fault(seen: Seen) -> Fault | None:
        refused = any(turn["role"] == "system" for turn in seen.json["messages"])
        return Fault.status(code, body={"error": {"message": said}}) if refused else None

    loopback.faults = fault
    ask(make_config(loopback), request(system=True), request(1, system=True))
    assert loopback.completions[-1].json["messages"] == [{"role": "user", "content": "Be brief.\n\nHello"}]
    assert len(loopback.completions) == 3


# fields and headers of the user's own ----------------------------------------------------


def test_case_17_no_extra_body_or_headers(loopback: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "a-secret-of-the-gateway")
    said = "parameter.enable_thinking must be set to false for non-streaming calls"
    loopback.faults = lambda seen: (
        None if seen.json.get("enable_thinking") is False else Fault.status(400, body={"error": {"message": said}})
    )
    loopback.answer = ship_text
    with pytest.raises(PermanentError, match="enable_thinking must be set to false"):
        write(run_values(loopback), tmp_path / "a.db")
    headers = {"X-Title": "ships", "X-Gateway-Token": {"env": "GATEWAY_TOKEN"}, "X-Route": "eu-${GATEWAY_TOKEN}"}
    options = {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False}, "provider": {"order": ["x"]}}
    found = write(run_values(loopback, options=options, headers=headers), tmp_path / "b.db")
    assert len(found.texts) == 8
    last = loopback.completions[-1]
    assert {name: last.json[name] for name in options} == options
    assert (last.headers["x-title"], last.headers["x-gateway-token"]) == ("ships", "a-secret-of-the-gateway")
    assert last.headers["x-route"] == "eu-a-secret-of-the-gateway"


def test_options_are_in_the_key_and_headers_are_not(loopback: LoopbackServer) -> None:
    plain, with_options, with_headers = (
        parse_config(run_values(loopback, **changes))
        for changes in ({}, {"options": {"reasoning_effort": "low"}}, {"headers": {"X-Title": "ships"}})
    )
    assert plain.teacher.identity() == with_headers.teacher.identity() != with_options.teacher.identity()
    assert plain.result_digest() == with_headers.result_digest() != with_options.result_digest()


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"options": {"temperature": 1}}, "teacher.sampling.temperature"),
        ({"options": {"max_tokens": 1}}, "teacher.sampling.max_tokens"),
        ({"options": {"model": "x"}}, "teacher.model"),
        ({"options": {"n": 2}}, "teacher.rows_per_request"),
        ({"options": {"response_format": {}}}, "teacher.structured"),
        ({"options": {"stream": True}}, "read whole"),
        ({"options": {"extra_body": {}}}, "directly into options"),
        ({"options": {"extra_body": {"top_k": 3}}}, "directly into options"),
        ({"options": {"x": "sk-" + "a1" * 12}}, "key"),
        ({"headers": {"X-Api-Token": "abc"}}, "env: NAME"),
        ({"headers": {"Cookie": "a=b"}}, "env: NAME"),
        ({"headers": {"X-A": "sk-" + "a1" * 12}}, "key"),
        ({"headers": {"X-A": "a\r\nX-B: c"}}, "line breaks"),
        ({"headers": {"X A": "a"}}, "'X A'"),
        ({"headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"headers": {"X-A": {"env": "not a name"}}}, "env: NAME"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "twice"),
        ({"headers": {"Authorization": {"env": "A"}}, "api_key_env": "B"}, "api_key_env"),
        ({"backend": "fake", "base_url": None, "headers": {"X-A": "a"}}, "'fake'"),
    ],
)
def test_fields_and_headers_that_cannot_be_are_refused(loopback: LoopbackServer, teacher: Body, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(run_values(loopback, **teacher))
    assert said in str(caught.value)
    assert "a1a1" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "a\nb", "a\x7fb"])
def test_a_header_whose_variable_cannot_be_sent_is_a_config_error(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", value)
    config = parse_config(run_values(loopback, headers={"X-A": {"env": "GATEWAY_TOKEN"}})).teacher
    with pytest.raises(ConfigError, match="GATEWAY_TOKEN"):
        read_headers(config)


def test_an_option_that_the_server_refuses_is_named(loopback: LoopbackServer) -> None:
    loopback.refuse = ("reasoning_effort",)
    error = failure(make_config(loopback, options={"reasoning_effort": "odd"}))
    assert "teacher.options.reasoning_effort" in error.hint


# lists of models -------------------------------------------------------------------------

LISTS = {
    "azure": ("my-deployment", ["gpt-4o-mini-2024-07-18", "gpt-4o-2024-11-20"]),
    "openrouter": ("qwen/qwen-2.5-72b-instruct:nitro", ["qwen/qwen-2.5-72b-instruct", "openrouter/auto"]),
    "hugging face": ("openai/gpt-oss-120b:cerebras", ["openai/gpt-oss-120b"]),
    "litellm": ("openai/gpt-4o-mini", ["openai/*", "anthropic/*"]),
    "llama.cpp": ("local", ["/models/qwen2.5-7b-instruct-q4_k_m.gguf"]),
    "gemini": ("gemini-2.5-flash", ["models/gemini-2.5-flash"]),
}


@pytest.mark.parametrize("name", LISTS)
def test_case_08_model_list_as_a_gate(loopback: LoopbackServer, name: str) -> None:
    model, loopback.models = LISTS[name]
    said = probe_teacher(make_config(loopback, model=model))
    known = name not in {"azure", "llama.cpp"}
    assert ("serves" in said and "does not list" not in said) if known else "does not list" in said
    assert serves(model, LISTS[name][1]) == known


def test_case_08_a_model_that_is_not_served_is_named_when_it_is_asked(loopback: LoopbackServer) -> None:
    error = failure(make_config(loopback, model="lopback"))
    assert "Did you mean 'loopback'" in error.hint
    assert isinstance(error, PermanentError)


@pytest.mark.parametrize("said", ["x/lopback is not a valid model ID", "Model Not Exist", "The model `lopback` does not exist"])
def test_case_08_so_is_one_that_is_refused_with_a_400(loopback: LoopbackServer, said: str) -> None:
    loopback.faults = {1: Fault.status(400, body={"error": {"message": said}})}
    assert "Did you mean 'loopback'" in failure(make_config(loopback, model="lopback")).hint


def test_a_bare_array_is_a_list_too(loopback: LoopbackServer) -> None:
    loopback.list_fault = Fault.status(200, body=json.dumps([{"id": "loopback", "type": "chat"}]))
    assert "serves 'loopback'" in probe_teacher(make_config(loopback))
