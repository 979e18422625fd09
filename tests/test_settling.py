"""What a config leaves open is settled when a run begins, and stays so."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from family_worlds import build_family_world
from stepsynth.config import RunConfig, TeacherConfig, load_config, parse_config, parse_stored
from stepsynth.errors import AssetError, ConfigError
from stepsynth.model_cache import model_parameters
from stepsynth.run import RunDirectory, settling
from stepsynth.run.settling import settle, settle_teacher, style_for
from world import build_world

OPENAI = {"backend": "openai", "base_url": "http://127.0.0.1:1/v1"}


PAIR = {"text1": {"name": "premise", "context": True}, "text2": {"name": "hypothesis"}}


def config(teacher: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    task = {"name": "t", "instruction": "Decide.", "labels": ["a", "b"], **sections.pop("task", {})}
    values = {"task": task, "data": {"validation": {"path": "v.csv"}}, "teacher": teacher or {"backend": "fake"}, **sections}
    return parse_config(values)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("smollm2-135m", 134_515_008),
        ("qwen2.5-coder-1.5b", 1_543_714_304),
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf", 0.5e9),
        ("google/gemma-3-270m-it", 270e6),
        ("llama3.2:1b", 1e9),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 7e9),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7e9),
        ("unsloth/Qwen3-30B-A3B-Instruct-2507-1M-GGUF", 30e9),
        ("gpt-4.1-mini", None),
        ("claude-sonnet-4-5", None),
        ("some-q4_k_m", None),
    ],
)
def test_a_models_size_is_known_by_catalogue_or_name(model: str, size: float | None) -> None:
    assert model_parameters(model) == size


@pytest.mark.parametrize(
    ("teacher", "style"),
    [
        ({"backend": "openvino", "model": "smollm2-135m"}, "small"),
        ({"backend": "openvino", "model": "qwen2.5-coder-1.5b"}, "capable"),
        ({**OPENAI, "model": "gpt-4.1-mini"}, "capable"),
        ({**OPENAI, "model": "qwen2.5:0.5b"}, "small"),
        ({"backend": "anthropic", "model": "claude-haiku-4-5"}, "capable"),
        ({"backend": "transformers", "model": "org/Model-360M"}, "small"),
        ({"backend": "fake"}, "small"),
    ],
)
def test_the_templates_fit_the_teacher(teacher: dict[str, Any], style: str) -> None:
    assert style_for(TeacherConfig(**teacher)) == style
    assert settle(config(teacher), None).task.prompt_style == style


def test_a_named_style_and_model_stay() -> None:
    named = config({"backend": "openvino", "model": "smollm2-135m"}, task={"prompt_style": "capable"})
    settled = settle(named, None)
    assert (settled.task, settled.teacher.model) == (named.task, named.teacher.model)


def test_a_run_keeps_the_style_and_the_teacher_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "choose_teacher", lambda wanted: (wanted, ""))
    left_open = config({"backend": "openvino", "model": "auto"})
    with closing(RunDirectory.open(tmp_path / "run", left_open)) as directory:
        began = directory.config
    assert (began.teacher.model, began.task.prompt_style) == (settling.BEST_TEACHER, "capable")
    monkeypatch.setattr(settling, "choose_teacher", lambda _: ("smollm2-135m", "less memory"))
    with closing(RunDirectory.open(tmp_path / "run", left_open)) as directory:
        assert directory.config == began
    assert RunDirectory.read(tmp_path / "run").config == began


def test_a_run_of_an_earlier_version_has_the_small_templates(tmp_path: Path) -> None:
    """Its stored config has no such key."""
    teacher = {**OPENAI, "model": "gpt-4.1-mini"}
    with closing(RunDirectory.open(tmp_path / "run", config(teacher, task={"prompt_style": "small"}))):
        pass
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "prompt_style" not in stored["config"]["task"]
    with closing(RunDirectory.open(tmp_path / "run", config(teacher))) as directory:
        assert directory.config.task.prompt_style == "small"
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == stored


def test_where_the_larger_cannot_be_fetched_the_next_smaller_is_taken_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, *, kind: str, report: Any) -> Path:
        del kind, report
        if name != "smollm2-135m":
            raise AssetError(f"model {name!r} could not be had.")
        return Path("x")

    monkeypatch.setattr(settling, "resolve", resolve)
    monkeypatch.setattr(settling, "choose_teacher", lambda wanted: (wanted, ""))
    said: list[str] = []
    found = settle_teacher(TeacherConfig(model="auto"), report=said.append, fetch=True)
    assert found.model == "smollm2-135m"
    assert [line.partition(":")[0] for line in said] == [
        "Using qwen2.5-coder-0.5b instead of qwen2.5-coder-1.5b",
        "Using smollm2-135m instead of qwen2.5-coder-0.5b",
    ]


def test_too_little_memory_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.model_cache.needs.free_memory", lambda: 1_000_000_000)
    said: list[str] = []
    assert settle_teacher(TeacherConfig(model="auto"), report=said.append).model == "smollm2-135m"
    (line,) = said
    assert "smollm2-135m in place of qwen2.5-coder-1.5b" in line


def test_auto_is_for_the_embedded_models() -> None:
    with pytest.raises(ConfigError, match="name the model"):
        config({**OPENAI, "model": "auto"})


def test_several_rows_an_answer_need_templates_that_can_ask_for_them() -> None:
    with pytest.raises(ConfigError, match=r"rows_per_answer=5"):
        settle(config(method={"rows_per_answer": 5}), None)
    own = {"seed": "--- user\nWrite {{ count }} of {{ label }}."}
    settle(config(method={"rows_per_answer": 5}, task={"prompts": own}), None)


def test_the_shipped_example_takes_the_best_embedded_teacher() -> None:
    assert load_config(Path(__file__).parents[1] / "examples" / "shop" / "config.yaml").teacher.model == "auto"


def test_capable_teachers_write_with_more_variety_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    world = build_world(tmp_path)
    plain = settle(world.config("task.prompt_style=capable"), None).teacher.sampling
    assert (plain.temperature, plain.top_p) == (0.85, 0.95)
    # A server that refuses a parameter is not told one that nobody set.
    assert not {"temperature", "top_p"} & plain.model_fields_set
    own = settle(world.config("task.prompt_style=capable", "teacher.sampling.temperature=0.3"), None).teacher.sampling
    assert (own.temperature, own.top_p) == (0.3, 0.95)
    small = settle(world.config("task.prompt_style=small"), None).teacher.sampling
    assert (small.temperature, small.top_p) == (0.7, 0.9)


def test_a_run_keeps_the_sampling_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_world(tmp_path / "world").config("task.prompt_style=capable")
    RunDirectory.open(tmp_path / "run", config).close()
    monkeypatch.setattr(settling, "_CAPABLE_SAMPLING", {"temperature": 1.3, "top_p": 0.5})
    assert settle(config, None).teacher.sampling.temperature == 1.3
    with closing(RunDirectory.open(tmp_path / "run", config)) as directory:
        assert (directory.config.teacher.sampling.temperature, directory.config.teacher.sampling.top_p) == (0.85, 0.95)


@pytest.mark.parametrize(
    ("changes", "seed_from"),
    [
        ((), "gold"),
        (("method.name=s3",), "reasons"),
        (("method.seed_from=reasons",), "reasons"),
        (("method.name=s3", "method.seed_from=gold"), "gold"),
        (("task.prompts.seed=Write {{ a_text_kind }}.",), "reasons"),
    ],
)
def test_cross_fitting_writes_seed_rows_from_gold_rows_unless_the_user_says_otherwise(
    changes: tuple[str, ...], seed_from: str, tmp_path: Path
) -> None:
    config = build_world(tmp_path / "world").config("method.name=crossfit", *changes)
    assert settle(config, None).method.seed_from == seed_from
    # What began goes on as it began; a run of a version without this key began from reasons.
    begun = parse_stored(
        {**config.resolved(), "method": {k: v for k, v in config.resolved()["method"].items() if k != "seed_from"}}
    )
    assert begun.method.seed_from == "reasons"
    assert settle(build_world(tmp_path / "again").config("method.name=crossfit"), begun).method.seed_from == "reasons"


@pytest.mark.parametrize(
    ("changes", "seed_from"),
    [
        (("task.prompt_style=capable",), "examples"),
        (("task.prompt_style=small",), "reasons"),
        (("task.prompt_style=capable", "method.name=s3"), "reasons"),
        (("task.prompt_style=capable", "task.prompts.seed=Write {{ a_text_name }}."), "reasons"),
        (("task.prompt_style=capable", "method.seed_from=gold"), "gold"),
    ],
)
def test_seed_rows_of_pairs_are_like_gold_rows_about_other_contexts(
    changes: tuple[str, ...], seed_from: str, tmp_path: Path
) -> None:
    config = build_family_world(tmp_path, "pair", method__name="crossfit").config(*changes)
    assert settle(config, None).method.seed_from == seed_from


@pytest.mark.parametrize(("family", "style"), [("classification", "capable"), ("pair", "small"), ("extractive_qa", "capable")])
def test_gold_rows_beside_a_context_need_one_and_a_template_that_shows_them(family: str, style: str, tmp_path: Path) -> None:
    config = build_family_world(tmp_path, family).config("method.seed_from=examples", f"task.prompt_style={style}")
    with pytest.raises(ConfigError, match="'examples', which is for pairs"):
        settle(config, None)


@pytest.mark.parametrize(
    ("changes", "demonstrations"),
    [
        (("task.prompt_style=capable",), "fixed"),
        (("task.prompt_style=capable", "method.rows_per_answer=2"), "drawn"),
        (("task.prompt_style=small",), "drawn"),
        (("task.prompt_style=small", "method.demonstrations=fixed"), "fixed"),
    ],
)
def test_prompts_show_the_same_gold_rows_again_where_templates_are_capable(
    changes: tuple[str, ...], demonstrations: str, tmp_path: Path
) -> None:
    config = build_world(tmp_path / "world").config(*changes)
    assert settle(config, None).method.demonstrations == demonstrations
    # What began goes on as it began; a run of a version without this key drew them.
    stored = config.resolved()
    begun = parse_stored({**stored, "method": {k: v for k, v in stored["method"].items() if k != "demonstrations"}})
    assert begun.method.demonstrations == "drawn"
    assert settle(build_world(tmp_path / "again").config(changes[0]), begun).method.demonstrations == "drawn"


@pytest.mark.parametrize(
    ("sections", "shown"),
    [
        ({"task": {"prompt_style": "capable"}}, 1),
        ({"task": {"prompt_style": "small"}}, 3),
        ({"task": {"prompt_style": "capable"}, "method": {"rationales_per_row": 3}}, 3),
        ({"task": {"prompt_style": "capable"}, "method": {"rationales_per_row": 2}}, 2),
        ({"task": {"prompt_style": "capable"}, "method": {"rows_per_answer": 5}}, 3),
        ({"task": {"prompt_style": "capable", "prompts": {"seed": "Write {{ label }}: {{ rationales }}"}}}, 3),
        ({"task": {"prompt_style": "capable", "family": "pair", "fields": PAIR}}, 3),
    ],
)
def test_a_capable_teacher_is_shown_one_reason_where_a_text_stands_alone(sections: dict[str, Any], shown: int) -> None:
    def user() -> RunConfig:
        return config(**{name: dict(section) for name, section in sections.items()})

    settled = settle(user(), None)
    assert settled.method.rationales_per_row == shown
    assert settle(settled, None).result_digest() == settled.result_digest()
    # What began with three goes on with three.
    stored = settled.resolved()
    begun = parse_stored({**stored, "method": {**stored["method"], "rationales_per_row": 3}})
    resumed = settle(user(), begun).method.rationales_per_row
    assert resumed == (sections.get("method", {}).get("rationales_per_row") or 3)
