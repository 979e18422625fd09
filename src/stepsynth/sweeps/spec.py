"""What a sweep runs, and the checks of its own keys; `stepsynth.sweeps.reading` reads them from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stepsynth.config import BudgetConfig, first_problem
from stepsynth.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepsynth.config import RunConfig

__all__ = [
    "KEYS",
    "Part",
    "Problems",
    "SweepProblems",
    "SweepSpec",
    "as_overrides",
    "comparison_title",
    "read_budget",
    "read_choices",
    "read_settings",
    "refuse_clashes",
]

KEYS = ("name", "data_sets", "methods", "seeds", "settings", "reference", "match", "max_seeds", "budget", "out")
# Names become parts of folders' names and cells of tables.
_NAME = re.compile(r"\w[\w.+=-]{0,59}")
_NAME_HINT = "Use letters, digits and . _ + = - (at most 60 characters)."
_MOST_SEEDS = 1000
# Sections whose value may be a whole mapping.
_WHOLE = ("tracking", "budget")


class SweepProblems(ConfigError):
    """Everything that is wrong with a sweep, found before anything began.

    Attributes:
        problems: a line each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        said = self.problems[0] if count == 1 else f"{count} problems: {' | '.join(self.problems)}"
        super().__init__(said)


def comparison_title(data_set: str, setting: str | None) -> str:
    """Return the name of a comparison in messages and tables."""
    return f"{data_set}, {setting}" if setting else data_set


# Compared as objects: a config cannot be hashed.
@dataclass(frozen=True, eq=False)
class Part:
    """One comparison of a sweep: a data set with a setting.

    Attributes:
        data_set: the data set's name.
        setting: the setting's name; empty if the sweep has no settings.
        config: the config of both.
        methods: as `stepsynth.comparison.parse_systems` reads them.
    """

    data_set: str
    setting: str
    config: RunConfig
    methods: str

    @property
    def title(self) -> str:
        """Its name in messages and tables."""
        return comparison_title(self.data_set, self.setting)

    @property
    def folder(self) -> str:
        """The name of its folder inside the sweep's."""
        return folder_of(self.data_set, self.setting)


@dataclass(frozen=True)
class SweepSpec:
    """A whole sweep.

    Attributes:
        name: its name.
        parts: the comparisons, in order.
        seeds: how many seeds each method gets.
        match: what all methods of a comparison get the same amount of.
        reference: the method that the others are compared with; ``None`` takes a comparison's default.
        max_seeds: how many seeds there may be in the end.
        budget: caps for all cells together.
        folder: where everything goes.
    """

    name: str
    parts: tuple[Part, ...]
    seeds: int
    match: str
    reference: str | None
    max_seeds: int | None
    budget: BudgetConfig
    folder: Path

    def place(self, part: Part) -> Path:
        """Return the folder of a comparison."""
        return self.folder / part.folder

    @property
    def capped(self) -> bool:
        """Whether there is a cap for all cells together."""
        return self.budget != BudgetConfig()


@dataclass
class Problems:
    """Collects problems, so that all of them can be told at once.

    Attributes:
        found: per message, where it was found.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, said: object, where: str = "") -> None:
        """Note a problem.

        Args:
            said: an error, or a sentence.
            where: the data set, or the comparison.
        """
        places = self.found.setdefault(" ".join(str(said).split()), [])
        if where and where not in places:
            places.append(where)

    def lines(self, parts: int = 0) -> list[str]:
        """Return one line per problem.

        Args:
            parts: how many places there are; a problem of all of them names none.
        """
        return [
            said if not places or (parts > 1 and len(places) == parts) else f"{'; '.join(places)}: {said}"
            for said, places in self.found.items()
        ]

    def refuse(self, parts: int = 0) -> None:
        """Raise `SweepProblems` if there are any.

        Args:
            parts: see `lines`.

        Raises:
            SweepProblems: there are.
        """
        if self.found:
            raise SweepProblems(self.lines(parts))


def folder_of(data_set: str, setting: str) -> str:
    """Return the folder of a comparison inside the sweep's."""
    return f"compare-{data_set}-{setting}" if setting else f"compare-{data_set}"


