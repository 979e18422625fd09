"""Gap figures in real small runs: computed when a run ends, kept in its journal, shown on its page, in its results and card."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import pytest

from family_worlds import build_family_world, lend_student
from stepsynth.config import TaskConfig
from stepsynth.execution import execute
from stepsynth.exporting.facts import gather_facts
from stepsynth.exporting.sections import gap as gap_section
from stepsynth.journal import Journal, Row
from stepsynth.report.derived import write_exports
from stepsynth.run import RunDirectory
from stepsynth.tasks import Classification
from stepsynth.training.gap import _agreement, _row_priority, _sampled, _written, find_gap
from stepsynth.types import Example
from world import World, build_world


def finished(world: World, *overrides: str) -> Path:
    run = world.folder / "runs" / "run"
    execute(world.config("cache=null", *overrides), run)
    return run


def method_of(run: Path) -> dict[str, Any]:
    (method,) = json.loads((run / "results.json").read_text(encoding="utf-8"))["methods"].values()
    return dict(method)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = build_world(tmp_path_factory.mktemp("gap"), validation=20)
    return finished(world, "method.rounds=1", "method.rows_per_mistake=2")


def test_every_round_has_figures_in_results_on_the_page_and_in_the_card(loop: Path) -> None:
    gap = method_of(loop)["gap"]
    assert (gap["rows"], gap["reason"]) == (60, "")
    assert [entry["round"] for entry in gap["rounds"]] == [0, 1]
    first = gap["rounds"][0]["all"]
    assert first["n"] >= 20
    assert 0 <= first["embedding_auc_ci95"][0] <= first["embedding_auc"] <= first["embedding_auc_ci95"][1] <= 1
    assert gap["rounds"][0]["new"] is None
    floor = gap["floor"]["embedding_auc"]
    assert 0 <= floor["low"] <= floor["mean"] <= floor["high"] <= 1
    page = (loop / "report.html").read_text(encoding="utf-8")
    assert "Beside your labelled rows" in page
    assert page.count('aria-label="Figures of the gap between written and labelled rows, per round"') == 2
    directory = RunDirectory.read(loop)
    with closing(Journal(directory.journal_path)) as journal:
        facts = gather_facts(journal, directory)
    assert "A classifier tells the written rows from" in gap_section(facts)


def test_a_report_is_made_again_without_the_base_model(loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the figures were computed again")

    monkeypatch.setattr("stepsynth.training.gap.FrozenEncoder", refused)
    before = {name: (loop / name).read_bytes() for name in ("results.json", "report.html")}
    directory = RunDirectory.read(loop)
    with closing(Journal(directory.journal_path)) as journal:
        write_exports(journal, directory)
    assert {name: (loop / name).read_bytes() for name in before} == before


def test_figures_are_the_same_when_computed_again(loop: Path) -> None:
    directory = RunDirectory.read(loop)
    with closing(Journal(directory.journal_path)) as journal:
        assert find_gap(journal, directory.config) == method_of(loop)["gap"]


def test_a_finished_run_stays_as_it_was(loop: Path) -> None:
    directory = RunDirectory.read(loop)
    before = (loop / "results.json").read_bytes()
    execute(directory.config.model_copy(), loop)
    assert (loop / "results.json").read_bytes() == before


def test_it_can_be_switched_off_and_that_makes_no_other_run(tmp_path: Path) -> None:
    world = build_world(tmp_path)
    on, off = world.config(), world.config("report.gap=false")
    assert "report" not in on.resolved()
    assert off.resolved()["report"] == {"gap": False}
    assert on.result_digest() == off.result_digest()
    run = finished(world, "method.rounds=0", "report.gap=false")
    assert "gap" not in method_of(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<code>report.gap</code> is off" in page
    # The other way round the run is the same, and as it has ended it stays so.
    execute(world.config("cache=null", "method.rounds=0"), run)
    assert "gap" not in method_of(run)


def test_a_run_of_an_earlier_version_has_no_figures_and_opens(tmp_path: Path) -> None:
    run = finished(build_world(tmp_path), "method.rounds=0")
    directory = RunDirectory.read(run)
    with closing(Journal(directory.journal_path)) as journal:
        journal._connection.execute("DELETE FROM meta WHERE key = 'gap'")
        results = write_exports(journal, directory)
    assert "gap" not in next(iter(results["methods"].values()))
    assert "it ended before there were any" in (run / "report.html").read_text(encoding="utf-8")


def test_without_the_base_model_there_is_a_reason_and_nothing_is_fetched(loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.training.gap.at_hand", lambda _: False)
    directory = RunDirectory.read(loop)
    with closing(Journal(directory.journal_path)) as journal:
        found = find_gap(journal, directory.config)
    assert found is not None
    assert "is not on this machine" in found["reason"]
    figures = found["rounds"][0]["all"]
    assert figures["embedding_auc"] is None
    assert figures["surface_auc"] is not None


def test_a_figure_that_fails_does_not_keep_a_run_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("stepsynth.training.gap.find_gap", failing)
    run = finished(build_world(tmp_path), "method.rounds=0")
    assert method_of(run)["gap"] == {"reason": "they could not be computed: no such thing", "rounds": []}
    assert "No figures: they could not be computed" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["zerogen", "goldgen", "gold", "s3+gold", "crossfit", "teacher"])
def test_every_method_works(tmp_path: Path, method: str) -> None:
    run = finished(build_world(tmp_path), f"method.name={method}", "method.rounds=1", "student.epochs=1")
    asks = method not in ("gold", "teacher")
    assert ("gap" in method_of(run)) == asks
    if asks:
        assert method_of(run)["gap"]["rounds"][0]["all"]["n"] >= 20


@pytest.mark.parametrize("family", ["classification", "multi_label", "pair", "extractive_qa"])
def test_every_family_works(tmp_path: Path, family: str) -> None:
    student = lend_student(tmp_path / "student")
    changes: dict[str, Any] = {"method__rounds": 0, "student__epochs": 1, "method__rationales": 2, "cache": None}
    world = build_family_world(tmp_path, family, student=student, **changes)
    execute(world.config(), world.folder / "runs" / "run")
    gap = method_of(world.folder / "runs" / "run")["gap"]
    figures = gap["rounds"][0]["all"]
    assert gap["reason"] == ""
    assert figures is None or (figures["agreement"] is None) == (family == "extractive_qa")


def written_row(number: int, round_number: int, label: str, source: str | None = None) -> Row:
    stage = f"round-{round_number}/extrapolate"
    return Row.read(stage, round_number, "extrapolate", number, "", label, source, f"text {number}", "", "", "[]")


def test_a_probe_judges_no_row_by_the_labelled_row_that_it_was_written_from() -> None:
    """Labels are drawn at random: a probe that had seen the source would know its label, others can only guess."""
    draw = Random(0)
    gold = [Example(f"harvest-{place}", f"text {place}", draw.choice(["kalm", "rund"])) for place in range(60)]
    written = [written_row(place, 1, row.label, row.id) for place, row in enumerate(gold)]
    vectors = np.random.default_rng(0).normal(size=(60, 200))
    family = Classification(TaskConfig(name="t", instruction="i", labels={"kalm": "a", "rund": "b"}))
    found = _agreement(family, gold, written, np.vstack([vectors, vectors]))
    assert found[:60] == found[60:]
    assert sum(map(bool, found)) < 85


def test_however_many_rows_were_written_few_are_kept_and_later_samples_contain_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [written_row(place, place % 2, "kalm" if place % 3 else "rund") for place in range(20_000)]
    monkeypatch.setattr("stepsynth.training.gap.each_training_row", lambda _: iter(rows))
    family = Classification(TaskConfig(name="t", instruction="i", labels={"kalm": "a", "rund": "b", "spitz": "c"}))
    gold = [Example(f"harvest-{place}", f"text {place}", ["kalm", "rund", "spitz"][place % 3]) for place in range(60)]
    kept = _written(cast("Journal", None), family, gold)
    assert {number: len(found) for number, found in kept.items()} == {0: 40, 1: 40}
    lowest = sorted((row for row in rows if row.round == 0 and row.label == "rund"), key=_row_priority)[:20]
    assert {row.position for row in lowest} == {row.position for row in kept[0] if row.label == "rund"}


def test_of_many_labelled_rows_a_sample_is_compared() -> None:
    family = Classification(TaskConfig(name="t", instruction="i", labels={"kalm": "a", "rund": "b"}))
    gold = [Example(f"harvest-{place}", f"text {place}", "kalm" if place % 4 else "rund") for place in range(4_000)]
    found = _sampled(gold, family)
    assert len(found) == 500
    assert sum(row.label == "rund" for row in found) == 125
    assert _sampled(gold, family) == found
