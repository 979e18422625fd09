"""Everything stepsynth raises on purpose.

::

    StepsynthError
    ├── UserError                 the user can fix it; printed in one line, exit code 2
    │   ├── ConfigError           a key, value or combination in the config
    │   ├── DataError             a file, column, label or text in the user's data
    │   ├── RunError              a run directory: locked, from another config, damaged
    │   ├── AssetError            an embedded model that is missing or has the wrong digest
    │   └── BudgetError           a cap in ``budget`` was reached; raise it and run again
    └── TeacherError              an answer did not come
        ├── TransientError        retryable: overload, time-out, connection reset
        │   ├── RetryModifiedError     the request's form was refused; the teacher knows another form
        │   └── MovedError             one of several servers failed; the teacher knows another one that works
        └── PermanentError        not retryable: wrong key, unknown model, refused request

``Interrupted`` is no error: a user or the system asked for a clean stop.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AssetError",
    "BudgetError",
    "ConfigError",
    "DataError",
    "Interrupted",
    "MissingColumnError",
    "MovedError",
    "PermanentError",
    "RetryModifiedError",
    "RunError",
    "StepsynthError",
    "TeacherError",
    "TransientError",
    "UserError",
    "closest",
    "did_you_mean",
]


class StepsynthError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what happened, with the offending value shown by ``repr``.
        hint: what to do next, one sentence; printed after the message.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint in one line."""
        return f"{self.message} {self.hint}".strip()


class UserError(StepsynthError):
    """Something that the user can fix; shown without a traceback, exit code 2."""


class ConfigError(UserError):
    """A key, a value or a combination of values in the config."""


class DataError(UserError):
    """A file, a column, a label or a text in the user's data."""


class MissingColumnError(DataError):
    """A source without a column that is needed."""


class RunError(UserError):
    """A run directory that is locked, belongs to another config or is damaged."""


class AssetError(UserError):
    """An embedded model that cannot be found or does not have its pinned digest."""


class BudgetError(UserError):
    """A cap of ``budget`` was reached; everything obtained so far is kept."""


class TeacherError(StepsynthError):
    """A teacher could not answer a request.

    Args:
        message: what happened.
        hint: what to do next.
        kind: the counter it goes into: ``overload`` (429), ``unavailable`` (5xx), ``timeout``,
            ``connection``, ``damaged`` (a body that is cut off or not JSON), ``refused``, ``other``.
    """

    def __init__(self, message: str, *, hint: str = "", kind: str = "other") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class TransientError(TeacherError):
    """Another attempt may succeed: overload, time-out, reset connection.

    Args:
        message: what happened.
        hint: what to do when it persists.
        kind: see `TeacherError`.
        retry_after: seconds to wait, if the server asked for a wait.
        maybe_billed: the request was sent whole and no answer came, so it may have been
            billed; another attempt may pay twice.
        why: the server's reason for the wait and which limit was hit, in one line.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        kind: str = "other",
        retry_after: float | None = None,
        maybe_billed: bool = False,
        why: str = "",
    ) -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.retry_after = retry_after
        self.maybe_billed = maybe_billed
        self.why = why

    @property
    def cut_off(self) -> bool:
        """Whether the connection was lost: the server has probably not finished the request, although it may bill it."""
        return self.kind in ("connection", "damaged")


class RetryModifiedError(TransientError):
    """The server refused the form of a request without billing it; the teacher will use another form: ask again at once."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Ask again; the next request will have another form.", kind="refused")


class MovedError(TransientError):
    """One of several servers or engines of the model failed, not the request: ask again at once, and another one is asked.

    Args:
        message: what happened.
        kind: see `TeacherError`.
        maybe_billed: see `TransientError`.
        hint: see `TeacherError`.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "other",
        maybe_billed: bool = False,
        hint: str = "Ask again; another server of teacher.base_url answers.",
    ) -> None:
        super().__init__(message, hint=hint, kind=kind, maybe_billed=maybe_billed)


class PermanentError(TeacherError):
    """Another attempt would fail too: wrong key, unknown model, malformed request.

    Args:
        message: what happened.
        hint: what to do next.
        kind: see `TeacherError`.
        final: no other request will succeed either (wrong key, unknown model, no money), so the
            run stops; otherwise only this request fails, as long as others are answered.
        unless_answered: ``final`` only while this process has received no answer.
    """

    def __init__(
        self, message: str, *, hint: str = "", kind: str = "other", final: bool = False, unless_answered: bool = False
    ) -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.final = final
        self.unless_answered = unless_answered


class Interrupted(StepsynthError):
    """A clean stop after Ctrl-C or SIGTERM; the same command resumes from here."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the closest of ``known``, or list them all.

    Args:
        word: the user's input; from Python it may be no text.
        known: the accepted words.
    """
    options = sorted(known)
    if best := closest(word, options):
        return f"Did you mean {best!r}?"
    return f"Known: {', '.join(options)}." if options else ""


def closest(word: object, known: Iterable[str]) -> str:
    """Return the most similar of ``known``; empty if none is similar."""
    near = get_close_matches(str(word), list(known), n=3, cutoff=0.6)
    # Swapped letters are the most likely typo.
    return min(near, key=lambda name: sorted(name.lower()) != sorted(str(word).lower()), default="")
