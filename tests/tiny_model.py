"""A BERT of a few thousand weights with a word-level tokenizer: a real student that trains in about a second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from conditions import SEED
from stepsynth.students.reproducibility import quiet

__all__ = ["WORDS", "build_tiny_model"]

WORDS = [
    "a",
    "all",
    "and",
    "bad",
    "boring",
    "dull",
    "fine",
    "film",
    "fun",
    "good",
    "great",
    "i",
    "is",
    "it",
    "like",
    "liked",
    "lovely",
    "movie",
    "not",
    "of",
    "plot",
    "poor",
    "sad",
    "scene",
    "story",
    "terrible",
    "the",
    "this",
    "was",
    "weak",
    "with",
    "wonderful",
]


def build_tiny_model(folder: Path, vocab: Iterable[str] | None = None, *, spread: float = 0.02) -> Path:
    """Write a randomly initialised encoder and its tokenizer into ``folder`` and return the folder.

    Args:
        folder: made if it does not exist.
        vocab: words that the tokenizer knows; texts may also be given, they are split into words.
        spread: standard deviation of the weights. With a larger one words differ from the start, as they
            do in a pretrained model, and tasks with more than one thing to learn do not get stuck.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text in (vocab or WORDS) for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = {token: index for index, token in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokens["[CLS]"]), ("[SEP]", tokens["[SEP]"])],
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = BertModel(
            BertConfig(
                vocab_size=len(tokens),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
                initializer_range=spread,
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        network.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return folder
