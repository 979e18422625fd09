"""transformers' `Trainer` with additions for students: batches by length, a number of steps, the best epoch in memory.

    history = train(network, tokenizer, config, rows=rows, score=score, seed=0, out=folder)

The task is defined by the network and the rows: a row has the network's arguments, including its
targets. Optimiser, schedule, clipping, label smoothing and devices are the Trainer's. This module imports
torch and transformers immediately; it is itself imported only when training starts.
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
from stepsynth.students.batches import Network, Tokenizer, length_groups, training_steps

if TYPE_CHECKING:
    from stepsynth.config import StudentConfig

__all__ = ["Epoch", "History", "Scores", "StudentTrainer", "computes_in_bfloat16", "train"]

Progress = Callable[[int, int], None]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Scores:
    """A network's scores on the select rows.

    Attributes:
        accuracy: share of rows that are completely right: the label, all labels, the exact answer.
        loss: mean loss per row.
        f1: partial credit, in families that have it.
    """

    accuracy: float
    loss: float
    f1: float | None = None


Score = Callable[[Network], Scores]


@dataclass(frozen=True, slots=True)
class Epoch:
    """The scores of one pass over the data; losses are means per step (train) or row (select)."""

    epoch: int
    train_loss: float
    select_accuracy: float | None = None
    select_loss: float | None = None
    select_f1: float | None = None

    def better_than(self, other: Epoch) -> bool:
        """Higher accuracy wins, then higher F1 if there is one, then lower loss; of equal epochs, the earlier one.

        F1 decides if the same number of rows (often none) is completely right: that is common with many
        labels or few epochs, and the loss says little about decisions.
        """
        if self.select_accuracy is None or other.select_accuracy is None:
            return True
        return self._rank(self.select_accuracy) > other._rank(other.select_accuracy)

    def _rank(self, accuracy: float) -> tuple[float, float, float]:
        return accuracy, self.select_f1 or 0.0, -(self.select_loss or 0.0)


@dataclass(frozen=True, slots=True)
class History:
    """The history of a training.

    Attributes:
        epochs: all passes over the data; the last one may have been cut short.
        best: the one whose weights are kept.
        steps: total optimiser steps.
    """

    epochs: list[Epoch]
    best: Epoch
    steps: int


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
    loss: Loss | None = None,
) -> History:
    """Optimise ``network`` in place and leave in it the weights chosen by ``config.keep``.

    Args:
        network: a transformers model that returns a loss for the rows' targets.
        tokenizer: its tokenizer.
        config: how to train.
        rows: training rows: ``input_ids`` and the network's other arguments, including targets.
        score: scores the network: after every epoch if the best one is kept, otherwise once at the end
            for the record; without it, the last epoch is the best.
        seed: for batches and dropout.
        out: an existing folder; nothing is written into it.
        progress: called with ``(steps done, total steps)``; an exception from it ends the training.
        loss: of a batch's logits and targets; by default the network returns it.

    Raises:
        ConfigError: training diverged.
    """
    judge = _EpochJudge(score, progress, each=config.keep == "best")
    trainer = StudentTrainer(
        half=config.precision == "bfloat16" or (config.precision == "auto" and computes_in_bfloat16()),
        loss=loss,
        model=network,
        args=_arguments(config, len(rows), seed, out),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[judge],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return History(judge.epochs, judge.best, trainer.state.global_step)


def computes_in_bfloat16() -> bool:
    """Whether this machine multiplies faster in bfloat16 than in float32.

    A processor without the instruction (AVX2, or AVX-512 without it) emulates bfloat16 and is slower; so is one
    whose instructions were limited by the environment.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch reports a processor's capabilities since 2.10.
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _arguments(config: StudentConfig, rows: int, seed: int, out: Path) -> Any:
    """Translate a student's settings into the Trainer's, which then saves, reports and prints nothing."""
    each = math.ceil(rows / config.batch_size)
    steps = training_steps(config, rows)
    # Where no epochs are compared, the exact number of steps is made, and 33 rows with batch size 32 become batches of 17
    # and 16, not 32 and 1.
    whole = config.keep == "best"
    size = config.batch_size if whole else math.ceil(rows / each)
    return TrainingArguments(
        output_dir=str(out),
        num_train_epochs=math.ceil(steps / each),
        max_steps=-1 if whole else steps,
        # Several GPUs share a batch, so that its size stays as configured.
        per_device_train_batch_size=max(1, size // max(1, torch.cuda.device_count())),
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        # The Trainer treats numbers below one as a share of the steps.
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        label_smoothing_factor=config.label_smoothing,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_strategy="epoch",
        # A NaN loss must be seen, not filtered out.
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class StudentTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose batches have rows of similar length.

    Args:
        half: whether to multiply in bfloat16; weights and optimiser stay in float32.
        loss: of a batch's logits and targets; by default the network returns it.
        settings: for the Trainer.
    """

    def __init__(self, *, half: bool = False, loss: Loss | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._half = half
        self._loss = loss

    def compute_loss_context_manager(self) -> Any:
        """Return the context of the forward pass.

        The Trainer's own ``bf16`` would wrap the network's ``forward`` permanently, and so change every prediction.
        """
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self._half)

    def compute_loss(self, model: Network, inputs: dict[str, Any], return_outputs: bool = False, **more: Any) -> Any:
        """Return a batch's loss."""
        if self._loss is None:
            return super().compute_loss(model, inputs, return_outputs, **more)
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self._loss(outputs.logits, targets)
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> Any:
        """Return the batches, prepared for the available devices."""
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
        """Return 0: the default counts all parameters in every step, for a number that nobody reads."""
        return 0


class _LengthSampler(Sampler[int]):
    """The positions of one epoch in the order of `length_groups`; accelerate sets the epoch."""

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
    """Judges the network, keeps the best weights in memory and restores them at the end.

    Args:
        score: scores the network.
        progress: told about steps.
        each: whether to judge after every epoch, or only after the last one, which then is the best.
    """

    def __init__(self, score: Score | None, progress: Progress | None, *, each: bool) -> None:
        self._each = each
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
        """Judge the epoch; the Trainer reports its training loss here, once per epoch."""
        if "loss" not in logs:
            return
        score = self._score if self._each or state.global_step >= state.max_steps else None
        self.epochs.append(_judge(model, score, len(self.epochs) + 1, logs["loss"]))
        if self.epochs[-1].better_than(self.best):
            self._best = len(self.epochs) - 1
        if self.best is self.epochs[-1] and score and state.global_step < state.max_steps:
            self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: Network, **_: Any) -> None:
        """Restore the best weights."""
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
