"""Columnar data: Parquet, Arrow and Feather files, folders that `datasets` saved, data sets on the hub.

Class integers (``ClassLabel``) become the class names, whether these come from `datasets` or from the
metadata that `datasets` wrote into the file. Missing values are nulls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.config import SourceConfig
from stepsynth.data.columns import Columns, RawRow, Tally, describe, shown
from stepsynth.errors import DataError, did_you_mean
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    import datasets

__all__ = ["is_saved_folder", "read_arrow", "read_hub", "read_parquet", "read_saved_folder", "stored_types"]

_BATCH = 1024
_LABELS = ("label", "labels")


def read_parquet(path: Path, columns: Columns, tally: Tally, mapped: Mapping[str, str]) -> Generator[RawRow, None, None]:
    """Yield the rows of a Parquet file; ``mapped`` holds the label values that the config maps."""
    import pyarrow.parquet

    name = repr(str(path))
    with _unreadable(name, "Parquet"), pyarrow.parquet.ParquetFile(path) as file:
        picked = columns.pick(file.schema_arrow.names, name)
        batches = file.iter_batches(batch_size=_BATCH, columns=list(picked.values()))
        yield from _rows(batches, file.schema_arrow, picked, tally, mapped, columns.everything)
        _refuse_lost(tally.rows, file.metadata.num_rows, name)


def read_arrow(path: Path, columns: Columns, tally: Tally, mapped: Mapping[str, str]) -> Generator[RawRow, None, None]:
    """Yield the rows of an Arrow file (Feather, or a stream as `datasets` writes it)."""
    import pyarrow
    import pyarrow.feather

    name = repr(str(path))
    with _unreadable(name, "Arrow"), open(path, "rb") as handle:
        start = handle.read(6)
        handle.seek(0)
        if start.startswith(b"FEA1"):
            table = pyarrow.feather.read_table(path)
            schema, batches = table.schema, iter(table.to_batches(_BATCH))
        elif start == b"ARROW1":
            file = pyarrow.ipc.open_file(handle)
            schema, batches = file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            stream = pyarrow.ipc.open_stream(handle)
            schema, batches = stream.schema, iter(stream)
        picked = columns.pick(schema.names, name)
        wanted = list(picked.values())
        yield from _rows((batch.select(wanted) for batch in batches), schema, picked, tally, mapped, columns.everything)


def stored_types(path: Path) -> dict[str, Any]:
    """Return the type of each column of a Parquet or Arrow file, as pyarrow names it; empty for other files."""
    import pyarrow.feather
    import pyarrow.parquet

    name, suffix = repr(str(path)), path.suffix.lower()
    if suffix == ".parquet":
        with _unreadable(name, "Parquet"):
            schema = pyarrow.parquet.read_schema(path)
    elif suffix in (".arrow", ".feather"):
        with _unreadable(name, "Arrow"), open(path, "rb") as handle:
            start = handle.read(6)
            handle.seek(0)
            if start.startswith(b"FEA1"):
                schema = pyarrow.feather.read_table(path).schema
            else:
                schema = (pyarrow.ipc.open_file if start == b"ARROW1" else pyarrow.ipc.open_stream)(handle).schema
    else:
        return {}
    return {field.name: field.type for field in schema}


@contextmanager
def _unreadable(name: str, kind: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{name} is not a readable {kind} file: {shown(str(error), 120)}.", hint="Write it again, or save the rows as JSONL."
        ) from None


def _refuse_lost(read: int, told: int, name: str) -> None:
    if read != told:
        raise DataError(f"{name} should have {told:,} rows, but {read:,} could be read.", hint="Write it again.")


def _rows(
    batches: Iterator[Any], schema: Any, picked: Mapping[str, str], tally: Tally, mapped: Mapping[str, str], everything: bool
) -> Iterator[RawRow]:
    features = _features(schema)
    # Where all columns are read, the labels' column may have any name.
    names = {ours: _names_in(features.get(picked[ours])) for ours in picked if everything or ours in _LABELS}
    for batch in batches:
        table = batch.to_pydict()
        for row in zip(*(table[theirs] for theirs in picked.values()), strict=True):
            tally.took(0, 1)
            yield RawRow(0, _named(dict(zip(picked, row, strict=True)), names, mapped))


def _features(schema: Any) -> dict[str, Any]:
    """Return the column features that `datasets` wrote into a schema's metadata; empty if there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _names_in(feature: Any) -> list[str] | None:
    """Return the class names of a column of class integers, or of lists of them, from the JSON of `datasets`."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    if isinstance(names, dict):
        # As in a data card: {"0": "technical", "1": "billing"}.
        numbers = {int(key): name for key, name in names.items() if str(key).isascii() and str(key).isdigit()}
        complete = len(numbers) == len(names) and sorted(numbers) == list(range(len(names)))
        names = [numbers[number] for number in sorted(numbers)] if complete else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _named(values: dict[str, object], names: Mapping[str, Sequence[str] | None], mapped: Mapping[str, str]) -> dict[str, object]:
    for ours, known in names.items():
        value = values[ours]
        if known is not None:
            many = isinstance(value, list)
            values[ours] = [_class_name(item, known, mapped) for item in value] if many else _class_name(value, known, mapped)  # type: ignore[attr-defined]
    return values


def _class_name(label: object, names: Sequence[str], mapped: Mapping[str, str]) -> object:
    if not isinstance(label, int) or isinstance(label, bool):
        return label
    if not 0 <= label < len(names):
        return None
    # A mapping may use the integers, because the hub's viewer and most code show those.
    return label if str(label) in mapped and names[label] not in mapped else names[label]


def is_saved_folder(folder: Path) -> bool:
    """Whether a folder was written by the ``save_to_disk`` of `datasets`."""
    return os.path.isfile(folder / "dataset_dict.json") or os.path.isfile(folder / "state.json")


def read_saved_folder(source: SourceConfig, folder: Path, columns: Columns, tally: Tally) -> Generator[RawRow, None, None]:
    """Yield the rows of a folder that `datasets` saved."""
    return _hub_rows(_loaded(source, folder), source, columns, tally)


def read_hub(source: SourceConfig, columns: Columns, tally: Tally) -> Generator[RawRow, None, None]:
    """Yield the rows of a data set on the hub, or of a folder that `datasets` can load."""
    return _hub_rows(_loaded(source, source.folder), source, columns, tally)


def _hub_rows(data: datasets.Dataset, source: SourceConfig, columns: Columns, tally: Tally) -> Generator[RawRow, None, None]:
    picked = columns.pick(data.column_names, describe(source))
    names = {ours: _class_names(data.features[picked[ours]]) for ours in _LABELS if ours in picked}
    # A saved data set may be set to give tensors or arrays.
    for batch in data.with_format(None).select_columns(list(picked.values())).iter(batch_size=_BATCH):
        for row in zip(*(batch[theirs] for theirs in picked.values()), strict=True):
            tally.took(0, 1)
            yield RawRow(0, _named(dict(zip(picked, row, strict=True)), names, source.labels))
    _refuse_lost(tally.rows, len(data), describe(source))


def _loaded(source: SourceConfig, folder: Path | None) -> datasets.Dataset:
    with importing():
        import datasets

    try:
        if folder is not None and is_saved_folder(folder):
            data = datasets.load_from_disk(str(folder))
            if isinstance(data, datasets.DatasetDict):
                if source.split not in data:
                    raise DataError(
                        f"{describe(source)} has no split {source.split!r}.",
                        hint=did_you_mean(source.split, list(map(str, data))),
                    )
                data = data[source.split]
            return data
        if folder is not None:
            return _loaded_folder(source, folder)
        return datasets.load_dataset(source.hub, name=source.config, revision=source.revision, split=source.split)
    except DataError:
        raise
    # Errors of the hub stack come from five packages and have no common base class.
    except Exception as error:
        raise DataError(
            f"cannot load {describe(source)}: {type(error).__name__}: {shown(str(error), 160)}.",
            hint="Check id, config, split and network; or save the rows as a file and give its 'path' instead of 'hub'.",
        ) from None


def _loaded_folder(source: SourceConfig, folder: Path) -> datasets.Dataset:
    with importing():
        import datasets

    if not os.path.isdir(folder):
        raise DataError(
            f"the folder {str(folder)!r} (hub: {source.hub}) does not exist.",
            hint="A relative folder starts beside the config. Write the id of a data set, or 'path' for a file.",
        )
    options: dict[str, Any] = {"name": source.config, "split": source.split}
    builder = datasets.load_dataset_builder(str(folder), name=source.config)
    # Keep the words of a table: a label may well be called None or NA.
    if hasattr(builder.config, "keep_default_na"):
        options |= {"keep_default_na": False, "na_values": [""]}
    return datasets.load_dataset(str(folder), **options)


def _class_names(feature: object) -> list[str] | None:
    """Return the class names of a column of class integers, or of lists of them."""
    names: list[str] | None = getattr(feature, "names", getattr(getattr(feature, "feature", None), "names", None))
    return names
