"""Rows as a page shows them: stages that add up, samples picked blindly, mistakes and what became of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stepsynth.journal.queries import each_ending, endings, rows_at, rows_from_mistakes
from stepsynth.methods import trains_on
from stepsynth.report.scores import mapping
from stepsynth.run.stage_titles import all_titles
from stepsynth.tasks import stored_family
from stepsynth.training import judged_rounds
from stepsynth.types import Span, StageKind

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal, Row
    from stepsynth.journal.queries import RowCount
    from stepsynth.types import Example, Graded

__all__ = ["Miss", "Misses", "Passage", "Stage", "feeding", "misses_of", "passage", "samples_of", "stages_of"]

# A passage is shown with many rows, so its limit is lower than that of a written text.
_LONGEST_PASSAGE = 4_000
_CLIPPED, _SPARE = 240, 80
_MOST_ANSWERS = 3
# Per mistake: a run of a million rows must not make a page of a million rows.
_MOST_WRITTEN = 24

Piece = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: every row asked for is accepted, or dropped for a reason."""

    name: str
    title: str
    round: int
    kind: str
    seconds: float
    requested: int
    accepted: int
    reasons: Mapping[str, int]
    missing: Mapping[str, int]
    undecided: int
    near_test: int = 0
    stopped: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    in_validation: int = 0

    @property
    def dropped(self) -> int:
        """Rows dropped for any reason."""
        return sum(self.reasons.values())

    @property
    def adds_up(self) -> bool:
        """Whether accepted and dropped rows add up to those requested."""
        return self.requested == self.accepted + self.dropped


