"""What ``init`` writes: a config and rows of every family that load, are sound and do not leak into each other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from stepsynth.cli.starter import STARTERS, write_starter
from stepsynth.config import Family, RunConfig, load_config
from stepsynth.data import SealedTest, load_pool, load_source, load_validation
from stepsynth.errors import ConfigError
from stepsynth.tasks import split_labels
from stepsynth.types import Example

ROOT = Path(__file__).parents[1]
TASKS = sorted(STARTERS)
LEAST_ROWS = {"classification": (240, 360), "multi_label": (120, 80), "pair": (120, 90), "extractive_qa": (100, 60)}


@pytest.fixture(params=TASKS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    """The config that ``init`` writes for a family, beside its rows."""
    write_starter(tmp_path / "new", request.param)
    loaded = load_config(tmp_path / "new" / "config.yaml")
    assert loaded.task.family == request.param
    return loaded


def rows_of(config: RunConfig) -> tuple[list[Example], list[Example]]:
    data = config.data
    assert data.test is not None
    return (
        load_source(data.validation, config.task, role="validation", seed=0),
        load_source(data.test, config.task, role="test", seed=0),
    )


def words(text: str) -> str:
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())


def test_there_is_a_starter_for_every_family() -> None:
    assert set(STARTERS) == set(get_args(Family))


def test_a_starter_loads_whole_and_its_test_can_be_inspected(config: RunConfig) -> None:
    """No row is dropped as a repetition, none has an unknown label or a wrong span."""
    validation, least = load_validation(config), LEAST_ROWS[config.task.family]
    assert len(validation.harvest) + len(validation.select) == len(rows_of(config)[0]) >= least[0]
    assert SealedTest(config).inspect().n >= least[1]
    assert validation.notes == ()


def test_validation_and_test_share_no_text_and_no_context(config: RunConfig) -> None:
    validation, test = rows_of(config)
    assert not {words(row.text) for row in validation} & {words(row.text) for row in test}
    assert not {words(row.context) for row in validation if row.context} & {words(row.context) for row in test}


def test_no_text_is_there_twice(config: RunConfig) -> None:
    for rows in rows_of(config):
        counts = Counter((words(row.context), words(row.text)) for row in rows)
        assert not [text for text, count in counts.items() if count > 1]


def test_labels_are_balanced_within_a_factor_of_two(config: RunConfig) -> None:
    for rows in rows_of(config):
        counts = Counter(label for row in rows for label in split_labels(row.label))
        assert set(counts) == set(config.task.labels)
        assert max(counts.values(), default=0) <= 2 * min(counts.values(), default=0)


def test_a_starter_is_small(config: RunConfig) -> None:
    method = config.method
    assert (method.name, method.rows_per_mistake) == ("crossfit", 1)
    assert method.rounds <= 2
    assert 60 <= method.seed_rows <= 150
    assert config.teacher.backend == "openvino"


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classification"}))
def test_the_example_holds_the_starters_config(task: str) -> None:
    starter = ROOT / "src" / "stepsynth" / "starter" / f"{task}.yaml"
    assert (ROOT / "examples" / STARTERS[task] / "config.yaml").read_bytes() == starter.read_bytes()


@pytest.mark.parametrize("task", TASKS)
def test_the_line_for_a_pool_holds_once_it_is_no_comment(task: str, tmp_path: Path) -> None:
    write_starter(tmp_path / "new", task)
    file = tmp_path / "new" / "config.yaml"
    text = file.read_text()
    assert text.count("  #   pool:") == 1
    file.write_text(text.replace("  #   pool:", "  pool:"))
    config = load_config(file)
    assert config.data.pool is not None
    assert config.data.pool.path is not None
    name = config.data.pool.path.name
    if name.endswith(".txt"):
        config.data.pool.path.write_text("one text\nanother text\n")
    else:
        fields = {"pair": ("text1", "text2"), "extractive_qa": ("context", "question")}[task]
        config.data.pool.path.write_text(f"{','.join(fields)}\nthis is kept,this is written\nthat is kept,that is written\n")
    validation = load_validation(config)
    assert len(load_pool(config, (*validation.harvest, *validation.select), lambda _: False).rows) == 2


def test_messages_have_none_to_three_topics(tmp_path: Path) -> None:
    write_starter(tmp_path / "new", "multi_label")
    for rows in rows_of(load_config(tmp_path / "new" / "config.yaml")):
        assert {len(split_labels(row.label)) for row in rows} == {0, 1, 2, 3}


def test_every_notice_has_claims_of_every_label(tmp_path: Path) -> None:
    """So the notice alone gives nothing away."""
    write_starter(tmp_path / "new", "pair")
    config = load_config(tmp_path / "new" / "config.yaml")
    for rows in rows_of(config):
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row.context, set()).add(row.label)
        assert all(labels == set(config.task.labels) for labels in found.values())


def test_passages_have_60_to_120_words_and_answers_are_whole_words(tmp_path: Path) -> None:
    write_starter(tmp_path / "new", "extractive_qa")
    for rows in rows_of(load_config(tmp_path / "new" / "config.yaml")):
        for row in rows:
            assert 60 <= len(row.context.split()) <= 120
            for answer in row.answers:
                around = row.context[answer.start - 1 : answer.start] + row.context[answer.start + len(answer.text) :][:1]
                assert not any(char.isalnum() for char in around), json.dumps(row.text)


def test_an_unknown_task_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'pair'"):
        write_starter(tmp_path / "new", "pairs")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        write_starter(tmp_path, "pair")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
