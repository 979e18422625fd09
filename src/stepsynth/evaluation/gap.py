"""How far written rows are from real ones, in figures that people can compare from round to round.

    figures = measure_gap(written, real, width, seed)
    figures.embedding_auc, figures.embedding_auc_ci95
    noise_floor(real, width, seed)          # the same between two halves of the real rows

Both sides have the same number of rows, label by label where a row has one label: otherwise more rows, or another mix of labels,
would look like a gap. With few rows all figures are rough; the noise floor shows how rough.
"""

from __future__ import annotations

import math
import string
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.clusters import Clusters
from stepsynth.evaluation.statistics import Interval, share_interval
from stepsynth.evaluation.two_samples import NEIGHBOURS, neighbourhoods, separability, squared_mmd, vendi_score
from stepsynth.near_duplicates import NearDuplicates
from stepsynth.runtime.remembering import remembered
from stepsynth.words import count_words, pieces, read_form, word_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "LEAST",
    "MOST",
    "SIMILARITY",
    "GapFigures",
    "GapRow",
    "distinct_share",
    "matched",
    "measure_gap",
    "noise_floor",
    "surface_features",
]

LEAST = 20
"""With fewer rows on a side, there are no figures."""
MOST = 500
"""Of more rows on a side, so many are drawn."""
SIMILARITY = 0.7
"""From this similarity on, two texts are near-duplicates."""

_LEAST_OF_FLOOR = 10
_HALVINGS = 10
_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class GapRow:
    """A row of either side.

    Attributes:
        text: the text that is written in written rows.
        key: the label that both sides must have equally often; empty if labels are not matched.
        group: equal for rows that depend on each other: of one context, or written from one gold row.
        vector: what the student's base model says of it; ``None`` without one.
        agrees: whether a probe trained on other real rows gives it its label; ``None`` without one.
    """

    text: str
    key: str
    group: str
    vector: Any = None
    agrees: bool | None = None


@dataclass(frozen=True, slots=True)
class GapFigures:
    """How written rows differ from as many real ones; ``None`` where a figure cannot be had.

    Attributes:
        n: rows of each side.
        embedding_auc: how well a classifier of embeddings tells the sides apart; 0.5: not at all, 1: always.
        embedding_auc_ci95: its 95 % interval.
        surface_auc: the same for a classifier of `surface_features`.
        surface_auc_ci95: its 95 % interval.
        mmd: squared maximum mean discrepancy of the embeddings; 0: no difference.
        precision: share of written rows that lie among real ones.
        recall: share of real rows that lie among written ones.
        density: how densely real rows surround written ones; about 1 without a difference.
        coverage: share of real rows that have a written one near.
        vendi: effective number of different written rows.
        vendi_real: the same of the real rows.
        distinct_1: different words, divided by all words of the written rows.
        distinct_1_real: the same of the real rows.
        distinct_2: the same for pairs of neighbouring words.
        distinct_2_real: the same of the real rows.
        agreement: share of written rows to which a probe of the real rows gives their label.
        agreement_ci95: its 95 % interval.
        agreement_real: the same of the real rows, by probes that have not seen them.
        near_real: share of written rows that nearly repeat a real one.
        near_written: share of written rows that nearly repeat an earlier one.
        repeated_real: share of real rows that nearly repeat an earlier one.
    """

    n: int
    embedding_auc: float | None = None
    embedding_auc_ci95: Interval | None = None
    surface_auc: float | None = None
    surface_auc_ci95: Interval | None = None
    mmd: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    vendi: float | None = None
    vendi_real: float | None = None
    distinct_1: float | None = None
    distinct_1_real: float | None = None
    distinct_2: float | None = None
    distinct_2_real: float | None = None
    agreement: float | None = None
    agreement_ci95: Interval | None = None
    agreement_real: float | None = None
    near_real: float | None = None
    near_written: float | None = None
    repeated_real: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON values, rounded to four digits: more would differ between processors."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def measure_gap(written: Sequence[GapRow], real: Sequence[GapRow], width: float | None, seed: int) -> GapFigures | None:
    """Return the figures of two sets of rows.

    Args:
        written: rows that a teacher wrote, in the order in which to take them.
        real: rows that people wrote, in the order in which to take them.
        width: of the kernel of `squared_mmd`; unused without vectors.
        seed: of folds and resampling.

    Returns:
        ``None`` if fewer than 20 rows of each side can be compared.
    """
    ours, theirs = matched(written, real)
    if len(ours) < LEAST:
        return None
    values = _apart(ours, theirs, width, seed, interval=True)
    values.update(near_written=_repeated(ours), repeated_real=_repeated(theirs))
    vectors = _vectors(ours), _vectors(theirs)
    if vectors[0] is not None and vectors[1] is not None:
        values.update(vendi=vendi_score(vectors[0]), vendi_real=vendi_score(vectors[1]))
    for size in (1, 2):
        values[f"distinct_{size}"] = distinct_share([row.text for row in ours], size)
        values[f"distinct_{size}_real"] = distinct_share([row.text for row in theirs], size)
    if all(row.agrees is not None for row in (*ours, *theirs)):
        agreed = [bool(row.agrees) for row in ours]
        values["agreement"] = sum(agreed) / len(agreed)
        values["agreement_ci95"] = share_interval(agreed, _clusters(ours))
        values["agreement_real"] = sum(bool(row.agrees) for row in theirs) / len(theirs)
    return GapFigures(n=len(ours), **values)


