"""Room for thoughts: how long an answer may be, and a stop if all answers are cut off before they say anything.

    request = with_room(config, request)     before it is sent; its key does not change
    watch.saw(key, limit, response)          for every answer, known or new
    watch.check()                            raises if nothing but thoughts came

A reasoning model's hidden thoughts count as output. Reasons and decisions have small token limits,
which such a model uses up before it begins to answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.teachers.reading import hidden_tokens, is_cut_off_in_thought

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response

__all__ = ["ENGINES", "RoomWatch", "advised_room", "thought_share", "with_room"]

# A limit this large for rows suggests a reasoning model; its short answers get the same limit.
_LARGE = 1000
ENGINES = frozenset({"openvino", "transformers", "vllm", "fake"})
# This many answers without a word, and none with one, are not chance.
_ENOUGH = 8
_LEAST_ADVICE = 2000


def with_room(config: TeacherConfig, request: Request) -> Request:
    """Return a request with the config's room for thoughts added.

    Args:
        config: ``reasoning_tokens`` are added to the request's limit; for a teacher behind a network,
            a large ``sampling.max_tokens`` applies to short answers, too.
        request: as planned.
    """
    limit, most = request.sampling.max_tokens, config.sampling.max_tokens
    if most >= _LARGE and config.backend not in ENGINES:
        limit = max(limit, most)
    limit += config.reasoning_tokens
    if limit == request.sampling.max_tokens:
        return request
    return replace(request, sampling=replace(request.sampling, max_tokens=limit))


def advised_room(limit: int) -> int:
    """Return a number of tokens to suggest for thoughts when a limit was too small."""
    return max(_LEAST_ADVICE, 4 * limit)


def thought_share(thought: int, written: int) -> str:
    """Return a clause on the share of thoughts, to end a line with; empty if there were none.

    Args:
        thought: tokens of thoughts.
        written: tokens that the teacher wrote, thoughts included.
    """
    return f"; {thought:,} of {written:,} tokens written were thoughts" if thought else ""


class RoomWatch:
    """Detects that all answers under a limit are cut off before they say anything.

    Args:
        config: the teacher's config.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._fine: set[int] = set()
        self._cut: dict[int, dict[str, bool]] = {}

    def saw(self, key: str, limit: int, response: Response) -> None:
        """Take an answer into account.

        Args:
            key: the request's key.
            limit: the request's limit in tokens.
            response: the answer as received.
        """
        if limit in self._fine:
            return
        # An engine without room for a single token got too long a prompt; that is another problem.
        began = bool(response.raw or response.usage.completion_tokens)
        if not began or not is_cut_off_in_thought(self._config, response):
            self._fine.add(limit)
            return
        self._cut.setdefault(limit, {})[key] = hidden_tokens(response) > 0

    def check(self) -> None:
        """Raise once there is enough evidence.

        Raises:
            RunError: no answer said anything; everything is kept, and more room helps.
        """
        for limit, cut in self._cut.items():
            if limit in self._fine or len(cut) < _ENOUGH:
                continue
            seen = sum(cut.values())
            how = ", all of them in hidden reasoning" if seen == len(cut) else f", {seen} in hidden reasoning" if seen else ""
            raise RunError(
                f"{len(cut):,} of {len(cut):,} answers were cut off at {limit:,} tokens before they said anything{how}.",
                hint=f"Set teacher.reasoning_tokens to about {advised_room(limit):,} (room for thoughts, which count as output) "
                "and run it again: everything so far is kept.",
            )
