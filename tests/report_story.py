"""A small run, written through the journal's own API, for tests of the report.

``build(path)`` makes ten harvest examples, a seed round with two mistakes on them, rows
written from both, and a second student that fixes one, misses the other again and breaks a
third. It can be told of every task family and method. Every text can be replaced, which is how
hostile texts reach every field of the page. ``comparison()`` tells of four methods.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stepsynth.config import RunConfig, parse_config
from stepsynth.journal import Journal
from stepsynth.report import render_report
from stepsynth.tasks import create_family
from stepsynth.types import (
    Candidate,
    Evaluation,
    Example,
    Graded,
    Message,
    Prediction,
    Request,
    Response,
    Sampling,
    Span,
    Usage,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["NAMES", "Story", "build", "comparison", "evaluation", "make_config", "page_of", "worth"]

TEACHER: dict[str, object] = {"backend": "openai", "model": "tiny", "base_url": "http://127.0.0.1:8000/v1"}


def _same(text: str) -> str:
    return text


@dataclass
class Story:
    """What to tell.

    Attributes:
        labels: at least two; none for questions.
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
        family: of the task.
        method: its name; ``gold`` and ``teacher`` have one round without rows.
        padding: words in every context before and after what matters.
        undecided: answers of the teacher that named no label.
        first: kind of the first stage with rows.
        spoken: what a seed row says, given its number and label.
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
    family: str = "classification"
    method: str = "s3"
    padding: int = 0
    undecided: int = 0
    first: str = "seed"
    spoken: Callable[[int, str], str] = lambda number, label: f"Seed sentence {number} about the acting."

    @property
    def asks(self) -> bool:
        """Whether the task has questions in the place of labels."""
        return self.family == "extractive_qa"

    @property
    def groups(self) -> list[str]:
        """Labels that rows have, sets of them where several may hold."""
        if self.asks:
            return [""]
        return [*self.labels, "|".join(self.labels)] if self.family == "multi_label" else list(self.labels)

    def example(self, name: str, number: int, text: str) -> Example:
        """Return an example of the family, with its context and answers if it has any."""
        label = self.groups[number % len(self.groups)]
        if self.family not in ("pair", "extractive_qa"):
            return Example(name, self.rewrite(text), label)
        filler, boat = "Nothing else of note happened. " * self.padding, self.rewrite(f"Boat {number}")
        context = f"{filler}{boat} left the harbour at dawn. {filler}"
        answers = (Span(boat, len(filler)),) if self.asks else ()
        return Example(name, self.rewrite(text), label, context, answers)


def make_config(story: Story) -> RunConfig:
    """Return a config whose every free text has passed ``story.rewrite``."""

    def rewrite(text: str) -> str:
        # A config cannot hold lone surrogates or empty names: pydantic refuses them.
        return story.rewrite(text).encode("utf-8", "replace").decode("utf-8") or "unnamed"

    fields = {"text1": {"name": rewrite("premise")[:80], "context": True}, "text2": {"name": rewrite("hypothesis")[:80]}}
    values = {
        "task": {
            "family": story.family,
            "name": rewrite("movie-sentences")[:80],
            "instruction": rewrite("Decide whether a sentence from a movie review is negative or positive."),
            "text_kind": rewrite("sentence from a movie review")[:200],
            "labels": {} if story.asks else {label: rewrite(f"the writer is {label}") for label in story.labels},
            "fields": fields if story.family == "pair" else {},
        },
        "data": {"validation": {"path": "validation.jsonl"}, "test": {"path": "test.jsonl"} if story.test else None},
        "teacher": {"backend": "openai", "model": rewrite("tiny"), "base_url": "http://127.0.0.1:8000/v1"}
        if story.backend == "openai"
        else {"backend": story.backend},
        "student": {"model": rewrite("minilm-l6")},
        "method": {
            "name": story.method,
            "seed_rows": max(story.seed_rows, len(story.labels)),
            "rounds": max(0, len(story.wrong) - 1),
        },
    }
    return parse_config(values)


def evaluation(labels: Sequence[str], right: int, n: int, family: str = "classification") -> Evaluation:
    """Return a score with a plausible interval and a confusion matrix whose errors go to the next label."""
    value = right / n
    half = 1.96 * (value * (1 - value) / n) ** 0.5
    ci95 = (max(0.0, value - half), min(1.0, value + half))
    if family == "extractive_qa":
        details = {"f1": value + 0.05, "f1_ci95": (value, value + 0.1), "mean_confidence": 0.71, "n_answered": n - 1}
        return Evaluation("exact_match", value, ci95, n, details)
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
    if family == "multi_label":
        details = {"micro_f1": value + 0.03, "macro_f1": value + 0.01, "hamming": 0.123, "per_label": per_label}
        return Evaluation("subset_accuracy", value, ci95, n, details)
    details = {"macro_f1": value - 0.01, "mcc": 0.6, "per_label": per_label, "confusion": confusion}
    return Evaluation("accuracy", value, ci95, n, details)


