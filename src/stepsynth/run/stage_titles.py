"""What people read in the place of a stage's name.

Names such as ``round-1/extrapolate`` stand in the journal, in the ids of rows and in JSON; progress, tables and pages
show titles.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STUDENTS", "stage_title"]

# What a student of `crossfit` learns from, in a few words.
STUDENTS = {
    "labels": "labels alone",
    "written": "written alone",
    "both": "both",
    "stages": "both, staged",
    "pool": "labels, pool",
    "all": "all three",
    "weighted": "both, weighted",
}
# The student that judges the rounds; the others are judged once, after the last round.
_OF_ROUNDS = "stages"
_ALONE: dict[str, str] = {
    StageKind.CHOICE: "choice of the final student",
    "gold/reading": "your rows, read by the teacher",
    "pool/judged": "texts to label next",
    StageKind.TEST: "sealed test",
}
_WRITES: dict[str, str] = {
    StageKind.RATIONALES: "reasons for labels",
    StageKind.IMPORT: "your rows",
    StageKind.SEED: "seed rows",
    StageKind.ZEROGEN: "rows from plain prompts",
    StageKind.ANNOTATE: "labels of texts",
    "answers": "the teacher's answers",
}
_ROUND = re.compile(r"round-(\d+)/(.+)")
_FOLD = re.compile(r"fold-(\d+)")


def stage_title(stage: str, info: Mapping[str, Any] | None = None) -> str:
    """Return a stage's title.

    Args:
        stage: its name.
        info: what the journal keeps of it: ``student`` (of a student that is kept), ``recipe`` and ``folds`` (of cross-fitting).

    Returns:
        The title; the name itself if it is unknown.

    Examples:
        >>> stage_title("round-0/extrapolate"), stage_title("round-1/extrapolate")
        ('rows like labelled ones', 'round 1, rows from mistakes')
        >>> stage_title("round-1/fold-0", {"recipe": "stages", "folds": 3}), stage_title("round-2/fold-1", {"recipe": "labels"})
        ('round 1, fold 1 of 3', 'labels alone, fold 2')
        >>> stage_title("round-4/train", {"student": "stages"}), stage_title("round-0/mine"), stage_title("mine")
        ('student: both, staged', 'round 0, mine', 'mine')
    """
    info = info or {}
    found = _ROUND.fullmatch(stage)
    if found is None:
        return _ALONE.get(stage, stage)
    number, what = found.groups()
    if student := info.get("student"):
        return f"student: {STUDENTS.get(student, student)}"
    recipe = info.get("recipe", _OF_ROUNDS)
    of = f"round {number}" if recipe == _OF_ROUNDS else STUDENTS.get(recipe, recipe)
    if fold := _FOLD.fullmatch(what):
        count = f" of {info['folds']}" if "folds" in info else ""
        return f"{of}, fold {int(fold[1]) + 1}{count}"
    if what == StageKind.CROSSFIT:
        return f"{of}, cross-validated"
    if what == StageKind.EXTRAPOLATE:
        return f"round {number}, rows from mistakes" if int(number) else "rows like labelled ones"
    if what == StageKind.TRAIN:
        return f"round {number}, student"
    # Everything else of the first round comes once.
    return _WRITES[what] if what in _WRITES and not int(number) else f"round {number}, {_WRITES.get(what, what)}"
