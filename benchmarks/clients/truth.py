"""What is asked and what the right answer is: known to the server and to the judge of the results.

A row is known by its number, and a system prompt by its style: the right text depends on both and
on nothing else. So a stale answer and a damaged one can be told from a right one, whatever a
client wraps around the prompts.
"""

from __future__ import annotations

import random
import re

__all__ = ["answer_text", "prompts", "read_prompt"]

_ROW = re.compile(r"Row (\d{7})\b")
_STYLE = re.compile(r"Style ([A-Z])\b")
_WORDS = (  # noqa: SIM905
    "parcel box lamp chair cable jacket kettle table mirror carpet screen button handle paper window letter morning evening "
    "monday friday courier neighbour garden kitchen office corner winter summer blue green heavy small broken late early "
    "quiet polite angry happy again never always really hardly almost waited called opened looked asked bought moved fixed "
    "wrote showed turned kept found lost missed left needed"
).split()
_LENGTH = 11


def prompts(row: int, style: str) -> tuple[str, str]:
    """Return the system and the user prompt of one row."""
    system = f"You write short messages that customers of an online shop might send. Style {style}. Answer with the message only."
    return system, f"Row {row:07d}. Write one message, about ten words long, as a customer would type it."


def read_prompt(text: str) -> tuple[int, str] | None:
    """Return row and style of a request, ``None`` when it is about no row (a probe, say)."""
    row, style = _ROW.search(text), _STYLE.search(text)
    return (int(row[1]), style[1]) if row and style else None


def answer_text(row: int, style: str) -> str:
    """Return the right text: one sentence, different for every row and style."""
    draw = random.Random(f"{row} {style}")
    return "The " + " ".join(draw.choices(_WORDS, k=_LENGTH)) + "."
