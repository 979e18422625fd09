"""A text classifier: a pretrained encoder with a fresh head, trained quickly on few short texts.

    model = Classifier(config, ["negative", "positive"]).fit(train, select, seed=0, out=folder)
    model.predict(examples)

What makes it quick on a CPU without changing what is learnt:

- texts are tokenised once, and batches hold texts of similar length, so little padding is computed;
- only the rows of the embedding matrix whose tokens occur are trained. The others get no gradient,
  yet an optimiser would stream all of them through memory in every step (in a 22M-parameter
  student they are half of all weights);
- checkpoints are judged on batches sorted by length, and the best weights stay in memory.

Everything runs in float32, so that a result does not depend on the generation of the CPU.
"""

from __future__ import annotations

import json
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stepsynth import assets
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.types import Prediction

if TYPE_CHECKING:
    import torch

    from stepsynth.config import StudentConfig
    from stepsynth.types import Example

__all__ = ["Classifier", "ClassifierModel"]

# transformers' own annotations are too loose to gain anything from them.
Network: TypeAlias = Any
Tokenizer: TypeAlias = Any
Tokens = list[int]
Progress = Callable[[int, int], None]

_EVAL_TOKENS = 4096
_LENGTH_NOISE = 0.15
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What one pass over the data came to; losses are means per step (train) or row (select)."""

    epoch: int
    train_loss: float
    select_accuracy: float | None = None
    select_loss: float | None = None

    def better_than(self, other: _Epoch) -> bool:
        """Higher accuracy wins, then lower loss; an equal later epoch does not."""
        if self.select_accuracy is None or other.select_accuracy is None:
            return True
        return (self.select_accuracy, -(self.select_loss or 0.0)) > (other.select_accuracy, -(other.select_loss or 0.0))


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
        rows = _tokenise(self._tokenizer, [example.text for example in examples], self._max_length)
        answers: list[Prediction | None] = [None] * len(rows)
        for positions, logits in _forward(self._network, self._tokenizer, rows):
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
        with _quiet(), _seeded(seed):
            network, tokenizer = self._base()
            max_length = _limit(self.config.max_length, network, tokenizer)
            rows = _tokenise(tokenizer, [example.text for example in train], max_length)
            judged = _tokenise(tokenizer, [example.text for example in select], max_length)
            with _only_used_embeddings(network, [*rows, *judged], tokenizer.pad_token_id):
                history, best = self._train(
                    network,
                    tokenizer,
                    (rows, _targets(train, self.labels)),
                    (judged, _targets(select, self.labels)),
                    seed,
                    progress,
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
        with _quiet(), _seeded(0):
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

    def _train(
        self,
        network: Network,
        tokenizer: Tokenizer,
        train: tuple[list[Tokens], list[int]],
        select: tuple[list[Tokens], list[int]],
        seed: int,
        progress: Progress | None,
    ) -> tuple[list[_Epoch], _Epoch]:
        """Optimise ``network`` in place, leave the best epoch's weights in it, return all epochs and the best."""
        import torch
        import transformers

        rows, targets = train
        batches_per_epoch = math.ceil(len(rows) / self.config.batch_size)
        epochs = max(self.config.epochs, math.ceil(self.config.min_steps / batches_per_epoch))
        total = epochs * batches_per_epoch
        optimizer = self._optimizer(network)
        library: Any = transformers
        schedule = library.get_linear_schedule_with_warmup(optimizer, math.ceil(self.config.warmup * total), total)
        parameters = list(network.parameters())
        history: list[_Epoch] = []
        best: _Epoch | None = None
        weights: dict[str, torch.Tensor] = {}
        for epoch in range(1, epochs + 1):
            network.train()
            losses = torch.zeros((), device=network.device)
            for positions in _length_batches(rows, self.config.batch_size, seed, epoch):
                logits = network(**_pad(tokenizer, [rows[position] for position in positions], network.device)).logits
                wanted = torch.tensor([targets[position] for position in positions], device=network.device)
                loss: Any = torch.nn.functional.cross_entropy(logits, wanted, label_smoothing=self.config.label_smoothing)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                losses += loss.detach()
                if progress is not None:
                    progress(schedule.last_epoch, total)
            history.append(_judge(network, tokenizer, select, epoch, float(losses) / batches_per_epoch))
            if best is None or history[-1].better_than(best):
                best = history[-1]
                if select[0] and epoch < epochs:
                    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        assert best is not None
        if best is not history[-1]:
            network.load_state_dict(weights)
        return history, best

    def _optimizer(self, network: Network) -> torch.optim.Optimizer:
        """AdamW (Loshchilov and Hutter 2019); biases and norms, the one-dimensional weights, do not decay."""
        import torch

        groups = [
            {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)


def _check_labels(train: Sequence[Example], select: Sequence[Example], labels: Sequence[str]) -> None:
    if not train:
        raise DataError("no rows to train the student on.", hint="Every row was dropped; see the reasons with: stepsynth status")
    for example in (*train, *select):
        if example.label not in labels:
            raise DataError(f"row {example.id!r} has label {example.label!r}, which is none of {list(labels)!r}.")


def _targets(examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
    return [labels.index(example.label) for example in examples]


def _tokenise(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[Tokens]:
    if not texts:
        return []
    # A lone surrogate cannot be encoded; tokenizers would stop with a TypeError that names no row.
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    encoded = tokenizer(clean, truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False)
    rows: list[Tokens] = encoded["input_ids"]
    return [row or [tokenizer.pad_token_id] for row in rows]


def _limit(wanted: int, network: Network, tokenizer: Tokenizer) -> int:
    """The longest text in tokens that both the config and the base model allow."""
    positions = getattr(network.config, "max_position_embeddings", None) or wanted
    return int(min(wanted, positions, tokenizer.model_max_length))


def _length_batches(rows: Sequence[Tokens], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return this epoch's batches of positions: similar lengths together, in random order.

    The lengths are jittered before sorting, so that a row meets other neighbours every epoch;
    the one batch that may be smaller is at a random place, so that it is not always the longest rows.
    """
    rng = random.Random(f"{seed}/{epoch}")
    jittered = [(len(row) * rng.uniform(1 - _LENGTH_NOISE, 1 + _LENGTH_NOISE), position) for position, row in enumerate(rows)]
    order = [position for _, position in sorted(jittered)]
    full, rest = divmod(len(order), batch_size)
    sizes = [batch_size] * full + [rest] * bool(rest)
    rng.shuffle(sizes)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    batches = [order[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    rng.shuffle(batches)
    return batches


def _pad(tokenizer: Tokenizer, rows: Sequence[Tokens], device: torch.device) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask``, both (rows, longest row)."""
    import torch

    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=tokenizer.pad_token_id
    )
    lengths = torch.tensor([[len(row)] for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths).long()
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _forward(network: Network, tokenizer: Tokenizer, rows: Sequence[Tokens]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield ``(positions, logits)`` for batches of at most ``_EVAL_TOKENS`` padded tokens, short rows first."""
    import torch

    order = sorted(range(len(rows)), key=lambda position: (len(rows[position]), rows[position]))
    with torch.inference_mode():
        while order:
            size = 1
            while size < len(order) and len(rows[order[size]]) * (size + 1) <= _EVAL_TOKENS:
                size += 1
            batch, order = order[:size], order[size:]
            yield batch, network(**_pad(tokenizer, [rows[position] for position in batch], network.device)).logits.cpu()


def _judge(
    network: Network, tokenizer: Tokenizer, select: tuple[list[Tokens], list[int]], epoch: int, train_loss: float
) -> _Epoch:
    import torch

    if not math.isfinite(train_loss):
        raise ConfigError(
            f"the student diverged in epoch {epoch}: its training loss is {train_loss!r}.", hint="Lower student.learning_rate."
        )
    rows, targets = select
    if not rows:
        return _Epoch(epoch, round(train_loss, 6))
    network.eval()
    right, loss = 0, 0.0
    for positions, logits in _forward(network, tokenizer, rows):
        wanted = torch.tensor([targets[position] for position in positions])
        right += int((logits.argmax(-1) == wanted).sum())
        loss += float(torch.nn.functional.cross_entropy(logits.double(), wanted, reduction="sum"))
    return _Epoch(epoch, round(train_loss, 6), round(right / len(rows), 6), round(loss / len(rows), 6))


@contextmanager
def _only_used_embeddings(network: Network, rows: Sequence[Tokens], padding: int) -> Iterator[None]:
    """Train only the embedding rows that occur; the full matrix is put back at the end.

    A hook renumbers the token ids on their way into the embedding, so that the network itself
    still sees the true ids. Weights that share memory or scale their output are left alone.
    """
    import torch

    embedding = network.get_input_embeddings()
    tied = sum(p is embedding.weight for p in network.state_dict(keep_vars=True).values()) > 1
    if type(embedding) is not torch.nn.Embedding or embedding.sparse or embedding.max_norm is not None or tied:
        yield
        return
    full, size, pad_index = embedding.weight, embedding.num_embeddings, embedding.padding_idx
    extra = {padding} if pad_index is None else {padding, pad_index}
    used = torch.tensor(sorted(extra.union(*rows)), device=full.device)
    renumber = torch.zeros(size, dtype=torch.long, device=full.device)
    renumber[used] = torch.arange(len(used), device=full.device)
    hook = embedding.register_forward_pre_hook(lambda _, inputs: (renumber[inputs[0]], *inputs[1:]))
    embedding.weight = torch.nn.Parameter(full.detach()[used])
    embedding.num_embeddings = len(used)
    embedding.padding_idx = None if pad_index is None else int(renumber[pad_index])
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            full[used] = embedding.weight
        embedding.weight, embedding.num_embeddings, embedding.padding_idx = full, size, pad_index


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch and ask it for deterministic kernels, and give both back as they were."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            memory.fill_uninitialized_memory = fill
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and notices (such as the fresh head's) off the screen."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
