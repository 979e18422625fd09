"""``stepsynth review``: the labelled rows that a person should look at first, and the texts to label next."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import typer

from stepsynth.cli.prediction_files import plain_table, say_changed
from stepsynth.errors import ConfigError
from stepsynth.run.outputs import refuse_data_file, refuse_own_file
from stepsynth.runtime.counting import counted
from stepsynth.runtime.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig

__all__ = ["print_review", "write_review"]

_SHOWN = 20
_JUDGEMENT = frozenset({"student", "confidence", "teacher", "teacher_confidence"})
_WIDTH = 160


def write_review(
    rows: Sequence[dict[str, Any]], out: Path, config: RunConfig, *, pool: bool = False, exact: bool = False
) -> None:
    """Write the rows to a .csv or .jsonl file.

    Args:
        rows: from `stepsynth.Run.review`.
        out: the file.
        config: the run's.
        pool: whether they are texts of the pool, whose labels a person fills in: a file with such labels is not overwritten.
        exact: CSV: write every cell unchanged, even if a spreadsheet would run it.

    Raises:
        ConfigError: the file has another ending, belongs to a run, is one of ``config``'s data files, has labels that somebody
            filled in, or cannot be written.
    """
    refuse_own_file(out)
    refuse_data_file(out, config)
    if pool and _changed(out, list(rows[0]) if rows else []):
        raise ConfigError(
            f"{str(out)!r} is there, with labels or columns that stepsynth did not write: it was left as it is.",
            hint="Name another file.",
        )
    changed = 0
    if out.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif out.suffix == ".csv":
        text, changed = plain_table(rows, exact=exact)
    else:
        raise ConfigError(f"the list cannot be written to {str(out)!r}.", hint="Name a file that ends in .csv or .jsonl.")
    try:
        write_atomic(out, text)
    except OSError as error:
        raise ConfigError(f"{str(out)!r} cannot be written: {error.strerror}.", hint="Name another file.") from None
    say_changed(changed)


def _changed(file: Path, names: list[str]) -> bool:
    """Whether a file may hold a person's work: it is not a list with these columns and without any label."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines)) if file.suffix == ".csv" else [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, csv.Error):
        return True
    return any(not isinstance(row, dict) or list(row) != names or row.get("label") or row.get("labels") for row in rows)


def print_review(rows: Sequence[dict[str, Any]], *, pool: bool = False) -> None:
    """Print the first rows, one paragraph each.

    Args:
        rows: from `stepsynth.Run.review`.
        pool: whether they are texts of the pool instead of labelled rows.
    """
    if not rows:
        typer.echo("No label is in doubt: students that had not seen the rows, and the teacher if it was asked, agree with all.")
        return
    for row in rows[:_SHOWN]:
        typer.echo(_paragraph(row))
    more = len(rows) - _SHOWN
    end = f" {more:,} more: write all of them with --out FILE.csv." if more > 0 else ""
    asked = any(row["teacher"] is not None for row in rows)
    if pool:
        differs = "one to which the teacher gives another answer, " if asked else ""
        then = f"{differs}the one of which it is least sure, and a random one"
        typer.echo(f"\n{len(rows):,} texts to label next. A student of your labels has judged them; they alternate: {then}.{end}")
        typer.echo("Row 0 is the pool's first text; empty lines do not count.")
        return
    read = " or the teacher" if asked else ""
    typer.echo(f"\nTo {counted(len(rows), 'labelled row')} a student that had not seen them{read} gives another answer.{end}")
    typer.echo("Most doubts are the models' own mistakes: the order says where to look first. Row 0 is the file's first one.")


def _paragraph(row: dict[str, Any]) -> str:
    said = [f"student: {_shown(row['student'])} ({row['confidence']:.0%})"] if row["student"] is not None else []
    sure = "" if row.get("teacher_confidence") is None else f" ({row['teacher_confidence']:.0%})"
    said += [f"teacher: {_shown(row['teacher'])}{sure}"] if row["teacher"] is not None else []
    given = {name: value for name, value in row.items() if name not in (*_JUDGEMENT, "row")}
    fields = "; ".join(f"{name}: {_shown(value)}" for name, value in given.items() if value not in (None, "", []))
    return f"- row {row['row']:,}: {', '.join(said)}\n  {fields}"


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split()) or "none"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
