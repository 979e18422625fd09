"""Transformers' ``text-classification`` pipeline for a student. Imports torch and transformers immediately."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline
from transformers.utils import logging as transformers_logging

from stepsynth.runtime.imports import importing
from stepsynth.students.batches import HEAD_FILE
from stepsynth.students.pooled import PooledClassifier
from stepsynth.students.reproducibility import quiet

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stepsynth.config import StudentConfig

__all__ = ["text_classification"]


class _AsTransformers(PreTrainedModel):  # type: ignore[misc]
    """A `PooledClassifier` in the shape that pipelines expect."""

    # The inner encoder keeps its attention implementation; nothing is chosen here.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, network: PooledClassifier) -> None:
        super().__init__(network.config)
        self.network = network

    def forward(self, **inputs: torch.Tensor) -> Any:
        """Return logits."""
        return self.network(**inputs)


def text_classification(student: StudentConfig, folder: Path, **settings: Any) -> Any:
    """Return the pipeline; texts that are too long are cut as in training.

    Args:
        student: gives ``max_length``.
        folder: the student's.
        settings: for ``transformers.pipeline``.
    """
    with quiet(), importing():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if (folder / HEAD_FILE).is_file():
            model: Any = _AsTransformers(PooledClassifier.from_pretrained(folder, trust_remote_code=False))
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        # It logs an error for every class name it does not know, but works; `quiet` restores the level.
        transformers_logging.set_verbosity(logging.CRITICAL)
        return pipeline(
            "text-classification",
            model=model.eval(),
            tokenizer=tokenizer,
            **{"truncation": True, "max_length": student.max_length, **settings},
        )
