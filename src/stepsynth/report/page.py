"""What the report says: every number and every row shown is gathered here, from the journal.

The template only sets what it is given. Model and data text reach it as values, are escaped
there, and what no UTF-8 page can hold is replaced at the very end. The page has no script and
asks for nothing outside itself.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from stepsynth import __version__
from stepsynth.filters import REASONS
from stepsynth.report.figures import SERIES, Bar, Line, accuracy_figure, ledger_figure
from stepsynth.types import Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jinja2 import Template

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal, Row

__all__ = ["render_report"]

_SPLITS = ("select", "harvest", "test")
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_WIDE_INTERVAL = 0.05
_LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class _Score:
    metric: str
    value: float
    low: float
    high: float
    n: int
    details: Mapping[str, Any]

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class _Round:
    number: int
    rows: int
    new_rows: int
    scores: Mapping[str, _Score]


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    round: int
    kind: str
    seconds: float
    requested: int
    accepted: int
    reasons: Mapping[str, int]
    missing: Mapping[str, int]

    @property
    def dropped(self) -> int:
        return sum(self.reasons.values())

    @property
    def adds_up(self) -> bool:
        return self.requested == self.accepted + self.dropped


@dataclass(frozen=True, slots=True)
class _Miss:
    text: str
    gold: str
    predicted: str
    probability: float | None
    new: bool
    rows: Sequence[Row]
    outcome: str


@dataclass(frozen=True, slots=True)
class _Misses:
    round: int
    examples: int
    mistakes: Sequence[_Miss]
    followed: bool
    fixed: int
    still: int
    broken: int


def render_report(journal: Journal, results: dict[str, Any], config: RunConfig) -> str:
    """Return the report of a run as one HTML document that encodes as UTF-8.

    The same journal, results and config give the same characters.

    Args:
        journal: the run's journal; scores, rows and predictions are read from it.
        results: the content of ``results.json``; optional keys may be absent.
        config: the run's config.
    """
    method = _mapping(_mapping(results.get("methods")).get(config.method.name))
    rounds = _rounds(journal, method)
    best = _best(method, rounds)
    test = _score(method.get("test")) or (best.scores.get("test") if best else None)
    rows = journal.rows()
    stages = _stages(journal, rows)
    labels = list(config.task.labels)
    ranked = [reason for reason, _ in sum((Counter(s.reasons) for s in stages), Counter[str]()).most_common()]
    values = {
        "name": results.get("run") or config.task.name,
        "config": config,
        "facts": _facts(journal, method, config, best),
        "best": best,
        "test": test,
        "warnings": _warnings(rounds, best, test, stages, config),
        "rounds": rounds,
        "detail": _detail(best, test),
        "stages": stages,
        "ledger": [stage for stage in stages if stage.kind not in ("train", "test")],
        "ranked": ranked,
        "meanings": [(reason, REASONS[reason]) for reason in ranked if reason in REASONS],
        "samples": _samples(stages, rows, labels),
        "misses": [_misses(journal, entry.number, rows) for entry in rounds if journal.predictions(entry.number, "harvest")],
        "figures": _figures(rounds, stages, ranked),
        "series": SERIES,
        "yaml": yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True, width=100),
        "version": __version__,
    }
    return _UNFIT.sub("\ufffd", re.sub("\r\n?", "\n", _template().render(values)))


def _template() -> Template:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count=_count, percent=_percent, clip=_clip, brief=_brief)
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


# numbers -------------------------------------------------------------------------------


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _percent(value: object) -> str:
    return f"{100 * value:.1f}" if isinstance(value, (int, float)) and math.isfinite(value) else "n/a"


def _brief(text: object, length: int = 80) -> str:
    name = str(text)
    return name if len(name) <= length else name[: length - 1] + "…"


def _clip(text: str, length: int = 240) -> tuple[str, str, int]:
    """Cut a text into what is shown at once, the whole (as far as a page can hold it) and what is left out."""
    if len(text) <= length + 80:
        return text, "", 0
    return text[:length].rstrip() + "…", text[:_LONGEST], max(0, len(text) - _LONGEST)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _score(values: Evaluation | Mapping[str, Any] | None) -> _Score | None:
    if not values:
        return None
    known = asdict(values) if isinstance(values, Evaluation) else values
    if not isinstance(known.get("value"), (int, float)):
        return None
    low, high = known.get("ci95") or (known["value"], known["value"])
    details = known.get("details") or {"macro_f1": known.get("macro_f1")}
    return _Score(str(known.get("metric", "accuracy")), known["value"], low, high, int(known.get("n", 0)), details)


def _rounds(journal: Journal, method: Mapping[str, Any]) -> list[_Round]:
    """Join what the journal holds with what results.json says; the journal comes first."""
    told = {entry["round"]: entry for entry in method.get("rounds") or [] if "round" in entry}
    sizes = Counter(row.round for row in journal.dataset())
    entries = []
    for number in sorted({*journal.rounds(), *told}):
        found = {split: _score(journal.evaluation(number, split) or told.get(number, {}).get(split)) for split in _SPLITS}
        scores = {split: score for split, score in found.items() if score is not None}
        total = sum(size for of, size in sizes.items() if of <= number)
        entries.append(_Round(number, total, sizes[number], scores))
    return entries


def _best(method: Mapping[str, Any], rounds: Sequence[_Round]) -> _Round | None:
    named = [entry for entry in rounds if entry.number == method.get("best_round")]
    judged = [entry for entry in rounds if "select" in entry.scores]
    if named or not judged:
        return named[0] if named else None
    return max(judged, key=lambda entry: (entry.scores["select"].value, entry.number))


def _facts(journal: Journal, method: Mapping[str, Any], config: RunConfig, best: _Round | None) -> dict[str, Any]:
    totals = journal.totals()
    tokens = _mapping(method.get("tokens"))
    cost = method.get("cost_usd", totals.cost_usd)
    if config.teacher.backend == "openvino":
        price = "no price: runs on this machine"
    else:
        price = "unknown" if cost is None else f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4f}"
    return {
        "rows": method.get("rows", best.rows if best else len(journal.dataset())),
        "requests": method.get("requests", totals.requests),
        "from_cache": method.get("from_cache", totals.from_cache),
        "prompt": tokens.get("prompt", totals.prompt_tokens),
        "completion": tokens.get("completion", totals.completion_tokens),
        "cost": price,
    }


def _detail(best: _Round | None, test: _Score | None) -> dict[str, Any] | None:
    """The per-label table and confusion matrix of the best round: on test, else on select."""
    if best is None:
        return None
    for split, score in (("test", best.scores.get("test")), ("test", test), ("select", best.scores.get("select"))):
        per_label = score.details.get("per_label") if score else None
        if not score or not per_label:
            continue
        names = [str(entry["label"]) for entry in per_label]
        matrix = score.details.get("confusion") or []
        pairs = [(count, names[i], names[j]) for i, line in enumerate(matrix) for j, count in enumerate(line) if i != j and count]
        worst = sorted(pairs, key=lambda pair: -pair[0])[:10]
        lines = [[(count, count / max(1, sum(line))) for count in line] for line in matrix]
        return {"split": split, "score": score, "per_label": per_label, "names": names, "lines": lines, "worst": worst}
    return None


# stages and rows -----------------------------------------------------------------------


def _stages(journal: Journal, rows: Iterable[Row]) -> list[_Stage]:
    planned: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        planned[row.stage][row.reason] += 1
    stages = []
    for name, number, kind, info, seconds in journal.stages():
        counts = planned[name]
        requested = info.get("requested", sum(counts.values()))
        accepted = counts.pop("", 0)
        missing = {str(label): n for label, n in _mapping(info.get("missing")).items() if n}
        stages.append(_Stage(name, number, kind, seconds, requested, accepted, dict(counts.most_common()), missing))
    return stages


def _spread(rows: Sequence[Row], count: int, key: Callable[[Row], str], order: Sequence[str] = ()) -> list[Row]:
    """Pick rows evenly over groups, and evenly over the plan within a group: no look at their quality."""
    groups: dict[str, list[Row]] = {name: [] for name in order}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    filled = [group for group in groups.values() if group]
    if len(filled) > count:
        filled = [filled[i * len(filled) // count] for i in range(count)]
    quotas = [0] * len(filled)
    while sum(quotas) < min(count, sum(map(len, filled))):
        for place, group in enumerate(filled):
            if quotas[place] < len(group) and sum(quotas) < count:
                quotas[place] += 1
    return [g[(2 * i + 1) * len(g) // (2 * q)] for g, q in zip(filled, quotas, strict=True) for i in range(q)]


def _samples(stages: Sequence[_Stage], rows: Iterable[Row], labels: Sequence[str]) -> list[dict[str, Any]]:
    by_stage: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_stage[row.stage].append(row)
    samples = []
    for stage in stages:
        mine = by_stage[stage.name]
        if not mine:
            continue
        accepted = [row for row in mine if not row.reason]
        dropped = [row for row in mine if row.reason]
        number = 3 * len(labels) if stage.kind == "rationales" else 6
        kept = _spread(accepted, number, lambda row: row.label, labels)
        lost = _spread(dropped, 3, lambda row: row.reason, list(stage.reasons))
        samples.append({"stage": stage, "accepted": kept, "dropped": lost})
    return samples


def _figures(rounds: Sequence[_Round], stages: Sequence[_Stage], ranked: Sequence[str]) -> dict[str, list[str]]:
    """Each figure wide and narrow; one that would be empty is left out."""
    points = {
        split: tuple((r.number, s.value, s.low, s.high) for r in rounds if (s := r.scores.get(split)) and math.isfinite(s.value))
        for split in _SPLITS
    }
    metric = next((score.metric for entry in rounds for score in entry.scores.values()), "accuracy")
    own, rest = list(ranked[: SERIES - 2]), ranked[SERIES - 2 :]
    bars = [
        Bar(
            f"{stage.round} {stage.kind}",
            (stage.accepted, *(stage.reasons.get(r, 0) for r in own), sum(stage.reasons.get(r, 0) for r in rest)),
        )
        for stage in stages
        if stage.accepted or stage.dropped
    ]
    figures = {}
    if any(points.values()):
        lines = [Line(split, points[split]) for split in _SPLITS]
        figures["accuracy"] = [accuracy_figure(lines, metric=metric, narrow=narrow) for narrow in (False, True)]
    if bars:
        figures["ledger"] = [ledger_figure(bars, narrow=narrow) for narrow in (False, True)]
    return figures


# mistakes ------------------------------------------------------------------------------


def _misses(journal: Journal, number: int, rows: Iterable[Row]) -> _Misses:
    """What the student of a round got wrong on harvest, and what became of it in the next round."""
    texts = {example.id: example.text for example in journal.gold("harvest")}
    predictions = journal.predictions(number, "harvest")
    right = {p.example_id: p.label == gold for p, gold in predictions}
    after = {p.example_id: p.label == gold for p, gold in journal.predictions(number + 1, "harvest")}
    before = {p.example_id: p.label == gold for p, gold in journal.predictions(number - 1, "harvest")}
    written: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.source is not None and row.round == number + 1:
            written[row.source].append(row)
    outcomes = {True: "fixed", False: "still wrong", None: ""}
    mistakes = [
        _Miss(
            text=texts.get(p.example_id, p.example_id), gold=gold, predicted=p.label, probability=p.probabilities.get(p.label),
            new=before.get(p.example_id, False), rows=written[p.example_id], outcome=outcomes[after.get(p.example_id)],
        )
        for p, gold in predictions
        if p.label != gold
    ]  # fmt: skip
    ended = Counter(miss.outcome for miss in mistakes)
    broken = sum(1 for example, was in right.items() if was and after.get(example) is False)
    return _Misses(number, len(predictions), mistakes, bool(after), ended["fixed"], ended["still wrong"], broken)


# warnings ------------------------------------------------------------------------------


def _warnings(
    rounds: Sequence[_Round], best: _Round | None, test: _Score | None, stages: Sequence[_Stage], config: RunConfig
) -> list[str]:
    """Sentences that a reader must have seen before believing the headline."""
    found = []
    if best is None:
        found.append("No student has been evaluated yet: this page shows rows only.")
    elif test is None:
        given = "has not been scored yet" if config.data.test else "was not given"
        found.append(f"The sealed test set {given}. Select accuracy chose the best round, so it flatters the student.")
    judged, split = (test, "test") if test else (best.scores.get("select") if best else None, "select")
    if judged and judged.half > _WIDE_INTERVAL:
        found.append(
            f"The {split} set is small (n = {judged.n:,}): its 95 % interval reaches ±{100 * judged.half:.1f} points. "
            "Differences smaller than that say nothing."
        )
    found += _drift(rounds)
    for stage in stages:
        if stage.missing:
            first = ", ".join(f"{label} {n:,}" for label, n in list(stage.missing.items())[:8])
            more = f" and {len(stage.missing) - 8} more labels" if len(stage.missing) > 8 else ""
            found.append(f"Stage {stage.name} ended {sum(stage.missing.values()):,} rows short of its target: {first}{more}.")
        if not stage.adds_up:
            found.append(
                f"Stage {stage.name} asked for {stage.requested:,} rows, but the journal accounts for "
                f"{stage.accepted + stage.dropped:,}."
            )
    return found


def _drift(rounds: Sequence[_Round]) -> list[str]:
    """Harvest against select: two samples of one source, so their scores should agree within noise."""
    apart = []
    for entry in rounds:
        harvest, select = entry.scores.get("harvest"), entry.scores.get("select")
        if harvest and select and abs(harvest.value - select.value) > math.hypot(harvest.half, select.half):
            apart.append(f"round {entry.number}: {_percent(harvest.value)} against {_percent(select.value)} %")
    if not apart:
        return []
    return [
        f"Harvest and select accuracy differ by more than their intervals allow ({'; '.join(apart)}). "
        "Rows that mend harvest mistakes may fit the harvest half rather than the task."
    ]
