"""How a linear probe learns from more and more gold rows: what further labels would bring, in seconds."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.forecast import CurvePoint, forecast
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks import split_labels
from stepsynth.tasks.classification import Classification, MultiLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["learning_curve"]

_SHARES = (0.25, 0.5, 0.75, 1.0)
# Which rows are left out is luck; of several draws the mean is looked at.
_DRAWS = 3
# Twice the rows lies well within what a line over the logarithm of the rows can be trusted for.
_TIMES = 2


def learning_curve(
    config: StudentConfig, family: TaskFamily, examples: Sequence[Example], fold_of: Callable[[Example], int]
) -> dict[str, Any] | None:
    """Return what a probe scores with a part of the gold rows, and what it would score with twice as many.

    Every row is predicted by a probe that was fitted on rows of the other folds.

    Args:
        config: whose base model gives the embeddings.
        family: how rows are read.
        examples: all gold rows.
        fold_of: gives a row's fold.

    Returns:
        ``points`` (``rows`` that a probe was fitted on, ``value``), ``rows`` and ``more`` (gold rows now,
        and further ones that the forecast is about), ``gain`` with ``gain_ci95``; ``None`` for questions,
        and where rows are too few to leave some out.
    """
    if not isinstance(family, Classification):
        return None
    vectors = LinearProbe(config, family, examples).features(examples)
    folds = [fold_of(example) for example in examples]
    points = []
    for draw in range(_DRAWS):
        for share in _SHARES:
            rows, scores = _out_of_fold(vectors, examples, folds, share, draw, several=isinstance(family, MultiLabel))
            if rows:
                points.append(CurvePoint(draw, rows, scores))
    if len({point.rows for point in points}) < len(_SHARES) - 1:
        return None
    largest = max(point.rows for point in points)
    found = forecast(points, _TIMES * largest)
    sizes = sorted({point.rows for point in points})
    return {
        "points": [{"rows": size, "value": _mean([p for p in points if p.rows == size])} for size in sizes],
        "rows": len(examples),
        "more": (_TIMES - 1) * len(examples),
        "gain": found.gain,
        "gain_ci95": list(found.gain_ci95),
    }


def _out_of_fold(
    vectors: Any, examples: Sequence[Example], folds: Sequence[int], share: float, draw: int, *, several: bool
) -> tuple[int, list[float]]:
    """Return on how many rows a probe was fitted, and which gold rows probes got right; none where labels were lacking."""
    scores, sizes = [0.0] * len(examples), []
    # All of it is the same whatever is drawn.
    random = Random(f"curve {draw if share < 1 else 0}")
    for fold in sorted(set(folds)):
        others = [place for place, own in enumerate(folds) if own != fold]
        taken = sorted(random.sample(others, round(share * len(others))))
        if len({examples[place].label for place in taken}) < 2:
            return 0, []
        held = [place for place, own in enumerate(folds) if own == fold]
        guessed = _guesses(vectors, [examples[place].label for place in taken], taken, held, several=several)
        for place, guess in zip(held, guessed, strict=True):
            scores[place] = float(
                guess == frozenset(split_labels(examples[place].label)) if several else guess == examples[place].label
            )
        sizes.append(len(taken))
    return round(sum(sizes) / len(sizes)), scores


def _guesses(vectors: Any, labels: Sequence[str], taken: Sequence[int], held: Sequence[int], *, several: bool) -> list[Any]:
    from sklearn.linear_model import LogisticRegression

    def fitted(targets: Sequence[Any]) -> Any:
        return LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000).fit(vectors[taken], targets)

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
