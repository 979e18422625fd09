"""A linear probe: the student's own encoder, frozen, with a logistic regression on a few gold rows.

It predicts labels from the harvest half alone, and is used to check whether the teacher's row has the
requested label. On 150 gold rows such a probe is about as good as a fine-tuned student, takes a
second, and cannot overfit its encoder.

A pair is read as [u, v, |u - v|, u * v] of its two texts' embeddings (Conneau et al. 2017, section 3.1).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth import model_cache
from stepsynth.runtime.imports import importing
from stepsynth.students.batches import encodable
from stepsynth.students.reproducibility import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["FrozenEncoder", "LinearProbe", "new_regression", "recall_by_label"]

_FOLDS = 5
_SEED = 0
_BATCH = 32


class FrozenEncoder:
    """What a base model says of rows, without any training; a pair's two texts are read as one vector.

    Args:
        config: its base model gives the embeddings (mean-pooled, unit length).
        family: how rows are read: one text or two.
    """

    def __init__(self, config: StudentConfig, family: TaskFamily) -> None:
        self._config = config
        self._family = family
        self._encoder: tuple[Any, Any] | None = None

    def features(self, examples: Sequence[Example]) -> Any:
        """Return (rows, features)."""
        import numpy

        sides = [self.embed(texts) for texts in zip(*map(self._family.texts, examples), strict=True)]
        if len(sides) == 1:
            return sides[0]
        u, v = sides
        return numpy.hstack([u, v, abs(u - v), u * v])

    def embed(self, texts: Sequence[str]) -> Any:
        """Return (texts, hidden size) unit vectors of texts that stand alone."""
        with importing():
            import torch

        tokenizer, network = self._encoder = self._encoder or _load(self._config.model)
        # Models with relative positions do not say how many they have.
        positions = getattr(network.config, "max_position_embeddings", None) or self._config.max_length
        limit = min(self._config.max_length, tokenizer.model_max_length, positions)
        tokens = tokenizer([encodable(text) for text in texts], truncation=True, max_length=limit)["input_ids"]
        order = sorted(range(len(texts)), key=lambda i: (len(tokens[i]), i))
        vectors = torch.zeros(len(texts), network.config.hidden_size, dtype=torch.float64)
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            batch = tokenizer.pad({"input_ids": [tokens[i] for i in places]}, return_tensors="pt")
            with torch.inference_mode():
                states = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors[places] = torch.nn.functional.normalize(means, dim=-1).double()
        return vectors.numpy()


class LinearProbe:
    """Label probabilities of rows that have one label each.

    Args:
        config: see `FrozenEncoder`.
        family: of rows with one label.
        examples: gold rows to fit on; at least two labels.

    Attributes:
        n: gold rows.
        correct: how many of them cross-validation got right.
        recall: label -> share of its gold rows that cross-validation got right; empty if a label has only one row.
    """

    def __init__(self, config: StudentConfig, family: TaskFamily, examples: Sequence[Example]) -> None:
        self._encoder = FrozenEncoder(config, family)
        self.n = len(examples)
        labels = [example.label for example in examples]
        self._classifier, guessed = _fit(self._encoder.features(examples), labels)
        self.recall = recall_by_label(labels, guessed)
        self.correct = sum(a == b for a, b in zip(guessed, labels, strict=True)) if guessed else 0

    def features(self, examples: Sequence[Example]) -> Any:
        """Return what the classifier reads, (rows, features)."""
        return self._encoder.features(examples)

    def probabilities(self, examples: Sequence[Example]) -> list[dict[str, float]]:
        """Return label -> probability for each row; labels without gold rows are absent.

        The same list gives the same numbers. Nothing is kept between calls: a text's last digits depend on its batch, so a
        memory of earlier calls would make a resumed run differ.
        """
        if not examples:
            return []
        rows = self._classifier.predict_proba(self._encoder.features(examples))
        return [{str(label): float(p) for label, p in zip(self._classifier.classes_, row, strict=True)} for row in rows]


def recall_by_label(labels: Sequence[Any], guessed: Sequence[Any]) -> dict[Any, float]:
    """Return label -> share of its rows that were guessed right; empty without guesses."""
    counts = Counter(labels)
    right = Counter(label for label, guess in zip(labels, guessed, strict=False) if label == guess)
    return {label: right[label] / count for label, count in counts.items()} if guessed else {}


def new_regression() -> Any:
    """Return an unfitted logistic regression for probes and the start of a student's head."""
    with importing():
        from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)


def _fit(vectors: Any, labels: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return a fitted classifier and its cross-validated guesses; no guesses if a label has only one row."""
    with importing():
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classifier = new_regression()
    guessed: list[Any] = []
    folds = min(_FOLDS, min(labels.count(label) for label in set(labels)))
    if folds >= 2:
        split = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
        guessed = cross_val_predict(classifier, vectors, labels, cv=split).tolist()
    return classifier.fit(vectors, labels), guessed


def _load(name: str) -> tuple[Any, Any]:
    with importing():
        from transformers import AutoModel, AutoTokenizer

    where = model_cache.resolve(name, kind="student")
    with quiet(), importing():
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        network = AutoModel.from_pretrained(where, use_safetensors=True, trust_remote_code=False, dtype="float32")
    return tokenizer, network.eval()
