"""A student in one file outside of the package: word counts and a logistic regression, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import stepsynth as ss
from stepsynth.types import Prediction

__all__ = ["TfIdf"]


class TfIdf(ss.StudentRecipe):
    """Weighs words by how rare they are, and labels by a logistic regression on them."""

    name = "tfidf"

    def __init__(self, words: int = 2000, strength: float = 10.0) -> None:
        self.words, self.strength = words, strength

    def fit(
        self,
        train: Sequence[ss.Example],
        select: Sequence[ss.Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Words:
        labels = sorted({row.label for row in train})
        vectorizer = TfidfVectorizer(max_features=self.words)
        features = vectorizer.fit_transform([row.text for row in train])
        wanted = numpy.array([[row.label == label for label in labels] for row in train])
        # One regression for each label: the same form for two labels as for more.
        each = [LogisticRegression(C=self.strength, random_state=seed).fit(features, column) for column in wanted.T]
        kept = {
            "labels": labels,
            "words": {word: int(place) for word, place in vectorizer.vocabulary_.items()},
            "idf": vectorizer.idf_.tolist(),
            "weights": [model.coef_[0].tolist() for model in each],
            "bias": [float(model.intercept_[0]) for model in each],
        }
        (out / "student.json").write_text(json.dumps(kept, sort_keys=True), encoding="utf-8")
        return self.load(out)

    def load(self, folder: Path) -> Words:
        return Words(**json.loads((folder / "student.json").read_text(encoding="utf-8")))


class Words:
    """A trained one."""

    def __init__(
        self, labels: list[str], words: dict[str, int], idf: list[float], weights: list[list[float]], bias: list[float]
    ) -> None:
        self.labels = labels
        self.vectorizer = TfidfVectorizer(vocabulary=words)
        self.vectorizer.idf_ = numpy.array(idf)
        self.weights, self.bias = numpy.array(weights), numpy.array(bias)

    def predict(self, examples: Sequence[ss.Example]) -> list[Prediction]:
        if not examples:
            return []
        features = self.vectorizer.transform([row.text for row in examples])
        odds = 1 / (1 + numpy.exp(-(features @ self.weights.T + self.bias)))
        shares = odds / odds.sum(axis=1, keepdims=True)
        return [
            Prediction(row.id, self.labels[int(own.argmax())], dict(zip(self.labels, map(float, own), strict=True)))
            for row, own in zip(examples, shares, strict=True)
        ]
