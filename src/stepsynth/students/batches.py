"""From texts to padded batches: similar lengths together, mixed anew every epoch.

Tokenised once, texts of similar length share a batch. Training batches are drawn anew every
epoch; for answers, batches go by length and content alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import random

    import torch

__all__ = ["Network", "Tokenizer", "Tokens", "forward", "length_groups", "longest", "tokenise"]

# transformers' own annotations are too loose to gain anything from them.
Network: TypeAlias = Any
Tokenizer: TypeAlias = Any
Tokens = list[int]

_EVAL_TOKENS = 4096
_POOL = 4


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[Tokens]:
    """Return the token ids of each text, at most ``max_length`` and at least one."""
    if not texts:
        return []
    # A lone surrogate cannot be encoded; tokenizers would stop with a TypeError that names no row.
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    encoded = tokenizer(clean, truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False)
    rows: list[Tokens] = encoded["input_ids"]
    return [row or [tokenizer.pad_token_id] for row in rows]


def longest(wanted: int, network: Network, tokenizer: Tokenizer) -> int:
    """Return the longest text in tokens that both the config and the base model allow."""
    positions = getattr(network.config, "max_position_embeddings", None) or wanted
    return int(min(wanted, positions, tokenizer.model_max_length))


def length_groups(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    """Return an order of the rows in which each slice of ``batch_size`` holds rows of similar length.

    Rows are shuffled, and sorted by length only within pools of four batches. Sorting them all would save
    a few more percent of the tokens, but a class whose texts are all short would come in a row of batches
    of its own. The last, smaller slice holds any rows, so that they are not always the longest.
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


def forward(network: Network, tokenizer: Tokenizer, rows: Sequence[Tokens]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield ``(positions, logits)`` for batches of at most 4096 padded tokens, short rows first.

    The logits, shape (positions, labels), are on the CPU.
    """
    import torch
    from transformers import DataCollatorWithPadding

    pad: Any = DataCollatorWithPadding(tokenizer)
    order = sorted(range(len(rows)), key=lambda position: (len(rows[position]), rows[position]))
    with torch.inference_mode():
        while order:
            size = 1
            while size < len(order) and len(rows[order[size]]) * (size + 1) <= _EVAL_TOKENS:
                size += 1
            batch, order = order[:size], order[size:]
            inputs = pad([{"input_ids": rows[position]} for position in batch]).to(network.device)
            yield batch, network(**inputs).logits.cpu()