def build(path: Path, story: Story | None = None) -> tuple[Journal, dict[str, Any], RunConfig]:
    """Write the story into a new journal and return what `render_report` takes."""
    story = story or Story()
    config = make_config(story)
    journal = Journal(path)
    harvest = [
        story.example(f"harvest-{i}", i, f"Harvest text {i}, a film about trains and patience.") for i in range(story.harvest)
    ]
    select = [story.example(f"select-{i}", i, f"Select text {i}.") for i in range(4)]
    journal.start({"version": "0.1.0"}, {"harvest": harvest, "select": select})
    if story.method in ("gold", "teacher"):
        _train(journal, story, config, 0, [], select if story.method == "teacher" else [])
    else:
        _write(journal, story, config, harvest, select)
    if story.test and story.wrong:
        _test(journal, story, config)
    return journal, _results(journal, story, config), config


def _write(journal: Journal, story: Story, config: RunConfig, harvest: Sequence[Example], select: Sequence[Example]) -> None:
    parts = [""] if story.asks else list(story.labels)
    reasons = [Example("", f"It says that the {label} sides outweigh ({i}).", label) for label in parts for i in range(5)]
    if story.method == "s3":
        _stage(journal, story, "round-0/rationales", 0, "rationales", [(row, None) for row in reasons], {})
    count = len(story.groups)
    seeds = [replace(story.example("", i, ""), text=story.spoken(i, story.groups[i % count])) for i in range(story.seed_rows)]
    asked = {} if story.requested is None else {"requested": story.requested}
    _stage(journal, story, f"round-0/{story.first}", 0, story.first, [(row, None) for row in seeds], asked)
    for number, wrong in enumerate(story.wrong):
        if number:
            sources = [harvest[place] for place in story.wrong[number - 1]]
            plan = [(replace(e, text=f"Written from {e.id}, version {i}."), e.id) for e in sources for i in range(3)]
            _stage(journal, story, f"round-{number}/extrapolate", number, "extrapolate", plan, {"missing": story.missing})
        _train(journal, story, config, number, harvest, select, set(wrong))
    if story.method == "s3+gold":
        _train(journal, story, config, len(story.wrong), [], [])


def _stage(
    journal: Journal,
    story: Story,
    name: str,
    number: int,
    kind: str,
    plan: Iterable[tuple[Example, str | None]],
    info: dict[str, Any],
) -> None:
    verdicts, answers = [], []
    for index, (row, source) in enumerate(plan):
        answer = row.answers[0] if row.answers else None
        messages = (Message("user", f"{name} {index}"),)
        request = Request(messages, Sampling(), 0, name, index, row.label, source, row.context, answer)
        key = request.key(TEACHER)
        answers.append((key, request, Response(row.text, "stop", Usage(40, 12, story.cost))))
        reason = story.drops[index % len(story.drops)] if kind != "rationales" else ""
        verdicts.append(Verdict(Candidate.of(request, key, story.rewrite(row.text)), reason))
    journal.commit_answers(answers, TEACHER)
    journal.finish_stage(name, number, kind, verdicts, info, 12.5)


def _train(
    journal: Journal,
    story: Story,
    config: RunConfig,
    number: int,
    harvest: Sequence[Example],
    select: Sequence[Example],
    wrong: set[int] | None = None,
) -> None:
    results = {}
    if harvest:
        right = len(harvest) - len(wrong or ())
        graded = [_grade(config, story, e, miss=i in (wrong or ())) for i, e in enumerate(harvest)]
        results["harvest"] = (evaluation(story.labels, right, len(harvest), story.family), graded)
    if select:
        score = evaluation(story.labels, story.select[number], story.select_n, story.family)
        results["select"] = (score, [_grade(config, story, e) for e in select])
    info = {"rows": len(journal.dataset(number)), "undecided": story.undecided}
    journal.finish_training(f"round-{number}/train", number, results, info, 81.25)


def _grade(config: RunConfig, story: Story, example: Example, *, miss: bool = False) -> Graded:
    if story.asks:
        (answer,) = example.answers
        # Half right: the words after the answer are taken in.
        said = example.context[answer.start : answer.start + len(answer.text) + 5] if miss else answer.text
        return Graded(Prediction(example.id, said, {said: 0.8}, answer.start), answer.text, float(not miss))
    groups = story.groups
    label = groups[(groups.index(example.label) + 1) % len(groups)] if miss else example.label
    rest = 0.2 / (len(story.labels) - 1)
    chosen = label.split("|") if story.family == "multi_label" else [label]
    prediction = Prediction(example.id, label, {name: 0.8 if name in chosen else rest for name in story.labels})
    return Graded(prediction, create_family(config.task).gold(example), float(not miss))


def _last(story: Story) -> int:
    if story.method in ("gold", "teacher"):
        return 0
    return len(story.wrong) - (story.method != "s3+gold")


def _test(journal: Journal, story: Story, config: RunConfig) -> None:
    """Score every round's student on the sealed test set: five points worse with every round before the last."""
    last = _last(story)
    sealed = [story.example(f"test-{i}", i, "SEALED TEXT") for i in range(4)]
    graded = [_grade(config, story, example) for example in sealed]
    scores = {}
    for number in range(last + 1):
        right = round((0.825 - 0.05 * (last - number)) * story.test_n)
        scores[number] = (evaluation(story.labels, right, story.test_n, story.family), graded)
    info = {"rows": len(sealed), "undecided": story.undecided}
    journal.finish_test("test", last, scores, info, 3.5)


