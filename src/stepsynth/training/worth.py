"""Compares the user's labels with written rows, a pool and their combinations: the table at the end of a cross-fitted run.

Everything is read from the journal, so the table can be rebuilt at any time.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.clusters import in_details
from stepsynth.evaluation.learning import LITTLE_ROOM
from stepsynth.evaluation.statistics import paired_difference
from stepsynth.journal.queries import count_rows
from stepsynth.journal.results import find_choice, find_clusters
from stepsynth.methods.base import made_by
from stepsynth.tasks import stored_family
from stepsynth.training.crossfit import RECIPES, SPLIT
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.journal import Journal
    from stepsynth.types import Evaluation

__all__ = ["find_worth", "worth_title"]

_SEED = 0
_ALPHA = 0.05
_WRITTEN = "written rows"


def _names(made: str) -> dict[str, str]:
    return {
        "labels": "your labels alone",
        "written": f"the {made} alone",
        "both": "both together",
        "stages": f"both, {made} first",
        "weighted": f"both, {made} first and weighted",
        "pool": "the pool, then your labels",
        "all": f"{made} and the pool, then your labels",
    }


def _subject(name: str, made: str) -> tuple[str, str]:
    """Return what a verdict is about, and its short name."""
    return {
        "written": (f"{made} alone", made),
        "pool": ("labels and the pool together", "pool"),
        "all": (f"labels, {made} and the pool together", f"{made} and the pool"),
    }.get(name, (f"labels and {made} together", made))


def find_worth(journal: Journal, config: RunConfig) -> dict[str, Any] | None:
    """Compare students of each kind of rows; ``None`` before the final student is chosen.

    Returns:
        ``chosen``; ``made``: ``written rows``, or what else the method makes; ``how`` it was chosen (``cross-validation`` or
        ``method.final``); ``students``: per student ``student`` (its name in `RECIPES`), ``called``, ``round``, ``rows``,
        ``steps`` (``None``: unknown), ``crossfit`` and ``test`` (scores or ``None``), ``difference`` to labels alone
        (``value``, ``ci95``, ``p``, ``on``: ``test`` or ``crossfit``) and ``chosen``; ``curve``, see
        `stepsynth.students.curve.learning_curve`; ``words``: the conclusions in sentences.
    """
    choice = find_choice(journal)
    if choice is None:
        return None
    made = made_by(config.method.name)
    names = _names(made)
    kept = {info["student"]: (number, info) for _, number, kind, info, _ in journal.stages() if kind == StageKind.TRAIN}
    tested = any(journal.evaluation(number, "test") for number, _ in kept.values())
    split = "test" if tested else SPLIT
    clusters = find_clusters(journal, split)
    judged = choice["judged"]
    places = {name: kept[name][0] if name in kept else None for name in RECIPES} if tested else judged
    scores = {n: _scores(journal, place, split) for n, place in places.items() if place is not None}
    students = []
    for name in RECIPES:
        if name not in kept:
            continue
        number, info = kept[name]
        students.append(
            {
                "student": name,
                "called": names[name],
                "round": number,
                "rows": info["rows"],
                "steps": info.get("steps"),
                "crossfit": _score(journal.evaluation(judged[name], SPLIT)) if name in judged else None,
                "test": _score(journal.evaluation(number, "test")),
                "difference": _difference(scores.get(name), scores.get("labels"), split, name, clusters),
                "chosen": name == choice["chosen"],
            }
        )
    how = "cross-validation" if config.method.final == "auto" else "method.final"
    found = {"chosen": choice["chosen"], "how": how, "made": made, "students": students, "curve": choice["curve"]}
    if nothing := _nothing_made(journal, made):
        others = "labels and the pool" if RECIPES[choice["chosen"]].pool else "labels alone"
        words = [f"{nothing}: the final student learns from your {others}.", *_advice(found, config, makes=True)]
        return {**found, "words": words}
    return {**found, "words": _words(found, choice, config)}


def _nothing_made(journal: Journal, made: str) -> str:
    """Say that no row was kept, and why; empty if one was, or none was asked for."""
    counts = [count for count in count_rows(journal) if count.kind != StageKind.RATIONALES]
    if not counts or any(not count.reason for count in counts):
        return ""
    reasons: Counter[str] = Counter()
    for count in counts:
        reasons[count.reason] += count.rows
    said = ", ".join(f"{rows:,} {reason}" for reason, rows in reasons.most_common(3))
    return f"None of the {reasons.total():,} {made} was kept ({said})"


def worth_title(worth: Mapping[str, Any]) -> str:
    """Return the table's title: what is compared.

    Args:
        worth: from `find_worth`, of this version or an earlier one.
    """
    names = {entry["student"] for entry in worth["students"]}
    made = [f"the {worth.get('made', _WRITTEN)}"] if names & {"written", "both", "stages", "all", "weighted"} else []
    parts = ["your labels", *made, *(["the pool"] if names & {"pool", "all"} else [])]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"What {listed} are worth"


def _scores(journal: Journal, number: int, split: str) -> list[float]:
    return [graded.score for graded in journal.graded(number, split)]


def _score(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    score = {"metric": evaluation.metric, "value": evaluation.value, "ci95": list(evaluation.ci95), "n": evaluation.n}
    return {**score, **{key: value for key, value in evaluation.details.items() if key == "clusters"}}


def _difference(
    own: Sequence[float] | None, labels: Sequence[float] | None, split: str, name: str, clusters: Clusters
) -> dict[str, Any] | None:
    if not own or not labels or name == "labels":
        return None
    found = paired_difference(own, labels, _SEED, clusters)
    value = {"value": found.difference, "ci95": list(found.ci95), "p": found.p_value, "on": split, "n": len(own)}
    return {**value, **in_details(clusters)}


# words ---------------------------------------------------------------------------------


def _words(found: dict[str, Any], choice: dict[str, Any], config: RunConfig) -> list[str]:
    """Say whether written rows help and, if not, what would."""
    sentences = []
    if found["chosen"] == "labels" and found["how"] == "cross-validation":
        right = choice["right"]
        others = " and ".join(f"{count:,} {_with(name, found['made'])}" for name, count in right.items() if name != "labels")
        sentences.append(
            f"The final student learns from your labels alone: they got {right['labels']:,} of {choice['of']:,} gold rows right "
            f"in cross-validation, {others}."
        )
    differences = {entry["student"]: entry["difference"] for entry in found["students"] if entry["difference"]}
    compared = found["chosen"] if found["chosen"] in differences else next(reversed(differences), None)
    difference = differences[compared] if compared else None
    if difference:
        sentences.append(_verdict(difference, str(compared), found["made"]))
        sentences += _not_taken(found, choice, str(compared), difference)
    sentences += _taught_nothing(found["students"], config, found["made"])
    if found["chosen"] == "labels" or difference is None or not _established(difference) or difference["value"] < 0:
        sentences += _advice(found, config, makes=any(RECIPES[entry["student"]].written for entry in found["students"]))
    return sentences


def _not_taken(found: dict[str, Any], choice: dict[str, Any], compared: str, difference: dict[str, Any]) -> list[str]:
    """Say where the better student of two is if the test set contradicts the choice, and what its score is then worth."""
    better = compared if difference["value"] > 0 else "labels"
    if (
        found["how"] != "cross-validation"
        or difference["on"] != "test"
        or not _established(difference)
        or better == found["chosen"]
    ):
        return []
    number = next(entry["round"] for entry in found["students"] if entry["student"] == better)
    return [
        f"The better student was not chosen: {choice['of']:,} rows in cross-validation did not show it, and the test set decides "
        f"nothing. It is kept in models/round-{number}. If you take it because of its test score, measure it again on rows that "
        "no decision has used."
    ]


def _taught_nothing(students: Sequence[dict[str, Any]], config: RunConfig, made: str = _WRITTEN) -> list[str]:
    """Warn if a student of written rows alone does no better than guessing: then the rows do not show their labels."""
    written = next((entry for entry in students if entry["student"] == "written"), None)
    score = (written["test"] or written["crossfit"]) if written else None
    if score is None or not stored_family(config.task).one_label or score["ci95"][0] > 1 / len(config.task.labels):
        return []
    return [
        f"The {made} alone teach next to nothing: {100 * score['value']:.1f} % right, where guessing gives "
        f"{100 / len(config.task.labels):.1f} %. Read some of them before you use the data set."
    ]


def _with(name: str, made: str) -> str:
    if name == "written":
        return f"by {made} alone"
    return {"pool": "with the pool", "all": f"with {made} and the pool"}.get(name, f"with {made}")


def _verdict(difference: dict[str, Any], name: str, made: str) -> str:
    value, (low, high) = difference["value"], difference["ci95"]
    of = f" ({difference['clusters']:,} contexts)" if "clusters" in difference else ""
    rows = "sealed test rows" if difference["on"] == "test" else "of your own rows, cross-validated"
    interval = f"95 % interval {_signed(low)} to {_signed(high)}, on {difference['n']:,} {rows}{of}"
    subject, short = _subject(name, made)
    helps = "helps" if short == "pool" else "help"
    if _established(difference) and value > 0:
        return f"The {short} {helps}: {subject} are worth {100 * value:.1f} points more than your labels alone ({interval})."
    if _established(difference):
        return f"Your labels alone are better: {subject} are worth {-100 * value:.1f} points less ({interval})."
    changes = f"{subject} change" if name == "written" else f"{short} beside them change"
    changes = "the pool beside them changes" if short == "pool" else changes
    if low > 0:
        return (
            f"The {short} may help: {changes} the score by {_signed(value)} points ({interval}), "
            f"which is not established (p = {difference['p']:.2f})."
        )
    return f"No difference is established: {changes} the score by {_signed(value)} points ({interval})."


def _established(difference: dict[str, Any]) -> bool:
    """Whether interval and test agree that there is a difference: on few rows, one alone may be wrong."""
    low, high = difference["ci95"]
    return bool((low > 0 or high < 0) and difference["p"] < _ALPHA)


def _advice(worth: Mapping[str, Any], config: RunConfig, *, makes: bool) -> list[str]:
    """Say what would help; nothing is advised where labels alone leave little room."""
    labels = next((entry["crossfit"] for entry in worth["students"] if entry["student"] == "labels"), None)
    if labels and labels["value"] >= LITTLE_ROOM:
        right = f"{100 * labels['value']:.1f} % right in cross-validation"
        return [f"Your labels leave little room: a student of them alone gets {right}."]
    found, curve = [], worth["curve"]
    if curve and curve["gain_ci95"][0] > 0:
        gain, (low, high) = curve["gain"], curve["gain_ci95"]
        found.append(
            f"What would help: label {curve['more']:,} more rows. Twice as many would bring about {100 * gain:.1f} points "
            f"({100 * low:.1f} to {100 * high:.1f}), by the learning curve of a linear probe."
        )
    elif curve:
        found.append(
            "What would help: perhaps more labels; how many cannot be said, since the learning curve of your "
            f"{curve['rows']:,} rows is too flat or too uncertain."
        )
    else:
        found.append("What would help: perhaps more labels; how many cannot be said from these rows.")
    if config.data.pool is not None:
        found.append("The run's report lists the texts of the pool to label first.")
    if makes:
        better = "write rows that teach more" if made_by(config.method.name) == _WRITTEN else "label more texts rightly"
        found.append(f"A stronger teacher (teacher.model) may {better}.")
    if makes and stored_family(config.task).has_context:
        found.append("So may more texts without labels to write about (data.contexts).")
    if config.data.pool is None:
        found.append("Real texts without labels, if you have them, may help, too (data.pool).")
    return found


def _signed(value: float) -> str:
    return f"{100 * value + 0.0:+.1f}"
