"""Turns texts into padded batches of rows with similar length.

Texts are tokenised once. Training batches are redrawn every epoch; for predictions, batches depend on
length and content alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    import random

    from stepsynth.config import StudentConfig

__all__ = [
    "HEAD_FILE",
    "Network",
    "Row",
    "Tokenizer",
    "encodable",
    "forward",
    "forward_vectors",
    "length_groups",
    "longest",
    "reads_segments",
    "tokenise",
    "training_steps",
]

# transformers' own annotations are too loose to be useful.
Network: TypeAlias = Any
Tokenizer: TypeAlias = Any
# ``input_ids`` and, for two texts, ``token_type_ids`` if the network uses them.
Row: TypeAlias = dict[str, list[int]]

# The linear layer of a `pooled.PooledClassifier`. A folder without this file has one of transformers' own classifiers.
HEAD_FILE = "head.safetensors"
_EVAL_TOKENS = 4096
_POOL = 4
# Characters for each token that is read.
_LONG_TEXT = 16


def tokenise(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, *, segments: bool = False) -> list[Row]:
    """Tokenise rows to at least one and at most ``max_length`` tokens each.

    Args:
        tokenizer: the student's.
        texts: one text per row, or two per row; if two are too long together, the longer one
            is cut first, so neither ever vanishes.
        max_length: tokens per row, special tokens included.
        segments: whether to add ``token_type_ids`` to two texts; see `reads_segments`.
    """
    if not texts:
        return []
    columns = [[encodable(text) for text in column] for column in zip(*texts, strict=True)]
    if len(columns) == 2:
        pairs = [_without_remainders(tokenizer, pair, max_length) for pair in zip(*columns, strict=True)]
        columns = [list(column) for column in zip(*pairs, strict=True)]
    segments = segments and len(columns) == 2
    encoded = tokenizer(
        *columns, truncation="longest_first", max_length=max_length, return_attention_mask=False, return_token_type_ids=segments
    )
    rows: list[Row] = [{"input_ids": ids or [tokenizer.pad_token_id]} for ids in encoded["input_ids"]]
    if segments:
        for row, types in zip(rows, encoded["token_type_ids"], strict=True):
            row["token_type_ids"] = types or [0]
    return rows


def _without_remainders(tokenizer: Tokenizer, pair: tuple[str, str], max_length: int) -> tuple[str, str]:
    """Cut the ends off two texts that are far too long, after whole words: the tokens that are read stay the same.

    tokenizers pairs every piece of one's remainder with every piece of the other's: two texts of 60,000 characters would take
    a minute.
    """
    if max(map(len, pair)) <= _LONG_TEXT * max_length or not getattr(tokenizer, "is_fast", False):
        return pair
    first, second = (tokenizer(text, add_special_tokens=False, verbose=False).encodings[0] for text in pair)
    # The longer one gets the odd token, so it stays the longer one.
    swapped = len(first) > len(second)
    shorter, longer = (pair[1], pair[0]) if swapped else pair
    shorter, tokens = _cut(shorter, second if swapped else first, max_length)
    longer, _ = _cut(longer, first if swapped else second, max(max_length, tokens + 1))
    return (longer, shorter) if swapped else (shorter, longer)


def _cut(text: str, found: Any, least: int) -> tuple[str, int]:
    """Return the text up to the end of the word with its token number ``least``, and the tokens of that part."""
    words = found.word_ids
    if len(words) <= least or words[least] is None:
        return text, len(words)
    end = least + 1
    while end < len(words) and words[end] == words[least]:
        end += 1
    return text[: found.offsets[end - 1][1]], end


def encodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode by ``?``; the length stays the same.

    On a lone surrogate, tokenizers would raise a TypeError that names no row.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def longest(wanted: int, network: Network, tokenizer: Tokenizer) -> int:
    """Return the most tokens that both the config and the base model allow."""
    positions = getattr(network.config, "max_position_embeddings", None) or wanted
    return int(min(wanted, positions, tokenizer.model_max_length))


def reads_segments(network: Network) -> bool:
    """Whether the network tells two texts apart by ``token_type_ids`` (BERT does, RoBERTa does not).

    Checks the network, not the tokenizer, since a generic tokenizer does not list them among its outputs. A network in another
    engine says so itself.
    """
    if (told := getattr(network, "segments", None)) is not None:
        return bool(told)
    encoder: Network = getattr(network, "body", network)
    return "token_type_ids" in inspect.signature(encoder.forward).parameters and getattr(encoder.config, "type_vocab_size", 0) > 1


def training_steps(config: StudentConfig, rows: int) -> int:
    """Return the optimiser steps of one training: those of its epochs, or more if there are few rows.

    Args:
        config: the student's settings.
        rows: how many it learns from.
    """
    each = math.ceil(rows / config.batch_size)
    steps = max(config.epochs * each, config.min_steps)
    # Only whole epochs can be compared.
    return math.ceil(steps / each) * each if config.keep == "best" else steps


def length_groups(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    """Return an order of the rows in which each slice of ``batch_size`` has rows of similar length.

    Rows are shuffled, then sorted by length within pools of four batches. Sorting all of them would save
    a few more percent of the tokens, but a class whose texts are all short would fill consecutive
    batches. The last, smaller slice has random rows, so that it is not always the longest ones.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    full = len(order) - len(order) % batch_size
    batches = []
    for start in range(0, full, _POOL * batch_size):
        pool = sorted(order[start : min(start + _POOL * batch_size, full)], key=lengths.__getitem__)
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    rng.shuffle(batches)
    return [position for batch in batches for position in batch] + order[full:]


def forward(network: Network, tokenizer: Tokenizer, rows: Sequence[Row]) -> Iterator[tuple[list[int], Any]]:
    """Yield ``(positions, the network's output)`` for batches of at most 4096 padded tokens, short rows first.

    Batches depend on the content of the rows, not on their order.
    """
    return _forward(network, network.device, tokenizer, rows)


def forward_vectors(network: Network, tokenizer: Tokenizer, rows: Sequence[Row]) -> Iterator[tuple[list[int], Any]]:
    """Yield ``(positions, vectors)`` like `forward`: the input of a `PooledClassifier`'s head."""
    return _forward(network.vectors, network.device, tokenizer, rows)


def _forward(call: Any, device: Any, tokenizer: Tokenizer, rows: Sequence[Row]) -> Iterator[tuple[list[int], Any]]:
    with importing():
        import torch
        from transformers import DataCollatorWithPadding

    pad: Any = DataCollatorWithPadding(tokenizer)
    order = sorted(range(len(rows)), key=lambda position: (len(rows[position]["input_ids"]), *rows[position].values()))
    while order:
        size = 1
        while size < len(order) and len(rows[order[size]]["input_ids"]) * (size + 1) <= _EVAL_TOKENS:
            size += 1
        batch, order = order[:size], order[size:]
        with torch.inference_mode():
            output = call(**pad([rows[position] for position in batch]).to(device))
        yield batch, output
