"""Comparisons: equal budgets, cells that resume, numbers that follow from the cells, errors before anything is spent."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from conditions import THREADS
from family_worlds import FamilyWorld, build_family_world, lend_student, rows_of
from stepsynth.cli.comparing import compare_methods
from stepsynth.comparison import (
    Cell,
    CellRound,
    choose_reference,
    comparison_markdown,
    parse_systems,
    plan_cells,
    read_cell,
    refuse_others,
    summarise,
)
from stepsynth.comparison.markdown import comparison_rows, steps_sentence
from stepsynth.config import parse_config
from stepsynth.errors import ConfigError, RunError, UserError
from stepsynth.journal import Journal
from stepsynth.report import render_comparison
from stepsynth.run import RunDirectory
from stepsynth.runtime import failpoints

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = "gold,zerogen,seed-only,goldgen,s3"
ROWS_MATCHED = ("zerogen", "seed-only", "goldgen", "s3")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base model for all worlds."""
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def world(student: Path, tmp_path_factory: pytest.TempPathFactory) -> FamilyWorld:
    """A world, only read."""
    folder = tmp_path_factory.mktemp("world")
    return build_family_world(folder, "classification", validation=24, test=30, student=student)


@pytest.fixture(scope="module")
def compared(world: FamilyWorld) -> tuple[Path, dict[str, Any], int]:
    """A finished comparison: its folder, its results, and how many fail points it passed."""
    folder = world.folder / "compared"
    failpoints.arm(-1)
    try:
        results = compare_methods(world.config(), METHODS, seeds=2, match="rows", folder=folder, quiet=True)
        return folder, results, len(failpoints.passed())
    finally:
        failpoints.arm(0)


def timeless(value: Any) -> Any:
    """Return results without what a clock measured."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key not in ("minutes", "seconds")}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def numbers(folder: Path) -> Any:
    return timeless(json.loads((folder / "results.json").read_text()))


# budgets -------------------------------------------------------------------------------------


def test_all_methods_have_the_same_rows(compared: tuple[Path, dict[str, Any], int]) -> None:
    entries = {entry["name"]: entry for entry in compared[1]["systems"]}
    assert list(entries) == ["s3", "gold", "zerogen", "seed-only", "goldgen"]
    wanted = entries["s3"]["accepted_rows"]
    assert min(wanted) > 12, "s3 extrapolated nothing"
    for name in ROWS_MATCHED:
        assert entries[name]["accepted_rows"] == wanted, name
    assert (entries["gold"]["rows"], entries["gold"]["requests"]) == ([24, 24], [0, 0])


@pytest.mark.parametrize(
    ("setting", "said"), [("seed_from=examples", "which is for pairs"), ("rows_per_answer=3", "the templates ask for one row")]
)
def test_what_a_method_s_settings_do_not_allow_is_said_before_another_is_run(
    setting: str, said: str, world: FamilyWorld, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        compare_methods(
            world.config(), f"gold,crossfit:method.{setting}", seeds=2, match="rows", folder=tmp_path / "c", quiet=True
        )
    assert not (tmp_path / "c").exists()


def test_later_seeds_have_seed_rows_of_the_same_source_as_the_first(student: Path, tmp_path: Path) -> None:
    """A comparison of an earlier version, which chose otherwise, is not mixed with cells of another kind."""
    world = build_family_world(tmp_path / "world", "pair", student=student, task__prompt_style="capable")
    config, folder = world.config("method.name=crossfit", "method.rounds=0", "method.folds=2"), tmp_path / "c"
    compare_methods(config, "crossfit", seeds=1, match="rows", folder=folder, quiet=True)
    file = folder / "crossfit-0" / "config.json"
    stored = json.loads(file.read_text())
    assert stored["config"]["method"].pop("seed_from") == "examples"
    file.write_text(json.dumps(stored))
    compare_methods(config, "crossfit", seeds=2, match="rows", folder=folder, quiet=True)
    later = json.loads((folder / "crossfit-1" / "config.json").read_text())
    assert "seed_from" not in later["config"]["method"], "from reasons, as that version did"


def test_each_method_has_its_own_seed_rows(world: FamilyWorld, tmp_path: Path) -> None:
    """Whatever the config's own method would take; and the second time nothing is refused."""
    config = world.config("method.name=s3", "method.rounds=0", "method.folds=2")
    for _ in range(2):
        results = compare_methods(config, "s3,crossfit", seeds=1, match="rows", folder=tmp_path / "c", quiet=True)
    stored = {name: json.loads((tmp_path / "c" / f"{name}-0" / "config.json").read_text()) for name in ("s3", "crossfit")}
    assert {name: found["config"]["method"].get("seed_from") for name, found in stored.items()} == {
        "s3": None,
        "crossfit": "gold",
    }
    kinds = {}
    for name in stored:
        with closing(Journal(tmp_path / "c" / f"{name}-0" / "journal.db")) as journal:
            kinds[name] = {kind for _, _, kind, *_ in journal.stages()} & {"rationales", "seed", "extrapolate"}
    assert kinds == {"s3": {"rationales", "seed"}, "crossfit": {"extrapolate"}}
    assert [entry["name"] for entry in results["systems"]] == ["s3", "crossfit"]


