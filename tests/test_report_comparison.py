"""The page of a comparison: it says all that the numbers say, in words that fit them, and nothing in it can act."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from report_page import CORPUS, Page, flat, shown
from report_story import comparison
from stepsynth.cli.comparing import compare_methods, print_comparison
from stepsynth.report import render_comparison
from world import build_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNTS = ("rows", "accepted_rows", "requests", "tokens", "test_rows", "rows_now", "round", "seed", "seeds")


@pytest.fixture(scope="module")
def plain() -> str:
    """The page of the comparison as it is."""
    return render_comparison(comparison())


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Leave out the drawings, which take most of the time."""
    with (
        patch("stepsynth.report.comparison.forest_figure", return_value="<svg></svg>"),
        patch("stepsynth.report.comparison.curve_figure", return_value="<svg></svg>"),
    ):
        yield


def words(html: str) -> str:
    """The page's text with single spaces and plain signs."""
    return flat(" ".join(Page(html).text.split())).replace("\u2212", "-")


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield every number with the keys that lead to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def written(path: tuple[str, ...], value: float) -> str:
    """How a page writes a number."""
    if path[-1] in COUNTS:
        return f"{value:,}"
    if path[-1] == "usd":
        return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.4f}"
    if path[0] == "minutes" or path[-1] in ("seconds", "minutes"):
        return f"{value:,.1f}"
    if "details" in path or path[-1] in ("p", "p_holm", "mcnemar_p"):
        return f"{value:.3f}"
    signed = "difference" in path or path[-1].startswith("gain")
    return f"{100 * value:{'+' if signed else ''}.1f}"


def test_every_number_of_the_results_is_on_the_page(plain: str) -> None:
    tables = " ".join(
        cell for table in Page(re.sub("<svg.*?</svg>", "", plain, flags=re.DOTALL)).tables for line in table for cell in line
    )
    prose = words(re.sub("<svg.*?</svg>|<pre>.*?</pre>", "", plain, flags=re.DOTALL))
    there = set(re.findall(r"[+-]?\d[\d,]*(?:\.\d+)?", f"{tables} {prose}".replace("\u2212", "-").replace("-", " -")))
    there |= {number.lstrip("-") for number in there}
    expected = [(path, written(path, value)) for path, value in numbers(comparison())]
    assert len(expected) > 150
    assert [(path, number) for path, number in expected if number not in there] == []


def test_the_table_holds_each_method_in_its_line(plain: str) -> None:
    lines = {line[0]: [cell.replace("\u2212", "-") for cell in line] for line in Page(plain).table("p (Holm)")}
    assert list(lines) == ["s3", "zerogen", "s3:method.rationales=0", "teacher"]
    assert lines["zerogen"][1:] == [
        *("1,120-1,121", "3,120-3,121", "4,120-4,121", "$1.82", "40.7"),
        *("73.6 70.5-76.3", "-7.6 -9.8 to -5.5", "0.025"),
    ]
    assert lines["s3"][-2:] == ["reference", ""]


def test_the_headline_says_what_beats_what(plain: str) -> None:
    text = words(plain)
    assert "s3 scores 81.2 % accuracy (78.1-83.9) over 2 seeds, on 1,789 sealed test rows." in text
    assert "It beats zerogen by 7.6 points: established." in text
    assert "No difference from it is established for s3:method.rationales=0 (0.7 points lower)." in text
    assert "The teacher itself scores 85.5 %." in text
    assert "One seed compares" not in text


@pytest.mark.usefixtures("no_figures")
def test_a_method_that_is_ahead_is_said_to_be(plain: str) -> None:
    results = comparison()
    results["systems"][1]["difference"]["value"] = 0.031
    assert "It is beaten by zerogen by 3.1 points: established." in words(render_comparison(results))
    assert "It is beaten" not in words(plain)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("p", "established"), [(0.0499, True), (0.05, False)])
def test_established_is_below_five_percent_after_correction(p: float, established: bool) -> None:
    results = comparison()
    results["systems"][1]["difference"].update(p=0.001, p_holm=p)
    assert ("It beats zerogen" in words(render_comparison(results))) == established


@pytest.mark.usefixtures("no_figures")
def test_one_seed_is_said_to_be_one_student() -> None:
    text = words(render_comparison(comparison(1)))
    assert "with one seed, on 1,789 sealed test rows." in text
    assert "One seed compares students, not methods." in text
    assert "With a single seed it covers the test rows only" in text
    assert "95 of 100 such intervals" not in text


