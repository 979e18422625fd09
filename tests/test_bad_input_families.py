"""Bad rows and configs of pairs, questions and several labels: one clear line each, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from family_rows import PAIR, PAIR_ROWS, QA, QA_ROWS, TAG_ROWS, TAGS, Row, run_config, write_rows
from stepsynth.config import RunConfig, TaskConfig
from stepsynth.data import SealedTest, load_contexts, load_seed, load_texts, load_validation
from stepsynth.errors import UserError
from stepsynth.run.data import load_run_data

Deed = Callable[[RunConfig], object]
QUESTION: Row = {"context": "Über Paris, and Paris again, to Rome.", "question": "Where?"}


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


ROWS: dict[str, tuple[Row, list[Row], dict[str, Any], str]] = {
    "qa: answer is not in the context": (
        QA,
        [{**QUESTION, "answers": {"text": ["Madrid"], "answer_start": [5]}}],
        {},
        r"the answer 'Madrid' of line 1 of .* does not occur in its context; at character 5 there is 'Paris,'\.",
    ),
    "qa: answer differs in case": (
        QA,
        [{**QUESTION, "answer": "rome"}],
        {},
        "answer 'rome' .* does not occur in its context. Copy",
    ),
    "qa: start off by one": (
        QA,
        [{**QUESTION, "answers": {"text": ["Paris"], "answer_start": [6]}}],
        {},
        "is not at character 6 of its context; there is 'aris,'. It is at 5: answer_start counts characters",
    ),
    "qa: start counted in bytes": (
        QA,
        [{**QUESTION, "answer": "Rome", "answer_start": 33}],
        {},
        r"there is 'ome\.'. It is at 32: .*not bytes",
    ),
    "qa: start beyond the end": (QA, [{**QUESTION, "answer": "Rome", "answer_start": 4000}], {}, "character 4000 .* there is ''"),
    "qa: no start, several places": (
        QA,
        [{**QUESTION, "answer": "Paris"}],
        {},
        "'Paris' .* occurs 2 times in its context, at characters 5, 16. Set answer_start",
    ),
    "qa: start is a word": (
        QA,
        [{**QUESTION, "answer": "Rome", "answer_start": "here"}],
        {},
        "answer_start of line [12] of .* is 'here'",
    ),
    "qa: start is negative": (
        QA,
        [{**QUESTION, "answer": "Rome", "answer_start": -1}],
        {},
        "answer_start of line [12] of .* is -1",
    ),
    "qa: start is true": (
        QA,
        [{**QUESTION, "answer": "Rome", "answer_start": True}],
        {},
        "answer_start of line [12] of .* is True",
    ),
    "qa: no answers": (
        QA,
        [*QA_ROWS, {**QUESTION, "answers": {"text": [], "answer_start": []}}],
        {},
        r"line 13 of .* has no answers: .*SQuAD 2\.0.* Remove such rows",
    ),
    "qa: answers are a list of words": (
        QA,
        [{**QUESTION, "answers": ["Rome"]}],
        {},
        r"answers of line [12] of .* are \['Rome'\]. Write",
    ),
    "qa: answers are a number": (QA, [{**QUESTION, "answers": 7}], {}, "answers of line [12] of .* are 7. Write"),
    "qa: answers are null": (QA, [{**QUESTION, "answers": None}], {}, "answers of line [12] of .* are None. Write"),
    "qa: more texts than starts": (
        QA,
        [{**QUESTION, "answers": {"text": ["Rome", "Paris"], "answer_start": [32]}}],
        {},
        "have 2 texts and 1 answer_start. Give one",
    ),
    "qa: an empty answer": (
        QA,
        [{**QUESTION, "answers": {"text": [" "], "answer_start": [4]}}],
        {},
        "line [12] of .* has an empty answer",
    ),
    "qa: an answer that is a number": (
        QA,
        [{**QUESTION, "answer": 7}],
        {},
        "the answer of line [12] of .* is int, not a string: 7",
    ),
    "qa: no context column": (QA, [without(QA_ROWS[0], "context")], {}, "line 1 of .* has no column 'context' for the context"),
    "qa: no answers column": (QA, [QUESTION], {}, "has no column 'answers' or 'answer' for the answers"),
    "qa: a named start column is missing": (
        QA,
        [{**QUESTION, "answer": "Rome"}],
        {"columns": {"answer_start": "strat"}},
        "has no column 'strat' for the answer_start",
    ),
    "qa: an empty context": (QA, [{**QA_ROWS[0], "context": ""}], {}, "line [12] of .* has an empty context"),
    "qa: a context of 100,000 words": (
        QA,
        [{**QA_ROWS[0], "context": "word " * 100_000}],
        {},
        "context of line [12] of .* has 100,000 words",
    ),
    "qa: an empty question": (QA, [{**QA_ROWS[0], "question": "\t"}], {}, "line [12] of .* has an empty question"),
    "qa: one context": (
        QA,
        [{**QUESTION, "question": f"Where, {i}?", "answer": "Rome"} for i in range(5)],
        {},
        "all 5 questions .* one context",
    ),
    "qa: one row": (QA, QA_ROWS[:1], {}, "1 usable row for two halves"),
    "qa: labels are named": (
        QA,
        QA_ROWS,
        {"columns": {"label": "y"}},
        r"data\.validation\.columns names 'label', which is not a column .*'extractive_qa'",
    ),
    "qa: labels are mapped": (QA, QA_ROWS, {"labels": {"1": "yes"}}, "maps '1' to 'yes', which task.labels does not have"),
    "qa: a sample larger than the file": (QA, QA_ROWS, {"sample": 13}, "sample is 13, but .* has 12 rows"),
    "pair: no second text": (
        PAIR,
        [without(PAIR_ROWS[0], "text2")],
        {},
        "has no column 'text2' for the text2. Did you mean 'text1'",
    ),
    "pair: an empty kept text": (PAIR, [*PAIR_ROWS, {**PAIR_ROWS[0], "text1": " "}], {}, "line 17 of .* has an empty text1"),
    "pair: an empty written text": (PAIR, [{**PAIR_ROWS[0], "text2": ""}], {}, "line [12] of .* has an empty text2"),
    "pair: a text that is null": (PAIR, [{**PAIR_ROWS[0], "text2": None}], {}, r"line [12] of .* has no text2 \(null\)"),
    "pair: unknown label": (PAIR, [*PAIR_ROWS, {**PAIR_ROWS[0], "label": "yse"}], {}, "'yse' x 1. Did you mean 'yes'"),
    "pair: the label is in a text's column": (
        PAIR,
        PAIR_ROWS,
        {"columns": {"label": "text2"}},
        "text2 and label are both read from column 'text2'",
    ),
    "pair: one column for both texts": (
        PAIR,
        PAIR_ROWS,
        {"columns": {"text2": "text1"}},
        "text1 and text2 are both read from column 'text1'",
    ),
    "pair: text is named": (
        PAIR,
        PAIR_ROWS,
        {"columns": {"text": "text1"}},
        r"names 'text', which is not a column .*'pair'. Did you mean 'text",
    ),
    "pair: one row of a label": (PAIR, [*PAIR_ROWS[::2], PAIR_ROWS[1]], {}, "label 'no' has 1 usable row .* needs two"),
    "pair: one label": (PAIR, PAIR_ROWS[::2], {}, "all 8 rows of .* have the same label 'yes'"),
    "pair: the same row again": (PAIR, PAIR_ROWS[:1] * 5, {}, "all 5 rows of .* have the same text"),
    "multi_label: unknown label": (
        TAGS,
        [*TAG_ROWS, {"text": "a", "labels": ["warm", "windi"]}, {"text": "b", "labels": "windi|warm"}],
        {},
        r"'windi' x 2. Did you mean 'windy'\? Or map them .* joined by '\|'",
    ),
    "multi_label: labels joined otherwise": (TAGS, [{"text": "a", "labels": "warm, wet"}], {}, "'warm, wet' x 1"),
    "multi_label: a number": (TAGS, [{"text": "a", "labels": 3}], {}, "the labels of line [12] of .* are int: 3. Write a list"),
    "multi_label: a mapping": (TAGS, [{"text": "a", "labels": {"warm": 1}}], {}, "the labels of line [12] of .* are dict"),
    "multi_label: null": (
        TAGS,
        [{"text": "a", "labels": None}],
        {},
        r"the labels of line [12] of .* are missing \(null\). Write a list \(\[\]",
    ),
    "multi_label: a null among them": (TAGS, [{"text": "a", "labels": ["warm", None]}], {}, "line [12] of .* has no label"),
    "multi_label: a list among them": (TAGS, [{"text": "a", "labels": [["warm"]]}], {}, "label of line [12] of .* is list"),
    "multi_label: an empty one among them": (TAGS, [{"text": "a", "labels": "warm|"}], {}, "'' x 1"),
    "multi_label: label in place of labels": (
        TAGS,
        [{"text": "a", "label": "warm"}],
        {},
        "no column 'labels' .*Did you mean 'label'",
    ),
    "multi_label: no label anywhere": (
        TAGS,
        [{"text": f"day {i}", "labels": []} for i in range(9)],
        {},
        "no row of .* has a label",
    ),
    "multi_label: one row": (TAGS, TAG_ROWS[:1], {}, "1 usable row for two halves"),
}


def one_line(error: UserError) -> None:
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 700
    assert error.hint


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_is_one_clear_line(case: str, tmp_path: Path) -> None:
    task, rows, source, message = ROWS[case]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=message) as caught:
        load_validation(run_config(task, path, **{f"source__{key}": value for key, value in source.items()}))
    one_line(caught.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('{"text": ["Rome"], "answer_start": [', "answers of line [12] of .* are not valid JSON"),
        ("{'text': [Rome], 'answer_start': [32]}", "answers of line [12] of .* are not valid JSON: .* Write"),
        ("Rome", "answers of line [12] of .* are not valid JSON: 'Rome'. .* use the columns answer and answer_start"),
        ("", "answers of line [12] of .* are not valid JSON: ''"),
        ("[" * 100_000, "answers of line [12] of .* are not valid JSON"),
        ('"Rome"', "answers of line [12] of .* are 'Rome'"),
    ],
)
def test_answers_of_a_table_that_are_no_json_are_one_clear_line(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_validation(run_config(QA, write_rows(tmp_path / "a.csv", [{**QUESTION, "answers": cell}])))
    one_line(caught.value)


def pool(rows: list[Row] | str, **source: Any) -> tuple[Row, Callable[[Path], dict[str, Any]], Deed]:
    def data(folder: Path) -> dict[str, Any]:
        path = folder / "pool.jsonl"
        if isinstance(rows, str):
            path.write_text(rows)
        else:
            write_rows(path, rows)
        return {"contexts": {"path": str(path), **source}}

    return QA, data, lambda config: load_contexts(config, [])


SOURCES: dict[str, tuple[tuple[Row, Callable[[Path], dict[str, Any]], Deed], str]] = {
    "contexts: file missing": (
        (QA, lambda folder: {"contexts": {"path": str(folder / "ghost.jsonl")}}, lambda config: load_contexts(config, [])),
        "ghost.jsonl' does not exist",
    ),
    "contexts: blank file": (pool("\n\n"), "the pool of contexts is empty: .* has no rows"),
    "contexts: no source and no harvest": (
        (QA, lambda _: {}, lambda config: load_contexts(config, [])),
        "pool of contexts is empty",
    ),
    "contexts: an empty one": (pool([{"context": "a"}, {"context": " "}]), r"line 2 of .* has an empty context"),
    "contexts: a null one": (pool([{"context": None}]), "line [12] of .* has no context"),
    "contexts: NUL": (pool([{"context": "a\0b"}]), "context of line [12] of .* NUL"),
    "contexts: too long": (pool([{"context": "a " * 50_000}]), "context of line [12] of .* has 50,000 words"),
    "contexts: no column": (pool([{"contexts": "a"}]), "has no column 'context' for the context. Did you mean 'contexts'"),
    "contexts: a column of another name": (
        pool([{"context": "a"}], columns={"question": "q"}),
        "columns names 'question'.* Known: context",
    ),
    "contexts: sample too large": (pool([{"context": "a"}], sample=5), "data.contexts.sample is 5, but .* has 1 row\\."),
    "test: span off by one": (
        (
            QA,
            lambda folder: {
                "test": {"path": str(write_rows(folder / "t.jsonl", [{**QUESTION, "answer": "Rome", "answer_start": 31}]))}
            },
            lambda config: SealedTest(config).inspect(),
        ),
        "is not at character 31",
    ),
    "test: one label of a pair": (
        (
            PAIR,
            lambda folder: {"test": {"path": str(write_rows(folder / "t.jsonl", PAIR_ROWS[::2]))}},
            lambda config: SealedTest(config).inspect(),
        ),
        "all 8 rows of .* have the same label 'yes'",
    ),
    "seed: unknown label": (
        (PAIR, lambda folder: {"seed": {"path": str(write_rows(folder / "s.jsonl", [{**PAIR_ROWS[0], "label": 0}]))}}, load_seed),
        "'0' x 1.* map them with data.seed.labels",
    ),
    "validation: pairs that share one context, with cross-fitting": (
        (
            PAIR,
            lambda folder: {
                "validation": {
                    "path": str(write_rows(folder / "v.jsonl", [{**row, "text1": "The policy."} for row in PAIR_ROWS]))
                }
            },
            load_run_data,
        ),
        "all 16 validation rows have one context, and cross-fitting keeps .*: 'The policy.'. Give rows with several contexts",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_another_bad_source_is_one_clear_line(case: str, tmp_path: Path) -> None:
    (task, data, deed), message = SOURCES[case]
    from stepsynth.config import parse_config

    config = parse_config({"task": task, "data": {"validation": {"path": "unused.jsonl"}, **data(tmp_path)}})
    with pytest.raises(UserError, match=message) as caught:
        deed(config)
    one_line(caught.value)


FIELDS = PAIR["fields"]
CONFIGS: dict[str, tuple[Row, str]] = {
    "both texts are kept": (
        {**PAIR, "fields": {name: {**field, "context": True} for name, field in FIELDS.items()}},
        "2 of them kept",
    ),
    "no text is kept": (
        {**PAIR, "fields": {name: without(field, "context") for name, field in FIELDS.items()}},
        "0 of them kept",
    ),
    "a pair without fields": (without(PAIR, "fields"), "a pair needs fields"),
    "questions with labels": ({**QA, "labels": ["a", "b"]}, "question answering task has no labels"),
    "a label with the joining sign": ({**TAGS, "labels": ["warm|wet", "dry"]}, r"'warm\|wet' is empty or holds '\|'"),
    "an unknown family": ({**QA, "family": "extractive_aq"}, "Did you mean 'extractive_qa'"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_task_that_does_not_fit_its_family_is_one_clear_line(case: str) -> None:
    task, message = CONFIGS[case]
    with pytest.raises(UserError, match=message) as caught:
        run_config(task, Path("unused.jsonl"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("task", "name", "rows", "columns", "message"),
    [
        (PAIR, "a.jsonl", [{"text1": "a"}], {}, "no column 'text2' for the text2.*--column"),
        (PAIR, "a.jsonl", [{"text1": "a", "text2": 7}], {}, "row 0 of .* has 7 for its text2, not a string"),
        (
            PAIR,
            "a.jsonl",
            [{"text1": "a", "text2": "b"}],
            {"text": "text1"},
            "there is 'text', which is not a column of the task family 'pair'",
        ),
        (PAIR, "a.jsonl", [{"text1": "a"}], {"text2": "text1"}, "both read from column 'text1'"),
        (PAIR, "a.txt", None, {}, "one text per line, but a row of this task has text1 and text2"),
        (QA, "a.jsonl", [{"context": "", "question": "What?"}], {}, "row 0 of .* has an empty context"),
        (QA, "a.jsonl", [{"context": "a", "question": None}], {}, r"row 0 of .* has no question \(null\)"),
    ],
)
def test_bad_rows_to_predict_are_one_clear_line(
    tmp_path: Path, task: Row, name: str, rows: list[Row] | None, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / name
    if rows is None:
        path.write_text("a text\n")
    else:
        write_rows(path, rows)
    with pytest.raises(UserError, match=message) as caught:
        load_texts(path, TaskConfig.model_validate(task), columns)
    one_line(caught.value)
