"""Exports of a run for others: its rows and its student, each with a card, in a new folder, and the push to the hub.

    export_run(RunDirectory.read(run), Path("tickets"), Wanted(data="parquet", student="safetensors"))

The rows and the student are two folders with a README.md each, because they are two repositories on the hub.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError
from stepsynth.exporting.folder import new_folder, refuse_existing
from stepsynth.exporting.formats import DATA_FORMATS, DataFormat, chosen_format
from stepsynth.exporting.push import Upload, check_repository, find_uploads, push_uploads
from stepsynth.exporting.student import MAX_LOSS, STUDENT_FORMATS, check_max_loss, student_writer
from stepsynth.exporting.tables import Content, Tables, collect_tables
from stepsynth.run.existing import open_journal, trained_round
from stepsynth.tasks import stored_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.exporting.conversion import StudentExport
    from stepsynth.journal import Journal
    from stepsynth.run import RunDirectory

__all__ = [
    "DATA_FORMATS",
    "MAX_LOSS",
    "STUDENT_FORMATS",
    "Content",
    "DataFormat",
    "Exported",
    "Push",
    "Upload",
    "Wanted",
    "export_and_push",
    "export_run",
]

CARD = "README.md"


@dataclass(frozen=True)
class Wanted:
    """What to export.

    Attributes:
        data: the format of the rows, a name in `DATA_FORMATS`; ``None``: no rows.
        student: the form of the student, a name in `STUDENT_FORMATS`; ``None``: no student.
        content: what the rows contain.
        repository: the name on the hub that the card of the student gives for its rows.
        max_loss: points of the score that a student in eight bits may lose.
    """

    data: str | None = None
    student: str | None = None
    content: Content = field(default_factory=Content)
    repository: str | None = None
    max_loss: float = MAX_LOSS


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: the export.
        data: the folder of the rows, or ``None``.
        student: the folder of the student, or ``None``.
        notes: what the rows lack, a sentence each.
        uploads: what was pushed, or what would be.
        proof: the student's answers beside those of the trained one; ``None`` if no student was converted.
    """

    folder: Path
    data: Path | None = None
    student: Path | None = None
    notes: tuple[str, ...] = ()
    uploads: tuple[Upload, ...] = ()
    proof: StudentExport | None = None


@dataclass(frozen=True)
class Push:
    """Where an export goes on the hub.

    Attributes:
        repository: ``owner/name``, of the rows and of the student: they are repositories of different kinds.
        public: whether everybody may see a repository that is made.
        dry: only find out what would be sent.
    """

    repository: str
    public: bool = False
    dry: bool = False


def export_and_push(directory: RunDirectory, folder: Path, wanted: Wanted, push: Push | None) -> Exported:
    """Write an export and push it; if nothing is wanted, push the one that is there.

    Args:
        directory: the run.
        folder: must not exist if something is wanted.
        wanted: what to write.
        push: where to; ``None``: nowhere.

    Raises:
        ConfigError: as `export_run`; or the repository's name is none, or there is nothing to push.
        RunError: as `export_run`; or the hub refused. What was written stays.
    """
    if push is None:
        return export_run(directory, folder, wanted)
    check_repository(push.repository)
    if wanted.data is None and wanted.student is None:
        written = Exported(folder)
    else:
        written = export_run(directory, folder, replace(wanted, repository=push.repository))
    uploads = find_uploads(folder, push.repository)
    if not push.dry:
        uploads = push_uploads(uploads, public=push.public, message=f"stepsynth: {directory.config.task.name}")
    return replace(written, uploads=tuple(uploads))


def export_run(directory: RunDirectory, folder: Path, wanted: Wanted) -> Exported:
    """Write an export into a new folder; everything is checked before, and after an error nothing is left of it.

    Args:
        directory: the run.
        folder: must not exist.
        wanted: what to write.

    Raises:
        ConfigError: nothing is wanted, a format is unknown or does not fit the task, or the folder exists.
        RunError: the run has no written rows or no student, or the folder cannot be written.
    """
    if wanted.data is None and wanted.student is None:
        raise ConfigError("there is nothing to export.", hint="Say what: data, student, or both.")
    check_max_loss(wanted.max_loss)
    _refuse_inside(directory, folder)
    form = None if wanted.data is None else chosen_format(wanted.data, stored_family(directory.config.task))
    write_student = None if wanted.student is None else student_writer(wanted.student)
    refuse_existing(folder)
    number = None if write_student is None else trained_round(directory)
    notes: tuple[str, ...] = ()
    proof = None
    with closing(open_journal(directory)) as journal:
        from stepsynth.exporting.cards import model_card
        from stepsynth.exporting.facts import gather_facts

        tables = collect_tables(journal, directory.config, wanted.content) if form else None
        with new_folder(folder) as part:
            if form and tables:
                notes = tables.notes
                _write_data(part / "data", journal, directory, form, wanted.content, tables)
            if write_student and number is not None:
                (part / "student").mkdir()
                student = write_student(directory, number, part / "student", wanted.max_loss)
                proof = student.proof
                rows = wanted.repository if form else None
                card = model_card(gather_facts(journal, directory), student, rows)
                (part / "student" / CARD).write_text(card, encoding="utf-8")
    data, model = folder / "data" if form else None, folder / "student" if write_student else None
    return Exported(folder, data, model, notes, proof=proof)


def _refuse_inside(directory: RunDirectory, folder: Path) -> None:
    """Check that an export does not go into its run, whose folder holds the run alone.

    Raises:
        ConfigError: it does.
    """
    try:
        inside = directory.path.resolve() in folder.resolve().parents
    # A path that cannot be followed is reported where it is written.
    except (OSError, ValueError, RuntimeError):
        return
    if inside:
        raise ConfigError(f"{str(folder)!r} is inside the run directory.", hint="Give a folder outside of it.")


def _write_data(
    folder: Path, journal: Journal, directory: RunDirectory, form: DataFormat, content: Content, tables: Tables
) -> None:
    from stepsynth.exporting.cards import dataset_card
    from stepsynth.exporting.facts import gather_facts

    folder.mkdir()
    for table in tables.tables:
        form.write(table, folder, tables.labels)
    card = dataset_card(gather_facts(journal, directory), tables, form, content)
    (folder / CARD).write_text(card, encoding="utf-8")
