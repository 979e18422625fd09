"""Rows of pairs, questions and several labels: how they are read, drawn, cut, sealed and pooled."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from family_rows import PAIR, PAIR_ROWS, QA, QA_ROWS, TAG_ROWS, TAGS, Row, run_config, write_rows
from stepsynth.config import SourceConfig, TaskConfig
from stepsynth.data import SealedTest, Tally, load_contexts, load_seed, load_source, load_texts, load_validation
from stepsynth.errors import ConfigError, RunError
from stepsynth.tasks import create_family
from stepsynth.types import Example, Span

FORMATS = ["csv", "tsv", "jsonl", "parquet"]


def load(task: Row, path: Path, **source: Any) -> list[Example]:
    config = SourceConfig.model_validate({"path": path, **source})
    return load_source(config, TaskConfig.model_validate(task), role="validation", seed=0)


# reading


@pytest.mark.parametrize("form", FORMATS)
def test_a_pair_keeps_the_marked_text_and_writes_the_other(tmp_path: Path, form: str) -> None:
    read = load(PAIR, write_rows(tmp_path / f"a.{form}", PAIR_ROWS))
    assert [(r.context, r.text, r.label) for r in read] == [(r["text1"], r["text2"], r["label"]) for r in PAIR_ROWS]
    turned = {**PAIR, "fields": {"text1": {"name": "question"}, "text2": {"name": "passage", "context": True}}}
    read = load(turned, write_rows(tmp_path / f"a.{form}", PAIR_ROWS))
    assert [(r.text, r.context) for r in read] == [(r["text1"], r["text2"]) for r in PAIR_ROWS]


@pytest.mark.parametrize("form", FORMATS)
def test_questions_come_with_verified_answers(tmp_path: Path, form: str) -> None:
    read = load(QA, write_rows(tmp_path / f"a.{form}", QA_ROWS))
    assert [(r.context, r.text, r.label) for r in read] == [(r["context"], r["question"], "") for r in QA_ROWS]
    assert [r.answers for r in read] == [(Span(f"Boat {i // 2}", 0),) for i in range(12)]


@pytest.mark.parametrize("form", FORMATS)
def test_several_labels_come_in_their_one_spelling(tmp_path: Path, form: str) -> None:
    read = load(TAGS, write_rows(tmp_path / f"a.{form}", TAG_ROWS))
    assert [r.label for r in read] == ["", "warm", "wet", "wet|windy", "warm|windy"] * 4


@pytest.mark.parametrize(
    ("task", "rows"), [(PAIR, PAIR_ROWS), (QA, QA_ROWS), (TAGS, TAG_ROWS)], ids=["pair", "qa", "multi_label"]
)
def test_a_row_that_was_written_by_its_family_is_read_again_alike(tmp_path: Path, task: Row, rows: list[Row]) -> None:
    read = load(task, write_rows(tmp_path / "a.jsonl", rows))
    family = create_family(TaskConfig.model_validate(task))
    assert load(task, write_rows(tmp_path / "b.jsonl", [dict(family.record(row)) for row in read])) == read


def test_columns_and_labels_are_mapped_in_every_family(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"p": "a note", "h": "a claim", "y": 1}])
    assert load(PAIR, path, columns={"text1": "p", "text2": "h", "label": "y"}, labels={1: "no"})[0].label == "no"
    path = write_rows(tmp_path / "a.jsonl", [{"text": "a day", "tags": [2, "warm", 2]}])
    assert load(TAGS, path, columns={"labels": "tags"}, labels={2: "windy"})[0].label == "warm|windy"
    path = write_rows(tmp_path / "a.jsonl", [{"body": "the sun", "ask": "What?", "found": "sun", "at": 4}])
    mapped = {"context": "body", "question": "ask", "answer": "found", "answer_start": "at"}
    assert load(QA, path, columns=mapped)[0].answers == (Span("sun", 4),)


CONTEXT = "Über der Nähe, \U0001f327 rain; rain again."


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        ({"answers": {"text": ["rain", "Nähe"], "answer_start": [17, 9]}}, [("rain", 17), ("Nähe", 9)]),
        ({"answers": {"text": ["Nähe", "Nähe"], "answer_start": [9, 9]}}, [("Nähe", 9)]),
        ({"answers": {"text": ["Nähe"]}}, [("Nähe", 9)]),
        ({"answers": {"text": ["Nähe"], "answer_start": [None]}}, [("Nähe", 9)]),
        ({"answers": [{"text": "rain", "answer_start": 23}]}, [("rain", 23)]),
        ({"answers": '{"text": ["rain"], "answer_start": [23]}'}, [("rain", 23)]),
        ({"answer": "Nähe"}, [("Nähe", 9)]),
        ({"answer": "Nähe", "answer_start": ""}, [("Nähe", 9)]),
        ({"answer": "rain", "answer_start": "23"}, [("rain", 23)]),
        ({"answer": "rain", "answer_start": 23.0}, [("rain", 23)]),
        ({"answer": "rain", "answer_start": 17, "answers": {"text": ["Nähe"], "answer_start": [9]}}, [("Nähe", 9)]),
    ],
)
def test_answers_are_read_in_every_form(tmp_path: Path, row: Row, spans: list[tuple[str, int]]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"context": CONTEXT, "question": "What?", **row}])
    (read,) = load(QA, path)
    assert [(span.text, span.start) for span in read.answers] == spans
    assert all(CONTEXT[span.start :].startswith(span.text) for span in read.answers)


def test_a_named_answer_column_goes_before_one_that_happens_to_be_there(tmp_path: Path) -> None:
    row = {"context": CONTEXT, "question": "What?", "answers": "Nähe"}
    assert load(QA, write_rows(tmp_path / "a.jsonl", [row]), columns={"answer": "answers"})[0].answers == (Span("Nähe", 9),)


def test_a_long_answer_is_an_answer(tmp_path: Path) -> None:
    context = " ".join(f"word{i}" for i in range(2000))
    answer = context[100:5100]
    path = write_rows(tmp_path / "a.jsonl", [{"context": context, "question": "What?", "answer": answer}])
    assert load(QA, path)[0].answers == (Span(answer, 100),)


def test_hub_lists_of_class_labels_become_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = datasets.ClassLabel(names=["windy", "warm", "wet"])
    features = datasets.Features({"text": datasets.Value("string"), "labels": datasets.List(names)})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "labels": [[1], [], [0, 2]]}, features=features)
    data.save_to_disk(str(tmp_path / "set"))
    source = SourceConfig(hub=str(tmp_path / "set"))
    task = TaskConfig.model_validate(TAGS)
    assert [row.label for row in load_source(source, task, role="test", seed=0)] == ["warm", "", "wet|windy"]
    source = SourceConfig(hub=str(tmp_path / "set"), labels={"0": "warm", "1": "wet", "2": "windy"})
    assert [row.label for row in load_source(source, task, role="test", seed=0)] == ["wet", "", "warm|windy"]


def test_hub_answers_in_squad_s_form_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.Dataset.from_list(QA_ROWS).save_to_disk(str(tmp_path / "set"))
    source = SourceConfig(hub=str(tmp_path / "set"))
    read = load_source(source, TaskConfig.model_validate(QA), role="test", seed=0)
    assert read[5].answers == (Span("Boat 2", 0),)


# drawing


@pytest.mark.parametrize(
    ("task", "rows"), [(PAIR, PAIR_ROWS), (QA, QA_ROWS), (TAGS, TAG_ROWS)], ids=["pair", "qa", "multi_label"]
)
def test_a_sample_is_seeded_and_has_its_size(tmp_path: Path, task: Row, rows: list[Row]) -> None:
    path = write_rows(tmp_path / "a.jsonl", rows)
    drawn = load(task, path, sample=8)
    assert len({row.id for row in drawn}) == 8
    assert drawn == load(task, path, sample=8)
    assert drawn != load(task, path, sample=8, seed=5)
    everything = {row.id: row for row in load(task, path)}
    assert all(everything[row.id] == row for row in drawn)


def test_a_sample_of_several_labels_holds_the_rare_ones(tmp_path: Path) -> None:
    rows = [{"text": f"day {i}", "labels": ["warm"] if i % 2 else []} for i in range(400)]
    rows += [{"text": f"night {i}", "labels": ["warm", "windy"]} for i in range(2)]
    rows += [{"text": f"noon {i}", "labels": ["wet", "windy", "warm"]} for i in range(2)]
    for seed in range(5):
        drawn = Counter(row.label for row in load(TAGS, write_rows(tmp_path / "a.jsonl", rows), sample=20, seed=seed))
        assert (drawn["warm|wet|windy"], drawn["warm|windy"]) == (2, 2)


def test_seed_rows_that_were_written_from_labelled_rows_are_counted(tmp_path: Path) -> None:
    """A run reads them like other columns: only their own kind of value means something."""
    sources = ["harvest-3", "select-12", None, "twitter", ""]
    rows = [{**row, "source": source} for row, source in zip(TAG_ROWS, sources, strict=False)]
    path = write_rows(tmp_path / "seed.jsonl", rows)
    config = run_config(TAGS, tmp_path / "unused")
    config = config.model_copy(update={"data": config.data.model_copy(update={"seed": SourceConfig(path=path)})})
    tally = Tally()
    assert len(load_seed(config, tally)) == len(rows)
    assert tally.say().endswith(
        ", 2 were written from labelled rows of an earlier run: where this run has the same ones, scores on them, also in "
        "cross-validation, will be too high"
    )
    write_rows(path, TAG_ROWS)
    load_seed(config, tally := Tally())
    assert "written from" not in tally.say()


def test_a_validation_sample_holds_two_rows_of_each_of_many_labels(tmp_path: Path) -> None:
    labels = [f"intent {i:02}" for i in range(77)]
    rows = [{"text": f"{label} row {n}", "label": label} for i, label in enumerate(labels) for n in range(2 + 3 * i)]
    task = {"name": "intents", "instruction": "Name the intent.", "labels": labels}
    path = write_rows(tmp_path / "a.jsonl", rows)
    for size in (154, 300):
        halves = load_validation(run_config(task, path, source__sample=size))
        assert len(halves.harvest) + len(halves.select) == size
        for half in (halves.harvest, halves.select):
            assert {row.label for row in half} == set(labels)


# cutting


def contexts(rows: tuple[Example, ...]) -> set[str]:
    return {row.context for row in rows}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=40), share=st.floats(0.1, 0.9), seed=st.integers(0, 9))
def test_no_context_of_a_question_is_in_both_halves(tmp_path: Path, sizes: list[int], share: float, seed: int) -> None:
    rows = [
        {"context": f"Boat {c} sailed.", "question": f"Who, {q}?", "answer": f"Boat {c}"}
        for c, n in enumerate(sizes)
        for q in range(n)
    ]
    halves = load_validation(run_config(QA, write_rows(tmp_path / "a.jsonl", rows), harvest_share=share, seed=seed))
    assert not contexts(halves.harvest) & contexts(halves.select)
    assert len(halves.harvest) + len(halves.select) == len(rows)
    assert halves.harvest
    assert halves.select
    assert abs(len(halves.harvest) - share * len(rows)) <= max(sizes) + 1
    assert all(row.answers for row in (*halves.harvest, *halves.select))


def test_no_context_of_a_pair_is_in_both_halves_and_each_label_is(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", PAIR_ROWS)
    for seed in range(20):
        halves = load_validation(run_config(PAIR, path, seed=seed))
        assert not contexts(halves.harvest) & contexts(halves.select)
        assert {row.label for row in halves.harvest} == {row.label for row in halves.select} == {"yes", "no"}
        assert (len(halves.harvest), len(halves.select), halves.notes) == (8, 8, ())


def test_pairs_whose_contexts_cannot_be_kept_together_are_cut_by_rows_and_that_is_said(tmp_path: Path) -> None:
    rows = [{**row, "text1": "the one and only note"} for row in PAIR_ROWS]
    halves = load_validation(run_config(PAIR, write_rows(tmp_path / "a.jsonl", rows)))
    assert (len(halves.harvest), len(halves.select)) == (8, 8)
    assert halves.notes == ("Some contexts are in both halves: the labels could not be split otherwise.",)


def test_a_repeat_is_judged_on_both_texts(tmp_path: Path) -> None:
    extra = [
        {**PAIR_ROWS[0], "text1": "Note 0  tells of a BOAT"},
        {**PAIR_ROWS[1], "label": "yes"},
        {**PAIR_ROWS[2], "text1": "new"},
    ]
    halves = load_validation(run_config(PAIR, write_rows(tmp_path / "a.jsonl", [*PAIR_ROWS, *extra])))
    assert halves.notes == ("Dropped 1 repeated row.", "Dropped 2 rows with 1 text that carry different labels.")
    assert len(halves.harvest) + len(halves.select) == 16


def test_a_repeated_question_keeps_the_answers_of_all_its_rows(tmp_path: Path) -> None:
    extra = {**QA_ROWS[0], "answers": {"text": ["port 0"], "answer_start": [12]}}
    halves = load_validation(run_config(QA, write_rows(tmp_path / "a.jsonl", [*QA_ROWS, extra])))
    (row,) = (row for row in (*halves.harvest, *halves.select) if row.id.endswith("-0"))
    assert row.answers == (Span("Boat 0", 0), Span("port 0", 12))
    assert halves.notes == ("Dropped 1 repeated row.",)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sets(st.sampled_from(["warm", "wet", "windy"])), min_size=2, max_size=40),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 9),
)
def test_rows_with_several_labels_are_cut_without_loss_and_near_the_share(
    tmp_path: Path, chosen: list[set[str]], share: float, seed: int
) -> None:
    rows = [{"text": f"day {i}", "labels": sorted(labels)} for i, labels in enumerate([*chosen, {"warm"}])]
    halves = load_validation(run_config(TAGS, write_rows(tmp_path / "a.jsonl", rows), harvest_share=share, seed=seed))
    assert sorted(row.text for row in (*halves.harvest, *halves.select)) == sorted(str(row["text"]) for row in rows)
    assert halves.harvest
    assert halves.select
    assert abs(len(halves.harvest) - share * len(rows)) <= 5


def test_every_label_with_rows_enough_is_in_both_halves(tmp_path: Path) -> None:
    rows = [*TAG_ROWS, *({"text": f"storm {i}", "labels": ["windy", "wet", "warm"]} for i in range(3))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    for seed in range(20):
        halves = load_validation(run_config(TAGS, path, seed=seed))
        for half in (halves.harvest, halves.select):
            assert {label for row in half for label in row.label.split("|")} >= {"warm", "wet", "windy"}
        assert halves.notes == ()


def test_labels_with_too_few_rows_are_noted_not_refused(tmp_path: Path) -> None:
    task = {**TAGS, "labels": ["warm", "wet", "windy", "foggy", "icy"]}
    rows = [*TAG_ROWS, {"text": "one morning", "labels": ["foggy"]}]
    halves = load_validation(run_config(task, write_rows(tmp_path / "a.jsonl", rows)))
    assert halves.notes == ("Labels without any row: 'icy'.", "Labels in one half only, for lack of rows: 'foggy'.")


# sealing


def test_the_seal_counts_every_label_of_a_row_and_none_of_a_question(tmp_path: Path) -> None:
    tags, questions = write_rows(tmp_path / "a.jsonl", TAG_ROWS), write_rows(tmp_path / "q.jsonl", QA_ROWS)
    info = SealedTest(run_config(TAGS, tags, test={"path": str(tags)})).inspect()
    assert (info.n, info.labels) == (20, {"warm": 8, "wet": 8, "windy": 8})
    info = SealedTest(run_config(QA, questions, test={"path": str(questions)})).inspect()
    assert (info.n, info.labels) == (12, {})


@pytest.mark.parametrize(
    ("task", "rows", "change"),
    [
        (QA, QA_ROWS, {"answers": {"text": ["port 0"], "answer_start": [12]}}),
        (QA, QA_ROWS, {"context": "Boat 0 left port 0 at dusk."}),
        (PAIR, PAIR_ROWS, {"text1": "another note"}),
        (TAGS, TAG_ROWS, {"labels": ["wet"]}),
    ],
)
def test_the_seal_covers_contexts_answers_and_all_labels(tmp_path: Path, task: Row, rows: list[Row], change: Row) -> None:
    path = write_rows(tmp_path / "t.jsonl", rows)
    sealed = SealedTest(run_config(task, path, test={"path": str(path)}))
    digest = sealed.inspect().sha256
    assert len(sealed.open(digest)) == len(rows)
    write_rows(path, [{**rows[0], **change}, *rows[1:]])
    with pytest.raises(RunError, match="changed since the run began"):
        sealed.open(digest)


# pool, seed rows, texts to predict


def test_the_pool_is_the_harvest_s_contexts_unless_one_is_given(tmp_path: Path) -> None:
    config = run_config(QA, write_rows(tmp_path / "a.jsonl", QA_ROWS))
    harvest = load_validation(config).harvest
    assert load_contexts(config, harvest) == tuple(dict.fromkeys(row.context for row in harvest))
    pool = write_rows(tmp_path / "c.csv", [{"context": f"Text {i % 3}"} for i in range(7)] + [{"context": "TEXT  0"}])
    config = run_config(QA, tmp_path / "a.jsonl", contexts={"path": str(pool)})
    assert load_contexts(config, harvest) == ("Text 0", "Text 1", "Text 2")
    assert len(load_contexts(run_config(QA, tmp_path / "a.jsonl", contexts={"path": str(pool), "sample": 2}), harvest)) <= 2


@pytest.mark.parametrize(
    ("column", "columns"), [("context", {}), ("text1", {}), ("premise", {"context": "premise"}), ("p", {"text1": "p"})]
)
def test_the_pool_of_pairs_may_bear_the_kept_text_s_name(tmp_path: Path, column: str, columns: dict[str, str]) -> None:
    pool = write_rows(tmp_path / "c.jsonl", [{column: "one note", "other": 1}])
    config = run_config(PAIR, tmp_path / "unused", contexts={"path": str(pool), "columns": columns})
    assert load_contexts(config, []) == ("one note",)


def test_single_texts_have_no_pool(tmp_path: Path) -> None:
    assert load_contexts(run_config(TAGS, tmp_path / "unused"), []) == ()
    with pytest.raises(ConfigError, match="does not apply to the task family 'multi_label'"):
        load_contexts(run_config(TAGS, tmp_path / "unused", contexts={"path": "c.csv"}), [])


def test_seed_rows_are_checked_and_named_as_imports(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "s.jsonl", PAIR_ROWS)
    rows = load_seed(run_config(PAIR, tmp_path / "unused", seed=3))
    assert rows == []
    config = run_config(PAIR, tmp_path / "unused")
    config = config.model_copy(update={"data": config.data.model_copy(update={"seed": SourceConfig(path=path)})})
    assert [row.id for row in load_seed(config)] == [f"import-{i}" for i in range(16)]


@pytest.mark.parametrize("form", FORMATS)
def test_rows_to_predict_need_no_labels(tmp_path: Path, form: str) -> None:
    path = write_rows(tmp_path / f"a.{form}", [{"p": "a note", "text2": "a claim"}, {"p": "", "text2": "another"}])
    read = load_texts(path, TaskConfig.model_validate(PAIR), {"text1": "p"})
    assert [(row.id, row.context, row.text, row.label) for row in read] == [
        ("0", "a note", "a claim", ""),
        ("1", "", "another", ""),
    ]
    path = write_rows(tmp_path / f"a.{form}", [{"context": "the sun", "question": "What?"}])
    (row,) = load_texts(path, TaskConfig.model_validate(QA))
    assert (row.context, row.text, row.answers) == ("the sun", "What?", ())


# real sets


@pytest.mark.parametrize(
    ("name", "split", "family"),
    [("adversarial_qa", "dev_fit", "extractive_qa"), ("rte", "train", "pair"), ("goemotions", "dev", "multi_label")],
)
def test_real_sets_are_read_and_cut(name: str, split: str, family: str) -> None:
    folder = os.environ.get("STEPSYNTH_DATA")
    if not folder or not (path := Path(folder) / name / f"{split}.jsonl.gz").is_file():
        pytest.skip("STEPSYNTH_DATA does not name a folder with this set")
    task = {"extractive_qa": QA, "pair": {**PAIR, "labels": ["entailment", "not_entailment"]}, "multi_label": TAGS}[family]
    if family == "multi_label":
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            task = {**TAGS, "labels": sorted({label for line in lines for label in json.loads(line)["labels"]})}
    halves = load_validation(run_config(task, path, source__sample=400))
    assert abs(len(halves.harvest) - len(halves.select)) <= 40
    assert not (contexts(halves.harvest) & contexts(halves.select)) - {""}
