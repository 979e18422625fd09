"""Moderations in words of their own, and what a run says where the server left some requests unanswered."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from stepsynth.errors import RunError
from stepsynth.methods.seed import _advice
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.refusals import classify
from stepsynth.training import runner
from stepsynth.types import DropReason, StageKind


def said(message: str) -> str:
    return json.dumps({"error": {"message": message}})


@pytest.mark.parametrize(
    "message",
    [
        "The input text triggers our risk control, please modify it",
        "The prompt was blocked due to PROHIBITED_CONTENT",
        "Your request was rejected as a result of our usage policies.",
        "Request blocked by guardrails",
        "The text contains potentially harmful material",
        "输入内容违规",
        "high risk",
        "The output was judged high-risk.",
    ],
)
def test_a_moderation_in_other_words_is_one(message: str) -> None:
    assert classify(400, said(message)) == "withheld"
    assert read_completion(said(message))[0].finish_reason == "refusal"


@pytest.mark.parametrize(
    "message",
    ["Your account is on hold by risk control", "账号违规", "High risk of overload: use fewer workers", "Unknown field: risk"],
)
def test_other_refusals_are_none(message: str) -> None:
    assert classify(400, said(message)) == ""


def test_the_advice_counts_what_failed_and_claims_no_more() -> None:
    advice = _advice({DropReason.FAILED: 5, DropReason.TOO_SHORT: 4})
    assert "did not answer 5 of 9" in advice
    assert "none" not in advice


def test_a_run_without_rows_counts_what_failed_of_all_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [
        SimpleNamespace(kind=StageKind.SEED, reason=reason, rows=rows) for reason, rows in (("", 4), (DropReason.FAILED, 8))
    ]
    counted.append(SimpleNamespace(kind=StageKind.RATIONALES, reason=DropReason.FAILED, rows=100))
    monkeypatch.setattr(runner, "count_rows", lambda _: counted)
    monkeypatch.setattr(runner, "repeated_answer", lambda _, reasons: "")
    run: Any = SimpleNamespace(_journal=None, _directory=SimpleNamespace(config=SimpleNamespace(task=SimpleNamespace(labels={}))))
    with pytest.raises(RunError) as caught:
        runner.StudentRunner._refuse_hopeless(run, [])
    assert "did not answer 8 of 12" in caught.value.hint
