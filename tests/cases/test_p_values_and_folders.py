"""No p-value is shown as 0, and wherever a student of a cross-fitted run is named, so is the folder of its weights."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from rich.console import Console

from report_story import NAMES, comparison, page_of, worth
from stepsynth.api.comparison import Comparison
from stepsynth.cli.comparing import print_comparison
from stepsynth.cli.worth import print_worth
from stepsynth.comparison import comparison_markdown
from stepsynth.evaluation import shown_p
from stepsynth.report import render_comparison


def text_of(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split()).replace("&lt;", "<")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "< 0.001"), (9.99e-4, "< 0.001"), (0.001, "0.001"), (0.0125, "0.013"), (1.0, "1.000"), (1, "1.000")],
)
def test_a_p_value_is_never_shown_as_0(value: float, shown: str) -> None:
    assert shown_p(value) == shown
    assert shown_p(float("nan")) == shown_p(None) == "n/a"


def test_no_page_table_or_notebook_shows_a_p_value_of_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = copy.deepcopy(comparison())
    for entry in results["systems"]:
        if entry["difference"]:
            entry["difference"].update(p=0.0, p_holm=0.0)
            for each in entry["difference"]["per_seed"]:
                each["mcnemar_p"] = 1e-12
    print_comparison(results, tmp_path)
    print_worth(worth(), Console(width=200))
    shown = [
        capsys.readouterr().out,
        comparison_markdown(results),
        Comparison(tmp_path, results)._repr_html_().replace("&lt;", "<"),
        text_of(render_comparison(results)),
        text_of(page_of(tmp_path / "journal.db", worth())),
    ]
    for text in shown:
        assert "< 0.001" in text
        assert not re.search(r"(?<![\d.])0\.000(?!\d)", text)


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_the_table_that_ends_a_run_names_the_folders_and_loses_no_cell(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_worth(worth(), Console(width=width))
    out = capsys.readouterr().out
    squeezed = re.sub(r"\s+", "", out)
    assert "…" not in out
    for said in ("models/round-3", "models/round-4", "models/round-5", "both*", "12,345", "1,000", "[98.1,100.0]", "<0.001"):
        assert said in squeezed
    assert max(map(len, out.splitlines())) <= width
    if width >= 80:
        assert re.search(r"^both \* .* \+12\.3 ", out, re.MULTILINE), "a table, one student under the other"
        assert "[-30.1, +38.8]" in out


def test_the_page_names_the_folders(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path / "journal.db", worth()))
    for called, number in zip(NAMES.values(), (3, 4, 5), strict=True):
        assert f"{called} models/round-{number} 12,345" in text
