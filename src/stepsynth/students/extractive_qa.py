"""A reader: finds the answer to a question in a passage of any length.

    model = ExtractiveQA(config.student, family).fit(train, select, seed=0, out=folder)
    model.predict(examples)

A pretrained encoder scores every token as the start and as the end of the answer (Devlin et al.
2019, section 4.2). Long contexts are read in overlapping windows (`windows`), the answer is the best
span over all of them (`span_decoding`), and training is the same as the classifier's (`trainer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, DataError
from stepsynth.evaluation.squad import exact_match, f1
from stepsynth.runtime.imports import importing
from stepsynth.students.batches import Network, Row, Tokenizer, forward, longest, reads_segments
from stepsynth.students.embeddings import only_used_embeddings
from stepsynth.students.pretrained import load_base, load_trained, save, steps_before
from stepsynth.students.reproducibility import quiet, seeded

if TYPE_CHECKING:
    from stepsynth.config import StudentConfig
    from stepsynth.students.span_decoding import Scored
    from stepsynth.students.trainer import Scores
    from stepsynth.students.windows import Window
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["ExtractiveQA", "ExtractiveQAModel"]

Progress = Callable[[int, int], None]
# First and last token of the answer in a window; ``None`` if the window does not contain it.
Target = tuple[int, int] | None

_SETTINGS = ("max_length", "stride", "max_answer_tokens")


class ExtractiveQAModel:
    """A trained reader.

    Args:
        network: a transformers question-answering model.
        tokenizer: its tokenizer, a fast one.
        family: the task's family; its texts are question, then context.
        settings: ``max_length`` (tokens per window), ``stride`` (tokens that windows share) and
            ``max_answer_tokens``; ``steps``, the optimiser steps of its training, if known.
    """

    def __init__(self, network: Network, tokenizer: Tokenizer, family: TaskFamily, settings: dict[str, int]) -> None:
        self.settings = settings
        self.steps = settings.pop("steps", None)
        self._family = family
        self._network = network
        self._tokenizer = tokenizer

    @property
    def network(self) -> Network:
        """The network."""
        return self._network

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Return what the network reads, one row per window."""
        return [window.row for window in self.windows(examples)]

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order: answer, start, and candidates with their probabilities.

        Windows are batched by length and content, so the order of ``examples`` does not matter.
        """
        windows = self.windows(examples)
        found: list[list[Scored]] = [[] for _ in windows]
        for positions, spans, _ in self.read(windows):
            for position, scored in zip(positions, spans, strict=True):
                found[position] = scored
        return self.answers(examples, windows, found)

    def windows(self, examples: Sequence[Example]) -> list[Window]:
        """Cut the contexts of the examples into windows."""
        from stepsynth.students import windows

        texts = [self._family.texts(example) for example in examples]
        segments = reads_segments(self._network)
        size, stride = self.settings["max_length"], self.settings["stride"]
        return windows.cut(self._tokenizer, texts, size, stride, segments=segments) if texts else []

    def read(self, windows: Sequence[Window]) -> Any:
        """Yield ``(positions, best spans, log-probabilities)`` of batches of windows; see `span_decoding`."""
        from stepsynth.students import span_decoding

        for positions, output in forward(self._network, self._tokenizer, [window.row for window in windows]):
            batch = [windows[position] for position in positions]
            scores = span_decoding.log_probabilities(output, [len(window.row["input_ids"]) for window in batch])
            yield positions, span_decoding.best_spans(scores, batch, self.settings["max_answer_tokens"]), scores

    def answers(self, examples: Sequence[Example], windows: Sequence[Window], found: Sequence[list[Scored]]) -> list[Prediction]:
        """Choose one answer per example among the best spans of its windows."""
        from stepsynth.students import span_decoding

        candidates: list[list[Scored]] = [[] for _ in examples]
        for window, scored in zip(windows, found, strict=True):
            candidates[window.example] += scored
        return [
            span_decoding.answer(row.id, self._family.texts(row)[1], scored)
            for row, scored in zip(examples, candidates, strict=True)
        ]


class ExtractiveQA:
    """Extractive question answering with a pretrained encoder.

    Training has one row per window; windows without the whole answer learn to point at the first
    token. ``label_smoothing`` is not applied: transformers only smooths distributions over labels.

    Args:
        config: base model, windows and training settings.
        family: the task's family; its texts are question, then context.
    """

    def __init__(self, config: StudentConfig, family: TaskFamily) -> None:
        self.config = config
        self.family = family

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Progress | None = None,
    ) -> ExtractiveQAModel:
        """Train and write weights, config, tokenizer and ``training.json`` into ``out``.

        With ``keep: best`` the epoch with the most exact matches on ``select`` is kept (ties: higher F1, then
        lower loss, then earlier); otherwise, or without ``select``, the last weights. Of several right answers, the
        first is learned. Training rows whose answer fits into no window are left out; ``training.json`` counts
        them as ``skipped``. The same arguments on one CPU give the same bytes.

        Raises:
            ConfigError: the base model cannot be loaded or its tokenizer is slow, or training diverged.
            DataError: no rows, a row without an answer in its context, or no answer fits into a window.
            RunError: the student in ``start`` cannot be loaded.
        """
        _check_answers(train, select, self.family)
        with quiet(), seeded(seed):
            with importing():
                from stepsynth.students import trainer

            model, network, tokenizer = self._base() if start is None else self._trained(start)
            windows, judged = model.windows(train), model.windows(select)
            rows, skipped = self._rows(tokenizer, train, windows)
            tokens = [row["input_ids"] for row in (*rows, *(window.row for window in judged))]
            aims = _targets(select, judged)
            with only_used_embeddings(network, tokens, tokenizer.pad_token_id):
                history = trainer.train(
                    network,
                    tokenizer,
                    self.config,
                    rows=rows,
                    score=(lambda _: _score(model, tokenizer, select, judged, aims)) if select else None,
                    seed=seed,
                    out=out,
                    progress=progress,
                )
            settings = {**model.settings, "windows": len(rows), "skipped": skipped}
            epochs, steps = history.epochs, history.steps + steps_before(start)
            save(network, tokenizer, out, settings=settings, seed=seed, history=epochs, best=history.best, steps=steps)
        model.steps = steps
        return model

    def load(self, folder: Path) -> ExtractiveQAModel:
        """Load the model that `fit` wrote into ``folder``, with the window settings of its training.

        Raises:
            RunError: files are missing or unreadable.
        """
        with importing():
            from transformers import AutoModelForQuestionAnswering

        with quiet(), seeded(0):
            network, tokenizer, settings = load_trained(AutoModelForQuestionAnswering, folder, _SETTINGS)
        return ExtractiveQAModel(network, tokenizer, self.family, settings)

    def _base(self) -> tuple[ExtractiveQAModel, Network, Tokenizer]:
        """Load the base model with a fresh head, and its tokenizer."""
        with importing():
            from transformers import AutoModelForQuestionAnswering

        network, tokenizer = load_base(AutoModelForQuestionAnswering, self.config)
        if not tokenizer.is_fast:
            raise ConfigError(
                f"student.model {self.config.model!r} has a slow tokenizer, which gives no positions of tokens.",
                hint="Use a model with a tokenizer.json.",
            )
        return self._model(network, tokenizer), network, tokenizer

    def _trained(self, folder: Path) -> tuple[ExtractiveQAModel, Network, Tokenizer]:
        """Load a trained student's weights, to continue training with this config's windows."""
        with importing():
            from transformers import AutoModelForQuestionAnswering

        network, tokenizer, _ = load_trained(AutoModelForQuestionAnswering, folder, _SETTINGS)
        return self._model(network, tokenizer), network, tokenizer

    def _model(self, network: Network, tokenizer: Tokenizer) -> ExtractiveQAModel:
        config = self.config
        max_length = longest(config.max_length, network, tokenizer)
        settings = {"max_length": max_length, "stride": config.stride, "max_answer_tokens": config.max_answer_tokens}
        return ExtractiveQAModel(network, tokenizer, self.family, settings)

    def _rows(
        self, tokenizer: Tokenizer, train: Sequence[Example], windows: Sequence[Window]
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a training row per window, and the number of examples left out."""
        targets = _targets(train, windows)
        reached = {window.example for window, target in zip(windows, targets, strict=True) if target}
        if not reached:
            first = train[0]
            raise DataError(
                f"no row has an answer that fits into a window of {self.config.max_length} tokens; "
                f"the answer of row {first.id!r} has {len(first.answers[0].text)} characters.",
                hint="Raise student.max_length.",
            )
        rows = [
            _row(window.row, target, tokenizer)
            for window, target in zip(windows, targets, strict=True)
            if window.example in reached
        ]
        return rows, len(train) - len(reached)


