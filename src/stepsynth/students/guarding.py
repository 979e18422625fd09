"""Wraps a user's own student: its failures become one-line errors that name it, and its predictions are checked.

NumPy numbers are converted to Python's for the journal. Invalid predictions (NaN, probabilities outside 0 to 1, or
a sum far from 1) are refused.
"""

from __future__ import annotations

import math
import operator
import random
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, RunError, StepsynthError
from stepsynth.runtime.files import DISK_ERRORS
from stepsynth.runtime.shutdown import check_stop
from stepsynth.tasks import join_labels, split_labels
from stepsynth.types import Prediction, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepsynth.errors import UserError
    from stepsynth.students import Model
    from stepsynth.students.own import StudentRecipe
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["GuardedStudent", "try_student"]

_LOST = "Fix it and run it again: no answer is lost."
_TRY = "It was tried on a few validation rows before spending anything; stepsynth.testing.StudentContract helps to find out why."
# Rows tried per label: one more than five-fold cross-validation needs.
_EACH = 6
# Probabilities in 16 bits are off by less.
_SLACK, _SUM_SLACK = 1e-3, 0.02
_tried: set[tuple[type, str]] = set()


class GuardedStudent:
    """A `stepsynth.students.Student` around one of the user's.

    Args:
        recipe: the user's.
        family: defines valid predictions.
        error: class of the errors to raise.
        hint: their hint.
    """

    def __init__(self, recipe: StudentRecipe, family: TaskFamily, error: type[UserError] = RunError, hint: str = _LOST) -> None:
        self.recipe = recipe
        self.family = family
        self._error = error
        self._hint = hint

    @property
    def continues(self) -> bool:
        """Whether it can continue from an earlier student's folder."""
        return self.recipe.continues

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Model:
        """Train; see `stepsynth.students.Student.fit`.

        Raises:
            UserError: it failed, or wrote something other than files into ``out``.
        """
        with self.guard("fit"):
            model = self.recipe.fit(train, select, seed=seed, out=out, start=start, progress=progress)
        self._check_files(out)
        # Only the files are kept, so ``fit`` need not return a model.
        return _GuardedModel(model, self) if hasattr(model, "predict") else self.load(out)

    def load(self, folder: Path) -> Model:
        """Load the model that ``fit`` wrote into ``folder``.

        Raises:
            UserError: it failed, or returned something without ``predict``.
        """
        with self.guard("load"):
            model = self.recipe.load(folder)
        if not hasattr(model, "predict"):
            raise self.wrong("load", f"it returned {_shown(model)}, which has no predict")
        return _GuardedModel(model, self)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Turn the student's failures into user errors, except our own errors and a full disk."""
        try:
            yield
        except StepsynthError:
            raise
        except Exception as failed:
            if isinstance(failed, OSError) and failed.errno in DISK_ERRORS:
                raise
            raise self.wrong(what, f"{type(failed).__name__}: {' '.join(str(failed).split())[:300]}") from failed

    def wrong(self, what: str, why: str) -> UserError:
        """Return the error for a failed method."""
        return self._error(f"the student {self.recipe.name!r} failed in {what}: {why}.", hint=self._hint)

    def _check_files(self, out: Path) -> None:
        found = sorted(out.iterdir())
        if not found:
            raise self.wrong("fit", "it wrote no files into out")
        if folder := next((path for path in found if not path.is_file()), None):
            raise self.wrong("fit", f"it made {folder.name!r} in out, which is not a file, and only files are kept")
        if any(path.name == "done.json" for path in found):
            raise self.wrong("fit", "it wrote 'done.json', which stepsynth writes itself; use another name")


