"""The number of accepted rows while a wave is in flight, for display."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from stepsynth.errors import TeacherError
from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.filters import FilterPipeline
    from stepsynth.generation.planned import Planned
    from stepsynth.types import Candidate, GeneratedRow, Request, Response

    Answers = dict[str, Response | TeacherError]

__all__ = ["Preview", "kept_share"]

# Previews may take this share of the time.
_LIVE_SHARE = 0.05


class Preview:
    """Previews accepted rows while a wave is in flight, by applying the quick rules to answers as they come.

    The share that the slower rules keep is estimated from the stage's earlier waves. The wave itself is
    judged when it is complete, in plan order; the row filters run only once per row.

    Args:
        wave: the requests.
        pipeline: the quick rules.
        accepted: rows that were accepted before the wave.
        in_stage: how many of them belong to the wave's stage.
        kept: share of the rows that the slower rules keep, see `kept_share`.
        key: returns a request's key.
        candidates: returns the rows in the answer to a request.
        note: called with every answer, once.
        show: called with the number of accepted rows and of answers.
    """

    def __init__(
        self,
        wave: Planned,
        pipeline: FilterPipeline,
        accepted: list[GeneratedRow],
        in_stage: int,
        kept: float,
        *,
        key: Callable[[Request], str],
        candidates: Callable[[Request, Answers], list[Candidate]],
        note: Callable[[Response | TeacherError | None], None],
        show: Callable[[int, int], None],
    ) -> None:
        self._key, self._candidates, self._note, self._show = key, candidates, note, show
        self._wave = wave
        self._pipeline = pipeline
        self._accepted = list(accepted)
        self._in_stage = in_stage
        self._kept = kept
        self._passed = 0
        self._next = 0.0
        # States of a request: open until its answer comes, then looked at (once), and new until `show` has counted it.
        self._looked_at: dict[int, list[Verdict]] = {}
        self._new: list[int] = []
        self._answers_seen = 0
        self._open: dict[str, list[int]] = {}
        self._counted: set[str] = set()
        self._indexed = 0

    def _index(self) -> None:
        """Open the requests that were planned since the last call."""
        made = self._wave.made
        for position in range(self._indexed, len(made)):
            self._open.setdefault(self._key(made[position]), []).append(position)
        self._indexed = len(made)

    def show(self, answers: Answers) -> None:
        """Judge new answers and show the number of rows."""
        self._index()
        self._look(list(islice(answers, self._answers_seen, None)), answers)
        self._answers_seen = len(answers)
        started = time.monotonic()
        if started >= self._next:
            new = [verdict for position in sorted(self._new) for verdict in self._looked_at[position]]
            self._new.clear()
            passed = [v.candidate.row for v in self._pipeline.apply_set_filters(new, self._accepted) if v.accepted]
            self._accepted += passed
            self._passed += len(passed)
            self._next = time.monotonic() + (time.monotonic() - started) / _LIVE_SHARE
        rows = self._in_stage + round(self._kept * self._passed)
        self._show(rows, len(answers))

    def looked_at(self, answers: Answers, requests: int) -> list[Verdict]:
        """Return the verdicts of `FilterPipeline.apply_row_filters` on the wave's first requests, in plan order."""
        self._index()
        self._look(list(self._open), answers)
        return [verdict for position in range(requests) for verdict in self._looked_at[position]]

    def _look(self, keys: list[str], answers: Answers) -> None:
        """Apply the row filters, once per row."""
        for key in keys:
            failed = isinstance(answers.get(key), TeacherError)
            if key not in self._counted:
                self._counted.add(key)
                self._note(answers.get(key))
            for position in self._open.pop(key, ()):
                found = self._candidates(self._wave[position], answers)
                self._looked_at[position] = [
                    Verdict(c, DropReason.FAILED) if failed else self._pipeline.apply_row_filters(c) for c in found
                ]
                self._new.append(position)


def kept_share(verdicts: list[Verdict]) -> float:
    """Return the share of rows that the slower rules have kept so far, by Laplace's rule."""
    accepted = sum(verdict.accepted for verdict in verdicts)
    slow = (DropReason.LABEL_IN_DOUBT, DropReason.NEAR_DUPLICATE, DropReason.READ_OTHERWISE)
    doubted = sum(verdict.reason in slow for verdict in verdicts)
    return (accepted + 2) / (accepted + doubted + 2)