@pytest.mark.parametrize("unit", ["requests", "tokens"])
def test_all_methods_use_the_same_requests_or_tokens(world: FamilyWorld, unit: str) -> None:
    """Counted over the answers of the plan, and at most one answer more than S3 took."""
    folder = world.folder / unit
    results = compare_methods(world.config(), "zerogen,seed-only,s3", seeds=1, match=unit, folder=folder, quiet=True)
    entries = {entry["name"]: entry[unit][0] for entry in results["systems"]}
    for name in ("zerogen", "seed-only"):
        with closing(Journal(folder / f"{name}-0" / "journal.db")) as journal:
            spent = [journal.spent(stage) for stage, _, kind, *_ in journal.stages() if kind not in ("train", "test")]
            used = sum(getattr(each, unit) for each in spent)
            last = journal.rows()[-1]
            (answer,) = journal._connection.execute(
                "SELECT prompt_tokens + completion_tokens FROM answers WHERE key = ?", (last.key,)
            ).fetchone()
        assert entries["s3"] <= used < entries["s3"] + (1 if unit == "requests" else answer)
        assert entries[name] == used, "the table shows more than was used"


def test_dollars_of_a_teacher_without_a_price_are_one_clear_error(world: FamilyWorld, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(
        capsys, "compare", world.config_path, "--methods", "zerogen,s3", "--match", "usd", "-q", "--out", world.folder / "usd"
    )
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "match=usd needs a price" in outcome.err


def test_every_seed_is_tested_on_the_same_rows_and_draws_its_own_halves(world: FamilyWorld) -> None:
    config = world.config("data.test.sample=10")
    planned = list(plan_cells(config, parse_systems("zerogen,s3", config), 3))
    assert [(system.name, seed) for system, _, seed in planned] == [
        (name, seed) for seed in range(3) for name in ("s3", "zerogen")
    ]
    assert {cell.data.test.seed for _, cell, _ in planned if cell.data.test} == {0}
    assert [cell.seed for _, cell, _ in planned] == [0, 0, 1, 1, 2, 2]


# resuming ------------------------------------------------------------------------------------


def test_a_finished_comparison_asks_nothing_and_trains_nothing_again(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results, _ = compared
    names = ("results.json", "comparison.md")
    before = {name: (folder / name).read_bytes() for name in names}

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("something was asked or trained")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    monkeypatch.setattr("stepsynth.students.classifier.Classifier.fit", nobody)
    again = compare_methods(world.config(), METHODS, seeds=2, match="rows", folder=folder, quiet=True)
    assert again == results
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_comparison_that_was_killed_ends_with_the_same_numbers(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    folder, _, places = compared
    # A file of answers of its own, as the calm one had.
    command = [sys.executable, "-m", "stepsynth", "compare", str(world.config_path), "--methods", METHODS, "--seeds", "2", "-q"]
    environment = {**os.environ, "STEPSYNTH_FAILPOINT": str(round(0.6 * places)), "OMP_NUM_THREADS": str(THREADS)}
    killed = subprocess.run([*command, "--out", str(tmp_path / "again")], env=environment, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "again" / "results.json").exists()
    compare_methods(world.config(), METHODS, seeds=2, match="rows", folder=tmp_path / "again", quiet=True)
    assert numbers(tmp_path / "again") == numbers(folder)


def test_equal_rows_are_trained_on_once(world: FamilyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round of s3 and of s3+gold is the same student; so is seed-only's, when it has as many rows."""
    from stepsynth.students.classifier import Classifier

    fits: list[int] = []
    fit = Classifier.fit

    def counted(self: Classifier, train: Any, *arguments: Any, **named: Any) -> Any:
        fits.append(len(train))
        return fit(self, train, *arguments, **named)

    monkeypatch.setattr(Classifier, "fit", counted)
    results = compare_methods(world.config(), "s3+gold,s3,gold", seeds=1, match="rows", folder=tmp_path / "out", quiet=True)
    entries = {entry["name"]: entry for entry in results["systems"]}
    (rows,) = entries["s3"]["accepted_rows"]
    assert fits == [12, rows, rows + 24, 24] or fits == [12, rows, 24, rows + 24]
    assert len([path for path in (tmp_path / "out" / "students").iterdir() if not path.name.startswith(".")]) == len(fits)
    for number in (0, 1):
        weights = [
            tmp_path / "out" / f"{name}-0" / "models" / f"round-{number}" / "model.safetensors" for name in ("s3", "s3+gold")
        ]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("methods", "match", "override"),
    [
        (METHODS, "rows", "method.rounds=2"),
        (METHODS, "rows", "student.epochs=3"),
        ("gold,zerogen", "rows", "method.seed_rows=14"),
        # A system that is new comes before one that is there: nothing may be run for it.
        ("s3+gold,zerogen", "rows", "student.epochs=3"),
        ("s3,teacher,zerogen", "requests", "seed=0"),
    ],
)
def test_a_changed_config_is_refused_before_anything_is_spent(
    world: FamilyWorld,
    compared: tuple[Path, dict[str, Any], int],
    methods: str,
    match: str,
    override: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = compared[0]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts}

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("something was asked or trained")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    monkeypatch.setattr("stepsynth.students.classifier.Classifier.fit", nobody)
    with pytest.raises(RunError, match="made with another config"):
        compare_methods(world.config(override), methods, seeds=2, match=match, folder=folder, quiet=True)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts}
    assert {path for path in after if before.get(path) != after[path] and path.name != "lock"} == set()
    assert set(after) == set(before)


# what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("gold,zerogne", "unknown method 'zerogne' among the methods. Did you mean 'zerogen'?"),
        ("s3:method.raitonales=0", "'raitonales'.* Did you mean 'rationales'"),
        ("s3:metod.rationales=0", "unknown key 'metod.rationales'"),
        ("s3:method.rationales", "not of the form key=value"),
        ("s3:method.rationales=many", "method.rationales must be a whole number, not 'many'"),
        ("s3,s3", "twice"),
        (" , ", "no method is named"),
        ("s3:method.name=zerogen", "'method.name' cannot be changed"),
        ("s3:data.test.sample=5", "'data.test.sample' cannot be changed"),
        ("s3:seed=5", "'seed' cannot be changed"),
        ("s3:student.model=ghost", "'ghost'"),
        ("s3:method.rationales={", "YAML"),
    ],
)
def test_a_wrong_list_of_methods_is_one_line(
    world: FamilyWorld, methods: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", methods, "--out", tmp_path / "out")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
    assert re.search(message, outcome.err)
    assert not (tmp_path / "out").exists()


def test_a_wrong_match_and_no_test_set_are_one_line(student: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    world = build_family_world(tmp_path / "world", "classification", student=student)
    outcome = stepsynth(capsys, "compare", world.config_path, "--match", "row", "--out", tmp_path / "out")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "Did you mean 'rows'?" in outcome.err
    world.write_config({"student.model": str(student), "data.test": None})
    outcome = stepsynth(capsys, "compare", world.config_path, "--out", tmp_path / "out")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "a comparison needs data.test" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_last_seed_beyond_the_limit_is_refused_before_the_first(
    world: FamilyWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("compare", world.config_path, "--methods", "gold,s3", "--seeds", 2, "--out", tmp_path / "out")
    outcome = stepsynth(capsys, *arguments, "--set", "seed=2147483647")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
    assert "seed 2147483647 with 2 seeds ends at 2147483648" in outcome.err
    assert not (tmp_path / "out").exists()
    config = world.config().model_copy(update={"seed": 2147483647})
    assert len(list(plan_cells(config, parse_systems("gold,s3", config), 1))) == 2


@pytest.mark.parametrize("lost", [None, "config.json", "journal.db"])
def test_a_comparison_does_not_go_into_the_folder_of_a_run(
    compared: tuple[Path, dict[str, Any], int],
    world: FamilyWorld,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    lost: str | None,
) -> None:
    run = shutil.copytree(compared[0] / "gold-0", tmp_path / "run")
    if lost:
        (run / lost).unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", "gold,s3", "--out", run)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"stepsynth: {str(run)!r} is a run, not a comparison. Give another folder (out= / --out).\n"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["thesis.docx"], "is not empty and not a comparison. Give an empty or new folder (out= / --out)."),
        (["chapter/one.txt"], "is not empty and not a comparison. Give an empty or new folder (out= / --out)."),
        (["sweep.json", "compare-a/results.json"], "is a sweep, not a comparison. Give another folder (out= / --out)."),
        (["sweep.lock"], "is a sweep, not a comparison. Give another folder (out= / --out)."),
    ],
)
def test_a_comparison_does_not_go_into_a_folder_with_something_else(
    names: list[str], said: str, world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("x")
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", "gold", "--out", tmp_path / "x")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"stepsynth: {str(tmp_path / 'x')!r} {said}\n")
    assert sorted(str(path.relative_to(tmp_path / "x")) for path in (tmp_path / "x").rglob("*") if path.is_file()) == sorted(
        names
    )


@pytest.mark.parametrize("left", [[], ["gold-0/"], ["answers.db", "answers.db-wal"], ["gold-0/lock"], ["students/"]])
def test_a_comparison_goes_on_in_what_an_early_kill_leaves(left: list[str], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("")
    refuse_others(tmp_path)


def test_an_ablation_is_a_system_of_its_own(world: FamilyWorld, tmp_path: Path) -> None:
    results = compare_methods(
        world.config(),
        "s3:method.rationales=0,s3:method.rounds=0:method.seed_rows=9,s3",
        seeds=1,
        match="rows",
        folder=tmp_path / "out",
        quiet=True,
    )
    assert [entry["name"] for entry in results["systems"]] == [
        "s3",
        "s3:method.rationales=0",
        "s3:method.rounds=0:method.seed_rows=9",
    ]
    folders = [entry.name for entry in sorted((tmp_path / "out").iterdir()) if (entry / "config.json").is_file()]
    assert len(folders) == 3
    stored = [json.loads((tmp_path / "out" / name / "config.json").read_text())["config"]["method"] for name in folders]
    assert sorted((entry["rationales"], entry["rounds"], entry["seed_rows"]) for entry in stored) == [
        (0, 1, 12),
        (3, 0, 9),
        (3, 1, 12),
    ]
    assert not any("rationales" in row.stage for row in journal_rows(tmp_path / "out" / "s3-method.rationales=0-0"))


@pytest.mark.parametrize("keeps", [True, False], ids=["", "a folder of version 0.1.0"])
def test_what_an_ablation_sets_stays_its_own(keeps: bool, world: FamilyWorld, tmp_path: Path) -> None:
    """Keys that are settled by the first call: its own and plain cells may be added, and the same call goes on."""
    plain, changed = "s3", "s3:method.demonstrations=fixed"
    for methods in (changed, f"{changed},{plain}", f"{changed},{plain},gold"):
        compare_methods(world.config(), methods, seeds=1, match="rows", folder=tmp_path / "out", quiet=True)
        if not keeps:
            (tmp_path / "out" / "settled.json").unlink(missing_ok=True)
    stored = {
        name: RunDirectory.read(tmp_path / "out" / f"{name}-0").config.method.demonstrations
        for name in ("s3", "s3-method.demonstrations=fixed", "gold")
    }
    assert stored == {"s3": "drawn", "s3-method.demonstrations=fixed": "fixed", "gold": "drawn"}


def test_what_is_shown_depends_on_a_cells_own_rows_per_answer(world: FamilyWorld, tmp_path: Path) -> None:
    compare_methods(
        world.config("task.prompt_style=capable"),
        "s3,s3:method.rows_per_answer=2",
        seeds=1,
        match="rows",
        folder=tmp_path / "out",
        quiet=True,
    )
    names = ("s3", "s3-method.rows_per_answer=2")
    found = [RunDirectory.read(tmp_path / "out" / f"{name}-0").config.method.demonstrations for name in names]
    assert found == ["fixed", "drawn"]


def test_a_damaged_beginning_of_a_comparison_is_one_line(world: FamilyWorld, tmp_path: Path) -> None:
    compare_methods(world.config(), "gold", seeds=1, match="rows", folder=tmp_path / "out", quiet=True)
    (tmp_path / "out" / "settled.json").write_text("{")
    with pytest.raises(RunError, match=r"settled.json' cannot be read"):
        compare_methods(world.config(), "gold", seeds=1, match="rows", folder=tmp_path / "out", quiet=True)


def journal_rows(folder: Path) -> Any:
    with closing(Journal(folder / "journal.db")) as journal:
        return journal.rows()


def test_a_cell_that_is_not_finished_is_not_read(world: FamilyWorld, tmp_path: Path) -> None:
    from stepsynth.run import RunDirectory

    directory = RunDirectory.open(tmp_path / "run", world.config())
    with closing(directory), closing(Journal(directory.journal_path)), pytest.raises(RunError, match="is not finished"):
        read_cell(tmp_path / "run", "s3")


# numbers -------------------------------------------------------------------------------------

# Per seed and test row: what s3, a better and an equal method got right.
S3_RIGHT = ((1, 1, 1, 0, 0, 0, 0, 0, 1, 1) * 4, (1, 1, 0, 0, 0, 0, 0, 1, 1, 1) * 4)
BETTER = ((1,) * 8 + (0,) * 2) * 4, ((1,) * 9 + (0,)) * 4


def cell(system: str, seed: int, right: tuple[int, ...], folder: Path, **more: Any) -> Cell:
    scores = tuple(map(float, right))
    rounds = (CellRound(0, 20, (), (), scores),)
    values = {"rows": 20, "spent_rows": 20, "requests": 33, "tokens": 4444, "usd": 0.25, **more}
    values.setdefault("seconds", {"generating": 60.0, "training": 20.0, "testing": 10.0})
    return Cell(system=system, seed=seed, folder=folder, metric="accuracy", best_round=0, rounds=rounds, latency_s=1.5, **values)


@pytest.fixture
def made(world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]) -> dict[str, Any]:
    """What hand-made cells add up to."""
    cells = []
    for seed in (0, 1):
        folder = compared[0] / f"s3-{seed}"
        cells += [cell("s3", seed, S3_RIGHT[seed], folder), cell("gold", seed, BETTER[seed], folder, usd=None)]
        cells.append(cell("zerogen", seed, S3_RIGHT[seed], folder, requests=34 + seed))
    return summarise(cells, world.config(), "rows", "s3")


def test_differences_are_paired_by_seed_and_row(made: dict[str, Any]) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.contingency_tables import mcnemar

    gold, zerogen = (next(entry for entry in made["systems"] if entry["name"] == name) for name in ("gold", "zerogen"))
    assert gold["score"]["value"] == pytest.approx((0.8 + 0.9) / 2)
    assert gold["difference"]["value"] == pytest.approx((0.8 - 0.5 + 0.9 - 0.5) / 2)
    low, high = gold["difference"]["ci95"]
    assert -1 <= low < gold["difference"]["value"] < high <= 1
    for seed, entry in enumerate(gold["difference"]["per_seed"]):
        pairs = list(zip(BETTER[seed], S3_RIGHT[seed], strict=True))
        table = [[pairs.count((1, 1)), pairs.count((1, 0))], [pairs.count((0, 1)), pairs.count((0, 0))]]
        assert entry["mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-6)
        assert entry["mcnemar_p"] == pytest.approx(binomtest(table[0][1], table[0][1] + table[1][0]).pvalue, abs=1e-6)
        assert entry["value"] == pytest.approx(sum(a - b for a, b in pairs) / len(pairs), abs=1e-6)
    assert zerogen["difference"]["value"] == 0.0
    assert zerogen["difference"]["p"] == pytest.approx(1.0)
    assert [each["mcnemar_p"] for each in zerogen["difference"]["per_seed"]] == [1.0, 1.0]
    assert next(entry for entry in made["systems"] if entry["name"] == "s3")["difference"] is None


def test_the_minutes_are_those_of_all_cells_by_what_they_went_into(made: dict[str, Any]) -> None:
    assert made["minutes"] == {"generating": 6.0, "training": 2.0, "testing": 1.0}
    assert [entry["minutes"] for entry in made["systems"]] == [3.0, 3.0, 3.0]
    assert "Minutes in all: generating 6.0, training 2.0, testing 1.0." in comparison_markdown(made)


def test_p_values_are_corrected_for_the_number_of_methods(made: dict[str, Any]) -> None:
    from statsmodels.stats.multitest import multipletests

    compared = [entry["difference"] for entry in made["systems"] if entry["difference"]]
    assert len(compared) == 2
    expected = multipletests([entry["p"] for entry in compared], method="holm")[1]
    assert [entry["p_holm"] for entry in compared] == pytest.approx(list(expected), abs=1e-5)
    assert compared[0]["p_holm"] == pytest.approx(2 * compared[0]["p"], abs=1e-5)


def test_the_order_of_cells_changes_nothing(world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]) -> None:
    cells = [read_cell(compared[0] / f"{name}-{seed}", name) for seed in (0, 1) for name in ("s3", "zerogen")]
    one, other = (summarise(order, world.config(), "rows", "s3") for order in (cells, [cells[2], cells[3], cells[0], cells[1]]))
    assert one == other


def test_without_a_reference_there_are_scores_and_no_differences(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]
) -> None:
    cells = [cell(name, 0, S3_RIGHT[0], compared[0]) for name in ("goldgen", "zerogen")]
    found = summarise(cells, world.config(), "rows", None)
    assert found["reference"] is found["budget"] is found["forecast"] is None
    assert [entry["difference"] for entry in found["systems"]] == [None, None]
    assert comparison_markdown(found)


def test_warnings_tell_what_the_comparison_cannot_show(world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]) -> None:
    folder = compared[0] / "s3-0"
    close = (*S3_RIGHT[0][:-1], 0)
    few = summarise([cell("s3", 0, S3_RIGHT[0], folder), cell("gold", 0, close, folder)], world.config(), "rows", "s3")
    assert any(warning.startswith("gold against s3:") for warning in few["warnings"])
    assert any("One seed only" in warning for warning in few["warnings"])


