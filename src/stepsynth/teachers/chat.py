"""OpenAI's chat completions on the wire: what a server is sent, what its replies say, and what it was found not to take.

Servers differ in which parameters they take. What one refuses with a 400 is remembered and left out
from then on, as long as the answer cannot change by it: another temperature than the one that was
configured is never taken silently. It is the same whether requests go one by one or in a batch's file.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from stepsynth.errors import PermanentError, RetryModifiedError
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.refusals import classify
from stepsynth.teachers.settings import FIXED, is_refused, may_be_left_out, note_of, one_of_two, refused_setting, without_again
from stepsynth.teachers.structured import SCHEMA, asked
from stepsynth.types import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig
    from stepsynth.teachers.replies import Reply
    from stepsynth.types import Sampling

__all__ = ["ChatFormat", "Dialect", "is_withheld", "read_completion", "refuses_many", "request_seed", "withheld"]

_REFUSALS = frozenset({400, 422})
# Gateways and servers of one's own have other numbers for a parameter or a turn that they do not take.
_ALSO_REFUSALS = frozenset({404, 500, 501, 503})
_NOT_TAKEN = re.compile(
    r"not (?:be )?(?:supported|permitted|allowed|implemented|enabled)|unsupported|n't support|not support|unknown|unrecogni[sz]ed"
    r"|unexpected|extra|cannot find field|must alternate|only user and assistant",
    re.IGNORECASE,
)
_NOT_MANY = re.compile(r"only one|\bn\b.{0,80}(?:support|must|allow|greater)|multiple (?:choices|completions)", re.IGNORECASE)
_NO_SYSTEM = re.compile(
    r"\bsystem\b.{0,80}(?:not|unsupported)|(?:not|unsupported|n't).{0,80}[\"'`]system\b|developer instruction.{0,40}not"
    r"|only user and assistant|(?:must|should) (?:start|begin) with .{0,10}user|roles must alternate",
    re.IGNORECASE | re.DOTALL,
)
_ALTERNATE = re.compile(r"alternat|consecutive|same role", re.IGNORECASE)
# How a JSON object is asked for, the strictest way first; the last is the prompt alone.
_FORMATS: tuple[dict[str, Any] | None, ...] = (
    {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
    {"type": "json_object"},
    None,
)
_FORMAT_WORDS = re.compile(r"response_format|json_schema|json_object|structured.output|grammar|schema", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server was found to take.

    Attributes:
        limit: what it calls the most tokens of an answer.
        without: parameters that it refuses and that change nothing.
        form: place in `_FORMATS`.
        folded: whether the system's turn is the head of the first one of the user.
        merged: whether neighbouring turns of one role become one.
    """

    limit: str = "max_tokens"
    without: frozenset[str] = frozenset()
    form: int = 0
    folded: bool = False
    merged: bool = False

    def joined(self, other: Dialect) -> Dialect:
        """Return what both have learned."""
        limit = self.limit if self.limit != "max_tokens" else other.limit
        without, form = self.without | other.without, max(self.form, other.form)
        return Dialect(limit, without, form, self.folded or other.folded, self.merged or other.merged)


