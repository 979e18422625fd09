"""Every snippet of docs/teachers.md, word for word, against the server that plays its provider; and each provider at its worst.

What a provider does is in ``played_*.py``; what is asked here is what a user may expect of stepsynth in front of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from played import KEY, THOUGHT, THOUGHT_TOKENS, PlayedProvider
from providers import PROVIDERS, play, plays
from stepsynth.config import BudgetConfig, TeacherConfig, parse_config
from stepsynth.errors import PermanentError, RetryModifiedError, TeacherError, TransientError
from stepsynth.filters import FilterPipeline
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.schema import Schema
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.generation.room import with_room
from stepsynth.journal import Journal, Row
from stepsynth.methods import MethodContext, create_method
from stepsynth.prompts import Prompts
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.teachers import AsyncTeacher, answer_of, create_teacher, probe_teacher
from stepsynth.teachers.reading import answer_text
from stepsynth.teachers.served import says_unlisted
from stepsynth.testing import make_request
from stepsynth.types import Response

DOCUMENT = (Path(__file__).parents[1] / "docs" / "teachers.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"<!-- provider: (\S+) -->\n```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
# As the table names them.
ROWS = (
    "OpenAI",
    "Azure",
    "Anthropic",
    "Gemini",
    "OpenRouter",
    "Together",
    "Groq",
    "DeepSeek",
    "Mistral",
    "DashScope (Qwen)",
    "Hugging Face",
    "Bedrock",
    "Vertex",
    "vLLM",
    "SGLang",
    "llama.cpp",
    "Ollama",
    "LM Studio",
)
VARIABLE = "PLAYED_PROVIDER_KEY"
LABELS = ("kalm", "rund")
# Whatever of a thought, or of an answer that failed, must never be a row.
NEVER = ("the user wants", "should sound natural", "think>", "reasoning>", "Half a text")


def those_that(what: str) -> list[str]:
    """Return the providers of which it is known how they say that."""
    return [name for name in PROVIDERS if plays(name, what)]


def config_for(server: PlayedProvider, name: str, **changes: Any) -> TeacherConfig:
    """Return a plain config for a played provider, with the model that it names first."""
    values: dict[str, Any] = {
        "backend": "anthropic" if name == "anthropic" else "openai",
        "base_url": server.root if name == "anthropic" else server.base_url,
        "model": server.served[0],
        "api_key_env": VARIABLE if server.key_header else None,
        "api_version": "2024-10-21" if name == "azure" else None,
        "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 3 * THOUGHT_TOKENS},
        "timeout_s": 10.0,
    }
    return TeacherConfig(**{**values, **changes})


def use(config: TeacherConfig, work: Callable[[AsyncTeacher], Awaitable[Any]]) -> Any:
    """Run ``work`` with a teacher in a loop of its own."""

    async def main() -> Any:
        teacher = create_teacher(config)
        assert isinstance(teacher, AsyncTeacher)
        try:
            return await work(teacher)
        finally:
            await teacher.close()

    return asyncio.run(main())


def ask(config: TeacherConfig, times: int = 1, **sampling: Any) -> list[Response]:
    """Return answers to different requests, with the config's sampling unless told otherwise."""
    settings = {**config.sampling.model_dump(), **sampling}

    async def work(teacher: AsyncTeacher) -> list[Response]:
        requests = [make_request(f"Write {i} words that are kalm.", i, **settings) for i in range(times)]
        return [await answer_of(teacher, with_room(config, request)) for request in requests]

    found: list[Response] = use(config, work)
    return found


def failure(config: TeacherConfig, **sampling: Any) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        ask(config, **sampling)
    return caught.value


def written(config: TeacherConfig, folder: Path) -> list[Row]:
    """Write reasons and rows as a run does, its training left out; return the accepted rows."""
    labels = {label: f"about {label}" for label in LABELS}
    values = {
        "task": {"name": "invented", "instruction": "Decide what kind of text this is.", "labels": labels},
        "data": {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}},
        "method": {"seed_rows": 6, "rounds": 1, "rationales": 2, "label_check": "none"},
    }
    run = parse_config(values).model_copy(update={"teacher": config})
    journal = Journal(folder / "journal.db")
    client = TeacherClient(config, journal, BudgetConfig())
    try:
        generator = StageGenerator(client, journal, max_overgeneration=6.0, progress=SilentProgress())

        def reasons() -> dict[str, list[str]]:
            rows = journal.rows(stage="round-0/rationales", accepted=True)
            return {label: [row.text for row in rows if row.label == label] for label in LABELS}

        ctx = MethodContext(run, Prompts(run.task), create_family(run.task), [], [], rationales=reasons, mistakes=lambda _: [])
        for plan in create_method(run).plans(0, ctx):
            rules = FilterPipeline.for_rationales(plan.targets) if plan.kind == "rationales" else None
            generator.run(plan, 0, rules or FilterPipeline((Schema(), Duplicate(), LabelQuota(plan.targets))), [])
        return journal.rows(accepted=True)
    finally:
        client.close()
        journal.close()


