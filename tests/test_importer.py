"""Rows that other projects released become seed rows that this one reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from family_rows import PAIR, PAIR_ROWS, QA, QA_ROWS, TAG_ROWS, TAGS, Row, run_config, write_rows
from stepsynth.config import SourceConfig, TaskConfig
from stepsynth.data import import_rows, load_seed
from stepsynth.errors import ConfigError, DataError

WEATHER = TaskConfig.model_validate({"name": "weather", "instruction": "Wet or dry?", "labels": ["wet", "dry"]})
FOLLOWS = TaskConfig.model_validate(PAIR)
TURNED = TaskConfig.model_validate(
    {**PAIR, "fields": {"text1": {"name": "question"}, "text2": {"name": "sentence", "context": True}}}
)
ASK = TaskConfig.model_validate(QA)
NUMBERS = {"0": "wet", "1": "dry"}
ANSWERS = {"0": "yes", "1": "no"}


def lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def pairs(task: TaskConfig, path: Path, **kwargs: dict[str, str]) -> list[Row]:
    return [json.loads(line) for line in import_rows([path], task, **kwargs).content.split("\n")[:-1]]


def test_s3_s_json_lines_under_the_name_json(tmp_path: Path) -> None:
    path = tmp_path / "rte_additional_1.json"
    path.write_text(
        lines([{"text1": "a note\u2028goes on", "text2": "a claim", "label": 0}, {"text1": "n", "text2": "c", "label": 1}])
    )
    assert pairs(FOLLOWS, path, labels=ANSWERS) == [
        {"text1": "a note\u2028goes on", "text2": "a claim", "label": "yes"},
        {"text1": "n", "text2": "c", "label": "no"},
    ]
    path.write_text(lines([{"text": "it rains", "label": 0}, {"text": "it shines", "label": 1}]))
    assert [row["label"] for row in pairs(WEATHER, path, labels=NUMBERS)] == ["wet", "dry"]


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows}], ids=["list", "data"])
def test_supergen_s_json_list(tmp_path: Path, wrap: object) -> None:
    rows = [
        {"text1": "a", "text2": "b", "label": "yes", "start_prompt": "", "score": -0.1},
        {"text1": "c", "text2": "d", "label": "no"},
    ]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(wrap(rows)))  # type: ignore[operator]
    assert pairs(FOLLOWS, path) == [{"text1": "a", "text2": "b", "label": "yes"}, {"text1": "c", "text2": "d", "label": "no"}]


def test_zerogen_s_letters_for_single_texts(tmp_path: Path) -> None:
    path = tmp_path / "weather-dataset.jsonl"
    path.write_text(lines([{"C": "it pours", "X": None, "Y": 0, "idx": 0}, {"C": "A title", "X": "it shines", "Y": 1}]))
    assert pairs(WEATHER, path, labels=NUMBERS) == [{"text": "it pours", "label": "wet"}, {"text": "it shines", "label": "dry"}]


def test_zerogen_s_letters_for_pairs_follow_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines([{"C": "given", "X": "written", "Y": 0}]))
    assert pairs(FOLLOWS, path, labels=ANSWERS) == [{"text1": "given", "text2": "written", "label": "yes"}]
    assert pairs(TURNED, path, labels=ANSWERS) == [{"text1": "written", "text2": "given", "label": "yes"}]


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "sentence")])
def test_glue_s_tables(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(f"index\t{names[0]}\t{names[1]}\tlabel\n0\ta\tb\tyes\n")
    assert pairs(TURNED, path) == [{"text1": "a", "text2": "b", "label": "yes"}]


def test_squad_s_nested_json(tmp_path: Path) -> None:
    answers = [{"text": "boat", "answer_start": 2}]
    paragraphs = [
        {
            "context": "A boat.",
            "qas": [{"id": "1", "question": "What?", "answers": answers}, {"id": "2", "question": "Who?", "answers": []}],
        }
    ]
    path = tmp_path / "squad.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"version": "2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}).encode()))
    found = import_rows([path], ASK)
    assert json.loads(found.content) == {
        "context": "A boat.",
        "question": "What?",
        "answers": {"text": ["boat"], "answer_start": [2]},
    }
    assert (found.labels, found.dropped) == ({}, {"unusable": 1})
    assert "has no answers" in found.first_unusable


@pytest.mark.parametrize(
    ("task", "rows"), [(PAIR, PAIR_ROWS), (QA, QA_ROWS), (TAGS, TAG_ROWS)], ids=["pair", "qa", "multi_label"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_what_is_imported_can_be_started_from(tmp_path: Path, task: Row, rows: list[Row], form: str) -> None:
    found = import_rows([write_rows(tmp_path / f"a.{form}", rows)], TaskConfig.model_validate(task))
    (tmp_path / "seeds.jsonl").write_text(found.content)
    config = run_config(task, tmp_path / "unused")
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"seed": SourceConfig(path=tmp_path / "seeds.jsonl")})}
    )
    assert load_seed(config) == list(found.rows)
    assert len(found.rows) == len(rows)


def test_own_columns_go_before_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sentence,body,Y\nwrong,right,wet\n")
    assert pairs(WEATHER, path, columns={"text": "body"}) == [{"text": "right", "label": "wet"}]


def test_what_is_dropped_is_counted_by_reason_over_all_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(lines([{"text": "It rains", "label": 0}, {"text": " ", "label": 0}, {"text": "it  RAINS", "label": 1}]))
    second.write_text(
        lines(
            [{"text": "it rains", "label": 0}, {"text": "hail", "label": 7}, {"text": 5, "label": 0}, {"text": "sun", "label": 1}]
        )
    )
    found = import_rows([first, second], WEATHER, labels=NUMBERS)
    assert [(row.id, row.text, row.label) for row in found.rows] == [("import-0", "It rains", "wet"), ("import-1", "sun", "dry")]
    assert found.labels == {"wet": 1, "dry": 1}
    assert found.dropped == {"empty": 1, "duplicate": 2, "unknown label": 1, "unusable": 1}
    assert found.unknown == {"7": 1}
    assert found.lines() == [
        "2 rows kept",
        "  wet: 1",
        "  dry: 1",
        "5 rows dropped",
        "  empty: 1",
        "  duplicate: 2",
        "  unknown label: 1",
        "  unusable: 1",
        "unknown labels '7' x 1; map them with --label theirs=ours",
        f"first unusable row: the text of row 2 of {str(second)!r} is int, not a string: 5",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1, 2]", r"holds no list of objects: \[1, 2\]"),
        ("a.json", '"text"', "holds no list of objects"),
        ("a.json", '[{"text": "a", "label": 0}', "line 1 of .* is not valid JSON"),
        ("a.json", "", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.json", '{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "is not in SQuAD's form: KeyError 'context'"),
        ("a.jsonl", '{"txet": "a", "label": 0}\n', "no column 'text' for the text. Did you mean 'txet'"),
        (
            "a.jsonl",
            '{"text": "a", "label": 0}\n',
            "none of 1 rows can be used .1 unknown label.: unknown labels '0' x 1; map them with --label",
        ),
        ("a.jsonl", '{"text": "", "label": "wet"}\n', "none of 1 rows can be used .1 empty."),
        ("a.pkl", "x", r"unsupported suffix '\.pkl'"),
    ],
)
def test_a_file_of_no_use_is_one_clear_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content or "\n")
    with pytest.raises(DataError, match=message) as caught:
        import_rows([path], WEATHER)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.hint


def test_a_missing_or_damaged_json_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ghost\.json' does not exist"):
        import_rows([tmp_path / "ghost.json"], WEATHER)
    (tmp_path / "a.json.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match="cannot read"):
        import_rows([tmp_path / "a.json.gz"], WEATHER)
    (tmp_path / "a.json").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(DataError, match="not UTF-8: line 1, byte 10"):
        import_rows([tmp_path / "a.json"], WEATHER)


def test_names_that_the_task_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines([{"text": "a", "label": 0}]))
    with pytest.raises(ConfigError, match="'question', which is not a column of the task family 'classification'"):
        import_rows([path], WEATHER, columns={"question": "q"})
    with pytest.raises(ConfigError, match=r"maps '0' to 'wett'.*Did you mean 'wet'"):
        import_rows([path], WEATHER, labels={"0": "wett"})
