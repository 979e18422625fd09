"""A text classifier: a pretrained encoder with a head, trained quickly on a few short texts.

    model = Classifier(config.student, Classification(config.task)).fit(train, select, seed=0, out=folder)
    model.predict(examples)

The task family decides whether there is one text or a pair, and one label or several. Training uses
transformers' `Trainer`. To be fast on a CPU without changing the result:

- texts are tokenised once, and batches hold texts of similar length, so little padding is computed (`batches`);
- only the rows of the embedding matrix whose tokens occur are trained (`embeddings`);
- the network is judged on batches sorted by length, and the best weights stay in memory (`trainer`);
- on processors that multiply in bfloat16, training does (`trainer.computes_in_bfloat16`).

Weights are float32, and so is every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import DataError, RunError
from stepsynth.runtime.imports import importing
from stepsynth.students.batches import HEAD_FILE, Network, Row, Tokenizer, forward, longest, reads_segments, tokenise
from stepsynth.students.embeddings import only_used_embeddings
from stepsynth.students.pretrained import load_base, load_trained, save, steps_before
from stepsynth.students.reproducibility import quiet, seeded
from stepsynth.tasks import join_labels, split_labels
from stepsynth.types import Prediction

if TYPE_CHECKING:
    from stepsynth.config import StudentConfig
    from stepsynth.students.trainer import History, Scores
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["Classifier", "ClassifierModel"]

Progress = Callable[[int, int], None]

_SETTINGS = ("max_length",)


class ClassifierModel:
    """A trained classifier.

    Args:
        network: a transformers sequence-classification model or a `pooled.PooledClassifier`.
        tokenizer: its tokenizer.
        family: the task's family; its labels are in the order of the network's outputs.
        max_length: tokens per row; longer ones are cut.
        steps: optimiser steps of its training, if known.

    Attributes:
        settings: ``max_length``.
    """

    def __init__(
        self, network: Network, tokenizer: Tokenizer, family: TaskFamily, max_length: int, steps: int | None = None
    ) -> None:
        self.steps = steps
        self.labels = list(family.labels)
        self.settings = {"max_length": max_length}
        self._family = family
        self._network = network
        self._tokenizer = tokenizer
        self._max_length = max_length

    @property
    def network(self) -> Network:
        """The network."""
        return self._network

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Return what the network reads, one row per example."""
        return _read(self._network, self._tokenizer, self._family, examples, self._max_length)

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order, probabilities rounded to six decimals.

        In multi-label tasks, labels with a probability of at least one half are predicted.
        Rows are batched by length and content, so the order of ``examples`` does not matter.
        """
        rows = self.rows(examples)
        answers: list[Prediction | None] = [None] * len(rows)
        several = self._family.several_labels
        for positions, output in forward(self._network, self._tokenizer, rows):
            logits = output.logits.cpu().double()
            for position, row in zip(positions, (logits.sigmoid() if several else logits.softmax(-1)).tolist(), strict=True):
                probabilities = {label: round(p, 6) for label, p in zip(self.labels, row, strict=True)}
                best = join_labels(_likely(row, self.labels), self.labels) if several else self.labels[row.index(max(row))]
                answers[position] = Prediction(examples[position].id, best, probabilities)
        return [answer for answer in answers if answer is not None]


class Classifier:
    """Classification of texts or pairs of texts with a pretrained encoder.

    In multi-label tasks, each label is a separate decision (sigmoid, binary cross-entropy);
    ``label_smoothing`` is not applied there, since transformers only smooths distributions over labels.

    Args:
        config: base model and training settings.
        family: the task's family; its labels, in order, are the network's outputs.
    """

    def __init__(self, config: StudentConfig, family: TaskFamily) -> None:
        self.several = family.several_labels
        self.config = config.model_copy(update={"label_smoothing": 0.0}) if self.several else config
        self.family = family
        self.labels = list(family.labels)

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Progress | None = None,
    ) -> ClassifierModel:
        """Train and write weights, config, tokenizer and ``training.json`` into ``out``.

        With ``keep: best`` the epoch with the highest accuracy on ``select`` is kept (ties: higher micro-F1
        in multi-label tasks, then lower loss, then earlier); otherwise, or without ``select``, the last
        weights. A row with several labels is right if all of them are. With ``start``, training continues from
        its encoder and, with ``head: fresh``, its head; ``probe-start`` puts a new head on that encoder. A probe
        (``head: probe``) always starts from the base model and does not change it. A row with a ``soft_label`` is
        learned with the cross-entropy of that distribution, and counts by its ``weight``; the regression that a head
        starts as takes the labels alone.
        The same arguments on one CPU give the same bytes.

        Raises:
            ConfigError: the base model cannot be loaded, or training diverged.
            DataError: no training rows, or a label that the student does not have.
            RunError: the student in ``start`` cannot be loaded or has other labels.
        """
        _check_labels(train, select, self.labels, several=self.several)
        probe = self.config.head == "probe"
        with quiet(), seeded(seed):
            network, tokenizer = self._base() if start is None or probe else self._trained(start)[:2]
            max_length = longest(self.config.max_length, network, tokenizer)
            rows, targets = _read(network, tokenizer, self.family, train, max_length), self._targets(train)
            plain = all(row.plain for row in train)
            renewed = start is None or (start / HEAD_FILE).is_file()
            if probe or (self.config.head == "probe-start" and renewed):
                from stepsynth.students.probe_start import start_head

                start_head(network, tokenizer, rows, targets, several=self.several)
            history = None
            if not probe:
                learned = targets if plain else self._soft_targets(train)
                labelled = [{**row, "labels": target} for row, target in zip(rows, learned, strict=True)]
                judged = _read(network, tokenizer, self.family, select, max_length)
                score = (lambda network: self._score(network, tokenizer, judged, select)) if select else None
                loss = None if plain else partial(_soft_loss, several=self.several)
                history = self._trained_on(
                    network, tokenizer, labelled, judged, score, seed=seed, out=out, progress=progress, loss=loss
                )
            epochs, best, steps = (history.epochs, history.best, history.steps) if history else ([], None, 0)
            steps += 0 if probe else steps_before(start)
            settings = {"max_length": max_length}
            save(network, tokenizer, out, settings=settings, seed=seed, history=epochs, best=best, steps=steps)
        return ClassifierModel(network, tokenizer, self.family, max_length, steps)

    def load(self, folder: Path) -> ClassifierModel:
        """Load the model that `fit` wrote into ``folder``.

        Raises:
            RunError: files are missing or unreadable, or the model has other labels.
        """
        with quiet(), seeded(0):
            network, tokenizer, settings = self._trained(folder)
        return ClassifierModel(network, tokenizer, self.family, settings["max_length"], settings.get("steps"))

    def _trained_on(
        self,
        network: Network,
        tokenizer: Tokenizer,
        rows: Sequence[dict[str, Any]],
        judged: Sequence[Row],
        score: Callable[[Network], Scores] | None,
        *,
        seed: int,
        out: Path,
        progress: Progress | None,
        loss: Callable[[Any, Any], Any] | None,
    ) -> History:
        """Train the network on rows with their targets; return the history."""
        with importing():
            from stepsynth.students import trainer

        tokens = [row["input_ids"] for row in (*rows, *judged)]
        with only_used_embeddings(network, tokens, tokenizer.pad_token_id):
            return trainer.train(
                network, tokenizer, self.config, rows=rows, score=score, seed=seed, out=out, progress=progress, loss=loss
            )

    def _base(self) -> tuple[Network, Tokenizer]:
        """Load the base model with a random head of the right size, and its tokenizer."""
        pooled = self.config.head != "fresh"
        return load_base(
            _architecture(pooled=pooled),
            self.config,
            **({"trained": False} if pooled else {}),
            num_labels=len(self.labels),
            id2label=dict(enumerate(self.labels)),
            label2id={label: index for index, label in enumerate(self.labels)},
            problem_type="multi_label_classification" if self.several else "single_label_classification",
        )

    def _trained(self, folder: Path) -> tuple[Network, Tokenizer, dict[str, int]]:
        """Load a trained student with either head, and its settings; check that it has our labels."""
        architecture = _architecture(pooled=(folder / HEAD_FILE).is_file())
        network, tokenizer, settings = load_trained(architecture, folder, _SETTINGS)
        labels = [network.config.id2label[index] for index in sorted(network.config.id2label)]
        if labels != self.labels:
            raise RunError(f"the student in {str(folder)!r} has labels {labels!r}, the config has {self.labels!r}.")
        return network, tokenizer, settings

    def _targets(self, examples: Sequence[Example]) -> list[Any]:
        """Return label numbers, or in multi-label tasks one 0.0 or 1.0 per label."""
        if not self.several:
            return [self.labels.index(example.label) for example in examples]
        chosen = [split_labels(example.label) for example in examples]
        return [[float(label in row) for label in self.labels] for row in chosen]

    def _soft_targets(self, examples: Sequence[Example]) -> list[list[float]]:
        """Return for each row the probability of each label, and last its weight."""
        found, smoothed = [], self.config.label_smoothing
        for example in examples:
            held = set(split_labels(example.label)) if self.several else {example.label}
            given = dict(example.soft_label) or dict.fromkeys(held, 1.0)
            # As transformers smooths labels that are certain.
            shares = [(1 - smoothed) * given.get(label, 0.0) + smoothed / len(self.labels) for label in self.labels]
            found.append([*shares, example.weight])
        return found

    def _score(self, network: Network, tokenizer: Tokenizer, rows: Sequence[Row], select: Sequence[Example]) -> Scores:
        """Return accuracy, mean cross-entropy and, in multi-label tasks, micro-F1 on the select rows."""
        with importing():
            import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        with importing():
            from stepsynth.students.trainer import Scores

        targets = self._targets(select)
        right, loss, shared, marked = 0, 0.0, 0, 0
        for positions, output in forward(network, tokenizer, rows):
            logits, wanted = output.logits.cpu(), torch.tensor([targets[position] for position in positions])
            if self.several:
                loss += float(binary_cross_entropy_with_logits(logits.double(), wanted.double(), reduction="sum"))
                for position, row in zip(positions, logits.double().sigmoid().tolist(), strict=True):
                    guessed, true = set(_likely(row, self.labels)), set(split_labels(select[position].label))
                    right, shared, marked = (
                        right + (guessed == true),
                        shared + len(guessed & true),
                        marked + len(guessed) + len(true),
                    )
            else:
                right += int((logits.argmax(-1) == wanted).sum())
                loss += float(cross_entropy(logits.double(), wanted, reduction="sum"))
        if not self.several:
            return Scores(right / len(rows), loss / len(rows))
        return Scores(right / len(rows), loss / len(rows) / len(self.labels), 2 * shared / marked if marked else 1.0)


def _soft_loss(logits: Any, targets: Any, *, several: bool) -> Any:
    """Return the mean loss of rows whose targets are those of `Classifier._soft_targets`."""
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    logits, targets = logits.float(), targets.float()
    shares, weights = targets[:, :-1], targets[:, -1]
    if several:
        each = binary_cross_entropy_with_logits(logits, shares, reduction="none").mean(1)
    else:
        each = cross_entropy(logits, shares, reduction="none")
    return (each * weights).mean()


def _architecture(*, pooled: bool) -> Any:
    if pooled:
        with importing():
            from stepsynth.students.pooled import PooledClassifier

        return PooledClassifier
    with importing():
        from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification


def _read(network: Network, tokenizer: Tokenizer, family: TaskFamily, examples: Sequence[Example], max_length: int) -> list[Row]:
    texts = [family.texts(example) for example in examples]
    return tokenise(tokenizer, texts, max_length, segments=reads_segments(network))


def _likely(probabilities: Iterable[float], labels: Sequence[str]) -> list[str]:
    """Return the labels whose rounded probability is at least one half."""
    return [label for label, p in zip(labels, probabilities, strict=True) if round(p, 6) >= 0.5]


def _check_labels(train: Sequence[Example], select: Sequence[Example], labels: Sequence[str], *, several: bool) -> None:
    if not train:
        raise DataError("no rows to train the student on.", hint="Every row was dropped; see the reasons with: stepsynth status")
    for example in (*train, *select):
        for label in split_labels(example.label) if several else (example.label,):
            if label not in labels:
                raise DataError(f"row {example.id!r} has label {label!r}, which is not one of {list(labels)!r}.")
