"""``cache``: list, verify and prune the answers that all runs of a user share."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import dollars
from stepsynth.config import USER_CACHE
from stepsynth.errors import ConfigError, RunError
from stepsynth.journal import AnswerStore
from stepsynth.journal.cache_admin import discard, prune, teachers, verify
from stepsynth.run import answers_path
from stepsynth.runtime.counting import counted
from stepsynth.teachers.completions import is_failure

if TYPE_CHECKING:
    from stepsynth.journal.cache_admin import TeacherUse

__all__ = ["find_file", "list_answers", "print_list", "print_pruned", "print_verified", "prune_answers", "verify_answers"]

_SHOWN = 20


def find_file(path: Path | None) -> Path:
    """Return the answers file that a command works on.

    Args:
        path: the file that the user named; ``None`` for the default one.

    Raises:
        ConfigError: no file was named, and ``STEPSYNTH_ANSWERS`` turns the default one off.
    """
    found = path or answers_path(USER_CACHE, Path())
    if found is None:
        raise ConfigError("STEPSYNTH_ANSWERS is 'off': no answers are kept.", hint="Name a file with --file.")
    return found


def list_answers(path: Path) -> dict[str, Any]:
    """Return the file's path and size, and what it holds from each teacher.

    Raises:
        RunError: the file cannot be read.
    """
    found: dict[str, Any] = {"path": str(path), "bytes": _size(path), "answers": 0, "usd": None, "teachers": []}
    if not path.is_file():
        return found
    with closing(AnswerStore.shared(path)) as store:
        uses = teachers(store)
    known = [use.usd for use in uses if use.usd is not None]
    return {
        **found,
        "answers": sum(use.answers for use in uses),
        "usd": sum(known) if known else None,
        "teachers": [_as_json(use) for use in uses],
    }


def verify_answers(path: Path, *, remove: bool = False) -> dict[str, Any]:
    """Check the file, and every answer against the key of its request; see `stepsynth.journal.cache_admin.verify`.

    Args:
        path: the file.
        remove: remove damaged answers.
    """
    found: dict[str, Any] = {"path": str(path), "checked": 0, "damaged": [], "problems": [], "removed": 0}
    if not path.is_file():
        return found
    try:
        store = AnswerStore.shared(path)
    except RunError as error:
        return {**found, "problems": [error.message]}
    with closing(store):
        checked, damaged, problems = verify(store, is_failure)
        if remove and damaged and not problems:
            discard(store, damaged)
            found["removed"] = len(damaged)
    entries = [{"key": entry.key, "max_tokens": entry.max_tokens, "reason": entry.reason} for entry in damaged]
    return {**found, "checked": checked, "damaged": entries, "problems": problems}


def prune_answers(
    path: Path, *, older_than: float | None, teacher: str | None, max_mb: float | None, everything: bool, dry_run: bool
) -> dict[str, Any]:
    """Remove answers; see `stepsynth.journal.cache_admin.prune`.

    Raises:
        ConfigError: no option selects any.
        RunError: the file cannot be read or written.
    """
    if older_than is None and teacher is None and max_mb is None and not everything:
        raise ConfigError("say what to remove: --older-than, --teacher, --max-size or --all.")
    before = _size(path)
    found: dict[str, Any] = {"path": str(path), "dry_run": dry_run, "answers": 0, "usd": 0.0, "bytes": before}
    if not path.is_file():
        return {**found, "freed_bytes": 0}
    with closing(AnswerStore.shared(path)) as store:
        gone = prune(
            store,
            older_than=older_than,
            teacher=teacher,
            max_bytes=None if max_mb is None else int(max_mb * 1e6),
            everything=everything,
            dry_run=dry_run,
        )
    after = _size(path)
    freed = gone.bytes if dry_run else max(before - after, 0)
    return {**found, "answers": gone.answers, "usd": gone.usd, "bytes": after, "freed_bytes": freed}


def print_list(found: dict[str, Any]) -> None:
    """Print what `list_answers` found."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{found['path']}  {_size_text(found['bytes'])}", markup=False, soft_wrap=True)
    if not found["teachers"]:
        console.print("No answers are kept yet.")
        return
    table = Table()
    table.add_column("teacher", overflow="fold")
    for name in ("answers", "tokens", "USD", "first", "last used"):
        table.add_column(name, justify="right")
    for use in found["teachers"]:
        usd = "unknown" if use["usd"] is None else dollars(use["usd"]) + (" and more" if use["unpriced"] else "")
        place = " ".join(filter(None, (use["backend"], use["model"], use["base_url"])))
        tokens = use["prompt_tokens"] + use["completion_tokens"]
        table.add_row(escape(place), f"{use['answers']:,}", f"{tokens:,}", usd, use["first"], use["last"])
    console.print(table)


def print_verified(found: dict[str, Any]) -> None:
    """Print what `verify_answers` found."""
    from rich.console import Console

    console = Console(highlight=False)
    for problem in found["problems"]:
        console.print(f"damaged   {problem}", markup=False)
    for entry in found["damaged"][:_SHOWN]:
        console.print(f"damaged   {entry['key'][:16]}...: {entry['reason']}", markup=False)
    if len(found["damaged"]) > _SHOWN:
        console.print(f"and {len(found['damaged']) - _SHOWN:,} more")
    console.print(f"{counted(found['checked'], 'answer')} checked, {len(found['damaged']):,} damaged", markup=False)
    if found["removed"]:
        console.print(f"{found['removed']:,} removed; a run that needs them asks again")
    elif found["problems"]:
        console.print(f"Delete {found['path']}: runs keep their own answers, and a new file will be created.", markup=False)
    elif found["damaged"]:
        console.print("Remove them with: stepsynth cache verify --remove")


def print_pruned(found: dict[str, Any]) -> None:
    """Print what `prune_answers` did."""
    from rich.console import Console

    gone, freed = ("would be removed", "would be freed") if found["dry_run"] else ("removed", "freed")
    usd = f", worth {dollars(found['usd'])} USD as far as known" if found["usd"] else ""
    console = Console(highlight=False)
    count = counted(found["answers"], "answer")
    said = f"{count} {gone}{usd}; {_size_text(found['freed_bytes'])} {freed}"
    nothing = "Nothing would be removed." if found["dry_run"] else "Nothing removed."
    console.print(said if found["answers"] else nothing, markup=False)
    console.print(f"{found['path']}  {_size_text(found['bytes'])}", markup=False, soft_wrap=True)


def _as_json(use: TeacherUse) -> dict[str, Any]:
    return {
        "backend": use.backend,
        "model": use.model,
        "base_url": use.base_url,
        "answers": use.answers,
        "prompt_tokens": use.prompt_tokens,
        "completion_tokens": use.completion_tokens,
        "usd": use.usd,
        "unpriced": use.unpriced,
        "first": _day(use.first),
        "last": _day(use.last),
    }


def _size(path: Path) -> int:
    """Return the size of the file and its write-ahead log in bytes."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _size_text(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else ""
