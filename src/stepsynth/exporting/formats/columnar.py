"""Parquet, and the folder that ``save_to_disk`` of `datasets` writes; labels are class numbers with their names beside them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepsynth.exporting.formats.base import DataFormat, features_of
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import datasets

    from stepsynth.exporting.tables import Table

__all__ = ["Parquet", "SavedByDatasets"]

_BATCH = 1000


class Parquet(DataFormat):
    """Parquet files; the names of the classes are in the metadata that `datasets` and stepsynth read."""

    name = "parquet"

    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write ``NAME.parquet``."""
        import pyarrow.parquet

        path = folder / self.data_files(table)
        path.parent.mkdir(exist_ok=True)
        features = features_of(table.columns, labels)
        with pyarrow.parquet.ParquetWriter(path, features.arrow_schema) as writer:
            for batch in _batches(table, features, labels):
                writer.write_batch(batch)

    def data_files(self, table: Table) -> str:
        """Return the file's name."""
        return f"{self.place(table)}.parquet"

    def loading(self) -> str:
        """Return code for `datasets` and pandas."""
        return (
            'datasets.load_dataset("FOLDER")\n'
            'pandas.read_parquet("FOLDER/train.parquet")  # labels are class numbers; their names are in this card'
        )


class SavedByDatasets(DataFormat):
    """A folder for ``datasets.load_from_disk``."""

    name = "datasets"

    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write the folder of one split, and the list of the splits of its group."""
        with importing():
            import datasets
        import pyarrow

        features = features_of(table.columns, labels)
        rows = pyarrow.Table.from_batches(_batches(table, features, labels), schema=features.arrow_schema)
        place = folder / self.place(table)
        place.parent.mkdir(exist_ok=True)
        with _no_bars(datasets):
            datasets.Dataset(rows, datasets.DatasetInfo(features=features)).save_to_disk(str(place))
        _list_split(place.parent, table.name)

    def data_files(self, table: Table) -> str:
        """Return the pattern of the Arrow files of a split."""
        return f"{self.place(table)}/*.arrow"

    def loading(self) -> str:
        """Return code for `datasets`."""
        return 'datasets.load_from_disk("FOLDER")  # of the hub: datasets.load_dataset("OWNER/NAME")'


def _list_split(folder: Path, name: str) -> None:
    """Add a split to the list that ``load_from_disk`` reads."""
    path = folder / "dataset_dict.json"
    splits = json.loads(path.read_text(encoding="utf-8"))["splits"] if path.is_file() else []
    path.write_text(json.dumps({"splits": [*splits, name]}), encoding="utf-8")


@contextmanager
def _no_bars(datasets: Any) -> Iterator[None]:
    """Let `datasets` draw no bars."""
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _batches(table: Table, features: datasets.Features, labels: Sequence[str]) -> Iterator[Any]:
    """Yield a table as Arrow batches, labels as numbers of their classes."""
    import pyarrow

    numbers = {label: number for number, label in enumerate(labels)}
    kinds = {column.name: column.kind for column in table.columns}
    schema = features.arrow_schema

    def value(kind: str, given: Any) -> Any:
        if kind == "label" and labels:
            return numbers[given]
        return [numbers[label] for label in given] if kind == "labels" and labels else given

    each = table.rows()
    while rows := list(islice(each, _BATCH)):
        columns = [[value(kind, row[name]) for row in rows] for name, kind in kinds.items()]
        arrays = [pyarrow.array(column, schema.field(name).type) for name, column in zip(kinds, columns, strict=True)]
        yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)
