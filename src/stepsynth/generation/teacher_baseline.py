"""The teacher as a baseline: it labels rows itself, zero-shot or few-shot.

To show whether the student can replace the teacher, the teacher is scored on the same rows.
Its answers go through the journal like any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.filters.normalise import clean
from stepsynth.generation.room import advised_room
from stepsynth.methods import rng_for
from stepsynth.methods.annotate import answer_sampling
from stepsynth.prompts import Prompts
from stepsynth.teachers.reading import is_cut_off_in_thought
from stepsynth.types import Prediction, Request, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.errors import TeacherError
    from stepsynth.generation.client import TeacherClient
    from stepsynth.runtime.progress import Progress
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["LLMPredictor", "answer_requests"]

# Above this share of silent answers, the teacher is not scored.
_HOPELESS = 0.95
_FEWEST = 8


class LLMPredictor:
    """A `stepsynth.students.Model` whose predictions are the teacher's.

    Args:
        config: the run's config; prompts show ``method.few_shot`` gold rows per label.
        family: the task's family.
        client: gets the answers.
        harvest: the gold rows that prompts may show.
        progress: receives the count of answers.

    Attributes:
        undecided: answers so far that named no label or never came; each counts as a guess.
    """

    def __init__(
        self, config: RunConfig, family: TaskFamily, client: TeacherClient, harvest: Sequence[Example], progress: Progress
    ) -> None:
        self._config = config
        self._family = family
        self._client = client
        self._progress = progress
        self._harvest = harvest
        self.undecided = 0

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order; the examples' labels are not read.

        Every probability is 1: a chat answer names a label, not how likely it is.

        Raises:
            RunError: almost no answer said anything.
        """
        requests = answer_requests(self._config, self._family, self._harvest, examples)
        self._progress.advance(0, traffic=self._client.traffic())
        answers = self._client.run(requests, lambda known: self._progress.advance(len(known), traffic=self._client.traffic()))
        came = [answers.get(self._client.key(request)) for request in requests]
        before = self.undecided
        found = [self._prediction(example, answer) for example, answer in zip(examples, came, strict=True)]
        self._refuse_silence(self.undecided - before, came)
        return found

    def _refuse_silence(self, undecided: int, came: Sequence[Response | TeacherError | None]) -> None:
        """End if almost no answer said anything: a score of guesses alone says nothing about the teacher.

        A teacher whose answers name no label is still scored, and ``undecided`` counts them.
        """
        told = [answer for answer in came if isinstance(answer, Response)]
        cut = sum(is_cut_off_in_thought(self._config.teacher, answer) for answer in told)
        refused = sum(answer.finish_reason == "refusal" for answer in told)
        empty = sum(not self._client.text(answer).strip() for answer in told) - cut - refused
        counts = {"failed": len(came) - len(told), "cut off before a word": cut, "withheld": refused, "empty": max(empty, 0)}
        if (silent := sum(counts.values())) < max(_FEWEST, _HOPELESS * len(came)):
            return
        counts["named no label"] = max(undecided - silent, 0)
        how = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        hint = "Ask the teacher with `stepsynth plan`, then change teacher.model, task.instruction or task.prompts.answer."
        if cut > undecided / 2:
            limit = advised_room(max(answer.usage.completion_tokens for answer in told))
            hint = f"Set teacher.reasoning_tokens to about {limit:,} and run it again."
        raise RunError(f"{undecided:,} of {len(came):,} teacher answers gave no label ({how}).", hint=hint)

    def _prediction(self, example: Example, answer: object) -> Prediction:
        text = self._client.text(answer) if isinstance(answer, Response) else ""
        if self._family.spans:
            text = clean(text)
        decided = self._family.read_answer(text, example)
        if decided is None:
            self.undecided += 1
            # A guess that depends on the row alone, so it is always the same.
            decided = rng_for("guess", example.text, example.context).choice(self._family.guesses), -1
        return self._family.decided(example, *decided)


def answer_requests(
    config: RunConfig, family: TaskFamily, harvest: Sequence[Example], examples: Sequence[Example]
) -> list[Request]:
    """Return the question to the teacher for each example; the examples' labels are not read.

    Args:
        config: the run's config.
        family: the task's family.
        harvest: the gold rows that prompts may show.
        examples: the rows to decide.
    """
    sampling = answer_sampling(config)
    prompts, shots = Prompts(config.task), [(shot, family.gold(shot)) for shot in _shots(config, harvest)]
    return [Request(prompts.question(example, shots), sampling, 0, "answer", index, "") for index, example in enumerate(examples)]


def _shots(config: RunConfig, harvest: Sequence[Example]) -> list[Example]:
    """Draw ``few_shot`` rows per label and shuffle them, so that no particular label comes last."""
    count, draw = config.method.few_shot, rng_for("shots", config.seed)
    chosen: list[Example] = []
    for label in sorted({example.label for example in harvest}):
        rows = [example for example in harvest if example.label == label]
        chosen += draw.sample(rows, min(count, len(rows)))
    draw.shuffle(chosen)
    return chosen
