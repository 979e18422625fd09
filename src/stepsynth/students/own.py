"""A user's own students: a class in a script, or one registered by a package.

    class TfIdf(StudentRecipe):
        name = "tfidf"

        def __init__(self, words: int = 2000) -> None:
            self.words = words

        def fit(self, train, select, *, seed, out, start=None, progress=None): ...

        def load(self, folder): ...

In Python it is passed as ``student=TfIdf(words=500)``. In YAML it has the name under which a package registered the class as an
entry point of the group ``stepsynth.students``::

    student: {kind: tfidf, options: {words: 500}}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from stepsynth.config.nouns import Optioned
from stepsynth.errors import ConfigError
from stepsynth.registry import STUDENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model, Student
    from stepsynth.types import Example

__all__ = ["StudentRecipe", "chosen_student", "student_options"]


class StudentRecipe(Optioned, ABC):
    """Base class of a user's own students: how a model is trained and loaded.

    Its constructor's arguments are its options: plain values, kept in attributes of the same names. They are part of a run's
    identity. The contract is `stepsynth.testing.StudentContract`.

    Attributes:
        name: its name in configs and on pages; the class's name by default.
        continues: whether `fit` can continue from the folder ``start``; if not, rows of several stages are learned at once.

    Examples:
        >>> class Nothing(StudentRecipe):
        ...     def __init__(self, size: int = 3) -> None:
        ...         self.size = size
        ...
        ...     def fit(self, train, select, *, seed, out, start=None, progress=None): ...
        ...
        ...     def load(self, folder): ...
        >>> Nothing(size=4).values
        {'kind': 'Nothing', 'options': {'size': 4}}
    """

    called = "student"
    registry = STUDENTS
    continues: bool = False

    @abstractmethod
    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Model:
        """Train and write the model's files into ``out``; see `stepsynth.students.Student.fit`.

        The same rows and seed must give the same bytes. Write only files, no folders, and nothing that runs code when loaded.
        """

    @abstractmethod
    def load(self, folder: Path) -> Model:
        """Load the model that ``fit`` wrote into ``folder``; its predictions must be the same."""

    @property
    def values(self) -> dict[str, Any]:
        """The ``student`` section of a YAML config."""
        options = self.options
        return {"kind": self.name, **({"options": options} if options else {})}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.identity().items())})"


def chosen_student(config: RunConfig) -> Student:
    """Return the student that ``student.kind`` names.

    Raises:
        ConfigError: the name is unknown, the options are wrong, or the config does not fit it.
    """
    kind, options = config.student.kind or "", config.student.options
    found = STUDENTS.guarded(kind, lambda: STUDENTS.load(kind))
    if kind in STUDENTS.built_in:
        from stepsynth.students import create_student

        ours = create_student(config.model_copy(update={"student": config.student.model_copy(update={"kind": None})}))
        if type(ours) is not found:
            raise ConfigError(f"student.kind={kind!r} does not go with task.family={config.task.family!r}.", hint="Leave it out.")
        return ours
    if not (isinstance(found, type) and issubclass(found, StudentRecipe)):
        raise ConfigError(
            f"the student {kind!r} is {found!r}, not a class of students.", hint="Derive it from stepsynth.StudentRecipe."
        )
    if config.student.continued and not found.continues:
        raise ConfigError(f"student.continued does not go with the student {kind!r}.", hint="It cannot continue from a folder.")
    return found.made_with(options)


def student_options(config: RunConfig) -> dict[str, Any]:
    """Return all options of a config's student, including defaults."""
    own = chosen_student(config) if config.student.own else None
    return own.options if isinstance(own, StudentRecipe) else config.student.options
