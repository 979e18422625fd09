"""Abstaining below a threshold: in predictions, in Python, and what it would bring on the page and in results.json."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from family_rows import QA, TAGS, run_config
from report_page import Page
from report_story import Story, build
from stand_in_student import stand_in
from stepsynth.api.student import TrainedStudent
from stepsynth.cli.predicting import Output, predict_file
from stepsynth.errors import ConfigError
from stepsynth.evaluation.coverage import abstains, check_threshold, coverage_at, coverage_curve
from stepsynth.evaluation.statistics import share_interval, wilson
from stepsynth.report import render_report
from stepsynth.report.abstaining import find_coverage
from stepsynth.types import Graded, Prediction

ONE = {"name": "t", "instruction": "Decide.", "labels": {"a": "first", "b": "second"}}


def one(share: float) -> Prediction:
    return Prediction("0", "a", {"a": share, "b": round(1 - share, 6)})


@pytest.mark.parametrize(
    ("prediction", "confidence"),
    [
        (one(0.75), 0.75),
        (Prediction("0", "warm|windy", {"warm": 0.9, "wet": 0.4, "windy": 0.6}), 0.6),
        (Prediction("0", "", {"warm": 0.3, "wet": 0.2, "windy": 0.1}), 0.7),
        (Prediction("0", "sun", {"sun": 0.5}, start=4), 0.5),
    ],
    ids=["one label", "the least certain of several", "none of several", "a span"],
)
def test_a_prediction_counts_from_its_confidence_on(prediction: Prediction, confidence: float) -> None:
    assert not abstains(prediction, confidence)
    assert abstains(prediction, confidence + 1e-6)
    assert not abstains(prediction, None)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), True, "0.8"])
def test_a_threshold_is_a_probability(threshold: Any) -> None:
    with pytest.raises(ConfigError, match=r"threshold is .*, not a probability\. Give a number from 0 to 1"):
        check_threshold(threshold)
    for right in (None, 0, 1, 0.5):
        check_threshold(right)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(
        task: dict[str, Any], rows: list[dict[str, Any]], answers: list[Prediction], out: str, threshold: float | None
    ) -> Path:
        student = SimpleNamespace(predict=lambda examples: answers)
        stand_in(monkeypatch, run_config(task, tmp_path / "unused"), student)
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        output = Output(tmp_path / out)
        predict_file(tmp_path, tmp_path / "in.jsonl", columns={}, output=output, round_number=None, threshold=threshold)
        return tmp_path / out

    return run


def test_an_abstained_row_has_no_label_and_keeps_its_probabilities(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows, answers = [{"text": "x"}, {"text": "y"}], [one(0.75), one(0.5)]
    table = list(csv.DictReader(io.StringIO(write(ONE, rows, answers, "o.csv", 0.6).read_text())))
    assert table == [
        {"text": "x", "label": "a", "abstained": "False", "p(a)": "0.750000", "p(b)": "0.250000"},
        {"text": "y", "label": "", "abstained": "True", "p(a)": "0.500000", "p(b)": "0.500000"},
    ]
    assert "Abstained from 1 of 2 (50.0 %): below 0.6.\n" in capsys.readouterr().err
    lines = [json.loads(line) for line in write(ONE, rows, answers, "o.jsonl", 0.6).read_text().splitlines()]
    assert [(line["label"], line["abstained"]) for line in lines] == [("a", False), (None, True)]
    assert "abstained" not in write(ONE, rows, answers, "o.csv", None).read_text()


def test_a_parquet_file_has_nulls_and_booleans(write: Any) -> None:
    from pyarrow.parquet import read_table

    table = read_table(write(ONE, [{"text": "x"}, {"text": "y"}], [one(0.75), one(0.5)], "o.parquet", 0.6))
    assert (table["label"].to_pylist(), table["abstained"].to_pylist()) == (["a", None], [False, True])
    assert str(table.schema.field("abstained").type) == "bool"


def test_no_label_is_an_answer_and_not_an_abstention(write: Any) -> None:
    sure, unsure = ({"warm": p, "wet": 0.0, "windy": 0.0} for p in (0.1, 0.45))
    answers = [Prediction("0", "", sure), Prediction("1", "", unsure)]
    lines = [
        json.loads(line) for line in write(TAGS, [{"text": "x"}, {"text": "y"}], answers, "o.jsonl", 0.8).read_text().splitlines()
    ]
    assert [(line["labels"], line["abstained"]) for line in lines] == [([], False), (None, True)]


def test_a_question_has_no_answer_and_no_place(write: Any) -> None:
    rows = [{"context": "the sun", "question": "What?"}]
    (line,) = write(QA, rows, [Prediction("0", "sun", {"sun": 0.5}, start=4)], "o.jsonl", 0.8).read_text().splitlines()
    assert json.loads(line) == {**rows[0], "answer": None, "answer_start": None, "abstained": True, "probability": 0.5}


def test_python_returns_none_where_it_abstains(tmp_path: Path) -> None:
    student = TrainedStudent(run_config(ONE, tmp_path / "unused"), tmp_path)
    student.__dict__["_model"] = SimpleNamespace(predict=lambda examples: [one(0.75), one(0.5)])
    assert student.predict(["x", "y"]) == ["a", "a"]
    assert student.predict(["x", "y"], threshold=0.6) == ["a", None]
    with pytest.raises(ConfigError, match="threshold is 80"):
        student.predict(["x"], threshold=80)


def graded(*rows: tuple[float, bool]) -> list[Graded]:
    return [Graded(one(share), "a", float(right)) for share, right in rows]


def test_coverage_and_accuracy_are_those_of_a_count_by_hand() -> None:
    rows = graded((0.9, True), (0.9, False), (0.8, True), (0.6, False))
    assert coverage_at(rows, None, 0.8) == {
        "threshold": 0.8,
        "rows": 3,
        "coverage": 0.75,
        "accuracy": 2 / 3,
        "ci95": list(wilson(2, 3)),
    }
    assert coverage_at(rows, None, 0.95) == {"threshold": 0.95, "rows": 0, "coverage": 0.0, "accuracy": None, "ci95": None}
    # Rows of the same confidence are answered together.
    assert coverage_curve(rows) == [(0.5, 0.5), (0.75, 2 / 3), (1.0, 0.5)]
    shared = coverage_at(rows, (0, 0, 1, 1), 0.8)
    assert shared["ci95"] == list(share_interval([True, False, True], (0, 0, 1)))
    assert coverage_at(rows, (0, 1, 1, 0), 0.85)["ci95"] == list(wilson(1, 2)), "no two answered rows share a context"


@pytest.mark.parametrize("family", ["classification", "multi_label", "pair", "extractive_qa"])
def test_the_page_and_the_results_count_the_select_rows(tmp_path: Path, family: str) -> None:
    labels = ("warm", "wet", "windy") if family == "multi_label" else ("yes", "no")
    journal, results, config = build(tmp_path / "journal.db", Story(family=family, labels=labels, select_n=40, select=(30, 35)))
    with closing(journal):
        rows = journal.graded(1, "select")
        found = find_coverage(journal, config, 1)
        if not rows:
            assert found is None
            return
        assert found is not None
        (method,) = results["methods"].values()
        method["coverage"] = found
        page = Page(render_report(journal, results, config))
    assert (found["on"], found["n"], found["points"][0]["rows"]) == ("select", len(rows), len(rows))
    assert page.problems == []
    assert "If the student may abstain" in page.text
    assert f"{len(rows)} rows are few" in " ".join(page.text.split())


def test_there_is_no_curve_where_nothing_judges_the_student(tmp_path: Path) -> None:
    for method in ("teacher", "gold", "s3+gold"):
        journal, _, config = build(tmp_path / f"{method}.db", Story(method=method))
        with closing(journal):
            best = max(journal.rounds())
            assert find_coverage(journal, config, best) is None, method
            assert find_coverage(journal, config, None) is None


def test_the_sealed_test_has_no_part_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _, config = build(tmp_path / "journal.db", Story())
    asked: list[str] = []
    with closing(journal):
        before = journal.graded

        def noted(number: int, split: str) -> list[Graded]:
            asked.append(split)
            return before(number, split)

        monkeypatch.setattr(journal, "graded", noted)
        find_coverage(journal, config, 1)
    assert asked == ["select"]
