"""A Llama of a few thousand weights with a word-level tokenizer: a real chat model that answers at once."""

from __future__ import annotations

import re
from pathlib import Path

from conditions import SEED
from stepsynth.students.reproducibility import quiet

__all__ = ["TEMPLATE", "build_tiny_teacher"]

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_WORDS = """a all and answer bad boring dull fine film fun good great i is it json like liked lovely movie not object of one plot
poor sad scene sentence story terrible text that the this was weak with wonderful write your"""


def build_tiny_teacher(folder: Path, *, template: str | None = TEMPLATE, window: int = 256, ends: bool = True) -> Path:
    """Write a randomly initialised causal language model and its tokenizer into ``folder`` and return the folder.

    Args:
        folder: made if it does not exist.
        template: the chat template; ``None`` for a base model.
        window: tokens of its context.
        ends: whether it knows an end token.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    words = sorted(set(re.findall(r"\w+", _WORDS)) | set(".,{}:\"'<>|?!"))
    tokens = {token: index for index, token in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokens),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=64,
                max_position_embeddings=window,
                initializer_range=0.3,
                pad_token_id=0,
                bos_token_id=None,
                eos_token_id=tokens["<|end|>"] if ends else None,
                tie_word_embeddings=False,
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        network.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="<|end|>" if ends else None,
        additional_special_tokens=special[3:],
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    return folder
