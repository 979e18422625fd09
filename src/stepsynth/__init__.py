"""stepsynth: training sets for small models, written by large ones, steered by mistakes."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
