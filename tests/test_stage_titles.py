"""What a run is doing is told in words, on the terminal, in status and on the page."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import pytest

from command import stepsynth
from stepsynth.generation.second_reading import GOLD_READING
from stepsynth.run.stage_titles import STUDENTS, all_titles, stage_title
from stepsynth.training.crossfit import RECIPES
from stepsynth.training.unlabelled import _STAGE as TEXTS
from stepsynth.types import StageKind
from world import build_world

if TYPE_CHECKING:
    from pathlib import Path


def test_every_stage_and_student_of_this_package_has_a_title() -> None:
    assert set(STUDENTS) == set(RECIPES)
    assert "stages" in RECIPES, "the recipe of the rounds' students"
    for kind in set(StageKind) - {StageKind.FOLD}:
        assert stage_title(f"round-0/{kind}", kind) != f"round 0, {kind}", kind
    for stage, does in ((GOLD_READING, StageKind.READING), (TEXTS, StageKind.UNLABELLED), ("test", "test"), ("choice", "choice")):
        assert stage_title(stage, does) not in (stage, does)


@pytest.mark.parametrize("name", ["answers", "fold-1", "extrapolated", "seed-2"])
def test_a_stage_of_a_users_own_method_keeps_its_name(name: str) -> None:
    assert stage_title(f"round-1/{name}", name) == f"round 1, {name}"


def test_folds_of_an_earlier_version_have_the_title_of_their_round() -> None:
    stages: list[tuple[str, int, str, dict[str, Any], float]] = [
        ("round-1/fold-0", 1, "fold", {"rows": 9, "fold": 0}, 1.0),
        ("round-1/crossfit", 1, "crossfit", {"recipe": "stages", "folds": 2}, 1.0),
        ("round-2/fold-1", 2, "fold", {"rows": 9, "fold": 1}, 1.0),
        ("round-2/crossfit", 2, "crossfit", {"recipe": "labels", "folds": 2}, 1.0),
        ("round-3/fold-0", 3, "fold", {"rows": 9, "fold": 0}, 1.0),
    ]
    assert list(all_titles(stages).values()) == [
        "round 1, fold 1 of 2",
        "round 1, cross-validated",
        "labels alone, fold 2 of 2",
        "labels alone, cross-validated",
        "fold 1",
    ]


def test_a_run_tells_in_words_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path)
    world.write_config({"method": {"name": "crossfit", "seed_rows": 12, "rounds": 1, "folds": 2}})
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    told = dict.fromkeys(line.partition(":")[0] for line in said.err.splitlines())
    assert [line for line in told if line.startswith("round-") or "/" in line] == []
    order = [
        "round 0, fold 1 of 2",
        "round 0, cross-validated",
        "round 1, fold 2 of 2",
        "labels alone, fold 1 of 2",
        "labels alone, cross-validated",
        "student of labels alone",
        "sealed test",
    ]
    assert [line for line in told if line in order] == order
    # A student of both kinds of rows is trained in two parts.
    assert "round 0, fold 1 of 2, part 2" in told
    assert "part" not in said.err.partition("labels alone, fold 1 of 2")[2].partition("cross-validated")[0]
    status = json.loads(stepsynth(capsys, "status", tmp_path / "run", "--json").out)
    titles = {stage["stage"]: stage["title"] for stage in status["stages"]}
    assert titles["round-0/fold-0"] == "round 0, fold 1 of 2"
    page = html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    printed = "".join(stepsynth(capsys, "status", tmp_path / "run").out.split())
    for title in titles.values():
        assert title in page
        # On a terminal of this width titles take several lines, beside other cells.
        assert title.split()[0] in printed


def test_a_student_that_is_only_copied_has_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a comparison `gold` has trained the student of labels alone; its end was told under the title of the one before."""
    world = build_world(tmp_path)
    world.write_config({"method": {"name": "crossfit", "seed_rows": 12, "rounds": 1, "folds": 2}})
    methods = ["--methods", "gold,crossfit", "--seeds", "1", "--out", tmp_path / "compared"]
    said = stepsynth(capsys, "compare", world.config_path, *methods)
    assert said.code == 0, said.err
    assert "student of labels alone: 0 / 1 students" in said.err
    (end,) = [line for line in said.err.splitlines() if line.startswith("student of labels alone: trained on")]
    assert "36 rows" in end
