"""From values to a document: how all pages fill their templates.

Text from models and data reaches a template as values and is escaped there; characters that a
UTF-8 page cannot hold are replaced at the very end. No page has scripts or loads anything.
"""

from __future__ import annotations

import math
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stepsynth import __version__
from stepsynth.evaluation import shown_p
from stepsynth.report.seal import sealed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["LONGEST", "fill", "percent", "signed", "words"]

LONGEST = 20_000
"""The most characters of one text that a page holds."""

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def fill(name: str, values: Mapping[str, Any]) -> str:
    """Return a page that encodes as UTF-8; the same values give the same characters.

    Args:
        name: the template's file name, beside this module.
        values: the template's variables.
    """
    page = _environment().get_template(name).render({**values, "version": __version__})
    return sealed(_UNFIT.sub("\ufffd", re.sub("\r\n?", "\n", page)))


def percent(value: Any) -> str:
    """Format a share as a percentage with one digit."""
    return f"{100 * value:.1f}" if _number(value) else "n/a"


def words(name: str) -> str:
    """Turn a name from the code into words: ``exact_match`` -> ``exact match``."""
    return name.replace("_", " ")


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment; cached, because a comparison fills the same template for every cell."""
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
    )
    environment.filters.update(
        count=_count, percent=percent, signed=signed, clip=_clip, brief=_brief, words=words, dollars=_dollars, p=shown_p
    )
    return environment


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def signed(value: Any) -> str:
    """Format a difference of shares in points, with its sign and one digit."""
    # A true minus sign is as wide as the plus; adding 0.0 avoids minus zero.
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "\u2212") if _number(value) else "n/a"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _dollars(value: Any) -> str:
    if not _number(value):
        return "unknown"
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def _brief(text: object, length: int = 80) -> str:
    name = str(text)
    return name if len(name) <= length else name[: length - 1] + "\u2026"


def _clip(text: str, length: int = 240) -> tuple[str, str, int]:
    """Return the part shown at first, the whole text up to the page's limit, and the number of characters left out."""
    if len(text) <= length + 80:
        return text, "", 0
    return text[:length].rstrip() + "\u2026", text[:LONGEST], max(0, len(text) - LONGEST)