class ChatFormat:
    """The bodies for one server.

    Args:
        config: ``model``, ``base_url``, ``structured`` and what decides a request's key.

    Attributes:
        dialect: how the next request is written.
        notes: what the user shall hear of; whoever shows it takes it out.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._identity = config.identity()
        self._base_url = str(config.base_url).rstrip("/")
        self.dialect = Dialect()
        self.notes: list[str] = []

    def learned(self) -> dict[str, object]:
        """Return the dialect as far as it is not the one that everybody is asked in first."""
        plain, own = asdict(Dialect()), asdict(self.dialect)
        return {name: sorted(value) if name == "without" else value for name, value in own.items() if value != plain[name]}

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Take the dialect up that was learned earlier; what is not understood is passed over."""
        limit, form = learned.get("limit"), learned.get("form")
        self.dialect = Dialect(
            limit="max_completion_tokens" if limit == "max_completion_tokens" else "max_tokens",
            without=without_again(self._config, learned, self.notes, self._base_url),
            form=form if isinstance(form, int) and 0 <= form < len(_FORMATS) else 0,
            folded=learned.get("folded") is True,
            merged=learned.get("merged") is True,
        )

    def body(self, request: Request, count: int = 1) -> dict[str, object]:
        """Return what is sent for a request that wants ``count`` answers."""
        dialect, sampling = self.dialect, request.sampling
        structured = self._config.structured == "json"
        plain = [{"role": m.role, "content": m.content} for m in request.messages]
        turns = asked(request.messages) if structured else plain
        body: dict[str, object] = {
            **self._config.options,
            "model": self._config.model,
            "messages": _rewritten(turns, dialect) if dialect.folded or dialect.merged else turns,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            dialect.limit: sampling.max_tokens,
            "seed": request_seed(request.key(self._identity)),
        }
        # OpenAI refuses keys that it does not know, vLLM and llama.cpp take these two.
        if sampling.min_p != 0.0:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
        if count > 1:
            body["n"] = count
        form = _FORMATS[dialect.form] if structured else None
        if form is not None:
            body["response_format"] = form
        for name in dialect.without:
            body.pop(name, None)
        return body

    def learn(self, reply: Reply, sampling: Sampling, *asked_in: Dialect) -> RetryModifiedError | None:
        """Take another dialect where a refusal names what can be left out without changing the answer.

        Args:
            reply: any that is not a 2xx.
            sampling: of the request.
            asked_in: dialects that the request may have been written in; the first that explains the refusal counts.

        Returns:
            What to raise, so that the request is sent again; ``None`` where the refusal is final.
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
        """Say once that a setting which is not 1.0 is left out from now on."""
        new = learned.without - self.dialect.without
        changed = [name for name in FIXED if name in new and getattr(sampling, name) != 1.0]
        if changed:
            self.notes.append(note_of(self._base_url, self._config.model, changed))

    def ask_again(self, reply: Reply) -> RetryModifiedError:
        """Return the error that has a request sent again."""
        message = server_message(reply.text)
        return RetryModifiedError(
            f"{self._base_url} refused the form of a request (HTTP {reply.status}: {message!r}); it is sent in another one."
        )

    def _learned(self, reply: Reply, sampling: Sampling, dialect: Dialect) -> Dialect | None:
        """Return how to ask instead, or ``None`` where nothing can be left out without changing what the user asked for."""
        error = read_error(reply.text)
        words = error.words
        if dialect.limit == "max_tokens" and "max_completion_tokens" in reply.text:
            return replace(dialect, limit="max_completion_tokens")
        sure = is_refused(reply.text)
        harmless = ["seed", *(name for name in FIXED if _is_neutral(sampling, name) or (sure and self._is_free(sampling, name)))]
        refused = [name for name in error.named(("seed", *FIXED)) if name not in dialect.without]
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
        """Return the error of a server that refuses what the user set, if that is what a refusal says."""
        if reply.status not in _REFUSALS:
            return None
        return refused_setting(self._config, reply.text, sampling, self._base_url)


def _is_neutral(sampling: Sampling, name: str) -> bool:
    """Tell whether a request asks for what every API does where nothing is said."""
    return bool(getattr(sampling, name) == 1.0)


def _rewritten(turns: list[dict[str, str]], dialect: Dialect) -> list[dict[str, str]]:
    """Return turns for a server that takes no system turn, or no two turns of one role."""
    if dialect.folded:
        # A turn of the user in its place: the next one is the user's, too, and takes it up.
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
    """Tell whether a provider keeps the answer back for what it, or the prompt, says."""
    return not reply.ok and classify(reply.status, reply.text) == "withheld"


def refuses_many(reply: Reply) -> bool:
    """Tell a refusal of ``n``, for instance llama.cpp's "Only one completion choice is allowed"."""
    return _is_about_form(reply, _NOT_MANY) and bool(re.search(r"\bn\b|\bchoices?\b", server_message(reply.text)))


def _is_about_form(reply: Reply, words: re.Pattern[str]) -> bool:
    """Tell whether a refusal may be of a request's form: a status for that, or one of others with such words."""
    return reply.status in _REFUSALS or (reply.status in _ALSO_REFUSALS and bool(words.search(read_error(reply.text).words)))


def withheld(reply: Reply) -> Response:
    """Return the answer that was kept back: a refusal."""
    return Response(text="", finish_reason="refusal", raw=reply.text)
