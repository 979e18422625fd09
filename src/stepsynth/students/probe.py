"""A linear probe: the student's own encoder, frozen, with a logistic regression on a few gold rows.

It says which label a text most likely has, from the harvest half alone, and is used to check
whether the teacher kept the label that it was asked for. On 150 gold rows such a probe is about
as good as a fine-tuned student, costs a second, and cannot overfit its encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth import assets
from stepsynth.students.surroundings import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.types import Example

__all__ = ["LinearProbe"]

_FOLDS = 5
_SEED = 0
_BATCH = 32


class LinearProbe:
    """Label probabilities of texts.

    Args:
        config: whose base model gives the embeddings (mean-pooled, unit length).
        examples: gold rows to fit on; at least two labels.
    """

    def __init__(self, config: StudentConfig, examples: Sequence[Example]) -> None:
        self._config = config
        self._encoder: tuple[Any, Any] | None = None
        self._fit(examples)

    def _fit(self, examples: Sequence[Example]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        vectors = self._embed([example.text for example in examples])
        labels = [example.label for example in examples]
        self._classifier = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
        folds = min(_FOLDS, min(labels.count(label) for label in set(labels)))
        if folds >= 2:
            split = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
            guessed = cross_val_predict(self._classifier, vectors, labels, cv=split)
            self.correct = int(sum(a == b for a, b in zip(guessed, labels, strict=True)))
        else:
            self.correct = 0
        self.n = len(labels)
        self._classifier.fit(vectors, labels)

    def probabilities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return label -> probability for each text; labels without gold rows are absent.

        The same list gives the same numbers. Nothing is kept between calls: a text's last digits
        depend on its batch, so a memory of earlier calls would make a resumed run differ.
        """
        if not texts:
            return []
        rows = self._classifier.predict_proba(self._embed(texts))
        return [{str(label): float(p) for label, p in zip(self._classifier.classes_, row, strict=True)} for row in rows]

    def _embed(self, texts: Sequence[str]) -> Any:
        """Return (texts, hidden size) unit vectors."""
        import torch

        tokenizer, network = self._encoder = self._encoder or _load(self._config.model)
        limit = min(self._config.max_length, tokenizer.model_max_length, network.config.max_position_embeddings)
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        tokens = tokenizer(clean, truncation=True, max_length=limit)["input_ids"]
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


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    where = assets.resolve(name, kind="student")
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        network = AutoModel.from_pretrained(where, use_safetensors=True, trust_remote_code=False, dtype="float32")
    return tokenizer, network.eval()
