"""Detects cues by which written rows give away their labels but real rows do not.

A cue is a shallow property of a text: its first word, its last mark, its length. A small classifier
sees only the cue and is cross-validated on written and on real rows. If it does better on written
rows, the teacher has left a trace, and a student will learn the trace instead of the task
(Gururangan et al. 2018; Poliak et al. 2018 for one text of a pair alone).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.evaluation.statistics import Interval, plain
from stepsynth.runtime.imports import importing
from stepsynth.runtime.remembering import remembered
from stepsynth.words import SPACELESS, count_words, is_spaceless, pieces

if TYPE_CHECKING:
    from stepsynth.types import Example

__all__ = ["ProbeResult", "artefact_probe"]

FOLDS = 5
LEAST_ROWS = 20
MOST_ROWS = 1_000
_NORMAL = 1.959964
_QUOTES = tuple("\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb")

Features = dict[str, float]


@dataclass(frozen=True)
class ProbeResult:
    """How well one cue predicts the label.

    Attributes:
        cue: its name, for instance ``quotes``.
        synthetic: balanced accuracy (mean of the labels' recalls) on written rows; without any
            trace it is 1 / number of labels.
        synthetic_ci95: its 95 % interval.
        gold: the same on real rows, with the same number of each label.
        gold_ci95: its 95 % interval.
        excess: synthetic minus gold, or minus chance if gold is below chance.
        excess_ci95: its 95 % interval, widened for the number of cues (Bonferroni).
        flagged: whether that interval is above zero.
    """

    cue: str
    synthetic: float
    synthetic_ci95: Interval
    gold: float
    gold_ci95: Interval
    excess: float
    excess_ci95: Interval
    flagged: bool

    @property
    def message(self) -> str:
        """The warning, one sentence."""
        return (
            f"The cue {self.cue!r} alone predicts the label of written rows {100 * self.synthetic:.0f} % of the time, "
            f"of gold rows {100 * self.gold:.0f} %: the teacher left a trace that a student will follow."
        )


def artefact_probe(
    synthetic: Sequence[Example], gold: Sequence[Example], texts: Callable[[Example], tuple[str, ...]], seed: int
) -> list[ProbeResult]:
    """Probe written rows for cues that reveal the label more than they do in real rows.

    Both sides are cut to the same number of rows per label, since a classifier learns more from
    more rows. Labels with fewer than 20 rows on either side are left out.

    Args:
        synthetic: rows that the teacher wrote.
        gold: rows that people labelled.
        texts: the student's input of a row; if that is two texts, the words of the written one
            alone are a further cue.
        seed: for the cut and the folds.

    Returns:
        One result per cue, the largest excess first; empty if fewer than two labels are left.
    """
    with importing():
        from scipy.stats import norm

    cut = _same_counts(synthetic, gold, seed)
    if cut is None:
        return []
    written, real = cut
    cues = {**_CUES, "label name": _label_names({row.label for row in written})}
    if len(texts(written[0])) > 1:
        cues["written text alone"] = _words
    wide = float(norm.ppf(1 - 0.025 / len(cues)))
    results = [_compare(name, cue, written, real, wide, seed) for name, cue in cues.items()]
    return sorted(results, key=lambda result: -result.excess)


def _first_token(example: Example) -> Features:
    text = example.text.strip()
    return {f"token={pieces(text)[0].casefold()}": 1.0, f"kind={_kind(text[0])}": 1.0} if text else {}


def _last_character(example: Example) -> Features:
    text = example.text.strip()
    marks = Counter(character for character in text if character in string.punctuation)
    features = {f"count={mark}": float(count) for mark, count in marks.items()}
    return {**features, f"last={_kind(text[-1])}": 1.0} if text else features


def _length(example: Example) -> Features:
    words = count_words(example.text)
    # Steps of a factor of the square root of two let any range of lengths predict a label.
    step = (max(1, words) ** 2).bit_length()
    return {"words": float(words), f"step={step}": 1.0}


def _quote_marks(example: Example) -> Features:
    text = example.text.strip()
    inside = sum(character in _QUOTES for character in text)
    return {"starts": float(text.startswith(_QUOTES)), "ends": float(text.endswith(_QUOTES)), "any": float(inside > 0)}


def _label_names(labels: Collection[str]) -> Callable[[Example], Features]:
    found = rf"[{SPACELESS}]{{2,}}|[^\W\d_]{{3,}}"
    names = {name for label in labels for name in re.findall(found, label.casefold())}

    def cue(example: Example) -> Features:
        return {name: 1.0 for name in sorted(names) if name in example.text.casefold()}

    return cue


def _words(example: Example) -> Features:
    text = example.text.casefold()
    if is_spaceless(text):
        return dict.fromkeys(pieces(text), 1.0)
    return dict.fromkeys(re.findall(r"\w+|[^\w\s]", text), 1.0)


def _kind(character: str) -> str:
    if character.isalpha():
        return "capital" if character.isupper() else "small"
    return "digit" if character.isdigit() else character


_CUES: dict[str, Callable[[Example], Features]] = {
    "first token": _first_token,
    "punctuation": _last_character,
    "length in words": _length,
    "quotes": _quote_marks,
}


def _same_counts(synthetic: Sequence[Example], gold: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]] | None:
    import random

    sides = [Counter(row.label for row in side) for side in (synthetic, gold)]
    least = {label: min(side[label] for side in sides) for label in sorted(set(sides[0]) & set(sides[1]))}
    kept = {label: n for label, n in least.items() if n >= LEAST_ROWS}
    if len(kept) < 2:
        return None
    most = max(LEAST_ROWS, MOST_ROWS // len(kept))
    draw = random.Random(seed)
    written, real = (
        [row for label, n in kept.items() for row in draw.sample([row for row in side if row.label == label], min(n, most))]
        for side in (synthetic, gold)
    )
    return written, real


def _compare(
    name: str, cue: Callable[[Example], Features], written: Sequence[Example], real: Sequence[Example], wide: float, seed: int
) -> ProbeResult:
    (there, there_variance), (here, here_variance) = (_balanced_accuracy(cue, side, seed) for side in (written, real))
    # Cross-validation on noise is below chance as often as above; that must not count in favour of the gold rows.
    excess = there - max(here, 1 / len({row.label for row in real}))
    half = wide * (there_variance + here_variance) ** 0.5
    return ProbeResult(
        name,
        plain(there),
        _within(there, _NORMAL * there_variance**0.5, 0.0),
        plain(here),
        _within(here, _NORMAL * here_variance**0.5, 0.0),
        plain(excess),
        _within(excess, half, -1.0),
        excess - half > 0,
    )


def _balanced_accuracy(cue: Callable[[Example], Features], rows: Sequence[Example], seed: int) -> tuple[float, float]:
    """Return the cross-validated mean of the labels' recalls, and its variance."""
    # Without the constant, a cue that never occurs would give a table without columns.
    return _accuracy_by([{"row": 1.0, **cue(row)} for row in rows], [row.label for row in rows], seed)


@remembered(most=64)
def _accuracy_by(features: list[Features], labels: list[str], seed: int) -> tuple[float, float]:
    with importing():
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MaxAbsScaler

    classifier = make_pipeline(DictVectorizer(), MaxAbsScaler(), LogisticRegression(class_weight="balanced", max_iter=2_000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(classifier, features, labels, cv=folds)
    asked = Counter(labels)
    right = Counter(label for label, guess in zip(labels, predicted, strict=True) if label == guess)
    mean = sum(right[label] / n for label, n in asked.items()) / len(asked)
    # One extra right and one extra wrong answer keep a perfect recall from looking certain.
    smooth = {label: (right[label] + 1) / (n + 2) for label, n in asked.items()}
    variance = sum(smooth[label] * (1 - smooth[label]) / n for label, n in asked.items()) / len(asked) ** 2
    return mean, variance


def _within(centre: float, half: float, least: float) -> Interval:
    return plain(max(least, centre - half)), plain(min(1.0, centre + half))
