"""A user's function as a teacher: a chat in, a text out.

    FunctionAnswers(answer, "mine")(config)    # the teacher

An ordinary function runs in a thread of its own, so that it does not hold up others.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from stepsynth.errors import PermanentError
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request

__all__ = ["FunctionAnswers", "extra_arguments"]

# What a function may ask for beside the chat.
_OFFERED = ("temperature", "top_p", "max_tokens", "label")


def extra_arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return which of the offered keyword arguments a function takes: those that it names, or all with ``**``."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    takes_all = any(given.kind is given.VAR_KEYWORD for given in known.values())
    first = next(iter(known), None)
    return tuple(name for name in _OFFERED if name != first and (takes_all or name in known))


class FunctionAnswers:
    """Makes the teacher that asks a function.

    Args:
        function: called with the chat, a list of dicts with ``role`` and ``content``, and what `extra_arguments` says;
            returns a text or a `Response`, or is a coroutine function that does.
        name: what messages call it.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        self._extra = extra_arguments(function)

    def __call__(self, config: TeacherConfig) -> FunctionAnswers:
        """Return the teacher: itself."""
        return self

    async def generate(self, request: Request) -> Response:
        """Ask the function once.

        Raises:
            PermanentError: it returned neither a text nor a response.
        """
        chat = [{"role": message.role, "content": message.content} for message in request.messages]
        sampling = request.sampling
        offered = (sampling.temperature, sampling.top_p, sampling.max_tokens, request.label)
        more = {name: value for name, value in zip(_OFFERED, offered, strict=True) if name in self._extra}
        if inspect.iscoroutinefunction(self.function):
            said = await self.function(chat, **more)
        else:
            said = await asyncio.to_thread(self.function, chat, **more)
            if inspect.isawaitable(said):
                said = await said
        if isinstance(said, str):
            return Response(said)
        if isinstance(said, Response):
            return said
        raise PermanentError(
            f"the teacher {self.name!r} returned {said!r:.80}, a {type(said).__name__}, not a text.",
            hint="Let the function return the answer's text, or a stepsynth.types.Response.",
            final=True,
        )

    async def close(self) -> None:
        """Do nothing: the function is its owner's."""
