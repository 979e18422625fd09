"""Addresses in the place of paths: rows are read from files of this machine and from data sets of the hub, by their id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["address_problem", "as_given", "is_address", "refuse_address"]

# Two letters at least: C:\ is a drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_HUB = re.compile(r"(?:(?:www\.)?(?:huggingface\.co|hf\.co)/)?datasets/([\w.-]+/[\w.-]+)")
_READERS = {
    ".csv": "pandas.read_csv({0!r})",
    ".tsv": "pandas.read_csv({0!r}, sep='\\t')",
    ".parquet": "pandas.read_parquet({0!r})",
    ".jsonl": "pandas.read_json({0!r}, lines=True)",
    ".json": "pandas.read_json({0!r})",
    ".xlsx": "pandas.read_excel({0!r})",
}


def is_address(text: str) -> bool:
    """Whether a text names a place by a scheme, as ``https://...``, ``s3://...`` and ``hf://...`` do."""
    return _ADDRESS.match(text) is not None


def as_given(path: Path | str) -> str:
    """Return a path as it was written; of an address a `Path` keeps one slash only."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", str(path))


def refuse_address(folder: Path) -> None:
    """Refuse an address in the place of an output folder.

    Raises:
        ConfigError: it is one, whatever folder it was joined to.
    """
    if scheme := next((part for part in folder.parts if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", part)), None):
        place = f"{scheme}//{'/'.join(folder.parts[folder.parts.index(scheme) + 1 :])}"
        raise ConfigError(
            f"{place!r} is an address; results are written into a folder of this machine.",
            hint="Give a folder (out= / --out), and copy it afterwards.",
        )


def address_problem(text: str) -> str:
    """Return what to do about an address that was given for rows; empty where the text is none.

    Args:
        text: what was given for a path or a hub id.
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
