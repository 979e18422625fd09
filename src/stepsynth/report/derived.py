"""Files derived from the journal: the data set and the results. Deleting them loses nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.journal.queries import count_rows, each_training_row
from stepsynth.journal.results import best_round
from stepsynth.methods import trains_on
from stepsynth.report.abstaining import find_coverage
from stepsynth.runtime.files import write_atomic
from stepsynth.tasks import knows_family, stored_family
from stepsynth.training import find_worth, judged_rounds
from stepsynth.training.gap import stored_gap
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.journal.queries import RowCount
    from stepsynth.run import RunDirectory
    from stepsynth.types import Evaluation

__all__ = ["build_results", "dataset_lines", "results_text", "without_class", "write_exports"]


def build_results(journal: Journal, directory: RunDirectory) -> dict[str, Any]:
    """Return ``results.json`` as a value; without times, so that equal runs give equal bytes.

    ``methods.<name>`` holds ``rounds`` (rows and scores), ``best_round`` (chosen by the select
    half), ``test`` (that round on the sealed test set, or ``None``), ``rows`` (in the best
    round's training set), ``requests``, ``tokens``, ``cost_usd`` (``None``: unknown price),
    ``dropped`` (reason -> count), ``missing`` (stage -> label -> rows short of the target),
    ``undecided`` (if the teacher answers itself: answers that count as guesses, unless 0),
    ``stages`` (the outcome of every requested row) and ``label_check`` (whether it was
    used, and how many harvest rows its probe got right). ``second_reading`` says what came of rows that were read
    again. Cross-fitting adds ``worth``, see `stepsynth.training.worth.find_worth`, and ``crossfit`` in the rounds that
    it judged. ``coverage`` says what abstaining would bring, see `stepsynth.report.abstaining.find_coverage`.
    ``gap`` says how far the written rows of each round are from the gold rows, see `stepsynth.training.gap.find_gap`.
    """
    config = directory.config
    totals = journal.totals()
    counts = count_rows(journal)
    trained = journal.rounds()
    rounds = [_round(journal, number, counts) for number in sorted({*judged_rounds(journal), *trained})]
    best = best_round(journal) if trained else None
    test = journal.evaluation(best, "test") if best is not None else None
    dropped: Counter[str] = Counter()
    for count in counts:
        if count.reason and count.kind != StageKind.RATIONALES:
            dropped[count.reason] += count.rows
    method: dict[str, Any] = {
        "rounds": rounds,
        "best_round": best,
        "test": _score(test),
        "rows": _training_rows(journal, best),
        "requests": totals.requests,
        "tokens": {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens},
        "cost_usd": totals.cost_usd,
        "dropped": dict(sorted(dropped.items())),
        "missing": {name: info["missing"] for name, _, _, info, _ in journal.stages() if info.get("missing")},
        "stages": _stages(counts),
        "label_check": next((info["label_check"] for *_, info, _ in journal.stages() if "label_check" in info), None),
    }
    method.update(_where_it_applies(journal, config, best))
    _name_students(rounds, method.get("worth"))
    if thought := sum(int(info.get("thought_tokens") or 0) for *_, info, _ in journal.stages()):
        method["tokens"]["thoughts"] = thought
    return {
        # Not the folder's name: a run may be moved, linked or renamed and stays the same run.
        "run": config.task.name,
        "task": config.task.name,
        "family": config.task.family,
        "labels": list(config.task.labels),
        "teacher": config.teacher.identity(),
        "student": {"model": config.student.called},
        "seed": config.seed,
        "methods": {config.method.name: method},
    }


def _where_it_applies(journal: Journal, config: RunConfig, best: int | None) -> dict[str, Any]:
    """Return the parts of a method's results that only some runs have."""
    found: dict[str, Any] = {}
    scored, alone = (StageKind.TRAIN, StageKind.TEST), trains_on(config, journal) == "none"
    infos = [info for _, _, kind, info, _ in journal.stages() if alone and kind in scored]
    # Both stages count the same model's guesses; the later count includes the earlier one.
    if guessed := max((int(info.get("undecided") or 0) for info in infos), default=0):
        found["undecided"] = guessed
    if worth := find_worth(journal, config):
        found["worth"] = worth
    if coverage := find_coverage(journal, config, best):
        found["coverage"] = coverage
    if pool := journal.meta("pool"):
        found["pool"] = json.loads(pool)
    if (gap := stored_gap(journal)) is not None:
        found["gap"] = gap
    if reading := _second_reading(journal):
        found["second_reading"] = reading
    return found


def _name_students(rounds: Sequence[dict[str, Any]], worth: dict[str, Any] | None) -> None:
    """Add to each round which of the compared students it trained, and the score by cross-fitting."""
    students = {entry["round"]: entry for entry in worth["students"]} if worth else {}
    for entry in rounds:
        if student := students.get(entry["round"]):
            entry.update(student=student["student"], crossfit=student["crossfit"])


def _second_reading(journal: Journal) -> dict[str, Any] | None:
    """Return what second readings came to; ``None`` if there were none.

    ``read``, ``agreed``, ``relabelled`` and ``unread`` count written rows, ``gold`` has ``right`` and ``of``; ``requests``,
    ``tokens`` and ``usd`` (``None``: unknown price) are what all readings cost.
    """
    found = [(kind, info["second_reading"]) for _, _, kind, info, _ in journal.stages() if "second_reading" in info]
    if not found:
        return None
    rows = [info for kind, info in found if kind != StageKind.READING]
    gold = next((info for kind, info in found if kind == StageKind.READING), None)
    dollars = [info["usd"] for _, info in found]
    return {
        **{name: sum(info.get(name, 0) for info in rows) for name in ("read", "agreed", "relabelled", "unread")},
        "gold": {"right": gold["right"], "of": gold["of"]} if gold else None,
        **{name: sum(info[name] for _, info in found) for name in ("requests", "tokens")},
        "usd": None if None in dollars else sum(dollars),
    }


def dataset_lines(journal: Journal, config: RunConfig, upto_round: int | None = None) -> Iterator[str]:
    """Yield the accepted rows as JSON lines, in plan order, each with its origin.

    A row has the columns that its family reads, so the file can be a config's ``data.seed``.
    Only a few rows are in memory at a time.
    """
    family = stored_family(config.task)
    for row in each_training_row(journal, upto_round):
        yield json.dumps(
            {
                **family.record(row.example),
                "round": row.round,
                "kind": row.kind,
                "source": row.source,
                "id": f"{row.stage}/{row.position}",
                "request": row.key,
            },
            ensure_ascii=not _encodable(row.text + row.context),
        )


def results_text(results: dict[str, Any]) -> str:
    """Return the content of ``results.json``."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"


def write_exports(journal: Journal, directory: RunDirectory) -> dict[str, Any]:
    """Write ``dataset.jsonl``, ``results.json`` and ``report.html``; of a finished run, name its final student.

    Without the class of the task's family, ``dataset.jsonl`` is left unchanged: only that class knows its columns.
    """
    from stepsynth.report import render_report

    results = build_results(journal, directory)
    if knows_family(directory.config.task):
        write_atomic(directory.path / "dataset.jsonl", (f"{line}\n" for line in dataset_lines(journal, directory.config)))
    write_atomic(directory.path / "results.json", results_text(results))
    write_atomic(directory.path / "report.html", render_report(journal, results, directory.config))
    best = results["methods"][directory.config.method.name]["best_round"]
    if best is not None and journal.meta("finished") is not None:
        directory.name_final(best)
    return results


def without_class(config: RunConfig, done: str) -> str:
    """Return a message that ``dataset.jsonl`` cannot be ``done`` here; empty if its family's class is available."""
    if knows_family(config.task):
        return ""
    return (
        f"dataset.jsonl cannot be {done} without the class of the task family {config.task.family!r}, which knows its columns: "
        "import the class, or install its package, and try again. The file was left unchanged."
    )


def _stages(counts: Sequence[RowCount]) -> list[dict[str, Any]]:
    """Account for every row: ``requested`` is ``accepted`` plus the sum of ``dropped``."""
    stages: dict[str, dict[str, Any]] = {}
    for count in counts:
        new = {"stage": count.stage, "round": count.round, "kind": count.kind, "requested": 0, "accepted": 0, "dropped": {}}
        stage = stages.setdefault(count.stage, new)
        stage["requested"] += count.rows
        if count.reason:
            stage["dropped"][count.reason] = stage["dropped"].get(count.reason, 0) + count.rows
        else:
            stage["accepted"] += count.rows
    return [{**stage, "dropped": dict(sorted(stage["dropped"].items()))} for stage in stages.values()]


def _training_rows(journal: Journal, number: int | None) -> int:
    """Return the number of rows a round's student learned from, gold rows included if the method uses them."""
    told = {r: info["rows"] for _, r, kind, info, _ in journal.stages() if kind in (StageKind.CROSSFIT, StageKind.TRAIN)}
    return int(told.get(number, 0)) if number is not None else 0


def _round(journal: Journal, number: int, counts: Sequence[RowCount]) -> dict[str, Any]:
    new = [count for count in counts if count.round == number and count.in_dataset]
    return {
        "round": number,
        "rows": _training_rows(journal, number),
        "new_rows": sum(count.rows for count in new),
        **{split: _score(journal.evaluation(number, split)) for split in ("harvest", "select", "test")},
        **({"crossfit": _score(judged)} if (judged := journal.evaluation(number, "crossfit")) else {}),
    }


def _score(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    score = {"metric": evaluation.metric, "value": evaluation.value, "ci95": list(evaluation.ci95), "n": evaluation.n}
    return {**score, **{k: v for k, v in evaluation.details.items() if isinstance(v, float) or k == "clusters"}}


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
