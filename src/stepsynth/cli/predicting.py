"""``predict``: a run's student on a user's file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from stepsynth.data import load_texts
from stepsynth.errors import ConfigError, RunError
from stepsynth.journal import Journal
from stepsynth.loop import best_round
from stepsynth.run import RunDirectory, write_atomic
from stepsynth.students import create_student
from stepsynth.tasks import create_family, split_labels

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import TaskConfig
    from stepsynth.types import Example, Prediction

__all__ = ["parse_columns", "predict_file"]

# A spreadsheet runs a cell that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_INPUTS = ("text", "text1", "text2", "context", "question")


def parse_columns(options: Sequence[str]) -> dict[str, str]:
    """Return our name -> the file's column, of ``--column`` options.

    Args:
        options: ``question=Query`` and the like; a name alone is the column of ``text``.

    Raises:
        ConfigError: one of our names is given twice.
    """
    columns: dict[str, str] = {}
    for option in options:
        ours, equals, theirs = option.partition("=")
        if not equals or ours not in _INPUTS:
            ours, theirs = "text", option
        if ours in columns:
            raise ConfigError(
                f"--column names {ours!r} twice: {columns[ours]!r} and {theirs!r}.",
                hint="For two texts write --column text1=... --column text2=...",
            )
        columns[ours] = theirs
    return columns


def predict_file(
    folder: Path, file: Path, *, columns: Mapping[str, str], out: Path | None, round_number: int | None, as_json: bool
) -> None:
    """Write one prediction per row of a file, in its order.

    Args:
        folder: the run.
        file: rows without labels.
        columns: our name -> the file's column, where they differ.
        out: ``.csv``, ``.json`` or ``.jsonl``; standard output when absent.
        round_number: a round's student instead of the best one.
        as_json: one JSON object on standard output.

    Raises:
        UserError: no run, no student, or an unreadable file.
    """
    directory = RunDirectory.read(folder)
    task = directory.config.task
    examples = load_texts(file, task, columns)
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(folder)!r} has not started.", hint="Run it first.")
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        if not rounds or (round_number is not None and round_number not in rounds):
            wanted = "trained student" if round_number is None else f"student of round {round_number}"
            raise RunError(f"the run at {str(folder)!r} has no {wanted}.", hint=f"Trained rounds: {rounds or 'none yet'}.")
        number = best_round(journal) if round_number is None else round_number
    if directory.config.method.name == "teacher":
        raise RunError(
            f"the run at {str(folder)!r} has no student: the teacher answered itself.", hint="Name a run of another method."
        )
    if not directory.model_whole(number):
        raise RunError(
            f"the student of round {number} is missing or damaged.",
            hint="Run the same `stepsynth run` command again to train it anew.",
        )
    model = create_student(directory.config).load(directory.model_path(number))
    predictions = model.predict(examples)
    rows = [_row(task, example, prediction) for example, prediction in zip(examples, predictions, strict=True)]
    lines = out is not None and out.suffix in (".json", ".jsonl")
    content = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows) if lines else _csv(rows, list(task.labels))
    if as_json:
        content = json.dumps({"run": folder.name, "round": number, "predictions": rows}, ensure_ascii=False, indent=1) + "\n"
    if out is None:
        sys.stdout.write(content)
    else:
        try:
            write_atomic(out, content)
        except OSError as error:
            raise RunError(
                f"cannot write {str(out)!r}: {error.strerror}.", hint="Name a file in an existing folder with --out."
            ) from None
        sys.stderr.write(f"{len(predictions):,} predictions of round {number}'s student in {out}\n")


def _row(task: TaskConfig, example: Example, prediction: Prediction) -> dict[str, object]:
    """Return the row as it is read from a file, with what was predicted in place of the gold answer."""
    row = {name: value for name, value in create_family(task).record(example).items() if name in _INPUTS}
    if task.family == "extractive_qa":
        return {**row, "answer": prediction.label, "answer_start": prediction.start, "probability": prediction.confidence}
    found: dict[str, object] = {"label": prediction.label}
    if task.family == "multi_label":
        found = {"labels": list(split_labels(prediction.label))}
    return {**row, **found, "probabilities": dict(prediction.probabilities)}


def _csv(rows: Sequence[Mapping[str, object]], labels: list[str]) -> str:
    buffer = io.StringIO()
    # With this line end, a lone CR inside a cell is quoted, too; without quotes it would begin a row.
    writer = csv.writer(buffer, lineterminator="\r\n")
    names = [name for name in rows[0] if name != "probabilities"]
    writer.writerow([_safe(cell) for cell in (*names, *(f"p({label})" for label in labels))])
    for row in rows:
        probabilities = row.get("probabilities")
        spread = [probabilities[label] for label in labels] if isinstance(probabilities, dict) else []
        writer.writerow([_cell(row[name]) for name in names] + [f"{p:.6f}" for p in spread])
    return buffer.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, list):
        return _safe("|".join(value))
    return f"{value:.6f}" if isinstance(value, float) else _safe(value) if isinstance(value, str) else str(value)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
