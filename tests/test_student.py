"""The classifier: deterministic, order-independent, keeps the best epoch, writes a whole and stable model."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conditions import SEED, THREADS, Margin
from epochs import scripted_epochs, without_words
from stepsynth import model_cache
from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.errors import ConfigError, DataError, Interrupted, RunError
from stepsynth.students.batches import length_groups
from stepsynth.students.classifier import Classifier, ClassifierModel
from stepsynth.tasks.classification import Classification
from stepsynth.types import Example
from tiny_model import WORDS, build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ["bad", "good"]
GOOD, BAD = ("fun", "great", "lovely", "wonderful"), ("boring", "dull", "sad", "terrible")
# What says nothing of the label; with words of the other label among it a task cannot be learned whole.
PLAIN = [word for word in WORDS if word not in (*GOOD, *BAD)]
# How students were made before there was a choice.
BEFORE: dict[str, object] = {"head": "fresh", "keep": "best", "precision": "float32", "min_steps": 0}
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json"}


def _family(labels: list[str]) -> Classification:
    return Classification(TaskConfig(name="films", instruction="Is it good?", labels=dict.fromkeys(labels, "")))


def _rows(count: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        label = LABELS[index % 2]
        words = [rng.choice(PLAIN) for _ in range(rng.randint(1, 12))] + rng.sample(BAD if label == "bad" else GOOD, 2)
        rng.shuffle(words)
        rows.append(Example(f"{seed}-{index}", " ".join(words), label))
    return rows


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """Make an empty folder to write a model into."""

    def make() -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder

    return make


def _student(base: Path, **changes: object) -> Classifier:
    """Return a student with transformers' head that keeps its best epoch; what is the default now is in `test_student_head`."""
    settings = {"model": str(base), **BEFORE, "epochs": 4, "learning_rate": 5e-3, "batch_size": 16, **changes}
    return Classifier(StudentConfig.model_validate(settings), _family(LABELS))


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record


def _sha256(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassifierModel, Path]:
    """A student that has learned its task, and its folder; neither is to be changed."""
    out = tmp_path_factory.mktemp("trained")
    return _student(base, epochs=8).fit(_rows(200), _rows(40, 1), seed=SEED, out=out), out


@pytest.mark.learns
def test_it_learns(trained: tuple[ClassifierModel, Path], margin: Margin) -> None:
    """A separable task is learned, so training really moves the weights towards the labels."""
    test = _rows(200, 2)
    right = sum(answer.label == row.label for answer, row in zip(trained[0].predict(test), test, strict=True))
    margin.above(right / len(test), 0.8)  # at least 1.00 in the sweep


def test_files_are_exactly_the_documented_ones(trained: tuple[ClassifierModel, Path], base: Path) -> None:
    """Weights, config, tokenizer and the training record; no checkpoint, optimiser state or done-file."""
    out = trained[1]
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    assert str(base) not in (out / "config.json").read_text()


def test_same_seed_gives_the_same_bytes_in_one_process(base: Path, new_folder: Callable[[], Path]) -> None:
    """Every written file is byte-identical, whatever the global random state was; another seed differs."""
    import torch

    first, second, other = new_folder(), new_folder(), new_folder()
    _student(base).fit(_rows(60), _rows(20, 1), seed=3, out=first)
    torch.manual_seed(99)
    random.seed(99)
    _student(base).fit(_rows(60), _rows(20, 1), seed=3, out=second)
    _student(base).fit(_rows(60), _rows(20, 1), seed=4, out=other)
    assert _sha256(first) == _sha256(second)
    assert _sha256(first)["model.safetensors"] != _sha256(other)["model.safetensors"]


