"""Rows as a page shows them: stages that add up, samples picked without a look, mistakes and what became of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stepsynth.report.scores import mapping
from stepsynth.types import Span

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal, Row
    from stepsynth.types import Example, Graded

__all__ = ["Miss", "Misses", "Passage", "Stage", "misses_of", "passage", "samples_of", "stages_of"]

# A passage is shown with many rows, so it is held shorter than a written text.
_LONGEST_PASSAGE = 4_000
_CLIPPED, _SPARE = 240, 80
_MOST_ANSWERS = 3

Piece = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: every row asked for is accepted, or dropped for a reason."""

    name: str
    round: int
    kind: str
    seconds: float
    requested: int
    accepted: int
    reasons: Mapping[str, int]
    missing: Mapping[str, int]
    undecided: int
    near_test: int = 0

    @property
    def dropped(self) -> int:
        """Rows dropped, whatever the reason."""
        return sum(self.reasons.values())

    @property
    def adds_up(self) -> bool:
        """Whether accepted and dropped make up what was asked for."""
        return self.requested == self.accepted + self.dropped


@dataclass(frozen=True, slots=True)
class Passage:
    """A context in pieces, each with the classes of its mark (empty: not marked).

    Attributes:
        short: what is shown at once.
        whole: all of it, as far as a page holds it; empty when ``short`` is all.
        lost: characters that are left out of ``whole``.
    """

    short: tuple[Piece, ...]
    whole: tuple[Piece, ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Miss:
    """A harvest example that a student got wrong."""

    text: str
    passage: Passage | None
    gold: str
    predicted: str
    probability: float | None
    new: bool
    rows: Sequence[tuple[Row, Passage | None]]
    outcome: str


@dataclass(frozen=True, slots=True)
class Misses:
    """All mistakes of a round's student, and what the next one made of them."""

    round: int
    examples: int
    mistakes: Sequence[Miss]
    followed: bool
    fixed: int
    still: int
    broken: int


def passage(context: str, marks: Iterable[tuple[Span, str]] = ()) -> Passage | None:
    """Return a context with the given spans marked, clipped around the first of them; ``None`` without a context.

    Args:
        context: the text that the row keeps.
        marks: spans with the class of their mark; a span that is not in the context is left out.
    """
    if not context:
        return None
    found = [
        (span.start, span.start + len(span.text), kind)
        for span, kind in marks
        if span.start >= 0 and span.text and context[span.start : span.start + len(span.text)] == span.text
    ]
    if len(context) <= _CLIPPED + _SPARE:
        return Passage(_pieces(context, 0, len(context), found))
    first = min((start for start, _, _ in found), default=0)
    begin = max(0, min(first - _CLIPPED // 3, len(context) - _CLIPPED))
    # Not through the middle of a word, if there is a space nearby.
    space = context.find(" ", begin, begin + 20) if begin else -1
    begin = space + 1 if space >= 0 and space < first else begin
    end = min(len(context), max(begin + _CLIPPED, next((stop for start, stop, _ in found if start == first), 0)))
    end = _word_end(context, min(end, begin + _CLIPPED + _SPARE), found)
    short = _pieces(context, begin, end, found)
    short = ((("\u2026 ", ""),) if begin else ()) + short + (((" \u2026", ""),) if end < len(context) else ())
    return Passage(short, _pieces(context, 0, _LONGEST_PASSAGE, found), max(0, len(context) - _LONGEST_PASSAGE))


def _word_end(context: str, end: int, found: Sequence[tuple[int, int, str]]) -> int:
    """Move an end back to a space, unless a marked span is there."""
    space = context.rfind(" ", end - 20, end)
    if end >= len(context) or space < 0 or any(start <= end and space < stop for start, stop, _ in found):
        return end
    return space


def _pieces(context: str, begin: int, end: int, found: Sequence[tuple[int, int, str]]) -> tuple[Piece, ...]:
    end = min(end, len(context))
    cuts = sorted({begin, end, *(min(max(cut, begin), end) for start, stop, _ in found for cut in (start, stop))})
    pieces = []
    for left, right in pairwise(cuts):
        kinds = dict.fromkeys(kind for start, stop, kind in found if start <= left and right <= stop)
        pieces.append((context[left:right], " ".join(kinds)))
    return tuple(pieces)


# stages and samples --------------------------------------------------------------------


def stages_of(journal: Journal, rows: Iterable[Row]) -> list[Stage]:
    """Return the finished stages in the order of the run."""
    planned: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        planned[row.stage][row.reason] += 1
    stages = []
    for name, number, kind, info, seconds in journal.stages():
        counts = planned[name]
        requested = info.get("requested", sum(counts.values()))
        accepted = counts.pop("", 0)
        missing = {str(label): n for label, n in mapping(info.get("missing")).items() if n}
        reasons = dict(counts.most_common())
        noted = (int(info.get(key) or 0) for key in ("undecided", "near_test"))
        stages.append(Stage(name, number, kind, seconds, requested, accepted, reasons, missing, *noted))
    return stages


def samples_of(stages: Sequence[Stage], rows: Iterable[Row], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return a few rows of each stage; a context that the row before showed is not shown again."""
    by_stage: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_stage[row.stage].append(row)
    samples = []
    for stage in stages:
        mine = by_stage[stage.name]
        if not mine:
            continue
        accepted = [row for row in mine if not row.reason]
        dropped = [row for row in mine if row.reason]
        number = 3 * len(labels) if stage.kind == "rationales" and labels else 6
        kept = _spread(accepted, number, lambda row: row.label, labels)
        lost = _spread(dropped, 3, lambda row: row.reason, list(stage.reasons))
        samples.append({"stage": stage, "accepted": _shown(kept), "dropped": _shown(lost)})
    return samples


def _spread(rows: Sequence[Row], count: int, key: Callable[[Row], str], order: Sequence[str] = ()) -> list[Row]:
    """Pick rows evenly over groups, and evenly over the plan within a group: no look at their quality."""
    groups: dict[str, list[Row]] = {name: [] for name in order}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    filled = [group for group in groups.values() if group]
    if len(filled) > count:
        filled = [filled[i * len(filled) // count] for i in range(count)]
    quotas = [0] * len(filled)
    while sum(quotas) < min(count, sum(map(len, filled))):
        for place, group in enumerate(filled):
            if quotas[place] < len(group) and sum(quotas) < count:
                quotas[place] += 1
    return [g[(2 * i + 1) * len(g) // (2 * q)] for g, q in zip(filled, quotas, strict=True) for i in range(q)]


def _shown(rows: Sequence[Row], known: tuple[str, Span | None] | None = None) -> list[tuple[Row, Passage | None]]:
    """Pair rows with their contexts, leaving out one that has just been shown."""
    pairs = []
    for row in rows:
        given = (row.context, row.answer)
        marks = [(row.answer, "gold")] if row.answer else []
        pairs.append((row, None if given == known else passage(row.context, marks)))
        known = given
    return pairs


# mistakes ------------------------------------------------------------------------------


def misses_of(journal: Journal, number: int, rows: Iterable[Row], config: RunConfig) -> Misses:
    """Return what the student of a round got wrong on harvest, and what became of it in the next round."""
    examples = {example.id: example for example in journal.gold("harvest")}
    graded = journal.graded(number, "harvest")
    right = {g.prediction.example_id: g.score == 1.0 for g in graded}
    after = {g.prediction.example_id: g.score == 1.0 for g in journal.graded(number + 1, "harvest")}
    before = {g.prediction.example_id: g.score == 1.0 for g in journal.graded(number - 1, "harvest")}
    written: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.source is not None and row.round == number + 1:
            written[row.source].append(row)
    outcomes = {True: "fixed", False: "still wrong", None: ""}
    mistakes = []
    for g in graded:
        if g.score == 1.0:
            continue
        name = g.prediction.example_id
        new, outcome = before.get(name, False), outcomes[after.get(name)]
        mistakes.append(_miss(g, examples.get(name), written[name], new, outcome, config))
    ended = Counter(miss.outcome for miss in mistakes)
    broken = sum(1 for example, was in right.items() if was and after.get(example) is False)
    return Misses(number, len(graded), mistakes, bool(after), ended["fixed"], ended["still wrong"], broken)


def _miss(graded: Graded, example: Example | None, written: Sequence[Row], new: bool, outcome: str, config: RunConfig) -> Miss:
    prediction = graded.prediction
    gold, context, text = graded.gold, "", prediction.example_id
    marks: list[tuple[Span, str]] = []
    if example is not None:
        context, text = example.context, example.text
        if config.task.family == "extractive_qa":
            marks = [(answer, "gold") for answer in example.answers]
            marks.append((Span(prediction.label, prediction.start), "said"))
            answers = list(dict.fromkeys(answer.text for answer in example.answers))
            gold = " / ".join(answers[:_MOST_ANSWERS]) or gold
    # Extrapolation keeps the context and the answer, which stand above already.
    known = (context, example.answers[0] if example and example.answers else None)
    rows = [(row, None if (row.context, row.answer) == known else passage(row.context)) for row in written]
    return Miss(text, passage(context, marks), gold, prediction.label, prediction.confidence, new, rows, outcome)
