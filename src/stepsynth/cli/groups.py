"""The commands of ``stepsynth models`` and ``stepsynth cache``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepsynth.cli.options import AnswersFile, Json, Overrides, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cache_app", "models_app"]

models_app = typer.Typer(no_args_is_help=True, help="List and pull the embedded models; check what a teacher can do.")
cache_app = typer.Typer(no_args_is_help=True, help="The answers that all your runs share: list, verify, prune.")


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the embedded models: size, memory, licence, measured speed, and whether they are in the cache."""
    from stepsynth.cli.models import list_models, print_models

    found = list_models()
    print_json(found) if as_json else print_models(found)


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
        print_json(found)


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
    from stepsynth.teachers.check_endpoints import EndpointsCheck

    teacher, budget = load_teacher(config, overrides)
    settled = settle_teacher(teacher, report=lambda line: typer.echo(line, err=True), fetch=True)
    check = (EndpointsCheck if len(settled.base_urls) > 1 else TeacherCheck)(settled, budget)
    if not as_json:
        print_cost(check)
    found = check_config(check)
    print_json(found) if as_json else print_check(found)
    if check.problem is not None:
        raise check.problem


@cache_app.command("list")
def cache_list(file: AnswersFile = None, as_json: Json = False) -> None:
    """Show where answers are kept, and how many from each teacher."""
    from stepsynth.cli.cache import find_file, list_answers, print_list

    found = list_answers(find_file(file))
    print_json(found) if as_json else print_list(found)


@cache_app.command("verify")
def cache_verify(
    file: AnswersFile = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove damaged answers.")] = False,
    as_json: Json = False,
) -> None:
    """Check the file and every answer in it against the key of its request; exit code 1 if any is damaged."""
    from stepsynth.cli.cache import find_file, print_verified, verify_answers

    found = verify_answers(find_file(file), remove=remove)
    print_json(found) if as_json else print_verified(found)
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
    print_json(found) if as_json else print_pruned(found)
