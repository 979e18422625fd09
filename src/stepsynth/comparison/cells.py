"""Methods x seeds at a matched budget: the same teacher, the same gold rows, one file of answers.

    systems = parse_systems("gold,zerogen,seed-only,s3", config)
    cells = run_cells(config, systems, seeds=3, match="rows", folder=folder, run=run_config)

S3 runs first for every seed; what it used (accepted rows, or the requests, tokens or dollars of its
answers) is the budget of the others. Every cell has its own run directory, so a comparison resumes
like a run. All seeds are tested on the same sealed rows, so every difference is paired; a seed
determines the validation rows and the randomness of teacher and student.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import yaml

from stepsynth.comparison.together import run_together
from stepsynth.config import SEED_END, SOURCES, MatchConfig, RunConfig, parse_config, with_later_keys
from stepsynth.config.reading import read_yaml
from stepsynth.errors import ConfigError, RunError, did_you_mean
from stepsynth.journal import LEARNING, Journal, Spent
from stepsynth.journal.database import refuse_damaged
from stepsynth.journal.queries import count_rows
from stepsynth.journal.results import best_round, find_clusters
from stepsynth.methods import MATCHED_OVERGENERATION, create_method, method_class, trains_on
from stepsynth.registry import METHODS
from stepsynth.run import JOURNAL, RunDirectory
from stepsynth.runtime.shutdown import check_stop
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.journal import Totals

__all__ = [
    "Cell",
    "CellRound",
    "Match",
    "System",
    "cell_folder",
    "check_known",
    "choose_reference",
    "in_place",
    "parse_systems",
    "plan_cells",
    "read_cell",
    "run_cells",
]

Match = Literal["rows", "requests", "tokens", "usd"]
# Keys that must be equal for cells to be comparable, or that name the system.
_FIXED = ("method", "method.name", "method.match", "method.options", "data", "seed")


@dataclass(frozen=True)
class System:
    """One column of a comparison.

    Attributes:
        name: as the user wrote it, for instance ``s3`` or ``s3:method.rationales=0``.
        method: the method's name.
        changes: dotted config key -> value, for ablations.
    """

    name: str
    method: str
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> str:
        """The name in a form that is safe as a folder's name."""
        return re.sub(r"[^\w.+=-]+", "-", self.name).strip("-")[:80]

    @property
    def sets_budget(self) -> bool:
        """Whether it runs first for every seed and sets the budget of the others."""
        return sets_budget(self.name)

    @property
    def takes_budget(self) -> bool:
        """Whether it is given the budget; an ablation of the loop keeps its own rounds and is only measured."""
        method = method_class(self.method)
        return method.takes_budget and not method.sets_budget and method.student == "written"


@dataclass(frozen=True)
class CellRound:
    """A round of one cell.

    Attributes:
        number: the round's number.
        rows: rows that its student learnt from.
        harvest: score per harvest row.
        select: score per select row.
        test: score per test row.
    """

    number: int
    rows: int
    harvest: tuple[float, ...]
    select: tuple[float, ...]
    test: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """The result of one system with one seed.

    Attributes:
        system: the system's name.
        seed: seed of the draw, the teacher and the student.
        folder: its run directory.
        metric: name of the score.
        rows: rows that the tested student learnt from.
        spent_rows: accepted rows in all rounds.
        requests: answers used, bought or already known.
        tokens: prompt and completion tokens of these answers.
        usd: dollars of these answers, ``None`` if unknown.
        seconds: measured seconds of all stages, for ``generating``, ``training`` and ``testing``; cached
            answers and students that another cell trained take almost none.
        best_round: the round chosen by the select half.
        rounds: all rounds.
        latency_s: seconds per 1,000 predictions on this machine, ``None`` if all answers were known.
        answer_usd: dollars per 1,000 predictions; 0 for a student.
        details: further numbers of the test evaluation (F1 and the like).
        clusters: split -> cluster of each row (`stepsynth.evaluation.clusters`), for ``harvest``, ``select`` and ``test``.
        steps: optimiser steps of the tested student; ``None`` if there is no student or an earlier version trained it.
    """

    system: str
    seed: int
    folder: Path
    metric: str
    rows: int
    spent_rows: int
    requests: int
    tokens: int
    usd: float | None
    seconds: dict[str, float]
    best_round: int
    rounds: tuple[CellRound, ...]
    latency_s: float | None = None
    answer_usd: float | None = 0.0
    details: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    clusters: dict[str, Clusters] = field(default_factory=dict)

    @property
    def test(self) -> tuple[float, ...]:
        """Score per test row of the chosen round."""
        return next(entry.test for entry in self.rounds if entry.number == self.best_round)


