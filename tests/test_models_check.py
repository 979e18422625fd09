"""``stepsynth models check``: what it prints of each played provider, what it may cost, and what runs learn from it."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import Outcome, stepsynth
from fake_engines import install_litellm
from loopback import Fault, LoopbackServer
from played import KEY, THOUGHT_TOKENS, PlayedProvider
from providers import PROVIDERS, play, plays
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.teachers import answer_of, create_teacher
from stepsynth.teachers.check import TeacherCheck
from stepsynth.teachers.findings import address_of, one_line, rate_headers
from stepsynth.teachers.learned import KEPT_DAYS, recall, remember
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.testing import make_request

VARIABLE = "PLAYED_CHECK_KEY"
# By provider and the place of its model: words of what is found, as the provider is documented.
DOCUMENTED: dict[tuple[str, int], dict[str, str]] = {
    ("openai", 0): {"model list": "there, among 3", "seed": "taken", "n": "taken", "thoughts": "none seen"},
    ("openai", 1): {"max tokens": "max_completion_tokens", "top_p": "refused", "thoughts": "hidden", "usage": "100 of them"},
    ("azure", 0): {"model list": "not tried", "seed": "taken"},
    ("azure-v1", 0): {"model list": "not listed; the server lists 3 other models"},
    ("anthropic", 0): {"seed": "none", "n": "none", "JSON": "by schema", "finish reason": "'end_turn', read as stop"},
    ("gemini", 0): {"seed": "refused: left out", "logprobs": "refused", "model list": "there", "thoughts": "hidden (100 tokens)"},
    ("openrouter", 1): {"thoughts": "in the field 'reasoning'", "model list": "there"},
    ("together", 0): {"finish reason": "'eos', read as stop", "model list": "there, among 2"},
    ("groq", 0): {"n": "refused", "JSON": "json_object; a schema is refused", "logprobs": "refused"},
    ("deepseek", 0): {"JSON": "json_object", "thoughts": "'reasoning_content'"},
    ("mistral", 0): {"seed": "refused"},
    ("dashscope", 0): {"seed": "taken"},
    ("huggingface", 0): {"seed": "taken"},
    ("bedrock", 0): {"model list": "lists no models", "thoughts": "in the content"},
    ("vertex", 0): {"model list": "lists no models", "thoughts": "hidden (100 tokens)"},
    ("vllm", 1): {"thoughts": "in the field 'reasoning'", "n": "taken"},
    ("sglang", 1): {"thoughts": "in the content"},
    ("llama.cpp", 0): {"n": "taken", "model list": "not listed; the server lists 1 other model"},
    ("ollama", 0): {"n": "ignored: 1 answer came", "model list": "there"},
    ("lmstudio", 1): {"JSON": "by schema", "thoughts": "in the content"},
}


def write(folder: Path, teacher: dict[str, Any], **sections: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"teacher": teacher, **sections}))
    return path


def settings(server: LoopbackServer, name: str = "openai", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "backend": "anthropic" if name == "anthropic" else "openai",
        "base_url": server.root if name == "anthropic" else server.base_url,
        "model": server.served[0] if isinstance(server, PlayedProvider) else "loopback",
        "sampling": {"max_tokens": 3 * THOUGHT_TOKENS},
        "timeout_s": 10.0,
    }
    if isinstance(server, PlayedProvider) and server.key_header:
        values["api_key_env"] = VARIABLE
    if name == "azure":
        values["api_version"] = "2024-10-21"
    return {**values, **changes}


def check(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> tuple[Outcome, dict[str, Any]]:
    outcome = stepsynth(capsys, "models", "check", "--config", path, "--json", *more)
    return outcome, json.loads(outcome.out)


def shown(found: dict[str, Any], name: str) -> str:
    finding = found["findings"][name]
    return f"{finding['state']}: {finding['found']}"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of answers of this test's own, beside which it is kept what was learned."""
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(tmp_path / "cache" / "answers.db"))
    return tmp_path / "cache" / "teachers"


