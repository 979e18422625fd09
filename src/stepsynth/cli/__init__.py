"""The command line; see `stepsynth.cli.main`."""

from __future__ import annotations

from stepsynth.cli.main import app, main

__all__ = ["app", "main"]
