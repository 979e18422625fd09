"""The classifier and the probe on pairs and on several labels: both texts count, labels are independent."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conditions import SEED, Margin
from epochs import scripted_epochs, without_words
from stepsynth.config import FieldConfig, RunConfig, StudentConfig, TaskConfig
from stepsynth.errors import DataError
from stepsynth.students import create_student
from stepsynth.students.batches import reads_segments, tokenise
from stepsynth.students.classifier import Classifier, ClassifierModel
from stepsynth.students.extractive_qa import ExtractiveQA
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks.classification import Classification, MultiLabel
from stepsynth.tasks.pair import Pair
from stepsynth.types import Example
from tiny_model import WORDS, build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

# How students were made before there was a choice; what is the default now is in `test_student_head`.
BEFORE: dict[str, object] = {"head": "fresh", "keep": "best", "precision": "float32", "min_steps": 0}
GOOD = ("fun", "great")
BAD = ("dull", "sad")
PLAIN = [word for word in WORDS if word not in (*GOOD, *BAD)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model whose words differ from the start."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "spread", spread=0.2)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """Make an empty folder to write a model into."""

    def make() -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder

    return make


def _pair(*order: str) -> Pair:
    values = {
        "family": "pair",
        "name": "pairs",
        "instruction": "Do they agree?",
        "labels": {"no": "", "yes": ""},
        "fields": {"text1": {"name": "premise", "context": True}, "text2": {"name": "hypothesis"}},
        "order": order or ("text1", "text2"),
    }
    return Pair(TaskConfig.model_validate(values))


def _multi() -> MultiLabel:
    labels = {"praise": "", "blame": "", "film": ""}
    return MultiLabel(TaskConfig(family="multi_label", name="topics", instruction="Which?", labels=labels))


def _config(base: Path, **changes: object) -> StudentConfig:
    values = {"model": str(base), **BEFORE, "epochs": 12, "learning_rate": 5e-3, "batch_size": 16, **changes}
    return StudentConfig.model_validate(values)


def _text(rng: random.Random, signal: tuple[str, ...]) -> str:
    words = [rng.choice(PLAIN), *rng.sample(signal, 2)]
    rng.shuffle(words)
    return " ".join(words)


def _agreeing(count: int, seed: int) -> list[Example]:
    """Texts that agree when both praise or both blame: neither of them alone says anything of the label."""
    rng = random.Random(seed)
    sides = [(rng.choice([GOOD, BAD]), rng.choice([GOOD, BAD])) for _ in range(count)]
    return [
        Example(f"{seed}-{i}", _text(rng, one), "yes" if one is other else "no", _text(rng, other))
        for i, (one, other) in enumerate(sides)
    ]


def _both_praise(count: int, seed: int) -> list[Example]:
    """The label says whether both texts praise; unlike agreement, it is learned step by step."""
    rng = random.Random(seed)
    sides = [(rng.choice([GOOD, BAD]), rng.choice([GOOD, BAD])) for _ in range(count)]
    return [
        Example(f"{seed}-{i}", _text(rng, one), "yes" if one is other is GOOD else "no", _text(rng, other))
        for i, (one, other) in enumerate(sides)
    ]


def _praised_first(count: int, seed: int) -> list[Example]:
    """One text praises and the other blames; the label says whether the written one praises."""
    rng = random.Random(seed)
    sides = [rng.choice([(GOOD, BAD), (BAD, GOOD)]) for _ in range(count)]
    return [
        Example(f"{seed}-{i}", _text(rng, one), "yes" if one is GOOD else "no", _text(rng, other))
        for i, (one, other) in enumerate(sides)
    ]


def _topics(count: int, seed: int) -> list[Example]:
    """Praise and blame occur independently of each other; a row may have neither or both."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        chosen = [label for label in ("praise", "blame") if rng.random() < 0.5]
        words = [rng.choice(PLAIN)]
        words += rng.sample(GOOD, 2) * ("praise" in chosen) + rng.sample(BAD, 2) * ("blame" in chosen)
        rng.shuffle(words)
        rows.append(Example(f"{seed}-{index}", " ".join(words), "|".join(chosen)))
    return rows


def _right(model: ClassifierModel, rows: list[Example]) -> float:
    return sum(answer.label == row.label for answer, row in zip(model.predict(rows), rows, strict=True)) / len(rows)


