"""How a command ends: its exit code and the one-line reason."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from stepsynth.cli.screens import BROKEN_PIPE, cut_off, flush_streams, plain_text, prepare_streams, silence_streams
from stepsynth.cli.signals import as_ctrl_c
from stepsynth.errors import Interrupted, StepsynthError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_to_end"]

_PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def run_to_end(app: Callable[[], object]) -> None:
    """Run the command line and exit with its code; known errors become one line, others keep their traceback."""
    before = prepare_streams()
    try:
        try:
            with as_ctrl_c():
                app()
        finally:
            flush_streams()
    except SystemExit as ended:
        if cut_off(before):
            _leave()
        if _was_interrupted(ended):
            _fail("stopped.", 130)
        raise
    except Interrupted as stop:
        _fail(str(stop), 130)
    except StepsynthError as error:
        _fail(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        _fail("stopped.", 130)
    except BrokenPipeError:
        _leave()
    except OSError as error:
        what = _os_error(error)
        if what is None:
            raise
        _fail(what, 2)


def _fail(message: str, code: int) -> NoReturn:
    """Print the reason, if standard error is still open, and exit."""
    with contextlib.suppress(OSError):
        typer.echo(f"stepsynth: {plain_text(message)}", err=True)
    silence_streams()
    sys.exit(code)


def _was_interrupted(ended: BaseException) -> bool:
    """Whether Ctrl-C ended the program: typer turns it into a bare exit."""
    cause = ended.__cause__ or ended.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _was_interrupted(cause))


def _leave() -> NoReturn:
    silence_streams()
    sys.exit(BROKEN_PIPE)


def _os_error(error: OSError) -> str | None:
    """Describe the fault of a path or a disk; ``None`` for a defect."""
    from stepsynth.runtime.files import DISK_ERRORS

    # Even stat fails on such a path, so the error comes from wherever it is used first.
    if error.errno == errno.ENAMETOOLONG:
        return f"the path {str(error.filename)[:60]!r}... is too long. Use a shorter one."
    if error.errno in DISK_ERRORS:
        return f"cannot write to the disk: {error.strerror}. Free some space and run the same command again."
    if error.errno in _PATH_ERRORS and error.filename is not None:
        return f"cannot use {str(error.filename)!r}: {error.strerror}. Check the path and its permissions."
    return None
