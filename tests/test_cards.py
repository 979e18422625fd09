"""Cards: the hub's own classes read them, they say what the run's record says, and nothing private is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, EvalResult, ModelCard

from family_worlds import FAMILIES
from finished_runs import run_directory
from stepsynth.config import parse_config
from stepsynth.exporting import Wanted, export_run
from stepsynth.exporting import facts as gathering
from stepsynth.exporting.facts import Facts
from stepsynth.exporting.sections import code, plain
from stepsynth.report.derived import build_results
from stepsynth.run.existing import open_journal
from stepsynth.run.public import public_config, public_name, public_server


@pytest.mark.parametrize("family", FAMILIES)
def test_both_cards_of_every_family_are_valid_and_agree_with_the_run(family: str, tmp_path: Path) -> None:
    directory = run_directory(family)
    written = export_run(directory, tmp_path / "out", Wanted("parquet", "safetensors", repository="anna/rows"))
    assert written.data is not None
    assert written.student is not None
    journal = open_journal(directory)
    (method,) = build_results(journal, directory)["methods"].values()
    journal.close()
    stages = [stage for stage in method["stages"] if stage["kind"] != "rationales"]
    requested, accepted = (sum(stage[key] for stage in stages) for key in ("requested", "accepted"))

    dataset, model = DatasetCard.load(written.data / "README.md"), ModelCard.load(written.student / "README.md")
    told = dataset.data.to_dict()
    kind = "question-answering" if family == "extractive_qa" else "text-classification"
    assert told["task_categories"] == [kind]
    assert [config["config_name"] for config in told["configs"]] == ["default", "references"]
    counts = f"{requested:,} rows were requested: {accepted:,} were accepted and {requested - accepted:,} dropped."
    for card in (dataset, model):
        assert counts in card.text
        assert "2310.13671" in card.text
        for section in ("Task", "Models and licences", "How the rows were made", "Scores", "Warnings", "Limits", "Citation"):
            assert f"\n## {section}\n" in card.text, section
        for reason in method["dropped"]:
            assert f"| {reason} |" in card.text
        for label, meaning in directory.config.task.labels.items():
            assert f"| {label} | {meaning} |" in card.text
        assert str(directory.path.parents[2]) not in card.content
        assert "check the" in card.text
    (result,) = model.data.eval_results or []
    assert isinstance(result, EvalResult)
    assert (result.task_type, result.dataset_split) == (kind, "test")
    assert (result.metric_type, result.metric_value) == (method["test"]["metric"], method["test"]["value"])
    assert model.data.to_dict()["datasets"] == ["anna/rows"]
    # The small test set is a warning of the page, too.
    assert "The test set is small (n = 10)" in dataset.text


def config(**changes: Any) -> Any:
    task = {"name": "t", "instruction": "/ Decide.", "labels": {"a": "one", "b": "two"}}
    data = {"validation": {"path": "/data/anna/secret/labelled.csv"}, "test": {"hub": "owner/set"}}
    return parse_config({"task": task, "data": data, **changes})


def test_a_published_config_has_no_path_no_header_and_no_private_server() -> None:
    teacher = {
        "backend": "openai",
        "model": "/models/anna/big.gguf",
        "base_url": "http://10.1.2.3:8000/v1",
        "headers": {"X-Team": "blue"},
        "api_key_env": "MY_KEY",
    }
    values = public_config(config(teacher=teacher, student={"model": "/models/anna/small"}, cache="/data/anna/answers.db"))
    text = json.dumps(values)
    assert not [word for word in ("anna", "10.1.2.3", "X-Team", "secret", "answers") if word in text]
    assert values["data"]["validation"]["path"] == "labelled.csv"
    assert values["data"]["test"]["hub"] == "owner/set"
    assert (values["teacher"]["model"], values["student"]["model"]) == ("big.gguf", "small")
    assert values["task"]["instruction"] == "/ Decide."
    assert parse_config(values).teacher.model == "big.gguf"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.example.com/v1?api-version=1", "https://api.example.com/v1"),
        ("http://127.0.0.1:8000/v1", ""),
        ("http://gpu-box:8000/v1", ""),
        ("https://models.corp.internal/v1", ""),
        (None, ""),
    ],
)
def test_addresses(address: str | None, shown: str) -> None:
    assert public_server(address) == shown


def test_names_and_hostile_texts() -> None:
    assert [public_name(name) for name in ("owner/name", "/a/b", "./x/y", "~/m", "minilm-l6")] == [
        "owner/name",
        "b",
        "y",
        "m",
        "minilm-l6",
    ]
    assert plain("a|b\n<script>") == "a\\|b \\<script\\>"
    assert code("```\nx", "yaml").startswith("````yaml\n")


def test_a_card_names_no_filter_that_was_off(tmp_path: Path) -> None:
    written = export_run(run_directory("classification"), tmp_path / "out", Wanted("jsonl"))
    assert written.data is not None
    text = (written.data / "README.md").read_text(encoding="utf-8")
    assert "*duplicate*" in text
    assert "*near duplicate*" not in text
    assert "*read otherwise*" not in text


def _no_worth(facts: Facts, **changes: Any) -> dict[str, Any]:
    return {**{key: value for key, value in facts.method.items() if key != "worth"}, **changes}


@pytest.mark.parametrize("case", ["annotated", "never from mistakes", "labels alone", "gold", "no test"])
def test_cards_say_only_what_the_run_did(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real people's texts are not called written, and a student of labels alone learned from no teacher."""

    def other(facts: Facts) -> Facts:
        teacher = facts.config.teacher.model_copy(update={"backend": "openai", "model": "some-model"})
        facts = replace(facts, config=facts.config.model_copy(update={"teacher": teacher}))
        first = facts.stages
        facts = replace(facts, stages=[*first, {**first[0], "stage": "round-1/extrapolate"}])
        return {
            "annotated": lambda: replace(facts, trains="crossfit", kinds={"annotate": 9}, stages=first),
            "never from mistakes": lambda: replace(facts, trains="written", stages=first),
            "labels alone": lambda: replace(facts, trains="crossfit", method=_no_worth(facts, worth={"chosen": "labels"})),
            "gold": lambda: replace(facts, trains="gold", kinds={}, method=_no_worth(facts)),
            "no test": lambda: replace(facts, method=_no_worth(facts, test=None)),
        }[case]()

    original = gathering.gather_facts
    monkeypatch.setattr(gathering, "gather_facts", lambda *arguments: other(original(*arguments)))
    written = export_run(run_directory("classification"), tmp_path / "out", Wanted("csv", "safetensors"))
    assert written.data is not None
    assert written.student is not None
    dataset, model = (DatasetCard.load(folder / "README.md") for folder in (written.data, written.student))
    wrote, steered = "A language model wrote these texts.", "decided what it wrote next"
    assert (wrote in dataset.text) == (case != "annotated")
    assert dataset.data.to_dict()["language_creators"] == (["found"] if case == "annotated" else ["machine-generated"])
    assert (steered in dataset.text) == (case not in ("annotated", "never from mistakes"))
    assert ("No mistake on the harvest half decided" in dataset.text) == (case == "never from mistakes")
    assert ("from no row that a large language model wrote" in model.text) == (case in ("labels alone", "gold"))
    assert ("The scores hold for texts like those of the test set" in model.text) == (case != "no test")
