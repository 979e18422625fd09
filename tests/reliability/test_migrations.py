"""R19: a run that an earlier release left opens, goes on and is exported; see ``journals/make.py`` for where they come from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reliability.runs import go_on
from stepsynth import __version__
from stepsynth.config import load_config, parse_config
from stepsynth.errors import RunError
from stepsynth.journal import AnswerStore, Journal
from stepsynth.report.verify import check_run, verify_run
from stepsynth.run import RunDirectory
from stepsynth.types import Example, Prediction
from world import build_world

JOURNALS = Path(__file__).with_name("journals")
RUNS = sorted(path.stem for path in JOURNALS.glob("*.json"))
pytestmark = pytest.mark.usefixtures("one_thread")


def load(script: Path, target: Path) -> None:
    with closing(sqlite3.connect(target)) as connection:
        connection.executescript(script.read_text(encoding="utf-8"))


def unpack(made: str, root: Path) -> Path:
    """Lay out what that release left when it was killed."""
    build_world(root, validation=8, test=6)
    run = root / "runs" / "run"
    run.mkdir(parents=True)
    (run / "config.json").write_bytes((JOURNALS / f"{made}.json").read_bytes())
    load(JOURNALS / f"{made}.sql", run / "journal.db")
    load(JOURNALS / f"{made}-answers.sql", root / "runs" / "answers.db")
    return Path("runs") / "run"


class Recorded:
    """A student that answers what the journal says that its students answered, and one label to everything else.

    A student that is trained here gives other probabilities than the one that was trained there: the last
    digits are the processor's.
    """

    def __init__(self, run: Path) -> None:
        with closing(sqlite3.connect(run / "journal.db")) as connection:
            kept = connection.execute("SELECT example_id, predicted, probabilities FROM predictions WHERE round = 0").fetchall()
        self.kept = {name: Prediction(name, label, json.loads(probabilities)) for name, label, probabilities in kept}
        assert self.kept

    def fit(self, train: object, select: object, *, out: Path, **_: object) -> Recorded:
        (out / "recorded.json").write_text("{}")
        return self

    def load(self, folder: Path) -> Recorded:
        return self

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        unknown = {"kalm": 0.5, "rund": 0.3, "spitz": 0.2}
        return [self.kept.get(row.id) or Prediction(row.id, "kalm", unknown) for row in examples]


def test_r19_there_is_a_journal_of_the_first_release() -> None:
    assert "schema-1" in RUNS


@pytest.mark.parametrize("made", RUNS)
def test_r19_a_run_of_an_earlier_release_opens_goes_on_and_is_exported(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = unpack(made, tmp_path)
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        known = {key for (key,) in connection.execute("SELECT key FROM answers")}
        rows = connection.execute("SELECT * FROM rows ORDER BY stage, position").fetchall()
    assert len(known) > 20
    config = RunDirectory.read(run).config
    with closing(Journal(run / "journal.db")) as journal:
        assert journal.totals().requests == len(known)
        assert [name for name, *_ in journal.stages()][-1] != "round-1/extrapolate", "it was killed before"
    results, teacher = go_on(config, run)
    assert not known & set(teacher.calls), "what was paid for stays paid for"
    assert verify_run(run) == []
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        now = connection.execute("SELECT * FROM rows ORDER BY stage, position").fetchall()
    assert [row for row in now if row[0].startswith("round-0/")] == [row for row in rows if row[0].startswith("round-0/")]
    lines = (run / "dataset.jsonl").read_text(encoding="utf-8").splitlines()
    (method,) = results["methods"].values()
    assert len(lines) == sum(stage["accepted"] for stage in method["stages"] if stage["stage"] != "round-0/rationales")


@pytest.mark.parametrize("made", RUNS)
def test_r19_it_ends_as_if_this_release_had_made_it_from_the_beginning(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = unpack(made, tmp_path)
    config, student = RunDirectory.read(run).config, Recorded(run)
    results, _ = go_on(config, run, student=student)
    fresh, _ = go_on(config, Path("fresh") / "run", student=student)
    (fresh_method,), (method,) = fresh["methods"].values(), results["methods"].values()
    # What an earlier release did not know, a price for instance, stays unknown; nothing else may differ.
    assert {key for key in method if method[key] != fresh_method[key]} <= {"cost_usd"}
    lines = (Path("fresh") / "run" / "dataset.jsonl").read_text(encoding="utf-8")
    assert (run / "dataset.jsonl").read_text(encoding="utf-8") == lines


@pytest.mark.parametrize("made", RUNS)
def test_r19_the_folder_itself_is_a_config_that_goes_on(made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = unpack(made, tmp_path)
    RunDirectory.open(run, load_config(run)).close()
    with pytest.raises(RunError, match=f"To resume it: `stepsynth run {run}`"):
        RunDirectory.open(run, parse_config(json_values(run)))


def json_values(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "config.json").read_text())["config"]
    return values


@pytest.mark.parametrize("made", RUNS)
def test_r19_the_page_and_the_words_of_an_earlier_release_are_no_damage(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R13: what another version rendered is said to be so; a number that is not the journal's is found all the same."""
    monkeypatch.chdir(tmp_path)
    run = unpack(made, tmp_path)
    config, student = RunDirectory.read(run).config, Recorded(run)
    go_on(config, run, student=student)
    page, results = run / "report.html", run / "results.json"
    ours, numbers = page.read_text(encoding="utf-8"), json.loads(results.read_text(encoding="utf-8"))
    theirs = ours[: ours.rindex("<!-- sha256")].replace("What was run", "How it was run")
    page.write_text(theirs.replace(f"stepsynth {__version__} from", "stepsynth 0.1.0 from"), encoding="utf-8")
    (method,) = numbers["methods"].values()
    if "worth" in method:
        method["worth"]["words"] = ["Written rows are good for you."]
        results.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    check = check_run(run)
    assert check.findings == []
    said = f"report.html was rendered by stepsynth 0.1.0, and this is {__version__}: it is not compared. `stepsynth report RUN`"
    assert check.notes[-1].startswith(said)
    assert [note.split()[0] for note in check.notes] == (["results.json"] if "worth" in method else []) + ["report.html"]
    page.write_text(theirs, encoding="utf-8")
    assert f"an earlier build of stepsynth {__version__}" in check_run(run).notes[-1]
    method["rows"] += 1
    results.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [finding.where for finding in verify_run(run)] == ["results.json"]


