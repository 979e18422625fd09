"""Options that several commands share, and the printing of their ``--json``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stepsynth.cli.screens import json_text

__all__ = [
    "AnswersFile",
    "ConfigPath",
    "Delimiter",
    "Encoding",
    "Jobs",
    "Json",
    "On",
    "Overrides",
    "Quiet",
    "RunPath",
    "Sheet",
    "Track",
    "print_json",
    "reading",
]

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config, as written by `stepsynth init`.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key, e.g. method.rounds=3.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
AnswersFile = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Use this answers file instead of the default.")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME", help="Also report to mlflow, wandb, tensorboard or trackio; may be repeated."),
]
Jobs = Annotated[int | None, typer.Option(help="Number of students to train at once, in processes; default: one, here.")]
On = Annotated[str | None, typer.Option(metavar="WORKERS", help="Where to train: processes, ray or ray:HOST:PORT.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and, at the end, the folder.")]

Encoding = Annotated[str | None, typer.Option(help="Encoding of a text file that is not UTF-8, e.g. cp1252.")]
Delimiter = Annotated[str | None, typer.Option(help="Delimiter of a table's cells; detected when not given.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet to read, if an Excel file has several.")]


def print_json(value: Any) -> None:
    """Print one JSON value."""
    typer.echo(json_text(value))


def reading(encoding: str | None, delimiter: str | None, sheet: str | None) -> dict[str, str]:
    """Return how to read a file, with the keys of a config's source."""
    given = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet}
    return {name: value for name, value in given.items() if value is not None}
