"""How far a run's written rows are from its gold rows, round by round: figures for reading, which decide nothing.

    find_gap(journal, config)        # {"rows": 60, "floor": {...}, "rounds": [{"round": 0, "all": {...}, "new": None}], ...}

A round's rows are compared twice: all rows written so far (the student of that round learned from them) and those that the round
added. The gold rows are both halves; the sealed test set has no part in it. The figures are made once, when a run ends, and kept
in its journal: last digits depend on the processor, and so a page can be made again without the base model.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from stepsynth.data import deal_folds
from stepsynth.errors import Interrupted
from stepsynth.evaluation.gap import LEAST, MOST, SIMILARITY, GapRow, measure_gap, noise_floor
from stepsynth.evaluation.two_samples import NEIGHBOURS, kernel_width
from stepsynth.journal.queries import each_training_row
from stepsynth.model_cache import at_hand
from stepsynth.runtime.imports import importing
from stepsynth.runtime.shutdown import check_stop
from stepsynth.students.curve import guess_labels
from stepsynth.students.probe import FrozenEncoder
from stepsynth.tasks import split_labels, stored_family
from stepsynth.words import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal, Row
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["GAP", "find_gap", "gap_facts", "stored_gap"]

GAP = "gap"
"""Its name in the journal and in ``results.json``."""

_SEED = 0
_FOLDS = 5


def gap_facts(journal: Journal, config: RunConfig, *, embeds: bool = True) -> dict[str, str]:
    """Return the figures as a fact for `Journal.finish`; empty if there are none to keep.

    A figure that cannot be computed must not keep a run from ending: then the reason is kept.

    Args:
        journal: the run's.
        config: its config.
        embeds: whether the student's base model may be loaded.
    """
    if not config.report.gap or journal.meta("finished") is not None:
        return {}
    try:
        found = find_gap(journal, config, embeds=embeds)
    except Interrupted:
        raise
    except Exception as error:  # safetensors, tokenizers and scikit-learn each raise their own
        found = {"reason": f"they could not be computed: {' '.join(str(error).split())[:300]}", "rounds": []}
    return {} if found is None else {GAP: json.dumps(found, ensure_ascii=True)}


def stored_gap(journal: Journal) -> dict[str, Any] | None:
    """Return the figures that a finished run keeps; ``None`` if it has none."""
    found = journal.meta(GAP)
    return None if found is None else dict(json.loads(found))


def find_gap(
    journal: Journal, config: RunConfig, *, embeds: bool = True, splits: Sequence[str] = ("harvest", "select")
) -> dict[str, Any] | None:
    """Compute the figures of every round with written rows.

    Args:
        journal: the run's.
        config: its config; the student's base model gives the embeddings if it is on this machine.
        embeds: whether to use it.
        splits: the gold rows to compare with; ``select`` alone has rows that no prompt showed, unless the method cross-fits.

    Returns:
        ``rows`` (gold rows that were compared), ``base`` (the model of the embeddings, or ``None``), ``reason`` (why there are no
        figures, or none of embeddings; empty if there are), ``most``, ``neighbours``, ``similarity`` (settings), ``floor``, see
        `stepsynth.evaluation.gap.noise_floor`, and ``rounds``: per round ``round``, ``all`` and ``new``, each a
        `stepsynth.evaluation.gap.GapFigures` or ``None`` for too few rows; ``new`` is ``None`` in the first round, where
        it is ``all``. ``None`` if nothing was written.
    """
    with importing():
        from threadpoolctl import threadpool_limits

    family = stored_family(config.task)
    gold = [row for split in splits for row in journal.gold(split)]
    real = _sampled(gold, family)
    written = _written(journal, family, real)
    if not written:
        return None
    found: dict[str, Any] = {"rows": len(real), "base": None, "reason": ""}
    found |= {"most": MOST, "neighbours": NEIGHBOURS, "similarity": SIMILARITY, "floor": None, "rounds": []}
    if len(real) < LEAST:
        found["reason"] = f"{len(real)} labelled rows are too few to compare with: figures need {LEAST}"
        return found
    found["reason"] = _no_base(config, embeds=embeds)
    found["base"] = None if found["reason"] else config.student.model
    # Sums in another order have other last digits: one thread, whatever the machine has.
    with threadpool_limits(1, user_api="blas"):
        theirs, ours = _gap_rows(config, family, real, written, embeds=found["base"] is not None)
        width = _width(theirs)
        found["floor"] = noise_floor(theirs, width, _SEED)
        for number in sorted(ours):
            check_stop()
            so_far = _in_order(row for other, rows in ours.items() if other <= number for row in rows)
            figures = measure_gap(so_far, theirs, width, _SEED)
            new = None if number == min(ours) else measure_gap(_in_order(ours[number]), theirs, width, _SEED)
            record = {"round": number, "all": figures.record() if figures else None, "new": new.record() if new else None}
            found["rounds"].append(record)
    return found


def _width(rows: Sequence[GapRow]) -> float | None:
    """Return the kernel's width, from the gold rows alone, so that all rounds have the same; ``None`` without vectors."""
    import numpy as np

    return None if any(row.vector is None for row in rows) else kernel_width(np.vstack([row.vector for row in rows]))


def _no_base(config: RunConfig, *, embeds: bool) -> str:
    """Return why there are no embeddings; empty if there are."""
    if config.student.own or not embeds:
        return "the student has no base model that could give embeddings"
    if not at_hand(config.student.model):
        return f"the base model {config.student.model!r} is not on this machine"
    return ""


