"""Feedback from dropped answers: what to tell the teacher, and which labels to give up.

If most of a label's answers are dropped for one reason, the next requests for that label say what to
avoid. If almost none are good even then, the label is given up and the others continue. Both depend on
verdicts alone, wave by wave in plan order, so a resumed run sends the same requests. Labels whose
answers are good get the same requests as without feedback.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from stepsynth.evaluation.statistics import wilson
from stepsynth.filters.advice import advice
from stepsynth.types import DropReason, Message, StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.filters import FilterPipeline
    from stepsynth.methods import Plan
    from stepsynth.types import Request, Verdict

__all__ = ["Feedback", "told_before"]

# Fewer answers are not enough to decide.
_ENOUGH_TO_TELL, _ENOUGH_TO_STOP = 8, 30
# A label is given up below this share of good answers, or below half of 1 / `max_overgeneration` if that is less.
_LEAST_YIELD = 0.1
# Rows requested before any verdict, and while it is doubtful whether a label yields any.
_FIRST_ROWS, _TRIAL_ROWS = 200, 48
# Dropped texts used to write a sentence of advice.
_MOST_TEXTS = 200


class Feedback:
    """Feedback within one stage.

    Args:
        plan: the stage's plan.
        pipeline: the rules that judge its answers.
        max_overgeneration: most rows requested per wanted row.
        told: label -> reason -> sentence, what earlier stages told the teacher.

    Attributes:
        told: the same, with this stage's additions.
        stopped: label -> ``answers``, how many of them were ``good``, and the main ``reason`` of the drops.
    """

    def __init__(
        self, plan: Plan, pipeline: FilterPipeline, max_overgeneration: float, told: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._plan = plan
        self._rules = pipeline.filters
        self._least = min(_LEAST_YIELD, 0.5 / max_overgeneration)
        self.told: dict[str, dict[str, str]] = {label: dict(told[label]) for label in plan.targets if told and told.get(label)}
        self.stopped: dict[str, dict[str, Any]] = {}
        self._accepted: Counter[str] = Counter()
        self._good: Counter[str] = Counter()
        # Per label: verdicts since the last advice, and the requests and good rows before it.
        self._ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._texts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._before: dict[str, tuple[int, int]] = {}
        self._advised: dict[str, Plan] = {}

    def request(self, label: str, number: int, index: int) -> Request:
        """Return the plan's request with the advice at ``{{ avoid }}``, or at its end if the template has no such place."""
        request = self._plan.request(label, number, index)
        if not (sentences := self.told.get(label)):
            return request
        text = " ".join(sentences.values())
        if text not in self._advised:
            self._advised[text] = _told(self._plan, text)
        advised = self._advised[text].request(label, number, index)
        if advised.messages != request.messages:
            return advised
        *turns, last = request.messages
        return replace(request, messages=(*turns, Message(last.role, f"{last.content.rstrip()} {text}")))

    def since(self, label: str) -> tuple[int, int]:
        """Return a label's requests and good rows at the time of its latest advice."""
        return self._before.get(label, (0, 0))

    def most_rows(self, label: str, asked: int) -> int:
        """Return the most rows that the next wave may ask for.

        Args:
            label: the label.
            asked: requests for it so far.
        """
        if not asked:
            return _FIRST_ROWS
        seen, good = self._yield(label)
        return _TRIAL_ROWS if good < 2 * self._least * max(seen, 1) else 2**31

    def note(self, wave: Sequence[Verdict], asked: Mapping[str, int]) -> None:
        """Update from a wave's verdicts.

        Args:
            wave: its verdicts, in plan order.
            asked: requests by label so far.
        """
        for verdict in wave:
            label = verdict.candidate.label
            self._accepted[label] += verdict.accepted
            self._good[label] += verdict.reason in ("", DropReason.SURPLUS)
            # A request that failed says nothing about the label's answers.
            if verdict.reason != DropReason.FAILED:
                self._ended[label][verdict.reason] += 1
                if verdict.reason and len(held := self._texts[label, verdict.reason]) < _MOST_TEXTS:
                    held.append(verdict.candidate.text)
        for label, target in self._plan.targets.items():
            if label not in self.stopped and self._ended[label] and not self._tell(label, asked[label]):
                self._give_up(label, target)

    def _tell(self, label: str, asked: int) -> bool:
        """Add new advice for the teacher if there is any; return whether there was."""
        ended = self._ended[label]
        reason = _chief(ended)
        if ended.total() < _ENOUGH_TO_TELL or 2 * ended[reason] <= ended.total() or reason in self.told.get(label, {}):
            return False
        sentence = advice(self._rules, label, reason, self._texts[label, reason])
        if not sentence:
            return False
        self.told.setdefault(label, {})[reason] = sentence
        self._before[label] = asked, self._good[label]
        ended.clear()
        self._texts[label, reason].clear()
        return True

    def _give_up(self, label: str, target: int) -> None:
        seen, good = self._yield(label)
        if self._accepted[label] >= target or seen < _ENOUGH_TO_STOP or good >= self._least * seen:
            return
        if wilson(good, seen)[1] < self._least:
            self.stopped[label] = {"answers": seen, "good": good, "reason": _chief(self._ended[label])}

    def _yield(self, label: str) -> tuple[int, int]:
        ended = self._ended[label]
        return ended.total(), ended[""] + ended[DropReason.SURPLUS]


def told_before(stages: Sequence[tuple[str, int, str, dict[str, Any], float]], kind: str) -> dict[str, dict[str, str]]:
    """Collect the advice of finished stages by label: rationale stages for rationales, row stages for rows.

    Args:
        stages: from `Journal.stages`.
        kind: the kind of the stage about to begin.
    """
    found: dict[str, dict[str, str]] = {}
    for _, _, done, info, _ in stages:
        if (done == StageKind.RATIONALES) == (kind == StageKind.RATIONALES):
            for label, sentences in info.get("told", {}).items():
                found.setdefault(label, {}).update(sentences)
    return found


def _chief(ended: Counter[str]) -> str:
    """Return the most common drop reason; ties go to the first by name."""
    dropped = [(-count, reason) for reason, count in ended.items() if reason not in ("", DropReason.SURPLUS) and count]
    return min(dropped)[1] if dropped else ""


def _told(plan: Plan, text: str) -> Plan:
    """Return a plan with the advice passed to its templates; a plan without templates is returned unchanged."""
    ctx = getattr(plan, "ctx", None)
    if not is_dataclass(plan) or not is_dataclass(ctx) or not is_dataclass(getattr(ctx, "prompts", None)):
        return plan
    prompts = replace(cast("Any", ctx).prompts, avoid=text)
    return cast("Plan", replace(cast("Any", plan), ctx=replace(cast("Any", ctx), prompts=prompts)))
