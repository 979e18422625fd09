"""Which texts nearly repeat others: a word added, a number changed, other punctuation.

    seen = NearDuplicates(0.8)
    seen.add(["Where is my invoice?"], [("billing",)])
    seen.judge(["Where is my new invoice?"], [("billing",)])

Two texts are as similar as the sets of their character trigrams: what they share, divided by all that either has (Jaccard;
Broder 1997). scikit-learn hashes the trigrams and a sparse product counts what is shared, in whole numbers, so every machine
and every resumed run gives the same answer. Texts themselves are not kept.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from stepsynth.runtime.imports import importing
from stepsynth.words import read_form, word_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NearDuplicates"]

_SIZE = 3
# At this many columns, a text of a hundred trigrams has one chance in a few thousand that another text's trigram looks like
# one of its own.
_COLUMNS = 2**18
# Texts judged together: bounds the memory of a product.
_BATCH = 256
# Texts of a block, whose transposed matrix is made once.
_BLOCK = 8192


class _Block(NamedTuple):
    """Remembered texts.

    Attributes:
        turned: (columns, texts), 1 where a text has a trigram.
        sizes: trigrams of each text.
        numbers: group of each text.
    """

    turned: Any
    sizes: Any
    numbers: Any


class NearDuplicates:
    """Remembers texts, and tells of others whether they nearly repeat one.

    Every text has a group, and only texts of the same group are compared. Case, punctuation and white space do not count. A text
    without a letter or digit is like no other.

    Args:
        similarity: from this similarity on, two texts are near-duplicates; above 0, at most 1.

    Examples:
        >>> seen = NearDuplicates(0.7)
        >>> seen.add(["Where is my invoice?"], [()])
        >>> seen.judge(["where is my invoice", "Where is my new invoice?", "Cancel my order."], [(), (), ()])
        [True, True, False]
    """

    def __init__(self, similarity: float) -> None:
        with importing():
            import numpy
            from scipy import sparse
            from sklearn.feature_extraction.text import HashingVectorizer

        self._similarity = similarity
        self._numpy, self._sparse = numpy, sparse
        self._trigrams = HashingVectorizer(
            analyzer="char",
            ngram_range=(_SIZE, _SIZE),
            n_features=_COLUMNS,
            binary=True,
            norm=None,
            alternate_sign=False,
            lowercase=False,
            dtype=numpy.float32,
        )
        # Whole blocks, then the rest.
        self._blocks: list[_Block] = []
        self._rest: list[tuple[Any, Any]] = []
        self._last: _Block | None = None

    def add(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
        """Remember texts.

        Args:
            texts: the texts.
            groups: what each is compared within; equal sequences are one group.
        """
        for start in range(0, len(texts), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._take(self._vectors(texts[part]), self._numbers(groups[part]))

    def judge(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> list[bool]:
        """Return for each text whether it nearly repeats a remembered one, or an earlier one of these that does not.

        Args:
            texts: the texts, in order; none is remembered.
            groups: as in `add`.
        """
        found: list[bool] = []
        kept = NearDuplicates(self._similarity)
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            vectors, numbers = self._vectors(texts[part]), self._numbers(groups[part])
            near = self._known(vectors, numbers) | kept._known(vectors, numbers)
            for later, earlier in self._pairs(vectors, numbers, self._block(vectors, numbers)):
                # In this order, an earlier text's own verdict is final.
                near[later] |= earlier < later and not near[earlier]
            kept._take(vectors[~near], numbers[~near])
            found += near.tolist()
        return found

    def known(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> list[bool]:
        """Return for each text whether it nearly repeats a remembered one; see `judge`."""
        found: list[bool] = []
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            found += self._known(self._vectors(texts[part]), self._numbers(groups[part])).tolist()
        return found

    def _vectors(self, texts: Sequence[str]) -> Any:
        # The spaces make the first and the last letter count like those within.
        return self._trigrams.transform([f" {' '.join(word_runs(read_form(text)))} " for text in texts])

    def _numbers(self, groups: Sequence[Sequence[str]]) -> Any:
        said = ["\0".join((str(len(group)), *group)).encode("utf-8", "surrogatepass") for group in groups]
        digests = b"".join(hashlib.blake2b(each, digest_size=8).digest() for each in said)
        return self._numpy.frombuffer(digests, dtype=self._numpy.uint64)

    def _take(self, vectors: Any, numbers: Any) -> None:
        if not len(numbers):
            return
        self._rest.append((vectors, numbers))
        self._last = None
        if sum(len(own) for _, own in self._rest) >= _BLOCK:
            self._blocks.append(self._joined())
            self._rest.clear()

    def _joined(self) -> _Block:
        vectors = self._sparse.vstack([vectors for vectors, _ in self._rest], format="csr")
        return self._block(vectors, self._numpy.concatenate([numbers for _, numbers in self._rest]))

    def _block(self, vectors: Any, numbers: Any) -> _Block:
        return _Block(vectors.T.tocsr(), self._numpy.diff(vectors.indptr), numbers)

    def _known(self, vectors: Any, numbers: Any) -> Any:
        near = self._numpy.zeros(len(numbers), dtype=bool)
        if self._rest and self._last is None:
            self._last = self._joined()
        for block in (*self._blocks, *([self._last] if self._last else [])):
            for place, _ in self._pairs(vectors, numbers, block):
                near[place] = True
        return near

    def _pairs(self, vectors: Any, numbers: Any, block: _Block) -> list[tuple[int, int]]:
        """Return the places of near-duplicates in the vectors and in the block, in order."""
        shared = (vectors @ block.turned).tocoo()
        own, others = self._numpy.diff(vectors.indptr)[shared.row], block.sizes[shared.col]
        # Counts in float32 are exact, and a quotient is rounded in one way only.
        counts = shared.data.astype(self._numpy.float64)
        near = counts / (own + others - counts) >= self._similarity
        near &= numbers[shared.row] == block.numbers[shared.col]
        return sorted(zip(shared.row[near].tolist(), shared.col[near].tolist(), strict=True))
