"""The interface of a data format, and the columns in the words of `datasets`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import datasets

    from stepsynth.exporting.tables import Column, Table, Tables
    from stepsynth.tasks import TaskFamily

__all__ = ["DataFormat", "features_of", "features_yaml"]


class DataFormat(ABC):
    """A way to write tables into a folder.

    Attributes:
        name: its name in commands.
    """

    name: ClassVar[str]

    def problem(self, family: TaskFamily) -> str:
        """Return why rows of a family do not fit, as the end of a sentence; empty if they do."""
        del family
        return ""

    @abstractmethod
    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write one table.

        Args:
            table: the rows.
            folder: exists.
            labels: the task's labels.
        """

    @abstractmethod
    def data_files(self, table: Table) -> str:
        """Return the files that ``datasets.load_dataset`` should read for a table, relative to the folder."""

    def settings(self, columns: Sequence[Column], labels: Sequence[str]) -> dict[str, Any]:
        """Return further keys of the configuration of these columns in a dataset card."""
        del columns, labels
        return {}

    @abstractmethod
    def loading(self) -> str:
        """Return Python code that reads the exported folder, for the card."""

    def configs(self, tables: Tables) -> list[dict[str, Any]]:
        """Return ``configs`` of a dataset card: one per group of tables, each with its splits and files."""
        found = []
        for group in dict.fromkeys(table.group for table in tables.tables):
            members = tables.of_group(group)
            files = [{"split": table.name, "path": self.data_files(table)} for table in members]
            # Folders with equal configurations would share one place in the cache of `datasets`, with the rows of the first.
            told = f"sha256 of the rows: {tables.digest(group)}"
            settings = self.settings(members[0].columns, tables.labels)
            config = {"config_name": group, "description": told, "data_files": files, **settings}
            found.append({**config, **({"default": True} if group == "default" else {})})
        return found

    def place(self, table: Table) -> str:
        """Return the name of a table's file without its ending; other groups than the default one have a folder."""
        return table.name if table.group == "default" else f"{table.group}/{table.name}"


def features_of(columns: Sequence[Column], labels: Sequence[str], *, flat: bool = False) -> datasets.Features:
    """Return columns as features of `datasets`, labels as ``ClassLabel``.

    Args:
        columns: the columns.
        labels: names of the classes.
        flat: the file has texts in place of lists and mappings.
    """
    with importing():
        import datasets

    text = datasets.Value("string")
    kinds = {
        "text": text,
        "number": datasets.Value("int64"),
        "label": datasets.ClassLabel(names=list(labels)) if labels else text,
    }
    if flat:
        kinds |= {"labels": text, "answers": text}
    else:
        spans = {"text": datasets.List(text), "answer_start": datasets.List(datasets.Value("int32"))}
        kinds |= {"labels": datasets.List(kinds["label"]), "answers": spans}
    return datasets.Features({column.name: kinds[column.kind] for column in columns})


def features_yaml(features: datasets.Features) -> Any:
    """Return features as a dataset card writes them."""
    with importing():
        import datasets
        from huggingface_hub import DatasetCardData

    data: Any = DatasetCardData()
    datasets.info.DatasetInfosDict({"default": datasets.DatasetInfo(features=features)}).to_dataset_card_data(data)
    return data.to_dict()["dataset_info"]["features"]
