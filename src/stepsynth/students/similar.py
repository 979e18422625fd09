"""Which texts are most like a row, by a student's own encoder before any training.

The texts of a pool are read once: their vectors are kept in a file until the run needs them no more, so that neither a later
round nor a resumed run reads them again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.imports import importing
from stepsynth.runtime.shutdown import check_stop
from stepsynth.students.probe import FrozenEncoder
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["SimilarTexts"]

# Last digits depend on the processor: texts that are equally near to so many digits stay in their order.
_DIGITS = 4
# Texts whose tokens and vectors are held at once, beside those that are kept.
_TOGETHER = 4096
_VECTORS = "vectors"


class SimilarTexts:
    """Orders texts of a pool by their likeness to rows (cosine of mean-pooled vectors).

    Args:
        config: its base model gives the vectors.
        family: how rows are read.
        pool: the texts, in the order of their draw.
        folder: where their vectors are kept; ``None`` keeps them in memory.
    """

    def __init__(self, config: StudentConfig, family: TaskFamily, pool: Sequence[Example], folder: Path | None = None) -> None:
        self._encoder = FrozenEncoder(config, family)
        self._pool = pool
        self._places = {text.id: place for place, text in enumerate(pool)}
        self._file: Path | None = None
        if folder is not None and pool:
            read = [family.texts(text) for text in pool]
            self._file = folder / f"vectors-{digest([config.model, config.max_length, read])[:16]}.safetensors"
        self._vectors: Any = None

    def __call__(self, rows: Sequence[Example], texts: Sequence[Example], most: int | None = None) -> list[list[int]]:
        """Return for each row the places of the texts, the most similar first.

        Args:
            rows: what texts should be like.
            texts: what to choose from; texts that are not of the pool are read every time.
            most: places wanted for each row; all by default.
        """
        with importing():
            import numpy
            from sklearn.metrics.pairwise import cosine_similarity

        if not rows or not texts:
            return [[] for _ in rows]
        candidates, found = self._read(texts), []
        for row in self._encoder.features(rows).astype(candidates.dtype):
            near = cosine_similarity(row[None], candidates)[0].round(_DIGITS)
            found.append(numpy.argsort(-near, kind="stable")[:most].tolist())
        return found

    def clear(self) -> None:
        """Remove the file: nothing will be asked any more."""
        self._vectors = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            # What temporary students said may lie beside it.
            with contextlib.suppress(OSError):
                self._file.parent.rmdir()

    def _read(self, texts: Sequence[Example]) -> Any:
        """Return the vectors of texts, (texts, features) in float32."""
        places = [self._places.get(text.id, -1) for text in texts]
        if any(place < 0 or self._pool[place] is not text for place, text in zip(places, texts, strict=True)):
            return self._encoder.features(texts).astype("float32")
        if self._vectors is None:
            self._vectors = self._read_pool()
        return self._vectors[places]

    def _read_pool(self) -> Any:
        """Return the vectors of the pool, (texts, features) in float32, from the file if they are there."""
        import numpy
        from safetensors.numpy import load_file, save

        file = self._file
        if file is not None and file.is_file():
            return load_file(file)[_VECTORS]
        blocks = []
        for start in range(0, len(self._pool), _TOGETHER):
            check_stop()
            blocks.append(self._encoder.features(self._pool[start : start + _TOGETHER]).astype(numpy.float32))
        vectors = numpy.concatenate(blocks)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(file, save({_VECTORS: vectors}))
        return vectors
