"""The push of an export to the Hugging Face hub: rows to a data set repository, the student to a model repository.

The token is the one of the hub client's own login; stepsynth never sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Upload", "check_repository", "find_uploads", "push_uploads"]

_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}(?<![.-])(?<!\.git)")
_KINDS = {"data": "dataset", "student": "model"}
_MOST_WORDS = 200


@dataclass(frozen=True)
class Upload:
    """A folder for one repository.

    Attributes:
        folder: the local folder.
        repository: ``owner/name``.
        kind: ``dataset`` or ``model``.
        files: path in the repository -> bytes.
        url: the repository's address, once it has been pushed.
    """

    folder: Path
    repository: str
    kind: str
    files: dict[str, int]
    url: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def check_repository(name: object) -> str:
    """Return the name of a repository.

    Raises:
        ConfigError: it does not have the form ``owner/name``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"the repository {name!r} is not OWNER/NAME.",
            hint="Write your name on the hub, a slash and a name, e.g. anna/tickets.",
        )
    return name


def find_uploads(folder: Path, repository: str) -> list[Upload]:
    """Return what an export would push.

    Args:
        folder: an export.
        repository: ``owner/name``.

    Raises:
        ConfigError: there is no export in the folder.
    """
    found = []
    for name, kind in _KINDS.items():
        place = folder / name
        if (place / "README.md").is_file():
            files = {
                path.relative_to(place).as_posix(): path.stat().st_size for path in sorted(place.rglob("*")) if path.is_file()
            }
            found.append(Upload(place, repository, kind, files))
    if not found:
        raise ConfigError(
            f"there is no export in {str(folder)!r}.",
            hint="Say what to export there (data, student), or name the folder of an export.",
        )
    return found


def push_uploads(uploads: list[Upload], *, public: bool, message: str) -> list[Upload]:
    """Push folders; a repository that does not exist is made. Returns the same with their addresses.

    Args:
        uploads: from `find_uploads`.
        public: whether everybody may see a repository that is made.
        message: the message of the commits.

    Raises:
        RunError: the hub refused, could not be reached, or a repository is public although it should not be. Local files
            are unchanged.
    """
    from dataclasses import replace

    from huggingface_hub import HfApi

    return [replace(upload, url=_pushed(HfApi(), upload, public=public, message=message)) for upload in uploads]


def _pushed(api: Any, upload: Upload, *, public: bool, message: str) -> str:
    where = {"repo_id": upload.repository, "repo_type": upload.kind}
    try:
        made = api.create_repo(**where, private=not public, exist_ok=True)
        # The hub changes nothing about a repository that existed.
        private = public or bool(api.repo_info(**where).private)
        if private:
            api.upload_folder(**where, folder_path=upload.folder, commit_message=message)
    # The client's errors come from it, its HTTP library and the network, and change between versions.
    except Exception as error:
        raise _refused(error, upload) from None
    if not private:
        raise RunError(
            f"the {upload.kind} repository {upload.repository!r} exists and is public, so nothing was sent there.",
            hint="Make it private on the hub, name another one, or ask for a public one.",
        )
    return str(made)


def _refused(error: Exception, upload: Upload) -> RunError:
    """Return an error of the hub in one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    what = f"the {upload.kind} repository {upload.repository!r}"
    owner = upload.repository.partition("/")[0]
    kept = f"{str(upload.folder)!r} is whole: repeat the push with this folder."
    if status == 401:
        return RunError(f"the hub does not know you (401): {what} was not pushed.", hint=f"Log in with `hf auth login`. {kept}")
    if status == 403:
        hint = f"Is your token allowed to write, and may you write to {owner!r}?"
        return RunError(f"the hub refused {what} (403).", hint=f"{hint} {kept}")
    if status == 409:
        return RunError(f"{what} was changed by somebody else at the same time (409).", hint=kept)
    if status is not None:
        return RunError(f"the hub answered {status} for {what}: {_words(error)}.", hint=kept)
    return RunError(f"{what} was not pushed: {_words(error) or type(error).__name__}.", hint=f"Check the network. {kept}")


def _words(error: Exception) -> str:
    """Return the first line that says something, without addresses and request ids."""
    said = getattr(error, "server_message", None) or next((line for line in str(error).splitlines() if line.strip()), "")
    said = re.sub(r"\s*\(Request ID[^)]*\)|https?://\S+", "", " ".join(str(said).split())).strip(" .:")
    return said[:_MOST_WORDS]
