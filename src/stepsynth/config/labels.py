"""Labels that a config must not have: those that YAML changed, and those that look alike in a prompt."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

from stepsynth.words import read_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["refuse_alike", "refuse_no_descriptions", "refuse_no_labels", "refuse_repeats"]


_TRUTH = "YAML reads yes, no, on and off as true and false"
_NOTHING = "YAML reads ~, null and nothing at all as no value"


def refuse_no_descriptions(labels: Mapping[object, object]) -> None:
    """Raise `ValueError` for a description that is not a text, such as one without quotes that YAML read as something else."""
    for label, description in labels.items():
        if isinstance(description, bool):
            raise ValueError(
                f"the description of label {str(label)!r} is {description}, which is no text ({_TRUTH}); put it in quotes"
            )
        if description is not None and not isinstance(description, str | int | float | date):
            what = type(description).__name__
            raise ValueError(f"the description of label {str(label)!r} is {description!r}, a {what}; write one text, in quotes")


def refuse_no_labels(labels: Iterable[object]) -> None:
    """Raise `ValueError` for a label that is not a text, such as one without quotes that YAML read as something else."""
    for label in labels:
        if isinstance(label, bool):
            raise ValueError(f"a label is {label}, which is no text ({_TRUTH}); put it in quotes")
        if label is None:
            raise ValueError(f"a label is None, which is no text ({_NOTHING}); put it in quotes")
        if not isinstance(label, str | int | float | date):
            raise ValueError(f"the label {label!r} is a {type(label).__name__}; write a label as one text, in quotes")
        if label != label:
            raise ValueError("a label is NaN, a missing value; leave it out, or put it in quotes if it is spelled so")


def refuse_repeats(labels: Iterable[object]) -> None:
    """Raise `ValueError` for a repeated label, as in a list, or as 1 and '1'."""
    counts = Counter(map(str, labels))
    if len(counts) > 1 and max(counts.values()) > 1:
        raise ValueError(f"label {counts.most_common(1)[0][0]!r} is there twice; remove one")


def refuse_alike(labels: Iterable[str]) -> None:
    """Raise `ValueError` for labels that are invisible in a prompt, or that look alike there."""
    seen: dict[str, str] = {}
    for label in labels:
        form = read_form(label)
        if not form:
            raise ValueError(f"label {label!r} is empty or invisible; give it a name, and map the data's spelling to it")
        if form in seen:
            exactly = "" if (seen[form] + label).isascii() else f" ({seen[form]!a} and {label!a})"
            raise ValueError(
                f"labels {seen[form]!r} and {label!r}{exactly} read alike: they differ only in case, white space, the kind of a "
                "mark or invisible characters; rename one here, and map its rows with data.validation.labels"
            )
        seen[form] = label
