"""The teacher as a second reader: it answers rows that it wrote, or that people labelled, without seeing their answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.filters.normalise import clean
from stepsynth.filters.second_reading import most_frequent
from stepsynth.methods.annotate import reading_sampling
from stepsynth.prompts import Prompts
from stepsynth.tasks.scoring import score_of
from stepsynth.teachers.reading import answer_probability
from stepsynth.types import Request, Response, StageKind, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.generation.client import TeacherClient
    from stepsynth.journal import Journal
    from stepsynth.runtime.progress import Progress
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["GOLD_READING", "TeacherReader", "read_gold"]

# The stage that keeps the teacher's readings of the gold rows.
GOLD_READING = "gold/reading"


@dataclass
class TeacherReader:
    """A `stepsynth.filters.second_reading.Reader` that asks the teacher.

    One reading is greedy; several are drawn at ``teacher.sampling.temperature``, each with a replicate number of its own. No
    gold row is shown, so a reading of a row depends on no other row. Of one reading a server may tell how probable it was
    (``teacher.logprobs``); of several, the share that agrees says as much.

    Attributes:
        config: the run's config; ``method.readings`` is the number of readings of a row.
        family: reads the answers.
        client: gets them.
        used: usage of each answer so far, by request key.
        sure: how probable the only reading of a row was, by the row's id, where the server told.
    """

    config: RunConfig
    family: TaskFamily
    client: TeacherClient
    used: dict[str, Usage] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)

    def read(self, rows: Sequence[Example]) -> list[list[Prediction]]:
        """Return the readings of each row, in order, without answers that decided nothing.

        Raises:
            StepsynthError: the reason the requests ended; all answers are committed.
        """
        prompts, times, sampling = Prompts(self.config.task), self.config.method.readings, reading_sampling(self.config)
        asks = self.config.teacher.logprobs and times == 1
        asked = [
            [Request(prompts.question(row), sampling, number, "reading", place, "", logprobs=asks) for number in range(times)]
            for place, row in enumerate(rows)
        ]
        answers = self.client.run([request for requests in asked for request in requests]) if rows else {}
        found = []
        for row, requests in zip(rows, asked, strict=True):
            readings = []
            for key in (self.client.key(request) for request in requests):
                if isinstance(answer := answers.get(key), Response):
                    self.used[key] = answer.usage
                    readings.append(self._reading(row, self.client.text(answer)))
                    if asks and (sure := answer_probability(answer)) is not None:
                        self.sure[row.id] = sure
            found.append([reading for reading in readings if reading is not None])
        return found

    def _reading(self, row: Example, text: str) -> Prediction | None:
        decided = self.family.read_answer(clean(text) if self.family.spans else text, row)
        return None if decided is None else self.family.decided(row, *decided)

    def cost(self) -> dict[str, Any]:
        """Return ``requests``, ``tokens`` and ``usd`` (``None``: unknown price) of the answers so far, each counted once."""
        used = self.used.values()
        dollars = [usage.cost_usd for usage in used]
        return {
            "requests": len(dollars),
            "tokens": sum(usage.prompt_tokens + usage.completion_tokens for usage in used),
            "usd": None if None in dollars else sum(usd for usd in dollars if usd is not None),
        }


def read_gold(config: RunConfig, family: TaskFamily, client: TeacherClient, journal: Journal, progress: Progress) -> None:
    """Have the teacher read the gold rows, once, after the last decision of a run, and keep what it says.

    It shows how far its readings can be trusted, and which labels a person should look at.

    Raises:
        StepsynthError: the reason the requests ended; all answers are committed.
    """
    if journal.stage_done(GOLD_READING):
        return
    started, reader = time.monotonic(), TeacherReader(config, family, client)
    rows = [*journal.gold("harvest"), *journal.gold("select")]
    said: list[tuple[str, str | None, float, float | None]] = []
    for row, readings in zip(rows, reader.read(rows), strict=True):
        answer = most_frequent(readings) if readings else None
        score = score_of(family, row, answer) if answer else 0.0
        said.append((row.id, answer.label if answer else None, score, _sureness(row, answer, readings, reader)))
    right = sum(score == 1.0 for _, _, score, _ in said)
    info = {"second_reading": {"right": right, "of": len(rows), "said": said, **reader.cost()}}
    last, seconds = max(journal.rounds(), default=0), time.monotonic() - started
    journal.finish_training(GOLD_READING, last, {}, info, seconds, kind=StageKind.READING)
    progress.note(f"Second reading: the teacher gives {right:,} of {len(rows):,} gold rows the answer they have.")


def _sureness(row: Example, answer: Prediction | None, readings: Sequence[Prediction], reader: TeacherReader) -> float | None:
    """Return how sure the teacher is of its answer: its probability, or the share of several readings that give it."""
    if answer is None:
        return None
    if reader.config.method.readings == 1:
        return reader.sure.get(row.id)
    return sum((reading.label, reading.start) == (answer.label, answer.start) for reading in readings) / len(readings)
