"""How fast the student trains, against the two recipes that people write with the Trainer.

    python benchmarks/training.py --data FOLDER --repeats 3

Three recipes train the same base model on the same rows, with the same batch size, epochs,
learning rate and schedule, each judging `select` after every epoch and keeping the best weights:

- ``pad-128``   transformers' Trainer, every row padded to 128 tokens (the common tutorial)
- ``trainer``   transformers' Trainer at its defaults, each batch padded to its longest row
- ``stepsynth`` `stepsynth.students.classifier`: the same Trainer, batches by length, used embedding rows only

They run interleaved (A B C, B C A, ...) so that a machine that slows down slows all of them. Time is the
wall time of training with its evaluations, without loading the model, divided by the epochs.
``FOLDER`` holds ``rotten_tomatoes/`` and ``trec/`` with ``train.jsonl.gz`` and ``test.jsonl.gz`` (fields
``text`` and ``label``); without it the texts of ``examples/shop`` are used.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stepsynth import model_cache
from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.students.classifier import Classifier
from stepsynth.tasks.classification import Classification
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
Anything: TypeAlias = Any
RECIPES = ("pad-128", "trainer", "stepsynth")


@dataclass(frozen=True)
class Rows:
    """One data set, split."""

    name: str
    labels: list[str]
    train: list[Example]
    select: list[Example]
    test: list[Example]


@dataclass(frozen=True)
class Outcome:
    """One training: seconds per epoch, and the accuracy on the test rows."""

    seconds: float
    accuracy: float


def read(path: Path) -> list[Example]:
    """Read texts and labels of a CSV or JSONL file, ``.gz`` or not."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    lines = io.StringIO(text, newline="")
    records = list(csv.DictReader(lines)) if ".csv" in path.name else [json.loads(line) for line in lines]
    return [Example(f"{path.name}-{index}", record["text"], record["label"]) for index, record in enumerate(records)]


