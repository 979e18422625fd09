"""The contract of a task family as tests, for its author.

    from stepsynth.testing import FamilyContract

    class TestRating(FamilyContract):
        family = Rating
        rows = [{"text": "Never again.", "label": "1"}, {"text": "It was fine.", "label": "2"}, ...]

        def task(self) -> dict[str, object]:
            return {"labels": ["1", "2", "3"]}

Pytest finds the tests in the subclass. Give about twenty different rows, as a user would label them, with every label
(and, if rows keep a text, with several such texts).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from stepsynth.config import RunConfig, parse_config
from stepsynth.data import load_seed, load_validation
from stepsynth.data.texts import load_texts
from stepsynth.prompts import Prompts
from stepsynth.registry import STUDENTS
from stepsynth.tasks import TaskFamily, create_family, register_family
from stepsynth.types import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.types import Evaluation, Example

__all__ = ["FamilyContract"]


class FamilyContract:
    """The behaviour that stepsynth relies on; subclass it in a test file.

    Attributes:
        family: the class, or the name of a registered family.
        rows: labelled rows with the columns of a data file.
    """

    family: ClassVar[type[TaskFamily] | str]
    rows: ClassVar[Sequence[Mapping[str, object]]]

    # the author's part ----------------------------------------------------------------

    def task(self) -> Mapping[str, Any]:
        """Return the keys of ``task`` other than family, name and instruction: ``labels``, ``options``, ..."""
        return {}

    def wrong(self, family: TaskFamily, example: Example) -> str | None:
        """Return a wrong answer for a row, or ``None`` if there is none; by default another label."""
        if family.spans:
            return "no such words here"
        return next((label for label in family.labels if label not in family.labels_of(example)), None)

    # rows -------------------------------------------------------------------------------

    def test_rows_are_read_with_all_that_they_hold(self) -> None:
        """The family's columns are those of its rows."""
        family, examples = self._loaded()
        _check(len(examples) == len(self.rows), f"{len(examples)} of {len(self.rows)} rows were read")
        _check(all(bool(example.context) == family.has_context for example in examples), "has_context does not match the rows")
        for example in examples:
            strange = [label for label in family.labels_of(example) if label not in family.labels]
            _check(not strange, f"labels_of gives {strange!r}, which the task does not have")
            _check(bool(example.answers) == family.spans, "answers must be spans if and only if spans is true")

    def test_rows_that_it_wrote_are_read_again_alike(self) -> None:
        """`record` returns JSON, and a row that can be read."""
        family, examples = self._loaded()
        records = [dict(family.record(example)) for example in examples]
        _check([*map(_bare, self._read(records))] == [*map(_bare, examples)], "rows from record() are read differently")
        allowed = {*family.text_columns, *family.answer_columns, *family.optional_columns}
        _check(set(records[0]) <= allowed, f"record() has columns that are not read: {set(records[0]) - allowed}")

    def test_rows_without_an_answer_are_read_for_predicting(self) -> None:
        """Texts without answers are enough."""
        family, examples = self._loaded()
        texts = [{name: dict(family.record(example))[name] for name in family.text_columns} for example in examples]
        with TemporaryDirectory() as folder:
            found = load_texts(_write(Path(folder), texts), family.task)
        same = [(example.text, example.context) for example in found] == [(e.text, e.context) for e in examples]
        _check(same, "texts that were written are read differently")
        shown = {len(family.texts(example)) for example in found}
        _check(shown <= {1} or shown <= {2}, "texts() must give one text for every row, or two for every row")
        _check(all(isinstance(text, str) for e in found for text in family.texts(e)), "texts() must give strings")

    def test_the_cut_loses_no_row(self) -> None:
        """Both halves together contain each row once."""
        config = self._config(self.rows)
        found = load_validation(config)
        both = Counter(_bare(example) for example in (*found.harvest, *found.select))
        _check(both == Counter(map(_bare, self._loaded()[1])), "the halves together do not contain each row once")
        _check(found.harvest and found.select, "one half is empty")

    def test_groups_sum_up_to_the_rows_asked_for(self) -> None:
        """For any number of rows."""
        family, examples = self._loaded()
        for rows in (len(family.labels) + 1, 17, 100, 1001):
            groups = family.groups(examples, rows)
            _check(sum(groups.values()) == rows, f"groups() gives {sum(groups.values())} rows for {rows}")
            _check(all(count >= 0 for count in groups.values()), "groups() gives a negative number of rows")
            for label in groups:
                parts = label.split("|") if family.several_labels else [label] if label else []
                _check(set(parts) <= set(family.labels), f"groups() names {label!r}, which is not a label")

    def test_a_sample_has_a_group_for_every_label(self) -> None:
        """Labels without a stratum could not be drawn."""
        family, examples = self._loaded()
        present = Counter(example.label for example in examples)
        _check(set(family.strata(present)) == set(present), "strata() leaves out labels, or adds some")

    # prompts ----------------------------------------------------------------------------

    def test_templates_render_with_its_variables(self) -> None:
        """All templates, for small and for capable teachers."""
        family, examples = self._loaded()
        names = set(family.templates(capable=False))
        _check(set(family.prompts) <= names, f"prompts has names that are not templates: {set(family.prompts) - names}")
        for style in ("small", "capable"):
            prompts = Prompts(family.task.model_copy(update={"prompt_style": style}))
            prompts.check()
            for name in prompts.templates:
                label = examples[0].label
                chat = prompts.render(name, label, row=examples[0], examples=examples[1:3], rationales=["a reason"])
                _check(chat[-1].role == "user" and chat[-1].content.strip(), f"the template {name!r} asks nothing")

    def test_right_answers_are_read_from_a_teacher_s_words(self) -> None:
        """The gold answer is read as itself; an empty text is no decision."""
        family, examples = self._loaded()
        for example in examples:
            if not family.gold(example):
                continue
            found = family.read_answer(family.gold(example), example)
            said = f"read_answer() takes the gold answer {family.gold(example)!r} for {found!r}"
            _check(found is not None and self._scored(family, example, *found) == 1.0, said)
        _check(family.read_answer("", examples[0]) is None, "an empty answer decides something")
        _check(family.guesses, "guesses is empty")

    # scores -----------------------------------------------------------------------------

    def test_scores_are_in_range_and_right_answers_get_all(self) -> None:
        """1.0 is right, anything less is a mistake."""
        family, examples = self._loaded()
        for example in examples:
            right = family.score(example, self._right(family, example))
            _check(right == 1.0, f"the right answer of a row scores {right!r}")
            if (wrong := self.wrong(family, example)) is not None:
                score = self._scored(family, example, wrong)
                _check(
                    0.0 <= score < 1.0, f"the wrong answer {wrong!r} scores {score!r}; a wrong answer must score less than 1.0"
                )

    def test_all_right_is_evaluated_as_one(self) -> None:
        """If all answers are right, the value is 1.0."""
        family, examples = self._loaded()
        found = self._evaluated(family, examples, [self._right(family, example) for example in examples])
        _check(found.value == 1.0, f"all answers are right, but evaluate() gives {found.value!r}")

    def test_wrong_answers_are_evaluated_as_they_score(self) -> None:
        """The value is the mean of the rows' scores, which also measure differences between students."""
        family, examples = self._loaded()
        pairs = [(example, wrong) for example in examples if (wrong := self.wrong(family, example)) is not None]
        predictions = [family.decided(example, wrong) for example, wrong in pairs]
        found = self._evaluated(family, [example for example, _ in pairs], predictions)
        mean = sum(family.score(e, p) for (e, _), p in zip(pairs, predictions, strict=True)) / len(pairs)
        _check(abs(found.value - mean) < 1e-5, f"evaluate() gives {found.value!r}, but the rows score {mean!r} on average")
        _check(found.value < 1.0, "wrong answers are evaluated as right")

    def test_predictions_of_other_rows_are_refused(self) -> None:
        """They would be scored against the wrong answers."""
        family, examples = self._loaded()
        predictions = [self._right(family, example) for example in reversed(examples)]
        for rows, given in ((examples, predictions), ([], [])):
            try:
                family.evaluate(rows, given)
            except ValueError:
                continue
            raise AssertionError("evaluate() accepts no rows, or predictions of other rows")

    def test_predictions_can_be_written(self) -> None:
        """In separate columns, as JSON."""
        family, examples = self._loaded()
        found = family.predicted(self._right(family, examples[0]))
        json.dumps(found)
        _check(not set(found) & set(family.text_columns), "predicted() has a column of the row's texts")
        _check(
            isinstance(family.plain_answer(self._right(family, examples[0])), str | list),
            "plain_answer() must give a text or a list",
        )

    # names ------------------------------------------------------------------------------

    def test_it_says_what_it_is(self) -> None:
        """In words for pages, and in values that identify it to a run."""
        family = self._made()
        _check(family.summary.strip() and "\n" not in family.summary, "summary must be a few words on one line")
        _check(family.metric.strip(), "metric is empty")
        _check(family.student in STUDENTS, f"there is no student {family.student!r}")
        first, second = family.identity(), self._made().identity()
        _check(
            json.loads(json.dumps(dict(first))) == json.loads(json.dumps(dict(second))), "identity() differs between two calls"
        )
        _check(set(family.page_names) in (set(), {"context", "text"}), "page_names must have context and text, or be empty")

    # ------------------------------------------------------------------------------------

    def _config(self, rows: Sequence[Mapping[str, object]], folder: Path | None = None) -> RunConfig:
        """Return a config of the task, with its rows in memory, or in a file if a folder is given."""
        name = self.family if isinstance(self.family, str) else register_family(self.family)
        task = {"name": "contract", "instruction": "Decide.", **self.task(), "family": name}
        path = _write(folder, rows) if folder else Path("rows.jsonl").absolute()
        source = {"path": str(path)}
        config = parse_config({"task": task, "data": {"validation": source, "seed": source}, "student": {"stride": 8}})
        if folder:
            return config
        held = {role: getattr(config.data, role).holding([dict(row) for row in rows]) for role in ("validation", "seed")}
        return config.model_copy(update={"data": config.data.model_copy(update=held)})

    def _made(self) -> TaskFamily:
        return create_family(self._config(self.rows).task)

    def _read(self, rows: Sequence[Mapping[str, object]]) -> list[Example]:
        with TemporaryDirectory() as folder:
            return load_seed(self._config(rows, Path(folder)))

    def _loaded(self) -> tuple[TaskFamily, list[Example]]:
        return self._made(), self._read(self.rows)

    def _right(self, family: TaskFamily, example: Example) -> Prediction:
        start = example.answers[0].start if example.answers else -1
        return family.decided(example, family.gold(example), start)

    def _scored(self, family: TaskFamily, example: Example, answer: str, start: int = -1) -> float:
        return family.score(example, family.decided(example, answer, start))

    def _evaluated(self, family: TaskFamily, examples: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        found = family.evaluate(examples, predictions)
        json.dumps(dict(found.details))
        _check(found.metric == family.metric, f"evaluate() names its metric {found.metric!r}, the family {family.metric!r}")
        _check(found.n == len(examples), f"evaluate() counts {found.n} rows of {len(examples)}")
        _check(0.0 <= found.ci95[0] <= found.value <= found.ci95[1] <= 1.0, f"{found.value!r} with the interval {found.ci95!r}")
        return found


def _bare(example: Example) -> tuple[object, ...]:
    return example.text, example.label, example.context, example.answers


def _write(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
