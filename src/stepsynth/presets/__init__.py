"""Presets: ready configs for well-known data sets, including the four of the S3 paper.

    list_presets()                                    # name, family, title, ...
    write_preset("rte", Path("my-rte"))               # my-rte/config.yaml, rows from the hub
    write_preset("rte", Path("my-rte"), Path("sets"))  # the same, rows from sets/rte/*.jsonl.gz

A preset is a commented YAML file beside this module. It names both sources of its rows, one of them
commented out. It contains the task, labels and student settings, but no rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from stepsynth.errors import ConfigError, did_you_mean

__all__ = ["Preset", "list_presets", "write_new_folder", "write_preset"]

_FROM_HUB = re.compile(r"  ((?:validation|test): \{hub: .*)")
_FROM_FILE = re.compile(r'  # ((?:validation|test): \{path: )"\$\{STEPSYNTH_DATA\}/([^"]+)"(.*)')


@dataclass(frozen=True, slots=True)
class Preset:
    """A config that comes with the package.

    Attributes:
        name: its name for ``init --preset``.
        family: task family, as in ``task.family``.
        title: the data set's name.
        paper: whether it is from the S3 paper (arXiv 2310.13671); then the paper's student settings are used.
        description: one line on the decision and the source of the rows.
    """

    name: str
    family: str
    title: str
    paper: bool
    description: str


_PRESETS = (
    Preset("imdb", "classification", "IMDb", True, "movie reviews, negative or positive; hub: stanfordnlp/imdb"),
    Preset("qnli", "pair", "QNLI", True, "does a sentence answer a question; hub: nyu-mll/glue"),
    Preset("rte", "pair", "RTE", True, "does a premise entail a hypothesis; hub: nyu-mll/glue"),
    Preset("adqa", "extractive_qa", "AdversarialQA", True, "questions that fooled a model; hub: UCLNLP/adversarial_qa"),
    Preset("ag_news", "classification", "AG News", False, "news items, four sections; hub: fancyzhx/ag_news"),
    Preset("banking77", "classification", "Banking77", False, "questions to a bank, 77 intents; hub: mteb/banking77"),
)


def list_presets() -> list[Preset]:
    """Return all presets, the paper's first."""
    return list(_PRESETS)


def write_preset(name: str, folder: Path, data_folder: Path | None = None) -> None:
    """Write a preset's ``config.yaml`` into a new or empty folder.

    Args:
        name: a name from `list_presets`.
        folder: the folder.
        data_folder: folder with ``<set>/<split>.jsonl.gz`` to read the rows from; by default they come from
            the hub. A value that begins with ``$`` is an environment variable and is left unchanged.

    Raises:
        ConfigError: the preset is unknown, ``data_folder`` lacks a file, or ``folder`` is not empty.
    """
    known = [preset.name for preset in _PRESETS]
    if name not in known:
        raise ConfigError(f"no preset {name!r}.", hint=did_you_mean(name, known))
    text = (resources.files("stepsynth") / "presets" / f"{name}.yaml").read_bytes().decode("utf-8")
    if data_folder is not None:
        text = _read_from_files(text, data_folder)
    write_new_folder(folder, {"config.yaml": text.encode("utf-8")})


def write_new_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new or empty folder.

    Args:
        folder: created with its parents if missing.
        files: name in the folder -> content.

    Raises:
        ConfigError: the folder is not empty, is not a folder, or cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{str(folder)!r} is not an empty folder.", hint="Choose a new one; nothing was written.")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Choose another folder.") from None


def _read_from_files(text: str, data_folder: Path) -> str:
    """Return a preset's text with the hub's lines commented out and the files' lines active."""
    variable = str(data_folder).startswith("$")
    root = data_folder if variable else data_folder.resolve()
    if "$" in str(root) and not variable:
        raise ConfigError(
            f"the path {str(root)!r} contains '$', which starts an environment variable in a config.", hint="Rename the folder."
        )
    lines = []
    for line in text.split("\n"):
        if hub := _FROM_HUB.fullmatch(line):
            lines.append(f"  # {hub[1]}")
        elif file := _FROM_FILE.fullmatch(line):
            path = root / file[2]
            if not variable and not path.is_file():
                raise ConfigError(
                    f"{str(data_folder)!r} has no file {file[2]!r}.",
                    hint="The folder must hold <set>/<split>.jsonl.gz; omit --data-folder to read from the hub.",
                )
            # A JSON string is a YAML string, whatever the path holds.
            lines.append(f"  {file[1]}{json.dumps(str(path), ensure_ascii=False)}{file[3]}")
        else:
            lines.append(line)
    return "\n".join(lines)
