"""Rows that share a context are one cluster: a student that misreads a passage misses several of its questions.

Statistics over such rows count clusters, not rows (Miller 2024, arXiv 2411.00640, section 2.2): sums over a
cluster take the place of rows in variances, resampling and sign flips. Rows without a context are clusters
of their own; if all are, there are no clusters (``None``) and nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.words import normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from stepsynth.types import Example

    Array = npt.NDArray[np.float64]

__all__ = ["Clusters", "cluster_sums", "clusters_of", "count_clusters", "design_effect", "in_details", "pseudo_rows"]

# The cluster of each row, counted from 0; `None` if every row is one.
Clusters = tuple[int, ...] | None


def clusters_of(rows: Sequence[Example]) -> Clusters:
    """Return the cluster of each row, numbered in the order of their first rows; ``None`` if no two rows share a context.

    Contexts are compared as splits compare them: case and white space are ignored.
    """
    numbers: dict[object, int] = {}
    found = []
    for place, row in enumerate(rows):
        context = normalised(row.context)
        found.append(numbers.setdefault(context or place, len(numbers)))
    return None if len(numbers) == len(rows) else tuple(found)


def count_clusters(clusters: Sequence[int]) -> int:
    """Return the number of different clusters."""
    return len(set(clusters))


def in_details(clusters: Clusters) -> dict[str, int]:
    """Return the number of clusters as an evaluation's details have it; nothing without clusters."""
    return {} if clusters is None else {"clusters": count_clusters(clusters)}


def cluster_sums(values: Array, clusters: Clusters) -> Array:
    """Return the sum of each cluster's values; the values themselves without clusters.

    Args:
        values: one number per row, or an array of anything x rows.
        clusters: the cluster of each row.

    Raises:
        ValueError: there are clusters of another number of rows.
    """
    import numpy as np

    if clusters is None:
        return values
    if len(clusters) != values.shape[-1]:
        raise ValueError(f"every row needs a cluster; found {len(clusters)} for {values.shape[-1]} rows")
    order = np.argsort(clusters, kind="stable")
    starts = np.unique(np.asarray(clusters)[order], return_index=True)[1]
    sums: Array = np.add.reduceat(values[..., order], starts, axis=-1)
    return sums


def pseudo_rows(values: Array, clusters: Clusters) -> Array:
    """Return one number per seed and cluster that stands for the cluster's rows; the values themselves without clusters.

    Their mean over clusters is the seed's mean over rows, and their variance divided by the number of clusters
    is the cluster-robust variance of that mean (a ratio, linearised: Cochran 1977, section 9A.1).

    Args:
        values: an array of seeds x rows.
        clusters: the cluster of each row.
    """
    if clusters is None:
        return values
    means = values.mean(axis=-1, keepdims=True)
    sums = cluster_sums(values - means, clusters)
    found: Array = means + sums * (sums.shape[-1] / values.shape[-1])
    return found


def design_effect(values: Array, clusters: Clusters) -> float:
    """Return how many times the variance of the mean is what it would be for independent rows (Kish 1965); at least 1.

    Args:
        values: one number per row.
        clusters: the cluster of each row.
    """
    rows = len(values)
    alone = float(values.var()) / (rows - 1) if rows > 1 else 0.0
    if clusters is None or not alone:
        return 1.0
    stand_ins = pseudo_rows(values[None, :], clusters)[0]
    if len(stand_ins) == 1:
        return float(rows)
    return max(1.0, float(stand_ins.var(ddof=1)) / len(stand_ins) / alone)