@pytest.mark.parametrize(
    ("steps", "warned"),
    [
        ((100, 100, None), False),
        ((100, 110, 100), False),
        ((100, 100, 0), False),
        ((100, 112, 100), True),
        ((300, 100, None), True),
        ((None,) * 3, False),
    ],
)
def test_students_that_were_trained_for_longer_are_told(
    steps: tuple[int | None, ...], warned: bool, world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]
) -> None:
    """A tenth more steps is taken for the same; what earlier versions trained, and the teacher, have none to tell."""
    folder = compared[0] / "s3-0"
    cells = [cell(name, 0, S3_RIGHT[0], folder, steps=n) for name, n in zip(("s3", "gold", "teacher"), steps, strict=True)]
    found = summarise(cells, world.config(), "rows", "s3")
    assert [entry["steps"] for entry in found["systems"]] == [[n] for n in steps]
    told = [warning for warning in found["warnings"] if "optimiser steps" in warning]
    assert len(told) == warned
    assert all("s3" in warning and "gold" in warning and "student.min_steps" in warning for warning in told)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"gold": [100, 100], "s3": [100, 100]}, "All students made 100 optimiser steps."),
        ({"gold": [100], "probe": [0], "teacher": [None]}, "All students that were trained made 100 optimiser steps."),
        ({"gold": [100, 100], "s3": [100, 1146]}, "Optimiser steps of the students: gold 100; s3 100-1,146."),
        ({"gold": [None]}, ""),
    ],
)
def test_how_long_students_were_trained_is_said(made: dict[str, Any], steps: dict[str, list[int | None]], said: str) -> None:
    whole = made["systems"][0]
    results = {**made, "systems": [{**whole, "name": name, "steps": own} for name, own in steps.items()]}
    assert steps_sentence(results) == said
    assert said in comparison_markdown(results)
    assert said in render_comparison(results)


