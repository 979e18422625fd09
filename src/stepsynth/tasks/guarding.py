"""What happens where a user's own family fails: one line that says where, and no trace of a stack."""

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
    """Run what a family does; its failure is the user's error. One of the package's own families fails as it is.

    Args:
        family: whose code is run.
        what: what it is asked about, for instance ``what a student answered``.
        error: class of the error that is raised.
        hint: what to do then.

    Raises:
        UserError: it raised something that is none of our errors.
    """
    try:
        yield
    except Exception as failed:
        # The package's own say nothing of themselves.
        if isinstance(failed, StepsynthError) or not family.identity():
            raise
        said = f"{type(failed).__name__}: {' '.join(str(failed).split())[:300]}"
        raise error(f"the task family {family.task.family!r} failed on {what}: {said}.", hint=hint) from failed
