"""``init --data``: a config for a table of one's own, with the labels and columns that it has.

write_for_table(Path("tickets"), Table(Path("labelled.csv"), text="message", label="team"))
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from stepsynth.config import parse_config, parse_source
from stepsynth.data import SealedTest, load_validation
from stepsynth.data.columns import Columns, shown
from stepsynth.data.labels import label_text
from stepsynth.data.rows import read_file
from stepsynth.errors import ConfigError, DataError, MissingColumnError
from stepsynth.presets import write_new_folder
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stepsynth.config import SourceConfig

__all__ = ["Table", "write_for_table"]

# More are names or texts; tasks of a few hundred labels are written by hand.
_MOST_LABELS = 200
_MOST_COLUMNS = 12
_FEWEST = 10
# As the starter says.
_SEED_ROWS = 120
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
    """A user's files and how to read them.

    Attributes:
        file: labelled rows, in any format that a run reads.
        text: the column of the texts.
        label: the column of the labels.
        test: rows with the same columns, for the sealed test.
        reading: ``encoding``, ``delimiter`` or ``sheet``, where they differ from the defaults; for both files.
    """

    file: Path
    text: str = "text"
    label: str = "label"
    test: Path | None = None
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, str]:
        """Our names -> the file's, where they differ."""
        return {ours: theirs for ours, theirs in (("text", self.text), ("label", self.label)) if ours != theirs}


def write_for_table(folder: Path, table: Table) -> Counter[str]:
    """Write ``config.yaml`` for a table with one label per text into a new or empty folder.

    The rows are checked as a run would check them, before anything is written.

    Returns:
        Label -> number of its rows.

    Raises:
        ConfigError: a path cannot stand in a config, or the folder is not empty.
        DataError: a file is unreadable, has no such columns, or rows that a run would refuse.
    """
    if table.text == table.label:
        raise ConfigError(f"--text and --label are both {table.text!r}.", hint="Name two columns.")
    for file in filter(None, (table.file, table.test)):
        if not str(file).isprintable():
            raise ConfigError(f"the path {str(file)!r} cannot stand in a config.", hint="Rename the file.")
    found = _labels_of(table)
    text = _config_text(folder, table, found)
    values = yaml.safe_load(text)
    # The config's folder does not exist yet, and paths that begin there lead nowhere.
    values["data"]["validation"]["path"] = str(table.file)
    if table.test is not None:
        values["data"]["test"]["path"] = str(table.test)
    config = parse_config(values)
    gold = load_validation(config)
    if config.data.test is not None:
        SealedTest(config).inspect((*gold.harvest, *gold.select))
    write_new_folder(folder, {"config.yaml": text.encode()})
    return found


def _config_text(folder: Path, table: Table, found: Counter[str]) -> str:
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.") or "task"
    test = f"  test: {_source(folder, table.test, table)}\n" if table.test else "  #   test: {path: test.csv}\n"
    head = _HEAD.format(
        file=table.file.name,
        rows=counted(found.total(), "row"),
        name=_scalar(name[:80]),
        labels="".join(f"    {_scalar(label)}: {_scalar(label)}    # {counted(n, 'row')}\n" for label, n in found.items()),
        validation=_source(folder, table.file, table),
        test=f"  # The sealed test: opened once, at the end.\n{test}",
    )
    starter = (resources.files("stepsynth") / "starter" / "classification.yaml").read_text(encoding="utf-8")
    settings = starter[starter.index("\nteacher:\n") + 1 :]
    if 2 * len(found) > _SEED_ROWS:
        settings = settings.replace(f"seed_rows: {_SEED_ROWS}", f"seed_rows: {2 * len(found)}")
    return head + settings


def _labels_of(table: Table) -> Counter[str]:
    """Return the labels of a file with their numbers of rows."""
    counts: Counter[str] = Counter()
    source = parse_source({"path": table.file, **table.reading})
    where = repr(str(table.file))
    try:
        with closing(read_file(source, Columns((("text",), ("label",)), named=table.named))) as rows:
            for row in rows:
                place = f"line {row.line} of {where}" if row.line else f"row {counts.total()} of {where}"
                counts[label_text(row.values["label"], {}, place).strip()] += 1
    except MissingColumnError as error:
        # A similar name is told; of a table with lines the message shows the first one.
        near = error.hint.partition("?")[0] + "? " if error.hint.startswith("Did you mean") else ""
        has = "" if near or "first line" in error.message else _has(source)
        raise DataError(error.message, hint=f"{near}{has}Name the columns with --text COLUMN and --label COLUMN.") from None
    if not counts:
        raise DataError(f"{where} has no rows.", hint="Add labelled rows to it.")
    if len(counts) == 1:
        raise DataError(
            f"all rows of {where} have the label {shown(next(iter(counts)))}.", hint="A task needs two labels or more."
        )
    if len(counts) > _MOST_LABELS or 2 * len(counts) > counts.total() > 2 * _FEWEST:
        said = f"column {table.label!r} of {where} has {len(counts):,} different values in {counts.total():,} rows"
        raise DataError(
            f"{said}: these look like texts, not labels.",
            hint=f"Name the column of the labels with --label COLUMN; at most {_MOST_LABELS} labels.",
        )
    # Numbers, such as stars, in their order.
    return Counter({label: counts[label] for label in sorted(counts, key=_in_order)})


def _in_order(label: str) -> tuple[bool, int, str]:
    number = label.isdecimal()
    return not number, len(label.lstrip("0")) if number else 0, label


def _has(source: SourceConfig) -> str:
    """Say which columns a file has; empty if that cannot be told."""
    try:
        with closing(read_file(source, Columns(everything=True))) as rows:
            names = list(next(rows).values)
    except (DataError, StopIteration):
        return ""
    more = ", ..." if len(names) > _MOST_COLUMNS else ""
    return f"It has {', '.join(map(repr, names[:_MOST_COLUMNS]))}{more}. "


def _source(folder: Path, file: Path, table: Table) -> str:
    """Return a source in the flow style of YAML; the path goes from the config's folder to the file."""
    # The file's own name stays: a link may have another ending than the file that it leads to.
    path = os.path.relpath(file.parent.resolve() / file.name, folder.resolve())
    if "$" in path:
        raise ConfigError(f"the path {path!r} contains '$', which starts an environment variable in a config.", hint="Rename it.")
    columns = ", ".join(f"{ours}: {_scalar(theirs)}" for ours, theirs in table.named.items())
    parts = [f"path: {_scalar(path)}", *([f"columns: {{{columns}}}"] if columns else [])]
    return f"{{{', '.join([*parts, *(f'{key}: {_scalar(value)}' for key, value in table.reading.items())])}}}"


def _scalar(text: str) -> str:
    """Return a text as YAML in one line, quoted where it must be."""
    odd = not text.isprintable()
    style: dict[str, Any] = {"default_style": '"', "allow_unicode": False} if odd else {"allow_unicode": True}
    inside: str = yaml.safe_dump([text], default_flow_style=True, width=10**6, **style).strip()
    return inside.removeprefix("[").removesuffix("]")
