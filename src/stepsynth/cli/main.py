"""The commands: each checks its input, calls the library and prints the result.

A user's mistake gives one line on standard error and exit code 2. A clean stop (Ctrl-C or SIGTERM) exits with 130, a closed
output pipe with 141. Anything else is a defect and shows its traceback.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepsynth.cli.ending import run_to_end
from stepsynth.cli.screens import json_text, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Training sets for small models: a large model writes them, a small model's mistakes steer them.",
)
models_app = typer.Typer(no_args_is_help=True, help="List and pull the embedded models; check what a teacher can do.")
app.add_typer(models_app, name="models")
cache_app = typer.Typer(no_args_is_help=True, help="The answers that all your runs share: list, verify, prune.")
app.add_typer(cache_app, name="cache")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config, as written by `stepsynth init`.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key, e.g. method.rounds=3.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
AnswersFile = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Use this answers file instead of the default.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and, at the end, the folder.")]

Encoding = Annotated[str | None, typer.Option(help="Encoding of a text file that is not UTF-8, e.g. cp1252.")]
Delimiter = Annotated[str | None, typer.Option(help="Delimiter of a table's cells; detected when not given.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet to read, if an Excel file has several.")]


def main() -> None:
    """Run the command line; turn known errors into one line and an exit code."""
    # The hub's client and vLLM read this: neither should report usage.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    _let_threads_sleep()
    run_to_end(app)


def _let_threads_sleep() -> None:
    """Let waiting threads sleep instead of spin: beside a busy process, spinning makes training many times slower.

    OpenMP reads this once, when torch is first imported. Programs that import the package keep their own settings.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
        # For GNU's and Intel's OpenMP.
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")


def _version(value: bool) -> None:
    if value:
        from stepsynth import __version__

        typer.echo(f"stepsynth {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    del version


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    task: Annotated[
        str | None, typer.Option(help="Kind of task: classification (default), multi_label, pair or extractive_qa.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A ready-made task instead; see `stepsynth presets`.")] = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="With --preset: take the rows from this folder, not from the hub.")
    ] = None,
) -> None:
    """Write a commented config and a small data set, ready to run with the embedded teacher."""
    from stepsynth.cli.starter import write_starter
    from stepsynth.errors import ConfigError
    from stepsynth.presets import write_preset

    if preset is not None and task is not None:
        raise ConfigError(f"--preset {preset} sets the task, but --task {task} was given, too.", hint="Give only one.")
    if preset is None:
        write_starter(folder, task or "classification")
        typer.echo(f"Wrote {folder}/config.yaml and the rows of a small example. Next:")
    else:
        write_preset(preset, folder, data_folder)
        typer.echo(f"Wrote {folder}/config.yaml. Next:")
    typer.echo(f"  stepsynth plan {folder}/config.yaml")
    typer.echo(f"  stepsynth run {folder}/config.yaml")


