"""``predict``: apply a run's student to a user's file."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stepsynth.cli.prediction_files import (
    Filled,
    Layout,
    ParquetFile,
    Row,
    Survey,
    Table,
    other_cell,
    say_changed,
    table_columns,
)
from stepsynth.cli.screens import json_text, plain_text, refuse_unfit, write_data
from stepsynth.config import parse_source
from stepsynth.data import each_text
from stepsynth.data.columns import OTHER, shown
from stepsynth.data.examples import kept_field, written_field
from stepsynth.errors import ConfigError, DataError, MissingColumnError, did_you_mean
from stepsynth.evaluation.coverage import check_threshold
from stepsynth.exporting.finding import FoundStudent, find_student, student_config
from stepsynth.exporting.predicting import check_predictor, in_parts, predictor
from stepsynth.run.outputs import refuse_data_file, refuse_own_file
from stepsynth.runtime.counting import counted
from stepsynth.runtime.files import opened_out, refuse_input
from stepsynth.tasks import create_family, stored_family
from stepsynth.tasks.predicted import ABSTAINED, predicted_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig, SourceConfig, TaskConfig
    from stepsynth.exporting.predicting import Predict
    from stepsynth.types import Example, Prediction

__all__ = ["Output", "parse_columns", "predict_file", "texts_as_file"]

_FORMATS = ("csv", "tsv", "jsonl", "parquet", "json")
_ENDINGS = {"": "csv", ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet"}
_ENDINGS |= dict.fromkeys((".json", ".jsonl", ".ndjson"), "jsonl")
# Programs choose a reader by these endings, and none of our formats fits.
_OTHERS = (".xlsx", ".xlsm", ".xls", ".ods", ".arrow", ".feather", ".gz", ".zip")
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
        names = (*names, *stored_family(student_config(folder).task).text_columns)
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


@contextmanager
def texts_as_file(folder: Path, texts: Sequence[str], file: Path | None, settings: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the file to read: the given one, or one that holds the texts of the command line while it runs.

    Args:
        folder: the run.
        texts: after ``--text``.
        file: the given file.
        settings: options that say how to read a file.

    Raises:
        ConfigError: there are both or neither, settings without a file, or a row of the task has two texts.
        RunError: there is no run.
    """
    if bool(texts) == (file is not None):
        both = "both a file and --text are given" if texts else "there is nothing to predict"
        raise ConfigError(f"{both}.", hint="Give a file, or one text or more with --text.")
    if file is not None:
        if not file.exists() and " " in file.name and not file.suffix.strip(".").isalpha():
            raise ConfigError(f"there is no file {str(file)!r}.", hint="To predict this text, write it after --text.")
        yield file
        return
    if not all(text.strip() for text in texts):
        raise ConfigError("a --text is empty.", hint="Write the text after it.")
    if settings:
        raise ConfigError(f"{settings[0]} says how to read a file, but --text is given.", hint="Leave one of them out.")
    names = stored_family(student_config(folder).task).text_columns
    if len(names) > 1:
        raise ConfigError(f"--text is one text, but a row of this task has {' and '.join(names)}.", hint="Give a file.")
    with tempfile.TemporaryDirectory(prefix="stepsynth-") as there:
        path = Path(there) / "texts.jsonl"
        path.write_text("".join(json.dumps({names[0]: text}) + "\n" for text in texts), encoding="utf-8")
        yield path


