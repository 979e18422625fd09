"""Opens the answers that runs share; a file that cannot be used ends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.journal import AnswerStore
from stepsynth.runtime.network_disks import refuse_network_disk
from stepsynth.teachers.prices import price_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepsynth.config import TeacherConfig
    from stepsynth.journal.answers import SharedAnswers

__all__ = ["open_answers", "refuse_network_answers"]

_ELSEWHERE = "Name a file on a local disk with the key `cache` or STEPSYNTH_ANSWERS=FILE, or share none (STEPSYNTH_ANSWERS=off)."


def refuse_network_answers(path: Path | None) -> None:
    """Check that shared answers are not to be written onto a network file system; touches nothing.

    Raises:
        RunError: they are.
    """
    if path is not None:
        refuse_network_disk(path, "the file of shared answers", _ELSEWHERE)


def open_answers(path: Path | None, teacher: TeacherConfig, note: Callable[[str], object]) -> SharedAnswers | None:
    """Open the answers that runs share, or return ``None``: if the file cannot be used, say so and go on without it.

    Args:
        path: the file; ``None`` if sharing is off.
        teacher: gives the price of answers that were stored without one.
        note: called with a sentence about the file.

    Raises:
        RunError: it lies on a network file system.
    """
    if path is None:
        return None
    refuse_network_answers(path)
    price = price_of(teacher)
    try:
        return AnswerStore.shared(path, note=note, price=price.cost if price else None)
    except RunError as error:
        note(f"Answers are not shared with other runs: {error}")
        return None