def test_every_cell_knows_the_steps_of_its_student(compared: tuple[Path, dict[str, Any], int]) -> None:
    """As the student's own record has them."""
    for entry in compared[1]["systems"]:
        for score, steps in zip(entry["per_seed"], entry["steps"], strict=True):
            model = compared[0] / f"{entry['name']}-{score['seed']}" / "models" / f"round-{score['round']}"
            assert steps == json.loads((model / "training.json").read_text())["steps"] > 0


def test_differences_are_to_the_user_s_own_labels_unless_another_method_is_named(world: FamilyWorld) -> None:
    """What a user wants to know first is whether anything is better than the labels that are there already."""
    config = world.config()

    def chosen(methods: str, wanted: str | None = None) -> str | None:
        return choose_reference(parse_systems(methods, config), wanted)

    assert chosen("s3,zerogen,gold") == "gold"
    assert chosen("zerogen,s3") == "s3"
    assert chosen("zerogen,goldgen") is None
    assert chosen("s3,zerogen,gold", "zerogen") == "zerogen"
    assert chosen("s3:method.rounds=1,gold", "s3:method.rounds=1") == "s3:method.rounds=1"
    with pytest.raises(ConfigError, match=r"the reference 'gld' is not among the methods. Did you mean 'gold'"):
        chosen("s3,gold", "gld")


