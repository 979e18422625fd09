"""Refusals and quotas as providers send them: whose affair a refusal is, how long to wait, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import stepsynth
from loopback import Fault, LoopbackServer, Seen
from stepsynth.cli.progress_view import open_panel
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import PermanentError, TeacherError, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.generation.outcomes import Outcomes
from stepsynth.generation.pace import Pace
from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.run.pausing import PauseNotes, read_pause
from stepsynth.runtime.progress import Pause, SilentProgress
from stepsynth.runtime.shutdown import stoppable
from stepsynth.teachers.anthropic import AnthropicTeacher
from stepsynth.teachers.refusals import classify, daily_limit
from stepsynth.teachers.retry_after import retry_after
from stepsynth.types import Message, Request, Response, Sampling
from world import build_world

FREE = {"input": 0, "output": 0}


# bodies of the providers ---------------------------------------------------------------------------

OPENAI = {"error": {"message": "", "type": "invalid_request_error", "param": None, "code": None}}


def openai(message: str, code: object = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(message: str, status: str = "RESOURCE_EXHAUSTED", *details: dict[str, Any], code: int = 429) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def retry_info(delay: object) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering a content management policy.",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}
WITHHELD = {
    "deepseek": (400, openai("Content Exists Risk")),
    "dashscope": (
        400,
        openai("Input data may contain inappropriate content.", "data_inspection_failed", "data_inspection_failed"),
    ),
    "azure": (400, AZURE_FILTER),
    "azure-inner": (400, {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    "openai": (400, openai("Invalid prompt: it was flagged as potentially violating our usage policy.", "invalid_prompt")),
    "openai-code": (400, openai("no", "content_policy_violation")),
    "openrouter": (
        403,
        {"error": {"code": 403, "message": "no", "metadata": {"reasons": ["hate"], "flagged_input": "x", "provider_name": "p"}}},
    ),
    "zhipu": (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    "gemini": (400, google("blocked", "INVALID_ARGUMENT", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, code=400)),
    "legal": (451, "<html>Unavailable For Legal Reasons</html>"),
    "mistral": (422, {"object": "error", "message": "The prompt was blocked by the moderation.", "type": "moderation_error"}),
    "anthropic": (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}},
    ),
    "gateway-string": (400, {"error": json.dumps(openai("Content Exists Risk"))}),
    "gateway-500": (500, openai("upstream said no", "content_filter")),
    "volcengine": (400, openai("The request failed.", "InputTextSensitiveContentDetected")),
}
NO_MONEY = {
    "openai-429": (429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    "openai-403": (403, openai("no", "insufficient_quota")),
    "bare-402": (402, ""),
    "html-402": (402, "<html><h1>Payment required</h1></html>"),
    "deepseek": (402, openai("Insufficient Balance", "invalid_request_error")),
    "anthropic": (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low."}},
    ),
    "openrouter": (402, {"error": {"code": 402, "message": "This request requires more credits, but can only afford 12."}}),
    "dashscope": (400, openai("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage")),
    "huggingface": (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    "huggingface-400": (400, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    "hard-limit": (400, openai("Billing hard limit has been reached", "billing_hard_limit_reached")),
    "deactivated": (403, openai("no", "account_deactivated")),
    "moonshot": (429, openai("suspended due to insufficient balance", None, "exceeded_current_quota_error")),
    "gemini-prepaid": (429, google("Your prepayment credits are depleted.")),
    "gemini-no-plan": (429, google(f"{QUOTA} * Quota exceeded for metric: free, limit: 0, model: m. Please retry in 20s.")),
    "openai-words": (429, openai(QUOTA)),
}
LIMITS = {
    "gemini": (429, google(f"{QUOTA} Please retry in 41.2s.", "RESOURCE_EXHAUSTED", retry_info("41s"))),
    "gemini-object": ((429), {"error": {"message": QUOTA, "details": [retry_info("41s")]}}),
    "groq": (429, openai("Rate limit reached. Please try again in 7.66s. Upgrade at /settings/billing", "rate_limit_exceeded")),
    "openrouter": (429, openai("Rate limit exceeded: free-models-per-min. Add 10 credits to unlock more.", 429)),
    "mistral": (429, {"message": "Requests rate limit exceeded", "type": "rate_limited"}),
}


def text_of(body: object) -> str:
    return body if isinstance(body, str) else json.dumps(body)


@pytest.mark.parametrize("name", sorted(WITHHELD))
def test_a_moderation_is_known_in_all_its_ways(name: str) -> None:
    status, body = WITHHELD[name]
    assert classify(status, text_of(body)) == "withheld"


@pytest.mark.parametrize("name", sorted(NO_MONEY))
def test_no_money_is_known_in_all_its_ways(name: str) -> None:
    status, body = NO_MONEY[name]
    assert classify(status, text_of(body), wait=retry_after({}, text_of(body))) == "money"


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_limit_is_neither_a_moderation_nor_a_lack_of_money(name: str) -> None:
    status, body = LIMITS[name]
    assert classify(status, text_of(body), wait=retry_after({}, text_of(body))) in ("", "busy")


@pytest.mark.parametrize("said", ["Insufficient balance, says my bank", "Content Exists Risk", "invalid api key", "per day"])
def test_a_row_that_is_echoed_decides_nothing(said: str) -> None:
    echo = json.dumps({"detail": [{"type": "too_long", "msg": "too long", "input": said}], "messages": [{"content": said}]})
    assert classify(422, echo) == ""
    assert daily_limit(echo) == ""
    assert retry_after({}, json.dumps({"detail": [{"msg": "no", "input": "try again in 5 minutes"}]})) is None


@pytest.mark.parametrize(
    ("status", "body", "about"),
    [
        (400, google("API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", code=400), "key"),
        (401, "", "key"),
        (400, openai("qwen/none is not a valid model ID"), "model"),
        (400, openai("Model Not Exist"), "model"),
        (404, openai("The model `m` does not exist", "model_not_found"), "model"),
        (400, openai("This model's maximum context length is 4096 tokens.", "context_length_exceeded"), ""),
        (413, "<html>too large</html>", ""),
    ],
    ids=["gemini-key", "401", "openrouter-model", "deepseek-model", "openai-model", "context", "413"],
)
def test_key_model_and_everything_else_are_told_apart(status: int, body: object, about: str) -> None:
    assert classify(status, text_of(body)) == about


# whose affair a refusal is ---------------------------------------------------------------------------


@dataclass
class Time:
    """A clock that only pauses move; each lasts so many real seconds, in which what was sent arrives."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)
    lasts: float = 0.01

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(self.lasts)
        # Others may have slept at the same time.
        self.now = max(self.now, until)


