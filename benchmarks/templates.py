"""What a set of templates gets out of a teacher: rows kept, right labels, variety, tokens and seconds per row.

    python benchmarks/templates.py --data shop trec rotten_tomatoes
    python benchmarks/templates.py --models qwen2.5-coder-1.5b --data shop --rows 24 --samples samples.txt

    python benchmarks/templates.py --table                        # from the results again

For every model, style (``small``, ``capable``) and task: reasons for each label, seed rows that show them, seed rows
without reasons, seed rows like gold rows (``method.seed_from: gold``), and rows like the mistakes of a linear probe, all
through the product's plans, sampling and rules. The data sets of ``$STEPSYNTH_DATA`` give 60 gold rows each (half of them
harvest rows) and 2,000 further training rows, on which a probe is fitted that judges the labels; test files are not read.
``shop`` has only its own rows: the probe is fitted on its validation rows. Cells that are in the results already are not
measured again.

Reported per stage:

- ``distinct``: share of the answers' rows that are not one of the others letter by letter;
- ``accepted``: share of the answers' rows that pass all rules but the label check;
- ``faithful``: share of accepted rows whose asked label the probe gives, too;
- ``probe_right``: share of the gold rows that the probe gets right itself;
- ``distinct_2``: distinct pairs of words among all pairs of the accepted rows;
- ``nearest``: mean cosine of a row's embedding to the nearest other row of its label, lower is more varied;
- ``tokens_per_row``, ``seconds_per_row``: prompt and answer tokens, and seconds, per accepted row.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from stepsynth.config import RunConfig, load_config, parse_config
from stepsynth.filters import FilterPipeline
from stepsynth.filters.layout import Layout
from stepsynth.generation.candidates import candidates_of
from stepsynth.generation.waves import next_wave
from stepsynth.methods import MethodContext, Plan
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import RationalePlan, SeedPlan
from stepsynth.prompts import Prompts
from stepsynth.run.data import load_run_data
from stepsynth.run.settling import settle
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks import create_family
from stepsynth.teachers import create_teacher
from stepsynth.types import Candidate, Example, Mistake, Response, Verdict
from stepsynth.words import word_runs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "templates.json"
STYLES = ("small", "capable")
TASKS: dict[str, dict[str, Any]] = {
    "trec": {
        "instruction": "Decide what kind of answer a question asks for.",
        "text_kind": "question to a search engine",
        "labels": {
            "abbreviation": "what an abbreviation stands for, or the short form of something",
            "entity": "a thing: an animal, a colour, a food, an invention, a book, a language, a sport",
            "description": "a definition, a description, a reason or a way to do something",
            "human": "a person, a group, a title or an organisation",
            "location": "a place: a city, a country, a mountain, an address",
            "numeric": "a number: a date, a count, a distance, a price, an age",
        },
    },
    "rotten_tomatoes": {
        "instruction": "Decide whether the writer likes the movie.",
        "text_kind": "sentence from a movie review",
        "labels": {"negative": "the writer dislikes the movie", "positive": "the writer likes the movie"},
    },
}


@dataclass
class World:
    """A task with its gold rows and the probe that judges labels."""

    name: str
    config: RunConfig
    harvest: list[Example]
    judge: LinearProbe
    probe_right: float
    mistakes: list[Mistake] = field(default_factory=list)


def world(name: str) -> World:
    """Return a task's rows; see the module's words."""
    if name == "shop":
        config = load_config(ROOT / "examples" / "shop" / "config.yaml")
        validation = load_run_data(config).validation
        harvest, rest = list(validation.harvest), [*validation.harvest, *validation.select]
        judge = LinearProbe(config.student, create_family(config.task), rest)
        right = judge.correct / judge.n
    else:
        config = parse_config({"task": {"name": name, **TASKS[name]}, "data": {"validation": {"path": "-"}}})
        path = Path(os.environ.get("STEPSYNTH_DATA", ROOT.parent / "shared" / "data")) / name / "train.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        short = {label[:3].lower(): label for label in config.task.labels}
        rows = [{**row, "label": short.get(row["label"][:3].lower(), row["label"])} for row in rows]
        random.Random(0).shuffle(rows)
        gold = [Example(f"gold-{i}", row["text"], row["label"]) for i, row in enumerate(rows[:2360])]
        missing = {example.label for example in gold} - set(config.task.labels)
        if missing:
            raise SystemExit(f"{name}: unknown labels {missing}")
        harvest = gold[:30]
        judge = LinearProbe(config.student, create_family(config.task), gold[60:2060])
        right = _agree(judge, gold[2060:])
    found = World(name, config, harvest, judge, right)
    found.mistakes = _mistakes(found)
    return found


def _agree(judge: LinearProbe, rows: list[Example]) -> float:
    guessed = judge.probabilities(rows)
    return sum(max(p, key=p.__getitem__) == row.label for p, row in zip(guessed, rows, strict=True)) / max(1, len(rows))


def _mistakes(found: World) -> list[Mistake]:
    """Return the harvest rows that a probe on the others gets wrong; a student's mistakes stand in for no more."""
    wrong = []
    for fold in range(3):
        rest = [row for i, row in enumerate(found.harvest) if i % 3 != fold]
        mine = [row for i, row in enumerate(found.harvest) if i % 3 == fold]
        probe = LinearProbe(found.config.student, create_family(found.config.task), rest)
        for row, p in zip(mine, probe.probabilities(mine), strict=True):
            guess = max(p, key=p.__getitem__)
            if guess != row.label:
                wrong.append(Mistake(row, guess, p[guess]))
    return wrong


