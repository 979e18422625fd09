"""A GGUF of a few thousand weights that the embedded engine really loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MATRICES", "WIDTH", "build_tiny_gguf", "raw_rows"]

WIDTH = 256  # a row must hold a whole block of the K types
_KV = 128
# Name -> rows, of every weight matrix.
MATRICES = {
    "token_embd.weight": 0,  # the vocabulary
    "blk.0.attn_q.weight": WIDTH,
    "blk.0.attn_k.weight": _KV,
    "blk.0.attn_v.weight": _KV,
    "blk.0.attn_output.weight": WIDTH,
    "blk.0.ffn_gate.weight": WIDTH,
    "blk.0.ffn_up.weight": WIDTH,
    "blk.0.ffn_down.weight": WIDTH,
    "output.weight": 0,
}
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _vocabulary() -> list[str]:
    """Return the 256 bytes in the spelling of GPT-2, and two control tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    spelled = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [*(spelled[byte] for byte in range(256)), "he", "<|im_end|>", "<|im_start|>"]


def raw_rows(rows: int, width: int, kind: Any, seed: int = 0) -> Any:
    """Return random weights in a type of GGUF, as the package's writer wants them."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    dice = np.random.default_rng(seed)
    floats = dice.normal(0, 0.05, (rows, width)).astype(np.float32)
    if kind == GGMLQuantizationType.F64:
        return floats.astype(np.float64)
    try:
        return quantize(floats, kind)
    except NotImplementedError:
        # Small bytes are small numbers wherever a block has its scales.
        block, size = GGML_QUANT_SIZES[kind]
        return dice.integers(0, 28, (rows, width // block * size), dtype=np.uint8)


def build_tiny_gguf(
    path: Path,
    kind: str = "Q8_0",
    kinds: Mapping[str, str] | None = None,
    *,
    architecture: str = "qwen2",
    file_type: int | None = 7,
    vector: str = "F32",
    split: int | None = None,
) -> Path:
    """Write a model of one layer and return its path.

    Args:
        path: the file.
        kind: type of the matrices.
        kinds: types of single tensors.
        architecture: ``general.architecture``.
        file_type: ``general.file_type``; ``None`` leaves it out.
        vector: type of norms and biases.
        split: ``split.count``; ``None`` leaves it out.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    words = _vocabulary()
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if file_type is not None:
        writer.add_file_type(file_type)
    if split is not None:
        writer.add_uint16("split.count", split)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([1] * (len(words) - 2) + [3, 3])
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(len(words) - 2)
    writer.add_bos_token_id(len(words) - 2)
    writer.add_pad_token_id(len(words) - 2)
    writer.add_chat_template(_TEMPLATE)
    for seed, (name, rows) in enumerate(MATRICES.items()):
        chosen = GGMLQuantizationType[(kinds or {}).get(name, kind)]
        writer.add_tensor(name, raw_rows(rows or len(words), WIDTH, chosen, seed), raw_dtype=chosen)
    _add_vectors(writer, (kinds or {}), vector)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _add_vectors(writer: Any, kinds: Mapping[str, str], vector: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    norms = dict.fromkeys(("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), WIDTH)
    biases = {"blk.0.attn_q.bias": WIDTH, "blk.0.attn_k.bias": _KV, "blk.0.attn_v.bias": _KV}
    for name, length in {**norms, **biases}.items():
        chosen = GGMLQuantizationType[kinds.get(name, vector)]
        values = np.full(length, 1.5 if name in norms else 0.01, dtype=np.float32)
        writer.add_tensor(name, quantize(values, chosen), raw_dtype=chosen)
