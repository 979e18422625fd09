"""Try a user's own family on the validation rows before anything is spent, so that it fails early and in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.tasks.guarding import guard_own
from stepsynth.tasks.labels import split_labels
from stepsynth.tasks.scoring import score_of
from stepsynth.tasks.templates import DEFAULT_TEMPLATES
from stepsynth.types import Evaluation, Example, Prediction

if TYPE_CHECKING:
    from stepsynth.tasks.family import TaskFamily

__all__ = ["check_declared", "try_family"]

_ANSWERS = ("label", "labels", "answers", "answer", "answer_start")
# Columns that every line of a data set has.
_ORIGIN = ("round", "kind", "source", "id", "request")
_CONTRACT = "Use stepsynth.testing.FamilyContract to find out why."
_FIX = "Correct the class."


def check_declared(family: TaskFamily) -> None:
    """Refuse unusable attributes of a class.

    Raises:
        ConfigError: names the family, the attribute and its value.
    """
    for what in ("written", "kept", "metric", "summary", "student"):
        if not isinstance(value := getattr(family, what), str):
            _refuse(family, f"has {what} = {value!r}", f"Write {what} as a text in the class.")
    for what in ("written", "metric"):
        if not getattr(family, what).strip():
            _refuse(family, f"has {what} = {getattr(family, what)!r}", f"Name {what} in the class.")
    if family.kept == family.written:
        _refuse(family, f"has {family.kept!r} as both kept and written", "Give each text its own column in the class.")
    if taken := next((name for name in (family.written, family.kept) if name in _ANSWERS), None):
        _refuse(family, f"keeps a text in the column {taken!r}, which holds answers", "Use another column in the class.")


def try_family(family: TaskFamily, harvest: Sequence[Example], select: Sequence[Example], seed_rows: int) -> None:
    """Let a user's own family do everything that a run needs; built-in families are not tried.

    Args:
        family: the family to try.
        harvest: the gold rows for `TaskFamily.groups`.
        select: the other gold rows.
        seed_rows: the number of rows for `TaskFamily.groups`.

    Raises:
        ConfigError: it fails, or returns something unusable.
    """
    # Built-in families have an empty identity.
    if not family.identity():
        return
    rows = (*harvest, *select)
    _check_prompts(family)
    with guard_own(family, "the validation rows", ConfigError, _CONTRACT):
        right = [family.decided(row, family.gold(row), row.answers[0].start if row.answers else -1) for row in rows]
        _try_right(family, rows, right)
        _check_evaluation(family, family.evaluate(rows, right))
        for row in rows:
            _check_row(family, row)
        _check_groups(family, family.groups(harvest, seed_rows))
    with guard_own(family, "wrong answers to the validation rows", ConfigError, _CONTRACT):
        wrong = _wrong(family, rows)
        for row, prediction in wrong:
            score_of(family, row, prediction)
        if wrong:
            _check_evaluation(family, family.evaluate([row for row, _ in wrong], [prediction for _, prediction in wrong]))


def _check_prompts(family: TaskFamily) -> None:
    known = list(DEFAULT_TEMPLATES["classification"])
    if not isinstance(family.prompts, Mapping):
        _refuse(family, f"has prompts = {family.prompts!r}", "Write a dict: template's name -> template.")
    if unknown := next((name for name in family.prompts if name not in known), None):
        _refuse(family, f"has a prompt {unknown!r}, which is not a template", did_you_mean(str(unknown), known))


def _try_right(family: TaskFamily, rows: Sequence[Example], right: Sequence[Prediction]) -> None:
    scores = [(row, score_of(family, row, prediction)) for row, prediction in zip(rows, right, strict=True)]
    if low := next(((row, score) for row, score in scores if score != 1.0), None):
        raise ConfigError(
            f"the task family {family.task.family!r} scores the right answer of row {low[0].id!r} with {low[1]!r}.",
            hint="A right answer must score 1.0, and a wrong one less, but not below 0.",
        )


def _wrong(family: TaskFamily, rows: Sequence[Example]) -> list[tuple[Example, Prediction]]:
    """Return a wrong answer for one row of each label, so that each label is answered once; for spans, for one row."""
    if family.spans:
        words = rows[0].context.split()
        return [(rows[0], family.decided(rows[0], words[0], rows[0].context.index(words[0])))] if words else []
    found = []
    for label, other in zip(family.labels, [*family.labels[1:], *family.labels[:1]], strict=True):
        row = next((row for row in rows if label in family.labels_of(row) and other not in family.labels_of(row)), None)
        if row is not None:
            found.append((row, family.decided(row, other)))
    return found


def _check_evaluation(family: TaskFamily, found: object) -> None:
    if not isinstance(found, Evaluation):
        _returns(family, "evaluate", found, "Return a stepsynth.types.Evaluation, for instance that of super().evaluate().")
    if not isfinite(found.value) or not 0 <= found.value <= 1:
        _returns(family, "evaluate", found.value, "Its value must be between 0 and 1.")
    json.dumps([found.value, *found.ci95, dict(found.details)])


def _check_row(family: TaskFamily, row: Example) -> None:
    record, texts = family.record(row), family.texts(row)
    if not isinstance(record, Mapping):
        _returns(family, "record", record, "Return a dict: column -> value.")
    json.dumps(dict(record))
    if taken := next((name for name in record if name in _ORIGIN), None):
        _refuse(family, f"has a column {taken!r}, which a data set uses for a row's origin", "Give it another name.")
    if not isinstance(texts, tuple | list) or len(texts) not in (1, 2) or not all(isinstance(text, str) for text in texts):
        _returns(family, "texts", texts, "Return a tuple of one or two texts.")


def _check_groups(family: TaskFamily, groups: object) -> None:
    if not isinstance(groups, Mapping):
        _returns(family, "groups", groups, "Return a dict: label -> rows wanted.")
    for label, count in groups.items():
        parts = split_labels(label) if family.several_labels else (label,) if family.one_label else ()
        if unknown := next((part for part in parts if part not in family.labels), None):
            hint = did_you_mean(str(unknown), family.labels)
            _refuse(family, f"asks for rows of {unknown!r} in groups(), which is not a label of the task", hint)
        if not isinstance(count, int) or count < 0:
            _returns(family, "groups", {label: count}, "Return whole numbers, 0 or more.")


def _returns(family: TaskFamily, method: str, found: object, hint: str) -> NoReturn:
    shown = " ".join(repr(found).split())
    _refuse(family, f"returns {shown if len(shown) <= 80 else shown[:77] + '...'} from {method}()", hint)


def _refuse(family: TaskFamily, what: str, hint: str) -> NoReturn:
    raise ConfigError(f"the task family {family.task.family!r} {what}.", hint=hint or _FIX)
