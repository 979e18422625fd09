"""Services that any room may need: stops, progress, whole files, imports from several threads, fail points."""

from __future__ import annotations

__all__ = []
