"""The documentation site: it builds strictly, loads nothing from elsewhere, and has every page and public name once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import stepsynth as ss

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What a browser fetches by itself; a link that a reader may follow is no such thing.
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
    "object": "data",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it: a broken link, a missing anchor or a page outside of the navigation fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "mkdocs.yml", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder


class Loads(HTMLParser):
    """Collects what a page loads, and its links to other places of the site."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if (
            (found := values.get(LOADS.get(tag, "")))
            and "prev" not in (values.get("rel") or "")
            and "next" not in (values.get("rel") or "")
        ):
            self.loads.append(found)
        if tag == "a" and (target := values.get("href")):
            self.links.append(target)


def read(page: Path) -> Loads:
    parser = Loads()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 30
    for page in pages:
        for target in read(page).loads:
            assert not re.match(r"(?:[a-z]+:)?//", target), (page.name, target)
            if not target.startswith("data:"):
                assert (page.parent / target.partition("?")[0]).is_file(), (page.name, target)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name
    # The theme would fetch its drawing program from a host where a page has such a block.
    assert not [page.name for page in pages if 'class="mermaid"' in page.read_text(encoding="utf-8")]


def test_links_out_of_the_folder_lead_to_pages_of_the_site(site: Path) -> None:
    """Links in the source are checked by mkdocs; these were changed on the way."""
    for name in ("architecture.html", "index.html", "contributing.html", "security.html", "howto.html"):
        inside = [link for link in read(site / name).links if not re.match(r"[a-z]+:", link)]
        assert [link for link in inside if link.endswith((".md", ".ipynb")) or ".md#" in link] == []
    assert "security.html" in read(site / "architecture.html").links
    assert "notebooks/first_data_set.html" in read(site / "howto.html").links


def test_a_pipe_in_code_in_a_table_has_no_backslash(site: Path) -> None:
    text = (site / "families.html").read_text(encoding="utf-8")
    assert "<code>|</code>" in text
    assert "<code>\\|</code>" not in text


def test_notebooks_are_pages_with_their_plots(site: Path) -> None:
    for notebook in (ROOT / "examples" / "notebooks").glob("*.ipynb"):
        loads = read(site / "notebooks" / f"{notebook.stem}.html").loads
        assert len([target for target in loads if target.endswith(".png") and notebook.stem in target]) >= 2


def test_every_public_name_is_on_one_page() -> None:
    shown = Counter(
        name for page in DOCS.rglob("*.md") for name in re.findall(r"^::: stepsynth\.(\S+)$", page.read_text("utf-8"), re.M)
    )
    assert shown == Counter(ss.__all__)


def test_every_page_is_in_the_navigation() -> None:
    """The build says so as well; this names the page without one."""

    class Loader(yaml.SafeLoader):
        """Reads the tag for a function as nothing."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    named = [page for section in config["nav"] for part in section.values() for page in pages_of(part)]
    ours = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert {page for page, times in Counter(named).items() if times > 1} == set()
    assert ours - set(named) == set()


def pages_of(part: object) -> list[str]:
    if isinstance(part, str):
        return [part]
    assert isinstance(part, list)
    return [
        page for entry in part for page in (pages_of(next(iter(entry.values()))) if isinstance(entry, dict) else [str(entry)])
    ]


BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
_MEASURE = """<script>addEventListener("load", () => setTimeout(() => {
const found = frames[0].document;
const wide = found.documentElement.scrollWidth > 390 + 1;
document.title = `${found.title} / ${wide ? "scrolls" : "fits"} / ${found.querySelectorAll("img").length}`;
}, 300))</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no headless browser")
@pytest.mark.parametrize("name", ["index.html", "results.html", "api/results.html", "notebooks/first_data_set.html"])
def test_a_page_does_not_scroll_sideways_on_a_telephone(site: Path, tmp_path: Path, name: str) -> None:
    """A frame as wide as a telephone: a browser's own window may not be that narrow."""
    frame = site / "frame.html"
    frame.write_text(f'<title>?</title><iframe src="{name}" width=390 height=900></iframe>{_MEASURE}', encoding="utf-8")
    assert BROWSER is not None
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --allow-file-access-from-files"
    command = [BROWSER, *flags.split(), f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    (title,) = re.findall("<title>(.*?)</title>", done.stdout)[:1]
    assert " / fits / " in title