def test_the_reference_does_not_change_who_sets_the_budget(compared: tuple[Path, dict[str, Any], int]) -> None:
    found = compared[1]
    assert (found["reference"], found["budget"]) == ("gold", "s3")
    assert {entry["name"] for entry in found["systems"] if entry["difference"]} == {"s3", "zerogen", "seed-only", "goldgen"}
    assert {point["round"] for point in found["curve"]} == {0, 1}, "the curve is the loop's, gold has no rounds"
    assert comparison_rows(found)[0][-2] == "minus gold"


def test_whatever_the_reference_is_a_teacher_is_compared_with_the_loop_s_student(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int]
) -> None:
    folder = compared[0] / "s3-0"
    cells = [cell("s3", 0, S3_RIGHT[0], folder), cell("gold", 0, S3_RIGHT[0], folder), cell("teacher", 0, BETTER[0], folder)]
    to_gold, to_loop = (summarise(cells, world.config(), "rows", name)["systems"][2] for name in ("gold", "s3"))
    assert to_gold["against_student"]["value"] == to_loop["difference"]["value"] == pytest.approx(0.3)
    assert "against_student" not in to_loop
    # Three differences are reported, so three are corrected for.
    assert to_gold["against_student"]["p_holm"] > to_loop["difference"]["p_holm"] / 2
    assert to_gold["against_student"]["p_holm"] == pytest.approx(min(1.0, 3 * to_gold["against_student"]["p"]), abs=1e-5)


