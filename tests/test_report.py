"""The report: what it says is what the journal holds, and nothing in it can act."""

from __future__ import annotations

import re
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report_page import CORPUS, Page, flat, shown
from report_story import Story, build
from stepsynth.report import render_report
from stepsynth.report.figures import accuracy_figure, coverage_figure, ledger_figure
from stepsynth.report.gap import _drawn

if TYPE_CHECKING:
    from collections.abc import Iterator


def render(path: Path, story: Story | None = None) -> str:
    journal, results, config = build(path / "journal.db", story)
    with closing(journal):
        return render_report(journal, results, config)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the story as it is."""
    return render(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Leave out the drawings, which hold no text of models or data and take most of the time."""
    with (
        patch("stepsynth.report.page.accuracy_figure", return_value="<svg></svg>"),
        patch("stepsynth.report.page.ledger_figure", return_value="<svg></svg>"),
    ):
        yield


def test_headline_gives_the_test_score_with_its_interval(plain: str) -> None:
    page = Page(plain)
    text = flat(" ".join(page.text.split()))
    assert "82.5 %" in text
    assert "Sealed-test accuracy of the best student (round 1), 95 % interval 80.1-84.9 %, n = 1,000; macro-F1 81.5 %." in text
    assert "Before you believe" not in text
    assert page.problems == []


def test_rounds_table_joins_rows_and_scores(plain: str) -> None:
    first, second = Page(plain).table("New rows")
    assert first == ["0", "40", "40", "78.0 75.4-80.6", "80.0 55.2-100.0", "77.5 74.9-80.1"]
    assert second[:4] == ["1", "44", "4", "84.0 81.7-86.3"]
    assert second[5] == "82.5 80.1-84.9"


@pytest.mark.usefixtures("no_figures")
def test_results_alone_say_less_but_are_enough(tmp_path: Path) -> None:
    """Every optional key of results.json may be absent."""
    journal, _, config = build(tmp_path / "journal.db")
    with closing(journal):
        for method in ({}, {"rounds": [{"round": 0}], "test": None}):
            page = Page(render_report(journal, {"methods": {"s3": method}} if method else {}, config))
            assert "84.0 81.7-86.3" in page.table("New rows")[1]
            assert page.problems == []


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("backend", "cost", "said"),
    [
        ("openai", None, "unknown"),
        ("openai", 0.001, "$0.0760"),
        ("openai", 1.5, "$114.00"),
        ("openvino", None, "no price: runs on this machine"),
    ],
)
def test_an_unknown_price_is_never_zero(tmp_path: Path, backend: str, cost: float | None, said: str) -> None:
    html = render(tmp_path, Story(backend=backend, cost=cost))
    assert f"<dt>Cost</dt><dd>{said}</dd>" in html


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("story", "warning"),
    [
        (Story(test=False), "The sealed test set was not given."),
        (Story(test_n=100), "The test set is small (n = 100): its 95 % interval is 15.1 points wide."),
        (Story(wrong=(range(10), ())), "The validation set is overfitted: since round 0 the harvest half"),
        (Story(missing={"negative": 3, "positive": 1}), "ended 4 rows short of its target: negative 3, positive 1."),
        (Story(requested=99), 'The stage "seed rows" asked for 99 rows, but the journal accounts for 60.'),
        (Story(wrong=(), test=False), "No student has been evaluated yet"),
    ],
)
def test_warnings_name_what_a_reader_must_know(tmp_path: Path, story: Story, warning: str) -> None:
    page = Page(render(tmp_path, story))
    assert warning in page.text
    assert page.problems == []


@pytest.mark.usefixtures("no_figures")
def test_of_many_rows_of_a_mistake_the_first_are_shown_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, results, config = build(tmp_path / "journal.db")
    with closing(journal):
        assert "more rows</p>" not in render_report(journal, results, config)
        monkeypatch.setattr("stepsynth.report.rows._MOST_WRITTEN", 0)
        assert "more rows</p>" in render_report(journal, results, config)


