"""Checks that a run is whole by comparing its files with each other; nothing is repaired and nothing is sent.

    for finding in verify_run(Path("runs/shop")):
        print(finding)

The checks, in order:

* ``config``: it can be read and matches the digest stored with it;
* ``journal``: SQLite's own check passes; every stage has all its rows and the answers they were parsed
  from; every answer is stored under its own request's key; accepted and missing rows add up to the
  targets; every trained student has its scores;
* ``gold``: the harvest and select rows have the digest that the run began with; the rows that a Python
  program gave, in ``data``, have the digest in their file's name, and no file of the config is missing;
* ``model``: every file of every student has the sha256 in its ``done.json``;
* ``derived``: ``dataset.jsonl``, ``results.json`` and ``report.html`` match the journal.

What is not damage is a note (`check_run`). A page that another version rendered is not compared, unless it was changed
afterwards, and ``results.json`` may have the journal's numbers in the words of another version. Only the class of the
task's family knows the columns of ``dataset.jsonl``: without it, only the origins of its rows are compared, and the page is not.

A damaged part cannot vouch for the rest: an unreadable config or a journal that SQLite calls damaged
ends the check, and derived files are compared only with a journal that has no findings.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from stepsynth import __version__
from stepsynth.config import SOURCES, was_edited
from stepsynth.config.stored import at_its_place
from stepsynth.data.keeping import is_kept_name, kept_file_fault
from stepsynth.errors import RunError
from stepsynth.journal import Journal
from stepsynth.journal.answers import kept_request
from stepsynth.journal.database import decoded, reading_uri
from stepsynth.methods import trains_on
from stepsynth.report.derived import build_results, dataset_lines, results_text, without_class
from stepsynth.run import RunDirectory, no_run
from stepsynth.run.data import rows_digest
from stepsynth.runtime.files import path_problem
from stepsynth.tasks import knows_family
from stepsynth.types import DropReason, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Check", "Finding", "check_run", "verify_run"]

Kind = Literal["config", "journal", "gold", "model", "derived"]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a run.

    Attributes:
        kind: ``config``, ``journal``, ``gold``, ``model`` or ``derived``.
        where: the stage, or the file or folder relative to the run.
        what: what is wrong with it.
        hint: what fixes it.
    """

    kind: Kind
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """One line."""
        return f"{self.where} {self.what}. {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking a run.

    Attributes:
        findings: the problems; none if the run is intact.
        notes: a line for each thing that is not damage but could not be compared.
    """

    findings: list[Finding]
    notes: list[str]


_AGAIN = "Resume the run to retrain it from the journal's rows."
_REPORT = "`stepsynth report RUN` rewrites it."
_DATA = "Remove what is left of it and give the same rows from Python again to rewrite it."
_BACKUP = "Restore journal.db from a backup, or start a new run; answers.db still has the answers you paid for."


def verify_run(folder: Path) -> list[Finding]:
    """Return the faults of a run, finished or not; an empty list if it is whole.

    Args:
        folder: the run directory; it is not changed.

    Raises:
        RunError: there is no run here, or a process is writing to it.
    """
    return check_run(folder).findings


def check_run(folder: Path) -> Check:
    """Return what is wrong with a run, and what could not be compared; see `verify_run`."""
    notes: list[str] = []
    return Check(_findings(folder, notes), notes)


def _findings(folder: Path, notes: list[str]) -> list[Finding]:
    if path_problem(folder) or (not (folder / "config.json").is_file() and not (folder / "journal.db").is_file()):
        raise no_run(folder)
    try:
        directory = RunDirectory.read(folder)
    except RunError as error:
        return [Finding("config", "config.json", error.message.partition("' ")[2].rstrip("."), error.hint)]
    if said := without_class(directory.config, "compared"):
        notes.append(said)
    if holder := directory.holder():
        raise RunError(f"{str(folder)!r} is in use by {holder}.", hint="Wait until it has ended, then verify again.")
    findings = [*_config(directory), *_given(directory)]
    if said := RunDirectory.left_behind(folder):
        return [*findings, Finding("journal", "journal.db", said, _BACKUP)]
    if not directory.journal_path.is_file():
        return [*findings, Finding("journal", "journal.db", "is missing", "Resume the run: it had not begun to write.")]
    broken = _integrity(directory.journal_path)
    if broken:
        return findings + broken
    with closing(Journal(directory.journal_path)) as journal:
        findings += _stages(directory.journal_path, journal)
        findings += _gold(journal)
        findings += _models(directory, journal)
        if not any(finding.kind in ("journal", "gold") for finding in findings):
            findings += _derived(directory, journal, notes)
    return findings


def _config(directory: RunDirectory) -> list[Finding]:
    document = json.loads((directory.path / "config.json").read_text(encoding="utf-8"))
    document["config"] = at_its_place(document["config"], directory.path)
    if was_edited(document, directory.config.resolved(), directory.config.result_digest()):
        return [Finding("config", "config.json", "was edited: it does not match its digest", "Undo the change.")]
    return []


def _given(directory: RunDirectory) -> list[Finding]:
    """Check the rows that a program gave; a comparison keeps them in a folder next to its runs."""
    data = directory.config.data
    named = {source.path.name for name in SOURCES if (source := getattr(data, name)) and source.path and _is_own(source.path)}
    folder = directory.path / "data"
    if not folder.is_dir() and (beside := directory.path.resolve().parent / "data").is_dir():
        folder = beside
    there = {path.name for path in folder.glob("*.jsonl")} if folder == directory.path / "data" else set()
    return [
        Finding("gold", f"data/{name}", fault, _DATA)
        for name in sorted(named | there)
        if (fault := kept_file_fault(folder / name))
    ]


def _is_own(path: Path) -> bool:
    """Whether a path is a run's copy of a program's rows, wherever the run was at the time."""
    return path.parent.name == "data" and is_kept_name(path.name)


# the journal ---------------------------------------------------------------------------


def _integrity(path: Path) -> list[Finding]:
    """Run SQLite's own check, read-only."""
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            said = [" ".join(line.split()) for (line,) in connection.execute(f"PRAGMA integrity_check({_SHOWN})")]
    except sqlite3.Error as error:
        said = [str(error)]
    return [] if said == ["ok"] else [Finding("journal", "journal.db", f"is damaged: {'; '.join(said)}", _BACKUP)]


