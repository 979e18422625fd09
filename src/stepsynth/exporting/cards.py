"""The dataset card and the model card: README.md in the form of the Hugging Face hub, from the run's record alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepsynth.exporting import sections
from stepsynth.exporting.sections import code, joined, plain, table
from stepsynth.run.public import public_name
from stepsynth.runtime.counting import counted
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from stepsynth.exporting.facts import Facts
    from stepsynth.exporting.formats import DataFormat
    from stepsynth.exporting.student import WrittenStudent
    from stepsynth.exporting.tables import Content, Tables

__all__ = ["dataset_card", "model_card"]

_TAGS = ["stepsynth", "synthetic"]
# Scores in results.json are rounded.
_SAME = 1e-4
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SPLITS = {"train": "the accepted written rows", "validation": "validation rows", "test": "rows of the sealed test set"}
_MEANINGS = {
    "round": "the round that the row was written in; -1: a labelled row",
    "kind": "how it was made (`seed`, `extrapolate`, ...; `import`: given by the user; `annotate`: a real text that the teacher "
    "labelled; `gold`: a labelled row)",
    "source": "the id of the validation row that it was written from, if any",
    "stage": "the stage of the run",
    "id": "the row's id in the run",
    "request": "the key of the request to the teacher, a sha256",
    "verdict": "`passed`: the row passed every filter; `dropped`",
    "reason": "why it was dropped",
}


def dataset_card(facts: Facts, tables: Tables, form: DataFormat, content: Content) -> str:
    """Return the card of the exported rows."""
    title = f"{facts.config.task.name}: {'texts' if facts.only_labelled else 'rows'} that a language model {_did(facts)}"
    found = StageKind.ANNOTATE in facts.kinds
    metadata = {
        "pretty_name": facts.config.task.name,
        **_task(facts, "task_categories"),
        "size_categories": [next((name for most, name in _SIZES if facts.accepted < most), "n>1M")],
        "annotations_creators": ["machine-generated"],
        "language_creators": [*(["machine-generated"] if not facts.only_labelled else []), *(["found"] if found else [])],
        "source_datasets": ["original"],
        "tags": _TAGS,
        "configs": form.configs(tables),
    }
    body = joined(
        f"# {plain(title)}",
        "The fake teacher of stepsynth invented the training rows: they are nonsense, for trying things out."
        if facts.config.teacher.backend == "fake"
        else f"{_origin(facts)} No person has checked them. Made with stepsynth.",
        _rows(tables, content),
        "## Loading",
        code(form.loading(), "python"),
        sections.about_task(facts),
        sections.making(facts),
        sections.gap(facts),
        sections.scores(facts),
        sections.warnings(facts),
        sections.gold_use(facts),
        _limits(facts, content),
        sections.repeating(facts),
        sections.citation(),
    )
    return _card("DatasetCard", metadata, body)


def model_card(facts: Facts, student: WrittenStudent, dataset: str | None = None) -> str:
    """Return the card of the exported student.

    Args:
        facts: the run.
        student: what was written.
        dataset: the repository of its rows on the hub.
    """
    name = facts.config.task.name
    base = public_name(facts.config.student.called)
    metadata: dict[str, Any] = {
        **_task(facts, "pipeline_tag"),
        "library_name": "stepsynth",
        "tags": _TAGS,
        "model_name": name,
        **({"base_model": base} if re.fullmatch(r"[\w.-]+/[\w.-]+", facts.config.student.called) else {}),
        **({"datasets": [dataset]} if dataset else {}),
    }
    body = joined(
        f"# {plain(name)}",
        f"{_learned(facts)} Made with stepsynth.",
        "## Loading",
        student.loading,
        sections.about_task(facts),
        sections.scores(facts),
        sections.warnings(facts),
        sections.making(facts),
        sections.gold_use(facts),
        joined(
            "## Limits",
            "\n".join(f"- {sentence}" for sentence in _limits_of_student(facts)),
        ).rstrip(),
        sections.repeating(facts),
        sections.citation(),
    )
    return _card("ModelCard", metadata, body, _results(facts, student))


def _did(facts: Facts) -> str:
    return "labelled" if facts.only_labelled else "wrote"


def _origin(facts: Facts) -> str:
    what = "labelled real texts" if facts.only_labelled else "wrote the training rows"
    steered = f", and the mistakes of a small model decided what it {_did(facts)} next" if facts.from_mistakes else ""
    return f"A large language model {what}{steered}."


def _learned(facts: Facts) -> str:
    """Return what the final student learned from, in one sentence."""
    if not facts.learned_from_teacher:
        return "A small model that learned from labelled rows, and from no row that a large language model wrote."
    rows = "texts" if facts.only_labelled else "rows"
    return (
        f"A small model that learned from {rows} that a large language model {_did(facts)}, and from labelled rows where the "
        "table of scores says so."
    )


def _limits_of_student(facts: Facts) -> list[str]:
    if facts.family.spans:
        knows = "Every question gets a piece of its passage as an answer, also one that the passage does not answer."
    elif facts.family.several_labels:
        knows = "It knows the labels above and nothing else."
    else:
        knows = "It knows the labels above and nothing else: every text gets one, also one that has nothing to do with the task."
    passed = (
        "of the teacher and of the base model" if facts.learned_from_teacher else "of the labelled rows and of the base model"
    )
    return [
        knows,
        f"It reads up to {facts.config.student.max_length:,} tokens of a text.",
        f"Errors and prejudices {passed} may have passed on to it.",
        *(["The scores hold for texts like those of the test set."] if facts.method["test"] else []),
    ]


def _card(kind: str, metadata: dict[str, Any], body: str, results: list[Any] | None = None) -> str:
    """Return metadata and text as the hub's own class writes them; a model's with its results."""
    import huggingface_hub

    if results is None:
        data: Any = huggingface_hub.DatasetCardData(**metadata)
    else:
        data = huggingface_hub.ModelCardData(**metadata, eval_results=results or None)
        if not data.eval_results:
            del data.model_name
    text = f"---\n{data.to_yaml()}\n---\n\n{body}"
    # Read it again: what the hub cannot read must not be written.
    return str(getattr(huggingface_hub, kind)(text))


def _results(facts: Facts, student: WrittenStudent) -> list[Any]:
    """Return the score on the sealed test set of the files that were written, for the hub."""
    import huggingface_hub

    score = facts.method["test"]
    if not score:
        return []
    value = score["value"]
    if student.proof is not None and student.proof.precision == "int8":
        # The run's score is that of the trained student. Only the same measure on the same rows can stand in its place.
        found = student.proof.splits.get("test")
        if found is None or found.rows != score["n"] or abs(found.torch - value) > _SAME:
            return []
        value = round(found.exported, 4)
    test = facts.config.data.test
    of_hub = test is not None and test.hub is not None and test.folder is None
    task = _task(facts, "task")["task"]
    return [
        huggingface_hub.EvalResult(
            task_type=task,
            dataset_type=str(test.hub) if test is not None and of_hub else re.sub(r"\W+", "-", facts.config.task.name).strip("-"),
            dataset_name=f"{facts.config.task.name}, sealed test set of {counted(score['n'], 'row')}",
            dataset_split="test",
            metric_type=score["metric"],
            metric_name=score["metric"].replace("_", " "),
            metric_value=value,
        )
    ]


def _task(facts: Facts, key: str) -> dict[str, Any]:
    name = "question-answering" if facts.family.spans else "text-classification"
    return {key: [name] if key.endswith("s") else name}


def _rows(tables: Tables, content: Content) -> str:
    """Return the tables and their columns."""
    rows = []
    for found in tables.tables:
        what = _SPLITS.get(found.name, "rows that were dropped")
        what = f"references to {what}, without texts" if found.group == "references" else what
        rows.append([f"`{found.group}`", f"`{found.name}`", f"{found.count:,}", what])
    columns = {column.name: column.kind for found in tables.tables for column in found.columns}
    known = [[f"`{name}`", _MEANINGS[name]] for name in columns if name in _MEANINGS]
    references = [found for found in tables.tables if found.group == "references"]
    return joined(
        "## Rows",
        table(["configuration", "split", "rows", "content"], rows),
        table(["column", "meaning"], known) if content.lineage or content.dropped else "",
        "A reference names a labelled row that is not in here: `id` is its id in the run, `row` its number in the user's file "
        "(from 0, without the header), `half` its half of the validation rows, and each `..._sha256` the sha256 of that "
        "text in UTF-8. Who has the file can find and check the row. Who can guess a text can confirm it."
        if references
        else "",
        "\n".join(f"- {plain(note)}" for note in tables.notes),
    ).rstrip()


def _limits(facts: Facts, content: Content) -> str:
    family, data = facts.family, facts.config.data
    found = [
        "A language model wrote these texts. What they say may be wrong, and they may be less varied than real ones.",
        "A row has the label that was asked for. Filters drop what looks wrong, but no person has checked the labels.",
        "Errors and prejudices of the teacher pass on to its rows. Do not take them for statements about real people.",
        "A written row may resemble a labelled row that a prompt showed.",
    ]
    if facts.only_labelled:
        found = ["A row has the label that the teacher gave it. No person has checked the labels."]
    if family.kept:
        place = "the texts to write about" if data.contexts else "validation rows"
        found.append(f"The column {family.kept} was not written: it repeats texts of {place}.")
    if StageKind.IMPORT in facts.kinds:
        found.append(f"{facts.kinds[StageKind.IMPORT]:,} rows (kind import) were given by the user, not written in this run.")
    if StageKind.ANNOTATE in facts.kinds:
        found.append(f"{facts.kinds[StageKind.ANNOTATE]:,} rows (kind annotate) are real texts that the teacher labelled.")
    if content.dropped:
        found.append("Dropped rows may repeat texts of validation rows: that is one reason to drop them.")
    return joined("## Limits", "\n".join(f"- {plain(sentence)}" for sentence in found)).rstrip()
