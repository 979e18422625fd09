"""Unpack a GGUF file into a model folder; runs in a server's environment.

    python unpack.py model.gguf folder

``transformers`` takes a quantised file's weights out as float32 but refuses to write the model that
it read them into, so they move to a model of the same shape.
"""

from __future__ import annotations

import sys
from pathlib import Path


def unpack(source: Path, folder: Path) -> None:
    """Write a model folder out of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    whole = type(read)(read.config)
    whole.load_state_dict(read.state_dict())
    # Without this `transformers serve` ignores temperature and top_p.
    whole.generation_config.do_sample = True
    whole.generation_config.bos_token_id = tokenizer.bos_token_id
    whole.generation_config.eos_token_id = tokenizer.eos_token_id
    whole.generation_config.pad_token_id = tokenizer.pad_token_id
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