def _priority(name: str) -> str:
    """Return the place of a row in a random order that does not change when rows are added."""
    return hashlib.sha256(f"gap {_SEED} {name}".encode("utf-8", "surrogatepass")).hexdigest()


def _key(example: Example, family: TaskFamily) -> str:
    return example.label if family.one_label else ""


def _sampled(gold: Sequence[Example], family: TaskFamily) -> list[Example]:
    """Return the gold rows to compare with: all of them, or the share of each label in a sample."""
    by_key: defaultdict[str, list[Example]] = defaultdict(list)
    for row in gold:
        by_key[_key(row, family)].append(row)
    share = min(1.0, MOST / max(1, len(gold)))
    kept = {
        row.id
        for rows in by_key.values()
        for row in nsmallest(max(1, int(share * len(rows))), rows, key=lambda row: _priority(row.id))
    }
    return [row for row in gold if row.id in kept]


def _written(journal: Journal, family: TaskFamily, real: Sequence[Example]) -> dict[int, list[Row]]:
    """Return the written rows to compare by round: of each label, no more than there are gold rows.

    Those with the lowest priority are kept, so that a later round's sample of all rows is part of what is kept here.
    """
    most: defaultdict[str, int] = defaultdict(int)
    for example in real:
        most[_key(example, family)] += 1
    kept: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)

    def cut(place: tuple[int, str]) -> None:
        kept[place] = nsmallest(most[place[1]], kept[place], key=_row_priority)

    for row in each_training_row(journal):
        place = (row.round, _key(row.example, family))
        if place[1] in most:
            kept[place].append(row)
            # Only now and then: sorting after every row would take long.
            if len(kept[place]) > 4 * most[place[1]] + 100:
                cut(place)
    by_round: defaultdict[int, list[Row]] = defaultdict(list)
    for place in sorted(kept):
        cut(place)
        by_round[place[0]] += kept[place]
    return dict(by_round)


def _row_priority(row: Row) -> str:
    return _priority(f"{row.stage}/{row.position}")


def _gap_rows(
    config: RunConfig, family: TaskFamily, real: Sequence[Example], written: dict[int, list[Row]], *, embeds: bool
) -> tuple[list[GapRow], dict[int, list[tuple[str, GapRow]]]]:
    """Return both sides with vectors and a probe's agreement; written rows by round, each with its priority."""
    flat = [(number, row) for number, rows in sorted(written.items()) for row in rows]
    examples = [*real, *(row.example for _, row in flat)]
    vectors = _embedded(config, family, examples) if embeds else None
    agrees = _agreement(family, real, [row for _, row in flat], vectors)
    groups = [*(_group(row.id, row.context) for row in real)]
    groups += [_group(row.source or f"{row.stage}/{row.position}", row.context) for _, row in flat]
    made = [
        GapRow(row.text, _key(row, family), group, None if vectors is None else vectors[place], agrees[place])
        for place, (row, group) in enumerate(zip(examples, groups, strict=True))
    ]
    theirs = [
        row for _, row in sorted(zip(map(_priority, (row.id for row in real)), made, strict=False), key=lambda pair: pair[0])
    ]
    ours: defaultdict[int, list[tuple[str, GapRow]]] = defaultdict(list)
    for (number, row), one in zip(flat, made[len(real) :], strict=True):
        ours[number].append((_row_priority(row), one))
    return theirs, dict(ours)


def _in_order(rows: Iterable[tuple[str, GapRow]]) -> list[GapRow]:
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _group(name: str, context: str) -> str:
    """Rows of one context depend on each other, and so do a gold row and what was written from it."""
    return f"context {normalised(context)}" if context else f"row {name}"


def _embedded(config: RunConfig, family: TaskFamily, examples: Sequence[Example]) -> Any:
    """Return a vector for each row: of a pair both texts, of a question the question alone, since nobody wrote its passage."""
    encoder = FrozenEncoder(config.student, family)
    return encoder.embed([row.text for row in examples]) if family.spans else encoder.features(examples)


def _agreement(family: TaskFamily, real: Sequence[Example], written: Sequence[Row], vectors: Any) -> list[bool | None]:
    """Return whether a probe of gold rows gives each row its label; the probe has seen neither the row nor its source."""
    unknown: list[bool | None] = [None] * (len(real) + len(written))
    if vectors is None or family.spans:
        return unknown
    folds = deal_folds(real, _FOLDS, _SEED)
    own = [folds.gold(row) for row in real]
    for place, row in enumerate(written):
        fold = folds.written(row.source, row.context)
        # Any fold's probe may judge what comes from none; in turn, so that all have learned from as many rows.
        own.append(place % folds.count if fold is None else fold)
    labels = [*(row.label for row in real), *(row.example.label for row in written)]
    found = list(unknown)
    for fold in range(folds.count):
        taken = [place for place in range(len(real)) if own[place] != fold]
        held = [place for place, of in enumerate(own) if of == fold]
        if len({labels[place] for place in taken}) < 2:
            return unknown
        guessed = guess_labels(vectors, [labels[p] for p in taken], taken, held, several=family.several_labels)
        for place, guess in zip(held, guessed, strict=True):
            right = frozenset(split_labels(labels[place])) if family.several_labels else labels[place]
            found[place] = bool(guess == right)
    return found
