"""`sweep` and `Sweep`: data sets x methods x seeds x settings from Python, and the one table that they give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from stepsynth.api.calls import STOPPING, known_names
from stepsynth.api.comparison import Comparison
from stepsynth.api.config import load_config
from stepsynth.api.files import absolute_path, output_folder
from stepsynth.api.making import make_config
from stepsynth.api.methods import with_methods
from stepsynth.api.nouns import Budget, Task, plain_value
from stepsynth.api.progress import OneOfSeveral, open_progress
from stepsynth.api.waiting import run_apart
from stepsynth.comparison.systems import in_place
from stepsynth.config import MethodConfig, RunConfig, parse_with
from stepsynth.errors import ConfigError, RunError
from stepsynth.execution import execute
from stepsynth.report import render_sweep
from stepsynth.run import folder_name
from stepsynth.runtime.files import write_atomic
from stepsynth.sweeps import (
    Part,
    SweepSpec,
    average_rows,
    check_sweep,
    failures_of,
    plan_sweep,
    read_stored_sweep,
    refuse_together,
    run_sweep,
    state_lines,
    sweep_markdown,
)
from stepsynth.sweeps.spec import (
    Problems,
    as_overrides,
    check_name,
    comparison_title,
    folder_of,
    read_budget,
    read_choices,
    read_settings,
    refuse_clashes,
)
from stepsynth.sweeps.tables import title_of
from stepsynth.tracking import split_tracking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas

    from stepsynth.api.nouns import Method
    from stepsynth.runtime.progress import Progress
    from stepsynth.training import Together

__all__ = ["Sweep", "sweep"]

# Of `Sweep.table`; the first three are its index.
_COLUMNS = (
    "data_set",
    "setting",
    "method",
    "score",
    "ci_low",
    "ci_high",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "rank",
)
# What results of another form raise where they are used.
_UNREADABLE = (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


class Sweep:
    """Comparisons of the same methods on several data sets, with one table over all of them.

    Attributes:
        path: the folder with ``sweep.html``, ``sweep.md``, ``sweep.csv``, ``sweep.json`` and a folder per comparison.
        results: the content of ``sweep.json``, see docs/results_json.md.

    Examples:
        >>> Sweep.load("runs/my-sweep").table()  # doctest: +SKIP
    """

    def __init__(self, path: Path, results: dict[str, Any]) -> None:
        self.path = path
        self.results = results

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sweep:
        """Return the sweep in a folder as far as it has come; also while it runs.

        Args:
            path: the folder.

        Raises:
            RunError: there is none.
        """
        folder = absolute_path(path, "the path of the sweep", "Give the folder of a sweep.", RunError)
        found = cls(folder, read_stored_sweep(folder))
        try:
            # Whatever is missing or of another type in an edited file shows here, not when the sweep is used.
            found._try()
        except _UNREADABLE:
            raise _not_a_sweep(folder) from None
        return found

    def _try(self) -> None:
        """Make everything that is made from the results."""
        places = {(line["data_set"], line["setting"], line["method"]) for line in self._lines()}
        _ = places, str(self), self._repr_html_(), self.warnings, self.finished

    @property
    def finished(self) -> bool:
        """Whether every comparison has ended; if not, the same call or command goes on."""
        return all(entry["state"] == "finished" for entry in self.results["comparisons"])

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """The finished comparisons: by data set, with settings by ``"data set, setting"``."""
        found = [entry for entry in self.results["comparisons"] if entry["state"] == "finished"]
        return {title_of(entry): Comparison.load(self.path / entry["folder"]) for entry in found}

    @property
    def warnings(self) -> list[str]:
        """What to know before believing the averages."""
        return list(self.results["warnings"])

    def table(self) -> pandas.DataFrame:
        """Return a frame with one row per data set, setting and method, and one per setting and method for the average.

        Its index is ``data_set`` (``average`` for the averages), ``setting`` (empty without settings) and ``method``. Its
        columns: ``score`` with ``ci_low`` and ``ci_high``; ``difference`` to the reference with ``difference_low`` and
        ``difference_high``; ``p`` (with Holm's correction within a comparison; missing for averages); ``rank``.
        """
        import pandas

        return pandas.DataFrame(self._lines(), columns=list(_COLUMNS)).set_index(list(_COLUMNS[:3]))

    def cells(self) -> pandas.DataFrame:
        """Return a frame with one row per cell, finished or not: the content of ``sweep.csv``."""
        import pandas

        lines = [
            {"data_set": entry["data_set"], "setting": entry["setting"] or "", **cell}
            for entry in self.results["comparisons"]
            for cell in entry["cells"]
        ]
        return pandas.DataFrame(lines)

    def report(self) -> Path:
        """Return the path of the page, which is written again if it is missing.

        Raises:
            RunError: it cannot be written.
        """
        page = self.path / "sweep.html"
        if page.is_file():
            return page
        try:
            text = render_sweep(self.results)
        # The page shows more than the tables do, and its template has errors of its own.
        except Exception:
            raise _not_a_sweep(self.path) from None
        try:
            write_atomic(page, text)
        except RunError:
            raise
        except OSError as error:
            said = f"{str(page)!r} is missing and cannot be written: {error.strerror}."
            raise RunError(said, hint="Make its folder writable.") from None
        return page

    def _lines(self) -> list[dict[str, Any]]:
        lines = [
            _numbers(entry["data_set"], entry["setting"], system)
            for entry in self.results["comparisons"]
            for system in entry["systems"]
        ]
        averages = [
            _numbers("average", entry["setting"], system) for entry in self.results["averages"] for system in entry["systems"]
        ]
        return [*lines, *averages]

    def __str__(self) -> str:
        """Return the tables in Markdown, with the warnings."""
        return sweep_markdown(self.results)

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from html import escape

        from stepsynth.api.html import table

        parts = []
        for average in self.results["averages"]:
            head, *rows = average_rows(self.results, average)
            title = f"{self.results['sweep']}{', ' + average['setting'] if average['setting'] else ''}"
            parts.append(f"<p><strong>{escape(title)}</strong></p>{table(head, rows)}")
        notes = "".join(f"<p>{escape(line)}</p>" for line in (*state_lines(self.results), *self.warnings))
        return f"<div>{''.join(parts)}{notes}</div>"


@overload
def sweep(
    data_sets: Mapping[str, object],
    methods: Sequence[Method | str],
    *,
    seeds: int = 5,
    settings: Mapping[str, Mapping[str, object] | None] | None = None,
    reference: str | None = None,
    match: str = "rows",
    max_seeds: int | None = None,
    budget: Budget | None = None,
    name: str = "sweep",
    out: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on: str | None = None,
    dry_run: Literal[False] = False,
    progress: bool | Progress | None = None,
) -> Sweep: ...
@overload
def sweep(
    data_sets: Mapping[str, object],
    methods: Sequence[Method | str],
    *,
    seeds: int = 5,
    settings: Mapping[str, Mapping[str, object] | None] | None = None,
    reference: str | None = None,
    match: str = "rows",
    max_seeds: int | None = None,
    budget: Budget | None = None,
    name: str = "sweep",
    out: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on: str | None = None,
    dry_run: Literal[True],
    progress: bool | Progress | None = None,
) -> dict[str, Any]: ...
@known_names
def sweep(
    data_sets: Mapping[str, object],
    methods: Sequence[Method | str],
    *,
    seeds: int = 5,
    settings: Mapping[str, Mapping[str, object] | None] | None = None,
    reference: str | None = None,
    match: str = "rows",
    max_seeds: int | None = None,
    budget: Budget | None = None,
    name: str = "sweep",
    out: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on: str | None = None,
    dry_run: bool = False,
    progress: bool | Progress | None = None,
) -> Sweep | dict[str, Any]:
    """Compare methods on several data sets, with several seeds and settings, and make one table.

    Everything is checked first; all problems are told at once, before anything is spent. Then one comparison after another
    is run, each as by `compare`; one that fails does not stop the others. The same call goes on with what is missing, and
    keeps what is there when data sets, methods or seeds are added.

    Args:
        data_sets: by name: a config file, a `Config`, a config as a YAML file has it (a dict with ``task`` and ``data``), or a
            dict with the arguments of `compare`: ``{"task": Classification(...), "validation": rows, "test": rows}``.
        methods: as for `compare`.
        seeds: how many, counting up from each config's ``seed``.
        settings: by name, changed config keys that apply to every data set: ``{"small": {"student.model": "minilm-l6"}}``.
        reference: the method that the others are compared with; by default ``gold`` if it takes part.
        match: what all methods get the same amount of, see `compare`.
        max_seeds: how many seeds there may be in the end, see `compare`.
        budget: caps for all cells together; those of the configs hold for each of them.
        name: of the sweep.
        out: the folder; by default ``runs/NAME``.
        jobs: how many students to train at once, see `compare`.
        on: where to train them, see `compare`.
        dry_run: check everything, and return what would be run as a dict, see docs/results_json.md.
        progress: see `synthesize`.

    Raises:
        UserError: the input is wrong; raised before anything is spent.
        RunError: comparisons failed; raised after the others, which `Sweep.load` shows.
        Interrupted: it was interrupted; the same call resumes.

    Examples:
        >>> found = sweep({"trec": "trec.yaml", "rt": "rt.yaml"}, ["gold", "s3"], seeds=3)  # doctest: +SKIP
        >>> found.table().loc["average"]  # doctest: +SKIP
    """
    problems = Problems()
    if not isinstance(name, str) or not name.strip():
        problems.add(f"name is {name!r}. Give a short text.")
        name = "sweep"
    folder = output_folder(out if out is not None else Path("runs") / folder_name(name))
    choices = read_choices({"seeds": seeds, "match": match, "reference": reference, "max_seeds": max_seeds}, problems)
    caps = read_budget(budget.values if isinstance(budget, Budget) else budget, problems)
    parts = _parts(data_sets, methods, settings, folder, problems)
    spec = SweepSpec(name=name, parts=tuple(parts), budget=caps, folder=folder, **choices)
    with open_progress(progress) as shown:

        def run_cell(cell: RunConfig, path: Path, title: str, students: Path, together: Together | None = None) -> None:
            shown.note(title)
            own = shown if together is None else OneOfSeveral(shown, title.partition(" (")[0])
            execute(cell, path, progress=own, students=students, together=together)

        def work() -> dict[str, Any]:
            refuse_together(spec, jobs, on)
            checked = check_sweep(spec, shown.note, fetch=not dry_run)
            if dry_run:
                return plan_sweep(spec, checked)
            return run_sweep(spec, run=run_cell, note=shown.note, checked=checked, jobs=jobs, on=on)

        results = run_apart(work, stopping=lambda: shown.note(STOPPING))
    if dry_run:
        return results
    if failed := failures_of(results):
        raise RunError(
            f"{len(failed)} of {len(parts)} comparisons failed: {' | '.join(failed)}",
            hint=f"The others are in Sweep.load({str(folder)!r}); the same call goes on with what is missing.",
        )
    return Sweep(folder, results)


def _parts(data_sets: object, methods: Sequence[Method | str], settings: object, folder: Path, problems: Problems) -> list[Part]:
    """Return the comparisons.

    Raises:
        SweepProblems: all that is wrong.
    """
    if not isinstance(data_sets, Mapping) or not data_sets:
        problems.add(f"data_sets is {data_sets!r}, not a dict of names. Example: {{'trec': 'trec.yaml'}}")
        data_sets = {}
    changes = read_settings(settings, problems)
    named = {key: value for key, value in data_sets.items() if check_name(key, "data set", problems)}
    refuse_clashes([(data_set, setting) for data_set in named for setting in changes], problems)
    parts = []
    for data_set, given in named.items():
        for setting, more in changes.items():
            try:
                config, plain = _config(given, more, folder / folder_of(data_set, setting))
                parts.append(Part(data_set, setting, *with_methods(config, methods, plain)))
            except (ConfigError, RunError) as error:
                problems.add(error, comparison_title(data_set, setting))
    problems.refuse(len(named) * len(changes))
    return parts


def _config(given: object, changes: Mapping[str, Any], folder: Path) -> tuple[RunConfig, MethodConfig | None]:
    """Return the config of a data set with changes, and the defaults for its methods if it is made of nouns."""
    try:
        overrides = as_overrides({key: plain_value(value) for key, value in changes.items()})
    except TypeError as error:
        raise ConfigError(f"a change is not a plain value: {error}.", hint="Use numbers, texts and lists.") from None
    if isinstance(given, RunConfig):
        return _changed(given, overrides), None
    if isinstance(given, str | os.PathLike):
        return load_config(given, overrides), None
    if isinstance(given, Mapping) and isinstance(given.get("task"), Task):
        arguments = {str(key): value for key, value in given.items()}
        known = set(make_config.__annotations__) - {"return", "folder", "method"}
        if unknown := next((key for key in arguments if key not in known), None):
            raise ConfigError(f"a data set has no argument {unknown!r}.", hint=f"Known: {', '.join(sorted(known))}.")
        if split_tracking(arguments.get("tracking"))[1]:
            raise ConfigError(
                "tracking has a tracker of your own, and a sweep takes names only.",
                hint="Make it a plug-in (docs/tracking.md), or call compare(..., tracking=...) for each data set.",
            )
        if "validation" not in arguments:
            raise ConfigError("validation is missing.", hint="Give labelled rows: a path, a DataFrame, a list of dicts.")
        return _changed(make_config(arguments.pop("task"), folder, **arguments), overrides), MethodConfig()
    if isinstance(given, Mapping):
        return parse_with({str(key): value for key, value in given.items()}, overrides, Path.cwd()), None
    raise ConfigError(
        f"a data set is {given!r}, a {type(given).__name__}.", hint="Give a config file, a Config, or a dict with task and rows."
    )


def _changed(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Return a config with changes; a key that was not set counts as not set afterwards, too."""
    if not overrides:
        return config
    values = config.model_dump(mode="json", exclude_unset=True)
    return in_place(parse_with(values, overrides, Path.cwd()), config)


def _not_a_sweep(folder: Path) -> RunError:
    return RunError(
        f"{str(folder / 'sweep.json')!r} is not that of a sweep.",
        hint="The same sweep again writes it anew: nothing is asked for twice.",
    )


def _numbers(data_set: str, setting: str | None, system: Mapping[str, Any]) -> dict[str, Any]:
    score, found = system["score"], system["difference"] or {}
    apart_low, apart_high = found.get("ci95") or (None, None)
    values = (score["value"], *score["ci95"], found.get("value"), apart_low, apart_high, found.get("p_holm"), system["rank"])
    return dict(zip(_COLUMNS, (data_set, setting or "", system["name"], *values), strict=True))
