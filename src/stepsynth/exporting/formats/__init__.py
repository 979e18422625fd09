"""The formats of exported rows, by name; a new one is a class and a line here.

chosen_format("parquet", family).write(table, folder, labels)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.exporting.formats.base import DataFormat
from stepsynth.exporting.formats.columnar import Parquet, SavedByDatasets
from stepsynth.exporting.formats.squad import Squad
from stepsynth.exporting.formats.text import Csv, JsonLines

if TYPE_CHECKING:
    from stepsynth.tasks import TaskFamily

__all__ = ["DATA_FORMATS", "DataFormat", "chosen_format"]

DATA_FORMATS: dict[str, type[DataFormat]] = {
    "csv": Csv,
    "jsonl": JsonLines,
    "parquet": Parquet,
    "datasets": SavedByDatasets,
    "squad": Squad,
}


def chosen_format(name: object, family: TaskFamily) -> DataFormat:
    """Return a format.

    Args:
        name: its name in `DATA_FORMATS`.
        family: the task's family.

    Raises:
        ConfigError: there is no such format, or it cannot hold rows of this family.
    """
    if not isinstance(name, str) or name not in DATA_FORMATS:
        raise ConfigError(f"the data format {name!r} is not known.", hint=did_you_mean(name, DATA_FORMATS))
    made = DATA_FORMATS[name]()
    if problem := made.problem(family):
        raise ConfigError(f"the data format {name!r} {problem}.", hint=did_you_mean("", set(DATA_FORMATS) - {name}))
    return made
