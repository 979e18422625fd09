"""Faults that the project has had, put back one at a time, to show that the simulation finds each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from stepsynth.generation import live, scheduler
from stepsynth.generation.live import AsyncDispatcher
from stepsynth.journal import Cost, Ledger
from stepsynth.runtime.shutdown import stop_requested
from stepsynth.teachers import answer_of

if TYPE_CHECKING:
    from stepsynth.generation.actions import Call
    from stepsynth.types import Response

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A fault, and where the history fixes it.

    Attributes:
        fixed: the commit that fixed it.
        what: what was wrong.
        where: object and name that are replaced.
        old: as it was before that commit.
        shows: pattern of the checks that find it.
    """

    fixed: str
    what: str
    where: tuple[Any, str]
    old: Any
    shows: str

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Put the fault back for a while."""
        owner, name = self.where
        with patch.object(owner, name, self.old):
            yield


async def _watch_without_timer(self: Any) -> None:
    while True:
        await asyncio.sleep(live._TICK_S)
        if stop_requested():
            self._go_on()


async def _all_telling_first(self: Any) -> None:
    watch = asyncio.create_task(self._watch())
    try:
        self._scheduler.begin(self._clock())
        self._go_on()
        await self._idle.wait()
    finally:
        self._closing = True
        self._scheduler.close()
        for task in (watch, *self._sleeping):
            task.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._pauses.end()
        self._thread.shutdown()
        try:
            self._committer.commit()
        finally:
            await self._teacher.close()


async def _ask_in_every_form(self: Any, call: Call) -> list[Response]:
    if len(call.items) == 1:
        return [await answer_of(self._teacher, call.items[0][1])]
    responses: list[Response] = await self._teacher.generate_many(call.requests)
    return responses


def _forget_what_was_lost(self: Ledger) -> None:
    self.open = Cost()


FAULTS = {
    fault.fixed: fault
    for fault in (
        Fault(
            "c116299",
            "only a later answer made an answer durable: one that came before a long wait was lost with the process",
            (AsyncDispatcher, "_watch"),
            _watch_without_timer,
            "waits for its commit",
        ),
        Fault(
            "708f0d6",
            "a cap knew nothing of what a killed process had in flight",
            (Ledger, "count_as_lost"),
            _forget_what_was_lost,
            "sends, ",
        ),
        Fault(
            "4661ec7",
            "a request that was refused for its form was sent again inside generate, where nothing counted it",
            (AsyncDispatcher, "_ask"),
            _ask_in_every_form,
            "sends, ",
        ),
        Fault(
            "52996b1",
            "a wait that the server asked for cost the request an attempt: a rate limit ended in failed rows",
            (scheduler, "_LIMITS"),
            frozenset(),
            "was given up",
        ),
        Fault(
            "f900367",
            "a display that was gone at the end of a pause kept the last answers from being committed",
            (AsyncDispatcher, "_all"),
            _all_telling_first,
            "are not in the journal|has ended holds",
        ),
    )
}