@pytest.mark.parametrize("made", RUNS)
def test_r19_shared_answers_of_an_earlier_release_are_still_found(made: str, tmp_path: Path) -> None:
    load(JOURNALS / f"{made}-answers.sql", tmp_path / "answers.db")
    with closing(sqlite3.connect(tmp_path / "answers.db")) as connection:
        before = connection.execute("SELECT key, max_tokens, text FROM answers ORDER BY key").fetchall()
    with closing(AnswerStore.shared(tmp_path / "answers.db")) as store:
        for key, limit, text in before:
            found = store.find_many([(key, limit)]).get(key)
            assert found is not None
            assert found.text == text


@pytest.mark.parametrize("made", RUNS)
def test_r19_migrations_are_only_ever_appended(made: str, tmp_path: Path) -> None:
    """A new journal has every table and column of the old ones."""
    load(JOURNALS / f"{made}.sql", tmp_path / "old.db")
    Journal(tmp_path / "new.db").close()

    def columns(path: Path) -> set[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}

    assert columns(tmp_path / "old.db") <= columns(tmp_path / "new.db")
    Journal(tmp_path / "old.db").close()
    assert columns(tmp_path / "old.db") == columns(tmp_path / "new.db")
    assert json.loads((JOURNALS / f"{made}.json").read_text())["format"] == 1
