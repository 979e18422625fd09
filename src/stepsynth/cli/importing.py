"""``import``: turn existing synthetic data into a run's seed file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.config import load_config
from stepsynth.data.importing import import_rows
from stepsynth.errors import ConfigError
from stepsynth.run.outputs import refuse_data_file, refuse_own_file
from stepsynth.runtime.files import refuse_input, write_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["import_files"]


def import_files(
    files: Sequence[Path],
    config: Path,
    out: Path,
    *,
    columns: Mapping[str, str],
    labels: Mapping[str, str],
    reading: Mapping[str, str],
) -> dict[str, Any]:
    """Write the rows of some files as JSONL with the columns of a config's task; return counts.

    Args:
        files: in any supported format.
        config: the task.
        out: the file to write.
        columns: our column name -> the file's.
        labels: the file's label -> ours.
        reading: how to read the files: ``delimiter``, ``encoding``, ``sheet``.

    Raises:
        UserError: a file, a column or a label does not fit.
    """
    refuse_input(out, [*files, config])
    refuse_own_file(out)
    if out.suffix.lower() not in ("", ".jsonl", ".json", ".ndjson"):
        raise ConfigError(f"--out is {str(out)!r}, but the output is JSON Lines.", hint="Use a name that ends in .jsonl.")
    given = load_config(config)
    refuse_data_file(out, given)
    found = import_rows(files, given.task, columns=columns, labels=labels, reading=reading)
    write_out(out, found.content)
    return {
        "rows": len(found.rows),
        "labels": dict(found.labels),
        "dropped": dict(found.dropped),
        "problems": found.problems(),
    }