class Writer:
    """Asks one teacher, and counts what that took."""

    def __init__(self, model: str, config: RunConfig) -> None:
        self.config = config.teacher.model_copy(update={"backend": "openvino", "model": model, "concurrency": 16})
        self.teacher: Any = create_teacher(self.config)

    def stage(self, plan: Plan, rules: FilterPipeline, layout: Layout, limit: float) -> tuple[list[Verdict], dict[str, float]]:
        """Write a stage as the product does; return verdicts and what it took."""
        verdicts: list[Verdict] = []
        asked: Counter[str] = Counter()
        took = {"requests": 0.0, "prompt_tokens": 0.0, "answer_tokens": 0.0, "seconds": 0.0}
        while wave := next_wave(plan, verdicts, asked, limit):
            started = time.perf_counter()
            answers: dict[int, Response] = dict(self.teacher.generate_batch(iter(wave), [hash_seed(r) for r in wave]))
            took["seconds"] += time.perf_counter() - started
            took["requests"] += len(wave)
            took["prompt_tokens"] += sum(a.usage.prompt_tokens for a in answers.values())
            took["answer_tokens"] += sum(a.usage.completion_tokens for a in answers.values())
            candidates: list[Candidate] = []
            for place, request in enumerate(wave):
                candidates += candidates_of(self.config, request, str(place), answers[place], layout)
            verdicts += rules.judge(candidates, [v.candidate.row for v in verdicts if v.accepted])
        return verdicts, took


def hash_seed(request: Any) -> int:
    """Return a sampling seed as the product makes it: from the key."""
    return int(request.key({})[:7], 16)


def figures(found: World, verdicts: list[Verdict], took: dict[str, float], *, reasons: bool) -> dict[str, Any]:
    """Return a stage's figures."""
    rows = [v.candidate.row for v in verdicts if v.accepted]
    good = [v for v in verdicts if v.reason in ("", "surplus")]
    result: dict[str, Any] = {
        "requests": int(took["requests"]),
        "rows": len(rows),
        "distinct": round(len({v.candidate.text for v in verdicts}) / max(1, len(verdicts)), 3),
        "accepted": round(len(good) / max(1, len(verdicts)), 3),
        "reasons": dict(Counter(v.reason for v in verdicts if v.reason).most_common()),
        "tokens_per_row": round((took["prompt_tokens"] + took["answer_tokens"]) / max(1, len(good)), 1),
        "answer_tokens_per_row": round(took["answer_tokens"] / max(1, len(good)), 1),
        "seconds_per_row": round(took["seconds"] / max(1, len(good)), 2),
    }
    pairs = [pair for row in rows for pair in pairwise(word_runs(row.text.casefold()))]
    result["distinct_2"] = round(len(set(pairs)) / max(1, len(pairs)), 3)
    if not reasons and rows:
        examples = [row.example for row in rows]
        result["faithful"] = round(_agree(found.judge, examples), 3)
        by_label = {}
        for label in found.config.task.labels:
            if own := [e for e in examples if e.label == label]:
                by_label[label] = round(_agree(found.judge, own), 2)
        result["faithful_by_label"] = by_label
        result["nearest"] = round(_nearest(found, examples), 3)
    return result


def _nearest(found: World, rows: list[Example]) -> float:
    vectors = found.judge.features(rows)
    near = []
    for i, row in enumerate(rows):
        others = [j for j, other in enumerate(rows) if j != i and other.label == row.label]
        if others:
            near.append(float((vectors[others] @ vectors[i]).max()))
    return sum(near) / max(1, len(near))


