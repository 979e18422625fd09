"""The report in a real browser: it opens, it is drawn, and hostile text stays text.

Needs a headless Chromium (``chromium``, ``chromium-browser`` or ``google-chrome`` on PATH, or
the path in ``STEPSYNTH_CHROMIUM``); without one these tests are skipped.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from report_story import Story, build, comparison, page_of, worth
from stepsynth.report import render_comparison, render_report, render_sweep
from sweep_world import invented_results

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("STEPSYNTH_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)
QUIET = "no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update disable-sync disable-quic"

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no headless browser: install one of {', '.join(NAMES)}")


def browse(page: Path, *options: str) -> str:
    """Open a page in a browser with a new profile and return what it prints."""
    assert BROWSER is not None
    profile = page.parent / f"profile-{len(list(page.parent.glob('profile-*')))}"
    flags = [f"--{flag}" for flag in QUIET.split()]
    command = [BROWSER, "--headless", *flags, "--hide-scrollbars", f"--user-data-dir={profile}", *options, page.as_uri()]
    finished = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr.decode("utf-8", "replace")[-2000:]
    return finished.stdout.decode("utf-8")


def margin_is_empty(page: Path, width: int, height: int) -> bool:
    """Whether the rightmost pixels are of one colour from top to bottom."""
    from matplotlib.image import imread

    picture = page.with_suffix(".png")
    browse(page, f"--window-size={width},{height}", f"--screenshot={picture}")
    pixels = imread(picture)
    assert pixels.shape[:2] == (height, width)
    margin = pixels[:, -12:, :3].reshape(-1, 3)
    return bool((margin == margin[0]).all())


def write(folder: Path, story: Story) -> Path:
    """Write the story's report into a file."""
    journal, results, config = build(folder / "journal.db", story)
    with closing(journal):
        (folder / "report.html").write_text(render_report(journal, results, config), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain story's report."""
    return write(tmp_path_factory.mktemp("report"), Story(missing={"negative": 3}))


def test_the_browser_reads_what_was_written(report: Path) -> None:
    """Headline, sections, figures and the last line of the page are in the DOM."""
    dom = browse(report, "--dump-dom")
    assert "Sealed-test accuracy" in re.sub("<[^>]+>", "", dom)
    for text in ("Before you believe", "Score per round", "Confusion matrix", "still wrong", "loads nothing and runs no scripts"):
        assert text in dom
    assert dom.count("<svg") == 4
    assert dom.count("<section") == dom.count("</section>") == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_drawn(report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    """Text, tables and coloured figures reach the screen; light is light and dark is dark."""
    from matplotlib.image import imread

    picture = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else ["--blink-settings=preferredColorScheme=1"]
    browse(report, *dark, f"--window-size={width},1600", f"--screenshot={picture}")
    pixels = (imread(picture)[..., :3] * 255).round().astype(int)
    assert pixels.shape == (1600, width, 3)
    codes = pixels[..., 0] * 65536 + pixels[..., 1] * 256 + pixels[..., 2]
    distinct = set(codes.ravel().tolist())
    assert len(distinct) > 150
    # The series colours of the scheme: the figures are drawn with the page's own variables.
    assert (0x1D5F8A if scheme == "light" else 0x6AAEDB) in distinct
    assert (pixels.mean() > 200) == (scheme == "light")


@pytest.mark.parametrize("width", [1280, 380])
def test_nothing_runs_out_of_the_page(tmp_path: Path, width: int) -> None:
    """With long words everywhere and thirty labels, the right margin is empty from top to bottom."""
    word = "unbroken" * 30
    labels = tuple(f"label_{i}_{word[:50]}" for i in range(30))
    story = Story(labels=labels, rewrite=lambda text: f"{text} {word}", drops=("", "", "reason_" * 12), harvest=60)
    assert margin_is_empty(write(tmp_path, story), width, 9000)


@pytest.mark.parametrize("width", [1280, 380])
def test_nothing_runs_out_of_a_page_of_questions(tmp_path: Path, width: int) -> None:
    """Long words in passages, answers and questions stay inside, too."""
    word = "unbroken" * 30
    story = Story(family="extractive_qa", rewrite=lambda text: f"{text} {word}", padding=20)
    assert margin_is_empty(write(tmp_path, story), width, 9000)


@pytest.mark.parametrize("width", [1280, 380])
def test_nothing_runs_out_of_a_comparison(tmp_path: Path, width: int) -> None:
    """Nor do eight methods with long names and seven seeds."""
    results = comparison(7, student="unbroken" * 30)
    for number, entry in enumerate(results["systems"][1:]):
        entry["name"] += f":method.{'unbroken' * 10}={number}"
    page = tmp_path / "comparison.html"
    page.write_text(render_comparison(results), encoding="utf-8")
    assert margin_is_empty(page, width, 6000)


_MEASURE = """<script>
const cells = [...document.querySelectorAll("table.stack tbody tr > *")].filter((cell) => cell.getClientRects().length);
const outside = cells.filter((cell) => {
  const box = cell.getBoundingClientRect();
  return box.left < 0 || box.right > innerWidth || cell.scrollWidth > cell.clientWidth + 1;
});
const pinned = [...document.querySelectorAll(".scroll table:not(.stack, .confusion, .rows) tbody th[scope=row]")]
  .filter((cell) => getComputedStyle(cell).position === "sticky");
const named = cells.filter((cell) => getComputedStyle(cell, "::before").content.startsWith('"p'));
document.title = JSON.stringify({ width: innerWidth, cells: cells.length, outside: outside.map((cell) => cell.textContent),
  named: named.length, pinned: pinned.length });
</script>"""


def measured(folder: Path, page: str, width: int) -> dict[str, Any]:
    """Return what a copy of a page that may run a script says of its tables at a width."""
    copy = folder / "measured.html"
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    copy.write_text(free.replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
    found = re.search("<title>(.*?)</title>", browse(copy, f"--window-size={width},900", "--dump-dom"), re.DOTALL)
    assert found
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    return values


@pytest.mark.parametrize("width", [1280, 400])
def test_difference_and_p_are_on_the_screen_of_a_telephone(tmp_path: Path, width: int) -> None:
    """The tables that compare are stacked there: every cell is inside, under the name of its column; other tables keep names."""
    results = comparison(3)
    results["systems"][1]["name"] += ":method.seed_rows=1200:student.head=probe"
    compared = measured(tmp_path, render_comparison(results), width)
    ended = measured(tmp_path, page_of(tmp_path / "journal.db", worth(0.0125)), width)
    for found, cells in ((compared, 9 * len(results["systems"])), (ended, 7 * 3)):
        narrow = found["width"] < 700
        assert found["outside"] == []
        # The reference has no p, and a cell that says nothing takes no line.
        assert found["cells"] in (cells, cells - 1)
        assert bool(found["named"]) is narrow
    assert bool(compared["pinned"]) is (compared["width"] < 700)
    assert (compared["width"] < 700) is (width == 400)


def test_a_comparison_is_read_and_drawn(tmp_path: Path) -> None:
    """Headline, sections and figures are in the DOM, and the series colours on the screen."""
    from matplotlib.image import imread

    page, picture = tmp_path / "comparison.html", tmp_path / "page.png"
    page.write_text(render_comparison(comparison()), encoding="utf-8")
    dom = browse(page, "--dump-dom")
    assert "It beats zerogen by 7.6 points" in dom
    assert dom.count("<svg") == 6
    assert dom.count("<section") == dom.count("</section>") == 6
    browse(page, "--blink-settings=preferredColorScheme=1", "--window-size=1280,1600", f"--screenshot={picture}")
    pixels = (imread(picture)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    found = {tuple(pixel) for pixel in pixels.tolist()}
    assert {(0x2C, 0x7A, 0x5B), (0x1D, 0x5F, 0x8A)} <= found


def test_hostile_text_makes_no_element(tmp_path: Path) -> None:
    """The browser's own parser finds no script, picture, frame or handler in a hostile page."""
    payload = "</style></title></pre><script>document.title='owned'</script>"
    payload += "<img src=x onerror=alert(1)><svg onload=alert(1)>'\"><iframe>"
    story = Story(labels=(f"a {payload}", f"b {payload}"), rewrite=lambda text: f"{text} {payload} \x00\ud800")
    dom = browse(write(tmp_path, story), "--dump-dom")
    assert "&lt;script&gt;document.title='owned'" in dom
    assert not re.search(r"<(script|img|iframe|object|embed|form)\b", dom, re.IGNORECASE)
    assert not re.search(r"<[a-z][^<>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', dom), re.IGNORECASE)
    assert dom.count("<svg") == 4


@pytest.mark.parametrize("width", [1280, 380])
def test_nothing_runs_out_of_a_sweep(tmp_path: Path, width: int) -> None:
    """Nor do six data sets with names of sixty characters and a problem without a blank."""
    page = tmp_path / "sweep.html"
    page.write_text(render_sweep(invented_results(long="unbroken" * 7)), encoding="utf-8")
    assert margin_is_empty(page, width, 6000)