def requests(count: int, first: int = 0) -> list[Request]:
    return [
        Request((Message("user", f"Write {n}."),), Sampling(), n, "round-0/seed", n, "kalm") for n in range(first, first + count)
    ]


def number_of(seen: Seen) -> int:
    return int(seen.json["messages"][-1]["content"].split()[1].rstrip("."))


@dataclass
class Desk:
    """An executor in front of the loopback server, with a clock of its own."""

    server: LoopbackServer
    journal: Journal
    clock: Time = field(default_factory=Time)
    told: list[Pause | None] = field(default_factory=list)

    def executor(self, **changes: Any) -> TeacherClient:
        values = {"backend": "openai", "base_url": self.server.base_url, "model": "loopback", "price": FREE, "concurrency": 4}
        return TeacherClient(
            TeacherConfig(**{**values, **changes}),
            self.journal,
            BudgetConfig(),
            pause=self.clock.pause,
            clock=lambda: self.clock.now,
            jitter=random.Random(1),
            paused=self.told.append,
        )

    def run(self, count: int, **changes: Any) -> list[Response | TeacherError]:
        client = self.executor(**changes)
        answers = client.run(requests(count))
        return [answers[client.key(request)] for request in requests(count)]


@pytest.fixture
def desk(tmp_path: Path, loopback: LoopbackServer) -> Iterator[Desk]:
    journal = Journal(tmp_path / "journal.db")
    # The default answers have flaws, an empty text among them, and depend on the server's port.
    loopback.answer = lambda body: f"An answer to {body['messages'][-1]['content']}"
    yield Desk(loopback, journal)
    journal.close()


