"""A stratified sample in one pass: only the rows with the smallest random keys are held for each stratum."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from stepsynth.data.columns import describe_has
from stepsynth.data.splits import apportion
from stepsynth.errors import DataError
from stepsynth.runtime.counting import counted
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from stepsynth.config import SourceConfig, TaskConfig
    from stepsynth.types import Example

__all__ = ["draw"]


def draw(rows: Iterable[Example], task: TaskConfig, source: SourceConfig, role: str, seed: int) -> list[Example]:
    """Draw ``source.sample`` rows, stratified by label; questions and contexts, which have no label, form one stratum.

    A row with several labels counts for the rarest of them, so that rare labels are drawn too, as long
    as the sample has a row for each. Samples of validation rows have two rows of every label if the
    size allows.

    Args:
        rows: checked rows, read once.
        task: gives the family and the labels.
        source: gives the size, and its name for messages.
        role: key of the source in the config's ``data``, for messages.
        seed: seed of the draw.

    Returns:
        The rows in the order of their random keys.

    Raises:
        DataError: there are fewer rows than the sample, or more labels.
    """
    size, random = source.sample or 0, Random(f"sample {seed}")
    heaps: dict[str, list[tuple[float, int, Example]]] = defaultdict(list)
    family = create_family(task)
    counts = dict.fromkeys(task.labels if family.one_label else (), 0)
    for number, row in enumerate(rows):
        counts[row.label] = counts.get(row.label, 0) + 1
        item = (-random.random(), -number, row)
        if len(heaps[row.label]) < size:
            heapq.heappush(heaps[row.label], item)
        else:
            heapq.heappushpop(heaps[row.label], item)
    total, present = sum(counts.values()), {label: count for label, count in counts.items() if count}
    if size > total:
        raise DataError(
            f"data.{role}.sample is {size}, but {describe_has(source)} {counted(total, 'row')}.",
            hint="Lower 'sample' or leave it out.",
        )
    strata = family.strata(present)
    sizes: Counter[str] = Counter()
    for label, count in present.items():
        sizes[strata[label]] += count
    if size < len(sizes) and family.several_labels:
        strata, sizes = dict.fromkeys(present, ""), Counter({"": total})
    if size < len(sizes):
        raise DataError(
            f"data.{role}.sample is {size}, but {describe_has(source)} {len(present)} labels.",
            hint="Draw at least one row per label.",
        )
    # Validation rows are split in two, and each label should have a row for each half.
    least = 2 if role == "validation" and size >= sum(min(2, count) for count in sizes.values()) else 1
    held: dict[str, list[tuple[float, int, Example]]] = defaultdict(list)
    for label in present:
        held[strata[label]] += heaps[label]
    drawn = [
        item for stratum, quota in apportion(sizes, size, least=least).items() for item in heapq.nlargest(quota, held[stratum])
    ]
    return [row for _, _, row in sorted(drawn, reverse=True)]
