"""A label whose answers one rule keeps dropping: the teacher is told, what does not help is given up, and the page says it."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from loopback import LoopbackServer
from stepsynth.cli.running import print_results, short_line
from stepsynth.config import BudgetConfig, MatchConfig, TeacherConfig, parse_config, parse_stored
from stepsynth.errors import BudgetError
from stepsynth.filters import FilterPipeline
from stepsynth.filters.advice import advice
from stepsynth.filters.artefact import LabelLeakFilter
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.schema import Schema
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import Journal
from stepsynth.methods import MethodContext
from stepsynth.methods.seed import SeedPlan
from stepsynth.prompts import Prompts
from stepsynth.run.settling import settle
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Example, Message, Request, Response, Sampling, Usage
from world import build_world

LABELS = ("acronym", "river", "tool")
TOLD = 'Do not use the word "acronym".'


@dataclass(frozen=True)
class Plan:
    """Independent requests, as a method of a package may give them: no templates of ours."""

    targets: Mapping[str, int]
    stage: str = "round-0/seed"
    kind: str = "seed"

    def request(self, label: str, number: int, index: int) -> Request:
        return Request((Message("user", f"Write about {label}."),), Sampling(), number, self.stage, index, label)


def names_it(request: Request) -> Response:
    """Name the label *acronym* until the prompt says not to."""
    named = request.label == "acronym" and "Do not use" not in request.messages[-1].content
    subject = "this acronym" if named else "these letters" if request.label == "acronym" else request.label
    return Response(f"What could {subject} mean in case {request.replicate}?", usage=Usage(3, 6, 0.0))


def always_names_it(request: Request) -> Response:
    subject = "this acronym" if request.label == "acronym" else request.label
    return Response(f"What could {subject} mean in case {request.replicate}?", usage=Usage(3, 6, 0.0))


def rules(targets: Mapping[str, int]) -> FilterPipeline:
    naming = LabelLeakFilter({"acronym": 0.0, "river": 1.0, "tool": 1.0}, {})
    return FilterPipeline((Schema(), naming, Duplicate(), LabelQuota(targets)))


def stage(
    journal: Journal,
    teacher: FakeTeacher,
    plan: Any,
    *,
    feedback: bool = True,
    budget: BudgetConfig | None = None,
    limit: float = 6.0,
    match: MatchConfig | None = None,
) -> dict[str, Any]:
    """Run one stage; return what the journal notes of it."""
    client = TeacherClient(TeacherConfig(backend="fake"), journal, budget or BudgetConfig(), teacher=teacher)
    generator = StageGenerator(
        client, journal, max_overgeneration=limit, progress=SilentProgress(), match=match, feedback=feedback
    )
    generator.run(plan, 0, rules(plan.targets), [])
    return next(info for name, _, _, info, _ in journal.stages() if name == plan.stage)


def only(script: Any) -> FakeTeacher:
    return FakeTeacher(script, blemishes={})


def asked(journal: Journal) -> Counter[str]:
    return Counter(row.label for row in journal.rows())


# what the teacher is told -------------------------------------------------------------------


def test_the_teacher_is_told_what_to_avoid_and_the_label_gets_its_rows(tmp_path: Path) -> None:
    targets = dict.fromkeys(LABELS, 60)
    with closing(Journal(tmp_path / "new.db")) as journal, closing(Journal(tmp_path / "old.db")) as before:
        info = stage(journal, only(names_it), Plan(targets))
        old = stage(before, only(names_it), Plan(targets), feedback=False)
        assert old["missing"] == {"acronym": 60}
        assert asked(before)["acronym"] == 360
        assert info["told"] == {"acronym": {"names the label": TOLD}}
        assert info["missing"] == {}
        assert "stopped" not in info
        assert asked(journal)["acronym"] < 160
        # What the other labels were asked and kept is the same to the last row.
        others = [[(r.key, r.text, r.reason) for r in j.rows() if r.label != "acronym"] for j in (journal, before)]
        assert others[0] == others[1]


def test_where_nothing_is_dropped_a_stage_is_what_it_was(tmp_path: Path) -> None:
    found = []
    for feedback in (True, False):
        with closing(Journal(tmp_path / f"{feedback}.db")) as journal:
            info = stage(journal, only(names_it), Plan({"river": 90, "tool": 40}), feedback=feedback)
            found.append((info, [(row.key, row.position, row.text, row.reason) for row in journal.rows()]))
    assert found[0] == found[1]


def test_a_stage_that_was_stopped_after_the_hint_goes_on_with_the_same_requests(tmp_path: Path) -> None:
    targets = dict.fromkeys(LABELS, 60)
    rows = []
    for name, first in (("whole", None), ("resumed", 230)):
        with closing(Journal(tmp_path / f"{name}.db")) as journal:
            if first:
                with pytest.raises(BudgetError):
                    stage(journal, only(names_it), Plan(targets), budget=BudgetConfig(requests=first))
            teacher = only(names_it)
            stage(journal, teacher, Plan(targets))
            rows.append([(row.key, row.position, row.text, row.reason) for row in journal.rows()])
            if first:
                assert len(teacher.calls) == len(rows[0]) - first
    assert rows[0] == rows[1]


def test_a_later_stage_begins_with_what_an_earlier_one_learned(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "j.db")) as journal:
        stage(journal, only(names_it), Plan({"acronym": 20, "river": 20}))
        later = stage(journal, only(names_it), Plan({"acronym": 20, "river": 20}, stage="round-1/extrapolate"))
        assert later["told"] == {"acronym": {"names the label": TOLD}}
        assert not [row for row in journal.rows(stage="round-1/extrapolate") if row.reason == "names the label"]


def test_requests_by_number_are_told_too_and_no_label_is_left_out(tmp_path: Path) -> None:
    """With a match every label has its share whatever it yields, so none is given up."""
    with closing(Journal(tmp_path / "j.db")) as journal:
        match = MatchConfig(unit="requests", amount=700)
        info = stage(journal, only(always_names_it), Plan(dict.fromkeys(LABELS, 20)), match=match)
        assert info["told"] == {"acronym": {"names the label": TOLD}}
        assert set(asked(journal).values()) <= {233, 234}
        assert "stopped" not in info


# templates ----------------------------------------------------------------------------------


def seed_plan(**prompts: str) -> SeedPlan:
    config = parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": list(LABELS), "prompt_style": "small", "prompts": prompts},
            "data": {"validation": {"path": "v.csv"}},
            "method": {"name": "s3", "seed_rows": 60, "rationales": 0},
        }
    )
    gold = [Example(f"g{i}", f"Row {i}", label) for i, label in enumerate(LABELS)]
    family = create_family(config.task)
    return SeedPlan(MethodContext(config, Prompts(config.task), family, gold, (), rationales=dict, mistakes=lambda _: []), None)


@pytest.mark.parametrize(
    ("template", "whole"),
    [
        ("Ein Text: {{ label }}.", f"Ein Text: acronym. {TOLD}"),
        (
            "Ein Text: {{ label }}.{% if avoid %} Achtung! {{ avoid }}{% endif %} Nur den Text.",
            f"Ein Text: acronym. Achtung! {TOLD} Nur den Text.",
        ),
        ("--- system\nBe brief. {{ avoid }}\n--- user\n{{ label }}", "acronym"),
    ],
)
def test_own_templates_are_told_where_they_say_it_or_at_their_end(template: str, whole: str, tmp_path: Path) -> None:
    last: dict[str, Request] = {}

    def script(request: Request) -> Response:
        last[request.label] = request
        told = any("Do not use" in message.content for message in request.messages)
        return Response(
            f"{'These letters' if told else 'The acronym'} in case {request.replicate} again and again.", usage=Usage(1, 1, 0.0)
        )

    with closing(Journal(tmp_path / "j.db")) as journal:
        stage(journal, only(script), seed_plan(seed=template))
    assert last["acronym"].messages[-1].content == whole
    assert any(TOLD in message.content for message in last["acronym"].messages)
    assert not any("Do not use" in message.content for message in last["river"].messages)


def test_the_sentence_fits_the_reason() -> None:
    checks = (Schema(min_words=4, max_words=30), LabelLeakFilter({}, {"ask_refund": "wants the money back"}))
    naming = advice(checks, "ask_refund", "names the label", ["A refund, please.", "She wants the money now.", "refunds!"])
    assert naming == 'Do not use the word "refund". Do not repeat the description of what is asked for.'
    assert advice(checks, "a", "too short", []) == "Write at least 4 words."
    assert advice(checks, "a", "too long", []) == "Keep it under 30 words."
    assert advice(checks, "a", "has a web address", []) == "Texts are refused for this, so avoid it: has a web address."
    assert not any(advice(checks, "a", reason, []) for reason in ("", "surplus", "failed", "refusal", "empty", "label in doubt"))


# labels that are given up -------------------------------------------------------------------


def test_a_label_that_yields_nothing_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "j.db")) as journal:
        info = stage(journal, only(always_names_it), Plan(dict.fromkeys(LABELS, 66)))
        assert info["stopped"] == {"acronym": {"answers": 48, "good": 0, "reason": "names the label"}}
        assert info["missing"] == {"acronym": 66}
        assert asked(journal)["acronym"] == 73 + 48
        assert Counter(row.label for row in journal.rows(accepted=True)) == {"river": 66, "tool": 66}


def test_a_large_stage_looks_before_it_asks_for_everything(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "j.db")) as journal:
        info = stage(journal, only(always_names_it), Plan({"acronym": 2000, "river": 300}))
        assert asked(journal)["acronym"] == 200 + 48
        assert info["missing"] == {"acronym": 2000}


def test_a_label_with_a_small_but_real_yield_is_not_given_up(tmp_path: Path) -> None:
    """One answer in seven is good, and the limit allows for as many: the label gets all of its rows."""

    def seldom(request: Request) -> Response:
        return Response("" if request.replicate % 7 else f"What is meant in case {request.replicate}?", usage=Usage(1, 1, 0.0))

    with closing(Journal(tmp_path / "j.db")) as journal:
        assert stage(journal, only(seldom), Plan({"river": 40}), limit=10)["missing"] == {}


# old runs -----------------------------------------------------------------------------------


def test_a_run_that_began_without_feedback_goes_on_without_it(tmp_path: Path) -> None:
    config = build_world(tmp_path / "world").config()
    assert settle(config, None).method.feedback == "drops"
    stored = settle(config, None).resolved()
    begun = parse_stored({**stored, "method": {k: v for k, v in stored["method"].items() if k != "feedback"}})
    assert begun.method.feedback == "none"
    assert "feedback" not in begun.resolved()["method"]
    resumed = settle(config, begun)
    assert resumed.method.feedback == "none"
    assert resumed.result_digest() == begun.result_digest() != settle(config, None).result_digest()


# the whole command --------------------------------------------------------------------------


def test_the_page_and_the_plan_say_where_the_answers_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over HTTP and the whole command: one label is named in every answer, whatever is said."""
    count = iter(range(10_000))

    def answer(body: dict[str, Any]) -> str:
        subject = "This kalm thing" if "Category: kalm" in body["messages"][-1]["content"] else "That"
        return f"{subject} is number {next(count)} of its kind."

    with LoopbackServer(answer) as server:
        world = build_world(tmp_path)
        world.write_config(
            {
                "teacher": {"backend": "openai", "base_url": server.base_url, "model": "loopback", "concurrency": 1},
                "task.prompt_style": "small",
                "method": {"name": "zerogen", "seed_rows": 60},
                "student.head": "probe",
                "student.epochs": 1,
            }
        )
        assert stepsynth(capsys, "run", world.config_path, "--quiet").code == 0
        told = [seen.json["messages"][-1]["content"] for seen in server.completions]
        plan = stepsynth(capsys, "plan", world.config_path)
    assert sum('Do not use the word "kalm".' in content for content in told) == 44
    assert not any("Do not use" in content for content in told if "kalm" not in content)
    assert plan.code == 0
    assert "labels    3: the first stage needs 20 accepted answers for each, from at most 120 requests each" in plan.out
    assert "so far    kalm: 66 asked, 0 of 20 accepted; most dropped: 66 names the label" in plan.out
    folder = tmp_path / "runs" / "invented"
    page = html.unescape((folder / "report.html").read_text())
    assert "kalm took 66 of 110 answers (60%) for 20 of 60 wanted rows; most were dropped: 66 names the label." in page
    assert (
        'The stage "rows from plain prompts" gave up on kalm: 0 of the last 44 answers were good, '
        "most of the others dropped as 'names the label'." in page
    )
    assert "What the teacher was told to avoid" in page
    short = "rows from plain prompts ended short: 40 of 60 wanted rows (missing: kalm 20); most were dropped: 66 names the label."
    assert short in stepsynth(capsys, "status", folder).out
    status = json.loads(stepsynth(capsys, "status", folder, "--json").out)
    print_results(status["results"], folder)
    assert short in capsys.readouterr().out
    assert status["stages"][0]["stopped"] == {"kalm": {"answers": 44, "good": 0, "reason": "names the label"}}


def test_a_stage_that_is_short_says_how_far_and_why() -> None:
    stage: dict[str, Any] = {"stage": "round-0/seed", "kind": "seed", "accepted": 3, "dropped": {}, "missing": {}}
    assert short_line(stage) == short_line({**stage, "missing": {"a": 0}}) == ""
    many = {f"label-{number}": number for number in range(1, 8)}
    assert short_line({**stage, "missing": many, "dropped": {"surplus": 90, "too long": 2, "empty": 2}}) == (
        "seed rows ended short: 3 of 31 wanted rows (missing: label-7 7, label-6 6, label-5 5, label-4 4, label-3 3 "
        "and 2 more labels); most were dropped: 2 empty."
    )
    reasons = {**stage, "stage": "round-0/rationales", "kind": "rationales", "missing": {"": 2}}
    assert short_line(reasons) == "reasons ended short: 3 of 5 wanted reasons (missing: in all 2)."
