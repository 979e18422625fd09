"""Tables on narrow terminals: folded or in lines, and nothing cut off."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from stepsynth.cli.comparing import print_comparison
from stepsynth.cli.progress_view import open_panel
from stepsynth.cli.running import print_status
from stepsynth.comparison.markdown import comparison_rows


def system(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "rows": [1234, 2345],
        "requests": [34567, 45678],
        "tokens": [1234567, 2345678],
        "usd": [1.25],
        "minutes": 12.5,
        "score": {"value": 0.812, "ci95": [0.78, 0.84]},
        "difference": {"value": -0.034, "ci95": [-0.05, -0.01], "p_holm": 0.004},
    }


RESULTS = {
    "task": "[odd] task",
    "match": "tokens",
    "budget": "s3",
    "test_rows": 1821,
    "metric": "macro_f1",
    "reference": "s3",
    "systems": [system("s3"), system("zerogen"), system("s3:method.rationales=0:student.epochs=7")],
    "forecast": None,
    "warnings": [],
}
STATUS: dict[str, Any] = {
    "run": "r",
    "state": "unfinished",
    "holder": None,
    "stages": [
        {
            "stage": f"round-{n}/extrapolate",
            "kind": "extrapolate",
            "title": f"round {n}, rows from mistakes",
            "requested": 12345,
            "accepted": 9876,
            "dropped": {"duplicate": 1200, "label in doubt": 800},
            "seconds": 1234.5,
        }
        for n in (1, 2)
    ],
    "requests": 5,
    "from_cache": 0,
    "tokens": {"prompt": 1, "completion": 2},
    "cost_usd": None,
    "batches": [],
    "now": None,
    "pause": None,
    "results": {"methods": {"s3": {}}},
}


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_a_comparison_loses_no_cell(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_comparison(RESULTS, Path("out"))
    out = capsys.readouterr().out
    assert "…" not in out
    for row in comparison_rows(RESULTS)[1:]:
        assert all(squeezed(cell) in squeezed(out) for cell in row), row
    assert "[odd] task" in " ".join(out.split())


@pytest.mark.parametrize("width", [30, 40, 59, 80, 120])
def test_a_status_loses_no_count_and_no_stage(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_status(json.loads(json.dumps(STATUS)))
    out = capsys.readouterr().out
    assert "…" not in out
    for said in ("round 1,", "round 2,", "mistakes", "12,345", "9,876", "1234.5", "1200", "doubt"):
        assert said in out


ESCAPES = "\x1b]0;owned\x07\x1b[2Jx\x9b31m\x7f"


@pytest.mark.parametrize("width", [30, 200])
def test_a_terminal_obeys_no_name_of_a_task_or_label(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    named = {"task": ESCAPES, "warnings": [ESCAPES], "reference": ESCAPES, "systems": [system(ESCAPES), system("zerogen")]}
    print_comparison({**RESULTS, **named}, Path("out"))
    short = {**STATUS["stages"][0], "kind": "seed", "missing": {ESCAPES: 3}}
    print_status({**STATUS, "run": ESCAPES, "stages": [short]})
    with open_panel(quiet=False) as panel:
        panel.note(ESCAPES)
    printed = "".join(capsys.readouterr())
    assert "x31m" in "".join(printed.split())
    assert not [sign for sign in printed if sign != "\n" and unicodedata.category(sign) == "Cc"]
