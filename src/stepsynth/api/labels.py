"""Labels in any form that a program may hold: a list of texts, or texts with meanings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from stepsynth.errors import ConfigError

__all__ = ["natural_labels"]

_HINT = "Give {'label': 'what it means', ...} or ['label', ...]."


def natural_labels(labels: object) -> dict[Any, Any] | list[Any]:
    """Return labels as a config writes them: a dict with meanings, or a list.

    Labels keep their order: it is the order of the student's outputs and part of a run's identity. A set has no order that
    is the same in the next process, so it is sorted.

    Args:
        labels: a mapping, a list, a tuple, a set, a dict's keys, an `Enum` of texts, a pandas or polars Series or Index, a
            numpy array, the classes of a ``datasets`` feature, or another iterable of texts.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(labels, Mapping):
        _refuse_truth(labels)
        return {_text(label): meaning for label, meaning in labels.items()}
    if isinstance(labels, str | bytes) or labels is None:
        raise ConfigError(f"labels is {labels!r}, not a list of labels.", hint=_HINT)
    listed = _listed(labels)
    _refuse_truth(listed)
    if any(label is None or label != label for label in listed):
        raise ConfigError("labels holds a missing value (None or NaN).", hint="Remove it, for instance with .dropna().")
    if isinstance(labels, set | frozenset):
        return sorted(listed, key=str)
    return listed


def _refuse_truth(labels: Iterable[object]) -> None:
    """Refuse True and False: a label is a text, because a prompt shows it."""
    if (found := next((label for label in labels if isinstance(label, bool)), None)) is not None:
        raise ConfigError(
            f"labels holds {found!r}, which is not a text.",
            hint=f"Write it as the text {str(found)!r}, in labels and in the rows.",
        )


def _listed(labels: object) -> list[Any]:
    if isinstance(labels, type) and issubclass(labels, Enum):
        return [_text(member) for member in labels]
    # A `datasets` ClassLabel.
    if isinstance(names := getattr(labels, "names", None), list) and hasattr(labels, "int2str"):
        return list(names)
    if getattr(labels, "ndim", 1) != 1:
        raise ConfigError(f"labels is a {type(labels).__name__} of more than one dimension.", hint=_HINT)
    _refuse_own_index(labels)
    for name in ("to_list", "tolist"):
        if callable(method := getattr(labels, name, None)):
            found = method()
            return _without_repeats(found, labels)
    if not isinstance(labels, Iterable):
        raise ConfigError(f"labels is {labels!r}, a {type(labels).__name__}, not a list of labels.", hint=_HINT)
    return [_text(label) for label in labels]


def _text(label: Any) -> Any:
    """Return the value of an `Enum` member, as in the rows of a program; any other label unchanged."""
    if not isinstance(label, Enum):
        return label
    if not isinstance(label.value, str):
        raise ConfigError(
            f"the label {label!s} has the value {label.value!r}, which is not a text.",
            hint=f"Give the names, [member.name for member in {type(label).__name__}], or a dict with meanings.",
        )
    return label.value


def _refuse_own_index(labels: Any) -> None:
    """Refuse a Series whose index holds texts: it may mean label -> meaning, or a list."""
    index = getattr(labels, "index", None)
    if index is None or callable(index) or not hasattr(labels, "to_dict"):
        return
    if any(isinstance(name, str) for name in list(index)):
        raise ConfigError(
            "labels is a Series whose index holds texts, so its values may be labels or meanings.",
            hint="Give labels.to_dict() (label -> meaning) or labels.to_list().",
        )


def _without_repeats(found: list[Any], labels: object) -> list[Any]:
    """Refuse a column of rows given in place of the labels, with a hint on how to get the labels from it."""
    if len(set(map(str, found))) < len(found):
        raise ConfigError(
            f"labels is a {type(labels).__name__} with repeated labels ({len(found):,} values).",
            hint="Give each label once, for instance sorted(set(labels)).",
        )
    return [_text(label) for label in found]
