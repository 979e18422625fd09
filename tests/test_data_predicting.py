"""What `predict` writes for each family, with a student that answers by rote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from family_rows import PAIR, QA, TAGS, Row, run_config, write_rows
from stand_in_student import stand_in
from stepsynth.cli.predicting import Output, parse_columns, predict_file
from stepsynth.errors import ConfigError
from stepsynth.types import Example, Prediction

Answer = Callable[[Example], Prediction]
Write = Callable[..., str]


class Rote:
    """A student whose answers are given."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def load(self, folder: Path) -> Rote:
        return self

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        return [self.answer(example) for example in examples]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Write:
    """Predict some rows with a rote student; return what stands in the file, or on standard output."""

    def run(task: Row, rows: list[Row], answer: Answer, *, out: str = "out.csv", **options: Any) -> str:
        stand_in(monkeypatch, run_config(task, tmp_path / "unused"), Rote(answer))
        file = write_rows(tmp_path / "new.jsonl", rows)
        target = tmp_path / out if out else None
        output = Output(target, "json" if options.pop("as_json", False) else None)
        predict_file(tmp_path, file, **{"columns": {}, "output": output, "round_number": None, **options})
        return target.read_text(encoding="utf-8") if target else capsys.readouterr().out

    return run


def table(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


def test_a_pair_s_table_has_both_texts_in_the_file_s_order(write: Write) -> None:
    def answer(example: Example) -> Prediction:
        assert (example.context, example.text) == ("=note", "claim")
        return Prediction(example.id, "no", {"yes": 0.25, "no": 0.75})

    content = write(PAIR, [{"p": "=note", "text2": "claim"}], answer, columns={"text1": "p"})
    assert table(content) == [{"text1": "'=note", "text2": "claim", "label": "no", "p(yes)": "0.250000", "p(no)": "0.750000"}]


def rote_tags(example: Example) -> Prediction:
    return Prediction(example.id, "warm|windy", {"warm": 0.9, "wet": 0.2, "windy": 0.6})


def test_several_labels_are_joined_in_a_table_and_a_list_in_json_lines(write: Write) -> None:
    (row,) = table(write(TAGS, [{"text": "a day"}], rote_tags))
    assert row == {"text": "a day", "labels": "warm|windy", "p(warm)": "0.900000", "p(wet)": "0.200000", "p(windy)": "0.600000"}
    line = json.loads(write(TAGS, [{"text": "a day"}], rote_tags, out="out.jsonl"))
    assert line == {"text": "a day", "labels": ["warm", "windy"], "probabilities": {"warm": 0.9, "wet": 0.2, "windy": 0.6}}


def rote_span(example: Example) -> Prediction:
    return Prediction(example.id, "-sun", {"-sun": 0.5}, start=4)


def test_an_answer_comes_with_its_place_and_probability(write: Write) -> None:
    rows = [{"context": "the -sun", "question": "@What?"}]
    assert table(write(QA, rows, rote_span)) == [
        {"context": "the -sun", "question": "'@What?", "answer": "'-sun", "answer_start": "4", "probability": "0.500000"}
    ]
    expected = {**rows[0], "answer": "-sun", "answer_start": 4, "probability": 0.5}
    assert json.loads(write(QA, rows, rote_span, out="out.jsonl")) == expected
    whole = json.loads(write(QA, rows, rote_span, out="", as_json=True))
    assert (whole["round"], whole["predictions"]) == (0, [expected])


def test_predictions_can_be_read_as_rows_of_their_family(write: Write, tmp_path: Path) -> None:
    """A file of predictions is a file of labelled rows: the columns are those that data is read from."""
    from stepsynth.config import SourceConfig
    from stepsynth.data import load_seed

    write(QA, [{"context": "the -sun", "question": "What?"}], rote_span, out="out.jsonl")
    config = run_config(QA, tmp_path / "unused")
    source = SourceConfig(path=tmp_path / "out.jsonl")
    (row,) = load_seed(config.model_copy(update={"data": config.data.model_copy(update={"seed": source})}))
    assert [(span.text, span.start) for span in row.answers] == [("-sun", 4)]


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ([], {}),
        (["review"], {"text": "review"}),
        (["text=review"], {"text": "review"}),
        (["a=b"], {"text": "a=b"}),
        (["text1=p", "text2=x=y"], {"text1": "p", "text2": "x=y"}),
    ],
)
def test_column_options_name_one_column_or_several(options: list[str], columns: dict[str, str]) -> None:
    assert parse_columns(options) == columns


def test_a_column_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"names 'text' twice: 'a' and 'b'\. For two texts write"):
        parse_columns(["a", "b"])
