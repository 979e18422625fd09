"""A key that must be found nowhere, every spelling in which it could hide, and the search for it."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from contextlib import closing
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["ECHOED", "KEY", "hits", "spellings", "words_below"]

# It has the two characters that encodings treat differently.
KEY = "sk-canary/7+f3Kq9ZxW2mTb8Lr5Vh1Yd4"


def _base64(text: str) -> set[str]:
    """Return the part of a text's base64 that is the same whatever stands before it and behind it."""
    found = set()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + text.encode()).decode().rstrip("=")
        # The first characters hold bits of what is before, the last one bits of what is behind.
        found.add(coded[(0, 2, 3)[shift] : -1])
    return found | {part.replace("+", "-").replace("/", "_") for part in found}


def spellings(key: str = KEY) -> set[str]:
    """Return the key as it is, URL-encoded in three ways, in base64 at every alignment, in JSON, HTML and hexadecimal."""
    plain = {
        key,
        quote(key),
        quote(key, safe=""),
        quote_plus(key),
        *(re.sub("%..", lambda hex: hex[0].lower(), quote(key, safe=safe)) for safe in ("", "/")),
    }
    escaped = {key.replace("/", "\\/"), json.dumps(key)[1:-1], escape(key), key.encode().hex()}
    return plain | escaped | _base64(key) | {key[::-1], key.removeprefix("sk-")}


# What a server may echo: an error or a debug field that repeats the header as it came.
ECHOED = (KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode())


def words_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and content of every file below a folder, bytes as Latin-1, and of every cell of a database."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path.relative_to(folder)), content.decode("latin-1")
        yield f"{path.relative_to(folder)} (UTF-16)", content.decode("utf-16-le", "replace")
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as connection:
                yield f"{path.relative_to(folder)} (cells)", "\n".join(connection.iterdump())


def hits(texts: Sequence[tuple[str, str]], known: set[str]) -> list[str]:
    """Return where any of the spellings stands."""
    return sorted({f"{name}: {spelling!r}" for name, text in texts for spelling in known if spelling in text})