def _stages(path: Path, journal: Journal) -> list[Finding]:
    with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
        stages = {name: (number, kind, info) for name, number, kind, info, _ in journal.stages()}
        found = [*_rows(connection, stages), *_keys(connection)]
        for name, (number, kind, info) in stages.items():
            if kind in (StageKind.TRAIN, StageKind.CROSSFIT):
                found += _training(connection, journal, name, number, info)
    return [Finding("journal", where, what, _BACKUP) for where, what in found]


def _rows(connection: sqlite3.Connection, stages: dict[str, tuple[int, str, dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    counts = dict.fromkeys(stages, 0)
    accepted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for stage, label, reason, count in connection.execute(
        "SELECT stage, label, reason, COUNT(*) FROM rows GROUP BY stage, label, reason"
    ):
        counts[stage] = counts.get(stage, 0) + count
        if not reason:
            accepted[stage][label] += count
    for stage, first, last in connection.execute("SELECT stage, MIN(position), MAX(position) FROM rows GROUP BY stage"):
        if stage not in stages:
            yield stage, f"has {counts[stage]:,} rows, but never ended"
        elif first != 0 or last + 1 != counts[stage]:
            yield stage, f"planned {last + 1:,} rows, but only {counts[stage]:,} are there"
    for stage, (_, _, info) in stages.items():
        targets = info.get("targets", {})
        for label, missing in info.get("missing", {}).items():
            if accepted[stage][label] + missing != targets.get(label):
                have = f"{accepted[stage][label]:,} accepted and {missing:,} missing"
                yield stage, f"wanted {targets.get(label)} rows of {label!r}, but accounts for {have}"
    # A request has no answer if all its attempts failed; given rows were never requested.
    orphans = connection.execute(
        "SELECT r.stage, COUNT(*) FROM rows r JOIN stages s ON s.name = r.stage WHERE r.reason != ? AND s.kind != ?"
        " AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.key = r.key) GROUP BY r.stage",
        (DropReason.FAILED, StageKind.IMPORT),
    )
    for stage, count in orphans:
        yield stage, f"has {count:,} rows whose answers are missing"


def _keys(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Check that every answer has its own request's key; with another key it would answer the wrong request."""
    wrong = 0
    for key, request, teacher in connection.execute("SELECT key, request, teacher FROM answers"):
        try:
            own = kept_request(decoded(request)).key(json.loads(teacher))
        except (ValueError, KeyError, TypeError):
            own = ""
        wrong += own != key
    if wrong:
        yield "answers", f"{wrong:,} of them are stored under another request's key"


def _training(
    connection: sqlite3.Connection, journal: Journal, name: str, number: int, info: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    splits = [split for (split,) in connection.execute("SELECT split FROM evaluations WHERE round = ?", (number,))]
    # The student kept after cross-fitting is judged only on the sealed test set.
    if info.get("rows") and not splits and "student" not in info and not _learned_from_gold(journal, number, info):
        yield name, "has no scores"
    for split in splits:
        evaluation = journal.evaluation(number, split)
        ((predicted,),) = connection.execute("SELECT COUNT(*) FROM predictions WHERE round = ? AND split = ?", (number, split))
        if evaluation is not None and predicted != evaluation.n:
            yield name, f"was scored on {evaluation.n:,} rows of {split}, but {predicted:,} are there"


def _learned_from_gold(journal: Journal, number: int, info: dict[str, Any]) -> bool:
    """Whether a student learned from the halves and so cannot be judged on them."""
    gold = len(journal.gold("harvest")) + len(journal.gold("select"))
    return int(info["rows"]) == len(journal.dataset(number)) + gold


def _gold(journal: Journal) -> list[Finding]:
    began = journal.meta("validation_sha256")
    if began is None or began == rows_digest((*journal.gold("harvest"), *journal.gold("select"))):
        return []
    return [Finding("gold", "journal.db", "has other validation rows than the run began with", _BACKUP)]


# models and derived files --------------------------------------------------------------


def _models(directory: RunDirectory, journal: Journal) -> list[Finding]:
    if trains_on(directory.config, journal) == "none":
        return []
    return [
        Finding("model", f"models/round-{number}", fault, _AGAIN)
        for number in journal.rounds()
        for fault in directory.model_faults(number)
    ]


def _derived(directory: RunDirectory, journal: Journal, notes: list[str]) -> list[Finding]:
    """Compare the derived files with what would be written now; an unfinished run need not have them."""
    finished = journal.meta("finished") is not None
    present = [name for name in ("dataset.jsonl", "results.json", "report.html") if (directory.path / name).exists()]
    findings = []
    if finished:
        for name in sorted({"dataset.jsonl", "results.json", "report.html"} - set(present)):
            findings.append(Finding("derived", name, "is missing", _REPORT))
    if not finished or not present:
        return findings
    results = build_results(journal, directory)
    for name in present:
        if not knows_family(directory.config.task) and name != "results.json":
            same = name == "report.html" or _same_origins(directory, journal)
        elif name == "dataset.jsonl":
            same = _same_lines(directory.path / name, (f"{line}\n" for line in dataset_lines(journal, directory.config)))
        else:
            runs = [{**results, "run": run} for run in _run_names(directory, results)]
            same = any(_as_derived(directory, journal, named, name) for named in runs)
            if not same and (note := _of_another_version(directory, journal, runs, name)):
                notes.append(f"{note} {_REPORT}")
                continue
        if not same:
            findings.append(Finding("derived", name, "does not match the journal", _REPORT))
    return findings


def _of_another_version(directory: RunDirectory, journal: Journal, runs: list[dict[str, Any]], name: str) -> str:
    """Explain a difference that another version or library made; empty if the file is damaged.

    Args:
        directory: the run's directory.
        journal: its journal.
        runs: the results, under each name that the run may have.
        name: the file.
    """
    try:
        text = (directory.path / name).read_text(encoding="utf-8")
        if name == "results.json":
            facts = _facts(stored := json.loads(text))
            same = any(facts == _facts(_without_later_keys(results, stored)) for results in runs)
            return f"{name} has the journal's numbers in the words of another version." if same else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    from stepsynth.report import render_report, state_of, without_figures

    state = state_of(text)
    if state.intact is False or not state.version:
        return ""
    if state.version != __version__:
        return f"{name} was rendered by stepsynth {state.version}, and this is {__version__}: it is not compared."
    if state.intact is None:
        return f"{name} was rendered by an earlier build of stepsynth {state.version}: it is not compared."
    have = without_figures(text)
    if any(have == without_figures(render_report(journal, results, directory.config)) for results in runs):
        return f"the figures of {name} were drawn by another release of matplotlib; all else is what the journal gives."
    return ""


def _facts(results: dict[str, Any]) -> dict[str, Any]:
    """Return results without the sentences that explain them."""
    facts: dict[str, Any] = json.loads(json.dumps(results))
    for method in facts["methods"].values():
        if worth := method.get("worth"):
            del worth["words"]
            worth.pop("made", None)
            for entry in worth["students"]:
                del entry["called"]
    return facts


def _without_later_keys(results: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return results without the keys that a stored file of an earlier version cannot have."""
    methods = {
        name: {key: value for key, value in method.items() if key != "coverage" or key in stored["methods"][name]}
        for name, method in results["methods"].items()
    }
    return {**results, "methods": methods}


_ORIGIN = ("round", "kind", "source", "id", "request")


def _same_origins(directory: RunDirectory, journal: Journal) -> bool:
    """Whether the data set's rows have the journal's origins, whatever their columns."""
    with (directory.path / "dataset.jsonl").open(encoding="utf-8") as file:
        lines = zip_longest(file, dataset_lines(journal, directory.config))
        try:
            return all(have and due and _origin(have) == _origin(due) for have, due in lines)
        except (ValueError, KeyError, TypeError):
            return False


def _origin(line: str) -> list[object]:
    row = json.loads(line)
    return [row[key] for key in _ORIGIN]


def _as_derived(directory: RunDirectory, journal: Journal, results: dict[str, Any], name: str) -> bool:
    from stepsynth.report import render_report

    if name == "results.json":
        return _same_lines(directory.path / name, iter(results_text(results).splitlines(keepends=True)))
    return (directory.path / name).read_bytes() == render_report(journal, results, directory.config).encode("utf-8")


def _run_names(directory: RunDirectory, results: dict[str, Any]) -> list[str]:
    """Return the run names that ``results.json`` may have: older versions wrote the folder's name."""
    try:
        stored = json.loads((directory.path / "results.json").read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        stored = None
    names = [results["run"], stored, directory.path.resolve().name]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _same_lines(path: Path, lines: Iterator[str]) -> bool:
    with path.open("rb") as file:
        return all(have is not None and due is not None and have == due.encode("utf-8") for have, due in zip_longest(file, lines))
