"""Which teacher a config names: the built-in ones, plug-ins by entry point, and broken plug-ins in one line."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from stepsynth import registry
from stepsynth.config import TeacherConfig
from stepsynth.config.teacher import BACKENDS
from stepsynth.errors import ConfigError, TransientError
from stepsynth.registry import FAMILIES, METHODS, STUDENTS, TEACHERS, Registry
from stepsynth.teachers import AsyncTeacher, BatchApiTeacher, create_teacher, probe_teacher
from stepsynth.testing import TeacherContract
from stepsynth.types import Request, Response


class PluginTeacher:
    """What a plug-in's author would write."""

    def __init__(self, config: TeacherConfig) -> None:
        self.model = config.model

    async def generate(self, request: Request) -> Response:
        return Response(f"{self.model}: {len(request.messages)}")

    async def close(self) -> None:
        pass


class ProbedTeacher(PluginTeacher):
    async def probe(self) -> str:
        return f"probed {self.model}"


class CheckedTeacher(PluginTeacher):
    def __init__(self, config: TeacherConfig) -> None:
        raise AssertionError("a check opens no teacher")

    @staticmethod
    def check(config: TeacherConfig) -> str:
        return f"checked {config.model}"


def fails(config: TeacherConfig) -> Any:
    raise KeyError("some\nthing")


def refuses(config: TeacherConfig) -> Any:
    raise ConfigError("teacher.options.zone is missing.")


def no_teacher(config: TeacherConfig) -> Any:
    return SimpleNamespace()


async def _overloaded() -> str:
    raise TransientError("busy.")


def overloaded(config: TeacherConfig) -> Any:
    teacher = PluginTeacher(config)
    teacher.probe = _overloaded  # type: ignore[attr-defined]
    return teacher


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("PluginTeacher", "ProbedTeacher", "CheckedTeacher", "fails", "refuses", "no_teacher", "overloaded", "missing")
    points = EntryPoints(EntryPoint(name.lower(), f"{__name__}:{name}", "stepsynth.teachers") for name in names)
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == TEACHERS.group else EntryPoints())


def make_config(backend: str) -> TeacherConfig:
    return TeacherConfig(backend=backend, model="m")


@pytest.mark.parametrize("kinds", [TEACHERS, METHODS, FAMILIES, STUDENTS], ids=lambda kinds: kinds.kind)
def test_every_built_in_name_has_a_place(kinds: Registry) -> None:
    assert all(callable(kinds.load(name)) for name in kinds.built_in)


def test_a_program_does_not_take_a_built_in_name() -> None:
    with pytest.raises(ConfigError, match="the method 's3' of this program has the name of a built-in one"):
        METHODS.add("s3", object)


@pytest.mark.usefixtures("plugins")
class TestPluginKeepsTheContract(TeacherContract):
    def config(self) -> TeacherConfig:
        return make_config("pluginteacher")


@pytest.mark.usefixtures("plugins")
def test_a_plugin_is_found_by_its_name() -> None:
    teacher = create_teacher(make_config("pluginteacher"))
    assert isinstance(teacher, PluginTeacher)
    assert isinstance(teacher, AsyncTeacher)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("backend", "said"), [("pluginteacher", "pluginteacher: m"), ("probedteacher", "probed m"), ("checkedteacher", "checked m")]
)
def test_a_plugin_may_say_how_it_is_probed(backend: str, said: str) -> None:
    assert probe_teacher(make_config(backend)) == said


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("backend", "part"),
    [("fails", "KeyError"), ("missing", "AttributeError"), ("no_teacher", "SimpleNamespace"), ("refuses", "options.zone")],
)
@pytest.mark.parametrize("work", [create_teacher, probe_teacher])
def test_a_broken_plugin_is_said_in_one_line(backend: str, part: str, work: Any) -> None:
    with pytest.raises(ConfigError, match=part) as caught:
        work(make_config(backend))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("plugins")
def test_what_a_plugin_says_in_our_own_errors_is_shown_as_it_is() -> None:
    with pytest.raises(ConfigError) as caught:
        create_teacher(make_config("refuses"))
    assert str(caught.value) == "teacher.options.zone is missing."


@pytest.mark.usefixtures("plugins")
def test_a_plugins_own_teacher_errors_pass_through_the_probe() -> None:
    with pytest.raises(TransientError, match="busy"):
        probe_teacher(make_config("overloaded"))


@pytest.mark.usefixtures("plugins")
def test_a_misspelt_plugin_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'pluginteacher'"):
        make_config("pluginteacer")


@pytest.mark.parametrize("backend", ["openai", "anthropic"])
def test_mode_batch_gets_the_providers_batch_api(backend: str) -> None:
    config = TeacherConfig(backend=backend, base_url="http://127.0.0.1:1", mode="batch")
    teacher = create_teacher(config)
    assert isinstance(teacher, BatchApiTeacher)
    assert not isinstance(teacher, AsyncTeacher)


def test_a_plugin_that_was_uninstalled_since_is_an_unknown_backend() -> None:
    config = make_config("fake").model_copy(update={"backend": "gone"})
    with pytest.raises(ConfigError, match="teacher 'gone' is not known"):
        create_teacher(config)


def test_every_snippet_of_the_documentation_is_a_config() -> None:
    text = (Path(__file__).parents[1] / "docs" / "teachers.md").read_text(encoding="utf-8")
    found = [TeacherConfig(**yaml.safe_load(block)["teacher"]) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert {config.backend for config in found} == set(BACKENDS) - {"fake"}
