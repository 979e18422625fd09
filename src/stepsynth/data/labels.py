"""Labels in a cell: one value or a list, and which label of the config each value means.

A value is looked up as written, first in the source's mapping, then among the task's labels. Only
if neither has it, other spellings of the same thing match, in this order:

* surrounding white space, and another Unicode form of the same letters;
* the same number: ``1``, ``1.0``, ``+1`` and the number 1;
* the same truth value: ``true``, ``True``, ``TRUE`` and the value true (never 1);
* the apostrophe that `stepsynth predict` puts before a cell that a spreadsheet would run as a formula.

A spelling that could mean more than one label is refused.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from math import isnan

from stepsynth.data.columns import shown, trimmed
from stepsynth.errors import DataError

__all__ = ["LabelFinder", "label_list", "label_text", "literal"]

_NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0+)?")
_FORMULA = re.compile(r"'(?=[=+\-@\t\r])")
_ITEM = re.compile(r"""(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*,?\s*""")
_ARRAY = re.compile(r"array\((\[[^\[\]]*\])(?:,\s{0,20}dtype=[\w.'<>|]{1,40})?\)")


class LabelFinder:
    """Finds the label that a value means.

    Args:
        labels: the task's labels.
        mapping: the source's value -> our label.
    """

    def __init__(self, labels: Iterable[str], mapping: Mapping[str, str]) -> None:
        self._known = {label: label for label in labels} | dict(mapping)
        self._alike: list[dict[str, set[str]]] = []
        for form in (trimmed, _plain):
            meant: dict[str, set[str]] = {}
            for spelling, label in self._known.items():
                meant.setdefault(form(spelling), set()).add(label)
            self._alike.append(meant)

    @property
    def spellings(self) -> frozenset[str]:
        """All values that are known as written."""
        return frozenset(self._known)

    def knows(self, value: str) -> bool:
        """Whether a value is a label or mapped, ignoring surrounding white space."""
        return value in self._known or trimmed(value) in self._known

    def find(self, value: str, where: str) -> str | None:
        """Return the label that a value means; ``None`` if there is none.

        Raises:
            DataError: it could mean several.
        """
        if value in self._known:
            return self._known[value]
        for written in (value, _FORMULA.sub("", value, count=1)):
            for form, meant in zip((trimmed, _plain), self._alike, strict=True):
                found = meant.get(form(written), set())
                if len(found) > 1:
                    raise DataError(
                        f"the label {shown(value)} of {where} may mean {' or '.join(map(repr, sorted(found)))}.",
                        hint="Write it as task.labels does, or map it with 'labels' beside the source's path.",
                    )
                if found:
                    return next(iter(found))
        return None


def _plain(text: str) -> str:
    """Return one spelling for all forms of a number or truth value; any other text unchanged."""
    text = trimmed(text)
    if text.casefold() in ("true", "false"):
        return text.casefold()
    if number := _NUMBER.fullmatch(text):
        sign = "-" if number[1] == "-" and number[2] != "0" else ""
        return f"number {sign}{number[2]}"
    return text


def label_text(label: object, mapping: Mapping[str, str], where: str, *, empty_is_missing: bool = True) -> str:
    """Return a label's value as text.

    Raises:
        DataError: it is missing, or not a single value.
    """
    missing = label is None or (isinstance(label, float) and isnan(label))
    if missing or (empty_is_missing and isinstance(label, str) and not label.strip() and label not in mapping):
        raise DataError(f"{where} has no label.", hint="Fill it in, or remove the row; unlabelled splits cannot be used here.")
    if not isinstance(label, (str, int, float)):
        kind = f"{type(label).__name__}: {shown(label)}"
        raise DataError(
            f"the label of {where} is {kind}.",
            hint="Write one string or number."
            + (" Several labels of a row need family: multi_label." if isinstance(label, list) else ""),
        )
    # Tables with a gap in an integer column come back as floats: 1.0 means the label 1.
    if isinstance(label, float) and label.is_integer() and str(label) not in mapping:
        return str(int(label))
    return str(label)


def label_list(cell: str, finder: LabelFinder, where: str) -> list[object]:
    """Return the items of a cell that holds several labels.

    They are joined by ``|``, or a list as printed by JSON, Python or NumPy. A cell that as a whole is
    a label is that label.

    Raises:
        DataError: it begins like a list but is not one.
    """
    text = cell.strip()
    if not text:
        return []
    if finder.knows(cell) or text[0] + text[-1] not in ("[]", "()", "{}"):
        return [part.strip() for part in cell.split("|")]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    inside = text[1:-1].strip().removesuffix(",")
    if not inside:
        return []
    # Two strings side by side are two items to NumPy and one to Python: they are never joined here.
    quoted = list(_ITEM.finditer(inside))
    if quoted and "".join(item[0] for item in quoted) == inside:
        return [re.sub(r"\\(.)", r"\1", item[1] if item[1] is not None else item[2]) for item in quoted]
    if not re.search(r"['\"{}\[\]:]", inside):
        return [part.strip() for part in inside.split(",")]
    raise DataError(
        f"the labels of {where} begin like a list but are not one: {shown(cell)}.",
        hint='Write ["a", "b"], or a string with \'|\' between them.',
    )


def literal(text: str) -> object:
    """Parse a cell as printed by JSON, Python or NumPy.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    text = text.strip()
    if not text.startswith(("{", "[")):
        raise ValueError("neither a list nor a mapping")
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(_ARRAY.sub(r"\1", text))
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(str(error)) from None
