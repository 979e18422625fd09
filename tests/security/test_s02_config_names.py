"""S2: a config names the variable that holds a key; a key itself is refused wherever it stands, and not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from command import stepsynth
from stepsynth.config import load_config, parse_config
from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

# Put together here, so that no search for keys in this repository finds one.
KEYS = (
    "sk-" + "proj-T3BlbkFJ9aZ0bY1cX2dW3eV4fU5g",
    "sk-ant-" + "api03-AbCdEf0123456789-AbCdEf0123456789",
    "hf_" + "AbCdEfGhIjKlMnOpQr0123456789",
    "AIza" + "SyA0B1C2D3E4F5G6H7I8J9K0L1M2N3O4P5Q6R",
    "gsk_" + "a0B1c2D3e4F5g6H7i8J9k0L1m2N3",
    "xai-" + "a0B1c2D3e4F5g6H7i8J9k0L1m2N3",
    "ghp_" + "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "Bearer " + "a0B1c2D3e4F5g6H7i8J9",
)
VALUES: dict[str, Any] = {
    "task": {"name": "t", "instruction": "Decide.", "labels": {"pos": "liked", "neg": "disliked"}},
    "data": {"validation": {"path": "v.csv"}},
    "teacher": {"backend": "fake"},
}


def with_value(dotted: str, value: object) -> dict[str, Any]:
    """Return the values with one more, ``__`` between the keys."""
    values: dict[str, Any] = yaml.safe_load(yaml.safe_dump(VALUES))
    *parents, last = dotted.split("__")
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return values


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    return str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_s02_a_key_in_the_place_of_a_name_is_refused(key: str) -> None:
    message = refused(with_value("teacher__api_key_env", key))
    assert key not in message
    assert "variable" in message


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("dotted", ["teacher__api_key", "teacher__key", "api_key", "teacher__sampling__api_key"])
def test_s02_a_key_under_an_unknown_name_is_refused_and_not_repeated(dotted: str, key: str) -> None:
    assert key not in refused(with_value(dotted, key))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "dotted",
    [
        "teacher",
        "teacher__model",
        "teacher__base_url",
        "teacher__timeout_s",
        "teacher__options__api_key",
        "teacher__options__deep__nested",
        "task__name",
        "task__instruction",
        "task__labels__pos",
        "task__prompts__seed",
        "data__validation__path",
        "data__validation__hub",
        "student__model",
        "cache",
    ],
)
def test_s02_a_key_is_refused_wherever_it_stands_and_not_repeated(dotted: str, key: str) -> None:
    where = f"https://api.example.org/v1/{key}" if dotted.endswith("base_url") else key
    message = refused(with_value(dotted, where))
    assert key not in message
    assert "variable" in message


@pytest.mark.parametrize("key", KEYS)
def test_s02_a_key_in_a_list_or_as_a_name_is_refused_too(key: str) -> None:
    for dotted, value in (("teacher__options__headers", [{"x": ["y", f"a {key}"]}]), ("task__labels", {key: "x", "b": "y"})):
        message = refused(with_value(dotted, value))
        assert key not in message
        assert "variable" in message


@pytest.mark.parametrize(
    "address",
    [
        "https://api.example.org/v1?api_key=abc",
        "https://api.example.org/v1?x=1&key=abc",
        "https://api.example.org/v1?access_token=abc",
        "https://user:abc@api.example.org/v1",
    ],
)
def test_s02_an_address_carries_no_secret_even_one_that_looks_like_a_word(address: str) -> None:
    message = refused(with_value("teacher__base_url", address))
    assert "abc" not in message
    assert "variable" in message


@pytest.mark.parametrize(
    "name", ["api_key", "apikey", "api-key", "hf_token", "token", "password", "client_secret", "Authorization"]
)
def test_s02_an_option_called_like_a_secret_is_refused_whatever_it_holds(name: str) -> None:
    message = refused(with_value(f"teacher__options__{name}", "open sesame"))
    assert "sesame" not in message
    assert "variable" in message


@pytest.mark.parametrize("place", ["value", "name", "no value", "a section's place"])
def test_s02_a_key_on_the_command_line_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(VALUES))
    override = {
        "value": f"teacher.concurrency={KEYS[0]}",
        "name": f"teacher.{KEYS[0]}=1",
        "no value": KEYS[0],
        "a section's place": f"teacher.backend.{KEYS[0]}=1",
    }[place]
    outcome = stepsynth(capsys, "plan", tmp_path / "config.yaml", "--set", override)
    assert outcome.code == 2
    assert KEYS[0] not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("teacher__api_key_env", "OPENAI_API_KEY"),
        ("teacher__base_url", "https://name.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21"),
        ("teacher__model", "meta-llama/Llama-3.3-70B-Instruct-Turbo-Free-2024-12-06-fp8-dynamic"),
        ("teacher__options", {"max_model_len": 4096, "eos_token": "</s>", "tokenizer": "x", "device": "cpu"}),
        ("task__instruction", "Is the e-mail a password reset? Token: any word; Bearer of bad news. Ask-me-anything-2024-01-01."),
        ("task__labels", {"risk-assessment-for-loans-2024": "a", "task-management-and-planning": "b"}),
        ("data__validation__path", "runs/5f2d8c0b7a9e4f3d8c0b7a9e4f3d8c0b7a9e4f3d8c0b7a9e4f3d.csv"),
        ("data__validation__hub", "stanfordnlp/imdb"),
    ],
)
def test_s02_honest_values_are_taken(dotted: str, value: object) -> None:
    values = with_value(dotted, value)
    if dotted == "teacher__options":
        values["teacher"] |= {"backend": "vllm", "model": "x"}
    if dotted == "data__validation__hub":
        del values["data"]["validation"]["path"]
    parse_config(values)


def test_s02_nothing_secret_is_in_the_stored_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the variable is stored, its value is never read into the config."""
    monkeypatch.setenv("MY_SECRET_KEY", KEYS[0])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(with_value("teacher__api_key_env", "MY_SECRET_KEY")))
    stored = str(load_config(tmp_path / "config.yaml").resolved())
    assert "MY_SECRET_KEY" in stored
    assert KEYS[0] not in stored
