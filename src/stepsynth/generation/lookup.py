"""Looks the requests of a plan up, some at a time: an answer must be unknown before it is asked for, but not all must.

while chunk := lookup.plan(500):          the next requests by key
    found = lookup.find(chunk)            the only step that touches the journal; may be called in another thread
    missing = lookup.take(chunk, found)   what to send
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from stepsynth.generation.room import with_room
from stepsynth.teachers.completions import is_failure
from stepsynth.teachers.reading import is_cut_off_in_thought

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.generation.room import RoomWatch
    from stepsynth.journal import Journal
    from stepsynth.types import Request, Response

__all__ = ["Lookup"]


class Lookup:
    """The known answers to a plan's requests.

    Args:
        requests: in plan order.
        config: the teacher's config.
        journal: where answers are looked up.
        room: sees every known answer.
        note: called with a sentence if stored answers were in fact failures.

    Attributes:
        known: answers by key; whoever gets the missing ones adds them.
        missing: the requests without a known answer so far, by key and with their room for thoughts.
    """

    def __init__(
        self, requests: Sequence[Request], config: TeacherConfig, journal: Journal, room: RoomWatch, note: Callable[[str], object]
    ) -> None:
        self._source = iter(requests)
        self._config = config
        self._identity = config.identity()
        self._journal = journal
        self._room = room
        self._note = note
        self._set_aside = journal.set_aside
        self._seen: set[str] = set()
        self._ended = False
        self.known: dict[str, Response | TeacherError] = {}
        self.missing: list[tuple[str, Request]] = []

    def plan(self, most: int) -> dict[str, Request]:
        """Return the next requests by key, with their room for thoughts not yet added; empty at the end."""
        chunk: dict[str, Request] = {}
        while not chunk and not self._ended:
            drawn = list(islice(self._source, most))
            self._ended = len(drawn) < most
            chunk = {key: request for request in drawn if (key := request.key(self._identity)) not in self._seen}
        self._seen.update(chunk)
        return chunk

    def find(self, chunk: dict[str, Request]) -> dict[str, Response]:
        """Return the known answers to some requests.

        An answer kept under a smaller limit is valid unless it was cut off before it said anything.

        Raises:
            RunError: the journal cannot be read.
        """
        found = self._journal.find_answers(list(chunk.items()), self._identity, unfit=is_failure)
        roomy = {key: with_room(self._config, request) for key, request in chunk.items()}
        wider = [key for key, request in chunk.items() if roomy[key] is not request]
        if wider:
            again = [key for key in wider if key not in found or is_cut_off_in_thought(self._config, found[key])]
            fitting = self._journal.find_answers([(key, roomy[key]) for key in again], self._identity, unfit=is_failure)
            found = {key: answer for key, answer in found.items() if key not in again} | fitting
        return found

    def take(self, chunk: dict[str, Request], found: dict[str, Response]) -> list[tuple[str, Request]]:
        """Keep the known answers and return the missing requests, with their room for thoughts."""
        roomy = {key: with_room(self._config, request) for key, request in chunk.items()}
        for key, answer in found.items():
            self._room.saw(key, roomy[key].sampling.max_tokens, answer)
        self.known.update(found)
        missing = [(key, request) for key, request in roomy.items() if key not in found]
        self.missing += missing
        return missing

    def tell(self) -> None:
        """Say how many stored answers were in fact failures; nothing if there were none."""
        if count := self._journal.set_aside - self._set_aside:
            self._set_aside = self._journal.set_aside
            self._note(f"{count:,} stored answers were in fact failures: they are asked for again.")

    @property
    def ended(self) -> bool:
        """Whether all requests are planned; what `plan` gave last may still have to be looked up."""
        return self._ended

    def some(self, most: int) -> None:
        """Look requests up, so many at a time, until one is missing or all are known."""
        while not self.missing and (chunk := self.plan(most)):
            self.take(chunk, self.find(chunk))

    def rest(self) -> None:
        """Look up all other requests."""
        while chunk := self.plan(1 << 20):
            self.take(chunk, self.find(chunk))