def refuse(which: Callable[[int], bool], status: int, body: object) -> Callable[[Seen], Fault | None]:
    return lambda seen: Fault.status(status, body=text_of(body)) if which(number_of(seen)) else None


@pytest.mark.parametrize("concurrency", [1, 4, 64])
@pytest.mark.parametrize("name", ["deepseek", "dashscope", "openrouter"])
def test_case_06_content_filter_ends_the_run(desk: Desk, name: str, concurrency: int) -> None:
    """One prompt in four is refused, the first of all among them."""
    desk.server.faults = refuse(lambda n: n % 4 == 0, *WITHHELD[name])
    answers = desk.run(40, concurrency=concurrency)
    assert [isinstance(a, Response) and a.finish_reason == "refusal" for a in answers] == [n % 4 == 0 for n in range(40)]
    assert len(desk.server.completions) == 40


@pytest.mark.parametrize("name", sorted(WITHHELD))
def test_each_provider_s_moderation_is_a_refusal_of_that_row(desk: Desk, name: str) -> None:
    desk.server.faults = refuse(lambda n: n == 0, *WITHHELD[name])
    first, *others = desk.run(4, concurrency=1)
    assert isinstance(first, Response)
    assert first.finish_reason == "refusal"
    assert all(isinstance(answer, Response) and answer.text for answer in others)


def test_anthropic_s_moderation_is_a_refusal_too(loopback: LoopbackServer) -> None:
    status, body = WITHHELD["anthropic"]
    loopback.faults = {1: Fault.status(status, body=text_of(body))}
    teacher = AnthropicTeacher(TeacherConfig(backend="anthropic", model="loopback", base_url=loopback.anthropic_url))

    async def main() -> Response:
        try:
            return await teacher.generate(requests(1)[0])
        finally:
            await teacher.close()

    assert asyncio.run(main()).finish_reason == "refusal"


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_any_refused_request_is_its_row_s_affair(desk: Desk, status: int, concurrency: int) -> None:
    desk.server.faults = refuse(lambda n: n in (0, 1, 2, 17), status, openai("This prompt is too long."))
    answers = desk.run(40, concurrency=concurrency)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, PermanentError)] == [0, 1, 2, 17]
    assert len(desk.server.completions) == 40


def test_quick_refusals_before_slow_answers_end_nothing(desk: Desk) -> None:
    """Twelve refusals come while all answers are still on their way."""

    def faults(seen: Seen) -> Fault:
        return Fault.status(400, body=openai("odd")) if number_of(seen) < 12 else Fault("slow", seconds=0.2)

    desk.server.faults = faults
    answers = desk.run(40, concurrency=32)
    assert sum(isinstance(answer, Response) for answer in answers) == 28


def test_a_run_in_which_everything_is_refused_ends_and_quotes_the_server(desk: Desk) -> None:
    desk.server.faults = lambda _: Fault.status(400, body=openai("odd things"))
    with pytest.raises(PermanentError, match=r"5 of 5 requests were refused: .*'odd things'"):
        desk.run(40, concurrency=1)
    assert len(desk.server.completions) == 5


def test_a_run_in_which_everything_is_withheld_ends_and_quotes_the_server(desk: Desk) -> None:
    desk.server.faults = lambda _: Fault.status(400, body=text_of(WITHHELD["deepseek"][1]))
    with pytest.raises(PermanentError, match=r"10 of 10 requests were refused: .*'Content Exists Risk'"):
        desk.run(40, concurrency=1)


