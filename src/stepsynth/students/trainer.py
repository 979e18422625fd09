"""transformers' `Trainer` with what a student adds to it: batches by length, the best epoch kept in memory.

    epochs, best = train(network, tokenizer, config, rows=rows, score=score, seed=0, out=folder)

What is learnt is the network's and the rows' business: a row holds the network's arguments, its
targets among them. Optimiser, schedule, clipping, label smoothing and devices are the Trainer's. This module imports
torch and transformers at once; it is itself imported when training starts, not before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from stepsynth.errors import ConfigError
from stepsynth.students.batches import Network, Tokenizer, length_groups

if TYPE_CHECKING:
    from stepsynth.config import StudentConfig

__all__ = ["Epoch", "Scores", "StudentTrainer", "train"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scores:
    """How good a network is on the select rows.

    Attributes:
        accuracy: share of the rows that are right as a whole: the label, all labels, the exact answer.
        loss: mean loss per row.
        f1: credit for rows that are right in part, in families that have such rows.
    """

    accuracy: float
    loss: float
    f1: float | None = None


Score = Callable[[Network], Scores]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the data came to; losses are means per step (train) or row (select)."""

    epoch: int
    train_loss: float
    select_accuracy: float | None = None
    select_loss: float | None = None
    select_f1: float | None = None

    def better_than(self, other: Epoch) -> bool:
        """Higher accuracy wins, then higher F1 where there is one, then lower loss; an equal later epoch does not.

        F1 decides where no row, or the same number of rows, is right as a whole: with many labels
        or few epochs that is the rule, and the loss says little of decisions.
        """
        if self.select_accuracy is None or other.select_accuracy is None:
            return True
        return self._rank(self.select_accuracy) > other._rank(other.select_accuracy)

    def _rank(self, accuracy: float) -> tuple[float, float, float]:
        return accuracy, self.select_f1 or 0.0, -(self.select_loss or 0.0)


def train(
    network: Network,
    tokenizer: Tokenizer,
    config: StudentConfig,
    *,
    rows: Sequence[Mapping[str, Any]],
    score: Score | None,
    seed: int,
    out: Path,
    progress: Progress | None = None,
) -> tuple[list[Epoch], Epoch]:
    """Optimise ``network`` in place and leave the best epoch's weights in it.

    Args:
        network: a transformers model that returns a loss for the rows' targets.
        tokenizer: its tokenizer.
        config: how to train.
        rows: what to learn from: ``input_ids`` and whatever else the network takes, targets included.
        score: says how good the network is, and so picks the best epoch; without it the last one is the best.
        seed: of batches and dropout.
        out: a folder that exists; nothing is written into it.
        progress: called with ``(steps done, steps in all)``; what it raises ends the training.

    Returns:
        All epochs, and the best one.

    Raises:
        ConfigError: training diverged.
    """
    judge = _EpochJudge(score, progress)
    trainer = StudentTrainer(
        model=network,
        args=_arguments(config, len(rows), seed, out),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[judge],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return judge.epochs, judge.best


def _arguments(config: StudentConfig, rows: int, seed: int, out: Path) -> Any:
    """Translate a student's settings into the Trainer's; nothing is saved, reported or printed by it."""
    epochs = max(config.epochs, math.ceil(config.min_steps / math.ceil(rows / config.batch_size)))
    return TrainingArguments(
        output_dir=str(out),
        num_train_epochs=epochs,
        # Several GPUs share a batch, so that its size, and with it the recipe, stays what was asked for.
        per_device_train_batch_size=max(1, config.batch_size // max(1, torch.cuda.device_count())),
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        # The Trainer takes numbers below one as a share of the steps.
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        label_smoothing_factor=config.label_smoothing,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_strategy="epoch",
        # A loss that is no number must be seen, not smoothed over.
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class StudentTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose batches hold rows of similar length."""

    def get_train_dataloader(self) -> Any:
        """Return the batches, prepared for the devices at hand."""
        size = self.args.train_batch_size
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_size=size,
            sampler=_LengthSampler(lengths, size, self.args.seed),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return nothing: the default counts all parameters anew in every step, for a number nobody reads."""
        return 0


class _LengthSampler(Sampler[int]):
    """The positions of one epoch in the order of `length_groups`; accelerate tells it the epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(length_groups(self._lengths, self._batch_size, random.Random(f"{self._seed}/{self._epoch}")))


class _EpochJudge(TrainerCallback):  # type: ignore[misc]
    """Judges the network after every epoch, keeps the best weights in memory and puts them back at the end."""

    def __init__(self, score: Score | None, progress: Progress | None) -> None:
        self.epochs: list[Epoch] = []
        self._score = score
        self._progress = progress
        self._best = 0
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def best(self) -> Epoch:
        return self.epochs[self._best]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step."""
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], model: Network, **_: Any) -> None:
        """Judge the epoch; the Trainer tells its training loss here, once per epoch."""
        if "loss" not in logs:
            return
        self.epochs.append(_judge(model, self._score, len(self.epochs) + 1, logs["loss"]))
        if self.epochs[-1].better_than(self.best):
            self._best = len(self.epochs) - 1
        if self.best is self.epochs[-1] and self._score and state.global_step < state.max_steps:
            self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: Network, **_: Any) -> None:
        """Put the best weights back."""
        if self.best is not self.epochs[-1]:
            model.load_state_dict(self._weights)


def _judge(network: Network, score: Score | None, epoch: int, train_loss: float) -> Epoch:
    """Return the epoch with its scores, rounded to six decimals."""
    if not math.isfinite(train_loss):
        raise ConfigError(
            f"the student diverged in epoch {epoch}: its training loss is {train_loss!r}.", hint="Lower student.learning_rate."
        )
    if score is None:
        return Epoch(epoch, round(train_loss, 6))
    network.eval()
    scores = score(network)
    f1 = None if scores.f1 is None else round(scores.f1, 6)
    return Epoch(epoch, round(train_loss, 6), round(scores.accuracy, 6), round(scores.loss, 6), f1)
