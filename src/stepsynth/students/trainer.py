"""transformers' `Trainer` with what a student adds to it: batches by length, the best epoch kept in memory.

    epochs, best = train(network, tokenizer, config, train=(rows, targets), select=(rows, targets), seed=0, out=folder)

Optimiser, schedule, clipping, label smoothing and devices are the Trainer's. This module imports
torch and transformers at once; it is itself imported when training starts, not before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from stepsynth.errors import ConfigError
from stepsynth.students.batches import Network, Tokenizer, Tokens, forward, length_groups

if TYPE_CHECKING:
    from stepsynth.config import StudentConfig

__all__ = ["Epoch", "Rows", "StudentTrainer", "train"]

Progress = Callable[[int, int], None]
Rows = tuple[list[Tokens], list[int]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the data came to; losses are means per step (train) or row (select)."""

    epoch: int
    train_loss: float
    select_accuracy: float | None = None
    select_loss: float | None = None

    def better_than(self, other: Epoch) -> bool:
        """Higher accuracy wins, then lower loss; an equal later epoch does not."""
        if self.select_accuracy is None or other.select_accuracy is None:
            return True
        return (self.select_accuracy, -(self.select_loss or 0.0)) > (other.select_accuracy, -(other.select_loss or 0.0))


def train(
    network: Network,
    tokenizer: Tokenizer,
    config: StudentConfig,
    *,
    train: Rows,
    select: Rows,
    seed: int,
    out: Path,
    progress: Progress | None = None,
) -> tuple[list[Epoch], Epoch]:
    """Optimise ``network`` in place and leave the best epoch's weights in it.

    Args:
        network: a transformers sequence-classification model.
        tokenizer: its tokenizer.
        config: how to train.
        train: token ids and label numbers to learn from.
        select: the same of the rows that pick the best epoch; with none, the last epoch is the best.
        seed: of batches and dropout.
        out: a folder that exists; nothing is written into it.
        progress: called with ``(steps done, steps in all)``; what it raises ends the training.

    Returns:
        All epochs, and the best one.

    Raises:
        ConfigError: training diverged.
    """
    rows, targets = train
    judge = _EpochJudge(tokenizer, select, progress)
    trainer = StudentTrainer(
        model=network,
        args=_arguments(config, len(rows), seed, out),
        train_dataset=[{"input_ids": row, "labels": target} for row, target in zip(rows, targets, strict=True)],
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
        # Shares below one are taken of the steps; one itself would be a single step.
        warmup_steps=min(config.warmup, math.nextafter(1.0, 0.0)),
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

    def __init__(self, tokenizer: Tokenizer, select: Rows, progress: Progress | None) -> None:
        self.epochs: list[Epoch] = []
        self._tokenizer = tokenizer
        self._select = select
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
        self.epochs.append(_judge(model, self._tokenizer, self._select, len(self.epochs) + 1, logs["loss"]))
        if self.epochs[-1].better_than(self.best):
            self._best = len(self.epochs) - 1
        if self.best is self.epochs[-1] and self._select[0] and state.global_step < state.max_steps:
            self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: Network, **_: Any) -> None:
        """Put the best weights back."""
        if self.best is not self.epochs[-1]:
            model.load_state_dict(self._weights)


def _judge(network: Network, tokenizer: Tokenizer, select: Rows, epoch: int, train_loss: float) -> Epoch:
    """Compute accuracy and mean cross-entropy on ``select``."""
    if not math.isfinite(train_loss):
        raise ConfigError(
            f"the student diverged in epoch {epoch}: its training loss is {train_loss!r}.", hint="Lower student.learning_rate."
        )
    rows, targets = select
    if not rows:
        return Epoch(epoch, round(train_loss, 6))
    network.eval()
    right, loss = 0, 0.0
    for positions, logits in forward(network, tokenizer, rows):
        wanted = torch.tensor([targets[position] for position in positions])
        right += int((logits.argmax(-1) == wanted).sum())
        loss += float(torch.nn.functional.cross_entropy(logits.double(), wanted, reduction="sum"))
    return Epoch(epoch, round(train_loss, 6), round(right / len(rows), 6), round(loss / len(rows), 6))