def test_same_seed_gives_the_same_bytes_in_another_process(base: Path, new_folder: Callable[[], Path]) -> None:
    """A second process, with another hash seed, writes the same bytes."""
    first, second = new_folder(), new_folder()
    _student(base).fit(_rows(60), _rows(20, 1), seed=3, out=first)
    code = (
        "import sys; from pathlib import Path; from test_student import _rows, _student\n"
        "_student(Path(sys.argv[1])).fit(_rows(60), _rows(20, 1), seed=3, out=Path(sys.argv[2]))"
    )
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONHASHSEED": "77", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(base), str(second)], check=True, cwd=Path(__file__).parent, env=environment)
    assert _sha256(first) == _sha256(second)


def test_global_state_is_given_back(base: Path, new_folder: Callable[[], Path]) -> None:
    """Random states, determinism flags and transformers' verbosity are as before."""
    import numpy
    import torch
    from transformers.utils import logging

    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)
    expected = torch.rand(3).tolist(), random.random(), numpy.random.random()
    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)
    before = torch.are_deterministic_algorithms_enabled(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    _student(base, epochs=1).fit(_rows(20), [], seed=0, out=new_folder())
    assert (torch.rand(3).tolist(), random.random(), numpy.random.random()) == expected
    assert (torch.are_deterministic_algorithms_enabled(), logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_nothing_is_printed(base: Path, new_folder: Callable[[], Path], capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar, no notice about the fresh head."""
    out = new_folder()
    _student(base, epochs=1).fit(_rows(20), _rows(4, 1), seed=0, out=out)
    _student(base).load(out).predict(_rows(4, 2))
    assert capfd.readouterr() == ("", "")


def test_load_predicts_what_fit_returned(trained: tuple[ClassifierModel, Path], base: Path) -> None:
    """The saved model is the returned one, the full embedding matrix included."""
    model, out = trained
    assert _student(base).load(out).predict(_rows(50, 2)) == model.predict(_rows(50, 2))


def test_predictions_do_not_depend_on_the_order(trained: tuple[ClassifierModel, Path]) -> None:
    """Shuffled examples get the same answers, each under its own id and in the order asked."""
    model, _ = trained
    test = _rows(300, 2)
    shuffled = random.Random(1).sample(test, len(test))
    answers = model.predict(shuffled)
    assert [answer.example_id for answer in answers] == [row.id for row in shuffled]
    assert {answer.example_id: answer for answer in answers} == {answer.example_id: answer for answer in model.predict(test)}


def test_probabilities_are_complete(trained: tuple[ClassifierModel, Path]) -> None:
    """Label order, sum one, six decimals, and the label is the likeliest."""
    model, _ = trained
    assert model.predict([]) == []
    for answer in model.predict(_rows(40, 2)):
        assert list(answer.probabilities) == LABELS
        assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=2e-6)
        assert all(p == round(p, 6) for p in answer.probabilities.values())
        assert answer.probabilities[answer.label] == max(answer.probabilities.values())


@pytest.mark.parametrize("text", ["", " ", "\ud800 broken", "\u2028\x00", "unknownword " * 500])
def test_odd_texts_get_an_answer(base: Path, new_folder: Callable[[], Path], text: str) -> None:
    """Empty, unencodable and over-long texts train and predict without an error."""
    rows = [*_rows(20), Example("odd", text, "bad")]
    model = _student(base, epochs=1).fit(rows, rows, seed=0, out=new_folder())
    assert len(model.predict(rows)) == 21


def test_best_epoch_is_kept(base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that get worse afterwards are put back, in memory and in the file."""
    from safetensors.torch import load_file

    out, ended = new_folder(), scripted_epochs(monkeypatch, (0.5, 0.9, 0.4, 0.8))
    model = _student(base).fit(_rows(60), _rows(20, 1), seed=1, out=out)
    assert _record(out)["best_epoch"] == 2
    for weights in (load_file(out / "model.safetensors"), model._network.state_dict()):
        for name, value in without_words(weights).items():
            assert value.equal(ended[1][name]), name
    assert not all(value.equal(ended[3][name]) for name, value in ended[1].items())


def test_the_kept_weights_score_what_the_record_says(trained: tuple[ClassifierModel, Path]) -> None:
    """On select, of the best epoch, which is the one with the highest accuracy."""
    (model, out), select = trained, _rows(40, 1)
    record = _record(out)
    best = record["epochs"][record["best_epoch"] - 1]
    assert best["select_accuracy"] == max(epoch["select_accuracy"] for epoch in record["epochs"])
    right = sum(answer.label == row.label for answer, row in zip(model.predict(select), select, strict=True))
    assert right / len(select) == pytest.approx(best["select_accuracy"], abs=1e-6)


def test_ties_go_to_f1_then_to_the_lower_loss_then_to_the_earlier_epoch() -> None:
    """The order in which epochs are compared."""
    from stepsynth.students.trainer import Epoch

    assert Epoch(2, 0.0, 0.9, 0.5).better_than(Epoch(1, 0.0, 0.8, 0.1))
    assert Epoch(2, 0.0, 0.9, 0.4).better_than(Epoch(1, 0.0, 0.9, 0.5))
    assert not Epoch(2, 0.0, 0.9, 0.5).better_than(Epoch(1, 0.0, 0.9, 0.5))
    assert Epoch(2, 0.0, 0.0, 0.9, 0.3).better_than(Epoch(1, 0.0, 0.0, 0.5, 0.2))
    assert not Epoch(2, 0.0, 0.0, 0.5, 0.9).better_than(Epoch(1, 0.0, 0.1, 0.9, 0.0))


def test_without_select_the_last_epoch_stays(base: Path, new_folder: Callable[[], Path]) -> None:
    """No gold rows to pick by: the last weights, and the record says so."""
    out = new_folder()
    _student(base, epochs=3).fit(_rows(20), [], seed=0, out=out)
    record = _record(out)
    assert record["best_epoch"] == 3
    assert [epoch["select_accuracy"] for epoch in record["epochs"]] == [None] * 3


def test_min_steps_raises_the_epochs(base: Path, new_folder: Callable[[], Path]) -> None:
    """Twenty rows in batches of sixteen are two steps an epoch, so eleven steps take six epochs."""
    out = new_folder()
    seen: list[tuple[int, int]] = []
    _student(base, epochs=1, min_steps=11).fit(
        _rows(20), [], seed=0, out=out, progress=lambda done, total: seen.append((done, total))
    )
    assert len(_record(out)["epochs"]) == 6
    assert seen == [(step, 12) for step in range(1, 13)]


def test_unused_embedding_rows_keep_their_values(tmp_path: Path, new_folder: Callable[[], Path]) -> None:
    """Rows of tokens that occur are trained, all others are byte-identical to the base model."""
    from safetensors.torch import load_file

    base = build_tiny_model(tmp_path / "wide", [*WORDS, "never", "seen"])
    out = new_folder()
    model = _student(base).fit(_rows(60), _rows(20, 1), seed=0, out=out)
    before = load_file(base / "model.safetensors")["embeddings.word_embeddings.weight"]
    after = load_file(out / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    changed = {word for word, index in vocabulary.items() if not before[index].equal(after[index])}
    assert before.shape == after.shape
    assert {"great", "boring", "[CLS]"} <= changed
    assert not {"never", "seen", "[MASK]", "[PAD]"} & changed
    assert len(model.predict([Example("new", "never seen", "")])) == 1


@pytest.mark.learns
def test_training_on_the_used_rows_is_the_full_training(
    base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, margin: Margin
) -> None:
    """Without weight decay, the whole matrix in the optimiser gives the same weights up to rounding."""
    from contextlib import nullcontext

    from safetensors.torch import load_file

    short, full = new_folder(), new_folder()
    _student(base, weight_decay=0).fit(_rows(60), [], seed=SEED, out=short)
    monkeypatch.setattr("stepsynth.students.classifier.only_used_embeddings", lambda *_: nullcontext())
    _student(base, weight_decay=0).fit(_rows(60), [], seed=SEED, out=full)
    expected = load_file(full / "model.safetensors")
    found = load_file(short / "model.safetensors")
    # 0 in the sweep: not even the last digit differs.
    margin.below(max(float((found[name] - value).abs().max()) for name, value in expected.items()), 1e-4)


def test_batches_hold_every_row_once_and_little_padding() -> None:
    """Every epoch visits every row once, in another order, and pads far less than random batches do."""
    lengths = [random.Random(position).randint(3, 60) for position in range(330)]
    first, second = (length_groups(lengths, 32, random.Random(epoch)) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(330))
    assert first != second
    assert first == length_groups(lengths, 32, random.Random(1))
    batches = [[lengths[position] for position in first[start : start + 32]] for start in range(0, 330, 32)]
    padded = sum(len(batch) * max(batch) for batch in batches)
    assert padded < 1.5 * sum(lengths)
    for count in (1, 31, 32, 33, 64):
        assert sorted(length_groups(lengths[:count], 32, random.Random(0))) == list(range(count))


def test_every_epoch_has_its_own_order(base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The Trainer draws an order per epoch, another one each time and for another seed."""
    orders: list[tuple[int, ...]] = []

    def spy(*arguments: Any) -> list[int]:
        order = length_groups(*arguments)
        orders.append(tuple(order))
        return order

    monkeypatch.setattr("stepsynth.students.trainer.length_groups", spy)
    for seed in (0, 1):
        _student(base, epochs=3).fit(_rows(60), [], seed=seed, out=new_folder())
    assert len(orders) == len(set(orders)) == 6


@pytest.mark.learns
def test_label_smoothing_reaches_the_loss(base: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    """A separable task ends near the entropy of the smoothed labels, not near zero."""
    losses = []
    for smoothing in (0.0, 0.4):
        out = new_folder()
        _student(base, epochs=10, label_smoothing=smoothing).fit(_rows(100), [], seed=SEED, out=out)
        losses.append(_record(out)["epochs"][-1]["train_loss"])
    margin.below(losses[0], 0.25, "plain")  # at most 0.04 in the sweep
    # Their entropy, below which no training comes, is 0.5.
    margin.above(losses[1], 0.4, "smoothed")  # at least 0.501


def test_an_interruption_ends_the_training(base: Path, new_folder: Callable[[], Path]) -> None:
    """What ``progress`` raises comes out as it is, nothing is written, and training again works as ever."""
    stopped, whole, again = new_folder(), new_folder(), new_folder()

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise Interrupted("stopped")

    student, rows = _student(base), _rows(60)
    student.fit(rows, [], seed=3, out=whole)
    with pytest.raises(Interrupted):
        student.fit(rows, [], seed=3, out=stopped, progress=stop)
    assert not list(stopped.iterdir())
    student.fit(rows, [], seed=3, out=again)
    assert _sha256(whole) == _sha256(again)


def test_rows_that_cannot_be_trained_on_are_refused(base: Path, new_folder: Callable[[], Path]) -> None:
    """No rows and unknown labels are data errors that name the row."""
    with pytest.raises(DataError, match="no rows"):
        _student(base).fit([], [], seed=0, out=new_folder())
    with pytest.raises(DataError, match="'x' has label 'ugly'"):
        _student(base).fit([Example("x", "a", "ugly")], [], seed=0, out=new_folder())


def test_divergence_is_told(base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number stops with what to change, not with a model of NaNs."""
    import torch

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda logits, *_, **__: logits.sum() * float("nan"))
    with pytest.raises(ConfigError, match=r"Lower student\.learning_rate"):
        _student(base).fit(_rows(20), [], seed=0, out=new_folder())


def test_a_model_that_cannot_be_loaded_is_told(base: Path, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    """Missing weights, foreign labels and a broken base each give one clear error."""
    out = new_folder()
    _student(base, epochs=1).fit(_rows(20), [], seed=0, out=out)
    with pytest.raises(RunError, match="has labels"):
        Classifier(StudentConfig(model=str(base)), _family(["good", "bad"])).load(out)
    (out / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RunError, match="cannot be loaded"):
        _student(base).load(out)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        _student(tmp_path / "broken").fit(_rows(20), [], seed=0, out=new_folder())


def test_pickled_weights_are_refused(base: Path, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    """A base model that only has a pickle is never unpickled."""
    import shutil

    import torch
    from safetensors.torch import load_file

    shutil.copytree(base, tmp_path / "pickled")
    torch.save(load_file(base / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="safetensors"):
        _student(tmp_path / "pickled").fit(_rows(20), [], seed=0, out=new_folder())


@pytest.mark.learns
def test_training_goes_on_from_a_given_student(
    trained: tuple[ClassifierModel, Path], base: Path, new_folder: Callable[[], Path], margin: Margin
) -> None:
    """With ``start`` the first epoch is as good as the earlier student; without it, it is not, and the folder stays as it was."""
    first, onward, fresh = trained[1], new_folder(), new_folder()
    before = _sha256(first)
    gentle = _student(base, epochs=1, learning_rate=1e-5)
    gentle.fit(_rows(60, 3), _rows(40, 1), seed=SEED, out=onward, start=first)
    gentle.fit(_rows(60, 3), _rows(40, 1), seed=SEED, out=fresh)
    margin.above(_record(onward)["epochs"][0]["select_accuracy"], 0.8, "with start")  # at least 1.00 in the sweep
    margin.below(_record(fresh)["epochs"][0]["select_accuracy"], 0.7, "without")  # at most 0.50
    assert _sha256(first) == before
    assert {path.name for path in onward.iterdir()} == FILES


def test_a_student_to_go_on_from_must_fit(base: Path, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    """Another label order or a missing folder is told, not trained on."""
    out = new_folder()
    _student(base, epochs=1).fit(_rows(20), [], seed=0, out=out)
    other = Classifier(StudentConfig(model=str(base)), _family(["good", "bad"]))
    with pytest.raises(RunError, match="has labels"):
        other.fit(_rows(20), [], seed=0, out=new_folder(), start=out)
    with pytest.raises(RunError, match="cannot be loaded"):
        _student(base).fit(_rows(20), [], seed=0, out=new_folder(), start=tmp_path / "nowhere")


def test_import_is_light() -> None:
    """Importing the module loads no torch and no transformers."""
    heavy = ["torch", "transformers", "numpy"]
    students = "stepsynth.students.classifier, stepsynth.students.extractive_qa, stepsynth.students.probe"
    code = f"import sys, {students}; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.learns
@pytest.mark.skipif(not model_cache.is_cached("minilm-l6"), reason="the embedded student is not in the cache")
def test_the_embedded_student_learns_from_a_few_sentences(new_folder: Callable[[], Path], margin: Margin) -> None:
    """Eight sentences are enough for MiniLM to tell praise from blame in words it was not shown."""
    train = [
        Example(str(index), text, label)
        for index, (text, label) in enumerate(
            [
                ("I loved every minute of it.", "good"),
                ("A delightful surprise.", "good"),
                ("Beautifully acted and moving.", "good"),
                ("The best evening in years.", "good"),
                ("A complete waste of time.", "bad"),
                ("Painfully slow and badly acted.", "bad"),
                ("I hated the ending.", "bad"),
                ("The worst thing I have seen.", "bad"),
            ]
        )
    ]
    config = StudentConfig(epochs=1, min_steps=20, batch_size=8, learning_rate=2e-4)
    model = Classifier(config, _family(LABELS)).fit(train, [], seed=SEED, out=new_folder())
    bad, good = model.predict([Example("a", "An awful, dreadful mess.", ""), Example("b", "Charming and brilliant.", "")])
    margin.above(bad.probabilities["bad"], 0.5, "bad")  # at least 0.96 in the sweep
    margin.above(good.probabilities["good"], 0.5, "good")  # at least 0.94
