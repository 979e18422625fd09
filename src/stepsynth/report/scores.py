"""Students' scores by round, as a page shows them; the journal takes precedence over ``results.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.journal.queries import count_rows
from stepsynth.journal.results import best_round
from stepsynth.types import Evaluation, StageKind

if TYPE_CHECKING:
    from stepsynth.journal import Journal

__all__ = [
    "CROSSFITTED",
    "SPLITS",
    "RoundScores",
    "Score",
    "best_of",
    "details_of",
    "further_scores",
    "mapping",
    "rounds_of",
    "score_of",
]

SPLITS = ("select", "harvest", "test")
# The splits that judge rounds when all gold rows take part.
CROSSFITTED = ("crossfit", "test")

# Further scores of an evaluation with their descriptions, in display order.
_FURTHER = {
    "f1": "F1, words shared with the right answer",
    "micro_f1": "micro F1, all decisions together",
    "macro_f1": "macro F1, mean over labels",
    "mcc": "Matthews correlation",
    "hamming": "wrong decisions (Hamming loss)",
    "ece": "calibration error (ECE)",
    "mean_confidence": "mean confidence",
    "n_answered": "questions answered",
}
_NOT_PERCENT = ("mcc", "n_answered")


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its interval, all in [0, 1].

    Attributes:
        metric: its name in words.
        value: the score.
        low: lower end of the 95 % interval.
        high: upper end.
        n: number of rows.
        details: further scores and tables.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    details: Mapping[str, Any]

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class RoundScores:
    """A round's student.

    Attributes:
        number: the round.
        rows: number of rows that it learned from.
        new_rows: number of rows written for it.
        scores: split -> score.
    """

    number: int
    rows: int
    new_rows: int
    scores: Mapping[str, Score]


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping unchanged, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def score_of(values: Evaluation | Mapping[str, Any] | None) -> Score | None:
    """Convert an evaluation, or its entry in ``results.json``, to a score."""
    if not values:
        return None
    known = asdict(values) if isinstance(values, Evaluation) else values
    if not isinstance(known.get("value"), (int, float)):
        return None
    low, high = known.get("ci95") or (known["value"], known["value"])
    metric = str(known.get("metric", "accuracy")).replace("_", " ")
    return Score(metric, known["value"], low, high, int(known.get("n", 0)), known.get("details") or known)


def rounds_of(journal: Journal, method: Mapping[str, Any]) -> list[RoundScores]:
    """Return the rounds in the journal and those in the method's entry in ``results.json``."""
    told = {entry["round"]: entry for entry in method.get("rounds") or [] if "round" in entry}
    sizes: Counter[int] = Counter()
    for count in count_rows(journal):
        if count.in_dataset:
            sizes[count.round] += count.rows
    trained = {n: info.get("rows") for _, n, kind, info, _ in journal.stages() if kind in (StageKind.CROSSFIT, StageKind.TRAIN)}
    entries = []
    for number in sorted({*journal.rounds(), *told}):
        found = {
            split: score_of(journal.evaluation(number, split) or told.get(number, {}).get(split))
            for split in (*SPLITS, "crossfit")
        }
        scores = {split: score for split, score in found.items() if score is not None}
        rows = trained.get(number)
        total = sum(size for of, size in sizes.items() if of <= number) if rows is None else int(rows)
        entries.append(RoundScores(number, total, sizes[number], scores))
    return entries


def best_of(journal: Journal, method: Mapping[str, Any], rounds: Sequence[RoundScores]) -> RoundScores | None:
    """Return the round that counts; ``None`` without a student."""
    named = [entry for entry in rounds if entry.number == method.get("best_round")]
    if not named and journal.rounds():
        named = [entry for entry in rounds if entry.number == best_round(journal)]
    return named[0] if named else None


def further_scores(score: Score | None) -> list[tuple[str, str]]:
    """Return the further scores of an evaluation as ``(name, value)``."""
    details = score.details if score else {}
    found = []
    for name, what in _FURTHER.items():
        value = details.get(name)
        if not isinstance(value, (int, float)):
            continue
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if name in _NOT_PERCENT else f"{100 * value:.1f} %"
        interval = details.get(f"{name}_ci95")
        if isinstance(interval, (list, tuple)) and len(interval) == 2:
            shown += f" ({100 * interval[0]:.1f}\u2013{100 * interval[1]:.1f})"
        found.append((what, shown))
    return found


def details_of(best: RoundScores | None, test: Score | None) -> dict[str, Any] | None:
    """Return the tables of the best round on test, else on select: further scores, per label, confusion."""
    if best is None:
        return None
    candidates = [("test", best.scores.get("test")), ("test", test)]
    candidates += [(split, best.scores.get(split)) for split in ("select", "crossfit")]
    known = [(split, score) for split, score in candidates if score]
    if not known:
        return None
    split, score = next(((split, score) for split, score in known if score.details.get("per_label")), known[0])
    per_label = score.details.get("per_label") or []
    names = [str(entry["label"]) for entry in per_label]
    matrix = score.details.get("confusion") or []
    pairs = [(count, names[i], names[j]) for i, line in enumerate(matrix) for j, count in enumerate(line) if i != j and count]
    return {
        "split": split,
        "score": score,
        "further": further_scores(score),
        "per_label": per_label,
        "names": names,
        "lines": [[(count, count / max(1, sum(line))) for count in line] for line in matrix],
        "worst": sorted(pairs, key=lambda pair: -pair[0])[:10],
    }
