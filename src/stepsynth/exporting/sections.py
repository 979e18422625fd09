"""The sections that a dataset card and a model card share, as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from stepsynth import __version__
from stepsynth.config.endpoints import shown_addresses
from stepsynth.exporting.facts import model_licence
from stepsynth.filters import REASONS
from stepsynth.report.gap import gap_sentences
from stepsynth.run.public import public_config, public_name, public_server, source_name
from stepsynth.run.stage_titles import stage_title
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepsynth.exporting.facts import Facts

__all__ = [
    "about_task",
    "citation",
    "code",
    "gap",
    "gold_use",
    "joined",
    "making",
    "plain",
    "repeating",
    "scores",
    "table",
    "warnings",
]

_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~$])")
_CITATION = """@inproceedings{wang-etal-2023-lets,
  title     = {Let's Synthesize Step by Step: Iterative Dataset Synthesis with Large Language Models
               by Extrapolating Errors from Small Models},
  author    = {Wang, Ruida and Zhou, Wangchunshu and Sachan, Mrinmaya},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2023},
  year      = {2023},
  pages     = {11817--11831},
  note      = {arXiv:2310.13671},
}"""
_STUDENTS = {
    "labels": "the validation rows",
    "written": "the written rows",
    "both": "written and validation rows together",
    "stages": "written rows, then validation rows",
    "pool": "pool texts, then validation rows",
    "all": "written rows and pool texts, then validation rows",
    "weighted": "weighted written rows, then validation rows",
}
_GOLD_USE = {
    "written": (
        "Mistakes of the student on the harvest half decide what is written next, and prompts may show its rows.",
        "The select half chooses the best round. No prompt shows it.",
        "No validation row is a training row of the student.",
    ),
    "both": (
        "Mistakes of the student on the harvest half decide what is written next, and prompts may show its rows.",
        "The select half chooses the best round. No prompt shows it.",
        "The last student also learned from both halves.",
    ),
    "gold": ("The student learned from both halves.",),
    "crossfit": (
        "Every validation row was judged by students that had not learned from it. Their mistakes decide what is written next, "
        "and prompts may show validation rows.",
        "The cross-validated score on these rows chose the final student, which may also have learned from them.",
    ),
    "none": ("Prompts may show rows of the harvest half.",),
}


def plain(text: object) -> str:
    """Return a text in one line, without what Markdown or HTML would act on."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def code(text: str, language: str) -> str:
    """Return a block of code, whatever it contains."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def joined(*parts: str) -> str:
    """Join the parts of a card, leaving out empty ones."""
    return "\n\n".join(part for part in parts if part) + "\n"


def about_task(facts: Facts) -> str:
    """Return the task, its labels and the teacher."""
    task, config = facts.config.task, facts.config
    labels = table(["label", "meaning"], [[plain(name), plain(meaning)] for name, meaning in task.labels.items()])
    student = public_name(config.student.called)
    return joined(
        "## Task",
        f"{plain(task.instruction)}\n\nFamily: `{task.family}` ({plain(facts.family.summary)}). A row's text is: "
        f"{plain(task.text_kind)}.",
        labels if task.labels else "",
        "## Models and licences",
        table(
            ["", "model", "licence"],
            [
                [
                    "teacher (writes rows)",
                    _teacher(facts),
                    "none" if config.teacher.backend == "fake" else plain(_licence(config.teacher.model, "terms of use")),
                ],
                ["student's base model", plain(student), plain(_licence(config.student.called, "licence"))],
            ],
        ),
        "Whether rows that a model wrote may be published, or used to train other models, depends on the terms of that model.",
    ).rstrip()


def _teacher(facts: Facts) -> str:
    teacher = facts.config.teacher
    if not facts.requested and facts.trains != "none" and not facts.method["requests"]:
        return "none was asked"
    if teacher.backend == "fake":
        return teacher.called
    server = public_server(teacher.base_url)
    server = server and shown_addresses(server, len(teacher.base_urls))
    return plain(f"{public_name(teacher.model)} ({teacher.backend}{', ' + server if server else ''})")


def _licence(model: str, what: str) -> str:
    found = model_licence(model)
    return f"{found} (of the model's weights)" if found else f"not recorded: check the {what} of {public_name(model)}"


def making(facts: Facts) -> str:
    """Return how the rows were made, and what became of each."""
    method = facts.config.method
    if not facts.stages:
        return ""
    rows = [
        [
            plain(stage_title(s["stage"], s["kind"])),
            plain(s["stage"]),
            f"{s['requested']:,}",
            f"{s['accepted']:,}",
            f"{sum(s['dropped'].values()):,}",
        ]
        for s in facts.stages
    ]
    reasons = [
        [plain(reason), f"{count:,}", plain(REASONS.get(reason, "a filter of the user"))]
        for reason, count in sorted(facts.dropped.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    own = [plain(f"{entry.name} {entry.options or ''}") for entry in facts.config.filters]
    checked = facts.method["label_check"] is not None
    return joined(
        "## How the rows were made",
        f"Method `{method.name}` of stepsynth {__version__}: {method.rounds} round(s) after the first rows, seed "
        f"{facts.config.seed}. {facts.requested:,} rows were requested: {facts.accepted:,} were accepted and "
        f"{facts.requested - facts.accepted:,} dropped.",
        table(["stage", "name", "requested", "accepted", "dropped"], rows),
        table(["dropped because", "rows", "meaning"], reasons) if reasons else "",
        "### Filters",
        "A written row is dropped for the first of these reasons that applies: "
        + "; ".join(f"*{plain(reason)}* ({plain(meaning)})" for reason, meaning in facts.rules.items())
        + ".",
        f"Settings: `label_check: {'harvest' if checked else 'none'}`"
        + (f", `label_check_ratio: {method.label_check_ratio}`" if checked else "")
        + f", `max_overgeneration: {method.max_overgeneration}`."
        + (f" The user's own filters: {', '.join(own)}." if own else ""),
    ).rstrip()


def gap(facts: Facts) -> str:
    """Return how far the written rows are from labelled ones; empty without figures."""
    sentences = [plain(sentence) for sentence in gap_sentences(facts.method.get("gap") or {})]
    return joined("## Beside labelled rows", " ".join(sentences)).rstrip() if sentences else ""


def scores(facts: Facts) -> str:
    """Return the students' scores."""
    rounds = facts.method["rounds"]
    if not rounds:
        return joined("## Scores", "No student has been trained.").rstrip()
    best = facts.method["best_round"]
    columns = [name for name in ("test", "crossfit", "select") if any(entry.get(name) for entry in rounds)]
    titles = {"test": "sealed test set", "crossfit": "cross-validation", "select": "select half of the validation rows"}
    rows = []
    for entry in rounds:
        student = _STUDENTS.get(entry.get("student") or "", "")
        name = f"round {entry['round']}{f' ({student})' if student else ''}"
        rows.append(
            [
                f"**{name}, the final student**" if entry["round"] == best else name,
                f"{entry['rows']:,}",
                *(score_text(entry.get(column)) for column in columns),
            ]
        )
    sealed = "The sealed test set is read once, after the last training; no decision uses it." if "test" in columns else ""
    words = [f"- {plain(sentence)}" for sentence in (facts.method.get("worth") or {}).get("words", [])]
    return joined(
        "## Scores",
        "In percent, with 95 % intervals and the number of rows (n).",
        table(["student", "training rows", *(titles[column] for column in columns)], rows),
        sealed,
        "\n".join(words),
    ).rstrip()


