"""Methods: pure plans, prompts in common, what each may show the teacher, and what the loop makes of them."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from family_worlds import FAMILIES, FamilyWorld, asked, build_family_world, lab_of, lend_student, read_lines, write_lines
from stepsynth.cli.running import read_status, run_config
from stepsynth.config import RunConfig
from stepsynth.errors import PermanentError, RunError
from stepsynth.filters import FilterPipeline
from stepsynth.generation import TeacherClient
from stepsynth.generation.oversampling import StageGenerator
from stepsynth.journal import Journal
from stepsynth.journal.results import find_mistakes
from stepsynth.loop import run_loop
from stepsynth.methods import Plan, create_method
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.runtime.progress import RequestStats, SilentProgress
from stepsynth.students import create_student
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Example, Prediction, Request, Response, Usage
from world import World

pytestmark = pytest.mark.usefixtures("one_thread")

WRITING = ("s3", "seed-only", "zerogen", "goldgen", "s3+gold")
METHODS = (*WRITING, "gold", "teacher")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base model for all worlds."""
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def worlds(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FamilyWorld]:
    """A world per family, only read."""
    root = tmp_path_factory.mktemp("worlds")
    return {family: build_family_world(root / family, family, student=student) for family in FAMILIES}


@pytest.fixture(scope="module")
def runs(worlds: dict[str, FamilyWorld]) -> dict[str, Path]:
    """Every method run once in the classification world; they share one file of answers, in this order."""
    world = worlds["classification"]
    folders = {name: world.folder / "runs" / name for name in METHODS}
    for name, folder in folders.items():
        run_config(world.config(f"method.name={name}"), folder, quiet=True, students=world.folder / "students")
    return folders


def plans(world: World, method: str, wrong: int | None = None) -> list[Plan]:
    """Return the plans of rounds 0 and 1, made anew."""
    ctx, _ = lab_of(world, f"method.name={method}", wrong=wrong)
    chosen = create_method(ctx.config)
    return [plan for number in range(chosen.rounds + 1) for plan in chosen.plans(number, ctx)]


def first(plan: Plan, count: int) -> list[Request]:
    """Return the first ``count`` requests for every label."""
    return [plan.request(label, number, number) for label in plan.targets for number in range(count)]


