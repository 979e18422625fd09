"""OpenAI's chat completions on the wire: request bodies, replies, and what a server was found to refuse.

Servers accept different parameters. A parameter refused with a 400 is remembered and left out from
then on if that cannot change the answer: a configured temperature is never dropped silently. The
same holds for single requests and for those in a batch file.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from stepsynth.errors import PermanentError, RetryModifiedError
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.refusals import classify
from stepsynth.teachers.settings import (
    FIXED,
    OTHER_NAME,
    WITHOUT_EFFECT,
    is_refused,
    may_be_left_out,
    note_of,
    one_of_two,
    refused_setting,
    without_again,
)
from stepsynth.teachers.structured import asked, schema_of
from stepsynth.types import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig
    from stepsynth.teachers.replies import Reply
    from stepsynth.types import Sampling

__all__ = ["ChatFormat", "Dialect", "is_withheld", "most_choices", "read_completion", "refuses_many", "request_seed", "withheld"]

_REFUSALS = frozenset({400, 422})
# Gateways and self-hosted servers use other statuses for parameters or turns that they refuse.
_ALSO_REFUSALS = frozenset({404, 500, 501, 503})
_NOT_TAKEN = re.compile(
    r"not (?:be )?(?:supported|permitted|allowed|implemented|enabled)|unsupported|n't support|not support|unknown|unrecogni[sz]ed"
    r"|unexpected|extra|cannot find field|must alternate|only user and assistant",
    re.IGNORECASE,
)
_NOT_MANY = re.compile(r"only one|\bn\b.{0,80}(?:support|must|allow|greater)|multiple (?:choices|completions)", re.IGNORECASE)
# "Field 'n': Value must be between 1 <= value <= 4, but got 8"
_MOST_CHOICES = re.compile(r"\bn\b.{0,80}?(?:value <=|less than or equal to|at most|up to) {1,3}(\d{1,4})\b", re.IGNORECASE)
_NO_SYSTEM = re.compile(
    r"\bsystem\b.{0,80}(?:not|unsupported)|(?:not|unsupported|n't).{0,80}[\"'`]system\b|developer instruction.{0,40}not"
    r"|only user and assistant|(?:must|should) (?:start|begin) with .{0,10}user|roles must alternate",
    re.IGNORECASE | re.DOTALL,
)
_ALTERNATE = re.compile(r"alternat|consecutive|same role", re.IGNORECASE)
# Ways to ask for a JSON object, the strictest first; ``None`` leaves it to the prompt.
_FORMATS: tuple[str | None, ...] = ("json_schema", "json_object", None)
_FORMAT_WORDS = re.compile(r"response_format|json_schema|json_object|structured.output|grammar|schema", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of request that a server was found to accept.

    Attributes:
        limit: its name for the limit on an answer's tokens.
        without: parameters that it refuses and that may be left out.
        form: index in `_FORMATS`.
        folded: whether the system turn is put at the start of the first user turn.
        merged: whether neighbouring turns of the same role are merged.
    """

    limit: str = "max_tokens"
    without: frozenset[str] = frozenset()
    form: int = 0
    folded: bool = False
    merged: bool = False

    def joined(self, other: Dialect) -> Dialect:
        """Combine the findings of two dialects."""
        limit = self.limit if self.limit != "max_tokens" else other.limit
        without, form = self.without | other.without, max(self.form, other.form)
        return Dialect(limit, without, form, self.folded or other.folded, self.merged or other.merged)


