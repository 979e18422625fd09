"""The requests of a stage's next wave: what each label still lacks, plus a margin for answers that will be dropped."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from stepsynth.generation.planned import Planned
from stepsynth.types import DropReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepsynth.generation.feedback import Feedback
    from stepsynth.methods import Plan
    from stepsynth.types import Request, Verdict

__all__ = ["in_turn", "next_wave", "planned_wave"]

_FIRST_MARGIN = 1.1
_LATER_MARGIN = 1.1


def in_turn(plan: Plan, size: int, asked: Counter[str], first: int, feedback: Feedback | None) -> list[Request]:
    """Return the next ``size`` requests, with labels in proportion to their targets."""
    request = (feedback or plan).request
    wave: list[Request] = []
    while len(wave) < size:
        label = min(plan.targets, key=lambda name: (asked[name] + 1) / max(plan.targets[name], 1e-9))
        wave.append(request(label, asked[label], first + len(wave)))
        asked[label] += 1
    return wave


def next_wave(
    plan: Plan, verdicts: Sequence[Verdict], asked: Counter[str], max_overgeneration: float, feedback: Feedback | None = None
) -> list[Request]:
    """Return the requests of the next wave, labels in turn; empty if no label lacks rows or may ask for more.

    Args:
        plan: the stage's plan.
        verdicts: of the stage's earlier waves, in plan order.
        asked: requests so far by label; the new ones are added.
        max_overgeneration: most rows requested per wanted row.
        feedback: the stage's feedback, if it is on.
    """
    return list(planned_wave(plan, verdicts, asked, max_overgeneration, feedback))


def planned_wave(
    plan: Plan, verdicts: Sequence[Verdict], asked: Counter[str], max_overgeneration: float, feedback: Feedback | None
) -> Planned:
    """Return the requests of the next wave, made when they are needed; ``asked`` counts all of them at once."""
    accepted = Counter(v.candidate.label for v in verdicts if v.accepted)
    good = Counter(v.candidate.label for v in verdicts if v.reason in ("", DropReason.SURPLUS))
    counts: dict[str, int] = {}
    for label, target in plan.targets.items():
        lacking = target - accepted[label]
        if lacking <= 0 or (feedback and label in feedback.stopped):
            continue
        parts = plan.request(label, asked[label], len(verdicts)).parts
        rows = asked[label] * parts
        # Answers from before the latest advice do not predict the next ones.
        asked_then, good_then = feedback.since(label) if feedback else (0, 0)
        seen = rows - asked_then * parts
        # Laplace's rule keeps the share above 0 and cautious after small waves.
        # With several rows per answer, a margin would cost every label another answer.
        first = 1 / _FIRST_MARGIN if parts == 1 else 1.0
        share = (good[label] - good_then + 1) / (seen + 2) if rows else first
        want = math.ceil(lacking / share * (_LATER_MARGIN if rows else 1.0))
        if feedback:
            want = min(want, feedback.most_rows(label, asked[label]))
        left = math.ceil(target * max_overgeneration) - rows
        counts[label] = max(0, math.ceil(min(want, left) / parts))
    begun = {label: asked[label] for label in counts}
    asked.update(counts)
    requests = _by_turns((feedback or plan).request, counts, begun, len(verdicts))
    return Planned(requests, sum(counts.values()))


def _by_turns(
    request: Callable[[str, int, int], Request], counts: Mapping[str, int], begun: Mapping[str, int], first: int
) -> Iterator[Request]:
    """Yield a wave's requests; labels take turns, so that a stage stopped by a cap is still balanced."""
    index = first
    for turn in range(max(counts.values(), default=0)):
        for label, count in counts.items():
            if turn < count:
                yield request(label, begun[label] + turn, index)
                index += 1
