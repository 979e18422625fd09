"""Every built-in teacher keeps the contract that plug-in authors are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from fake_engines import LiteLlmLog, install_litellm, install_vllm
from loopback import Fault, LoopbackServer
from stepsynth import testing
from stepsynth.config import TeacherConfig
from stepsynth.model_cache import is_cached
from tiny_teacher import build_tiny_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.teachers import EngineTeacher


class TestFake(testing.TeacherContract):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="fake")


class _OverLoopback(testing.TeacherContract):
    """Teachers whose server is here to be looked at."""

    server: LoopbackServer

    @pytest.fixture(autouse=True)
    def _serve(self, loopback: LoopbackServer) -> None:
        self.server = loopback

    def sent(self) -> list[tuple[str, str]]:
        if not self.server.completions:
            return []
        body = self.server.completions[-1].json
        system = [("system", body["system"])] if "system" in body else []
        return [*system, *((turn["role"], turn["content"]) for turn in body["messages"])]

    def attempts(self) -> int:
        return len(self.server.requests)

    def break_next(self) -> bool:
        self.server.faults = {len(self.server.completions) + 1: Fault.status(500)}
        return True


class TestOpenAI(_OverLoopback):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="openai", model="loopback", base_url=self.server.base_url, rows_per_request=4)


class TestOpenAIThatAsksForJson(_OverLoopback):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="openai", model="loopback", base_url=self.server.base_url, structured="json")


class TestAzure(_OverLoopback):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="openai", model="loopback", base_url=self.server.azure_url, api_version="2024-10-21")


class TestAnthropic(_OverLoopback):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="anthropic", model="loopback", base_url=self.server.anthropic_url)


class TestLiteLlm(testing.TeacherContract):
    log: LiteLlmLog

    @pytest.fixture(autouse=True)
    def _install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = install_litellm(monkeypatch)

    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="litellm", model="some/model", rows_per_request=4)

    def sent(self) -> list[tuple[str, str]]:
        return [(turn["role"], turn["content"]) for turn in self.log.calls[-1]["messages"]] if self.log.calls else []

    def attempts(self) -> int:
        return len(self.log.calls)

    def break_next(self) -> bool:
        self.log.failure = RuntimeError("something\nbroke")
        return True


class TestVllm(testing.TeacherContract):
    @pytest.fixture(autouse=True)
    def _install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install_vllm(monkeypatch)

    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="vllm", model="some/model", concurrency=2)


@pytest.fixture(scope="module")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.mark.usefixtures("one_thread")
class TestTransformers(testing.TeacherContract):
    folder: Path

    @pytest.fixture(autouse=True)
    def _find(self, tiny_teacher: Path) -> None:
        self.folder = tiny_teacher

    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="transformers", model=str(self.folder), concurrency=2)


@pytest.mark.slow
@pytest.mark.skipif(not is_cached("smollm2-135m"), reason="the embedded teacher is not cached")
class TestOpenVino(testing.TeacherContract):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="openvino", model="smollm2-135m", concurrency=2)

    def draws_by_batch(self) -> bool:
        return True

    @pytest.mark.learns
    def test_the_same_batch_gives_the_same_answers(self) -> None:
        engine = cast("EngineTeacher", self.make())
        requests = [
            testing.make_request(f"Write one sentence about {thing}.", max_tokens=24) for thing in ("rain", "a film", "tea")
        ]
        first, second = (dict(engine.generate_batch(requests, range(3))) for _ in range(2))
        assert [first[place].text for place in range(3)] == [second[place].text for place in range(3)]
        assert len({response.text for response in first.values()}) == 3


class _Broken:
    """A teacher that breaks every rule that the contract can see."""

    def generate(self, request: Any) -> Any:
        raise KeyError(request.messages)

    async def close(self) -> None:
        raise RuntimeError("closed twice")


class _BrokenContract(testing.TeacherContract):
    def config(self) -> TeacherConfig:
        return TeacherConfig(backend="fake")

    def make(self) -> Any:
        return _Broken()


@pytest.mark.parametrize("name", ["an_answer_has_all_its_parts", "any_prompt_is_answered_or_refused_in_our_words"])
def test_the_contract_fails_a_teacher_that_breaks_it(name: str) -> None:
    with pytest.raises((AssertionError, KeyError, RuntimeError)):
        getattr(_BrokenContract(), f"test_{name}")()


class _Greedy:
    """An engine that reads everything first, lets neighbours in, and forgets limits."""

    def generate_batch(self, requests: Any, seeds: Any) -> Any:
        from stepsynth.types import Response, Usage

        everything = list(zip(requests, seeds, strict=False))
        for position in range(len(everything)):
            yield position, Response(f"{len(everything)} requests", "stop", Usage(1, 100))


class _GreedyContract(_BrokenContract):
    def make(self) -> Any:
        return _Greedy()


@pytest.mark.parametrize(
    "name",
    [
        "requests_are_read_only_as_far_as_there_is_room",
        "an_answer_does_not_depend_on_its_neighbours",
        "an_answer_ends_at_its_token_limit",
    ],
)
def test_the_contract_fails_an_engine_that_breaks_it(name: str) -> None:
    with pytest.raises(AssertionError):
        getattr(_GreedyContract(), f"test_{name}")()
