"""A text classifier: a pretrained encoder with a fresh head, trained quickly on few short texts.

    model = Classifier(config, ["negative", "positive"]).fit(train, select, seed=0, out=folder)
    model.predict(examples)

The training is transformers' `Trainer`. What makes it quick on a CPU without changing what is learnt:

- texts are tokenised once, and batches hold texts of similar length, so little padding is computed (`batches`);
- only the rows of the embedding matrix whose tokens occur are trained (`embeddings`);
- epochs are judged on batches sorted by length, and the best weights stay in memory (`trainer`).

Everything runs in float32, so that a result does not depend on the generation of the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth import assets
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.students.batches import Network, Tokenizer, forward, longest, tokenise
from stepsynth.students.embeddings import only_used_embeddings
from stepsynth.students.surroundings import quiet, seeded
from stepsynth.types import Prediction

if TYPE_CHECKING:
    import torch

    from stepsynth.config import StudentConfig
    from stepsynth.types import Example

__all__ = ["Classifier", "ClassifierModel"]

Progress = Callable[[int, int], None]


class ClassifierModel:
    """A trained classifier.

    Args:
        network: a transformers sequence-classification model.
        tokenizer: its tokenizer.
        labels: label names in the order of the network's outputs.
        max_length: tokens per text, longer ones are cut.
    """

    def __init__(self, network: Network, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> None:
        self.labels = list(labels)
        self._network = network
        self._tokenizer = tokenizer
        self._max_length = max_length

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order, probabilities rounded to six decimals.

        Texts are batched by length and content, so the order of ``examples`` changes nothing.
        """
        rows = tokenise(self._tokenizer, [example.text for example in examples], self._max_length)
        answers: list[Prediction | None] = [None] * len(rows)
        for positions, logits in forward(self._network, self._tokenizer, rows):
            for position, row in zip(positions, logits.double().softmax(-1).tolist(), strict=True):
                probabilities = {label: round(p, 6) for label, p in zip(self.labels, row, strict=True)}
                best = max(range(len(row)), key=row.__getitem__)
                answers[position] = Prediction(examples[position].id, self.labels[best], probabilities)
        return [answer for answer in answers if answer is not None]


class Classifier:
    """Single-label classification with a pretrained encoder.

    Args:
        config: which base model and how it is trained.
        labels: label names in the order of the network's outputs.
    """

    def __init__(self, config: StudentConfig, labels: list[str]) -> None:
        self.config = config
        self.labels = labels

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        progress: Progress | None = None,
    ) -> ClassifierModel:
        """Train from the base model and write weights, config, tokenizer and ``training.json`` into ``out``.

        The epoch with the highest accuracy on ``select`` is kept (ties: lower loss, then earlier);
        without ``select`` the last one. Same arguments on one CPU give the same bytes.

        Raises:
            ConfigError: the base model cannot be loaded, or training diverged.
            DataError: no training rows, or a label that the student does not have.
        """
        _check_labels(train, select, self.labels)
        with quiet(), seeded(seed):
            from stepsynth.students import trainer

            network, tokenizer = self._base()
            max_length = longest(self.config.max_length, network, tokenizer)
            rows = tokenise(tokenizer, [example.text for example in train], max_length)
            judged = tokenise(tokenizer, [example.text for example in select], max_length)
            with only_used_embeddings(network, [*rows, *judged], tokenizer.pad_token_id):
                history, best = trainer.train(
                    network,
                    tokenizer,
                    self.config,
                    train=(rows, _targets(train, self.labels)),
                    select=(judged, _targets(select, self.labels)),
                    seed=seed,
                    out=out,
                    progress=progress,
                )
            network.eval()
            network.save_pretrained(out)
            tokenizer.save_pretrained(out)
            record = {
                "max_length": max_length,
                "seed": seed,
                "best_epoch": best.epoch,
                "epochs": [asdict(epoch) for epoch in history],
            }
            (out / "training.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return ClassifierModel(network, tokenizer, self.labels, max_length)

    def load(self, folder: Path) -> ClassifierModel:
        """Return the model that `fit` wrote into ``folder``.

        Raises:
            RunError: files are missing or unreadable, or the model has other labels.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with quiet(), seeded(0):
            try:
                max_length = int(json.loads((folder / "training.json").read_text(encoding="utf-8"))["max_length"])
                network = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, **local)
                tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            except Exception as error:  # safetensors, tokenizers and JSON each raise their own
                raise RunError(
                    f"the student in {str(folder)!r} cannot be loaded: {_one_line(error)}",
                    hint="Run the same command again to retrain it.",
                ) from error
        labels = [network.config.id2label[index] for index in sorted(network.config.id2label)]
        if labels != self.labels:
            raise RunError(f"the student in {str(folder)!r} has labels {labels!r}, the config has {self.labels!r}.")
        return ClassifierModel(network.to(_device()).eval(), tokenizer, labels, max_length)

    def _base(self) -> tuple[Network, Tokenizer]:
        """Load the base model with a fresh head of the right size, and its tokenizer."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        where = assets.resolve(self.config.model, kind="student")
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
            network = AutoModelForSequenceClassification.from_pretrained(
                where,
                num_labels=len(self.labels),
                id2label=dict(enumerate(self.labels)),
                label2id={label: index for index, label in enumerate(self.labels)},
                problem_type="single_label_classification",
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
            )
        except Exception as error:  # transformers raises OSError, ValueError, KeyError and its dependencies' own
            raise ConfigError(
                f"student.model {self.config.model!r} cannot be loaded: {_one_line(error)}",
                hint="It must be an encoder with safetensors weights: an embedded name, a local folder or a hub id.",
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        network.config.pad_token_id = tokenizer.pad_token_id
        return network.to(_device()), tokenizer


def _check_labels(train: Sequence[Example], select: Sequence[Example], labels: Sequence[str]) -> None:
    if not train:
        raise DataError("no rows to train the student on.", hint="Every row was dropped; see the reasons with: stepsynth status")
    for example in (*train, *select):
        if example.label not in labels:
            raise DataError(f"row {example.id!r} has label {example.label!r}, which is none of {list(labels)!r}.")


def _targets(examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
    return [labels.index(example.label) for example in examples]


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
