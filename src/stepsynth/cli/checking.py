"""``models check``: print what a teacher can do. A bug report about a teacher should include it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import dollars
from stepsynth.config.endpoints import shown_addresses
from stepsynth.errors import RunError
from stepsynth.generation.room import advised_room
from stepsynth.teachers.findings import address_of, one_line
from stepsynth.teachers.learned import KEPT_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from stepsynth.teachers.check import TeacherCheck
    from stepsynth.teachers.purse import Bill

__all__ = ["check_config", "print_check", "print_cost"]

_ORDER = (
    *("server", "model list", "model limits", "system turns", "seed", "temperature", "top_p", "min_p"),
    *("repetition_penalty", "max tokens", "n", "JSON", "logprobs", "usage", "thoughts", "finish reason"),
    *("speed", "parallel", "rate headers", "wait", "streaming"),
)


def check_config(check: TeacherCheck) -> dict[str, Any]:
    """Run a check and return its findings as plain values; ``check.problem`` is what would keep a run from working.

    Args:
        check: a check that was not run yet.
    """
    check.run()
    if check.cut_off and check.problem is None:
        what = f"the answer was cut off at {check.cut_off:,} tokens, before any text."
        room = advised_room(check.cut_off)
        check.problem = RunError(what, hint=f"Set teacher.reasoning_tokens to about {room:,} (room for thoughts).")
    # Of several servers, each has a line.
    servers = [name for name in check.findings if name.startswith("server ")]
    findings = {name: check.findings[name] for name in (*servers, *_ORDER) if name in check.findings}
    return {
        **_head(check),
        "works": check.problem is None,
        "problem": None if check.problem is None else one_line(str(check.problem), 1000),
        "worst_case": _bill(check.worst),
        "spent": {**_bill(check.purse.spent), "refused": check.refused},
        "findings": {name: {"state": finding.state, "found": one_line(finding.found)} for name, finding in findings.items()},
        "rate_headers": check.headers,
        "learned": dict(check.learned),
        "kept": None if check.kept is None else str(check.kept),
    }


def print_cost(check: TeacherCheck) -> None:
    """Print which teacher is asked and what that may cost, before anything is sent."""
    console, head, worst = _console(), _head(check), check.worst
    where = f"{head['backend']}, {head['model']!r}" + (f", {head['address']}" if head["address"] else "")
    console.print(f"stepsynth {head['stepsynth']}, {head['date']}", markup=False, soft_wrap=True)
    console.print(f"{'teacher':18} {where}", markup=False, soft_wrap=True)
    usd = "price unknown" if worst.usd is None else "free" if worst.usd == 0 else f"{dollars(worst.usd)} USD"
    most = f"at most {worst.tokens:,} tokens with {worst.requests} requests: {usd}"
    console.print(f"{'cost':18} {most}; refused requests, which cost nothing, come on top", markup=False, soft_wrap=True)


def print_check(found: dict[str, Any]) -> None:
    """Print what `check_config` found, one line each."""
    from rich.table import Table
    from rich.text import Text

    console, table = _console(), Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("setting", min_width=18, no_wrap=True)
    table.add_column("found", overflow="fold")
    for name, words, state in _lines(found):
        if console.is_terminal:
            table.add_row(Text(name), Text(words, style=_STYLES.get(state, "")))
        else:
            # In a file or a pipe each finding is one line, whatever its length.
            console.print(f"{name:18} {words}", markup=False, soft_wrap=True)
    if console.is_terminal:
        console.print(table)


_STYLES = {"refused": "yellow", "ignored": "yellow", "not tried": "dim", "none": "dim"}


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, finding in found["findings"].items():
        state, words = finding["state"], finding["found"]
        yield name, words if state == "seen" else f"{state}: {words}" if words else state, state
    spent = found["spent"]
    usd = f", {dollars(spent['usd'])} USD" if spent["usd"] else ""
    refused = f", {spent['refused']:,} of them refused at no cost" if spent["refused"] else ""
    yield "spent", f"{spent['requests']:,} requests{refused}; {spent['tokens']:,} tokens{usd}", "seen"
    if found["kept"]:
        until = (datetime.now(UTC) + timedelta(days=KEPT_DAYS)).date().isoformat()
        yield "kept", f"runs use these findings until {until}: {found['kept']}", "seen"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _head(check: TeacherCheck) -> dict[str, Any]:
    from stepsynth import __version__

    config = check.config
    servers = getattr(check, "servers", config.base_urls)
    address = address_of(servers[0]) if servers else None
    return {
        "stepsynth": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "backend": config.backend,
        "model": config.model,
        "address": shown_addresses(address, len(servers)) if address else None,
    }


def _bill(bill: Bill) -> dict[str, Any]:
    return {"requests": bill.requests, "tokens": bill.tokens, "usd": bill.usd}
