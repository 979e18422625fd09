"""Seeds added after a look at the results: every look spends a part of the 5 % that false claims may take.

Whoever adds seeds until a difference is established has several chances to be wrong. So each number of seeds
at which a comparison was summarised is a look, kept in its ``results.json``, and the looks share the 5 %
(alpha spending: Lan and DeMets 1983), in proportion to the seeds: after k of N planned seeds, 0.05 * k / N may
be spent. What earlier looks left of that is the level of this look.

Levels are added up (Bonferroni), since all looks share the test rows and most seeds, and how closely they agree
cannot be known from a few seeds. N is announced at the first look (``max_seeds``). Without that the first look
is the plan: it has the whole 5 %, as if it were the only one, and nothing is left for later ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["check_max_seeds", "look", "looks_sentence", "read_looks"]

_LEVEL = 0.05


def check_max_seeds(max_seeds: int | None, seeds: int) -> None:
    """Refuse a plan that ends before the seeds of this call.

    Raises:
        ConfigError: it does.
    """
    if max_seeds is not None and max_seeds < seeds:
        raise ConfigError(
            f"max_seeds is {max_seeds}, less than the {seeds} seeds of this comparison.",
            hint="Give the largest number of seeds that you may add up to, or leave it out.",
        )


def read_looks(folder: Path) -> dict[str, Any]:
    """Return what a comparison's folder says of earlier looks: ``looks`` and ``max_seeds``; empty before the first.

    Results of versions that did not count looks are one look at the full level.
    """
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        seeds = [int(seed) for seed in found["seeds"]]
        known = [{"seeds": [int(seed) for seed in e["seeds"]], "level": float(e["level"])} for e in found.get("looks", [])]
        return {"looks": known or [{"seeds": seeds, "level": _LEVEL}], "max_seeds": int(found.get("max_seeds", len(seeds)))}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def look(
    results: dict[str, Any], before: dict[str, Any], max_seeds: int | None, note: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return the results with this look recorded and ``p_holm`` corrected for all looks.

    The same seeds as in an earlier look are the same look. ``p_holm`` is multiplied by 0.05 / level, so that it
    is below 0.05 if and only if the difference is established at the level of this look; if nothing is left, 0.05
    is added: a claim now would be false with at most that probability.

    Args:
        results: from `stepsynth.comparison.summarise`.
        before: from `read_looks`.
        max_seeds: how many seeds there may be in the end; only the first look can say so.
        note: called with a sentence if it says so too late.
    """
    looks: list[dict[str, Any]] = list(before.get("looks", []))
    planned = int(before.get("max_seeds") or max_seeds or len(results["seeds"]))
    if max_seeds is not None and max_seeds != planned:
        note(f"This comparison was first looked at with a plan of {planned} seeds; max_seeds={max_seeds} comes too late.")
    if not any(entry["seeds"] == results["seeds"] for entry in looks):
        looks.append({"seeds": results["seeds"], "level": _left(looks, len(results["seeds"]), planned)})
    level = float(next(entry["level"] for entry in looks if entry["seeds"] == results["seeds"]))
    systems = [_corrected_system(entry, level) for entry in results["systems"]]
    return {**results, "systems": systems, "looks": looks, "max_seeds": planned}


def looks_sentence(results: dict[str, Any]) -> str:
    """Return how often the results were looked at and what that costs; empty for results that do not say."""
    looks = results.get("looks")
    if not looks:
        return ""
    level = next((entry["level"] for entry in looks if entry["seeds"] == results["seeds"]), _LEVEL)
    counts, planned = [len(entry["seeds"]) for entry in looks], results["max_seeds"]
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    said = f"These results were looked at {times}, with {_joined(counts)} of {planned} planned seeds"
    if level >= _LEVEL:
        return f"{said}, which costs nothing; seeds beyond that plan (max_seeds) can establish nothing more."
    if level > 0:
        return (
            f"{said}: the looks share the 5 % for false claims, so with these seeds a difference is established "
            f"at {100 * level:.1f} %, and p (Holm) is corrected for that."
        )
    return f"{said}: earlier looks used up the 5 % for false claims, so nothing more can be established; p (Holm) says so."


def _left(looks: Sequence[dict[str, Any]], seeds: int, planned: int) -> float:
    """Return what may be spent by now without what was spent."""
    spent = sum(float(entry["level"]) for entry in looks)
    return round(max(0.0, _LEVEL * min(1.0, seeds / planned) - spent), 6)


def _corrected_system(entry: dict[str, Any], level: float) -> dict[str, Any]:
    differences = {key: found for key in ("difference", "against_student") if (found := entry.get(key))}
    return {**entry, **{key: {**found, "p_holm": _corrected(found["p_holm"], level)} for key, found in differences.items()}}


def _corrected(p_value: float, level: float) -> float:
    if level == _LEVEL:
        return p_value
    return round(min(1.0, p_value * _LEVEL / level if level else p_value + _LEVEL), 6)


def _joined(counts: Sequence[int]) -> str:
    *first, last = map(str, counts)
    return f"{', '.join(first)} and {last}" if first else last
