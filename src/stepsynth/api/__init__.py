"""The public API: the nouns of a config, `synthesize`, `plan` and `compare`, and the objects that they return."""

from __future__ import annotations

__all__ = []
