"""``run``, ``status`` and ``report``."""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.cli.panel import open_panel
from stepsynth.cli.pausing import PauseNotes, read_pause
from stepsynth.cli.screens import print_table
from stepsynth.cli.worth import print_worth
from stepsynth.errors import RunError
from stepsynth.export import build_results, write_exports
from stepsynth.filters.layout import cut_note, left_out_note
from stepsynth.inputs import check_inputs
from stepsynth.interrupt import handle_signals
from stepsynth.journal import AnswerStore, Journal, holds_nothing
from stepsynth.journal.stream import count_rows, endings
from stepsynth.loop import run_loop
from stepsynth.run import JOURNAL, RunDirectory
from stepsynth.settling import settle
from stepsynth.teachers import probe_teacher
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.served import says_unlisted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.journal.answers import SharedAnswers
    from stepsynth.progress import Progress

__all__ = ["open_answers", "open_journal", "print_results", "print_status", "read_status", "rebuild", "run_config"]


def run_config(config: RunConfig, folder: Path, *, quiet: bool = False, students: Path | None = None) -> dict[str, Any]:
    """Run or resume; everything is checked before the folder is made or a request is sent.

    Args:
        config: the checked config.
        folder: the run directory.
        quiet: draw nothing.
        students: a folder of trained students that several runs share.

    Returns:
        The content of ``results.json``.
    """
    with handle_signals(), open_panel(quiet=quiet) as progress:
        RunDirectory.refuse_held(folder)
        config = settle(config, RunDirectory.began_with(folder), progress.note, fetch=config.method.name != "gold")
        inputs = check_inputs(config, progress)
        for note in inputs.notes:
            progress.note(note)
        # A run that has answers may have all that it needs, and then needs no teacher.
        if holds_nothing(folder / JOURNAL) and config.method.name != "gold":
            said = probe_teacher(config.teacher, progress.note)
            if says_unlisted(said):
                progress.note(said)
        with closing(RunDirectory.open(folder, config)) as directory, _logging(folder):
            shared = open_answers(directory.cache_path(), config.teacher, progress)
            with closing(Journal(directory.journal_path, shared)) as journal:
                run_loop(directory, journal, inputs, students=students, progress=PauseNotes(progress, folder))
                return write_exports(journal, directory)


def open_answers(path: Path | None, teacher: TeacherConfig, progress: Progress) -> SharedAnswers | None:
    """Open the answers that runs share; a file that cannot be used is said, and the run goes on without it."""
    if path is None:
        return None
    price = price_of(teacher)
    try:
        return AnswerStore.shared(path, note=progress.note, price=price.cost if price else None)
    except RunError as error:
        progress.note(f"No answers of other runs are used or kept: {error}")
        return None