def test_few_requests_that_are_all_refused_are_an_error_too(desk: Desk) -> None:
    desk.server.faults = lambda _: Fault.status(400, body=openai("odd things"))
    with pytest.raises(PermanentError, match=r"3 of 3 requests were refused"):
        desk.run(3)


def test_ten_in_a_row_end_a_run_that_had_answers_and_the_next_attempt_goes_on(desk: Desk) -> None:
    desk.server.faults = refuse(lambda n: n >= 20, 400, openai("odd"))
    with pytest.raises(PermanentError, match=r"10 of 30 requests were refused"):
        desk.run(60, concurrency=1)
    desk.server.faults = None
    assert all(isinstance(answer, Response) for answer in desk.run(60, concurrency=4))
    assert len(desk.server.completions) == 30 + 40


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, openai("no")), (404, openai("no")), *NO_MONEY.values()],
    ids=["401", "404", *NO_MONEY],
)
def test_key_model_and_money_are_final_at_the_first_answer(desk: Desk, status: int, body: object) -> None:
    desk.server.faults = refuse(lambda n: n == 6, status, body)
    with pytest.raises(PermanentError):
        desk.run(40, concurrency=1)
    assert len(desk.server.completions) == 7
    desk.server.faults = None
    desk.run(40)
    assert len(desk.server.completions) == 41, "what was answered is kept"


def test_a_403_among_answers_is_its_requests_affair(desk: Desk) -> None:
    desk.server.faults = refuse(lambda n: n == 6, 403, openai("no"))
    answers = desk.run(40, concurrency=1)
    assert sum(isinstance(answer, Response) for answer in answers) == 39
    assert len(desk.server.completions) == 40


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.sampled_from(["answer", "refused", "withheld"]), min_size=1, max_size=60).filter(lambda e: "answer" in e),
    wide=st.integers(1, 64),
    seed=st.integers(0, 999),
)
def test_the_order_of_answers_decides_nothing(ends: list[str], wide: int, seed: int) -> None:
    """However they come in: with an answer in each wave that is on its way, nothing is given up."""
    outcomes, order = Outcomes(answered_before=False), random.Random(seed)
    for start in range(0, len(ends), wide):
        wave = ends[start : start + wide]
        order.shuffle(wave)
        for end in wave:
            if end == "refused":
                assert outcomes.gave_up(PermanentError("odd", kind="refused")) is None
            else:
                outcomes.came(Response("text") if end == "answer" else Response("", "refusal", raw="{}"))
        in_a_row = next((i for i, end in enumerate(reversed(wave)) if end == "answer"), None)
        if in_a_row is not None and in_a_row < 5:
            assert not outcomes.doubtful


