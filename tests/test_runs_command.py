"""`stepsynth runs`: the runs below a folder, whatever state they are in."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import stepsynth as ss
from command import stepsynth
from report_story import Story, build
from stepsynth.errors import ConfigError, RunError
from stepsynth.report.listing import SORT_KEYS, list_runs, pick_runs
from stepsynth.run.logs import attempt_log


def make_run(folder: Path, story: Story | None = None, *, finished: bool = True) -> Path:
    """Write a run directory through the journal's own API."""
    folder.mkdir(parents=True)
    journal, _, config = build(folder / "journal.db", story or Story())
    with closing(journal):
        if finished:
            journal.finish()
    document = {"format": 1, "digest": config.result_digest(), "config": config.resolved()}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "lock").write_text("pid 1 on here\n")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """One run in every state, and a cell of a comparison."""
    runs = tmp_path / "runs"
    make_run(runs / "done")
    make_run(runs / "stopped", Story(method="zerogen", test=False), finished=False)
    failed = make_run(runs / "failed", finished=False)
    with pytest.raises(RunError), attempt_log(failed):
        raise RunError("the words of the error")
    make_run(runs / "compare-t" / "s3-0")
    (runs / "compare-t" / "students" / "0").mkdir(parents=True)
    (runs / "half" / "models").mkdir(parents=True)
    (runs / "half" / "lock").write_text("pid 7 on here\n")
    torn = make_run(runs / "torn")
    (torn / "journal.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    (make_run(runs / "unreadable") / "config.json").write_text('{"format": 1, "config": {"task"')
    (make_run(runs / "odd") / "config.json").write_text('{"format": 1, "config": []}')
    (runs / "model").mkdir()
    (runs / "model" / "config.json").write_text('{"architectures": ["BertModel"]}')
    return runs


def test_every_run_is_listed_with_its_state(many: Path) -> None:
    found = {entry["name"]: entry for entry in list_runs(many)}
    assert {name: entry["state"] for name, entry in found.items()} == {
        "compare-t/s3-0": "finished",
        "done": "finished",
        "failed": "failed",
        "half": "broken",
        "odd": "broken",
        "stopped": "interrupted",
        "torn": "broken",
        "unreadable": "broken",
    }
    assert all(bool(entry["problem"]) == (entry["state"] == "broken") for entry in found.values())
    assert {entry["comparison"] for name, entry in found.items() if name != "compare-t/s3-0"} == {None}
    assert found["compare-t/s3-0"]["comparison"] == "compare-t"
    done = found["done"]
    assert (done["method"], done["teacher"], done["rounds"]) == ("s3", "tiny", 2)
    assert (done["score"]["on"], done["score"]["value"]) == ("test", 0.825)
    assert found["stopped"]["score"]["on"] == "select"
    assert "the words of the error" not in (many / "failed" / "logs" / "attempt-1.log").read_text()


def test_it_says_what_the_results_say(tmp_path: Path) -> None:
    from stepsynth.journal import Journal
    from stepsynth.report.derived import build_results
    from stepsynth.run import RunDirectory

    run = make_run(tmp_path / "run")
    with closing(Journal(run / "journal.db")) as journal:
        (method,) = build_results(journal, RunDirectory.read(run))["methods"].values()
    (entry,) = list_runs(tmp_path)
    assert {key: entry[key] for key in ("requests", "tokens", "cost_usd")} == {
        key: method[key] for key in ("requests", "tokens", "cost_usd")
    }
    assert entry["score"]["value"] == method["test"]["value"]
    assert entry["rows"] in (method["rows"], None)


def test_a_run_that_works_is_neither_changed_nor_held_up(many: Path) -> None:
    run = many / "done"
    with (run / "lock").open("r+") as lock, closing(sqlite3.connect(run / "journal.db", isolation_level=None)) as writer:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO meta VALUES ('half', 'written')")
        (entry,) = list_runs(run)
        assert (entry["name"], entry["state"]) == ("done", "working")
        writer.execute("COMMIT")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    list_runs(run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_runs_are_sorted_and_picked(many: Path) -> None:
    entries = list_runs(many)
    for key in SORT_KEYS:
        assert sorted(entry["name"] for entry in pick_runs(entries, sort=key)) == [entry["name"] for entry in entries]
    scores = [entry["score"] and entry["score"]["value"] for entry in pick_runs(entries, sort="score")]
    known = [score for score in scores if score is not None]
    assert known == sorted(known, reverse=True)
    assert scores[len(known) :] == [None] * (len(scores) - len(known))
    assert [entry["name"] for entry in pick_runs(entries, method="zerogen")] == ["stopped"]
    assert [entry["name"] for entry in pick_runs(entries, state="failed")] == ["failed"]
    with pytest.raises(ConfigError, match=r"cannot be sorted by 'scor'\. Did you mean 'score'"):
        pick_runs(entries, sort="scor")
    with pytest.raises(ConfigError, match=r"no state 'finish'\. Did you mean 'finished'"):
        pick_runs(entries, state="finish")


def test_the_command_prints_a_table_or_json(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "runs", many)
    assert outcome.code == 0
    said = " ".join(outcome.out.split())
    assert all(name in said for name in ("done", "compare-t/s3-0", "interrupted", "half: ", "torn: "))
    found = json.loads(stepsynth(capsys, "runs", many, "--json", "--state", "finished", "--sort", "date").out)
    assert {entry["name"] for entry in found["runs"]} == {"done", "compare-t/s3-0"}
    empty = many / "model"
    assert stepsynth(capsys, "runs", empty).out == f"There are no such runs below {str(empty)!r}.\n"
    wrong = stepsynth(capsys, "runs", many / "nowhere")
    assert (wrong.code, wrong.err) == (
        *(2, f"stepsynth: there are no runs below {str(many / 'nowhere')!r}: there is no such folder. Give a folder.\n"),
    )


def test_python_returns_a_list_that_a_notebook_shows(many: Path) -> None:
    found = ss.runs(many, state="finished")
    assert [entry["name"] for entry in found] == ["compare-t/s3-0", "done"]
    assert "<td style='text-align:left'>compare-t/s3-0</td>" in found._repr_html_()
    assert list(found.to_pandas()["score"]) == [0.825, 0.825]
    assert "<table>" in ss.runs(many)._repr_html_()


@pytest.mark.slow
def test_three_hundred_runs_take_seconds(tmp_path: Path) -> None:
    one = make_run(tmp_path / "first", Story(seed_rows=2000))
    for number in range(300):
        shutil.copytree(one, tmp_path / "many" / f"run-{number}")
    began = time.process_time()
    assert len(list_runs(tmp_path / "many")) == 300
    took = time.process_time() - began
    logging.getLogger(__name__).info("300 runs took %.1f s", took)
    assert took < 15


def test_a_run_of_a_similar_name_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets" / "config.json").write_text("{}")
    missing = f"there is no run at {str(tmp_path / 'ticket')!r}: there is no such folder."
    said = f"{missing} Did you mean {str(tmp_path / 'tickets')!r}?"
    assert stepsynth(capsys, "status", tmp_path / "ticket").err == f"stepsynth: {said}\n"
    student = tmp_path / "tickets" / "models" / "round-9"
    missing = f"there is no run at {str(student)!r}: there is no such folder."
    said = f"{missing} Give the folder of the run: {str(tmp_path / 'tickets')!r}."
    assert stepsynth(capsys, "status", student).err == f"stepsynth: {said}\n"