@pytest.mark.usefixtures("no_figures")
def test_requested_is_accepted_plus_dropped(tmp_path: Path) -> None:
    """Each line of the ledger adds up, and so does its last line over the lines."""
    journal, results, config = build(tmp_path / "journal.db")
    with closing(journal):
        *lines, total = Page(render_report(journal, results, config)).table("Adds up")
        planned = len(journal.rows())
    numbers = [[int(cell.replace(",", "")) for cell in line[1:-1]] for line in [*lines, total]]
    for requested, accepted, dropped, *reasons in numbers:
        assert requested == accepted + dropped == accepted + sum(reasons)
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert numbers[-1][0] == planned == 76
    assert {line[-1] for line in [*lines, total]} == {"yes"}


def test_reasons_are_explained(plain: str) -> None:
    assert "<dt>duplicate</dt><dd>the same text was accepted before</dd>" in plain


@pytest.mark.usefixtures("no_figures")
def test_a_stage_that_does_not_add_up_is_said_so(tmp_path: Path) -> None:
    lines = {line[0]: line[-1] for line in Page(render(tmp_path, Story(requested=99))).table("Adds up")}
    assert lines == {
        "reasons round-0/rationales": "yes",
        "seed rows round-0/seed": "no",
        "round 1, rows from mistakes round-1/extrapolate": "yes",
        "All stages": "no",
    }


def test_fixed_still_wrong_and_newly_broken(plain: str) -> None:
    """Round 0 misses 2 and 5, round 1 misses 5 and 7: one fixed, one still wrong, one newly broken."""
    page = Page(plain)
    assert page.table("Newly broken") == [["0", "10", "2", "1", "1", "1"], ["1", "10", "2", "no later round"]]
    first, second = re.findall(r'<ol class="misses">.*?</ol>', plain, re.DOTALL)
    fixed, still = first.split('<li class="miss">')[1:]
    assert "Harvest text 2," in fixed
    assert "Written from harvest-2, version 1." in fixed
    assert ">fixed<" in fixed
    assert "Harvest text 5," in still
    assert ">still wrong<" in still
    assert "at 80.0 %" in still
    assert "2 dropped" in still
    assert "new mistake" not in second.split('<li class="miss">')[1]
    assert "new mistake" in second.split('<li class="miss">')[2]


@pytest.mark.usefixtures("no_figures")
def test_all_mistakes_are_reachable(tmp_path: Path) -> None:
    """Forty are shown at once, the others inside a <details>."""
    html = render(tmp_path, Story(harvest=120, wrong=(range(100),)))
    assert "60 more mistakes of round 0" in html
    at_once, rest = html.split("60 more mistakes of round 0")
    assert at_once.count('<li class="miss">') == 40
    assert rest.count('<li class="miss">') == 60
    assert all(f"Harvest text {i}," in html for i in range(100))


def test_no_mistakes_and_no_rounds_are_said(tmp_path: Path) -> None:
    assert "this student got every harvest example right" in render(tmp_path, Story(wrong=((),), select=(990,)))
    (tmp_path / "none").mkdir()
    page = Page(render(tmp_path / "none", Story(wrong=(), test=False)))
    assert "No student was scored." in page.text
    assert "Seed sentence" in page.text
    assert page.problems == []


def test_rows_are_spread_over_labels(plain: str) -> None:
    """Six accepted rows a stage, three of each of two labels; three dropped ones with both reasons; three reasons a label."""
    page = Page(plain)
    seed, dropped = page.table("Accepted, 6 of 40"), page.table("Dropped, 3 of 20")
    assert sorted(line[0] for line in seed) == ["negative"] * 3 + ["positive"] * 3
    assert len({line[1] for line in seed}) == 6
    assert {line[0].split(" (")[0] for line in dropped} == {"duplicate", "too short"}
    reasons = page.table("Reasons the teacher gave for it")
    assert [(line[0], line[1].count("It says that")) for line in reasons] == [("negative", 3), ("positive", 3)]


@pytest.mark.usefixtures("no_figures")
def test_seventy_seven_labels_stay_whole(tmp_path: Path) -> None:
    labels = tuple(f"intent_{i}" for i in range(77))
    page = Page(render(tmp_path, Story(labels=labels, seed_rows=154)))
    matrix = page.table("gold \\ said")
    assert [line[0] for line in matrix] == list(labels)
    assert {len(line) for line in matrix} == {78}
    assert sum(int(cell) for line in matrix for cell in line[1:] if cell != "·") == 1000
    assert len(page.table("Precision")) == 77
    assert len(page.table("Said")) == 10
    assert page.problems == []


