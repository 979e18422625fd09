"""The memory and disk that a teacher in this process needs, and the choice of a smaller one if they are short."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from stepsynth.errors import AssetError
from stepsynth.model_cache.catalogue import ASSETS, Asset, known
from stepsynth.model_cache.requantise import readable_size

__all__ = ["KV_CACHE_GB", "choose_teacher", "free_memory", "needed_memory", "shortage"]

# The engine's KV cache for the texts in its batch (teachers/local_openvino.py).
KV_CACHE_GB = 1
# Python and the engine, plus half of its cache, which 32 short prompts do not fill; and, per byte of a GGUF file,
# the weights in the engine's layout, at the peak while loading. All three models measured by
# benchmarks/teachers.py take less (results/teachers.json).
_BASE = 300_000_000 + KV_CACHE_GB * 2**29
_PER_BYTE = 3.2
_CGROUP = Path("/sys/fs/cgroup")


def needed_memory(path: Path) -> int:
    """Return a high estimate, in bytes, of the embedded engine's memory with a model.

    For a model that is not a GGUF file, the size of its weights counts.
    """
    files = list(path.glob("*.bin")) if path.is_dir() else [path]
    size = readable_size(path) if path.suffix == ".gguf" else sum(file.stat().st_size for file in files)
    return int(_BASE + _PER_BYTE * size)


def free_memory() -> int | None:
    """Return the bytes of memory that a process may still take; ``None`` if the system does not tell."""
    found = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024)
    with suppress(OSError, ValueError):
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        # Cached file pages count as used, but are released as soon as memory is needed.
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        found.append(int(limit) - used + int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0)))
    if not found:
        with suppress(OSError, ValueError):
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min(found)) if found else None


def shortage(needed: int) -> str:
    """Return a sentence about too little memory; empty if there is enough or it is unknown."""
    free = free_memory()
    if free is None or free >= needed:
        return ""
    return f"{free / 1e9:.1f} GB of memory are free, {needed / 1e9:.1f} GB are needed"


def choose_teacher(wanted: str) -> tuple[str, str]:
    """Return the largest embedded teacher that the machine has room for, no larger than the wanted one.

    Args:
        wanted: an embedded teacher's name.

    Returns:
        Its name, and a sentence on why it is not the wanted one (empty if it is). The smallest is
        returned even if it is too large.

    Raises:
        ConfigError: no model has this name.
    """
    first = known(wanted)
    smaller = sorted((a for a in ASSETS.values() if a.kind == "teacher" and a.size < first.size), key=lambda a: -a.size)
    reason = ""
    for asset in (first, *smaller):
        short = _lacks(asset)
        if not short:
            break
        reason = reason or short
    return asset.name, f"{asset.name} in place of {wanted}: {reason}." if asset.name != wanted else ""


def _lacks(asset: Asset) -> str:
    """Return a sentence about the resource that is too small for a model; empty if all suffice."""
    from stepsynth.model_cache.storage import require_room

    if short := shortage(asset.memory):
        return short
    if all((asset.folder / file).is_file() for file in asset.files):
        return ""
    try:
        require_room(asset.folder.parent, 2 * asset.size, asset.name)
    except AssetError as error:
        return error.message.removeprefix(f"{asset.name} ").rstrip(".")
    return ""
