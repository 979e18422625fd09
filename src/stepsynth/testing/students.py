"""The contract of a student as tests, for its author.

    from stepsynth.testing import StudentContract

    class TestMyStudent(StudentContract):
        def make(self) -> StudentRecipe:
            return MyStudent(words=500)

Pytest finds the tests in the subclass. Only ``make`` is required; `rows` returns the training rows, and `several` whether
a row may have several labels.
"""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from stepsynth.students.own import StudentRecipe
from stepsynth.types import Example, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.students import Model, Student

__all__ = ["StudentContract"]

# The first byte of a pickle, and suffixes of files that are read by unpickling.
_PICKLE, _PICKLES = b"\x80", {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"}
_NOUNS = ("harbour", "mill", "orchard", "bridge", "market", "garden", "tower", "valley")


class StudentContract:
    """The behaviour that stepsynth relies on; subclass it in a test file."""

    # the author's part ----------------------------------------------------------------

    def make(self) -> Student:
        """Return the student under test; called often, and must always return the same."""
        raise NotImplementedError("a StudentContract needs a make()")

    def several(self) -> bool:
        """Return whether several labels are joined by ``|``; then probabilities need not sum to 1."""
        return False

    def rows(self, count: int, first: int = 0) -> list[Example]:
        """Return labelled rows that differ by number; by default texts with one of two labels."""
        found = []
        for number in range(first, first + count):
            label = ("calm", "storm")[number % 2]
            words = f"quiet soft {_NOUNS[number % 7]}" if label == "calm" else f"wild loud {_NOUNS[number % 8]}"
            found.append(Example(f"row-{number}", f"The {words} of day {number}.", label))
        return found

    # tests ----------------------------------------------------------------------------

    def test_its_options_make_it_again(self) -> None:
        """A run that is resumed compares them."""
        recipe = self.make()
        if isinstance(recipe, StudentRecipe):
            again = type(recipe)(**json.loads(json.dumps(recipe.options)))
            _check(again.options == recipe.options, f"{again.options!r} instead of {recipe.options!r}")

    def test_a_prediction_for_every_row_in_order(self) -> None:
        """With the row's id, a label from the training rows, and probabilities."""
        with tempfile.TemporaryDirectory() as folder:
            model = self._fit(Path(folder))
            labels = {label for row in self.rows(24) for label in row.label.split("|")}
            asked = self.rows(9, 100)
            found = model.predict(asked)
            _check([p.example_id for p in found] == [row.id for row in asked], "predictions of other rows, or in another order")
            for prediction in found:
                self._check_prediction(prediction, labels)
            _check(list(model.predict(asked[:0])) == [], "predictions of no rows")

    def test_the_loaded_model_says_the_same(self) -> None:
        """The loop uses the model loaded from the files."""
        with tempfile.TemporaryDirectory() as folder:
            fitted = self._fit(Path(folder))
            asked = self.rows(9, 100)
            _check(list(self.make().load(Path(folder)).predict(asked)) == list(fitted.predict(asked)), "other predictions")

    def test_labels_of_the_asked_rows_are_not_read(self) -> None:
        """They are unknown at prediction time."""
        with tempfile.TemporaryDirectory() as folder:
            model = self._fit(Path(folder))
            asked = self.rows(9, 100)
            blank = [replace(row, label="") for row in asked]
            _check(list(model.predict(blank)) == list(model.predict(asked)), "predictions depend on the gold label")

    def test_an_answer_does_not_depend_on_its_neighbours(self) -> None:
        """Test rows may come in portions of any size."""
        with tempfile.TemporaryDirectory() as folder:
            model = self._fit(Path(folder))
            asked = self.rows(5, 100)
            alone = [model.predict([row])[0].label for row in asked]
            _check(alone == [prediction.label for prediction in model.predict(asked)], "a row alone gets a different answer")

    def test_the_same_rows_and_seed_give_the_same_bytes(self) -> None:
        """A comparison copies a student instead of training it again."""
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for folder in (one, other):
                self._fit(Path(folder))
            _check(_bytes(Path(one)) == _bytes(Path(other)), "two trainings wrote different files")

    def test_its_files_hold_no_code(self) -> None:
        """A student may be shared, and loading it must not run code. Its files are directly in the folder."""
        with tempfile.TemporaryDirectory() as folder:
            self._fit(Path(folder))
            files = list(Path(folder).iterdir())
            _check(files, "nothing was written")
            for file in files:
                _check(file.is_file(), f"{file.name} is not a file")
                _check(file.suffix not in _PICKLES and not file.read_bytes().startswith(_PICKLE), f"{file.name} is a pickle")
                _check(file.name != "done.json", "done.json is written by the caller")

    def test_it_learns_without_rows_to_choose_by(self) -> None:
        """If it learns from all gold rows, no select rows are left."""
        with tempfile.TemporaryDirectory() as folder:
            self.make().fit(self.rows(24), [], seed=0, out=Path(folder))
            _check(self.make().load(Path(folder)).predict(self.rows(3, 100)), "no predictions")

    def test_a_stop_ends_the_training(self) -> None:
        """Exceptions from ``progress`` are not swallowed; a student without steps need not call it."""

        class Stopped(Exception):
            pass

        called = []

        def stop(done: int, steps: int) -> None:
            called.append((done, steps))
            raise Stopped

        with tempfile.TemporaryDirectory() as folder:
            try:
                self._fit(Path(folder), stop)
            except Stopped:
                return
        _check(not called, "a stop was swallowed")

    def test_random_states_are_left_as_they_were(self) -> None:
        """Other code in the process must draw the same numbers as without it."""
        with tempfile.TemporaryDirectory() as folder:
            before = random.getstate(), numpy.random.get_state()[1].tolist()  # type: ignore[index]
            self._fit(Path(folder)).predict(self.rows(3, 100))
            after = random.getstate(), numpy.random.get_state()[1].tolist()  # type: ignore[index]
            _check(before == after, "a global random state was used")

    # ------------------------------------------------------------------------------------

    def _fit(self, folder: Path, progress: Callable[[int, int], None] | None = None) -> Model:
        return self.make().fit(self.rows(24), self.rows(8, 50), seed=0, out=folder, progress=progress)

    def _check_prediction(self, prediction: object, labels: set[str]) -> None:
        if not isinstance(prediction, Prediction):
            raise AssertionError(f"{type(prediction).__name__} is not a Prediction")
        own = prediction.label.split("|") if self.several() else [prediction.label]
        _check({*own} - {""} <= labels, f"the label {prediction.label!r} was in no row")
        shares: Sequence[float] = list(prediction.probabilities.values())
        _check(all(0.0 <= share <= 1.0 for share in shares), f"shares of {shares!r}")
        _check(self.several() or abs(sum(shares) - 1.0) < 1e-3, f"the shares sum to {sum(shares)!r}")
        likeliest = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        _check(self.several() or prediction.label == likeliest, f"{prediction.label!r} is not the likeliest label {likeliest!r}")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
