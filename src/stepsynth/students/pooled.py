"""A classifier on the mean of an encoder's tokens: the mean, scaled to unit length, and one linear layer.

    network = PooledClassifier(AutoModel.from_pretrained(folder), labels=2)
    network(**batch).logits

Encoders use such means as sentence vectors more often than the first token, whose pooling layer is
not even trained in many of them. On disk it is the encoder as saved by transformers, readable by
``AutoModel.from_pretrained``, with the linear layer in `HEAD_FILE`. This module imports torch and
transformers immediately; it is itself imported when a network is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

from stepsynth.students.batches import HEAD_FILE

__all__ = ["PooledClassifier"]

_DROPOUT = 0.1
_SPREAD = 0.02


class PooledClassifier(torch.nn.Module):
    """An encoder with a linear layer on the mean of its tokens, in the shape that transformers' Trainer expects.

    Args:
        body: a transformers encoder; its config has ``num_labels`` and ``problem_type``.

    Attributes:
        body: the encoder.
        head: the linear layer, random until `start_head` or training.
    """

    # Otherwise the Trainer passes the number of rows in a batch.
    accepts_loss_kwargs = False

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.config = body.config
        self.head = torch.nn.Linear(body.config.hidden_size, body.config.num_labels)
        torch.nn.init.normal_(self.head.weight, std=_SPREAD)
        torch.nn.init.zeros_(self.head.bias)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, trained: bool = True, **settings: Any) -> PooledClassifier:
        """Load an encoder with its head.

        Args:
            folder: written by `save_pretrained`, or any encoder.
            trained: whether to load the head from the folder as well; otherwise it is random.
            settings: for ``AutoModel.from_pretrained``; code that comes with a model is never run.

        Raises:
            ValueError: the model has an encoder and a decoder.
        """
        for name in ("ignore_mismatched_sizes", "trust_remote_code", "use_safetensors"):
            settings.pop(name, None)
        body = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, **settings)
        if body.config.is_encoder_decoder:
            raise ValueError("it has a decoder as well as an encoder, which needs student.head: fresh")
        network = cls(body)
        if trained:
            network.head.load_state_dict(load_file(Path(folder) / HEAD_FILE))
        return network

    def save_pretrained(self, folder: Path) -> None:
        """Write encoder, config and head."""
        self.body.save_pretrained(folder)
        head = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return logits, and the loss if there are labels."""
        vectors = torch.nn.functional.dropout(self.vectors(input_ids, attention_mask, token_type_ids), _DROPOUT, self.training)
        # Cheap compared with the encoder; in bfloat16, logits of similar classes would become equal.
        with torch.autocast(vectors.device.type, enabled=False):
            logits = self.head(vectors)
            return SequenceClassifierOutput(loss=None if labels is None else self._loss(logits, labels), logits=logits)

    def vectors(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (rows, hidden size) means over the tokens, of length one."""
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state.to(
            self.head.weight.dtype
        )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)

    def get_input_embeddings(self) -> Any:
        """Return the encoder's token embedding."""
        return self.body.get_input_embeddings()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.problem_type == "multi_label_classification":
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return torch.nn.functional.cross_entropy(logits, labels)
