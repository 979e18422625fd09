"""The reader: windows that miss nothing, spans that stay inside the context, offsets exact in any script."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conditions import SEED, Margin
from epochs import scripted_epochs, without_words
from stepsynth import model_cache
from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.students.extractive_qa import ExtractiveQA, ExtractiveQAModel
from stepsynth.tasks.extractive_qa import ExtractiveQA as Questions
from stepsynth.types import Example, Prediction, Span
from tiny_model import WORDS, build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILY = Questions(TaskConfig(family="extractive_qa", name="questions", instruction="Answer from the passage."))
# How students were made before there was a choice.
BEFORE: dict[str, object] = {"keep": "best", "precision": "float32", "min_steps": 0}
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json"}
COLOURS = ("red", "green", "blue", "white")
ANIMALS = ("dog", "cat", "cow", "hen")
# They share no word: a question that differs by one word in two is hardly heard, and training may stay where both get any answer.
QUESTIONS = {"colour": "which colour was it", "animal": "what animal did they like"}
VOCABULARY = [*WORDS, *COLOURS, *ANIMALS, *QUESTIONS.values()]
# Scripts, marks, emoji of several code points, control and white space characters that tokenizers treat in their own ways.
ODD = [
    "é",
    "e\u0301",
    "n\u0303",
    "👩‍💻",
    "🏳️‍🌈",
    "\r\n",
    "\n",
    "\t",
    "\u00a0",
    "\u200b",
    "\u2028",
    "ß",
    "İ",
    "ﬁ",
    "中文",
    "ไทย",
    "नी",
    "\ud800",
    "\x00",
    " ",
]
PIECES = st.lists(st.one_of(st.sampled_from([*ODD, *WORDS, " ", ", ", "."]), st.text(max_size=4)), max_size=60).map("".join)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model whose words differ from the start."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny", VOCABULARY, spread=0.2)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """Make an empty folder to write a model into."""

    def make() -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder

    return make


@cache
def _tokenizer(kind: str) -> Any:
    """Return a tokenizer of one of the two kinds whose offsets differ most: by words, by bytes."""
    import tempfile

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if kind == "words":
        with tempfile.TemporaryDirectory() as folder:
            return AutoTokenizer.from_pretrained(build_tiny_model(Path(folder) / "tiny", VOCABULARY))
    special = ["<s>", "</s>", "<pad>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, pad_token="<pad>", cls_token="<s>", sep_token="</s>", eos_token="</s>"
    )


def _settings(base: Path, **changes: object) -> StudentConfig:
    values = {"model": str(base), **BEFORE, "max_length": 40, "stride": 8, "epochs": 10, "learning_rate": 4e-3, "batch_size": 16}
    return StudentConfig.model_validate({**values, "max_answer_tokens": 4, **changes})


def _rows(count: int, seed: int, plain: int = 6) -> list[Example]:
    """A passage holds one colour and one animal; the question asks for one of them."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        colour, animal = rng.choice(COLOURS), rng.choice(ANIMALS)
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, plain))] + [colour, animal]
        rng.shuffle(words)
        context, (asked, answer) = " ".join(words), rng.choice([("colour", colour), ("animal", animal)])
        start = f" {context} ".index(f" {answer} ")
        rows.append(Example(f"{seed}-{index}", QUESTIONS[asked], "", context, (Span(answer, start),)))
    return rows


def _exact(rows: list[Example], answers: list[Prediction]) -> float:
    return sum(FAMILY.score(row, answer) for row, answer in zip(rows, answers, strict=True)) / len(rows)


def _sha256(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExtractiveQAModel, Path]:
    """A reader that has learned its task, and its folder; windows without an answer are among what it learned from."""
    out = tmp_path_factory.mktemp("trained")
    train = [*_rows(400, 0), *_rows(120, 9, plain=80)]
    return ExtractiveQA(_settings(base), FAMILY).fit(train, _rows(60, 1), seed=SEED, out=out), out


