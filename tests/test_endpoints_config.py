"""Several servers in a config: what is refused, what enters a run's identity, and what commands and pages show of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import stepsynth as ss
from command import stepsynth
from loopback import LoopbackServer
from stepsynth.api.nouns import AnthropicTeacher
from stepsynth.config import BudgetConfig, TeacherConfig, load_config, parse_stored
from stepsynth.config.changes import changes_between
from stepsynth.errors import ConfigError
from stepsynth.run.public import public_config
from stepsynth.teachers import create_teacher
from stepsynth.teachers.check_endpoints import EndpointsCheck
from stepsynth.teachers.endpoints import EndpointsTeacher
from stepsynth.teachers.learned import remember
from stepsynth.teachers.prices import price_of
from world import World, build_world

A, B, C = "http://a.example.org/v1", "http://b.example.org/v1", "http://c.example.org/v1"
NOBODY = "http://127.0.0.1:9/v1"


def teacher(addresses: Any, **changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"backend": "openai", "model": "m", "base_url": addresses, **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world") / "world")


@pytest.fixture
def two() -> Iterator[tuple[LoopbackServer, LoopbackServer]]:
    labels = ("kalm", "rund", "spitz")
    with LoopbackServer(labels=labels) as first, LoopbackServer(labels=labels) as second:
        yield first, second


# what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": []}, "base_url is an empty list; write the address of at least one server."),
        ({"base_url": [A, B, A]}, f"base_url has '{A}' twice; write each server once."),
        ({"base_url": [A, f"{A}/"]}, f"base_url has '{A}' and '{A}/', which are one server; write each server once."),
        ({"base_url": [A, "http://A.example.org:80/v1"]}, "which are one server"),
        ({"base_url": [A, ""]}, "base_url[1] is ''; write the address of a server"),
        ({"base_url": [A, 8000]}, "base_url[1] is 8000; write the address of a server"),
        ({"base_url": [A, "b.example.org"]}, "base_url[1] 'b.example.org' must start with http:// or https://"),
        ({"base_url": [A, "http://me:pass@b.example.org/v1"]}, "looks like a key or a password"),
        ({"base_url": [A, f"{B}?api_key=abcdef"]}, "looks like a key or a password"),
        ({"base_url": [A, "http://"]}, "base_url[1] 'http://' has no host; write the address of a server"),
        ({"base_url": [A, "http://[::1"]}, "base_url[1] 'http://[::1' is no web address: invalid IPv6 URL"),
        ({"base_url": [A, "http://h:99999/v1"]}, "base_url[1] 'http://h:99999/v1' is no web address: port out of range"),
        ({"base_url": [A, "http://h:0/v1"]}, "base_url[1] 'http://h:0/v1' has port 0"),
        ({"base_url": [A, "http://h..x/v1"]}, "base_url[1] 'http://h..x/v1' has no host"),
        ({"base_url": [A, f"{A} "]}, f"base_url[1] '{A} ' holds ' ', which no web address has; remove it"),
        ({"base_url": [A, "http://h\n/v1"]}, r"base_url[1] 'http://h\n/v1' holds '\n', which no web address has"),
        ({"base_url": [A, "http://h\x00/v1"]}, r"holds '\x00', which no web address has"),
        ({"base_url": [A, f"http://h/{'x' * 2000}"]}, "base_url[1] has 2,009 characters; 2,000 is the most"),
        ({"base_url": "http:// x/v1"}, "base_url 'http:// x/v1' holds ' ', which no web address has"),
        ({"base_url": [A, B], "mode": "batch"}, "mode 'batch' takes one address in base_url"),
        ({"base_url": [A, B], "backend": "litellm"}, "a list in base_url needs backend 'openai' or 'anthropic', not 'litellm'"),
        ({"base_url": [A, B], "backend": "fake"}, "a list in base_url needs backend 'openai' or 'anthropic', not 'fake'"),
        ({"base_url": [A], "backend": "openvino"}, "a list in base_url needs backend 'openai' or 'anthropic', not 'openvino'"),
        ({"base_url": [], "backend": "anthropic"}, "base_url is an empty list"),
        ({"base_url": ["https://x.example.org", "https://x.example.org/v1"], "backend": "anthropic"}, "which are one server"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    changes: dict[str, Any], said: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(world.config_path.read_text())
    values["teacher"] = {"backend": "openai", "model": "m", **changes}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    for command in (["run", path, "--out", tmp_path / "run"], ["models", "check", "--config", path]):
        found = stepsynth(capsys, *command)
        assert (found.code, found.err.count("\n")) == (2, 1)
        assert said in found.err
    assert not (tmp_path / "run").exists()


# identity --------------------------------------------------------------------------------------


def test_the_first_address_stands_for_all(world: World) -> None:
    def config(value: str) -> Any:
        return world.config("teacher.backend=openai", "teacher.model=m", f"teacher.base_url={value}")

    alone, listed, both, other = config(A), config(f"[{A}]"), config(f"[{A}, {B}]"), config(f"[{B}, {A}]")
    assert alone.resolved() == listed.resolved()
    assert alone.teacher.identity() == both.teacher.identity() != other.teacher.identity()
    assert alone.result_digest() == both.result_digest() != other.result_digest()
    assert both.resolved()["teacher"]["base_url"] == [A, B]
    assert parse_stored(json.loads(json.dumps(both.resolved()))) == both
    assert changes_between(alone, both) == changes_between(both, alone) == []
    assert changes_between(both, other) == [f"teacher.base_url was '{A}', is '{B}'"]


def test_each_server_is_asked_with_the_identity_of_all_and_remembered_with_its_own() -> None:
    config = teacher([A, B, C])
    assert config.base_urls == (A, B, C)
    assert config.address == f"{A} and 2 more"
    assert config.model_copy(update={"concurrency": 2}).base_urls == config.base_urls
    second = config.at(B)
    assert (second.base_url, second.base_urls, second.identity()) == (B, (B,), teacher(A).identity())
    assert config.at(B, alone=True) == teacher(B)


def test_what_is_learned_is_kept_for_each_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(tmp_path / "answers.db"))
    config = teacher([A, B])
    made = create_teacher(config)
    assert isinstance(made, EndpointsTeacher)
    made.teachers[B].start_with({"limit": "max_completion_tokens"})  # type: ignore[attr-defined]
    remember(config, made)
    again: Any = create_teacher(config)
    assert [one.learned() for one in again.teachers.values()] == [{}, {"limit": "max_completion_tokens"}]
    alone: Any = create_teacher(teacher(B))
    assert alone.learned() == {"limit": "max_completion_tokens"}


def test_different_prices_are_an_unknown_price() -> None:
    openai, azure = "https://api.openai.com/v1", "https://someone.example.org/v1"
    assert price_of(teacher(openai, model="gpt-4o-mini")) is not None
    assert price_of(teacher([openai, azure], model="gpt-4o-mini")) is None
    given = teacher([openai, azure], model="gpt-4o-mini", price={"input": 1, "output": 1})
    assert price_of(given) is not None
    with pytest.raises(ConfigError, match=r"budget\.usd"):
        EndpointsCheck(teacher([openai, azure], model="gpt-4o-mini"), BudgetConfig(usd=1))


# Python, pages, commands -----------------------------------------------------------------------


def test_nouns_take_a_list() -> None:
    assert ss.OpenAITeacher("m", base_url=[A, B]).values["base_url"] == [A, B]
    assert ss.Teacher(backend="openai", model="m", base_url=(A, B)).values["base_url"] == [A, B]
    assert AnthropicTeacher("m", base_url=[A, B]).values["base_url"] == [A, B]
    with pytest.raises(ConfigError, match="empty list"):
        ss.OpenAITeacher("m", base_url=[])


def test_what_is_published_names_no_private_server(world: World) -> None:
    def shown(*addresses: str) -> Any:
        listed = f"teacher.base_url=[{', '.join(addresses)}]"
        return public_config(world.config("teacher.backend=openai", "teacher.model=m", listed))["teacher"]["base_url"]

    assert shown(A, B) == [A, B]
    assert shown(A, "http://10.0.0.1/v1") == A
    assert shown("http://10.0.0.1/v1", "http://gpu-2/v1") == "https://server.example/v1"
    assert shown("http://10.0.0.1/v1", B) == ["https://server.example/v1", B]


def test_models_check_has_a_line_for_each_server(
    two: tuple[LoopbackServer, LoopbackServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    with LoopbackServer(models=["another"]) as other, LoopbackServer(api_key="k") as locked:
        addresses = [NOBODY, locked.base_url, first.base_url, second.base_url, other.base_url]
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"teacher": {"backend": "openai", "model": "loopback", "base_url": addresses}}))
        found = stepsynth(capsys, "models", "check", "--config", path, "--json")
        asked = [len(server.completions) for server in (first, second, other)]
    assert found.code == 0
    values = json.loads(found.out)
    assert values["works"]
    assert values["address"] == f"{NOBODY} and 4 more"
    lines = {name: f"{value['state']}: {value['found']}" for name, value in values["findings"].items() if "server " in name}
    assert list(lines) == [f"server {number}" for number in range(1, 6)]
    assert lines["server 1"] == f"refused: cannot connect to {NOBODY} (Connection refused)."
    assert "requires a key" in lines["server 2"]
    assert lines["server 3"] == f"seen: {first.base_url} serves 'loopback'. It was asked all questions."
    assert re.fullmatch(rf"seen: {re.escape(second.base_url)} serves 'loopback'\. It answered in \d\.\d\d s\.", lines["server 4"])
    assert "has no model 'loopback'" in lines["server 5"]
    assert (asked[1], asked[2]) == (1, 1)
    assert asked[0] >= 3
    assert values["worst_case"]["requests"] == 4 + 4


def test_if_no_server_works_a_check_fails_as_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump({"teacher": {"backend": "openai", "base_url": [NOBODY, "http://127.0.0.1:7/v1"], "model": "m"}})
    )
    found = stepsynth(capsys, "models", "check", "--config", path)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert f"cannot connect to {NOBODY}" in found.err


def dataset(run: Path) -> str:
    return (run / "dataset.jsonl").read_text(encoding="utf-8")


def test_a_run_is_the_same_with_one_server_and_with_two_and_goes_on_with_another_list(
    two: tuple[LoopbackServer, LoopbackServer], world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two

    def run(name: str, addresses: str) -> Any:
        values = {"backend": "openai", "model": "loopback", "base_url": addresses, "concurrency": 4, "attempts": 1}
        changes = [f"teacher.{key}={value}" for key, value in values.items()]
        changes += ["cache=null", "method.rounds=1", "student.epochs=1"]
        words = [word for change in changes for word in ("--set", change)]
        found = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / name, *words)
        assert found.code == 0, found.err
        return found

    run("alone", first.base_url)
    together = run("together", f"[{first.base_url}, {second.base_url}, {NOBODY}]")
    assert second.completions
    assert dataset(tmp_path / "alone") == dataset(tmp_path / "together")
    stored = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("alone", "together")]
    assert stored[0]["digest"] == stored[1]["digest"]
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "together")]
    assert results[0]["teacher"] == results[1]["teacher"]
    shown = " ".join(f"{together.out} {together.err}".split())
    assert f"{NOBODY} is left out and tried again later" in shown
    assert re.search(rf"Answers by server: {re.escape(first.base_url)} \d+, {re.escape(second.base_url)} \d+", shown)
    before = len(first.completions) + len(second.completions)
    run("together", f"[{first.base_url}, {second.base_url}]")
    run("together", first.base_url)
    assert len(first.completions) + len(second.completions) == before
    assert load_config(tmp_path / "together").teacher.base_urls == (first.base_url,)
    refused = stepsynth(
        capsys, "run", world.config_path, "--out", tmp_path / "together", "--set", "teacher.backend=openai",
        "--set", "teacher.model=loopback", "--set", f"teacher.base_url=[{second.base_url}, {first.base_url}]",
        "--set", "cache=null", "--set", "method.rounds=1", "--set", "student.epochs=1",
    )  # fmt: skip
    assert refused.code == 2
    assert f"teacher.base_url was '{first.base_url}', is '{second.base_url}'" in refused.err
