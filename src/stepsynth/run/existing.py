"""What a run that is there has: its journal, and the round whose student answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.journal import Journal
from stepsynth.journal.results import best_round
from stepsynth.methods import trains_on

if TYPE_CHECKING:
    from stepsynth.run.directory import RunDirectory

__all__ = ["open_journal", "trained_round"]


def open_journal(directory: RunDirectory) -> Journal:
    """Open the journal of an existing run.

    Raises:
        RunError: it has none yet.
    """
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(directory.path)!r} has no journal yet.", hint="Start it with `stepsynth run`.")
    return Journal(directory.journal_path)


def trained_round(directory: RunDirectory, wanted_round: int | None = None) -> int:
    """Return the round whose student answers: ``wanted_round``, or the best one.

    Raises:
        RunError: the run has no such student, or it is damaged.
    """
    folder = directory.path
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(folder)!r} has not started.", hint="Run it first.")
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        if not rounds or (wanted_round is not None and wanted_round not in rounds):
            wanted = "trained student" if wanted_round is None else f"student of round {wanted_round}"
            raise RunError(f"the run at {str(folder)!r} has no {wanted}.", hint=f"Trained rounds: {rounds or 'none yet'}.")
        number = best_round(journal) if wanted_round is None else wanted_round
        trains = trains_on(directory.config, journal)
    if trains == "none":
        raise RunError(
            f"the run at {str(folder)!r} has no student: the teacher answered itself.", hint="Name a run of another method."
        )
    if not directory.model_whole(number):
        raise RunError(
            f"the student of round {number} is missing or damaged.",
            hint="Resume the run to retrain it.",
        )
    return number