def cell(model: str, writer: Writer, found: World, style: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Measure one model, style and task."""
    config = found.config
    # More than twice the rows asked for tells nothing new.
    method = {
        "max_overgeneration": 2.0,
        "seed_rows": options.rows,
        "rationales": options.rationales,
        "rows_per_answer": options.rows_per_answer,
    }
    config = settle(
        config.model_copy(
            update={
                "task": config.task.model_copy(update={"prompt_style": style}),
                "method": config.method.model_copy(update=method),
                "teacher": config.teacher.model_copy(update={"backend": "openvino", "model": model}),
            }
        ),
        None,
    )
    layout = Layout.like([row.text for row in found.harvest], config.task.paragraphs)
    reasons: dict[str, list[str]] = {label: [] for label in config.task.labels}
    ctx = MethodContext(
        config, Prompts(config.task), create_family(config.task), found.harvest, (), lambda: reasons, lambda _: found.mistakes
    )
    result: dict[str, Any] = {"probe_right": round(found.probe_right, 3)}
    shown: list[str] = []

    def write(name: str, plan: Plan, rules: FilterPipeline) -> list[Verdict]:
        verdicts, took = writer.stage(plan, rules, layout, config.method.max_overgeneration)
        result[name] = figures(found, verdicts, took, reasons=name == "rationales")
        asked = plan.request(next(iter(plan.targets)), 0, 0)
        shown.extend(f"[{message.role}] {message.content}" for message in asked.messages)
        shown.extend(f"{v.reason or 'ok':14}| {v.candidate.label:12}| {v.candidate.text}" for v in verdicts)
        return verdicts

    plan: Plan = RationalePlan(ctx)
    for verdict in write("rationales", plan, FilterPipeline.for_rationales(plan.targets)):
        if verdict.accepted:
            reasons[verdict.candidate.label].append(verdict.candidate.text)
    plan = SeedPlan(ctx, reasons)
    write("seed", plan, FilterPipeline.for_rows(config.task, found.harvest, found.harvest, plan.targets))
    plan = SeedPlan(ctx, None)
    write("plain", plan, FilterPipeline.for_rows(config.task, found.harvest, found.harvest, plan.targets))
    plan = ExtrapolationPlan.of_gold(ctx)
    write("gold", plan, FilterPipeline.for_rows(config.task, found.harvest, found.harvest, plan.targets))
    if found.mistakes:
        plan = ExtrapolationPlan.of_mistakes(ctx, found.mistakes, 1)
        write("extrapolate", plan, FilterPipeline.for_rows(config.task, found.harvest, found.harvest, plan.targets))
    result["load_average"] = round(os.getloadavg()[0], 1)
    return result, shown


STAGES = {"seed": "reasons", "plain": "plain", "gold": "gold rows", "extrapolate": "mistakes"}


def print_table(found: dict[str, Any]) -> None:
    """Print one line per model, style, task and way to ask for rows."""
    head = (
        "teacher",
        "templates",
        "data",
        "rows from",
        "distinct",
        "kept",
        "label fits",
        "distinct pairs",
        "tokens a row",
        "s a row",
    )
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for key, measured in found.items():
        model, style, name, *_ = key.split("/")
        for stage, what in STAGES.items():
            if stage not in measured:
                continue
            of = measured[stage]
            fits = f"{100 * of['faithful']:.0f} of {100 * measured['probe_right']:.0f} %" if "faithful" in of else ""
            shares = [f"{100 * of[share]:.0f} %" for share in ("distinct", "accepted")]
            more = [f"{of['distinct_2']:.2f}", f"{of['tokens_per_row']:.0f}", f"{of['seconds_per_row']:.1f}"]
            print(f"| {' | '.join([model, style, name, what, *shares, fits, *more])} |")


def print_pooled(found: dict[str, Any]) -> None:
    """Print one line per model, style and task: means over the ways to ask, and of the labels that fit over all kept rows."""
    head = ("teacher", "templates", "data", "rows", "kept", "label fits", "nearest", "tokens a row")
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for key, measured in found.items():
        ways = [measured[stage] for stage in STAGES if measured.get(stage, {}).get("rows")]
        rows = sum(way["rows"] for way in ways)
        fits = sum(way["faithful"] * way["rows"] for way in ways) / rows
        kept, nearest, tokens = (sum(way[of] for way in ways) / len(ways) for of in ("accepted", "nearest", "tokens_per_row"))
        cells = [*key.split("/")[:3], str(rows), f"{100 * kept:.0f} %", f"{100 * fits:.0f} %", f"{nearest:.2f}", f"{tokens:.0f}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Measure what is lacking, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"])
    parser.add_argument("--data", nargs="*", default=["shop", *TASKS], choices=["shop", *TASKS])
    parser.add_argument("--styles", nargs="*", default=list(STYLES), choices=STYLES)
    parser.add_argument("--rows", type=int, default=48, help="seed rows")
    parser.add_argument("--rationales", type=int, default=10, help="reasons per label")
    parser.add_argument("--rows-per-answer", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--samples", type=Path, help="append prompts and rows to this file, to be read")
    options = parser.parse_args()
    found = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.table:
        print_table(found)
        print_pooled(found)
        return
    worlds: dict[str, World] = {}
    for model in options.models:
        writer: Writer | None = None
        for name in options.data:
            for style in options.styles:
                key = f"{model}/{style}/{name}/rows={options.rows}/per_answer={options.rows_per_answer}"
                if key in found:
                    continue
                worlds[name] = worlds.get(name) or world(name)
                writer = writer or Writer(model, worlds[name].config)
                found[key], shown = cell(model, writer, worlds[name], style, options)
                print(key, json.dumps(found[key], indent=1), flush=True)
                options.results.write_text(json.dumps(found, indent=1) + "\n")
                if options.samples:
                    with options.samples.open("a", encoding="utf-8") as file:
                        file.write("\n".join([f"######## {key}", *shown, ""]))


if __name__ == "__main__":
    main()
