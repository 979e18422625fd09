"""Labels: what prompts call them, how answers are read, what YAML and tables make of them."""

from __future__ import annotations

import csv
import json
import re
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stepsynth as ss
from loopback import LoopbackServer
from stepsynth.cli.main import main
from stepsynth.config import SourceConfig, TaskConfig, load_config, parse_config
from stepsynth.config.reading import read_yaml
from stepsynth.data.examples import RowReader
from stepsynth.data.rows import RawRow
from stepsynth.errors import ConfigError, DataError
from stepsynth.journal import Journal
from stepsynth.loop import run_loop
from stepsynth.prompts import Prompts, read_answer
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.tasks.labels import join_labels, label_names
from stepsynth.types import Example
from world import build_world

NONE = Example("", "")


def task(labels: Any, family: str = "classification", **more: Any) -> TaskConfig:
    fields = {"text1": {"name": "premise", "context": True}, "text2": {"name": "claim"}} if family == "pair" else {}
    values = {"family": family, "name": "t", "instruction": "Decide.", "labels": labels, "fields": fields}
    return TaskConfig.model_validate({**values, **more})


def asked(labels: Any, label: str, family: str = "classification") -> str:
    return Prompts(task(labels, family)).render("zerogen", label)[-1].content


def decided(answer: str, labels: Any, family: str = "classification") -> str | None:
    found = read_answer(answer, task(labels, family), NONE)
    return found and found[0]


# in prompts ---------------------------------------------------------------------------------------

SETS = {
    "signs": ["-1", "0", "1"],
    "plus, too": ["-1", "0", "+1"],
    "grades": ["A", "A-", "A+", "B"],
    "underscore and hyphen": ["not_ok", "not-ok", "ok"],
    "slash and space": ["a/b", "a b"],
    "languages": ["C", "C++", "C#", "F#"],
    "bounds": ["<5", ">=5", "5"],
    "numbers": ["1", "10", "1.0", "2"],
    "versions": ["1.0", "1.0.1", "1"],
    "bars": ["a|b", "a", "b"],
    "stars": ["*", "**", "***"],
    "arrows": ["->", "<-", "-"],
    "patterns": ["a.*", "(x|y)", "[z]", "^$", "\\d+"],
    "ranges": ["1-2", "12", "1 2"],
    "halves": ["1/2", "12", "1/20"],
    "nested": ["positive", "very positive", "not positive"],
    "Chinese": ["\u6b63\u9762", "\u8d1f\u9762", "\u4e0d\u6b63\u9762"],
    "Arabic": ["\u0633\u0644\u0628\u064a", "\u0625\u064a\u062c\u0627\u0628\u064a"],
    "yes and no": ["yes", "no", "on", "off"],
}


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS.keys())
@pytest.mark.parametrize("family", ["classification", "pair"])
def test_case_12_labels_lose_their_sign(labels: list[str], family: str) -> None:
    prompts = Prompts(task(labels, family))
    row = Example("r", "a text", labels[0], "a context")
    for name in ("rationale", "seed", "zerogen", "extrapolate"):
        chats = {prompts.render(name, label, rationales=("r",), row=row) for label in labels}
        assert len(chats) == len(labels), f"{name} asks for two labels with the same words"
    listed = re.findall(r"^- (.*)$", prompts.question(row)[-1].content, re.MULTILINE)
    assert len(set(listed)) == len(labels)
    for label, shown in zip(labels, listed, strict=True):
        assert decided(shown, labels, family) == label
        assert prompts.question(row, [(row, label)])[1].content == shown


