"""Base models that no student can be made of are told before a teacher is asked for anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stepsynth.errors import ConfigError
from stepsynth.students import checking
from stepsynth.students.checking import check_base
from tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def changed_config(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


@pytest.mark.parametrize("family", ["classification", "pair", "multi_label", "extractive_qa"])
def test_a_whole_encoder_passes_for_every_family(whole: Path, family: str) -> None:
    check_base(str(whole), whole, family)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (changed_config(model_type="whisper"), "type 'whisper'"),
        (changed_config(model_type="no-such-kind"), "no-such-kind"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (as_pickle, "model.safetensors is missing; pytorch_model.bin is not used"),
        (halved, "model.safetensors is damaged"),
        (without_a_shard, "model-00001-of-00002.safetensors is missing"),
        (without_tokenizer, "tokenizer.json and the like"),
    ],
    ids=["speech", "unknown", "config", "pickle", "cut-off", "shard", "tokenizer"],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    whole: Path, tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "base"))
    harm(folder)
    with pytest.raises(ConfigError) as caught:
        check_base(str(folder), folder, "classification")
    assert said in caught.value.message
    assert caught.value.message.startswith(f"student.model {str(folder)!r} cannot be loaded: ")
    assert "\n" not in str(caught.value)


def test_a_model_for_texts_may_have_no_form_for_questions(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "base"))
    changed_config(model_type="llama4_text")(folder)
    with pytest.raises(ConfigError, match="cannot be trained on questions"):
        check_base(str(folder), folder, "extractive_qa")


def test_a_hub_id_that_does_not_exist_here_or_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"student.model 'nobody/no-such-model' cannot be loaded"):
        check_base("nobody/no-such-model", "nobody/no-such-model", "classification")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors"}, ""),
        ({"model.safetensors.index.json"}, ""),
        ({"refs/pr/3:model.safetensors"}, ""),
        ({"pytorch_model.bin"}, "the repository has no model.safetensors."),
    ],
)
def test_weights_of_the_hub_are_looked_for_and_not_fetched(monkeypatch: pytest.MonkeyPatch, files: set[str], said: str) -> None:
    class Api:
        def list_repo_refs(self, repository: str, *, include_pull_requests: bool) -> object:
            refs = [type("Ref", (), {"ref": f"refs/pr/{number}"}) for number in (1, 3)]
            return type("Refs", (), {"pull_requests": refs})

    def has_file(repository: str, name: str, revision: str = "") -> bool:
        return (f"{revision}:{name}" if revision else name) in files

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("transformers.utils.has_file", has_file)
    assert checking._hub_weights("some/model") == said


def test_a_decoder_beside_the_encoder_is_told_before_anything_is_asked_for(whole: Path, tmp_path: Path) -> None:
    """The form that learns labels with a probe's head has no place for it; a fresh head has."""
    folder = Path(shutil.copytree(whole, tmp_path / "base"))
    changed_config(model_type="bart", is_encoder_decoder=True)(folder)
    check_base(str(folder), folder, "classification", "fresh")
    for head in ("probe", "probe-start"):
        with pytest.raises(ConfigError, match=r"a decoder beside its encoder, which needs student\.head: fresh\.") as caught:
            check_base(str(folder), folder, "classification", head)
        assert "\n" not in str(caught.value)
