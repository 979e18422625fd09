"""The notebooks run from the first cell to the last, and what is stored of them is what a reader of the site sees."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas
import pytest

from notebooks import NOTEBOOKS, ROOT, execute
from stepsynth.teachers.fake import gold_text
from tiny_model import build_tiny_model

LARGEST = 300_000


# Both teach the same calls: with one of them in every run of the tests, the other one may wait.
SLOW = {"comparing_methods"}


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in NOTEBOOKS]
)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """With the fake teacher, and a student of a few thousand weights."""
    words = [gold_text(label, number) for label in ("kalm", "rund", "spitz") for number in range(40)]
    words += pandas.read_csv(ROOT / "examples" / "shop" / "validation.csv")["text"].tolist()
    student = build_tiny_model(tmp_path / "student", words)
    models = f'teacher = ss.Teacher(backend="fake")\nstudent = ss.Student({str(student)!r}, head="probe", max_length=48)'
    done = execute(path, tmp_path, models)
    plots = [output for cell in done.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
    assert len(plots) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < LARGEST
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not [cell["id"] for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]
    assert sum("models" in cell["metadata"].get("tags", ()) for cell in code) == 1


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2
