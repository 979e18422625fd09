"""Turns the teacher's answers about real texts into rows: each text with its answer, or with the reason why it has none."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.filters.normalise import clean
from stepsynth.types import Candidate, DropReason, GeneratedRow, Response, Span, StageKind, Verdict

if TYPE_CHECKING:
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
    progress.start(plan.stage, len(texts), "answers")
    requests = [plan.request("", place, place) for place in range(len(texts))]
    progress.advance(0, traffic=client.traffic())
    answers = client.run(requests, lambda known: progress.advance(len(known), traffic=client.traffic()))
    verdicts = []
    for place, ((text, source), request) in enumerate(zip(texts, requests, strict=True)):
        key = client.key(request)
        verdicts.append(_verdict(plan.stage, place, key, text, source, answers.get(key), client, family))
    labelled = sum(verdict.accepted for verdict in verdicts)
    if not labelled:
        reasons = Counter(verdict.reason for verdict in verdicts)
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise RunError(
            f"the teacher labelled none of the {len(texts):,} texts of {plan.stage} ({why}).",
            hint="Ask it with `stepsynth plan`, then change teacher.model, task.instruction or task.prompts.answer.",
        )
    # No number is wanted of any label.
    info: dict[str, Any] = {"targets": {}, "missing": {}}
    journal.finish_stage(plan.stage, number, StageKind.ANNOTATE, verdicts, info, time.monotonic() - started)
    progress.finish(f"{labelled:,} of {len(verdicts):,} texts labelled by the teacher")


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
