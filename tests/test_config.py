"""The config: unknown keys and secrets are refused, overrides apply, and the digest knows what matters."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stepsynth.config import RunConfig, load_config, parse_config, parse_stored
from stepsynth.errors import ConfigError
from stepsynth.methods import create_method
from stepsynth.registry import METHODS

VALUES: dict[str, Any] = {
    "task": {"name": "t", "instruction": "Decide.", "labels": {"pos": "liked", "neg": "disliked"}},
    "data": {"validation": {"path": "v.csv"}, "test": {"hub": "some/set"}},
    "teacher": {"backend": "fake"},
}
PAIR: dict[str, Any] = {
    **VALUES["task"],
    "family": "pair",
    "fields": {"text1": {"name": "premise", "context": True}, "text2": {"name": "hypothesis"}},
}
QUESTIONS: dict[str, Any] = {"family": "extractive_qa", "name": "t", "instruction": "Answer."}
KEY = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"


def values(**changes: object) -> dict[str, Any]:
    """Return the values with ``section__key`` set."""
    found = copy.deepcopy(VALUES)
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found


def write(folder: Path, content: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def refused(found: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(found)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dotted", "meant"),
    [
        ("methdo", "method"),
        ("task__lables", "labels"),
        ("data__validaton", "validation"),
        ("data__validation__pth", "path"),
        ("data__test__splt", "split"),
        ("teacher__modl", "model"),
        ("teacher__sampling__temprature", "temperature"),
        ("student__epoch", "epochs"),
        ("method__ruonds", "rounds"),
        ("budget__request", "requests"),
        ("task__prompts__sed", "seed"),
        ("data__validation__columns__txet", "text"),
        ("data__validation__columns__text_1", "text1"),
        ("data__contexts__colums", "columns"),
        ("data__seed__splt", "split"),
        ("method__match__unt", "unit"),
        ("method__few_shots", "few_shot"),
        ("method__mistake_of", "mistakes_of"),
        ("task__field", "fields"),
        ("task__prompts__anser", "answer"),
        ("student__strid", "stride"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level_with_the_nearest_known_one(dotted: str, meant: str) -> None:
    message = refused(values(**{dotted: "x"}))
    assert repr(dotted.split("__")[-1]) in message
    assert f"Did you mean {meant!r}?" in message


def test_a_misspelt_key_is_named_rather_than_the_one_that_is_missing_for_it() -> None:
    fields = {"text1": {"nmae": "premise", "context": True}, "text2": {"name": "hypothesis"}}
    message = refused(values(task={**PAIR, "fields": fields}))
    assert message == "unknown key 'nmae' in task.fields.text1. Did you mean 'name'?"


def test_a_key_that_is_like_none_lists_the_known_ones() -> None:
    assert "Known: requests, tokens, usd." in refused(values(budget__zzz=1))


@pytest.mark.parametrize("missing", ["task", "data"])
def test_a_missing_section_is_named(missing: str) -> None:
    found = values()
    del found[missing]
    assert refused(found).startswith(f"{missing} is missing")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"teacher__sampling": {"top_p": 0}}, ("teacher.sampling.top_p", "0")),
        ({"method__rounds": -1}, ("method.rounds", "-1")),
        ({"method__seed_rows": 1, "task__labels": {"a": "", "b": ""}}, ("method.seed_rows", "1")),
        ({"method__seed_rows": 2, "task__labels": {"a": "", "b": "", "c": ""}}, ("method.seed_rows=2", "3 labels")),
        ({"task__labels": {"a": ""}}, ("task.labels", "'a'", "at least two")),
        ({"task__labels": ["a", "a"]}, ("task.labels", "at least two")),
        ({"data__validation": {"path": "a", "hub": "b"}}, ("data.validation", "exactly one")),
        ({"data__validation": {}}, ("data.validation", "exactly one")),
        ({"teacher": {"backend": "openai"}}, ("base_url",)),
        ({"teacher__base_url": "localhost:8000"}, ("'localhost:8000'", "http://")),
        ({"teacher__backend": "opnai"}, ("'opnai'", "Did you mean 'openai'?")),
        ({"seed": "x" * 500}, ("seed", "...")),
        ({"task__labels": {}}, ("task.labels", "at least two")),
        ({"task__family": "multilabel"}, ("task.family", "'multilabel'", "Did you mean 'multi_label'?")),
        ({"method__name": "zero-gen"}, ("method.name", "Did you mean 'zerogen'?")),
        ({"method__stop": "no_gain"}, ("method.stop", "Did you mean 'no-gain'?")),
        ({"method__few_shot": -1}, ("method.few_shot", "-1")),
        ({"method__few_shot": 51}, ("method.few_shot", "51")),
        ({"method__few_shot": "three"}, ("method.few_shot", "'three'")),
        ({"method__match": {"unit": "token", "amount": 5}}, ("method.match.unit", "Did you mean 'tokens'?")),
        ({"method__match": {"unit": "tokens", "amount": 0}}, ("method.match.amount", "0")),
        ({"method__match": {"unit": "usd", "amount": -0.5}}, ("method.match.amount", "-0.5")),
        ({"method__match": {"unit": "requests"}}, ("method.match.amount is missing",)),
        ({"method__match": 5}, ("method.match", "5")),
        ({"data__contexts": {"path": "c.csv", "hub": "some/set"}}, ("data.contexts", "exactly one")),
        ({"data__seed": {}}, ("data.seed", "exactly one")),
        ({"data__validation__columns": {"text": 3}}, ("data.validation.columns.text", "3")),
        ({"student__max_answer_tokens": 0}, ("student.max_answer_tokens", "0")),
        ({"student__stride": -1}, ("student.stride", "-1")),
    ],
)
def test_a_wrong_value_is_named_with_its_key(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refused(values(**changes))
    assert all(part in message for part in parts), message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ({"fields": PAIR["fields"]}, ("'classification' has no fields", "only pairs")),
        ({"family": "multi_label", "fields": PAIR["fields"]}, ("'multi_label' has no fields",)),
        ({"family": "multi_label", "labels": ["a|b", "c"]}, ("'a|b'", "'|'")),
        ({"family": "multi_label", "labels": ["", "c"]}, ("''", "empty")),
        ({"family": "multi_label", "labels": ["c"]}, ("task.labels", "'c'", "at least two")),
        ({**PAIR, "fields": {}}, ("found 0 fields, 0 of them", "context: true")),
        ({**PAIR, "fields": {"text1": {"name": "a", "context": True}}}, ("found 1 fields",)),
        ({**PAIR, "fields": {"text1": {"name": "a"}, "text2": {"name": "b"}}}, ("2 fields, 0 of them",)),
        (
            {**PAIR, "fields": {name: {"name": "a", "context": True} for name in ("text1", "text2")}},
            ("2 fields, 2 of them",),
        ),
        ({**PAIR, "fields": {"text1": {"name": "", "context": True}, "text2": {"name": "b"}}}, ("task.fields.text1.name", "''")),
        ({**PAIR, "fields": {"text3": {"name": "a"}}}, ("task.fields.text3",)),
        ({**PAIR, "order": ["text1", "text1"]}, ("['text1', 'text1']", "twice")),
        ({**PAIR, "order": ["text1"]}, ("task.order",)),
        ({**PAIR, "labels": ["yes"]}, ("task.labels", "'yes'", "at least two")),
        ({**QUESTIONS, "labels": ["yes", "no"]}, ("no labels", "task.labels")),
        ({**QUESTIONS, "fields": PAIR["fields"]}, ("'extractive_qa' has no fields",)),
    ],
)
def test_what_does_not_fit_a_family_is_refused_with_what_to_write(task: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refused(values(task={**VALUES["task"], **task} if "name" not in task else task))
    assert message.startswith("task")
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("family", "task"), [("pair", PAIR), ("extractive_qa", QUESTIONS)])
def test_a_family_with_what_it_needs_is_taken(family: str, task: dict[str, Any]) -> None:
    config = parse_config(values(task=task))
    assert config.task.family == family
    assert parse_config(config.resolved()) == config


def test_only_labels_that_are_joined_may_not_hold_the_separator() -> None:
    for family in ("classification", "pair"):
        task = {**PAIR, "family": family, "labels": ["a|b", "c"], "fields": PAIR["fields"] if family == "pair" else {}}
        assert list(parse_config(values(task=task)).task.labels) == ["a|b", "c"]


@pytest.mark.parametrize(("stride", "length"), [(32, 32), (64, 32), (9, 8)])
def test_windows_of_questions_must_move_on(stride: int, length: int) -> None:
    student = {"stride": stride, "max_length": length}
    message = refused(values(task=QUESTIONS, student=student))
    assert f"student.stride={stride}" in message
    assert f"student.max_length={length}" in message
    for task in (VALUES["task"], PAIR):
        assert parse_config(values(task=task, student=student)).student.stride == stride, "other families have no windows"


def test_windows_may_share_all_but_one_token() -> None:
    assert parse_config(values(task=QUESTIONS, student={"stride": 31, "max_length": 32})).student.stride == 31


def test_rows_of_several_labels_need_not_be_as_many_as_the_labels() -> None:
    """One row may carry them all; a row of one label cannot."""
    labels = ["a", "b", "c"]
    task = {**VALUES["task"], "family": "multi_label", "labels": labels}
    assert parse_config(values(task=task, method={"seed_rows": 2})).method.seed_rows == 2
    assert "3 labels" in refused(values(task={**PAIR, "labels": labels}, method={"seed_rows": 2}))


@pytest.mark.parametrize("name", METHODS.built_in)
def test_only_the_loop_goes_round_and_only_zerogen_sees_no_gold_row(name: str) -> None:
    crossfits = name in ("crossfit", "pool", "annotate")
    pool = {"data__pool": {"path": "pool.txt"}} if name in ("pool", "annotate") else {}
    config = parse_config(values(method={"name": name, "rounds": 3}, **pool))
    method = create_method(config)
    assert method.rounds == (3 if name in ("s3", "s3+gold", "crossfit", "annotate") else 0)
    assert config.method.label_check == "auto"
    assert method.doubts_labels(config) is (name != "zerogen" and not crossfits)
    for check, checks in (("harvest", True), ("none", False)):
        if crossfits and check == "harvest":
            continue
        assert method.doubts_labels(parse_config(values(method={"name": name, "label_check": check}, **pool))) is checks


def test_a_match_is_read() -> None:
    match = parse_config(values(method__match={"unit": "usd", "amount": 0.25})).method.match
    assert match is not None
    assert (match.unit, match.amount) == ("usd", 0.25)


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("teacher__api_key_env", KEY),
        ("teacher__api_key_env", "hf_abcdefghijklmnopqrstuvwx"),
        ("teacher__api_key_env", "A" * 45),
        ("teacher__api_key_env", "Bearer abc"),
        ("teacher__api_key", KEY),
        ("teacher__base_url", f"https://user:{KEY}@api.example.org/v1"),
        ("teacher__base_url", f"https://{KEY}@api.example.org"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(dotted: str, value: str) -> None:
    """S2: a config names the variable that holds a key."""
    message = refused(values(**{dotted: value}))
    assert value not in message
    assert KEY not in message
    assert "variable" in message or "api_key_env" in message


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "key", "_K1"])
def test_the_name_of_a_variable_is_no_secret(name: str) -> None:
    assert parse_config(values(teacher__api_key_env=name)).teacher.api_key_env == name


def test_overrides_are_yaml_and_make_sections_where_there_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, VALUES)
    overrides = [
        "method.rounds=3",
        "budget.requests=7",
        "teacher.sampling.temperature=0.5",
        "task.labels={a: x=y, b: }",
        "cache=null",
    ]
    config = load_config(path, overrides)
    assert (config.method.rounds, config.budget.requests, config.teacher.sampling.temperature) == (3, 7, 0.5)
    assert config.task.labels == {"a": "x=y", "b": ""}
    assert config.cache is None


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("method.rounds", "key=value"),
        ("=3", "key=value"),
        ("seed.deep=3", "seed.deep"),
        ("task.name.deep=3", "'name' holds a plain value"),
        ("seed=[", "not a YAML value"),
        ("seed=2024-02-31", "not a YAML value"),
        ("method.ruonds=3", "Did you mean 'rounds'?"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, override: str, part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        load_config(write(tmp_path, values(seed=1)), [override])


@pytest.mark.parametrize(
    "content",
    ["[1, 2", "a: 2024-02-31", "- a\n- b", "", "just words", "a: !!python/object:os.system {}", "[" * 3000, "a: &a [*a"],
)
def test_a_file_that_is_no_mapping_of_sections_is_one_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, content))
    assert "config.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_bytes_and_no_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"task: \xff\xfe")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"no config at .* stepsynth init"):
        load_config(tmp_path / "none.yaml")


def test_data_paths_are_relative_to_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    absolute = str(tmp_path / "elsewhere.csv")
    config = load_config(write(tmp_path, values(data__test={"path": absolute})))
    assert config.data.validation.path == tmp_path / "v.csv"
    assert config.data.test is not None
    assert config.data.test.path == Path(absolute)
    more = load_config(write(tmp_path, values(data__contexts={"path": "c.csv"}, data__seed={"path": "sub/s.csv"})))
    assert more.data.contexts is not None
    assert more.data.seed is not None
    assert more.data.contexts.path == tmp_path / "c.csv"
    assert more.data.seed.path == tmp_path / "sub" / "s.csv"


def test_variables_and_the_home_folder_are_expanded_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", "sub/folder")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = load_config(write(tmp_path, values(data__validation={"path": "${SOME_DATA}/v.csv"}, data__test={"path": "~/t.csv"})))
    assert config.data.validation.path == tmp_path / "sub" / "folder" / "v.csv"
    assert config.data.test is not None
    assert config.data.test.path == tmp_path / "home" / "t.csv"


def test_an_unset_variable_in_a_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_DATA", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_DATA, which is not set"):
        load_config(write(tmp_path, values(data__validation={"path": "${NO_SUCH_DATA}/v.csv"})))


def test_nothing_but_paths_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", "leaked")
    config = load_config(write(tmp_path, values(task__instruction="${SOME_DATA} {{7*7}}")))
    assert config.task.instruction == "${SOME_DATA} {{7*7}}"


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher__concurrency": 3},
        {"teacher__timeout_s": 3.0},
        {"teacher__attempts": 3},
        {"teacher__api_key_env": "OTHER"},
        {"budget": {"requests": 5, "tokens": 6}},
        {"cache": "/elsewhere.db"},
        {"data__validation": {"path": "moved.csv"}},
    ],
)
def test_the_digest_stays_where_results_do(changes: dict[str, Any]) -> None:
    assert parse_config(values(**changes)).result_digest() == parse_config(VALUES).result_digest()


@pytest.mark.parametrize("source", ["contexts", "seed"])
def test_a_file_that_moved_stays_in_the_digest_and_one_that_came_does_not(source: str) -> None:
    digests = [
        parse_config(values(data={**VALUES["data"], source: found})).result_digest()
        for found in ({"path": "here.csv"}, {"path": "there.csv"}, None)
    ]
    assert digests[0] == digests[1] != digests[2]


def leaves(node: object, where: str = "") -> dict[str, object]:
    if isinstance(node, dict) and node:
        return {k: v for key, value in node.items() for k, v in leaves(value, f"{where}__{key}".lstrip("_")).items()}
    return {where: node}


FREE = {
    "teacher__concurrency",
    "teacher__timeout_s",
    "teacher__connect_timeout_s",
    "teacher__attempts",
    "teacher__requests_per_minute",
    "teacher__longest_pause_s",
    "teacher__api_key_env",
    "teacher__price",
    "teacher__mode",
    "teacher__rows_per_request",
    "teacher__reasoning_tokens",
    "teacher__headers",
    "budget__requests",
    "budget__tokens",
    "budget__usd",
    "cache",
}
# A source is a file or a data set, files may move, and only pairs have fields: these have no second value that matters here.
FIXED = {"task__fields", "data__validation__hub", "data__test__path", "data__validation__path"}
# Other backends' settings, see below.
FIXED |= {"teacher__api_version", "teacher__options"}
OTHERS = {
    "task__family": "multi_label",
    "task__order": ["text2", "text1"],
    "task__paragraphs": "all",
    "data__contexts": {"path": "c.csv"},
    "data__seed": {"path": "s.csv"},
    "method__match": {"unit": "requests", "amount": 5},
    "method__mistakes_of": "other",
    "method__stop": "no-gain",
    "teacher__backend": "openvino",
    "student__head": "probe",
    "student__keep": "best",
    "student__precision": "float32",
    "method__name": "seed-only",
    "method__balance": "mistakes",
    "method__label_check": "none",
    "teacher__base_url": "http://127.0.0.1:1/v1",
    "teacher__structured": "json",
    "task__prompts": {"seed": "x"},
    "task__prompt_style": "capable",
    "method__seed_from": "gold",
    "method__demonstrations": "fixed",
    "method__feedback": "none",
    "method__pool_near_duplicates": 0.5,
    "data__validation__columns": {"text": "x"},
    "data__validation__labels": {"1": "pos"},
    "data__test__columns": {"text": "x"},
    "data__test__labels": {"1": "pos"},
}


def other(value: object) -> object:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return f"{value}x" if isinstance(value, str) else 3


@pytest.mark.parametrize("dotted", sorted(set(leaves(parse_config(VALUES).resolved())) - FREE - FIXED))
def test_the_digest_changes_with_every_other_key(dotted: str) -> None:
    # Two keys do not go with cross-fitting, which is the default.
    before = parse_config({**VALUES, "method": {**VALUES.get("method", {}), "name": "s3"}})
    new = OTHERS.get(dotted, other(leaves(before.resolved())[dotted]))
    resolved = before.resolved()
    node = resolved
    *parents, last = dotted.split("__")
    for parent in parents:
        node = node[parent]
    node[last] = new if not dotted.endswith(("config", "revision")) else "x"
    assert parse_config(resolved).result_digest() != before.result_digest()


SERVER = {"backend": "openai", "base_url": "http://127.0.0.1:1/v1"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SERVER, {**SERVER, "api_version": "2024-10-21"}),
        (
            {"backend": "transformers", "model": "a/b"},
            {"backend": "transformers", "model": "a/b", "options": {"dtype": "float32"}},
        ),
    ],
)
def test_the_digest_changes_with_the_settings_of_other_backends(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert parse_config(values(teacher=before)).result_digest() != parse_config(values(teacher=after)).result_digest()


@pytest.mark.parametrize(
    "change", [{"mode": "batch"}, {"rows_per_request": 4}, {"price": {"input": 1, "output": 2}}, {"connect_timeout_s": 3}]
)
def test_the_digest_stays_with_the_way_in_which_answers_are_had(change: dict[str, Any]) -> None:
    digests = {parse_config(values(teacher=found)).result_digest() for found in (SERVER, {**SERVER, **change})}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("teacher", "parts"),
    [
        ({"backend": "anthropic", "api_version": "x"}, ("api_version", "'openai'")),
        ({"backend": "transformers", "mode": "batch"}, ("mode 'batch'", "'transformers'")),
        ({"backend": "anthropic", "rows_per_request": 2}, ("rows_per_request 2", "'openai'")),
        ({**SERVER, "mode": "batch", "rows_per_request": 2}, ("rows_per_request 2", "mode 'batch'")),
        ({**SERVER, "options": {"top_p": 1}}, ("options.top_p", "teacher.sampling.top_p")),
        ({"backend": "openvino", "options": {"a": 1}}, ("options", "'openvino'")),
        ({"backend": "vllm", "options": {"trust_remote_code": True}}, ("trust_remote_code",)),
    ],
)
def test_a_setting_that_a_backend_does_not_have_is_refused(teacher: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refused(values(teacher=teacher))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    "options",
    [{"a": {"b": [KEY]}}, {"api_key": "short"}, {"headers": {"x-api-key": "short"}}, {"hf_token": "x"}, {"a": f"Bearer {KEY}"}],
)
def test_a_key_in_options_is_refused_without_being_shown(options: dict[str, Any]) -> None:
    message = refused(values(teacher={"backend": "litellm", "options": options}))
    assert "api_key_env" in message
    assert KEY not in message


def test_options_may_hold_paths_and_names_of_tokens() -> None:
    options = {"download_dir": "/data/models/a-folder-with-a-rather-long-name/weights", "eos_token": "</s>"}
    assert parse_config(values(teacher={"backend": "vllm", "options": options})).teacher.options == options


def test_anthropics_own_address_is_the_default_however_it_is_written() -> None:
    short = parse_config(values(teacher={"backend": "anthropic"}))
    long = parse_config(values(teacher={"backend": "anthropic", "base_url": "https://api.anthropic.com"}))
    assert short.teacher.identity() == long.teacher.identity()


@pytest.mark.parametrize(
    "fields",
    [
        {"text1": {"name": "note", "context": True}, "text2": {"name": "hypothesis"}},
        {"text1": {"name": "premise"}, "text2": {"name": "hypothesis", "context": True}},
    ],
)
def test_the_digest_changes_with_the_fields_of_a_pair(fields: dict[str, Any]) -> None:
    digests = {parse_config(values(task={**PAIR, "fields": found})).result_digest() for found in (PAIR["fields"], fields)}
    assert len(digests) == 2


def test_the_digest_knows_the_order_of_the_labels() -> None:
    """It is the order of the student's outputs, and of what does not divide evenly."""
    swapped = dict(reversed(VALUES["task"]["labels"].items()))
    assert parse_config(values(task__labels=swapped)).result_digest() != parse_config(VALUES).result_digest()


