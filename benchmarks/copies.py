"""How often a teacher copies the given text when it writes the other one of a pair.

    STEPSYNTH_DATA=FOLDER python benchmarks/copies.py --data claims rte qnli
    python benchmarks/copies.py --table                        # from the results again

For every task and every kind of prompt, as many requests as ``--rows`` for each label, through the product's plans, sampling
and templates for capable teachers. ``claims`` is the example of that name; the others are drawn from training files of
``$STEPSYNTH_DATA``. The kinds:

- ``seed, nothing shown``: instruction, context and label (``method.seed_from: instruction``);
- ``seed, gold rows shown``: before it two gold rows of the label, as the teacher's own answers (``method.seed_from: examples``);
- ``mistake, told``: the row and what is wrong with it in words, as templates did up to commit 22430df;
- ``mistake, shown``: the row as the teacher's own answer.

Counted, before any filter: answers with most of their runs of five words from the context or from one gold row, or equal to one.
The product's rule is narrower: of contexts it drops only whole repetitions.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from stepsynth.config import load_config
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.methods import MethodContext, Plan
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import SeedPlan
from stepsynth.prompts import Prompts
from stepsynth.run.data import load_run_data
from stepsynth.run.settling import settle
from stepsynth.tasks import create_family
from stepsynth.teachers import create_teacher
from stepsynth.types import Mistake

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "copies.json"
KINDS = ("seed, nothing shown", "seed, gold rows shown", "mistake, told", "mistake, shown")
TOLD = """\
--- user
Here is a task about two texts, {{ a_context_name }} and {{ a_text_name }}: {{ instruction }}
{{ context_name[:1] | upper }}{{ context_name[1:] }}: {{ context }}
{{ text_name[:1] | upper }}{{ text_name[1:] }}: {{ text }}
The right answer is "{{ label }}" ({{ description }}). A reader wrongly took it for "{{ predicted }}" \
({{ predicted_description }}).
Write another {{ text_name }} for the same {{ context_name }} for which the right answer is "{{ label }}", too, and that \
somebody might take for "{{ predicted }}" in the same way: something else about it, in other words.
Write only the text itself: no title, no comment, no placeholder such as [Name]. Length and form: {{ form }}.
"""


def world(name: str, model: str, *overrides: str) -> MethodContext:
    """Return what a method may look at: 60 gold rows, half of them harvest rows, all of which count as mistakes."""
    example = ROOT / "examples" / (f"{name}.yaml" if (ROOT / "examples" / f"{name}.yaml").is_file() else f"{name}/config.yaml")
    sample = [] if example.name == "config.yaml" else ["data.validation.sample=60"]
    shown = ["task.prompt_style=capable", "method.name=s3", "method.demonstrations=fixed"]
    config = settle(load_config(example, [f"teacher.model={model}", *shown, *sample, *overrides]), None)
    inputs = load_run_data(config)
    harvest, labels = inputs.validation.harvest, list(config.task.labels)
    wrong = [Mistake(row, labels[(labels.index(row.label) + 1) % len(labels)], 0.9) for row in harvest]
    return MethodContext(
        config, Prompts(config.task), create_family(config.task), harvest, inputs.contexts, dict, mistakes=lambda _: wrong
    )


def plan_of(kind: str, name: str, model: str) -> Plan:
    """Return the plan of a kind of prompt."""
    if kind.startswith("seed"):
        gold = kind.endswith("rows shown")
        return SeedPlan(world(name, model, f"method.seed_from={'examples' if gold else 'instruction'}"), None, shows=gold)
    ctx = world(name, model, *([f"task.prompts.extrapolate={json.dumps(TOLD)}"] if kind.endswith("told") else []))
    return ExtrapolationPlan.of_mistakes(ctx, ctx.mistakes(0), 1)


def measure(kind: str, name: str, rows: int, teacher: Any, model: str) -> dict[str, Any]:
    """Ask, and count the copies."""
    plan = plan_of(kind, name, model)
    requests = [plan.request(label, number, number) for label in plan.targets for number in range(rows)]
    started = time.perf_counter()
    answers = dict(teacher.generate_batch(iter(requests), [int(request.key({})[:7], 16) for request in requests]))
    gold = [row.text for row in plan.ctx.harvest]  # type: ignore[attr-defined]
    copies = [
        ContaminationFilter.of([*gold, request.context]).copied(normalize_for_match(answers[place].text))
        or normalize_for_match(answers[place].text) in map(normalize_for_match, gold)
        for place, request in enumerate(requests)
    ]
    return {
        "data": name,
        "kind": kind,
        "answers": len(requests),
        "copies": sum(copies),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Measure what is missing, keep it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["claims", "rte", "qnli"])
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--rows", type=int, default=12, help="answers for each label")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    teacher: Any = None
    for name in () if options.table else options.data:
        for kind in KINDS:
            if any((line["data"], line["kind"]) == (name, kind) for line in found):
                continue
            if teacher is None:
                config = load_config(ROOT / "examples" / "claims" / "config.yaml", [f"teacher.model={options.model}"])
                teacher = create_teacher(config.teacher.model_copy(update={"concurrency": 16}))
            found.append(measure(kind, name, options.rows, teacher, options.model))
            RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    names = list(dict.fromkeys(line["data"] for line in found))
    print(f"| copies of answers | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for kind in KINDS:
        own = {line["data"]: f"{line['copies']} of {line['answers']}" for line in found if line["kind"] == kind}
        print(f"| {kind} | {' | '.join(own.get(name, '') for name in names)} |")


if __name__ == "__main__":
    main()