# how long to wait --------------------------------------------------------------------------------------

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
EPOCH = NOW.timestamp()


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"retry-after": "41s"}, "", 41),
        ({"retry-after": "1m30s"}, "", 90),
        ({"retry-after": "2 minutes"}, "", 120),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after": formatdate(EPOCH + 7, usegmt=True)}, "", 7),
        ({"retry-after": str(int(EPOCH) + 9)}, "", 9),
        ({"x-retry-after": "3"}, "", 3),
        ({"x-ms-retry-after-ms": "2500"}, "", 2.5),
        ({"x-ratelimit-reset": str(int(EPOCH) + 12)}, "", 12),
        ({"x-ratelimit-reset": str(int(EPOCH * 1000) + 12_500), "x-ratelimit-remaining": "0"}, "", 12.5),
        ({"x-ratelimit-reset": "30"}, "", 30),
        ({"x-ratelimit-reset": "2026-05-01T12:00:20Z"}, "", 20),
        ({"x-ratelimit-reset": "6m0s"}, "", 360),
        ({"x-rate-limit-reset": "120ms"}, "", 0.12),
        ({"ratelimit-reset": "8", "ratelimit-remaining": "0"}, "", 8),
        ({"ratelimit": "limit=100, remaining=0, reset=50"}, "", 50),
        ({"ratelimit": '"minute";r=0;t=30'}, "", 30),
        ({"ratelimit": '"minute";r=7;t=30'}, "", None),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "30"}, "", None),
        ({"retry-after": "5", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "900"}, "", 5),
        ({"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "3600.5"}, "", 3600.5),
        ({}, google("no", "RESOURCE_EXHAUSTED", retry_info("41s")), 41),
        ({}, google("no", "RESOURCE_EXHAUSTED", retry_info("1.5s")), 1.5),
        ({}, google("no", "RESOURCE_EXHAUSTED", retry_info({"seconds": 41})), 41),
        ({}, google("Please retry in 41.2s."), 41.2),
        ({}, openai("Please try again in 1m26.4s."), 86.4),
        ({}, openai("Rate limit reached: Limit 60000, Used 59000. Please try again in 20ms. Visit us."), 0.02),
        ({}, openai("Try again in 6 minutes"), 360),
        ({}, openai("You have exceeded the token rate limit. Please retry after 8 seconds."), 8),
        ({}, {"error": {"message": "no", "retry_after": 11}}, 11),
        ({}, {"error": {"message": "no", "metadata": {"headers": {"X-RateLimit-Reset": str(int(EPOCH * 1000) + 4000)}}}}, 4),
        ({"retry-after": "0"}, openai("Please try again in 12s"), 12),
        ({}, google("no", "RESOURCE_EXHAUSTED", quota_failure("RequestsPerDayPerModel-FreeTier"), retry_info("30s")), 19 * 3600),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"x-ratelimit-reset": "1e300"}, "", None),
        ({"x-ratelimit-reset": str(int(EPOCH) - 100)}, "", 0),
        ({}, openai("Model gpt-4 has 4 limits in 3 regions"), None),
    ],
    ids=range(38),
)
def test_waits_are_read_wherever_providers_say_them(
    headers: dict[str, str], body: object, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepsynth.teachers.retry_after.time", SimpleNamespace(time=NOW.timestamp))
    found = retry_after(headers, text_of(body))
    assert found == (None if expected is None else pytest.approx(expected))


NAMES = st.sampled_from(
    [
        "retry-after",
        "retry-after-ms",
        "x-retry-after",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
        "ratelimit",
        "x-rate-limit-reset",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-reset",
        "x-ms-retry-after-ms",
    ]
)
WORDS = st.sampled_from(
    [
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "41s",
        "1m30s",
        "2099-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "PT5S",
        "limit=1,remaining=0,reset=9",
        "99999999999999999999999",
        "retry",
        "in",
        "5",
        "s",
        "try",
        "again",
        "in",
        "9999999999",
        "days",
        "Fri,",
        "01",
        "Jan",
        "9999",
        "00:00:00",
        "GMT",
        "{}",
        "[]",
        "null",
    ]
)
VALUES = st.one_of(
    WORDS, st.lists(WORDS, max_size=6).map(" ".join), st.text(max_size=40), st.floats().map(str), st.integers().map(str)
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), VALUES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "details",
                    "retryDelay",
                    "retry_after",
                    "retry_after_ms",
                    "metadata",
                    "headers",
                    "quotaId",
                    "code",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(headers=st.dictionaries(NAMES, VALUES, max_size=6), body=st.one_of(JSON.map(json.dumps), VALUES))
def test_no_header_and_no_body_makes_a_wait_that_is_negative_or_absurd(headers: dict[str, str], body: str) -> None:
    found = retry_after(headers, body)
    assert found is None or 0 <= found <= 400 * 86400
    for status in (400, 402, 403, 404, 429, 500):
        assert classify(status, body, wait=found) in ("withheld", "money", "key", "model", "")
    assert daily_limit(body) in ("", "daily limit", "monthly limit")


def test_a_long_hostile_body_is_read_quickly() -> None:
    started = time.monotonic()
    for body in ("try again in " * 20_000, "1m" * 100_000, "retry " + "9" * 200_000, "[" * 500 + '{"a":' * 300):
        retry_after({}, body)
        classify(429, body)
    assert time.monotonic() - started < 5


# what a wait does ------------------------------------------------------------------------------------------


@dataclass
class PerMinute:
    """A server that answers so many requests in any minute, by the clock of the test; it refuses in a provider's way."""

    clock: Time
    most: int
    say: Callable[[float], Fault]
    answered: list[float] = field(default_factory=list)
    refused: int = 0

    def __call__(self, seen: Seen) -> Fault | None:
        now = self.clock.now
        recent = [at for at in self.answered if now - at < 60]
        if len(recent) < self.most:
            self.answered.append(now)
            return None
        self.refused += 1
        return self.say(60 - (now - recent[0]))


def say_google(wait: float) -> Fault:
    return Fault.status(
        429, body=text_of(google(f"{QUOTA} Please retry in {wait:.2f}s.", "RESOURCE_EXHAUSTED", retry_info(f"{int(wait)}s")))
    )


def say_openrouter(wait: float) -> Fault:
    headers = {
        "X-RateLimit-Limit": "15",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int((time.time() + wait) * 1000)),
    }
    return Fault.status(429, headers, text_of(openai("Rate limit exceeded: free-models-per-min. ", 429)))


