"""``run`` and ``status``."""

from __future__ import annotations

import logging
import shlex
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import clock_time, open_panel
from stepsynth.cli.screens import plain_text, print_table
from stepsynth.cli.signals import handle_signals
from stepsynth.cli.worth import print_worth
from stepsynth.execution import execute
from stepsynth.filters.layout import cut_note, left_out_note
from stepsynth.journal.queries import count_rows, endings
from stepsynth.methods import method_class
from stepsynth.registry import METHODS
from stepsynth.report.derived import build_results
from stepsynth.run import RunDirectory
from stepsynth.run.doing import read_doing
from stepsynth.run.existing import open_journal
from stepsynth.run.logs import attempt_log
from stepsynth.run.pausing import read_pause
from stepsynth.run.stage_titles import all_titles, stage_title
from stepsynth.runtime.counting import counted
from stepsynth.types import DropReason, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from stepsynth.config import RunConfig

__all__ = ["print_results", "print_status", "read_status", "run_config", "short_line", "warn_of_nothing"]

_MOST_LABELS = 5


def run_config(config: RunConfig, folder: Path, *, quiet: bool = False, students: Path | None = None) -> dict[str, Any]:
    """Run or resume with a progress panel; signals ask for a clean stop. See `stepsynth.execution.execute`.

    Args:
        config: the checked config.
        folder: the run directory.
        quiet: draw nothing.
        students: a folder of trained students that several runs share.

    Returns:
        The content of ``results.json``.
    """
    with handle_signals(), open_panel(quiet=quiet) as progress:
        return execute(config, folder, progress=progress, students=students, log=_whole_log)


@contextmanager
def _whole_log(folder: Path) -> Iterator[None]:
    """Send the warnings of all libraries to ``logs/attempt-n.log`` instead of the panel."""
    with attempt_log(folder) as handler:
        root = logging.getLogger()
        before = root.handlers[:]
        root.handlers[:] = [handler]
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.handlers[:] = before


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Print the table of rounds (with cross-fitting, of students) and the paths of the outputs."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    (method,) = results["methods"].values()
    console = Console()
    if "worth" in method:
        _print_rounds(method, console)
        print_worth(method["worth"], console)
        _print_ends(method, folder, console)
        return
    table = Table(title=escape(plain_text(f"{results['task']}: {next(iter(results['methods']))}")), title_justify="left")
    metric = _metric(method)
    for name in ("round", "rows", f"select {metric}", f"sealed-test {metric} [95 %]"):
        table.add_column(name, justify="right", overflow="fold")
    for entry in method["rounds"]:
        best = entry["round"] == method["best_round"]
        mark = " *" if best else "  "
        table.add_row(
            f"{entry['round']}{mark}",
            f"{entry['rows']:,}",
            _percent(entry["select"]),
            _interval(entry["test"]),
            style="bold" if best else "",
        )
    console.print(table)
    judged = any(entry["round"] == method["best_round"] and entry["select"] for entry in method["rounds"])
    how = "the best round, chosen by the select half" if judged else "the last student, which also learned from the select half"
    opened = "; the test set was opened once, after that" if method["test"] else ""
    console.print(f"* {how}{opened}.", style="dim")
    name = next(iter(results["methods"]))
    if method["test"] and name in METHODS.built_in and method_class(name).student in ("written", "both"):
        command = f"stepsynth compare {shlex.quote(str(folder))} --methods gold,{name}"
        said = f"This run does not compare that with your labels alone. To see it: {command}"
        console.print(said, style="dim", markup=False, highlight=False, soft_wrap=True)
    if guessed := method.get("undecided"):
        chance = "chance" if guessed == (method["test"] or {}).get("n") else "partly chance"
        said = f"{guessed:,} answers of the teacher gave no decision and count as guesses: the score is {chance}."
        console.print(f"[yellow]{said}[/yellow]", highlight=False)
    _print_ends(method, folder, console)


