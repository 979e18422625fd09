"""Seeds that are added after a look at the results: the looks share the 5 %, and one look is as it was without them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report_page import Page, flat
from report_story import comparison
from simulated_students import claims_over_looks
from stepsynth.comparison import check_max_seeds, comparison_markdown, look, read_looks
from stepsynth.comparison.looks import looks_sentence
from stepsynth.errors import ConfigError
from stepsynth.report import render_comparison


def results(seeds: int, p_value: float = 0.02) -> dict[str, Any]:
    return {"seeds": list(range(seeds)), "systems": [{"name": "gold", "difference": None}, {"difference": {"p_holm": p_value}}]}


def looked(folder: Path, *counts: int, max_seeds: int | None = None, p_value: float = 0.02) -> dict[str, Any]:
    """Look once per number of seeds, as compare does."""
    found: dict[str, Any] = {}
    for count in counts:
        found = look(results(count, p_value), read_looks(folder), max_seeds)
        (folder / "results.json").write_text(json.dumps(found))
    return found


def p_of(found: dict[str, Any]) -> float:
    return float(found["systems"][1]["difference"]["p_holm"])


def levels(found: dict[str, Any]) -> list[float]:
    return [entry["level"] for entry in found["looks"]]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_one_look_changes_no_number(seeds: int, tmp_path: Path) -> None:
    found = looked(tmp_path, seeds)
    assert found == {**results(seeds), "looks": [{"seeds": list(range(seeds)), "level": 0.05}], "max_seeds": seeds}
    assert "looked at once" in looks_sentence(found)
    assert "costs nothing" in looks_sentence(found)


def test_the_same_seeds_again_are_the_same_look(tmp_path: Path) -> None:
    assert looked(tmp_path, 3, 3, 3) == looked(tmp_path, 3)
    announced = tmp_path / "announced"
    announced.mkdir()
    assert looked(announced, 3, 5, max_seeds=5) == looked(announced, 5, 5, max_seeds=5)
    assert p_of(looked(announced, 3)) == pytest.approx(0.02 * 5 / 3, abs=1e-6)


def test_planned_looks_share_the_level_by_their_seeds(tmp_path: Path) -> None:
    found = looked(tmp_path, 3, 5, 10, max_seeds=10)
    assert levels(found) == pytest.approx([0.015, 0.01, 0.025])
    assert sum(levels(found)) == pytest.approx(0.05)
    assert p_of(found) == pytest.approx(0.04)
    assert "looked at 3 times, with 3, 5 and 10 of 10 planned seeds" in looks_sentence(found)
    assert "at 2.5 %" in looks_sentence(found)


def test_seeds_that_were_not_planned_establish_nothing(tmp_path: Path) -> None:
    """The first look had the whole 5 %: whatever is claimed later comes on top."""
    found = looked(tmp_path, 3, 5, p_value=1e-6)
    assert levels(found) == [0.05, 0.0]
    assert 0.05 < p_of(found) < 0.0501
    assert "nothing more can be established" in looks_sentence(found)


def test_a_plan_is_made_before_the_first_look_only(tmp_path: Path) -> None:
    looked(tmp_path, 3)
    notes: list[str] = []
    found = look(results(5), read_looks(tmp_path), 10, notes.append)
    assert (found["max_seeds"], levels(found)) == (3, [0.05, 0.0])
    assert len(notes) == 1
    assert "too late" in notes[0]


@pytest.mark.parametrize("known", [None, "", "{", "[]", '{"seeds": 3}', '{"seeds": [0], "looks": 3}', "null"])
def test_what_cannot_be_read_is_no_look(known: str | None, tmp_path: Path) -> None:
    if known is not None:
        (tmp_path / "results.json").write_text(known)
    assert read_looks(tmp_path) == {}


def test_results_of_earlier_versions_are_one_look(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results(3)))
    assert levels(looked(tmp_path, 5)) == [0.05, 0.0]
    assert looks_sentence(results(3)) == ""


def test_a_plan_below_the_seeds_is_refused() -> None:
    check_max_seeds(None, 5)
    check_max_seeds(5, 5)
    with pytest.raises(ConfigError, match="max_seeds is 3, less than the 5 seeds"):
        check_max_seeds(3, 5)


def test_every_difference_is_corrected_and_nothing_else(tmp_path: Path) -> None:
    before = comparison(seeds=3)
    kept = copy.deepcopy(before)
    after = look(before, {}, 6)
    assert before == kept, "the results were changed in place"
    for old, new in zip(before["systems"], after["systems"], strict=True):
        for key in ("difference", "against_student"):
            if old.get(key):
                assert new[key] == {**old[key], "p_holm": min(1.0, round(2 * old[key]["p_holm"], 6))}
        assert {k: v for k, v in new.items() if k not in ("difference", "against_student")} == {
            k: v for k, v in old.items() if k not in ("difference", "against_student")
        }


def test_page_and_markdown_say_how_often_the_results_were_looked_at(tmp_path: Path) -> None:
    found = look(comparison(seeds=3), {}, 6)
    sentence = looks_sentence(found)
    assert sentence in comparison_markdown(found)
    html = render_comparison(found)
    assert sentence in flat(" ".join(Page(html).text.split()))
    assert "--max-seeds 6" in html
    assert "looked at" not in comparison_markdown(comparison(seeds=3)) + render_comparison(comparison(seeds=3))


@pytest.mark.parametrize("seed_sd", [0.8])
def test_adding_seeds_until_established_is_false_in_five_percent_at_most(seed_sd: float) -> None:
    """Where seeds differ much, the tests have no slack. 300 runs: an error of 1.3 points; test_statistics_slow.py has more."""
    found = claims_over_looks(np.random.default_rng(0), 300, (2, 3, 4, 5, 6), seed_sd, rows=80)
    assert found["uncorrected"] > 0.075, found
    assert found["planned"] <= 0.05 + 0.02, found
    assert found["unplanned"] <= 0.05 + 0.02, found
