"""The classifier's head: begun as a linear probe, saved beside a plain encoder; steps, kept weights and precision."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conditions import SEED, Margin
from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.errors import ConfigError, RunError
from stepsynth.students import trainer
from stepsynth.students.batches import reads_segments
from stepsynth.students.classifier import Classifier, ClassifierModel
from stepsynth.students.pooled import PooledClassifier
from stepsynth.students.probe import LinearProbe
from stepsynth.students.reproducibility import quiet
from stepsynth.tasks.classification import Classification, MultiLabel
from stepsynth.tasks.pair import Pair
from stepsynth.types import Example
from tiny_model import WORDS, build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIGNS = {"bad": ("dull", "sad"), "good": ("fun", "great"), "plain": ("film", "movie")}
PLAIN = [word for word in WORDS if not any(word in words for words in SIGNS.values())]
FILES = {"config.json", "head.safetensors", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json"}
HEADS = ("probe-start", "probe", "fresh")


def _rows(count: int, seed: int = 0, labels: Sequence[str] = ("bad", "good", "plain")) -> list[Example]:
    """Rows whose label their words tell; the context is another text, of no label."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        label = labels[index % len(labels)]
        words = [rng.choice(PLAIN) for _ in range(rng.randint(1, 9))] + list(SIGNS[label])
        rng.shuffle(words)
        rows.append(Example(f"{seed}-{index}", " ".join(words), label, f"a {rng.choice(PLAIN)} story"))
    return rows


def _family(kind: str, labels: Sequence[str] = ("bad", "good", "plain")) -> Classification:
    values: dict[str, Any] = {"family": kind, "name": "films", "instruction": "Which?", "labels": list(labels)}
    if kind == "pair":
        values["fields"] = {"text1": {"name": "note", "context": True}, "text2": {"name": "text"}}
    return {"classification": Classification, "multi_label": MultiLabel, "pair": Pair}[kind](TaskConfig.model_validate(values))


def _student(base: Path, kind: str = "classification", **changes: object) -> Classifier:
    settings = {"model": str(base), "epochs": 1, "min_steps": 12, "learning_rate": 1e-3, "batch_size": 16, **changes}
    return Classifier(StudentConfig.model_validate(settings), _family(kind))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model whose words differ from the start."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny", spread=0.2)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """Make an empty folder to write a model into."""

    def make() -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder

    return make


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record


