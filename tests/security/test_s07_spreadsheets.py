"""S7: a spreadsheet that opens what stepsynth writes as CSV finds texts in it, no formulas."""

from __future__ import annotations

import ast
import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_story import comparison
from stepsynth.cli.prediction_files import Filled, Layout, Survey, Table, plain_table
from stepsynth.comparison.markdown import comparison_markdown
from stepsynth.sweeps.tables import sweep_csv
from sweep_world import invented_results

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")
FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    '=HYPERLINK("https://evil.example")',
    "==1",
    "-",
    "=",
)
SOURCE = Path(__file__).parents[2] / "src"


def cells(rows: list[dict[str, Any]], labels: list[str]) -> list[list[str]]:
    texts = [name for name in rows[0] if name in ("text", "context", "question")]
    table = Table(labels, Layout(Survey(), texts, {}, []), exact=False)
    content = table.text([Filled({name: row.pop(name) for name in texts}, row) for row in map(dict, rows)])
    return list(csv.reader(io.StringIO(content, newline="")))


def runs(cell: str) -> bool:
    """Whether a spreadsheet may run a cell; a number with its sign is no formula."""
    return cell.startswith(BEGINNINGS) and re.fullmatch(r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?", cell) is None


@pytest.mark.parametrize("text", FORMULAS)
def test_s07_texts_labels_and_answers_are_texts(text: str) -> None:
    found = cells([{"text": text, "label": text, "probabilities": {text: 0.5}}], [text])
    found += cells([{"context": text, "question": text, "answer": text, "answer_start": -1, "probability": 0.5}], [])
    found += cells([{"text": text, "labels": [text, text], "probabilities": {text: 0.5}}], [text])
    wrong = [cell for row in found for cell in row if runs(cell)]
    assert wrong == []
    assert f"'{text}" in found[1]


@given(st.text(st.sampled_from("=+-@\t\r\n\"',a1("), max_size=8), st.text(max_size=20))
def test_s07_no_cell_begins_like_a_formula_whatever_is_in_it(text: str, label: str) -> None:
    found = cells([{"text": text, "label": label, "probabilities": {label: 0.5}}], [label])
    assert not [cell for row in found for cell in row if runs(cell)]


@given(st.text(st.characters(blacklist_characters="\r"), max_size=30).filter(lambda text: not text.startswith(BEGINNINGS)))
def test_s07_other_texts_are_written_as_they_are(text: str) -> None:
    assert cells([{"text": text, "label": "a", "probabilities": {"a": 0.5}}], ["a"])[1][0] == text


def test_s07_a_line_end_inside_a_text_begins_no_row() -> None:
    """Whatever a spreadsheet takes for the end of a line, it stands between quotes."""
    for end in ("\r", "\n", "\r\n"):
        found = cells([{"text": f"harmless{end}=1+1", "label": "a", "probabilities": {"a": 0.5}}], ["a"])
        assert len(found) == 2
        assert found[1][0] == f"harmless{end}=1+1"


@pytest.mark.parametrize("text", FORMULAS)
def test_s07_columns_that_are_kept_are_texts_with_their_names(text: str) -> None:
    table = Table([], Layout(Survey(), [], {}, []), exact=False)
    content = table.text([Filled({text: text}, {"label": "a"})])
    assert not [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row if runs(cell)]


@pytest.mark.parametrize("text", FORMULAS)
def test_s07_a_list_of_labels_to_look_at_has_no_formula(text: str) -> None:
    content, changed = plain_table([{"text": text, "label": text}])
    assert not [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row if runs(cell)]
    assert changed == 2


@pytest.mark.parametrize("text", FORMULAS)
def test_s07_the_cells_of_a_sweep_have_no_formula(text: str) -> None:
    results = invented_results()
    for entry in results["comparisons"]:
        entry["data_set"] = entry["setting"] = text
        for cell in entry["cells"]:
            cell["method"] = cell["folder"] = text
    content = sweep_csv(results)
    assert not [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row if runs(cell)]
    assert "0.7" in content


def test_s07_numbers_stay_numbers() -> None:
    """A start of -1 (no place in the passage) is this program's own, and a number."""
    (_, row) = cells([{"context": "c", "question": "q", "answer": "a", "answer_start": -1, "probability": 0.25}], [])
    assert row[-2:] == ["-1", "0.250000"]


def test_s07_csv_is_written_in_one_place_only() -> None:
    """Whoever adds another one adds its cells to the tests above; exports of data sets (text.py) keep texts as they are."""
    writers = {
        path.name
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) in ("csv.writer", "csv.DictWriter", "DictWriter", "writer"))
        or (isinstance(node, ast.Attribute) and node.attr == "to_csv")
    }
    # The table of rounds for MLflow has numbers and names that stepsynth gives.
    assert writers == {"prediction_files.py", "tables.py", "text.py", "mlflow.py"}


def test_s07_a_name_cannot_add_a_column_to_the_table_of_a_comparison() -> None:
    results = comparison()
    results["systems"][1]["name"] = "s3:task.name=a|b"
    lines = [line for line in comparison_markdown(results).splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") in (10, len(results["seeds"]) + 2) for line in lines)
