"""Waits that servers say in words, on a clock, or as a moment with the name of its zone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from stepsynth.teachers.retry_after import retry_after

NOW = datetime(2026, 11, 28, 17, 58, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Please wait one minute", 60),
        ("Please wait a minute and try again.", 60),
        ("Please wait 5 minutes and try again.", 300),
        ("Too many requests, try again in an hour.", 3600),
        ("Retry after thirty seconds", 30),
        ("Too fast: next request allowed in 00:00:41", 41),
        ("Try again in 1:02:03.", 3723),
        ("next request allowed in 41s", 41),
        ("Limit reached, resets at 2026-11-28 17:59:00 UTC", 60),
        ("Limit reached. Resets on 2026-11-28T18:00 GMT", 120),
        ("blocked until 2026-11-28T17:58:30Z", 30),
        ("You may send 20 requests a minute. Slow down.", None),
        ("Wait: the limit is sixty requests a minute.", None),
        ("Try again after 10:00:00", None),
        ("resets at 2026-11-28 17:59:00", None),
    ],
)
def test_a_wait_in_words_is_read(said: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.teachers.retry_after.time", SimpleNamespace(time=NOW.timestamp))
    assert retry_after({}, json.dumps({"error": {"message": said}})) == (None if seconds is None else pytest.approx(seconds))