def _sha256(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training make no step."""
    monkeypatch.setattr(trainer, "train", lambda *_, **__: trainer.History([], trainer.Epoch(1, 0.0), 0))


def _labels(model: ClassifierModel, rows: Sequence[Example]) -> list[str]:
    return [answer.label for answer in model.predict(rows)]


# the head --------------------------------------------------------------------------------------


def test_a_new_config_starts_from_a_probe_and_keeps_the_last_weights() -> None:
    config = StudentConfig()
    assert (config.head, config.keep, config.precision) == ("probe-start", "last", "auto")
    assert config.min_steps >= 100, "few rows are trained on to the end"


@pytest.mark.parametrize("labels", [("bad", "good"), ("bad", "good", "plain")])
def test_a_probe_is_the_linear_probe(base: Path, new_folder: Callable[[], Path], labels: tuple[str, ...]) -> None:
    """Same probabilities as `students.probe` on the same encoder, which stays as it is, byte for byte."""
    from safetensors.torch import load_file

    family, out, rows, test = _family("classification", labels), new_folder(), _rows(40, 0, labels), _rows(60, 1, labels)
    config = StudentConfig(model=str(base), head="probe")
    model = Classifier(config, family).fit(rows, [], seed=0, out=out)
    expected = LinearProbe(config, family, rows).probabilities(test)
    for answer, wanted in zip(model.predict(test), expected, strict=True):
        assert answer.probabilities == pytest.approx(wanted, abs=2e-4)
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(value.equal(after[name]) for name, value in before.items())
    assert (_record(out)["steps"], model.steps) == (0, 0)


@pytest.mark.parametrize("kind", ["classification", "pair", "multi_label"])
def test_training_starts_where_the_probe_is(
    kind: str, base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, test = _rows(40), _rows(60, 1)
    probe = _student(base, kind, head="probe").fit(rows, [], seed=0, out=new_folder())
    _untrained(monkeypatch)
    begun = _student(base, kind).fit(rows, [], seed=0, out=new_folder())
    fresh = _student(base, kind, head="fresh").fit(rows, [], seed=0, out=new_folder())
    assert begun.predict(test) == probe.predict(test) != fresh.predict(test)


@pytest.mark.parametrize("head", ["probe-start", "probe"])
@pytest.mark.parametrize("kind", ["classification", "pair", "multi_label"])
def test_what_is_saved_is_what_was_trained(kind: str, head: str, base: Path, new_folder: Callable[[], Path]) -> None:
    """Same bytes again; a loaded student answers alike, in whatever order it is asked."""
    student, first, second = _student(base, kind, head=head), new_folder(), new_folder()
    model = student.fit(_rows(40), _rows(9, 2), seed=3, out=first)
    student.fit(_rows(40), _rows(9, 2), seed=3, out=second)
    assert set(_sha256(first)) == FILES
    assert _sha256(first) == _sha256(second)
    test, loaded = _rows(50, 1), student.load(first)
    assert loaded.predict(test) == model.predict(test)
    assert list(reversed(loaded.predict(test[::-1]))) == model.predict(test)
    assert loaded.steps == model.steps == _record(first)["steps"] == (12 if head == "probe-start" else 0)


def test_a_folder_is_an_encoder_for_others(base: Path, new_folder: Callable[[], Path]) -> None:
    """The lines of docs/config.md: transformers and safetensors alone give the same probabilities."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    out, rows = new_folder(), _rows(6, 1)
    model = _student(base).fit(_rows(40), [], seed=0, out=out)
    tokenizer, encoder, head = (
        AutoTokenizer.from_pretrained(out),
        AutoModel.from_pretrained(out),
        load_file(out / "head.safetensors"),
    )
    for row, answer in zip(rows, model.predict(rows), strict=True):
        batch = tokenizer([row.text], return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            mean = encoder(**batch).last_hidden_state.mean(1)
        unit = torch.nn.functional.normalize(mean, dim=-1)
        shares = (unit @ head["weight"].T + head["bias"]).softmax(-1)[0]
        assert [encoder.config.id2label[place] for place in range(3)] == list(answer.probabilities)
        assert shares.tolist() == pytest.approx(list(answer.probabilities.values()), abs=1e-4)


@pytest.mark.parametrize("head", ["probe-start", "probe"])
@pytest.mark.parametrize("labels", [("bad", "plain"), ("good",)])
def test_a_label_without_rows_is_never_the_likeliest(
    labels: tuple[str, ...], head: str, base: Path, new_folder: Callable[[], Path]
) -> None:
    """Two labels of three, or a single one: the others are possible, and nothing but these is predicted."""
    model = _student(base, head=head, learning_rate=1e-6).fit(_rows(30, 0, labels), [], seed=0, out=new_folder())
    assert set(_labels(model, _rows(60, 1))) == set(labels)
    assert all(len(answer.probabilities) == 3 for answer in model.predict(_rows(3, 1)))


def test_of_several_labels_those_of_no_row_and_of_all_rows_stay_so(base: Path, new_folder: Callable[[], Path]) -> None:
    rows = [Example(row.id, row.text, "bad|plain" if row.label == "bad" else "plain") for row in _rows(40)]
    model = _student(base, "multi_label", head="probe").fit(rows, [], seed=0, out=new_folder())
    answers = model.predict(rows)
    assert all(answer.probabilities["plain"] > 0.9 and answer.probabilities["good"] < 0.1 for answer in answers)
    assert {answer.label for answer in answers} == {"bad|plain", "plain"}


@pytest.mark.parametrize("text", ["", " ", "\ud800 broken", "\u2028\x00", "unknownword " * 500])
@pytest.mark.parametrize("head", ["probe-start", "probe"])
def test_odd_texts_get_an_answer(head: str, text: str, base: Path, new_folder: Callable[[], Path]) -> None:
    rows = [*_rows(20), Example("odd", text, "bad")]
    model = _student(base, head=head, min_steps=2).fit(rows, rows, seed=0, out=new_folder())
    assert len(model.predict(rows)) == 21


@pytest.mark.parametrize("head", ["probe-start", "probe"])
def test_nothing_is_printed_and_no_state_is_left(
    head: str, base: Path, new_folder: Callable[[], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    torch.manual_seed(5)
    expected, out = torch.rand(3).tolist(), new_folder()
    torch.manual_seed(5)
    _student(base, head=head).fit(_rows(20), _rows(4, 1), seed=0, out=out)
    _student(base).load(out).predict(_rows(4, 2))
    assert torch.rand(3).tolist() == expected
    assert not torch.is_autocast_enabled("cpu")
    assert capfd.readouterr() == ("", "")


def _other_encoder(kind: str, base: Path, folder: Path) -> Path:
    """Write an encoder of another architecture with the tiny model's tokenizer."""
    import transformers

    words = len(json.loads((base / "tokenizer.json").read_text())["model"]["vocab"])
    network: Any
    if kind == "roberta":
        small: dict[str, int] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.RobertaConfig(
            vocab_size=words, max_position_embeddings=66, type_vocab_size=1, pad_token_id=0, **small
        )
        network = transformers.RobertaModel(config, add_pooling_layer=False)
    elif kind == "distilbert":
        network = transformers.DistilBertModel(
            transformers.DistilBertConfig(
                vocab_size=words, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=64
            )
        )
    else:
        network = transformers.T5Model(
            transformers.T5Config(
                vocab_size=words, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
            )
        )
    with quiet():
        network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
@pytest.mark.parametrize("family", ["classification", "pair"])
def test_other_encoders_work_too(kind: str, family: str, base: Path, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    """Without segments, without a pooling layer of their own."""
    student, out = _student(_other_encoder(kind, base, tmp_path / kind), family), new_folder()
    model = student.fit(_rows(30), _rows(9, 2), seed=0, out=out)
    assert student.load(out).predict(_rows(30, 1)) == model.predict(_rows(30, 1))


def test_a_model_with_a_decoder_is_refused_with_what_to_write(base: Path, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    folder = _other_encoder("t5", base, tmp_path / "t5")
    with pytest.raises(ConfigError, match=r"student\.head: fresh"):
        _student(folder).fit(_rows(9), [], seed=0, out=new_folder())


def test_the_encoder_is_asked_for_segments(base: Path) -> None:
    network = PooledClassifier.from_pretrained(base, trained=False, num_labels=2)
    assert reads_segments(network)
    network.config.type_vocab_size = 1
    assert not reads_segments(network)


# folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", HEADS)
@pytest.mark.parametrize("second", HEADS)
def test_every_folder_is_loaded_and_gone_on_from_whatever_the_config_says(
    first: str, second: str, base: Path, new_folder: Callable[[], Path]
) -> None:
    """A folder tells its own head: those of earlier versions are transformers' classifiers. A probe is always of the base."""
    made, onward = new_folder(), new_folder()
    model = _student(base, head=first).fit(_rows(30), [], seed=0, out=made)
    other, before = _student(base, head=second, learning_rate=1e-9, weight_decay=0), _sha256(made)
    assert other.load(made).predict(_rows(30, 1)) == model.predict(_rows(30, 1))
    gone_on = other.fit(_rows(30, 5), [], seed=0, out=onward, start=made)
    assert _sha256(made) == before
    assert (onward / "head.safetensors").exists() == (second == "probe" or first != "fresh")
    if second == "probe-start" and first != "fresh":
        # The encoder is gone on from, with a head that begins anew: a regression on what that encoder says of these rows.
        encoders = [load_file(folder / "model.safetensors") for folder in (made, onward)]
        assert all(torch.allclose(then, encoders[1][name], atol=1e-4) for name, then in encoders[0].items())
        heads = [load_file(folder / "head.safetensors")["weight"] for folder in (made, onward)]
        probe = new_folder()
        _student(made, head="probe").fit(_rows(30, 5), [], seed=0, out=probe)
        assert torch.allclose(heads[1], load_file(probe / "head.safetensors")["weight"], atol=1e-4)
        assert not torch.allclose(heads[0], heads[1], atol=1e-2)
    elif second != "probe":
        answers = zip(gone_on.predict(_rows(30, 1)), model.predict(_rows(30, 1)), strict=True)
        assert all(now.probabilities == pytest.approx(then.probabilities, abs=1e-3) for now, then in answers)


def test_a_student_may_be_the_base_of_another_task(base: Path, new_folder: Callable[[], Path]) -> None:
    """Its encoder is taken, its head is not."""
    made, out = new_folder(), new_folder()
    _student(base).fit(_rows(30), [], seed=0, out=made)
    labels = ("bad", "good")
    config = StudentConfig(model=str(made), min_steps=3, epochs=1)
    model = Classifier(config, _family("classification", labels)).fit(_rows(30, 0, labels), [], seed=0, out=out)
    assert set(_labels(model, _rows(30, 1))) <= set(labels)


@pytest.mark.parametrize("content", [b"cut", None])
def test_a_damaged_head_is_told(content: bytes | None, base: Path, new_folder: Callable[[], Path]) -> None:
    out, other = new_folder(), new_folder()
    _student(base, head="probe").fit(_rows(30), [], seed=0, out=out)
    if content is None:
        # Of another number of labels.
        two = ("bad", "good")
        config = StudentConfig(model=str(base), head="probe")
        Classifier(config, _family("classification", two)).fit(_rows(30, 0, two), [], seed=0, out=other)
        content = (other / "head.safetensors").read_bytes()
    (out / "head.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="cannot be loaded"):
        _student(base).load(out)


# steps and what is kept ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "epochs", "min_steps", "steps", "passes"),
    [(33, 1, 7, 7, 4), (33, 5, 7, 10, 5), (4, 1, 7, 7, 7), (64, 1, 0, 2, 1), (3, 2, 1, 2, 2)],
)
def test_steps_are_made_as_told(
    rows: int, epochs: int, min_steps: int, steps: int, passes: int, base: Path, new_folder: Callable[[], Path]
) -> None:
    """Batches of 32: at least ``epochs`` passes and ``min_steps`` steps, not one more; the last pass may be cut short."""
    seen: list[tuple[int, int]] = []
    out = new_folder()
    student = _student(base, epochs=epochs, min_steps=min_steps, batch_size=32)
    model = student.fit(_rows(rows), [], seed=0, out=out, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, steps) for step in range(1, steps + 1)]
    assert (model.steps, _record(out)["steps"], len(_record(out)["epochs"])) == (steps, steps, passes)


def test_no_batch_is_a_leftover(base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """33 rows in batches of 32 are 17 and 16 rows, so that no single row has half of the say."""
    sizes: list[int] = []
    forward = PooledClassifier.forward

    def spy(self: Any, input_ids: Any, *arguments: Any, **others: Any) -> Any:
        if self.training:
            sizes.append(len(input_ids))
        return forward(self, input_ids, *arguments, **others)

    monkeypatch.setattr(PooledClassifier, "forward", spy)
    _student(base, min_steps=4, batch_size=32).fit(_rows(33), [], seed=0, out=new_folder())
    assert sizes == [17, 16, 17, 16]


@pytest.mark.parametrize(("keep", "judged"), [("last", 1), ("best", 6)])
def test_the_last_weights_are_kept_and_judged_once(
    keep: str, judged: int, base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or those of the epoch that did best, and then every epoch is judged."""
    counted: list[int] = []
    score = Classifier._score

    def spy(self: Classifier, network: Any, *others: Any) -> Any:
        counted.append(1)
        found = score(self, network, *others)
        return trainer.Scores(1.0 / len(counted), found.loss)

    monkeypatch.setattr(Classifier, "_score", spy)
    out, without = new_folder(), new_folder()
    student = _student(base, epochs=6, min_steps=0, keep=keep)
    student.fit(_rows(30), _rows(12, 1), seed=0, out=out)
    student.fit(_rows(30), [], seed=0, out=without)
    epochs, best = _record(out)["epochs"], _record(out)["best_epoch"]
    assert len(counted) == judged == sum(epoch["select_accuracy"] is not None for epoch in epochs)
    assert len(epochs) == 6
    assert best == (6 if keep == "last" else 1)
    same = _sha256(out)["model.safetensors"] == _sha256(without)["model.safetensors"]
    assert same == (keep == "last"), "select rows change nothing where the last weights are kept"


# precision -------------------------------------------------------------------------------------


@pytest.mark.learns
def test_bfloat16_is_of_training_alone(base: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    """Another rounding gives other weights; they are float32, and so are answers: a loaded student gives the same."""
    from safetensors.torch import load_file

    folders = {name: new_folder() for name in ("float32", "bfloat16")}
    models = {name: _student(base, precision=name).fit(_rows(40), [], seed=0, out=out) for name, out in folders.items()}
    weights = {name: load_file(out / "model.safetensors") for name, out in folders.items()}
    assert {str(value.dtype) for found in weights.values() for value in found.values()} == {"torch.float32"}
    assert _sha256(folders["float32"])["model.safetensors"] != _sha256(folders["bfloat16"])["model.safetensors"]
    changed = [float((weights["bfloat16"][name] - value).abs().max()) for name, value in weights["float32"].items()]
    margin.below(max(changed), 0.05, "rounding, not another training")
    assert _student(base).load(folders["bfloat16"]).predict(_rows(40, 1)) == models["bfloat16"].predict(_rows(40, 1))


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_what_the_processor_is_fast_in(
    fast: bool, base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "computes_in_bfloat16", lambda: fast)
    auto, named = new_folder(), new_folder()
    _student(base).fit(_rows(20), [], seed=0, out=auto)
    _student(base, precision="bfloat16" if fast else "float32").fit(_rows(20), [], seed=0, out=named)
    assert _sha256(auto) == _sha256(named)


@pytest.mark.parametrize(
    ("found", "limit", "fast"),
    [
        ({"avx512_bf16": True}, "AVX512", True),
        ({"amx_bf16": True}, "AVX512", True),
        ({"avx512_bf16": True}, "AVX2", False),
        ({"avx512_bf16": False}, "AVX512", False),
        ({}, "AVX512", False),
        (None, "AVX512", False),
    ],
)
def test_a_processor_is_fast_where_it_says_so_and_is_not_limited(
    found: dict[str, bool] | None, limit: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older torch cannot tell, and then it is not."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: limit)
    if found is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert trainer.computes_in_bfloat16() == fast


# what is learned --------------------------------------------------------------------------------


@pytest.mark.learns
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_without_the_probe(
    precision: str, base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, margin: Margin
) -> None:
    """From a random head: which of two words comes first, which no list of words tells."""
    monkeypatch.setattr("stepsynth.students.probe_start.start_head", lambda *_, **__: None)
    labels = ("bad", "good")

    def ordered(count: int, seed: int) -> list[Example]:
        rng, rows = random.Random(seed), []
        for index in range(count):
            words = ["fun", "dull"] if index % 2 else ["dull", "fun"]
            rows.append(Example(f"{seed}-{index}", " ".join([*words, *rng.sample(PLAIN, 2)]), labels[index % 2]))
        return rows

    settings = {"model": str(base), "precision": precision, "min_steps": 150, "learning_rate": 5e-3}
    student = Classifier(StudentConfig.model_validate(settings), _family("classification", labels))
    model = student.fit(ordered(120, 0), [], seed=SEED, out=new_folder())
    test = ordered(100, 1)
    margin.above(sum(a == row.label for a, row in zip(_labels(model, test), test, strict=True)) / 100, 0.8)


@pytest.mark.learns
def test_label_smoothing_reaches_the_loss(base: Path, new_folder: Callable[[], Path], margin: Margin) -> None:
    losses = []
    for smoothing in (0.0, 0.4):
        out = new_folder()
        _student(base, min_steps=100, learning_rate=5e-3, label_smoothing=smoothing).fit(_rows(60), [], seed=SEED, out=out)
        losses.append(_record(out)["epochs"][-1]["train_loss"])
    margin.below(losses[0], 0.35, "plain")
    # Their entropy, below which no training comes, is 0.76.
    margin.above(losses[1], 0.7, "smoothed")
