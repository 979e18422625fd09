"""What is said of a mistake: in plain words, whole sentences, without what a library calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepsynth.cli.starter import write_starter
from stepsynth.config import load_config
from stepsynth.errors import ConfigError, RunError, did_you_mean
from stepsynth.run import RunDirectory
from stepsynth.teachers.findings import listed
from stepsynth.teachers.replies import Reply


def problem(folder: Path, *overrides: str) -> str:
    if not (folder / "w").exists():
        write_starter(folder / "w", "classification")
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "w" / "config.yaml", list(overrides))
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("student.epochs=viele", "student.epochs must be a whole number, not 'viele'."),
        ("student.epochs=2.5", "student.epochs must be a whole number, not 2.5."),
        ("seed=-1", "seed must be 0 or more, not -1."),
        ("teacher.sampling.temperature=warm", "teacher.sampling.temperature must be a number, not 'warm'."),
        ("teacher.sampling.temperature=3", "teacher.sampling.temperature must be 2 or less, not 3."),
        ("teacher.timeout_s=0", "teacher.timeout_s must be more than 0, not 0."),
        ("teacher.sampling.min_p=1", "teacher.sampling.min_p must be less than 1, not 1."),
        ("task.name=", "task.name is empty."),
        ("teacher.modle=x", "unknown key 'modle' in teacher. Did you mean 'model'?"),
    ],
)
def test_a_wrong_value_is_said_in_plain_words(tmp_path: Path, override: str, said: str) -> None:
    assert problem(tmp_path, override) == said


def test_a_question_mark_ends_a_sentence(tmp_path: Path) -> None:
    assert problem(tmp_path, "teacher.backend=openia").endswith("Did you mean 'openai'?")


def test_a_seed_among_the_options_is_refused_truly(tmp_path: Path) -> None:
    said = problem(tmp_path, "teacher={backend: openai, base_url: 'http://localhost/v1', options: {seed: 3}}")
    assert "options.seed is not allowed: each request has its own seed" in said


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", "is empty. Make a config with: stepsynth init DIR"),
        ("# nothing yet\n", "is empty. Make a config with: stepsynth init DIR"),
        ("task: [a\nseed: 1\n", "is not valid YAML: line 2, column 5: expected ',' or ']', but got ':'."),
        ("task:\n\tname: x\n", "is not valid YAML: line 2, column 1: found character '\\t' that cannot start any token."),
    ],
)
def test_a_file_that_is_no_config_names_the_place(tmp_path: Path, text: str, end: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert str(caught.value).endswith(end)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'/dev/null' is a pipe or a device; give a file"):
        load_config(Path("/dev/null"))
    with pytest.raises(ConfigError, match="is a folder; give the config file"):
        load_config(tmp_path)


def test_letters_in_another_order_are_the_nearest() -> None:
    assert did_you_mean("modle", ["mode", "model"]) == "Did you mean 'model'?"
    assert did_you_mean("sede", ["seed", "seeds"]) == "Did you mean 'seed'?"


def test_a_comparison_is_no_run_and_names_one(tmp_path: Path) -> None:
    (tmp_path / "gold-0").mkdir()
    (tmp_path / "gold-0" / "config.json").write_text("{}")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(RunError, match=r"is a comparison; give one of its runs, e\.g\. .*gold-0"):
        RunDirectory.read(tmp_path)


@pytest.mark.parametrize("status", [401, 403])
def test_a_list_behind_a_wrong_key_is_not_called_absent(status: int) -> None:
    said = listed([("/models", Reply(status, "{}"))], "m").found
    assert said == f"not shown: the key was refused (HTTP {status})"
