"""A page says by its last line whether it is as it was written, and which version wrote it.

Pages differ from version to version, and figures from one release of the library that draws them to the next. So a page that is
not what would be rendered now need not be damaged.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["PageState", "sealed", "state_of", "without_figures"]

_SEAL = re.compile(r"<!-- sha256 of the lines above: ([0-9a-f]{64}) -->\n\Z")
_VERSION = re.compile(r'<p class="note">Made by stepsynth (\S{1,40}) from ')
_FIGURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PageState:
    """What a page says of itself.

    Attributes:
        version: of stepsynth that wrote it; empty where it does not say so.
        intact: whether it is as it was written; ``None`` for pages of versions that did not seal them.
    """

    version: str
    intact: bool | None


def sealed(page: str) -> str:
    """Return a page with the line that tells whether it was changed."""
    page = page if page.endswith("\n") else f"{page}\n"
    return f"{page}<!-- sha256 of the lines above: {_digest(page)} -->\n"


def state_of(page: str) -> PageState:
    """Return what a page says of itself."""
    found = _SEAL.search(page)
    # Texts of a page are escaped, so that none can look like its foot.
    version = _VERSION.findall(page)
    return PageState(version[-1] if version else "", None if found is None else _digest(page[: found.start()]) == found[1])


def without_figures(page: str) -> str:
    """Return a page without its drawings and its seal."""
    return _FIGURE.sub("", _SEAL.sub("", page))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
