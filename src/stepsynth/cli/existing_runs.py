"""Commands about runs that are there: their state, rows, pages, students and exports."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stepsynth.cli.options import Delimiter, Encoding, Json, RunPath, Sheet, print_json, reading
from stepsynth.cli.serving import serve
from stepsynth.runtime.counting import counted

__all__ = ["COMMANDS"]


def status(folder: RunPath, as_json: Json = False) -> None:
    """Show how far a run or a sweep has got, and what was dropped; also works meanwhile."""
    from stepsynth.cli.running import print_status, read_status
    from stepsynth.run.places import is_sweep
    from stepsynth.sweeps.stored import read_stored_sweep

    if is_sweep(folder):
        from stepsynth.cli.sweeping import print_sweep

        results = read_stored_sweep(folder)
        print_json(results) if as_json else print_sweep(results, folder)
        return
    found = read_status(folder)
    print_json(found) if as_json else print_status(found)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to look; default: the current folder.")] = Path(),
    sort: Annotated[str, typer.Option(metavar="KEY", help="name, method, state, date, score, rows, cost and others.")] = "name",
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this method.")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only finished, working, interrupted, failed or broken runs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs below a folder, those of comparisons too: score, cost and state."""
    from stepsynth.cli.listing import print_runs
    from stepsynth.report.listing import list_runs, pick_runs

    found = pick_runs(list_runs(folder), sort=sort, method=method, state=state)
    print_json({"folder": str(folder), "runs": found}) if as_json else print_runs(found, folder)


def report(folder: RunPath, as_json: Json = False) -> None:
    """Rewrite the page, the data set and the numbers of a run."""
    from stepsynth.execution import rebuild
    from stepsynth.report.derived import without_class
    from stepsynth.run import RunDirectory

    results = rebuild(folder)
    if said := without_class(RunDirectory.read(folder).config, "written"):
        typer.echo(said, err=True)
    if as_json:
        print_json(results)
    else:
        typer.echo(str(folder / "report.html"))


def review(
    folder: RunPath,
    pool: Annotated[bool, typer.Option("--pool", help="List the texts of data.pool to label next instead.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of them to a .csv or .jsonl file.")] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="CSV: do not escape cells that a spreadsheet may run as formulas.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the labelled rows to look at first: a student that had not seen them, or the teacher, gives another label."""
    from stepsynth.api.run import Run
    from stepsynth.cli.reviewing import print_review, write_review

    opened = Run.load(folder)
    rows = opened.review(pool=pool)
    if out is not None:
        write_review(rows, out, opened.config, pool=pool, exact=exact)
    if as_json:
        print_json({"run": folder.resolve().name, "rows": rows})
    elif out is not None:
        typer.echo(str(out))
    else:
        print_review(rows, pool=pool)


def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder; with --push alone, an export to push.")],
    data: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write the rows: csv, jsonl, parquet, datasets, or squad (questions).")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Write the final student: safetensors, onnx, onnx-int8, openvino or openvino-int8."),
    ] = None,
    no_lineage: Annotated[bool, typer.Option("--no-lineage", help="Leave out columns that say where a row comes from.")] = False,
    validation_texts: Annotated[
        bool, typer.Option("--validation-texts", help="Write validation rows with texts, not as references.")
    ] = False,
    test_texts: Annotated[bool, typer.Option("--test-texts", help="Write test rows with texts, not as references.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Also write the rows that were dropped, with the reasons.")] = False,
    max_loss: Annotated[
        float, typer.Option(metavar="POINTS", help="Points of the score that a student in int8 may lose.", show_default=True)
    ] = 1.0,
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
    wanted = Wanted(data, student, Content(not no_lineage, validation_texts, test_texts, dropped), max_loss=max_loss)
    written = export_and_push(directory, folder.absolute(), wanted, None if push is None else Push(push, public, dry_run))
    print_json(export_values(written)) if as_json else print_export(run, written, public=public)


def verify(folder: RunPath, as_json: Json = False) -> None:
    """Check that a run is intact: journal, gold rows, models, derived files. Exit code 1 if it is not."""
    from stepsynth.report.verify import check_run

    check = check_run(folder)
    findings = check.findings
    if as_json:
        problems = [asdict(finding) for finding in findings]
        print_json({"run": folder.resolve().name, "whole": not findings, "problems": problems, "notes": check.notes})
    else:
        for note in check.notes:
            typer.echo(note, err=True)
        for finding in findings:
            typer.echo(str(finding))
        typer.echo(f"{folder}: {_verdict(folder, len(findings))}")
    if findings:
        raise typer.Exit(1)


def cancel(folder: RunPath, as_json: Json = False) -> None:
    """Ask the provider to cancel a run's open batches (teacher.mode: batch)."""
    from stepsynth.cli.cancelling import cancel_batches, print_cancelled

    found = cancel_batches(folder)
    print_json({"run": folder.resolve().name, "batches": found}) if as_json else print_cancelled(found)


def predict(
    folder: RunPath,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="CSV, TSV, JSON, JSON Lines, Parquet, Excel, or .txt with one text per line."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text, in the place of a file; may be repeated.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column to read: review, or text=review; also text1=..., context=... and so on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write here instead of standard output: .csv, .tsv, .jsonl or .parquet.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, tsv, jsonl or parquet; default: by the name of --out.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the file's other columns, or only the texts.")] = True,
    threshold: Annotated[
        float | None, typer.Option(metavar="P", help="Abstain where the prediction's probability is below P, from 0 to 1.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="CSV: do not escape cells that a spreadsheet may run as formulas.")
    ] = False,
    round_number: Annotated[int | None, typer.Option("--round", help="Use the student of this round, not the best one.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    sheet: Sheet = None,
    jobs: Annotated[
        int | None, typer.Option(help="Number of parts to predict at once, each in a process; default: one, here.")
    ] = None,
    on: Annotated[str | None, typer.Option(metavar="WORKERS", help="Where to predict: processes, ray or ray:HOST:PORT.")] = None,
    as_json: Json = False,
) -> None:
    """Predict labels and probabilities for new texts with a run's student."""
    from stepsynth.cli.predicting import Output, parse_columns, predict_file, texts_as_file

    how = reading(encoding, delimiter, sheet)
    with texts_as_file(folder, text or [], file, [*(["--column"] if column else []), *(f"--{name}" for name in how)]) as given:
        predict_file(
            folder,
            given,
            columns=parse_columns(column or [], folder),
            output=Output(out, "json" if as_json else form, exact=exact),
            round_number=round_number,
            reading=how,
            keep=keep,
            threshold=threshold,
            jobs=jobs,
            on=on,
        )


def _verdict(folder: Path, problems: int) -> str:
    """Return the verdict of `verify` in words."""
    if problems:
        return counted(problems, "problem")
    from stepsynth.cli.running import read_status

    return "intact" if read_status(folder)["state"] != "unfinished" else "nothing is damaged; the run is unfinished"


# In the order of the help.
COMMANDS = (status, runs, report, review, export, verify, cancel, predict, serve)
