"""What ``--json`` prints is one object, of every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from stepsynth.report.verify import Check, Finding


@pytest.mark.parametrize("findings", [[], [Finding("journal", "journal.db", "is damaged")]])
def test_verify_prints_an_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, findings: list[Finding]
) -> None:
    monkeypatch.setattr("stepsynth.report.verify.check_run", lambda _: Check(findings, ["Not compared."]))
    outcome = stepsynth(capsys, "verify", tmp_path / "r", "--json")
    found = json.loads(outcome.out)
    assert (found["run"], found["whole"], len(found["problems"])) == ("r", not findings, len(findings))
    assert found["notes"] == ["Not compared."]
    assert outcome.code == bool(findings)


def test_cancel_prints_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[dict[str, Any]] = [{"name": "a", "id": "b", "requests": 3, "outcome": "cancelled"}]
    monkeypatch.setattr("stepsynth.cli.cancelling.cancel_batches", lambda _: batches)
    assert json.loads(stepsynth(capsys, "cancel", tmp_path / "r", "--json").out) == {"run": "r", "batches": batches}
