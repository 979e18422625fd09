"""S3: a page is inert. Whatever a config, a data set or a model says, no script, handler or address comes of it."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report_page import CORPUS, Page, shown
from report_story import Story, build, comparison
from stepsynth.config import RunConfig
from stepsynth.report import page as run_page
from stepsynth.report import render_comparison, render_report

FAMILIES = {
    "classification": Story(backend="openai"),
    "multi_label": Story(family="multi_label", backend="openai"),
    "pair": Story(family="pair", labels=("follows", "other"), backend="openai"),
    "extractive_qa": Story(family="extractive_qa", labels=(), backend="openai"),
}
# The page compares these with words of its own; no text of a user or a model reaches them.
OWN_WORDS = {"family", "name", "backend", "balance", "label_check", "stop", "structured", "mode", "metric", "match", "reference"}
anything = st.one_of(st.text(st.sampled_from("<>\"'&/=;:!-[](){}%#$\\ \n\r\tabcsriptonlehf"), max_size=60), st.text(max_size=60))


def poisoned(value: Any, payload: str, key: str = "") -> Any:
    """Return a value with a payload behind every string in it, but for words of the program's own."""
    if isinstance(value, dict):
        return {inner: poisoned(each, payload, str(inner)) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(each, payload, key) for each in value)
    return f"{value}{payload}" if isinstance(value, str) and key not in OWN_WORDS else value


def hostile_config(config: RunConfig, payload: str) -> RunConfig:
    """Return the config with the payload in every text that a user may write, checked or not."""
    task = config.task
    teacher = config.teacher.model_copy(
        update={name: f"{getattr(config.teacher, name)}{payload}" for name in ("model", "base_url", "api_key_env", "api_version")}
        | {"options": {"device": payload, payload: [payload, {payload: payload}]}}
    )
    data = config.data.model_copy(
        update={
            name: source.model_copy(update={"path": Path(f"x{payload}"), "hub": payload, "columns": {"text": payload}})
            for name in ("validation", "test", "contexts", "seed")
            for source in [config.data.validation]
        }
    )
    changed = {
        "name": f"{task.name}{payload}",
        "instruction": payload,
        "text_kind": payload,
        "labels": dict.fromkeys(task.labels, payload),
        "fields": {name: field.model_copy(update={"name": f"{field.name}{payload}"}) for name, field in task.fields.items()},
        "prompts": {"seed": payload, "answer": payload},
    }
    return config.model_copy(
        update={
            "task": task.model_copy(update=changed),
            "teacher": teacher,
            "data": data,
            "student": config.student.model_copy(update={"model": payload}),
            "method": config.method.model_copy(update={"mistakes_of": f"m{payload}"}),
            "cache": Path(f"c{payload}"),
        }
    )


def run_page_with(story: Story, payload: str) -> str:
    """Return the page of a run whose config, rows, results and cautions all hold the payload."""
    plain = payload.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    with tempfile.TemporaryDirectory() as folder:
        changed = replace(story, rewrite=lambda text: f"{text} {payload}")
        journal, results, config = build(Path(folder) / "journal.db", changed)
        with closing(journal):
            results = poisoned(results, payload)
            results["methods"] = {config.method.name: next(iter(results["methods"].values()))}
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(run_page, "cautions_of", lambda *_: [f"caution {payload}"])
                patched.setattr(run_page, "_figures", lambda *_: {})
                return render_report(journal, results, hostile_config(config, plain))


def judge(html: str) -> Page:
    """Parse a page, and refuse whatever could act."""
    html.encode("utf-8")
    page = Page(html)
    assert page.problems == []
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"
    }  # fmt: skip
    return page


@pytest.mark.parametrize(
    ("family", "payload"),
    [*(("classification", payload) for payload in CORPUS), *((family, " ".join(CORPUS)) for family in FAMILIES)],
)
def test_s03_the_page_of_a_run_is_inert_whatever_its_config_results_and_rows_say(family: str, payload: str) -> None:
    page = judge(run_page_with(FAMILIES[family], payload))
    assert shown(f"caution {payload}") in page.text
    assert shown(f"first-run {payload}")[:40] in page.text


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(anything)
def test_s03_any_text_anywhere_leaves_the_page_of_a_run_inert(payload: str) -> None:
    judge(run_page_with(FAMILIES["pair"], payload))


@pytest.mark.parametrize("payload", CORPUS)
def test_s03_the_page_of_a_comparison_is_inert_whatever_its_results_say(payload: str) -> None:
    page = judge(compared(payload))
    assert shown(f"movie-sentences{payload}") in page.text


@settings(max_examples=15, deadline=None)
@given(anything)
def test_s03_any_text_anywhere_leaves_the_page_of_a_comparison_inert(payload: str) -> None:
    judge(compared(payload))


def compared(payload: str) -> str:
    """Return the page of a comparison with the payload in every string of its results."""
    results = poisoned(comparison(), payload)
    for entry in results["systems"]:
        entry["name"] = entry["name"] if entry["name"] == results["reference"] else f"{entry['name']}{payload}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("stepsynth.report.comparison.curve_figure", lambda *_, **__: "<svg></svg>")
        patched.setattr("stepsynth.report.comparison.forest_figure", lambda *_, **__: "<svg></svg>")
        return render_comparison(results)


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ("<p onclick='x'>a</p>", "handler onclick"),
        ("<script>a</script>", "element script"),
        ("<a href='https://evil.example'>a</a>", "href points to"),
        ("<p style='background:url(//evil.example)'>a</p>", "style"),
        ("<img src=x>", "element img"),
        ("<p>a", "not closed"),
    ],
)
def test_s03_the_reader_sees_what_could_act(html: str, problem: str) -> None:
    """Otherwise nothing above would be shown."""
    assert any(found.startswith(problem) for found in Page(html).problems)
