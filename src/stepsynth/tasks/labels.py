"""Labels in prose: their names in prompts, the words that would reveal them, and lists of several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

from stepsynth.words import read_form

__all__ = [
    "called",
    "carried_labels",
    "combination_targets",
    "even_targets",
    "join_labels",
    "keeps_signs",
    "label_names",
    "label_phrase",
    "label_words",
    "rarest_labels",
    "split_labels",
]

_SEPARATOR = "|"
# A bar, or a dash or slash that is not a hyphen between words: at an edge, between digits, beside another sign.
_SIGN = re.compile(r"\||(?<![^\W_])(?<![-/])[-/]+|[-/]+(?![^\W_]|[-/])|(?<=\d)[-/]+(?=\d)")
_LISTING = re.compile(r",|\band\b|^['\"]|['\"]$")


def label_phrase(label: str) -> str:
    """Turn a label into words: ``order_status`` -> ``order status``; several are joined by "and"."""
    return _listed([_words(part) for part in label.split(_SEPARATOR)])


def label_names(labels: Iterable[str], *, several: bool = False) -> dict[str, str]:
    """Return the name of each label in prompts; no two names are the same.

    Names are `label_phrase`s, unless two would be the same or one would lose a sign (``-1``, ``A-``,
    ``1/2``, ``a|b``): then all labels keep their spelling.

    Args:
        labels: the task's labels, no two of which read alike.
        several: whether rows have lists of labels; then labels with a comma or "and" are quoted.
    """
    labels = list(labels)
    called = {label: _words(label) for label in labels}
    if not all(map(keeps_signs, labels)) or len({read_form(name) for name in called.values()}) < len(called):
        called = {label: label for label in labels}
    if several and any(_LISTING.search(name) for name in called.values()):
        called = {label: _quoted(name) for label, name in called.items()}
    return called


def label_words(label: str) -> tuple[str, ...]:
    """Return the words of a label with three or more letters, casefolded."""
    words = re.findall(r"[^\W\d_]{3,}", " ".join(label_phrase(part) for part in label.split(_SEPARATOR)).casefold())
    return tuple(dict.fromkeys(words))


def keeps_signs(label: str) -> bool:
    """Whether a label keeps its meaning as words: it has no dash, slash or bar other than hyphens."""
    return _SIGN.search(label) is None


def join_labels(chosen: Iterable[str], labels: Sequence[str]) -> str:
    """Return the canonical spelling of a set of labels: in the order of ``labels``, joined by ``|``."""
    wanted = set(chosen)
    return _SEPARATOR.join(label for label in labels if label in wanted)


def split_labels(joined: str) -> tuple[str, ...]:
    """Return the labels of a row; empty for the empty string."""
    return tuple(joined.split(_SEPARATOR)) if joined else ()


def carried_labels(label: str, known: Container[str]) -> tuple[str, ...]:
    """Return the labels of a row for any family; if rows have one label, it may itself contain the bar."""
    return (label,) if label in known else split_labels(label)


def called(label: str, names: Mapping[str, str]) -> str:
    """Return the name of a row's label in prompts, or of several joined by ``|``.

    Args:
        label: one label of the task, several, or a text that is not a label.
        names: see `label_names`.
    """
    parts = carried_labels(label, names)
    if parts and all(part in names for part in parts):
        return _listed([names[part] for part in parts])
    return label_phrase(label) if keeps_signs(label) else label


def even_targets(rows: int, labels: Sequence[str]) -> dict[str, int]:
    """Spread ``rows`` evenly over the labels; the first ones get the remainder."""
    each, rest = divmod(rows, len(labels))
    return {label: each + (position < rest) for position, label in enumerate(labels)}


def combination_targets(rows: int, joined: Iterable[str]) -> dict[str, int]:
    """Spread ``rows`` over the label combinations of real rows by their frequency.

    Every combination gets a row if there are enough rows; otherwise the most frequent ones do.

    Args:
        rows: the total.
        joined: the labels of each real row; rows without labels do not count.
    """
    counts = Counter(label for label in joined if label)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))[:rows]
    total = sum(counts[label] for label in ordered)
    # Largest remainder, after setting aside one row each.
    spare = rows - len(ordered)
    exact = {label: spare * counts[label] / total for label in ordered}
    targets = {label: 1 + int(exact[label]) for label in ordered}
    by_remainder = sorted(ordered, key=lambda label: (int(exact[label]) - exact[label], label))
    for label in by_remainder[: rows - sum(targets.values())]:
        targets[label] += 1
    return targets


def rarest_labels(present: Mapping[str, int]) -> dict[str, str]:
    """Map joined labels to the rarest of them.

    Args:
        present: joined labels -> number of rows.
    """
    counts: Counter[str] = Counter()
    for joined, count in present.items():
        counts.update(dict.fromkeys(split_labels(joined), count))
    return {joined: min(split_labels(joined), key=lambda label: (counts[label], label), default="") for joined in present}


def _words(label: str) -> str:
    return re.sub(r"[_\-/]+", " ", label).strip() or label


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _quoted(name: str) -> str:
    mark = "'" if "'" not in name else '"'
    escaped = name.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"
