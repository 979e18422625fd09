"""The test set is sealed: nothing of it is in any request, file or table before the final evaluation, nor on a page after it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FAMILIES, FamilyWorld, asked, build_family_world, lend_student, rows_of
from stepsynth.cli.running import run_config
from stepsynth.errors import RunError
from stepsynth.training import StudentRunner

pytestmark = pytest.mark.usefixtures("one_thread")

CANARY = "zqcanary"
METHODS = ("s3", "seed-only", "zerogen", "goldgen", "gold", "s3+gold", "crossfit", "teacher")
# With texts without labels, test rows among them.
POOLED = ("crossfit with a pool", "pool with a pool", "annotate with a pool")
# Every family with the loop, which does most, and with cross-fitting and a pool; every method where texts are simplest.
CASES = [
    *((family, method) for family in FAMILIES for method in ("s3", POOLED[0])),
    *(("classification", method) for method in (*METHODS[1:], *POOLED[1:])),
]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base model for all worlds."""
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


def marked(family: str) -> list[dict[str, Any]]:
    """Return test rows with a canary in every text, context and answer."""
    rows = rows_of(family, 6, 500)
    for number, row in enumerate(rows):
        word = f"{CANARY}{number}"
        if family == "extractive_qa":
            row["context"] = f"{word}c Lind said that it stayed open. {row['context']}"
            row["question"] = f"What did {word}q say?"
            row["answers"] = {"text": [f"{word}c Lind"], "answer_start": [0]}
        else:
            row.update({name: f"{word} {row[name]}" for name in ("text", "text1", "text2") if name in row})
    return rows


def world_of(folder: Path, family: str, student: Path) -> FamilyWorld:
    # A second round asks once more, when the first student has been examined.
    world = build_family_world(folder, family, student=student, method__rounds=2, method__label_check="harvest")
    world.write_rows("test.jsonl", marked(family))
    return world


def holders(folder: Path, *, but: tuple[str, ...] = ()) -> list[str]:
    """Return every file below a folder that holds the canary, as bytes or in a cell of a database, however encoded."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in but:
            continue
        content = path.read_bytes()
        forms = [CANARY.encode(form) for form in ("utf-8", "utf-16-le", "utf-16-be")]
        if any(form in content for form in forms) or CANARY.encode().hex().encode() in content:
            found.append(str(path.relative_to(folder)))
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as connection:
                found += [f"{path.name}: {line[:80]}" for line in connection.iterdump() if CANARY in line]
    return found


def add_pool(world: FamilyWorld) -> list[str]:
    """Write a pool with all test rows in it, as they are and slightly changed; return what config names it."""
    labels = ("label", "labels", "answers")
    test = [{name: value for name, value in row.items() if name not in labels} for row in marked(world.family)]
    other = [{name: value for name, value in row.items() if name not in labels} for row in rows_of(world.family, 40, 2000)]
    written = "question" if world.family == "extractive_qa" else "text2" if world.family == "pair" else "text"
    near = [{**row, written: f"{row[written].rstrip('?.')}!"} for row in test]
    world.write_rows("pool.jsonl", [*other[:20], *test, *near, *other[20:]])
    return [f"data.pool.path={world.folder / 'pool.jsonl'}", "method.seed_rows=12", "method.folds=3"]


class Stop(Exception):
    """The end, as far as this test is concerned."""


@pytest.mark.parametrize(("family", "method"), CASES)
def test_nothing_of_the_test_set_is_anywhere_before_it_is_opened(
    family: str, method: str, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And after it, in no page, data set, model or log; the teacher alone has to be asked its rows, at the very end."""
    world = world_of(tmp_path / "world", family, student)
    out = tmp_path / "out"
    method, _, pooled = method.partition(" with a pool") if method in POOLED else (method, "", None)
    more = [] if pooled is None else add_pool(world)
    more += ["method.annotate_rows=6"] if more and method == "crossfit" else []
    check = "auto" if more or method == "crossfit" else "harvest"
    config = world.config(f"method.name={method}", f"method.label_check={check}", *more)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(StudentRunner, "evaluate_test", stop)
        with pytest.raises(Stop):
            run_config(config, out / "run")
    assert len(asked(out / "run")) > 0 or method in ("gold", "pool")
    assert (out / "answers.db").is_file()
    assert holders(out) == []
    from stepsynth.cli.running import read_status
    from stepsynth.execution import rebuild

    # What can be had of a run that has not ended.
    rebuild(out / "run")
    assert CANARY not in json.dumps(read_status(out / "run"))
    assert holders(out) == []
    before = set(asked(out / "run"))

    results = run_config(config, out / "run")
    assert results["methods"][method]["test"]["n"] == 6
    assert CANARY not in json.dumps(results)
    assert CANARY not in "".join(capfd.readouterr())
    late = set(asked(out / "run")) - before
    assert len(late) == (6 if method == "teacher" else 0)
    assert all(CANARY in request for request in late)
    # For its scores the journal keeps what was predicted and what would have been right, which for questions is text.
    journals = ("answers.db", "journal.db", "journal.db-wal") if method == "teacher" or family == "extractive_qa" else ()
    assert holders(out, but=journals) == []