# what is found ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), DOCUMENTED)
def test_what_is_found_is_what_the_provider_does(
    name: str, place: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with play(name) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server, name, model=server.served[place])))
        assert (outcome.code, outcome.err, found["works"], found["problem"]) == (0, "", True, None)
        for setting, words in DOCUMENTED[name, place].items():
            assert words in shown(found, setting), (setting, shown(found, setting))
        # Counted: at most four are answered, and what was refused is told.
        asked, spent = len(server.completions), found["spent"]
    assert spent["requests"] == asked
    assert asked - spent["refused"] <= found["worst_case"]["requests"] <= 4
    assert 0 < spent["tokens"] <= found["worst_case"]["tokens"] + 5 * THOUGHT_TOKENS
    assert found["kept"] is None


def test_every_played_provider_is_checked() -> None:
    assert {name for name, _ in DOCUMENTED} == set(PROVIDERS)


def test_the_cost_and_the_place_come_first_and_the_key_never(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("openai") as server:
        teacher = settings(server, model="o4-mini", price={"input": 1.0, "output": 4.0}, headers={"X-Team": "${TEAM_SECRET}"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEAM_SECRET", "team-secret-0123456789")
            outcome = stepsynth(capsys, "models", "check", "--config", write(tmp_path, teacher))
    first, place, cost, *lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert first.startswith("stepsynth 0.")
    assert place.split() == ["teacher", "openai,", "'o4-mini',", server.base_url]
    assert "at most" in cost
    assert "USD" in cost
    assert len({line[:18].strip() for line in lines}) == len(lines)
    assert any(line.startswith("top_p") and "refused: left out" in line for line in lines)
    assert KEY not in outcome.out + outcome.err
    assert "team-secret" not in outcome.out + outcome.err


def test_nothing_is_sent_before_the_cost_is_known(tmp_path: Path) -> None:
    with play("openai") as server:
        made = TeacherCheck(TeacherConfig(**settings(server)), BudgetConfig())
        assert made.worst.requests == 4
        assert server.requests == []


def test_a_seed_is_called_ignored_only_where_two_answers_were_seen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    texts = iter(f"Answer number {number}." for number in range(100))
    with LoopbackServer(lambda body: next(texts)) as server:
        _, found = check(capsys, write(tmp_path, settings(server)))
    assert shown(found, "seed") == "ignored: the same seed gave two answers"


def test_a_server_without_system_turns_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refuse(seen: Any) -> Fault | None:
        turns = [turn["role"] for turn in seen.json["messages"]]
        said = {"error": {"message": "System role not supported"}}
        return Fault.status(400, body=said) if "system" in turns else None

    with LoopbackServer(faults=refuse) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server)))
    assert outcome.code == 0
    assert shown(found, "system turns").startswith("refused")
    # The server knows no form of an answer, and writes prose.
    assert found["findings"]["JSON"]["state"] == "ignored"


def test_limits_of_the_list_and_of_the_rate_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Telling(LoopbackServer):
        async def _send(self, writer: Any, code: int, data: bytes, extra: Any = None) -> bool:
            limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s", "Set-Cookie": "secret=1"}
            return await super()._send(writer, code, data, {**limits, **(extra or {})})

    row = {"id": "loopback", "context_length": 8192, "top_provider": {"max_completion_tokens": 1024}}
    with Telling(list_fault=Fault.status(200, body={"data": [row]})) as server:
        _, found = check(capsys, write(tmp_path, settings(server)))
    assert shown(found, "model limits") == "seen: context 8,192 tokens, answer 1,024 tokens"
    assert found["rate_headers"] == {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}
    assert shown(found, "wait") == "seen: 2 s until a limit resets"


def test_engines_and_others_are_checked_without_a_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, found = check(capsys, write(tmp_path, {"backend": "fake"}))
    assert (outcome.code, found["findings"]["seed"]["state"], found["address"]) == (0, "taken", None)
    log = install_litellm(monkeypatch, takes=("seed",))
    outcome, found = check(capsys, write(tmp_path, {"backend": "litellm", "model": "gemini/some-model"}))
    assert (outcome.code, len(log.calls)) == (0, found["spent"]["requests"])
    assert shown(found, "n") == "none: LiteLLM's list does not have it for this model"
    assert shown(found, "seed").startswith("taken")