def as_overrides(changes: Mapping[str, Any]) -> list[str]:
    """Return changes by dotted keys as `stepsynth.config.load_config` takes them.

    Raises:
        ConfigError: a value is no plain value.
    """
    try:
        # JSON is YAML, and quotes keep a text that looks like a number a text.
        return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a change is not a plain value: {error}.", hint="Use numbers, texts and lists.") from None


def check_name(name: object, what: str, problems: Problems) -> bool:
    """Note a name that cannot be part of a folder's name; return whether it can."""
    if not isinstance(name, str):
        problems.add(f"the name {name!r} of a {what} is not a text. Put it in quotes.")
        return False
    if not _NAME.fullmatch(name):
        problems.add(f"the name {name!r} of a {what} cannot be part of a folder's name. {_NAME_HINT}")
        return False
    return True


def read_changes(changes: object, where: str, problems: Problems) -> dict[str, Any]:
    """Return changed config keys, and note what is wrong with them.

    Args:
        changes: from the file or the program; ``None`` changes nothing.
        where: the key that they stand under.
        problems: gets what is wrong.
    """
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        problems.add(f"{where} is {changes!r}, not a mapping of config keys. Example: {{student.model: minilm-l6}}")
        return {}
    for key, value in changes.items():
        if not isinstance(key, str) or not key:
            problems.add(f"{where} has the key {key!r}, which is not a text. Example: student.model")
        elif isinstance(value, Mapping) and "." not in key and key not in _WHOLE:
            # It would replace the whole section, with all of its other keys.
            inner = next(iter(value), "key")
            problems.add(f"{where} has a whole section {key!r}. Write the keys that change, with dots: {key}.{inner}")
    return {str(key): value for key, value in changes.items() if key}


def read_settings(settings: object, problems: Problems) -> dict[str, dict[str, Any]]:
    """Return the changes of every setting by name, ``{"": {}}`` if there are none, and note what is wrong with them."""
    if settings is None:
        return {"": {}}
    if not isinstance(settings, Mapping) or not settings:
        problems.add(f"settings is {settings!r}, not a mapping of names. Example: {{small: {{student.model: minilm-l6}}}}")
        return {"": {}}
    return {
        str(name): read_changes(changes, f"settings.{name}", problems)
        for name, changes in settings.items()
        if check_name(name, "setting", problems)
    }


def read_choices(values: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return ``seeds``, ``match``, ``reference`` and ``max_seeds`` as `SweepSpec` has them, and note what is wrong."""
    found: dict[str, Any] = {"seeds": 5, "match": "rows", "reference": None, "max_seeds": None}
    for key, least in (("seeds", True), ("max_seeds", False)):
        value = values.get(key)
        if value is None and not (least and key in values):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SEEDS:
            problems.add(f"{key} is {value!r}. Give a number of seeds, from 1 to {_MOST_SEEDS}.")
        else:
            found[key] = value
    for key in ("match", "reference"):
        value = values.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            problems.add(f"{key} is {value!r}, not a text.")
        else:
            found[key] = value
    return found


def read_budget(budget: object, problems: Problems) -> BudgetConfig:
    """Return the caps for the whole sweep, and note what is wrong with them."""
    if budget is None or isinstance(budget, BudgetConfig):
        return budget or BudgetConfig()
    if not isinstance(budget, Mapping):
        problems.add(f"budget is {budget!r}, not a section of caps. Example: {{usd: 5}}")
        return BudgetConfig()
    try:
        return BudgetConfig.model_validate(budget)
    except ValidationError as error:
        unknown = next((str(e["loc"][0]) for e in error.errors() if e["type"] == "extra_forbidden"), None)
        if unknown is not None:
            problems.add(f"unknown key {unknown!r} in budget. {did_you_mean(unknown, BudgetConfig.model_fields)}")
        else:
            said = first_problem(error)
            problems.add(said if said.startswith(("config", "budget")) else f"budget.{said}")
        return BudgetConfig()


def refuse_clashes(names: Iterable[tuple[str, str]], problems: Problems) -> None:
    """Note comparisons that would have one folder.

    Args:
        names: data set and setting of every comparison.
        problems: gets the clashes.
    """
    seen: dict[str, tuple[str, str]] = {}
    for name in names:
        # Some file systems ignore case.
        other = seen.setdefault(folder_of(*name).casefold(), name)
        if other != name:
            first, second = (" with ".join(filter(None, each)) for each in (other, name))
            problems.add(f"{first!r} and {second!r} would have one folder. Rename one of them.")