@app.command()
def plan(
    config: ConfigPath,
    trial: Annotated[
        bool, typer.Option("--try", help="Also ask for some labels and rows, keep them, and say whether to generate.")
    ] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check the config and data, ask the teacher for a few samples (not kept), and estimate what the run will take."""
    from stepsynth.cli.planning import plan_config, print_plan
    from stepsynth.config import load_config
    from stepsynth.run import default_folder

    loaded = load_config(config, overrides)
    folder = default_folder(config, loaded.task.name)
    found = plan_config(loaded, folder, report=lambda line: typer.echo(line, err=True), trial=trial)
    _print_json(found) if as_json else print_plan(found, config)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config; or a run directory, to go on with that run.")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default: runs/<task name> beside the config.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the loop, or resume an interrupted run."""
    from stepsynth.cli.running import print_results, run_config
    from stepsynth.config import load_config
    from stepsynth.run import default_folder

    loaded = load_config(config, overrides)
    folder = out or default_folder(config, loaded.task.name)
    results = run_config(loaded, folder, quiet=quiet or as_json)
    if as_json:
        _print_json(results)
    elif quiet:
        typer.echo(str(folder))
    else:
        print_results(results, folder)


@app.command()
def compare(
    config: ConfigPath,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas; config changes after colons, e.g. s3:method.rationales=0.")
    ] = "gold,zerogen,seed-only,goldgen,s3",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Number of seeds, counting up from the config's.")] = 5,
    match: Annotated[str, typer.Option(help="What all methods get the same amount of: rows, requests, tokens or usd.")] = "rows",
    reference: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Method to compare the others with; default: gold, else s3.")
    ] = None,
    max_seeds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Seeds that you may add up to after a look at the results; default: none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: runs/compare-<task name> beside the config.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run several methods with several seeds, the baselines at the budget of s3; resumes where it stopped."""
    from stepsynth.cli.comparing import compare_methods, print_comparison
    from stepsynth.config import load_config
    from stepsynth.run import default_folder

    loaded = load_config(config, overrides)
    folder = out or default_folder(config, loaded.task.name, "compare-")
    results = compare_methods(
        loaded,
        methods,
        seeds=seeds,
        match=match,
        folder=folder,
        reference=reference,
        max_seeds=max_seeds,
        quiet=quiet or as_json,
    )
    if as_json:
        _print_json(results)
    elif quiet:
        typer.echo(str(folder))
    else:
        print_comparison(results, folder)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the ready-made tasks."""
    from stepsynth.presets import list_presets

    found = [{"name": p.name, "family": p.family, "title": p.title, "description": p.description} for p in list_presets()]
    if as_json:
        _print_json({"presets": found})
        return
    for entry in found:
        typer.echo(f"{entry['name']:12} {entry['family']:15} {entry['title']}: {entry['description']}")
    typer.echo("Write one with: stepsynth init DIR --preset NAME")


@app.command("import")
def import_rows(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON, JSONL, CSV, TSV, Parquet, Arrow or Excel.")],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="The task that the rows are for.")],
    out: Annotated[Path, typer.Option(help="The JSONL file to write; use it as data.seed.")],
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Name of a column in the files, e.g. text=review.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="THEIRS=OURS", help="Maps a file's label to the task's, e.g. 0=negative."),
    ] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Turn existing synthetic data (S3's, ZeroGen's, your own) into rows that a run can start from."""
    from stepsynth.cli.importing import import_files

    summary = import_files(
        files,
        config,
        out,
        columns=_pairs(columns, "--column"),
        labels=_pairs(labels, "--label"),
        reading=_reading(encoding, delimiter, sheet),
    )
    if as_json:
        _print_json(summary)
        return
    kept = ", ".join(f"{plain_text(label) or 'rows'} {count:,}" for label, count in summary["labels"].items())
    typer.echo(f"{summary['rows']:,} rows in {out} ({kept})")
    for reason, count in summary["dropped"].items():
        typer.echo(f"{count:,} dropped: {reason}")
    for problem in summary["problems"]:
        typer.echo(problem)
    typer.echo(f"Start from them with: --set data.seed.path={out.resolve()}")


@app.command()
def status(folder: RunPath, as_json: Json = False) -> None:
    """Show how far a run has got and what was dropped; also works during the run."""
    from stepsynth.cli.running import print_status, read_status

    found = read_status(folder)
    _print_json(found) if as_json else print_status(found)


@app.command()
def report(folder: RunPath, as_json: Json = False) -> None:
    """Rewrite the page, the data set and the numbers of a run."""
    from stepsynth.execution import rebuild
    from stepsynth.report.derived import without_class
    from stepsynth.run import RunDirectory

    results = rebuild(folder)
    if said := without_class(RunDirectory.read(folder).config, "written"):
        typer.echo(said, err=True)
    if as_json:
        _print_json(results)
    else:
        typer.echo(str(folder / "report.html"))


@app.command()
def review(
    folder: RunPath,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of them to a .csv or .jsonl file.")] = None,
    as_json: Json = False,
) -> None:
    """List the labelled rows to look at first: a student that had not seen them, or the teacher, gives another label."""
    from stepsynth.api.run import Run
    from stepsynth.cli.reviewing import print_review, write_review

    rows = Run.load(folder).review()
    if out is not None:
        write_review(rows, out)
    if as_json:
        _print_json({"run": folder.resolve().name, "rows": rows})
    elif out is not None:
        typer.echo(str(out))
    else:
        print_review(rows)


@app.command()
def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder; with --push alone, an export to push.")],
    data: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write the rows: csv, jsonl, parquet, datasets, or squad (questions).")
    ] = None,
    student: Annotated[str | None, typer.Option(metavar="FORMAT", help="Write the final student: safetensors.")] = None,
    no_lineage: Annotated[bool, typer.Option("--no-lineage", help="Leave out columns that say where a row comes from.")] = False,
    validation_texts: Annotated[
        bool, typer.Option("--validation-texts", help="Write validation rows with texts, not as references.")
    ] = False,
    test_texts: Annotated[bool, typer.Option("--test-texts", help="Write test rows with texts, not as references.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Also write the rows that were dropped, with the reasons.")] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Push to the Hugging Face hub, into private repositories.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: into public repositories.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --push: show what would be sent, and send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Write a run's data set and student for others, each with a card, and push them to the hub if asked."""
    from stepsynth.cli.exporting import export_values, print_export
    from stepsynth.errors import ConfigError
    from stepsynth.exporting import Content, Push, Wanted, export_and_push
    from stepsynth.run import RunDirectory

    directory = RunDirectory.read(run)
    if data is None and student is None and push is None:
        raise ConfigError("there is nothing to export.", hint="Give --data FORMAT, --student FORMAT, or both.")
    if push is None and (public or dry_run):
        raise ConfigError(f"{'--public' if public else '--dry-run'} belongs to --push.", hint="Give --push OWNER/NAME.")
    wanted = Wanted(data, student, Content(not no_lineage, validation_texts, test_texts, dropped))
    written = export_and_push(directory, folder.absolute(), wanted, None if push is None else Push(push, public, dry_run))
    _print_json(export_values(written)) if as_json else print_export(run, written)