def say_azure(wait: float) -> Fault:
    return Fault.status(503, body=text_of(openai(f"Too many. Please retry after {wait + 1:.0f} seconds.", "429")))


@pytest.mark.parametrize("say", [say_google, say_openrouter, say_azure], ids=["gemini", "openrouter", "azure-503"])
@pytest.mark.parametrize("attempts", [1, 5])
def test_case_07_free_tier_wait_not_read(desk: Desk, say: Callable[[float], Fault], attempts: int) -> None:
    desk.server.faults = limit = PerMinute(desk.clock, 15, say)
    answers = desk.run(60, concurrency=64, attempts=attempts)
    assert all(isinstance(answer, Response) for answer in answers)
    # All that were on their way when the limit was reached, and few later.
    assert limit.refused <= 45 + 30
    assert desk.clock.now < 600


def test_after_the_second_refused_minute_the_server_s_pace_is_learned(desk: Desk) -> None:
    desk.server.faults = limit = PerMinute(desk.clock, 15, say_google)
    client = desk.executor(concurrency=64)
    client.run(requests(60))
    before, began = limit.refused, desk.clock.now
    client.run(requests(60, first=100))
    assert client.pace.per_minute is not None
    assert 10 <= client.pace.per_minute <= 20
    assert limit.refused - before <= 12
    assert desk.clock.now - began <= 400, "and it is not much slower than allowed"


def test_a_server_that_asks_to_wait_for_ever_is_given_up(desk: Desk) -> None:
    desk.server.faults = lambda _: say_google(41)
    with pytest.raises(TransientError, match=r"still refuses after 5 pauses that it asked for.*Please retry in 41"):
        desk.run(10)
    assert len(desk.server.completions) <= 4 + 5
    assert sum(desk.clock.pauses) < 6 * 5 * 60


def test_short_waits_do_not_use_up_the_patience(desk: Desk) -> None:
    say = Fault.status(429, body=text_of(openai("Please try again in 20ms")))
    desk.server.faults = lambda seen: say if seen.number <= 7 else None
    assert all(isinstance(answer, Response) for answer in desk.run(5, concurrency=1, attempts=2))


@pytest.mark.parametrize("per_minute", [15, 240])
def test_requests_per_minute_are_kept_in_every_window(desk: Desk, per_minute: int) -> None:
    # The server counts by the test's clock: what arrives a pause late would be counted in another window.
    desk.clock.lasts = 0.05
    desk.server.faults = limit = PerMinute(desk.clock, per_minute, say_google)
    answers = desk.run(40, concurrency=16, requests_per_minute=per_minute)
    assert all(isinstance(answer, Response) for answer in answers)
    assert limit.refused == 0
    assert desk.clock.now >= 39 * 60 / per_minute


