"""Run the command line in this process, as a shell would see it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from stepsynth.cli import main

__all__ = ["Outcome", "stepsynth"]


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def stepsynth(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run ``stepsynth ARGUMENTS``."""
    capsys.readouterr()
    code: object = 0
    with patch.object(sys, "argv", ["stepsynth", *map(str, arguments)]):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    out, err = capsys.readouterr()
    return Outcome(code if isinstance(code, int) else 0, out, err)
