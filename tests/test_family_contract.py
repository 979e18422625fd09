"""Every family keeps the contract that `stepsynth.testing` gives to authors, and the contract finds what breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from family_rows import PAIR, PAIR_ROWS, QA, QA_ROWS, TAG_ROWS, TAGS
from family_worlds import rows_of
from own_families import Rating, Reply
from stepsynth.errors import UserError
from stepsynth.prompts import Prompts
from stepsynth.registry import FAMILIES
from stepsynth.tasks import AnswerKind, Classification, TaskFamily
from stepsynth.testing import FamilyContract
from stepsynth.types import Evaluation, Example, Prediction

_OTHER = ("family", "name", "instruction")
_TONES = [{"letter": row["text1"], "reply": row["text2"], "label": row["label"]} for row in rows_of("pair", 16)]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test brings is not there in the next."""
    monkeypatch.setattr(FAMILIES, "_given", {})


def keys(task: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key not in _OTHER}


class TestClassification(FamilyContract):
    family: ClassVar[type[TaskFamily] | str] = "classification"
    rows: ClassVar = rows_of("classification", 20)

    def task(self) -> Mapping[str, Any]:
        return {"labels": ["kalm", "spitz"]}


class TestMultiLabel(FamilyContract):
    family = "multi_label"
    rows: ClassVar = TAG_ROWS

    def task(self) -> Mapping[str, Any]:
        return keys(TAGS)


class TestPair(FamilyContract):
    family = "pair"
    rows: ClassVar = PAIR_ROWS

    def task(self) -> Mapping[str, Any]:
        return keys(PAIR)


class TestExtractiveQA(FamilyContract):
    family = "extractive_qa"
    rows: ClassVar = QA_ROWS

    def task(self) -> Mapping[str, Any]:
        return keys(QA)


class TestAnOrderedRating(FamilyContract):
    family = Rating
    rows: ClassVar = [{"text": f"text {n} of a kind", "label": str(n % 4)} for n in range(24)]

    def task(self) -> Mapping[str, Any]:
        return {"labels": ["0", "1", "2", "3"], "options": {"steps": 3}}


class TestAReplyToALetter(FamilyContract):
    family = Reply
    rows: ClassVar = _TONES

    def task(self) -> Mapping[str, Any]:
        return {"labels": ["follows", "other"]}


class Topics(TaskFamily):
    """Any number of labels for a remark on a text that is kept."""

    answer_kind: AnswerKind = "labels"
    kept, written = "passage", "remark"

    def score(self, example: Example, prediction: Prediction) -> float:
        return float(set(self.labels_of(example)) == set(self.plain_answer(prediction)))


class TestTopicsOfARemark(FamilyContract):
    family = Topics
    rows: ClassVar = [
        {"passage": f"passage {n // 2} of a book", "remark": f"remark {n}", "labels": row["labels"]}
        for n, row in enumerate(TAG_ROWS)
    ]

    def task(self) -> Mapping[str, Any]:
        return keys(TAGS)

    def test_templates_show_both_texts_and_ask_for_all_labels(self) -> None:
        family, examples = self._loaded()
        (asked,) = Prompts(family.task).question(examples[0])
        assert "Passage: passage 0 of a book" in asked.content
        assert "Answer with all that hold" in asked.content


class Finding(TaskFamily):
    """A question about a report, in columns of its own."""

    answer_kind: AnswerKind = "span"
    kept, written = "report", "asked"

    def score(self, example: Example, prediction: Prediction) -> float:
        return float(prediction.label in {answer.text for answer in example.answers})


class TestAFindingInAReport(FamilyContract):
    family = Finding
    rows: ClassVar = [{"report": row["context"], "asked": row["question"], "answers": row["answers"]} for row in QA_ROWS]


# what it finds ---------------------------------------------------------------------------


class Generous(Classification):
    """Gives more than all."""

    def score(self, example: Example, prediction: Prediction) -> float:
        return 2.0


class Forgetful(Classification):
    """Writes rows without their label."""

    def record(self, example: Example) -> dict[str, object]:
        return {"text": example.text}


class Unlike(Classification):
    """Evaluates otherwise than it scores."""

    def score(self, example: Example, prediction: Prediction) -> float:
        return float(example.label == prediction.label) or 0.5

    def evaluate(self, gold: Any, predictions: Any) -> Evaluation:
        return Evaluation(self.metric, 1.0, (0.9, 1.0), len(gold))


class Wasteful(Classification):
    """Asks for other numbers of rows than it is told."""

    def groups(self, gold: Any, rows: int) -> dict[str, int]:
        return dict.fromkeys(self.labels, rows)


class Puzzling(Classification):
    """Shows a variable that it does not have."""

    prompts: Mapping[str, str] = {"seed": "--- user\nWrite {{ nothing }}."}


class Restless(Classification):
    """Is another one every time."""

    made: ClassVar[list[int]] = []

    def identity(self) -> Mapping[str, Any]:
        self.made.append(1)
        return {"made": len(self.made)}


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Generous, "test_scores_are_in_range_and_right_answers_get_all"),
        (Forgetful, "test_rows_that_it_wrote_are_read_again_alike"),
        (Unlike, "test_wrong_answers_are_evaluated_as_they_score"),
        (Unlike, "test_predictions_of_other_rows_are_refused"),
        (Wasteful, "test_groups_sum_up_to_the_rows_asked_for"),
        (Puzzling, "test_templates_render_with_its_variables"),
        (Restless, "test_it_says_what_it_is"),
    ],
)
def test_the_contract_finds_what_breaks_it(broken: type[TaskFamily], test: str) -> None:
    class Contract(TestClassification):
        family: ClassVar[type[TaskFamily] | str] = broken

    with pytest.raises((AssertionError, UserError)):
        getattr(Contract(), test)()
    Contract().test_the_cut_loses_no_row()