def test_a_pace_holds_over_processes_and_grows_where_it_was_learned() -> None:
    pace = Pace(60)
    assert pace.wait(0.0) == 0
    pace.sent(0.0)
    assert 1.0 <= pace.wait(0.0) <= 1.1
    assert pace.wait(5.0) == 0
    learned = Pace(None)
    for _ in range(10):
        learned.answered()
    learned.refused(10.0, 50.0)
    assert learned.per_minute is None, "one refusal is an accident"
    for _ in range(15):
        learned.answered()
    learned.refused(62.0, 58.0)
    assert learned.per_minute == 15
    learned.answered()
    assert learned.per_minute == pytest.approx(15.1)


def test_a_server_that_is_back_in_a_moment_has_no_pace_to_learn() -> None:
    pace = Pace(None)
    for second in range(20):
        pace.answered()
        pace.refused(float(second), 1.0)
    assert pace.per_minute is None


# what is said of a wait --------------------------------------------------------------------------------------

GROQ_DAY = openai(
    "Rate limit reached for model on tokens per day (TPD): Limit 100000, Used 99990. Please try again in 23h51m.",
    "rate_limit_exceeded",
    "tokens",
)
DAYS = {
    "groq": ({"retry-after": "85860"}, GROQ_DAY),
    "groq-words": ({}, GROQ_DAY),
    "gemini": ({}, google(QUOTA, "RESOURCE_EXHAUSTED", quota_failure("GenerateRequestsPerDayPerProject"), retry_info("86000s"))),
    "openrouter": (
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int((time.time() + 90_000) * 1000))},
        openai("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", 429),
    ),
}


@pytest.mark.parametrize("name", sorted(DAYS))
def test_case_19_an_hour_of_silence(desk: Desk, name: str) -> None:
    headers, body = DAYS[name]
    desk.server.faults = lambda seen: Fault.status(429, headers, text_of(body)) if seen.number > 2 else None
    with pytest.raises(TransientError) as caught:
        desk.run(20, longest_pause_s=900)
    said = str(caught.value)
    assert desk.server.base_url in said
    assert "asks to wait until" in said
    assert "daily limit" in said
    assert "Everything obtained is kept; run it again" in said
    assert desk.clock.pauses == []
    assert len(desk.server.completions) <= 2 + 4
    (told,) = [pause for pause in desk.told if pause is not None and pause.ended]
    assert told.seconds > 3600
    desk.server.faults = None
    desk.run(20)
    assert len(desk.server.completions) <= 20 + 4, "what was answered is kept"


def test_a_pause_is_told_with_who_why_and_until_and_its_end_too(desk: Desk) -> None:
    desk.server.faults = {3: Fault.status(429, {"Retry-After": "600"}, text_of(openai("requests per hour used up")))}
    desk.run(8, concurrency=1)
    pause, end = desk.told
    assert end is None
    assert pause is not None
    assert 600 <= pause.seconds <= 605
    assert str(pause).startswith(f"{desk.server.base_url} asks to wait until ")
    assert "(10 min): 'requests per hour used up'" in str(pause)


