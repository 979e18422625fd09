"""``import``: existing synthetic data into a run's seed file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.config import load_config
from stepsynth.data.importing import import_rows
from stepsynth.errors import ConfigError
from stepsynth.run import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["import_files"]


def import_files(
    files: Sequence[Path], config: Path, out: Path, *, columns: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Write the rows of some files as JSONL in the columns of a config's task; return counts.

    Raises:
        UserError: a file, a column or a label that does not fit.
    """
    found = import_rows(files, load_config(config).task, columns=columns, labels=labels)
    try:
        write_atomic(out, found.content)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r}: {error.strerror}.", hint="Name a file in an existing folder.") from None
    return {
        "rows": len(found.rows),
        "labels": dict(found.labels),
        "dropped": dict(found.dropped),
        "problems": found.problems(),
    }