@pytest.mark.learns
def test_a_pair_is_learned_from_both_texts_together(base: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    """From one of the texts alone three rows of four can be told at best."""
    model = Classifier(_config(base), _pair()).fit(_both_praise(200, 0), [], seed=SEED, out=new_folder())
    margin.above(_right(model, _both_praise(200, 1)), 0.85)  # at least 0.975 in the sweep


@pytest.mark.learns
def test_the_order_of_a_pair_matters(base: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    """Which text says what is learned, and texts that swap places get the other label."""
    model = Classifier(_config(base), _pair()).fit(_praised_first(200, 0), [], seed=SEED, out=new_folder())
    test = _praised_first(100, 1)
    swapped = [Example(row.id, row.context, row.label, row.text) for row in test]
    margin.above(_right(model, test), 0.8, "as learned")  # at least 0.98 in the sweep
    margin.below(_right(model, swapped), 0.2, "swapped")  # at most 0.01


def test_the_task_says_which_text_comes_first(tokenizer: Any) -> None:
    """``order`` decides what the network is shown first, and the segments follow it."""
    example = Example("x", "great", "yes", "bad film")
    for family, words, types in (
        (_pair(), "[CLS] bad film [SEP] great [SEP]", [0, 0, 0, 0, 1, 1]),
        (_pair("text2", "text1"), "[CLS] great [SEP] bad film [SEP]", [0, 0, 0, 1, 1, 1]),
    ):
        (row,) = tokenise(tokenizer, [family.texts(example)], 64, segments=True)
        assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == words.split()
        assert row["token_type_ids"] == types


def test_segments_go_to_networks_that_read_them(base: Path) -> None:
    """BERT tells two texts apart by segment; networks with a single segment or without the argument are given none."""
    from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

    from stepsynth.students.reproducibility import quiet

    with quiet():
        network = AutoModelForSequenceClassification.from_pretrained(base)
    assert reads_segments(network)
    network.config.type_vocab_size = 1
    assert not reads_segments(network)
    small = DistilBertConfig(vocab_size=8, dim=8, n_layers=1, n_heads=1, hidden_dim=8)
    assert not reads_segments(DistilBertForSequenceClassification(small))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    """The tiny model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@given(first=st.integers(1, 300), second=st.integers(1, 300), limit=st.integers(8, 64))
@settings(max_examples=60, deadline=None)
def test_no_text_of_a_pair_is_cut_away(tokenizer: Any, first: int, second: int, limit: int) -> None:
    """However long the texts are, each keeps its share: all of it, or about half of the room."""
    (row,) = tokenise(tokenizer, [("good " * first, "bad " * second)], limit, segments=True)
    words = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert len(words) == min(limit, first + second + 3)
    assert words.count("good") >= min(first, (limit - 3) // 2)
    assert words.count("bad") >= min(second, (limit - 3) // 2)


@given(data=st.data(), limit=st.integers(8, 24))
@settings(max_examples=40, deadline=None)
def test_the_end_of_a_long_text_changes_no_token_of_a_pair(tokenizer: Any, data: st.DataObject, limit: int) -> None:
    """Ends are cut off before tokens are paired; without that, the same tokens would be read, only much later."""
    words = st.sampled_from(["good ", "bad ", "film. ", "unknown, ", "goodbad", "\n", "[SEP] ", "e\u0301 ", "\u6f22\u5b57"])
    texts = tuple("".join(data.draw(st.lists(words, min_size=1, max_size=9))) * data.draw(st.integers(1, 90)) for _ in "ab")
    (row,) = tokenise(tokenizer, [texts], limit, segments=True)
    whole = tokenizer(*texts, truncation="longest_first", max_length=limit, return_token_type_ids=True)
    assert row["input_ids"] == whole["input_ids"]
    assert row["token_type_ids"] == whole["token_type_ids"]


def test_two_very_long_texts_take_little_time(tokenizer: Any) -> None:
    """The tokenizer alone would pair every piece of one with every piece of the other, a minute long."""
    began = time.process_time()
    (row,) = tokenise(tokenizer, [("good film " * 8000, "bad film " * 8000)], 32)
    assert len(row["input_ids"]) == 32
    assert time.process_time() - began < 10


@pytest.mark.parametrize("texts", [("", ""), ("", "good"), ("\ud800", "\u2028\x00"), ("bad " * 500, "good " * 500)])
def test_odd_pairs_get_an_answer(base: Path, new_folder: Callable[[], Path], texts: tuple[str, str]) -> None:
    """Empty, unencodable and over-long texts train and predict without an error."""
    rows = [*_agreeing(20, 0), Example("odd", texts[0], "yes", texts[1])]
    model = Classifier(_config(base, epochs=1), _pair()).fit(rows, rows, seed=0, out=new_folder())
    assert len(model.predict(rows)) == 21


def test_pairs_are_the_same_bytes_again_and_after_loading(base: Path, new_folder: Callable[[], Path]) -> None:
    """Same seed, same weights; the saved model is the returned one; the order of the rows changes nothing."""
    student, first, second = Classifier(_config(base, epochs=2), _pair()), new_folder(), new_folder()
    model = student.fit(_agreeing(60, 0), _agreeing(20, 1), seed=3, out=first)
    student.fit(_agreeing(60, 0), _agreeing(20, 1), seed=3, out=second)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    test = _agreeing(200, 2)
    assert student.load(first).predict(test) == model.predict(test)
    assert list(reversed(model.predict(test[::-1]))) == model.predict(test)


@pytest.mark.learns
def test_two_labels_are_learned_independently(spread: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    """None, one or both of two labels: each is right by itself, and a label that never occurs is never predicted."""
    train, test = _topics(300, 0), _topics(200, 1)
    model = Classifier(_config(spread, label_smoothing=0.1), _multi()).fit(train, _topics(40, 2), seed=SEED, out=new_folder())
    assert {row.label for row in test} == {"", "praise", "blame", "praise|blame"}
    margin.above(_right(model, test), 0.8)  # at least 1.00 in the sweep
    answers = model.predict(test)
    # At most 0.03 in the sweep.
    margin.below(max(answer.probabilities["film"] for answer in answers), 0.5, "a label that never occurs")
    for answer in answers:
        assert list(answer.probabilities) == ["praise", "blame", "film"]
        assert answer.label == "|".join(label for label, p in answer.probabilities.items() if p >= 0.5)


def test_the_best_epoch_of_several_labels_is_the_restored_one(
    base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that get worse afterwards are put back."""
    ended = scripted_epochs(monkeypatch, (0.5, 0.9, 0.4, 0.8))
    model = Classifier(_config(base, epochs=4), _multi()).fit(_topics(60, 0), _topics(60, 1), seed=1, out=new_folder())
    for name, value in without_words(model._network.state_dict()).items():
        assert value.equal(ended[1][name]), name


def test_the_kept_weights_score_what_the_record_says(base: Path, new_folder: Callable[[], Path]) -> None:
    """Subset accuracy and micro-F1 of the best epoch; F1 decides where accuracy ties."""
    select, out = _topics(60, 1), new_folder()
    family = _multi()
    student = Classifier(_config(base, epochs=6), family)
    model = student.fit(_topics(60, 0), select, seed=1, out=out)
    record = json.loads((out / "training.json").read_text())
    best = record["epochs"][record["best_epoch"] - 1]
    ranks = [(epoch["select_accuracy"], epoch["select_f1"], -epoch["select_loss"]) for epoch in record["epochs"]]
    assert ranks.index(max(ranks)) == record["best_epoch"] - 1
    evaluation = family.evaluate(select, model.predict(select))
    assert evaluation.value == pytest.approx(best["select_accuracy"], abs=1e-6)
    assert evaluation.details["micro_f1"] == pytest.approx(best["select_f1"], abs=1e-6)
    assert student.load(out).predict(select) == model.predict(select)


def test_an_unknown_one_of_several_labels_is_refused(base: Path, new_folder: Callable[[], Path]) -> None:
    """The row and the one wrong label are named."""
    rows = [Example("x", "a film", "praise|ugly")]
    with pytest.raises(DataError, match="'x' has label 'ugly'"):
        Classifier(_config(base), _multi()).fit(rows, [], seed=0, out=new_folder())


@pytest.mark.parametrize(
    ("family", "student"),
    [("classification", Classifier), ("multi_label", Classifier), ("pair", Classifier), ("extractive_qa", ExtractiveQA)],
)
def test_a_family_gets_its_student(family: str, student: type) -> None:
    """The config's family picks the student."""
    task: dict[str, object] = {"family": family, "name": "t", "instruction": "i"}
    if family != "extractive_qa":
        task["labels"] = ["a", "b"]
    if family == "pair":
        task["fields"] = {"text1": FieldConfig(name="one", context=True), "text2": FieldConfig(name="two")}
    config = RunConfig.model_validate({"task": task, "data": {"validation": {"path": "gold.csv"}}})
    assert type(create_student(config)) is student


@pytest.mark.learns
def test_a_probe_reads_both_texts_of_a_pair(base: Path, margin: Margin) -> None:
    """Agreement of two texts shows in their product, though in neither of them."""
    train, test = _agreeing(300, 0), _agreeing(100, 1)
    probe = LinearProbe(_config(base), _pair(), train)
    guessed = [max(row, key=row.__getitem__) for row in probe.probabilities(test)]
    assert probe.n == 300
    margin.above(
        sum(guess == row.label for guess, row in zip(guessed, test, strict=True)) / 100, 0.75, "on new rows"
    )  # at least 0.97
    margin.above(probe.correct / 300, 0.75, "cross-validated")  # at least 0.98
    alone = [Example(row.id, row.text, row.label) for row in train]
    task = TaskConfig(name="one", instruction="i", labels={"no": "", "yes": ""})
    margin.below(LinearProbe(_config(base), Classification(task), alone).correct / 300, 0.7, "from one text")  # at most 0.55