def shown(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def journal_of(folder: Path) -> closing[Journal]:
    return closing(Journal(folder / "journal.db"))


# plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", WRITING)
def test_a_request_is_the_same_whatever_was_asked_before(worlds: dict[str, FamilyWorld], family: str, method: str) -> None:
    calm, mixed = plans(worlds[family], method, 4), plans(worlds[family], method, 4)
    assert [plan.stage for plan in calm] == [plan.stage for plan in mixed]
    assert calm
    for one, other in zip(calm, mixed, strict=True):
        order = [(label, number) for label in one.targets for number in range(25)]
        expected = {place: one.request(*place, 7) for place in order}
        random.Random(3).shuffle(order)
        assert {place: other.request(*place, 7) for place in order} == expected
        assert len({request.key({}) for request in expected.values()}) == len(expected), "a request is asked for twice"


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_with_prompts_in_common_ask_for_the_same(worlds: dict[str, FamilyWorld], family: str) -> None:
    keys = {
        method: {plan.stage: [request.key({}) for request in first(plan, 10)] for plan in plans(worlds[family], method, 4)}
        for method in ("s3", "seed-only", "s3+gold")
    }
    assert list(keys["seed-only"]) == ["round-0/rationales", "round-0/seed"]
    assert all(keys["s3"][stage] == keys["seed-only"][stage] for stage in keys["seed-only"])
    assert list(keys["s3"]) == ["round-0/rationales", "round-0/seed", "round-1/extrapolate"]
    assert keys["s3+gold"] == keys["s3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_zerogen_shows_no_gold_text_and_no_reason(worlds: dict[str, FamilyWorld], family: str) -> None:
    ctx, inputs = lab_of(worlds[family], "method.name=zerogen")
    (plan,) = create_method(ctx.config).plans(0, ctx)
    told = [shown(request) for request in first(plan, 30)]
    gold = [*inputs.validation.harvest, *inputs.validation.select]
    assert not [row.text for row in gold for text in told if row.text in text]
    assert not [text for text in told if "reason" in text]


@pytest.mark.parametrize("family", FAMILIES)
def test_goldgen_takes_every_harvest_row_in_turn(worlds: dict[str, FamilyWorld], family: str) -> None:
    ctx, _ = lab_of(worlds[family], "method.name=goldgen")
    (plan,) = create_method(ctx.config).plans(0, ctx)
    rows = [row for row in ctx.harvest if row.label or family == "extractive_qa"]
    assert {row.label for row in rows} == set(plan.targets)
    for label in plan.targets:
        own = [row.id for row in rows if row.label == label]
        assert [plan.request(label, number, number).source for number in range(2 * len(own))] == own * 2
    assert sum(plan.targets.values()) == ctx.config.method.seed_rows


@pytest.mark.parametrize("family", ["pair", "extractive_qa"])
@pytest.mark.parametrize("method", ["zerogen", "seed-only"])
def test_contexts_take_turns(worlds: dict[str, FamilyWorld], family: str, method: str) -> None:
    ctx, _ = lab_of(worlds[family])
    plan = plans(worlds[family], method)[-1]
    for label in plan.targets:
        for count in (len(ctx.contexts) - 1, 3 * len(ctx.contexts)):
            used = Counter(plan.request(label, number, number).context for number in range(count))
            assert max(used.values()) - min(used.get(context, 0) for context in ctx.contexts) <= 1
            assert set(used) <= set(ctx.contexts)


@pytest.mark.parametrize("method", ["zerogen", "seed-only", "goldgen", "s3"])
def test_a_question_is_asked_for_a_span_of_the_context_that_it_shows(worlds: dict[str, FamilyWorld], method: str) -> None:
    requests = [r for plan in plans(worlds["extractive_qa"], method, 5) if plan.kind != "rationales" for r in first(plan, 60)]
    assert requests
    for request in requests:
        assert request.answer is not None
        assert request.context[request.answer.start :].startswith(request.answer.text)
        asked = request.messages[-1].content
        # The passage, or the sentence around the answer with a gap for it.
        end = request.answer.start + len(request.answer.text)
        gap = f"{request.context[: request.answer.start]}_____{request.context[end:]}"
        assert request.context in asked or gap in asked
        assert f'"{request.answer.text}"' in asked


def test_one_context_gives_several_answers(worlds: dict[str, FamilyWorld]) -> None:
    """Otherwise a pool as small as a validation half would give the same question again and again."""
    plan = plans(worlds["extractive_qa"], "zerogen")[-1]
    answers: dict[str, set[str]] = {}
    for request in first(plan, 60):
        assert request.answer is not None
        answers.setdefault(request.context, set()).add(request.answer.text)
    assert min(map(len, answers.values())) > 2


@pytest.mark.parametrize("family", FAMILIES)
def test_extrapolation_keeps_label_context_and_answer(worlds: dict[str, FamilyWorld], family: str) -> None:
    ctx, _ = lab_of(worlds[family], wrong=6)
    sources = {mistake.example.id: mistake.example for mistake in ctx.mistakes(0)}
    plan = plans(worlds[family], "s3", 6)[-1]
    used = set()
    for request in first(plan, 12):
        source = sources[str(request.source)]
        used.add(source.id)
        assert (request.label, request.context) == (source.label, source.context)
        assert request.answer == (source.answers[0] if source.answers else None)
        assert source.text in shown(request)
        gap = source.context.replace(request.answer.text, "_____", 1) if request.answer else source.context
        assert gap in request.messages[-1].content
    assert used == {row.id for row in sources.values() if row.label or family == "extractive_qa"}


@pytest.mark.parametrize("setting", ["method.rationales=0", "method.seed_from=instruction"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_rationales_no_reason_is_asked_for_or_shown(worlds: dict[str, FamilyWorld], family: str, setting: str) -> None:
    ctx, _ = lab_of(worlds[family], setting)
    (plan,) = create_method(ctx.config).plans(0, ctx)
    assert plan.kind == "seed"
    assert not [request for request in first(plan, 5) if "reason" in shown(request) or "It shows" in shown(request)]
    reasoned = plans(worlds[family], "seed-only")[-1]
    assert all(shown(request).count("reason ") == 3 for request in first(reasoned, 5) if "|" not in request.label)


@pytest.mark.parametrize("method", ["s3", "crossfit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_seed_rows_from_the_instruction_are_asked_for_as_those_without_reasons(
    worlds: dict[str, FamilyWorld], family: str, method: str
) -> None:
    """So answers that were paid for with ``rationales: 0`` are found."""
    found = []
    for settings in (("method.rationales=0", "method.seed_from=reasons"), ("method.seed_from=instruction",)):
        ctx, _ = lab_of(worlds[family], f"method.name={method}", "method.label_check=none", *settings)
        (plan,) = create_method(ctx.config).plans(0, ctx)
        found.append([request.key(ctx.config.teacher.identity()) for request in first(plan, 5)])
    assert found[0] == found[1]


# runs ----------------------------------------------------------------------------------------


def test_no_select_or_test_text_reaches_a_request_of_any_method(runs: dict[str, Path], worlds: dict[str, FamilyWorld]) -> None:
    """The teacher, which is examined as a student is, answers them; then they are all that it is asked."""
    inputs = load_run_data(worlds["classification"].config())
    test = [row["text"] for row in read_lines(worlds["classification"].folder / "test.jsonl")]
    for name, folder in runs.items():
        requests = "\n".join(asked(folder))
        for text in (*test, *(row.text for row in inputs.validation.select)):
            assert (text in requests) == (name == "teacher"), name
        assert ("round-0/rationales" in stages(folder)) == (name in ("s3", "seed-only", "s3+gold"))
        harvest = [row.text in requests for row in inputs.validation.harvest]
        assert {"goldgen": all(harvest), "s3": any(harvest)}.get(name, not any(harvest) or name == "s3+gold"), name


def stages(folder: Path) -> list[str]:
    return [stage["stage"] for stage in read_status(folder)["stages"]]


def test_what_another_method_asked_is_not_bought_again(runs: dict[str, Path]) -> None:
    """In the order of `METHODS`: s3 pays, seed-only and s3+gold find everything in the shared file."""
    found = {name: read_status(folder) for name, folder in runs.items()}
    assert found["s3"]["from_cache"] == 0 < found["s3"]["requests"]
    for name in ("seed-only", "s3+gold"):
        assert found[name]["from_cache"] == found[name]["requests"] > 0
    assert found["zerogen"]["from_cache"] == found["goldgen"]["from_cache"] == 0


def test_every_method_ends_with_a_test_score_of_its_own_rows(runs: dict[str, Path]) -> None:
    results = {name: json.loads((folder / "results.json").read_text())["methods"][name] for name, folder in runs.items()}
    assert all(entry["test"]["n"] == 10 for entry in results.values())
    assert results["s3"]["rounds"][0]["rows"] == results["seed-only"]["rows"] == 12
    assert results["zerogen"]["rows"] == results["goldgen"]["rows"] == 12
    assert results["gold"]["rows"] == 20
    assert results["teacher"]["rows"] == 0
    assert (results["gold"]["requests"], results["teacher"]["requests"]) == (0, 20)


def test_s3_with_gold_is_judged_by_the_test_set_alone(runs: dict[str, Path]) -> None:
    """Its last student has seen the select half, so it has no score there and is the one that counts."""
    (entry,) = json.loads((runs["s3+gold"] / "results.json").read_text())["methods"].values()
    (loop,) = json.loads((runs["s3"] / "results.json").read_text())["methods"].values()
    last = entry["rounds"][-1]
    assert entry["rounds"][:-1] == loop["rounds"]
    assert last["select"] is last["harvest"] is None
    assert last["rows"] == loop["rounds"][-1]["rows"] + 20
    assert entry["best_round"] == last["round"] == 2
    assert entry["test"] == last["test"]


def test_few_shot_teachers_are_shown_harvest_rows_only(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    world = worlds["classification"]
    run_config(world.config("method.name=teacher", "method.few_shot=2", "cache=null"), tmp_path / "run", quiet=True)
    harvest = {row.text: row.label for row in load_run_data(world.config()).validation.harvest}
    for request in asked(tmp_path / "run"):
        turns = json.loads(request)["messages"]
        assert [role for role, _ in turns] == ["user", "assistant"] * 4 + ["user"]
        examples = [content.rpartition("\nText: ")[2] for _, content in turns[:-1:2]]
        assert [harvest[text] for text in examples] == [content for _, content in turns[1::2]]


class Heard(SilentProgress):
    """Remembers what each stage was to do and what it said it had done."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, str, list[int], list[RequestStats | None]]] = {}

    def start(self, stage: str, target: int, unit: str) -> None:
        self.stages[stage] = target, unit, [], []

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        *_, counts, traffics = list(self.stages.values())[-1]
        counts.append(done)
        traffics.append(traffic)


def test_the_teachers_own_answers_are_counted_as_they_come(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config("method.name=teacher", "cache=null")
    heard = Heard()
    with (
        closing(RunDirectory.open(tmp_path / "run", config)) as directory,
        closing(Journal(directory.journal_path)) as journal,
    ):
        run_loop(directory, journal, load_run_data(config), progress=heard)
    assert list(heard.stages) == ["the teacher's answers", "sealed test"]
    for target, unit, counts, traffics in heard.stages.values():
        assert unit == "answers"
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, target)
        assert None not in traffics


def test_transfer_extrapolates_the_mistakes_of_the_other_student(
    worlds: dict[str, FamilyWorld], student: Path, tmp_path: Path
) -> None:
    other = lend_student(tmp_path / "other", spread=0.5)
    world = worlds["classification"]
    run_config(world.config(f"method.mistakes_of={other}"), tmp_path / "transfer", quiet=True)
    run_config(world.config(f"student.model={other}"), tmp_path / "other-run", quiet=True)
    with journal_of(tmp_path / "transfer") as transfer, journal_of(tmp_path / "other-run") as own:
        assert transfer.graded(0, "harvest-other") == own.graded(0, "harvest")
        assert transfer.graded(0, "harvest") != own.graded(0, "harvest")
        mistakes = {mistake.example.id for mistake in find_mistakes(own, 0)}
        assert {row.source for row in transfer.rows(stage="round-1/extrapolate")} <= mistakes
        assert [row.text for row in transfer.dataset(1)] == [row.text for row in own.dataset(1)]


def test_a_continued_student_starts_from_the_weights_of_the_round_before(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config("student.continued=true")
    run = tmp_path / "run"
    run_config(config, run, quiet=True)
    with journal_of(run) as journal:
        rows, select = [row.example for row in journal.dataset(1)], journal.gold("select")
    made = {}
    for name, start in (("continued", run / "models" / "round-0"), ("scratch", None)):
        (tmp_path / name).mkdir()
        create_student(config).fit(rows, select, seed=config.seed, out=tmp_path / name, start=start)
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
    kept = (run / "models" / "round-1" / "model.safetensors").read_bytes()
    assert kept == made["continued"] != made["scratch"]


@pytest.mark.parametrize("family", FAMILIES)
def test_given_rows_are_the_seed_and_nothing_is_asked_for_but_rounds(
    worlds: dict[str, FamilyWorld], family: str, tmp_path: Path
) -> None:
    world = worlds[family]
    run_config(world.config("method.name=zerogen"), tmp_path / "first", quiet=True)
    written = read_lines(tmp_path / "first" / "dataset.jsonl")
    copies = read_lines(world.folder / "validation.jsonl")[:4]
    write_lines(tmp_path / "seed.jsonl", [*copies, *written, written[0]])
    config = world.config(f"data.seed.path={tmp_path / 'seed.jsonl'}", "cache=null")
    run_config(config, tmp_path / "second", quiet=True)
    assert stages(tmp_path / "second")[:2] == ["round-0/import", "round-0/train"]
    assert not {"round-0/seed", "round-0/rationales"} & set(stages(tmp_path / "second"))
    with journal_of(tmp_path / "second") as journal, journal_of(tmp_path / "first") as first_run:
        given = journal.rows(stage="round-0/import")
        assert [row.reason for row in given] == ["copy"] * 4 + [""] * len(written) + ["duplicate"]
        assert [(row.text, row.context, row.answer) for row in journal.dataset(0)] == [
            (row.text, row.context, row.answer) for row in first_run.dataset(0)
        ]
        assert len(journal.rows(stage="round-1/extrapolate")) == journal.totals().requests > 0


class WordStudent:
    """Learns which words go with which label, in no time; remembers what it was given.

    Args:
        frozen: always predict this label instead.
    """

    def __init__(self, frozen: str = "") -> None:
        self.frozen = frozen
        self.fits: list[tuple[list[Example], list[Example], Path | None]] = []

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Any = None,
    ) -> WordModel:
        self.fits.append((list(train), list(select), start))
        words = [[row.label, word] for row in train for word in row.text.lower().split()]
        (out / "words.json").write_text(json.dumps(words))
        return self.load(out)

    def load(self, folder: Path) -> WordModel:
        return WordModel(json.loads((folder / "words.json").read_text()), self.frozen)


class WordModel:
    def __init__(self, pairs: list[list[str]], frozen: str) -> None:
        self.labels = sorted({label for label, _ in pairs})
        self.known = {(label, word) for label, word in pairs}
        self.frozen = frozen

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        found = []
        for row in examples:
            votes = {label: sum((label, word) in self.known for word in row.text.lower().split()) for label in self.labels}
            label = self.frozen or max(self.labels, key=lambda name: votes[name])
            found.append(Prediction(row.id, label, {name: float(name == label) for name in self.labels}))
        return found


def loop(config: RunConfig, folder: Path, student: WordStudent, teacher: Any = None) -> Journal:
    """Run the loop with this student; return the open journal."""
    directory = RunDirectory.open(folder, config)
    journal = Journal(directory.journal_path)
    with closing(directory):
        run_loop(directory, journal, load_run_data(config), teacher=teacher, student=student)
    return journal


def test_no_gain_twice_ends_the_loop(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """A student that never learns gains nothing; without the rule it is given all its rounds."""
    world = worlds["classification"]
    changes = ("method.rounds=5", "method.seed_rows=6")
    with closing(loop(world.config(*changes, "method.stop=no-gain"), tmp_path / "stopped", WordStudent("kalm"))) as journal:
        assert journal.rounds() == [0, 1, 2]
        assert journal.evaluation(2, "test") is not None
    with closing(loop(world.config(*changes), tmp_path / "all", WordStudent("kalm"))) as journal:
        assert journal.rounds() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", METHODS)
def test_a_finished_run_does_nothing_when_it_is_run_again(
    worlds: dict[str, FamilyWorld], runs: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> dict[str, object]:
        files = [path for path in runs[name].rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".safetensors")]
        return {str(path): (path.read_bytes(), path.stat().st_ino) for path in files if "models" in path.parts} | {
            str(path): path.read_bytes() for path in files
        }

    def nobody(_: object) -> None:
        raise AssertionError("a teacher was opened")

    before = state()
    monkeypatch.setattr("stepsynth.generation.client.create_teacher", nobody)
    run_config(worlds["classification"].config(f"method.name={name}"), runs[name], quiet=True)
    assert state() == before


def test_the_stop_rule_and_the_last_student_decide_the_same_when_a_run_goes_on(
    worlds: dict[str, FamilyWorld], tmp_path: Path
) -> None:
    """The student on gold rows is no round of the loop: it neither counts for the rule nor is it trained twice."""
    config = worlds["classification"].config(
        "method.name=s3+gold", "method.rounds=5", "method.stop=no-gain", "method.seed_rows=6"
    )
    pupil = WordStudent("kalm")
    for _ in range(2):
        with closing(loop(config, tmp_path / "run", pupil)) as journal:
            assert journal.rounds() == [0, 1, 2, 3]
        # As if it had been killed before the test stage.
        with closing(sqlite3.connect(tmp_path / "run" / "journal.db")) as connection, connection:
            connection.execute("DELETE FROM stages WHERE kind = 'test'")
            connection.execute("DELETE FROM evaluations WHERE split = 'test'")
            connection.execute("DELETE FROM predictions WHERE split = 'test'")
    assert len(pupil.fits) == 4


def test_gold_learns_from_both_halves_and_asks_nobody(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    def nobody(request: Request) -> Exception:
        return AssertionError("the teacher was asked")

    config = worlds["classification"].config("method.name=gold")
    pupil, validation = WordStudent(), load_run_data(config).validation
    with closing(loop(config, tmp_path / "run", pupil, FakeTeacher(nobody))) as journal:
        assert pupil.fits == [([*validation.harvest, *validation.select], [], None)]
        assert (journal.totals().requests, journal.dataset()) == (0, [])
        assert journal.evaluation(0, "select") is journal.evaluation(0, "harvest") is None
        assert journal.evaluation(0, "test") is not None


def test_every_round_is_trained_from_scratch_on_all_rows_so_far(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    config = worlds["classification"].config("method.name=s3+gold", "method.rounds=2")
    pupil, validation = WordStudent(), load_run_data(config).validation
    with closing(loop(config, tmp_path / "run", pupil)) as journal:
        gold = [*validation.harvest, *validation.select]
        rows = [[row.example for row in journal.dataset(number)] for number in journal.rounds()]
        assert [fit[0] for fit in pupil.fits] == [*rows[:-1], [*rows[-1], *gold]]
        assert [fit[1] for fit in pupil.fits] == [list(validation.select)] * (len(rows) - 1) + [[]]
        assert all(fit[2] is None for fit in pupil.fits)


# matched budgets -----------------------------------------------------------------------------


def priced(request: Request) -> Response:
    """Answer as the fake teacher does, at a price that depends on the answer; an empty one is free."""
    answer = FakeTeacher().answer(request)
    usage = answer.usage
    return Response(
        answer.text, answer.finish_reason, Usage(usage.prompt_tokens, usage.completion_tokens, len(answer.text) / 1000)
    )


def spent_in_order(folder: Path, unit: str) -> list[float]:
    """Return what each answer of the plan took, in plan order."""
    with journal_of(folder) as journal:
        answers = {
            key: {"requests": 1.0, "tokens": float(tokens), "usd": cost or 0.0}[unit]
            for key, tokens, cost in journal._connection.execute(
                "SELECT key, prompt_tokens + completion_tokens, cost_usd FROM answers"
            )
        }
        stage = [row for row in journal.rows() if row.kind != "rationales"]
        reasons = [row for row in journal.rows() if row.kind == "rationales"]
        return [answers[row.key] for row in (*reasons, *stage)]


@pytest.mark.parametrize(("unit", "amount"), [("requests", 57), ("tokens", 2000), ("tokens", 7777), ("usd", 4.0)])
@pytest.mark.parametrize("method", ["zerogen", "seed-only", "goldgen"])
def test_a_matched_run_uses_the_amount_and_not_an_answer_more(
    worlds: dict[str, FamilyWorld], method: str, unit: str, amount: float, tmp_path: Path
) -> None:
    match = f"method.match={{unit: {unit}, amount: {amount}}}"
    config = worlds["classification"].config(f"method.name={method}", match, "cache=null")
    rows = []
    for name in ("one", "two"):
        with closing(loop(config, tmp_path / name, WordStudent(), FakeTeacher(priced))) as journal:
            rows.append(journal.rows())
        used = spent_in_order(tmp_path / name, unit)
        assert sum(used[:-1]) < amount <= sum(used) + 1e-9
    assert rows[0] == rows[1], "not deterministic"
    counts = Counter(row.label for row in rows[0] if row.kind not in ("rationales", "train"))
    assert max(counts.values()) - min(counts.values()) <= 1, "labels do not take turns"


@pytest.mark.parametrize("price", [None, 0.0])
def test_dollars_of_a_teacher_without_a_price_are_one_clear_error(
    worlds: dict[str, FamilyWorld], tmp_path: Path, price: float | None
) -> None:
    def script(request: Request) -> Response:
        return Response(FakeTeacher().answer(request).text, usage=Usage(1, 1, price))

    config = worlds["classification"].config("method.name=zerogen", "method.match={unit: usd, amount: 1}", "cache=null")
    with pytest.raises(RunError, match="price is unknown") as caught:
        loop(config, tmp_path / "run", WordStudent(), FakeTeacher(script))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_matched_stage_ends_though_no_answer_comes(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """A request that fails counts as sent, so a plan cannot go on for ever."""
    config = worlds["classification"].config("method.name=zerogen", "method.match={unit: requests, amount: 60}", "cache=null")

    def script(request: Request) -> Response | Exception:
        return PermanentError("no.") if request.index % 3 == 1 else FakeTeacher().answer(request)

    with closing(loop(config, tmp_path / "run", WordStudent(), FakeTeacher(script))) as journal:
        rows = journal.rows()
        assert len(rows) == 60
        assert Counter(row.reason for row in rows)["failed"] == 20


def test_a_matched_stage_has_no_targets_of_its_own(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """More rows than ``seed_rows`` are kept: the budget ends it, not the number of rows."""
    config = worlds["classification"].config("method.name=zerogen", "method.match={unit: requests, amount: 80}", "cache=null")
    with closing(loop(config, tmp_path / "run", WordStudent())) as journal:
        assert len(journal.dataset()) > config.method.seed_rows
        assert not [row for row in journal.rows() if row.reason == "surplus"]


def test_a_finished_matched_stage_is_not_asked_again(worlds: dict[str, FamilyWorld], tmp_path: Path) -> None:
    """A stage that is done counts what it used, so a run that goes on ends where it would have ended."""
    ctx, _ = lab_of(worlds["classification"], "method.name=zerogen", "method.match={unit: tokens, amount: 900}")
    (plan,) = create_method(ctx.config).plans(0, ctx)
    teacher = FakeTeacher()
    with closing(Journal(tmp_path / "journal.db")) as journal:
        for _ in range(2):
            client = TeacherClient(ctx.config.teacher, journal, ctx.config.budget, teacher=teacher)
            generator = StageGenerator(
                client, journal, max_overgeneration=2, progress=SilentProgress(), match=ctx.config.method.match
            )
            generator.run(plan, 0, FilterPipeline(()), [])
            assert len(teacher.calls) == len(set(teacher.calls)) == journal.totals().requests