@dataclass(frozen=True, slots=True)
class Passage:
    """A context in pieces, each with the classes of its mark (empty: not marked).

    Attributes:
        short: the part shown at first.
        whole: the full text, up to the page's limit; empty if ``short`` is complete.
        lost: number of characters left out of ``whole``.
    """

    short: tuple[Piece, ...]
    whole: tuple[Piece, ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Miss:
    """A harvest example that a student got wrong, the first rows written from it, and the number of further ones."""

    text: str
    passage: Passage | None
    gold: str
    predicted: str
    probability: float | None
    new: bool
    rows: Sequence[tuple[Row, Passage | None]]
    further: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Misses:
    """All mistakes of a round's student, and how the next student did on them."""

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
        context: the row's context.
        marks: spans with the class of their mark; spans that are not in the context are left out.
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
    # Do not cut a word if there is a space nearby.
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


def stages_of(journal: Journal, counts: Iterable[RowCount]) -> list[Stage]:
    """Return the finished stages in the order of the run."""
    planned, stages, titles = endings(counts), [], all_titles(journal.stages())
    for name, number, kind, info, seconds in journal.stages():
        ended = planned[name]
        requested = info.get("requested", ended.total())
        accepted = ended.pop("", 0)
        missing = {str(label): n for label, n in mapping(info.get("missing")).items() if n}
        reasons = dict(ended.most_common())
        undecided, near_test = (int(info.get(key) or 0) for key in ("undecided", "near_test"))
        stopped, told = (mapping(info.get(key)) for key in ("stopped", "told"))
        counted = (requested, accepted, reasons, missing, undecided, near_test)
        stages.append(
            Stage(name, titles[name], number, kind, seconds, *counted, stopped, told, int(info.get("in_validation") or 0))
        )
    return stages


def samples_of(
    journal: Journal, stages: Sequence[Stage], counts: Iterable[RowCount], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a few rows of each stage; a context is not repeated when the row before shows it."""
    accepted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for count in counts:
        if not count.reason:
            accepted[count.stage][count.label] += count.rows
    samples = []
    for stage in stages:
        if not stage.accepted and not stage.dropped:
            continue
        number = 3 * len(labels) if stage.kind == StageKind.RATIONALES and labels else 6
        kept = _spread(accepted[stage.name], number, labels)
        lost = _spread(stage.reasons, 3, list(stage.reasons))
        places = _places(journal, stage.name, [("", *pick) for pick in kept], lost)
        rows = rows_at(journal, stage.name, {place for found in places for place in found})
        shown = [_shown([rows[place] for place in found]) for found in places]
        samples.append({"stage": stage, "accepted": shown[0], "dropped": shown[1]})
    return samples


def _spread(sizes: Mapping[str, int], count: int, order: Sequence[str]) -> list[tuple[str, int]]:
    """Pick evenly over groups, and within a group evenly over the plan, whatever the rows' quality.

    Returns:
        Pairs of a group and a number within the group.
    """
    filled = [(name, sizes[name]) for name in dict.fromkeys((*order, *sizes)) if sizes.get(name)]
    if len(filled) > count:
        filled = [filled[i * len(filled) // count] for i in range(count)]
    quotas = [0] * len(filled)
    while sum(quotas) < min(count, sum(size for _, size in filled)):
        for place, (_, size) in enumerate(filled):
            if quotas[place] < size and sum(quotas) < count:
                quotas[place] += 1
    return [
        (name, (2 * i + 1) * size // (2 * quota))
        for (name, size), quota in zip(filled, quotas, strict=True)
        for i in range(quota)
    ]


def _places(
    journal: Journal, stage: str, kept: Sequence[tuple[str, str, int]], lost: Sequence[tuple[str, int]]
) -> tuple[list[int], list[int]]:
    """Return the plan positions of picked rows: accepted ones by label and number, dropped ones by reason and number."""
    seen: Counter[tuple[str, ...]] = Counter()
    where: dict[tuple[object, ...], int] = {}
    wanted = {*kept, *lost}
    for position, label, reason in each_ending(journal, stage):
        group = (reason,) if reason else ("", label)
        if (pick := (*group, seen[group])) in wanted:
            where[pick] = position
        seen[group] += 1
    return [where[pick] for pick in kept], [where[pick] for pick in lost]


def _shown(rows: Sequence[Row], known: tuple[str, Span | None] | None = None) -> list[tuple[Row, Passage | None]]:
    """Pair rows with their contexts, leaving out a context that was just shown."""
    pairs = []
    for row in rows:
        given = (row.context, row.answer)
        marks = [(row.answer, "gold")] if row.answer else []
        pairs.append((row, None if given == known else passage(row.context, marks)))
        known = given
    return pairs


# mistakes ------------------------------------------------------------------------------


def feeding(journal: Journal, number: int, config: RunConfig) -> list[Graded]:
    """Return a round's predictions on the rows that feed the loop: the harvest half, or with cross-fitting all."""
    if trains_on(config, journal) != "crossfit":
        return journal.graded(number, "harvest")
    return journal.graded(number, "crossfit") if number in judged_rounds(journal) else []


def misses_of(journal: Journal, number: int, config: RunConfig) -> Misses:
    """Return the mistakes of a round's student on the rows that feed the loop, and their outcome in the next round."""
    examples = {example.id: example for split in ("harvest", "select") for example in journal.gold(split)}
    graded = feeding(journal, number, config)
    right = {g.prediction.example_id: g.score == 1.0 for g in graded}
    after = {g.prediction.example_id: g.score == 1.0 for g in feeding(journal, number + 1, config)}
    before = {g.prediction.example_id: g.score == 1.0 for g in feeding(journal, number - 1, config)}
    written, further = rows_from_mistakes(journal, number + 1, _MOST_WRITTEN)
    outcomes = {True: "fixed", False: "still wrong", None: ""}
    mistakes, spans = [], stored_family(config.task).spans
    for g in graded:
        if g.score == 1.0:
            continue
        name = g.prediction.example_id
        new, outcome = before.get(name, False), outcomes[after.get(name)]
        mistakes.append(_miss(g, examples.get(name), written.get(name, []), further[name], new, outcome, spans=spans))
    ended = Counter(miss.outcome for miss in mistakes)
    broken = sum(1 for example, was in right.items() if was and after.get(example) is False)
    return Misses(number, len(graded), mistakes, bool(after), ended["fixed"], ended["still wrong"], broken)


def _miss(
    graded: Graded, example: Example | None, written: Sequence[Row], further: int, new: bool, outcome: str, *, spans: bool
) -> Miss:
    prediction = graded.prediction
    gold, context, text = graded.gold, "", prediction.example_id
    marks: list[tuple[Span, str]] = []
    if example is not None:
        context, text = example.context, example.text
        if spans:
            marks = [(answer, "gold") for answer in example.answers]
            marks.append((Span(prediction.label, prediction.start), "said"))
            answers = list(dict.fromkeys(answer.text for answer in example.answers))
            gold = " / ".join(answers[:_MOST_ANSWERS]) or gold
    # Extrapolation keeps the context and the answer, which are already shown above.
    known = (context, example.answers[0] if example and example.answers else None)
    rows = [(row, None if (row.context, row.answer) == known else passage(row.context)) for row in written]
    return Miss(text, passage(context, marks), gold, prediction.label, prediction.confidence, new, rows, further, outcome)
