"""CSV and JSON lines."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from stepsynth.exporting.formats.base import DataFormat, features_of, features_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.exporting.tables import Column, Table

__all__ = ["Csv", "JsonLines"]


class Csv(DataFormat):
    """Comma-separated values in UTF-8; lists and mappings are JSON in their cells, and no text is changed."""

    name = "csv"

    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write ``NAME.csv``."""
        del labels
        path = folder / self.data_files(table)
        path.parent.mkdir(exist_ok=True)
        names = [column.name for column in table.columns]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([_cell(row[name]) for name in names] for row in table.rows())

    def data_files(self, table: Table) -> str:
        """Return the file's name."""
        return f"{self.place(table)}.csv"

    def settings(self, columns: Sequence[Column], labels: Sequence[str]) -> dict[str, Any]:
        """Return the types: without them, readers guess that a label called 1 is a number and a text NA is missing."""
        features = features_of(columns, labels, flat=True)
        return {"keep_default_na": False, "features": features_yaml(features)}

    def loading(self) -> str:
        """Return code for `datasets` and pandas."""
        return (
            'datasets.load_dataset("FOLDER")\n'
            'pandas.read_csv("FOLDER/train.csv", keep_default_na=False)  # lists and answers are JSON: json.loads(cell)'
        )


class JsonLines(DataFormat):
    """One JSON object per line, labels by name."""

    name = "jsonl"

    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write ``NAME.jsonl``."""
        del labels
        path = folder / self.data_files(table)
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.rows())

    def data_files(self, table: Table) -> str:
        """Return the file's name."""
        return f"{self.place(table)}.jsonl"

    def settings(self, columns: Sequence[Column], labels: Sequence[str]) -> dict[str, Any]:
        """Return the types, labels as classes."""
        return {"features": features_yaml(features_of(columns, labels))}

    def loading(self) -> str:
        """Return code for `datasets` and pandas."""
        return 'datasets.load_dataset("FOLDER")\npandas.read_json("FOLDER/train.jsonl", lines=True, dtype=False)'


def _cell(value: object) -> object:
    return value if isinstance(value, str | int) else json.dumps(value, ensure_ascii=False)
