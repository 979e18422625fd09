"""Predictions for any number of rows, some thousand at a time: by a student in this process, or by workers.

    with predictor(config, folder, load, jobs=4) as predict:
        for part, predictions in predict(in_parts(rows, lambda row: row), lambda row: row):
            ...

A prediction's last digits depend on the rows beside it, so a part is what its rows make it, whoever predicts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from stepsynth.errors import ConfigError
from stepsynth.exporting.loading import stored_form
from stepsynth.training.workers import Job, check_workers, in_order, open_workers

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model
    from stepsynth.types import Example, Prediction

__all__ = ["PART_CHARACTERS", "PART_ROWS", "Predict", "check_predictor", "in_parts", "predictor"]

T = TypeVar("T")

PART_ROWS = 8192
"""Rows of a part. Students batch by length: fewer rows would fill worse batches."""
PART_CHARACTERS = 16_000_000
"""A part with more characters ends here."""

_LOADER = "stepsynth.exporting.loading:load_model"


class Predict(Protocol):
    """Predicts parts, in order."""

    def __call__(self, parts: Iterable[list[T]], example: Callable[[T], Example]) -> Iterator[tuple[list[T], list[Prediction]]]:
        """Yield each part with its predictions.

        Args:
            parts: lists of anything that has an example.
            example: returns it.
        """


def in_parts(rows: Iterable[T], example: Callable[[T], Example]) -> Iterator[list[T]]:
    """Cut rows into the parts that are predicted together.

    Args:
        rows: anything that has an example.
        example: returns it.
    """
    part: list[T] = []
    size = 0
    for row in rows:
        found = example(row)
        part.append(row)
        size += len(found.text) + len(found.context)
        if len(part) == PART_ROWS or size > PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def check_predictor(jobs: int | None, on: str | None) -> None:
    """Check that predictions can be made so; starts nothing. See `predictor`.

    Raises:
        ConfigError: the number or the way is wrong, or its library is missing.
    """
    check_workers(on, jobs)


@contextmanager
def predictor(
    config: RunConfig,
    folder: Path,
    load: Callable[[], Model],
    *,
    jobs: int | None = None,
    on: str | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> Iterator[Predict]:
    """Yield the function that predicts; its workers end with the block.

    Args:
        config: of the run that trained the student.
        folder: of the student's files.
        load: loads the student into this process; not called if there are workers.
        jobs: parts to predict at once, each in a process of its own; by default one after the other, in this one.
        on: ``processes``, ``ray``, or an address of Ray, see `stepsynth.training.workers.open_workers`.
        note: called with a sentence about the workers: how many, what was tried again.

    Raises:
        ConfigError: the number or the way is wrong, its library is missing, or workers cannot load such a student.
        RunError: there is no cluster at the address, or the student cannot be loaded.
    """
    if (on or "").startswith("ray") and (form := stored_form(folder)):
        # The versions of its engine are not compared with those of the cluster.
        raise ConfigError(
            f"a student as {form} cannot be predicted on Ray.", hint="Predict on this machine, or take the student of the run."
        )
    workers = open_workers(on, jobs, note)
    if workers is None:
        model = load()
        yield lambda parts, example: ((part, model.predict([example(row) for row in part])) for part in parts)
        return

    def predict(parts: Iterable[list[T]], example: Callable[[T], Example]) -> Iterator[tuple[list[T], list[Prediction]]]:
        asked = ((part, Job(config, (), start=folder, judged=[[example(row) for row in part]], loader=_LOADER)) for part in parts)
        # Closed with the workers: whoever asked may have left in the middle.
        for part, outcome in running.enter_context(closing(in_order(workers, asked))):
            yield part, list(outcome.predictions[0])

    with closing(workers), ExitStack() as running:
        if not workers.takes(config):
            raise ConfigError(
                "workers do not know the class of this student or family, which belongs to your own program.",
                hint="Predict without workers, or register the class as an entry point of a package.",
            )
        yield predict