def load(data: Path | None, arguments: argparse.Namespace) -> list[Rows]:
    """Return the data sets: from ``data``, or the example that ships with the project."""
    sources = {}
    for name in arguments.datasets if data else []:
        folder = Path(data or "") / name
        sources[name] = [read(folder / f"{part}.jsonl.gz") for part in ("train", "test")]
    if not sources:
        everything = [row for path in sorted((ROOT / "examples" / "shop").glob("*.csv")) for row in read(path)]
        random.Random(0).shuffle(everything)
        half = len(everything) * 2 // 3
        sources["shop"] = [everything[:half], everything[half:]]
    found = []
    for name, (train, test) in sources.items():
        random.Random(0).shuffle(train)
        random.Random(0).shuffle(test)
        count = min(arguments.rows, len(train) * 4 // 5)
        labels = sorted({row.label for row in (*train, *test)})
        found.append(Rows(name, labels, train[:count], train[count : count + arguments.select], test[: arguments.test]))
    return found


def stepsynth(rows: Rows, config: StudentConfig, seed: int) -> Outcome:
    """Train with `Classifier`, timed inside it from the Trainer's construction to the restored weights."""
    from stepsynth.students import trainer as student_trainer

    seconds: list[float] = []
    original = student_trainer.train

    def timed(*arguments: Anything, **settings: Anything) -> Anything:
        begin = time.perf_counter()
        result = original(*arguments, **settings)
        seconds.append(time.perf_counter() - begin)
        return result

    student_trainer.train = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            model = Classifier(config, family(rows)).fit(rows.train, rows.select, seed=seed, out=Path(folder))
    finally:
        student_trainer.train = original
    answers = model.predict(rows.test)
    right = sum(answer.label == row.label for answer, row in zip(answers, rows.test, strict=True))
    return Outcome(seconds[0] / config.epochs, right / len(rows.test))


def family(rows: Rows) -> Classification:
    """Return the task family of the rows."""
    return Classification(TaskConfig(name=rows.name, instruction="-", labels=dict.fromkeys(rows.labels, "")))


def trainer(rows: Rows, config: StudentConfig, seed: int, *, padding: bool) -> Outcome:
    """Train with transformers' Trainer, everything that the recipe does not need at its default."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(seed)
    where = model_cache.resolve(config.model, kind="student")
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(where, num_labels=len(rows.labels))

    def encode(examples: Sequence[Example]) -> list[dict[str, Any]]:
        encoded = tokenizer(
            [row.text for row in examples],
            truncation=True,
            max_length=config.max_length,
            padding="max_length" if padding else False,
        )
        return [
            {**{key: values[index] for key, values in encoded.items()}, "labels": rows.labels.index(row.label)}
            for index, row in enumerate(examples)
        ]

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup_steps=config.warmup,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=seed,
        )
        runner = transformers.Trainer(
            model=network,
            args=settings,
            train_dataset=encode(rows.train),
            eval_dataset=encode(rows.select),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda result: {"accuracy": float((result.predictions.argmax(-1) == result.label_ids).mean())},
        )
        best = keep_best(runner)
        runner.remove_callback(transformers.PrinterCallback)
        begin = time.perf_counter()
        runner.train()
        seconds = (time.perf_counter() - begin) / config.epochs
        network.load_state_dict(best["weights"])
        predicted = runner.predict(encode(rows.test))
    return Outcome(seconds, float((predicted.predictions.argmax(-1) == predicted.label_ids).mean()))


def keep_best(runner: Anything) -> dict[str, Any]:
    """Let a Trainer keep the weights of its best evaluation under ``weights`` of what is returned."""
    import transformers

    best: dict[str, Any] = {"accuracy": -1.0}

    class KeepBest(transformers.TrainerCallback):  # type: ignore[misc]
        def on_evaluate(self, *_: Anything, metrics: dict[str, float], model: Anything, **__: Anything) -> None:
            if metrics["eval_accuracy"] > best["accuracy"]:
                weights = {name: value.clone() for name, value in model.state_dict().items()}
                best.update(accuracy=metrics["eval_accuracy"], weights=weights)

    runner.add_callback(KeepBest())
    return best


def measure(rows: Rows, config: StudentConfig, repeats: int) -> dict[str, list[Outcome]]:
    """Run the recipes interleaved and return the outcomes of each, one per repeat."""
    ways: dict[str, Callable[[int], Outcome]] = {
        "pad-128": lambda seed: trainer(rows, config, seed, padding=True),
        "trainer": lambda seed: trainer(rows, config, seed, padding=False),
        "stepsynth": lambda seed: stepsynth(rows, config, seed),
    }
    outcomes: dict[str, list[Outcome]] = {name: [] for name in RECIPES}
    for repeat in range(repeats):
        for position in range(len(RECIPES)):
            name = RECIPES[(repeat + position) % len(RECIPES)]
            outcomes[name].append(ways[name](repeat))
    return outcomes


def summary(rows: Rows, config: StudentConfig, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
    """Return seconds, ratios to stepsynth of the same repeat, and accuracies, as plain values."""
    own = outcomes["stepsynth"]
    recipes = {}
    for name, results in outcomes.items():
        ratios = [result.seconds / mine.seconds for result, mine in zip(results, own, strict=True)]
        recipes[name] = {
            "seconds_per_epoch": round(statistics.median(result.seconds for result in results), 3),
            "times_stepsynth": {
                "min": round(min(ratios), 2),
                "median": round(statistics.median(ratios), 2),
                "max": round(max(ratios), 2),
            },
            "accuracy": [round(result.accuracy, 4) for result in results],
            "accuracy_mean": round(statistics.mean(result.accuracy for result in results), 4),
        }
    sizes = {"train": len(rows.train), "select": len(rows.select), "test": len(rows.test), "labels": len(rows.labels)}
    return {"dataset": rows.name, "rows": sizes, "student": config.model_dump(), "recipes": recipes}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as text columns."""
    lines = [f"{'data':<16} {'recipe':<10} {'s/epoch':>8} {'x stepsynth (min/median/max)':>30} {'accuracy':>9}"]
    for result in results:
        for name, values in result["recipes"].items():
            ratio = "{min:.2f} / {median:.2f} / {max:.2f}".format(**values["times_stepsynth"])
            seconds, accuracy = values["seconds_per_epoch"], values["accuracy_mean"]
            lines.append(f"{result['dataset']:<16} {name:<10} {seconds:>8.2f} {ratio:>30} {accuracy:>9.3f}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description="Seconds per epoch and accuracy of three training recipes.")
    own = os.environ.get("STEPSYNTH_DATA")
    parser.add_argument(
        "--data", type=Path, default=Path(own) if own else None, help="folder of data sets (default: $STEPSYNTH_DATA)"
    )
    parser.add_argument("--datasets", nargs="+", default=["rotten_tomatoes", "trec"], help="folders inside --data")
    parser.add_argument("--rows", type=int, default=600, help="training rows")
    parser.add_argument("--select", type=int, default=150, help="rows that pick the best epoch")
    parser.add_argument("--test", type=int, default=1000, help="rows for the accuracy")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="trainings per recipe, with seeds 0, 1, ...")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "training.json")
    arguments = parser.parse_args()
    import torch
    import transformers

    # The recipe that the others follow, too; what the default is now is measured by `steps.py`.
    config = StudentConfig(head="fresh", keep="best", precision="float32", min_steps=0, epochs=arguments.epochs)
    results = []
    for rows in load(arguments.data, arguments):
        results.append(summary(rows, config, measure(rows, config, arguments.repeats)))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}
    record = {"versions": versions, "repeats": arguments.repeats, "results": results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1) if arguments.json else table(results))


if __name__ == "__main__":
    main()
