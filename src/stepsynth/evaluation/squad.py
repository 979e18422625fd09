"""Scores answers to questions like SQuAD: spelling details do not count, words do."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from stepsynth.evaluation.clusters import clusters_of, in_details
from stepsynth.evaluation.metrics import check_rows
from stepsynth.evaluation.seeds import hierarchical_interval
from stepsynth.evaluation.statistics import plain, share_interval
from stepsynth.types import Evaluation, Example, Prediction
from stepsynth.words import is_spaceless, word_runs

__all__ = ["evaluate_extractive_qa", "exact_match", "f1", "normalise_answer"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalise_answer(text: str) -> str:
    """Normalise an answer like SQuAD's scorer (Rajpurkar et al. 2016, section 6).

    In this order: lower case, no ASCII punctuation (which joins the words around it), no
    articles, single spaces. Other punctuation, such as typographic quotes, stays.
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> bool:
    """Whether an answer equals one of the right ones after normalisation.

    Args:
        prediction: the answer's text; the empty string equals a right answer that is empty after
            normalisation, as in the 1.1 scorer.
        answers: the right answers; ``False`` if there are none.
    """
    given = normalise_answer(prediction)
    return any(given == normalise_answer(answer) for answer in answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 over words with one of the right answers, in [0, 1].

    If a side is empty after normalisation, the 2.0 scorer's rule applies: 1 if both are empty,
    otherwise 0. (The 1.1 scorer gives 0 in both cases, so F1 can be below exact match.)

    Args:
        prediction: the answer's text.
        answers: the right answers; 0 if there are none.
    """
    given = _words(prediction)
    return max((_overlap(given, _words(answer)) for answer in answers), default=0.0)


def evaluate_extractive_qa(gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
    """Score predicted answers against the right ones.

    Args:
        gold: the questions with at least one right answer each, at least one question.
        predictions: one per question, in the same order.

    Returns:
        Exact match with its Wilson interval, over passages if some have several questions. ``details`` has plain
        numbers, rounded to 6 digits: ``f1`` (mean), ``f1_ci95`` (bootstrap over rows or passages, always with the
        same seed), ``mean_confidence``, ``n_answered`` (predictions that are not blank) and ``clusters`` (number
        of passages, if fewer than rows).

    Raises:
        ValueError: no rows, predictions for other rows, or a question without an answer.
    """
    check_rows(gold, predictions)
    answers = [[answer.text for answer in example.answers] for example in gold]
    unanswerable = [example.id for example, right in zip(gold, answers, strict=True) if not right]
    if unanswerable:
        raise ValueError(f"{len(unanswerable)} questions have no right answer, the first is {unanswerable[0]!r}")
    given = [prediction.label for prediction in predictions]
    right, clusters = [exact_match(text, golds) for text, golds in zip(given, answers, strict=True)], clusters_of(gold)
    overlaps = [f1(text, golds) for text, golds in zip(given, answers, strict=True)]
    details = {
        "f1": plain(sum(overlaps) / len(overlaps)),
        "f1_ci95": hierarchical_interval([overlaps], 0, clusters),
        "mean_confidence": plain(sum(prediction.confidence for prediction in predictions) / len(predictions)),
        "n_answered": sum(bool(text.strip()) for text in given),
        **in_details(clusters),
    }
    return Evaluation("exact_match", plain(sum(right) / len(gold)), share_interval(right, clusters), len(gold), details)


def _words(text: str) -> list[str]:
    # In scripts without spaces every character counts, as in CMRC's scorer.
    bare = normalise_answer(text)
    return word_runs(bare) if is_spaceless(bare) else bare.split()


def _overlap(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    shared = (Counter(given) & Counter(right)).total()
    # 2PR / (P + R) with P = shared / given and R = shared / right.
    return 2 * shared / (len(given) + len(right))