@contextmanager
def _logging(folder: Path) -> Iterator[None]:
    """Keep warnings of libraries out of the panel and in ``logs/attempt-n.log``."""
    logs = folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    number = 1 + sum(1 for _ in logs.glob("attempt-*.log"))
    handler = logging.FileHandler(logs / f"attempt-{number}.log", encoding="utf-8")
    (logs / f"attempt-{number}.log").chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    logging.getLogger("stepsynth").info("attempt %d began at %s", number, time.strftime("%Y-%m-%dT%H:%M:%S"))
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        handler.close()


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Print the table of rounds, or with cross-fitting of students, and where everything is."""
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
    table = Table(title=escape(f"{results['task']}: {next(iter(results['methods']))}"), title_justify="left")
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
    how = "the best round, chosen by the select half" if judged else "the last student, which learnt from the select half, too"
    console.print(f"* {how}; the test set was opened once, after that.", style="dim")
    if guessed := method.get("undecided"):
        said = f"{guessed:,} answers of the teacher decided nothing and count as guesses: the score is partly chance."
        console.print(f"[yellow]{said}[/yellow]", highlight=False)
    _print_ends(method, folder, console)


def _print_rounds(method: dict[str, Any], console: Console) -> None:
    """Print what cross-fitting said of each round, in a line."""
    judged = [entry for entry in method["rounds"] if "student" not in entry]
    for entry in judged:
        score, new = _percent(entry["crossfit"]), f"{entry['new_rows']:,} new rows"
        said = f"round {entry['round']}: {new}, {score} {_metric(method)} in cross-validation together with your labels"
        console.print(said, highlight=False, soft_wrap=True)


def _print_ends(method: dict[str, Any], folder: Path, console: Console) -> None:
    """Print which stages ended short, and where everything is."""
    from rich.markup import escape

    for stage, labels in method["missing"].items():
        short = escape(", ".join(f"{label} {count}" for label, count in labels.items()))
        console.print(
            f"[yellow]{stage} ended short of its rows:[/yellow] {short}. See the page for the reasons.", highlight=False
        )
    with closing(open_journal(RunDirectory.read(folder))) as journal:
        _print_left_out([info for *_, info, _ in journal.stages()])
    model = folder / "models" / f"round-{method['best_round']}"
    for name, path in (("dataset", folder / "dataset.jsonl"), ("model", model), ("page", folder / "report.html")):
        # Not wrapped, so that a path can be copied from a narrow terminal; the teacher itself leaves no model behind.
        if not path.exists():
            continue
        console.print(f"{name:8} {path}", soft_wrap=True, highlight=False, markup=False)


def read_status(folder: Path) -> dict[str, Any]:
    """Return stages, counts and totals of a run, finished or not."""
    directory = RunDirectory.read(folder)
    with closing(open_journal(directory)) as journal:
        totals = journal.totals()
        ended = endings(count_rows(journal))
        stages = []
        for name, round_number, kind, info, seconds in journal.stages():
            dropped = ended[name]
            accepted = dropped.pop("", 0)
            stages.append(
                {
                    "stage": name,
                    "round": round_number,
                    "kind": kind,
                    "seconds": round(seconds, 1),
                    "requested": accepted + dropped.total(),
                    "accepted": accepted,
                }
                | {"dropped": dict(dropped.most_common()), "missing": info.get("missing", {})}
                | {name: info[name] for name in ("thought_tokens", "written_tokens", "left_out", "cut") if name in info}
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
    table = Table(title=escape(f"{found['run']}: {state}"), title_justify="left")
    head = ("stage", "requested", "accepted", "dropped", "seconds")
    for name in head:
        # Why rows were dropped may take several lines; all else is one.
        left, folded = name in ("stage", "dropped"), name == "dropped"
        table.add_column(name, justify="left" if left else "right", no_wrap=not folded, min_width=16 if folded else None)
    rows = []
    for stage in found["stages"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in stage["dropped"].items())
        counts = (f"{stage['requested']:,}", f"{stage['accepted']:,}") if stage["requested"] else ("", "")
        rows.append((stage["stage"], *counts, dropped, f"{stage['seconds']:.1f}"))
        table.add_row(*map(escape, rows[-1]))
    print_table(console, table, head, rows)
    tokens = found["tokens"]
    cost = "unknown" if found["cost_usd"] is None else f"{found['cost_usd']:.2f} USD"
    answers = f"{found['requests']:,} answers ({found['from_cache']:,} from other runs)"
    console.print(f"{answers}, {tokens['prompt']:,} + {tokens['completion']:,} tokens, cost {cost}", highlight=False)
    thought, written = (sum(stage.get(name, 0) for stage in found["stages"]) for name in ("thought_tokens", "written_tokens"))
    if thought:
        console.print(f"{thought:,} of {written:,} tokens written in these stages were thoughts.", highlight=False)
    _print_left_out(found["stages"])
    if found["batches"]:
        out = sum(batch["requests"] for batch in found["batches"])
        console.print(f"{len(found['batches']):,} batches ({out:,} requests) are at the provider.", highlight=False)
    if found["pause"]:
        what = "The run ended because" if found["pause"]["ended"] else "The run waits:"
        console.print(f"{what} {found['pause']['said']}", markup=False, highlight=False, soft_wrap=True)
    if worth := next(iter(found["results"]["methods"].values())).get("worth"):
        print_worth(worth, console)
    if found["state"] == "unfinished" and not found["holder"]:
        console.print("The same `stepsynth run` command goes on from here.")


def _print_left_out(stages: Sequence[dict[str, Any]]) -> None:
    """Tell of rows that are a part of an answer; nothing where there are none."""
    from rich.console import Console

    for name, note in (("left_out", left_out_note), ("cut", cut_note)):
        if count := sum(stage.get(name, 0) for stage in stages):
            Console().print(f"{note(count)}.", style="yellow", highlight=False, soft_wrap=True)


def rebuild(folder: Path) -> dict[str, Any]:
    """Write the derived files of a run again; return the results."""
    directory = RunDirectory.read(folder)
    with closing(open_journal(directory)) as journal:
        if not journal.rounds():
            raise RunError(
                f"the run at {str(folder)!r} has no trained student yet.", hint="Run it first, or see `stepsynth status`."
            )
        return write_exports(journal, directory)


def open_journal(directory: RunDirectory) -> Journal:
    """Open the journal of a run that exists.

    Raises:
        RunError: it has none yet.
    """
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(directory.path)!r} has no journal yet.", hint="Start it with `stepsynth run`.")
    return Journal(directory.journal_path)


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
