"""What all played providers share: the order in which a request is looked at, and the switches that make them misbehave.

A provider is a subclass of `PlayedProvider` that says how it words things; `providers.play` finds it
by its name. Each behaviour has a comment that says who says so: "documented" is the provider's own
documentation, "reported" are public bug reports, both looked up in November 2026. No provider was asked.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from loopback import Fault, LoopbackServer, Seen
from stepsynth.teachers.fake import FakeTeacher

__all__ = ["KEY", "THOUGHT", "THOUGHT_TOKENS", "PlayedProvider", "counted", "names", "openai_error", "whole"]

# The key that played providers take; long enough to be cut out of messages.
KEY = "played-key-0123456789abcdef"
# What a model thinks. Whoever finds a piece of it in a row has found a thought.
THOUGHT = "Okay, the user wants a short text.\n\nIt should sound natural, so I begin with the mood of it."
# What it costs, of whatever limit was set: a thinking model answers after its thoughts only.
THOUGHT_TOKENS = 100


class PlayedProvider(LoopbackServer):
    """A provider as it is documented, on 127.0.0.1.

    Args:
        rate_limited_after: requests that it answers per ``window_s``, then it says 429 and for how long.
        window_s: seconds of that window.
        no_money: the account is empty.
        wrong_key: it takes another key than `KEY`.
        refuses_content: share of the prompts, or of the answers, that it keeps back.
        overloaded_once: the first question meets an overloaded server.
        reasoning: whether the model thinks; by default as the model of that name does.
        unlisted: models that it serves besides, whatever its list says.
        options: as `LoopbackServer`.

    Attributes:
        prefix: path below which it answers.
        served: models that may be asked for.
        thinking: those of them that think unless they are told not to.
        key_header: header and what stands before the key; ``None`` asks for none.
        known: parameters that it takes; ``None`` lets unknown ones pass.
        says_wait: whether a refusal for the rate says how long to wait.
        public_list: whether the list of models is shown without a key.
    """

    path_prefix: ClassVar[str] = "/v1"
    served: ClassVar[tuple[str, ...]] = ()
    thinking: ClassVar[frozenset[str]] = frozenset()
    key_header: ClassVar[tuple[str, str] | None] = ("authorization", "Bearer ")
    known: ClassVar[frozenset[str] | None] = None
    says_wait: ClassVar[bool] = True
    public_list: ClassVar[bool] = False

    def __init__(
        self,
        *,
        rate_limited_after: int | None = None,
        window_s: float = 60.0,
        no_money: bool = False,
        wrong_key: bool = False,
        refuses_content: float = 0.0,
        overloaded_once: bool = False,
        reasoning: bool | None = None,
        unlisted: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(**{"models": None, "prefix": self.path_prefix, **options})
        self.rate_limited_after, self.window_s = rate_limited_after, window_s
        self.no_money, self.wrong_key, self.refuses_content = no_money, wrong_key, refuses_content
        self.overloaded_once, self.reasoning = overloaded_once, reasoning
        self.also = unlisted
        # Flaws of ordinary answers are other tests' affair.
        self._fake = FakeTeacher(blemishes={})
        self._salts = itertools.count(1)
        self._answered_at: list[float] = []
        self._overloads = 0
        self._guard = threading.Lock()

    # what a provider says ------------------------------------------------------------------

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        """Return the body of a refusal."""
        return openai_error(message, code, kind)

    def says_wrong_key(self, given: str) -> Fault:
        """Refuse a key, or that there is none."""
        return Fault.status(401, body=self.error(f"Incorrect API key provided: {given}.", "invalid_api_key"))

    def says_no_model(self, model: str) -> Fault:
        """Refuse a model."""
        return Fault.status(404, body=self.error(f"The model `{model}` does not exist.", "model_not_found"))

    def says_unknown(self, name: str, value: object) -> Fault | None:
        """Refuse a parameter that is not among the ``known`` ones."""
        return Fault.status(400, body=self.error(f"Unrecognized request argument supplied: {name}"))

    def says_slow_down(self, wait: float) -> Fault:
        """Refuse for the rate; the account may ask again in ``wait`` seconds."""
        raise NotImplementedError

    def says_no_money(self) -> Fault:
        """Refuse since the account is empty; a `NotImplementedError` where no document says how."""
        raise NotImplementedError

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        """Refuse since too much is going on."""
        raise NotImplementedError

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        """Keep an answer back for what it, or the prompt, says; an answer with the status 200 also comes as a `Fault`."""
        raise NotImplementedError

    def listing(self) -> Any:
        """Return the body of the list of models; ``None`` where there is none."""
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.listed()]}

    def listed(self) -> tuple[str, ...]:
        """Return the ids in the list."""
        return self.served

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        """Refuse a request for its parameters, beyond unknown ones."""
        return None

    def silenced(self, body: Mapping[str, Any]) -> bool:
        """Tell whether a request switches thinking off."""
        return False

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        """Put thoughts into a choice, and their tokens into the usage."""

    def finished(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        """Write the rest of an answer as this provider does."""

    # how they are asked ----------------------------------------------------------------------

    def limit(self, body: Mapping[str, Any]) -> int:
        """Return how many tokens a request allows."""
        return int(body.get("max_completion_tokens") or body.get("max_tokens") or 4096)

    def thinks(self, body: Mapping[str, Any]) -> bool:
        """Tell whether the model thinks before it answers a request."""
        model = str(body.get("model", ""))
        able = self.reasoning if self.reasoning is not None else model in self.thinking
        return able and not self.silenced(body)

    def lot(self, body: Mapping[str, Any], salt: str = "") -> float:
        """Return a number in [0, 1) that the prompt decides, and the seed where one is sent."""
        text = f"{body.get('messages')} {body.get('seed', next(self._salts))} {salt}"
        return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8

    def _given(self, seen: Seen) -> str | None:
        """Return the key that came, ``None`` where it is not the right one."""
        if self.key_header is None:
            return None if self.wrong_key else ""
        name, before = self.key_header
        given = seen.headers.get(name, "")
        right = f"{before}{KEY}" if not self.wrong_key else f"{before}another"
        return given.removeprefix(before) if given == right else None

    def _fault(self, seen: Seen, *, asked: bool) -> Fault | None:
        if self._given(seen) is None and (asked or not self.public_list):
            return self.says_wrong_key(seen.headers.get((self.key_header or ("authorization", ""))[0], ""))
        if not asked:
            return self._listed_or_not(seen)
        if self.path_of(seen) is None:
            return None
        body = seen.json
        scripted = super()._fault(seen, asked=asked)
        return scripted or self._trouble(body) or self._refused(seen, body)

    def path_of(self, seen: Seen) -> str | None:
        """Return the path of a question that belongs here."""
        path = seen.path.partition("?")[0]
        return path if path in {f"{self.prefix}/chat/completions", "/v1/messages"} else None

    def _listed_or_not(self, seen: Seen) -> Fault:
        path, found = seen.path.partition("?")[0], self.listing()
        if found is not None and path == f"{self.prefix}/models":
            return Fault.status(200, body=found)
        return Fault.status(404, body=self.error(f"no such route: {path}"))

    def _trouble(self, body: Mapping[str, Any]) -> Fault | None:
        if self.no_money:
            return self.says_no_money()
        if (wait := self._wait()) is not None:
            return self.says_slow_down(wait)
        with self._guard:
            first, self._overloads = self._overloads == 0, self._overloads + 1
        return self.says_overloaded(body) if self.overloaded_once and first else None

    def _wait(self) -> float | None:
        """Return how long to wait, ``None`` where the window has room, which is then taken."""
        if self.rate_limited_after is None:
            return None
        with self._guard:
            now = time.monotonic()
            self._answered_at = [moment for moment in self._answered_at if now - moment < self.window_s]
            if len(self._answered_at) < self.rate_limited_after:
                self._answered_at.append(now)
                return None
            return self.window_s - (now - self._answered_at[0])

    def _refused(self, seen: Seen, body: Mapping[str, Any]) -> Fault | None:
        model = self.model_of(seen, body)
        if model not in {*self.served, *self.also}:
            return self.says_no_model(model)
        for name in sorted(set(body) - (self.known or set(body))):
            if (fault := self.says_unknown(name, body[name])) is not None:
                return fault
        if (fault := self.checked(body)) is not None:
            return fault
        return self.says_withheld(body) if self.lot(body, "withheld") < self.refuses_content else None

    def model_of(self, seen: Seen, body: Mapping[str, Any]) -> str:
        """Return the model that a request is for."""
        return str(body.get("model", ""))

    def _answered(self, body: dict[str, Any], *, anthropic: bool) -> dict[str, Any]:
        asked = {**body, "model": body.get("model", ""), "seed": body.get("seed", next(self._salts))}
        found = super()._answered(asked, anthropic=anthropic)
        choices, usage = found.get("choices", [found]), found["usage"]
        for choice in choices:
            if self.thinks(body):
                self._think(choice, usage, self.limit(body))
            self.finished(choice, usage)
        return found

    def _think(self, choice: dict[str, Any], usage: dict[str, Any], limit: int) -> None:
        if limit <= THOUGHT_TOKENS:
            self.cut(choice)
        self.with_thoughts(choice, usage)

    def cut(self, choice: dict[str, Any]) -> None:
        """Take the answer proper away: the thoughts used everything up."""
        choice["message"]["content"] = ""
        choice["finish_reason"] = "length"


def openai_error(message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return a body in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def counted(usage: dict[str, Any]) -> None:
    """Count thoughts as OpenAI does: they are output, and told apart."""
    usage["completion_tokens"] += THOUGHT_TOKENS
    usage["total_tokens"] += THOUGHT_TOKENS
    usage["completion_tokens_details"] = {"reasoning_tokens": THOUGHT_TOKENS}


def whole(seconds: float) -> int:
    """Return whole seconds, rounded up, as Retry-After has them."""
    return max(1, math.ceil(seconds))


def names(text: str) -> frozenset[str]:
    """Return the words of a text, as a set of parameters."""
    return frozenset(text.split())
