"""How far two sets of vectors are from each other, and how varied one set is.

Nothing here knows what the vectors stand for. Sums use one thread, so that a figure does not depend on the cores of a machine.

- `separability`: how well a classifier tells the sets apart (Lopez-Paz and Oquab 2017, as the area under the ROC curve).
- `squared_mmd`: maximum mean discrepancy (Gretton et al. 2012).
- `neighbourhoods`: precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).
- `vendi_score`: the effective number of different rows (Friedman and Dieng 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.statistics import Interval, plain
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["NEIGHBOURS", "Neighbourhoods", "kernel_width", "neighbourhoods", "separability", "squared_mmd", "vendi_score"]

FOLDS = 5
NEIGHBOURS = 5
"""k of precision, recall, density and coverage, as in the papers."""

_RESAMPLES = 1_000
# Distances of equal texts differ in their last digits, which depend on the processor.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """How two sets lie in each other's neighbourhoods; a row's neighbourhood reaches to its k-th neighbour in its own set.

    Attributes:
        precision: share of written rows in the neighbourhood of a real row.
        recall: share of real rows in the neighbourhood of a written row.
        density: in how many real neighbourhoods a written row lies, divided by k; about 1 for equal sets, and may be more.
        coverage: share of real rows with a written row in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def separability(
    written: Array, real: Array, groups: Sequence[int], seed: int, *, scale: bool = False, interval: bool = True
) -> tuple[float, Interval | None] | None:
    """Return the cross-validated AUC of a logistic regression that tells written from real rows, and its 95 % interval.

    0.5: the classifier cannot tell them apart; 1: it always can. Only rows of the same fold are compared with each other, because
    each fold has its own classifier. The interval resamples groups, and so leaves out how the classifier itself would vary.

    Args:
        written: (rows, features).
        real: (rows, features).
        groups: the group of each row, written ones first; rows of a group stay in one fold and are resampled together.
        seed: of folds and resampling.
        scale: whether to standardise each feature.
        interval: whether to compute the interval.

    Returns:
        ``None`` if there are too few groups to cross-validate.
    """
    import numpy as np

    sides = np.repeat([1, 0], [len(written), len(real)])
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    folded = _out_of_fold(np.vstack([written, real]), sides, numbers, seed, scale=scale)
    if folded is None:
        return None
    scores, folds = folded
    ours, theirs = sides == 1, sides == 0
    above = scores[ours][:, None] - scores[theirs][None, :]
    together = (folds[ours][:, None] == folds[theirs][None, :]).astype(np.float64)
    wins = together * np.where(above > 0, 1.0, np.where(above < 0, 0.0, 0.5))
    if not together.any():
        return None
    found = plain(wins.sum() / together.sum())
    if not interval:
        return found, None
    drawn = np.random.default_rng(seed).multinomial(n := int(numbers.max()) + 1, np.full(n, 1 / n), size=_RESAMPLES)
    first, second = (drawn[:, numbers[side]].astype(np.float64) for side in (ours, theirs))
    pairs = ((first @ together) * second).sum(axis=1)
    aucs = ((first @ wins) * second).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    low, high = np.percentile(aucs, [2.5, 97.5])
    return found, (plain(low), plain(high))


def _out_of_fold(rows: Array, sides: Any, groups: Any, seed: int, *, scale: bool) -> tuple[Array, Any] | None:
    """Return each row's score by a classifier that has not seen its group, and its fold."""
    with importing():
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    import numpy as np

    if groups.max() + 1 < FOLDS or min(sides.sum(), (1 - sides).sum()) < FOLDS:
        return None
    scores, folds = np.zeros(len(rows)), np.zeros(len(rows), dtype=int)
    # With groups, folds are dealt group by group, which takes longer than the regressions.
    alone = groups.max() + 1 == len(rows)
    split = (StratifiedKFold if alone else StratifiedGroupKFold)(FOLDS, shuffle=True, random_state=seed)
    for number, (taken, held) in enumerate(split.split(rows, sides, None if alone else groups)):
        if len(set(sides[taken].tolist())) < 2:
            return None
        table = _standardised(rows, taken) if scale else rows
        regression = LogisticRegression(C=1.0 if scale else 10.0, class_weight="balanced", max_iter=1_000)
        scores[held] = regression.fit(table[taken], sides[taken]).decision_function(table[held]).round(_DIGITS)
        folds[held] = number
    return scores, folds


def _standardised(rows: Array, taken: Any) -> Array:
    """Return the rows with each feature's mean 0 and deviation 1 over some of them; constant ones become 0."""
    import numpy as np

    deviations = rows[taken].std(axis=0)
    found: Array = (rows - rows[taken].mean(axis=0)) / np.where(deviations > 1e-9, deviations, 1.0)
    return found


def kernel_width(rows: Array) -> float:
    """Return the median distance between rows, the usual width of a Gaussian kernel; 1 if all rows are equal."""
    with importing():
        from scipy.spatial.distance import pdist
    import numpy as np

    return float(np.median(pdist(rows))) or 1.0


def squared_mmd(written: Array, real: Array, width: float) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy with a Gaussian kernel.

    It is 0 on average if both sets come from one distribution, so it may be slightly negative.

    Args:
        written: (rows, features), at least two rows.
        real: (rows, features), at least two rows.
        width: of the kernel; with the same one, figures of several sets can be compared.
    """
    with importing():
        from scipy.spatial.distance import cdist
    import numpy as np

    def kernel(one: Array, other: Array) -> Array:
        found: Array = np.exp(-cdist(one, other, "sqeuclidean") / (2 * width**2))
        return found

    def within(rows: Array) -> float:
        n = len(rows)
        # A row's likeness to itself says nothing.
        return float(kernel(rows, rows).sum() - n) / (n * (n - 1))

    return within(written) + within(real) - 2 * float(kernel(written, real).mean())


def neighbourhoods(written: Array, real: Array, k: int = NEIGHBOURS) -> Neighbourhoods:
    """Return precision, recall, density and coverage.

    Args:
        written: (rows, features), more than ``k`` rows.
        real: (rows, features), more than ``k`` rows.
        k: which neighbour bounds a row's neighbourhood.

    Raises:
        ValueError: a side has too few rows.
    """
    with importing():
        from scipy.spatial.distance import cdist
        from sklearn.neighbors import NearestNeighbors

    if min(len(written), len(real)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} rows on each side; found {len(written)} and {len(real)}")

    def reach(rows: Array) -> Any:
        # Without arguments, a row is no neighbour of itself.
        return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows).kneighbors()[0][:, -1].round(_DIGITS)

    apart = cdist(written, real).round(_DIGITS)
    in_real, in_written = apart <= reach(real)[None, :], apart <= reach(written)[:, None]
    return Neighbourhoods(
        precision=plain(in_real.any(axis=1).mean()),
        recall=plain(in_written.any(axis=0).mean()),
        density=plain(in_real.sum() / (k * len(written))),
        coverage=plain(in_real.any(axis=0).mean()),
    )


def vendi_score(rows: Array) -> float:
    """Return the Vendi score with the cosine kernel: how many equally frequent, wholly different rows would be as varied.

    It is the exponential of the entropy of the eigenvalues of the kernel matrix divided by the number of rows: 1 if all rows are
    equal, the number of rows if all are orthogonal.

    Args:
        rows: (rows, features), none of them zero.
    """
    import numpy as np

    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))
