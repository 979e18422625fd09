"""The live panel: what it says, that it fits, and where it is silent."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from stepsynth.cli import progress_view
from stepsynth.cli.progress_view import StageView, dollars, open_panel
from stepsynth.runtime.progress import Progress, RequestStats

QUIET = RequestStats(sent=0, in_flight=0, limit=64, answers=0, retries={}, tokens=0, usd=0.0, per_second=0.0)
BUSY = RequestStats(
    sent=345, in_flight=24, limit=64, answers=338, retries={"overload": 3, "timeout": 1}, tokens=71204, usd=0.02, per_second=4.04
)


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def view(clock: Clock, target: int = 400) -> StageView:
    return StageView("round-0/seed", target, "rows", clock)


def advanced(clock: Clock, traffic: RequestStats | None = BUSY, *, done: int = 100, seconds: float = 50.0) -> StageView:
    found = view(clock)
    found.advance(0, 0, QUIET if traffic else None)
    clock.now += seconds
    found.advance(done, 338, traffic)
    return found


def test_the_pace_gives_the_time_left(clock: Clock) -> None:
    found = advanced(clock)
    assert found.rate == pytest.approx(2.0)
    assert found.left() == "2:30"
    assert advanced(clock, seconds=50_000).left() == "41:40:00"
    assert view(clock).left() == ""


def test_no_time_is_given_while_most_of_the_first_requests_are_out(clock: Clock) -> None:
    """One answer of 24 after two minutes would promise four hours for a stage of three minutes."""
    assert advanced(clock, replace(BUSY, answers=23), done=20).left() == ""
    assert advanced(clock, replace(BUSY, answers=24), done=20).left() == "15:50"


def test_one_is_not_in_the_plural_and_a_slow_pace_is_told_per_minute(clock: Clock) -> None:
    found = advanced(clock, replace(BUSY, answers=1, tokens=1, per_second=0.1))
    assert found.traffic_parts() == ["6.0 answers/min", "24 of 64 in flight", "1 answer", "1 token"]
    # Nor does a pause between two bursts of an engine look like a run that hangs.
    found = advanced(clock, replace(BUSY, answers=1, tokens=1, per_second=0.0))
    assert found.traffic_parts() == ["24 of 64 in flight", "1 answer", "1 token"]


def test_rows_that_were_known_before_anything_was_bought_make_no_pace_and_no_forecast(clock: Clock) -> None:
    """A resumed stage would otherwise promise to end at once, and for nothing."""
    found = view(clock)
    earlier = replace(QUIET, answers=500, usd=1.0, tokens=9)
    found.advance(0, 0, earlier)
    clock.now += 1
    found.advance(300, 300, earlier)
    assert (found.rate, found.left()) == (0.0, "")
    clock.now += 10
    found.advance(320, 330, replace(earlier, answers=530, usd=1.5))
    assert found.rate == pytest.approx(2.0)
    assert found.left() == "0:40"
    assert found.paid == pytest.approx(0.5)
    # 20 of the 100 missing rows took half a dollar.
    assert "cost 1.50 USD, about 2.50 for this stage" in " ".join(found.cost_parts())


def test_what_goes_to_and_fro_is_told(clock: Clock) -> None:
    found = advanced(clock)
    assert found.traffic_parts() == ["4.0 answers/s", "24 of 64 in flight", "338 answers", "71,204 tokens"]
    assert found.cost_parts() == ["cost 0.02 USD, about 0.08 for this stage", "sent again: 3 overload, 1 timeout"]


def test_an_unknown_cost_is_said_to_be_unknown(clock: Clock) -> None:
    found = advanced(clock, replace(BUSY, usd=None, retries={}))
    assert found.cost_parts() == ["cost unknown"]
    assert found.paid is None
    assert "USD" not in found.summary("done")


def test_a_cost_that_the_server_tells_with_its_first_answer_counts_from_nothing(clock: Clock) -> None:
    found = view(clock)
    found.advance(0, 0, replace(QUIET, usd=None))
    clock.now += 1
    found.advance(100, 100, BUSY)
    assert found.paid == pytest.approx(0.02)


def test_a_teacher_that_costs_nothing_has_no_forecast(clock: Clock) -> None:
    assert advanced(clock, replace(BUSY, usd=0.0, retries={})).cost_parts() == ["cost 0.00 USD"]


def test_kinds_that_never_occurred_are_not_listed(clock: Clock) -> None:
    assert advanced(clock, replace(BUSY, retries={"overload": 0})).cost_parts() == ["cost 0.02 USD, about 0.08 for this stage"]


def test_training_has_neither_traffic_nor_cost(clock: Clock) -> None:
    found = advanced(clock, None)
    found.answers = 0
    assert (found.traffic_parts(), found.cost_parts()) == ([], [])


def test_the_line_that_stays_says_what_the_stage_cost(clock: Clock) -> None:
    assert advanced(clock).summary("100 rows") == "100 rows [50 s, 0.02 USD]"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (1234.5, "1,234.50"), (0.034, "0.034"), (0.00012, "0.00012"), (2e-6, "2.0e-06")]
)
def test_small_sums_keep_their_digits(value: float, text: str) -> None:
    assert dollars(value) == text


def test_the_count_of_rows_never_falls(clock: Clock) -> None:
    found = advanced(clock, done=37)
    found.advance(35, 340, BUSY)
    assert found.done == 37
    found.advance(38, 342, BUSY)
    assert found.done == 38


def drawn(width: int, shown: StageView | None) -> list[str]:
    terminal = progress_view._Terminal()
    terminal._view = shown
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None, legacy_windows=False).print(terminal)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int, clock: Clock) -> None:
    found = advanced(clock, replace(BUSY, tokens=987_654_321, retries=dict.fromkeys(("overload", "timeout", "connection"), 99)))
    found.stage, found.target = "round-10/extrapolate-with-a-long-name", 1_000_000
    lines = drawn(width, found)
    assert 3 <= len(lines) <= 7
    assert max(cell_len(line) for line in lines) <= width


def test_at_80_columns_nothing_is_cut_off(clock: Clock) -> None:
    text = "\n".join(drawn(80, advanced(clock)))
    for part in ("round-0/seed", "100 / 400 rows", "left 2:30", "24 of 64 in flight", "71,204 tokens", "about 0.08", "1 timeout"):
        assert part in text
    assert "…" not in text
    assert "━" in text


def test_many_kinds_of_failures_get_a_line_of_their_own_at_80_columns(clock: Clock) -> None:
    kinds = {"overload": 12, "unavailable": 3, "timeout": 1, "connection": 2}
    lines = drawn(80, advanced(clock, replace(BUSY, retries=kinds)))
    assert lines[-1].rstrip() == "sent again: 12 overload, 3 unavailable, 1 timeout, 2 connection"


def test_nothing_is_drawn_between_stages() -> None:
    assert "".join(drawn(80, None)).strip() == ""


class Screen(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_stage(progress: Progress) -> None:
    progress.note("a [note]")
    progress.start("round-0/seed", 4, "rows")
    progress.advance(2, answers=3, traffic=BUSY)
    progress.finish("4 rows accepted")


def test_on_a_terminal_the_results_of_stages_stay_and_the_panel_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with open_panel(quiet=False) as progress:
        run_stage(progress)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "round-0/seed: 4 rows accepted [0 s]" in text
    assert "a [note]" in text
    assert "in flight" not in text.splitlines()[-1]
    assert screen.getvalue().count("\x1b[?25h") == 1, "the cursor is given back"


def test_without_a_terminal_there_are_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = progress_view._Lines(clock)
    lines.start("round-0/seed", 400, "rows")
    for _ in range(30):
        clock.now += 1
        lines.advance(10, answers=10, traffic=BUSY)
    lines.finish("done")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "round-0/seed: 0 / 400 rows"
    assert told[-1].startswith("round-0/seed: done [30 s")
    assert len(told) == 2 + 3
    assert "24 of 64 in flight; 338 answers; 71,204 tokens; cost 0.02 USD" in told[1]
    assert "\x1b" not in "".join(told)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing_at_all(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen: Any = Screen() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with open_panel(quiet=True) as progress:
        run_stage(progress)
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("limit", "words"), [(64, "5 of 64 in flight"), (0, "5 at the provider")])
def test_what_is_out_is_in_flight_or_at_the_provider(limit: int, words: str) -> None:
    traffic = RequestStats(sent=9, in_flight=5, limit=limit, answers=4, retries={}, tokens=40, usd=0.0, per_second=1.0)
    view = StageView("seed", 10, "rows")
    view.advance(0, answers=4, traffic=traffic)
    assert words in view.traffic_parts()


def test_a_training_in_two_stages_takes_the_time_of_both(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The line at its end said only how long the second one took."""
    lines = progress_view._Lines(clock)
    for stage in ("round-0/fold-0", "round-0/fold-1"):
        for seconds in (20, 25):
            lines.start(stage, 50, "steps")
            clock.now += seconds
        lines.finish("trained")
    lines.start("round-0/fold-1", 50, "steps")
    clock.now += 5
    lines.finish("again")
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith("s]")]
    assert said == ["round-0/fold-0: trained [45 s]", "round-0/fold-1: trained [45 s]", "round-0/fold-1: again [5 s]"]
