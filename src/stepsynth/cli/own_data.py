"""``init --data``: a config for a table of one's own, with the labels and columns that it has.

write_for_table(Path("tickets"), Path("labelled.csv"), Table(text="message", label="team"))
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import yaml

from stepsynth.data.columns import Columns
from stepsynth.data.labels import label_text
from stepsynth.data.rows import read_file
from stepsynth.errors import ConfigError, DataError
from stepsynth.presets import write_new_folder
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Table", "write_for_table"]

# More are names or texts; tasks of a few hundred labels are written by hand.
_MOST_LABELS = 200
_MOST_COLUMNS = 12
_HEAD = """\
# A stepsynth task, made for {file} ({rows}).
#   1. Say in `instruction` what is decided, and behind each label what it means: the prompts show both.
#   2. stepsynth plan config.yaml      check everything, estimate time and cost
#   3. stepsynth run config.yaml       run; after a stop, the same command resumes
# docs/config.md describes every key.

task:
  family: classification
  name: {name}                          # also names the run directory
  instruction: Decide which label fits the text.    # say what is decided, and for whom
  text_kind: text                       # what one text is, without "a" or "the": support ticket, film review
  labels:                               # label: its meaning
{labels}
data:
  # Every row supplies mistakes and evaluates, by cross-fitting.
  validation: {validation}
{test}  # Real texts without labels, if you have some: they are used if cross-validation says so. Optional.
  #   pool: {{path: texts.txt}}            # a text per line; or a table with a column for the text, or a folder of .txt files

"""


@dataclass(frozen=True)
class Table:
    """Columns of a user's files.

    Attributes:
        text: the column of the texts.
        label: the column of the labels.
    """

    text: str = "text"
    label: str = "label"

    @property
    def named(self) -> dict[str, str]:
        """Our names -> the file's, where they differ."""
        return {ours: theirs for ours, theirs in (("text", self.text), ("label", self.label)) if ours != theirs}


def write_for_table(folder: Path, file: Path, table: Table, test: Path | None = None) -> Counter[str]:
    """Write ``config.yaml`` for a table with one label per text into a new or empty folder.

    Args:
        folder: the folder.
        file: labelled rows, in any format that a run reads.
        table: its columns.
        test: rows with the same columns, for the sealed test.

    Returns:
        Label -> number of its rows.

    Raises:
        ConfigError: a path cannot stand in a config, or the folder is not empty.
        DataError: a file is unreadable, has no such columns, or its labels are no labels.
    """
    found = _labels_of(file, table)
    if test is not None:
        # Its labels are checked when a run begins; its columns here.
        _labels_of(test, table, few=True)
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.") or "task"
    labels = "".join(f"    {_scalar(label)}: {_scalar(label)}    # {counted(n, 'row')}\n" for label, n in found.items())
    head = _HEAD.format(
        file=file.name,
        rows=counted(found.total(), "row"),
        name=_scalar(name),
        labels=labels,
        validation=_source(folder, file, table.named),
        test="  # The sealed test: opened once, at the end.\n"
        + (f"  test: {_source(folder, test, table.named)}\n" if test else "  #   test: {path: test.csv}\n"),
    )
    starter = (resources.files("stepsynth") / "starter" / "classification.yaml").read_text(encoding="utf-8")
    write_new_folder(folder, {"config.yaml": (head + starter[starter.index("\nteacher:\n") + 1 :]).encode()})
    return found


def _labels_of(file: Path, table: Table, *, few: bool = False) -> Counter[str]:
    """Return the labels of a file with their numbers of rows; ``few`` takes any number of labels."""
    counts: Counter[str] = Counter()
    try:
        with closing(read_file(file, Columns((("text",), ("label",)), named=table.named))) as rows:
            for number, row in enumerate(rows):
                counts[label_text(row.values["label"], {}, f"row {number} of {str(file)!r}").strip()] += 1
    except DataError as error:
        if "has no column" not in error.message:
            raise
        # Of a table with lines the message shows the first one.
        has = "" if "first line" in error.message else _has(file)
        raise DataError(error.message, hint=f"{has}Name the columns with --text COLUMN and --label COLUMN.") from None
    if not few and not _are_labels(counts):
        said = f"column {table.label!r} of {str(file)!r} has {counted(len(counts), 'different value')} in {counts.total():,} rows"
        raise DataError(f"{said}.", hint="Name the column of the labels with --label COLUMN.")
    # Numbers, such as stars, in their order.
    order = sorted(counts, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label))
    return Counter({label: counts[label] for label in order})


def _are_labels(counts: Counter[str]) -> bool:
    """Whether values look like labels: at least two, not too many, and most of them more than once."""
    many = len(counts) > 20 and 2 * len(counts) > counts.total()
    return 2 <= len(counts) <= _MOST_LABELS and not many and not len(counts) == counts.total() > 2


def _has(file: Path) -> str:
    """Say which columns a file has; empty if that cannot be told."""
    try:
        with closing(read_file(file, Columns(everything=True))) as rows:
            names = list(next(rows).values)
    except (DataError, StopIteration):
        return ""
    more = ", ..." if len(names) > _MOST_COLUMNS else ""
    return f"It has {', '.join(map(repr, names[:_MOST_COLUMNS]))}{more}. "


def _source(folder: Path, file: Path, named: Mapping[str, str]) -> str:
    """Return a source in the flow style of YAML; the path goes from the config's folder to the file."""
    path = os.path.relpath(file.resolve(), folder.resolve())
    if "$" in path:
        raise ConfigError(f"the path {path!r} contains '$', which starts an environment variable in a config.", hint="Rename it.")
    columns = ", ".join(f"{ours}: {_scalar(theirs)}" for ours, theirs in named.items())
    return f"{{path: {_scalar(path)}{f', columns: {{{columns}}}' if columns else ''}}}"


def _scalar(text: str) -> str:
    """Return a text as YAML in one line, quoted where it must be."""
    if not text.isprintable():
        return json.dumps(text)
    inside = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6).strip()
    return inside.removeprefix("[").removesuffix("]")