def _results(journal: Journal, story: Story, config: RunConfig) -> dict[str, Any]:
    totals = journal.totals()
    last = _last(story)
    scored = journal.evaluation(last, "test") if last >= 0 else None
    test = None
    if scored is not None:
        test = {"metric": scored.metric, "value": scored.value, "ci95": list(scored.ci95), "n": scored.n}
        test.update({name: value for name, value in scored.details.items() if isinstance(value, float)})
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
    return {**run, "methods": {story.method: method}}


def comparison(seeds: int = 2, *, teacher: bool = True, **changes: Any) -> dict[str, Any]:
    """Return what a comparison comes to, every number another one.

    Args:
        seeds: how many.
        teacher: whether the teacher itself was compared.
        changes: replace keys of the results.
    """
    systems = [
        _system("s3", 0.8123, 70, seeds),
        _system("zerogen", 0.7361, 40, seeds, p=0.0123),
        _system("s3:method.rationales=0", 0.8051, 20, seeds, p=0.4567),
    ]
    if teacher:
        systems.append(_system("teacher", 0.8547, 90, seeds, p=0.0345))
        systems[-1]["per_1000_predictions"] = {"seconds": 345.6, "usd": 12.34}
    curve = [
        {"seed": s, "round": r, "rows": 4310 + 37 * r + s, "select": 0.611 + 0.031 * r + 0.007 * s, "test": 0.621 + 0.043 * r}
        for s in range(seeds)
        for r in range(3)
    ]
    forecast = {
        "rows_now": 5555, "rows": 6666, "value": 0.8765, "ci95": [0.8111, 0.9222], "gain": 0.0131, "gain_ci95": [-0.0217, 0.0482],
        "note": "Two numbers of rows: whether the curve bends cannot be seen.",
    }  # fmt: skip
    results = {
        "task": "movie-sentences", "family": "classification", "student": "minilm-l6", "metric": "accuracy", "match": "rows",
        "teacher": TEACHER, "reference": "s3", "seeds": list(range(seeds)), "test_rows": 1789, "systems": systems,
        "curve": curve, "forecast": forecast, "warnings": ["zerogen against s3: The test set is too small."],
        "minutes": {"generating": 12.3, "training": 45.6, "testing": 7.8},
    }  # fmt: skip
    return {**results, **changes}


def _system(name: str, value: float, number: int, seeds: int, p: float | None = None) -> dict[str, Any]:
    gap = value - 0.8123
    entry: dict[str, Any] = {
        "name": name,
        "score": {"value": value, "ci95": [value - 0.0313, value + 0.0271]},
        "per_seed": [{"seed": s, "value": value + 0.0057 * (2 * s - 1), "round": s} for s in range(seeds)],
        "details": {"macro_f1": value - 0.0104, "mcc": value - 0.2},
        "minutes": number + 0.7,
        "per_1000_predictions": {"seconds": number / 9, "usd": 0.0},
        "difference": None,
    }
    for place, key in enumerate(("rows", "accepted_rows", "requests", "tokens"), start=1):
        entry[key] = [1000 * place + 3 * number + s for s in range(seeds)]
    entry["usd"] = [number / 100 + s + 0.01 for s in range(seeds)]
    if p is not None:
        each = [
            {"seed": s, "value": gap + 0.0019 * (2 * s - 1), "ci95": [gap - 0.061, gap + 0.063 + s / 99], "mcnemar_p": p * 1.7}
            for s in range(seeds)
        ]
        entry["difference"] = {"value": gap, "ci95": [gap - 0.022, gap + 0.021], "p": p, "p_holm": 2 * p, "per_seed": each}
    return entry


SCORE = {"metric": "accuracy", "value": 1.0, "ci95": [0.981, 1.0], "n": 200}
NAMES = {"labels": "your labels alone", "written": "the written rows alone", "both": "both together"}


def worth(p: float = 1e-9) -> dict[str, Any]:
    """Return the table that ends a cross-fitted run, with numbers as wide as they get."""
    students: list[dict[str, Any]] = [
        {
            "student": name,
            "called": called,
            "round": number,
            "rows": 12345,
            "steps": 1000,
            "crossfit": SCORE,
            "test": SCORE,
            "difference": {"value": 0.123, "ci95": [-0.301, 0.388], "p": p, "on": "test", "n": 200} if number > 3 else None,
            "chosen": name == "both",
        }
        for number, (name, called) in enumerate(NAMES.items(), start=3)
    ]
    return {"chosen": "both", "how": "cross-validation", "students": students, "curve": None, "words": ["They help."]}


def page_of(path: Path, found: dict[str, Any]) -> str:
    """Return the page of a run that ended with this table."""
    journal, results, config = build(path, Story(select=(780, 840)))
    with closing(journal):
        (method,) = results["methods"].values()
        method["worth"] = found
        return render_report(journal, results, config)
