"""The library's public face: the nouns of a config, `synthesize`, `plan` and `compare`, and what they give back."""

from __future__ import annotations

__all__ = []