def test_case_12_the_teacher_is_offered_all_labels(tmp_path: Path) -> None:
    """Over HTTP: the method 'teacher' asks with three labels, and reads three."""
    rows = [
        (f"text {number} that says {word}", label)
        for number in range(4)
        for word, label in zip("abc", ("-1", "0", "1"), strict=True)
    ]
    for name in ("v.csv", "t.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((f"{name[0]} {text}", label) for text, label in rows)])

    def right(body: dict[str, Any]) -> str:
        last = body["messages"][-1]["content"].strip()
        return {"a": "-1", "b": "The answer is 0.", "c": "**1**"}[last[-1]]

    with LoopbackServer(right) as server:
        config = parse_config(
            {
                "task": {"name": "t", "instruction": "Decide.", "labels": {-1: "", 0: "", 1: ""}},
                "data": {"validation": {"path": "v.csv"}, "test": {"path": "t.csv"}},
                "teacher": {"backend": "openai", "base_url": server.base_url, "model": "loopback"},
                "method": {"name": "teacher", "seed_rows": 6},
                "cache": None,
            },
            base=tmp_path,
        )
        directory = RunDirectory.open(tmp_path / "run", config)
        with closing(Journal(directory.journal_path)) as journal:
            with closing(directory):
                run_loop(directory, journal, load_run_data(config))
            scores = journal.evaluation(0, "test")
        assert all("\n- -1\n- 0\n- 1\n" in seen.json["messages"][-1]["content"] for seen in server.completions)
    assert scores is not None
    assert scores.value == 1.0


def test_plain_labels_are_called_by_the_same_words_as_ever() -> None:
    assert label_names(["order_status", "re-order", "and/or", "top-10", "Good", "5", "1.5"]) == {
        "order_status": "order status",
        "re-order": "re order",
        "and/or": "and or",
        "top-10": "top 10",
        "Good": "Good",
        "5": "5",
        "1.5": "1.5",
    }
    assert asked(["order_status", "b"], "order_status") == "Write a text. Category: order status."


def test_where_one_label_needs_its_signs_all_are_called_as_they_are_spelled() -> None:
    assert label_names(["order_status", "-1"]) == {"order_status": "order_status", "-1": "-1"}
    assert decided("order status", ["order_status", "-1"]) == "order_status"


def test_several_labels_with_commas_are_quoted() -> None:
    labels = ["food, drinks", "food", "drinks", "salt and pepper"]
    assert asked(labels, "food|drinks", "multi_label") == "Write a text. Category: 'food' and 'drinks'."
    assert asked(labels, "food, drinks", "multi_label") == "Write a text. Category: 'food, drinks'."


def test_a_label_may_hold_a_bar_where_a_row_has_one_label() -> None:
    labels = {"a|b": "either", "c": "none of both"}
    assert asked(labels, "a|b") == "Write a text. Category: a|b (either)."
    assert decided("a|b", labels) == "a|b"


ALIKE = [
    ("Good", "good"),
    ("a b", "a  b"),
    ("a", " a"),
    ("caf\u00e9", "cafe\u0301"),
    ("a\u200bb", "ab"),
    ("-1", "\u22121"),
    ("it's", "it\u2019s"),
    ("\uff21", "A"),
    ("\u2265 5", ">= 5"),
    ("\u2764", "\u2764\ufe0f"),
    ("stra\u00dfe", "STRASSE"),
]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_case_12_labels_that_read_alike_are_refused(first: str, second: str) -> None:
    with pytest.raises(ValidationError) as caught:
        task({first: "", second: ""})
    message = str(caught.value)
    assert repr(first) in message
    assert repr(second) in message
    assert "rename one" in message


@pytest.mark.parametrize("label", ["", "  ", "\t", "\u200b", "\ufe0f"])
@pytest.mark.parametrize("family", ["classification", "multi_label", "pair"])
def test_a_label_that_nobody_can_see_is_refused(label: str, family: str) -> None:
    with pytest.raises(ValidationError, match="is empty or"):
        task({"a": "", label: ""}, family)


# in answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("-1", "-1"),
        ("1", "1"),
        ("+1", "1"),
        ("\u22121", "-1"),
        ("\u20131.", "-1"),
        ("Label: -1", "-1"),
        ("The answer is -1.", "-1"),
        ("The answer is 1, not -1.", "1"),
        ("**-1**", "-1"),
        ('"-1"', "-1"),
        ("[1]", "1"),
        ("- -1", "-1"),
        ("- 1", None),
        ('{"label": "-1"}', "-1"),
        ("-1.0", "-1"),
        ("10", None),
        ("0.5", None),
        ("-12", None),
        ("class-1", "1"),
        ("\u7b54\u6848\u662f-1\u3002", "-1"),
        ("I rate it 0 out of 10", "0"),
    ],
)
def test_signs_belong_to_a_label(answer: str, label: str | None) -> None:
    assert decided(answer, ["-1", "0", "1"]) == label
    assert decided(answer, ["1", "0", "-1"]) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("A", "A"),
        ("a-", "A-"),
        ("A+.", "A+"),
        ("Grade: A-", "A-"),
        ("(A)", "A"),
        ('I say "a".', "A"),
        ("This is a good one: B", "B"),
        ("A good one, so B", "B"),
        ("I would give it an A because it is good", "A"),
        ("A - it is good", "A"),
        ("A sad text.", None),
        ("B-", None),
    ],
)
def test_a_grade_is_no_article(answer: str, label: str | None) -> None:
    assert decided(answer, ["A", "A-", "A+", "B"]) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("C++", ["C", "C++", "C#"], "C++"),
        ("It is C#.", ["C", "C++", "C#"], "C#"),
        ("C, of course", ["C", "C++", "C#"], "C"),
        ("C++", ["C", "Java"], None),
        ("a b", ["a/b", "a b"], "a b"),
        ("it is A/B", ["a/b", "a b"], "a/b"),
        ("Not OK.", ["ok", "not ok"], "not ok"),
        ("very positive", ["positive", "very positive"], "very positive"),
        ("not ok", ["not_ok", "not-ok"], None),
        ("It is <5.", ["<5", ">=5", "5"], "<5"),
        ("\u22655", ["<5", ">=5", "5"], ">=5"),
        ("The value is 10.", ["1", "10", "1.0"], "10"),
        ("1.0", ["1", "10", "1.0"], "1.0"),
        ("4/5", ["3", "4", "5"], "4"),
        ("4.0", ["3", "4", "5"], "4"),
        ("4-star", ["3", "4", "5"], "4"),
        ("The label is (x|y).", ["a.*", "(x|y)"], "(x|y)"),
        ("\u8fd9\u662f\u6b63\u9762\u7684\u3002", ["\u6b63\u9762", "\u8d1f\u9762"], "\u6b63\u9762"),
        ("\u0434\u0430\u0439", ["\u0434\u0430\u0439", "\u0434\u0430"], "\u0434\u0430\u0439"),
        ("\uae0d\uc815\uc785\ub2c8\ub2e4", ["\uae0d\uc815", "\ubd80\uc815"], "\uae0d\uc815"),
        ("answer", ["answer", "question"], "answer"),
    ],
)
def test_the_longest_label_at_a_place_counts(answer: str, labels: list[str], label: str | None) -> None:
    assert decided(answer, labels) == label
    assert decided(answer, labels[::-1]) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("food, drinks", "food, drinks"),
        ("'food, drinks' and 'drinks'", "food, drinks|drinks"),
        ("drinks, none", "drinks|none"),
        ("none", "none"),
        ("salt and pepper", "salt and pepper"),
        ("drinks and salt and pepper", "drinks|salt and pepper"),
    ],
)
def test_labels_with_commas_are_read_out_of_a_list(answer: str, label: str) -> None:
    assert decided(answer, ["food, drinks", "drinks", "salt and pepper", "none"], "multi_label") == label


