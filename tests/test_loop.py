"""The loop and its values: rounds in their order, whoever judges them; rows without made-up requests; kinds by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepsynth.filters import REASONS
from stepsynth.journal import Row
from stepsynth.loop import _go_rounds
from stepsynth.runtime.progress import SilentProgress
from stepsynth.types import Candidate, DropReason, GeneratedRow, Message, Request, Sampling, Span, StageKind

SOURCE = Path(__file__).parents[1] / "src" / "stepsynth"


@dataclass
class Story:
    """A method, a runner and a judge that write down what they are asked for."""

    rounds: int = 2
    name: str = "s3"
    plans_of: tuple[int, ...] = (2, 1, 1)
    gained: bool = True
    told: list[str] = field(default_factory=list)
    no_gain: str = "no gain"
    no_mistakes: str = "no mistakes"

    def plans(self, number: int, ctx: object) -> Iterator[Any]:
        for place in range(self.plans_of[number]):
            self.told.append(f"plan {number}.{place}")
            yield SimpleNamespace(stage=f"{number}.{place}")

    def write(self, plan: Any, number: int) -> str:
        self.told.append(f"write {plan.stage}")
        return str(plan.stage)

    def rest(self) -> None:
        self.told.append("rest")

    def scores(self, before: int) -> Sequence[Sequence[float]]:
        return [[float(self.gained and row < 20 * number) for row in range(100)] for number in range(before)]

    def judge(self, number: int) -> None:
        self.told.append(f"judge {number}")

    def settle(self, last: int) -> None:
        self.told.append(f"settle {last}")


class Notes(SilentProgress):
    def __init__(self, story: Story) -> None:
        self._story = story

    def note(self, message: str) -> None:
        self._story.told.append(message)


def told(story: Story, stop: str = "never") -> list[str]:
    one: Any = story
    ctx: Any = SimpleNamespace(config=SimpleNamespace(method=SimpleNamespace(stop=stop)))
    _go_rounds(one, ctx, one, one, Notes(story))
    return story.told


def test_a_round_is_written_stage_by_stage_then_judged_and_the_last_one_settles() -> None:
    """Each stage is finished before the next is planned: a plan may need what the stage before it wrote."""
    first = ["plan 0.0", "write 0.0", "plan 0.1", "write 0.1", "rest", "judge 0"]
    later = ["plan 1.0", "write 1.0", "rest", "judge 1", "plan 2.0", "write 2.0", "rest", "judge 2"]
    assert told(Story()) == [*first, *later, "settle 2"]


def test_a_later_round_without_a_plan_ends_the_loop() -> None:
    assert told(Story(plans_of=(1, 0, 1)))[-3:] == ["judge 0", "no mistakes", "settle 0"]


def test_the_first_round_may_have_nothing_to_write() -> None:
    """So it is where gold rows alone are learned from, and where the user brought the seed."""
    assert told(Story(rounds=0, plans_of=(0,))) == ["rest", "judge 0", "settle 0"]


@pytest.mark.parametrize("gained", [True, False])
def test_rounds_that_gain_nothing_end_the_loop_where_that_is_wanted(gained: bool) -> None:
    found = told(Story(rounds=4, plans_of=(1, 1, 1, 1, 1), gained=gained), "no-gain")
    assert found[-2:] == (["judge 4", "settle 4"] if gained else ["no gain", "settle 2"])
    assert told(Story(rounds=4, plans_of=(1, 1, 1, 1, 1), gained=False))[-1] == "settle 4"


def test_a_candidate_knows_what_it_was_asked_for_and_what_its_prompt_showed() -> None:
    turns = (Message("user", "Write."), Message("assistant", "Shown."), Message("user", "Again."))
    span = Span("Ann", 3)
    request = Request(turns, Sampling(), 5, "round-1/extrapolate", 7, "pos", "harvest-2", "By Ann.", span, parts=3)
    candidate = Candidate.of(request, "k", "Who?", "length", part=2)
    assert candidate.row == GeneratedRow("round-1/extrapolate", 7, "k", "pos", "harvest-2", "Who?", "By Ann.", span, 2)
    assert (candidate.finish_reason, candidate.shown, candidate.cut) == ("length", ("Shown.",), False)
    example = candidate.row.example
    assert (example.id, example.label, example.answers) == ("round-1/extrapolate/7.2", "pos", (span,))
    assert candidate.with_text("W?", cut=True) == Candidate(
        GeneratedRow("round-1/extrapolate", 7, "k", "pos", "harvest-2", "W?", "By Ann.", span, 2), "length", ("Shown.",), True
    )


def test_a_row_of_the_journal_is_a_generated_row() -> None:
    row = Row.read("round-0/seed", 0, "seed", 4, "k", "pos", None, "Text.", "meta", "", "[]")
    assert isinstance(row, GeneratedRow)
    assert (row.kind, row.reason, row.example.id) == (StageKind.SEED, DropReason.META, "round-0/seed/4")


def test_every_reason_is_explained() -> None:
    assert list(REASONS) == list(DropReason)


def spelt(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that compare a stage's kind, or why a row was dropped, with a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asks = any(ast.unparse(side).rpartition(".")[2] in ("kind", "reason", 'stage["kind"]') for side in sides)
            texts = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            if asks and texts & {*StageKind, *DropReason}:
                yield node.lineno


def test_kinds_and_reasons_are_compared_by_name() -> None:
    assert list(spelt(ast.parse('row.kind != "rationales"'))) == list(spelt(ast.parse("v.reason in ('', 'surplus')"))) == [1]
    paths = [path for path in SOURCE.rglob("*.py") if "teachers" not in path.parts]
    found = [f"{path.name}:{line}" for path in paths for line in spelt(ast.parse(path.read_text(encoding="utf-8")))]
    assert found == []


def test_only_what_asks_the_teacher_makes_requests() -> None:
    """A filter or the loop that makes one up would need a row, not a request."""
    paths = {path.relative_to(SOURCE).parts[0]: path for path in SOURCE.rglob("*.py") if " Request(" in path.read_text("utf-8")}
    assert not set(paths) & {"filters", "loop.py", "training", "run_data.py"}
