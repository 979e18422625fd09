"""Turns start and end scores into an answer: the best spans of every window, then of the whole context.

A span's score is log P(start) + log P(end) within its window. Probabilities, not raw scores, are
compared across windows: in a window without the answer, training moves the probability to the first
token, which makes all its spans unlikely; the level of raw scores means nothing.
Imports torch immediately; it is itself imported only when a student answers.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from stepsynth.students.windows import Window
from stepsynth.types import Prediction

__all__ = ["CANDIDATES", "Scored", "answer", "best_spans", "log_probabilities"]

CANDIDATES = 20
# (log-probability, start, end), in characters; end is exclusive
Scored = tuple[float, int, int]


def log_probabilities(output: Any, lengths: Sequence[int]) -> torch.Tensor:
    """Return (2, windows, tokens) log-probabilities of start and end, without padding, on the CPU.

    Args:
        output: the output of a transformers question-answering model.
        lengths: tokens of each window without padding.
    """
    scores = torch.stack([output.start_logits, output.end_logits]).cpu().double()
    padding = torch.arange(scores.shape[-1]) >= torch.tensor(lengths).unsqueeze(-1)
    return scores.masked_fill(padding, -math.inf).log_softmax(-1)


def best_spans(scores: torch.Tensor, windows: Sequence[Window], max_tokens: int) -> list[list[Scored]]:
    """Return the likeliest spans of each window, at most `CANDIDATES` of them.

    All valid spans of at most ``max_tokens`` tokens within the context are compared, not only
    combinations of the best starts and ends.

    Args:
        scores: (2, windows, tokens), from `log_probabilities`.
        windows: in the same order.
        max_tokens: longest span.
    """
    outside = torch.ones(scores.shape[1:], dtype=torch.bool)
    for place, window in enumerate(windows):
        empty = window.offsets[:, 1] <= window.offsets[:, 0]
        outside[place, window.first : window.first + len(empty)] = torch.from_numpy(empty)
    starts, ends = scores.masked_fill(outside, -math.inf)
    width = min(max_tokens, starts.shape[1])
    reachable = torch.nn.functional.pad(ends, (0, width - 1), value=-math.inf).unfold(1, width, 1)
    joint = (starts.unsqueeze(-1) + reachable).flatten(1)
    values, places = joint.topk(min(CANDIDATES, joint.shape[1]))
    found = []
    for window, row, where in zip(windows, values.tolist(), places.tolist(), strict=True):
        spans = [(value, *divmod(place, width)) for value, place in zip(row, where, strict=True) if value > -math.inf]
        offsets = window.offsets.tolist()
        found.append([(v, offsets[i - window.first][0], offsets[i + more - window.first][1]) for v, i, more in spans])
    return found


def answer(example_id: str, context: str, spans: Iterable[Scored]) -> Prediction:
    """Return the likeliest text among the best spans of all windows of one context.

    The probabilities are a softmax over the `CANDIDATES` best distinct spans, summed over positions with
    the same text and rounded to six decimals; ``start`` is the likeliest of those positions.
    Without any span (an empty context) the answer is empty and has no probability.
    """
    best: dict[tuple[int, int], float] = {}
    for score, first, last in spans:
        where = _tidy(context, first, last)
        if where[0] < where[1] and score > best.get(where, -math.inf):
            best[where] = score
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:CANDIDATES]
    if not ranked:
        return Prediction(example_id, "", {}, 0)
    masses = [math.exp(score - ranked[0][1]) for _, score in ranked]
    total = math.fsum(masses)
    probabilities: dict[str, float] = {}
    starts: dict[str, int] = {}
    for ((first, last), _), mass in zip(ranked, masses, strict=True):
        text = context[first:last]
        probabilities[text] = probabilities.get(text, 0.0) + mass / total
        starts.setdefault(text, first)
    # Dictionaries keep the order of the spans, so ties go to the better span.
    label = max(probabilities, key=probabilities.__getitem__)
    shown = sorted(probabilities, key=lambda text: -probabilities[text])
    return Prediction(example_id, label, {text: round(probabilities[text], 6) for text in shown}, starts[label])


def _tidy(context: str, first: int, last: int) -> tuple[int, int]:
    """Strip outer white space, which some tokenizers include, and add trailing combining marks, which some drop."""
    while last < len(context) and unicodedata.category(context[last]).startswith("M"):
        last += 1
    while first < last and context[first].isspace():
        first += 1
    while first < last and context[last - 1].isspace():
        last -= 1
    return first, last
