"""A user's own filter: a class in a script, or one that a package registered; it is part of what a run is known by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth import registry
from stepsynth.cli.running import run_config as run_from_cli
from stepsynth.registry import FILTERS
from world import LABELS, World, build_world

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 2, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}


class NoWord(ss.RowFilter):
    """Rows with a word are not wanted."""

    reason = "holds a word"

    def __init__(self, word: str = "the") -> None:
        self.word = word

    def keep(self, row: ss.Example) -> bool:
        return self.word not in row.text.split()


class Failing(ss.RowFilter):
    def keep(self, row: ss.Example) -> bool:
        raise ValueError(f"no {row.label}")


class Odd(NoWord):
    def identity(self) -> Mapping[str, Any]:
        return {"word": object()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def call(world: World, out: Path, *filters: Any) -> ss.Run:
    return ss.synthesize(
        ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS}),
        validation=world.folder / "validation.csv",
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(str(world.folder / "student"), **STUDENT),
        method=ss.S3(**METHOD),
        filters=filters,
        cache=None,
        out=out,
        progress=False,
    )


def test_a_class_in_a_script_drops_rows_and_is_named_everywhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = call(world, tmp_path / "plain")
    word = plain.rows()[0]["text"].split()[1]
    run = call(world, tmp_path / "run", NoWord(word))
    assert not [row for row in run.rows() if word in row["text"].split()]
    assert "holds a word" in {row["dropped"] for row in run.rows(accepted=False)}
    assert run.results["methods"]["s3"]["dropped"]["holds a word"] > 0
    assert "holds a word" in run.report().read_text(encoding="utf-8")
    assert [dict(entry) for entry in run.config.filters] == [{"name": "NoWord", "options": {"word": word}}]
    assert plain.config.result_digest() != run.config.result_digest()
    assert "filters" not in json.loads((plain.path / "config.json").read_text())["config"], "as it was before there were any"
    assert call(world, tmp_path / "run", NoWord(word)).scores == run.scores
    with pytest.raises(ss.RunError, match="filters was"):
        call(world, tmp_path / "run", NoWord("another"))
    # A run that reads its config again finds a class that this program has defined, and no other.
    run_from_cli(run.config, tmp_path / "run", quiet=True)
    monkeypatch.setattr(FILTERS, "_defined", {})
    with pytest.raises(ss.ConfigError, match=r"filter 'NoWord' is not known\..*Define its class in this program first"):
        run_from_cli(run.config, tmp_path / "run", quiet=True)


def test_a_registered_one_runs_from_yaml_and_from_python(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("no-word", f"{__name__}:NoWord", FILTERS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point] if group == FILTERS.group else []))
    monkeypatch.setattr(EntryPoint, "load", lambda self: NoWord)
    word = call(world, tmp_path / "plain").rows()[0]["text"].split()[1]
    entry = {"name": "no-word", "options": {"word": word}}
    run = call(world, tmp_path / "python", entry)
    (tmp_path / "config.yaml").write_text(run.config.to_yaml(), encoding="utf-8")
    again = ss.load_config(tmp_path / "config.yaml").run(progress=False)
    assert (again.path / "dataset.jsonl").read_bytes() == (run.path / "dataset.jsonl").read_bytes()
    assert not [row for row in again.rows() if word in row["text"].split()]
    assert ss.load_config(tmp_path / "config.yaml", {"filters": ["no-word"]}).filters[0].options == {}
    with pytest.raises(ss.ConfigError, match=r"filter 'no-words' is not known\. Did you mean 'no-word'"):
        call(world, tmp_path / "typo", "no-words")
    with pytest.raises(ss.ConfigError, match=r"cannot be made with \{'words': 'x'\}: TypeError"):
        call(world, tmp_path / "options", {"name": "no-word", "options": {"words": "x"}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (NoWord, "which is not a filter. Give an instance."),
        (3, "filters has 3, which is not a filter."),
        (Odd(), "the identity of the filter 'Odd' is not JSON"),
    ],
)
def test_what_is_no_filter_is_one_line_before_anything_is_made(given: object, said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", given)
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_that_fails_names_itself_and_the_row_and_loses_nothing(world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.RunError, match="the filter 'Failing' failed on row 'round-0/seed"):
        call(world, tmp_path / "run", Failing())
    assert not ss.Run.load(tmp_path / "run").finished
