"""The small worlds keep what other tests take for granted: a student that still makes mistakes after every round."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from conditions import Margin
from family_worlds import FAMILIES, build_family_world
from stepsynth.cli.running import run_config
from stepsynth.journal import Journal
from stepsynth.journal.results import find_mistakes
from world import World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.learns
@pytest.mark.parametrize("kind", ["world", *FAMILIES])
def test_a_student_of_few_steps_errs_on_many_harvest_rows(kind: str, tmp_path: Path, margin: Margin) -> None:
    """Tests of kills, pages and comparisons need rows to extrapolate, from a student that hardly learns anything."""
    world: World = build_world(tmp_path) if kind == "world" else build_family_world(tmp_path, kind)
    run_config(world.config("method.rounds=1"), tmp_path / "run", quiet=True)
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        harvest = journal.gold("harvest")
        for number in (0, 1):
            # A row without a label has nothing to extrapolate.
            usable = [mistake for mistake in find_mistakes(journal, number) if mistake.example.label or kind == "extractive_qa"]
            # At least 0.27 over six seeds; one row of ten would do.
            margin.above(len(usable) / len(harvest), 0.1, f"round {number}")
