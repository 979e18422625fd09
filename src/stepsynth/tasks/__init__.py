"""Task families: what differs between classification, pairs and questions; all else is the same for all.

    family = create_family(config.task)
    family.evaluate(gold, predictions)

A family knows how its rows are compared, scored and written down. How they are read is the data
room's business, how they are asked for the prompts'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stepsynth.tasks.labels import even_targets, join_labels, label_phrase, label_words, split_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.config import TaskConfig
    from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["TaskFamily", "create_family", "even_targets", "join_labels", "label_phrase", "label_words", "split_labels"]


class TaskFamily(Protocol):
    """One kind of task.

    Attributes:
        metric: name of the score that rounds are compared by.
        has_context: whether a row keeps a given text beside the written one.
    """

    metric: str
    has_context: bool

    def groups(self, gold: Sequence[Example], rows: int) -> dict[str, int]:
        """Return label -> rows wanted of ``rows``, for a stage that is spread over the whole task.

        Args:
            gold: the harvest rows, whose distribution a family may follow.
            rows: in all.
        """
        ...

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return 1.0 for a right answer and 0.0 for a wrong one, by `metric`."""
        ...

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Score predictions, one per gold row in the same order.

        Raises:
            ValueError: no rows, or predictions of other rows.
        """
        ...

    def gold(self, example: Example) -> str:
        """Return the right answer in the form that tables show."""
        ...

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return what the student reads, in its order: one text or two."""
        ...

    def record(self, example: Example) -> Mapping[str, object]:
        """Return the row as it is written to a file, in the columns that it can be read from again."""
        ...


def create_family(task: TaskConfig) -> TaskFamily:
    """Return the family of a task."""
    from stepsynth.tasks.classification import Classification, MultiLabel
    from stepsynth.tasks.extractive_qa import ExtractiveQA
    from stepsynth.tasks.pair import Pair

    families: dict[str, Callable[[TaskConfig], TaskFamily]] = {
        "classification": Classification,
        "multi_label": MultiLabel,
        "pair": Pair,
        "extractive_qa": ExtractiveQA,
    }
    return families[task.family](task)