@pytest.mark.usefixtures("no_figures")
def test_warnings_stand_in_their_box() -> None:
    html = render_comparison(comparison(warnings=["first & <second>", "third"]))
    (box,) = re.findall(r"<aside.*?</aside>", html, re.DOTALL)
    assert '<li dir="auto">first &amp; &lt;second&gt;</li>' in box
    assert '<li dir="auto">third</li>' in box
    assert "<aside" not in render_comparison(comparison(warnings=[]))


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("value", "p", "said"),
    [
        (0.0424, 0.03, "Not without loss: the student of s3 scores 81.2 %, the teacher 85.5 %. Its deficit of 4.2 points"),
        (-0.0424, 0.03, "Yes: the student of s3 scores 81.2 %, the teacher 85.5 %. Its lead of 4.2 points is established."),
        (0.0424, 0.2, "The difference of -4.2 points is not established; the interval runs from -6.3 to -2.0 points"),
    ],
)
def test_whether_the_student_replaces_the_teacher(value: float, p: float, said: str) -> None:
    results = comparison()
    results["systems"][-1]["difference"].update(value=value, p_holm=p)
    text = words(render_comparison(results))
    assert said in text
    assert "1,000 predictions take the student 7.8 s on this machine, the teacher 345.6 s: 44.4 times as long." in text
    assert "1,000 answers of the teacher cost $12.34" in text


@pytest.mark.usefixtures("no_figures")
def test_what_is_unknown_is_never_zero() -> None:
    results = comparison()
    results["systems"][-1].update(usd=[None, 1.0], per_1000_predictions={"seconds": None, "usd": None})
    html = render_comparison(results)
    assert Page(html).table("p (Holm)")[-1][4] == "unknown"
    assert Page(html).table("Seconds")[-1][2:] == ["not measured", "unknown"]
    assert "was not measured" in html
    assert "answers cost is unknown" in html


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("kept", [["zerogen"], ["teacher"], ["s3"], ["s3", "teacher"], ["zerogen", "teacher"]])
def test_any_choice_of_methods_has_a_page(kept: list[str]) -> None:
    results = comparison()
    results["systems"] = [entry for entry in results["systems"] if entry["name"] in kept]
    if "s3" not in kept:
        results.update(reference=None, curve=[], forecast=None)
        for entry in results["systems"]:
            entry["difference"] = None
    page = Page(render_comparison(results))
    assert page.problems == []
    assert ("nothing is established" in page.text) == ("s3" not in kept)


def test_curves_of_one_round_and_of_many_seeds_are_drawn() -> None:
    one = comparison(forecast=None)
    one["curve"] = [point for point in one["curve"] if point["round"] == 0]
    html = render_comparison(one)
    assert html.count("<svg") == 4
    assert "No forecast: there is only one number of rows" in html
    many = re.findall("<svg.*?</svg>", render_comparison(comparison(7)), re.DOTALL)[-1]
    assert "one line per seed" in many


def test_figures_are_text_and_follow_the_page(plain: str) -> None:
    """Wide and narrow, no fixed colours, no ids in common, established differences filled and others not."""
    drawings = re.findall(r"<svg.*?</svg>", plain, re.DOTALL)
    assert len(drawings) == 6
    ids = [name for drawing in drawings for name in re.findall(r'\sid="([^"]+)"', drawing)]
    assert len(ids) == len(set(ids))
    assert all(re.findall("#[0-9a-f]{6}|http", drawing) == [] for drawing in drawings)
    scores, _, differences, narrow = drawings[:4]
    assert "81.2 [78.1, 83.9]" in scores
    assert "-7.6 [-9.8, -5.5]" in differences
    for name in ("zerogen", "s3:method.rationales=0", "teacher"):
        assert name in differences
        assert name in narrow
    assert differences.count("fill: var(--paper)") == 2, "two of three are not established"


def test_the_page_loads_and_runs_nothing(plain: str) -> None:
    page = Page(plain)
    assert page.problems == []
    assert page.policy.startswith("default-src 'none'")
    assert "script-src" not in page.policy
    assert "<script" not in plain


@pytest.mark.parametrize("payload", CORPUS)
def test_hostile_text_is_only_text(payload: str) -> None:
    """No element, handler or address comes from a task, a teacher, a student, a method, a warning or a note."""
    results = copy.deepcopy(comparison(warnings=[f"warned {payload}"]))
    results["task"] += payload
    results["student"] += payload
    results["teacher"] = {key: f"{value}{payload}" for key, value in results["teacher"].items()}
    results["forecast"]["note"] = payload
    for entry in results["systems"]:
        entry["name"] = results["reference"] if entry["name"] == "s3" else f"{entry['name']} {payload}"
    with patch("stepsynth.report.comparison.curve_figure", return_value="<svg></svg>"):
        html = render_comparison(results)
    html.encode("utf-8")
    page = Page(html)
    assert page.problems == []
    assert shown(f"warned {payload}") in page.text
    assert shown(f"zerogen {payload}") in page.text


def test_same_results_same_characters(plain: str) -> None:
    assert render_comparison(comparison()) == plain


def test_a_comparison_writes_its_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cells are left out: only what is done with their results is looked at."""
    config, folder = build_world(tmp_path / "world").config(), tmp_path / "runs"
    with (
        patch("stepsynth.execution.comparisons.run_cells", return_value=[]),
        patch("stepsynth.execution.comparisons.summarise", return_value=comparison()),
    ):
        results = compare_methods(config, "s3,zerogen", seeds=1, match="rows", folder=folder, quiet=True)
    assert (folder / "comparison.html").read_text(encoding="utf-8") == render_comparison(results)
    print_comparison(results, folder)
    assert str(folder / "comparison.html") in capsys.readouterr().out
