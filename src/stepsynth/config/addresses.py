"""Addresses given in place of paths: rows are read only from local files and from hub data sets by their id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError
from stepsynth.runtime.files import path_problem

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["address_problem", "as_given", "is_address", "refuse_folder", "shown_path"]

# At least two letters, because C:\ is a drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_HUB = re.compile(r"(?:(?:www\.)?(?:huggingface\.co|hf\.co)/)?datasets/([\w.-]+/[\w.-]+)")
# Bytes for the names below a run's or a comparison's folder; the longest is a cell of a comparison and its student.
_BELOW = 256
_SHOWN = 200
_READERS = {
    ".csv": "pandas.read_csv({0!r})",
    ".tsv": "pandas.read_csv({0!r}, sep='\\t')",
    ".parquet": "pandas.read_parquet({0!r})",
    ".jsonl": "pandas.read_json({0!r}, lines=True)",
    ".json": "pandas.read_json({0!r})",
    ".xlsx": "pandas.read_excel({0!r})",
}


def is_address(text: str) -> bool:
    """Whether a text starts with a scheme, such as ``https://...``, ``s3://...`` or ``hf://...``."""
    return _ADDRESS.match(text) is not None


def as_given(path: Path | str) -> str:
    """Return a path as it was written: `Path` drops one of the two slashes of an address."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", str(path))


def refuse_folder(folder: Path) -> None:
    """Refuse an output folder that cannot be made: an address, or a path that no file system takes.

    Raises:
        ConfigError: it is one of these; for an address, whatever folder it was joined to.
    """
    if scheme := next((part for part in folder.parts if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", part)), None):
        place = f"{scheme}//{'/'.join(folder.parts[folder.parts.index(scheme) + 1 :])}"
        raise ConfigError(
            f"{place!r} is an address, but results are written to a local folder.",
            hint="Give a local folder (out= / --out) and copy it afterwards.",
        )
    problem = path_problem(folder, room=_BELOW)
    if not problem and any("\ud800" <= sign <= "\udfff" for sign in str(folder)):
        # Such a folder can be made, but the libraries that write a student take only Unicode.
        problem = "it contains bytes that are not Unicode"
    if problem:
        raise ConfigError(
            f"cannot write into {shown_path(folder)}: {problem}.", hint="Give another folder (out= / --out): nothing was touched."
        )


def shown_path(path: Path) -> str:
    """Return a path as messages show it, with the middle of a very long one left out."""
    text = repr(str(path))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def address_problem(text: str) -> str:
    """Return advice on an address given for rows; empty if the text is not an address.

    Args:
        text: the value given as path or hub id.
    """
    if not is_address(text):
        return ""
    found = _ADDRESS.match(text)
    assert found is not None  # noqa: S101
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return f"{text!r} is an address; write the path alone: {'/' + rest.lstrip('/')!r}"
    taken = f"{text!r} is an address; rows are taken from a file of this machine, or a hub data set by its id"
    if (hub := _HUB.match(rest)) and (scheme == "hf" or rest.lower().startswith(("huggingface.co", "www.", "hf.co"))):
        return f"{taken}: here hub: {hub[1]}"
    suffix = re.search(r"\.[a-z]+(?=$|[?#])", rest.lower())
    reader = _READERS.get(suffix[0] if suffix else "", "datasets.load_dataset(...)").format(text)
    return f"{taken}; download it and give the file, or from Python the rows: {reader}"
