"""Trains only those rows of the embedding matrix whose tokens occur.

The others get no gradient, yet an optimiser streams all of them through memory in every step:
in a student of 22 million weights they are half of all weights. The result is the same as training
the whole matrix, except for the weight decay of unused rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["only_used_embeddings"]


@contextmanager
def only_used_embeddings(network: Any, rows: Sequence[Sequence[int]], padding: int) -> Iterator[None]:
    """Replace the network's embedding by a small matrix of the used rows; restore the full one at the end.

    A hook renumbers the token ids on their way into the embedding, so that the network itself
    still sees the true ids. Tied weights and embeddings with extra options are left alone.

    Args:
        network: a transformers model.
        rows: token ids of every text that the network will see in the block.
        padding: id of the padding token.
    """
    import torch

    embedding = network.get_input_embeddings()
    tied = sum(p is embedding.weight for p in network.state_dict(keep_vars=True).values()) > 1
    if type(embedding) is not torch.nn.Embedding or embedding.sparse or embedding.max_norm is not None or tied:
        yield
        return
    full, size, pad_index = embedding.weight, embedding.num_embeddings, embedding.padding_idx
    extra = {padding} if pad_index is None else {padding, pad_index}
    used = torch.tensor(sorted(extra.union(*rows)), device=full.device)
    renumber = torch.zeros(size, dtype=torch.long, device=full.device)
    renumber[used] = torch.arange(len(used), device=full.device)
    # The network may be moved or copied to several devices later.
    hook = embedding.register_forward_pre_hook(lambda _, inputs: (renumber.to(inputs[0].device)[inputs[0]], *inputs[1:]))
    embedding.weight = torch.nn.Parameter(full.detach()[used])
    embedding.num_embeddings = len(used)
    embedding.padding_idx = None if pad_index is None else int(renumber[pad_index])
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            full[used] = embedding.weight.to(full.device)
            full.data = full.data.to(embedding.weight.device)
        embedding.weight, embedding.num_embeddings, embedding.padding_idx = full, size, pad_index