def test_a_stored_config_without_later_keys_means_what_was_done_then() -> None:
    """In a user's YAML their absence means the default of now."""
    old = {"head": "fresh", "keep": "best", "precision": "float32", "epochs": 5, "min_steps": 0}
    named = parse_config(values(student=old))
    stored = named.resolved()
    assert not {"head", "keep", "precision"} & set(stored["student"]), "as version 0.1.0 wrote it"
    assert parse_stored(stored) == named
    assert parse_stored(stored).result_digest() == named.result_digest()
    assert parse_config(stored).student.head == parse_config(VALUES).student.head == "probe-start"


@pytest.mark.parametrize(
    "student",
    [
        {},
        {"head": "fresh"},
        {"keep": "best", "precision": "bfloat16"},
        {"head": "probe", "precision": "float32", "min_steps": 0},
        {"head": "fresh", "keep": "best", "precision": "float32"},
    ],
)
def test_what_is_stored_and_what_is_shown_give_the_config_again(student: dict[str, Any]) -> None:
    config = parse_config(values(student=student, task__paragraphs="all"))
    assert parse_stored(config.resolved()) == config
    assert parse_config(config.written()) == config
    assert parse_stored(config.written()) == config


def test_a_stored_config_that_makes_no_sense_is_still_told() -> None:
    for broken in ({}, {"student": 3}, {"task": None}, {**VALUES, "student": {"epoch": 1}}):
        with pytest.raises(ConfigError):
            parse_stored(broken)


def test_a_resolved_config_gives_the_same_config_again() -> None:
    config = parse_config(values(data__validation={"path": "/a/v.csv", "sample": 10}, cache=None))
    again: RunConfig = parse_config(config.resolved())
    assert again == config
    assert again.result_digest() == config.result_digest()


def test_a_key_of_a_section_is_found_from_the_top() -> None:
    """`--set seed_rows=6` was asked whether `seed` is meant, which is another thing."""
    with pytest.raises(ConfigError, match=r"unknown key 'seed_rows' in the config\. Did you mean 'method\.seed_rows'\?"):
        parse_config({"task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]}, "seed_rows": 6})


def test_a_config_of_a_similar_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "nopool.yaml").write_text("task: {}")
    with pytest.raises(ConfigError, match=r"no config at .*nopol\.yaml'\. Did you mean '.*/nopool\.yaml'\?"):
        load_config(tmp_path / "nopol.yaml")
    with pytest.raises(ConfigError, match="Make one with: stepsynth init DIR"):
        load_config(tmp_path / "else.yaml")