@pytest.mark.usefixtures("no_figures")
def test_the_matrix_falls_back_to_select(tmp_path: Path) -> None:
    text = Page(render(tmp_path, Story(test=False))).text
    assert "on the select set (n = 1,000); select also chose this round" in text


@pytest.mark.usefixtures("no_figures")
def test_a_long_text_is_clamped_and_whole(tmp_path: Path) -> None:
    long = "word " * 1000 + "THE END"
    html = render(tmp_path, Story(rewrite=lambda text: f"{text} {long}" if text.startswith("Seed") else text))
    assert re.search(r'<details class="long"><summary><span class="words" dir="auto">Seed[^<]{200,300}…</span>', html)
    assert "THE END" in html


@pytest.mark.usefixtures("no_figures")
def test_a_huge_text_does_not_make_a_huge_page(tmp_path: Path) -> None:
    html = render(tmp_path, Story(rewrite=lambda text: text + "x" * 300_000 if text.startswith("Seed sentence 10 ") else text))
    assert "more characters are in the journal" in html
    assert len(html) < 200_000


def test_the_sealed_test_stays_sealed(plain: str) -> None:
    assert "SEALED TEXT" not in plain


def test_same_journal_same_bytes(tmp_path: Path) -> None:
    """Two renderings agree to the byte, also with another matplotlib style set by the user."""
    import matplotlib

    journal, results, config = build(tmp_path / "journal.db")
    with closing(journal):
        first = render_report(journal, results, config)
        for drawn in (accuracy_figure, coverage_figure, ledger_figure, _drawn):
            drawn.forget()
        with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
            assert render_report(journal, results, config).encode("utf-8") == first.encode("utf-8")


def test_figures_are_text_and_follow_the_page(plain: str) -> None:
    """Wide and narrow, no fixed colours, no ids in common, words as text."""
    drawings = re.findall(r"<svg.*?</svg>", plain, re.DOTALL)
    assert len(drawings) == 4
    ids = [name for drawing in drawings for name in re.findall(r'\sid="([^"]+)"', drawing)]
    assert len(ids) == len(set(ids))
    assert all(re.findall("#[0-9a-f]{6}", drawing) == [] for drawing in drawings)
    assert all("http" not in drawing for drawing in drawings)
    assert "accuracy, %" in drawings[0]
    for drawing in drawings:
        targets = re.findall(r'(?:url\(|href=")#([^")]+)', drawing)
        assert targets
        assert set(targets) <= set(re.findall(r'\sid="([^"]+)"', drawing))


def test_the_policy_forbids_everything_but_inline_styles(plain: str) -> None:
    page = Page(plain)
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == "'unsafe-inline'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules


def hostile(payload: str) -> Story:
    """The story with a payload in every text, label, reason and name."""
    plain = payload.encode("utf-8", "replace").decode("utf-8")
    return Story(
        labels=(f"a {plain}", f"b {plain}"),
        drops=("", "", "", f"drop {plain}", "", "too short"),
        rewrite=lambda text: f"{text} {payload}",
        missing={f"a {plain}": 1},
    )


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("payload", CORPUS)
def test_hostile_text_is_only_text(tmp_path: Path, payload: str) -> None:
    """No element, handler or address comes from it, and it is shown as it is."""
    html = render(tmp_path, hostile(payload))
    html.encode("utf-8")
    page = Page(html)
    assert page.problems == []
    assert page.policy.startswith("default-src 'none'")
    assert shown(f"Seed sentence 10 about the acting. {payload}") in page.text
    assert shown(f"Harvest text 2, a film about trains and patience. {payload}") in page.text
    assert shown(f"It says that the a {payload.encode('utf-8', 'replace').decode()} sides") in page.text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)


markup = st.text(st.sampled_from("<>\"'&/=;:!-[](){}%#$\\ \n\r\tabcsriptonlehf"), max_size=60)
anything = st.text(st.characters(), max_size=60)


@pytest.mark.usefixtures("no_figures")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(markup, anything))
def test_any_text_is_only_text(payload: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        html = render(Path(folder), hostile(payload))
    html.encode("utf-8")
    page = Page(html)
    assert page.problems == []
    assert shown(f"Seed sentence 10 about the acting. {payload}") in page.text