def sound(texts: list[str]) -> None:
    """Check that texts are there, and that nothing in them was never meant as an answer."""
    assert texts
    for text in texts:
        assert text.strip()
        assert not [piece for piece in NEVER if piece in text], text


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export the key under the name that the tests' own configs use."""
    monkeypatch.setenv(VARIABLE, KEY)


# the documentation -------------------------------------------------------------------------


def test_every_provider_has_a_row_a_heading_and_a_snippet_of_its_own() -> None:
    row = r"^\| ([^|]+?) \| \[below\]\(#([\w-]+)\) \| [^|]+ \| played(?:, run for real)? \| \[[^|]+ \|$"
    table = re.findall(row, DOCUMENT, re.MULTILINE)
    assert [name for name, _ in table] == list(ROWS)
    headings = {
        re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#{3,4} (.+)$", DOCUMENT, re.MULTILINE)
    }
    assert {anchor for _, anchor in table} <= headings
    assert {name for name, _ in SNIPPETS} == set(PROVIDERS)


def test_no_snippet_of_a_server_goes_untried() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    teachers = [(block, yaml.safe_load(block)["teacher"]) for block in blocks]
    # Lists of servers are tried in test_endpoints.py.
    servers = [
        block
        for block, teacher in teachers
        if teacher["backend"] in {"openai", "anthropic"} and not isinstance(teacher.get("base_url"), list)
    ]
    assert servers == [block for _, block in SNIPPETS]


def redirected(block: str, server: PlayedProvider) -> dict[str, Any]:
    """Return a snippet's settings with another host; its path stays, and is the one that the provider has."""
    teacher: dict[str, Any] = yaml.safe_load(block)["teacher"]
    path = urlsplit(teacher.get("base_url", "")).path
    return {**teacher, "base_url": server.root + path, "timeout_s": 10.0}