# Signs that labels have, more often than chance would have them.
NAMES = st.lists(
    st.one_of(st.text(min_size=1, max_size=12), st.text("aA1-+_/ |,.'\"*#<>=\u2212\u6b63", min_size=1, max_size=5)),
    min_size=2,
    max_size=5,
    unique=True,
)


@given(labels=NAMES, family=st.sampled_from(["classification", "pair", "multi_label"]))
@settings(max_examples=400, deadline=None)
def test_no_two_labels_share_their_words_and_each_is_read_from_its_own(labels: list[str], family: str) -> None:
    try:
        config = task(dict.fromkeys(labels, ""), family)
    except ValidationError:
        assume(False)
    prompts = Prompts(config)
    names = label_names(labels, several=family == "multi_label")
    assert len({prompts.render("zerogen", label) for label in labels}) == len(labels)
    for label in labels:
        assert read_answer(names[label], config, NONE) == (label, -1)
        assert read_answer(label, config, NONE) == (label, -1)


@given(
    labels=st.lists(st.from_regex(r"[a-z]{3,8}([_ -][a-z]{3,8})?", fullmatch=True), min_size=2, max_size=6, unique=True),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_several_labels_are_read_from_the_words_that_name_them(labels: list[str], data: st.DataObject) -> None:
    try:
        config = task(dict.fromkeys(labels, ""), "multi_label")
    except ValidationError:
        assume(False)
    assume(not any(word in re.split(r"[_ -]", label) for label in labels for word in ("and", "none")))
    chosen = join_labels(data.draw(st.sets(st.sampled_from(labels), min_size=1)), labels)
    turn = Prompts(config).question(NONE, [(NONE, chosen)])[1]
    assert read_answer(turn.content, config, NONE) == (chosen, -1)


# in YAML ------------------------------------------------------------------------------------------


def config_with(labels: str, mapping: str = "") -> str:
    source = f"{{path: v.csv, labels: {mapping}}}" if mapping else "{path: v.csv}"
    named = f"task:\n  name: t\n  instruction: Decide.\n  labels: {labels}\n"
    return f"{named}data:\n  validation: {source}\nteacher: {{backend: fake}}\n"


def refused(folder: Path, text: str, *overrides: str) -> str:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "c.yaml", list(overrides))
    return str(caught.value)


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true", "False", "ON", "Yes"])
def test_case_16_yaml_booleans_in_lists_and_mappings(tmp_path: Path, word: str) -> None:
    for text in (
        config_with(f"[{word}, b]"),
        config_with(f"{{{word}: x, b: y}}"),
        config_with(f"\n    - {word}\n    - b"),
        config_with("[a, b]", f"{{{word}: a}}"),
        config_with("[a, b]", f"{{x: {word}}}"),
    ):
        message = refused(tmp_path, text)
        assert "YAML reads yes, no, on and off as true and false" in message
        assert "quotes" in message
    quoted = config_with(f'["{word}", b]', f'{{x: "{word}"}}')
    (tmp_path / "q.yaml").write_text(quoted)
    config = load_config(tmp_path / "q.yaml")
    assert list(config.task.labels) == [word, "b"]
    assert config.data.validation.labels == {"x": word}


