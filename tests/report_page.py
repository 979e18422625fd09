"""Reads a page as a suspicious reader would: its texts, its tables, and every reason not to trust it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["CORPUS", "Page", "flat", "shown"]

DOCUMENT = {"html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "nav", "aside"}
TEXTUAL = {
    "h1",
    "h2",
    "h3",
    "p",
    "div",
    "span",
    "ol",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
    "b",
    "small",
    "br",
    "a",
    "bdi",
    "pre",
    "mark",
}
TABULAR = {"table", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "figcaption", "details", "summary"}
DRAWN = {"svg", "g", "path", "use", "defs", "clippath", "rect", "text", "tspan"}
ALLOWED = DOCUMENT | TEXTUAL | TABULAR | DRAWN
POINTS_OUT = {"src", "href", "xlink:href", "action", "formaction", "data", "poster", "srcset", "background", "ping", "manifest"}
VOID = {"meta", "link", "br"}
CORPUS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "</pre><iframe src=//evil.example></iframe>",
    "javascript:alert(1)",
    "<a href='https://evil.example'>x</a>",
    "<style>@import url(https://evil.example/x.css)</style>",
    "url(//evil.example/a.png)",
    "--><base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "{{ 7*7 }} {% for x in y %} ${HOME} {0.__class__} {{ config.__class__ }}",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;b&#62;",
    "<![CDATA[<script>]]> <!-- x",
    "$\\frac{1}{2}$ \\u202e \u202e gnitset \u2066",
    "\u05e9\u05dc\u05d5\u05dd \U0001f680 \u2028 \u0085 \x00 \x1b[31m \ud800 \ufffe",
    "<\x00script>alert(1)<\x00/script>",
]


def flat(text: str) -> str:
    """A text with plain hyphens, for comparisons."""
    return text.replace("\u2013", "-")


class Page(HTMLParser):
    """Reads a page: its texts, its tables, and every reason not to trust it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.policy = ""
        self.tables: list[list[list[str]]] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        if self._open:
            self.problems.append(f"not closed: {self._open}")
        self.text = "".join(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ALLOWED:
            self.problems.append(f"element {tag}")
        for name, value in attrs:
            self._judge(name, value or "")
        values = dict(attrs)
        if tag == "meta" and (values.get("http-equiv") or "").lower() == "content-security-policy":
            self.policy = values["content"] or ""
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"stray end of {tag}")

    def handle_comment(self, data: str) -> None:
        # The seal is the one comment of a page: nothing in it comes from outside.
        if not re.fullmatch(r" sha256 of the lines above: [0-9a-f]{64} ", data):
            self.problems.append(f"comment {data!r}")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self._style(data)
            return
        self._texts.append(data)
        if self.tables and self.tables[-1] and self.tables[-1][-1] and {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += flat(data)

    def _judge(self, name: str, value: str) -> None:
        if name.startswith("on"):
            self.problems.append(f"handler {name}")
        if name in POINTS_OUT and not value.startswith(("#", "data:,")):
            self.problems.append(f"{name} points to {value!r}")
        self._style(value)

    def _style(self, value: str) -> None:
        if re.search(r"url\((?!#)|@import|expression\(|javascript:", value, re.IGNORECASE):
            self.problems.append(f"style {value[:60]!r}")

    def table(self, heading: str) -> list[list[str]]:
        """Body rows of the table that has this column."""
        (found,) = (table for table in self.tables if table and heading in table[0])
        return found[1:]


def shown(text: str) -> str:
    """A text as any page has to show it."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", re.sub("\r\n?", "\n", text))
