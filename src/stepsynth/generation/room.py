"""Room for thoughts: how long an answer may be, and a stop where all answers end before they have said anything.

    request = with_room(config, request)     before it is sent; its key does not change
    watch.saw(key, limit, response)          for every answer that is known or comes
    watch.check()                            raises where nothing but thoughts came

A reasoning model's hidden thoughts count as output. Reasons and decisions are asked for with few
tokens, which such a model uses up before it begins to answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.teachers.reading import hidden_tokens, is_cut_off_in_thought

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response

__all__ = ["RoomWatch", "advised_room", "thought_share", "with_room"]

# Who allows rows so many tokens has a model that thinks; its short answers get them, too.
_LARGE = 1000
_ENGINES = frozenset({"openvino", "transformers", "vllm", "fake"})
# So many answers without a word, and none with one, are no accident.
_ENOUGH = 8
_LEAST_ADVICE = 2000


def with_room(config: TeacherConfig, request: Request) -> Request:
    """Return a request as it is sent: with room for thoughts where the config gives some.

    Args:
        config: ``reasoning_tokens`` are added to what the request allows; of a teacher behind a
            network, a large ``sampling.max_tokens`` holds for short answers, too.
        request: as its plan makes it.
    """
    limit, most = request.sampling.max_tokens, config.sampling.max_tokens
    if most >= _LARGE and config.backend not in _ENGINES:
        limit = max(limit, most)
    limit += config.reasoning_tokens
    if limit == request.sampling.max_tokens:
        return request
    return replace(request, sampling=replace(request.sampling, max_tokens=limit))


def advised_room(limit: int) -> int:
    """Return how many tokens to try for thoughts where a limit was too small."""
    return max(_LEAST_ADVICE, 4 * limit)


def thought_share(thought: int, written: int) -> str:
    """Return the end of a line that says what went into thoughts; nothing where nothing did.

    Args:
        thought: tokens of thoughts.
        written: tokens that the teacher wrote, those among them.
    """
    return f"; {thought:,} of {written:,} tokens written were thoughts" if thought else ""


class RoomWatch:
    """Notices that all answers under a limit are cut off before they say anything.

    Args:
        config: of the teacher.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._fine: set[int] = set()
        self._cut: dict[int, dict[str, bool]] = {}

    def saw(self, key: str, limit: int, response: Response) -> None:
        """Take an answer into account.

        Args:
            key: of its request.
            limit: the most tokens that it could have.
            response: as it came.
        """
        if limit in self._fine:
            return
        # An engine that had no room for a token was asked too long a question; that is another matter.
        began = bool(response.raw or response.usage.completion_tokens)
        if not began or not is_cut_off_in_thought(self._config, response):
            self._fine.add(limit)
            return
        self._cut.setdefault(limit, {})[key] = hidden_tokens(response) > 0

    def check(self) -> None:
        """Raise where there is enough to be sure.

        Raises:
            RunError: nothing said anything; everything is kept, and more room helps.
        """
        for limit, cut in self._cut.items():
            if limit in self._fine or len(cut) < _ENOUGH:
                continue
            seen = sum(cut.values())
            how = ", all of them in hidden reasoning" if seen == len(cut) else f", {seen} in hidden reasoning" if seen else ""
            raise RunError(
                f"{len(cut):,} of {len(cut):,} answers were cut off at {limit:,} tokens before they said anything{how}.",
                hint=f"Set teacher.reasoning_tokens to about {advised_room(limit):,} (room for thoughts, which count as output) "
                "and run the same command again: everything so far is kept.",
            )
