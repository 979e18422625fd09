"""What people read in the place of a stage's name.

Names such as ``round-1/extrapolate`` stand in the journal, in the ids of rows and in JSON; progress, tables and pages
show titles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["STUDENTS", "all_titles", "stage_title"]

# What a student of `crossfit` learns from, in a few words.
STUDENTS = {
    "labels": "labels alone",
    "written": "the teacher's rows alone",
    "both": "both kinds of rows at once",
    "stages": "both kinds of rows",
    "pool": "labels and pool",
    "all": "both kinds of rows and pool",
    "weighted": "both kinds of rows, weighted",
}
# The students that judge the rounds; the others are judged once, after the last round.
_OF_ROUNDS = "stages"
_TITLES: dict[str, str] = {
    StageKind.RATIONALES: "reasons",
    StageKind.IMPORT: "your rows",
    StageKind.SEED: "seed rows",
    StageKind.ZEROGEN: "rows from plain prompts",
    StageKind.ANNOTATE: "labels of texts",
    StageKind.CHOICE: "choice of the final student",
    StageKind.TEST: "sealed test",
    StageKind.READING: "your rows, read by the teacher",
    StageKind.UNLABELLED: "texts to label next",
}


def stage_title(stage: str, kind: str, info: Mapping[str, Any] | None = None) -> str:
    """Return a stage's title.

    Args:
        stage: its name.
        kind: what it does, a `StageKind` or the word of a user's own method.
        info: what the journal keeps of it: ``student`` (of a student that is kept), ``recipe`` and ``folds`` (of cross-fitting).

    Examples:
        >>> stage_title("round-0/extrapolate", "extrapolate"), stage_title("round-1/extrapolate", "extrapolate")
        ('rows like labelled ones', 'round 1, rows from mistakes')
        >>> stage_title("round-1/fold-0", "fold", {"recipe": "stages", "folds": 3}), stage_title("round-1/fold-0", "fold")
        ('round 1, fold 1 of 3', 'fold 1')
        >>> stage_title("round-4/train", "train", {"student": "stages"}), stage_title("round-0/mine", "mine")
        ('student of both kinds of rows', 'round 0, mine')
    """
    info = info or {}
    place, _, what = stage.partition("/")
    number = place.removeprefix("round-")
    if student := info.get("student"):
        return f"student of {STUDENTS.get(student, student)}"
    recipe = info.get("recipe")
    of = f"round {number}, " if recipe == _OF_ROUNDS else f"{STUDENTS.get(recipe, recipe)}, " if recipe else ""
    if kind == StageKind.FOLD:
        count = f" of {info['folds']}" if "folds" in info else ""
        return f"{of}fold {int(what.removeprefix('fold-')) + 1}{count}"
    if kind == StageKind.CROSSFIT:
        return f"{of}cross-validated"
    if kind == StageKind.TRAIN:
        return f"round {number}, student"
    if kind == StageKind.EXTRAPOLATE and what == kind:
        return f"round {number}, rows from mistakes" if number != "0" else "rows like labelled ones"
    if kind not in _TITLES or (number.isdigit() and what != kind):
        return f"round {number}, {what}"
    return f"round {number}, {_TITLES[kind]}" if number.isdigit() and number != "0" else _TITLES[kind]


def all_titles(stages: Iterable[tuple[str, int, str, Mapping[str, Any], float]]) -> dict[str, str]:
    """Return the titles of a journal's stages, by name.

    Args:
        stages: from `Journal.stages`. Folds of earlier versions do not say whose they are; the stage that ends their round does.
    """
    found = list(stages)
    ended = {number: info for _, number, kind, info, _ in found if kind == StageKind.CROSSFIT}
    return {
        name: stage_title(name, kind, {**ended.get(number, {}), **info} if kind == StageKind.FOLD else info)
        for name, number, kind, info, _ in found
    }