def score_text(score: dict[str, Any] | None) -> str:
    """Return a score with its interval."""
    if not score:
        return ""
    low, high = score["ci95"]
    metric = plain(score["metric"].replace("_", " "))
    return f"{metric} {100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}] (n = {score['n']:,})"


def warnings(facts: Facts) -> str:
    """Return the warnings of the run's page."""
    found = [*(["The run has not ended: numbers may change."] if not facts.finished else []), *facts.warnings]
    return joined("## Warnings", "\n".join(f"- {plain(sentence)}" for sentence in found)).rstrip() if found else ""


def gold_use(facts: Facts) -> str:
    """Return what the labelled rows were used for."""
    data = facts.config.data
    lines = [
        f"- Validation: {counted(facts.harvest + facts.select, 'row')} of {plain(source_name(data.validation))}, in two halves "
        f"(harvest {facts.harvest:,}, select {facts.select:,}).",
        *(f"- {sentence}" for sentence in _gold_uses(facts)),
    ]
    test = facts.method["test"]
    if data.test is not None:
        used = f"{counted(test['n'], 'row')}, for" if test else "not opened yet; for"
        lines.append(f"- Test: {plain(source_name(data.test))}: {used} the scores above and nothing else.")
    for name, what in (("contexts", "texts to write about"), ("seed", "rows to start from"), ("pool", "texts without labels")):
        if (source := getattr(data, name)) is not None:
            lines.append(f"- {name}: {plain(source_name(source))}: {what}.")
    return joined("## Use of labelled data", "\n".join(lines)).rstrip()


def _gold_uses(facts: Facts) -> list[str]:
    found = list(_GOLD_USE[facts.trains])
    if facts.trains in ("written", "both"):
        if not facts.from_mistakes:
            found[0] = "No mistake on the harvest half decided what was written."
        if facts.config.student.keep == "last" and len(facts.method["rounds"]) < 2:
            found[1] = "The select half chose nothing. No prompt shows it."
    return found


def repeating(facts: Facts) -> str:
    """Return how to repeat the run."""
    text = yaml.safe_dump(public_config(facts.config), sort_keys=False, allow_unicode=True, width=100)
    return joined(
        "## How to repeat it",
        f"Save this as config.yaml beside the data files, and run it with stepsynth {__version__}:",
        code("stepsynth run config.yaml", "sh"),
        code(text, "yaml"),
        "Files are shown by their names alone, and the address of a private server is left out. Another processor or another "
        "teacher writes other rows.",
    ).rstrip()


def citation() -> str:
    """Return whom to cite."""
    return joined(
        "## Citation",
        'The method is S3, "Let\'s Synthesize Step by Step" ([arXiv 2310.13671](https://arxiv.org/abs/2310.13671)).',
        code(_CITATION, "bibtex"),
    ).rstrip()