@pytest.mark.learns
def test_it_learns_to_answer(trained: tuple[ExtractiveQAModel, Path], margin: Margin) -> None:
    """Two different questions about the same kind of passage get their own answers."""
    model, out = trained
    test = _rows(200, 2)
    margin.above(_exact(test, model.predict(test)), 0.8)  # at least 1.00 in the sweep
    assert {path.name for path in out.iterdir()} == FILES


@pytest.mark.learns
def test_a_long_context_is_read_to_its_end(trained: tuple[ExtractiveQAModel, Path], margin: Margin) -> None:
    """The answer is found where it stands: at the very beginning, in a later window, as the very last word."""
    model, _ = trained
    rng = random.Random(5)
    rows = []
    for place in (0, 1, 45, 90, 150, 199, 200):
        words = [rng.choice(WORDS) for _ in range(200)]
        words.insert(place, "green")
        context = " ".join(words)
        rows.append(Example(str(place), QUESTIONS["colour"], "", context, (Span("green", f" {context} ".index(" green ")),)))
    assert max(sum(window.example == place for window in model.windows(rows)) for place in range(7)) > 5
    for row, answer in zip(rows, model.predict(rows), strict=True):
        margin.above(answer.probabilities.get("green", 0), 0.5, f"word {row.id}")  # at least 0.99 in the sweep
        assert answer.start == row.answers[0].start, row.id


def test_the_saved_reader_is_the_returned_one(trained: tuple[ExtractiveQAModel, Path], base: Path) -> None:
    """Loading gives the same answers, with the windows of training and whatever the config says now."""
    model, out = trained
    test = _rows(100, 2, plain=60)
    assert ExtractiveQA(_settings(base, max_length=20, stride=2, max_answer_tokens=1), FAMILY).load(out).predict(
        test
    ) == model.predict(test)