@dataclass(frozen=True)
class Output:
    """Where predictions go, and in which format.

    Attributes:
        path: the file; ``None`` for standard output.
        form: ``csv``, ``tsv``, ``jsonl``, ``parquet``, or ``json`` for one object; ``None`` to go by the file's name.
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
            raise ConfigError(f"--format is {form!r}.", hint=did_you_mean(form, _FORMATS[:4]))
        # The names of devices and of files in /proc have no ending.
        if ending and self.form is None and ending not in _ENDINGS:
            raise ConfigError(
                f"--out is {str(self.path)!r}, but {ending!r} is not an ending that predict can write.",
                hint="Use .csv, .tsv, .jsonl or .parquet, or set --format.",
            )
        # Its end makes it whole, so whoever reads a pipe could take a part for the whole.
        piped = self.path is None or (self.path.exists() and not self.path.is_file() and not self.path.is_dir())
        if form == "parquet" and piped:
            raise ConfigError("a Parquet file goes to no standard output, pipe or device.", hint="Name a file with --out.")
        of_text = _ENDINGS.get(ending, "parquet") != "parquet"
        if ending in _OTHERS or (of_text and ending and form == "parquet") or (ending == ".parquet" and form != "parquet"):
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
    keep: bool = True,
    threshold: float | None = None,
    jobs: int | None = None,
    on: str | None = None,
) -> None:
    """Write one prediction per row of a file, in its order.

    The file is read twice: once to check every row, so that a bad one ends the command before anything is written, and once
    more to predict. Only a few thousand rows are in memory at a time, except with the format ``json``.

    Args:
        folder: the run, or an exported student.
        file: rows without labels.
        columns: our name -> the file's column, if they differ.
        output: where to write, and in which format.
        round_number: use this round's student instead of the best one.
        reading: how to read the file: ``encoding``, ``delimiter``, ``sheet``.
        keep: whether to write the file's other columns, too.
        threshold: abstain from predictions whose confidence is lower.
        jobs: how many parts of the file to predict at once; the output does not depend on it.
        on: where, see `stepsynth.exporting.predicting.predictor`.

    Raises:
        UserError: there is no run or no student, or the file is unreadable.
    """
    check_predictor(jobs, on)
    form = output.format
    check_threshold(threshold, "--threshold")
    refuse_input(output.path, [file])
    refuse_own_file(output.path)
    source = parse_source({"path": file, **(reading or {})})
    config = student_config(folder)
    refuse_data_file(output.path, config)
    work, survey = _surveyed(config, source, file, columns, form, keep=keep, to_screen=output.path is None)
    student = find_student(folder, round_number)
    work.threshold = threshold
    with predictor(student.config, student.folder, student.load, jobs=jobs, on=on, note=_note) as work.predict:
        changed = _write(work, survey, student, folder, output)
    _say(work, survey, student, output, changed)


def _surveyed(
    config: RunConfig, source: SourceConfig, file: Path, columns: Mapping[str, str], form: str, *, keep: bool, to_screen: bool
) -> tuple[_Work, Survey]:
    """Read and check all rows; columns that are not named are those of the run's labelled rows, or else have our names."""
    names = create_family(config.task).text_columns
    theirs = {ours: name for ours, name in config.data.validation.columns.items() if ours in names}
    ways: list[Mapping[str, str]] = [columns] if columns or not theirs else [theirs, {}]
    first: MissingColumnError | None = None
    for named in ways:
        work = _Work(config.task, source, file, named, form, keep=keep)
        try:
            return work, work.survey(to_screen=to_screen)
        except MissingColumnError as error:
            first = first or error
    assert first is not None  # noqa: S101
    raise first


def _write(work: _Work, survey: Survey, student: FoundStudent, folder: Path, output: Output) -> int:
    """Write the predictions; return the number of escaped cells."""
    if work.form == "json":
        rows = [work.layout.record(row) for part in work.parts(survey) for row in part]
        write_data(json_text({"run": folder.resolve().name, "round": student.round, "predictions": rows}) + "\n")
        return 0
    if work.form == "parquet":
        assert output.path is not None  # noqa: S101
        with opened_out(output.path) as handle:
            work.write_parquet(handle, survey)
        return 0
    return _write_text(work, survey, output.path, None if work.form == "jsonl" else (work.form, output.exact))


def _write_text(work: _Work, survey: Survey, path: Path | None, table: tuple[str, bool] | None) -> int:
    """Write CSV or TSV (with its name, and whether cells are exact) or JSON Lines; return the number of escaped cells."""
    writer: Table | None = None
    with opened_out(path) if path is not None else nullcontext() as handle:
        for part in work.parts(survey):
            if table is None:
                piece = "".join(json.dumps(work.layout.record(row), ensure_ascii=True) + "\n" for row in part)
            else:
                form, exact = table
                writer = writer or Table(work.labels, work.layout, exact=exact, delimiter="\t" if form == "tsv" else ",")
                piece = writer.text(part)
            write_data(piece) if handle is None else handle.write(piece.encode("utf-8"))
    return writer.changed if writer else 0


def _note(line: str) -> None:
    sys.stderr.write(f"{plain_text(line)}\n")


def _say(work: _Work, survey: Survey, student: FoundStudent, output: Output, changed: int) -> None:
    """Say on standard error what was written, and what is not as one may expect it."""
    for name, new in work.layout.renamed.items():
        sys.stderr.write(f"{str(work.file)!r} has a column {name!r}, so the predictions are in {new!r}.\n")
    if output.path is not None:
        sys.stderr.write(f"{counted(survey.rows, 'prediction')} of {student} in {output.path}\n")
    if work.threshold is not None:
        share = 100 * work.abstained / survey.rows
        sys.stderr.write(f"Abstained from {work.abstained:,} of {survey.rows:,} ({share:.1f} %): below {work.threshold:g}.\n")
    say_changed(changed)


