"""What temporary students said of rows, kept until it is asked for again: by cells with the same rows, or by a later recipe.

A file is named by a digest of what a student learned from and which rows it was asked about. Each can be made again.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from stepsynth.runtime.files import write_atomic
from stepsynth.types import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.types import Example

__all__ = ["Asides"]


class Asides:
    """A folder of predictions.

    Args:
        folder: where they are kept; ``None`` keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, digest: str, rows: Sequence[Example]) -> list[Prediction] | None:
        """Return what was said of the rows; ``None`` if it is not kept."""
        file = self._file(digest)
        if file is None or not file.is_file():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        return [Prediction(row.id, *said) for row, said in zip(rows, found, strict=True)]

    def keep(self, digest: str, predictions: Sequence[Prediction]) -> None:
        """Keep predictions under a digest."""
        if file := self._file(digest):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(file, json.dumps([[p.label, dict(p.probabilities), p.start] for p in predictions]))

    def clear(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, digest: str) -> Path | None:
        return self._folder / f"{digest}.json" if self._folder else None