@pytest.mark.parametrize(
    ("spelled", "read"),
    [
        ("01", "1"),
        ("+1", "1"),
        ("0x10", "16"),
        ("1_000", "1000"),
        ("12:30", "750"),
        ("1.50", "1.5"),
        (".5", "0.5"),
        ("1.e+3", "1000.0"),
    ],
)
def test_case_16_numbers_that_yaml_changes_are_refused(tmp_path: Path, spelled: str, read: str) -> None:
    for text in (
        config_with(f"[{spelled}, b]"),
        config_with(f"{{{spelled}: x, b: y}}"),
        config_with("[a, b]", f"{{{spelled}: a}}"),
        config_with("[a, b]", f"{{x: {spelled}}}"),
    ):
        message = refused(tmp_path, text)
        assert f"YAML reads {spelled} as {read} (line " in message
        assert "quotes" in message
    assert f"YAML reads {spelled} as {read}" in refused(tmp_path, config_with("[a, b]"), f"task.labels=[{spelled}, b]")
    assert f"YAML reads {spelled} as {read}" in refused(tmp_path, config_with("[a, b]"), f"data.validation.labels.x={spelled}")


@pytest.mark.parametrize("spelled", ["1", "-1", "1.5", "2024-01-01", "1e3", "y", "n", "'01'", '"yes"', "0"])
def test_labels_that_are_what_they_are_spelled_like_are_taken(tmp_path: Path, spelled: str) -> None:
    for number, labels in enumerate((f"[{spelled}, b]", f"{{{spelled}: x, b: y}}")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(config_with(labels, f"{{{spelled}: b, x: {spelled}}}"))
        config = load_config(path)
        assert list(config.task.labels) == [spelled.strip("'\""), "b"]
        assert config.data.validation.labels == {spelled.strip("'\""): "b", "x": spelled.strip("'\"")}


@pytest.mark.parametrize("spelled", ["~", "null", ""])
def test_a_label_that_is_nothing_is_refused(tmp_path: Path, spelled: str) -> None:
    for labels in (f"\n    - {spelled}\n    - b", f"\n    {spelled or '?'}: x\n    b: y" if spelled else "\n    - b\n    -"):
        assert "as no value" in refused(tmp_path, config_with(labels))


@pytest.mark.parametrize(
    ("text", "key", "first", "second"),
    [
        (config_with("{a: x, b: y, a: z}"), "a", 4, 4),
        (config_with("\n    a: x\n    b: y\n    'a': z"), "a", 5, 7),
        (config_with("[a, b]") + "task: {}\n", "task", 1, 8),
        (config_with("[a, b]", "{1: a, 1: b}"), "1", 6, 6),
        (config_with("[a, b]") + "method:\n  rounds: 1\n  seed_rows: 9\n  rounds: 2\n", "rounds", 9, 11),
    ],
)
def test_case_16_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str, key: str, first: int, second: int) -> None:
    message = refused(tmp_path, text)
    assert f"the key {key!r} is repeated" in message
    assert all(f"line {line}" in message for line in (first, second))


