"""``serve``: a run's student, or an exported one, behind HTTP."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepsynth.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from stepsynth.serving import Limits

__all__ = ["serve"]


def serve(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or an exported student.")],
    host: Annotated[str, typer.Option(help="Address to listen on; by default, only this machine can connect.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8000,
    threshold: Annotated[
        float | None, typer.Option(metavar="P", help="Abstain where the prediction's probability is below P, from 0 to 1.")
    ] = None,
    round_number: Annotated[int | None, typer.Option("--round", help="Use the student of this round, not the best one.")] = None,
    max_batch: Annotated[int, typer.Option(metavar="ROWS", help="Rows that the student reads at a time.")] = 64,
    max_rows: Annotated[int, typer.Option(metavar="ROWS", help="Rows of one request.")] = 256,
    max_body: Annotated[int, typer.Option(metavar="BYTES", help="Size of a request's body.")] = 1_048_576,
    max_waiting: Annotated[int, typer.Option(metavar="ROWS", help="Rows of all requests that may wait; beyond: 503.")] = 2048,
    max_wait: Annotated[float, typer.Option(metavar="MS", help="How long a free student waits to fill a batch.")] = 0,
) -> None:
    """Answer requests over HTTP with a run's student, until Ctrl-C."""
    from stepsynth.serving import Limits

    limits = Limits(max_batch, max_rows, max_body, max_waiting, max_wait)
    _serve_student(folder, limits, host=host, port=port, round_number=round_number, threshold=threshold)


def _serve_student(
    folder: Path, limits: Limits, *, host: str, port: int, round_number: int | None, threshold: float | None
) -> None:
    """Serve a student until Ctrl-C or SIGTERM.

    Args:
        folder: a run directory or an exported student.
        limits: of requests.
        host: where to listen.
        port: 0 for any that is free.
        round_number: of a run, use this round's student instead of the best one.
        threshold: abstain from predictions whose confidence is lower.

    Raises:
        UserError: there is no such student, the address cannot be used, or a package is missing.
        Interrupted: Ctrl-C, after the requests in progress were answered.
    """
    from stepsynth.evaluation.coverage import check_threshold
    from stepsynth.exporting.engines import library

    for package in ("fastapi", "uvicorn"):
        library(package, "stepsynth serve", "serve")
    from stepsynth.serving import open_student
    from stepsynth.serving.server import address_of, is_private, listen
    from stepsynth.serving.server import serve as serve_until

    check_threshold(threshold, "--threshold")
    with _stopping() as asked, listen(host, port) as opened:
        served = open_student(folder, round_number)

        def say() -> None:
            asked.to_drain = True
            address = address_of(opened)
            typer.echo(f"Serving {served.found} on {address} (try it: {address}/docs). Stop with Ctrl-C.")
            sys.stdout.flush()
            if not is_private(opened):
                typer.echo("Whoever reaches this address can use the student: there is no login and no encryption.", err=True)

        serve_until(served, limits, opened, stop=asked.stop, threshold=threshold, started=say)
    if asked.number == signal.SIGINT:
        raise Interrupted("stopped; every request in progress was answered.")
    typer.echo("Stopped; every request in progress was answered.", err=True)


@dataclass
class _Asked:
    """What signals asked for.

    Attributes:
        stop: set by the first signal, when requests are answered.
        number: the first signal; 0 if none came.
        to_drain: whether requests are answered; before that, and after the first one, a signal ends the command at once.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    number: int = 0
    to_drain: bool = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.to_drain or self.stop.is_set():
            # uvicorn would print the traceback of every request that is cut off.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            raise KeyboardInterrupt
        self.number = number
        self.stop.set()


@contextmanager
def _stopping() -> Iterator[_Asked]:
    """Handle signals in the block. SIGTERM is how a service is stopped: the command then ends with 0, not with 130.

    A hang-up that is ignored stays ignored.
    """
    asked = _Asked()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, asked) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