def test_a_finished_comparison_is_read_against_another_reference_without_asking(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(compared[0], folder)

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("something was asked")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    found = compare_methods(world.config(), METHODS, seeds=2, match="rows", folder=folder, reference="zerogen", quiet=True)
    before = {entry["name"]: entry["score"] for entry in compared[1]["systems"]}
    assert {entry["name"]: entry["score"] for entry in found["systems"]} == before
    assert found["reference"] == "zerogen"
    assert "minus zerogen" in (folder / "comparison.md").read_text()


def test_markdown_and_table_have_every_number(made: dict[str, Any]) -> None:
    page = comparison_markdown(made)
    gold = next(entry for entry in made["systems"] if entry["name"] == "gold")
    low, high = gold["difference"]["ci95"]
    row = next(line for line in page.splitlines() if line.startswith("| gold | 20 |"))
    for shown in (
        "| 33 |",
        "| 4,444 |",
        "| unknown |",
        "| 3.0 |",
        "| 85.0 [",
        f"| +35.0 [{100 * low:+.1f}, {100 * high:+.1f}] |",
        f"| {gold['difference']['p_holm']:.3f} |" if gold["difference"]["p_holm"] >= 0.001 else "| < 0.001 |",
    ):
        assert shown in row, row
    assert "| zerogen | 20 | 34-35 | 4,444 | $0.50 | 3.0 | 50.0 [" in page
    assert "| gold | 80.0 | 90.0 |" in page
    assert "gold 1.5 s, $0.00" in page
    assert "40 sealed test rows" in page
    head, *rows = comparison_rows(made)
    assert all(len(each) == len(head) for each in rows)


def test_a_comparison_is_shown_and_kept(
    world: FamilyWorld, compared: tuple[Path, dict[str, Any], int], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    folder, results, _ = compared
    monkeypatch.setenv("COLUMNS", "250")
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", METHODS, "--seeds", 2, "--out", folder)
    assert outcome.code == 0, outcome.err
    for row in comparison_rows(results):
        for text in row:
            assert text in outcome.out
    assert str(folder / "results.json") in outcome.out
    as_json = stepsynth(capsys, "compare", world.config_path, "--methods", METHODS, "--seeds", 2, "--out", folder, "--json")
    assert json.loads(as_json.out) == json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (folder / "comparison.md").read_text() == comparison_markdown(results)


def test_bad_data_of_a_later_seed_is_found_before_the_first(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seed draws its own rows; a draw that cannot be cut ends the comparison before it begins."""
    world = build_family_world(tmp_path / "world", "classification", student=student)
    world.write_rows("test.jsonl", [{"text": "no label known", "label": "kalmm"}, *rows_of("classification", 4, 500)])

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("something was asked")

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    with pytest.raises(UserError, match="kalmm"):
        compare_methods(world.config(), "s3", seeds=2, match="rows", folder=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_system_does_not_change_the_config_of_another(world: FamilyWorld) -> None:
    config = world.config()
    before = config.resolved()
    systems = parse_systems("s3,s3:method.rationales=0:student.epochs=7", config)
    cells = {system.name: changed for system, changed, _ in plan_cells(config, systems, 1)}
    assert config.resolved() == before
    assert cells["s3"].student.epochs == 2
    assert parse_config(cells["s3:method.rationales=0:student.epochs=7"].resolved()).student.epochs == 7
    with pytest.raises(ConfigError):
        parse_systems("s3:student.epochs=0", config)


# clusters, looks and power -------------------------------------------------------------------

PLAIN = "gold,gold:student.epochs=1"


def test_test_rows_that_share_a_context_are_counted_once(student: Path, tmp_path: Path) -> None:
    """From the rows to the page; the journal has their numbers and not one of their texts."""
    world = build_family_world(tmp_path / "world", "pair", student=student)
    alone = rows_of("pair", 10, 500)
    rows = [{**row, "text1": alone[place - place % 2]["text1"]} for place, row in enumerate(alone)]
    world.write_rows("test.jsonl", rows)
    folder = tmp_path / "out"
    results = compare_methods(world.config(), PLAIN, seeds=2, match="rows", folder=folder, quiet=True)
    assert (results["test_rows"], results["clusters"]) == (10, 5)
    assert "10 sealed test rows of 5 contexts" in (folder / "comparison.md").read_text()
    assert "they have 5 contexts" in (folder / "comparison.html").read_text()
    run = json.loads((folder / "gold-0" / "results.json").read_text())["methods"]["gold"]
    assert run["test"]["clusters"] == 5
    assert "n = 10 with 5 contexts" in (folder / "gold-0" / "report.html").read_text()
    with closing(Journal(folder / "gold-0" / "journal.db")) as journal:
        (info,) = (info for _, _, kind, info, _ in journal.stages() if kind == "test")
        assert sorted(info["clusters"]) == [number for number in range(5) for _ in range(2)]
        dump = "\n".join(journal._connection.iterdump())
        # As if an earlier version had tested it.
        del info["clusters"]
        journal._connection.execute("UPDATE stages SET info = ? WHERE kind = 'test'", (json.dumps(info),))
        journal._connection.commit()
    assert all(row[name] not in dump for row in rows for name in ("text1", "text2"))
    assert read_cell(folder / "gold-0", "gold").clusters["test"] is None
    cells = [read_cell(folder / f"gold-{seed}", "gold") for seed in (0, 1)]
    assert summarise(cells, world.config(), "rows", None)["clusters"] == 5, "the other cell knows"
    assert "clusters" not in summarise(cells[:1], world.config(), "rows", None)


def test_rows_without_a_shared_context_have_no_clusters(compared: tuple[Path, dict[str, Any], int]) -> None:
    assert "clusters" not in compared[1]
    with closing(Journal(compared[0] / "gold-0" / "journal.db")) as journal:
        (info,) = (info for _, _, kind, info, _ in journal.stages() if kind == "test")
    assert "clusters" not in info
    assert "context" not in (compared[0] / "comparison.md").read_text()


def test_seeds_added_later_are_another_look(world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compare", world.config_path, "--methods", PLAIN, "--json")
    for name, plan, levels in (("planned", ("--max-seeds", 2), [0.025, 0.025]), ("free", (), [0.05, 0.0])):
        for seeds in (1, 2, 2):
            outcome = stepsynth(capsys, *command, "--seeds", seeds, "--out", tmp_path / name, *plan)
            assert outcome.code == 0, outcome.err
        found = json.loads((tmp_path / name / "results.json").read_text())
        assert json.loads(outcome.out) == found
        assert [entry["seeds"] for entry in found["looks"]] == [[0], [0, 1]]
        assert [entry["level"] for entry in found["looks"]] == levels
        assert "looked at 2 times" in (tmp_path / name / "comparison.md").read_text()
    outcome = stepsynth(capsys, *command, "--seeds", 2, "--max-seeds", 1, "--out", tmp_path / "never")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "max_seeds is 1, less than the 2 seeds" in outcome.err
    assert not (tmp_path / "never").exists()


def test_what_it_can_show_is_said_before_the_first_cell(
    world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", PLAIN, "--seeds", 2, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    said = outcome.err.splitlines()
    (place,) = (number for number, line in enumerate(said) if line.startswith("30 test rows and 2 seeds are too few"))
    assert place < next(number for number, line in enumerate(said) if line.startswith("gold, seed 0"))
    power = json.loads((tmp_path / "out" / "results.json").read_text())["power"]
    assert (power["rows"], power["seeds"], power["wanted"]) == (30, 2, 0.03)


def test_nothing_is_said_of_questions(student: Path, tmp_path: Path) -> None:
    world = build_family_world(tmp_path / "world", "extractive_qa", student=student)
    assert compare_methods(world.config(), "gold", seeds=1, match="rows", folder=tmp_path / "out", quiet=True)["power"] is None