def test_case_16_the_command_ends_with_two_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.csv").write_text("text,label\na one,yes\nb two,no\n")
    for labels in ("[yes, no]", "{a: x, a: y}", "[01, 02]"):
        (tmp_path / "c.yaml").write_text(config_with(labels))
        monkeypatch.setattr("sys.argv", ["stepsynth", "plan", str(tmp_path / "c.yaml")])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr().err.strip()
        assert len(said.splitlines()) == 1


_NO_TEXTS: list[tuple[Any, str, str]] = [
    (True, "yes", "is True, which is no text (YAML reads yes, no, on and off as true and false); put it in quotes"),
    (None, "~", "is None, which is no text (YAML reads ~, null and nothing at all as no value); put it in quotes"),
    (["a"], "[a]", "['a'] is a list; write a label as one text, in quotes"),
    (float("nan"), ".nan", "NaN"),
]


@pytest.mark.parametrize(("value", "spelled", "said"), _NO_TEXTS)
def test_a_label_of_a_source_that_is_no_text_is_one_line_from_python_and_from_yaml(
    tmp_path: Path, value: Any, spelled: str, said: str
) -> None:
    """Keys and values of ``data.validation.labels``; whoever writes Python is not told of YAML alone."""
    world = build_world(tmp_path)
    cases = [({"x": value}, f"{{x: {spelled}}}")]
    if not isinstance(value, list):
        cases.append(({value: "kalm"}, f"{{{spelled}: kalm}}"))
    for python, yaml in cases:
        source = ss.Source(world.folder / "validation.csv", labels=python)
        with pytest.raises(ConfigError) as caught:
            ss.plan(ss.Classification("a", "Decide.", ["kalm", "rund", "spitz"]), validation=source, out=tmp_path / "run")
        assert "data.validation.labels" in str(caught.value)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        text = world.config_path.read_text().replace("path: validation.csv", f"path: validation.csv\n    labels: {yaml}")
        (tmp_path / "changed.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"data\.validation\.labels") as caught:
            load_config(tmp_path / "changed.yaml")
        assert said in str(caught.value) or "YAML reads .nan as nan" in str(caught.value)


@pytest.mark.parametrize(
    ("meaning", "said"),
    [
        (True, "the description of label 'a' is True, which is no text (YAML reads yes, no,"),
        (["x"], "the description of label 'a' is ['x'], a list; write one text, in quotes"),
        ({"x": 1}, "the description of label 'a' is {'x': 1}, a dict; write one text, in quotes"),
    ],
)
def test_a_meaning_that_is_no_text_is_one_line(meaning: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ss.Classification("a", "Decide.", {"a": meaning, "b": "c"})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_and_dates_are_the_texts_that_they_are_spelled_like(tmp_path: Path) -> None:
    task = TaskConfig.model_validate({"name": "a", "instruction": "b", "labels": {1: 2, date(2024, 1, 1): None}})
    assert task.labels == {"1": "2", "2024-01-01": ""}
    assert SourceConfig.model_validate({"path": "x", "labels": {1: 2, date(2024, 1, 1): 1.5}}).labels == {
        "1": "2",
        "2024-01-01": "1.5",
    }


def test_a_list_that_names_a_label_twice_is_refused(tmp_path: Path) -> None:
    assert "'a' is there twice" in refused(tmp_path, config_with("[a, b, a]"))
    assert "'1' is there twice" in refused(tmp_path, config_with("[1, b, '1']"))


def test_anchors_and_merges_are_no_repeats() -> None:
    merged = "base: &b {x: 1, y: 2}\none: {<<: *b, x: 3}\ntwo: *b\nlist: &l [*b, *b]\nagain: *l"
    assert read_yaml(merged)["one"] == {"x": 3, "y": 2}


# in tables ----------------------------------------------------------------------------------------


def read(value: object, labels: list[str], mapping: dict[str, str] | None = None) -> str:
    reader = RowReader(task(labels), SourceConfig(path=Path("v.csv"), labels=mapping or {}), "validation")
    example = reader.example("0", RawRow(2, {"text": "a text", "label": value}), "row 0")
    reader.refuse_unknown()
    assert example is not None
    return example.label


@pytest.mark.parametrize(
    ("value", "labels", "label"),
    [
        (1, ["0", "1"], "1"),
        (1.0, ["0", "1"], "1"),
        ("1.0", ["0", "1"], "1"),
        (1, ["0.0", "1.0"], "1.0"),
        ("1", ["0.0", "1.0"], "1.0"),
        (-1.0, ["-1", "0", "1"], "-1"),
        (True, ["true", "false"], "true"),
        (False, ["True", "False"], "False"),
        ("TRUE", ["true", "false"], "true"),
        ("01", ["01", "1"], "01"),
        ("1.50", ["1.50", "2"], "1.50"),
    ],
)
def test_case_20_predict_changes_labels_and_texts(value: object, labels: list[str], label: str) -> None:
    """The part of labels: a cell of any type is the label that it spells."""
    assert read(value, labels) == label


@pytest.mark.parametrize(
    ("value", "labels"), [("01", ["0", "1"]), ("yes", ["true", "false"]), ("-1", ["0", "1"]), (2, ["0", "1"]), (True, ["0", "1"])]
)
def test_case_20_a_cell_that_spells_no_label_is_refused(value: object, labels: list[str]) -> None:
    with pytest.raises(DataError, match="does not have"):
        read(value, labels)


def test_case_20_a_label_with_a_sign_comes_back_from_a_data_set() -> None:
    config = task({-1: "unhappy", 0: "neither", 1: "happy"})
    for label in config.labels:
        assert read(json.loads(json.dumps({"label": label}))["label"], list(config.labels)) == label


def test_a_mapping_comes_before_other_spellings() -> None:
    assert read("1.0", ["0", "1"], {"1.0": "0"}) == "0"
    assert read(True, ["good", "bad"], {"true": "good"}) == "good"
