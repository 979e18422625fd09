"""What the site changes on its way from docs/ to HTML: links that leave the folder, pages from elsewhere, notebooks.

The files of docs/ are read as they are, too, on a code host or in a clone. So a link leads to the file itself, such as
``../SECURITY.md``, and is pointed at a page of the site here. Set ``extra: {repository: ADDRESS}`` in mkdocs.yml to link other
files of the repository; without an address their names are shown as plain text.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
# Files outside of docs/ that are pages of the site.
GUESTS = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
NOTEBOOKS = "examples/notebooks"
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_CELL_CODE = re.compile(r"`[^`\n]*\\\|[^`\n]*`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files elsewhere in the repository."""
    for source, name in GUESTS.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        parts: list[str] = []
        for number, cell in enumerate(cells):
            for part in _of_cell(cell):
                if isinstance(part, bytes):
                    picture = f"notebooks/{notebook.stem}-{number}.png"
                    files.append(File.generated(config, picture, content=part))
                    parts.append(f"![Plot of the cell above]({posixpath.basename(picture)})")
                else:
                    parts.append(part)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content="\n\n".join(parts) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site, and take the backslash before a pipe out of code in tables."""
    own = page.file.src_uri
    place = next((source for source, name in GUESTS.items() if name == own), None)
    if place is None:
        place = f"{NOTEBOOKS}/{posixpath.basename(own)}" if own.startswith("notebooks/") else f"docs/{own}"
    parts = _FENCE.split(markdown)
    # Every second part is a block of code.
    for index in range(0, len(parts), 2):
        linked = _LINK.sub(lambda found: _linked(found, place, own, config), parts[index])
        parts[index] = "\n".join(
            _CELL_CODE.sub(lambda found: found[0].replace("\\|", "|"), line) if line.startswith("|") else line
            for line in linked.split("\n")
        )
    return "".join(parts)


def _linked(found: re.Match[str], place: str, own: str, config: MkDocsConfig) -> str:
    """Return a link as the site has it.

    Args:
        found: text and target of the link.
        place: the path of the page's source in the repository.
        own: the path of the page in the site.
        config: may name the address of the repository.
    """
    text, target = found.groups()
    name, hash_sign, anchor = target.partition("#")
    if not name or re.match(r"[a-z]+:", name):
        return found[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), name))
    page = path.removeprefix("docs/") if path.startswith("docs/") else GUESTS.get(path)
    if path.startswith(f"{NOTEBOOKS}/"):
        page = f"notebooks/{Path(path).stem}.md"
    if page is not None:
        return f"[{text}]({posixpath.relpath(page, posixpath.dirname(own) or '.')}{hash_sign}{anchor})"
    if not (ROOT / path).exists():
        # mkdocs complains of it.
        return found[0]
    address = str(config.extra.get("repository", "")).rstrip("/")
    return f"[{text}]({address}/blob/HEAD/{path})" if address else text


def _of_cell(cell: dict[str, Any]) -> Iterator[str | bytes]:
    """Yield Markdown and pictures of a notebook's cell, with its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            yield base64.b64decode("".join(data["image/png"]))
        elif "text/html" in data:
            html = re.sub(r"<style.*?</style>\s*", "", "".join(data["text/html"]), flags=re.DOTALL)
            # A blank line would end the block of HTML.
            whole = re.sub(r"\n\s*\n", "\n", html)
            yield f'<div class="output">{whole}</div>'
        elif text := "".join(output.get("text", data.get("text/plain", []))):
            yield f"```text\n{text.rstrip()}\n```"