def _print_rounds(method: dict[str, Any], console: Console) -> None:
    """Print the result of cross-fitting, one line per round."""
    judged = [entry for entry in method["rounds"] if "student" not in entry]
    for entry in judged:
        score, new = _percent(entry["crossfit"]), f"{entry['new_rows']:,} new rows"
        said = f"round {entry['round']}: {new}, {score} {_metric(method)} in cross-validation together with your labels"
        console.print(said, highlight=False, soft_wrap=True)


def _print_ends(method: dict[str, Any], folder: Path, console: Console) -> None:
    """Print which stages ended short, and the paths of the outputs."""
    _print_short([{**stage, "missing": method["missing"].get(stage["stage"], {})} for stage in method["stages"]], console)
    with closing(open_journal(RunDirectory.read(folder))) as journal:
        _print_left_out([info for *_, info, _ in journal.stages()])
    model = folder / "models" / "final"
    if not model.exists():
        # Of an unfinished run, or on a file system without links.
        model = model.with_name(f"round-{method['best_round']}")
    for name, path in (("dataset", folder / "dataset.jsonl"), ("model", model), ("report", folder / "report.html")):
        # Not wrapped, so that a path can be copied from a narrow terminal. The method teacher trains no model.
        if not path.exists():
            continue
        console.print(f"{name:8} {path}", soft_wrap=True, highlight=False, markup=False)


def read_status(folder: Path) -> dict[str, Any]:
    """Return the stages, counts and totals of a run, finished or not."""
    directory = RunDirectory.read(folder)
    with closing(open_journal(directory)) as journal:
        totals = journal.totals()
        ended = endings(count_rows(journal))
        stages, titles = [], all_titles(journal.stages())
        for name, round_number, kind, info, seconds in journal.stages():
            dropped = ended[name]
            accepted = dropped.pop("", 0)
            stages.append(
                {
                    "stage": name,
                    "title": titles[name],
                    "round": round_number,
                    "kind": kind,
                    "seconds": round(seconds, 1),
                    "requested": accepted + dropped.total(),
                    "accepted": accepted,
                }
                | {"dropped": dict(dropped.most_common()), "missing": info.get("missing", {})}
                | {
                    name: info[name]
                    for name in ("thought_tokens", "written_tokens", "left_out", "cut", "told", "stopped")
                    if name in info
                }
            )
        return {
            "run": folder.resolve().name,
            "state": "finished" if journal.meta("finished") else "unfinished",
            "stages": stages,
            "requests": totals.requests,
            "from_cache": totals.from_cache,
            "tokens": {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens},
            "cost_usd": totals.cost_usd,
            "batches": [{"id": job.id, "requests": len(job.keys), "created": job.created} for job in journal.jobs.open()],
            "holder": (holder := directory.holder()),
            "now": read_doing(folder, holder),
            "pause": read_pause(folder, holder),
            "results": build_results(journal, directory),
        }


