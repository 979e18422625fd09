"""`Method`, the base class of all methods, and how the configured one is found and created.

    class Paraphrase(Method):
        name = "paraphrase"

        def __init__(self, per_label: int = 3, **settings: Any) -> None:
            super().__init__(**settings)
            self.per_label = per_label

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]: ...

In Python it is passed as ``method=Paraphrase(per_label=5)``. In YAML it has the name under which a package registered the class
as an entry point of the group ``stepsynth.methods``::

    method: {name: paraphrase, options: {per_label: 5}}
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from stepsynth.config import MethodConfig
from stepsynth.config.nouns import Noun, Optioned
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.registry import METHODS
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Unpack

    from stepsynth.config import RunConfig
    from stepsynth.config.keywords import MethodKeys
    from stepsynth.journal import Journal
    from stepsynth.methods import MethodContext, Plan

__all__ = [
    "CHECK",
    "LOOP",
    "REASONS",
    "ROWS",
    "Method",
    "Trains",
    "built_in_student",
    "create_method",
    "made_by",
    "method_class",
    "register_method",
    "student_notes",
    "trains_on",
]

# Keys of the section ``method`` that methods share.
ROWS = frozenset(
    {"seed_rows", "rows_per_answer", "max_overgeneration", "feedback", "near_duplicates", "second_reading", "readings"}
)
REASONS = frozenset({"rationales", "rationales_per_row", "seed_from", "demonstrations"})
CHECK = frozenset({"label_check", "label_check_ratio"})
LOOP = frozenset({"rounds", "rows_per_mistake", "balance", "stop"})

Trains = Literal["written", "gold", "both", "crossfit", "none"]
# Keys that a comparison sets for methods with ``takes_budget``.
_BUDGETED = ("seed_rows", "max_overgeneration")
# To reach the same number of rows, a method may ask more often than in a normal run.
MATCHED_OVERGENERATION = 15.0
# Journal note that tells readers without the method's class what trains the student.
_NOTE = "method_student"


class Method(Noun, Optioned, ABC):
    """One way to make training data. To add a method, derive a class from this one or from a built-in one.

    A class defines `plans`, and overrides the attributes that differ. Its constructor's own arguments are its options: plain
    values, kept in attributes of the same names. They are part of a run's identity.

    Attributes:
        name: its name in configs, in results and on pages; the class's name by default.
        keys: the keys of the section ``method`` that it reads.
        student: what trains the student: ``written`` rows, ``gold`` rows, ``both`` (a last student on both, after the
            rounds), ``crossfit`` (written rows and the gold rows that do not judge it; all gold rows feed the loop), or
            ``none`` (the teacher answers itself).
        rounds: rounds of data after the first; ``method.rounds`` if that is in `keys`.
        takes_seed: whether rows that the user brought (``data.seed``) replace its seed rows.
        takes_pool: whether texts without labels (``data.pool``) are used.
        needs_pool: whether a run without these texts is refused.
        self_trains: whether students learn from these texts with another student's labels.
        asks: whether the teacher is asked at all.
        draws_phrases: whether questions are written about phrases drawn from contexts.
        checks_labels: whether ``method.label_check: auto`` checks labels with the gold rows; never with ``crossfit``.
        seeds_from: the meaning of ``method.seed_from: auto``, if the task allows it.
        makes: the word for what it makes, in the final table of a method that cross-fits.
        takes_budget: whether a comparison gives it the budget: ``method.seed_rows``, or ``method.match``.
        sets_budget: whether it sets the budget of the others. Not inherited.
        is_reference: whether it is the default reference in a comparison. Not inherited.
        leads: whether ``compare`` also applies its settings to the others. Not inherited.

    Examples:
        >>> class Nothing(Method):
        ...     student = "gold"
        ...
        ...     def plans(self, round_number, ctx):
        ...         yield from ()
        >>> Nothing().values
        {'name': 'Nothing'}
    """

    section = MethodConfig
    called = "method"
    registry = METHODS
    keys: ClassVar[frozenset[str]] = ROWS | CHECK
    student: Trains = "written"
    rounds: int = 0
    takes_seed: bool = False
    takes_pool: bool = False
    needs_pool: bool = False
    self_trains: bool = False
    asks: bool = True
    draws_phrases: bool = False
    checks_labels: bool = True
    seeds_from: Literal["reasons", "instruction", "gold"] = "reasons"
    makes: str = "written rows"
    takes_budget: bool = True
    sets_budget: bool = False
    is_reference: bool = False
    leads: bool = False

    def __init__(self, **settings: Unpack[MethodKeys]) -> None:
        super().__init__(**settings)
        if "rounds" in self.keys:
            object.__setattr__(self, "rounds", self._wanted_rounds())

    def _wanted_rounds(self) -> int:
        rounds: int = self._given.get("rounds", MethodConfig.model_fields["rounds"].default)
        return rounds

    def __setattr__(self, name: str, value: object) -> None:
        if name == "rounds":
            # A run says why this has no effect.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for fact in ("sets_budget", "is_reference", "leads"):
            if fact not in vars(cls):
                setattr(cls, fact, False)
        cls.fixed = {"name": cls.name}

    @abstractmethod
    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield a round's stages in order; each is finished before the next is requested.

        A round after the first that yields nothing ends the loop.
        """

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse a config that does not fit the method.

        Raises:
            ValueError: what does not fit, and what to write instead.
        """
        if cls.needs_pool and config.data.pool is None:
            raise ValueError(f"method.name={cls.name} needs texts without labels: name a file in data.pool")
        _check_readings(config)
        if cls.student != "crossfit":
            return
        if config.method.label_check == "harvest":
            raise ValueError(
                f"method.label_check=harvest does not go with method.name={cls.name}: the probe would have seen the rows that "
                "judge the students; write method.label_check: none, or method.name: s3 (the default before version 0.2)"
            )
        for key, value in (("method.mistakes_of", config.method.mistakes_of), ("student.continued", config.student.continued)):
            if value:
                raise ValueError(f"{key}={value!r} does not go with method.name={cls.name}; use it with method.name=s3")
        if config.method.final in ("pool", "all") and not (cls.self_trains and config.data.pool):
            needs = "needs texts without labels: name a file in data.pool" if cls.self_trains else f"is not for {cls.name}"
            raise ValueError(f"method.final={config.method.final} {needs}, or write auto")
        _check_soft_labels(config, pool=cls.self_trains)

    def doubts_labels(self, config: RunConfig) -> bool:
        """Whether a probe trained on the harvest half checks labels."""
        wanted = config.method.label_check
        return wanted == "harvest" or (wanted == "auto" and self.checks_labels and not self.crossfits)

    @property
    def crossfits(self) -> bool:
        """Whether every validation row feeds the loop and judges it."""
        return self.student == "crossfit"

    @classmethod
    def _arguments(cls) -> Mapping[str, inspect.Parameter]:
        # The signature of the class also has the keys of the section, which are no options.
        own = inspect.signature(cls.__init__).parameters
        return dict(list(own.items())[1:])

    @property
    def values(self) -> dict[str, Any]:
        """The ``method`` section of a YAML config."""
        options = self.options
        return {**self.fixed, **self._given, **({"options": options} if options else {})}

    def __repr__(self) -> str:
        given = {**self._given, **dict(self.identity())}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def _check_soft_labels(config: RunConfig, *, pool: bool) -> None:
    """Refuse what a student cannot tell about rows of a family, or cannot learn from them."""
    family, how = create_family(config.task), config.method.pool_labels if pool else "hard"
    key, instead = (f"method.pool_labels={how}", "write hard") if how != "hard" else ("method.final=weighted", "write auto")
    if how != "hard" or config.method.final == "weighted":
        if family.spans:
            raise ValueError(f"{key} is for tasks with labels, and the answers of this one are spans: {instead}")
        if config.student.head == "probe":
            raise ValueError(f"{key} has no effect on a linear probe (student.head: probe): {instead}, or choose another head")
    if how in ("aligned", "confident") and family.several_labels:
        raise ValueError(f"{key} is for rows with one label, and these may have several: write soft")


def _check_readings(config: RunConfig) -> None:
    method = config.method
    if method.second_reading != "none" and method.match is not None:
        raise ValueError(
            f"method.second_reading={method.second_reading} does not go with a method that is given a budget of "
            f"{method.match.unit}; compare by rows, or set second_reading for the methods that set the budget only"
        )
    if method.readings > 1 and not config.teacher.sampling.temperature:
        raise ValueError(
            f"method.readings={method.readings} with teacher.sampling.temperature=0 would give the same answer {method.readings} "
            "times: write method.readings: 1, or a temperature above 0"
        )


def register_method(method: Method) -> None:
    """Register the class of a program's method under its name, for the rest of the process.

    Raises:
        ConfigError: its name is built in or not allowed, or its options do not recreate it.
    """
    _check_made(method)
    method.register(METHODS)


def create_method(config: RunConfig) -> Method:
    """Create the configured method.

    Raises:
        ConfigError: the name is unknown, the options are wrong, or the config does not fit the method.
    """
    name, options = config.method.name, config.method.options
    if name in METHODS.built_in and options:
        raise ConfigError(
            f"method.options is {options!r}, but {name!r} has none.", hint="Its settings are keys of method itself."
        )
    method = method_class(name).made_with(options)
    if key := next((key for key in options if key in method._given and key not in method.identity()), None):
        raise ConfigError(f"method.options has {key!r}, which is a key of method itself.", hint=f"Write method.{key}.")
    _check_made(method)
    _check_fixed(method, config)
    if "rounds" in method.keys:
        method.rounds = config.method.rounds
    try:
        method.check(config)
    except ValueError as error:
        raise ConfigError(f"config: {error}.") from None
    return method


def method_class(name: str) -> type[Method]:
    """Return the class of a method, for its class attributes.

    Raises:
        ConfigError: there is none, or it is not a method.
    """
    found = METHODS.guarded(name, lambda: METHODS.load(name))
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(f"the method {name!r} is {found!r}, not a class of methods.", hint="Derive it from stepsynth.Method.")
    return found


def _check_fixed(method: Method, config: RunConfig) -> None:
    """Refuse a config that contradicts the constructor, except for a budget set by a comparison."""
    budgeted = method.takes_budget and config.method.max_overgeneration >= MATCHED_OVERGENERATION
    fixed = MethodConfig.model_validate(dict(method._given))
    for key in method._given:
        found, value = getattr(config.method, key), getattr(fixed, key)
        # An "auto" in the constructor is settled by now.
        if found != value and value != "auto" and not (budgeted and key in _BUDGETED):
            raise ConfigError(
                f"the method {method.name!r} sets {key}={value!r} in its constructor, but method.{key} is {found!r}.",
                hint=f"Write method.{key}: {json.dumps(value)}, or remove it from the constructor.",
            )


def _check_made(method: Method) -> None:
    own, known = type(method), set(MethodConfig.model_fields) - {"name", "options", "match"}
    if unknown := next((key for key in sorted(method.keys, key=str) if key not in known), None):
        raise ConfigError(
            f"the method {method.name!r} has an unknown key {unknown!r}.", hint=did_you_mean(str(unknown), sorted(known))
        )
    if isinstance(method.rounds, bool) or not isinstance(method.rounds, int) or method.rounds < 0:
        raise ConfigError(f"the method {method.name!r} has rounds = {method.rounds!r}.", hint="Give a whole number, 0 or more.")
    fixed = [vars(found)["rounds"] for found in own.__mro__[: own.__mro__.index(Method)] if "rounds" in vars(found)]
    fixed += [method.rounds] * (method.rounds != method._wanted_rounds())
    if "rounds" in method.keys and fixed:
        raise ConfigError(
            f"the method {method.name!r} sets rounds = {fixed[0]}, which has no effect: its keys include 'rounds'.",
            hint=f"Write super().__init__(rounds={fixed[0]}) in its constructor, or {own.__name__}(rounds={fixed[0]}).",
        )
    if method.student not in get_args(Trains):
        raise ConfigError(
            f"the method {method.name!r} trains its student on {method.student!r}.", hint=f"Known: {', '.join(get_args(Trains))}."
        )


def student_notes(method: Method) -> dict[str, str]:
    """Return journal notes on a user's method, for readers without its class; empty for built-in methods."""
    return {} if method.name in METHODS.built_in else {_NOTE: method.student}


def built_in_student(name: str) -> Trains | None:
    """Return `Method.student` of a built-in method; ``None`` for a user's method."""
    if name not in METHODS.built_in:
        return None
    built_in: type[Method] = METHODS.load(name)
    return built_in.student


def made_by(name: str) -> str:
    """Return `Method.makes` of a built-in method; the default for a user's method."""
    known: type[Method] = METHODS.load(name) if name in METHODS.built_in else Method
    return known.makes


def trains_on(config: RunConfig, journal: Journal) -> Trains:
    """Return `Method.student` of a run's method; works without the class of a user's method."""
    return built_in_student(config.method.name) or cast("Trains", journal.meta(_NOTE) or "written")
