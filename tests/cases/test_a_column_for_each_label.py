"""Tables with a column for each label, cells with labels in a list of their own, and descriptions that YAML makes of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest
from pydantic import ValidationError

from stepsynth.config import SourceConfig, TaskConfig
from stepsynth.data import load_source
from stepsynth.errors import DataError

LABELS = ["billing", "technical"]
WIDE = "text,billing,technical\nmy bill,1,0\nmy app,0,1\n"


def task(family: str) -> TaskConfig:
    return TaskConfig.model_validate({"family": family, "name": "t", "instruction": "Decide.", "labels": LABELS})


def refused(path: Path, family: str, **source: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_source(SourceConfig.model_validate({"path": path, **source}), task(family), role="validation", seed=0)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def table(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("multi_label", 'df["labels"] = df[["billing", "technical"]].apply(lambda row: "|".join(row.index[row == 1]), axis=1)'),
        ("classification", 'df["label"] = df[["billing", "technical"]].idxmax(axis=1)'),
    ],
)
def test_a_column_for_each_label_is_a_header_and_the_way_to_join_them_is_said(tmp_path: Path, family: str, how: str) -> None:
    path = table(tmp_path / "a.csv", WIDE)
    said = refused(path, family)
    assert "header" not in said
    assert "has no column 'label" in said
    assert how in said
    df = pandas.read_csv(path)
    exec(how)
    df.to_csv(path, index=False)
    rows = load_source(SourceConfig(path=path), task(family), role="validation", seed=0)
    assert [row.label for row in rows] == LABELS


def test_a_header_whose_text_column_has_another_name_is_no_row(tmp_path: Path) -> None:
    assert "has no column 'text'" in refused(table(tmp_path / "a.csv", WIDE.replace("text", "review")), "multi_label")


def test_rows_without_a_header_are_told_so(tmp_path: Path) -> None:
    for content in ("my bill,billing\nmy app,technical\n", "billing,technical\nmy app,technical\n"):
        assert "has no header" in refused(table(tmp_path / "a.csv", content), "classification")


@pytest.mark.parametrize("cell", ["billing;technical", "billing, technical"])
def test_labels_that_are_joined_otherwise_are_told_of_the_bar(tmp_path: Path, cell: str) -> None:
    said = refused(table(tmp_path / "a.csv", f'text,labels\nmy bill,"{cell}"\n'), "multi_label")
    assert "joined by '|': 'billing|technical'" in said
    assert "Did you mean" not in said


@pytest.mark.parametrize("described", [True, False])
def test_a_description_that_yaml_read_as_a_truth_value_is_refused(described: bool) -> None:
    with pytest.raises(ValidationError, match=r"description of label 'billing' is .*YAML reads yes, no, on and off .*quotes"):
        TaskConfig.model_validate({"name": "t", "instruction": "i", "labels": {"billing": described, "technical": None}})


def test_rows_of_a_program_have_and_a_file_has(tmp_path: Path) -> None:
    given = SourceConfig(path=Path("validation-ab.jsonl"), sample=30).holding([{"text": "my bill", "label": "billing"}])
    with pytest.raises(DataError, match=r"sample is 30, but the validation rows have 1 row\."):
        load_source(given, task("classification"), role="validation", seed=0)
    path = table(tmp_path / "a.csv", "text,label\nmy bill,billing\n")
    assert "a.csv' has 1 row." in refused(path, "classification", sample=30)
