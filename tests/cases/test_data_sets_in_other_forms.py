"""Rows as notebooks have them: data sets set to tensors or arrays, tables of pyarrow, missing values, class numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from stepsynth.config import SourceConfig, TaskConfig
from stepsynth.data import import_rows, load_source
from stepsynth.data.given import rows_of
from stepsynth.errors import DataError

datasets = pytest.importorskip("datasets")

# In the order of texts, as class_encode_column sorts them: the number of a class is not its name.
LABELS = ["0", "1", "10", "11", "2", "3"]
TASK = TaskConfig(name="t", instruction="Decide.", labels=dict.fromkeys(LABELS, ""))
QUESTIONS = TaskConfig(name="q", instruction="Answer.", family="extractive_qa")


def rows_in(data: object) -> list[dict[str, Any]]:
    found = rows_of(data, "validation")
    assert found is not None
    return found


def made(column: str = "label") -> Any:
    features = datasets.Features({"text": datasets.Value("string"), column: datasets.ClassLabel(names=LABELS)})
    return datasets.Dataset.from_dict({"text": [f"a text of {name}" for name in LABELS], column: LABELS}, features=features)


def right(rows: Any, column: str = "label") -> bool:
    return [(row["text"], row[column]) for row in rows] == [(f"a text of {name}", name) for name in LABELS]


@pytest.mark.parametrize("form", [None, "numpy", "torch", "pandas", "arrow"])
def test_class_numbers_are_names_however_a_data_set_gives_its_rows(form: str | None, tmp_path: Path) -> None:
    data = made().with_format(form)
    assert right(rows_in(data))
    data.save_to_disk(tmp_path / "saved")
    found = load_source(SourceConfig(path=tmp_path / "saved"), TASK, role="validation", seed=0)
    assert [(row.text, row.label) for row in found] == [(f"a text of {name}", name) for name in LABELS]


@pytest.mark.parametrize("column", ["label", "Y", "intent"])
def test_an_import_reads_class_numbers_in_a_column_of_any_name(column: str, tmp_path: Path) -> None:
    made(column).to_parquet(tmp_path / "rows.parquet")
    found = import_rows([tmp_path / "rows.parquet"], TASK, columns={} if column == "Y" else {"label": column})
    assert right(map(json.loads, found.content.splitlines()))


def test_an_import_takes_the_task_s_own_column_whatever_its_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Text,content,Label\nthe text,an advert,10\n")
    assert json.loads(import_rows([tmp_path / "a.csv"], TASK).content) == {"text": "the text", "label": "10"}
    (tmp_path / "b.csv").write_text("content,review,sentence,Y\nthird,second,first,10\n")
    assert json.loads(import_rows([tmp_path / "b.csv"], TASK).content) == {"text": "first", "label": "10"}


def test_a_table_of_pyarrow_has_the_names_of_its_columns() -> None:
    empty = pyarrow.array([None, None], pyarrow.string())
    table = pyarrow.table({"text": ["a", "b"], "label": ["0", "1"], "note": empty, "more": empty})
    for data in (table, table.to_batches()[0]):
        assert [(row["text"], row["label"]) for row in rows_in(data)] == [("a", "0"), ("b", "1")]
    names = ["text", "label", "label"]
    twice = pyarrow.Table.from_arrays([pyarrow.array([name]) for name in names], names)
    with pytest.raises(DataError, match="more than one column 'label'"):
        rows_of(twice, "validation")


def test_pandas_missing_value_is_missing_in_dicts_too() -> None:
    assert [row["text"] for row in rows_in([{"text": pandas.NA, "label": "0"}])] == [None]
    given = {"text": ["a", "b"], "label": pandas.array([1, pandas.NA], dtype="Int64")}
    assert [row["label"] for row in rows_in(given)] == [1, None]


def test_one_question_in_a_json_file_is_a_row(tmp_path: Path) -> None:
    question = {"context": "It rained on Monday.", "question": "When?", "answers": [{"text": "Monday", "answer_start": 13}]}
    (tmp_path / "one.json").write_text(json.dumps(question))
    (row,) = load_source(SourceConfig(path=tmp_path / "one.json"), QUESTIONS, role="validation", seed=0)
    assert (row.text, row.answers[0].text) == ("When?", "Monday")
    # A table by columns stays one.
    (tmp_path / "two.json").write_text(json.dumps({"text": ["a", "b"], "label": ["0", "1"]}))
    assert len(load_source(SourceConfig(path=tmp_path / "two.json"), TASK, role="validation", seed=0)) == 2