class _GuardedModel:
    """A trained model of a user's student.

    Args:
        model: the user's.
        student: the student that made it.
    """

    def __init__(self, model: Any, student: GuardedStudent) -> None:
        self._model = model
        self._student = student

    @property
    def steps(self) -> int | None:
        """The number of optimiser steps, if the model has it."""
        steps = getattr(self._model, "steps", None)
        try:
            return None if steps is None else operator.index(steps)
        except TypeError:
            return None

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order.

        Raises:
            UserError: it failed, or its predictions are invalid.
        """
        with self._student.guard("predict"):
            given = self._model.predict(examples)
            found = None if given is None else list(given)
        if found is None or len(found) != len(examples):
            what = "None" if found is None else f"{len(found)} predictions"
            raise self._student.wrong("predict", f"it returned {what} for {len(examples)} rows")
        return [self._checked(example, prediction) for example, prediction in zip(examples, found, strict=True)]

    def _checked(self, example: Example, given: Any) -> Prediction:
        family = self._student.family
        try:
            if not isinstance(given, Prediction):
                raise ValueError(f"{_shown(given)} is not a stepsynth.types.Prediction")
            if given.example_id != example.id:
                raise ValueError(
                    f"the prediction in its place is for row {given.example_id!r}; they must be in the order of the rows"
                )
            if not isinstance(given.label, str):
                raise ValueError(f"the label is {_shown(given.label)}, which is not a string")
            shares = _shares(given.probabilities)
            start = _whole(given.start)
            if family.spans:
                return Prediction(example.id, str(given.label), shares, start)
            return Prediction(example.id, *_labelled(family, str(given.label), shares), start)
        except ValueError as error:
            raise self._student.wrong("predict", f"for row {example.id!r}, {error}") from None


def _shares(given: Any) -> dict[str, float]:
    """Return label -> probability as Python floats."""
    try:
        named = {str(name): share for name, share in given.items()}
    except AttributeError:
        raise ValueError(f"the probabilities are {_shown(given)}, not a dict") from None
    found = {}
    for name, share in named.items():
        try:
            value = math.nan if isinstance(share, str | bytes) else float(share)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not -_SLACK <= value <= 1 + _SLACK:
            raise ValueError(f"the probability of {name!r} is {_shown(share)}, not a number from 0 to 1")
        found[name] = value
    return found


def _whole(given: Any) -> int:
    try:
        return operator.index(given)
    except TypeError:
        raise ValueError(f"the start is {_shown(given)}, not a whole number") from None


def _labelled(family: TaskFamily, label: str, shares: dict[str, float]) -> tuple[str, dict[str, float]]:
    """Return the label (several in the task's order) and the probability of each label."""
    chosen = split_labels(label) if family.several_labels else (label,)
    known = list(family.labels)
    if unknown := next((name for name in (*chosen, *shares) if name not in known), None):
        raise ValueError(f"the label {unknown!r} is not one of {known!r}")
    if not family.several_labels and not label:
        raise ValueError(f"the label is empty, not one of {known!r}")
    if missing := next((name for name in chosen if name not in shares), None):
        raise ValueError(f"the probabilities {_shown(shares)} have no entry for its label {missing!r}")
    total = math.fsum(shares.values())
    if not family.several_labels and abs(total - 1) > _SUM_SLACK:
        raise ValueError(f"the probabilities sum to {total:.6g}, not to 1")
    # Labels without training rows may be left out.
    spread = {name: shares.get(name, 0.0) for name in known}
    return (join_labels(chosen, known) if family.several_labels else label), spread


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def try_student(recipe: StudentRecipe, family: TaskFamily, rows: Sequence[Example], select: Sequence[Example], seed: int) -> None:
    """Train a user's own student on a few validation rows and predict them, so that it fails before a teacher is paid.

    Args:
        recipe: the user's.
        family: defines valid predictions.
        rows: all validation rows.
        select: those of the select half; empty if students train without select rows.
        seed: the run's.

    Raises:
        ConfigError: it fails.
    """
    train, judged = _few(family, rows), _few(family, select)
    known = type(recipe), digest([recipe.options, family.task.name, [[e.text, e.label, e.context] for e in (*train, *judged)]])
    if known in _tried:
        return
    student = GuardedStudent(recipe, family, ConfigError, _TRY)
    with _states_kept(), tempfile.TemporaryDirectory(prefix="stepsynth-") as folder:
        student.fit(train, judged, seed=seed, out=Path(folder), progress=lambda *_: check_stop())
        student.load(Path(folder)).predict(train)
    _tried.add(known)


def _few(family: TaskFamily, rows: Sequence[Example]) -> list[Example]:
    """Return a few rows of each label; with too few, they are repeated under other ids."""
    groups: dict[str, list[Example]] = {}
    for row in rows:
        for label in family.labels_of(row) or ("",):
            groups.setdefault(label, []).append(row)
    taken = [own[place % len(own)] for _, own in sorted(groups.items()) for place in range(_EACH)]
    return [replace(row, id=f"{row.id}/{number}") for number, row in enumerate(taken)]


@contextmanager
def _states_kept() -> Iterator[None]:
    """Restore the random states of the process at the end."""
    import numpy

    torch: Any = sys.modules.get("torch")
    states = random.getstate(), numpy.random.get_state(), torch.random.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        if torch:
            torch.random.set_rng_state(states[2])
