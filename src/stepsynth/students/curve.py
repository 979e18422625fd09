"""Learning curve of a linear probe over the gold rows: estimates in seconds how much more labels would help."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.clusters import clusters_of
from stepsynth.evaluation.forecast import CurvePoint
from stepsynth.evaluation.learning import gain_of_more
from stepsynth.runtime.remembering import remembered
from stepsynth.students.probe import FrozenEncoder, new_regression
from stepsynth.tasks import split_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["guess_labels", "learning_curve"]

_SHARES = (0.25, 0.5, 0.75, 1.0)
# Which rows are left out is chance, so several draws are averaged.
_DRAWS = 3
# With many labels a fit takes a second, and there are more rows and so less chance.
_MANY_LABELS = 20
# Further out, a curve through so few points is a guess.
_TIMES = 2


def learning_curve(
    config: StudentConfig, family: TaskFamily, examples: Sequence[Example], fold_of: Callable[[Example], int]
) -> dict[str, Any] | None:
    """Score a probe on growing parts of the gold rows, and forecast its gain with twice as many.

    Every row is predicted by a probe fitted on rows of the other folds.

    Args:
        config: its base model gives the embeddings.
        family: the task's family.
        examples: all gold rows.
        fold_of: returns a row's fold.

    Returns:
        ``points`` (``rows`` that a probe was fitted on, ``value``), ``rows`` and ``more`` (gold rows now,
        and additional ones in the forecast), ``gain`` with ``gain_ci95``; ``None`` for question answering
        and if there are too few rows to leave some out.
    """
    if family.spans:
        return None
    vectors = FrozenEncoder(config, family).features(examples)
    folds = [fold_of(example) for example in examples]
    points: list[CurvePoint] = []
    several = family.several_labels
    for draw in range(_DRAWS if several or len(family.labels) <= _MANY_LABELS else 1):
        for share in _SHARES:
            # A share of 1 is the same rows in every draw.
            known = next((point for point in points if share == 1 and point.rows == _size(folds, 1)), None)
            scores = known.scores if known else _out_of_fold(vectors, examples, folds, share, draw, several=several)
            if scores:
                points.append(CurvePoint(draw, _size(folds, share), scores))
    if len({point.rows for point in points}) < len(_SHARES) - 1:
        return None
    largest = max(point.rows for point in points)
    gain, interval = gain_of_more(points, len(examples), _TIMES, clusters=clusters_of(examples))
    sizes = sorted({point.rows for point in points})
    # The curve may pass below the last score, and more rows cannot make more than all rows right.
    room = round(1.0 - _mean([point for point in points if point.rows == largest]), 6)
    return {
        "points": [{"rows": size, "value": _mean([p for p in points if p.rows == size])} for size in sizes],
        "rows": len(examples),
        "more": (_TIMES - 1) * len(examples),
        "gain": min(gain, room),
        "gain_ci95": [min(bound, room) for bound in interval],
    }


def _size(folds: Sequence[int], share: float) -> int:
    """Return the average number of rows over the folds that a probe is fitted on."""
    count = len(set(folds))
    return max(1, round(share * len(folds) * (count - 1) / count))


@remembered(most=64)
def _out_of_fold(
    vectors: Any, examples: Sequence[Example], folds: Sequence[int], share: float, draw: int, *, several: bool
) -> list[float]:
    """Score each gold row with a probe that had not seen it; empty if a fold's training rows lack labels."""
    scores, random = [0.0] * len(examples), Random(f"curve {draw}")
    for fold in sorted(set(folds)):
        others = [place for place, own in enumerate(folds) if own != fold]
        taken = sorted(random.sample(others, round(share * len(others))))
        if len({examples[place].label for place in taken}) < 2:
            return []
        held = [place for place, own in enumerate(folds) if own == fold]
        guessed = guess_labels(vectors, [examples[place].label for place in taken], taken, held, several=several)
        for place, guess in zip(held, guessed, strict=True):
            label = examples[place].label
            scores[place] = float(guess == (frozenset(split_labels(label)) if several else label))
    return scores


def guess_labels(vectors: Any, labels: Sequence[str], taken: Sequence[int], held: Sequence[int], *, several: bool) -> list[Any]:
    """Fit a probe on some rows and return its guesses for others: a label each, or with ``several`` a set of labels.

    Args:
        vectors: (rows, features).
        labels: the labels of the rows at ``taken``, at least two different ones.
        taken: positions of the rows to fit on.
        held: positions of the rows to guess.
        several: whether a row has any number of labels, joined by ``|``.
    """

    def fitted(targets: Sequence[Any]) -> Any:
        return new_regression().fit(vectors[taken], targets)

    if not several:
        return list(fitted(labels).predict(vectors[held]))
    chosen: list[set[str]] = [set() for _ in held]
    for label in sorted({part for joined in labels for part in split_labels(joined)}):
        targets = [label in split_labels(joined) for joined in labels]
        answers = [True] * len(held) if all(targets) else fitted(targets).predict(vectors[held])
        for row, answer in zip(chosen, answers, strict=True):
            if answer:
                row.add(label)
    return [frozenset(row) for row in chosen]


def _mean(points: Sequence[CurvePoint]) -> float:
    scores = [score for point in points for score in point.scores]
    return round(sum(map(float, scores)) / len(scores), 6)
