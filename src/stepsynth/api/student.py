"""A trained student in Python: labels and probabilities for new texts, and a transformers pipeline."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stepsynth.api.files import absolute_path
from stepsynth.data.columns import shown
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.evaluation.coverage import abstains, check_threshold
from stepsynth.runtime.imports import importing
from stepsynth.tasks import create_family
from stepsynth.types import Example

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Prediction

__all__ = ["TrainedStudent"]


class TrainedStudent:
    """A student of a run.

    Args:
        config: the run's config.
        path: the folder with its weights (safetensors) and tokenizer.

    Examples:
        >>> run.student.predict(["Where is my invoice?"])  # doctest: +SKIP
        ['payment']
    """

    def __init__(self, config: RunConfig, path: Path) -> None:
        self.path = path
        self._config = config

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TrainedStudent:
        """Return an exported student; see `stepsynth.Run.export`.

        Args:
            folder: the folder ``student`` of an export, or a copy of its repository.

        Raises:
            RunError: there is none.
        """
        from stepsynth.exporting.student import read_config

        place = absolute_path(folder, "the folder of the student", "Give the folder of an exported student.", RunError)
        return cls(read_config(place), place)

    @cached_property
    def _family(self) -> TaskFamily:
        return create_family(self._config.task)

    @cached_property
    def _model(self) -> Model:
        from stepsynth.exporting.loading import load_model

        return load_model(self._config, self.path)

    def predict(
        self,
        texts: Iterable[str | Mapping[str, str]],
        *,
        threshold: float | None = None,
        jobs: int | None = None,
        on: str | None = None,
    ) -> list[Any]:
        """Return one answer per text: a label, a list of labels (multi-label), or the text of the answer (questions).

        Texts are read and predicted in parts of 8,192, so of a generator only some parts are in memory at a time. A list is
        checked before its first text is predicted, a generator while it is read.

        Args:
            texts: texts; for pairs and questions, dicts with the columns of a row: ``text1`` and ``text2``, or ``context``
                and ``question``.
            threshold: return ``None`` for a text whose answer is less probable than this. Of several labels, the least
                probable one counts; if none was predicted, 1 minus the highest probability.
            jobs: how many parts to predict at once, each in a process of its own; by default one after the other, in this
                one. With the same number of threads the answers are the same.
            on: ``processes`` (default), ``ray``, or ``ray:HOST:PORT``, the address of a cluster's head.

        Raises:
            DataError: a row is neither, or has an empty text.
            ConfigError: the threshold is not a number from 0 to 1, ``jobs`` is not a whole number from 1 on, or Ray is not
                installed.
            RunError: workers were lost again and again, or there is no cluster at the address.

        Examples:
            >>> run.student.predict(["Where is my invoice?", "hm"], threshold=0.8)  # doctest: +SKIP
            ['payment', None]
            >>> with open("messages.txt") as file:  # doctest: +SKIP
            ...     labels = run.student.predict((line.strip() for line in file), jobs=4)
        """
        check_threshold(threshold)
        answer = self._family.plain_answer
        with closing(self._predictions(texts, jobs, on)) as found:
            return [None if abstains(prediction, threshold) else answer(prediction) for prediction in found]

    def predict_proba(
        self, texts: Iterable[str | Mapping[str, str]], *, jobs: int | None = None, on: str | None = None
    ) -> list[dict[str, float]]:
        """Return label -> probability per text; see `predict`."""
        with closing(self._predictions(texts, jobs, on)) as found:
            return [dict(prediction.probabilities) for prediction in found]

    def pipeline(self, **settings: Any) -> Any:
        """Return a transformers pipeline (``text-classification``) around this student.

        Args:
            settings: passed to ``transformers.pipeline``, for instance ``device``, ``batch_size``, ``top_k``.

        Raises:
            ConfigError: the task is extractive questions, for which transformers has no pipeline any more, or the student is
                your own, or exported as ONNX or OpenVINO.
        """
        if self._config.student.own:
            raise ConfigError(f"transformers has no pipeline for {self._config.student.kind!r}.", hint="Use predict().")
        from stepsynth.exporting.loading import stored_form

        if form := stored_form(self.path):
            raise ConfigError(f"transformers' pipelines read safetensors, and this student is {form}.", hint="Use predict().")
        if self._family.spans:
            raise ConfigError("transformers has no pipeline for extractive questions.", hint="Use predict().")
        with importing():
            from stepsynth.students.pipeline import text_classification

        return text_classification(self._config.student, self.path, **settings)

    def _predictions(
        self, texts: Iterable[str | Mapping[str, str]], jobs: int | None, on: str | None
    ) -> Generator[Prediction, None, None]:
        """Check texts and yield their predictions."""
        from stepsynth.exporting.predicting import check_predictor, in_parts, predictor

        if isinstance(texts, str):
            raise DataError("predict takes a list of texts, but got one text.", hint="Write predict([text]).")
        if hasattr(texts, "columns") or isinstance(texts, Mapping) or not isinstance(texts, Iterable):
            names = self._family.text_columns
            hint = f"Write predict(data[{names[0]!r}])." if len(names) == 1 else f"Give dicts with {' and '.join(names)}."
            raise DataError(f"predict takes a list of texts, but got a {type(texts).__name__}.", hint=hint)
        check_predictor(jobs, on)
        if isinstance(texts, Collection):
            for number, text in enumerate(texts):
                self._example(number, text)
        parts = in_parts(itertools.starmap(self._example, enumerate(texts)), _itself)
        if (first := next(parts, None)) is None:
            return
        with predictor(self._config, self.path, lambda: self._model, jobs=jobs, on=on) as predict:
            for _, predictions in predict(itertools.chain([first], parts), _itself):
                yield from predictions

    def _example(self, number: int, given: str | Mapping[str, str]) -> Example:
        family = self._family
        names = family.text_columns
        row = {names[0]: given} if isinstance(given, str) and len(names) == 1 else given
        wanted = " and ".join(names)
        if isinstance(row, str) or not hasattr(row, "get"):
            raise DataError(
                f"row {number} is {shown(given)}.", hint=f"Give a {'text' if len(names) == 1 else 'dict with ' + wanted}."
            )
        for name in names:
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise DataError(f"row {number} has {shown(row.get(name))} for its {name}.", hint="Give a text that is not empty.")
        return Example(str(number), row[family.written], context=row[family.kept] if family.kept else "")

    def __repr__(self) -> str:
        return f"TrainedStudent({str(self.path)!r})"


def _itself(example: Example) -> Example:
    return example