class ChatFormat:
    """The request bodies for one server.

    Args:
        config: ``model``, ``base_url``, ``structured`` and everything that enters a request's key.

    Attributes:
        dialect: the form of the next request.
        notes: messages for the user; the caller that shows them removes them.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._identity = config.identity()
        self._base_url = str(config.base_url).rstrip("/")
        self.dialect = Dialect()
        self.notes: list[str] = []

    def learned(self) -> dict[str, object]:
        """Return the parts of the dialect that differ from the default."""
        plain, own = asdict(Dialect()), asdict(self.dialect)
        return {name: sorted(value) if name == "without" else value for name, value in own.items() if value != plain[name]}

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Use a dialect that was learned earlier; entries that are not understood are ignored."""
        limit, form = learned.get("limit"), learned.get("form")
        self.dialect = Dialect(
            limit="max_completion_tokens" if limit == "max_completion_tokens" else "max_tokens",
            without=without_again(self._config, learned, self.notes, self._base_url),
            form=form if isinstance(form, int) and 0 <= form < len(_FORMATS) else 0,
            folded=learned.get("folded") is True,
            merged=learned.get("merged") is True,
        )

    def body(self, request: Request, count: int = 1) -> dict[str, object]:
        """Return the body of a request for ``count`` answers."""
        dialect, sampling = self.dialect, request.sampling
        structured = self._config.structured == "json"
        plain = [{"role": m.role, "content": m.content} for m in request.messages]
        turns = asked(request) if structured else plain
        body: dict[str, object] = {
            **self._config.options,
            "model": self._config.model,
            "messages": _rewritten(turns, dialect) if dialect.folded or dialect.merged else turns,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            dialect.limit: sampling.max_tokens,
            "seed": request_seed(request.key(self._identity)),
        }
        # OpenAI refuses unknown keys; vLLM and llama.cpp accept these two.
        if sampling.min_p != 0.0:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
            body.setdefault(OTHER_NAME, sampling.repetition_penalty)
        if count > 1:
            body["n"] = count
        form = _FORMATS[dialect.form] if structured else None
        if form is not None:
            schema = {"json_schema": {"name": "answer", "strict": True, "schema": schema_of(request)}}
            body["response_format"] = {"type": form, **(schema if form == "json_schema" else {})}
        if request.logprobs:
            body["logprobs"] = True
        for name in dialect.without:
            body.pop(name, None)
        return body

    def learn(self, reply: Reply, sampling: Sampling, *asked_in: Dialect) -> RetryModifiedError | None:
        """Change the dialect if a refusal names something that can be left out without changing the answer.

        Args:
            reply: a reply that is not a 2xx.
            sampling: the request's sampling.
            asked_in: dialects that the request may have used; the first that explains the refusal counts.

        Returns:
            The error to raise so that the request is sent again; ``None`` if the refusal is final.
        """
        if not _is_about_form(reply, _NOT_TAKEN):
            return None
        learned = next(filter(None, (self._learned(reply, sampling, dialect) for dialect in asked_in)), None)
        if learned is None:
            return None
        self._tell_of(learned, sampling)
        self.dialect = self.dialect.joined(learned)
        return self.ask_again(reply)

    def _tell_of(self, learned: Dialect, sampling: Sampling) -> None:
        """Note once that a setting other than 1.0 is left out from now on."""
        new = learned.without - self.dialect.without
        changed = [name for name in FIXED if name in new and getattr(sampling, name) != 1.0]
        if changed:
            self.notes.append(note_of(self._base_url, self._config.model, changed))
        if "logprobs" in new:
            self.notes.append(f"{self._base_url} sends no log-probabilities: readings have no probability (teacher.logprobs).")

    def ask_again(self, reply: Reply) -> RetryModifiedError:
        """Return the error that makes the caller send the request again."""
        message = server_message(reply.text)
        return RetryModifiedError(
            f"{self._base_url} refused the form of a request (HTTP {reply.status}: {message!r}); it is sent again in another."
        )

    def _learned(self, reply: Reply, sampling: Sampling, dialect: Dialect) -> Dialect | None:
        """Return the dialect to try next; ``None`` if nothing can be left out without changing the user's settings."""
        error = read_error(reply.text)
        words = error.words
        if dialect.limit == "max_tokens" and "max_completion_tokens" in reply.text:
            return replace(dialect, limit="max_completion_tokens")
        sure = is_refused(reply.text)
        free = [name for name in FIXED if _is_neutral(sampling, name) or (sure and self._is_free(sampling, name))]
        # Fields of teacher.options are the user's own wish.
        harmless = [*(name for name in WITHOUT_EFFECT if name not in self._config.options), *free]
        refused = [name for name in error.named((*WITHOUT_EFFECT, *FIXED)) if name not in dialect.without]
        if found := [name for name in one_of_two(reply.text, refused) if name in harmless]:
            return replace(dialect, without=dialect.without | set(found))
        form = dialect.form
        if self._config.structured == "json" and form + 1 < len(_FORMATS) and _FORMAT_WORDS.search(words):
            return replace(dialect, form=form + 1)
        folded, merged = dialect.folded or bool(_NO_SYSTEM.search(words)), dialect.merged or bool(_ALTERNATE.search(words))
        return replace(dialect, folded=folded, merged=merged) if (folded, merged) != (dialect.folded, dialect.merged) else None

    def _is_free(self, sampling: Sampling, name: str) -> bool:
        return may_be_left_out(self._config, sampling, name)

    def fixed_sampling(self, reply: Reply, sampling: Sampling) -> PermanentError | None:
        """Return the error for a refused user setting, if the reply is about one."""
        if reply.status not in _REFUSALS:
            return None
        return refused_setting(self._config, reply.text, sampling, self._base_url)


def _is_neutral(sampling: Sampling, name: str) -> bool:
    """Whether a setting has the default value of every API."""
    return bool(getattr(sampling, name) == 1.0)


def _rewritten(turns: list[dict[str, str]], dialect: Dialect) -> list[dict[str, str]]:
    """Rewrite turns for a server that refuses system turns, or two turns in a row of the same role."""
    if dialect.folded:
        # It becomes a user turn, which is merged with the next one.
        turns = [{**turn, "role": "user"} if turn["role"] == "system" else turn for turn in turns]
    found: list[dict[str, str]] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"]:
            found[-1] = {**turn, "content": f"{found[-1]['content']}\n\n{turn['content']}"}
        else:
            found.append(turn)
    return found


def request_seed(key: str) -> int:
    """Return the sampling seed of a request: 31 bits of its key (64 hex digits of a sha256)."""
    return int(key[:8], 16) >> 1


def is_withheld(reply: Reply) -> bool:
    """Whether a provider withholds the answer because of its or the prompt's content."""
    return not reply.ok and classify(reply.status, reply.text) == "withheld"


def refuses_many(reply: Reply) -> bool:
    """Whether a reply refuses ``n``, for instance llama.cpp's "Only one completion choice is allowed"."""
    return _is_about_form(reply, _NOT_MANY) and bool(re.search(r"\bn\b|\bchoices?\b", server_message(reply.text)))


def most_choices(reply: Reply) -> int:
    """Return how many answers a refusal of ``n`` allows, 1 if it does not say; llama.cpp has a slot for each.

    Args:
        reply: a reply for which `refuses_many` is true.
    """
    found = _MOST_CHOICES.search(server_message(reply.text))
    return max(1, int(found[1])) if found else 1


def _is_about_form(reply: Reply, words: re.Pattern[str]) -> bool:
    """Whether a refusal may be about the form of a request, by its status, or by another status with such words."""
    return reply.status in _REFUSALS or (reply.status in _ALSO_REFUSALS and bool(words.search(read_error(reply.text).words)))


def withheld(reply: Reply) -> Response:
    """Return a withheld answer as a refusal."""
    return Response(text="", finish_reason="refusal", raw=reply.text)