def test_quiet_says_one_line_and_nothing_of_short_pauses(capsys: pytest.CaptureFixture[str]) -> None:
    with open_panel(quiet=True) as progress:
        progress.paused(Pause(2, time.time() + 2, "http://x", "'soon'"))
        progress.paused(Pause(600, time.time() + 600, "http://x", "'later'"))
        progress.paused(None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stepsynth: http://x asks to wait until")
    assert "'later'" in line


def test_status_of_another_shell_reads_a_pause_and_knows_a_stale_one(tmp_path: Path, run_config: Any) -> None:
    with contextlib.closing(RunDirectory.open(tmp_path / "run", run_config)) as directory:
        folder = directory.path
        notes = PauseNotes(SilentProgress(), folder)
        assert read_pause(folder, directory.holder()) is None
        notes.paused(Pause(600, time.time() + 600, "http://x", "'later'"))
        found = read_pause(folder, directory.holder())
        assert found is not None
        assert "http://x asks to wait until" in found["said"]
        assert read_pause(folder, None) is None, "its process was killed"
        assert read_pause(folder, "pid 1 on elsewhere") is None
        notes.paused(None)
        assert read_pause(folder, directory.holder()) is None
        notes.paused(Pause(9e4, time.time() + 9e4, "http://x", "'a daily limit'", ended=True))
        assert read_pause(folder, None) is not None
        PauseNotes(SilentProgress(), folder)
        assert read_pause(folder, None) is None
        notes.paused(Pause(1, time.time() - 60, "http://x", "'over'", ended=True))
        assert read_pause(folder, None) is None


@pytest.mark.parametrize(("stopped", "said"), [(False, "the pause is over"), (True, "the pause is ended by a stop")])
def test_the_log_says_why_a_pause_ended(stopped: bool, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes = PauseNotes(SilentProgress(), tmp_path)
    with stoppable() as stop:
        notes.paused(Pause(600, time.time() + 600, "http://x", "'later'"))
        if stopped:
            stop.set()
        notes.paused(None)
    assert caplog.messages[-1] == said


@pytest.fixture
def run_config() -> Any:
    """A config that needs no files."""
    from stepsynth.config import parse_config

    return parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]},
            "data": {"validation": {"path": "v.csv"}},
            "teacher": {"backend": "fake", "model": "m"},
        }
    )


# reasons that one label never gets -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Fault.status(400, None, openai("withheld", "content_filter")), 0),
        (Fault.status(200, None, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}), 0),
        (Fault.status(500), 2),
    ],
    ids=["refused", "empty", "failed"],
)
def test_a_label_without_reasons_gets_rows_without_them(
    answer: Fault, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the provider withholds every reason of one label, its rows are written without; where it fails, the run ends."""
    rng = random.Random(0)
    letters = "bdfghklmnprstvz"

    def words(body: dict[str, Any]) -> str:
        """Return a sentence of invented words, numbered where a list is asked for."""
        first = "1. " if "Number them" in body["messages"][-1]["content"] else ""
        return first + " ".join("".join(rng.choices(letters, k=2)) + "a" + rng.choice(letters) for _ in range(6)) + "."

    def reasons_of_kalm(seen: Seen) -> Fault | None:
        told = seen.json["messages"][-1]["content"]
        return answer if "kalm" in told and "reason" in told else None

    with LoopbackServer(words) as server:
        server.faults = reasons_of_kalm
        world = build_world(tmp_path)
        world.write_config(
            {
                "teacher": {"backend": "openai", "base_url": server.base_url, "model": "loopback", "attempts": 2},
                "task.prompt_style": "capable",
                "method": {"name": "seed-only", "seed_rows": 12, "rationales": 4, "label_check": "none"},
                "student.head": "probe",
                "student.epochs": 1,
            }
        )
        ran = stepsynth(capsys, "run", world.config_path, "--quiet")
        asked = [seen.json["messages"][-1]["content"] for seen in server.completions]
    assert ran.code == code
    if code:
        assert "no usable rationale for label 'kalm'" in ran.err
        return
    texts = [told for told in asked if "Write a text" in told]
    about = {label: [("It is about" in told) for told in texts if f'"{label}"' in told] for label in ("kalm", "rund", "spitz")}
    assert about["kalm"], "rows of this label are written"
    assert not any(about["kalm"])
    assert about["rund"]
    assert all(about["rund"] + about["spitz"])
    folder = tmp_path / "runs" / "invented"
    rows = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    assert {row["label"] for row in rows} == {"kalm", "rund", "spitz"}
    assert "reasons ended short" in stepsynth(capsys, "status", folder).out