@app.command()
def verify(folder: RunPath, as_json: Json = False) -> None:
    """Check that a run is intact: journal, gold rows, models, derived files. Exit code 1 if it is not."""
    from stepsynth.report.verify import check_run

    check = check_run(folder)
    findings = check.findings
    if as_json:
        problems = [asdict(finding) for finding in findings]
        _print_json({"run": folder.resolve().name, "whole": not findings, "problems": problems, "notes": check.notes})
    else:
        for note in check.notes:
            typer.echo(note, err=True)
        for finding in findings:
            typer.echo(str(finding))
        typer.echo(f"{folder}: {_verdict(folder, len(findings))}")
    if findings:
        raise typer.Exit(1)


@app.command()
def cancel(folder: RunPath, as_json: Json = False) -> None:
    """Ask the provider to cancel a run's open batches (teacher.mode: batch)."""
    from stepsynth.cli.cancelling import cancel_batches, print_cancelled

    found = cancel_batches(folder)
    _print_json({"run": folder.resolve().name, "batches": found}) if as_json else print_cancelled(found)


@app.command()
def predict(
    folder: RunPath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSON, Parquet, Excel, or .txt with one text per line.")],
    column: Annotated[
        list[str] | None, typer.Option(help="Column to read: review, or text=review; also text1=..., context=... and so on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here instead of standard output: .csv, .tsv or .jsonl.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="csv, tsv or jsonl; default: by the name of --out.")] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="CSV: do not escape cells that a spreadsheet may run as formulas.")
    ] = False,
    round_number: Annotated[int | None, typer.Option("--round", help="Use the student of this round, not the best one.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Predict labels and probabilities for new texts with a run's student."""
    from stepsynth.cli.predicting import Output, parse_columns, predict_file

    predict_file(
        folder,
        file,
        columns=parse_columns(column or [], folder),
        output=Output(out, "json" if as_json else form, exact=exact),
        round_number=round_number,
        reading=_reading(encoding, delimiter, sheet),
    )


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the embedded models: size, memory, licence, measured speed, and whether they are in the cache."""
    from stepsynth.cli.models import list_models, print_models

    found = list_models()
    _print_json(found) if as_json else print_models(found)


@models_app.command("pull")
def models_pull(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Models to pull; default: those that a default config uses.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch embedded models into the cache and check their sha256."""
    from stepsynth.cli.models import pull_models

    say: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    found = pull_models(names, say)
    if as_json:
        _print_json(found)


@models_app.command("check")
def models_check(
    config: Annotated[
        Path, typer.Option("--config", metavar="CONFIG", help="A config; only its teacher and budget sections are read.")
    ],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Ask a teacher a few short questions, show what it can do, and keep that for runs. Exit code 2 if no run would work."""
    from stepsynth.cli.checking import check_config, print_check, print_cost
    from stepsynth.config import load_teacher
    from stepsynth.run.settling import settle_teacher
    from stepsynth.teachers.check import TeacherCheck

    teacher, budget = load_teacher(config, overrides)
    check = TeacherCheck(settle_teacher(teacher, report=lambda line: typer.echo(line, err=True), fetch=True), budget)
    if not as_json:
        print_cost(check)
    found = check_config(check)
    _print_json(found) if as_json else print_check(found)
    if check.problem is not None:
        raise check.problem


@cache_app.command("list")
def cache_list(file: AnswersFile = None, as_json: Json = False) -> None:
    """Show where answers are kept, and how many from each teacher."""
    from stepsynth.cli.cache import find_file, list_answers, print_list

    found = list_answers(find_file(file))
    _print_json(found) if as_json else print_list(found)


@cache_app.command("verify")
def cache_verify(
    file: AnswersFile = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove damaged answers.")] = False,
    as_json: Json = False,
) -> None:
    """Check the file and every answer in it against the key of its request; exit code 1 if any is damaged."""
    from stepsynth.cli.cache import find_file, print_verified, verify_answers

    found = verify_answers(find_file(file), remove=remove)
    _print_json(found) if as_json else print_verified(found)
    if found["problems"] or (found["damaged"] and not found["removed"]):
        raise typer.Exit(1)


@cache_app.command("prune")
def cache_prune(
    file: AnswersFile = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Remove answers not used for this many days.")
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="MODEL", help="Remove this model's answers.")] = None,
    max_size: Annotated[
        float | None, typer.Option("--max-size", metavar="MB", min=0, help="Remove the least recently used down to this size.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all answers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove shared answers. Existing runs keep theirs; a new run may pay for them again."""
    from stepsynth.cli.cache import find_file, print_pruned, prune_answers

    found = prune_answers(
        find_file(file), older_than=older_than, teacher=teacher, max_mb=max_size, everything=everything, dry_run=dry_run
    )
    _print_json(found) if as_json else print_pruned(found)


def _verdict(folder: Path, problems: int) -> str:
    """Return the verdict of `verify` in words."""
    if problems:
        return f"{problems:,} problem{'s' * (problems != 1)}"
    from stepsynth.cli.running import read_status

    return "intact" if read_status(folder)["state"] != "unfinished" else "nothing is damaged; the run is unfinished"


def _reading(encoding: str | None, delimiter: str | None, sheet: str | None) -> dict[str, str]:
    """Return how to read a file, with the keys of a config's source."""
    given = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet}
    return {name: value for name, value in given.items() if value is not None}


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    """Read ``key=value`` options."""
    from stepsynth.errors import ConfigError

    pairs = {}
    example = "text=review" if option == "--column" else "0=negative"
    for value in values or []:
        key, separator, text = value.partition("=")
        if not separator or not key:
            raise ConfigError(f"{option} {value!r} is not NAME=VALUE.", hint=f"Example: {option} {example}")
        pairs[key] = text
    return pairs


def _print_json(value: Any) -> None:
    typer.echo(json_text(value))
