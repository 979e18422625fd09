"""``export``: what was written for others, and what was or would be pushed to the hub."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from stepsynth.cli.screens import plain_text
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.exporting import Exported
    from stepsynth.exporting.conversion import StudentExport

__all__ = ["export_values", "print_export"]


def export_values(written: Exported) -> dict[str, Any]:
    """Return the outcome as JSON values."""
    return {
        "folder": str(written.folder),
        "data": None if written.data is None else str(written.data),
        "student": None if written.student is None else str(written.student),
        "notes": list(written.notes),
        "proof": None if written.proof is None else _proof_values(written.proof),
        "push": [
            {"repository": upload.repository, "kind": upload.kind, "url": upload.url or None, "files": upload.files}
            for upload in written.uploads
        ],
    }


def _proof_values(proof: StudentExport) -> dict[str, Any]:
    """Return what was proved of a converted student as JSON values; scores are between 0 and 1."""
    found = proof.agreement
    return {
        "form": proof.form,
        "precision": proof.precision,
        "bytes": proof.model_bytes,
        "trained_bytes": proof.trained_bytes,
        "rows": {split: part.rows for split, part in proof.splits.items()},
        "same_answers": found.same,
        "largest_probability_difference": found.furthest,
        "metric": found.metric,
        "trained": found.torch,
        "exported": found.exported,
        "difference": found.difference.difference,
        "ci95": list(found.difference.ci95),
    }


def print_export(run: Path, written: Exported, *, public: bool = False) -> None:
    """Print what was written and pushed, or would be pushed, into public repositories if so."""
    for note in written.notes:
        typer.echo(plain_text(note), err=True)
    for what, place in (("rows", written.data), ("student", written.student)):
        if place is not None:
            typer.echo(f"{what}: {place}")
    if written.proof is not None:
        typer.echo(f"  {written.proof}")
    for upload in written.uploads:
        if upload.url:
            typer.echo(f"pushed {counted(len(upload.files), 'file')} ({_size(upload.size)}): {upload.url}")
            continue
        typer.echo(f"would go to the {upload.kind} repository {upload.repository} ({_size(upload.size)}):")
        for name, size in upload.files.items():
            typer.echo(f"  {_size(size):>9}  {name}")
    unsent = [upload for upload in written.uploads if not upload.url]
    if unsent:
        paths = f"{shlex.quote(str(run))} {shlex.quote(str(written.folder))}"
        send = f"stepsynth export {paths} --push {unsent[0].repository}{' --public' * public}"
        typer.echo(f"Nothing was sent. To send it: {send}")


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
