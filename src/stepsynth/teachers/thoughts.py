"""Remove thoughts from an answer, for servers that leave a reasoning model's thoughts in the content.

Models mark their thoughts differently: ``<think>...</think>`` and its relatives, ``[THINK]``
(Mistral), ``◁think▷`` (Kimi), channels (gpt-oss, Gemma), or plain headings (Granite). If the template
has already written the opening mark, an answer holds only the closing one. Like JSON, this is read
after the journal: answers are kept as they came, and a fix here asks nothing again.
"""

from __future__ import annotations

import re

from stepsynth.teachers.thought_headings import ANSWER_HEAD, behind_headings

__all__ = ["without_thoughts"]

# Far more than any token limit allows, or than `clean` reads of an answer.
_LONGEST = 400_000
_NAMES = (
    r"(?:[a-z]{1,12}[:_.-]|ant|deep|pre|inner|my|self)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch[_-]?pad"
    r"|inner[_-]?monologue|chain[_-]of[_-]thoughts?|cot|analysis|planning)(?:[_-]?(?:content|process|steps?|block|trace|text))?"
)
# Also escaped as in JSON, and in full width.
_LT, _GT = r"(?:<|&lt;|\\u003c|\uff1c)", r"(?:>|&gt;|\\u003e|\uff1e)"
_OPEN = (
    rf"{_LT}\s{{0,5}}{_NAMES}(?:\s[^<>]{{0,200}})?{_GT}"
    r"|\[THINK(?:ING)?\]|◁\s?think\s?▷|<\|(?:(?:begin|start)_of_(?:thought|think(?:ing)?|reasoning)|START_THINKING|thinking|think"
    r"|(?:think(?:ing)?|thought|reasoning)_(?:start|begin))\|>|<unused94>|\[unused16\]"
    r"|<\|channel>thought|<\|open\|>think(?:ing)?<\|sep\|>"
)
_CLOSE = (
    rf"{_LT}\s{{0,5}}/\s{{0,5}}{_NAMES}\s{{0,5}}{_GT}|{_LT}\s{{0,5}}{_NAMES}\s{{0,5}}/\s{{0,5}}{_GT}"
    r"|\[/THINK(?:ING)?\]|◁\s?/\s?think\s?▷|<\|(?:end_of_(?:thought|think(?:ing)?|reasoning)|END_THINKING|/thinking|/think"
    r"|(?:think(?:ing)?|thought|reasoning)_end)\|>|<unused95>|\[unused17\]"
    r"|<channel\|>|<\|close\|>think(?:ing)?<\|sep\|>"
)
# "[think]" in lower case is an ordinary word in brackets.
_MARK = re.compile(rf"(?P<close>{_CLOSE})|(?P<open>{_OPEN})", re.IGNORECASE)
_BRACKETS = re.compile(r"\[/?THINK(?:ING)?\]|\[unused1[67]\]")
_SIGNS = ("<", "[THINK", "[/THINK", "[unused1", "◁", "&lt;", "\\u003c", "\\u003C", "\uff1c")
# Headings of models without marks.
_HEADED = re.compile(r"\s{0,20}(?:here (?:is|'s) my thought process|here are my reasoning steps)\s{0,5}:", re.IGNORECASE)
_ANSWER_HEAD = re.compile(r"here (?:is|'s) my response\s{0,5}:|\[BEGIN FINAL RESPONSE\]", re.IGNORECASE)
_ANSWER_END = re.compile(r"\[END FINAL RESPONSE\]", re.IGNORECASE)
# Tags around the actual answer after the thoughts.
_WRAPPED = (
    (re.compile(r"<\s?(?:answer|final_answer|response|solution|output)\s?>", re.IGNORECASE), re.compile(
        r"<\s?/\s?(?:answer|final_answer|response|solution|output)\s?>", re.IGNORECASE)),
    (re.compile(r"<\|begin_of_(?:solution|box)\|>"), re.compile(r"<\|end_of_(?:solution|box)\|>")),
    (re.compile(r"<\|START_(?:RESPONSE|TEXT)\|>"), re.compile(r"<\|END_(?:RESPONSE|TEXT)\|>")),
    (re.compile(r"\[BEGIN FINAL RESPONSE\]"), re.compile(r"\[END FINAL RESPONSE\]")),
    (re.compile(r"<\|open\|>response<\|sep\|>"), re.compile(r"<\|close\|>response<\|sep\|>")),
)  # fmt: skip
# gpt-oss: every message has a channel; the one for the user is "final".
_CHANNEL = re.compile(r"<\|channel\|>\s?(\w{1,20})[^<]{0,60}(?:<\|constrain\|>\s?\w{0,20})?\s?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# A tag at the start that is closed before the text, if its name contains a word for thoughts.
_FIRST_TAG = re.compile(r"\s{0,20}<([a-z][\w:.-]{0,60})(?:\s[^<>]{0,200})?>", re.IGNORECASE)
_OF_THOUGHT = re.compile(
    r"think|thought|reason|reflect|scratch_?pad|(?:^|[_:.-])cot(?:$|[_:.-])|planning|rationale|monologue", re.IGNORECASE
)
_QUOTES = "\"'`"


def without_thoughts(answer: str) -> str:
    """Return an answer's text after its thoughts; empty if they never end.

    Everything up to the last closing mark is removed, with or without its opening mark. If nothing
    follows a block, it is cut out, and the text before it is the answer. A mark in quotation marks, or
    an unclosed one in the middle of a sentence, is an ordinary word. Takes time in proportion to the
    answer's length.

    Args:
        answer: the model's words as they came; cut off after 400,000 characters.
    """
    text = answer[:_LONGEST]
    if "<|channel|>" in text:
        return _final_channel(text)
    if _HEADED.match(text):
        head = _last(_ANSWER_HEAD, text)
        return _unwrapped(_ANSWER_END.split(text[head.end() :], maxsplit=1)[0]) if head else ""
    if (rest := behind_headings(text)) != text:
        return without_thoughts(rest) if any(sign in rest for sign in _SIGNS) else rest
    if not any(sign in text for sign in _SIGNS):
        return answer
    if (rest := _behind_first_tag(text)) != text:
        text = answer = rest
    return _outside_blocks(answer, text)


def _behind_first_tag(text: str) -> str:
    """Return the text after a leading tag whose name means thoughts, if anything follows it."""
    tag = _FIRST_TAG.match(text)
    if tag is None or not _OF_THOUGHT.search(tag[1]) or _MARK.match(text.lstrip()):
        return text
    closing = f"</{tag[1].lower()}>"
    end = text.lower().rfind(closing, tag.end())
    rest = text[end + len(closing) :] if end >= 0 else ""
    return rest if rest.strip() else text


def _outside_blocks(answer: str, text: str) -> str:
    marks = _marks(text)
    if not marks:
        return _unwrapped(answer)
    closing = [end for is_open, _, end in marks if not is_open]
    tail, opened = text[closing[-1] if closing else 0 :], marks[-1][0]
    if opened:
        # The last thought never ended, so only the text before it counts.
        begun = next(start for is_open, start, end in marks if is_open and (not closing or start >= closing[-1]))
        tail = text[closing[-1] if closing else 0 : begun]
    if closing and not tail.strip():
        tail = _before_blocks(text, marks)
    elif closing and (head := ANSWER_HEAD.match(tail.lstrip())):
        tail = tail.lstrip()[head.end() :]
    return _unwrapped(tail)


def _before_blocks(text: str, marks: list[tuple[bool, int, int]]) -> str:
    """Return the text outside complete blocks; nothing before a block that lacks its opening mark."""
    kept, position, depth = [], 0, 0
    for is_open, start, end in marks:
        if is_open:
            if not depth:
                kept.append(text[position:start])
            depth += 1
        elif depth:
            depth -= 1
        else:
            kept.clear()
        position = end
    return "".join(kept)


def _marks(text: str) -> list[tuple[bool, int, int]]:
    """Return every mark that is not quoted: whether it is an opening mark, its start and its end."""
    found: list[tuple[bool, int, int]] = []
    since = 0
    for match in _MARK.finditer(text):
        start, end = match.span()
        if text[start] == "[" and not _BRACKETS.fullmatch(match[0]):
            continue
        if not _is_quoted(text, since, start, end):
            found.append((match.lastgroup == "open", start, end))
            since = end
        else:
            # Skip the closing quotation mark.
            since = end + 1
    last = max((start for is_open, start, _ in found if not is_open), default=-1)
    return [mark for mark in found if not mark[0] or mark[1] < last or not _is_word(text, mark[1], mark[2])]


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether a mark is in the middle of a sentence, with words before it on its line and a lower-case letter after it."""
    line = text[max(0, start - 80) : start].rpartition("\n")[2]
    return bool(line.strip()) and line[-1:] == " " and text[end : end + 1] == " " and text[end + 1 : end + 2].islower()


def _is_quoted(text: str, since: int, start: int, end: int) -> bool:
    """Whether a mark is alone in quotation marks that are not the end of one quotation and the start of another."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if not before or before != after or before not in _QUOTES:
        return False
    return before == "'" or text.count(before, since, start) % 2 == 1


def _unwrapped(text: str) -> str:
    """Remove the tags around the actual answer."""
    for opening, closing in _WRAPPED:
        begin = opening.match(text.lstrip())
        if begin:
            inner = text.lstrip()[begin.end() :]
            end = closing.search(inner)
            return inner[: end.start()] if end else inner
    return text


def _final_channel(text: str) -> str:
    final = None
    for match in _CHANNEL.finditer(text):
        if match[1] == "final":
            final = match
    if final is None:
        return ""
    end = _CHANNEL_END.search(text, final.end())
    return text[final.end() : end.start() if end else len(text)]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found
