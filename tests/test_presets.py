"""Presets: each parses, says the right things about its data set, and can be pointed at files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from stepsynth.config import RunConfig, load_config, parse_config
from stepsynth.data import SealedTest, load_validation
from stepsynth.errors import ConfigError
from stepsynth.presets import Preset, list_presets, write_new_folder, write_preset

ROOT = Path(__file__).parents[1] / "src" / "stepsynth" / "presets"
NAMES = [preset.name for preset in list_presets()]
ENTAILMENT = {"entailment", "not_entailment"}
# What the hub's columns of class integers call their classes, before any mapping; none for questions.
HUB_LABELS: dict[str, set[str]] = {
    "imdb": {"neg", "pos"},
    "qnli": ENTAILMENT,
    "rte": ENTAILMENT,
    "adqa": set(),
    "ag_news": {"World", "Sports", "Business", "Sci/Tech"},
}
# batch size, learning rate, epochs, warm-up steps, weight decay: the S3 paper's appendix.
PAPER_STUDENT = {
    "imdb": (8, 5e-6, 6, 100, 2e-8),
    "qnli": (32, 5e-6, 10, 300, 2e-8),
    "rte": (16, 1e-5, 20, 100, 1e-2),
    "adqa": (8, 1e-5, 10, 0, 1e-2),
}
# Files that the local form of a preset reads, below its folder.
FILES = {
    "imdb": ("imdb/train", "imdb/test"),
    "qnli": ("qnli/train", "qnli/dev"),
    "rte": ("rte/train", "rte/dev"),
    "adqa": ("adversarial_qa/dev_fit", "adversarial_qa/dev_eval"),
    "ag_news": ("ag_news/train", "ag_news/test"),
    "banking77": ("banking77/train", "banking77/test"),
}


def config_of(name: str, folder: Path, data_folder: Path | None = None) -> RunConfig:
    write_preset(name, folder, data_folder)
    return load_config(folder / "config.yaml")


def lend_files(folder: Path, name: str) -> Path:
    """Put empty files where the local form of a preset looks for them."""
    for stem in FILES[name]:
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.jsonl.gz").write_bytes(gzip.compress(b""))
    return folder


def test_every_file_beside_the_module_is_listed_once() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in ROOT.glob("*.yaml"))


@pytest.mark.parametrize("preset", list_presets(), ids=NAMES)
def test_a_preset_parses_and_is_of_the_listed_family(preset: Preset, tmp_path: Path) -> None:
    config = config_of(preset.name, tmp_path / "new")
    assert config.task.family == preset.family
    assert config.data.test is not None
    assert preset.title in (tmp_path / "new" / "config.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert (config.data.validation.hub or "") in preset.description


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_asks_for_a_small_validation_sample_of_the_training_split(name: str, tmp_path: Path) -> None:
    source = config_of(name, tmp_path / "new").data.validation
    assert source.split == "train"
    assert 300 <= (source.sample or 0) <= 500


@pytest.mark.parametrize("name", NAMES)
def test_the_test_split_is_another_one_and_drawn_the_same_for_every_seed(name: str, tmp_path: Path) -> None:
    data = config_of(name, tmp_path / "new").data
    assert data.test is not None
    assert data.test.split != data.validation.split
    assert data.test.hub == data.validation.hub
    assert (data.test.sample is None) == (data.test.seed is None)


@pytest.mark.parametrize("name", sorted(HUB_LABELS))
def test_the_hubs_labels_become_exactly_the_tasks(name: str, tmp_path: Path) -> None:
    config = config_of(name, tmp_path / "new")
    for source in (config.data.validation, config.data.test):
        assert source is not None
        assert {source.labels.get(label, label) for label in HUB_LABELS[name]} == set(config.task.labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_label_has_a_meaning_of_its_own(name: str, tmp_path: Path) -> None:
    meanings = list(config_of(name, tmp_path / "new").task.labels.values())
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_banking77_has_all_intents(tmp_path: Path) -> None:
    assert len(config_of("banking77", tmp_path / "new").task.labels) == 77


@pytest.mark.parametrize("name", sorted(PAPER_STUDENT))
def test_the_papers_presets_train_the_papers_student(name: str, tmp_path: Path) -> None:
    student = config_of(name, tmp_path / "new").student
    values = (student.batch_size, student.learning_rate, student.epochs, student.warmup, student.weight_decay)
    assert values == PAPER_STUDENT[name]
    assert (student.model, student.max_length) == ("distilbert/distilbert-base-uncased", 512)
    assert {preset.name for preset in list_presets() if preset.paper} == set(PAPER_STUDENT)


def test_questions_are_read_in_the_papers_windows(tmp_path: Path) -> None:
    assert config_of("adqa", tmp_path / "new").student.stride == 170


@pytest.mark.parametrize(("name", "written", "first"), [("rte", "hypothesis", "text2"), ("qnli", "question", "text1")])
def test_pairs_give_the_written_text_first_and_keep_the_other(name: str, written: str, first: str, tmp_path: Path) -> None:
    task = config_of(name, tmp_path / "new").task
    assert task.order[0] == first
    (field,) = (field for field in task.fields.values() if not field.context)
    assert field.name == written


@pytest.mark.parametrize("name", NAMES)
def test_the_commented_student_is_valid_in_the_place_of_the_other(name: str) -> None:
    text = (ROOT / f"{name}.yaml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("# student: {model: minilm-l6"))
    values: dict[str, Any] = yaml.safe_load(text)
    values.update(yaml.safe_load(line.removeprefix("# ")))
    assert parse_config(values).student.model == "minilm-l6"


@pytest.mark.parametrize("name", NAMES)
def test_the_commented_server_is_valid_in_the_place_of_the_embedded_teacher(name: str) -> None:
    text = (ROOT / f"{name}.yaml").read_text(encoding="utf-8")
    teacher = "".join(f"{line.removeprefix('  #   ')}\n" for line in text.splitlines() if line.startswith("  #   "))
    values: dict[str, Any] = yaml.safe_load(text)
    found = yaml.safe_load(teacher)
    found.pop("contexts", None)
    values["teacher"].update(found)
    assert parse_config(values).teacher.backend == "openai"


@pytest.mark.parametrize("name", NAMES)
def test_a_data_folder_turns_the_hubs_lines_into_the_files(name: str, tmp_path: Path) -> None:
    folder = lend_files(tmp_path / "sets: 'a' #1", name)
    hub, config = config_of(name, tmp_path / "hub"), config_of(name, tmp_path / "files", folder)
    lines = (tmp_path / "files" / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert [sum(line.startswith(f"  {key}: ") for line in lines) for key in ("validation", "test")] == [1, 1]
    found = []
    for source in (config.data.validation, config.data.test):
        assert source is not None
        assert source.hub is None
        found.append(source.path)
    assert found == [folder / f"{stem}.jsonl.gz" for stem in FILES[name]]
    assert config.data.validation.sample == hub.data.validation.sample
    assert config.data.test is not None
    assert hub.data.test is not None
    assert (config.data.test.sample, config.data.test.seed) == (hub.data.test.sample, hub.data.test.seed)
    assert (config.task, config.student, config.method) == (hub.task, hub.student, hub.method)


def test_a_data_folder_may_be_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preset("rte", tmp_path / "new", Path("${ELSEWHERE}/sets"))
    monkeypatch.setenv("ELSEWHERE", str(tmp_path))
    assert load_config(tmp_path / "new" / "config.yaml").data.validation.path == tmp_path / "sets/rte/train.jsonl.gz"


def test_a_missing_file_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'rte/train\.jsonl\.gz'"):
        write_preset("rte", tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_data_folder_with_a_dollar_in_its_path_is_refused(tmp_path: Path) -> None:
    folder = lend_files(tmp_path / "a$b", "rte")
    with pytest.raises(ConfigError, match=r"contains '\$'"):
        write_preset("rte", tmp_path / "new", folder)


def test_an_unknown_preset_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ag_news'"):
        write_preset("agnews", tmp_path / "new")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        write_new_folder(tmp_path, {"config.yaml": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_the_real_sets_load(name: str, tmp_path: Path) -> None:
    """Validation rows of every label in both halves, and a test set that can be inspected."""
    if not (root := os.environ.get("STEPSYNTH_DATA")):
        pytest.skip("STEPSYNTH_DATA names no folder with the real data sets")
    config = config_of(name, tmp_path / "new", Path(root))
    validation = load_validation(config)
    assert len(validation.harvest) + len(validation.select) >= 0.9 * (config.data.validation.sample or 0)
    for half in (validation.harvest, validation.select):
        assert {row.label for row in half} == (set(config.task.labels) or {""})
    info = SealedTest(config).inspect()
    assert info.n == (config.data.test.sample if config.data.test and config.data.test.sample else info.n)
    assert info.n > 200
    assert all(info.labels.values()), json.dumps(dict(info.labels))