def _row(row: Row, target: Target, tokenizer: Tokenizer) -> dict[str, Any]:
    first, last = target or (_no_answer(row, tokenizer),) * 2
    return {**row, "start_positions": first, "end_positions": last}


def _no_answer(row: Row, tokenizer: Tokenizer) -> int:
    """Return the position that means "not in this window": the classification token's, or 0."""
    ids = row["input_ids"]
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def _targets(examples: Sequence[Example], windows: Sequence[Window]) -> list[Target]:
    """Return the position in each window of its example's first right answer."""
    from stepsynth.students.windows import locate

    by_example: dict[int, list[Window]] = {}
    for window in windows:
        by_example.setdefault(window.example, []).append(window)
    return [target for position, own in by_example.items() for target in locate(own, examples[position].answers[0])]


def _score(
    model: ExtractiveQAModel,
    tokenizer: Tokenizer,
    select: Sequence[Example],
    windows: Sequence[Window],
    targets: Sequence[Target],
) -> Scores:
    """Return exact match, F1 and the mean loss per window on the select rows."""
    with importing():
        from stepsynth.students.trainer import Scores

    found: list[list[Scored]] = [[] for _ in windows]
    loss = 0.0
    for positions, spans, scores in model.read(windows):
        for place, position in enumerate(positions):
            found[position] = spans[place]
            first, last = targets[position] or (_no_answer(windows[position].row, tokenizer),) * 2
            loss -= float(scores[0, place, first] + scores[1, place, last]) / 2
    pairs = [
        (prediction.label, [answer.text for answer in example.answers])
        for prediction, example in zip(model.answers(select, windows, found), select, strict=True)
    ]
    exact = sum(exact_match(*pair) for pair in pairs) / len(pairs)
    return Scores(exact, loss / len(windows), sum(f1(*pair) for pair in pairs) / len(pairs))


def _check_answers(train: Sequence[Example], select: Sequence[Example], family: TaskFamily) -> None:
    if not train:
        raise DataError("no rows to train the student on.", hint="Every row was dropped; see the reasons with: stepsynth status")
    for example in (*train, *select):
        if not example.answers:
            raise DataError(f"row {example.id!r} has no answer to learn.")
        context = family.texts(example)[1]
        for span in example.answers:
            if not span.text or context[span.start : span.start + len(span.text)] != span.text or span.start < 0:
                raise DataError(
                    f"row {example.id!r}: the answer {span.text[:80]!r} is not at character {span.start} of its context."
                )