def test_the_search_finds_a_canary_wherever_it_is(tmp_path: Path) -> None:
    """Otherwise nothing above would be shown."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.bin").write_bytes(b"\0\xff" + CANARY.encode() + b"\0")
    (tmp_path / "b.txt").write_text(CANARY, encoding="utf-16-le")
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 5000 + CANARY,))
    assert {line.split(":")[0] for line in holders(tmp_path)} == {"deep/a.bin", "b.txt", "c.db"}


@pytest.mark.parametrize("family", FAMILIES)
def test_plan_shows_nothing_of_the_test_set(
    family: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = world_of(tmp_path / "world", family, student)
    pool = [part for override in add_pool(world) for part in ("--set", override)]
    pool += ["--set", "method.name=crossfit", "--set", "method.label_check=auto"]
    for option in ([], ["--json"], pool, [*pool, "--json"], [*pool, "--try"]):
        outcome = stepsynth(capsys, "plan", world.config_path, *option)
        assert outcome.code == 0, outcome.err
        assert CANARY not in outcome.out + outcome.err


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", ["a word", "a label", "one row fewer", "the order"])
def test_a_test_set_that_changes_during_the_run_is_refused(
    family: str, change: str, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No student is scored on rows that nobody had inspected, and the old rows put back make the run go on."""
    world = world_of(tmp_path / "world", family, student)
    rows = marked(family)
    before = (world.folder / "test.jsonl").read_bytes()
    final = StudentRunner.evaluate_test

    def swap(*arguments: Any) -> None:
        world.write_rows("test.jsonl", changed(family, change, rows))
        final(*arguments)

    monkeypatch.setattr(StudentRunner, "evaluate_test", swap)
    config = world.config("method.name=gold")
    with pytest.raises(RunError, match="changed since the run began") as caught:
        run_config(config, tmp_path / "run", quiet=True)
    assert CANARY not in str(caught.value)
    assert not (tmp_path / "run" / "results.json").exists()
    with closing(sqlite3.connect(tmp_path / "run" / "journal.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM predictions WHERE split = 'test'").fetchone() == (0,)

    monkeypatch.setattr(StudentRunner, "evaluate_test", final)
    with pytest.raises(RunError, match="test rows are not those"):
        run_config(config, tmp_path / "run", quiet=True)
    (world.folder / "test.jsonl").write_bytes(before)
    assert run_config(config, tmp_path / "run", quiet=True)["methods"]["gold"]["test"]["n"] == 6


def changed(family: str, change: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = dict(rows[0])
    if change == "one row fewer":
        return rows[:-1]
    if change == "the order":
        return [*rows[1:], first]
    if change == "a word":
        name = next(name for name in ("text", "text2", "question") if name in first)
        return [{**first, name: f"{first[name]} again"}, *rows[1:]]
    if family == "extractive_qa":
        text = first["answers"]["text"][0]
        return [{**first, "answers": {"text": [text[:-5]], "answer_start": [0]}}, *rows[1:]]
    if family == "multi_label":
        return [{**first, "labels": ["loud"]}, *rows[1:]]
    other = next(row["label"] for row in rows if row["label"] != first["label"])
    return [{**first, "label": other}, *rows[1:]]