@pytest.mark.parametrize(
    ("name", "block"), SNIPPETS, ids=[f"{name}-{yaml.safe_load(block)['teacher']['model']}" for name, block in SNIPPETS]
)
def test_a_documented_snippet_works(name: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = yaml.safe_load(block)["teacher"].get("api_key_env")
    if variable:
        monkeypatch.setenv(variable, KEY)
    for other in re.findall(r"(?:\$\{|\benv: )(\w+)\}", block):
        monkeypatch.setenv(other, f"value of {other}")
    with play(name, labels=LABELS) as server:
        settings = redirected(block, server)
        config = TeacherConfig(**settings)
        assert probe_teacher(config)
        sound([answer_text(config, answer) for answer in ask(config, 3)])
        # A limit per minute would only make this slow.
        unhurried = TeacherConfig(**{key: value for key, value in settings.items() if key != "requests_per_minute"})
        sound([row.text for row in written(unhurried, tmp_path)])
        for seen in server.completions:
            assert {**seen.json, **settings.get("options", {})} == seen.json
            for header, value in settings.get("headers", {}).items():
                text = "${" + value["env"] + "}" if isinstance(value, dict) else value
                assert seen.headers[header.lower()] == re.sub(r"\$\{(\w+)\}", r"value of \1", text)
        last = server.completions[-1].json
        assert server.limit(last) >= config.sampling.max_tokens + settings.get("reasoning_tokens", 0)


# what they are played as ---------------------------------------------------------------------


def raw(server: PlayedProvider, name: str, body: dict[str, Any] | None, key: str = KEY) -> tuple[int, Any]:
    """Ask over HTTP as somebody else's client does; ``None`` asks for the list."""
    paths = {"azure": f"/openai/deployments/{server.served[0]}/chat/completions?api-version=1", "anthropic": "/v1/messages"}
    path = "/models" if body is None else paths.get(name, "/chat/completions")
    base = server.root if body is not None and name in paths else server.base_url
    header = {server.key_header[0]: server.key_header[1] + key} if server.key_header else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json", **header})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
        return error.code, json.loads(text) if text.startswith(("{", "[")) else text


def question(server: PlayedProvider, limit: str = "max_tokens", **fields: Any) -> dict[str, Any]:
    return {"model": server.served[0], "messages": [{"role": "user", "content": "Hello."}], limit: 400, **fields}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_played_provider_answers_refuses_keys_and_unknown_models(name: str) -> None:
    with play(name) as server:
        status, answer = raw(server, name, question(server))
        assert status == 200
        assert ("content" if name == "anthropic" else "choices") in answer
        assert raw(server, name, question(server), "wrong")[0] in ({400, 401, 403} if server.key_header else {200})
        if name not in {"llama.cpp", "azure"}:
            assert raw(server, name, question(server, model="nobody"))[0] in {400, 404}


@pytest.mark.parametrize(
    ("name", "status", "shape"),
    [
        ("openai", 200, lambda body: body["data"][0]["id"] == "gpt-4o-mini"),
        ("azure-v1", 200, lambda body: "my-deployment" not in json.dumps(body)),
        ("gemini", 200, lambda body: body["data"][0]["id"] == "models/gemini-2.5-flash"),
        ("openrouter", 200, lambda body: ":nitro" not in json.dumps(body)),
        ("together", 200, lambda body: isinstance(body, list)),
        ("huggingface", 200, lambda body: ":groq" not in json.dumps(body)),
        ("bedrock", 404, lambda body: "message" in body),
        ("vertex", 404, lambda body: isinstance(body, list)),
        ("llama.cpp", 200, lambda body: body["data"][0]["id"].startswith("/models/")),
        ("ollama", 200, lambda body: body["data"][0]["id"] == "llama3.2:latest"),
    ],
)
def test_lists_differ(name: str, status: int, shape: Callable[[Any], bool]) -> None:
    with play(name) as server:
        found, body = raw(server, name, None)
    assert found == status
    assert shape(body)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("openai", {"min_p": 0.1}),
        ("anthropic", {"seed": 1}),
        ("gemini", {"seed": 1}),
        ("groq", {"min_p": 0.1}),
        ("groq", {"n": 2}),
        ("mistral", {"seed": 1}),
        ("deepseek", {"response_format": {"type": "json_schema"}}),
        ("lmstudio", {"response_format": {"type": "json_object"}}),
        ("llama.cpp", {"n": 5}),
    ],
)
def test_parameters_are_refused_as_documented(name: str, field: dict[str, Any]) -> None:
    with play(name) as server:
        status, body = raw(server, name, question(server, **field))
    assert status in {400, 422, 500}
    assert "error" in json.dumps(body) or "detail" in body


def test_where_thoughts_are_put() -> None:
    places: dict[str, list[str]] = {}
    for name in PROVIDERS:
        limit = "max_completion_tokens" if name in {"openai", "azure", "azure-v1"} else "max_tokens"
        fields = {"enable_thinking": None} if name == "dashscope" else {}
        with play(name, reasoning=True) as server:
            status, body = raw(server, name, question(server, limit, **fields))
        assert status == 200, (name, body)
        begin = THOUGHT.partition("\n")[0]
        message = body if name == "anthropic" else body["choices"][0]["message"]
        places[name] = [field for field, value in message.items() if begin in json.dumps(value)]
    assert places["deepseek"] == places["dashscope"] == places["llama.cpp"] == ["reasoning_content"]
    assert places["vllm"] == places["ollama"] == places["together"] == ["reasoning"]
    assert places["openai"] == places["azure"] == places["gemini"] == places["vertex"] == []
    assert places["anthropic"] == places["mistral"] == places["bedrock"] == places["sglang"] == ["content"]


# what a user may expect ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROVIDERS)
def test_thoughts_are_never_an_answer(name: str) -> None:
    with play(name, reasoning=True) as server:
        config = config_for(server, name)
        sound([answer_text(config, answer) for answer in ask(config, 3)])
        # The thoughts use the whole limit up: nothing is left, and that is not an answer that stopped by itself.
        short = ask(config, 1, max_tokens=THOUGHT_TOKENS // 2)[0]
    assert short.finish_reason == "length"
    assert not [piece for piece in NEVER if piece in answer_text(config, short)]


@pytest.mark.parametrize("name", ["vllm", "sglang", "llama.cpp"])
def test_a_prompt_beyond_the_context_says_how_to_make_room(name: str) -> None:
    with play(name) as server:
        config = config_for(server, name)

        async def work(teacher: AsyncTeacher) -> str:
            with pytest.raises(PermanentError) as caught:
                await answer_of(teacher, make_request("word " * 10_000))
            return f"{caught.value} {caught.value.hint}"

        said = use(config, work)
    assert "context" in said
    assert "teacher.sampling.max_tokens" in said
    assert "teacher.options" not in said


@pytest.mark.parametrize("name", PROVIDERS)
def test_json_is_asked_for_as_far_as_a_provider_goes(name: str) -> None:
    with play(name) as server:
        answers = ask(config_for(server, name, structured="json"), 2)
    assert all(answer.text for answer in answers)


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "anthropic"])
def test_several_rows_come_at_once_or_one_by_one(name: str) -> None:
    with play(name) as server:
        config = config_for(server, name, rows_per_request=3)
        settings = config.sampling.model_dump()

        async def work(teacher: Any) -> list[Response]:
            found: list[Response] = []
            for _ in range(12):
                if len(found) == 3:
                    break
                with suppress(RetryModifiedError):
                    found += await teacher.generate_many([make_request(replicate=i, **settings) for i in range(len(found), 3)])
            return found

        assert len(use(config, work)) == 3


