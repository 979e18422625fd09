"""``import``: existing synthetic data into a run's seed file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.config import load_config
from stepsynth.data.importing import import_rows
from stepsynth.errors import ConfigError
from stepsynth.run import refuse_input, write_out

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
    """Write the rows of some files as JSONL in the columns of a config's task; return counts.

    Args:
        files: of any form that data may have.
        config: the task.
        out: the file to write.
        columns: our name -> theirs.
        labels: their label -> ours.
        reading: how the files are read: ``delimiter``, ``encoding``, ``sheet``.

    Raises:
        UserError: a file, a column or a label that does not fit.
    """
    refuse_input(out, [*files, config])
    if out.suffix.lower() not in ("", ".jsonl", ".json", ".ndjson"):
        raise ConfigError(f"--out is {str(out)!r}, and JSON Lines are written.", hint="End it in .jsonl.")
    found = import_rows(files, load_config(config).task, columns=columns, labels=labels, reading=reading)
    write_out(out, found.content)
    return {
        "rows": len(found.rows),
        "labels": dict(found.labels),
        "dropped": dict(found.dropped),
        "problems": found.problems(),
    }
