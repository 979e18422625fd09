"""What a label is called in prose, by which words a text would give it away, and how several are written."""

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
# A bar, and a dash or slash that is no hyphen between words: at an edge, between digits, beside another sign.
_SIGN = re.compile(r"\||(?<![^\W_])(?<![-/])[-/]+|[-/]+(?![^\W_]|[-/])|(?<=\d)[-/]+(?=\d)")
_LISTING = re.compile(r",|\band\b|^['\"]|['\"]$")


def label_phrase(label: str) -> str:
    """Return a label as words: ``order_status`` -> ``order status``; several are joined by "and"."""
    return _listed([_words(part) for part in label.split(_SEPARATOR)])


def label_names(labels: Iterable[str], *, several: bool = False) -> dict[str, str]:
    """Return what each label of a task is called in prompts; no two are called the same.

    That is `label_phrase`, unless two labels would be called alike, or one would lose a sign (``-1``,
    ``A-``, ``1/2``, ``a|b``): then all of them are called as they are spelled.

    Args:
        labels: the task's labels, no two of which read alike.
        several: a row may have several, which are listed: labels that hold a comma or "and" are quoted then.
    """
    labels = list(labels)
    called = {label: _words(label) for label in labels}
    if not all(map(keeps_signs, labels)) or len({read_form(name) for name in called.values()}) < len(called):
        called = {label: label for label in labels}
    if several and any(_LISTING.search(name) for name in called.values()):
        called = {label: _quoted(name) for label, name in called.items()}
    return called


def label_words(label: str) -> tuple[str, ...]:
    """Return the words of three letters or more that name a label, casefolded."""
    words = re.findall(r"[^\W\d_]{3,}", " ".join(label_phrase(part) for part in label.split(_SEPARATOR)).casefold())
    return tuple(dict.fromkeys(words))


def keeps_signs(label: str) -> bool:
    """Whether a label says the same as words: no dash, slash or bar in it is more than a hyphen."""
    return _SIGN.search(label) is None


def join_labels(chosen: Iterable[str], labels: Sequence[str]) -> str:
    """Return the one spelling of a set of labels: in the order of ``labels``, joined by ``|``."""
    wanted = set(chosen)
    return _SEPARATOR.join(label for label in labels if label in wanted)


def split_labels(joined: str) -> tuple[str, ...]:
    """Return the labels of a row; none for the empty string."""
    return tuple(joined.split(_SEPARATOR)) if joined else ()


def carried_labels(label: str, known: Container[str]) -> tuple[str, ...]:
    """Return the labels of a row in a task of any family; a label may hold the bar itself where a row has one only."""
    return (label,) if label in known else split_labels(label)


def called(label: str, names: Mapping[str, str]) -> str:
    """Return what a row's label is called in prompts, also where it is several joined by ``|``.

    Args:
        label: one label of the task, several, or a text that is none.
        names: see `label_names`.
    """
    parts = carried_labels(label, names)
    if parts and all(part in names for part in parts):
        return _listed([names[part] for part in parts])
    return label_phrase(label) if keeps_signs(label) else label


def even_targets(rows: int, labels: Sequence[str]) -> dict[str, int]:
    """Spread ``rows`` over the labels; the first ones get what does not divide evenly."""
    each, rest = divmod(rows, len(labels))
    return {label: each + (position < rest) for position, label in enumerate(labels)}


def combination_targets(rows: int, joined: Iterable[str]) -> dict[str, int]:
    """Spread ``rows`` over the combinations of labels that real rows have, as often as they occur.

    Every combination that occurs gets a row while there are enough; then the commonest first.

    Args:
        rows: in all.
        joined: the labels of each real row; rows without any do not count.
    """
    counts = Counter(label for label in joined if label)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))[:rows]
    total = sum(counts[label] for label in ordered)
    # Largest remainder, with one row each put aside first.
    spare = rows - len(ordered)
    exact = {label: spare * counts[label] / total for label in ordered}
    targets = {label: 1 + int(exact[label]) for label in ordered}
    by_remainder = sorted(ordered, key=lambda label: (int(exact[label]) - exact[label], label))
    for label in by_remainder[: rows - sum(targets.values())]:
        targets[label] += 1
    return targets


def rarest_labels(present: Mapping[str, int]) -> dict[str, str]:
    """Return joined labels -> the rarest of them.

    Args:
        present: joined labels -> rows.
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
