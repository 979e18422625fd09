"""R21: whatever happens in whatever order, no committed answer is asked for again and no row depends on it.

A Hypothesis state machine over the client, the generator, the filters and the journal. A crash
leaves the files as they are at that instant, on either side of any commit; nothing is closed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stepsynth.config import BudgetConfig, RunConfig, parse_config
from stepsynth.errors import RunError
from stepsynth.filters import FilterPipeline
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import Journal
from stepsynth.report.derived import dataset_lines
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Message, Request, Sampling

LABELS = ("a", "b")
STAGES = ("round-0/rationales", "round-0/seed", "round-1/extrapolate", "round-2/extrapolate")
WANTED = 9


class Crash(RunError):
    """The process is gone; whatever it still does goes to files that nobody reads again."""


@dataclass(frozen=True)
class Plan:
    """A stage of the machine's run."""

    stage: str

    @property
    def kind(self) -> str:
        return self.stage.rpartition("/")[2]

    @property
    def targets(self) -> dict[str, int]:
        return dict.fromkeys(LABELS, WANTED)

    def request(self, label: str, number: int, index: int) -> Request:
        """Return a request that tells stages, labels and numbers apart."""
        return Request((Message("user", f"{self.stage} {label}"),), Sampling(), number, self.stage, index, label)


def config(concurrency: int) -> RunConfig:
    return parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": dict.fromkeys(LABELS, "")},
            "data": {"validation": {"path": "v.csv"}},
            "teacher": {"backend": "fake", "concurrency": concurrency, "attempts": 8},
        }
    )


def teacher() -> FakeTeacher:
    identity = config(1).teacher.identity()
    return FakeTeacher(identity=identity, faults={"refusal": 0.1, "truncated": 0.1, "empty": 0.05})


def write(journal: Journal, client: TeacherClient, stage: str) -> None:
    plan = Plan(stage)
    generator = StageGenerator(client, journal, max_overgeneration=6, progress=SilentProgress())
    generator.run(plan, int(stage[6]), FilterPipeline.for_rationales(plan.targets), journal.dataset())


def rows(journal: Journal) -> list[tuple[object, ...]]:
    return [(row.stage, row.position, row.key, row.label, row.text, row.reason) for row in journal.rows()]


@cache
def undisturbed() -> dict[str, list[tuple[object, ...]]]:
    """Return the rows that each stage has when nothing ever happens."""
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder) / "journal.db")) as journal:
        client = TeacherClient(config(1).teacher, journal, BudgetConfig(), teacher=teacher(), pause=lambda _: None)
        for stage in STAGES:
            write(journal, client, stage)
        found = rows(journal)
    return {stage: [row for row in found if row[0] == stage] for stage in STAGES}


class Run(RuleBasedStateMachine):
    """One run directory's journal, its teacher and what must hold of them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.lives = 0
        self.folder = Path(self.root.name) / "0"
        self.folder.mkdir()
        self.committed: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.open(4)

    def open(self, concurrency: int) -> None:
        self.journal = Journal(self.folder / "journal.db")
        self.teacher = teacher()
        self.executor = TeacherClient(
            config(concurrency).teacher, self.journal, BudgetConfig(), teacher=self.teacher, pause=lambda _: None
        )

    def keys(self) -> set[str]:
        with closing(Journal(self.folder / "journal.db")) as journal:
            return {key for (key,) in journal._connection.execute("SELECT key FROM answers")}

    def account(self) -> None:
        """Take over what the teacher was asked since the last look; none of it may have been known then."""
        asked = Counter(self.teacher.calls)
        assert not self.committed & set(asked), "a committed answer was asked for again"
        self.asked += asked
        self.teacher.calls.clear()
        self.committed |= self.keys()

    @rule(first=st.integers(0, 30), count=st.integers(1, 12), stage=st.sampled_from(STAGES), label=st.sampled_from(LABELS))
    def ask(self, first: int, count: int, stage: str, label: str) -> None:
        """Ask for answers ahead of any plan, as a preview or another method would."""
        requests = [Plan(stage).request(label, number, 0) for number in range(first, first + count)]
        known = self.committed.copy()
        answers = self.executor.run(requests)
        assert set(answers) >= {self.executor.key(request) for request in requests}
        assert not known & set(self.teacher.calls)
        self.account()

    @precondition(lambda self: not self.journal.stage_done(STAGES[-1]))
    @rule()
    def generate(self) -> None:
        """Write the next stage."""
        write(self.journal, self.executor, next(stage for stage in STAGES if not self.journal.stage_done(stage)))
        self.account()

    @precondition(lambda self: not self.journal.stage_done(STAGES[-1]))
    @rule(at=st.integers(1, 6), concurrency=st.sampled_from([1, 3, 16]))
    def crash(self, at: int, concurrency: int) -> None:
        """Write the next stage, and be gone at the ``at``-th side of a commit, if it has that many."""
        self.lives += 1
        after = Path(self.root.name) / str(self.lives)
        passed = 0

        def stop(name: str) -> None:
            nonlocal passed
            passed += 1
            if passed == at:
                shutil.copytree(self.folder, after)
            if passed >= at:
                raise Crash(name)

        stage = next(stage for stage in STAGES if not self.journal.stage_done(stage))
        with patch("stepsynth.journal.database.fail_point", stop):
            try:
                write(self.journal, self.executor, stage)
            except Crash:
                pass
            else:
                shutil.copytree(self.folder, after)
        asked = Counter(self.teacher.calls)
        assert not self.committed & set(asked)
        self.asked += asked
        self.journal.close()
        self.folder = after
        self.open(concurrency)
        kept = self.keys()
        assert self.committed <= kept, "an answer that was committed is gone"
        self.committed = kept

    @rule(concurrency=st.sampled_from([1, 2, 64]))
    def resume(self, concurrency: int) -> None:
        """Close and open, with another concurrency."""
        self.executor.close()
        self.journal.close()
        self.open(concurrency)

    @rule()
    def export(self) -> None:
        """The data set is what the finished stages accepted, in plan order."""
        lines = [json.loads(line) for line in dataset_lines(self.journal, config(1))]
        due = [
            (f"{stage}/{row[1]}", row[4])
            for stage in STAGES[1:]
            if self.journal.stage_done(stage)
            for row in undisturbed()[stage]
            if not row[5]
        ]
        assert [(line["id"], line["text"]) for line in lines] == due

    @invariant()
    def rows_do_not_depend_on_what_happened(self) -> None:
        found = rows(self.journal)
        done = [stage for stage in STAGES if self.journal.stage_done(stage)]
        assert found == [row for stage in done for row in undisturbed()[stage]]

    @invariant()
    def every_row_is_accounted_for(self) -> None:
        counted = Counter((row.stage, row.label) for row in self.journal.rows(accepted=True))
        for name, _, _, info, _ in self.journal.stages():
            for label, target in info["targets"].items():
                assert counted[name, label] + info["missing"].get(label, 0) == target

    @invariant()
    def the_journal_holds_what_was_answered(self) -> None:
        totals: Any = self.journal.totals()
        assert totals.requests == len(self.committed)
        assert self.committed <= set(self.asked), "nothing is there that was never asked for"

    def teardown(self) -> None:
        self.journal.close()
        self.root.cleanup()


def explore(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    quick = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(Run, settings=quick)


def test_r21_no_order_of_asking_crashing_and_resuming_shows_in_the_rows() -> None:
    explore(12, 12)


@pytest.mark.slow
def test_r21_nor_does_any_of_many_orders() -> None:
    explore(300, 40)