def noise_floor(real: Sequence[GapRow], width: float | None, seed: int) -> dict[str, Any] | None:
    """Return what figures look like without a gap: between two random halves of the real rows, several times.

    Args:
        real: rows that people wrote.
        width: of the kernel of `squared_mmd`; unused without vectors.
        seed: of the halves.

    Returns:
        ``n`` (rows of a half), ``halvings``, and for each figure that compares the sides its ``mean``, ``low`` (lowest) and
        ``high`` (highest) over the halvings; ``None`` with fewer than 10 rows in a half.
    """
    found: list[Mapping[str, Any]] = []
    sizes = []
    for halving in range(_HALVINGS):
        one, other = _halves(real, Random(f"gap {seed} {halving}"))
        one, other = matched(one, other)
        if len(one) < _LEAST_OF_FLOOR:
            return None
        sizes.append(len(one))
        found.append(_apart(one, other, width, seed, interval=False))
    values: dict[str, Any] = {"n": min(sizes), "halvings": _HALVINGS}
    for name in found[0]:
        numbers = [each[name] for each in found if each.get(name) is not None]
        if len(numbers) == len(found):
            spread = {"mean": sum(numbers) / len(numbers), "low": min(numbers), "high": max(numbers)}
            values[name] = {key: _rounded(value) for key, value in spread.items()}
    return values


def matched(written: Sequence[GapRow], real: Sequence[GapRow], most: int = MOST) -> tuple[list[GapRow], list[GapRow]]:
    """Return equally many rows of each side, as many of each key on both; the first ones of each are taken.

    Args:
        written: one side.
        real: the other side.
        most: rows of a side; if more could be matched, every key gets its share.
    """
    sides = [Counter(row.key for row in side) for side in (written, real)]
    least = {key: min(side[key] for side in sides) for key in sorted(set(sides[0]) & set(sides[1]))}
    total = sum(least.values())
    if total > most:
        least = {key: max(1, n * most // total) for key, n in least.items()}
    return _first(written, least), _first(real, least)


def surface_features(text: str) -> list[float]:
    """Return what a text looks like, whatever it means.

    Characters and words (as logarithms), characters per word, the shares of punctuation, capitals and digits in its characters,
    different words divided by words, and whether it ends with a mark.
    """
    words, size = pieces(read_form(text)), max(1, len(text))
    count = max(1, count_words(text))
    return [
        math.log(size),
        math.log(count),
        size / count,
        sum(character in string.punctuation for character in text) / size,
        sum(character.isupper() for character in text) / size,
        sum(character.isdigit() for character in text) / size,
        len(set(words)) / max(1, len(words)),
        float(bool(text.strip()) and not text.strip()[-1].isalnum()),
    ]


def distinct_share(texts: Iterable[str], size: int) -> float:
    """Return the number of different runs of ``size`` words, divided by their number (distinct-n, Li et al. 2016)."""
    found: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = word_runs(read_form(text))
        found.update(zip(*(words[at:] for at in range(size)), strict=False))
    return len(found) / found.total() if found else 0.0


@remembered(most=64)
def _apart(ours: Sequence[GapRow], theirs: Sequence[GapRow], width: float | None, seed: int, *, interval: bool) -> dict[str, Any]:
    """Return the figures that compare both sides."""
    import numpy as np

    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(row.group, len(numbers)) for row in (*ours, *theirs)]
    values: dict[str, Any] = {}
    surfaces = [np.array([surface_features(row.text) for row in side]) for side in (ours, theirs)]
    tables = {"embedding": (_vectors(ours), _vectors(theirs)), "surface": (surfaces[0], surfaces[1])}
    for name, (first, second) in tables.items():
        found = None
        if first is not None and second is not None:
            found = separability(first, second, groups, seed, scale=name == "surface", interval=interval)
        values[f"{name}_auc"] = found[0] if found else None
        if interval:
            values[f"{name}_auc_ci95"] = found[1] if found else None
    first, second = tables["embedding"]
    if first is not None and second is not None and width is not None:
        values["mmd"] = squared_mmd(first, second, width)
        if min(len(first), len(second)) > NEIGHBOURS:
            values.update(asdict(neighbourhoods(first, second)))
    known = NearDuplicates(SIMILARITY)
    known.add([row.text for row in theirs], [()] * len(theirs))
    values["near_real"] = sum(known.known([row.text for row in ours], [()] * len(ours))) / len(ours)
    return values


def _repeated(rows: Sequence[GapRow]) -> float:
    """Return the share of rows that nearly repeat an earlier one of the same side."""
    return sum(NearDuplicates(SIMILARITY).judge([row.text for row in rows], [()] * len(rows))) / len(rows)


def _first(rows: Sequence[GapRow], wanted: Mapping[str, int]) -> list[GapRow]:
    taken: Counter[str] = Counter()
    found = []
    for row in rows:
        if taken[row.key] < wanted.get(row.key, 0):
            taken[row.key] += 1
            found.append(row)
    return found


def _halves(rows: Sequence[GapRow], draw: Random) -> tuple[list[GapRow], list[GapRow]]:
    """Deal rows into two halves, key by key."""
    by_key: defaultdict[str, list[GapRow]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    halves: tuple[list[GapRow], list[GapRow]] = ([], [])
    for key in sorted(by_key):
        for place, row in enumerate(draw.sample(by_key[key], len(by_key[key]))):
            halves[place % 2].append(row)
    return halves


def _vectors(rows: Sequence[GapRow]) -> Any:
    import numpy as np

    return None if any(row.vector is None for row in rows) else np.vstack([row.vector for row in rows])


def _clusters(rows: Sequence[GapRow]) -> Clusters:
    numbers: dict[str, int] = {}
    found = tuple(numbers.setdefault(row.group, len(numbers)) for row in rows)
    return None if len(numbers) == len(rows) else found


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_rounded(each) for each in value]
    # Adding 0.0 avoids minus zero.
    return round(float(value), _DIGITS) + 0.0 if isinstance(value, float) else value