@pytest.mark.parametrize("name", [name for name in those_that("wrong_key") if PROVIDERS[name].key_header])
def test_a_wrong_key_names_the_variable(name: str) -> None:
    with play(name, wrong_key=True) as server:
        config = config_for(server, name)
        error = failure(config)
        if server.listing() is not None and not server.public_list:
            # The list alone proves nothing: many keys may not see it and work.
            assert says_unlisted(said := probe_teacher(config))
            assert KEY not in said
    assert isinstance(error, PermanentError)
    assert VARIABLE in f"{error} {error.hint}"
    assert KEY not in f"{error} {error.hint}"


@pytest.mark.parametrize("name", [name for name in those_that("wrong_key") if not PROVIDERS[name].key_header])
def test_a_missing_key_is_said_to_be_missing(name: str) -> None:
    with play(name, wrong_key=True) as server:
        error = failure(config_for(server, name))
    assert isinstance(error, PermanentError)
    assert "api_key_env" in f"{error} {error.hint}"


@pytest.mark.parametrize("name", those_that("no_money"))
def test_no_money_left_is_final_at_the_first_answer(name: str) -> None:
    with play(name, no_money=True) as server:
        error = failure(config_for(server, name))
        assert len(server.completions) == 1
    assert isinstance(error, PermanentError)
    assert re.search(r"credit|money|pay|balance|bill|spend", error.hint, re.IGNORECASE), error.hint


@pytest.mark.parametrize("name", those_that("slow_down"))
def test_a_full_limit_says_how_long_to_wait(name: str) -> None:
    with play(name, rate_limited_after=6, window_s=30.0) as server:
        error = failure(config_for(server, name), times=8)
    assert isinstance(error, TransientError)
    assert error.kind == "overload"
    if server.says_wait:
        assert error.retry_after is not None
        assert 20.0 < error.retry_after < 32.0


@pytest.mark.parametrize("name", [name for name in those_that("slow_down") if PROVIDERS[name].says_wait])
def test_a_run_waits_and_goes_on_where_the_rate_is_limited(name: str, tmp_path: Path) -> None:
    with play(name, rate_limited_after=8, window_s=1.0, labels=LABELS, reasoning=False) as server:
        rows = written(config_for(server, name, concurrency=4), tmp_path)
        assert len(server.completions) < 60
    assert len([row for row in rows if row.stage != "round-0/rationales"]) == 6


@pytest.mark.parametrize("name", those_that("overloaded"))
def test_an_overloaded_provider_is_asked_again_and_its_failure_is_no_answer(name: str, tmp_path: Path) -> None:
    with play(name, overloaded_once=True, labels=LABELS, reasoning=False) as server:
        config = config_for(server, name)
        assert isinstance(failure(config), TransientError)
        sound([answer_text(config, answer) for answer in ask(config)])
    with play(name, overloaded_once=True, labels=LABELS, reasoning=False) as server:
        rows = written(config_for(server, name), tmp_path)
    sound([row.text for row in rows])


@pytest.mark.parametrize("name", those_that("withheld"))
def test_what_is_kept_back_is_that_rows_affair(name: str, tmp_path: Path) -> None:
    with play(name, refuses_content=1.0) as server:
        answers = ask(config_for(server, name), 6)
    assert {answer.finish_reason for answer in answers} == {"refusal"}
    with play(name, refuses_content=0.25, labels=LABELS, reasoning=False) as server:
        rows = written(config_for(server, name), tmp_path)
    assert len([row for row in rows if row.stage != "round-0/rationales"]) == 6
    sound([row.text for row in rows])