def print_status(found: dict[str, Any]) -> None:
    """Print what `read_status` found."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    state = f"running ({found['holder']})" if found["holder"] else found["state"]
    table = Table(title=escape(plain_text(f"{found['run']}: {state}")), title_justify="left")
    head = ("stage", "requested", "accepted", "dropped", "seconds")
    for name in head:
        # Titles and the reasons for dropped rows may take several lines; numbers may not.
        words = name in ("stage", "dropped")
        table.add_column(
            name, justify="left" if words else "right", no_wrap=not words, min_width={"stage": 20, "dropped": 16}.get(name)
        )
    rows = []
    for stage in found["stages"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in stage["dropped"].items())
        counts = (f"{stage['requested']:,}", f"{stage['accepted']:,}") if stage["requested"] else ("", "")
        rows.append((stage["title"], *counts, dropped, f"{stage['seconds']:.1f}"))
        table.add_row(*map(escape, rows[-1]))
    if rows:
        print_table(console, table, head, rows)
    else:
        console.print(table.title)
    if now := found["now"]:
        done = f"{now['done']:,} of {counted(now['target'], now['unit'].removesuffix('s'), now['unit'])}"
        console.print(
            f"now {escape(plain_text(now['stage']))}: {done}, {clock_time(round(now['seconds']))} so far", highlight=False
        )
    tokens = found["tokens"]
    cost = "unknown" if found["cost_usd"] is None else f"{found['cost_usd']:.2f} USD"
    answers = f"{counted(found['requests'], 'answer')} ({found['from_cache']:,} from other runs)"
    console.print(f"{answers}, {tokens['prompt']:,} + {tokens['completion']:,} tokens, cost {cost}", highlight=False)
    thought, written = (sum(stage.get(name, 0) for stage in found["stages"]) for name in ("thought_tokens", "written_tokens"))
    if thought:
        console.print(f"{thought:,} of {written:,} tokens written in these stages were thoughts.", highlight=False)
    _print_short(found["stages"], console)
    _print_left_out(found["stages"])
    if found["batches"]:
        out = sum(batch["requests"] for batch in found["batches"])
        batches = len(found["batches"])
        waiting = f"{counted(batches, 'batch', 'batches')} ({counted(out, 'request')}) {'is' if batches == 1 else 'are'}"
        console.print(f"{waiting} at the provider.", highlight=False)
    if found["pause"]:
        what = "The run ended because" if found["pause"]["ended"] else "The run waits:"
        console.print(f"{what} {found['pause']['said']}", markup=False, highlight=False, soft_wrap=True)
    if worth := next(iter(found["results"]["methods"].values())).get("worth"):
        print_worth(worth, console)
    if found["state"] == "unfinished" and not found["holder"]:
        console.print("The same command or call resumes it.")


def warn_of_nothing(results: dict[str, Any]) -> None:
    """Say on standard error that nothing a teacher wrote was kept: with quiet, too, since the data set is empty then."""
    for method in results["methods"].values():
        worth = method.get("worth") or {"words": []}
        if worth["words"] and not sum(entry["new_rows"] for entry in method["rounds"]) and method["dropped"]:
            sys.stderr.write(f"stepsynth: warning: {plain_text(worth['words'][0])}\n")


def _print_short(stages: Sequence[dict[str, Any]], console: Console) -> None:
    """Print a line for each stage that ended short: how much of what was wanted it got, and the chief reason."""
    for stage in stages:
        if line := short_line(stage):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def short_line(stage: dict[str, Any]) -> str:
    """Return how far a stage ended short of what was wanted, and why; empty where it did not.

    Args:
        stage: ``stage``, ``kind``, ``accepted``, ``dropped`` (reason -> count) and ``missing`` (label -> count).
    """
    missing = {label: count for label, count in stage.get("missing", {}).items() if count}
    if not missing:
        return ""
    lacking = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{plain_text(label) or 'in all'} {count:,}" for label, count in lacking[:_MOST_LABELS])
    more = f" and {len(lacking) - _MOST_LABELS:,} more labels" if len(lacking) > _MOST_LABELS else ""
    what = "reasons" if stage["kind"] == StageKind.RATIONALES else "rows"
    got, wanted = stage["accepted"], stage["accepted"] + sum(missing.values())
    # What came too much of one label is not what another one lacks.
    reasons = {reason: count for reason, count in stage["dropped"].items() if reason != DropReason.SURPLUS}
    reason = min(reasons, key=lambda name: (-reasons[name], name), default="")
    why = f"; most were dropped: {reasons[reason]:,} {reason}" if reason else ""
    title = stage_title(stage["stage"], stage["kind"])
    return f"{title} ended short: {got:,} of {wanted:,} wanted {what} (missing: {shown}{more}){why}."


def _print_left_out(stages: Sequence[dict[str, Any]]) -> None:
    """Print how many rows are only part of an answer, if any."""
    from rich.console import Console

    for name, note in (("left_out", left_out_note), ("cut", cut_note)):
        if count := sum(stage.get(name, 0) for stage in stages):
            Console().print(f"{note(count)}.", style="yellow", highlight=False, soft_wrap=True)


def _percent(score: dict[str, Any] | None) -> str:
    return "-" if score is None else f"{100 * score['value']:.1f}"


def _interval(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _metric(method: dict[str, Any]) -> str:
    scores = [entry[split] for entry in method["rounds"] for split in ("test", "select", "crossfit") if entry.get(split)]
    return str(scores[0]["metric"]).replace("_", " ") if scores else "score"
