"""``predict``: a run's student on a user's file."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from stepsynth.data import load_texts
from stepsynth.errors import RunError
from stepsynth.journal import Journal
from stepsynth.loop import best_round
from stepsynth.run import RunDirectory, write_atomic
from stepsynth.students import create_student
from stepsynth.types import Example

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.types import Prediction

__all__ = ["predict_file"]

# A spreadsheet runs a cell that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def predict_file(folder: Path, file: Path, *, column: str, out: Path | None, round_number: int | None, as_json: bool) -> None:
    """Write one prediction per row of a file, in its order.

    Args:
        folder: the run.
        file: texts.
        column: the column that holds them.
        out: ``.csv``, ``.json`` or ``.jsonl``; standard output when absent.
        round_number: a round's student instead of the best one.
        as_json: one JSON object on standard output.

    Raises:
        UserError: no run, no student, or an unreadable file.
    """
    directory = RunDirectory.read(folder)
    texts = load_texts(file, column)
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(folder)!r} has not started.", hint="Run it first.")
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        if not rounds or (round_number is not None and round_number not in rounds):
            wanted = "trained student" if round_number is None else f"student of round {round_number}"
            raise RunError(f"the run at {str(folder)!r} has no {wanted}.", hint=f"Trained rounds: {rounds or 'none yet'}.")
        number = best_round(journal) if round_number is None else round_number
    if not directory.model_whole(number):
        raise RunError(
            f"the student of round {number} is missing or damaged.",
            hint="Run the same `stepsynth run` command again to train it anew.",
        )
    model = create_student(directory.config).load(directory.model_path(number))
    predictions = model.predict([Example(str(i), text, "") for i, text in enumerate(texts)])
    labels = list(directory.config.task.labels)
    lines = out is not None and out.suffix in (".json", ".jsonl")
    content = _json_lines(texts, predictions) if lines else _csv(texts, predictions, labels)
    if as_json:
        rows = [json.loads(line) for line in _json_lines(texts, predictions).splitlines()]
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


def _json_lines(texts: list[str], predictions: list[Prediction]) -> str:
    rows = (
        {"text": t, "label": p.label, "probabilities": dict(p.probabilities)} for t, p in zip(texts, predictions, strict=True)
    )
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)


def _csv(texts: list[str], predictions: list[Prediction], labels: list[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_safe(cell) for cell in ("text", "label", *(f"p({label})" for label in labels))])
    for text, prediction in zip(texts, predictions, strict=True):
        writer.writerow([_safe(text), _safe(prediction.label), *(f"{prediction.probabilities[label]:.6f}" for label in labels)])
    return buffer.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
