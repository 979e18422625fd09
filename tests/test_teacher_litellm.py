"""LiteLLM as a translator alone, with a stand-in for the package: what it is given, and what its errors become."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fake_engines import LiteLlmLog, install_litellm
from stepsynth.config import TeacherConfig
from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.teachers import create_teacher, probe_teacher
from stepsynth.teachers.chat import request_seed
from stepsynth.teachers.litellm import LiteLlmTeacher
from stepsynth.teachers.structured import asked
from stepsynth.testing import make_request

if TYPE_CHECKING:
    from stepsynth.types import Response

CANARY = "AIzaCanary7f3Kq9ZxW2mTb8Lr5Vh1Yd4"


def make_config(**changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"backend": "litellm", "model": "gemini/some-model", **changes})


def ask(config: TeacherConfig, **sampling: Any) -> Response:
    async def main() -> Response:
        teacher = LiteLlmTeacher(config)
        try:
            return await teacher.generate(make_request(**sampling))
        finally:
            await teacher.close()

    return asyncio.run(main())


def error(name: str, status: int | None = None, headers: dict[str, str] | None = None, text: str = "it\nbroke") -> Exception:
    """Return an error as LiteLLM raises them: told by its class, with a status and the response."""
    made: Exception = type(name, (Exception,), {})(text)
    made.status_code = status  # type: ignore[attr-defined]
    made.response = SimpleNamespace(headers=headers or {})  # type: ignore[attr-defined]
    return made


def failure(log: LiteLlmLog, raised: Exception, **changes: Any) -> TeacherError:
    log.failure = raised
    with pytest.raises(TeacherError) as caught:
        ask(make_config(**changes))
    assert len(log.calls) == 1
    return caught.value


def test_without_litellm_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    for work in (create_teacher, probe_teacher):
        with pytest.raises(ConfigError, match=r"pip install 'stepsynth\[litellm\]'") as caught:
            work(make_config())
        assert caught.value.__context__ is None


def test_it_retries_caches_and_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    log = install_litellm(monkeypatch)
    ask(make_config())
    (call,) = log.calls
    assert (call["num_retries"], call["max_retries"], call["caching"]) == (0, 0, False)
    assert (log.module.telemetry, log.module.cache, log.module.num_retries) == (False, None, 0)
    import os

    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


def test_a_call_has_sampling_seed_address_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    log = install_litellm(monkeypatch)
    config = make_config(api_key_env="MY_KEY", base_url="http://127.0.0.1:1/x", timeout_s=9, options={"extra": 1})
    ask(config, temperature=0.3, top_p=0.8, max_tokens=5, min_p=0.1)
    (call,) = log.calls
    expected = {"temperature": 0.3, "top_p": 0.8, "max_tokens": 5, "min_p": 0.1, "timeout": 9, "extra": 1}
    assert expected.items() <= call.items()
    assert (call["api_key"], call["api_base"]) == (CANARY, "http://127.0.0.1:1/x")
    request = make_request(temperature=0.3, top_p=0.8, max_tokens=5, min_p=0.1)
    assert call["seed"] == request_seed(request.key(config.identity()))
    assert "repetition_penalty" not in call


def test_what_the_provider_does_not_take_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log = install_litellm(monkeypatch, takes=())
    ask(make_config(structured="json", rows_per_request=3))
    assert not {"seed", "n", "response_format"} & set(log.calls[0])
    assert LiteLlmTeacher(make_config(rows_per_request=3)).rows_limit == 1


@pytest.mark.parametrize(("parts", "name"), [(1, "text"), (3, "texts")])
def test_json_is_asked_for_by_schema(monkeypatch: pytest.MonkeyPatch, parts: int, name: str) -> None:
    log = install_litellm(monkeypatch)
    request = replace(make_request(), parts=parts)
    asyncio.run(LiteLlmTeacher(make_config(structured="json")).generate(request))
    assert log.calls[0]["response_format"]["json_schema"]["schema"]["required"] == [name]
    assert log.calls[0]["messages"] == asked(request)


def test_several_rows_come_with_one_call_or_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    log = install_litellm(monkeypatch)
    log.most_choices = 1

    async def main() -> list[int]:
        teacher = LiteLlmTeacher(make_config(rows_per_request=3))
        requests = [make_request(replicate=i) for i in range(3)]
        return [len(await teacher.generate_many(requests)) for _ in range(2)]

    assert asyncio.run(main()) == [1, 1]
    assert ["n" in call for call in log.calls] == [True, False]


@pytest.mark.parametrize(
    ("raised", "kind", "wait"),
    [
        (error("RateLimitError", 429, {"Retry-After": "7"}), "overload", 7.0),
        (error("ServiceUnavailableError", 503), "unavailable", None),
        (error("InternalServerError", 500), "unavailable", None),
        (error("Timeout", 408), "timeout", None),
        (error("APIConnectionError", 500), "connection", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_errors_worth_another_attempt_are_transient(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: str, wait: float | None
) -> None:
    found = failure(install_litellm(monkeypatch), raised)
    assert isinstance(found, TransientError)
    assert (found.kind, found.retry_after) == (kind, wait)
    assert "\n" not in str(found)


@pytest.mark.parametrize("name", ["Timeout", "APIConnectionError"])
def test_a_lost_answer_may_be_billed_unless_nothing_was_sent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = failure(install_litellm(monkeypatch), error(name, 500))
    assert isinstance(found, TransientError)
    assert found.maybe_billed
    unsent = error(name, 500)
    unsent.__cause__ = type("ConnectError", (Exception,), {})()
    found = failure(install_litellm(monkeypatch), unsent)
    assert isinstance(found, TransientError)
    assert not found.maybe_billed


@pytest.mark.parametrize("name", ["AuthenticationError", "NotFoundError", "BadRequestError", "UnsupportedParamsError"])
def test_refusals_are_permanent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = failure(install_litellm(monkeypatch), error(name, 400))
    assert isinstance(found, PermanentError)
    assert found.kind == "refused"


def test_a_content_filter_is_a_refused_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    log = install_litellm(monkeypatch)
    log.failure = error("ContentPolicyViolationError", 400)
    assert ask(make_config()).finish_reason == "refusal"


def test_a_key_in_an_error_is_cut_out_and_no_frame_of_the_library_hangs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    found = failure(install_litellm(monkeypatch), error("BadRequestError", 400, text=f"key {CANARY}"), api_key_env="MY_KEY")
    assert CANARY not in str(found)
    assert found.__context__ is None
    assert found.__cause__ is None