def sets_budget(name: str) -> bool:
    """Whether a system of this name sets the budget of the others: a budget-setting method without changes."""
    return ":" not in name and method_class(name).sets_budget


def parse_systems(text: str, config: RunConfig) -> list[System]:
    """Read ``s3,zerogen,s3:method.rationales=0:method.rounds=1``.

    Args:
        text: names separated by commas; changes follow a name, each after a colon.
        config: the config to change.

    Raises:
        ConfigError: an unknown method, an invalid change, the same system twice, or no system.
    """
    systems = []
    for part in filter(None, (part.strip() for part in _split(text, ","))):
        name, *changes = _split(part, ":")
        if name not in METHODS:
            raise ConfigError(f"unknown method {name!r} among the methods.", hint=did_you_mean(name, METHODS.names()))
        pairs = []
        for change in changes:
            key, separator, value = change.partition("=")
            if not separator:
                raise ConfigError(f"{change!r} of {part!r} is not of the form key=value.", hint="Example: s3:method.rounds=1")
            if key in _FIXED or key.startswith("data.test"):
                raise ConfigError(
                    f"{key!r} cannot be changed for one method: it must be the same for all.", hint="Example: s3:method.rounds=1"
                )
            try:
                pairs.append((key, read_yaml(value, keys=tuple(key.split(".")))))
            except (yaml.YAMLError, ValueError, RecursionError):
                raise ConfigError(f"{value!r} of {part!r} is not a YAML value.", hint="Example: s3:method.rounds=1") from None
        systems.append(System(part, name, tuple(pairs)))
        create_method(_changed(config, systems[-1]))
    if not systems:
        raise ConfigError("no method is named.", hint="Example: gold,zerogen,seed-only,goldgen,s3")
    for position, system in enumerate(systems):
        if same := next((other for other in systems[:position] if other.folder == system.folder), None):
            twice = f"{system.name!r} is among the methods twice, with the same settings"
            said = twice if same.name == system.name else f"{same.name!r} and {system.name!r} would have one folder"
            raise ConfigError(f"{said}.", hint="Name it once, or say what differs: s3:method.rounds=1, or S3(rounds=1).")
    return systems


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark outside brackets and double quotes: a value may be a list, a mapping or a string."""
    parts, depth, quoted = [""], 0, False
    for sign in text:
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign in "[{") - (sign in "]}")
        if sign == mark and not quoted and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def choose_reference(systems: Sequence[System], wanted: str | None) -> str | None:
    """Return the system that all others are compared with.

    Args:
        systems: from `parse_systems`.
        wanted: the user's choice; ``None`` takes ``gold``, the user's own labels, or ``s3`` if gold is not compared.

    Raises:
        ConfigError: it is not one of the systems.
    """
    names = [system.name for system in systems]
    if wanted is not None and wanted not in names:
        raise ConfigError(f"the reference {wanted!r} is not among the methods.", hint=did_you_mean(wanted, names))
    plain = [(name, method_class(name)) for name in names if ":" not in name]
    ordered = sorted(plain, key=lambda found: not found[1].is_reference)
    return wanted or next((name for name, method in ordered if method.is_reference or method.sets_budget), None)


def _changed(config: RunConfig, system: System) -> RunConfig:
    # Missing keys would be read as defaults.
    values = with_later_keys(config.resolved())
    if system.method != config.method.name:
        values["method"]["options"] = {}
    for dotted, value in (("method.name", system.method), *system.changes):
        *parents, last = dotted.split(".")
        node = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict):
            raise ConfigError(f"unknown key {dotted!r} of a method.", hint="Example: s3:method.rounds=1")
        node[last] = value
    return in_place(parse_config(values), config)


def in_place(changed: RunConfig, config: RunConfig) -> RunConfig:
    """Restore in a config made from plain values what these lack: folders, and a program's rows and filters."""
    sources = {name: getattr(config.data, name) for name in SOURCES}
    kept = {name: source.in_place_of(old) for name, old in sources.items() if old and (source := getattr(changed.data, name))}
    changed = changed.model_copy(update={"data": changed.data.model_copy(update=kept)})
    return changed if config.given_filters is None else changed.with_filters(config.given_filters)


