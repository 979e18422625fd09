"""A model's files on another machine: its own, if they have the same sha256, or else those of the machine that asks.

    about = describe(name, folder, files)       on the machine that has the model
    found = own_copy(about) or received(about, pieces, get)       where it is needed

Files travel in pieces, each put into an object store by itself, so that a large model needs no memory of its size.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.model_cache.resolving import at_hand, resolve
from stepsynth.model_cache.storage import digest_of
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["describe", "local_folder", "own_copy", "received", "same_files", "send", "write"]

_PIECE_BYTES = 64 * 2**20


def local_folder(name: str, endings: Sequence[str], revision: str | None = None) -> Path:
    """Return the folder on this machine of a student's base model or of a model on the hub, fetching it if necessary.

    Args:
        name: an embedded student's name, a folder, or a hub id.
        endings: of the files that are needed.
        revision: on the hub.

    Raises:
        ConfigError: there is no such model.
        AssetError: it cannot be fetched.
    """
    found = resolve(name, kind="student")
    if isinstance(found, Path):
        return found
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {"allow_patterns": [f"*{end}" for end in endings], "revision": revision}
    try:
        return Path(snapshot_download(found, local_files_only=True, **wanted))
    except Exception:
        return Path(snapshot_download(found, **wanted))


def describe(name: str, place: Path, endings: Sequence[str] = ()) -> dict[str, Any]:
    """Return what another machine has to know of a model.

    Args:
        name: its name, path or hub id.
        place: its folder, or its only file.
        endings: of the files that belong to it; all by default.
    """
    folder = place if place.is_dir() else place.parent
    paths = [path for path in sorted(place.iterdir()) if path.is_file()] if place.is_dir() else [place]
    files = {path.name: digest_of(path) for path in paths if not endings or path.name.endswith(tuple(endings))}
    return {"name": name, "path": str(folder), "only": "" if place.is_dir() else place.name, "files": files}


def send(paths: Iterable[Path], put: Callable[[bytes], Any]) -> list[tuple[str, Any]]:
    """Put files into an object store.

    Returns:
        The name of the file, and what ``put`` returned, for each piece.
    """
    sent = []
    for path in paths:
        with path.open("rb") as file:
            piece = file.read(_PIECE_BYTES)
            sent.append((path.name, put(piece)))
            while piece := file.read(_PIECE_BYTES):
                sent.append((path.name, put(piece)))
    return sent


def write(folder: Path, pieces: Iterable[tuple[str, Any]], get: Callable[[Any], bytes]) -> Path:
    """Write pieces that `send` returned into a new folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, piece in pieces:
        with (folder / Path(name).name).open("ab") as file:
            file.write(get(piece))
    return folder


def own_copy(about: Mapping[str, Any], endings: Sequence[str]) -> Path | None:
    """Return this machine's copy of a model, if its files are the same: at the same path, or under the same name in a cache.

    Args:
        about: from `describe`.
        endings: as for `local_folder`.
    """
    folder = next((folder for folder in _candidates(about, endings) if same_files(folder, about["files"])), None)
    return folder and _place(folder, about)


def received(about: Mapping[str, Any], pieces: Iterable[tuple[str, Any]], get: Callable[[Any], bytes]) -> Path | None:
    """Return a copy of a model in the folder for temporary files; ``None`` if other files were sent.

    It is kept, and used again by the next process that needs the same files.
    """
    files = about["files"]
    place = Path(tempfile.gettempdir(), f"stepsynth-model-{os.getuid()}-{digest(files)[:16]}")
    if _is_mine(place) and same_files(place, files):
        return _place(place, about)
    staged = Path(tempfile.mkdtemp(prefix="stepsynth-model-"))
    if not same_files(write(staged, pieces, get), files):
        shutil.rmtree(staged, ignore_errors=True)
        return None
    try:
        staged.rename(place)
    except OSError:
        # Another process was faster, or the name is taken.
        if not (_is_mine(place) and same_files(place, files)):
            return _place(staged, about)
        shutil.rmtree(staged, ignore_errors=True)
    return _place(place, about)


def same_files(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether a folder has these files, by their sha256; it may have others, too."""
    try:
        return all(digest_of(folder / name) == known for name, known in files.items())
    except OSError:
        return False


def _candidates(about: Mapping[str, Any], endings: Sequence[str]) -> Iterator[Path]:
    yield Path(about["path"])
    # Only what is here already: the sender's files are nearer than the hub.
    with contextlib.suppress(Exception):
        if about["only"]:
            found = resolve(about["name"], kind="teacher") if at_hand(about["name"]) else None
            if isinstance(found, Path):
                yield found.parent
        elif at_hand(about["name"]):
            yield local_folder(about["name"], endings)


def _place(folder: Path, about: Mapping[str, Any]) -> Path:
    return folder / about["only"] if about["only"] else folder


def _is_mine(place: Path) -> bool:
    try:
        return place.lstat().st_uid == os.getuid() and not place.is_symlink()
    except OSError:
        return False
