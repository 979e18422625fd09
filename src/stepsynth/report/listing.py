"""The runs below a folder, those of comparisons too: a line each, read from their configs and journals.

    for entry in list_runs(Path("runs")): print(entry["name"], entry["state"])

Nothing is locked, changed or brought up to date. What cannot be read is listed with the reason, as ``broken``.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.config import stored_run
from stepsynth.errors import ConfigError, RunError, UserError, did_you_mean
from stepsynth.journal.looking import Look
from stepsynth.journal.results import best_round, find_choice
from stepsynth.run import JOURNAL, RunDirectory
from stepsynth.run.logs import ENDED_WITH
from stepsynth.training import judged_rounds
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stepsynth.types import Evaluation

__all__ = ["SORT_KEYS", "STATES", "list_runs", "pick_runs"]

STATES = ("finished", "working", "interrupted", "failed", "broken")
SORT_KEYS = ("name", "task", "method", "teacher", "state", "date", "score", "rounds", "rows", "requests", "tokens", "cost")
_LOG_TAIL = 2000
_NOT_RUNS = ("models", "students", "logs", "data")
# Sorted by these, what is largest or newest comes first.
_FALLING = ("date", "score", "rounds", "rows", "requests", "tokens", "cost")


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of every run below a folder, sorted by name.

    Args:
        folder: where to look; a run itself is the only one listed.

    Returns:
        Dicts with ``name`` (path below the folder), ``path``, ``comparison`` (the name of the one that it is a cell of, or
        ``None``), ``state`` (`STATES`), ``problem`` (why it is broken, or ``None``), ``task``, ``method``, ``teacher``,
        ``student``, ``seed``, ``rounds`` (judged), ``rows`` (that the final student learned from), ``score`` (``metric``,
        ``value``, ``ci95``, ``n`` and ``on``: the split), ``requests``, ``tokens`` (``prompt``, ``completion``), ``cost_usd``
        and ``date`` (of the last change, ISO 8601). What is not known is ``None``.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise RunError(f"there are no runs below {str(folder)!r}: {what}.", hint="Give a folder.")
    found = [_entry(run, folder) for run in _each_run(folder)]
    return sorted(found, key=lambda entry: entry["name"])


def pick_runs(
    entries: Sequence[dict[str, Any]], *, sort: str = "name", method: str | None = None, state: str | None = None
) -> list[dict[str, Any]]:
    """Return some of the runs, sorted; unknown values come last.

    Args:
        entries: from `list_runs`.
        sort: one of `SORT_KEYS`; by dates and numbers, the newest or largest first.
        method: only runs of this method.
        state: only runs in this state.

    Raises:
        ConfigError: there is no such key or state.
    """
    if sort not in SORT_KEYS:
        raise ConfigError(f"runs cannot be sorted by {sort!r}.", hint=did_you_mean(sort, SORT_KEYS))
    if state is not None and state not in STATES:
        raise ConfigError(f"there is no state {state!r}.", hint=did_you_mean(state, STATES))
    chosen = [entry for entry in entries if method in (None, entry["method"]) and state in (None, entry["state"])]
    known = [entry for entry in chosen if _key(entry, sort) is not None]
    known.sort(key=lambda entry: _key(entry, sort), reverse=sort in _FALLING)
    return known + [entry for entry in chosen if _key(entry, sort) is None]


def _key(entry: Mapping[str, Any], sort: str) -> Any:
    if sort == "score":
        return entry["score"] and entry["score"]["value"]
    if sort == "tokens":
        return entry["tokens"] and sum(entry["tokens"].values())
    return entry["cost_usd" if sort == "cost" else sort]


def _each_run(folder: Path) -> Iterator[Path]:
    for place, names, files in os.walk(folder):
        path = Path(place)
        if _is_run(path, files):
            names.clear()
            yield path
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _NOT_RUNS)


def _is_run(path: Path, files: Sequence[str]) -> bool:
    """Whether a folder is a run, or what is left of one."""
    if JOURNAL in files or ("config.json" in files and stored_run(path) is not None):
        return True
    # A lock alone, or one beside a config that cannot be read: the run was killed when it began, or was damaged later.
    if "lock" not in files or not set(files) <= {"lock", "config.json", "results.json", "report.html", "dataset.jsonl"}:
        return False
    try:
        return (path / "lock").read_bytes()[:4] == b"pid "
    except OSError:
        return False


def _entry(run: Path, folder: Path) -> dict[str, Any]:
    inside = run.relative_to(folder)
    name = str(inside) if inside.parts else run.resolve().name
    unknown = ("problem", "task", "method", "teacher", "student", "seed", "rounds", "rows", "score")
    entry: dict[str, Any] = {"name": name, "path": str(run), "comparison": _comparison(run, folder), "state": "broken"}
    entry |= dict.fromkeys((*unknown, "requests", "tokens", "cost_usd")) | {"date": _changed(run)}
    try:
        entry |= _of_config(directory := RunDirectory.read(run))
        entry |= _of_journal(directory)
        entry["state"] = _state(directory, entry.pop("finished"))
    except UserError as error:
        entry["problem"] = " ".join(error.message.split())
    # A journal may hold anything once it is damaged, and one such run must not hide the others.
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        entry["problem"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    entry.pop("finished", None)
    return entry


def _comparison(run: Path, folder: Path) -> str | None:
    parent = run.resolve().parent
    if not (parent.name.startswith("compare-") or (parent / "comparison.md").is_file() or (parent / "students").is_dir()):
        return None
    return str(run.parent.relative_to(folder)) if run != folder and run.parent != folder else parent.name


def _changed(run: Path) -> str | None:
    times = []
    for name in (JOURNAL, f"{JOURNAL}-wal", "config.json", "lock"):
        try:
            found = (run / name).stat()
        except OSError:
            continue
        # Looking into a journal makes an empty log beside it.
        if found.st_size or not name.endswith("-wal"):
            times.append(found.st_mtime)
    # The lock says when a run that wrote nothing else began.
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds") if times else None


def _of_config(directory: RunDirectory) -> dict[str, Any]:
    config = directory.config
    found = {"task": config.task.name, "method": config.method.name, "teacher": config.teacher.called}
    return found | {"student": config.student.called, "seed": config.seed}


def _of_journal(directory: RunDirectory) -> dict[str, Any]:
    """Return the counts, sums and scores, without a look at single rows."""
    if said := RunDirectory.left_behind(directory.path):
        raise RunError(f"{JOURNAL} {said}.")
    if not directory.journal_path.is_file() or not directory.journal_path.stat().st_size:
        return {"finished": False}
    with closing(Look(directory.journal_path)) as journal:
        if not journal.select("SELECT 1 FROM sqlite_master WHERE name = 'stages'"):
            return {"finished": False}
        requests, prompt, completion, cost = journal.spent_in_all()
        found = {"requests": requests, "tokens": {"prompt": prompt, "completion": completion}, "cost_usd": cost}
        found |= {"finished": journal.meta("finished") is not None}
        trained = journal.rounds()
        found["rounds"] = len(judged_rounds(journal) or trained)
        if trained:
            best = best_round(journal)
            infos = [info for _, number, kind, info, _ in journal.stages() if kind == StageKind.TRAIN and number == best]
            found |= {"rows": next((info.get("rows") for info in infos), None), "score": _score(journal, best)}
        return found


def _score(journal: Look, best: int) -> dict[str, Any] | None:
    """Return the final student's score: on the sealed test, else on the gold rows that judge it."""
    choice = find_choice(journal)
    places = [("test", best), ("crossfit", choice["judged"].get(choice["chosen"])) if choice else ("select", best)]
    for split, number in places:
        found: Evaluation | None = None if number is None else journal.evaluation(number, split)
        if found is not None:
            return {"metric": found.metric, "value": found.value, "ci95": list(found.ci95), "n": found.n, "on": split}
    return None


def _state(directory: RunDirectory, finished: bool) -> str:
    if directory.holder():
        return "working"
    if finished:
        return "finished"
    logs = sorted((directory.path / "logs").glob("attempt-*.log"), key=lambda log: (len(log.name), log.name))
    last = _last_line(logs[-1]) if logs else ""
    return "failed" if ENDED_WITH in last else "interrupted"


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
