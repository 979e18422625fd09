"""S10: the test set stays sealed, and no training row is a near copy of a validation row.

That nothing of the test set is anywhere before the end is shown by `tests/test_sealed.py`, for every
family and method. Here: what is no exact copy. The threshold is that of `stepsynth.filters.leakage`:
a row may share at most 60 % of its runs of five words with one validation row.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from command import stepsynth
from loopback import LoopbackServer
from report_story import Story, build
from stepsynth.cli.running import run_config
from stepsynth.filters import FilterPipeline
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.report import render_report
from stepsynth.types import Candidate, Example, Message, Request, Sampling
from world import LABELS, World, build_world

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.usefixtures("one_thread")

THRESHOLD = 0.6
GOLD = "the harbour of this small town sold its last old wooden boats to a museum in the north before winter came"


def shared(text: str, gold: str) -> float:
    """Return the share of a text's runs of five words that stand in another text; 1 for equal ones."""

    def runs(words: Sequence[str]) -> list[str]:
        return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]

    def words(raw: str) -> list[str]:
        return "".join(c if c.isalnum() else " " for c in raw.casefold()).split()

    mine, theirs = words(text), f" {' '.join(words(gold))} "
    if mine == theirs.split():
        return 1.0
    found = [f" {run} " in theirs for run in runs(mine)]
    return sum(found) / len(found) if found else 0.0


def judged(text: str) -> str:
    """Return the reason for which a given row is dropped, if it is."""
    request = Request((Message("user", ""),), Sampling(), 0, "round-0/import", 0, "a")
    (verdict,) = FilterPipeline.for_given([Example("g", GOLD, "a")]).judge([Candidate.of(request, "", text)], [])
    return verdict.reason


@pytest.mark.parametrize(
    "near",
    [
        GOLD,
        GOLD.upper(),
        GOLD.replace(" ", "  ") + "!!!",
        f'"{GOLD}."',
        f"Well, {GOLD}.",
        GOLD.replace("museum", "gallery"),
        GOLD.replace("north", "south").replace("winter", "spring"),
        " ".join(GOLD.split()[:15]),
        " ".join(GOLD.split()[5:]),
        GOLD.replace("old", "o\uff4cd"),
    ],
)
def test_s10_a_near_copy_of_a_validation_row_is_dropped(near: str) -> None:
    assert judged(near) == "copy"


@pytest.mark.parametrize(
    "other",
    [
        "a museum in the north bought boats from many towns and shows them in its largest hall",
        "before winter came the town had no boats left and nobody knew who had sold them or why",
        "old wooden boats",
    ],
)
def test_s10_a_row_about_the_same_thing_in_other_words_is_kept(other: str) -> None:
    assert judged(other) == ""


def test_s10_the_threshold_is_the_documented_one() -> None:
    assert ContaminationFilter.of([]).most == THRESHOLD


def test_s10_a_teacher_that_copies_gets_no_near_copy_into_training(tmp_path: Path) -> None:
    """It hands back what prompts showed, whole or with a word changed; an independent count finds no row that is near."""
    world: World = build_world(tmp_path / "world")
    gold = [line.rpartition(",")[0] for line in (world.folder / "validation.csv").read_text().splitlines()[1:]]
    asked: list[int] = []

    def answer(body: dict[str, Any]) -> str | dict[str, Any]:
        asked.append(1)
        number, shown = len(asked), body["messages"][-2]["content"] if len(body["messages"]) > 1 else ""
        if number % 3 == 0:
            return gold[number % len(gold)]
        if number % 3 == 1 and shown:
            return " ".join(["so", *shown.split()[1:]])
        return server._fake_answer(body)

    with LoopbackServer(labels=LABELS) as server:
        server.answer = answer
        teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "attempts": 1}
        world.write_config({"teacher": teacher, "method.seed_rows": 12, "method.rounds": 1, "method.rationales": 2})
        results = run_config(world.config("student.epochs=1"), tmp_path / "run", quiet=True)
    assert results["methods"]["s3"]["dropped"]["copy"] > 0
    rows = [json.loads(line)["text"] for line in (tmp_path / "run" / "dataset.jsonl").read_text().splitlines()]
    assert rows
    assert [row for row in rows if max(shared(row, text) for text in gold) > THRESHOLD] == []


def test_s10_written_rows_that_are_near_a_test_row_are_counted_at_the_end(tmp_path: Path) -> None:
    """They cannot be filtered, since nothing may look at the test set; that there are some must be said."""
    world = build_world(tmp_path / "world")
    test = [line.rpartition(",")[0] for line in (world.folder / "test.csv").read_text().splitlines()[1:]]
    given = [(f"{text} again", LABELS[number % 3]) for number, text in enumerate(test[:6])]
    world.write_csv("given.csv", [*given, *((f"row {n} of another kind {n}", LABELS[n % 3]) for n in range(6))])
    world.write_config({"data.seed": {"path": "given.csv"}, "method.rounds": 0})
    run_config(world.config("student.epochs=1"), tmp_path / "run", quiet=True)
    assert "that repeat most of a row of the sealed test set: 6" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("method", ["crossfit", "s3", "teacher"])
def test_s10_a_trial_asks_keeps_and_says_nothing_of_the_test_set(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each test row has a canary, which is in no request, no answers file and no output; validation rows are asked about."""
    world = build_world(tmp_path / "world")
    test = [line.rpartition(",") for line in (world.folder / "test.csv").read_text().splitlines()[1:]]
    world.write_csv("test.csv", [(f"zqcanary{number} {text}", label) for number, (text, _, label) in enumerate(test)])
    gold = [line.rpartition(",")[0] for line in (world.folder / "validation.csv").read_text().splitlines()[1:]]
    with LoopbackServer(labels=LABELS) as server:
        asked = {"backend": "openai", "model": "loopback", "base_url": server.base_url}
        world.write_config({"teacher": asked, "method.name": method, "cache": str(tmp_path / "answers.db")})
        for option in ([], ["--json"]):
            outcome = stepsynth(capsys, "plan", world.config_path, "--try", *option)
            assert outcome.code == 0, outcome.err
            assert "zqcanary" not in outcome.out + outcome.err
        bodies = [seen.body.decode() for seen in server.requests]
    assert len([body for body in bodies if any(text in body for text in gold)]) >= 20
    assert not any("zqcanary" in body for body in bodies)
    with closing(sqlite3.connect(tmp_path / "answers.db")) as connection:
        dump = list(connection.iterdump())
    assert len(dump) > 20
    assert not any("zqcanary" in line for line in dump)


@pytest.mark.parametrize("near", [0, 1, 1234])
def test_s10_the_page_says_how_many_rows_are_near_the_test_set(tmp_path: Path, near: int) -> None:
    journal, results, config = build(tmp_path / "journal.db", Story())
    with closing(journal):
        info = json.dumps({"rows": 4, "near_test": near})
        journal._connection.execute("UPDATE stages SET info = ? WHERE kind = 'test'", (info,))
        page = render_report(journal, results, config)
    assert (f"sealed test set: {near:,}." in page) == bool(near)
    assert ("repeat most of a row" in page) == bool(near)
