"""Turns the teacher's answers about real texts into rows: each text with its answer, or with the reason why it has none."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.filters.normalise import clean
from stepsynth.run.stage_titles import stage_title
from stepsynth.runtime.counting import counted
from stepsynth.types import Candidate, DropReason, GeneratedRow, Response, Span, StageKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.errors import TeacherError
    from stepsynth.generation.client import TeacherClient
    from stepsynth.journal import Journal
    from stepsynth.methods.annotate import AnnotatePlan
    from stepsynth.runtime.progress import Progress
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["annotate"]


def annotate(
    plan: AnnotatePlan, number: int, client: TeacherClient, journal: Journal, family: TaskFamily, progress: Progress
) -> None:
    """Write one stage of texts with the teacher's answers; each text is asked about once.

    Args:
        plan: the texts.
        number: the round.
        client: gets the answers.
        journal: where the finished stage is written.
        family: reads the answers.
        progress: told about answers.

    Raises:
        RunError: no text got a label.
        StepsynthError: the reason the requests ended; all answers are committed.
    """
    started, texts = time.monotonic(), plan.texts
    progress.start(stage_title(plan.stage, StageKind.ANNOTATE), len(texts), "answers")
    times = plan.ctx.config.method.readings
    requests = [[plan.reading(place, number) for number in range(times)] for place in range(len(texts))]
    progress.advance(0, traffic=client.traffic())
    asked = [request for own in requests for request in own]
    answers = client.run(asked, lambda known: progress.advance(len(known) // times, traffic=client.traffic()))
    verdicts, agreed, read = [], 0, 0
    for place, ((text, source), own) in enumerate(zip(texts, requests, strict=True)):
        readings = [
            _verdict(plan.stage, place, key, text, source, answers.get(key), client, family) for key in map(client.key, own)
        ]
        verdict, votes, voted = _majority(readings)
        verdicts.append(verdict)
        agreed, read = agreed + votes, read + voted
    labelled = sum(verdict.accepted for verdict in verdicts)
    if not labelled:
        reasons = Counter(verdict.reason for verdict in verdicts)
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise RunError(
            f"the teacher labelled none of the {len(texts):,} texts that it was asked about ({why}).",
            hint="Ask it with `stepsynth plan`, then change teacher.model, task.instruction or task.prompts.answer.",
        )
    # No number is wanted of any label.
    info: dict[str, Any] = {"targets": {}, "missing": {}}
    if times > 1:
        info["readings"] = {"each": times, "read": read, "agreed": agreed}
    journal.finish_stage(plan.stage, number, StageKind.ANNOTATE, verdicts, info, time.monotonic() - started)
    share = f"; {agreed:,} of {read:,} readings agree" if times > 1 else ""
    progress.finish(f"{labelled:,} of {counted(len(verdicts), 'text')} labelled by the teacher{share}")


def _majority(readings: Sequence[Verdict]) -> tuple[Verdict, int, int]:
    """Return the most frequent of a text's readings (of equally frequent ones the first), its votes, and all votes.

    A text that no reading decided keeps the reason of its first one.
    """
    told = [verdict for verdict in readings if verdict.accepted]
    if not told:
        return readings[0], 0, 0
    votes = Counter((verdict.candidate.label, verdict.candidate.row.answer) for verdict in told)
    ((most, count),) = votes.most_common(1)
    return next(v for v in told if (v.candidate.label, v.candidate.row.answer) == most), count, len(told)


def _verdict(
    stage: str,
    place: int,
    key: str,
    text: Example,
    source: str | None,
    answer: Response | TeacherError | None,
    client: TeacherClient,
    family: TaskFamily,
) -> Verdict:
    """Return the text with the label or the span that an answer names."""
    said = client.text(answer) if isinstance(answer, Response) else ""
    decided = family.read_answer(clean(said) if family.spans else said, text)
    label, span = "", None
    if decided is not None:
        label, span = ("", Span(*decided)) if family.spans else (decided[0], None)
    row = GeneratedRow(stage, place, key, label, source, text.text, text.context, span)
    return Verdict(Candidate(row), "" if decided is not None else _why(answer, said))


def _why(answer: Response | TeacherError | None, said: str) -> str:
    if not isinstance(answer, Response):
        return DropReason.FAILED
    if answer.finish_reason == "refusal":
        return DropReason.REFUSAL
    return DropReason.NO_ANSWER if said.strip() else DropReason.EMPTY
