"""Turn the failure of a user's own family into a one-line error without a traceback."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.errors import RunError, StepsynthError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.errors import UserError
    from stepsynth.tasks.family import TaskFamily

__all__ = ["guard_own"]

_LOST = "Fix it and run the same again: no answer is lost."


@contextmanager
def guard_own(family: TaskFamily, what: str, error: type[UserError] = RunError, hint: str = _LOST) -> Iterator[None]:
    """Run a family's code and convert its failures to the user's error; built-in families fail unchanged.

    Args:
        family: the family whose code is run.
        what: what it is working on, for instance ``what a student answered``.
        error: class of the error to raise.
        hint: the error's hint.

    Raises:
        UserError: it raised an error that is not one of ours.
    """
    try:
        yield
    except Exception as failed:
        # Built-in families have an empty identity.
        if isinstance(failed, StepsynthError) or not family.identity():
            raise
        said = f"{type(failed).__name__}: {' '.join(str(failed).split())[:300]}"
        raise error(f"the task family {family.task.family!r} failed on {what}: {said}.", hint=hint) from failed
