"""Phrases of a passage that a question could ask for: noun phrases, names, numbers and dates.

Words are tagged with the lexicon of Brill's tagger (Brill 1992) as textblob bundles it; phrases are
regular expressions over the tags, one letter per word, as in Handler et al. 2016, *Bag of What?
Simple Noun Phrase Extraction for Text Analysis*. English only, needs no model and no download.

Every candidate is a slice of the passage: ``context[s.start:][:len(s.text)] == s.text``.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

from stepsynth.types import Span

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

__all__ = ["KIND_WEIGHTS", "MAX_CHARACTERS", "MAX_WORDS", "SpanCandidate", "SpanKind", "candidate_spans", "draw_spans"]

SpanKind = Literal["noun phrase", "named entity", "number", "date"]

MAX_WORDS = 10
MAX_CHARACTERS = 120

# Approximate shares of these kinds among SQuAD's answers, in per cent (Rajpurkar et al. 2016).
KIND_WEIGHTS: dict[SpanKind, float] = {"noun phrase": 31.8, "named entity": 32.6, "number": 10.9, "date": 8.9}


@dataclass(frozen=True, slots=True)
class SpanCandidate:
    """A piece of a context that a question could ask for.

    Attributes:
        span: the piece, without leading article or punctuation, `MAX_WORDS` words at most.
        kind: the first that fits of date, number, name and phrase.
    """

    span: Span
    kind: SpanKind


# --- words -----------------------------------------------------------------------------------------

# Words are split as in the Penn Treebank where the lexicon needs it (possessive 's is a word), and
# kept whole otherwise: 19.8, 12:30, 18th, 5-time, U.S., St., spin-off, AT&T, don't.
_LETTER = r"(?:[^\W_]|[\u0300-\u036f])"
_WORD = re.compile(
    rf"""
      \d+(?:[.,:/]\d+)*(?:(?!\d){_LETTER}+)?(?:-(?!\d){_LETTER}+)*
    | (?:[^\W\d_]\.){{2,}}
    | (?:Mrs?|Ms|Drs?|St|Jr|Sr|Prof|Gen|Col|Lt|Sgt|Capt|Rev|Hon|Gov|Sen|Rep|Mt|Ft|[A-Z])\.(?=[ ][A-Z])
    | ['\u2019]s\b
    | {_LETTER}+(?:(?:[-\u2010\u2011.&]|['\u2019](?!s\b)){_LETTER}+)*
    | \S
    """,
    re.VERBOSE,
)

# Bounds the work of one pattern search; real sentences are much shorter.
_LONGEST_SENTENCE = 200

_Word = tuple[str, int]


def _sentences(context: str) -> Iterator[list[_Word]]:
    """Yield the words of every sentence with their offsets."""
    sentence: list[_Word] = []
    end = 0
    for match in _WORD.finditer(context):
        gap = context[end : match.start()]
        if sentence and (len(sentence) == _LONGEST_SENTENCE or "\n" in gap or "\r" in gap):
            yield sentence
            sentence = []
        sentence.append((match.group(), match.start()))
        end = match.end()
        if match.group() in {".", "!", "?"}:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


# --- classes of words ------------------------------------------------------------------------------

_MONTH = re.compile(
    r"Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?"
)
_VERBS_TOO = frozenset({"May", "March", "Mar"})
_PLAIN: dict[str, str] = {
    **dict.fromkeys(("a", "an", "the"), "D"),
    **dict.fromkeys(("and", "or"), "&"),
    **dict.fromkeys(("century", "centuries", "decade", "decades"), "K"),
    **dict.fromkeys(("percent", "cent", "%"), "%"),
    **dict.fromkeys(("$", "\u00a3", "\u20ac", "\u00a5"), "$"),
    **dict.fromkeys(("-", "\u2013", "\u2014"), "-"),
    **dict.fromkeys(("'s", "\u2019s"), "S"),
    "of": "O",
    "per": "p",
    "&": "a",
    ",": ",",
}
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Y", re.compile(r"(?:1\d|20)\d\d")),
    ("E", re.compile(r"(?:1\d|20)?\d0s")),
    ("e", re.compile(r"AD|BC|CE|BCE|A\.D\.|B\.C\.|C\.E\.|B\.C\.E\.")),
    ("C", re.compile(r"\d.*", re.DOTALL)),
    ("W", re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day")),
    ("c", re.compile(r"(?i:one|two|three|five|ten|eleven|twelve|dozen|half|hundred|million|billion|trillion|thousand)")),
    ("c", re.compile(r"(?i:(?:four|six|seven|eight?|nine)(?:t?een|t?y)?|thirteen|fifteen|(?:twen|thir|for|fif)ty)")),
    ("x", re.compile(r"(?i:.*['\u2019](?:t|re|ve|ll|d|m|em))", re.DOTALL)),
)
_TAGS: tuple[tuple[str, str], ...] = (
    ("NNP", "P"),
    ("NN", "N"),
    ("JJ", "J"),
    ("VBN", "G"),
    ("VBG", "G"),
    ("RB", "R"),
    ("CD", "c"),
    ("VBP", "v"),
    ("DT", "D"),
    ("PDT", "D"),
    ("PRP$", "D"),
)
_NEVER_NAMES = frozenset({"PRP", "PRP$", "IN", "TO", "CC", "DT", "PDT", "WDT", "WP", "WP$", "WRB", "MD", "EX"})


def _letter(word: str, tag: str, inside: bool) -> str:
    """Return the class of a word.

    ``P`` proper noun, ``N`` noun, ``J`` adjective, ``G`` participle, ``v`` base form, ``R`` adverb,
    ``D`` determiner, ``C`` figure, ``c`` number word, ``Y`` year, ``E`` decade, ``e`` era, ``M`` month,
    ``W`` weekday, ``K`` century, ``S`` possessive, ``O`` of, ``&`` and, ``a`` ampersand, ``p`` per,
    ``%``, ``$``, ``,``, ``-``, and ``x`` for anything that ends a phrase.

    Args:
        word: the word.
        tag: its Penn Treebank tag.
        inside: whether the token before it in the sentence is a word, not punctuation.
    """
    lower = word.lower()
    if _MONTH.fullmatch(word) and (inside or word not in _VERBS_TOO):
        return "M"
    if lower in _PLAIN:
        return _PLAIN[lower]
    for letter, shape in _SHAPES:
        if shape.fullmatch(word):
            return letter
    if not word[0].isalnum():
        return "x"
    # In mid-sentence, any capitalised content word is a name ("Town Moor", "Rolling Stones").
    if inside and word[0].isupper() and tag not in _NEVER_NAMES:
        return "P"
    return next((letter for prefix, letter in _TAGS if tag.startswith(prefix)), "v" if tag == "VB" else "x")


@lru_cache(maxsize=1)
def _parser() -> Any:
    """Return textblob's tagger with its lexicon loaded."""
    from textblob.en import lexicon, parser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # textblob leaves the closing of its file to Python
        lexicon.load()
    return parser


def _letters(words: list[str]) -> str:
    """Return the classes of a sentence's words, one letter each.

    Of Brill's contextual rules, only the one for a base form after an article or adjective ("a match")
    is used: all of them together find fewer of SQuAD's answers and take six times as long.
    """
    tags = (tag for _, tag in _parser().find_tags(words))
    inside = [False] + [word[0].isalnum() for word in words[:-1]]
    return re.sub(r"(?<=[DJ])v", "N", "".join(map(_letter, words, tags, inside)))


# --- phrases ---------------------------------------------------------------------------------------

# All repetitions are bounded, which keeps the search linear in the length of the passage.
_MODIFIER = r"(?:J&(?=J)|R(?=[JG])|[JGNPCcYE])"
_PHRASE = rf"(?:{_MODIFIER}{{0,5}}[NPK]S){{0,2}}{_MODIFIER}{{0,7}}[NPK]"
_NAME = r"P(?:a?P){0,8}"
_NUMBER = r"\$?[Cc](?:-?[Cc]){0,4}(?:p?%)?"
_DATE = re.compile(r"(?:W,?)?(?:[Cc]O?M|MC?)(?:,?Y)?|Y(?:-[YC])?e?|Ce|eC|E|[JG]?[CcJ]?Ke?|W")
_PATTERNS: tuple[tuple[SpanKind, tuple[re.Pattern[str], ...]], ...] = (
    ("date", (_DATE, re.compile("Y"))),
    ("number", (re.compile(_NUMBER), re.compile(f"{_NUMBER}N"))),
    (
        "named entity",
        (
            re.compile(f"{_NAME}[CY]?"),
            re.compile(f"{_NAME}O(?:D?{_NAME}|Y)"),
            re.compile(f"(?<=O){_NAME}O(?:{_NAME}|Y)"),
            re.compile(f"(?<=OD){_NAME}O{_NAME}"),
        ),
    ),
    (
        "noun phrase",
        (
            re.compile(_PHRASE),
            re.compile(f"{_PHRASE}(?:OD?{_PHRASE}){{1,2}}"),
            re.compile(r"(?<=[CcYS])[JG]{0,3}[NP]{0,5}[NP]"),
            re.compile(r"[JGN]{0,3}[NP]&D?[JGN]{0,3}[NP]"),
        ),
    ),
)


def _found(context: str) -> Iterator[tuple[SpanKind, int, int]]:
    """Yield the kind, start and end of every match of the patterns."""
    for sentence in _sentences(context):
        letters = _letters([word for word, _ in sentence])
        undated = _DATE.sub(lambda match: "x" * len(match.group()), letters)  # the 5 of 5 May is not a number
        for kind, patterns in _PATTERNS:
            line = undated if kind == "number" else letters
            for match in chain.from_iterable(pattern.finditer(line) for pattern in patterns):
                last, start = sentence[match.end() - 1]
                yield kind, sentence[match.start()][1], start + len(last)


# --- candidates ------------------------------------------------------------------------------------

_ARTICLE = re.compile(r"(?:the|an|a)\s+", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,}\Z")


def _trim(context: str, start: int, end: int) -> tuple[int, int]:
    """Return the offsets without leading articles and surrounding punctuation; ``start >= end`` if nothing is left."""
    while start < end:
        article = _ARTICLE.match(context, start, end)
        if article:
            start = article.end()
        elif not (context[start].isalnum() or context[start] in "$£€¥"):
            start += 1
        else:
            break
    initials = _INITIALS.search(context[max(start, end - 12) : end])
    while start < end and not (initials or context[end - 1].isalnum() or context[end - 1] in "%°" or _combines(context[end - 1])):
        end -= 1
    return start, end


def _combines(character: str) -> bool:
    """Whether a character combines with the letter before it."""
    return "\u0300" <= character <= "\u036f"


def candidate_spans(context: str) -> list[SpanCandidate]:
    """Return the noun phrases, named entities, numbers and dates of a context, in the order of the text.

    Pieces may be nested ("University of Leeds", "Leeds"): people ask for both. Any text is accepted;
    the time is linear in its length.

    Args:
        context: the passage.
    """
    rank = {kind: position for position, kind in enumerate(("date", "number", "named entity", "noun phrase"))}
    kinds: dict[tuple[int, int], SpanKind] = {}
    for kind, first, last in _found(context):
        start, end = _trim(context, first, last)
        if start >= end or end - start > MAX_CHARACTERS or len(context[start:end].split()) > MAX_WORDS:
            continue
        known = kinds.get((start, end))
        if known is None or rank[kind] < rank[known]:
            kinds[start, end] = kind
    return [SpanCandidate(Span(context[start:end], start), kinds[start, end]) for start, end in sorted(kinds)]


def draw_spans(context: str, count: int, rng: random.Random) -> list[Span]:
    """Draw up to ``count`` different candidates, with kinds mixed as in SQuAD.

    The kind is drawn first, by `KIND_WEIGHTS` and not twice in a row if another is left, then a piece
    of that kind. Pieces that overlap earlier ones come last; no text is drawn twice.

    Args:
        context: the passage.
        count: the most spans to return; fewer come back from a passage that has fewer.
        rng: decides; the same state draws the same spans.
    """
    candidates = candidate_spans(context)
    rng.shuffle(candidates)
    distinct = {candidate.span.text.casefold(): candidate for candidate in candidates}
    free: dict[SpanKind, list[Span]] = {kind: [] for kind in get_args(SpanKind)}
    overlapping: dict[SpanKind, list[Span]] = {kind: [] for kind in get_args(SpanKind)}
    for candidate in distinct.values():
        free[candidate.kind].append(candidate.span)
    drawn: list[Span] = []
    covered = bytearray(len(context))
    last: SpanKind | None = None
    while len(drawn) < count:
        for kind, queue in free.items():
            while queue and any(covered[queue[-1].start : queue[-1].start + len(queue[-1].text)]):
                overlapping[kind].append(queue.pop())
        pool = free if any(free.values()) else overlapping
        kinds = [kind for kind, queue in pool.items() if queue]
        if not kinds:
            break
        last = rng.choices(*_weighted([kind for kind in kinds if kind != last] or kinds))[0]
        span = pool[last].pop()
        covered[span.start : span.start + len(span.text)] = b"\1" * len(span.text)
        drawn.append(span)
    return drawn


def _weighted(kinds: list[SpanKind]) -> tuple[list[SpanKind], list[float]]:
    """Return the kinds with their weights."""
    return kinds, [KIND_WEIGHTS[kind] for kind in kinds]
