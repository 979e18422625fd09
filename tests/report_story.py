"""A small two-round run, written through the journal's own API, for tests of the report.

``build(path)`` makes ten harvest examples, a seed round with two mistakes on them, rows
written from both, and a second student that fixes one, misses the other again and breaks a
third. Every text can be replaced, which is how hostile texts reach every field of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.config import RunConfig, parse_config
from stepsynth.journal import Journal
from stepsynth.types import Candidate, Evaluation, Example, Message, Prediction, Request, Response, Sampling, Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["Story", "build", "evaluation", "make_config"]

TEACHER: dict[str, object] = {"backend": "openai", "model": "tiny", "base_url": "http://127.0.0.1:8000/v1"}


def _same(text: str) -> str:
    return text


@dataclass
class Story:
    """What to tell.

    Attributes:
        labels: at least two.
        harvest: gold examples of the harvest half.
        wrong: by round, the positions on harvest that its student gets wrong.
        rewrite: applied to every text that a model or a data set could bring.
        test: whether the sealed test was scored.
        cost: dollars of one answer.
        missing: rows that the extrapolation stage is short of, by label.
        seed_rows: rows planned for the seed stage.
        select: right answers out of ``select_n`` by round.
        select_n: examples of the select half.
        test_n: examples of the test set.
        drops: reason of each planned row, repeated over the plan; empty is accepted.
        requested: what the seed stage says that it asked for, when it says so.
        backend: the teacher's backend.
    """

    labels: Sequence[str] = ("negative", "positive")
    harvest: int = 10
    wrong: Sequence[Sequence[int]] = ((2, 5), (5, 7))
    rewrite: Callable[[str], str] = _same
    test: bool = True
    cost: float | None = None
    missing: dict[str, int] = field(default_factory=dict)
    seed_rows: int = 60
    select: Sequence[int] = (780, 840)
    select_n: int = 1000
    test_n: int = 1000
    drops: Sequence[str] = ("", "", "", "duplicate", "", "too short")
    requested: int | None = None
    backend: str = "openai"


def make_config(story: Story) -> RunConfig:
    """Return a config whose every free text has passed ``story.rewrite``."""

    def rewrite(text: str) -> str:
        # A config cannot hold lone surrogates or empty names: pydantic refuses them.
        return story.rewrite(text).encode("utf-8", "replace").decode("utf-8") or "unnamed"

    values = {
        "task": {
            "name": rewrite("movie-sentences")[:80],
            "instruction": rewrite("Decide whether a sentence from a movie review is negative or positive."),
            "text_kind": rewrite("sentence from a movie review")[:200],
            "labels": {label: rewrite(f"the writer is {label}") for label in story.labels},
        },
        "data": {"validation": {"path": "validation.jsonl"}, "test": {"path": "test.jsonl"} if story.test else None},
        "teacher": {"backend": "openai", "model": rewrite("tiny"), "base_url": "http://127.0.0.1:8000/v1"}
        if story.backend == "openai"
        else {"backend": story.backend},
        "student": {"model": rewrite("minilm-l6")},
        "method": {"seed_rows": max(story.seed_rows, len(story.labels)), "rounds": max(0, len(story.wrong) - 1)},
    }
    return parse_config(values)


def evaluation(labels: Sequence[str], right: int, n: int) -> Evaluation:
    """Return a score with a plausible interval and a confusion matrix whose errors go to the next label."""
    value = right / n
    half = 1.96 * (value * (1 - value) / n) ** 0.5
    size = len(labels)
    counts = [n // size + (i < n % size) for i in range(size)]
    wrong = [(n - right) // size + (i < (n - right) % size) for i in range(size)]
    confusion = [[0] * size for _ in labels]
    for i in range(size):
        confusion[i][i] = counts[i] - wrong[i]
        confusion[i][(i + 1) % size] += wrong[i]
    per_label = [
        {"label": label, "n": counts[i], "precision": 0.8, "recall": confusion[i][i] / max(1, counts[i]), "f1": 0.81}
        for i, label in enumerate(labels)
    ]
    details = {"macro_f1": value - 0.01, "mcc": 0.6, "per_label": per_label, "confusion": confusion}
    return Evaluation("accuracy", value, (max(0.0, value - half), min(1.0, value + half)), n, details)


def build(path: Path, story: Story | None = None) -> tuple[Journal, dict[str, Any], RunConfig]:
    """Write the story into a new journal and return what `render_report` takes."""
    story = story or Story()
    config = make_config(story)
    journal = Journal(path)
    labels = list(story.labels)
    harvest = [
        Example(f"harvest-{i}", story.rewrite(f"Harvest text {i}, a film about trains and patience."), labels[i % len(labels)])
        for i in range(story.harvest)
    ]
    select = [Example(f"select-{i}", story.rewrite(f"Select text {i}."), labels[i % len(labels)]) for i in range(4)]
    journal.start({"version": "0.1.0"}, {"harvest": harvest, "select": select})
    rationales = [(label, None, f"It says that the {label} sides outweigh ({i}).") for label in labels for i in range(5)]
    _stage(journal, story, "round-0/rationales", 0, "rationales", rationales, {})
    seeds = [(labels[i % len(labels)], None, f"Seed sentence {i} about the acting.") for i in range(story.seed_rows)]
    asked = {} if story.requested is None else {"requested": story.requested}
    _stage(journal, story, "round-0/seed", 0, "seed", seeds, asked)
    for number, wrong in enumerate(story.wrong):
        if number:
            sources = [harvest[place] for place in story.wrong[number - 1]]
            plan = [(e.label, e.id, f"Written from {e.id}, version {i}.") for e in sources for i in range(3)]
            _stage(journal, story, f"round-{number}/extrapolate", number, "extrapolate", plan, {"missing": story.missing})
        _train(journal, story, number, harvest, select, set(wrong))
    if story.test and story.wrong:
        _test(journal, story)
    return journal, _results(journal, story, config), config


def _stage(
    journal: Journal,
    story: Story,
    name: str,
    number: int,
    kind: str,
    plan: Iterable[tuple[str, str | None, str]],
    info: dict[str, Any],
) -> None:
    verdicts, answers = [], []
    for index, (label, source, text) in enumerate(plan):
        request = Request((Message("user", f"{name} {index}"),), Sampling(), 0, name, index, label, source)
        key = request.key(TEACHER)
        answers.append((key, request, Response(text, "stop", Usage(40, 12, story.cost))))
        reason = story.drops[index % len(story.drops)] if kind != "rationales" else ""
        verdicts.append(Verdict(Candidate(request, key, story.rewrite(text)), reason))
    journal.commit_answers(answers, TEACHER)
    journal.finish_stage(name, number, kind, verdicts, info, 12.5)


def _train(
    journal: Journal,
    story: Story,
    number: int,
    harvest: Sequence[Example],
    select: Sequence[Example],
    wrong: set[int],
) -> None:
    labels = list(story.labels)
    results = {
        "harvest": (
            evaluation(labels, len(harvest) - len(wrong), len(harvest)),
            [_predict(labels, e, miss=i in wrong) for i, e in enumerate(harvest)],
            harvest,
        ),
        "select": (
            evaluation(labels, story.select[number], story.select_n),
            [_predict(labels, e) for e in select],
            select,
        ),
    }
    journal.finish_training(f"round-{number}/train", number, results, {}, 81.25)


def _predict(labels: Sequence[str], example: Example, *, miss: bool = False) -> Prediction:
    label = labels[(labels.index(example.label) + 1) % len(labels)] if miss else example.label
    rest = 0.2 / (len(labels) - 1)
    return Prediction(example.id, label, {name: 0.8 if name == label else rest for name in labels})


def _test(journal: Journal, story: Story) -> None:
    """Score every round's student on the sealed test set: five points worse with every round before the last."""
    labels, last = list(story.labels), len(story.wrong) - 1
    sealed = [Example(f"test-{i}", "SEALED TEXT", labels[i % len(labels)]) for i in range(4)]
    predictions = [_predict(labels, example) for example in sealed]
    scores = {
        number: (evaluation(labels, round((0.825 - 0.05 * (last - number)) * story.test_n), story.test_n), predictions, sealed)
        for number in range(last + 1)
    }
    journal.finish_test("test", last, scores, {"rows": len(sealed)}, 3.5)


def _results(journal: Journal, story: Story, config: RunConfig) -> dict[str, Any]:
    totals = journal.totals()
    last = len(story.wrong) - 1
    scored = journal.evaluation(last, "test") if last >= 0 else None
    test = None
    if scored is not None:
        test = {"metric": scored.metric, "value": scored.value, "ci95": list(scored.ci95), "n": scored.n}
        test["macro_f1"] = scored.details["macro_f1"]
    method = {
        "rounds": [{"round": number} for number in journal.rounds()],
        "best_round": last if last >= 0 else None,
        "test": test,
        "rows": len(journal.dataset()),
        "requests": totals.requests,
        "tokens": {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens},
        "cost_usd": totals.cost_usd,
    }
    run = {"run": story.rewrite("first-run"), "task": config.task.name, "seed": 0, "labels": list(story.labels)}
    return {**run, "methods": {"s3": method}}