def test_the_best_epoch_is_kept(base: Path, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that get worse afterwards are put back: answers have the F1 that the record says of the best epoch."""
    out, select, ended = new_folder(), _rows(60, 1), scripted_epochs(monkeypatch, (0.5, 0.9, 0.4, 0.8))
    model = ExtractiveQA(_settings(base, epochs=4), FAMILY).fit(_rows(100, 0), select, seed=0, out=out)
    record = _record(out)
    assert record["best_epoch"] == 2
    for name, value in without_words(model._network.state_dict()).items():
        assert value.equal(ended[1][name]), name
    evaluation = FAMILY.evaluate(select, model.predict(select))
    assert evaluation.details["f1"] == pytest.approx(record["epochs"][1]["select_f1"], abs=1e-5)


def test_the_kept_weights_score_what_the_record_says(trained: tuple[ExtractiveQAModel, Path]) -> None:
    """On select, of the best epoch: the one with the highest rank."""
    (model, out), select = trained, _rows(60, 1)
    record = _record(out)
    ranks = [(epoch["select_accuracy"], epoch["select_f1"], -epoch["select_loss"]) for epoch in record["epochs"]]
    assert ranks.index(max(ranks)) == record["best_epoch"] - 1
    evaluation = FAMILY.evaluate(select, model.predict(select))
    assert (evaluation.value, evaluation.details["f1"]) == pytest.approx(max(ranks)[:2], abs=1e-5)


def test_answers_do_not_depend_on_the_order(trained: tuple[ExtractiveQAModel, Path]) -> None:
    """Shuffled questions get the same answers, each under its own id and in the order asked."""
    model, _ = trained
    test = _rows(150, 3, plain=70)
    shuffled = random.Random(1).sample(test, len(test))
    answers = model.predict(shuffled)
    assert [answer.example_id for answer in answers] == [row.id for row in shuffled]
    assert {answer.example_id: answer for answer in answers} == {answer.example_id: answer for answer in model.predict(test)}


def test_probabilities_are_over_the_candidates(trained: tuple[ExtractiveQAModel, Path]) -> None:
    """At most twenty texts, likeliest first, sum one; the answer is the first and stands where it says."""
    model, _ = trained
    rows = _rows(60, 2, plain=70)
    for row, answer in zip(rows, model.predict(rows), strict=True):
        values = list(answer.probabilities.values())
        assert 1 <= len(values) <= 20
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1.0, abs=2e-5)
        assert next(iter(answer.probabilities)) == answer.label
        assert answer.confidence == values[0]
        assert row.context[answer.start : answer.start + len(answer.label)] == answer.label
        assert all(len(text.split()) <= 4 for text in answer.probabilities)
    assert model.predict([]) == []


def test_same_seed_gives_the_same_bytes(base: Path, new_folder: Callable[[], Path]) -> None:
    """Every file again, whatever was drawn in between; another seed differs."""
    student, folders = ExtractiveQA(_settings(base, epochs=2), FAMILY), [new_folder() for _ in range(3)]
    for seed, folder in zip((3, 3, 4), folders, strict=True):
        random.seed(seed + len(folder.name))
        student.fit(_rows(60, 0, plain=40), _rows(20, 1), seed=seed, out=folder)
    assert _sha256(folders[0]) == _sha256(folders[1])
    assert _sha256(folders[0])["model.safetensors"] != _sha256(folders[2])["model.safetensors"]


@pytest.mark.learns
def test_training_goes_on_from_a_given_student(
    trained: tuple[ExtractiveQAModel, Path], base: Path, new_folder: Callable[[], Path], margin: Margin
) -> None:
    """With ``start`` the first epoch knows what the earlier student knew."""
    out, before = new_folder(), _sha256(trained[1])
    gentle = ExtractiveQA(_settings(base, epochs=1, learning_rate=1e-5), FAMILY)
    gentle.fit(_rows(20, 4), _rows(60, 1), seed=SEED, out=out, start=trained[1])
    margin.above(_record(out)["epochs"][0]["select_accuracy"], 0.8)  # at least 1.00 in the sweep
    assert _sha256(trained[1]) == before


def test_rows_that_do_not_fit_are_counted_and_left_out(base: Path, new_folder: Callable[[], Path]) -> None:
    """An answer longer than a window is skipped in training and wrong on select; with no other row left, it is named."""
    words = " ".join(random.Random(0).choice(WORDS) for _ in range(80))
    long = Example("long", "which", "", words, (Span(words[4:-4], 4),))
    student, out = ExtractiveQA(_settings(base, epochs=1), FAMILY), new_folder()
    student.fit([*_rows(10, 0), long], [long, *_rows(3, 1)], seed=0, out=out)
    record = _record(out)
    assert record["skipped"] == 1
    assert record["windows"] == 10
    assert round(4 * record["epochs"][0]["select_accuracy"]) <= 3, "one of the four cannot be right"
    with pytest.raises(DataError, match=r"no row .* window of 40 tokens; .* row 'long' .*max_length"):
        student.fit([long], [], seed=0, out=new_folder())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Example("x", "which", "", "a film"), "row 'x' has no answer"),
        (Example("x", "which", "", "a film", (Span("plot", 2),)), "row 'x': the answer 'plot' is not at character 2"),
        (Example("x", "which", "", "a film", (Span("m", -1),)), "is not at character -1"),
        (Example("x", "which", "", "a film", (Span("", 2),)), "is not at character 2"),
    ],
)
def test_rows_without_a_true_answer_are_refused(base: Path, new_folder: Callable[[], Path], row: Example, message: str) -> None:
    """No answer, or one that does not stand where it says, names the row, in train and select alike."""
    student = ExtractiveQA(_settings(base), FAMILY)
    for train, select in (([row], []), (_rows(2, 0), [row])):
        with pytest.raises(DataError, match=message):
            student.fit(train, select, seed=0, out=new_folder())
    with pytest.raises(DataError, match="no rows"):
        student.fit([], [], seed=0, out=new_folder())


@pytest.mark.parametrize("context", ["", " \r\n", "\u200b", "\ud800", "👩‍💻", "x" * 5000, "word " * 500])
@pytest.mark.parametrize("question", ["", "\ud800?", "which colour " * 300])
def test_odd_questions_and_contexts_get_an_answer(trained: tuple[ExtractiveQAModel, Path], question: str, context: str) -> None:
    """Nothing to read, nothing to ask, far too much of both: one answer each, possibly an empty one."""
    model, _ = trained
    (answer,) = model.predict([Example("x", question, "", context)])
    assert context[answer.start : answer.start + len(answer.label)] == answer.label
    assert 0 <= answer.confidence <= 1


def test_files_that_cannot_be_loaded_are_told(trained: tuple[ExtractiveQAModel, Path], base: Path, tmp_path: Path) -> None:
    """A folder without weights and a record of another kind of student give one clear error."""
    import shutil

    with pytest.raises(RunError, match="cannot be loaded"):
        ExtractiveQA(_settings(base), FAMILY).load(tmp_path)
    shutil.copytree(trained[1], tmp_path / "other")
    (tmp_path / "other" / "training.json").write_text('{"max_length": 40}')
    with pytest.raises(RunError, match="stride"):
        ExtractiveQA(_settings(base), FAMILY).load(tmp_path / "other")


def test_a_slow_tokenizer_is_told(base: Path, monkeypatch: pytest.MonkeyPatch, new_folder: Callable[[], Path]) -> None:
    """Without offsets no answer can be found in the text; the message says what to take instead."""
    slow = SimpleNamespace(is_fast=False)
    monkeypatch.setattr("stepsynth.students.extractive_qa.load_base", lambda *_: (None, slow))
    with pytest.raises(ConfigError, match=r"slow tokenizer.*tokenizer\.json"):
        ExtractiveQA(_settings(base), FAMILY).fit(_rows(2, 0), [], seed=0, out=new_folder())


@pytest.mark.parametrize("kind", ["words", "bytes"])
@given(question=PIECES, context=PIECES, size=st.integers(8, 40), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_token_of_the_context(kind: str, question: str, context: str, size: int, share: float) -> None:
    """No token of the context is lost between windows, none is too long, and the question never takes the room."""
    from stepsynth.students.windows import cut

    tokenizer = _tokenizer(kind)
    windows = cut(tokenizer, [(question, context), ("which", context)], size, int(share * (size - 1)), segments=False)
    clean = context.encode("utf-8", "replace").decode()
    whole = tokenizer(clean, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for example in (0, 1):
        own = [window for window in windows if window.example == example]
        assert all(len(window.row["input_ids"]) <= size for window in own)
        seen = {(start, end) for window in own for start, end in window.offsets.tolist() if start < end}
        assert seen == {(start, end) for start, end in whole["offset_mapping"] if start < end}
        read = [window.row["input_ids"][window.first : window.first + len(window.offsets)] for window in own]
        assert sum(map(len, read)) >= len(whole["input_ids"])
        # Each window but the last brings something new: they cannot be more than the tokens.
        assert len(own) <= max(1, len(whole["input_ids"]))


@pytest.mark.parametrize("kind", ["words", "bytes"])
@given(context=PIECES.filter(bool), data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_is_found_again_from_its_tokens(kind: str, context: str, data: st.DataObject) -> None:
    """Tokens of an answer, turned back into characters, hold the answer exactly or the words that it cuts into."""
    from stepsynth.students.span_decoding import answer
    from stepsynth.students.windows import cut, locate

    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    gold = Span(context[start:end], start)
    windows = cut(_tokenizer(kind), [("which colour", context)], 30, 6, segments=False)
    for window, target in zip(windows, locate(windows, gold), strict=True):
        if target is None:
            continue
        first, last = (int(place) - window.first for place in target)
        scored = (0.0, int(window.offsets[first][0]), int(window.offsets[last][1]))
        found = answer("x", context, [scored])
        assert context[found.start : found.start + len(found.label)] == found.label
        # What no token stands for, white space above all, may be missing at the ends; no token of the answer is.
        for token_start, token_end in window.offsets.tolist():
            token = context[token_start:token_end]
            # A control character that Python takes for white space may be part of a token.
            if start <= token_start < token_end <= end and token.strip():
                assert found.start <= token_end - len(token.lstrip())
                assert token_start + len(token.rstrip()) <= found.start + len(found.label)


@pytest.mark.parametrize("kind", ["words", "bytes"])
@pytest.mark.parametrize("word", ["cafe\u0301", "👩‍💻", "中文", "naïve", "Straße", "नी"])
@pytest.mark.parametrize("place", [0, 10, 60])
def test_a_word_in_any_script_comes_back_exactly(kind: str, word: str, place: int) -> None:
    """A whole word is an exact span again, at the beginning, in the middle and at the very end, after CRLF as well."""
    from stepsynth.students.span_decoding import answer
    from stepsynth.students.windows import cut, locate

    words = ["film"] * 60
    words.insert(place, word)
    context = "\r\n".join(words)
    gold = Span(word, context.index(word))
    windows = cut(_tokenizer(kind), [("which colour", context)], 60, 30, segments=False)
    hits = [(w, t) for w, t in zip(windows, locate(windows, gold), strict=True) if t]
    assert hits
    for window, (first, last) in hits:
        spans = [(0.0, int(window.offsets[first - window.first][0]), int(window.offsets[last - window.first][1]))]
        found = answer("x", context, spans)
        assert (found.label, found.start) == (word, gold.start)


@given(seed=st.integers(0, 10_000), width=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_best_span_never_leaves_the_context(seed: int, width: int) -> None:
    """Whatever is scored highest in question, special tokens or padding: answers are the best legal spans, by brute force."""
    import torch

    from stepsynth.students.span_decoding import best_spans, log_probabilities
    from stepsynth.students.windows import cut

    rng = random.Random(seed)
    contexts = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(0, 30))) for _ in range(3)]
    windows = cut(_tokenizer("words"), [("which colour is it", context) for context in contexts], 24, 5, segments=False)
    lengths = [len(window.row["input_ids"]) for window in windows]
    shape = (len(windows), max(lengths) + 2)
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, *shape, generator=generator)
    logits[:, :, :5] += 50
    for row, length in enumerate(lengths):
        logits[:, row, length - 1 :] += 100
    scores = log_probabilities(SimpleNamespace(start_logits=logits[0], end_logits=logits[1]), lengths)
    assert torch.allclose(scores.exp().sum(-1), torch.ones(2, len(windows), dtype=torch.float64))
    for row, (window, spans) in enumerate(zip(windows, best_spans(scores, windows, width), strict=True)):
        places = range(len(window.offsets))
        legal = sorted(
            (
                (
                    float(scores[0, row, window.first + i] + scores[1, row, window.first + j]),
                    *map(int, (window.offsets[i][0], window.offsets[j][1])),
                )
                for i in places
                for j in places
                if i <= j < i + width
            ),
            reverse=True,
        )
        assert [span[0] for span in spans] == pytest.approx([span[0] for span in legal[:20]])
        assert {span[1:] for span in spans} <= {span[1:] for span in legal}


def test_probabilities_of_one_text_at_two_places_add_up() -> None:
    """A text that stands twice counts twice, its likelier place is the answer's; a span found in two windows counts once."""
    from stepsynth.students.span_decoding import answer

    context = "red dog, red cat"
    found = answer("x", context, [(math.log(0.3), 0, 3), (math.log(0.2), 9, 12), (math.log(0.1), 9, 12), (math.log(0.4), 4, 7)])
    assert (found.label, found.start) == ("red", 0)
    assert found.probabilities == {"red": 0.555556, "dog": 0.444444}
    assert answer("x", "", []) == Prediction("x", "", {}, 0)


@pytest.mark.parametrize(
    ("context", "span", "found"),
    [
        ("a cafe\u0301 bar", (2, 6), ("cafe\u0301", 2)),  # a tokenizer that drops marks ends before the mark
        ("a  cafe \r\n", (1, 10), ("cafe", 3)),  # one that counts white space to the word
        ("a \r\n", (1, 4), ("", 0)),
    ],
)
def test_an_answer_is_whole_and_has_no_outer_space(context: str, span: tuple[int, int], found: tuple[str, int]) -> None:
    """Combining marks belong to the letter before them, white space around an answer does not belong to it."""
    from stepsynth.students.span_decoding import answer

    prediction = answer("x", context, [(0.0, *span)])
    assert (prediction.label, prediction.start) == found


@pytest.mark.parametrize(("stride", "shared"), [(0, 0), (7, 7), (16, 16), (27, 21)])
def test_neighbouring_windows_share_the_stride(stride: int, shared: int) -> None:
    """As many tokens as asked, up to three quarters of the 28 that question and special tokens leave."""
    from stepsynth.students.windows import cut

    context = "film " * 200
    windows = cut(_tokenizer("words"), [("which", context)], 32, stride, segments=False)
    first, second = windows[0].offsets.tolist(), windows[1].offsets.tolist()
    assert len(first) == 28
    assert sum(place in first for place in second) == shared


def test_windows_without_the_answer_point_at_the_first_token(base: Path) -> None:
    """Every window of a row is trained on; only those that hold the whole answer have it as their target."""
    student = ExtractiveQA(_settings(base, max_length=20, stride=6), FAMILY)
    model, _, tokenizer = student._base()
    context = "film " * 40 + "great story"
    row = Example("x", "which", "", context, (Span("great story", 200),))
    rows, skipped = student._rows(tokenizer, [row], model.windows([row]))
    assert skipped == 0
    assert len(rows) > 2
    for features in rows[:-1]:
        assert (features["start_positions"], features["end_positions"]) == (0, 0)
    last = rows[-1]
    words = tokenizer.convert_ids_to_tokens(last["input_ids"])
    assert words[last["start_positions"] : last["end_positions"] + 1] == ["great", "story"]
    assert last["token_type_ids"] == [0] * 3 + [1] * (len(words) - 3)


@pytest.mark.skipif(not os.environ.get("STEPSYNTH_DATA"), reason="STEPSYNTH_DATA does not say where the real sets are")
@pytest.mark.skipif(not model_cache.is_cached("minilm-l6"), reason="the embedded student is not in the cache")
def test_every_real_answer_is_reachable() -> None:
    """With the embedded student's tokenizer, gold answers of SQuAD turn into tokens and back without loss."""
    import gzip

    from transformers import AutoTokenizer

    from stepsynth.evaluation.squad import exact_match
    from stepsynth.students.span_decoding import answer
    from stepsynth.students.windows import cut, locate

    tokenizer = AutoTokenizer.from_pretrained(model_cache.resolve("minilm-l6", kind="student"))
    with gzip.open(Path(os.environ["STEPSYNTH_DATA"]) / "squad_sample" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(300), file, strict=False)]
    windows = cut(tokenizer, [(row["question"], row["context"]) for row in rows], 128, 64, segments=True)
    exact = 0
    for place, row in enumerate(rows):
        own = [window for window in windows if window.example == place]
        gold = Span(row["answers"]["text"][0], row["answers"]["answer_start"][0])
        targets = locate(own, gold)
        assert any(targets), row["id"]
        spans = [
            (0.0, int(window.offsets[target[0] - window.first][0]), int(window.offsets[target[1] - window.first][1]))
            for window, target in zip(own, targets, strict=True)
            if target
        ]
        exact += exact_match(answer("x", row["context"], spans).label, [gold.text])
    assert exact >= 297
