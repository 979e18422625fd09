"""The part of rows given from Python that a run keeps: only the columns that its task reads."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepsynth.data.columns import Columns
from stepsynth.data.examples import kept_field, wanted_columns
from stepsynth.errors import UserError
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stepsynth.config import TaskConfig

__all__ = ["is_kept_name", "kept_file_fault", "kept_name", "read_columns"]

_NAME = re.compile(r"(?:validation|test|contexts|seed|pool)-([0-9a-f]{12})\.jsonl")


def read_columns(
    rows: Sequence[dict[str, object]], task: TaskConfig, named: Mapping[str, str], role: str
) -> Sequence[dict[str, object]]:
    """Return rows with only the task's columns; unchanged if a column is missing, which the reader reports.

    Args:
        rows: the given rows.
        task: defines the columns.
        named: our name -> the rows' name.
        role: key of the source in the config's ``data``.
    """
    try:
        if role == "contexts":
            columns = Columns((tuple(dict.fromkeys(("context", kept_field(task) or "context"))),), (), named)
        else:
            columns = wanted_columns(task, named, role, labelled=role != "pool")
        return [{theirs: row[theirs] for theirs in columns.pick(row, role).values()} for row in rows]
    except UserError:
        return rows


def kept_name(role: str, rows: Sequence[dict[str, object]]) -> str:
    """Return the file name under which a run keeps rows; it holds a digest, so that changed rows get another file."""
    return f"{role}-{digest(rows)[:12]}.jsonl"


def is_kept_name(name: str) -> bool:
    """Whether a file name has the form of `kept_name`."""
    return _NAME.fullmatch(name) is not None


def kept_file_fault(path: Path) -> str:
    """Return the fault of a file of kept rows; empty if it matches its name, or is not such a file."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            rows: list[Any] = [json.loads(line) for line in file]
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is damaged: it is not complete JSON"
    return "" if digest(rows)[:12] == named[1] else "is damaged: its rows do not match the digest in its name"