# what keeps a run from working -------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PROVIDERS if plays(name, "wrong_key") and PROVIDERS[name].key_header])
def test_a_wrong_key_is_one_line_and_costs_nothing(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play(name, wrong_key=True) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server, name)))
    assert (outcome.code, found["works"], found["spent"]["tokens"]) == (2, False, 0)
    assert len(server.completions) <= 1
    assert len(outcome.err.splitlines()) == 1
    assert VARIABLE in outcome.err
    assert KEY not in outcome.out + outcome.err


@pytest.mark.parametrize("name", [name for name in PROVIDERS if plays(name, "no_money")])
def test_no_money_is_one_line_after_one_question(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play(name, no_money=True) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server, name)))
    assert (outcome.code, found["works"], len(server.completions)) == (2, False, 1)
    assert len(outcome.err.splitlines()) == 1


def test_an_unknown_model_and_a_server_that_is_down(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("openai") as server:
        path = write(tmp_path, settings(server, model="gpt-4o-mimi"))
        outcome, found = check(capsys, path)
        assert (outcome.code, found["findings"]["model list"]["found"]) == (2, "not listed; the server lists 3 other models")
        assert "gpt-4o-mini" in outcome.err
    outcome, found = check(capsys, path)
    assert (outcome.code, found["works"], found["spent"]["requests"]) == (2, False, 0)
    assert "cannot connect" in outcome.err


def test_thoughts_without_room_are_a_problem_with_a_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("openai") as server:
        path = write(tmp_path, settings(server, model="o4-mini", sampling={"max_tokens": 32}))
        outcome, _ = check(capsys, path)
        assert outcome.code == 2
        assert "teacher.reasoning_tokens to about 2,000" in outcome.err
        assert check(capsys, path, "--set", "teacher.reasoning_tokens=500")[0].code == 0


def test_an_overloaded_server_is_asked_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with LoopbackServer(faults={1: Fault.status(503, {"Retry-After": "0"})}) as server:
        assert check(capsys, write(tmp_path, settings(server)))[0].code == 0
    with LoopbackServer(faults=lambda seen: Fault.status(429, {"Retry-After": "3600"})) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server)))
    assert (outcome.code, len(server.completions)) == (2, 1)
    assert shown(found, "wait") == "seen: 3.6e+03 s asked for with HTTP 429"


