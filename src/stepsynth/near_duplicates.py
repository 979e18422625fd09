"""Which texts nearly repeat others: a word added, a number changed, other punctuation.

    seen = NearDuplicates(0.8)
    seen.add(["Where is my invoice?"], [("billing",)])
    seen.judge(["Where is my new invoice?"], [("billing",)])

Two texts are as similar as the sets of their character trigrams: what they share, divided by all that either has (Jaccard;
Broder 1997). scikit-learn hashes the trigrams and what is shared is counted in whole numbers, so every machine and every resumed
run gives the same answer. Texts themselves are not kept.

Most pairs are never counted. Of each set, its rarest trigrams are looked at first: as many as a near-duplicate may lack, and
eight more. Two near-duplicates have eight of these in common, or all that they share if that is less (prefix filtering;
Chaudhuri et al. 2006), and a sparse product finds the pairs for which that is so.
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
# So many of the rarest trigrams have to be shared. With more, the product takes longer, and fewer other pairs are counted.
_COMMON = 8
# Pairs that are counted together.
_PAIRS = 16384
# A quotient that is rounded up may reach the similarity: then a little less is shared.
_SLACK = 1 - 1e-9


class _Texts(NamedTuple):
    """Texts as trigrams.

    Attributes:
        vectors: (texts, columns), 1 where a text has a trigram.
        rarest: the same with the rarest trigrams alone.
        numbers: group of each text.
    """

    vectors: Any
    rarest: Any
    numbers: Any


class _Block(NamedTuple):
    """Remembered texts.

    Attributes:
        vectors: as in `_Texts`.
        turned: (columns, texts), the rarest trigrams.
        sizes: trigrams of each text.
        numbers: group of each text.
    """

    vectors: Any
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
        # Place of each column by how rare it is.
        self._ranks: Any = None
        # Whole blocks, then the rest.
        self._blocks: list[_Block] = []
        self._rest: list[_Texts] = []
        self._last: _Block | None = None

    def add(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
        """Remember texts.

        Args:
            texts: the texts.
            groups: what each is compared within; equal sequences are one group.
        """
        for start in range(0, len(texts), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._take(self._read(texts[part], groups[part]))

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
            read = self._read(texts[part], groups[part])
            near = self._known(read) | kept._known(read)
            for later, earlier in self._pairs(read, self._block(read)):
                # In this order, an earlier text's own verdict is final.
                near[later] |= earlier < later and not near[earlier]
            kept._take(_Texts(*(values[~near] for values in read)))
            found += near.tolist()
        return found

    def known(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> list[bool]:
        """Return for each text whether it nearly repeats a remembered one; see `judge`."""
        found: list[bool] = []
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            found += self._known(self._read(texts[part], groups[part])).tolist()
        return found

    def _read(self, texts: Sequence[str], groups: Sequence[Sequence[str]]) -> _Texts:
        # The spaces make the first and the last letter count like those within.
        vectors = self._trigrams.transform([f" {' '.join(word_runs(read_form(text)))} " for text in texts])
        said = ["\0".join((str(len(group)), *group)).encode("utf-8", "surrogatepass") for group in groups]
        digests = b"".join(hashlib.blake2b(each, digest_size=8).digest() for each in said)
        return _Texts(vectors, self._rarest(vectors), self._numpy.frombuffer(digests, dtype=self._numpy.uint64))

    def _rarest(self, vectors: Any) -> Any:
        """Return of each text as many of its rarest trigrams as a near-duplicate may lack, and eight more."""
        np = self._numpy
        if self._ranks is None:
            # Any order finds the same pairs, if it stays. That of the first texts leaves few pairs to count.
            self._ranks = np.empty(_COLUMNS, dtype=np.int32)
            order = np.argsort(np.bincount(vectors.indices, minlength=_COLUMNS), kind="stable")
            self._ranks[order] = np.arange(_COLUMNS, dtype=np.int32)
        sizes = np.diff(vectors.indptr)
        most = np.minimum(sizes, sizes - self._least(sizes) + _COMMON)
        texts = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((self._ranks[vectors.indices], texts))
        taken = np.arange(len(order)) - np.repeat(vectors.indptr[:-1], sizes) < np.repeat(most, sizes)
        columns, ends = vectors.indices[order][taken], np.concatenate([[0], np.cumsum(most)])
        return self._sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=vectors.shape)

    def _least(self, sizes: Any) -> Any:
        """Return how many trigrams near-duplicates share if the larger one has so many."""
        return self._numpy.ceil(self._similarity * _SLACK * sizes).astype(self._numpy.int64)

    def _take(self, read: _Texts) -> None:
        if not len(read.numbers):
            return
        self._rest.append(read)
        self._last = None
        if sum(len(own.numbers) for own in self._rest) >= _BLOCK:
            self._blocks.append(self._joined())
            self._rest.clear()

    def _joined(self) -> _Block:
        vectors = self._sparse.vstack([own.vectors for own in self._rest], format="csr")
        rarest = self._sparse.vstack([own.rarest for own in self._rest], format="csr")
        return self._block(_Texts(vectors, rarest, self._numpy.concatenate([own.numbers for own in self._rest])))

    def _block(self, read: _Texts) -> _Block:
        return _Block(read.vectors, read.rarest.T.tocsr(), self._numpy.diff(read.vectors.indptr), read.numbers)

    def _known(self, read: _Texts) -> Any:
        near = self._numpy.zeros(len(read.numbers), dtype=bool)
        if self._rest and self._last is None:
            self._last = self._joined()
        for block in (*self._blocks, *([self._last] if self._last else [])):
            for place, _ in self._pairs(read, block):
                near[place] = True
        return near

    def _pairs(self, read: _Texts, block: _Block) -> list[tuple[int, int]]:
        """Return the places of near-duplicates in the texts and in the block, in order."""
        np = self._numpy
        sizes = np.diff(read.vectors.indptr)
        shared = (read.rarest @ block.turned).tocsr()
        # Most entries end here, so nothing else is looked up for them.
        enough = np.repeat(np.minimum(self._least(sizes), _COMMON).astype(np.float32), np.diff(shared.indptr))
        places = np.flatnonzero(shared.data >= enough)
        rows, columns = np.searchsorted(shared.indptr, places, side="right") - 1, shared.indices[places]
        own, others = sizes[rows], block.sizes[columns]
        alike = read.numbers[rows] == block.numbers[columns]
        alike &= self._least(np.maximum(own, others)) <= np.minimum(own, others)
        rows, columns, union = rows[alike], columns[alike], (own + others)[alike]
        found: list[tuple[int, int]] = []
        for start in range(0, len(rows), _PAIRS):
            part = slice(start, start + _PAIRS)
            both = read.vectors[rows[part]].multiply(block.vectors[columns[part]])
            # Counts in float32 are exact, and a quotient is rounded in one way only.
            counts = np.asarray(both.sum(axis=1)).ravel().astype(np.float64)
            near = counts / (union[part] - counts) >= self._similarity
            found += zip(rows[part][near].tolist(), columns[part][near].tolist(), strict=True)
        return sorted(found)
