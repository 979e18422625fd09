"""Windows over long contexts: the question and a piece of the context, overlapping the next piece.

A passage is often longer than a network's input. The tokenizer cuts it into windows; this module
records which characters of the context each token of a window covers. Imports NumPy immediately;
it is itself imported only when a student reads questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from stepsynth.students.batches import Row, Tokenizer, encodable

if TYPE_CHECKING:
    from stepsynth.types import Span

__all__ = ["Window", "cut", "locate"]

# Offsets come as tuples, which take twenty times the memory of the final arrays.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Window:
    """One input of the network.

    Attributes:
        example: position of the question.
        row: the network's input.
        first: index of the window's first context token in the row.
        offsets: (context tokens, 2) start and exclusive end of each context token, in characters of
            the whole context. A token with equal ends covers no character.
    """

    example: int
    row: Row
    first: int
    offsets: Any


def cut(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, stride: int, *, segments: bool) -> list[Window]:
    """Cut each context into windows of at most ``max_length`` tokens, in the order of ``texts``.

    A question may take up half a window; a longer one loses its end. Neighbouring windows share
    ``stride`` tokens, or fewer, so that at least a quarter of the space for the context is new.

    Args:
        tokenizer: a fast one, since others give no offsets.
        texts: ``(question, context)`` pairs.
        max_length: tokens per window, question and special tokens included.
        stride: tokens that neighbouring windows share.
        segments: whether rows come with ``token_type_ids``.
    """
    space = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    questions, lengths = _shorten(tokenizer, [encodable(question) for question, _ in texts], space // 2)
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        room = space - length
        groups.setdefault(min(stride, room - max(1, room // 4)), []).append(position)
    windows: list[Window] = []
    for shared, positions in sorted(groups.items()):
        for begin in range(0, len(positions), _CHUNK):
            chunk = positions[begin : begin + _CHUNK]
            encoded = tokenizer(
                [questions[position] for position in chunk],
                [encodable(texts[position][1]) for position in chunk],
                truncation="only_second",
                max_length=max_length,
                stride=shared,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=segments,
            )
            windows += [_window(encoded, index, chunk[of]) for index, of in enumerate(encoded["overflow_to_sample_mapping"])]
    return sorted(windows, key=lambda window: window.example)


def locate(windows: Sequence[Window], answer: Span) -> list[tuple[int, int] | None]:
    """Return the first and last token of the answer in each window of one example; ``None`` if it is incomplete.

    Tokens that cover only part of the answer's first or last word count as part of the answer.
    """
    end = answer.start + len(answer.text)
    inside = [_overlap(window.offsets, answer.start, end) for window in windows]
    reached = [window.offsets[found] for window, found in zip(windows, inside, strict=True) if len(found)]
    if not reached:
        return [None] * len(windows)
    whole = min(offsets[0][0] for offsets in reached), max(offsets[-1][1] for offsets in reached)
    return [
        (window.first + int(found[0]), window.first + int(found[-1]))
        if len(found) and (window.offsets[found[0]][0], window.offsets[found[-1]][1]) == whole
        else None
        for window, found in zip(windows, inside, strict=True)
    ]


def _overlap(offsets: Any, start: int, end: int) -> Any:
    """Return the indices of tokens that overlap ``start:end``."""
    return numpy.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 1] > offsets[:, 0]))


def _window(encoded: Any, index: int, example: int) -> Window:
    """Return one window of a tokenizer's output."""
    row = {name: encoded[name][index] for name in ("input_ids", "token_type_ids") if name in encoded}
    sides = encoded.sequence_ids(index)
    first, count = (sides.index(1) if 1 in sides else 0), sides.count(1)
    offsets = encoded["offset_mapping"][index][first : first + count]
    return Window(example, row, first, numpy.asarray(offsets, dtype=numpy.int32).reshape(-1, 2))


def _shorten(tokenizer: Tokenizer, questions: Sequence[str], most: int) -> tuple[list[str], list[int]]:
    """Return the questions, cut to at most ``most`` tokens, and their lengths in tokens."""
    short, lengths = list(questions), [0] * len(questions)
    left = list(range(len(short)))
    while left:
        encoded = tokenizer(
            [short[position] for position in left],
            add_special_tokens=False,
            truncation=True,
            max_length=most + 1,
            return_offsets_mapping=True,
        )
        for position, ids, offsets in zip(left, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            lengths[position] = len(ids)
            if len(ids) > most:
                # A word cut in two may have more tokens than before, hence the loop; the text always gets shorter.
                short[position] = short[position][: min(offsets[most - 1][1], len(short[position]) - 1)]
        left = [position for position in left if lengths[position] > most]
    return short, lengths