def plan_cells(config: RunConfig, systems: Sequence[System], seeds: int) -> Iterator[tuple[System, RunConfig, int]]:
    """Yield every cell's system, config and seed: seed by seed, the one that sets the budget first.

    These configs have no budgets yet: those follow from that first cell.

    Raises:
        ConfigError: there is no test set to compare on, or the last seed is too large.
    """
    if (last := config.seed + seeds - 1) >= SEED_END:
        raise ConfigError(
            f"seed {config.seed} with {seeds} seeds ends at {last}, but a seed must be less than {SEED_END}.",
            hint="Give a smaller seed, or fewer seeds.",
        )
    if config.data.test is None:
        raise ConfigError(
            "a comparison needs data.test.", hint="Give a labelled test file; it is opened at the end of each cell."
        )
    ordered = sorted(systems, key=lambda system: not system.sets_budget)
    for offset in range(seeds):
        for system in ordered:
            changed = _changed(config, system)
            # All seeds are tested on the same rows.
            seed = config.data.test.seed
            test = config.data.test.model_copy(update={"seed": config.seed if seed is None else seed})
            data = changed.data.model_copy(update={"test": test})
            yield system, changed.model_copy(update={"seed": config.seed + offset, "data": data}), config.seed + offset


def run_cells(
    config: RunConfig,
    systems: Sequence[System],
    *,
    seeds: int,
    match: Match,
    folder: Path,
    run: Callable[[RunConfig, Path, str, int], object],
    at_once: Callable[[], int] | None = None,
) -> list[Cell]:
    """Run or resume every cell.

    Args:
        config: the task and the settings of S3.
        systems: from `parse_systems`.
        seeds: how many, starting at ``config.seed``.
        match: the unit of the common budget.
        folder: gets one run directory per cell.
        run: runs one cell: its config, its run directory, its title, its number, from 1.
        at_once: how many cells may run at once, each in its own thread; ``None`` runs one after the other in this one.

    Raises:
        StepsynthError: the reason a cell stopped; the same command resumes.
    """
    check_known(config, systems, seeds, match, folder)
    planned = list(plan_cells(config, systems, seeds))
    cells: dict[int, Cell] = {}

    def needs(place: int) -> int | None:
        """Return the place of the cell that sets this one's budget."""
        same = (other for other, (system, _, seed) in enumerate(planned) if system.sets_budget and seed == planned[place][2])
        return next(same, None) if planned[place][0].takes_budget else None

    def run_cell(place: int) -> Cell:
        # A stop may have come while the cell before was completed.
        check_stop()
        system, changed, seed = planned[place]
        need = needs(place)
        cell_config = _budgeted(changed, system, None if need is None else cells[need], match)
        where = cell_folder(folder, system, seed)
        run(cell_config, where, f"{system.name}, seed {seed} ({place + 1} of {len(planned)})", place + 1)
        cells[place] = read_cell(where, system.name)
        return cells[place]

    if at_once is None:
        return [run_cell(place) for place in range(len(planned))]
    return run_together(len(planned), run_cell, needs=needs, at_once=at_once)


def cell_folder(folder: Path, system: System, seed: int) -> Path:
    """Return the run directory of a cell in a comparison's folder."""
    return folder / f"{system.folder}-{seed}"


def check_known(config: RunConfig, systems: Sequence[System], seeds: int, match: Match, folder: Path) -> None:
    """Refuse cells of another config, or that cannot be read, before a new one is paid for; their budgets are not checked here.

    Raises:
        RunError: there is such a cell.
    """
    budgeted = any(system.sets_budget for system in systems)
    for system, changed, seed in plan_cells(config, systems, seeds):
        place = cell_folder(folder, system, seed)
        RunDirectory.refuse_others(place)
        if not (place / "config.json").exists():
            continue
        refuse_damaged(place / JOURNAL)
        expected, stored = changed, RunDirectory.read(place).config.method
        if budgeted and system.takes_budget:
            update: dict[str, Any] = {"max_overgeneration": max(MATCHED_OVERGENERATION, changed.method.max_overgeneration)}
            if match != "rows":
                known = stored.match is not None and stored.match.unit == match
                update["match"] = stored.match if known else MatchConfig(unit=match, amount=1)
            elif stored.match is None:
                update["seed_rows"] = stored.seed_rows
            expected = changed.model_copy(update={"method": changed.method.model_copy(update=update)})
        RunDirectory.check(place, expected)


