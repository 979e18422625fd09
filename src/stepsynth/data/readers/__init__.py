"""One module per file format: text, tables, JSON, columns (Parquet, Arrow, the hub), sheets."""

from __future__ import annotations

__all__ = []