# caps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "asked", "code"),
    [({"requests": 2}, 2, 0), ({"requests": 1}, 1, 0), ({"tokens": 10}, 0, 2), ({"tokens": 500}, 1, 0), ({"usd": 1e-9}, 0, 2)],
)
def test_caps_hold(budget: dict[str, Any], asked: int, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("vllm") as server:
        teacher = settings(server, price={"input": 1, "output": 1}, concurrency=1)
        outcome, found = check(capsys, write(tmp_path, teacher, budget=budget))
        assert outcome.code == code
        assert len(server.completions) == found["spent"]["requests"]
        assert asked <= len(server.completions) <= (budget.get("requests") or 4 * asked)
    if code == 0 and budget.get("requests") == 1:
        assert found["findings"]["seed"]["state"] == "not tried"
        assert "budget.requests" in shown(found, "n")


def test_refused_requests_count_against_a_cap_on_requests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("openai") as server:
        outcome, _ = check(capsys, write(tmp_path, settings(server, model="o4-mini"), budget={"requests": 2}))
        assert (outcome.code, len(server.completions)) == (2, 2)


def test_dollars_cannot_be_capped_without_a_price(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("vllm") as server:
        path = write(tmp_path, settings(server), budget={"usd": 1.0})
        outcome = stepsynth(capsys, "models", "check", "--config", path)
    assert (outcome.code, outcome.out, server.requests) == (2, "", [])


def test_requests_per_minute_hold_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with play("vllm") as server:
        outcome, found = check(capsys, write(tmp_path, settings(server, requests_per_minute=2)))
        assert (outcome.code, len(server.completions)) == (0, 2)
    assert shown(found, "parallel") == "not tried: teacher.requests_per_minute is set"


# the config --------------------------------------------------------------------------------------


def test_data_and_task_are_not_needed_and_mistakes_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sections = {"task": {"name": "x"}, "data": {"validation": {"path": "nowhere.csv"}}}
    assert check(capsys, write(tmp_path, {"backend": "fake"}, **sections))[0].code == 0
    for teacher, more, words in (
        ({"backend": "fake", "modell": "x"}, {}, "unknown key 'modell' in teacher"),
        ({"backend": "fake"}, {"buget": {}}, "unknown key 'buget' in the config"),
        ({"backend": "fake", "options": {"api_key": "sk-0123456789abcdef0123"}}, {}, "looks like a key"),
    ):
        outcome = stepsynth(capsys, "models", "check", "--config", write(tmp_path, teacher, **more))
        assert (outcome.code, outcome.out) == (2, "")
        assert words in outcome.err


# what is kept ------------------------------------------------------------------------------------


def ask_once(config: TeacherConfig) -> None:
    import asyncio

    async def main() -> None:
        teacher: Any = create_teacher(config)
        try:
            await answer_of(teacher, make_request("Write a word.", **config.sampling.model_dump()))
        finally:
            await teacher.close()

    asyncio.run(main())


@pytest.mark.parametrize(("name", "place"), [("openai", 1), ("azure", 1), ("gemini", 0), ("mistral", 0)])
def test_a_run_starts_with_what_a_check_learned(
    name: str, place: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path
) -> None:
    with play(name) as server:
        teacher = settings(server, name, model=server.served[place])
        _, found = check(capsys, write(tmp_path, teacher))
        before = len(server.completions)
        assert found["spent"]["refused"]
        ask_once(TeacherConfig(**teacher))
        assert len(server.completions) == before + 1
    (file,) = cache.iterdir()
    assert found["kept"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert KEY not in file.read_text()
    assert json.loads(file.read_text())["learned"] == found["learned"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "date": 5, "learned": {}}', "[" * 5000, "\x00" * 99, "9" * 70_000],
)
def test_a_damaged_file_counts_as_none(text: str, cache: Path) -> None:
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", model="m")
    teacher = OpenAITeacher(config)
    teacher.start_with({"limit": "max_completion_tokens"})
    path = remember(config, teacher, anew=True)
    assert path is not None
    assert recall(config, OpenAITeacher(config))
    path.write_text(text)
    assert not recall(config, OpenAITeacher(config))


def test_what_is_kept_grows_old_and_a_plan_does_not_make_it_younger(cache: Path) -> None:
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", model="m")
    teacher, now = OpenAITeacher(config), datetime(2026, 11, 1, tzinfo=UTC)
    assert remember(config, teacher, now=now) is None
    teacher.start_with({"limit": "max_completion_tokens"})
    assert remember(config, teacher, now=now) is not None
    teacher.start_with({"limit": "max_completion_tokens", "without": ["seed"]})
    assert remember(config, teacher, now=now + timedelta(days=5)) is not None
    again = OpenAITeacher(config)
    assert recall(config, again, now=now + timedelta(days=KEPT_DAYS))
    assert again.learned() == {"limit": "max_completion_tokens", "without": ["seed"]}
    assert not recall(config, again, now=now + timedelta(days=KEPT_DAYS, seconds=1))
    assert not recall(config, again, now=now - timedelta(days=2))


def test_what_the_user_sets_is_never_left_out_by_what_is_kept(cache: Path) -> None:
    """Learned with 1.0, which is left out without harm; another temperature is the server's to refuse, aloud."""
    values: dict[str, Any] = {"backend": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    learned = {"without": ["temperature", "top_p", "seed", "messages"], "form": 99, "limit": "input", "folded": "yes"}
    plain = OpenAITeacher(TeacherConfig(**values))
    plain.start_with(learned)
    assert plain.format.dialect.without == {"temperature", "top_p", "seed"}
    assert (plain.format.dialect.form, plain.format.dialect.limit, plain.format.dialect.folded) == (0, "max_tokens", False)
    assert len(plain.notes) == 1
    own = OpenAITeacher(TeacherConfig(**{**values, "sampling": {"temperature": 0.4, "top_p": 1.0}}))
    own.start_with(learned)
    assert own.format.dialect.without == {"top_p", "seed"}
    assert own.notes == []


def test_keys_do_not_change_by_what_is_kept(cache: Path) -> None:
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", model="m")
    before = make_request().key(config.identity())
    teacher = OpenAITeacher(config)
    teacher.start_with({"limit": "max_completion_tokens", "many": False})
    remember(config, teacher, anew=True)
    created: Any = create_teacher(config)
    assert created.rows_limit == 1
    assert make_request().key(config.identity()) == before
    fresh: Any = create_teacher(config, fresh=True)
    assert fresh.learned() == {}


@pytest.mark.parametrize("answers", ["off", "answers.db"])
def test_without_the_users_own_file_nothing_is_kept(answers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in these tests themselves, whose answers lie beside their runs."""
    monkeypatch.setenv("STEPSYNTH_ANSWERS", answers)
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path))
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", model="m")
    teacher = OpenAITeacher(config)
    teacher.start_with({"limit": "max_completion_tokens"})
    assert remember(config, teacher, anew=True) is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("STEPSYNTH_ANSWERS")
    path = remember(config, teacher, anew=True)
    assert path is not None
    assert path.is_relative_to(tmp_path / "teachers")


def test_a_cache_that_cannot_be_written_stops_nothing(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:1/v1", model="m")
    teacher = OpenAITeacher(config)
    assert remember(config, teacher, anew=True) is None
    assert not recall(config, teacher)


# words ---------------------------------------------------------------------------------------------


def test_what_a_server_says_cannot_write_on_the_screen() -> None:
    assert one_line("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"
    assert address_of("https://user:secret@host:8/v1/?key=1#x") == "https://host:8/v1"
    found = rate_headers({"x-ratelimit-limit": "\x1b]0;x\x07" + "9" * 999, "authorization": "Bearer x", "set-cookie": "a"})
    assert list(found) == ["x-ratelimit-limit"]
    assert len(found["x-ratelimit-limit"]) <= 200


def test_a_key_that_a_server_echoes_in_its_headers_is_cut_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Echoing(LoopbackServer):
        async def _send(self, writer: Any, code: int, data: bytes, extra: Any = None) -> bool:
            return await super()._send(writer, code, data, {"x-ratelimit-key": f"Bearer {KEY}", **(extra or {})})

    with Echoing(list_fault=Fault.status(200, body={"data": [{"id": KEY}]})) as server:
        outcome, found = check(capsys, write(tmp_path, settings(server, api_key_env=VARIABLE)))
        assert any(KEY in seen.headers["authorization"] for seen in server.requests)
    assert "x-ratelimit-key" in found["rate_headers"]
    assert KEY not in outcome.out + outcome.err


def test_a_plan_tells_what_its_sample_found_and_asks_no_more_than_before(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path
) -> None:
    rows = "".join(f"word{number} goes {label},{label}\n" for number in range(12) for label in ("up", "down"))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}")
    sections = {
        "task": {"name": "x", "instruction": "Say up or down.", "labels": {"up": "up", "down": "down"}},
        "data": {"validation": {"path": "rows.csv"}},
        "method": {"rationales": 0},
    }
    with play("openai") as server:
        path = write(tmp_path, settings(server, model="gpt-5-mini"), **sections)
        first = stepsynth(capsys, "plan", path)
        asked = len(server.completions)
        second = stepsynth(capsys, "plan", path, "--json")
        assert (first.code, second.code) == (0, 0), first.err
        # The second one begins with what the first one learned.
        assert len(server.completions) == asked + 1
    (line,) = [line for line in first.out.splitlines() if line.startswith("server ")]
    assert "takes no temperature and no top_p; needs max_completion_tokens; 100 of" in line
    assert "tokens were thoughts (teacher.reasoning_tokens: 0)" in line
    assert json.loads(second.out)["server"] in line
    with LoopbackServer() as server:
        path = write(tmp_path, settings(server), **sections)
        assert json.loads(stepsynth(capsys, "plan", path, "--json").out)["server"] is None