def _budgeted(config: RunConfig, system: System, budget: Cell | None, match: Match) -> RunConfig:
    """Give a cell the loop's budget; an ablation of the loop keeps its own rounds and is only measured."""
    if budget is None or not system.takes_budget:
        return config
    update: dict[str, Any] = {"max_overgeneration": max(MATCHED_OVERGENERATION, config.method.max_overgeneration)}
    if match == "rows":
        update["seed_rows"] = budget.spent_rows
    else:
        amount = {"requests": budget.requests, "tokens": budget.tokens, "usd": budget.usd}[match]
        if not amount:
            raise RunError(
                f"{match} cannot be matched: S3's answers cost {'an unknown amount' if amount is None else 'nothing'}.",
                hint="Match rows, requests or tokens instead.",
            )
        update["match"] = MatchConfig(unit=match, amount=amount)
    return config.model_copy(update={"method": config.method.model_copy(update=update)})


def read_cell(folder: Path, system: str) -> Cell:
    """Read the result of a finished run.

    Raises:
        RunError: it is not finished, or has no test scores.
    """
    directory = RunDirectory.read(folder)
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        best = best_round(journal) if rounds else 0
        evaluation = journal.evaluation(best, "test")
        if evaluation is None:
            raise RunError(f"the run at {str(folder)!r} is not finished.", hint="Run it again.")
        stages = journal.stages()
        trained = {number: int(info["rows"]) for _, number, kind, info, _ in stages if kind == StageKind.TRAIN}
        steps = {number: info.get("steps") for _, number, kind, info, _ in stages if kind == StageKind.TRAIN}
        totals = journal.totals()
        test_info = next(info for _, _, kind, info, _ in stages if kind == StageKind.TEST)
        predicted = float(test_info["seconds"].get(str(best), 0.0))
        asks = trains_on(directory.config, journal) == "none"
        known = totals.from_cache > 0 if asks else False
        spent = _spent(journal, totals, [name for name, _, kind, *_ in stages if kind not in LEARNING])
        return Cell(
            system=system,
            seed=directory.config.seed,
            folder=folder,
            metric=evaluation.metric,
            rows=trained[best],
            spent_rows=sum(count.rows for count in count_rows(journal) if count.in_dataset),
            requests=spent.requests,
            tokens=spent.tokens,
            usd=spent.usd,
            seconds=_seconds(stages),
            best_round=best,
            rounds=tuple(
                CellRound(n, trained[n], *(_scores(journal, n, s) for s in ("harvest", "select", "test"))) for n in rounds
            ),
            latency_s=None if known else 1000 * predicted / evaluation.n,
            answer_usd=_per_thousand(totals.cost_usd, totals.requests) if asks else 0.0,
            details={key: value for key, value in evaluation.details.items() if isinstance(value, float)},
            steps=steps[best],
            clusters={split: find_clusters(journal, split) for split in ("harvest", "select", "test")},
        )


def _seconds(stages: Sequence[tuple[str, int, str, dict[str, Any], float]]) -> dict[str, float]:
    found = {"generating": 0.0, "training": 0.0, "testing": 0.0}
    for _, _, kind, _, seconds in stages:
        found["testing" if kind == StageKind.TEST else "training" if kind in LEARNING else "generating"] += seconds
    return found


def _spent(journal: Journal, totals: Totals, stages: Sequence[str]) -> Spent:
    """Return the cost of the answers in a run's plan, without those of a matched run's last wave that gave no rows."""
    if not stages:
        return Spent(totals.requests, totals.prompt_tokens + totals.completion_tokens, totals.cost_usd)
    parts = [journal.spent(stage) for stage in stages]
    known = [part.usd for part in parts if part.usd is not None]
    usd = sum(known) if len(known) == len(parts) else None
    return Spent(sum(part.requests for part in parts), sum(part.tokens for part in parts), usd)


def _scores(journal: Journal, number: int, split: str) -> tuple[float, ...]:
    return tuple(graded.score for graded in journal.graded(number, split))


def _per_thousand(usd: float | None, answers: int) -> float | None:
    return None if usd is None or not answers else 1000 * usd / answers
