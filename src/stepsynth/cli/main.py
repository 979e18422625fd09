"""The commands: each checks its input, calls the library and prints the result.

A user's mistake gives one line on standard error and exit code 2. A clean stop (Ctrl-C or SIGTERM) exits with 130, a closed
output pipe with 141. Anything else is a defect and shows its traceback.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from stepsynth.cli.ending import run_to_end
from stepsynth.cli.existing_runs import COMMANDS
from stepsynth.cli.groups import cache_app, models_app
from stepsynth.cli.options import (
    ConfigPath,
    Delimiter,
    Encoding,
    Jobs,
    Json,
    On,
    Overrides,
    Quiet,
    Sheet,
    Track,
    print_json,
    reading,
)
from stepsynth.cli.screens import plain_text
from stepsynth.cli.sweeping import sweep
from stepsynth.runtime.counting import counted

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Training sets for small models: a large model writes them, a small model's mistakes steer them.",
)
app.add_typer(models_app, name="models")
app.add_typer(cache_app, name="cache")


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
    data: Annotated[
        Path | None, typer.Option(help="Your labelled rows instead of an example: the config gets their labels and columns.")
    ] = None,
    text: Annotated[str, typer.Option(help="With --data: the column of the texts.")] = "text",
    label: Annotated[str, typer.Option(help="With --data: the column of the labels.")] = "label",
    test: Annotated[Path | None, typer.Option(help="With --data: rows for the sealed test, with the same columns.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    sheet: Sheet = None,
) -> None:
    """Write a commented config: with a small data set, ready to run with the embedded teacher, or for your own rows."""
    from stepsynth.cli.own_data import Table, write_for_table
    from stepsynth.cli.starter import write_starter
    from stepsynth.errors import ConfigError
    from stepsynth.presets import write_preset

    if preset is not None and task is not None:
        raise ConfigError(f"--preset {preset} sets the task, but --task {task} was given, too.", hint="Give only one.")
    if preset is None and data_folder is not None:
        raise ConfigError("--data-folder belongs to --preset.", hint="Give --preset NAME; `stepsynth presets` lists them.")
    how = reading(encoding, delimiter, sheet)
    if data is None and (how or test is not None or (text, label) != ("text", "label")):
        raise ConfigError(
            "--text, --label, --test, --encoding, --delimiter and --sheet belong to --data.",
            hint="Name your labelled rows with --data FILE.",
        )
    if data is not None:
        if preset is not None or task is not None:
            raise ConfigError(
                "--data is for texts with one label each: it takes no --task and no --preset.", hint="Give one of them."
            )
        _say_labels(write_for_table(folder, Table(data, text, label, test, how)), folder)
    elif preset is None:
        write_starter(folder, task or "classification")
        typer.echo(f"Wrote {folder}/config.yaml and the rows of a small example. Next:")
    else:
        write_preset(preset, folder, data_folder)
        typer.echo(f"Wrote {folder}/config.yaml. Next:")
    written = shlex.quote(f"{folder}/config.yaml")
    typer.echo(f"  stepsynth plan {written}")
    typer.echo(f"  stepsynth run {written}")


def _say_labels(found: Counter[str], folder: Path) -> None:
    from stepsynth.data.columns import shown

    named = ", ".join(f"{shown(name)} ({count:,})" for name, count in found.most_common(8))
    more = f" and {len(found) - 8:,} more" if len(found) > 8 else ""
    typer.echo(f"{found.total():,} rows, {len(found):,} labels: {named}{more}.")
    typer.echo(f"Wrote {folder}/config.yaml: say there what is decided and what each label means. Then:")


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
    print_json(found) if as_json else print_plan(found, config, overrides or (), tried=trial)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config; or a run directory, to go on with that run.")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default: runs/<task name> beside the config.")] = None,
    track: Track = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the loop, or resume an interrupted run."""
    from stepsynth.cli.running import print_results, run_config, warn_of_nothing
    from stepsynth.config import load_config
    from stepsynth.run import default_folder
    from stepsynth.tracking import also_tracked

    loaded, _ = also_tracked(load_config(config, overrides), track)
    folder = out or default_folder(config, loaded.task.name)
    results = run_config(loaded, folder, quiet=quiet or as_json)
    if as_json:
        print_json(results)
    elif quiet:
        warn_of_nothing(results)
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
    jobs: Jobs = None,
    on: On = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: runs/compare-<task name> beside the config.")] = None,
    track: Track = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run several methods with several seeds, the baselines at the budget of s3; resumes where it stopped."""
    from stepsynth.cli.comparing import compare_methods, print_comparison
    from stepsynth.config import load_config
    from stepsynth.run import default_folder
    from stepsynth.tracking import also_tracked

    loaded, _ = also_tracked(load_config(config, overrides), track)
    folder = out or default_folder(config, loaded.task.name, "compare-")
    results = compare_methods(
        loaded,
        methods,
        seeds=seeds,
        match=match,
        folder=folder,
        reference=reference,
        max_seeds=max_seeds,
        jobs=jobs,
        on=on,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json(results)
    elif quiet:
        typer.echo(str(folder))
    else:
        print_comparison(results, folder)


app.command()(sweep)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the ready-made tasks."""
    from stepsynth.presets import list_presets

    found = [{"name": p.name, "family": p.family, "title": p.title, "description": p.description} for p in list_presets()]
    if as_json:
        print_json({"presets": found})
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
        reading=reading(encoding, delimiter, sheet),
    )
    if as_json:
        print_json(summary)
        return
    kept = ", ".join(f"{plain_text(label) or 'rows'} {count:,}" for label, count in summary["labels"].items())
    typer.echo(f"{counted(summary['rows'], 'row')} in {out} ({kept})")
    for reason, count in summary["dropped"].items():
        typer.echo(f"{count:,} dropped: {reason}")
    for problem in summary["problems"]:
        typer.echo(problem)
    typer.echo(f"Start from them with: --set data.seed.path={out.resolve()}")


for command in COMMANDS:
    app.command()(command)


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
