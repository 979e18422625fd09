"""``predict``: apply a run's student to a user's file."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.cli.screens import json_text, write_data
from stepsynth.config import parse_source
from stepsynth.data import load_texts
from stepsynth.data.columns import shown
from stepsynth.data.examples import kept_field, written_field
from stepsynth.errors import ConfigError, DataError, did_you_mean
from stepsynth.execution import trained_round
from stepsynth.run import RunDirectory
from stepsynth.run.outputs import refuse_own_file
from stepsynth.runtime.files import refuse_input, write_out
from stepsynth.students import create_student
from stepsynth.tasks import create_family, stored_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import TaskConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["Output", "parse_columns", "predict_file"]

# A spreadsheet runs a cell that begins like this as a formula, unless it is a number with a sign.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FORMATS = ("csv", "tsv", "jsonl", "json")
_ENDINGS = {"": "csv", ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv"}
_ENDINGS |= dict.fromkeys((".json", ".jsonl", ".ndjson"), "jsonl")
# Programs choose a reader by these endings, and none of our formats fits.
_OTHERS = (".xlsx", ".xlsm", ".xls", ".ods", ".parquet", ".arrow", ".feather", ".gz", ".zip")
_INPUTS = ("text", "text1", "text2", "context", "question")


def parse_columns(options: Sequence[str], folder: Path | None = None) -> dict[str, str]:
    """Parse ``--column`` options: our name -> the file's column.

    Args:
        options: ``question=Query`` and the like; a name alone is the column of ``text``.
        folder: the run; its family may define more columns.

    Raises:
        ConfigError: one of our names is given twice.
        RunError: there is no run.
    """
    names: tuple[str, ...] = _INPUTS
    if options and folder is not None:
        names = (*names, *stored_family(RunDirectory.read(folder).config.task).text_columns)
    columns: dict[str, str] = {}
    for option in options:
        ours, equals, theirs = option.partition("=")
        if not equals or ours not in names:
            ours, theirs = "text", option
        if ours in columns:
            raise ConfigError(
                f"--column names {ours!r} twice: {columns[ours]!r} and {theirs!r}.",
                hint="For two texts write --column text1=... --column text2=...",
            )
        columns[ours] = theirs
    return columns


@dataclass(frozen=True)
class Output:
    """Where predictions go, and in which format.

    Attributes:
        path: the file; ``None`` for standard output.
        form: ``csv``, ``tsv``, ``jsonl``, or ``json`` for one object; ``None`` to go by the file's name.
        exact: CSV: write every cell unchanged, even if a spreadsheet would run it.
    """

    path: Path | None = None
    form: str | None = None
    exact: bool = False

    @property
    def format(self) -> str:
        """The format to write.

        Raises:
            ConfigError: the format is unknown, or contradicts the file's name.
        """
        ending = self.path.suffix.lower() if self.path is not None else ""
        form = self.form or _ENDINGS.get(ending, "csv")
        if form not in _FORMATS:
            raise ConfigError(f"--format is {form!r}.", hint=did_you_mean(form, _FORMATS[:3]))
        # The names of devices and of files in /proc have no ending.
        if ending and self.form is None and ending not in _ENDINGS:
            raise ConfigError(
                f"--out is {str(self.path)!r}, but {ending!r} is not an ending that predict can write.",
                hint="Use .csv, .tsv or .jsonl, or set --format.",
            )
        if ending in _OTHERS:
            raise ConfigError(f"--out is {str(self.path)!r}, but the format is {form}.", hint=f"Use a name that ends in .{form}.")
        if self.exact and form not in ("csv", "tsv"):
            raise ConfigError(f"--exact is for csv and tsv, but the format is {form}.", hint="Remove it: cells stay as they are.")
        return form


def predict_file(
    folder: Path,
    file: Path,
    *,
    columns: Mapping[str, str],
    output: Output,
    round_number: int | None,
    reading: Mapping[str, str] | None = None,
) -> None:
    """Write one prediction per row of a file, in its order.

    Args:
        folder: the run.
        file: rows without labels.
        columns: our name -> the file's column, if they differ.
        output: where to write, and in which format.
        round_number: use this round's student instead of the best one.
        reading: how to read the file: ``encoding``, ``delimiter``, ``sheet``.

    Raises:
        UserError: there is no run or no student, or the file is unreadable.
    """
    form = output.format
    refuse_input(output.path, [file])
    refuse_own_file(output.path)
    source = parse_source({"path": file, **(reading or {})})
    directory = RunDirectory.read(folder)
    task = directory.config.task
    examples = load_texts(source, task, columns)
    _refuse_empty(examples, file, task)
    if form in ("csv", "tsv"):
        _refuse_half_characters(examples, file)
    number = trained_round(directory, round_number)
    model = create_student(directory.config).load(directory.model_path(number))
    predictions = model.predict(examples)
    family = create_family(task)
    rows = [_row(family, example, prediction) for example, prediction in zip(examples, predictions, strict=True)]
    changed = 0
    if form == "json":
        content = json_text({"run": folder.resolve().name, "round": number, "predictions": rows}) + "\n"
    elif form == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
    else:
        content, changed = _csv(rows, list(task.labels), exact=output.exact, delimiter="\t" if form == "tsv" else ",")
    if output.path is None:
        write_data(content)
    else:
        write_out(output.path, content)
        sys.stderr.write(f"{len(predictions):,} predictions of round {number}'s student in {output.path}\n")
    if changed:
        sys.stderr.write(
            f"{changed:,} cell{'s' * (changed != 1)} got a leading apostrophe, so that no spreadsheet runs "
            f"{'them as formulas' if changed != 1 else 'it as a formula'}; use --exact to write cells unchanged.\n"
        )


def _refuse_empty(examples: Sequence[Example], file: Path, task: TaskConfig) -> None:
    """Refuse rows without a text: a label for one would be a guess that looks like an answer."""
    kept = kept_field(task)
    for number, example in enumerate(examples):
        texts = {written_field(task): example.text} | ({kept: example.context} if kept else {})
        for name, text in texts.items():
            if not text.strip():
                raise DataError(
                    f"row {number} of {str(file)!r} has an empty {name}: {shown(text)}.", hint="Fill it in or remove the row."
                )


def _refuse_half_characters(examples: Sequence[Example], file: Path) -> None:
    """Refuse a text that UTF-8 cannot encode; JSON escapes it."""
    for number, example in enumerate(examples):
        try:
            (example.text + example.context).encode()
        except UnicodeEncodeError as error:
            half = str(error.object)[error.start]
            raise DataError(
                f"row {number} of {str(file)!r} holds half a surrogate pair ({half!a}), which a table cannot hold.",
                hint="Use --format jsonl, which keeps it, or remove it.",
            ) from None


def _row(family: TaskFamily, example: Example, prediction: Prediction) -> dict[str, object]:
    """Return the row's columns, with the prediction in place of the gold answer."""
    row = {name: value for name, value in family.record(example).items() if name in family.text_columns}
    return {**row, **family.predicted(prediction)}


def _csv(rows: Sequence[Mapping[str, object]], labels: list[str], *, exact: bool, delimiter: str = ",") -> tuple[str, int]:
    """Return the table and the number of cells that were escaped."""
    buffer = io.StringIO()
    # With this line ending, a lone CR inside a cell is quoted, too; without quotes it would begin a row.
    writer = csv.writer(buffer, lineterminator="\r\n", delimiter=delimiter)
    names = [name for name in rows[0] if name != "probabilities"]
    writer.writerow([*names, *(f"p({label})" for label in labels)])
    changed = 0
    for row in rows:
        probabilities = row.get("probabilities")
        spread = [probabilities[label] for label in labels] if isinstance(probabilities, dict) else []
        cells = [_cell(row[name]) for name in names]
        safe = cells if exact else [_safe(cell) for cell in cells]
        changed += sum(before != after for before, after in zip(cells, safe, strict=True))
        writer.writerow(safe + [f"{p:.6f}" for p in spread])
    return buffer.getvalue(), changed


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "|".join(value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell
