"""Gap figures in real small runs: computed when a run ends, kept in its journal, shown on its page, in its results and card."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from family_worlds import build_family_world, lend_student
from stepsynth.execution import execute
from stepsynth.journal import Journal
from stepsynth.report.derived import write_exports
from stepsynth.run import RunDirectory
from stepsynth.training.gap import find_gap
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
    from stepsynth.exporting.cards import dataset_card
    from stepsynth.exporting.facts import gather_facts

    gap = method_of(loop)["gap"]
    assert (gap["rows"], gap["reason"]) == (60, "")
    assert [entry["round"] for entry in gap["rounds"]] == [0, 1]
    first = gap["rounds"][0]["all"]
    assert first["n"] >= 20
    assert 0 <= first["embedding_auc_ci95"][0] <= first["embedding_auc"] <= first["embedding_auc_ci95"][1] <= 1
    assert gap["rounds"][0]["new"] is None
    assert gap["floor"]["embedding_auc"]["low"] <= 0.5 <= gap["floor"]["embedding_auc"]["high"] + 0.2
    page = (loop / "report.html").read_text(encoding="utf-8")
    assert "Beside your labelled rows" in page
    assert page.count('aria-label="Figures of the gap between written and labelled rows, per round"') == 2
    directory = RunDirectory.read(loop)
    with closing(Journal(directory.journal_path)) as journal:
        facts = gather_facts(journal, directory)
    del dataset_card
    from stepsynth.exporting.sections import gap as gap_section

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
