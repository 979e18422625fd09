"""Thoughts before the answer under a heading, in a fold, a quotation or a fence: formats meant for people.

They are recognised only at the start of an answer, and only if the beginning of the actual answer is
marked, too; a text that merely talks about thinking is left unchanged.
"""

from __future__ import annotations

import re

__all__ = ["ANSWER_HEAD", "behind_headings"]

_THINK = (
    r"(?:my |internal |inner )?(?:thinking(?: process)?|thoughts?(?: process)?|reasoning(?: process| steps)?"
    r"|chain[ -]of[ -]thought|monologue|analysis)"
)
_FINAL = r"(?:(?:my |the )?(?:final |actual )?(?:response|answer|output|text)|final)"
# "## Thinking", "**Thinking:**", "**Thinking**"; then the plain "Thinking:".
_MARKED = re.compile(
    rf"(?:#{{1,6}}[ \t]{{0,3}}(?:\*\*)?(?P<a>{_THINK})(?:\*\*)?:?(?:\*\*)?[ \t]{{0,5}}(?:\n|$)"
    rf"|(?:\*\*|__)(?P<b>{_THINK}):?(?:\*\*|__):?)",
    re.IGNORECASE,
)
_PLAIN = re.compile(rf"{_THINK}[ \t]?:", re.IGNORECASE)
ANSWER_HEAD = re.compile(
    rf"^[ \t]{{0,3}}(?:#{{1,6}}[ \t]{{0,3}}(?:\*\*)?{_FINAL}(?:\*\*)?:?(?:\*\*)?[ \t]{{0,5}}$|(?:\*\*|__){_FINAL}:?(?:\*\*|__):?"
    rf"|{_FINAL}[ \t]?:)",
    re.IGNORECASE | re.MULTILINE,
)
# "Analysis" or "reasoning" may head a genuine text.
_SURE = re.compile(r"think|thought", re.IGNORECASE)
# Poe: a title line, and the thoughts as a quotation.
_QUOTED = re.compile(
    r"[*_]{1,2}(?:Thinking|Thought)\b[^\n*_]{0,40}[*_]{1,2}[ \t]{0,5}\n"
    r"(?:[ \t]{0,5}\n)*(?:[ \t]{0,5}>[^\n]*(?:\n|$)(?:[ \t]{0,5}\n)*)+",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(?P<fence>`{3,5}|~{3,5})(?:thinking|thoughts?|reasoning|think)[ \t]{0,5}\n", re.IGNORECASE)
# Dify, Open WebUI.
_FOLD = re.compile(
    r"<details\b(?P<how>[^<>]{0,400})>\s{0,20}(?:<summary[^<>]{0,100}>(?P<title>[^<]{0,200})</summary>)?", re.IGNORECASE
)
_FOLD_END = re.compile(r"</details\s?>", re.IGNORECASE)
_FOLD_OF_THOUGHTS = re.compile(r"think|thought|reason", re.IGNORECASE)
# gpt-oss when a server dropped the control tokens but kept their words; "analysis" alone may be part of a text.
_CHANNEL = re.compile(r"(?:assistant)?(?:analysis|commentary)(?P<glued>[A-Za-z\"'])?")
_FINAL_CHANNEL = re.compile(
    r"assistant\s{0,3}final(?:json)?(?:\s{0,3}:|(?![a-z]))?\s{0,3}|^final(?::|[ \t]{0,3}$)\s{0,3}", re.MULTILINE
)
# HyperCLOVA: roles with and without their control tokens.
_ROLE = re.compile(r"(?:<\|im_start\|>assistant)?/think[ \t]{0,3}\n")
_ROLE_END = re.compile(r"^assistant[ \t]{0,3}\n|<\|im_end\|>\s{0,5}(?:<\|im_start\|>assistant[ \t]{0,3}\n)?", re.MULTILINE)


def behind_headings(text: str) -> str:
    """Return the text after the thoughts at the start of an answer; unchanged if there are none.

    Args:
        text: an answer's text.
    """
    rest = _without_folds(text)
    begun = rest.lstrip()
    if quoted := _QUOTED.match(begun):
        return begun[quoted.end() :]
    if fence := _FENCE.match(begun):
        end = begun.find(f"\n{fence['fence']}", fence.end() - 1)
        return begun[end + 1 + len(fence["fence"]) :] if end >= 0 else ""
    if role := _ROLE.match(begun):
        until = _ROLE_END.search(begun, role.end())
        return begun[until.end() :] if until else ""
    if channel := _CHANNEL.match(begun):
        return _final(rest, begun, channel)
    return _headed(rest, begun)


def _final(text: str, begun: str, channel: re.Match[str]) -> str:
    final = _last(_FINAL_CHANNEL, begun, channel.end())
    if final is not None:
        return begun[final.end() :]
    # No word continues like that or stands on a line alone.
    return "" if channel["glued"] or begun[channel.end() : channel.end() + 1] == "\n" else text


def _headed(text: str, begun: str) -> str:
    marked = _MARKED.match(begun)
    head = marked or _PLAIN.match(begun)
    if head is None:
        return text
    answer = _last(ANSWER_HEAD, begun, head.end())
    if answer is not None:
        return begun[answer.end() :]
    return "" if marked and _SURE.search(marked[0]) else text


def _without_folds(text: str) -> str:
    """Cut out every fold that is marked as thoughts."""
    if "<" not in text:
        return text
    kept, position = [], 0
    while (fold := _FOLD.search(text, position)) is not None:
        thoughts = _FOLD_OF_THOUGHTS.search(fold["how"]) or _FOLD_OF_THOUGHTS.search(fold["title"] or "")
        kept.append(text[position : fold.start() if thoughts else fold.end()])
        position = fold.end()
        if thoughts:
            end = _FOLD_END.search(text, fold.end())
            position = end.end() if end else len(text)
    return "".join([*kept, text[position:]]) if kept else text


def _last(pattern: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text, start):
        found = match
    return found