class _Work:
    """One file on its way through a student, some thousand rows at a time."""

    def __init__(
        self, task: TaskConfig, source: SourceConfig, file: Path, columns: Mapping[str, str], form: str, *, keep: bool
    ) -> None:
        self.task, self.source, self.file, self.columns, self.form, self.keep = task, source, file, columns, form, keep
        self.family = create_family(task)
        self.labels = list(task.labels)
        self.threshold: float | None = None
        self.predict: Predict
        self.layout: Layout
        self.abstained = 0

    def _each_part(self) -> Iterator[list[tuple[Example, Row]]]:
        with closing(each_text(self.source, self.task, self.columns, rest=self.keep)) as rows:
            yield from in_parts(rows, _example_of)

    def survey(self, *, to_screen: bool) -> Survey:
        """Read and check all rows.

        Args:
            to_screen: whether standard output must be able to hold them.
        """
        found, as_table = Survey(), self.form not in ("jsonl", "json")
        self._as_it_was = _state_of(self.file)
        for part in self._each_part():
            _refuse_empty([example for example, _ in part], self.file, self.task, found.rows)
            if as_table:
                _refuse_half_characters([example for example, _ in part], self.file, found.rows)
            for example, values in part:
                if as_table and self.keep:
                    _refuse_half_cells(values, self.file, found.rows)
                if as_table and to_screen:
                    refuse_unfit(example.text + example.context + "".join(map(other_cell, values.values())))
                found.add(values)
        if not found.rows:
            raise DataError(f"{str(self.file)!r} has no rows.", hint="Add texts to it.")
        if as_table and to_screen:
            refuse_unfit("".join([*found.kinds, *self.labels]).replace(OTHER, ""))
        return found

    def parts(self, survey: Survey) -> Iterator[list[Filled]]:
        """Yield the rows of the output, in order.

        Raises:
            DataError: the file is not the one that `survey` read.
        """
        rows = 0
        for part, predictions in self.predict(self._each_part(), _example_of):
            predicted = [self._predicted(prediction) for prediction in predictions]
            if not rows:
                own, spread = table_columns(predicted[0], self.labels)
                names = list(predicted[0]) if self.form in ("jsonl", "json") else [*own, *spread]
                self.layout = Layout(survey, self.family.text_columns, self.columns, names)
            yield [self._filled(*row, found) for row, found in zip(part, predicted, strict=True)]
            rows += len(part)
        if rows != survey.rows or _state_of(self.file) != self._as_it_was:
            raise DataError(f"{str(self.file)!r} was changed while it was read.", hint="Try again when nothing writes to it.")

    def _filled(self, example: Example, values: Row, predicted: Row) -> Filled:
        texts = {self.family.written: example.text} | ({self.family.kept: example.context} if self.family.kept else {})
        return self.layout.filled(texts, values, predicted)

    def _predicted(self, prediction: Prediction) -> dict[str, object]:
        found = predicted_columns(self.family, prediction, self.threshold)
        self.abstained += self.threshold is not None and bool(found[ABSTAINED])
        return found

    def write_parquet(self, handle: IO[bytes], survey: Survey) -> None:
        """Write the predictions into an open file."""
        writer: ParquetFile | None = None
        try:
            for part in self.parts(survey):
                writer = writer or ParquetFile(handle, self.layout, survey, self.file, self.labels)
                writer.write(part)
        finally:
            # After an error, too: pyarrow would do so later, when the file is closed. What was written then is thrown away.
            if writer is not None:
                writer.close()


def _example_of(row: tuple[Example, Row]) -> Example:
    return row[0]


def _state_of(file: Path) -> tuple[int, int] | None:
    """Return what changes with a file; ``None`` if it cannot be looked at: its reader then says why."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _refuse_empty(examples: Sequence[Example], file: Path, task: TaskConfig, first: int = 0) -> None:
    """Refuse rows without a text: a label for one would be a guess that looks like an answer."""
    kept, written = kept_field(task), written_field(task)
    for number, example in enumerate(examples, start=first):
        texts = {written: example.text} | ({kept: example.context} if kept else {})
        for name, text in texts.items():
            if not text.strip():
                raise DataError(
                    f"row {number} of {str(file)!r} has an empty {name}: {shown(text)}.", hint="Fill it in or remove the row."
                )


def _refuse_half_characters(examples: Sequence[Example], file: Path, first: int = 0) -> None:
    """Refuse a text that UTF-8 cannot encode; JSON escapes it."""
    for number, example in enumerate(examples, start=first):
        _refuse_half(example.text + example.context, file, number)


def _refuse_half_cells(values: Row, file: Path, number: int) -> None:
    for name, value in values.items():
        if name.startswith(OTHER):
            _refuse_half(f"{name}{other_cell(value)}", file, number)


def _refuse_half(text: str, file: Path, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = str(error.object)[error.start]
        raise DataError(
            f"row {number} of {str(file)!r} holds half a surrogate pair ({half!a}), which a table cannot hold.",
            hint="Use --format jsonl, which keeps it, or remove it.",
        ) from None
