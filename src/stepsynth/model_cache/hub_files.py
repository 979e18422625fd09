"""Unpinned GGUF files on the hub: ``owner/name:file.gguf``, ``owner/name@revision:file.gguf``.

They stay in the hub client's cache. The sha256 of a file is the etag from the hub, which the client
keeps as the file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsynth.errors import AssetError, ConfigError
from stepsynth.model_cache.catalogue import Report
from stepsynth.model_cache.sources import HUB_SECONDS, is_ours, silent_bar
from stepsynth.model_cache.storage import Meter, digest_of, require_room

__all__ = ["HubFile", "fetch_hub_file", "parse_hub_file"]

_NAMED = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?"
    r":(?P<file>[\w(+][\w.()+ /-]*\.gguf)(?:@(?P<late>[\w][\w./-]*))?"
)
_SPLIT = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository.

    Attributes:
        repo: ``owner/name``.
        file: its path there.
        revision: branch, tag or commit.
    """

    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        """Return the form used in configs."""
        return f"{self.repo}{'' if self.revision == 'main' else '@' + self.revision}:{self.file}"


def parse_hub_file(name: str) -> HubFile | None:
    """Parse a teacher's ``model`` as a file on the hub; ``None`` if it has another form.

    Raises:
        ConfigError: it names a part of a split file, or two revisions.
    """
    found = _NAMED.fullmatch(name)
    if not found or ".." in name or "//" in name:
        return None
    early, late = found["revision"], found["late"]
    if early and late:
        raise ConfigError(f"model {name!r} names two revisions.", hint="Write owner/name@revision:file.gguf.")
    if _SPLIT.search(found["file"]):
        raise ConfigError(
            f"model {name!r} is one part of a split GGUF, which cannot be fetched.",
            hint="Use a file in one piece; or download all parts, join them with llama.cpp's "
            "`llama-gguf-split --merge`, and give the joined file's path.",
        )
    return HubFile(found["repo"], found["file"], early or late or "main")


def fetch_hub_file(wanted: HubFile, say: Report) -> Path:
    """Return the file's path, from the hub client's cache or else from the hub.

    Raises:
        AssetError: it cannot be fetched, or its digest differs from the hub's.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(wanted.repo, wanted.file, revision=wanted.revision)
    if isinstance(found, str):
        return _checked(Path(found), wanted)
    return _checked(_download(wanted, say), wanted)


def _download(wanted: HubFile, say: Report) -> Path:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _unreachable(wanted, "HF_HUB_OFFLINE is set, and it is not in the hub's cache")
    say(f"{wanted}: asking the hub")
    try:
        about = get_hf_file_metadata(hf_hub_url(wanted.repo, wanted.file, revision=wanted.revision), timeout=HUB_SECONDS)
        if not _SHA256.fullmatch(about.etag or ""):
            raise AssetError(
                f"the hub gives no sha256 for {str(wanted)!r}, so it cannot be checked.",
                hint="Download it yourself and give its path as teacher.model.",
            )
        size = int(about.size or 0)
        require_room(Path(constants.HF_HUB_CACHE), size, f"{str(wanted)!r}")
        say(f"{wanted}: downloading {size / 1e6:,.0f} MB from the hub")
        bar = silent_bar(Meter(say, str(wanted), size))
        return Path(hf_hub_download(wanted.repo, wanted.file, revision=wanted.revision, etag_timeout=HUB_SECONDS, tqdm_class=bar))
    except Exception as error:  # the client's errors come from its HTTP library, which changes between versions
        if is_ours(error):
            raise
        raise _refused(wanted, error) from error


def _refused(wanted: HubFile, error: Exception) -> AssetError:
    """Turn an error of the hub's client into one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if kind in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
        return AssetError(
            f"{wanted.repo!r} has no file {wanted.file!r} (revision {wanted.revision!r}).",
            hint=f"Its files are listed at https://huggingface.co/{wanted.repo}/tree/{wanted.revision}.",
        )
    if kind == "RevisionNotFoundError":
        return AssetError(f"{wanted.repo!r} has no revision {wanted.revision!r}.", hint="Omit it for the newest.")
    if kind in ("RepositoryNotFoundError", "GatedRepoError") or status in (401, 403):
        return AssetError(
            f"the hub does not give {wanted.repo!r} to anonymous users: it is missing, private, or its terms must be accepted.",
            hint="Check the name; accept the terms on its page and set HF_TOKEN.",
        )
    return _unreachable(wanted, f"{kind}{f' {status}' if status else ''}")


def _unreachable(wanted: HubFile, why: str) -> AssetError:
    return AssetError(
        f"{str(wanted)!r} could not be fetched from the hub ({why}).",
        hint=f"Download {wanted.file!r} of https://huggingface.co/{wanted.repo} on a machine that reaches the hub, "
        "and give the file's path as teacher.model.",
    )


def _checked(path: Path, wanted: HubFile) -> Path:
    """Return the file if its digest matches the name that the hub's client gave it."""
    blob: Any = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        raise AssetError(
            f"the hub's cache does not tell the sha256 of {str(wanted)!r} ({str(path)!r}).",
            hint="Give this path as teacher.model if you trust the file.",
        )
    try:
        actual = digest_of(blob)
    except OSError as error:
        raise AssetError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    if actual != blob.name:
        raise AssetError(
            f"{str(wanted)!r} in the hub's cache is damaged: its sha256 is {actual[:12]}..., the hub's {blob.name[:12]}....",
            hint=f"Delete {str(blob)!r} and try again.",
        )
    return path
